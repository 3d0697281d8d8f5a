/*-------------------------------------------------------------------------
 *
 * database_rows.c
 *		Applies a page of a database's rows to staging, in one transaction.
 *
 * Rows go in as COPY's do, in groups with their index entries.  Where staging
 * was empty when the crawl began nothing is looked up; otherwise the key's
 * index tells whether a row is new, changed or, its hash being the same, left
 * alone.  The hash is of the row's bytes as they came.
 *
 * A page is tried as a whole.  If a row does not fit (a constraint of the
 * user's, a key that comes twice) the page is undone and done again
 * carefully: each row is looked up and written at once, and one that fails
 * is put aside.
 *
 * Meanwhile the source goes on: what it sends is taken in, without waiting,
 * for the page to come.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "core/core.h"
#include "executor/executor.h"
#include "executor/nodeModifyTable.h"
#include "ingest/database.h"
#include "ingest/staging_key.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define MOST_SLOTS 1000			/* as COPY */
#define MOST_BYTES 262144		/* of rows in the slots */
#define ROWS_BETWEEN_LOOKS 64	/* at what the source has sent */

/* The table that rows go to, while a page, or a part of it, is applied. */
typedef struct Target
{
	IngestRun  *run;
	DatabaseReader reader;
	Relation	relation;
	ResultRelInfo *info;
	EState	   *estate;
	EPQState	epq;
	TupleTableSlot *slots[MOST_SLOTS];
	int			slot_count;		/* made */
	int			filled;
	size_t		bytes;			/* of the rows in them */
	int			row_of[MOST_SLOTS];
	BulkInsertState bulk;
	bool		row_by_row;		/* triggers or generated columns */
	StagingKey	key;
	int			run_attribute;
	int			time_attribute;
	MemoryContext context;		/* of values */
} Target;

/* A part of a page, as core_try's steps see it. */
typedef struct Part
{
	IngestRun  *run;
	NetDatabasePage *page;
	NetDatabasePage *next;
	size_t		wanted;
	bool		careful;
	int			from;
	int			to;
	int			at;				/* the row that is being applied */
	int64		landed;
	Target	   *target;
	MemoryContext context;		/* of the target, after an error too */
} Part;

/* ---- opening ---- */

/*
 * Opens the table, in the current memory context, inside a subtransaction: if
 * that is aborted nothing of the target is to be closed.
 */
static Target *
open_target(IngestRun *run, Oid table, bool look_up)
{
	Target	   *target = palloc0(sizeof(Target));
	TupleConstr *constraints;

	target->run = run;
	target->estate = CreateExecutorState();
	target->estate->es_snapshot = GetActiveSnapshot();
	target->estate->es_output_cid = GetCurrentCommandId(true);
	EvalPlanQualInit(&target->epq, target->estate, NULL, NIL, -1
					 CORE_COMPAT_EPQ_RELATIONS);
	target->relation = table_open(table, RowExclusiveLock);
	target->info = makeNode(ResultRelInfo);
	InitResultRelInfo(target->info, target->relation, 0, NULL, 0);
	ExecOpenIndices(target->info, false);
	target->run_attribute = get_attnum(table, "_run_id");
	target->time_attribute = get_attnum(table, "_ingested_at");
	constraints = target->relation->rd_att->constr;
	target->row_by_row = target->info->ri_TrigDesc != NULL ||
		(constraints != NULL && constraints->has_generated_stored);
	target->context = run->row_context;
	MemoryContextReset(target->context);
	staging_key_init(&target->key, target->relation, run->stream);
	if (look_up && run->stream->key_count > 0)
		staging_key_open(&target->key, target->info, run->stream);
	if (target->info->ri_TrigDesc != NULL)
		AfterTriggerBeginQuery();
	return target;
}

static void flush(Target *target, int *at);

static void
close_target(Target *target, int *at)
{
	flush(target, at);
	if (target->info->ri_TrigDesc != NULL)
		AfterTriggerEndQuery(target->estate);
	staging_key_close(&target->key);
	if (target->bulk != NULL)
		FreeBulkInsertState(target->bulk);
	for (int i = 0; i < target->slot_count; i++)
		ExecDropSingleTupleTableSlot(target->slots[i]);
	ExecCloseIndices(target->info);
	table_close(target->relation, NoLock);
	EvalPlanQualEnd(&target->epq);
	FreeExecutorState(target->estate);
	MemoryContextReset(target->context);
}

/* ---- rows ---- */

/* Writes the rows that are gathered, and makes them visible. */
static void
flush(Target *target, int *at)
{
	if (target->filled > 0)
	{
		if (target->bulk == NULL)
			target->bulk = GetBulkInsertState();
		core_insert_slots(target->relation, target->slots, target->filled,
						  target->bulk, target->context);
		for (int i = 0; i < target->filled; i++)
		{
			*at = target->row_of[i];
			if (target->info->ri_NumIndices > 0)
				list_free(core_compat_insert_index_tuples(target->info,
														  target->slots[i],
														  target->estate));
			ExecClearTuple(target->slots[i]);
		}
		target->filled = 0;
		ResetPerTupleExprContext(target->estate);
		CommandCounterIncrement();
	}
	target->bytes = 0;
	MemoryContextReset(target->context);
}

/* The next free slot, emptied. */
static TupleTableSlot *
next_slot(Target *target)
{
	TupleTableSlot *slot;

	if (target->filled == target->slot_count)
		target->slots[target->slot_count++] =
			table_slot_create(target->relation, NULL);
	slot = target->slots[target->filled];
	ExecClearTuple(slot);
	memset(slot->tts_isnull, true,
		   sizeof(bool) * slot->tts_tupleDescriptor->natts);
	return slot;
}

static void
set_value(TupleTableSlot *slot, int attribute, Datum value)
{
	if (attribute == InvalidAttrNumber)
		return;
	slot->tts_values[attribute - 1] = value;
	slot->tts_isnull[attribute - 1] = false;
}

/* The row of staging; ERROR where it cannot be typed. */
static TupleTableSlot *
make_row(Target *target, char *row, size_t length, uint64 hash)
{
	TupleTableSlot *slot = next_slot(target);
	MemoryContext caller = MemoryContextSwitchTo(target->context);

	database_read_row(&target->reader, row, length, slot->tts_values,
					  slot->tts_isnull);
	MemoryContextSwitchTo(caller);
	set_value(slot, target->run_attribute,
			  Int64GetDatum(target->run->run_id));
	set_value(slot, target->time_attribute,
			  TimestampTzGetDatum(GetCurrentTransactionStartTimestamp()));
	set_value(slot, target->key.hash_attribute, Int64GetDatum((int64) hash));
	ExecStoreVirtualTuple(slot);
	slot->tts_tableOid = RelationGetRelid(target->relation);
	return slot;
}

static void
insert_row(Target *target, TupleTableSlot *row, size_t length, int number)
{
	if (target->row_by_row)
	{
		ExecSimpleRelationInsert(target->info, target->estate, row);
		ExecClearTuple(row);
		CommandCounterIncrement();
		return;
	}
	if (target->relation->rd_att->constr != NULL)
		ExecConstraints(target->info, row, target->estate);
	target->row_of[target->filled++] = number;
	target->bytes += length;
}

static void
update_row(Target *target, TupleTableSlot *row)
{
	CommandCounterIncrement();
	target->estate->es_output_cid = GetCurrentCommandId(true);
	ExecSimpleRelationUpdate(target->info, target->estate, &target->epq,
							 target->key.found, row);
	ExecClearTuple(row);
}

/* One row into the table; true where it was new or changed. */
static bool
put_row(Target *target, char *row, size_t length, int number)
{
	uint64		hash = hash_bytes_extended((unsigned char *) row, length, 0);
	TupleTableSlot *slot = make_row(target, row, length, hash);

	if (target->key.index == NULL || !staging_key_find(&target->key, slot))
		insert_row(target, slot, length, number);
	else if (staging_key_is_unchanged(&target->key, hash))
	{
		ExecClearTuple(slot);
		return false;
	}
	else
		update_row(target, slot);
	return true;
}

/* ---- a part of a page ---- */

/* Step of core_try: applies the rows from..to. */
static void
apply_part(void *arg)
{
	Part	   *part = arg;
	IngestRun  *run = part->run;
	NetDatabasePage *page = part->page;
	Oid			table = core_own_table(CORE_LAYER_STAGING, run->stream->table);
	Target	   *target;

	part->landed = 0;
	/* a statement leaves behind SPI's memory, which lasts as long as the call */
	MemoryContextSwitchTo(part->context);
	target = open_target(run, table, part->careful || !run->database->fresh);
	part->target = target;
	database_open_reader(&target->reader, run->database->columns,
						 run->database->column_count);
	for (part->at = part->from; part->at < part->to; part->at++)
	{
		int			number = part->at;
		size_t		start = page->starts[number];

		if (number % ROWS_BETWEEN_LOOKS == 0)
		{
			CHECK_FOR_INTERRUPTS();
			if (part->next != NULL)
				net_database_read_ahead(run->database->connection,
										part->next, part->wanted);
		}
		part->landed += put_row(target, page->data + start,
								page->starts[number + 1] - start, number);
		if (part->careful || target->filled == MOST_SLOTS ||
			target->bytes > MOST_BYTES)
			flush(target, &part->at);
		part->at = number;
	}
	close_target(target, &part->at);
}

/*
 * Applies a part in a subtransaction.  Returns -1, or which row failed, with
 * the reason; errors that no row is to blame for go on.
 */
static int
try_part(Part *part, char **reason)
{
	ErrorData  *error;

	part->target = NULL;
	part->context = AllocSetContextCreate(part->run->page_context,
										  "visage part",
										  ALLOCSET_DEFAULT_SIZES);
	error = core_try(apply_part, part);
	if (error != NULL && part->target != NULL)
		database_take_back(&part->target->reader);
	MemoryContextDelete(part->context);
	if (error == NULL)
	{
		part->run->counts.landed += part->landed;
		return -1;
	}
	if (ERRCODE_TO_CATEGORY(error->sqlerrcode) != ERRCODE_DATA_EXCEPTION &&
		ERRCODE_TO_CATEGORY(error->sqlerrcode) !=
		ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION)
		ReThrowError(error);
	*reason = error->message;
	return Min(part->at, part->to - 1);
}

/* ---- rows put aside ---- */

/* What a row put aside is described from, and into. */
typedef struct Description
{
	IngestRun  *run;
	char	   *row;
	size_t		length;
	StringInfoData json;
	char	   *key;
} Description;

/* Appends a value as JSON: JSON as it is, else the text of the type. */
static void
append_value(StringInfo json, Oid type, Datum value)
{
	Oid			function;
	bool		varlena;
	char	   *text;

	getTypeOutputInfo(type, &function, &varlena);
	text = OidOutputFunctionCall(function, value);
	if (type == JSONOID || type == JSONBOID)
		appendStringInfoString(json, text);
	else
		escape_json(json, text);
}

/* Step of core_try: the row as the JSON that visage_replay_quarantine takes. */
static void
describe_row(void *arg)
{
	Description *description = arg;
	DatabaseCrawl *crawl = description->run->database;
	DatabaseReader reader;
	Datum	   *values = palloc(sizeof(Datum) * MaxHeapAttributeNumber);
	bool	   *nulls = palloc(sizeof(bool) * MaxHeapAttributeNumber);
	StringInfo	json = &description->json;

	memset(nulls, true, MaxHeapAttributeNumber);
	database_open_reader(&reader, crawl->columns, crawl->column_count);
	database_read_row(&reader, description->row, description->length, values,
					  nulls);
	appendStringInfoChar(json, '{');
	for (int i = 0; i < crawl->column_count; i++)
	{
		const DatabaseColumn *column = &crawl->columns[i];

		if (column->attnum == 0 || nulls[column->attnum - 1])
			continue;
		if (json->len > 1)
			appendStringInfoString(json, ", ");
		escape_json(json, column->name);
		appendStringInfoString(json, ": ");
		append_value(json, column->attribute_type,
					 values[column->attnum - 1]);
	}
	appendStringInfoChar(json, '}');
}

/* Puts a row aside, as JSON, or as its bytes where it cannot be read. */
static void
put_aside(IngestRun *run, NetDatabasePage *page, int number,
		  const char *reason)
{
	size_t		length = page->starts[number + 1] - page->starts[number];
	char	   *copy = palloc(length + 1);
	Description description = {.run = run,.row = copy,.length = length};
	IngestRecord record = {0};

	memcpy(copy, page->data + page->starts[number], length);
	initStringInfo(&description.json);
	record.slice.start = copy;
	record.slice.length = length;
	if (core_try(describe_row, &description) == NULL)
	{
		record.slice.start = description.json.data;
		record.slice.length = description.json.len;
	}
	else
		memcpy(copy, page->data + page->starts[number], length);
	ingest_quarantine(run, &record, reason);
}

/* Applies rows one by one, putting aside those that cannot be. */
static void
apply_carefully(Part *part, int from, int to)
{
	char	   *reason = NULL;

	while (from < to)
	{
		int			failed;

		CHECK_FOR_INTERRUPTS();
		part->from = from;
		part->to = to;
		failed = try_part(part, &reason);
		if (failed < 0)
			return;
		if (failed > from)
			apply_carefully(part, from, failed);
		put_aside(part->run, part->page, failed, reason);
		from = failed + 1;
	}
}

/* Takes the rows out that have a value where the contract allows none. */
static void
put_refused_aside(IngestRun *run, NetDatabasePage *page)
{
	DatabaseCrawl *crawl = run->database;
	DatabaseReader reader;
	bool		any = false;
	int			kept = 0;
	size_t		length = 0;

	for (int i = 0; i < crawl->column_count; i++)
		any |= crawl->columns[i].refused;
	if (!any)
		return;
	database_open_reader(&reader, crawl->columns, crawl->column_count);
	for (int i = 0; i < page->count; i++)
	{
		size_t		start = page->starts[i];
		size_t		size = page->starts[i + 1] - start;
		const char *refused = database_refused_column(&reader,
													  page->data + start,
													  size);

		if (refused != NULL)
		{
			put_aside(run, page, i,
					  psprintf("field \"%s\" is not in the schema contract",
							   refused));
			continue;
		}
		memmove(page->data + length, page->data + start, size);
		page->starts[kept++] = length;
		length += size;
	}
	page->starts[kept] = length;
	page->count = kept;
	page->length = length;
}

/*
 * Applies a page as the extension's owner, in the caller's transaction, and
 * takes in meanwhile what the source sends for the next one, if there is one.
 */
void
database_apply_page(IngestRun *run, NetDatabasePage *page,
					NetDatabasePage *next, size_t wanted)
{
	Part		part = {.run = run,.page = page,.next = next,
	.wanted = wanted};
	char	   *reason = NULL;

	run->counts.records += page->count;
	if (page->count == 0)
		return;
	put_refused_aside(run, page);
	part.to = page->count;
	if (try_part(&part, &reason) < 0)
		return;
	part.careful = true;
	apply_carefully(&part, 0, page->count);
}

/*-------------------------------------------------------------------------
 *
 * store.c
 *		Rows into landing and staging, without a detour through SQL.
 *
 * A record's members become the row's values, its jsonb a row of landing.
 * For each record the key's index tells whether staging has it: a new row is
 * inserted, a changed one updated, an unchanged one (its hash is the same)
 * left alone and not landed again.  Where the caller trusts that all keys are
 * new, that is left to the insertion, which fails if they are not.  Inserts
 * go in groups, as COPY's do.
 * Constraints, indexes and row triggers that a user put on staging hold; so
 * a store behaves like the INSERT and UPDATE that it replaces.
 *
 * ingest_store runs in a subtransaction of its caller and leaves nothing
 * open in it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "commands/sequence.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "core/core.h"
#include "executor/executor.h"
#include "executor/nodeModifyTable.h"
#include "ingest/staging_key.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#define MOST_SLOTS 1000
#define MOST_BYTES (256 * 1024) /* of records that are in the slots */
#define MOST_VALUES 65536		/* in the slots together */

/* The attributes of a row of landing. */
enum
{
	LANDING_ID, LANDING_RUN, LANDING_TIME, LANDING_KEY, LANDING_RECORD,
	LANDING_ATTRIBUTES
};

/* A table that rows go into, in groups. */
typedef struct Target
{
	Relation	relation;
	ResultRelInfo *info;
	TupleDesc	descriptor;
	TupleTableSlot **slots;		/* made when they are needed */
	int			filled;
	MemoryContext context;		/* of the slots */
	BulkInsertState bulk;
	int		   *record_of;		/* slot → record, for errors */
} Target;

struct IngestStore
{
	IngestRun  *run;
	EState	   *estate;
	EPQState	epq;
	Target		staging;
	Target		landing;
	Oid			sequence;
	int			landing_attributes[LANDING_ATTRIBUTES];
	int			capacity;
	bool		row_by_row;		/* triggers or generated columns */
	StagingKey	key;			/* without an index where there is none */
	IngestInput **inputs;		/* by column of the run */
	int		   *column_of;		/* field → column, -1: none */
	int			run_attribute;
	int			time_attribute;
	int			window_attribute;	/* 0 where there is none */
	int			deleted_attribute;	/* 0 where there is none */
	int			cursor_column;	/* of the run's columns, -1: none */
	bool		deletes;		/* records may take their rows away */
	bool		lenient;		/* values that do not fit are left out */
	size_t		gathered;		/* bytes of the records in the slots */
	IngestEncoder encoder;
	IngestRoom	room;
	MemoryContext row_context;
};

/* ---- opening ---- */

static void
open_target(IngestStore *store, Target *target, Oid table)
{
	target->relation = table_open(table, RowExclusiveLock);
	target->info = makeNode(ResultRelInfo);
	InitResultRelInfo(target->info, target->relation, 0, NULL, 0);
	ExecOpenIndices(target->info, false);
}

static void
make_slots(Target *target, int count)
{
	target->slots = palloc0(sizeof(TupleTableSlot *) * count);
	target->record_of = palloc(sizeof(int) * count);
	/* a descriptor of one's own: slots do not have to count on it */
	target->descriptor =
		CreateTupleDescCopyConstr(RelationGetDescr(target->relation));
	target->context = CurrentMemoryContext;
}

/* The attribute of a bookkeeping column, 0 where there is none. */
static int
attribute(Relation relation, const char *name)
{
	int			number = get_attnum(RelationGetRelid(relation), name);

	return number == InvalidAttrNumber ? 0 : number;
}

/* Which column each field goes to. */
static void
map_fields(IngestStore *store)
{
	IngestRun  *run = store->run;
	bool		text_only = ingest_is_text_only(run->stream);

	store->column_of = palloc(sizeof(int) * Max(run->field_count, 1));
	store->inputs = palloc(sizeof(IngestInput *) * Max(run->column_count, 1));
	for (int i = 0; i < run->field_count; i++)
		store->column_of[i] = -1;
	for (int i = 0; i < run->column_count; i++)
	{
		store->inputs[i] = ingest_open_input(run->columns[i].type,
											 run->columns[i].typmod,
											 text_only);
		if (run->columns[i].field >= 0 &&
			!run->fields[run->columns[i].field].discarded)
			store->column_of[run->columns[i].field] = i;
	}
}

static void
map_landing(IngestStore *store)
{
	static const char *const names[] = {
		"_id", "_run_id", "_ingested_at", "_source_key", "record"
	};

	for (int i = 0; i < LANDING_ATTRIBUTES; i++)
		store->landing_attributes[i] = attribute(store->landing.relation,
												 names[i]) - 1;
}

/* Must rows go in one at a time? */
static bool
must_go_row_by_row(const Target *target)
{
	TupleConstr *constraints = target->relation->rd_att->constr;

	return target->info->ri_TrigDesc != NULL ||
		(constraints != NULL && constraints->has_generated_stored);
}

/* The column of the cursor's field, -1: none. */
static int
cursor_column(const IngestRun *run)
{
	const char *field = run->stream->cursor.field;
	char	   *column = field ?
	ingest_column(run->stream->endpoint, field) : NULL;

	for (int i = 0; column != NULL && i < run->column_count; i++)
		if (strcmp(run->columns[i].name, column) == 0)
			return i;
	return -1;
}

/*
 * Opens the stream's tables, inside work, for so many records; they exist.
 */
IngestStore *
ingest_open_store(IngestRun *run, int records)
{
	IngestStore *store = palloc0(sizeof(IngestStore));
	Oid			staging = core_own_table(CORE_LAYER_STAGING,
										 run->stream->table);
	int			attributes;

	store->run = run;
	store->deletes = strcmp(run->stream->hard_deletes, "ignore") != 0 &&
		(run->stream->main != NULL ||
		 strcmp(run->stream->disposition, "merge") == 0);
	store->lenient = strcmp(run->stream->contract, "discard_value") == 0;
	store->estate = CreateExecutorState();
	store->estate->es_snapshot = GetActiveSnapshot();
	EvalPlanQualInit(&store->epq, store->estate, NULL, NIL, -1
					 CORE_COMPAT_EPQ_RELATIONS);
	open_target(store, &store->staging, staging);
	open_target(store, &store->landing, ingest_landing_partition(run));
	if (!OidIsValid(run->sequence))
		run->sequence = ingest_landing_sequence(run);
	store->sequence = run->sequence;
	store->run_attribute = attribute(store->staging.relation, "_run_id");
	store->time_attribute = attribute(store->staging.relation,
									  "_ingested_at");
	store->window_attribute = attribute(store->staging.relation, "_window");
	store->deleted_attribute = attribute(store->staging.relation, "_deleted");
	store->cursor_column = cursor_column(run);
	map_landing(store);
	map_fields(store);
	attributes = RelationGetDescr(store->staging.relation)->natts;
	store->capacity = Max(16, Min(MOST_SLOTS, MOST_VALUES / attributes));
	store->capacity = Min(store->capacity, Max(records, 1));
	make_slots(&store->staging, store->capacity);
	make_slots(&store->landing, store->capacity);
	store->row_by_row = must_go_row_by_row(&store->staging);
	staging_key_init(&store->key, store->staging.relation, run->stream);
	if (run->stream->key_count > 0)
		staging_key_open(&store->key, store->staging.info, run->stream);
	ingest_open_encoder(&store->encoder, run);
	store->row_context = store->room.context = run->row_context;
	return store;
}

/* How many records ingest_store takes at once. */
int
ingest_store_capacity(const IngestStore *store)
{
	return store->capacity;
}

static void
close_target(IngestStore *store, Target *target)
{
	for (int i = 0; i < store->capacity && target->slots[i] != NULL; i++)
		ExecDropSingleTupleTableSlot(target->slots[i]);
	FreeTupleDesc(target->descriptor);
	ExecCloseIndices(target->info);
	table_close(target->relation, NoLock);
}

/* Closes the tables; their locks stay until the commit. */
void
ingest_close_store(IngestStore *store)
{
	staging_key_close(&store->key);
	close_target(store, &store->staging);
	close_target(store, &store->landing);
	EvalPlanQualEnd(&store->epq);
	FreeExecutorState(store->estate);
	MemoryContextReset(store->row_context);
}

/* ---- groups of rows ---- */

/* Writes the rows that are gathered. */
static void
flush(IngestStore *store, Target *target, int *at)
{
	EState	   *estate = store->estate;

	if (target->filled == 0)
		return;
	if (target->bulk == NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(estate->es_query_cxt);

		target->bulk = GetBulkInsertState();
		MemoryContextSwitchTo(caller);
	}
	core_insert_slots(target->relation, target->slots, target->filled,
					  target->bulk, GetPerTupleMemoryContext(estate));
	for (int i = 0; i < target->filled; i++)
	{
		*at = target->record_of[i];
		if (target->info->ri_NumIndices > 0)
			list_free(core_compat_insert_index_tuples(target->info,
													  target->slots[i],
													  estate));
		ExecClearTuple(target->slots[i]);
	}
	target->filled = 0;
	ResetPerTupleExprContext(estate);
}

/* Forgets the values of the rows that were gathered. */
static void
forget_rows(IngestStore *store)
{
	MemoryContextReset(store->row_context);
	store->room.next = store->room.end = NULL;
	store->gathered = 0;
}

/* Writes both tables' rows, and makes them visible to what follows. */
static void
flush_all(IngestStore *store, int *at)
{
	flush(store, &store->staging, at);
	flush(store, &store->landing, at);
	CommandCounterIncrement();
	forget_rows(store);
}

/* A slot for rows of the table. */
static TupleTableSlot *
make_slot(const Target *target)
{
	MemoryContext caller = MemoryContextSwitchTo(target->context);
	TupleTableSlot *slot =
	MakeSingleTupleTableSlot(target->descriptor,
							 table_slot_callbacks(target->relation));

	MemoryContextSwitchTo(caller);
	return slot;
}

/* The next free slot, emptied. */
static TupleTableSlot *
next_slot(Target *target)
{
	TupleTableSlot *slot = target->slots[target->filled];

	if (slot == NULL)
		target->slots[target->filled] = slot = make_slot(target);
	ExecClearTuple(slot);
	memset(slot->tts_isnull, true,
		   sizeof(bool) * slot->tts_tupleDescriptor->natts);
	return slot;
}

static void
set_value(TupleTableSlot *slot, int attribute, Datum value)
{
	slot->tts_values[attribute] = value;
	slot->tts_isnull[attribute] = false;
}

/* ---- a record ---- */

/* A member's value, not null, for its column. */
static Datum
column_value(IngestStore *store, int column, const IngestMember *member)
{
	Datum		value;

	if (store->run->columns[column].type == JSONBOID &&
		member->kind == SCAN_CONTAINER &&
		ingest_encoded_container(&store->encoder, member, &store->room,
								 &value))
		return value;
	return ingest_input(store->inputs[column], member, &store->room);
}

/* The row of staging that the record is; ERROR where it cannot be typed. */
static TupleTableSlot *
make_row(IngestStore *store, const IngestBatch *batch,
		 const IngestRecord *record, uint64 hash)
{
	const IngestRun *run = store->run;
	TupleTableSlot *slot = next_slot(&store->staging);
	const IngestMember *member = &batch->members[record->first_member];

	for (int i = 0; i < record->member_count; i++, member++)
	{
		int			column = store->column_of[member->field];
		const IngestColumn *target;

		if (column < 0)
			continue;
		target = &run->columns[column];
		if (member->kind == SCAN_NULL ||
			(store->lenient && !ingest_fits(target, member->kind)))
			slot->tts_isnull[target->attnum - 1] = true;
		else
			set_value(slot, target->attnum - 1,
					  column_value(store, column, member));
	}
	set_value(slot, store->run_attribute - 1, Int64GetDatum(run->run_id));
	set_value(slot, store->time_attribute - 1,
			  TimestampTzGetDatum(GetCurrentTransactionStartTimestamp()));
	set_value(slot, store->key.hash_attribute - 1, Int64GetDatum((int64) hash));
	if (store->window_attribute > 0 && run->position.window_to != 0)
		set_value(slot, store->window_attribute - 1,
				  TimestampTzGetDatum(run->position.window_from));
	ExecStoreVirtualTuple(slot);
	slot->tts_tableOid = RelationGetRelid(store->staging.relation);
	return slot;
}

static void
insert_row(IngestStore *store, TupleTableSlot *row, int record)
{
	if (store->row_by_row)
	{
		ExecSimpleRelationInsert(store->staging.info, store->estate, row);
		ExecClearTuple(row);
		CommandCounterIncrement();
		return;
	}
	if (store->staging.relation->rd_att->constr != NULL)
		ExecConstraints(store->staging.info, row, store->estate);
	store->staging.record_of[store->staging.filled++] = record;
}

static void
update_row(IngestStore *store, TupleTableSlot *row)
{
	CommandCounterIncrement();
	store->estate->es_output_cid = GetCurrentCommandId(true);
	ExecSimpleRelationUpdate(store->staging.info, store->estate, &store->epq,
							 store->key.found, row);
	ExecClearTuple(row);
}

static void
delete_row(IngestStore *store)
{
	CommandCounterIncrement();
	store->estate->es_output_cid = GetCurrentCommandId(true);
	ExecSimpleRelationDelete(store->staging.info, store->estate, &store->epq,
							 store->key.found);
}

/* The record as it came. */
static void
land(IngestStore *store, const IngestRecord *record, const Jsonb *jsonb,
	 int number)
{
	char	   *copy = ingest_take_room(&store->room, VARSIZE(jsonb));
	TupleTableSlot *slot = next_slot(&store->landing);
	const int  *attributes = store->landing_attributes;

	set_value(slot, attributes[LANDING_ID],
			  Int64GetDatum(nextval_internal(store->sequence, false)));
	set_value(slot, attributes[LANDING_RUN],
			  Int64GetDatum(store->run->run_id));
	set_value(slot, attributes[LANDING_TIME],
			  TimestampTzGetDatum(GetCurrentTransactionStartTimestamp()));
	if (record->key != NULL)
		set_value(slot, attributes[LANDING_KEY],
				  CStringGetTextDatum(record->key));
	memcpy(copy, jsonb, VARSIZE(jsonb));
	set_value(slot, attributes[LANDING_RECORD], PointerGetDatum(copy));
	ExecStoreVirtualTuple(slot);
	store->landing.record_of[store->landing.filled++] = number;
}

/* Does this record take its row away, or mark it as deleted? */
static bool
takes_away(const IngestStore *store, const IngestRecord *record)
{
	return record->deleted && store->deletes;
}

/* Is its key to be looked up? */
static bool
looks_up(const IngestStore *store, const IngestRecord *record,
		 const IngestStored *stored)
{
	return store->key.index != NULL &&
		(!stored->trusting || record->again || takes_away(store, record));
}

/*
 * When the record was deleted, as a value of the cursor's column; false where
 * it does not say.
 */
static bool
deletion_time(IngestStore *store, const IngestRecord *record, Datum *time)
{
	const char *path = store->run->stream->deleted_at;
	IngestMember member = {.escaped = true};
	ScanKind	kind;

	if (path == NULL || store->cursor_column < 0 ||
		!scan_path(record->slice, path, &member.value, &kind) ||
		kind == SCAN_NULL)
		return false;
	member.kind = kind;
	*time = ingest_input(store->inputs[store->cursor_column], &member,
						 &store->room);
	return true;
}

/* Is the row that was found of a change after that time? */
static bool
is_later(IngestStore *store, Datum time)
{
	const IngestColumn *column = &store->run->columns[store->cursor_column];
	TypeCacheEntry *type = lookup_type_cache(column->type,
											 TYPECACHE_CMP_PROC_FINFO);
	bool		isnull;
	Datum		found = slot_getattr(store->key.found, column->attnum, &isnull);

	return !isnull && OidIsValid(type->cmp_proc_finfo.fn_oid) &&
		DatumGetInt32(FunctionCall2Coll(&type->cmp_proc_finfo,
										C_COLLATION_OID, found, time)) > 0;
}

/* The row that was found, marked as deleted, for the history to read. */
static void
mark_row(IngestStore *store, TupleTableSlot *row, uint64 hash,
		 const Datum *time)
{
	int			natts = row->tts_tupleDescriptor->natts;

	ExecClearTuple(row);
	slot_getallattrs(store->key.found);
	for (int i = 0; i < natts; i++)
	{
		row->tts_isnull[i] = store->key.found->tts_isnull[i];
		if (!row->tts_isnull[i])
			row->tts_values[i] =
				datumCopy(store->key.found->tts_values[i],
						  TupleDescAttr(row->tts_tupleDescriptor,
										i)->attbyval,
						  TupleDescAttr(row->tts_tupleDescriptor, i)->attlen);
	}
	set_value(row, store->run_attribute - 1,
			  Int64GetDatum(store->run->run_id));
	set_value(row, store->time_attribute - 1,
			  TimestampTzGetDatum(GetCurrentTransactionStartTimestamp()));
	set_value(row, store->key.hash_attribute - 1, Int64GetDatum((int64) hash));
	set_value(row, store->deleted_attribute - 1, BoolGetDatum(true));
	if (time != NULL)
		set_value(row, store->run->columns[store->cursor_column].attnum - 1,
				  *time);
	ExecStoreVirtualTuple(row);
	row->tts_tableOid = RelationGetRelid(store->staging.relation);
	update_row(store, row);
}

/* Obeys a record that says its key is deleted; false: nothing to do. */
static bool
take_away(IngestStore *store, const IngestRecord *record,
		  TupleTableSlot *row, bool found, uint64 hash)
{
	bool		marked = strcmp(store->run->stream->disposition, "merge") != 0;
	Datum		time;
	bool		timed;

	ExecClearTuple(row);
	if (!found || (marked && staging_key_is_unchanged(&store->key, hash)))
		return false;
	timed = deletion_time(store, record, &time);
	if (timed && is_later(store, time))
		return false;
	if (marked)
		mark_row(store, row, hash, timed ? &time : NULL);
	else
		delete_row(store);
	return true;
}

/* One record into both tables, where it is new or changed. */
static void
store_record(IngestStore *store, const IngestBatch *batch,
			 const IngestRecord *record, int number, IngestStored *stored,
			 int *at)
{
	Jsonb	   *jsonb;
	uint64		hash;
	TupleTableSlot *row;
	bool		found;

	if (record->again)
		flush_all(store, at);
	*at = number;
	jsonb = ingest_encode_record(&store->encoder, record,
								 &batch->members[record->first_member]);
	hash = hash_bytes_extended((unsigned char *) VARDATA(jsonb),
							   VARSIZE(jsonb) - VARHDRSZ, 0);
	row = make_row(store, batch, record, hash);
	found = looks_up(store, record, stored) && staging_key_find(&store->key, row);
	stored->found += found;
	if (takes_away(store, record))
	{
		if (!take_away(store, record, row, found, hash))
			return;
		stored->deleted++;
	}
	else if (!found)
		insert_row(store, row, number);
	else if (staging_key_is_unchanged(&store->key, hash))
	{
		ExecClearTuple(row);
		return;
	}
	else
		update_row(store, row);
	land(store, record, jsonb, number);
	stored->landed++;
	store->gathered += record->slice.length;
	if (store->gathered > MOST_BYTES)
		flush_all(store, at);
}

/* Ends what must not outlive the subtransaction. */
static void
end_group(IngestStore *store)
{
	Target	   *targets[2] = {&store->staging, &store->landing};

	staging_key_end_scan(&store->key);
	for (int i = 0; i < 2; i++)
	{
		if (targets[i]->bulk != NULL)
			FreeBulkInsertState(targets[i]->bulk);
		targets[i]->bulk = NULL;
	}
}

/*
 * After the abort of the subtransaction of a call that failed.  It has taken
 * the buffer pin of the row found along, so the slot must not give it back.
 */
void
ingest_store_failed(IngestStore *store)
{
	Target	   *targets[2] = {&store->staging, &store->landing};

	store->key.scan = NULL;
	if (TTS_IS_BUFFERTUPLE(store->key.found))
		((BufferHeapTupleTableSlot *) store->key.found)->buffer = InvalidBuffer;
	ExecClearTuple(store->key.found);
	for (int i = 0; i < 2; i++)
	{
		targets[i]->bulk = NULL;
		targets[i]->filled = 0;
	}
}

/* Is there no row in staging, as far as its size tells? */
bool
ingest_store_is_empty(const IngestStore *store)
{
	return RelationGetNumberOfBlocks(store->staging.relation) == 0;
}

/* May keys be left to the insertion to check?  Triggers must not see it. */
bool
ingest_store_may_trust(const IngestStore *store)
{
	return store->key.index != NULL && !store->row_by_row;
}

/*
 * Stores up to capacity records.  *at is always the record being stored, so
 * that after an ERROR the caller knows which one it was.
 */
void
ingest_store(IngestStore *store, const IngestBatch *batch,
			 IngestRecord **records, int count, IngestStored *stored, int *at)
{
	MemoryContext caller = MemoryContextSwitchTo(store->row_context);
	bool		triggers = store->staging.info->ri_TrigDesc != NULL;

	forget_rows(store);
	store->estate->es_output_cid = GetCurrentCommandId(true);
	if (triggers)
		AfterTriggerBeginQuery();
	for (int i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		store_record(store, batch, records[i], i, stored, at);
	}
	flush_all(store, at);
	if (triggers)
		AfterTriggerEndQuery(store->estate);
	end_group(store);
	MemoryContextSwitchTo(caller);
}

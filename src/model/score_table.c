/*-------------------------------------------------------------------------
 *
 * score_table.c
 *		CALL visage_score_table(...): the rows of a query, scored into a table.
 *
 * The executor hands each row of the query to a receiver, which lays the
 * features out for the block kernel and copies only the key.  Scored rows
 * are written many at a time.  The query runs as the caller, and all is one
 * transaction: the run is seen when it is whole.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>
#include <math.h>

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "model/model.h"
#include "tcop/dest.h"
#include "tcop/pquery.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/rls.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

PG_FUNCTION_INFO_V1(visage_score_table);

/* Rows that are written at a time. */
#define BUFFERED (16 * MODEL_BLOCK)

/* Columns behind the key's. */
typedef enum ScoreColumn
{
	COLUMN_SCORE,
	COLUMN_CLASS,
	COLUMN_REASONS,
	COLUMN_MODEL,
	COLUMN_VERSION,
	COLUMN_SCORED_AT,
	COLUMN_RUN_ID,
	SCORE_COLUMNS
}			ScoreColumn;

static const struct
{
	const char *name;
	Oid			type;
}			score_columns[SCORE_COLUMNS] = {
	{"score", FLOAT8OID},
	{"class", TEXTOID},
	{"reasons", JSONBOID},
	{"model", TEXTOID},
	{"version", INT4OID},
	{"scored_at", TIMESTAMPTZOID},
	{"run_id", INT8OID}
};

/* Where rows go; begins with what the executor knows of it. */
typedef struct ScoreSink
{
	DestReceiver receiver;
	ModelBinding *binding;
	int			attributes;		/* of a row, up to the last one needed */
	int			key_count;
	int		   *key;			/* attributes, from 0 */
	double	   *block;			/* workspace of MODEL_BLOCK rows */
	int			block_rows;
	int			reasons;
	MemoryContext memory;		/* of the rows that are buffered */
	Relation	relation;
	TupleTableSlot *slots[BUFFERED];
	int			buffered;		/* rows, those of the block included */
	BulkInsertState bulk;
	ResourceOwner owner;		/* of the buffer that it keeps pinned */
	Datum		constants[SCORE_COLUMNS];	/* columns that are the same in
											 * all rows */
	int64		rows;
} ScoreSink;

/* ---- rows ---- */

/* Writes the rows that are buffered. */
static void
flush(ScoreSink *sink)
{
	ResourceOwner caller = CurrentResourceOwner;

	CHECK_FOR_INTERRUPTS();
	CurrentResourceOwner = sink->owner;
	if (sink->buffered > 0)
		table_multi_insert(sink->relation, sink->slots, sink->buffered,
						   GetCurrentCommandId(true), 0, sink->bulk);
	for (int i = 0; i < sink->buffered; i++)
		ExecClearTuple(sink->slots[i]);
	sink->rows += sink->buffered;
	sink->buffered = 0;
	CurrentResourceOwner = caller;
	MemoryContextReset(sink->memory);
}

/* The reasons of a row of the block. */
static Datum
find_reasons(ScoreSink *sink, int row)
{
	const ModelImage *image = sink->binding->entry->image;

	for (uint32 i = 0; i < image->input_count; i++)
		sink->binding->workspace[i] =
			sink->block[(size_t) i * MODEL_BLOCK + row];
	return JsonbPGetDatum(model_reasons(sink->binding->entry,
										sink->binding->workspace,
										sink->reasons));
}

/* Fills in what is known of a row now that its block has run. */
static void
complete_row(ScoreSink *sink, TupleTableSlot *slot, int row)
{
	const ModelImage *image = sink->binding->entry->image;
	const double *slots = sink->block + row;
	double		score = slots[(size_t) image->score * MODEL_BLOCK];
	text	   *class = model_prediction(image, slots, MODEL_BLOCK);
	Datum	   *values = slot->tts_values + sink->key_count;
	bool	   *nulls = slot->tts_isnull + sink->key_count;

	memcpy(values, sink->constants, sizeof(sink->constants));
	memset(nulls, false, SCORE_COLUMNS);
	nulls[COLUMN_SCORE] = (image->flags & MODEL_NULL_FOR_NAN) && isnan(score);
	values[COLUMN_SCORE] = Float8GetDatum(score);
	nulls[COLUMN_CLASS] = class == NULL;
	values[COLUMN_CLASS] = PointerGetDatum(class);
	nulls[COLUMN_REASONS] = sink->reasons == 0;
	if (sink->reasons > 0)
		values[COLUMN_REASONS] = find_reasons(sink, row);
	ExecStoreVirtualTuple(slot);
}

/* Scores the rows of the block, which need not be full. */
static void
run_block(ScoreSink *sink)
{
	MemoryContext caller = MemoryContextSwitchTo(sink->memory);
	int			first = sink->buffered - sink->block_rows;

	model_run_block(sink->binding->entry->image, sink->block);
	for (int i = 0; i < sink->block_rows; i++)
		complete_row(sink, sink->slots[first + i], i);
	sink->block_rows = 0;
	MemoryContextSwitchTo(caller);
	if (sink->buffered == BUFFERED)
		flush(sink);
}

/* Copies a column of the key to the slot of the row that it becomes. */
static void
take_key(TupleTableSlot *to, int i, Datum value, bool isnull)
{
	Form_pg_attribute attribute = TupleDescAttr(to->tts_tupleDescriptor, i);

	to->tts_isnull[i] = isnull;
	to->tts_values[i] = isnull || attribute->attbyval ? value :
		datumCopy(value, false, attribute->attlen);
}

/* Takes a row apart. */
static void
take_values(ScoreSink *sink, TupleTableSlot *slot, TupleTableSlot *to,
			double *place)
{
	const ModelImage *image = sink->binding->entry->image;
	const ModelInput *inputs = model_inputs(image);
	ModelSource *sources = sink->binding->sources;

	slot_getsomeattrs(slot, sink->attributes);
	for (uint32 i = 0; i < image->input_count; i++, place += MODEL_BLOCK)
		*place = model_read_slot(&sources[i], image, &inputs[i],
								 slot->tts_values[sources[i].position],
								 slot->tts_isnull[sources[i].position]);
	for (int i = 0; i < sink->key_count; i++)
		take_key(to, i, slot->tts_values[sink->key[i]],
				 slot->tts_isnull[sink->key[i]]);
}

/* Takes a row as it is stored, without NULLs. */
static void
take_stored(ScoreSink *sink, TupleDesc tupdesc, const char *data,
			TupleTableSlot *to, double *place)
{
	model_take_stored(sink->binding, tupdesc, data, place);
	for (int i = 0; i < sink->key_count; i++)
	{
		int			column = sink->key[i];

		take_key(to, i, model_stored_column(data, sink->binding->offsets,
											TupleDescAttr(tupdesc, column),
											column), false);
	}
}

/* Called by the executor for each row of the query. */
static bool
receive_row(TupleTableSlot *slot, DestReceiver *receiver)
{
	ScoreSink  *sink = (ScoreSink *) receiver;
	MemoryContext caller = MemoryContextSwitchTo(sink->memory);
	TupleTableSlot *to = sink->slots[sink->buffered++];
	double	   *place = sink->block + sink->block_rows++;
	const char *data = sink->binding->offsets == NULL ? NULL :
	model_stored_row(slot, sink->attributes);

	if (data != NULL)
		take_stored(sink, slot->tts_tupleDescriptor, data, to, place);
	else
		take_values(sink, slot, to, place);
	MemoryContextSwitchTo(caller);
	if (sink->block_rows == MODEL_BLOCK)
		run_block(sink);
	return true;
}

static void
start_rows(DestReceiver *receiver, int operation, TupleDesc tupdesc)
{
}

static void
end_rows(DestReceiver *receiver)
{
}

/* ---- the table ---- */

/* The attribute of a key column of the query. */
static int
find_key(TupleDesc tupdesc, const char *name)
{
	char	  **names = palloc(sizeof(char *) * Max(tupdesc->natts, 1));
	char	   *nearest;

	for (int i = 0; i < tupdesc->natts; i++)
	{
		names[i] = NameStr(TupleDescAttr(tupdesc, i)->attname);
		if (strcmp(names[i], name) == 0)
			return i;
	}
	nearest = core_nearest(name, names, tupdesc->natts);
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("the query has no column \"%s\" for the key", name),
			 nearest ? errhint("Perhaps you meant \"%s\".", nearest) : 0));
	return -1;
}

/* Creates the table, as the caller. */
static void
create_table(const ScoreSink *sink, TupleDesc query, const char *quoted)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE TABLE %s (", quoted);
	for (int i = 0; i < sink->key_count; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(query, sink->key[i]);

		appendStringInfo(&sql, "%s %s, ",
						 quote_identifier(NameStr(attribute->attname)),
						 format_type_with_typemod(attribute->atttypid,
												  attribute->atttypmod));
	}
	for (int i = 0; i < SCORE_COLUMNS; i++)
		appendStringInfo(&sql, "%s%s %s", i > 0 ? ", " : "",
						 quote_identifier(score_columns[i].name),
						 format_type_be(score_columns[i].type));
	appendStringInfoChar(&sql, ')');
	core_execute(sql.data, NULL, SPI_OK_UTILITY);
}

/* ERROR unless a column of the table is what it must be. */
static void
check_column(Relation relation, int i, const char *name, Oid type)
{
	TupleDesc	tupdesc = RelationGetDescr(relation);

	if (i < tupdesc->natts && !TupleDescAttr(tupdesc, i)->attisdropped &&
		strcmp(NameStr(TupleDescAttr(tupdesc, i)->attname), name) == 0 &&
		TupleDescAttr(tupdesc, i)->atttypid == type)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_DATATYPE_MISMATCH),
			 errmsg("table \"%s\" is not one for these scores",
					RelationGetRelationName(relation)),
			 errdetail("Its column %d is not \"%s\" of type %s.", i + 1, name,
					   format_type_be(type)),
			 errhint("Name a table that does not exist, or drop this one.")));
}

/* ERROR unless rows can be written to the table as they are. */
static void
check_table(const ScoreSink *sink, TupleDesc query, Relation relation)
{
	AclResult	allowed = pg_class_aclcheck(RelationGetRelid(relation),
											GetUserId(), ACL_INSERT);

	if (allowed != ACLCHECK_OK)
		aclcheck_error(allowed, OBJECT_TABLE,
					   RelationGetRelationName(relation));
	for (int i = 0; i < sink->key_count; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(query, sink->key[i]);

		check_column(relation, i, NameStr(attribute->attname),
					 attribute->atttypid);
	}
	for (int i = 0; i < SCORE_COLUMNS; i++)
		check_column(relation, sink->key_count + i, score_columns[i].name,
					 score_columns[i].type);
	if (relation->rd_rel->relkind != RELKIND_RELATION ||
		relation->rd_rel->relhasindex || relation->trigdesc != NULL ||
		RelationGetDescr(relation)->constr != NULL ||
		RelationGetDescr(relation)->natts > sink->key_count + SCORE_COLUMNS ||
		check_enable_rls(RelationGetRelid(relation), InvalidOid,
						 false) == RLS_ENABLED)
		core_not_supported(psprintf("scoring into \"%s\"",
									RelationGetRelationName(relation)),
						   "The table may have no index, trigger, constraint, "
						   "policy or further column; elsewhere, use "
						   "INSERT with visage_score.");
}

/* Opens the table that rows go to, created or emptied if need be. */
static void
open_table(ScoreSink *sink, TupleDesc query, const char *name,
		   const char *mode)
{
	List	   *names = textToQualifiedNameList(cstring_to_text(name));
	RangeVar   *range = makeRangeVarFromNameList(names);
	char	   *quoted = range->schemaname == NULL ?
	pstrdup(quote_identifier(range->relname)) :
	quote_qualified_identifier(range->schemaname, range->relname);
	Oid			oid = RangeVarGetRelid(range, NoLock, true);

	if (!OidIsValid(oid))
		create_table(sink, query, quoted);
	else if (strcmp(mode, "replace") == 0)
		core_execute(psprintf("TRUNCATE %s", quoted), NULL, SPI_OK_UTILITY);
	sink->relation = table_open(RangeVarGetRelid(range, RowExclusiveLock,
												 false), NoLock);
	check_table(sink, query, sink->relation);
	for (int i = 0; i < BUFFERED; i++)
		sink->slots[i] = table_slot_create(sink->relation, NULL);
	sink->bulk = GetBulkInsertState();
	sink->owner = CurrentResourceOwner;
}

static void
close_table(ScoreSink *sink)
{
	FreeBulkInsertState(sink->bulk);
	for (int i = 0; i < BUFFERED; i++)
		ExecDropSingleTupleTableSlot(sink->slots[i]);
	table_finish_bulk_insert(sink->relation, 0);
	table_close(sink->relation, NoLock);
}

/* ---- the run ---- */

/* A row of visage.runs; the caller need not see the table. */
static int64
begin_run(const char *into)
{
	CoreArgs	args = {0};
	CoreIdentity caller;
	int64		run;

	core_arg_text(&args, into);
	core_become_owner(&caller);
	run = core_query_int8("WITH run AS ("
						  " INSERT INTO visage.run_log (kind, name, pid)"
						  " VALUES ('scoring', $1, pg_backend_pid())"
						  " RETURNING run_id) SELECT run_id FROM run", &args,
						  0);
	core_become_caller(&caller);
	return run;
}

static void
end_run(int64 run, const ScoreSink *sink)
{
	CoreArgs	args = {0};
	CoreIdentity caller;

	core_arg_int8(&args, run);
	core_arg_int8(&args, sink->rows);
	core_arg_text(&args, sink->binding->entry->model);
	core_arg(&args, INT4OID, Int32GetDatum(sink->binding->entry->version),
			 false);
	core_become_owner(&caller);
	core_execute("UPDATE visage.run_log SET state = 'success',"
				 " finished_at = clock_timestamp(),"
				 " counters = jsonb_build_object('scored', $2, 'model', $3,"
				 " 'version', $4) WHERE run_id = $1", &args, SPI_OK_UPDATE);
	core_become_caller(&caller);
}

/* What a call asks for, checked as far as it can be without the query. */
typedef struct ScoreRequest
{
	text	   *model;
	char	   *query;
	char	   *into;
	Datum	   *key;
	int			key_count;
	char	   *mode;
	int			reasons;
} ScoreRequest;

static void
read_arguments(FunctionCallInfo fcinfo, ScoreRequest *request)
{
	static const char *const names[] = {"model", "query", "into_table", "key",
	"mode", "reasons"};

	for (int i = 0; i < lengthof(names); i++)
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("argument \"%s\" must not be null", names[i])));
	request->model = PG_GETARG_TEXT_PP(0);
	request->query = text_to_cstring(PG_GETARG_TEXT_PP(1));
	request->into = text_to_cstring(PG_GETARG_TEXT_PP(2));
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(3), TEXTOID, -1, false,
					  TYPALIGN_INT, &request->key, NULL,
					  &request->key_count);
	request->mode = text_to_cstring(PG_GETARG_TEXT_PP(4));
	request->reasons = PG_GETARG_INT32(5);
	if (strcmp(request->mode, "replace") != 0 &&
		strcmp(request->mode, "append") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unrecognized mode \"%s\"", request->mode),
				 errhint("Use replace or append.")));
	if (request->reasons < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"reasons\" must not be negative")));
}

/* Prepares the receiver for rows of this description. */
static void
prepare_sink(ScoreSink *sink, const ScoreRequest *request, ModelEntry *entry,
			 TupleDesc query)
{
	sink->receiver.receiveSlot = receive_row;
	sink->receiver.rStartup = start_rows;
	sink->receiver.rShutdown = end_rows;
	sink->receiver.rDestroy = end_rows;
	sink->receiver.mydest = DestNone;
	sink->binding = model_bind_row(entry, query, CurrentMemoryContext);
	sink->attributes = sink->binding->columns;
	sink->reasons = request->reasons;
	sink->key_count = request->key_count;
	sink->key = palloc(sizeof(int) * Max(request->key_count, 1));
	for (int i = 0; i < request->key_count; i++)
	{
		sink->key[i] = find_key(query, TextDatumGetCString(request->key[i]));
		sink->attributes = Max(sink->attributes, sink->key[i] + 1);
	}
	model_bind_stored(sink->binding, query, sink->attributes,
					  CurrentMemoryContext);
	sink->block = palloc_extended(model_workspace(entry->image, MODEL_BLOCK) *
								  sizeof(double),
								  MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	sink->memory = AllocSetContextCreate(CurrentMemoryContext,
										 "visage scores",
										 ALLOCSET_DEFAULT_SIZES);
	sink->constants[COLUMN_MODEL] = CStringGetTextDatum(entry->model);
	sink->constants[COLUMN_VERSION] = Int32GetDatum(entry->version);
	sink->constants[COLUMN_SCORED_AT] =
		TimestampTzGetDatum(GetCurrentTransactionStartTimestamp());
}

Datum
visage_score_table(PG_FUNCTION_ARGS)
{
	ScoreRequest request;
	ScoreSink  *sink = palloc0(sizeof(ScoreSink));
	ModelEntry *entry;
	Portal		portal;
	int64		run;

	read_arguments(fcinfo, &request);
	core_spi_begin();
	entry = model_find(VARDATA_ANY(request.model),
					   VARSIZE_ANY_EXHDR(request.model));
	model_pin(entry, CurrentMemoryContext);
	run = begin_run(request.into);
	portal = model_open_query(request.query);
	prepare_sink(sink, &request, entry, portal->tupDesc);
	sink->constants[COLUMN_RUN_ID] = Int64GetDatum(run);
	open_table(sink, portal->tupDesc, request.into, request.mode);
	(void) PortalRunFetch(portal, FETCH_FORWARD, LONG_MAX,
						  &sink->receiver);
	if (sink->block_rows > 0)
		run_block(sink);
	flush(sink);
	close_table(sink);
	SPI_cursor_close(portal);
	end_run(run, sink);
	core_spi_end();
	PG_RETURN_VOID();
}

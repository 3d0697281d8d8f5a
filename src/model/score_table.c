/*-------------------------------------------------------------------------
 *
 * score_table.c
 *		CALL visage_score_table(...): the rows of a query, scored into a table.
 *
 * The executor hands each row of the query to a receiver, which lays the
 * features out for the block kernel and copies only the key.  Scored rows
 * are written many at a time.  The query runs as the caller.  All is one
 * transaction, unless visage.score_batch says otherwise: score_run.c.
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
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "model/score_table.h"
#include "tcop/dest.h"
#include "tcop/pquery.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(visage_score_table);

/* Rows that are written at a time. */
#define BUFFERED (16 * MODEL_BLOCK)

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
	ScoreTarget target;
	bool		keep_last;
	char	  **last;			/* the last row's key as texts, if it is kept */
	TupleTableSlot *slots[BUFFERED];
	int			buffered;		/* rows, those of the block included */
	BulkInsertState bulk;
	ResourceOwner owner;		/* of the buffer that it keeps pinned */
	Datum		constants[SCORE_COLUMNS];	/* columns that are the same in
											 * all rows */
	int64		rows;
} ScoreSink;

/* ---- rows ---- */

/* Keeps a row's key as texts that mean the same in any session. */
static void
keep_last(ScoreSink *sink, TupleTableSlot *slot)
{
	int			nest_level = NewGUCNestLevel();
	MemoryContext caller = MemoryContextSwitchTo(GetMemoryChunkContext(sink));

	(void) set_config_option("DateStyle", "ISO, YMD", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("extra_float_digits", "3", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	if (sink->last == NULL)
		sink->last = palloc0(sizeof(char *) * sink->key_count);
	for (int i = 0; i < sink->key_count; i++)
	{
		Oid			output;
		bool		varlena;

		if (sink->last[i] != NULL)
			pfree(sink->last[i]);
		getTypeOutputInfo(TupleDescAttr(slot->tts_tupleDescriptor, i)->atttypid,
						  &output, &varlena);
		sink->last[i] = OidOutputFunctionCall(output, slot->tts_values[i]);
	}
	MemoryContextSwitchTo(caller);
	AtEOXact_GUC(true, nest_level);
}

/* Writes the rows that are buffered. */
static void
flush(ScoreSink *sink)
{
	ResourceOwner caller = CurrentResourceOwner;

	CHECK_FOR_INTERRUPTS();
	CurrentResourceOwner = sink->owner;
	if (sink->keep_last && sink->buffered > 0)
		keep_last(sink, sink->slots[sink->buffered - 1]);
	if (sink->target.store != NULL)
		for (int i = 0; i < sink->buffered; i++)
			tuplestore_puttupleslot(sink->target.store, sink->slots[i]);
	else if (sink->buffered > 0)
		core_insert_slots(sink->target.relation, sink->slots, sink->buffered,
						  sink->bulk, sink->memory);
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
	{
		if (slot->tts_isnull[sink->key[i]] && sink->keep_last)
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("a row of the query has no key"),
					 errdetail("With visage.score_batch rows are scored in the order of their keys.")));
		take_key(to, i, slot->tts_values[sink->key[i]],
				 slot->tts_isnull[sink->key[i]]);
	}
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

/* ---- the run ---- */

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

/* Makes the slots that rows are put together in. */
static void
open_sink(ScoreSink *sink)
{
	for (int i = 0; i < BUFFERED; i++)
		sink->slots[i] = sink->target.store != NULL ?
			MakeSingleTupleTableSlot(sink->target.rows, &TTSOpsVirtual) :
			table_slot_create(sink->target.relation, NULL);
	sink->bulk = GetBulkInsertState();
	sink->owner = CurrentResourceOwner;
}

static void
close_sink(ScoreSink *sink)
{
	FreeBulkInsertState(sink->bulk);
	for (int i = 0; i < BUFFERED; i++)
		ExecDropSingleTupleTableSlot(sink->slots[i]);
	if (sink->target.store != NULL)
		score_insert_stored(&sink->target);
	else
		table_finish_bulk_insert(sink->target.relation, 0);
	table_close(sink->target.relation, NoLock);
}

/* What a call asks for, checked as far as it can be without the query. */
static void
read_arguments(FunctionCallInfo fcinfo, ScoreRequest *request)
{
	static const char *const names[] = {"model", "query", "into_table", "key",
	"mode", "reasons"};
	Datum	   *key;

	for (int i = 0; i < lengthof(names); i++)
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("argument \"%s\" must not be null", names[i])));
	request->model = PG_GETARG_TEXT_PP(0);
	request->query = text_to_cstring(PG_GETARG_TEXT_PP(1));
	request->into = text_to_cstring(PG_GETARG_TEXT_PP(2));
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(3), TEXTOID, -1, false,
					  TYPALIGN_INT, &key, NULL, &request->key_count);
	request->key = palloc(sizeof(char *) * Max(request->key_count, 1));
	for (int i = 0; i < request->key_count; i++)
		request->key[i] = TextDatumGetCString(key[i]);
	request->mode = text_to_cstring(PG_GETARG_TEXT_PP(4));
	request->reasons = PG_GETARG_INT32(5);
	if (strcmp(request->mode, "replace") != 0 &&
		strcmp(request->mode, "append") != 0 &&
		strcmp(request->mode, "merge") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unrecognized mode \"%s\"", request->mode),
				 errhint("Use replace, append or merge.")));
	if (strcmp(request->mode, "merge") == 0 && request->key_count == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("mode \"merge\" needs a key")));
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
		sink->key[i] = find_key(query, request->key[i]);
		sink->attributes = Max(sink->attributes, sink->key[i] + 1);
	}
	model_bind_stored(sink->binding, query, sink->attributes,
					  CurrentMemoryContext);
	sink->block = model_block_workspace(entry->image, CurrentMemoryContext);
	sink->memory = AllocSetContextCreate(CurrentMemoryContext,
										 "visage scores",
										 ALLOCSET_DEFAULT_SIZES);
	sink->constants[COLUMN_MODEL] = CStringGetTextDatum(entry->model);
	sink->constants[COLUMN_VERSION] = Int32GetDatum(entry->version);
	sink->constants[COLUMN_SCORED_AT] =
		TimestampTzGetDatum(GetCurrentTransactionStartTimestamp());
}

/*
 * Scores the rows of a query into the table, which is emptied before if it
 * is to be.  The run says where it has come to: its rows, and the last key.
 */
void
score_query(const ScoreRequest *request, const char *query, ScoreRun *run,
			bool empty, bool keep_last)
{
	ScoreSink  *sink = palloc0(sizeof(ScoreSink));
	ModelEntry *entry = model_find(VARDATA_ANY(request->model),
								   VARSIZE_ANY_EXHDR(request->model));
	Portal		portal;

	model_pin(entry, CurrentMemoryContext);
	if (run->id == 0)
		run->id = score_begin_run(request->into);
	portal = model_open_query(query);
	prepare_sink(sink, request, entry, portal->tupDesc);
	sink->keep_last = keep_last;
	sink->constants[COLUMN_RUN_ID] = Int64GetDatum(run->id);
	score_open_target(&sink->target, request, portal->tupDesc, sink->key, empty);
	open_sink(sink);
	(void) PortalRunFetch(portal, FETCH_FORWARD, LONG_MAX, &sink->receiver);
	if (sink->block_rows > 0)
		run_block(sink);
	flush(sink);
	close_sink(sink);
	SPI_cursor_close(portal);
	run->rows += sink->rows;
	run->last = sink->last;
	if (!keep_last)
		score_end_run(run, entry);
}

Datum
visage_score_table(PG_FUNCTION_ARGS)
{
	ScoreRequest request;
	ScoreRun	run = {0};
	int			batch = atoi(GetConfigOption("visage.score_batch", false, false));
	bool		atomic = fcinfo->context == NULL ||
	!IsA(fcinfo->context, CallContext) ||
	castNode(CallContext, fcinfo->context)->atomic;
	bool		in_batches = batch > 0 && !atomic;

	read_arguments(fcinfo, &request);
	in_batches = in_batches && request.key_count > 0;
	if (SPI_connect_ext(in_batches ? SPI_OPT_NONATOMIC : 0) != SPI_OK_CONNECT)
		elog(ERROR, "cannot connect to SPI");
	if (in_batches)
		score_in_batches(&request, batch);
	else
		score_query(&request, request.query, &run,
					strcmp(request.mode, "replace") == 0, false);
	core_spi_end();
	PG_RETURN_VOID();
}

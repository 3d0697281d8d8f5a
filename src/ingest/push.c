/*-------------------------------------------------------------------------
 *
 * push.c
 *		Records from inside: pushed by a caller, or out of quarantine.
 *
 * They go the way of a page's records (land.c), in the caller's transaction
 * and as a run of their own.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/core.h"
#include "funcapi.h"
#include "ingest/ingest.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

/* What round the application of records needs to put back. */
typedef struct Push
{
	IngestRun  *run;
	CoreIdentity caller;
} Push;

/* Reads the stream, becomes the owner and begins a run. */
static void
begin_push(Push *push, const char *name, const char *kind)
{
	IngestRun  *run = ingest_make_run(CurrentMemoryContext);
	MemoryContext caller = MemoryContextSwitchTo(run->context);
	CoreArgs	args = {0};

	push->run = run;
	run->stream = ingest_read_stream(name);
	MemoryContextSwitchTo(caller);
	if (run->stream->spooled)
		core_not_supported(psprintf("%s for stream \"%s\", whose windows are "
									"replaced as a whole,", kind, name),
						   "Ingest the window again.");
	core_spi_begin();
	core_become_owner(&push->caller);
	ingest_pin_settings();
	core_arg_text(&args, kind);
	core_arg_text(&args, name);
	core_execute("INSERT INTO visage.run_log (kind, name, pid, state,"
				 " finished_at) VALUES ($1, $2, pg_backend_pid(), 'success',"
				 " clock_timestamp()) RETURNING run_id", &args,
				 SPI_OK_INSERT_RETURNING);
	run->run_id = core_value_int8(0, 1);
}

/* Writes the run's counters and becomes the caller again. */
static void
end_push(Push *push)
{
	IngestRun  *run = push->run;
	CoreArgs	args = {0};

	core_arg_int8(&args, run->run_id);
	core_arg_int8(&args, run->counts.records);
	core_arg_int8(&args, run->counts.landed);
	core_arg_int8(&args, run->counts.quarantined);
	core_execute("UPDATE visage.run_log SET counters = jsonb_build_object("
				 "'records', $2, 'landed', $3, 'quarantined', $4)"
				 " WHERE run_id = $1", &args, SPI_OK_UPDATE);
	core_become_caller(&push->caller);
	core_spi_end();
}

/* Applies records whose bytes are good until the end of the call. */
static void
apply(IngestRun *run, const Split *split)
{
	char	   *problem = NULL;
	IngestBatch *batch = ingest_read_records(run, split, &problem);

	if (batch == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("stream \"%s\": %s", run->stream->name, problem)));
	ingest_apply_batch(run, batch);
}

/* The elements of an array, or an object by itself, as records. */
static void
split_records(Jsonb *records, Split *split)
{
	bool		array = JB_ROOT_IS_ARRAY(records) &&
	!JB_ROOT_IS_SCALAR(records);
	int			count = array ? JB_ROOT_COUNT(records) : 1;

	for (int i = 0; i < count; i++)
	{
		Jsonb	   *record = array ?
		JsonbValueToJsonb(getIthJsonbValueFromContainer(&records->root, i)) :
		records;
		char	   *text = JsonbToCString(NULL, &record->root,
										  VARSIZE(record));
		ScanSlice	slice = {text, strlen(text)};

		split_add(split, slice, NULL);
	}
}

PG_FUNCTION_INFO_V1(visage_push);
Datum
visage_push(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	Jsonb	   *records = PG_GETARG_JSONB_P(1);
	Push		push;
	Split		split = {0};
	TupleDesc	descriptor;
	Datum		values[3];
	bool		nulls[3] = {false};

	if (get_call_result_type(fcinfo, NULL, &descriptor) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	split_records(records, &split);
	begin_push(&push, name, "push");
	ingest_require_resumed(name);
	apply(push.run, &split);
	end_push(&push);
	values[0] = Int64GetDatum(push.run->counts.landed);
	values[1] = Int64GetDatum(push.run->counts.records - push.run->counts.landed -
							  push.run->counts.quarantined);
	values[2] = Int64GetDatum(push.run->counts.quarantined);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(descriptor, values,
													  nulls)));
}

/*
 * Takes the records out of quarantine.  One whose key came again later is
 * not tried: it would overwrite what is newer.
 */
static void
take_quarantined(IngestRun *run, Split *split)
{
	CoreArgs	args = {0};
	bool		landed = OidIsValid(core_own_table(CORE_LAYER_LANDING,
												   run->stream->table));
	uint64		count;

	core_arg_text(&args, psprintf("staging.%s", run->stream->table));
	count = core_execute(psprintf("WITH taken AS (UPDATE visage.quarantine"
								  " SET replayed_at = now() WHERE dataset = $1"
								  " AND replayed_at IS NULL AND raw IS NOT"
								  " NULL RETURNING id, source_key, raw,"
								  " quarantined_at)"
								  " SELECT raw FROM taken AS q WHERE %s"
								  " ORDER BY id",
								  landed ?
								  psprintf("NOT EXISTS (SELECT FROM %s AS l"
										   " WHERE l._source_key ="
										   " q.source_key AND l._ingested_at"
										   " > q.quarantined_at)",
										   core_qualified(CORE_LAYER_LANDING,
														  run->stream->table)) :
								  "true"), &args, SPI_OK_SELECT);
	for (uint64 i = 0; i < count; i++)
	{
		bool		isnull;
		bytea	   *raw = DatumGetByteaPP(SPI_getbinval(SPI_tuptable->vals[i],
														SPI_tuptable->tupdesc,
														1, &isnull));
		ScanSlice	slice = {VARDATA_ANY(raw), VARSIZE_ANY_EXHDR(raw)};

		split_add(split, slice, NULL);
	}
}

PG_FUNCTION_INFO_V1(visage_replay_quarantine);
Datum
visage_replay_quarantine(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	Push		push;
	Split		split = {0};

	begin_push(&push, name, "replay");
	take_quarantined(push.run, &split);
	apply(push.run, &split);
	end_push(&push);
	PG_RETURN_INT64(push.run->counts.records - push.run->counts.quarantined);
}

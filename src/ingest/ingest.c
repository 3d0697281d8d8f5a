/*-------------------------------------------------------------------------
 *
 * ingest.c
 *		CALL visage_ingest: a stream from where it stopped to its end.
 *
 * The procedure alternates between two states:
 *
 *	talking		one empty transaction, no snapshot, no lock, no xid; the page
 *				comes in (crawl.c)
 *	working		a snapshot, a subtransaction, the extension's owner; the page
 *				is applied and the stream's position moves, and both commit
 *
 * So a page is fetched at least once and applied exactly once.  Work runs in
 * a subtransaction because an error inside it may leave open SPI
 * connections of other functions, which only the abort of a subtransaction
 * takes down; after that the failure can be written to the run's row and
 * committed, and the error goes on to the caller.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/core.h"
#include "core/settings.h"
#include "ingest/ingest.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

/* ---- working ---- */

#define LOCK_TIMEOUT "500ms"	/* others queue behind for so long; work.c */
#define KEPT (2 * 1024 * 1024)	/* bytes of contexts that are reset often */

/* What work is done with, so that it does not depend on the session. */
static const struct
{
	const char *name;
	const char *value;
}			settings[] = {
	{"client_min_messages", "warning"},
	{"TimeZone", "UTC"},
	{"DateStyle", "ISO, YMD"},
	{"IntervalStyle", "postgres"}
};

/* Sets them, until the caller's nest level of settings ends. */
void
ingest_pin_settings(void)
{
	for (int i = 0; i < lengthof(settings); i++)
		(void) set_config_option(settings[i].name, settings[i].value,
								 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
								 true, 0, false);
}

/* From talking to working. */
void
ingest_begin_work(IngestRun *run)
{
	IngestWork *work = &run->work;

	work->context = CurrentMemoryContext;
	work->owner = CurrentResourceOwner;
	PushActiveSnapshot(GetTransactionSnapshot());
	BeginInternalSubTransaction(NULL);
	work->open = true;
	MemoryContextSwitchTo(work->context);
	core_become_owner(&work->caller);
	ingest_pin_settings();
	(void) set_config_option("lock_timeout", LOCK_TIMEOUT, PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

/*
 * Lets the commit of a page return before it is on disk.  A server that goes
 * down may take the last pages along, each with the position that it moved:
 * the next run fetches them again.  The commit that ends a run waits, and
 * with it everything before is on disk.
 */
void
ingest_relax_commit(void)
{
	(void) set_config_option("synchronous_commit", "off", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
}

/* Commits, and back to talking. */
void
ingest_end_work(IngestRun *run)
{
	IngestWork *work = &run->work;

	core_become_caller(&work->caller);
	ReleaseCurrentSubTransaction();
	work->open = false;
	MemoryContextSwitchTo(work->context);
	CurrentResourceOwner = work->owner;
	PopActiveSnapshot();
	SPI_commit();
	MemoryContextSwitchTo(work->context);
	InvalidateCatalogSnapshot();
}

/* After an error, from either state to a clean transaction. */
void
ingest_abandon_work(IngestRun *run)
{
	IngestWork *work = &run->work;

	if (work->open)
	{
		RollbackAndReleaseCurrentSubTransaction();
		PopActiveSnapshot();
	}
	work->open = false;
	MemoryContextSwitchTo(work->context);
	SPI_rollback();
	MemoryContextSwitchTo(work->context);
}

/* ---- the run's row and the stream's position ---- */

/*
 * The crawls of a worker go on in its run of the hour.  True where there is
 * one; one of an earlier hour is closed.
 */
static bool
go_on_in_hour(IngestRun *run)
{
	CoreArgs	args = {0};

	core_arg_text(&args, run->stream->name);
	core_execute("UPDATE visage.run_log SET state = 'success',"
				 " finished_at = clock_timestamp()"
				 " WHERE kind = 'stream' AND name = $1 AND state = 'running'"
				 " AND pid = pg_backend_pid() AND date_trunc('hour', started_at)"
				 " < date_trunc('hour', clock_timestamp())", &args,
				 SPI_OK_UPDATE);
	if (core_execute("SELECT r.run_id, coalesce(c.pages, 0),"
					 " coalesce(c.records, 0), coalesce(c.landed, 0),"
					 " coalesce(c.quarantined, 0), coalesce(c.deleted, 0)"
					 " FROM visage.run_log AS r JOIN pg_stat_activity AS a"
					 " ON a.pid = r.pid AND a.backend_start <= r.started_at"
					 " CROSS JOIN LATERAL jsonb_to_record(r.counters) AS c"
					 " (pages bigint, records bigint, landed bigint,"
					 " quarantined bigint, deleted bigint)"
					 " WHERE r.kind = 'stream' AND r.name = $1"
					 " AND r.state = 'running' AND r.pid = pg_backend_pid()",
					 &args, SPI_OK_SELECT) == 0)
		return false;
	run->run_id = core_value_int8(0, 1);
	run->counts.pages = core_value_int8(0, 2);
	run->counts.records = core_value_int8(0, 3);
	run->counts.landed = core_value_int8(0, 4);
	run->counts.quarantined = core_value_int8(0, 5);
	run->counts.deleted = core_value_int8(0, 6);
	return true;
}

/*
 * Claims the stream: one run of it at a time.  A run whose session is gone
 * has failed without being able to say so.
 */
static void
claim(IngestRun *run)
{
	CoreArgs	args = {0};
	char	   *holder;

	core_arg_text(&args, run->stream->name);
	core_execute("UPDATE visage.run_log AS r SET state = 'failed',"
				 " finished_at = clock_timestamp(),"
				 " error = 'the session ended during the run'"
				 " WHERE kind = 'stream' AND name = $1 AND state = 'running'"
				 " AND (pid = pg_backend_pid() OR NOT EXISTS ("
				 " SELECT FROM pg_stat_activity AS a"
				 " WHERE a.pid = r.pid AND a.backend_start <= r.started_at))",
				 &args, SPI_OK_UPDATE);
	holder = core_query_text("SELECT pid::text FROM visage.run_log"
							 " WHERE kind = 'stream' AND name = $1"
							 " AND state = 'running'", &args,
							 CurrentMemoryContext);
	if (holder != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("stream \"%s\" is being ingested",
						run->stream->name),
				 errdetail("The session with PID %s is at it.", holder)));
	core_execute("INSERT INTO visage.run_log (kind, name, pid)"
				 " VALUES ('stream', $1, pg_backend_pid())"
				 " RETURNING run_id", &args, SPI_OK_INSERT_RETURNING);
	run->run_id = core_value_int8(0, 1);
}

/* The cursor's value moved back by the stream's lag. */
static char *
apply_lag(const IngestRun *run, const char *value)
{
	const IngestStream *stream = run->stream;

	/* windows move back by themselves, parents not at all */
	if (stream->window.step != NULL || stream->parent != NULL ||
		run->lag == 0)
		return pstrdup(value);
	return ingest_shift_value(value, stream->cursor.format,
							  stream->cursor.format, -run->lag);
}

/* Where the crawl begins or goes on. */
static void
read_position(IngestRun *run, bool full_refresh)
{
	IngestStream *stream = run->stream;
	CoreArgs	args = {0};
	char	   *cursor = NULL;

	if (stream->database != NULL)
	{
		ingest_read_database_position(run, full_refresh);
		return;
	}
	core_arg_text(&args, stream->name);
	if (!full_refresh && !run->back_fill &&
		core_execute("SELECT cursor_value, crawl::text"
					 " FROM visage.stream_states WHERE stream = $1", &args,
					 SPI_OK_SELECT) > 0)
	{
		MemoryContext caller = MemoryContextSwitchTo(run->context);
		char	   *crawl = core_value_text(0, 2);

		cursor = core_value_text(0, 1);
		ingest_read_position(&run->position,
							 crawl ? core_json_parse(crawl) : NULL);
		MemoryContextSwitchTo(caller);
	}
	if (run->back_fill)
		return;
	run->complete = stream->parent == NULL && stream->window.step == NULL &&
		(stream->cursor.field == NULL ||
		 (cursor == NULL && stream->initial_value == NULL));
	if (cursor != NULL)
	{
		run->lag = ingest_duration(stream->lag);
		run->from_value = MemoryContextStrdup(run->context,
											  apply_lag(run, cursor));
	}
	else
		run->from_value = stream->initial_value;
	if (!run->position.under_way && ingest_tracks_seen(run))
		ingest_begin_seen(run);
}

/* Writes the position in the transaction of the page that it describes. */
void
ingest_save_position(IngestRun *run)
{
	CoreArgs	args = {0};
	char	   *crawl = ingest_write_position(&run->position);

	if (run->back_fill)
		return;
	core_arg_text(&args, run->stream->name);
	core_arg_text(&args, crawl);
	core_execute("INSERT INTO visage.stream_states (stream, crawl)"
				 " VALUES ($1, $2::jsonb) ON CONFLICT (stream) DO UPDATE SET"
				 " crawl = EXCLUDED.crawl, updated_at = now()",
				 &args, SPI_OK_INSERT);
}

/* The crawl is whole: the next one begins where it ended. */
static void
finish_position(IngestRun *run)
{
	CoreArgs	args = {0};

	if (run->database != NULL)
		ingest_finish_database(run);
	if (run->database != NULL || run->back_fill)
		return;
	core_arg_text(&args, run->stream->name);
	core_arg_text(&args, ingest_next_cursor(run));
	core_execute("INSERT INTO visage.stream_states (stream, cursor_value)"
				 " VALUES ($1, $2) ON CONFLICT (stream) DO UPDATE SET"
				 " cursor_value = coalesce(EXCLUDED.cursor_value,"
				 " stream_states.cursor_value), crawl = NULL,"
				 " updated_at = now()", &args, SPI_OK_INSERT);
}

/* Writes the run's counters, and its end where state is not 'running'. */
static void
write_run(IngestRun *run, const char *state, const char *history,
		  const char *error)
{
	CoreArgs	args = {0};

	core_arg_int8(&args, run->run_id);
	core_arg_text(&args, state);
	core_arg_int8(&args, run->counts.pages);
	core_arg_int8(&args, run->counts.records);
	core_arg_int8(&args, run->counts.landed);
	core_arg_int8(&args, run->counts.quarantined);
	core_arg_text(&args, history);
	core_arg_text(&args, error);
	core_arg_int8(&args, run->counts.deleted);
	/* a run that somebody else has ended stays so */
	core_execute("UPDATE visage.run_log SET error = $8,"
				 " state = CASE WHEN $2 = 'running' THEN state ELSE $2 END,"
				 " heartbeat_at = clock_timestamp(), finished_at ="
				 " CASE WHEN $2 = 'running' THEN finished_at"
				 " ELSE clock_timestamp() END,"
				 " counters = jsonb_strip_nulls(jsonb_build_object("
				 " 'pages', $3, 'records', $4, 'landed', $5,"
				 " 'unchanged', $4 - $5 - $6, 'quarantined', $6,"
				 " 'deleted', nullif($9, 0), 'history', $7::jsonb)) WHERE run_id = $1",
				 &args, SPI_OK_UPDATE);
}

/* The counters so far, in the transaction of what they count. */
void
ingest_save_run(IngestRun *run)
{
	write_run(run, "running", NULL, NULL);
}

/* ---- the procedure ---- */

/* Writes the failure to the run's row, after everything else is undone. */
static void
record_failure(IngestRun *run, const ErrorData *error)
{
	MemoryContextSwitchTo(run->page_context);
	ingest_begin_work(run);
	write_run(run, "failed", NULL, error->message);
	ingest_end_work(run);
}

/* The context of errors inside a page's work. */
static void
describe_page(void *arg)
{
	IngestRun  *run = arg;

	if (run->run_id != 0)
		errcontext("ingesting stream \"%s\", page " INT64_FORMAT,
				   run->stream->name, run->counts.pages + 1);
}

/* ERROR where the call cannot commit, or the database may not run. */
static void
check_call(FunctionCallInfo fcinfo)
{
	if (fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) ||
		castNode(CallContext, fcinfo->context)->atomic)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
				 errmsg("visage_ingest commits page by page and cannot run "
						"inside a transaction block"),
				 errhint("Use autocommit, and a CALL by itself: not in a "
						 "function, nor with other statements in one "
						 "string.")));
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"stream\" must not be null")));
	if (GetDatabaseEncoding() != PG_UTF8)
		core_not_supported("ingestion into a database whose encoding is not "
						   "UTF8", "Create the database with ENCODING "
						   "'UTF8'.");
}

/* An optional text argument, in the current context. */
static char *
text_argument(FunctionCallInfo fcinfo, int position)
{
	return PG_ARGISNULL(position) ? NULL :
		text_to_cstring(PG_GETARG_TEXT_PP(position));
}

/* Reads the declaration, and claims the stream. */
static void
start_run(FunctionCallInfo fcinfo, IngestRun *run)
{
	char	   *name = text_argument(fcinfo, 0);
	bool		full_refresh = !PG_ARGISNULL(1) && PG_GETARG_BOOL(1);

	run->from_value = text_argument(fcinfo, 2);
	run->to_value = text_argument(fcinfo, 3);
	run->back_fill = run->from_value != NULL || run->to_value != NULL;
	core_require_enabled(psprintf("ingestion of stream \"%s\"", name));
	ingest_begin_work(run);
	run->stream = ingest_read_stream(name);
	if (run->back_fill && run->stream->cursor.field == NULL &&
		run->stream->window.step == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("stream \"%s\" has no cursor field to fill back by",
						name)));
	ingest_require_resumed(name);
	run->continuous = ingest_in_worker();
	if (!run->continuous || !go_on_in_hour(run))
		claim(run);
	read_position(run, full_refresh);
	ingest_end_work(run);
}

/* What the manifest says the system allows, and room for its answers. */
NetSession *
ingest_open_session(IngestRun *run)
{
	Jsonb	   *rate = core_json_value(run->stream->manifest, "rate");
	char	   *requests = core_json_text(rate, "requests");
	char	   *concurrent = core_json_text(rate, "concurrent");
	int64		memory = core_setting_int("visage.ingest_memory") * 1024;
	int64		pages = run->stream->paginator.parallel ?
	core_setting_int("visage.prefetch") : 2;
	NetLimits	limits = {0};

	limits.requests = requests ? atoi(requests) : 0;
	limits.per_ms = ingest_duration(core_json_text(rate, "per")) / 1000;
	limits.concurrent = concurrent ? atoi(concurrent) : 0;
	limits.remaining_header = core_json_text(rate, "remaining_header");
	limits.buffer = Max(memory / pages, 65536);
	return net_open(run->context, &limits);
}

/* Step of ingest_work: what only the end of a run can tell. */
static void
finish_step(IngestRun *run, void *arg)
{
	char	   *history;

	ingest_delete_unseen(run);
	finish_position(run);
	history = ingest_merge_history(run);
	write_run(run, run->continuous ? "running" : "success", history, NULL);
}

/* Ends the run, in one transaction. */
static void
finish_run(IngestRun *run)
{
	MemoryContextReset(run->page_context);
	MemoryContextSwitchTo(run->page_context);
	ingest_work(run, finish_step, NULL);
	ingest_drop_spool(run);
}

/*
 * The run from its claim to its success or its failure.  An error may leave a
 * subtransaction open, which nobody above would close.
 */
static void
run_to_end(FunctionCallInfo fcinfo, IngestRun *run)
{
	ErrorContextCallback context = {.previous = error_context_stack,
	.callback = describe_page,.arg = run};

	error_context_stack = &context;
	PG_TRY();
	{
		start_run(fcinfo, run);
		if (run->database != NULL)
			ingest_crawl_database(run);
		else
		{
			run->net = ingest_open_session(run);
			ingest_tidy_landing(run);
			ingest_crawl(run);
			ingest_tidy_landing(run);
		}
		finish_run(run);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(run->context);
		error = CopyErrorData();
		FlushErrorState();
		error_context_stack = context.previous;
		run->work.context = run->context;
		ingest_abandon_work(run);
		if (run->run_id != 0)
			record_failure(run, error);
		ReThrowError(error);
	}
	PG_END_TRY();
	error_context_stack = context.previous;
}

/* Reset callback of the run's memory: the spool is no memory. */
static void
close_spool(void *arg)
{
	ingest_drop_spool(arg);
}

/* A run with nothing in it yet, in memory of its own. */
IngestRun *
ingest_make_run(MemoryContext parent)
{
	MemoryContext context = AllocSetContextCreate(parent, "visage ingest",
												  ALLOCSET_DEFAULT_SIZES);
	IngestRun  *run = MemoryContextAllocZero(context, sizeof(IngestRun));
	MemoryContextCallback *callback =
	MemoryContextAlloc(context, sizeof(MemoryContextCallback));

	run->context = context;
	run->page_context = AllocSetContextCreate(context, "visage page",
											  ALLOCSET_DEFAULT_SIZES);
	/* what is used again for each page is kept from page to page */
	run->batch_context = AllocSetContextCreate(context, "visage batch",
											   KEPT, KEPT, KEPT);
	run->row_context = AllocSetContextCreate(context, "visage rows", KEPT,
											 KEPT, KEPT);
	run->careful = -1;
	callback->func = close_spool;
	callback->arg = run;
	MemoryContextRegisterResetCallback(context, callback);
	return run;
}

PG_FUNCTION_INFO_V1(visage_ingest);
Datum
visage_ingest(PG_FUNCTION_ARGS)
{
	IngestRun  *run;

	check_call(fcinfo);
	if (SPI_connect_ext(SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	/* The portal's context outlives the transactions of the run. */
	run = ingest_make_run(PortalContext);
	MemoryContextSwitchTo(run->context);
	run_to_end(fcinfo, run);
	SPI_finish();
	MemoryContextDelete(run->context);
	PG_RETURN_VOID();
}

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

/* What working needs to put back. */
typedef struct Work
{
	bool		open;
	CoreIdentity caller;
	MemoryContext context;
	ResourceOwner owner;
} Work;

/* ---- working ---- */

/* From talking to working. */
static void
begin_work(Work *work)
{
	work->context = CurrentMemoryContext;
	work->owner = CurrentResourceOwner;
	PushActiveSnapshot(GetTransactionSnapshot());
	BeginInternalSubTransaction(NULL);
	work->open = true;
	MemoryContextSwitchTo(work->context);
	core_become_owner(&work->caller);
	(void) set_config_option("lock_timeout", "10s", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("client_min_messages", "warning", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

/* Commits, and back to talking. */
static void
end_work(Work *work)
{
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
static void
abandon_work(Work *work)
{
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
apply_lag(const IngestStream *stream, const char *value)
{
	char	   *format = core_json_text(stream->manifest, "cursor_format");
	CoreArgs	args = {0};

	if (format == NULL || strcmp(stream->lag, "00:00:00") == 0)
		return pstrdup(value);
	core_arg_text(&args, value);
	core_arg_text(&args, stream->lag);
	core_arg_text(&args, format);
	return core_query_text("SELECT to_char(($1::timestamptz - $2::interval)"
						   " AT TIME ZONE 'UTC', $3)", &args,
						   CurrentMemoryContext);
}

/* Where the crawl begins or goes on. */
static void
read_position(IngestRun *run, bool full_refresh)
{
	IngestStream *stream = run->stream;
	CoreArgs	args = {0};
	char	   *cursor = NULL;

	core_arg_text(&args, stream->name);
	if (!full_refresh && !run->back_fill &&
		core_execute("SELECT cursor_value, crawl_value, crawl_tie,"
					 " crawl_offset FROM visage.stream_states"
					 " WHERE stream = $1", &args, SPI_OK_SELECT) > 0)
	{
		MemoryContext caller = MemoryContextSwitchTo(run->context);

		cursor = core_value_text(0, 1);
		run->position.value = core_value_text(0, 2);
		run->position.tie = core_value_text(0, 3);
		run->position.offset = core_value_int8(0, 4);
		MemoryContextSwitchTo(caller);
	}
	if (run->back_fill)
		return;
	if (cursor != NULL)
		run->from_value = MemoryContextStrdup(run->context,
											  apply_lag(stream, cursor));
	else
		run->from_value = stream->initial_value;
}

/* Writes the position in the transaction of the page that it describes. */
static void
write_position(IngestRun *run)
{
	CoreArgs	args = {0};

	if (run->back_fill)
		return;
	core_arg_text(&args, run->stream->name);
	core_arg_text(&args, run->position.value);
	core_arg_text(&args, run->position.tie);
	core_arg_int8(&args, run->position.offset);
	core_execute("INSERT INTO visage.stream_states"
				 " (stream, crawl_value, crawl_tie, crawl_offset)"
				 " VALUES ($1, $2, $3, $4)"
				 " ON CONFLICT (stream) DO UPDATE SET"
				 " crawl_value = EXCLUDED.crawl_value,"
				 " crawl_tie = EXCLUDED.crawl_tie,"
				 " crawl_offset = EXCLUDED.crawl_offset, updated_at = now()",
				 &args, SPI_OK_INSERT);
}

/* The crawl is whole: the next one begins where it ended. */
static void
finish_position(IngestRun *run)
{
	CoreArgs	args = {0};

	if (run->back_fill)
		return;
	core_arg_text(&args, run->stream->name);
	core_execute("UPDATE visage.stream_states SET"
				 " cursor_value = coalesce(crawl_value, cursor_value),"
				 " crawl_value = NULL, crawl_tie = NULL, crawl_offset = 0,"
				 " updated_at = now() WHERE stream = $1", &args,
				 SPI_OK_UPDATE);
}

/* Writes the run's counters, and its end where state is not 'running'. */
static void
write_run(IngestRun *run, const char *state, const char *history,
		  const char *error)
{
	CoreArgs	args = {0};

	core_arg_int8(&args, run->run_id);
	core_arg_text(&args, state);
	core_arg_int8(&args, run->pages);
	core_arg_int8(&args, run->records);
	core_arg_int8(&args, run->landed);
	core_arg_int8(&args, run->quarantined);
	core_arg_text(&args, history);
	core_arg_text(&args, error);
	core_execute("UPDATE visage.run_log SET state = $2, error = $8,"
				 " heartbeat_at = clock_timestamp(), finished_at ="
				 " CASE WHEN $2 <> 'running' THEN clock_timestamp() END,"
				 " counters = jsonb_strip_nulls(jsonb_build_object("
				 " 'pages', $3, 'records', $4, 'landed', $5,"
				 " 'unchanged', $4 - $5 - $6, 'quarantined', $6,"
				 " 'history', $7::jsonb)) WHERE run_id = $1",
				 &args, SPI_OK_UPDATE);
}

/* ---- the procedure ---- */

/* Moves the position past the page. */
static void
advance(IngestRun *run, const IngestPage *page)
{
	run->pages++;
	run->position.offset += page->count;
	if (page->last_value == NULL)
		return;
	run->position.value = MemoryContextStrdup(run->context,
											  page->last_value);
	run->position.tie = page->last_tie == NULL ? NULL :
		MemoryContextStrdup(run->context, page->last_tie);
}

/* Page after page, until one is empty. */
static void
crawl(IngestRun *run, Work *work)
{
	for (;;)
	{
		IngestPage *page;

		MemoryContextReset(run->page_context);
		MemoryContextSwitchTo(run->page_context);
		Assert(!TransactionIdIsValid(MyProc->xmin));
		page = ingest_fetch_page(run);
		if (page->count == 0)
			return;
		begin_work(work);
		ingest_apply_page(run, page);
		advance(run, page);
		write_position(run);
		write_run(run, "running", NULL, NULL);
		end_work(work);
	}
}

/* Writes the failure to the run's row, after everything else is undone. */
static void
record_failure(IngestRun *run, Work *work, const ErrorData *error)
{
	MemoryContextSwitchTo(run->page_context);
	begin_work(work);
	write_run(run, "failed", NULL, error->message);
	end_work(work);
}

/* A kept plan belongs to the session, not to the run's memory. */
static void
forget_plan(IngestRun *run)
{
	if (run->plan != NULL)
		SPI_freeplan(run->plan);
	run->plan = NULL;
}

/* The context of errors inside a page's work. */
static void
describe_page(void *arg)
{
	IngestRun  *run = arg;

	if (run->run_id != 0)
		errcontext("ingesting stream \"%s\", page " INT64_FORMAT,
				   run->stream->name, run->pages + 1);
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
start_run(FunctionCallInfo fcinfo, IngestRun *run, Work *work)
{
	char	   *name = text_argument(fcinfo, 0);
	bool		full_refresh = !PG_ARGISNULL(1) && PG_GETARG_BOOL(1);

	run->from_value = text_argument(fcinfo, 2);
	run->to_value = text_argument(fcinfo, 3);
	run->back_fill = run->from_value != NULL || run->to_value != NULL;
	core_require_enabled(psprintf("ingestion of stream \"%s\"", name));
	begin_work(work);
	run->stream = ingest_read_stream(name);
	if (run->back_fill && run->stream->cursor_field == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("stream \"%s\" has no cursor field to fill back by",
						name)));
	if (core_is_paused("stream", name))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("stream \"%s\" is paused", name),
				 errhint("Run visage_resume('stream', '%s').", name)));
	claim(run);
	read_position(run, full_refresh);
	end_work(work);
}

/*
 * The run from its claim to its success or its failure.  An error may leave a
 * subtransaction open, which nobody above would close.
 */
static void
run_to_end(FunctionCallInfo fcinfo, IngestRun *run, Work *work)
{
	ErrorContextCallback context = {.previous = error_context_stack,
	.callback = describe_page,.arg = run};

	error_context_stack = &context;
	PG_TRY();
	{
		char	   *history;

		start_run(fcinfo, run, work);
		run->net = net_open(run->context);
		crawl(run, work);
		begin_work(work);
		finish_position(run);
		history = ingest_merge_history(run);
		write_run(run, "success", history, NULL);
		end_work(work);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(run->context);
		error = CopyErrorData();
		FlushErrorState();
		error_context_stack = context.previous;
		work->context = run->context;
		abandon_work(work);
		if (run->run_id != 0)
			record_failure(run, work, error);
		forget_plan(run);
		ReThrowError(error);
	}
	PG_END_TRY();
	error_context_stack = context.previous;
}

PG_FUNCTION_INFO_V1(visage_ingest);
Datum
visage_ingest(PG_FUNCTION_ARGS)
{
	IngestRun  *run;
	Work		work = {0};
	MemoryContext context;

	check_call(fcinfo);
	if (SPI_connect_ext(SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	/* The portal's context outlives the transactions of the run. */
	context = AllocSetContextCreate(PortalContext, "visage ingest",
									ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);
	run = palloc0(sizeof(IngestRun));
	run->context = context;
	run->page_context = AllocSetContextCreate(context, "visage page",
											  ALLOCSET_DEFAULT_SIZES);
	run_to_end(fcinfo, run, &work);
	forget_plan(run);
	SPI_finish();
	MemoryContextDelete(context);
	PG_RETURN_VOID();
}

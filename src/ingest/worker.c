/*-------------------------------------------------------------------------
 *
 * worker.c
 *		Streams that a background worker runs over and over.
 *
 * visage_start writes a row and registers a worker, which runs the procedure
 * visage_ingest as the one who started it, waits visage.stream_pause and
 * runs it again, for as long as the row is there.  After failures it waits
 * longer, twice as long after each, up to an hour; while the database, the
 * stream, its source or its connector is not to run it waits, too.  The
 * crawls of an hour are one row of visage.runs (see claim in ingest.c), a
 * crawl that fails is the last of its row.
 *
 * A worker that has ended, however it did, is started again by the launcher
 * (room run), through visage.resume_workers().
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/core.h"
#include "core/settings.h"
#include "core/shared.h"
#include "ingest/ingest.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "tcop/pquery.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* What the worker is told, in the 128 bytes that there are. */
typedef struct Order
{
	Oid			role;
	TransactionId starter;		/* that wrote the row; invalid: long ago */
	char		stream[BGW_EXTRALEN - sizeof(Oid) - sizeof(TransactionId)];
} Order;

#define LONGEST_PAUSE 3600		/* s, after failures */
#define WORKER_TYPE "visage stream"

StaticAssertDecl(sizeof(Order) <= BGW_EXTRALEN, "an order fits bgw_extra");

PGDLLEXPORT void visage_stream_main(Datum database);

/* ---- the worker ---- */

/* The row is there, or never will be, when its transaction has ended. */
static void
await_starter(TransactionId starter)
{
	StartTransactionCommand();
	XactLockTableWait(starter, NULL, NULL, XLTW_None);
	CommitTransactionCommand();
}

/* Is this a worker's session? */
bool
ingest_in_worker(void)
{
	return MyBgworkerEntry != NULL &&
		strcmp(MyBgworkerEntry->bgw_type, WORKER_TYPE) == 0;
}

/* Runs statements as the owner, in a transaction of their own. */
static uint64
execute_alone(const char *sql, const CoreArgs *args, int expected)
{
	CoreIdentity caller;
	uint64		count;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	core_spi_begin();
	core_become_owner(&caller);
	count = core_execute(sql, args, expected);
	core_become_caller(&caller);
	core_spi_end();
	PopActiveSnapshot();
	CommitTransactionCommand();
	return count;
}

/*
 * Is the stream still to be run, and by this worker?  Notes that it does,
 * unless another one that lives has it.
 */
static bool
is_wanted(const char *stream)
{
	CoreArgs	args = {0};

	core_arg_text(&args, stream);
	return execute_alone("UPDATE visage.stream_workers AS w"
						 " SET pid = me.pid, started_at = me.backend_start,"
						 " next_at = NULL FROM pg_stat_activity AS me"
						 " WHERE w.stream = $1 AND me.pid = pg_backend_pid()"
						 " AND NOT EXISTS (SELECT FROM pg_stat_activity AS a"
						 " WHERE a.pid = w.pid AND a.pid <> me.pid"
						 " AND a.backend_start = w.started_at)", &args,
						 SPI_OK_UPDATE) > 0;
}

/* Step of core_try: what must hold for a crawl to make sense. */
static void
require_runnable(void *arg)
{
	CoreIdentity caller;

	core_require_enabled("a worker");
	core_spi_begin();
	core_become_owner(&caller);
	ingest_require_resumed(arg);
	core_become_caller(&caller);
	core_spi_end();
}

/* Is anything paused or switched off that the stream needs? */
static bool
may_crawl(char *stream)
{
	ErrorData  *error;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	error = core_try(require_runnable, stream);
	PopActiveSnapshot();
	CommitTransactionCommand();
	return error == NULL;
}

/* The row of visage.runs of an hour that is over is closed. */
static void
close_hour(const char *stream)
{
	CoreArgs	args = {0};

	core_arg_text(&args, stream);
	(void) execute_alone("UPDATE visage.run_log SET state = 'success',"
						 " finished_at = clock_timestamp()"
						 " WHERE kind = 'stream' AND name = $1"
						 " AND state = 'running' AND pid = pg_backend_pid()"
						 " AND extract(epoch FROM started_at)::bigint / 3600"
						 " < extract(epoch FROM clock_timestamp())::bigint"
						 " / 3600", &args, SPI_OK_UPDATE);
}

/* How long to wait after so many failures in a row, in ms. */
static int64
pause_after(int failures)
{
	int64		pause = core_setting_int("visage.stream_pause");

	for (int i = 0; i < failures && pause < LONGEST_PAUSE; i++)
		pause *= 2;
	if (failures > 0)
		pause = Min(pause, Max(LONGEST_PAUSE,
							   core_setting_int("visage.stream_pause")));
	return pause * 1000;
}

/* Waits for the next crawl; an hour that ends meanwhile is closed. */
static void
wait_for_next(const char *stream, int failures)
{
	TimestampTz next = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
												   pause_after(failures));
	TimestampTz now;
	CoreArgs	args = {0};

	core_arg_text(&args, stream);
	core_arg_int8(&args, failures);
	core_arg(&args, TIMESTAMPTZOID, TimestampTzGetDatum(next), false);
	(void) execute_alone("UPDATE visage.stream_workers SET failures = $2,"
						 " next_at = $3 WHERE stream = $1", &args,
						 SPI_OK_UPDATE);
	while ((now = GetCurrentTimestamp()) < next)
	{
		TimestampTz hour = now - now % USECS_PER_HOUR + USECS_PER_HOUR;

		if (WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					  TimestampDifferenceMilliseconds(now, Min(next, hour)),
					  PG_WAIT_EXTENSION) & WL_LATCH_SET)
			ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (GetCurrentTimestamp() >= hour)
			close_hour(stream);
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			break;
		}
	}
}

/* The plan of a statement that a user could have typed. */
static List *
plan(const char *command)
{
	RawStmt    *statement = linitial_node(RawStmt, pg_parse_query(command));
	List	   *queries;
	List	   *plans;

	PushActiveSnapshot(GetTransactionSnapshot());
	queries = pg_analyze_and_rewrite_fixedparams(statement, command, NULL, 0,
												 NULL);
	plans = pg_plan_queries(queries, command, 0, NULL);
	PopActiveSnapshot();
	return plans;
}

/*
 * CALL visage_ingest(stream).  It commits as it goes, so it runs as a
 * session's own statement does, in a portal, and not through SPI.
 */
static void
call_ingest(const char *stream)
{
	char	   *command;
	Portal		portal;
	DestReceiver *receiver;

	StartTransactionCommand();
	command = psprintf("CALL %s.visage_ingest(%s)", core_extension_schema(),
					   quote_literal_cstr(stream));
	pgstat_report_activity(STATE_RUNNING, command);
	portal = CreatePortal("", true, true);
	portal->visible = false;
	command = MemoryContextStrdup(portal->portalContext, command);
	MemoryContextSwitchTo(portal->portalContext);
	PortalDefineQuery(portal, NULL, command, CMDTAG_CALL, plan(command),
					  NULL);
	PortalStart(portal, NULL, 0, InvalidSnapshot);
	receiver = CreateDestReceiver(DestNone);
	(void) core_compat_portal_run(portal, receiver);
	receiver->rDestroy(receiver);
	PortalDrop(portal, false);
	CommitTransactionCommand();
	pgstat_report_activity(STATE_IDLE, NULL);
}

/* One crawl; its failure is told and survived. */
static bool
crawl_once(const char *stream)
{
	volatile bool done = true;

	PG_TRY();
	{
		call_ingest(stream);
	}
	PG_CATCH();
	{
		EmitErrorReport();
		FlushErrorState();
		AbortCurrentTransaction();
		pgstat_report_activity(STATE_IDLE, NULL);
		done = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(TopMemoryContext);
	return done;
}

/* Entry point of the worker. */
void
visage_stream_main(Datum database)
{
	Order		order;
	int			failures = 0;

	memcpy(&order, MyBgworkerEntry->bgw_extra, sizeof(Order));
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(database),
											  order.role, 0);
	if (TransactionIdIsValid(order.starter))
		await_starter(order.starter);
	while (is_wanted(order.stream))
	{
		if (may_crawl(order.stream))
			failures = crawl_once(order.stream) ? 0 : failures + 1;
		wait_for_next(order.stream, failures);
	}
	proc_exit(0);
}

/* ---- starting and stopping ---- */

/* Whom the postmaster is to tell that a worker has ended. */
static int
launcher_pid(void)
{
	CoreSharedLauncher *launcher =
	*find_rendezvous_variable(CORE_SHARED_LAUNCHER);
	int			pid = launcher ? (int) pg_atomic_read_u32(&launcher->pid) : 0;

	return pid != 0 ? pid : MyProcPid;
}

/* Registers a worker that runs the stream as a role; false: there is no room. */
static bool
register_worker(const char *stream, Oid role, TransactionId starter)
{
	BackgroundWorker worker = {0};
	BackgroundWorkerHandle *handle;
	Order		order = {.role = role,.starter = starter};

	strlcpy(order.stream, stream, sizeof(order.stream));
	memcpy(worker.bgw_extra, &order, sizeof(Order));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_main_arg = ObjectIdGetDatum(MyDatabaseId);
	worker.bgw_notify_pid = launcher_pid();
	strlcpy(worker.bgw_library_name, "visage_net",
			sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "visage_stream_main",
			sizeof(worker.bgw_function_name));
	snprintf(worker.bgw_name, BGW_MAXLEN, "visage stream %s", stream);
	strlcpy(worker.bgw_type, WORKER_TYPE, BGW_MAXLEN);
	return RegisterDynamicBackgroundWorker(&worker, &handle);
}

/* The worker of the stream, where it lives; 0: none. */
static int64
living_worker(const char *stream)
{
	CoreArgs	args = {0};

	core_arg_text(&args, stream);
	return core_query_int8("SELECT a.pid::bigint FROM visage.stream_workers"
						   " AS w JOIN pg_stat_activity AS a ON a.pid = w.pid"
						   " AND a.backend_start = w.started_at"
						   " WHERE w.stream = $1", &args, 0);
}

PG_FUNCTION_INFO_V1(visage_start);
Datum
visage_start(PG_FUNCTION_ARGS)
{
	char	   *stream = text_to_cstring(PG_GETARG_TEXT_PP(0));
	CoreIdentity caller;
	CoreArgs	args = {0};
	bool		alive;

	core_require_enabled(psprintf("ingestion of stream \"%s\"", stream));
	(void) core_find_declaration("stream", stream, false);
	if (strlen(stream) >= sizeof(((Order *) 0)->stream))
		ereport(ERROR,
				(errcode(ERRCODE_NAME_TOO_LONG),
				 errmsg("the name of stream \"%s\" is too long for a worker",
						stream)));
	core_arg_text(&args, stream);
	core_arg_text(&args, GetUserNameFromId(GetUserId(), false));
	core_spi_begin();
	core_become_owner(&caller);
	alive = living_worker(stream) != 0;
	core_execute("INSERT INTO visage.stream_workers (stream, role)"
				 " VALUES ($1, $2) ON CONFLICT (stream) DO UPDATE"
				 " SET role = EXCLUDED.role", &args, SPI_OK_INSERT);
	core_become_caller(&caller);
	core_spi_end();
	if (alive)
		ereport(NOTICE,
				(errmsg("stream \"%s\" has a worker, nothing to do", stream)));
	else if (!register_worker(stream, GetUserId(), GetCurrentTransactionId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("no worker is free for stream \"%s\"", stream),
				 errhint("Raise max_worker_processes.")));
	PG_RETURN_VOID();
}

/* Step of core_try. */
static void
require_enabled(void *arg)
{
	core_require_enabled("a worker");
}

/*
 * Called by the launcher, as the owner: starts the workers that are to run and
 * do not.
 */
PG_FUNCTION_INFO_V1(visage_resume_workers);
Datum
visage_resume_workers(PG_FUNCTION_ARGS)
{
	uint64		count;

	if (core_try(require_enabled, NULL) != NULL)
		PG_RETURN_VOID();
	core_spi_begin();
	count = core_execute("SELECT w.stream, r.oid::bigint"
						 " FROM visage.stream_workers AS w"
						 " JOIN pg_roles AS r ON r.rolname = w.role"
						 " WHERE NOT EXISTS (SELECT FROM pg_stat_activity AS a"
						 " WHERE a.pid = w.pid"
						 " AND a.backend_start = w.started_at)"
						 " ORDER BY w.stream", NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < count; i++)
	{
		char	   *stream = core_value_text(i, 1);

		if (!register_worker(stream, (Oid) core_value_int8(i, 2),
							 InvalidTransactionId))
			ereport(LOG,
					(errmsg("no worker is free for stream \"%s\"", stream),
					 errhint("Raise max_worker_processes.")));
	}
	core_spi_end();
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(visage_stop);
Datum
visage_stop(PG_FUNCTION_ARGS)
{
	char	   *stream = text_to_cstring(PG_GETARG_TEXT_PP(0));
	CoreIdentity caller;
	CoreArgs	args = {0};
	int64		pid;

	core_arg_text(&args, stream);
	core_spi_begin();
	core_become_owner(&caller);
	pid = living_worker(stream);
	if (core_execute("DELETE FROM visage.stream_workers WHERE stream = $1",
					 &args, SPI_OK_DELETE) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("stream \"%s\" has no worker", stream)));
	if (pid != 0)
	{
		core_arg_int8(&args, pid);
		core_execute("UPDATE visage.run_log SET state = 'success',"
					 " finished_at = clock_timestamp() WHERE kind = 'stream'"
					 " AND name = $1 AND pid = $2 AND state = 'running'",
					 &args, SPI_OK_UPDATE);
		memset(&args, 0, sizeof(args));
		core_arg_int8(&args, pid);
		core_execute("SELECT pg_terminate_backend($1::integer)", &args,
					 SPI_OK_SELECT);
	}
	core_become_caller(&caller);
	core_spi_end();
	PG_RETURN_VOID();
}

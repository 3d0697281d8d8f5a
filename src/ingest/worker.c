/*-------------------------------------------------------------------------
 *
 * worker.c
 *		Streams that a background worker runs over and over.
 *
 * visage_start writes a row and registers a worker, which runs the procedure
 * visage_ingest as the one who started it, waits visage.stream_pause and
 * runs it again, for as long as the row is there.  A crawl that fails is in
 * visage.runs; the worker goes on with the next one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "core/core.h"
#include "core/settings.h"
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

/* What the worker is told, in the 128 bytes that there are. */
typedef struct Order
{
	Oid			role;
	TransactionId starter;		/* the transaction that wrote the row */
	char		stream[BGW_EXTRALEN - sizeof(Oid) - sizeof(TransactionId)];
} Order;

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

/* Is the stream still to be run?  Notes who runs it. */
static bool
is_wanted(const char *stream)
{
	CoreIdentity caller;
	CoreArgs	args = {0};
	bool		wanted;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	core_arg_text(&args, stream);
	core_spi_begin();
	core_become_owner(&caller);
	wanted = core_execute("UPDATE visage.stream_workers"
						  " SET pid = pg_backend_pid() WHERE stream = $1",
						  &args, SPI_OK_UPDATE) > 0;
	core_become_caller(&caller);
	core_spi_end();
	PopActiveSnapshot();
	CommitTransactionCommand();
	return wanted;
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
static void
crawl_once(const char *stream)
{
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
	}
	PG_END_TRY();
	MemoryContextSwitchTo(TopMemoryContext);
}

/* Entry point of the worker. */
void
visage_stream_main(Datum database)
{
	Order		order;

	memcpy(&order, MyBgworkerEntry->bgw_extra, sizeof(Order));
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(database),
											  order.role, 0);
	await_starter(order.starter);
	while (is_wanted(order.stream))
	{
		crawl_once(order.stream);
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 core_setting_int("visage.stream_pause") * 1000,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
	}
	proc_exit(0);
}

/* ---- starting and stopping ---- */

/* Registers the worker; ERROR where there is no room for it. */
static void
register_worker(const char *stream)
{
	BackgroundWorker worker = {0};
	BackgroundWorkerHandle *handle;
	Order		order = {.role = GetUserId(),
	.starter = GetCurrentTransactionId()};

	strlcpy(order.stream, stream, sizeof(order.stream));
	memcpy(worker.bgw_extra, &order, sizeof(Order));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_main_arg = ObjectIdGetDatum(MyDatabaseId);
	worker.bgw_notify_pid = MyProcPid;
	strlcpy(worker.bgw_library_name, "visage_net",
			sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "visage_stream_main",
			sizeof(worker.bgw_function_name));
	snprintf(worker.bgw_name, BGW_MAXLEN, "visage stream %s", stream);
	strlcpy(worker.bgw_type, "visage stream", BGW_MAXLEN);
	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("no worker is free for stream \"%s\"", stream),
				 errhint("Raise max_worker_processes.")));
}

/* The worker of the stream, where it lives; 0: none. */
static int64
living_worker(const char *stream)
{
	CoreArgs	args = {0};

	core_arg_text(&args, stream);
	return core_query_int8("SELECT a.pid::bigint FROM visage.stream_workers"
						   " AS w JOIN pg_stat_activity AS a ON a.pid = w.pid"
						   " AND a.backend_type = 'visage stream'"
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
	else
		register_worker(stream);
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
		memset(&args, 0, sizeof(args));
		core_arg_int8(&args, pid);
		core_execute("SELECT pg_terminate_backend($1::integer)", &args,
					 SPI_OK_SELECT);
	}
	core_become_caller(&caller);
	core_spi_end();
	PG_RETURN_VOID();
}

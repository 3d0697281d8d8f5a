/*-------------------------------------------------------------------------
 *
 * launcher.c
 *		Brings back what is to run, after a restart, a crash or an end.
 *
 * The launcher is a process of the server's, there when visage is in
 * shared_preload_libraries.  It goes through the databases when it starts,
 * when a worker has ended (the postmaster tells it, see bgw_notify_pid) and
 * every visage.launcher_pause, and has a short-lived process look into each:
 * where the extension is, that process calls visage.resume_workers(), which
 * knows what is to run and starts what does not.  So the launcher knows no
 * room, and holds no connection to any database.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "commands/extension.h"
#include "core/core.h"
#include "core/settings.h"
#include "core/shared.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "run/run.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define SHORTEST_PAUSE 2000		/* ms between two rounds */
#define RESTART 5				/* s after which the launcher is back */

PGDLLEXPORT void visage_launcher_main(Datum unused);
PGDLLEXPORT void visage_resume_main(Datum database);

/* ---- one database ---- */

/* Entry point of the process that looks into a database. */
void
visage_resume_main(Datum database)
{
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(database),
											  InvalidOid, 0);
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (OidIsValid(get_extension_oid("visage", true)))
	{
		CoreIdentity caller;

		core_spi_begin();
		core_become_owner(&caller);
		core_execute("SELECT visage.resume_workers()", NULL, SPI_OK_SELECT);
		core_become_caller(&caller);
		core_spi_end();
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
	proc_exit(0);
}

/* Has a process look into a database, and waits until it has. */
static void
look_into(Oid database)
{
	BackgroundWorker worker = {0};
	BackgroundWorkerHandle *handle;

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_main_arg = ObjectIdGetDatum(database);
	worker.bgw_notify_pid = MyProcPid;
	strlcpy(worker.bgw_library_name, "visage",
			sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "visage_resume_main",
			sizeof(worker.bgw_function_name));
	snprintf(worker.bgw_name, BGW_MAXLEN, "visage resume %u", database);
	strlcpy(worker.bgw_type, "visage resume", BGW_MAXLEN);
	/* without a free worker the next round tries again */
	if (RegisterDynamicBackgroundWorker(&worker, &handle))
		(void) WaitForBackgroundWorkerShutdown(handle);
}

/* ---- the launcher ---- */

/* The databases that can be connected to, but for templates. */
static List *
list_databases(void)
{
	List	   *databases = NIL;
	MemoryContext caller = CurrentMemoryContext;
	Relation	relation;
	TableScanDesc scan;
	HeapTuple	tuple;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	relation = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(relation, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);
		MemoryContext transaction;

		if (!form->datallowconn || form->datistemplate)
			continue;
		transaction = MemoryContextSwitchTo(caller);
		databases = lappend_oid(databases, form->oid);
		MemoryContextSwitchTo(transaction);
	}
	table_endscan(scan);
	table_close(relation, AccessShareLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	return databases;
}

/*
 * Waits until a worker has ended, or for the pause; at least a moment.  True
 * where one has.  The round behind that is followed by another one soon:
 * workers end together, and one that ends during a round is not told of.
 */
static bool
wait_for_round(bool soon)
{
	int			events;
	TimestampTz next = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
												   SHORTEST_PAUSE);

	events = WaitLatch(MyLatch,
					   WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					   soon ? SHORTEST_PAUSE :
					   core_setting_int("visage.launcher_pause") * 1000,
					   PG_WAIT_EXTENSION);
	for (;;)
	{
		long		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
														   next);

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (left <= 0)
			break;
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 left, PG_WAIT_EXTENSION);
	}
	return (events & WL_LATCH_SET) != 0;
}

/* Entry point of the launcher. */
void
visage_launcher_main(Datum unused)
{
	MemoryContext round;
	bool		woken = false;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	core_announce_launcher(MyProcPid);
	round = AllocSetContextCreate(TopMemoryContext, "visage launcher",
								  ALLOCSET_DEFAULT_SIZES);
	for (;;)
	{
		ListCell   *cell;

		MemoryContextSwitchTo(round);
		foreach(cell, list_databases())
			look_into(lfirst_oid(cell));
		MemoryContextReset(round);
		woken = wait_for_round(woken);
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
	}
}

/* Called when visage.so is loaded; does nothing in a running server. */
void
run_register_launcher(void)
{
	BackgroundWorker worker = {0};

	if (!process_shared_preload_libraries_in_progress)
		return;
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = RESTART;
	strlcpy(worker.bgw_library_name, "visage",
			sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "visage_launcher_main",
			sizeof(worker.bgw_function_name));
	strlcpy(worker.bgw_name, "visage launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "visage launcher", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}

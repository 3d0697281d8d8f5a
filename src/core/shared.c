/*-------------------------------------------------------------------------
 *
 * shared.c
 *		Reserves the shared memory of shared.h, in visage.so only.
 *
 * Without shared_preload_libraries there is none, and each session counts
 * for itself.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "core/shared.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"

static shmem_request_hook_type previous_request;
static shmem_startup_hook_type previous_startup;

static void
request(void)
{
	if (previous_request)
		previous_request();
	RequestAddinShmemSpace(MAXALIGN(sizeof(CoreSharedHosts)));
	RequestAddinShmemSpace(MAXALIGN(sizeof(CoreSharedLauncher)));
	RequestNamedLWLockTranche("visage hosts", 1);
}

static void
startup(void)
{
	CoreSharedHosts *shared;
	CoreSharedLauncher *launcher;
	bool		found;

	if (previous_startup)
		previous_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("visage hosts", sizeof(CoreSharedHosts), &found);
	if (!found)
	{
		memset(shared, 0, sizeof(CoreSharedHosts));
		shared->lock = &GetNamedLWLockTranche("visage hosts")->lock;
	}
	launcher = ShmemInitStruct("visage launcher", sizeof(CoreSharedLauncher),
							   &found);
	if (!found)
		pg_atomic_init_u32(&launcher->pid, 0);
	LWLockRelease(AddinShmemInitLock);
	*find_rendezvous_variable(CORE_SHARED_LAUNCHER) = launcher;
	*find_rendezvous_variable(CORE_SHARED_HOSTS) = shared;
}

/* The launcher says who it is. */
void
core_announce_launcher(int pid)
{
	CoreSharedLauncher *launcher =
	*find_rendezvous_variable(CORE_SHARED_LAUNCHER);

	pg_atomic_write_u32(&launcher->pid, pid);
}

/* Called when visage.so is loaded; does nothing in a running server. */
void
core_request_shared_memory(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	previous_request = shmem_request_hook;
	shmem_request_hook = request;
	previous_startup = shmem_startup_hook;
	shmem_startup_hook = startup;
}

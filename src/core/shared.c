/*-------------------------------------------------------------------------
 *
 * shared.c
 *		Memory that all sessions of the server share, in visage.so only.
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

#define MAX_PARTS 4

typedef struct SharedPart
{
	const char *name;
	size_t		size;
	void		(*begin) (void *memory);
	void	  **memory;
} SharedPart;

static SharedPart parts[MAX_PARTS];
static int	part_count = 0;
static shmem_request_hook_type previous_request;
static shmem_startup_hook_type previous_startup;

static void
request(void)
{
	if (previous_request)
		previous_request();
	for (int i = 0; i < part_count; i++)
		RequestAddinShmemSpace(MAXALIGN(parts[i].size));
	RequestNamedLWLockTranche(CORE_SHARED_HOSTS, 1);
}

static void
startup(void)
{
	if (previous_startup)
		previous_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	for (int i = 0; i < part_count; i++)
	{
		bool		found;

		*parts[i].memory = ShmemInitStruct(parts[i].name, parts[i].size,
										   &found);
		if (found)
			continue;
		memset(*parts[i].memory, 0, parts[i].size);
		parts[i].begin(*parts[i].memory);
	}
	LWLockRelease(AddinShmemInitLock);
}

/*
 * Asks for memory of this size, to be zeroed and given to begin once, and to
 * be found at *memory by all processes: while visage.so is preloaded, and
 * never in a running server.
 */
void
core_share(const char *name, size_t size, void (*begin) (void *memory),
		   void **memory)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	Assert(part_count < MAX_PARTS);
	parts[part_count++] = (SharedPart)
	{
		name, size, begin, memory
	};
}

static void
begin_hosts(void *memory)
{
	CoreSharedHosts *hosts = memory;

	hosts->lock = &GetNamedLWLockTranche(CORE_SHARED_HOSTS)->lock;
}

static void
begin_launcher(void *memory)
{
	CoreSharedLauncher *launcher = memory;

	pg_atomic_init_u32(&launcher->pid, 0);
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
	core_share(CORE_SHARED_HOSTS, sizeof(CoreSharedHosts), begin_hosts,
			   find_rendezvous_variable(CORE_SHARED_HOSTS));
	core_share(CORE_SHARED_LAUNCHER, sizeof(CoreSharedLauncher),
			   begin_launcher, find_rendezvous_variable(CORE_SHARED_LAUNCHER));
	previous_request = shmem_request_hook;
	shmem_request_hook = request;
	previous_startup = shmem_startup_hook;
	shmem_startup_hook = startup;
}

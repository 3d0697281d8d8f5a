/*-------------------------------------------------------------------------
 *
 * shared.h
 *		What all sessions of the server share, and know of the hosts they call.
 *
 * Made by visage.so when it is in shared_preload_libraries (shared.c); room
 * net finds it through a rendezvous variable and keeps a table of its own
 * session where it is not.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_SHARED_H
#define VISAGE_SHARED_H

#include "core/hosts.h"
#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "storage/lwlock.h"

#define CORE_SHARED_HOSTS "visage hosts"	/* the rendezvous variable */
#define CORE_MAX_HOSTS 512

typedef enum CoreBreakerState
{
	CORE_BREAKER_CLOSED,		/* calls go through */
	CORE_BREAKER_OPEN,			/* no call until retry_at */
	CORE_BREAKER_HALF_OPEN		/* one call tries whether it is well again */
} CoreBreakerState;

typedef struct CoreHostState
{
	char		name[CORE_HOST_MAX + 8];	/* "host:port", "" if unused */
	TimestampTz touched;
	TimestampTz next_at;		/* when the budget admits the next request */
	int			in_flight;
	CoreBreakerState breaker;
	int			failures;		/* in a row */
	int64		pause_ms;		/* how long it opens for */
	TimestampTz opened_at;
	TimestampTz retry_at;
	int			prober;			/* PID that tries whether it is well, 0: none */
	char		last_error[128];
} CoreHostState;

typedef struct CoreSharedHosts
{
	LWLock	   *lock;			/* NULL in a session's own table */
	CoreHostState hosts[CORE_MAX_HOSTS];
} CoreSharedHosts;

/* The launcher of room run, to be told when a worker ends. */
#define CORE_SHARED_LAUNCHER "visage launcher"	/* the rendezvous variable */

typedef struct CoreSharedLauncher
{
	pg_atomic_uint32 pid;		/* 0: none yet */
} CoreSharedLauncher;

extern void core_share(const char *name, size_t size,
					   void (*begin) (void *memory), void **memory);
extern void core_request_shared_memory(void);
extern void core_announce_launcher(int pid);

#endif							/* VISAGE_SHARED_H */

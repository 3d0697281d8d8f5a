/*-------------------------------------------------------------------------
 *
 * libpq_thread.c
 *		A thread beside the session, for what cannot be done without blocking.
 *
 * It takes no signal, touches nothing of the server and only memory of
 * malloc.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <pthread.h>
#include <signal.h>

#include "net/libpq.h"

/* Begins body(arg), to be waited for by nobody; false where it cannot. */
bool
libpq_start_thread(void *(*body) (void *arg), void *arg)
{
	pthread_t	thread;
	sigset_t	all;
	sigset_t	saved;
	int			failed;

	/* a thread inherits what is blocked */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &saved);
	failed = pthread_create(&thread, NULL, body, arg);
	pthread_sigmask(SIG_SETMASK, &saved, NULL);
	if (!failed)
		pthread_detach(thread);
	return !failed;
}

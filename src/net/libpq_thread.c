/*-------------------------------------------------------------------------
 *
 * libpq_thread.c
 *		A thread beside the session, for what cannot be done without blocking.
 *
 * It takes no signal, touches nothing of the server and only memory of
 * malloc.  What session and thread share begins with a LibpqShared; the
 * thread says by a pipe that it is done, and whoever is last frees it, so
 * that a session need not wait for its thread.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "net/libpq.h"

/*
 * Something to share, of this size and zeroed, which release is to rid of
 * what it holds; NULL where there is no room for it.
 */
void *
libpq_make_shared(size_t size, void (*release) (LibpqShared *shared))
{
	LibpqShared *shared = calloc(1, size);

	if (shared == NULL)
		return NULL;
	if (pipe2(shared->ends, O_CLOEXEC | O_NONBLOCK) != 0)
	{
		free(shared);
		return NULL;
	}
	pthread_mutex_init(&shared->mutex, NULL);
	shared->owners = 1;
	shared->release = release;
	return shared;
}

/* One of its owners needs it no longer. */
void
libpq_release(LibpqShared *shared)
{
	bool		last;

	pthread_mutex_lock(&shared->mutex);
	last = --shared->owners == 0;
	pthread_mutex_unlock(&shared->mutex);
	if (!last)
		return;
	shared->release(shared);
	close(shared->ends[0]);
	close(shared->ends[1]);
	pthread_mutex_destroy(&shared->mutex);
	free(shared);
}

/* The thread is done: tells the session, and releases what they share. */
void
libpq_end_thread(LibpqShared *shared)
{
	ssize_t		written = write(shared->ends[1], "", 1);

	(void) written;				/* the session does not wait for ever */
	libpq_release(shared);
}

/* Begins body(shared), which ends the thread; false where it cannot. */
bool
libpq_start_thread(void *(*body) (void *shared), LibpqShared *shared)
{
	pthread_t	thread;
	sigset_t	all;
	sigset_t	saved;
	int			failed;

	shared->owners = 2;
	/* a thread inherits what is blocked */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &saved);
	failed = pthread_create(&thread, NULL, body, shared);
	pthread_sigmask(SIG_SETMASK, &saved, NULL);
	if (failed)
		shared->owners = 1;
	else
		pthread_detach(thread);
	return !failed;
}

/*-------------------------------------------------------------------------
 *
 * libpq_cancel.c
 *		Cancels the statement that a source is running for us.
 *
 * A server notices that its client is gone when it sends something, which a
 * long statement does not for a long time.  So a connection that is closed
 * during a statement asks for its cancellation, by a connection of its own to
 * the same address.  libpq blocks while it does that: it runs in a thread,
 * for which the session waits a moment only, since it may be about to end.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <unistd.h>

#include "net/libpq.h"
#include "portability/instr_time.h"

#define LONGEST_WAIT_MS 500

/* libpq 17 sends the request encrypted where the connection was. */
#ifdef LIBPQ_HAS_ASYNC_CANCEL
typedef PGcancelConn Request;
#define make_request(conn) PQcancelCreate(conn)
#define free_request(request) PQcancelFinish(request)
#else
typedef PGcancel Request;
#define make_request(conn) PQgetCancel(conn)
#define free_request(request) PQfreeCancel(request)
#endif

typedef struct Cancellation
{
	pthread_mutex_t mutex;
	int			owners;			/* the session and the thread */
	Request    *request;
	int			ends[2];		/* of a pipe, closed when it is done */
} Cancellation;

static void
send_request(Request *request)
{
#ifdef LIBPQ_HAS_ASYNC_CANCEL
	(void) PQcancelBlocking(request);
#else
	char		error[256];

	(void) PQcancel(request, error, sizeof(error));
#endif
}

/* Frees it, when neither the session nor the thread needs it. */
static void
release(Cancellation *cancellation)
{
	bool		last;

	pthread_mutex_lock(&cancellation->mutex);
	last = --cancellation->owners == 0;
	pthread_mutex_unlock(&cancellation->mutex);
	if (!last)
		return;
	free_request(cancellation->request);
	close(cancellation->ends[0]);
	close(cancellation->ends[1]);
	pthread_mutex_destroy(&cancellation->mutex);
	free(cancellation);
}

/* The thread. */
static void *
cancel(void *arg)
{
	Cancellation *cancellation = arg;
	ssize_t		written;

	send_request(cancellation->request);
	written = write(cancellation->ends[1], "", 1);
	(void) written;				/* the session does not wait for long */
	release(cancellation);
	return NULL;
}

/*
 * Waits until the request is sent, for half a second at most.  Interrupts
 * wait as well: this is part of what they lead to.
 */
static void
wait_for(const Cancellation *cancellation)
{
	struct pollfd end = {.fd = cancellation->ends[0],.events = POLLIN};
	instr_time	start;
	instr_time	now;
	int			rest = LONGEST_WAIT_MS;

	INSTR_TIME_SET_CURRENT(start);
	while (rest > 0 && poll(&end, 1, rest) < 0)
	{
		INSTR_TIME_SET_CURRENT(now);
		INSTR_TIME_SUBTRACT(now, start);
		rest = LONGEST_WAIT_MS - (int) INSTR_TIME_GET_MILLISEC(now);
	}
}

/* Asks the source to end what it is doing; raises no ERROR. */
void
libpq_cancel(PGconn *conn)
{
	Cancellation *cancellation = calloc(1, sizeof(Cancellation));

	if (cancellation == NULL)
		return;
	if (pipe2(cancellation->ends, O_CLOEXEC | O_NONBLOCK) != 0)
	{
		free(cancellation);
		return;
	}
	pthread_mutex_init(&cancellation->mutex, NULL);
	cancellation->request = make_request(conn);
	cancellation->owners = 2;
	if (cancellation->request != NULL &&
		libpq_start_thread(cancel, cancellation))
		wait_for(cancellation);
	else
		release(cancellation);
	release(cancellation);
}

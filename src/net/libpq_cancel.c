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

#include <poll.h>

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
	LibpqShared shared;
	Request    *request;
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

static void
release(LibpqShared *shared)
{
	free_request(((Cancellation *) shared)->request);
}

/* The thread. */
static void *
cancel(void *arg)
{
	Cancellation *cancellation = arg;

	send_request(cancellation->request);
	libpq_end_thread(&cancellation->shared);
	return NULL;
}

/*
 * Waits until the request is sent, for half a second at most.  Interrupts
 * wait as well: this is part of what they lead to.
 */
static void
wait_for(const Cancellation *cancellation)
{
	struct pollfd end = {.fd = cancellation->shared.ends[0],.events = POLLIN};
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
	Cancellation *cancellation = libpq_make_shared(sizeof(Cancellation),
												   release);

	if (cancellation == NULL)
		return;
	cancellation->request = make_request(conn);
	if (cancellation->request != NULL &&
		libpq_start_thread(cancel, &cancellation->shared))
		wait_for(cancellation);
	libpq_release(&cancellation->shared);
}

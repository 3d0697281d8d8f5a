/*-------------------------------------------------------------------------
 *
 * libpq.h
 *		What the files of visage_postgres.so share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_LIBPQ_H
#define VISAGE_LIBPQ_H

#include <libpq-fe.h>
#include <pthread.h>

#include "net/database.h"
#include "net/libpq_lookup.h"
#include "utils/timestamp.h"

struct NetDatabaseLink
{
	PGconn	   *conn;
	PGresult   *result;			/* so that a reset frees it */
	LibpqLookup *lookup;
	bool		counted;		/* among the server's open files */
	char	   *message;		/* of a COPY */
	bool		at_start;		/* before its header */
	bool		at_end;
	int64		silence_ms;		/* how long a statement may bring nothing */
	size_t		max_row;
	NetDatabaseFailure failure;
	MemoryContextCallback cleanup;
};

/* libpq.c */
extern void libpq_fail(NetDatabaseLink *link, NetDatabaseTrouble trouble,
					   const char *message);
extern void libpq_wait(pgsocket socket, int event, int64 milliseconds);
extern int64 libpq_ms_until(TimestampTz end);

/* libpq_rows.c */
extern NetDatabaseResult *libpq_query(NetDatabaseLink *link, const char *sql);
extern bool libpq_begin_copy(NetDatabaseLink *link, const char *sql);
extern NetDatabaseRead libpq_read_copy(NetDatabaseLink *link,
									   NetDatabasePage *page, size_t wanted,
									   bool wait);

/* libpq_thread.c */
typedef struct LibpqShared
{
	pthread_mutex_t mutex;
	int			owners;			/* the session and the thread */
	int			ends[2];		/* of a pipe, readable when it is done */
	void		(*release) (struct LibpqShared *shared);
} LibpqShared;

extern void *libpq_make_shared(size_t size,
							   void (*release) (LibpqShared *shared));
extern void libpq_release(LibpqShared *shared);
extern void libpq_end_thread(LibpqShared *shared);
extern bool libpq_start_thread(void *(*body) (void *shared),
							   LibpqShared *shared);

/* libpq_cancel.c */
extern void libpq_cancel(PGconn *conn);

#endif							/* VISAGE_LIBPQ_H */

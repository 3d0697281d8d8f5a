/*-------------------------------------------------------------------------
 *
 * database.h
 *		What database.c and the driver of libpq share; stays in room net.
 *
 * The driver is a library of its own, visage_postgres.so, since libpq is
 * needed by nothing else.  It hands out one table of functions.  None of
 * them raises an ERROR but for an interrupt or for memory: what goes wrong
 * outside is told by the connection's failure.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_DATABASE_H
#define VISAGE_DATABASE_H

#include "net/net.h"

/* Both libraries are built from the same sources, or they do not fit. */
#define NET_DRIVER_LIBRARY "$libdir/visage_postgres"
#define NET_DRIVER_FUNCTION "visage_postgres_driver"

typedef enum NetDatabaseTrouble
{
	NET_DATABASE_REFUSED,		/* the guard let no address through */
	NET_DATABASE_UNREACHABLE,	/* it may be better the next time */
	NET_DATABASE_REJECTED,		/* the server does not take us */
	NET_DATABASE_LOST,			/* the connection broke, or went silent */
	NET_DATABASE_FAILED,		/* a statement did; sqlstate says how */
	NET_DATABASE_TOO_LARGE		/* a row over visage.max_record */
} NetDatabaseTrouble;

typedef struct NetDatabaseFailure
{
	NetDatabaseTrouble trouble;
	char		sqlstate[6];
	char		message[NET_MAX_REASON];
	char		detail[NET_MAX_REASON];
} NetDatabaseFailure;

typedef struct NetDatabaseLink NetDatabaseLink;

typedef enum NetDatabaseRead
{
	NET_READ_FULL,				/* the page has what was wanted */
	NET_READ_WAITING,			/* no more without waiting */
	NET_READ_END,				/* the last row is in the page */
	NET_READ_FAILED
} NetDatabaseRead;

typedef struct NetDatabaseDriver
{
	/* NULL, with the failure, where there is no connection. */
	NetDatabaseLink *(*open) (MemoryContext context,
							  const NetDatabaseOptions *options,
							  NetDatabaseFailure *failure);
	/* One statement, or several, whose last result is returned. */
	NetDatabaseResult *(*query) (NetDatabaseLink *link, const char *sql);
	/* Begins COPY … TO STDOUT (FORMAT binary). */
	bool		(*copy) (NetDatabaseLink *link, const char *sql);
	NetDatabaseRead (*read) (NetDatabaseLink *link, NetDatabasePage *page,
							 size_t wanted, bool wait);
	const NetDatabaseFailure *(*failure) (const NetDatabaseLink *link);
	void		(*close) (NetDatabaseLink *link);
} NetDatabaseDriver;

typedef const NetDatabaseDriver *(*NetDatabaseGetDriver) (void);

#endif							/* VISAGE_DATABASE_H */

/*-------------------------------------------------------------------------
 *
 * database.c
 *		Connections to PostgreSQL databases, by the driver that is loaded
 *		when the first one is asked for.
 *
 * What the driver tells of failures becomes ERRORs here.  A connection that
 * could not be made is tried again as an HTTP request is: with doubling
 * waits, under the breaker of its host.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "core/core.h"
#include "core/settings.h"
#include "miscadmin.h"
#include "net/budget.h"
#include "net/database.h"
#include "storage/latch.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

struct NetDatabase
{
	const NetDatabaseDriver *driver;
	NetDatabaseLink *link;
	const char *what;			/* as messages name it */
	bool		ended;			/* the COPY under way has brought its end */
	bool		failed;			/* which the next read is to report */
};

/* ---- the driver ---- */

/* Step of core_try. */
static void
load(void *arg)
{
	*(NetDatabaseGetDriver *) arg = (NetDatabaseGetDriver)
		load_external_function(NET_DRIVER_LIBRARY, NET_DRIVER_FUNCTION, true,
							   NULL);
}

/* The driver; where libpq is missing, the ERROR says so. */
static const NetDatabaseDriver *
driver(void)
{
	static NetDatabaseGetDriver get;
	ErrorData  *error;

	if (get != NULL)
		return get();
	error = core_try(load, &get);
	if (error != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FILE),
				 errmsg("library visage_postgres, which talks to PostgreSQL "
						"databases, cannot be loaded"),
				 errdetail("%s", error->message),
				 errhint("It needs libpq; on Debian, install package "
						 "libpq5.")));
	return get();
}

/* ---- failures ---- */

/* The ERROR of a connection that could not be made. */
static void
report_no_connection(const char *what, const NetDatabaseFailure *failure,
					 int attempts)
{
	if (failure->trouble == NET_DATABASE_REFUSED)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("%s may not be connected to: %s", what,
						failure->message),
				 errhint("A superuser can add the host to setting "
						 "visage.allowed_hosts.")));
	if (failure->trouble == NET_DATABASE_REJECTED)
		ereport(ERROR,
				(errcode(ERRCODE_SQLSERVER_REJECTED_ESTABLISHMENT_OF_SQLCONNECTION),
				 errmsg("%s does not take the connection", what),
				 errdetail("%s", failure->message)));
	ereport(ERROR,
			(errcode(ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION),
			 errmsg_plural("%s cannot be connected to, after %d attempt",
						   "%s cannot be connected to, after %d attempts",
						   attempts, what, attempts),
			 errdetail("%s", failure->message)));
}

/* The ERROR of a statement, or of the connection during one. */
static void
report_failure(const NetDatabase *database)
{
	const NetDatabaseFailure *failure =
	database->driver->failure(database->link);
	const char *state = failure->sqlstate;

	if (failure->trouble == NET_DATABASE_TOO_LARGE)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("%s: %s", database->what, failure->message)));
	if (failure->trouble != NET_DATABASE_FAILED || strlen(state) != 5)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("the connection to %s was lost", database->what),
				 errdetail("%s", failure->message)));
	ereport(ERROR,
			(errcode(MAKE_SQLSTATE(state[0], state[1], state[2], state[3],
								   state[4])),
			 errmsg("%s reports: %s", database->what, failure->message),
			 failure->detail[0] ? errdetail("%s", failure->detail) : 0));
}

/* ---- connecting ---- */

/* Waits, to be woken by an interrupt only. */
static void
pause_for(int64 milliseconds)
{
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
												  milliseconds);
	long		rest;

	while ((rest = TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
												   end)) > 0)
	{
		InvalidateCatalogSnapshot();
		CHECK_FOR_INTERRUPTS();
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT |
						 WL_EXIT_ON_PM_DEATH, rest, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* Waits for the host's breaker; ERROR where it stays open too long. */
static void
await_breaker(NetHostCall *call, const char *what)
{
	int64		wait;

	while ((wait = net_host_admit(call)) > 0)
	{
		if (wait > core_setting_int("visage.max_retry_wait") * 1000)
			ereport(ERROR,
					(errcode(ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION),
					 errmsg("%s cannot be connected to", what),
					 errdetail("The breaker of its host is open for longer "
							   "than setting visage.max_retry_wait.")));
		pause_for(wait);
	}
}

/*
 * One attempt, when the host's breaker lets it; NULL where it fails.  The
 * breaker hears of it, whatever becomes of it.
 */
static NetDatabaseLink *
try_to_open(MemoryContext context, NetDatabase *database,
			const NetDatabaseOptions *options, NetDatabaseFailure *failure)
{
	NetHostCall call = {.name = options->host,.port = options->port};
	NetDatabaseLink *link = NULL;

	await_breaker(&call, database->what);
	PG_TRY();
	{
		link = database->driver->open(context, options, failure);
	}
	PG_CATCH();
	{
		net_host_release(&call, NET_NO_VERDICT, NULL);
		PG_RE_THROW();
	}
	PG_END_TRY();
	if (link != NULL)
		net_host_release(&call, NET_SUCCESS, NULL);
	else if (failure->trouble == NET_DATABASE_REFUSED)
		net_host_release(&call, NET_NO_VERDICT, NULL);
	else
		net_host_release(&call, NET_FAILURE, failure->message);
	return link;
}

/* How long until the next attempt: doubling, half of it at random. */
static int64
retry_wait(int attempt)
{
	int64		delay = core_setting_int("visage.retry_delay");
	int64		longest = core_setting_int("visage.max_retry_wait") * 1000;

	delay = Min(delay << Min(attempt, 20), Max(longest, 1));
	return delay / 2 + (int64) (pg_prng_double(&pg_global_prng_state) *
								(delay / 2));
}

/*
 * Connects.  "what" names the source in messages, as in "source \"a\""; it
 * and the options must last as long as the context, which owns the
 * connection.
 */
NetDatabase *
net_database_open(MemoryContext context, const NetDatabaseOptions *options,
				  const char *what)
{
	int64		most = core_setting_int("visage.max_retries");
	NetDatabase *database = MemoryContextAllocZero(context,
												   sizeof(NetDatabase));

	database->driver = driver();
	database->what = what;
	for (int attempt = 0;; attempt++)
	{
		NetDatabaseFailure failure;

		database->link = try_to_open(context, database, options, &failure);
		if (database->link != NULL)
			return database;
		if (failure.trouble != NET_DATABASE_UNREACHABLE || attempt >= most)
			report_no_connection(what, &failure, attempt + 1);
		pause_for(retry_wait(attempt));
	}
}

/* Ends the connection before its memory context does. */
void
net_database_close(NetDatabase *database)
{
	database->driver->close(database->link);
}

/* ---- statements ---- */

/* Runs one statement, or several; the result is that of the last one. */
NetDatabaseResult *
net_database_query(NetDatabase *database, const char *sql)
{
	NetDatabaseResult *result = database->driver->query(database->link, sql);

	if (result == NULL)
		report_failure(database);
	return result;
}

/* Begins COPY … TO STDOUT (FORMAT binary). */
void
net_database_copy(NetDatabase *database, const char *sql)
{
	database->ended = database->failed = false;
	if (!database->driver->copy(database->link, sql))
		report_failure(database);
}

/*
 * Waits for rows of the COPY until the page has so many bytes; false where
 * the last one is in it.
 */
bool
net_database_read(NetDatabase *database, NetDatabasePage *page, size_t wanted)
{
	if (database->failed)
		report_failure(database);
	if (!database->ended)
		switch (database->driver->read(database->link, page, wanted, true))
		{
			case NET_READ_END:
				database->ended = true;
				break;
			case NET_READ_FAILED:
				report_failure(database);
				break;
			default:
				break;
		}
	return !database->ended;
}

/*
 * Takes in rows that are there, without waiting, so that the source goes on
 * while something else is done.  A failure is found by the next read.
 */
void
net_database_read_ahead(NetDatabase *database, NetDatabasePage *page,
						size_t wanted)
{
	if (!database->ended && !database->failed)
		database->failed = database->driver->read(database->link, page,
												  wanted, false) ==
			NET_READ_FAILED;
}

/*-------------------------------------------------------------------------
 *
 * libpq.c
 *		The driver of visage_postgres.so: connections through libpq.
 *
 * libpq is used without blocking, and every wait is one on the session's
 * latch.  Names are looked up by libpq_lookup.c, and libpq is given only
 * addresses that the guard has let through.  What libpq would take from the
 * server's environment or the home directory of its user (passwords,
 * services, certificates) is kept from it: each such option has a value of
 * its own, and the variables are away while libpq reads them.
 *
 * A connection belongs to a memory context: its reset callback closes it,
 * after an ERROR too.  No function of libpq calls back into the server.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <libpq-fe.h>

#include "core/core.h"
#include "core/settings.h"
#include "miscadmin.h"
#include "net/database.h"
#include "net/libpq_lookup.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

VISAGE_MODULE_MAGIC("visage_postgres");

PGDLLEXPORT void _PG_init(void);
PGDLLEXPORT const NetDatabaseDriver *visage_postgres_driver(void);

#define NOWHERE "/dev/null/none"	/* a file that cannot be there */
#define LONGEST_WAIT_MS 1000
#define COPY_SIGNATURE 11
#define COPY_HEADER 19

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

/* Settings live in visage.so. */
void
_PG_init(void)
{
	load_file("$libdir/visage", false);
}

/* ---- failures ---- */

/* Notes what went wrong; a line break at the end goes. */
static void
fail(NetDatabaseLink *link, NetDatabaseTrouble trouble, const char *message)
{
	NetDatabaseFailure *failure = &link->failure;
	size_t		len;

	failure->trouble = trouble;
	failure->sqlstate[0] = '\0';
	failure->detail[0] = '\0';
	strlcpy(failure->message, message, sizeof(failure->message));
	len = strlen(failure->message);
	while (len > 0 && failure->message[len - 1] == '\n')
		failure->message[--len] = '\0';
}

/* Copies a field of the source's error, "" where it has none. */
static void
take_field(char *to, size_t size, const PGresult *result, int code)
{
	const char *value = PQresultErrorField(result, code);

	strlcpy(to, value ? value : "", size);
}

/* Notes the failure of a statement. */
static void
fail_statement(NetDatabaseLink *link)
{
	NetDatabaseFailure *failure = &link->failure;

	fail(link, NET_DATABASE_FAILED, "");
	take_field(failure->sqlstate, sizeof(failure->sqlstate), link->result,
			   PG_DIAG_SQLSTATE);
	take_field(failure->message, sizeof(failure->message), link->result,
			   PG_DIAG_MESSAGE_PRIMARY);
	take_field(failure->detail, sizeof(failure->detail), link->result,
			   PG_DIAG_MESSAGE_DETAIL);
	/* one that libpq made up itself is about the connection */
	if (failure->sqlstate[0] == '\0')
		fail(link, NET_DATABASE_LOST, PQerrorMessage(link->conn));
}

/* ---- the environment ---- */

extern char **environ;

/* The variables that begin with PG, while they are away. */
typedef struct Environment
{
	int			count;
	char	   *saved[128];
} Environment;

static void
hide_environment(Environment *environment)
{
	environment->count = 0;
	for (char **variable = environ; *variable; variable++)
		if (strncmp(*variable, "PG", 2) == 0 &&
			environment->count < lengthof(environment->saved))
			environment->saved[environment->count++] = *variable;
	for (int i = 0; i < environment->count; i++)
	{
		char		name[128];
		size_t		len = strcspn(environment->saved[i], "=");

		if (len >= sizeof(name))
			continue;
		memcpy(name, environment->saved[i], len);
		name[len] = '\0';
		unsetenv(name);
	}
}

/* unsetenv leaves the strings alone, so they can be put back. */
static void
restore_environment(const Environment *environment)
{
	for (int i = 0; i < environment->count; i++)
		putenv(environment->saved[i]);
}

/* ---- waiting ---- */

static uint32
wait_event(void)
{
	static uint32 event = 0;

	if (event == 0)
		event = core_compat_wait_event("VisagePostgres");
	return event;
}

/*
 * Waits until the socket is ready, or a second has passed.  An ERROR for an
 * interrupt leaves from here.
 */
static void
wait_for_socket(pgsocket socket, int event, int64 milliseconds)
{
	InvalidateCatalogSnapshot();
	CHECK_FOR_INTERRUPTS();
	(void) WaitLatchOrSocket(MyLatch, event | WL_LATCH_SET | WL_TIMEOUT |
							 WL_EXIT_ON_PM_DEATH, socket,
							 Max(1, Min(milliseconds, LONGEST_WAIT_MS)),
							 wait_event());
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

static int64
milliseconds_until(TimestampTz end)
{
	return (end - GetCurrentTimestamp()) / 1000;
}

/* ---- opening ---- */

static void
close_link(NetDatabaseLink *link)
{
	if (link->result != NULL)
		PQclear(link->result);
	if (link->message != NULL)
		PQfreemem(link->message);
	if (link->conn != NULL)
		PQfinish(link->conn);
	if (link->lookup != NULL)
		libpq_end_lookup(link->lookup);
	if (link->counted)
		ReleaseExternalFD();
	link->result = NULL;
	link->message = NULL;
	link->conn = NULL;
	link->lookup = NULL;
	link->counted = false;
}

/* Reset callback of the link's memory context. */
static void
cleanup_link(void *arg)
{
	close_link(arg);
}

/* The addresses of the host that may be connected to, comma-separated. */
static char *
find_addresses(NetDatabaseLink *link, const NetDatabaseOptions *options,
			   TimestampTz end)
{
	const char *allowed = core_setting("visage.allowed_hosts");
	char		reason[NET_MAX_REASON];
	char	   *addresses;

	if (!libpq_host_allowed(allowed, options->host, options->port, reason,
							sizeof(reason)))
	{
		fail(link, NET_DATABASE_REFUSED, reason);
		return NULL;
	}
	link->lookup = libpq_begin_lookup(options->host, options->port);
	if (link->lookup == NULL)
	{
		fail(link, NET_DATABASE_UNREACHABLE,
			 "no thread for the look-up of a name could be started");
		return NULL;
	}
	while (!libpq_lookup_done(link->lookup))
	{
		if (milliseconds_until(end) <= 0)
		{
			fail(link, NET_DATABASE_UNREACHABLE,
				 "the look-up of the host's name took longer than "
				 "visage.connect_timeout");
			return NULL;
		}
		wait_for_socket(libpq_lookup_socket(link->lookup),
						WL_SOCKET_READABLE, milliseconds_until(end));
	}
	addresses = libpq_allowed_addresses(link->lookup, allowed, options->port,
										reason, sizeof(reason));
	if (addresses == NULL)
		fail(link, libpq_lookup_found(link->lookup) ? NET_DATABASE_REFUSED :
			 NET_DATABASE_UNREACHABLE, reason);
	libpq_end_lookup(link->lookup);
	link->lookup = NULL;
	return addresses;
}

/* The text as often as the list has parts, comma-separated. */
static char *
repeat_for(const char *text, const char *list)
{
	char	   *result = pstrdup(text);

	for (const char *c = list; *c; c++)
		if (*c == ',')
			result = psprintf("%s,%s", result, text);
	return result;
}

/* The parameters of a connection; libpq copies them. */
typedef struct Parameters
{
	const char *names[48];
	const char *values[48];
	int			count;
} Parameters;

static void
set(Parameters *parameters, const char *name, const char *value)
{
	Assert(parameters->count < lengthof(parameters->names) - 1);
	parameters->names[parameters->count] = name;
	parameters->values[parameters->count++] = value;
}

/* Where the authorities are that sign the source's certificate. */
static const char *
certificates(const NetDatabaseOptions *options)
{
	if (strncmp(options->tls, "verify-", 7) != 0)
		return NOWHERE;
	return options->certificates ? options->certificates :
		"/etc/ssl/certs/ca-certificates.crt";
}

/*
 * What libpq is told.  An option that is left out, or empty, would be taken
 * from the environment or from a file of the server's user.
 */
static void
set_parameters(Parameters *parameters, const NetDatabaseOptions *options,
			   const char *addresses)
{
	int64		idle = core_setting_int("visage.idle_timeout");

	memset(parameters, 0, sizeof(*parameters));
	/* libpq pairs the addresses with the hosts, for TLS */
	set(parameters, "host", repeat_for(options->host, addresses));
	set(parameters, "hostaddr", addresses);
	set(parameters, "port", psprintf("%d", options->port));
	set(parameters, "dbname", options->database);
	set(parameters, "user", options->user);
	set(parameters, "password", options->password);
	set(parameters, "passfile", NOWHERE);
	set(parameters, "client_encoding", "UTF8");
	set(parameters, "application_name", "visage");
	set(parameters, "sslmode", options->tls);
	set(parameters, "sslrootcert", certificates(options));
	set(parameters, "sslcert", NOWHERE);
	set(parameters, "sslkey", NOWHERE);
	set(parameters, "sslcrl", NOWHERE);
	set(parameters, "ssl_min_protocol_version", "TLSv1.2");
	set(parameters, "gssencmode", "disable");
	set(parameters, "channel_binding", "prefer");
	set(parameters, "target_session_attrs", "any");
	set(parameters, "keepalives", "1");
	set(parameters, "keepalives_idle",
		psprintf(INT64_FORMAT, Max(1, idle / 3)));
	set(parameters, "keepalives_interval",
		psprintf(INT64_FORMAT, Max(1, idle / 6)));
	set(parameters, "keepalives_count", "4");
	set(parameters, "tcp_user_timeout", psprintf(INT64_FORMAT, idle * 1000));
}

/* libpq's notices go nowhere. */
static void
ignore_notice(void *arg, const PGresult *result)
{
}

static bool
start_connection(NetDatabaseLink *link, const NetDatabaseOptions *options,
				 const char *addresses)
{
	Parameters	parameters;
	Environment environment;

	set_parameters(&parameters, options, addresses);
	link->counted = AcquireExternalFD();
	if (!link->counted)
	{
		fail(link, NET_DATABASE_UNREACHABLE,
			 "the session has too many open files");
		return false;
	}
	hide_environment(&environment);
	link->conn = PQconnectStartParams(parameters.names, parameters.values, 0);
	restore_environment(&environment);
	if (link->conn == NULL)
	{
		fail(link, NET_DATABASE_UNREACHABLE, "libpq is out of memory");
		return false;
	}
	if (PQstatus(link->conn) == CONNECTION_BAD)
	{
		fail(link, NET_DATABASE_UNREACHABLE, PQerrorMessage(link->conn));
		return false;
	}
	PQsetNoticeReceiver(link->conn, ignore_notice, NULL);
	return true;
}

/*
 * Is the failure one that stays?  A certificate or a password that is no good
 * does; a server that is starting, or has no room, says so before it asks.
 */
static bool
is_rejection(const PGconn *conn, ConnStatusType before)
{
	return before == CONNECTION_SSL_STARTUP || PQconnectionUsedPassword(conn);
}

static bool
finish_connection(NetDatabaseLink *link, TimestampTz end)
{
	PostgresPollingStatusType next = PGRES_POLLING_WRITING;

	while (next != PGRES_POLLING_OK)
	{
		ConnStatusType before = PQstatus(link->conn);
		Environment environment;

		if (milliseconds_until(end) <= 0)
		{
			fail(link, NET_DATABASE_UNREACHABLE,
				 "Timeout was reached: no connection within "
				 "visage.connect_timeout");
			return false;
		}
		wait_for_socket(PQsocket(link->conn),
						next == PGRES_POLLING_READING ? WL_SOCKET_READABLE :
						WL_SOCKET_WRITEABLE, milliseconds_until(end));
		hide_environment(&environment);
		next = PQconnectPoll(link->conn);
		restore_environment(&environment);
		if (next == PGRES_POLLING_FAILED)
		{
			fail(link, is_rejection(link->conn, before) ? NET_DATABASE_REJECTED :
				 NET_DATABASE_UNREACHABLE, PQerrorMessage(link->conn));
			return false;
		}
	}
	return true;
}

/* What a connection must be, once it is there. */
static bool
check_connection(NetDatabaseLink *link, const NetDatabaseOptions *options)
{
	if (options->needs_password && !PQconnectionUsedPassword(link->conn))
		fail(link, NET_DATABASE_REJECTED,
			 "the server did not ask for a password, and only a superuser "
			 "may use what it trusts");
	else if (PQserverVersion(link->conn) < 120000)
		fail(link, NET_DATABASE_REJECTED,
			 "the server is older than PostgreSQL 12");
	else if (PQsetnonblocking(link->conn, 1) != 0)
		fail(link, NET_DATABASE_LOST, PQerrorMessage(link->conn));
	else
		return true;
	return false;
}

static NetDatabaseLink *
open_link(MemoryContext context, const NetDatabaseOptions *options,
		  NetDatabaseFailure *failure)
{
	NetDatabaseLink *link = MemoryContextAllocZero(context,
												   sizeof(NetDatabaseLink));
	TimestampTz end =
	TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
								core_setting_int("visage.connect_timeout"));
	char	   *addresses;

	link->silence_ms = core_setting_int("visage.request_timeout") * 1000;
	link->max_row = (size_t) core_setting_int("visage.max_record") * 1024;
	link->cleanup.func = cleanup_link;
	link->cleanup.arg = link;
	MemoryContextRegisterResetCallback(context, &link->cleanup);
	addresses = find_addresses(link, options, end);
	if (addresses != NULL && start_connection(link, options, addresses) &&
		finish_connection(link, end) && check_connection(link, options))
		return link;
	*failure = link->failure;
	close_link(link);
	return NULL;
}

/* ---- statements ---- */

/* Waits for bytes of the source, and takes them in. */
static bool
wait_for_input(NetDatabaseLink *link, TimestampTz end)
{
	int			unsent = PQflush(link->conn);

	if (unsent < 0 || PQsocket(link->conn) < 0)
	{
		fail(link, NET_DATABASE_LOST, PQerrorMessage(link->conn));
		return false;
	}
	if (milliseconds_until(end) <= 0)
	{
		fail(link, NET_DATABASE_LOST, "Timeout was reached: nothing came for "
			 "visage.request_timeout");
		return false;
	}
	wait_for_socket(PQsocket(link->conn), WL_SOCKET_READABLE |
					(unsent ? WL_SOCKET_WRITEABLE : 0),
					milliseconds_until(end));
	if (!PQconsumeInput(link->conn))
	{
		fail(link, NET_DATABASE_LOST, PQerrorMessage(link->conn));
		return false;
	}
	return true;
}

static TimestampTz
end_of_silence(const NetDatabaseLink *link)
{
	return TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
									   link->silence_ms);
}

/*
 * The next result into link->result, which is NULL after the last one; false
 * where the connection is lost.
 */
static bool
next_result(NetDatabaseLink *link)
{
	TimestampTz end = end_of_silence(link);

	if (link->result != NULL)
		PQclear(link->result);
	link->result = NULL;
	while (PQisBusy(link->conn))
		if (!wait_for_input(link, end))
			return false;
	link->result = PQgetResult(link->conn);
	return true;
}

/* Takes what comes until nothing more does; the failure stays. */
static void
drain(NetDatabaseLink *link)
{
	NetDatabaseFailure failure = link->failure;

	while (link->result != NULL &&
		   PQresultStatus(link->result) != PGRES_COPY_OUT &&
		   next_result(link))
		continue;
	link->failure = failure;
}

static bool
send_statement(NetDatabaseLink *link, const char *sql)
{
	if (PQsendQuery(link->conn, sql))
		return true;
	fail(link, NET_DATABASE_LOST, PQerrorMessage(link->conn));
	return false;
}

static char *
copy_text(const char *text)
{
	return text ? pstrdup(text) : NULL;
}

/* The rows of link->result in the current memory context. */
static NetDatabaseResult *
copy_result(const NetDatabaseLink *link)
{
	const PGresult *from = link->result;
	NetDatabaseResult *result = palloc0(sizeof(NetDatabaseResult));
	int			columns = PQnfields(from);
	int			rows = PQntuples(from);

	result->columns = columns;
	result->rows = rows;
	result->names = palloc(sizeof(char *) * Max(columns, 1));
	result->types = palloc(sizeof(Oid) * Max(columns, 1));
	result->typmods = palloc(sizeof(int) * Max(columns, 1));
	result->values = palloc_extended(sizeof(char *) *
									 Max((Size) columns * rows, 1),
									 MCXT_ALLOC_HUGE);
	for (int c = 0; c < columns; c++)
	{
		result->names[c] = copy_text(PQfname(from, c));
		result->types[c] = PQftype(from, c);
		result->typmods[c] = PQfmod(from, c);
		for (int r = 0; r < rows; r++)
			result->values[(Size) r * columns + c] =
				PQgetisnull(from, r, c) ? NULL :
				copy_text(PQgetvalue(from, r, c));
	}
	return result;
}

static NetDatabaseResult *
run_query(NetDatabaseLink *link, const char *sql)
{
	NetDatabaseResult *result = palloc0(sizeof(NetDatabaseResult));

	if (!send_statement(link, sql))
		return NULL;
	while (next_result(link))
	{
		if (link->result == NULL)
			return result;
		switch (PQresultStatus(link->result))
		{
			case PGRES_TUPLES_OK:
				result = copy_result(link);
				break;
			case PGRES_COMMAND_OK:
			case PGRES_EMPTY_QUERY:
				break;
			default:
				fail_statement(link);
				drain(link);
				return NULL;
		}
	}
	return NULL;
}

/* ---- COPY ---- */

static bool
begin_copy(NetDatabaseLink *link, const char *sql)
{
	if (!send_statement(link, sql) || !next_result(link))
		return false;
	link->at_start = true;
	link->at_end = false;
	if (link->result != NULL &&
		PQresultStatus(link->result) == PGRES_COPY_OUT)
		return true;
	if (link->result != NULL && PQresultStatus(link->result) ==
		PGRES_FATAL_ERROR)
		fail_statement(link);
	else
		fail(link, NET_DATABASE_LOST, "the source began no COPY");
	drain(link);
	return false;
}

/* Makes room for a row more. */
static void
widen_page(NetDatabasePage *page, size_t more)
{
	size_t		needed = page->length + more + 1;

	if (needed > page->allocated)
	{
		page->allocated = Max(needed, page->allocated * 3 / 2);
		page->data = page->data ?
			repalloc_huge(page->data, page->allocated) :
			MemoryContextAllocHuge(page->context, page->allocated);
	}
	if (page->count + 2 > page->starts_allocated)
	{
		page->starts_allocated = Max(1024, page->starts_allocated * 2);
		page->starts = page->starts ?
			repalloc_huge(page->starts,
						  sizeof(size_t) * page->starts_allocated) :
			MemoryContextAllocHuge(page->context, sizeof(size_t) *
								   page->starts_allocated);
		page->starts[page->count] = page->length;
	}
}

/*
 * One message of COPY: a row, the first one behind the header, or the mark of
 * the end, which has no row.  False where it is none of these.
 */
static bool
take_message(NetDatabaseLink *link, NetDatabasePage *page,
			 const char *message, size_t length)
{
	static const char end_mark[2] = {'\xff', '\xff'};

	if (link->at_start)
	{
		if (length < COPY_HEADER ||
			memcmp(message, "PGCOPY\n\377\r\n\0", COPY_SIGNATURE) != 0 ||
			memcmp(message + COPY_SIGNATURE, "\0\0\0\0\0\0\0\0", 8) != 0)
			return false;
		message += COPY_HEADER;
		length -= COPY_HEADER;
		link->at_start = false;
	}
	if (length == 0 ||
		(length == 2 && memcmp(message, end_mark, 2) == 0))
		return true;
	memcpy(page->data + page->length, message, length);
	page->starts[page->count++] = page->length;
	page->length += length;
	page->starts[page->count] = page->length;
	return true;
}

/*
 * The next message of the COPY into link->message, which a reset frees, with
 * its length; 0: no more without waiting, -1: the end, -2: a failure.
 */
static int
next_message(NetDatabaseLink *link)
{
	int			length;

	if (link->message != NULL)
		PQfreemem(link->message);
	link->message = NULL;
	if (link->at_end)
		return -1;
	length = PQgetCopyData(link->conn, &link->message, 1);
	link->at_end = length == -1;
	if (length == -2)
		fail(link, NET_DATABASE_LOST, PQerrorMessage(link->conn));
	if (length > 0 && (size_t) length > link->max_row)
	{
		fail(link, NET_DATABASE_TOO_LARGE,
			 "a row is larger than visage.max_record");
		return -2;
	}
	return length;
}

/* What is there of the COPY, as far as it is wanted. */
static NetDatabaseRead
take_rows(NetDatabaseLink *link, NetDatabasePage *page, size_t wanted)
{
	while (page->length < wanted)
	{
		int			length = next_message(link);

		if (length == 0)
			return NET_READ_WAITING;
		if (length < 0)
			return length == -1 ? NET_READ_END : NET_READ_FAILED;
		widen_page(page, length);
		if (!take_message(link, page, link->message, length))
		{
			fail(link, NET_DATABASE_LOST,
				 "what came is not PostgreSQL's binary COPY");
			return NET_READ_FAILED;
		}
	}
	return NET_READ_FULL;
}

/* The COPY has come to an end: was it a good one? */
static NetDatabaseRead
end_copy(NetDatabaseLink *link)
{
	NetDatabaseRead state = NET_READ_FAILED;

	if (!next_result(link))
		return NET_READ_FAILED;
	if (link->result != NULL &&
		PQresultStatus(link->result) == PGRES_COMMAND_OK)
		state = NET_READ_END;
	else if (link->result != NULL)
		fail_statement(link);
	else
		fail(link, NET_DATABASE_LOST, "the source ended its COPY early");
	drain(link);
	return state;
}

/*
 * Appends rows to the page until it has so many bytes.  Without waiting it
 * takes what is there.
 */
static NetDatabaseRead
read_copy(NetDatabaseLink *link, NetDatabasePage *page, size_t wanted,
		  bool wait)
{
	TimestampTz end = wait ? end_of_silence(link) : 0;
	bool		fresh = false;

	for (;;)
	{
		NetDatabaseRead state = take_rows(link, page, wanted);

		if (state == NET_READ_FULL)
			return state;
		if (state == NET_READ_END)
			/* waits for the end of the statement */
			return wait ? end_copy(link) : NET_READ_WAITING;
		if (state == NET_READ_FAILED)
			return state;
		if (!wait)
		{
			if (fresh || !PQconsumeInput(link->conn))
				return NET_READ_WAITING;
			fresh = true;
			continue;
		}
		if (!wait_for_input(link, end))
			return NET_READ_FAILED;
		end = end_of_silence(link);
	}
}

static const NetDatabaseFailure *
link_failure(const NetDatabaseLink *link)
{
	return &link->failure;
}

/* What visage_net.so asks for. */
const NetDatabaseDriver *
visage_postgres_driver(void)
{
	static const NetDatabaseDriver driver = {
		open_link, run_query, begin_copy, read_copy, link_failure, close_link
	};

	return &driver;
}

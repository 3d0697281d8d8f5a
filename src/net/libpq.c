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

#include "core/core.h"
#include "core/settings.h"
#include "miscadmin.h"
#include "net/libpq.h"
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

/* Settings live in visage.so. */
void
_PG_init(void)
{
	load_file("$libdir/visage", false);
}

/* ---- failures ---- */

/* Notes what went wrong; a line break at the end goes. */
void
libpq_fail(NetDatabaseLink *link, NetDatabaseTrouble trouble, const char *message)
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
void
libpq_wait(pgsocket socket, int event, int64 milliseconds)
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

int64
libpq_ms_until(TimestampTz end)
{
	return (end - GetCurrentTimestamp()) / 1000;
}

/* ---- opening ---- */

static void
close_link(NetDatabaseLink *link)
{
	if (link->conn != NULL && PQstatus(link->conn) == CONNECTION_OK &&
		PQtransactionStatus(link->conn) == PQTRANS_ACTIVE)
		libpq_cancel(link->conn);
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
		libpq_fail(link, NET_DATABASE_REFUSED, reason);
		return NULL;
	}
	link->lookup = libpq_begin_lookup(options->host, options->port);
	if (link->lookup == NULL)
	{
		libpq_fail(link, NET_DATABASE_UNREACHABLE,
				   "no thread for the look-up of a name could be started");
		return NULL;
	}
	while (!libpq_lookup_done(link->lookup))
	{
		if (libpq_ms_until(end) <= 0)
		{
			libpq_fail(link, NET_DATABASE_UNREACHABLE,
					   "the look-up of the host's name took longer than "
					   "visage.connect_timeout");
			return NULL;
		}
		libpq_wait(libpq_lookup_socket(link->lookup),
				   WL_SOCKET_READABLE, libpq_ms_until(end));
	}
	addresses = libpq_allowed_addresses(link->lookup, allowed, options->port,
										reason, sizeof(reason));
	if (addresses == NULL)
		libpq_fail(link, libpq_lookup_found(link->lookup) ? NET_DATABASE_REFUSED :
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
	const char *ours = core_setting("visage.ssl_ca_file");

	if (strncmp(options->tls, "verify-", 7) != 0)
		return NOWHERE;
	if (options->certificates != NULL)
		return options->certificates;
	return ours[0] != '\0' ? ours : "/etc/ssl/certs/ca-certificates.crt";
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
		libpq_fail(link, NET_DATABASE_UNREACHABLE,
				   "the session has too many open files");
		return false;
	}
	hide_environment(&environment);
	link->conn = PQconnectStartParams(parameters.names, parameters.values, 0);
	restore_environment(&environment);
	if (link->conn == NULL)
	{
		libpq_fail(link, NET_DATABASE_UNREACHABLE, "libpq is out of memory");
		return false;
	}
	if (PQstatus(link->conn) == CONNECTION_BAD)
	{
		libpq_fail(link, NET_DATABASE_UNREACHABLE, PQerrorMessage(link->conn));
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

		if (libpq_ms_until(end) <= 0)
		{
			libpq_fail(link, NET_DATABASE_UNREACHABLE,
					   "Timeout was reached: no connection within "
					   "visage.connect_timeout");
			return false;
		}
		libpq_wait(PQsocket(link->conn),
				   next == PGRES_POLLING_READING ? WL_SOCKET_READABLE :
				   WL_SOCKET_WRITEABLE, libpq_ms_until(end));
		hide_environment(&environment);
		next = PQconnectPoll(link->conn);
		restore_environment(&environment);
		if (next == PGRES_POLLING_FAILED)
		{
			libpq_fail(link, is_rejection(link->conn, before) ? NET_DATABASE_REJECTED :
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
		libpq_fail(link, NET_DATABASE_REJECTED,
				   "the server did not ask for a password, and only a superuser "
				   "may use what it trusts");
	else if (PQserverVersion(link->conn) < 120000)
		libpq_fail(link, NET_DATABASE_REJECTED,
				   "the server is older than PostgreSQL 12");
	else if (PQsetnonblocking(link->conn, 1) != 0)
		libpq_fail(link, NET_DATABASE_LOST, PQerrorMessage(link->conn));
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

/* ---- the driver ---- */

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
		open_link, libpq_query, libpq_begin_copy, libpq_read_copy, link_failure, close_link
	};

	return &driver;
}

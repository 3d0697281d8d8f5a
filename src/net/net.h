/*-------------------------------------------------------------------------
 *
 * net.h
 *		HTTP for the rooms that talk to the outside.
 *
 * A session keeps connections alive and drives any number of transfers.  A
 * transfer is one request with its redirects, until net_again asks for it
 * again or net_end gives it up; it begins when the host's budget and breaker
 * let it.  Nothing moves but inside net_wait and net_kick, so a caller may
 * commit, or raise an ERROR, between any two calls.
 *
 *	session = net_open(context, &limits);
 *	transfer = net_start(session, request);
 *	net_wait(transfer);				until it is done or its buffer is full
 *	data = net_data(transfer, &length);  net_consume(transfer, length);
 *	net_end(transfer);
 *
 * The caller of net_wait must hold no snapshot, no lock and no transaction
 * id.  An ERROR is raised for an interrupt only; what goes wrong outside is
 * told by net_outcome.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_NET_H
#define VISAGE_NET_H

#include "postgres.h"

#include "utils/jsonb.h"

#define NET_MAX_HEADERS 32
#define NET_MAX_REASON 512

typedef struct NetHeader
{
	char	   *line;			/* "Name: value" */
	bool		credential;		/* dropped when a redirect leaves the host */
} NetHeader;

typedef struct NetRequest
{
	const char *method;			/* GET or POST */
	char	   *url;			/* as messages may show it */
	char	   *secret_query;	/* "name=value" to add to it, or NULL */
	NetHeader	headers[NET_MAX_HEADERS];
	int			header_count;
	char	   *body;			/* of a POST; must outlive the transfer */
} NetRequest;

/* What a host allows; zeros where there is no limit. */
typedef struct NetLimits
{
	int			requests;
	int64		per_ms;
	int			concurrent;
	char	   *remaining_header;
	size_t		buffer;			/* bytes a transfer holds before it pauses */
} NetLimits;

typedef enum NetOutcome
{
	NET_ANSWERED,				/* there is a status and a body */
	NET_REFUSED,				/* the guard did not let the request out */
	NET_UNUSABLE,				/* too large, or redirected in circles */
	NET_FAILED					/* no answer, or one cut off */
} NetOutcome;

typedef struct NetSession NetSession;
typedef struct NetTransfer NetTransfer;

/* session.c */
extern NetSession *net_open(MemoryContext context, const NetLimits *limits);
extern bool net_wait(NetTransfer *transfer);
extern void net_kick(NetSession *session);

/* transfer.c */
extern NetTransfer *net_start(NetSession *session, const NetRequest *request);
extern void net_again(NetTransfer *transfer, const NetRequest *request,
					  int64 wait_ms);
extern void net_end(NetTransfer *transfer);
extern bool net_is_done(const NetTransfer *transfer);
extern NetOutcome net_outcome(const NetTransfer *transfer);
extern const char *net_reason(const NetTransfer *transfer);
extern int	net_status(const NetTransfer *transfer);
extern int	net_attempts(const NetTransfer *transfer);
extern char *net_data(const NetTransfer *transfer, size_t *length);
extern void net_consume(NetTransfer *transfer, size_t length);
extern void net_widen(NetTransfer *transfer);
extern const char *net_header(const NetTransfer *transfer, const char *name);
extern int64 net_retry_after(const NetTransfer *transfer);
extern char *net_date(const NetTransfer *transfer);
extern char *net_next_link(const NetTransfer *transfer, const char *rel);
extern char *net_resolve_url(const char *base, const char *reference);
extern bool net_same_origin(const char *a, const char *b);

/* sign.c */
extern char *net_base64url(const void *data, size_t length);
extern char *net_base64(const void *data, size_t length);
extern char *net_sign_rs256(const char *private_key, const char *text);

/* vault.c */
extern void net_check_secret(const char *name, const char *reference);
extern bool net_store_secret(const char *name, const char *value,
							 bool replace);
extern void net_forget_secrets(const char *source);
extern Jsonb *net_open_secrets(Jsonb *references);

/*
 * database.c: a PostgreSQL database, through libpq.
 *
 * A connection belongs to a memory context, whose reset closes it.  The
 * functions that wait hold nothing, as net_wait does, and raise what goes
 * wrong as an ERROR.
 */
typedef struct NetDatabaseOptions
{
	const char *host;
	int			port;
	const char *database;
	const char *user;
	const char *password;		/* NULL: none */
	bool		needs_password; /* one that the server does not ask for is no
								 * good */
	const char *tls;			/* libpq's sslmode */
	const char *certificates;	/* a file of authorities, NULL: the system's */
} NetDatabaseOptions;

/* The result of a statement, in the memory context of the call. */
typedef struct NetDatabaseResult
{
	int			columns;
	int			rows;
	char	  **names;
	Oid		   *types;
	int		   *typmods;
	char	  **values;			/* row by row; NULL: null */
} NetDatabaseResult;

/* Rows of a COPY in the binary format, each with its number of fields. */
typedef struct NetDatabasePage
{
	char	   *data;			/* a byte more than length is allocated */
	size_t		length;
	size_t		allocated;
	size_t	   *starts;			/* of the rows, and the end of the last */
	int			count;
	int			starts_allocated;
	MemoryContext context;
} NetDatabasePage;

typedef struct NetDatabase NetDatabase;

extern NetDatabase *net_database_open(MemoryContext context,
									  const NetDatabaseOptions *options,
									  const char *what);
extern NetDatabaseResult *net_database_query(NetDatabase *database,
											 const char *sql);
extern void net_database_copy(NetDatabase *database, const char *sql);
extern bool net_database_read(NetDatabase *database, NetDatabasePage *page,
							  size_t wanted);
extern void net_database_read_ahead(NetDatabase *database,
									NetDatabasePage *page, size_t wanted);
extern void net_database_close(NetDatabase *database);

#endif							/* VISAGE_NET_H */

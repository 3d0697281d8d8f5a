/*-------------------------------------------------------------------------
 *
 * net.h
 *		HTTP for the rooms that talk to the outside.
 *
 * A session keeps connections alive between requests.  net_fetch makes one
 * request, with its redirects and repetitions, and returns when there is an
 * answer or no hope of one; it raises an ERROR only for an interrupt.  Its
 * caller must hold no snapshot, no lock and no transaction id.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_NET_H
#define VISAGE_NET_H

#include "postgres.h"

#define NET_MAX_HEADERS 16
#define NET_MAX_STATUSES 16
#define NET_MAX_REASON 512

typedef struct NetHeader
{
	char	   *line;			/* "Name: value" */
	bool		credential;		/* dropped when a redirect leaves the host */
} NetHeader;

typedef struct NetRequest
{
	char	   *url;
	NetHeader	headers[NET_MAX_HEADERS];
	int			header_count;
	int			retry_statuses[NET_MAX_STATUSES];
	int			retry_status_count;
} NetRequest;

typedef enum NetOutcome
{
	NET_ANSWERED,				/* there is a status and a body */
	NET_REFUSED,				/* the guard did not let the request out */
	NET_UNUSABLE,				/* too large, or redirected in circles */
	NET_FAILED					/* no answer, or one cut off */
} NetOutcome;

typedef struct NetResponse
{
	int			status;
	char	   *body;			/* until the session's next fetch */
	size_t		length;
	int			attempts;
	char		reason[NET_MAX_REASON]; /* unless NET_ANSWERED */
} NetResponse;

typedef struct NetSession NetSession;


extern NetSession *net_open(MemoryContext context);
extern NetOutcome net_fetch(NetSession *session, const NetRequest *request,
							NetResponse *response);

#endif							/* VISAGE_NET_H */

/*-------------------------------------------------------------------------
 *
 * transfer.h
 *		What session.c, transfer.c and budget.c share; stays in room net.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_TRANSFER_H
#define VISAGE_TRANSFER_H

#include <curl/curl.h>
#include <signal.h>

#include "lib/ilist.h"
#include "net/budget.h"
#include "net/guard.h"
#include "net/net.h"
#include "utils/timestamp.h"

#define NET_MAX_SOCKETS 128

typedef enum TransferState
{
	TRANSFER_WAITING,			/* for not_before, the budget, the breaker */
	TRANSFER_RUNNING,
	TRANSFER_DONE
} TransferState;

typedef struct NetSocket
{
	curl_socket_t fd;
	int			what;			/* CURL_POLL_… */
} NetSocket;

struct NetSession
{
	MemoryContext context;
	CURLM	   *multi;
	char	   *allowed;		/* visage.allowed_hosts at the start */
	NetLimits	limits;
	dlist_head	transfers;
	NetSocket	sockets[NET_MAX_SOCKETS];
	int			socket_count;
	bool		timer_set;
	TimestampTz timer_at;
	size_t		body_limit;
	int64		idle_limit_ms;
	MemoryContextCallback cleanup;
};

/*
 * The strings are malloc'ed and the buffer too: callbacks of libcurl write
 * them, and a transfer outlives the memory context that it began in.
 */
struct NetTransfer
{
	dlist_node	node;
	NetSession *session;
	TransferState state;
	CURL	   *easy;
	NetGuard	guard;			/* of the hop under way */
	NetGuard	first;			/* of the first hop */
	bool		attached;		/* to the multi handle */
	bool		admitted;		/* counted in the host's requests under way */
	bool		probing;		/* tries whether the host is well again */
	bool		paused;
	struct curl_slist *all_headers;
	struct curl_slist *public_headers;	/* without credentials */
	char	   *url;
	char	   *body;
	bool		post;
	int			hops;
	TimestampTz not_before;
	int64		idle_ms;		/* waited without a byte */
	int			attempts;
	NetOutcome	outcome;
	int			status;
	char		reason[NET_MAX_REASON];
	char	   *data;			/* what came and was not consumed yet */
	size_t		length;
	size_t		allocated;
	size_t		high_water;		/* pauses when so much is held */
	size_t		received;		/* in all */
	bool		over_limit;
	bool		out_of_memory;
};

/* transfer.c */
extern void net_begin_hop(NetTransfer *transfer);
extern void net_finish_hop(NetTransfer *transfer, CURLcode result);
extern void net_fail(NetTransfer *transfer, NetOutcome outcome,
					 const char *reason);
extern void net_destroy(NetTransfer *transfer);
extern void net_block_signals(sigset_t *saved);
extern void net_restore_signals(const sigset_t *saved);

/* budget.c */
extern int64 net_admit(NetTransfer *transfer);
extern void net_release(NetTransfer *transfer, NetVerdict verdict);
extern void net_take_remaining(NetTransfer *transfer);

#endif							/* VISAGE_TRANSFER_H */

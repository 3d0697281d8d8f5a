/*-------------------------------------------------------------------------
 *
 * budget.h
 *		How a call went, and the breaker of a host that is not called by
 *		HTTP; see budget.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_BUDGET_H
#define VISAGE_BUDGET_H

/* What the end of a call says of its host. */
typedef enum NetVerdict
{
	NET_NO_VERDICT,				/* nothing: it was given up */
	NET_SUCCESS,
	NET_FAILURE
} NetVerdict;

/* A connection that is being made. */
typedef struct NetHostCall
{
	const char *name;
	int			port;
	bool		probing;		/* tries whether the host is well again */
} NetHostCall;

extern int64 net_host_admit(NetHostCall *call);
extern void net_host_release(NetHostCall *call, NetVerdict verdict,
							 const char *error);

#endif							/* VISAGE_BUDGET_H */

/*-------------------------------------------------------------------------
 *
 * budget.h
 *		The breaker of a host that is not called by HTTP; see budget.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_BUDGET_H
#define VISAGE_BUDGET_H

extern int64 net_host_wait(const char *name, int port);
extern void net_host_report(const char *name, int port, const char *error);

#endif							/* VISAGE_BUDGET_H */

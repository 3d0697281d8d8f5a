/*-------------------------------------------------------------------------
 *
 * guard.h
 *		Which hosts and addresses may be called; see guard.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_GUARD_H
#define VISAGE_GUARD_H

#include <curl/curl.h>

#include "core/hosts.h"

typedef struct NetGuard
{
	char	   *allowed;		/* visage.allowed_hosts at the run's start */
	char		host[CORE_HOST_MAX + 1];
	int			port;
	bool		https;
	char		denied[INET6_ADDRSTRLEN];	/* the address not let through */
} NetGuard;

extern bool net_guard_url(NetGuard *guard, const char *url, char *reason,
						  size_t size);
extern curl_socket_t net_guard_socket(void *arg, curlsocktype purpose,
									  struct curl_sockaddr *address);

#endif							/* VISAGE_GUARD_H */

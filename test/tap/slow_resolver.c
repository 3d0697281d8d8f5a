/*
 * A name server that never answers, for a host called *.blackhole.example:
 * loaded into the server before libc, so that the look-up hangs where a real
 * one would.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>

int
getaddrinfo(const char *node, const char *service,
			const struct addrinfo *hints, struct addrinfo **result)
{
	int			(*next) (const char *, const char *, const struct addrinfo *,
						 struct addrinfo **);

	if (node != NULL && strstr(node, ".blackhole.example") != NULL)
		for (;;)
			sleep(3600);
	next = dlsym(RTLD_NEXT, "getaddrinfo");
	return next(node, service, hints, result);
}

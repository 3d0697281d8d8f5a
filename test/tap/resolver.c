/*
 * A name server of the tests': loaded into the server before libc, so that
 * look-ups end where it says.
 *
 *	*.blackhole.example		never answers
 *	*.address.example		the address in front, between an a and a z; '-'
 *							stands for ':', as in afe80--1z.address.example
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int
getaddrinfo(const char *node, const char *service,
			const struct addrinfo *hints, struct addrinfo **result)
{
	int			(*next) (const char *, const char *, const struct addrinfo *,
						 struct addrinfo **) = dlsym(RTLD_NEXT, "getaddrinfo");
	const char *end = node ? strstr(node, ".address.example") : NULL;
	struct addrinfo numeric = {.ai_flags = AI_NUMERICHOST,.ai_socktype = SOCK_STREAM};
	char		address[64];

	if (node != NULL && strstr(node, ".blackhole.example") != NULL)
		for (;;)
			sleep(3600);
	if (end == NULL)
		return next(node, service, hints, result);
	snprintf(address, sizeof(address), "%.*s", (int) (end - node) - 2, node + 1);
	for (char *c = address; *c; c++)
		if (*c == '-')
			*c = ':';
	return next(address, service, &numeric, result);
}

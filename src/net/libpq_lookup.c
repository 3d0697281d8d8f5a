/*-------------------------------------------------------------------------
 *
 * libpq_lookup.c
 *		Names to addresses for libpq.c, without blocking, past the guard.
 *
 * getaddrinfo can take minutes and cannot be interrupted, so it runs in a
 * thread (libpq_thread.c), which a session that is cancelled leaves alone.
 *
 * The guard is that of HTTP (guard.c): the host must be in
 * visage.allowed_hosts, and an address that is private there as an address.
 * libpq connects to the addresses that are returned here and to no others.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>

#include "core/hosts.h"
#include "lib/stringinfo.h"
#include "net/libpq.h"

#define MAX_ADDRESSES 16

struct LibpqLookup
{
	LibpqShared shared;
	bool		done;
	int			code;			/* of getaddrinfo */
	struct addrinfo *found;
	char		host[CORE_HOST_MAX + 1];
	char		port[8];
};

/* Is the host listed, by its name or as the address that it is? */
bool
libpq_host_allowed(const char *allowed, const char *host, int port,
				   char *reason, size_t size)
{
	unsigned char address[16];
	bool		literal = core_parse_address(host, address);

	if (strlen(host) <= CORE_HOST_MAX &&
		core_host_listed(allowed, literal ? NULL : host,
						 literal ? address : NULL, port))
		return true;
	snprintf(reason, size, "host \"%s\", port %d, is not in setting "
			 "visage.allowed_hosts", host, port);
	return false;
}

static void
release(LibpqShared *shared)
{
	LibpqLookup *lookup = (LibpqLookup *) shared;

	if (lookup->found != NULL)
		freeaddrinfo(lookup->found);
}

/* The thread. */
static void *
look_up(void *arg)
{
	LibpqLookup *lookup = arg;
	struct addrinfo hints = {.ai_family = AF_UNSPEC,
	.ai_socktype = SOCK_STREAM};
	struct addrinfo *found = NULL;
	int			code = getaddrinfo(lookup->host, lookup->port, &hints,
								   &found);

	pthread_mutex_lock(&lookup->shared.mutex);
	lookup->code = code;
	lookup->found = code == 0 ? found : NULL;
	lookup->done = true;
	pthread_mutex_unlock(&lookup->shared.mutex);
	libpq_end_thread(&lookup->shared);
	return NULL;
}

/* Begins to look a host up; NULL where there is no room for it. */
LibpqLookup *
libpq_begin_lookup(const char *host, int port)
{
	LibpqLookup *lookup = libpq_make_shared(sizeof(LibpqLookup), release);

	if (lookup == NULL)
		return NULL;
	strlcpy(lookup->host, host, sizeof(lookup->host));
	snprintf(lookup->port, sizeof(lookup->port), "%d", port);
	if (libpq_start_thread(look_up, &lookup->shared))
		return lookup;
	libpq_release(&lookup->shared);
	return NULL;
}

/* What becomes readable when it is done. */
int
libpq_lookup_socket(const LibpqLookup *lookup)
{
	return lookup->shared.ends[0];
}

bool
libpq_lookup_done(LibpqLookup *lookup)
{
	bool		done;

	pthread_mutex_lock(&lookup->shared.mutex);
	done = lookup->done;
	pthread_mutex_unlock(&lookup->shared.mutex);
	return done;
}

/* Has the name any address? */
bool
libpq_lookup_found(LibpqLookup *lookup)
{
	return lookup->code == 0 && lookup->found != NULL;
}

/* The session needs it no longer. */
void
libpq_end_lookup(LibpqLookup *lookup)
{
	libpq_release(&lookup->shared);
}

/* An address as sixteen bytes and as text; false for other families. */
static bool
read_address(const struct sockaddr *from, unsigned char address[16],
			 char text[INET6_ADDRSTRLEN])
{
	static const unsigned char mapped[12] = {[10] = 0xff,[11] = 0xff};
	const void *raw;

	if (from->sa_family == AF_INET)
	{
		raw = &((const struct sockaddr_in *) from)->sin_addr;
		memcpy(address, mapped, 12);
		memcpy(address + 12, raw, 4);
	}
	else if (from->sa_family == AF_INET6)
	{
		raw = &((const struct sockaddr_in6 *) from)->sin6_addr;
		memcpy(address, raw, 16);
	}
	else
		return false;
	return inet_ntop(from->sa_family, raw, text, INET6_ADDRSTRLEN) != NULL;
}

/*
 * The addresses that were found and that may be connected to, separated by
 * commas; NULL, with the reason, where there are none.
 */
char *
libpq_allowed_addresses(LibpqLookup *lookup, const char *allowed, int port,
						char *reason, size_t size)
{
	StringInfoData list;
	int			count = 0;

	if (!libpq_lookup_found(lookup))
	{
		snprintf(reason, size, "host \"%s\" was not found: %s", lookup->host,
				 gai_strerror(lookup->code));
		return NULL;
	}
	reason[0] = '\0';
	initStringInfo(&list);
	for (struct addrinfo *found = lookup->found;
		 found != NULL && count < MAX_ADDRESSES; found = found->ai_next)
	{
		unsigned char address[16];
		char		text[INET6_ADDRSTRLEN];

		if (!read_address(found->ai_addr, address, text))
			continue;
		if (core_is_private(address) &&
			!core_host_listed(allowed, NULL, address, port))
			snprintf(reason, size, "address %s of host \"%s\" is private and "
					 "not in setting visage.allowed_hosts", text,
					 lookup->host);
		else
			appendStringInfo(&list, "%s%s", count++ ? "," : "", text);
	}
	if (count > 0)
		return list.data;
	if (reason[0] == '\0')
		snprintf(reason, size, "host \"%s\" has no usable address",
				 lookup->host);
	return NULL;
}

/*-------------------------------------------------------------------------
 *
 * hosts.h
 *		The grammar of visage.allowed_hosts, and what an entry permits.
 *
 * Used by the setting's check hook and by the address guard of room net.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_HOSTS_H
#define VISAGE_HOSTS_H

#include <netinet/in.h>
#include <sys/socket.h>

#define CORE_HOST_MAX 253		/* RFC 1035, in text */

typedef struct CoreHost
{
	bool		is_address;		/* an address or CIDR, else a name */
	char		name[CORE_HOST_MAX + 1];	/* lower case, names only */
	unsigned char address[16];	/* IPv4 is kept as ::ffff:a.b.c.d */
	int			prefix;			/* of the 128 bits */
	int			port;			/* 0: any */
} CoreHost;

/* Takes the next entry off *list; false at its end or on a bad entry. */
extern bool core_next_host(const char **list, CoreHost *host, bool *valid);
extern bool core_parse_address(const char *text, unsigned char address[16]);
extern bool core_is_private(const unsigned char address[16]);
extern bool core_host_listed(const char *list, const char *name,
							 const unsigned char *address, int port);

#endif							/* VISAGE_HOSTS_H */

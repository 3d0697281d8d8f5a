/*-------------------------------------------------------------------------
 *
 * hosts.c
 *		Reads visage.allowed_hosts.
 *
 * A comma list of host names, addresses and CIDR blocks, each with an
 * optional ":port" (IPv6 in brackets when a port follows).  Names are
 * compared whole and without case.  A name never permits a private address;
 * an address or block permits what it covers.  Nothing here allocates or
 * raises an error, so that it can run in a setting's check hook and in a
 * callback of the HTTP library.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <ctype.h>

#include "core/hosts.h"

/* Sixteen bytes for either family, IPv4 mapped into IPv6. */
bool
core_parse_address(const char *text, unsigned char address[16])
{
	static const unsigned char mapped[12] = {[10] = 0xff,[11] = 0xff};

	if (inet_pton(AF_INET, text, address + 12) == 1)
	{
		memcpy(address, mapped, 12);
		return true;
	}
	return inet_pton(AF_INET6, text, address) == 1;
}

/* Digits only, up to max; -1 otherwise. */
static int
small_number(const char *text, int max)
{
	int			value = 0;

	if (*text == '\0')
		return -1;
	for (; *text; text++)
	{
		if (!isdigit((unsigned char) *text))
			return -1;
		value = value * 10 + (*text - '0');
		if (value > max)
			return -1;
	}
	return value;
}

/* A host name of letters, digits, dots and hyphens, copied in lower case. */
static bool
parse_name(const char *text, char *name)
{
	size_t		len = strlen(text);

	if (len == 0 || len > CORE_HOST_MAX || text[0] == '-' || text[0] == '.')
		return false;
	for (size_t i = 0; i <= len; i++)
	{
		unsigned char c = (unsigned char) text[i];

		if (c != '\0' && !isalnum(c) && c != '.' && c != '-' && c != '_')
			return false;
		name[i] = tolower(c);
	}
	return true;
}

/* Splits off ":port"; a bare IPv6 address has none. */
static bool
split_port(char *text, int *port, char **host)
{
	char	   *colon = strrchr(text, ':');

	*port = 0;
	*host = text;
	if (text[0] == '[')
	{
		char	   *bracket = strchr(text, ']');

		if (bracket == NULL)
			return false;
		*host = text + 1;
		colon = bracket[1] == ':' ? bracket + 1 : NULL;
		if (colon == NULL && bracket[1] != '\0')
			return false;
		*bracket = '\0';
	}
	else if (colon != NULL && strchr(text, ':') != colon)
		return true;			/* several colons: IPv6 without a port */
	if (colon == NULL)
		return true;
	*colon = '\0';
	*port = small_number(colon + 1, 65535);
	return *port > 0;
}

/* One entry, already cut out and trimmed; the text is changed. */
static bool
parse_host(char *text, CoreHost *host)
{
	char	   *name;
	char	   *slash;

	memset(host, 0, sizeof(*host));
	if (!split_port(text, &host->port, &name))
		return false;
	slash = strchr(name, '/');
	if (slash != NULL)
		*slash = '\0';
	if (core_parse_address(name, host->address))
	{
		bool		v4 = strchr(name, ':') == NULL;
		int			bits = v4 ? 32 : 128;
		int			prefix = slash ? small_number(slash + 1, bits) : bits;

		host->is_address = true;
		host->prefix = prefix + (v4 ? 96 : 0);
		return prefix >= 0;
	}
	return slash == NULL && parse_name(name, host->name);
}

/*
 * Takes the next entry off the list.  False with *valid true at the end of
 * the list, false with *valid false on an entry that is none.
 */
bool
core_next_host(const char **list, CoreHost *host, bool *valid)
{
	char		text[CORE_HOST_MAX + 32];
	size_t		len;

	*valid = true;
	*list += strspn(*list, " \t,");
	if (**list == '\0')
		return false;
	len = strcspn(*list, ",");
	*valid = len < sizeof(text);
	if (!*valid)
		return false;
	memcpy(text, *list, len);
	*list += len;
	while (len > 0 && isspace((unsigned char) text[len - 1]))
		len--;
	text[len] = '\0';
	*valid = parse_host(text, host);
	return *valid;
}

/* Do the first bits of two addresses agree? */
static bool
covers(const CoreHost *host, const unsigned char *address)
{
	int			bytes = host->prefix / 8;
	int			rest = host->prefix % 8;

	if (memcmp(host->address, address, bytes) != 0)
		return false;
	return rest == 0 ||
		((host->address[bytes] ^ address[bytes]) >> (8 - rest)) == 0;
}

/*
 * Is this an address that a name may not lead to: loopback, link-local,
 * private, shared, multicast, reserved, or IPv6 that embeds such an IPv4?
 */
bool
core_is_private(const unsigned char address[16])
{
	static const char *const blocks =
	"0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 169.254.0.0/16, "
	"172.16.0.0/12, 192.0.0.0/24, 192.0.2.0/24, 192.168.0.0/16, "
	"198.18.0.0/15, 198.51.100.0/24, 203.0.113.0/24, 224.0.0.0/3, "
	"::/96, 64:ff9b::/96, 64:ff9b:1::/48, 100::/64, 2001::/32, "
	"2001:db8::/32, 2002::/16, fc00::/7, fe80::/10, fec0::/10, ff00::/8";
	const char *rest = blocks;
	CoreHost	block;
	bool		valid;

	while (core_next_host(&rest, &block, &valid))
		if (covers(&block, address))
			return true;
	return false;
}

/*
 * Does the list permit this name (address NULL) or this address (name NULL)
 * on this port?
 */
bool
core_host_listed(const char *list, const char *name,
				 const unsigned char *address, int port)
{
	CoreHost	host;
	bool		valid;

	while (core_next_host(&list, &host, &valid))
	{
		if (host.port != 0 && host.port != port)
			continue;
		if (name != NULL && !host.is_address &&
			pg_strcasecmp(host.name, name) == 0)
			return true;
		if (address != NULL && host.is_address && covers(&host, address))
			return true;
	}
	return false;
}

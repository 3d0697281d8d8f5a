/*-------------------------------------------------------------------------
 *
 * guard.c
 *		Which hosts and addresses may be called.
 *
 * Two checks.  Before a request, its URL: http or https, a host that
 * visage.allowed_hosts names.  Then, in the callback in which libcurl asks
 * for a socket, the address that is really about to be connected to: a
 * private one must be listed as an address or block, so that a name cannot
 * be pointed at the inside of the network between look-up and connection.
 *
 * The callback runs in libcurl's frames: it allocates nothing and raises
 * nothing, and reports a refusal through guard->denied.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <sys/socket.h>

#include "net/guard.h"

/* A part of a parsed URL, copied into a buffer; false where too long. */
static bool
url_part(CURLU *url, CURLUPart part, char *buffer, size_t size)
{
	char	   *value = NULL;
	bool		fits;

	buffer[0] = '\0';
	if (curl_url_get(url, part, &value, CURLU_DEFAULT_PORT) != CURLUE_OK)
		return false;
	fits = strlcpy(buffer, value, size) < size;
	curl_free(value);
	return fits;
}

/* Takes scheme, host and port of the URL; false where it has none of use. */
static bool
parse_url(NetGuard *guard, const char *text)
{
	CURLU	   *url = curl_url();
	char		scheme[16];
	char		port[16];
	char		host[CORE_HOST_MAX + 1];
	size_t		len;
	bool		ok;

	if (url == NULL)
		return false;
	ok = curl_url_set(url, CURLUPART_URL, text, 0) == CURLUE_OK &&
		url_part(url, CURLUPART_SCHEME, scheme, sizeof(scheme)) &&
		url_part(url, CURLUPART_HOST, host, sizeof(host)) &&
		url_part(url, CURLUPART_PORT, port, sizeof(port));
	curl_url_cleanup(url);
	if (!ok)
		return false;
	guard->https = strcmp(scheme, "https") == 0;
	if (!guard->https && strcmp(scheme, "http") != 0)
		return false;
	guard->port = atoi(port);
	/* IPv6 addresses come in brackets, and a name may end with a dot. */
	len = strlen(host);
	if (host[0] == '[' && host[len - 1] == ']')
	{
		host[len - 1] = '\0';
		memmove(host, host + 1, len - 1);
	}
	else if (len > 1 && host[len - 1] == '.')
		host[len - 1] = '\0';
	strlcpy(guard->host, host, sizeof(guard->host));
	return true;
}

/*
 * May this URL be called?  If so guard holds its host, port and scheme; if
 * not, reason says why, without the rest of the URL.
 */
bool
net_guard_url(NetGuard *guard, const char *url, char *reason, size_t size)
{
	unsigned char address[16];
	bool		literal;

	guard->denied[0] = '\0';
	if (!parse_url(guard, url))
	{
		snprintf(reason, size, "the URL is not an http or https URL");
		return false;
	}
	literal = core_parse_address(guard->host, address);
	if (core_host_listed(guard->allowed, literal ? NULL : guard->host,
						 literal ? address : NULL, guard->port))
		return true;
	snprintf(reason, size, "host \"%s\", port %d, is not in setting "
			 "visage.allowed_hosts", guard->host, guard->port);
	return false;
}

/* Sixteen bytes of a socket address; false for other families. */
static bool
socket_address(const struct curl_sockaddr *from, unsigned char address[16])
{
	static const unsigned char mapped[12] = {[10] = 0xff,[11] = 0xff};

	if (from->family == AF_INET)
	{
		memcpy(address, mapped, 12);
		memcpy(address + 12,
			   &((const struct sockaddr_in *) &from->addr)->sin_addr, 4);
		return true;
	}
	if (from->family == AF_INET6)
	{
		memcpy(address,
			   &((const struct sockaddr_in6 *) &from->addr)->sin6_addr, 16);
		return true;
	}
	return false;
}

/* libcurl's CURLOPT_OPENSOCKETFUNCTION: the address is final here. */
curl_socket_t
net_guard_socket(void *arg, curlsocktype purpose,
				 struct curl_sockaddr *address)
{
	NetGuard   *guard = arg;
	unsigned char bytes[16];

	if (!socket_address(address, bytes))
		return CURL_SOCKET_BAD;
	if (core_is_private(bytes) &&
		!core_host_listed(guard->allowed, NULL, bytes, guard->port))
	{
		const void *raw = address->family == AF_INET ? bytes + 12 : bytes;

		inet_ntop(address->family, raw, guard->denied, sizeof(guard->denied));
		return CURL_SOCKET_BAD;
	}
	return socket(address->family, address->socktype | SOCK_CLOEXEC,
				  address->protocol);
}

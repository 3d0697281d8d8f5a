/*-------------------------------------------------------------------------
 *
 * link.c
 *		Links to other pages: the Link header, relative references.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "net/transfer.h"

/* A reference read relative to a URL, or NULL where it cannot be. */
char *
net_resolve_url(const char *base, const char *reference)
{
	CURLU	   *url = curl_url();
	char	   *text = NULL;
	char	   *result = NULL;

	if (url == NULL)
		return NULL;
	if (curl_url_set(url, CURLUPART_URL, base, 0) == CURLUE_OK &&
		curl_url_set(url, CURLUPART_URL, reference, 0) == CURLUE_OK &&
		curl_url_get(url, CURLUPART_URL, &text, 0) == CURLUE_OK)
		result = pstrdup(text);
	curl_free(text);
	curl_url_cleanup(url);
	return result;
}

/* Do the parameters of a link (";rel=…;…", up to end) have this relation? */
static bool
has_relation(const char *parameters, const char *end, const char *rel)
{
	size_t		len = strlen(rel);

	for (const char *c = parameters; c + 4 + len <= end; c++)
	{
		const char *value = c + 4;

		if (pg_strncasecmp(c, "rel=", 4) != 0)
			continue;
		if (*value == '"')
			value++;
		/* several relations are separated by spaces */
		while (value + len <= end)
		{
			const char *stop = value + strcspn(value, " \";,");

			if (stop - value == len &&
				pg_strncasecmp(value, rel, len) == 0)
				return true;
			if (stop >= end || *stop != ' ')
				break;
			value = stop + 1;
		}
	}
	return false;
}

/* The end of a link's parameters: a comma outside quotes, or the end. */
static const char *
end_of_link(const char *c)
{
	bool		quoted = false;

	for (; *c && (quoted || *c != ','); c++)
		if (*c == '"')
			quoted = !quoted;
	return c;
}

/* The first URL with this relation in a Link header (RFC 8288), or NULL. */
static char *
find_link(const char *header, const char *rel)
{
	for (const char *c = strchr(header, '<'); c; c = strchr(c, '<'))
	{
		const char *close = strchr(c, '>');
		const char *end;

		if (close == NULL)
			return NULL;
		end = end_of_link(close);
		if (has_relation(close, end, rel))
			return pnstrdup(c + 1, close - c - 1);
		c = end;
	}
	return NULL;
}

/* The URL that the answer links to with this relation, or NULL. */
char *
net_next_link(const NetTransfer *transfer, const char *rel)
{
	struct curl_header *found;
	size_t		index = 0;

	while (curl_easy_header(transfer->easy, "Link", index++, CURLH_HEADER, -1,
							&found) == CURLHE_OK)
	{
		char	   *link = find_link(found->value, rel);

		if (link != NULL)
			return net_resolve_url(transfer->url, link);
	}
	return NULL;
}

/* Are scheme, host and port of two URLs the same? */
bool
net_same_origin(const char *a, const char *b)
{
	NetGuard	one = {.allowed = ""};
	NetGuard	other = {.allowed = ""};
	char		reason[NET_MAX_REASON];

	(void) net_guard_url(&one, a, reason, NET_MAX_REASON);
	(void) net_guard_url(&other, b, reason, NET_MAX_REASON);
	return one.host[0] != '\0' && strcmp(one.host, other.host) == 0 &&
		one.port == other.port && one.https == other.https;
}

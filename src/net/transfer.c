/*-------------------------------------------------------------------------
 *
 * transfer.c
 *		One request: its hops, its answer, its buffer.
 *
 * A transfer holds at most high_water bytes of its answer; then it pauses
 * until its user has consumed some.  So a document of any size passes
 * through a bounded buffer.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "core/settings.h"
#include "net/transfer.h"
#include "utils/memutils.h"

#define MAX_REDIRECTS 5

/* strdup with an ERROR. */
static char *
copy_string(const char *text)
{
	char	   *copy = text ? strdup(text) : NULL;

	if (text != NULL && copy == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	return copy;
}

/* Makes room for more bytes; false where there is none.  A callback's. */
static bool
make_room(NetTransfer *transfer, size_t more)
{
	size_t		needed = transfer->length + more + 1;
	size_t		wanted = Max(Min(transfer->allocated * 2,
								 transfer->high_water + CURL_MAX_WRITE_SIZE),
							 needed);
	char	   *larger;

	if (needed <= transfer->allocated)
		return true;
	larger = realloc(transfer->data, wanted);
	if (larger == NULL)
		return false;
	transfer->data = larger;
	transfer->allocated = wanted;
	return true;
}

/* CURLOPT_WRITEFUNCTION: the body, after decompression, up to the limits. */
static size_t
body_arrived(char *data, size_t size, size_t count, void *arg)
{
	NetTransfer *transfer = arg;
	size_t		len = size * count;
	long		status = 0;

	transfer->idle_ms = 0;
	curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
	transfer->status = status;
	if (status >= 300 && status <= 399)
		return len;
	if (transfer->length > 0 && transfer->length + len > transfer->high_water)
	{
		transfer->paused = true;
		return CURL_WRITEFUNC_PAUSE;
	}
	if (len > transfer->session->body_limit - transfer->received)
	{
		transfer->over_limit = true;
		return 0;
	}
	if (!make_room(transfer, len))
	{
		transfer->out_of_memory = true;
		return 0;
	}
	memcpy(transfer->data + transfer->length, data, len);
	transfer->length += len;
	transfer->received += len;
	transfer->data[transfer->length] = '\0';
	return len;
}

/* CURLOPT_HEADERFUNCTION: a header is a sign of life. */
static size_t
header_arrived(char *data, size_t size, size_t count, void *arg)
{
	((NetTransfer *) arg)->idle_ms = 0;
	return size * count;
}

/* Who must have signed a host's certificate, where it is not the system's. */
static void
set_authorities(CURL *easy)
{
	const char *file = core_setting("visage.ssl_ca_file");

	if (file[0] == '\0')
		return;
	curl_easy_setopt(easy, CURLOPT_CAINFO, file);
	curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
}

/* What holds for every hop of the transfer. */
static void
set_options(NetTransfer *transfer)
{
	CURL	   *easy = transfer->easy;

	curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_PROXY, "");
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "");
	curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, 262144L);
	curl_easy_setopt(easy, CURLOPT_USERAGENT, "Visage/" VISAGE_VERSION);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, net_guard_socket);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, &transfer->guard);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, body_arrived);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, header_arrived);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
					 (long) core_setting_int("visage.connect_timeout"));
	curl_easy_setopt(easy, CURLOPT_TIMEOUT,
					 (long) core_setting_int("visage.request_timeout"));
	set_authorities(easy);
}

/* Takes the handle out of the multi handle. */
static void
detach(NetTransfer *transfer)
{
	sigset_t	saved;

	if (transfer->attached)
	{
		net_block_signals(&saved);
		curl_multi_remove_handle(transfer->session->multi, transfer->easy);
		net_restore_signals(&saved);
	}
	transfer->attached = false;
	transfer->paused = false;
}

/* Gives up what is under way. */
static void
abandon(NetTransfer *transfer)
{
	detach(transfer);
	net_release(transfer, NET_NO_VERDICT);
}

/* The transfer ends here, without an answer of use. */
void
net_fail(NetTransfer *transfer, NetOutcome outcome, const char *reason)
{
	strlcpy(transfer->reason, reason, NET_MAX_REASON);
	transfer->outcome = outcome;
	transfer->attempts++;
	detach(transfer);
	net_release(transfer, outcome == NET_FAILED ? NET_FAILURE :
				NET_NO_VERDICT);
	transfer->state = TRANSFER_DONE;
}

/* Begins the exchange with transfer->url, whose guard has been asked. */
void
net_begin_hop(NetTransfer *transfer)
{
	CURL	   *easy = transfer->easy;
	bool		same = strcmp(transfer->first.host, transfer->guard.host) == 0 &&
	transfer->first.port == transfer->guard.port &&
	transfer->first.https == transfer->guard.https;
	sigset_t	saved;

	transfer->length = 0;
	transfer->received = 0;
	transfer->idle_ms = 0;
	transfer->status = 0;
	transfer->over_limit = false;
	transfer->guard.denied[0] = '\0';
	if (transfer->data != NULL)
		transfer->data[0] = '\0';
	curl_easy_setopt(easy, CURLOPT_URL, transfer->url);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER,
					 same ? transfer->all_headers : transfer->public_headers);
	if (transfer->post)
	{
		curl_easy_setopt(easy, CURLOPT_POSTFIELDS,
						 transfer->body ? transfer->body : "");
		curl_easy_setopt(easy, CURLOPT_POST, 1L);
	}
	else
		curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
	transfer->state = TRANSFER_RUNNING;
	transfer->attached = true;
	net_block_signals(&saved);
	curl_multi_add_handle(transfer->session->multi, easy);
	net_restore_signals(&saved);
}

/* Why there is no answer, in words for an ERROR's message. */
static void
explain(NetTransfer *transfer, CURLcode result)
{
	char		reason[NET_MAX_REASON];

	if (transfer->guard.denied[0] != '\0')
	{
		snprintf(reason, NET_MAX_REASON,
				 "host \"%s\" leads to the private address %s, which is not "
				 "in setting visage.allowed_hosts", transfer->guard.host,
				 transfer->guard.denied);
		net_fail(transfer, NET_REFUSED, reason);
	}
	else if (transfer->over_limit)
		net_fail(transfer, NET_UNUSABLE,
				 "the answer is larger than setting visage.max_body");
	else if (transfer->out_of_memory)
		net_fail(transfer, NET_FAILED, "out of memory");
	else
		net_fail(transfer, NET_FAILED, curl_easy_strerror(result));
}

/* Goes where a redirect leads, checked like a first request. */
static void
follow(NetTransfer *transfer, const char *location)
{
	char		reason[NET_MAX_REASON];

	if (++transfer->hops > MAX_REDIRECTS)
	{
		snprintf(reason, NET_MAX_REASON, "more than %d redirects",
				 MAX_REDIRECTS);
		net_fail(transfer, NET_UNUSABLE, reason);
		return;
	}
	free(transfer->url);
	transfer->url = strdup(location);
	if (transfer->url == NULL ||
		!net_guard_url(&transfer->guard, transfer->url, reason,
					   NET_MAX_REASON))
	{
		net_fail(transfer, NET_REFUSED, transfer->url ? reason :
				 "out of memory");
		return;
	}
	if (transfer->status <= 303)
		transfer->post = false;
	curl_multi_remove_handle(transfer->session->multi, transfer->easy);
	net_begin_hop(transfer);
}

/* libcurl is through with the exchange. */
void
net_finish_hop(NetTransfer *transfer, CURLcode result)
{
	long		status = 0;
	char	   *location = NULL;

	if (result != CURLE_OK)
	{
		explain(transfer, result);
		return;
	}
	curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_getinfo(transfer->easy, CURLINFO_REDIRECT_URL, &location);
	transfer->status = status;
	if (location != NULL && status >= 300 && status <= 399)
	{
		follow(transfer, location);
		return;
	}
	net_take_remaining(transfer);
	/* The handle keeps the answer's headers when it is detached. */
	detach(transfer);
	transfer->attempts++;
	transfer->outcome = NET_ANSWERED;
	net_release(transfer, status < 500 ? NET_SUCCESS : NET_FAILURE);
	transfer->state = TRANSFER_DONE;
}

/* Takes over what is asked for; the guard may refuse it at once. */
static void
take_request(NetTransfer *transfer, const NetRequest *request)
{
	char		reason[NET_MAX_REASON];
	char	   *url = request->url;

	if (request->secret_query != NULL)
		url = psprintf("%s%c%s", url, strchr(url, '?') ? '&' : '?',
					   request->secret_query);
	free(transfer->url);
	free(transfer->body);
	curl_slist_free_all(transfer->all_headers);
	curl_slist_free_all(transfer->public_headers);
	transfer->all_headers = transfer->public_headers = NULL;
	transfer->url = copy_string(url);
	transfer->body = copy_string(request->body);
	transfer->post = strcmp(request->method, "POST") == 0;
	transfer->hops = 0;
	for (int i = 0; i < request->header_count; i++)
	{
		const NetHeader *header = &request->headers[i];

		transfer->all_headers = curl_slist_append(transfer->all_headers,
												  header->line);
		if (!header->credential)
			transfer->public_headers =
				curl_slist_append(transfer->public_headers, header->line);
	}
	transfer->guard.allowed = transfer->session->allowed;
	transfer->state = TRANSFER_WAITING;
	if (!net_guard_url(&transfer->guard, transfer->url, reason,
					   NET_MAX_REASON))
		net_fail(transfer, NET_REFUSED, reason);
	transfer->first = transfer->guard;
}

/* Asks for something; it begins in the next net_wait or net_kick. */
NetTransfer *
net_start(NetSession *session, const NetRequest *request)
{
	NetTransfer *transfer = MemoryContextAllocZero(session->context,
												   sizeof(NetTransfer));

	transfer->session = session;
	transfer->high_water = session->limits.buffer;
	dlist_push_tail(&session->transfers, &transfer->node);
	transfer->easy = curl_easy_init();
	if (transfer->easy == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("could not start an HTTP request")));
	set_options(transfer);
	take_request(transfer, request);
	return transfer;
}

/* Asks again, not before so many milliseconds have passed. */
void
net_again(NetTransfer *transfer, const NetRequest *request, int64 wait_ms)
{
	abandon(transfer);
	transfer->length = 0;
	transfer->not_before = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													   wait_ms);
	take_request(transfer, request);
}

/* Frees all of it; called in the end of the session, too. */
void
net_destroy(NetTransfer *transfer)
{
	dlist_delete(&transfer->node);
	if (transfer->easy != NULL)
	{
		abandon(transfer);
		curl_easy_cleanup(transfer->easy);
	}
	curl_slist_free_all(transfer->all_headers);
	curl_slist_free_all(transfer->public_headers);
	free(transfer->url);
	free(transfer->body);
	free(transfer->data);
	pfree(transfer);
}

/* Gives a transfer up, done or not. */
void
net_end(NetTransfer *transfer)
{
	sigset_t	saved;

	net_block_signals(&saved);
	net_destroy(transfer);
	net_restore_signals(&saved);
}

bool
net_is_done(const NetTransfer *transfer)
{
	return transfer->state == TRANSFER_DONE;
}

NetOutcome
net_outcome(const NetTransfer *transfer)
{
	return transfer->outcome;
}

/* Why there is no answer. */
const char *
net_reason(const NetTransfer *transfer)
{
	return transfer->reason;
}

int
net_status(const NetTransfer *transfer)
{
	return transfer->status;
}

/* How often it was asked for. */
int
net_attempts(const NetTransfer *transfer)
{
	return transfer->attempts;
}

/* What has come and was not consumed, until the next wait. */
char *
net_data(const NetTransfer *transfer, size_t *length)
{
	*length = transfer->length;
	return transfer->data ? transfer->data : "";
}

/* Lets a paused transfer go on; libcurl may call back at once. */
static void
resume(NetTransfer *transfer)
{
	sigset_t	saved;

	if (!transfer->paused)
		return;
	transfer->paused = false;
	net_block_signals(&saved);
	curl_easy_pause(transfer->easy, CURLPAUSE_CONT);
	net_restore_signals(&saved);
}

/* Forgets the first bytes of what has come, and goes on. */
void
net_consume(NetTransfer *transfer, size_t length)
{
	transfer->length -= length;
	if (transfer->data != NULL)
		memmove(transfer->data, transfer->data + length,
				transfer->length + 1);
	resume(transfer);
}

/* Doubles the buffer, for a record that did not fit. */
void
net_widen(NetTransfer *transfer)
{
	transfer->high_water *= 2;
	resume(transfer);
}

/* The value of a header of the answer, or NULL. */
const char *
net_header(const NetTransfer *transfer, const char *name)
{
	struct curl_header *found;

	if (curl_easy_header(transfer->easy, name, 0, CURLH_HEADER, -1,
						 &found) != CURLHE_OK)
		return NULL;
	return found->value;
}

/* The answer's own time, as PostgreSQL reads it; NULL where it has none. */
char *
net_date(const NetTransfer *transfer)
{
	const char *date = net_header(transfer, "Date");
	time_t		then = date ? curl_getdate(date, NULL) : -1;

	if (then < 0)
		return NULL;
	return pstrdup(timestamptz_to_str(time_t_to_timestamptz(then)));
}

/*
 * The wait that the server asks for in Retry-After, in milliseconds; a date
 * is read relative to the answer's own.  -1 where it asks for none.
 */
int64
net_retry_after(const NetTransfer *transfer)
{
	const char *value = net_header(transfer, "Retry-After");
	const char *date = net_header(transfer, "Date");
	char	   *end;
	int64		seconds;
	time_t		then;
	time_t		now;

	if (value == NULL)
		return -1;
	seconds = strtoll(value, &end, 10);
	if (end != value && *end == '\0' && seconds >= 0)
		return Min(seconds, PG_INT32_MAX) * 1000;
	then = curl_getdate(value, NULL);
	now = date ? curl_getdate(date, NULL) : time(NULL);
	if (then < 0)
		return -1;
	return Max(0, (int64) then - (int64) (now < 0 ? time(NULL) : now)) * 1000;
}

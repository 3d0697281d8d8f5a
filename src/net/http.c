/*-------------------------------------------------------------------------
 *
 * http.c
 *		One HTTP exchange at a time, waiting on latch and sockets.
 *
 * libcurl tells which sockets and which timer to wait for; the server's
 * wait event sets do the waiting, so that a cancel or a shutdown wakes it.
 * All signals are blocked while libcurl runs, because it may start a thread
 * (name resolution) and a thread must never run the server's handlers.
 * Nothing in a callback of libcurl allocates in the server or raises.
 *
 * Interrupts are checked between calls of libcurl only, where an ERROR may
 * leave: the session belongs to a memory context, whose reset frees it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <curl/curl.h>
#include <signal.h>

#include "common/pg_prng.h"
#include "core/core.h"
#include "core/settings.h"
#include "miscadmin.h"
#include "net/guard.h"
#include "net/net.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define MAX_SOCKETS 32
#define MAX_REDIRECTS 5
#define LONGEST_WAIT_MS 1000

typedef struct NetSocket
{
	curl_socket_t fd;
	int			what;			/* CURL_POLL_… */
} NetSocket;

struct NetSession
{
	CURLM	   *multi;
	CURL	   *easy;
	NetGuard	guard;
	NetSocket	sockets[MAX_SOCKETS];
	int			socket_count;
	bool		timer_set;
	TimestampTz timer_at;
	char	   *body;			/* malloc'ed: written in a callback */
	size_t		length;
	size_t		allocated;
	size_t		limit;
	bool		over_limit;
	bool		out_of_memory;
	struct curl_slist *headers; /* of the request under way */
	MemoryContextCallback cleanup;
};

/* Blocks every signal, and tells what was blocked before. */
static void
block_signals(sigset_t *saved)
{
	sigset_t	all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, saved);
}

static void
restore_signals(const sigset_t *saved)
{
	sigprocmask(SIG_SETMASK, saved, NULL);
}

/* CURLMOPT_SOCKETFUNCTION: remembers what to wait for. */
static int
socket_changed(CURL *easy, curl_socket_t fd, int what, void *arg, void *unused)
{
	NetSession *session = arg;
	int			i = 0;

	while (i < session->socket_count && session->sockets[i].fd != fd)
		i++;
	if (what == CURL_POLL_REMOVE)
	{
		if (i < session->socket_count)
			session->sockets[i] = session->sockets[--session->socket_count];
		return 0;
	}
	if (i == MAX_SOCKETS)
		return -1;
	if (i == session->socket_count)
		session->socket_count++;
	session->sockets[i].fd = fd;
	session->sockets[i].what = what;
	return 0;
}

/* CURLMOPT_TIMERFUNCTION: remembers when libcurl wants to be called. */
static int
timer_changed(CURLM *multi, long milliseconds, void *arg)
{
	NetSession *session = arg;

	session->timer_set = milliseconds >= 0;
	session->timer_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													Max(milliseconds, 0));
	return 0;
}

/* CURLOPT_WRITEFUNCTION: the body, after decompression, up to the limit. */
static size_t
body_arrived(char *data, size_t size, size_t count, void *arg)
{
	NetSession *session = arg;
	size_t		len = size * count;

	if (len > session->limit - session->length)
	{
		session->over_limit = true;
		return 0;
	}
	if (session->length + len + 1 > session->allocated)
	{
		size_t		wanted = Max(session->allocated * 2,
								 session->length + len + 1);
		char	   *larger = realloc(session->body, wanted);

		if (larger == NULL)
		{
			session->out_of_memory = true;
			return 0;
		}
		session->body = larger;
		session->allocated = wanted;
	}
	memcpy(session->body + session->length, data, len);
	session->length += len;
	session->body[session->length] = '\0';
	return len;
}

/* Reset callback of the session's memory context. */
static void
close_session(void *arg)
{
	NetSession *session = arg;
	sigset_t	saved;

	block_signals(&saved);
	if (session->easy != NULL)
	{
		curl_multi_remove_handle(session->multi, session->easy);
		curl_easy_cleanup(session->easy);
	}
	if (session->multi != NULL)
		curl_multi_cleanup(session->multi);
	restore_signals(&saved);
	curl_slist_free_all(session->headers);
	free(session->body);
}

/* What holds for every request of the session. */
static void
set_options(NetSession *session)
{
	CURL	   *easy = session->easy;

	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_PROXY, "");
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "");
	curl_easy_setopt(easy, CURLOPT_USERAGENT, "Visage/" VISAGE_VERSION);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, net_guard_socket);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, &session->guard);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, body_arrived);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, session);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
					 (long) core_setting_int("visage.connect_timeout"));
	curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
	curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME,
					 (long) core_setting_int("visage.idle_timeout"));
	curl_easy_setopt(easy, CURLOPT_TIMEOUT,
					 (long) core_setting_int("visage.request_timeout"));
	curl_multi_setopt(session->multi, CURLMOPT_SOCKETFUNCTION, socket_changed);
	curl_multi_setopt(session->multi, CURLMOPT_SOCKETDATA, session);
	curl_multi_setopt(session->multi, CURLMOPT_TIMERFUNCTION, timer_changed);
	curl_multi_setopt(session->multi, CURLMOPT_TIMERDATA, session);
}

/* Opens a session that lives as long as the memory context. */
NetSession *
net_open(MemoryContext context)
{
	NetSession *session = MemoryContextAllocZero(context, sizeof(NetSession));
	sigset_t	saved;

	session->guard.allowed =
		MemoryContextStrdup(context, core_setting("visage.allowed_hosts"));
	session->limit = (size_t) core_setting_int("visage.max_body") * 1024;
	session->cleanup.func = close_session;
	session->cleanup.arg = session;
	MemoryContextRegisterResetCallback(context, &session->cleanup);

	block_signals(&saved);
	curl_global_init(CURL_GLOBAL_DEFAULT);
	session->multi = curl_multi_init();
	session->easy = curl_easy_init();
	if (session->multi != NULL && session->easy != NULL)
		set_options(session);
	restore_signals(&saved);
	if (session->multi == NULL || session->easy == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("could not start an HTTP session")));
	return session;
}

/* How long may the next wait be? */
static long
wait_milliseconds(const NetSession *session)
{
	if (!session->timer_set)
		return LONGEST_WAIT_MS;
	return Min(LONGEST_WAIT_MS,
			   TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
											   session->timer_at));
}

static uint32
wait_event(void)
{
	static uint32 event = 0;

	if (event == 0)
		event = core_compat_wait_event("VisageHttp");
	return event;
}

/*
 * Waits for the latch, a socket or the timer.  The set is made anew each
 * time, since libcurl closes sockets as it likes.
 */
static int
wait_for_events(NetSession *session, WaitEvent *events)
{
	WaitEventSet *set;
	int			count;

	InvalidateCatalogSnapshot();
	set = core_compat_create_wait_set(CurrentMemoryContext, MAX_SOCKETS + 2);
	AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	for (int i = 0; i < session->socket_count; i++)
	{
		int			what = session->sockets[i].what;
		uint32		flags = 0;

		if (what == CURL_POLL_IN || what == CURL_POLL_INOUT)
			flags |= WL_SOCKET_READABLE;
		if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT)
			flags |= WL_SOCKET_WRITEABLE;
		if (flags)
			AddWaitEventToSet(set, flags, session->sockets[i].fd, NULL, NULL);
	}
	count = WaitEventSetWait(set, wait_milliseconds(session), events,
							 MAX_SOCKETS + 2, wait_event());
	FreeWaitEventSet(set);
	return count;
}

/* Tells libcurl what happened; signals are blocked meanwhile. */
static void
drive(NetSession *session, const WaitEvent *events, int count, int *running)
{
	sigset_t	saved;

	block_signals(&saved);
	for (int i = 0; i < count; i++)
	{
		int			what = 0;

		if (events[i].events & WL_SOCKET_READABLE)
			what |= CURL_CSELECT_IN;
		if (events[i].events & WL_SOCKET_WRITEABLE)
			what |= CURL_CSELECT_OUT;
		if (what)
			curl_multi_socket_action(session->multi, events[i].fd, what,
									 running);
	}
	if (count == 0 ||
		(session->timer_set && session->timer_at <= GetCurrentTimestamp()))
	{
		session->timer_set = false;
		curl_multi_socket_action(session->multi, CURL_SOCKET_TIMEOUT, 0,
								 running);
	}
	restore_signals(&saved);
}

/* Runs the prepared handle to its end; interrupts leave from here. */
static CURLcode
run_transfer(NetSession *session)
{
	WaitEvent	events[MAX_SOCKETS + 2];
	int			running = 1;
	int			queued;
	CURLMsg    *message;
	CURLcode	result;

	drive(session, NULL, 0, &running);
	while ((message = curl_multi_info_read(session->multi, &queued)) == NULL)
	{
		int			count = wait_for_events(session, events);

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		drive(session, events, count, &running);
	}
	result = message->data.result;
	return result;
}

/* The value of a header of the answer, or NULL. */
static const char *
header(NetSession *session, const char *name)
{
	struct curl_header *found;

	if (curl_easy_header(session->easy, name, 0, CURLH_HEADER, -1,
						 &found) != CURLHE_OK)
		return NULL;
	return found->value;
}

/* Takes the handle out of the multi handle and drops its headers. */
static void
detach(NetSession *session)
{
	sigset_t	saved;

	block_signals(&saved);
	curl_multi_remove_handle(session->multi, session->easy);
	restore_signals(&saved);
	curl_easy_setopt(session->easy, CURLOPT_HTTPHEADER, NULL);
	curl_slist_free_all(session->headers);
	session->headers = NULL;
}

/*
 * One exchange with one URL, without redirects and repetitions.  An
 * interrupt leaves the handle attached; the next exchange, or the end of the
 * session, detaches it.
 */
static CURLcode
exchange(NetSession *session, const char *url, const NetRequest *request,
		 bool with_credentials)
{
	CURLcode	result;
	sigset_t	saved;

	detach(session);
	session->length = 0;
	session->over_limit = false;
	for (int i = 0; i < request->header_count; i++)
		if (with_credentials || !request->headers[i].credential)
			session->headers = curl_slist_append(session->headers,
												 request->headers[i].line);
	curl_easy_setopt(session->easy, CURLOPT_URL, url);
	curl_easy_setopt(session->easy, CURLOPT_HTTPHEADER, session->headers);
	block_signals(&saved);
	curl_multi_add_handle(session->multi, session->easy);
	restore_signals(&saved);
	result = run_transfer(session);
	detach(session);
	return result;
}

/* Why there is no answer, in words for an ERROR's DETAIL. */
static void
explain(NetSession *session, CURLcode result, NetResponse *response)
{
	if (session->guard.denied[0] != '\0')
		snprintf(response->reason, NET_MAX_REASON,
				 "host \"%s\" leads to the private address %s, which is not "
				 "in setting visage.allowed_hosts", session->guard.host,
				 session->guard.denied);
	else if (session->over_limit)
		snprintf(response->reason, NET_MAX_REASON,
				 "the answer is larger than setting visage.max_body");
	else if (session->out_of_memory)
		snprintf(response->reason, NET_MAX_REASON, "out of memory");
	else
		snprintf(response->reason, NET_MAX_REASON, "%s",
				 curl_easy_strerror(result));
}

/* Follows redirects, each hop checked like a first request. */
static NetOutcome
follow(NetSession *session, const NetRequest *request, NetResponse *response)
{
	char	   *url = request->url;
	NetGuard	first;

	if (!net_guard_url(&session->guard, url, response->reason, NET_MAX_REASON))
		return NET_REFUSED;
	first = session->guard;
	for (int hop = 0;; hop++)
	{
		bool		same = strcmp(first.host, session->guard.host) == 0 &&
		first.port == session->guard.port &&
		first.https == session->guard.https;
		CURLcode	result = exchange(session, url, request, same);
		long		status = 0;
		char	   *next = NULL;

		if (result != CURLE_OK)
		{
			explain(session, result, response);
			if (session->guard.denied[0] != '\0')
				return NET_REFUSED;
			return session->over_limit ? NET_UNUSABLE : NET_FAILED;
		}
		curl_easy_getinfo(session->easy, CURLINFO_RESPONSE_CODE, &status);
		curl_easy_getinfo(session->easy, CURLINFO_REDIRECT_URL, &next);
		response->status = status;
		if (next == NULL || status < 300 || status > 399)
			return NET_ANSWERED;
		if (hop == MAX_REDIRECTS)
		{
			snprintf(response->reason, NET_MAX_REASON,
					 "more than %d redirects", MAX_REDIRECTS);
			return NET_UNUSABLE;
		}
		url = pstrdup(next);
		if (!net_guard_url(&session->guard, url, response->reason,
						   NET_MAX_REASON))
			return NET_REFUSED;
	}
}

/*
 * The wait that the server asks for in Retry-After, in milliseconds; a date
 * is read relative to the answer's own.  -1 where it asks for none.
 */
static int64
retry_after(NetSession *session)
{
	const char *value = header(session, "Retry-After");
	const char *date = header(session, "Date");
	char	   *end;
	int64		seconds;
	time_t		then;

	if (value == NULL)
		return -1;
	seconds = strtoll(value, &end, 10);
	if (end != value && *end == '\0' && seconds >= 0)
		return Min(seconds, PG_INT32_MAX) * 1000;
	then = curl_getdate(value, NULL);
	if (then < 0)
		return -1;
	return Max(0, (int64) then -
			   (date ? curl_getdate(date, NULL) : time(NULL))) * 1000;
}

/* Sleeps on the latch until the given time has passed. */
static void
pause_for(int64 milliseconds)
{
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													milliseconds);

	for (;;)
	{
		long		rest = TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
														   until);

		CHECK_FOR_INTERRUPTS();
		if (rest <= 0)
			return;
		InvalidateCatalogSnapshot();
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 rest, wait_event());
		ResetLatch(MyLatch);
	}
}

/* Is this answer one that a repetition may better? */
static bool
is_retryable(const NetRequest *request, NetOutcome outcome,
			 const NetResponse *response)
{
	if (outcome != NET_ANSWERED)
		return outcome == NET_FAILED;
	for (int i = 0; i < request->retry_status_count; i++)
		if (request->retry_statuses[i] == response->status)
			return true;
	return false;
}

/*
 * Makes the request, repeats it while that may help, and tells the outcome
 * of the last try.  The waits double from visage.retry_delay, half of each
 * at random, and are never shorter than the server asks for.
 */
NetOutcome
net_fetch(NetSession *session, const NetRequest *request,
		  NetResponse *response)
{
	int64		max_retries = core_setting_int("visage.max_retries");
	int64		longest = core_setting_int("visage.max_retry_wait") * 1000;
	int64		delay = core_setting_int("visage.retry_delay");

	memset(response, 0, sizeof(*response));
	for (;;)
	{
		NetOutcome	outcome = follow(session, request, response);
		int64		asked = outcome == NET_ANSWERED ? retry_after(session) : -1;
		int64		wait;

		response->attempts++;
		response->body = session->length > 0 ? session->body : "";
		response->length = session->length;
		if (!is_retryable(request, outcome, response))
			return outcome;
		if (asked > longest)
		{
			snprintf(response->reason, NET_MAX_REASON,
					 "status %d, and the server asks to wait " INT64_FORMAT
					 " s, longer than setting visage.max_retry_wait",
					 response->status, asked / 1000);
			return NET_FAILED;
		}
		if (response->attempts > max_retries)
			return outcome;
		wait = delay / 2 +
			(int64) (pg_prng_double(&pg_global_prng_state) * delay / 2);
		pause_for(Max(Min(wait, longest), asked));
		delay = Min(delay * 2, Max(longest, 1));
	}
}

/*-------------------------------------------------------------------------
 *
 * respond.c
 *		What an answer means, and what to do about it.
 *
 * The manifest's rules are tried first, in order; then what HTTP says: 2xx is
 * an answer; 408, 425, 429, 500, 502, 503, 504 and 520 to 524 may be better
 * the next time, and so may a connection that broke; all else is an ERROR.
 *
 * Waits double from visage.retry_delay, half of each at random, and are
 * never shorter than the system asks for.  Everything here runs between
 * transactions.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "core/core.h"
#include "core/settings.h"
#include "ingest/ingest.h"
#include "mb/pg_wchar.h"
#include "nodes/pg_list.h"
#include "utils/timestamp.h"

#define MAX_SHOWN 300			/* bytes of another system's error message */
#define MAX_ERROR_BODY 65536

/* What is known of an answer. */
typedef struct Answer
{
	int			status;
	ScanSlice	body;
} Answer;

/* ---- rules ---- */

static bool
status_matches(Jsonb *rule, int status)
{
	int			count;
	char	  **statuses = core_json_text_array(rule, "status", &count);

	if (statuses == NULL)
		return true;
	for (int i = 0; i < count; i++)
	{
		if (strcmp(statuses[i] + 1, "xx") == 0 ?
			statuses[i][0] - '0' == status / 100 :
			atoi(statuses[i]) == status)
			return true;
	}
	return false;
}

/* Is the text somewhere in the bytes? */
static bool
holds(ScanSlice body, const char *text)
{
	size_t		len = strlen(text);

	for (size_t i = 0; i + len <= body.length; i++)
		if (memcmp(body.start + i, text, len) == 0)
			return true;
	return false;
}

/* Is the value this text?  A body need not be JSON. */
static bool
is_text(ScanSlice value, const char *text, bool is_body)
{
	if (is_body)
		return strlen(text) == value.length &&
			memcmp(value.start, text, value.length) == 0;
	return strcmp(scan_text(value), text) == 0;
}

static bool
body_matches(Jsonb *rule, ScanSlice body)
{
	Jsonb	   *condition = core_json_value(rule, "body");
	char	   *path = core_json_text(condition, "path");
	char	   *text = core_json_text(condition, "contains");
	char	   *wanted = core_json_text(condition, "equals");
	ScanSlice	value = body;
	ScanKind	kind = SCAN_CONTAINER;
	bool		is_body = path == NULL || path[0] == '\0';
	bool		found;

	if (condition == NULL)
		return true;
	found = is_body || scan_path(body, path, &value, &kind);
	if (core_json_text(condition, "exists") != NULL &&
		core_json_bool(condition, "exists", true) !=
		(found && kind != SCAN_NULL))
		return false;
	if (!found)
		return text == NULL && wanted == NULL;
	if (text != NULL && !holds(value, text))
		return false;
	return wanted == NULL || is_text(value, wanted, is_body);
}

/* The first rule that matches, or NULL. */
static Jsonb *
find_rule(const IngestStream *stream, const Answer *answer)
{
	Jsonb	   *rules = core_json_value(stream->endpoint, "responses");

	for (int i = 0; rules != NULL && i < JB_ROOT_COUNT(rules); i++)
	{
		Jsonb	   *rule =
		JsonbValueToJsonb(getIthJsonbValueFromContainer(&rules->root, i));

		if (core_json_text(rule, "records_at_least") == NULL &&
			status_matches(rule, answer->status) &&
			body_matches(rule, answer->body))
			return rule;
	}
	return NULL;
}

/* Does a page of so many records mean that it was cut off? */
bool
ingest_splits_at(const IngestRun *run, int64 records)
{
	Jsonb	   *rules = core_json_value(run->stream->endpoint, "responses");

	for (int i = 0; rules != NULL && i < JB_ROOT_COUNT(rules); i++)
	{
		Jsonb	   *rule =
		JsonbValueToJsonb(getIthJsonbValueFromContainer(&rules->root, i));
		char	   *least = core_json_text(rule, "records_at_least");
		int64		limit;

		if (least == NULL ||
			strcmp(core_json_text(rule, "action"), "split") != 0)
			continue;
		limit = strcmp(least, "{page_size}") == 0 ?
			run->stream->page_size : strtoll(least, NULL, 10);
		if (records >= limit)
			return true;
	}
	return false;
}

/* What HTTP says where no rule does. */
static IngestAction
usual_action(const IngestRun *run, int status)
{
	if (status >= 200 && status <= 299)
		return ACTION_ACCEPT;
	if (status == 408 || status == 425 || status == 429 || status == 500 ||
		(status >= 502 && status <= 504) || (status >= 520 && status <= 524))
		return ACTION_RETRY;
	if (status == 401 && run->token != NULL)
		return ACTION_REFRESH;
	return ACTION_FAIL;
}

static IngestAction
action_of(const IngestRun *run, Jsonb *rule, int status)
{
	static const char *const names[] = {
		"accept", "retry", "fail", "ignore", "split", "refresh_token"
	};
	char	   *action = core_json_text(rule, "action");

	for (int i = 0; action != NULL && i < lengthof(names); i++)
		if (strcmp(names[i], action) == 0)
			return (IngestAction) i;
	return usual_action(run, status);
}

/* ---- errors ---- */

/* What the other system says of an error, in short, or "". */
static char *
said(const IngestStream *stream, ScanSlice body)
{
	char	   *path = core_json_text(stream->endpoint, "error_message");
	char	   *message = NULL;

	if (path != NULL && body.length < MAX_ERROR_BODY)
		message = scan_path_text(body, path);
	if (message == NULL && body.length > 0 && body.length < MAX_SHOWN &&
		body.start[0] != '<' && body.start[0] != '{' &&
		pg_verify_mbstr(PG_UTF8, body.start, body.length, true) &&
		memchr(body.start, '\n', body.length - 1) == NULL)
		message = pnstrdup(body.start, body.length);
	if (message == NULL)
		return pstrdup("");
	return psprintf(", and says: %.*s",
					pg_mbcliplen(message, strlen(message), MAX_SHOWN),
					message);
}

/* The ERROR for a request that gave no answer. */
static void
report_no_answer(const IngestRun *run, const NetRequest *request,
				 const NetTransfer *transfer, const char *what)
{
	NetOutcome	outcome = net_outcome(transfer);

	if (outcome == NET_REFUSED)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("%s of stream \"%s\" may not be requested: %s", what,
						run->stream->name, net_reason(transfer)),
				 errdetail("The request was %s %s.", request->method,
						   request->url),
				 errhint("A superuser can add the host to setting "
						 "visage.allowed_hosts.")));
	ereport(ERROR,
			(errcode(outcome == NET_FAILED ? ERRCODE_CONNECTION_FAILURE :
					 ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("could not read %s of stream \"%s\": %s", what,
					run->stream->name, net_reason(transfer)),
			 errdetail("The request was %s %s, attempt %d.", request->method,
					   request->url, net_attempts(transfer)),
			 errhint("The pages before it are committed; the next run goes "
					 "on from there.")));
}

/* The ERROR for an answer that is none. */
static void
report_status(const IngestRun *run, const NetRequest *request,
			  const NetTransfer *transfer, const Answer *answer,
			  Jsonb *rule, const char *what)
{
	char	   *message = core_json_text(rule, "message");

	ereport(ERROR,
			(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
			 errmsg("could not read %s of stream \"%s\": the server answers "
					"with status %d%s", what, run->stream->name,
					answer->status, said(run->stream, answer->body)),
			 errdetail("%s%sThe request was %s %s, attempt %d.",
					   message ? message : "", message ? ". " : "",
					   request->method, request->url, net_attempts(transfer)),
			 errhint("The pages before it are committed; the next run goes "
					 "on from there.")));
}

/* "page 3", for messages. */
static char *
page_name(const IngestRun *run)
{
	return psprintf("page " INT64_FORMAT, run->counts.pages + 1);
}

/* ---- waits ---- */

/* Milliseconds until the day ends by UTC. */
static int64
until_midnight(void)
{
	TimestampTz now = GetCurrentTimestamp();
	int64		passed = now % USECS_PER_DAY;

	return (USECS_PER_DAY - passed) / 1000 + 1000;
}

/* How long to wait before the next attempt, by rule and by what was asked. */
static int64
retry_wait(Jsonb *rule, int retries)
{
	int64		longest = core_setting_int("visage.max_retry_wait") * 1000;
	int64		delay = core_setting_int("visage.retry_delay");
	char	   *wait = core_json_text(rule, "wait");

	if (core_json_text(rule, "wait_until") != NULL)
		return until_midnight();
	if (wait != NULL)
		return ingest_duration(wait) / 1000;
	for (int i = 0; i < retries && delay < longest; i++)
		delay *= 2;
	delay = Min(delay, longest);
	return delay / 2 +
		(int64) (pg_prng_double(&pg_global_prng_state) * delay / 2);
}

/* ERROR where the wait is longer than a run may wait. */
static void
check_wait(const IngestRun *run, const NetRequest *request, Jsonb *rule,
		   int status, int64 wait, const char *what)
{
	char	   *message = core_json_text(rule, "message");
	TimestampTz until;

	if (wait <= core_setting_int("visage.max_retry_wait") * 1000)
		return;
	until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), wait);
	ereport(ERROR,
			(errcode(ERRCODE_CONNECTION_FAILURE),
			 errmsg("could not read %s of stream \"%s\": status %d, and the "
					"server asks to wait " INT64_FORMAT " s, longer than "
					"setting visage.max_retry_wait", what, run->stream->name,
					status, wait / 1000),
			 errdetail("%s%sThe request was %s %s. It may be repeated from %s "
					   "on.", message ? message : "", message ? ". " : "",
					   request->method, request->url,
					   ingest_format_instant(until, "iso8601", NULL))));
}

/* How often a request may be repeated. */
static int64
max_retries(Jsonb *rule)
{
	char	   *text = core_json_text(rule, "retries");

	return text ? strtoll(text, NULL, 10) :
		core_setting_int("visage.max_retries");
}

/* ---- pages ---- */

/* The request again, with what it needs now (a new token, for one). */
static void
ask_again(IngestRun *run, IngestFetch *fetch, int64 wait)
{
	MemoryContext caller = MemoryContextSwitchTo(fetch->context);

	fetch->request = ingest_build_request(run, &fetch->at);
	net_again(fetch->transfer, fetch->request, wait);
	MemoryContextSwitchTo(caller);
}

/* The answer, as far as it is there. */
static Answer
answer_of(const NetTransfer *transfer)
{
	Answer		answer = {.status = net_status(transfer)};

	answer.body.start = net_data(transfer, &answer.body.length);
	return answer;
}

/*
 * The page did not come whole, or is none: asks again after a while, or
 * raises the ERROR.
 */
void
ingest_retry(IngestRun *run, IngestFetch *fetch, const char *problem)
{
	bool		answered = !net_is_done(fetch->transfer) ||
	net_outcome(fetch->transfer) == NET_ANSWERED;

	if (!answered && (net_outcome(fetch->transfer) != NET_FAILED ||
					  fetch->retries >= max_retries(NULL)))
		report_no_answer(run, fetch->request, fetch->transfer,
						 page_name(run));
	if (answered && (fetch->retries >= max_retries(NULL) ||
					 ++fetch->repeats > 1))
		ereport(ERROR,
				(errcode(ERRCODE_PROTOCOL_VIOLATION),
				 errmsg("page " INT64_FORMAT " of stream \"%s\" is not "
						"usable", run->counts.pages + 1, run->stream->name),
				 errdetail("%s The request was %s %s.", problem,
						   fetch->request->method, fetch->request->url),
				 errhint("The pages before it are committed; the next run "
						 "goes on from there.")));
	ask_again(run, fetch, retry_wait(NULL, fetch->retries++));
}

/* What a rule has to say about an answer that is accepted, once a run. */
static void
warn(IngestRun *run, Jsonb *rule)
{
	char	   *message = core_json_text(rule, "message");
	ListCell   *said;

	if (message == NULL)
		return;
	foreach(said, run->warnings)
	{
		if (strcmp(lfirst(said), message) == 0)
			return;
	}
	ereport(WARNING,
			(errmsg("stream \"%s\": %s", run->stream->name, message)));
	MemoryContextSwitchTo(run->context);
	run->warnings = lappend(run->warnings, pstrdup(message));
	MemoryContextSwitchTo(run->page_context);
}

/* One turn: true where the answer is to be acted upon. */
static bool
judge(IngestRun *run, IngestFetch *fetch, IngestAction *action)
{
	Answer		answer = answer_of(fetch->transfer);
	Jsonb	   *rule = find_rule(run->stream, &answer);
	int64		asked = net_retry_after(fetch->transfer);
	int64		wait;

	*action = action_of(run, rule, answer.status);
	switch (*action)
	{
		case ACTION_ACCEPT:
		case ACTION_IGNORE:
		case ACTION_SPLIT:
			warn(run, rule);
			return true;
		case ACTION_REFRESH:
			if (fetch->refreshed || !ingest_forget_token(run))
				break;
			fetch->refreshed = true;
			ask_again(run, fetch, 0);
			return false;
		case ACTION_RETRY:
			wait = Max(retry_wait(rule, fetch->retries), asked);
			check_wait(run, fetch->request, rule, answer.status, wait,
					   page_name(run));
			if (fetch->retries >= max_retries(rule))
				break;
			fetch->retries++;
			ask_again(run, fetch, wait);
			return false;
		case ACTION_FAIL:
			break;
	}
	report_status(run, fetch->request, fetch->transfer, &answer, rule,
				  page_name(run));
	return false;
}

/*
 * Waits for the beginning of the page's answer, asking again where that may
 * help, and tells what to do with it.
 */
IngestAction
ingest_await_answer(IngestRun *run, IngestFetch *fetch)
{
	IngestAction action;

	for (;;)
	{
		bool		done = net_wait(fetch->transfer);

		if (done && net_outcome(fetch->transfer) != NET_ANSWERED)
			ingest_retry(run, fetch, NULL);
		else if (judge(run, fetch, &action))
			return action;
	}
}

/* ---- other requests ---- */

/*
 * Makes a request that is no page and gives the whole body.  spec, where it
 * is not NULL, is what to build the request from again.
 */
static char *
call(IngestRun *run, NetRequest *request, Jsonb *spec, const char *what)
{
	NetTransfer *transfer = net_start(run->net, request);
	int			retries = 0;
	bool		refreshed = false;

	for (;;)
	{
		Answer		answer;
		Jsonb	   *rule = NULL;
		IngestAction action;
		int64		wait = 0;

		while (!net_wait(transfer))
			net_widen(transfer);
		answer = answer_of(transfer);
		if (spec != NULL && net_outcome(transfer) == NET_ANSWERED)
			rule = find_rule(run->stream, &answer);
		action = net_outcome(transfer) == NET_ANSWERED ?
			action_of(run, rule, answer.status) :
			net_outcome(transfer) == NET_FAILED ? ACTION_RETRY : ACTION_FAIL;
		if (action == ACTION_ACCEPT)
		{
			char	   *body = pnstrdup(answer.body.start,
										answer.body.length);

			net_end(transfer);
			return body;
		}
		if (action == ACTION_REFRESH && spec != NULL && !refreshed &&
			ingest_forget_token(run))
			refreshed = true;
		else if (action == ACTION_RETRY && retries < max_retries(rule))
		{
			wait = Max(retry_wait(rule, retries++),
					   net_outcome(transfer) == NET_ANSWERED ?
					   net_retry_after(transfer) : 0);
			check_wait(run, request, rule, answer.status, wait, what);
		}
		else if (net_outcome(transfer) != NET_ANSWERED)
			report_no_answer(run, request, transfer, what);
		else
			report_status(run, request, transfer, &answer, rule, what);
		if (spec != NULL)
			request = ingest_build_other(run, spec, &run->position);
		net_again(transfer, request, wait);
	}
}

/* Why the answer to one request is no good, or NULL; nothing is repeated. */
char *
ingest_judge_once(IngestRun *run, NetTransfer *transfer)
{
	Answer		answer = answer_of(transfer);
	Jsonb	   *rule;
	IngestAction action;
	char	   *message;

	if (net_outcome(transfer) != NET_ANSWERED)
		return pstrdup(net_reason(transfer));
	rule = find_rule(run->stream, &answer);
	action = action_of(run, rule, answer.status);
	if (action == ACTION_ACCEPT || action == ACTION_IGNORE ||
		answer.status / 100 == 2)
		return NULL;
	message = core_json_text(rule, "message");
	return psprintf("the server answers with status %d%s%s%s", answer.status,
					said(run->stream, answer.body), message ? ": " : "",
					message ? message : "");
}

/* A request by HTTP's rules only, as for a token. */
char *
ingest_call(IngestRun *run, NetRequest *request, const char *what)
{
	return call(run, request, NULL, what);
}

/* A request of the manifest's, by its rules. */
char *
ingest_call_ruled(IngestRun *run, Jsonb *spec, const char *what)
{
	return call(run, ingest_build_other(run, spec, &run->position), spec,
				what);
}

/*-------------------------------------------------------------------------
 *
 * crawl.c
 *		One page: asking for it, checking it, saying what went wrong.
 *
 * Runs between transactions: nothing here may look at a table.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "core/core.h"
#include "ingest/ingest.h"
#include "mb/pg_wchar.h"

#define MAX_SHOWN 300			/* bytes of another system's error message */

/* What the visitor looks for in an error body. */
typedef struct ErrorBody
{
	const char *wanted;
	char	   *message;
} ErrorBody;

static void
visit_error(void *arg, ScanSlice name, ScanSlice value, ScanKind kind)
{
	ErrorBody  *body = arg;

	if (kind == SCAN_STRING && scan_name_is(name, body->wanted))
		body->message = scan_text(value);
}

/* What the other system says of an error, in short, or "". */
static char *
error_message(const IngestStream *stream, const NetResponse *response)
{
	ErrorBody	body = {
		.wanted = core_json_text(stream->manifest, "error_message")
	};
	ScanSlice	slice = {response->body, response->length};

	if (body.wanted != NULL && response->length < 65536)
		(void) scan_record(slice, visit_error, &body);
	if (body.message == NULL)
		return pstrdup("");
	return psprintf(", and says: %.*s",
					pg_mbcliplen(body.message, strlen(body.message),
								 MAX_SHOWN), body.message);
}

/* The ERROR for a request that gave no usable answer. */
static void
report_failure(const IngestRun *run, const NetRequest *request,
			   NetOutcome outcome, const NetResponse *response)
{
	const char *stream = run->stream->name;
	int64		page = run->pages + 1;

	if (outcome == NET_REFUSED)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("page " INT64_FORMAT " of stream \"%s\" may not be "
						"requested: %s", page, stream, response->reason),
				 errdetail("The request was GET %s.", request->url),
				 errhint("A superuser can add the host to setting "
						 "visage.allowed_hosts.")));
	if (outcome != NET_ANSWERED)
		ereport(ERROR,
				(errcode(outcome == NET_FAILED ? ERRCODE_CONNECTION_FAILURE :
						 ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("could not read page " INT64_FORMAT " of stream "
						"\"%s\": %s", page, stream, response->reason),
				 errdetail("The request was GET %s, attempt %d.",
						   request->url, response->attempts),
				 errhint("The pages before it are committed; the next run "
						 "goes on from there.")));
	ereport(ERROR,
			(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
			 errmsg("could not read page " INT64_FORMAT " of stream \"%s\": "
					"the server answers with status %d%s", page, stream,
					response->status, error_message(run->stream, response)),
			 errdetail("The request was GET %s, attempt %d.",
					   request->url, response->attempts),
			 errhint("The pages before it are committed; the next run goes "
					 "on from there.")));
}

/* Does a page by cursor bring the crawl on?  An empty one ends it. */
static bool
brings_on(const IngestRun *run, const IngestPage *page)
{
	const IngestPosition *position = &run->position;

	if (page->count == 0 || run->stream->tie_break == NULL ||
		position->tie == NULL)
		return true;
	return page->last_value != NULL &&
		(strcmp(page->last_value, position->value) != 0 ||
		 strcmp(page->last_tie, position->tie) != 0);
}

/*
 * The page at the run's position, in the page's context.  A page that is no
 * page, or brings nothing new, is asked for once more before the ERROR.
 */
IngestPage *
ingest_fetch_page(IngestRun *run)
{
	NetRequest *request = ingest_build_request(run);
	char	   *problem = NULL;

	for (int attempt = 0; attempt < 2; attempt++)
	{
		NetResponse response;
		NetOutcome	outcome = net_fetch(run->net, request, &response);
		ScanSlice	body;
		IngestPage *page;

		if (outcome != NET_ANSWERED || response.status != 200)
			report_failure(run, request, outcome, &response);
		body.start = response.body;
		body.length = response.length;
		page = ingest_read_page(run, body, &problem);
		if (page != NULL && brings_on(run, page))
			return page;
		if (page != NULL)
			problem = pstrdup("It brings no record after the last one.");
	}
	ereport(ERROR,
			(errcode(ERRCODE_PROTOCOL_VIOLATION),
			 errmsg("page " INT64_FORMAT " of stream \"%s\" is not usable",
					run->pages + 1, run->stream->name),
			 errdetail("%s The request was GET %s.", problem, request->url),
			 errhint("The pages before it are committed; the next run goes "
					 "on from there.")));
}

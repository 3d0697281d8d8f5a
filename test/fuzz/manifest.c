/*-------------------------------------------------------------------------
 *
 * manifest.c
 *		A fuzz target: manifests of connectors.
 *
 * The input is a manifest and, behind a NUL, an answer of the system.  What
 * the grammar (connectors/schema.json) lets in is declared as a stream's
 * connector and read, each of its streams; requests are built at several
 * positions, the answer is cut, shaped and paged through.  All that ends in
 * values or in an ERROR of the user's; bodies are JSON, URLs and headers have
 * no character that would end them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "ingest/ingest.h"
#include "mb/pg_wchar.h"
#include "server.h"
#include "source.h"

#define PER_BYTE 4096
#define AT_LEAST ((size_t) 64 << 20)
#define MOST_STREAMS 8			/* of a manifest, that are gone through */

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *answer;			/* of the input under test */

/* ---- what stands around the code under test ---- */

char *
net_next_link(const NetTransfer *transfer, const char *rel)
{
	return pstrdup("http://127.0.0.1/next");
}

/* The answer to the request for a token. */
char *
ingest_call(IngestRun *run, NetRequest *request, const char *what)
{
	return pstrdup(answer[0] ? answer :
				   "{\"access_token\": \"a\", \"expires_in\": 60}");
}

/* ---- the code under test ---- */

/* Step of server_try: cuts and shapes the answer, and goes on to a page. */
static void
take_answer(IngestRun *run, const IngestPosition *at)
{
	char	   *selector = core_json_text(run->stream->endpoint,
										  "data_selector");
	Split		split = {.format = SPLIT_JSON,.delimiter = ',',
	.selector = selector ? selector : ""};
	ScanSlice	data = {answer, strlen(answer)};
	IngestFetch fetch = {.at = *at};
	IngestBatch batch = {.final = true,.whole = true};
	NetRequest	request = {.url = "http://127.0.0.1/"};
	IngestPosition next;
	char	   *problem = NULL;

	split_begin(&split);
	(void) split_cut(&split, data, true, &problem);
	(void) ingest_shape_records(ingest_open_shape(run, at), &split, &problem);
	for (int i = 0; i < split.count; i++)
	{
		ScanSlice	record = split.records[i].slice;

		if (split.records[i].reason != NULL)
			continue;
		(void) scan_record(record, NULL, NULL);
		batch.first_value = batch.last_value = batch.newest =
			run->stream->cursor.field ?
			scan_path_text(record, run->stream->cursor.field) : NULL;
		batch.last_tie = run->stream->paginator.tie_break ?
			scan_path_text(record, run->stream->paginator.tie_break) : NULL;
	}
	fetch.request = &request;
	fetch.records = batch.count = split.count;
	batch.envelope.start = split.envelope.data;
	batch.envelope.length = split.envelope.len;
	run->position = *at;
	(void) ingest_brings_on(run, &fetch, &batch);
	if (ingest_advance(run, &fetch, &batch, &next))
	{
		(void) ingest_at_limit(run, &next);
		source_check_request(ingest_build_request(run, &next));
	}
	(void) ingest_predict(run, at, &next);
}

/* One stream of the manifest. */
static void
crawl(const char *resource)
{
	IngestRun	run = {.from_value = "2024-02-29T12:00:00Z"};
	IngestPosition at = {0};
	Jsonb	   *check = core_json_value(source_manifest, "check");
	Jsonb	   *create;

	run.stream = source_stream(resource);
	if (run.stream->database != NULL || ingest_is_database(source_manifest))
		return;
	run.parent = core_json_parse("{\"id\": \"a/b'\\\"\\n\", \"n\": 1.50}");
	at.window_from = INT64CONST(762436800000000);
	at.window_to = at.window_from + INT64CONST(86400000000);
	source_check_request(ingest_build_request(&run, &at));
	create = run.stream->paginator.create;
	if (create != NULL)
		source_check_request(ingest_build_other(&run, create, &at));
	if (check != NULL)
		source_check_request(ingest_build_other(&run, check, &at));
	at.partition = run.stream->partition_count - 1;
	at.cursor = "a&b=%41\"";
	/* values come out of answers that were found to be UTF-8 */
	at.value = answer[0] && pg_verify_mbstr(PG_UTF8, answer, strlen(answer),
											true) ? answer :
		"2024-02-29 12:00:00.5+02";
	at.tie = "it's";
	at.offset = at.page = 3;
	run.to_value = "1709251200";
	run.stream = run.stream->tombstones ? run.stream->tombstones : run.stream;
	source_check_request(ingest_build_request(&run, &at));
	if (run.stream->cursor.field != NULL)
		(void) ingest_compare_values(run.stream->cursor.format, at.value,
									 run.to_value);
	take_answer(&run, &at);
}

static void
crawl_stream(void *arg)
{
	crawl(arg);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t		limit = AT_LEAST + size * PER_BYTE;
	char	   *copy = malloc(size + 2);
	SourceStreams streams = {0};

	memcpy(copy, data, size);
	copy[size] = copy[size + 1] = '\0';
	answer = copy + strlen(copy) + (strlen(copy) < size);
	if (server_try(source_read, copy, limit) &&
		server_try(source_list_streams, &streams, limit))
	{
		(void) server_try(crawl_stream, "any", limit);
		for (int i = 0; i < Min(streams.count, MOST_STREAMS); i++)
			(void) server_try(crawl_stream, streams.names[i], limit * 8);
	}
	server_free_all();
	free(copy);
	return 0;
}

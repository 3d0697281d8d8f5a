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
 * Half of the mutations replace a JSON value by another one of the input, so
 * that they stay JSON.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "core/secret.h"
#include "ingest/ingest.h"
#include "mb/pg_wchar.h"
#include "server.h"

#define PER_BYTE 4096
#define AT_LEAST ((size_t) 64 << 20)
#define MOST_STREAMS 8			/* of a manifest, that are gone through */

extern int	LLVMFuzzerInitialize(int *argc, char ***argv);
extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
extern size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most);
extern size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most,
									  unsigned int seed);

static Jsonb *grammar;

/* The input under test. */
static Jsonb *manifest;
static char *answer;

/* ---- what stands around the code under test ---- */

/* The source and its connector. */
Jsonb *
core_find_declaration(const char *noun, const char *name, bool missing_ok)
{
	if (strcmp(noun, "connector") == 0)
		return core_json_object("manifest", manifest);
	return core_json_parse("{\"connector\": \"fuzzed\", \"secrets\": {},"
						   " \"options\": {\"page_size\": 7, \"list\":"
						   " [\"a\", \"b\"], \"base_url\":"
						   " \"http://127.0.0.1/api/\"}}");
}

Jsonb *
net_open_secrets(Jsonb *references)
{
	return references;
}

char *
core_read_secret(const char *name, const char *reference)
{
	return pstrdup("open sesame");
}

bool
ingest_is_database(Jsonb *from)
{
	char	   *protocol = core_json_text(from, "protocol");

	return protocol != NULL && strcmp(protocol, "postgresql") == 0;
}

void
ingest_read_database(IngestStream *stream, Jsonb *source_options)
{
}

void
ingest_reset_query(IngestPosition *position)
{
	memset(position, 0, sizeof(*position));
}

char *
net_next_link(const NetTransfer *transfer, const char *rel)
{
	return pstrdup("http://127.0.0.1/next");
}

char *
net_resolve_url(const char *base, const char *relative)
{
	return pstrdup(relative);
}

bool
net_same_origin(const char *a, const char *b)
{
	return true;
}

char *
net_base64(const void *data, size_t length)
{
	return pstrdup("YQ==");
}

char *
net_base64url(const void *data, size_t length)
{
	return pstrdup("YQ");
}

char *
net_sign_rs256(const char *key, const char *data)
{
	return pstrdup("YQ");
}

/* The answer to the request for a token. */
char *
ingest_call(IngestRun *run, NetRequest *request, const char *what)
{
	return pstrdup(answer[0] ? answer :
				   "{\"access_token\": \"a\", \"expires_in\": 60}");
}

/* ---- the code under test ---- */

static void
check_request(const NetRequest *request)
{
	ScanSlice	body = {request->body, request->body ? strlen(request->body) : 0};

	if (strpbrk(request->url, "\r\n") != NULL)
		abort();
	for (int i = 0; i < request->header_count; i++)
		if (strpbrk(request->headers[i].line, "\r\n") != NULL)
			abort();
	if (body.start != NULL && body.start[0] == '{' &&
		scan_document(body) != NULL)
		abort();
}

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
		check_request(ingest_build_request(run, &next));
	}
	(void) ingest_predict(run, at, &next);
}

/* One stream of the manifest. */
static void
crawl(const char *resource)
{
	Jsonb	   *declared =
	core_json_parse("{\"source\": \"s\", \"stream\": \"t\","
					" \"lag\": \"00:00:00\", \"write_disposition\": \"merge\","
					" \"schema_contract\": \"evolve\","
					" \"hard_deletes\": \"invalidate\","
					" \"keep_landing\": \"7 days\"}");
	IngestRun	run = {.from_value = "2024-02-29T12:00:00Z"};
	IngestPosition at = {0};
	Jsonb	   *check = core_json_value(manifest, "check");
	Jsonb	   *create;

	declared = core_json_merge_patch(declared,
									 core_json_object("resource",
													  core_json_string(resource)));
	run.stream = ingest_read_declared("s.t", declared);
	if (run.stream->database != NULL || ingest_is_database(manifest))
		return;
	run.parent = core_json_parse("{\"id\": \"a/b'\\\"\\n\", \"n\": 1.50}");
	at.window_from = INT64CONST(762436800000000);
	at.window_to = at.window_from + INT64CONST(86400000000);
	check_request(ingest_build_request(&run, &at));
	create = run.stream->paginator.create;
	if (create != NULL)
		check_request(ingest_build_other(&run, create, &at));
	if (check != NULL)
		check_request(ingest_build_other(&run, check, &at));
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
	check_request(ingest_build_request(&run, &at));
	if (run.stream->cursor.field != NULL)
		(void) ingest_compare_values(run.stream->cursor.format, at.value,
									 run.to_value);
	take_answer(&run, &at);
}

static void
check_manifest(void *arg)
{
	const char *text = arg;

	manifest = core_json_parse(text);
	core_check_schema(grammar, manifest, "the manifest");
	ingest_check_manifest(manifest, "fuzzed");
}

typedef struct Streams
{
	char	  **names;
	int			count;
} Streams;

static void
list_streams(void *arg)
{
	Streams    *streams = arg;

	streams->names = core_json_keys(core_json_value(manifest, "streams"),
									&streams->count);
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
	Streams		streams = {0};

	memcpy(copy, data, size);
	copy[size] = copy[size + 1] = '\0';
	answer = copy + strlen(copy) + (strlen(copy) < size);
	if (server_try(check_manifest, copy, limit) &&
		server_try(list_streams, &streams, limit))
	{
		(void) server_try(crawl_stream, "any", limit);
		for (int i = 0; i < Min(streams.count, MOST_STREAMS); i++)
			(void) server_try(crawl_stream, streams.names[i], limit * 8);
	}
	server_free_all();
	free(copy);
	return 0;
}

/* ---- the grammar ---- */

static void
read_grammar(void *arg)
{
	grammar = core_json_parse(arg);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	FILE	   *file = fopen(GRAMMAR, "r");
	char	   *text = calloc(1, 1 << 20);

	if (file == NULL || fread(text, 1, (1 << 20) - 1, file) == 0 ||
		!server_try(read_grammar, text, SIZE_MAX))
	{
		fprintf(stderr, "%s cannot be read\n", GRAMMAR);
		exit(1);
	}
	fclose(file);
	free(text);
	server_keep_all();
	return 0;
}

/* ---- mutations ---- */

/* Where the value that begins here ends. */
static size_t
end_of_value(const uint8_t *data, size_t size, size_t at)
{
	int			depth = 0;

	do
	{
		if (data[at] == '"')
			for (at++; at < size && data[at] != '"'; at++)
				at += data[at] == '\\';
		else if (data[at] == '{' || data[at] == '[')
			depth++;
		else if (data[at] == '}' || data[at] == ']')
			depth--;
		else if (depth == 0)
		{
			while (at < size && memchr(",]}: \t\n\r", data[at], 8) == NULL)
				at++;
			return at;
		}
		at++;
	} while (at < size && depth > 0);
	return Min(at, size);
}

/* A place where a value, or a name, begins, at random. */
static size_t
random_value(const uint8_t *data, size_t size)
{
	for (int i = 0; i < 50; i++)
	{
		size_t		at = random() % size;

		while (at < size && memchr("[{,:", data[at], 4) == NULL)
			at++;
		for (at++; at < size && data[at] != '\0' && data[at] <= ' '; at++)
			;
		if (at < size && memchr("]},:", data[at], 4) == NULL)
			return at;
	}
	return 0;
}

/* Replaces a value by another one, or by one that is often wrong. */
static size_t
replace_value(uint8_t *data, size_t size, size_t most)
{
	static const char *const others[] = {
		"null", "true", "\"\"", "{}", "[]", "0", "-1", "1e300", "1.5",
		"9223372036854775807", "\"{value}\"", "\"{from} {to}\"", "\"{cursor}\"",
		"\"{option.list}\"", "\"{secret.a}\"", "\"{parent.id}\"",
		"\"{partition.a}\"", "\"99999999999 years\"", "\"2000000000 months\"",
		"\"100000000000000 s\"", "\"0 s\"", "\"epoch\"", "\"epoch_ms\"",
		"\"integer\"", "\"iso8601\"", "\"a[].b\"", "\"a.b\"", "\".\"",
		"{\"$number\": \"{value}\"}", "{\"$if\": \"value\", \"a\": 1}",
		"{\"$each\": \"{option.list}\", \"item\": \"{item}\"}"
	};
	size_t		at = random_value(data, size);
	size_t		end = end_of_value(data, size, at);
	size_t		from = random_value(data, size);
	size_t		length = end_of_value(data, size, from) - from;
	const char *other = others[random() % lengthof(others)];
	bool		own = random() % 2;
	uint8_t    *value;

	if (!own)
		length = strlen(other);
	if (size - (end - at) + length > most)
		return size;
	value = malloc(length + 1);
	memcpy(value, own ? data + from : (const uint8_t *) other, length);
	memmove(data + at + length, data + end, size - end);
	memcpy(data + at, value, length);
	free(value);
	return size - (end - at) + length;
}

size_t
LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most,
						unsigned int seed)
{
	srandom(seed);
	if (size < 2 || random() % 2)
		return LLVMFuzzerMutate(data, size, most);
	for (int i = random() % 3; i >= 0; i--)
		size = replace_value(data, size, most);
	return size;
}

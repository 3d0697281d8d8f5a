/*-------------------------------------------------------------------------
 *
 * source.c
 *		What the targets share that read a connector's manifest: the source
 *		with its secrets, the grammar, mutations that keep to it.
 *
 * Half of the mutations replace a JSON value by another one of the input, so
 * that they stay JSON.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "core/secret.h"
#include "source.h"
#include "server.h"

extern int	LLVMFuzzerInitialize(int *argc, char ***argv);
extern size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most);
extern size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most,
									  unsigned int seed);

Jsonb	   *source_manifest;

static Jsonb *grammar;

/* ---- what stands around the code under test ---- */

/* The source and its connector. */
Jsonb *
core_find_declaration(const char *noun, const char *name, bool missing_ok)
{
	if (strcmp(noun, "connector") == 0)
		return core_json_object("manifest", source_manifest);
	return core_json_parse("{\"connector\": \"fuzzed\", \"secrets\":"
						   " {\"a\": \"\", \"token\": \"\", \"api_key\": \"\","
						   " \"access_token\": \"\", \"passcode\": \"\","
						   " \"service_account\": \"\"},"
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
	if (strcmp(name, "service_account") == 0)
		return pstrdup("{\"client_email\": \"a\", \"private_key\": \""
					   SOURCE_SECRET "\", \"token_uri\":"
					   " \"http://127.0.0.1/token\"}");
	return pstrdup(SOURCE_SECRET);
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
	position->value = position->tie = NULL;
	position->cursor = position->link = position->from = NULL;
	position->offset = position->page = position->page_hash = 0;
	position->query_pages = position->query_records = 0;
	position->query_done = false;
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

/* ---- the manifest ---- */

void
source_read(void *arg)
{
	source_manifest = core_json_parse(arg);
	core_check_schema(grammar, source_manifest, "the manifest");
	ingest_check_manifest(source_manifest, "fuzzed");
}

void
source_list_streams(void *arg)
{
	SourceStreams *streams = arg;

	streams->names = core_json_keys(core_json_value(source_manifest, "streams"),
									&streams->count);
}

IngestStream *
source_stream(const char *resource)
{
	Jsonb	   *declared =
	core_json_parse("{\"source\": \"s\", \"stream\": \"t\","
					" \"lag\": \"00:00:00\", \"write_disposition\": \"merge\","
					" \"schema_contract\": \"evolve\","
					" \"hard_deletes\": \"invalidate\","
					" \"keep_landing\": \"7 days\"}");

	declared = core_json_merge_patch(declared,
									 core_json_object("resource",
													  core_json_string(resource)));
	return ingest_read_declared("s.t", declared);
}

void
source_check_request(const NetRequest *request)
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

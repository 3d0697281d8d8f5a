/*-------------------------------------------------------------------------
 *
 * stream.c
 *		Reads a stream's declaration with its source's and its manifest.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "core/core.h"
#include "ingest/ingest.h"
#include "utils/builtins.h"

static Jsonb *
empty_object(void)
{
	return core_json_parse("{}");
}

static Jsonb *
merge(Jsonb *a, Jsonb *b)
{
	if (b == NULL)
		return a;
	return DatumGetJsonbP(DirectFunctionCall2(jsonb_concat, JsonbPGetDatum(a),
											  JsonbPGetDatum(b)));
}

/*
 * The manifest's stream that a resource means: its name, or "name/rest"
 * with the rest as what {resource} stands for.  NULL: none of that name.
 */
static char *
find_manifest_stream(Jsonb *manifest, char **resource)
{
	Jsonb	   *streams = core_json_value(manifest, "streams");
	char	   *slash = strchr(*resource, '/');
	char	   *name;
	char	   *inner;

	if (core_json_value(streams, *resource) != NULL)
	{
		name = *resource;
		inner = core_json_text(core_json_value(streams, name), "resource");
		if (inner != NULL)
			*resource = inner;
		return name;
	}
	if (slash == NULL)
		return NULL;
	name = pnstrdup(*resource, slash - *resource);
	if (core_json_value(streams, name) == NULL)
		return NULL;
	*resource = slash + 1;
	return name;
}

/* ERROR: the connector has streams, and this is none. */
static void
report_no_stream(Jsonb *manifest, const char *connector,
				 const char *resource)
{
	int			count;
	char	  **names = core_json_keys(core_json_value(manifest, "streams"),
									   &count);
	char	   *nearest = core_nearest(resource, names, count);

	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("connector \"%s\" has no stream \"%s\"", connector,
					resource),
			 nearest ? errhint("Perhaps you meant \"%s\".", nearest) : 0));
}

/* Options without a value get the manifest's default. */
static Jsonb *
options_of(Jsonb *manifest, Jsonb *source, Jsonb *stream)
{
	Jsonb	   *known = core_json_value(manifest, "options");
	Jsonb	   *options = empty_object();
	int			count;
	char	  **names = core_json_keys(known, &count);

	for (int i = 0; i < count; i++)
	{
		Jsonb	   *value = core_json_value(core_json_value(known, names[i]),
											"default");

		if (value != NULL)
			options = merge(options, core_json_object(names[i], value));
	}
	return merge(merge(options, source), stream);
}

/* A URL without the slashes at its end. */
static char *
trim_url(char *url)
{
	size_t		len = strlen(url);

	while (len > 0 && url[len - 1] == '/')
		url[--len] = '\0';
	return url;
}

/* {option.NAME} in the base URL. */
static char *
lookup_option(void *arg, const char *name, bool *secret)
{
	if (strncmp(name, "option.", 7) != 0)
		return NULL;
	return core_json_text(((IngestStream *) arg)->options, name + 7);
}

static char *
base_url(IngestStream *stream)
{
	char	   *url = core_json_text(stream->options, "base_url");
	char	   *template = core_json_text(stream->manifest, "base_url");
	IngestScope scope = {.lookup = lookup_option,.arg = stream};

	if (url == NULL && template != NULL)
		url = ingest_fill(template, &scope);
	if (url == NULL || scope.missing)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("source \"%s\" has no option \"base_url\"",
						stream->source)));
	return trim_url(url);
}

/* Adds a path to those whose values become columns of their own. */
static void
add_path(IngestStream *stream, const char *path)
{
	if (path == NULL || strchr(path, '.') == NULL)
		return;
	for (int i = 0; i < stream->path_count; i++)
		if (strcmp(stream->paths[i], path) == 0)
			return;
	stream->paths = stream->paths == NULL ? palloc(sizeof(char *)) :
		repalloc(stream->paths, sizeof(char *) * (stream->path_count + 1));
	stream->paths[stream->path_count++] = pstrdup(path);
}

/* Nested values that are declared as columns, or are a key. */
static void
collect_paths(IngestStream *stream)
{
	int			count;
	char	  **names = core_json_keys(stream->types, &count);

	for (int i = 0; i < stream->key_count; i++)
		add_path(stream, stream->keys[i]);
	for (int i = 0; i < count; i++)
		add_path(stream, names[i]);
}

/*
 * Is a query applied as a whole, at its end?  Where there is no key, a
 * window, and with 'replace' the whole extract, takes the place of what was
 * there.
 */
static bool
is_spooled(const IngestStream *stream)
{
	if (strcmp(stream->disposition, "replace") == 0)
		return true;
	return stream->window.step != NULL && stream->key_count == 0;
}

/* What the stream's declaration says itself. */
static void
read_declared(IngestStream *stream, Jsonb *declared)
{
	static const char no_lag[] = "00:00:00";
	char	   *lag = core_json_text(declared, "lag");

	stream->keys = core_json_text_array(declared, "primary_key",
										&stream->key_count);
	stream->cursor.field = core_json_text(declared, "cursor_field");
	stream->initial_value = core_json_text(declared, "initial_value");
	stream->lag = strcmp(lag, no_lag) == 0 ? NULL : lag;
	stream->disposition = core_json_text(declared, "write_disposition");
	stream->contract = core_json_text(declared, "schema_contract");
	stream->hard_deletes = core_json_text(declared, "hard_deletes");
	stream->keep_landing = core_json_text(declared, "keep_landing");
	stream->declared_columns = core_json_value(declared, "columns") != NULL;
}

/* The rest of a stream whose source is a database. */
static void
read_database(IngestStream *stream, Jsonb *declared, Jsonb *source_options)
{
	Jsonb	   *types = core_json_value(declared, "columns");

	stream->endpoint = stream->manifest;
	stream->partition_count = 1;
	stream->types = types ? types : empty_object();
	if (stream->lag == NULL)
		stream->lag = pstrdup("00:00:00");
	stream->spooled = is_spooled(stream) || stream->key_count == 0;
	ingest_read_database(stream, source_options);
}

/*
 * The list of deleted records, where the manifest has one and the stream is to
 * obey it: the stream with another request.
 */
static IngestStream *
read_tombstones(IngestStream *stream)
{
	static const char own[] =
	"{\"path\": null, \"method\": null, \"params\": null, \"body\": null,"
	" \"paginator\": null, \"paginator_without_cursor\": null,"
	" \"deleted_when\": null}";
	Jsonb	   *part = core_json_value(stream->endpoint, "tombstones");
	IngestStream *tombstones;

	if (part == NULL || stream->parent != NULL || stream->spooled ||
		stream->key_count == 0 || strcmp(stream->hard_deletes, "ignore") == 0 ||
		strcmp(stream->disposition, "append") == 0)
		return NULL;
	tombstones = palloc(sizeof(IngestStream));
	*tombstones = *stream;
	tombstones->main = stream;
	tombstones->endpoint =
		ingest_overlay(core_json_merge_patch(stream->endpoint,
											 core_json_parse(own)), part);
	tombstones->deleted_at = core_json_text(part, "at");
	tombstones->page_size = 0;
	ingest_read_endpoint(tombstones);
	tombstones->page_size = Min(tombstones->page_size, stream->page_size);
	tombstones->partition_count = ++stream->partition_count;
	return tombstones;
}

/* A stream as it is declared here, in the current memory context. */
IngestStream *
ingest_read_declared(const char *name, Jsonb *declared)
{
	IngestStream *stream = palloc0(sizeof(IngestStream));
	Jsonb	   *source;
	Jsonb	   *types;
	char	   *connector;
	char	   *kind;
	char	   *size;

	stream->name = pstrdup(name);
	stream->source = core_json_text(declared, "source");
	source = core_find_declaration("source", stream->source, false);
	connector = core_json_text(source, "connector");
	stream->manifest = core_json_value(core_find_declaration("connector",
															 connector,
															 false),
									   "manifest");
	stream->table = psprintf("%s__%s", stream->source,
							 core_json_text(declared, "stream"));
	stream->resource = core_json_text(declared, "resource");
	if (stream->resource == NULL)
		stream->resource = core_json_text(declared, "stream");
	stream->secrets = net_open_secrets(core_json_value(source, "secrets"));
	stream->options = options_of(stream->manifest,
								 core_json_value(source, "options"),
								 core_json_value(declared, "options"));
	read_declared(stream, declared);
	if (ingest_is_database(stream->manifest))
	{
		read_database(stream, declared, core_json_value(source, "options"));
		return stream;
	}
	kind = find_manifest_stream(stream->manifest, &stream->resource);
	if (kind == NULL && core_json_text(stream->manifest, "path") == NULL)
		report_no_stream(stream->manifest, connector, stream->resource);
	stream->endpoint = ingest_endpoint(stream->manifest, kind);
	stream->base_url = base_url(stream);
	size = core_json_text(stream->options, "page_size");
	stream->page_size = size ? strtoll(size, NULL, 10) : 0;
	ingest_read_endpoint(stream);
	if (stream->lag == NULL)
		stream->lag = pstrdup("00:00:00");
	types = core_json_value(stream->endpoint, "types");
	stream->types = merge(types ? types : empty_object(),
						  core_json_value(declared, "columns"));
	collect_paths(stream);
	stream->spooled = is_spooled(stream);
	stream->tombstones = read_tombstones(stream);
	return stream;
}

/* Everything a run needs to know, in the current memory context. */
IngestStream *
ingest_read_stream(const char *name)
{
	return ingest_read_declared(name,
								core_find_declaration("stream", name, false));
}

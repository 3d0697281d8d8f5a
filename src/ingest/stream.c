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

/* The types of fields: the manifest's, overridden by the stream's. */
static Jsonb *
merge_types(Jsonb *manifest, Jsonb *declared)
{
	Datum		types = DirectFunctionCall1(jsonb_in, CStringGetDatum("{}"));
	Jsonb	   *known = core_json_value(manifest, "types");

	if (known != NULL)
		types = DirectFunctionCall2(jsonb_concat, types,
									JsonbPGetDatum(known));
	if (declared != NULL)
		types = DirectFunctionCall2(jsonb_concat, types,
									JsonbPGetDatum(declared));
	return DatumGetJsonbP(types);
}

/* The page size: the source's, or the manifest's. */
static int64
page_size(Jsonb *source_options, Jsonb *manifest)
{
	char	   *size = core_json_text(source_options, "page_size");

	if (size == NULL)
		size = core_json_text(manifest, "page_size");
	return size ? strtoll(size, NULL, 10) : 1000;
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

/* Everything a run needs to know, in the current memory context. */
IngestStream *
ingest_read_stream(const char *name)
{
	Jsonb	   *declared = core_find_declaration("stream", name, false);
	char	   *source = core_json_text(declared, "source");
	Jsonb	   *source_declared = core_find_declaration("source", source,
														false);
	Jsonb	   *connector =
	core_find_declaration("connector",
						  core_json_text(source_declared, "connector"),
						  false);
	Jsonb	   *source_options = core_json_value(source_declared, "options");
	IngestStream *stream = palloc0(sizeof(IngestStream));

	stream->name = pstrdup(name);
	stream->table = psprintf("%s__%s", source,
							 core_json_text(declared, "stream"));
	stream->resource = core_json_text(declared, "resource");
	if (stream->resource == NULL)
		stream->resource = core_json_text(declared, "stream");
	stream->manifest = core_json_value(connector, "manifest");
	stream->base_url = trim_url(core_json_text(source_options, "base_url"));
	stream->page_size = page_size(source_options, stream->manifest);
	stream->keys = core_json_text_array(declared, "primary_key",
										&stream->key_count);
	stream->cursor_field = core_json_text(declared, "cursor_field");
	stream->initial_value = core_json_text(declared, "initial_value");
	stream->lag = core_json_text(declared, "lag");
	stream->disposition = core_json_text(declared, "write_disposition");
	stream->keep_landing = core_json_text(declared, "keep_landing");
	stream->types = merge_types(stream->manifest,
								core_json_value(declared, "columns"));
	stream->options = core_json_value(declared, "options");
	stream->secrets = core_json_value(source_declared, "secrets");
	stream->paginator = core_json_value(stream->manifest,
										stream->cursor_field ? "paginator" :
										"paginator_without_cursor");
	if (stream->cursor_field)
		stream->tie_break = core_json_text(stream->paginator, "tie_break");
	return stream;
}

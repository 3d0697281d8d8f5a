/*-------------------------------------------------------------------------
 *
 * manifest.c
 *		Connectors: declaring one, and reading what its manifest says.
 *
 * The grammar is connectors/schema.json, which the extension carries as
 * visage.manifest_schema(); nothing here repeats it, and a manifest that was
 * let in is read without further checks.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "core/core.h"
#include "ingest/ingest.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* Members of a manifest that are merged by name, not replaced. */
static const char *const merged[] = {
	"params", "headers", "types", "rename", "add", "flatten"
};

/* The sources of a connector, with what it says now. */
static void
check_sources(const char *connector, Jsonb *manifest)
{
	int			count;
	char	  **names = core_declared_with("source", "connector", connector,
										   &count);

	for (int i = 0; i < count; i++)
		ingest_check_source(names[i], manifest);
}

PG_FUNCTION_INFO_V1(visage_create_connector);
Datum
visage_create_connector(PG_FUNCTION_ARGS)
{
	CoreDeclaration declaration = {.noun = "connector"};
	char	   *name;
	char	   *schema;
	CoreArgs	args = {0};
	CoreIdentity caller;
	bool		builtin;
	MemoryContext context = CurrentMemoryContext;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("name and manifest of a connector must not be "
						"null")));
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	core_check_name("connector", name);
	core_spi_begin();
	core_become_owner(&caller);
	schema = core_query_text("SELECT visage.manifest_schema()", NULL, context);
	core_arg_text(&args, name);
	builtin = core_query_int8("SELECT count(*) FROM visage.declarations"
							  " WHERE noun = 'connector' AND name = $1"
							  " AND builtin", &args, 0) > 0;
	core_become_caller(&caller);
	core_spi_end();
	core_check_schema(core_json_parse(schema), PG_GETARG_JSONB_P(1),
					  psprintf("the manifest of connector \"%s\"", name));
	if (builtin)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("connector \"%s\" is built in", name),
				 errhint("Declare it under another name.")));
	declaration.name = name;
	declaration.definition = core_definition(fcinfo);
	declaration.replace = !PG_ARGISNULL(2) && PG_GETARG_BOOL(2);
	if (core_declare(&declaration) == CORE_DECLARED_REPLACED)
		check_sources(name, PG_GETARG_JSONB_P(1));
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(visage_drop_connector);
Datum
visage_drop_connector(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	CoreIdentity caller;
	CoreArgs	args = {0};
	char	  **sources;
	int			count;

	(void) core_find_declaration("connector", name, false);
	core_arg_text(&args, name);
	core_spi_begin();
	core_become_owner(&caller);
	if (core_query_int8("SELECT count(*) FROM visage.declarations"
						" WHERE noun = 'connector' AND name = $1 AND builtin",
						&args, 0) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("connector \"%s\" is built in", name)));
	sources = core_declared_with("source", "connector", name, &count);
	if (count > 0)
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("connector \"%s\" has sources", name),
				 errdetail("One is \"%s\".", sources[0]),
				 errhint("Drop its sources first.")));
	core_forget_declaration("connector", name);
	core_become_caller(&caller);
	core_spi_end();
	PG_RETURN_VOID();
}

/* ---- a stream's part of a manifest ---- */

static Jsonb *
concat(Jsonb *a, Jsonb *b)
{
	if (a == NULL)
		return b;
	if (b == NULL)
		return a;
	return DatumGetJsonbP(DirectFunctionCall2(jsonb_concat,
											  JsonbPGetDatum(a),
											  JsonbPGetDatum(b)));
}

/* A part of a manifest laid over what holds without it. */
Jsonb *
ingest_overlay(Jsonb *base, Jsonb *part)
{
	Jsonb	   *overlay = concat(base, part);
	Jsonb	   *rules;

	for (int i = 0; part != NULL && i < lengthof(merged); i++)
	{
		Jsonb	   *both = concat(core_json_value(base, merged[i]),
								  core_json_value(part, merged[i]));

		if (both != NULL)
			overlay = concat(overlay, core_json_object(merged[i], both));
	}
	rules = part ? core_json_value(part, "responses") : NULL;
	if (rules != NULL)
	{
		rules = concat(rules, core_json_value(base, "responses"));
		overlay = concat(overlay, core_json_object("responses", rules));
	}
	return overlay;
}

/*
 * What the manifest says for one of its streams: the stream's part over the
 * manifest's own.
 */
Jsonb *
ingest_endpoint(Jsonb *manifest, const char *stream)
{
	Jsonb	   *part = stream ?
	core_json_value(core_json_value(manifest, "streams"), stream) : NULL;

	return ingest_overlay(manifest, part);
}

/* A length of time of the manifest's in microseconds. */
int64
ingest_duration(const char *text)
{
	Interval   *interval;

	if (text == NULL)
		return 0;
	interval = DatumGetIntervalP(DirectFunctionCall3(interval_in,
													 CStringGetDatum(text),
													 ObjectIdGetDatum(InvalidOid),
													 Int32GetDatum(-1)));
	return interval->time + interval->day * USECS_PER_DAY +
		interval->month * 30 * USECS_PER_DAY;
}

static bool
is_text(Jsonb *object, const char *key, const char *value)
{
	char	   *text = core_json_text(object, key);

	return text != NULL && strcmp(text, value) == 0;
}

static int64
number(Jsonb *object, const char *key, int64 if_none)
{
	char	   *text = core_json_text(object, key);

	return text ? strtoll(text, NULL, 10) : if_none;
}

/* The value of an enum by its position in the list of names. */
static int
choice(const char *value, const char *const *names, int count, int if_none)
{
	for (int i = 0; value != NULL && i < count; i++)
		if (strcmp(value, names[i]) == 0)
			return i;
	return if_none;
}

static void
read_paginator(IngestPaginator *paginator, Jsonb *spec)
{
	static const char *const kinds[] = {
		"single_page", "offset", "page_number", "cursor", "header_link",
		"json_link", "keyset"
	};
	static const char *const bys[] = {"cursor_and_tie", "cursor", "tie"};
	static const char *const ends[] = {"short_page", "empty_page", "no_next"};
	PageEnd		usual;

	paginator->kind = choice(core_json_text(spec, "type"), kinds,
							 lengthof(kinds), PAGES_SINGLE);
	usual = paginator->kind == PAGES_OFFSET ||
		paginator->kind == PAGES_NUMBER ? END_SHORT_PAGE :
		paginator->kind == PAGES_KEYSET ? END_EMPTY_PAGE : END_NO_NEXT;
	paginator->by = choice(core_json_text(spec, "by"), bys, lengthof(bys),
						   KEYSET_CURSOR_AND_TIE);
	paginator->end = choice(core_json_text(spec, "end"), ends,
							lengthof(ends), usual);
	paginator->start = number(spec, "start", 1);
	paginator->path = core_json_text(spec, "path");
	paginator->create_path = core_json_text(spec, "create_path");
	paginator->has_more_path = core_json_text(spec, "has_more_path");
	paginator->total_path = core_json_text(spec, "total_path");
	paginator->rel = core_json_text(spec, "rel");
	paginator->tie_break = core_json_text(spec, "tie_break");
	paginator->percent = is_text(spec, "decode", "percent");
	paginator->parallel = core_json_bool(spec, "parallel", true) &&
		(paginator->kind == PAGES_OFFSET || paginator->kind == PAGES_NUMBER);
	paginator->max_pages = number(spec, "max_pages", 0);
	paginator->max_records = number(spec, "max_records", 0);
	paginator->at_limit = core_json_text(spec, "at_limit");
	paginator->params = core_json_value(spec, "params");
	paginator->filter = core_json_value(spec, "filter");
	paginator->create = core_json_value(spec, "create");
}

static void
read_cursor(IngestStream *stream)
{
	IngestCursor *cursor = &stream->cursor;
	Jsonb	   *spec = core_json_value(stream->endpoint, "cursor");
	char	   *order = core_json_text(spec, "order");

	if (stream->lag == NULL)
		stream->lag = core_json_text(spec, "lag");
	if (cursor->field == NULL)
		cursor->field = core_json_text(stream->endpoint, "cursor_field");
	if (cursor->field == NULL)
		cursor->field = core_json_text(spec, "field");
	if (cursor->field == NULL)
		return;
	cursor->format = core_json_text(spec, "format");
	if (cursor->format == NULL)
		cursor->format = pstrdup("text");
	cursor->request_format = core_json_text(spec, "request_format");
	if (cursor->request_format == NULL)
		cursor->request_format = cursor->format;
	cursor->granularity = ingest_duration(core_json_text(spec,
														 "granularity"));
	cursor->exclusive = is_text(spec, "boundary", "exclusive");
	cursor->to_inclusive = is_text(spec, "to_boundary", "inclusive");
	cursor->ordered = order ? strcmp(order, "ascending") == 0 :
		stream->paginator.kind == PAGES_KEYSET &&
		stream->paginator.by != KEYSET_TIE;
	if (stream->initial_value == NULL)
		stream->initial_value = core_json_text(spec, "initial_value");
}

static void
read_window(IngestStream *stream)
{
	IngestWindow *window = &stream->window;
	Jsonb	   *spec = core_json_value(stream->endpoint, "window");
	char	   *granularity = core_json_text(spec, "granularity");
	char	   *minimum = core_json_text(spec, "minimum");

	window->step = core_json_text(spec, "step");
	if (window->step == NULL)
		return;
	window->format = core_json_text(spec, "format");
	if (window->format == NULL)
		window->format = pstrdup("iso8601");
	window->zone = core_json_text(spec, "time_zone");
	window->granularity = granularity ? ingest_duration(granularity) :
		USECS_PER_DAY;
	window->minimum = minimum ? ingest_duration(minimum) :
		window->granularity;
	window->to_inclusive = is_text(spec, "to", "inclusive");
	window->max_age = core_json_text(spec, "max_age");
	window->end = core_json_text(spec, "end");
	window->initial = core_json_text(spec, "initial_value");
	if (window->initial == NULL)
		window->initial = pstrdup("30 days");
}

static void
read_flattened(IngestStream *stream)
{
	Jsonb	   *spec = core_json_value(stream->endpoint, "flatten");

	stream->flattened = core_json_keys(spec, &stream->flattened_count);
	stream->prefixes = palloc(sizeof(char *) *
							  Max(stream->flattened_count, 1));
	for (int i = 0; i < stream->flattened_count; i++)
		stream->prefixes[i] = core_json_text(spec, stream->flattened[i]);
}

/*
 * Reads stream->endpoint into the stream; what the stream declares itself is
 * there before.
 */
void
ingest_read_endpoint(IngestStream *stream)
{
	Jsonb	   *endpoint = stream->endpoint;
	Jsonb	   *parent = core_json_value(endpoint, "parent");
	Jsonb	   *partitions = core_json_value(endpoint, "partitions");
	Jsonb	   *without = core_json_value(endpoint,
										  "paginator_without_cursor");
	Jsonb	   *cursor = core_json_value(endpoint, "cursor");

	if (stream->page_size == 0)
		stream->page_size = number(endpoint, "page_size", 1000);
	if (stream->keys == NULL)
		stream->keys = core_json_text_array(endpoint, "primary_key",
											&stream->key_count);
	stream->parent = core_json_text(parent, "stream");
	stream->parent_field = core_json_text(parent, "field");
	stream->partition_count = partitions ? JB_ROOT_COUNT(partitions) : 1;
	if (without != NULL && stream->cursor.field == NULL &&
		core_json_text(endpoint, "cursor_field") == NULL &&
		core_json_text(cursor, "field") == NULL)
		read_paginator(&stream->paginator, without);
	else
		read_paginator(&stream->paginator,
					   core_json_value(endpoint, "paginator"));
	read_cursor(stream);
	read_window(stream);
	read_flattened(stream);
	if (stream->cursor.field != NULL && stream->parent == NULL &&
		stream->window.step == NULL)
		return;
	/* windows and parents are what moves, not a field */
	stream->cursor.ordered = false;
}

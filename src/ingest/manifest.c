/*-------------------------------------------------------------------------
 *
 * manifest.c
 *		What a connector's manifest says of a stream.
 *
 * The grammar is connectors/schema.json; a manifest that was let in (see
 * connector.c) is read without further checks.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/int.h"
#include "core/core.h"
#include "ingest/ingest.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define LONGEST_DAYS 1000000	/* of a length of time */

/* Members of a manifest that are merged by name, not replaced. */
static const char *const merged[] = {
	"params", "headers", "types", "rename", "add", "flatten"
};

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

bool
ingest_is_renamed(Jsonb *endpoint, const char *field)
{
	return core_json_text(core_json_value(endpoint, "rename"), field) != NULL;
}

/* The column that the field of a record becomes: as renamed, or by its name. */
char *
ingest_column(Jsonb *endpoint, const char *field)
{
	char	   *renamed = core_json_text(core_json_value(endpoint, "rename"),
										 field);

	return renamed ? renamed : core_snake_case(field);
}

/* The column of a field of the stream's key. */
char *
ingest_key_column(const IngestStream *stream, int key)
{
	return ingest_column(stream->endpoint, stream->keys[key]);
}

/* The field that a declaration means, which may name the column it becomes. */
static char *
field_meant(Jsonb *endpoint, char *name)
{
	Jsonb	   *rename = core_json_value(endpoint, "rename");
	int			count;
	char	  **fields = core_json_keys(rename, &count);

	if (name == NULL || ingest_is_renamed(endpoint, name))
		return name;
	for (int i = 0; i < count; i++)
		if (strcmp(core_json_text(rename, fields[i]), name) == 0)
			return fields[i];
	return name;
}

/*
 * A length of time of the manifest's in microseconds, short enough to be
 * added to another one.
 */
int64
ingest_duration(const char *text)
{
	Interval   *interval;
	int64		days;
	int64		sum;

	if (text == NULL)
		return 0;
	interval = DatumGetIntervalP(DirectFunctionCall3(interval_in,
													 CStringGetDatum(text),
													 ObjectIdGetDatum(InvalidOid),
													 Int32GetDatum(-1)));
	days = interval->day + interval->month * INT64CONST(30);
	if (days > LONGEST_DAYS ||
		pg_add_s64_overflow(interval->time, days * USECS_PER_DAY, &sum) ||
		sum > LONGEST_DAYS * USECS_PER_DAY)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_FIELD_OVERFLOW),
				 errmsg("a length of time is too long: \"%s\"", text),
				 errhint("The longest one is %d days.", LONGEST_DAYS)));
	return sum;
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

/*
 * What ends a query where the manifest does not say.  A short page may be all
 * that the system ever gives at a time; but there is no page to ask for behind
 * the last one that it serves.
 */
static PageEnd
usual_end(const IngestPaginator *paginator)
{
	switch (paginator->kind)
	{
		case PAGES_OFFSET:
		case PAGES_NUMBER:
			return paginator->max_pages > 0 || paginator->max_records > 0 ?
				END_SHORT_PAGE : END_EMPTY_PAGE;
		case PAGES_KEYSET:
			return END_EMPTY_PAGE;
		default:
			return END_NO_NEXT;
	}
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

	paginator->kind = choice(core_json_text(spec, "type"), kinds,
							 lengthof(kinds), PAGES_SINGLE);
	paginator->max_pages = number(spec, "max_pages", 0);
	paginator->max_records = number(spec, "max_records", 0);
	paginator->by = choice(core_json_text(spec, "by"), bys, lengthof(bys),
						   KEYSET_CURSOR_AND_TIE);
	paginator->end = choice(core_json_text(spec, "end"), ends,
							lengthof(ends), usual_end(paginator));
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
	cursor->field = field_meant(stream->endpoint, cursor->field);
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
	for (int i = 0; i < stream->key_count; i++)
		stream->keys[i] = field_meant(endpoint, stream->keys[i]);
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

/* ERROR where a length of time that is read later is none. */
static void
check_lengths(const IngestStream *stream, const char *name,
			  const char *connector)
{
	const IngestWindow *window = &stream->window;

	(void) ingest_duration(stream->lag);
	if (window->step == NULL)
		return;
	(void) ingest_duration(window->max_age);
	(void) ingest_duration(window->end);
	(void) ingest_duration(window->initial);
	if (ingest_duration(window->step) <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("windows of stream \"%s\" of connector \"%s\" have no "
						"length", name, connector),
				 errdetail("\"step\" is \"%s\".", window->step)));
}

/*
 * ERROR where a manifest that follows the grammar cannot be read: a stream of
 * an HTTP API without a path to ask for, a length of time out of range.
 */
void
ingest_check_manifest(Jsonb *manifest, const char *connector)
{
	int			count;
	char	  **streams = core_json_keys(core_json_value(manifest, "streams"),
										 &count);

	for (int i = 0; i < count; i++)
	{
		IngestStream stream = {.manifest = manifest};

		stream.endpoint = ingest_endpoint(manifest, streams[i]);
		if (core_json_text(stream.endpoint, "path") == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("stream \"%s\" of connector \"%s\" has no path",
							streams[i], connector),
					 errhint("Give \"path\" in the stream, or for all streams "
							 "of the manifest.")));
		ingest_read_endpoint(&stream);
		check_lengths(&stream, streams[i], connector);
	}
}

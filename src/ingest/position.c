/*-------------------------------------------------------------------------
 *
 * position.c
 *		Where a crawl is, as JSON in visage.stream_states.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "core/core.h"
#include "ingest/ingest.h"
#include "lib/stringinfo.h"
#include "utils/json.h"
#include "utils/timestamp.h"

static void
append_name(StringInfo json, const char *name)
{
	if (json->len > 1)
		appendStringInfoString(json, ", ");
	appendStringInfo(json, "\"%s\": ", name);
}

static void
append_text(StringInfo json, const char *name, const char *value)
{
	if (value == NULL)
		return;
	append_name(json, name);
	escape_json(json, value);
}

static void
append_number(StringInfo json, const char *name, int64 value)
{
	if (value == 0)
		return;
	append_name(json, name);
	appendStringInfo(json, INT64_FORMAT, value);
}

static void
append_instant(StringInfo json, const char *name, TimestampTz value)
{
	if (value == 0)
		return;
	append_text(json, name,
				ingest_format_instant(value,
									  "YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"",
									  NULL));
}

/* NULL where no crawl is under way. */
char *
ingest_write_position(const IngestPosition *position)
{
	StringInfoData json;

	if (!position->under_way)
		return NULL;
	initStringInfo(&json);
	appendStringInfoChar(&json, '{');
	append_number(&json, "partition", position->partition);
	append_instant(&json, "window_from", position->window_from);
	append_instant(&json, "window_to", position->window_to);
	append_text(&json, "parent_mark", position->parent_mark);
	append_text(&json, "parent_key", position->parent_key);
	append_text(&json, "value", position->value);
	append_text(&json, "tie", position->tie);
	append_number(&json, "offset", position->offset);
	append_number(&json, "page", position->page);
	append_text(&json, "cursor", position->cursor);
	append_text(&json, "link", position->link);
	append_number(&json, "page_hash", position->page_hash);
	append_text(&json, "from", position->from);
	append_number(&json, "query_done", position->query_done);
	append_number(&json, "query_pages", position->query_pages);
	append_number(&json, "query_records", position->query_records);
	append_text(&json, "newest", position->newest);
	append_text(&json, "began", position->began);
	appendStringInfoChar(&json, '}');
	return json.data;
}

static int64
number(Jsonb *from, const char *name)
{
	char	   *text = core_json_text(from, name);

	return text ? strtoll(text, NULL, 10) : 0;
}

static TimestampTz
instant(Jsonb *from, const char *name)
{
	char	   *text = core_json_text(from, name);
	TimestampTz value = 0;

	if (text != NULL)
		(void) ingest_parse_instant(text, "iso8601", &value);
	return value;
}

/* Reads a position in the current context; NULL: no crawl is under way. */
void
ingest_read_position(IngestPosition *position, Jsonb *from)
{
	memset(position, 0, sizeof(*position));
	if (from == NULL)
		return;
	position->under_way = true;
	position->partition = number(from, "partition");
	position->window_from = instant(from, "window_from");
	position->window_to = instant(from, "window_to");
	position->parent_mark = core_json_text(from, "parent_mark");
	position->parent_key = core_json_text(from, "parent_key");
	position->value = core_json_text(from, "value");
	position->tie = core_json_text(from, "tie");
	position->offset = number(from, "offset");
	position->page = number(from, "page");
	position->cursor = core_json_text(from, "cursor");
	position->link = core_json_text(from, "link");
	position->page_hash = number(from, "page_hash");
	position->from = core_json_text(from, "from");
	position->query_done = number(from, "query_done") != 0;
	position->query_pages = number(from, "query_pages");
	position->query_records = number(from, "query_records");
	position->newest = core_json_text(from, "newest");
	position->began = core_json_text(from, "began");
}

static char *
copy(const char *text)
{
	return text ? pstrdup(text) : NULL;
}

/* Copies a position with its texts into the current context. */
void
ingest_copy_position(IngestPosition *to, const IngestPosition *from)
{
	*to = *from;
	to->parent_mark = copy(from->parent_mark);
	to->parent_key = copy(from->parent_key);
	to->value = copy(from->value);
	to->tie = copy(from->tie);
	to->cursor = copy(from->cursor);
	to->link = copy(from->link);
	to->from = copy(from->from);
	to->newest = copy(from->newest);
	to->began = copy(from->began);
}

/*-------------------------------------------------------------------------
 *
 * query.c
 *		Which queries a crawl is made of: windows, partitions, parents.
 *
 * A crawl goes window by window of time, in each window partition by
 * partition, in each partition parent by parent; most have one of each.
 * The records of parents come from the parent stream's staging table, in
 * the order of their last change, so that only what changed is asked for.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "core/core.h"
#include "ingest/ingest.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define PARENTS_AT_ONCE 1000

/* The position at the beginning of its query. */
void
ingest_reset_query(IngestPosition *position)
{
	position->value = position->tie = NULL;
	position->cursor = position->link = NULL;
	position->from = NULL;
	position->offset = position->page = 0;
	position->query_pages = position->query_records = 0;
	position->page_hash = 0;
	position->query_done = false;
}

/* ---- windows ---- */

static Interval *
interval_of(const char *text)
{
	return DatumGetIntervalP(DirectFunctionCall3(interval_in,
												 CStringGetDatum(text),
												 ObjectIdGetDatum(InvalidOid),
												 Int32GetDatum(-1)));
}

/* The zone that windows are cut in. */
static char *
window_zone(IngestRun *run)
{
	IngestVariables variables = {run, &run->position};
	IngestScope scope = {.lookup = ingest_variable,.arg = &variables};
	char	   *zone = run->stream->window.zone ?
	ingest_fill(run->stream->window.zone, &scope) : NULL;

	return zone && zone[0] ? zone : pstrdup("UTC");
}

/* instant + interval, in a zone. */
static TimestampTz
add_interval(TimestampTz instant, const char *interval, const char *zone)
{
	Datum		local = DirectFunctionCall2(timestamptz_zone,
											CStringGetTextDatum(zone),
											TimestampTzGetDatum(instant));

	local = DirectFunctionCall2(timestamp_pl_interval, local,
								IntervalPGetDatum(interval_of(interval)));
	return DatumGetTimestampTz(DirectFunctionCall2(timestamp_zone,
												   CStringGetTextDatum(zone),
												   local));
}

/* The beginning of the day, or of the hour where steps are shorter. */
static TimestampTz
floor_instant(IngestRun *run, TimestampTz instant, const char *zone)
{
	int64		step = ingest_duration(run->stream->window.step);
	const char *unit = step >= USECS_PER_DAY ? "day" :
	step >= USECS_PER_HOUR ? "hour" : "minute";
	Datum		local = DirectFunctionCall2(timestamptz_zone,
											CStringGetTextDatum(zone),
											TimestampTzGetDatum(instant));

	local = DirectFunctionCall2(timestamp_trunc, CStringGetTextDatum(unit),
								local);
	return DatumGetTimestampTz(DirectFunctionCall2(timestamp_zone,
												   CStringGetTextDatum(zone),
												   local));
}

/* A bound that the user gave; ERROR where it is no instant. */
static TimestampTz
instant_argument(const IngestRun *run, const char *text)
{
	TimestampTz instant;

	if (!ingest_parse_instant(text, "iso8601", &instant))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_DATETIME_FORMAT),
				 errmsg("stream \"%s\" cannot begin or end at \"%s\"",
						run->stream->name, text),
				 errhint("Write an instant as 2026-11-20 or "
						 "2026-11-20T09:00:00Z.")));
	return instant;
}

/* Where the last window ends. */
static TimestampTz
windows_end(IngestRun *run)
{
	const IngestWindow *window = &run->stream->window;

	if (run->to_value != NULL)
		return instant_argument(run, run->to_value);
	return GetCurrentTimestamp() - ingest_duration(window->end);
}

/* Where the first window begins. */
static TimestampTz
windows_begin(IngestRun *run, const char *zone)
{
	const IngestWindow *window = &run->stream->window;
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz from;
	TimestampTz oldest = window->max_age == NULL ? 0 :
	floor_instant(run, now - ingest_duration(window->max_age), zone) +
	USECS_PER_DAY;

	if (run->from_value != NULL)
		from = instant_argument(run, run->from_value) - run->lag;
	else
		from = now - ingest_duration(window->initial);
	return Max(floor_instant(run, from, zone), oldest);
}

/* Moves to the window that begins there; false where there is none. */
static bool
enter_window(IngestRun *run, TimestampTz from)
{
	char	   *zone = window_zone(run);

	if (from >= windows_end(run))
		return false;
	run->position.window_from = from;
	run->position.window_to = add_interval(from, run->stream->window.step,
										   zone);
	if (run->back_fill && run->to_value != NULL)
		run->position.window_to = Min(run->position.window_to,
									  windows_end(run));
	return true;
}

/*
 * The window holds more than the system gives at once: its first half is
 * asked for, and the second comes as the next window.
 */
void
ingest_split_window(IngestRun *run)
{
	const IngestWindow *window = &run->stream->window;
	IngestPosition *position = &run->position;
	int64		length = position->window_to - position->window_from;
	int64		half;

	if (window->step == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("the answer to stream \"%s\" is cut off, and there is "
						"no window of time to split", run->stream->name)));
	half = length / 2 / window->minimum * window->minimum;
	if (half < window->minimum || half >= length)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("the shortest window of stream \"%s\" still holds "
						"more than the system gives", run->stream->name),
				 errdetail("It is %s of %s.",
						   ingest_format_instant(position->window_from,
												 "iso8601", NULL),
						   run->stream->resource)));
	position->window_to = position->window_from + half;
	ingest_reset_query(position);
}

/* ---- parents ---- */

/* The staging table of the parent stream, qualified. */
static char *
parent_table(const IngestRun *run)
{
	const IngestStream *stream = run->stream;
	CoreArgs	args = {0};
	char	   *name;

	core_arg_text(&args, stream->source);
	core_arg_text(&args, stream->parent);
	name = core_query_text("SELECT definition ->> 'stream'"
						   " FROM visage.declarations WHERE noun = 'stream'"
						   " AND definition ->> 'source' = $1"
						   " AND coalesce(definition ->> 'resource',"
						   " definition ->> 'stream') = $2 ORDER BY name",
						   &args, CurrentMemoryContext);
	if (name != NULL)
		name = psprintf("%s__%s", stream->source, name);
	if (name == NULL ||
		!OidIsValid(core_own_table(CORE_LAYER_STAGING, name)))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("stream \"%s\" asks for each record of stream \"%s\", "
						"which has not been ingested", stream->name,
						stream->parent),
				 errhint("Declare it for source \"%s\" and ingest it first.",
						 stream->source)));
	return core_qualified(CORE_LAYER_STAGING, name);
}

/* "p.id": where the parent stream, of this endpoint, keeps the field. */
static char *
parent_column(Jsonb *endpoint, const char *field)
{
	return psprintf("p.%s", quote_identifier(ingest_column(endpoint, field)));
}

/* "'id', p.id, …": the parent's fields that the manifest names. */
static char *
parent_members(const IngestStream *stream, Jsonb *endpoint)
{
	Jsonb	   *include =
	core_json_value(core_json_value(stream->endpoint, "parent"), "include");
	StringInfoData list;
	int			count;
	char	  **names = core_json_keys(include, &count);

	initStringInfo(&list);
	appendStringInfo(&list, "%s, %s",
					 quote_literal_cstr(stream->parent_field),
					 parent_column(endpoint, stream->parent_field));
	for (int i = 0; i < count; i++)
	{
		char	   *field = core_json_text(include, names[i]);

		appendStringInfo(&list, ", %s, %s", quote_literal_cstr(field),
						 parent_column(endpoint, field));
	}
	return list.data;
}

/* Reads the next parents after the last one that is done. */
static void
load_parents(IngestRun *run)
{
	IngestParents *parents = &run->parents;
	const IngestStream *stream = run->stream;
	CoreArgs	args = {0};
	Jsonb	   *endpoint;
	char	   *key;
	MemoryContext caller;

	ingest_begin_work(run);
	endpoint = ingest_endpoint(stream->manifest, stream->parent);
	key = parent_column(endpoint, stream->parent_field);
	core_arg_text(&args, run->position.parent_mark);
	core_arg_text(&args, run->position.parent_key);
	core_execute(psprintf("SELECT p._ingested_at::text, %s::text,"
						  " jsonb_build_object(%s)::text FROM %s AS p"
						  " WHERE $1 IS NULL OR p._ingested_at >"
						  " $1::timestamptz OR (p._ingested_at ="
						  " $1::timestamptz AND %s::text > $2)"
						  " ORDER BY p._ingested_at, %s::text LIMIT %d",
						  key, parent_members(stream, endpoint), parent_table(run), key,
						  key, PARENTS_AT_ONCE), &args, SPI_OK_SELECT);
	caller = MemoryContextSwitchTo(run->context);
	parents->count = SPI_processed;
	parents->next = 0;
	parents->marks = palloc(sizeof(char *) * Max(parents->count, 1));
	parents->keys = palloc(sizeof(char *) * Max(parents->count, 1));
	parents->records = palloc(sizeof(Jsonb *) * Max(parents->count, 1));
	for (int i = 0; i < parents->count; i++)
	{
		parents->marks[i] = core_value_text(i, 1);
		parents->keys[i] = core_value_text(i, 2);
		parents->records[i] = core_json_parse(core_value_text(i, 3));
	}
	MemoryContextSwitchTo(caller);
	ingest_end_work(run);
}

/* Moves to the next parent; false where all are done. */
static bool
enter_parent(IngestRun *run)
{
	IngestParents *parents = &run->parents;

	if (parents->next >= parents->count)
		load_parents(run);
	if (parents->count == 0)
		return false;
	run->parent = parents->records[parents->next];
	return true;
}

/* The parent under way is done. */
static void
leave_parent(IngestRun *run)
{
	IngestParents *parents = &run->parents;

	run->position.parent_mark = parents->marks[parents->next];
	run->position.parent_key = parents->keys[parents->next];
	parents->next++;
}

/* Before the first parent of a partition. */
static void
rewind_parents(IngestRun *run)
{
	run->position.parent_mark = run->from_value;
	/* all parents of that instant are done */
	run->position.parent_key = run->from_value ?
		pstrdup("\xef\xbf\xbf") : NULL;
	run->parents.count = run->parents.next = 0;
}

/* ---- queries ---- */

/*
 * The last partition of a stream that has tombstones is these: another
 * stream, as far as asking and reading goes.
 */
static bool
choose_stream(IngestRun *run, bool more)
{
	IngestStream *stream = run->stream->main ? run->stream->main : run->stream;

	run->stream = more && stream->tombstones != NULL &&
		run->position.partition == stream->partition_count - 1 ?
		stream->tombstones : stream;
	return more;
}

static bool next_query(IngestRun *run);

/* Enters a partition, by its first parent if there are any. */
static bool
begin_parents(IngestRun *run)
{
	if (run->stream->parent == NULL)
		return true;
	rewind_parents(run);
	return enter_parent(run) || next_query(run);
}

/* Moves past the query under way; false at the end of the crawl. */
static bool
next_query(IngestRun *run)
{
	IngestPosition *position = &run->position;

	ingest_reset_query(position);
	if (run->stream->parent != NULL)
	{
		if (run->parents.next < run->parents.count)
			leave_parent(run);
		if (enter_parent(run))
			return true;
	}
	if (position->partition + 1 < run->stream->partition_count)
		position->partition++;
	else if (run->stream->window.step != NULL &&
			 enter_window(run, position->window_to))
		position->partition = 0;
	else
	{
		position->query_done = true;
		return false;
	}
	return begin_parents(run);
}

/* Moves to the beginning of the crawl; false where there is nothing to do. */
static bool
first_query(IngestRun *run)
{
	ingest_reset_query(&run->position);
	run->position.partition = 0;
	if (run->stream->window.step != NULL &&
		!enter_window(run, windows_begin(run, window_zone(run))))
		return false;
	return begin_parents(run);
}

/* Goes on with a crawl under way; false where it had come to its end. */
static bool
resume_query(IngestRun *run)
{
	if (run->stream->spooled)
	{
		ingest_reset_query(&run->position);
		run->position.partition = 0;
	}
	if (run->stream->parent != NULL && !enter_parent(run))
		return next_query(run);
	if (run->position.query_done)
		return next_query(run);
	return true;
}

/* The same, with the stream that the query is of. */
bool
ingest_first_query(IngestRun *run)
{
	return choose_stream(run, first_query(run));
}

bool
ingest_resume_query(IngestRun *run)
{
	return choose_stream(run, resume_query(run));
}

bool
ingest_next_query(IngestRun *run)
{
	return choose_stream(run, next_query(run));
}

/*
 * Where the next crawl begins, the crawl being whole: NULL where that does
 * not change.
 */
char *
ingest_next_cursor(const IngestRun *run)
{
	const IngestStream *stream = run->stream;
	const IngestPosition *position = &run->position;
	const char *format = stream->cursor.format;

	if (stream->window.step != NULL)
		return ingest_format_instant(Min(position->window_to,
										 windows_end((IngestRun *) run)),
									 "iso8601_ms", NULL);
	if (stream->parent != NULL)
		return position->parent_mark;
	if (stream->cursor.field == NULL || position->newest == NULL)
		return NULL;
	if ((stream->cursor.ordered && stream->partition_count == 1) ||
		position->began == NULL)
		return position->newest;
	if (ingest_compare_values(format, position->newest,
							  position->began) > 0 &&
		strcmp(format, "integer") != 0 && strcmp(format, "text") != 0)
		return position->began;
	return position->newest;
}

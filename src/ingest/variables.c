/*-------------------------------------------------------------------------
 *
 * variables.c
 *		What the {variables} of a manifest stand for at a position.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "core/core.h"
#include "core/secret.h"
#include "ingest/ingest.h"
#include "utils/timestamp.h"

/* The secret, where the source has it. */
static char *
secret_value(const IngestStream *stream, const char *name)
{
	char	   *reference = core_json_text(stream->secrets, name);

	return reference ? core_read_secret(name, reference) : NULL;
}

/* What the stream's zone is; a template itself. */
static char *
zone_of(IngestVariables *variables)
{
	const IngestStream *stream = variables->run->stream;
	IngestScope scope = {.lookup = ingest_variable,.arg = variables};
	char	   *zone;

	if (stream->window.zone == NULL)
		return NULL;
	zone = ingest_fill(stream->window.zone, &scope);
	return zone[0] == '\0' ? NULL : zone;
}

/* The lower bound of what is asked for. */
static char *
lower_bound(IngestVariables *variables)
{
	const IngestStream *stream = variables->run->stream;
	const IngestPosition *at = variables->at;
	const IngestCursor *cursor = &stream->cursor;
	const char *value = at->from ? at->from : variables->run->from_value;

	if (stream->window.step != NULL)
		return ingest_format_instant(at->window_from, stream->window.format,
									 zone_of(variables));
	if (cursor->field == NULL)
		return NULL;
	if (stream->paginator.kind == PAGES_KEYSET &&
		stream->paginator.by == KEYSET_CURSOR && at->value != NULL)
		value = at->value;
	if (value == NULL)
		return NULL;
	return ingest_shift_value(value, cursor->format, cursor->request_format,
							  cursor->exclusive ? -cursor->granularity : 0);
}

/* The upper bound. */
static char *
upper_bound(IngestVariables *variables)
{
	const IngestRun *run = variables->run;
	const IngestStream *stream = run->stream;
	const IngestCursor *cursor = &stream->cursor;

	if (stream->window.step != NULL)
		return ingest_format_instant(variables->at->window_to -
									 (stream->window.to_inclusive ?
									  stream->window.granularity : 0),
									 stream->window.format,
									 zone_of(variables));
	if (run->to_value == NULL || cursor->field == NULL)
		return NULL;
	return ingest_shift_value(run->to_value, cursor->format,
							  cursor->request_format,
							  cursor->to_inclusive ? -cursor->granularity : 0);
}

/* The value of {partition.NAME}; the empty text is none. */
static char *
partition_value(const IngestVariables *variables, const char *name)
{
	Jsonb	   *partitions = core_json_value(variables->run->stream->endpoint,
											 "partitions");
	JsonbValue *partition;
	char	   *value;

	if (partitions == NULL)
		return NULL;
	partition = getIthJsonbValueFromContainer(&partitions->root,
											  variables->at->partition);
	if (partition == NULL)
		return NULL;
	value = core_json_text(JsonbValueToJsonb(partition), name);
	return value && value[0] != '\0' ? value : NULL;
}

/* Today by UTC. */
static char *
today(void)
{
	return ingest_format_instant(GetCurrentTimestamp(), "date", NULL);
}

/* A variable of a page: "{offset}" and the like. */
static char *
page_variable(const IngestVariables *variables, const char *name)
{
	const IngestStream *stream = variables->run->stream;
	const IngestPosition *at = variables->at;

	if (strcmp(name, "offset") == 0)
		return psprintf(INT64_FORMAT, at->offset);
	if (strcmp(name, "page") == 0)
		return psprintf(INT64_FORMAT, stream->paginator.start + at->page);
	if (strcmp(name, "page_size") == 0)
		return psprintf(INT64_FORMAT, stream->page_size);
	if (strcmp(name, "cursor") == 0)
		return at->cursor;
	if (strcmp(name, "value") == 0)
		return at->value;
	if (strcmp(name, "tie") == 0)
		return at->tie;
	return NULL;
}

/* IngestLookup over IngestVariables. */
char *
ingest_variable(void *arg, const char *name, bool *secret)
{
	IngestVariables *variables = arg;
	const IngestStream *stream = variables->run->stream;
	const char *dot = strchr(name, '.');

	if (strncmp(name, "option.", 7) == 0)
		return core_json_text(stream->options, dot + 1);
	if (strncmp(name, "secret.", 7) == 0)
	{
		*secret = true;
		return secret_value(stream, dot + 1);
	}
	if (strncmp(name, "parent.", 7) == 0)
		return core_json_text(variables->run->parent, dot + 1);
	if (strncmp(name, "partition.", 10) == 0)
		return partition_value(variables, dot + 1);
	if (strcmp(name, "resource") == 0)
		return stream->resource;
	if (strcmp(name, "cursor_field") == 0)
		return stream->cursor.field;
	if (strcmp(name, "tie_break") == 0)
		return stream->paginator.tie_break;
	if (strcmp(name, "date") == 0)
		return today();
	if (strcmp(name, "from") == 0)
		return lower_bound(variables);
	if (strcmp(name, "to") == 0)
		return upper_bound(variables);
	return page_variable(variables, name);
}

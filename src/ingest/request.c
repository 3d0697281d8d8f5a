/*-------------------------------------------------------------------------
 *
 * request.c
 *		The request for the page at a position, from the manifest.
 *
 * A manifest's path and parameters are templates: "{resource}" and the like
 * stand for what is known of the stream and the position.  Values that came
 * from outside have their quotes doubled, for they stand between quotes in
 * the other system's query language; the whole parameter is then
 * percent-encoded.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>

#include "core/core.h"
#include "core/secret.h"
#include "ingest/ingest.h"
#include "lib/stringinfo.h"

typedef struct Variable
{
	const char *name;
	const char *value;
	bool		outside;		/* double its quotes */
} Variable;

/*
 * Everything but RFC 3986's unreserved characters, and those that the place
 * permits besides, becomes %XX.
 */
static void
append_encoded(StringInfo url, const char *text, const char *permitted)
{
	for (const char *c = text; *c; c++)
	{
		if (isalnum((unsigned char) *c) || strchr("-._~", *c) != NULL ||
			strchr(permitted, *c) != NULL)
			appendStringInfoChar(url, *c);
		else
			appendStringInfo(url, "%%%02X", (unsigned char) *c);
	}
}

static void
append_value(StringInfo result, const Variable *variable)
{
	const char *value = variable->value ? variable->value : "";

	for (const char *c = value; *c; c++)
	{
		if (variable->outside && *c == '\'')
			appendStringInfoChar(result, '\'');
		appendStringInfoChar(result, *c);
	}
}

/* The template with its variables filled in; an unknown one stays. */
static char *
fill(const char *template, const Variable *variables, int count)
{
	StringInfoData result;

	initStringInfo(&result);
	for (const char *c = template; *c; c++)
	{
		int			i = 0;

		for (i = 0; *c == '{' && i < count; i++)
		{
			size_t		len = strlen(variables[i].name);

			if (strncmp(c + 1, variables[i].name, len) == 0 &&
				c[len + 1] == '}')
				break;
		}
		if (*c == '{' && i < count)
		{
			append_value(&result, &variables[i]);
			c += strlen(variables[i].name) + 1;
		}
		else
			appendStringInfoChar(&result, *c);
	}
	return result.data;
}

/* Appends "?name=value" or "&name=value". */
static void
append_param(StringInfo url, const char *name, const char *value)
{
	appendStringInfoChar(url, strchr(url->data, '?') ? '&' : '?');
	append_encoded(url, name, "$:");
	appendStringInfoChar(url, '=');
	append_encoded(url, value, "$:,()*");
}

/* Appends every parameter of an object of templates. */
static void
append_params(StringInfo url, Jsonb *params, const Variable *variables,
			  int count)
{
	int			names;
	char	  **name = core_json_keys(params, &names);

	for (int i = 0; i < names; i++)
		append_param(url, name[i],
					 fill(core_json_text(params, name[i]), variables, count));
}

/* One clause of the filter, where it applies, with its value. */
static void
append_clause(StringInfo filter, Jsonb *templates, const char *which,
			  const char *value, const char *tie, const IngestStream *stream)
{
	char	   *template = core_json_text(templates, which);
	char	   *join = core_json_text(templates, "join");
	Variable	variables[] = {
		{"cursor_field", stream->cursor_field, false},
		{"tie_break", stream->tie_break, false},
		{"value", value, true},
		{"tie", tie, true}
	};

	if (template == NULL || value == NULL)
		return;
	if (filter->len > 0)
		appendStringInfoString(filter, join ? join : "&");
	appendStringInfoString(filter, fill(template, variables,
										lengthof(variables)));
}

/*
 * The filter by cursor: from the beginning of the crawl, or after the last
 * record of the page before, and up to the end of a back-fill.
 */
static void
append_filter(StringInfo url, const IngestRun *run)
{
	const IngestStream *stream = run->stream;
	Jsonb	   *templates = core_json_value(stream->paginator, "filter");
	StringInfoData filter;

	if (templates == NULL)
		return;
	initStringInfo(&filter);
	if (run->position.tie != NULL)
		append_clause(&filter, templates, "after", run->position.value,
					  run->position.tie, stream);
	else
		append_clause(&filter, templates, "from", run->from_value, NULL,
					  stream);
	append_clause(&filter, templates, "to", run->to_value, NULL, stream);
	if (filter.len > 0)
		append_param(url, core_json_text(templates, "param"), filter.data);
}

/* Adds a header line; one made from a secret is a credential. */
static void
add_header(NetRequest *request, const char *name, const char *value,
		   bool credential)
{
	if (strpbrk(value, "\r\n") != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the value of header \"%s\" holds a line break",
						name)));
	if (request->header_count == NET_MAX_HEADERS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a request has more than %d headers",
						NET_MAX_HEADERS)));
	request->headers[request->header_count].line = psprintf("%s: %s", name,
															value);
	request->headers[request->header_count++].credential = credential;
}

/* The manifest's headers, then those that carry secrets. */
static void
add_headers(NetRequest *request, const IngestStream *stream)
{
	Jsonb	   *headers = core_json_value(stream->manifest, "headers");
	Jsonb	   *secrets = core_json_value(stream->manifest, "secrets");
	int			count;
	char	  **names = core_json_keys(headers, &count);

	for (int i = 0; i < count; i++)
		add_header(request, names[i], core_json_text(headers, names[i]),
				   false);
	names = core_json_keys(secrets, &count);
	for (int i = 0; i < count; i++)
	{
		char	   *reference = core_json_text(stream->secrets, names[i]);
		char	   *header = core_json_text(core_json_value(secrets, names[i]),
											"header");

		if (reference != NULL && header != NULL)
			add_header(request, header, core_read_secret(names[i], reference),
					   true);
	}
}

/* Which answers a repetition may better. */
static void
add_statuses(NetRequest *request, Jsonb *manifest)
{
	int			count;
	char	  **statuses = core_json_text_array(manifest, "retry_statuses",
												&count);

	for (int i = 0; i < count && i < NET_MAX_STATUSES; i++)
		request->retry_statuses[request->retry_status_count++] =
			atoi(statuses[i]);
}

/* The request for the page at the run's position. */
NetRequest *
ingest_build_request(const IngestRun *run)
{
	const IngestStream *stream = run->stream;
	NetRequest *request = palloc0(sizeof(NetRequest));
	StringInfoData resource;
	StringInfoData url;
	Variable	path[1];
	Variable	variables[] = {
		{"cursor_field", stream->cursor_field, false},
		{"tie_break", stream->tie_break, false},
		{"page_size", psprintf(INT64_FORMAT, stream->page_size), false},
		{"offset", psprintf(INT64_FORMAT, run->position.offset), false}
	};

	initStringInfo(&resource);
	append_encoded(&resource, stream->resource, "");
	path[0] = (Variable)
	{
		"resource", resource.data, false
	};
	initStringInfo(&url);
	appendStringInfo(&url, "%s%s", stream->base_url,
					 fill(core_json_text(stream->manifest, "path"), path, 1));
	append_params(&url, core_json_value(stream->manifest, "params"),
				  variables, lengthof(variables));
	append_params(&url, core_json_value(stream->paginator, "params"),
				  variables, lengthof(variables));
	append_filter(&url, run);
	request->url = url.data;
	add_headers(request, stream);
	add_statuses(request, stream->manifest);
	return request;
}

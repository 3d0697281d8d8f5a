/*-------------------------------------------------------------------------
 *
 * request.c
 *		The request for the page at a position, from the manifest.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "core/core.h"
#include "ingest/ingest.h"
#include "lib/stringinfo.h"

/* Adds a header line. */
void
ingest_add_header(NetRequest *request, const char *name, const char *value,
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

/* Adds the headers of an object of templates that have a value. */
static void
add_headers(NetRequest *request, Jsonb *headers, IngestVariables *variables)
{
	int			count;
	char	  **names = core_json_keys(headers, &count);

	for (int i = 0; i < count; i++)
	{
		IngestScope scope = {.lookup = ingest_variable,.arg = variables};
		char	   *value = ingest_fill(core_json_text(headers, names[i]),
										&scope);

		if (!scope.missing)
			ingest_add_header(request, names[i], value, scope.secret);
	}
}

/* Appends the parameters of an object of templates that have a value. */
static void
append_params(StringInfo url, Jsonb *params, IngestVariables *variables)
{
	int			count;
	char	  **names = core_json_keys(params, &count);

	for (int i = 0; i < count; i++)
	{
		IngestScope scope = {.lookup = ingest_variable,.arg = variables};
		char	   *value = ingest_fill(core_json_text(params, names[i]),
										&scope);

		if (scope.secret)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("parameter \"%s\" of the manifest holds a secret",
							names[i]),
					 errhint("Use auth of type api_key, or a header.")));
		if (!scope.missing)
			ingest_append_param(url, names[i], value);
	}
}

/* One clause of the filter, where it applies. */
static void
append_clause(StringInfo filter, Jsonb *templates, const char *which,
			  IngestVariables *variables)
{
	char	   *template = core_json_text(templates, which);
	char	   *join = core_json_text(templates, "join");
	IngestScope scope = {.lookup = ingest_variable,.arg = variables,
	.double_quotes = true};
	char	   *clause;

	if (template == NULL)
		return;
	clause = ingest_fill(template, &scope);
	if (scope.missing)
		return;
	if (filter->len > 0)
		appendStringInfoString(filter, join ? join : "&");
	appendStringInfoString(filter, clause);
}

/*
 * The filter by cursor: from the beginning of the crawl, or after the last
 * record of the page before, and up to the end of a back-fill.
 */
static void
append_filter(StringInfo url, IngestVariables *variables)
{
	const IngestPaginator *paginator = &variables->run->stream->paginator;
	StringInfoData filter;

	if (paginator->filter == NULL ||
		variables->run->stream->cursor.field == NULL)
		return;
	initStringInfo(&filter);
	if (variables->at->tie != NULL)
		append_clause(&filter, paginator->filter, "after", variables);
	if (variables->at->tie == NULL || paginator->by == KEYSET_TIE)
		append_clause(&filter, paginator->filter, "from", variables);
	append_clause(&filter, paginator->filter, "to", variables);
	if (filter.len > 0)
		ingest_append_param(url, core_json_text(paginator->filter, "param"),
							filter.data);
}

/* The base URL with a path template behind it. */
static void
append_path(StringInfo url, const char *path, IngestVariables *variables)
{
	IngestScope scope = {.lookup = ingest_variable,.arg = variables,
	.encode = true};

	appendStringInfoString(url, variables->run->stream->base_url);
	appendStringInfoString(url, ingest_fill(path, &scope));
	if (scope.missing)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the path \"%s\" of stream \"%s\" has a variable "
						"without a value", path,
						variables->run->stream->name),
				 errhint("Set the option that it names.")));
}

/* A form, as browsers send it. */
static char *
form_body(Jsonb *body, IngestVariables *variables)
{
	StringInfoData form;

	initStringInfo(&form);
	append_params(&form, body, variables);
	return form.len > 0 ? form.data + 1 : form.data;
}

/* The body, where the request has one. */
static void
add_body(NetRequest *request, Jsonb *body, const char *format,
		 IngestVariables *variables)
{
	IngestScope scope = {.lookup = ingest_variable,.arg = variables};

	if (body == NULL)
		return;
	if (format != NULL && strcmp(format, "form") == 0)
	{
		request->body = form_body(body, variables);
		ingest_add_header(request, "Content-Type",
						  "application/x-www-form-urlencoded", false);
		return;
	}
	request->body = ingest_fill_json(body, &scope,
									 variables->run->stream->options);
	ingest_add_header(request, "Content-Type", "application/json", false);
}

/* Method, body and credentials, after URL and headers. */
static void
finish(IngestRun *run, NetRequest *request, Jsonb *spec,
	   IngestVariables *variables)
{
	char	   *method = core_json_text(spec, "method");

	request->method = method ? method : "GET";
	if (strcmp(request->method, "POST") == 0)
		add_body(request, core_json_value(spec, "body"),
				 core_json_text(spec, "body_format"), variables);
	ingest_authenticate(run, request);
}

/* The request for the page at a position, in the current context. */
NetRequest *
ingest_build_request(IngestRun *run, const IngestPosition *at)
{
	const IngestStream *stream = run->stream;
	NetRequest *request = palloc0(sizeof(NetRequest));
	IngestVariables variables = {run, at};
	StringInfoData url;

	initStringInfo(&url);
	if (at->link != NULL)
		appendStringInfoString(&url, at->link);
	else
	{
		append_path(&url, core_json_text(stream->endpoint, "path"),
					&variables);
		append_params(&url, core_json_value(stream->endpoint, "params"),
					  &variables);
		append_params(&url, stream->paginator.params, &variables);
		append_filter(&url, &variables);
	}
	request->url = url.data;
	add_headers(request, core_json_value(stream->endpoint, "headers"),
				&variables);
	finish(run, request, stream->endpoint, &variables);
	return request;
}

/* A request of the manifest's own (to create a job, to check a source). */
NetRequest *
ingest_build_other(IngestRun *run, Jsonb *spec, const IngestPosition *at)
{
	NetRequest *request = palloc0(sizeof(NetRequest));
	IngestVariables variables = {run, at};
	StringInfoData url;

	initStringInfo(&url);
	append_path(&url, core_json_text(spec, "path"), &variables);
	append_params(&url, core_json_value(spec, "params"), &variables);
	request->url = url.data;
	add_headers(request, core_json_value(run->stream->endpoint, "headers"),
				&variables);
	add_headers(request, core_json_value(spec, "headers"), &variables);
	finish(run, request, spec, &variables);
	return request;
}

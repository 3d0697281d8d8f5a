/*-------------------------------------------------------------------------
 *
 * discover.c
 *		What streams a source has, and their columns.
 *
 * The streams are those of the connector's manifest, and those declared for
 * the source.  Columns come from the manifest's "types", from the system's
 * own description where the manifest says how to ask for it ("discover"), and
 * from the first page of each stream; 15 seconds in all.  A stream that
 * cannot be asked is told of in a WARNING and listed without.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/core.h"
#include "funcapi.h"
#include "ingest/ingest.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define MOST_TIME 15			/* s for all requests */
#define SAMPLE 100				/* records */

/* A stream of the source while it is asked for. */
typedef struct Asking
{
	const char *source;
	const char *resource;
	int			seconds;		/* that are left */
	IngestRun  *run;
	Jsonb	   *columns;		/* found so far, field → type */
} Asking;

/* ---- the system's own description ---- */

/* What take_column goes through a list of the description with. */
typedef struct ColumnList
{
	Asking	   *asking;
	char	   *name;			/* paths in an element */
	char	   *type;
	Jsonb	   *types;			/* the system's type → PostgreSQL's */
} ColumnList;

static void
add_column(Asking *asking, const char *name, const char *type)
{
	asking->columns =
		core_json_merge_patch(asking->columns,
							  core_json_object(name, core_json_string(type)));
}

/* ScanElement: one column of the description. */
static void
take_column(void *arg, ScanSlice value, ScanKind kind)
{
	ColumnList *list = arg;
	char	   *name = scan_path_text(value, list->name);
	char	   *type = list->type ? scan_path_text(value, list->type) : NULL;
	char	   *known = type ? core_json_text(list->types, type) : NULL;

	if (name != NULL && name[0] != '\0')
		add_column(list->asking, name, known ? known : "text");
}

/* Asks for the description and takes the columns of its lists. */
static void
read_description(Asking *asking, Jsonb *discover)
{
	Jsonb	   *lists = core_json_value(discover, "lists");
	ScanSlice	document;

	document.start = ingest_call(asking->run,
								 ingest_build_other(asking->run, discover,
													&asking->run->position),
								 "the description of its columns");
	document.length = strlen(document.start);
	for (int i = 0; i < JB_ROOT_COUNT(lists); i++)
	{
		Jsonb	   *spec =
		JsonbValueToJsonb(getIthJsonbValueFromContainer(&lists->root, i));
		ColumnList	list = {asking, core_json_text(spec, "name"),
			core_json_text(spec, "type"),
		core_json_value(discover, "types")};
		ScanSlice	elements;
		ScanKind	kind;

		if (scan_path(document, core_json_text(spec, "path"), &elements,
					  &kind))
			(void) scan_elements(elements, take_column, &list);
	}
}

/* ---- a page ---- */

/* Reads the beginning of the first page; what is wrong with it, or NULL. */
static char *
read_sample(Asking *asking)
{
	IngestRun  *run = asking->run;
	IngestFetch *fetch = palloc0(sizeof(IngestFetch));
	char	   *problem = NULL;

	ingest_copy_position(&fetch->at, &run->position);
	fetch->request = ingest_build_request(run, &fetch->at);
	fetch->transfer = net_start(run->net, fetch->request);
	(void) net_wait(fetch->transfer);
	problem = ingest_judge_once(run, fetch->transfer);
	if (problem == NULL)
		(void) ingest_next_batch(ingest_open_reader(run, fetch), &problem);
	for (int i = 0; i < run->field_count && problem == NULL; i++)
	{
		IngestField *field = &run->fields[i];
		const char *type = ingest_is_text_only(run->stream) ? "text" :
		ingest_inferred_type(field->kinds);

		if (type != NULL)
			add_column(asking, strchr(field->name, '.') ? field->column :
					   field->name, type);
	}
	return problem;
}

/* ---- a stream ---- */

/* Step of core_try: asks the system, as far as the manifest lets it. */
static void
ask_system(void *arg)
{
	Asking	   *asking = arg;
	IngestRun  *run = asking->run;
	Jsonb	   *discover;
	char	   *problem = NULL;
	char		seconds[16];

	snprintf(seconds, sizeof(seconds), "%d", asking->seconds);
	(void) set_config_option("visage.request_timeout", seconds, PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
	(void) set_config_option("visage.max_retries", "0", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
	run->stream = ingest_read_undeclared(asking->source, asking->resource);
	discover = core_json_value(run->stream->endpoint, "discover");
	if (run->stream->parent != NULL)
		return;
	run->stream->page_size = Min(run->stream->page_size, SAMPLE);
	run->from_value = run->stream->initial_value;
	run->net = ingest_open_session(run);
	(void) ingest_first_query(run);
	if (core_json_bool(discover, "sample", true) &&
		run->stream->paginator.create == NULL)
		problem = read_sample(asking);
	if (core_json_value(discover, "path") != NULL)
		read_description(asking, discover);
	if (problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("%s", problem)));
}

/* The columns of a stream; what is known of it besides goes over them. */
static Jsonb *
columns_of(const char *source, const char *resource, Jsonb *known,
		   TimestampTz until)
{
	MemoryContext caller = CurrentMemoryContext;
	Asking		asking = {.source = source,.resource = resource,
	.columns = core_json_parse("{}")};
	ErrorData  *error;

	asking.seconds = TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
													 until) / 1000;
	if (asking.seconds == 0)
		ereport(WARNING,
				(errmsg("stream \"%s\" was not asked for its columns: the time "
						"is up", resource)));
	else
	{
		asking.run = ingest_make_run(caller);
		error = core_try(ask_system, &asking);
		if (error != NULL &&
			error->sqlerrcode == ERRCODE_QUERY_CANCELED)
			ReThrowError(error);
		if (error != NULL)
			ereport(WARNING,
					(errmsg("stream \"%s\" cannot be asked for its columns: %s",
							resource, error->message),
					 error->detail ? errdetail("%s", error->detail) : 0));
		MemoryContextSwitchTo(caller);
	}
	asking.columns = known ? core_json_merge_patch(asking.columns, known) :
		core_json_merge_patch(asking.columns, core_json_parse("{}"));
	if (asking.run != NULL)
		MemoryContextDelete(asking.run->context);
	return JB_ROOT_COUNT(asking.columns) > 0 ? asking.columns : NULL;
}

/* ---- the function ---- */

/* A text[] of a member, or the SQL NULL. */
static Datum
text_array(Jsonb *object, const char *key, bool *isnull)
{
	int			count;
	char	  **texts = core_json_text_array(object, key, &count);
	Datum	   *values = palloc(sizeof(Datum) * Max(count, 1));

	*isnull = texts == NULL;
	for (int i = 0; i < count; i++)
		values[i] = CStringGetTextDatum(texts[i]);
	return PointerGetDatum(construct_array(values, count, TEXTOID, -1, false,
										   TYPALIGN_INT));
}

/* A row of the result. */
static void
put_stream(ReturnSetInfo *result, const char *name, const char *resource,
		   Jsonb *columns, Jsonb *about)
{
	char	   *cursor = core_json_text(about, "cursor_field");
	Datum		values[5];
	bool		nulls[5] = {false};

	values[0] = CStringGetTextDatum(name);
	values[1] = CStringGetTextDatum(resource);
	nulls[2] = columns == NULL;
	values[2] = nulls[2] ? (Datum) 0 : JsonbPGetDatum(columns);
	values[3] = text_array(about, "primary_key", &nulls[3]);
	nulls[4] = cursor == NULL;
	values[4] = nulls[4] ? (Datum) 0 : CStringGetTextDatum(cursor);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* The streams of the manifest. */
static void
put_known(ReturnSetInfo *result, const char *source, Jsonb *manifest,
		  TimestampTz until)
{
	int			count;
	char	  **names = core_json_keys(core_json_value(manifest, "streams"),
									   &count);

	for (int i = 0; i < count; i++)
	{
		Jsonb	   *endpoint = ingest_endpoint(manifest, names[i]);
		char	   *resource = core_json_text(endpoint, "resource");
		Jsonb	   *columns = columns_of(source, names[i],
										 core_json_value(endpoint, "types"),
										 until);

		put_stream(result, names[i], resource ? resource : names[i], columns,
				   endpoint);
	}
}

/* The declared streams that are none of the manifest's. */
static void
put_declared(ReturnSetInfo *result, const char *source, Jsonb *manifest,
			 TimestampTz until)
{
	Jsonb	   *streams = core_json_value(manifest, "streams");
	Jsonb	   *types = core_json_value(manifest, "types");
	int			count;
	char	  **names = core_declared_with("stream", "source", source, &count);

	for (int i = 0; i < count; i++)
	{
		Jsonb	   *declared = core_find_declaration("stream", names[i],
													 false);
		char	   *name = core_json_text(declared, "stream");
		char	   *resource = core_json_text(declared, "resource");
		Jsonb	   *columns = core_json_value(declared, "columns");

		if (types != NULL)
			columns = columns ? core_json_merge_patch(types, columns) : types;
		resource = resource ? resource : name;
		if (core_json_value(streams, resource) == NULL)
			put_stream(result, name, resource,
					   columns_of(source, resource, columns, until),
					   declared);
	}
}

PG_FUNCTION_INFO_V1(visage_discover);
Datum
visage_discover(PG_FUNCTION_ARGS)
{
	char	   *source = text_to_cstring(PG_GETARG_TEXT_PP(0));
	Jsonb	   *manifest = ingest_manifest_of(source);
	TimestampTz until =
	TimestampTzPlusMilliseconds(GetCurrentTimestamp(), MOST_TIME * 1000);

	core_require_enabled(psprintf("asking source \"%s\"", source));
	InitMaterializedSRF(fcinfo, 0);
	if (ingest_is_database(manifest))
	{
		ingest_discover_database(source, (ReturnSetInfo *) fcinfo->resultinfo);
		return (Datum) 0;
	}
	put_known((ReturnSetInfo *) fcinfo->resultinfo, source, manifest, until);
	put_declared((ReturnSetInfo *) fcinfo->resultinfo, source, manifest,
				 until);
	return (Datum) 0;
}

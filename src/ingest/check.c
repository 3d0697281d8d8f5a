/*-------------------------------------------------------------------------
 *
 * check.c
 *		Is a source well?
 *
 * visage_check_source and visage_discover (discover.c) wait on the network in
 * their caller's transaction: 15 seconds at most.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "core/core.h"
#include "funcapi.h"
#include "ingest/ingest.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* The manifest of a source's connector. */
Jsonb *
ingest_manifest_of(const char *source)
{
	Jsonb	   *declared = core_find_declaration("source", source, false);
	Jsonb	   *connector =
	core_find_declaration("connector", core_json_text(declared, "connector"),
						  false);

	return core_json_value(connector, "manifest");
}

/* A stream of the manifest that can be asked for by itself. */
static char *
first_stream(Jsonb *manifest)
{
	Jsonb	   *streams = core_json_value(manifest, "streams");
	int			count;
	char	  **names = core_json_keys(streams, &count);

	for (int i = 0; i < count; i++)
		if (core_json_value(core_json_value(streams, names[i]),
							"parent") == NULL)
			return names[i];
	return NULL;
}

/* The resource of a stream that is declared for the source, or NULL. */
static char *
declared_resource(const char *source)
{
	int			count;
	char	  **names = core_declared_with("stream", "source", source, &count);
	Jsonb	   *declared;
	char	   *resource;

	if (count == 0)
		return NULL;
	declared = core_find_declaration("stream", names[0], false);
	resource = core_json_text(declared, "resource");
	return resource ? resource : core_json_text(declared, "stream");
}

/* A stream of a source as if it were declared; NULL: none in particular. */
IngestStream *
ingest_read_undeclared(const char *source, const char *resource)
{
	Jsonb	   *declared =
	core_json_parse("{\"stream\": \"check\", \"lag\": \"00:00:00\","
					" \"write_disposition\": \"append\","
					" \"schema_contract\": \"evolve\","
					" \"hard_deletes\": \"ignore\","
					" \"keep_landing\": \"30 days\", \"options\": {}}");

	declared = core_json_merge_patch(declared,
									 core_json_object("source",
													  core_json_string(source)));
	if (resource != NULL)
		declared = core_json_merge_patch(declared,
										 core_json_object("resource",
														  core_json_string(resource)));
	return ingest_read_declared(source, declared);
}

/* A stream to check the source with. */
static IngestStream *
stream_to_check(const char *source, Jsonb *manifest)
{
	char	   *resource = first_stream(manifest);

	if (resource == NULL)
		resource = declared_resource(source);
	if (resource == NULL && core_json_value(manifest, "check") == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("source \"%s\" has no stream to ask for", source),
				 errhint("Declare one first.")));
	return ingest_read_undeclared(source, resource);
}

/* Makes the request; why it is no good, or NULL. */
static char *
ask_once(IngestRun *run)
{
	Jsonb	   *check = core_json_value(run->stream->manifest, "check");
	NetRequest *request;
	NetTransfer *transfer;

	run->net = ingest_open_session(run);
	run->from_value = run->stream->initial_value;
	(void) ingest_first_query(run);
	if (check == NULL)
		check = run->stream->paginator.create;
	request = check ? ingest_build_other(run, check, &run->position) :
		ingest_build_request(run, &run->position);
	transfer = net_start(run->net, request);
	/* the first bytes tell enough of a large answer */
	(void) net_wait(transfer);
	return ingest_judge_once(run, transfer);
}

/* The same, with an ERROR as the reason. */
static char *
try_once(const char *source)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	IngestRun  *run = ingest_make_run(context);
	char	   *volatile reason = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(run->context);
	(void) set_config_option("visage.request_timeout", "15", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
	(void) set_config_option("visage.max_retries", "0", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
	PG_TRY();
	{
		char	   *found;

		if (ingest_is_database(ingest_manifest_of(source)))
		{
			found = NULL;
			ingest_try_database(source);
		}
		else
		{
			run->stream = stream_to_check(source, ingest_manifest_of(source));
			found = ask_once(run);
		}
		reason = found ? MemoryContextStrdup(context, found) : NULL;
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED)
			ReThrowError(error);
		reason = error->message;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	MemoryContextDelete(run->context);
	return reason;
}

PG_FUNCTION_INFO_V1(visage_check_source);
Datum
visage_check_source(PG_FUNCTION_ARGS)
{
	char	   *source = text_to_cstring(PG_GETARG_TEXT_PP(0));
	TimestampTz start = GetCurrentTimestamp();
	TupleDesc	descriptor;
	Datum		values[3];
	bool		nulls[3] = {false};
	char	   *reason;

	if (get_call_result_type(fcinfo, NULL, &descriptor) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	core_require_enabled(psprintf("the check of source \"%s\"", source));
	(void) core_find_declaration("source", source, false);
	reason = try_once(source);
	values[0] = BoolGetDatum(reason == NULL);
	values[1] = DirectFunctionCall2(timestamp_mi,
									TimestampTzGetDatum(GetCurrentTimestamp()),
									TimestampTzGetDatum(start));
	values[2] = CStringGetTextDatum(reason ? reason : "ok");
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(descriptor, values,
													  nulls)));
}

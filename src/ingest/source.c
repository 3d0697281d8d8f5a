/*-------------------------------------------------------------------------
 *
 * source.c
 *		Declaring and forgetting sources and streams.
 *
 * A connector is data: its manifest says which secrets it takes and what it
 * does by default.  Nothing is called here; visage_ingest does.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "core/secret.h"
#include "ingest/ingest.h"
#include "lib/stringinfo.h"
#include "utils/array.h"
#include "utils/builtins.h"

#define MAX_PAGE_SIZE 1000000

/* An argument that may not be NULL, as text. */
static char *
required_text(FunctionCallInfo fcinfo, int position, const char *name)
{
	if (PG_ARGISNULL(position))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", name)));
	return text_to_cstring(PG_GETARG_TEXT_PP(position));
}

static Jsonb *
optional_jsonb(FunctionCallInfo fcinfo, int position)
{
	return PG_ARGISNULL(position) ? NULL : PG_GETARG_JSONB_P(position);
}

/* Each secret must be one that the connector takes. */
static void
check_secret_names(Jsonb *secrets, Jsonb *manifest, const char *connector)
{
	int			known_count;
	char	  **known_names = core_json_keys(core_json_value(manifest,
															 "secrets"),
											 &known_count);
	const char **list = palloc0(sizeof(char *) * (known_count + 1));

	for (int i = 0; i < known_count; i++)
		list[i] = known_names[i];
	core_check_keys(secrets, psprintf("the secrets of connector \"%s\"",
									  connector), list);
}

/* A secret that was given plainly is stored; the reference to it. */
static char *
store_plain(const char *source, const char *name, const char *value,
			bool replace)
{
	char	   *stored = psprintf("%s.%s", source, name);

	if (!net_store_secret(stored, value, replace))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("source \"%s\" already exists with another "
						"definition", source),
				 errdetail("Secret \"%s\" has another value.", name),
				 errhint("Use replace => true to change it.")));
	ereport(WARNING,
			(errcode(ERRCODE_WARNING),
			 errmsg("secret \"%s\" of source \"%s\" is given plainly", name,
					source),
			 errdetail("It is stored encrypted, as \"stored:%s\", but "
					   "pg_stat_activity and the server's log may show the "
					   "statement.", stored),
			 errhint("Refer to it as \"file:name\" or \"env:VISAGE_NAME\", or "
					 "give it to visage_set_secret as a bound parameter.")));
	return psprintf("stored:%s", stored);
}

/*
 * The secrets as references, which the caller must have a right to; those
 * given plainly are stored.
 */
static Jsonb *
take_secrets(const char *source, Jsonb *secrets, bool replace)
{
	int			count;
	char	  **names = core_json_keys(secrets, &count);

	for (int i = 0; i < count; i++)
	{
		char	   *text = core_json_text(secrets, names[i]);

		if (text == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("secret \"%s\" must not be null", names[i])));
		if (core_is_secret_reference(text))
			net_check_secret(names[i], text);
		else
			secrets = core_json_merge_patch(secrets,
											core_json_object(names[i],
															 core_json_string(store_plain(source, names[i],
																						  text, replace))));
	}
	return secrets;
}

/* What the manifest calls required must be there. */
static void
check_required(Jsonb *manifest, const char *what, Jsonb *given,
			   const char *connector)
{
	Jsonb	   *known = core_json_value(manifest, what);
	int			count;
	char	  **names = core_json_keys(known, &count);

	for (int i = 0; i < count; i++)
		if (core_json_bool(core_json_value(known, names[i]), "required",
						   false) &&
			core_json_text(given, names[i]) == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("connector \"%s\" needs \"%s\" among the %s",
							connector, names[i], what)));
}

/* The options that an object may have: these, and the manifest's. */
static void
check_option_names(Jsonb *options, Jsonb *manifest, const char *what,
				   const char *const *own)
{
	int			count;
	char	  **names = core_json_keys(core_json_value(manifest, "options"),
									   &count);
	const char **known;
	int			known_count = 0;

	while (own[known_count] != NULL)
		known_count++;
	known = palloc0(sizeof(char *) * (known_count + count + 1));
	memcpy(known, own, sizeof(char *) * known_count);
	for (int i = 0; i < count; i++)
		known[known_count++] = names[i];
	core_check_keys(options, what, known);
}

/* page_size is a positive number. */
static void
check_page_size(Jsonb *options)
{
	char	   *size = core_json_text(options, "page_size");

	if (size != NULL && (strspn(size, "0123456789") != strlen(size) ||
						 strlen(size) > 7 || atoi(size) == 0 ||
						 atoi(size) > MAX_PAGE_SIZE))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"page_size\" must be between 1 and %d",
						MAX_PAGE_SIZE),
				 errdetail("It is %s.", size)));
}

/* base_url is http or https; the manifest may have one of its own. */
static void
check_base_url(Jsonb *options, Jsonb *manifest)
{
	char	   *url = core_json_text(options, "base_url");

	if (url == NULL && core_json_text(manifest, "base_url") != NULL)
		return;
	if (url == NULL || (strncmp(url, "http://", 7) != 0 &&
						strncmp(url, "https://", 8) != 0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"base_url\" must be an http or https URL"),
				 errdetail("It is %s.", url ? url : "missing")));
	if (strchr(url, '@') != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"base_url\" must not hold a user or "
						"password"),
				 errhint("Give credentials as secrets.")));
}

static void
check_source_options(Jsonb *options, Jsonb *manifest)
{
	static const char *const own[] = {"base_url", "page_size", NULL};

	if (ingest_is_database(manifest))
	{
		check_option_names(options, manifest, "the options of a source",
						   own + lengthof(own) - 1);
		ingest_check_database_source(options);
		return;
	}
	check_option_names(options, manifest, "the options of a source", own);
	check_base_url(options, manifest);
	check_page_size(options);
}

/*
 * The streams of a source with what it says now; a failure undoes the change
 * of the source or its connector.
 */
static void
check_streams(const char *source)
{
	int			count;
	char	  **names = core_declared_with("stream", "source", source,
										   &count);

	for (int i = 0; i < count; i++)
		ingest_check_declared(names[i]);
}

/* What a source says, against its connector. */
static void
check_source(Jsonb *source, Jsonb *manifest)
{
	char	   *connector = core_json_text(source, "connector");
	Jsonb	   *options = core_json_value(source, "options");
	Jsonb	   *secrets = core_json_value(source, "secrets");

	check_source_options(options, manifest);
	check_secret_names(secrets, manifest, connector);
	check_required(manifest, "options", options, connector);
	check_required(manifest, "secrets", secrets, connector);
}

/* A declared source and its streams, after its connector has changed. */
void
ingest_check_source(const char *name, Jsonb *manifest)
{
	check_source(core_find_declaration("source", name, false), manifest);
	check_streams(name);
}

PG_FUNCTION_INFO_V1(visage_create_source);
Datum
visage_create_source(PG_FUNCTION_ARGS)
{
	char	   *name = required_text(fcinfo, 0, "name");
	char	   *connector = required_text(fcinfo, 1, "connector");
	Jsonb	   *manifest;
	Jsonb	   *secrets;
	CoreDeclaration declaration = {.noun = "source",.name = name};

	core_check_name("source", name);
	if (PG_ARGISNULL(2) || PG_ARGISNULL(3))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("options and secrets of a source must not be "
						"null")));
	core_lock_declarations();
	manifest = core_json_value(core_find_declaration("connector", connector,
													 false), "manifest");
	declaration.definition = core_definition(fcinfo);
	check_source(declaration.definition, manifest);
	declaration.replace = !PG_ARGISNULL(4) && PG_GETARG_BOOL(4);
	secrets = take_secrets(name, optional_jsonb(fcinfo, 3),
						   declaration.replace);
	declaration.definition =
		core_json_merge_patch(declaration.definition,
							  core_json_object("secrets", secrets));
	if (core_declare(&declaration) == CORE_DECLARED_REPLACED)
		check_streams(name);
	PG_RETURN_VOID();
}

/* Declared columns have types whose input runs no code of a user. */
static void
check_columns(Jsonb *columns)
{
	int			count;
	char	  **names = core_json_keys(columns, &count);

	if (columns != NULL && !JB_ROOT_IS_OBJECT(columns))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the columns of a stream must be a JSON object")));
	for (int i = 0; i < count; i++)
	{
		char	   *declared = core_json_text(columns, names[i]);
		int32		typmod;

		if (declared == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("the type of column \"%s\" must not be null",
							names[i]),
					 errhint("Leave the column out, for a type that is "
							 "inferred.")));
		(void) ingest_column_type(names[i], declared, &typmod);
	}
}

/* An argument with a fixed set of values. */
static void
check_choice(Jsonb *definition, const char *argument,
			 const char *const *choices)
{
	char	   *value = core_json_text(definition, argument);
	StringInfoData list;

	initStringInfo(&list);
	for (const char *const *choice = choices; *choice; choice++)
	{
		if (strcmp(*choice, value) == 0)
			return;
		appendStringInfo(&list, "%s'%s'", list.len ? ", " : "", *choice);
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for \"%s\": \"%s\"", argument, value),
			 errhint("Use one of %s.", list.data)));
}

/* The arguments of a stream that stand by themselves. */
static void
check_stream(Jsonb *definition, Jsonb *manifest)
{
	static const char *const dispositions[] =
	{"merge", "append", "replace", "history", NULL};
	static const char *const contracts[] =
	{"evolve", "freeze", "discard_row", "discard_value", NULL};
	static const char *const deletes[] =
	{"ignore", "invalidate", "new_record", NULL};
	static const char *const own[] =
	{"page_size", "sequence_by", "track_history_columns", "fixed_columns",
	NULL};
	Jsonb	   *options = core_json_value(definition, "options");

	check_choice(definition, "write_disposition", dispositions);
	check_choice(definition, "schema_contract", contracts);
	check_choice(definition, "hard_deletes", deletes);
	check_option_names(options, manifest, "the options of a stream", own);
	check_page_size(options);
}

/*
 * The stream with what its connector says; a failure here undoes the
 * declaration.
 */
void
ingest_check_declared(const char *name)
{
	IngestStream *stream = ingest_read_stream(name);
	bool		needs_key = strcmp(stream->disposition, "merge") == 0 ||
	strcmp(stream->disposition, "history") == 0;

	if (stream->key_count == 0 && needs_key && stream->window.step == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("write_disposition => '%s' needs a primary key",
						stream->disposition),
				 errhint("Name the fields that identify a record in "
						 "primary_key, or use write_disposition => "
						 "'append'.")));
	if (stream->key_count == 0 && strcmp(stream->disposition, "history") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("write_disposition => 'history' needs a primary "
						"key")));
	if (stream->paginator.kind == PAGES_KEYSET &&
		stream->paginator.by != KEYSET_TIE && stream->cursor.field == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the pages of stream \"%s\" need a cursor field",
						name)));
}

PG_FUNCTION_INFO_V1(visage_create_stream);
Datum
visage_create_stream(PG_FUNCTION_ARGS)
{
	char	   *source = required_text(fcinfo, 0, "source");
	char	   *stream = required_text(fcinfo, 1, "stream");
	Jsonb	   *manifest;
	CoreDeclaration declaration = {.noun = "stream"};

	core_check_name("stream", stream);
	core_lock_declarations();
	manifest = core_find_declaration("source", source, false);
	manifest = core_find_declaration("connector",
									 core_json_text(manifest, "connector"),
									 false);
	manifest = core_json_value(manifest, "manifest");
	for (int i = 6; i < 13; i++)
		if (i != 8 && PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("only resource, primary_key, cursor_field, "
							"initial_value and columns of a stream may be "
							"null")));
	check_columns(optional_jsonb(fcinfo, 8));
	declaration.definition = core_definition(fcinfo);
	check_stream(declaration.definition, manifest);
	/* The longest name that anything will be given is the history's. */
	(void) core_qualified(CORE_LAYER_HISTORY,
						  psprintf("%s__%s__superseded", source, stream));
	declaration.name = psprintf("%s.%s", source, stream);
	declaration.replace = !PG_ARGISNULL(13) && PG_GETARG_BOOL(13);
	if (declaration.replace)
		ingest_check_change(declaration.name, declaration.definition);
	(void) core_declare(&declaration);
	ingest_check_declared(declaration.name);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(visage_drop_source);
Datum
visage_drop_source(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	CoreIdentity caller;

	core_lock_declarations();
	(void) core_find_declaration("source", name, false);
	core_refuse_dependents("source", name, "stream");
	core_spi_begin();
	core_become_owner(&caller);
	net_forget_secrets(name);
	core_forget_declaration("source", name);
	core_become_caller(&caller);
	core_spi_end();
	PG_RETURN_VOID();
}

/* ERROR while somebody ingests the stream; as the owner. */
static void
check_idle(const char *name)
{
	int64		pid = ingest_run_under_way(name);

	if (pid != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("stream \"%s\" is being ingested", name),
				 errdetail("The session with PID " INT64_FORMAT " is at it.",
						   pid),
				 errhint("Cancel it, or run visage_stop('%s').", name)));
}

/*
 * The history that a stream has made goes with its data, or stands by itself
 * from now on.  As the owner.
 */
static void
release_history(const char *stream, const char *table, bool keep_data)
{
	CoreArgs	args = {0};

	core_arg_text(&args, psprintf("history.%s", table));
	core_arg_text(&args, psprintf("stream %s", stream));
	if (core_execute("UPDATE visage.declarations SET parent = NULL"
					 " WHERE noun = 'history' AND name = $1 AND parent = $2",
					 &args, SPI_OK_UPDATE) == 0 || keep_data)
		return;
	memset(&args, 0, sizeof(args));
	core_arg_text(&args, table);
	core_execute(psprintf("SELECT %s.visage_drop_history($1, false)",
						  core_extension_schema()), &args, SPI_OK_SELECT);
}

PG_FUNCTION_INFO_V1(visage_drop_stream);
Datum
visage_drop_stream(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	bool		keep_data = PG_GETARG_BOOL(1);
	Jsonb	   *definition;
	char	   *table;
	char	   *seen;
	CoreIdentity caller;
	CoreArgs	args = {0};

	core_lock_declarations();
	definition = core_find_declaration("stream", name, false);
	table = psprintf("%s__%s", core_json_text(definition, "source"),
					 core_json_text(definition, "stream"));
	core_arg_text(&args, name);
	core_spi_begin();
	core_become_owner(&caller);
	check_idle(name);
	release_history(name, table, keep_data);
	core_execute("DELETE FROM visage.stream_states WHERE stream = $1", &args,
				 SPI_OK_DELETE);
	core_execute("DELETE FROM visage.stream_workers WHERE stream = $1", &args,
				 SPI_OK_DELETE);
	if (!keep_data)
	{
		core_drop_dataset(CORE_LAYER_LANDING, table);
		core_drop_dataset(CORE_LAYER_STAGING, table);
		seen = psprintf("%s__seen", table);
		if (OidIsValid(core_table_oid(CORE_LAYER_STAGING, seen)))
			core_execute(psprintf("DROP TABLE %s",
								  core_qualified(CORE_LAYER_STAGING, seen)),
						 NULL, SPI_OK_UTILITY);
	}
	core_forget_declaration("stream", name);
	core_become_caller(&caller);
	core_spi_end();
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(visage_reset_stream);
Datum
visage_reset_stream(PG_FUNCTION_ARGS)
{
	char	   *name = required_text(fcinfo, 0, "stream");
	CoreIdentity caller;
	CoreArgs	args = {0};

	(void) core_find_declaration("stream", name, false);
	core_arg_text(&args, name);
	core_arg_text(&args, PG_ARGISNULL(1) ? NULL :
				  text_to_cstring(PG_GETARG_TEXT_PP(1)));
	core_spi_begin();
	core_become_owner(&caller);
	core_execute("INSERT INTO visage.stream_states (stream, cursor_value)"
				 " VALUES ($1, $2) ON CONFLICT (stream) DO UPDATE"
				 " SET cursor_value = EXCLUDED.cursor_value,"
				 " crawl = NULL, watermark = NULL,"
				 " updated_at = pg_catalog.now()", &args, SPI_OK_INSERT);
	core_become_caller(&caller);
	core_spi_end();
	PG_RETURN_VOID();
}

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
#include "utils/array.h"
#include "utils/builtins.h"

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

/* Each secret must be one that the connector takes, and a reference. */
static void
check_secrets(Jsonb *secrets, Jsonb *manifest, const char *connector)
{
	Jsonb	   *known = core_json_value(manifest, "secrets");
	int			count;
	int			known_count;
	char	  **names = core_json_keys(secrets, &count);
	char	  **known_names = core_json_keys(known, &known_count);
	const char **list = palloc0(sizeof(char *) * (known_count + 1));

	for (int i = 0; i < known_count; i++)
		list[i] = known_names[i];
	core_check_keys(secrets, psprintf("the secrets of connector \"%s\"",
									  connector), list);
	for (int i = 0; i < count; i++)
	{
		char	   *reference = core_json_text(secrets, names[i]);

		if (reference == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("secret \"%s\" must not be null", names[i])));
		core_check_secret(names[i], reference);
	}
}

/* base_url is http or https, page_size a positive number. */
static void
check_source_options(Jsonb *options)
{
	static const char *const known[] = {"base_url", "page_size", NULL};
	char	   *url;
	char	   *size;

	core_check_keys(options, "the options of a source", known);
	url = core_json_text(options, "base_url");
	size = core_json_text(options, "page_size");
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
	if (size != NULL && (strspn(size, "0123456789") != strlen(size) ||
						 strlen(size) > 6 || atoi(size) == 0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"page_size\" must be between 1 and 999999"),
				 errdetail("It is %s.", size)));
}

PG_FUNCTION_INFO_V1(visage_create_source);
Datum
visage_create_source(PG_FUNCTION_ARGS)
{
	char	   *name = required_text(fcinfo, 0, "name");
	char	   *connector = required_text(fcinfo, 1, "connector");
	Jsonb	   *connector_definition;
	CoreDeclaration declaration = {.noun = "source",.name = name};

	core_check_name("source", name);
	if (PG_ARGISNULL(2) || PG_ARGISNULL(3))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("options and secrets of a source must not be "
						"null")));
	connector_definition = core_find_declaration("connector", connector,
												 false);
	check_source_options(optional_jsonb(fcinfo, 2));
	check_secrets(optional_jsonb(fcinfo, 3),
				  core_json_value(connector_definition, "manifest"),
				  connector);
	declaration.definition = core_definition(fcinfo);
	declaration.replace = !PG_ARGISNULL(4) && PG_GETARG_BOOL(4);
	(void) core_declare(&declaration);
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

/* An argument with a fixed set of values, of which some work today. */
static void
check_choice(const char *argument, const char *value,
			 const char *const *works, const char *const *later)
{
	for (const char *const *choice = works; *choice; choice++)
		if (strcmp(*choice, value) == 0)
			return;
	for (const char *const *choice = later; *choice; choice++)
		if (strcmp(*choice, value) == 0)
			core_not_supported(psprintf("%s => '%s'", argument, value),
							   psprintf("Use %s => '%s'.", argument,
										works[0]));
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for \"%s\": \"%s\"", argument, value),
			 errhint("Use '%s'.", works[0])));
}

/* The arguments of a stream that stand by themselves. */
static void
check_stream(Jsonb *definition)
{
	static const char *const dispositions[] = {"merge", "append", "history", NULL};
	static const char *const later_dispositions[] = {"replace", NULL};
	static const char *const contracts[] = {"evolve", NULL};
	static const char *const later_contracts[] =
	{"freeze", "discard_row", "discard_value", NULL};
	static const char *const deletes[] = {"ignore", NULL};
	static const char *const later_deletes[] =
	{"invalidate", "new_record", NULL};
	static const char *const options[] =
	{"sequence_by", "track_history_columns", "fixed_columns", NULL};
	char	   *disposition = core_json_text(definition, "write_disposition");
	int			keys;

	check_choice("write_disposition", disposition, dispositions,
				 later_dispositions);
	check_choice("schema_contract",
				 core_json_text(definition, "schema_contract"), contracts,
				 later_contracts);
	check_choice("hard_deletes", core_json_text(definition, "hard_deletes"),
				 deletes, later_deletes);
	core_check_keys(core_json_value(definition, "options"),
					"the options of a stream", options);
	(void) core_json_text_array(definition, "primary_key", &keys);
	if (keys == 0 && strcmp(disposition, "append") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("write_disposition => '%s' needs a primary key",
						disposition),
				 errhint("Name the fields that identify a record in "
						 "primary_key, or use write_disposition => "
						 "'append'.")));
}

PG_FUNCTION_INFO_V1(visage_create_stream);
Datum
visage_create_stream(PG_FUNCTION_ARGS)
{
	static const char *const fixed[] =
	{"primary_key", "write_disposition", "columns", NULL};
	char	   *source = required_text(fcinfo, 0, "source");
	char	   *stream = required_text(fcinfo, 1, "stream");
	CoreDeclaration declaration = {.noun = "stream",.fixed = fixed};

	core_check_name("stream", stream);
	core_lock_declarations();
	(void) core_find_declaration("source", source, false);
	for (int i = 6; i < 13; i++)
		if (i != 8 && PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("only resource, primary_key, cursor_field, "
							"initial_value and columns of a stream may be "
							"null")));
	check_columns(optional_jsonb(fcinfo, 8));
	declaration.definition = core_definition(fcinfo);
	check_stream(declaration.definition);
	/* The longest name that anything will be given is the history's. */
	(void) core_qualified(CORE_LAYER_HISTORY,
						  psprintf("%s__%s__superseded", source, stream));
	declaration.name = psprintf("%s.%s", source, stream);
	declaration.replace = !PG_ARGISNULL(13) && PG_GETARG_BOOL(13);
	(void) core_declare(&declaration);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(visage_drop_source);
Datum
visage_drop_source(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	CoreIdentity caller;
	CoreArgs	args = {0};
	char	   *stream;

	core_lock_declarations();
	(void) core_find_declaration("source", name, false);
	core_arg_text(&args, name);
	core_spi_begin();
	core_become_owner(&caller);
	stream = core_query_text("SELECT name FROM visage.declarations"
							 " WHERE noun = 'stream'"
							 " AND definition ->> 'source' = $1"
							 " ORDER BY name", &args, CurrentMemoryContext);
	if (stream != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("source \"%s\" has streams", name),
				 errdetail("One is \"%s\".", stream),
				 errhint("Drop its streams first.")));
	core_forget_declaration("source", name);
	core_become_caller(&caller);
	core_spi_end();
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(visage_drop_stream);
Datum
visage_drop_stream(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	bool		keep_data = PG_GETARG_BOOL(1);
	Jsonb	   *definition;
	char	   *table;
	CoreIdentity caller;
	CoreArgs	args = {0};

	core_lock_declarations();
	definition = core_find_declaration("stream", name, false);
	table = psprintf("%s__%s", core_json_text(definition, "source"),
					 core_json_text(definition, "stream"));
	core_arg_text(&args, name);
	core_spi_begin();
	core_become_owner(&caller);
	core_execute("DELETE FROM visage.stream_states WHERE stream = $1", &args,
				 SPI_OK_DELETE);
	if (!keep_data)
	{
		core_drop_dataset(CORE_LAYER_LANDING, table);
		core_drop_dataset(CORE_LAYER_STAGING, table);
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
				 " crawl_value = NULL, crawl_tie = NULL, crawl_offset = 0,"
				 " updated_at = pg_catalog.now()", &args, SPI_OK_INSERT);
	core_become_caller(&caller);
	core_spi_end();
	PG_RETURN_VOID();
}

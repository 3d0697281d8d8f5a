/*-------------------------------------------------------------------------
 *
 * connector.c
 *		Connectors: declaring one, and dropping it.
 *
 * The grammar of a manifest is connectors/schema.json, which the extension
 * carries as visage.manifest_schema(); nothing here repeats it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "core/core.h"
#include "ingest/ingest.h"
#include "utils/builtins.h"

/* The sources of a connector, with what it says now. */
static void
check_sources(const char *connector, Jsonb *manifest)
{
	int			count;
	char	  **names = core_declared_with("source", "connector", connector,
										   &count);

	for (int i = 0; i < count; i++)
		ingest_check_source(names[i], manifest);
}

/* Does the extension bring the connector? */
static bool
is_builtin(const char *name)
{
	CoreArgs	args = {0};
	CoreIdentity caller;
	bool		builtin;

	core_spi_begin();
	core_become_owner(&caller);
	core_arg_text(&args, name);
	builtin = core_query_int8("SELECT count(*) FROM visage.declarations"
							  " WHERE noun = 'connector' AND name = $1"
							  " AND builtin", &args, 0) > 0;
	core_become_caller(&caller);
	core_spi_end();
	return builtin;
}

/* The grammar of manifests. */
static Jsonb *
read_grammar(void)
{
	MemoryContext context = CurrentMemoryContext;
	CoreIdentity caller;
	char	   *schema;

	core_spi_begin();
	core_become_owner(&caller);
	schema = core_query_text("SELECT visage.manifest_schema()", NULL, context);
	core_become_caller(&caller);
	core_spi_end();
	return core_json_parse(schema);
}

PG_FUNCTION_INFO_V1(visage_create_connector);
Datum
visage_create_connector(PG_FUNCTION_ARGS)
{
	CoreDeclaration declaration = {.noun = "connector"};
	char	   *name;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("name and manifest of a connector must not be "
						"null")));
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	core_check_name("connector", name);
	core_check_schema(read_grammar(), PG_GETARG_JSONB_P(1),
					  psprintf("the manifest of connector \"%s\"", name));
	ingest_check_manifest(PG_GETARG_JSONB_P(1), name);
	if (is_builtin(name))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("connector \"%s\" is built in", name),
				 errhint("Declare it under another name.")));
	declaration.name = name;
	declaration.definition = core_definition(fcinfo);
	declaration.replace = !PG_ARGISNULL(2) && PG_GETARG_BOOL(2);
	if (core_declare(&declaration) == CORE_DECLARED_REPLACED)
		check_sources(name, PG_GETARG_JSONB_P(1));
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(visage_drop_connector);
Datum
visage_drop_connector(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	CoreIdentity caller;

	core_lock_declarations();
	(void) core_find_declaration("connector", name, false);
	if (is_builtin(name))
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("connector \"%s\" is built in", name)));
	core_refuse_dependents("connector", name, "source");
	core_spi_begin();
	core_become_owner(&caller);
	core_forget_declaration("connector", name);
	core_become_caller(&caller);
	core_spi_end();
	PG_RETURN_VOID();
}

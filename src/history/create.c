/*-------------------------------------------------------------------------
 *
 * create.c
 *		Declaring and dropping histories.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "core/core.h"
#include "history/history.h"
#include "utils/builtins.h"

/* What later releases will take, refused by name. */
static void
check_supported(Jsonb *definition)
{
	char	   *deletes = core_json_text(definition, "hard_deletes");
	char	   *contract = core_json_text(definition, "schema_contract");

	if (deletes == NULL || strcmp(deletes, "ignore") != 0)
		core_not_supported(psprintf("hard_deletes => '%s'",
									deletes ? deletes : "NULL"),
						   "Use hard_deletes => 'ignore'.");
	if (contract == NULL || strcmp(contract, "evolve") != 0)
		core_not_supported(psprintf("schema_contract => '%s'",
									contract ? contract : "NULL"),
						   "Use schema_contract => 'evolve'.");
	if (core_json_text(definition, "delete_when") != NULL)
		core_not_supported("delete_when",
						   "Leave deleted records out of the source.");
	if (core_json_text(definition, "valid_to_column") != NULL)
		core_not_supported("valid_to_column",
						   "A version ends where the next one begins.");
}

/* ERROR unless the arguments that make a history are there. */
static void
check_arguments(FunctionCallInfo fcinfo, Jsonb *definition)
{
	int			keys;

	if (PG_ARGISNULL(1) || PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("arguments \"source\" and \"unique_key\" of a "
						"history must not be null")));
	(void) core_json_text_array(definition, "unique_key", &keys);
	if (keys == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a history needs a unique key"),
				 errhint("Name the columns that identify a record in "
						 "unique_key.")));
	check_supported(definition);
}

/* A relation of that name that Visage did not make is never touched. */
static void
check_free(const History *history)
{
	if (OidIsValid(core_table_oid(CORE_LAYER_HISTORY, history->table)))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_TABLE),
				 errmsg("relation \"%s\" already exists", history->name),
				 errdetail("It is not the table of a declared history."),
				 errhint("Choose another name.")));
}

PG_FUNCTION_INFO_V1(visage_create_history);
Datum
visage_create_history(PG_FUNCTION_ARGS)
{
	static const char *const fixed[] = {"unique_key", "sequence_by", NULL};
	CoreDeclaration declaration = {.noun = "history",.fixed = fixed};
	CoreDeclared declared;
	CoreIdentity caller;
	History    *history;
	char	   *source;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"target\" must not be null")));
	declaration.definition = core_definition(fcinfo);
	check_arguments(fcinfo, declaration.definition);
	declaration.name =
		psprintf("history.%s",
				 core_dataset_table(text_to_cstring(PG_GETARG_TEXT_PP(0)),
									CORE_LAYER_HISTORY));
	declaration.replace = !PG_ARGISNULL(10) && PG_GETARG_BOOL(10);
	history = history_describe(declaration.name, declaration.definition);
	(void) core_qualified(CORE_LAYER_HISTORY,
						  psprintf("%s__superseded", history->table));
	declared = core_declare(&declaration);

	core_spi_begin();
	source = history_find_source(text_to_cstring(PG_GETARG_TEXT_PP(1)));
	core_become_owner(&caller);
	if (declared == CORE_DECLARED_NEW)
		check_free(history);
	if (source == NULL)
		ereport(NOTICE,
				(errmsg("the source of \"%s\" does not exist yet",
						declaration.name),
				 errhint("Repeat the call when it does, to make the "
						 "tables.")));
	else if (!OidIsValid(core_table_oid(CORE_LAYER_HISTORY, history->table)))
	{
		history_read_columns(history, source);
		history_make_tables(history, declaration.name);
	}
	core_become_caller(&caller);
	core_spi_end();
	PG_RETURN_VOID();
}

/* Drops everything that was made for a history. */
static void
drop_tables(const History *history)
{
	if (!OidIsValid(core_own_table(CORE_LAYER_HISTORY, history->table)))
		return;
	core_execute(psprintf("DROP VIEW IF EXISTS %s",
						  core_qualified(CORE_LAYER_HISTORY,
										 psprintf("%s__current",
												  history->table))),
				 NULL, SPI_OK_UTILITY);
	core_execute(psprintf("DROP FUNCTION IF EXISTS %s(timestamptz, timestamptz)",
						  core_qualified(CORE_LAYER_HISTORY,
										 psprintf("%s__as_of",
												  history->table))),
				 NULL, SPI_OK_UTILITY);
	core_drop_dataset(CORE_LAYER_HISTORY, history->table);
	core_drop_dataset(CORE_LAYER_HISTORY,
					  psprintf("%s__superseded", history->table));
}

PG_FUNCTION_INFO_V1(visage_drop_history);
Datum
visage_drop_history(PG_FUNCTION_ARGS)
{
	char	   *name =
	psprintf("history.%s",
			 core_dataset_table(text_to_cstring(PG_GETARG_TEXT_PP(0)),
								CORE_LAYER_HISTORY));
	bool		keep_data = PG_GETARG_BOOL(1);
	History    *history;
	CoreIdentity caller;

	core_lock_declarations();
	history = history_describe(name, core_find_declaration("history", name,
														   false));
	core_spi_begin();
	core_become_owner(&caller);
	if (!keep_data)
		drop_tables(history);
	core_forget_declaration("history", name);
	core_become_caller(&caller);
	core_spi_end();
	PG_RETURN_VOID();
}

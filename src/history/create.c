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

#define ARGUMENT_REPLACE 10
#define ARGUMENT_PARTITIONS 11
#define MAX_PARTITIONS 1024

/* "history.x", whether the user wrote the layer or not. */
static char *
full_name(text * target)
{
	return psprintf("history.%s",
					core_dataset_table(text_to_cstring(target),
									   CORE_LAYER_HISTORY));
}

/*
 * The definition, in which the target has its full name, so that both ways
 * to write it are one.
 */
static Jsonb *
make_definition(FunctionCallInfo fcinfo, const char *name)
{
	Datum		target = fcinfo->args[0].value;
	Jsonb	   *definition;

	fcinfo->args[0].value = CStringGetTextDatum(name);
	definition = core_definition(fcinfo);
	/* it may be a constant of the calling expression */
	fcinfo->args[0].value = target;
	return definition;
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
	if (keys > INDEX_MAX_KEYS - 1)
		ereport(ERROR,
				(errcode(ERRCODE_TOO_MANY_COLUMNS),
				 errmsg("the unique key of a history has at most %d columns",
						INDEX_MAX_KEYS - 1)));
	if (!PG_ARGISNULL(ARGUMENT_PARTITIONS) &&
		(PG_GETARG_INT32(ARGUMENT_PARTITIONS) < 1 ||
		 PG_GETARG_INT32(ARGUMENT_PARTITIONS) > MAX_PARTITIONS))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a history has between 1 and %d partitions",
						MAX_PARTITIONS)));
}

/* A column has one role. */
static void
check_roles(const History *history)
{
	for (int i = 0; i < history->fixed_count; i++)
		if (history_role(history, history->fixed[i]) != HISTORY_FIXED)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("column \"%s\" of \"%s\" is in fixed_columns and "
							"gives the key, the sequence or the end, too",
							history->fixed[i], history->name)));
	for (int i = 0; i < history->tracked_count; i++)
		if (history_role(history, history->tracked[i]) != HISTORY_TRACKED)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("column \"%s\" of \"%s\" is in "
							"track_history_columns and has another role, too",
							history->tracked[i], history->name)));
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

/* Makes the tables unless they are there; as the owner. */
static void
make_tables(FunctionCallInfo fcinfo, History *history,
			const HistorySource *source)
{
	if (source == NULL)
		ereport(NOTICE,
				(errmsg("the source of \"%s\" does not exist yet",
						history->name),
				 errhint("Repeat the call when it does, to make the "
						 "tables.")));
	else if (!OidIsValid(core_table_oid(CORE_LAYER_HISTORY, history->table)))
		history_make_tables(history, source,
							PG_ARGISNULL(ARGUMENT_PARTITIONS) ? 0 :
							PG_GETARG_INT32(ARGUMENT_PARTITIONS));
}

PG_FUNCTION_INFO_V1(visage_create_history);
Datum
visage_create_history(PG_FUNCTION_ARGS)
{
	static const char *const fixed[] = {
		"unique_key", "sequence_by", "track_history_columns", "fixed_columns",
		"valid_to_column", "partitions", NULL
	};
	CoreDeclaration declaration = {.noun = "history",.fixed = fixed};
	CoreDeclared declared;
	CoreIdentity caller;
	History    *history;
	HistorySource *source;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"target\" must not be null")));
	declaration.name = full_name(PG_GETARG_TEXT_PP(0));
	declaration.definition = make_definition(fcinfo, declaration.name);
	check_arguments(fcinfo, declaration.definition);
	declaration.replace = !PG_ARGISNULL(ARGUMENT_REPLACE) &&
		PG_GETARG_BOOL(ARGUMENT_REPLACE);
	history = history_describe(declaration.name, declaration.definition);
	core_check_dataset(history->name, history->table);
	check_roles(history);
	(void) core_qualified(CORE_LAYER_HISTORY,
						  psprintf("%s__superseded", history->table));

	core_spi_begin();
	source = history_find_source(text_to_cstring(PG_GETARG_TEXT_PP(1)));
	if (source)
		history_check_condition(history, source);
	declared = core_declare(&declaration);
	core_become_owner(&caller);
	if (declared == CORE_DECLARED_NEW)
		check_free(history);
	make_tables(fcinfo, history, source);
	core_become_caller(&caller);
	core_spi_end();
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(visage_alter_history);
Datum
visage_alter_history(PG_FUNCTION_ARGS)
{
	char	   *target = text_to_cstring(PG_GETARG_TEXT_PP(0));

	core_alter("history", psprintf("history.%s",
								   core_dataset_table(target,
													  CORE_LAYER_HISTORY)),
			   PG_GETARG_JSONB_P(1));
	PG_RETURN_VOID();
}

/* Drops everything that was made for a history. */
static void
drop_tables(const History *history)
{
	char	   *as_of;

	if (!OidIsValid(core_own_table(CORE_LAYER_HISTORY, history->table)))
		return;
	core_execute(psprintf("DROP VIEW IF EXISTS %s",
						  core_qualified(CORE_LAYER_HISTORY,
										 psprintf("%s__current",
												  history->table))),
				 NULL, SPI_OK_UTILITY);
	as_of = core_qualified(CORE_LAYER_HISTORY,
						   psprintf("%s__as_of", history->table));
	core_execute(psprintf("DROP FUNCTION IF EXISTS %s(timestamptz),"
						  " %s(timestamptz, timestamptz)", as_of, as_of),
				 NULL, SPI_OK_UTILITY);
	core_drop_dataset(CORE_LAYER_HISTORY, history->table);
	core_drop_dataset(CORE_LAYER_HISTORY,
					  psprintf("%s__superseded", history->table));
	core_drop_dataset(CORE_LAYER_HISTORY,
					  psprintf("%s__observed", history->table));
}

PG_FUNCTION_INFO_V1(visage_drop_history);
Datum
visage_drop_history(PG_FUNCTION_ARGS)
{
	char	   *name = full_name(PG_GETARG_TEXT_PP(0));
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

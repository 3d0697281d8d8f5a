/*-------------------------------------------------------------------------
 *
 * alter.c
 *		Changing a declaration: what every visage_alter_<noun> does.
 *
 * The changes are a JSON merge patch (RFC 7396) on the definition, which is
 * keyed by the argument names of visage_create_<noun>.  The patched
 * definition is declared anew by a call of that very function, with
 * replace => true and as the caller: so the same is checked, refused and
 * asked of the caller's rights as when it was created.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "core/core.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/syscache.h"

/* The function that creates a noun: its arguments but for "replace". */
typedef struct Creator
{
	char	   *function;		/* qualified and quoted */
	int			count;
	Oid		   *types;
	char	  **names;
	int			required;		/* how many of the first have no default */
	int			identity;		/* how many of the first are the name */
} Creator;

/* Finds visage_create_<noun> in the extension's schema. */
static void
find_creator(const char *noun, Creator *creator)
{
	CoreArgs	args = {0};
	CoreIdentity caller;
	HeapTuple	proc;
	Oid			oid;
	char	   *modes;
	int			count;

	creator->function = psprintf("%s.visage_create_%s",
								 core_extension_schema(), noun);
	creator->identity = strcmp(noun, "stream") == 0 ? 2 : 1;
	core_arg_text(&args, creator->function);
	core_spi_begin();
	core_become_owner(&caller);
	oid = (Oid) core_query_int8("SELECT $1::regproc::oid::bigint", &args, 0);
	core_become_caller(&caller);
	core_spi_end();
	proc = SearchSysCache1(PROCOID, ObjectIdGetDatum(oid));
	if (!HeapTupleIsValid(proc))
		elog(ERROR, "cache lookup failed for function %u", oid);
	count = get_func_arg_info(proc, &creator->types, &creator->names, &modes);
	creator->required = count -
		((Form_pg_proc) GETSTRUCT(proc))->pronargdefaults;
	ReleaseSysCache(proc);
	creator->count = 0;
	for (int i = 0; i < count; i++)
	{
		if (strcmp(creator->names[i], "replace") == 0)
			continue;
		creator->types[creator->count] = creator->types[i];
		creator->names[creator->count++] = creator->names[i];
	}
}

/* The changes name arguments that there are, and none that is the name. */
static void
check_changes(const Creator *creator, const char *what, Jsonb *changes)
{
	const char **known = palloc0(sizeof(char *) *
								 (creator->count - creator->identity + 1));

	for (int i = 0; i < creator->identity; i++)
		if (core_json_value(changes, creator->names[i]) != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("cannot change \"%s\" of %s", creator->names[i],
							what),
					 errdetail("It is part of the name."),
					 errhint("Create another one.")));
	for (int i = creator->identity; i < creator->count; i++)
		known[i - creator->identity] = creator->names[i];
	core_check_keys(changes, psprintf("the changes of %s", what), known);
}

/* Appends "name => value" for an argument that the definition has. */
static void
append_argument(StringInfo sql, CoreArgs *args, const Creator *creator,
				int i, Jsonb *definition, const char *what)
{
	const char *name = creator->names[i];
	Oid			type = creator->types[i];
	Jsonb	   *value = core_json_value(definition, name);
	int			count;
	char	  **texts;

	if (value == NULL && i < creator->required)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("\"%s\" of %s must not be null", name, what)));
	if (value == NULL)
		return;
	appendStringInfo(sql, "%s => ", quote_identifier(name));
	if (type == JSONBOID)
		core_arg_jsonb(args, value);
	else if (type == TEXTARRAYOID)
	{
		texts = core_json_text_array(definition, name, &count);
		core_arg_text_array(args, texts, count);
	}
	else if (JB_ROOT_IS_SCALAR(value))
		core_arg_text(args, core_json_text(definition, name));
	else
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" of %s must be a string, a number or a "
						"boolean", name, what)));
	appendStringInfo(sql, "$%d::%s, ", args->count, format_type_be(type));
}

/*
 * Changes a declaration, which keeps its name.  A member that the changes
 * remove gets its default again.
 */
void
core_alter(const char *noun, const char *name, Jsonb *changes)
{
	Jsonb	   *definition;
	char	   *what = psprintf("%s \"%s\"", core_spoken_noun(noun), name);
	int			nest_level = NewGUCNestLevel();
	Creator		creator;
	CoreArgs	args = {0};
	StringInfoData sql;

	core_lock_declarations();
	definition = core_find_declaration(noun, name, false);
	find_creator(noun, &creator);
	check_changes(&creator, what, changes);
	definition = core_json_merge_patch(definition, changes);
	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT %s(", creator.function);
	for (int i = 0; i < creator.count; i++)
		append_argument(&sql, &args, &creator, i, definition, what);
	appendStringInfoString(&sql, "replace => true)");
	/* intervals of the definition are in this style, see core_definition */
	(void) set_config_option("IntervalStyle", "postgres", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	core_spi_begin();
	core_execute(sql.data, &args, SPI_OK_SELECT);
	core_spi_end();
	AtEOXact_GUC(true, nest_level);
}

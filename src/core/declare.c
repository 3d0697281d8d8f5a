/*-------------------------------------------------------------------------
 *
 * declare.c
 *		Declaring nouns: every visage_create_<noun> comes through here.
 *
 * All declarations are rows of one table, visage.declarations, whose
 * definition is a jsonb object keyed by the argument names of the function
 * that declares the noun.  So that one place can tell whether a definition
 * is the same, say how it differs, and print it again
 * (visage_definitions()).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_proc.h"
#include "core/core.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/syscache.h"

/*
 * Builds the definition from the arguments of the calling function, all but
 * "replace", with settings pinned so that the same call gives the same
 * jsonb in every session.
 */
Jsonb *
core_definition(FunctionCallInfo fcinfo)
{
	HeapTuple	proc = SearchSysCache1(PROCOID,
									   ObjectIdGetDatum(fcinfo->flinfo->fn_oid));
	int			nest_level = NewGUCNestLevel();
	Oid		   *types;
	char	  **names;
	char	   *modes;
	int			count;
	CoreArgs	args = {0};
	StringInfoData sql;
	char	   *text;
	MemoryContext caller = CurrentMemoryContext;

	if (!HeapTupleIsValid(proc))
		elog(ERROR, "cache lookup failed for function %u",
			 fcinfo->flinfo->fn_oid);
	count = get_func_arg_info(proc, &types, &names, &modes);
	ReleaseSysCache(proc);

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT pg_catalog.jsonb_build_object(");
	for (int i = 0; i < count; i++)
	{
		if (strcmp(names[i], "replace") == 0)
			continue;
		appendStringInfo(&sql, "%s%s, $%d", args.count ? ", " : "",
						 quote_literal_cstr(names[i]), args.count + 1);
		core_arg(&args, types[i], fcinfo->args[i].value,
				 fcinfo->args[i].isnull);
	}
	appendStringInfoChar(&sql, ')');

	(void) set_config_option("IntervalStyle", "postgres", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("TimeZone", "UTC", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	core_spi_begin();
	text = core_query_text(sql.data, &args, caller);
	core_spi_end();
	AtEOXact_GUC(true, nest_level);
	return core_json_parse(text);
}

/* The noun as a user would say it. */
char *
core_spoken_noun(const char *noun)
{
	char	   *words = pstrdup(noun);

	for (char *c = words; *c; c++)
		if (*c == '_')
			*c = ' ';
	return words;
}

/*
 * How two definitions differ, a clause a key, for a DETAIL.  The keys that
 * may not change are checked on the way.
 */
static char *
difference(const CoreDeclaration *new, Jsonb *old)
{
	StringInfoData detail;
	char	  **keys;
	int			count;

	initStringInfo(&detail);
	keys = core_json_keys(new->definition, &count);
	for (int i = 0; i < count; i++)
	{
		char	   *was = core_json_text(old, keys[i]);
		char	   *is = core_json_text(new->definition, keys[i]);

		if ((was == NULL && is == NULL) ||
			(was != NULL && is != NULL && strcmp(was, is) == 0))
			continue;
		for (const char *const *fixed = new->fixed;
			 new->replace && fixed && *fixed; fixed++)
			if (strcmp(*fixed, keys[i]) == 0)
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("cannot change \"%s\" of %s \"%s\"",
								keys[i], core_spoken_noun(new->noun), new->name),
						 errdetail("It is %s and would become %s, which "
								   "needs the data to be written again.",
								   was ? was : "NULL", is ? is : "NULL"),
						 errhint("Drop the %s and create it anew.",
								 core_spoken_noun(new->noun))));
		appendStringInfo(&detail, "%s%s is %s, not %s",
						 detail.len ? "; " : "", keys[i],
						 was ? was : "NULL", is ? is : "NULL");
	}
	appendStringInfoChar(&detail, '.');
	return detail.data;
}

/* Writes the row; the same statement makes and replaces it. */
static void
store(const CoreDeclaration *declaration)
{
	CoreArgs	args = {0};

	core_arg_text(&args, declaration->noun);
	core_arg_text(&args, declaration->name);
	core_arg_jsonb(&args, declaration->definition);
	core_execute("INSERT INTO visage.declarations (noun, name, definition)"
				 " VALUES ($1, $2, $3)"
				 " ON CONFLICT (noun, name) DO UPDATE"
				 " SET definition = EXCLUDED.definition",
				 &args, SPI_OK_INSERT);
}

/*
 * Until the end of the transaction nobody else declares or drops anything.
 * For who looks at one declaration and then changes another, or drops what
 * was made for it.
 */
void
core_lock_declarations(void)
{
	CoreIdentity caller;

	core_spi_begin();
	core_become_owner(&caller);
	core_execute("LOCK TABLE visage.declarations IN SHARE ROW EXCLUSIVE MODE",
				 NULL, SPI_OK_UTILITY);
	core_become_caller(&caller);
	core_spi_end();
}

/*
 * Declares a noun: the same definition again is a NOTICE, a different one an
 * ERROR with the difference, unless it is to replace the old one.
 */
CoreDeclared
core_declare(const CoreDeclaration *declaration)
{
	CoreDeclared outcome = CORE_DECLARED_NEW;
	CoreIdentity caller;
	Jsonb	   *old;

	core_lock_declarations();
	core_spi_begin();
	core_become_owner(&caller);
	old = core_find_declaration(declaration->noun, declaration->name, true);
	if (old == NULL)
		store(declaration);
	else if (compareJsonbContainers(&old->root,
									&declaration->definition->root) == 0)
	{
		ereport(NOTICE,
				(errmsg("%s \"%s\" exists with the same definition, nothing "
						"to do", core_spoken_noun(declaration->noun), declaration->name)));
		outcome = CORE_DECLARED_SAME;
	}
	else
	{
		char	   *detail = difference(declaration, old);

		if (!declaration->replace)
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_OBJECT),
					 errmsg("%s \"%s\" already exists with another definition",
							core_spoken_noun(declaration->noun), declaration->name),
					 errdetail("In the declared one, %s", detail),
					 errhint("Use replace => true to change it.")));
		store(declaration);
		outcome = CORE_DECLARED_REPLACED;
	}
	core_become_caller(&caller);
	core_spi_end();
	return outcome;
}

/* Raises undefined_object with the nearest name that exists. */
static void
no_such(const char *noun, const char *name)
{
	CoreArgs	args = {0};
	uint64		count;
	char	  **names;
	char	   *nearest;

	core_arg_text(&args, noun);
	count = core_execute("SELECT name FROM visage.declarations"
						 " WHERE noun = $1 ORDER BY name",
						 &args, SPI_OK_SELECT);
	names = palloc(sizeof(char *) * (count + 1));
	for (uint64 i = 0; i < count; i++)
		names[i] = core_value_text(i, 1);
	nearest = core_nearest(name, names, count);
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("%s \"%s\" does not exist", core_spoken_noun(noun), name),
			 nearest ? errhint("Perhaps you meant \"%s\".", nearest) :
			 errhint("There is no %s of a similar name.", core_spoken_noun(noun))));
}

/*
 * The definition of a noun, allocated in the context current at the call,
 * or NULL (an ERROR unless missing_ok).  Opens its own SPI connection and
 * reads as the owner.
 */
Jsonb *
core_find_declaration(const char *noun, const char *name, bool missing_ok)
{
	CoreIdentity caller;
	CoreArgs	args = {0};
	MemoryContext context = CurrentMemoryContext;
	char	   *text;

	core_spi_begin();
	core_become_owner(&caller);
	core_arg_text(&args, noun);
	core_arg_text(&args, name);
	text = core_query_text("SELECT definition FROM visage.declarations"
						   " WHERE noun = $1 AND name = $2", &args, context);
	if (text == NULL && !missing_ok)
		no_such(noun, name);
	core_become_caller(&caller);
	core_spi_end();
	return text ? core_json_parse(text) : NULL;
}

/*
 * The names of the nouns whose definition has this value, in order,
 * allocated in the context current at the call.  Opens its own SPI
 * connection and reads as the owner.
 */
char	  **
core_declared_with(const char *noun, const char *argument, const char *value,
				   int *count)
{
	CoreIdentity caller;
	CoreArgs	args = {0};
	MemoryContext context = CurrentMemoryContext;
	char	  **names;

	core_spi_begin();
	core_become_owner(&caller);
	core_arg_text(&args, noun);
	core_arg_text(&args, argument);
	core_arg_text(&args, value);
	*count = (int) core_execute("SELECT name FROM visage.declarations"
								" WHERE noun = $1 AND definition ->> $2 = $3"
								" ORDER BY name", &args, SPI_OK_SELECT);
	names = MemoryContextAlloc(context, sizeof(char *) * Max(*count, 1));
	for (int i = 0; i < *count; i++)
		names[i] = MemoryContextStrdup(context, core_value_text(i, 1));
	core_become_caller(&caller);
	core_spi_end();
	return names;
}

/* ERROR where something of another noun is declared with this one. */
void
core_refuse_dependents(const char *noun, const char *name,
					   const char *dependent)
{
	int			count;
	char	  **names = core_declared_with(dependent, noun, name, &count);

	if (count > 0)
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("%s \"%s\" has %ss", noun, name, dependent),
				 errdetail("One is \"%s\".", names[0]),
				 errhint("Drop its %ss first.", dependent)));
}

/* Has somebody paused this noun? */
bool
core_is_paused(const char *noun, const char *name)
{
	CoreArgs	args = {0};

	core_arg_text(&args, noun);
	core_arg_text(&args, name);
	return core_execute("SELECT 1 FROM visage.declarations"
						" WHERE noun = $1 AND name = $2 AND paused",
						&args, SPI_OK_SELECT) > 0;
}

/* Removes a declaration; the room has removed what hung on it. */
void
core_forget_declaration(const char *noun, const char *name)
{
	CoreArgs	args = {0};

	core_arg_text(&args, noun);
	core_arg_text(&args, name);
	core_execute("DELETE FROM visage.declarations"
				 " WHERE noun = $1 AND name = $2", &args, SPI_OK_DELETE);
}

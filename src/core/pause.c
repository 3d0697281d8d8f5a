/*-------------------------------------------------------------------------
 *
 * pause.c
 *		visage_pause and visage_resume, for every noun alike.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "utils/builtins.h"

/* ERROR unless Visage has such a noun; it has one that can be created. */
static void
check_kind(const char *kind)
{
	CoreIdentity caller;
	CoreArgs	args = {0};
	char	   *known;

	core_arg_text(&args, kind);
	core_spi_begin();
	core_become_owner(&caller);
	known = core_query_text(
							"SELECT string_agg(k.kind, ', ' ORDER BY k.kind)"
							" FROM (SELECT substr(p.proname, 15) AS kind"
							" FROM pg_proc AS p"
							" JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass"
							" AND d.objid = p.oid AND d.deptype = 'e'"
							" JOIN pg_extension AS e ON e.oid = d.refobjid"
							" AND d.refclassid = 'pg_extension'::regclass"
							" WHERE e.extname = 'visage'"
							" AND p.proname ~ '^visage_create_'"
							" AND p.proname <> 'visage_create_roles') AS k"
							" HAVING NOT bool_or(k.kind = $1)", &args,
							CurrentMemoryContext);
	if (known != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" is no kind of thing that can be paused",
						kind),
				 errhint("The kinds are: %s.", known)));
	core_become_caller(&caller);
	core_spi_end();
}

/* Sets the mark on a declaration that must exist. */
static void
set_paused(FunctionCallInfo fcinfo, bool paused)
{
	char	   *noun = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(1));
	CoreIdentity caller;
	CoreArgs	args = {0};

	check_kind(noun);
	(void) core_find_declaration(noun, name, false);
	core_arg_text(&args, noun);
	core_arg_text(&args, name);
	core_arg(&args, BOOLOID, BoolGetDatum(paused), false);
	core_spi_begin();
	core_become_owner(&caller);
	core_execute("UPDATE visage.declarations SET paused = $3"
				 " WHERE noun = $1 AND name = $2", &args, SPI_OK_UPDATE);
	core_become_caller(&caller);
	core_spi_end();
}

PG_FUNCTION_INFO_V1(visage_pause);
Datum
visage_pause(PG_FUNCTION_ARGS)
{
	set_paused(fcinfo, true);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(visage_resume);
Datum
visage_resume(PG_FUNCTION_ARGS)
{
	set_paused(fcinfo, false);
	PG_RETURN_VOID();
}

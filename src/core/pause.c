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

/* Sets the mark on a declaration that must exist. */
static void
set_paused(FunctionCallInfo fcinfo, bool paused)
{
	char	   *noun = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(1));
	CoreIdentity caller;
	CoreArgs	args = {0};

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

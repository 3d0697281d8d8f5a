/*-------------------------------------------------------------------------
 *
 * visage.c
 *		Module start: settings, and what rooms register.  Nothing else.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "core/compat.h"
#include "core/settings.h"
#include "core/shared.h"
#include "fmgr.h"
#include "model/model.h"
#include "run/run.h"

VISAGE_MODULE_MAGIC("visage");

PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	core_define_settings();
	core_request_shared_memory();
	model_request_shared_memory();
	model_register_batch();
	run_register_launcher();
}

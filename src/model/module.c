/*-------------------------------------------------------------------------
 *
 * module.c
 *		Start of visage_models.so.
 *
 * Settings live in visage.so, which is loaded here if it is not there yet.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "core/compat.h"
#include "fmgr.h"

VISAGE_MODULE_MAGIC("visage_models");

PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	load_file("$libdir/visage", false);
}

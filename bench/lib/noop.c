/*-------------------------------------------------------------------------
 *
 * noop.c
 *		What a call from SQL costs when the function does nothing.
 *
 * The floor of bench/score: a C function with the arguments of the scorer
 * that returns 0.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(noop);
Datum
noop(PG_FUNCTION_ARGS)
{
	PG_RETURN_FLOAT8(0);
}

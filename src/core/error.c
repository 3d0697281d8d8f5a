/*-------------------------------------------------------------------------
 *
 * error.c
 *		Errors that several rooms raise in the same words.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "core/core.h"
#include "utils/guc.h"

/*
 * What the contract names and this release does not do.  The hint, if not
 * NULL, says what works today.
 */
void
core_not_supported(const char *what, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("%s is not supported by Visage %s", what, VISAGE_VERSION),
			 hint != NULL ? errhint("%s", hint) : 0));
}

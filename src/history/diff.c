/*-------------------------------------------------------------------------
 *
 * diff.c
 *		visage_history_diff: what changed between two instants.
 *
 * A key whose version is the same row at both has not changed, and is not
 * looked at further; a change of nothing but the sequence is none.  Runs as
 * the caller, who needs SELECT on the history.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "funcapi.h"
#include "history/history.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

#define OWN_COLUMNS \
	"'{valid_from,valid_to,is_deleted,recorded_at,row_hash}'::text[]"

/* "'k', coalesce(f.k, t.k), …" for the object that is the key. */
static char *
key_object(const History *history)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < history->key_count; i++)
	{
		const char *name = quote_identifier(history->keys[i]);

		appendStringInfo(&list, "%s%s, coalesce(f.%s, t.%s)",
						 i ? ", " : "", quote_literal_cstr(history->keys[i]),
						 name, name);
	}
	return list.data;
}

/* The names of the sequence, as an array literal. */
static char *
sequence_array(const History *history)
{
	StringInfoData list;

	initStringInfo(&list);
	appendStringInfoString(&list, "ARRAY[");
	for (int i = 0; i < history->sequence_count; i++)
		appendStringInfo(&list, "%s%s", i ? ", " : "",
						 quote_literal_cstr(history->sequence[i]));
	appendStringInfoString(&list, "]::pg_catalog.text[]");
	return list.data;
}

static char *
valid_at(const History *history, const char *parameter)
{
	return psprintf("SELECT * FROM %s WHERE valid_from <= %s"
					" AND %s < valid_to AND NOT is_deleted",
					history->target, parameter, parameter);
}

static char *
diff_query(const History *history, Oid relation)
{
	return psprintf("SELECT pg_catalog.jsonb_build_object(%s),"
					" CASE WHEN f.valid_from IS NULL THEN 'new'"
					" WHEN t.valid_from IS NULL THEN 'gone'"
					" ELSE 'changed' END,"
					" pg_catalog.to_jsonb(f) - " OWN_COLUMNS ","
					" pg_catalog.to_jsonb(t) - " OWN_COLUMNS
					" FROM (%s) AS f FULL JOIN (%s) AS t ON %s"
					" WHERE f.valid_from IS DISTINCT FROM t.valid_from"
					" AND pg_catalog.to_jsonb(f) - " OWN_COLUMNS " - %s"
					" IS DISTINCT FROM"
					" pg_catalog.to_jsonb(t) - " OWN_COLUMNS " - %s",
					key_object(history), valid_at(history, "$1"),
					valid_at(history, "$2"),
					history_key_match(history, relation, "f", "t"),
					sequence_array(history), sequence_array(history));
}

PG_FUNCTION_INFO_V1(visage_history_diff);
Datum
visage_history_diff(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	History    *history;
	CoreArgs	args = {0};
	uint64		count;

	InitMaterializedSRF(fcinfo, 0);
	core_spi_begin();
	history = history_find(PG_GETARG_OID(0));
	core_arg(&args, TIMESTAMPTZOID, PG_GETARG_DATUM(1), false);
	core_arg(&args, TIMESTAMPTZOID, PG_GETARG_DATUM(2), false);
	count = core_execute(diff_query(history, PG_GETARG_OID(0)), &args,
						 SPI_OK_SELECT);
	for (uint64 i = 0; i < count; i++)
	{
		Datum		values[4];
		bool		nulls[4];

		for (int c = 0; c < 4; c++)
			values[c] = SPI_getbinval(SPI_tuptable->vals[i],
									  SPI_tuptable->tupdesc, c + 1,
									  &nulls[c]);
		tuplestore_putvalues(result->setResult, result->setDesc, values,
							 nulls);
	}
	core_spi_end();
	return (Datum) 0;
}

/*-------------------------------------------------------------------------
 *
 * merge.c
 *		visage_merge: what is new in the source becomes versions.
 *
 * Set-based, in four statements under a lock on the target that lets readers
 * in and other merges wait:
 *
 *	1. classify: the source against the open versions, into a temporary table
 *	   of what changes; most records change nothing and are not in it
 *	2. copy to __superseded the open versions that will change
 *	3. close them, or overwrite their type-1 columns
 *	4. insert the new versions
 *
 * All closings come before all insertions, so that the unique index on open
 * versions holds at every moment.  Records of a key that come several times
 * are merged in rounds, oldest first.
 *
 * A record older than the open version of its key would have to split what
 * is closed already.  It changes nothing where it agrees with the version
 * that was valid at its time; otherwise it goes to quarantine, and so does
 * one of the same time as the open version that says something else.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "core/core.h"
#include "funcapi.h"
#include "history/history.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#define DELTA "pg_temp.visage_merge_delta"

typedef struct MergeCounts
{
	int64		inserted;
	int64		versioned;
	int64		corrected;
	int64		closed;
	int64		unchanged;
	int64		rejected;
} MergeCounts;

typedef struct Merge
{
	History    *history;
	char	   *source;			/* a relation */
	Datum		extract_at;
	bool		has_extract_at;
	MergeCounts counts;
} Merge;

/* The time of a record: its sequence's first column, read as UTC. */
static char *
record_time(const Merge *merge)
{
	const History *history = merge->history;

	if (history->sequence_count == 0)
		return pstrdup("$1");
	for (int i = 0; i < history->column_count; i++)
		if (strcmp(history->columns[i].name, history->sequence[0]) == 0 &&
			history->columns[i].type_oid == TIMESTAMPTZOID)
			return psprintf("s.%s", history->sequence[0]);
	return psprintf("(s.%s::timestamp AT TIME ZONE 'UTC')",
					history->sequence[0]);
}

/* "k1 IS NOT NULL AND …": only such records have a place in a history. */
static char *
keys_present(const Merge *merge)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < merge->history->key_count; i++)
		appendStringInfo(&list, "s.%s IS NOT NULL AND ",
						 merge->history->keys[i]);
	appendStringInfo(&list, "%s IS NOT NULL", record_time(merge));
	return list.data;
}

/* "s.t, s.u" for the order of a key's records. */
static char *
sequence_list(const History *history)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < history->sequence_count; i++)
		appendStringInfo(&list, "s.%s, ", history->sequence[i]);
	appendStringInfo(&list, "%s", history_hash(history, "s"));
	return list.data;
}

/* The parameters of the statements: the time of the extract. */
static CoreArgs
merge_args(const Merge *merge)
{
	CoreArgs	args = {0};

	core_arg(&args, TIMESTAMPTZOID, merge->has_extract_at ?
			 merge->extract_at :
			 TimestampTzGetDatum(GetCurrentTransactionStartTimestamp()),
			 false);
	return args;
}

/*
 * The records of a round with their time and place in it; round 0 is for a
 * source with one record a key, which needs no sorting.
 */
static char *
round_query(const Merge *merge, int64 round)
{
	const History *history = merge->history;
	char	   *all = history_column_list(history, "s", HISTORY_KEY, true);
	char	   *keys = history_column_list(history, "s", HISTORY_KEY, false);

	if (round == 0)
		return psprintf("SELECT %s, %s AS visage_at FROM %s AS s WHERE %s",
						all, record_time(merge), merge->source,
						keys_present(merge));
	return psprintf("SELECT * FROM (SELECT %s, %s AS visage_at,"
					" row_number() OVER (PARTITION BY %s ORDER BY %s)"
					" AS visage_round FROM %s AS s WHERE %s) AS r"
					" WHERE visage_round = " INT64_FORMAT,
					all, record_time(merge), keys, sequence_list(history),
					merge->source, keys_present(merge), round);
}

/* Step 1: what the round changes, and how. */
static void
classify(Merge *merge, int64 round)
{
	const History *history = merge->history;
	CoreArgs	args = merge_args(merge);
	char	   *differs = psprintf("%s IS DISTINCT FROM %s",
								   history_record(history, "s",
												  HISTORY_TRACKED),
								   history_record(history, "h",
												  HISTORY_TRACKED));
	char	   *overwrites = psprintf("%s IS DISTINCT FROM %s",
									  history_record(history, "s",
													 HISTORY_OVERWRITTEN),
									  history_record(history, "h",
													 HISTORY_OVERWRITTEN));

	core_execute(psprintf("CREATE TEMPORARY TABLE visage_merge_delta"
						  " ON COMMIT DROP AS"
						  " SELECT * FROM (SELECT s.*,"
						  " h.ctid AS visage_ctid,"
						  " CASE WHEN h.valid_from IS NULL THEN 'insert'"
						  " WHEN s.visage_at < h.valid_from THEN 'late'"
						  " WHEN %s THEN CASE"
						  " WHEN s.visage_at = h.valid_from THEN 'conflict'"
						  " ELSE 'version' END"
						  " WHEN %s THEN 'overwrite' END AS visage_action"
						  " FROM (%s) AS s LEFT JOIN %s AS h"
						  " ON %s AND h.valid_to = 'infinity') AS d"
						  " WHERE visage_action IS NOT NULL",
						  differs, overwrites, round_query(merge, round),
						  history->target,
						  history_key_match(history, "h", "s")),
				 &args, SPI_OK_UTILITY);
}

/* A late record that agrees with the version valid at its time is no news. */
static void
forget_agreeing(const Merge *merge)
{
	const History *history = merge->history;

	core_execute(psprintf("DELETE FROM " DELTA " AS s USING %s AS h"
						  " WHERE s.visage_action = 'late' AND %s"
						  " AND h.valid_from <= s.visage_at"
						  " AND s.visage_at < h.valid_to"
						  " AND %s IS NOT DISTINCT FROM %s",
						  history->target,
						  history_key_match(history, "h", "s"),
						  history_record(history, "s", HISTORY_TRACKED),
						  history_record(history, "h", HISTORY_TRACKED)),
				 NULL, SPI_OK_DELETE);
}

/* Puts aside what cannot be merged, with the reason. */
static int64
reject(const Merge *merge, const char *query, const char *reason)
{
	CoreArgs	args = merge_args(merge);
	char	   *keys = history_column_list(merge->history, "s", HISTORY_KEY,
										   false);

	core_arg_text(&args, merge->history->name);
	core_arg_text(&args, reason);
	return core_execute(psprintf("INSERT INTO visage.quarantine"
								 " (dataset, source_key, reason, raw)"
								 " SELECT $2, jsonb_build_array(%s)::text,"
								 " $3, convert_to((to_jsonb(s) - '{visage_at,"
								 "visage_round,visage_ctid,visage_action}'"
								 "::text[])::text, 'UTF8') FROM (%s) AS s",
								 keys, query), &args, SPI_OK_INSERT);
}

/* How many records of the delta are of this kind. */
static int64
count_action(const char *action)
{
	CoreArgs	args = {0};

	core_arg_text(&args, action);
	return core_query_int8("SELECT count(*) FROM " DELTA
						   " WHERE visage_action = $1", &args, 0);
}

/* Step 2: the open versions that will change, as they are now. */
static void
supersede(const History *history)
{
	CoreArgs	args = {0};
	char	   *columns;

	core_arg_text(&args, history->target);
	columns = core_query_text("SELECT string_agg(quote_ident(attname), ', '"
							  " ORDER BY attnum) FROM pg_attribute"
							  " WHERE attrelid = $1::regclass AND attnum > 0"
							  " AND NOT attisdropped", &args,
							  CurrentMemoryContext);
	core_execute(psprintf("INSERT INTO %s (%s, superseded_at)"
						  " SELECT %s, now() FROM %s WHERE ctid IN ("
						  " SELECT visage_ctid FROM " DELTA
						  " WHERE visage_action IN ('version', 'overwrite'))",
						  history->superseded, columns, columns,
						  history->target), NULL, SPI_OK_INSERT);
}

/* Step 3: closes versions, and overwrites type-1 columns of others. */
static void
close_versions(const History *history)
{
	StringInfoData set;

	core_execute(psprintf("UPDATE %s AS h SET valid_to = d.visage_at,"
						  " recorded_at = now() FROM " DELTA " AS d"
						  " WHERE h.ctid = d.visage_ctid"
						  " AND d.visage_action = 'version'",
						  history->target), NULL, SPI_OK_UPDATE);
	initStringInfo(&set);
	for (int i = 0; i < history->column_count; i++)
		if (history->columns[i].role == HISTORY_OVERWRITTEN)
			appendStringInfo(&set, "%s = d.%s, ", history->columns[i].name,
							 history->columns[i].name);
	if (set.len > 0)
		core_execute(psprintf("UPDATE %s AS h SET %srecorded_at = now()"
							  " FROM " DELTA " AS d"
							  " WHERE h.ctid = d.visage_ctid"
							  " AND d.visage_action = 'overwrite'",
							  history->target, set.data),
					 NULL, SPI_OK_UPDATE);
}

/*
 * Step 4: inserts the new versions.  A fixed column keeps the value of the
 * version just closed, which the earliest record gave it.
 */
static void
insert_versions(const History *history)
{
	StringInfoData values;

	initStringInfo(&values);
	for (int i = 0; i < history->column_count; i++)
	{
		const HistoryColumn *column = &history->columns[i];

		if (column->role == HISTORY_FIXED)
			appendStringInfo(&values, "CASE WHEN d.visage_ctid IS NULL"
							 " THEN d.%s ELSE h.%s END, ", column->name,
							 column->name);
		else
			appendStringInfo(&values, "d.%s, ", column->name);
	}
	core_execute(psprintf("INSERT INTO %s (%s, valid_from, recorded_at,"
						  " row_hash) SELECT %sd.visage_at, now(), %s"
						  " FROM " DELTA " AS d LEFT JOIN %s AS h"
						  " ON %s AND h.valid_to = d.visage_at"
						  " WHERE d.visage_action IN ('insert', 'version')",
						  history->target,
						  history_column_list(history, "", HISTORY_KEY, true),
						  values.data, history_hash(history, "d"),
						  history->target,
						  history_key_match(history, "h", "d")),
				 NULL, SPI_OK_INSERT);
}

/* One round: classify, then apply. */
static void
merge_round(Merge *merge, int64 round)
{
	CHECK_FOR_INTERRUPTS();
	classify(merge, round);
	forget_agreeing(merge);
	merge->counts.inserted += count_action("insert");
	merge->counts.versioned += count_action("version");
	merge->counts.unchanged -= count_action("insert") +
		count_action("version") + count_action("late") +
		count_action("conflict");
	merge->counts.rejected +=
		reject(merge, "SELECT * FROM " DELTA " WHERE visage_action = 'late'",
			   "older than the open version, and splitting closed versions "
			   "is not supported yet");
	merge->counts.rejected +=
		reject(merge, "SELECT * FROM " DELTA
			   " WHERE visage_action = 'conflict'",
			   "differs from the open version that begins at the same time");
	supersede(merge->history);
	close_versions(merge->history);
	insert_versions(merge->history);
	core_execute("DROP TABLE " DELTA, NULL, SPI_OK_UTILITY);
}

/* The whole merge, as the extension's owner. */
static void
run_merge(Merge *merge)
{
	History    *history = merge->history;
	CoreArgs	args = merge_args(merge);
	int64		most;

	(void) core_own_table(CORE_LAYER_HISTORY, history->table);
	(void) core_own_table(CORE_LAYER_HISTORY,
						  psprintf("%s__superseded", history->table));
	history_read_columns(history, merge->source);
	core_execute(psprintf("LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE",
						  history->target), NULL, SPI_OK_UTILITY);
	history_add_columns(history, merge->source);
	merge->counts.rejected +=
		reject(merge, psprintf("SELECT * FROM %s AS s WHERE NOT (%s)",
							   merge->source, keys_present(merge)),
			   "the key or the time is null");
	merge->counts.unchanged =
		core_query_int8(psprintf("SELECT count(*) FROM %s AS s WHERE %s",
								 merge->source, keys_present(merge)),
						&args, 0);
	most = core_query_int8(psprintf("SELECT max(n) FROM (SELECT count(*) AS n"
									" FROM %s AS s WHERE %s GROUP BY %s) AS c",
									merge->source, keys_present(merge),
									history_column_list(history, "s",
														HISTORY_KEY, false)),
						   &args, 0);
	if (most == 1)
		merge_round(merge, 0);
	for (int64 round = 1; most > 1 && round <= most; round++)
		merge_round(merge, round);
}

/* The declared history whose table this is. */
static History *
find_history(Oid target)
{
	CoreIdentity caller;
	CoreArgs	args = {0};
	char	   *name;

	core_arg(&args, OIDOID, ObjectIdGetDatum(target), false);
	core_become_owner(&caller);
	name = core_query_text("SELECT d.dataset FROM visage.datasets AS d"
						   " JOIN visage.declarations AS n"
						   " ON n.noun = 'history' AND n.name = d.dataset"
						   " WHERE d.relation = $1", &args,
						   CurrentMemoryContext);
	core_become_caller(&caller);
	if (name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a history", get_rel_name(target)),
				 errhint("Declare it with visage_create_history.")));
	return history_describe(name,
							core_find_declaration("history", name, false));
}

/* The counts as the function's row. */
static Datum
counts_row(FunctionCallInfo fcinfo, const MergeCounts *counts)
{
	TupleDesc	tupdesc;
	Datum		values[6];
	bool		nulls[6] = {0};

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = Int64GetDatum(counts->inserted);
	values[1] = Int64GetDatum(counts->versioned);
	values[2] = Int64GetDatum(counts->corrected);
	values[3] = Int64GetDatum(counts->closed);
	values[4] = Int64GetDatum(counts->unchanged);
	values[5] = Int64GetDatum(counts->rejected);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc), values,
											 nulls));
}

PG_FUNCTION_INFO_V1(visage_merge);
Datum
visage_merge(PG_FUNCTION_ARGS)
{
	Merge		merge = {0};
	CoreIdentity caller;
	char	   *source;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"target\" must not be null")));
	core_spi_begin();
	merge.history = find_history(PG_GETARG_OID(0));
	merge.has_extract_at = !PG_ARGISNULL(3);
	merge.extract_at = merge.has_extract_at ? PG_GETARG_DATUM(3) : (Datum) 0;
	source = PG_ARGISNULL(1) ?
		core_json_text(merge.history->definition, "source") :
		text_to_cstring(PG_GETARG_TEXT_PP(1));
	merge.source = history_find_source(source);
	if (merge.source == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("source \"%s\" of \"%s\" does not exist", source,
						merge.history->name)));
	core_become_owner(&caller);
	run_merge(&merge);
	core_become_caller(&caller);
	core_spi_end();
	return counts_row(fcinfo, &merge.counts);
}

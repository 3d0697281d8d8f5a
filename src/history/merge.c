/*-------------------------------------------------------------------------
 *
 * merge.c
 *		visage_merge: what the source says becomes part of the history.
 *
 * Under a lock on the target that lets readers in and other writers wait,
 * in one transaction: the source is read once, as the caller, and compared
 * with the versions (join.c); the keys that are left are merged one by one,
 * as the owner (facts.c).  The history that results is a function of the set
 * of records and extracts ever merged (timeline.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/core.h"
#include "funcapi.h"
#include "history/history.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* The columns that an array of names says were missing. */
static Bitmapset *
named_columns(const History *history, Datum names, bool isnull)
{
	Bitmapset  *columns = NULL;
	Datum	   *values;
	int			count;

	if (isnull)
		return NULL;
	deconstruct_array(DatumGetArrayTypeP(names), TEXTOID, -1, false,
					  TYPALIGN_INT, &values, NULL, &count);
	for (int i = 0; i < count; i++)
	{
		int			c = history_find_column(history,
											TextDatumGetCString(values[i]));

		if (c >= 0)
			columns = bms_add_member(columns, c);
	}
	return columns;
}

/* An extract: it saw no column that was added after it was merged. */
static void
note_extract(HistoryMerge *merge, TimestampTz at, TimestampTz recorded_at,
			 Bitmapset *missing)
{
	HistoryExtract *last = merge->extract_count == 0 ? NULL :
	&merge->extracts[merge->extract_count - 1];

	for (int c = 0; c < merge->history->column_count; c++)
		if (recorded_at < merge->history->columns[c].added_at)
			missing = bms_add_member(missing, c);
	if (last && last->at == at)
	{
		last->missing = bms_intersect(last->missing, missing);
		return;
	}
	merge->extracts[merge->extract_count].at = at;
	merge->extracts[merge->extract_count++].missing = missing;
}

/* One row of __observed that is not about one key. */
static void
note_observation(HistoryMerge *merge, const char *observation,
				 TimestampTz at, TimestampTz recorded_at, Bitmapset *columns)
{
	if (strcmp(observation, "column") == 0 ||
		strcmp(observation, "lacking") == 0)
		merge->has_drifted = true;
	if (strcmp(observation, "column") == 0)
		for (int c = -1; (c = bms_next_member(columns, c)) >= 0;)
			merge->history->columns[c].added_at =
				Max(merge->history->columns[c].added_at, at);
	else if (strcmp(observation, "lacking") == 0)
		merge->lacked = bms_add_members(merge->lacked, columns);
	else
	{
		merge->newest = Max(merge->newest, at);
		if (strcmp(observation, "extract") == 0)
			note_extract(merge, at, recorded_at, columns);
	}
}

/* The extracts merged before, and when columns were added. */
static void
read_observations(HistoryMerge *merge)
{
	uint64		count;

	count = core_execute(psprintf("SELECT observation, observed_at, missing,"
								  " recorded_at FROM %s"
								  " WHERE " HISTORY_ABOUT_ALL
								  " ORDER BY observation <> 'column',"
								  " observed_at",
								  merge->history->observed),
						 NULL, SPI_OK_SELECT);
	merge->newest = DT_NOBEGIN;
	merge->extracts = palloc(sizeof(HistoryExtract) * (count + 1));
	for (uint64 i = 0; i < count; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];
		bool		isnull;
		Datum		at = SPI_getbinval(row, SPI_tuptable->tupdesc, 2,
									   &isnull);
		Datum		recorded_at = SPI_getbinval(row, SPI_tuptable->tupdesc, 4,
												&isnull);
		Datum		names = SPI_getbinval(row, SPI_tuptable->tupdesc, 3,
										  &isnull);

		note_observation(merge, core_value_text(i, 1),
						 DatumGetTimestampTz(at),
						 DatumGetTimestampTz(recorded_at),
						 named_columns(merge->history, names, isnull));
	}
}

/*
 * Remembers something that is not about one key, once.  What was remembered
 * before a column was added says less: that the column was not seen.
 */
static void
remember(const HistoryMerge *merge, const char *observation)
{
	CoreArgs	args = {0};
	char	  **missing = palloc(sizeof(char *) *
								 Max(merge->history->column_count, 1));
	int			count = 0;

	for (int c = -1; (c = bms_next_member(merge->missing, c)) >= 0;)
		missing[count++] = merge->history->columns[c].name;
	core_arg_text(&args, observation);
	core_arg(&args, TIMESTAMPTZOID, TimestampTzGetDatum(merge->extract_at),
			 false);
	core_arg_text_array(&args, missing, count);
	core_arg(&args, TIMESTAMPTZOID,
			 TimestampTzGetDatum(history_newest_column(merge->history)),
			 false);
	core_execute(psprintf("INSERT INTO %s (observation, observed_at, missing,"
						  " recorded_at) SELECT $1, $2, nullif($3, '{}'),"
						  " now() WHERE NOT EXISTS (SELECT FROM %s"
						  " WHERE " HISTORY_ABOUT_ALL
						  " AND observation = $1 AND observed_at = $2"
						  " AND recorded_at >= $4"
						  " AND missing IS NOT DISTINCT FROM"
						  " nullif($3, '{}'))",
						  merge->history->observed,
						  merge->history->observed), &args, SPI_OK_INSERT);
}

/*
 * Remembers the extract; without sequence_by the time of any merge; and
 * which columns records have lacked, whose NULLs in versions mean less.
 */
static void
remember_merge(HistoryMerge *merge)
{
	if (merge->complete)
		remember(merge, "extract");
	else if (merge->history->sequence_count == 0)
		remember(merge, "merge");
	if (!bms_is_subset(merge->missing, merge->lacked))
		remember(merge, "lacking");
}

/* What complete means here, said where it means less than one may think. */
static void
settle_completeness(HistoryMerge *merge)
{
	bool		ignores =
	merge->history->deletes == HISTORY_DELETES_IGNORE;

	if (merge->complete && ignores)
		ereport(NOTICE,
				(errmsg("the extract for \"%s\" retires nothing",
						merge->history->name),
				 errdetail("hard_deletes is 'ignore'.")));
	else if (!merge->complete && !ignores)
		ereport(NOTICE,
				(errmsg("the merge into \"%s\" retires nothing",
						merge->history->name),
				 errdetail("Only a complete extract may retire the keys that "
						   "it lacks.")));
	merge->complete = merge->complete && !ignores;
}

static void
settle_time(HistoryMerge *merge)
{
	bool		by_time = merge->history->sequence_count == 0;

	merge->now = GetCurrentTransactionStartTimestamp();
	if (!merge->has_extract_at)
		merge->extract_at = merge->now;
	else if (TIMESTAMP_NOT_FINITE(merge->extract_at) ||
			 merge->extract_at > merge->now + HISTORY_FAR_FUTURE)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("\"extract_at\" of a merge into \"%s\" is out of "
						"range", merge->history->name),
				 errdetail("It is %s.",
						   pstrdup(timestamptz_to_str(merge->extract_at)))));
	/* without a sequence the time is that of the merge, for all records */
	merge->has_extract_at |= by_time && !merge->complete;
}

/* Nothing stored: then no key need be looked for. */
static bool
is_empty(const HistoryMerge *merge)
{
	if (merge->history->relation->rd_rel->relkind ==
		RELKIND_PARTITIONED_TABLE)
		return false;
	return RelationGetNumberOfBlocks(merge->history->relation) == 0 &&
		RelationGetNumberOfBlocks(merge->history->observed_relation) == 0;
}

/* Opens the history and settles what the merge means; as the owner. */
static void
prepare(HistoryMerge *merge, HistorySource *source)
{
	History    *history = merge->history;

	(void) core_own_table(CORE_LAYER_HISTORY, history->table);
	(void) core_own_table(CORE_LAYER_HISTORY,
						  psprintf("%s__superseded", history->table));
	(void) core_own_table(CORE_LAYER_HISTORY,
						  psprintf("%s__observed", history->table));
	history_follow_source(history, source);
	history_open(history);
	settle_completeness(merge);
	settle_time(merge);
	read_observations(merge);
	merge->is_empty = is_empty(merge);
	merge->key_nulls = palloc(sizeof(bool) * history->column_count);
	for (int i = 0; i < history->column_count; i++)
		merge->key_nulls[i] = history->columns[i].role != HISTORY_KEY;
	merge->context = CurrentMemoryContext;
	merge->key_context = AllocSetContextCreate(CurrentMemoryContext,
											   "key of a history",
											   ALLOCSET_DEFAULT_SIZES);
}

static void
note_missing(HistoryMerge *merge)
{
	for (int i = 0; i < merge->history->column_count; i++)
		if (merge->history->columns[i].source < 0)
			merge->missing = bms_add_member(merge->missing, i);
}

/* The whole merge. */
static void
run_merge(HistoryMerge *merge, HistorySource *source)
{
	CoreIdentity caller;
	HistoryJoin *join;
	char	   *query;

	merge->source = source;
	history_check_condition(merge->history, source);
	core_become_owner(&caller);
	prepare(merge, source);
	query = history_source_query(merge->history, source);
	note_missing(merge);
	core_become_caller(&caller);

	merge->snapshot = RegisterSnapshot(GetLatestSnapshot());
	join = history_read_source(merge, query);

	core_become_owner(&caller);
	merge->store = history_open_store(merge);
	history_merge_touched(join);
	history_close_store(merge->store);
	UnregisterSnapshot(merge->snapshot);
	remember_merge(merge);
	history_write_rejects(merge);
	history_close(merge->history);
	core_become_caller(&caller);
}

/* The counts as the function's row. */
static Datum
counts_row(FunctionCallInfo fcinfo, const HistoryCounts *counts)
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
	HistoryMerge merge = {0};
	HistorySource *source;
	char	   *name;
	HistoryCounts counts;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"target\" must not be null")));
	core_spi_begin();
	merge.history = history_find(PG_GETARG_OID(0));
	merge.complete = !PG_ARGISNULL(2) && PG_GETARG_BOOL(2);
	merge.has_extract_at = !PG_ARGISNULL(3);
	if (merge.has_extract_at)
		merge.extract_at = PG_GETARG_TIMESTAMPTZ(3);
	name = PG_ARGISNULL(1) ?
		core_json_text(merge.history->definition, "source") :
		text_to_cstring(PG_GETARG_TEXT_PP(1));
	LockRelationOid(PG_GETARG_OID(0), ShareRowExclusiveLock);
	source = history_find_source(name);
	if (source == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("source \"%s\" of \"%s\" does not exist", name,
						merge.history->name)));
	run_merge(&merge, source);
	counts = merge.counts;
	core_spi_end();
	return counts_row(fcinfo, &counts);
}

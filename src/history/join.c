/*-------------------------------------------------------------------------
 *
 * join.c
 *		Each record of the source against the version valid at its time.
 *
 * Nearly all records of an extract repeat what is stored.  Such a record is
 * recognised by comparing its columns with those of the version, and is done
 * with: no statement runs for it and nothing is written.  What is left, the
 * touched keys, is sorted by key and merged one key at a time (touched.c).
 *
 * A complete extract is walked side by side with all versions (walk.c) or,
 * where the two have not the same order, compared with those of its time at
 * once (table.c), some records at a time (batch.c), and the versions that no
 * record was found for are touched, too.  Other sources are compared so once
 * they have more than a few records; the first ones are looked up by the
 * index, which for a small batch is all.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "core/core.h"
#include "executor/executor.h"
#include "history/history.h"
#include "miscadmin.h"
#include "tcop/dest.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

struct HistoryJoin
{
	HistoryMerge *merge;
	Size		memory;
	HistoryTable *table;		/* NULL: keys are looked up by index */
	HistoryWalk *walk;			/* NULL: not yet, or no more */
	int64		records;
	int64		index_records;	/* up to so many */
	HistoryTouched *touched;
	HistorySeen *seen;			/* the keys of a first merge, or NULL */
	Tuplestorestate *early;		/* before it is known how many there are, or
								 * all versions have been passed */
	Tuplestorestate **aside;	/* of partitions to come */
	MemoryContext context;
	MemoryContext record_context;
	HistoryRecord record;		/* the one at hand */
	TupleTableSlot *slot;		/* where its columns may lie, or NULL */
	HistoryBatch *batch;		/* those that wait for the table */
	int		   *head;			/* the columns without which it is no record */
	int			head_count;
	int			head_places;	/* in the source's row, up to the last */
};

typedef struct JoinReceiver
{
	DestReceiver receiver;
	HistoryJoin *join;
} JoinReceiver;

/* The time of the record at hand. */
static TimestampTz
record_time(HistoryJoin *join)
{
	History    *history = join->merge->history;
	int			c;

	if (history->sequence_count == 0)
		return join->merge->extract_at;
	c = history->sequence_columns[0];
	return history_time(&history->columns[c], join->record.values[c]);
}

/* ---- a record against the version of its key ---- */

/* Compares the record at hand with the versions in memory. */
static void
probe(HistoryJoin *join, uint64 hash)
{
	HistoryEntry *entry = NULL;

	if (join->table)
		entry = history_find_entry(join->table, hash, join->record.values);
	if (entry && history_repeats(join->merge, &join->record,
								 history_fetched(join->table)))
	{
		entry->is_seen = true;
		join->merge->counts.unchanged++;
		return;
	}
	if (entry)
		entry->is_touched = true;
	history_touch(join->touched, &join->record, hash);
}

/* Compares the records that wait with the versions in memory. */
static void
probe_held(HistoryJoin *join)
{
	HistoryRecord record = join->record;
	const uint64 *hashes;
	int			count;

	if (join->table == NULL)
		return;
	count = history_held(join->batch, &hashes);
	if (count > 1)
		history_prefetch(join->table, hashes, count);
	for (int i = 0; i < count; i++)
	{
		join->record = *history_held_record(join->batch, i);
		probe(join, hashes[i]);
	}
	join->record = record;
	history_let_go(join->batch);
}

/* Compares the record at hand with the versions in memory, or lets it wait. */
static void
probe_soon(HistoryJoin *join, uint64 hash)
{
	if (join->table == NULL)
		probe(join, hash);
	else if (history_hold(join->batch, &join->record, hash, join->slot))
		probe_held(join);
}

/* Sends the record at hand to the partition of its key. */
static void
route_record(HistoryJoin *join)
{
	uint64		hash = history_key_hash(join->merge->history,
										join->record.values);
	int			partition = join->table ?
	history_partition(join->table, hash) : 0;

	if (partition == 0)
		probe_soon(join, hash);
	else
		tuplestore_puttupleslot(join->aside[partition],
								history_carry(join->touched, &join->record, hash));
}

/* Gives every record that was put aside to a function, and forgets them. */
static void
take_back(HistoryJoin *join, Tuplestorestate *aside,
		  void (*take) (HistoryJoin *))
{
	HistoryRecord *record = &join->record;
	TupleTableSlot *slot = history_carrier_slot(join->touched);

	join->slot = NULL;
	while (tuplestore_gettupleslot(aside, true, false, slot))
	{
		MemoryContext old = MemoryContextSwitchTo(join->record_context);

		CHECK_FOR_INTERRUPTS();
		history_read_carried(join->touched, slot, record);
		record->at = record_time(join);
		take(join);
		MemoryContextSwitchTo(old);
		MemoryContextReset(join->record_context);
	}
	probe_held(join);
	tuplestore_end(aside);
	ExecDropSingleTupleTableSlot(slot);
}

/* All versions are known: looks for what was put aside until now. */
static void
settle_table(HistoryJoin *join)
{
	MemoryContext old = MemoryContextSwitchTo(join->context);
	Tuplestorestate *early = join->early;
	int			partitions = history_table_partitions(join->table);

	join->aside = palloc0(sizeof(Tuplestorestate *) * partitions);
	for (int i = 1; i < partitions; i++)
		join->aside[i] = tuplestore_begin_heap(false, false, 64);
	join->early = NULL;
	take_back(join, early, route_record);
	MemoryContextSwitchTo(old);
}

/* Begins to compare with all versions, side by side or in memory. */
static void
begin_table(HistoryJoin *join)
{
	MemoryContext old = MemoryContextSwitchTo(join->context);

	join->table = history_make_table(join->merge, join->memory / 2);
	join->batch = history_make_batch(join->merge->history);
	join->walk = history_begin_walk(join->merge, join->table);
	if (join->walk == NULL)
	{
		history_fill_table(join->table, 0);
		settle_table(join);
	}
	MemoryContextSwitchTo(old);
}

static void
end_walk(HistoryJoin *join)
{
	MemoryContext old = MemoryContextSwitchTo(join->context);

	history_end_walk(join->walk);
	join->walk = NULL;
	settle_table(join);
	MemoryContextSwitchTo(old);
}

/* ---- the source's rows ---- */

/* Finds the time of the record at hand; or why it has none. */
static const char *
find_time(HistoryJoin *join)
{
	History    *history = join->merge->history;
	int			c = history->end_column;

	if (history->sequence_count > 0 &&
		join->record.nulls[history->sequence_columns[0]])
		return "the time is null";
	join->record.at = record_time(join);
	if (TIMESTAMP_NOT_FINITE(join->record.at))
		return "the time is not finite";
	if (join->record.at > join->merge->now + HISTORY_FAR_FUTURE)
		return "the time is more than 100 years ahead";
	if (c >= 0 && !join->record.nulls[c] &&
		history_time(&history->columns[c], join->record.values[c]) <= join->record.at)
		return "the version would end before it begins";
	return NULL;
}

/* Why the record at hand has no place in the history, or NULL. */
static const char *
find_fault(HistoryJoin *join, bool is_refused)
{
	History    *history = join->merge->history;

	if (is_refused)
		return "a column that the history does not take has a value";
	for (int i = 0; i < history->key_count; i++)
		if (join->record.nulls[history->key_columns[i]])
			return "the key is null";
	return find_time(join);
}

/*
 * A complete extract stands for all keys at one instant: every record must
 * have a place, and be of that instant or before.
 */
static void
check_extract(HistoryJoin *join, const char *fault)
{
	HistoryMerge *merge = join->merge;

	if (fault)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("the extract for \"%s\" is not complete",
						merge->history->name),
				 errdetail("A record has no place in the history: %s.",
						   fault),
				 errhint("Leave such records out, or merge without "
						 "complete.")));
	if (!merge->has_extract_at)
	{
		if (join->records > 0 && merge->extract_at != join->record.at)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("the rows of the extract for \"%s\" differ in "
							"time", merge->history->name),
					 errhint("Say in extract_at when the extract was "
							 "made.")));
		merge->extract_at = join->record.at;
	}
	if (join->record.at > merge->extract_at && merge->history->end_column < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a record of the extract for \"%s\" is newer than "
						"the extract", merge->history->name),
				 errdetail("It is of %s, the extract of %s.",
						   pstrdup(timestamptz_to_str(join->record.at)),
						   pstrdup(timestamptz_to_str(merge->extract_at))),
				 errhint("extract_at is the time at which the extract was "
						 "finished.")));
}

/* Reads columns of the source's row, these or all, as the record at hand. */
static void
read_columns(HistoryJoin *join, TupleTableSlot *slot, const int *columns,
			 int count)
{
	History    *history = join->merge->history;
	HistoryRecord *record = &join->record;

	for (int i = 0; i < count; i++)
	{
		int			c = columns ? columns[i] : i;
		int			source = history->columns[c].source;

		record->nulls[c] = source < 0 || slot->tts_isnull[source];
		record->values[c] = source < 0 ? (Datum) 0 : slot->tts_values[source];
	}
}

/* Reads the whole row; true where the contract refuses it. */
static bool
read_row(HistoryJoin *join, TupleTableSlot *slot)
{
	HistorySource *source = join->merge->source;
	int			delete_place = source->delete_place;
	int			refused_place = source->refused_place;

	slot_getallattrs(slot);
	read_columns(join, slot, NULL, join->merge->history->column_count);
	join->record.is_delete = delete_place >= 0 &&
		!slot->tts_isnull[delete_place] &&
		DatumGetBool(slot->tts_values[delete_place]);
	return refused_place >= 0 &&
		DatumGetBool(slot->tts_values[refused_place]);
}

/*
 * Walks on with the record at hand; or compares it with the versions in
 * memory.  The first records wait until it is clear that there are many;
 * those of a first merge, to the end.
 */
static void
take_record(HistoryJoin *join)
{
	join->records++;
	if (join->walk && history_walk_record(join->walk, &join->record))
		join->merge->counts.unchanged++;
	else if (join->table && join->walk == NULL)
		route_record(join);
	else
	{
		if (join->seen)
			history_note_seen(join->seen,
							  history_key_hash(join->merge->history,
											   join->record.values));
		tuplestore_puttupleslot(join->early, history_carry(join->touched, &join->record, 0));
		if (join->seen == NULL && join->table == NULL &&
			join->records > join->index_records)
			begin_table(join);
	}
}

/* Is the row, as it is stored, one that repeats the version at hand? */
static bool
take_image(HistoryJoin *join, TupleTableSlot *slot)
{
	if (join->walk == NULL || !history_walk_has_image(join->walk, slot))
		return false;
	slot_getsomeattrs(slot, join->head_places);
	read_columns(join, slot, join->head, join->head_count);
	join->record.is_delete = false;
	if (find_fault(join, false))
		return false;
	check_extract(join, NULL);
	if (!history_walk_image(join->walk, &join->record, slot))
		return false;
	join->records++;
	join->merge->counts.unchanged++;
	return true;
}

/* Takes a row of the source, in the record's context. */
static void
take_row(HistoryJoin *join, TupleTableSlot *slot)
{
	bool		complete = join->merge->complete;
	const char *fault;

	if (join->walk && history_walk_is_over(join->walk))
		end_walk(join);
	if (take_image(join, slot))
		return;
	fault = find_fault(join, read_row(join, slot));
	if (complete)
		check_extract(join, fault);
	if (fault)
	{
		history_reject(join->merge, join->record.values, join->record.nulls,
					   fault);
		return;
	}
	if (complete && join->table == NULL && join->seen == NULL)
		begin_table(join);
	join->slot = slot;
	take_record(join);
}

/* Called by the executor for each row of the source. */
static bool
receive_row(TupleTableSlot *slot, DestReceiver *self)
{
	HistoryJoin *join = ((JoinReceiver *) self)->join;
	MemoryContext old;

	CHECK_FOR_INTERRUPTS();
	old = MemoryContextSwitchTo(join->record_context);
	take_row(join, slot);
	MemoryContextSwitchTo(old);
	MemoryContextReset(join->record_context);
	return true;
}

static void
start_receiver(DestReceiver *self, int operation, TupleDesc desc)
{
}

static void
stop_receiver(DestReceiver *self)
{
}

/* Runs the source's query, each row going to receive_row. */
static void
run_query(HistoryJoin *join, const char *query)
{
	JoinReceiver receiver = {0};
	SPIExecuteOptions options = {0};
	int			code;

	receiver.receiver.receiveSlot = receive_row;
	receiver.receiver.rStartup = start_receiver;
	receiver.receiver.rShutdown = stop_receiver;
	receiver.receiver.rDestroy = stop_receiver;
	receiver.receiver.mydest = DestTuplestore;
	receiver.join = join;
	options.dest = (DestReceiver *) &receiver;
	code = SPI_execute_extended(query, &options);
	if (code != SPI_OK_SELECT)
		elog(ERROR, "SPI_execute_extended returned %s",
			 SPI_result_code_string(code));
}

/* The key and the times, which decide whether a row is a record at all. */
static void
find_head(HistoryJoin *join)
{
	History    *history = join->merge->history;

	join->head = palloc(sizeof(int) * (history->key_count + 2));
	for (int i = 0; i < history->key_count; i++)
		join->head[join->head_count++] = history->key_columns[i];
	if (history->sequence_count > 0)
		join->head[join->head_count++] = history->sequence_columns[0];
	if (history->end_column >= 0)
		join->head[join->head_count++] = history->end_column;
	for (int i = 0; i < join->head_count; i++)
		join->head_places = Max(join->head_places,
								history->columns[join->head[i]].source + 1);
}

static HistoryJoin *
make_join(HistoryMerge *merge)
{
	HistoryJoin *join = palloc0(sizeof(HistoryJoin));
	History    *history = merge->history;
	double		versions = Max(history->relation->rd_rel->reltuples, 0);

	join->merge = merge;
	join->memory = strtoul(GetConfigOption("visage.merge_memory", false,
										   false), NULL, 10) * 1024;
	join->context = CurrentMemoryContext;
	join->record_context = AllocSetContextCreate(CurrentMemoryContext,
												 "record of a source",
												 ALLOCSET_DEFAULT_SIZES);
	join->index_records = Max(1000, Min(20000, versions / 100));
	join->record.values = palloc(sizeof(Datum) * history->column_count);
	join->record.nulls = palloc(sizeof(bool) * history->column_count);
	find_head(join);
	if (merge->is_empty)
		join->seen = history_make_seen(join->memory / 2);
	join->early = tuplestore_begin_heap(false, false,
										Max(join->memory / 4 / 1024, 64));
	join->touched = history_make_touched(merge, join->memory / 4);
	return join;
}

/*
 * Reads the source, as the caller, and compares it with the versions: what
 * is left are touched keys.  Writes nothing.
 */
HistoryJoin *
history_read_source(HistoryMerge *merge, const char *query)
{
	HistoryJoin *join = make_join(merge);

	run_query(join, query);
	probe_held(join);
	if (merge->complete && join->records == 0 && !merge->has_extract_at)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the extract for \"%s\" is empty",
						merge->history->name),
				 errdetail("It would retire every key."),
				 errhint("If that is meant, say in extract_at when the "
						 "extract was made.")));
	if (merge->complete && join->table == NULL && !merge->is_empty)
		begin_table(join);
	if (join->walk)
		end_walk(join);
	if (join->early && join->seen == NULL)
	{
		take_back(join, join->early, route_record);
		join->early = NULL;
	}
	return join;
}

/* ---- the touched keys ---- */

/* A record of a first merge: its key has come once, or is to be sorted. */
static void
merge_first(HistoryJoin *join)
{
	uint64		hash = history_key_hash(join->merge->history, join->record.values);

	if (history_seen_again(join->seen, hash))
		probe(join, hash);
	else
		history_merge_single(join->merge, &join->record);
}

/* Compares a record whose partition has come. */
static void
probe_again(HistoryJoin *join)
{
	probe_soon(join, history_key_hash(join->merge->history,
									  join->record.values));
}

/* Writes what the touched keys have become; runs as the owner. */
void
history_merge_touched(HistoryJoin *join)
{
	int			partitions = join->table ?
	history_table_partitions(join->table) : 1;

	if (join->seen)
		take_back(join, join->early, merge_first);
	for (int i = 0; i < partitions; i++)
	{
		if (i > 0)
		{
			history_fill_table(join->table, i);
			history_begin_touched(join->touched);
			take_back(join, join->aside[i], probe_again);
		}
		if (join->merge->complete && join->table)
			history_touch_absent(join->touched, join->table);
		history_merge_sorted(join->touched, join->table);
	}
	if (join->table)
		history_free_table(join->table);
	history_free_touched(join->touched);
}

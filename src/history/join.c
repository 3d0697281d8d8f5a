/*-------------------------------------------------------------------------
 *
 * join.c
 *		Each record of the source against the version valid at its time.
 *
 * Nearly all records of an extract repeat what is stored.  Such a record is
 * recognised by comparing its columns with those of the version, and is done
 * with: no statement runs for it and nothing is written.  What is left, the
 * touched keys, is sorted by key and merged one key at a time (facts.c).
 *
 * A complete extract is compared with all versions of its time at once
 * (table.c), and the versions that no record was found for are touched, too.
 * Other sources are, once they have more than a few records; the first ones
 * are looked up by the index, which for a small batch is all.
 *
 * A record repeats a version that has the same columns and sequence: every
 * version carries one record, so nothing new is said.  Without sequence_by
 * it is a record of the extract's own time; it adds nothing where it belongs
 * to a complete extract, which is remembered as one row, and where no type-1
 * column can have been overwritten after it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "core/core.h"
#include "executor/executor.h"
#include "history/history.h"
#include "miscadmin.h"
#include "tcop/dest.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

/* Columns of what is sorted or put aside, before those of the history. */
#define CARRIER_HASH 0
#define CARRIER_KIND 1
#define CARRIER_COLUMNS 2

#define KIND_RECORD 'r'
#define KIND_DELETE 'd'
#define KIND_ABSENT 'a'			/* the extract lacks the key */

struct HistoryJoin
{
	HistoryMerge *merge;
	Size		memory;
	HistoryTable *table;		/* NULL: keys are looked up by index */
	int64		records;
	int64		index_records;	/* up to so many */
	Tuplesortstate *touched;
	HistorySeen *seen;			/* the keys of a first merge, or NULL */
	Tuplestorestate *early;		/* before it is known how many there are */
	Tuplestorestate **aside;	/* of partitions to come */
	TupleDesc	carrier;
	TupleTableSlot *carrier_slot;
	MemoryContext context;
	MemoryContext record_context;
	Datum	   *values;			/* of the record at hand */
	bool	   *nulls;
	bool		is_delete;
	TimestampTz at;
};

typedef struct JoinReceiver
{
	DestReceiver receiver;
	HistoryJoin *join;
} JoinReceiver;

static TupleDesc
carrier_desc(History *history)
{
	TupleDesc	desc = CreateTemplateTupleDesc(CARRIER_COLUMNS +
											   history->column_count);

	TupleDescInitEntry(desc, CARRIER_HASH + 1, "hash", INT8OID, -1, 0);
	TupleDescInitEntry(desc, CARRIER_KIND + 1, "kind", CHAROID, -1, 0);
	for (int i = 0; i < history->column_count; i++)
		TupleDescInitEntry(desc, CARRIER_COLUMNS + i + 1,
						   history->columns[i].name,
						   history->columns[i].type_oid,
						   history->columns[i].typmod, 0);
	return desc;
}

static void
begin_touched(HistoryJoin *join)
{
	AttrNumber	column = CARRIER_HASH + 1;
	Oid			operator = Int8LessOperator;
	Oid			collation = InvalidOid;
	bool		nulls_first = false;
	MemoryContext old = MemoryContextSwitchTo(join->context);

	join->touched = tuplesort_begin_heap(join->carrier, 1, &column, &operator,
										 &collation, &nulls_first,
										 Max(join->memory / 4 / 1024, 64),
										 NULL, TUPLESORT_NONE);
	MemoryContextSwitchTo(old);
}

/* Puts a row into the slot that is sorted or put aside. */
static TupleTableSlot *
fill_carrier(HistoryJoin *join, uint64 hash, char kind, const Datum *values,
			 const bool *nulls)
{
	TupleTableSlot *slot = join->carrier_slot;
	int			count = join->merge->history->column_count;

	ExecClearTuple(slot);
	slot->tts_values[CARRIER_HASH] = Int64GetDatum((int64) hash);
	slot->tts_isnull[CARRIER_HASH] = false;
	slot->tts_values[CARRIER_KIND] = CharGetDatum(kind);
	slot->tts_isnull[CARRIER_KIND] = false;
	memcpy(slot->tts_values + CARRIER_COLUMNS, values, sizeof(Datum) * count);
	memcpy(slot->tts_isnull + CARRIER_COLUMNS, nulls, sizeof(bool) * count);
	return ExecStoreVirtualTuple(slot);
}

/* The time of the record at hand. */
static TimestampTz
record_time(HistoryJoin *join)
{
	History    *history = join->merge->history;
	int			c;

	if (history->sequence_count == 0)
		return join->merge->extract_at;
	c = history->sequence_columns[0];
	return history_time(&history->columns[c], join->values[c]);
}

/* ---- a record against the version of its key ---- */

static bool
is_same_sequence(HistoryJoin *join, const HistoryRow *row)
{
	History    *history = join->merge->history;

	return history_same_columns(history, HISTORY_ROLE(HISTORY_SEQUENCE),
								join->values, join->nulls, NULL,
								row->values, row->nulls, NULL);
}

/* Does the source have a column of these? */
static bool
provides_any(const History *history, const Bitmapset *columns)
{
	for (int c = -1; (c = bms_next_member(columns, c)) >= 0;)
		if (history->columns[c].source >= 0)
			return true;
	return false;
}

/*
 * Without sequence_by: is the record before this one, in its version, known
 * to have the version's columns?  Where a column was overwritten, or filled
 * in, only if it is the last extract's, and that lacked nothing.
 */
static bool
follows_its_like(HistoryJoin *join)
{
	HistoryMerge *merge = join->merge;
	const HistoryExtract *last = merge->extract_count == 0 ? NULL :
	&merge->extracts[merge->extract_count - 1];

	if (!merge->has_drifted)
		return !merge->history->has_overwritten || join->at > merge->newest;
	return join->at > merge->newest && last && last->at == merge->newest &&
		!provides_any(merge->history, last->missing);
}

/* Would a record with the version's columns say nothing new? */
static bool
may_repeat(HistoryJoin *join, const HistoryRow *row, int *roles)
{
	HistoryMerge *merge = join->merge;
	History    *history = merge->history;

	*roles = HISTORY_ROLE(HISTORY_TRACKED) |
		HISTORY_ROLE(HISTORY_OVERWRITTEN) | HISTORY_ROLE(HISTORY_END);
	if (join->is_delete || row->is_unsure)
		return false;
	if (history->sequence_count > 0)
	{
		*roles |= HISTORY_ROLE(HISTORY_FIXED);
		return is_same_sequence(join, row) &&
			!provides_any(history, merge->lacked);
	}
	if (merge->complete && row->from < join->at)
		return follows_its_like(join);
	*roles |= HISTORY_ROLE(HISTORY_FIXED);
	return row->from == join->at && !history->has_overwritten &&
		!merge->has_drifted;
}

static bool
is_repeated(HistoryJoin *join, const HistoryRow *row)
{
	int			roles;

	return may_repeat(join, row, &roles) &&
		history_same_columns(join->merge->history, roles, join->values,
							 join->nulls, join->merge->missing, row->values,
							 row->nulls, NULL);
}

/* Compares the record at hand with the versions in memory. */
static void
probe(HistoryJoin *join, uint64 hash)
{
	HistoryEntry *entry = NULL;

	if (join->table)
		entry = history_find_entry(join->table, hash, join->values);
	if (entry &&
		is_repeated(join, history_fetched(join->table)))
	{
		entry->is_seen = true;
		join->merge->counts.unchanged++;
		return;
	}
	if (entry)
		entry->is_touched = true;
	tuplesort_puttupleslot(join->touched,
						   fill_carrier(join, hash, join->is_delete ?
										KIND_DELETE : KIND_RECORD,
										join->values, join->nulls));
}

/* Sends the record at hand to the partition of its key. */
static void
route_record(HistoryJoin *join)
{
	uint64		hash = history_key_hash(join->merge->history, join->values);
	int			partition = join->table ?
	history_partition(join->table, hash) : 0;

	if (partition == 0)
		probe(join, hash);
	else
		tuplestore_puttupleslot(join->aside[partition],
								fill_carrier(join, hash, join->is_delete ?
											 KIND_DELETE : KIND_RECORD,
											 join->values, join->nulls));
}

/* Gives every record that was put aside to a function, and forgets them. */
static void
take_back(HistoryJoin *join, Tuplestorestate *aside,
		  void (*take) (HistoryJoin *))
{
	int			count = join->merge->history->column_count;
	TupleTableSlot *slot = MakeSingleTupleTableSlot(join->carrier,
													&TTSOpsMinimalTuple);

	while (tuplestore_gettupleslot(aside, true, false, slot))
	{
		MemoryContext old = MemoryContextSwitchTo(join->record_context);

		CHECK_FOR_INTERRUPTS();
		slot_getallattrs(slot);
		memcpy(join->values, slot->tts_values + CARRIER_COLUMNS,
			   sizeof(Datum) * count);
		memcpy(join->nulls, slot->tts_isnull + CARRIER_COLUMNS,
			   sizeof(bool) * count);
		join->is_delete =
			DatumGetChar(slot->tts_values[CARRIER_KIND]) == KIND_DELETE;
		join->at = record_time(join);
		take(join);
		MemoryContextSwitchTo(old);
		MemoryContextReset(join->record_context);
	}
	tuplestore_end(aside);
	ExecDropSingleTupleTableSlot(slot);
}

/*
 * Begins to compare with all versions at once, with the records that came
 * before it was clear that there are many.
 */
static void
begin_table(HistoryJoin *join)
{
	MemoryContext old = MemoryContextSwitchTo(join->context);
	Tuplestorestate *early = join->early;
	int			partitions;

	join->table = history_make_table(join->merge, join->memory / 2);
	history_fill_table(join->table, 0);
	partitions = history_table_partitions(join->table);
	join->aside = palloc0(sizeof(Tuplestorestate *) * partitions);
	for (int i = 1; i < partitions; i++)
		join->aside[i] = tuplestore_begin_heap(false, false, 64);
	join->early = NULL;
	if (early)
		take_back(join, early, route_record);
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
		join->nulls[history->sequence_columns[0]])
		return "the time is null";
	join->at = record_time(join);
	if (TIMESTAMP_NOT_FINITE(join->at))
		return "the time is not finite";
	if (join->at > join->merge->now + HISTORY_FAR_FUTURE)
		return "the time is more than 100 years ahead";
	if (c >= 0 && !join->nulls[c] &&
		history_time(&history->columns[c], join->values[c]) <= join->at)
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
		if (join->nulls[history->key_columns[i]])
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
		if (join->records > 0 && merge->extract_at != join->at)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("the rows of the extract for \"%s\" differ in "
							"time", merge->history->name),
					 errhint("Say in extract_at when the extract was "
							 "made.")));
		merge->extract_at = join->at;
	}
	if (join->at > merge->extract_at && merge->history->end_column < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a record of the extract for \"%s\" is newer than "
						"the extract", merge->history->name),
				 errdetail("It is of %s, the extract of %s.",
						   pstrdup(timestamptz_to_str(join->at)),
						   pstrdup(timestamptz_to_str(merge->extract_at))),
				 errhint("extract_at is the time at which the extract was "
						 "finished.")));
}

/*
 * Compares the record at hand with the versions in memory.  The first
 * records wait until it is clear that there are many; those of a first merge,
 * to the end.
 */
static void
take_record(HistoryJoin *join)
{
	join->records++;
	if (join->table)
	{
		route_record(join);
		return;
	}
	if (join->seen)
		history_note_seen(join->seen,
						  history_key_hash(join->merge->history,
										   join->values));
	tuplestore_puttupleslot(join->early,
							fill_carrier(join, 0, join->is_delete ?
										 KIND_DELETE : KIND_RECORD,
										 join->values, join->nulls));
	if (join->seen == NULL &&
		(join->merge->complete || join->records > join->index_records))
		begin_table(join);
}

/* Called by the executor for each row of the source. */
static bool
receive_row(TupleTableSlot *slot, DestReceiver *self)
{
	HistoryJoin *join = ((JoinReceiver *) self)->join;
	History    *history = join->merge->history;
	int			last = slot->tts_tupleDescriptor->natts - 1;
	MemoryContext old;
	const char *fault;

	CHECK_FOR_INTERRUPTS();
	slot_getallattrs(slot);
	old = MemoryContextSwitchTo(join->record_context);
	for (int i = 0; i < history->column_count; i++)
	{
		int			source = history->columns[i].source;

		join->nulls[i] = source < 0 || slot->tts_isnull[source];
		join->values[i] = source < 0 ? (Datum) 0 : slot->tts_values[source];
	}
	join->is_delete = !slot->tts_isnull[last - 1] &&
		DatumGetBool(slot->tts_values[last - 1]);
	fault = find_fault(join, DatumGetBool(slot->tts_values[last]));
	if (join->merge->complete)
		check_extract(join, fault);
	if (fault)
		history_reject(join->merge, join->values, join->nulls, fault);
	else
		take_record(join);
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
	join->carrier = carrier_desc(history);
	join->carrier_slot = MakeSingleTupleTableSlot(join->carrier,
												  &TTSOpsVirtual);
	join->values = palloc(sizeof(Datum) * history->column_count);
	join->nulls = palloc(sizeof(bool) * history->column_count);
	if (merge->is_empty)
		join->seen = history_make_seen(join->memory / 2);
	join->early = tuplestore_begin_heap(false, false,
										Max(join->memory / 4 / 1024, 64));
	begin_touched(join);
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
	if (join->early && join->seen == NULL)
	{
		take_back(join, join->early, route_record);
		join->early = NULL;
	}
	return join;
}

/* ---- the touched keys ---- */

/* The versions that no record was found for: the extract lacks their keys. */
static void
touch_absent(HistoryJoin *join)
{
	History    *history = join->merge->history;
	bool	   *nulls = join->merge->key_nulls;
	HistoryEntry *entry;
	uint64		place = 0;

	while ((entry = history_next_unseen(join->table, &place)) != NULL)
	{
		const HistoryRow *row = history_fetch_entry(join->table, entry);

		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < history->column_count; i++)
			join->values[i] = nulls[i] ? (Datum) 0 : row->values[i];
		tuplesort_puttupleslot(join->touched,
							   fill_carrier(join, entry->hash, KIND_ABSENT,
											join->values, nulls));
	}
}

/* A fresh fact with these columns. */
static HistoryFact *
fresh_fact(HistoryJoin *join, Datum *values, bool *nulls, char kind)
{
	History    *history = join->merge->history;
	HistoryFact *fact = palloc0(sizeof(HistoryFact));

	fact->origin = HISTORY_FRESH;
	fact->values = values;
	fact->nulls = nulls;
	fact->unknown = bms_copy(join->merge->missing);
	fact->is_delete = kind == KIND_DELETE;
	fact->is_counted = kind != KIND_ABSENT;
	fact->at = join->merge->extract_at;
	if (history->sequence_count > 0 && kind != KIND_ABSENT)
	{
		int			c = history->sequence_columns[0];

		fact->at = history_time(&history->columns[c], values[c]);
	}
	return fact;
}

/* A fact of what was sorted, in the key's context. */
static HistoryFact *
make_fact(HistoryJoin *join, TupleTableSlot *slot, char *kind)
{
	HeapTuple	tuple = ExecCopySlotHeapTuple(slot);
	Datum	   *values = palloc(sizeof(Datum) * join->carrier->natts);
	bool	   *nulls = palloc(sizeof(bool) * join->carrier->natts);

	heap_deform_tuple(tuple, join->carrier, values, nulls);
	*kind = DatumGetChar(values[CARRIER_KIND]);
	return fresh_fact(join, values + CARRIER_COLUMNS, nulls + CARRIER_COLUMNS,
					  *kind);
}

/* The version of the key that a record of the extract repeated, or NULL. */
static const ItemPointerData *
seen_version(HistoryJoin *join, uint64 hash, const Datum *key)
{
	HistoryEntry *entry;
	ItemPointer seen;

	if (join->table == NULL || !join->merge->complete)
		return NULL;
	entry = history_find_entry(join->table, hash, key);
	if (entry == NULL || !entry->is_seen)
		return NULL;
	seen = palloc(sizeof(ItemPointerData));
	ItemPointerSet(seen, entry->block, entry->offset);
	return seen;
}

/* Merges the keys of one hash, which are rarely more than one. */
static void
merge_group(HistoryJoin *join, uint64 hash, List *facts, List *kinds)
{
	while (facts != NIL)
	{
		List	   *fresh = NIL;
		HistoryFact *first = linitial(facts);
		List	   *others = NIL;
		List	   *other_kinds = NIL;
		ListCell   *cell;
		ListCell   *kind;

		forboth(cell, facts, kind, kinds)
		{
			HistoryFact *fact = lfirst(cell);

			if (!history_same_key(join->merge->history, first->values,
								  fact->values))
			{
				others = lappend(others, fact);
				other_kinds = lappend_int(other_kinds, lfirst_int(kind));
			}
			else if (lfirst_int(kind) != KIND_ABSENT)
				fresh = lappend(fresh, fact);
		}
		history_merge_key(join->merge, first->values, fresh,
						  seen_version(join, hash, first->values));
		facts = others;
		kinds = other_kinds;
	}
}

/* Merges all that was touched, key by key, in the order of their hashes. */
static void
merge_sorted(HistoryJoin *join)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(join->carrier,
													&TTSOpsMinimalTuple);
	bool		more;
	bool		isnull;

	tuplesort_performsort(join->touched);
	more = tuplesort_gettupleslot(join->touched, true, false, slot, NULL);
	while (more)
	{
		int64		hash = DatumGetInt64(slot_getattr(slot, CARRIER_HASH + 1,
													  &isnull));
		List	   *facts = NIL;
		List	   *kinds = NIL;
		MemoryContext old;

		CHECK_FOR_INTERRUPTS();
		MemoryContextReset(join->merge->key_context);
		old = MemoryContextSwitchTo(join->merge->key_context);
		do
		{
			char		kind;

			facts = lappend(facts, make_fact(join, slot, &kind));
			kinds = lappend_int(kinds, kind);
			more = tuplesort_gettupleslot(join->touched, true, false, slot,
										  NULL);
		} while (more && hash == DatumGetInt64(slot_getattr(slot,
															CARRIER_HASH + 1,
															&isnull)));
		merge_group(join, (uint64) hash, facts, kinds);
		MemoryContextSwitchTo(old);
	}
	ExecDropSingleTupleTableSlot(slot);
	tuplesort_end(join->touched);
	join->touched = NULL;
}

/* A record of a first merge: its key has come once, or is to be sorted. */
static void
merge_first(HistoryJoin *join)
{
	uint64		hash = history_key_hash(join->merge->history, join->values);
	MemoryContext old;
	HistoryFact *fact;

	if (history_seen_again(join->seen, hash))
	{
		probe(join, hash);
		return;
	}
	MemoryContextReset(join->merge->key_context);
	old = MemoryContextSwitchTo(join->merge->key_context);
	fact = fresh_fact(join, join->values, join->nulls,
					  join->is_delete ? KIND_DELETE : KIND_RECORD);
	history_merge_key(join->merge, join->values, list_make1(fact), NULL);
	MemoryContextSwitchTo(old);
}

/* Compares a record whose partition has come. */
static void
probe_again(HistoryJoin *join)
{
	probe(join, history_key_hash(join->merge->history, join->values));
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
			begin_touched(join);
			take_back(join, join->aside[i], probe_again);
		}
		if (join->merge->complete && join->table)
			touch_absent(join);
		merge_sorted(join);
	}
	if (join->table)
		history_free_table(join->table);
	ExecDropSingleTupleTableSlot(join->carrier_slot);
}

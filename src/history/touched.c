/*-------------------------------------------------------------------------
 *
 * touched.c
 *		The touched keys: sorted by key, and merged one key at a time.
 *
 * A record that does not repeat a version is carried, with the hash of its
 * key and what kind of record it is, in rows of one shape; so are the keys
 * that a complete extract lacks.  Records that have to wait (join.c) are put
 * aside in the same rows.  The sort is by the hash; what comes of the keys
 * of one hash is merged by facts.c.
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
#include "utils/tuplesort.h"

/* Columns of what is sorted or put aside, before those of the history. */
#define CARRIER_HASH 0
#define CARRIER_KIND 1
#define CARRIER_COLUMNS 2

#define KIND_RECORD 'r'
#define KIND_DELETE 'd'
#define KIND_ABSENT 'a'			/* the extract lacks the key */

struct HistoryTouched
{
	HistoryMerge *merge;
	Size		memory;			/* of a sort */
	MemoryContext context;
	TupleDesc	carrier;
	TupleTableSlot *slot;
	Tuplesortstate *sort;
};

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

/* Begins a sort, the first or that of a next partition. */
void
history_begin_touched(HistoryTouched *touched)
{
	AttrNumber	column = CARRIER_HASH + 1;
	Oid			operator = Int8LessOperator;
	Oid			collation = InvalidOid;
	bool		nulls_first = false;
	MemoryContext old = MemoryContextSwitchTo(touched->context);

	touched->sort = tuplesort_begin_heap(touched->carrier, 1, &column, &operator,
										 &collation, &nulls_first,
										 Max(touched->memory / 1024, 64),
										 NULL, TUPLESORT_NONE);
	MemoryContextSwitchTo(old);
}

/* Puts a row into the slot that is sorted or put aside. */
static TupleTableSlot *
fill_carrier(HistoryTouched *touched, uint64 hash, char kind, const Datum *values,
			 const bool *nulls)
{
	TupleTableSlot *slot = touched->slot;
	int			count = touched->merge->history->column_count;

	ExecClearTuple(slot);
	slot->tts_values[CARRIER_HASH] = Int64GetDatum((int64) hash);
	slot->tts_isnull[CARRIER_HASH] = false;
	slot->tts_values[CARRIER_KIND] = CharGetDatum(kind);
	slot->tts_isnull[CARRIER_KIND] = false;
	memcpy(slot->tts_values + CARRIER_COLUMNS, values, sizeof(Datum) * count);
	memcpy(slot->tts_isnull + CARRIER_COLUMNS, nulls, sizeof(bool) * count);
	return ExecStoreVirtualTuple(slot);
}

/* A record as it is sorted or put aside. */
TupleTableSlot *
history_carry(HistoryTouched *touched, const HistoryRecord *record,
			  uint64 hash)
{
	return fill_carrier(touched, hash, record->is_delete ? KIND_DELETE :
						KIND_RECORD, record->values, record->nulls);
}

/* A slot for what was carried. */
TupleTableSlot *
history_carrier_slot(const HistoryTouched *touched)
{
	return MakeSingleTupleTableSlot(touched->carrier, &TTSOpsMinimalTuple);
}

/* The record that the slot carries, but for its time. */
void
history_read_carried(const HistoryTouched *touched, TupleTableSlot *slot,
					 HistoryRecord *record)
{
	int			count = touched->merge->history->column_count;

	slot_getallattrs(slot);
	memcpy(record->values, slot->tts_values + CARRIER_COLUMNS,
		   sizeof(Datum) * count);
	memcpy(record->nulls, slot->tts_isnull + CARRIER_COLUMNS,
		   sizeof(bool) * count);
	record->is_delete =
		DatumGetChar(slot->tts_values[CARRIER_KIND]) == KIND_DELETE;
}

/* The record's key is touched. */
void
history_touch(HistoryTouched *touched, const HistoryRecord *record,
			  uint64 hash)
{
	tuplesort_puttupleslot(touched->sort,
						   history_carry(touched, record, hash));
}

HistoryTouched *
history_make_touched(HistoryMerge *merge, Size memory)
{
	HistoryTouched *touched = palloc0(sizeof(HistoryTouched));

	touched->merge = merge;
	touched->memory = memory;
	touched->context = CurrentMemoryContext;
	touched->carrier = carrier_desc(merge->history);
	touched->slot = MakeSingleTupleTableSlot(touched->carrier,
											 &TTSOpsVirtual);
	history_begin_touched(touched);
	return touched;
}

void
history_free_touched(HistoryTouched *touched)
{
	ExecDropSingleTupleTableSlot(touched->slot);
}

/* The versions that no record was found for: the extract lacks their keys. */
void
history_touch_absent(HistoryTouched *touched, HistoryTable *table)
{
	History    *history = touched->merge->history;
	bool	   *nulls = touched->merge->key_nulls;
	Datum	   *key = palloc(sizeof(Datum) * history->column_count);
	HistoryEntry *entry;
	uint64		place = 0;

	while ((entry = history_next_unseen(table, &place)) != NULL)
	{
		const HistoryRow *row = history_fetch_entry(table, entry);

		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < history->column_count; i++)
			key[i] = nulls[i] ? (Datum) 0 : row->values[i];
		tuplesort_puttupleslot(touched->sort,
							   fill_carrier(touched, entry->hash, KIND_ABSENT,
											key, nulls));
	}
	pfree(key);
}

/* A fresh fact with these columns. */
static HistoryFact *
fresh_fact(const HistoryMerge *merge, Datum *values, bool *nulls, char kind)
{
	History    *history = merge->history;
	HistoryFact *fact = palloc0(sizeof(HistoryFact));

	fact->origin = HISTORY_FRESH;
	fact->values = values;
	fact->nulls = nulls;
	fact->unknown = bms_copy(merge->missing);
	fact->is_delete = kind == KIND_DELETE;
	fact->is_counted = kind != KIND_ABSENT;
	fact->at = merge->extract_at;
	if (history->sequence_count > 0 && kind != KIND_ABSENT)
	{
		int			c = history->sequence_columns[0];

		fact->at = history_time(&history->columns[c], values[c]);
	}
	return fact;
}

/* A fact of what was sorted, in the key's context. */
static HistoryFact *
make_fact(HistoryTouched *touched, TupleTableSlot *slot, char *kind)
{
	HeapTuple	tuple = ExecCopySlotHeapTuple(slot);
	Datum	   *values = palloc(sizeof(Datum) * touched->carrier->natts);
	bool	   *nulls = palloc(sizeof(bool) * touched->carrier->natts);

	heap_deform_tuple(tuple, touched->carrier, values, nulls);
	*kind = DatumGetChar(values[CARRIER_KIND]);
	return fresh_fact(touched->merge, values + CARRIER_COLUMNS, nulls + CARRIER_COLUMNS,
					  *kind);
}

/*
 * Did a record of the extract repeat the key's version, if it has one?  A
 * version that was found to be repeated on the walk is not in the table.
 */
static bool
is_version_seen(const HistoryMerge *merge, HistoryTable *table, uint64 hash,
				const Datum *key)
{
	HistoryEntry *entry;

	if (table == NULL || !merge->complete)
		return false;
	entry = history_find_entry(table, hash, key);
	return entry == NULL || entry->is_seen;
}

/* Merges the keys of one hash, which are rarely more than one. */
static void
merge_group(HistoryMerge *merge, HistoryTable *table, uint64 hash,
			List *facts, List *kinds)
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

			if (!history_same_key(merge->history, first->values,
								  fact->values))
			{
				others = lappend(others, fact);
				other_kinds = lappend_int(other_kinds, lfirst_int(kind));
			}
			else if (lfirst_int(kind) != KIND_ABSENT)
				fresh = lappend(fresh, fact);
		}
		history_merge_key(merge, first->values, fresh,
						  is_version_seen(merge, table, hash, first->values));
		facts = others;
		kinds = other_kinds;
	}
}

/*
 * Merges all that was touched, key by key, in the order of their hashes; the
 * table has the versions that it was compared with, if it was.
 */
void
history_merge_sorted(HistoryTouched *touched, HistoryTable *table)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(touched->carrier,
													&TTSOpsMinimalTuple);
	bool		more;
	bool		isnull;

	tuplesort_performsort(touched->sort);
	more = tuplesort_gettupleslot(touched->sort, true, false, slot, NULL);
	while (more)
	{
		int64		hash = DatumGetInt64(slot_getattr(slot, CARRIER_HASH + 1,
													  &isnull));
		List	   *facts = NIL;
		List	   *kinds = NIL;
		MemoryContext old;

		CHECK_FOR_INTERRUPTS();
		MemoryContextReset(touched->merge->key_context);
		old = MemoryContextSwitchTo(touched->merge->key_context);
		do
		{
			char		kind;

			facts = lappend(facts, make_fact(touched, slot, &kind));
			kinds = lappend_int(kinds, kind);
			more = tuplesort_gettupleslot(touched->sort, true, false, slot,
										  NULL);
		} while (more && hash == DatumGetInt64(slot_getattr(slot,
															CARRIER_HASH + 1,
															&isnull)));
		merge_group(touched->merge, table, (uint64) hash, facts, kinds);
		MemoryContextSwitchTo(old);
	}
	ExecDropSingleTupleTableSlot(slot);
	tuplesort_end(touched->sort);
	touched->sort = NULL;
}

/* Merges a record whose key no other has, and no version. */
void
history_merge_single(HistoryMerge *merge, const HistoryRecord *record)
{
	MemoryContext old;
	HistoryFact *fact;

	MemoryContextReset(merge->key_context);
	old = MemoryContextSwitchTo(merge->key_context);
	fact = fresh_fact(merge, record->values, record->nulls,
					  record->is_delete ? KIND_DELETE : KIND_RECORD);
	history_merge_key(merge, record->values, list_make1(fact), false);
	MemoryContextSwitchTo(old);
}

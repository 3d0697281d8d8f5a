/*-------------------------------------------------------------------------
 *
 * walk.c
 *		A complete extract and the versions stored, walked side by side.
 *
 * A table is mostly read in the order in which it was read for the extract
 * before, and that is the order in which the versions were written.  So the
 * record at hand is first compared with the version at hand, and where they
 * have one key, nothing needs to be hashed or looked for; where their tuples
 * are the same byte for byte, not even taken apart.
 *
 * Where the keys differ, the record's version may have been passed already:
 * what is passed goes into the table (table.c) and is found there.  Else
 * either side may have something that the other lacks here.  A first such
 * record is put aside; after the second the versions are gone through, a few
 * for each record, until the two meet again.  What was put aside is looked
 * for when all versions have been passed.  Where that gets much, the orders
 * have little in common and the walk is given up: the rest of the versions
 * goes into the table at once.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/tupmacs.h"
#include "history/history.h"
#include "utils/timestamp.h"

/* The most versions to go through for one record. */
#define MAX_STEPS 16

/* Records put aside before the walk is given up, beside a part of all. */
#define MIN_MISSED 1000

struct HistoryWalk
{
	HistoryMerge *merge;
	HistoryTable *table;
	TupleTableSlot *version;	/* at hand; NULL: all have been passed */
	const HistoryRow *row;		/* its columns, once they were read */
	TupleTableSlot *source;		/* what records come in, once it is known */
	bool		has_image;		/* its tuples may be compared as they are */
	int			misses;			/* records put aside since the two met */
	double		missed;
	double		allowed;		/* so many may be */
};

static void
step(HistoryWalk *walk)
{
	walk->version = history_next_version(walk->table);
	walk->row = NULL;
}

/* Begins with the first version; NULL where versions cannot be walked. */
HistoryWalk *
history_begin_walk(HistoryMerge *merge, HistoryTable *table)
{
	HistoryWalk *walk;

	if (!history_begin_versions(table))
		return NULL;
	walk = palloc0(sizeof(HistoryWalk));
	walk->merge = merge;
	walk->table = table;
	walk->allowed = MIN_MISSED +
		Max(merge->history->relation->rd_rel->reltuples, 0) / 128;
	step(walk);
	return walk;
}

/* Have all versions been passed, or is it not worth to go on? */
bool
history_walk_is_over(const HistoryWalk *walk)
{
	return walk->version == NULL || walk->missed > walk->allowed;
}

/* Puts what was not passed into the table. */
void
history_end_walk(HistoryWalk *walk)
{
	if (walk->version && (walk->row || history_read_version(walk->table)))
		history_enter_version(walk->table);
	history_fill_rest(walk->table);
	pfree(walk);
}

/* ---- tuples as they are ---- */

/* Are the source's columns the first of the target's, laid out alike? */
static bool
is_laid_out_alike(const HistoryMerge *merge, TupleDesc source)
{
	const History *history = merge->history;
	TupleDesc	target = RelationGetDescr(history->relation);

	if (source->natts != history->column_count ||
		history->places.valid_from != source->natts + 1 ||
		history->places.valid_to != source->natts + 2 ||
		history->places.is_deleted != source->natts + 3)
		return false;
	for (int i = 0; i < source->natts; i++)
	{
		Form_pg_attribute from = TupleDescAttr(source, i);
		Form_pg_attribute to = TupleDescAttr(target, i);

		if (history->columns[i].source != i ||
			history->columns[i].target != i + 1 || from->attisdropped ||
			from->atttypid != to->atttypid || from->attlen != to->attlen ||
			from->attbyval != to->attbyval || from->attalign != to->attalign)
			return false;
	}
	return true;
}

/*
 * May the tuples of this slot be compared with those of the target as they
 * are?  Where columns came or went, a NULL may mean more than that.
 */
bool
history_walk_has_image(HistoryWalk *walk, TupleTableSlot *slot)
{
	if (walk->source != slot)
	{
		walk->source = slot;
		walk->has_image =
			(TTS_IS_BUFFERTUPLE(slot) || TTS_IS_HEAPTUPLE(slot)) &&
			!walk->merge->has_drifted &&
			is_laid_out_alike(walk->merge, slot->tts_tupleDescriptor);
	}
	return walk->has_image && walk->version != NULL;
}

/* Are the same of the first columns NULL? */
static bool
has_same_nulls(HeapTupleHeader a, HeapTupleHeader b, int count)
{
	bool		has_nulls = (a->t_infomask & HEAP_HASNULL) != 0;
	int			rest = count % 8;

	if (has_nulls != ((b->t_infomask & HEAP_HASNULL) != 0))
		return false;
	return !has_nulls || (memcmp(a->t_bits, b->t_bits, count / 8) == 0 &&
						  (rest == 0 ||
						   ((a->t_bits[count / 8] ^ b->t_bits[count / 8]) &
							((1 << rest) - 1)) == 0));
}

/*
 * Does the version's tuple begin with the record's?  If so, its times follow
 * right after: whence, until when, and whether it says that the key is gone.
 */
static bool
begins_alike(HistoryWalk *walk, HeapTuple record, Datum *times)
{
	TupleDesc	desc = walk->version->tts_tupleDescriptor;
	HeapTuple	version = ((HeapTupleTableSlot *) walk->version)->tuple;
	const char *data = (char *) version->t_data + version->t_data->t_hoff;
	uint32		length = record->t_len - record->t_data->t_hoff;
	int			count = HeapTupleHeaderGetNatts(record->t_data);

	if (count != walk->merge->history->column_count ||
		HeapTupleHeaderGetNatts(version->t_data) != desc->natts ||
		length > version->t_len - version->t_data->t_hoff ||
		!has_same_nulls(record->t_data, version->t_data, count) ||
		memcmp((char *) record->t_data + record->t_data->t_hoff, data,
			   length) != 0)
		return false;
	for (int i = 0; i < 3; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, count + i);

		length = att_align_nominal(length, attribute->attalign);
		times[i] = fetchatt(attribute, data + length);
		length += attribute->attlen;
	}
	return true;
}

/* The version at hand is what a record repeats. */
static void
take_version(HistoryWalk *walk)
{
	history_mark_seen(walk->table, &walk->version->tts_tid);
	walk->misses = 0;
	walk->allowed += 0.125;
	step(walk);
}

/*
 * Is the tuple of a record, of which only key and times are known yet, that
 * of the version at hand?
 */
bool
history_walk_image(HistoryWalk *walk, const HistoryRecord *record,
				   TupleTableSlot *slot)
{
	HeapTuple	tuple = ((HeapTupleTableSlot *) slot)->tuple;
	Datum		times[3];
	int			roles;

	while (walk->version && tuple && begins_alike(walk, tuple, times))
	{
		TimestampTz from = DatumGetTimestampTz(times[0]);

		if (!history_is_wanted(walk->table, from,
							   DatumGetTimestampTz(times[1]),
							   DatumGetBool(times[2])))
		{
			step(walk);
			continue;
		}
		if (!history_may_repeat(walk->merge, record, from, &roles))
			return false;
		take_version(walk);
		return true;
	}
	return false;
}

/* ---- columns ---- */

/* The columns of the version at hand, or NULL: all have been passed. */
static const HistoryRow *
current_row(HistoryWalk *walk)
{
	while (walk->version && walk->row == NULL)
	{
		walk->row = history_read_version(walk->table);
		if (walk->row == NULL)
			step(walk);
	}
	return walk->row;
}

/* Is the version at hand of the record's key? */
static bool
has_met(HistoryWalk *walk, const HistoryRecord *record)
{
	const HistoryRow *row = current_row(walk);

	return row && history_same_key(walk->merge->history, row->values,
								   record->values);
}

/* Passes the version at hand, which is to be found again. */
static void
pass(HistoryWalk *walk)
{
	history_enter_version(walk->table);
	step(walk);
}

/* Does the record repeat a version that was passed? */
static bool
find_passed(HistoryWalk *walk, const HistoryRecord *record, bool *found)
{
	uint64		hash = history_key_hash(walk->merge->history, record->values);
	const HistoryRow *row;
	HistoryEntry *entry = NULL;

	if (history_partition(walk->table, hash) == 0)
		entry = history_find_entry(walk->table, hash, record->values);
	*found = entry != NULL;
	if (entry == NULL)
		return false;
	row = history_fetched(walk->table);
	if (!history_repeats(walk->merge, record, row))
		return false;
	entry->is_seen = true;
	history_mark_seen(walk->table, &row->tid);
	return true;
}

/* Does the record repeat a version?  If not, it is to be put aside. */
bool
history_walk_record(HistoryWalk *walk, const HistoryRecord *record)
{
	bool		met = has_met(walk, record);

	if (!met)
	{
		bool		found;
		bool		repeated = find_passed(walk, record, &found);
		int			steps;

		if (found)
			return repeated;
		steps = walk->misses++ == 0 ? 0 : Min(walk->misses, MAX_STEPS);
		for (; steps > 0 && !met && walk->version; steps--)
		{
			pass(walk);
			met = has_met(walk, record);
		}
	}
	if (met && history_repeats(walk->merge, record, walk->row))
	{
		take_version(walk);
		return true;
	}
	if (met)
	{
		walk->misses = 0;
		pass(walk);
	}
	else
		walk->missed++;
	return false;
}

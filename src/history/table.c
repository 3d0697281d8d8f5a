/*-------------------------------------------------------------------------
 *
 * table.c
 *		The versions that a source is compared with, found by their key.
 *
 * One pass over the target fills a hash table that holds of each version
 * only the hash of its key and where it lies: 16 bytes, so that millions
 * fit into visage.merge_memory, whatever work_mem is.  Its columns are read
 * in place when a record asks for them.  Where even that is too much, the
 * versions are taken in partitions by the hash of the key, each with a pass
 * of its own.
 *
 * A complete extract may be compared with the versions while they are read
 * (walk.c); the table then takes only those that are passed, and a bit for
 * each says that a record repeats it, so that a later pass leaves it out.
 *
 * The versions are those valid at the time of the extract, or else the open
 * ones.  The lock on the target keeps everybody from changing them, and a
 * pin on their page keeps them from being moved.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_am.h"
#include "catalog/pg_inherits.h"
#include "history/history.h"
#include "miscadmin.h"
#include "storage/buf_internals.h"
#include "storage/bufmgr.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define MAX_PARTITIONS 1024
#define MAX_LEAVES (1 << 14)

/* Of a version's tuple, so many bytes are asked for, a cache line each. */
#define PREFETCHED_BYTES 256
#define CACHE_LINE 64

typedef struct TableLeaf
{
	Relation	relation;
	bool		is_heap;
	Buffer		buffer;			/* the page read last, pinned */
	Buffer	   *buffers;		/* where each page was when it was scanned */
	BlockNumber pages;
	TupleTableSlot *slot;		/* of another access method */
} TableLeaf;

struct HistoryTable
{
	HistoryMerge *merge;
	MemoryContext context;
	HistoryEntry *entries;
	uint64		mask;
	uint64		count;
	uint64		limit;			/* the most entries that memory allows */
	int			partitions;		/* a power of two */
	int			partition;		/* the one in memory */
	TableLeaf  *leaves;
	int			leaf_count;
	AttrNumber	last_place;		/* of the columns that filling needs */
	TableScanDesc scan;			/* of the versions being walked, or NULL */
	HistoryRow	version;		/* the one at hand there */
	uint8	   *seen;			/* a bit for each place of each page, or NULL */
	bool		may_walk;
	HistoryRow	row;
	Datum	   *values;			/* of the whole row */
	bool	   *nulls;
	TimestampTz newest_column;
	int			natts;
};

static void
open_leaf(HistoryTable *table, TableLeaf *leaf, Oid relation)
{
	leaf->relation = table_open(relation, NoLock);
	leaf->is_heap = leaf->relation->rd_rel->relam == HEAP_TABLE_AM_OID;
	leaf->buffer = InvalidBuffer;
	leaf->slot = table_slot_create(leaf->relation, NULL);
	if (leaf->is_heap)
		leaf->pages = RelationGetNumberOfBlocks(leaf->relation);
	leaf->buffers = palloc_extended(sizeof(Buffer) * Max(leaf->pages, 1),
									MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
}

static void
open_leaves(HistoryTable *table)
{
	Relation	relation = table->merge->history->relation;
	Oid			relid = RelationGetRelid(relation);
	List	   *children = list_make1_oid(relid);

	if (relation->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
		children = find_inheritance_children(relid, RowExclusiveLock);
	if (list_length(children) > MAX_LEAVES)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("table \"%s\" has more than %d partitions",
						RelationGetRelationName(relation), MAX_LEAVES)));
	table->leaves = palloc0(sizeof(TableLeaf) *
							Max(list_length(children), 1));
	for (int i = 0; i < list_length(children); i++)
		open_leaf(table, &table->leaves[table->leaf_count++],
				  list_nth_oid(children, i));
}

/* How many versions there may be, by the statistics of the last vacuum. */
static double
estimate_versions(HistoryTable *table)
{
	double		versions = 0;

	for (int i = 0; i < table->leaf_count; i++)
	{
		double		tuples;
		double		visible;
		BlockNumber pages;

		table_relation_estimate_size(table->leaves[i].relation, NULL, &pages,
									 &tuples, &visible);
		versions += tuples;
	}
	return versions;
}

static void
allocate(HistoryTable *table, uint64 slots)
{
	table->entries = MemoryContextAllocExtended(table->context,
												sizeof(HistoryEntry) * slots,
												MCXT_ALLOC_HUGE |
												MCXT_ALLOC_ZERO);
	table->mask = slots - 1;
	table->count = 0;
}

static Size
seen_size(const HistoryTable *table)
{
	return (Size) table->leaves[0].pages * MaxHeapTuplesPerPage / BITS_PER_BYTE +
		1;
}

static void
prepare_row(const History *history, HistoryRow *row)
{
	row->values = palloc(sizeof(Datum) * history->column_count);
	row->nulls = palloc(sizeof(bool) * history->column_count);
}

/* Where columns are, and since when there are so many. */
static void
note_columns(HistoryTable *table)
{
	History    *history = table->merge->history;

	table->newest_column = history_newest_column(history);
	table->last_place = Max(history->places.valid_to,
							history->places.is_deleted);
	for (int i = 0; i < history->column_count; i++)
		if (history->columns[i].role == HISTORY_KEY)
			table->last_place = Max(table->last_place,
									history->columns[i].target);
}

/* An empty table that will take so much memory at most. */
HistoryTable *
history_make_table(HistoryMerge *merge, Size memory)
{
	HistoryTable *table = palloc0(sizeof(HistoryTable));
	History    *history = merge->history;
	uint64		slots = 1024;

	table->merge = merge;
	table->context = AllocSetContextCreate(CurrentMemoryContext,
										   "versions of a history",
										   ALLOCSET_DEFAULT_SIZES);
	table->partitions = 1;
	table->partition = -1;
	table->limit = 1024;
	open_leaves(table);
	table->may_walk = merge->complete && table->leaf_count == 1 &&
		table->leaves[0].is_heap && seen_size(table) <= memory / 2;
	if (table->may_walk)
		memory -= seen_size(table);
	while (table->limit * 2 * sizeof(HistoryEntry) <= memory)
		table->limit *= 2;
	while (!table->may_walk && slots * 0.7 < estimate_versions(table) && slots < table->limit)
		slots *= 2;
	allocate(table, slots);

	table->natts = RelationGetDescr(history->relation)->natts;
	table->values = palloc(sizeof(Datum) * table->natts);
	table->nulls = palloc(sizeof(bool) * table->natts);
	prepare_row(history, &table->row);
	prepare_row(history, &table->version);
	note_columns(table);
	return table;
}

void
history_free_table(HistoryTable *table)
{
	for (int i = 0; i < table->leaf_count; i++)
	{
		if (BufferIsValid(table->leaves[i].buffer))
			ReleaseBuffer(table->leaves[i].buffer);
		ExecDropSingleTupleTableSlot(table->leaves[i].slot);
		table_close(table->leaves[i].relation, NoLock);
	}
	MemoryContextDelete(table->context);
}

int
history_table_partitions(const HistoryTable *table)
{
	return table->partitions;
}

/* The partition of a key with this hash; the table uses the other bits. */
int
history_partition(const HistoryTable *table, uint64 hash)
{
	return (hash >> 40) & (table->partitions - 1);
}

static inline HistoryEntry *
free_entry(HistoryTable *table, uint64 hash)
{
	uint64		place = hash & table->mask;

	while (table->entries[place].offset != InvalidOffsetNumber)
		place = (place + 1) & table->mask;
	return &table->entries[place];
}

/*
 * Makes room: by twice the slots, or where memory does not allow them, by
 * twice the partitions, of which only the first stays.
 */
static void
grow(HistoryTable *table)
{
	HistoryEntry *old = table->entries;
	uint64		slots = table->mask + 1;
	bool		split = slots >= table->limit &&
	table->partitions < MAX_PARTITIONS && table->partition == 0;

	if (split)
		table->partitions *= 2;
	allocate(table, split ? slots : slots * 2);
	for (uint64 i = 0; i < slots; i++)
		if (old[i].offset != InvalidOffsetNumber &&
			history_partition(table, old[i].hash) == table->partition)
		{
			*free_entry(table, old[i].hash) = old[i];
			table->count++;
		}
	pfree(old);
}

/* Is this one of the versions to compare with? */
bool
history_is_wanted(const HistoryTable *table, TimestampTz from, TimestampTz to,
				  bool is_deleted)
{
	const HistoryMerge *merge = table->merge;

	if (is_deleted)
		return false;
	if (!merge->complete)
		return to == DT_NOEND;
	return from <= merge->extract_at && merge->extract_at < to;
}

/* Is the version in the slot wanted?  Its columns are there up to its end. */
static inline bool
is_wanted(HistoryTable *table, TupleTableSlot *slot)
{
	const HistoryPlaces *places = &table->merge->history->places;
	const Datum *values = slot->tts_values;

	slot_getsomeattrs(slot, table->last_place);
	return history_is_wanted(table,
							 DatumGetTimestampTz(values[places->valid_from - 1]),
							 DatumGetTimestampTz(values[places->valid_to - 1]),
							 DatumGetBool(values[places->is_deleted - 1]));
}

/* The bit of a version, as a byte and a mask. */
static inline uint8 *
seen_bit(const HistoryTable *table, const ItemPointerData *tid, uint8 *mask)
{
	uint64		bit = (uint64) ItemPointerGetBlockNumber(tid) *
	MaxHeapTuplesPerPage + ItemPointerGetOffsetNumber(tid) - 1;

	*mask = 1 << (bit % BITS_PER_BYTE);
	return &table->seen[bit / BITS_PER_BYTE];
}

/* Notes of a version being walked that a record repeats it. */
void
history_mark_seen(HistoryTable *table, const ItemPointerData *tid)
{
	uint8		mask;
	uint8	   *byte = seen_bit(table, tid, &mask);

	*byte |= mask;
}

static inline bool
was_seen(const HistoryTable *table, const ItemPointerData *tid)
{
	uint8		mask;

	return table->seen && (*seen_bit(table, tid, &mask) & mask) != 0;
}

/* Notes where the page of the row at hand is. */
static inline void
note_buffer(TableLeaf *leaf)
{
	BlockNumber block = ItemPointerGetBlockNumber(&leaf->slot->tts_tid);

	if (leaf->is_heap && block < leaf->pages)
		leaf->buffers[block] =
			((BufferHeapTupleTableSlot *) leaf->slot)->buffer;
}

/* The entry of a version whose key is in the slot, if it is of the partition. */
static bool
make_entry(HistoryTable *table, int leaf, Datum *key, HistoryEntry *entry)
{
	History    *history = table->merge->history;
	TupleTableSlot *slot = table->leaves[leaf].slot;
	uint64		hash;

	for (int i = 0; i < history->key_count; i++)
	{
		int			c = history->key_columns[i];

		key[c] = slot->tts_values[history->columns[c].target - 1];
	}
	hash = history_key_hash(history, key);
	if (history_partition(table, hash) != table->partition)
		return false;
	note_buffer(&table->leaves[leaf]);
	memset(entry, 0, sizeof(*entry));
	entry->hash = hash;
	entry->block = ItemPointerGetBlockNumber(&slot->tts_tid);
	entry->offset = ItemPointerGetOffsetNumber(&slot->tts_tid);
	entry->leaf = leaf;
	return true;
}

/* Puts entries into the table, unless their partition is a later one now. */
static void
put_entries(HistoryTable *table, const HistoryEntry *entries, int count)
{
	for (int i = 0; i < count; i++)
	{
		if (history_partition(table, entries[i].hash) != table->partition)
			continue;
		*free_entry(table, entries[i].hash) = entries[i];
		if (++table->count > table->mask / 4 * 3)
			grow(table);
	}
}

/* Takes the versions that a scan still finds. */
static void
fill_from_scan(HistoryTable *table, int leaf, TableScanDesc scan)
{
	TupleTableSlot *slot = table->leaves[leaf].slot;
	Datum	   *key = palloc0(sizeof(Datum) *
							  table->merge->history->column_count);
	HistoryEntry waiting[HISTORY_BATCH];
	int			count = 0;

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		if (!is_wanted(table, slot) || was_seen(table, &slot->tts_tid) ||
			!make_entry(table, leaf, key, &waiting[count]))
			continue;
		/* by the time that the others are made, its slot has been fetched */
		__builtin_prefetch(&table->entries[waiting[count].hash & table->mask],
						   1);
		if (++count == HISTORY_BATCH)
		{
			put_entries(table, waiting, count);
			count = 0;
		}
	}
	put_entries(table, waiting, count);
	table_endscan(scan);
	ExecClearTuple(slot);
	pfree(key);
}

/* A scan of all versions, always in the same order. */
static TableScanDesc
begin_scan(HistoryTable *table, int leaf)
{
	return table_beginscan_strat(table->leaves[leaf].relation,
								 table->merge->snapshot, 0, NULL, true,
								 false);
}

/* Reads the versions of a partition; the first decides how many there are. */
void
history_fill_table(HistoryTable *table, int partition)
{
	table->partition = partition;
	memset(table->entries, 0, sizeof(HistoryEntry) * (table->mask + 1));
	table->count = 0;
	for (int i = 0; i < table->leaf_count; i++)
		fill_from_scan(table, i, begin_scan(table, i));
}

/* ---- the versions one after the other, for walk.c ---- */

/* Begins with an empty table of the first partition, if that can be. */
bool
history_begin_versions(HistoryTable *table)
{
	if (!table->may_walk)
		return false;
	table->partition = 0;
	table->seen = MemoryContextAllocExtended(table->context, seen_size(table),
											 MCXT_ALLOC_HUGE |
											 MCXT_ALLOC_ZERO);
	table->scan = begin_scan(table, 0);
	return true;
}

/* The next version, wanted or not; NULL: there are no more. */
TupleTableSlot *
history_next_version(HistoryTable *table)
{
	TupleTableSlot *slot = table->leaves[0].slot;

	CHECK_FOR_INTERRUPTS();
	if (table->scan == NULL)
		return NULL;
	if (table_scan_getnextslot(table->scan, ForwardScanDirection, slot))
		return slot;
	table_endscan(table->scan);
	table->scan = NULL;
	return NULL;
}

/* Takes the version at hand, which was read. */
void
history_enter_version(HistoryTable *table)
{
	Datum	   *key = palloc0(sizeof(Datum) *
							  table->merge->history->column_count);
	HistoryEntry entry;

	if (make_entry(table, 0, key, &entry))
		put_entries(table, &entry, 1);
	pfree(key);
}

/* Takes all versions after the one at hand. */
void
history_fill_rest(HistoryTable *table)
{
	if (table->scan)
		fill_from_scan(table, 0, table->scan);
	table->scan = NULL;
}

/* ---- the columns of a version ---- */

/*
 * Pins a page.  It mostly is where it was when it was scanned, which spares
 * looking for it.
 */
static void
pin_page(TableLeaf *leaf, BlockNumber block)
{
	Buffer		recent = block < leaf->pages ? leaf->buffers[block] :
	InvalidBuffer;

	if (BufferIsValid(leaf->buffer))
	{
		if (BufferGetBlockNumber(leaf->buffer) == block)
			return;
		ReleaseBuffer(leaf->buffer);
		leaf->buffer = InvalidBuffer;
	}
	if (BufferIsValid(recent) &&
		ReadRecentBuffer(core_compat_file(leaf->relation), MAIN_FORKNUM,
						 block, recent))
		leaf->buffer = recent;
	else
	{
		leaf->buffer = ReadBuffer(leaf->relation, block);
		if (block < leaf->pages)
			leaf->buffers[block] = leaf->buffer;
	}
}

/* The row of a heap, which is neither copied nor locked, but pinned. */
static int
read_heap_row(HistoryTable *table, TableLeaf *leaf, ItemPointer tid)
{
	HeapTupleData tuple;
	ItemId		item;
	Page		page;

	pin_page(leaf, ItemPointerGetBlockNumber(tid));
	page = BufferGetPage(leaf->buffer);
	item = PageGetItemId(page, ItemPointerGetOffsetNumber(tid));
	tuple.t_data = (HeapTupleHeader) PageGetItem(page, item);
	tuple.t_len = ItemIdGetLength(item);
	tuple.t_self = *tid;
	tuple.t_tableOid = RelationGetRelid(leaf->relation);
	heap_deform_tuple(&tuple, RelationGetDescr(leaf->relation),
					  table->values, table->nulls);
	return HeapTupleHeaderGetNatts(tuple.t_data);
}

/* The row of another access method. */
static int
read_other_row(HistoryTable *table, TableLeaf *leaf, ItemPointer tid)
{
	int			natts = RelationGetDescr(leaf->relation)->natts;

	if (!table_tuple_fetch_row_version(leaf->relation, tid,
									   table->merge->snapshot, leaf->slot))
		elog(ERROR, "a version of \"%s\" cannot be found again",
			 RelationGetRelationName(leaf->relation));
	slot_getallattrs(leaf->slot);
	memcpy(table->values, leaf->slot->tts_values, sizeof(Datum) * natts);
	memcpy(table->nulls, leaf->slot->tts_isnull, sizeof(bool) * natts);
	return natts;
}

/* Is a column NULL that the version, when it was written, did not know? */
static bool
is_unsure(const History *history, const HistoryRow *row,
		  TimestampTz recorded_at, int written)
{
	for (int i = 0; i < history->column_count; i++)
		if (row->nulls[i] && (history->columns[i].target > written ||
							  recorded_at < history->columns[i].added_at))
			return true;
	return false;
}

/* Picks the history's columns out of a whole row. */
static void
fill_row(const HistoryTable *table, HistoryRow *row, const Datum *values,
		 const bool *nulls, int written)
{
	History    *history = table->merge->history;
	TimestampTz recorded_at;

	row->from = DatumGetTimestampTz(values[history->places.valid_from - 1]);
	recorded_at =
		DatumGetTimestampTz(values[history->places.recorded_at - 1]);
	for (int i = 0; i < history->column_count; i++)
	{
		int			place = history->columns[i].target - 1;

		row->values[i] = values[place];
		row->nulls[i] = nulls[place];
	}
	row->is_unsure = (recorded_at < table->newest_column ||
					  written < table->natts) &&
		is_unsure(history, row, recorded_at, written);
}

/* The columns of the version at hand, or NULL: it is not a wanted one. */
const HistoryRow *
history_read_version(HistoryTable *table)
{
	TupleTableSlot *slot = table->leaves[0].slot;
	HeapTuple	tuple = ((HeapTupleTableSlot *) slot)->tuple;

	if (!is_wanted(table, slot))
		return NULL;
	slot_getallattrs(slot);
	table->version.tid = slot->tts_tid;
	fill_row(table, &table->version, slot->tts_values, slot->tts_isnull,
			 HeapTupleHeaderGetNatts(tuple->t_data));
	return &table->version;
}

/* The columns of a version, where they lie. */
const HistoryRow *
history_fetch_entry(HistoryTable *table, const HistoryEntry *entry)
{
	TableLeaf  *leaf = &table->leaves[entry->leaf];
	int			written;

	ItemPointerSet(&table->row.tid, entry->block, entry->offset);
	written = leaf->is_heap ? read_heap_row(table, leaf, &table->row.tid) :
		read_other_row(table, leaf, &table->row.tid);
	fill_row(table, &table->row, table->values, table->nulls, written);
	return &table->row;
}

/* The row that was fetched last. */
const HistoryRow *
history_fetched(const HistoryTable *table)
{
	return &table->row;
}

/* The next version of this hash from a place on, or NULL. */
static inline HistoryEntry *
entry_of_hash(const HistoryTable *table, uint64 hash, uint64 place)
{
	for (place &= table->mask;
		 table->entries[place].offset != InvalidOffsetNumber;
		 place = (place + 1) & table->mask)
		if (table->entries[place].hash == hash)
			return &table->entries[place];
	return NULL;
}

/* The version of this key, whose row is then the one fetched, or NULL. */
HistoryEntry *
history_find_entry(HistoryTable *table, uint64 hash, const Datum *key)
{
	HistoryEntry *entry = entry_of_hash(table, hash, hash);

	while (entry && !history_same_key(table->merge->history,
									  history_fetch_entry(table,
														  entry)->values,
									  key))
		entry = entry_of_hash(table, hash, entry - table->entries + 1);
	return entry;
}

/* ---- what many look-ups will read, fetched at once ---- */

/*
 * Asks for what pins a version's page and says where its tuple lies.  The
 * page is taken to be where it was when it was scanned; nothing pins it
 * here, so that what is read there is only a hint.  NULL: that is not known.
 */
static Page
prefetch_page(const HistoryTable *table, const HistoryEntry *entry)
{
	const TableLeaf *leaf = &table->leaves[entry->leaf];
	Buffer		buffer = entry->block < leaf->pages ?
	leaf->buffers[entry->block] : InvalidBuffer;
	Page		page;

	if (buffer <= 0)
		return NULL;
	page = BufferGetPage(buffer);
	__builtin_prefetch(GetBufferDescriptor(buffer - 1), 1);
	__builtin_prefetch(PageGetItemId(page, entry->offset));
	return page;
}

/* Asks for the tuple. */
static void
prefetch_tuple(Page page, OffsetNumber offset)
{
	const char *tuple = (char *) page +
	ItemIdGetOffset(PageGetItemId(page, offset));

	for (int i = 0; i < PREFETCHED_BYTES; i += CACHE_LINE)
		__builtin_prefetch(tuple + i);
}

/* Asks for the memory that history_find_entry is about to read. */
void
history_prefetch(const HistoryTable *table, const uint64 *hashes, int count)
{
	Page		pages[HISTORY_BATCH];
	OffsetNumber offsets[HISTORY_BATCH];

	Assert(count <= HISTORY_BATCH);
	for (int i = 0; i < count; i++)
		__builtin_prefetch(&table->entries[hashes[i] & table->mask]);
	for (int i = 0; i < count; i++)
	{
		const HistoryEntry *entry = entry_of_hash(table, hashes[i], hashes[i]);

		pages[i] = entry ? prefetch_page(table, entry) : NULL;
		offsets[i] = entry ? entry->offset : InvalidOffsetNumber;
	}
	for (int i = 0; i < count; i++)
		if (pages[i])
			prefetch_tuple(pages[i], offsets[i]);
}

/* The next version that no record was found for, or NULL. */
HistoryEntry *
history_next_unseen(HistoryTable *table, uint64 *place)
{
	while (*place <= table->mask)
	{
		HistoryEntry *entry = &table->entries[(*place)++];

		if (entry->offset != InvalidOffsetNumber && !entry->is_seen &&
			!entry->is_touched)
			return entry;
	}
	return NULL;
}

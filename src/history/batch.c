/*-------------------------------------------------------------------------
 *
 * batch.c
 *		Records that wait to be looked up together.
 *
 * Where extract and versions have not the same order, each look-up reads
 * memory that no other has read lately: a slot of the table, a page's item,
 * the tuple.  Done for some records at once, the processor waits for all of
 * them together (history_prefetch).
 *
 * A record's columns lie on the page that the source's scan has pinned, so
 * that a pin of our own keeps them; where they lie elsewhere they are copied.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "history/history.h"
#include "storage/bufmgr.h"
#include "utils/datum.h"
#include "utils/memutils.h"

struct HistoryBatch
{
	const History *history;
	MemoryContext context;		/* of copies */
	HistoryRecord records[HISTORY_BATCH];
	uint64		hashes[HISTORY_BATCH];
	int			count;
	int			space;
	Buffer		pins[HISTORY_BATCH];
	int			pin_count;
};

HistoryBatch *
history_make_batch(const History *history)
{
	HistoryBatch *batch = palloc0(sizeof(HistoryBatch));

	batch->history = history;
	batch->context = AllocSetContextCreate(CurrentMemoryContext,
										   "records of a batch",
										   ALLOCSET_DEFAULT_SIZES);
	/* every record may be on a page of its own, and others need some, too */
	batch->space = Max(1, Min(HISTORY_BATCH, NBuffers / 64));
	for (int i = 0; i < batch->space; i++)
	{
		batch->records[i].values = palloc(sizeof(Datum) *
										  history->column_count);
		batch->records[i].nulls = palloc(sizeof(bool) *
										 history->column_count);
	}
	return batch;
}

/* Keeps the page on which the slot's columns lie; false: they lie elsewhere. */
static bool
keep_page(HistoryBatch *batch, TupleTableSlot *slot)
{
	Buffer		buffer;

	if (slot == NULL || !TTS_IS_BUFFERTUPLE(slot) || TTS_SHOULDFREE(slot))
		return false;
	buffer = ((BufferHeapTupleTableSlot *) slot)->buffer;
	if (!BufferIsValid(buffer))
		return false;
	if (batch->pin_count == 0 || batch->pins[batch->pin_count - 1] != buffer)
	{
		IncrBufferRefCount(buffer);
		batch->pins[batch->pin_count++] = buffer;
	}
	return true;
}

static void
copy_columns(HistoryBatch *batch, HistoryRecord *copy)
{
	MemoryContext old = MemoryContextSwitchTo(batch->context);

	for (int i = 0; i < batch->history->column_count; i++)
	{
		const HistoryColumn *column = &batch->history->columns[i];

		if (!copy->nulls[i] && !column->by_value)
			copy->values[i] = datumCopy(copy->values[i], false,
										column->length);
	}
	MemoryContextSwitchTo(old);
}

/*
 * Takes a record, whose columns may lie where the slot's are; true where the
 * batch is full then.
 */
bool
history_hold(HistoryBatch *batch, const HistoryRecord *record, uint64 hash,
			 TupleTableSlot *slot)
{
	int			count = batch->history->column_count;
	HistoryRecord *held = &batch->records[batch->count];

	memcpy(held->values, record->values, sizeof(Datum) * count);
	memcpy(held->nulls, record->nulls, sizeof(bool) * count);
	held->is_delete = record->is_delete;
	held->at = record->at;
	if (!keep_page(batch, slot))
		copy_columns(batch, held);
	batch->hashes[batch->count++] = hash;
	return batch->count == batch->space;
}

/* How many records wait, and the hashes of their keys. */
int
history_held(const HistoryBatch *batch, const uint64 **hashes)
{
	*hashes = batch->hashes;
	return batch->count;
}

const HistoryRecord *
history_held_record(const HistoryBatch *batch, int i)
{
	return &batch->records[i];
}

/* Forgets the records. */
void
history_let_go(HistoryBatch *batch)
{
	for (int i = 0; i < batch->pin_count; i++)
		ReleaseBuffer(batch->pins[i]);
	batch->pin_count = 0;
	batch->count = 0;
	MemoryContextReset(batch->context);
}

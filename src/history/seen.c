/*-------------------------------------------------------------------------
 *
 * seen.c
 *		Which keys come more than once, by the hashes of keys alone.
 *
 * For the first merge into a history: a key that comes once needs neither to
 * be looked up nor to be sorted to others of its own, so that the rows can be
 * written in the order of the source.  Later extracts, which mostly have that
 * order, then find the versions where they read anyway.
 *
 * A slot is a hash without its lowest bit, which says "again".  Where the
 * memory does not suffice, every key counts as coming again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "history/history.h"

struct HistorySeen
{
	MemoryContext context;
	uint64	   *slots;			/* 0: free */
	uint64		mask;
	uint64		count;
	uint64		limit;			/* the most slots that memory allows */
	bool		is_full;
};

static uint64 *
allocate(HistorySeen *seen, uint64 slots)
{
	return MemoryContextAllocExtended(seen->context, sizeof(uint64) * slots,
									  MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
}

HistorySeen *
history_make_seen(Size memory)
{
	HistorySeen *seen = palloc0(sizeof(HistorySeen));

	seen->context = CurrentMemoryContext;
	seen->limit = 1024;
	while (seen->limit * 2 * sizeof(uint64) <= memory)
		seen->limit *= 2;
	seen->mask = 1023;
	seen->slots = allocate(seen, 1024);
	return seen;
}

static uint64 *
find_slot(HistorySeen *seen, uint64 hash)
{
	uint64		place = (hash >> 1) & seen->mask;

	while (seen->slots[place] != 0 &&
		   (seen->slots[place] & ~UINT64CONST(1)) != hash)
		place = (place + 1) & seen->mask;
	return &seen->slots[place];
}

/* A hash without the bit for "again", and not that of a free slot. */
static uint64
plain(uint64 hash)
{
	hash &= ~UINT64CONST(1);
	return hash ? hash : 2;
}

static void
grow(HistorySeen *seen)
{
	uint64	   *old = seen->slots;
	uint64		slots = seen->mask + 1;

	if (slots >= seen->limit)
	{
		seen->is_full = true;
		return;
	}
	seen->slots = allocate(seen, slots * 2);
	seen->mask = slots * 2 - 1;
	for (uint64 i = 0; i < slots; i++)
		if (old[i] != 0)
			*find_slot(seen, old[i] & ~UINT64CONST(1)) = old[i];
	pfree(old);
}

/* Notes a key. */
void
history_note_seen(HistorySeen *seen, uint64 hash)
{
	uint64	   *slot;

	if (seen->is_full)
		return;
	slot = find_slot(seen, plain(hash));
	if (*slot != 0)
	{
		*slot |= 1;
		return;
	}
	*slot = plain(hash);
	if (++seen->count > seen->mask / 4 * 3)
		grow(seen);
}

/* May this key have come more than once? */
bool
history_seen_again(HistorySeen *seen, uint64 hash)
{
	return seen->is_full || (*find_slot(seen, plain(hash)) & 1) != 0;
}

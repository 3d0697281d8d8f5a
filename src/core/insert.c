/*-------------------------------------------------------------------------
 *
 * insert.c
 *		Rows into a table, many at a time.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/tableam.h"
#include "access/xact.h"
#include "core/core.h"

/*
 * Inserts what the slots hold.  The table's access method leaves memory
 * behind, some bytes for each row: it goes to a context that is reset before
 * many rows more.
 */
void
core_insert_slots(Relation relation, TupleTableSlot **slots, int count,
				  struct BulkInsertStateData *bulk, MemoryContext context)
{
	MemoryContext caller = MemoryContextSwitchTo(context);

	table_multi_insert(relation, slots, count, GetCurrentCommandId(true), 0,
					   bulk);
	MemoryContextSwitchTo(caller);
}

/*-------------------------------------------------------------------------
 *
 * place.c
 *		Rows by their place, and where the rows are that references mean.
 *
 * To open a table takes a new session longer than all else that a first score
 * does: the table's description is put together from rows of six catalogs,
 * and those have to be opened, too.  A row whose place is known is read
 * without: the session takes the table's lock, makes sure that the file is
 * still the table's, and looks into the page, if that is still in the buffer
 * where it was.  The file is the table's if pg_class says so, in a row whose
 * place is known, too; pg_class itself is open in every session.  Where any of
 * this is not so, the answer is that no row was found, and the caller searches
 * the table.
 *
 * Sessions share the places that they have found, if the library is
 * preloaded.  These are hints: nothing follows from a place but that a row may
 * be there, and the caller looks at what the row says.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/relscan.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "common/hashfn.h"
#include "core/shared.h"
#include "model/model.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/spin.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* References whose hashes are the same take turns. */
#define SHARED_PLACES 1024

typedef struct SharedPlaces
{
	slock_t		lock;
	Oid			database;		/* InvalidOid if unused */
	ModelPlaces places;
} SharedPlaces;

static SharedPlaces *shared = NULL; /* NULL without preloading */

/* ---- rows ---- */

/* The place of the row that the scan has found. */
ModelPlace
model_place_of_row(SysScanDesc scan, HeapTuple tuple)
{
	BufferHeapTupleTableSlot *slot = (BufferHeapTupleTableSlot *) scan->slot;
	ModelPlace	place;

	place.relation = RelationGetRelid(scan->heap_rel);
	place.file = core_compat_file(scan->heap_rel);
	place.buffer = slot->buffer;
	place.tid = tuple->t_self;
	place.xmin = HeapTupleHeaderGetRawXmin(tuple->t_data);
	return place;
}

/* The row in the page, which is pinned, or NULL. */
static HeapTuple
row_in_page(const ModelPlace *place, Snapshot snapshot)
{
	Page		page = BufferGetPage(place->buffer);
	OffsetNumber number = ItemPointerGetOffsetNumber(&place->tid);
	HeapTuple	copy = NULL;

	LockBuffer(place->buffer, BUFFER_LOCK_SHARE);
	if (number <= PageGetMaxOffsetNumber(page) &&
		ItemIdIsNormal(PageGetItemId(page, number)))
	{
		ItemId		item = PageGetItemId(page, number);
		HeapTupleData tuple;

		tuple.t_data = (HeapTupleHeader) PageGetItem(page, item);
		tuple.t_len = ItemIdGetLength(item);
		tuple.t_self = place->tid;
		tuple.t_tableOid = place->relation;
		if (HeapTupleHeaderGetRawXmin(tuple.t_data) == place->xmin &&
			HeapTupleSatisfiesVisibility(&tuple, snapshot, place->buffer))
			copy = heap_copytuple(&tuple);
	}
	LockBuffer(place->buffer, BUFFER_LOCK_UNLOCK);
	return copy;
}

/* The row in the buffer where its page was, or NULL. */
static HeapTuple
row_in_buffer(const ModelPlace *place, Snapshot snapshot)
{
	HeapTuple	row;

	if (!ReadRecentBuffer(place->file, MAIN_FORKNUM,
						  ItemPointerGetBlockNumber(&place->tid),
						  place->buffer))
		return NULL;
	row = row_in_page(place, snapshot);
	ReleaseBuffer(place->buffer);
	return row;
}

/*
 * Does the row of pg_class say that the file is still the one of the table,
 * which is locked?  The pages of a file that the table had before may linger
 * in buffers for a moment.
 */
static bool
is_file_of_table(const ModelPlace *place, const ModelPlace *table)
{
	Relation	catalog = table_open(RelationRelationId, AccessShareLock);
	HeapTuple	row = NULL;
	Form_pg_class form;
	CoreCompatFile file = {0};

	if (core_compat_same_file(core_compat_file(catalog), table->file))
		row = row_in_buffer(table, GetCatalogSnapshot(RelationRelationId));
	table_close(catalog, AccessShareLock);
	if (row == NULL)
		return false;
	form = (Form_pg_class) GETSTRUCT(row);
	if (form->oid == place->relation)
		file = (CoreCompatFile)
	{
		OidIsValid(form->reltablespace) ? form->reltablespace :
			MyDatabaseTableSpace,
			MyDatabaseId, form->relfilenode
	};
	heap_freetuple(row);
	return core_compat_same_file(file, place->file);
}

/*
 * A copy of the row if the snapshot sees it at this place, else NULL.  Without
 * the table's row in pg_class the caller has to know that the table has still
 * the same file.  What a serializable transaction reads in this way it has not
 * marked as read: that takes an open table.
 */
HeapTuple
model_row_at(const ModelPlace *place, const ModelPlace *table,
			 Snapshot snapshot)
{
	HeapTuple	row = NULL;

	LockRelationOid(place->relation, AccessShareLock);
	if (table == NULL || is_file_of_table(place, table))
		row = row_in_buffer(place, snapshot);
	UnlockRelationOid(place->relation, AccessShareLock);
	return row;
}

/* ---- what sessions share ---- */

/* The place of the table's row in pg_class. */
static ModelPlace
place_of_table(Oid table)
{
	Relation	catalog = table_open(RelationRelationId, AccessShareLock);
	ModelPlace	place = {0};
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_class_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(table));
	scan = systable_beginscan(catalog, ClassOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		place = model_place_of_row(scan, tuple);
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return place;
}

/* Where places of the reference are kept. */
static SharedPlaces *
slot_of(const ModelReference *reference)
{
	uint32		hash = hash_bytes((const unsigned char *) reference,
								  offsetof(ModelReference, planned));

	return &shared[hash_combine(hash, murmurhash32(MyDatabaseId)) %
				   SHARED_PLACES];
}

/* Where the rows of the reference, or those of another one, were last. */
bool
model_recall_places(const ModelReference *reference, ModelPlaces *places)
{
	SharedPlaces *slot;
	bool		known;

	if (shared == NULL)
		return false;
	slot = slot_of(reference);
	SpinLockAcquire(&slot->lock);
	known = slot->database == MyDatabaseId;
	if (known)
		*places = slot->places;
	SpinLockRelease(&slot->lock);
	return known;
}

/* Tells the other sessions of the rows, and finds those of their tables. */
void
model_share_places(const ModelReference *reference, ModelPlaces *places)
{
	SharedPlaces *slot;

	if (shared == NULL)
		return;
	if (reference->alias[0] != '\0')
		places->alias_table = place_of_table(places->alias.relation);
	places->image_table = place_of_table(places->image.relation);
	slot = slot_of(reference);
	SpinLockAcquire(&slot->lock);
	slot->database = MyDatabaseId;
	slot->places = *places;
	SpinLockRelease(&slot->lock);
}

static void
begin_places(void *memory)
{
	SharedPlaces *places = memory;

	for (int i = 0; i < SHARED_PLACES; i++)
		SpinLockInit(&places[i].lock);
}

/* Called when visage.so is loaded; does nothing in a running server. */
void
model_request_shared_memory(void)
{
	core_share("visage places", sizeof(SharedPlaces) * SHARED_PLACES,
			   begin_places, (void **) &shared);
}

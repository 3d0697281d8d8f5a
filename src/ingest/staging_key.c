/*-------------------------------------------------------------------------
 *
 * staging_key.c
 *		Looking a row of staging up by its key.
 *
 * The unique index of the stream's key (and, for 'append', of the record's
 * hash) is read with a dirty snapshot, so that the transaction's own rows are
 * found.  A scan is opened when the first key is looked up.  It must not
 * outlive the subtransaction that opened it: staging_key_end_scan before its
 * commit; after its abort the scan is gone, and only to be forgotten.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/tableam.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "core/core.h"
#include "ingest/staging_key.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* A key of the open table by which nothing is looked up yet. */
void
staging_key_init(StagingKey *key, Relation table, const IngestStream *stream)
{
	memset(key, 0, sizeof(StagingKey));
	key->table = table;
	key->append = strcmp(stream->disposition, "append") == 0;
	key->hash_attribute = get_attnum(RelationGetRelid(table), "_record_hash");
	key->context = CurrentMemoryContext;
	key->found = table_slot_create(table, NULL);
	InitDirtySnapshot(key->dirty);
}

/* Is this the index that tells whether a key is there? */
static bool
is_key_index(const StagingKey *key, Relation index,
			 const IngestStream *stream)
{
	int			wanted = stream->key_count + key->append;
	Form_pg_index form = index->rd_index;

	if (!form->indisunique || !form->indimmediate || !form->indisvalid ||
		form->indnkeyatts != wanted || index->rd_rel->relam != BTREE_AM_OID ||
		RelationGetIndexPredicate(index) != NIL ||
		RelationGetIndexExpressions(index) != NIL)
		return false;
	for (int i = 0; i < stream->key_count; i++)
		if (form->indkey.values[i] !=
			get_attnum(RelationGetRelid(key->table),
					   ingest_key_column(stream, i)))
			return false;
	return !key->append ||
		form->indkey.values[wanted - 1] == key->hash_attribute;
}

/* Prepares to look keys up in one of the table's open indexes. */
void
staging_key_open(StagingKey *key, const ResultRelInfo *info,
				 const IngestStream *stream)
{
	for (int i = 0; i < info->ri_NumIndices && key->index == NULL; i++)
		if (is_key_index(key, info->ri_IndexRelationDescs[i], stream))
			key->index = info->ri_IndexRelationDescs[i];
	if (key->index == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table %s has lost the index of its key",
						RelationGetRelationName(key->table)),
				 errhint("Make its primary key again.")));
	key->key_count = key->index->rd_index->indnkeyatts;
	for (int i = 0; i < key->key_count; i++)
	{
		Oid			type = key->index->rd_opcintype[i];
		Oid			equal = get_opfamily_member(key->index->rd_opfamily[i],
												type, type,
												BTEqualStrategyNumber);

		ScanKeyInit(&key->keys[i], i + 1, BTEqualStrategyNumber,
					get_opcode(equal), (Datum) 0);
		key->keys[i].sk_collation = key->index->rd_indcollation[i];
	}
}

/* Finds the row with this row's key, into key->found. */
bool
staging_key_find(StagingKey *key, TupleTableSlot *row)
{
	MemoryContext caller;
	bool		found;

	for (int i = 0; i < key->key_count; i++)
	{
		int			column = key->index->rd_index->indkey.values[i] - 1;

		if (row->tts_isnull[column])
			return false;
		key->keys[i].sk_argument = row->tts_values[column];
	}
	/* the scan is used again after the values of the rows are gone */
	caller = MemoryContextSwitchTo(key->context);
	if (key->scan == NULL)
		key->scan = core_compat_index_beginscan(key->table, key->index,
												&key->dirty, key->key_count);
	index_rescan(key->scan, key->keys, key->key_count, NULL, 0);
	found = index_getnext_slot(key->scan, ForwardScanDirection, key->found);
	MemoryContextSwitchTo(caller);
	return found;
}

/* Is the row that was found the same record? */
bool
staging_key_is_unchanged(StagingKey *key, uint64 hash)
{
	bool		isnull;
	Datum		found = slot_getattr(key->found, key->hash_attribute, &isnull);

	return key->append || (!isnull && DatumGetInt64(found) == (int64) hash);
}

/* Ends the scan, if there is one, and lets the row go. */
void
staging_key_end_scan(StagingKey *key)
{
	if (key->scan != NULL)
		index_endscan(key->scan);
	key->scan = NULL;
	ExecClearTuple(key->found);
}

void
staging_key_close(StagingKey *key)
{
	staging_key_end_scan(key);
	ExecDropSingleTupleTableSlot(key->found);
}

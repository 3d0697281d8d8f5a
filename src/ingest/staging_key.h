/*-------------------------------------------------------------------------
 *
 * staging_key.h
 *		Looking a row of staging up by its key.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_INGEST_STAGING_KEY_H
#define VISAGE_INGEST_STAGING_KEY_H

#include "access/genam.h"
#include "access/skey.h"
#include "ingest/ingest.h"
#include "nodes/execnodes.h"
#include "utils/snapshot.h"

typedef struct StagingKey
{
	Relation	table;
	Relation	index;			/* NULL: nothing is looked up */
	bool		append;			/* the hash is part of the key */
	int			hash_attribute;
	ScanKeyData keys[INDEX_MAX_KEYS];
	int			key_count;
	SnapshotData dirty;
	IndexScanDesc scan;			/* NULL: none is open */
	MemoryContext context;		/* of the scan */
	TupleTableSlot *found;		/* the row that was found */
} StagingKey;

extern void staging_key_init(StagingKey *key, Relation table,
							 const IngestStream *stream);
extern void staging_key_open(StagingKey *key, const ResultRelInfo *info,
							 const IngestStream *stream);
extern bool staging_key_find(StagingKey *key, TupleTableSlot *row);
extern bool staging_key_is_unchanged(StagingKey *key, uint64 hash);
extern void staging_key_end_scan(StagingKey *key);
extern void staging_key_close(StagingKey *key);

#endif							/* VISAGE_INGEST_STAGING_KEY_H */

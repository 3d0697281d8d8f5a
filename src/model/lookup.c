/*-------------------------------------------------------------------------
 *
 * lookup.c
 *		References to models, and the rows that they mean.
 *
 * Reads the catalog tables by index, without SPI, and asks for no privilege
 * on them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "model/model.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

/* Columns of visage.model_aliases and visage.model_images, in order. */
#define ALIAS_MODEL 1
#define ALIAS_ALIAS 2
#define ALIAS_VERSION 3
#define IMAGE_MODEL 1
#define IMAGE_VERSION 2
#define IMAGE_IMAGE 3
#define IMAGE_CHECKSUM 4
#define IMAGE_ID 5

#define FEW_PAGES 4

/* ---- references ---- */

/* Is this the number of a version? */
bool
model_is_version(const char *text)
{
	return text[0] != '\0' && strlen(text) < 10 &&
		strspn(text, "0123456789") == strlen(text);
}

/* Reads the hexadecimal digits of an id. */
static bool
parse_id(const char *digits, pg_uuid_t *id)
{
	for (int i = 0; i < UUID_LEN; i++)
	{
		unsigned int byte;

		if (strspn(digits + 2 * i, "0123456789abcdef") < 2 ||
			sscanf(digits + 2 * i, "%2x", &byte) != 1)
			return false;
		id->data[i] = byte;
	}
	return true;
}

/* Splits "model@alias:planned:id"; false where it can be no reference. */
bool
model_parse_reference(const char *text, ModelReference *reference)
{
	char		copy[MODEL_MAX_REFERENCE];
	char	   *at;
	char	   *planned;
	char	   *id = NULL;

	strlcpy(copy, text, sizeof(copy));
	memset(reference, 0, sizeof(*reference));
	at = strchr(copy, '@');
	planned = at ? strchr(at, ':') : NULL;
	if (planned != NULL)
	{
		*planned++ = '\0';
		id = strchr(planned, ':');
		if (id == NULL || strlen(id + 1) != 2 * UUID_LEN)
			return false;
		*id++ = '\0';
		reference->planned = atoi(planned);
		if (reference->planned <= 0 ||
			!parse_id(id, &reference->planned_id))
			return false;
	}
	if (at != NULL)
		*at++ = '\0';
	else
		at = "champion";
	if (strlen(copy) >= NAMEDATALEN || strlen(at) >= NAMEDATALEN)
		return false;
	strcpy(reference->model, copy);
	if (model_is_version(at))
		reference->version = atoi(at);
	else
		strcpy(reference->alias, at);
	return true;
}

/*
 * The reference for a call whose row the planner replaces by columns of this
 * version; NULL where it is one already or too long.
 */
char *
model_planned_reference(const char *reference, size_t length,
						const ModelEntry *entry)
{
	StringInfoData text;

	if (memchr(reference, ':', length) != NULL)
		return NULL;
	initStringInfo(&text);
	appendBinaryStringInfo(&text, reference, length);
	if (memchr(reference, '@', length) == NULL)
		appendStringInfoString(&text, "@champion");
	appendStringInfo(&text, ":%d:", entry->version);
	for (int i = 0; i < UUID_LEN; i++)
		appendStringInfo(&text, "%02x", entry->key.id.data[i]);
	return text.len < MODEL_MAX_REFERENCE ? text.data : NULL;
}

/* ---- rows ---- */

/* The key of a row of visage.model_images. */
ImageKey
model_image_key(HeapTuple tuple, TupleDesc tupdesc)
{
	ImageKey	key;
	bool		isnull;

	key.checksum = (uint32) DatumGetInt64(heap_getattr(tuple, IMAGE_CHECKSUM,
													   tupdesc, &isnull));
	key.id = *DatumGetUUIDP(heap_getattr(tuple, IMAGE_ID, tupdesc, &isnull));
	return key;
}

/* A key of text under the "C" collation, which the columns have. */
static void
text_key(ScanKey key, AttrNumber column, const char *value)
{
	ScanKeyEntryInitialize(key, 0, column, BTEqualStrategyNumber, InvalidOid,
						   C_COLLATION_OID, F_TEXTEQ,
						   CStringGetTextDatum(value));
}

/* Opens a table of schema visage. */
static Relation
open_catalog(const char *table)
{
	Oid			schema = get_namespace_oid("visage", false);
	Oid			relation = get_relname_relid(table, schema);

	if (!OidIsValid(relation))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension \"visage\" is not complete in this "
						"database")));
	return table_open(relation, AccessShareLock);
}

/*
 * Looks for two keys, by the primary key's index where it is worth opening:
 * in a new session that takes longer than to look through a few pages.
 */
static SysScanDesc
begin_scan(Relation relation, const char *primary_key, Snapshot snapshot,
		   ScanKey keys)
{
	Oid			index = InvalidOid;

	if (RelationGetNumberOfBlocks(relation) > FEW_PAGES)
		index = get_relname_relid(primary_key,
								  RelationGetNamespace(relation));
	return systable_beginscan(relation, index, OidIsValid(index), snapshot, 2,
							  keys);
}

/* The tables as they are now. */
void
model_read_catalog(ModelCatalog *catalog)
{
	Oid			schema = get_namespace_oid("visage", false);

	catalog->aliases = get_relname_relid("model_aliases", schema);
	catalog->images = get_relname_relid("model_images", schema);
}

static void
mark_row(ModelRowMark *mark, Relation relation, HeapTuple tuple)
{
	mark->relation = RelationGetRelid(relation);
	mark->tid = tuple->t_self;
	mark->xmin = HeapTupleHeaderGetRawXmin(tuple->t_data);
}

/* Does the snapshot see the very row of this open table? */
bool
model_row_is_seen(Relation relation, const ModelRowMark *mark,
				  Snapshot snapshot)
{
	HeapTupleData tuple;
	Buffer		buffer;
	bool		same;

	tuple.t_self = mark->tid;
	if (!heap_fetch(relation, snapshot, &tuple, &buffer, false))
		return false;
	same = HeapTupleHeaderGetRawXmin(tuple.t_data) == mark->xmin;
	ReleaseBuffer(buffer);
	return same;
}

/* The version that an alias of the model names, or 0. */
static int32
alias_version(const char *model, const char *alias, Snapshot snapshot,
			  ModelRowMark *mark)
{
	Relation	relation = open_catalog("model_aliases");
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;
	int32		version = 0;
	bool		isnull;

	text_key(&keys[0], ALIAS_MODEL, model);
	text_key(&keys[1], ALIAS_ALIAS, alias);
	scan = begin_scan(relation, "model_aliases_pkey", snapshot, keys);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		version = DatumGetInt32(heap_getattr(tuple, ALIAS_VERSION,
											 RelationGetDescr(relation),
											 &isnull));
		mark_row(mark, relation, tuple);
	}
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	return version;
}

/* The version's row; false where there is none.  Its image may be a pointer. */
bool
model_read_version(const char *model, int32 version, Snapshot snapshot,
				   ImageRow *row)
{
	Relation	relation = open_catalog("model_images");
	TupleDesc	tupdesc = RelationGetDescr(relation);
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		isnull;
	bool		found;

	text_key(&keys[0], IMAGE_MODEL, model);
	ScanKeyInit(&keys[1], IMAGE_VERSION, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(version));
	scan = begin_scan(relation, "model_images_pkey", snapshot, keys);
	tuple = systable_getnext(scan);
	found = HeapTupleIsValid(tuple);
	if (found)
	{
		mark_row(&row->mark, relation, tuple);
		row->model = model;
		row->version = version;
		row->key = model_image_key(tuple, tupdesc);
		row->own =
			TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data));
		row->image = (struct varlena *)
			DatumGetPointer(datumCopy(heap_getattr(tuple, IMAGE_IMAGE,
												   tupdesc, &isnull),
									  false, -1));
	}
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	return found;
}

/*
 * The row of the version that the reference means under this snapshot; its
 * mark is that of the alias, where there is one.
 */
bool
model_read_reference(const ModelReference *reference, Snapshot snapshot,
					 ImageRow *row)
{
	ModelRowMark mark;
	int32		version;

	if (reference->alias[0] == '\0')
		return model_read_version(reference->model, reference->version,
								  snapshot, row);
	version = alias_version(reference->model, reference->alias, snapshot,
							&mark);
	if (version == 0 || !model_read_version(reference->model, version,
											snapshot, row))
		return false;
	row->mark = mark;
	return true;
}

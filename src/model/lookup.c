/*-------------------------------------------------------------------------
 *
 * lookup.c
 *		References to models, and the rows that they mean.
 *
 * Reads the catalog tables by index, without SPI, and asks for no privilege
 * on them.  Where another session has found the rows before, they are read
 * where they were.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tupmacs.h"
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
#define IMAGE_MODEL 1
#define IMAGE_VERSION 2

#define FEW_PAGES 4

/* What the columns say, in order, within a row. */
typedef struct AliasColumns
{
	const char *model;			/* text */
	const char *alias;			/* text */
	int32		version;
} AliasColumns;

typedef struct ImageColumns
{
	const char *model;			/* text */
	int32		version;
	const char *image;			/* bytea, perhaps a pointer */
	ImageKey	key;
} ImageColumns;

/* ---- references ---- */

/* Is this the number of a version? */
bool
model_is_version(const char *text)
{
	const char *end = text;

	while (isdigit((unsigned char) *end))
		end++;
	return end > text && end - text < 10 && *end == '\0';
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
	if (model_is_version(at))
		reference->version = atoi(at);
	else if (strlcpy(reference->alias, at, NAMEDATALEN) >= NAMEDATALEN)
		return false;
	return strlcpy(reference->model, copy, NAMEDATALEN) < NAMEDATALEN;
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

/* The next column of a row without NULLs; its offset goes to the one after. */
static const char *
next_column(HeapTuple tuple, uint32 *offset, int length, char align)
{
	const char *data = (const char *) tuple->t_data + tuple->t_data->t_hoff;
	uint32		begin = att_align_pointer(*offset, align, length,
										  data + *offset);

	*offset = att_addlength_pointer(begin, length, data + begin);
	return data + begin;
}

static AliasColumns
alias_columns(HeapTuple tuple)
{
	AliasColumns columns;
	uint32		offset = 0;

	columns.model = next_column(tuple, &offset, -1, TYPALIGN_INT);
	columns.alias = next_column(tuple, &offset, -1, TYPALIGN_INT);
	memcpy(&columns.version,
		   next_column(tuple, &offset, sizeof(int32), TYPALIGN_INT),
		   sizeof(int32));
	return columns;
}

static ImageColumns
image_columns(HeapTuple tuple)
{
	ImageColumns columns;
	uint32		offset = 0;
	int64		checksum;

	columns.model = next_column(tuple, &offset, -1, TYPALIGN_INT);
	memcpy(&columns.version,
		   next_column(tuple, &offset, sizeof(int32), TYPALIGN_INT),
		   sizeof(int32));
	columns.image = next_column(tuple, &offset, -1, TYPALIGN_INT);
	memcpy(&checksum,
		   next_column(tuple, &offset, sizeof(int64), TYPALIGN_DOUBLE),
		   sizeof(int64));
	columns.key.checksum = (uint32) checksum;
	memcpy(&columns.key.id,
		   next_column(tuple, &offset, UUID_LEN, TYPALIGN_CHAR), UUID_LEN);
	return columns;
}

/* The key of a row of visage.model_images. */
ImageKey
model_image_key(HeapTuple tuple)
{
	return image_columns(tuple).key;
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

/* The version that an alias of the model names, or 0. */
static int32
alias_version(const char *model, const char *alias, Snapshot snapshot,
			  ModelPlace *place)
{
	Relation	relation = open_catalog("model_aliases");
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;
	int32		version = 0;

	text_key(&keys[0], ALIAS_MODEL, model);
	text_key(&keys[1], ALIAS_ALIAS, alias);
	scan = begin_scan(relation, "model_aliases_pkey", snapshot, keys);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		version = alias_columns(tuple).version;
		*place = model_place_of_row(scan, tuple);
	}
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	return version;
}

static void
take_image_row(ImageRow *row, const char *model, HeapTuple tuple)
{
	ImageColumns columns = image_columns(tuple);

	row->model = model;
	row->version = columns.version;
	row->key = columns.key;
	row->own =
		TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data));
	row->image = (struct varlena *)
		DatumGetPointer(datumCopy(PointerGetDatum(columns.image), false, -1));
}

/* The version's row; false where there is none.  Its image may be a pointer. */
bool
model_read_version(const char *model, int32 version, Snapshot snapshot,
				   ImageRow *row)
{
	Relation	relation = open_catalog("model_images");
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;

	text_key(&keys[0], IMAGE_MODEL, model);
	ScanKeyInit(&keys[1], IMAGE_VERSION, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(version));
	scan = begin_scan(relation, "model_images_pkey", snapshot, keys);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		take_image_row(row, model, tuple);
		row->mark = model_place_of_row(scan, tuple);
	}
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	return HeapTupleIsValid(tuple);
}

static bool
text_is(const char *column, const char *text)
{
	size_t		length = strlen(text);

	return VARSIZE_ANY_EXHDR(column) == length &&
		memcmp(VARDATA_ANY(column), text, length) == 0;
}

/* The version that the row at its place says the alias names, or 0. */
static int32
alias_version_at(const ModelPlaces *places, const ModelReference *reference,
				 Snapshot snapshot)
{
	HeapTuple	tuple = model_row_at(&places->alias, &places->alias_table,
									 snapshot);
	AliasColumns columns;
	int32		version = 0;

	if (tuple == NULL)
		return 0;
	columns = alias_columns(tuple);
	if (text_is(columns.model, reference->model) &&
		text_is(columns.alias, reference->alias))
		version = columns.version;
	heap_freetuple(tuple);
	return version;
}

/*
 * The same as model_read_reference by rows that another session has found;
 * false where they are not, or no longer, at these places.  A row that the
 * snapshot sees and whose key is the reference's is the one that a search
 * would find, since keys are unique: nothing else is relied on.
 */
static bool
read_recalled(const ModelReference *reference, const ModelPlaces *places,
			  Snapshot snapshot, ImageRow *row)
{
	int32		version = reference->version;
	HeapTuple	tuple;
	ImageColumns columns;
	bool		found;

	if (reference->alias[0] != '\0')
		version = alias_version_at(places, reference, snapshot);
	if (version == 0)
		return false;
	tuple = model_row_at(&places->image, &places->image_table, snapshot);
	if (tuple == NULL)
		return false;
	columns = image_columns(tuple);
	found = text_is(columns.model, reference->model) &&
		columns.version == version;
	if (found)
	{
		take_image_row(row, reference->model, tuple);
		row->mark = reference->alias[0] == '\0' ? places->image :
			places->alias;
	}
	heap_freetuple(tuple);
	return found;
}

/*
 * The row of the version that the reference means under this snapshot; its
 * mark is that of the alias, where there is one.  The catalog is that of the
 * tables, and is set before any of them is read.
 */
bool
model_read_reference(const ModelReference *reference, Snapshot snapshot,
					 ModelCatalog *catalog, ImageRow *row)
{
	ModelPlaces places = {0};
	int32		version = reference->version;

	/* what is watched is not exchanged for tables that may be gone */
	if (!IsolationIsSerializable() &&
		model_recall_places(reference, &places) &&
		(!OidIsValid(catalog->aliases) ||
		 catalog->aliases == places.alias.relation))
	{
		catalog->aliases = places.alias.relation;
		catalog->images = places.image.relation;
		if (read_recalled(reference, &places, snapshot, row))
			return true;
	}
	model_read_catalog(catalog);
	places.alias.relation = catalog->aliases;
	if (reference->alias[0] != '\0')
		version = alias_version(reference->model, reference->alias, snapshot,
								&places.alias);
	if (version == 0 ||
		!model_read_version(reference->model, version, snapshot, row))
		return false;
	places.image = row->mark;
	if (reference->alias[0] != '\0')
		row->mark = places.alias;
	model_share_places(reference, &places);
	return true;
}

/*-------------------------------------------------------------------------
 *
 * store.c
 *		Finding a model by name, and keeping it parsed.
 *
 * Which version a name means is read from the catalog tables under the
 * active snapshot, once a query: so a deploy is seen by the next statement,
 * never within one, is undone by a rollback, and a REPEATABLE READ
 * transaction keeps its version; nothing needs to be invalidated.  The
 * version's image never changes, so a checked copy is kept for the session
 * by model, version and checksum.  Reading is by index, without SPI, and
 * asks for no privilege on the tables: the right to score is the right to
 * execute the function.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "model/model.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#define MAX_ENTRIES 32

/* Columns of visage.model_aliases and visage.model_images, in order. */
#define ALIAS_MODEL 1
#define ALIAS_ALIAS 2
#define ALIAS_VERSION 3
#define IMAGE_MODEL 1
#define IMAGE_VERSION 2
#define IMAGE_IMAGE 3
#define IMAGE_CHECKSUM 4

static ModelEntry *entries[MAX_ENTRIES];
static int	entry_count = 0;
static uint64 use_counter = 0;

/* A key of text under the "C" collation, which the columns have. */
static void
text_key(ScanKey key, AttrNumber column, const char *value)
{
	ScanKeyEntryInitialize(key, 0, column, BTEqualStrategyNumber, InvalidOid,
						   C_COLLATION_OID, F_TEXTEQ,
						   CStringGetTextDatum(value));
}

/* Opens a table of schema visage with its primary key's index. */
static Relation
open_catalog(const char *table, Oid *index)
{
	Oid			schema = get_namespace_oid("visage", false);
	Oid			relation = get_relname_relid(table, schema);

	*index = get_relname_relid(psprintf("%s_pkey", table), schema);
	if (!OidIsValid(relation) || !OidIsValid(*index))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension \"visage\" is not complete in this "
						"database")));
	return table_open(relation, AccessShareLock);
}

/* The version that an alias of the model names, or 0. */
static int32
alias_version(const char *model, const char *alias)
{
	Oid			index;
	Relation	relation = open_catalog("model_aliases", &index);
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;
	int32		version = 0;
	bool		isnull;

	text_key(&keys[0], ALIAS_MODEL, model);
	text_key(&keys[1], ALIAS_ALIAS, alias);
	scan = systable_beginscan(relation, index, true, GetActiveSnapshot(), 2,
							  keys);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		version = DatumGetInt32(heap_getattr(tuple, ALIAS_VERSION,
											 RelationGetDescr(relation),
											 &isnull));
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	return version;
}

/* The kept copy of this image, or NULL. */
static ModelEntry *
find_entry(const char *model, int32 version, uint32 checksum)
{
	for (int i = 0; i < entry_count; i++)
		if (entries[i]->version == version &&
			entries[i]->checksum == checksum &&
			strcmp(entries[i]->model, model) == 0)
			return entries[i];
	return NULL;
}

/* Makes room: the entry used longest ago that nobody uses now goes. */
static void
evict(void)
{
	int			oldest = -1;

	for (int i = 0; i < entry_count; i++)
		if (entries[i]->pins == 0 &&
			(oldest < 0 || entries[i]->last_used < entries[oldest]->last_used))
			oldest = i;
	if (oldest < 0)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("one query cannot use more than %d models",
						MAX_ENTRIES)));
	MemoryContextDelete(entries[oldest]->context);
	entries[oldest] = entries[--entry_count];
}

/* Copies an image into the session's memory, once it is found sound. */
static ModelEntry *
keep_image(const char *model, int32 version, uint32 checksum, bytea *image)
{
	MemoryContext context;
	ModelEntry *entry;
	Size		size = VARSIZE_ANY_EXHDR(image);
	ModelImage *copy;
	const char *problem;

	if (entry_count == MAX_ENTRIES)
		evict();
	context = AllocSetContextCreate(CurrentMemoryContext, "visage model",
									ALLOCSET_SMALL_SIZES);
	copy = MemoryContextAllocHuge(context, Max(size, sizeof(ModelImage)));
	memcpy(copy, VARDATA_ANY(image), size);
	problem = model_check_image(copy, size);
	if (problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("version %d of model \"%s\" cannot be loaded",
						version, model),
				 errdetail("In its image, %s.", problem)));
	entry = MemoryContextAllocZero(context, sizeof(ModelEntry));
	strlcpy(entry->model, model, NAMEDATALEN);
	entry->version = version;
	entry->checksum = checksum;
	entry->context = context;
	entry->image = copy;
	MemoryContextSetParent(context, TopMemoryContext);
	entries[entry_count++] = entry;
	return entry;
}

/* The version's image, from memory or from the table; NULL if there is none. */
static ModelEntry *
load_version(const char *model, int32 version)
{
	Oid			index;
	Relation	relation = open_catalog("model_images", &index);
	TupleDesc	tupdesc = RelationGetDescr(relation);
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;
	ModelEntry *entry = NULL;
	bool		isnull;

	text_key(&keys[0], IMAGE_MODEL, model);
	ScanKeyInit(&keys[1], IMAGE_VERSION, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(version));
	scan = systable_beginscan(relation, index, true, GetActiveSnapshot(), 2,
							  keys);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		uint32		checksum =
		(uint32) DatumGetInt64(heap_getattr(tuple, IMAGE_CHECKSUM, tupdesc,
											&isnull));

		entry = find_entry(model, version, checksum);
		if (entry == NULL)
			entry = keep_image(model, version, checksum,
							   DatumGetByteaPP(heap_getattr(tuple, IMAGE_IMAGE,
															tupdesc,
															&isnull)));
	}
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	return entry;
}

/* Raises undefined_object for a model, with the nearest one. */
static void
no_such_model(const char *model)
{
	CoreIdentity caller;
	uint64		count;
	char	  **names;
	char	   *nearest;

	core_spi_begin();
	core_become_owner(&caller);
	count = core_execute("SELECT DISTINCT model FROM visage.model_images"
						 " ORDER BY model", NULL, SPI_OK_SELECT);
	names = palloc(sizeof(char *) * (count + 1));
	for (uint64 i = 0; i < count; i++)
		names[i] = core_value_text(i, 1);
	nearest = core_nearest(model, names, count);
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("model \"%s\" does not exist", model),
			 nearest ? errhint("Perhaps you meant \"%s\".", nearest) :
			 errhint("There is no model of a similar name.")));
}

/*
 * The model that a reference means: "name" is its champion, "name@3" its
 * version 3, "name@challenger" that alias.
 */
ModelEntry *
model_find(const char *reference, size_t length)
{
	char	   *model = pnstrdup(reference, length);
	char	   *at = strchr(model, '@');
	const char *alias = at ? at + 1 : "champion";
	int32		version = 0;
	ModelEntry *entry = NULL;

	if (at != NULL)
		*at = '\0';
	if (at != NULL && alias[0] != '\0' && strlen(alias) < 10 &&
		strspn(alias, "0123456789") == strlen(alias))
		version = atoi(alias);
	else
		version = alias_version(model, alias);
	if (version > 0 && strlen(model) < NAMEDATALEN)
		entry = load_version(model, version);
	if (entry == NULL)
	{
		if (load_version(model, 1) == NULL)
			no_such_model(model);
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("model \"%s\" has no %s \"%s\"", model,
						version > 0 ? "version" : "alias", alias),
				 errhint("See visage.model_versions, and visage_deploy.")));
	}
	entry->last_used = ++use_counter;
	return entry;
}

/* Reset callback: one user less. */
static void
unpin(void *arg)
{
	((ModelEntry *) arg)->pins--;
}

/* Keeps the entry until the context is reset. */
void
model_pin(ModelEntry *entry, MemoryContext until_reset)
{
	MemoryContextCallback *callback =
	MemoryContextAlloc(until_reset, sizeof(MemoryContextCallback));

	callback->func = unpin;
	callback->arg = entry;
	MemoryContextRegisterResetCallback(until_reset, callback);
	entry->pins++;
}

/*-------------------------------------------------------------------------
 *
 * store.c
 *		Finding a model by name.
 *
 * Which version a name means is told by one row: that of the alias, or that
 * of the version.  The row that was read is kept with its place in the table,
 * and what it said is right for any snapshot that sees the very same row;
 * that takes a quarter of a microsecond to find out, and nothing at all when
 * the snapshot sees what the last one saw.  So a deploy is seen by the
 * statements that begin after it, never within one, by all processes of a
 * parallel plan alike; it is undone by a rollback, also to a savepoint;
 * REPEATABLE READ keeps its version, on a standby, too; and an answer that is
 * no longer right is not used.  To ask this opens no table, nor does a first
 * look-up where other sessions know the place: see place.c.
 *
 * Each change of the tables also makes a trigger send a relcache
 * invalidation, which comes with the commit, on standbys with its replay.  It
 * has cached plans made again, and tells sessions that a row's place may mean
 * something else now, and which images they need no longer.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/trigger.h"
#include "common/hashfn.h"
#include "model/model.h"
#include "model/shap.h"
#include "storage/sinval.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"

/* How many unused images a session keeps mapped, and names it keeps. */
#define MAX_IDLE 32
#define MAX_NAMES 256

/* A reference and what it means; kept by the session. */
typedef struct KnownName
{
	char		text[MODEL_MAX_REFERENCE];
	ModelReference reference;
	ModelEntry *entry;			/* NULL where nothing is known */
	bool		once;			/* for this view only */
	ModelView	view;			/* to which it was right last */
	uint64		undone;
	ModelPlace	mark;			/* to what sees this row it is right */
	uint64		generation;		/* when the mark was made */
} KnownName;

/* Names by their text.  Small, since a first score waits for the room. */
typedef struct NameSlot
{
	const char *text;
	KnownName  *name;
	uint32		hash;
	char		status;
} NameSlot;

#define SH_PREFIX names
#define SH_ELEMENT_TYPE NameSlot
#define SH_KEY_TYPE const char *
#define SH_KEY text
#define SH_HASH_KEY(table, key) \
	hash_bytes((const unsigned char *) (key), strlen(key))
#define SH_EQUAL(table, a, b) (strcmp(a, b) == 0)
#define SH_STORE_HASH
#define SH_GET_HASH(table, slot) (slot)->hash
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

uint64		model_undone = 0;

static ModelEntry **entries = NULL;
static int	entry_count = 0;
static int	entries_allocated = 0;
static uint64 use_counter = 0;
static names_hash *names = NULL;
static KnownName *latest_name = NULL;	/* that was looked for, or NULL */
static ModelCatalog watched;
static uint64 generation = 0;	/* counts what we were told of changes */
static uint64 tidied = 0;		/* generation of the last tidying */
static List *deleted = NIL;		/* images that this transaction deleted */
static List *made = NIL;		/* and files of images that it wrote */

/* ---- being told of changes ---- */

static void
relation_changed(Datum arg, Oid relation)
{
	if (relation == watched.aliases || relation == watched.images ||
		relation == InvalidOid)
		generation++;
}

/* Images whose rows are gone need no files. */
static void
remove_files(List *keys)
{
	ListCell   *cell;

	foreach(cell, keys)
		model_file_remove(lfirst(cell));
}

static void
transaction_ends(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT &&
		event != XACT_EVENT_PREPARE)
		return;
	if (event == XACT_EVENT_COMMIT)
		remove_files(deleted);
	else if (event == XACT_EVENT_ABORT)
		remove_files(made);
	deleted = NIL;
	made = NIL;
	for (int i = 0; i < entry_count; i++)
		model_shap_free(&entries[i]->shap_plans, false);
}

/* A file that is removed though its image is there is made again. */
static void
subtransaction_ends(SubXactEvent event, SubTransactionId mine,
					SubTransactionId parent, void *arg)
{
	if (event != SUBXACT_EVENT_ABORT_SUB)
		return;
	model_undone++;
	remove_files(made);
	made = NIL;
}

/* Adds a key to a list that lasts as long as the transaction. */
static List *
remember(List *keys, ImageKey key)
{
	MemoryContext caller = MemoryContextSwitchTo(TopTransactionContext);
	ImageKey   *copy = palloc(sizeof(ImageKey));

	*copy = key;
	keys = lappend(keys, copy);
	MemoryContextSwitchTo(caller);
	return keys;
}

/* Once a session. */
static void
watch(void)
{
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	RegisterXactCallback(transaction_ends, NULL);
	RegisterSubXactCallback(subtransaction_ends, NULL);
	names = names_create(TopMemoryContext, 8, NULL);
}

/* Before anything is kept. */
static inline void
start_watching(void)
{
	if (names == NULL)
		watch();
}

/*
 * Row trigger of the tables that look-ups read, also for rows that arrive by
 * logical replication: all sessions must read again.
 */
PG_FUNCTION_INFO_V1(visage_model_changed);
Datum
visage_model_changed(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("this function is for a trigger")));
	start_watching();
	model_read_catalog(&watched);
	CacheInvalidateRelcacheByRelid(watched.aliases);
	if (TRIGGER_FIRED_BY_DELETE(trigger->tg_event) &&
		RelationGetRelid(trigger->tg_relation) == watched.images)
		deleted = remember(deleted,
						   model_image_key(trigger->tg_trigtuple));
	return PointerGetDatum(NULL);
}

/* ---- entries: what is mapped ---- */

static bool
same_key(const ImageKey *a, const ImageKey *b)
{
	return a->checksum == b->checksum &&
		memcmp(&a->id, &b->id, UUID_LEN) == 0;
}

/* Unmaps an entry that nobody has pinned. */
static void
drop_entry(int position)
{
	ModelEntry *entry = entries[position];
	names_iterator iterator;
	NameSlot   *slot;

	names_start_iterate(names, &iterator);
	while ((slot = names_iterate(names, &iterator)) != NULL)
		if (slot->name->entry == entry)
			slot->name->entry = NULL;
	entries[position] = entries[--entry_count];
	model_free_bindings(entry);
	model_shap_free(&entry->shap_plans, true);
	model_file_unmap(entry->image, entry->mapped);
	pfree(entry);
}

/* Is it in use, or was it found in this very statement? */
static bool
is_idle(const ModelEntry *entry)
{
	return entry->pins == 0 &&
		entry->used_by != GetCurrentStatementStartTimestamp();
}

/*
 * Unmaps what nobody uses: images whose file is gone, since their model was
 * dropped or others needed the room, and those beyond MAX_IDLE that were used
 * longest ago.
 */
static void
tidy(void)
{
	int			idle = 0;

	for (int i = entry_count - 1; i >= 0; i--)
		if (is_idle(entries[i]))
		{
			if (tidied != generation &&
				!model_file_exists(&entries[i]->key))
				drop_entry(i);
			else
				idle++;
		}
	tidied = generation;
	while (idle-- > MAX_IDLE)
	{
		int			oldest = -1;

		for (int i = 0; i < entry_count; i++)
			if (is_idle(entries[i]) &&
				(oldest < 0 ||
				 entries[i]->last_used < entries[oldest]->last_used))
				oldest = i;
		drop_entry(oldest);
	}
}

/* Makes room for one more entry. */
static void
reserve_entry(void)
{
	int			wanted = Max(16, entries_allocated * 2);
	Size		size = wanted * sizeof(ModelEntry *);

	if (entry_count < entries_allocated)
		return;
	entries = entries == NULL ? MemoryContextAlloc(TopMemoryContext, size) :
		repalloc(entries, size);
	entries_allocated = wanted;
}

/* The row's image, mapped by this session. */
static ModelEntry *
map_entry(const ImageRow *row)
{
	ModelEntry *entry;
	const ModelImage *image;
	size_t		size;

	for (int i = 0; i < entry_count; i++)
		if (same_key(&entries[i]->key, &row->key) &&
			entries[i]->version == row->version &&
			strcmp(entries[i]->model, row->model) == 0)
			return entries[i];
	reserve_entry();
	image = model_file_map(row, &size);
	if (row->own)
		made = remember(made, row->key);
	entry = MemoryContextAllocZero(TopMemoryContext, sizeof(ModelEntry));
	strlcpy(entry->model, row->model, NAMEDATALEN);
	entry->version = row->version;
	entry->key = row->key;
	entry->image = image;
	entry->mapped = size;
	entry->touched = GetCurrentStatementStartTimestamp();
	entry->used_by = entry->touched;
	entries[entry_count++] = entry;
	return entry;
}

/* ---- names ---- */

/* Forgets all names, as they are too many; entries stay. */
static void
forget_names(void)
{
	names_iterator iterator;
	NameSlot   *slot;

	names_start_iterate(names, &iterator);
	while ((slot = names_iterate(names, &iterator)) != NULL)
		pfree(slot->name);
	names_reset(names);
	latest_name = NULL;
}

/* Do values in the order of one version's inputs fit the other? */
static bool
same_inputs(const ModelImage *a, const ModelImage *b)
{
	if (a->input_count != b->input_count)
		return false;
	for (uint32 i = 0; i < a->input_count; i++)
	{
		const ModelInput *one = &model_inputs(a)[i];
		const ModelInput *other = &model_inputs(b)[i];

		if (one->kind != other->kind ||
			strcmp(model_string(a, one->name),
				   model_string(b, other->name)) != 0)
			return false;
	}
	return true;
}

/* The version that was planned with, mapped then or now; NULL if it is gone. */
static ModelEntry *
planned_entry(const ModelReference *reference, Snapshot snapshot)
{
	ImageRow	row;

	for (int i = 0; i < entry_count; i++)
		if (memcmp(&entries[i]->key.id, &reference->planned_id,
				   UUID_LEN) == 0)
			return entries[i];
	if (model_read_version(reference->model, reference->planned, snapshot,
						   &row) &&
		memcmp(&row.key.id, &reference->planned_id, UUID_LEN) == 0)
		return map_entry(&row);
	return NULL;
}

/*
 * The planner has put the columns of a version in place of the row, and the
 * reference means another one now.  That is the one to use where it takes the
 * same columns.  Else the version that was planned with is used this once, as
 * if the statement had begun before the deploy, and is planned again next
 * time.  A transaction that keeps its snapshot may have used the other one
 * already, though: what a deploy invalidates is told a moment after the deploy
 * is seen.
 */
static ModelEntry *
settle_planned(const ModelReference *reference, ModelEntry *meant,
			   Snapshot snapshot)
{
	SharedInvalidationMessage message;
	ModelEntry *planned;

	planned = planned_entry(reference, snapshot);
	if (planned != NULL && same_inputs(meant->image, planned->image))
		return meant;
	message.rc.id = SHAREDINVALRELCACHE_ID;
	message.rc.dbId = MyDatabaseId;
	message.rc.relId = watched.aliases;
	LocalExecuteInvalidationMessage(&message);
	if (planned == NULL || IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("model \"%s\" was replaced while the query was "
						"planned", reference->model),
				 errhint("Run the query again.")));
	return planned;
}

/* The entry of a row that the reference means. */
static ModelEntry *
entry_of_row(const ModelReference *reference, const ImageRow *row,
			 Snapshot snapshot)
{
	ModelEntry *entry = map_entry(row);

	if (reference->planned == 0 ||
		memcmp(&row->key.id, &reference->planned_id, UUID_LEN) == 0)
		return entry;
	return settle_planned(reference, entry, snapshot);
}

/* Does the snapshot see the row that told what the name means? */
static bool
sees_mark(const KnownName *name, Snapshot snapshot)
{
	HeapTuple	row = model_row_at(&name->mark, NULL, snapshot);

	if (row == NULL)
		return false;
	heap_freetuple(row);

	/*
	 * Only now, since reading has told us of what happened to the table: if
	 * nothing, it has also the file that it had.
	 */
	return name->generation == generation;
}

/* Looks the name up under the active snapshot; NULL for what is not there. */
static ModelEntry *
look_up(KnownName *name)
{
	Snapshot	snapshot = GetActiveSnapshot();
	ImageRow	row;
	ModelEntry *entry;

	name->entry = NULL;
	name->generation = generation;
	if (!model_read_reference(&name->reference, snapshot, &watched, &row))
		return NULL;
	entry = entry_of_row(&name->reference, &row, snapshot);
	name->entry = entry;
	name->once = !same_key(&entry->key, &row.key);
	name->view = model_view(snapshot);
	name->undone = model_undone;
	name->mark = row.mark;
	entry->used_by = GetCurrentStatementStartTimestamp();
	tidy();
	return entry;
}

/* Keeps a name that is new. */
static KnownName *
add_name(const char *text, const ModelReference *reference)
{
	KnownName  *name;
	bool		found;

	if (names->members >= MAX_NAMES)
		forget_names();
	name = MemoryContextAllocZero(TopMemoryContext, sizeof(KnownName));
	strlcpy(name->text, text, MODEL_MAX_REFERENCE);
	name->reference = *reference;
	names_insert(names, name->text, &found)->name = name;
	return name;
}

/* The kept name; NULL where the text can be no reference. */
static KnownName *
find_name(const char *text, size_t length)
{
	char		key[MODEL_MAX_REFERENCE];
	ModelReference reference;
	NameSlot   *slot;

	if (length >= MODEL_MAX_REFERENCE)
		return NULL;
	if (latest_name != NULL && latest_name->text[length] == '\0' &&
		memcmp(latest_name->text, text, length) == 0)
		return latest_name;
	memcpy(key, text, length);
	key[length] = '\0';
	slot = names_lookup(names, key);
	if (slot == NULL && !model_parse_reference(key, &reference))
		return NULL;
	latest_name = slot == NULL ? add_name(key, &reference) : slot->name;
	return latest_name;
}

/* What the name means to the active snapshot, NULL for nothing. */
static ModelEntry *
current_entry(KnownName *name)
{
	ModelView	view = model_view(GetActiveSnapshot());

	if (name->entry == NULL)
		return look_up(name);
	if (model_same_view(&name->view, &view) && name->undone == model_undone)
		return name->entry;
	/* a serializable transaction must be seen to read the row */
	if (name->once || IsolationIsSerializable() ||
		!sees_mark(name, GetActiveSnapshot()))
		return look_up(name);
	name->view = view;
	name->undone = model_undone;
	return name->entry;
}

/* Marks the entry as used, and now and then its file. */
static ModelEntry *
use_entry(ModelEntry *entry)
{
	TimestampTz now = GetCurrentStatementStartTimestamp();

	entry->last_used = ++use_counter;
	entry->used_by = now;
	if (now - entry->touched > MODEL_TOUCH_EVERY * USECS_PER_SEC)
	{
		entry->touched = now;
		(void) model_file_touch(&entry->key);
	}
	return entry;
}

/* Raises undefined_object for a reference that means nothing. */
static void
no_such_reference(const char *text, size_t length)
{
	char	   *model = pnstrdup(text, length);
	char	   *at = strchr(model, '@');
	const char *alias = at ? at + 1 : "champion";
	ImageRow	row;

	if (at != NULL)
	{
		at[strcspn(at, ":")] = '\0';
		*at = '\0';
	}
	if (!model_read_version(model, 1, GetActiveSnapshot(), &row))
		model_none_such(model);
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("model \"%s\" has no %s \"%s\"", model,
					model_is_version(alias) ? "version" : "alias", alias),
			 errhint("See visage.model_versions, and visage_deploy.")));
}

/*
 * The version that a reference means to the active snapshot.  ERROR where
 * there is none, or the user has no privilege on the model.
 */
ModelEntry *
model_find(const char *reference, size_t length)
{
	KnownName  *name;
	ModelEntry *entry;

	start_watching();
	name = find_name(reference, length);
	entry = name == NULL ? NULL : current_entry(name);
	if (entry == NULL)
	{
		no_such_reference(reference, length);
		return NULL;
	}
	model_require_grant(entry->model, GetUserId());
	return use_entry(entry);
}

/* Would a statement that begins now find the same? */
static bool
is_latest(const KnownName *name)
{
	Snapshot	latest = RegisterSnapshot(GetLatestSnapshot());
	bool		seen = !name->once && sees_mark(name, latest);

	UnregisterSnapshot(latest);
	return seen;
}

/*
 * For the planner: the same, but NULL instead of an ERROR about the name.
 * What goes into a plan that may be kept must be to_keep: a plan is made
 * again for what changes later, not for what has changed already.
 */
ModelEntry *
model_find_quietly(const char *reference, size_t length, bool to_keep)
{
	KnownName  *name;
	ModelEntry *entry;

	if (!ActiveSnapshotSet() || IsInParallelMode())
		return NULL;
	start_watching();
	name = find_name(reference, length);
	if (name != NULL && to_keep && name->generation != generation)
		name->entry = NULL;
	entry = name == NULL ? NULL : current_entry(name);
	if (entry == NULL || (to_keep && !is_latest(name)) ||
		!model_is_granted(entry->model, GetUserId()))
		return NULL;
	return entry;
}

/* The table whose invalidation tells of every change. */
Oid
model_catalog_relation(void)
{
	return watched.aliases;
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

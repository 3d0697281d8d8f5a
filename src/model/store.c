/*-------------------------------------------------------------------------
 *
 * store.c
 *		Finding a model by name.
 *
 * Which version a name means is read from the catalog tables, by index,
 * without SPI and without privileges on them.  What was read is kept, and is
 * right for a snapshot when nothing has changed between the two; that is
 * known so:
 *
 *	- It was read under the latest snapshot there was, and is used only for
 *	  snapshots that are not earlier.
 *	- Each change of the tables, by whatever statement, makes a trigger send a
 *	  relcache invalidation, which comes with the commit, on standbys with its
 *	  replay.  They are received before each look-up; model_generation counts
 *	  them.
 *	- In a transaction that has changed the tables itself, for an earlier
 *	  snapshot, and in parallel mode (where all processes must agree), names
 *	  are looked up under the active snapshot, and the answer is kept for that
 *	  snapshot only.
 *
 * So a deploy is seen by the statements that begin after it, and never within
 * one; it is undone by a rollback, also to a savepoint; REPEATABLE READ keeps
 * its version.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/trigger.h"
#include "model/model.h"
#include "storage/sinval.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"

/* How many unused images a session keeps mapped, and names it keeps. */
#define MAX_IDLE 32
#define MAX_NAMES 256

/* How long a file may look unused while it is in use. */
#define TOUCH_EVERY (60 * USECS_PER_SEC)

/* A reference and what it means; kept by the session. */
typedef struct KnownName
{
	char		text[MODEL_MAX_REFERENCE];	/* key */
	ModelReference reference;
	ModelEntry *standing;		/* right until told otherwise */
	uint64		generation;		/* when standing was read */
	ModelView	view;
	ModelEntry *answer;			/* right at its moment */
	ModelMoment moment;
	bool		exact;			/* read under the moment's own snapshot */
} KnownName;

uint64		model_generation = 0;
uint64		model_undone = 0;

static ModelEntry **entries = NULL;
static int	entry_count = 0;
static int	entries_allocated = 0;
static uint64 use_counter = 0;
static uint64 tidied = 0;		/* generation of the last tidying */
static HTAB *names = NULL;
static Oid	watched = InvalidOid;	/* visage.model_aliases */
static bool changed_here = false;	/* has this transaction changed them? */
static List *deleted = NIL;		/* keys of images that it has deleted */

/* ---- being told of changes ---- */

static void
relation_changed(Datum arg, Oid relation)
{
	if (relation == watched || relation == InvalidOid)
		model_generation++;
}

/* The images whose rows are gone need no files. */
static void
remove_deleted(void)
{
	ListCell   *cell;

	foreach(cell, deleted)
		model_file_remove(lfirst(cell));
}

static void
transaction_ends(XactEvent event, void *arg)
{
	if (!changed_here)
		return;
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			remove_deleted();
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			break;
		default:
			return;
	}
	deleted = NIL;
	changed_here = false;
	model_generation++;
}

static void
subtransaction_ends(SubXactEvent event, SubTransactionId mine,
					SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		model_undone++;
}

/* Once a session, before anything is kept. */
static void
start_watching(void)
{
	HASHCTL		control = {.keysize = MODEL_MAX_REFERENCE,
	.entrysize = sizeof(KnownName)};

	if (names != NULL)
		return;
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	RegisterXactCallback(transaction_ends, NULL);
	RegisterSubXactCallback(subtransaction_ends, NULL);
	names = hash_create("visage models", 32, &control,
						HASH_ELEM | HASH_STRINGS);
}

/* Remembers a deleted row of visage.model_images until the commit. */
static void
remember_deleted(TriggerData *trigger)
{
	TupleDesc	tupdesc = RelationGetDescr(trigger->tg_relation);
	MemoryContext caller = MemoryContextSwitchTo(TopTransactionContext);
	ImageKey   *key = palloc(sizeof(ImageKey));

	*key = model_image_key(trigger->tg_trigtuple, tupdesc);
	deleted = lappend(deleted, key);
	MemoryContextSwitchTo(caller);
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
	watched = model_catalog_relation();
	CacheInvalidateRelcacheByRelid(watched);
	changed_here = true;
	if (TRIGGER_FIRED_BY_DELETE(trigger->tg_event) &&
		RelationGetRelid(trigger->tg_relation) != watched)
		remember_deleted(trigger);
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
	HASH_SEQ_STATUS status;
	KnownName  *name;

	hash_seq_init(&status, names);
	while ((name = hash_seq_search(&status)) != NULL)
	{
		if (name->standing == entry)
			name->standing = NULL;
		if (name->answer == entry)
			name->answer = NULL;
	}
	entries[position] = entries[--entry_count];
	model_file_unmap(entry->image, entry->mapped);
	pfree(entry);
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
		if (entries[i]->pins == 0)
		{
			if (tidied != model_generation &&
				!model_file_exists(&entries[i]->key))
				drop_entry(i);
			else
				idle++;
		}
	tidied = model_generation;
	while (idle-- > MAX_IDLE)
	{
		int			oldest = -1;

		for (int i = 0; i < entry_count; i++)
			if (entries[i]->pins == 0 &&
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
	entry = MemoryContextAllocZero(TopMemoryContext, sizeof(ModelEntry));
	strlcpy(entry->model, row->model, NAMEDATALEN);
	entry->version = row->version;
	entry->key = row->key;
	entry->image = image;
	entry->mapped = size;
	entry->touched = GetCurrentStatementStartTimestamp();
	entries[entry_count++] = entry;
	return entry;
}

/* ---- names ---- */

/* Forgets all names, as they are too many; entries stay. */
static void
forget_names(void)
{
	HASH_SEQ_STATUS status;
	KnownName  *name;

	hash_seq_init(&status, names);
	while ((name = hash_seq_search(&status)) != NULL)
		hash_search(names, name->text, HASH_REMOVE, NULL);
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

/*
 * The planner has put the columns of a version in place of the row, and the
 * reference means another one now.  That is the one to use where it takes the
 * same columns.  Else the version that was planned with is used this once, as
 * if the statement had begun before the deploy, and is planned again next
 * time.
 */
static ModelEntry *
settle_planned(const ModelReference *reference, ModelEntry *meant,
			   Snapshot snapshot)
{
	SharedInvalidationMessage message;
	ImageRow	row;
	ModelEntry *planned;

	if (!model_read_version(reference->model, reference->planned, snapshot, &row) ||
		memcmp(&row.key.id, &reference->planned_id, UUID_LEN) != 0)
		planned = NULL;
	else
	{
		planned = map_entry(&row);
		if (same_inputs(meant->image, planned->image))
			return meant;
	}
	message.rc.id = SHAREDINVALRELCACHE_ID;
	message.rc.dbId = MyDatabaseId;
	message.rc.relId = model_catalog_relation();
	LocalExecuteInvalidationMessage(&message);
	if (planned == NULL)
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

/* Is the snapshot of this view as late as that one, or later? */
static bool
is_not_earlier(const ModelView *view, const ModelView *that)
{
	if (view->xmax == that->xmax)
		return view->running <= that->running;
	return TransactionIdFollows(view->xmax, that->xmax);
}

/*
 * Keeps the answer for later snapshots, too, if under the latest there is the
 * reference means the same row.
 */
static void
keep_standing(KnownName *name, const ImageRow *row, ModelEntry *entry)
{
	Snapshot	latest = RegisterSnapshot(GetLatestSnapshot());
	ModelView	view = model_view(latest);
	ImageRow	now;

	if (model_same_view(&view, &name->moment.view) ||
		(model_read_reference(&name->reference, latest, &now) &&
		 now.version == row->version && same_key(&now.key, &row->key)))
	{
		name->standing = entry;
		name->generation = name->moment.generation;
		name->view = view;
	}
	UnregisterSnapshot(latest);
}

/* Looks the name up under the active snapshot; NULL for what is not there. */
static ModelEntry *
look_up(KnownName *name)
{
	ImageRow	row;
	ModelEntry *entry;

	tidy();
	name->standing = NULL;
	watched = model_catalog_relation();
	if (!model_read_reference(&name->reference, GetActiveSnapshot(), &row))
		return NULL;
	entry = entry_of_row(&name->reference, &row, GetActiveSnapshot());
	if (!changed_here && !IsInParallelMode() && same_key(&entry->key, &row.key))
		keep_standing(name, &row, entry);
	return entry;
}

/* The kept name; NULL where the text can be no reference. */
static KnownName *
find_name(const char *text, size_t length)
{
	char		key[MODEL_MAX_REFERENCE];
	ModelReference reference;
	KnownName  *name;
	bool		found;

	if (length >= MODEL_MAX_REFERENCE)
		return NULL;
	memcpy(key, text, length);
	key[length] = '\0';
	name = hash_search(names, key, HASH_FIND, NULL);
	if (name != NULL)
		return name;
	if (!model_parse_reference(key, &reference))
		return NULL;
	if (hash_get_num_entries(names) >= MAX_NAMES)
		forget_names();
	name = hash_search(names, key, HASH_ENTER, &found);
	name->reference = reference;
	name->standing = NULL;
	name->answer = NULL;
	return name;
}

/* What the name means now, NULL for nothing. */
static ModelEntry *
current_entry(KnownName *name)
{
	ModelMoment now;

	AcceptInvalidationMessages();
	model_moment(&now);
	if (name->answer != NULL &&
		model_same_view(&name->moment.view, &now.view) &&
		name->moment.undone == now.undone &&
		(name->moment.generation == now.generation ||
		 name->moment.statement == now.statement) &&
		(name->exact || !IsInParallelMode()))
		return name->answer;
	name->answer = NULL;
	name->moment = now;
	name->exact = false;
	if (name->standing != NULL && name->generation == now.generation &&
		!changed_here && !IsInParallelMode() &&
		is_not_earlier(&now.view, &name->view))
		name->answer = name->standing;
	else
	{
		name->answer = look_up(name);
		name->exact = true;
	}
	return name->answer;
}

/* Marks the entry as used, and now and then its file. */
static ModelEntry *
use_entry(ModelEntry *entry)
{
	TimestampTz now = GetCurrentStatementStartTimestamp();

	entry->last_used = ++use_counter;
	if (now - entry->touched > TOUCH_EVERY)
	{
		entry->touched = now;
		(void) model_file_touch(&entry->key);
	}
	return entry;
}

/* Raises undefined_object for a model, with the nearest one. */
static void
no_such_model(const char *model)
{
	CoreIdentity caller;
	uint64		count;
	char	  **similar;
	char	   *nearest;

	core_spi_begin();
	core_become_owner(&caller);
	count = core_execute("SELECT DISTINCT model FROM visage.model_images"
						 " ORDER BY model", NULL, SPI_OK_SELECT);
	similar = palloc(sizeof(char *) * (count + 1));
	for (uint64 i = 0; i < count; i++)
		similar[i] = core_value_text(i, 1);
	nearest = core_nearest(model, similar, count);
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("model \"%s\" does not exist", model),
			 nearest ? errhint("Perhaps you meant \"%s\".", nearest) :
			 errhint("There is no model of a similar name.")));
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
		no_such_model(model);
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
		no_such_reference(reference, length);
	if (!model_is_granted(entry->model, GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for model \"%s\"",
						entry->model),
				 errhint("See visage_grant_model.")));
	return use_entry(entry);
}

/*
 * For the planner: the same, but NULL instead of an ERROR about the name, and
 * only where the next statement's answer would be the same.
 */
ModelEntry *
model_find_quietly(const char *reference, size_t length)
{
	KnownName  *name;
	ModelEntry *entry;

	if (!ActiveSnapshotSet() || IsInParallelMode())
		return NULL;
	start_watching();
	name = find_name(reference, length);
	entry = name == NULL ? NULL : current_entry(name);
	if (entry == NULL || (entry != name->standing && !changed_here) ||
		!model_is_granted(entry->model, GetUserId()))
		return NULL;
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

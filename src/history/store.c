/*-------------------------------------------------------------------------
 *
 * store.c
 *		Reading and writing the tables of a history, row by row.
 *
 * Rows are found by the unique index on key and valid_from, and written
 * through the executor's functions for single rows, as logical replication
 * does: indexes, constraints, row triggers and partitions are honoured.
 * Statement triggers are not fired: the merge itself keeps what they would
 * check (guard.c).
 *
 * The rows are read under one snapshot, taken when the merge got its lock,
 * so that it sees what it writes in none of the scans that it keeps open.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "catalog/pg_index.h"
#include "commands/trigger.h"
#include "executor/execPartition.h"
#include "executor/executor.h"
#include "history/history.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#define MAX_KEYS 32

/* The scans of one table, or partition of one, by key. */
typedef struct Leaf
{
	ResultRelInfo *info;
	IndexScanDesc scan;
	TupleTableSlot *slot;		/* what is read */
} Leaf;

struct HistoryStore
{
	HistoryMerge *merge;
	EState	   *estate;
	EPQState	epq;
	ResultRelInfo *target;
	ResultRelInfo *superseded;
	ModifyTableState *modify;
	PartitionTupleRouting *routing; /* NULL: not partitioned */
	List	   *leaves;
	Leaf		observed;
	TupleTableSlot *target_slot;	/* what is written */
	TupleTableSlot *superseded_slot;
	TupleTableSlot *observed_slot;
	TupleTableSlot *old_slot;	/* where what is updated or deleted is */
	ScanKeyData keys[MAX_KEYS];
	bool		is_empty;
};

static ResultRelInfo *
open_relation(HistoryStore *store, Relation relation)
{
	ResultRelInfo *info = makeNode(ResultRelInfo);

	InitResultRelInfo(info, relation, 1, NULL, 0);
	ExecOpenIndices(info, false);
	return info;
}

static bool
is_partial(Relation index)
{
	return !heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL);
}

/* The index whose columns are the key, then this one. */
static Relation
find_index(History *history, ResultRelInfo *info, const char *last)
{
	for (int i = 0; i < info->ri_NumIndices; i++)
	{
		Relation	index = info->ri_IndexRelationDescs[i];
		Form_pg_index form = index->rd_index;
		bool		fits = form->indnkeyatts == history->key_count + 1 &&
		!is_partial(index);

		for (int k = 0; fits && k < form->indnkeyatts; k++)
		{
			AttrNumber	place = form->indkey.values[k];

			fits = place > 0 &&
				strcmp(NameStr(TupleDescAttr(RelationGetDescr(info->ri_RelationDesc),
											 place - 1)->attname),
					   k < history->key_count ? history->keys[k] : last) == 0;
		}
		if (fits)
			return index;
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("table \"%s\" has lost its index on the key and %s",
					RelationGetRelationName(info->ri_RelationDesc), last),
			 errhint("Make it again.")));
}

/* "key = …" for an index, whose values are filled in for each search. */
static void
prepare_keys(HistoryStore *store, Relation index)
{
	int			count = store->merge->history->key_count;

	for (int i = 0; i < count; i++)
	{
		Oid			type = index->rd_opcintype[i];
		Oid			operator = get_opfamily_member(index->rd_opfamily[i],
												   type, type,
												   BTEqualStrategyNumber);

		ScanKeyInit(&store->keys[i], i + 1, BTEqualStrategyNumber,
					get_opcode(operator), (Datum) 0);
		store->keys[i].sk_collation = index->rd_indcollation[i];
	}
}

static void
open_leaf(HistoryStore *store, Leaf *leaf, ResultRelInfo *info,
		  const char *last)
{
	Relation	index = find_index(store->merge->history, info, last);

	leaf->info = info;
	prepare_keys(store, index);
	leaf->scan = core_compat_index_beginscan(info->ri_RelationDesc, index,
											 store->merge->snapshot,
											 store->merge->history->key_count);
	leaf->slot = table_slot_create(info->ri_RelationDesc, NULL);
}

static void
close_leaf(Leaf *leaf)
{
	index_endscan(leaf->scan);
	ExecDropSingleTupleTableSlot(leaf->slot);
}

/* What the executor wants to know of the statement that we are. */
static EState *
make_state(HistoryMerge *merge)
{
	EState	   *estate = CreateExecutorState();
	RangeTblEntry *entry = makeNode(RangeTblEntry);

	entry->rtekind = RTE_RELATION;
	entry->relid = RelationGetRelid(merge->history->relation);
	entry->relkind = merge->history->relation->rd_rel->relkind;
	entry->rellockmode = RowExclusiveLock;
	core_compat_init_range_table(estate, entry);
	estate->es_snapshot = merge->snapshot;
	estate->es_output_cid = GetCurrentCommandId(true);
	return estate;
}

static void
open_routing(HistoryStore *store)
{
	Relation	relation = store->merge->history->relation;

	store->modify = makeNode(ModifyTableState);
	store->modify->ps.state = store->estate;
	store->modify->operation = CMD_INSERT;
	store->modify->resultRelInfo = store->target;
	store->modify->rootResultRelInfo = store->target;
	store->routing = ExecSetupPartitionTupleRouting(store->estate, relation);
}

static TupleTableSlot *
make_slot(Relation relation)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(relation),
													&TTSOpsVirtual);

	slot->tts_tableOid = RelationGetRelid(relation);
	return slot;
}

/* Opens the tables of a merge for reading by key and for writing. */
HistoryStore *
history_open_store(HistoryMerge *merge)
{
	History    *history = merge->history;
	HistoryStore *store = palloc0(sizeof(HistoryStore));
	MemoryContext old;

	store->merge = merge;
	store->estate = make_state(merge);
	old = MemoryContextSwitchTo(store->estate->es_query_cxt);
	EvalPlanQualInit(&store->epq, store->estate, NULL, NIL, -1
					 CORE_COMPAT_EPQ_RELATIONS);
	store->target = open_relation(store, history->relation);
	store->superseded = open_relation(store, history->superseded_relation);
	store->target_slot = make_slot(history->relation);
	store->superseded_slot = make_slot(history->superseded_relation);
	store->observed_slot = make_slot(history->observed_relation);
	store->old_slot = make_slot(history->relation);
	open_leaf(store, &store->observed,
			  open_relation(store, history->observed_relation),
			  "observed_at");
	if (history->relation->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
		open_routing(store);
	store->is_empty = merge->is_empty;
	MemoryContextSwitchTo(old);
	AfterTriggerBeginQuery();
	return store;
}

/* Fires what was put off to the end, and closes what was opened. */
void
history_close_store(HistoryStore *store)
{
	ListCell   *cell;

	AfterTriggerEndQuery(store->estate);
	foreach(cell, store->leaves)
		close_leaf(lfirst(cell));
	close_leaf(&store->observed);
	ExecDropSingleTupleTableSlot(store->target_slot);
	ExecDropSingleTupleTableSlot(store->superseded_slot);
	ExecDropSingleTupleTableSlot(store->observed_slot);
	ExecDropSingleTupleTableSlot(store->old_slot);
	if (store->routing)
		ExecCleanupTupleRouting(store->modify, store->routing);
	ExecCloseIndices(store->target);
	ExecCloseIndices(store->superseded);
	ExecCloseIndices(store->observed.info);
	EvalPlanQualEnd(&store->epq);
	FreeExecutorState(store->estate);
	CommandCounterIncrement();
}

/* Is there nothing stored at all, so that no key need be looked up? */
bool
history_store_is_empty(HistoryStore *store)
{
	return store->is_empty;
}

/* Puts a row's columns into the slot of the target, all else NULL. */
static void
fill_slot(TupleTableSlot *slot, History *history, const Datum *values,
		  const bool *nulls, Size place_offset)
{
	ExecClearTuple(slot);
	memset(slot->tts_isnull, true,
		   sizeof(bool) * slot->tts_tupleDescriptor->natts);
	for (int i = 0; i < history->column_count; i++)
	{
		AttrNumber	place = *(AttrNumber *) ((char *) &history->columns[i] +
											 place_offset);

		slot->tts_values[place - 1] = values[i];
		slot->tts_isnull[place - 1] = nulls[i];
	}
}

static void
set_value(TupleTableSlot *slot, AttrNumber place, Datum value)
{
	slot->tts_values[place - 1] = value;
	slot->tts_isnull[place - 1] = false;
}

static void
set_times(TupleTableSlot *slot, const HistoryPlaces *places,
		  const HistoryVersion *version)
{
	set_value(slot, places->valid_from,
			  TimestampTzGetDatum(version->from));
	set_value(slot, places->valid_to, TimestampTzGetDatum(version->to));
	set_value(slot, places->is_deleted, BoolGetDatum(version->is_deleted));
	set_value(slot, places->recorded_at,
			  TimestampTzGetDatum(version->recorded_at));
	set_value(slot, places->row_hash, Int64GetDatum(version->row_hash));
}

/* The leaf of the slot's key: the table itself, or one of its partitions. */
static ResultRelInfo *
route(HistoryStore *store, TupleTableSlot *slot)
{
	if (store->routing == NULL)
		return store->target;
	return ExecFindPartition(store->modify, store->target, store->routing,
							 slot, store->estate);
}

static Leaf *
find_leaf(HistoryStore *store, ResultRelInfo *info)
{
	ListCell   *cell;
	Leaf	   *leaf;
	MemoryContext old;

	foreach(cell, store->leaves)
		if (((Leaf *) lfirst(cell))->info == info)
		return lfirst(cell);
	old = MemoryContextSwitchTo(store->estate->es_query_cxt);
	leaf = palloc0(sizeof(Leaf));
	open_leaf(store, leaf, info, "valid_from");
	store->leaves = lappend(store->leaves, leaf);
	MemoryContextSwitchTo(old);
	return leaf;
}

/*
 * The next row of a search.  A scan allocates what it keeps where it is
 * called, which must live as long as it does.
 */
static bool
next_row(HistoryStore *store, Leaf *leaf)
{
	MemoryContext old =
	MemoryContextSwitchTo(store->estate->es_query_cxt);
	bool		found = index_getnext_slot(leaf->scan, ForwardScanDirection,
										   leaf->slot);

	MemoryContextSwitchTo(old);
	return found;
}

static void
begin_search(HistoryStore *store, Leaf *leaf, const Datum *key)
{
	History    *history = store->merge->history;
	MemoryContext old =
	MemoryContextSwitchTo(store->estate->es_query_cxt);

	for (int i = 0; i < history->key_count; i++)
		store->keys[i].sk_argument = key[history->key_columns[i]];
	index_rescan(leaf->scan, store->keys, history->key_count, NULL, 0);
	MemoryContextSwitchTo(old);
}

/* A copy of the columns of a row of the target, with what it is unknown. */
void
history_read_row(History *history, TupleTableSlot *slot,
				 HistoryVersion *version)
{
	TupleDesc	desc = slot->tts_tupleDescriptor;
	HeapTuple	tuple = ExecCopySlotHeapTuple(slot);
	int			written = HeapTupleHeaderGetNatts(tuple->t_data);
	Datum	   *values = palloc(sizeof(Datum) * desc->natts);
	bool	   *nulls = palloc(sizeof(bool) * desc->natts);
	const HistoryPlaces *places = &history->places;

	heap_deform_tuple(tuple, desc, values, nulls);
	version->tid = slot->tts_tid;
	version->from = DatumGetTimestampTz(values[places->valid_from - 1]);
	version->to = DatumGetTimestampTz(values[places->valid_to - 1]);
	version->is_deleted = DatumGetBool(values[places->is_deleted - 1]);
	version->recorded_at =
		DatumGetTimestampTz(values[places->recorded_at - 1]);
	version->row_hash = DatumGetInt64(values[places->row_hash - 1]);
	version->values = palloc(sizeof(Datum) * history->column_count);
	version->nulls = palloc(sizeof(bool) * history->column_count);
	for (int i = 0; i < history->column_count; i++)
	{
		HistoryColumn *column = &history->columns[i];

		version->values[i] = values[column->target - 1];
		version->nulls[i] = nulls[column->target - 1];
		if (version->nulls[i] &&
			(column->target > written ||
			 version->recorded_at < column->added_at))
			version->unknown = bms_add_member(version->unknown, i);
	}
}

/* Reads the stored versions of a key, oldest first. */
void
history_load_versions(HistoryStore *store, const Datum *key,
					  HistoryTimeline *timeline)
{
	History    *history = store->merge->history;
	Leaf	   *leaf;

	if (store->routing)
	{
		fill_slot(store->target_slot, history, key, store->merge->key_nulls,
				  offsetof(HistoryColumn, target));
		ExecStoreVirtualTuple(store->target_slot);
	}
	leaf = find_leaf(store, route(store, store->target_slot));
	begin_search(store, leaf, key);
	while (next_row(store, leaf))
	{
		HistoryVersion *version = history_add_stored(timeline);

		history_read_row(history, leaf->slot, version);
		version->leaf = leaf->info;
	}
}

/* The columns that a row of __observed says its source lacked. */
static Bitmapset *
missing_columns(History *history, Datum value)
{
	Datum	   *names;
	int			count;
	Bitmapset  *missing = NULL;

	deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false,
					  TYPALIGN_INT, &names, NULL, &count);
	for (int i = 0; i < count; i++)
	{
		int			c = history_find_column(history,
											TextDatumGetCString(names[i]));

		if (c >= 0)
			missing = bms_add_member(missing, c);
	}
	return missing;
}

static HistoryFact *
read_observed(History *history, TupleTableSlot *slot, bool *is_sighting)
{
	TupleDesc	desc = slot->tts_tupleDescriptor;
	HeapTuple	tuple = ExecCopySlotHeapTuple(slot);
	int			written = HeapTupleHeaderGetNatts(tuple->t_data);
	Datum	   *values = palloc(sizeof(Datum) * desc->natts);
	bool	   *nulls = palloc(sizeof(bool) * desc->natts);
	HistoryFact *fact = palloc0(sizeof(HistoryFact));
	const HistoryPlaces *places = &history->observed_places;
	char	   *observation;

	heap_deform_tuple(tuple, desc, values, nulls);
	fact->origin = HISTORY_FROM_OBSERVED;
	fact->at = DatumGetTimestampTz(values[places->observed_at - 1]);
	observation = TextDatumGetCString(values[places->observation - 1]);
	fact->is_delete = strcmp(observation, "delete") == 0;
	*is_sighting = strcmp(observation, "seen") == 0;
	fact->is_remembered = true;
	fact->is_in_observed = true;
	fact->values = palloc(sizeof(Datum) * history->column_count);
	fact->nulls = palloc(sizeof(bool) * history->column_count);
	if (!nulls[places->missing - 1])
		fact->unknown = missing_columns(history, values[places->missing - 1]);
	for (int i = 0; i < history->column_count; i++)
	{
		AttrNumber	place = history->columns[i].observed;

		fact->values[i] = values[place - 1];
		fact->nulls[i] = nulls[place - 1];
		if (fact->nulls[i] &&
			(place > written ||
			 DatumGetTimestampTz(values[places->recorded_at - 1]) <
			 history->columns[i].added_at))
			fact->unknown = bms_add_member(fact->unknown, i);
	}
	return fact;
}

/* Reads what __observed has of a key. */
void
history_load_observed(HistoryStore *store, const Datum *key,
					  HistoryTimeline *timeline)
{
	Leaf	   *leaf = &store->observed;

	begin_search(store, leaf, key);
	while (next_row(store, leaf))
	{
		bool		is_sighting;
		HistoryFact *fact = read_observed(store->merge->history, leaf->slot,
										  &is_sighting);
		HistorySighting *sighting;

		if (!is_sighting)
		{
			history_add_fact(timeline, fact);
			continue;
		}
		sighting = palloc0(sizeof(HistorySighting));
		sighting->at = fact->at;
		sighting->present = true;
		sighting->is_remembered = true;
		sighting->is_in_observed = true;
		sighting->values = fact->values;
		sighting->nulls = fact->nulls;
		sighting->unknown = fact->unknown;
		timeline->seen = lappend(timeline->seen, sighting);
	}
}

static void
insert_slot(HistoryStore *store, ResultRelInfo *info, TupleTableSlot *slot)
{
	ExecStoreVirtualTuple(slot);
	slot->tts_tableOid = RelationGetRelid(info->ri_RelationDesc);
	ExecSimpleRelationInsert(info, store->estate, slot);
	ResetPerTupleExprContext(store->estate);
}

/* Copies a stored version to __superseded. */
void
history_store_supersede(HistoryStore *store, const HistoryVersion *version,
						TimestampTz at)
{
	History    *history = store->merge->history;

	fill_slot(store->superseded_slot, history, version->values,
			  version->nulls, offsetof(HistoryColumn, superseded));
	set_times(store->superseded_slot, &history->superseded_places, version);
	set_value(store->superseded_slot,
			  history->superseded_places.superseded_at,
			  TimestampTzGetDatum(at));
	insert_slot(store, store->superseded, store->superseded_slot);
}

static TupleTableSlot *
version_slot(HistoryStore *store, const HistoryVersion *version)
{
	History    *history = store->merge->history;

	fill_slot(store->target_slot, history, version->values, version->nulls,
			  offsetof(HistoryColumn, target));
	set_times(store->target_slot, &history->places, version);
	return store->target_slot;
}

void
history_store_insert(HistoryStore *store, const HistoryVersion *version)
{
	TupleTableSlot *slot = version_slot(store, version);

	if (store->routing)
		ExecStoreVirtualTuple(slot);
	insert_slot(store, route(store, slot), slot);
}

void
history_store_update(HistoryStore *store, const HistoryVersion *stored,
					 const HistoryVersion *version)
{
	TupleTableSlot *slot = version_slot(store, version);

	ExecStoreVirtualTuple(slot);
	slot->tts_tableOid = RelationGetRelid(stored->leaf->ri_RelationDesc);
	store->old_slot->tts_tid = stored->tid;
	ExecSimpleRelationUpdate(stored->leaf, store->estate, &store->epq,
							 store->old_slot, slot);
	ResetPerTupleExprContext(store->estate);
}

void
history_store_delete(HistoryStore *store, const HistoryVersion *stored)
{
	store->old_slot->tts_tid = stored->tid;
	ExecSimpleRelationDelete(stored->leaf, store->estate, &store->epq,
							 store->old_slot);
	ResetPerTupleExprContext(store->estate);
}

static Datum
missing_array(History *history, const Bitmapset *unknown)
{
	Datum	   *names = palloc(sizeof(Datum) * history->column_count);
	int			count = 0;

	for (int i = -1; (i = bms_next_member(unknown, i)) >= 0;)
		names[count++] = CStringGetTextDatum(history->columns[i].name);
	return PointerGetDatum(construct_array(names, count, TEXTOID, -1, false,
										   TYPALIGN_INT));
}

/* Remembers a record, a delete or a sighting in __observed. */
void
history_store_observe(HistoryStore *store, const HistoryFact *fact,
					  const char *observation)
{
	History    *history = store->merge->history;
	const HistoryPlaces *places = &history->observed_places;
	TupleTableSlot *slot = store->observed_slot;

	fill_slot(slot, history, fact->values, fact->nulls,
			  offsetof(HistoryColumn, observed));
	set_value(slot, places->observed_at, TimestampTzGetDatum(fact->at));
	set_value(slot, places->observation,
			  CStringGetTextDatum(observation));
	set_value(slot, places->recorded_at,
			  TimestampTzGetDatum(store->merge->now));
	if (!bms_is_empty(fact->unknown))
		set_value(slot, places->missing,
				  missing_array(history, fact->unknown));
	insert_slot(store, store->observed.info, slot);
}

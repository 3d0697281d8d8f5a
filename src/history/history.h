/*-------------------------------------------------------------------------
 *
 * history.h
 *		What the files of room history share; no other room includes it.
 *
 * A merge goes through these files in this order:
 *
 *	source.c	what the source is, and the query that reads it
 *	drift.c		the source's columns against the history's
 *	columns.c	the history, opened: its columns, what each means
 *	join.c		each record against the version valid at its time (walk.c,
 *				table.c); those that change nothing (repeat.c) are done with
 *	facts.c		all that is known about a key that is left
 *	timeline.c	the versions that follow from it
 *	apply.c		what differs from the versions stored, written
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_HISTORY_H
#define VISAGE_HISTORY_H

#include "core/core.h"
#include "executor/tuptable.h"
#include "nodes/bitmapset.h"
#include "nodes/execnodes.h"
#include "utils/rel.h"
#include "utils/snapshot.h"
#include "utils/tuplesort.h"
#include "utils/tuplestore.h"

/* The rows of __observed that are not about one key. */
#define HISTORY_ABOUT_ALL \
	"observation NOT IN ('record', 'delete', 'seen')"

/* A record that much later than now is an error of its source: a century. */
#define HISTORY_FAR_FUTURE (INT64CONST(36525) * USECS_PER_DAY)

/* What a column of the source means to the history. */
typedef enum HistoryRole
{
	HISTORY_KEY,
	HISTORY_SEQUENCE,
	HISTORY_TRACKED,			/* type 2: a change opens a version */
	HISTORY_FIXED,				/* type 0: the first value stays */
	HISTORY_OVERWRITTEN,		/* type 1: the latest value of a version */
	HISTORY_END					/* where the source says a version ends */
} HistoryRole;

#define HISTORY_ROLE(role) (1 << (role))

/* A column that came from the source. */
typedef struct HistoryColumn
{
	char	   *name;			/* as it is, and quoted */
	char	   *quoted;
	char	   *type;			/* as SQL writes it */
	Oid			type_oid;
	int32		typmod;
	Oid			collation;
	HistoryRole role;
	bool		by_value;
	int16		length;
	bool		has_equality;
	bool		has_hash;
	bool		has_order;
	FmgrInfo	equality;
	FmgrInfo	hash;
	FmgrInfo	order;
	uint64		seed;			/* of its part of a row's hash */
	AttrNumber	target;			/* its place in the tables */
	AttrNumber	superseded;
	AttrNumber	observed;
	int			source;			/* its place in the source's row, or -1 */
	TimestampTz added_at;		/* versions recorded before do not know it */
} HistoryColumn;

/* The places of the columns that the history itself adds. */
typedef struct HistoryPlaces
{
	AttrNumber	valid_from;
	AttrNumber	valid_to;
	AttrNumber	is_deleted;
	AttrNumber	recorded_at;
	AttrNumber	row_hash;
	AttrNumber	superseded_at;
	AttrNumber	observed_at;
	AttrNumber	observation;
	AttrNumber	missing;
} HistoryPlaces;

typedef enum HistoryDeletes
{
	HISTORY_DELETES_IGNORE,
	HISTORY_DELETES_INVALIDATE,
	HISTORY_DELETES_NEW_RECORD
} HistoryDeletes;

typedef struct History
{
	char	   *name;			/* "history.x", the noun's name */
	char	   *table;			/* "x" */
	char	   *target;			/* qualified and quoted */
	char	   *superseded;
	char	   *observed;
	Jsonb	   *definition;
	char	  **keys;			/* names, as they are */
	int			key_count;
	char	  **sequence;		/* none: the time of the merge */
	int			sequence_count;
	char	  **tracked;
	int			tracked_count;
	bool		tracks_all;
	char	  **fixed;
	int			fixed_count;
	char	   *end;			/* valid_to_column, or NULL */
	char	   *delete_when;
	char	  **delete_columns; /* that delete_when looks at */
	int			delete_column_count;
	char	   *contract;
	HistoryDeletes deletes;

	/* of an opened history */
	Relation	relation;
	Relation	superseded_relation;
	Relation	observed_relation;
	HistoryColumn *columns;
	int			column_count;
	int		   *key_columns;	/* indexes into columns */
	int		   *sequence_columns;
	int			end_column;		/* or -1 */
	bool		has_fixed;
	bool		has_overwritten;
	HistoryPlaces places;		/* in the target */
	HistoryPlaces superseded_places;
	HistoryPlaces observed_places;
} History;

/* A column of a source. */
typedef struct HistorySourceColumn
{
	char	   *name;
	char	   *type;
	char	   *definition;		/* the type, with its collation */
	Oid			type_oid;
	int32		typmod;
	bool		ignored;		/* the contract does not let it in */
	bool		refused;		/* nor a record that has a value there */
} HistorySourceColumn;

typedef struct HistorySource
{
	char	   *from;			/* for a FROM clause, with alias s */
	HistorySourceColumn *columns;
	int			column_count;
	int			delete_place;	/* in the query's rows; -1: there is none */
	int			refused_place;
} HistorySource;

/* ---- what is known about a key ---- */

typedef enum HistoryOrigin
{
	HISTORY_FRESH,				/* came with this merge */
	HISTORY_FROM_OBSERVED,		/* a row of __observed */
	HISTORY_FROM_VERSION,		/* a version holds its columns */
	HISTORY_FROM_EXTRACT		/* an earlier extract had the same as before */
} HistoryOrigin;

typedef struct HistoryFact
{
	TimestampTz at;
	HistoryOrigin origin;
	bool		is_delete;
	Datum	   *values;			/* by column of the history */
	bool	   *nulls;
	Bitmapset  *unknown;		/* columns that its source lacked */
	bool		is_remembered;	/* a row of __observed says the same */
	bool		is_in_observed; /* a row of __observed has its sequence */
	bool		is_effective;	/* the last of its instant */
	bool		is_implied;		/* the versions say the same */
	bool		is_counted;		/* a fresh record, to be counted */
	List	   *parts;			/* facts of which it was put together, or NIL */
	int			known;			/* of parts: their order (order.c) */
	int64		rank;
	int64		second_rank;
} HistoryFact;

/* What a complete extract saw of the key. */
typedef struct HistorySighting
{
	TimestampTz at;
	bool		present;
	Datum	   *values;			/* whose tracked columns it had */
	bool	   *nulls;
	Bitmapset  *unknown;
	bool		is_remembered;	/* a row of __observed says the same */
	bool		is_in_observed; /* a row of __observed has its time */
} HistorySighting;

typedef struct HistoryVersion
{
	TimestampTz from;
	TimestampTz to;
	TimestampTz end;			/* where its source says it ends */
	bool		is_deleted;
	Datum	   *values;
	bool	   *nulls;
	Bitmapset  *unknown;
	HistoryFact *fact;			/* of new ones: whose columns it has */
	bool		is_exact;		/* all but the fixed ones of them */
	bool		is_kept;
	TimestampTz recorded_at;	/* of stored ones, from here on */
	int64		row_hash;
	ItemPointerData tid;
	ResultRelInfo *leaf;
} HistoryVersion;

typedef struct HistoryTimeline
{
	HistoryFact **facts;
	int			fact_count;
	int			fact_space;
	HistorySighting *sightings;
	int			sighting_count;
	List	   *seen;			/* sightings that __observed says */
	HistoryVersion *stored;
	int			stored_count;
	int			stored_space;
	HistoryVersion *versions;	/* what follows from facts and sightings */
	int			version_count;
	int			version_space;
} HistoryTimeline;

/* An extract, or a merge of single records at one time, done before. */
typedef struct HistoryExtract
{
	TimestampTz at;
	Bitmapset  *missing;
} HistoryExtract;

typedef struct HistoryCounts
{
	int64		inserted;
	int64		versioned;
	int64		corrected;
	int64		closed;
	int64		unchanged;
	int64		rejected;
} HistoryCounts;

/* A record of the source, at hand. */
typedef struct HistoryRecord
{
	Datum	   *values;			/* by column of the history */
	bool	   *nulls;
	bool		is_delete;
	TimestampTz at;
} HistoryRecord;

/* A stored version in memory: the hash of its key, and where it is. */
typedef struct HistoryEntry
{
	uint64		hash;
	BlockNumber block;
	OffsetNumber offset;		/* 0: nothing here */
	uint16		leaf:14;
	uint16		is_seen:1;		/* a record repeats it */
	uint16		is_touched:1;	/* a record of its key says something else */
} HistoryEntry;

/* A stored version's columns, in place: valid until the next one is read. */
typedef struct HistoryRow
{
	TimestampTz from;
	Datum	   *values;
	bool	   *nulls;
	bool		is_unsure;		/* it does not know all columns */
	ItemPointerData tid;
} HistoryRow;

/* The most records that are looked up together. */
#define HISTORY_BATCH 32

typedef struct HistoryBatch HistoryBatch;	/* batch.c */
typedef struct HistoryTable HistoryTable;	/* table.c */
typedef struct HistoryWalk HistoryWalk; /* walk.c */
typedef struct HistorySeen HistorySeen; /* seen.c */
typedef struct HistoryTouched HistoryTouched;	/* touched.c */
typedef struct HistoryJoin HistoryJoin; /* join.c */

/* Where versions are found and written (store.c). */
typedef struct HistoryStore HistoryStore;

typedef struct HistoryMerge
{
	History    *history;
	HistorySource *source;
	HistoryStore *store;
	Snapshot	snapshot;
	bool		complete;
	bool		has_extract_at;
	TimestampTz extract_at;
	TimestampTz now;			/* the start of the transaction */
	HistoryExtract *extracts;	/* complete ones, oldest first */
	int			extract_count;
	TimestampTz newest;			/* no earlier merge had a later time */
	Bitmapset  *missing;		/* columns that the source lacks */
	bool		is_empty;		/* nothing was merged before */
	Bitmapset  *lacked;			/* columns that some record lacked before */
	bool		has_drifted;	/* a column was lacked or added before */
	bool	   *key_nulls;		/* of a row that is a key alone */
	Tuplestorestate *rejects;
	TupleDesc	reject_desc;
	TupleDesc	record_desc;
	HistoryCounts counts;
	MemoryContext context;		/* of the merge */
	MemoryContext key_context;	/* of what is known about one key */
} HistoryMerge;

/* columns.c */
extern History *history_describe(const char *name, Jsonb *definition);
extern History *history_find(Oid target);
extern char *history_key_match(const History *history, Oid relation,
							   const char *left, const char *right);
extern HistoryRole history_role(const History *history, const char *name);
extern void history_open(History *history);
extern void history_close(History *history);
extern int	history_find_column(const History *history, const char *name);
extern char *history_name_list(char **names, int count, const char *alias);
extern TimestampTz history_newest_column(const History *history);
extern TimestampTz history_time(const HistoryColumn *column, Datum value);

/* value.c */
extern void history_prepare_column(HistoryColumn *column);
extern bool history_same(HistoryColumn *column, Datum a, Datum b);
extern bool history_same_columns(History *history, int roles,
								 const Datum *values, const bool *nulls,
								 const Bitmapset *unknown,
								 const Datum *other_values,
								 const bool *other_nulls,
								 const Bitmapset *other_unknown);
extern uint64 history_hash(History *history, int roles, const Datum *values,
						   const bool *nulls);
extern int64 history_value_hash(HistoryColumn *column, Datum value,
								bool isnull);
extern uint64 history_key_hash(History *history, const Datum *values);
extern bool history_same_key(History *history, const Datum *a,
							 const Datum *b);
extern int	history_compare_sequence(History *history, const HistoryFact *a,
									 const HistoryFact *b);

/* source.c */
extern HistorySource *history_find_source(const char *source);
extern char *history_source_query(const History *history,
								  HistorySource *source);
extern void history_check_condition(History *history,
									const HistorySource *source);

/* tables.c */
extern void history_make_tables(History *history, const HistorySource *source,
								int partitions);
extern void history_make_readers(const History *history);
extern void history_check_source(const History *history,
								 const HistorySource *source);

/* drift.c */
extern void history_follow_source(History *history, HistorySource *source);

/* store.c */
extern HistoryStore *history_open_store(HistoryMerge *merge);
extern void history_close_store(HistoryStore *store);
extern bool history_store_is_empty(HistoryStore *store);
extern void history_load_versions(HistoryStore *store, const Datum *key,
								  HistoryTimeline *timeline);
extern void history_load_observed(HistoryStore *store, const Datum *key,
								  HistoryTimeline *timeline);
extern void history_store_supersede(HistoryStore *store,
									const HistoryVersion *version,
									TimestampTz at);
extern void history_store_insert(HistoryStore *store,
								 const HistoryVersion *version);
extern void history_store_update(HistoryStore *store,
								 const HistoryVersion *stored,
								 const HistoryVersion *version);
extern void history_store_delete(HistoryStore *store,
								 const HistoryVersion *stored);
extern void history_store_observe(HistoryStore *store,
								  const HistoryFact *fact,
								  const char *observation);
extern void history_read_row(History *history, TupleTableSlot *slot,
							 HistoryVersion *version);

/* timeline.c */
extern void history_add_fact(HistoryTimeline *timeline, HistoryFact *fact);
extern HistoryVersion *history_add_stored(HistoryTimeline *timeline);
extern void history_make_versions(History *history,
								  HistoryTimeline *timeline);

/* order.c */
extern void history_order_facts(HistoryMerge *merge,
								HistoryTimeline *timeline);

/* facts.c */
extern void history_merge_key(HistoryMerge *merge, const Datum *key,
							  List *fresh, bool is_seen);

/* apply.c */
extern void history_apply(HistoryMerge *merge, HistoryTimeline *timeline);

/* join.c */
extern HistoryJoin *history_read_source(HistoryMerge *merge,
										const char *query);
extern void history_merge_touched(HistoryJoin *join);

/* touched.c */
extern HistoryTouched *history_make_touched(HistoryMerge *merge, Size memory);
extern void history_begin_touched(HistoryTouched *touched);
extern TupleTableSlot *history_carry(HistoryTouched *touched,
									 const HistoryRecord *record,
									 uint64 hash);
extern TupleTableSlot *history_carrier_slot(const HistoryTouched *touched);
extern void history_read_carried(const HistoryTouched *touched,
								 TupleTableSlot *slot, HistoryRecord *record);
extern void history_touch(HistoryTouched *touched, const HistoryRecord *record,
						  uint64 hash);
extern void history_touch_absent(HistoryTouched *touched, HistoryTable *table);
extern void history_merge_sorted(HistoryTouched *touched, HistoryTable *table);
extern void history_merge_single(HistoryMerge *merge,
								 const HistoryRecord *record);
extern void history_free_touched(HistoryTouched *touched);

/* repeat.c */
extern bool history_may_repeat(const HistoryMerge *merge,
							   const HistoryRecord *record, TimestampTz from,
							   int *roles);
extern bool history_repeats(HistoryMerge *merge, const HistoryRecord *record,
							const HistoryRow *row);

/* walk.c */
extern HistoryWalk *history_begin_walk(HistoryMerge *merge,
									   HistoryTable *table);
extern bool history_walk_is_over(const HistoryWalk *walk);
extern bool history_walk_has_image(HistoryWalk *walk, TupleTableSlot *slot);
extern bool history_walk_image(HistoryWalk *walk, const HistoryRecord *record,
							   TupleTableSlot *slot);
extern bool history_walk_record(HistoryWalk *walk,
								const HistoryRecord *record);
extern void history_end_walk(HistoryWalk *walk);

/* batch.c */
extern HistoryBatch *history_make_batch(const History *history);
extern bool history_hold(HistoryBatch *batch, const HistoryRecord *record,
						 uint64 hash, TupleTableSlot *slot);
extern int	history_held(const HistoryBatch *batch, const uint64 **hashes);
extern const HistoryRecord *history_held_record(const HistoryBatch *batch,
												int i);
extern void history_let_go(HistoryBatch *batch);

/* seen.c */
extern HistorySeen *history_make_seen(Size memory);
extern void history_note_seen(HistorySeen *seen, uint64 hash);
extern bool history_seen_again(HistorySeen *seen, uint64 hash);

/* table.c */
extern HistoryTable *history_make_table(HistoryMerge *merge, Size memory);
extern void history_fill_table(HistoryTable *table, int partition);
extern int	history_table_partitions(const HistoryTable *table);
extern int	history_partition(const HistoryTable *table, uint64 hash);
extern HistoryEntry *history_find_entry(HistoryTable *table, uint64 hash,
										const Datum *key);
extern void history_prefetch(const HistoryTable *table, const uint64 *hashes,
							 int count);
extern HistoryEntry *history_next_unseen(HistoryTable *table, uint64 *place);
extern const HistoryRow *history_fetch_entry(HistoryTable *table,
											 const HistoryEntry *entry);
extern const HistoryRow *history_fetched(const HistoryTable *table);
extern bool history_is_wanted(const HistoryTable *table, TimestampTz from,
							  TimestampTz to, bool is_deleted);
extern bool history_begin_versions(HistoryTable *table);
extern TupleTableSlot *history_next_version(HistoryTable *table);
extern const HistoryRow *history_read_version(HistoryTable *table);
extern void history_enter_version(HistoryTable *table);
extern void history_mark_seen(HistoryTable *table, const ItemPointerData *tid);
extern void history_fill_rest(HistoryTable *table);
extern void history_free_table(HistoryTable *table);

/* reject.c */
extern void history_reject(HistoryMerge *merge, const Datum *values,
						   const bool *nulls, const char *reason);
extern void history_write_rejects(HistoryMerge *merge);

#endif							/* VISAGE_HISTORY_H */

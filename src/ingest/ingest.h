/*-------------------------------------------------------------------------
 *
 * ingest.h
 *		What the files of room ingest share; no other room includes it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_INGEST_H
#define VISAGE_INGEST_H

#include "core/core.h"
#include "datatype/timestamp.h"
#include "ingest/scan.h"
#include "ingest/split.h"
#include "net/net.h"
#include "nodes/execnodes.h"
#include "storage/fd.h"
#include "utils/resowner.h"

/* ---- what a manifest says ---- */

typedef enum PaginatorKind
{
	PAGES_SINGLE,
	PAGES_OFFSET,
	PAGES_NUMBER,
	PAGES_CURSOR,
	PAGES_HEADER_LINK,
	PAGES_JSON_LINK,
	PAGES_KEYSET
} PaginatorKind;

typedef enum KeysetBy
{
	KEYSET_CURSOR_AND_TIE,
	KEYSET_CURSOR,
	KEYSET_TIE
} KeysetBy;

typedef enum PageEnd
{
	END_SHORT_PAGE,
	END_EMPTY_PAGE,
	END_NO_NEXT
} PageEnd;

typedef struct IngestPaginator
{
	PaginatorKind kind;
	KeysetBy	by;
	PageEnd		end;
	int64		start;			/* the first page's number */
	char	   *path;			/* of the next cursor or link */
	char	   *create_path;
	char	   *has_more_path;
	char	   *total_path;
	char	   *rel;
	char	   *tie_break;
	bool		percent;		/* cursors come percent-encoded */
	bool		parallel;
	int64		max_pages;		/* 0: no limit */
	int64		max_records;
	char	   *at_limit;
	Jsonb	   *params;
	Jsonb	   *filter;
	Jsonb	   *create;
} IngestPaginator;

typedef struct IngestCursor
{
	char	   *field;			/* NULL: none, crawled whole each time */
	char	   *format;
	char	   *request_format;
	int64		granularity;	/* microseconds */
	bool		exclusive;		/* the system's lower bound */
	bool		to_inclusive;	/* the system's upper bound */
	bool		ordered;
} IngestCursor;

typedef struct IngestWindow
{
	char	   *step;			/* NULL: no windows */
	char	   *format;
	char	   *zone;
	int64		granularity;
	int64		minimum;
	bool		to_inclusive;
	char	   *max_age;
	char	   *end;
	char	   *initial;
} IngestWindow;

/* A stream as declared, with its source and manifest, read once a run. */
typedef struct IngestStream
{
	char	   *name;			/* "source.stream" */
	char	   *source;
	char	   *table;			/* "source__stream" in each layer */
	char	   *resource;		/* the outside name */
	char	   *base_url;
	int64		page_size;
	char	  **keys;			/* fields, not columns */
	int			key_count;
	char	   *initial_value;
	char	   *lag;
	char	   *disposition;
	char	   *contract;
	char	   *hard_deletes;
	char	   *keep_landing;
	bool		declared_columns;
	Jsonb	   *types;			/* field → type: the manifest's, then
								 * declared */
	Jsonb	   *options;		/* the source's and the stream's */
	Jsonb	   *secrets;		/* name → reference */
	Jsonb	   *manifest;
	Jsonb	   *endpoint;		/* the manifest with its stream's part */
	char	  **paths;			/* of nested values that become columns */
	int			path_count;
	char	  **flattened;		/* paths of objects to flatten */
	char	  **prefixes;		/* of the columns of their members */
	int			flattened_count;
	int			partition_count;	/* 1 where there are none */
	char	   *parent;			/* name of the parent stream, or NULL */
	char	   *parent_field;
	bool		spooled;		/* a query is applied at its end, in one go */
	struct IngestStream *tombstones;	/* its list of deleted records, or
										 * NULL */
	struct IngestStream *main;	/* of tombstones: the stream, else NULL */
	char	   *deleted_at;		/* of tombstones: path of the time, or NULL */
	IngestPaginator paginator;
	IngestCursor cursor;
	IngestWindow window;
	struct IngestDatabase *database;	/* of a source that is one, else NULL */
} IngestStream;

typedef struct IngestDatabase IngestDatabase;

/* ---- where a crawl is ---- */

/*
 * The query under way (its partition, window and parent) and the page in it.
 * Written with each page; a crawl goes on from here.
 */
typedef struct IngestPosition
{
	bool		under_way;		/* a crawl is not finished */
	int			partition;
	TimestampTz window_from;	/* both 0: no window yet */
	TimestampTz window_to;
	char	   *parent_mark;	/* of the last parent that is done */
	char	   *parent_key;
	char	   *value;			/* last record's cursor and tie */
	char	   *tie;
	int64		offset;
	int64		page;			/* pages of the query, from 0 */
	char	   *cursor;			/* of the next page */
	char	   *link;
	int64		page_hash;		/* of the page before, where it can be told */
	char	   *from;			/* where a restarted query begins */
	bool		query_done;		/* its last page is committed */
	int64		query_pages;
	int64		query_records;
	char	   *newest;			/* greatest cursor value of the crawl */
	char	   *began;			/* the crawl, by the system's clock */
} IngestPosition;

/* ---- records ---- */

typedef struct IngestField
{
	char	   *name;			/* as sent, a path where nested */
	size_t		name_length;
	char	   *column;			/* in staging */
	int			kinds;			/* ScanKind bits seen */
	int			key;			/* its place in the primary key, or -1 */
	bool		is_cursor;
	bool		is_tie;
	bool		is_plain;		/* none of these */
	bool		discarded;		/* by the schema contract: its values */
	bool		refused;		/* by the schema contract: its records */
} IngestField;

typedef struct IngestMember
{
	int			field;
	uint8		kind;			/* a ScanKind */
	bool		escaped;		/* a string that may have escapes */
	ScanSlice	value;
} IngestMember;

typedef struct IngestRecord
{
	ScanSlice	slice;
	char	   *key;			/* _source_key, NULL where illegible */
	const char *reason;			/* to quarantine for, or NULL */
	int			first_member;	/* in the batch's members */
	int			member_count;
	bool		deleted;		/* says that its key is deleted */
	bool		superseded;		/* a later record of the batch has its key */
	bool		again;			/* an earlier record of the batch has it */
} IngestRecord;

/* Records that are applied in one transaction: a page, or a part of it. */
typedef struct IngestBatch
{
	IngestRecord *records;
	int			count;
	IngestMember *members;
	int			member_count;
	char	   *first_value;	/* the first record's cursor */
	char	   *last_value;		/* the last record's cursor and tie */
	char	   *last_tie;
	char	   *newest;			/* greatest cursor value, unless ordered */
	const char *unplaced;		/* what the last record lacks of what pages go
								 * by, or NULL */
	bool		final;			/* the page ends with it */
	bool		whole;			/* it is all of the page */
	uint64		hash;			/* of its records' bytes */
	ScanSlice	envelope;		/* of a final batch */
} IngestBatch;

typedef struct IngestColumn
{
	char	   *name;
	Oid			type;
	int32		typmod;
	int			attnum;
	int			field;			/* index in fields, -1: not sent in this run */
	bool		inferred;		/* may be widened */
} IngestColumn;

/* ---- a run ---- */

typedef struct IngestReader IngestReader;
typedef struct IngestStore IngestStore;

/* What working needs to put back; see ingest.c. */
typedef struct IngestWork
{
	bool		open;
	CoreIdentity caller;
	MemoryContext context;
	ResourceOwner owner;
} IngestWork;

/* A page asked for, and where it is. */
typedef struct IngestFetch
{
	NetTransfer *transfer;
	NetRequest *request;
	IngestPosition at;
	MemoryContext context;
	int			retries;
	int			repeats;		/* because it brought nothing new */
	bool		refreshed;		/* a new token was fetched for it */
	int64		records;		/* read of the page so far */
	const char *unplaced;		/* as of its last batch */
} IngestFetch;

/* The parent records that queries are made for. */
typedef struct IngestParents
{
	char	  **marks;
	char	  **keys;
	Jsonb	  **records;
	int			count;
	int			next;
} IngestParents;

/* What a run has done so far, as visage.runs tells it. */
typedef struct IngestCounts
{
	int64		pages;
	int64		records;
	int64		landed;
	int64		quarantined;
	int64		deleted;
} IngestCounts;

/* What one CALL carries from page to page; lives in its own context. */
typedef struct IngestRun
{
	int64		run_id;
	IngestStream *stream;
	IngestWork	work;
	IngestPosition position;
	char	   *from_value;		/* where the crawl begins */
	int64		lag;			/* of windows, before from_value */
	char	   *to_value;		/* back-fill only */
	bool		back_fill;
	bool		complete;		/* the crawl reads all there is */
	bool		continuous;		/* in a worker: a run is of an hour */
	uint64	   *seen;			/* cursors and links of the query, hashed */
	int			seen_count;
	int			seen_allocated;
	IngestParents parents;
	Jsonb	   *parent;			/* the record that the query is for */
	char	   *token;			/* of an oauth2 or service account */
	TimestampTz token_until;
	IngestField *fields;
	int			field_count;
	int			field_allocated;
	IngestColumn *columns;		/* of the staging table */
	int			column_count;
	Oid			sequence;		/* of landing's _id */
	Oid			partition;		/* of landing, for today */
	int			partition_day;	/* the day that it was found for */
	int			careful;		/* groups to look keys up for, see land.c; -1:
								 * not known yet */
	int			mistakes;		/* groups it was left out for in vain */
	List	   *warnings;		/* of the manifest's rules, given already */
	IngestCounts counts;
	IngestRecord *record_room;	/* for a batch's, from one to the next */
	int			record_room_count;
	IngestMember *member_room;
	int			member_room_count;
	MemoryContext context;
	MemoryContext page_context;
	MemoryContext batch_context;	/* values of a batch */
	MemoryContext row_context;	/* values of a group of rows */
	NetSession *net;
	IngestFetch *queue[33];		/* pages asked for, in order */
	int			queue_count;
	struct DatabaseCrawl *database; /* of a source that is one */
	File		spool;			/* pages of a spooled query, 0: none */
	int64		spool_size;
} IngestRun;

/* stream.c */
extern IngestStream *ingest_read_stream(const char *name);
extern IngestStream *ingest_read_declared(const char *name, Jsonb *declared);

/* source.c, alter.c: declarations, and what of them may change */
extern void ingest_check_source(const char *name, Jsonb *manifest);
extern void ingest_check_declared(const char *name);
extern void ingest_check_change(const char *name, Jsonb *definition);
extern int64 ingest_run_under_way(const char *name);
extern void ingest_require_resumed(const char *name);

/* manifest.c */
extern void ingest_check_manifest(Jsonb *manifest, const char *connector);
extern Jsonb *ingest_endpoint(Jsonb *manifest, const char *stream);
extern bool ingest_is_renamed(Jsonb *endpoint, const char *field);
extern char *ingest_column(Jsonb *endpoint, const char *field);
extern char *ingest_key_column(const IngestStream *stream, int key);
extern Jsonb *ingest_overlay(Jsonb *base, Jsonb *part);
extern void ingest_read_endpoint(IngestStream *stream);
extern int64 ingest_duration(const char *text);

/* template.c: {variables} in text, URLs and JSON */

/*
 * A variable's value, or NULL where it has none.  *secret is set where the
 * value must not be shown.
 */
typedef char *(*IngestLookup) (void *arg, const char *name, bool *secret);

typedef struct IngestScope
{
	IngestLookup lookup;
	void	   *arg;
	const char *item;			/* {item} of $each */
	bool		double_quotes;	/* of values that came from outside */
	bool		encode;			/* percent-encode values */
	bool		secret;			/* a secret was used */
	bool		missing;		/* a variable had no value */
} IngestScope;

extern char *ingest_fill(const char *template, IngestScope *scope);
extern char *ingest_fill_json(Jsonb *template, IngestScope *scope,
							  Jsonb *options);
extern void ingest_append_encoded(StringInfo text, const char *value,
								  const char *permitted);
extern void ingest_append_param(StringInfo url, const char *name,
								const char *value);
extern char *ingest_decode_percent(const char *text);

/* variables.c */
typedef struct IngestVariables
{
	IngestRun  *run;
	const IngestPosition *at;
} IngestVariables;

extern char *ingest_variable(void *arg, const char *name, bool *secret);

/* instant.c: cursor values and bounds as instants */
extern bool ingest_parse_instant(const char *text, const char *format,
								 TimestampTz *instant);
extern char *ingest_format_instant(TimestampTz instant, const char *format,
								   const char *zone);
extern int	ingest_compare_values(const char *format, const char *a,
								  const char *b);
extern char *ingest_shift_value(const char *value, const char *from_format,
								const char *to_format, int64 shift);

/* request.c */
extern NetRequest *ingest_build_request(IngestRun *run,
										const IngestPosition *at);
extern NetRequest *ingest_build_other(IngestRun *run, Jsonb *request,
									  const IngestPosition *at);
extern void ingest_add_header(NetRequest *request, const char *name,
							  const char *value, bool credential);

/* auth.c */
extern void ingest_authenticate(IngestRun *run, NetRequest *request);
extern bool ingest_forget_token(IngestRun *run);

/* respond.c */
typedef enum IngestAction
{
	ACTION_ACCEPT,
	ACTION_RETRY,
	ACTION_FAIL,
	ACTION_IGNORE,
	ACTION_SPLIT,
	ACTION_REFRESH
} IngestAction;

extern IngestAction ingest_await_answer(IngestRun *run, IngestFetch *fetch);
extern void ingest_retry(IngestRun *run, IngestFetch *fetch,
						 const char *problem);
extern bool ingest_splits_at(const IngestRun *run, int64 records);
extern char *ingest_call(IngestRun *run, NetRequest *request,
						 const char *what);
extern char *ingest_judge_once(IngestRun *run, NetTransfer *transfer);
extern char *ingest_call_ruled(IngestRun *run, Jsonb *spec,
							   const char *what);

/* query.c: partition, window and parent of a query */
extern bool ingest_first_query(IngestRun *run);
extern bool ingest_resume_query(IngestRun *run);
extern bool ingest_next_query(IngestRun *run);
extern void ingest_reset_query(IngestPosition *position);
extern void ingest_split_window(IngestRun *run);
extern char *ingest_next_cursor(const IngestRun *run);

/* paginate.c */
extern bool ingest_advance(IngestRun *run, const IngestFetch *fetch,
						   const IngestBatch *batch, IngestPosition *next);
extern bool ingest_predict(const IngestRun *run, const IngestPosition *at,
						   IngestPosition *next);
extern bool ingest_at_limit(const IngestRun *run, const IngestPosition *next);
extern bool ingest_pass_limit(const IngestRun *run, const IngestBatch *batch,
							  IngestPosition *next);
extern bool ingest_brings_on(const IngestRun *run, const IngestFetch *fetch,
							 const IngestBatch *batch);

/* position.c */
extern char *ingest_write_position(const IngestPosition *position);
extern void ingest_read_position(IngestPosition *position, Jsonb *from);
extern void ingest_copy_position(IngestPosition *to,
								 const IngestPosition *from);

/* reader.c */
extern IngestReader *ingest_open_reader(IngestRun *run, IngestFetch *fetch);
extern IngestBatch *ingest_next_batch(IngestReader *reader, char **problem);
extern void ingest_batch_done(IngestReader *reader);

/* shape.c */
typedef struct IngestShape IngestShape;

extern IngestShape *ingest_open_shape(IngestRun *run,
									  const IngestPosition *at);
extern bool ingest_shape_records(IngestShape *shape, Split *split,
								 char **problem);

/* page.c */
extern IngestBatch *ingest_read_records(IngestRun *run, const Split *split,
										char **problem);

/* spool.c */
extern void ingest_spool_append(IngestRun *run, const void *data,
								size_t length);
extern void ingest_spool_read(IngestRun *run, void *to, size_t length,
							  int64 offset);
extern void ingest_spool_page(IngestRun *run, const IngestBatch *batch);
extern void ingest_drop_spool(IngestRun *run);
extern void ingest_apply_spool(IngestRun *run);

/* crawl.c */
extern void ingest_crawl(IngestRun *run);
extern void ingest_end_fetches(IngestRun *run);

/* work.c: a step of work, again and again until it gets its locks */
typedef void (*IngestStep) (IngestRun *run, void *arg);

extern void ingest_work(IngestRun *run, IngestStep step, void *arg);
extern bool ingest_try_work(IngestRun *run, IngestStep step, void *arg,
							int64 patience);

/* check.c */
extern Jsonb *ingest_manifest_of(const char *source);
extern IngestStream *ingest_read_undeclared(const char *source,
											const char *resource);

/* worker.c */
extern bool ingest_in_worker(void);

/* ingest.c: from talking to working and back; see there */
extern void ingest_begin_work(IngestRun *run);
extern void ingest_relax_commit(void);
extern void ingest_end_work(IngestRun *run);
extern void ingest_abandon_work(IngestRun *run);
extern void ingest_save_position(IngestRun *run);
extern void ingest_save_run(IngestRun *run);
extern void ingest_pin_settings(void);
extern IngestRun *ingest_make_run(MemoryContext context);
extern NetSession *ingest_open_session(IngestRun *run);

/* landing.c */
extern void ingest_prepare_landing(IngestRun *run);
extern Oid	ingest_landing_partition(const IngestRun *run);
extern Oid	ingest_landing_sequence(const IngestRun *run);
extern void ingest_tidy_landing(IngestRun *run);

/* tables.c */
extern void ingest_prepare_staging(IngestRun *run);
extern Oid	ingest_column_type(const char *column, const char *declared,
							   int32 *typmod);

/* contract.c: what may change in staging, and does */
extern const char *ingest_inferred_type(int kinds);
extern char *ingest_declared_type(const IngestStream *stream,
								  const IngestField *field);
extern bool ingest_is_text_only(const IngestStream *stream);
extern bool ingest_may_add(IngestRun *run, IngestField *field,
						   const char *type);
extern bool ingest_widen_columns(IngestRun *run);
extern bool ingest_fits(const IngestColumn *column, ScanKind kind);
extern void ingest_note_change(IngestRun *run, const char *column,
							   const char *change, const char *before,
							   const char *after);

/* type.c, encode.c: from JSON to values */
typedef struct IngestInput IngestInput;

/* Room for the values of rows, which all go at once with their context. */
typedef struct IngestRoom
{
	MemoryContext context;
	char	   *next;
	char	   *end;
} IngestRoom;

extern IngestInput *ingest_open_input(Oid type, int32 typmod,
									  bool text_only);
extern Datum ingest_input(IngestInput *input, const IngestMember *member,
						  IngestRoom *room);
extern void *ingest_take_room(IngestRoom *room, Size size);
extern Datum ingest_encode(ScanSlice value);

typedef struct IngestEncoder
{
	int			count;
	int		   *rank;			/* field → its place in jsonb's order */
	const char **names;			/* in that order, and their lengths */
	int		   *lengths;
	const IngestMember **members;	/* of a record, in that order */
	int		   *starts;			/* of their values in the buffer */
	int		   *ends;
	bool		plain;			/* members are the record's own */
	bool		encoded;		/* the last record is in the buffer */
	StringInfoData buffer;
} IngestEncoder;

extern void ingest_open_encoder(IngestEncoder *encoder, const IngestRun *run);
extern Jsonb *ingest_encode_record(IngestEncoder *encoder,
								   const IngestRecord *record,
								   const IngestMember *members);
extern bool ingest_encoded_container(const IngestEncoder *encoder,
									 const IngestMember *member,
									 IngestRoom *room, Datum *jsonb);

/* store.c: rows into landing and staging */
typedef struct IngestStored
{
	int64		landed;
	int64		deleted;
	int64		found;			/* keys that were there */
	bool		trusting;		/* keys were taken for new, not looked up */
} IngestStored;

extern IngestStore *ingest_open_store(IngestRun *run, int records);
extern void ingest_store(IngestStore *store, const IngestBatch *batch,
						 IngestRecord **records, int count,
						 IngestStored *stored, int *at);
extern void ingest_store_failed(IngestStore *store);
extern void ingest_close_store(IngestStore *store);
extern int	ingest_store_capacity(const IngestStore *store);
extern bool ingest_store_is_empty(const IngestStore *store);
extern bool ingest_store_may_trust(const IngestStore *store);

/* land.c */
extern void ingest_apply_batch(IngestRun *run, IngestBatch *batch);
extern void ingest_quarantine(IngestRun *run, const IngestRecord *record,
							  const char *reason);

/* complete.c */
extern bool ingest_tracks_seen(const IngestRun *run);
extern void ingest_begin_seen(IngestRun *run);
extern void ingest_note_seen(IngestRun *run, IngestRecord **records,
							 int count);
extern void ingest_delete_unseen(IngestRun *run);

/* database.c, database_source.c: sources that are databases */
extern bool ingest_is_database(Jsonb *manifest);
extern void ingest_check_database_source(Jsonb *options);
extern void ingest_read_database(IngestStream *stream,
								 Jsonb *source_options);
extern void ingest_try_database(const char *source);
extern void ingest_discover_database(const char *source,
									 ReturnSetInfo *result);
extern void ingest_read_database_position(IngestRun *run, bool full_refresh);
extern void ingest_crawl_database(IngestRun *run);
extern void ingest_finish_database(IngestRun *run);

/* merge.c */
extern char *ingest_merge_history(IngestRun *run);

#endif							/* VISAGE_INGEST_H */

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
#include "ingest/scan.h"
#include "net/net.h"

/* A stream as declared, with its source and manifest, read once a run. */
typedef struct IngestStream
{
	char	   *name;			/* "source.stream" */
	char	   *table;			/* "source__stream" in each layer */
	char	   *resource;		/* the outside name */
	char	   *base_url;
	int64		page_size;
	char	  **keys;			/* fields, not columns */
	int			key_count;
	char	   *cursor_field;	/* NULL: crawled whole each time */
	char	   *tie_break;		/* keyset paginators only */
	char	   *initial_value;
	char	   *lag;
	char	   *disposition;
	char	   *keep_landing;
	Jsonb	   *types;			/* field → type: the manifest's, then
								 * declared */
	Jsonb	   *options;		/* of the stream */
	Jsonb	   *secrets;		/* name → reference */
	Jsonb	   *manifest;
	Jsonb	   *paginator;
} IngestStream;

/* Where a crawl is: keyset by value and tie, or offset. */
typedef struct IngestPosition
{
	char	   *value;			/* last cursor value, NULL at the start */
	char	   *tie;
	int64		offset;
	bool		resumed;		/* value and tie are of an unfinished crawl */
} IngestPosition;

typedef struct IngestField
{
	char	   *name;			/* as sent */
	char	   *column;			/* in staging */
	int			kinds;			/* ScanKind bits seen */
} IngestField;

typedef struct IngestRecord
{
	ScanSlice	slice;
	char	   *key;			/* _source_key, NULL where illegible */
	const char *reason;			/* to quarantine for, or NULL */
} IngestRecord;

typedef struct IngestPage
{
	IngestRecord *records;
	int			count;
	char	   *last_value;		/* the last record's cursor and tie */
	char	   *last_tie;
} IngestPage;

typedef struct IngestColumn
{
	char	   *name;
	char	   *type;
	int			field;			/* index in fields, -1: not sent in this run */
} IngestColumn;

/* What one CALL carries from page to page; lives in its own context. */
typedef struct IngestRun
{
	int64		run_id;
	IngestStream *stream;
	IngestPosition position;
	char	   *from_value;		/* back-fill only */
	char	   *to_value;
	bool		back_fill;
	IngestField *fields;
	int			field_count;
	int			field_allocated;
	IngestColumn *columns;		/* of the staging table */
	int			column_count;
	SPIPlanPtr	plan;			/* applies a page; NULL after a change */
	int			partition_day;	/* last day with a landing partition */
	int64		pages;
	int64		records;
	int64		landed;
	int64		quarantined;
	MemoryContext context;
	MemoryContext page_context;
	NetSession *net;
} IngestRun;

/* stream.c */
extern IngestStream *ingest_read_stream(const char *name);

/* request.c */
extern NetRequest *ingest_build_request(const IngestRun *run);

/* crawl.c */
extern IngestPage *ingest_fetch_page(IngestRun *run);

/* page.c */
extern IngestPage *ingest_read_page(IngestRun *run, ScanSlice body,
									char **problem);

/* tables.c */
extern void ingest_prepare_landing(IngestRun *run);
extern void ingest_prepare_staging(IngestRun *run);
extern Oid	ingest_column_type(const char *column, const char *declared,
							   int32 *typmod);

/* merge.c */
extern char *ingest_merge_history(IngestRun *run);

/* land.c */
extern void ingest_apply_page(IngestRun *run, IngestPage *page);

#endif							/* VISAGE_INGEST_H */

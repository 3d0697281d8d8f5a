/*-------------------------------------------------------------------------
 *
 * database.h
 *		What the files of ingestion from databases share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_INGEST_DATABASE_H
#define VISAGE_INGEST_DATABASE_H

#include "ingest/ingest.h"

/* What a source and a stream say of a database. */
struct IngestDatabase
{
	NetDatabaseOptions options; /* but for the password */
	char	   *what;			/* as messages name it */
	char	   *relation;		/* quoted; NULL: a query */
	char	   *schema;			/* of the relation, not quoted */
	char	   *table;
	char	   *query;
	bool		by_cursor;		/* new rows are found by the cursor alone */
	bool		by_system;		/* cursor_field is xmin */
};

/* A column of the source, in the order in which they come. */
typedef struct DatabaseColumn
{
	char	   *name;
	Oid			type;			/* at the source, domains resolved */
	int			typmod;
	char	   *type_name;		/* as the source spells it */
	bool		built_in;		/* its type, or its element's */
	char	   *base_name;		/* of the type itself */
	Oid			element;		/* of an array, domains resolved */
	char	   *element_name;
	char	   *array_name;		/* of that element */

	char	   *cast;			/* at the source, NULL: none */
	char	   *local_type;		/* of the staging column */
	bool		as_text;		/* read by the type's input function */
	bool		refused;		/* by the schema contract: its rows */
	int			attnum;			/* in the table, 0: not stored */
	Oid			attribute_type;
	int32		attribute_typmod;
	FmgrInfo	function;
	Oid			parameter;
} DatabaseColumn;

/* What reads rows; a byte behind a field is lent to it while it is read. */
typedef struct DatabaseReader
{
	DatabaseColumn *columns;
	int			count;
	char	   *lent;			/* NULL: none is */
	char		byte;
} DatabaseReader;

/* A crawl of a database. */
typedef struct DatabaseCrawl
{
	NetDatabase *connection;
	MemoryContext context;
	DatabaseColumn *columns;
	int			column_count;

	/* from visage.stream_states */
	char	   *cursor_value;
	Jsonb	   *watermark;
	int64		first_run;		/* of the crawl under way; 0: none was */
	bool		fresh;			/* staging was empty when it began */

	/* the source's snapshot */
	int64		xmin;			/* with its epoch */
	int64		xmax;
	char	   *system;			/* identifier and timeline, "" if not told */
	char	   *tables;			/* of the relation, a fingerprint */
	bool		has_xmin;		/* its rows tell who wrote them */
	bool		whole;			/* all rows are read */
	char	   *next_cursor;
	char	   *keys;			/* temporary table of all keys, or NULL */
	NetDatabasePage pages[2];
} DatabaseCrawl;

/* database_columns.c */
extern void database_describe(IngestRun *run);
extern void database_map_columns(IngestRun *run);
extern void database_prepare_staging(IngestRun *run);
extern char *database_select_list(const IngestRun *run, bool keys_only);
extern const char *database_type_columns(void);
extern void database_map_type(DatabaseColumn *column, char **values);
extern void database_map_column(DatabaseColumn *column);

/* database_rows.c */
extern void database_apply_page(IngestRun *run, NetDatabasePage *page,
								NetDatabasePage *next, size_t wanted);

/* database_row.c: a row as it comes */
extern void database_open_reader(DatabaseReader *reader,
								 DatabaseColumn *columns, int count);
extern void database_read_row(DatabaseReader *reader, char *row,
							  size_t length, Datum *values, bool *nulls);
extern void database_take_back(DatabaseReader *reader);
extern const char *database_refused_column(const DatabaseReader *reader,
										   const char *row, size_t length);

/* database_spool.c */
extern void database_spool_page(IngestRun *run, const NetDatabasePage *page);
extern void database_apply_spool(IngestRun *run);

/* database_keys.c */
extern void database_copy_keys(IngestRun *run);
extern void database_delete_missing(IngestRun *run);

/* database.c */
extern NetDatabase *database_connect(IngestStream *stream,
									 MemoryContext context);
extern char *database_from(const IngestRun *run);
extern void database_begin_work(IngestRun *run);

#endif							/* VISAGE_INGEST_DATABASE_H */

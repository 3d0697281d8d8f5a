/*-------------------------------------------------------------------------
 *
 * database_keys.c
 *		Deletes in a database, by a complete extract of its keys.
 *
 * The keys of all rows are read in the snapshot of the crawl, into a temporary
 * table of this session, so neither memory nor the log grows with them.  Only
 * when the source has said that its COPY is complete are the rows of staging
 * deleted whose key is not there.  The table goes with the session: keys of
 * an extract that broke off are never used.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/namespace.h"
#include "core/core.h"
#include "core/settings.h"
#include "ingest/database.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#define MOST_SLOTS 1000

/* The columns of the key, as the key's table has them. */
typedef struct Keys
{
	DatabaseColumn *columns;
	int			count;
	DatabaseReader reader;
	Relation	relation;
	TupleTableSlot *slots[MOST_SLOTS];
	BulkInsertState bulk;
	int			filled;
} Keys;

/* The staging columns of the key, comma-separated, quoted. */
static char *
key_list(const IngestRun *run)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < run->field_count; i++)
		if (run->fields[i].key >= 0)
			appendStringInfo(&list, "%s%s", list.len ? ", " : "",
							 quote_identifier(run->fields[i].column));
	return list.data;
}

/* Makes the temporary table, in the order in which the keys come. */
static void
create_table(IngestRun *run)
{
	DatabaseCrawl *crawl = run->database;

	crawl->keys = MemoryContextStrdup(crawl->context,
									  psprintf("visage_keys_" INT64_FORMAT,
											   run->run_id));
	/* a crawl that failed in this session may have left it */
	core_execute(psprintf("DROP TABLE IF EXISTS pg_temp.%s", crawl->keys),
				 NULL, SPI_OK_UTILITY);
	core_execute(psprintf("CREATE TEMPORARY TABLE %s AS SELECT %s FROM %s"
						  " LIMIT 0", crawl->keys, key_list(run),
						  core_qualified(CORE_LAYER_STAGING,
										 run->stream->table)),
				 NULL, SPI_OK_UTILITY);
}

/* The key's columns, and the attributes that they go to. */
static void
open_columns(IngestRun *run, Keys *keys)
{
	DatabaseCrawl *crawl = run->database;

	keys->columns = MemoryContextAllocZero(crawl->context,
										   sizeof(DatabaseColumn) *
										   run->stream->key_count);
	for (int i = 0; i < crawl->column_count; i++)
		if (run->fields[i].key >= 0)
		{
			keys->columns[keys->count] = crawl->columns[i];
			keys->count++;
			keys->columns[keys->count - 1].attnum = keys->count;
		}
}

static void
flush(Keys *keys, MemoryContext context)
{
	if (keys->filled > 0)
		core_insert_slots(keys->relation, keys->slots, keys->filled,
						  keys->bulk, context);
	for (int i = 0; i < keys->filled; i++)
		ExecClearTuple(keys->slots[i]);
	keys->filled = 0;
	MemoryContextReset(context);
}

/* Puts a page of keys into the table, inside work. */
static void
store_page(IngestRun *run, Keys *keys, NetDatabasePage *page)
{
	Oid			table = RelnameGetRelid(run->database->keys);
	MemoryContext caller = CurrentMemoryContext;

	if (!OidIsValid(table))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("the temporary table of keys of stream \"%s\" is "
						"gone", run->stream->name)));
	keys->relation = table_open(table, RowExclusiveLock);
	keys->bulk = GetBulkInsertState();
	database_open_reader(&keys->reader, keys->columns, keys->count);
	for (int i = 0; i < MOST_SLOTS; i++)
		keys->slots[i] = table_slot_create(keys->relation, NULL);
	for (int i = 0; i < page->count; i++)
	{
		TupleTableSlot *slot = keys->slots[keys->filled++];

		CHECK_FOR_INTERRUPTS();
		memset(slot->tts_isnull, true, sizeof(bool) * keys->count);
		MemoryContextSwitchTo(run->row_context);
		database_read_row(&keys->reader, page->data + page->starts[i],
						  page->starts[i + 1] - page->starts[i],
						  slot->tts_values, slot->tts_isnull);
		MemoryContextSwitchTo(caller);
		ExecStoreVirtualTuple(slot);
		if (keys->filled == MOST_SLOTS)
			flush(keys, run->row_context);
	}
	flush(keys, run->row_context);
	for (int i = 0; i < MOST_SLOTS; i++)
		ExecDropSingleTupleTableSlot(keys->slots[i]);
	FreeBulkInsertState(keys->bulk);
	table_close(keys->relation, NoLock);
}

/* Reads the keys of all rows that the crawl's snapshot sees. */
void
database_copy_keys(IngestRun *run)
{
	DatabaseCrawl *crawl = run->database;
	NetDatabasePage *page = &crawl->pages[0];
	size_t		wanted = core_setting_int("visage.ingest_memory") * 1024 / 2;
	Keys		keys = {0};
	bool		more;

	database_begin_work(run);
	create_table(run);
	open_columns(run, &keys);
	ingest_end_work(run);
	net_database_copy(crawl->connection,
					  psprintf("COPY (SELECT %s FROM %s) TO STDOUT"
							   " (FORMAT binary)",
							   database_select_list(run, true),
							   database_from(run)));
	do
	{
		MemoryContextReset(run->page_context);
		MemoryContextSwitchTo(run->page_context);
		page->length = page->count = 0;
		more = net_database_read(crawl->connection, page, wanted);
		database_begin_work(run);
		store_page(run, &keys, page);
		ingest_save_run(run);
		ingest_relax_commit();
		ingest_end_work(run);
	} while (more);
}

/* "s.a = k.a AND …" over the key. */
static char *
key_condition(const IngestRun *run)
{
	StringInfoData text;

	initStringInfo(&text);
	for (int i = 0; i < run->field_count; i++)
	{
		const char *column = quote_identifier(run->fields[i].column);

		if (run->fields[i].key >= 0)
			appendStringInfo(&text, "%ss.%s = k.%s", text.len ? " AND " : "",
							 column, column);
	}
	return text.data;
}

/* Deletes what the source no longer has, inside the run's last work. */
void
database_delete_missing(IngestRun *run)
{
	DatabaseCrawl *crawl = run->database;

	if (crawl->keys == NULL)
		return;
	core_execute(psprintf("ANALYZE pg_temp.%s", crawl->keys), NULL,
				 SPI_OK_UTILITY);
	run->counts.deleted += core_execute(psprintf("DELETE FROM %s AS s WHERE NOT"
												 " EXISTS (SELECT FROM pg_temp.%s"
												 " AS k WHERE %s)",
												 core_qualified(CORE_LAYER_STAGING,
																run->stream->table),
												 crawl->keys, key_condition(run)),
										NULL, SPI_OK_DELETE);
	core_execute(psprintf("DROP TABLE pg_temp.%s", crawl->keys), NULL,
				 SPI_OK_UTILITY);
}

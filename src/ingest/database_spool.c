/*-------------------------------------------------------------------------
 *
 * database_spool.c
 *		Rows of a database that go in in one transaction, when the last of
 *		them has come: those that replace what is there, and those without a
 *		key, which could not be told from what an interrupted crawl left.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "core/core.h"
#include "ingest/database.h"
#include "miscadmin.h"
#include "utils/memutils.h"

/* Puts a page's rows behind those that are there. */
void
database_spool_page(IngestRun *run, const NetDatabasePage *page)
{
	if (page->count == 0)
		return;
	ingest_spool_append(run, &page->count, sizeof(page->count));
	ingest_spool_append(run, page->starts,
						sizeof(size_t) * (page->count + 1));
	ingest_spool_append(run, page->data, page->length);
}

/* Reads bytes of the spool at an offset, which moves on. */
static void *
take(IngestRun *run, int64 *offset, size_t length)
{
	void	   *data = MemoryContextAllocHuge(CurrentMemoryContext, length + 1);

	ingest_spool_read(run, data, length, *offset);
	*offset += length;
	return data;
}

/*
 * Puts the spool's rows into staging, inside the caller's work; with 'replace'
 * in the place of those that are there.
 */
void
database_apply_spool(IngestRun *run)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "visage spool",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	int64		records = run->counts.records;
	int64		offset = 0;

	if (strcmp(run->stream->disposition, "replace") == 0)
		run->counts.deleted +=
			core_execute(psprintf("DELETE FROM %s",
								  core_qualified(CORE_LAYER_STAGING,
												 run->stream->table)),
						 NULL, SPI_OK_DELETE);
	CommandCounterIncrement();
	run->database->fresh = true;
	while (offset < run->spool_size)
	{
		NetDatabasePage page = {.context = context};

		CHECK_FOR_INTERRUPTS();
		memcpy(&page.count, take(run, &offset, sizeof(page.count)),
			   sizeof(page.count));
		page.starts = take(run, &offset, sizeof(size_t) * (page.count + 1));
		page.length = page.starts[page.count];
		page.data = take(run, &offset, page.length);
		database_apply_page(run, &page, NULL, 0);
		MemoryContextReset(context);
	}
	/* they were counted when they came */
	run->counts.records = records;
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
}

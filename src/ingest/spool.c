/*-------------------------------------------------------------------------
 *
 * spool.c
 *		Keeps the records of a query in a file until it is whole.
 *
 * Where there is no key, nothing tells a record that is read again from
 * another one, so a window is replaced as a whole: its pages wait in a
 * temporary file, and when the last one is there, one transaction deletes
 * what staging holds of the window and stores what the file holds.  If the
 * crawl ends before, the file goes and the window is asked for again.
 *
 * A record in the file is its length and its bytes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "core/core.h"
#include "ingest/ingest.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#define CHUNK (1024 * 1024)

/* Appends bytes to the file. */
void
ingest_spool_append(IngestRun *run, const void *data, size_t length)
{
	if (run->spool <= 0)
		run->spool = OpenTemporaryFile(true);
	while (length > 0)
	{
		int			amount = Min(length, CHUNK);

		if (FileWrite(run->spool, (char *) data, amount, run->spool_size,
					  WAIT_EVENT_BUFFILE_WRITE) != amount)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not write a temporary file: %m")));
		run->spool_size += amount;
		data = (const char *) data + amount;
		length -= amount;
	}
}

/* Puts a page's records behind those that are there. */
void
ingest_spool_page(IngestRun *run, const IngestBatch *batch)
{
	StringInfoData buffer;

	initStringInfo(&buffer);
	for (int i = 0; i < batch->count; i++)
	{
		const IngestRecord *record = &batch->records[i];
		uint64		length = record->slice.length;

		CHECK_FOR_INTERRUPTS();
		appendBinaryStringInfo(&buffer, (char *) &length, sizeof(length));
		if (length > CHUNK)
		{
			ingest_spool_append(run, buffer.data, buffer.len);
			resetStringInfo(&buffer);
			ingest_spool_append(run, record->slice.start, length);
		}
		else
			appendBinaryStringInfo(&buffer, record->slice.start, length);
		if (buffer.len > CHUNK)
		{
			ingest_spool_append(run, buffer.data, buffer.len);
			resetStringInfo(&buffer);
		}
	}
	ingest_spool_append(run, buffer.data, buffer.len);
	pfree(buffer.data);
}

/* Forgets what is there. */
void
ingest_drop_spool(IngestRun *run)
{
	if (run->spool > 0)
		FileClose(run->spool);
	run->spool = 0;
	run->spool_size = 0;
}

/* Reads bytes of the file at an offset. */
void
ingest_spool_read(IngestRun *run, void *to, size_t length, int64 offset)
{
	char	   *data = to;

	while (length > 0)
	{
		int			amount = FileRead(run->spool, data, Min(length, CHUNK),
									  offset, WAIT_EVENT_BUFFILE_READ);

		if (amount <= 0)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not read a temporary file: %m")));
		data += amount;
		offset += amount;
		length -= amount;
	}
}

/* Cuts up to a chunk of records off the file at *offset. */
static void
read_records(IngestRun *run, int64 *offset, Split *split)
{
	size_t		limit = 0;

	while (*offset < run->spool_size && limit < CHUNK)
	{
		uint64		length;
		ScanSlice	record;
		char	   *data;

		ingest_spool_read(run, (char *) &length, sizeof(length), *offset);
		data = MemoryContextAllocHuge(CurrentMemoryContext, length + 1);
		ingest_spool_read(run, data, length, *offset + sizeof(length));
		*offset += sizeof(length) + length;
		limit += sizeof(length) + length;
		record.start = data;
		record.length = length;
		split_add(split, record, NULL);
	}
}

/* "_window >= $1 AND _window < $2", or all there is. */
static const char *
window_condition(const IngestRun *run, CoreArgs *args)
{
	if (run->stream->window.step == NULL)
		return "true";
	core_arg(args, TIMESTAMPTZOID,
			 TimestampTzGetDatum(run->position.window_from), false);
	core_arg(args, TIMESTAMPTZOID,
			 TimestampTzGetDatum(run->position.window_to), false);
	return "_window >= $1 AND _window < $2";
}

/* Deletes what staging holds of the window, or all. */
static void
delete_old(IngestRun *run)
{
	CoreArgs	args = {0};
	const char *condition = window_condition(run, &args);

	if (!OidIsValid(core_own_table(CORE_LAYER_STAGING, run->stream->table)))
		return;
	run->counts.deleted += core_execute(psprintf("DELETE FROM %s WHERE %s",
												 core_qualified(CORE_LAYER_STAGING,
																run->stream->table),
												 condition), &args, SPI_OK_DELETE);
}

/*
 * Replaces the window by what the file holds, inside the caller's work.
 */
void
ingest_apply_spool(IngestRun *run)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "visage spool",
												  ALLOCSET_DEFAULT_SIZES);
	int64		offset = 0;

	delete_old(run);
	while (offset < run->spool_size)
	{
		MemoryContext caller = MemoryContextSwitchTo(context);
		Split		split = {0};
		IngestBatch *batch;
		char	   *problem = NULL;

		CHECK_FOR_INTERRUPTS();
		read_records(run, &offset, &split);
		batch = ingest_read_records(run, &split, &problem);
		if (batch == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("stream \"%s\": %s", run->stream->name,
							problem)));
		ingest_apply_batch(run, batch);
		MemoryContextSwitchTo(caller);
		MemoryContextReset(context);
	}
	MemoryContextDelete(context);
}

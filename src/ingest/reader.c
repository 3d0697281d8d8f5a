/*-------------------------------------------------------------------------
 *
 * reader.c
 *		A page's answer as batches of records, while it comes in.
 *
 * A page that fits the transfer's buffer is one batch; a larger one comes in
 * batches of what the buffer holds.  The slices of a batch's records point
 * into the buffer and are good until ingest_batch_done.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <zlib.h>

#include "core/core.h"
#include "core/settings.h"
#include "ingest/ingest.h"
#include "utils/memutils.h"

#define PLAIN_SIZE (4 * 1024 * 1024)

struct IngestReader
{
	IngestRun  *run;
	IngestFetch *fetch;
	Split		split;
	IngestShape *shape;
	MemoryContext batch_context;
	size_t		used;			/* of the data, by the batch */
	size_t		limit;			/* of a record's bytes */
	bool		first;
	bool		gzip;			/* the body itself is compressed */
	bool		plain_ended;
	z_stream	inflater;
	StringInfoData plain;		/* what was decompressed and not used */
	size_t		plain_limit;
	MemoryContextCallback cleanup;
};

/* Reset callback: zlib has memory of its own. */
static void
end_inflater(void *arg)
{
	inflateEnd(&((IngestReader *) arg)->inflater);
}

/* What the manifest says about the body. */
static void
read_format(IngestReader *reader)
{
	Jsonb	   *endpoint = reader->run->stream->endpoint;
	Jsonb	   *format = core_json_value(endpoint, "format");
	char	   *type = core_json_text(format, "type");
	char	   *compression = core_json_text(format, "compression");
	char	   *selector = core_json_text(endpoint, "data_selector");
	char	   *delimiter = core_json_text(format, "delimiter");
	Split	   *split = &reader->split;

	split->format = type == NULL || strcmp(type, "json") == 0 ? SPLIT_JSON :
		strcmp(type, "csv") == 0 ? SPLIT_CSV : SPLIT_NDJSON;
	split->selector = selector ? selector : "";
	split->delimiter = delimiter ? delimiter[0] : ',';
	split->nulls = core_json_text_array(format, "null", &split->null_count);
	reader->gzip = compression != NULL && strcmp(compression, "gzip") == 0;
}

/* Begins to read the page's answer, in the current memory context. */
IngestReader *
ingest_open_reader(IngestRun *run, IngestFetch *fetch)
{
	IngestReader *reader = palloc0(sizeof(IngestReader));

	reader->run = run;
	reader->fetch = fetch;
	reader->first = true;
	reader->limit = (size_t) core_setting_int("visage.max_record") * 1024;
	reader->batch_context = run->batch_context;
	read_format(reader);
	split_begin(&reader->split);
	reader->shape = ingest_open_shape(run, &fetch->at);
	if (!reader->gzip)
		return reader;
	initStringInfo(&reader->plain);
	reader->plain_limit = PLAIN_SIZE;
	if (inflateInit2(&reader->inflater, 15 + 32) != Z_OK)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	reader->cleanup.func = end_inflater;
	reader->cleanup.arg = reader;
	MemoryContextRegisterResetCallback(CurrentMemoryContext,
									   &reader->cleanup);
	return reader;
}

/* Decompresses what has come; true where all of it is there. */
static bool
inflate_data(IngestReader *reader, bool done, char **problem)
{
	size_t		length;
	char	   *data = net_data(reader->fetch->transfer, &length);
	z_stream   *stream = &reader->inflater;
	int			result = Z_OK;
	size_t		rest;

	stream->next_in = (unsigned char *) data;
	stream->avail_in = Min(length, PG_INT32_MAX);
	while (result == Z_OK && stream->avail_in > 0 &&
		   reader->plain.len < reader->plain_limit)
	{
		enlargeStringInfo(&reader->plain, 65536);
		stream->next_out = (unsigned char *) reader->plain.data +
			reader->plain.len;
		stream->avail_out = 65536;
		result = inflate(stream, Z_NO_FLUSH);
		reader->plain.len += 65536 - stream->avail_out;
		/* members may follow one another */
		if (result == Z_STREAM_END && stream->avail_in > 0)
			result = inflateReset(stream);
	}
	rest = stream->avail_in;
	net_consume(reader->fetch->transfer, length - rest);
	if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR)
		*problem = pstrdup("Its compressed body is damaged.");
	/* of several members the last one counts */
	if (rest < length)
		reader->plain_ended = result == Z_STREAM_END;
	if (done && stream->avail_in == 0 && !reader->plain_ended &&
		*problem == NULL)
		*problem = pstrdup("Its compressed body is cut off.");
	return done && reader->plain_ended && stream->avail_in == 0;
}

/* What is there to read; *all is set where no more will come. */
static ScanSlice
available(IngestReader *reader, bool *all, char **problem)
{
	ScanSlice	data;
	bool		done = net_wait(reader->fetch->transfer);

	*all = done;
	if (done && net_outcome(reader->fetch->transfer) != NET_ANSWERED)
	{
		*problem = pstrdup(net_reason(reader->fetch->transfer));
		data.start = "";
		data.length = 0;
	}
	else if (reader->gzip)
	{
		*all = inflate_data(reader, done, problem);
		data.start = reader->plain.data;
		data.length = reader->plain.len;
	}
	else
		data.start = net_data(reader->fetch->transfer, &data.length);
	return data;
}

/* Forgets the first bytes of what was there. */
static void
consume(IngestReader *reader, size_t length)
{
	if (!reader->gzip)
	{
		net_consume(reader->fetch->transfer, length);
		return;
	}
	reader->plain.len -= length;
	memmove(reader->plain.data, reader->plain.data + length,
			reader->plain.len);
}

/* A record does not fit the buffer: a larger one, up to the limit. */
static void
widen(IngestReader *reader, size_t length, char **problem)
{
	if (length > reader->limit)
		*problem = psprintf("A record has more bytes than setting "
							"visage.max_record allows, or the answer holds "
							"none.");
	else if (reader->gzip)
		reader->plain_limit *= 2;
	else
		net_widen(reader->fetch->transfer);
}

/* Cuts records off what is there, waiting for more where it must. */
static bool
cut(IngestReader *reader, char **problem)
{
	Split	   *split = &reader->split;

	for (;;)
	{
		bool		all;
		ScanSlice	data = available(reader, &all, problem);

		if (*problem != NULL)
			return false;
		split->records = NULL;
		split->count = split->allocated = 0;
		reader->used = split_cut(split, data, all, problem);
		if (*problem != NULL)
			return false;
		if (split->count > 0 || split->state == SPLIT_END)
			return true;
		if (reader->used == 0 && !all)
			widen(reader, data.length, problem);
		consume(reader, reader->used);
		if (*problem != NULL)
			return false;
	}
}

/*
 * The next records of the page.  NULL with *problem set where the answer
 * broke off or is no page.
 */
IngestBatch *
ingest_next_batch(IngestReader *reader, char **problem)
{
	MemoryContext caller = CurrentMemoryContext;
	IngestBatch *batch = NULL;
	char	   *found = NULL;

	MemoryContextReset(reader->batch_context);
	MemoryContextSwitchTo(reader->batch_context);
	if (cut(reader, &found) &&
		ingest_shape_records(reader->shape, &reader->split, &found))
		batch = ingest_read_records(reader->run, &reader->split, &found);
	MemoryContextSwitchTo(caller);
	if (batch == NULL)
	{
		*problem = found ? pstrdup(found) : NULL;
		return NULL;
	}
	batch->final = reader->split.state == SPLIT_END;
	batch->whole = batch->final && reader->first;
	batch->envelope.start = reader->split.envelope.data;
	batch->envelope.length = reader->split.envelope.len;
	reader->first = false;
	reader->fetch->records += batch->count;
	if (batch->count > 0)
		reader->fetch->unplaced = batch->unplaced;
	return batch;
}

/* The batch is applied: its bytes may go. */
void
ingest_batch_done(IngestReader *reader)
{
	consume(reader, reader->used);
	reader->used = 0;
}

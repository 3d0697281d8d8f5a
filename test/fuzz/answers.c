/*-------------------------------------------------------------------------
 *
 * answers.c
 *		A fuzz target: crawls, by a manifest's rules for answers and formats.
 *
 * The input is a manifest and, behind a NUL, the answers of its system: each
 * a status, a wait that it asks for, a length and a body; one after the other
 * goes to who asks, and behind the last one there is no connection.  Each
 * stream of the manifest is crawled.  It ends in an ERROR of the user's or at
 * its end, with no secret in what is told; waits are no longer than allowed;
 * positions are what they were when they are read back.
 *
 * Before that each answer is read as a page, whole and as it comes in: the
 * records, and the verdict, are the same.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "core/settings.h"
#include "ingest/ingest.h"
#include "mb/pg_wchar.h"
#include "server.h"
#include "source.h"
#include "utils/memutils.h"

#define PER_BYTE 8192
#define AT_LEAST ((size_t) 64 << 20)
#define MOST_STREAMS 4			/* of a manifest, that are crawled */
#define MOST_ANSWERS 64
#define LONGEST_WAIT 60			/* seconds, visage.max_retry_wait */

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct Answer
{
	int			status;			/* 0: none came */
	NetOutcome	outcome;
	int64		retry_after;
	bool		linked;			/* its header names a next page */
	const char *body;
	size_t		length;
} Answer;

static char *manifest_text;

/* What the system is yet to say. */
static Answer answers[MOST_ANSWERS];
static int	answer_count;
static int	next_answer;
static size_t piece;			/* bytes that come at a time */
static int64 largest_record;	/* kilobytes, visage.max_record */

/* ---- the network ---- */

struct NetTransfer
{
	const Answer *answer;
	char	   *data;			/* a copy of what is there, so that reading
								 * past it is seen */
	size_t		arrived;
	size_t		consumed;
	size_t		room;
	bool		paused;
	int			attempts;
};

/* What there is when all answers are used up. */
static const Answer nothing = {.outcome = NET_FAILED,.retry_after = -1,.body = ""};

static void
ask(NetTransfer *transfer)
{
	transfer->answer = next_answer < answer_count ? &answers[next_answer++] :
		&nothing;
	transfer->arrived = transfer->consumed = 0;
	transfer->room = piece * 4;
	transfer->paused = false;
	transfer->attempts++;
}

NetTransfer *
net_start(NetSession *session, const NetRequest *request)
{
	NetTransfer *transfer = MemoryContextAllocZero(NULL, sizeof(NetTransfer));

	source_check_request(request);
	ask(transfer);
	return transfer;
}

void
net_again(NetTransfer *transfer, const NetRequest *request, int64 wait_ms)
{
	if (wait_ms < 0 || wait_ms > LONGEST_WAIT * 1000)
		abort();
	source_check_request(request);
	ask(transfer);
}

bool
net_is_done(const NetTransfer *transfer)
{
	return transfer->arrived == transfer->answer->length;
}

bool
net_wait(NetTransfer *transfer)
{
	while (!transfer->paused && !net_is_done(transfer))
	{
		size_t		more = Min(piece, transfer->answer->length -
							   transfer->arrived);
		size_t		held = transfer->arrived - transfer->consumed;

		transfer->paused = held > 0 && held + more > transfer->room;
		if (!transfer->paused)
			transfer->arrived += more;
	}
	return net_is_done(transfer);
}

void
net_kick(NetSession *session)
{
}

void
net_end(NetTransfer *transfer)
{
}

char *
net_data(const NetTransfer *transfer, size_t *length)
{
	char	   *copy;

	*length = transfer->arrived - transfer->consumed;
	copy = palloc(*length + 1);
	memcpy(copy, transfer->answer->body + transfer->consumed, *length);
	copy[*length] = '\0';
	return copy;
}

void
net_consume(NetTransfer *transfer, size_t length)
{
	if (length > transfer->arrived - transfer->consumed)
		abort();
	transfer->consumed += length;
	transfer->paused = false;
}

void
net_widen(NetTransfer *transfer)
{
	transfer->room *= 2;
	transfer->paused = false;
}

NetOutcome
net_outcome(const NetTransfer *transfer)
{
	return transfer->answer->outcome;
}

const char *
net_reason(const NetTransfer *transfer)
{
	return "no reason";
}

int
net_status(const NetTransfer *transfer)
{
	return transfer->answer->status;
}

int
net_attempts(const NetTransfer *transfer)
{
	return transfer->attempts;
}

int64
net_retry_after(const NetTransfer *transfer)
{
	return transfer->answer->retry_after;
}

char *
net_date(const NetTransfer *transfer)
{
	return transfer->answer->linked ? pstrdup("2026-11-20 09:00:00+00") : NULL;
}

char *
net_next_link(const NetTransfer *transfer, const char *rel)
{
	return transfer->answer->linked ?
		psprintf("http://127.0.0.1/next?%d", next_answer) : NULL;
}

/* ---- the rest of a run ---- */

int64
core_setting_int(const char *name)
{
	return strcmp(name, "visage.max_record") == 0 ? largest_record :
		strcmp(name, "visage.max_retry_wait") == 0 ? LONGEST_WAIT :
		strcmp(name, "visage.retry_delay") == 0 ? 1000 : 3;
}

void
ingest_work(IngestRun *run, IngestStep step, void *arg)
{
	MemoryContext caller = CurrentMemoryContext;

	step(run, arg);
	CurrentMemoryContext = caller;
}

/* Is it text that the server can store? */
static void
check_text(const char *text)
{
	if (text != NULL && text[0] != '\0' &&
		!pg_verify_mbstr(PG_UTF8, text, strlen(text), true))
		abort();
}

static void
check_batch(const IngestRun *run, const IngestBatch *batch)
{
	for (int i = 0; i < batch->count; i++)
	{
		const IngestRecord *record = &batch->records[i];

		if (record->reason == NULL &&
			scan_record(record->slice, NULL, NULL) != NULL)
			abort();
		if (record->reason != NULL)
			continue;
		check_text(record->key);
		for (int j = 0; j < record->member_count; j++)
		{
			const IngestMember *member =
			&batch->members[record->first_member + j];

			if (member->field < 0 || member->field >= run->field_count)
				abort();
			check_text(scan_text(member->value));
		}
	}
	check_text(batch->last_value);
	check_text(batch->last_tie);
}

void
ingest_apply_batch(IngestRun *run, IngestBatch *batch)
{
	check_batch(run, batch);
}

void
ingest_spool_page(IngestRun *run, const IngestBatch *batch)
{
	check_batch(run, batch);
}

void
ingest_drop_spool(IngestRun *run)
{
}

void
ingest_apply_spool(IngestRun *run)
{
}

/* The position is the same when it is read back. */
void
ingest_save_position(IngestRun *run)
{
	char	   *written = ingest_write_position(&run->position);
	IngestPosition again;
	char	   *anew;

	if (written == NULL)
		abort();
	ingest_read_position(&again, core_json_parse(written));
	/* the stand-in for to_char writes no instant that could be read */
	again.window_from = run->position.window_from;
	again.window_to = run->position.window_to;
	anew = ingest_write_position(&again);
	if (strcmp(written, anew) != 0)
		abort();
}

void
ingest_save_run(IngestRun *run)
{
}

void
ingest_relax_commit(void)
{
}

/* ---- queries: one a partition, and a window that can be split ---- */

bool
ingest_first_query(IngestRun *run)
{
	ingest_reset_query(&run->position);
	run->position.partition = 0;
	run->position.window_from = INT64CONST(762436800000000);
	run->position.window_to = run->position.window_from + USECS_PER_DAY;
	return true;
}

bool
ingest_resume_query(IngestRun *run)
{
	return ingest_first_query(run);
}

bool
ingest_next_query(IngestRun *run)
{
	ingest_reset_query(&run->position);
	run->position.query_done =
		++run->position.partition >= run->stream->partition_count;
	return !run->position.query_done;
}

void
ingest_split_window(IngestRun *run)
{
	IngestPosition *position = &run->position;

	if (position->window_to - position->window_from < USECS_PER_HOUR)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("the shortest window holds more")));
	position->window_to -= (position->window_to - position->window_from) / 2;
	ingest_reset_query(position);
}

/* ---- the code under test ---- */

/* A run of a stream, before its first request. */
static void
begin_run(IngestRun *run, const char *resource)
{
	source_read(manifest_text);
	memset(run, 0, sizeof(*run));
	run->context = AllocSetContextCreate(NULL, "run", ALLOCSET_DEFAULT_SIZES);
	run->page_context = AllocSetContextCreate(run->context, "page",
											  ALLOCSET_DEFAULT_SIZES);
	run->batch_context = AllocSetContextCreate(run->context, "batch",
											   ALLOCSET_DEFAULT_SIZES);
	CurrentMemoryContext = run->context;
	run->stream = source_stream(resource);
	run->from_value = "2024-02-29T12:00:00Z";
	run->parent = core_json_parse("{\"id\": \"a\", \"n\": 1.50}");
	CurrentMemoryContext = run->page_context;
}

/* What reading a page gives. */
typedef struct PageRead
{
	const char *resource;
	uint64		hash;			/* of all records, and what they are put aside
								 * for */
	int			count;
	bool		problem;
} PageRead;

static uint64
add(uint64 hash, const char *data, size_t length)
{
	for (size_t i = 0; i < length; i++)
		hash = (hash ^ (unsigned char) data[i]) * UINT64CONST(1099511628211);
	return hash;
}

/* Step of server_try: the next answer as a page. */
static void
read_page(void *arg)
{
	PageRead   *page = arg;
	IngestRun	run;
	IngestFetch fetch = {0};
	NetRequest	request = {.method = "GET",.url = "http://127.0.0.1/"};
	IngestReader *reader;
	IngestBatch *batch;
	char	   *problem = NULL;

	begin_run(&run, page->resource);
	fetch.request = &request;
	fetch.transfer = net_start(NULL, &request);
	reader = ingest_open_reader(&run, &fetch);
	do
	{
		batch = ingest_next_batch(reader, &problem);
		for (int i = 0; batch != NULL && i < batch->count; i++)
		{
			const IngestRecord *record = &batch->records[i];

			page->hash = add(page->hash, record->slice.start,
							 record->slice.length);
			if (record->reason != NULL)
				page->hash = add(page->hash, record->reason,
								 strlen(record->reason));
			if (record->key != NULL)
				page->hash = add(page->hash, record->key,
								 strlen(record->key));
			page->count++;
		}
		if (batch != NULL)
		{
			check_batch(&run, batch);
			ingest_batch_done(reader);
		}
	} while (batch != NULL && !batch->final);
	page->problem = batch == NULL;
}

/* Step of server_try: a whole crawl. */
static void
crawl(void *arg)
{
	IngestRun	run;

	begin_run(&run, arg);
	if (run.stream->database == NULL && !ingest_is_database(source_manifest))
		ingest_crawl(&run);
}

/* The answers, whole and in pieces, as pages of the stream. */
static void
compare_pages(const char *resource, size_t small, size_t limit)
{
	for (int i = 0; i < Min(answer_count, 4); i++)
	{
		PageRead	whole = {.resource = resource};
		PageRead	pieces = whole;
		bool		read;

		if (answers[i].outcome != NET_ANSWERED)
			continue;
		server_free_all();
		piece = PG_INT32_MAX;
		next_answer = i;
		read = server_try(read_page, &whole, limit);
		server_free_all();
		/* pieces of a long answer that never ends a record are quadratic */
		piece = Max(small, answers[i].length / 500 + 1);
		next_answer = i;
		if (server_try(read_page, &pieces, limit) != read ||
			(read && (whole.problem != pieces.problem ||
					  (!whole.problem && (whole.count != pieces.count ||
										  whole.hash != pieces.hash)))))
			abort();
		server_free_all();
	}
}

/* Takes the answers off the rest of the input. */
static void
take_answers(const char *at, const char *end)
{
	static const int statuses[] = {
		200, 200, 200, 200, 200, 0, 201, 202, 204, 207, 301, 400, 401, 403,
		404, 408, 423, 429, 429, 500, 503, 599
	};

	for (answer_count = 0; end - at >= 4 && answer_count < MOST_ANSWERS;)
	{
		Answer	   *answer = &answers[answer_count++];
		int8		wait = (int8) at[1];
		uint16		length;

		memcpy(&length, at + 2, sizeof(length));
		at += 4;
		answer->status = statuses[(uint8) at[-4] % lengthof(statuses)];
		answer->outcome = answer->status != 0 ? NET_ANSWERED :
			wait & 1 ? NET_FAILED : wait & 2 ? NET_REFUSED : NET_UNUSABLE;
		answer->retry_after = wait < 0 ? -1 : wait == 127 ?
			PG_INT32_MAX * INT64CONST(1000) : wait * 1000;
		answer->linked = (at[-4] & 0x40) != 0;
		answer->body = at;
		answer->length = Min(length, end - at);
		at += answer->length;
	}
}

static void
check_error(void)
{
	if (strstr(server_error.message, SOURCE_SECRET) != NULL ||
		strstr(server_error.detail, SOURCE_SECRET) != NULL)
	{
		fprintf(stderr, "a secret is told: %s %s\n", server_error.message,
				server_error.detail);
		abort();
	}
}

/* One stream: its answers as pages, then a crawl. */
static void
try_stream(const char *resource, size_t small, size_t limit)
{
	largest_record = PG_INT32_MAX;
	compare_pages(resource, small, limit);
	largest_record = small % 2 ? 1 : 64;
	piece = small * 16;
	next_answer = 0;
	if (!server_try(crawl, unconstify(char *, resource), limit))
		check_error();
	server_free_all();
}

/* Step of server_try. */
static void
list_streams(void *arg)
{
	SourceStreams streams;
	char	  **names = arg;

	source_read(manifest_text);
	source_list_streams(&streams);
	for (int i = 0; i < Min(streams.count, MOST_STREAMS); i++)
		names[i] = strdup(streams.names[i]);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t		limit = AT_LEAST + size * PER_BYTE;
	char	   *names[MOST_STREAMS] = {0};
	char	   *rest;
	char	   *end;
	size_t		small = 1;

	manifest_text = malloc(size + 1);
	memcpy(manifest_text, data, size);
	end = manifest_text + size;
	*end = '\0';
	rest = Min(manifest_text + strlen(manifest_text) + 1, end);
	if (rest < end)
		small = (uint8) *rest++ % 64 + 1;
	take_answers(rest, end);
	if (memmem(data, size, SOURCE_SECRET, strlen(SOURCE_SECRET)) == NULL &&
		server_try(list_streams, names, limit))
	{
		server_free_all();
		try_stream("any", small, limit);
		for (int i = 0; i < MOST_STREAMS && names[i] != NULL; i++)
			try_stream(names[i], small, limit);
	}
	server_free_all();
	for (int i = 0; i < MOST_STREAMS; i++)
		free(names[i]);
	free(manifest_text);
	return 0;
}

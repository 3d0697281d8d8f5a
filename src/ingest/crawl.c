/*-------------------------------------------------------------------------
 *
 * crawl.c
 *		From where a stream is to its end, page by page.
 *
 * Pages are asked for ahead: where a page's position does not depend on the
 * one before (offset, page number) up to visage.prefetch of them, more with
 * each page that was full; elsewhere the next one as soon as it is known,
 * before the one at hand is applied.  They are applied in order.
 *
 * Waiting is done between transactions; applying, with the position that it
 * moves, in one (see ingest.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "core/core.h"
#include "core/settings.h"
#include "ingest/ingest.h"
#include "storage/proc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* ---- pages asked for ---- */

/* Asks for the page at a position. */
static void
ask(IngestRun *run, const IngestPosition *at)
{
	MemoryContext context = AllocSetContextCreate(run->context,
												  "visage fetch",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	IngestFetch *fetch = palloc0(sizeof(IngestFetch));

	fetch->context = context;
	ingest_copy_position(&fetch->at, at);
	fetch->request = ingest_build_request(run, &fetch->at);
	fetch->transfer = net_start(run->net, fetch->request);
	run->queue[run->queue_count++] = fetch;
	MemoryContextSwitchTo(caller);
}

/* The first page asked for is done with. */
static void
end_first(IngestRun *run)
{
	IngestFetch *fetch = run->queue[0];

	net_end(fetch->transfer);
	MemoryContextDelete(fetch->context);
	run->queue_count--;
	memmove(run->queue, run->queue + 1,
			sizeof(IngestFetch *) * run->queue_count);
}

/* Gives up all pages asked for. */
void
ingest_end_fetches(IngestRun *run)
{
	while (run->queue_count > 0)
		end_first(run);
}

/*
 * Is it the page at the run's position?  A page that brought fewer records
 * than it was asked for moves the next one where offsets count.
 */
static bool
is_next(const IngestRun *run, const IngestPosition *at)
{
	return at->query_pages <= run->position.query_pages &&
		at->page == run->position.page &&
		(run->stream->paginator.kind == PAGES_NUMBER ||
		 at->offset == run->position.offset);
}

/*
 * Asks for the page at the run's position, unless it is the first that was
 * asked for ahead, and for more where they can be known; depth is how many
 * may be under way.
 */
static void
ask_ahead(IngestRun *run, int depth)
{
	IngestPosition next;

	if (run->queue_count > 0 && !is_next(run, &run->queue[0]->at))
		ingest_end_fetches(run);
	if (run->queue_count == 0)
		ask(run, &run->position);
	while (run->queue_count < depth &&
		   ingest_predict(run, &run->queue[run->queue_count - 1]->at, &next))
		ask(run, &next);
}

/* ---- a page ---- */

/* Takes over a position, with its texts in the run's memory. */
static void
move_to(IngestRun *run, const IngestPosition *next)
{
	MemoryContext caller = MemoryContextSwitchTo(run->context);

	ingest_copy_position(&run->position, next);
	MemoryContextSwitchTo(caller);
}

/* A batch with the position behind it. */
typedef struct BatchWork
{
	IngestBatch *batch;
	const IngestPosition *next;
} BatchWork;

/* Step of ingest_work. */
static void
apply_batch(IngestRun *run, void *arg)
{
	BatchWork  *work = arg;

	ingest_apply_batch(run, work->batch);
	move_to(run, work->next);
	ingest_save_position(run);
	ingest_save_run(run);
	ingest_relax_commit();
}

/* Applies a batch and moves the position behind it, in one transaction. */
static void
commit_batch(IngestRun *run, IngestBatch *batch, const IngestPosition *next)
{
	BatchWork	work = {batch, next};

	if (batch->final)
		run->counts.pages++;
	if (run->stream->spooled)
	{
		ingest_spool_page(run, batch);
		move_to(run, next);
		return;
	}
	if (batch->count == 0)
	{
		move_to(run, next);
		return;
	}
	ingest_work(run, apply_batch, &work);
}

/* The first answer tells when the crawl began, by the system's clock. */
static void
note_beginning(IngestRun *run, const IngestFetch *fetch)
{
	const char *format = run->stream->cursor.format;
	MemoryContext caller;
	TimestampTz now;
	char	   *date;

	if (run->position.began != NULL || format == NULL)
		return;
	date = net_date(fetch->transfer);
	if (date == NULL || !ingest_parse_instant(date, "iso8601", &now))
		now = GetCurrentTimestamp();
	caller = MemoryContextSwitchTo(run->context);
	if (strcmp(format, "integer") == 0 || strcmp(format, "text") == 0)
		format = "iso8601";
	run->position.began = ingest_format_instant(now, format, NULL);
	MemoryContextSwitchTo(caller);
}

/* What became of a page. */
typedef enum PageResult
{
	PAGE_MORE,					/* the query goes on */
	PAGE_LAST,
	PAGE_SPLIT					/* the window is to be split */
} PageResult;

/* The page again from where it is, after a problem with its answer. */
static void
repeat_page(IngestRun *run, IngestFetch *fetch, const char *problem)
{
	MemoryContext caller = MemoryContextSwitchTo(fetch->context);

	ingest_copy_position(&fetch->at, &run->position);
	fetch->records = 0;
	fetch->unplaced = NULL;
	MemoryContextSwitchTo(caller);
	ingest_retry(run, fetch, problem);
}

/*
 * Reads one answer to the page asked for first and applies it.  False where
 * it must be asked for again.
 */
static bool
read_answer(IngestRun *run, IngestFetch *fetch, PageResult *result)
{
	IngestReader *reader = ingest_open_reader(run, fetch);
	IngestBatch *batch;
	IngestPosition next;
	char	   *problem = NULL;

	do
	{
		bool		more;

		batch = ingest_next_batch(reader, &problem);
		if (batch != NULL && !ingest_brings_on(run, fetch, batch))
			problem = pstrdup("It brings no record after the last one.");
		if (problem != NULL)
		{
			repeat_page(run, fetch, problem);
			return false;
		}
		if (batch->final && ingest_splits_at(run, fetch->records))
		{
			*result = PAGE_SPLIT;
			return true;
		}
		more = ingest_advance(run, fetch, batch, &next);
		*result = more ? PAGE_MORE : PAGE_LAST;
		if (batch->final && more && ingest_at_limit(run, &next) &&
			ingest_pass_limit(run, batch, &next))
		{
			*result = PAGE_SPLIT;
			return true;
		}
		if (batch->final && more && run->queue_count == 1 &&
			!run->stream->paginator.parallel)
		{
			ask(run, &next);
			net_kick(run->net);
		}
		commit_batch(run, batch, &next);
		ingest_batch_done(reader);
	} while (!batch->final);
	return true;
}

/* A page that counts as one without records. */
static PageResult
skip_page(IngestRun *run, const IngestFetch *fetch)
{
	static IngestBatch empty;
	IngestPosition next;
	bool		more;

	empty.final = empty.whole = true;
	empty.envelope.start = "{}";
	empty.envelope.length = 2;
	more = ingest_advance(run, fetch, &empty, &next);
	move_to(run, &next);
	run->counts.pages++;
	return more ? PAGE_MORE : PAGE_LAST;
}

/* The page asked for first, to its end. */
static PageResult
read_page(IngestRun *run)
{
	IngestFetch *fetch = run->queue[0];
	PageResult	result;

	for (;;)
	{
		MemoryContextReset(run->page_context);
		MemoryContextSwitchTo(run->page_context);
		Assert(!TransactionIdIsValid(MyProc->xmin));
		switch (ingest_await_answer(run, fetch))
		{
			case ACTION_SPLIT:
				return PAGE_SPLIT;
			case ACTION_IGNORE:
				return skip_page(run, fetch);
			default:
				note_beginning(run, fetch);
				if (read_answer(run, fetch, &result))
					return result;
		}
	}
}

/* ---- a query ---- */

/* The request that begins a query, where the manifest has one. */
static void
create_job(IngestRun *run)
{
	const IngestPaginator *paginator = &run->stream->paginator;
	char	   *body;
	ScanSlice	document;
	char	   *cursor;

	if (paginator->create == NULL || run->position.cursor != NULL)
		return;
	body = ingest_call_ruled(run, paginator->create, "the first cursor");
	document.start = body;
	document.length = strlen(body);
	cursor = scan_path_text(document, paginator->create_path ?
							paginator->create_path : paginator->path);
	if (cursor == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_PROTOCOL_VIOLATION),
				 errmsg("the answer that begins a query of stream \"%s\" has "
						"no cursor", run->stream->name)));
	if (paginator->percent)
		cursor = ingest_decode_percent(cursor);
	run->position.cursor = MemoryContextStrdup(run->context, cursor);
}

/* Page after page of the query at the run's position. */
static void
run_query(IngestRun *run)
{
	int			most = core_setting_int("visage.prefetch");
	int			depth = 1;
	bool		full;
	PageResult	result;

	run->seen_count = 0;
	MemoryContextReset(run->page_context);
	MemoryContextSwitchTo(run->page_context);
	create_job(run);
	do
	{
		ask_ahead(run, depth);
		result = read_page(run);
		if (result == PAGE_SPLIT)
		{
			ingest_end_fetches(run);
			ingest_drop_spool(run);
			ingest_split_window(run);
			create_job(run);
			result = PAGE_MORE;
			depth = 1;
			continue;
		}
		full = run->queue[0]->records >= run->stream->page_size;
		end_first(run);
		depth = full ? Min(depth * 2, most) : 1;
	} while (result == PAGE_MORE);
	ingest_end_fetches(run);
}

/* ---- the crawl ---- */

/* Step of ingest_work; the argument is the position behind the window. */
static void
apply_spool(IngestRun *run, void *arg)
{
	ingest_apply_spool(run);
	move_to(run, arg);
	ingest_save_position(run);
	ingest_save_run(run);
}

/* What was spooled is whole: it takes its place, with the position. */
static void
commit_spool(IngestRun *run, IngestPosition *next)
{
	ingest_work(run, apply_spool, next);
	ingest_drop_spool(run);
}

/*
 * Moves to the next query; false at the end.  A window that is whole is
 * applied on the way.
 */
static bool
next_query(IngestRun *run)
{
	IngestPosition before = run->position;
	bool		more = ingest_next_query(run);
	IngestPosition after = run->position;

	if (run->stream->spooled &&
		(!more || before.window_from != after.window_from))
	{
		run->position = before;
		commit_spool(run, &after);
	}
	return more;
}

/* The crawl from the run's position to its end. */
void
ingest_crawl(IngestRun *run)
{
	bool		more;

	if (run->position.under_way)
		more = ingest_resume_query(run);
	else
	{
		more = ingest_first_query(run);
		run->position.under_way = true;
	}
	while (more)
	{
		run_query(run);
		more = next_query(run);
	}
}

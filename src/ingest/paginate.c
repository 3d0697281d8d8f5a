/*-------------------------------------------------------------------------
 *
 * paginate.c
 *		From one page to the next.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "core/core.h"
#include "ingest/ingest.h"

static void
report_circle(const IngestRun *run)
{
	ereport(ERROR,
			(errcode(ERRCODE_PROTOCOL_VIOLATION),
			 errmsg("the pages of stream \"%s\" lead in circles",
					run->stream->name),
			 errdetail("Page " INT64_FORMAT " leads to one that was "
					   "read before.", run->counts.pages + 1)));
}

/*
 * A page's cursor or link must lead on: one that was seen before in the
 * query leads in circles.
 */
static void
check_unseen(IngestRun *run, const char *value)
{
	uint64		hash = hash_bytes_extended((const unsigned char *) value,
										   strlen(value), 0);

	for (int i = 0; i < run->seen_count; i++)
		if (run->seen[i] == hash)
			report_circle(run);
	if (run->seen_count == run->seen_allocated)
	{
		run->seen_allocated = Max(run->seen_allocated * 2, 256);
		run->seen = run->seen == NULL ?
			MemoryContextAlloc(run->context,
							   sizeof(uint64) * run->seen_allocated) :
			repalloc_huge(run->seen,
						  sizeof(uint64) * (Size) run->seen_allocated);
	}
	run->seen[run->seen_count++] = hash;
}

/* Does the page end the query, by its number of records? */
static bool
ends_by_count(const IngestRun *run, int64 records)
{
	switch (run->stream->paginator.end)
	{
		case END_SHORT_PAGE:
			return records < run->stream->page_size;
		case END_EMPTY_PAGE:
			return records == 0;
		case END_NO_NEXT:
			return false;
	}
	pg_unreachable();
}

/* A number of the envelope, -1 where it is missing. */
static int64
envelope_number(const IngestBatch *batch, const char *path)
{
	char	   *text = path ? scan_path_text(batch->envelope, path) : NULL;
	char	   *end;
	int64		value = text ? strtoll(text, &end, 10) : -1;

	return text && end != text && *end == '\0' ? value : -1;
}

/* offset and page_number. */
static bool
advance_counter(const IngestRun *run, const IngestBatch *batch,
				int64 records, IngestPosition *next)
{
	int64		total = envelope_number(batch,
										run->stream->paginator.total_path);
	int64		reached = run->stream->paginator.kind == PAGES_OFFSET ?
	next->offset : next->page + 1;

	next->page++;
	if (total >= 0)
		return records > 0 && reached < total;
	/* behind a page without records there is none, whatever ends a query */
	return records > 0 && !ends_by_count(run, records);
}

/* A cursor in the body. */
static bool
advance_cursor(IngestRun *run, const IngestBatch *batch, int64 records,
			   IngestPosition *next)
{
	const IngestPaginator *paginator = &run->stream->paginator;
	char	   *cursor = scan_path_text(batch->envelope, paginator->path);
	char	   *more = paginator->has_more_path ?
	scan_path_text(batch->envelope, paginator->has_more_path) : NULL;

	next->page++;
	if (cursor == NULL || cursor[0] == '\0' ||
		(more != NULL && strcmp(more, "true") != 0) ||
		ends_by_count(run, records))
		return false;
	if (paginator->percent)
		cursor = ingest_decode_percent(cursor);
	check_unseen(run, cursor);
	next->cursor = cursor;
	return true;
}

/* A link, in a header or in the body. */
static bool
advance_link(IngestRun *run, const IngestFetch *fetch,
			 const IngestBatch *batch, int64 records, IngestPosition *next)
{
	const IngestPaginator *paginator = &run->stream->paginator;
	char	   *link;

	next->page++;
	if (paginator->kind == PAGES_HEADER_LINK)
		link = net_next_link(fetch->transfer,
							 paginator->rel ? paginator->rel : "next");
	else
	{
		link = scan_path_text(batch->envelope, paginator->path);
		if (link != NULL && link[0] != '\0')
			link = net_resolve_url(fetch->request->url, link);
	}
	if (link == NULL || link[0] == '\0' || ends_by_count(run, records))
		return false;
	if (!net_same_origin(link, run->stream->base_url))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("a page of stream \"%s\" links to another host",
						run->stream->name),
				 errdetail("Credentials are for %s only.",
						   run->stream->base_url)));
	check_unseen(run, link);
	next->link = link;
	return true;
}

/* Keyset by the cursor's value only: a value may fill several pages. */
static bool
advance_by_value(const IngestRun *run, const IngestFetch *fetch,
				 int64 records, IngestPosition *next)
{
	const char *asked = fetch->at.value ? fetch->at.value : run->from_value;

	if (records < run->stream->page_size)
		return false;
	if (asked != NULL && next->value != NULL &&
		strcmp(asked, next->value) == 0)
		next->page = fetch->at.page + 1;
	else
		next->page = 0;
	return true;
}

/* Do two texts differ, either of which may be missing? */
static bool
differ(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a != b : strcmp(a, b) != 0;
}

/*
 * The next page is asked for by the last record.  ERROR where that has none
 * of what it is asked for by, since records behind it would never come, or
 * where the request would be the same once more.
 */
static void
check_next(const IngestRun *run, const IngestFetch *fetch,
		   const IngestPosition *next)
{
	const IngestPosition *at = &fetch->at;

	if (fetch->unplaced != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_PROTOCOL_VIOLATION),
				 errmsg("the last record of page " INT64_FORMAT
						" of stream \"%s\" has no \"%s\"",
						run->counts.pages + 1, run->stream->name,
						fetch->unplaced),
				 errdetail("Pages follow each other by it, so what comes "
						   "after that record cannot be asked for."),
				 errhint("Choose another cursor_field, which every record "
						 "has, or none.")));
	if (!differ(at->value, next->value) && !differ(at->tie, next->tie) &&
		at->page == next->page)
		report_circle(run);
}

/* What the records of a batch say, whatever the paginator. */
static void
take_records(IngestRun *run, const IngestBatch *batch, IngestPosition *next)
{
	const IngestStream *stream = run->stream;
	const char *newest = stream->cursor.ordered ? batch->last_value :
	batch->newest;

	next->offset += batch->count;
	next->query_records += batch->count;
	if (stream->paginator.kind == PAGES_KEYSET &&
		(batch->last_value != NULL || batch->last_tie != NULL))
	{
		next->value = batch->last_value;
		next->tie = batch->last_tie;
	}
	if (newest != NULL && stream->main == NULL &&
		(next->newest == NULL ||
		 ingest_compare_values(stream->cursor.format, newest,
							   next->newest) > 0))
		next->newest = (char *) newest;
}

/*
 * The position behind a batch; false where the query ends there.  A batch
 * that does not end its page moves what counts records only.
 */
bool
ingest_advance(IngestRun *run, const IngestFetch *fetch,
			   const IngestBatch *batch, IngestPosition *next)
{
	const IngestPaginator *paginator = &run->stream->paginator;
	int64		records = fetch->records;
	bool		more = false;

	*next = run->position;
	take_records(run, batch, next);
	if (!batch->final)
		return true;
	next->query_pages++;
	next->page_hash = (int64) batch->hash;
	switch (paginator->kind)
	{
		case PAGES_SINGLE:
			break;
		case PAGES_OFFSET:
		case PAGES_NUMBER:
			more = advance_counter(run, batch, records, next);
			break;
		case PAGES_CURSOR:
			more = advance_cursor(run, batch, records, next);
			break;
		case PAGES_HEADER_LINK:
		case PAGES_JSON_LINK:
			more = advance_link(run, fetch, batch, records, next);
			break;
		case PAGES_KEYSET:
			if (paginator->by == KEYSET_CURSOR)
				more = advance_by_value(run, fetch, records, next);
			else
				more = !ends_by_count(run, records);
			if (more)
				check_next(run, fetch, next);
			break;
	}
	next->query_done = !more;
	return more;
}

/* Does the system serve no more of the query than is read now? */
bool
ingest_at_limit(const IngestRun *run, const IngestPosition *next)
{
	const IngestPaginator *paginator = &run->stream->paginator;

	return (paginator->max_pages > 0 &&
			next->query_pages >= paginator->max_pages) ||
		(paginator->max_records > 0 &&
		 next->query_records >= paginator->max_records);
}

/*
 * The query begins again at the last cursor value, since the system serves
 * no more of it; true where its window is to be split instead.
 */
bool
ingest_pass_limit(const IngestRun *run, const IngestBatch *batch,
				  IngestPosition *next)
{
	const char *what = run->stream->paginator.at_limit;
	const char *began = next->from ? next->from : run->from_value;

	if (what != NULL && strcmp(what, "split") == 0)
		return true;
	if (what == NULL || strcmp(what, "restart") != 0 ||
		batch->last_value == NULL ||
		(began != NULL && strcmp(began, batch->last_value) == 0))
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("the system serves no more than " INT64_FORMAT
						" pages of a query of stream \"%s\"",
						next->query_pages, run->stream->name),
				 errhint("Fill back in parts, with from_value and "
						 "to_value.")));
	ingest_reset_query(next);
	next->from = batch->last_value;
	return false;
}

/*
 * The position of the page after this one, before this one is read; false
 * where it depends on it.
 */
bool
ingest_predict(const IngestRun *run, const IngestPosition *at,
			   IngestPosition *next)
{
	const IngestPaginator *paginator = &run->stream->paginator;

	if (!paginator->parallel || paginator->max_pages > 0 ||
		paginator->max_records > 0)
		return false;
	*next = *at;
	next->offset += run->stream->page_size;
	next->page++;
	return true;
}

/*
 * Keyset by the cursor's value: a page begins where it was asked to, and of
 * those of one value each is another.
 */
static bool
brings_on_by_value(const IngestRun *run, const IngestPosition *at,
				   const IngestBatch *batch, bool same)
{
	if (at->value == NULL || batch->first_value == NULL)
		return true;
	return ingest_compare_values(run->stream->cursor.format,
								 batch->first_value, at->value) >= 0 &&
		!(same && at->page > 0);
}

/*
 * Does a page bring the crawl on, or is it the one before once more?  What
 * the one before was is in the run's position, since it may have been read
 * by another call.
 */
bool
ingest_brings_on(const IngestRun *run, const IngestFetch *fetch,
				 const IngestBatch *batch)
{
	const IngestPosition *at = &fetch->at;
	bool		same = (int64) batch->hash == run->position.page_hash;

	if (batch->count == 0 || !batch->whole)
		return true;
	if (run->stream->paginator.kind == PAGES_KEYSET)
	{
		if (run->stream->paginator.by == KEYSET_CURSOR)
			return brings_on_by_value(run, at, batch, same);
		if (at->tie == NULL || batch->unplaced != NULL)
			return true;
		return batch->last_tie != NULL &&
			(strcmp(batch->last_tie, at->tie) != 0 ||
			 (run->stream->paginator.by == KEYSET_CURSOR_AND_TIE &&
			  differ(batch->last_value, at->value)));
	}
	return run->position.query_pages == 0 || !same;
}

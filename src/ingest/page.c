/*-------------------------------------------------------------------------
 *
 * page.c
 *		From the bytes of a page to records with keys.
 *
 * Also collects, across the pages of a run, which fields there are and of
 * which kinds; tables.c makes columns of them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "core/core.h"
#include "core/settings.h"
#include "ingest/ingest.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"

/* What visiting one record gathers. */
typedef struct RecordVisit
{
	IngestRun  *run;
	ScanSlice  *keys;			/* one slice a primary key field */
	bool	   *key_found;
	ScanSlice	cursor;
	ScanSlice	tie;
	int			hint;			/* where the next field probably is */
} RecordVisit;

/* The field of this name, added where it is new. */
static IngestField *
find_field(RecordVisit *visit, ScanSlice name)
{
	IngestRun  *run = visit->run;
	MemoryContext caller;
	ScanSlice	quoted = {name.start - 1, name.length + 2};

	/* Records of a page have their fields in much the same order. */
	for (int i = 0; i < run->field_count; i++)
	{
		int			index = (visit->hint + i) % run->field_count;

		if (scan_name_is(name, run->fields[index].name))
		{
			visit->hint = index + 1;
			return &run->fields[index];
		}
	}
	caller = MemoryContextSwitchTo(run->context);
	if (run->field_count == run->field_allocated)
	{
		run->field_allocated = Max(run->field_allocated * 2, 64);
		run->fields = run->fields == NULL ?
			palloc(sizeof(IngestField) * run->field_allocated) :
			repalloc(run->fields, sizeof(IngestField) * run->field_allocated);
	}
	run->fields[run->field_count].name = scan_text(quoted);
	run->fields[run->field_count].column =
		core_snake_case(run->fields[run->field_count].name);
	run->fields[run->field_count].kinds = 0;
	run->field_count++;
	MemoryContextSwitchTo(caller);
	return &run->fields[run->field_count - 1];
}

/* ScanVisitor: notes the field, and the value if it is of use here. */
static void
visit_member(void *arg, ScanSlice name, ScanSlice value, ScanKind kind)
{
	RecordVisit *visit = arg;
	const IngestStream *stream = visit->run->stream;
	IngestField *field = find_field(visit, name);

	field->kinds |= kind;
	for (int i = 0; i < stream->key_count; i++)
		if (strcmp(field->name, stream->keys[i]) == 0 &&
			(kind & (SCAN_NULL | SCAN_CONTAINER)) == 0)
		{
			visit->keys[i] = value;
			visit->key_found[i] = true;
		}
	if (stream->cursor_field &&
		strcmp(field->name, stream->cursor_field) == 0 && kind != SCAN_NULL)
		visit->cursor = value;
	if (stream->tie_break && strcmp(field->name, stream->tie_break) == 0 &&
		kind != SCAN_NULL)
		visit->tie = value;
}

/*
 * The record's key as text, a JSON array where it has several fields; NULL
 * where a field is missing, null or no scalar.
 */
static char *
record_key(const RecordVisit *visit)
{
	const IngestStream *stream = visit->run->stream;
	StringInfoData key;

	for (int i = 0; i < stream->key_count; i++)
		if (!visit->key_found[i])
			return NULL;
	if (stream->key_count == 0)
		return NULL;
	if (stream->key_count == 1)
		return scan_text(visit->keys[0]);
	initStringInfo(&key);
	for (int i = 0; i < stream->key_count; i++)
	{
		appendStringInfoChar(&key, i == 0 ? '[' : ',');
		appendBinaryStringInfo(&key, visit->keys[i].start,
							   visit->keys[i].length);
	}
	appendStringInfoChar(&key, ']');
	return key.data;
}

/* Why a record has no key: its first field that is missing or no scalar. */
static char *
no_key_reason(const RecordVisit *visit)
{
	int			i = 0;

	while (visit->key_found[i])
		i++;
	return psprintf("field \"%s\" of the primary key is missing, null or no "
					"scalar", visit->run->stream->keys[i]);
}

/* Checks one record and takes its key and cursor. */
static void
read_record(IngestRun *run, IngestPage *page, IngestRecord *record)
{
	const IngestStream *stream = run->stream;
	RecordVisit visit = {.run = run};

	visit.keys = palloc0(sizeof(ScanSlice) * Max(stream->key_count, 1));
	visit.key_found = palloc0(sizeof(bool) * Max(stream->key_count, 1));
	record->reason = scan_record(record->slice, visit_member, &visit);
	record->key = record_key(&visit);
	if (record->reason == NULL && record->key == NULL &&
		stream->key_count > 0)
		record->reason = no_key_reason(&visit);
	if (visit.cursor.start != NULL && (stream->tie_break == NULL ||
									   visit.tie.start != NULL))
	{
		page->last_value = scan_text(visit.cursor);
		page->last_tie = stream->tie_break ? scan_text(visit.tie) : NULL;
	}
}

/*
 * The page's records, in the page's context.  NULL with *problem set where
 * the body is no page.
 */
IngestPage *
ingest_read_page(IngestRun *run, ScanSlice body, char **problem)
{
	IngestPage *page = palloc0(sizeof(IngestPage));
	char	   *selector = core_json_text(run->stream->manifest,
										  "data_selector");
	size_t		limit = (size_t) core_setting_int("visage.max_record") * 1024;
	ScanSlice  *slices = scan_page(body, selector ? selector : "",
								   &page->count, problem);

	if (slices == NULL)
		return NULL;
	page->records = palloc_extended(sizeof(IngestRecord) *
									(Size) Max(page->count, 1),
									MCXT_ALLOC_ZERO | MCXT_ALLOC_HUGE);
	for (int i = 0; i < page->count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (slices[i].length > limit)
		{
			*problem = psprintf("Record %d has %zu bytes, more than setting "
								"visage.max_record allows.", i + 1,
								slices[i].length);
			return NULL;
		}
		page->records[i].slice = slices[i];
		read_record(run, page, &page->records[i]);
	}
	return page;
}

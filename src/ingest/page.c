/*-------------------------------------------------------------------------
 *
 * page.c
 *		From the bytes of records to their members, keys and cursors.
 *
 * Also collects, across the pages of a run, which fields there are and of
 * which kinds; tables.c makes columns of them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "core/core.h"
#include "core/settings.h"
#include "ingest/ingest.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"

/* What visiting records gathers. */
typedef struct Visit
{
	IngestRun  *run;
	IngestBatch *batch;
	IngestRecord *record;
	ScanSlice  *keys;			/* one slice a primary key field */
	bool	   *key_found;
	ScanSlice	cursor;
	ScanSlice	tie;
	ScanSlice	last_cursor;	/* of the records so far */
	ScanSlice	last_tie;
	int			hint;			/* where the next field probably is */
	int			flattened;		/* the object being flattened, -1: none */
	StringInfoData name;		/* room for a nested field's name */
} Visit;

/* ---- fields ---- */

/* The column of a field: as renamed, or after its name. */
static char *
column_of(const IngestStream *stream, const char *name, int flattened)
{
	if (flattened < 0 || ingest_is_renamed(stream->endpoint, name))
		return ingest_column(stream->endpoint, name);
	return psprintf("%s%s", stream->prefixes[flattened],
					core_snake_case(name +
									strlen(stream->flattened[flattened]) + 1));
}

/*
 * Does this name mean the field?  A member of a flattened object may be
 * meant by its column, too.
 */
static bool
means(const char *name, const IngestField *field, int flattened)
{
	return name != NULL && (strcmp(name, field->name) == 0 ||
							(flattened >= 0 &&
							 strcmp(name, field->column) == 0));
}

/* Appends a field that is new to the run. */
static int
add_field(IngestRun *run, char *name, int flattened)
{
	const IngestStream *stream = run->stream;
	MemoryContext caller = MemoryContextSwitchTo(run->context);
	IngestField *field;

	if (run->field_count == run->field_allocated)
	{
		run->field_allocated = Max(run->field_allocated * 2, 64);
		run->fields = run->fields == NULL ?
			palloc(sizeof(IngestField) * run->field_allocated) :
			repalloc(run->fields, sizeof(IngestField) * run->field_allocated);
	}
	field = &run->fields[run->field_count++];
	memset(field, 0, sizeof(IngestField));
	field->name = pstrdup(name);
	field->name_length = strlen(name);
	field->column = column_of(stream, name, flattened);
	field->key = -1;
	for (int i = 0; i < stream->key_count; i++)
		if (means(stream->keys[i], field, flattened))
			field->key = i;
	field->is_cursor = means(stream->cursor.field, field, flattened);
	field->is_tie = means(stream->paginator.tie_break, field, flattened);
	field->is_plain = field->key < 0 && !field->is_cursor && !field->is_tie;
	MemoryContextSwitchTo(caller);
	return run->field_count - 1;
}

/*
 * The index of the field of this name, which has no escapes, or -1.  Records
 * of a page have their fields in much the same order.
 */
static int
look_for_field(Visit *visit, const char *name, size_t length)
{
	const IngestRun *run = visit->run;
	const IngestField *fields = run->fields;

	for (int i = 0, index = visit->hint; i < run->field_count; i++, index++)
	{
		if (index >= run->field_count)
			index = 0;
		if (fields[index].name_length == length &&
			memcmp(fields[index].name, name, length) == 0)
		{
			visit->hint = index + 1;
			return index;
		}
	}
	return -1;
}

/* The index of the field of this name, added where it is new. */
static int
find_field(Visit *visit, ScanSlice name, bool escaped)
{
	ScanSlice	quoted = {name.start - 1, name.length + 2};
	char	   *text = escaped ? scan_text(quoted) : NULL;
	int			index =
	look_for_field(visit, text ? text : name.start,
				   text ? strlen(text) : name.length);

	if (index >= 0)
		return index;
	return add_field(visit->run, text ? text : scan_text(quoted), -1);
}

/* The same for a member of an object that is flattened. */
static int
find_nested_field(Visit *visit, ScanSlice name)
{
	IngestRun  *run = visit->run;
	ScanSlice	quoted = {name.start - 1, name.length + 2};
	int			index;

	resetStringInfo(&visit->name);
	appendStringInfo(&visit->name, "%s.%s",
					 run->stream->flattened[visit->flattened],
					 scan_text(quoted));
	index = look_for_field(visit, visit->name.data, visit->name.len);
	return index >= 0 ? index :
		add_field(run, visit->name.data, visit->flattened);
}

/* ---- records ---- */

/* Room for another member. */
static IngestMember *
next_member(Visit *visit)
{
	IngestRun  *run = visit->run;
	IngestBatch *batch = visit->batch;

	if (batch->member_count == run->member_room_count)
	{
		Size		count = Max((Size) run->member_room_count * 2, 4096);
		Size		size = sizeof(IngestMember) * count;

		run->member_room = run->member_room == NULL ?
			MemoryContextAlloc(run->context, size) :
			repalloc_huge(run->member_room, size);
		run->member_room_count = count;
		batch->members = run->member_room;
	}
	return &batch->members[batch->member_count++];
}

/* Notes a member, and its value if it is of use here. */
static void
take_member(Visit *visit, int index, const ScanMember *from)
{
	IngestField *field = &visit->run->fields[index];
	IngestMember *member = next_member(visit);

	member->field = index;
	member->kind = from->kind;
	member->escaped = from->escaped;
	member->value = from->value;
	visit->record->member_count++;
	field->kinds |= from->kind;
	if (field->is_plain)
		return;
	if (field->key >= 0)
	{
		visit->keys[field->key] = from->value;
		visit->key_found[field->key] =
			(from->kind & (SCAN_NULL | SCAN_CONTAINER)) == 0;
	}
	if (field->is_cursor && from->kind != SCAN_NULL)
		visit->cursor = from->value;
	if (field->is_tie && from->kind != SCAN_NULL)
		visit->tie = from->value;
}

/* ScanVisitor for the record itself. */
static void
visit_member(void *arg, const ScanMember *member)
{
	Visit	   *visit = arg;
	const IngestStream *stream = visit->run->stream;

	for (int i = 0; i < stream->flattened_count; i++)
		if (member->kind == SCAN_CONTAINER &&
			scan_name_is(member->name, stream->flattened[i]))
			return;
	take_member(visit, find_field(visit, member->name, member->name_escaped),
				member);
}

/* ScanVisitor for an object that is flattened. */
static void
visit_nested(void *arg, const ScanMember *member)
{
	Visit	   *visit = arg;

	take_member(visit, find_nested_field(visit, member->name), member);
}

/* Members that lie deeper: of flattened objects, and declared by path. */
static void
take_nested(Visit *visit)
{
	const IngestStream *stream = visit->run->stream;
	ScanSlice	record = visit->record->slice;
	ScanSlice	value;
	ScanKind	kind;

	for (int i = 0; i < stream->flattened_count; i++)
		if (scan_path(record, stream->flattened[i], &value, &kind) &&
			kind == SCAN_CONTAINER && *value.start == '{')
		{
			visit->flattened = i;
			(void) scan_record(value, visit_nested, visit);
		}
	for (int i = 0; i < stream->path_count; i++)
	{
		ScanMember	member = {.escaped = true};
		char	   *quoted;

		if (!scan_path(record, stream->paths[i], &member.value,
					   &member.kind))
			continue;
		quoted = psprintf("\"%s\"", stream->paths[i]);
		member.name.start = quoted + 1;
		member.name.length = strlen(stream->paths[i]);
		take_member(visit, find_field(visit, member.name, true), &member);
	}
	/* a cursor or tie that is no field of its own */
	if (visit->cursor.start == NULL && stream->cursor.field != NULL &&
		strchr(stream->cursor.field, '.') != NULL &&
		scan_path(record, stream->cursor.field, &value, &kind) &&
		kind != SCAN_NULL)
		visit->cursor = value;
	if (visit->tie.start == NULL && stream->paginator.tie_break != NULL &&
		strchr(stream->paginator.tie_break, '.') != NULL &&
		scan_path(record, stream->paginator.tie_break, &value, &kind) &&
		kind != SCAN_NULL)
		visit->tie = value;
}

/*
 * The record's key as text, a JSON array where it has several fields; NULL
 * where a field is missing, null or no scalar.
 */
static char *
record_key(const Visit *visit)
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
no_key_reason(const Visit *visit)
{
	int			i = 0;

	while (visit->key_found[i])
		i++;
	return psprintf("field \"%s\" of the primary key is missing, null or no "
					"scalar", visit->run->stream->keys[i]);
}

/* Does the record say that its key is deleted? */
static bool
says_deleted(const IngestStream *stream, ScanSlice record)
{
	Jsonb	   *rule = core_json_value(stream->endpoint, "deleted_when");
	char	   *value;

	if (stream->main != NULL)
		return true;
	if (rule == NULL)
		return false;
	value = scan_path_text(record, core_json_text(rule, "path"));
	return value != NULL && strcmp(value, core_json_text(rule, "equals")) == 0;
}

/* Keeps the greatest cursor value, where they come in no order. */
static void
take_newest(Visit *visit)
{
	const IngestStream *stream = visit->run->stream;
	IngestBatch *batch = visit->batch;
	ScanSlice	before = visit->last_cursor;
	char	   *value;

	if (before.start != NULL && before.length == visit->cursor.length &&
		memcmp(before.start, visit->cursor.start, before.length) == 0)
		return;
	value = scan_text(visit->cursor);
	if (batch->newest == NULL ||
		ingest_compare_values(stream->cursor.format, value,
							  batch->newest) > 0)
		batch->newest = value;
}

/* What the record lacks of what keyset pages go by, or NULL. */
static const char *
lacks(const Visit *visit)
{
	const IngestStream *stream = visit->run->stream;
	const IngestPaginator *paginator = &stream->paginator;

	if (paginator->kind != PAGES_KEYSET)
		return NULL;
	if (paginator->tie_break != NULL && visit->tie.start == NULL)
		return paginator->tie_break;
	return paginator->by != KEYSET_TIE && visit->cursor.start == NULL ?
		stream->cursor.field : NULL;
}

/* Keeps the record's cursor, for the position behind the batch. */
static void
take_cursor(Visit *visit)
{
	const IngestStream *stream = visit->run->stream;
	const char *lacking = lacks(visit);

	/* a record that is put aside has a place, or none that matters */
	if (lacking == NULL || visit->record->reason == NULL)
		visit->batch->unplaced = lacking;
	if (lacking != NULL)
		return;
	if (stream->paginator.kind == PAGES_KEYSET &&
		stream->paginator.tie_break != NULL)
		visit->last_tie = visit->tie;
	if (visit->cursor.start == NULL)
		return;
	if (visit->batch->first_value == NULL)
		visit->batch->first_value = scan_text(visit->cursor);
	if (!stream->cursor.ordered)
		take_newest(visit);
	visit->last_cursor = visit->cursor;
}

/* Checks one record and takes its members, key and cursor. */
static void
read_record(Visit *visit, IngestRecord *record)
{
	const IngestStream *stream = visit->run->stream;

	visit->record = record;
	visit->cursor.start = visit->tie.start = NULL;
	visit->flattened = -1;
	for (int i = 0; i < stream->key_count; i++)
		visit->key_found[i] = false;
	record->first_member = visit->batch->member_count;
	record->reason = scan_record(record->slice, visit_member, visit);
	if (record->reason == NULL &&
		(stream->flattened_count > 0 || stream->path_count > 0 ||
		 visit->cursor.start == NULL || visit->tie.start == NULL))
		take_nested(visit);
	record->key = record_key(visit);
	if (record->reason == NULL && record->key == NULL &&
		stream->key_count > 0)
		record->reason = no_key_reason(visit);
	record->deleted = record->reason == NULL &&
		says_deleted(stream, record->slice);
	take_cursor(visit);
}

/* A hash of the record's bytes, for pages that may come twice. */
static uint64
add_hash(uint64 hash, ScanSlice slice)
{
	return hash_bytes_extended((const unsigned char *) slice.start,
							   Min(slice.length, PG_INT32_MAX), hash);
}

/* Room for so many records. */
static IngestRecord *
room_for_records(IngestRun *run, int count)
{
	if (count > run->record_room_count)
	{
		if (run->record_room != NULL)
			pfree(run->record_room);
		run->record_room = NULL;
		run->record_room_count = 0;
		run->record_room =
			MemoryContextAllocHuge(run->context,
								   sizeof(IngestRecord) * (Size) count);
		run->record_room_count = count;
	}
	if (count > 0)
		memset(run->record_room, 0, sizeof(IngestRecord) * (Size) count);
	return run->record_room;
}

/*
 * The records that were cut, until the next batch; their values are in the
 * current context.  NULL with *problem set where one is larger than the
 * limit.
 */
IngestBatch *
ingest_read_records(IngestRun *run, const Split *split, char **problem)
{
	IngestBatch *batch = palloc0(sizeof(IngestBatch));
	size_t		limit = (size_t) core_setting_int("visage.max_record") * 1024;
	bool		hashed = run->stream->paginator.kind != PAGES_KEYSET ||
	run->stream->paginator.by == KEYSET_CURSOR;
	int			key_count = Max(run->stream->key_count, 1);
	Visit		visit = {.run = run,.batch = batch};

	visit.keys = palloc(sizeof(ScanSlice) * key_count);
	visit.key_found = palloc(sizeof(bool) * key_count);
	initStringInfo(&visit.name);
	batch->count = split->count;
	batch->records = room_for_records(run, batch->count);
	batch->members = run->member_room;
	for (int i = 0; i < batch->count; i++)
	{
		IngestRecord *record = &batch->records[i];

		CHECK_FOR_INTERRUPTS();
		record->slice = split->records[i].slice;
		if (record->slice.length > limit)
		{
			*problem = psprintf("Record %d has %zu bytes, more than setting "
								"visage.max_record allows.", i + 1,
								record->slice.length);
			return NULL;
		}
		if (hashed)
			batch->hash = add_hash(batch->hash, record->slice);
		if (split->records[i].reason != NULL)
			record->reason = split->records[i].reason;
		else
			read_record(&visit, record);
	}
	if (visit.last_cursor.start != NULL)
		batch->last_value = scan_text(visit.last_cursor);
	if (visit.last_tie.start != NULL)
		batch->last_tie = scan_text(visit.last_tie);
	return batch;
}

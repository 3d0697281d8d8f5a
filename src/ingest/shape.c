/*-------------------------------------------------------------------------
 *
 * shape.c
 *		Makes records of what an answer holds in another shape.
 *
 * Lists of values get the names that stand elsewhere in the document (zip),
 * a record inside an envelope of its own is taken out (record_selector),
 * and fields that the answer lacks are put in front (add, parent.include).
 * The text of values is copied byte by byte.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "core/core.h"
#include "ingest/ingest.h"
#include "utils/json.h"

/* One list of values and its names. */
typedef struct ZipList
{
	char	   *names_path;		/* of the array */
	char	   *name_member;	/* of each element, or NULL */
	char	   *values_path;
	char	   *value_member;
	ScanSlice  *names;			/* JSON strings */
	int			count;
} ZipList;

struct IngestShape
{
	ZipList    *lists;
	int			list_count;
	bool		names_known;
	char	   *selector;		/* record_selector */
	char	   *added;			/* '"a":"x",' to put in front, or NULL */
	MemoryContext context;
};

/* Splits "path[].member". */
static void
split_path(char *path, char **array, char **member)
{
	char	   *brackets = strstr(path, "[]");

	*array = path;
	*member = NULL;
	if (brackets == NULL)
		return;
	*brackets = '\0';
	if (brackets[2] == '.')
		*member = brackets + 3;
}

static void
append_field(StringInfo fields, const char *name, const char *json)
{
	escape_json(fields, name);
	appendStringInfo(fields, ":%s,", json);
}

/* The fields of "add" and of the parent, as JSON members. */
static char *
added_fields(IngestRun *run, const IngestPosition *at)
{
	Jsonb	   *add = core_json_value(run->stream->endpoint, "add");
	Jsonb	   *include =
	core_json_value(core_json_value(run->stream->endpoint, "parent"),
					"include");
	IngestVariables variables = {run, at};
	StringInfoData fields;
	int			count;
	char	  **names = core_json_keys(add, &count);

	initStringInfo(&fields);
	for (int i = 0; i < count; i++)
	{
		IngestScope scope = {.lookup = ingest_variable,.arg = &variables};
		char	   *value = ingest_fill(core_json_text(add, names[i]), &scope);
		StringInfoData json;

		if (scope.missing || scope.secret)
			continue;
		initStringInfo(&json);
		escape_json(&json, value);
		append_field(&fields, names[i], json.data);
	}
	names = core_json_keys(include, &count);
	for (int i = 0; i < count; i++)
	{
		Jsonb	   *value = core_json_value(run->parent,
											core_json_text(include, names[i]));

		if (value != NULL)
			append_field(&fields, names[i],
						 JsonbToCString(NULL, &value->root, VARSIZE(value)));
	}
	return fields.len > 0 ? fields.data : NULL;
}

/* Reads what the manifest says; for the page at a position. */
IngestShape *
ingest_open_shape(IngestRun *run, const IngestPosition *at)
{
	Jsonb	   *zip = core_json_value(run->stream->endpoint, "zip");
	IngestShape *shape = palloc0(sizeof(IngestShape));

	shape->context = CurrentMemoryContext;
	shape->selector = core_json_text(run->stream->endpoint,
									 "record_selector");
	shape->added = added_fields(run, at);
	shape->list_count = zip ? JB_ROOT_COUNT(zip) : 0;
	shape->lists = palloc0(sizeof(ZipList) * Max(shape->list_count, 1));
	for (int i = 0; i < shape->list_count; i++)
	{
		Jsonb	   *list =
		JsonbValueToJsonb(getIthJsonbValueFromContainer(&zip->root, i));

		split_path(core_json_text(list, "names"),
				   &shape->lists[i].names_path, &shape->lists[i].name_member);
		split_path(core_json_text(list, "values"),
				   &shape->lists[i].values_path,
				   &shape->lists[i].value_member);
	}
	return shape;
}

/* ---- zip ---- */

/* ScanElement: notes a name. */
static void
take_name(void *arg, ScanSlice value, ScanKind kind)
{
	ZipList    *list = arg;
	ScanSlice	name = value;
	char	   *copy;

	if (list->name_member != NULL &&
		!scan_path(value, list->name_member, &name, &kind))
		kind = SCAN_NULL;
	list->names = list->names == NULL ? palloc(sizeof(ScanSlice)) :
		repalloc(list->names, sizeof(ScanSlice) * (list->count + 1));
	copy = kind == SCAN_STRING ? pnstrdup(name.start, name.length) :
		psprintf("\"value_%d\"", list->count + 1);
	list->names[list->count].start = copy;
	list->names[list->count++].length = strlen(copy);
}

/* Finds the names in what precedes the records. */
static bool
take_names(IngestShape *shape, const Split *split, char **problem)
{
	MemoryContext caller = MemoryContextSwitchTo(shape->context);
	ScanSlice	envelope = {split->envelope.data, split->envelope.len};
	bool		found = true;

	for (int i = 0; i < shape->list_count; i++)
	{
		ZipList    *list = &shape->lists[i];
		ScanSlice	names;
		ScanKind	kind;

		if (!scan_path(envelope, list->names_path, &names, &kind))
			found = false;
		else
			(void) scan_elements(names, take_name, list);
	}
	MemoryContextSwitchTo(caller);
	shape->names_known = true;
	if (!found)
		*problem = pstrdup("The names of its values do not precede them.");
	return found;
}

/* What take_value goes through a record with. */
typedef struct Zipping
{
	StringInfo	json;
	const ZipList *list;
	int			next;
} Zipping;

/* ScanElement: a value under its name. */
static void
take_value(void *arg, ScanSlice value, ScanKind kind)
{
	Zipping    *zipping = arg;
	const ZipList *list = zipping->list;
	ScanSlice	inner = value;

	if (zipping->next >= list->count)
		return;
	if (zipping->json->len > 1)
		appendStringInfoChar(zipping->json, ',');
	appendBinaryStringInfo(zipping->json, list->names[zipping->next].start,
						   list->names[zipping->next].length);
	zipping->next++;
	appendStringInfoChar(zipping->json, ':');
	if (list->value_member != NULL &&
		!scan_path(value, list->value_member, &inner, &kind))
		appendStringInfoString(zipping->json, "null");
	else
		appendBinaryStringInfo(zipping->json, inner.start, inner.length);
}

/* The record with its values under their names. */
static ScanSlice
zip_record(const IngestShape *shape, ScanSlice record)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoChar(&json, '{');
	for (int i = 0; i < shape->list_count; i++)
	{
		Zipping		zipping = {&json, &shape->lists[i], 0};
		ScanSlice	values;
		ScanKind	kind;

		if (scan_path(record, shape->lists[i].values_path, &values, &kind))
			(void) scan_elements(values, take_value, &zipping);
	}
	appendStringInfoChar(&json, '}');
	record.start = json.data;
	record.length = json.len;
	return record;
}

/* ---- the others ---- */

/* The record with fields in front, which its own of that name override. */
static ScanSlice
add_fields(const IngestShape *shape, ScanSlice record)
{
	const char *open = memchr(record.start, '{', record.length);
	const char *end = record.start + record.length;
	const char *rest = open ? open + 1 : end;
	StringInfoData json;

	if (open == NULL)
		return record;
	while (rest < end && (*rest == ' ' || *rest == '\t' || *rest == '\n' ||
						  *rest == '\r'))
		rest++;
	initStringInfo(&json);
	appendStringInfoChar(&json, '{');
	appendStringInfoString(&json, shape->added);
	if (rest < end && *rest == '}')
		json.len--;				/* the comma */
	appendBinaryStringInfo(&json, rest, end - rest);
	record.start = json.data;
	record.length = json.len;
	return record;
}

/* Gives the records cut their shape; false where that cannot be. */
bool
ingest_shape_records(IngestShape *shape, Split *split, char **problem)
{
	if (split->count > 0 && shape->list_count > 0 && !shape->names_known &&
		!take_names(shape, split, problem))
		return false;
	for (int i = 0; i < split->count; i++)
	{
		SplitRecord *record = &split->records[i];
		ScanSlice	inner;
		ScanKind	kind;

		if (record->reason != NULL)
			continue;
		if (shape->list_count > 0)
			record->slice = zip_record(shape, record->slice);
		if (shape->selector != NULL)
		{
			if (scan_path(record->slice, shape->selector, &inner, &kind))
				record->slice = inner;
			else
				record->reason = "the record_selector finds nothing";
		}
		if (shape->added != NULL)
			record->slice = add_fields(shape, record->slice);
	}
	return true;
}

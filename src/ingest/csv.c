/*-------------------------------------------------------------------------
 *
 * csv.c
 *		Lines of comma-separated values (RFC 4180) as records.
 *
 * Each line becomes the text of a JSON object, its names the titles of the
 * first line and its values strings, so that everything behind sees one kind
 * of record.  An empty value without quotes is null.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "ingest/split.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"

typedef struct Value
{
	ScanSlice	slice;			/* without the quotes round it */
	bool		quoted;
} Value;

typedef struct Line
{
	Value	   *values;
	int			count;
	int			allocated;
	bool		malformed;
} Line;

static void
add_value(Line *line, const char *start, const char *past, bool quoted)
{
	if (line->count == line->allocated)
	{
		line->allocated = Max(line->allocated * 2, 64);
		line->values = line->values == NULL ?
			palloc(sizeof(Value) * line->allocated) :
			repalloc(line->values, sizeof(Value) * line->allocated);
	}
	line->values[line->count].slice.start = start;
	line->values[line->count].slice.length = past - start;
	line->values[line->count++].quoted = quoted;
}

/* Past the closing quote of the value that opens at c; NULL: cut off. */
static const char *
skip_quoted(const char *c, const char *end)
{
	for (c++; c < end; c++)
	{
		if (*c != '"')
			continue;
		if (c + 1 < end && c[1] == '"')
			c++;
		else
			return c + 1;
	}
	return NULL;
}

/*
 * Reads the line at c.  Returns the start of the next one; NULL where this
 * one is not complete.
 */
static const char *
read_line(const char *c, const char *end, bool final, char delimiter,
		  Line *line)
{
	for (;;)
	{
		const char *start = c;
		bool		quoted = c < end && *c == '"';

		if (quoted)
		{
			c = skip_quoted(c, end);
			if (c == NULL)
				return NULL;
			add_value(line, start + 1, c - 1, true);
			if (c < end && *c != delimiter && *c != '\n' && *c != '\r')
				line->malformed = true;
		}
		while (c < end && *c != delimiter && *c != '\n')
			c++;
		if (c >= end && !final)
			return NULL;
		if (!quoted)
			add_value(line, start, c > start && c[-1] == '\r' &&
					  (c >= end || *c == '\n') ? c - 1 : c, false);
		if (c >= end)
			return end;
		if (*c++ == '\n')
			return c;
	}
}

/* Appends a value as a JSON string; bytes are checked when it is scanned. */
static void
append_string(StringInfo json, const Value *value)
{
	appendStringInfoChar(json, '"');
	for (size_t i = 0; i < value->slice.length; i++)
	{
		char		c = value->slice.start[i];

		if (c == '"' && value->quoted)
			i++;				/* doubled inside quotes */
		if (c == '"' || c == '\\')
			appendStringInfoChar(json, '\\');
		if ((unsigned char) c < 0x20)
			appendStringInfo(json, "\\u%04x", c);
		else
			appendStringInfoChar(json, c);
	}
	appendStringInfoChar(json, '"');
}

/* Does the value mean null? */
static bool
is_null(const Split *split, const Value *value)
{
	if (value->quoted)
		return false;
	for (int i = 0; i < split->null_count; i++)
		if (strlen(split->nulls[i]) == value->slice.length &&
			memcmp(split->nulls[i], value->slice.start,
				   value->slice.length) == 0)
			return true;
	return value->slice.length == 0;
}

/* Takes the titles; those of the same name get a number. */
static void
take_titles(Split *split, Line *line, char **problem)
{
	MemoryContext caller = MemoryContextSwitchTo(split->context);

	split->titles = palloc(sizeof(char *) * line->count);
	for (int i = 0; i < line->count; i++)
	{
		StringInfoData title;
		int			same = 0;

		if (i == 0 && line->values[0].slice.length >= 3 &&
			memcmp(line->values[0].slice.start, "\xEF\xBB\xBF", 3) == 0)
		{
			line->values[0].slice.start += 3;
			line->values[0].slice.length -= 3;
		}
		initStringInfo(&title);
		append_string(&title, &line->values[i]);
		for (int j = 0; j < i; j++)
			same += strcmp(split->titles[j], title.data) == 0;
		if (same > 0)
		{
			title.data[--title.len] = '\0';
			appendStringInfo(&title, "_%d\"", same + 1);
		}
		split->titles[i] = title.data;
	}
	split->title_count = line->count;
	MemoryContextSwitchTo(caller);
	if (line->values[0].slice.length > 0 &&
		line->values[0].slice.start[0] == '<')
		*problem = pstrdup("It is markup, not CSV.");
}

/* The line as a JSON object. */
static ScanSlice
object_of(Split *split, const Line *line)
{
	StringInfoData json;
	ScanSlice	object;

	initStringInfo(&json);
	appendStringInfoChar(&json, '{');
	for (int i = 0; i < line->count; i++)
	{
		if (i > 0)
			appendStringInfoChar(&json, ',');
		appendStringInfoString(&json, split->titles[i]);
		appendStringInfoChar(&json, ':');
		if (is_null(split, &line->values[i]))
			appendStringInfoString(&json, "null");
		else
			append_string(&json, &line->values[i]);
	}
	appendStringInfoChar(&json, '}');
	object.start = json.data;
	object.length = json.len;
	return object;
}

/* Is this line nothing at all? */
static bool
is_blank(const Line *line)
{
	return line->count == 1 && !line->values[0].quoted &&
		line->values[0].slice.length == 0;
}

/* split_cut for CSV. */
size_t
split_csv(Split *split, ScanSlice data, bool final, char **problem)
{
	const char *c = data.start;
	const char *end = data.start + data.length;
	Line		line = {0};

	while (c < end)
	{
		const char *next;
		ScanSlice	raw = {.start = c};

		CHECK_FOR_INTERRUPTS();
		line.count = 0;
		line.malformed = false;
		next = read_line(c, end, final, split->delimiter, &line);
		if (next == NULL && !final)
			break;
		if (next == NULL)
		{
			*problem = psprintf("The CSV is cut off inside quotes after "
								"record %d.", split->count);
			return c - data.start;
		}
		raw.length = next - c;
		if (split->titles == NULL)
		{
			take_titles(split, &line, problem);
			if (*problem != NULL)
				return c - data.start;
		}
		else if (line.malformed)
			split_add(split, raw,
					  "something follows a closing quote");
		else if (!is_blank(&line) && line.count != split->title_count)
			split_add(split, raw,
					  psprintf("the line has %d values under %d titles",
							   line.count, split->title_count));
		else if (!is_blank(&line))
			split_add(split, object_of(split, &line), NULL);
		c = next;
	}
	if (final)
		split->state = SPLIT_END;
	return c - data.start;
}

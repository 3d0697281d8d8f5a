/*-------------------------------------------------------------------------
 *
 * split.c
 *		Cuts an answer into records while it comes in.
 *
 * split_cut is given what is there of an answer, and takes the complete
 * records off its front; what it did not use must be given again with more
 * behind it.  So a document of any size passes through a buffer that holds
 * one record at least.  Only brackets and strings are matched here; scan.c
 * holds each record to the rest.
 *
 * What surrounds the array of records is kept: the envelope is the document
 * with an empty array in the array's place, for links to the next page and
 * the like.
 *
 * Answers come from outside: nothing is read past the end of a slice.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "ingest/bytes.h"
#include "ingest/split.h"
#include "miscadmin.h"

#define MAX_ENVELOPE (16 * 1024 * 1024)

/*
 * Begins an answer; the parts that say what it is are set by the caller.
 * What is kept of it stays in the current memory context; records are cut
 * into the one that is current then.
 */
void
split_begin(Split *split)
{
	split->state = SPLIT_BEFORE;
	split->first = true;
	split->single = false;
	split->titles = NULL;
	split->title_count = 0;
	split->records = NULL;
	split->count = split->allocated = 0;
	split->context = CurrentMemoryContext;
	initStringInfo(&split->envelope);
}

/* Appends a record to those cut. */
void
split_add(Split *split, ScanSlice slice, const char *reason)
{
	if (split->count == split->allocated)
	{
		split->allocated = Max(split->allocated * 2, 1024);
		split->records = split->records == NULL ?
			palloc(sizeof(SplitRecord) * split->allocated) :
			repalloc_huge(split->records,
						  sizeof(SplitRecord) * (Size) split->allocated);
	}
	split->records[split->count].slice = slice;
	split->records[split->count++].reason = reason;
}

static const char *
skip_space(const char *c, const char *end)
{
	while (c < end && (*c == ' ' || *c == '\t' || *c == '\n' || *c == '\r'))
		c++;
	return c;
}

/* Past the string whose opening quote is at c; NULL where it is cut off. */
static const char *
skip_string(const char *c, const char *end)
{
	for (c++;; c += 2)
	{
		c = bytes_skip_unquoted(c, end);
		if (c >= end)
			return NULL;
		if (*c == '"')
			return c + 1;
		if (end - c < 2)
			return NULL;
	}
}

/*
 * Past the value at c, and what follows it is there; NULL where it is cut
 * off.
 */
static const char *
skip_value(const char *c, const char *end)
{
	int64		depth = 0;

	while (c < end)
	{
		if (depth == 0 && (*c == ',' || *c == ']' || *c == '}'))
			return c;
		if (*c == '"')
		{
			c = skip_string(c, end);
			if (c == NULL)
				return NULL;
			continue;
		}
		if (*c == '{' || *c == '[')
			depth++;
		else if (*c == '}' || *c == ']')
			depth--;
		c++;
	}
	return NULL;
}

/* To the value of the named member of the object at c, or NULL. */
static const char *
enter_member(const char *c, const char *end, const char *name, size_t length)
{
	c = skip_space(c, end);
	if (c >= end || *c != '{')
		return NULL;
	do
	{
		ScanSlice	found;
		ScanSlice	quoted;
		char	   *wanted = pnstrdup(name, length);

		c = skip_space(c + 1, end);
		found.start = c + 1;
		if (c >= end || *c != '"' || (c = skip_string(c, end)) == NULL)
			return NULL;
		found.length = c - found.start - 1;
		c = skip_space(c, end);
		if (c >= end || *c != ':')
			return NULL;
		c = skip_space(c + 1, end);
		quoted.start = found.start - 1;
		quoted.length = found.length + 2;
		if (scan_document(quoted) == NULL && scan_name_is(found, wanted))
			return c;
		c = skip_value(c, end);
	} while (c != NULL && c < end && *c == ',');
	return NULL;
}

/* To the value that the selector ("", "a" or "a.b") names, or NULL. */
static const char *
enter_selector(const char *c, const char *end, const char *selector)
{
	while (c != NULL && *selector != '\0')
	{
		size_t		len = strcspn(selector, ".");

		c = enter_member(c, end, selector, len);
		selector += len + (selector[len] == '.');
	}
	return c == NULL ? NULL : skip_space(c, end);
}

/* The whole document is there, and the array is not in it. */
static void
end_without_array(Split *split, ScanSlice data, char **problem)
{
	const char *reason = scan_document(data);
	const char *start = skip_space(data.start, data.start + data.length);

	split->state = SPLIT_END;
	if (reason != NULL)
		*problem = psprintf("It is not usable JSON (%s).", reason);
	else if (split->selector[0] == '\0' || *start != '{')
		*problem = pstrdup("It is not a JSON array.");
	else
	{
		ScanSlice	value;
		ScanKind	kind;

		if (scan_path(data, split->selector, &value, &kind) &&
			kind != SCAN_NULL)
			*problem = psprintf("There is no array at \"%s\".",
								split->selector);
		appendBinaryStringInfo(&split->envelope, data.start, data.length);
	}
}

/* Looks for the beginning of the array.  Returns how many bytes it used. */
static size_t
cut_before(Split *split, ScanSlice data, bool final, char **problem)
{
	const char *end = data.start + data.length;
	const char *array = enter_selector(data.start, end, split->selector);

	if (array == NULL || array >= end ||
		(*array != '[' && (*array != '{' || split->selector[0] == '\0')))
	{
		if (!final)
			return 0;
		end_without_array(split, data, problem);
		return data.length;
	}
	appendBinaryStringInfo(&split->envelope, data.start,
						   array - data.start);
	split->state = SPLIT_RECORDS;
	split->single = *array == '{';
	if (split->single)
		return array - data.start;
	appendStringInfoChar(&split->envelope, '[');
	return array + 1 - data.start;
}

/* Cuts records; returns how many bytes it used. */
static size_t
cut_records(Split *split, ScanSlice data)
{
	const char *c = data.start;
	const char *end = data.start + data.length;

	while (split->state == SPLIT_RECORDS)
	{
		const char *start = skip_space(c, end);
		const char *past;
		ScanSlice	record;

		CHECK_FOR_INTERRUPTS();
		if (start >= end)
			break;
		if (split->first && *start == ']')
		{
			c = start;
			split->state = SPLIT_AFTER;
			break;
		}
		past = skip_value(start, end);
		if (past == NULL)
			break;
		record.start = start;
		record.length = past - start;
		split_add(split, record, NULL);
		if (split->single)
			appendStringInfoString(&split->envelope, "{}");
		split->first = false;
		c = past;
		if (*past == ',' && !split->single)
			c++;
		else
			split->state = SPLIT_AFTER;
	}
	return c - data.start;
}

/* Keeps what follows the array; at the end all of it must be JSON. */
static void
cut_after(Split *split, ScanSlice data, bool final, char **problem)
{
	ScanSlice	document;
	const char *reason;

	if (split->envelope.len + data.length > MAX_ENVELOPE)
	{
		*problem = pstrdup("More than 16 MB surround its records.");
		return;
	}
	appendBinaryStringInfo(&split->envelope, data.start, data.length);
	if (!final)
		return;
	split->state = SPLIT_END;
	document.start = split->envelope.data;
	document.length = split->envelope.len;
	reason = scan_document(document);
	if (reason != NULL)
		*problem = psprintf("The JSON is cut off or malformed after record "
							"%d (%s).", split->count, reason);
}

static size_t
cut_json(Split *split, ScanSlice data, bool final, char **problem)
{
	size_t		used = 0;
	ScanSlice	rest;

	if (split->state == SPLIT_BEFORE)
		used = cut_before(split, data, final, problem);
	if (split->state == SPLIT_RECORDS)
	{
		rest.start = data.start + used;
		rest.length = data.length - used;
		used += cut_records(split, rest);
	}
	if (split->state == SPLIT_RECORDS && final)
	{
		*problem = psprintf("The JSON is cut off or malformed after record "
							"%d.", split->count);
		return used;
	}
	if (split->state == SPLIT_AFTER)
	{
		rest.start = data.start + used;
		rest.length = data.length - used;
		cut_after(split, rest, final, problem);
		used = data.length;
	}
	return used;
}

/* A record a line; empty lines are none. */
static size_t
cut_lines(Split *split, ScanSlice data, bool final)
{
	const char *c = data.start;
	const char *end = data.start + data.length;

	while (c < end)
	{
		const char *newline = memchr(c, '\n', end - c);
		const char *past = newline ? newline : end;
		const char *start = skip_space(c, past);
		ScanSlice	record = {start, past - start};

		CHECK_FOR_INTERRUPTS();
		if (newline == NULL && !final)
			break;
		if (start < past)
			split_add(split, record, NULL);
		c = newline ? newline + 1 : end;
	}
	if (final)
		split->state = SPLIT_END;
	return c - data.start;
}

/*
 * Cuts the records that are complete off the data; final where no more will
 * come.  Returns how many bytes are used up; *problem is set where this is
 * no answer of the format.
 */
size_t
split_cut(Split *split, ScanSlice data, bool final, char **problem)
{
	if (split->state == SPLIT_END)
		return data.length;
	switch (split->format)
	{
		case SPLIT_JSON:
			return cut_json(split, data, final, problem);
		case SPLIT_NDJSON:
			return cut_lines(split, data, final);
		case SPLIT_CSV:
			return split_csv(split, data, final, problem);
	}
	pg_unreachable();
}

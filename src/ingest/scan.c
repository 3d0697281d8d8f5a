/*-------------------------------------------------------------------------
 *
 * scan.c
 *		Reads JSON from outside without changing a byte of it.
 *
 * A general parser would turn numbers into doubles and refuse a whole page
 * for one bad record.  So a page is scanned twice.  split.c only matches
 * brackets and strings, to find where each record begins and ends; it fails
 * where the page is no JSON or is cut off.  scan_record then holds one
 * record to everything that jsonb demands, so that a record it passes can be
 * encoded without an error, and a bad one is put aside alone.
 *
 * Pages come from outside: nothing is read past the end of a slice, and
 * depth is bounded.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "ingest/bytes.h"
#include "ingest/scan.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"

#define MAX_DEPTH 1000

/* numeric's limits: digits before and after the decimal point */
#define MAX_DIGITS_BEFORE 131072
#define MAX_DIGITS_AFTER 16383

typedef struct Cursor
{
	const char *at;
	const char *end;
	const char *reason;			/* why the record is bad, once known */
	int			depth;
	bool		escaped;		/* the string just passed has escapes */
	ScanVisitor visitor;
	void	   *arg;
} Cursor;

static ScanKind scan_value(Cursor *cursor);

static void
skip_space(Cursor *cursor)
{
	while (cursor->at < cursor->end &&
		   (*cursor->at == ' ' || *cursor->at == '\t' ||
			*cursor->at == '\n' || *cursor->at == '\r'))
		cursor->at++;
}

/* Is the next character this one?  If so, passes it. */
static bool
accept(Cursor *cursor, char wanted)
{
	skip_space(cursor);
	if (cursor->at >= cursor->end || *cursor->at != wanted)
		return false;
	cursor->at++;
	return true;
}

/* Notes the first reason; false, so that callers can return it. */
static bool
bad(Cursor *cursor, const char *reason)
{
	if (cursor->reason == NULL)
		cursor->reason = reason;
	return false;
}

/* ---- records: everything that jsonb demands ---- */

/* Four hexadecimal digits of an escape, or -1. */
static int
scan_hex4(Cursor *cursor)
{
	int			value = 0;

	if (cursor->end - cursor->at < 4)
		return -1;
	for (int i = 0; i < 4; i++)
	{
		char		c = *cursor->at++;

		if (c >= '0' && c <= '9')
			value = value * 16 + (c - '0');
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			value = value * 16 + ((c | 0x20) - 'a' + 10);
		else
			return -1;
	}
	return value;
}

/* The rest of an escape after its backslash. */
static bool
scan_escape(Cursor *cursor)
{
	int			unit;

	if (cursor->at >= cursor->end)
		return bad(cursor, "invalid JSON: unfinished string");
	if (strchr("\"\\/bfnrt", *cursor->at) != NULL && *cursor->at != '\0')
	{
		cursor->at++;
		return true;
	}
	if (*cursor->at++ != 'u' || (unit = scan_hex4(cursor)) < 0)
		return bad(cursor, "invalid JSON: unknown escape");
	if (unit == 0)
		return bad(cursor, "NUL character");
	if (unit >= 0xDC00 && unit <= 0xDFFF)
		return bad(cursor, "lone surrogate");
	if (unit < 0xD800 || unit > 0xDBFF)
		return true;
	if (cursor->end - cursor->at < 6 || cursor->at[0] != '\\' ||
		cursor->at[1] != 'u')
		return bad(cursor, "lone surrogate");
	cursor->at += 2;
	unit = scan_hex4(cursor);
	if (unit < 0xDC00 || unit > 0xDFFF)
		return bad(cursor, "lone surrogate");
	return true;
}

/* One UTF-8 sequence of more than one byte. */
static bool
scan_multibyte(Cursor *cursor)
{
	unsigned char lead = (unsigned char) *cursor->at;
	int			len = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;

	if (cursor->end - cursor->at < len ||
		!pg_utf8_islegal((const unsigned char *) cursor->at, len))
		return bad(cursor, "invalid UTF-8");
	cursor->at += len;
	return true;
}

/* A string, the opening quote passed already. */
static bool
scan_string(Cursor *cursor)
{
	cursor->escaped = false;
	for (;;)
	{
		unsigned char c;

		cursor->at = bytes_skip_plain(cursor->at, cursor->end);
		if (cursor->at >= cursor->end)
			return bad(cursor, "invalid JSON: unfinished string");
		c = (unsigned char) *cursor->at;
		if (c == '"')
		{
			cursor->at++;
			return true;
		}
		if (c == '\\')
		{
			cursor->at++;
			cursor->escaped = true;
			if (!scan_escape(cursor))
				return false;
		}
		else if (c < 0x20)
			return bad(cursor, c == 0 ? "NUL character" :
					   "invalid JSON: control character in a string");
		else if (!scan_multibyte(cursor))
			return false;
	}
}

/* Passes digits and counts them. */
static int64
scan_digits(Cursor *cursor)
{
	const char *start = cursor->at;

	while (cursor->at < cursor->end && *cursor->at >= '0' &&
		   *cursor->at <= '9')
		cursor->at++;
	return cursor->at - start;
}

/* An exponent's value, clamped; *valid false where there are no digits. */
static int64
scan_exponent(Cursor *cursor, bool *valid)
{
	bool		negative = cursor->at < cursor->end && *cursor->at == '-';
	int64		value = 0;
	const char *start;

	if (cursor->at < cursor->end &&
		(*cursor->at == '-' || *cursor->at == '+'))
		cursor->at++;
	start = cursor->at;
	*valid = scan_digits(cursor) > 0;
	for (const char *c = start; c < cursor->at && value < 1000000; c++)
		value = value * 10 + (*c - '0');
	return negative ? -value : value;
}

/* A number within numeric's limits. */
static ScanKind
scan_number(Cursor *cursor)
{
	const char *start = cursor->at;
	int64		before;
	int64		after = 0;
	int64		exponent = 0;
	bool		valid;
	bool		integer = true;

	if (*cursor->at == '-')
		cursor->at++;
	before = scan_digits(cursor);
	valid = before == 1 || (before > 1 && cursor->at[-before] != '0');
	if (valid && cursor->at < cursor->end && *cursor->at == '.')
	{
		cursor->at++;
		after = scan_digits(cursor);
		valid = after > 0;
		integer = false;
	}
	if (valid && cursor->at < cursor->end && (*cursor->at | 0x20) == 'e')
	{
		cursor->at++;
		exponent = scan_exponent(cursor, &valid);
		integer = false;
	}
	if (!valid)
		bad(cursor, "invalid JSON: malformed number");
	else if (before + exponent > MAX_DIGITS_BEFORE ||
			 after - exponent > MAX_DIGITS_AFTER)
		bad(cursor, "number beyond numeric");
	return integer && cursor->at - start <= 18 ? SCAN_INTEGER : SCAN_NUMBER;
}

/* true, false or null. */
static ScanKind
scan_word(Cursor *cursor)
{
	static const struct
	{
		const char *word;
		ScanKind	kind;
	}			words[] = {
		{"true", SCAN_BOOL}, {"false", SCAN_BOOL}, {"null", SCAN_NULL}
	};

	for (int i = 0; i < lengthof(words); i++)
	{
		size_t		len = strlen(words[i].word);

		if (cursor->end - cursor->at >= len &&
			memcmp(cursor->at, words[i].word, len) == 0)
		{
			cursor->at += len;
			return words[i].kind;
		}
	}
	bad(cursor, "invalid JSON: unexpected character");
	return SCAN_NULL;
}

/* One member of an object; the record's own go to the visitor. */
static void
scan_member(Cursor *cursor)
{
	ScanMember	member;

	if (!accept(cursor, '"'))
	{
		bad(cursor, "invalid JSON: a member needs a name");
		return;
	}
	member.name.start = cursor->at;
	if (!scan_string(cursor))
		return;
	member.name.length = cursor->at - member.name.start - 1;
	member.name_escaped = cursor->escaped;
	if (!accept(cursor, ':'))
	{
		bad(cursor, "invalid JSON: a name needs a value");
		return;
	}
	skip_space(cursor);
	member.value.start = cursor->at;
	member.kind = scan_value(cursor);
	member.value.length = cursor->at - member.value.start;
	member.escaped = member.kind == SCAN_STRING && cursor->escaped;
	if (cursor->reason == NULL && cursor->depth == 1 && cursor->visitor)
		cursor->visitor(cursor->arg, &member);
}

/* An object or array after its opening bracket. */
static void
scan_container(Cursor *cursor, bool object)
{
	char		closing = object ? '}' : ']';

	if (++cursor->depth > MAX_DEPTH)
	{
		bad(cursor, "nested deeper than 1000 levels");
		return;
	}
	if (!accept(cursor, closing))
	{
		do
		{
			if (object)
				scan_member(cursor);
			else
				(void) scan_value(cursor);
		} while (cursor->reason == NULL && accept(cursor, ','));
		if (cursor->reason == NULL && !accept(cursor, closing))
			bad(cursor, "invalid JSON: a bracket is not closed");
	}
	cursor->depth--;
}

/* Any value; recursion is bounded by MAX_DEPTH. */
static ScanKind
scan_value(Cursor *cursor)
{
	skip_space(cursor);
	if (cursor->at >= cursor->end)
	{
		bad(cursor, "invalid JSON: unfinished");
		return SCAN_NULL;
	}
	switch (*cursor->at)
	{
		case '"':
			cursor->at++;
			scan_string(cursor);
			return SCAN_STRING;
		case '{':
		case '[':
			cursor->at++;
			scan_container(cursor, cursor->at[-1] == '{');
			return SCAN_CONTAINER;
		case '-':
		case '0':
		case '1':
		case '2':
		case '3':
		case '4':
		case '5':
		case '6':
		case '7':
		case '8':
		case '9':
			return scan_number(cursor);
		default:
			return scan_word(cursor);
	}
}

/*
 * Checks a record and shows its members to the visitor.  Returns NULL, or
 * why it cannot become jsonb (members before the fault have been visited).
 */
const char *
scan_record(ScanSlice record, ScanVisitor visitor, void *arg)
{
	Cursor		cursor = {.at = record.start,
	.end = record.start + record.length,.visitor = visitor,.arg = arg};

	skip_space(&cursor);
	if (cursor.at >= cursor.end || *cursor.at != '{')
		return "the record is not a JSON object";
	(void) scan_value(&cursor);
	skip_space(&cursor);
	if (cursor.reason == NULL && cursor.at != cursor.end)
		bad(&cursor, "invalid JSON: something follows the record");
	return cursor.reason;
}

/* ---- values ---- */

/* Appends a code point as UTF-8. */
static void
append_code_point(StringInfo text, pg_wchar code)
{
	unsigned char bytes[MAX_MULTIBYTE_CHAR_LEN] = {0};

	unicode_to_utf8(code, bytes);
	appendBinaryStringInfo(text, (char *) bytes, pg_utf_mblen(bytes));
}

/* Appends what the escape at the cursor (after the backslash) stands for. */
static void
append_escape(StringInfo text, Cursor *cursor)
{
	static const char from[] = "bfnrt";
	static const char to[] = "\b\f\n\r\t";
	char		c = *cursor->at++;
	const char *found = strchr(from, c);
	pg_wchar	unit;

	if (c != 'u')
	{
		appendStringInfoChar(text, found ? to[found - from] : c);
		return;
	}
	unit = scan_hex4(cursor);
	if (unit >= 0xD800 && unit <= 0xDBFF)
	{
		cursor->at += 2;
		unit = 0x10000 + ((unit - 0xD800) << 10) +
			(scan_hex4(cursor) - 0xDC00);
	}
	append_code_point(text, unit);
}

/* A copy of the bytes, ended with a NUL. */
static char *
copy_bytes(const char *start, size_t length)
{
	char	   *copy = palloc(length + 1);

	memcpy(copy, start, length);
	copy[length] = '\0';
	return copy;
}

/* A value of a checked record as text: strings decoded, the rest as is. */
char *
scan_text(ScanSlice value)
{
	Cursor		cursor = {.at = value.start,.end = value.start + value.length};
	StringInfoData text;

	if (value.length == 0 || *value.start != '"')
		return copy_bytes(value.start, value.length);
	if (memchr(value.start, '\\', value.length) == NULL)
		return copy_bytes(value.start + 1, value.length - 2);
	initStringInfo(&text);
	cursor.at++;
	cursor.end--;
	while (cursor.at < cursor.end)
	{
		const char *escape = memchr(cursor.at, '\\', cursor.end - cursor.at);
		const char *past = escape ? escape : cursor.end;

		appendBinaryStringInfo(&text, cursor.at, past - cursor.at);
		cursor.at = past;
		if (escape != NULL)
		{
			cursor.at++;
			append_escape(&text, &cursor);
		}
	}
	return text.data;
}

/* Is this the name?  Names with escapes are compared decoded. */
bool
scan_name_is(ScanSlice name, const char *text)
{
	ScanSlice	quoted = {name.start - 1, name.length + 2};

	if (memchr(name.start, '\\', name.length) != NULL)
		return strcmp(scan_text(quoted), text) == 0;
	return strlen(text) == name.length &&
		memcmp(name.start, text, name.length) == 0;
}

/* What a visitor looks for: one member by name. */
typedef struct Wanted
{
	const char *name;
	size_t		length;
	ScanSlice	value;
	ScanKind	kind;
	bool		found;
} Wanted;

static void
visit_wanted(void *arg, const ScanMember *member)
{
	Wanted	   *wanted = arg;

	if (member->name.length == wanted->length &&
		memcmp(member->name.start, wanted->name, wanted->length) == 0)
	{
		wanted->value = member->value;
		wanted->kind = member->kind;
		wanted->found = true;
	}
}

/*
 * Finds the value at a path of member names joined by dots; "" is the value
 * itself.  What stands before a fault in the JSON is found, too.
 */
bool
scan_path(ScanSlice document, const char *path, ScanSlice *value,
		  ScanKind *kind)
{
	*value = document;
	*kind = SCAN_CONTAINER;
	while (*path != '\0')
	{
		size_t		len = strcspn(path, ".");
		Wanted		wanted = {.name = path,.length = len};

		(void) scan_record(*value, visit_wanted, &wanted);
		if (!wanted.found)
			return false;
		*value = wanted.value;
		*kind = wanted.kind;
		path += len + (path[len] == '.');
	}
	return true;
}

/* The scalar at a path as text; NULL where there is none, or null. */
char *
scan_path_text(ScanSlice document, const char *path)
{
	ScanSlice	value;
	ScanKind	kind;

	if (!scan_path(document, path, &value, &kind) ||
		(kind & (SCAN_NULL | SCAN_CONTAINER)))
		return NULL;
	return scan_text(value);
}

/* Is this one JSON value and nothing else?  If not, why. */
const char *
scan_document(ScanSlice document)
{
	Cursor		cursor = {.at = document.start,
	.end = document.start + document.length};

	(void) scan_value(&cursor);
	skip_space(&cursor);
	if (cursor.reason == NULL && cursor.at != cursor.end)
		bad(&cursor, "something follows the document");
	return cursor.reason;
}

/* Calls back for each element of an array; false: it is none. */
bool
scan_elements(ScanSlice array, ScanElement element, void *arg)
{
	Cursor		cursor = {.at = array.start,.end = array.start + array.length};

	if (!accept(&cursor, '['))
		return false;
	if (accept(&cursor, ']'))
		return true;
	do
	{
		ScanSlice	value;
		ScanKind	kind;

		skip_space(&cursor);
		value.start = cursor.at;
		kind = scan_value(&cursor);
		value.length = cursor.at - value.start;
		if (cursor.reason != NULL)
			return false;
		element(arg, value, kind);
	} while (accept(&cursor, ','));
	return accept(&cursor, ']');
}

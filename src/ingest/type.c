/*-------------------------------------------------------------------------
 *
 * type.c
 *		JSON values as values of columns.
 *
 * The types that are inferred have a way of their own; every other one has
 * its input function, given a string decoded and anything else as it is
 * written.  A JSON array for an array type is rewritten as its literal.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "ingest/ingest.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/lsyscache.h"

#define ROOM_SIZE (64 * 1024)

struct IngestInput
{
	Oid			type;
	int32		typmod;
	Oid			parameter;
	bool		is_array;
	bool		text_only;
	FmgrInfo	function;
};

/*
 * Prepares for values of a type, in the current memory context; text_only
 * where everything comes as text, so that a string for jsonb is JSON itself.
 */
IngestInput *
ingest_open_input(Oid type, int32 typmod, bool text_only)
{
	IngestInput *input = palloc0(sizeof(IngestInput));
	Oid			function;

	input->type = type;
	input->typmod = typmod;
	input->text_only = text_only;
	input->is_array = OidIsValid(get_element_type(type));
	getTypeInputInfo(type, &function, &input->parameter);
	fmgr_info(function, &input->function);
	return input;
}

/* ---- arrays ---- */

static void append_array(StringInfo literal, ScanSlice array);

/* ScanElement: one element of an array's literal. */
static void
append_element(void *arg, ScanSlice value, ScanKind kind)
{
	StringInfo	literal = arg;
	char	   *text;

	if (literal->data[literal->len - 1] != '{')
		appendStringInfoChar(literal, ',');
	if (kind == SCAN_NULL)
	{
		appendStringInfoString(literal, "NULL");
		return;
	}
	if (kind == SCAN_CONTAINER && *value.start == '[')
	{
		append_array(literal, value);
		return;
	}
	text = scan_text(value);
	appendStringInfoChar(literal, '"');
	for (const char *c = text; *c; c++)
	{
		if (*c == '"' || *c == '\\')
			appendStringInfoChar(literal, '\\');
		appendStringInfoChar(literal, *c);
	}
	appendStringInfoChar(literal, '"');
}

static void
append_array(StringInfo literal, ScanSlice array)
{
	check_stack_depth();
	appendStringInfoChar(literal, '{');
	(void) scan_elements(array, append_element, literal);
	appendStringInfoChar(literal, '}');
}

/* ---- values ---- */

/* Room for a value, aligned. */
void *
ingest_take_room(IngestRoom *room, Size size)
{
	char	   *taken;

	size = MAXALIGN(size);
	if (size > ROOM_SIZE / 4)
		return MemoryContextAllocHuge(room->context, size);
	if (room->next == NULL || size > room->end - room->next)
	{
		room->next = MemoryContextAlloc(room->context, ROOM_SIZE);
		room->end = room->next + ROOM_SIZE;
	}
	taken = room->next;
	room->next += size;
	return taken;
}

/* A short integer without its input function. */
static bool
plain_integer(ScanSlice value, int64 *result)
{
	bool		negative = value.length > 0 && value.start[0] == '-';
	int64		number = 0;

	if (value.length - negative == 0 || value.length > 18)
		return false;
	for (size_t i = negative; i < value.length; i++)
	{
		if (value.start[i] < '0' || value.start[i] > '9')
			return false;
		number = number * 10 + (value.start[i] - '0');
	}
	*result = negative ? -number : number;
	return true;
}

/* A text with so many bytes, in the form that a row holds it in. */
static Datum
text_of(IngestRoom *room, const char *start, size_t length)
{
	char	   *text;

	if (length > VARATT_SHORT_MAX - VARHDRSZ_SHORT)
	{
		text = ingest_take_room(room, VARHDRSZ + length);
		SET_VARSIZE(text, VARHDRSZ + length);
		memcpy(VARDATA(text), start, length);
		return PointerGetDatum(text);
	}
	text = ingest_take_room(room, VARHDRSZ_SHORT + length);
	SET_VARSIZE_SHORT(text, VARHDRSZ_SHORT + length);
	memcpy(VARDATA_SHORT(text), start, length);
	return PointerGetDatum(text);
}

/* The value as text. */
static Datum
as_text(const IngestMember *member, IngestRoom *room)
{
	ScanSlice	value = member->value;
	char	   *decoded;

	if (member->kind != SCAN_STRING)
		return text_of(room, value.start, value.length);
	if (!member->escaped)
		return text_of(room, value.start + 1, value.length - 2);
	decoded = scan_text(value);
	return text_of(room, decoded, strlen(decoded));
}

/* Two digits, or -1. */
static int
two_digits(const char *at)
{
	if (at[0] < '0' || at[0] > '9' || at[1] < '0' || at[1] > '9')
		return -1;
	return (at[0] - '0') * 10 + (at[1] - '0');
}

/* A fraction of a second of up to six digits, in microseconds, or -1. */
static int
microseconds(const char *at, const char *end)
{
	int			value = 0;
	int			digits = end - at;

	if (digits < 1 || digits > 6)
		return -1;
	for (; at < end; at++)
	{
		if (*at < '0' || *at > '9')
			return -1;
		value = value * 10 + (*at - '0');
	}
	for (; digits < 6; digits++)
		value *= 10;
	return value;
}

/*
 * The commonest form of an instant, 2026-01-31T12:00:00 with a fraction or
 * without, and with Z where there is a zone.  False where it is not quite
 * that, which may be right nevertheless: the input function will tell.
 */
static bool
plain_timestamp(ScanSlice value, bool zone, Timestamp *result)
{
	const char *text = value.start + 1;
	const char *end = value.start + value.length - 1 - zone;
	int			century = 0;
	int			year;
	int			month;
	int			day;
	int			hour;
	int			minute;
	int			second;
	int			fraction = 0;

	if (end - text < 19 || (zone && *end != 'Z') || text[4] != '-' ||
		text[7] != '-' || (text[10] != 'T' && text[10] != ' ') ||
		text[13] != ':' || text[16] != ':')
		return false;
	century = two_digits(text);
	year = two_digits(text + 2);
	month = two_digits(text + 5);
	day = two_digits(text + 8);
	hour = two_digits(text + 11);
	minute = two_digits(text + 14);
	second = two_digits(text + 17);
	if (end - text > 19)
		fraction = text[19] == '.' ? microseconds(text + 20, end) : -1;
	if (century < 1 || year < 0 || month < 1 || month > 12 || day < 1 ||
		hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 ||
		second > 59 || fraction < 0)
		return false;
	year += century * 100;
	if (day > day_tab[isleap(year)][month - 1])
		return false;
	*result = (date2j(year, month, day) - POSTGRES_EPOCH_JDATE) *
		USECS_PER_DAY + hour * USECS_PER_HOUR + minute * USECS_PER_MINUTE +
		second * USECS_PER_SEC + fraction;
	return true;
}

/* What the type's input function is given. */
static char *
as_input(const IngestInput *input, ScanSlice value, ScanKind kind)
{
	StringInfoData literal;

	if (input->is_array && kind == SCAN_CONTAINER && *value.start == '[')
	{
		initStringInfo(&literal);
		append_array(&literal, value);
		return literal.data;
	}
	return scan_text(value);
}

/*
 * A checked value, not null, as a value of the type; an ERROR of the type's
 * input function where it is none.
 */
Datum
ingest_input(IngestInput *input, const IngestMember *member,
			 IngestRoom *room)
{
	ScanSlice	value = member->value;
	int64		number;
	Timestamp	instant;

	switch (input->type)
	{
		case TEXTOID:
			return as_text(member, room);
		case JSONBOID:
			if (!input->text_only)
				return ingest_encode(value);
			break;
		case BOOLOID:
			if (member->kind == SCAN_BOOL)
				return BoolGetDatum(*value.start == 't');
			break;
		case INT8OID:
			if (member->kind == SCAN_INTEGER && plain_integer(value, &number))
				return Int64GetDatum(number);
			break;
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			if (member->kind == SCAN_STRING && input->typmod == -1 &&
				plain_timestamp(value, input->type == TIMESTAMPTZOID,
								&instant))
				return TimestampGetDatum(instant);
			break;
	}
	return InputFunctionCall(&input->function,
							 as_input(input, value, member->kind),
							 input->parameter, input->typmod);
}

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
#include "utils/lsyscache.h"

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

/* The value as text, without a copy where it has no escapes. */
static Datum
as_text(ScanSlice value, ScanKind kind)
{
	char	   *decoded;

	if (kind != SCAN_STRING)
		return PointerGetDatum(cstring_to_text_with_len(value.start,
														value.length));
	if (memchr(value.start, '\\', value.length) == NULL)
		return PointerGetDatum(cstring_to_text_with_len(value.start + 1,
														value.length - 2));
	decoded = scan_text(value);
	return PointerGetDatum(cstring_to_text(decoded));
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
ingest_input(IngestInput *input, ScanSlice value, ScanKind kind)
{
	int64		number;

	if (input->type == TEXTOID)
		return as_text(value, kind);
	if (input->type == JSONBOID && !input->text_only)
		return ingest_encode(value);
	if (input->type == BOOLOID && kind == SCAN_BOOL)
		return BoolGetDatum(*value.start == 't');
	if (input->type == INT8OID && kind == SCAN_INTEGER &&
		plain_integer(value, &number))
		return Int64GetDatum(number);
	return InputFunctionCall(&input->function,
							 as_input(input, value, kind), input->parameter,
							 input->typmod);
}

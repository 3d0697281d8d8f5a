/*-------------------------------------------------------------------------
 *
 * import_json.c
 *		The JSON notation of a document (RFC 8259, with NaN and Infinity).
 *
 * Numbers are read by strtof and strtod, which round correctly; a backend
 * keeps LC_NUMERIC at "C".  A token is copied out first, for the document is
 * not NUL-terminated.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "common/int.h"
#include "mb/pg_wchar.h"
#include "model/import_document.h"
#include "utils/memutils.h"

/* The longest number that is read. */
#define NUMBER_LENGTH 512

/* The next byte that is no white space, or -1 at the end. */
static int
peek(ModelDocument *document)
{
	while (document->offset < document->length)
	{
		char		next = document->bytes[document->offset];

		if (next != ' ' && next != '\t' && next != '\n' && next != '\r')
			return (unsigned char) next;
		document->offset++;
	}
	return -1;
}

static void
take(ModelDocument *document, char wanted, const char *what)
{
	if (peek(document) != (unsigned char) wanted)
		model_document_damaged(document, what);
	document->offset++;
}

ModelDocumentKind
model_json_kind(ModelDocument *document)
{
	switch (peek(document))
	{
		case '{':
			return MODEL_DOCUMENT_OBJECT;
		case '[':
			return MODEL_DOCUMENT_ARRAY;
		case '"':
			return MODEL_DOCUMENT_STRING;
		case 't':
		case 'f':
			return MODEL_DOCUMENT_BOOLEAN;
		case 'n':
			return MODEL_DOCUMENT_NULL;
		case -1:
			model_document_damaged(document, "it ends too early");
		default:
			return MODEL_DOCUMENT_NUMBER;
	}
}

void
model_json_begin(ModelDocument *document, bool is_object)
{
	take(document, is_object ? '{' : '[', "a container is expected");
}

bool
model_json_next(ModelDocument *document)
{
	ModelDocumentLevel *level = &document->levels[document->depth - 1];

	if (peek(document) == (level->is_object ? '}' : ']'))
	{
		document->offset++;
		return false;
	}
	if (level->started)
		take(document, ',', "a comma is expected");
	if (level->is_object)
	{
		if (peek(document) != '"')
			model_document_damaged(document, "a member's name is expected");
		model_json_string(document);
		take(document, ':', "a colon is expected");
	}
	return true;
}

/* Takes this word, of which the first character is known to be there. */
static void
take_word(ModelDocument *document, const char *word)
{
	Size		length = strlen(word);

	if (document->length - document->offset < length ||
		memcmp(document->bytes + document->offset, word, length) != 0)
		model_document_damaged(document, "a value is malformed");
	document->offset += length;
}

/* NaN, Infinity or -Infinity, if it is one of them. */
static bool
special_number(ModelDocument *document, ModelDocumentNumber *number)
{
	const char *at = document->bytes + document->offset;
	Size		left = document->length - document->offset;
	bool		negative = *at == '-';

	if (*at == 'N')
	{
		take_word(document, "NaN");
		number->real = NAN;
	}
	else if (*at == 'I' || (negative && left > 1 && at[1] == 'I'))
	{
		take_word(document, negative ? "-Infinity" : "Infinity");
		number->real = negative ? -INFINITY : INFINITY;
	}
	else
		return false;
	number->is_integer = false;
	number->single = (float) number->real;
	return true;
}

/* Copies the characters of a number; returns whether it is an integer. */
static bool
copy_number(ModelDocument *document, char *token)
{
	Size		length = 0;
	bool		is_integer = true;

	while (document->offset < document->length)
	{
		char		next = document->bytes[document->offset];

		if (next == '.' || next == 'e' || next == 'E')
			is_integer = false;
		else if (!(next >= '0' && next <= '9') && next != '-' && next != '+')
			break;
		if (length == NUMBER_LENGTH)
			model_document_damaged(document, "a number is too long");
		token[length++] = next;
		document->offset++;
	}
	token[length] = '\0';
	return is_integer;
}

/* Does the token have the form of a JSON number? */
static bool
well_formed(const char *token)
{
	const char *at = token + (*token == '-' ? 1 : 0);

	if (*at == '0')
		at++;
	else if (*at >= '1' && *at <= '9')
		at += strspn(at, "0123456789");
	else
		return false;
	if (*at == '.')
	{
		if (at[1] < '0' || at[1] > '9')
			return false;
		at++;
		at += strspn(at, "0123456789");
	}
	if (*at == 'e' || *at == 'E')
	{
		at++;
		if (*at == '+' || *at == '-')
			at++;
		if (*at < '0' || *at > '9')
			return false;
		at += strspn(at, "0123456789");
	}
	return *at == '\0';
}

/* Reads an integer; false where it does not fit. */
static bool
parse_integer(const char *token, int64 *result)
{
	bool		negative = *token == '-';
	int64		value = 0;

	for (const char *at = token + (negative ? 1 : 0); *at != '\0'; at++)
		if (pg_mul_s64_overflow(value, 10, &value) ||
			pg_sub_s64_overflow(value, *at - '0', &value))
			return false;
	if (!negative && value == PG_INT64_MIN)
		return false;
	*result = negative ? value : -value;
	return true;
}

void
model_json_number(ModelDocument *document, ModelDocumentNumber *number)
{
	char		token[NUMBER_LENGTH + 1];
	Size		start;

	peek(document);
	if (special_number(document, number))
		return;
	start = document->offset;
	number->is_integer = copy_number(document, token);
	if (!well_formed(token))
	{
		document->offset = start;
		model_document_damaged(document, "a value is malformed");
	}
	number->real = strtod(token, NULL);
	number->single = strtof(token, NULL);
	if (number->is_integer)
		number->is_integer = parse_integer(token, &number->integer);
}

bool
model_json_boolean(ModelDocument *document)
{
	bool		result = peek(document) == 't';

	take_word(document, result ? "true" : "false");
	return result;
}

/* The four hexadecimal digits after \u. */
static uint32
take_hex(ModelDocument *document)
{
	uint32		result = 0;

	if (document->length - document->offset < 4)
		model_document_damaged(document, "a string is malformed");
	for (int i = 0; i < 4; i++)
	{
		char		digit = document->bytes[document->offset++];

		result <<= 4;
		if (digit >= '0' && digit <= '9')
			result |= digit - '0';
		else if (digit >= 'a' && digit <= 'f')
			result |= digit - 'a' + 10;
		else if (digit >= 'A' && digit <= 'F')
			result |= digit - 'A' + 10;
		else
			model_document_damaged(document, "a string is malformed");
	}
	return result;
}

/* A \u escape, or the two of a surrogate pair, as UTF-8. */
static void
take_unicode(ModelDocument *document)
{
	uint32		code = take_hex(document);
	unsigned char utf8[5] = {0};

	if (code >= 0xD800 && code <= 0xDBFF)
	{
		uint32		low;

		take_word(document, "\\u");
		low = take_hex(document);
		if (low < 0xDC00 || low > 0xDFFF)
			model_document_damaged(document, "a string is malformed");
		code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
	}
	else if (code >= 0xDC00 && code <= 0xDFFF)
		model_document_damaged(document, "a string is malformed");
	unicode_to_utf8(code, utf8);
	appendBinaryStringInfo(&document->text, (char *) utf8,
						   code == 0 ? 1 : (int) strlen((char *) utf8));
}

/* What follows a backslash. */
static void
take_escape(ModelDocument *document)
{
	static const char from[] = "\"\\/bfnrt";
	static const char to[] = "\"\\/\b\f\n\r\t";
	char		letter;
	const char *found;

	if (document->offset == document->length)
		model_document_damaged(document, "it ends in a string");
	letter = document->bytes[document->offset++];
	if (letter == 'u')
	{
		take_unicode(document);
		return;
	}
	found = letter == '\0' ? NULL : strchr(from, letter);
	if (found == NULL)
		model_document_damaged(document, "a string is malformed");
	appendStringInfoCharMacro(&document->text, to[found - from]);
}

/* Reads a string into document->text. */
void
model_json_string(ModelDocument *document)
{
	resetStringInfo(&document->text);
	take(document, '"', "a string is expected");
	for (;;)
	{
		Size		start = document->offset;
		Size		at = start;
		char		next;

		while (at < document->length && document->bytes[at] != '"' &&
			   document->bytes[at] != '\\' &&
			   (unsigned char) document->bytes[at] >= 0x20)
			at++;
		if (at - start >= MaxAllocSize / 4)
			model_document_damaged(document, "a string is too long");
		appendBinaryStringInfo(&document->text, document->bytes + start,
							   (int) (at - start));
		document->offset = at;
		if (at == document->length)
			model_document_damaged(document, "it ends in a string");
		next = document->bytes[document->offset++];
		if (next == '"')
			return;
		if (next != '\\')
			model_document_damaged(document, "a string is malformed");
		take_escape(document);
	}
}

void
model_json_skip_scalar(ModelDocument *document)
{
	ModelDocumentNumber number;

	switch (model_json_kind(document))
	{
		case MODEL_DOCUMENT_STRING:
			model_json_string(document);
			break;
		case MODEL_DOCUMENT_BOOLEAN:
			model_json_boolean(document);
			break;
		case MODEL_DOCUMENT_NULL:
			take_word(document, "null");
			break;
		default:
			model_json_number(document, &number);
			break;
	}
}

/* Passes over white space at the end. */
void
model_json_finish(ModelDocument *document)
{
	peek(document);
}

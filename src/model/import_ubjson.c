/*-------------------------------------------------------------------------
 *
 * import_ubjson.c
 *		The UBJSON notation of a document (draft 12).
 *
 * Numbers are big-endian.  Containers may announce their count (#) and,
 * arrays of numbers, the type of all elements ($).  XGBoost reads and writes
 * the draft with lengths of type L only; every integer type is taken here.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "model/import_document.h"
#include "port/pg_bswap.h"
#include "utils/memutils.h"

/* The bytes of a number of this type; 0: it is no number. */
static int
width_of(char type)
{
	switch (type)
	{
		case 'i':
		case 'U':
		case 'C':
			return 1;
		case 'I':
			return 2;
		case 'l':
		case 'd':
			return 4;
		case 'L':
		case 'D':
			return 8;
		default:
			return 0;
	}
}

/* The next marker, which is not read.  N is a no-op. */
static char
peek(ModelDocument *document)
{
	while (document->offset < document->length &&
		   document->bytes[document->offset] == 'N')
		document->offset++;
	if (document->offset == document->length)
		model_document_damaged(document, "it ends too early");
	return document->bytes[document->offset];
}

static const char *
take_bytes(ModelDocument *document, uint64 count)
{
	const char *result = document->bytes + document->offset;

	if (count > document->length - document->offset)
		model_document_damaged(document, "it ends too early");
	document->offset += count;
	return result;
}

/* The type of the next value: the array's, or what its marker says. */
static char
next_type(ModelDocument *document)
{
	char		type = document->depth == 0 ? 0 :
	document->levels[document->depth - 1].type;

	return type != 0 ? type : peek(document);
}

/* Takes the marker of a value, where it has one. */
static char
take_type(ModelDocument *document)
{
	char		type = next_type(document);

	if (document->depth == 0 ||
		document->levels[document->depth - 1].type == 0)
		document->offset++;
	return type;
}

/* A whole number of an integer type. */
static int64
take_integer(ModelDocument *document, char type)
{
	const char *bytes = take_bytes(document, width_of(type));
	uint16		two;
	uint32		four;
	uint64		eight;

	switch (type)
	{
		case 'i':
			return (signed char) *bytes;
		case 'U':
		case 'C':
			return (unsigned char) *bytes;
		case 'I':
			memcpy(&two, bytes, sizeof(two));
			return (int16) pg_ntoh16(two);
		case 'l':
			memcpy(&four, bytes, sizeof(four));
			return (int32) pg_ntoh32(four);
		default:
			memcpy(&eight, bytes, sizeof(eight));
			return (int64) pg_ntoh64(eight);
	}
}

ModelDocumentKind
model_ubjson_kind(ModelDocument *document)
{
	char		type = next_type(document);

	switch (type)
	{
		case '{':
			return MODEL_DOCUMENT_OBJECT;
		case '[':
			return MODEL_DOCUMENT_ARRAY;
		case 'S':
			return MODEL_DOCUMENT_STRING;
		case 'T':
		case 'F':
			return MODEL_DOCUMENT_BOOLEAN;
		case 'Z':
			return MODEL_DOCUMENT_NULL;
		default:
			if (width_of(type) == 0)
				model_document_damaged(document, "a marker is unknown");
			return MODEL_DOCUMENT_NUMBER;
	}
}

/* A length or count, at most the bytes that are left. */
static int64
take_length(ModelDocument *document, Size width)
{
	char		type = peek(document);
	int64		length;

	if (width_of(type) == 0 || type == 'd' || type == 'D' || type == 'C')
		model_document_damaged(document, "a length is expected");
	document->offset++;
	length = take_integer(document, type);
	if (length < 0 ||
		(uint64) length > (document->length - document->offset) / width)
		model_document_damaged(document,
							   "a length goes beyond the end");
	return length;
}

/* Reads what a container announces about its elements. */
void
model_ubjson_begin(ModelDocument *document, bool is_object)
{
	ModelDocumentLevel *level = &document->levels[document->depth - 1];
	Size		width = 1;

	/* the marker of the container itself: the outer level may be typed */
	document->offset++;
	if (peek(document) == '$')
	{
		document->offset++;
		level->type = *take_bytes(document, 1);
		width = width_of(level->type);
		if (is_object || width == 0)
			model_document_damaged(document,
								   "only arrays of numbers may be typed");
		if (peek(document) != '#')
			model_document_damaged(document, "a count is expected");
	}
	if (peek(document) == '#')
	{
		document->offset++;
		level->left = take_length(document, width);
	}
}

/* Reads a length and that many bytes into document->text. */
static void
take_text(ModelDocument *document)
{
	int64		length = take_length(document, 1);

	if (length >= MaxAllocSize / 4)
		model_document_damaged(document, "a string is too long");
	resetStringInfo(&document->text);
	appendBinaryStringInfo(&document->text, take_bytes(document, length),
						   (int) length);
}

bool
model_ubjson_next(ModelDocument *document)
{
	ModelDocumentLevel *level = &document->levels[document->depth - 1];

	if (level->left == 0)
		return false;
	if (level->left > 0)
		level->left--;
	else if (peek(document) == (level->is_object ? '}' : ']'))
	{
		document->offset++;
		return false;
	}
	if (level->is_object)
		take_text(document);
	return true;
}

void
model_ubjson_number(ModelDocument *document, ModelDocumentNumber *number)
{
	char		type = take_type(document);
	uint32		four;
	uint64		eight;

	number->is_integer = false;
	if (type == 'd')
	{
		memcpy(&four, take_bytes(document, sizeof(four)), sizeof(four));
		four = pg_ntoh32(four);
		memcpy(&number->single, &four, sizeof(four));
		number->real = number->single;
	}
	else if (type == 'D')
	{
		memcpy(&eight, take_bytes(document, sizeof(eight)), sizeof(eight));
		eight = pg_ntoh64(eight);
		memcpy(&number->real, &eight, sizeof(eight));
		number->single = (float) number->real;
	}
	else
	{
		number->is_integer = true;
		number->integer = take_integer(document, type);
		number->real = (double) number->integer;
		number->single = (float) number->integer;
	}
}

bool
model_ubjson_boolean(ModelDocument *document)
{
	return take_type(document) == 'T';
}

void
model_ubjson_string(ModelDocument *document)
{
	take_type(document);
	take_text(document);
}

void
model_ubjson_skip_scalar(ModelDocument *document)
{
	char		type = take_type(document);

	if (type == 'S')
		take_text(document);
	else
		take_bytes(document, width_of(type));
}

/*-------------------------------------------------------------------------
 *
 * import_document.c
 *		What reading JSON and UBJSON has in common.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "model/import_document.h"
#include "model/import.h"

/* ERROR: the document is not what it should be, here. */
void
model_document_damaged(ModelDocument *document, const char *what)
{
	import_damaged(document->name, "at byte %zu: %s", document->offset, what);
}

/* Starts to read these bytes, which must outlive the reading. */
void
model_document_init(ModelDocument *document, const char *name,
					const char *bytes, Size length, bool binary)
{
	memset(document, 0, sizeof(*document));
	document->name = name;
	document->bytes = bytes;
	document->length = length;
	document->binary = binary;
	initStringInfo(&document->text);
}

/* What comes next; reads nothing. */
ModelDocumentKind
model_document_kind(ModelDocument *document)
{
	return document->binary ? model_ubjson_kind(document) :
		model_json_kind(document);
}

static void
expect(ModelDocument *document, ModelDocumentKind kind, const char *what)
{
	if (model_document_kind(document) != kind)
		model_document_damaged(document, what);
}

/* Enters the object or array that comes next. */
void
model_document_begin(ModelDocument *document, bool is_object)
{
	ModelDocumentLevel *level;

	expect(document, is_object ? MODEL_DOCUMENT_OBJECT : MODEL_DOCUMENT_ARRAY,
		   is_object ? "an object is expected" : "an array is expected");
	if (document->depth == MODEL_DOCUMENT_DEPTH)
		model_document_damaged(document, "it is nested too deeply");
	level = &document->levels[document->depth++];
	memset(level, 0, sizeof(*level));
	level->is_object = is_object;
	level->left = -1;
	if (document->binary)
		model_ubjson_begin(document, is_object);
	else
		model_json_begin(document, is_object);
}

/*
 * Goes to the next element of the innermost object or array, whose key is in
 * document->text.  At its end: leaves it and returns false.
 */
bool
model_document_next(ModelDocument *document)
{
	bool		found;

	CHECK_FOR_INTERRUPTS();
	found = document->binary ? model_ubjson_next(document) :
		model_json_next(document);
	document->levels[document->depth - 1].started = true;
	if (!found)
		document->depth--;
	return found;
}

static ModelDocumentNumber
read_number(ModelDocument *document)
{
	ModelDocumentNumber number;

	expect(document, MODEL_DOCUMENT_NUMBER, "a number is expected");
	if (document->binary)
		model_ubjson_number(document, &number);
	else
		model_json_number(document, &number);
	return number;
}

double
model_document_double(ModelDocument *document)
{
	return read_number(document).real;
}

/* A number rounded once to single precision. */
float
model_document_float(ModelDocument *document)
{
	return read_number(document).single;
}

/* An integer in [low, high]. */
int64
model_document_integer(ModelDocument *document, int64 low, int64 high)
{
	ModelDocumentNumber number = read_number(document);

	if (!number.is_integer)
		model_document_damaged(document, "an integer is expected");
	if (number.integer < low || number.integer > high)
		model_document_damaged(document, "an integer is out of range");
	return number.integer;
}

/* true or false; older writers put 1 or 0. */
bool
model_document_boolean(ModelDocument *document)
{
	if (model_document_kind(document) == MODEL_DOCUMENT_NUMBER)
		return model_document_integer(document, 0, 1) == 1;
	expect(document, MODEL_DOCUMENT_BOOLEAN, "a boolean is expected");
	return document->binary ? model_ubjson_boolean(document) :
		model_json_boolean(document);
}

/* A string, valid until the next one or the next key is read. */
char *
model_document_string(ModelDocument *document)
{
	expect(document, MODEL_DOCUMENT_STRING, "a string is expected");
	if (document->binary)
		model_ubjson_string(document);
	else
		model_json_string(document);
	if (strlen(document->text.data) != document->text.len)
		model_document_damaged(document, "a string has a NUL character");
	return document->text.data;
}

/* UTF-8 bytes of a model as a string of the database's encoding. */
char *
model_document_copy_name(const char *format, const char *text, Size length,
						 Size offset)
{
	char	   *copy = pnstrdup(text, length);

	if (strlen(copy) != length ||
		!pg_verify_mbstr(PG_UTF8, copy, (int) length, true))
		import_damaged(format, "at byte %zu: a name is not valid UTF-8",
					   offset);
	return pg_any_to_server(copy, (int) length, PG_UTF8);
}

/* A string to keep, in the database's encoding. */
char *
model_document_name(ModelDocument *document)
{
	model_document_string(document);
	return model_document_copy_name(document->name, document->text.data,
									document->text.len, document->offset);
}

/* Passes over whatever comes next. */
void
model_document_skip(ModelDocument *document)
{
	int			bottom = document->depth;

	do
	{
		if (document->depth > bottom && !model_document_next(document))
			continue;
		switch (model_document_kind(document))
		{
			case MODEL_DOCUMENT_OBJECT:
				model_document_begin(document, true);
				break;
			case MODEL_DOCUMENT_ARRAY:
				model_document_begin(document, false);
				break;
			default:
				if (document->binary)
					model_ubjson_skip_scalar(document);
				else
					model_json_skip_scalar(document);
				break;
		}
	} while (document->depth > bottom);
}

/* Nothing may follow. */
void
model_document_finish(ModelDocument *document)
{
	if (!document->binary)
		model_json_finish(document);
	if (document->offset != document->length)
		model_document_damaged(document, "something follows the model");
}

/* Room for one more element of an array that doubles; NULL is an empty one. */
void *
model_document_room(void *array, int count, int *allocated, Size width)
{
	if (count < *allocated)
		return array;
	*allocated = *allocated == 0 ? 16 : *allocated * 2;
	return array == NULL ?
		palloc_extended(*allocated * width, MCXT_ALLOC_HUGE) :
		repalloc_huge(array, *allocated * width);
}

/* An array of numbers in single precision. */
float *
model_document_floats(ModelDocument *document, int *count)
{
	float	   *values = NULL;
	int			allocated = 0;

	*count = 0;
	model_document_begin(document, false);
	while (model_document_next(document))
	{
		values = model_document_room(values, *count, &allocated, sizeof(float));
		values[(*count)++] = model_document_float(document);
	}
	return values;
}

/* An array of integers, or of booleans as 0 and 1. */
int32 *
model_document_integers(ModelDocument *document, int64 low, int64 high,
						int *count)
{
	int32	   *values = NULL;
	int			allocated = 0;

	Assert(low >= PG_INT32_MIN && high <= PG_INT32_MAX);
	*count = 0;
	model_document_begin(document, false);
	while (model_document_next(document))
	{
		values = model_document_room(values, *count, &allocated, sizeof(int32));
		if (model_document_kind(document) == MODEL_DOCUMENT_BOOLEAN)
			values[(*count)++] = model_document_boolean(document);
		else
			values[(*count)++] = (int32) model_document_integer(document, low,
																high);
	}
	return values;
}

/*-------------------------------------------------------------------------
 *
 * value.c
 *		Values of SQL types as what a model takes: numbers and categories.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "access/transam.h"
#include "catalog/pg_type.h"
#include "model/model.h"
#include "port/pg_bitutils.h"
#include "common/shortest_dec.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"

bool
model_type_is_numeric(Oid type)
{
	return type == INT2OID || type == INT4OID || type == INT8OID ||
		type == FLOAT4OID || type == FLOAT8OID || type == NUMERICOID ||
		type == BOOLOID;
}

bool
model_type_is_text(Oid type)
{
	return type == TEXTOID || type == VARCHAROID || type == BPCHAROID ||
		type == NAMEOID || get_typtype(type) == TYPTYPE_ENUM;
}

/* How values of a base type are read. */
static ModelReader
choose_reader(Oid type)
{
	switch (type)
	{
		case FLOAT8OID:
			return READ_FLOAT8;
		case FLOAT4OID:
			return READ_FLOAT4;
		case INT2OID:
			return READ_INT2;
		case INT4OID:
			return READ_INT4;
		case INT8OID:
			return READ_INT8;
		case BOOLOID:
			return READ_BOOL;
		case NUMERICOID:
			return READ_NUMERIC;
		case UNKNOWNOID:
			return READ_LITERAL;
		case TEXTOID:
		case VARCHAROID:
			return READ_TEXT;
		case BPCHAROID:
			return READ_BPCHAR;
		case DATEOID:
			return READ_DATE;
		default:
			return get_typtype(type) == TYPTYPE_ENUM ? READ_ENUM : READ_OUTPUT;
	}
}

/* Prepares the reading of a category's texts. */
static ModelTexts *
prepare_texts(ModelReader reader, Oid type, MemoryContext context)
{
	ModelTexts *texts = MemoryContextAllocZero(context, sizeof(ModelTexts));
	Oid			output;
	bool		is_varlena;

	if (reader == READ_ENUM)
		texts->known = MemoryContextAllocZero(context, sizeof(ModelKnownEnum) *
											  MODEL_KNOWN_ENUMS);
	if (reader == READ_ENUM || reader == READ_OUTPUT)
	{
		getTypeOutputInfo(type, &output, &is_varlena);
		fmgr_info_cxt(output, &texts->output, context);
	}
	return texts;
}

/* Prepares the reading of an input from a column or argument of this type. */
void
model_source_init(ModelSource *source, const ModelInput *input,
				  const char *name, Oid type, int position,
				  MemoryContext context)
{
	/* no domain has such an OID, and a look-up takes its time */
	Oid			base = type < FirstGenbkiObjectId ? type : getBaseType(type);

	source->position = position;
	source->reader = choose_reader(base);
	source->as_text = input->kind == MODEL_CATEGORY;
	source->texts = NULL;
	source->direct = source->reader == READ_FLOAT8 &&
		input->kind == MODEL_NUMERIC && input->cast == MODEL_FLOAT64 &&
		(input->flags & ~MODEL_INFINITE_IS_MISSING) == 0 &&
		isnan(input->missing) && isnan(input->marker);
	source->finite = (input->flags & MODEL_INFINITE_IS_MISSING) != 0;
	if (base != UNKNOWNOID && !source->as_text &&
		!model_type_is_numeric(base))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("feature \"%s\" must be a number", name),
				 errdetail("Its value has type %s.", format_type_be(type))));
	if (source->as_text)
		source->texts = prepare_texts(source->reader, base, context);
}

/* ---- numbers ---- */

#ifdef HAVE_INT128

/* The double nearest to digits / 10^scale, which is not 0. */
static double
nearest_quotient(uint64 digits, int scale)
{
	static const uint64 powers[] = {UINT64CONST(1), UINT64CONST(10),
		UINT64CONST(100), UINT64CONST(1000), UINT64CONST(10000),
		UINT64CONST(100000), UINT64CONST(1000000), UINT64CONST(10000000),
		UINT64CONST(100000000), UINT64CONST(1000000000),
		UINT64CONST(10000000000), UINT64CONST(100000000000),
		UINT64CONST(1000000000000), UINT64CONST(10000000000000),
		UINT64CONST(100000000000000), UINT64CONST(1000000000000000),
		UINT64CONST(10000000000000000), UINT64CONST(100000000000000000),
	UINT64CONST(1000000000000000000), UINT64CONST(10000000000000000000)};
	int			shift = 63 - pg_leftmost_one_pos64(digits);
	uint128		dividend = (uint128) (digits << shift) << 64;
	uint128		quotient = dividend / powers[scale];
	bool		more = quotient * powers[scale] != dividend;
	uint64		high = (uint64) (quotient >> 64);
	int			drop = high != 0 ? pg_leftmost_one_pos64(high) + 12 :
	pg_leftmost_one_pos64((uint64) quotient) - 52;
	uint64		kept = (uint64) (quotient >> drop);
	uint128		rest = quotient & (((uint128) 1 << drop) - 1);
	uint128		half = (uint128) 1 << (drop - 1);

	if (rest > half || (rest == half && (more || kept % 2 == 1)))
		kept++;
	return ldexp((double) kept, drop - 64 - shift);
}

/*
 * A decimal number of at most 19 digits as a double, as float8in reads it,
 * which takes three times as long; false for what else there is.
 */
static bool
read_decimal(const char *text, double *number)
{
	bool		negative = *text == '-';
	bool		in_fraction = false;
	uint64		digits = 0;
	int			count = 0;
	int			scale = 0;

	for (text += negative; *text != '\0'; text++)
	{
		if (*text == '.' && !in_fraction)
		{
			in_fraction = true;
			continue;
		}
		if (*text < '0' || *text > '9' || count == 19 || scale == 19)
			return false;
		digits = digits * 10 + (*text - '0');
		count += digits != 0;
		scale += in_fraction;
	}
	*number = scale == 0 || digits == 0 ? (double) digits :
		nearest_quotient(digits, scale);
	if (negative)
		*number = -*number;
	return true;
}

#endif							/* HAVE_INT128 */

/* A numeric as the nearest double. */
static double
numeric_number(Datum value)
{
#ifdef HAVE_INT128
	char	   *text = DatumGetCString(DirectFunctionCall1(numeric_out, value));
	double		number;
	bool		done = read_decimal(text, &number);

	pfree(text);
	if (done)
		return number;
#endif
	return DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow,
											  value));
}

/* A number of any numeric type, or an untyped literal. */
static double
read_number(const ModelSource *source, Datum value)
{
	switch (source->reader)
	{
		case READ_INT2:
			return DatumGetInt16(value);
		case READ_INT4:
			return DatumGetInt32(value);
		case READ_INT8:
			return (double) DatumGetInt64(value);
		case READ_FLOAT4:
			return DatumGetFloat4(value);
		case READ_FLOAT8:
			return DatumGetFloat8(value);
		case READ_BOOL:
			return DatumGetBool(value) ? 1 : 0;
		case READ_NUMERIC:
			return numeric_number(value);
		default:
			return DatumGetFloat8(DirectFunctionCall1(float8in, value));
	}
}

static void
set_text(ModelValue *result, const char *text)
{
	result->text = text;
	result->length = strlen(text);
}

/* A varlena string without its last blanks, where its type ignores them. */
static void
set_varlena(ModelValue *result, Datum value, bool ignore_blanks)
{
	text	   *string = DatumGetTextPP(value);

	result->text = VARDATA_ANY(string);
	result->length = VARSIZE_ANY_EXHDR(string);
	while (ignore_blanks && result->length > 0 &&
		   result->text[result->length - 1] == ' ')
		result->length--;
}

/* A number as a category: integers without a point, others in full. */
static void
set_number(ModelSource *source, ModelValue *result, Datum value)
{
	char	   *buffer = source->texts->buffer;
	size_t		size = sizeof(source->texts->buffer);
	double		number;

	if (source->reader == READ_INT8)
	{
		snprintf(buffer, size, INT64_FORMAT, DatumGetInt64(value));
		set_text(result, buffer);
		return;
	}
	number = read_number(source, value);
	result->missing = isnan(number);
	if (fabs(number) < 1e15 && number == floor(number))
		snprintf(buffer, size, "%.0f", number);
	else if (source->reader == READ_FLOAT4)
		float_to_shortest_decimal_buf((float) number, buffer);
	else
		double_to_shortest_decimal_buf(number, buffer);
	set_text(result, buffer);
}

/* A date as its ISO form, whatever DateStyle is. */
static void
set_date(ModelSource *source, ModelValue *result, DateADT date)
{
	struct pg_tm tm;

	if (DATE_NOT_FINITE(date))
	{
		set_text(result, DATE_IS_NOBEGIN(date) ? "-infinity" : "infinity");
		return;
	}
	j2date(date + POSTGRES_EPOCH_JDATE, &tm.tm_year, &tm.tm_mon, &tm.tm_mday);
	EncodeDateOnly(&tm, USE_ISO_DATES, source->texts->buffer);
	set_text(result, source->texts->buffer);
}

/* A value of any type as a category. */
static void
read_text(ModelSource *source, Datum value, ModelValue *result)
{
	switch (source->reader)
	{
		case READ_TEXT:
		case READ_BPCHAR:
			set_varlena(result, value, source->reader == READ_BPCHAR);
			break;
		case READ_LITERAL:
			set_text(result, DatumGetCString(value));
			break;
		case READ_BOOL:
			set_text(result, DatumGetBool(value) ? "true" : "false");
			break;
		case READ_DATE:
			set_date(source, result, DatumGetDateADT(value));
			break;
		case READ_ENUM:
		case READ_OUTPUT:
			set_text(result, OutputFunctionCall(&source->texts->output,
												value));
			break;
		default:
			set_number(source, result, value);
	}
}

/* The value of an input. */
void
model_source_read(ModelSource *source, Datum value, bool isnull,
				  ModelValue *result)
{
	result->missing = isnull;
	if (isnull)
		return;
	if (source->as_text)
	{
		read_text(source, value, result);
		return;
	}
	result->number = read_number(source, value);
	result->missing = isnan(result->number);
}

/* ---- slots ---- */

/* The category of this text, or NULL. */
static const ModelCategory *
find_category(const ModelImage *image, const ModelInput *input,
			  const char *text, size_t length)
{
	const ModelCategory *categories = MODEL_AT(image, ModelCategory,
											   input->categories);
	uint32		low = 0;
	uint32		high = input->category_count;

	while (low < high)
	{
		uint32		middle = low + (high - low) / 2;
		const char *name = model_string(image, categories[middle].text);
		int			order = strncmp(text, name, length);

		if (order == 0 && name[length] != '\0')
			order = -1;
		if (order == 0)
			return &categories[middle];
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

/*
 * The category of a value that tools write in another way: Python's True
 * and False, and numbers of columns that were floats there.
 */
static const ModelCategory *
find_spelling(const ModelImage *image, const ModelInput *input,
			  const ModelSource *source, const ModelValue *value)
{
	char		spelling[64];

	if (source == NULL || value->length + 3 > sizeof(spelling))
		return NULL;
	memcpy(spelling, value->text, value->length);
	spelling[value->length] = '\0';
	if (source->reader == READ_BOOL)
		spelling[0] = pg_ascii_toupper((unsigned char) spelling[0]);
	else if (source->reader <= READ_NUMERIC && strchr(spelling, '.') == NULL)
		strcat(spelling, ".0");
	else
		return NULL;
	return find_category(image, input, spelling, strlen(spelling));
}

/* What the slot gets for a category. */
static double
category_slot(const ModelImage *image, const ModelInput *input,
			  const ModelSource *source, const ModelValue *value)
{
	const ModelCategory *category = find_category(image, input, value->text,
												  value->length);

	if (category == NULL)
		category = find_spelling(image, input, source, value);
	if (category != NULL)
		return category->code;
	if (input->flags & MODEL_REFUSE_UNSEEN)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("feature \"%s\" has a category that the model does "
						"not know", model_string(image, input->name)),
				 errdetail("It is \"%s\".",
						   pnstrdup(value->text, value->length))));
	return input->unseen;
}

/* What the slot of an input gets for a missing value. */
static double
missing_slot(const ModelImage *image, const ModelInput *input)
{
	if (input->flags & MODEL_REFUSE_MISSING)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("feature \"%s\" must not be null",
						model_string(image, input->name)),
				 errhint("The model does not take missing values.")));
	return input->missing;
}

/* What the slot of an input gets for a number. */
static double
number_slot(const ModelImage *image, const ModelInput *input, double number)
{
	if (isnan(number) || number == input->marker ||
		(isinf(number) && (input->flags & MODEL_INFINITE_IS_MISSING)))
		return missing_slot(image, input);
	switch (input->cast)
	{
		case MODEL_FLOAT32:
			return (float) number;
		case MODEL_INTEGER:
			return trunc(number);
		default:
			return number;
	}
}

/* The slot of an input for a value that was read. */
double
model_slot(const ModelImage *image, const ModelInput *input,
		   const ModelValue *value)
{
	if (value->missing)
		return missing_slot(image, input);
	if (input->kind == MODEL_CATEGORY)
		return category_slot(image, input, NULL, value);
	return number_slot(image, input, value->number);
}

/* The slot of a category; those of enum labels are remembered. */
static double
read_category(ModelSource *source, const ModelImage *image,
			  const ModelInput *input, Datum value)
{
	ModelKnownEnum *known = NULL;
	ModelValue	read = {0};
	double		slot;

	if (source->texts->known != NULL)
	{
		known = &source->texts->known[DatumGetObjectId(value) % MODEL_KNOWN_ENUMS];
		if (known->label == DatumGetObjectId(value))
			return known->slot;
	}
	read_text(source, value, &read);
	if (read.missing)
		return missing_slot(image, input);
	slot = category_slot(image, input, source, &read);
	if (known != NULL)
	{
		known->label = DatumGetObjectId(value);
		known->slot = slot;
	}
	return slot;
}

/* The slot of an input for a column's or argument's value. */
double
model_source_slot(ModelSource *source, const ModelImage *image,
				  const ModelInput *input, Datum value, bool isnull)
{
	if (isnull)
		return missing_slot(image, input);
	if (source->as_text)
		return read_category(source, image, input, value);
	return number_slot(image, input, read_number(source, value));
}

/*-------------------------------------------------------------------------
 *
 * value.c
 *		Values of SQL types as what a model takes: numbers and categories.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "model/model.h"
#include "utils/builtins.h"
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

/* Prepares the reading of an input from a column or argument of this type. */
void
model_source_init(ModelSource *source, const ModelInput *input,
				  const char *name, Oid type, int position,
				  MemoryContext context)
{
	Oid			base = getBaseType(type);
	Oid			output;
	bool		is_varlena;

	source->position = position;
	source->type = base;
	source->as_text = input->kind == MODEL_CATEGORY;
	if (base != UNKNOWNOID && !source->as_text &&
		!model_type_is_numeric(base))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("feature \"%s\" must be a number", name),
				 errdetail("Its value has type %s.", format_type_be(type))));
	if (base == UNKNOWNOID)
		return;
	getTypeOutputInfo(base, &output, &is_varlena);
	fmgr_info_cxt(output, &source->output, context);
}

/* A number of any numeric type. */
static double
read_number(const ModelSource *source, Datum value)
{
	switch (source->type)
	{
		case INT2OID:
			return DatumGetInt16(value);
		case INT4OID:
			return DatumGetInt32(value);
		case INT8OID:
			return (double) DatumGetInt64(value);
		case FLOAT4OID:
			return DatumGetFloat4(value);
		case FLOAT8OID:
			return DatumGetFloat8(value);
		case BOOLOID:
			return DatumGetBool(value) ? 1 : 0;
		case NUMERICOID:
			return DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow,
													  value));
		default:				/* an untyped literal */
			return DatumGetFloat8(DirectFunctionCall1(float8in, value));
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
	if (!source->as_text)
	{
		result->number = read_number(source, value);
		result->missing = isnan(result->number);
		return;
	}
	if (source->type == TEXTOID || source->type == VARCHAROID)
	{
		text	   *string = DatumGetTextPP(value);

		result->text = VARDATA_ANY(string);
		result->length = VARSIZE_ANY_EXHDR(string);
		return;
	}
	result->text = source->type == UNKNOWNOID ? DatumGetCString(value) :
		OutputFunctionCall(&source->output, value);
	result->length = strlen(result->text);
}

/* The code of a category, or what the slot gets for one not listed. */
static double
find_category(const ModelImage *image, const ModelInput *input,
			  const ModelValue *value)
{
	const ModelCategory *categories = MODEL_AT(image, ModelCategory,
											   input->categories);
	uint32		low = 0;
	uint32		high = input->category_count;

	while (low < high)
	{
		uint32		middle = low + (high - low) / 2;
		const char *name = model_string(image, categories[middle].text);
		int			order = strncmp(value->text, name, value->length);

		if (order == 0 && name[value->length] != '\0')
			order = -1;
		if (order == 0)
			return categories[middle].code;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
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

/* The slot of an input for a value. */
double
model_slot(const ModelImage *image, const ModelInput *input,
		   const ModelValue *value)
{
	double		number = value->number;

	if (value->missing)
		return missing_slot(image, input);
	if (input->kind == MODEL_CATEGORY)
		return find_category(image, input, value);
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

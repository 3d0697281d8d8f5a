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

/* The value of an input; what is not finite counts as missing. */
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
		result->missing = !isfinite(result->number);
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

/*-------------------------------------------------------------------------
 *
 * import_onnx_value.c
 *		Values of an ONNX graph, their texts, and attributes of nodes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "model/import_onnx.h"
#include "utils/memutils.h"

/* ---- errors ---- */

/* What a node is called in messages. */
static char *
node_name(const OnnxImport *import)
{
	const OnnxNode *node = import->node;

	if (node == NULL)
		return "the graph";
	return psprintf("operator %s%s%s \"%s\"", node->domain,
					node->domain[0] == '\0' ? "" : ".", node->op_type,
					node->name[0] != '\0' ? node->name :
					node->output_count > 0 ? node->outputs[0] : "");
}

/* Raises feature_not_supported for the node where the walk is. */
void
onnx_refuse(const OnnxImport *import, const char *format,...)
{
	char		what[512];
	va_list		args;

	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("%s of the ONNX model is not supported",
					node_name(import)),
			 errdetail("Not supported: %s.", what),
			 errhint("What is supported is listed in "
					 "docs/reference/model-import.md.")));
}

/* Raises invalid_parameter_value for the node where the walk is. */
void
onnx_invalid(const OnnxImport *import, const char *format,...)
{
	char		problem[512];
	va_list		args;

	va_start(args, format);
	vsnprintf(problem, sizeof(problem), format, args);
	va_end(args);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("the ONNX model is damaged"),
			 errdetail("In %s, %s.", node_name(import), problem)));
}

/* ---- types ---- */

const char *
onnx_type_name(OnnxType type)
{
	static const char *const names[] = {
		"undefined", "float", "uint8", "int8", "uint16", "int16", "int32",
		"int64", "string", "bool", "float16", "double", "uint32", "uint64"
	};

	return (unsigned) type < lengthof(names) ? names[type] : "unknown";
}

bool
onnx_is_float(OnnxType type)
{
	return type == ONNX_FLOAT || type == ONNX_DOUBLE;
}

/* Integers that a double holds exactly as far as models use them. */
bool
onnx_is_integer(OnnxType type)
{
	return (type >= ONNX_UINT8 && type <= ONNX_INT64) || type == ONNX_BOOL ||
		type == ONNX_UINT32 || type == ONNX_UINT64;
}

/* ---- attributes ---- */

/* The attribute of the current node, or NULL; ERROR if of another type. */
const OnnxAttribute *
onnx_attribute(const OnnxImport *import, const char *name, int type)
{
	const OnnxNode *node = import->node;

	for (int i = 0; i < node->attribute_count; i++)
		if (strcmp(node->attributes[i].name, name) == 0)
		{
			if (node->attributes[i].type != type)
				onnx_invalid(import, "attribute \"%s\" has another type than it should",
							 name);
			return &node->attributes[i];
		}
	return NULL;
}

int64
onnx_int(const OnnxImport *import, const char *name, int64 if_none)
{
	const OnnxAttribute *attribute = onnx_attribute(import, name,
													ONNX_ATTRIBUTE_INT);

	return attribute == NULL ? if_none : attribute->i;
}

double
onnx_float(const OnnxImport *import, const char *name, double if_none)
{
	const OnnxAttribute *attribute = onnx_attribute(import, name,
													ONNX_ATTRIBUTE_FLOAT);

	return attribute == NULL ? if_none : attribute->f;
}

const char *
onnx_string(const OnnxImport *import, const char *name, const char *if_none)
{
	const OnnxAttribute *attribute = onnx_attribute(import, name,
													ONNX_ATTRIBUTE_STRING);

	return attribute == NULL ? if_none : attribute->s;
}

/* Refuses attributes whose meaning is not known here. */
void
onnx_known_attributes(const OnnxImport *import, const char *const *known)
{
	const OnnxNode *node = import->node;

	for (int i = 0; i < node->attribute_count; i++)
	{
		const char *const *name = known;

		while (*name != NULL && strcmp(*name, node->attributes[i].name) != 0)
			name++;
		if (*name == NULL)
			onnx_refuse(import, "attribute \"%s\"", node->attributes[i].name);
	}
}

/* ---- values ---- */

/* The value of that name, or NULL. */
OnnxValue *
onnx_find_value(OnnxImport *import, const char *name)
{
	int			number = import_find_text(import->names, name);

	return number < 0 ? NULL : import->values[number];
}

/* A new value of that name. */
OnnxValue *
onnx_add_value(OnnxImport *import, const char *name)
{
	OnnxValue  *value = palloc0(sizeof(OnnxValue));
	int			number;

	if (import_find_text(import->names, name) >= 0)
		onnx_invalid(import, "value \"%s\" is defined twice", name);
	number = import_text_code(import->names, name);
	if (number >= import->values_allocated)
	{
		import->values_allocated = Max(64, 2 * import->values_allocated);
		import->values = import->values == NULL ?
			palloc(sizeof(OnnxValue *) * import->values_allocated) :
			repalloc(import->values,
					 sizeof(OnnxValue *) * import->values_allocated);
	}
	import->values[number] = value;
	value->name = name;
	value->label_slot = value->raw = -1;
	return value;
}

/* Input i of the node, or NULL if it is left out. */
OnnxValue *
onnx_optional_input(OnnxImport *import, int i)
{
	const OnnxNode *node = import->node;
	OnnxValue  *value;

	if (i >= node->input_count || node->inputs[i][0] == '\0')
		return NULL;
	value = onnx_find_value(import, node->inputs[i]);
	if (value == NULL)
		onnx_invalid(import, "value \"%s\" is not defined before it is used",
					 node->inputs[i]);
	return value;
}

OnnxValue *
onnx_input(OnnxImport *import, int i)
{
	OnnxValue  *value = onnx_optional_input(import, i);

	if (value == NULL)
		onnx_invalid(import, "input %d is missing", i + 1);
	return value;
}

/* A new value as output i of the node; a nameless one if nobody asks. */
OnnxValue *
onnx_output(OnnxImport *import, int i, OnnxType type)
{
	const OnnxNode *node = import->node;
	OnnxValue  *value;

	if (i >= node->output_count || node->outputs[i][0] == '\0')
	{
		value = palloc0(sizeof(OnnxValue));
		value->name = "";
		value->label_slot = value->raw = -1;
	}
	else
		value = onnx_add_value(import, node->outputs[i]);
	value->type = type;
	return value;
}

/* Gives a value its dimensions, the first of which is the batch's. */
void
onnx_set_shape(OnnxImport *import, OnnxValue *value, int rank,
			   const int64 *dims)
{
	int64		width = 1;

	if (rank < 1 || rank > ONNX_MAX_RANK)
		onnx_refuse(import, "a tensor of %d dimensions", rank);
	value->rank = rank;
	value->dims[0] = -1;
	for (int i = 1; i < rank; i++)
	{
		if (dims[i] < 0)
			onnx_refuse(import, "a tensor of unknown width");
		value->dims[i] = dims[i];
		width *= dims[i];
		if (width > MODEL_MAX_SLOTS)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("a tensor of the ONNX model is wider than %d",
							MODEL_MAX_SLOTS)));
	}
	if (width == 0)
		onnx_refuse(import, "a tensor without elements");
	value->width = (int) width;
	value->slots = palloc(sizeof(int) * value->width);
	if (value->type == ONNX_STRING)
		value->texts = palloc0(sizeof(ImportTexts *) * value->width);
}

/* Gives a value the shape of another one, which has rows. */
void
onnx_same_shape(OnnxValue *value, const OnnxValue *as)
{
	value->rank = as->rank;
	memcpy(value->dims, as->dims, sizeof(value->dims));
	value->width = as->width;
	value->slots = palloc(sizeof(int) * as->width);
	if (value->type == ONNX_STRING)
		value->texts = palloc0(sizeof(ImportTexts *) * as->width);
}

/* Lets the elements of a value be these slots, in order. */
void
onnx_set_run(OnnxValue *value, int first)
{
	for (int i = 0; i < value->width; i++)
		value->slots[i] = first + i;
}

/* A value that is as good as another one, in another type or shape. */
void
onnx_copy_meaning(OnnxValue *value, const OnnxValue *of)
{
	value->label_count = of->label_count;
	value->labels = of->labels;
	value->label_slot = of->label_slot;
	value->raw = of->raw;
	value->raw_count = of->raw_count;
}

/* Element i of a constant that is no text. */
double
onnx_constant_number(const OnnxValue *value, int i)
{
	return onnx_is_float(value->type) ? value->constant->numbers[i] :
		(double) value->constant->integers[i];
}

int64
onnx_constant_integer(const OnnxImport *import, const OnnxValue *value, int i)
{
	if (value->constant == NULL || !onnx_is_integer(value->type))
		onnx_refuse(import, "input \"%s\" that is not a constant of integers",
					value->name);
	return value->constant->integers[i];
}

/* The slots of a constant, which becomes one row. */
static int
fill_constant(OnnxImport *import, const OnnxValue *value)
{
	double	   *numbers = palloc(sizeof(double) * Max(value->width, 1));

	for (int i = 0; i < value->width; i++)
		numbers[i] = onnx_constant_number(value, i);
	return program_fill(import->program, numbers, value->width);
}

/* The first of the consecutive slots of a value, moved there if need be. */
int
onnx_run(OnnxImport *import, OnnxValue *value)
{
	bool		in_order = true;

	if (value->constant != NULL)
		return fill_constant(import, value);
	for (int i = 1; i < value->width; i++)
		in_order &= value->slots[i] == value->slots[0] + i;
	if (!in_order)
		onnx_set_run(value, program_move(import->program, value->slots,
										 value->width));
	return value->slots[0];
}

void
onnx_require_number(const OnnxImport *import, const OnnxValue *value)
{
	if (!onnx_is_float(value->type) && !onnx_is_integer(value->type))
		onnx_refuse(import, "input \"%s\" of type %s", value->name,
					onnx_type_name(value->type));
}

/* ERROR unless the value has rows of one or more elements side by side. */
void
onnx_require_rows(const OnnxImport *import, const OnnxValue *value)
{
	if (value->constant != NULL)
		onnx_refuse(import, "constant input \"%s\"", value->name);
	if (value->rank > 2)
		onnx_refuse(import, "input \"%s\" of %d dimensions", value->name,
					value->rank);
}

/* ERROR unless the axis is the last one, and the only one with elements. */
void
onnx_require_last_axis(const OnnxImport *import, const OnnxValue *value,
					   int64 axis)
{
	bool		only = value->rank >= 2;

	if (value->constant != NULL)
		onnx_refuse(import, "constant input \"%s\"", value->name);
	for (int i = 1; i < value->rank - 1; i++)
		only &= value->dims[i] == 1;
	if (!only || (axis < 0 ? axis + value->rank : axis) != value->rank - 1)
		onnx_refuse(import, "axis " INT64_FORMAT " of a tensor of %d dimensions",
					axis, value->rank);
}

/* Output of shape [batch, width]. */
OnnxValue *
onnx_result_of_rows(OnnxImport *import, int output, OnnxType type, int width)
{
	OnnxValue  *value = onnx_output(import, output, type);
	int64		dims[2] = {-1, width};

	onnx_set_shape(import, value, 2, dims);
	return value;
}

/* ---- labels ---- */

/*
 * Makes a value the label of a class, of the attributes that list texts or
 * integers; the slot has the class's number.
 */
void
onnx_set_labels(OnnxImport *import, OnnxValue *label, const char *strings,
				const char *ints, int count, int slot)
{
	const OnnxAttribute *texts = onnx_attribute(import, strings,
												ONNX_ATTRIBUTE_STRINGS);
	const OnnxAttribute *numbers = onnx_attribute(import, ints,
												  ONNX_ATTRIBUTE_INTS);
	int64		dims[1] = {-1};
	bool		plain = true;

	if (texts != NULL && texts->count == 0)
		texts = NULL;
	if (numbers != NULL && numbers->count == 0)
		numbers = NULL;
	if ((texts == NULL) == (numbers == NULL))
		onnx_invalid(import, "the classes have no labels, or two lists of them");
	if ((texts ? texts->count : numbers->count) != count)
		onnx_invalid(import, "there are %d labels for %d classes",
					 texts ? texts->count : numbers->count, count);
	label->type = texts ? ONNX_STRING : ONNX_INT64;
	label->label_count = count;
	label->labels = palloc(sizeof(char *) * count);
	label->label_slot = slot;
	onnx_set_shape(import, label, 1, dims);
	if (texts != NULL)
		label->texts[0] = import_create_texts(-1);
	for (int i = 0; i < count; i++)
	{
		label->labels[i] = texts ? texts->strings[i] :
			psprintf(INT64_FORMAT, numbers->ints[i]);
		if (texts != NULL)
			plain &= import_text_code(label->texts[0],
									  label->labels[i]) == i;
		else
			plain &= numbers->ints[i] == i;
	}
	if (texts != NULL && !plain)
		onnx_invalid(import, "two classes have the same label");
	label->slots[0] = slot;
	if (!plain)
	{
		double	   *keys = palloc(sizeof(double) * count);
		double	   *values = palloc(sizeof(double) * count);

		for (int i = 0; i < count; i++)
		{
			keys[i] = i;
			values[i] = (double) numbers->ints[i];
		}
		label->slots[0] = program_lookup(import->program, slot, 1, keys,
										 values, count, NAN, NAN);
	}
}

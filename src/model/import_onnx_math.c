/*-------------------------------------------------------------------------
 *
 * import_onnx_math.c
 *		Operators of ai.onnx that compute: one row at a time.
 *
 * Values of type float are rounded to float32 after each step, as the
 * library does; integers are doubles that hold them exactly.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "model/import_onnx.h"

/* ---- one operand ---- */

/* Output 0: the operation of each element of input 0. */
static void
map_elements(OnnxImport *import, ModelOp op, OnnxType type)
{
	OnnxValue  *input = onnx_input(import, 0);
	OnnxValue  *output;

	onnx_require_number(import, input);
	if (input->constant != NULL)
		onnx_refuse(import, "constant input \"%s\"", input->name);
	output = onnx_output(import, 0, type);
	onnx_same_shape(output, input);
	onnx_set_run(output, program_unary(import->program, op,
									   onnx_run(import, input), input->width,
									   type == ONNX_FLOAT));
}

/* Operators that are a step of the program each. */
static void
op_unary(OnnxImport *import, const OnnxNode *node)
{
	static const struct
	{
		const char *name;
		ModelOp		op;
		bool		float_only;
	}			steps[] = {
		{"Abs", MODEL_ABS, false}, {"Ceil", MODEL_CEIL, true},
		{"Exp", MODEL_EXP, true}, {"Floor", MODEL_FLOOR, true},
		{"Log", MODEL_LOG, true}, {"Neg", MODEL_NEGATE, false},
		{"Reciprocal", MODEL_RECIPROCAL, true}, {"Relu", MODEL_RELU, false},
		{"Round", MODEL_ROUND, true}, {"Sigmoid", MODEL_SIGMOID, true},
		{"Sqrt", MODEL_SQRT, true}, {"Tanh", MODEL_TANH, true}
	};
	OnnxType	type = onnx_input(import, 0)->type;

	for (int i = 0; i < lengthof(steps); i++)
		if (strcmp(steps[i].name, node->op_type) == 0)
		{
			if (steps[i].float_only && !onnx_is_float(type))
				onnx_refuse(import, "input of type %s", onnx_type_name(type));
			map_elements(import, steps[i].op, type);
			return;
		}
}

static void
op_not(OnnxImport *import, const OnnxNode *node)
{
	map_elements(import, MODEL_NOT, ONNX_BOOL);
}

static void
op_is_nan(OnnxImport *import, const OnnxNode *node)
{
	map_elements(import, MODEL_IS_MISSING, ONNX_BOOL);
}

static void
op_identity(OnnxImport *import, const OnnxNode *node)
{
	OnnxValue  *input = onnx_input(import, 0);
	OnnxValue  *output = onnx_output(import, 0, input->type);
	const char *name = output->name;

	*output = *input;
	output->name = name;
}

/* ---- casts ---- */

/* A constant in another type. */
static void
cast_constant(OnnxImport *import, OnnxValue *input, OnnxType type)
{
	OnnxValue  *output = onnx_output(import, 0, type);
	OnnxTensor *tensor = palloc(sizeof(OnnxTensor));
	const char *name = output->name;

	*tensor = *input->constant;
	tensor->type = type;
	tensor->numbers = palloc(sizeof(double) * Max(input->width, 1));
	tensor->integers = palloc(sizeof(int64) * Max(input->width, 1));
	for (int i = 0; i < input->width; i++)
	{
		double		number = onnx_constant_number(input, i);

		if (type == ONNX_FLOAT)
			number = (float) number;
		if (!onnx_is_float(type) && !(fabs(number) < 9007199254740992.0))
			onnx_refuse(import, "a constant that %s cannot hold",
						onnx_type_name(type));
		tensor->numbers[i] = number;
		tensor->integers[i] = onnx_is_float(type) ? 0 :
			type == ONNX_BOOL ? number != 0 : (int64) number;
	}
	*output = *input;
	output->name = name;
	output->type = type;
	output->constant = tensor;
}

/* Integers as texts: their decimal digits, which are compared as numbers. */
static void
cast_to_texts(OnnxImport *import, OnnxValue *input)
{
	OnnxValue  *output;

	if (input->type == ONNX_STRING)
	{
		op_identity(import, import->node);
		return;
	}
	if (!onnx_is_integer(input->type) || input->type == ONNX_BOOL ||
		input->constant != NULL)
		onnx_refuse(import, "a cast of %s to string",
					onnx_type_name(input->type));
	output = onnx_output(import, 0, ONNX_STRING);
	onnx_same_shape(output, input);
	onnx_copy_meaning(output, input);
	for (int i = 0; i < input->width; i++)
	{
		output->slots[i] = input->slots[i];
		output->texts[i] = import_create_texts(-1);
		output->texts[i]->number = input->slots[i];
	}
}

static void
op_cast(OnnxImport *import, const OnnxNode *node)
{
	OnnxValue  *input = onnx_input(import, 0);
	OnnxType	type = (OnnxType) onnx_int(import, "to", ONNX_UNDEFINED);
	OnnxValue  *output;
	ModelOp		op;

	if (type == ONNX_STRING)
	{
		cast_to_texts(import, input);
		return;
	}
	if (!onnx_is_float(type) && !onnx_is_integer(type))
		onnx_refuse(import, "a cast to %s", onnx_type_name(type));
	if (input->type == ONNX_STRING)
		onnx_refuse(import, "a cast of string to %s", onnx_type_name(type));
	if (input->type == type)
	{
		op_identity(import, node);
		return;
	}
	onnx_require_number(import, input);
	if (input->constant != NULL)
	{
		cast_constant(import, input, type);
		return;
	}
	output = onnx_output(import, 0, type);
	onnx_same_shape(output, input);
	onnx_copy_meaning(output, input);
	op = type == ONNX_BOOL ? MODEL_TO_BOOL :
		onnx_is_integer(type) && onnx_is_float(input->type) ? MODEL_TRUNCATE :
		MODEL_COPY;
	if (op == MODEL_COPY && type != ONNX_FLOAT)
		memcpy(output->slots, input->slots, sizeof(int) * input->width);
	else
		onnx_set_run(output, program_unary(import->program, op,
										   onnx_run(import, input),
										   input->width, type == ONNX_FLOAT));
}

/* ---- several operands ---- */

/* Dimension i from the right, of a constant without its batch. */
static int64
dimension_from_right(const OnnxValue *value, int i)
{
	int			at = value->rank - 1 - i;

	if (at < 0 || (at == 0 && value->constant == NULL))
		return 1;
	return value->dims[at];
}

/* Does this operand go into elementwise steps of that many elements? */
static void
check_operand(const OnnxImport *import, const OnnxValue *value,
			  const OnnxValue *shape)
{
	onnx_require_number(import, value);
	if (value->constant != NULL && value->width == 1)
		return;
	if (value->constant == NULL && value->rank != shape->rank)
		onnx_refuse(import, "operands of %d and %d dimensions", value->rank,
					shape->rank);
	if (value->constant == NULL && value->width == 1)
		return;
	for (int i = 0; i < Max(value->rank, shape->rank); i++)
		if (dimension_from_right(value, i) != dimension_from_right(shape, i))
			onnx_refuse(import, "operands of different shapes");
}

/* The operand whose shape the result has: the widest that has rows. */
static OnnxValue *
result_shape(OnnxImport *import, int count)
{
	OnnxValue  *widest = NULL;
	int			width = 0;

	for (int i = 0; i < count; i++)
	{
		OnnxValue  *value = onnx_input(import, i);

		if (value->constant == NULL &&
			(widest == NULL || value->width > widest->width))
			widest = value;
		width = Max(width, value->width);
	}
	if (widest == NULL)
		onnx_refuse(import, "operands that are all constant");
	return widest;
}

/*
 * Where one row's element meets a constant of several, it is repeated: a
 * value of shape [batch, width].
 */
static OnnxValue *
widen(OnnxImport *import, OnnxValue *value, int count)
{
	OnnxValue  *wide;
	int64		dims[2] = {-1, 0};

	for (int i = 0; i < count; i++)
	{
		OnnxValue  *other = onnx_input(import, i);

		if (other->constant != NULL && other->width > value->width &&
			value->width == 1)
			dims[1] = dimension_from_right(other, 0) == other->width ?
				other->width : 0;
	}
	if (dims[1] == 0 || value->rank != 2)
		return value;
	wide = palloc0(sizeof(OnnxValue));
	wide->name = value->name;
	wide->type = value->type;
	wide->label_slot = wide->raw = -1;
	onnx_set_shape(import, wide, 2, dims);
	for (int i = 0; i < wide->width; i++)
		wide->slots[i] = value->slots[0];
	return wide;
}

/* One elementwise step of two operands. */
static int
binary_step(OnnxImport *import, ModelOp op, OnnxValue *a, OnnxValue *b,
			int count, bool float32)
{
	ProgramStep step = {.op = op,.float32 = float32,.count = count,.c = -1};

	step.a = onnx_run(import, a);
	step.broadcast_a = a->width == 1 && count > 1;
	step.b = onnx_run(import, b);
	step.broadcast_b = b->width == 1 && count > 1;
	return program_add_step(import->program, &step);
}

/* Output 0 of two operands. */
static OnnxValue *
combine(OnnxImport *import, ModelOp op, OnnxType type)
{
	OnnxValue  *a = onnx_input(import, 0);
	OnnxValue  *b = onnx_input(import, 1);
	OnnxValue  *shape = widen(import, result_shape(import, 2), 2);
	OnnxValue  *output;

	check_operand(import, a, shape);
	check_operand(import, b, shape);
	if (a->type != b->type)
		onnx_invalid(import, "the operands are of types %s and %s",
					 onnx_type_name(a->type), onnx_type_name(b->type));
	output = onnx_output(import, 0, type);
	onnx_same_shape(output, shape);
	onnx_set_run(output, binary_step(import, op, a, b, shape->width,
									 type == ONNX_FLOAT));
	return output;
}

/* Operators that give the type of their operands. */
static void
op_arithmetic(OnnxImport *import, const OnnxNode *node)
{
	OnnxType	type = onnx_input(import, 0)->type;
	OnnxValue  *output;
	ModelOp		op = strcmp(node->op_type, "Add") == 0 ? MODEL_ADD :
	strcmp(node->op_type, "Sub") == 0 ? MODEL_SUBTRACT :
	strcmp(node->op_type, "Mul") == 0 ? MODEL_MULTIPLY :
	strcmp(node->op_type, "Div") == 0 ? MODEL_DIVIDE : MODEL_POWER;

	if (op == MODEL_POWER && !onnx_is_float(type))
		onnx_refuse(import, "input of type %s", onnx_type_name(type));
	output = combine(import, op, type);
	if (op == MODEL_DIVIDE && onnx_is_integer(type))
		onnx_set_run(output, program_unary(import->program, MODEL_TRUNCATE,
										   output->slots[0], output->width,
										   false));
}

/* Are two texts equal?  One of them must be a constant. */
static void
compare_texts(OnnxImport *import, OnnxValue *value, OnnxValue *constant)
{
	OnnxValue  *output;

	if (constant->constant == NULL || constant->width != 1)
		onnx_refuse(import, "a comparison of texts other than with one constant");
	output = onnx_output(import, 0, ONNX_BOOL);
	onnx_same_shape(output, value);
	for (int i = 0; i < value->width; i++)
	{
		double		code;

		if (value->texts[i]->number >= 0)
			onnx_refuse(import, "a comparison of digits");
		code = import_text_code(value->texts[i],
								constant->constant->texts[0]);
		output->slots[i] = program_constant(import->program, MODEL_EQUAL,
											value->slots[i], 1, &code, 1,
											false);
	}
}

static void
op_compare(OnnxImport *import, const OnnxNode *node)
{
	OnnxValue  *a = onnx_input(import, 0);
	OnnxValue  *b = onnx_input(import, 1);
	ModelOp		op = strcmp(node->op_type, "Less") == 0 ? MODEL_LESS :
	strcmp(node->op_type, "LessOrEqual") == 0 ? MODEL_LESS_EQUAL :
	strcmp(node->op_type, "Greater") == 0 ? MODEL_GREATER :
	strcmp(node->op_type, "GreaterOrEqual") == 0 ? MODEL_GREATER_EQUAL :
	strcmp(node->op_type, "Equal") == 0 ? MODEL_EQUAL :
	strcmp(node->op_type, "And") == 0 ? MODEL_AND : MODEL_OR;

	if (op == MODEL_EQUAL && a->type == ONNX_STRING &&
		b->type == ONNX_STRING && (a->constant == NULL || b->constant == NULL))
		compare_texts(import, a->constant == NULL ? a : b,
					  a->constant == NULL ? b : a);
	else
		combine(import, op, ONNX_BOOL);
}

/* Min, Max, Sum, Mean: of any number of operands, one after the other. */
static void
op_variadic(OnnxImport *import, const OnnxNode *node)
{
	OnnxValue  *shape = result_shape(import, node->input_count);
	OnnxValue  *output;
	ModelOp		op = strcmp(node->op_type, "Min") == 0 ? MODEL_MINIMUM :
	strcmp(node->op_type, "Max") == 0 ? MODEL_MAXIMUM : MODEL_ADD;
	OnnxValue	result = *shape;
	double		count = node->input_count;

	for (int i = 0; i < node->input_count; i++)
		check_operand(import, onnx_input(import, i), shape);
	output = onnx_output(import, 0, shape->type);
	onnx_same_shape(output, shape);
	result = *onnx_input(import, 0);
	for (int i = 1; i < node->input_count; i++)
	{
		OnnxValue  *next = onnx_input(import, i);
		int			first = binary_step(import, op, &result, next,
										shape->width,
										shape->type == ONNX_FLOAT);

		result = *output;
		result.slots = palloc(sizeof(int) * shape->width);
		onnx_set_run(&result, first);
	}
	if (node->input_count == 1 && result.width != shape->width)
		onnx_refuse(import, "one constant operand");
	if (strcmp(node->op_type, "Mean") == 0)
		onnx_set_run(output, program_constant(import->program, MODEL_DIVIDE,
											  onnx_run(import, &result),
											  shape->width, &count, 1,
											  shape->type == ONNX_FLOAT));
	else
		memcpy(output->slots, result.slots, sizeof(int) * shape->width);
}

static void
op_where(OnnxImport *import, const OnnxNode *node)
{
	OnnxValue  *condition = onnx_input(import, 0);
	OnnxValue  *yes = onnx_input(import, 1);
	OnnxValue  *no = onnx_input(import, 2);
	OnnxValue  *shape = result_shape(import, 3);
	OnnxValue  *output;
	ProgramStep step = {.op = MODEL_WHERE,.count = shape->width};

	for (int i = 0; i < 3; i++)
		check_operand(import, onnx_input(import, i), shape);
	if (condition->type != ONNX_BOOL || yes->type != no->type)
		onnx_invalid(import, "the operands do not have the types that they should");
	output = onnx_output(import, 0, yes->type);
	onnx_same_shape(output, shape);
	step.a = onnx_run(import, condition);
	step.broadcast_a = condition->width < shape->width;
	step.b = onnx_run(import, yes);
	step.broadcast_b = yes->width < shape->width;
	step.c = onnx_run(import, no);
	step.broadcast_c = no->width < shape->width;
	onnx_set_run(output, program_add_step(import->program, &step));
}

/* A bound of Clip: an attribute in old operator sets, an input in newer. */
static double
clip_bound(OnnxImport *import, int i, const char *name, double if_none)
{
	OnnxValue  *value = onnx_optional_input(import, i);

	if (value == NULL)
		return onnx_float(import, name, if_none);
	if (value->constant == NULL || value->width != 1)
		onnx_refuse(import, "a bound that is not one constant");
	return onnx_constant_number(value, 0);
}

static void
op_clip(OnnxImport *import, const OnnxNode *node)
{
	OnnxValue  *input = onnx_input(import, 0);
	OnnxValue  *output;
	double		bounds[2];

	onnx_require_number(import, input);
	if (input->constant != NULL)
		onnx_refuse(import, "constant input \"%s\"", input->name);
	bounds[0] = clip_bound(import, 1, "min", -INFINITY);
	bounds[1] = clip_bound(import, 2, "max", INFINITY);
	output = onnx_output(import, 0, input->type);
	onnx_same_shape(output, input);
	onnx_set_run(output, program_constant(import->program, MODEL_CLIP,
										  onnx_run(import, input),
										  input->width, bounds, 2,
										  input->type == ONNX_FLOAT));
}

/* ---- products of matrices ---- */

/*
 * Output 0: rows of the input times a constant matrix, plus biases.  Element
 * (i, j) of the matrix, of width rows and count columns, is at i * down + j *
 * right.  Sums are made in float64 and rounded once: libraries add in an
 * order of their own.
 */
static OnnxValue *
multiply_rows(OnnxImport *import, OnnxValue *rows, const OnnxValue *matrix,
			  int count, int down, int right, double alpha,
			  const double *biases)
{
	int			width = rows->width;
	bool		float32 = rows->type == ONNX_FLOAT;
	OnnxValue  *output = onnx_result_of_rows(import, 0, rows->type, count);
	double	   *constants = palloc_extended(sizeof(double) * count *
											((Size) width + 1),
											MCXT_ALLOC_HUGE);
	ProgramStep step = {.op = MODEL_MATMUL,.count = count,.width = width,
	.b = -1,.c = -1};

	for (int j = 0; j < count; j++)
	{
		for (int i = 0; i < width; i++)
			constants[(Size) j * width + i] = alpha *
				onnx_constant_number(matrix, i * down + j * right);
		constants[(Size) count * width + j] = biases ? biases[j] : 0;
	}
	step.a = onnx_run(import, rows);
	step.constants = constants;
	step.constant_count = count * (width + 1);
	onnx_set_run(output, program_add_step(import->program, &step));
	if (float32)
		onnx_set_run(output, program_unary(import->program, MODEL_COPY,
										   output->slots[0], count, true));
	output->raw = output->slots[0];
	output->raw_count = count;
	return output;
}

/* ERROR unless these are a matrix of rows and a constant matrix. */
static void
check_matrices(const OnnxImport *import, const OnnxValue *rows,
			   const OnnxValue *matrix, int least_rank, int matrix_width)
{
	onnx_require_rows(import, rows);
	if (matrix->constant == NULL || matrix->rank < least_rank ||
		matrix->rank > 2)
		onnx_refuse(import, "a product with something else than a constant matrix");
	if (!onnx_is_float(rows->type) || matrix->type != rows->type)
		onnx_refuse(import, "a product of %s and %s",
					onnx_type_name(rows->type), onnx_type_name(matrix->type));
	if (rows->width != matrix_width || matrix->width == 0)
		onnx_invalid(import, "a row of %d elements meets a matrix for " INT64_FORMAT,
					 rows->width, (int64) matrix_width);
}

static void
op_matmul(OnnxImport *import, const OnnxNode *node)
{
	OnnxValue  *rows = onnx_input(import, 0);
	OnnxValue  *matrix = onnx_input(import, 1);

	int			count = matrix->rank == 2 ? (int) matrix->dims[1] : 1;
	OnnxValue  *output;

	check_matrices(import, rows, matrix, 1, (int) matrix->dims[0]);
	output = multiply_rows(import, rows, matrix, count, count, 1, 1, NULL);
	/* a row times a vector is a number */
	if (matrix->rank == 1)
		output->rank = 1;
}

static void
op_gemm(OnnxImport *import, const OnnxNode *node)
{
	OnnxValue  *rows = onnx_input(import, 0);
	OnnxValue  *matrix = onnx_input(import, 1);
	OnnxValue  *bias = onnx_optional_input(import, 2);
	bool		turned = onnx_int(import, "transB", 0) != 0;
	double		beta = onnx_float(import, "beta", 1);
	double	   *biases = NULL;
	int			count;

	if (onnx_int(import, "transA", 0) != 0)
		onnx_refuse(import, "transA");
	check_matrices(import, rows, matrix, 2,
				   (int) matrix->dims[turned ? 1 : 0]);
	count = (int) matrix->dims[turned ? 0 : 1];
	if (bias != NULL)
	{
		if (bias->constant == NULL ||
			(bias->width != count && bias->width != 1))
			onnx_refuse(import, "biases that are not a constant row");
		biases = palloc(sizeof(double) * count);
		for (int i = 0; i < count; i++)
			biases[i] = beta * onnx_constant_number(bias,
													bias->width == 1 ? 0 : i);
	}
	multiply_rows(import, rows, matrix, count, turned ? 1 : count,
				  turned ? (int) matrix->dims[1] : 1,
				  onnx_float(import, "alpha", 1), biases);
}

/* ---- along a row ---- */

/* The axis attribute or input must mean the row. */
static void
require_row_axis(const OnnxImport *import, const OnnxValue *input, int64 axis)
{
	if (axis < 0)
		axis += input->rank;
	if (axis != 1 || input->rank != 2)
		onnx_refuse(import, "axis " INT64_FORMAT " of a tensor of %d dimensions",
					axis, input->rank);
}

static void
op_softmax(OnnxImport *import, const OnnxNode *node)
{
	OnnxValue  *input = onnx_input(import, 0);
	OnnxValue  *output;

	onnx_require_rows(import, input);
	require_row_axis(import, input,
					 onnx_int(import, "axis", import->model->opset < 13 ? 1 : -1));
	if (!onnx_is_float(input->type))
		onnx_refuse(import, "input of type %s", onnx_type_name(input->type));
	output = onnx_output(import, 0, input->type);
	onnx_same_shape(output, input);
	output->raw = onnx_run(import, input);
	output->raw_count = input->width;
	onnx_set_run(output, program_unary(import->program, MODEL_SOFTMAX,
									   output->raw, input->width,
									   input->type == ONNX_FLOAT));
}

static void
op_argmax(OnnxImport *import, const OnnxNode *node)
{
	OnnxValue  *input = onnx_input(import, 0);
	OnnxValue  *output;
	int64		dims[2] = {-1, 1};

	onnx_require_rows(import, input);
	require_row_axis(import, input, onnx_int(import, "axis", 0));
	onnx_require_number(import, input);
	if (onnx_int(import, "select_last_index", 0) != 0)
		onnx_refuse(import, "select_last_index");
	output = onnx_output(import, 0, ONNX_INT64);
	onnx_set_shape(import, output, onnx_int(import, "keepdims", 1) ? 2 : 1,
				   dims);
	output->slots[0] = program_unary(import->program, MODEL_ARGMAX,
									 onnx_run(import, input), input->width,
									 false);
	output->label_slot = output->slots[0];
}

/* Sums and the like of a row, in its order. */
static void
op_reduce(OnnxImport *import, const OnnxNode *node)
{
	OnnxValue  *input = onnx_input(import, 0);
	OnnxValue  *axes = onnx_optional_input(import, 1);
	const OnnxAttribute *list = onnx_attribute(import, "axes",
											   ONNX_ATTRIBUTE_INTS);
	OnnxValue  *output;
	int64		dims[ONNX_MAX_RANK];
	ModelOp		op = strcmp(node->op_type, "ReduceSum") == 0 ? MODEL_SUM :
	strcmp(node->op_type, "ReduceMean") == 0 ? MODEL_MEAN :
	strcmp(node->op_type, "ReduceMin") == 0 ? MODEL_SMALLEST : MODEL_LARGEST;

	onnx_require_number(import, input);
	if ((axes == NULL || axes->width != 1) &&
		(list == NULL || list->count != 1))
		onnx_refuse(import, "a reduction that is not along the row");
	onnx_require_last_axis(import, input, list != NULL ? list->ints[0] :
						   onnx_constant_integer(import, axes, 0));
	output = onnx_output(import, 0, input->type);
	memcpy(dims, input->dims, sizeof(dims));
	dims[input->rank - 1] = 1;
	onnx_set_shape(import, output, onnx_int(import, "keepdims", 1) ?
				   input->rank : input->rank - 1, dims);
	output->slots[0] = program_unary(import->program, op,
									 onnx_run(import, input), input->width,
									 input->type == ONNX_FLOAT);
}

const OnnxOperatorEntry onnx_math_operators[] = {
	{"Abs", op_unary},
	{"Add", op_arithmetic},
	{"And", op_compare},
	{"ArgMax", op_argmax},
	{"Cast", op_cast},
	{"Ceil", op_unary},
	{"Clip", op_clip},
	{"Div", op_arithmetic},
	{"Equal", op_compare},
	{"Exp", op_unary},
	{"Floor", op_unary},
	{"Gemm", op_gemm},
	{"Greater", op_compare},
	{"GreaterOrEqual", op_compare},
	{"Identity", op_identity},
	{"IsNaN", op_is_nan},
	{"Less", op_compare},
	{"LessOrEqual", op_compare},
	{"Log", op_unary},
	{"MatMul", op_matmul},
	{"Max", op_variadic},
	{"Mean", op_variadic},
	{"Min", op_variadic},
	{"Mul", op_arithmetic},
	{"Neg", op_unary},
	{"Not", op_not},
	{"Or", op_compare},
	{"Pow", op_arithmetic},
	{"Reciprocal", op_unary},
	{"ReduceMax", op_reduce},
	{"ReduceMean", op_reduce},
	{"ReduceMin", op_reduce},
	{"ReduceSum", op_reduce},
	{"Relu", op_unary},
	{"Round", op_unary},
	{"Sigmoid", op_unary},
	{"Softmax", op_softmax},
	{"Sqrt", op_unary},
	{"Sub", op_arithmetic},
	{"Sum", op_variadic},
	{"Tanh", op_unary},
	{"Where", op_where},
	{NULL, NULL}
};

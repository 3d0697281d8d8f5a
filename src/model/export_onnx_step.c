/*-------------------------------------------------------------------------
 *
 * export_onnx_step.c
 *		Steps of a program as operators of ONNX.
 *
 * A step that has no translation is refused by its number and operation.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "miscadmin.h"
#include "model/export_onnx.h"

/* Raises feature_not_supported. */
void
onnx_refuse_export(const char *what)
{
	core_not_supported(psprintf("exporting %s to ONNX", what),
					   "Use format => 'visage'.");
}

/* A number in the precision of the step. */
char *
onnx_in_precision(OnnxGraph *graph, const ModelStep *step, char *tensor)
{
	return (step->flags & MODEL_IN_FLOAT32) ?
		onnx_cast(graph, tensor, ONNX_FLOAT) : tensor;
}

/* The result of a step, back as doubles. */
static void
finish(OnnxGraph *graph, const ModelStep *step, char *tensor)
{
	if (step->flags & MODEL_IN_FLOAT32)
		tensor = onnx_cast(graph, tensor, ONNX_DOUBLE);
	onnx_set_columns(graph, step->out, tensor, step->count);
}

static const double *
constants_of(const OnnxGraph *graph, const ModelStep *step)
{
	return MODEL_AT(graph->image, double, step->data);
}

/* Operand a of an elementwise step. */
static char *
operand_a(OnnxGraph *graph, const ModelStep *step)
{
	return onnx_operand(graph, step->a,
						(step->flags & MODEL_BROADCAST_A) ? 1 : step->count);
}

/* Operand b: slots or constants. */
static char *
operand_b(OnnxGraph *graph, const ModelStep *step)
{
	if (step->b == MODEL_NONE)
		return onnx_doubles(graph, constants_of(graph, step), 1,
							step->data_count);
	return onnx_operand(graph, step->b,
						(step->flags & MODEL_BROADCAST_B) ? 1 : step->count);
}

/* ---- moves ---- */

static void
move(OnnxGraph *graph, const ModelStep *step)
{
	const uint32 *slots = MODEL_AT(graph->image, uint32, step->data);
	char	   *tensor;

	for (uint32 i = 0; i < step->count; i++)
		graph->columns[step->out + i] = graph->columns[slots[i]];
	if (step->op == MODEL_MOVE)
		return;
	tensor = onnx_operand(graph, step->out, step->count);
	if (step->op == MODEL_MISSING_TO_LOW)
		tensor = onnx_simple(graph, "Where",
							 onnx_simple(graph, "IsNaN", tensor, NULL, NULL),
							 onnx_number(graph, -INFINITY), tensor);
	else
		tensor = onnx_simple(graph, "Where",
							 onnx_simple(graph, "LessOrEqual",
										 onnx_simple(graph, "Abs", tensor, NULL, NULL),
										 onnx_number(graph, (double) 1e-35f), NULL),
							 onnx_number(graph, NAN), tensor);
	onnx_set_columns(graph, step->out, tensor, step->count);
}

/* Constants for every row: 0 times an input, plus the constants. */
static void
fill(OnnxGraph *graph, const ModelStep *step)
{
	char	   *any = onnx_operand(graph, 0, 1);
	char	   *ones = onnx_cast(graph,
								 onnx_simple(graph, "Equal", any, any, NULL),
								 ONNX_DOUBLE);
	char	   *zeros = onnx_simple(graph, "Mul", ones, onnx_number(graph, 0),
									NULL);

	onnx_set_columns(graph, step->out,
					 onnx_simple(graph, "Add", zeros,
								 onnx_doubles(graph, constants_of(graph, step),
											  1, step->count), NULL),
					 step->count);
}

/* ---- elementwise ---- */

typedef struct Translation
{
	ModelOp		op;
	const char *operator;
} Translation;

static const Translation unary[] = {
	{MODEL_NEGATE, "Neg"}, {MODEL_ABS, "Abs"}, {MODEL_EXP, "Exp"},
	{MODEL_LOG, "Log"}, {MODEL_SQRT, "Sqrt"}, {MODEL_TANH, "Tanh"},
	{MODEL_RELU, "Relu"}, {MODEL_FLOOR, "Floor"}, {MODEL_CEIL, "Ceil"},
	{MODEL_ROUND, "Round"}, {MODEL_RECIPROCAL, "Reciprocal"},
	{MODEL_SIGMOID, "Sigmoid"}
};
static const Translation arithmetic[] = {
	{MODEL_ADD, "Add"}, {MODEL_SUBTRACT, "Sub"}, {MODEL_MULTIPLY, "Mul"},
	{MODEL_DIVIDE, "Div"}, {MODEL_POWER, "Pow"}, {MODEL_MINIMUM, "Min"},
	{MODEL_MAXIMUM, "Max"}
};
static const Translation comparisons[] = {
	{MODEL_LESS, "Less"}, {MODEL_LESS_EQUAL, "LessOrEqual"},
	{MODEL_GREATER, "Greater"}, {MODEL_GREATER_EQUAL, "GreaterOrEqual"},
	{MODEL_EQUAL, "Equal"}
};

static const char *
translate(const Translation *list, int count, ModelOp op)
{
	for (int i = 0; i < count; i++)
		if (list[i].op == op)
			return list[i].operator;
	return NULL;
}

/* 1 / (exp(min(-a, 88.7)) + 1 + 1e-16), as XGBoost computes it. */
static char *
sigmoid_xgboost(OnnxGraph *graph, const ModelStep *step, char *a)
{
	char	   *one = onnx_in_precision(graph, step, onnx_number(graph, 1));

	a = onnx_simple(graph, "Min", onnx_simple(graph, "Neg", a, NULL, NULL),
					onnx_in_precision(graph, step, onnx_number(graph, 88.7)), NULL);
	a = onnx_simple(graph, "Add", onnx_simple(graph, "Exp", a, NULL, NULL),
					one, NULL);
	return onnx_simple(graph, "Div", one, a, NULL);
}

static void
one_operand(OnnxGraph *graph, const ModelStep *step)
{
	char	   *a = onnx_in_precision(graph, step, operand_a(graph, step));
	const char *operator = translate(unary, lengthof(unary), step->op);

	if (step->op == MODEL_SIGMOID_XGBOOST)
		a = sigmoid_xgboost(graph, step, a);
	else if (step->op == MODEL_LOG1P)
		a = onnx_simple(graph, "Log",
						onnx_simple(graph, "Add", a,
									onnx_in_precision(graph, step, onnx_number(graph, 1)), NULL),
						NULL, NULL);
	else if (operator != NULL)
		a = onnx_simple(graph, operator, a, NULL, NULL);
	finish(graph, step, a);
}

static void
scale(OnnxGraph *graph, const ModelStep *step)
{
	const double *k = constants_of(graph, step);
	char	   *a = onnx_in_precision(graph, step, operand_a(graph, step));

	a = onnx_simple(graph, "Sub", a,
					onnx_in_precision(graph, step,
									  onnx_doubles(graph, k, 1, step->count)), NULL);
	finish(graph, step,
		   onnx_simple(graph, step->op == MODEL_SCALE ? "Mul" : "Div", a,
					   onnx_in_precision(graph, step,
										 onnx_doubles(graph, k + step->count, 1,
													  step->count)), NULL));
}

/* and, or, and is not equal: of truth values. */
static char *
logical(OnnxGraph *graph, const ModelStep *step, char *a, char *b)
{
	if (step->op == MODEL_NOT_EQUAL)
		a = onnx_simple(graph, "Not", onnx_simple(graph, "Equal", a, b, NULL),
						NULL, NULL);
	else
		a = onnx_simple(graph, step->op == MODEL_AND ? "And" : "Or",
						onnx_cast(graph, a, ONNX_BOOL),
						onnx_cast(graph, b, ONNX_BOOL), NULL);
	return onnx_cast(graph, a, ONNX_DOUBLE);
}

static void
two_operands(OnnxGraph *graph, const ModelStep *step)
{
	char	   *a = operand_a(graph, step);
	char	   *b = operand_b(graph, step);
	const char *operator = translate(comparisons, lengthof(comparisons),
									 step->op);

	if (operator != NULL)
	{
		onnx_set_columns(graph, step->out,
						 onnx_cast(graph, onnx_simple(graph, operator, a, b, NULL),
								   ONNX_DOUBLE), step->count);
		return;
	}
	if (step->op == MODEL_AND || step->op == MODEL_OR ||
		step->op == MODEL_NOT_EQUAL)
	{
		onnx_set_columns(graph, step->out, logical(graph, step, a, b),
						 step->count);
		return;
	}
	operator = translate(arithmetic, lengthof(arithmetic), step->op);
	if (operator == NULL)
		onnx_refuse_export(psprintf("step %d", (int) step->op));
	finish(graph, step, onnx_simple(graph, operator,
									onnx_in_precision(graph, step, a),
									onnx_in_precision(graph, step, b), NULL));
}

/* Towards zero. */
char *
onnx_truncate(OnnxGraph *graph, char *a)
{
	return onnx_simple(graph, "Where",
					   onnx_simple(graph, "Less", a, onnx_number(graph, 0), NULL),
					   onnx_simple(graph, "Ceil", a, NULL, NULL),
					   onnx_simple(graph, "Floor", a, NULL, NULL));
}

/* From k[0] to k[1]; NaN stays. */
static char *
clip(OnnxGraph *graph, const double *k, char *a)
{
	static const char *const operators[] = {"Less", "Greater"};

	for (int i = 0; i < 2; i++)
		if (!isinf(k[i]))
			a = onnx_simple(graph, "Where",
							onnx_simple(graph, operators[i], a,
										onnx_number(graph, k[i]), NULL),
							onnx_number(graph, k[i]), a);
	return a;
}

/* Steps of one operand whose result is in the precision of the operand. */
static void
test_operand(OnnxGraph *graph, const ModelStep *step)
{
	char	   *a = operand_a(graph, step);
	char	   *zero = onnx_simple(graph, "Equal", a, onnx_number(graph, 0),
								   NULL);

	switch ((ModelOp) step->op)
	{
		case MODEL_TRUNCATE:
			a = onnx_truncate(graph, a);
			break;
		case MODEL_CLIP:
			a = clip(graph, constants_of(graph, step), a);
			break;
		case MODEL_IS_MISSING:
			a = onnx_cast(graph, onnx_simple(graph, "IsNaN", a, NULL, NULL),
						  ONNX_DOUBLE);
			break;
		case MODEL_NOT:
			a = onnx_cast(graph, zero, ONNX_DOUBLE);
			break;
		default:
			a = onnx_cast(graph, onnx_simple(graph, "Not", zero, NULL, NULL),
						  ONNX_DOUBLE);
	}
	onnx_set_columns(graph, step->out, a, step->count);
}

/* One column looked up: keys are compared with all at once. */
static char *
look_up(OnnxGraph *graph, const double *k, int count, char *x)
{
	double	   *values = palloc(sizeof(double) * Max(count, 1));
	double	   *known = palloc(sizeof(double) * Max(count, 1));
	double	   *missing = palloc(sizeof(double) * Max(count, 1));
	bool		any_missing = false;
	char	   *half = onnx_number(graph, 0.5);
	char	   *equal;
	char	   *result = onnx_number(graph, k[0]);

	for (int i = 0; i < count; i++)
	{
		missing[i] = isnan(k[2 + count + i]);
		values[i] = missing[i] ? 0 : k[2 + count + i];
		known[i] = 1;
		any_missing |= missing[i] != 0;
	}
	if (count > 0)
	{
		equal = onnx_cast(graph,
						  onnx_simple(graph, "Equal", x,
									  onnx_doubles(graph, k + 2, 1, count), NULL),
						  ONNX_DOUBLE);
		result = onnx_simple(graph, "Where",
							 onnx_simple(graph, "Greater",
										 onnx_simple(graph, "MatMul", equal, onnx_doubles(graph, known, count, 1), NULL),
										 half, NULL),
							 onnx_simple(graph, "MatMul", equal, onnx_doubles(graph, values, count, 1), NULL),
							 result);
		if (any_missing)
			result = onnx_simple(graph, "Where",
								 onnx_simple(graph, "Greater",
											 onnx_simple(graph, "MatMul", equal, onnx_doubles(graph, missing, count, 1), NULL),
											 half, NULL),
								 onnx_number(graph, NAN), result);
	}
	return onnx_simple(graph, "Where",
					   onnx_simple(graph, "IsNaN", x, NULL, NULL),
					   onnx_number(graph, k[1]), result);
}

static void
lookup(OnnxGraph *graph, const ModelStep *step)
{
	int			count = (step->data_count - 2) / 2;

	for (uint32 i = 0; i < step->count; i++)
		onnx_set_columns(graph, step->out + i,
						 look_up(graph, constants_of(graph, step), count,
								 onnx_operand(graph, step->a +
											  ((step->flags & MODEL_BROADCAST_A) ? 0 : i), 1)),
						 1);
}

/* Divided by the sum of magnitudes, or the root of the sum of squares. */
static void
normalize(OnnxGraph *graph, const ModelStep *step)
{
	char	   *a = onnx_in_precision(graph, step,
									  onnx_operand(graph, step->a, step->count));
	bool		squares = step->op == MODEL_NORMALIZE_L2;
	char	   *zero = onnx_in_precision(graph, step, onnx_number(graph, 0));
	double	   *ones = palloc(sizeof(double) * step->count);
	char	   *norm = squares ? onnx_simple(graph, "Mul", a, a, NULL) :
	onnx_simple(graph, "Abs", a, NULL, NULL);

	for (uint32 i = 0; i < step->count; i++)
		ones[i] = 1;
	norm = onnx_simple(graph, "MatMul", norm,
					   onnx_in_precision(graph, step,
										 onnx_doubles(graph, ones, step->count, 1)),
					   NULL);
	if (squares)
		norm = onnx_simple(graph, "Sqrt", norm, NULL, NULL);
	norm = onnx_simple(graph, "Where",
					   onnx_simple(graph, "Equal", norm, zero, NULL),
					   onnx_in_precision(graph, step, onnx_number(graph, 1)), norm);
	finish(graph, step, onnx_simple(graph, "Div", a, norm, NULL));
}

static void
where(OnnxGraph *graph, const ModelStep *step)
{
	char	   *condition = onnx_cast(graph, operand_a(graph, step), ONNX_BOOL);
	char	   *yes = operand_b(graph, step);
	char	   *no = onnx_operand(graph, step->c,
								  (step->flags & MODEL_BROADCAST_C) ? 1 : step->count);

	onnx_set_columns(graph, step->out,
					 onnx_simple(graph, "Where", condition, yes, no),
					 step->count);
}

/* 1 where a equals a constant: one column a constant. */
static void
one_hot(OnnxGraph *graph, const ModelStep *step)
{
	char	   *equal = onnx_simple(graph, "Equal",
									onnx_operand(graph, step->a, 1),
									onnx_doubles(graph, constants_of(graph, step),
												 1, step->count), NULL);

	onnx_set_columns(graph, step->out, onnx_cast(graph, equal, ONNX_DOUBLE),
					 step->count);
}

static void
impute(OnnxGraph *graph, const ModelStep *step)
{
	const double *k = constants_of(graph, step);
	char	   *a = operand_a(graph, step);
	char	   *missing = onnx_simple(graph, "IsNaN", a, NULL, NULL);

	if (!isnan(k[0]))
		onnx_refuse_export("an imputation of other values than missing ones");
	onnx_set_columns(graph, step->out,
					 onnx_simple(graph, "Where", missing,
								 onnx_doubles(graph, k + 1, 1, step->data_count - 1),
								 a), step->count);
}

static void
softmax(OnnxGraph *graph, const ModelStep *step)
{
	char	   *a = onnx_in_precision(graph, step,
									  onnx_operand(graph, step->a, step->count));

	onnx_begin_node(graph, "Softmax", false);
	onnx_node_input(graph, a);
	onnx_node_int(graph, "axis", 1);
	finish(graph, step, onnx_end_node(graph));
}

/* ---- along a row ---- */

static void
reduce(OnnxGraph *graph, const ModelStep *step)
{
	char	   *a = onnx_operand(graph, step->a, step->width);
	int64		axis = 1;
	char	   *result;

	if (step->op == MODEL_ARGMAX)
	{
		onnx_begin_node(graph, "ArgMax", false);
		onnx_node_input(graph, a);
		onnx_node_int(graph, "axis", 1);
		result = onnx_cast(graph, onnx_end_node(graph), ONNX_DOUBLE);
	}
	else if (step->op == MODEL_LARGEST || step->op == MODEL_SMALLEST ||
			 step->op == MODEL_MEAN)
	{
		onnx_begin_node(graph, step->op == MODEL_LARGEST ? "ReduceMax" :
						step->op == MODEL_SMALLEST ? "ReduceMin" : "ReduceMean",
						false);
		onnx_node_input(graph, a);
		onnx_node_ints(graph, "axes", &axis, 1);
		result = onnx_end_node(graph);
	}
	else
	{
		double	   *ones = palloc(sizeof(double) * step->width);

		for (uint32 i = 0; i < step->width; i++)
			ones[i] = 1;
		result = onnx_simple(graph, "MatMul", a,
							 onnx_doubles(graph, ones, step->width, 1), NULL);
	}
	onnx_set_columns(graph, step->out, result, 1);
}

static void
matmul(OnnxGraph *graph, const ModelStep *step)
{
	const double *k = constants_of(graph, step);
	double	   *turned = palloc_extended(sizeof(double) * step->width * step->count,
										 MCXT_ALLOC_HUGE);
	char	   *product;

	for (uint32 i = 0; i < step->count; i++)
		for (uint32 j = 0; j < step->width; j++)
			turned[(Size) j * step->count + i] = k[(Size) i * step->width + j];
	product = onnx_simple(graph, "MatMul",
						  onnx_operand(graph, step->a, step->width),
						  onnx_doubles(graph, turned, step->width, step->count),
						  NULL);
	onnx_set_columns(graph, step->out,
					 onnx_simple(graph, "Add", product,
								 onnx_doubles(graph, k + (Size) step->count * step->width,
											  1, step->count), NULL),
					 step->count);
}

/* ---- linear models ---- */

/* A term that a category's code chooses from a table. */
static char *
table_term(OnnxGraph *graph, const ModelTerm *term, char *x)
{
	int			count = term->table_count;
	const double *table = MODEL_AT(graph->image, double, term->table);
	double	   *codes = palloc(sizeof(double) * count);
	double	   *weights = palloc(sizeof(double) * count);
	char	   *chosen;

	for (int i = 0; i < count; i++)
	{
		codes[i] = i;
		weights[i] = table[i] - term->unseen;
	}
	chosen = onnx_cast(graph,
					   onnx_simple(graph, "Equal", x,
								   onnx_doubles(graph, codes, 1, count), NULL),
					   ONNX_DOUBLE);
	chosen = onnx_simple(graph, "MatMul", chosen,
						 onnx_doubles(graph, weights, count, 1), NULL);
	return term->unseen == 0 ? chosen :
		onnx_simple(graph, "Add", chosen, onnx_number(graph, term->unseen),
					NULL);
}

/* coefficient * ((x - center) / scale) ^ exponent */
static char *
number_term(OnnxGraph *graph, const ModelTerm *term, char *x)
{
	if (term->center != 0)
		x = onnx_simple(graph, "Sub", x, onnx_number(graph, term->center),
						NULL);
	if (term->exponent != 1)
		x = onnx_simple(graph, "Pow", x, onnx_number(graph, term->exponent),
						NULL);
	return onnx_simple(graph, "Mul", x,
					   onnx_number(graph, term->coefficient), NULL);
}

static void
linear(OnnxGraph *graph, const ModelStep *step)
{
	const ModelTerm *terms = MODEL_AT(graph->image, ModelTerm, step->data);
	char	   *sum = onnx_number(graph, step->bias);

	for (uint32 i = 0; i < step->data_count; i++)
	{
		char	   *x = onnx_operand(graph, terms[i].slot, 1);
		char	   *term = terms[i].table != 0 ?
		table_term(graph, &terms[i], x) : number_term(graph, &terms[i], x);

		if (!isnan(terms[i].missing) || terms[i].table != 0)
			term = onnx_simple(graph, "Where",
							   onnx_simple(graph, "IsNaN", x, NULL, NULL),
							   onnx_number(graph, terms[i].missing), term);
		sum = onnx_simple(graph, "Add", sum, term, NULL);
	}
	onnx_set_columns(graph, step->out, sum, 1);
}

/* ---- all steps ---- */

void
onnx_export_step(OnnxGraph *graph, const ModelStep *step)
{
	switch ((ModelOp) step->op)
	{
		case MODEL_MOVE:
		case MODEL_MISSING_TO_LOW:
		case MODEL_ZERO_TO_MISSING:
			move(graph, step);
			return;
		case MODEL_FILL:
			fill(graph, step);
			return;
		case MODEL_SCALE:
		case MODEL_SCALE_DIVIDE:
			scale(graph, step);
			return;
		case MODEL_IMPUTE:
			impute(graph, step);
			return;
		case MODEL_WHERE:
			where(graph, step);
			return;
		case MODEL_ONE_HOT:
			one_hot(graph, step);
			return;
		case MODEL_SOFTMAX:
			softmax(graph, step);
			return;
		case MODEL_SUM:
		case MODEL_MEAN:
		case MODEL_SMALLEST:
		case MODEL_LARGEST:
		case MODEL_ARGMAX:
			reduce(graph, step);
			return;
		case MODEL_MATMUL:
			matmul(graph, step);
			return;
		case MODEL_LINEAR:
			linear(graph, step);
			return;
		case MODEL_TREES:
			onnx_export_trees(graph, step);
			return;
		case MODEL_TRUNCATE:
		case MODEL_TO_BOOL:
		case MODEL_NOT:
		case MODEL_IS_MISSING:
		case MODEL_CLIP:
			test_operand(graph, step);
			return;
		case MODEL_LOOKUP:
			lookup(graph, step);
			return;
		case MODEL_NORMALIZE_L1:
		case MODEL_NORMALIZE_L2:
			normalize(graph, step);
			return;
		default:
			break;
	}
	if (step->op == MODEL_COPY || step->op == MODEL_SIGMOID_XGBOOST ||
		step->op == MODEL_LOG1P ||
		translate(unary, lengthof(unary), step->op) != NULL)
		one_operand(graph, step);
	else if (step->op >= MODEL_ADD && step->op < MODEL_WHERE)
		two_operands(graph, step);
	else
		onnx_refuse_export(psprintf("step %d of its program", (int) step->op));
}

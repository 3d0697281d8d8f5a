/*-------------------------------------------------------------------------
 *
 * export_pmml_step.c
 *		Steps of a program as derived fields of PMML.
 *
 * A missing value makes the result missing, as NaN does in the program; the
 * functions that PMML defines otherwise (min, max, sum) are not used.  Sums
 * of many fields are written as a balanced tree of additions.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "miscadmin.h"
#include "model/export_pmml.h"

static const double *
constants_of(const PmmlDocument *document, const ModelStep *step)
{
	return MODEL_AT(document->image, double, step->data);
}

/* The slot of element i of an operand. */
static uint32
element(const ModelStep *step, uint32 first, uint32 broadcast, uint32 i)
{
	return first + ((step->flags & broadcast) ? 0 : i);
}

static bool
is_late(const PmmlDocument *document, uint32 slot)
{
	return document->late[pmml_source(document, slot).slot];
}

static bool
any_late(const PmmlDocument *document, uint32 first, uint32 count)
{
	for (uint32 i = 0; i < count; i++)
		if (is_late(document, first + i))
			return true;
	return false;
}

/* Element i of the result. */
static void
set(PmmlDocument *document, const ModelStep *step, uint32 i,
	const char *expression, bool late)
{
	if (document->needed[step->out + i])
		pmml_set_field(document, step->out + i, expression,
					   (step->flags & MODEL_IN_FLOAT32) != 0, late);
}

/* ---- one operand ---- */

/* The condition that a number is not 0; a missing one is not. */
static char *
is_true(const char *x)
{
	return pmml_apply_or("notEqual", "true", x, pmml_constant_of(0));
}

static char *
clip(const double *k, char *x)
{
	char	   *result = x;

	if (!isinf(k[1]))
		result = pmml_apply("if",
							pmml_apply("greaterThan", x, pmml_constant_of(k[1]), NULL),
							pmml_constant_of(k[1]), result);
	if (!isinf(k[0]))
		result = pmml_apply("if",
							pmml_apply("lessThan", x, pmml_constant_of(k[0]), NULL),
							pmml_constant_of(k[0]), result);
	return result;
}

static char *
negated(const char *x)
{
	return pmml_apply("*", pmml_constant_of(-1), x, NULL);
}

/* 1 / (1 + exp(-x)) */
static char *
sigmoid(const char *x)
{
	return pmml_apply("/", pmml_constant_of(1),
					  pmml_apply("+", pmml_constant_of(1),
								 pmml_apply("exp", negated(x), NULL, NULL), NULL),
					  NULL);
}

static char *
impute(const ModelStep *step, const double *k, uint32 i, const char *field)
{
	char	   *value = pmml_double(k[step->data_count == 2 ? 1 : 1 + i]);
	char	   *x = psprintf("<FieldRef field=\"%s\"/>", field);

	if (isnan(k[0]))
		return psprintf("<FieldRef field=\"%s\" mapMissingTo=\"%s\"/>", field,
						value);
	return psprintf("<Apply function=\"if\" mapMissingTo=\"%s\">%s%s%s</Apply>",
					value,
					pmml_apply("equal", x, pmml_constant_of(k[0]), NULL),
					pmml_constant_of(k[step->data_count == 2 ? 1 : 1 + i]), x);
}

/*
 * Keys are numbers in rising order: each is an interval of one, and so is what
 * lies between two, for PMML4S takes mapMissingTo where no interval fits.
 */
static char *
lookup(const double *k, uint32 count, const char *field)
{
	const double *keys = k + 2;
	const double *values = keys + count;
	StringInfoData bins;

	initStringInfo(&bins);
	for (uint32 i = 0; i < count; i++)
	{
		if (isnan(values[i]))
			pmml_refuse_export("a key that means a missing value");
		if (isinf(keys[i]))
			pmml_refuse_export("an infinite key");
		pmml_bin(&bins, values[i], "closedClosed", keys[i], keys[i]);
	}
	for (uint32 i = 0; i <= count && !isnan(k[0]); i++)
		pmml_bin(&bins, k[0], "openOpen", i == 0 ? -INFINITY : keys[i - 1],
				 i == count ? INFINITY : keys[i]);
	return pmml_discretize(field, k[0], k[1], bins.data);
}

static char *
interpolate(const double *k, uint32 count, const char *field)
{
	StringInfoData norms;

	initStringInfo(&norms);
	appendStringInfo(&norms, "<NormContinuous field=\"%s\">", field);
	for (uint32 i = 0; i < count; i++)
		appendStringInfo(&norms, "<LinearNorm orig=\"%s\" norm=\"%s\"/>",
						 pmml_double(k[i]), pmml_double(k[count + i]));
	appendStringInfoString(&norms, "</NormContinuous>");
	return norms.data;
}

static const char *
function_of(ModelOp op)
{
	switch (op)
	{
		case MODEL_ABS:
			return "abs";
		case MODEL_EXP:
			return "exp";
		case MODEL_LOG:
			return "ln";
		case MODEL_LOG1P:
			return "ln1p";
		case MODEL_SQRT:
			return "sqrt";
		case MODEL_TANH:
			return "tanh";
		case MODEL_FLOOR:
			return "floor";
		case MODEL_CEIL:
			return "ceil";
		case MODEL_ROUND:
			return "rint";
		case MODEL_NORMAL_CDF:
			return "stdNormalCDF";
		case MODEL_NORMAL_QUANTILE:
			return "stdNormalIDF";
		default:
			return NULL;
	}
}

/* Element i of a step of one operand, from slot a. */
static char *
one_operand(PmmlDocument *document, const ModelStep *step, uint32 a, uint32 i)
{
	const double *k = constants_of(document, step);
	const char *field = pmml_field(document, a);
	char	   *x = psprintf("<FieldRef field=\"%s\"/>", field);
	char	   *zero = pmml_constant_of(0);

	if (function_of(step->op) != NULL)
		return pmml_apply(function_of(step->op), x, NULL, NULL);
	switch ((ModelOp) step->op)
	{
		case MODEL_COPY:
			return x;
		case MODEL_ZERO_TO_MISSING:
			return pmml_apply("if", pmml_apply("greaterThan",
											   pmml_apply("abs", x, NULL, NULL),
											   pmml_constant_of((double) 1e-35f), NULL),
							  x, NULL);
		case MODEL_TRUNCATE:
			return pmml_apply("if", pmml_apply("lessThan", x, zero, NULL),
							  pmml_apply("ceil", x, NULL, NULL),
							  pmml_apply("floor", x, NULL, NULL));
		case MODEL_TO_BOOL:
			return pmml_number_if(is_true(x));
		case MODEL_NEGATE:
			return negated(x);
		case MODEL_RELU:
			return pmml_apply("if", pmml_apply("lessThan", x, zero, NULL),
							  zero, x);
		case MODEL_NOT:
			return pmml_number_if(pmml_apply_or("equal", "false", x, zero));
		case MODEL_IS_MISSING:
			return pmml_number_if(pmml_apply("isMissing", x, NULL, NULL));
		case MODEL_RECIPROCAL:
			return pmml_apply("/", pmml_constant_of(1), x, NULL);
		case MODEL_SIGMOID:
		case MODEL_SIGMOID_XGBOOST:
			return sigmoid(x);
		case MODEL_CLOGLOG:
			return pmml_apply("-", pmml_constant_of(1),
							  pmml_apply("exp", negated(pmml_apply("exp", x, NULL, NULL)), NULL, NULL),
							  NULL);
		case MODEL_LOGLOG:
			return pmml_apply("exp", negated(pmml_apply("exp", negated(x), NULL, NULL)),
							  NULL, NULL);
		case MODEL_CLIP:
			return clip(k, x);
		case MODEL_IMPUTE:
			return impute(step, k, i, field);
		case MODEL_LOOKUP:
			return lookup(k, (step->data_count - 2) / 2, field);
		case MODEL_INTERPOLATE:
			return interpolate(k, step->data_count / 2, field);
		default:
			pmml_refuse_export(psprintf("step %d of its program",
										(int) step->op));
	}
}

/* A look-up of a text's code: a number for each category. */
static char *
lookup_category(const PmmlDocument *document, const ModelStep *step,
				const ModelInput *input)
{
	const double *k = constants_of(document, step);
	uint32		count = (step->data_count - 2) / 2;
	double	   *values = palloc(sizeof(double) * (input->category_count + 2));
	double		codes[2] = {input->unseen, input->missing};

	for (uint32 i = 0; i < input->category_count + 2; i++)
	{
		double		code = i < input->category_count ? i :
		codes[i - input->category_count];

		values[i] = isnan(code) ? k[1] : k[0];
		for (uint32 j = 0; j < count; j++)
			if (k[2 + j] == code)
				values[i] = k[2 + count + j];
	}
	return pmml_category_map(document, input, values,
							 values[input->category_count],
							 values[input->category_count + 1]);
}

/* 1 where a text's code, or a number, equals k, else 0. */
static char *
is_equal(PmmlDocument *document, uint32 slot, double k)
{
	PmmlSource	source = pmml_source(document, slot);
	const ModelInput *input = source.category;
	double	   *values;

	if (input == NULL)
		return pmml_number_if(pmml_apply_or("equal", "false",
											pmml_ref(document, slot),
											pmml_constant_of(k)));
	values = palloc(sizeof(double) * Max(input->category_count, 1));
	for (uint32 i = 0; i < input->category_count; i++)
		values[i] = i == k;
	return pmml_category_map(document, input, values, input->unseen == k,
							 input->missing == k);
}

/* ---- two operands or three ---- */

static char *
two_operands(const ModelStep *step, char *x, char *y)
{
	static const struct
	{
		ModelOp		op;
		const char *function;
		const char *if_missing; /* of comparisons */
	}			functions[] = {
		{MODEL_ADD, "+", NULL}, {MODEL_SUBTRACT, "-", NULL},
		{MODEL_MULTIPLY, "*", NULL}, {MODEL_DIVIDE, "/", NULL},
		{MODEL_POWER, "pow", NULL}, {MODEL_LESS, "lessThan", "false"},
		{MODEL_LESS_EQUAL, "lessOrEqual", "false"},
		{MODEL_GREATER, "greaterThan", "false"},
		{MODEL_GREATER_EQUAL, "greaterOrEqual", "false"},
		{MODEL_EQUAL, "equal", "false"}, {MODEL_NOT_EQUAL, "notEqual", "true"}
	};

	for (int i = 0; i < lengthof(functions); i++)
		if (functions[i].op == step->op)
			return functions[i].if_missing == NULL ?
				pmml_apply(functions[i].function, x, y, NULL) :
				pmml_number_if(pmml_apply_or(functions[i].function,
											 functions[i].if_missing, x, y));
	switch ((ModelOp) step->op)
	{
		case MODEL_MINIMUM:
		case MODEL_MAXIMUM:
			return pmml_apply("if",
							  pmml_apply(step->op == MODEL_MINIMUM ? "lessThan" :
										 "greaterThan", x, y, NULL), x, y);
		case MODEL_AND:
		case MODEL_OR:
			return pmml_number_if(pmml_apply(step->op == MODEL_AND ? "and" :
											 "or", is_true(x), is_true(y), NULL));
		default:
			pmml_refuse_export(psprintf("step %d of its program",
										(int) step->op));
	}
}

/* a is not 0 ? b : c; an if without an else is a missing value. */
static char *
choice_of(PmmlDocument *document, uint32 a, uint32 b, uint32 c, char *yes)
{
	char	   *x = pmml_ref(document, a);

	if (pmml_is_missing(document, b))
		return pmml_apply("if",
						  pmml_apply_or("equal", "false", x, pmml_constant_of(0)),
						  pmml_ref(document, c), NULL);
	return pmml_apply("if", is_true(x), yes,
					  pmml_is_missing(document, c) ? NULL :
					  pmml_ref(document, c));
}

/* Element i of a step of two operands or three. */
static void
several_operands(PmmlDocument *document, const ModelStep *step, uint32 i)
{
	uint32		a = element(step, step->a, MODEL_BROADCAST_A, i);
	uint32		b = element(step, step->b, MODEL_BROADCAST_B, i);
	uint32		c = element(step, step->c, MODEL_BROADCAST_C, i);
	bool		constant = step->b == MODEL_NONE;
	bool		late = is_late(document, a) ||
	(!constant && is_late(document, b)) ||
	(step->op == MODEL_WHERE && is_late(document, c));
	char	   *y;

	if (step->op == MODEL_EQUAL && constant &&
		pmml_source(document, a).category != NULL)
	{
		set(document, step, i,
			is_equal(document, a,
					 constants_of(document, step)[step->data_count == 1 ? 0 : i]),
			late);
		return;
	}
	y = constant ?
		pmml_constant_of(constants_of(document, step)[step->data_count == 1 ? 0 : i]) :
		pmml_ref(document, b);
	if (step->op == MODEL_WHERE)
		set(document, step, i,
			choice_of(document, a, b, c, y), late);
	else
		set(document, step, i,
			two_operands(step, pmml_ref(document, a), y), late);
}

/* ---- along a row ---- */

/* Expressions joined by a function of two, as a balanced tree. */
static char *
join(const char *function, char **parts, int count)
{
	if (count == 1)
		return parts[0];
	check_stack_depth();
	return pmml_apply(function, join(function, parts, count / 2),
					  join(function, parts + count / 2, count - count / 2),
					  NULL);
}

/* The largest of two fields, or the smallest; the first of equals. */
static char *
better(bool largest, const char *a, const char *b)
{
	return pmml_apply("if", pmml_apply(largest ? "greaterThan" : "lessThan", b,
									   a, NULL), b, a);
}

/* The best of many fields, or its place among them: a field each step. */
static void
best(PmmlDocument *document, const ModelStep *step)
{
	bool		late = any_late(document, step->a, step->width);
	bool		largest = step->op != MODEL_SMALLEST;
	char	   *value = pmml_ref(document, step->a);
	char	   *place = pmml_constant_of(0);

	for (uint32 i = 1; i < step->width; i++)
	{
		char	   *next = pmml_ref(document, step->a + i);

		if (step->op == MODEL_ARGMAX)
			place = pmml_extra(document,
							   pmml_apply("if",
										  pmml_apply_or("greaterThan", "false", next, value),
										  pmml_constant_of(i), place), late);
		value = pmml_extra(document, better(largest, value, next), late);
	}
	set(document, step, 0, step->op == MODEL_ARGMAX ? place : value, late);
}

static void
reduce(PmmlDocument *document, const ModelStep *step)
{
	char	  **parts = palloc(sizeof(char *) * step->width);
	bool		present = step->op == MODEL_SUM_PRESENT;
	char	   *sum;

	for (uint32 i = 0; i < step->width; i++)
	{
		const char *field = pmml_field(document, step->a + i);

		if (step->op == MODEL_COUNT_PRESENT)
			parts[i] = pmml_number_if(pmml_apply("isNotMissing",
												 psprintf("<FieldRef field=\"%s\"/>", field), NULL, NULL));
		else
			parts[i] = psprintf("<FieldRef field=\"%s\"%s/>", field,
								present ? " mapMissingTo=\"0\"" : "");
	}
	sum = join("+", parts, step->width);
	if (step->op == MODEL_MEAN)
		sum = pmml_apply("/", sum, pmml_constant_of(step->width), NULL);
	set(document, step, 0, sum, any_late(document, step->a, step->width));
}

/* exp(x - largest) divided by their sum. */
static void
softmax(PmmlDocument *document, const ModelStep *step)
{
	bool		late = any_late(document, step->a, step->count);
	char	  **parts = palloc(sizeof(char *) * step->count);
	char	   *top = pmml_ref(document, step->a);
	char	   *sum;

	for (uint32 i = 1; i < step->count; i++)
		top = pmml_extra(document,
						 better(true, top, pmml_ref(document, step->a + i)),
						 late);
	for (uint32 i = 0; i < step->count; i++)
		parts[i] = pmml_extra(document,
							  pmml_apply("exp",
										 pmml_apply("-", pmml_ref(document, step->a + i), top, NULL),
										 NULL, NULL), late);
	sum = pmml_extra(document, join("+", parts, step->count), late);
	for (uint32 i = 0; i < step->count; i++)
		set(document, step, i, pmml_apply("/", parts[i], sum, NULL), late);
}

/* Divided by a norm, unless that is 0. */
static void
normalize(PmmlDocument *document, const ModelStep *step)
{
	bool		late = any_late(document, step->a, step->count);
	char	  **parts = palloc(sizeof(char *) * step->count);
	char	   *norm;

	for (uint32 i = 0; i < step->count; i++)
	{
		char	   *x = pmml_ref(document, step->a + i);

		parts[i] = step->op == MODEL_NORMALIZE_L1 ?
			pmml_apply("abs", x, NULL, NULL) : pmml_apply("*", x, x, NULL);
	}
	norm = join("+", parts, step->count);
	if (step->op == MODEL_NORMALIZE_L2)
		norm = pmml_apply("sqrt", norm, NULL, NULL);
	norm = pmml_extra(document, norm, late);
	norm = pmml_extra(document,
					  pmml_apply("if",
								 pmml_apply("equal", norm, pmml_constant_of(0), NULL),
								 pmml_constant_of(1), norm), late);
	for (uint32 i = 0; i < step->count; i++)
		set(document, step, i,
			pmml_apply("/", pmml_ref(document, step->a + i), norm, NULL), late);
}

/* ---- all steps ---- */

/* A sum of products, which is a model of its own. */
static void
linear(PmmlDocument *document, const ModelStep *step, uint32 slot)
{
	bool		single = pmml_table_is_single(document, slot);
	StringInfoData table;
	PmmlSegment *segment;
	char	   *schema;

	pmml_begin_schema(document);
	initStringInfo(&table);
	pmml_table(document, &table, slot, NULL);
	schema = pmml_schema(document);
	segment = pmml_add_segment(document, "RegressionModel");
	segment->attributes = psprintf(" functionName=\"regression\"%s",
								   single ? " x-mathContext=\"float\"" : "");
	pmml_set_schema(document, segment, schema);
	segment->body = table;
	document->fields[slot] = psprintf("%sv%u", document->prefix, slot);
	document->late[slot] = true;
	pmml_add_answer(document, segment, document->fields[slot], false);
}

static void
elementwise(PmmlDocument *document, const ModelStep *step)
{
	const double *k = constants_of(document, step);

	for (uint32 i = 0; i < step->count; i++)
	{
		uint32		a;
		const ModelInput *input;

		if (!document->needed[step->out + i])
			continue;
		if (step->op == MODEL_FILL)
		{
			set(document, step, i, pmml_constant_of(k[i]), false);
			continue;
		}
		if (step->op >= MODEL_ADD && step->op <= MODEL_WHERE)
		{
			several_operands(document, step, i);
			continue;
		}
		a = step->op == MODEL_ZERO_TO_MISSING ?
			MODEL_AT(document->image, uint32, step->data)[i] :
			element(step, step->a, MODEL_BROADCAST_A, i);
		input = pmml_source(document, a).category;
		if (step->op == MODEL_LOOKUP && input != NULL)
			set(document, step, i, lookup_category(document, step, input), false);
		else
			set(document, step, i, one_operand(document, step, a, i),
				is_late(document, a));
	}
}

/* (x - k) * k, with the difference rounded where the step is in float32. */
static void
scale(PmmlDocument *document, const ModelStep *step)
{
	const double *k = constants_of(document, step);

	for (uint32 i = 0; i < step->count; i++)
	{
		bool		late = is_late(document, step->a + i);

		if (!document->needed[step->out + i])
			continue;
		set(document, step, i,
			pmml_apply(step->op == MODEL_SCALE ? "*" : "/",
					   pmml_apply("-", pmml_ref(document, step->a + i),
								  pmml_constant_of(k[i]), NULL),
					   pmml_constant_of(k[step->count + i]), NULL), late);
	}
}

static void
one_hot(PmmlDocument *document, const ModelStep *step)
{
	const double *k = constants_of(document, step);

	for (uint32 i = 0; i < step->count; i++)
		if (document->needed[step->out + i])
			set(document, step, i, is_equal(document, step->a, k[i]),
				is_late(document, step->a));
}

/* Is any result of the step a field, or part of one? */
static bool
is_needed(const PmmlDocument *document, const ModelStep *step)
{
	for (uint32 i = 0; i < step->count; i++)
		if (document->needed[step->out + i])
			return true;
	return false;
}

void
pmml_export_step(PmmlDocument *document, const ModelStep *step)
{
	if (!is_needed(document, step))
		return;
	switch ((ModelOp) step->op)
	{
		case MODEL_MOVE:
		case MODEL_MISSING_TO_LOW:
			return;
		case MODEL_ONE_HOT:
			one_hot(document, step);
			return;
		case MODEL_SCALE:
		case MODEL_SCALE_DIVIDE:
			scale(document, step);
			return;
		case MODEL_SOFTMAX:
			softmax(document, step);
			return;
		case MODEL_NORMALIZE_L1:
		case MODEL_NORMALIZE_L2:
			normalize(document, step);
			return;
		case MODEL_SUM:
		case MODEL_MEAN:
		case MODEL_SUM_PRESENT:
		case MODEL_COUNT_PRESENT:
			reduce(document, step);
			return;
		case MODEL_SMALLEST:
		case MODEL_LARGEST:
		case MODEL_ARGMAX:
			best(document, step);
			return;
		case MODEL_MATMUL:
		case MODEL_LINEAR:
			for (uint32 i = 0; i < step->count; i++)
				if (document->needed[step->out + i])
					linear(document, step, step->out + i);
			return;
		case MODEL_TREES:
			pmml_export_trees(document, step);
			return;
		default:
			elementwise(document, step);
	}
}

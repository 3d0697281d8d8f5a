/*-------------------------------------------------------------------------
 *
 * linear.c
 *		A linear model's score, straight from a call's arguments.
 *
 * A sum of thirty products takes less time than to copy thirty values into a
 * workspace.  So the terms of a model that is a sum of float8 inputs, and
 * perhaps its logistic function, are kept with the binding, densely, and
 * read the arguments where they are.
 *
 * The order and rounding of the sum are those of the kernel's, so that both
 * ways give the same bits.  What is not a plain number, NULL, NaN, infinity
 * or a sum that overflows, is left to the kernel.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "model/model.h"
#include "model/sigmoid.h"

/* Terms coefficient * (argument - center). */
typedef struct Linear
{
	ModelLinear head;
	bool		sigmoid;		/* of the sum */
	double		bias;
	const double *end;			/* of the coefficients */
	ModelLinear in_order;		/* for terms that are not of the arguments in
								 * order, or have centers: what scores those
								 * that are */
	const double *centers;
	const uint32 *slots;		/* whose argument it is */
	double		coefficients[FLEXIBLE_ARRAY_MEMBER];
} Linear;

/* Are the terms products of inputs, and no powers or tables? */
static bool
has_plain_terms(const ModelImage *image, const ModelStep *step)
{
	const ModelTerm *terms = MODEL_AT(image, ModelTerm, step->data);

	for (uint32 i = 0; i < step->data_count; i++)
		if (terms[i].table != 0 || terms[i].exponent != 1 ||
			terms[i].slot >= image->input_count)
			return false;
	return true;
}

/* Is the score a sum, or the logistic function of one, in float64? */
static bool
is_linear(const ModelImage *image)
{
	const ModelStep *steps = MODEL_AT(image, ModelStep, image->steps);
	const ModelStep *last;

	if (image->score_steps < 1 || image->score_steps > 2)
		return false;
	last = &steps[image->score_steps - 1];
	if (steps[0].op != MODEL_LINEAR || (steps[0].flags & MODEL_IN_FLOAT32) ||
		last->out != image->score || last->count != 1)
		return false;
	return has_plain_terms(image, &steps[0]) &&
		(image->score_steps == 1 ||
		 (last->op == MODEL_SIGMOID && last->a == steps[0].out &&
		  last->flags == MODEL_OF_SUM));
}

/* Written out, so that the strands are kept in registers. */
#define ADD(j) \
	strands[j] = fma(coefficient[j], DatumGetFloat8(argument[j].value), \
					 strands[j]); \
	any_null |= argument[j].isnull

/* The score of the terms' arguments, in order; NaN if any is NULL. */
static pg_attribute_always_inline double
score(const Linear *linear, const NullableDatum *argument)
{
	const double *coefficient = linear->coefficients;
	double		strands[MODEL_STRANDS] = {linear->bias};
	bool		any_null = false;
	double		sum;

	for (; linear->end - coefficient >= MODEL_STRANDS;
		 coefficient += MODEL_STRANDS, argument += MODEL_STRANDS)
	{
		ADD(0);
		ADD(1);
		ADD(2);
		ADD(3);
		ADD(4);
		ADD(5);
		ADD(6);
		ADD(7);
	}
	switch (linear->end - coefficient)
	{
		case 7:
			ADD(6);
			/* FALLTHROUGH */
		case 6:
			ADD(5);
			/* FALLTHROUGH */
		case 5:
			ADD(4);
			/* FALLTHROUGH */
		case 4:
			ADD(3);
			/* FALLTHROUGH */
		case 3:
			ADD(2);
			/* FALLTHROUGH */
		case 2:
			ADD(1);
			/* FALLTHROUGH */
		case 1:
			ADD(0);
	}
	sum = model_sum_strands(strands, 1);
	if (any_null || !isfinite(sum))
		return NAN;
	return linear->sigmoid ? sigmoid_of_sum(sum) : sum;
}

static double
score_plain(const ModelLinear *linear, const NullableDatum *arguments)
{
	return score((const Linear *) linear, arguments);
}

#ifdef MODEL_FUSED

MODEL_FUSED
static double
score_fused(const ModelLinear *linear, const NullableDatum *arguments)
{
	return score((const Linear *) linear, arguments);
}

#endif

/* The same of arguments in another order, or that are to be centered. */
static double
score_moved(const ModelLinear *head, const NullableDatum *arguments)
{
	const Linear *linear = (const Linear *) head;
	NullableDatum moved[FUNC_MAX_ARGS];
	int			count = linear->end - linear->coefficients;

	for (int i = 0; i < count; i++)
	{
		const NullableDatum *argument = &arguments[linear->slots[i]];

		moved[i].value = Float8GetDatum(DatumGetFloat8(argument->value) -
										linear->centers[i]);
		moved[i].isnull = argument->isnull;
	}
	return linear->in_order.score(head, moved);
}

/* Keeps the terms. */
static Linear *
keep_terms(const ModelStep *step, const ModelTerm *terms,
		   MemoryContext context)
{
	uint32		count = step->data_count;
	Linear	   *linear = MemoryContextAllocZero(context,
												offsetof(Linear, coefficients) +
												sizeof(double) * count);
	double	   *centers = MemoryContextAlloc(context, sizeof(double) *
											 Max(count, 1));
	uint32	   *slots = MemoryContextAlloc(context, sizeof(uint32) *
										   Max(count, 1));
	bool		in_order = true;

	for (uint32 i = 0; i < count; i++)
	{
		linear->coefficients[i] = terms[i].coefficient;
		centers[i] = terms[i].center;
		slots[i] = terms[i].slot;
		in_order = in_order && slots[i] == i && centers[i] == 0;
	}
	linear->bias = step->bias;
	linear->end = &linear->coefficients[count];
	linear->centers = centers;
	linear->slots = slots;
	linear->in_order.score = score_plain;
#ifdef MODEL_FUSED
	if (model_instructions() >= MODEL_AVX2)
		linear->in_order.score = score_fused;
#endif
	linear->head.score = in_order ? linear->in_order.score : score_moved;
	return linear;
}

/*
 * The terms of a model whose inputs are bound to float8 arguments in order;
 * NULL for a model or arguments of another kind.
 */
ModelLinear *
model_linear(const ModelImage *image, const ModelSource *sources,
			 MemoryContext context)
{
	const ModelStep *step = MODEL_AT(image, ModelStep, image->steps);
	Linear	   *linear;

	for (uint32 i = 0; i < image->input_count; i++)
		if (!sources[i].direct)
			return NULL;
	/* what is passed by reference is not there to be read where it is NULL */
	if (!FLOAT8PASSBYVAL || !is_linear(image) ||
		step->data_count > FUNC_MAX_ARGS)
		return NULL;
	linear = keep_terms(step, MODEL_AT(image, ModelTerm, step->data), context);
	linear->sigmoid = image->score_steps == 2;
	return &linear->head;
}

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

/* Two strands, in any place: the compiler's own vectors. */
typedef double Pair __attribute__((vector_size(16), aligned(8)));

/*
 * Terms coefficient * (argument - center), one a strand.  Those that fill up
 * the last group have the coefficient 0: they add 0, which changes no sum.
 */
typedef struct LinearTerms
{
	Pair		coefficient[MODEL_STRANDS / 2];
	Pair		center[MODEL_STRANDS / 2];
	uint32		offset[MODEL_STRANDS];	/* of the argument: bytes */
} LinearTerms;

struct ModelLinear
{
	double		bias;
	bool		sigmoid;		/* of the sum */
	LinearTerms *in_order;		/* behind the groups whose terms are of the
								 * arguments in order: the first of all */
	LinearTerms *end;
	LinearTerms groups[FLEXIBLE_ARRAY_MEMBER];
};

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
		  !(last->flags & MODEL_IN_FLOAT32)));
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
	const ModelTerm *terms = MODEL_AT(image, ModelTerm, step->data);
	ModelLinear *linear;
	uint32		count;
	uint32		in_order = 0;

	for (uint32 i = 0; i < image->input_count; i++)
		if (!sources[i].direct)
			return NULL;
	if (!is_linear(image))
		return NULL;
	count = (step->data_count + MODEL_STRANDS - 1) / MODEL_STRANDS;
	linear = MemoryContextAllocZero(context, offsetof(ModelLinear, groups) +
									sizeof(LinearTerms) * count);
	linear->bias = step->bias;
	linear->sigmoid = image->score_steps == 2;
	linear->end = linear->groups + count;
	while (in_order < step->data_count && terms[in_order].slot == in_order)
		in_order++;
	linear->in_order = linear->groups + in_order / MODEL_STRANDS;
	for (uint32 i = 0; i < step->data_count; i++)
	{
		LinearTerms *group = &linear->groups[i / MODEL_STRANDS];

		group->coefficient[i % MODEL_STRANDS / 2][i % 2] = terms[i].coefficient;
		group->center[i % MODEL_STRANDS / 2][i % 2] = terms[i].center;
		group->offset[i % MODEL_STRANDS] = terms[i].slot * sizeof(NullableDatum);
	}
	return linear;
}

static inline const NullableDatum *
argument_at(const NullableDatum *arguments, uint32 offset)
{
	return (const NullableDatum *) ((const char *) arguments + offset);
}

/* Adds a pair's terms of these arguments; true where one is NULL. */
static pg_attribute_always_inline bool
add_pair(const LinearTerms *group, int pair, const NullableDatum *one,
		 const NullableDatum *other, Pair *sums)
{
	Pair		x = {DatumGetFloat8(one->value), DatumGetFloat8(other->value)};

	sums[pair] += group->coefficient[pair] * (x - group->center[pair]);
	return one->isnull | other->isnull;
}

/* The score; NaN where the kernel must say. */
double
model_linear_score(const ModelLinear *linear, const NullableDatum *arguments)
{
	const LinearTerms *group = linear->groups;
	const NullableDatum *next = arguments;
	Pair		sums[MODEL_STRANDS / 2] = {{linear->bias, 0}, {0, 0}};
	bool		any_null = false;
	double		sum;

	for (; group < linear->in_order; group++, next += MODEL_STRANDS)
		for (int j = 0; j < MODEL_STRANDS / 2; j++)
			any_null |= add_pair(group, j, &next[2 * j], &next[2 * j + 1],
								 sums);
	for (; group < linear->end; group++)
		for (int j = 0; j < MODEL_STRANDS / 2; j++)
			any_null |= add_pair(group, j,
								 argument_at(arguments, group->offset[2 * j]),
								 argument_at(arguments, group->offset[2 * j + 1]),
								 sums);
	sum = (sums[0][0] + sums[0][1]) + (sums[1][0] + sums[1][1]);
	if (any_null || !isfinite(sum))
		return NAN;
	return linear->sigmoid ? 1 / (1 + exp(-sum)) : sum;
}

/*-------------------------------------------------------------------------
 *
 * sum.c
 *		Sums of terms in float64, and the logistic function of one.
 *
 * Terms are added to the strands of a row's sum one after the other, and
 * each of all rows of a block before the next, so that the compiler does
 * several rows at a time.  A NaN has what the term says in the place of its
 * product.  linear.c makes the same sum from the arguments of a call.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "model/kernel.h"
#include "model/sigmoid.h"

/* Adds a term of each row to one of the rows' strands. */
static pg_attribute_always_inline void
add_term(const ModelImage *image, const ModelTerm *term, const double *x,
		 double *strand, int rows)
{
	if (term->table == 0 && term->exponent == 1)
		for (int r = 0; r < rows; r++)
		{
			double		sum = fma(term->coefficient, x[r] - term->center,
								  strand[r]);

			strand[r] = isnan(x[r]) ? strand[r] + term->missing : sum;
		}
	else
		for (int r = 0; r < rows; r++)
			strand[r] += model_term(image, term, x[r]);
}

static pg_attribute_always_inline void
sum_rows(const ModelImage *image, const ModelStep *step, const double *slots,
		 double *out, int rows)
{
	const ModelTerm *terms = MODEL_AT(image, ModelTerm, step->data);
	double		strands[MODEL_STRANDS * MODEL_BLOCK];

	for (int r = 0; r < MODEL_STRANDS * rows; r++)
		strands[r] = r < rows ? step->bias : 0;
	for (uint32 i = 0; i < step->data_count; i++)
		add_term(image, &terms[i], slots + (size_t) terms[i].slot * rows,
				 strands + i % MODEL_STRANDS * rows, rows);
	for (int r = 0; r < rows; r++)
		out[r] = model_sum_strands(&strands[r], rows);
}

static pg_attribute_always_inline void
sum_row_or_block(const ModelImage *image, const ModelStep *step,
				 const double *slots, double *out, int rows)
{
	if (rows == 1)
		sum_rows(image, step, slots, out, 1);
	else
		sum_rows(image, step, slots, out, MODEL_BLOCK);
}

/* All rows but those that are out of range, then these. */
static pg_attribute_always_inline void
sigmoid(const double *x, double *out, int rows)
{
	for (int r = 0; r < rows; r++)
		out[r] = sigmoid_within_limit(x[r]);
	for (int r = 0; r < rows; r++)
		if (!(fabs(x[r]) < SIGMOID_LIMIT))
			out[r] = sigmoid_of_sum(x[r]);
}

#ifdef MODEL_FUSED

MODEL_FUSED
static void
sum_fused(const ModelImage *image, const ModelStep *step, const double *slots,
		  double *out, int rows)
{
	sum_row_or_block(image, step, slots, out, rows);
}

MODEL_FUSED
static void
sigmoid_fused(const double *x, double *out, int rows)
{
	sigmoid(x, out, rows);
}

#endif

/* The step's sum for one row, or a block. */
void
model_sum(const ModelImage *image, const ModelStep *step, const double *slots,
		  double *out, int rows)
{
#ifdef MODEL_FUSED
	if (model_instructions() >= MODEL_AVX2)
	{
		sum_fused(image, step, slots, out, rows);
		return;
	}
#endif
	sum_row_or_block(image, step, slots, out, rows);
}

/* 1 / (1 + exp(-x)) */
void
model_sigmoid(const double *x, double *out, int rows)
{
#ifdef MODEL_FUSED
	if (model_instructions() >= MODEL_AVX2)
	{
		sigmoid_fused(x, out, rows);
		return;
	}
#endif
	sigmoid(x, out, rows);
}

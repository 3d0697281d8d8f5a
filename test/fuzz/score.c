/*-------------------------------------------------------------------------
 *
 * score.c
 *		Scores 64 rows by an image, a block and one by one, and what is a
 *		score by itself.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "model/kernel.h"
#include "score.h"

/* A value for a slot: the usual ones, and those that break things. */
static double
value_for(uint32 slot, int row)
{
	static const double values[] = {0, NAN, 1, -1, INFINITY, -INFINITY, 2.5,
	1e-40, -0.5, 1e300, 31, 32, 4294967296.0, -1e300};

	return values[(slot * 7 + row) % lengthof(values)];
}

static void
must_equal(double a, double b)
{
	if (memcmp(&a, &b, sizeof(a)) != 0 && !(isnan(a) && isnan(b)))
		abort();
}

/* A row's score by itself, in a workspace that has only its inputs. */
static double
score_only(const ModelImage *image, double *workspace, int row)
{
	memset(workspace, 0xFF, sizeof(double) * model_workspace(image, 1));
	for (uint32 i = 0; i < image->input_count; i++)
		workspace[i] = value_for(i, row);
	return model_run_score(image, workspace, model_first_step(image));
}

void
score_both_ways(const ModelImage *image)
{
	double	   *one = palloc(sizeof(double) * model_workspace(image, 1));
	double	   *other = palloc(sizeof(double) * model_workspace(image, 1));
	double	   *block = palloc(sizeof(double) *
							   model_workspace(image, MODEL_BLOCK));

	for (uint32 i = 0; i < image->input_count; i++)
		for (int row = 0; row < MODEL_BLOCK; row++)
			block[(size_t) i * MODEL_BLOCK + row] = value_for(i, row);
	model_run_block(image, block);
	for (int row = 0; row < MODEL_BLOCK; row += 9)
	{
		for (uint32 i = 0; i < image->input_count; i++)
			one[i] = value_for(i, row);
		model_run(image, one);
		for (uint32 i = 0; i < image->output_count; i++)
			must_equal(one[image->scores + i],
					   block[(size_t) (image->scores + i) * MODEL_BLOCK + row]);
		must_equal(score_only(image, other, row), one[image->score]);
	}
}

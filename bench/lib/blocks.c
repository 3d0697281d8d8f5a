/*-------------------------------------------------------------------------
 *
 * blocks.c
 *		Visage's kernels without a server: called by bench/score.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "model/kernel.h"

extern size_t bench_workspace(const ModelImage *image);
extern void bench_blocks(const ModelImage *image, double *workspace,
						 const double *rows, long count, double *raw);

size_t
bench_workspace(const ModelImage *image)
{
	return model_workspace(image, MODEL_BLOCK);
}

/* Raw scores of rows that are laid out as LightGBM takes them. */
void
bench_blocks(const ModelImage *image, double *workspace, const double *rows,
			 long count, double *raw)
{
	uint32		inputs = image->input_count;
	uint32		first_step = model_first_step(image);

	for (long first = 0; first < count; first += MODEL_BLOCK)
	{
		for (int row = 0; row < MODEL_BLOCK; row++)
			for (uint32 i = 0; i < inputs; i++)
				workspace[(size_t) i * MODEL_BLOCK + row] =
					rows[(first + row) * inputs + i];
		model_run_block_scores(image, workspace, first_step);
		memcpy(raw + first, workspace + (size_t) image->raw * MODEL_BLOCK,
			   MODEL_BLOCK * sizeof(double));
	}
}

/*-------------------------------------------------------------------------
 *
 * kernel.h
 *		Running an image: one row, or a block of rows at a time.
 *
 * The caller provides the workspace, an array of model_workspace(image,
 * rows) doubles with rows 1 or MODEL_BLOCK.  Slot s of row r is
 * workspace[s * rows + r]: the caller fills in the inputs' slots and reads
 * the results from others.  Both ways give the same bits.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_KERNEL_H
#define VISAGE_KERNEL_H

#include "model/image.h"

/* Rows of a block; one bit each in a 64-bit mask. */
#define MODEL_BLOCK 64

/*
 * A sum in float64 is made in strands, which do not wait for one another:
 * term i is added to strand i % MODEL_STRANDS, product and sum rounded once.
 */
#define MODEL_STRANDS 8

extern size_t model_workspace(const ModelImage *image, int rows);
extern void model_run(const ModelImage *image, double *workspace);
extern uint32 model_first_step(const ModelImage *image);
extern double model_run_score(const ModelImage *image, double *workspace,
							  uint32 first);
extern void model_run_block(const ModelImage *image, double *workspace);
extern void model_run_block_scores(const ModelImage *image,
								   double *workspace, uint32 first);

extern double model_term(const ModelImage *image, const ModelTerm *term,
						 double x);

/* ---- sum.c ---- */

extern void model_sum(const ModelImage *image, const ModelStep *step,
					  const double *slots, double *out, int rows);
extern void model_sigmoid(const double *x, double *out, int rows);

/* The sum of the strands, the same wherever it is made. */
static pg_attribute_always_inline double
model_sum_strands(const double *strands, size_t stride)
{
	return ((strands[0] + strands[stride]) +
			(strands[2 * stride] + strands[3 * stride])) +
		((strands[4 * stride] + strands[5 * stride]) +
		 (strands[6 * stride] + strands[7 * stride]));
}

/*
 * fma() is an instruction in a function compiled so; elsewhere a call of the
 * library's, which gives the same bits.
 */
#if defined(__x86_64__) && defined(__GNUC__)
#define MODEL_FUSED __attribute__((target("avx2,fma")))
#endif

/* ---- processor.c ---- */

typedef enum ModelInstructions
{
	MODEL_PLAIN,
	MODEL_NEON,
	MODEL_AVX2,
	MODEL_AVX512,
	MODEL_AVX512_VBMI			/* and BW, DQ, VL */
} ModelInstructions;

extern ModelInstructions model_instructions(void);
extern void model_limit_instructions(const char *name);
extern const char *model_instructions_name(void);

/* ---- walk.c, dense.c, rank.c, rank_wide.c: the trees of a step ---- */

/* The ranks of a single row fit into a register, or four of 16 bytes. */
#define MODEL_RANK_COLUMNS 64

extern void model_walk_row(const ModelImage *image, const ModelTrees *trees,
						   const double *slots, double *out,
						   uint32 *leaves);
extern void model_walk_block(const ModelImage *image, const ModelTrees *trees,
							 const double *slots, double *out,
							 uint32 *leaves);
extern void model_dense_block(const ModelImage *image,
							  const ModelTrees *trees, const double *slots,
							  double *out);
extern bool model_rank_block(const ModelImage *image,
							 const ModelTrees *trees, const double *slots,
							 double *out);
extern bool model_ranks_rows(const ModelTrees *trees);
extern bool model_rank_row(const ModelImage *image, const ModelTrees *trees,
						   const double *slots, double *sum);
extern void model_rank_block_wide(const ModelImage *image,
								  const ModelTrees *trees,
								  const double *slots, double *out);
extern void model_rank_row_wide(const ModelImage *image,
								const ModelTrees *trees,
								const double *slots, double *sum);
extern bool model_test_holds(const uint32 *words, const ModelNode *node,
							 double x);

/*
 * Turns masks of leaves into bit planes of the leaves' numbers, in place:
 * plane p is at 1 << p.  Returns how many planes there are.
 */
static pg_attribute_always_inline int
model_fold_leaves(uint64 *reach, int leaves)
{
	int			half = 1;
	int			planes = 0;

	while (half < leaves)
	{
		half *= 2;
		planes++;
	}
	for (int i = leaves; i < half; i++)
		reach[i] = 0;
	for (half /= 2; half >= 1; half /= 2)
	{
		uint64		plane = 0;

		for (int i = 0; i < half; i++)
		{
			plane |= reach[half + i];
			reach[i] |= reach[half + i];
		}
		reach[half] = plane;
	}
	return planes;
}

#endif							/* VISAGE_KERNEL_H */

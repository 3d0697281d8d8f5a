/*-------------------------------------------------------------------------
 *
 * dense_kernel.h
 *		The block kernel, for one instruction set: a template.
 *
 * Before including it define
 *		DENSE_NAME		the function's name
 *		DENSE_TARGET	its attribute
 *		DENSE_COMPARE(x, threshold)	a mask of 64 bits: which of 64 doubles
 *						are at most the threshold; bit b is of row
 *						DENSE_ROW(b)
 *		DENSE_ROW(bit)	a permutation of 0 to 63
 * All are undefined again at the end.
 *
 *-------------------------------------------------------------------------
 */

/* Adds the trees to the outputs of a block; see dense.c. */
static DENSE_TARGET void
DENSE_NAME(const ModelImage *image, const ModelTrees *trees,
		   const double *slots, double *out)
{
	const ModelTree *tree = MODEL_AT(image, ModelTree, trees->trees);
	const ModelDense *all = MODEL_AT(image, ModelDense, trees->dense);
	const double *values = MODEL_AT(image, double, trees->leaves);
	bool		float32 = (trees->flags & MODEL_TREES_FLOAT32) != 0;
	uint64		reach[2 * MODEL_DENSE_LEAVES];
	double		sums[MODEL_BLOCK];

	for (uint32 i = 0; i < trees->tree_count; i++)
	{
		const ModelDense *dense = all + tree[i].dense;
		double	   *sum = out + (size_t) tree[i].output * MODEL_BLOCK;
		int			inner = (int) tree[i].leaf_count - 1;
		int			planes;

		/* a tree that is one leaf has no inner node to reach it from */
		reach[0] = ~UINT64CONST(0);
		reach[MODEL_DENSE_LEAVES] = ~UINT64CONST(0);
		for (int j = 0; j < inner; j++)
		{
			uint64		here = reach[j];
			uint64		yes = DENSE_COMPARE(slots + (size_t) dense[j].slot *
											MODEL_BLOCK, dense[j].threshold);

			reach[dense[j].yes] = here & yes;
			reach[dense[j].no] = here & ~yes;
		}
		planes = model_fold_leaves(reach + MODEL_DENSE_LEAVES, inner + 1);
		if (float32)
			add_float32(reach + MODEL_DENSE_LEAVES, planes,
						values + tree[i].first_leaf, sum);
		else
			add_float64(reach + MODEL_DENSE_LEAVES, planes,
						values + tree[i].first_leaf, sum);
	}
	for (uint32 i = 0; i < trees->output_count; i++)
	{
		double	   *output = out + (size_t) i * MODEL_BLOCK;

		memcpy(sums, output, sizeof(sums));
		for (int bit = 0; bit < MODEL_BLOCK; bit++)
			output[DENSE_ROW(bit)] = sums[bit];
	}
}

#undef DENSE_NAME
#undef DENSE_TARGET
#undef DENSE_COMPARE
#undef DENSE_ROW

/*-------------------------------------------------------------------------
 *
 * rank_kernel.h
 *		Trees by ranks, for one instruction set: a template.
 *
 * Before including it define RANKS and RANKS_INLINE, the attributes of
 * functions, and
 *		find_stride(pivots, strides, x)	the stride of thresholds that a value
 *						falls in, from 0; 0 for NaN
 *		rank_in_stride(thresholds, x)	how many of a stride it is above
 *		rank_block(image, trees, slots, ranks)	the ranks of a block's slots, each
 *						with its copy
 *		at_most(ranks, rank)	a mask: which of 64 ranks are at most this one
 *		add_leaves(reach, leaves, values, float32, sum)	adds each row's leaf,
 *						by the masks of rows that reach them
 *
 *-------------------------------------------------------------------------
 */

/* Adds the trees to the outputs of a block. */
RANKS_INLINE void
add_trees(const ModelImage *image, const ModelTrees *trees,
		  const double *slots, double *out)
{
	const ModelTree *tree = MODEL_AT(image, ModelTree, trees->trees);
	const double *values = MODEL_AT(image, double, trees->leaves);
	uint32		width = trees->rank_width;
	const uint8 *tests = MODEL_AT(image, uint8, trees->rank_tests);
	bool		float32 = (trees->flags & MODEL_TREES_FLOAT32) != 0;
	uint64		reach[2 * MODEL_DENSE_LEAVES];
	pg_attribute_aligned(64) uint8 ranks[2 * MODEL_RANKED_SLOTS * MODEL_BLOCK];

	rank_block(image, trees, slots, ranks);
	for (uint32 i = 0; i < trees->tree_count; i++)
	{
		const uint8 *column = tests + model_rank_tests(width, i);
		const uint8 *rank = column + MODEL_RANK_RANK * MODEL_RANK_APART;
		const uint8 *yes = column + MODEL_RANK_YES * MODEL_RANK_APART;
		const uint8 *no = column + MODEL_RANK_NO * MODEL_RANK_APART;
		size_t		inner = tree[i].leaf_count - 1;

		/* a tree that is one leaf has no inner node to reach it from */
		reach[0] = ~UINT64CONST(0);
		reach[MODEL_DENSE_LEAVES] = ~UINT64CONST(0);
#pragma GCC unroll 2
		for (size_t j = 0; j < inner; j++)
		{
			uint64		here = reach[j];
			uint64		holds = at_most(ranks + (size_t) column[j] *
										MODEL_BLOCK, rank[j]);

			reach[yes[j]] = here & holds;
			reach[no[j]] = here & ~holds;
		}
		add_leaves(reach + MODEL_DENSE_LEAVES, inner + 1,
				   values + tree[i].first_leaf, float32,
				   out + (size_t) tree[i].output * MODEL_BLOCK);
	}
}

/*
 * The ranks of a row's slots, in the order of columns; the rest are 0.  First
 * the strides of all, then the ranks in them, so that of what waits for a
 * comparison there is no more than the processor can put by.
 */
RANKS_INLINE void
rank_row(const ModelImage *image, const ModelTrees *trees,
		 const double *slots, uint8 *ranks)
{
	const ModelRanked *ranked = MODEL_AT(image, ModelRanked, trees->ranked);
	const double *thresholds = MODEL_AT(image, double, trees->thresholds);
	uint32		count = trees->ranked_count;
	uint32		first[MODEL_RANK_COLUMNS / 2];

	for (uint32 i = 0; i < count; i++)
		first[i] = find_stride(thresholds + ranked[i].pivots,
							   ranked[i].strides, slots[ranked[i].slot]) *
			MODEL_RANK_STRIDE;
	memset(ranks, 0, MODEL_RANK_COLUMNS);
	for (uint32 i = 0; i < count; i++)
	{
		double		x = slots[ranked[i].slot];
		const double *stride = thresholds + ranked[i].pivots +
		MODEL_RANK_STRIDE + first[i];
		uint8		rank = first[i] + rank_in_stride(stride, x);

		ranks[2 * i] = isnan(x) ? MODEL_RANK_OF_NAN(ranked[i].strides) : rank;
		ranks[2 * i + 1] = rank;
	}
}

/* Adds a leaf to a row's sum, in the precision of the trees. */
RANKS_INLINE double
add_leaf(double sum, double value, bool float32)
{
	return float32 ? (float) sum + (float) value : sum + value;
}

/*-------------------------------------------------------------------------
 *
 * walk.c
 *		Walking down the trees of an ensemble.
 *
 * Twelve trees are walked side by side, since a single walk is a chain of
 * loads that wait for one another.  A leaf leads to itself, so trees of
 * about the same depth need no test for their end; what they add is summed
 * afterwards, in the order in which the library that made the model does.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "model/kernel.h"

#define WIDTH 12

/* Is the value, as an integer, a member of the node's set? */
static inline bool
is_member(const uint32 *words, const ModelNode *node, double x)
{
	uint32		test = MODEL_NODE_TEST(node);
	double		limit = 32.0 * node->u.set.words;
	uint32		bit;

	if (x < 0 && !((test & MODEL_TEST_NEGATIVE) && x > -1))
		return false;
	if (!(x < limit))
		return false;
	bit = x < 0 ? 0 : (uint32) x;
	if (bit != x && (test & MODEL_TEST_EXACT))
		return false;
	return bit < limit &&
		(words[node->u.set.first + bit / 32] >> (bit % 32) & 1);
}

/* Does a test of any kind hold? */
bool
model_test_holds(const uint32 *words, const ModelNode *node, double x)
{
	uint32		test = MODEL_NODE_TEST(node);

	if ((test & MODEL_TEST_MASK) == MODEL_TEST_AT_MOST)
		return x <= node->u.threshold;
	if (isnan(x))
		return (test & MODEL_TEST_MISSING) != 0;
	if ((test & MODEL_TEST_MASK) == MODEL_TEST_EQUAL)
		return x == node->u.threshold;
	return is_member(words, node, x);
}

/* Walks so many trees down to their leaves' nodes. */
static inline void
walk_plain(const ModelNode *nodes, const double *slots, size_t stride,
		   uint32 depth, uint32 *at)
{
	for (uint32 i = 0; i < depth; i++)
		for (int j = 0; j < WIDTH; j++)
		{
			const ModelNode *node = &nodes[at[j]];
			double		x = slots[MODEL_NODE_SLOT(node) * stride];

			at[j] = node->next + !(x <= node->u.threshold);
		}
}

/* The same for ensembles with other tests; one after the other. */
static inline void
walk_tests(const ModelNode *nodes, const uint32 *words, const double *slots,
		   size_t stride, uint32 *at)
{
	for (int j = 0; j < WIDTH; j++)
		while (!(MODEL_NODE_TEST(&nodes[at[j]]) & MODEL_TEST_LEAF))
		{
			const ModelNode *node = &nodes[at[j]];
			double		x = slots[MODEL_NODE_SLOT(node) * stride];

			at[j] = node->next + !model_test_holds(words, node, x);
		}
}

/* The leaf that the row reaches in each tree. */
static inline void
find_leaves(const ModelImage *image, const ModelTrees *trees,
			const double *slots, size_t stride, uint32 *leaves)
{
	const ModelTree *tree = MODEL_AT(image, ModelTree, trees->trees);
	const ModelNode *nodes = MODEL_AT(image, ModelNode, trees->nodes);
	const uint32 *words = MODEL_AT(image, uint32, trees->words);
	const uint32 *order = MODEL_AT(image, uint32, trees->order);

	for (uint32 first = 0; first < trees->tree_count; first += WIDTH)
	{
		uint32		last = trees->tree_count - 1;
		uint32		at[WIDTH];

		for (uint32 j = 0; j < WIDTH; j++)
			at[j] = tree[order[Min(first + j, last)]].root;
		if (trees->flags & MODEL_TREES_TESTS)
			walk_tests(nodes, words, slots, stride, at);
		else
			walk_plain(nodes, slots, stride, tree[order[first]].depth, at);
		for (uint32 j = 0; j < WIDTH && first + j <= last; j++)
			leaves[order[first + j]] = (uint32) nodes[at[j]].u.threshold;
	}
}

/* What a leaf adds where some are linear. */
static double
linear_leaf(const ModelImage *image, const ModelTrees *trees,
			const double *slots, size_t stride, uint32 number, double value)
{
	const ModelLinearLeaf *leaf =
	MODEL_AT(image, ModelLinearLeaf, trees->linear) + number;
	const ModelCoefficient *coefficients =
	MODEL_AT(image, ModelCoefficient, trees->coefficients) + leaf->first;
	double		sum = leaf->constant;

	for (uint32 i = 0; i < leaf->count; i++)
	{
		double		x = slots[coefficients[i].slot * stride];

		if (isnan(x))
			return value;
		sum += coefficients[i].value * x;
	}
	return sum;
}

/* Adds a leaf's value to an output, as the ensemble says. */
static inline double
join(const ModelTrees *trees, double sum, double value)
{
	switch (trees->aggregate)
	{
		case MODEL_TREES_MINIMUM:
			return value < sum ? value : sum;
		case MODEL_TREES_MAXIMUM:
			return value > sum ? value : sum;
		default:
			return (trees->flags & MODEL_TREES_FLOAT32) ?
				(float) sum + (float) value : sum + value;
	}
}

/* The outputs before any tree, and after all. */
static inline void
begin_outputs(const ModelImage *image, const ModelTrees *trees, double *out,
			  size_t stride)
{
	const double *base = MODEL_AT(image, double, trees->base);

	for (uint32 i = 0; i < trees->output_count; i++)
		if (trees->aggregate != MODEL_TREES_SUM)
			out[i * stride] = trees->aggregate == MODEL_TREES_MINIMUM ?
				INFINITY : -INFINITY;
		else
			out[i * stride] = (trees->flags & MODEL_TREES_BASE_LAST) ? 0 :
				base[i];
}

static inline double
finish_output(const ModelTrees *trees, double sum, double base)
{
	bool		float32 = (trees->flags & MODEL_TREES_FLOAT32) != 0;

	if (trees->divisor != 1)
		sum = float32 ? (float) sum / (float) trees->divisor :
			sum / trees->divisor;
	if (trees->aggregate != MODEL_TREES_SUM ||
		(trees->flags & MODEL_TREES_BASE_LAST))
		sum = float32 ? (float) sum + (float) base : sum + base;
	return sum;
}

/* Sums of one output in one precision: what most ensembles need. */
static inline void
sum_plain(const ModelImage *image, const ModelTrees *trees,
		  const uint32 *leaves, double *out)
{
	const double *values = MODEL_AT(image, double, trees->leaves);

	if (trees->flags & MODEL_TREES_FLOAT32)
	{
		float		sum = (float) *out;

		for (uint32 i = 0; i < trees->tree_count; i++)
			sum += (float) values[leaves[i]];
		*out = sum;
	}
	else
	{
		double		sum = *out;

		for (uint32 i = 0; i < trees->tree_count; i++)
			sum += values[leaves[i]];
		*out = sum;
	}
}

/* Sums in general: several outputs, linear leaves, other aggregates. */
static void
sum_general(const ModelImage *image, const ModelTrees *trees,
			const double *slots, size_t stride, const uint32 *leaves,
			double *out)
{
	const ModelTree *tree = MODEL_AT(image, ModelTree, trees->trees);
	const double *values = MODEL_AT(image, double, trees->leaves);
	uint32		width = trees->leaf_width;

	for (uint32 i = 0; i < trees->tree_count; i++)
		for (uint32 j = 0; j < width; j++)
		{
			double		value = values[(size_t) leaves[i] * width + j];
			double	   *output = out +
			(width == 1 ? tree[i].output : j) * stride;

			if (trees->linear != 0)
				value = linear_leaf(image, trees, slots, stride, leaves[i],
									value);
			*output = join(trees, *output, value);
		}
}

/* The outputs of a row whose slots are so far apart. */
static inline void
walk(const ModelImage *image, const ModelTrees *trees, const double *slots,
	 size_t stride, double *out, uint32 *leaves)
{
	const double *base = MODEL_AT(image, double, trees->base);
	bool		plain = trees->output_count == 1 && trees->linear == 0 &&
	trees->aggregate == MODEL_TREES_SUM;

	begin_outputs(image, trees, out, stride);
	if (stride != 1 || !model_rank_row(image, trees, slots, out))
	{
		find_leaves(image, trees, slots, stride, leaves);
		if (plain)
			sum_plain(image, trees, leaves, out);
		else
			sum_general(image, trees, slots, stride, leaves, out);
	}
	for (uint32 i = 0; i < trees->output_count; i++)
		out[i * stride] = finish_output(trees, out[i * stride], base[i]);
}

void
model_walk_row(const ModelImage *image, const ModelTrees *trees,
			   const double *slots, double *out, uint32 *leaves)
{
	walk(image, trees, slots, 1, out, leaves);
}

/* Small trees are not walked but compared, all rows at a time. */
static void
compare_block(const ModelImage *image, const ModelTrees *trees,
			  const double *slots, double *out)
{
	const double *base = MODEL_AT(image, double, trees->base);

	for (int row = 0; row < MODEL_BLOCK; row++)
		begin_outputs(image, trees, out + row, MODEL_BLOCK);
	if (!model_rank_block(image, trees, slots, out))
		model_dense_block(image, trees, slots, out);
	for (uint32 i = 0; i < trees->output_count; i++)
		for (int row = 0; row < MODEL_BLOCK; row++)
		{
			double	   *output = out + (size_t) i * MODEL_BLOCK + row;

			*output = finish_output(trees, *output, base[i]);
		}
}

void
model_walk_block(const ModelImage *image, const ModelTrees *trees,
				 const double *slots, double *out, uint32 *leaves)
{
	if (trees->dense_count > 0)
	{
		compare_block(image, trees, slots, out);
		return;
	}
	for (int row = 0; row < MODEL_BLOCK; row++)
		walk(image, trees, slots + row, MODEL_BLOCK, out + row, leaves);
}

/*-------------------------------------------------------------------------
 *
 * image.c
 *		Checking an image once, so that scoring may trust it.
 *
 * What holds afterwards: every offset, slot, node and leaf is inside; a step
 * reads only slots that inputs or steps before it have written; every walk
 * down a tree ends; every loop is bounded by the size of the image.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "model/image.h"
#include "port/pg_crc32c.h"

/* The checksum of all that follows the checksum's field. */
uint32
model_image_checksum(const ModelImage *image)
{
	size_t		start = offsetof(ModelImage, task);
	pg_crc32c	crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, (const char *) image + start, image->size - start);
	FIN_CRC32C(crc);
	return crc;
}

/* Are count elements of this width at this offset inside the block? */
static bool
inside(const ModelImage *image, uint32 offset, uint64 count, size_t width)
{
	return offset % 8 == 0 && offset <= image->size &&
		count <= (image->size - offset) / width;
}

/* Is there a NUL-terminated string at this offset? */
static bool
string_inside(const ModelImage *image, uint32 offset)
{
	return offset < image->size &&
		memchr(model_string(image, offset), '\0', image->size - offset) != NULL;
}

/* Are these slots there before a step that writes from limit on? */
static bool
slots_inside(uint32 first, uint64 count, uint32 limit)
{
	return first <= limit && count <= limit - first;
}

/* Is this input sound, with its categories in order? */
static bool
check_input(const ModelImage *image, const ModelInput *input)
{
	const ModelCategory *categories;

	if (!string_inside(image, input->name) || input->cast > MODEL_INTEGER ||
		(input->kind != MODEL_NUMERIC && input->kind != MODEL_CATEGORY) ||
		!inside(image, input->categories, input->category_count,
				sizeof(ModelCategory)))
		return false;
	categories = MODEL_AT(image, ModelCategory, input->categories);
	for (uint32 i = 0; i < input->category_count; i++)
		if (!string_inside(image, categories[i].text) ||
			categories[i].code >= input->category_count ||
			(i > 0 && strcmp(model_string(image, categories[i - 1].text),
							 model_string(image, categories[i].text)) >= 0))
			return false;
	return true;
}

/* ---- steps ---- */

/* The operands of a step of the kinds that have constants. */
static bool
check_constants(const ModelStep *step)
{
	uint64		count = step->count;
	uint64		given = step->data_count;

	switch (step->op)
	{
		case MODEL_FILL:
		case MODEL_ONE_HOT:
			return given == count;
		case MODEL_CLIP:
			return given == 2;
		case MODEL_IMPUTE:
			return given == 2 || given == count + 1;
		case MODEL_SCALE:
		case MODEL_SCALE_DIVIDE:
			return given == 2 * count;
		case MODEL_LOOKUP:
			return given >= 2 && given % 2 == 0;
		case MODEL_INTERPOLATE:
			return given >= 4 && given % 2 == 0;
		case MODEL_MATMUL:
			return given == count * ((uint64) step->width + 1);
		default:
			return given == 0;
	}
}

/* Are an operand's elements there? */
static bool
check_operand(const ModelStep *step, uint32 first, uint64 count,
			  uint32 broadcast)
{
	return slots_inside(first, (step->flags & broadcast) ? 1 : count,
						step->out);
}

/* A step with constants, reading spans of slots. */
static bool
check_plain_step(const ModelImage *image, const ModelStep *step)
{
	uint64		count = step->count;

	if (!inside(image, step->data, step->data_count, sizeof(double)))
		return false;
	if ((step->flags & MODEL_OF_SUM) &&
		(step->op != MODEL_SIGMOID || count != 1))
		return false;
	if (step->op == MODEL_FILL)
		return check_constants(step);
	if (step->op == MODEL_ONE_HOT)
		return check_constants(step) && slots_inside(step->a, 1, step->out);
	if (step->op >= MODEL_SUM && step->op <= MODEL_COUNT_PRESENT)
		return count == 1 && step->width >= 1 && check_constants(step) &&
			slots_inside(step->a, step->width, step->out);
	if (step->op == MODEL_MATMUL)
		return step->width >= 1 && check_constants(step) &&
			slots_inside(step->a, step->width, step->out);
	if (!check_operand(step, step->a, count, MODEL_BROADCAST_A))
		return false;
	if (step->op == MODEL_WHERE)
		return check_constants(step) &&
			check_operand(step, step->b, count, MODEL_BROADCAST_B) &&
			check_operand(step, step->c, count, MODEL_BROADCAST_C);
	if (step->op < MODEL_ADD || step->op > MODEL_OR)
		return check_constants(step);
	if (step->b == MODEL_NONE)
		return step->data_count ==
			((step->flags & MODEL_BROADCAST_B) ? 1 : count);
	return check_constants(step) &&
		check_operand(step, step->b, count, MODEL_BROADCAST_B);
}

static bool
check_move(const ModelImage *image, const ModelStep *step)
{
	const uint32 *index = MODEL_AT(image, uint32, step->data);

	if (step->data_count != step->count ||
		!inside(image, step->data, step->data_count, sizeof(uint32)))
		return false;
	for (uint32 i = 0; i < step->count; i++)
		if (index[i] >= step->out)
			return false;
	return true;
}

static bool
check_linear(const ModelImage *image, const ModelStep *step)
{
	const ModelTerm *terms = MODEL_AT(image, ModelTerm, step->data);

	if (step->count != 1 ||
		!inside(image, step->data, step->data_count, sizeof(ModelTerm)))
		return false;
	for (uint32 i = 0; i < step->data_count; i++)
		if (terms[i].slot >= step->out || terms[i].exponent < 1 ||
			terms[i].exponent > 1000 ||
			(terms[i].table != 0 &&
			 !inside(image, terms[i].table, terms[i].table_count,
					 sizeof(double))))
			return false;
	return true;
}

/* ---- trees ---- */

static bool
check_tree_arrays(const ModelImage *image, const ModelTrees *trees)
{
	return inside(image, trees->trees, trees->tree_count, sizeof(ModelTree)) &&
		inside(image, trees->nodes, trees->node_count, sizeof(ModelNode)) &&
		(trees->covers == 0 ||
		 inside(image, trees->covers, trees->node_count, sizeof(double))) &&
		inside(image, trees->leaves,
			   (uint64) trees->leaf_count * trees->leaf_width,
			   sizeof(double)) &&
		inside(image, trees->base, trees->output_count, sizeof(double)) &&
		inside(image, trees->words, trees->word_count, sizeof(uint32)) &&
		(trees->linear == 0 ||
		 inside(image, trees->linear, trees->leaf_count,
				sizeof(ModelLinearLeaf))) &&
		inside(image, trees->coefficients, trees->coefficient_count,
			   sizeof(ModelCoefficient)) &&
		inside(image, trees->dense, trees->dense_count, sizeof(ModelDense)) &&
		inside(image, trees->order, trees->tree_count, sizeof(uint32));
}

/* A node at a place of a tree; counts its leaves. */
static bool
check_node(const ModelImage *image, const ModelTrees *trees,
		   const ModelTree *tree, uint32 at, uint32 out, uint32 *leaves)
{
	const ModelNode *node = MODEL_AT(image, ModelNode, trees->nodes) + at;
	uint32		test = MODEL_NODE_TEST(node);

	if (MODEL_NODE_SLOT(node) >= out)
		return false;
	if (test & MODEL_TEST_LEAF)
		return test == MODEL_TEST_LEAF && node->next == at &&
			MODEL_NODE_SLOT(node) == image->zero &&
			node->u.threshold == tree->first_leaf + (*leaves)++;
	if (node->next <= at || node->next + 1 >= tree->root + tree->node_count)
		return false;
	if (test != MODEL_TEST_AT_MOST && !(trees->flags & MODEL_TREES_TESTS))
		return false;
	if ((test & MODEL_TEST_MASK) == MODEL_TEST_IN)
		return node->u.set.first <= trees->word_count &&
			node->u.set.words <= trees->word_count - node->u.set.first;
	return (test & MODEL_TEST_MASK) != MODEL_TEST_MASK;
}

/* Is the block kernel's copy of a tree just that? */
static bool
check_dense_tree(const ModelImage *image, const ModelTrees *trees,
				 const ModelTree *tree)
{
	const ModelDense *dense = MODEL_AT(image, ModelDense, trees->dense);
	const ModelNode *nodes = MODEL_AT(image, ModelNode, trees->nodes);
	uint8		local[2 * MODEL_DENSE_LEAVES];
	uint32		inner = 0;
	uint32		leaves = 0;

	if (tree->leaf_count > MODEL_DENSE_LEAVES ||
		tree->node_count != 2 * tree->leaf_count - 1 ||
		!slots_inside(tree->dense, tree->leaf_count - 1, trees->dense_count))
		return false;
	nodes += tree->root;
	dense += tree->dense;
	for (uint32 i = 0; i < tree->node_count; i++)
		local[i] = (MODEL_NODE_TEST(&nodes[i]) & MODEL_TEST_LEAF) ?
			MODEL_DENSE_LEAVES + leaves++ : inner++;
	for (uint32 i = 0; i < tree->node_count; i++)
	{
		if (MODEL_NODE_TEST(&nodes[i]) & MODEL_TEST_LEAF)
			continue;
		if (dense->slot != MODEL_NODE_SLOT(&nodes[i]) ||
			dense->threshold != nodes[i].u.threshold ||
			dense->yes != local[nodes[i].next - tree->root] ||
			dense->no != local[nodes[i].next + 1 - tree->root])
			return false;
		dense++;
	}
	return true;
}

/* ---- ranks ---- */

/* Is the slot what a step copies from the other, with NaN as -infinity? */
static bool
is_low_copy(const ModelImage *image, const ModelStep *reader, uint32 slot,
			uint32 source)
{
	for (const ModelStep *step = MODEL_AT(image, ModelStep, image->steps);
		 step < reader; step++)
		if (step->op == MODEL_MISSING_TO_LOW && slot >= step->out &&
			slot - step->out < step->count)
			return MODEL_AT(image, uint32,
							step->data)[slot - step->out] == source;
	return false;
}

/* The thresholds of a slot must be in order, its pivots among them. */
static bool
check_ranked(const ModelImage *image, const ModelTrees *trees,
			 const ModelRanked *ranked, const ModelStep *step)
{
	const double *pivots = MODEL_AT(image, double, trees->thresholds) +
	ranked->pivots;
	const double *thresholds = pivots + MODEL_RANK_STRIDE;

	if (ranked->slot >= step->out || ranked->strides < 1 ||
		ranked->strides > MODEL_RANK_STRIDE ||
		!slots_inside(ranked->pivots,
					  (ranked->strides + 1) * MODEL_RANK_STRIDE,
					  trees->threshold_count) ||
		(ranked->low != MODEL_NONE &&
		 (ranked->low >= step->out ||
		  !is_low_copy(image, step, ranked->low, ranked->slot))))
		return false;
	for (uint32 i = 1; i < ranked->strides * MODEL_RANK_STRIDE; i++)
		if (!(thresholds[i - 1] <= thresholds[i]))
			return false;
	/* so that a rank is below what NaN has */
	if (thresholds[ranked->strides * MODEL_RANK_STRIDE - 1] != INFINITY)
		return false;
	for (uint32 i = 0; i < MODEL_RANK_STRIDE; i++)
		if (pivots[i] != (i + 1 < ranked->strides ?
						  thresholds[(i + 1) * MODEL_RANK_STRIDE - 1] :
						  INFINITY))
			return false;
	return true;
}

/*
 * Are the tests of a tree with ranks those of its dense nodes?  Of padding, the
 * first byte is what a tree without tests goes by.
 */
static bool
check_rank_tests(const ModelImage *image, const ModelTrees *trees,
				 uint32 number)
{
	const ModelTree *tree = MODEL_AT(image, ModelTree, trees->trees) + number;
	const ModelDense *dense = MODEL_AT(image, ModelDense, trees->dense) +
	tree->dense;
	uint32		width = trees->rank_width;
	const uint8 *tests = MODEL_AT(image, uint8, trees->rank_tests) +
	model_rank_tests(width, number);
	const uint8 *columns = tests + MODEL_RANK_COLUMN * MODEL_RANK_APART;
	const uint8 *ranks = tests + MODEL_RANK_RANK * MODEL_RANK_APART;

	if (tree->leaf_count > width)
		return false;
	for (uint32 i = 0; i < tree->leaf_count - 1; i++)
	{
		uint32		column = columns[i];
		uint32		rank = ranks[i];
		const ModelRanked *ranked = MODEL_AT(image, ModelRanked,
											 trees->ranked) + column / 2;

		if (column / 2 >= trees->ranked_count ||
			rank >= ranked->strides * MODEL_RANK_STRIDE ||
			rank >= MODEL_RANKS ||
			dense[i].slot != (column % 2 ? ranked->low : ranked->slot) ||
			dense[i].threshold != MODEL_AT(image, double, trees->thresholds)[ranked->pivots + MODEL_RANK_STRIDE + rank] ||
			dense[i].yes != tests[MODEL_RANK_YES * MODEL_RANK_APART + i] ||
			dense[i].no != tests[MODEL_RANK_NO * MODEL_RANK_APART + i])
			return false;
	}
	for (int i = 0; i < MODEL_RANK_ARRAYS; i++)
		for (uint32 j = tree->leaf_count - 1; j < width; j++)
			if (tests[i * MODEL_RANK_APART + j] != 0)
				return false;
	return true;
}

/* The tests that lead to each leaf of a tree. */
void
model_find_paths(const ModelDense *dense, int leaf_count, ModelPaths *paths)
{
	uint32		tests[2 * MODEL_DENSE_LEAVES] = {0};
	uint32		outcome[2 * MODEL_DENSE_LEAVES] = {0};

	for (int i = 0; i < leaf_count - 1; i++)
	{
		uint32		bit = (uint32) 1 << i;

		tests[dense[i].yes] = tests[dense[i].no] = tests[i] | bit;
		outcome[dense[i].yes] = outcome[i] | bit;
		outcome[dense[i].no] = outcome[i];
	}
	for (int i = 0; i < MODEL_PATH_LEAVES; i++)
	{
		bool		padding = i >= leaf_count;

		paths->tests[i] = padding ? 0 : tests[MODEL_DENSE_LEAVES + i];
		paths->outcome[i] = padding ? 1 : outcome[MODEL_DENSE_LEAVES + i];
	}
}

/* Ranks, of an ensemble whose dense nodes are right. */
static bool
check_ranks(const ModelImage *image, const ModelTrees *trees,
			const ModelStep *step)
{
	const ModelRanked *ranked = MODEL_AT(image, ModelRanked, trees->ranked);
	const ModelTree *tree = MODEL_AT(image, ModelTree, trees->trees);
	const ModelDense *dense = MODEL_AT(image, ModelDense, trees->dense);
	const ModelPaths *paths = MODEL_AT(image, ModelPaths, trees->paths);
	const uint32 *heads = MODEL_AT(image, uint32, trees->heads);

	if (trees->dense_count == 0 ||
		trees->ranked_count > MODEL_RANKED_SLOTS ||
		(trees->rank_width != MODEL_PATH_LEAVES &&
		 trees->rank_width != MODEL_DENSE_LEAVES) ||
		!inside(image, trees->ranked, trees->ranked_count,
				sizeof(ModelRanked)) ||
		!inside(image, trees->thresholds, trees->threshold_count,
				sizeof(double)) ||
		!inside(image, trees->rank_tests,
				model_rank_tests_size(trees->rank_width, trees->tree_count),
				1) ||
		(trees->paths != 0 &&
		 (trees->rank_width != MODEL_PATH_LEAVES ||
		  !inside(image, trees->paths, trees->tree_count,
				  sizeof(ModelPaths)) ||
		  !inside(image, trees->heads, trees->tree_count, sizeof(uint32)))))
		return false;
	for (uint32 i = 0; i < trees->ranked_count; i++)
		if (!check_ranked(image, trees, &ranked[i], step))
			return false;
	for (uint32 i = 0; i < trees->tree_count; i++)
	{
		ModelPaths	right;

		if (!check_rank_tests(image, trees, i))
			return false;
		if (trees->paths == 0)
			continue;
		model_find_paths(dense + tree[i].dense, tree[i].leaf_count, &right);
		if (memcmp(&paths[i], &right, sizeof(right)) != 0 ||
			heads[i] != model_head(&tree[i]))
			return false;
	}
	return true;
}

static bool
check_tree(const ModelImage *image, const ModelTrees *trees,
		   const ModelTree *tree, uint32 out)
{
	uint32		leaves = 0;

	if (tree->node_count < 1 || tree->leaf_count < 1 ||
		!slots_inside(tree->root, tree->node_count, trees->node_count) ||
		!slots_inside(tree->first_leaf, tree->leaf_count,
					  trees->leaf_count) ||
		tree->depth >= tree->node_count ||
		(trees->leaf_width == 1 ? tree->output >= trees->output_count :
		 tree->output != MODEL_NONE))
		return false;
	for (uint32 i = 0; i < tree->node_count; i++)
		if (!check_node(image, trees, tree, tree->root + i, out, &leaves))
			return false;
	if (leaves != tree->leaf_count)
		return false;
	return true;
}

/* Is the depth said for each tree enough to reach its leaves? */
static bool
check_depth(const ModelImage *image, const ModelTrees *trees,
			const ModelTree *tree)
{
	const ModelNode *nodes = MODEL_AT(image, ModelNode, trees->nodes);
	uint32		end = tree->root + 1;
	uint32		level_end = end;
	uint32		depth = 0;

	/* breadth first: the children of one level are the next */
	for (uint32 at = tree->root; at < tree->root + tree->node_count; at++)
	{
		if (at == level_end)
		{
			level_end = end;
			depth++;
		}
		if (at >= end)
			return false;
		if (MODEL_NODE_TEST(&nodes[at]) & MODEL_TEST_LEAF)
			continue;
		if (nodes[at].next != end)
			return false;
		end += 2;
	}
	return end == tree->root + tree->node_count && depth == tree->depth;
}

/*
 * Is one tree before the other in the order of walking, by falling depth?  A
 * strict order of as many numbers as there are trees has each of them, and a
 * group of trees is walked as deep as its first is.
 */
static bool
is_walked_before(const ModelTree *tree, uint32 one, uint32 other)
{
	return tree[one].depth != tree[other].depth ?
		tree[one].depth > tree[other].depth : one < other;
}

/* Linear leaves, and the order in which trees are walked. */
static bool
check_tree_details(const ModelImage *image, const ModelTrees *trees,
				   uint32 out)
{
	const ModelLinearLeaf *linear = MODEL_AT(image, ModelLinearLeaf,
											 trees->linear);
	const ModelCoefficient *coefficients =
	MODEL_AT(image, ModelCoefficient, trees->coefficients);
	const uint32 *order = MODEL_AT(image, uint32, trees->order);
	const ModelTree *tree = MODEL_AT(image, ModelTree, trees->trees);

	if ((trees->linear != 0) != ((trees->flags & MODEL_TREES_LINEAR) != 0))
		return false;
	for (uint32 i = 0; trees->linear != 0 && i < trees->leaf_count; i++)
		if (!slots_inside(linear[i].first, linear[i].count,
						  trees->coefficient_count))
			return false;
	for (uint32 i = 0; i < trees->coefficient_count; i++)
		if (coefficients[i].slot >= out)
			return false;
	for (uint32 i = 0; i < trees->tree_count; i++)
		if (order[i] >= trees->tree_count ||
			(i > 0 && !is_walked_before(tree, order[i - 1], order[i])))
			return false;
	return true;
}

static bool
check_trees(const ModelImage *image, const ModelStep *step)
{
	const ModelTrees *trees = MODEL_AT(image, ModelTrees, step->data);
	const ModelTree *tree;

	if (!inside(image, step->data, 1, sizeof(ModelTrees)) ||
		trees->output_count != step->count || trees->output_count < 1 ||
		(trees->leaf_width != 1 &&
		 trees->leaf_width != trees->output_count) ||
		trees->aggregate > MODEL_TREES_MAXIMUM ||
		!check_tree_arrays(image, trees))
		return false;
	tree = MODEL_AT(image, ModelTree, trees->trees);
	for (uint32 i = 0; i < trees->tree_count; i++)
		if (!check_tree(image, trees, &tree[i], step->out) ||
			!check_depth(image, trees, &tree[i]) ||
			(trees->dense_count > 0 &&
			 !check_dense_tree(image, trees, &tree[i])))
			return false;
	if (trees->dense_count > 0 &&
		((trees->flags & (MODEL_TREES_TESTS | MODEL_TREES_LINEAR)) ||
		 trees->leaf_width != 1 || trees->aggregate != MODEL_TREES_SUM))
		return false;
	if (trees->ranked_count > 0 ? !check_ranks(image, trees, step) :
		trees->paths != 0)
		return false;
	return check_tree_details(image, trees, step->out);
}

static bool
check_step(const ModelImage *image, const ModelStep *step)
{
	switch (step->op)
	{
		case MODEL_MOVE:
		case MODEL_MISSING_TO_LOW:
		case MODEL_ZERO_TO_MISSING:
			return check_move(image, step);
		case MODEL_LINEAR:
			return check_linear(image, step);
		case MODEL_TREES:
			return check_trees(image, step);
		default:
			return step->op >= MODEL_MOVE && step->op < MODEL_OP_END &&
				check_plain_step(image, step);
	}
}

/* ---- the whole ---- */

/* Is the slot of the leaves one that a step fills with 0, or none? */
static bool
check_zero(const ModelImage *image)
{
	const ModelStep *steps = MODEL_AT(image, ModelStep, image->steps);

	if (image->zero == MODEL_NONE)
		return true;
	for (uint32 i = 0; i < image->step_count; i++)
		if (steps[i].op == MODEL_FILL && image->zero >= steps[i].out &&
			image->zero - steps[i].out < steps[i].count)
			return MODEL_AT(image, double,
							steps[i].data)[image->zero - steps[i].out] == 0;
	return false;
}

static bool
check_header(const ModelImage *image)
{
	return (image->task == MODEL_REGRESSION ||
			(image->task == MODEL_CLASSIFICATION &&
			 image->output_count >= 2)) &&
		string_inside(image, image->algorithm) &&
		inside(image, image->inputs, image->input_count,
			   sizeof(ModelInput)) &&
		image->slot_count <= MODEL_MAX_SLOTS &&
		image->input_count <= image->slot_count &&
		inside(image, image->origins, image->slot_count, sizeof(uint32)) &&
		inside(image, image->steps, image->step_count, sizeof(ModelStep)) &&
		image->output_count >= 1 &&
		inside(image, image->outputs, image->output_count, sizeof(uint32)) &&
		slots_inside(image->scores, image->output_count, image->slot_count) &&
		slots_inside(image->score, 1, image->slot_count) &&
		image->score_steps <= image->step_count &&
		image->raw_count >= 1 &&
		slots_inside(image->raw, image->raw_count, image->slot_count) &&
		(image->choice == MODEL_NONE || image->choice < image->slot_count);
}

static const char *
check_parts(const ModelImage *image)
{
	const uint32 *origins = MODEL_AT(image, uint32, image->origins);
	const ModelStep *steps = MODEL_AT(image, ModelStep, image->steps);
	const uint32 *outputs = MODEL_AT(image, uint32, image->outputs);
	uint32		slots = image->input_count;

	for (uint32 i = 0; i < image->input_count; i++)
		if (!check_input(image, &model_inputs(image)[i]))
			return "an input is not sound";
	for (uint32 i = 0; i < image->slot_count; i++)
		if (origins[i] != MODEL_NONE && origins[i] >= image->input_count)
			return "a slot comes from no input";
	for (uint32 i = 0; i < image->step_count; i++)
	{
		if (steps[i].out != slots || steps[i].count < 1 ||
			steps[i].count > image->slot_count - slots ||
			!check_step(image, &steps[i]))
			return "a step is not sound";
		slots += steps[i].count;
	}
	if (image->score >= image->input_count &&
		(image->score_steps == 0 ||
		 image->score >= steps[image->score_steps - 1].out +
		 steps[image->score_steps - 1].count))
		return "the score is not computed";
	if (slots != image->slot_count || !check_zero(image))
		return "a slot is not written";
	for (uint32 i = 0; i < image->output_count; i++)
		if (!string_inside(image, outputs[i]))
			return "an output has no name";
	return NULL;
}

/* NULL, or what is wrong with the block. */
const char *
model_check_image(const ModelImage *image, size_t size)
{
	if (size < sizeof(ModelImage) || image->magic != MODEL_MAGIC)
		return "it is no model";
	if (image->byte_order != MODEL_BYTE_ORDER)
		return "it was made on a machine of another byte order";
	if (image->format != MODEL_FORMAT)
		return "it has another format";
	if (image->size != size)
		return "it has another length than it says";
	if (model_image_checksum(image) != image->checksum)
		return "its checksum is wrong";
	if (!check_header(image))
		return "its parts do not fit";
	return check_parts(image);
}

/*-------------------------------------------------------------------------
 *
 * export_onnx_trees.c
 *		Ensembles of trees as operators of ONNX.
 *
 * Trees in float32 become TreeEnsembleRegressor, which every runtime knows.
 * Trees in float64 become TreeEnsemble (ai.onnx.ml 5), the only operator that
 * answers in float64, and so do trees with sets of categories, which that
 * operator alone has: export_onnx_ensemble.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "miscadmin.h"
#include "model/export_onnx.h"
#include "utils/memutils.h"

/* The slots that trees read, each once; where each slot is in that list. */
static int
used_slots(const ModelImage *image, const ModelTrees *trees, uint32 **slots,
		   int **places)
{
	const ModelNode *nodes = MODEL_AT(image, ModelNode, trees->nodes);
	int			count = 0;

	*places = palloc_extended(sizeof(int) * image->slot_count, MCXT_ALLOC_HUGE);
	*slots = palloc_extended(sizeof(uint32) * image->slot_count,
							 MCXT_ALLOC_HUGE);
	for (uint32 i = 0; i < image->slot_count; i++)
		(*places)[i] = -1;
	for (uint32 i = 0; i < trees->node_count; i++)
	{
		uint32		slot = MODEL_NODE_SLOT(&nodes[i]);

		if ((MODEL_NODE_TEST(&nodes[i]) & MODEL_TEST_LEAF) ||
			(*places)[slot] >= 0)
			continue;
		(*places)[slot] = count;
		(*slots)[count++] = slot;
	}
	return count;
}

/* The columns that trees read, side by side. */
static char *
tree_input(OnnxGraph *graph, const uint32 *slots, int count)
{
	if (count == 0)
		return onnx_operand(graph, 0, 1);
	if (count == 1)
		return onnx_operand(graph, slots[0], 1);
	{
		char	  **parts = palloc(sizeof(char *) * count);

		for (int i = 0; i < count; i++)
			parts[i] = onnx_operand(graph, slots[i], 1);
		onnx_begin_node(graph, "Concat", false);
		for (int i = 0; i < count; i++)
			onnx_node_input(graph, parts[i]);
	}
	onnx_node_int(graph, "axis", 1);
	return onnx_end_node(graph);
}

/* Lists of the operators' attributes. */
typedef struct Lists
{
	int			count;
	int64	   *trees;
	int64	   *numbers;
	int64	   *features;
	int64	   *yes;
	int64	   *no;
	int64	   *missing;
	double	   *values;
	const char **modes;
	int			leaves;
	int64	   *leaf_trees;
	int64	   *leaf_numbers;
	int64	   *leaf_outputs;
	double	   *leaf_values;
} Lists;

static void *
allocate(Size count, Size width)
{
	return palloc_extended(Max(count, 1) * width,
						   MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
}

/* The weights of a leaf. */
static void
add_leaf(const ModelImage *image, const ModelTrees *trees,
		 const ModelTree *tree, const ModelNode *node, int64 number,
		 int64 place, Lists *lists)
{
	uint32		leaf = (uint32) node->u.threshold;
	const double *values = MODEL_AT(image, double, trees->leaves) +
	(Size) leaf * trees->leaf_width;

	for (uint32 j = 0; j < trees->leaf_width; j++)
	{
		int			at = lists->leaves++;

		lists->leaf_trees[at] = number;
		lists->leaf_numbers[at] = place;
		lists->leaf_outputs[at] = trees->leaf_width == 1 ? tree->output : j;
		lists->leaf_values[at] = values[j];
	}
}

static void
add_inner(const ModelNode *node, const ModelTree *tree, const int *places,
		  int place, Lists *lists)
{
	uint32		test = MODEL_NODE_TEST(node);

	lists->modes[place] = (test & MODEL_TEST_MASK) == MODEL_TEST_EQUAL ?
		"BRANCH_EQ" : "BRANCH_LEQ";
	lists->features[place] = places[MODEL_NODE_SLOT(node)];
	lists->values[place] = node->u.threshold;
	lists->yes[place] = node->next;
	lists->no[place] = node->next + 1;
	lists->missing[place] = (test & MODEL_TEST_MASK) == MODEL_TEST_EQUAL &&
		(test & MODEL_TEST_MISSING);
}

/* All nodes; a node's number is its place in the image. */
static void
list_nodes(const ModelImage *image, const ModelTrees *trees,
		   const int *places, Lists *lists)
{
	const ModelTree *tree = MODEL_AT(image, ModelTree, trees->trees);
	const ModelNode *nodes = MODEL_AT(image, ModelNode, trees->nodes);
	Size		weights = (Size) trees->leaf_count * trees->leaf_width;

	memset(lists, 0, sizeof(*lists));
	lists->trees = allocate(trees->node_count, sizeof(int64));
	lists->numbers = allocate(trees->node_count, sizeof(int64));
	lists->features = allocate(trees->node_count, sizeof(int64));
	lists->yes = allocate(trees->node_count, sizeof(int64));
	lists->no = allocate(trees->node_count, sizeof(int64));
	lists->missing = allocate(trees->node_count, sizeof(int64));
	lists->values = allocate(trees->node_count, sizeof(double));
	lists->modes = allocate(trees->node_count, sizeof(char *));
	lists->leaf_trees = allocate(weights, sizeof(int64));
	lists->leaf_numbers = allocate(weights, sizeof(int64));
	lists->leaf_outputs = allocate(weights, sizeof(int64));
	lists->leaf_values = allocate(weights, sizeof(double));
	for (uint32 i = 0; i < trees->tree_count; i++)
		for (uint32 j = tree[i].root; j < tree[i].root + tree[i].node_count; j++)
		{
			lists->trees[lists->count] = i;
			lists->numbers[lists->count] = j;
			if (MODEL_NODE_TEST(&nodes[j]) & MODEL_TEST_LEAF)
			{
				lists->modes[lists->count] = "LEAF";
				add_leaf(image, trees, &tree[i], &nodes[j], i, j, lists);
			}
			else
				add_inner(&nodes[j], &tree[i], places, lists->count, lists);
			lists->count++;
		}
}

static const char *
aggregate_name(const ModelTrees *trees)
{
	return trees->aggregate == MODEL_TREES_MINIMUM ? "MIN" :
		trees->aggregate == MODEL_TREES_MAXIMUM ? "MAX" : "SUM";
}

/* The sums of trees in float32. */
static char *
trees_in_float32(OnnxGraph *graph, const ModelTrees *trees, char *input,
				 const Lists *lists)
{
	input = onnx_cast(graph, input, ONNX_FLOAT);
	onnx_begin_node(graph, "TreeEnsembleRegressor", true);
	onnx_node_input(graph, input);
	onnx_node_ints(graph, "nodes_treeids", lists->trees, lists->count);
	onnx_node_ints(graph, "nodes_nodeids", lists->numbers, lists->count);
	onnx_node_ints(graph, "nodes_featureids", lists->features, lists->count);
	onnx_node_floats(graph, "nodes_values", lists->values, lists->count);
	onnx_node_texts(graph, "nodes_modes", lists->modes, lists->count);
	onnx_node_ints(graph, "nodes_truenodeids", lists->yes, lists->count);
	onnx_node_ints(graph, "nodes_falsenodeids", lists->no, lists->count);
	onnx_node_ints(graph, "nodes_missing_value_tracks_true", lists->missing,
				   lists->count);
	onnx_node_ints(graph, "target_treeids", lists->leaf_trees, lists->leaves);
	onnx_node_ints(graph, "target_nodeids", lists->leaf_numbers,
				   lists->leaves);
	onnx_node_ints(graph, "target_ids", lists->leaf_outputs, lists->leaves);
	onnx_node_floats(graph, "target_weights", lists->leaf_values,
					 lists->leaves);
	onnx_node_int(graph, "n_targets", trees->output_count);
	onnx_node_text(graph, "aggregate_function", aggregate_name(trees));
	return onnx_cast(graph, onnx_end_node(graph), ONNX_DOUBLE);
}

/* Divisor and base, which the operators' own attributes round elsewhere. */
static char *
finish_trees(OnnxGraph *graph, const ModelTrees *trees, char *sums)
{
	const double *base = MODEL_AT(graph->image, double, trees->base);
	bool		float32 = (trees->flags & MODEL_TREES_FLOAT32) != 0;
	ModelStep	step = {.flags = float32 ? MODEL_IN_FLOAT32 : 0};

	char	   *bases = onnx_in_precision(graph, &step,
										  onnx_doubles(graph, base, 1, trees->output_count));
	bool		base_last = (trees->flags & MODEL_TREES_BASE_LAST) ||
	trees->aggregate != MODEL_TREES_SUM;

	sums = onnx_in_precision(graph, &step, sums);
	if (!base_last)
		sums = onnx_simple(graph, "Add", sums, bases, NULL);
	if (trees->divisor != 1)
		sums = onnx_simple(graph, "Div", sums,
						   onnx_in_precision(graph, &step, onnx_number(graph, trees->divisor)),
						   NULL);
	if (base_last)
		sums = onnx_simple(graph, "Add", sums, bases, NULL);
	return float32 ? onnx_cast(graph, sums, ONNX_DOUBLE) : sums;
}

/* Must it be the newer operator? */
static bool
needs_ensemble(const ModelImage *image, const ModelTrees *trees)
{
	const ModelNode *nodes = MODEL_AT(image, ModelNode, trees->nodes);

	if (!(trees->flags & MODEL_TREES_FLOAT32) ||
		(trees->flags & MODEL_TREES_LINEAR))
		return true;
	for (uint32 i = 0; i < trees->node_count; i++)
		if (!(MODEL_NODE_TEST(&nodes[i]) & MODEL_TEST_LEAF) &&
			(MODEL_NODE_TEST(&nodes[i]) & MODEL_TEST_MASK) == MODEL_TEST_IN)
			return true;
	return false;
}

void
onnx_export_trees(OnnxGraph *graph, const ModelStep *step)
{
	const ModelImage *image = graph->image;
	const ModelTrees *trees = MODEL_AT(image, ModelTrees, step->data);
	char	   *sums;

	if (needs_ensemble(image, trees))
	{
		onnx_export_ensemble(graph, trees, step->out);
		sums = onnx_operand(graph, step->out, step->count);
	}
	else
	{
		Lists		lists;
		uint32	   *slots;
		int		   *places;
		int			count = used_slots(image, trees, &slots, &places);
		char	   *input = tree_input(graph, slots, count);

		list_nodes(image, trees, places, &lists);
		sums = trees_in_float32(graph, trees, input, &lists);
	}
	onnx_set_columns(graph, step->out, finish_trees(graph, trees, sums),
					 step->count);
}

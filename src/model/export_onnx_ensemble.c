/*-------------------------------------------------------------------------
 *
 * export_onnx_ensemble.c
 *		Ensembles of trees as TreeEnsemble, operator of ai.onnx.ml 5.
 *
 * One operator for each output.  Its sets have numbers that are equal to
 * their members, so what Visage cuts to an integer is cut before.
 *
 * Linear leaves, constant + sum of coefficient * x: one operator adds up the
 * constants, another for each x its coefficients.  A leaf whose x is missing
 * has another constant, so above such a leaf is a test for each of its x.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "miscadmin.h"
#include "model/export_onnx.h"
#include "utils/memutils.h"

/* TreeEnsemble's node modes */
#define MODE_LEQ 0
#define MODE_EQ 4
#define MODE_MEMBER 6

/* What of a slot a test reads. */
typedef enum Variant
{
	AS_IT_IS,
	CUT_DOWN,					/* to the integer below */
	CUT_TO_ZERO,				/* to an integer, towards zero */
	IS_MISSING,					/* 1 for NaN, else 0 */
	VARIANT_COUNT
} Variant;

/* The columns that the operators read; places: slot * variants + variant. */
typedef struct Columns
{
	OnnxGraph  *graph;
	int		   *places;
	char	  **names;
	int			count;
	int			allocated;
} Columns;

typedef struct Numbers
{
	double	   *values;
	int64		count;
	int64		allocated;
} Numbers;

/* The lists of an operator. */
typedef struct Ensemble
{
	Columns    *columns;
	const ModelImage *image;
	const ModelTrees *trees;
	uint32		output;
	uint32		factor;			/* slot whose coefficients; NONE: constants */
	Numbers		roots;
	Numbers		features;
	Numbers		modes;
	Numbers		splits;
	Numbers		children[2];
	Numbers		are_leaves[2];
	Numbers		missing;
	Numbers		weights;
	Numbers		members;
} Ensemble;

static void
append(Numbers *numbers, double value)
{
	if (numbers->count == numbers->allocated)
	{
		numbers->allocated = Max(64, numbers->allocated * 2);
		numbers->values = numbers->values == NULL ?
			palloc(sizeof(double) * numbers->allocated) :
			repalloc_huge(numbers->values, sizeof(double) * numbers->allocated);
	}
	numbers->values[numbers->count++] = value;
}

/* ---- columns ---- */

static char *
variant_of(OnnxGraph *graph, uint32 slot, Variant variant)
{
	char	   *x = onnx_operand(graph, slot, 1);

	switch (variant)
	{
		case CUT_DOWN:
			return onnx_simple(graph, "Floor", x, NULL, NULL);
		case CUT_TO_ZERO:
			return onnx_truncate(graph, x);
		case IS_MISSING:
			return onnx_cast(graph, onnx_simple(graph, "IsNaN", x, NULL, NULL),
							 ONNX_DOUBLE);
		default:
			return x;
	}
}

/* The place of a column, which is added if it is not there. */
static int
column_of(Columns *columns, uint32 slot, Variant variant)
{
	int		   *place = &columns->places[(Size) slot * VARIANT_COUNT + variant];

	if (*place >= 0)
		return *place;
	if (columns->count == columns->allocated)
		columns->names = repalloc(columns->names, sizeof(char *) *
								  (columns->allocated *= 2));
	columns->names[columns->count] = variant_of(columns->graph, slot, variant);
	return *place = columns->count++;
}

/* The columns side by side. */
static char *
join_columns(OnnxGraph *graph, const Columns *columns)
{
	if (columns->count == 0)
		return onnx_operand(graph, 0, 1);
	if (columns->count == 1)
		return columns->names[0];
	onnx_begin_node(graph, "Concat", false);
	for (int i = 0; i < columns->count; i++)
		onnx_node_input(graph, columns->names[i]);
	onnx_node_int(graph, "axis", 1);
	return onnx_end_node(graph);
}

static void
begin_columns(OnnxGraph *graph, Columns *columns)
{
	Size		count = (Size) graph->image->slot_count * VARIANT_COUNT;

	memset(columns, 0, sizeof(*columns));
	columns->graph = graph;
	columns->allocated = 16;
	columns->names = palloc(sizeof(char *) * columns->allocated);
	columns->places = palloc_extended(sizeof(int) * count, MCXT_ALLOC_HUGE);
	for (Size i = 0; i < count; i++)
		columns->places[i] = -1;
}

/* ---- nodes ---- */

/* Adds a node whose children are not known yet. */
static int64
add_test(Ensemble *ensemble, int feature, int mode, double split,
		 bool missing)
{
	append(&ensemble->features, feature);
	append(&ensemble->modes, mode);
	append(&ensemble->splits, split);
	append(&ensemble->missing, missing);
	for (int side = 0; side < 2; side++)
	{
		append(&ensemble->children[side], 0);
		append(&ensemble->are_leaves[side], 0);
	}
	return ensemble->modes.count - 1;
}

static void
set_child(Ensemble *ensemble, int64 parent, int side, int64 child,
		  bool is_leaf)
{
	ensemble->children[side].values[parent] = child;
	ensemble->are_leaves[side].values[parent] = is_leaf;
}

static int64
add_weight(Ensemble *ensemble, double weight)
{
	append(&ensemble->weights, weight);
	return ensemble->weights.count - 1;
}

/*
 * A weight whose number is not that of the node beside it: onnxruntime 1.22
 * takes two children of one number for one, though one is a leaf.  A weight
 * in between belongs to no leaf.
 */
static int64
add_weight_beside(Ensemble *ensemble, double weight, int64 sibling)
{
	if (ensemble->weights.count == sibling)
		(void) add_weight(ensemble, 0);
	return add_weight(ensemble, weight);
}

/* The members of a node's set, and NaN behind them. */
static void
add_members(Ensemble *ensemble, const ModelNode *node)
{
	const uint32 *words = MODEL_AT(ensemble->image, uint32,
								   ensemble->trees->words) + node->u.set.first;

	for (uint32 i = 0; i < node->u.set.words * 32; i++)
		if (words[i / 32] >> (i % 32) & 1)
			append(&ensemble->members, i);
	append(&ensemble->members, NAN);
}

/* Adds an inner node of the image. */
static int64
add_inner(Ensemble *ensemble, const ModelNode *node)
{
	uint32		test = MODEL_NODE_TEST(node);
	uint32		slot = MODEL_NODE_SLOT(node);
	bool		missing = (test & MODEL_TEST_MISSING) != 0;

	if ((test & MODEL_TEST_MASK) == MODEL_TEST_AT_MOST)
		return add_test(ensemble, column_of(ensemble->columns, slot, AS_IT_IS),
						MODE_LEQ, node->u.threshold, false);
	if ((test & MODEL_TEST_MASK) == MODEL_TEST_EQUAL)
		return add_test(ensemble, column_of(ensemble->columns, slot, AS_IT_IS),
						MODE_EQ, node->u.threshold, missing);
	/* a set without members: equal to no number */
	if (node->u.set.words == 0)
		return add_test(ensemble, column_of(ensemble->columns, slot, AS_IT_IS),
						MODE_EQ, NAN, missing);
	add_members(ensemble, node);
	return add_test(ensemble, column_of(ensemble->columns, slot,
										(test & MODEL_TEST_EXACT) ? AS_IT_IS :
										(test & MODEL_TEST_NEGATIVE) ? CUT_TO_ZERO : CUT_DOWN),
					MODE_MEMBER, 0, missing);
}

/* What a leaf adds where one of its x is missing, or where it is plain. */
static double
plain_weight(const Ensemble *ensemble, uint32 leaf)
{
	const ModelTrees *trees = ensemble->trees;

	if (ensemble->factor != MODEL_NONE)
		return 0;
	return MODEL_AT(ensemble->image, double, trees->leaves)
		[(Size) leaf * trees->leaf_width +
		 (trees->leaf_width > 1 ? ensemble->output : 0)];
}

static double
linear_weight(const Ensemble *ensemble, const ModelLinearLeaf *linear,
			  const ModelCoefficient *coefficients)
{
	double		sum = 0;

	if (ensemble->factor == MODEL_NONE)
		return linear->constant;
	for (uint32 i = 0; i < linear->count; i++)
		if (coefficients[i].slot == ensemble->factor)
			sum += coefficients[i].value;
	return sum;
}

/* Adds a leaf, with tests of its x above it. */
static int64
add_leaf(Ensemble *ensemble, uint32 leaf, int64 sibling, bool *is_leaf)
{
	const ModelTrees *trees = ensemble->trees;
	const ModelLinearLeaf *linear = (trees->flags & MODEL_TREES_LINEAR) ?
	MODEL_AT(ensemble->image, ModelLinearLeaf, trees->linear) + leaf : NULL;
	const ModelCoefficient *coefficients;
	int64		first = 0;
	int64		last = 0;

	*is_leaf = linear == NULL || linear->count == 0;
	if (linear == NULL)
		return add_weight_beside(ensemble, plain_weight(ensemble, leaf),
								 sibling);
	if (linear->count == 0)
		return add_weight_beside(ensemble, ensemble->factor == MODEL_NONE ?
								 linear->constant : 0, sibling);
	coefficients = MODEL_AT(ensemble->image, ModelCoefficient,
							trees->coefficients) + linear->first;
	for (uint32 i = 0; i < linear->count; i++)
	{
		int64		next = add_test(ensemble,
									column_of(ensemble->columns, coefficients[i].slot, IS_MISSING),
									MODE_LEQ, 0.5, false);

		if (i == 0)
			first = next;
		else
			set_child(ensemble, last, 0, next, false);
		/* the next test is numbered so */
		set_child(ensemble, next, 1,
				  add_weight_beside(ensemble, plain_weight(ensemble, leaf),
									ensemble->modes.count), true);
		last = next;
	}
	set_child(ensemble, last, 0,
			  add_weight(ensemble, linear_weight(ensemble, linear, coefficients)),
			  true);
	return first;
}

/* Adds a node with all below it, beside one of that number. */
static int64
add_node(Ensemble *ensemble, uint32 number, int64 sibling, bool *is_leaf)
{
	const ModelNode *nodes = MODEL_AT(ensemble->image, ModelNode,
									  ensemble->trees->nodes);
	const ModelNode *node = &nodes[number];
	int64		added;

	check_stack_depth();
	if (MODEL_NODE_TEST(node) & MODEL_TEST_LEAF)
		return add_leaf(ensemble, (uint32) node->u.threshold, sibling, is_leaf);
	added = add_inner(ensemble, node);
	/* the second, if it is no leaf, is numbered after all of the first */
	sibling = ensemble->modes.count;
	for (int side = 0; side < 2; side++)
	{
		bool		leaf;
		int64		child = add_node(ensemble, node->next + side, sibling, &leaf);

		set_child(ensemble, added, side, child, leaf);
		sibling = child;
	}
	*is_leaf = false;
	return added;
}

/* Does a leaf of the tree have a coefficient of the slot? */
static bool
has_factor(const Ensemble *ensemble, const ModelTree *tree)
{
	const ModelTrees *trees = ensemble->trees;
	const ModelLinearLeaf *linear;
	const ModelCoefficient *coefficients;

	if (ensemble->factor == MODEL_NONE)
		return true;
	linear = MODEL_AT(ensemble->image, ModelLinearLeaf, trees->linear);
	coefficients = MODEL_AT(ensemble->image, ModelCoefficient,
							trees->coefficients);
	for (uint32 i = tree->first_leaf; i < tree->first_leaf + tree->leaf_count; i++)
		for (uint32 j = 0; j < linear[i].count; j++)
			if (coefficients[linear[i].first + j].slot == ensemble->factor)
				return true;
	return false;
}

/* Adds the trees that matter; a root is never a leaf. */
static void
add_trees(Ensemble *ensemble)
{
	const ModelTrees *trees = ensemble->trees;
	const ModelTree *tree = MODEL_AT(ensemble->image, ModelTree, trees->trees);

	for (uint32 i = 0; i < trees->tree_count; i++)
	{
		bool		is_leaf;
		int64		root;

		CHECK_FOR_INTERRUPTS();
		if ((trees->leaf_width == 1 && tree[i].output != ensemble->output) ||
			!has_factor(ensemble, &tree[i]))
			continue;
		root = add_node(ensemble, tree[i].root, -1, &is_leaf);
		if (is_leaf)
		{
			int64		test = add_test(ensemble, 0, MODE_LEQ, 0, false);
			double		weight = ensemble->weights.values[root];

			set_child(ensemble, test, 0, root, true);
			set_child(ensemble, test, 1, add_weight(ensemble, weight), true);
			root = test;
		}
		append(&ensemble->roots, root);
	}
}

/* ---- the operator ---- */

static void
node_ints(OnnxGraph *graph, const char *name, const Numbers *numbers)
{
	int64	   *values = palloc_extended(sizeof(int64) * Max(numbers->count, 1),
										 MCXT_ALLOC_HUGE);

	for (int64 i = 0; i < numbers->count; i++)
		values[i] = (int64) numbers->values[i];
	onnx_node_ints(graph, name, values, numbers->count);
	pfree(values);
}

static void
node_tensor(OnnxGraph *graph, const char *name, int type,
			const Numbers *numbers)
{
	onnx_node_tensor(graph, name, type, numbers->values, numbers->count);
}

static int
aggregate_of(const ModelTrees *trees)
{
	return trees->aggregate == MODEL_TREES_MINIMUM ? 2 :
		trees->aggregate == MODEL_TREES_MAXIMUM ? 3 : 1;
}

static char *
write_ensemble(OnnxGraph *graph, const Ensemble *ensemble, char *input,
			   int type)
{
	Numbers		targets = {0};

	for (int64 i = 0; i < ensemble->weights.count; i++)
		append(&targets, 0);
	onnx_begin_node(graph, "TreeEnsemble", true);
	onnx_node_input(graph, input);
	onnx_node_int(graph, "n_targets", 1);
	onnx_node_int(graph, "aggregate_function", aggregate_of(ensemble->trees));
	onnx_node_int(graph, "post_transform", 0);
	node_ints(graph, "tree_roots", &ensemble->roots);
	node_ints(graph, "nodes_featureids", &ensemble->features);
	node_tensor(graph, "nodes_modes", ONNX_UINT8, &ensemble->modes);
	node_tensor(graph, "nodes_splits", type, &ensemble->splits);
	node_ints(graph, "nodes_truenodeids", &ensemble->children[0]);
	node_ints(graph, "nodes_falsenodeids", &ensemble->children[1]);
	node_ints(graph, "nodes_trueleafs", &ensemble->are_leaves[0]);
	node_ints(graph, "nodes_falseleafs", &ensemble->are_leaves[1]);
	node_ints(graph, "nodes_missing_value_tracks_true", &ensemble->missing);
	node_ints(graph, "leaf_targetids", &targets);
	node_tensor(graph, "leaf_weights", type, &ensemble->weights);
	if (ensemble->members.count > 0)
		node_tensor(graph, "membership_values", type, &ensemble->members);
	graph->new_trees = true;
	return onnx_end_node(graph);
}

/* An operator of the constants, or of one slot's coefficients. */
static Ensemble *
make_ensemble(Columns *columns, const ModelTrees *trees, uint32 output,
			  uint32 factor)
{
	Ensemble   *ensemble = palloc0(sizeof(Ensemble));

	ensemble->columns = columns;
	ensemble->image = columns->graph->image;
	ensemble->trees = trees;
	ensemble->output = output;
	ensemble->factor = factor;
	add_trees(ensemble);
	return ensemble;
}

/* Adds coefficient * x, which is nothing where the coefficient is 0. */
static char *
add_product(OnnxGraph *graph, char *sum, char *coefficient, uint32 slot)
{
	char	   *product = onnx_simple(graph, "Mul", coefficient,
									  onnx_operand(graph, slot, 1), NULL);
	char	   *nothing = onnx_number(graph, 0);

	product = onnx_simple(graph, "Where",
						  onnx_simple(graph, "Equal", coefficient, nothing, NULL),
						  nothing, product);
	return onnx_simple(graph, "Add", sum, product, NULL);
}

/* The slots with a coefficient, each once. */
static uint32 *
find_factors(const ModelImage *image, const ModelTrees *trees, int *count)
{
	bool	   *seen = palloc0(image->slot_count);
	uint32	   *factors = palloc_extended(sizeof(uint32) *
										  Max(trees->coefficient_count, 1),
										  MCXT_ALLOC_HUGE);
	const ModelCoefficient *coefficients = MODEL_AT(image, ModelCoefficient,
													trees->coefficients);

	*count = 0;
	if (!(trees->flags & MODEL_TREES_LINEAR))
		return factors;
	for (uint32 i = 0; i < trees->coefficient_count; i++)
		if (!seen[coefficients[i].slot])
		{
			seen[coefficients[i].slot] = true;
			factors[(*count)++] = coefficients[i].slot;
		}
	return factors;
}

/* The sums of the trees as the slots' columns. */
void
onnx_export_ensemble(OnnxGraph *graph, const ModelTrees *trees, uint32 out)
{
	int			factor_count;
	uint32	   *factors = find_factors(graph->image, trees, &factor_count);
	bool		single = (trees->flags & MODEL_TREES_FLOAT32) &&
	factor_count == 0;
	int			type = single ? ONNX_FLOAT : ONNX_DOUBLE;
	int			parts = factor_count + 1;
	Ensemble  **ensembles = palloc(sizeof(Ensemble *) * parts *
								   trees->output_count);
	Columns		columns;
	char	   *input;

	begin_columns(graph, &columns);
	for (uint32 i = 0; i < trees->output_count; i++)
		for (int j = 0; j < parts; j++)
			ensembles[i * parts + j] =
				make_ensemble(&columns, trees, i,
							  j == 0 ? MODEL_NONE : factors[j - 1]);
	input = join_columns(graph, &columns);
	if (single)
		input = onnx_cast(graph, input, ONNX_FLOAT);
	for (uint32 i = 0; i < trees->output_count; i++)
	{
		char	   *sum = write_ensemble(graph, ensembles[i * parts], input, type);

		if (single)
			sum = onnx_cast(graph, sum, ONNX_DOUBLE);
		for (int j = 1; j < parts; j++)
			if (ensembles[i * parts + j]->roots.count > 0)
				sum = add_product(graph, sum,
								  write_ensemble(graph, ensembles[i * parts + j], input, type),
								  factors[j - 1]);
		onnx_set_columns(graph, out + i, sum, 1);
	}
}

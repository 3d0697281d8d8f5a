/*-------------------------------------------------------------------------
 *
 * import_onnx_ensemble.c
 *		The attributes of the tree operators as nodes, leaves and roots.
 *
 * TreeEnsembleClassifier and TreeEnsembleRegressor name a node by its tree
 * and its number in it; TreeEnsemble by its place in the lists, and has
 * leaves apart.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "miscadmin.h"
#include "model/import_onnx_trees.h"

/* Members of a set are below it. */
#define MAX_MEMBER 65536

/* ---- lists ---- */

static const int64 *
int_list(const OnnxImport *import, const char *name, int count)
{
	const OnnxAttribute *attribute = onnx_attribute(import, name,
													ONNX_ATTRIBUTE_INTS);

	if (attribute == NULL && count == 0)
		return NULL;
	if (attribute == NULL || attribute->count != count)
		onnx_invalid(import, "attribute \"%s\" does not have %d elements",
					 name, count);
	return attribute->ints;
}

/* A list of floats, or the tensor of doubles that may stand for it. */
static const double *
number_list(const OnnxImport *import, const char *name, const char *tensor,
			int *count)
{
	const OnnxAttribute *attribute = onnx_attribute(import, tensor,
													ONNX_ATTRIBUTE_TENSOR);

	if (attribute != NULL && attribute->t->numbers != NULL)
	{
		*count = attribute->t->count;
		return attribute->t->numbers;
	}
	attribute = name == NULL ? NULL :
		onnx_attribute(import, name, ONNX_ATTRIBUTE_FLOATS);
	*count = attribute == NULL ? 0 : attribute->count;
	return attribute == NULL ? NULL : attribute->floats;
}

static const double *
number_list_of(const OnnxImport *import, const char *name,
			   const char *tensor, int count)
{
	int			found;
	const double *numbers = number_list(import, name, tensor, &found);

	if (found != count)
		onnx_invalid(import, "attribute \"%s\" has %d elements, not %d",
					 name ? name : tensor, found, count);
	return numbers;
}

static int
check_index(const OnnxImport *import, const char *what, int64 index,
			int count)
{
	if (index < 0 || index >= count)
		onnx_invalid(import, "%s " INT64_FORMAT " does not exist", what,
					 index);
	return (int) index;
}

/* ---- what both forms have ---- */

/* Settles the totals once all nodes and weights are known. */
static void
describe_tree(const OnnxImport *import, const OnnxEnsemble *ensemble,
			  OnnxTree *tree)
{
	int			allocated = 64;
	int			count = 1;
	int		   *stack = palloc(sizeof(int) * allocated);
	int64		visited = 0;
	int			only = -1;
	bool		several = false;

	tree->full = palloc(sizeof(bool) * ensemble->outputs);
	memset(tree->full, true, sizeof(bool) * ensemble->outputs);
	stack[0] = tree->root;
	while (count > 0)
	{
		const OnnxTreeNode *node = &ensemble->nodes[stack[--count]];
		bool	   *given;

		if (++visited > ensemble->node_count)
			onnx_invalid(import, "a tree leads back into itself");
		if (node->test != PROGRAM_LEAF)
		{
			if (count + 2 > allocated)
				stack = repalloc_huge(stack, sizeof(int) * (allocated *= 2));
			stack[count++] = node->yes;
			stack[count++] = node->no;
			continue;
		}
		given = palloc0(sizeof(bool) * ensemble->outputs);
		for (int i = 0; i < node->weight_count; i++)
		{
			int			output = ensemble->weights[node->first_weight + i].output;

			if (given[output])
				onnx_refuse(import, "a leaf with two weights for one output");
			given[output] = true;
			several |= only >= 0 && only != output;
			only = output;
		}
		for (int i = 0; i < ensemble->outputs; i++)
			tree->full[i] &= given[i];
		pfree(given);
	}
	pfree(stack);
	tree->output = several ? -1 : Max(only, 0);
}

static void
describe_trees(const OnnxImport *import, OnnxEnsemble *ensemble)
{
	ensemble->weighted = palloc0(sizeof(bool) * ensemble->outputs);
	ensemble->all_positive = true;
	for (int i = 0; i < ensemble->weight_count; i++)
	{
		ensemble->weighted[ensemble->weights[i].output] = true;
		ensemble->all_positive &= !(ensemble->weights[i].value < 0);
	}
	for (int i = 0; i < ensemble->tree_count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		describe_tree(import, ensemble, &ensemble->trees[i]);
		if (ensemble->aggregate == MODEL_TREES_SUM)
			continue;
		for (int j = 0; j < ensemble->outputs; j++)
			if (!ensemble->trees[i].full[j] &&
				(ensemble->trees[i].output < 0 ||
				 ensemble->trees[i].output == j))
				onnx_refuse(import, "MIN or MAX over leaves without weights");
	}
	if (ensemble->tree_count == 0)
		onnx_refuse(import, "an ensemble without trees");
}

static void
read_base(const OnnxImport *import, OnnxEnsemble *ensemble)
{
	const double *base = number_list(import, "base_values",
									 "base_values_as_tensor",
									 &ensemble->base_count);

	ensemble->base = palloc0(sizeof(double) * ensemble->outputs);
	for (int i = 0; i < Min(ensemble->base_count, ensemble->outputs); i++)
		ensemble->base[i] = base[i];
}

static void
read_aggregate(const OnnxImport *import, const char *name,
			   OnnxEnsemble *ensemble)
{
	if (strcmp(name, "MIN") == 0)
		ensemble->aggregate = MODEL_TREES_MINIMUM;
	else if (strcmp(name, "MAX") == 0)
		ensemble->aggregate = MODEL_TREES_MAXIMUM;
	else if (strcmp(name, "AVERAGE") == 0)
		ensemble->average = true;
	else if (strcmp(name, "SUM") != 0)
		onnx_invalid(import, "aggregate_function \"%s\" does not exist", name);
}

/* ---- TreeEnsembleClassifier and TreeEnsembleRegressor ---- */

/* A node's name, with its place. */
typedef struct NodeName
{
	int64		tree;
	int64		node;
	int			place;
} NodeName;

static int
by_name(const void *a, const void *b)
{
	const NodeName *left = a;
	const NodeName *right = b;

	if (left->tree != right->tree)
		return left->tree < right->tree ? -1 : 1;
	if (left->node != right->node)
		return left->node < right->node ? -1 : 1;
	return 0;
}

static int
find_node(const OnnxImport *import, const NodeName *names, int count,
		  int64 tree, int64 node)
{
	NodeName	wanted = {tree, node, 0};
	const NodeName *found = bsearch(&wanted, names, count, sizeof(NodeName),
									by_name);

	if (found == NULL)
		onnx_invalid(import, "node " INT64_FORMAT " of tree " INT64_FORMAT " does not exist",
					 node, tree);
	return found->place;
}

/* The test that a mode's name stands for. */
static ProgramTest
test_of(const OnnxImport *import, const char *mode)
{
	static const struct
	{
		const char *name;
		ProgramTest test;
	}			modes[] = {
		{"LEAF", PROGRAM_LEAF}, {"BRANCH_LEQ", PROGRAM_AT_MOST},
		{"BRANCH_LT", PROGRAM_BELOW}, {"BRANCH_GTE", PROGRAM_AT_LEAST},
		{"BRANCH_GT", PROGRAM_ABOVE}, {"BRANCH_EQ", PROGRAM_EQUAL},
		{"BRANCH_NEQ", PROGRAM_NOT_EQUAL}
	};

	for (int i = 0; i < lengthof(modes); i++)
		if (strcmp(modes[i].name, mode) == 0)
			return modes[i].test;
	onnx_refuse(import, "node mode \"%s\"", mode);
}

/* The names of all nodes, sorted. */
static NodeName *
sort_names(const OnnxImport *import, const int64 *trees, const int64 *nodes,
		   int count)
{
	NodeName   *names = palloc_extended(sizeof(NodeName) * Max(count, 1),
										MCXT_ALLOC_HUGE);

	for (int i = 0; i < count; i++)
	{
		names[i].tree = trees[i];
		names[i].node = nodes[i];
		names[i].place = i;
	}
	qsort(names, count, sizeof(NodeName), by_name);
	for (int i = 1; i < count; i++)
		if (by_name(&names[i - 1], &names[i]) == 0)
			onnx_invalid(import, "node " INT64_FORMAT " of tree " INT64_FORMAT " is there twice",
						 names[i].node, names[i].tree);
	return names;
}

/* The nodes; children point to them by place. */
static NodeName *
read_named_nodes(const OnnxImport *import, const OnnxValue *input,
				 OnnxEnsemble *ensemble)
{
	const OnnxAttribute *modes = onnx_attribute(import, "nodes_modes",
												ONNX_ATTRIBUTE_STRINGS);
	int			count = modes == NULL ? 0 : modes->count;
	const int64 *trees = int_list(import, "nodes_treeids", count);
	const int64 *numbers = int_list(import, "nodes_nodeids", count);
	const int64 *features = int_list(import, "nodes_featureids", count);
	const int64 *yes = int_list(import, "nodes_truenodeids", count);
	const int64 *no = int_list(import, "nodes_falsenodeids", count);
	const double *values = number_list_of(import, "nodes_values",
										  "nodes_values_as_tensor", count);
	const OnnxAttribute *missing = onnx_attribute(import, "nodes_missing_value_tracks_true", ONNX_ATTRIBUTE_INTS);
	NodeName   *names = sort_names(import, trees, numbers, count);

	if (missing != NULL && missing->count == 0)
		missing = NULL;
	if (missing != NULL && missing->count != count)
		onnx_invalid(import, "attribute \"%s\" does not have %d elements",
					 "nodes_missing_value_tracks_true", count);
	ensemble->node_count = count;
	ensemble->nodes = palloc_extended(sizeof(OnnxTreeNode) * Max(count, 1),
									  MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	for (int i = 0; i < count; i++)
	{
		OnnxTreeNode *node = &ensemble->nodes[i];

		CHECK_FOR_INTERRUPTS();
		node->test = test_of(import, modes->strings[i]);
		if (node->test == PROGRAM_LEAF)
			continue;
		node->feature = check_index(import, "feature", features[i],
									input->width);
		node->value = values[i];
		node->missing_yes = missing != NULL && missing->ints[i] == 1;
		node->yes = find_node(import, names, count, trees[i], yes[i]);
		node->no = find_node(import, names, count, trees[i], no[i]);
	}
	return names;
}

/* The roots: nodes that are nobody's children, one a tree, in file order. */
static void
find_roots(const OnnxImport *import, OnnxEnsemble *ensemble)
{
	int			count = ensemble->node_count;
	const int64 *trees = int_list(import, "nodes_treeids", count);
	bool	   *child = palloc_extended(Max(count, 1) * sizeof(bool),
										MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	int64		last = 0;

	for (int i = 0; i < count; i++)
		if (ensemble->nodes[i].test != PROGRAM_LEAF)
		{
			if (child[ensemble->nodes[i].yes] || child[ensemble->nodes[i].no] ||
				ensemble->nodes[i].yes == ensemble->nodes[i].no)
				onnx_invalid(import, "a node of tree " INT64_FORMAT " has two parents",
							 trees[i]);
			child[ensemble->nodes[i].yes] = true;
			child[ensemble->nodes[i].no] = true;
		}
	ensemble->trees = palloc_extended(sizeof(OnnxTree) * Max(count, 1),
									  MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	for (int i = 0; i < count; i++)
	{
		if (child[i])
			continue;
		if (ensemble->tree_count > 0 && trees[i] == last)
			onnx_invalid(import, "tree " INT64_FORMAT " has two roots", last);
		last = trees[i];
		ensemble->trees[ensemble->tree_count++].root = i;
	}
}

static int
by_place(const void *a, const void *b)
{
	const int  *left = a;
	const int  *right = b;

	if (left[0] != right[0])
		return left[0] < right[0] ? -1 : 1;
	return left[1] < right[1] ? -1 : 1;
}

/* The weights, those of a leaf side by side. */
static void
read_named_weights(const OnnxImport *import, const char *prefix,
				   const NodeName *names, OnnxEnsemble *ensemble)
{
	char	   *weights_name = psprintf("%s_weights", prefix);
	int			count;
	const double *values = number_list(import, weights_name,
									   psprintf("%s_as_tensor", weights_name),
									   &count);
	const int64 *outputs = int_list(import, psprintf("%s_ids", prefix), count);
	const int64 *trees = int_list(import, psprintf("%s_treeids", prefix), count);
	const int64 *nodes = int_list(import, psprintf("%s_nodeids", prefix), count);
	int			(*order)[2] = palloc_extended(sizeof(int[2]) * Max(count, 1),
											  MCXT_ALLOC_HUGE);

	for (int i = 0; i < count; i++)
	{
		order[i][0] = find_node(import, names, ensemble->node_count,
								trees[i], nodes[i]);
		order[i][1] = i;
	}
	qsort(order, count, sizeof(int[2]), by_place);
	ensemble->weight_count = count;
	ensemble->weights = palloc_extended(sizeof(OnnxWeight) * Max(count, 1),
										MCXT_ALLOC_HUGE);
	for (int i = 0; i < count; i++)
	{
		OnnxTreeNode *node = &ensemble->nodes[order[i][0]];

		if (node->test != PROGRAM_LEAF)
			onnx_refuse(import, "a weight of a node that is no leaf");
		if (node->weight_count++ == 0)
			node->first_weight = i;
		ensemble->weights[i].output = check_index(import, "output",
												  outputs[order[i][1]],
												  ensemble->outputs);
		ensemble->weights[i].value = values[order[i][1]];
		if (!isfinite(ensemble->weights[i].value))
			onnx_invalid(import, "a weight is not finite");
	}
}

/* How many classes have labels. */
static int
label_count(const OnnxImport *import)
{
	const OnnxAttribute *texts = onnx_attribute(import, "classlabels_strings",
												ONNX_ATTRIBUTE_STRINGS);
	const OnnxAttribute *numbers = onnx_attribute(import, "classlabels_int64s",
												  ONNX_ATTRIBUTE_INTS);

	return texts != NULL && texts->count > 0 ? texts->count :
		numbers != NULL ? numbers->count : 0;
}

static void
read_named(OnnxImport *import, const OnnxValue *input, bool classes,
		   OnnxEnsemble *ensemble)
{
	NodeName   *names;
	int64		outputs = classes ? label_count(import) :
	onnx_int(import, "n_targets", 1);

	if (outputs < 1 || outputs > MODEL_MAX_SLOTS)
		onnx_invalid(import, INT64_FORMAT " outputs", outputs);
	ensemble->outputs = (int) outputs;
	if (!classes)
		read_aggregate(import, onnx_string(import, "aggregate_function", "SUM"),
					   ensemble);
	read_base(import, ensemble);
	names = read_named_nodes(import, input, ensemble);
	find_roots(import, ensemble);
	read_named_weights(import, classes ? "class" : "target", names, ensemble);
	pfree(names);
}

/* ---- TreeEnsemble ---- */

/* The set of the next MEMBER node: its numbers end with NaN. */
static void
read_members(const OnnxImport *import, OnnxTreeNode *node,
			 const double *members, int count, int *at)
{
	int			from = *at;
	int			words = 1;

	while (*at < count && !isnan(members[*at]))
	{
		double		member = members[(*at)++];

		if (!(member >= 0 && member < MAX_MEMBER) || member != floor(member))
			onnx_refuse(import, "a member %g of a set", member);
		words = Max(words, (int) member / 32 + 1);
	}
	node->set = palloc0(sizeof(uint32) * words);
	node->set_words = words;
	for (int i = from; i < *at; i++)
		node->set[(int) members[i] / 32] |= (uint32) 1 << ((int) members[i] % 32);
	if (*at < count)
		(*at)++;
}

/* Adds leaf nodes behind the others; each has one weight. */
static void
read_placed_leaves(const OnnxImport *import, int inner,
				   OnnxEnsemble *ensemble)
{
	const int64 *targets = int_list(import, "leaf_targetids",
									ensemble->weight_count);
	const double *weights = number_list_of(import, NULL, "leaf_weights",
										   ensemble->weight_count);

	ensemble->weights = palloc_extended(sizeof(OnnxWeight) *
										Max(ensemble->weight_count, 1),
										MCXT_ALLOC_HUGE);
	for (int i = 0; i < ensemble->weight_count; i++)
	{
		OnnxTreeNode *node = &ensemble->nodes[inner + i];

		node->test = PROGRAM_LEAF;
		node->first_weight = i;
		node->weight_count = 1;
		ensemble->weights[i].output = check_index(import, "target",
												  targets[i],
												  ensemble->outputs);
		ensemble->weights[i].value = weights[i];
		if (!isfinite(weights[i]))
			onnx_invalid(import, "a weight is not finite");
	}
}

/* A child: a node, or a leaf behind the nodes; it has no other parent. */
static int
placed_child(const OnnxImport *import, int64 id, int64 leaf, int inner,
			 int leaves, bool *taken)
{
	int			child = leaf ? inner + check_index(import, "leaf", id, leaves) :
	check_index(import, "node", id, inner);

	if (taken[child])
		onnx_refuse(import, "a %s with two parents", leaf ? "leaf" : "node");
	taken[child] = true;
	return child;
}

static void
read_placed_nodes(const OnnxImport *import, const OnnxValue *input,
				  const OnnxTensor *modes, OnnxEnsemble *ensemble)
{
	static const ProgramTest tests[] = {PROGRAM_AT_MOST, PROGRAM_BELOW,
		PROGRAM_AT_LEAST, PROGRAM_ABOVE, PROGRAM_EQUAL, PROGRAM_NOT_EQUAL,
	PROGRAM_IN};
	int			count = modes->count;
	const int64 *features = int_list(import, "nodes_featureids", count);
	const double *splits = number_list_of(import, NULL, "nodes_splits", count);
	const int64 *yes = int_list(import, "nodes_truenodeids", count);
	const int64 *no = int_list(import, "nodes_falsenodeids", count);
	const int64 *yes_leaf = int_list(import, "nodes_trueleafs", count);
	const int64 *no_leaf = int_list(import, "nodes_falseleafs", count);
	const OnnxAttribute *missing = onnx_attribute(import, "nodes_missing_value_tracks_true", ONNX_ATTRIBUTE_INTS);
	int			member_count;
	const double *members = number_list(import, NULL, "membership_values",
										&member_count);
	bool	   *taken = palloc_extended(Max(ensemble->node_count, 1),
										MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	int			at = 0;

	if (missing != NULL && missing->count != 0 && missing->count != count)
		onnx_invalid(import, "attribute \"%s\" does not have %d elements",
					 "nodes_missing_value_tracks_true", count);
	for (int i = 0; i < count; i++)
	{
		OnnxTreeNode *node = &ensemble->nodes[i];

		CHECK_FOR_INTERRUPTS();
		if (modes->integers[i] < 0 || modes->integers[i] >= lengthof(tests))
			onnx_invalid(import, "node mode " INT64_FORMAT " does not exist",
						 modes->integers[i]);
		node->test = tests[modes->integers[i]];
		node->feature = check_index(import, "feature", features[i],
									input->width);
		node->value = splits[i];
		node->missing_yes = missing != NULL && missing->count > 0 &&
			missing->ints[i] == 1;
		if (node->test == PROGRAM_IN)
			read_members(import, node, members, member_count, &at);
		node->yes = placed_child(import, yes[i], yes_leaf[i], count,
								 ensemble->weight_count, taken);
		node->no = placed_child(import, no[i], no_leaf[i], count,
								ensemble->weight_count, taken);
	}
}

static void
read_placed(OnnxImport *import, const OnnxValue *input,
			OnnxEnsemble *ensemble)
{
	static const char *const aggregates[] = {"AVERAGE", "SUM", "MIN", "MAX"};
	const OnnxAttribute *modes = onnx_attribute(import, "nodes_modes",
												ONNX_ATTRIBUTE_TENSOR);
	const OnnxAttribute *roots = onnx_attribute(import, "tree_roots",
												ONNX_ATTRIBUTE_INTS);
	const OnnxAttribute *weights = onnx_attribute(import, "leaf_weights",
												  ONNX_ATTRIBUTE_TENSOR);
	int64		aggregate = onnx_int(import, "aggregate_function", 1);
	int64		outputs = onnx_int(import, "n_targets", 1);

	if (modes == NULL || modes->t->integers == NULL || roots == NULL ||
		weights == NULL)
		onnx_invalid(import, "nodes, roots or leaves are missing");
	if (aggregate < 0 || aggregate >= lengthof(aggregates))
		onnx_invalid(import, "aggregate_function " INT64_FORMAT " does not exist",
					 aggregate);
	if (outputs < 1 || outputs > MODEL_MAX_SLOTS)
		onnx_invalid(import, INT64_FORMAT " outputs", outputs);
	ensemble->outputs = (int) outputs;
	read_aggregate(import, aggregates[aggregate], ensemble);
	ensemble->base = palloc0(sizeof(double) * ensemble->outputs);
	ensemble->weight_count = weights->t->count;
	ensemble->node_count = modes->t->count + weights->t->count;
	ensemble->nodes = palloc_extended(sizeof(OnnxTreeNode) *
									  Max(ensemble->node_count, 1),
									  MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	read_placed_nodes(import, input, modes->t, ensemble);
	read_placed_leaves(import, modes->t->count, ensemble);
	ensemble->tree_count = roots->count;
	ensemble->trees = palloc0(sizeof(OnnxTree) * Max(roots->count, 1));
	for (int i = 0; i < roots->count; i++)
		ensemble->trees[i].root = check_index(import, "root", roots->ints[i],
											  modes->t->count);
}

/* Reads the ensemble of the current node. */
void
onnx_read_ensemble(OnnxImport *import, const OnnxValue *input, bool classes,
				   OnnxEnsemble *ensemble)
{
	OnnxNode   *node = (OnnxNode *) import->node;

	if (node->ensemble != NULL)
	{
		*ensemble = *node->ensemble;
		return;
	}
	memset(ensemble, 0, sizeof(*ensemble));
	ensemble->float32 = input->type != ONNX_DOUBLE;
	if (strcmp(import->node->op_type, "TreeEnsemble") == 0)
		read_placed(import, input, ensemble);
	else
		read_named(import, input, classes, ensemble);
	describe_trees(import, ensemble);
	node->ensemble = palloc(sizeof(OnnxEnsemble));
	*node->ensemble = *ensemble;
}

/*-------------------------------------------------------------------------
 *
 * import_onnx_trees.c
 *		TreeEnsembleClassifier, TreeEnsembleRegressor and TreeEnsemble.
 *
 * The operators' attributes are parallel lists.  They are read into one form
 * (nodes that know their children, leaves that know their weights, roots),
 * and that is written into the program.  What follows the sums, and which
 * class is chosen, is as onnxruntime does it: the specification is silent
 * about classifiers of two classes whose leaves have the weight of one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "miscadmin.h"
#include "model/import_onnx.h"
#include "model/import_onnx_trees.h"
#include "utils/memutils.h"

/* ---- into the program ---- */

/* Does each leaf of some tree give this output a weight? */
static bool
always_scored(const OnnxEnsemble *ensemble, int output)
{
	for (int i = 0; i < ensemble->tree_count; i++)
		if (ensemble->trees[i].full[output])
			return true;
	return false;
}

/* One node as the program wants it; children are renumbered by the caller. */
static void
fill_node(const OnnxEnsemble *ensemble, const OnnxValue *input,
		  const OnnxTreeNode *node, ProgramNode *result)
{
	ProgramNode initial = PROGRAM_NODE_INIT;

	*result = initial;
	result->test = node->test;
	if (node->test == PROGRAM_LEAF)
		return;
	result->slot = input->slots[node->feature];
	result->threshold = node->value;
	result->missing_yes = node->missing_yes ||
		node->test == PROGRAM_NOT_EQUAL;
	result->set = node->set;
	result->set_words = node->set_words;
	result->set_exact = true;
}

/* The weights of a leaf: all outputs, or that of the tree's one output. */
static void
fill_leaf(const OnnxEnsemble *ensemble, const OnnxTree *tree,
		  const OnnxTreeNode *node, ProgramNode *result)
{
	double	   *values;

	if (tree->output >= 0)
	{
		if (node->weight_count > 0)
			result->value = ensemble->weights[node->first_weight].value;
		return;
	}
	values = palloc0(sizeof(double) * ensemble->outputs);
	for (int i = 0; i < node->weight_count; i++)
	{
		const OnnxWeight *weight =
		&ensemble->weights[node->first_weight + i];

		values[weight->output] = weight->value;
	}
	result->values = values;
}

/*
 * Adds one tree, its nodes renumbered in the order in which they are met.
 * A node met twice is a cycle, or belongs to two parents.
 */
static void
add_tree(OnnxImport *import, const OnnxEnsemble *ensemble,
		 const OnnxTree *tree, const OnnxValue *input, ProgramTrees *trees)
{
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext,
												  "visage tree",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(scratch);
	int			allocated = 64;
	int			count = 1;
	int		   *order = palloc(sizeof(int) * allocated);
	ProgramNode *nodes = palloc(sizeof(ProgramNode) * allocated);

	order[0] = tree->root;
	for (int i = 0; i < count; i++)
	{
		const OnnxTreeNode *node = &ensemble->nodes[order[i]];

		CHECK_FOR_INTERRUPTS();
		if (count > ensemble->node_count)
			onnx_invalid(import, "a tree leads back into itself");
		if (count + 2 > allocated)
		{
			allocated *= 2;
			order = repalloc_huge(order, sizeof(int) * allocated);
			nodes = repalloc_huge(nodes, sizeof(ProgramNode) * allocated);
		}
		fill_node(ensemble, input, node, &nodes[i]);
		if (node->test == PROGRAM_LEAF)
		{
			fill_leaf(ensemble, tree, node, &nodes[i]);
			continue;
		}
		nodes[i].yes = count;
		order[count++] = node->yes;
		nodes[i].no = count;
		order[count++] = node->no;
	}
	program_add_tree(trees, tree->output, nodes, count);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(scratch);
}

/* The first slot of the sums of the trees, with their base values. */
static int
add_ensemble(OnnxImport *import, const OnnxEnsemble *ensemble,
			 OnnxValue *input)
{
	ProgramTrees *trees;
	double	   *zeros = palloc0(sizeof(double) * ensemble->outputs);

	if (import->collecting)
		return program_fill(import->program, zeros, ensemble->outputs);
	if (onnx_is_integer(input->type))
		onnx_set_run(input, program_unary(import->program, MODEL_COPY,
										  onnx_run(import, input),
										  input->width, true));
	trees = program_create_trees(import->program, ensemble->outputs,
								 ensemble->float32);
	program_trees_base(trees, ensemble->base, true);
	program_trees_aggregate(trees, ensemble->aggregate);
	if (ensemble->average)
		program_trees_divisor(trees, ensemble->tree_count);
	for (int i = 0; i < ensemble->tree_count; i++)
		add_tree(import, ensemble, &ensemble->trees[i], input, trees);
	return program_add_trees(import->program, trees);
}

/* ---- links ---- */

/* 1 / (1 + exp(-x)), computed as onnxruntime does in float32. */
static int
logistic(OnnxImport *import, int a, int count)
{
	ModelProgram *program = import->program;
	double		one = 1;
	double		zero = 0;
	int			positive;
	int			negative;
	ProgramStep step = {.op = MODEL_WHERE,.count = count,.float32 = true};

	positive = program_unary(program, MODEL_ABS, a, count, true);
	positive = program_unary(program, MODEL_NEGATE, positive, count, true);
	positive = program_unary(program, MODEL_EXP, positive, count, true);
	positive = program_constant(program, MODEL_ADD, positive, count, &one, 1,
								true);
	positive = program_unary(program, MODEL_RECIPROCAL, positive, count, true);
	negative = program_unary(program, MODEL_NEGATE, positive, count, true);
	negative = program_constant(program, MODEL_ADD, negative, count, &one, 1,
								true);
	step.a = program_constant(program, MODEL_LESS, a, count, &zero, 1, false);
	step.b = negative;
	step.c = positive;
	return program_add_step(program, &step);
}

/* Which link the node asks for; ERROR for those that are not known. */
static OnnxLink
link_of(OnnxImport *import)
{
	static const char *const names[] = {"NONE", "SOFTMAX", "LOGISTIC",
	"SOFTMAX_ZERO", "PROBIT"};
	const char *name;
	int			link = 0;

	if (strcmp(import->node->op_type, "TreeEnsemble") == 0)
	{
		int64		number = onnx_int(import, "post_transform", 0);

		if (number < 0 || number >= lengthof(names))
			onnx_invalid(import, "post_transform " INT64_FORMAT " does not exist",
						 number);
		link = (int) number;
		name = names[link];
	}
	else
	{
		name = onnx_string(import, "post_transform", "NONE");
		while (link < lengthof(names) && strcmp(names[link], name) != 0)
			link++;
	}
	if (link >= lengthof(names))
		onnx_invalid(import, "post_transform \"%s\" does not exist", name);
	if (link > ONNX_LINK_LOGISTIC)
		onnx_refuse(import, "post_transform %s", name);
	return (OnnxLink) link;
}

/* The scores of two and more outputs after the node's link. */
int
onnx_link(OnnxImport *import, int first, int count)
{
	switch (link_of(import))
	{
		case ONNX_LINK_LOGISTIC:
			return logistic(import, first, count);
		case ONNX_LINK_SOFTMAX:
			return program_unary(import->program, MODEL_SOFTMAX, first, count,
								 true);
		default:
			return first;
	}
}

/*
 * One sum after the node's link.  Regressions give one number (classes -1);
 * two classes of which only one has weights give two: by complement, if it
 * is a share of votes (1), or both signs through the link (2).
 */
int
onnx_link_one(OnnxImport *import, int slot, int classes)
{
	OnnxLink	link = link_of(import);
	int			both[2];

	if (classes < 0 && link != ONNX_LINK_NONE)
		onnx_refuse(import, "a link after one number (post_transform)");
	if (classes < 0)
		return slot;
	if (classes == 1)
		return program_complement(import->program, slot, true);
	both[0] = program_unary(import->program, MODEL_NEGATE, slot, 1, true);
	both[1] = slot;
	both[0] = program_move(import->program, both, 2);
	return link == ONNX_LINK_LOGISTIC ?
		logistic(import, both[0], 2) : both[0];
}

/* ---- the operators ---- */

/* ERROR unless onnxruntime's choice of the class is the largest score. */
static void
check_choice(OnnxImport *import, const OnnxEnsemble *ensemble)
{
	if (ensemble->all_positive || ensemble->base_count == ensemble->outputs)
		return;
	for (int i = 0; i < ensemble->outputs; i++)
		if (!always_scored(ensemble, i))
			onnx_refuse(import, "a leaf without a weight for class %d", i);
}

/* Classes whose leaves have weights of their own. */
static void
many_classes(OnnxImport *import, const OnnxEnsemble *ensemble,
			 OnnxValue *input)
{
	int			count = ensemble->outputs;
	int			first = add_ensemble(import, ensemble, input);
	double		zero = 0;
	int			choice;
	OnnxValue  *scores;

	if (ensemble->base_count != 0 && ensemble->base_count != count)
		onnx_refuse(import, "%d base values for %d classes",
					ensemble->base_count, count);
	if (count > 2)
	{
		check_choice(import, ensemble);
		choice = program_unary(import->program, MODEL_ARGMAX, first, count,
							   false);
	}
	else
	{
		if (ensemble->base_count > 0 || !always_scored(ensemble, 1))
			onnx_refuse(import, "two classes with weights of their own and base values, or leaves without them");
		choice = program_constant(import->program, MODEL_GREATER, first + 1,
								  1, &zero, 1, false);
	}
	onnx_set_labels(import, onnx_output(import, 0, ONNX_INT64),
					"classlabels_strings", "classlabels_int64s", count,
					choice);
	scores = onnx_result_of_rows(import, 1, ONNX_FLOAT, count);
	scores->raw = count == 2 ? first + 1 : first;
	scores->raw_count = count == 2 ? 1 : count;
	if (!ensemble->float32)
		first = program_unary(import->program, MODEL_COPY, first, count,
							  link_of(import) != ONNX_LINK_SOFTMAX);
	onnx_set_run(scores, onnx_link(import, first, count));
}

/* Two classes whose leaves have the weight of one of them. */
static void
one_of_two_classes(OnnxImport *import, const OnnxEnsemble *ensemble,
				   OnnxValue *input)
{
	double		limit = ensemble->all_positive ? 0.5 : 0;
	int			raw = add_ensemble(import, ensemble, input);
	int			sum = raw;
	int			choice;
	OnnxValue  *scores;

	choice = program_constant(import->program, MODEL_GREATER, sum, 1, &limit,
							  1, false);
	onnx_set_labels(import, onnx_output(import, 0, ONNX_INT64),
					"classlabels_strings", "classlabels_int64s", 2, choice);
	scores = onnx_result_of_rows(import, 1, ONNX_FLOAT, 2);
	scores->raw = raw;
	scores->raw_count = 1;
	if (!ensemble->float32 && ensemble->all_positive)
	{
		sum = program_complement(import->program, sum, false);
		onnx_set_run(scores, program_unary(import->program, MODEL_COPY, sum,
										   2, true));
		return;
	}
	if (!ensemble->float32)
		sum = program_unary(import->program, MODEL_COPY, sum, 1, true);
	onnx_set_run(scores, onnx_link_one(import, sum,
									   ensemble->all_positive ? 1 : 2));
}

static void
op_classifier(OnnxImport *import, const OnnxNode *node)
{
	OnnxValue  *input = onnx_input(import, 0);
	OnnxEnsemble ensemble;

	onnx_require_rows(import, input);
	onnx_require_number(import, input);
	onnx_read_ensemble(import, input, true, &ensemble);
	if (ensemble.outputs < 2)
		onnx_refuse(import, "a classifier of %d classes", ensemble.outputs);
	if (ensemble.outputs > 2 || ensemble.weighted[0] == ensemble.weighted[1])
	{
		many_classes(import, &ensemble, input);
		return;
	}
	if (!ensemble.weighted[0] || ensemble.base_count > 1)
		onnx_refuse(import, "two classes with weights of the second alone, or with two base values for one weight");
	/* the weights of class 0 are the second class's score */
	ensemble.outputs = 1;
	one_of_two_classes(import, &ensemble, input);
}

static void
op_regressor(OnnxImport *import, const OnnxNode *node)
{
	OnnxValue  *input = onnx_input(import, 0);
	OnnxEnsemble ensemble;
	OnnxValue  *output;
	OnnxType	type;
	int			first;

	onnx_require_rows(import, input);
	onnx_require_number(import, input);
	onnx_read_ensemble(import, input, false, &ensemble);
	if (ensemble.base_count != 0 && ensemble.base_count != ensemble.outputs)
		onnx_refuse(import, "%d base values for %d targets",
					ensemble.base_count, ensemble.outputs);
	first = add_ensemble(import, &ensemble, input);
	type = strcmp(node->op_type, "TreeEnsemble") == 0 ? input->type :
		ONNX_FLOAT;
	output = onnx_result_of_rows(import, 0, type, ensemble.outputs);
	output->raw = first;
	output->raw_count = ensemble.outputs;
	if (type == ONNX_FLOAT && !ensemble.float32)
		first = program_unary(import->program, MODEL_COPY, first,
							  ensemble.outputs, true);
	if (type == ONNX_DOUBLE && link_of(import) != ONNX_LINK_NONE)
		onnx_refuse(import, "a link after sums of type double (post_transform)");
	onnx_set_run(output, ensemble.outputs == 1 ?
				 onnx_link_one(import, first, -1) :
				 onnx_link(import, first, ensemble.outputs));
}

const OnnxOperatorEntry onnx_tree_operators[] = {
	{"TreeEnsemble", op_regressor},
	{"TreeEnsembleClassifier", op_classifier},
	{"TreeEnsembleRegressor", op_regressor},
	{NULL, NULL}
};

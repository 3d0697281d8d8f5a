/*-------------------------------------------------------------------------
 *
 * trees.c
 *		Tree ensembles of a program, in the layout that is scored.
 *
 * Every test becomes "x <= threshold, no for NaN" if it can: x < t is
 * x <= the number before t, and >= and > swap the children.  Where NaN goes
 * to yes the test reads a copy of the slot in which NaN is -infinity; where
 * zero counts as missing, a copy in which it is NaN.  So a walk compares and
 * moves on, and pays nothing for the ways in which libraries differ.
 *
 * Nodes are laid out breadth first, the two children of a node side by side.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "model/builder.h"

/* Which copy of a slot a test reads. */
#define VARIANT_LOW 1			/* NaN is -infinity */
#define VARIANT_ZERO_MISSING 2	/* zero is NaN */
#define VARIANTS 4

/* A tree being added. */
typedef struct Growing
{
	ProgramTrees *trees;
	const ProgramNode *given;
	int			count;
	int			output;
	int			number;			/* of the tree */
	int		   *queue;			/* given nodes in the order of layout */
	int		   *level;
	int			queued;
	unsigned char *seen;
} Growing;

ProgramTrees *
program_create_trees(ModelProgram *program, int outputs, bool float32)
{
	MemoryContext caller = MemoryContextSwitchTo(program->context);
	ProgramTrees *trees = palloc0(sizeof(ProgramTrees));

	if (outputs < 1 || outputs > MODEL_MAX_SLOTS)
		builder_invalid("an ensemble has %d outputs", outputs);
	trees->program = program;
	trees->float32 = float32;
	trees->outputs = outputs;
	trees->divisor = 1;
	trees->covers_known = true;
	trees->base = palloc0(sizeof(double) * outputs);
	MemoryContextSwitchTo(caller);
	return trees;
}

void
program_trees_base(ProgramTrees *trees, const double *base, bool base_last)
{
	memcpy(trees->base, base, sizeof(double) * trees->outputs);
	trees->base_last = base_last;
}

void
program_trees_divisor(ProgramTrees *trees, double divisor)
{
	trees->divisor = divisor;
}

void
program_trees_aggregate(ProgramTrees *trees, ModelAggregate aggregate)
{
	trees->aggregate = aggregate;
}

/* A node that is added, in the layout's next place. */
static ModelNode *
next_node(ProgramTrees *trees, double cover)
{
	ModelNode  *node;

	if (trees->node_count > (1 << 28))
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("the model has too many nodes")));
	trees->nodes = builder_grow(trees->nodes, trees->node_count,
								&trees->nodes_allocated, sizeof(ModelNode));
	trees->variants = builder_grow(trees->variants, trees->node_count,
								   &trees->variants_allocated, 1);
	trees->covers = builder_grow(trees->covers, trees->node_count,
								 &trees->covers_allocated, sizeof(double));
	trees->variants[trees->node_count] = 0;
	trees->covers[trees->node_count] = cover;
	if (!(cover >= 0) || isinf(cover))
		trees->covers_known = false;
	node = &trees->nodes[trees->node_count++];
	memset(node, 0, sizeof(*node));
	return node;
}

/* Puts a child into the queue. */
static void
enqueue(Growing *growing, int parent, int child, int level)
{
	if (child < 0 || child >= growing->count)
		builder_invalid("tree %d, node %d: there is no node %d",
						growing->number, parent, child);
	if (growing->seen[child])
		builder_invalid("tree %d, node %d: node %d has two parents",
						growing->number, parent, child);
	growing->seen[child] = 1;
	growing->queue[growing->queued] = child;
	growing->level[growing->queued++] = level;
}

/* The number before a threshold, in the ensemble's precision. */
static double
before(const ProgramTrees *trees, double threshold)
{
	if (trees->float32)
		return nextafterf((float) threshold, -INFINITY);
	return nextafter(threshold, -INFINITY);
}

/* Makes x <= threshold of a numeric test; the copy of the slot it reads. */
static int
lay_threshold(const ProgramTrees *trees, ModelNode *node, double threshold,
			  bool below, bool missing_yes, uint32 *test)
{
	bool		never = isnan(threshold) || (below && threshold == -INFINITY);

	node->u.threshold = below && !never ? before(trees, threshold) : threshold;
	if (!never)
		return missing_yes ? VARIANT_LOW : 0;
	/* equal to NaN: never, but for a missing value */
	node->u.threshold = NAN;
	*test = MODEL_TEST_EQUAL | (missing_yes ? MODEL_TEST_MISSING : 0);
	return 0;
}

/* Copies a set's words; ERROR if it is too large. */
static void
lay_set(ProgramTrees *trees, ModelNode *node, const ProgramNode *given)
{
	int			words = given->set_words;

	while (words > 0 && given->set[words - 1] == 0)
		words--;
	node->u.set.first = trees->word_count;
	node->u.set.words = words;
	for (int i = 0; i < words; i++)
	{
		trees->words = builder_grow(trees->words, trees->word_count,
									&trees->words_allocated, sizeof(uint32));
		trees->words[trees->word_count++] = given->set[i];
	}
}

/* Is the test the opposite of one that the layout has? */
static bool
is_opposite(ProgramTest test)
{
	return test == PROGRAM_AT_LEAST || test == PROGRAM_ABOVE ||
		test == PROGRAM_NOT_EQUAL || test == PROGRAM_NOT_IN;
}

/* Lays an inner node; its children go into the queue, yes before no. */
static void
lay_inner(Growing *growing, int at, int number, ModelNode *node)
{
	ProgramTrees *trees = growing->trees;
	const ProgramNode *given = &growing->given[number];
	bool		swap = is_opposite(given->test);
	bool		missing_yes = given->missing_yes != swap;
	int			variant = given->zero_missing ? VARIANT_ZERO_MISSING : 0;
	uint32		test = MODEL_TEST_AT_MOST;

	if (given->slot < 0 || given->slot >= trees->program->slot_count)
		builder_invalid("tree %d, node %d: there is no slot %d",
						growing->number, number, given->slot);
	switch (given->test)
	{
		case PROGRAM_AT_MOST:
		case PROGRAM_ABOVE:
			variant |= lay_threshold(trees, node, given->threshold, false,
									 missing_yes, &test);
			break;
		case PROGRAM_BELOW:
		case PROGRAM_AT_LEAST:
			variant |= lay_threshold(trees, node, given->threshold, true,
									 missing_yes, &test);
			break;
		case PROGRAM_EQUAL:
		case PROGRAM_NOT_EQUAL:
			node->u.threshold = given->threshold;
			test = MODEL_TEST_EQUAL | (missing_yes ? MODEL_TEST_MISSING : 0);
			break;
		default:
			lay_set(trees, node, given);
			test = MODEL_TEST_IN | (missing_yes ? MODEL_TEST_MISSING : 0) |
				(given->set_negative ? MODEL_TEST_NEGATIVE : 0) |
				(given->set_exact ? MODEL_TEST_EXACT : 0);
	}
	if (test != MODEL_TEST_AT_MOST)
		trees->has_tests = true;
	node->slot_and_test = (uint32) given->slot << 6 | test;
	node->next = trees->node_count - at + growing->queued - 1;
	trees->variants[trees->node_count - 1] = variant;
	enqueue(growing, number, swap ? given->no : given->yes,
			growing->level[at] + 1);
	enqueue(growing, number, swap ? given->yes : given->no,
			growing->level[at] + 1);
}

/* Lays a leaf's linear part. */
static void
lay_linear(Growing *growing, int number)
{
	ProgramTrees *trees = growing->trees;
	const ProgramNode *given = &growing->given[number];
	ModelLinearLeaf *leaf;

	trees->linear = builder_grow(trees->linear, trees->leaf_count,
								 &trees->linear_allocated,
								 sizeof(ModelLinearLeaf));
	leaf = &trees->linear[trees->leaf_count];
	leaf->constant = given->linear ? given->constant : given->value;
	leaf->first = trees->coefficient_count;
	leaf->count = given->linear ? given->coefficient_count : 0;
	if (!given->linear)
		return;
	trees->has_linear = true;
	for (int i = 0; i < given->coefficient_count; i++)
	{
		ModelCoefficient *coefficient;

		if (given->slots[i] < 0 ||
			given->slots[i] >= trees->program->slot_count)
			builder_invalid("tree %d, node %d: there is no slot %d",
							growing->number, number, given->slots[i]);
		trees->coefficients = builder_grow(trees->coefficients,
										   trees->coefficient_count,
										   &trees->coefficients_allocated,
										   sizeof(ModelCoefficient));
		coefficient = &trees->coefficients[trees->coefficient_count++];
		coefficient->value = given->coefficients[i];
		coefficient->slot = given->slots[i];
		coefficient->unused = 0;
	}
}

/* Lays a leaf; its number within the ensemble is its threshold. */
static void
lay_leaf(Growing *growing, int number, ModelNode *node)
{
	ProgramTrees *trees = growing->trees;
	const ProgramNode *given = &growing->given[number];
	int			width = trees->all_outputs ? trees->outputs : 1;

	node->u.threshold = trees->leaf_count;
	node->slot_and_test = MODEL_TEST_LEAF;
	node->next = trees->node_count - 1;
	lay_linear(growing, number);
	for (int i = 0; i < width; i++)
	{
		trees->leaves = builder_grow(trees->leaves,
									 trees->leaf_count * width + i,
									 &trees->leaves_allocated,
									 sizeof(double));
		trees->leaves[trees->leaf_count * width + i] =
			trees->all_outputs ? given->values[i] : given->value;
	}
	trees->leaf_count++;
}

/* Tree-local numbers of the nodes of a small tree, for the block kernel. */
static void
lay_dense(ProgramTrees *trees, const ModelTree *tree)
{
	unsigned char local[2 * MODEL_DENSE_LEAVES];
	const ModelNode *nodes = trees->nodes + tree->root;
	int			inner = 0;
	int			leaves = 0;

	for (uint32 i = 0; i < tree->node_count; i++)
		local[i] = (nodes[i].slot_and_test & MODEL_TEST_LEAF) ?
			MODEL_DENSE_LEAVES + leaves++ : inner++;
	for (uint32 i = 0; i < tree->node_count; i++)
	{
		ModelDense *dense;

		if (nodes[i].slot_and_test & MODEL_TEST_LEAF)
			continue;
		trees->dense = builder_grow(trees->dense, trees->dense_count,
									&trees->dense_allocated,
									sizeof(ModelDense));
		dense = &trees->dense[trees->dense_count++];
		memset(dense, 0, sizeof(*dense));
		dense->threshold = nodes[i].u.threshold;
		dense->slot = trees->node_count - tree->node_count + i;
		dense->yes = local[nodes[i].next - tree->root];
		dense->no = local[nodes[i].next + 1 - tree->root];
	}
}

/* Lays out the whole tree, breadth first. */
static void
lay_tree(Growing *growing, ModelTree *tree)
{
	ProgramTrees *trees = growing->trees;

	tree->root = trees->node_count;
	tree->first_leaf = trees->leaf_count;
	enqueue(growing, 0, 0, 0);
	for (int at = 0; at < growing->queued; at++)
	{
		int			number = growing->queue[at];
		ModelNode  *node = next_node(trees, growing->given[number].cover);

		if (growing->given[number].test == PROGRAM_LEAF)
			lay_leaf(growing, number, node);
		else
			lay_inner(growing, at, number, node);
		tree->depth = growing->level[at];
	}
	tree->node_count = growing->queued;
	tree->leaf_count = trees->leaf_count - tree->first_leaf;
}

void
program_add_tree(ProgramTrees *trees, int output, const ProgramNode *nodes,
				 int count)
{
	MemoryContext caller = MemoryContextSwitchTo(trees->program->context);
	Growing		growing = {.trees = trees,.given = nodes,.count = count,
	.output = output,.number = trees->tree_count};
	ModelTree  *tree;

	if (output < -1 || output >= trees->outputs || count < 1)
		builder_invalid("tree %d is for output %d of %d, with %d nodes",
						trees->tree_count, output, trees->outputs, count);
	if (trees->tree_count == 0)
		trees->all_outputs = output == -1 && trees->outputs > 1;
	if (trees->outputs > 1 && trees->all_outputs != (output == -1))
		builder_invalid("tree %d is not for as many outputs as the others",
						trees->tree_count);
	growing.queue = palloc_extended(sizeof(int) * count, MCXT_ALLOC_HUGE);
	growing.level = palloc_extended(sizeof(int) * count, MCXT_ALLOC_HUGE);
	growing.seen = palloc_extended(count, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	trees->trees = builder_grow(trees->trees, trees->tree_count,
								&trees->trees_allocated, sizeof(ModelTree));
	tree = &trees->trees[trees->tree_count++];
	memset(tree, 0, sizeof(*tree));
	tree->output = trees->all_outputs ? MODEL_NONE : Max(output, 0);
	lay_tree(&growing, tree);
	trees->largest = Max(trees->largest, (int) tree->leaf_count);
	tree->dense = trees->dense_count;
	if (tree->leaf_count <= MODEL_DENSE_LEAVES)
		lay_dense(trees, tree);
	pfree(growing.queue);
	pfree(growing.level);
	pfree(growing.seen);
	MemoryContextSwitchTo(caller);
}

/* ---- the step ---- */

/* Adds the copies of slots of one kind, and remembers where they are. */
static void
add_copies(ModelProgram *program, ModelOp op, int variant, int *copies,
		   const int *sources, int stride)
{
	int			slots = program->slot_count;
	int		   *wanted = palloc_extended(sizeof(int) * slots,
										 MCXT_ALLOC_HUGE);
	int		   *from = palloc_extended(sizeof(int) * slots, MCXT_ALLOC_HUGE);
	ProgramStep step = {.op = op,.a = -1,.b = -1,.c = -1,.slots = from};
	int			first;

	for (int i = 0; i < stride; i++)
		if (copies[i * VARIANTS + variant] < 0)
		{
			wanted[step.count] = i;
			from[step.count++] = sources == NULL ? i : sources[i * VARIANTS];
		}
	if (step.count == 0)
		return;
	first = program_add_step(program, &step);
	for (int i = 0; i < step.count; i++)
		copies[wanted[i] * VARIANTS + variant] = first + i;
}

/* Makes the copies of slots that tests read; where they are. */
static int *
make_copies(ModelProgram *program, const ProgramTrees *trees)
{
	int			slots = program->slot_count;
	int		   *copies = palloc_extended(sizeof(int) * slots * VARIANTS,
										 MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);

	for (int i = 0; i < trees->node_count; i++)
	{
		int			slot = MODEL_NODE_SLOT(&trees->nodes[i]);
		int			variant = trees->variants[i];

		if (trees->nodes[i].slot_and_test & MODEL_TEST_LEAF)
			continue;
		copies[slot * VARIANTS + variant] = -1;
		if (variant == (VARIANT_LOW | VARIANT_ZERO_MISSING))
			copies[slot * VARIANTS + VARIANT_ZERO_MISSING] = -1;
	}
	for (int i = 0; i < slots; i++)
		copies[i * VARIANTS] = i;
	add_copies(program, MODEL_ZERO_TO_MISSING, VARIANT_ZERO_MISSING, copies,
			   NULL, slots);
	add_copies(program, MODEL_MISSING_TO_LOW, VARIANT_LOW, copies, NULL,
			   slots);
	add_copies(program, MODEL_MISSING_TO_LOW,
			   VARIANT_LOW | VARIANT_ZERO_MISSING, copies,
			   copies + VARIANT_ZERO_MISSING, slots);
	return copies;
}

/* Points each test at the copy that it reads, each leaf at the zero slot. */
static void
point_nodes(ProgramTrees *trees, const int *copies, int zero)
{
	for (int i = 0; i < trees->node_count; i++)
	{
		ModelNode  *node = &trees->nodes[i];
		uint32		test = MODEL_NODE_TEST(node);
		int			slot = MODEL_NODE_SLOT(node);

		slot = (test & MODEL_TEST_LEAF) ? zero :
			copies[slot * VARIANTS + trees->variants[i]];
		node->slot_and_test = (uint32) slot << 6 | test;
	}
	for (int i = 0; i < trees->dense_count; i++)
		trees->dense[i].slot =
			MODEL_NODE_SLOT(&trees->nodes[trees->dense[i].slot]);
}

int
program_add_trees(ModelProgram *program, ProgramTrees *trees)
{
	MemoryContext caller = MemoryContextSwitchTo(program->context);
	ProgramStep step = {.op = MODEL_TREES,.count = trees->outputs,.a = -1,
	.b = -1,.c = -1};
	double		nothing = 0;
	BuilderStep *added;
	int			origin = ORIGIN_CONSTANT;

	if (trees->tree_count == 0)
		return program_fill(program, trees->base, trees->outputs);
	for (int i = 0; i < trees->node_count && origin != ORIGIN_MIXED; i++)
	{
		int			of_slot =
		program->origins[MODEL_NODE_SLOT(&trees->nodes[i])];

		if (trees->nodes[i].slot_and_test & MODEL_TEST_LEAF)
			continue;
		if (origin == ORIGIN_CONSTANT)
			origin = of_slot;
		else if (of_slot != ORIGIN_CONSTANT && of_slot != origin)
			origin = ORIGIN_MIXED;
	}
	if (trees->has_linear)
		origin = ORIGIN_MIXED;
	if (program->zero < 0)
		program->zero = program_fill(program, &nothing, 1);
	point_nodes(trees, make_copies(program, trees), program->zero);
	added = builder_append_step(program, &step);
	added->trees = trees;
	added->out = builder_add_slots(program, trees->outputs, origin);
	MemoryContextSwitchTo(caller);
	return added->out;
}

/*-------------------------------------------------------------------------
 *
 * compile.c
 *		From a program to an image.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "lib/stringinfo.h"
#include "model/builder.h"
#include "utils/memutils.h"

/* The block is the header, then strings and arrays in any order. */
typedef struct Packing
{
	StringInfoData block;
	ModelProgram *program;
} Packing;

/* Arrays of so many bytes begin with a line of the processor's cache. */
#define LONG_ARRAY 1024
#define CACHE_LINE 64

/* The rounding of a number of this size, 1e-13, does not matter in a sum. */
#define MAX_SHIFT 1024

/*
 * Appends elements at a multiple of eight; their offset.  A row that is scored
 * by itself finds the model in no near cache, and what it reads of each tree
 * had better be in few lines.
 */
static uint32
append_array(Packing *packing, const void *elements, size_t count,
			 size_t width)
{
	static const char zeros[CACHE_LINE] = {0};
	StringInfo	block = &packing->block;
	size_t		align;
	uint32		offset;

	if (count > MaxAllocSize / width)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("the model is larger than 1 GB")));
	align = count * width >= LONG_ARRAY ? CACHE_LINE : 8;
	appendBinaryStringInfo(block, zeros, (align - block->len % align) % align);
	offset = block->len;
	if (count > 0)
		appendBinaryStringInfo(block, elements, count * width);
	return offset;
}

/* Fills elements in that were appended before what they refer to. */
static void
fill_array(Packing *packing, uint32 offset, const void *elements, size_t count,
		   size_t width)
{
	memcpy(packing->block.data + offset, elements, count * width);
}

static uint32
append_string(Packing *packing, const char *text)
{
	uint32		offset = packing->block.len;

	appendBinaryStringInfo(&packing->block, text, strlen(text) + 1);
	return offset;
}

/* A category with its code, for sorting. */
typedef struct Listed
{
	const char *text;
	uint32		code;
} Listed;

static int
by_text(const void *a, const void *b)
{
	return strcmp(((const Listed *) a)->text, ((const Listed *) b)->text);
}

/* The categories of an input, sorted by their bytes; ERROR for a double. */
static uint32
pack_categories(Packing *packing, const ProgramInput *input)
{
	int			count = input->category_count;
	Listed	   *listed = palloc_extended(sizeof(Listed) * Max(count, 1),
										 MCXT_ALLOC_HUGE);
	ModelCategory *packed = palloc_extended(sizeof(ModelCategory) *
											Max(count, 1), MCXT_ALLOC_HUGE);

	for (int i = 0; i < count; i++)
	{
		listed[i].text = input->categories[i];
		listed[i].code = i;
	}
	qsort(listed, count, sizeof(Listed), by_text);
	for (int i = 0; i < count; i++)
	{
		if (i > 0 && strcmp(listed[i - 1].text, listed[i].text) == 0)
			builder_invalid("input \"%s\" has category \"%s\" twice",
							input->name, listed[i].text);
		packed[i].text = append_string(packing, listed[i].text);
		packed[i].code = listed[i].code;
	}
	return append_array(packing, packed, count, sizeof(ModelCategory));
}

static int
by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/* ERROR if two inputs have one name. */
static void
check_names(const ModelProgram *program)
{
	int			count = program->input_count;
	const char **names = palloc(sizeof(char *) * Max(count, 1));

	for (int i = 0; i < count; i++)
		names[i] = program->inputs[i].name;
	qsort(names, count, sizeof(char *), by_name);
	for (int i = 1; i < count; i++)
		if (strcmp(names[i - 1], names[i]) == 0)
			builder_invalid("two inputs are called \"%s\"", names[i]);
	pfree(names);
}

static uint32
pack_inputs(Packing *packing)
{
	const ModelProgram *program = packing->program;
	ModelInput *inputs = palloc0(sizeof(ModelInput) *
								 Max(program->input_count, 1));

	check_names(program);
	for (int i = 0; i < program->input_count; i++)
	{
		const ProgramInput *given = &program->inputs[i];

		inputs[i].kind = given->kind;
		inputs[i].name = append_string(packing, given->name);
		inputs[i].cast = given->cast;
		inputs[i].flags = given->flags;
		inputs[i].missing = given->missing;
		inputs[i].marker = given->marker;
		inputs[i].unseen = given->unseen;
		inputs[i].category_count = given->category_count;
		inputs[i].categories = pack_categories(packing, given);
	}
	return append_array(packing, inputs, program->input_count,
						sizeof(ModelInput));
}

/*
 * What is taken from a sum's bias if the centers of its terms are left out,
 * since coefficient * (x - center) is coefficient * x - coefficient * center;
 * false where that is so large that it would cost digits.
 */
static bool
find_shift(const ModelTerm *terms, uint32 count, double *shift)
{
	double		size = 0;

	*shift = 0;
	for (uint32 i = 0; i < count; i++)
	{
		double		term = terms[i].coefficient * terms[i].center;

		if (terms[i].center != 0 && terms[i].exponent != 1)
			return false;
		size += fabs(term);
		*shift += term;
	}
	return size <= MAX_SHIFT;
}

/* Leaves out the centers, whose terms are all the larger then. */
static void
leave_out_centers(ModelTerm *terms, ModelStep *step)
{
	double		shift;

	if ((step->flags & MODEL_IN_FLOAT32) ||
		!find_shift(terms, step->data_count, &shift))
		return;
	for (uint32 i = 0; i < step->data_count; i++)
	{
		double		term = terms[i].coefficient * terms[i].center;

		terms[i].center = 0;
		terms[i].missing += term;
		terms[i].expected += term;
	}
	step->bias -= shift;
}

static void
pack_terms(Packing *packing, const BuilderStep *step, ModelStep *packed)
{
	ModelTerm  *terms = palloc_extended(sizeof(ModelTerm) *
										Max(step->term_count, 1),
										MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);

	for (int i = 0; i < step->term_count; i++)
	{
		const ProgramTerm *given = &step->terms[i];

		terms[i].slot = given->slot;
		terms[i].exponent = given->exponent;
		if (given->table != NULL)
			terms[i].table = append_array(packing, given->table,
										  given->table_count, sizeof(double));
		terms[i].table_count = given->table != NULL ? given->table_count : 0;
		terms[i].coefficient = given->coefficient /
			pow(given->scale, given->exponent);
		terms[i].center = given->center;
		terms[i].missing = given->missing;
		terms[i].unseen = given->unseen;
		terms[i].expected = given->expected;
	}
	packed->data_count = step->term_count;
	leave_out_centers(terms, packed);
	packed->data = append_array(packing, terms, step->term_count,
								sizeof(ModelTerm));
}

/* A tree's depth and place, for sorting. */
typedef struct Deep
{
	uint32		depth;
	uint32		tree;
} Deep;

static int
by_falling_depth(const void *a, const void *b)
{
	const Deep *left = a;
	const Deep *right = b;

	if (left->depth != right->depth)
		return left->depth > right->depth ? -1 : 1;
	return left->tree < right->tree ? -1 : left->tree > right->tree;
}

/* The trees by falling depth: neighbours are walked together. */
static uint32
pack_order(Packing *packing, const ProgramTrees *trees)
{
	Deep	   *deep = palloc_extended(sizeof(Deep) * trees->tree_count,
									   MCXT_ALLOC_HUGE);
	uint32	   *order = palloc_extended(sizeof(uint32) * trees->tree_count,
										MCXT_ALLOC_HUGE);

	for (int i = 0; i < trees->tree_count; i++)
	{
		deep[i].depth = trees->trees[i].depth;
		deep[i].tree = i;
	}
	qsort(deep, trees->tree_count, sizeof(Deep), by_falling_depth);
	for (int i = 0; i < trees->tree_count; i++)
		order[i] = deep[i].tree;
	return append_array(packing, order, trees->tree_count, sizeof(uint32));
}

/* Is the ensemble one for the block kernel? */
static bool
is_dense(const ProgramTrees *trees)
{
	return trees->largest <= MODEL_DENSE_LEAVES && !trees->has_tests &&
		!trees->has_linear && trees->aggregate == MODEL_TREES_SUM &&
		!trees->all_outputs;
}

/* Ranks, where they are worth it. */
static void
pack_ranks(Packing *packing, const ProgramTrees *trees, ModelTrees *packed)
{
	BuilderRanks ranks;

	if (!builder_rank_trees(packing->program, trees, &ranks))
		return;
	packed->ranked_count = ranks.ranked_count;
	packed->ranked = append_array(packing, ranks.ranked, ranks.ranked_count,
								  sizeof(ModelRanked));
	packed->threshold_count = ranks.threshold_count;
	packed->thresholds = append_array(packing, ranks.thresholds,
									  ranks.threshold_count, sizeof(double));
	packed->rank_width = ranks.width;
	packed->rank_tests = append_array(packing, ranks.tests, ranks.tests_size,
									  1);
	if (ranks.paths == NULL)
		return;
	packed->heads = append_array(packing, ranks.heads, trees->tree_count,
								 sizeof(uint32));
	packed->paths = append_array(packing, ranks.paths, trees->tree_count,
								 sizeof(ModelPaths));
}

static uint32
pack_trees(Packing *packing, const ProgramTrees *trees)
{
	ModelTrees	packed = {0};
	uint32		offset = append_array(packing, &packed, 1, sizeof(packed));

	packed.flags = (trees->float32 ? MODEL_TREES_FLOAT32 : 0) |
		(trees->base_last ? MODEL_TREES_BASE_LAST : 0) |
		(trees->has_tests ? MODEL_TREES_TESTS : 0) |
		(trees->has_linear ? MODEL_TREES_LINEAR : 0);
	packed.aggregate = trees->aggregate;
	packed.divisor = trees->divisor;
	packed.output_count = trees->outputs;
	packed.tree_count = trees->tree_count;
	packed.trees = append_array(packing, trees->trees, trees->tree_count,
								sizeof(ModelTree));
	packed.leaf_count = trees->leaf_count;
	packed.leaf_width = trees->all_outputs ? trees->outputs : 1;
	packed.leaves = append_array(packing, trees->leaves,
								 (size_t) trees->leaf_count *
								 packed.leaf_width, sizeof(double));
	packed.base = append_array(packing, trees->base, trees->outputs,
							   sizeof(double));
	/* what a score needs is together, since a session maps it by pages */
	if (is_dense(trees))
		pack_ranks(packing, trees, &packed);
	packed.node_count = trees->node_count;
	packed.nodes = append_array(packing, trees->nodes, trees->node_count,
								sizeof(ModelNode));
	if (trees->covers_known)
		packed.covers = append_array(packing, trees->covers,
									 trees->node_count, sizeof(double));
	packed.word_count = trees->word_count;
	packed.words = append_array(packing, trees->words, trees->word_count,
								sizeof(uint32));
	if (trees->has_linear)
	{
		packed.linear = append_array(packing, trees->linear,
									 trees->leaf_count,
									 sizeof(ModelLinearLeaf));
		packed.coefficient_count = trees->coefficient_count;
		packed.coefficients = append_array(packing, trees->coefficients,
										   trees->coefficient_count,
										   sizeof(ModelCoefficient));
	}
	if (is_dense(trees))
	{
		packed.dense_count = trees->dense_count;
		packed.dense = append_array(packing, trees->dense, trees->dense_count,
									sizeof(ModelDense));
	}
	packed.order = pack_order(packing, trees);
	fill_array(packing, offset, &packed, 1, sizeof(packed));
	return offset;
}

/* The slot's number, or none. */
static uint32
slot_or_none(int slot)
{
	return slot < 0 ? MODEL_NONE : (uint32) slot;
}

/* The step that writes a slot, or NULL for an input. */
static const BuilderStep *
find_writer(const ModelProgram *program, int slot)
{
	for (int i = program->step_count - 1; i >= 0; i--)
		if (program->steps[i].out <= slot)
			return &program->steps[i];
	return NULL;
}

/* Is the step the logistic function of a sum, both in float64? */
static bool
is_of_sum(const ModelProgram *program, const ProgramStep *step)
{
	const BuilderStep *writer;

	if (step->op != MODEL_SIGMOID || step->count != 1 || step->float32)
		return false;
	writer = find_writer(program, step->a);
	return writer != NULL && writer->step.op == MODEL_LINEAR &&
		!writer->step.float32;
}

static void
pack_step(Packing *packing, const BuilderStep *given, ModelStep *packed)
{
	const ProgramStep *step = &given->step;

	memset(packed, 0, sizeof(*packed));
	packed->op = step->op;
	packed->flags = (step->float32 ? MODEL_IN_FLOAT32 : 0) |
		(step->broadcast_a ? MODEL_BROADCAST_A : 0) |
		(step->broadcast_b ? MODEL_BROADCAST_B : 0) |
		(step->broadcast_c ? MODEL_BROADCAST_C : 0) |
		(is_of_sum(packing->program, step) ? MODEL_OF_SUM : 0);
	packed->out = given->out;
	packed->count = step->count;
	packed->a = slot_or_none(step->a);
	packed->b = slot_or_none(step->b);
	packed->c = slot_or_none(step->c);
	packed->width = step->width;
	packed->bias = given->bias;
	if (given->trees != NULL)
		packed->data = pack_trees(packing, given->trees);
	else if (given->terms != NULL)
		pack_terms(packing, given, packed);
	else if (step->slots != NULL)
	{
		packed->data = append_array(packing, step->slots, step->count,
									sizeof(uint32));
		packed->data_count = step->count;
	}
	else
	{
		packed->data = append_array(packing, step->constants,
									step->constant_count, sizeof(double));
		packed->data_count = step->constant_count;
	}
}

static uint32
pack_steps(Packing *packing)
{
	const ModelProgram *program = packing->program;
	ModelStep  *steps = palloc_extended(sizeof(ModelStep) *
										Max(program->step_count, 1),
										MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	uint32		offset = append_array(packing, steps, program->step_count,
									  sizeof(ModelStep));

	for (int i = 0; i < program->step_count; i++)
		pack_step(packing, &program->steps[i], &steps[i]);
	fill_array(packing, offset, steps, program->step_count, sizeof(ModelStep));
	return offset;
}

static uint32
pack_origins(Packing *packing)
{
	const ModelProgram *program = packing->program;
	uint32	   *origins = palloc_extended(sizeof(uint32) *
										  program->slot_count,
										  MCXT_ALLOC_HUGE);

	for (int i = 0; i < program->slot_count; i++)
		origins[i] = slot_or_none(program->origins[i]);
	return append_array(packing, origins, program->slot_count,
						sizeof(uint32));
}

static uint32
pack_outputs(Packing *packing)
{
	const ModelProgram *program = packing->program;
	uint32	   *names = palloc(sizeof(uint32) * program->output_count);

	for (int i = 0; i < program->output_count; i++)
		names[i] = append_string(packing, program->outputs[i]);
	return append_array(packing, names, program->output_count,
						sizeof(uint32));
}

/* The score, found where it is computed first, and the steps up to there. */
static void
place_score(const ModelProgram *program, ModelImage *header)
{
	int			slot = program->score;
	const BuilderStep *writer = find_writer(program, slot);

	while (writer != NULL && writer->step.op == MODEL_MOVE)
	{
		slot = writer->step.slots[slot - writer->out];
		writer = find_writer(program, slot);
	}
	header->score = slot;
	header->score_steps = writer == NULL ? 0 : writer - program->steps + 1;
}

/* Seals the block and checks it as one from outside. */
static ModelImage *
seal(Packing *packing, const ModelImage *header)
{
	ModelImage *image = (ModelImage *) packing->block.data;
	const char *problem;

	*image = *header;
	image->size = packing->block.len;
	image->checksum = model_image_checksum(image);
	problem = model_check_image(image, image->size);
	if (problem != NULL)
		builder_invalid("%s", problem);
	return image;
}

ModelImage *
program_compile(ModelProgram *program)
{
	MemoryContext caller = MemoryContextSwitchTo(program->context);
	Packing		packing = {.program = program};
	ModelImage	header = {.magic = MODEL_MAGIC,.format = MODEL_FORMAT,
	.byte_order = MODEL_BYTE_ORDER};

	if (program->scores < 0)
		elog(ERROR, "the program has no scores");
	initStringInfo(&packing.block);
	appendBinaryStringInfo(&packing.block, (char *) &header, sizeof(header));
	header.task = program->task;
	header.algorithm = append_string(&packing, program->algorithm);
	header.input_count = program->input_count;
	header.inputs = pack_inputs(&packing);
	header.slot_count = program->slot_count;
	header.origins = pack_origins(&packing);
	header.step_count = program->step_count;
	header.steps = pack_steps(&packing);
	header.output_count = program->output_count;
	header.outputs = pack_outputs(&packing);
	header.scores = program->scores;
	place_score(program, &header);
	header.raw = program->raw < 0 ? program->scores : program->raw;
	header.raw_count = program->raw < 0 ? program->output_count :
		program->raw_count;
	header.choice = slot_or_none(program->choice);
	header.zero = slot_or_none(program->zero);
	header.threshold = program->threshold;
	header.flags = program->null_for_nan ? MODEL_NULL_FOR_NAN : 0;
	MemoryContextSwitchTo(caller);
	return seal(&packing, &header);
}

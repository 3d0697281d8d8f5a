/*-------------------------------------------------------------------------
 *
 * compile_ranks.c
 *		An ensemble's thresholds as ranks; see ModelRanked.
 *
 * To rank a value costs some comparisons of doubles, to test it then is one
 * of bytes, so there must be many tests of a slot, and few thresholds.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "model/builder.h"

/* Tests of a slot that pay for ranking its values. */
#define WORTHWHILE 32

/* What is gathered. */
typedef struct Ranking
{
	const ModelProgram *program;
	const ProgramTrees *trees;
	BuilderRanks *ranks;
	int		   *number_of;		/* a slot's number among the ranked, or -1 */
	int		   *counts;			/* thresholds of a ranked slot */
} Ranking;

/* The slot that this one copies with NaN as -infinity, or itself. */
static int
source_of(const ModelProgram *program, int slot)
{
	for (int i = 0; i < program->step_count; i++)
	{
		const BuilderStep *step = &program->steps[i];

		if (step->step.op == MODEL_MISSING_TO_LOW && slot >= step->out &&
			slot < step->out + step->step.count)
			return step->step.slots[slot - step->out];
	}
	return slot;
}

/* Gives the slot of a test its number; false where there are too many. */
static bool
number_slot(Ranking *ranking, int slot)
{
	BuilderRanks *ranks = ranking->ranks;
	int			source;
	int			number;

	if (ranking->number_of[slot] >= 0)
		return true;
	source = source_of(ranking->program, slot);
	number = ranking->number_of[source];
	if (number < 0)
	{
		if (ranks->ranked_count == MODEL_RANKED_SLOTS)
			return false;
		number = ranks->ranked_count++;
		ranks->ranked[number].slot = source;
		ranks->ranked[number].low = MODEL_NONE;
		ranking->number_of[source] = number;
	}
	ranking->number_of[slot] = number;
	if (slot == source)
		return true;
	if (ranks->ranked[number].low != MODEL_NONE)
		return false;
	ranks->ranked[number].low = slot;
	return true;
}

static int
by_size(const void *a, const void *b)
{
	double		left = *(const double *) a;
	double		right = *(const double *) b;

	return left < right ? -1 : left > right;
}

/* The different thresholds of a ranked slot, in order; how many. */
static int
list_thresholds(const Ranking *ranking, int number, double *list)
{
	const ProgramTrees *trees = ranking->trees;
	int			all = 0;
	int			count = 0;

	for (int i = 0; i < trees->dense_count; i++)
		if (ranking->number_of[trees->dense[i].slot] == number)
			list[all++] = trees->dense[i].threshold;
	qsort(list, all, sizeof(double), by_size);
	for (int i = 0; i < all; i++)
		if (count == 0 || list[i] != list[count - 1])
			list[count++] = list[i];
	return count;
}

/* Lays the thresholds of a ranked slot behind the others'. */
static void
lay_thresholds(Ranking *ranking, int number, const double *list, int count)
{
	BuilderRanks *ranks = ranking->ranks;
	ModelRanked *ranked = &ranks->ranked[number];
	double	   *pivots = ranks->thresholds + ranks->threshold_count;
	double	   *strides = pivots + MODEL_RANK_STRIDE;

	ranking->counts[number] = count;
	ranked->pivots = ranks->threshold_count;
	ranked->strides = count / MODEL_RANK_STRIDE + 1;
	for (int i = 0; i < MODEL_RANK_STRIDE; i++)
		pivots[i] = INFINITY;
	for (int i = 0; i < ranked->strides * MODEL_RANK_STRIDE; i++)
		strides[i] = i < count ? list[i] : INFINITY;
	for (int i = 0; i < (int) ranked->strides - 1; i++)
		pivots[i] = strides[(i + 1) * MODEL_RANK_STRIDE - 1];
	ranks->threshold_count += (ranked->strides + 1) * MODEL_RANK_STRIDE;
}

/* The ranked slots with their thresholds; false where ranks don't do. */
static bool
rank_slots(Ranking *ranking)
{
	const ProgramTrees *trees = ranking->trees;
	BuilderRanks *ranks = ranking->ranks;
	double	   *list;

	for (int i = 0; i < trees->dense_count; i++)
		if (!number_slot(ranking, trees->dense[i].slot))
			return false;
	if (ranks->ranked_count == 0 ||
		trees->dense_count / WORTHWHILE < ranks->ranked_count)
		return false;
	list = palloc_extended(sizeof(double) * trees->dense_count,
						   MCXT_ALLOC_HUGE);
	ranks->thresholds = palloc(sizeof(double) * ranks->ranked_count *
							   (MODEL_RANKS + 1 + 2 * MODEL_RANK_STRIDE));
	for (int i = 0; i < ranks->ranked_count; i++)
	{
		int			count = list_thresholds(ranking, i, list);

		if (count > MODEL_RANKS)
			return false;
		lay_thresholds(ranking, i, list, count);
	}
	pfree(list);
	return true;
}

/* The number of a threshold among those of its slot. */
static int
rank_of(const Ranking *ranking, int number, double threshold)
{
	const double *list = ranking->ranks->thresholds +
	ranking->ranks->ranked[number].pivots + MODEL_RANK_STRIDE;
	const double *found = bsearch(&threshold, list, ranking->counts[number],
								  sizeof(double), by_size);

	return found - list;
}

/* Writes the tests of a tree; what they leave is 0. */
static void
lay_tests(const Ranking *ranking, const ModelTree *tree, uint8 *tests)
{
	const ModelDense *dense = ranking->trees->dense + tree->dense;

	for (int i = 0; i < (int) tree->leaf_count - 1; i++)
	{
		int			number = ranking->number_of[dense[i].slot];
		bool		low = ranking->ranks->ranked[number].slot != dense[i].slot;

		tests[MODEL_RANK_COLUMN * MODEL_RANK_APART + i] = 2 * number + low;
		tests[MODEL_RANK_RANK * MODEL_RANK_APART + i] =
			rank_of(ranking, number, dense[i].threshold);
		tests[MODEL_RANK_YES * MODEL_RANK_APART + i] = dense[i].yes;
		tests[MODEL_RANK_NO * MODEL_RANK_APART + i] = dense[i].no;
	}
}

/* What single rows need besides, of trees that are small enough. */
static void
prepare_rows(const ProgramTrees *trees, BuilderRanks *ranks)
{
	ranks->paths = palloc_extended(sizeof(ModelPaths) * trees->tree_count,
								   MCXT_ALLOC_HUGE);
	ranks->heads = palloc_extended(sizeof(uint32) * trees->tree_count,
								   MCXT_ALLOC_HUGE);
	for (int i = 0; i < trees->tree_count; i++)
	{
		const ModelTree *tree = &trees->trees[i];

		model_find_paths(trees->dense + tree->dense, tree->leaf_count,
						 &ranks->paths[i]);
		ranks->heads[i] = model_head(tree);
	}
}

/* Ranks of an ensemble with dense nodes; false where they don't pay. */
bool
builder_rank_trees(const ModelProgram *program, const ProgramTrees *trees,
				   BuilderRanks *ranks)
{
	Ranking		ranking = {.program = program,.trees = trees,.ranks = ranks};

	memset(ranks, 0, sizeof(*ranks));
	ranks->ranked = palloc(sizeof(ModelRanked) * MODEL_RANKED_SLOTS);
	ranking.counts = palloc(sizeof(int) * MODEL_RANKED_SLOTS);
	ranking.number_of = palloc_extended(sizeof(int) * program->slot_count,
										MCXT_ALLOC_HUGE);
	for (int i = 0; i < program->slot_count; i++)
		ranking.number_of[i] = -1;
	if (!rank_slots(&ranking))
		return false;
	ranks->width = trees->largest <= MODEL_PATH_LEAVES ? MODEL_PATH_LEAVES :
		MODEL_DENSE_LEAVES;
	ranks->tests_size = model_rank_tests_size(ranks->width, trees->tree_count);
	ranks->tests = palloc_extended(ranks->tests_size,
								   MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	for (int i = 0; i < trees->tree_count; i++)
		lay_tests(&ranking, &trees->trees[i],
				  ranks->tests + model_rank_tests(ranks->width, i));
	if (ranks->width == MODEL_PATH_LEAVES)
		prepare_rows(trees, ranks);
	return true;
}

/*-------------------------------------------------------------------------
 *
 * shap.c
 *		Exact path-dependent TreeSHAP in linear time.
 *
 * The game is that of Lundberg, Erion and Lee (arXiv 1802.03888): where an
 * input is not in the coalition, a test on it goes both ways in proportion
 * to the training rows.  For a leaf of value v below the inputs i of its
 * path, with o_i = 1 where the row passes all tests on i and else 0, and z_i
 * the product of the shares of training rows, the value of a coalition S is
 * v prod_{S} o_i prod_{not S} z_i.  Writing the Shapley weights as beta
 * integrals,
 *
 *	phi_i = v (o_i - z_i) int_0^1 prod_{j != i} (t o_j + (1 - t) z_j) dt,
 *
 * a polynomial of degree below the number of inputs, which Gauss-Legendre
 * quadrature integrates exactly.  The products at its points are carried
 * down the tree, and their sums over leaves up, so each edge costs a few
 * operations a point.  (Yu and others, "Linear TreeShap", arXiv 2209.08192,
 * do the same with polynomials; all factors here are positive, so nothing
 * cancels.)
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "miscadmin.h"
#include "model/kernel.h"
#include "model/shap.h"
#include "utils/memutils.h"

/* Quadratures of up to so many points are kept. */
#define KNOWN_POINTS 32

/* Two numbers at once, in any place: the compiler's own vectors. */
typedef double Pair __attribute__((vector_size(16), aligned(8)));

/*
 * Points t on (0, 1), in pairs; the last may have a second one of weight 0,
 * inside of (0, 1) as all others, where no factor is 0.
 */
typedef struct Quadrature
{
	int			count;			/* of pairs */
	Pair	   *point;			/* t */
	Pair	   *weight;
	Pair	   *rest;			/* 1 - t */
	Pair	   *inverse;		/* 1 / (1 - t) */
} Quadrature;

/*
 * What the path says of an input so far.  Where the row does not pass (one
 * is 0) its factor is zero (1 - t), whose inverse needs no division a point.
 */
typedef struct PathInput
{
	double		one;			/* 1 or 0; -1: not on the path */
	double		zero;			/* share of the training rows */
	const Pair *inverse;		/* of its factor, at each point, */
	double		scale;			/* times this */
} PathInput;

typedef struct Shap
{
	const ShapTask *task;
	const ModelNode *nodes;
	const double *covers;
	const double *leaves;
	const uint32 *words;
	const uint32 *origins;
	uint32		leaf_width;
	uint32		leaf_output;	/* within a leaf */
	Quadrature *quadrature;
	PathInput  *path;			/* one an input */
	Pair	   *frames;			/* three vectors a level */
} Shap;

/* Points and weights on (0, 1), by Newton's method on Legendre's polynomial. */
static void
gauss_legendre(int n, double *point, double *weight)
{
	for (int i = 0; i < n; i++)
	{
		double		x = cos(M_PI * (i + 0.75) / (n + 0.5));
		double		slope = 1;

		for (int round = 0; round < 10; round++)
		{
			double		p0 = 1;
			double		p1 = x;

			for (int k = 2; k <= n; k++)
			{
				double		p2 = ((2 * k - 1) * x * p1 - (k - 1) * p0) / k;

				p0 = p1;
				p1 = p2;
			}
			slope = n * (x * p1 - p0) / (x * x - 1);
			if (fabs(p1 / slope) < 1e-16)
				break;
			x -= p1 / slope;
		}
		point[i] = (x + 1) / 2;
		weight[i] = 1 / ((1 - x * x) * slope * slope);
	}
}

/* The quadrature of this many points. */
static Quadrature *
find_quadrature(int count)
{
	static Quadrature *known[KNOWN_POINTS + 1];
	MemoryContext context = count <= KNOWN_POINTS ? TopMemoryContext :
	CurrentMemoryContext;
	Quadrature *quadrature;
	int			pairs;

	if (count <= KNOWN_POINTS && known[count] != NULL)
		return known[count];
	pairs = (count + 1) / 2;
	quadrature = MemoryContextAlloc(context, sizeof(Quadrature));
	quadrature->count = pairs;
	quadrature->point = MemoryContextAllocZero(context,
											   sizeof(Pair) * pairs * 4);
	quadrature->weight = quadrature->point + pairs;
	quadrature->rest = quadrature->weight + pairs;
	quadrature->inverse = quadrature->rest + pairs;
	gauss_legendre(count, (double *) quadrature->point,
				   (double *) quadrature->weight);
	if (count % 2 != 0)
		quadrature->point[pairs - 1][1] = 0.5;
	for (int k = 0; k < pairs; k++)
	{
		quadrature->rest[k] = 1 - quadrature->point[k];
		quadrature->inverse[k] = 1 / quadrature->rest[k];
	}
	if (count <= KNOWN_POINTS)
		known[count] = quadrature;
	return quadrature;
}

static double
dot(int count, const Pair *a, const Pair *b)
{
	Pair		sum = {0, 0};

	for (int k = 0; k < count; k++)
		sum += a[k] * b[k];
	return sum[0] + sum[1];
}

static void visit(Shap *shap, uint32 at, int level, double share,
				  const Pair *product, Pair *total);

static bool
is_leaf(const Shap *shap, uint32 at)
{
	return (MODEL_NODE_TEST(&shap->nodes[at]) & MODEL_TEST_LEAF) != 0;
}

static double
leaf_value(const Shap *shap, uint32 leaf)
{
	return shap->leaves[(size_t) shap->nodes[leaf].u.threshold *
						shap->leaf_width + shap->leaf_output];
}

/*
 * Goes down one side of a node whose test is on this input; adds the sums of
 * the leaves below to total.
 */
static void
visit_side(Shap *shap, uint32 child, int level, double share, uint32 input,
		   double one, double zero, const Pair *product, Pair *total)
{
	const Quadrature *quadrature = shap->quadrature;
	int			count = quadrature->count;
	Pair	   *inverse = shap->frames + (size_t) level * 3 * count;
	Pair	   *below = inverse + count;
	Pair	   *sum = below + count;
	PathInput	before = shap->path[input];
	PathInput  *now = &shap->path[input];
	double		change;

	now->one = one;
	now->zero = zero;
	if (one > 0)
		for (int k = 0; k < count; k++)
		{
			Pair		factor = quadrature->point[k] +
			quadrature->rest[k] * zero;

			inverse[k] = 1 / factor;
			below[k] = product[k] * factor;
		}
	else
		for (int k = 0; k < count; k++)
			below[k] = product[k] * (quadrature->rest[k] * zero);
	now->inverse = one > 0 ? inverse : quadrature->inverse;
	now->scale = one > 0 ? 1 : 1 / zero;
	if (before.one >= 0)
		for (int k = 0; k < count; k++)
			below[k] *= before.inverse[k] * before.scale;
	memset(sum, 0, sizeof(Pair) * count);
	visit(shap, child, level + 1, share, below, sum);

	/* leaves below count with the newest factor of their input only */
	change = (one - zero) * now->scale * dot(count, sum, now->inverse);
	if (before.one >= 0)
		change -= (before.one - before.zero) * before.scale *
			dot(count, sum, before.inverse);
	shap->task->contributions[input] += shap->task->scale * change;
	shap->path[input] = before;
	for (int k = 0; k < count; k++)
		total[k] += sum[k];
}

/*
 * Goes to a leaf from a node whose test is on this input.  Here the input's
 * newest factor need not be divided out again: rest is the product without it.
 */
static void
visit_leaf(Shap *shap, uint32 leaf, double share, uint32 input, double one,
		   double zero, const Pair *product, Pair *total)
{
	const Quadrature *quadrature = shap->quadrature;
	const PathInput *before = &shap->path[input];
	double		value = leaf_value(shap, leaf);
	Pair		newest = {0, 0};
	Pair		earlier = {0, 0};
	double		change;

	for (int k = 0; k < quadrature->count; k++)
	{
		Pair		rest = product[k] * quadrature->weight[k];
		Pair		below;

		if (before->one >= 0)
			rest *= before->inverse[k] * before->scale;
		below = rest * (quadrature->point[k] * one +
						quadrature->rest[k] * zero);
		newest += rest;
		if (before->one >= 0)
			earlier += below * before->inverse[k];
		total[k] += value * below;
	}
	change = (one - zero) * (newest[0] + newest[1]) -
		(before->one - before->zero) * before->scale *
		(earlier[0] + earlier[1]);
	shap->task->contributions[input] += shap->task->scale * value * change;
	*shap->task->base += shap->task->scale * value * share;
}

/*
 * Visits an inner node, reached by this share of the training rows: adds what
 * its leaves are worth at each point to total.
 */
static void
visit(Shap *shap, uint32 at, int level, double share, const Pair *product,
	  Pair *total)
{
	const ModelNode *node = &shap->nodes[at];
	uint32		input;
	PathInput	before;
	bool		holds;

	check_stack_depth();
	input = shap->origins[MODEL_NODE_SLOT(node)];
	before = shap->path[input];
	holds = model_test_holds(shap->words, node,
							 shap->task->slots[MODEL_NODE_SLOT(node)]);
	for (int side = 0; side < 2; side++)
	{
		uint32		child = node->next + side;
		double		part = shap->covers[at] > 0 ?
		shap->covers[child] / shap->covers[at] : 0;
		double		one = before.one != 0 && holds == (side == 0);
		double		zero = before.one >= 0 ? before.zero * part : part;

		if (one <= 0 && zero <= 0)
			continue;
		if (is_leaf(shap, child))
			visit_leaf(shap, child, share * part, input, one, zero, product,
					   total);
		else
			visit_side(shap, child, level, share * part, input, one, zero,
					   product, total);
	}
}

/* Points that are enough for a tree: its paths have at most depth inputs. */
static int
points_for(const ModelImage *image, uint32 depth)
{
	return Max((Min(depth, image->input_count) + 1) / 2, 1);
}

/* Adds the contributions of all trees of the task's output. */
void
model_shap(const ShapTask *task)
{
	const ModelImage *image = task->image;
	const ModelTrees *trees = task->trees;
	const ModelTree *tree = MODEL_AT(image, ModelTree, trees->trees);
	Shap		shap = {.task = task};
	uint32		depth = 0;
	int			most;
	Pair		one = {1, 1};
	Pair	   *first;

	shap.nodes = MODEL_AT(image, ModelNode, trees->nodes);
	shap.covers = MODEL_AT(image, double, trees->covers);
	shap.leaves = MODEL_AT(image, double, trees->leaves);
	shap.words = MODEL_AT(image, uint32, trees->words);
	shap.origins = MODEL_AT(image, uint32, image->origins);
	shap.leaf_width = trees->leaf_width;
	shap.leaf_output = trees->leaf_width == 1 ? 0 : task->output;
	for (uint32 i = 0; i < trees->tree_count; i++)
		depth = Max(depth, tree[i].depth);
	most = (points_for(image, depth) + 1) / 2;
	first = palloc(sizeof(Pair) * most * 2);
	shap.path = palloc(sizeof(PathInput) * Max(image->input_count, 1));
	for (uint32 i = 0; i < image->input_count; i++)
		shap.path[i] = (PathInput)
	{
		-1, -1, NULL, 0
	};
	shap.frames = palloc_extended(sizeof(Pair) * 3 * most *
								  ((size_t) depth + 1), MCXT_ALLOC_HUGE);
	for (uint32 i = 0; i < trees->tree_count; i++)
	{
		Pair	   *total = first + most;

		if (tree[i].output != MODEL_NONE && tree[i].output != task->output)
			continue;
		CHECK_FOR_INTERRUPTS();
		shap.quadrature = find_quadrature(points_for(image, tree[i].depth));
		for (int k = 0; k < most; k++)
		{
			first[k] = one;
			total[k] = one - one;
		}
		if (is_leaf(&shap, tree[i].root))
			*task->base += task->scale * leaf_value(&shap, tree[i].root);
		else
			visit(&shap, tree[i].root, 0, 1, first, total);
	}
	pfree(shap.frames);
	pfree(shap.path);
	pfree(first);
}

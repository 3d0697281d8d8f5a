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

/* What the path says of an input so far. */
typedef struct PathInput
{
	double		one;			/* 1 or 0; -1: not on the path */
	double		zero;			/* share of the training rows */
	const double *inverse;		/* of its factor, at each point */
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
	int			points;
	double	   *point;
	double	   *weight;
	double	   *rest;			/* 1 / (1 - point) */
	PathInput  *path;			/* one an input */
	double	   *frames;			/* three vectors a level */
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

/* In two strands; the number of points is even. */
static inline double
dot(const Shap *shap, const double *a, const double *b)
{
	double		even = 0;
	double		odd = 0;

	for (int k = 0; k < shap->points; k += 2)
	{
		even += a[k] * b[k];
		odd += a[k + 1] * b[k + 1];
	}
	return even + odd;
}

/* A factor at each point: its inverse, and the product with it. */
static inline void
set_factor(const Shap *shap, double one, double zero, const double *product,
		   double *inverse, double *below)
{
	double		scale = 1 / zero;

	if (one > 0)
		for (int k = 0; k < shap->points; k++)
		{
			double		factor = shap->point[k] + (1 - shap->point[k]) * zero;

			inverse[k] = 1 / factor;
			below[k] = product[k] * factor;
		}
	else
		for (int k = 0; k < shap->points; k++)
		{
			inverse[k] = scale * shap->rest[k];
			below[k] = product[k] * ((1 - shap->point[k]) * zero);
		}
}

static void visit(Shap *shap, uint32 at, int level, double share,
				  const double *product, double *total);

/*
 * Goes down one side of a node whose test is on this input; adds the sums of
 * the leaves below to total.
 */
static void
visit_side(Shap *shap, uint32 child, int level, double share, uint32 input,
		   double one, double zero, const double *product, double *total)
{
	double	   *inverse = shap->frames + (size_t) level * 3 * shap->points;
	double	   *below = inverse + shap->points;
	double	   *sum = below + shap->points;
	PathInput	before = shap->path[input];
	double		change;

	set_factor(shap, one, zero, product, inverse, below);
	for (int k = 0; k < shap->points; k++)
		sum[k] = 0;
	if (before.one >= 0)
		for (int k = 0; k < shap->points; k++)
			below[k] *= before.inverse[k];
	shap->path[input].one = one;
	shap->path[input].zero = zero;
	shap->path[input].inverse = inverse;
	visit(shap, child, level + 1, share, below, sum);
	shap->path[input] = before;

	/* leaves below count with the newest factor of their input only */
	change = (one - zero) * dot(shap, sum, inverse);
	if (before.one >= 0)
		change -= (before.one - before.zero) * dot(shap, sum, before.inverse);
	shap->task->contributions[input] += shap->task->scale * change;
	for (int k = 0; k < shap->points; k++)
		total[k] += sum[k];
}

/*
 * Visits a node, reached by this share of the training rows: adds what its
 * leaves are worth at each point to total.
 */
static void
visit(Shap *shap, uint32 at, int level, double share, const double *product,
	  double *total)
{
	const ModelNode *node = &shap->nodes[at];
	uint32		input;
	PathInput	before;
	bool		holds;

	if (MODEL_NODE_TEST(node) & MODEL_TEST_LEAF)
	{
		double		value =
		shap->leaves[(size_t) node->u.threshold * shap->leaf_width +
					 shap->leaf_output];

		for (int k = 0; k < shap->points; k++)
			total[k] += value * shap->weight[k] * product[k];
		*shap->task->base += shap->task->scale * value * share;
		return;
	}
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

		if (one > 0 || zero > 0)
			visit_side(shap, child, level, share * part, input, one, zero,
					   product, total);
	}
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
	double	   *first;

	shap.nodes = MODEL_AT(image, ModelNode, trees->nodes);
	shap.covers = MODEL_AT(image, double, trees->covers);
	shap.leaves = MODEL_AT(image, double, trees->leaves);
	shap.words = MODEL_AT(image, uint32, trees->words);
	shap.origins = MODEL_AT(image, uint32, image->origins);
	shap.leaf_width = trees->leaf_width;
	shap.leaf_output = trees->leaf_width == 1 ? 0 : task->output;
	for (uint32 i = 0; i < trees->tree_count; i++)
		depth = Max(depth, tree[i].depth);
	shap.points = Max((Min(depth, image->input_count) + 1) / 2, 1);
	shap.points += shap.points % 2;
	shap.point = palloc(sizeof(double) * shap.points * 5);
	shap.weight = shap.point + shap.points;
	shap.rest = shap.weight + shap.points;
	first = shap.rest + shap.points;
	gauss_legendre(shap.points, shap.point, shap.weight);
	for (int k = 0; k < shap.points; k++)
		shap.rest[k] = 1 / (1 - shap.point[k]);
	shap.path = palloc(sizeof(PathInput) * Max(image->input_count, 1));
	for (uint32 i = 0; i < image->input_count; i++)
		shap.path[i].one = -1;
	shap.frames = palloc_extended(sizeof(double) * 3 * shap.points *
								  ((size_t) depth + 1), MCXT_ALLOC_HUGE);
	for (uint32 i = 0; i < trees->tree_count; i++)
	{
		double	   *total = first + shap.points;

		if (tree[i].output != MODEL_NONE && tree[i].output != task->output)
			continue;
		CHECK_FOR_INTERRUPTS();
		for (int k = 0; k < shap.points; k++)
		{
			first[k] = 1;
			total[k] = 0;
		}
		visit(&shap, tree[i].root, 0, 1, first, total);
	}
	pfree(shap.frames);
	pfree(shap.path);
	pfree(shap.point);
}

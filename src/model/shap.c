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
 * Where o_i = 0, (o_i - z_i) over i's factor is -1 / (1 - t), whatever z_i:
 * once the row has left an input's side, more tests on it scale the products
 * and give it nothing.  Where o_i = 1 and z_i = 1, the factor is 1: so an
 * input that is not on the path yet needs no case of its own.
 *
 * Points know nothing of each other until all are added in the end.  So they
 * come in eights, which are vectors of any width, and a tree that needs more
 * is gone through again with the next eight.  Children come after their
 * parents: down is one loop, and up is one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "miscadmin.h"
#include "model/kernel.h"
#include "model/shap.h"
#include "utils/memutils.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define HAVE_X86_KERNELS
#endif

#define SHAP_LANES 8
#define SHAP_FEW 4				/* points of a tree that needs no more */
#define SHAP_ALIGNMENT 64

/* A number at each of eight points. */
typedef struct ShapLanes
{
	double		at[SHAP_LANES] pg_attribute_aligned(SHAP_ALIGNMENT);
} ShapLanes;

/* What processors take at once of them. */
typedef double Vector16 __attribute__((vector_size(16), may_alias));
#ifdef HAVE_X86_KERNELS
typedef double Vector32 __attribute__((vector_size(32), may_alias));
typedef double Vector64 __attribute__((vector_size(64), may_alias));
#endif

/* Eight points t on (0, 1), where no factor is 0. */
typedef struct ShapPoints
{
	ShapLanes	point;			/* t */
	ShapLanes	weight;
	ShapLanes	rest;			/* 1 - t */
	ShapLanes	rest_inverse;	/* 1 / (1 - t) */
} ShapPoints;

/* A quadrature: few points, which are half of the lanes, or full eights. */
typedef struct ShapQuadrature
{
	struct ShapQuadrature *next;
	int			count;
	ShapPoints *points;
} ShapQuadrature;

/* An inner node; places are nodes numbered within their tree, root first. */
typedef struct ShapNode
{
	uint32		place;
	uint32		child;			/* place of the first of two */
	uint32		input;			/* that is tested */
	uint32		before;			/* place below the last test of this input
								 * above, or the root */
	uint32		leaf[2];		/* that a child is, times 2; 1: it is none */
	double		part[2];		/* of the training rows that come here */
} ShapNode;

typedef struct ShapTree
{
	const ShapQuadrature *quadrature;
	ShapNode   *inner;			/* in the order of places */
	uint32		inner_count;
	uint32		first;			/* node */
	uint32		output;			/* or MODEL_NONE: all */
} ShapTree;

/* A session keeps plans of up to so many bytes, larger ones a transaction. */
#define SHAP_KEPT (1024 * 1024)

/* Takes about as much memory as the nodes take in the image. */
struct ShapPlan
{
	ShapPlan   *next;
	MemoryContext context;		/* of all this */
	const ModelImage *image;
	const ModelTrees *trees;
	ShapTree   *tree;			/* one each */
	ShapNode   *inner;			/* of all trees */
	size_t		inner_count;
	double	   *base;			/* one an output: over the training rows */
	ShapQuadrature *quadratures;
	uint32		most_nodes;		/* of a tree */
};

/* What is known of a place while its tree is planned. */
typedef struct Planned
{
	uint32		parent;
	uint32		input;			/* that is tested here */
	uint32		distinct;		/* inputs tested above */
	double		share;			/* of the training rows */
} Planned;

/* A place on a row's way: first its product, then its sum. */
typedef struct ShapPlace
{
	ShapLanes	sum;
	ShapLanes	inverse;		/* of the factor of the input tested above */
	bool		passed;			/* the row passes its tests so far, */
	double		zero;			/* then: as so many training rows do */
} ShapPlace;

/* A row that is being explained. */
typedef struct Shap
{
	const ModelNode *nodes;
	const uint32 *words;
	const double *worth[2];		/* the output's leaves; the number 1 */
	uint32		leaf_width;
	bool		tests;			/* some nodes are no MODEL_TEST_AT_MOST */
	const double *slots;
	ShapPlace  *places;
	ShapLanes  *totals;			/* one an input */
} Shap;

/* ---- quadratures ---- */

static void *
allocate_aligned(MemoryContext context, size_t size)
{
	return (void *) TYPEALIGN(SHAP_ALIGNMENT,
							  MemoryContextAllocExtended(context,
														 size + SHAP_ALIGNMENT,
														 MCXT_ALLOC_HUGE));
}

/*
 * Point number i of n on (0, 1), and its weight, by Newton's method on
 * Legendre's polynomial.
 */
static void
gauss_legendre(int n, int i, double *point, double *weight)
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
	*point = (x + 1) / 2;
	*weight = 1 / ((1 - x * x) * slope * slope);
}

/* n points are exact up to degree 2n - 1: enough for paths of 2n inputs. */
static const ShapQuadrature *
find_quadrature(ShapPlan *plan, uint32 inputs)
{
	ShapQuadrature *quadrature = plan->quadratures;
	int			eights = Max((int) ((inputs + 15) / 16), 1);
	int			count = inputs <= 2 * SHAP_FEW ? SHAP_FEW :
	eights * SHAP_LANES;

	while (quadrature != NULL && quadrature->count != count)
		quadrature = quadrature->next;
	if (quadrature != NULL)
		return quadrature;
	quadrature = MemoryContextAlloc(plan->context, sizeof(ShapQuadrature));
	quadrature->count = count;
	quadrature->points = allocate_aligned(plan->context,
										  sizeof(ShapPoints) * eights);
	for (int i = 0; i < count; i++)
	{
		ShapPoints *points = &quadrature->points[i / SHAP_LANES];
		int			lane = i % SHAP_LANES;

		CHECK_FOR_INTERRUPTS();
		gauss_legendre(count, i, &points->point.at[lane],
					   &points->weight.at[lane]);
		points->rest.at[lane] = 1 - points->point.at[lane];
		points->rest_inverse.at[lane] = 1 / points->rest.at[lane];
	}
	quadrature->next = plan->quadratures;
	plan->quadratures = quadrature;
	return quadrature;
}

/* ---- plans ---- */

/* Adds a leaf to what is expected where no input is known. */
static void
plan_leaf(ShapPlan *plan, const ModelTree *tree, uint32 leaf, double share)
{
	uint32		width = plan->trees->leaf_width;
	const double *values = MODEL_AT(plan->image, double, plan->trees->leaves) +
	(size_t) leaf * width;
	double	   *base = plan->base + (width == 1 ? tree->output : 0);

	for (uint32 i = 0; i < width; i++)
		base[i] += share * values[i];
}

/* The place below the last test of this place's input above it, or the root. */
static uint32
find_before(const Planned *planned, uint32 place)
{
	uint32		input = planned[place].input;

	while (place != 0 && planned[planned[place].parent].input != input)
		place = planned[place].parent;
	return place;
}

/* Plans an inner node, whose parent is planned. */
static void
plan_node(const ShapPlan *plan, const ModelTree *tree, uint32 place,
		  Planned *planned, ShapNode *inner)
{
	const ModelNode *nodes = MODEL_AT(plan->image, ModelNode,
									  plan->trees->nodes) + tree->root;
	const double *covers = MODEL_AT(plan->image, double,
									plan->trees->covers) + tree->root;
	const uint32 *origins = MODEL_AT(plan->image, uint32,
									 plan->image->origins);
	Planned    *here = &planned[place];

	here->input = origins[MODEL_NODE_SLOT(&nodes[place])];
	inner->place = place;
	inner->child = nodes[place].next - tree->root;
	inner->input = here->input;
	inner->before = find_before(planned, place);
	for (int side = 0; side < 2; side++)
	{
		uint32		child = inner->child + side;
		bool		leaf = MODEL_NODE_TEST(&nodes[child]) & MODEL_TEST_LEAF;

		inner->part[side] = covers[place] > 0 ?
			covers[child] / covers[place] : 0;
		inner->leaf[side] = leaf ? (uint32) nodes[child].u.threshold * 2 : 1;
		planned[child].parent = place;
		planned[child].distinct = here->distinct + (inner->before == 0);
		planned[child].share = here->share * inner->part[side];
	}
}

/* Plans a tree; planned has room for its nodes. */
static void
plan_tree(ShapPlan *plan, const ModelTree *tree, Planned *planned,
		  ShapTree *result)
{
	const ModelNode *nodes = MODEL_AT(plan->image, ModelNode,
									  plan->trees->nodes) + tree->root;
	uint32		most = 0;

	result->first = tree->root;
	result->output = tree->output;
	result->inner = plan->inner + plan->inner_count;
	planned[0].distinct = 0;
	planned[0].share = 1;
	for (uint32 place = 0; place < tree->node_count; place++)
	{
		CHECK_FOR_INTERRUPTS();
		if (MODEL_NODE_TEST(&nodes[place]) & MODEL_TEST_LEAF)
			plan_leaf(plan, tree, (uint32) nodes[place].u.threshold,
					  planned[place].share);
		else
			plan_node(plan, tree, place, planned,
					  &plan->inner[plan->inner_count++]);
		most = Max(most, planned[place].distinct);
	}
	result->inner_count = plan->inner + plan->inner_count - result->inner;
	result->quadrature = find_quadrature(plan, most);
}

/*
 * Plans an ensemble, each of whose tests is of one input, and puts the plan
 * before the others of its model.
 */
void
model_shap_plan(const ModelImage *image, const ModelTrees *trees,
				ShapPlan **plans)
{
	const ModelTree *tree = MODEL_AT(image, ModelTree, trees->trees);
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "visage explained trees",
												  ALLOCSET_SMALL_SIZES);
	ShapPlan   *plan = MemoryContextAllocZero(context, sizeof(ShapPlan));
	Planned    *planned;
	size_t		inner = 0;

	plan->context = context;
	plan->image = image;
	plan->trees = trees;
	for (uint32 i = 0; i < trees->tree_count; i++)
	{
		plan->most_nodes = Max(plan->most_nodes, tree[i].node_count);
		inner += tree[i].leaf_count - 1;
	}
	plan->tree = MemoryContextAllocHuge(context, sizeof(ShapTree) *
										trees->tree_count);
	plan->inner = MemoryContextAllocHuge(context, sizeof(ShapNode) * inner);
	plan->base = MemoryContextAllocZero(context,
										sizeof(double) * trees->output_count);
	planned = palloc_extended(sizeof(Planned) * Max(plan->most_nodes, 1),
							  MCXT_ALLOC_HUGE);
	for (uint32 i = 0; i < trees->tree_count; i++)
		plan_tree(plan, &tree[i], planned, &plan->tree[i]);
	pfree(planned);
	plan->next = *plans;
	*plans = plan;
	MemoryContextSetParent(context, TopMemoryContext);
}

/* Frees the plans that are too large to be kept, or all, of those listed. */
void
model_shap_free(ShapPlan **plans, bool all)
{
	while (*plans != NULL)
	{
		ShapPlan   *plan = *plans;

		if (all || MemoryContextMemAllocated(plan->context, true) > SHAP_KEPT)
		{
			*plans = plan->next;
			MemoryContextDelete(plan->context);
		}
		else
			plans = &plan->next;
	}
}

/* The ensemble's plan, or NULL. */
ShapPlan *
model_shap_find(ShapPlan *plans, const ModelTrees *trees)
{
	while (plans != NULL && plans->trees != trees)
		plans = plans->next;
	return plans;
}

/* ---- rows ---- */

/* The child that the row goes to from an inner node. */
static pg_attribute_always_inline int
shap_side(const Shap *shap, uint32 at)
{
	const ModelNode *node = &shap->nodes[at];
	double		x = shap->slots[MODEL_NODE_SLOT(node)];

	return shap->tests ? !model_test_holds(shap->words, node, x) :
		!(x <= node->u.threshold);
}

/* What a child is worth: a leaf its value, an inner node 1; without a branch. */
static pg_attribute_always_inline double
shap_worth(const Shap *shap, uint32 leaf)
{
	return shap->worth[leaf & 1][(size_t) (leaf >> 1) * shap->leaf_width];
}

#define SHAP_NAME(what) what##_plain_four
#define SHAP_COUNT 4
#define SHAP_VECTOR Vector16
#define SHAP_TARGET
#include "model/shap_kernel.h"

#define SHAP_NAME(what) what##_plain_eight
#define SHAP_COUNT 8
#define SHAP_VECTOR Vector16
#define SHAP_TARGET
#include "model/shap_kernel.h"

#ifdef HAVE_X86_KERNELS

#define SHAP_NAME(what) what##_avx2_four
#define SHAP_COUNT 4
#define SHAP_VECTOR Vector32
#define SHAP_TARGET __attribute__((target("avx2")))
#include "model/shap_kernel.h"

#define SHAP_NAME(what) what##_avx2_eight
#define SHAP_COUNT 8
#define SHAP_VECTOR Vector32
#define SHAP_TARGET __attribute__((target("avx2")))
#include "model/shap_kernel.h"

#define SHAP_NAME(what) what##_avx512_eight
#define SHAP_COUNT 8
#define SHAP_VECTOR Vector64
#define SHAP_TARGET __attribute__((target("avx512f")))
#include "model/shap_kernel.h"

#endif							/* HAVE_X86_KERNELS */

typedef void (*ShapKernel) (const Shap *shap, const ShapTree *tree,
							const ShapPoints *points);

/* The best that may be used, for four points or eight. */
static ShapKernel
choose_kernel(bool four)
{
#ifdef HAVE_X86_KERNELS
	if (!four && model_instructions() >= MODEL_AVX512)
		return explain_avx512_eight;
	if (model_instructions() >= MODEL_AVX2)
		return four ? explain_avx2_four : explain_avx2_eight;
#endif
	return four ? explain_plain_four : explain_plain_eight;
}

/* Adds a tree to the totals. */
static void
explain_tree(const Shap *shap, const ShapTree *tree)
{
	const ShapQuadrature *quadrature = tree->quadrature;
	ShapKernel	kernel = choose_kernel(quadrature->count == SHAP_FEW);
	ShapPlace  *root = &shap->places[0];

	root->passed = true;
	root->zero = 1;
	for (int k = 0; k < SHAP_LANES; k++)
		root->inverse.at[k] = 1;
	for (int i = 0; i * SHAP_LANES < quadrature->count; i++)
	{
		root->sum = quadrature->points[i].weight;
		kernel(shap, tree, &quadrature->points[i]);
	}
}

/* Adds the contributions of all trees of the task's output. */
void
model_shap(const ShapTask *task)
{
	static const double one = 1;
	const ShapPlan *plan = task->plan;
	const ModelImage *image = plan->image;
	const ModelTrees *trees = plan->trees;
	size_t		size = sizeof(ShapPlace) * plan->most_nodes +
	sizeof(ShapLanes) * image->input_count;
	void	   *memory = palloc_extended(size + SHAP_ALIGNMENT,
										 MCXT_ALLOC_HUGE);
	Shap		shap = {
		.nodes = MODEL_AT(image, ModelNode, trees->nodes),
		.words = MODEL_AT(image, uint32, trees->words),
		.worth = {MODEL_AT(image, double, trees->leaves) +
		(trees->leaf_width == 1 ? 0 : task->output), &one},
		.leaf_width = trees->leaf_width,
		.tests = (trees->flags & MODEL_TREES_TESTS) != 0,
		.slots = task->slots,
		.totals = (ShapLanes *) TYPEALIGN(SHAP_ALIGNMENT, memory)
	};

	shap.places = (ShapPlace *) (shap.totals + image->input_count);
	memset(shap.totals, 0, sizeof(ShapLanes) * image->input_count);
	for (uint32 i = 0; i < trees->tree_count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (plan->tree[i].inner_count > 0 &&
			(plan->tree[i].output == MODEL_NONE ||
			 plan->tree[i].output == task->output))
			explain_tree(&shap, &plan->tree[i]);
	}
	for (uint32 i = 0; i < image->input_count; i++)
		for (int k = 0; k < SHAP_LANES; k++)
			task->contributions[i] += task->scale * shap.totals[i].at[k];
	*task->base += task->scale * plan->base[task->output];
	pfree(memory);
}

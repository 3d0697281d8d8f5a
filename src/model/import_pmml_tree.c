/*-------------------------------------------------------------------------
 *
 * import_pmml_tree.c
 *		TreeModel of PMML.
 *
 * A node of PMML has any number of children, each with a predicate, tried in
 * their order; a predicate on a missing field is unknown, and the model says
 * what then happens.  Here a node has two ways out, so the children become a
 * chain of tests: the first test's "no" leads to the second test.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "miscadmin.h"
#include "model/import_pmml.h"

typedef enum MissingStrategy
{
	MISSING_NONE,				/* an unknown predicate is false */
	MISSING_LAST,				/* this node's score */
	MISSING_NULL,				/* no score */
	MISSING_DEFAULT				/* the child that the node names */
} MissingStrategy;

typedef struct TreeBuild
{
	PmmlImport *import;
	PmmlScope  *scope;
	MissingStrategy missing;
	bool		last_if_none;	/* no child is true: this node's score */
	ProgramNode *nodes;
	int			count;
	int			allocated;
	/* what leaves give */
	char	  **labels;			/* of classes, or NULL: numbers */
	int			label_count;
	bool		votes;			/* 1 for the class, not its probability */
	bool		with_number;	/* one more value: the class's number */
	bool		distributed;	/* some nodes have a distribution of classes */
	int			width;			/* values of a leaf; 0: one number */
} TreeBuild;

/* Children that are nodes. */
typedef struct Children
{
	const PmmlElement **nodes;
	const PmmlElement **predicates;
	int			count;
	int			fallback;		/* defaultChild, or -1 */
} Children;

static int	build_node(TreeBuild *build, const PmmlElement *node);
static int	build_chain(TreeBuild *build, const PmmlElement *node,
						const Children *children, int i);

static int
new_node(TreeBuild *build)
{
	ProgramNode initial = PROGRAM_NODE_INIT;

	CHECK_FOR_INTERRUPTS();
	if (build->count == build->allocated)
	{
		build->allocated = Max(16, build->allocated * 2);
		build->nodes = build->nodes == NULL ?
			palloc(sizeof(ProgramNode) * build->allocated) :
			repalloc_huge(build->nodes, sizeof(ProgramNode) * build->allocated);
	}
	build->nodes[build->count] = initial;
	return build->count++;
}

/* ---- leaves ---- */

/* The probabilities of the classes at a node; false if it has none. */
static bool
distribution(TreeBuild *build, const PmmlElement *node, double *values)
{
	double		total = 0;
	bool		found = false;

	for (const PmmlElement *child = node->first; child != NULL;
		 child = child->next)
		if (pmml_is(child, "ScoreDistribution"))
			total += pmml_number(child, "recordCount", 0);
	for (const PmmlElement *child = node->first; child != NULL;
		 child = child->next)
	{
		int			class;
		double		share;

		if (!pmml_is(child, "ScoreDistribution"))
			continue;
		class = pmml_class_number(child, build->labels, build->label_count,
								  pmml_require(child, "value"));
		share = pmml_number(child, "recordCount", 0) / total;
		values[class] = pmml_number(child, "probability", share);
		if (!isfinite(values[class]))
			pmml_damaged(child, "the probability is not finite");
		found = true;
	}
	return found;
}

/* The class that a node chooses, or -1. */
static int
chosen_class(TreeBuild *build, const PmmlElement *node, const double *shares)
{
	const char *score = pmml_attribute(node, "score");
	int			best = 0;

	if (score != NULL)
		return pmml_class_number(node, build->labels, build->label_count,
								 score);
	if (shares == NULL)
		return -1;
	for (int i = 1; i < build->label_count; i++)
		if (shares[i] > shares[best])
			best = i;
	return best;
}

static void
fill_class(TreeBuild *build, const PmmlElement *node, double *values)
{
	int			count = build->label_count;
	bool		known = node != NULL && distribution(build, node, values);
	int			class = node == NULL ? -1 :
	chosen_class(build, node, known ? values : NULL);

	if (class < 0)
	{
		for (int i = 0; i < build->width; i++)
			values[i] = NAN;
		return;
	}
	/* without any distribution in the tree a score is a vote */
	if (!known || build->votes)
		for (int i = 0; i < count; i++)
			values[i] = build->distributed && !build->votes ? NAN : i == class;
	if (build->with_number)
		values[count] = class;
}

/* A leaf with this node's score; with none for NULL. */
static int
build_leaf(TreeBuild *build, const PmmlElement *node)
{
	int			at = new_node(build);
	double	   *values;

	build->nodes[at].test = PROGRAM_LEAF;
	if (build->labels == NULL)
	{
		build->nodes[at].value = node == NULL ? NAN :
			pmml_number(node, "score", NAN);
		return at;
	}
	values = palloc0(sizeof(double) * build->width);
	fill_class(build, node, values);
	build->nodes[at].values = values;
	return at;
}

/* ---- chains of tests ---- */

/* Do two sets differ in nothing but the operator? */
static bool
is_opposite_set(const PmmlElement *a, const PmmlElement *b)
{
	const PmmlElement *first = pmml_child(a, "Array");
	const PmmlElement *second = pmml_child(b, "Array");

	return first != NULL && second != NULL && first->text != NULL &&
		second->text != NULL && strcmp(first->text, second->text) == 0 &&
		strcmp(pmml_require(a, "field"), pmml_require(b, "field")) == 0 &&
		strcmp(pmml_require(a, "booleanOperator"),
			   pmml_require(b, "booleanOperator")) != 0;
}

/* Is the second simple predicate true exactly where the first is false? */
static bool
is_opposite(const PmmlElement *a, const PmmlElement *b)
{
	static const char *const pairs[][2] = {
		{"lessThan", "greaterOrEqual"}, {"lessOrEqual", "greaterThan"},
		{"equal", "notEqual"}, {"isMissing", "isNotMissing"}
	};
	const char *first = pmml_attribute(a, "operator");
	const char *second = pmml_attribute(b, "operator");
	const char *value = pmml_attribute(a, "value");

	if (pmml_is(a, "SimpleSetPredicate") && pmml_is(b, "SimpleSetPredicate"))
		return is_opposite_set(a, b);
	if (!pmml_is(a, "SimplePredicate") || !pmml_is(b, "SimplePredicate") ||
		first == NULL || second == NULL ||
		strcmp(pmml_require(a, "field"), pmml_require(b, "field")) != 0 ||
		strcmp(value ? value : "",
			   pmml_attribute(b, "value") ? pmml_attribute(b, "value") : "") != 0)
		return false;
	for (int i = 0; i < lengthof(pairs); i++)
		if ((strcmp(first, pairs[i][0]) == 0 && strcmp(second, pairs[i][1]) == 0) ||
			(strcmp(first, pairs[i][1]) == 0 && strcmp(second, pairs[i][0]) == 0))
			return true;
	return false;
}

/* The field of a predicate on one field, or NULL. */
static const char *
only_field(const PmmlElement *predicate)
{
	if (pmml_is(predicate, "SimplePredicate") ||
		pmml_is(predicate, "SimpleSetPredicate"))
		return pmml_attribute(predicate, "field");
	return NULL;
}

/* Does an unknown predicate i lead to the default child by later tests? */
static bool
falls_to_default(const Children *children, int i)
{
	const char *field = only_field(children->predicates[i]);

	for (int j = i + 1; j <= children->fallback; j++)
	{
		const char *next = only_field(children->predicates[j]);

		if (j == children->fallback &&
			pmml_is(children->predicates[j], "True"))
			return true;
		if (field == NULL || next == NULL || strcmp(field, next) != 0)
			return false;
	}
	return children->fallback > i;
}

/* Can predicate i never be unknown when it is reached? */
static bool
is_never_unknown(const TreeBuild *build, const Children *children, int i)
{
	const PmmlElement *predicate = children->predicates[i];
	const char *operator = pmml_attribute(predicate, "operator");
	const char *field = only_field(predicate);
	const char *earlier = children->fallback < 0 || children->fallback >= i ?
	NULL : only_field(children->predicates[children->fallback]);

	/* a missing field has led to the default child before */
	if (build->missing == MISSING_DEFAULT && field != NULL &&
		earlier != NULL && strcmp(field, earlier) == 0)
		return true;
	return pmml_is(predicate, "SimplePredicate") && operator != NULL &&
		strstr(operator, "Missing") != NULL;
}

/* Goes on at next; at other where the slot is missing. */
static int
build_guard(TreeBuild *build, int slot, int next, int other)
{
	int			at = new_node(build);

	build->nodes[at].test = PROGRAM_AT_MOST;
	build->nodes[at].threshold = INFINITY;
	build->nodes[at].slot = slot;
	build->nodes[at].yes = next;
	build->nodes[at].no = other;
	return at;
}

/* What follows where predicate i is not true. */
static int
build_rest(TreeBuild *build, const PmmlElement *node,
		   const Children *children, int i, int at, bool unknown)
{
	bool		opposite = i + 2 == children->count &&
	is_opposite(children->predicates[i], children->predicates[i + 1]);
	int			slot = build->nodes[at].slot;
	int			next;

	if (!unknown)
		return opposite ? build_node(build, children->nodes[i + 1]) :
			build_chain(build, node, children, i + 1);
	switch (build->missing)
	{
		case MISSING_DEFAULT:
			if (children->fallback == i)
				build->nodes[at].missing_yes = true;
			else if (children->fallback >= 0 && !opposite &&
					 !falls_to_default(children, i))
				pmml_refuse(node, "defaultChild among children on several fields");
			else if (children->fallback < 0)
			{
				next = opposite ? build_node(build, children->nodes[i + 1]) :
					build_chain(build, node, children, i + 1);
				return build_guard(build, slot, next, build_leaf(build, NULL));
			}
			return opposite ? build_node(build, children->nodes[i + 1]) :
				build_chain(build, node, children, i + 1);
		case MISSING_LAST:
		case MISSING_NULL:
			next = opposite ? build_node(build, children->nodes[i + 1]) :
				build_chain(build, node, children, i + 1);
			return build_guard(build, slot, next,
							   build_leaf(build, build->missing == MISSING_LAST ? node : NULL));
		default:
			return build_chain(build, node, children, i + 1);
	}
}

/* The children from number i on. */
static int
build_chain(TreeBuild *build, const PmmlElement *node,
			const Children *children, int i)
{
	const PmmlElement *predicate;
	ProgramNode test = PROGRAM_NODE_INIT;
	int			at;
	int			next;

	check_stack_depth();
	if (i == children->count)
		return build_leaf(build, build->last_if_none ? node : NULL);
	predicate = children->predicates[i];
	if (pmml_is(predicate, "True"))
		return build_node(build, children->nodes[i]);
	if (pmml_is(predicate, "False"))
		return build_chain(build, node, children, i + 1);
	if (!pmml_predicate_test(build->import, build->scope, predicate, &test))
	{
		test.test = PROGRAM_EQUAL;
		test.threshold = 1;
		test.slot = pmml_predicate(build->import, build->scope, predicate);
	}
	at = new_node(build);
	build->nodes[at] = test;
	next = build_node(build, children->nodes[i]);
	build->nodes[at].yes = next;
	next = build_rest(build, node, children, i, at,
					  !test.missing_yes &&
					  !is_never_unknown(build, children, i));
	build->nodes[at].no = next;
	return at;
}

/* ---- nodes ---- */

static void
find_children(const PmmlElement *node, Children *children)
{
	const char *fallback = pmml_attribute(node, "defaultChild");

	memset(children, 0, sizeof(*children));
	children->fallback = -1;
	for (const PmmlElement *child = node->first; child != NULL;
		 child = child->next)
	{
		if (pmml_is(child, "Partition") || pmml_is(child, "DecisionTree") ||
			pmml_is(child, "Regression"))
			pmml_refuse(child, child->name);
		children->count += pmml_is(child, "Node");
	}
	children->nodes = palloc(sizeof(PmmlElement *) * Max(children->count, 1));
	children->predicates = palloc(sizeof(PmmlElement *) * Max(children->count, 1));
	children->count = 0;
	for (const PmmlElement *child = node->first; child != NULL;
		 child = child->next)
	{
		const char *id = pmml_attribute(child, "id");

		if (!pmml_is(child, "Node"))
			continue;
		if (fallback != NULL && id != NULL && strcmp(id, fallback) == 0)
			children->fallback = children->count;
		children->predicates[children->count] = pmml_predicate_of(child);
		children->nodes[children->count++] = child;
	}
	if (fallback != NULL && children->fallback < 0)
		pmml_damaged(node, psprintf("there is no child \"%s\"", fallback));
}

/* The node, whose predicate holds. */
static int
build_node(TreeBuild *build, const PmmlElement *node)
{
	Children	children;

	find_children(node, &children);
	return children.count == 0 ? build_leaf(build, node) :
		build_chain(build, node, &children, 0);
}

/* ---- models ---- */

static MissingStrategy
missing_strategy(const PmmlElement *model)
{
	static const char *const names[] = {"none", "lastPrediction",
	"nullPrediction", "defaultChild"};
	const char *given = pmml_attribute(model, "missingValueStrategy");

	for (int i = 0; i < lengthof(names); i++)
		if (given == NULL || strcmp(names[i], given) == 0)
			return (MissingStrategy) i;
	pmml_refuse(model, psprintf("missingValueStrategy \"%s\"", given));
}

static bool
last_if_none(const PmmlElement *model)
{
	const char *given = pmml_attribute(model, "noTrueChildStrategy");

	if (given == NULL || strcmp(given, "returnNullPrediction") == 0)
		return false;
	if (strcmp(given, "returnLastPrediction") == 0)
		return true;
	pmml_refuse(model, psprintf("noTrueChildStrategy \"%s\"", given));
}

static bool
has_distribution(const PmmlElement *node)
{
	check_stack_depth();
	for (const PmmlElement *child = node->first; child != NULL;
		 child = child->next)
		if (pmml_is(child, "ScoreDistribution") ||
			(pmml_is(child, "Node") && has_distribution(child)))
			return true;
	return false;
}

/* Builds the nodes; the root is the first of them. */
static void
build_tree(TreeBuild *build, const PmmlElement *model)
{
	const PmmlElement *root = pmml_child(model, "Node");
	const PmmlElement *predicate;
	const char *penalty = pmml_attribute(model, "missingValuePenalty");

	if (root == NULL)
		pmml_damaged(model, "there is no node");
	if (penalty != NULL && pmml_parse_number(model, penalty) != 1)
		pmml_refuse(model, "missingValuePenalty");
	build->distributed = has_distribution(root);
	build->missing = missing_strategy(model);
	build->last_if_none = last_if_none(model);
	predicate = pmml_predicate_of(root);
	if (!pmml_is(predicate, "True"))
		pmml_refuse(predicate, "a root with another predicate than True");
	if (build_node(build, root) != 0)
		pmml_refuse(root, "a tree without a test first");
}

/* Adds a tree to an ensemble of numbers (output) or of classes (-1). */
void
pmml_add_tree(PmmlImport *import, PmmlScope *scope, const PmmlElement *model,
			  ProgramTrees *trees, int output, char **labels, int count,
			  bool votes)
{
	TreeBuild	build = {.import = import,.scope = scope,.votes = votes,
		.labels = output < 0 ? labels : NULL,.label_count = count,
	.width = count};

	build_tree(&build, model);
	program_add_tree(trees, output, build.nodes, build.count);
}

/* Is the whole of a model in float32? */
static bool
in_float32(const PmmlElement *model)
{
	const char *context = pmml_attribute(model, "x-mathContext");

	return context != NULL && strcmp(context, "float") == 0;
}

void
pmml_tree(PmmlImport *import, PmmlScope *scope, const PmmlElement *model,
		  PmmlResult *result)
{
	TreeBuild	build = {.import = import,.scope = scope,.with_number = true};
	ProgramTrees *trees;

	if (!pmml_is_classification(model))
	{
		trees = program_create_trees(import->program, 1, in_float32(model));
		pmml_add_tree(import, scope, model, trees, 0, NULL, 0, false);
		result->value = program_add_trees(import->program, trees);
		result->raw = result->value;
		result->raw_count = 1;
		return;
	}
	result->classification = true;
	result->labels = build.labels = pmml_class_labels(import, model,
													  &result->count);
	build.label_count = result->count;
	build.width = result->count + 1;
	build_tree(&build, model);
	trees = program_create_trees(import->program, build.width, false);
	program_add_tree(trees, -1, build.nodes, build.count);
	result->first = program_add_trees(import->program, trees);
	result->value = result->first + result->count;
	result->raw = result->first + (result->count == 2 ? 1 : 0);
	result->raw_count = result->count == 2 ? 1 : result->count;
}

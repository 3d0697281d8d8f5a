/*-------------------------------------------------------------------------
 *
 * import_lightgbm.c
 *		LightGBM's text models as programs.
 *
 * Predictions are those of Booster.predict, bit for bit: an output starts
 * with 0 and adds the leaves in the order of the trees, in float64.
 * x <= threshold goes left.  A split says what is missing: nothing (NaN is
 * read as 0), zero (with NaN read as 0), or NaN.  The categories of a split
 * go left, all others and NaN right.
 *
 * The library reads every |x| <= 1e-35 as 0 before it looks at a tree.
 * Thresholds within that range are moved to its ends, which has the same
 * effect; only in the sum of a linear leaf is such an x itself used here.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "miscadmin.h"
#include "model/import.h"
#include "model/import_lightgbm.h"

#define FORMAT "LightGBM"

/* What is read as 0, the library's constant. */
#define ZERO ((double) 1e-35f)

/* Bits of decision_type. */
#define DECISION_CATEGORICAL 1
#define DECISION_DEFAULT_LEFT 2
#define DECISION_MISSING(decision) (((decision) >> 2) & 3)
#define MISSING_NONE 0
#define MISSING_ZERO 1
#define MISSING_NAN 2

typedef enum Link
{
	LINK_IDENTITY,
	LINK_SQUARE,				/* sign(x) * x * x: trained on square roots */
	LINK_EXP,
	LINK_LOGISTIC,				/* of factor * x */
	LINK_SOFTMAX,
	LINK_LOG_ONE_PLUS_EXP
} Link;

typedef struct Objective
{
	const char *name;
	Link		link;
	bool		is_classification;
	bool		may_square;		/* "sqrt" is honoured */
} Objective;

static const Objective objectives[] = {
	{"regression", LINK_IDENTITY, false, true},
	{"regression_l1", LINK_IDENTITY, false, true},
	{"huber", LINK_IDENTITY, false, false},
	{"fair", LINK_IDENTITY, false, true},
	{"quantile", LINK_IDENTITY, false, true},
	{"mape", LINK_IDENTITY, false, true},
	{"poisson", LINK_EXP, false, false},
	{"gamma", LINK_EXP, false, false},
	{"tweedie", LINK_EXP, false, false},
	{"binary", LINK_LOGISTIC, true, false},
	{"cross_entropy", LINK_LOGISTIC, true, false},
	{"cross_entropy_lambda", LINK_LOG_ONE_PLUS_EXP, false, false},
	{"multiclass", LINK_SOFTMAX, true, false},
	{"multiclassova", LINK_LOGISTIC, true, false},
	{"lambdarank", LINK_IDENTITY, false, false},
	{"rank_xendcg", LINK_IDENTITY, false, false},
	{"custom", LINK_IDENTITY, false, false},
};

typedef struct Importing
{
	const ImportSource *source;
	const LightgbmModel *model;
	const Objective *objective;
	Link		link;
	double		factor;			/* of the logistic link */
	ModelProgram *program;
	int			outputs;
	int		   *slots;			/* of the features */
	Size		set_words;		/* of all sets of categories so far */
} Importing;

/* ---- the objective ---- */

/* A parameter of the objective, as in "sigmoid:1", after its name. */
static double
objective_parameter(const char *value, const char *name)
{
	char	   *end;
	double		result = strtod(value, &end);

	if (end == value || *end != '\0' || !(result > 0) || isinf(result))
		import_damaged(FORMAT, "the objective's %s is not positive", name);
	return result;
}

/* Reads "binary sigmoid:1", "multiclass num_class:3", "regression sqrt". */
static void
set_objective(Importing *importing)
{
	char	   *text = pstrdup(importing->model->objective ?
							   importing->model->objective : "custom");
	char	   *rest;
	char	   *word = strtok_r(text, " ", &rest);

	for (int i = 0; word != NULL && i < lengthof(objectives); i++)
		if (strcmp(objectives[i].name, word) == 0)
			importing->objective = &objectives[i];
	if (importing->objective == NULL)
		core_not_supported(psprintf("LightGBM objective \"%s\"",
									word ? word : ""), NULL);
	importing->link = importing->objective->link;
	importing->factor = 1;
	while ((word = strtok_r(NULL, " ", &rest)) != NULL)
	{
		if (strncmp(word, "sigmoid:", 8) == 0)
			importing->factor = objective_parameter(word + 8, "sigmoid");
		else if (strncmp(word, "num_class:", 10) == 0)
		{
			if (objective_parameter(word + 10, "num_class") !=
				importing->outputs)
				import_damaged(FORMAT, "the objective has not as many "
							   "classes as trees in an iteration");
		}
		else if (strcmp(word, "sqrt") == 0)
			importing->link = importing->objective->may_square ? LINK_SQUARE :
				importing->link;
		else
			core_not_supported(psprintf("parameter \"%s\" of LightGBM "
										"objective \"%s\"", word,
										importing->objective->name), NULL);
	}
}

/* ---- features ---- */

static bool
is_categorical(const LightgbmModel *model, int feature)
{
	return model->infos[feature][0] != '[' &&
		strcmp(model->infos[feature], "none") != 0;
}

/* Are the codes that the feature had in training codes of these categories? */
static bool
codes_fit(const char *info, int count)
{
	if (strcmp(info, "none") == 0)
		return true;
	while (*info != '\0')
	{
		char	   *end;
		long		code = strtol(info, &end, 10);

		if (end == info || code < -1 || code >= count)
			return false;
		info = *end == ':' ? end + 1 : end;
		if (*end != ':' && *end != '\0')
			return false;
	}
	return true;
}

/*
 * For each feature the number of its list of categories, or -1.
 *
 * pandas_categorical has a list for each column of a data frame that was
 * categorical, in their order, but does not say which those were.  They are
 * the categorical features, unless some column was ordered (and so trained
 * as a number) or categories were given otherwise, too.
 */
static int *
place_categories(const LightgbmModel *model)
{
	int		   *places = palloc(sizeof(int) * model->feature_count);
	int			next = 0;
	bool		fit = true;

	memset(places, -1, sizeof(int) * model->feature_count);
	if (model->pandas_count == 0)
		return places;
	if (model->categorical_count > 0)
	{
		for (int i = 0; i < model->categorical_count; i++)
			places[model->categorical[i]] = 0;
	}
	else
		for (int i = 0; i < model->feature_count; i++)
			if (is_categorical(model, i))
				places[i] = 0;
	for (int i = 0; i < model->feature_count; i++)
	{
		if (places[i] < 0)
			continue;
		places[i] = next++;
		fit = fit && next <= model->pandas_count &&
			codes_fit(model->infos[i], model->pandas[places[i]].count);
	}
	if (!fit || next != model->pandas_count)
		core_not_supported("LightGBM's pandas_categorical where the "
						   "categorical columns are not the categorical "
						   "features",
						   "Train with unordered categories, or with codes.");
	return places;
}

static void
add_features(Importing *importing)
{
	const LightgbmModel *model = importing->model;
	int		   *places = place_categories(model);

	importing->slots = palloc(sizeof(int) * model->feature_count);
	for (int i = 0; i < model->feature_count; i++)
	{
		ProgramInput input = PROGRAM_INPUT_INIT;

		import_input_init(importing->source, i, model->names[i], &input);
		input.unseen = NAN;
		if (places[i] >= 0)
		{
			const LightgbmCategories *pandas = &model->pandas[places[i]];

			input.kind = MODEL_CATEGORY;
			input.category_count = pandas->count;
			input.categories = (const char *const *) pandas->names;
		}
		importing->slots[i] = program_add_input(importing->program, &input);
	}
}

/* ---- trees ---- */

static void
pg_attribute_noreturn()
tree_damaged(const Importing *importing, const LightgbmTree *tree, int split,
			 const char *what)
{
	import_damaged(FORMAT, "tree %d (from line " INT64_FORMAT "), split %d: "
				   "%s", (int) (tree - importing->model->trees), tree->line,
				   split, what);
}

/* Splits are nodes 0 and on, leaves follow them. */
static int
child_node(const Importing *importing, const LightgbmTree *tree, int split,
		   int32 child)
{
	int			splits = tree->leaf_count - 1;

	if (child >= splits || child < -tree->leaf_count)
		tree_damaged(importing, tree, split, "a child does not exist");
	return child >= 0 ? child : splits + ~child;
}

/* The threshold that compares x itself as the given one compares x or 0. */
static double
move_threshold(double threshold)
{
	if (threshold >= 0 && threshold < ZERO)
		return ZERO;
	if (threshold < 0 && threshold >= -ZERO)
		return nextafter(-ZERO, -INFINITY);
	return threshold;
}

/* Every split has a set of its own: sharing could multiply a file's size. */
static void
set_categories(Importing *importing, const LightgbmTree *tree,
			   int split, ProgramNode *node)
{
	double		number = tree->threshold[split];
	int32	   *bounds = tree->set_bounds;
	int			set;

	if (!(number >= 0 && number < tree->set_count))
		tree_damaged(importing, tree, split, "its categories do not exist");
	set = (int) number;
	if (bounds[set + 1] < bounds[set] ||
		bounds[set + 1] > bounds[tree->set_count])
		tree_damaged(importing, tree, split, "its categories are not there");
	importing->set_words += bounds[set + 1] - bounds[set];
	if (importing->set_words > importing->source->size)
		tree_damaged(importing, tree, split, "it shares its categories");
	node->test = PROGRAM_IN;
	node->set = tree->set_words + bounds[set];
	node->set_words = bounds[set + 1] - bounds[set];
	node->set_negative = true;
}

static void
set_split(Importing *importing, const LightgbmTree *tree, int split,
		  ProgramNode *node)
{
	int			decision = tree->decision ? tree->decision[split] : 0;
	bool		default_left = (decision & DECISION_DEFAULT_LEFT) != 0;

	if (tree->feature[split] >= importing->model->feature_count)
		tree_damaged(importing, tree, split, "its feature does not exist");
	node->slot = importing->slots[tree->feature[split]];
	node->yes = child_node(importing, tree, split, tree->left[split]);
	node->no = child_node(importing, tree, split, tree->right[split]);
	if (decision & DECISION_CATEGORICAL)
	{
		set_categories(importing, tree, split, node);
		return;
	}
	node->test = PROGRAM_AT_MOST;
	node->threshold = move_threshold(tree->threshold[split]);
	switch (DECISION_MISSING(decision))
	{
		case MISSING_NONE:
			node->missing_yes = 0 <= tree->threshold[split];
			break;
		case MISSING_ZERO:
			node->missing_yes = default_left;
			node->zero_missing = true;
			break;
		case MISSING_NAN:
			node->missing_yes = default_left;
			break;
		default:
			tree_damaged(importing, tree, split,
						 "its missing type is unknown");
	}
}

/* A leaf; *term counts the terms of the linear leaves before it. */
static void
set_leaf(const Importing *importing, const LightgbmTree *tree, int leaf,
		 int64 *term, ProgramNode *node)
{
	int		   *slots;

	node->test = PROGRAM_LEAF;
	node->value = tree->leaf_value[leaf];
	/* a tree of one leaf does not say how many rows it had */
	node->cover = tree->leaf_weight ? tree->leaf_weight[leaf] :
		tree->leaf_count == 1 ? 1 : NAN;
	if (!tree->is_linear)
		return;
	node->linear = true;
	node->constant = tree->constant[leaf];
	node->coefficient_count = tree->term_counts[leaf];
	node->coefficients = tree->term_factors + *term;
	slots = palloc(sizeof(int) * Max(node->coefficient_count, 1));
	for (int i = 0; i < node->coefficient_count; i++)
	{
		int			feature = tree->term_features[*term + i];

		if (feature >= importing->model->feature_count)
			tree_damaged(importing, tree, leaf, "a feature of a linear leaf "
						 "does not exist");
		slots[i] = importing->slots[feature];
	}
	node->slots = slots;
	*term += node->coefficient_count;
}

/*
 * The weight of a split is that of its leaves.  A parent need not come
 * before its children in a damaged file: walk in the order in which nodes
 * are reached, and add backwards.
 */
static void
set_covers(const Importing *importing, const LightgbmTree *tree,
		   ProgramNode *nodes, int count)
{
	int		   *order = palloc_extended(sizeof(int) * count,
										MCXT_ALLOC_HUGE);
	bool	   *seen = palloc_extended(count,
									   MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	int			reached = 1;

	order[0] = 0;
	seen[0] = true;
	for (int i = 0; i < reached; i++)
	{
		const ProgramNode *node = &nodes[order[i]];

		if (node->test == PROGRAM_LEAF)
			continue;
		if (seen[node->yes] || seen[node->no] || node->yes == node->no)
			return;				/* the builder says what is wrong */
		seen[node->yes] = seen[node->no] = true;
		order[reached++] = node->yes;
		order[reached++] = node->no;
	}
	if (reached != count)
		tree_damaged(importing, tree, 0, "it does not lead to all splits and "
					 "leaves");
	for (int i = reached - 1; i >= 0; i--)
	{
		ProgramNode *node = &nodes[order[i]];

		if (node->test != PROGRAM_LEAF)
			node->cover = nodes[node->yes].cover + nodes[node->no].cover;
	}
	pfree(order);
	pfree(seen);
}

static void
add_tree(Importing *importing, ProgramTrees *trees, int number)
{
	const LightgbmTree *tree = &importing->model->trees[number];
	int			splits = tree->leaf_count - 1;
	int			count = splits + tree->leaf_count;
	ProgramNode *nodes = palloc_extended(sizeof(ProgramNode) * count,
										 MCXT_ALLOC_HUGE);
	int64		term = 0;

	for (int i = 0; i < count; i++)
	{
		ProgramNode node = PROGRAM_NODE_INIT;

		if (i < splits)
			set_split(importing, tree, i, &node);
		else
			set_leaf(importing, tree, i - splits, &term, &node);
		nodes[i] = node;
	}
	set_covers(importing, tree, nodes, count);
	program_add_tree(trees, number % importing->outputs, nodes, count);
	pfree(nodes);
}

static int
add_trees(Importing *importing)
{
	const LightgbmModel *model = importing->model;
	int64		used = model->tree_count;
	int			iterations = importing->source->iterations;
	ProgramTrees *trees;

	if (model->tree_count % importing->outputs != 0)
		import_damaged(FORMAT, "it has %d trees, %d in an iteration",
					   model->tree_count, importing->outputs);
	if (iterations > 0)
		used = Min((int64) iterations * importing->outputs, used);
	trees = program_create_trees(importing->program, importing->outputs,
								 false);
	if (model->average_output && used > 0)
		program_trees_divisor(trees, (double) (used / importing->outputs));
	for (int i = 0; i < used; i++)
	{
		CHECK_FOR_INTERRUPTS();
		add_tree(importing, trees, i);
	}
	return program_add_trees(importing->program, trees);
}

/* ---- outputs ---- */

/* The slots of predictions, from those of the raw scores. */
static int
add_link(Importing *importing, int raw)
{
	ModelProgram *program = importing->program;
	int			count = importing->outputs;
	int			absolute;

	switch (importing->link)
	{
		case LINK_SQUARE:
			absolute = program_unary(program, MODEL_ABS, raw, count, false);
			return program_binary(program, MODEL_MULTIPLY, absolute, raw,
								  count, false);
		case LINK_EXP:
			return program_unary(program, MODEL_EXP, raw, count, false);
		case LINK_LOGISTIC:
			if (importing->factor != 1)
				raw = program_constant(program, MODEL_MULTIPLY, raw, count,
									   &importing->factor, 1, false);
			return program_unary(program, MODEL_SIGMOID, raw, count, false);
		case LINK_SOFTMAX:
			return program_unary(program, MODEL_SOFTMAX, raw, count, false);
		case LINK_LOG_ONE_PLUS_EXP:
			raw = program_unary(program, MODEL_EXP, raw, count, false);
			return program_unary(program, MODEL_LOG1P, raw, count, false);
		default:
			return raw;
	}
}

/*
 * Up to 2.1 the trees of a random forest held what the link gives, and from
 * 2.2 on what goes into it.  Both wrote files of version v2, which do not say
 * which release made them; later releases read all of them the second way.
 */
static void
refuse_ambiguous_forest(const Importing *importing)
{
	if (importing->model->average_output && importing->model->version == 2 &&
		importing->link != LINK_IDENTITY)
		core_not_supported("a random forest in a LightGBM file of version v2",
						   "Option \"output\": \"raw\" gives the mean of the "
						   "trees: the prediction, if LightGBM before 2.2 "
						   "made the model, else the score before the link "
						   "function.");
}

static void
add_outputs(Importing *importing, int raw)
{
	ModelProgram *program = importing->program;
	int			count = importing->outputs;
	bool		is_classification = importing->objective->is_classification;
	int			scores;

	program_set_raw(program, raw, count);
	if (import_wants_raw(importing->source))
	{
		program_set_scores(program, MODEL_REGRESSION, raw, count,
						   program_output_names(count));
		return;
	}
	refuse_ambiguous_forest(importing);
	scores = add_link(importing, raw);
	if (is_classification && count == 1 &&
		importing->link == LINK_LOGISTIC)
	{
		program_set_scores(program, MODEL_CLASSIFICATION,
						   program_complement(program, scores, false), 2,
						   program_output_names(2));
		import_set_threshold(importing->source, program);
		return;
	}
	program_set_scores(program, is_classification && count > 1 ?
					   MODEL_CLASSIFICATION : MODEL_REGRESSION, scores, count,
					   program_output_names(count));
}

static ModelImage *
import_model(const ImportSource *source)
{
	LightgbmModel *model = model_read_lightgbm(source->data, source->size);
	Importing	importing = {.source = source,.model = model};

	importing.outputs = model->trees_per_iteration;
	set_objective(&importing);
	importing.program = program_create("lightgbm");
	add_features(&importing);
	add_outputs(&importing, add_trees(&importing));
	return program_compile(importing.program);
}

static bool
recognise(const char *data, size_t size)
{
	return size > 5 && (memcmp(data, "tree\n", 5) == 0 ||
						memcmp(data, "tree\r", 5) == 0);
}

const ImportFormat import_lightgbm = {
	.name = "lightgbm",
	.recognise = recognise,
	.import = import_model
};

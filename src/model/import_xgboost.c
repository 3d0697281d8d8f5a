/*-------------------------------------------------------------------------
 *
 * import_xgboost.c
 *		XGBoost's JSON and UBJSON models as programs.
 *
 * Predictions are those of Booster.predict over a DMatrix, bit for bit:
 * inputs are rounded to float32, an output starts with its base margin and
 * adds the leaves in the order of the trees, each sum rounded to float32.
 * x < threshold goes left; a missing value goes where the split says.  The
 * categories of a split go right, all others left.
 *
 * The base score stands in the space of predictions and becomes a margin by
 * the inverse of the objective's link, in float32.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "miscadmin.h"
#include "model/import_document.h"
#include "model/import.h"
#include "model/import_xgboost.h"
#include "utils/memutils.h"

/* Unnamed features are believed up to this many. */
#define MAX_UNNAMED_FEATURES 65536

/* Bytes of the sets of categories, for each byte of the file. */
#define MAX_SET_BYTES 64

/* From here on a code of a category is invalid, and goes left. */
#define MAX_CATEGORY (1 << 24)

typedef enum Link
{
	LINK_IDENTITY,
	LINK_LOGISTIC,
	LINK_EXP,
	LINK_HINGE,
	LINK_SOFTMAX
} Link;

typedef struct Objective
{
	const char *name;
	Link		link;
	bool		is_classification;
} Objective;

static const Objective objectives[] = {
	{"reg:squarederror", LINK_IDENTITY, false},
	{"reg:linear", LINK_IDENTITY, false},
	{"reg:squaredlogerror", LINK_IDENTITY, false},
	{"reg:absoluteerror", LINK_IDENTITY, false},
	{"reg:pseudohubererror", LINK_IDENTITY, false},
	{"reg:quantileerror", LINK_IDENTITY, false},
	{"reg:logistic", LINK_LOGISTIC, false},
	{"binary:logistic", LINK_LOGISTIC, true},
	{"binary:logitraw", LINK_IDENTITY, false},
	{"binary:hinge", LINK_HINGE, true},
	{"count:poisson", LINK_EXP, false},
	{"reg:gamma", LINK_EXP, false},
	{"reg:tweedie", LINK_EXP, false},
	{"survival:cox", LINK_EXP, false},
	{"survival:aft", LINK_EXP, false},
	{"rank:pairwise", LINK_IDENTITY, false},
	{"rank:ndcg", LINK_IDENTITY, false},
	{"rank:map", LINK_IDENTITY, false},
	{"multi:softprob", LINK_SOFTMAX, true},
	{"multi:softmax", LINK_SOFTMAX, true},
};

typedef struct Importing
{
	const ImportSource *source;
	const XgboostModel *model;
	const Objective *objective;
	ModelProgram *program;
	int			groups;			/* outputs */
	double	   *base;			/* margins of the outputs */
	int		   *slots;			/* of the features */
	Size		set_bytes;		/* of all sets of categories so far */
} Importing;

static const Objective *
find_objective(const XgboostModel *model)
{
	if (model->objective == NULL)
		import_damaged(model->format, "it has no objective");
	for (int i = 0; i < lengthof(objectives); i++)
		if (strcmp(objectives[i].name, model->objective) == 0)
			return &objectives[i];
	core_not_supported(psprintf("XGBoost objective \"%s\"", model->objective),
					   NULL);
	return NULL;
}

/* ---- the base score ---- */

/* A base score as a margin, as XGBoost computes it. */
static float
margin_of(const Importing *importing, float base)
{
	const int  *version = importing->model->version;
	const float epsilon = 1e-6f;

	switch (importing->objective->link)
	{
		case LINK_LOGISTIC:
			/* XGBoost 3.2 and later keep away from the ends */
			if (version[0] > 3 || (version[0] == 3 && version[1] >= 2))
				base = fminf(fmaxf(base, epsilon), 1.0f - epsilon);
			if (!(base > 0 && base < 1))
				import_damaged(importing->model->format,
							   "the base score is no probability");
			return -logf(1.0f / base - 1.0f);
		case LINK_EXP:
			if (!(base > 0))
				import_damaged(importing->model->format,
							   "the base score is not positive");
			return logf(base);
		default:
			return base;
	}
}

/* Reads "5E-1" or "[5E-1]" or "[1E0,2E0]": one for all outputs or for each. */
static void
set_base(Importing *importing)
{
	const XgboostModel *model = importing->model;
	ModelDocument document;
	float	   *scores;
	int			count = 1;

	if (model->base_score == NULL)
		import_damaged(model->format, "it has no base score");
	model_document_init(&document, model->format, model->base_score,
						strlen(model->base_score), false);
	if (model_document_kind(&document) == MODEL_DOCUMENT_ARRAY)
		scores = model_document_floats(&document, &count);
	else
	{
		scores = palloc(sizeof(float));
		scores[0] = model_document_float(&document);
	}
	model_document_finish(&document);
	if (count != 1 && count != importing->groups)
		import_damaged(model->format, "there are %d base scores for %d "
					   "outputs", count, importing->groups);
	importing->base = palloc(sizeof(double) * importing->groups);
	for (int i = 0; i < importing->groups; i++)
	{
		float		score = scores[count == 1 ? 0 : i];

		if (!isfinite(score))
			import_damaged(model->format, "a base score is not finite");
		importing->base[i] = margin_of(importing, score);
	}
}

/* ---- features ---- */

static void
add_features(Importing *importing)
{
	const XgboostModel *model = importing->model;
	int			count = model->feature_count;

	if ((model->name_count != 0 && model->name_count != count) ||
		(model->type_count != 0 && model->type_count != count) ||
		model->category_column_count > count)
		import_damaged(model->format, "it has %d features, %d names, %d "
					   "types and %d lists of categories", count,
					   model->name_count, model->type_count,
					   model->category_column_count);
	if (count < 1)
		core_not_supported("an XGBoost model without features", NULL);
	if (model->name_count == 0 && count > MAX_UNNAMED_FEATURES)
		core_not_supported("an XGBoost model of more than 65536 features "
						   "without names", NULL);
	importing->slots = palloc(sizeof(int) * count);
	for (int i = 0; i < count; i++)
	{
		ProgramInput input = PROGRAM_INPUT_INIT;

		import_input_init(importing->source, i,
						  model->name_count ? model->names[i] : NULL, &input);
		input.cast = MODEL_FLOAT32;
		input.unseen = NAN;
		if (i < model->category_column_count &&
			model->category_columns[i].count > 0)
		{
			input.kind = MODEL_CATEGORY;
			input.cast = MODEL_FLOAT64;
			input.category_count = model->category_columns[i].count;
			input.categories =
				(const char *const *) model->category_columns[i].names;
		}
		importing->slots[i] = program_add_input(importing->program, &input);
	}
}

/* ---- trees ---- */

static void
pg_attribute_noreturn()
tree_damaged(const Importing *importing, const XgboostTree *tree, int node,
			 const char *what)
{
	import_damaged(importing->model->format, "tree %d (from byte %zu), node "
				   "%d: %s", (int) (tree - importing->model->trees),
				   tree->offset, node, what);
}

/* For each node the place of its categories, or -1. */
static int *
place_categories(const Importing *importing, const XgboostTree *tree)
{
	int		   *places = palloc_extended(sizeof(int) * tree->node_count,
										 MCXT_ALLOC_HUGE);
	int64		total = 0;

	memset(places, -1, sizeof(int) * tree->node_count);
	for (int i = 0; i < tree->category_node_count; i++)
	{
		int			node = tree->category_nodes[i];

		if (node >= tree->node_count || places[node] != -1)
			tree_damaged(importing, tree, node,
						 "its categories belong to no node");
		total += tree->category_sizes[i];
		if ((int64) tree->category_starts[i] + tree->category_sizes[i] >
			tree->category_count || tree->category_sizes[i] == 0 ||
			total > tree->category_count)
			tree_damaged(importing, tree, node,
						 "its categories are not there");
		places[node] = i;
	}
	return places;
}

/* The set of a categorical split as bits. */
static void
set_categories(Importing *importing, const XgboostTree *tree, int number,
			   int place, ProgramNode *node)
{
	const int32 *members;
	uint32	   *words;
	int			largest = 0;

	if (place < 0)
		tree_damaged(importing, tree, number, "it has no categories");
	members = tree->categories + tree->category_starts[place];
	for (int i = 0; i < tree->category_sizes[place]; i++)
		if (members[i] < MAX_CATEGORY)
			largest = Max(largest, members[i]);
	node->set_words = largest / 32 + 1;
	importing->set_bytes += node->set_words * sizeof(uint32);
	if (importing->set_bytes / MAX_SET_BYTES > importing->source->size)
		core_not_supported("a set of XGBoost categories as large as this one",
						   "Number the categories from 0 without gaps.");
	words = palloc0(node->set_words * sizeof(uint32));
	for (int i = 0; i < tree->category_sizes[place]; i++)
		if (members[i] < MAX_CATEGORY)
			words[members[i] / 32] |= (uint32) 1 << (members[i] % 32);
	node->set = words;
}

/* A split; what lies behind its children the builder checks. */
static void
set_split(Importing *importing, const XgboostTree *tree, int number,
		  int place, ProgramNode *node)
{
	bool		is_categorical = tree->split_type != NULL &&
	tree->split_type[number] == 1;

	if (tree->right[number] == -1)
		tree_damaged(importing, tree, number, "it has only one child");
	if (tree->feature[number] < 0 ||
		tree->feature[number] >= importing->model->feature_count)
		tree_damaged(importing, tree, number, "its feature does not exist");
	node->slot = importing->slots[tree->feature[number]];
	if (is_categorical)
	{
		node->test = PROGRAM_IN;
		node->yes = tree->right[number];
		node->no = tree->left[number];
		node->missing_yes = !tree->default_left[number];
		set_categories(importing, tree, number, place, node);
		return;
	}
	node->test = PROGRAM_BELOW;
	node->threshold = tree->condition[number];
	node->yes = tree->left[number];
	node->no = tree->right[number];
	node->missing_yes = tree->default_left[number];
}

/*
 * Adds a tree.  Nodes that pruning left behind are not reached from the
 * root, and not looked at.
 */
static void
add_tree(Importing *importing, ProgramTrees *trees, int number, float weight)
{
	const XgboostTree *tree = &importing->model->trees[number];
	int		   *places = place_categories(importing, tree);
	ProgramNode *nodes = palloc_extended(sizeof(ProgramNode) *
										 tree->node_count, MCXT_ALLOC_HUGE);

	for (int i = 0; i < tree->node_count; i++)
	{
		ProgramNode node = PROGRAM_NODE_INIT;

		node.cover = tree->hessian[i];
		if (tree->left[i] != -1)
			set_split(importing, tree, i, places[i], &node);
		else if (tree->right[i] != -1)
			tree_damaged(importing, tree, i, "it has only one child");
		else
		{
			float		value = tree->condition[i] * weight;

			node.test = PROGRAM_LEAF;
			node.value = value;
		}
		nodes[i] = node;
	}
	program_add_tree(trees, importing->model->groups[number], nodes,
					 tree->node_count);
	pfree(nodes);
	pfree(places);
}

/* Trees that are used: all, or those of the first iterations. */
static int
trees_used(const Importing *importing)
{
	const XgboostModel *model = importing->model;
	int			wanted = importing->source->iterations;
	int64		layer = (int64) Max(model->parallel_trees, 1) *
	importing->groups;

	if (wanted == 0 && model->best_iteration >= 0)
		wanted = model->best_iteration + 1;
	for (int i = 1; i < model->boundary_count; i++)
		if (model->boundaries[i] < model->boundaries[i - 1])
			import_damaged(model->format, "the iterations are not in order");
	if (model->boundary_count > 0 &&
		(model->boundaries[0] != 0 ||
		 model->boundaries[model->boundary_count - 1] != model->tree_count))
		import_damaged(model->format, "the iterations do not cover the "
					   "trees");
	if (wanted == 0)
		return model->tree_count;
	if (model->boundary_count > 0)
		return model->boundaries[Min(wanted, model->boundary_count - 1)];
	return (int) Min(wanted * layer, model->tree_count);
}

/* The raw scores of gbtree and dart. */
static int
add_trees(Importing *importing)
{
	const XgboostModel *model = importing->model;
	ProgramTrees *trees;
	int			used;

	if (model->tree_count != model->declared_trees ||
		model->group_count != model->tree_count)
		import_damaged(model->format, "it has %d trees, says it has %d, and "
					   "%d outputs for them", model->tree_count,
					   model->declared_trees, model->group_count);
	if (model->drop_count > model->tree_count)
		import_damaged(model->format, "it has more weights than trees");
	used = trees_used(importing);
	trees = program_create_trees(importing->program, importing->groups, true);
	program_trees_base(trees, importing->base, false);
	for (int i = 0; i < used; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (model->trees[i].id != i)
			import_damaged(model->format, "the trees are not in order");
		if (model->groups[i] >= importing->groups)
			import_damaged(model->format, "tree %d is for output %d of %d",
						   i, model->groups[i], importing->groups);
		add_tree(importing, trees, i,
				 i < model->drop_count ? model->drops[i] : 1.0f);
	}
	return program_add_trees(importing->program, trees);
}

/*
 * The raw scores of gblinear: absent values add nothing.  Up to 3.4 at least,
 * the library starts every output with the base score of the first one.
 */
static int
add_linear(Importing *importing)
{
	const XgboostModel *model = importing->model;
	int			features = model->feature_count;
	int			groups = importing->groups;
	int		   *slots = palloc(sizeof(int) * groups);
	ProgramTerm *terms = palloc(sizeof(ProgramTerm) * features);

	if (model->weight_count != ((int64) features + 1) * groups)
		import_damaged(model->format, "it has %d weights for %d features and "
					   "%d outputs", model->weight_count, features, groups);
	for (int g = 0; g < groups; g++)
	{
		float		bias = model->weights[features * groups + g] +
		(float) importing->base[0];

		for (int i = 0; i < features; i++)
		{
			ProgramTerm term = PROGRAM_TERM_INIT;

			term.slot = importing->slots[i];
			term.coefficient = model->weights[i * groups + g];
			term.missing = 0;
			terms[i] = term;
		}
		slots[g] = program_add_linear(importing->program, terms, features,
									  bias, true);
	}
	return groups == 1 ? slots[0] :
		program_move(importing->program, slots, groups);
}

/* ---- outputs ---- */

/* The slots of predictions, from those of the raw scores. */
static int
add_link(Importing *importing, int raw)
{
	ModelProgram *program = importing->program;
	double		zero = 0;

	switch (importing->objective->link)
	{
		case LINK_LOGISTIC:
			return program_unary(program, MODEL_SIGMOID_XGBOOST, raw,
								 importing->groups, true);
		case LINK_EXP:
			return program_unary(program, MODEL_EXP, raw, importing->groups,
								 true);
		case LINK_HINGE:
			return program_constant(program, MODEL_GREATER, raw,
									importing->groups, &zero, 1, true);
		case LINK_SOFTMAX:
			return program_unary(program, MODEL_SOFTMAX, raw,
								 importing->groups, true);
		default:
			return raw;
	}
}

static void
add_outputs(Importing *importing, int raw)
{
	ModelProgram *program = importing->program;
	int			count = importing->groups;
	bool		is_binary = importing->objective->is_classification &&
	importing->objective->link != LINK_SOFTMAX && count == 1;
	int			scores;

	program_set_raw(program, raw, count);
	if (import_wants_raw(importing->source))
	{
		program_set_scores(program, MODEL_REGRESSION, raw, count,
						   program_output_names(count));
		return;
	}
	scores = add_link(importing, raw);
	if (is_binary)
	{
		program_set_scores(program, MODEL_CLASSIFICATION,
						   program_complement(program, scores, true), 2,
						   program_output_names(2));
		import_set_threshold(importing->source, program);
		return;
	}
	program_set_scores(program,
					   importing->objective->link == LINK_SOFTMAX &&
					   count > 1 ? MODEL_CLASSIFICATION : MODEL_REGRESSION,
					   scores, count, program_output_names(count));
}

/* Is the booster one of trees?  ERROR, if it is none that is known. */
static bool
has_trees(const XgboostModel *model)
{
	if (model->booster == NULL)
		import_damaged(model->format, "it has no booster");
	if (strcmp(model->booster, "gblinear") == 0)
		return false;
	if (strcmp(model->booster, "gbtree") != 0 &&
		strcmp(model->booster, "dart") != 0)
		core_not_supported(psprintf("XGBoost booster \"%s\"", model->booster),
						   NULL);
	return true;
}

/* UBJSON begins with { and the type of a key's length. */
static bool
is_ubjson(const char *data, size_t size)
{
	return size > 1 && data[0] == '{' && data[1] != '\0' &&
		strchr("LlIUi", data[1]) != NULL;
}

static ModelImage *
import_model(const ImportSource *source)
{
	XgboostModel *model = model_read_xgboost(source->data, source->size,
											 is_ubjson(source->data,
													   source->size));
	Importing	importing = {.source = source,.model = model};
	bool		trees = has_trees(model);
	int			raw;

	importing.objective = find_objective(model);
	if (model->class_count > 1 && model->target_count > 1)
		core_not_supported("an XGBoost model of several classes and targets",
						   NULL);
	importing.groups = Max(Max(model->class_count, model->target_count), 1);
	/* every output has a tree, a weight or at least a base score */
	if (importing.groups > 1 && importing.groups > source->size)
		import_damaged(model->format, "it has more outputs than bytes");
	set_base(&importing);
	importing.program = program_create(psprintf("xgboost %s",
												model->booster));
	add_features(&importing);
	raw = trees ? add_trees(&importing) : add_linear(&importing);
	add_outputs(&importing, raw);
	return program_compile(importing.program);
}

/* JSON is XGBoost's, if it begins with one of the members that a file has. */
static bool
recognise(const char *data, size_t size)
{
	size_t		at = 1;

	if (size < 16 || data[0] != '{')
		return false;
	if (is_ubjson(data, size))
		return true;
	while (at < size && (data[at] == ' ' || data[at] == '\n' ||
						 data[at] == '\r' || data[at] == '\t'))
		at++;
	return size - at > 9 && (memcmp(data + at, "\"learner\"", 9) == 0 ||
							 memcmp(data + at, "\"version\"", 9) == 0);
}

const ImportFormat import_xgboost = {
	.name = "xgboost",
	.recognise = recognise,
	.import = import_model
};

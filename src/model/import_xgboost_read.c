/*-------------------------------------------------------------------------
 *
 * import_xgboost_read.c
 *		Reads the JSON and UBJSON files that XGBoost 1.0 and later write.
 *
 * Each kind of object has a table of the members it may have.  A member that
 * stands in no table is refused by name: it could change what the model
 * says, as weight_drop and cats once did.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "model/import_document.h"
#include "model/import_xgboost.h"

/* What is being read. */
typedef struct Reading
{
	ModelDocument document;
	XgboostModel *model;
	XgboostTree *tree;			/* the one that is being read */
} Reading;

typedef void (*ReadMember) (Reading *reading);

typedef struct Member
{
	const char *name;
	ReadMember	read;			/* NULL: of no meaning for predictions */
} Member;

/* Reads an object whose members stand in the table. */
static void
read_object(Reading *reading, const char *what, const Member *members,
			int count)
{
	ModelDocument *document = &reading->document;
	uint64		seen = 0;

	Assert(count <= 64);
	model_document_begin(document, true);
	while (model_document_next(document))
	{
		int			i;

		for (i = 0; i < count; i++)
			if (strcmp(members[i].name, document->text.data) == 0)
				break;
		if (i == count)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("the XGBoost model has a member \"%s\" that is "
							"not supported",
							model_document_copy_name(document->name,
													 document->text.data,
													 document->text.len,
													 document->offset)),
					 errdetail("It stands in %s, at byte %zu.", what,
							   document->offset)));
		if (seen & (UINT64CONST(1) << i))
			model_document_damaged(document, "a member appears twice");
		seen |= UINT64CONST(1) << i;
		if (members[i].read == NULL)
			model_document_skip(document);
		else
			members[i].read(reading);
	}
}

/* An integer that stands as text, as all parameters do. */
static int
read_parameter(Reading *reading, int64 low, int64 high)
{
	char	   *text;
	char	   *end;
	long long	value;

	if (model_document_kind(&reading->document) == MODEL_DOCUMENT_NUMBER)
		return (int) model_document_integer(&reading->document, low, high);
	text = model_document_string(&reading->document);
	errno = 0;
	value = strtoll(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || value < low ||
		value > high)
		model_document_damaged(&reading->document,
							   "a parameter is out of range");
	return (int) value;
}

/* An array of strings to keep. */
static char **
read_names(Reading *reading, int *count)
{
	char	  **names = NULL;
	int			allocated = 0;

	*count = 0;
	model_document_begin(&reading->document, false);
	while (model_document_next(&reading->document))
	{
		names = model_document_room(names, *count, &allocated, sizeof(char *));
		names[(*count)++] = model_document_name(&reading->document);
	}
	return names;
}

/* ---- a tree ---- */

/* One array of a tree; slot is its place in lengths. */
static int32 *
read_tree_integers(Reading *reading, int slot, int64 low, int64 high)
{
	return model_document_integers(&reading->document, low, high,
								   &reading->tree->lengths[slot]);
}

static void
read_left(Reading *reading)
{
	reading->tree->left = read_tree_integers(reading, 0, -1, PG_INT32_MAX);
}

static void
read_right(Reading *reading)
{
	reading->tree->right = read_tree_integers(reading, 1, -1, PG_INT32_MAX);
}

/* A deleted node has a feature of all bits, which may be read as -1. */
static void
read_feature(Reading *reading)
{
	int			count;
	int32	   *features = NULL;
	int			allocated = 0;
	ModelDocument *document = &reading->document;

	count = 0;
	model_document_begin(document, false);
	while (model_document_next(document))
	{
		int64		feature = model_document_integer(document, -1,
													 PG_UINT32_MAX);

		features = model_document_room(features, count, &allocated,
									   sizeof(int32));
		features[count++] = feature > PG_INT32_MAX ? -1 : (int32) feature;
	}
	reading->tree->feature = features;
	reading->tree->lengths[2] = count;
}

static void
read_default_left(Reading *reading)
{
	reading->tree->default_left = read_tree_integers(reading, 3, 0, 1);
}

static void
read_split_type(Reading *reading)
{
	reading->tree->split_type = read_tree_integers(reading, 4, 0, 1);
}

static void
read_condition(Reading *reading)
{
	reading->tree->condition = model_document_floats(&reading->document,
													 &reading->tree->lengths[5]);
}

static void
read_hessian(Reading *reading)
{
	reading->tree->hessian = model_document_floats(&reading->document,
												   &reading->tree->lengths[6]);
}

static void
read_category_nodes(Reading *reading)
{
	reading->tree->category_nodes =
		model_document_integers(&reading->document, 0, PG_INT32_MAX,
								&reading->tree->category_node_count);
}

static void
read_category_starts(Reading *reading)
{
	reading->tree->category_starts = read_tree_integers(reading, 7, 0,
														PG_INT32_MAX);
}

static void
read_category_sizes(Reading *reading)
{
	reading->tree->category_sizes = read_tree_integers(reading, 8, 0,
													   PG_INT32_MAX);
}

static void
read_categories(Reading *reading)
{
	reading->tree->categories =
		model_document_integers(&reading->document, 0, PG_INT32_MAX,
								&reading->tree->category_count);
}

static void
read_tree_id(Reading *reading)
{
	reading->tree->id = (int) model_document_integer(&reading->document, 0,
													 PG_INT32_MAX);
}

static void
read_tree_nodes(Reading *reading)
{
	reading->tree->declared_nodes = read_parameter(reading, 0, PG_INT32_MAX);
}

static void
read_tree_vector(Reading *reading)
{
	reading->tree->vector_leaf = read_parameter(reading, 0, PG_INT32_MAX);
}

static const Member tree_param_members[] = {
	{"num_nodes", read_tree_nodes},
	{"size_leaf_vector", read_tree_vector},
	{"num_deleted", NULL},
	{"num_feature", NULL},
	{"num_roots", NULL},
	{"max_depth", NULL},
};

static void
read_tree_param(Reading *reading)
{
	read_object(reading, "tree_param", tree_param_members,
				lengthof(tree_param_members));
}

/* Leaves that are vectors have their values here. */
static void
refuse_leaf_weights(Reading *reading)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("XGBoost trees with several outputs are not supported"),
			 errhint("Train with multi_strategy = one_output_per_tree.")));
}

static const Member tree_members[] = {
	{"left_children", read_left},
	{"right_children", read_right},
	{"split_indices", read_feature},
	{"split_conditions", read_condition},
	{"default_left", read_default_left},
	{"sum_hessian", read_hessian},
	{"split_type", read_split_type},
	{"categories", read_categories},
	{"categories_nodes", read_category_nodes},
	{"categories_segments", read_category_starts},
	{"categories_sizes", read_category_sizes},
	{"tree_param", read_tree_param},
	{"id", read_tree_id},
	{"leaf_weights", refuse_leaf_weights},
	{"base_weights", NULL},
	{"loss_changes", NULL},
	{"parents", NULL},
	{"leaf_child_counts", NULL},
};

/* The arrays of a tree must be there and be as long as they should. */
static void
check_lengths(Reading *reading)
{
	XgboostTree *tree = reading->tree;

	tree->node_count = tree->lengths[0];
	if (tree->vector_leaf > 1)
		refuse_leaf_weights(reading);
	if (tree->node_count == 0 || tree->node_count != tree->declared_nodes)
		model_document_damaged(&reading->document,
							   "a tree has another number of nodes than it "
							   "says");
	for (int i = 1; i < 7; i++)
		if (tree->lengths[i] != tree->node_count &&
			(i != 4 || tree->split_type != NULL))
			model_document_damaged(&reading->document,
								   "the arrays of a tree have different "
								   "lengths");
	if (tree->lengths[7] != tree->category_node_count ||
		tree->lengths[8] != tree->category_node_count)
		model_document_damaged(&reading->document,
							   "the categorical splits of a tree have "
							   "different numbers");
}

static void
read_trees(Reading *reading)
{
	XgboostModel *model = reading->model;
	int			allocated = 0;

	model_document_begin(&reading->document, false);
	while (model_document_next(&reading->document))
	{
		model->trees = model_document_room(model->trees, model->tree_count,
										   &allocated, sizeof(XgboostTree));
		reading->tree = &model->trees[model->tree_count++];
		memset(reading->tree, 0, sizeof(XgboostTree));
		reading->tree->offset = reading->document.offset;
		reading->tree->id = -1;
		read_object(reading, "a tree", tree_members, lengthof(tree_members));
		check_lengths(reading);
	}
}

/* ---- categories of features ---- */

/* The bytes of an array of small integers. */
static char *
read_bytes(Reading *reading, int *count)
{
	int32	   *values = model_document_integers(&reading->document, -128, 255,
												 count);
	char	   *bytes = palloc(*count + 1);

	for (int i = 0; i < *count; i++)
		bytes[i] = (char) values[i];
	return bytes;
}

/* Texts that stand one after the other, with their boundaries. */
static void
split_categories(Reading *reading, XgboostCategories *result,
				 const char *bytes, int byte_count, const int32 *boundaries,
				 int boundary_count)
{
	if (boundary_count > 0 &&
		(boundaries[0] != 0 || boundaries[boundary_count - 1] != byte_count))
		model_document_damaged(&reading->document,
							   "categories do not fit their boundaries");
	result->count = Max(boundary_count - 1, 0);
	result->names = palloc(sizeof(char *) * Max(result->count, 1));
	for (int i = 0; i < result->count; i++)
	{
		if (boundaries[i + 1] < boundaries[i] ||
			boundaries[i + 1] > byte_count)
			model_document_damaged(&reading->document,
								   "categories do not fit their boundaries");
		result->names[i] =
			model_document_copy_name(reading->document.name,
									 bytes + boundaries[i],
									 boundaries[i + 1] - boundaries[i],
									 reading->document.offset);
	}
}

/* Categories that are numbers, as SQL writes them. */
static void
number_categories(Reading *reading, XgboostCategories *result)
{
	int			allocated = 0;

	model_document_begin(&reading->document, false);
	while (model_document_next(&reading->document))
	{
		result->names = model_document_room(result->names, result->count,
											&allocated, sizeof(char *));
		result->names[result->count++] =
			psprintf(INT64_FORMAT,
					 model_document_integer(&reading->document, PG_INT64_MIN,
											PG_INT64_MAX));
	}
}

/*
 * The categories of one feature: {offsets, values} of texts or {type, values}
 * of integers, in this order.
 */
static void
read_category_column(Reading *reading, XgboostCategories *result)
{
	ModelDocument *document = &reading->document;
	int32	   *boundaries = NULL;
	int			boundary_count = 0;
	bool		has_boundaries = false;
	bool		is_typed = false;
	bool		has_values = false;

	memset(result, 0, sizeof(*result));
	model_document_begin(document, true);
	while (model_document_next(document))
	{
		if (strcmp(document->text.data, "offsets") == 0)
		{
			boundaries = model_document_integers(document, 0, PG_INT32_MAX,
												 &boundary_count);
			has_boundaries = true;
		}
		else if (strcmp(document->text.data, "type") == 0)
		{
			model_document_integer(document, 9, 16);
			is_typed = true;
		}
		else if (strcmp(document->text.data, "values") == 0 && !has_values &&
				 has_boundaries != is_typed)
		{
			has_values = true;
			if (is_typed)
				number_categories(reading, result);
			else
			{
				int			count;
				char	   *bytes = read_bytes(reading, &count);

				split_categories(reading, result, bytes, count, boundaries,
								 boundary_count);
			}
		}
		else
			model_document_damaged(document,
								   "categories have an unexpected member");
	}
	if (!has_values)
		model_document_damaged(document, "categories have no values");
}

static void
read_category_columns(Reading *reading)
{
	XgboostModel *model = reading->model;
	int			allocated = 0;

	model_document_begin(&reading->document, false);
	while (model_document_next(&reading->document))
	{
		model->category_columns =
			model_document_room(model->category_columns,
								model->category_column_count, &allocated,
								sizeof(XgboostCategories));
		read_category_column(reading,
							 &model->category_columns[model->category_column_count++]);
	}
}

static const Member cats_members[] = {
	{"enc", read_category_columns},
	{"feature_segments", NULL},
	{"sorted_idx", NULL},
};

static void
read_cats(Reading *reading)
{
	read_object(reading, "cats", cats_members, lengthof(cats_members));
}

/* ---- boosters ---- */

static void
read_tree_count(Reading *reading)
{
	reading->model->declared_trees = read_parameter(reading, 0, PG_INT32_MAX);
}

static void
read_parallel_trees(Reading *reading)
{
	reading->model->parallel_trees = read_parameter(reading, 0, PG_INT32_MAX);
}

static const Member gbtree_param_members[] = {
	{"num_trees", read_tree_count},
	{"num_parallel_tree", read_parallel_trees},
	{"size_leaf_vector", NULL},
	{"num_feature", NULL},
	{"num_output_group", NULL},
	{"num_roots", NULL},
};

static void
read_gbtree_param(Reading *reading)
{
	read_object(reading, "gbtree_model_param", gbtree_param_members,
				lengthof(gbtree_param_members));
}

static void
read_groups(Reading *reading)
{
	reading->model->groups =
		model_document_integers(&reading->document, 0, PG_INT32_MAX,
								&reading->model->group_count);
}

static void
read_boundaries(Reading *reading)
{
	reading->model->boundaries =
		model_document_integers(&reading->document, 0, PG_INT32_MAX,
								&reading->model->boundary_count);
}

static void
read_drops(Reading *reading)
{
	if (reading->model->drops != NULL)
		model_document_damaged(&reading->document,
							   "the weights of trees appear twice");
	reading->model->drops =
		model_document_floats(&reading->document,
							  &reading->model->drop_count);
}

static void
read_weights(Reading *reading)
{
	reading->model->weights =
		model_document_floats(&reading->document,
							  &reading->model->weight_count);
}

static const Member booster_model_members[] = {
	{"gbtree_model_param", read_gbtree_param},
	{"trees", read_trees},
	{"tree_info", read_groups},
	{"iteration_indptr", read_boundaries},
	{"weight_drop", read_drops},
	{"cats", read_cats},
	{"weights", read_weights},
	{"boosted_rounds", NULL},
	{"param", NULL},
};

static void
read_booster_model(Reading *reading)
{
	if (reading->model->trees != NULL || reading->model->weights != NULL)
		model_document_damaged(&reading->document,
							   "there are two boosters");
	read_object(reading, "the booster's model", booster_model_members,
				lengthof(booster_model_members));
}

/* Of dart's gbtree the name says nothing new. */
static const Member inner_booster_members[] = {
	{"model", read_booster_model},
	{"name", NULL},
};

static void
read_inner_booster(Reading *reading)
{
	read_object(reading, "gbtree", inner_booster_members,
				lengthof(inner_booster_members));
}

static void
read_booster_name(Reading *reading)
{
	reading->model->booster = model_document_name(&reading->document);
}

static const Member booster_members[] = {
	{"name", read_booster_name},
	{"model", read_booster_model},
	{"gbtree", read_inner_booster},
	{"weight_drop", read_drops},
};

static void
read_booster(Reading *reading)
{
	read_object(reading, "gradient_booster", booster_members,
				lengthof(booster_members));
}

/* ---- the learner ---- */

static void
read_objective_name(Reading *reading)
{
	reading->model->objective = model_document_name(&reading->document);
}

/* Of the objective only its name matters: the rest steers training. */
static void
read_objective(Reading *reading)
{
	ModelDocument *document = &reading->document;

	model_document_begin(document, true);
	while (model_document_next(document))
	{
		if (strcmp(document->text.data, "name") == 0)
			read_objective_name(reading);
		else
			model_document_skip(document);
	}
}

static void
read_base_score(Reading *reading)
{
	ModelDocument *document = &reading->document;

	if (model_document_kind(document) == MODEL_DOCUMENT_NUMBER)
		reading->model->base_score =
			psprintf("%.9g", model_document_float(document));
	else
		reading->model->base_score = model_document_name(document);
}

static void
read_class_count(Reading *reading)
{
	reading->model->class_count = read_parameter(reading, 0, PG_INT32_MAX);
}

static void
read_feature_count(Reading *reading)
{
	reading->model->feature_count = read_parameter(reading, 0, PG_INT32_MAX);
}

static void
read_target_count(Reading *reading)
{
	reading->model->target_count = read_parameter(reading, 0, PG_INT32_MAX);
}

static const Member learner_param_members[] = {
	{"base_score", read_base_score},
	{"num_class", read_class_count},
	{"num_feature", read_feature_count},
	{"num_target", read_target_count},
	{"boost_from_average", NULL},
};

static void
read_learner_param(Reading *reading)
{
	read_object(reading, "learner_model_param", learner_param_members,
				lengthof(learner_param_members));
}

/* Attributes are free texts; early stopping keeps its best iteration there. */
static void
read_attributes(Reading *reading)
{
	ModelDocument *document = &reading->document;

	model_document_begin(document, true);
	while (model_document_next(document))
	{
		if (strcmp(document->text.data, "best_iteration") == 0)
			reading->model->best_iteration =
				read_parameter(reading, 0, PG_INT32_MAX - 1);
		else
			model_document_skip(document);
	}
}

static void
read_feature_names(Reading *reading)
{
	reading->model->names = read_names(reading, &reading->model->name_count);
}

static void
read_feature_types(Reading *reading)
{
	reading->model->types = read_names(reading, &reading->model->type_count);
}

static const Member learner_members[] = {
	{"learner_model_param", read_learner_param},
	{"gradient_booster", read_booster},
	{"objective", read_objective},
	{"attributes", read_attributes},
	{"feature_names", read_feature_names},
	{"feature_types", read_feature_types},
};

static void
read_learner(Reading *reading)
{
	read_object(reading, "learner", learner_members,
				lengthof(learner_members));
}

static void
read_version(Reading *reading)
{
	ModelDocument *document = &reading->document;
	int			count = 0;

	model_document_begin(document, false);
	while (model_document_next(document))
	{
		int			part = (int) model_document_integer(document, 0,
														PG_INT32_MAX);

		if (count == lengthof(reading->model->version))
			model_document_damaged(document, "the version has four parts");
		reading->model->version[count++] = part;
	}
}

static const Member top_members[] = {
	{"learner", read_learner},
	{"version", read_version},
};

/* Reads a whole file. */
XgboostModel *
model_read_xgboost(const char *bytes, Size length, bool binary)
{
	Reading		reading = {0};

	reading.model = palloc0(sizeof(XgboostModel));
	reading.model->format = binary ? "XGBoost UBJSON" : "XGBoost JSON";
	reading.model->best_iteration = -1;
	reading.model->target_count = 1;
	reading.model->parallel_trees = 1;
	model_document_init(&reading.document, reading.model->format, bytes,
						length, binary);
	read_object(&reading, "the file", top_members, lengthof(top_members));
	model_document_finish(&reading.document);
	return reading.model;
}

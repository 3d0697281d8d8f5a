/*-------------------------------------------------------------------------
 *
 * import_lightgbm_read.c
 *		Reads the text files that LightGBM 2 and later write.
 *
 * A file is lines key=value: a header, a paragraph for each tree, then
 * sections about training, of which only the categorical features and their
 * categories say something about predictions.  A key that is not known is
 * refused by name.  Every list must have exactly the length that the counts
 * before it demand, so nothing is allocated that the file does not fill.
 *
 * Numbers are read by strtod, which rounds correctly; a backend keeps
 * LC_NUMERIC at "C".
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "miscadmin.h"
#include "model/import_document.h"
#include "model/import.h"
#include "model/import_lightgbm.h"

#define FORMAT "LightGBM"

/* Lines after the trees that matter. */
#define CATEGORICAL "[categorical_feature: "
#define PANDAS "pandas_categorical:"

/* The longest number that is read. */
#define NUMBER_LENGTH 64

typedef struct Reading
{
	const char *bytes;
	const char *end;
	const char *next;			/* the line after this one */
	const char *line;			/* this one, without its end */
	const char *line_end;
	const char *value;			/* what follows the =, or line_end */
	int64		number;			/* of the line, from 1 */
	LightgbmModel *model;
	LightgbmTree *tree;
	int			split_count;	/* of the tree */
	int64		term_count;		/* of its linear leaves */
	int64		announced;		/* trees by tree_sizes, or -1 */
} Reading;

typedef struct Key
{
	const char *name;
	void		(*read) (Reading *reading); /* NULL: of no meaning here */
} Key;

/* ERROR: the file is not what it should be, in this line. */
static void
pg_attribute_noreturn()
damaged(Reading *reading, const char *what)
{
	import_damaged(FORMAT, "in line " INT64_FORMAT ": %s", reading->number,
				   what);
}

/* Goes to the next line; false at the end. */
static bool
next_line(Reading *reading)
{
	const char *newline;

	CHECK_FOR_INTERRUPTS();
	if (reading->next >= reading->end)
		return false;
	reading->number++;
	reading->line = reading->next;
	newline = memchr(reading->line, '\n', reading->end - reading->line);
	reading->line_end = newline ? newline : reading->end;
	reading->next = newline ? newline + 1 : reading->end;
	if (reading->line_end > reading->line && reading->line_end[-1] == '\r')
		reading->line_end--;
	reading->value = memchr(reading->line, '=',
							reading->line_end - reading->line);
	reading->value = reading->value ? reading->value + 1 : reading->line_end;
	return true;
}

static bool
is_empty(const Reading *reading)
{
	return reading->line == reading->line_end;
}

/* Does the line begin so? */
static bool
begins(const Reading *reading, const char *prefix)
{
	Size		length = strlen(prefix);

	return reading->line_end - reading->line >= length &&
		memcmp(reading->line, prefix, length) == 0;
}

/* Is the line this one? */
static bool
is_line(const Reading *reading, const char *text)
{
	return reading->line_end - reading->line == strlen(text) &&
		begins(reading, text);
}

/* Reads the line by the table; a key may appear once. */
static void
read_key(Reading *reading, const Key *keys, int count, uint64 *seen)
{
	Size		length = reading->value - reading->line;

	Assert(count <= 64);
	if (reading->value > reading->line && reading->value[-1] == '=')
		length--;
	for (int i = 0; i < count; i++)
		if (strlen(keys[i].name) == length &&
			memcmp(keys[i].name, reading->line, length) == 0)
		{
			if (*seen & (UINT64CONST(1) << i))
				damaged(reading, "a key appears twice");
			*seen |= UINT64CONST(1) << i;
			if (keys[i].read)
				keys[i].read(reading);
			return;
		}
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("the LightGBM model has a key \"%s\" that is not "
					"supported",
					model_document_copy_name(FORMAT, reading->line,
											 Min(length, 64),
											 reading->line - reading->bytes)),
			 errdetail("It stands in line " INT64_FORMAT ".",
					   reading->number)));
}

/* ---- values ---- */

/* The next word of the value, or NULL; takes it. */
static const char *
next_word(Reading *reading, Size *length)
{
	const char *start;

	while (reading->value < reading->line_end && *reading->value == ' ')
		reading->value++;
	start = reading->value;
	while (reading->value < reading->line_end && *reading->value != ' ')
		reading->value++;
	*length = reading->value - start;
	return *length == 0 ? NULL : start;
}

/* The next word as a terminated string; there must be one. */
static void
next_token(Reading *reading, char *token)
{
	Size		length;
	const char *word = next_word(reading, &length);

	if (word == NULL)
		damaged(reading, "a list is too short");
	if (length > NUMBER_LENGTH)
		damaged(reading, "a number is malformed");
	memcpy(token, word, length);
	token[length] = '\0';
}

/* The value must end here. */
static void
expect_end(Reading *reading)
{
	Size		length;

	if (next_word(reading, &length) != NULL)
		damaged(reading, "a list is too long");
}

static int64
parse_integer(Reading *reading, const char *token, int64 low, int64 high)
{
	char	   *end;
	long long	value;

	errno = 0;
	value = strtoll(token, &end, 10);
	if (end == token || *end != '\0')
		damaged(reading, "an integer is malformed");
	if (errno != 0 || value < low || value > high)
		damaged(reading, "an integer is out of range");
	return value;
}

static double
parse_double(Reading *reading, const char *token)
{
	const char *digits = token + (*token == '-' || *token == '+' ? 1 : 0);
	char	   *end;
	double		value;

	if (strcmp(digits, "inf") == 0)
		return *token == '-' ? -INFINITY : INFINITY;
	if (strcmp(digits, "nan") == 0)
		return NAN;
	value = strtod(token, &end);
	if (end == token || *end != '\0' ||
		strspn(digits, "0123456789.eE+-") != strlen(digits))
		damaged(reading, "a number is malformed");
	return value;
}

/* The value as one integer. */
static int
read_integer(Reading *reading, int64 low, int64 high)
{
	char		token[NUMBER_LENGTH + 1];
	int64		value;

	next_token(reading, token);
	value = parse_integer(reading, token, low, high);
	expect_end(reading);
	return (int) value;
}

/* ERROR unless the rest of the line can hold a list of this length. */
static void
check_room(Reading *reading, int64 count)
{
	if (count > (reading->line_end - reading->value + 1) / 2)
		damaged(reading, "a list is too short");
}

/* The value as a list of this many integers; NULL for none. */
static int32 *
read_integers(Reading *reading, int64 count, int64 low, int64 high)
{
	char		token[NUMBER_LENGTH + 1];
	int32	   *values;

	check_room(reading, count);
	values = palloc_extended(sizeof(int32) * Max(count, 1), MCXT_ALLOC_HUGE);
	for (int64 i = 0; i < count; i++)
	{
		next_token(reading, token);
		values[i] = (int32) parse_integer(reading, token, low, high);
	}
	expect_end(reading);
	return values;
}

static double *
read_doubles(Reading *reading, int64 count)
{
	char		token[NUMBER_LENGTH + 1];
	double	   *values;

	check_room(reading, count);
	values = palloc_extended(sizeof(double) * Max(count, 1), MCXT_ALLOC_HUGE);
	for (int64 i = 0; i < count; i++)
	{
		next_token(reading, token);
		values[i] = parse_double(reading, token);
	}
	expect_end(reading);
	return values;
}

/* The value as a list of this many words. */
static char **
read_words(Reading *reading, int64 count)
{
	char	  **words;

	check_room(reading, count);
	words = palloc_extended(sizeof(char *) * Max(count, 1), MCXT_ALLOC_HUGE);
	for (int64 i = 0; i < count; i++)
	{
		Size		length;
		const char *word = next_word(reading, &length);

		if (word == NULL)
			damaged(reading, "a list is too short");
		words[i] = model_document_copy_name(FORMAT, word, length,
											word - reading->bytes);
	}
	expect_end(reading);
	return words;
}

/* ---- the header ---- */

static void
read_class_count(Reading *reading)
{
	reading->model->class_count = read_integer(reading, 1, PG_INT16_MAX);
}

static void
read_trees_per_iteration(Reading *reading)
{
	reading->model->trees_per_iteration = read_integer(reading, 1,
													   PG_INT16_MAX);
}

static void
read_max_feature(Reading *reading)
{
	reading->model->feature_count = read_integer(reading, 0,
												 PG_INT32_MAX - 1) + 1;
}

static void
read_objective(Reading *reading)
{
	reading->model->objective =
		model_document_copy_name(FORMAT, reading->value,
								 reading->line_end - reading->value,
								 reading->value - reading->bytes);
}

static void
read_average_output(Reading *reading)
{
	if (reading->value != reading->line_end)
		damaged(reading, "average_output has a value");
	reading->model->average_output = true;
}

static void
read_feature_names(Reading *reading)
{
	if (reading->model->feature_count == 0)
		damaged(reading, "the names of features come before their number");
	reading->model->names = read_words(reading,
									   reading->model->feature_count);
}

static void
read_feature_infos(Reading *reading)
{
	if (reading->model->feature_count == 0)
		damaged(reading, "features come before their number");
	reading->model->infos = read_words(reading,
									   reading->model->feature_count);
}

static void
read_version(Reading *reading)
{
	Size		length = reading->line_end - reading->value;

	if (length != 2 || reading->value[0] != 'v' || reading->value[1] < '2' ||
		reading->value[1] > '4')
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("version \"%s\" of LightGBM's model files is not "
						"supported",
						model_document_copy_name(FORMAT, reading->value,
												 Min(length, 64),
												 reading->value -
												 reading->bytes)),
				 errhint("Versions v2, v3 and v4 are.")));
	reading->model->version = reading->value[1] - '0';
}

/* The sizes serve reading in parallel; how many there are is a check. */
static void
read_tree_sizes(Reading *reading)
{
	Size		length;

	reading->announced = 0;
	while (next_word(reading, &length) != NULL)
		reading->announced++;
}

static const Key header_keys[] = {
	{"tree", NULL},
	{"version", read_version},
	{"num_class", read_class_count},
	{"num_tree_per_iteration", read_trees_per_iteration},
	{"max_feature_idx", read_max_feature},
	{"objective", read_objective},
	{"average_output", read_average_output},
	{"feature_names", read_feature_names},
	{"feature_infos", read_feature_infos},
	{"label_index", NULL},
	{"monotone_constraints", NULL},
	{"tree_sizes", read_tree_sizes},
};

/* Reads up to the first tree, whose line is the current one then. */
static void
read_header(Reading *reading)
{
	uint64		seen = 0;
	bool		found = next_line(reading);

	if (!found || !is_line(reading, "tree"))
		damaged(reading, "it does not begin with \"tree\"");
	do
	{
		if (begins(reading, "Tree=") || is_line(reading, "end of trees"))
			break;
		if (!is_empty(reading))
			read_key(reading, header_keys, lengthof(header_keys), &seen);
		found = next_line(reading);
	} while (found);
	if (!found)
		damaged(reading, "it has no trees");
	if (reading->model->class_count == 0 || reading->model->names == NULL ||
		reading->model->infos == NULL)
		damaged(reading, "the header lacks num_class, feature_names or "
				"feature_infos");
	if (reading->model->trees_per_iteration == 0)
		reading->model->trees_per_iteration = reading->model->class_count;
}

/* ---- a tree ---- */

/* A list comes only after the number of leaves. */
static LightgbmTree *
tree_with_leaves(Reading *reading)
{
	if (reading->tree->leaf_count == 0)
		damaged(reading, "a list comes before the number of leaves");
	return reading->tree;
}

/* A leaf is a number of a list, so there are fewer than bytes. */
static void
read_leaf_count(Reading *reading)
{
	reading->tree->leaf_count = read_integer(reading, 1, PG_INT32_MAX / 2);
	reading->split_count = reading->tree->leaf_count - 1;
}

static void
read_set_count(Reading *reading)
{
	reading->tree->set_count = read_integer(reading, 0, PG_INT32_MAX / 2);
}

static void
read_split_feature(Reading *reading)
{
	tree_with_leaves(reading)->feature =
		read_integers(reading, reading->split_count, 0, PG_INT32_MAX);
}

static void
read_threshold(Reading *reading)
{
	tree_with_leaves(reading)->threshold =
		read_doubles(reading, reading->split_count);
}

static void
read_decision(Reading *reading)
{
	tree_with_leaves(reading)->decision =
		read_integers(reading, reading->split_count, 0, PG_INT8_MAX);
}

static void
read_left(Reading *reading)
{
	tree_with_leaves(reading)->left =
		read_integers(reading, reading->split_count, PG_INT32_MIN,
					  PG_INT32_MAX);
}

static void
read_right(Reading *reading)
{
	tree_with_leaves(reading)->right =
		read_integers(reading, reading->split_count, PG_INT32_MIN,
					  PG_INT32_MAX);
}

static void
read_leaf_value(Reading *reading)
{
	tree_with_leaves(reading)->leaf_value =
		read_doubles(reading, reading->tree->leaf_count);
}

static void
read_leaf_rows(Reading *reading)
{
	/* a tree of one leaf has nothing here */
	if (reading->split_count > 0)
		tree_with_leaves(reading)->leaf_weight =
			read_integers(reading, reading->tree->leaf_count, 0,
						  PG_INT32_MAX);
}

static void
read_set_bounds(Reading *reading)
{
	reading->tree->set_bounds = read_integers(reading,
											  (int64) reading->tree->set_count + 1,
											  0, PG_INT32_MAX);
}

static void
read_set_words(Reading *reading)
{
	LightgbmTree *tree = reading->tree;
	char		token[NUMBER_LENGTH + 1];
	int64		count;

	if (tree->set_bounds == NULL)
		damaged(reading, "categories come before their boundaries");
	count = tree->set_bounds[tree->set_count];
	check_room(reading, count);
	tree->set_words = palloc_extended(sizeof(uint32) * Max(count, 1),
									  MCXT_ALLOC_HUGE);
	for (int64 i = 0; i < count; i++)
	{
		next_token(reading, token);
		tree->set_words[i] = (uint32) parse_integer(reading, token, 0,
													PG_UINT32_MAX);
	}
	expect_end(reading);
}

static void
read_is_linear(Reading *reading)
{
	reading->tree->is_linear = read_integer(reading, 0, 1) == 1;
}

static void
read_constant(Reading *reading)
{
	tree_with_leaves(reading)->constant =
		read_doubles(reading, reading->tree->leaf_count);
}

static void
read_term_counts(Reading *reading)
{
	LightgbmTree *tree = tree_with_leaves(reading);

	tree->term_counts = read_integers(reading, tree->leaf_count, 0,
									  PG_INT32_MAX);
	reading->term_count = 0;
	for (int i = 0; i < tree->leaf_count; i++)
		reading->term_count += tree->term_counts[i];
}

static void
read_term_features(Reading *reading)
{
	reading->tree->term_features = read_integers(reading,
												 reading->term_count, 0,
												 PG_INT32_MAX);
}

static void
read_term_factors(Reading *reading)
{
	reading->tree->term_factors = read_doubles(reading, reading->term_count);
}

static const Key tree_keys[] = {
	{"num_leaves", read_leaf_count},
	{"num_cat", read_set_count},
	{"split_feature", read_split_feature},
	{"threshold", read_threshold},
	{"decision_type", read_decision},
	{"left_child", read_left},
	{"right_child", read_right},
	{"leaf_value", read_leaf_value},
	{"leaf_count", read_leaf_rows},
	{"cat_boundaries", read_set_bounds},
	{"cat_threshold", read_set_words},
	{"is_linear", read_is_linear},
	{"leaf_const", read_constant},
	{"num_features", read_term_counts},
	{"leaf_features", read_term_features},
	{"leaf_coeff", read_term_factors},
	{"split_gain", NULL},
	{"leaf_parent", NULL},
	{"leaf_weight", NULL},
	{"internal_value", NULL},
	{"internal_weight", NULL},
	{"internal_count", NULL},
	{"shrinkage", NULL},		/* the values have it already */
	{"has_categorical", NULL},	/* num_cat says it, too */
};

/* What a tree must have. */
static void
check_tree(Reading *reading)
{
	const LightgbmTree *tree = reading->tree;

	if (tree->leaf_count == 0 || tree->leaf_value == NULL)
		damaged(reading, "a tree has no leaves");
	if (reading->split_count > 0 &&
		(tree->feature == NULL || tree->threshold == NULL ||
		 tree->left == NULL || tree->right == NULL))
		damaged(reading, "a tree has no splits");
	if (tree->set_count > 0 && reading->split_count > 0 &&
		tree->set_words == NULL)
		damaged(reading, "a tree has no categories");
	if (tree->is_linear &&
		(tree->constant == NULL || tree->term_counts == NULL ||
		 tree->term_features == NULL || tree->term_factors == NULL))
		damaged(reading, "a tree has no linear leaves");
}

/* Reads the tree that begins in this line, up to the line after it. */
static bool
read_tree(Reading *reading, LightgbmTree *tree)
{
	uint64		seen = 0;
	bool		found;

	memset(tree, 0, sizeof(*tree));
	tree->line = reading->number;
	reading->tree = tree;
	reading->split_count = 0;
	reading->term_count = 0;
	if (read_integer(reading, 0, PG_INT32_MAX) != reading->model->tree_count)
		damaged(reading, "the trees are not in order");
	while ((found = next_line(reading)) && !is_empty(reading))
		read_key(reading, tree_keys, lengthof(tree_keys), &seen);
	check_tree(reading);
	while (found && is_empty(reading))
		found = next_line(reading);
	return found;
}

/* Reads all trees; the line after them is the current one then. */
static bool
read_trees(Reading *reading)
{
	LightgbmModel *model = reading->model;
	int			allocated = 0;
	bool		found = true;

	while (found && begins(reading, "Tree="))
	{
		model->trees = model_document_room(model->trees, model->tree_count,
										   &allocated, sizeof(LightgbmTree));
		found = read_tree(reading, &model->trees[model->tree_count]);
		model->tree_count++;
	}
	return found;
}

/* ---- what follows the trees ---- */

/* Reads the sections from this line on. */
static void
read_sections(Reading *reading)
{
	do
	{
		const char *problem = NULL;

		if (begins(reading, CATEGORICAL))
			problem = model_read_lightgbm_categorical(reading->model,
													  reading->line +
													  strlen(CATEGORICAL),
													  reading->line_end);
		else if (begins(reading, PANDAS))
			problem = model_read_lightgbm_pandas(reading->model,
												 reading->line +
												 strlen(PANDAS),
												 reading->line_end);
		else if (begins(reading, "Tree="))
			problem = "a tree follows the end of trees";
		if (problem != NULL)
			damaged(reading, problem);
	} while (next_line(reading));
}

/* Reads a whole file. */
LightgbmModel *
model_read_lightgbm(const char *bytes, Size length)
{
	Reading		reading = {0};
	bool		found;

	reading.bytes = bytes;
	reading.next = bytes;
	reading.end = bytes + length;
	reading.model = palloc0(sizeof(LightgbmModel));
	reading.announced = -1;
	read_header(&reading);
	found = read_trees(&reading);
	if (found ? !is_line(&reading, "end of trees") &&
		(reading.model->version > 2 || !is_line(&reading, "feature importances:")) :
		reading.model->version > 2)
		damaged(&reading, "a tree, or the end of the trees, is expected");
	if (reading.announced >= 0 &&
		reading.announced != reading.model->tree_count)
		damaged(&reading, "there are not as many trees as tree_sizes");
	if (found)
		read_sections(&reading);
	return reading.model;
}

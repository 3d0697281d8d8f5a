/*-------------------------------------------------------------------------
 *
 * build.c
 *		From training data to an image.
 *
 * Numbers are standardised by the mean and the population standard deviation
 * of the training rows; a missing number counts as the mean and, where any
 * was missing in training, has an indicator of its own.  A text is one-hot
 * over the categories seen in training, without a reference level (the
 * penalty takes care of that); NULL is a category of its own where it was
 * seen, and a category that was not seen adds nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "miscadmin.h"
#include "model/model.h"
#include "model/program.h"
#include "utils/memutils.h"

#define MAX_CATEGORIES 1000
#define MAX_WEIGHTS 4000

/* How a column is laid out among the weights. */
typedef struct Layout
{
	double		mean;
	double		scale;
	int			weight;			/* first */
	int			missing_weight; /* or -1 */
	double		expected;		/* mean of the term over the training rows */
	int			category_count;
	int		   *rank;			/* code → place in sorted order, -1: other */
	char	  **sorted;
} Layout;

/* Mean and scale of the training rows; is any of them missing? */
static bool
standardise(const TrainingData *data, const TrainingColumn *column,
			Layout *layout)
{
	int64		count = 0;
	double		squares = 0;
	bool		missing = false;

	layout->mean = 0;
	for (int64 i = 0; i < data->rows; i++)
	{
		double		distance = column->numbers[i] - layout->mean;

		if (data->held_out[i])
			continue;
		if (isnan(column->numbers[i]))
		{
			missing = true;
			continue;
		}
		layout->mean += distance / ++count;
		squares += distance * (column->numbers[i] - layout->mean);
	}
	layout->scale = count > 0 ? sqrt(squares / count) : 0;
	if (!(layout->scale > 0) || !isfinite(layout->scale))
		layout->scale = 1;
	return missing;
}

/* A category and how often it is seen, for sorting. */
typedef struct Seen
{
	int64		count;
	int			code;
	const char *text;
} Seen;

static int
by_count(const void *a, const void *b)
{
	const Seen *left = a;
	const Seen *right = b;

	if (left->count != right->count)
		return left->count > right->count ? -1 : 1;
	return strcmp(left->text, right->text);
}

static int
by_text(const void *a, const void *b)
{
	return strcmp(((const Seen *) a)->text, ((const Seen *) b)->text);
}

/*
 * The most frequent categories of the training rows, sorted by their bytes;
 * is any row missing?
 */
static bool
rank_categories(const TrainingData *data, const TrainingColumn *column,
				Layout *layout)
{
	int			total = column->category_count;
	Seen	   *seen = palloc0(sizeof(Seen) * Max(total, 1));
	bool		missing = false;
	int			kept;

	for (int i = 0; i < total; i++)
		seen[i] = (Seen)
	{
		0, i, column->categories[i]
	};
	for (int64 i = 0; i < data->rows; i++)
	{
		if (data->held_out[i])
			continue;
		if (column->codes[i] < 0)
			missing = true;
		else
			seen[column->codes[i]].count++;
	}
	qsort(seen, total, sizeof(Seen), by_count);
	for (kept = 0; kept < Min(total, MAX_CATEGORIES); kept++)
		if (seen[kept].count == 0)
			break;
	qsort(seen, kept, sizeof(Seen), by_text);
	layout->category_count = kept;
	layout->rank = palloc(sizeof(int) * Max(total, 1));
	layout->sorted = palloc(sizeof(char *) * Max(kept, 1));
	for (int i = 0; i < total; i++)
		layout->rank[i] = -1;
	for (int i = 0; i < kept; i++)
	{
		layout->rank[seen[i].code] = i;
		layout->sorted[i] = column->categories[seen[i].code];
	}
	return missing;
}

/* Lays out the weights of all columns; the number of weights. */
static int
lay_out(const TrainingData *data, Layout *layouts)
{
	int			weights = 0;

	for (int i = 0; i < data->column_count; i++)
	{
		const TrainingColumn *column = &data->columns[i];
		Layout	   *layout = &layouts[i];
		bool		missing = column->kind == MODEL_NUMERIC ?
		standardise(data, column, layout) :
		rank_categories(data, column, layout);

		CHECK_FOR_INTERRUPTS();
		layout->weight = weights;
		weights += column->kind == MODEL_NUMERIC ? 1 : layout->category_count;
		layout->missing_weight = missing ? weights++ : -1;
	}
	if (weights > MAX_WEIGHTS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a logistic model can have %d weights, and this one "
						"would have %d", MAX_WEIGHTS, weights),
				 errhint("Exclude columns with many categories.")));
	return weights;
}

/* The one entry of a column in a row of the design matrix. */
static void
design_entry(const TrainingColumn *column, const Layout *layout, int64 row,
			 int32 *index, double *value)
{
	int32		code;

	*value = 1;
	if (column->kind == MODEL_NUMERIC)
	{
		bool		missing = isnan(column->numbers[row]);

		*index = missing ? layout->missing_weight : layout->weight;
		if (!missing)
			*value = (column->numbers[row] - layout->mean) / layout->scale;
		return;
	}
	code = column->codes[row];
	if (code < 0)
		*index = layout->missing_weight;
	else
		*index = layout->rank[code] < 0 ? -1 :
			layout->weight + layout->rank[code];
}

/* The training rows as the kernel wants them. */
static LogisticData
design(const TrainingData *data, const Layout *layouts, int weights)
{
	int			width = data->column_count;
	int32	   *index;
	double	   *value;
	unsigned char *labels;
	int64		rows = 0;

	index = MemoryContextAllocHuge(CurrentMemoryContext,
								   Max(data->rows, 1) * width * sizeof(int32));
	value = MemoryContextAllocHuge(CurrentMemoryContext,
								   Max(data->rows, 1) * width * sizeof(double));
	labels = MemoryContextAllocHuge(CurrentMemoryContext, Max(data->rows, 1));
	for (int64 row = 0; row < data->rows; row++)
	{
		if (data->held_out[row])
			continue;
		for (int i = 0; i < width; i++)
			design_entry(&data->columns[i], &layouts[i], row,
						 &index[rows * width + i], &value[rows * width + i]);
		labels[rows++] = data->labels[row];
	}
	return (LogisticData)
	{
		rows, weights, width, index, value, labels
	};
}

/* ---- the model ---- */

/* The term of a column in the linear predictor. */
static void
describe_term(const TrainingColumn *column, const Layout *layout,
			  const double *weights, int slot, ProgramTerm *term)
{
	ProgramTerm initial = PROGRAM_TERM_INIT;

	*term = initial;
	term->slot = slot;
	term->missing = layout->missing_weight < 0 ? 0 :
		weights[layout->missing_weight];
	if (column->kind == MODEL_NUMERIC)
	{
		term->coefficient = weights[layout->weight];
		term->center = layout->mean;
		term->scale = layout->scale;
	}
	else
	{
		term->table = weights + layout->weight;
		term->table_count = layout->category_count;
	}
	term->expected = layout->expected;
}

/* Describes the model and compiles it; weights has the intercept last. */
static ModelImage *
pack(const TrainingData *data, const Layout *layouts, int weight_count,
	 const double *weights)
{
	static const char *const classes[] = {"false", "true"};
	ModelProgram *program = program_create("logistic");
	ProgramTerm *terms = palloc(sizeof(ProgramTerm) * data->column_count);
	int			margin;
	int			probability;

	for (int i = 0; i < data->column_count; i++)
	{
		ProgramInput input = PROGRAM_INPUT_INIT;

		input.name = data->columns[i].name;
		input.kind = data->columns[i].kind;
		input.flags = MODEL_INFINITE_IS_MISSING;
		input.categories = (const char *const *) layouts[i].sorted;
		input.category_count = layouts[i].category_count;
		describe_term(&data->columns[i], &layouts[i], weights,
					  program_add_input(program, &input), &terms[i]);
	}
	margin = program_add_linear(program, terms, data->column_count,
								weights[weight_count], false);
	probability = program_unary(program, MODEL_SIGMOID, margin, 1, false);
	program_set_raw(program, margin, 1);
	program_set_scores(program, MODEL_CLASSIFICATION,
					   program_complement(program, probability, false), 2,
					   classes);
	return program_compile(program);
}

/* The mean of each column's term over the training rows. */
static void
average_terms(const LogisticData *rows, const double *weights,
			  Layout *layouts)
{
	for (int i = 0; i < rows->width; i++)
	{
		double		sum = 0;

		for (int64 row = 0; row < rows->rows; row++)
		{
			int64		at = row * rows->width + i;

			if (rows->index[at] >= 0)
				sum += weights[rows->index[at]] * rows->value[at];
		}
		layouts[i].expected = sum / Max(rows->rows, 1);
	}
}

static void
check_interrupts(void)
{
	CHECK_FOR_INTERRUPTS();
}

/* ERROR unless the training rows have both classes. */
static void
check_classes(const LogisticData *rows)
{
	int64		positives = 0;

	for (int64 i = 0; i < rows->rows; i++)
		positives += rows->label[i];
	if (positives == 0 || positives == rows->rows)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a model needs training rows of both classes"),
				 errdetail("Of " INT64_FORMAT " rows, " INT64_FORMAT
						   " are positive.", rows->rows, positives)));
}

/* Fits a logistic model to the rows that are not held out. */
ModelImage *
model_fit_logistic(const TrainingData *data, const LogisticOptions *given,
				   int *iterations)
{
	Layout	   *layouts = palloc0(sizeof(Layout) * data->column_count);
	int			count = lay_out(data, layouts);
	LogisticData rows = design(data, layouts, count);
	LogisticOptions options = *given;
	double	   *weights = palloc0(sizeof(double) * (count + 1));
	double	   *workspace =
	MemoryContextAllocHuge(CurrentMemoryContext,
						   logistic_workspace(count) * sizeof(double));

	check_classes(&rows);
	options.check = check_interrupts;
	switch (logistic_fit(&rows, &options, weights, workspace, iterations))
	{
		case LOGISTIC_CONVERGED:
			break;
		case LOGISTIC_NOT_CONVERGED:
			ereport(WARNING,
					(errmsg("the model has not converged after %d iterations",
							options.max_iterations),
					 errhint("Raise \"max_iter\" in params.")));
			*iterations = options.max_iterations;
			break;
		case LOGISTIC_SINGULAR:
			ereport(ERROR,
					(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
					 errmsg("the model's equations cannot be solved"),
					 errhint("Lower \"C\" in params, or exclude columns with "
							 "extreme values.")));
	}
	average_terms(&rows, weights, layouts);
	return pack(data, layouts, count, weights);
}

/* The image's score of a row of the data; see kernel.h for workspace. */
double
model_predict_row(const TrainingData *data, const ModelImage *image,
				  double *workspace, int64 row)
{
	for (int i = 0; i < data->column_count; i++)
	{
		const TrainingColumn *column = &data->columns[i];
		ModelValue	value = {0};

		if (column->kind == MODEL_NUMERIC)
		{
			value.number = column->numbers[row];
			value.missing = isnan(column->numbers[row]);
		}
		else
		{
			value.missing = column->codes[row] < 0;
			value.text = value.missing ? NULL :
				column->categories[column->codes[row]];
			value.length = value.missing ? 0 : strlen(value.text);
		}
		workspace[i] = model_slot(image, &model_inputs(image)[i], &value);
	}
	return model_run_score(image, workspace, 0);
}

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
#include "utils/builtins.h"
#include "utils/json.h"
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

/* ---- the image ---- */

/* Appends bytes at a multiple of eight; their offset. */
static uint32
append_aligned(StringInfo block, const void *bytes, size_t length)
{
	static const char zeros[8] = {0};
	uint32		offset;

	appendBinaryStringInfo(block, zeros, (8 - block->len % 8) % 8);
	offset = block->len;
	appendBinaryStringInfo(block, bytes, length);
	return offset;
}

static uint32
append_string(StringInfo block, const char *text)
{
	uint32		offset = block->len;

	appendBinaryStringInfo(block, text, strlen(text) + 1);
	return offset;
}

/* Fills in an input; its strings go behind what is in the block. */
static void
pack_input(StringInfo block, const TrainingColumn *column,
		   const Layout *layout, ModelInput *input)
{
	uint32	   *offsets = palloc(sizeof(uint32) *
								 Max(layout->category_count, 1));

	memset(input, 0, sizeof(*input));
	input->kind = column->kind;
	input->mean = layout->mean;
	input->scale = column->kind == MODEL_NUMERIC ? layout->scale : 1;
	input->weight = layout->weight;
	input->missing_weight = layout->missing_weight;
	input->category_count = layout->category_count;
	input->name = append_string(block, column->name);
	for (int i = 0; i < layout->category_count; i++)
		offsets[i] = append_string(block, layout->sorted[i]);
	input->categories = append_aligned(block, offsets, sizeof(uint32) *
									   layout->category_count);
}

/* Puts the parts together; weights has the intercept last. */
static ModelImage *
pack(const TrainingData *data, const Layout *layouts, int weight_count,
	 const double *weights)
{
	ModelImage	header = {.magic = MODEL_MAGIC,.format = MODEL_FORMAT,
		.byte_order = MODEL_BYTE_ORDER,.kind = MODEL_LOGISTIC,
		.input_count = data->column_count,.weight_count = weight_count,
	.intercept = weights[weight_count]};
	ModelInput *inputs = palloc(sizeof(ModelInput) * data->column_count);
	StringInfoData block;
	ModelImage *image;

	initStringInfo(&block);
	appendBinaryStringInfo(&block, (char *) &header, sizeof(header));
	for (int i = 0; i < data->column_count; i++)
		pack_input(&block, &data->columns[i], &layouts[i], &inputs[i]);
	header.inputs = append_aligned(&block, inputs, sizeof(ModelInput) *
								   data->column_count);
	header.weights = append_aligned(&block, weights,
									sizeof(double) * weight_count);
	header.size = block.len;
	image = (ModelImage *) block.data;
	*image = header;
	image->checksum = model_image_checksum(image);
	return image;
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
	return pack(data, layouts, count, weights);
}

/* The image's score of a row of the data; values is scratch. */
double
model_predict_row(const TrainingData *data, const ModelImage *image,
				  ModelValue *values, int64 row)
{
	for (int i = 0; i < data->column_count; i++)
	{
		const TrainingColumn *column = &data->columns[i];

		if (column->kind == MODEL_NUMERIC)
		{
			values[i].number = column->numbers[row];
			values[i].missing = isnan(column->numbers[row]);
		}
		else
		{
			values[i].missing = column->codes[row] < 0;
			values[i].text = values[i].missing ? NULL :
				column->categories[column->codes[row]];
			values[i].length = values[i].missing ? 0 :
				strlen(values[i].text);
		}
	}
	return model_predict(image, values);
}

/* The inputs for visage.models: name, type, categories. */
Jsonb *
model_describe_inputs(const ModelImage *image)
{
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfoChar(&text, '[');
	for (uint32 i = 0; i < image->input_count; i++)
	{
		const ModelInput *input = &model_inputs(image)[i];
		const uint32 *categories =
		(const uint32 *) model_string(image, input->categories);

		appendStringInfoString(&text, i ? ", {\"name\": " : "{\"name\": ");
		escape_json(&text, model_string(image, input->name));
		appendStringInfo(&text, ", \"type\": \"%s\"",
						 input->kind == MODEL_NUMERIC ? "number" : "category");
		for (uint32 j = 0; j < input->category_count; j++)
		{
			appendStringInfoString(&text, j ? ", " : ", \"categories\": [");
			escape_json(&text, model_string(image, categories[j]));
		}
		appendStringInfoString(&text, input->category_count ? "]}" : "}");
	}
	appendStringInfoChar(&text, ']');
	return core_json_parse(text.data);
}

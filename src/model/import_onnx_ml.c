/*-------------------------------------------------------------------------
 *
 * import_onnx_ml.c
 *		Operators of ai.onnx.ml but trees: encoders, scalers, linear models.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "model/import_onnx.h"

/* ---- dictionaries ---- */

/* One side of a dictionary: texts or numbers. */
typedef struct Column
{
	int			count;
	OnnxType	type;
	char	  **texts;
	double	   *numbers;
} Column;

/* The column of the attributes <name>_strings, _int64s, … or _tensor. */
static bool
read_column(const OnnxImport *import, const char *name, Column *column)
{
	const OnnxAttribute *strings = onnx_attribute(import, psprintf("%s_strings", name), ONNX_ATTRIBUTE_STRINGS);
	const OnnxAttribute *floats = onnx_attribute(import, psprintf("%s_floats", name), ONNX_ATTRIBUTE_FLOATS);
	const OnnxAttribute *ints = onnx_attribute(import, psprintf("%s_int64s", name), ONNX_ATTRIBUTE_INTS);
	const OnnxAttribute *tensor = onnx_attribute(import, psprintf("%s_tensor", name), ONNX_ATTRIBUTE_TENSOR);

	memset(column, 0, sizeof(*column));
	if (strings != NULL)
	{
		column->count = strings->count;
		column->type = ONNX_STRING;
		column->texts = strings->strings;
	}
	else if (floats != NULL)
	{
		column->count = floats->count;
		column->type = ONNX_FLOAT;
		column->numbers = floats->floats;
	}
	else if (ints != NULL || tensor != NULL)
	{
		const OnnxTensor *t = tensor != NULL ? tensor->t : NULL;
		const int64 *integers = ints != NULL ? ints->ints : t->integers;

		column->count = ints != NULL ? ints->count : t->count;
		column->type = ints != NULL ? ONNX_INT64 : t->type;
		if (column->type == ONNX_STRING)
			column->texts = t->texts;
		else if (onnx_is_float(column->type))
			column->numbers = t->numbers;
		else
		{
			column->numbers = palloc_extended(sizeof(double) * Max(column->count, 1),
											  MCXT_ALLOC_HUGE);
			for (int i = 0; i < column->count; i++)
				column->numbers[i] = (double) integers[i];
		}
	}
	else
		return false;
	return true;
}

/*
 * A text that was printed as an integer, as that integer; false if no
 * integer is printed so.
 */
static bool
printed_integer(const char *text, double *number)
{
	char		again[32];
	char	   *end;
	long long	value;

	errno = 0;
	value = strtoll(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' ||
		value > (INT64CONST(1) << 53) || value < -(INT64CONST(1) << 53))
		return false;
	snprintf(again, sizeof(again), "%lld", value);
	*number = (double) value;
	return strcmp(again, text) == 0;
}

/*
 * The keys of a dictionary as what a slot may have, with their values; keys
 * that cannot occur are left out.  NaN as a key comes back apart.
 */
static int
translate_keys(OnnxImport *import, const OnnxValue *input, int element,
			   const Column *keys, const double *values, double *numbers,
			   double *kept, double *if_missing)
{
	ImportTexts *texts = input->texts ? input->texts[element] : NULL;
	int			count = 0;

	for (int i = 0; i < keys->count; i++)
	{
		double		number;

		if (texts == NULL)
			number = keys->numbers[i];
		else if (texts->number < 0)
			number = import_text_code(texts, keys->texts[i]);
		else if (!printed_integer(keys->texts[i], &number))
			continue;
		if (isnan(number))
			*if_missing = values[i];
		else
		{
			numbers[count] = number;
			kept[count++] = values[i];
		}
	}
	return count;
}

/* The slot where an element of the input is looked up. */
static int
look_up(OnnxImport *import, const OnnxValue *input, int element,
		const Column *keys, const double *values, double otherwise)
{
	double	   *numbers = palloc_extended(sizeof(double) * Max(keys->count, 1),
										  MCXT_ALLOC_HUGE);
	double	   *kept = palloc_extended(sizeof(double) * Max(keys->count, 1),
									   MCXT_ALLOC_HUGE);
	double		if_missing = otherwise;
	int			count = translate_keys(import, input, element, keys, values,
									   numbers, kept, &if_missing);
	int			slot = input->texts != NULL &&
	input->texts[element]->number >= 0 ? input->texts[element]->number :
	input->slots[element];

	return program_lookup(import->program, slot, 1, numbers, kept, count,
						  otherwise, if_missing);
}

/* Of equal keys libraries keep the first or the last one: neither here. */
static void
check_distinct(OnnxImport *import, const Column *keys)
{
	ImportTexts *seen = import_create_texts(-1);

	for (int i = 0; i < keys->count; i++)
	{
		char	   *key = keys->texts ? keys->texts[i] :
		psprintf("%.17g", keys->numbers[i]);

		if (import_text_code(seen, key) != i)
			onnx_refuse(import, "key \"%s\" that is given twice", key);
		if (keys->texts == NULL)
			pfree(key);
	}
}

/* Output 0: what a dictionary says for each element of input 0. */
static void
apply_dictionary(OnnxImport *import, const Column *keys,
				 const Column *values, double default_number,
				 const char *default_text)
{
	OnnxValue  *input = onnx_input(import, 0);
	OnnxValue  *output;
	ImportTexts *texts = NULL;
	double	   *numbers = values->numbers;
	double		otherwise = default_number;

	if (input->constant != NULL)
		onnx_refuse(import, "constant input \"%s\"", input->name);
	if ((keys->texts != NULL) != (input->type == ONNX_STRING))
		onnx_invalid(import, "input \"%s\" and the keys have different types",
					 input->name);
	if (keys->count != values->count)
		onnx_invalid(import, "there are %d keys and %d values", keys->count,
					 values->count);
	check_distinct(import, keys);
	if (values->texts != NULL)
	{
		texts = import_create_texts(-1);
		numbers = palloc_extended(sizeof(double) * Max(values->count, 1),
								  MCXT_ALLOC_HUGE);
		for (int i = 0; i < values->count; i++)
			numbers[i] = import_text_code(texts, values->texts[i]);
		otherwise = import_text_code(texts, default_text);
	}
	output = onnx_output(import, 0, values->type);
	onnx_same_shape(output, input);
	for (int i = 0; i < input->width; i++)
	{
		output->slots[i] = look_up(import, input, i, keys, numbers,
								   otherwise);
		if (texts != NULL)
			output->texts[i] = texts;
	}
	if (input->label_count > 0 && input->width == 1)
	{
		onnx_copy_meaning(output, input);
		output->labels = palloc(sizeof(char *) * input->label_count);
		for (int i = 0; i < input->label_count; i++)
		{
			output->labels[i] = input->labels[i];
			for (int j = 0; j < keys->count; j++)
				if (strcmp(input->labels[i], keys->texts ? keys->texts[j] :
						   psprintf("%.17g", keys->numbers[j])) == 0)
					output->labels[i] = values->texts ? values->texts[j] :
						psprintf("%.17g", values->numbers[j]);
		}
	}
}

/* The default of a LabelEncoder whose values are numbers. */
static double
default_number(const OnnxImport *import, OnnxType type)
{
	const OnnxAttribute *tensor = onnx_attribute(import, "default_tensor",
												 ONNX_ATTRIBUTE_TENSOR);

	if (tensor != NULL && tensor->t->count == 1 && tensor->t->numbers != NULL)
		return tensor->t->numbers[0];
	if (tensor != NULL && tensor->t->count == 1 && tensor->t->integers != NULL)
		return (double) tensor->t->integers[0];
	if (onnx_is_float(type))
		return onnx_float(import, "default_float", -0.0);
	return (double) onnx_int(import, "default_int64", -1);
}

static void
op_label_encoder(OnnxImport *import, const OnnxNode *node)
{
	Column		keys;
	Column		values;
	const OnnxAttribute *tensor = onnx_attribute(import, "default_tensor",
												 ONNX_ATTRIBUTE_TENSOR);
	const char *text = onnx_string(import, "default_string", "_Unused");

	if (onnx_attribute(import, "classes_strings", ONNX_ATTRIBUTE_STRINGS))
		onnx_refuse(import, "version 1 of the operator");
	if (!read_column(import, "keys", &keys) ||
		!read_column(import, "values", &values))
		onnx_invalid(import, "keys or values are missing");
	if (tensor != NULL && tensor->t->type == ONNX_STRING &&
		tensor->t->count == 1)
		text = tensor->t->texts[0];
	apply_dictionary(import, &keys, &values,
					 default_number(import, values.type), text);
}

/* Texts to their numbers, or numbers to their texts. */
static void
op_category_mapper(OnnxImport *import, const OnnxNode *node)
{
	Column		texts;
	Column		numbers;
	double		number = (double) onnx_int(import, "default_int64", -1);
	const char *text = onnx_string(import, "default_string", "_Unused");

	if (!read_column(import, "cats", &texts) || texts.type != ONNX_STRING ||
		onnx_attribute(import, "cats_int64s", ONNX_ATTRIBUTE_INTS) == NULL)
		onnx_invalid(import, "categories are missing");
	numbers.count = onnx_attribute(import, "cats_int64s", ONNX_ATTRIBUTE_INTS)->count;
	numbers.type = ONNX_INT64;
	numbers.texts = NULL;
	numbers.numbers = palloc(sizeof(double) * Max(numbers.count, 1));
	for (int i = 0; i < numbers.count; i++)
		numbers.numbers[i] = (double) onnx_attribute(import, "cats_int64s", ONNX_ATTRIBUTE_INTS)->ints[i];
	if (onnx_input(import, 0)->type == ONNX_STRING)
		apply_dictionary(import, &texts, &numbers, number, NULL);
	else
		apply_dictionary(import, &numbers, &texts, 0, text);
}

/* ---- one-hot ---- */

/* The numbers that stand for categories in an element of the input. */
static double *
category_numbers(OnnxImport *import, const OnnxValue *input, int element,
				 const Column *categories)
{
	double	   *numbers = palloc_extended(sizeof(double) * categories->count,
										  MCXT_ALLOC_HUGE);
	ImportTexts *texts = input->texts ? input->texts[element] : NULL;

	for (int i = 0; i < categories->count; i++)
	{
		if (texts == NULL)
			numbers[i] = categories->numbers[i];
		else if (texts->number < 0)
			numbers[i] = import_text_code(texts, categories->texts[i]);
		else if (!printed_integer(categories->texts[i], &numbers[i]))
			numbers[i] = NAN;
		if (numbers[i] == -1 && texts != NULL && texts->number < 0)
			numbers[i] = NAN;
	}
	return numbers;
}

/* A category that is not listed makes the library fail. */
static void
refuse_unseen(OnnxImport *import, const OnnxValue *input, int element)
{
	if (input->texts == NULL || input->texts[element]->input < 0)
		onnx_refuse(import, "zeros = 0 for something else than an input of texts (train with handle_unknown='ignore')");
	input->texts[element]->refuse_unseen = true;
}

static void
op_one_hot(OnnxImport *import, const OnnxNode *node)
{
	OnnxValue  *input = onnx_input(import, 0);
	OnnxValue  *output;
	Column		categories;
	int64		dims[ONNX_MAX_RANK];
	int			at = 0;

	onnx_require_rows(import, input);
	if (!read_column(import, "cats", &categories) || categories.count == 0)
		onnx_invalid(import, "categories are missing");
	if ((categories.texts != NULL) != (input->type == ONNX_STRING))
		onnx_invalid(import, "input \"%s\" and the categories have different types",
					 input->name);
	check_distinct(import, &categories);
	memcpy(dims, input->dims, sizeof(dims));
	dims[input->rank] = categories.count;
	output = onnx_output(import, 0, ONNX_FLOAT);
	onnx_set_shape(import, output, input->rank + 1, dims);
	for (int i = 0; i < input->width; i++)
	{
		ProgramStep step = {.op = MODEL_ONE_HOT,.count = categories.count,
		.b = -1,.c = -1};

		if (onnx_int(import, "zeros", 1) == 0)
			refuse_unseen(import, input, i);
		step.a = input->slots[i];
		if (onnx_is_float(input->type))
			step.a = program_unary(import->program, MODEL_TRUNCATE, step.a, 1,
								   false);
		step.constants = category_numbers(import, input, i, &categories);
		step.constant_count = categories.count;
		step.a = program_add_step(import->program, &step);
		for (int j = 0; j < categories.count; j++)
			output->slots[at++] = step.a + j;
	}
}

/* ---- numbers ---- */

static void
op_scaler(OnnxImport *import, const OnnxNode *node)
{
	OnnxValue  *input = onnx_input(import, 0);
	OnnxValue  *output;
	const OnnxAttribute *offset = onnx_attribute(import, "offset",
												 ONNX_ATTRIBUTE_FLOATS);
	const OnnxAttribute *scale = onnx_attribute(import, "scale",
												ONNX_ATTRIBUTE_FLOATS);
	double	   *constants;
	int			first;

	onnx_require_rows(import, input);
	onnx_require_number(import, input);
	if (offset == NULL || scale == NULL || offset->count != scale->count ||
		(offset->count != input->width && offset->count != 1))
		onnx_invalid(import, "there is not one offset and scale for each element");
	constants = palloc(sizeof(double) * 2 * input->width);
	for (int i = 0; i < input->width; i++)
	{
		constants[i] = offset->floats[offset->count == 1 ? 0 : i];
		constants[input->width + i] = scale->floats[scale->count == 1 ? 0 : i];
	}
	output = onnx_output(import, 0, ONNX_FLOAT);
	onnx_same_shape(output, input);
	first = program_constant(import->program, MODEL_SCALE,
							 onnx_run(import, input), input->width, constants,
							 2 * input->width, input->type != ONNX_DOUBLE);
	if (input->type == ONNX_DOUBLE)
		first = program_unary(import->program, MODEL_COPY, first,
							  input->width, true);
	onnx_set_run(output, first);
}

static void
op_imputer(OnnxImport *import, const OnnxNode *node)
{
	OnnxValue  *input = onnx_input(import, 0);
	OnnxValue  *output;
	bool		integer = onnx_is_integer(input->type);
	const OnnxAttribute *floats = onnx_attribute(import, "imputed_value_floats", ONNX_ATTRIBUTE_FLOATS);
	const OnnxAttribute *ints = onnx_attribute(import, "imputed_value_int64s", ONNX_ATTRIBUTE_INTS);
	int			count = integer ? (ints ? ints->count : 0) :
	(floats ? floats->count : 0);
	double	   *constants = palloc(sizeof(double) * (count + 1));

	onnx_require_rows(import, input);
	onnx_require_number(import, input);
	if (count == 0 || (count != 1 && count != input->width))
		onnx_invalid(import, "there is not one imputed value for each element");
	constants[0] = integer ?
		(double) onnx_int(import, "replaced_value_int64", 0) :
		onnx_float(import, "replaced_value_float", 0);
	for (int i = 0; i < count; i++)
		constants[i + 1] = integer ? (double) ints->ints[i] :
			floats->floats[i];
	output = onnx_output(import, 0, input->type);
	onnx_same_shape(output, input);
	onnx_set_run(output, program_constant(import->program, MODEL_IMPUTE,
										  onnx_run(import, input),
										  input->width, constants, count + 1,
										  input->type == ONNX_FLOAT));
}

static void
op_binarizer(OnnxImport *import, const OnnxNode *node)
{
	OnnxValue  *input = onnx_input(import, 0);
	OnnxValue  *output;
	double		threshold = onnx_float(import, "threshold", 0);

	if (input->constant != NULL || !onnx_is_float(input->type))
		onnx_refuse(import, "input \"%s\"", input->name);
	output = onnx_output(import, 0, input->type);
	onnx_same_shape(output, input);
	onnx_set_run(output, program_constant(import->program, MODEL_GREATER,
										  onnx_run(import, input),
										  input->width, &threshold, 1, false));
}

static void
op_normalizer(OnnxImport *import, const OnnxNode *node)
{
	OnnxValue  *input = onnx_input(import, 0);
	OnnxValue  *output;
	const char *norm = onnx_string(import, "norm", "MAX");
	ModelOp		op;

	onnx_require_rows(import, input);
	onnx_require_number(import, input);
	if (strcmp(norm, "L1") == 0)
		op = MODEL_NORMALIZE_L1;
	else if (strcmp(norm, "L2") == 0)
		op = MODEL_NORMALIZE_L2;
	else if (strcmp(norm, "MAX") == 0)
		op = MODEL_NORMALIZE_MAX;
	else
		onnx_invalid(import, "norm \"%s\" does not exist", norm);
	if (op == MODEL_NORMALIZE_MAX)
		onnx_refuse(import, "norm MAX");
	output = onnx_output(import, 0, ONNX_FLOAT);
	onnx_same_shape(output, input);
	onnx_copy_meaning(output, input);
	onnx_set_run(output, program_unary(import->program, op,
									   onnx_run(import, input), input->width,
									   true));
}

/* All inputs side by side, as float. */
static void
op_feature_vectorizer(OnnxImport *import, const OnnxNode *node)
{
	const OnnxAttribute *widths = onnx_attribute(import, "inputdimensions",
												 ONNX_ATTRIBUTE_INTS);
	OnnxValue  *output;
	int			width = 0;
	int			at = 0;

	for (int i = 0; i < node->input_count; i++)
	{
		OnnxValue  *input = onnx_input(import, i);

		if (input->constant != NULL)
			onnx_refuse(import, "constant input \"%s\"", input->name);
		onnx_require_number(import, input);
		if (widths == NULL || widths->count != node->input_count ||
			widths->ints[i] != input->width)
			onnx_refuse(import, "inputdimensions that are not the inputs' widths");
		width += input->width;
	}
	output = onnx_result_of_rows(import, 0, ONNX_FLOAT, width);
	for (int i = 0; i < node->input_count; i++)
	{
		OnnxValue  *input = onnx_input(import, i);
		int			first = input->slots[0];

		if (input->type != ONNX_FLOAT)
			first = program_unary(import->program, MODEL_COPY,
								  onnx_run(import, input), input->width, true);
		for (int j = 0; j < input->width; j++)
			output->slots[at++] = input->type != ONNX_FLOAT ? first + j :
				input->slots[j];
	}
}

/* The labels that an index chooses from a constant list. */
static void
choose_label(OnnxImport *import, const OnnxValue *list, OnnxValue *index)
{
	OnnxValue  *output = onnx_output(import, 0, list->type);
	int64		dims[2] = {-1, 1};
	double	   *keys = palloc(sizeof(double) * list->width);
	double	   *values = palloc(sizeof(double) * list->width);

	onnx_set_shape(import, output, 2, dims);
	output->label_count = list->width;
	output->label_slot = index->slots[0];
	output->labels = palloc(sizeof(char *) * list->width);
	if (list->type == ONNX_STRING)
		output->texts[0] = import_create_texts(-1);
	for (int i = 0; i < list->width; i++)
	{
		keys[i] = i;
		if (list->type == ONNX_STRING)
		{
			output->labels[i] = list->constant->texts[i];
			values[i] = import_text_code(output->texts[0],
										 output->labels[i]);
		}
		else
		{
			values[i] = onnx_constant_number(list, i);
			output->labels[i] = psprintf("%.17g", values[i]);
		}
	}
	output->slots[0] = program_lookup(import->program, index->slots[0], 1,
									  keys, values, list->width, NAN, NAN);
}

static void
op_array_feature_extractor(OnnxImport *import, const OnnxNode *node)
{
	OnnxValue  *input = onnx_input(import, 0);
	OnnxValue  *indices = onnx_input(import, 1);
	OnnxValue  *output;
	int64		dims[2] = {-1, indices->width};

	if (input->constant != NULL && indices->constant == NULL &&
		indices->width == 1)
	{
		choose_label(import, input, indices);
		return;
	}
	onnx_require_rows(import, input);
	if (indices->constant == NULL)
		onnx_refuse(import, "indices that are not constant");
	output = onnx_output(import, 0, input->type);
	onnx_set_shape(import, output, 2, dims);
	for (int i = 0; i < indices->width; i++)
		onnx_choose(import, output, i, input,
					onnx_constant_integer(import, indices, i));
}

/* ---- linear models ---- */

/*
 * The scores of a linear model: consecutive slots.  Sums are made in float64
 * and rounded once, since libraries add float32 in an order of their own.
 */
static int
linear_scores(OnnxImport *import, OnnxValue *input, int count)
{
	const OnnxAttribute *coefficients = onnx_attribute(import, "coefficients",
													   ONNX_ATTRIBUTE_FLOATS);
	const OnnxAttribute *intercepts = onnx_attribute(import, "intercepts",
													 ONNX_ATTRIBUTE_FLOATS);
	ProgramTerm *terms = palloc_extended(sizeof(ProgramTerm) * input->width,
										 MCXT_ALLOC_HUGE);
	int			first = -1;

	if (coefficients == NULL ||
		coefficients->count != (int64) count * input->width ||
		(intercepts != NULL && intercepts->count != count &&
		 intercepts->count != 0))
		onnx_invalid(import, "there is not one coefficient for each input and result");
	for (int i = 0; i < count; i++)
	{
		int			slot;

		for (int j = 0; j < input->width; j++)
		{
			ProgramTerm term = PROGRAM_TERM_INIT;

			term.slot = input->slots[j];
			term.coefficient = coefficients->floats[i * input->width + j];
			terms[j] = term;
		}
		slot = program_add_linear(import->program, terms, input->width,
								  intercepts && intercepts->count > 0 ?
								  intercepts->floats[i] : 0, false);
		if (i == 0)
			first = slot;
	}
	return program_unary(import->program, MODEL_COPY, first, count, true);
}

/* Classes: output 0 the label, output 1 the scores after their link. */
static void
op_linear_classifier(OnnxImport *import, const OnnxNode *node)
{
	OnnxValue  *input = onnx_input(import, 0);
	const OnnxAttribute *intercepts = onnx_attribute(import, "intercepts",
													 ONNX_ATTRIBUTE_FLOATS);
	OnnxValue  *label;
	OnnxValue  *scores;
	int			count = intercepts ? intercepts->count : 0;
	int			first;
	int			choice;
	double		zero = 0;

	onnx_require_rows(import, input);
	onnx_require_number(import, input);
	if (count == 0)
		onnx_refuse(import, "a classifier without intercepts");
	if (input->type != ONNX_FLOAT)
	{
		OnnxValue  *rounded = palloc(sizeof(OnnxValue));

		*rounded = *input;
		rounded->slots = palloc(sizeof(int) * input->width);
		onnx_set_run(rounded, program_unary(import->program, MODEL_COPY,
											onnx_run(import, input),
											input->width, true));
		input = rounded;
	}
	first = linear_scores(import, input, count);
	choice = count == 1 ?
		program_constant(import->program, MODEL_GREATER, first, 1, &zero, 1,
						 false) :
		program_unary(import->program, MODEL_ARGMAX, first, count, false);
	label = onnx_output(import, 0, ONNX_INT64);
	onnx_set_labels(import, label, "classlabels_strings", "classlabels_ints",
					Max(count, 2), choice);
	scores = onnx_result_of_rows(import, 1, ONNX_FLOAT, Max(count, 2));
	onnx_set_run(scores, count == 1 ? onnx_link_one(import, first, 1) :
				 onnx_link(import, first, count));
	scores->raw = count == 2 ? first + 1 : first;
	scores->raw_count = count == 2 ? 1 : count;
}

static void
op_linear_regressor(OnnxImport *import, const OnnxNode *node)
{
	OnnxValue  *input = onnx_input(import, 0);
	OnnxValue  *output;
	int64		count = onnx_int(import, "targets", 1);
	int			first;

	onnx_require_rows(import, input);
	if (input->type != ONNX_FLOAT)
		onnx_refuse(import, "input of type %s", onnx_type_name(input->type));
	if (count < 1 || count > MODEL_MAX_SLOTS)
		onnx_invalid(import, INT64_FORMAT " targets", count);
	first = linear_scores(import, input, (int) count);
	output = onnx_result_of_rows(import, 0, ONNX_FLOAT, (int) count);
	onnx_set_run(output, count == 1 ? onnx_link_one(import, first, -1) :
				 onnx_link(import, first, (int) count));
	output->raw = first;
	output->raw_count = (int) count;
}

/* ---- results ---- */

/* Scores by label: the same scores, which now have names. */
static void
op_zip_map(OnnxImport *import, const OnnxNode *node)
{
	OnnxValue  *input = onnx_input(import, 0);
	OnnxValue  *output = onnx_output(import, 0, input->type);
	OnnxValue	label = {.name = ""};
	const char *name = output->name;

	onnx_require_rows(import, input);
	onnx_set_labels(import, &label, "classlabels_strings",
					"classlabels_int64s", input->width, input->slots[0]);
	*output = *input;
	output->name = name;
	output->label_count = label.label_count;
	output->labels = label.labels;
	output->label_slot = -1;
	output->map = true;
}

const OnnxOperatorEntry onnx_ml_operators[] = {
	{"ArrayFeatureExtractor", op_array_feature_extractor},
	{"Binarizer", op_binarizer},
	{"CategoryMapper", op_category_mapper},
	{"FeatureVectorizer", op_feature_vectorizer},
	{"Imputer", op_imputer},
	{"LabelEncoder", op_label_encoder},
	{"LinearClassifier", op_linear_classifier},
	{"LinearRegressor", op_linear_regressor},
	{"Normalizer", op_normalizer},
	{"OneHotEncoder", op_one_hot},
	{"Scaler", op_scaler},
	{"ZipMap", op_zip_map},
	{NULL, NULL}
};

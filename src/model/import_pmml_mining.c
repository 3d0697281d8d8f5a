/*-------------------------------------------------------------------------
 *
 * import_pmml_mining.c
 *		MiningModel of PMML: several models as one.
 *
 * Segments that are all trees and always taken become one ensemble, which
 * the kernels know how to walk; any others are computed one by one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "miscadmin.h"
#include "model/import_pmml.h"

typedef struct Segments
{
	const PmmlElement *segmentation;
	const char *method;
	const PmmlElement **segments;
	const PmmlElement **models;
	int			count;
	bool		always;			/* each segment's predicate is True */
	bool		only_trees;
	bool		float32;
	double	   *weights;		/* 1 unless the method has weights */
	double		weight;			/* of all */
} Segments;

/* The model of a segment. */
static const PmmlElement *
model_of(const PmmlElement *segment)
{
	for (const PmmlElement *child = segment->first; child != NULL;
		 child = child->next)
	{
		if (pmml_is(child, "Extension") || pmml_is_predicate(child) ||
			pmml_is(child, "VariableWeight"))
			continue;
		if (!pmml_is_model(child))
			pmml_refuse(child, psprintf("model \"%s\"", child->name));
		return child;
	}
	pmml_damaged(segment, "there is no model");
}

/* Does each segment count by its weight? */
static bool
is_weighted(const char *method)
{
	return strncmp(method, "weighted", strlen("weighted")) == 0 ||
		strcmp(method, "x-weightedSum") == 0;
}

static double
weight_of(const PmmlElement *segment)
{
	double		weight = pmml_number(segment, "weight", 1);

	if (pmml_child(segment, "VariableWeight") != NULL)
		pmml_refuse(segment, "VariableWeight");
	if (!(weight >= 0) || isinf(weight))
		pmml_damaged(segment, "its weight is no number from 0");
	return weight;
}

static void
find_segments(const PmmlElement *model, Segments *segments)
{
	const char *context = pmml_attribute(model, "x-mathContext");

	memset(segments, 0, sizeof(*segments));
	segments->segmentation = pmml_child(model, "Segmentation");
	if (segments->segmentation == NULL)
		pmml_damaged(model, "there is no segmentation");
	segments->method = pmml_require(segments->segmentation,
									"multipleModelMethod");
	segments->float32 = context != NULL && strcmp(context, "float") == 0;
	segments->always = segments->only_trees = true;
	for (const PmmlElement *child = segments->segmentation->first;
		 child != NULL; child = child->next)
		segments->count += pmml_is(child, "Segment");
	if (segments->count == 0)
		pmml_damaged(segments->segmentation, "there are no segments");
	segments->segments = palloc(sizeof(PmmlElement *) * segments->count);
	segments->models = palloc(sizeof(PmmlElement *) * segments->count);
	segments->weights = palloc(sizeof(double) * segments->count);
	segments->count = 0;
	for (const PmmlElement *child = segments->segmentation->first;
		 child != NULL; child = child->next)
	{
		int			i = segments->count;

		if (!pmml_is(child, "Segment"))
			continue;
		segments->weights[i] = is_weighted(segments->method) ?
			weight_of(child) : 1;
		segments->weight += segments->weights[i];
		segments->segments[i] = child;
		segments->models[i] = model_of(child);
		segments->always &= pmml_is(pmml_predicate_of(child), "True");
		segments->only_trees &= pmml_is(segments->models[i], "TreeModel") &&
			pmml_child(segments->models[i], "LocalTransformations") == NULL &&
			pmml_child(segments->models[i], "Targets") == NULL;
		segments->count++;
	}
}

/* Segments whose result is missing count as such: nothing else is known. */
static void
check_treatment(const Segments *segments)
{
	const char *treatment = pmml_attribute(segments->segmentation,
										   "missingPredictionTreatment");

	if (treatment != NULL && strcmp(treatment, "continue") != 0 &&
		strcmp(treatment, "returnMissing") != 0)
		pmml_refuse(segments->segmentation,
					psprintf("missingPredictionTreatment \"%s\"", treatment));
	if (pmml_attribute(segments->segmentation, "missingThreshold") != NULL)
		pmml_refuse(segments->segmentation, "missingThreshold");
}

/* ---- ensembles of trees ---- */

/* Adds the trees with the scope that each model's schema makes. */
static int
add_trees(PmmlImport *import, PmmlScope *scope, const Segments *segments,
		  int outputs, char **labels, bool votes, double divisor)
{
	ProgramTrees *trees = program_create_trees(import->program, outputs,
											   segments->float32);

	if (divisor != 1)
		program_trees_divisor(trees, divisor);
	import->depth++;
	for (int i = 0; i < segments->count; i++)
	{
		PmmlScope	inner = {.outer = scope};
		const PmmlElement *schema = pmml_child(segments->models[i],
											   "MiningSchema");

		CHECK_FOR_INTERRUPTS();
		if (schema != NULL)
			pmml_apply_schema(import, &inner, schema);
		pmml_add_tree(import, &inner, segments->models[i], trees,
					  labels == NULL ? 0 : -1, labels, outputs, votes);
	}
	import->depth--;
	return program_add_trees(import->program, trees);
}

/* ---- numbers ---- */

/* The segments' numbers, in consecutive slots. */
static int
segment_values(PmmlImport *import, PmmlScope *scope, const Segments *segments)
{
	int		   *slots = palloc(sizeof(int) * segments->count);

	for (int i = 0; i < segments->count; i++)
	{
		PmmlResult	result = {0};

		pmml_model(import, scope, segments->models[i], &result);
		if (result.classification)
			pmml_refuse(segments->models[i],
						"a classification within a regression");
		slots[i] = result.value;
	}
	return program_move(import->program, slots, segments->count);
}

/* The weighted sum of numbers, or their weighted mean. */
static int
weighted_numbers(PmmlImport *import, PmmlScope *scope,
				 const Segments *segments, bool mean)
{
	ModelProgram *program = import->program;
	int			values = segment_values(import, scope, segments);
	int			weighted = program_constant(program, MODEL_MULTIPLY, values,
											segments->count, segments->weights,
											segments->count, segments->float32);
	int			sum = program_unary(program, MODEL_SUM, weighted,
									segments->count, segments->float32);

	if (!mean)
		return sum;
	if (segments->weight == 0)
		pmml_damaged(segments->segmentation, "the weights are all 0");
	return program_constant(program, MODEL_DIVIDE, sum, 1, &segments->weight,
							1, segments->float32);
}

static void
combine_numbers(PmmlImport *import, PmmlScope *scope,
				const Segments *segments, PmmlResult *result)
{
	bool		sum = strcmp(segments->method, "sum") == 0;
	bool		average = strcmp(segments->method, "average") == 0;
	ModelOp		op;

	result->raw_count = 1;
	if (segments->only_trees && (sum || average))
	{
		result->value = result->raw =
			add_trees(import, scope, segments, 1, NULL, false,
					  average ? segments->count : 1);
		return;
	}
	if (strcmp(segments->method, "weightedAverage") == 0 ||
		strcmp(segments->method, "weightedSum") == 0 ||
		strcmp(segments->method, "x-weightedSum") == 0)
	{
		result->value = result->raw =
			weighted_numbers(import, scope, segments,
							 strcmp(segments->method, "weightedAverage") == 0);
		return;
	}
	op = sum ? MODEL_SUM : average ? MODEL_MEAN : MODEL_LARGEST;
	if (!sum && !average && strcmp(segments->method, "max") != 0)
		pmml_refuse(segments->segmentation,
					psprintf("multipleModelMethod \"%s\" of numbers",
							 segments->method));
	result->value = program_unary(import->program, op,
								  segment_values(import, scope, segments),
								  segments->count, segments->float32);
	result->raw = result->value;
}

/* ---- classes ---- */

/* A segment's probabilities, or its vote, as consecutive slots. */
static int
segment_classes(PmmlImport *import, PmmlScope *scope,
				const PmmlElement *model, bool votes, char **labels,
				int count)
{
	PmmlResult	result = {0};
	double	   *numbers = palloc(sizeof(double) * count);
	ProgramStep step = {.op = MODEL_ONE_HOT,.count = count,.b = -1,.c = -1};

	pmml_model(import, scope, model, &result);
	if (!result.classification || result.count != count)
		pmml_refuse(model, "a segment with other classes");
	for (int i = 0; i < count; i++)
		if (strcmp(labels[i], result.labels[i]) != 0)
			pmml_refuse(model, "a segment with other classes");
	if (!votes)
		return result.first;
	for (int i = 0; i < count; i++)
		numbers[i] = i;
	step.a = result.value;
	step.constants = numbers;
	step.constant_count = count;
	return program_add_step(import->program, &step);
}

static void
combine_classes(PmmlImport *import, PmmlScope *scope,
				const PmmlElement *model, const Segments *segments,
				PmmlResult *result)
{
	bool		votes = strcmp(segments->method, "majorityVote") == 0 ||
	strcmp(segments->method, "weightedMajorityVote") == 0;
	double		divisor = segments->weight;

	if (!votes && strcmp(segments->method, "average") != 0 &&
		strcmp(segments->method, "weightedAverage") != 0)
		pmml_refuse(segments->segmentation,
					psprintf("multipleModelMethod \"%s\" of classes",
							 segments->method));
	result->classification = true;
	result->labels = pmml_class_labels(import, model, &result->count);
	if (segments->only_trees && !is_weighted(segments->method))
		result->first = add_trees(import, scope, segments, result->count,
								  result->labels, votes, divisor);
	else
	{
		int			sum = -1;

		for (int i = 0; i < segments->count; i++)
		{
			int			next = segment_classes(import, scope,
											   segments->models[i], votes,
											   result->labels, result->count);

			if (is_weighted(segments->method))
				next = program_constant(import->program, MODEL_MULTIPLY, next,
										result->count, &segments->weights[i], 1,
										false);
			sum = sum < 0 ? next :
				program_binary(import->program, MODEL_ADD, sum, next,
							   result->count, false);
		}
		if (divisor == 0)
			pmml_damaged(segments->segmentation, "the weights are all 0");
		result->first = program_constant(import->program, MODEL_DIVIDE, sum,
										 result->count, &divisor, 1, false);
	}
	result->value = program_unary(import->program, MODEL_ARGMAX,
								  result->first, result->count, false);
	result->raw = result->first + (result->count == 2 ? 1 : 0);
	result->raw_count = result->count == 2 ? 1 : result->count;
}

/* ---- chains, and the first that applies ---- */

/* Makes an OutputField of a segment a field for the ones behind it. */
static void
add_output(PmmlImport *import, PmmlScope *scope, const PmmlElement *output,
		   const PmmlResult *result)
{
	PmmlField  *field = pmml_add_field(scope, pmml_require(output, "name"));
	const char *feature = pmml_attribute(output, "feature");
	const char *value = pmml_attribute(output, "value");
	PmmlField  *predicted;
	PmmlScope	inner = {.outer = scope};

	if (feature == NULL || strcmp(feature, "predictedValue") == 0)
	{
		field->value.slot = result->value;
		if (!result->classification)
			return;
		field->value.texts = import_create_texts(-1);
		for (int i = 0; i < result->count; i++)
			(void) import_text_code(field->value.texts, result->labels[i]);
		return;
	}
	if (strcmp(feature, "probability") == 0 && result->classification &&
		value != NULL)
	{
		field->value.slot = result->first +
			pmml_class_number(output, result->labels, result->count, value);
		return;
	}
	if (strcmp(feature, "transformedValue") != 0)
	{
		field->refused = psprintf("output feature \"%s\"", feature);
		return;
	}
	for (const PmmlElement *child = output->first; child != NULL;
		 child = child->next)
		if (pmml_is_expression(child))
		{
			predicted = pmml_add_field(&inner, "predictedValue");
			predicted->value.slot = result->value;
			field->value = pmml_expression(import, &inner, child);
			return;
		}
	pmml_damaged(output, "there is no expression");
}

static void
chain(PmmlImport *import, PmmlScope *scope, const Segments *segments,
	  PmmlResult *result)
{
	PmmlScope	outputs = {.outer = scope};
	int			raw = -1;
	int			raw_count = 0;

	if (!segments->always)
		pmml_refuse(segments->segmentation,
					"a modelChain with other predicates than True");
	for (int i = 0; i < segments->count; i++)
	{
		const PmmlElement *output = pmml_child(segments->models[i], "Output");

		memset(result, 0, sizeof(*result));
		pmml_model(import, &outputs, segments->models[i], result);
		if (i + 1 == segments->count)
			break;
		raw = result->raw;
		raw_count = result->raw_count;
		for (const PmmlElement *child = output ? output->first : NULL;
			 child != NULL; child = child->next)
			if (pmml_is(child, "OutputField"))
				add_output(import, &outputs, child, result);
	}
	/* the sum of trees, where a regression only links it */
	if (segments->count == 2 && raw_count == 1 && result->classification &&
		result->count == 2 &&
		pmml_is(segments->models[1], "RegressionModel"))
	{
		result->raw = raw;
		result->raw_count = raw_count;
	}
}

/* The result of the first segment whose predicate is true. */
static void
select_first(PmmlImport *import, PmmlScope *scope, const PmmlElement *model,
			 const Segments *segments, PmmlResult *result)
{
	int			width;
	int		   *nothing;
	int			selected;
	double		one = 1;

	result->classification = pmml_is_classification(model);
	if (result->classification)
		result->labels = pmml_class_labels(import, model, &result->count);
	width = result->classification ? result->count + 1 : 1;
	nothing = palloc(sizeof(int) * width);
	for (int i = 0; i < width; i++)
		nothing[i] = pmml_constant(import, NAN);
	selected = program_move(import->program, nothing, width);
	for (int i = segments->count - 1; i >= 0; i--)
	{
		PmmlResult	one_result = {0};
		ProgramStep step = {.op = MODEL_WHERE,.count = width,
		.broadcast_a = true};

		step.a = program_constant(import->program, MODEL_EQUAL,
								  pmml_predicate(import, scope,
												 pmml_predicate_of(segments->segments[i])),
								  1, &one, 1, false);
		pmml_model(import, scope, segments->models[i], &one_result);
		if (one_result.classification != result->classification ||
			one_result.count != result->count)
			pmml_refuse(segments->models[i], "a segment of another kind");
		nothing[0] = one_result.value;
		for (int j = 1; j < width; j++)
			nothing[j] = one_result.first + j - 1;
		step.b = program_move(import->program, nothing, width);
		step.c = selected;
		selected = program_add_step(import->program, &step);
	}
	result->value = selected;
	result->first = selected + 1;
	result->raw = result->classification ? selected + 1 : selected;
	result->raw_count = result->classification ? result->count : 1;
}

void
pmml_mining(PmmlImport *import, PmmlScope *scope, const PmmlElement *model,
			PmmlResult *result)
{
	Segments	segments;

	find_segments(model, &segments);
	check_treatment(&segments);
	if (strcmp(segments.method, "modelChain") == 0)
		chain(import, scope, &segments, result);
	else if (strcmp(segments.method, "selectFirst") == 0)
		select_first(import, scope, model, &segments, result);
	else if (!segments.always)
		pmml_refuse(segments.segmentation,
					psprintf("multipleModelMethod \"%s\" with other predicates than True",
							 segments.method));
	else if (pmml_is_classification(model))
		combine_classes(import, scope, model, &segments, result);
	else
		combine_numbers(import, scope, &segments, result);
}

/*-------------------------------------------------------------------------
 *
 * export_pmml_answer.c
 *		What a PMML document answers: a value, or classes; and its outputs.
 *
 * Behind the scores of the program are the link function, where PMML has it,
 * and the slots that it is applied to; what these are computed from is marked
 * as needed, and only that becomes fields.  The last model of the document is
 * a regression that applies the link function to a table for each slot, or,
 * for the value of trees alone, these trees.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "model/export_pmml.h"

/* ---- the answer ---- */

/* PMML's name of the link that a slot comes from, and what is before it. */
static const char *
link_of(const PmmlDocument *document, uint32 slot, uint32 *before)
{
	static const struct
	{
		ModelOp		op;
		const char *name;
	}			links[] = {
		{MODEL_SIGMOID, "logit"}, {MODEL_SIGMOID_XGBOOST, "logit"},
		{MODEL_EXP, "exp"}, {MODEL_NORMAL_CDF, "probit"},
		{MODEL_CLOGLOG, "cloglog"}, {MODEL_LOGLOG, "loglog"},
		{MODEL_CAUCHIT, "cauchit"}
	};
	const ModelStep *step = pmml_step_of(document, slot);

	*before = slot;
	for (int i = 0; step != NULL && i < lengthof(links); i++)
		if (step->op == links[i].op)
		{
			*before = step->a + ((step->flags & MODEL_BROADCAST_A) ? 0 :
								 slot - step->out);
			*before = pmml_source(document, *before).slot;
			return links[i].name;
		}
	return "none";
}

/* Are the scores a softmax of as many slots? */
static bool
is_softmax(const PmmlDocument *document, const uint32 *slots, int count)
{
	const ModelStep *step = pmml_step_of(document, slots[0]);

	if (step == NULL || step->op != MODEL_SOFTMAX || step->count != count)
		return false;
	for (int i = 0; i < count; i++)
		if (slots[i] != step->out + i)
			return false;
	return true;
}

/* The slots that a step's first operand has for these results. */
static uint32 *
operands_of(const PmmlDocument *document, uint32 first, int count)
{
	uint32	   *slots = palloc(sizeof(uint32) * count);

	for (int i = 0; i < count; i++)
		slots[i] = pmml_source(document, first + i).slot;
	return slots;
}

/* The slot behind steps that only move or copy. */
static uint32
behind_copies(const PmmlDocument *document, uint32 slot)
{
	const ModelStep *step;

	slot = pmml_source(document, slot).slot;
	while ((step = pmml_step_of(document, slot)) != NULL && step->op == MODEL_COPY)
		slot = pmml_source(document, step->a + slot - step->out).slot;
	return slot;
}

/* Is one slot minus the other, by a step or by its coefficients? */
static bool
is_negative_of(const PmmlDocument *document, uint32 slot, uint32 other)
{
	const ModelStep *step = pmml_step_of(document, slot);
	const ModelStep *opposite = pmml_step_of(document, other);
	const ModelTerm *a;
	const ModelTerm *b;

	if (step == NULL || opposite == NULL)
		return false;
	if (step->op == MODEL_NEGATE)
		return behind_copies(document, step->a + slot - step->out) == other;
	if (step->op != MODEL_LINEAR || opposite->op != MODEL_LINEAR ||
		step->data_count != opposite->data_count ||
		step->bias != -opposite->bias)
		return false;
	a = MODEL_AT(document->image, ModelTerm, step->data);
	b = MODEL_AT(document->image, ModelTerm, opposite->data);
	for (uint32 i = 0; i < step->data_count; i++)
		if (a[i].slot != b[i].slot || a[i].exponent != b[i].exponent ||
			a[i].center != b[i].center || a[i].table != 0 ||
			b[i].table != 0 || a[i].coefficient != -b[i].coefficient ||
			!isnan(a[i].missing) || !isnan(b[i].missing))
			return false;
	return true;
}

/*
 * Are two scores the logistic function of -x and x, as ONNX's classifiers
 * compute it: by cases of x < 0?  Then x.
 */
static bool
is_logistic_pair(const PmmlDocument *document, const uint32 *slots,
				 uint32 *before)
{
	const ModelStep *step = pmml_step_of(document, slots[0]);
	const ModelStep *less;
	uint32		x;

	if (step == NULL || step->op != MODEL_WHERE || step->count != 2 ||
		slots[0] != step->out || slots[1] != step->out + 1)
		return false;
	less = pmml_step_of(document, pmml_source(document, step->a).slot);
	if (less == NULL || less->op != MODEL_LESS || less->count != 2 ||
		less->b != MODEL_NONE)
		return false;
	x = behind_copies(document, less->a + 1);
	if (!is_negative_of(document, behind_copies(document, less->a), x))
		return false;
	*before = x;
	return true;
}

/*
 * What a division by the sum leaves as it is, but for the last digit: a
 * softmax, and two probabilities of which one is what the other leaves.
 */
static void
skip_normalisation(const PmmlDocument *document, PmmlAnswer *answer)
{
	const ModelStep *step = pmml_step_of(document, answer->slots[0]);
	const ModelStep *before;
	uint32	   *slots = palloc(sizeof(uint32) * answer->count);
	uint32		x;

	if (step == NULL || step->op != MODEL_NORMALIZE_L1 ||
		step->count != answer->count)
		return;
	for (int i = 0; i < answer->count; i++)
	{
		if (answer->slots[i] != step->out + i)
			return;
		slots[i] = pmml_source(document, step->a + i).slot;
	}
	before = pmml_step_of(document, slots[0]);
	if (is_softmax(document, slots, answer->count) ||
		(answer->count == 2 && before != NULL &&
		 (before->op == MODEL_SUBTRACT || before->op == MODEL_SIGMOID ||
		  is_logistic_pair(document, slots, &x))))
		answer->slots = slots;
}

/* Do so many values of each leaf, with the base, add up to 1? */
static bool
trees_add_up(const PmmlDocument *document, const ModelStep *step,
			 uint32 first, uint32 count)
{
	const ModelTrees *trees = MODEL_AT(document->image, ModelTrees, step->data);
	const ModelTree *tree = MODEL_AT(document->image, ModelTree, trees->trees);
	const double *leaves = MODEL_AT(document->image, double, trees->leaves);
	const double *base = MODEL_AT(document->image, double, trees->base);
	double		total = 0;

	if (trees->leaf_width < first + count || count < 2)
		return false;
	for (uint32 i = 0; i < trees->tree_count; i++)
	{
		double		least = INFINITY;
		double		most = -INFINITY;

		for (uint32 j = tree[i].first_leaf;
			 j < tree[i].first_leaf + tree[i].leaf_count; j++)
		{
			double		sum = 0;

			for (uint32 k = first; k < first + count; k++)
				sum += leaves[(Size) j * trees->leaf_width + k];
			if (isnan(sum))
				continue;
			least = Min(least, sum);
			most = Max(most, sum);
		}
		if (most - least > 1e-5)
			return false;
		total += most;
	}
	for (uint32 k = first; k < first + count; k++)
		total += base[k];
	return fabs(total / trees->divisor - 1) <= 1e-5;
}

/*
 * Do the scores add up to 1?  For PMML the last class, or the first of two,
 * has what the others leave.
 */
static bool
add_up(const PmmlDocument *document, const uint32 *slots, int count)
{
	const ModelStep *step = pmml_step_of(document, slots[0]);
	uint32		before;

	if (step == NULL)
		return false;
	switch ((ModelOp) step->op)
	{
		case MODEL_SOFTMAX:
		case MODEL_NORMALIZE_L1:
		case MODEL_DIVIDE:
			return true;
		case MODEL_SUBTRACT:
		case MODEL_SIGMOID:
			return count == 2;
		case MODEL_TREES:
			return trees_add_up(document, step, slots[0] - step->out, count);
		case MODEL_COPY:
			return add_up(document, operands_of(document, step->a, count),
						  count);
		case MODEL_WHERE:
			/* missing, or what adds up */
			if (pmml_is_missing(document, step->b))
				return add_up(document,
							  operands_of(document, step->c, count), count);
			return count == 2 && is_logistic_pair(document, slots, &before);
		default:
			return false;
	}
}

/*
 * Scores of classes that are no probabilities, as those of linear support
 * vectors, are values beside each other, and the class a field.
 */
PmmlAnswer
pmml_find_answer(PmmlDocument *document)
{
	const ModelImage *image = document->image;
	const ModelStep *step;
	PmmlAnswer	answer = {.method = "none",.count = image->output_count};

	answer.slots = palloc(sizeof(uint32) * answer.count);
	for (int i = 0; i < answer.count; i++)
		answer.slots[i] = pmml_source(document, image->scores + i).slot;
	step = pmml_step_of(document, answer.slots[0]);
	if (image->task != MODEL_CLASSIFICATION)
	{
		answer.trees = step != NULL && step->op == MODEL_TREES &&
			answer.count == 1;
		if (answer.count == 1)
			answer.method = link_of(document, answer.slots[0], &answer.slots[0]);
		return answer;
	}
	skip_normalisation(document, &answer);
	step = pmml_step_of(document, answer.slots[0]);
	document->classes = add_up(document, answer.slots, answer.count);
	if (!document->classes)
	{
		answer.main = answer.count == 2 ? 1 : 0;
		return answer;
	}
	if (is_softmax(document, answer.slots, answer.count))
	{
		answer.method = "softmax";
		for (int i = 0; i < answer.count; i++)
			answer.slots[i] = pmml_source(document, step->a + i).slot;
	}
	else if (answer.count == 2)
	{
		if (is_logistic_pair(document, answer.slots, &answer.slots[1]))
			answer.method = "logit";
		else
			answer.method = link_of(document, answer.slots[1],
									&answer.slots[1]);
		answer.slots[0] = MODEL_NONE;
	}
	return answer;
}

/* ---- what is needed ---- */

static void
need(PmmlDocument *document, uint32 slot)
{
	document->needed[pmml_source(document, slot).slot] = true;
}

static void
need_operand(PmmlDocument *document, const ModelStep *step, uint32 first,
			 uint32 broadcast, uint32 i)
{
	if (first != MODEL_NONE)
		need(document, first + ((step->flags & broadcast) ? 0 : i));
}

/* Marks what the terms of a sum read. */
static void
need_terms(PmmlDocument *document, const ModelStep *step)
{
	const ModelTerm *terms = MODEL_AT(document->image, ModelTerm, step->data);

	if (step->op == MODEL_LINEAR)
		for (uint32 i = 0; i < step->data_count; i++)
			need(document, terms[i].slot);
	else
		for (uint32 i = 0; i < step->width; i++)
			need(document, step->a + i);
}

/* Marks what the needed results of a step are computed from. */
static void
need_operands(PmmlDocument *document, const ModelStep *step)
{
	bool		any = false;

	for (uint32 i = 0; i < step->count; i++)
	{
		if (!document->needed[step->out + i])
			continue;
		any = true;
		if (step->op == MODEL_ZERO_TO_MISSING)
			need(document, MODEL_AT(document->image, uint32, step->data)[i]);
		else if (step->op > MODEL_FILL && step->op < MODEL_ONE_HOT)
		{
			need_operand(document, step, step->a, MODEL_BROADCAST_A, i);
			if (step->op >= MODEL_ADD)
				need_operand(document, step, step->b, MODEL_BROADCAST_B, i);
			if (step->op == MODEL_WHERE)
				need_operand(document, step, step->c, MODEL_BROADCAST_C, i);
		}
	}
	if (!any || step->op < MODEL_ONE_HOT)
		return;
	if (step->op == MODEL_TREES)
		pmml_need_trees(document, step);
	else if (pmml_is_linear(step))
		need_terms(document, step);
	else if (step->op == MODEL_ONE_HOT)
		need(document, step->a);
	else
		for (uint32 i = 0; i < (step->width > 0 ? step->width : step->count); i++)
			need(document, step->a + i);
}

/* Marks what the answer is made of; a linear part of it is no field. */
void
pmml_need_answer(PmmlDocument *document, const PmmlAnswer *answer)
{
	const ModelImage *image = document->image;

	for (int i = 0; i < answer->count; i++)
	{
		const ModelStep *step;

		if (answer->slots[i] == MODEL_NONE)
			continue;
		step = pmml_step_of(document, answer->slots[i]);
		if (pmml_is_linear(step) &&
			(i == answer->main || document->classes))
			need_terms(document, step);
		else if (step == NULL || step->op != MODEL_FILL || i != answer->main)
			need(document, answer->slots[i]);
	}
	if (image->task == MODEL_CLASSIFICATION && image->choice != MODEL_NONE)
		need(document, image->choice);
	else if (image->task == MODEL_CLASSIFICATION && !document->classes)
		for (int i = 0; i < answer->count; i++)
			need(document, answer->slots[i]);
	for (int i = (int) image->step_count - 1; i >= 0; i--)
		need_operands(document, &document->steps[i]);
}

/* ---- outputs ---- */

char *
pmml_label(const PmmlDocument *document, uint32 output)
{
	return pmml_text(model_output_name(document->image, output));
}

static char *
label_constant(const PmmlDocument *document, uint32 output)
{
	return psprintf("<Constant dataType=\"string\">%s</Constant>",
					pmml_label(document, output));
}

/* The class with the largest of several values. */
static char *
largest_value(PmmlDocument *document, const PmmlAnswer *answer)
{
	char	   *chosen = label_constant(document, 0);
	char	   *most = pmml_ref(document, answer->slots[0]);

	for (int i = 1; i < answer->count; i++)
	{
		char	   *value = pmml_ref(document, answer->slots[i]);
		char	   *larger = pmml_apply("greaterThan", value, most, NULL);

		chosen = pmml_apply("if", larger, label_constant(document, i), chosen);
		most = pmml_extra(document, pmml_apply("if", larger, value, most),
						  true);
	}
	return chosen;
}

/* The class that the model chooses, where that is not the likeliest one. */
static void
write_choice(PmmlDocument *document, const PmmlAnswer *answer,
			 StringInfo outputs)
{
	const ModelImage *image = document->image;
	char	   *chosen = label_constant(document, 0);

	if (image->choice != MODEL_NONE)
		for (uint32 i = 1; i < image->output_count; i++)
			chosen = pmml_apply("if",
								pmml_apply_or("equal", "false",
											  pmml_ref(document, image->choice),
											  pmml_constant_of(i)),
								label_constant(document, i), chosen);
	else if (image->output_count == 2 &&
			 (image->threshold != 0.5 || !document->classes))
		chosen = pmml_apply("if",
							pmml_apply("greaterThan",
									   psprintf("<FieldRef field=\"%s(%s)\"/>",
												document->classes ? "probability" : "value",
												pmml_label(document, 1)),
									   pmml_constant_of(image->threshold), NULL),
							label_constant(document, 1), chosen);
	else if (!document->classes)
		chosen = largest_value(document, answer);
	else
		return;
	appendStringInfo(outputs, "<OutputField name=\"%slabel\" optype=\"categorical\""
					 " dataType=\"string\" feature=\"transformedValue\">%s"
					 "</OutputField>\n", document->prefix, chosen);
}

static void
write_outputs(PmmlDocument *document, const PmmlAnswer *answer,
			  StringInfo outputs)
{
	const ModelImage *image = document->image;

	if (document->classes)
	{
		for (uint32 i = 0; i < image->output_count; i++)
			appendStringInfo(outputs, "<OutputField name=\"probability(%s)\""
							 " optype=\"continuous\" dataType=\"double\""
							 " feature=\"probability\" value=\"%s\"/>\n",
							 pmml_label(document, i), pmml_label(document, i));
		write_choice(document, answer, outputs);
		return;
	}
	if (answer->count > 1)
		appendStringInfo(outputs, "<OutputField name=\"value(%s)\""
						 " optype=\"continuous\" dataType=\"double\""
						 " feature=\"predictedValue\"/>\n",
						 pmml_label(document, answer->main));
	for (int i = 0; i < answer->count; i++)
		if (i != answer->main)
			appendStringInfo(outputs, "<OutputField name=\"value(%s)\""
							 " optype=\"continuous\" dataType=\"double\""
							 " feature=\"transformedValue\">%s</OutputField>\n",
							 pmml_label(document, i),
							 pmml_ref(document, answer->slots[i]));
	if (image->task == MODEL_CLASSIFICATION)
		write_choice(document, answer, outputs);
}

/* ---- the last model ---- */

/* The regression that the document ends with. */
void
pmml_write_answer(PmmlDocument *document, const PmmlAnswer *answer)
{
	bool		classes = document->classes;
	bool		single = false;
	StringInfoData tables;
	StringInfoData outputs;
	PmmlSegment *segment;
	char	   *schema;

	pmml_begin_schema(document);
	initStringInfo(&tables);
	initStringInfo(&outputs);
	/* of two classes the first is what the second leaves, so that comes first */
	for (int i = 0; i < (classes ? answer->count : 1); i++)
	{
		int			class = !classes ? answer->main : answer->count == 2 ? 1 - i : i;
		uint32		slot = answer->slots[class];

		if (slot == MODEL_NONE)
			appendStringInfo(&tables, "<RegressionTable intercept=\"0\""
							 " targetCategory=\"%s\"/>\n",
							 pmml_label(document, class));
		else
			pmml_table(document, &tables, slot,
					   classes ? pmml_label(document, class) : NULL);
		single |= slot != MODEL_NONE && pmml_table_is_single(document, slot);
	}
	write_outputs(document, answer, &outputs);
	schema = pmml_schema(document);
	segment = pmml_add_segment(document, "RegressionModel");
	segment->attributes = psprintf(" functionName=\"%s\" normalizationMethod=\"%s\"%s",
								   classes ? "classification" : "regression",
								   answer->method,
								   single ? " x-mathContext=\"float\"" : "");
	pmml_set_schema(document, segment, schema);
	segment->outputs = outputs;
	segment->body = tables;
}

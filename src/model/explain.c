/*-------------------------------------------------------------------------
 *
 * explain.c
 *		visage_explain: what each input adds to a row's raw score.
 *
 * The raw score is traced back through the steps that add, subtract and
 * scale, to ensembles of trees (shap.c) and sums of terms, whose parts are
 * the inputs' contributions.  A part that depends on one input only is
 * that input's.  What mixes several inputs in another way is refused.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "common/shortest_dec.h"
#include "miscadmin.h"
#include "model/model.h"
#include "model/shap.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/json.h"

PG_FUNCTION_INFO_V1(visage_explain);
PG_FUNCTION_INFO_V1(visage_explain_json);

typedef struct Explanation
{
	ModelEntry *entry;
	const ModelImage *image;
	const double *slots;
	double	   *contributions;	/* one an input */
	double		base;
	bool		rounded;		/* the model rounds its sums to float32 */
} Explanation;

static void trace(Explanation *explanation, uint32 slot, double scale);

/* ERROR: the model is not one that can be explained. */
static void
refuse(const Explanation *explanation, const char *what)
{
	core_not_supported(psprintf("explaining model \"%s\", %s",
								explanation->entry->model, what),
					   "Ensembles of trees and linear models, over features "
					   "that each come from one input, can be explained.");
}

/* Gives an amount to the input that a slot comes from. */
static void
give(Explanation *explanation, uint32 slot, double amount)
{
	uint32		input = MODEL_AT(explanation->image, uint32,
								 explanation->image->origins)[slot];

	if (input == MODEL_NONE)
		refuse(explanation, "which combines inputs");
	explanation->contributions[input] += amount;
}

/* The plan of an ensemble, if it can be explained. */
static const ShapPlan *
plan_trees(const Explanation *explanation, const ModelTrees *trees)
{
	const ModelImage *image = explanation->image;
	const ModelNode *nodes = MODEL_AT(image, ModelNode, trees->nodes);
	const uint32 *origins = MODEL_AT(image, uint32, image->origins);
	ShapPlan  **plans = &explanation->entry->shap_plans;
	const ShapPlan *plan = model_shap_find(*plans, trees);

	if (plan != NULL)
		return plan;
	if (trees->aggregate != MODEL_TREES_SUM || trees->linear != 0)
		refuse(explanation, "whose trees have linear leaves or are not added");
	if (trees->covers == 0)
		refuse(explanation, "whose trees do not say how many rows went where");
	for (uint32 i = 0; i < trees->node_count; i++)
		if (!(MODEL_NODE_TEST(&nodes[i]) & MODEL_TEST_LEAF) &&
			origins[MODEL_NODE_SLOT(&nodes[i])] == MODEL_NONE)
			refuse(explanation, "whose trees test combinations of inputs");
	model_shap_plan(image, trees, plans);
	return *plans;
}

/* An ensemble's output, as far as it can be explained. */
static void
trace_trees(Explanation *explanation, const ModelStep *step, uint32 output,
			double scale)
{
	const ModelImage *image = explanation->image;
	const ModelTrees *trees = MODEL_AT(image, ModelTrees, step->data);
	bool		base_last = (trees->flags & MODEL_TREES_BASE_LAST) != 0;
	ShapTask	task = {.plan = plan_trees(explanation, trees),
		.output = output,.slots = explanation->slots,
		.scale = scale / trees->divisor,
		.contributions = explanation->contributions,
	.base = &explanation->base};

	if (trees->flags & MODEL_TREES_FLOAT32)
		explanation->rounded = true;
	explanation->base += MODEL_AT(image, double, trees->base)[output] *
		(base_last ? scale : task.scale);
	model_shap(&task);
}

static void
trace_linear(Explanation *explanation, const ModelStep *step, double scale)
{
	const ModelTerm *terms = MODEL_AT(explanation->image, ModelTerm,
									  step->data);

	explanation->base += scale * step->bias;
	for (uint32 i = 0; i < step->data_count; i++)
	{
		double		term = model_term(explanation->image, &terms[i],
									  explanation->slots[terms[i].slot]);

		give(explanation, terms[i].slot, scale * (term - terms[i].expected));
		explanation->base += scale * terms[i].expected;
	}
}

static void
trace_matmul(Explanation *explanation, const ModelStep *step, uint32 output,
			 double scale)
{
	const double *k = MODEL_AT(explanation->image, double, step->data);
	const double *weights = k + (size_t) output * step->width;

	explanation->base += scale * k[(size_t) step->count * step->width + output];
	for (uint32 i = 0; i < step->width; i++)
		trace(explanation, step->a + i, scale * weights[i]);
}

/* A sum, difference, or product or quotient with a constant. */
static void
trace_arithmetic(Explanation *explanation, const ModelStep *step, uint32 i,
				 double scale)
{
	const double *k = MODEL_AT(explanation->image, double, step->data);
	uint32		a = step->a + ((step->flags & MODEL_BROADCAST_A) ? 0 : i);
	uint32		at_b = (step->flags & MODEL_BROADCAST_B) ? 0 : i;
	double		sign = step->op == MODEL_SUBTRACT ? -1 : 1;

	if (step->op == MODEL_MULTIPLY || step->op == MODEL_DIVIDE)
	{
		if (step->b != MODEL_NONE)
			refuse(explanation, "which multiplies inputs");
		trace(explanation, a, step->op == MODEL_MULTIPLY ? scale * k[at_b] :
			  scale / k[at_b]);
		return;
	}
	trace(explanation, a, scale);
	if (step->b == MODEL_NONE)
		explanation->base += sign * scale * k[at_b];
	else
		trace(explanation, step->b + at_b, sign * scale);
}

/* The step that writes a slot. */
static const ModelStep *
find_step(const ModelImage *image, uint32 slot)
{
	const ModelStep *steps = MODEL_AT(image, ModelStep, image->steps);
	uint32		i = 0;

	while (slot - steps[i].out >= steps[i].count)
		i++;
	return &steps[i];
}

/* Distributes scale times a slot over the inputs that it is the sum of. */
static void
trace(Explanation *explanation, uint32 slot, double scale)
{
	const ModelImage *image = explanation->image;
	uint32		origin = MODEL_AT(image, uint32, image->origins)[slot];
	const ModelStep *step;
	uint32		i;

	check_stack_depth();
	if (slot < image->input_count)
	{
		give(explanation, slot, scale * explanation->slots[slot]);
		return;
	}
	step = find_step(image, slot);
	i = slot - step->out;
	switch ((ModelOp) step->op)
	{
		case MODEL_TREES:
			trace_trees(explanation, step, i, scale);
			break;
		case MODEL_LINEAR:
			trace_linear(explanation, step, scale);
			break;
		case MODEL_MATMUL:
			trace_matmul(explanation, step, i, scale);
			break;
		case MODEL_MOVE:
			trace(explanation, MODEL_AT(image, uint32, step->data)[i], scale);
			break;
		case MODEL_FILL:
			explanation->base += scale * explanation->slots[slot];
			break;
		case MODEL_ADD:
		case MODEL_SUBTRACT:
		case MODEL_MULTIPLY:
		case MODEL_DIVIDE:
			trace_arithmetic(explanation, step, i, scale);
			break;
		case MODEL_SUM:
			for (uint32 j = 0; j < step->width; j++)
				trace(explanation, step->a + j, scale);
			break;
		default:
			if (origin == MODEL_NONE)
				refuse(explanation, "whose raw score is no sum");
			give(explanation, slot, scale * explanation->slots[slot]);
	}
	if (step->flags & MODEL_IN_FLOAT32)
		explanation->rounded = true;
}

/* The raw score that is explained: of several, the largest. */
static uint32
raw_slot(const ModelImage *image, const double *slots)
{
	uint32		best = image->raw;

	for (uint32 i = 1; i < image->raw_count; i++)
		if (slots[image->raw + i] > slots[best])
			best = image->raw + i;
	return best;
}

/*
 * Explains a row that has run.  Where the model's own sum is rounded to
 * float32, what is lost by it belongs to the base value.
 */
static void
explain(Explanation *explanation, uint32 slot)
{
	double		sum = 0;

	trace(explanation, slot, 1);
	if (!explanation->rounded)
		return;
	for (uint32 i = 0; i < explanation->image->input_count; i++)
		sum += explanation->contributions[i];
	explanation->base = explanation->slots[slot] - sum;
}

/* ---- rows ---- */

/* An input's value as a text; NULL for a missing one. */
static text *
input_value(const ModelImage *image, uint32 i, double slot)
{
	const ModelInput *input = &model_inputs(image)[i];
	const ModelCategory *categories = MODEL_AT(image, ModelCategory,
											   input->categories);
	char		number[DOUBLE_SHORTEST_DECIMAL_LEN];

	if (isnan(slot))
		return NULL;
	if (input->kind == MODEL_NUMERIC)
	{
		if (input->cast == MODEL_FLOAT32)
			float_to_shortest_decimal_buf((float) slot, number);
		else
			double_to_shortest_decimal_buf(slot, number);
		return cstring_to_text(number);
	}
	for (uint32 j = 0; j < input->category_count; j++)
		if (categories[j].code == slot)
			return cstring_to_text(model_string(image, categories[j].text));
	return NULL;
}

/* A contribution and its input, for sorting. */
typedef struct Share
{
	double		contribution;
	uint32		input;
} Share;

/* Largest first, whichever its sign. */
static int
by_size(const void *a, const void *b)
{
	const Share *left = a;
	const Share *right = b;

	if (fabs(left->contribution) != fabs(right->contribution))
		return fabs(left->contribution) > fabs(right->contribution) ? -1 : 1;
	return left->input < right->input ? -1 : left->input > right->input;
}

/* How many inputs the caller wants to see. */
uint32
model_explained_inputs(const ModelImage *image)
{
	int			top = atoi(GetConfigOption("visage.explain_top", false, false));

	return top > 0 ? Min((uint32) top, image->input_count) :
		image->input_count;
}

/* Puts a row of the answer: a feature, or the base value without one. */
static void
put_row(ReturnSetInfo *result, text * feature, text * value,
		double contribution)
{
	Datum		values[3] = {PointerGetDatum(feature), PointerGetDatum(value),
	Float8GetDatum(contribution)};
	bool		nulls[3] = {feature == NULL, value == NULL, false};

	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* Explains a row whose inputs are in the workspace; shares are sorted. */
static Share *
explain_row(Explanation *explanation, ModelEntry *entry, double *workspace)
{
	const ModelImage *image = entry->image;
	Share	   *shares = palloc(sizeof(Share) * Max(image->input_count, 1));

	explanation->entry = entry;
	explanation->image = image;
	explanation->slots = workspace;
	explanation->contributions =
		palloc0(sizeof(double) * Max(image->input_count, 1));
	model_run(image, workspace);
	explain(explanation, raw_slot(image, workspace));
	for (uint32 i = 0; i < image->input_count; i++)
	{
		shares[i].contribution = explanation->contributions[i];
		shares[i].input = i;
	}
	qsort(shares, image->input_count, sizeof(Share), by_size);
	return shares;
}

/* Answers with the contributions, sorted, and the base value. */
static Datum
answer(FunctionCallInfo fcinfo, ModelBinding *binding)
{
	Explanation explanation = {0};
	ReturnSetInfo *result;
	Share	   *shares;
	uint32		wanted;

	InitMaterializedSRF(fcinfo, 0);
	if (binding == NULL)
		return (Datum) 0;
	result = (ReturnSetInfo *) fcinfo->resultinfo;
	shares = explain_row(&explanation, binding->entry, binding->workspace);
	wanted = model_explained_inputs(explanation.image);
	for (uint32 i = 0; i < wanted; i++)
	{
		uint32		input = shares[i].input;
		const char *name = model_string(explanation.image,
										model_inputs(explanation.image)[input].name);

		put_row(result, cstring_to_text(name),
				input_value(explanation.image, input,
							explanation.slots[input]),
				shares[i].contribution);
	}
	put_row(result, NULL, NULL, explanation.base);
	return (Datum) 0;
}

/*
 * The largest contributions of a row whose inputs are in the workspace, as
 * an array of objects.
 */
Jsonb *
model_reasons(ModelEntry *entry, double *workspace, int top)
{
	Explanation explanation = {0};
	Share	   *shares = explain_row(&explanation, entry, workspace);
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoChar(&json, '[');
	for (uint32 i = 0; i < Min((uint32) top, entry->image->input_count); i++)
	{
		uint32		input = shares[i].input;
		text	   *value = input_value(entry->image, input,
										workspace[input]);

		appendStringInfoString(&json, i > 0 ? ", {\"feature\": " :
							   "{\"feature\": ");
		escape_json(&json, model_string(entry->image,
										model_inputs(entry->image)[input].name));
		appendStringInfoString(&json, ", \"value\": ");
		if (value == NULL)
			appendStringInfoString(&json, "null");
		else
			escape_json(&json, text_to_cstring(value));
		appendStringInfo(&json, ", \"contribution\": %.17g}",
						 shares[i].contribution);
	}
	appendStringInfoChar(&json, ']');
	return core_json_parse(json.data);
}

Datum
visage_explain(PG_FUNCTION_ARGS)
{
	return answer(fcinfo, model_call(fcinfo));
}

Datum
visage_explain_json(PG_FUNCTION_ARGS)
{
	return answer(fcinfo, model_call_json(fcinfo));
}

/*-------------------------------------------------------------------------
 *
 * import_pmml_model.c
 *		One model of PMML, whatever its kind, at the top or in a segment.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "miscadmin.h"
#include "model/import_pmml.h"

typedef void (*ModelReader) (PmmlImport *import, PmmlScope *scope,
							 const PmmlElement *model, PmmlResult *result);

static const struct
{
	const char *name;
	ModelReader read;
}			models[] = {
	{"MiningModel", pmml_mining},
	{"RegressionModel", pmml_regression},
	{"Scorecard", pmml_scorecard},
	{"TreeModel", pmml_tree}
};

/* Is it a model that can be read? */
bool
pmml_is_model(const PmmlElement *element)
{
	for (int i = 0; i < lengthof(models); i++)
		if (pmml_is(element, models[i].name))
			return true;
	return false;
}

bool
pmml_is_classification(const PmmlElement *model)
{
	const char *function = pmml_require(model, "functionName");

	if (strcmp(function, "classification") == 0)
		return true;
	if (strcmp(function, "regression") == 0)
		return false;
	pmml_refuse(model, psprintf("functionName \"%s\"", function));
}

/* ---- classes ---- */

/* Are both numbers, and the same one? */
static bool
is_same_number(const char *a, const char *b)
{
	char	   *a_end;
	char	   *b_end;
	double		first = strtod(a, &a_end);
	double		second = strtod(b, &b_end);

	return a_end != a && *a_end == '\0' && b_end != b && *b_end == '\0' &&
		first == second;
}

/* The number of a class; 1 and 1.0 are the same class. */
int
pmml_class_number(const PmmlElement *element, char **labels, int count,
				  const char *label)
{
	for (int i = 0; i < count; i++)
		if (strcmp(labels[i], label) == 0)
			return i;
	for (int i = 0; i < count; i++)
		if (is_same_number(labels[i], label))
			return i;
	pmml_damaged(element, psprintf("\"%s\" is no class of the target", label));
}

static void
add_label(char ***labels, int *count, const char *label)
{
	for (int i = 0; i < *count; i++)
		if (strcmp((*labels)[i], label) == 0)
			return;
	*labels = *labels == NULL ? palloc(sizeof(char *)) :
		repalloc(*labels, sizeof(char *) * (*count + 1));
	(*labels)[(*count)++] = pstrdup(label);
}

/* Labels that stand in the model itself, in the order of their mention. */
static void
mentioned_labels(const PmmlElement *element, char ***labels, int *count)
{
	check_stack_depth();
	if (pmml_is(element, "ScoreDistribution"))
		add_label(labels, count, pmml_require(element, "value"));
	else if (pmml_is(element, "RegressionTable") &&
			 pmml_attribute(element, "targetCategory") != NULL)
		add_label(labels, count, pmml_require(element, "targetCategory"));
	for (const PmmlElement *child = element->first; child != NULL;
		 child = child->next)
		mentioned_labels(child, labels, count);
	if (pmml_is(element, "Node") && pmml_attribute(element, "score") != NULL)
		add_label(labels, count, pmml_require(element, "score"));
}

/* The classes: those of the target's data field, else those mentioned. */
char	  **
pmml_class_labels(PmmlImport *import, const PmmlElement *model, int *count)
{
	const PmmlElement *data = NULL;
	char	  **labels = NULL;

	*count = 0;
	for (const PmmlElement *at = model; at != NULL && data == NULL;
		 at = at->parent)
	{
		const PmmlElement *target = pmml_target_field(at);

		if (target != NULL)
			data = pmml_data_field(import, pmml_require(target, "name"));
	}
	for (const PmmlElement *child = data ? data->first : NULL; child != NULL;
		 child = child->next)
		if (pmml_is(child, "Value") &&
			pmml_attribute(child, "property") == NULL)
			add_label(&labels, count, pmml_require(child, "value"));
	if (*count == 0)
		mentioned_labels(model, &labels, count);
	if (*count < 2)
		pmml_refuse(model, "a classification of fewer than two classes");
	return labels;
}

/* ---- targets ---- */

/* What a Target does to a number. */
static void
rescale(PmmlImport *import, const PmmlElement *target, PmmlResult *result)
{
	double		bounds[2] = {pmml_number(target, "min", -INFINITY),
	pmml_number(target, "max", INFINITY)};
	double		factor = pmml_number(target, "rescaleFactor", 1);
	double		constant = pmml_number(target, "rescaleConstant", 0);
	const char *cast = pmml_attribute(target, "castInteger");
	const char *context = target->parent->parent == NULL ? NULL :
	pmml_attribute(target->parent->parent, "x-mathContext");
	bool		float32 = context != NULL && strcmp(context, "float") == 0;
	ModelProgram *program = import->program;

	if (isfinite(bounds[0]) || isfinite(bounds[1]))
		result->value = program_constant(program, MODEL_CLIP, result->value,
										 1, bounds, 2, float32);
	if (factor != 1)
		result->value = program_constant(program, MODEL_MULTIPLY,
										 result->value, 1, &factor, 1, float32);
	if (constant != 0)
		result->value = program_constant(program, MODEL_ADD, result->value, 1,
										 &constant, 1, float32);
	if (cast == NULL)
		return;
	if (strcmp(cast, "round") != 0 && strcmp(cast, "ceiling") != 0 &&
		strcmp(cast, "floor") != 0)
		pmml_damaged(target, psprintf("castInteger \"%s\" does not exist",
									  cast));
	result->value = program_unary(program, strcmp(cast, "round") == 0 ? MODEL_ROUND :
								  strcmp(cast, "floor") == 0 ? MODEL_FLOOR : MODEL_CEIL,
								  result->value, 1, false);
}

static void
apply_targets(PmmlImport *import, const PmmlElement *model,
			  PmmlResult *result)
{
	const PmmlElement *targets = pmml_child(model, "Targets");
	const PmmlElement *target = targets ? pmml_child(targets, "Target") : NULL;

	if (target == NULL)
		return;
	if (target->next != NULL && pmml_is(target->next, "Target"))
		pmml_refuse(targets, "several targets");
	if (result->classification)
	{
		for (const PmmlElement *child = target->first; child != NULL;
			 child = child->next)
			if (pmml_attribute(child, "priorProbability") != NULL)
				pmml_refuse(child, "priorProbability");
		return;
	}
	if (pmml_child(target, "TargetValue") != NULL)
		pmml_refuse(target, "TargetValue of a regression");
	rescale(import, target, result);
	/* explanations are of what is before the target's factor */
	if (pmml_attribute(target, "rescaleFactor") == NULL &&
		pmml_attribute(target, "min") == NULL &&
		pmml_attribute(target, "max") == NULL &&
		pmml_attribute(target, "castInteger") == NULL)
		result->raw = result->value;
}

/* ---- one model ---- */

/* A model in the scope of what is around it. */
void
pmml_model(PmmlImport *import, PmmlScope *scope, const PmmlElement *model,
		   PmmlResult *result)
{
	PmmlScope	inner = {.outer = scope};
	const PmmlElement *schema = pmml_child(model, "MiningSchema");
	const PmmlElement *local = pmml_child(model, "LocalTransformations");
	const char *scorable = pmml_attribute(model, "isScorable");

	check_stack_depth();
	if (scorable != NULL && strcmp(scorable, "false") == 0)
		pmml_refuse(model, "a model that is not scorable");
	import->depth++;
	if (schema != NULL)
		pmml_apply_schema(import, &inner, schema);
	if (local != NULL)
		pmml_add_derived(import, &inner, local);
	for (int i = 0; i < lengthof(models); i++)
		if (pmml_is(model, models[i].name))
			models[i].read(import, &inner, model, result);
	apply_targets(import, model, result);
	import->depth--;
}

/*-------------------------------------------------------------------------
 *
 * import_pmml.c
 *		Models in PMML: the document becomes a program.
 *
 * The document is walked twice, since texts that the model compares with
 * must be listed before the first step: see import_texts.c.  What is not
 * supported is refused where it is met, and since everything that a score
 * depends on is met, nothing is left for the time of scoring.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "model/import_pmml.h"

/* The document's only model. */
static const PmmlElement *
find_model(const PmmlElement *root)
{
	static const char *const others[] = {"Header", "MiningBuildTask",
		"DataDictionary", "TransformationDictionary", "Extension"
	};
	const PmmlElement *model = NULL;

	for (const PmmlElement *child = root->first; child != NULL;
		 child = child->next)
	{
		bool		other = false;

		for (int i = 0; i < lengthof(others); i++)
			other |= pmml_is(child, others[i]);
		if (other)
			continue;
		if (!pmml_is_model(child))
			pmml_refuse(child, psprintf("model \"%s\"", child->name));
		if (model != NULL)
			pmml_refuse(child, "a second model");
		model = child;
	}
	if (model == NULL)
		pmml_damaged(root, "there is no model");
	return model;
}

/* NaN in all results where a value was not valid. */
static void
invalidate(PmmlImport *import, PmmlResult *result)
{
	ModelProgram *program = import->program;
	int			any = -1;
	int			nothing = pmml_constant(import, NAN);

	for (int i = 0; i < import->invalid_count; i++)
		any = any < 0 ? import->invalid[i] :
			program_binary(program, MODEL_OR, any, import->invalid[i], 1,
						   false);
	if (any < 0)
		return;
	result->value = pmml_where(import, any, nothing, result->value);
	if (result->classification)
	{
		ProgramStep step = {.op = MODEL_WHERE,.count = result->count,.a = any,
			.b = nothing,.c = result->first,.broadcast_a = true,
		.broadcast_b = true};

		result->first = program_add_step(program, &step);
	}
}

/* The name of a regression's value: the target's. */
static const char *
value_name(const PmmlElement *model)
{
	const PmmlElement *target = pmml_target_field(model);

	return target == NULL ? "value" : pmml_require(target, "name");
}

static void
set_results(PmmlImport *import, const PmmlElement *model, PmmlResult *result)
{
	ModelProgram *program = import->program;
	const char *name = value_name(model);

	if (import->source->output != NULL)
		core_not_supported("option \"output\" of a PMML model",
						   "Its scores are those of its target.");
	invalidate(import, result);
	if (result->classification)
	{
		program_set_scores(program, MODEL_CLASSIFICATION, result->first,
						   result->count, (const char *const *) result->labels);
		if (isnan(import->source->threshold))
			program_set_choice(program, result->value);
		if (result->count == 2)
			import_set_threshold(import->source, program);
	}
	else
		program_set_scores(program, MODEL_REGRESSION, result->value, 1, &name);
	if (result->raw_count > 0 && result->raw >= 0)
		program_set_raw(program, result->raw, result->raw_count);
	program_set_null_for_nan(program);
}

/* One walk, into a program of its own. */
static void
walk(PmmlImport *import, bool collecting)
{
	const PmmlElement *model = find_model(import->root);
	const PmmlElement *dictionary = pmml_child(import->root, "DataDictionary");
	const PmmlElement *schema = pmml_child(model, "MiningSchema");
	const PmmlElement *common = pmml_child(import->root, "TransformationDictionary");
	PmmlScope	inputs = {0};
	PmmlScope	treated = {.outer = &inputs};
	PmmlResult	result = {0};

	if (dictionary == NULL || schema == NULL)
		pmml_damaged(model, "there is no data dictionary or mining schema");
	import->collecting = collecting;
	import->program = program_create("pmml");
	import->depth = 0;
	import->invalid = NULL;
	import->invalid_count = 0;
	for (int i = 0; !collecting && i < import->input_count; i++)
		if (import->inputs[i] != NULL)
			import->inputs[i]->closed = true;
	pmml_add_inputs(import, &inputs, dictionary, schema);
	if (common != NULL)
	{
		/* derived fields see values as the model's schema treats them */
		import->depth = 1;
		pmml_apply_schema(import, &treated, schema);
		import->depth = 2;
		pmml_add_derived(import, &treated, common);
		pmml_model(import, &treated, model, &result);
	}
	else
		pmml_model(import, &inputs, model, &result);
	if (!collecting)
		set_results(import, model, &result);
}

/* ---- the format ---- */

/* XML whose first part mentions PMML as an element. */
static bool
recognise(const char *data, size_t size)
{
	size_t		first = 0;

	while (first < size && strchr(" \t\r\n\357\273\277", data[first]) != NULL &&
		   data[first] != '\0')
		first++;
	if (first == size || data[first] != '<')
		return false;
	for (size_t i = first; i + 5 <= size && i < first + 4096; i++)
		if (memcmp(data + i, "<PMML", 5) == 0)
			return true;
	return false;
}

static void
check_version(const PmmlElement *root)
{
	const char *version = pmml_attribute(root, "version");

	if (!pmml_is(root, "PMML"))
		pmml_damaged(root, "the document is no PMML");
	if (version == NULL || (version[0] != '4' && version[0] != '3'))
		pmml_refuse(root, psprintf("version \"%s\"",
								   version ? version : "none"));
}

static ModelImage *
import_model(const ImportSource *source)
{
	PmmlImport	import = {.source = source};

	if (source->iterations > 0)
		core_not_supported("option \"iterations\" of a PMML model",
						   "Its file does not say which trees are a round.");
	import.root = pmml_read(source->data, source->size);
	check_version(import.root);
	walk(&import, true);
	walk(&import, false);
	return program_compile(import.program);
}

const ImportFormat import_pmml = {"pmml", recognise, import_model};

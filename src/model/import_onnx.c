/*-------------------------------------------------------------------------
 *
 * import_onnx.c
 *		Models in ONNX: the graph becomes a program.
 *
 * The graph is walked in the order of the file, which is that of execution;
 * each operator looks its inputs up by name and defines its outputs.  It is
 * walked twice: an input of texts must list its categories before the first
 * step, and which ones matter is known only when all operators were seen.
 * The program of the first walk is thrown away.
 *
 * A batch has one row here: dimension 0 of every tensor that is no constant.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "miscadmin.h"
#include "model/import_onnx.h"

static const OnnxOperatorEntry *const math_tables[] = {
	onnx_math_operators, onnx_shape_operators, NULL
};
static const OnnxOperatorEntry *const ml_tables[] = {
	onnx_ml_operators, onnx_tree_operators, NULL
};

/* ---- inputs ---- */

/* How many features an input of the graph has. */
static int
feature_count(const OnnxImport *import, const OnnxValueInfo *info)
{
	int64		count = 1;

	if (info->rank < 1 || info->rank > 2)
		onnx_refuse(import, "input \"%s\", which is no tensor of rows",
					info->name);
	if (info->rank == 2)
		count = info->dims[1];
	if (count < 0 && import->model->input_count == 1)
		count = import->source->feature_count;
	if (count < 1 || count > MODEL_MAX_SLOTS)
		onnx_refuse(import, "input \"%s\", whose width is not given (the option feature_names says it)",
					info->name);
	return (int) count;
}

/* One feature: an input of the program. */
static int
add_feature(OnnxImport *import, const OnnxValueInfo *info, int count)
{
	int			number = program_input_count(import->program);
	ProgramInput input;
	ImportTexts *texts;

	import_input_init(import->source, number, count == 1 ? info->name : NULL,
					  &input);
	if (import->collecting)
	{
		import->inputs = number == 0 ? palloc(sizeof(ImportTexts *)) :
			repalloc(import->inputs, sizeof(ImportTexts *) * (number + 1));
		import->inputs[number] = info->type == ONNX_STRING ?
			import_create_texts(number) : NULL;
		import->input_count = number + 1;
	}
	texts = import->inputs[number];
	if (texts != NULL)
	{
		input.kind = MODEL_CATEGORY;
		input.categories = (const char *const *) texts->texts;
		input.category_count = texts->count;
		input.missing = texts->closed ? import_text_code(texts, "") : -1;
		if (texts->refuse_unseen)
			input.flags |= MODEL_REFUSE_UNSEEN;
		return program_add_input(import->program, &input);
	}
	input.cast = info->type == ONNX_FLOAT ? MODEL_FLOAT32 :
		info->type == ONNX_DOUBLE ? MODEL_FLOAT64 : MODEL_INTEGER;
	return program_add_input(import->program, &input);
}

/* An input of the graph, unless a constant serves as its default. */
static void
add_input(OnnxImport *import, const OnnxValueInfo *info)
{
	OnnxValue  *value;
	int			count;
	int64		dims[2] = {-1, 0};

	if (onnx_find_value(import, info->name) != NULL)
		return;
	if (info->type != ONNX_STRING && !onnx_is_float(info->type) &&
		!onnx_is_integer(info->type))
		onnx_refuse(import, "input \"%s\" of type %s", info->name,
					onnx_type_name(info->type));
	count = feature_count(import, info);
	dims[1] = count;
	value = onnx_add_value(import, info->name);
	value->type = info->type;
	onnx_set_shape(import, value, info->rank, dims);
	for (int i = 0; i < count; i++)
	{
		value->slots[i] = add_feature(import, info, count);
		if (info->type == ONNX_STRING)
			value->texts[i] = import->inputs[value->slots[i]];
	}
}

static void
add_constant(OnnxImport *import, const OnnxTensor *tensor)
{
	OnnxValue  *value = onnx_add_value(import, tensor->name);

	value->type = tensor->type;
	value->constant = tensor;
	value->rank = tensor->rank;
	memcpy(value->dims, tensor->dims, sizeof(value->dims));
	value->width = tensor->count;
}

/* ---- the walk ---- */

static OnnxOperator
find_operator(const char *name, const OnnxOperatorEntry *const *tables)
{
	for (; *tables != NULL; tables++)
		for (const OnnxOperatorEntry *entry = *tables; entry->name != NULL;
			 entry++)
			if (strcmp(entry->name, name) == 0)
				return entry->operator;
	return NULL;
}

static OnnxOperator
operator_of(const OnnxNode *node)
{
	if (node->domain[0] == '\0')
		return find_operator(node->op_type, math_tables);
	if (strcmp(node->domain, "ai.onnx.ml") == 0)
		return find_operator(node->op_type, ml_tables);
	return NULL;
}

/* ERROR that names all operators which are not supported. */
static void
check_operators(const OnnxModel *model)
{
	StringInfoData missing;
	int			count = 0;

	initStringInfo(&missing);
	for (int i = 0; i < model->node_count; i++)
	{
		const OnnxNode *node = &model->nodes[i];
		bool		repeated = false;

		if (operator_of(node) != NULL)
			continue;
		for (int j = 0; j < i && !repeated; j++)
			repeated = strcmp(model->nodes[j].op_type, node->op_type) == 0 &&
				strcmp(model->nodes[j].domain, node->domain) == 0;
		if (repeated || count == 20)
			continue;
		appendStringInfo(&missing, "%s%s%s%s \"%s\"", count++ > 0 ? ", " : "",
						 node->domain, node->domain[0] == '\0' ? "" : ".",
						 node->op_type, node->name[0] != '\0' ? node->name :
						 node->output_count > 0 ? node->outputs[0] : "");
	}
	if (count > 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("the ONNX model has operators that are not supported"),
				 errdetail("Not supported: %s.", missing.data),
				 errhint("What is supported is listed in "
						 "docs/reference/model-import.md.")));
}

/* One walk, into a program of its own. */
static void
walk_graph(OnnxImport *import, bool collecting)
{
	OnnxModel  *model = import->model;

	import->collecting = collecting;
	for (int i = 0; !collecting && i < import->input_count; i++)
		if (import->inputs[i] != NULL)
			import->inputs[i]->closed = true;
	import->program = program_create("onnx");
	import->node = NULL;
	import->names = import_create_texts(-1);
	import->values = NULL;
	import->values_allocated = 0;
	for (int i = 0; i < model->initializer_count; i++)
		add_constant(import, &model->initializers[i]);
	for (int i = 0; i < model->input_count; i++)
		add_input(import, &model->inputs[i]);
	for (int i = 0; i < model->node_count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		import->node = &model->nodes[i];
		operator_of(import->node) (import, import->node);
	}
	import->node = NULL;
}

/* ---- results ---- */

/* The output that the option names. */
static OnnxValue *
named_output(OnnxImport *import)
{
	const OnnxModel *model = import->model;
	char	  **names = palloc(sizeof(char *) * Max(model->output_count, 1));
	char	   *nearest;

	for (int i = 0; i < model->output_count; i++)
	{
		names[i] = model->outputs[i].name;
		if (strcmp(names[i], import->source->output) == 0)
			return onnx_find_value(import, names[i]);
	}
	nearest = core_nearest(import->source->output, names,
						   model->output_count);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("the ONNX model has no output \"%s\"",
					import->source->output),
			 nearest ? errhint("Perhaps you meant \"%s\".", nearest) : 0));
	return NULL;
}

/* Is this value numbers, or a map of numbers: what can be a score? */
static bool
is_score(const OnnxValue *value, bool integers)
{
	if (value->constant != NULL || value->type == ONNX_STRING)
		return false;
	return value->map || onnx_is_float(value->type) == !integers;
}

/* The label that goes with the scores, and the scores. */
static void
find_outputs(OnnxImport *import, OnnxValue **label, OnnxValue **scores)
{
	const OnnxModel *model = import->model;
	int			candidates = 0;

	*label = *scores = NULL;
	for (int i = 0; i < model->output_count; i++)
	{
		OnnxValue  *value = onnx_find_value(import, model->outputs[i].name);

		if (value == NULL)
			onnx_invalid(import, "output \"%s\" is not defined",
						 model->outputs[i].name);
		if (value->label_count > 0 && !value->map && value->width == 1 &&
			*label == NULL && value->label_slot >= 0)
			*label = value;
		else if (is_score(value, false))
		{
			candidates++;
			*scores = value;
		}
	}
	for (int i = 0; i < model->output_count && *scores == NULL &&
		 *label == NULL; i++)
		if (is_score(onnx_find_value(import, model->outputs[i].name), true))
			*scores = onnx_find_value(import, model->outputs[i].name);
	if (import->source->output != NULL)
		*scores = named_output(import);
	else if (candidates > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the ONNX model has several outputs"),
				 errhint("Name one by the option \"output\".")));
	if (*scores == NULL && *label == NULL)
		onnx_refuse(import, "outputs of which none is a number");
}

/* Scores of a label alone: 1 for its class, 0 for the others. */
static OnnxValue *
scores_of_label(OnnxImport *import, const OnnxValue *label)
{
	OnnxValue  *scores = palloc0(sizeof(OnnxValue));
	int64		dims[2] = {-1, label->label_count};
	ProgramStep step = {.op = MODEL_ONE_HOT,.count = label->label_count,
	.a = label->label_slot,.b = -1,.c = -1};
	double	   *numbers = palloc(sizeof(double) * label->label_count);

	for (int i = 0; i < label->label_count; i++)
		numbers[i] = i;
	step.constants = numbers;
	step.constant_count = label->label_count;
	scores->name = label->name;
	scores->type = ONNX_FLOAT;
	scores->raw = -1;
	onnx_set_shape(import, scores, 2, dims);
	onnx_set_run(scores, program_add_step(import->program, &step));
	return scores;
}

/* The names of numbers: the output's, with a number if there are several. */
static char **
output_names(const OnnxValue *scores)
{
	char	  **names = palloc(sizeof(char *) * scores->width);

	for (int i = 0; i < scores->width; i++)
		names[i] = scores->width == 1 ? pstrdup(scores->name) :
			psprintf("%s_%d", scores->name, i);
	return names;
}

/* Classes: their labels, and who chooses. */
static void
set_classes(OnnxImport *import, const OnnxValue *label, OnnxValue *scores)
{
	char	  **names = scores->labels;

	if (label != NULL && scores->label_count == 0)
		names = label->labels;
	program_set_scores(import->program, MODEL_CLASSIFICATION,
					   onnx_run(import, scores), scores->width,
					   (const char *const *) names);
	if (label != NULL && isnan(import->source->threshold))
		program_set_choice(import->program, label->label_slot);
	if (scores->width == 2)
		import_set_threshold(import->source, import->program);
}

static void
set_results(OnnxImport *import)
{
	OnnxValue  *label;
	OnnxValue  *scores;

	find_outputs(import, &label, &scores);
	if (scores == NULL || (scores == label && !scores->map))
		scores = scores_of_label(import, label);
	if (scores->type == ONNX_STRING || scores->constant != NULL)
		onnx_refuse(import, "output \"%s\" of type %s", scores->name,
					onnx_type_name(scores->type));
	if (scores->width > 1 && (scores->label_count == scores->width ||
							  (label != NULL &&
							   label->label_count == scores->width)))
		set_classes(import, label, scores);
	else
		program_set_scores(import->program, MODEL_REGRESSION,
						   onnx_run(import, scores), scores->width,
						   (const char *const *) output_names(scores));
	if (scores->raw >= 0)
		program_set_raw(import->program, scores->raw, scores->raw_count);
}

/* ---- the format ---- */

/* A model begins with its version, and goes on with another field of it. */
static bool
recognise(const char *data, size_t size)
{
	unsigned char next;

	if (size < 4 || data[0] != 0x08 || data[1] < 1 || data[1] > 63)
		return false;
	next = data[2];
	return next == 0x12 || next == 0x1A || next == 0x22 || next == 0x28 ||
		next == 0x32 || next == 0x3A || next == 0x42 || next == 0x72;
}

static ModelImage *
import_model(const ImportSource *source)
{
	OnnxImport	import = {.source = source};

	if (source->iterations > 0)
		core_not_supported("option \"iterations\" of an ONNX model",
						   "Its file does not say which trees are a round.");
	import.model = onnx_read(source->data, source->size);
	check_operators(import.model);
	walk_graph(&import, true);
	walk_graph(&import, false);
	set_results(&import);
	return program_compile(import.program);
}

const ImportFormat import_onnx = {"onnx", recognise, import_model};

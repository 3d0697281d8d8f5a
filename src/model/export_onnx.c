/*-------------------------------------------------------------------------
 *
 * export_onnx.c
 *		A model as an ONNX file.
 *
 * Every input becomes an input of the graph of one column, by name; texts
 * are strings, where the empty string stands for NULL, and numbers are
 * doubles, where NaN does.  Each step of the program becomes operators.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "miscadmin.h"
#include "model/export_onnx.h"

/* AttributeProto.AttributeType */
#define ATTRIBUTE_INT 2
#define ATTRIBUTE_STRING 3
#define ATTRIBUTE_TENSOR 4
#define ATTRIBUTE_FLOATS 6
#define ATTRIBUTE_INTS 7
#define ATTRIBUTE_STRINGS 8

#define OPSET 17

/* ---- nodes ---- */

char *
onnx_new_name(OnnxGraph *graph)
{
	return psprintf("v%d", graph->names++);
}

void
onnx_begin_node(OnnxGraph *graph, const char *operator, bool of_ml)
{
	initStringInfo(&graph->node);
	protobuf_text(&graph->node, 4, operator);
	if (of_ml)
		protobuf_text(&graph->node, 7, "ai.onnx.ml");
}

void
onnx_node_input(OnnxGraph *graph, const char *name)
{
	protobuf_text(&graph->node, 1, name);
}

/* Begins an attribute of that type. */
static void
begin_attribute(StringInfo attribute, const char *name, int type)
{
	initStringInfo(attribute);
	protobuf_text(attribute, 1, name);
	protobuf_int(attribute, 20, type);
}

static void
end_attribute(OnnxGraph *graph, StringInfo attribute)
{
	protobuf_message(&graph->node, 5, attribute);
	pfree(attribute->data);
}

void
onnx_node_int(OnnxGraph *graph, const char *name, int64 value)
{
	StringInfoData attribute;

	begin_attribute(&attribute, name, ATTRIBUTE_INT);
	protobuf_int(&attribute, 3, value);
	end_attribute(graph, &attribute);
}

void
onnx_node_ints(OnnxGraph *graph, const char *name, const int64 *values,
			   int count)
{
	StringInfoData attribute;

	begin_attribute(&attribute, name, ATTRIBUTE_INTS);
	protobuf_ints(&attribute, 8, values, count);
	end_attribute(graph, &attribute);
}

void
onnx_node_floats(OnnxGraph *graph, const char *name, const double *values,
				 int count)
{
	StringInfoData attribute;

	begin_attribute(&attribute, name, ATTRIBUTE_FLOATS);
	protobuf_floats(&attribute, 7, values, count);
	end_attribute(graph, &attribute);
}

void
onnx_node_texts(OnnxGraph *graph, const char *name, const char *const *texts,
				int count)
{
	StringInfoData attribute;

	begin_attribute(&attribute, name, ATTRIBUTE_STRINGS);
	for (int i = 0; i < count; i++)
		protobuf_text(&attribute, 9, texts[i]);
	end_attribute(graph, &attribute);
}

void
onnx_node_text(OnnxGraph *graph, const char *name, const char *text)
{
	StringInfoData attribute;

	begin_attribute(&attribute, name, ATTRIBUTE_STRING);
	protobuf_text(&attribute, 4, text);
	end_attribute(graph, &attribute);
}

/* A TensorProto of numbers; of one dimension if rows is -1. */
static void
write_tensor(StringInfo tensor, const char *name, int type,
			 const double *values, int rows, int columns)
{
	int64		dims[2] = {rows, columns};
	int			count = Max(rows, 1) * columns;

	initStringInfo(tensor);
	protobuf_ints(tensor, 1, rows < 0 ? dims + 1 : dims, rows < 0 ? 1 : 2);
	protobuf_int(tensor, 2, type);
	if (type == ONNX_DOUBLE)
		protobuf_doubles(tensor, 10, values, count);
	else if (type == ONNX_FLOAT)
		protobuf_floats(tensor, 4, values, count);
	else
	{
		int64	   *integers = palloc(sizeof(int64) * Max(count, 1));

		for (int i = 0; i < count; i++)
			integers[i] = (int64) values[i];
		protobuf_ints(tensor, type == ONNX_INT64 ? 7 : 5, integers, count);
		pfree(integers);
	}
	if (name != NULL)
		protobuf_text(tensor, 8, name);
}

/* An attribute that is a list in a tensor. */
void
onnx_node_tensor(OnnxGraph *graph, const char *name, int type,
				 const double *values, int count)
{
	StringInfoData attribute;
	StringInfoData tensor;

	begin_attribute(&attribute, name, ATTRIBUTE_TENSOR);
	write_tensor(&tensor, NULL, type, values, -1, count);
	protobuf_message(&attribute, 5, &tensor);
	end_attribute(graph, &attribute);
	pfree(tensor.data);
}

/* Adds the node; the name of its only output. */
char *
onnx_end_node(OnnxGraph *graph)
{
	char	   *name = onnx_new_name(graph);

	protobuf_text(&graph->node, 2, name);
	protobuf_text(&graph->node, 3, name);
	protobuf_message(&graph->graph, 1, &graph->node);
	pfree(graph->node.data);
	return name;
}

/* An operator of ai.onnx of up to three operands, without attributes. */
char *
onnx_simple(OnnxGraph *graph, const char *operator, const char *a,
			const char *b, const char *c)
{
	onnx_begin_node(graph, operator, false);
	onnx_node_input(graph, a);
	if (b != NULL)
		onnx_node_input(graph, b);
	if (c != NULL)
		onnx_node_input(graph, c);
	return onnx_end_node(graph);
}

char *
onnx_cast(OnnxGraph *graph, const char *tensor, int type)
{
	onnx_begin_node(graph, "Cast", false);
	onnx_node_input(graph, tensor);
	onnx_node_int(graph, "to", type);
	return onnx_end_node(graph);
}

/* A constant matrix. */
static char *
constant(OnnxGraph *graph, int type, const double *values, int rows,
		 int columns)
{
	char	   *name = onnx_new_name(graph);
	StringInfoData tensor;

	write_tensor(&tensor, name, type, values, rows, columns);
	protobuf_message(&graph->graph, 5, &tensor);
	pfree(tensor.data);
	return name;
}

char *
onnx_doubles(OnnxGraph *graph, const double *values, int rows, int columns)
{
	return constant(graph, ONNX_DOUBLE, values, rows, columns);
}

char *
onnx_number(OnnxGraph *graph, double number)
{
	return constant(graph, ONNX_DOUBLE, &number, 1, 1);
}

/* ---- slots ---- */

/* One column of a tensor. */
static const char *
one_column(OnnxGraph *graph, uint32 slot)
{
	OnnxColumn *column = &graph->columns[slot];
	double		index = column->column;

	if (column->width == 1)
		return column->tensor;
	onnx_begin_node(graph, "Gather", false);
	onnx_node_input(graph, column->tensor);
	onnx_node_input(graph, constant(graph, ONNX_INT64, &index, -1, 1));
	onnx_node_int(graph, "axis", 1);
	column->tensor = onnx_end_node(graph);
	column->column = 0;
	column->width = 1;
	return column->tensor;
}

/* Consecutive slots as one tensor. */
char *
onnx_operand(OnnxGraph *graph, uint32 first, int count)
{
	OnnxColumn *columns = graph->columns + first;
	bool		whole = columns->tensor != NULL && columns->width == count &&
	columns->column == 0;
	const char **parts;

	for (int i = 1; i < count && whole; i++)
		whole = columns[i].tensor == columns->tensor && columns[i].column == i;
	if (whole)
		return pstrdup(columns->tensor);
	parts = palloc(sizeof(char *) * count);
	for (int i = 0; i < count; i++)
		parts[i] = one_column(graph, first + i);
	if (count == 1)
		return pstrdup(parts[0]);
	onnx_begin_node(graph, "Concat", false);
	for (int i = 0; i < count; i++)
		onnx_node_input(graph, parts[i]);
	onnx_node_int(graph, "axis", 1);
	return onnx_end_node(graph);
}

/* Lets slots be the columns of a tensor. */
void
onnx_set_columns(OnnxGraph *graph, uint32 first, const char *tensor,
				 int count)
{
	for (int i = 0; i < count; i++)
	{
		graph->columns[first + i].tensor = tensor;
		graph->columns[first + i].column = i;
		graph->columns[first + i].width = count;
	}
}

/* ---- inputs ---- */

/* An input or output of the graph: [rows, width] of a type. */
static void
declare(OnnxGraph *graph, int field, const char *name, int type, int width)
{
	StringInfoData dimension;
	StringInfoData shape;
	StringInfoData tensor;
	StringInfoData outer;
	StringInfoData value;

	initStringInfo(&shape);
	initStringInfo(&dimension);
	protobuf_text(&dimension, 2, "rows");
	protobuf_message(&shape, 1, &dimension);
	resetStringInfo(&dimension);
	protobuf_int(&dimension, 1, width);
	if (width > 0)
		protobuf_message(&shape, 1, &dimension);
	initStringInfo(&tensor);
	protobuf_int(&tensor, 1, type);
	protobuf_message(&tensor, 2, &shape);
	initStringInfo(&outer);
	protobuf_message(&outer, 1, &tensor);
	initStringInfo(&value);
	protobuf_text(&value, 1, name);
	protobuf_message(&value, 2, &outer);
	protobuf_message(&graph->graph, field, &value);
}

/* The code of a text; NULL is the empty string. */
static char *
category_input(OnnxGraph *graph, const ModelInput *input, const char *name)
{
	const ModelCategory *categories = MODEL_AT(graph->image, ModelCategory,
											   input->categories);
	int			count = input->category_count;
	const char **keys = palloc(sizeof(char *) * (count + 1));
	double	   *codes = palloc(sizeof(double) * (count + 1));
	double		unseen = input->unseen;
	bool		empty = false;
	char	   *code;

	for (int i = 0; i < count; i++)
	{
		keys[i] = model_string(graph->image, categories[i].text);
		codes[i] = categories[i].code;
		empty |= keys[i][0] == '\0';
	}
	if (!empty)
	{
		keys[count] = "";
		codes[count++] = input->missing;
	}
	onnx_begin_node(graph, "LabelEncoder", true);
	onnx_node_input(graph, name);
	onnx_node_texts(graph, "keys_strings", keys, count);
	onnx_node_floats(graph, "values_floats", codes, count);
	{
		StringInfoData attribute;

		begin_attribute(&attribute, "default_float", 1);
		protobuf_float(&attribute, 2, (float) unseen);
		end_attribute(graph, &attribute);
	}
	code = onnx_end_node(graph);
	return onnx_cast(graph, code, ONNX_DOUBLE);
}

/* A number as the model takes it. */
static char *
number_input(OnnxGraph *graph, const ModelInput *input, char *name)
{
	if (!isnan(input->marker))
		name = onnx_simple(graph, "Where",
						   onnx_simple(graph, "Equal", name,
									   onnx_number(graph, input->marker), NULL),
						   onnx_number(graph, NAN), name);
	if (input->flags & MODEL_INFINITE_IS_MISSING)
		name = onnx_simple(graph, "Where",
						   onnx_simple(graph, "Greater",
									   onnx_simple(graph, "Abs", name, NULL, NULL),
									   onnx_number(graph, 1.7976931348623157e308), NULL),
						   onnx_number(graph, NAN), name);
	if (!isnan(input->missing))
		name = onnx_simple(graph, "Where",
						   onnx_simple(graph, "IsNaN", name, NULL, NULL),
						   onnx_number(graph, input->missing), name);
	if (input->cast == MODEL_FLOAT32)
		name = onnx_cast(graph, onnx_cast(graph, name, ONNX_FLOAT),
						 ONNX_DOUBLE);
	else if (input->cast == MODEL_INTEGER)
		name = onnx_truncate(graph, name);
	return name;
}

static void
write_inputs(OnnxGraph *graph)
{
	const ModelImage *image = graph->image;

	for (uint32 i = 0; i < image->input_count; i++)
	{
		const ModelInput *input = &model_inputs(image)[i];
		char	   *name = pstrdup(model_string(image, input->name));
		bool		texts = input->kind == MODEL_CATEGORY;

		declare(graph, 11, name, texts ? ONNX_STRING : ONNX_DOUBLE, 1);
		onnx_set_columns(graph, i, texts ? category_input(graph, input, name) :
						 number_input(graph, input, name), 1);
	}
}

/* ---- outputs ---- */

/* The number of the class chosen, as int64 of shape [rows, 1]. */
static char *
class_number(OnnxGraph *graph)
{
	const ModelImage *image = graph->image;

	if (image->choice != MODEL_NONE)
		return onnx_cast(graph, onnx_operand(graph, image->choice, 1),
						 ONNX_INT64);
	if (image->output_count == 2)
		return onnx_cast(graph,
						 onnx_simple(graph, "Greater",
									 onnx_operand(graph, image->scores + 1, 1),
									 onnx_number(graph, image->threshold), NULL),
						 ONNX_INT64);
	onnx_begin_node(graph, "ArgMax", false);
	onnx_node_input(graph, onnx_operand(graph, image->scores,
										image->output_count));
	onnx_node_int(graph, "axis", 1);
	return onnx_end_node(graph);
}

/* Names an output; the value that it is a copy of has another name. */
static void
name_output(OnnxGraph *graph, const char *tensor, const char *name, int type,
			int width)
{
	initStringInfo(&graph->node);
	protobuf_text(&graph->node, 4, "Identity");
	protobuf_text(&graph->node, 1, tensor);
	protobuf_text(&graph->node, 2, name);
	protobuf_message(&graph->graph, 1, &graph->node);
	declare(graph, 12, name, type, width);
}

/* The label of the class chosen. */
static char *
class_label(OnnxGraph *graph)
{
	const ModelImage *image = graph->image;
	const char **labels = palloc(sizeof(char *) * image->output_count);
	int64	   *numbers = palloc(sizeof(int64) * image->output_count);

	for (uint32 i = 0; i < image->output_count; i++)
	{
		labels[i] = model_output_name(image, i);
		numbers[i] = i;
	}
	{
		char	   *number = class_number(graph);

		onnx_begin_node(graph, "LabelEncoder", true);
		onnx_node_input(graph, number);
	}
	onnx_node_ints(graph, "keys_int64s", numbers, image->output_count);
	onnx_node_texts(graph, "values_strings", labels, image->output_count);
	onnx_node_text(graph, "default_string", labels[0]);
	return onnx_end_node(graph);
}

static void
write_outputs(OnnxGraph *graph)
{
	const ModelImage *image = graph->image;
	char	   *scores = onnx_operand(graph, image->scores,
									  image->output_count);

	if (image->task == MODEL_CLASSIFICATION)
		name_output(graph, class_label(graph), "label", ONNX_STRING, 1);
	name_output(graph, scores, image->task == MODEL_CLASSIFICATION ?
				"probabilities" : "value", ONNX_DOUBLE, image->output_count);
}

/* ---- the model ---- */

static void
write_opset(StringInfo model, const char *domain, int version)
{
	StringInfoData opset;

	initStringInfo(&opset);
	protobuf_text(&opset, 1, domain);
	protobuf_int(&opset, 2, version);
	protobuf_message(model, 8, &opset);
}

bytea *
export_onnx(const ModelImage *image)
{
	OnnxGraph	graph = {.image = image};
	StringInfoData model;
	bytea	   *result;
	const ModelStep *steps = MODEL_AT(image, ModelStep, image->steps);

	initStringInfo(&graph.graph);
	protobuf_text(&graph.graph, 2, "visage");
	graph.columns = palloc0(sizeof(OnnxColumn) * image->slot_count);
	write_inputs(&graph);
	for (uint32 i = 0; i < image->step_count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		onnx_export_step(&graph, &steps[i]);
	}
	write_outputs(&graph);
	initStringInfo(&model);
	protobuf_int(&model, 1, graph.new_trees ? 10 : 8);
	protobuf_text(&model, 2, "visage");
	protobuf_message(&model, 7, &graph.graph);
	write_opset(&model, "", OPSET);
	write_opset(&model, "ai.onnx.ml", graph.new_trees ? 5 : 3);
	result = palloc(VARHDRSZ + model.len);
	SET_VARSIZE(result, VARHDRSZ + model.len);
	memcpy(VARDATA(result), model.data, model.len);
	return result;
}

/*-------------------------------------------------------------------------
 *
 * import_onnx_shape.c
 *		Operators of ai.onnx that only say where elements go.
 *
 * They need no step of the program: the result has the slots of what it is
 * made of, in another order or shape.  Nothing may move elements between the
 * rows of a batch.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "model/import_onnx.h"

/* The same elements in another shape. */
static void
reshape(OnnxImport *import, OnnxValue *input, int rank, const int64 *dims)
{
	OnnxValue  *output = onnx_output(import, 0, input->type);

	onnx_set_shape(import, output, rank, dims);
	if (output->width != input->width)
		onnx_refuse(import, "a reshape that moves elements between rows");
	memcpy(output->slots, input->slots, sizeof(int) * input->width);
	if (input->texts != NULL)
		memcpy(output->texts, input->texts,
			   sizeof(ImportTexts *) * input->width);
	onnx_copy_meaning(output, input);
}

/* ERROR for a constant, which is not reshaped here. */
static OnnxValue *
rows_input(OnnxImport *import)
{
	OnnxValue  *input = onnx_input(import, 0);

	if (input->constant != NULL)
		onnx_refuse(import, "constant input \"%s\"", input->name);
	return input;
}

static void
op_reshape(OnnxImport *import, const OnnxNode *node)
{
	OnnxValue  *input = rows_input(import);
	OnnxValue  *shape = onnx_input(import, 1);
	int64		dims[ONNX_MAX_RANK];
	int64		known = 1;
	int			unknown = -1;

	if (shape->width < 1 || shape->width > ONNX_MAX_RANK)
		onnx_refuse(import, "a shape of %d dimensions", shape->width);
	for (int i = 0; i < shape->width; i++)
	{
		dims[i] = onnx_constant_integer(import, shape, i);
		if (i < input->rank && dims[i] == 0)
			dims[i] = input->dims[i];
		if (i == 0)
			continue;
		if (dims[i] == -1 && unknown < 0)
			unknown = i;
		else if (dims[i] > 0 && dims[i] <= MODEL_MAX_SLOTS)
			known = Min(known * dims[i], MODEL_MAX_SLOTS);
		else
			onnx_invalid(import, "the shape has no valid dimensions");
	}
	/* a first dimension of 1 is that of one row at a time */
	if (dims[0] != -1 && dims[0] != 1)
		onnx_refuse(import, "a reshape to " INT64_FORMAT " rows", dims[0]);
	if (unknown > 0)
		dims[unknown] = input->width / known;
	reshape(import, input, shape->width, dims);
}

static void
op_flatten(OnnxImport *import, const OnnxNode *node)
{
	OnnxValue  *input = rows_input(import);
	int64		dims[2] = {-1, input->width};
	int64		axis = onnx_int(import, "axis", 1);

	if (axis != 1 && axis + input->rank != 1)
		onnx_refuse(import, "axis " INT64_FORMAT, axis);
	reshape(import, input, 2, dims);
}

/* Which axes Squeeze and Unsqueeze name, of a tensor of that rank. */
static void
mark_axes(OnnxImport *import, int rank, bool *marked)
{
	const OnnxAttribute *list = onnx_attribute(import, "axes",
											   ONNX_ATTRIBUTE_INTS);
	OnnxValue  *value = onnx_optional_input(import, 1);
	int			count = list ? list->count : value ? value->width : 0;

	memset(marked, 0, sizeof(bool) * ONNX_MAX_RANK);
	if (count == 0)
		onnx_refuse(import, "axes that are not given");
	for (int i = 0; i < count; i++)
	{
		int64		axis = list ? list->ints[i] :
		onnx_constant_integer(import, value, i);

		if (axis < 0)
			axis += rank;
		if (axis < 1 || axis >= rank)
			onnx_refuse(import, "axis " INT64_FORMAT, axis);
		marked[axis] = true;
	}
}

static void
op_squeeze(OnnxImport *import, const OnnxNode *node)
{
	OnnxValue  *input = rows_input(import);
	bool		marked[ONNX_MAX_RANK];
	int64		dims[ONNX_MAX_RANK];
	int			rank = 0;

	mark_axes(import, input->rank, marked);
	for (int i = 0; i < input->rank; i++)
		if (!marked[i])
			dims[rank++] = input->dims[i];
		else if (input->dims[i] != 1)
			onnx_invalid(import, "dimension %d is not 1", i);
	reshape(import, input, rank, dims);
}

static void
op_unsqueeze(OnnxImport *import, const OnnxNode *node)
{
	OnnxValue  *input = rows_input(import);
	const OnnxAttribute *list = onnx_attribute(import, "axes",
											   ONNX_ATTRIBUTE_INTS);
	OnnxValue  *value = onnx_optional_input(import, 1);
	int			rank = input->rank + (list ? list->count : value ? value->width : 0);
	bool		marked[ONNX_MAX_RANK];
	int64		dims[ONNX_MAX_RANK];
	int			from = 0;

	if (rank > ONNX_MAX_RANK)
		onnx_refuse(import, "a tensor of %d dimensions", rank);
	mark_axes(import, rank, marked);
	for (int i = 0; i < rank; i++)
		if (marked[i])
			dims[i] = 1;
		else if (from < input->rank)
			dims[i] = input->dims[from++];
		else
			onnx_invalid(import, "an axis is given twice");
	reshape(import, input, rank, dims);
}

/* Side by side, along the last axis. */
static void
op_concat(OnnxImport *import, const OnnxNode *node)
{
	OnnxValue  *first = onnx_input(import, 0);
	OnnxValue  *output;
	int64		dims[ONNX_MAX_RANK];
	int64		axis = onnx_int(import, "axis", 0);
	int			at = 0;

	if (axis < 0)
		axis += first->rank;
	if (axis != first->rank - 1 || axis < 1)
		onnx_refuse(import, "axis " INT64_FORMAT " of a tensor of %d dimensions",
					axis, first->rank);
	memcpy(dims, first->dims, sizeof(dims));
	dims[axis] = 0;
	for (int i = 0; i < node->input_count; i++)
	{
		OnnxValue  *input = onnx_input(import, i);

		if (input->constant != NULL)
			onnx_refuse(import, "constant input \"%s\"", input->name);
		if (input->type != first->type || input->rank != first->rank)
			onnx_invalid(import, "the inputs have different types or shapes");
		for (int j = 1; j < axis; j++)
			if (input->dims[j] != 1)
				onnx_refuse(import, "tensors of %d dimensions", input->rank);
		dims[axis] += input->dims[axis];
	}
	output = onnx_output(import, 0, first->type);
	onnx_set_shape(import, output, first->rank, dims);
	for (int i = 0; i < node->input_count; i++)
	{
		OnnxValue  *input = onnx_input(import, i);

		memcpy(output->slots + at, input->slots, sizeof(int) * input->width);
		if (input->texts != NULL)
			memcpy(output->texts + at, input->texts,
				   sizeof(ImportTexts *) * input->width);
		at += input->width;
	}
}

/* Element i of the output is the input's of this index. */
void
onnx_choose(OnnxImport *import, OnnxValue *output, int i,
			const OnnxValue *input, int64 index)
{
	if (index < 0 || index >= input->width)
		onnx_invalid(import, "index " INT64_FORMAT " of %d elements",
					 index, input->width);
	output->slots[i] = input->slots[index];
	if (input->texts != NULL)
		output->texts[i] = input->texts[index];
}

/* Chosen elements of each row; of a rank that drops the axis if asked. */
static void
choose(OnnxImport *import, OnnxValue *input, const OnnxValue *indices,
	   int rank)
{
	OnnxValue  *output = onnx_output(import, 0, input->type);
	int64		dims[2] = {-1, indices->width};

	onnx_set_shape(import, output, rank, dims);
	for (int i = 0; i < indices->width; i++)
	{
		int64		index = onnx_constant_integer(import, indices, i);

		if (index < 0)
			index += input->width;
		onnx_choose(import, output, i, input, index);
	}
}

static void
op_gather(OnnxImport *import, const OnnxNode *node)
{
	OnnxValue  *input = onnx_input(import, 0);
	OnnxValue  *indices = onnx_input(import, 1);
	int64		axis = onnx_int(import, "axis", 0);

	onnx_require_rows(import, input);
	if (axis < 0)
		axis += input->rank;
	if (axis != 1 || input->rank != 2)
		onnx_refuse(import, "axis " INT64_FORMAT " of a tensor of %d dimensions",
					axis, input->rank);
	if (indices->constant == NULL || indices->rank > 1)
		onnx_refuse(import, "indices that are not a constant list");
	choose(import, input, indices, 1 + indices->rank);
}

/* One bound of Slice: 1-based input, or attribute in old operator sets. */
static int64
slice_bound(OnnxImport *import, int i, const char *name, int64 if_none)
{
	const OnnxAttribute *list = name == NULL ? NULL :
	onnx_attribute(import, name, ONNX_ATTRIBUTE_INTS);
	OnnxValue  *value = onnx_optional_input(import, i);

	if ((list != NULL && list->count != 1) ||
		(value != NULL && value->width != 1))
		onnx_refuse(import, "slices along several axes");
	if (list != NULL)
		return list->ints[0];
	return value != NULL ? onnx_constant_integer(import, value, 0) : if_none;
}

static void
op_slice(OnnxImport *import, const OnnxNode *node)
{
	OnnxValue  *input = onnx_input(import, 0);
	OnnxValue  *output;
	int64		start = slice_bound(import, 1, "starts", 0);
	int64		end = slice_bound(import, 2, "ends", PG_INT32_MAX);
	int64		axis = slice_bound(import, 3, "axes", 0);
	int64		dims[2] = {-1, 0};

	onnx_require_rows(import, input);
	if ((axis != 1 && axis != -1) || input->rank != 2)
		onnx_refuse(import, "axis " INT64_FORMAT " of a tensor of %d dimensions",
					axis, input->rank);
	if (slice_bound(import, 4, NULL, 1) != 1)
		onnx_refuse(import, "steps other than 1");
	start = start < 0 ? Max(start + input->width, 0) :
		Min(start, input->width);
	end = end < 0 ? Max(end + input->width, 0) : Min(end, input->width);
	dims[1] = Max(end - start, 0);
	output = onnx_output(import, 0, input->type);
	onnx_set_shape(import, output, 2, dims);
	for (int i = 0; i < output->width; i++)
	{
		output->slots[i] = input->slots[start + i];
		if (input->texts != NULL)
			output->texts[i] = input->texts[start + i];
	}
}

/* How wide part i of Split is: as a list says, or as wide as the others. */
static int64
split_width(OnnxImport *import, const OnnxNode *node, int i, int width)
{
	const OnnxAttribute *list = onnx_attribute(import, "split",
											   ONNX_ATTRIBUTE_INTS);
	OnnxValue  *value = onnx_optional_input(import, 1);
	int			count = list != NULL ? list->count :
	value != NULL ? value->width : node->output_count;
	int64		part = (width + (int64) count - 1) / Max(count, 1);

	if (count != node->output_count ||
		onnx_int(import, "num_outputs", count) != count)
		onnx_invalid(import, "%d parts of a tensor for %d outputs", count,
					 node->output_count);
	if (list != NULL)
		return list->ints[i];
	if (value != NULL)
		return onnx_constant_integer(import, value, i);
	/* the last one has what is left */
	return Max(Min(part, width - i * part), 0);
}

static void
op_split(OnnxImport *import, const OnnxNode *node)
{
	OnnxValue  *input = onnx_input(import, 0);
	int64		dims[ONNX_MAX_RANK];
	int64		start = 0;

	onnx_require_last_axis(import, input, onnx_int(import, "axis", 0));
	memcpy(dims, input->dims, sizeof(dims));
	for (int i = 0; i < node->output_count; i++)
	{
		int64		width = split_width(import, node, i, input->width);
		OnnxValue  *output = onnx_output(import, i, input->type);

		if (width < 0 || width > input->width - start)
			onnx_invalid(import, "a part of " INT64_FORMAT " elements", width);
		dims[input->rank - 1] = width;
		onnx_set_shape(import, output, input->rank, dims);
		for (int j = 0; j < width; j++)
			onnx_choose(import, output, j, input, start + j);
		start += width;
	}
	if (start != input->width)
		onnx_invalid(import, "the parts have " INT64_FORMAT " elements, not %d",
					 start, input->width);
}

/* A constant of the graph. */
static void
op_constant(OnnxImport *import, const OnnxNode *node)
{
	const OnnxAttribute *value = onnx_attribute(import, "value",
												ONNX_ATTRIBUTE_TENSOR);
	OnnxValue  *output;

	if (value == NULL)
		onnx_refuse(import, "a constant that is no tensor");
	output = onnx_output(import, 0, value->t->type);
	output->constant = value->t;
	output->rank = value->t->rank;
	memcpy(output->dims, value->t->dims, sizeof(output->dims));
	output->width = value->t->count;
}

const OnnxOperatorEntry onnx_shape_operators[] = {
	{"Concat", op_concat},
	{"Constant", op_constant},
	{"Flatten", op_flatten},
	{"Gather", op_gather},
	{"Reshape", op_reshape},
	{"Slice", op_slice},
	{"Split", op_split},
	{"Squeeze", op_squeeze},
	{"Unsqueeze", op_unsqueeze},
	{NULL, NULL}
};

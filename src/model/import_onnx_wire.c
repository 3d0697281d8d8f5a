/*-------------------------------------------------------------------------
 *
 * import_onnx_wire.c
 *		The bytes of an ONNX file as structs.
 *
 * ONNX is a protobuf message.  Its wire format is five kinds of field, so it
 * is read here rather than by a library: what is damaged is said with its
 * position in the file, nesting is only as deep as the functions below call
 * each other, the memory used is bounded by the file's length, and no error
 * has to cross foreign code.  A field that is not known is passed over, as
 * protobuf's rules want; what changes the meaning of a model and is not read
 * here (functions, external data, sparse or segmented tensors) is refused.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "model/import_onnx.h"
#include "utils/memutils.h"

/* Nodes, attributes, tensors, inputs: more of a kind is no model. */
#define MAX_MESSAGES 1000000

typedef enum WireType
{
	WIRE_VARINT = 0,
	WIRE_FIXED64 = 1,
	WIRE_BYTES = 2,
	WIRE_FIXED32 = 5
} WireType;

/* A message, or the part of one that is not read yet. */
typedef struct Wire
{
	const uint8 *start;			/* of the file */
	const uint8 *at;
	const uint8 *end;
	const char *what;			/* the message's name */
} Wire;

/* A field's head, with its contents as far as they are of fixed length. */
typedef struct Field
{
	int			number;
	WireType	type;
	uint64		number_value;	/* varint, fixed32, fixed64 */
	Wire		bytes;
} Field;

/* A list that grows. */
typedef struct Growing
{
	void	   *items;
	int			count;
	int			allocated;
} Growing;

static void damaged(const Wire *wire, const char *problem)
			pg_attribute_noreturn();

/* Raises the error of bytes that are no such message. */
static void
damaged(const Wire *wire, const char *problem)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("the ONNX model is damaged"),
			 errdetail("In %s, at byte %zu, %s.", wire->what,
					   (size_t) (wire->at - wire->start), problem)));
}

/* One more item of this width in a list; zeroed. */
static void *
grow(const Wire *wire, Growing *list, size_t width)
{
	char	   *item;

	if (list->count == list->allocated)
	{
		int			wanted = Max(8, list->allocated * 2);

		if ((size_t) wanted > MaxAllocSize / width)
			damaged(wire, "a list is longer than can be read");
		list->items = list->items == NULL ? palloc(wanted * width) :
			repalloc(list->items, wanted * width);
		list->allocated = wanted;
	}
	item = (char *) list->items + list->count++ * width;
	memset(item, 0, width);
	return item;
}

/* The same for a list of messages, which is not expected to be endless. */
static void *
grow_messages(const Wire *wire, Growing *list, size_t width)
{
	if (list->count >= MAX_MESSAGES)
		damaged(wire, "there are more parts than can be read");
	CHECK_FOR_INTERRUPTS();
	return grow(wire, list, width);
}

static uint64
read_varint(Wire *wire)
{
	uint64		value = 0;

	for (int shift = 0; shift < 70; shift += 7)
	{
		uint8		byte;

		if (wire->at == wire->end)
			damaged(wire, "a number is cut off");
		byte = *wire->at++;
		if (shift == 63 && byte > 1)
			break;
		value |= (uint64) (byte & 0x7F) << shift;
		if ((byte & 0x80) == 0)
			return value;
	}
	damaged(wire, "a number is too long");
}

/* Little-endian, as protobuf writes. */
static uint64
read_fixed(Wire *wire, int width)
{
	uint64		value = 0;

	if (wire->end - wire->at < width)
		damaged(wire, "a number is cut off");
	for (int i = 0; i < width; i++)
		value |= (uint64) wire->at[i] << (8 * i);
	wire->at += width;
	return value;
}

/* The next field; false at the message's end. */
static bool
next_field(Wire *wire, Field *field)
{
	uint64		key;
	uint64		length;

	if (wire->at == wire->end)
		return false;
	key = read_varint(wire);
	if (key >> 3 == 0 || key >> 3 > 536870911)
		damaged(wire, "a field has no valid number");
	field->number = (int) (key >> 3);
	field->type = (WireType) (key & 7);
	switch (field->type)
	{
		case WIRE_VARINT:
			field->number_value = read_varint(wire);
			return true;
		case WIRE_FIXED64:
			field->number_value = read_fixed(wire, 8);
			return true;
		case WIRE_FIXED32:
			field->number_value = read_fixed(wire, 4);
			return true;
		case WIRE_BYTES:
			length = read_varint(wire);
			if (length > (uint64) (wire->end - wire->at))
				damaged(wire, "a field is longer than what is left");
			field->bytes = *wire;
			field->bytes.end = wire->at + length;
			wire->at += length;
			return true;
	}
	damaged(wire, "a field has no valid type");
}

/* ERROR unless the field came with this wire type. */
static void
expect(const Wire *wire, const Field *field, WireType type)
{
	if (field->type != type)
		damaged(wire, psprintf("field %d has another type than it should",
							   field->number));
}

static int64
field_int(const Wire *wire, const Field *field)
{
	expect(wire, field, WIRE_VARINT);
	return (int64) field->number_value;
}

static double
float_of(uint64 bits)
{
	uint32		word = (uint32) bits;
	float		value;

	memcpy(&value, &word, sizeof(value));
	return value;
}

static double
double_of(uint64 bits)
{
	double		value;

	memcpy(&value, &bits, sizeof(value));
	return value;
}

/* A string in the database's encoding. */
static char *
field_text(const Wire *wire, const Field *field)
{
	int			length;
	char	   *text;

	expect(wire, field, WIRE_BYTES);
	length = (int) (field->bytes.end - field->bytes.at);
	text = pnstrdup((const char *) field->bytes.at, length);
	if (strlen(text) != length ||
		pg_verify_mbstr(PG_UTF8, text, length, true) == false)
		damaged(&field->bytes, "a text is not valid UTF-8");
	return pg_any_to_server(text, length, PG_UTF8);
}

/* The message that a field holds. */
static Wire
field_message(const Wire *wire, const Field *field, const char *what)
{
	Wire		inner;

	expect(wire, field, WIRE_BYTES);
	inner = field->bytes;
	inner.what = what;
	return inner;
}

/* Adds the numbers of a repeated field, one or packed, as integers. */
static void
add_ints(const Wire *wire, const Field *field, Growing *list)
{
	Wire		packed;

	if (field->type == WIRE_VARINT)
	{
		*(int64 *) grow(wire, list, sizeof(int64)) =
			(int64) field->number_value;
		return;
	}
	packed = field_message(wire, field, wire->what);
	while (packed.at < packed.end)
		*(int64 *) grow(wire, list, sizeof(int64)) =
			(int64) read_varint(&packed);
}

/* The same for float (width 4) and double (width 8). */
static void
add_floats(const Wire *wire, const Field *field, Growing *list, int width)
{
	Wire		packed;

	if (field->type == (width == 4 ? WIRE_FIXED32 : WIRE_FIXED64))
	{
		*(double *) grow(wire, list, sizeof(double)) = width == 4 ?
			float_of(field->number_value) : double_of(field->number_value);
		return;
	}
	packed = field_message(wire, field, wire->what);
	while (packed.at < packed.end)
	{
		uint64		bits = read_fixed(&packed, width);

		*(double *) grow(wire, list, sizeof(double)) =
			width == 4 ? float_of(bits) : double_of(bits);
	}
}

static void
add_text(const Wire *wire, const Field *field, Growing *list)
{
	*(char **) grow(wire, list, sizeof(char *)) = field_text(wire, field);
}

/* ---- tensors ---- */

/* Bytes of one element in raw_data, or 0. */
static int
raw_width(OnnxType type)
{
	switch (type)
	{
		case ONNX_UINT8:
		case ONNX_INT8:
		case ONNX_BOOL:
			return 1;
		case ONNX_UINT16:
		case ONNX_INT16:
			return 2;
		case ONNX_FLOAT:
		case ONNX_INT32:
		case ONNX_UINT32:
			return 4;
		case ONNX_INT64:
		case ONNX_DOUBLE:
			return 8;
		default:
			return 0;
	}
}

/* An element of raw_data of an integer type, with its sign. */
static int64
raw_integer(OnnxType type, uint64 bits)
{
	switch (type)
	{
		case ONNX_INT8:
			return (int8) bits;
		case ONNX_INT16:
			return (int16) bits;
		case ONNX_INT32:
			return (int32) bits;
		default:
			return (int64) bits;
	}
}

static void
add_raw(OnnxTensor *tensor, Wire raw, Growing *numbers, Growing *integers)
{
	int			width = raw_width(tensor->type);

	if (width == 0 || (raw.end - raw.at) % width != 0)
		damaged(&raw, "raw data does not fit the tensor's type");
	while (raw.at < raw.end)
	{
		uint64		bits = read_fixed(&raw, width);

		if (tensor->type == ONNX_FLOAT)
			*(double *) grow(&raw, numbers, sizeof(double)) = float_of(bits);
		else if (tensor->type == ONNX_DOUBLE)
			*(double *) grow(&raw, numbers, sizeof(double)) = double_of(bits);
		else
			*(int64 *) grow(&raw, integers, sizeof(int64)) =
				raw_integer(tensor->type, bits);
	}
}

/* ERROR unless there are as many elements as the dimensions say. */
static void
finish_tensor(const Wire *wire, OnnxTensor *tensor, const Growing *dims,
			  const Growing *numbers, const Growing *integers,
			  const Growing *texts)
{
	int64		count = 1;
	int			found;

	if (dims->count > ONNX_MAX_RANK)
		damaged(wire, "a tensor has too many dimensions");
	tensor->rank = dims->count;
	for (int i = 0; i < dims->count; i++)
	{
		tensor->dims[i] = ((int64 *) dims->items)[i];
		if (tensor->dims[i] < 0 || tensor->dims[i] > PG_INT32_MAX)
			damaged(wire, "a tensor has no valid dimensions");
		count *= tensor->dims[i];
		if (count > PG_INT32_MAX)
			damaged(wire, "a tensor has no valid dimensions");
	}
	found = tensor->type == ONNX_STRING ? texts->count :
		tensor->type == ONNX_FLOAT || tensor->type == ONNX_DOUBLE ?
		numbers->count : integers->count;
	if (found != count)
		damaged(wire, psprintf("a tensor has %d elements where its dimensions say " INT64_FORMAT,
							   found, count));
	tensor->count = found;
	tensor->numbers = numbers->items;
	tensor->integers = integers->items;
	tensor->texts = texts->items;
}

static void
read_tensor(Wire wire, OnnxTensor *tensor)
{
	Growing		dims = {0};
	Growing		numbers = {0};
	Growing		integers = {0};
	Growing		texts = {0};
	Field		field;
	Wire		raw = {0};

	tensor->name = "";
	while (next_field(&wire, &field))
		switch (field.number)
		{
			case 1:
				add_ints(&wire, &field, &dims);
				break;
			case 2:
				tensor->type = (OnnxType) field_int(&wire, &field);
				break;
			case 4:
				add_floats(&wire, &field, &numbers, 4);
				break;
			case 5:				/* int32_data, int64_data, uint64_data */
			case 7:
			case 11:
				add_ints(&wire, &field, &integers);
				break;
			case 6:
				add_text(&wire, &field, &texts);
				break;
			case 8:
				tensor->name = field_text(&wire, &field);
				break;
			case 9:
				raw = field_message(&wire, &field, "raw data");
				break;
			case 10:
				add_floats(&wire, &field, &numbers, 8);
				break;
			case 3:
			case 13:
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("tensors outside the ONNX file are not supported")));
		}
	if (raw.at != NULL)
		add_raw(tensor, raw, &numbers, &integers);
	finish_tensor(&wire, tensor, &dims, &numbers, &integers, &texts);
}

/* ---- types of inputs and outputs ---- */

static void
read_dimension(Wire wire, OnnxValueInfo *info)
{
	Field		field;
	int64		dim = -1;

	if (info->rank >= ONNX_MAX_RANK)
		damaged(&wire, "a tensor has too many dimensions");
	while (next_field(&wire, &field))
		if (field.number == 1)
			dim = field_int(&wire, &field);
	info->dims[info->rank++] = dim < 0 || dim > PG_INT32_MAX ? -1 : dim;
}

static void
read_shape(Wire wire, OnnxValueInfo *info)
{
	Field		field;

	info->rank = 0;
	while (next_field(&wire, &field))
		if (field.number == 1)
			read_dimension(field_message(&wire, &field, "a dimension"), info);
}

static void
read_tensor_type(Wire wire, OnnxValueInfo *info)
{
	Field		field;

	while (next_field(&wire, &field))
		if (field.number == 1)
			info->type = (OnnxType) field_int(&wire, &field);
		else if (field.number == 2)
			read_shape(field_message(&wire, &field, "a shape"), info);
}

static void
read_value_info(Wire wire, OnnxValueInfo *info)
{
	Field		field;
	Field		inner;

	info->name = "";
	info->rank = -1;
	while (next_field(&wire, &field))
		if (field.number == 1)
			info->name = field_text(&wire, &field);
		else if (field.number == 2)
		{
			Wire		type = field_message(&wire, &field, "a type");

			while (next_field(&type, &inner))
				if (inner.number == 1)
					read_tensor_type(field_message(&type, &inner,
												   "a tensor's type"), info);
		}
}

/* ---- nodes ---- */

static void
read_attribute(Wire wire, OnnxAttribute *attribute)
{
	Growing		floats = {0};
	Growing		ints = {0};
	Growing		strings = {0};
	Field		field;
	bool		typed = false;

	attribute->name = "";
	while (next_field(&wire, &field))
		switch (field.number)
		{
			case 1:
				attribute->name = field_text(&wire, &field);
				break;
			case 2:
				expect(&wire, &field, WIRE_FIXED32);
				attribute->f = float_of(field.number_value);
				break;
			case 3:
				attribute->i = field_int(&wire, &field);
				break;
			case 4:
				attribute->s = field_text(&wire, &field);
				break;
			case 5:
				attribute->t = palloc0(sizeof(OnnxTensor));
				read_tensor(field_message(&wire, &field, "a tensor"),
							attribute->t);
				break;
			case 7:
				add_floats(&wire, &field, &floats, 4);
				break;
			case 8:
				add_ints(&wire, &field, &ints);
				break;
			case 9:
				add_text(&wire, &field, &strings);
				break;
			case 20:
				attribute->type = (int) field_int(&wire, &field);
				typed = true;
				break;
		}
	if (!typed)
		damaged(&wire, psprintf("attribute \"%s\" has no type",
								attribute->name));
	attribute->floats = floats.items;
	attribute->ints = ints.items;
	attribute->strings = strings.items;
	if (attribute->type == ONNX_ATTRIBUTE_FLOATS)
		attribute->count = floats.count;
	else if (attribute->type == ONNX_ATTRIBUTE_INTS)
		attribute->count = ints.count;
	else if (attribute->type == ONNX_ATTRIBUTE_STRINGS)
		attribute->count = strings.count;
	else if (attribute->type == ONNX_ATTRIBUTE_STRING && attribute->s == NULL)
		attribute->s = "";
	else if (attribute->type == ONNX_ATTRIBUTE_TENSOR && attribute->t == NULL)
		damaged(&wire, psprintf("attribute \"%s\" has no tensor",
								attribute->name));
}

static void
read_node(Wire wire, OnnxNode *node)
{
	Growing		inputs = {0};
	Growing		outputs = {0};
	Growing		attributes = {0};
	Field		field;

	node->name = node->op_type = node->domain = "";
	node->position = wire.at - wire.start;
	while (next_field(&wire, &field))
		switch (field.number)
		{
			case 1:
				add_text(&wire, &field, &inputs);
				break;
			case 2:
				add_text(&wire, &field, &outputs);
				break;
			case 3:
				node->name = field_text(&wire, &field);
				break;
			case 4:
				node->op_type = field_text(&wire, &field);
				break;
			case 5:
				read_attribute(field_message(&wire, &field, "an attribute"),
							   grow_messages(&wire, &attributes,
											 sizeof(OnnxAttribute)));
				break;
			case 7:
				node->domain = field_text(&wire, &field);
				break;
		}
	if (strcmp(node->domain, "ai.onnx") == 0)
		node->domain = "";
	node->inputs = inputs.items;
	node->input_count = inputs.count;
	node->outputs = outputs.items;
	node->output_count = outputs.count;
	node->attributes = attributes.items;
	node->attribute_count = attributes.count;
}

/* ---- the graph and the model ---- */

static void
read_graph(Wire wire, OnnxModel *model)
{
	Growing		nodes = {0};
	Growing		initializers = {0};
	Growing		inputs = {0};
	Growing		outputs = {0};
	Field		field;

	while (next_field(&wire, &field))
		switch (field.number)
		{
			case 1:
				read_node(field_message(&wire, &field, "a node"),
						  grow_messages(&wire, &nodes, sizeof(OnnxNode)));
				break;
			case 5:
				read_tensor(field_message(&wire, &field, "an initializer"),
							grow_messages(&wire, &initializers,
										  sizeof(OnnxTensor)));
				break;
			case 11:
				read_value_info(field_message(&wire, &field, "an input"),
								grow_messages(&wire, &inputs,
											  sizeof(OnnxValueInfo)));
				break;
			case 12:
				read_value_info(field_message(&wire, &field, "an output"),
								grow_messages(&wire, &outputs,
											  sizeof(OnnxValueInfo)));
				break;
			case 15:
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("sparse initializers of ONNX are not supported")));
		}
	model->nodes = nodes.items;
	model->node_count = nodes.count;
	model->initializers = initializers.items;
	model->initializer_count = initializers.count;
	model->inputs = inputs.items;
	model->input_count = inputs.count;
	model->outputs = outputs.items;
	model->output_count = outputs.count;
}

static void
read_opset(Wire wire, OnnxModel *model)
{
	Field		field;
	char	   *domain = "";
	int64		version = 0;

	while (next_field(&wire, &field))
		if (field.number == 1)
			domain = field_text(&wire, &field);
		else if (field.number == 2)
			version = field_int(&wire, &field);
	if (domain[0] == '\0' || strcmp(domain, "ai.onnx") == 0)
		model->opset = version;
	else if (strcmp(domain, "ai.onnx.ml") == 0)
		model->opset_ml = version;
}

/* The model in these bytes, which need not outlive the call. */
OnnxModel *
onnx_read(const char *data, size_t size)
{
	const uint8 *bytes = (const uint8 *) data;
	Wire		wire = {bytes, bytes, bytes + size, "the model"};
	OnnxModel  *model = palloc0(sizeof(OnnxModel));
	Field		field;
	bool		graph = false;

	model->producer = "";
	while (next_field(&wire, &field))
		switch (field.number)
		{
			case 1:
				model->ir_version = field_int(&wire, &field);
				break;
			case 2:
				model->producer = field_text(&wire, &field);
				break;
			case 7:
				if (graph)
					damaged(&wire, "there is a second graph");
				graph = true;
				read_graph(field_message(&wire, &field, "the graph"), model);
				break;
			case 8:
				read_opset(field_message(&wire, &field, "an operator set"),
						   model);
				break;
			case 25:
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("functions inside an ONNX model are not supported")));
		}
	if (!graph)
		damaged(&wire, "there is no graph");
	return model;
}

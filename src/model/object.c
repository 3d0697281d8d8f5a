/*-------------------------------------------------------------------------
 *
 * object.c
 *		A model's inputs found among the members of a JSON object.
 *
 * The members of an object come in order, by length and then by bytes, so
 * one pass over them finds all inputs that are there.  Where one is not, or
 * is of a type that cannot be a feature, the inputs are looked for one after
 * the other in the model's order, and the first that is wrong is reported.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "model/model.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

/* An input by its name; in the order of an object's members. */
struct ModelMember
{
	const char *name;
	uint32		length;
	uint32		input;
};

/* An object's order of keys: by length, then by bytes. */
static int
compare_keys(const char *a, uint32 a_length, const char *b, uint32 b_length)
{
	if (a_length != b_length)
		return a_length < b_length ? -1 : 1;
	return memcmp(a, b, a_length);
}

static int
by_key(const void *a, const void *b)
{
	const ModelMember *left = a;
	const ModelMember *right = b;

	return compare_keys(left->name, left->length, right->name, right->length);
}

/* The inputs in the order of an object's members; made once a binding. */
static const ModelMember *
sorted_members(ModelBinding *binding)
{
	const ModelImage *image = binding->entry->image;

	if (binding->members != NULL)
		return binding->members;
	binding->members = MemoryContextAlloc(binding->context,
										  sizeof(ModelMember) *
										  Max(image->input_count, 1));
	for (uint32 i = 0; i < image->input_count; i++)
	{
		ModelMember *member = &binding->members[i];

		member->name = model_string(image, model_inputs(image)[i].name);
		member->length = strlen(member->name);
		member->input = i;
	}
	qsort(binding->members, image->input_count, sizeof(ModelMember), by_key);
	return binding->members;
}

/* The slot of an input for a member's value; false for no feature's type. */
static bool
read_value(const ModelBinding *binding, uint32 number,
		   const JsonbValue *value)
{
	const ModelImage *image = binding->entry->image;
	const ModelInput *input = &model_inputs(image)[number];
	ModelTexts	texts;
	ModelSource source = {.reader = READ_NUMERIC,.texts = &texts};
	Datum		datum = (Datum) 0;

	texts.known = NULL;
	source.as_text = input->kind == MODEL_CATEGORY;
	switch (value->type)
	{
		case jbvNull:
			break;
		case jbvBool:
			source.reader = READ_BOOL;
			datum = BoolGetDatum(value->val.boolean);
			break;
		case jbvNumeric:
			datum = NumericGetDatum(value->val.numeric);
			break;
		case jbvString:
			source.reader = READ_LITERAL;
			datum = CStringGetDatum(pnstrdup(value->val.string.val,
											 value->val.string.len));
			break;
		default:
			return false;
	}
	binding->workspace[number] = model_source_slot(&source, image, input,
												   datum,
												   value->type == jbvNull);
	return true;
}

/* The value that an entry of an object describes; false for a container. */
static bool
entry_value(JEntry entry, char *base, uint32 offset, uint32 length,
			JsonbValue *value)
{
	if (JBE_ISNULL(entry))
		value->type = jbvNull;
	else if (JBE_ISBOOL(entry))
	{
		value->type = jbvBool;
		value->val.boolean = JBE_ISBOOL_TRUE(entry);
	}
	else if (JBE_ISNUMERIC(entry))
	{
		value->type = jbvNumeric;
		value->val.numeric = (Numeric) (base + INTALIGN(offset));
	}
	else if (JBE_ISSTRING(entry))
	{
		value->type = jbvString;
		value->val.string.val = base + offset;
		value->val.string.len = length;
	}
	else
		return false;
	return true;
}

/* How long what an entry describes is, of which this is the offset. */
static inline uint32
entry_length(JEntry entry, uint32 offset)
{
	return JBE_HAS_OFF(entry) ? JBE_OFFLENFLD(entry) - offset :
		JBE_OFFLENFLD(entry);
}

/* Takes all inputs in one pass; false where one is not there or wrong. */
static bool
fill_in_order(ModelBinding *binding, Jsonb *features)
{
	const ModelMember *member = sorted_members(binding);
	const ModelMember *end = member + binding->entry->image->input_count;
	JsonbContainer *object = &features->root;
	uint32		count = JsonContainerSize(object);
	char	   *base = (char *) &object->children[2 * count];
	uint32		key = 0;
	uint32		offset = count == 0 ? 0 : getJsonbOffset(object, count);

	for (uint32 i = 0; i < count && member < end; i++)
	{
		JEntry		entry = object->children[count + i];
		uint32		key_length = entry_length(object->children[i], key);
		uint32		length = entry_length(entry, offset);
		int			order = 0;

		while (member < end &&
			   (order = compare_keys(member->name, member->length,
									 base + key, key_length)) == 0)
		{
			JsonbValue	value;

			if (!entry_value(entry, base, offset, length, &value) ||
				!read_value(binding, member->input, &value))
				return false;
			member++;
		}
		if (order < 0)
			return false;
		key += key_length;
		offset += length;
	}
	return member == end;
}

/* Takes an input by itself; ERROR where it is not there or wrong. */
static void
fill_member(ModelBinding *binding, Jsonb *features, uint32 number)
{
	const ModelEntry *entry = binding->entry;
	const char *name = model_string(entry->image,
									model_inputs(entry->image)[number].name);
	JsonbValue	buffer;
	JsonbValue *found = getKeyJsonValueFromContainer(&features->root, name,
													 strlen(name), &buffer);

	if (found == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the object has no member \"%s\", which model \"%s\" "
						"needs", name, entry->model),
				 errhint("Give null for a missing value.")));
	if (!read_value(binding, number, found))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("member \"%s\" must be a number, text, boolean "
						"or null", name)));
}

/* Takes the inputs from an object; the binding is one that was borrowed. */
void
model_fill_object(ModelBinding *binding, Jsonb *features)
{
	if (fill_in_order(binding, features))
		return;
	for (uint32 i = 0; i < binding->entry->image->input_count; i++)
		fill_member(binding, features, i);
}

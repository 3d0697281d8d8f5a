/*-------------------------------------------------------------------------
 *
 * schema.c
 *		Holds a JSON value to a JSON Schema.
 *
 * The part of JSON Schema (2020-12) that Visage's own schemas are written
 * in: $ref to #/$defs, type, const, enum, properties, required,
 * additionalProperties, propertyNames, items, minItems, minLength, maxLength,
 * minimum, maximum, pattern, and oneOf whose alternatives differ in the
 * constant of member "type" or in their own type, so that an error can be
 * told of the one that was meant.  Other keywords are annotations.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_collation.h"
#include "core/core.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "regex/regex.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

typedef struct Check
{
	JsonbValue *root;			/* of the schema, for $ref */
	char	   *path;			/* where the first fault is */
	char	   *fault;
} Check;

static bool check_value(Check *check, JsonbValue *schema, JsonbValue *value,
						const char *path);

/* ---- values ---- */

/* The member of an object, or NULL. */
static JsonbValue *
member(JsonbValue *object, const char *key)
{
	if (object == NULL || object->type != jbvBinary ||
		!JsonContainerIsObject(object->val.binary.data))
		return NULL;
	return getKeyJsonValueFromContainer(object->val.binary.data, key,
										strlen(key), NULL);
}

static bool
is_array(JsonbValue *value)
{
	return value != NULL && value->type == jbvBinary &&
		JsonContainerIsArray(value->val.binary.data);
}

static int
count_of(JsonbValue *value)
{
	return JsonContainerSize(value->val.binary.data);
}

static JsonbValue *
element(JsonbValue *array, int i)
{
	return getIthJsonbValueFromContainer(array->val.binary.data, i);
}

static char *
string_of(JsonbValue *value)
{
	return pnstrdup(value->val.string.val, value->val.string.len);
}

static double
number_of(JsonbValue *value)
{
	return DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow,
											  NumericGetDatum(value->val.numeric)));
}

/* A value as JSON text, for messages and comparisons. */
static char *
text_of(JsonbValue *value)
{
	Jsonb	   *jsonb = JsonbValueToJsonb(value);

	return JsonbToCString(NULL, &jsonb->root, VARSIZE(jsonb));
}

static const char *
type_of(JsonbValue *value)
{
	switch (value->type)
	{
		case jbvNull:
			return "null";
		case jbvString:
			return "string";
		case jbvNumeric:
			return "number";
		case jbvBool:
			return "boolean";
		default:
			return is_array(value) ? "array" : "object";
	}
}

/* Is the value of this JSON Schema type? */
static bool
has_type(JsonbValue *value, const char *type)
{
	if (strcmp(type, "integer") == 0)
		return value->type == jbvNumeric &&
			number_of(value) == floor(number_of(value));
	return strcmp(type, type_of(value)) == 0;
}

/* Notes the first fault; false, so that callers can return it. */
static bool
fault(Check *check, const char *path, char *text)
{
	if (check->fault == NULL)
	{
		check->path = pstrdup(path);
		check->fault = text;
	}
	return false;
}

/* ---- keywords ---- */

static bool
check_type(Check *check, JsonbValue *type, JsonbValue *value,
		   const char *path)
{
	if (type == NULL)
		return true;
	if (type->type == jbvString)
	{
		if (has_type(value, string_of(type)))
			return true;
		return fault(check, path, psprintf("must be of type %s, not %s",
										   string_of(type), type_of(value)));
	}
	for (int i = 0; i < count_of(type); i++)
		if (has_type(value, string_of(element(type, i))))
			return true;
	return fault(check, path, psprintf("must be of one of the types %s, not %s",
									   text_of(type), type_of(value)));
}

static bool
check_constants(Check *check, JsonbValue *schema, JsonbValue *value,
				const char *path)
{
	JsonbValue *constant = member(schema, "const");
	JsonbValue *choices = member(schema, "enum");
	char	   *text = constant || choices ? text_of(value) : NULL;

	if (constant != NULL && strcmp(text, text_of(constant)) != 0)
		return fault(check, path, psprintf("must be %s, not %s",
										   text_of(constant), text));
	if (choices == NULL)
		return true;
	for (int i = 0; i < count_of(choices); i++)
		if (strcmp(text, text_of(element(choices, i))) == 0)
			return true;
	return fault(check, path, psprintf("must be one of %s, not %s",
									   text_of(choices), text));
}

static bool
matches(const char *pattern, const char *text)
{
	return RE_compile_and_execute(cstring_to_text(pattern), (char *) text,
								  strlen(text), REG_ADVANCED,
								  C_COLLATION_OID, 0, NULL);
}

static bool
check_scalar(Check *check, JsonbValue *schema, JsonbValue *value,
			 const char *path)
{
	JsonbValue *limit;

	if (value->type == jbvString)
	{
		char	   *text = string_of(value);
		int			len = pg_mbstrlen(text);

		if ((limit = member(schema, "minLength")) && len < number_of(limit))
			return fault(check, path, psprintf("must have at least %s "
											   "characters", text_of(limit)));
		if ((limit = member(schema, "maxLength")) && len > number_of(limit))
			return fault(check, path, psprintf("must have at most %s "
											   "characters", text_of(limit)));
		if ((limit = member(schema, "pattern")) &&
			!matches(string_of(limit), text))
			return fault(check, path, psprintf("must match %s, but is \"%s\"",
											   string_of(limit), text));
	}
	if (value->type == jbvNumeric)
	{
		if ((limit = member(schema, "minimum")) &&
			number_of(value) < number_of(limit))
			return fault(check, path, psprintf("must be at least %s",
											   text_of(limit)));
		if ((limit = member(schema, "maximum")) &&
			number_of(value) > number_of(limit))
			return fault(check, path, psprintf("must be at most %s",
											   text_of(limit)));
	}
	return true;
}

static bool
check_array(Check *check, JsonbValue *schema, JsonbValue *value,
			const char *path)
{
	JsonbValue *items = member(schema, "items");
	JsonbValue *least = member(schema, "minItems");

	if (least != NULL && count_of(value) < number_of(least))
		return fault(check, path, psprintf("must have at least %s elements",
										   text_of(least)));
	for (int i = 0; items != NULL && i < count_of(value); i++)
		if (!check_value(check, items, element(value, i),
						 psprintf("%s[%d]", path, i)))
			return false;
	return true;
}

/* The names that an object may have, for an error about another. */
static char *
known_names(JsonbValue *properties)
{
	int			count;
	char	  **keys;
	StringInfoData list;

	if (properties == NULL)
		return pstrdup("none");
	keys = core_json_keys(JsonbValueToJsonb(properties), &count);
	initStringInfo(&list);
	for (int i = 0; i < count; i++)
		appendStringInfo(&list, "%s%s", i ? ", " : "", keys[i]);
	return list.data;
}

/* One member of an object. */
static bool
check_member(Check *check, JsonbValue *schema, const char *name,
			 JsonbValue *value, const char *path)
{
	JsonbValue *properties = member(schema, "properties");
	JsonbValue *known = member(properties, name);
	JsonbValue *others = member(schema, "additionalProperties");
	JsonbValue *names = member(schema, "propertyNames");
	char	   *at = psprintf("%s.%s", path, name);

	if (names != NULL)
	{
		JsonbValue	key = {.type = jbvString};

		key.val.string.val = (char *) name;
		key.val.string.len = strlen(name);
		if (!check_value(check, names, &key, at))
			return false;
	}
	if (known != NULL)
		return check_value(check, known, value, at);
	if (others == NULL)
		return true;
	if (others->type == jbvBool)
		return others->val.boolean ||
			fault(check, at, psprintf("is not known here (known: %s)",
									  known_names(properties)));
	return check_value(check, others, value, at);
}

static bool
check_object(Check *check, JsonbValue *schema, JsonbValue *value,
			 const char *path)
{
	JsonbValue *required = member(schema, "required");
	int			count;
	char	  **keys = core_json_keys(JsonbValueToJsonb(value), &count);

	for (int i = 0; required != NULL && i < count_of(required); i++)
	{
		char	   *name = string_of(element(required, i));

		if (member(value, name) == NULL)
			return fault(check, path, psprintf("needs a member \"%s\"",
											   name));
	}
	for (int i = 0; i < count; i++)
		if (!check_member(check, schema, keys[i], member(value, keys[i]),
						  path))
			return false;
	return true;
}

/* What "$ref": "#/$defs/name" refers to; other schemas are themselves. */
static JsonbValue *
resolve(Check *check, JsonbValue *schema)
{
	JsonbValue *ref = member(schema, "$ref");
	JsonbValue *found;

	if (ref == NULL)
		return schema;
	found = member(member(check->root, "$defs"),
				   string_of(ref) + strlen("#/$defs/"));
	if (found == NULL)
		elog(ERROR, "schema has no %s", string_of(ref));
	return resolve(check, found);
}

/* Is this the alternative that the value means to be? */
static bool
is_meant(JsonbValue *alternative, JsonbValue *value)
{
	JsonbValue *type = member(alternative, "type");
	JsonbValue *tag = member(member(member(alternative, "properties"),
									"type"), "const");
	JsonbValue *is = member(value, "type");

	if (tag != NULL)
		return is != NULL && strcmp(text_of(tag), text_of(is)) == 0;
	return type != NULL && type->type == jbvString &&
		has_type(value, string_of(type));
}

static bool
check_one_of(Check *check, JsonbValue *alternatives, JsonbValue *value,
			 const char *path)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < count_of(alternatives); i++)
	{
		JsonbValue *alternative = resolve(check, element(alternatives, i));
		JsonbValue *tag = member(member(member(alternative, "properties"),
										"type"), "const");

		if (is_meant(alternative, value))
			return check_value(check, alternative, value, path);
		appendStringInfo(&list, "%s%s", i ? ", " : "",
						 tag ? text_of(tag) :
						 text_of(member(alternative, "type")));
	}
	return fault(check, path, psprintf("must have a type that is one of: %s",
									   list.data));
}

static bool
check_value(Check *check, JsonbValue *schema, JsonbValue *value,
			const char *path)
{
	JsonbValue *alternatives;
	JsonbValue *ref = member(schema, "$ref");

	check_stack_depth();
	/* what stands beside a $ref are annotations only */
	if (ref != NULL)
		schema = resolve(check, schema);
	if (!check_type(check, member(schema, "type"), value, path) ||
		!check_constants(check, schema, value, path) ||
		!check_scalar(check, schema, value, path))
		return false;
	alternatives = member(schema, "oneOf");
	if (alternatives != NULL &&
		!check_one_of(check, alternatives, value, path))
		return false;
	if (is_array(value))
		return check_array(check, schema, value, path);
	if (value->type == jbvBinary)
		return check_object(check, schema, value, path);
	return true;
}

/* The value as the walk above takes it. */
static JsonbValue *
whole(Jsonb *jsonb)
{
	JsonbValue *value = palloc(sizeof(JsonbValue));

	if (JB_ROOT_IS_SCALAR(jsonb))
		return getIthJsonbValueFromContainer(&jsonb->root, 0);
	value->type = jbvBinary;
	value->val.binary.data = &jsonb->root;
	value->val.binary.len = VARSIZE(jsonb) - VARHDRSZ;
	return value;
}

/* ERROR with the JSON path where the value does not follow the schema. */
void
core_check_schema(Jsonb *schema, Jsonb *value, const char *what)
{
	Check		check = {.root = whole(schema)};

	if (!check_value(&check, check.root, whole(value), "$"))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s is invalid at %s", what, check.path),
				 errdetail("It %s.", check.fault)));
}

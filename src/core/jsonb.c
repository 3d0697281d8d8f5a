/*-------------------------------------------------------------------------
 *
 * jsonb.c
 *		Reading options, manifests and definitions.
 *
 * These are small objects that a user wrote; convenience comes before speed
 * here.  Pages of records have a scanner of their own (scan.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "core/core.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"

/* The member of an object, or NULL where it is missing or a JSON null. */
static JsonbValue *
member(Jsonb *object, const char *key, JsonbValue *result)
{
	JsonbValue *found;

	if (object == NULL || !JB_ROOT_IS_OBJECT(object))
		return NULL;
	found = getKeyJsonValueFromContainer(&object->root, key, strlen(key),
										 result);
	return (found == NULL || found->type == jbvNull) ? NULL : found;
}

/* A value as the text a user would read: strings without their quotes. */
static char *
value_text(JsonbValue *value)
{
	Jsonb	   *jsonb;

	if (value->type == jbvString)
		return pnstrdup(value->val.string.val, value->val.string.len);
	jsonb = JsonbValueToJsonb(value);
	return JsonbToCString(NULL, &jsonb->root, VARSIZE(jsonb));
}

/* The member as text, or NULL where it is missing or a JSON null. */
char *
core_json_text(Jsonb *object, const char *key)
{
	JsonbValue	result;
	JsonbValue *found = member(object, key, &result);

	return found ? value_text(found) : NULL;
}

/* The member as jsonb, or NULL where it is missing or a JSON null. */
Jsonb *
core_json_value(Jsonb *object, const char *key)
{
	JsonbValue	result;
	JsonbValue *found = member(object, key, &result);

	return found ? JsonbValueToJsonb(found) : NULL;
}

/* The member as boolean; anything but true and false is an ERROR. */
bool
core_json_bool(Jsonb *object, const char *key, bool if_none)
{
	JsonbValue	result;
	JsonbValue *found = member(object, key, &result);

	if (found == NULL)
		return if_none;
	if (found->type != jbvBool)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" must be true or false", key),
				 errdetail("It is %s.", value_text(found))));
	return found->val.boolean;
}

/*
 * The member, an array of scalars or a string that stands for an array of
 * one, as texts; NULL where it is missing.
 */
char	  **
core_json_text_array(Jsonb *object, const char *key, int *count)
{
	JsonbValue	result;
	JsonbValue *found = member(object, key, &result);
	Jsonb	   *array;
	char	  **values;

	*count = 0;
	if (found == NULL)
		return NULL;
	if (found->type == jbvString)
	{
		values = palloc(sizeof(char *));
		values[(*count)++] = value_text(found);
		return values;
	}
	array = JsonbValueToJsonb(found);
	if (!JB_ROOT_IS_ARRAY(array) || JB_ROOT_IS_SCALAR(array))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" must be an array", key)));
	values = palloc(sizeof(char *) * Max(JB_ROOT_COUNT(array), 1));
	for (int i = 0; i < JB_ROOT_COUNT(array); i++)
		values[(*count)++] =
			value_text(getIthJsonbValueFromContainer(&array->root, i));
	return values;
}

/* The keys of an object, in jsonb's order. */
char	  **
core_json_keys(Jsonb *object, int *count)
{
	JsonbIterator *iterator;
	JsonbValue	value;
	JsonbIteratorToken token;
	char	  **keys;

	*count = 0;
	if (object == NULL || !JB_ROOT_IS_OBJECT(object))
		return NULL;
	keys = palloc(sizeof(char *) * Max(JB_ROOT_COUNT(object), 1));
	iterator = JsonbIteratorInit(&object->root);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
		if (token == WJB_KEY)
			keys[(*count)++] = value_text(&value);
	return keys;
}

/*
 * Every key of the object must be among the known ones (NULL-terminated);
 * the error lists those.
 */
void
core_check_keys(Jsonb *object, const char *what, const char *const *known)
{
	int			count;
	char	  **keys;

	if (object != NULL && !JB_ROOT_IS_OBJECT(object))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be a JSON object", what)));
	keys = core_json_keys(object, &count);
	for (int i = 0; i < count; i++)
	{
		const char *const *name = known;
		StringInfoData list;

		while (*name != NULL && strcmp(*name, keys[i]) != 0)
			name++;
		if (*name != NULL)
			continue;
		initStringInfo(&list);
		for (name = known; *name != NULL; name++)
			appendStringInfo(&list, "%s%s", name == known ? "" : ", ", *name);
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unrecognized key \"%s\" in %s", keys[i], what),
				 errhint("Known keys are: %s.", list.data)));
	}
}

/* Parses text that is known to be JSON. */
Jsonb *
core_json_parse(const char *text)
{
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
											  CStringGetDatum(text)));
}

static void
push_key(JsonbParseState **state, const char *key)
{
	JsonbValue	name = {.type = jbvString};

	name.val.string.val = (char *) key;
	name.val.string.len = strlen(key);
	pushJsonbValue(state, WJB_KEY, &name);
}

/* Pushes a value of a document into one under construction. */
static void
push_value(JsonbParseState **state, Jsonb *value)
{
	JsonbValue	content;

	if (JB_ROOT_IS_SCALAR(value))
		content = *getIthJsonbValueFromContainer(&value->root, 0);
	else
	{
		content.type = jbvBinary;
		content.val.binary.data = &value->root;
		content.val.binary.len = VARSIZE(value) - VARHDRSZ;
	}
	pushJsonbValue(state, WJB_VALUE, &content);
}

/* An object of one member. */
Jsonb *
core_json_object(const char *key, Jsonb *value)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	push_key(&state, key);
	push_value(&state, value);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/* A JSON string. */
Jsonb *
core_json_string(const char *text)
{
	JsonbValue	value = {.type = jbvString};

	value.val.string.val = (char *) text;
	value.val.string.len = strlen(text);
	return JsonbValueToJsonb(&value);
}

/*
 * A JSON merge patch (RFC 7396): members of the patch replace those of the
 * document, objects member by member; a null removes.  A null that the
 * document itself holds is the same as no member.
 */
Jsonb *
core_json_merge_patch(Jsonb *document, Jsonb *patch)
{
	JsonbParseState *state = NULL;
	int			count;
	char	  **keys;

	check_stack_depth();
	if (!JB_ROOT_IS_OBJECT(patch))
		return patch;
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	keys = core_json_keys(document, &count);
	for (int i = 0; i < count; i++)
	{
		Jsonb	   *value = core_json_value(document, keys[i]);

		if (value == NULL ||
			getKeyJsonValueFromContainer(&patch->root, keys[i],
										 strlen(keys[i]), NULL) != NULL)
			continue;
		push_key(&state, keys[i]);
		push_value(&state, value);
	}
	keys = core_json_keys(patch, &count);
	for (int i = 0; i < count; i++)
	{
		Jsonb	   *value = core_json_value(patch, keys[i]);

		if (value == NULL)
			continue;
		push_key(&state, keys[i]);
		push_value(&state,
				   core_json_merge_patch(core_json_value(document, keys[i]),
										 value));
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

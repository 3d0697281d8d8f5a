/*-------------------------------------------------------------------------
 *
 * template.c
 *		{variables} in text, in URLs and in JSON bodies.
 *
 * A template of the manifest is trusted, a value that is filled in is not:
 * in a path or parameter it is percent-encoded, in JSON escaped, in a query
 * language between quotes its quotes are doubled.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>

#include "core/core.h"
#include "ingest/ingest.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/json.h"

/* ---- percent-encoding ---- */

/*
 * Everything but RFC 3986's unreserved characters, and those that the place
 * permits besides, becomes %XX.
 */
void
ingest_append_encoded(StringInfo text, const char *value,
					  const char *permitted)
{
	for (const char *c = value; *c; c++)
	{
		if (isalnum((unsigned char) *c) || strchr("-._~", *c) != NULL ||
			strchr(permitted, *c) != NULL)
			appendStringInfoChar(text, *c);
		else
			appendStringInfo(text, "%%%02X", (unsigned char) *c);
	}
}

/* Appends "?name=value" or "&name=value". */
void
ingest_append_param(StringInfo url, const char *name, const char *value)
{
	appendStringInfoChar(url, strchr(url->data, '?') ? '&' : '?');
	ingest_append_encoded(url, name, "$:");
	appendStringInfoChar(url, '=');
	ingest_append_encoded(url, value, "$:,()*");
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
		return (c | 0x20) - 'a' + 10;
	return -1;
}

/* The text with its %XX decoded; what is none stays. */
char *
ingest_decode_percent(const char *text)
{
	StringInfoData result;

	initStringInfo(&result);
	for (const char *c = text; *c; c++)
	{
		int			high = *c == '%' ? hex_digit(c[1]) : -1;
		int			low = high >= 0 ? hex_digit(c[2]) : -1;

		if (low >= 0 && (high > 0 || low > 0))
		{
			appendStringInfoChar(&result, high * 16 + low);
			c += 2;
		}
		else
			appendStringInfoChar(&result, *c);
	}
	return result.data;
}

/* ---- text ---- */

/* The name in the braces at c, or NULL where there are none. */
static char *
variable_at(const char *c)
{
	size_t		len = strcspn(c + 1, "{}' \"\t\n");

	if (*c != '{' || c[len + 1] != '}' || len == 0)
		return NULL;
	return pnstrdup(c + 1, len);
}

static void
append_value(StringInfo result, const char *value, const char *name,
			 const IngestScope *scope)
{
	bool		outside = strcmp(name, "value") == 0 ||
	strcmp(name, "tie") == 0 || strcmp(name, "from") == 0 ||
	strcmp(name, "to") == 0;

	if (scope->encode)
	{
		/* a resource may be a path of its own */
		ingest_append_encoded(result, value,
							  strcmp(name, "resource") == 0 ? "/" : "");
		return;
	}
	for (const char *c = value; *c; c++)
	{
		if (scope->double_quotes && outside && *c == '\'')
			appendStringInfoChar(result, '\'');
		appendStringInfoChar(result, *c);
	}
}

/* A variable's value, noting in the scope what it was like. */
static char *
value_of(IngestScope *scope, const char *name)
{
	char	   *value;

	if (strcmp(name, "item") == 0 && scope->item != NULL)
		return pstrdup(scope->item);
	value = scope->lookup(scope->arg, name, &scope->secret);
	if (value == NULL)
		scope->missing = true;
	return value;
}

/*
 * The template with its variables filled in.  scope->missing is set where
 * one has no value, scope->secret where one must not be shown.
 */
char *
ingest_fill(const char *template, IngestScope *scope)
{
	StringInfoData result;

	initStringInfo(&result);
	for (const char *c = template; *c; c++)
	{
		char	   *name = *c == '{' ? variable_at(c) : NULL;
		char	   *value;

		if (name == NULL)
		{
			appendStringInfoChar(&result, *c);
			continue;
		}
		value = value_of(scope, name);
		if (value != NULL)
			append_value(&result, value, name, scope);
		c += strlen(name) + 1;
	}
	return result.data;
}

/* ---- JSON ---- */

static bool fill_value(StringInfo json, JsonbValue *template,
					   IngestScope *scope, Jsonb *options);

/* A jsonb value as one that JsonbContainer functions take. */
static JsonbValue *
whole(Jsonb *jsonb, JsonbValue *value)
{
	value->type = jbvBinary;
	value->val.binary.data = &jsonb->root;
	value->val.binary.len = VARSIZE(jsonb) - VARHDRSZ;
	return value;
}

/* The option's own JSON value where the text is "{option.NAME}" only. */
static Jsonb *
whole_option(const char *text, Jsonb *options)
{
	char	   *name = text[0] == '{' ? variable_at(text) : NULL;

	if (name == NULL || text[strlen(name) + 2] != '\0' ||
		strncmp(name, "option.", 7) != 0)
		return NULL;
	return core_json_value(options, name + 7);
}

/* A string of the template; false: it has no value, leave it out. */
static bool
fill_string(StringInfo json, const char *text, IngestScope *scope,
			Jsonb *options)
{
	Jsonb	   *option = whole_option(text, options);
	IngestScope inner = *scope;
	char	   *value;

	if (option != NULL)
	{
		(void) JsonbToCString(json, &option->root, VARSIZE(option));
		return true;
	}
	inner.missing = false;
	value = ingest_fill(text, &inner);
	scope->secret |= inner.secret;
	if (inner.missing)
		return false;
	escape_json(json, value);
	return true;
}

/* {"$number": template}: a number, or nothing where it is none. */
static bool
fill_number(StringInfo json, const char *text, IngestScope *scope)
{
	IngestScope inner = *scope;
	char	   *value;
	ScanSlice	slice;

	inner.missing = false;
	value = ingest_fill(text, &inner);
	slice.start = value;
	slice.length = strlen(value);
	if (inner.missing || strspn(value, "0123456789+-.eE") != slice.length ||
		scan_document(slice) != NULL)
		return false;
	appendStringInfoString(json, value);
	return true;
}

/* {"$each": "{option.NAME}", "item": X}: X for each element. */
static void
fill_each(StringInfo json, Jsonb *object, IngestScope *scope, Jsonb *options)
{
	Jsonb	   *list = whole_option(core_json_text(object, "$each"), options);
	Jsonb	   *item = core_json_value(object, "item");
	IngestScope inner = *scope;
	bool		first = true;

	appendStringInfoChar(json, '[');
	for (int i = 0; list != NULL && item != NULL &&
		 JB_ROOT_IS_ARRAY(list) && i < JB_ROOT_COUNT(list); i++)
	{
		JsonbValue *element = getIthJsonbValueFromContainer(&list->root, i);
		JsonbValue	template;
		int			start = json->len;

		if (element->type != jbvString)
			continue;
		inner.item = pnstrdup(element->val.string.val,
							  element->val.string.len);
		if (!first)
			appendStringInfoString(json, ", ");
		if (fill_value(json, whole(item, &template), &inner, options))
			first = false;
		else
		{
			json->len = start;
			json->data[start] = '\0';
		}
	}
	appendStringInfoChar(json, ']');
}

/* An object; false where its $if says to leave it out. */
static bool
fill_object(StringInfo json, Jsonb *object, IngestScope *scope,
			Jsonb *options)
{
	char	   *condition = core_json_text(object, "$if");
	char	   *numeral = core_json_text(object, "$number");
	int			count;
	char	  **keys = core_json_keys(object, &count);
	bool		first = true;
	bool		secret = false;

	if (condition != NULL &&
		scope->lookup(scope->arg, condition, &secret) == NULL)
		return false;
	if (numeral != NULL)
		return fill_number(json, numeral, scope);
	if (core_json_text(object, "$each") != NULL)
	{
		fill_each(json, object, scope, options);
		return true;
	}
	appendStringInfoChar(json, '{');
	for (int i = 0; i < count; i++)
	{
		JsonbValue	value;
		int			start = json->len;

		if (strcmp(keys[i], "$if") == 0)
			continue;
		(void) getKeyJsonValueFromContainer(&object->root, keys[i],
											strlen(keys[i]), &value);
		if (!first)
			appendStringInfoString(json, ", ");
		escape_json(json, keys[i]);
		appendStringInfoString(json, ": ");
		if (fill_value(json, &value, scope, options))
			first = false;
		else
		{
			json->len = start;
			json->data[start] = '\0';
		}
	}
	appendStringInfoChar(json, '}');
	return true;
}

static void
fill_array(StringInfo json, Jsonb *array, IngestScope *scope, Jsonb *options)
{
	bool		first = true;

	appendStringInfoChar(json, '[');
	for (int i = 0; i < JB_ROOT_COUNT(array); i++)
	{
		int			start = json->len;

		if (!first)
			appendStringInfoString(json, ", ");
		if (fill_value(json, getIthJsonbValueFromContainer(&array->root, i),
					   scope, options))
			first = false;
		else
		{
			json->len = start;
			json->data[start] = '\0';
		}
	}
	appendStringInfoChar(json, ']');
}

static bool
fill_value(StringInfo json, JsonbValue *template, IngestScope *scope,
		   Jsonb *options)
{
	Jsonb	   *jsonb;

	check_stack_depth();
	if (template->type == jbvString)
		return fill_string(json, pnstrdup(template->val.string.val,
										  template->val.string.len),
						   scope, options);
	jsonb = JsonbValueToJsonb(template);
	if (template->type != jbvBinary)
		(void) JsonbToCString(json, &jsonb->root, VARSIZE(jsonb));
	else if (JB_ROOT_IS_OBJECT(jsonb))
		return fill_object(json, jsonb, scope, options);
	else
		fill_array(json, jsonb, scope, options);
	return true;
}

/* The JSON template with its variables filled in, as text. */
char *
ingest_fill_json(Jsonb *template, IngestScope *scope, Jsonb *options)
{
	StringInfoData json;
	JsonbValue	value;

	initStringInfo(&json);
	(void) fill_value(&json, whole(template, &value), scope, options);
	return json.data;
}

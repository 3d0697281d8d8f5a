/*-------------------------------------------------------------------------
 *
 * json.c
 *		A stand-in for the server's jsonb, and for what reads values.
 *
 * A jsonb is a header that the server's macros can read, with a pointer to a
 * tree behind it.  Keys are unique and in jsonb's order, texts are UTF-8
 * without U+0000, as the server sees to.  Numbers stay the text that they
 * were.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>
#include <math.h>
#include <regex.h>

#include "datatype/timestamp.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "server.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

typedef struct JsonNode
{
	enum jbvType type;			/* jbvArray and jbvObject: what they are */
	char	   *text;			/* of strings and numbers */
	int			length;
	bool		boolean;
	int			count;
	int			allocated;
	struct JsonNode **children;
	struct JsonNode **keys;			/* strings */
} JsonNode;

/* ---- trees ---- */

static JsonNode *
make_node(enum jbvType type)
{
	JsonNode	   *node = palloc0(sizeof(JsonNode));

	node->type = type;
	return node;
}

static JsonNode *
make_text(enum jbvType type, const char *text, int length)
{
	JsonNode	   *node = make_node(type);

	node->text = pnstrdup(text, length);
	node->length = length;
	return node;
}

static void
add_child(JsonNode *node, JsonNode *key, JsonNode *child)
{
	if (node->count == node->allocated)
	{
		Size		size = sizeof(JsonNode *) * (node->allocated * 2 + 4);

		node->children = node->children ? repalloc(node->children, size) :
			palloc(size);
		node->keys = node->keys ? repalloc(node->keys, size) : palloc(size);
		node->allocated = node->allocated * 2 + 4;
	}
	node->keys[node->count] = key;
	node->children[node->count++] = child;
}

/* jsonb's order of keys: by length, then by bytes. */
static int
compare_keys(const char *a, int a_length, const char *b, int b_length)
{
	return a_length != b_length ? (a_length > b_length ? 1 : -1) :
		memcmp(a, b, a_length);
}

/* Puts a member in its place; of two with a key the later one stays. */
static void
put_member(JsonNode *object, JsonNode *key, JsonNode *value)
{
	int			at = 0;
	int			order = 1;

	while (at < object->count &&
		   (order = compare_keys(object->keys[at]->text,
								 object->keys[at]->length, key->text,
								 key->length)) < 0)
		at++;
	if (at < object->count && order == 0)
	{
		object->children[at] = value;
		return;
	}
	add_child(object, key, value);
	for (int i = object->count - 1; i > at; i--)
	{
		object->keys[i] = object->keys[i - 1];
		object->children[i] = object->children[i - 1];
	}
	object->keys[at] = key;
	object->children[at] = value;
}

/* ---- trees as jsonb ---- */

static Jsonb *
make_jsonb(JsonNode *node)
{
	Jsonb	   *jsonb = palloc0(sizeof(Jsonb) + sizeof(JsonNode *));
	uint32		flags = node->type == jbvObject ? JB_FOBJECT : JB_FARRAY;

	if (node->type != jbvObject && node->type != jbvArray)
	{
		JsonNode	   *array = make_node(jbvArray);

		add_child(array, NULL, node);
		node = array;
		flags |= JB_FSCALAR;
	}
	SET_VARSIZE(jsonb, sizeof(Jsonb) + sizeof(JsonNode *));
	jsonb->root.header = node->count | flags;
	memcpy(jsonb->root.children, &node, sizeof(JsonNode *));
	return jsonb;
}

static JsonNode *
node_of(const JsonbContainer *container)
{
	JsonNode	   *node;

	memcpy(&node, container->children, sizeof(JsonNode *));
	return node;
}

/* The tree that a jsonb is; that of a scalar without the array around it. */
static JsonNode *
tree_of(const Jsonb *jsonb)
{
	JsonNode	   *node = node_of(&jsonb->root);

	return JB_ROOT_IS_SCALAR(jsonb) ? node->children[0] : node;
}

static JsonbValue *
value_of(JsonNode *node, JsonbValue *value)
{
	Jsonb	   *jsonb;

	if (value == NULL)
		value = palloc(sizeof(JsonbValue));
	value->type = node->type;
	switch (node->type)
	{
		case jbvNull:
			break;
		case jbvBool:
			value->val.boolean = node->boolean;
			break;
		case jbvString:
			value->val.string.val = node->text;
			value->val.string.len = node->length;
			break;
		case jbvNumeric:
			value->val.numeric = (Numeric) cstring_to_text(node->text);
			break;
		default:
			jsonb = make_jsonb(node);
			value->type = jbvBinary;
			value->val.binary.data = &jsonb->root;
			value->val.binary.len = VARSIZE(jsonb) - VARHDRSZ;
			break;
	}
	return value;
}

static JsonNode *
node_of_value(JsonbValue *value)
{
	JsonNode	   *node;

	switch (value->type)
	{
		case jbvString:
			return make_text(jbvString, value->val.string.val,
							 value->val.string.len);
		case jbvNumeric:
			return make_text(jbvNumeric, VARDATA(value->val.numeric),
							 VARSIZE(value->val.numeric) - VARHDRSZ);
		case jbvBinary:
			return node_of(value->val.binary.data);
		default:
			node = make_node(value->type);
			node->boolean = value->type == jbvBool && value->val.boolean;
			return node;
	}
}

Jsonb *
JsonbValueToJsonb(JsonbValue *value)
{
	return make_jsonb(node_of_value(value));
}

JsonbValue *
getKeyJsonValueFromContainer(JsonbContainer *container, const char *key,
							 int length, JsonbValue *result)
{
	JsonNode	   *node = node_of(container);

	for (int i = 0; node->type == jbvObject && i < node->count; i++)
		if (compare_keys(node->keys[i]->text, node->keys[i]->length, key,
						 length) == 0)
			return value_of(node->children[i], result);
	return NULL;
}

JsonbValue *
getIthJsonbValueFromContainer(JsonbContainer *container, uint32 i)
{
	JsonNode	   *node = node_of(container);

	if (!JsonContainerIsArray(container))
		elog(ERROR, "not a jsonb array");
	return i < node->count ? value_of(node->children[i], NULL) : NULL;
}

/* ---- going through an object, without going into it ---- */

JsonbIterator *
JsonbIteratorInit(JsonbContainer *container)
{
	JsonbIterator *iterator = palloc0(sizeof(JsonbIterator));

	iterator->container = container;
	iterator->curIndex = -1;
	return iterator;
}

JsonbIteratorToken
JsonbIteratorNext(JsonbIterator **iterator, JsonbValue *value,
				  bool skip_nested)
{
	JsonNode	   *node = node_of((*iterator)->container);
	int			at = (*iterator)->curIndex++;

	if (node->type != jbvObject || !skip_nested)
		abort();
	if (at < 0)
		return WJB_BEGIN_OBJECT;
	if (at >= node->count * 2)
		return at == node->count * 2 ? WJB_END_OBJECT : WJB_DONE;
	(void) value_of(at % 2 ? node->children[at / 2] : node->keys[at / 2],
					value);
	return at % 2 ? WJB_VALUE : WJB_KEY;
}

/* ---- building an object ---- */

JsonbValue *
pushJsonbValue(JsonbParseState **state, JsonbIteratorToken token,
			   JsonbValue *value)
{
	JsonNode	  **building = (JsonNode **) state;
	JsonNode	   *object = *building;

	switch (token)
	{
		case WJB_BEGIN_OBJECT:
			if (object != NULL)
				abort();
			*building = make_node(jbvObject);
			return NULL;
		case WJB_KEY:
			add_child(object, node_of_value(value), NULL);
			return NULL;
		case WJB_VALUE:
			object->children[object->count - 1] = node_of_value(value);
			return NULL;
		case WJB_END_OBJECT:
			*building = make_node(jbvObject);
			for (int i = 0; i < object->count; i++)
				put_member(*building, object->keys[i], object->children[i]);
			return value_of(*building, NULL);
		default:
			abort();
	}
}

static void
add_all(JsonNode *to, const JsonNode *from)
{
	if (from->type != jbvArray && from->type != jbvObject)
		abort();
	for (int i = 0; i < from->count; i++)
		if (to->type == jbvObject)
			put_member(to, from->keys[i], from->children[i]);
		else
			add_child(to, NULL, from->children[i]);
}

Datum
jsonb_concat(PG_FUNCTION_ARGS)
{
	JsonNode	   *a = tree_of(PG_GETARG_JSONB_P(0));
	JsonNode	   *b = tree_of(PG_GETARG_JSONB_P(1));
	JsonNode	   *both;

	if (a->type == jbvObject && b->type == jbvObject)
	{
		both = make_node(jbvObject);
		add_all(both, a);
		add_all(both, b);
		return JsonbPGetDatum(make_jsonb(both));
	}
	both = make_node(jbvArray);
	if (a->type == jbvArray)
		add_all(both, a);
	else
		add_child(both, NULL, a);
	if (b->type == jbvArray)
		add_all(both, b);
	else
		add_child(both, NULL, b);
	return JsonbPGetDatum(make_jsonb(both));
}

/* ---- to text ---- */

void
escape_json(StringInfo to, const char *text)
{
	appendStringInfoChar(to, '"');
	for (const char *c = text; *c; c++)
		if (*c == '"' || *c == '\\')
			appendStringInfo(to, "\\%c", *c);
		else if ((unsigned char) *c < ' ')
			appendStringInfo(to, "\\u%04x", *c);
		else
			appendStringInfoChar(to, *c);
	appendStringInfoChar(to, '"');
}

static void
write_node(StringInfo to, const JsonNode *node)
{
	bool		object = node->type == jbvObject;

	check_stack_depth();
	switch (node->type)
	{
		case jbvNull:
			appendStringInfoString(to, "null");
			break;
		case jbvBool:
			appendStringInfoString(to, node->boolean ? "true" : "false");
			break;
		case jbvString:
			escape_json(to, node->text);
			break;
		case jbvNumeric:
			appendStringInfoString(to, node->text);
			break;
		default:
			appendStringInfoChar(to, object ? '{' : '[');
			for (int i = 0; i < node->count; i++)
			{
				if (i > 0)
					appendStringInfoString(to, ", ");
				if (object)
				{
					write_node(to, node->keys[i]);
					appendStringInfoString(to, ": ");
				}
				write_node(to, node->children[i]);
			}
			appendStringInfoChar(to, object ? '}' : ']');
			break;
	}
}

char *
JsonbToCString(StringInfo to, JsonbContainer *container, int length)
{
	JsonNode	   *node = node_of(container);

	if (to == NULL)
	{
		to = palloc(sizeof(StringInfoData));
		initStringInfo(to);
	}
	write_node(to, JsonContainerIsScalar(container) ? node->children[0] :
			   node);
	return to->data;
}

/* ---- from text ---- */

static void
refuse(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
			 errmsg("no JSON")));
}

static void
skip_space(const char **c)
{
	while (**c == ' ' || **c == '\t' || **c == '\n' || **c == '\r')
		(*c)++;
}

/* The number of "XXXX", and surrogates with their second half. */
static uint32
take_escaped(const char **c)
{
	uint32		code = 0;

	for (int i = 0; i < 4; i++, (*c)++)
	{
		if (!isxdigit((unsigned char) **c))
			refuse();
		code = code * 16 + (isdigit((unsigned char) **c) ? **c - '0' :
							(**c | 0x20) - 'a' + 10);
	}
	if (code >= 0xDC00 && code <= 0xDFFF)
		refuse();
	if (code >= 0xD800 && code <= 0xDBFF)
	{
		uint32		low = 0;

		if ((*c)[0] != '\\' || (*c)[1] != 'u')
			refuse();
		*c += 2;
		for (int i = 0; i < 4; i++, (*c)++)
		{
			if (!isxdigit((unsigned char) **c))
				refuse();
			low = low * 16 + (isdigit((unsigned char) **c) ? **c - '0' :
							  (**c | 0x20) - 'a' + 10);
		}
		if (low < 0xDC00 || low > 0xDFFF)
			refuse();
		code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
	}
	if (code == 0)
		refuse();
	return code;
}

static void
append_character(StringInfo to, uint32 code)
{
	if (code < 0x80)
		appendStringInfoChar(to, code);
	else if (code < 0x800)
	{
		appendStringInfoChar(to, 0xC0 | code >> 6);
		appendStringInfoChar(to, 0x80 | (code & 0x3F));
	}
	else if (code < 0x10000)
	{
		appendStringInfoChar(to, 0xE0 | code >> 12);
		appendStringInfoChar(to, 0x80 | ((code >> 6) & 0x3F));
		appendStringInfoChar(to, 0x80 | (code & 0x3F));
	}
	else
	{
		appendStringInfoChar(to, 0xF0 | code >> 18);
		appendStringInfoChar(to, 0x80 | ((code >> 12) & 0x3F));
		appendStringInfoChar(to, 0x80 | ((code >> 6) & 0x3F));
		appendStringInfoChar(to, 0x80 | (code & 0x3F));
	}
}

static JsonNode *
parse_string(const char **c)
{
	static const char escapes[] = "\"\\/bfnrt";
	static const char meant[] = "\"\\/\b\f\n\r\t";
	StringInfoData text;

	initStringInfo(&text);
	for ((*c)++; **c != '"';)
	{
		const char *escape;

		if ((unsigned char) **c < ' ')
			refuse();
		if (**c != '\\')
		{
			appendStringInfoChar(&text, *(*c)++);
			continue;
		}
		(*c)++;
		if (**c == 'u')
		{
			(*c)++;
			append_character(&text, take_escaped(c));
			continue;
		}
		escape = **c ? strchr(escapes, **c) : NULL;
		if (escape == NULL)
			refuse();
		appendStringInfoChar(&text, meant[escape - escapes]);
		(*c)++;
	}
	(*c)++;
	return make_text(jbvString, text.data, text.len);
}

static void
skip_digits(const char **c)
{
	if (!isdigit((unsigned char) **c))
		refuse();
	while (isdigit((unsigned char) **c))
		(*c)++;
}

static JsonNode *
parse_number(const char **c)
{
	const char *start = *c;

	if (**c == '-')
		(*c)++;
	if (**c == '0')
		(*c)++;
	else
		skip_digits(c);
	if (**c == '.')
	{
		(*c)++;
		skip_digits(c);
	}
	if (**c == 'e' || **c == 'E')
	{
		(*c)++;
		if (**c == '+' || **c == '-')
			(*c)++;
		skip_digits(c);
	}
	return make_text(jbvNumeric, start, *c - start);
}

static JsonNode *
parse_word(const char **c)
{
	JsonNode	   *node;

	if (strncmp(*c, "null", 4) == 0)
	{
		*c += 4;
		return make_node(jbvNull);
	}
	node = make_node(jbvBool);
	node->boolean = strncmp(*c, "true", 4) == 0;
	if (!node->boolean && strncmp(*c, "false", 5) != 0)
		refuse();
	*c += node->boolean ? 4 : 5;
	return node;
}

static JsonNode *
parse_value(const char **c)
{
	bool		object = **c == '{';
	char		end = object ? '}' : ']';
	JsonNode	   *node;

	check_stack_depth();
	if (**c == '"')
		return parse_string(c);
	if (**c == '-' || isdigit((unsigned char) **c))
		return parse_number(c);
	if (**c != '{' && **c != '[')
		return parse_word(c);
	node = make_node(object ? jbvObject : jbvArray);
	(*c)++;
	skip_space(c);
	while (**c != end)
	{
		JsonNode	   *key = NULL;

		if (object)
		{
			if (**c != '"')
				refuse();
			key = parse_string(c);
			skip_space(c);
			if (*(*c)++ != ':')
				refuse();
			skip_space(c);
			put_member(node, key, parse_value(c));
		}
		else
			add_child(node, NULL, parse_value(c));
		skip_space(c);
		if (**c != ',')
			break;
		(*c)++;
		skip_space(c);
		if (**c == end)
			refuse();
	}
	if (*(*c)++ != end)
		refuse();
	return node;
}

Datum
jsonb_in(PG_FUNCTION_ARGS)
{
	const char *c = PG_GETARG_CSTRING(0);
	JsonNode	   *node;

	if (!pg_verify_mbstr(PG_UTF8, c, strlen(c), true))
		refuse();
	skip_space(&c);
	node = parse_value(&c);
	skip_space(&c);
	if (*c != '\0')
		refuse();
	return JsonbPGetDatum(make_jsonb(node));
}

/* ---- calling functions, and texts ---- */

Datum
DirectFunctionCall1Coll(PGFunction function, Oid collation, Datum a)
{
	LOCAL_FCINFO(call, 1);

	InitFunctionCallInfoData(*call, NULL, 1, collation, NULL, NULL);
	call->args[0].value = a;
	return function(call);
}

Datum
DirectFunctionCall2Coll(PGFunction function, Oid collation, Datum a, Datum b)
{
	LOCAL_FCINFO(call, 2);

	InitFunctionCallInfoData(*call, NULL, 2, collation, NULL, NULL);
	call->args[0].value = a;
	call->args[1].value = b;
	return function(call);
}

Datum
DirectFunctionCall3Coll(PGFunction function, Oid collation, Datum a, Datum b,
						Datum c)
{
	LOCAL_FCINFO(call, 3);

	InitFunctionCallInfoData(*call, NULL, 3, collation, NULL, NULL);
	call->args[0].value = a;
	call->args[1].value = b;
	call->args[2].value = c;
	return function(call);
}

struct varlena *
pg_detoast_datum(struct varlena *value)
{
	return value;
}

struct varlena *
pg_detoast_datum_packed(struct varlena *value)
{
	return value;
}

text *
cstring_to_text(const char *string)
{
	Size		length = strlen(string);
	text	   *result = palloc(VARHDRSZ + length);

	SET_VARSIZE(result, VARHDRSZ + length);
	memcpy(VARDATA(result), string, length);
	return result;
}

char *
text_to_cstring(const text *string)
{
	return pnstrdup(VARDATA(string), VARSIZE(string) - VARHDRSZ);
}

int
pg_mbstrlen(const char *string)
{
	int			count = 0;

	for (; *string; string++)
		count += (*string & 0xC0) != 0x80;
	return count;
}

/* The patterns come from the schema, which is the project's own. */
bool
RE_compile_and_execute(text *pattern, char *string, int length, int flags,
					   Oid collation, int matches, regmatch_t *match)
{
	char	   *source = text_to_cstring(pattern);
	regex_t		compiled;
	bool		found;

	if (regcomp(&compiled, source, REG_EXTENDED | REG_NOSUB) != 0)
		abort();
	found = regexec(&compiled, string, 0, NULL, 0) == 0;
	regfree(&compiled);
	return found;
}

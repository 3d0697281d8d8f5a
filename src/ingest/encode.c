/*-------------------------------------------------------------------------
 *
 * encode.c
 *		A record that has been checked, as jsonb.
 *
 * scan_record has held it to everything that jsonb demands, so nothing is
 * checked again.  Numbers keep their exact value.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "ingest/ingest.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

typedef struct Encoder
{
	const char *at;
	const char *end;
	JsonbParseState *state;
} Encoder;

static JsonbValue *encode_value(Encoder *encoder,
								JsonbIteratorToken container);

static void
skip_space(Encoder *encoder)
{
	while (encoder->at < encoder->end &&
		   (*encoder->at == ' ' || *encoder->at == '\t' ||
			*encoder->at == '\n' || *encoder->at == '\r'))
		encoder->at++;
}

/* The string at the quote, decoded. */
static void
take_string(Encoder *encoder, JsonbValue *value)
{
	const char *start = ++encoder->at;
	bool		escaped = false;
	ScanSlice	quoted;
	char	   *text;

	while (*encoder->at != '"')
	{
		if (*encoder->at == '\\')
		{
			escaped = true;
			encoder->at++;
		}
		encoder->at++;
	}
	encoder->at++;
	value->type = jbvString;
	value->val.string.val = (char *) start;
	value->val.string.len = encoder->at - start - 1;
	if (!escaped)
		return;
	quoted.start = start - 1;
	quoted.length = encoder->at - quoted.start;
	text = scan_text(quoted);
	value->val.string.val = text;
	value->val.string.len = strlen(text);
}

static void
take_number(Encoder *encoder, JsonbValue *value)
{
	const char *start = encoder->at;
	char	   *text;

	while (encoder->at < encoder->end &&
		   strchr("+-.0123456789eE", *encoder->at) != NULL)
		encoder->at++;
	text = pnstrdup(start, encoder->at - start);
	value->type = jbvNumeric;
	value->val.numeric =
		DatumGetNumeric(DirectFunctionCall3(numeric_in,
											CStringGetDatum(text),
											ObjectIdGetDatum(InvalidOid),
											Int32GetDatum(-1)));
	pfree(text);
}

/* A scalar at the cursor. */
static void
take_scalar(Encoder *encoder, JsonbValue *value)
{
	switch (*encoder->at)
	{
		case '"':
			take_string(encoder, value);
			break;
		case 't':
			value->type = jbvBool;
			value->val.boolean = true;
			encoder->at += 4;
			break;
		case 'f':
			value->type = jbvBool;
			value->val.boolean = false;
			encoder->at += 5;
			break;
		case 'n':
			value->type = jbvNull;
			encoder->at += 4;
			break;
		default:
			take_number(encoder, value);
	}
}

static JsonbValue *
encode_object(Encoder *encoder)
{
	encoder->at++;
	pushJsonbValue(&encoder->state, WJB_BEGIN_OBJECT, NULL);
	for (;;)
	{
		JsonbValue	key;

		skip_space(encoder);
		if (*encoder->at == '}')
			break;
		if (*encoder->at == ',')
		{
			encoder->at++;
			continue;
		}
		take_string(encoder, &key);
		pushJsonbValue(&encoder->state, WJB_KEY, &key);
		skip_space(encoder);
		encoder->at++;			/* the colon */
		(void) encode_value(encoder, WJB_VALUE);
	}
	encoder->at++;
	return pushJsonbValue(&encoder->state, WJB_END_OBJECT, NULL);
}

static JsonbValue *
encode_array(Encoder *encoder)
{
	encoder->at++;
	pushJsonbValue(&encoder->state, WJB_BEGIN_ARRAY, NULL);
	for (;;)
	{
		skip_space(encoder);
		if (*encoder->at == ']')
			break;
		if (*encoder->at == ',')
			encoder->at++;
		else
			(void) encode_value(encoder, WJB_ELEM);
	}
	encoder->at++;
	return pushJsonbValue(&encoder->state, WJB_END_ARRAY, NULL);
}

/* Any value, as a member or element of what is being built. */
static JsonbValue *
encode_value(Encoder *encoder, JsonbIteratorToken container)
{
	JsonbValue	value;

	skip_space(encoder);
	if (*encoder->at == '{')
		return encode_object(encoder);
	if (*encoder->at == '[')
		return encode_array(encoder);
	take_scalar(encoder, &value);
	return pushJsonbValue(&encoder->state, container, &value);
}

/* A checked value as jsonb, in the current memory context. */
Datum
ingest_encode(ScanSlice value)
{
	Encoder		encoder = {.at = value.start,
	.end = value.start + value.length};
	JsonbValue	scalar;

	check_stack_depth();
	skip_space(&encoder);
	if (*encoder.at == '{')
		return JsonbPGetDatum(JsonbValueToJsonb(encode_object(&encoder)));
	if (*encoder.at == '[')
		return JsonbPGetDatum(JsonbValueToJsonb(encode_array(&encoder)));
	take_scalar(&encoder, &scalar);
	return JsonbPGetDatum(JsonbValueToJsonb(&scalar));
}

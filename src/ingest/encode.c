/*-------------------------------------------------------------------------
 *
 * encode.c
 *		A record that has been checked, as jsonb.
 *
 * scan_record has held it to everything that jsonb demands, so nothing is
 * checked again.  Numbers keep their exact value.
 *
 * A record's own members are known from reading it, and records have much
 * the same fields.  So the order in which jsonb keeps the keys is found once
 * a page, and the record's binary form (see utils/jsonb.h) is written
 * directly: keys in that order, then their values.  What is nested goes
 * through the server's own functions.
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

/* ---- records, from their members ---- */

/* The order of jsonb's keys: by length, then bytewise. */
static int
compare_names(const void *a, const void *b, void *arg)
{
	const IngestField *fields = arg;
	const char *x = fields[*(const int *) a].name;
	const char *y = fields[*(const int *) b].name;
	size_t		x_length = strlen(x);
	size_t		y_length = strlen(y);

	if (x_length != y_length)
		return x_length < y_length ? -1 : 1;
	return memcmp(x, y, x_length);
}

/* Prepares for records with these fields, in the current memory context. */
void
ingest_open_encoder(IngestEncoder *encoder, const IngestRun *run)
{
	int			count = run->field_count;
	int		   *order = palloc(sizeof(int) * Max(count, 1));

	encoder->count = count;
	encoder->rank = palloc(sizeof(int) * Max(count, 1));
	encoder->lengths = palloc(sizeof(int) * Max(count, 1));
	encoder->members = palloc(sizeof(IngestMember *) * Max(count, 1));
	encoder->starts = palloc(sizeof(int) * Max(count, 1));
	encoder->ends = palloc(sizeof(int) * Max(count, 1));
	encoder->names = palloc(sizeof(char *) * Max(count, 1));
	/* members of another level than the record's are among the fields */
	encoder->plain = run->stream->flattened_count == 0 &&
		run->stream->path_count == 0;
	for (int i = 0; i < count; i++)
		order[i] = i;
	qsort_arg(order, count, sizeof(int), compare_names,
			  run->fields);
	for (int i = 0; i < count; i++)
	{
		encoder->rank[order[i]] = i;
		encoder->names[i] = run->fields[order[i]].name;
		encoder->lengths[i] = run->fields[order[i]].name_length;
	}
	initStringInfo(&encoder->buffer);
}

/* Appends bytes to the jsonb, after what aligns them. */
static void
append_aligned(StringInfo buffer, const void *data, int length)
{
	int			padding = INTALIGN(buffer->len) - buffer->len;

	for (int i = 0; i < padding; i++)
		appendStringInfoCharMacro(buffer, '\0');
	appendBinaryStringInfo(buffer, data, length);
}

/*
 * Appends bytes that there is room for: a record's names and strings are no
 * longer than the record.
 */
static inline void
put(StringInfo buffer, const char *data, int length)
{
	memcpy(buffer->data + buffer->len, data, length);
	buffer->len += length;
}

/* Appends a string's value. */
static void
append_string(StringInfo buffer, const IngestMember *member)
{
	char	   *text;

	if (!member->escaped)
	{
		put(buffer, member->value.start + 1, member->value.length - 2);
		return;
	}
	text = scan_text(member->value);
	put(buffer, text, strlen(text));
	pfree(text);
}

/* Appends a number's value. */
static void
append_number(StringInfo buffer, const IngestMember *member)
{
	Encoder		encoder = {.at = member->value.start,
	.end = member->value.start + member->value.length};
	JsonbValue	scalar;

	take_number(&encoder, &scalar);
	append_aligned(buffer, scalar.val.numeric,
				   VARSIZE_ANY(scalar.val.numeric));
	pfree(scalar.val.numeric);
}

/*
 * Appends a member's value and tells its JEntry without the length.  What
 * takes more room than its text makes room for the rest of the record again.
 */
static JEntry
append_value(StringInfo buffer, const IngestMember *member, int rest)
{
	Jsonb	   *nested;

	switch (member->kind)
	{
		case SCAN_NULL:
			return JENTRY_ISNULL;
		case SCAN_BOOL:
			return *member->value.start == 't' ? JENTRY_ISBOOL_TRUE :
				JENTRY_ISBOOL_FALSE;
		case SCAN_STRING:
			append_string(buffer, member);
			return JENTRY_ISSTRING;
		case SCAN_CONTAINER:
			nested = DatumGetJsonbP(ingest_encode(member->value));
			append_aligned(buffer, &nested->root, VARSIZE(nested) - VARHDRSZ);
			pfree(nested);
			enlargeStringInfo(buffer, rest);
			return JENTRY_ISCONTAINER;
		default:
			append_number(buffer, member);
			enlargeStringInfo(buffer, rest);
			return JENTRY_ISNUMERIC;
	}
}

/* Writes entry i, which ends with the buffer as it is and is so long. */
static inline void
set_entry(StringInfo buffer, int i, JEntry type, int data, int start)
{
	JEntry		entry = type | (JEntry) (buffer->len - start);

	if (i % JB_OFFSET_STRIDE == 0)
		entry = type | JENTRY_HAS_OFF | (JEntry) (buffer->len - data);
	memcpy(buffer->data + VARHDRSZ + sizeof(uint32) + i * sizeof(JEntry),
		   &entry, sizeof(JEntry));
}

/* The record's members by the rank of their names; the last of a name wins. */
static int
sort_members(IngestEncoder *encoder, const IngestMember *members, int count)
{
	int			distinct = 0;

	memset(encoder->members, 0, sizeof(IngestMember *) * encoder->count);
	for (int i = 0; i < count; i++)
	{
		int			rank = encoder->rank[members[i].field];

		distinct += encoder->members[rank] == NULL;
		encoder->members[rank] = &members[i];
	}
	return distinct;
}

/* Writes the names of the members there are. */
static void
append_names(IngestEncoder *encoder, int data)
{
	StringInfo	buffer = &encoder->buffer;
	int			entry = 0;

	for (int i = 0; i < encoder->count; i++)
	{
		int			start = buffer->len;

		if (encoder->members[i] == NULL)
			continue;
		put(buffer, encoder->names[i], encoder->lengths[i]);
		set_entry(buffer, entry++, JENTRY_ISSTRING, data, start);
	}
}

/* Writes their values, after that many entries. */
static void
append_values(IngestEncoder *encoder, int entry, int data, int most)
{
	StringInfo	buffer = &encoder->buffer;

	for (int i = 0; i < encoder->count; i++)
	{
		int			start = buffer->len;
		JEntry		type;

		if (encoder->members[i] == NULL)
			continue;
		type = append_value(buffer, encoder->members[i], most);
		if (buffer->len - data > JENTRY_OFFLENMASK)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("total size of jsonb object elements exceeds the "
							"maximum of %d bytes", JENTRY_OFFLENMASK)));
		set_entry(buffer, entry++, type, data, start);
		encoder->starts[i] = start;
		encoder->ends[i] = buffer->len;
	}
}

/*
 * The record as jsonb, in the encoder's own buffer until the next one, or in
 * the current memory context.
 */
Jsonb *
ingest_encode_record(IngestEncoder *encoder, const IngestRecord *record,
					 const IngestMember *members)
{
	StringInfo	buffer = &encoder->buffer;
	uint32		header;
	int			pairs;
	int			data;

	encoder->encoded = encoder->plain && record->member_count > 0;
	if (!encoder->encoded)
		return DatumGetJsonbP(ingest_encode(record->slice));
	pairs = sort_members(encoder, members, record->member_count);
	header = pairs | JB_FOBJECT;
	data = VARHDRSZ + sizeof(uint32) + pairs * 2 * sizeof(JEntry);
	resetStringInfo(buffer);
	enlargeStringInfo(buffer, data + record->slice.length);
	buffer->len = data;
	memcpy(buffer->data + VARHDRSZ, &header, sizeof(header));
	append_names(encoder, data);
	append_values(encoder, pairs, data, record->slice.length);
	SET_VARSIZE(buffer->data, buffer->len);
	return (Jsonb *) buffer->data;
}

/*
 * The object or array that is a member of the record encoded last, as jsonb
 * of its own: the bytes are the same.  False where it must be encoded.
 */
bool
ingest_encoded_container(const IngestEncoder *encoder,
						 const IngestMember *member, IngestRoom *room,
						 Datum *jsonb)
{
	int			rank = encoder->rank[member->field];
	char	   *copy;
	int			start;
	int			length;

	if (!encoder->encoded || encoder->members[rank] != member)
		return false;
	start = INTALIGN(encoder->starts[rank]);
	length = encoder->ends[rank] - start;
	copy = ingest_take_room(room, VARHDRSZ + length);
	SET_VARSIZE(copy, VARHDRSZ + length);
	memcpy(copy + VARHDRSZ, encoder->buffer.data + start, length);
	*jsonb = PointerGetDatum(copy);
	return true;
}

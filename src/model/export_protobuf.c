/*-------------------------------------------------------------------------
 *
 * export_protobuf.c
 *		Fields of protobuf's wire format, written.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "model/export.h"

#define VARINT 0
#define BYTES 2
#define FIXED32 5

static void
append_varint(StringInfo message, uint64 value)
{
	while (value >= 0x80)
	{
		appendStringInfoChar(message, (char) (value | 0x80));
		value >>= 7;
	}
	appendStringInfoChar(message, (char) value);
}

static void
append_key(StringInfo message, int field, int type)
{
	append_varint(message, (uint64) field << 3 | type);
}

/* The low bytes of a number, the lowest first. */
static void
append_fixed(StringInfo message, uint64 bits, int width)
{
	for (int i = 0; i < width; i++)
		appendStringInfoChar(message, (char) (bits >> (8 * i)));
}

static void
append_float(StringInfo message, float value)
{
	uint32		bits;

	memcpy(&bits, &value, sizeof(bits));
	append_fixed(message, bits, sizeof(bits));
}

void
protobuf_int(StringInfo message, int field, int64 value)
{
	append_key(message, field, VARINT);
	append_varint(message, (uint64) value);
}

void
protobuf_float(StringInfo message, int field, float value)
{
	append_key(message, field, FIXED32);
	append_float(message, value);
}

void
protobuf_bytes(StringInfo message, int field, const void *bytes, int length)
{
	append_key(message, field, BYTES);
	append_varint(message, (uint64) length);
	appendBinaryStringInfo(message, bytes, length);
}

/* A text in the encoding of the database becomes UTF-8. */
void
protobuf_text(StringInfo message, int field, const char *text)
{
	char	   *utf8 = pg_server_to_any(text, strlen(text), PG_UTF8);

	protobuf_bytes(message, field, utf8, strlen(utf8));
}

void
protobuf_message(StringInfo message, int field, const StringInfoData *inner)
{
	protobuf_bytes(message, field, inner->data, inner->len);
}

/* Lists that are packed. */
void
protobuf_ints(StringInfo message, int field, const int64 *values, int count)
{
	StringInfoData packed;

	initStringInfo(&packed);
	for (int i = 0; i < count; i++)
		append_varint(&packed, (uint64) values[i]);
	protobuf_message(message, field, &packed);
	pfree(packed.data);
}

void
protobuf_floats(StringInfo message, int field, const double *values,
				int count)
{
	StringInfoData packed;

	initStringInfo(&packed);
	for (int i = 0; i < count; i++)
		append_float(&packed, (float) values[i]);
	protobuf_message(message, field, &packed);
	pfree(packed.data);
}

void
protobuf_doubles(StringInfo message, int field, const double *values,
				 int count)
{
	StringInfoData packed;

	initStringInfo(&packed);
	for (int i = 0; i < count; i++)
	{
		uint64		bits;

		memcpy(&bits, &values[i], sizeof(bits));
		append_fixed(&packed, bits, sizeof(bits));
	}
	protobuf_message(message, field, &packed);
	pfree(packed.data);
}

/*-------------------------------------------------------------------------
 *
 * rows.c
 *		A fuzz target: rows of COPY's binary format, from another database.
 *
 * The first byte of the input says how many columns the reader expects and
 * which of them are stored and how.  Whatever the bytes are, no value reaches
 * beyond the row, each ends with a NUL while it is read, and the row is what
 * it was when it has been read or has failed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "ingest/database.h"
#include "server.h"

#define MOST_COLUMNS 8
#define AT_LEAST ((size_t) 64 << 20)

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct Row
{
	DatabaseReader reader;
	char	   *bytes;
	size_t		size;
	Datum		values[MOST_COLUMNS];
	bool		nulls[MOST_COLUMNS];
} Row;

/* The functions of types: what they read is all of the value and no more. */
Datum
ReceiveFunctionCall(FmgrInfo *function, StringInfo buffer, Oid parameter,
					int32 typmod)
{
	uint64		sum = 0;

	for (int i = 0; i < buffer->len; i++)
		sum = sum * 31 + (unsigned char) buffer->data[i];
	if (buffer->data[buffer->len] != '\0')
		abort();
	/* one that is not content, and one that leaves something */
	if (sum % 7 == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
						errmsg("no value")));
	buffer->cursor = sum % 11 == 0 ? buffer->len / 2 : buffer->len;
	return (Datum) sum;
}

Datum
InputFunctionCall(FmgrInfo *function, char *text, Oid parameter, int32 typmod)
{
	return (Datum) strlen(text);
}

void
getTypeInputInfo(Oid type, Oid *function, Oid *parameter)
{
	*function = *parameter = type;
}

void
getTypeBinaryInputInfo(Oid type, Oid *function, Oid *parameter)
{
	*function = *parameter = type;
}

void
fmgr_info(Oid oid, FmgrInfo *function)
{
	function->fn_oid = oid;
}

static void
read_row(void *arg)
{
	Row		   *row = arg;

	database_read_row(&row->reader, row->bytes, row->size, row->values,
					  row->nulls);
}

static void
look_for_refused(void *arg)
{
	Row		   *row = arg;

	(void) database_refused_column(&row->reader, row->bytes, row->size);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	DatabaseColumn columns[MOST_COLUMNS] = {0};
	Row			row = {0};
	int			count;
	char	   *copy;

	if (size < 2)
		return 0;
	count = data[0] % (MOST_COLUMNS + 1);
	for (int i = 0; i < count; i++)
	{
		columns[i].name = "column";
		columns[i].attnum = (data[1] >> i) & 1 ? i + 1 : 0;
		columns[i].as_text = i % 2;
		columns[i].refused = i % 3 == 0;
	}
	/* a byte behind the row, and no more */
	row.size = size - 2;
	row.bytes = malloc(row.size + 1);
	copy = malloc(row.size + 1);
	memcpy(row.bytes, data + 2, row.size);
	row.bytes[row.size] = 'x';
	memcpy(copy, row.bytes, row.size + 1);
	database_open_reader(&row.reader, columns, count);
	(void) server_try(read_row, &row, AT_LEAST);
	database_take_back(&row.reader);
	if (memcmp(copy, row.bytes, row.size + 1) != 0)
		abort();
	(void) server_try(look_for_refused, &row, AT_LEAST);
	server_free_all();
	free(row.bytes);
	free(copy);
	return 0;
}

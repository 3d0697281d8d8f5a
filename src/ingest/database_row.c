/*-------------------------------------------------------------------------
 *
 * database_row.c
 *		A row of COPY in the binary format, as values.
 *
 * The format (documented with COPY): a number of fields, then for each its
 * length, -1 for null, and its bytes, as the type's send function wrote them.
 * All lengths are checked here; the bytes are the receive function's to
 * check, and one that is not content with them raises an ERROR.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "ingest/database.h"
#include "lib/stringinfo.h"
#include "port/pg_bswap.h"
#include "utils/lsyscache.h"

/* Prepares for rows of these columns, in the current memory context. */
void
database_open_reader(DatabaseReader *reader, DatabaseColumn *columns,
					 int count)
{
	reader->columns = columns;
	reader->count = count;
	reader->lent = NULL;
	for (int i = 0; i < count; i++)
	{
		DatabaseColumn *column = &columns[i];
		Oid			function;

		if (column->attnum == 0)
			continue;
		if (column->as_text)
			getTypeInputInfo(column->attribute_type, &function,
							 &column->parameter);
		else
			getTypeBinaryInputInfo(column->attribute_type, &function,
								   &column->parameter);
		fmgr_info(function, &column->function);
	}
}

static void
report_damage(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_PROTOCOL_VIOLATION),
			 errmsg("a row of the source's COPY is damaged")));
}

/* The number at a place of the row, which moves on. */
static int32
take_int32(const char *row, size_t length, size_t *at)
{
	uint32		number;

	if (length - *at < sizeof(number))
		report_damage();
	memcpy(&number, row + *at, sizeof(number));
	*at += sizeof(number);
	return (int32) pg_ntoh32(number);
}

/* The row begins with as many fields as there are columns; skips that. */
static size_t
check_beginning(int count, const char *row, size_t length)
{
	uint16		fields;

	if (length < sizeof(fields))
		report_damage();
	memcpy(&fields, row, sizeof(fields));
	if (pg_ntoh16(fields) != count)
		report_damage();
	return sizeof(fields);
}

/*
 * Puts the byte back that is lent.  Called by database_read_row, and by
 * whoever goes on after an ERROR of it.
 */
void
database_take_back(DatabaseReader *reader)
{
	if (reader->lent != NULL)
		*reader->lent = reader->byte;
	reader->lent = NULL;
}

/* One field's bytes as a value; they must end with a NUL while it is read. */
static Datum
read_field(DatabaseReader *reader, DatabaseColumn *column, char *bytes,
		   int32 length)
{
	StringInfoData buffer = {.data = bytes,.len = length,.maxlen = length + 1};
	Datum		value;

	reader->lent = bytes + length;
	reader->byte = *reader->lent;
	*reader->lent = '\0';
	if (column->as_text)
		value = InputFunctionCall(&column->function, bytes,
								  column->parameter,
								  column->attribute_typmod);
	else
		value = ReceiveFunctionCall(&column->function, &buffer,
									column->parameter,
									column->attribute_typmod);
	database_take_back(reader);
	if (!column->as_text && buffer.cursor != length)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
				 errmsg("incorrect binary data format in column \"%s\"",
						column->name)));
	return value;
}

/*
 * Reads a row into values and nulls, which are by attribute.  The byte behind
 * the row must exist.
 */
void
database_read_row(DatabaseReader *reader, char *row, size_t length,
				  Datum *values, bool *nulls)
{
	size_t		at = check_beginning(reader->count, row, length);

	for (int i = 0; i < reader->count; i++)
	{
		DatabaseColumn *column = &reader->columns[i];
		int32		size = take_int32(row, length, &at);
		int			attribute = column->attnum - 1;

		if (size < -1 || (size >= 0 && (size_t) size > length - at))
			report_damage();
		if (attribute >= 0 && size >= 0)
		{
			values[attribute] = read_field(reader, column, row + at, size);
			nulls[attribute] = false;
		}
		at += Max(size, 0);
	}
	if (at != length)
		report_damage();
}

/* A column that the schema contract does not let in and that has a value. */
const char *
database_refused_column(const DatabaseReader *reader, const char *row,
						size_t length)
{
	size_t		at = check_beginning(reader->count, row, length);

	for (int i = 0; i < reader->count; i++)
	{
		int32		size = take_int32(row, length, &at);

		if (size >= 0 && reader->columns[i].refused)
			return reader->columns[i].name;
		if (size < -1 || (size >= 0 && (size_t) size > length - at))
			report_damage();
		at += Max(size, 0);
	}
	return NULL;
}

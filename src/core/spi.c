/*-------------------------------------------------------------------------
 *
 * spi.c
 *		Statements with parameters, and their results.
 *
 * A thin layer over SPI that does the three things every caller would
 * otherwise repeat: it builds the parameter arrays, checks that the
 * statement was of the expected kind, and reads values by position.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "utils/array.h"
#include "utils/builtins.h"

/* Opens an SPI connection; each begin has its end in the same function. */
void
core_spi_begin(void)
{
	int			code = SPI_connect();

	if (code != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect returned %s", SPI_result_code_string(code));
}

/* Closes the connection that core_spi_begin opened. */
void
core_spi_end(void)
{
	int			code = SPI_finish();

	if (code != SPI_OK_FINISH)
		elog(ERROR, "SPI_finish returned %s", SPI_result_code_string(code));
}

/* Appends a parameter. */
void
core_arg(CoreArgs *args, Oid type, Datum value, bool isnull)
{
	if (args->count >= CORE_MAX_ARGS)
		elog(ERROR, "more than %d parameters", CORE_MAX_ARGS);
	args->types[args->count] = type;
	args->values[args->count] = value;
	args->nulls[args->count] = isnull ? 'n' : ' ';
	args->count++;
}

/* Appends a text parameter; NULL is the SQL NULL. */
void
core_arg_text(CoreArgs *args, const char *value)
{
	core_arg(args, TEXTOID, value ? CStringGetTextDatum(value) : (Datum) 0,
			 value == NULL);
}

/* Appends a bigint parameter. */
void
core_arg_int8(CoreArgs *args, int64 value)
{
	core_arg(args, INT8OID, Int64GetDatum(value), false);
}

/* Appends a jsonb parameter; NULL is the SQL NULL. */
void
core_arg_jsonb(CoreArgs *args, Jsonb *value)
{
	core_arg(args, JSONBOID, value ? JsonbPGetDatum(value) : (Datum) 0,
			 value == NULL);
}

/* Appends a text[] parameter; a NULL among the values is the SQL NULL. */
void
core_arg_text_array(CoreArgs *args, char **values, int count)
{
	Datum	   *datums = palloc(sizeof(Datum) * Max(count, 1));
	bool	   *nulls = palloc(sizeof(bool) * Max(count, 1));
	int			dims[1] = {count};
	int			bounds[1] = {1};

	for (int i = 0; i < count; i++)
	{
		nulls[i] = values[i] == NULL;
		datums[i] = nulls[i] ? (Datum) 0 : CStringGetTextDatum(values[i]);
	}
	core_arg(args, TEXTARRAYOID,
			 PointerGetDatum(construct_md_array(datums, nulls, 1, dims, bounds,
												TEXTOID, -1, false,
												TYPALIGN_INT)),
			 false);
}

/*
 * Runs one statement and returns the number of rows it gave or changed.
 * Its result, if any, is in SPI_tuptable until the next statement.
 */
uint64
core_execute(const char *sql, const CoreArgs *args, int expected)
{
	int			code;

	if (args == NULL || args->count == 0)
		code = SPI_execute(sql, false, 0);
	else
		code = SPI_execute_with_args(sql, args->count, (Oid *) args->types,
									 (Datum *) args->values, args->nulls,
									 false, 0);
	if (code != expected)
		elog(ERROR, "statement returned %s instead of %s: %s",
			 SPI_result_code_string(code), SPI_result_code_string(expected),
			 sql);
	return SPI_processed;
}

/*
 * The first column of the first row as text in the given context, or NULL
 * where there is no row or it is null.
 */
char *
core_query_text(const char *sql, const CoreArgs *args, MemoryContext context)
{
	char	   *value;

	if (core_execute(sql, args, SPI_OK_SELECT) == 0)
		return NULL;
	value = core_value_text(0, 1);
	return value ? MemoryContextStrdup(context, value) : NULL;
}

/* The first column of the first row as bigint, or if_none. */
int64
core_query_int8(const char *sql, const CoreArgs *args, int64 if_none)
{
	bool		isnull;
	Datum		value;

	if (core_execute(sql, args, SPI_OK_SELECT) == 0)
		return if_none;
	value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
						  &isnull);
	return isnull ? if_none : DatumGetInt64(value);
}

/* A value of the last result as text, NULL for the SQL NULL. */
char *
core_value_text(uint64 row, int column)
{
	return SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc,
						column);
}

/* A bigint of the last result, 0 for the SQL NULL. */
int64
core_value_int8(uint64 row, int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[row],
									  SPI_tuptable->tupdesc, column, &isnull);

	return isnull ? 0 : DatumGetInt64(value);
}

/*-------------------------------------------------------------------------
 *
 * values.c
 *		A stand-in for the server's numbers, intervals and instants.
 *
 * A numeric is the text of a number.  An interval is what the manifests'
 * grammar lets through, and is refused where the server refuses it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "datatype/timestamp.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/formatting.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

const int	day_tab[2][13] = {
	{31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31, 0},
	{31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31, 0}
};

/* ---- numbers ---- */

static double
number_of(Datum numeric)
{
	return strtod(text_to_cstring((text *) DatumGetPointer(numeric)), NULL);
}

Datum
numeric_float8_no_overflow(PG_FUNCTION_ARGS)
{
	return Float8GetDatum(number_of(PG_GETARG_DATUM(0)));
}

Datum
numeric_in(PG_FUNCTION_ARGS)
{
	return PointerGetDatum(cstring_to_text(PG_GETARG_CSTRING(0)));
}

Datum
numeric_cmp(PG_FUNCTION_ARGS)
{
	double		a = number_of(PG_GETARG_DATUM(0));
	double		b = number_of(PG_GETARG_DATUM(1));

	PG_RETURN_INT32(a < b ? -1 : a > b);
}

/* ---- lengths of time ---- */

static void
refuse_interval(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATETIME_FIELD_OVERFLOW),
			 errmsg("interval out of range")));
}

/* A number of a unit of the field, which must have room for it. */
static double
field(double count, double most)
{
	if (!(count <= most))
		refuse_interval();
	return floor(count);
}

Datum
interval_in(PG_FUNCTION_ARGS)
{
	char	   *unit;
	double		count = strtod(PG_GETARG_CSTRING(0), &unit);
	Interval   *interval = palloc0(sizeof(Interval));
	double		micros = 0;

	unit += strspn(unit, " ");
	if (unit[0] == 'y')
		interval->month = field(count * 12, PG_INT32_MAX);
	else if (strncmp(unit, "mon", 3) == 0)
		interval->month = field(count, PG_INT32_MAX);
	else if (unit[0] == 'w')
		interval->day = field(count * 7, PG_INT32_MAX);
	else if (unit[0] == 'd')
		interval->day = field(count, PG_INT32_MAX);
	else if (unit[0] == 'h')
		micros = count * USECS_PER_HOUR;
	else if (unit[0] == 's')
		micros = count * USECS_PER_SEC;
	else if (unit[0] == 'm' && (unit[1] == 's' || strncmp(unit, "mil", 3) == 0))
		micros = count * 1000;
	else if (unit[0] == 'm')
		micros = count * USECS_PER_MINUTE;
	else
		refuse_interval();
	if (micros > 0)
		interval->time = field(micros, 9223372036854774784.0);
	PG_RETURN_INTERVAL_P(interval);
}

/* ---- instants ---- */

TimestampTz
GetCurrentTimestamp(void)
{
	return INT64CONST(820454400000000);
}

int
tm2timestamp(struct pg_tm *tm, fsec_t fsec, int *west, Timestamp *result)
{
	int64		days = 0;

	if (tm->tm_year < 1 || tm->tm_year > 200000)
		return -1;
	for (int year = Min(tm->tm_year, 2000); year < Max(tm->tm_year, 2000); year++)
		days += isleap(year) ? 366 : 365;
	if (tm->tm_year < 2000)
		days = -days;
	for (int month = 1; month < tm->tm_mon; month++)
		days += day_tab[isleap(tm->tm_year)][month - 1];
	days += tm->tm_mday - 1;
	*result = days * USECS_PER_DAY + tm->tm_hour * USECS_PER_HOUR +
		tm->tm_min * USECS_PER_MINUTE + tm->tm_sec * USECS_PER_SEC + fsec +
		(west ? *west * USECS_PER_SEC : 0);
	return 0;
}

/* The zone, if there is one of that name. */
Datum
timestamptz_zone(PG_FUNCTION_ARGS)
{
	char	   *zone = text_to_cstring(PG_GETARG_TEXT_PP(0));

	if (zone[0] < 'A' || zone[0] > 'Z')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("time zone \"%s\" not recognized", zone)));
	PG_RETURN_DATUM(PG_GETARG_DATUM(1));
}

/* The pattern stands for what it makes. */
Datum
timestamp_to_char(PG_FUNCTION_ARGS)
{
	Timestamp	instant = PG_GETARG_TIMESTAMP(0);
	char	   *pattern = text_to_cstring(PG_GETARG_TEXT_PP(1));

	if (!IS_VALID_TIMESTAMP(instant))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("%s " INT64_FORMAT, pattern,
											  instant)));
}

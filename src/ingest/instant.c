/*-------------------------------------------------------------------------
 *
 * instant.c
 *		Cursor values and bounds of windows as instants.
 *
 * Values come from outside and are read without raising an error: what is
 * no instant is compared and sent as it is.  An instant without a zone is
 * UTC.  Nothing here looks at a catalog.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>
#include <math.h>

#include "catalog/pg_collation.h"
#include "common/int.h"
#include "ingest/ingest.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

/* to_char's pattern of a format's name; a pattern is its own. */
static const char *
pattern_of(const char *format)
{
	static const struct
	{
		const char *name;
		const char *pattern;
	}			known[] = {
		{"iso8601", "YYYY-MM-DD\"T\"HH24:MI:SS\"Z\""},
		{"iso8601_ms", "YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\""},
		{"datetime", "YYYY-MM-DD HH24:MI:SS"},
		{"date", "YYYY-MM-DD"},
		{"basic_date", "YYYYMMDD"},
		{"basic_datetime", "YYYYMMDDHH24MISS"}
	};

	for (int i = 0; i < lengthof(known); i++)
		if (strcmp(known[i].name, format) == 0)
			return known[i].pattern;
	return format;
}

static bool
is_format(const char *format, const char *name)
{
	return strcmp(format, name) == 0;
}

/* So many digits at *c as a number; false where there are fewer. */
static bool
take_digits(const char **c, int count, int *value)
{
	*value = 0;
	for (int i = 0; i < count; i++, (*c)++)
	{
		if (!isdigit((unsigned char) **c))
			return false;
		*value = *value * 10 + (**c - '0');
	}
	return true;
}

static void
skip_one(const char **c, char wanted)
{
	if (**c == wanted)
		(*c)++;
}

/* "HH[:]MM[[:]SS[.fraction]]" */
static bool
take_time(const char **c, struct pg_tm *tm, fsec_t *fsec)
{
	int			scale = 100000;

	if (!take_digits(c, 2, &tm->tm_hour))
		return false;
	skip_one(c, ':');
	if (!take_digits(c, 2, &tm->tm_min))
		return false;
	skip_one(c, ':');
	if (!isdigit((unsigned char) **c))
		return true;
	if (!take_digits(c, 2, &tm->tm_sec))
		return false;
	if (**c != '.')
		return true;
	for ((*c)++; isdigit((unsigned char) **c); (*c)++, scale /= 10)
		*fsec += (**c - '0') * scale;
	return true;
}

/* "Z", "+HH[[:]MM]" or nothing, as seconds west of Greenwich. */
static bool
take_zone(const char **c, int *west)
{
	int			sign = **c == '-' ? 1 : -1;
	int			hours;
	int			minutes = 0;

	*west = 0;
	if (**c == 'Z' || **c == 'z')
		(*c)++;
	if (**c != '+' && **c != '-')
		return true;
	(*c)++;
	if (!take_digits(c, 2, &hours))
		return false;
	skip_one(c, ':');
	if (isdigit((unsigned char) **c) && !take_digits(c, 2, &minutes))
		return false;
	*west = sign * (hours * 3600 + minutes * 60);
	return true;
}

/* An ISO 8601 instant or date, extended or basic. */
static bool
parse_iso(const char *text, TimestampTz *instant)
{
	struct pg_tm tm = {0};
	fsec_t		fsec = 0;
	int			west = 0;
	const char *c = text;

	if (!take_digits(&c, 4, &tm.tm_year))
		return false;
	skip_one(&c, '-');
	if (!take_digits(&c, 2, &tm.tm_mon))
		return false;
	skip_one(&c, '-');
	if (!take_digits(&c, 2, &tm.tm_mday))
		return false;
	if (*c == 'T' || *c == 't' || *c == ' ')
		c++;
	if (isdigit((unsigned char) *c) && !take_time(&c, &tm, &fsec))
		return false;
	skip_one(&c, ' ');
	if (!take_zone(&c, &west) || *c != '\0')
		return false;
	if (tm.tm_year < 1 || tm.tm_mon < 1 || tm.tm_mon > 12 ||
		tm.tm_mday < 1 ||
		tm.tm_mday > day_tab[isleap(tm.tm_year)][tm.tm_mon - 1] ||
		tm.tm_hour > 24 || tm.tm_min > 59 || tm.tm_sec > 60)
		return false;
	return tm2timestamp(&tm, fsec, &west, instant) == 0;
}

/* Seconds or milliseconds since 1970. */
static bool
parse_epoch(const char *text, int64 unit, TimestampTz *instant)
{
	char	   *end;
	double		value = strtod(text, &end);

	if (end == text || *end != '\0' ||
		!(value > -1e11 * USECS_PER_SEC / unit &&
		  value < 1e11 * USECS_PER_SEC / unit))
		return false;
	*instant = (TimestampTz) rint(value * unit) -
		(TimestampTz) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) *
		USECS_PER_DAY;
	return true;
}

/* The instant that a value of the format is; false where it is none. */
bool
ingest_parse_instant(const char *text, const char *format,
					 TimestampTz *instant)
{
	if (is_format(format, "integer") || is_format(format, "text"))
		return false;
	if (is_format(format, "epoch"))
		return parse_epoch(text, USECS_PER_SEC, instant);
	if (is_format(format, "epoch_ms") &&
		strspn(text, "0123456789-") == strlen(text))
		return parse_epoch(text, 1000, instant);
	return parse_iso(text, instant);
}

/* The instant in the format, in a zone (NULL: UTC). */
char *
ingest_format_instant(TimestampTz instant, const char *format,
					  const char *zone)
{
	int64		unix_time = instant +
	(int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
	Datum		local = TimestampGetDatum(instant);

	if (is_format(format, "epoch"))
		return psprintf(INT64_FORMAT, unix_time / USECS_PER_SEC);
	if (is_format(format, "epoch_ms"))
		return psprintf(INT64_FORMAT, unix_time / 1000);
	if (zone != NULL)
		local = DirectFunctionCall2(timestamptz_zone,
									CStringGetTextDatum(zone),
									TimestampTzGetDatum(instant));
	return TextDatumGetCString(DirectFunctionCall2Coll(timestamp_to_char,
													   C_COLLATION_OID, local,
													   CStringGetTextDatum(pattern_of(format))));
}

static bool
is_number(const char *text)
{
	return text[0] != '\0' && strlen(text) < 1000 &&
		strspn(text + (text[0] == '-'), "0123456789") ==
		strlen(text + (text[0] == '-')) && text[strlen(text) - 1] != '-';
}

static int
compare_numbers(const char *a, const char *b)
{
	Datum		x = DirectFunctionCall3(numeric_in, CStringGetDatum(a),
										ObjectIdGetDatum(InvalidOid),
										Int32GetDatum(-1));
	Datum		y = DirectFunctionCall3(numeric_in, CStringGetDatum(b),
										ObjectIdGetDatum(InvalidOid),
										Int32GetDatum(-1));

	return DatumGetInt32(DirectFunctionCall2(numeric_cmp, x, y));
}

/* Which of two values of the format is later, as strcmp tells it. */
int
ingest_compare_values(const char *format, const char *a, const char *b)
{
	TimestampTz x;
	TimestampTz y;

	if (ingest_parse_instant(a, format, &x) &&
		ingest_parse_instant(b, format, &y))
		return x < y ? -1 : x > y;
	if (is_format(format, "integer") && is_number(a) && is_number(b))
		return compare_numbers(a, b);
	return strcmp(a, b);
}

/*
 * The value, written in another format and moved by microseconds (an integer
 * by one).  Left as it is where nothing changes, or it is no instant.
 */
char *
ingest_shift_value(const char *value, const char *from_format,
				   const char *to_format, int64 shift)
{
	TimestampTz instant;

	if (shift == 0 && strcmp(from_format, to_format) == 0)
		return pstrdup(value);
	if (is_format(from_format, "integer") && is_number(value) &&
		strlen(value) < 18)
		return psprintf(INT64_FORMAT, (int64) strtoll(value, NULL, 10) +
						(shift > 0 ? 1 : shift < 0 ? -1 : 0));
	if (!ingest_parse_instant(value, from_format, &instant) ||
		pg_add_s64_overflow(instant, shift, &instant))
		return pstrdup(value);
	return ingest_format_instant(instant,
								 is_format(to_format, "text") ? "iso8601_ms" :
								 to_format, NULL);
}

/*-------------------------------------------------------------------------
 *
 * landing.c
 *		Landing tables: records as received, partitioned by time.
 *
 * A partition covers a day (UTC), or one or four weeks where little lands and
 * it is kept long enough.  What a partition covers is read from its bounds,
 * so one that a user attached counts like any other.
 *
 * A partition is made as a table of its own and then attached, which does not
 * lock out readers and writers.  The next one is made ahead, and old ones are
 * dropped, in short transactions of their own between pages: dropping locks
 * readers out, so it waits for them only for a moment and is left to a later
 * run where they do not end.
 *
 * Everything here runs as the extension's owner.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "ingest/ingest.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define LANDING_COLUMNS \
	"_run_id bigint NOT NULL, _ingested_at timestamptz NOT NULL," \
	" _source_key text, record jsonb NOT NULL"

#define SMALL_DAY (64 * 1024 * 1024)	/* bytes: fewer make it longer */
#define LONG_PATIENCE 2000		/* ms that tidying waits for locks */

/* The partitions of $1 with their bounds; others than ranges are left out. */
#define PARTITIONS \
	"(SELECT i.inhrelid AS relation, b[1]::timestamptz AS lower," \
	" b[2]::timestamptz AS upper FROM pg_inherits AS i" \
	" JOIN pg_class AS c ON c.oid = i.inhrelid" \
	" CROSS JOIN LATERAL regexp_match(pg_get_expr(c.relpartbound, c.oid)," \
	" 'FROM \\(''([^'']+)''\\) TO \\(''([^'']+)''\\)') AS b" \
	" WHERE i.inhparent = $1::regclass AND b IS NOT NULL) AS p"

/* A day as its ISO date, from days since 2000-01-01. */
static char *
day_text(int day, const char *separator)
{
	int			year;
	int			month;
	int			day_of_month;

	j2date(day + POSTGRES_EPOCH_JDATE, &year, &month, &day_of_month);
	return psprintf("%04d%s%02d%s%02d", year, separator, month, separator,
					day_of_month);
}

static char *
landing_table(const IngestRun *run)
{
	return core_qualified(CORE_LAYER_LANDING, run->stream->table);
}

static int
today(void)
{
	return GetCurrentTransactionStartTimestamp() / USECS_PER_DAY;
}

/* The partition that covers the beginning of a day, or invalid. */
static Oid
find_partition(const IngestRun *run, int day)
{
	CoreArgs	args = {0};

	core_arg_text(&args, landing_table(run));
	core_arg(&args, TIMESTAMPTZOID, TimestampTzGetDatum(day * USECS_PER_DAY),
			 false);
	return (Oid) core_query_int8("SELECT relation::bigint FROM " PARTITIONS
								 " WHERE lower <= $2 AND upper > $2", &args,
								 InvalidOid);
}

/*
 * How many days a new partition covers: more where the last one got little a
 * day, as long as none is kept much longer than the stream says.  It ends
 * where the next one begins.
 */
static int
partition_days(const IngestRun *run, int day)
{
	CoreArgs	args = {0};

	core_arg_text(&args, landing_table(run));
	core_arg(&args, TIMESTAMPTZOID, TimestampTzGetDatum(day * USECS_PER_DAY),
			 false);
	core_arg_text(&args, run->stream->keep_landing);
	core_arg_int8(&args, SMALL_DAY);
	return (int) core_query_int8(
								 "WITH p AS (SELECT * FROM " PARTITIONS "),"
								 " wanted AS (SELECT CASE"
								 " WHEN pg_total_relation_size(relation) >= $4"
								 " * extract(epoch FROM upper - lower) / 86400"
								 " THEN 1 WHEN $3::interval >= '84 days' THEN 28"
								 " WHEN $3::interval >= '21 days' THEN 7"
								 " ELSE 1 END AS days FROM p"
								 " WHERE upper <= $2 ORDER BY upper DESC LIMIT 1)"
								 " SELECT least((SELECT days FROM wanted),"
								 " (SELECT floor(extract(epoch FROM min(lower) - $2)"
								 " / 86400) FROM p WHERE lower > $2))::bigint",
								 &args, 1);
}

/* Makes the partition of a day, unless one covers it. */
static Oid
make_partition(const IngestRun *run, int day)
{
	Oid			found = find_partition(run, day);
	int			days;
	char	   *name;
	char	   *partition;

	if (OidIsValid(found))
		return found;
	days = Max(partition_days(run, day), 1);
	name = days == 1 ?
		psprintf("%s_%s", run->stream->table, day_text(day, "")) :
		psprintf("%s_%s_%d", run->stream->table, day_text(day, ""), days);
	partition = core_qualified(CORE_LAYER_LANDING, name);
	core_execute(psprintf("CREATE TABLE %s (_id bigint NOT NULL,"
						  LANDING_COLUMNS ")", partition),
				 NULL, SPI_OK_UTILITY);
	core_execute(psprintf("ALTER TABLE %s ATTACH PARTITION %s"
						  " FOR VALUES FROM ('%s 00:00:00+00')"
						  " TO ('%s 00:00:00+00')", landing_table(run),
						  partition, day_text(day, "-"),
						  day_text(day + days, "-")),
				 NULL, SPI_OK_UTILITY);
	return core_table_oid(CORE_LAYER_LANDING, name);
}

/*
 * Makes the landing table on first use, and today's partition.  Cheap when
 * there is nothing to do.
 */
void
ingest_prepare_landing(IngestRun *run)
{
	const IngestStream *stream = run->stream;

	if (run->partition_day >= today())
		return;
	if (!OidIsValid(core_own_table(CORE_LAYER_LANDING, stream->table)))
	{
		(void) core_layer_schema(CORE_LAYER_LANDING);
		core_execute(psprintf("CREATE TABLE %s (_id bigint"
							  " GENERATED ALWAYS AS IDENTITY (CACHE 100),"
							  LANDING_COLUMNS ") PARTITION BY RANGE"
							  " (_ingested_at)", landing_table(run)),
					 NULL, SPI_OK_UTILITY);
		core_register_dataset(CORE_LAYER_LANDING, stream->table, "landing",
							  stream->name);
	}
	run->partition = make_partition(run, today());
	run->partition_day = today();
}

/* Today's partition of landing, which is prepared. */
Oid
ingest_landing_partition(const IngestRun *run)
{
	return run->partition;
}

/* The sequence of landing's _id. */
Oid
ingest_landing_sequence(const IngestRun *run)
{
	CoreArgs	args = {0};

	core_arg_text(&args, landing_table(run));
	return (Oid) core_query_int8("SELECT pg_get_serial_sequence($1, '_id')"
								 "::regclass::oid::bigint", &args, 0);
}

/* ---- between pages ---- */

/* Step of ingest_try_work: the next day's partition, where today has one. */
static void
make_next(IngestRun *run, void *arg)
{
	if (OidIsValid(core_own_table(CORE_LAYER_LANDING, run->stream->table)) &&
		OidIsValid(find_partition(run, today())))
		(void) make_partition(run, today() + 1);
}

/* Step: the name of the oldest partition past keeping, or NULL. */
static void
find_old(IngestRun *run, void *arg)
{
	char	  **name = arg;
	CoreArgs	args = {0};

	*name = NULL;
	if (!OidIsValid(core_own_table(CORE_LAYER_LANDING, run->stream->table)))
		return;
	core_arg_text(&args, landing_table(run));
	core_arg_text(&args, run->stream->keep_landing);
	*name = core_query_text("SELECT relation::regclass::text FROM " PARTITIONS
							" WHERE upper < now() - $2::interval"
							" ORDER BY upper LIMIT 1", &args,
							run->page_context);
}

/* Step: drops one, with readers waiting behind it for a moment at most. */
static void
drop_old(IngestRun *run, void *arg)
{
	(void) set_config_option("lock_timeout", "200ms", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	core_execute(psprintf("DROP TABLE %s", (char *) arg), NULL,
				 SPI_OK_UTILITY);
}

/* Makes the next partition ahead and drops old ones, as far as locks allow. */
void
ingest_tidy_landing(IngestRun *run)
{
	char	   *old = NULL;

	MemoryContextReset(run->page_context);
	MemoryContextSwitchTo(run->page_context);
	(void) ingest_try_work(run, make_next, NULL, LONG_PATIENCE);
	do
	{
		(void) ingest_try_work(run, find_old, &old, LONG_PATIENCE);
		if (old != NULL && !ingest_try_work(run, drop_old, old, LONG_PATIENCE))
		{
			ereport(LOG,
					(errmsg("partition %s of stream \"%s\" is in use and is "
							"left to a later run to drop", old,
							run->stream->name)));
			break;
		}
	} while (old != NULL);
}

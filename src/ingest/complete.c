/*-------------------------------------------------------------------------
 *
 * complete.c
 *		Deletes that only a complete extract can show.
 *
 * Where hard_deletes is not 'ignore' and a crawl reads all there is, the keys
 * that it brings are kept in a table beside staging, committed with their
 * pages, so that a crawl that is interrupted goes on.  When it is whole, the
 * rows of staging whose key it did not bring are deleted.  An empty extract
 * is more likely a mistake than an empty system, and deletes nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "ingest/ingest.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

static char *
seen_table(const IngestRun *run)
{
	return core_qualified(CORE_LAYER_STAGING,
						  psprintf("%s__seen", run->stream->table));
}

/* Are the keys of this crawl to be kept? */
bool
ingest_tracks_seen(const IngestRun *run)
{
	return run->complete && !run->back_fill &&
		run->stream->key_count > 0 && !run->stream->spooled &&
		strcmp(run->stream->hard_deletes, "ignore") != 0;
}

/* Empties or drops the table, at the beginning of a crawl. */
void
ingest_begin_seen(IngestRun *run)
{
	core_execute(psprintf("DROP TABLE IF EXISTS %s", seen_table(run)), NULL,
				 SPI_OK_UTILITY);
}

/* ---- keys as staging has them ---- */

/* The staging table's column of a key, and its type as a cast names it. */
static void
key_column(const IngestRun *run, int i, char **column, char **type)
{
	Oid			staging = core_table_oid(CORE_LAYER_STAGING,
										 run->stream->table);
	char	   *name = ingest_key_column(run->stream, i);
	Oid			oid;
	int32		typmod;
	Oid			collation;

	get_atttypetypmodcoll(staging, get_attnum(staging, name), &oid, &typmod,
						  &collation);
	*column = psprintf("s.%s", quote_identifier(name));
	*type = format_type_with_typemod(oid, typmod);
}

/*
 * "(k.t::uuid)::text": what of a record's key, as it came, stands for each
 * column; the same value can be spelled in several ways.
 */
static char *
key_values(const IngestRun *run)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < run->stream->key_count; i++)
	{
		char	   *column;
		char	   *type;
		char	   *part = run->stream->key_count == 1 ? pstrdup("k.t") :
		psprintf("(k.t::jsonb ->> %d)", i);

		key_column(run, i, &column, &type);
		appendStringInfo(&list, "%s(%s::%s)::text", i ? ", " : "", part,
						 type);
	}
	return list.data;
}

/* "k.key1::uuid = s.id AND …": a row of staging that was seen. */
static char *
key_condition(const IngestRun *run)
{
	StringInfoData condition;

	initStringInfo(&condition);
	for (int i = 0; i < run->stream->key_count; i++)
	{
		char	   *column;
		char	   *type;

		key_column(run, i, &column, &type);
		appendStringInfo(&condition, "%sk.key%d::%s = %s",
						 i ? " AND " : "", i + 1, type, column);
	}
	return condition.data;
}

/* ---- what a crawl brings ---- */

static void
make_seen_table(const IngestRun *run)
{
	StringInfoData columns;

	initStringInfo(&columns);
	for (int i = 0; i < run->stream->key_count; i++)
		appendStringInfo(&columns, "%skey%d text NOT NULL", i ? ", " : "",
						 i + 1);
	core_execute(psprintf("CREATE TABLE IF NOT EXISTS %s (%s)",
						  seen_table(run), columns.data), NULL,
				 SPI_OK_UTILITY);
}

/* Keys to keep. */
typedef struct SeenKeys
{
	const IngestRun *run;
	char	  **keys;
	int			count;
} SeenKeys;

/* Step of core_try. */
static void
keep_keys(void *arg)
{
	SeenKeys   *seen = arg;
	CoreArgs	args = {0};

	core_arg_text_array(&args, seen->keys, seen->count);
	core_execute(psprintf("INSERT INTO %s SELECT %s FROM unnest($1) AS k (t)",
						  seen_table(seen->run), key_values(seen->run)),
				 &args, SPI_OK_INSERT);
}

/* The same, but for those that are no values of staging's: no row has them. */
static void
keep_possible_keys(const IngestRun *run, char **keys, int count)
{
	SeenKeys	seen = {run, keys, count};
	ErrorData  *error;

	if (count == 0)
		return;
	error = core_try(keep_keys, &seen);
	if (error == NULL)
		return;
	if (ERRCODE_TO_CATEGORY(error->sqlerrcode) != ERRCODE_DATA_EXCEPTION)
		ReThrowError(error);
	FreeErrorData(error);
	if (count == 1)
		return;
	keep_possible_keys(run, keys, count / 2);
	keep_possible_keys(run, keys + count / 2, count - count / 2);
}

/* Keeps the keys of the records, inside the page's work. */
void
ingest_note_seen(IngestRun *run, IngestRecord **records, int count)
{
	char	  **keys;

	if (!ingest_tracks_seen(run))
		return;
	keys = palloc_extended(sizeof(char *) * (Size) Max(count, 1),
						   MCXT_ALLOC_HUGE);
	for (int i = 0; i < count; i++)
		keys[i] = records[i]->key;
	make_seen_table(run);
	keep_possible_keys(run, keys, count);
}

/* The crawl is whole: what it did not bring is gone. */
void
ingest_delete_unseen(IngestRun *run)
{
	if (!ingest_tracks_seen(run) ||
		!OidIsValid(core_table_oid(CORE_LAYER_STAGING,
								   psprintf("%s__seen", run->stream->table))))
		return;
	run->counts.deleted += core_execute(psprintf(
												 "DELETE FROM %s AS s WHERE NOT EXISTS ("
												 " SELECT FROM %s AS k WHERE %s)",
												 core_qualified(CORE_LAYER_STAGING,
																run->stream->table),
												 seen_table(run),
												 key_condition(run)),
										NULL, SPI_OK_DELETE);
	core_execute(psprintf("DROP TABLE %s", seen_table(run)), NULL,
				 SPI_OK_UTILITY);
}

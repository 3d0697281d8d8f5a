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

/* Keeps the keys of the records, inside the page's work. */
void
ingest_note_seen(IngestRun *run, IngestRecord **records, int count)
{
	char	  **keys;
	CoreArgs	args = {0};

	if (!ingest_tracks_seen(run))
		return;
	keys = palloc_extended(sizeof(char *) * (Size) Max(count, 1),
						   MCXT_ALLOC_HUGE);
	for (int i = 0; i < count; i++)
		keys[i] = records[i]->key;
	core_execute(psprintf("CREATE TABLE IF NOT EXISTS %s"
						  " (source_key text NOT NULL)", seen_table(run)),
				 NULL, SPI_OK_UTILITY);
	core_arg_text_array(&args, keys, count);
	core_execute(psprintf("INSERT INTO %s SELECT unnest($1)",
						  seen_table(run)), &args, SPI_OK_INSERT);
}

/* The key of a row of staging as _source_key has it. */
static char *
key_expression(const IngestRun *run)
{
	const IngestStream *stream = run->stream;
	StringInfoData text;

	if (stream->key_count == 1)
		return psprintf("s.%s::text",
						quote_identifier(core_snake_case(stream->keys[0])));
	initStringInfo(&text);
	appendStringInfoString(&text, "'['");
	for (int i = 0; i < stream->key_count; i++)
		appendStringInfo(&text, " || %sto_json(s.%s)::text",
						 i ? "',' || " : "",
						 quote_identifier(core_snake_case(stream->keys[i])));
	appendStringInfoString(&text, " || ']'");
	return text.data;
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
												 " SELECT FROM %s AS k WHERE k.source_key = %s)",
												 core_qualified(CORE_LAYER_STAGING,
																run->stream->table),
												 seen_table(run),
												 key_expression(run)),
										NULL, SPI_OK_DELETE);
	core_execute(psprintf("DROP TABLE %s", seen_table(run)), NULL,
				 SPI_OK_UTILITY);
}

/*-------------------------------------------------------------------------
 *
 * merge.c
 *		The end of a crawl with write_disposition 'history'.
 *
 * Room history is called through SQL only.  The history is declared by the
 * stream on first use; after that its declaration is the user's to change.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/core.h"
#include "ingest/ingest.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* The columns of these fields that staging has. */
static char **
existing_columns(const IngestRun *run, char **fields, int *count)
{
	char	  **columns = palloc(sizeof(char *) * Max(*count, 1));
	int			kept = 0;

	for (int i = 0; i < *count; i++)
	{
		char	   *column = ingest_column(run->stream->endpoint, fields[i]);

		for (int j = 0; j < run->column_count; j++)
			if (strcmp(run->columns[j].name, column) == 0)
				columns[kept++] = column;
	}
	*count = kept;
	return columns;
}

/* An option of the stream, a list of columns, else these fields' columns. */
static void
arg_columns(CoreArgs *args, const IngestRun *run, const char *option,
			char **fields, int count)
{
	int			declared;
	char	  **columns = core_json_text_array(run->stream->options, option,
											   &declared);

	if (columns == NULL)
	{
		columns = existing_columns(run, fields, &count);
		declared = count;
	}
	if (declared > 0)
		core_arg_text_array(args, columns, declared);
	else
		core_arg(args, TEXTARRAYOID, (Datum) 0, true);
}

/* The condition that a record deletes its key, from the manifest, or NULL. */
static char *
delete_condition(const IngestStream *stream)
{
	Jsonb	   *rule = core_json_value(stream->endpoint, "deleted_when");
	const char *mark = stream->tombstones ? "_deleted" : NULL;
	char	   *condition;

	if (strcmp(stream->hard_deletes, "ignore") == 0)
		return NULL;
	if (rule == NULL)
		return mark ? pstrdup(mark) : NULL;
	condition = psprintf("%s::text = %s",
						 quote_identifier(ingest_column(stream->endpoint,
														core_json_text(rule, "path"))),
						 quote_literal_cstr(core_json_text(rule, "equals")));
	return mark ? psprintf("%s OR %s", condition, mark) : condition;
}

/* Declares the stream's history. */
static void
create_history(const IngestRun *run, const char *history)
{
	const IngestStream *stream = run->stream;
	int			system_count;
	char	  **system_fields = core_json_text_array(stream->endpoint,
													 "system_fields",
													 &system_count);
	char	   *cursor[1] = {stream->cursor.field};
	int			key_count = stream->key_count;
	char	  **keys = existing_columns(run, stream->keys, &key_count);
	CoreArgs	args = {0};

	core_arg_text(&args, history);
	core_arg_text(&args, psprintf("staging.%s", stream->table));
	core_arg_text_array(&args, keys, key_count);
	arg_columns(&args, run, "sequence_by", cursor,
				stream->cursor.field ? 1 : 0);
	arg_columns(&args, run, "track_history_columns", NULL, 0);
	arg_columns(&args, run, "fixed_columns", system_fields, system_count);
	core_arg_text(&args, stream->hard_deletes);
	core_arg_text(&args, delete_condition(stream));
	core_execute(psprintf("SELECT %s.visage_create_history($1, $2, $3,"
						  " sequence_by => $4,"
						  " track_history_columns => $5,"
						  " fixed_columns => $6, hard_deletes => $7,"
						  " delete_when => $8)", core_extension_schema()),
				 &args, SPI_OK_SELECT);

	memset(&args, 0, sizeof(args));
	core_arg_text(&args, history);
	core_arg_text(&args, psprintf("stream %s", stream->name));
	core_execute("UPDATE visage.declarations SET parent = $2"
				 " WHERE noun = 'history' AND name = $1", &args,
				 SPI_OK_UPDATE);
}

/*
 * How the stream's deletes are obeyed may have changed since its history was
 * declared; a history that was released from its stream is the user's.
 */
static void
follow_deletes(const IngestStream *stream, const char *history,
			   Jsonb *declared)
{
	char	   *condition = delete_condition(stream);
	char	   *was = core_json_text(declared, "delete_when");
	CoreArgs	args = {0};

	if (strcmp(core_json_text(declared, "hard_deletes"),
			   stream->hard_deletes) == 0 &&
		(was == NULL || condition == NULL ? was == condition :
		 strcmp(was, condition) == 0))
		return;
	core_arg_text(&args, history);
	core_arg_text(&args, psprintf("stream %s", stream->name));
	core_arg_text(&args, stream->hard_deletes);
	core_arg_text(&args, condition);
	core_execute(psprintf("SELECT %s.visage_alter_history(d.name,"
						  " jsonb_build_object('hard_deletes', $3,"
						  " 'delete_when', $4))"
						  " FROM visage.declarations AS d"
						  " WHERE noun = 'history' AND name = $1"
						  " AND parent = $2", core_extension_schema()),
				 &args, SPI_OK_SELECT);
}

/*
 * ERROR unless the history is made from the stream's staging table.  The
 * merge runs as the extension's owner, who must not run a query of the
 * history's declaration.
 */
static void
check_source(const char *history, Jsonb *declared, const char *staging)
{
	char	   *source = core_json_text(declared, "source");

	if (source == NULL || strcmp(source, staging) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("\"%s\" is not the history of its stream", history),
				 errdetail("Its source is %s, not %s.", source, staging),
				 errhint("Drop that history, or use write_disposition => "
						 "'merge' and call visage_merge.")));
}

/*
 * As of when a complete extract is: the crawl's beginning by the system's
 * clock, since what was deleted while it ran may be in it.
 */
static TimestampTz
time_of_extract(const IngestRun *run)
{
	const char *format = run->stream->cursor.format;
	TimestampTz now = GetCurrentTransactionStartTimestamp();
	TimestampTz began;

	if (run->position.began == NULL || format == NULL)
		return now;
	if (strcmp(format, "integer") == 0 || strcmp(format, "text") == 0)
		format = "iso8601";
	return ingest_parse_instant(run->position.began, format, &began) ?
		Min(began, now) : now;
}

/*
 * Merges staging into the stream's history, as the extension's owner.
 * Returns the counts as JSON, or NULL where there is nothing to merge.
 */
char *
ingest_merge_history(IngestRun *run)
{
	char	   *history = psprintf("history.%s", run->stream->table);
	char	   *staging = psprintf("staging.%s", run->stream->table);
	Jsonb	   *declared;
	CoreArgs	args = {0};

	if (strcmp(run->stream->disposition, "history") != 0 ||
		!OidIsValid(core_own_table(CORE_LAYER_STAGING, run->stream->table)))
		return NULL;
	if (run->columns == NULL)
		ingest_prepare_staging(run);
	declared = core_find_declaration("history", history, true);
	if (declared == NULL)
		create_history(run, history);
	else
	{
		check_source(history, declared, staging);
		follow_deletes(run->stream, history, declared);
	}
	core_arg_text(&args, core_qualified(CORE_LAYER_HISTORY,
										run->stream->table));
	core_arg_text(&args, staging);
	core_arg(&args, BOOLOID, BoolGetDatum(ingest_tracks_seen(run)), false);
	core_arg(&args, TIMESTAMPTZOID, TimestampTzGetDatum(time_of_extract(run)),
			 false);
	return core_query_text(psprintf("SELECT to_jsonb(m)"
									" FROM %s.visage_merge($1::regclass, $2,"
									" complete => $3, extract_at =>"
									" CASE WHEN $3 THEN $4 END) AS m",
									core_extension_schema()),
						   &args, CurrentMemoryContext);
}

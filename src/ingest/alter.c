/*-------------------------------------------------------------------------
 *
 * alter.c
 *		Changing connectors, sources and streams, and what may not change.
 *
 * The changes themselves are core's (core/alter.c).  Of a stream that has
 * data, what its tables are made from stays: the key, the disposition, the
 * types of the columns that staging has.  Of one that has come some way, what
 * the cursor's value means stays.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "core/core.h"
#include "ingest/ingest.h"
#include "utils/builtins.h"

/* The session that ingests a stream now, 0: none.  As the owner. */
int64
ingest_run_under_way(const char *name)
{
	CoreArgs	args = {0};

	core_arg_text(&args, name);
	return core_query_int8("SELECT r.pid::bigint FROM visage.run_log AS r"
						   " JOIN pg_stat_activity AS a ON a.pid = r.pid"
						   " AND a.backend_start <= r.started_at"
						   " WHERE r.kind = 'stream' AND r.name = $1"
						   " AND r.state = 'running'", &args, 0);
}

/* ERROR where a stream, its source or its connector is paused.  As the owner. */
void
ingest_require_resumed(const char *name)
{
	CoreArgs	args = {0};

	core_arg_text(&args, name);
	if (core_execute("SELECT d.noun, d.name"
					 " FROM visage.declarations AS t"
					 " JOIN visage.declarations AS s ON s.noun = 'source'"
					 " AND s.name = t.definition ->> 'source'"
					 " JOIN visage.declarations AS d ON d.paused"
					 " AND (d.noun, d.name) IN (('stream', t.name),"
					 " ('source', s.name),"
					 " ('connector', s.definition ->> 'connector'))"
					 " WHERE t.noun = 'stream' AND t.name = $1"
					 " ORDER BY d.noun DESC", &args, SPI_OK_SELECT) > 0)
	{
		char	   *noun = core_value_text(0, 1);
		char	   *paused = core_value_text(0, 2);

		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("%s \"%s\" is paused", noun, paused),
				 errhint("Run visage_resume('%s', '%s').", noun, paused)));
	}
}

/* ---- what of a stream may not change ---- */

static bool
is_same(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

/* ERROR where an argument of the stream would change. */
static void
refuse_change(const char *stream, const char *argument, Jsonb *old,
			  Jsonb *new, const char *reason, const char *hint)
{
	char	   *was = core_json_text(old, argument);
	char	   *is = core_json_text(new, argument);

	if (!is_same(was, is))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot change \"%s\" of stream \"%s\"", argument,
						stream),
				 errdetail("It is %s and would become %s, %s.",
						   was ? was : "NULL", is ? is : "NULL", reason),
				 errhint("%s", hint)));
}

/* The type of a column of staging, or NULL where it has none. */
static char *
column_type(const char *table, const char *column)
{
	CoreArgs	args = {0};

	core_arg_text(&args, core_qualified(CORE_LAYER_STAGING, table));
	core_arg_text(&args, column);
	return core_query_text("SELECT format_type(atttypid, atttypmod)"
						   " FROM pg_attribute WHERE attrelid = $1::regclass"
						   " AND attname = $2 AND NOT attisdropped", &args,
						   CurrentMemoryContext);
}

/* Columns that staging has keep their type. */
static void
refuse_types(const char *stream, const char *table, Jsonb *old, Jsonb *new)
{
	Jsonb	   *endpoint = ingest_read_stream(stream)->endpoint;
	int			count;
	char	  **fields = core_json_keys(new, &count);

	for (int i = 0; i < count; i++)
	{
		char	   *declared = core_json_text(new, fields[i]);
		char	   *column = ingest_column(endpoint, fields[i]);
		char	   *type = column_type(table, column);

		if (type != NULL && strcmp(type, declared) != 0 &&
			!is_same(declared, core_json_text(old, fields[i])))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("cannot change \"columns\" of stream \"%s\"",
							stream),
					 errdetail("Column \"%s\" is %s and would become %s, "
							   "which needs the data to be written again.",
							   column, type, declared),
					 errhint("Drop the stream and create it anew.")));
	}
}

/* Both keep a row a key in staging, so nothing is written again. */
static bool
keeps_staging(Jsonb *definition)
{
	char	   *disposition = core_json_text(definition, "write_disposition");

	return strcmp(disposition, "merge") == 0 ||
		strcmp(disposition, "history") == 0;
}

static void
check_change(const char *name, Jsonb *old, Jsonb *new)
{
	static const char written[] = "which needs the data to be written again";
	static const char anew[] = "Drop the stream and create it anew.";
	static const char meant[] = "which the cursor's value does not stand for";
	char	   *table = psprintf("%s__%s", core_json_text(old, "source"),
								 core_json_text(old, "stream"));
	char	   *reset = psprintf("Run visage_reset_stream('%s') first.", name);
	bool		has_table = OidIsValid(core_own_table(CORE_LAYER_STAGING,
													  table));
	CoreArgs	args = {0};

	if (has_table || ingest_run_under_way(name) != 0)
	{
		refuse_change(name, "primary_key", old, new, written, anew);
		if (!keeps_staging(old) || !keeps_staging(new))
			refuse_change(name, "write_disposition", old, new, written, anew);
	}
	if (has_table)
		refuse_types(name, table, core_json_value(old, "columns"),
					 core_json_value(new, "columns"));
	core_arg_text(&args, name);
	if (core_query_int8("SELECT count(*) FROM visage.stream_states"
						" WHERE stream = $1 AND (cursor_value IS NOT NULL"
						" OR crawl IS NOT NULL)", &args, 0) > 0)
	{
		refuse_change(name, "cursor_field", old, new, meant, reset);
		refuse_change(name, "resource", old, new, meant, reset);
	}
}

/* ERROR where a stream's new definition asks for what may not change. */
void
ingest_check_change(const char *name, Jsonb *definition)
{
	Jsonb	   *old = core_find_declaration("stream", name, true);
	CoreIdentity caller;

	if (old == NULL)
		return;
	core_spi_begin();
	core_become_owner(&caller);
	check_change(name, old, definition);
	core_become_caller(&caller);
	core_spi_end();
}

/* ---- the functions ---- */

PG_FUNCTION_INFO_V1(visage_alter_connector);
Datum
visage_alter_connector(PG_FUNCTION_ARGS)
{
	core_alter("connector", text_to_cstring(PG_GETARG_TEXT_PP(0)),
			   PG_GETARG_JSONB_P(1));
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(visage_alter_source);
Datum
visage_alter_source(PG_FUNCTION_ARGS)
{
	core_alter("source", text_to_cstring(PG_GETARG_TEXT_PP(0)),
			   PG_GETARG_JSONB_P(1));
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(visage_alter_stream);
Datum
visage_alter_stream(PG_FUNCTION_ARGS)
{
	core_alter("stream", text_to_cstring(PG_GETARG_TEXT_PP(0)),
			   PG_GETARG_JSONB_P(1));
	PG_RETURN_VOID();
}

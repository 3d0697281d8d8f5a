/*-------------------------------------------------------------------------
 *
 * database.c
 *		A crawl of another PostgreSQL database.
 *
 * All of a crawl is read in one transaction of the source, REPEATABLE READ
 * and read-only: one snapshot S, of which the oldest running transaction,
 * S.xmin, is noted.  The next crawl reads the rows whose system column xmin
 * is S.xmin or later.  That is no fewer than what S did not see: a row
 * version that S does not see was written by a transaction that ran when S
 * was taken, or began afterwards, and so has an id of at least S.xmin; the
 * ids of its subtransactions are greater still, and a prepared transaction
 * runs until it is committed.  What S saw already comes again where it is not
 * older than S.xmin, and is found unchanged.
 *
 * Ids are compared by their age, modulo 2^32, which is right while fewer than
 * 2^31 have passed; the snapshot's ids have an epoch and tell.  If more have,
 * or the source is another one by now (its identifier or timeline, the tables
 * under the name, the columns), the whole is read again.
 *
 * Views and queries have no xmin; there the cursor alone says what is new,
 * less the stream's lag.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "core/core.h"
#include "core/secret.h"
#include "core/settings.h"
#include "ingest/database.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define SYSTEM_CURSOR "xmin"
#define MOST_XIDS (INT64CONST(1) << 30) /* between two crawls */

/* How the session at the source reads and writes values. */
static const char session_settings[] =
"SET search_path = pg_catalog;"
"SET DateStyle = ISO;"
"SET IntervalStyle = postgres;"
"SET TimeZone = 'UTC';"
"SET extra_float_digits = 3;"
"SET bytea_output = hex;"
"SET statement_timeout = 0;"
"SET lock_timeout = '30s';"
"SET idle_in_transaction_session_timeout = 0;"
"SET row_security = off";

/* ---- connecting ---- */

/* Connects as the stream's source says, and makes the session fit. */
NetDatabase *
database_connect(IngestStream *stream, MemoryContext context)
{
	NetDatabaseOptions options = stream->database->options;
	char	   *reference = core_json_text(stream->secrets, "password");
	NetDatabase *connection;

	if (options.host == NULL || options.database == NULL ||
		options.user == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s needs \"host\", \"dbname\" and \"user\" among "
						"its options", stream->database->what)));
	options.password = reference ? core_read_secret("password", reference) :
		NULL;
	options.needs_password = !superuser();
	InvalidateCatalogSnapshot();
	connection = net_database_open(context, &options, stream->database->what);
	(void) net_database_query(connection, session_settings);
	return connection;
}

/* ---- what the source is ---- */

/* The table, or the query as one. */
char *
database_from(const IngestRun *run)
{
	const IngestDatabase *database = run->stream->database;

	return database->relation ? database->relation :
		psprintf("(%s\n) AS visage_query", database->query);
}

/* The only row of a query, in the crawl's memory. */
static char **
ask(IngestRun *run, const char *sql)
{
	DatabaseCrawl *crawl = run->database;
	MemoryContext caller = MemoryContextSwitchTo(crawl->context);
	NetDatabaseResult *result = net_database_query(crawl->connection, sql);

	MemoryContextSwitchTo(caller);
	return result->rows == 1 ? result->values : NULL;
}

/* Takes the snapshot of the crawl. */
static void
take_snapshot(IngestRun *run)
{
	DatabaseCrawl *crawl = run->database;
	char	  **values;

	(void) net_database_query(crawl->connection,
							  "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
	values = ask(run, "SELECT txid_snapshot_xmin(s), txid_snapshot_xmax(s),"
				 " has_function_privilege('pg_control_system()', 'EXECUTE')"
				 " AND has_function_privilege('pg_control_checkpoint()',"
				 " 'EXECUTE') FROM txid_current_snapshot() AS s");
	crawl->xmin = strtoll(values[0], NULL, 10);
	crawl->xmax = strtoll(values[1], NULL, 10);
	crawl->system = "";
	if (values[2][0] == 't')
		crawl->system = ask(run, "SELECT system_identifier || '/' ||"
							" CASE WHEN pg_is_in_recovery() THEN timeline_id"
							" ELSE ('x' || left(pg_walfile_name("
							"pg_current_wal_lsn()), 8))::bit(32)::int END"
							" FROM pg_control_system(),"
							" pg_control_checkpoint()")[0];
}

/* What the relation is, and which tables are below it. */
static void
examine_relation(IngestRun *run)
{
	DatabaseCrawl *crawl = run->database;
	const IngestDatabase *database = run->stream->database;
	char	  **values;

	crawl->tables = "";
	if (database->relation == NULL)
		return;
	values = ask(run, psprintf("WITH RECURSIVE tree AS (SELECT c.oid, c.relkind"
							   " FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
							   " WHERE n.nspname = %s AND c.relname = %s"
							   " UNION SELECT c.oid, c.relkind FROM tree"
							   " JOIN pg_inherits AS i ON i.inhparent = tree.oid"
							   " JOIN pg_class AS c ON c.oid = i.inhrelid)"
							   " SELECT bool_and(relkind IN ('r', 'p', 'm')),"
							   " md5(string_agg(oid::text, ',' ORDER BY oid))"
							   " FROM tree HAVING count(*) > 0",
							   quote_literal_cstr(database->schema),
							   quote_literal_cstr(database->table)));
	/* a name that is not there is an error of the next statement */
	if (values == NULL)
		return;
	crawl->has_xmin = values[0][0] == 't';
	crawl->tables = values[1];
}

/* Tells tables, their columns and the server apart. */
static char *
fingerprint(const IngestRun *run)
{
	const DatabaseCrawl *crawl = run->database;
	char	   *list = database_select_list(run, false);

	uint64		hash = hash_bytes_extended((unsigned char *) list, strlen(list),
										   0);

	return psprintf("%s %s %016llx", crawl->system, crawl->tables,
					(unsigned long long) hash);
}

/* ---- which rows ---- */

/* Does the last crawl's snapshot say what is new? */
static bool
watermark_holds(const IngestRun *run)
{
	const DatabaseCrawl *crawl = run->database;
	char	   *xmin = core_json_text(crawl->watermark, "xmin");
	char	   *source = core_json_text(crawl->watermark, "source");
	int64		since;

	if (xmin == NULL || source == NULL || !crawl->has_xmin ||
		run->stream->database->by_cursor ||
		strcmp(source, fingerprint(run)) != 0)
		return false;
	since = strtoll(xmin, NULL, 10);
	return since <= crawl->xmin && crawl->xmax - since < MOST_XIDS;
}

/* "cursor >= value", less the lag. */
static char *
cursor_condition(const IngestRun *run, const char *value, bool lag)
{
	const IngestStream *stream = run->stream;
	const char *column = quote_identifier(stream->cursor.field);
	const char *type = NULL;

	for (int i = 0; i < run->database->column_count; i++)
		if (strcmp(run->database->columns[i].name,
				   stream->cursor.field) == 0)
			type = run->database->columns[i].type_name;
	if (type == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("stream \"%s\" has no column \"%s\" at its source, "
						"which is its cursor", stream->name,
						stream->cursor.field)));
	if (lag && ingest_duration(stream->lag) > 0)
		return psprintf("%s >= (%s::%s - %s::interval)", column,
						quote_literal_cstr(value), type,
						quote_literal_cstr(stream->lag));
	return psprintf("%s >= %s::%s", column, quote_literal_cstr(value), type);
}

/* The rows between the values of a back-fill. */
static char *
back_fill_condition(const IngestRun *run)
{
	StringInfoData text;

	initStringInfo(&text);
	if (run->from_value != NULL)
		appendStringInfoString(&text, cursor_condition(run, run->from_value,
													   false));
	if (run->to_value != NULL)
		appendStringInfo(&text, "%sNOT (%s)", text.len ? " AND " : "",
						 cursor_condition(run, run->to_value, false));
	return text.data;
}

/* Which rows are to be read. */
static char *
row_condition(IngestRun *run)
{
	DatabaseCrawl *crawl = run->database;
	const IngestStream *stream = run->stream;
	bool		by_system = stream->database->by_system;

	if (run->back_fill)
		return back_fill_condition(run);
	if (stream->cursor.field == NULL ||
		strcmp(stream->disposition, "replace") == 0)
		crawl->whole = true;
	else if (watermark_holds(run))
	{
		uint32		since = (uint32) strtoll(core_json_text(crawl->watermark,
															"xmin"), NULL, 10);
		char	   *condition = psprintf("age(xmin) <= age('%u'::xid)", since);

		if (!by_system && crawl->cursor_value != NULL &&
			ingest_duration(stream->lag) > 0)
			condition = psprintf("(%s OR %s)", condition,
								 cursor_condition(run, crawl->cursor_value,
												  true));
		return stream->initial_value == NULL ? condition :
			psprintf("%s AND %s", condition,
					 cursor_condition(run, stream->initial_value, false));
	}
	else if (by_system || crawl->watermark != NULL ||
			 (crawl->cursor_value == NULL && stream->initial_value == NULL))
		crawl->whole = true;
	else if (crawl->cursor_value != NULL)
		return cursor_condition(run, crawl->cursor_value, true);
	else
		return cursor_condition(run, stream->initial_value, false);
	if (stream->initial_value != NULL)
		return cursor_condition(run, stream->initial_value, false);
	return pstrdup("true");
}

/* The greatest value of the cursor in the snapshot, where it is needed. */
static void
read_newest(IngestRun *run)
{
	DatabaseCrawl *crawl = run->database;
	const IngestStream *stream = run->stream;

	if (stream->cursor.field == NULL || stream->database->by_system ||
		run->back_fill)
		return;
	/* where xmin tells, the cursor only says where the lag begins */
	if (crawl->has_xmin && !stream->database->by_cursor &&
		ingest_duration(stream->lag) == 0)
		return;
	crawl->next_cursor = ask(run, psprintf("SELECT max(%s)::text FROM %s",
										   quote_identifier(stream->cursor.field),
										   database_from(run)))[0];
}

/* ---- the position ---- */

/* Where the last crawl came to, and whether one is under way; inside work. */
void
ingest_read_database_position(IngestRun *run, bool full_refresh)
{
	DatabaseCrawl *crawl =
	MemoryContextAllocZero(run->context, sizeof(DatabaseCrawl));
	const IngestStream *stream = run->stream;
	MemoryContext caller;
	CoreArgs	args = {0};
	char	   *text;

	crawl->context = run->context;
	crawl->pages[0].context = crawl->pages[1].context = run->context;
	run->database = crawl;
	run->complete = !run->back_fill && stream->key_count > 0 &&
		strcmp(stream->hard_deletes, "ignore") != 0 &&
		(strcmp(stream->disposition, "merge") == 0 ||
		 strcmp(stream->disposition, "history") == 0);
	core_arg_text(&args, stream->name);
	if (run->back_fill ||
		core_execute("SELECT cursor_value, crawl::text, watermark::text"
					 " FROM visage.stream_states WHERE stream = $1", &args,
					 SPI_OK_SELECT) == 0)
		return;
	caller = MemoryContextSwitchTo(run->context);
	text = core_value_text(0, 2);
	if (text != NULL)
	{
		Jsonb	   *under_way = core_json_parse(text);

		crawl->first_run = strtoll(core_json_text(under_way, "first_run"),
								   NULL, 10);
		crawl->fresh = core_json_bool(under_way, "fresh", false);
	}
	text = core_value_text(0, 3);
	if (!full_refresh)
	{
		crawl->cursor_value = core_value_text(0, 1);
		crawl->watermark = text ? core_json_parse(text) : NULL;
	}
	MemoryContextSwitchTo(caller);
}

/* Notes that the crawl is under way. */
static void
save_crawl(IngestRun *run)
{
	DatabaseCrawl *crawl = run->database;
	CoreArgs	args = {0};

	core_arg_text(&args, run->stream->name);
	core_arg_text(&args, psprintf("{\"first_run\": " INT64_FORMAT
								  ", \"fresh\": %s}", crawl->first_run,
								  crawl->fresh ? "true" : "false"));
	core_execute("INSERT INTO visage.stream_states (stream, crawl)"
				 " VALUES ($1, $2::jsonb) ON CONFLICT (stream) DO UPDATE SET"
				 " crawl = EXCLUDED.crawl, updated_at = now()", &args,
				 SPI_OK_INSERT);
}

/*
 * What an interrupted crawl left is taken away where it cannot be gone on
 * from: a first snapshot begins anew, since no other one fits its rows.
 */
static void
take_up_crawl(IngestRun *run)
{
	DatabaseCrawl *crawl = run->database;
	const IngestStream *stream = run->stream;
	char	   *staging = core_qualified(CORE_LAYER_STAGING, stream->table);

	if (run->back_fill || stream->spooled)
	{
		crawl->fresh = false;
		return;
	}
	if (crawl->first_run != 0 && crawl->fresh)
		core_execute(psprintf("TRUNCATE %s", staging), NULL, SPI_OK_UTILITY);
	else
		crawl->fresh = core_execute(psprintf("SELECT FROM %s LIMIT 1",
											 staging), NULL,
									SPI_OK_SELECT) == 0;
	if (crawl->first_run == 0)
		crawl->first_run = run->run_id;
	save_crawl(run);
}

/* ---- pages ---- */

/* From talking to working; received texts are UTF-8, whatever the client's. */
void
database_begin_work(IngestRun *run)
{
	ingest_begin_work(run);
	(void) set_config_option("client_encoding", "UTF8", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	/* a page of a query under way cannot be asked for again */
	(void) set_config_option("lock_timeout", "10s", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

static void
lock_stream(const IngestRun *run)
{
	CoreArgs	args = {0};

	core_arg_text(&args, run->stream->name);
	core_execute("SELECT pg_advisory_xact_lock(hashtext('visage stream'),"
				 " hashtext($1))", &args, SPI_OK_SELECT);
}

/* Makes the tables fit, and the crawl's beginning known. */
static void
prepare(IngestRun *run)
{
	database_begin_work(run);
	lock_stream(run);
	database_prepare_staging(run);
	take_up_crawl(run);
	ingest_end_work(run);
}

/* Applies a page in a transaction of its own. */
static void
commit_page(IngestRun *run, NetDatabasePage *page, NetDatabasePage *next,
			size_t wanted)
{
	run->counts.pages++;
	if (run->stream->spooled)
	{
		run->counts.records += page->count;
		database_spool_page(run, page);
		return;
	}
	database_begin_work(run);
	lock_stream(run);
	database_apply_page(run, page, next, wanted);
	ingest_save_run(run);
	ingest_relax_commit();
	ingest_end_work(run);
}

/* Reads the rows and applies them, page by page. */
static void
copy_rows(IngestRun *run)
{
	DatabaseCrawl *crawl = run->database;
	size_t		wanted = core_setting_int("visage.ingest_memory") * 1024 / 2;
	bool		more;

	net_database_copy(crawl->connection,
					  psprintf("COPY (SELECT %s FROM %s WHERE %s) TO STDOUT"
							   " (FORMAT binary)",
							   database_select_list(run, false),
							   database_from(run), row_condition(run)));
	for (int i = 0;; i = 1 - i)
	{
		NetDatabasePage *page = &crawl->pages[i];
		NetDatabasePage *next = &crawl->pages[1 - i];

		MemoryContextReset(run->page_context);
		MemoryContextSwitchTo(run->page_context);
		Assert(!TransactionIdIsValid(MyProc->xmin));
		more = net_database_read(crawl->connection, page, wanted);
		next->length = next->count = 0;
		commit_page(run, page, more ? next : NULL, wanted);
		if (!more)
			break;
	}
}

/* The crawl from its beginning to the end of what is read. */
void
ingest_crawl_database(IngestRun *run)
{
	DatabaseCrawl *crawl = run->database;

	if (run->back_fill && run->stream->database->by_system)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("stream \"%s\" has no cursor field to fill back by",
						run->stream->name),
				 errdetail("Its cursor field is xmin.")));
	MemoryContextSwitchTo(run->page_context);
	crawl->connection = database_connect(run->stream, run->context);
	take_snapshot(run);
	examine_relation(run);
	database_describe(run);
	prepare(run);
	MemoryContextSwitchTo(run->page_context);
	read_newest(run);
	copy_rows(run);
	if (run->complete && !crawl->fresh)
		database_copy_keys(run);
	MemoryContextSwitchTo(run->page_context);
	net_database_close(crawl->connection);
}

/*
 * The crawl is whole: deletes, the spool, and where the next one begins;
 * inside the run's last work.
 */
void
ingest_finish_database(IngestRun *run)
{
	DatabaseCrawl *crawl = run->database;
	StringInfoData watermark;
	CoreArgs	args = {0};

	lock_stream(run);
	(void) set_config_option("client_encoding", "UTF8", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	if (run->stream->spooled)
		database_apply_spool(run);
	database_delete_missing(run);
	if (run->back_fill)
		return;
	initStringInfo(&watermark);
	appendStringInfo(&watermark, "{\"xmin\": \"" INT64_FORMAT
					 "\", \"source\": ", crawl->xmin);
	escape_json(&watermark, fingerprint(run));
	appendStringInfoChar(&watermark, '}');
	core_arg_text(&args, run->stream->name);
	core_arg_text(&args, crawl->next_cursor);
	core_arg_text(&args, crawl->has_xmin &&
				  run->stream->cursor.field != NULL &&
				  !run->stream->database->by_cursor ? watermark.data : NULL);
	core_execute("INSERT INTO visage.stream_states"
				 " (stream, cursor_value, watermark) VALUES ($1, $2, $3::jsonb)"
				 " ON CONFLICT (stream) DO UPDATE SET"
				 " cursor_value = coalesce(EXCLUDED.cursor_value,"
				 " stream_states.cursor_value), crawl = NULL,"
				 " watermark = EXCLUDED.watermark, updated_at = now()",
				 &args, SPI_OK_INSERT);
}

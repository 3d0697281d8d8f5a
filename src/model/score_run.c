/*-------------------------------------------------------------------------
 *
 * score_run.c
 *		Runs of visage_score_table, and how one goes on after a crash.
 *
 * With visage.score_batch rows are scored in the order of the key, and so
 * many at a time are committed together with the key of the last of them, in
 * the run's row of visage.run_log.  A call for which that row exists, is not
 * finished and says the same version, query, key, mode, reasons and table
 * goes on behind that key; any other begins anew.  A batch holds a lock on
 * the run's row; who finds it unlocked knows that its run is over.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "model/score_table.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* ---- a run's row ---- */

/*
 * Gives up a run in batches that was left unfinished; ERROR where another
 * session is at it.
 */
static void
give_up_others(const char *into)
{
	CoreArgs	args = {0};

	core_arg_text(&args, into);
	core_execute("UPDATE visage.run_log AS r SET state = 'failed', finished_at = clock_timestamp(),"
				 " error = 'the session ended during the run'"
				 " FROM (SELECT run_id FROM visage.run_log WHERE kind = 'scoring' AND name = $1"
				 " AND state = 'running' FOR UPDATE SKIP LOCKED) AS o WHERE r.run_id = o.run_id",
				 &args, SPI_OK_UPDATE);
	if (core_query_int8("SELECT count(*) FROM visage.run_log WHERE kind = 'scoring'"
						" AND name = $1 AND state = 'running'", &args, 0) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("another session is scoring into \"%s\"", into)));
}

/* A row of visage.runs; the caller need not see the table. */
int64
score_begin_run(const char *into)
{
	CoreArgs	args = {0};
	CoreIdentity caller;
	int64		run;

	core_arg_text(&args, into);
	core_become_owner(&caller);
	give_up_others(into);
	run = core_query_int8("WITH run AS ("
						  " INSERT INTO visage.run_log (kind, name, pid)"
						  " VALUES ('scoring', $1, pg_backend_pid())"
						  " RETURNING run_id) SELECT run_id FROM run", &args,
						  0);
	core_become_caller(&caller);
	return run;
}

void
score_end_run(const ScoreRun *run, const ModelEntry *entry)
{
	CoreArgs	args = {0};
	CoreIdentity caller;

	core_arg_int8(&args, run->id);
	core_arg_int8(&args, run->rows);
	core_arg_text(&args, entry->model);
	core_arg(&args, INT4OID, Int32GetDatum(entry->version), false);
	core_become_owner(&caller);
	core_execute("UPDATE visage.run_log SET state = 'success',"
				 " finished_at = clock_timestamp(), error = NULL,"
				 " counters = jsonb_build_object('scored', $2, 'model', $3,"
				 " 'version', $4) WHERE run_id = $1", &args, SPI_OK_UPDATE);
	core_become_caller(&caller);
}

/* ---- runs in batches ---- */

/* What goes from batch to batch; survives the commits. */
typedef struct Batches
{
	const ScoreRequest *request;
	ScoreRequest pinned;		/* the same, of the version found first */
	MemoryContext context;		/* of the batch */
	ScoreRun	run;
	int			batch;
	bool		resumed;
	bool		done;
	char	   *said;			/* the request as JSON */
} Batches;

/* From the next batch on the version is the one that it is now. */
static void
pin_version(Batches *batches)
{
	ModelEntry *entry = model_find(VARDATA_ANY(batches->request->model),
								   VARSIZE_ANY_EXHDR(batches->request->model));

	batches->pinned = *batches->request;
	batches->pinned.model = cstring_to_text(psprintf("%s@%d", entry->model,
													 entry->version));
}

/* What must be the same for a run to go on. */
static char *
describe_request(const Batches *batches, Oid table)
{
	const ScoreRequest *request = &batches->pinned;
	CoreArgs	args = {0};

	core_arg(&args, TEXTOID, PointerGetDatum(request->model), false);
	core_arg_text(&args, request->query);
	core_arg_text_array(&args, request->key, request->key_count);
	core_arg_text(&args, request->mode);
	core_arg_int8(&args, request->reasons);
	core_arg_int8(&args, table);
	return core_query_text("SELECT jsonb_build_object('model', $1, 'query', $2,"
						   " 'key', $3, 'mode', $4, 'reasons', $5,"
						   " 'table', $6)::text", &args,
						   batches->context);
}

/* The key's texts in an array of JSON. */
static char **
read_last(const char *json, int count, MemoryContext context)
{
	CoreArgs	args = {0};
	char	  **last;

	if (json == NULL)
		return NULL;
	last = MemoryContextAlloc(context, sizeof(char *) * count);
	core_arg_text(&args, json);
	core_execute("SELECT e FROM jsonb_array_elements_text($1::jsonb)"
				 " WITH ORDINALITY AS x (e, n) ORDER BY n", &args,
				 SPI_OK_SELECT);
	for (int i = 0; i < count && i < SPI_processed; i++)
		last[i] = MemoryContextStrdup(context, core_value_text(i, 1));
	return last;
}

/* Takes up the run that a call like this one left, if there is one. */
static bool
take_up(Batches *batches)
{
	CoreArgs	args = {0};
	char	   *last;

	core_arg_text(&args, batches->request->into);
	core_arg_text(&args, batches->said);
	if (core_execute("WITH newest AS (SELECT run_id, state, counters FROM visage.run_log"
					 " WHERE run_id = (SELECT max(run_id) FROM visage.run_log"
					 " WHERE kind = 'scoring' AND name = $1) FOR UPDATE SKIP LOCKED)"
					 " UPDATE visage.run_log AS r SET state = 'running', pid = pg_backend_pid(),"
					 " heartbeat_at = clock_timestamp(), finished_at = NULL, error = NULL"
					 " FROM newest AS n WHERE r.run_id = n.run_id AND n.state IN ('running', 'failed')"
					 " AND n.counters -> 'request' = $2::jsonb AND n.counters ? 'last'"
					 " RETURNING r.run_id, n.counters ->> 'scored', n.counters ->> 'last'",
					 &args, SPI_OK_UPDATE_RETURNING) == 0)
		return false;
	batches->run.id = core_value_int8(0, 1);
	batches->run.rows = pg_strtoint64(core_value_text(0, 2));
	last = pstrdup(core_value_text(0, 3));
	batches->run.last = read_last(last, batches->request->key_count,
								  batches->context);
	return true;
}

/* Claims the run: step of core_try. */
static void
claim(void *arg)
{
	Batches    *batches = arg;
	CoreIdentity caller;
	Oid			table;

	pin_version(batches);
	(void) score_target_name(batches->request->into, &table);
	core_become_owner(&caller);
	batches->said = describe_request(batches, table);
	batches->resumed = OidIsValid(table) && take_up(batches);
	if (!batches->resumed)
		batches->run.id = score_begin_run(batches->request->into);
	core_become_caller(&caller);
	if (batches->resumed)
		ereport(NOTICE,
				(errmsg("scoring into \"%s\" goes on behind " INT64_FORMAT " rows",
						batches->request->into, batches->run.rows)));
}

/* Records how far the run has come, in the transaction of its rows. */
static void
record(Batches *batches)
{
	CoreArgs	args = {0};
	CoreIdentity caller;
	Oid			table;

	(void) score_target_name(batches->request->into, &table);
	core_become_owner(&caller);
	batches->said = describe_request(batches, table);
	core_arg_int8(&args, batches->run.id);
	core_arg_int8(&args, batches->run.rows);
	core_arg_text(&args, batches->said);
	core_arg_text_array(&args, batches->run.last, batches->request->key_count);
	core_execute("UPDATE visage.run_log SET heartbeat_at = clock_timestamp(),"
				 " counters = jsonb_build_object('scored', $2, 'request', $3::jsonb,"
				 " 'last', to_jsonb($4)) WHERE run_id = $1", &args,
				 SPI_OK_UPDATE);
	core_become_caller(&caller);
}

/* Locks the run's row, which must still be this session's. */
static void
lock_run(const Batches *batches)
{
	CoreArgs	args = {0};
	CoreIdentity caller;

	core_arg_int8(&args, batches->run.id);
	core_become_owner(&caller);
	if (core_execute("UPDATE visage.run_log SET heartbeat_at = clock_timestamp()"
					 " WHERE run_id = $1 AND state = 'running' AND pid = pg_backend_pid()",
					 &args, SPI_OK_UPDATE) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("another session has taken up scoring into \"%s\"",
						batches->request->into)));
	core_become_caller(&caller);
}

/* ---- the batches' queries ---- */

/* The type of a column of the query, with its modifier. */
static char *
type_of(TupleDesc query, const char *name)
{
	for (int i = 0; i < query->natts; i++)
		if (strcmp(NameStr(TupleDescAttr(query, i)->attname), name) == 0)
			return format_type_with_typemod(TupleDescAttr(query, i)->atttypid,
											TupleDescAttr(query, i)->atttypmod);
	return NULL;
}

/* The query without a semicolon at its end. */
static char *
bare_query(const char *query)
{
	char	   *bare = pstrdup(query);
	int			length = strlen(bare);

	while (length > 0 && strchr("; \t\r\n", bare[length - 1]) != NULL)
		bare[--length] = '\0';
	return bare;
}

/* The key's columns with something before and between them. */
static char *
list_key(const ScoreRequest *request, const char *after, const char *between)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < request->key_count; i++)
		appendStringInfo(&list, "%s%s%s", i > 0 ? between : "",
						 quote_identifier(request->key[i]), after);
	return list.data;
}

/* The rows behind the last key, in the key's order, as many as a batch has. */
static char *
batch_query(const Batches *batches, TupleDesc query)
{
	const ScoreRequest *request = batches->request;
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT * FROM (%s\n) AS visage_query",
					 bare_query(request->query));
	if (batches->run.last != NULL)
	{
		appendStringInfo(&sql, " WHERE (%s) > (", list_key(request, "", ", "));
		for (int i = 0; i < request->key_count; i++)
			appendStringInfo(&sql, "%s%s::%s", i > 0 ? ", " : "",
							 quote_literal_cstr(batches->run.last[i]),
							 type_of(query, request->key[i]));
		appendStringInfoChar(&sql, ')');
	}
	appendStringInfo(&sql, " ORDER BY %s FETCH FIRST %d ROWS WITH TIES",
					 list_key(request, "", ", "), batches->batch);
	return sql.data;
}

/*
 * ERROR where a row has no key: it has no place in the order, so batches
 * behind the first have passed it over.
 */
static void
check_keys(const ScoreRequest *request)
{
	if (core_execute(psprintf("SELECT FROM (%s\n) AS visage_query WHERE %s LIMIT 1",
							  bare_query(request->query),
							  list_key(request, " IS NULL", " OR ")), NULL,
					 SPI_OK_SELECT) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("a row of the query has no key"),
				 errdetail("With visage.score_batch rows are scored in the order of their keys.")));
}

/* Scores one batch: step of core_try. */
static void
score_batch(void *arg)
{
	Batches    *batches = arg;
	const ScoreRequest *request = batches->request;
	bool		first = batches->run.last == NULL;
	int64		before = batches->run.rows;
	Portal		portal = model_open_query(request->query);
	TupleDesc	query = CreateTupleDescCopy(portal->tupDesc);
	ScoreRun	run = batches->run;

	SPI_cursor_close(portal);
	lock_run(batches);
	score_query(&batches->pinned, batch_query(batches, query), &run,
				first && strcmp(request->mode, "replace") == 0, true);
	batches->done = run.rows - before < batches->batch;
	if (batches->done && !first)
		check_keys(request);
	if (batches->done)
	{
		ModelEntry *entry = model_find(VARDATA_ANY(batches->pinned.model),
									   VARSIZE_ANY_EXHDR(batches->pinned.model));

		score_end_run(&run, entry);
	}
	batches->run.rows = run.rows;
	if (run.last != NULL)
	{
		batches->run.last = MemoryContextAlloc(batches->context,
											   sizeof(char *) * request->key_count);
		for (int i = 0; i < request->key_count; i++)
			batches->run.last[i] = MemoryContextStrdup(batches->context,
													   run.last[i]);
		if (!batches->done)
			record(batches);
	}
}

/* Says in the run's row that it has failed, and fails. */
static void
fail(const Batches *batches, ErrorData *error)
{
	CoreArgs	args = {0};
	CoreIdentity caller;

	if (batches->run.id > 0)
	{
		core_arg_int8(&args, batches->run.id);
		core_arg_text(&args, error->message);
		core_become_owner(&caller);
		core_execute("UPDATE visage.run_log SET state = 'failed', finished_at = clock_timestamp(),"
					 " error = $2 WHERE run_id = $1 AND state = 'running'"
					 " AND pid = pg_backend_pid()", &args, SPI_OK_UPDATE);
		core_become_caller(&caller);
		SPI_commit();
	}
	ReThrowError(error);
}

/* Runs a step in a transaction of its own. */
static void
in_transaction(Batches *batches, void (*step) (void *arg))
{
	ErrorData  *error;

	PushActiveSnapshot(GetTransactionSnapshot());
	error = core_try(step, batches);
	PopActiveSnapshot();
	if (error != NULL)
		fail(batches, error);
	SPI_commit();
	CHECK_FOR_INTERRUPTS();
}

/* Scores in batches that are committed; the caller is a CALL at top level. */
void
score_in_batches(const ScoreRequest *request, int batch)
{
	Batches    *batches = palloc0(sizeof(Batches));

	batches->request = request;
	batches->context = CurrentMemoryContext;
	batches->batch = batch;
	in_transaction(batches, claim);
	while (!batches->done)
		in_transaction(batches, score_batch);
}

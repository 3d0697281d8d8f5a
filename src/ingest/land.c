/*-------------------------------------------------------------------------
 *
 * land.c
 *		Applies a page: landing, staging and quarantine, in one transaction.
 *
 * One prepared statement takes the page's records as an array, casts them,
 * upserts staging and lands what changed staging; a record that was read
 * before and has not changed is landed no second time.  Of records with the
 * same key the last of the page wins.
 *
 * The statement runs in a subtransaction.  Where a record cannot be typed,
 * the page is halved until that record stands alone and is quarantined.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/core.h"
#include "ingest/ingest.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

/* ---- the statement ---- */

/* What jsonb_to_record is to give: every column that has a field. */
static char *
record_definition(const IngestRun *run)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < run->column_count; i++)
		if (run->columns[i].field >= 0)
			appendStringInfo(&list, "%s%s %s", list.len ? ", " : "",
							 quote_identifier(run->fields[run->columns[i].field].name),
							 run->columns[i].type);
	return list.data;
}

/* The value of each column, renamed to c0, c1, …; NULL where none came. */
static char *
column_values(const IngestRun *run)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < run->column_count; i++)
	{
		if (run->columns[i].field >= 0)
			appendStringInfo(&list, ", r.%s AS c%d",
							 quote_identifier(run->fields[run->columns[i].field].name),
							 i);
		else
			appendStringInfo(&list, ", NULL::%s AS c%d",
							 run->columns[i].type, i);
	}
	return list.data;
}

/* "c3, c7": the key's columns under their short names, or their own. */
static char *
key_list(const IngestRun *run, bool short_names)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int k = 0; k < run->stream->key_count; k++)
		for (int i = 0; i < run->column_count; i++)
			if (strcmp(run->columns[i].name,
					   core_snake_case(run->stream->keys[k])) == 0)
				appendStringInfo(&list, "%s%s", list.len ? ", " : "",
								 short_names ? psprintf("c%d", i) :
								 quote_identifier(run->columns[i].name));
	return list.data;
}

/* "a, b" or "c0, c1" for all columns. */
static char *
column_list(const IngestRun *run, bool short_names)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < run->column_count; i++)
		appendStringInfo(&list, "%s, ", short_names ? psprintf("c%d", i) :
						 quote_identifier(run->columns[i].name));
	return list.data;
}

/* What happens where the key exists already. */
static char *
conflict_clause(const IngestRun *run)
{
	StringInfoData clause;

	initStringInfo(&clause);
	if (run->stream->key_count == 0)
		return clause.data;
	appendStringInfo(&clause, " ON CONFLICT (%s", key_list(run, false));
	if (strcmp(run->stream->disposition, "append") == 0)
	{
		appendStringInfoString(&clause, ", _record_hash) DO NOTHING");
		return clause.data;
	}
	appendStringInfoString(&clause, ") DO UPDATE SET ");
	for (int i = 0; i < run->column_count; i++)
		appendStringInfo(&clause, "%s = EXCLUDED.%s, ",
						 quote_identifier(run->columns[i].name),
						 quote_identifier(run->columns[i].name));
	appendStringInfoString(&clause, "_run_id = EXCLUDED._run_id,"
						   " _ingested_at = EXCLUDED._ingested_at,"
						   " _record_hash = EXCLUDED._record_hash"
						   " WHERE s._record_hash <> EXCLUDED._record_hash");
	return clause.data;
}

/*
 * The statement that applies a page: $1 the source keys, $2 the records, $3
 * the run.  It gives the number of records landed.
 */
static char *
apply_statement(const IngestRun *run)
{
	const IngestStream *stream = run->stream;
	bool		append = strcmp(stream->disposition, "append") == 0;
	char	   *keys = key_list(run, true);
	const char *distinct = stream->key_count == 0 ? "" :
	psprintf("DISTINCT ON (%s%s) ", keys, append ? ", record_hash" : "");
	const char *order = stream->key_count == 0 ? "position" :
	psprintf("%s%s, position DESC", keys, append ? ", record_hash" : "");
	const char *match = stream->key_count == 0 ? "true" :
	psprintf("(l.record_hash, %s) IN (SELECT _record_hash, %s"
			 " FROM staged)", keys, key_list(run, false));

	return psprintf(
					"WITH typed AS MATERIALIZED ("
					" SELECT p.position, p.source_key, p.record::jsonb,"
					" jsonb_hash_extended(p.record::jsonb, 0) AS record_hash"
					"%s"
					" FROM unnest($1::text[], $2::text[]) WITH ORDINALITY"
					" AS p (source_key, record, position)"
					" CROSS JOIN LATERAL jsonb_to_record(p.record::jsonb)"
					" AS r (%s)),"
					" latest AS MATERIALIZED ("
					" SELECT %s* FROM typed ORDER BY %s),"
					" staged AS ("
					" INSERT INTO %s AS s (%s_run_id, _ingested_at,"
					" _record_hash)"
					" SELECT %s$3, now(), record_hash FROM latest"
					" ORDER BY position%s"
					" RETURNING s.*),"
					" landed AS ("
					" INSERT INTO %s (_run_id, _ingested_at, _source_key,"
					" record)"
					" SELECT $3, now(), source_key, record FROM latest AS l"
					" WHERE %s ORDER BY position RETURNING 1)"
					" SELECT count(*) FROM landed",
					column_values(run), record_definition(run), distinct,
					order, core_qualified(CORE_LAYER_STAGING, stream->table),
					column_list(run, false), column_list(run, true),
					conflict_clause(run),
					core_qualified(CORE_LAYER_LANDING, stream->table), match);
}

/* Prepares the statement once for all pages with the same columns. */
static void
prepare_statement(IngestRun *run)
{
	Oid			types[] = {TEXTARRAYOID, TEXTARRAYOID, INT8OID};
	char	   *sql = apply_statement(run);

	if (run->plan != NULL)
		return;
	run->plan = SPI_prepare(sql, lengthof(types), types);
	if (run->plan == NULL)
		elog(ERROR, "SPI_prepare returned %s: %s",
			 SPI_result_code_string(SPI_result), sql);
	if (SPI_keepplan(run->plan) != 0)
		elog(ERROR, "SPI_keepplan failed");
}

/* ---- records ---- */

/*
 * Puts a record aside with the reason and its bytes; one that is there
 * already, read again at the cursor's edge, is only counted.
 */
static void
quarantine(IngestRun *run, const IngestRecord *record, const char *reason)
{
	bytea	   *raw = palloc(VARHDRSZ + record->slice.length);
	CoreArgs	args = {0};

	SET_VARSIZE(raw, VARHDRSZ + record->slice.length);
	memcpy(VARDATA(raw), record->slice.start, record->slice.length);
	core_arg_text(&args, psprintf("staging.%s", run->stream->table));
	core_arg_int8(&args, run->run_id);
	core_arg_text(&args, record->key);
	core_arg_text(&args, reason);
	core_arg(&args, BYTEAOID, PointerGetDatum(raw), false);
	core_execute("INSERT INTO visage.quarantine"
				 " (dataset, run_id, source_key, reason, raw)"
				 " SELECT $1, $2, $3, $4, $5 WHERE NOT EXISTS ("
				 " SELECT FROM visage.quarantine AS q WHERE q.dataset = $1"
				 " AND md5(q.raw) = md5($5) AND q.replayed_at IS NULL)",
				 &args, SPI_OK_INSERT);
	run->quarantined++;
}

/* An array of text from the records' keys or their bytes. */
static Datum
text_array(IngestRecord **records, int count, bool keys)
{
	Datum	   *values = palloc(sizeof(Datum) * count);
	bool	   *nulls = palloc0(sizeof(bool) * count);
	int			dims[1] = {count};
	int			bounds[1] = {1};

	for (int i = 0; i < count; i++)
	{
		nulls[i] = keys && records[i]->key == NULL;
		if (nulls[i])
			values[i] = (Datum) 0;
		else if (keys)
			values[i] = CStringGetTextDatum(records[i]->key);
		else
			values[i] = PointerGetDatum(
										cstring_to_text_with_len(records[i]->slice.start,
																 records[i]->slice.length));
	}
	return PointerGetDatum(construct_md_array(values, nulls, 1, dims, bounds,
											  TEXTOID, -1, false,
											  TYPALIGN_INT));
}

/* Runs the statement for these records; the number landed. */
static int64
execute_statement(IngestRun *run, IngestRecord **records, int count)
{
	Datum		values[3];
	int			code;

	values[0] = text_array(records, count, true);
	values[1] = text_array(records, count, false);
	values[2] = Int64GetDatum(run->run_id);
	code = SPI_execute_plan(run->plan, values, NULL, false, 0);
	if (code != SPI_OK_SELECT)
		elog(ERROR, "applying a page returned %s",
			 SPI_result_code_string(code));
	return core_value_int8(0, 1);
}

/*
 * Tries the records in a subtransaction.  False where one of them could not
 * be typed, with the reason in the page's context; other errors go on.
 */
static bool
try_records(IngestRun *run, IngestRecord **records, int count, char **reason)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool done = true;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		int64		landed = execute_statement(run, records, count);

		ReleaseCurrentSubTransaction();
		run->landed += landed;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		if (ERRCODE_TO_CATEGORY(error->sqlerrcode) != ERRCODE_DATA_EXCEPTION &&
			ERRCODE_TO_CATEGORY(error->sqlerrcode) !=
			ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION)
			ReThrowError(error);
		*reason = error->message;
		done = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return done;
}

/* Applies the records, halving them round those that cannot be typed. */
static void
apply_records(IngestRun *run, IngestRecord **records, int count)
{
	char	   *reason = NULL;

	CHECK_FOR_INTERRUPTS();
	if (count == 0 || try_records(run, records, count, &reason))
		return;
	if (count == 1)
	{
		quarantine(run, records[0], reason);
		return;
	}
	apply_records(run, records, count / 2);
	apply_records(run, records + count / 2, count - count / 2);
}

/*
 * Applies a page as the extension's owner, in the caller's transaction.  The
 * caller moves the cursor in the same one.
 */
void
ingest_apply_page(IngestRun *run, IngestPage *page)
{
	IngestRecord **good = palloc(sizeof(IngestRecord *) *
								 Max(page->count, 1));
	int			count = 0;

	for (int i = 0; i < page->count; i++)
	{
		if (page->records[i].reason != NULL)
			quarantine(run, &page->records[i], page->records[i].reason);
		else
			good[count++] = &page->records[i];
	}
	run->records += page->count;
	if (count == 0)
		return;
	ingest_prepare_landing(run);
	ingest_prepare_staging(run);
	prepare_statement(run);
	apply_records(run, good, count);
}

/*-------------------------------------------------------------------------
 *
 * contract.c
 *		What may change in a staging table, and does.
 *
 * Types are inferred wide from the start (bigint, numeric, boolean, jsonb,
 * else text) and widened when a value does not fit: bigint to numeric, any
 * scalar to text, anything beside an object to jsonb.  They are never
 * narrowed, and a declared type never changes.  A widening rewrites the
 * table, so it is refused above visage.max_rewrite, and the records that do
 * not fit are quarantined.
 *
 * The schema contract says what happens to new fields and other types:
 * evolve lets them in, freeze ends the run, discard_row quarantines the
 * records, discard_value leaves the values out.  Every change, and every
 * refusal, is a row of visage.schema_changes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "core/settings.h"
#include "ingest/ingest.h"
#include "utils/builtins.h"

/* The narrowest of the wide types that holds what has been seen. */
const char *
ingest_inferred_type(int kinds)
{
	kinds &= ~SCAN_NULL;
	if (kinds == 0)
		return NULL;
	if (kinds & SCAN_CONTAINER)
		return "jsonb";
	if (kinds == SCAN_INTEGER)
		return "bigint";
	if ((kinds & ~(SCAN_INTEGER | SCAN_NUMBER)) == 0)
		return "numeric";
	return kinds == SCAN_BOOL ? "boolean" : "text";
}

/* The declared type of a field, spelled by the server, or NULL. */
char *
ingest_declared_type(const IngestStream *stream, const IngestField *field)
{
	char	   *declared = core_json_text(stream->types, field->name);
	Oid			type;
	int32		typmod;

	if (declared == NULL)
		declared = core_json_text(stream->types, field->column);
	if (declared == NULL)
		return NULL;
	type = ingest_column_type(field->column, declared, &typmod);
	return format_type_extended(type, typmod, FORMAT_TYPE_TYPEMOD_GIVEN |
								FORMAT_TYPE_FORCE_QUALIFY);
}

/* Does everything come as text, so that nothing else is to be inferred? */
bool
ingest_is_text_only(const IngestStream *stream)
{
	char	   *format = core_json_text(core_json_value(stream->endpoint,
														"format"), "type");

	return format != NULL && strcmp(format, "csv") == 0;
}

/* Does a value of this kind fit an inferred type?  Others may try. */
bool
ingest_fits(const IngestColumn *column, ScanKind kind)
{
	switch (column->type)
	{
		case INT8OID:
			return kind == SCAN_INTEGER || kind == SCAN_STRING;
		case NUMERICOID:
			return kind == SCAN_INTEGER || kind == SCAN_NUMBER ||
				kind == SCAN_STRING;
		case BOOLOID:
			return kind == SCAN_BOOL || kind == SCAN_STRING;
		default:
			return true;
	}
}

/* Writes down a change, in the transaction that makes it. */
void
ingest_note_change(IngestRun *run, const char *column, const char *change,
				   const char *before, const char *after)
{
	CoreArgs	args = {0};

	core_arg_text(&args, psprintf("staging.%s", run->stream->table));
	core_arg_int8(&args, run->run_id);
	core_arg_text(&args, column);
	core_arg_text(&args, change);
	core_arg_text(&args, before);
	core_arg_text(&args, after);
	core_execute("INSERT INTO visage.schema_changes"
				 " (dataset, run_id, column_name, change, before, after)"
				 " VALUES ($1, $2, $3, $4, $5, $6)", &args, SPI_OK_INSERT);
}

/* ---- new fields ---- */

/*
 * May a field that has no column get one?  Where the contract says no, notes
 * what becomes of its values.
 */
bool
ingest_may_add(IngestRun *run, IngestField *field, const char *type)
{
	const IngestStream *stream = run->stream;

	if (strcmp(stream->contract, "evolve") == 0)
	{
		ingest_note_change(run, field->column, "added", NULL, type);
		return true;
	}
	if (strcmp(stream->contract, "freeze") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("stream \"%s\" brings field \"%s\", which its schema "
						"contract does not know", stream->name, field->name),
				 errdetail("Its schema_contract is 'freeze'."),
				 errhint("Declare the column, or use another "
						 "schema_contract.")));
	if (!field->refused && !field->discarded)
		ingest_note_change(run, field->column, stream->contract, NULL, type);
	if (strcmp(stream->contract, "discard_row") == 0)
		field->refused = true;
	else
		field->discarded = true;
	return false;
}

/* ---- other types ---- */

/* The type that holds values of both; NULL where the first one does. */
static const char *
wider_type(Oid type, int kinds)
{
	const char *needed = ingest_inferred_type(kinds);

	if (needed == NULL || type == TEXTOID || type == JSONBOID)
		return NULL;
	if (strcmp(needed, "jsonb") == 0)
		return "jsonb";
	if (type == INT8OID)
		return strcmp(needed, "bigint") == 0 ? NULL : needed[0] == 'n' ?
			"numeric" : "text";
	if (type == NUMERICOID)
		return needed[0] == 'b' && strcmp(needed, "bigint") != 0 ? "text" :
			needed[0] == 't' ? "text" : NULL;
	return strcmp(needed, "boolean") == 0 ? NULL : "text";
}

static bool
is_inferable(Oid type)
{
	return type == INT8OID || type == NUMERICOID || type == BOOLOID ||
		type == TEXTOID || type == JSONBOID;
}

/* Is the table too large to be written again on the way? */
static bool
is_too_large(const IngestRun *run)
{
	CoreArgs	args = {0};

	core_arg_text(&args, core_qualified(CORE_LAYER_STAGING,
										run->stream->table));
	return core_query_int8("SELECT pg_table_size($1::regclass)", &args, 0) >
		core_setting_int("visage.max_rewrite") * 1024;
}

/* Step of core_try: the statement that changes a type. */
static void
run_change(void *arg)
{
	core_execute(arg, NULL, SPI_OK_UTILITY);
}

/* Changes the type; false, with the reason, where something stands against. */
static bool
alter_type(IngestRun *run, const IngestColumn *column, const char *type,
		   char **reason)
{
	char	   *name = pstrdup(quote_identifier(column->name));
	ErrorData  *error =
	core_try(run_change,
			 psprintf("ALTER TABLE %s ALTER COLUMN %s TYPE %s USING %s",
					  core_qualified(CORE_LAYER_STAGING,
									 run->stream->table), name, type,
					  strcmp(type, "jsonb") == 0 ?
					  psprintf("to_jsonb(%s)", name) :
					  psprintf("%s::%s", name, type)));

	if (error == NULL)
		return true;
	if (error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		ReThrowError(error);
	*reason = error->message;
	return false;
}

/* A column that does not hold what comes; true where it was changed. */
static bool
widen(IngestRun *run, IngestColumn *column, const char *type)
{
	const IngestStream *stream = run->stream;
	char	   *before = format_type_be(column->type);
	char	   *reason = NULL;

	if (strcmp(stream->contract, "freeze") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("stream \"%s\" brings values of type %s for column "
						"\"%s\" of type %s", stream->name, type, column->name,
						before),
				 errdetail("Its schema_contract is 'freeze'.")));
	column->inferred = false;	/* asked once a run */
	if (strcmp(stream->contract, "evolve") != 0)
	{
		ingest_note_change(run, column->name, stream->contract, before, type);
		return false;
	}
	if (is_too_large(run))
		reason = "the table is larger than visage.max_rewrite";
	else if (alter_type(run, column, type, &reason))
	{
		ingest_note_change(run, column->name, "widened", before, type);
		return true;
	}
	ingest_note_change(run, column->name, psprintf("not widened: %s", reason),
					   before, type);
	return false;
}

/* Widens the columns that must be; true where any was changed. */
bool
ingest_widen_columns(IngestRun *run)
{
	bool		changed = false;

	for (int i = 0; i < run->column_count; i++)
	{
		IngestColumn *column = &run->columns[i];
		const char *type;

		if (column->field < 0 || !column->inferred ||
			!is_inferable(column->type))
			continue;
		type = wider_type(column->type, run->fields[column->field].kinds);
		if (type != NULL)
			changed |= widen(run, column, type);
	}
	return changed;
}

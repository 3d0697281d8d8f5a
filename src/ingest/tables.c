/*-------------------------------------------------------------------------
 *
 * tables.c
 *		Staging tables: records typed.
 *
 * Staging has a column for each field, named for it; bookkeeping columns
 * begin with an underscore.  What becomes of fields and types that appear
 * later is contract.c's to say.
 *
 * Everything here runs as the extension's owner.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "ingest/ingest.h"
#include "lib/stringinfo.h"
#include "parser/parse_type.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

/*
 * The type of a column that a user declared, whose input runs no code of a
 * user.  Asked again when the type is used: one of that name may have been
 * dropped and made anew since.
 */
Oid
ingest_column_type(const char *column, const char *declared, int32 *typmod)
{
	Oid			type;

	parseTypeString(declared, &type, typmod, 0);
	if (get_typtype(type) != TYPTYPE_BASE &&
		get_typtype(type) != TYPTYPE_ENUM &&
		get_typtype(type) != TYPTYPE_RANGE &&
		get_typtype(type) != TYPTYPE_MULTIRANGE)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("column \"%s\" cannot have type %s", column,
						format_type_be(type)),
				 errdetail("Ingestion runs as the extension's owner, and a "
						   "domain or composite type may run functions of "
						   "other users."),
				 errhint("Declare a base type, and cast in a view.")));
	core_check_type(column, type);
	return type;
}

/* Declared, else inferred; NULL where only nulls have been seen. */
static const char *
field_type(const IngestStream *stream, const IngestField *field)
{
	const char *type = ingest_declared_type(stream, field);

	if (type == NULL && ingest_is_text_only(stream))
		return "text";
	return type ? type : ingest_inferred_type(field->kinds);
}

/* Two fields must not share a column; the run cannot tell them apart. */
static void
check_column_clash(const IngestRun *run)
{
	for (int i = 0; i < run->field_count; i++)
		for (int j = 0; j < i; j++)
			if (strcmp(run->fields[i].column, run->fields[j].column) == 0)
				ereport(ERROR,
						(errcode(ERRCODE_DUPLICATE_COLUMN),
						 errmsg("two fields of stream \"%s\" have the same "
								"column \"%s\"", run->stream->name,
								run->fields[i].column),
						 errdetail("They are \"%s\" and \"%s\".",
								   run->fields[j].name,
								   run->fields[i].name)));
}

/* The quoted columns of the primary key, comma-separated. */
static char *
key_columns(const IngestStream *stream)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < stream->key_count; i++)
		appendStringInfo(&list, "%s%s", i ? ", " : "",
						 quote_identifier(ingest_key_column(stream, i)));
	return list.data;
}

/* Appends a key's column with its type. */
static void
append_key_column(StringInfo sql, const IngestRun *run, int key)
{
	const IngestStream *stream = run->stream;
	const char *type = NULL;

	for (int i = 0; i < run->field_count; i++)
		if (run->fields[i].key == key)
			type = field_type(stream, &run->fields[i]);
	appendStringInfo(sql, "%s %s NOT NULL, ",
					 quote_identifier(ingest_key_column(stream, key)),
					 type ? type : "text");
}

/*
 * Creates the staging table with the key and the bookkeeping.  Where the
 * columns are declared, those are the contract; otherwise the fields of the
 * first page are.
 */
static void
create_staging(IngestRun *run)
{
	const IngestStream *stream = run->stream;
	bool		append = strcmp(stream->disposition, "append") == 0;
	StringInfoData sql;

	(void) core_layer_schema(CORE_LAYER_STAGING);
	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE TABLE %s (",
					 core_qualified(CORE_LAYER_STAGING, stream->table));
	for (int i = 0; i < stream->key_count; i++)
		append_key_column(&sql, run, i);
	appendStringInfoString(&sql, "_run_id bigint NOT NULL,"
						   " _ingested_at timestamptz NOT NULL,"
						   " _record_hash bigint NOT NULL");
	if (stream->spooled && stream->window.step != NULL)
		appendStringInfoString(&sql, ", _window timestamptz NOT NULL");
	if (stream->key_count > 0)
		appendStringInfo(&sql, ", %s (%s%s)",
						 append ? "UNIQUE" : "PRIMARY KEY",
						 key_columns(stream), append ? ", _record_hash" : "");
	appendStringInfoChar(&sql, ')');
	core_execute(sql.data, NULL, SPI_OK_UTILITY);
	if (stream->spooled && stream->window.step != NULL)
		core_execute(psprintf("CREATE INDEX ON %s (_window)",
							  core_qualified(CORE_LAYER_STAGING,
											 stream->table)),
					 NULL, SPI_OK_UTILITY);
	core_register_dataset(CORE_LAYER_STAGING, stream->table, "staging",
						  stream->name);
}

/* Adds a column that staging lacks. */
static void
add_missing(const IngestStream *stream, const char *column, const char *type)
{
	Oid			staging = core_table_oid(CORE_LAYER_STAGING, stream->table);

	if (get_attnum(staging, column) == InvalidAttrNumber)
		core_execute(psprintf("ALTER TABLE %s ADD COLUMN %s %s",
							  core_qualified(CORE_LAYER_STAGING,
											 stream->table),
							  quote_identifier(column), type),
					 NULL, SPI_OK_UTILITY);
}

/*
 * The columns that tell a history of deletes: a mark of rows that tombstones
 * mean, and the manifest's field, which may come with deleted records only.
 */
static void
prepare_marks(const IngestRun *run)
{
	const IngestStream *stream = run->stream->main ? run->stream->main :
	run->stream;
	Jsonb	   *rule = core_json_value(stream->endpoint, "deleted_when");
	char	   *equals = core_json_text(rule, "equals");

	if (strcmp(stream->disposition, "history") != 0 ||
		strcmp(stream->hard_deletes, "ignore") == 0)
		return;
	if (stream->tombstones != NULL)
		add_missing(stream, "_deleted", "boolean");
	if (rule != NULL)
		add_missing(stream, ingest_column(stream->endpoint,
										  core_json_text(rule, "path")),
					strcmp(equals, "true") == 0 || strcmp(equals, "false") == 0 ?
					"boolean" : "text");
}

/* Reads the columns of the staging table, but for the bookkeeping. */
static void
read_columns(IngestRun *run)
{
	CoreArgs	args = {0};
	uint64		count;
	MemoryContext caller;

	core_arg_text(&args, core_qualified(CORE_LAYER_STAGING,
										run->stream->table));
	count = core_execute(
						 "SELECT attname::text, atttypid::bigint,"
						 " atttypmod::bigint, attnum::bigint"
						 " FROM pg_attribute"
						 " WHERE attrelid = $1::regclass AND attnum > 0"
						 " AND NOT attisdropped AND attname <> ALL"
						 " ('{_run_id,_ingested_at,_record_hash,_window,"
						 "_deleted}')"
						 " ORDER BY attnum", &args, SPI_OK_SELECT);
	caller = MemoryContextSwitchTo(run->context);
	run->columns = palloc0(sizeof(IngestColumn) * (count + 1));
	run->column_count = count;
	for (uint64 i = 0; i < count; i++)
	{
		run->columns[i].name = core_value_text(i, 1);
		run->columns[i].type = (Oid) core_value_int8(i, 2);
		run->columns[i].typmod = (int32) core_value_int8(i, 3);
		run->columns[i].attnum = (int) core_value_int8(i, 4);
		run->columns[i].field = -1;
	}
	MemoryContextSwitchTo(caller);
}

/* Finds each column's field. */
static void
match_columns(IngestRun *run)
{
	for (int i = 0; i < run->column_count; i++)
		for (int j = 0; j < run->field_count; j++)
			if (run->columns[i].field < 0 &&
				strcmp(run->columns[i].name, run->fields[j].column) == 0)
			{
				run->columns[i].field = j;
				run->columns[i].inferred =
					ingest_declared_type(run->stream, &run->fields[j]) == NULL;
			}
}

/* Has the field a column? */
static bool
has_column(const IngestRun *run, int field)
{
	for (int i = 0; i < run->column_count; i++)
		if (run->columns[i].field == field)
			return true;
	return false;
}

/*
 * Adds a column for each typed field that has none, as far as the contract
 * lets it; true if it added any.
 */
static bool
add_columns(IngestRun *run, bool first)
{
	StringInfoData sql;
	int			added = 0;
	bool		free = first && !run->stream->declared_columns;

	initStringInfo(&sql);
	appendStringInfo(&sql, "ALTER TABLE %s",
					 core_qualified(CORE_LAYER_STAGING, run->stream->table));
	for (int i = 0; i < run->field_count; i++)
	{
		IngestField *field = &run->fields[i];
		const char *type;

		if (field->discarded || field->refused || has_column(run, i))
			continue;
		type = field_type(run->stream, field);
		if (type == NULL)
			continue;
		if (!free && ingest_declared_type(run->stream, field) == NULL &&
			!ingest_may_add(run, field, type))
			continue;
		appendStringInfo(&sql, "%s ADD COLUMN %s %s", added++ ? "," : "",
						 quote_identifier(field->column), type);
	}
	if (added > 0)
		core_execute(sql.data, NULL, SPI_OK_UTILITY);
	return added > 0;
}

/* Makes staging ready for the fields and kinds seen so far. */
void
ingest_prepare_staging(IngestRun *run)
{
	bool		first = !OidIsValid(core_own_table(CORE_LAYER_STAGING,
												   run->stream->table));

	if (first)
	{
		check_column_clash(run);
		create_staging(run);
	}
	if (first || run->columns == NULL)
	{
		prepare_marks(run);
		read_columns(run);
	}
	match_columns(run);
	/* tombstones bring nothing that staging has to take */
	if (run->stream->main != NULL)
		return;
	check_column_clash(run);
	if (add_columns(run, first))
	{
		read_columns(run);
		match_columns(run);
	}
	if (ingest_widen_columns(run))
	{
		read_columns(run);
		match_columns(run);
	}
}

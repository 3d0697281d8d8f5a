/*-------------------------------------------------------------------------
 *
 * database_columns.c
 *		The columns of a table or query of a database, and of its staging.
 *
 * A type that both servers have built in is taken over as it is, with its
 * length or precision, and its values come in binary: exact, whatever the
 * settings of either session.  Domains are their base types.  What is built
 * in nowhere (enums, composite types, extensions) or means nothing here
 * (names by OID) comes as text, arrays of it as text[]; money, whose digits
 * depend on a locale, as numeric.
 *
 * What is new at the source, or has another type, is judged by the stream's
 * schema contract.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/pg_type.h"
#include "core/core.h"
#include "core/settings.h"
#include "ingest/database.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

/* ---- from the source ---- */

/* What database_map_type reads of a type t, its element e and the base b. */
const char *
database_type_columns(void)
{
	return "t.oid, t.typname,"
		" (CASE WHEN t.typcategory = 'A' THEN b.typnamespace"
		" ELSE t.typnamespace END) = 'pg_catalog'::regnamespace,"
		" b.oid, b.typname, format_type(b.typarray, -1)";
}

/* Reads the columns of database_type_columns. */
void
database_map_type(DatabaseColumn *column, char **values)
{
	column->type = values[0] ? atooid(values[0]) : InvalidOid;
	column->base_name = values[1];
	column->built_in = values[2] != NULL && values[2][0] == 't';
	column->element = values[3] ? atooid(values[3]) : InvalidOid;
	column->element_name = values[4];
	column->array_name = values[5];
}

/* "'{1,2}'::type[]" of the result's types or typmods. */
static char *
number_array(const NetDatabaseResult *result, bool types)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < result->columns; i++)
		if (types)
			appendStringInfo(&list, "%s%u", i ? "," : "'{",
							 result->types[i]);
		else
			appendStringInfo(&list, "%s%d", i ? "," : "'{",
							 result->typmods[i]);
	appendStringInfoString(&list, types ? "}'::oid[]" : "}'::int4[]");
	return list.data;
}

/*
 * Asks the source for the columns of the stream's table or query; the result
 * of an empty SELECT says domains as their base types.
 */
void
database_describe(IngestRun *run)
{
	DatabaseCrawl *crawl = run->database;
	MemoryContext caller = MemoryContextSwitchTo(crawl->context);
	NetDatabaseResult *empty =
	net_database_query(crawl->connection,
					   psprintf("SELECT * FROM %s LIMIT 0",
								database_from(run)));
	NetDatabaseResult *types;

	if (empty->columns == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("stream \"%s\" has no columns at its source",
						run->stream->name)));
	types = net_database_query(crawl->connection,
							   psprintf("SELECT format_type(t.oid, v.typmod), %s"
										" FROM unnest(%s, %s) WITH ORDINALITY AS v (type, typmod, n)"
										" JOIN pg_type AS t ON t.oid = v.type"
										" LEFT JOIN pg_type AS e ON e.oid = t.typelem AND t.typcategory = 'A'"
										" LEFT JOIN pg_type AS b ON b.oid ="
										" CASE WHEN e.typtype = 'd' THEN e.typbasetype ELSE e.oid END"
										" ORDER BY v.n", database_type_columns(),
										number_array(empty, true),
										number_array(empty, false)));
	if (types->rows != empty->columns)
		ereport(ERROR,
				(errcode(ERRCODE_PROTOCOL_VIOLATION),
				 errmsg("the source does not know the types of stream \"%s\"",
						run->stream->name)));
	crawl->column_count = empty->columns;
	crawl->columns = palloc0(sizeof(DatabaseColumn) * empty->columns);
	for (int i = 0; i < empty->columns; i++)
	{
		DatabaseColumn *column = &crawl->columns[i];
		char	  **values = types->values + i * types->columns;

		column->name = empty->names[i];
		column->typmod = empty->typmods[i];
		column->type_name = values[0];
		database_map_type(column, values + 1);
	}
	MemoryContextSwitchTo(caller);
}

/* ---- types ---- */

/* Types whose binary form means nothing on another server. */
static bool
means_nothing_here(Oid type)
{
	switch (type)
	{
		case REGPROCOID:
		case REGPROCEDUREOID:
		case REGOPEROID:
		case REGOPERATOROID:
		case REGCLASSOID:
		case REGCOLLATIONOID:
		case REGTYPEOID:
		case REGROLEOID:
		case REGNAMESPACEOID:
		case REGCONFIGOID:
		case REGDICTIONARYOID:
		case ACLITEMOID:
		case PG_NODE_TREEOID:
		case PG_NDISTINCTOID:
		case PG_DEPENDENCIESOID:
		case PG_MCV_LISTOID:
		case PG_BRIN_BLOOM_SUMMARYOID:
		case PG_BRIN_MINMAX_MULTI_SUMMARYOID:
		case GTSVECTOROID:
			return true;
		default:
			return false;
	}
}

/* Has this server the built-in type, under that name? */
static bool
is_here(Oid type, const char *name)
{
	HeapTuple	tuple;
	Form_pg_type form;
	bool		same;

	if (type >= FirstGenbkiObjectId || name == NULL ||
		means_nothing_here(type))
		return false;
	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	if (!HeapTupleIsValid(tuple))
		return false;
	form = (Form_pg_type) GETSTRUCT(tuple);
	same = strcmp(NameStr(form->typname), name) == 0 && form->typisdefined &&
		OidIsValid(form->typreceive) &&
		(form->typtype == TYPTYPE_BASE || form->typtype == TYPTYPE_RANGE ||
		 form->typtype == TYPTYPE_MULTIRANGE);
	ReleaseSysCache(tuple);
	return same;
}

/* Which type the column has here, and how it is cast at the source. */
void
database_map_column(DatabaseColumn *column)
{
	bool		array = OidIsValid(column->element);
	Oid			type = array ? column->element : column->type;
	const char *suffix = array ? "[]" : "";

	if (column->built_in && type == CASHOID)
		column->local_type = column->cast = psprintf("numeric%s", suffix);
	else if (!column->built_in ||
			 !is_here(type, array ? column->element_name : column->base_name))
		column->local_type = column->cast = psprintf("text%s", suffix);
	else if (array && column->type >= FirstGenbkiObjectId)
		/* of a domain */
		column->local_type = column->cast = column->array_name;
	else
		column->local_type = column->type_name;
	/* a server of version 18 does not take the binary form of an empty one */
	if (type == TSQUERYOID && column->cast == NULL)
	{
		column->as_text = true;
		column->cast = "text";
	}
}

/* The type that the user declared for the column, or NULL. */
static char *
declared_type(Jsonb *declared, const DatabaseColumn *column)
{
	char	   *type = core_json_text(declared, column->name);

	return type ? type :
		core_json_text(declared, core_snake_case(column->name));
}

/* The place of a column in the primary key, or -1. */
static int
key_position(const IngestStream *stream, const char *name)
{
	for (int i = 0; i < stream->key_count; i++)
		if (strcmp(stream->keys[i], name) == 0)
			return i;
	return -1;
}

/* ERROR where the key names a column that the source has not. */
static void
check_key(const IngestRun *run)
{
	const IngestStream *stream = run->stream;

	for (int i = 0; i < stream->key_count; i++)
	{
		bool		found = false;

		for (int j = 0; j < run->database->column_count; j++)
			found |= strcmp(run->database->columns[j].name,
							stream->keys[i]) == 0;
		if (!found)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("stream \"%s\" has no column \"%s\" at its "
							"source, which its primary key names",
							stream->name, stream->keys[i])));
	}
}

/* Says the columns as the fields and types of the run; inside work. */
void
database_map_columns(IngestRun *run)
{
	DatabaseCrawl *crawl = run->database;
	MemoryContext caller = MemoryContextSwitchTo(crawl->context);
	Jsonb	   *declared = run->stream->types;
	JsonbParseState *state = NULL;

	check_key(run);
	run->fields = palloc0(sizeof(IngestField) * crawl->column_count);
	run->field_count = crawl->column_count;
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < crawl->column_count; i++)
	{
		DatabaseColumn *column = &crawl->columns[i];
		IngestField *field = &run->fields[i];
		char	   *type = declared_type(declared, column);
		JsonbValue	text = {.type = jbvString};

		database_map_column(column);
		if (type != NULL)
		{
			column->as_text = true;
			column->cast = "text";
			column->local_type = type;
		}
		field->name = column->name;
		field->column = core_snake_case(column->name);
		field->key = key_position(run->stream, column->name);
		text.val.string.val = column->name;
		text.val.string.len = strlen(column->name);
		pushJsonbValue(&state, WJB_KEY, &text);
		text.val.string.val = column->local_type;
		text.val.string.len = strlen(column->local_type);
		pushJsonbValue(&state, WJB_VALUE, &text);
	}
	run->stream->types =
		JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
	MemoryContextSwitchTo(caller);
}

/* What is read of the source: all its columns, or those of the key. */
char *
database_select_list(const IngestRun *run, bool keys_only)
{
	const DatabaseCrawl *crawl = run->database;
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < crawl->column_count; i++)
	{
		const DatabaseColumn *column = &crawl->columns[i];

		if (keys_only && run->fields[i].key < 0)
			continue;
		appendStringInfo(&list, "%s%s%s%s", list.len ? ", " : "",
						 quote_identifier(column->name),
						 column->cast ? "::" : "",
						 column->cast ? column->cast : "");
	}
	return list.data;
}

/* ---- staging ---- */

/* The staging column of a field, or NULL. */
static IngestColumn *
staging_column(const IngestRun *run, int field)
{
	for (int i = 0; i < run->column_count; i++)
		if (run->columns[i].field == field)
			return &run->columns[i];
	return NULL;
}

/* Has staging, which exists, a column of this name? */
static bool
staging_has(Oid staging, const char *column)
{
	return get_attnum(staging, column) != InvalidAttrNumber;
}

/* Asks the contract for the columns that staging does not have yet. */
static void
judge_new_columns(IngestRun *run, Oid staging, Jsonb *declared)
{
	DatabaseCrawl *crawl = run->database;

	for (int i = 0; i < crawl->column_count; i++)
	{
		DatabaseColumn *column = &crawl->columns[i];
		IngestField *field = &run->fields[i];
		bool		known = OidIsValid(staging) ?
		staging_has(staging, field->column) :
		!run->stream->declared_columns || field->key >= 0;

		if (known || declared_type(declared, column) != NULL)
			continue;
		(void) ingest_may_add(run, field, column->local_type);
		column->refused = field->refused;
	}
}

/* May values of the first type become the second with nothing lost? */
static bool
is_wider(Oid before, Oid after)
{
	if (after == TEXTOID)
		return true;
	if (after == NUMERICOID)
		return before == INT2OID || before == INT4OID || before == INT8OID ||
			before == NUMERICOID;
	if (after == INT8OID)
		return before == INT2OID || before == INT4OID;
	if (after == INT4OID)
		return before == INT2OID;
	if (after == FLOAT8OID)
		return before == FLOAT4OID;
	if (after == VARCHAROID || after == VARBITOID)
		return before == after;
	return after == TIMESTAMPTZOID || after == TIMESTAMPOID ?
		before == after : false;
}

/* Step of core_try: the statement that changes a type. */
static void
run_change(void *arg)
{
	core_execute(arg, NULL, SPI_OK_UTILITY);
}

/* Has the source's column a type that staging's does not hold? */
static void
judge_type(IngestRun *run, const IngestColumn *target,
		   DatabaseColumn *column)
{
	const char *contract = run->stream->contract;
	int32		typmod;
	Oid			type = ingest_column_type(target->name, column->local_type,
										  &typmod);
	char	   *before = format_type_with_typemod(target->type,
												  target->typmod);
	ErrorData  *error = NULL;

	if (target->type == type && target->typmod == typmod)
		return;
	if (strcmp(contract, "freeze") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("stream \"%s\" brings values of type %s for column "
						"\"%s\" of type %s", run->stream->name,
						column->local_type, target->name, before),
				 errdetail("Its schema_contract is 'freeze'.")));
	if (strcmp(contract, "evolve") == 0 && is_wider(target->type, type) &&
		core_query_int8(psprintf("SELECT pg_table_size('%s'::regclass)",
								 core_qualified(CORE_LAYER_STAGING,
												run->stream->table)), NULL, 0)
		<= core_setting_int("visage.max_rewrite") * 1024)
		error = core_try(run_change,
						 psprintf("ALTER TABLE %s ALTER COLUMN %s TYPE %s",
								  core_qualified(CORE_LAYER_STAGING,
												 run->stream->table),
								  quote_identifier(target->name),
								  column->local_type));
	else
		column->as_text = true;
	if (error != NULL && error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		ReThrowError(error);
	column->as_text |= error != NULL;
	ingest_note_change(run, target->name, column->as_text ?
					   "not widened" : "widened", before, column->local_type);
	if (column->as_text)
		column->cast = "text";
}

/*
 * Makes staging ready for the source's columns, and finds the attribute that
 * each goes to.
 */
void
database_prepare_staging(IngestRun *run)
{
	DatabaseCrawl *crawl = run->database;
	Jsonb	   *declared = run->stream->types;
	Oid			staging = core_own_table(CORE_LAYER_STAGING,
										 run->stream->table);

	database_map_columns(run);
	judge_new_columns(run, staging, declared);
	ingest_prepare_staging(run);
	for (int i = 0; i < crawl->column_count; i++)
	{
		IngestColumn *target = staging_column(run, i);

		if (target != NULL && !run->fields[i].discarded &&
			!run->fields[i].refused)
			judge_type(run, target, &crawl->columns[i]);
	}
	run->columns = NULL;
	ingest_prepare_staging(run);
	for (int i = 0; i < crawl->column_count; i++)
	{
		DatabaseColumn *column = &crawl->columns[i];
		IngestColumn *target = staging_column(run, i);

		if (target == NULL || run->fields[i].discarded ||
			run->fields[i].refused)
			continue;
		column->attnum = target->attnum;
		column->attribute_type = target->type;
		column->attribute_typmod = target->typmod;
	}
}

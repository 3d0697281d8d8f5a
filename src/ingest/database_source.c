/*-------------------------------------------------------------------------
 *
 * database_source.c
 *		Sources that are databases: what they and their streams say, whether
 *		they are well, and which tables they have.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "core/core.h"
#include "core/hosts.h"
#include "ingest/database.h"
#include "miscadmin.h"
#include "nodes/value.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/varlena.h"

/* Is what the manifest describes a database, and not an HTTP API? */
bool
ingest_is_database(Jsonb *manifest)
{
	char	   *protocol = core_json_text(manifest, "protocol");

	return protocol != NULL && strcmp(protocol, "postgresql") == 0;
}

/* ---- what a source says ---- */

static void
check_host(const char *host)
{
	if (host[0] == '\0' || strlen(host) > CORE_HOST_MAX ||
		strpbrk(host, "/@, ") != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"host\" must be one host name or address"),
				 errdetail("It is \"%s\".", host)));
}

/* The number that option "port" is. */
static int
read_port(Jsonb *options)
{
	char	   *text = core_json_text(options, "port");
	int			port = text && strlen(text) <= 5 &&
	strspn(text, "0123456789") == strlen(text) ? atoi(text) : 0;

	if (text == NULL)
		return 5432;
	if (port < 1 || port > 65535)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"port\" must be between 1 and 65535"),
				 errdetail("It is %s.", text)));
	return port;
}

/* How the connection is protected; the strictest unless the source says. */
static char *
read_tls(Jsonb *options)
{
	static const char *const modes[] =
	{"verify-full", "verify-ca", "require", "disable"};
	char	   *mode = core_json_text(options, "sslmode");

	if (mode == NULL)
		return pstrdup(modes[0]);
	for (int i = 0; i < lengthof(modes); i++)
		if (strcmp(mode, modes[i]) == 0)
			return mode;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for option \"sslmode\": \"%s\"", mode),
			 errhint("Use one of 'verify-full', 'verify-ca', 'require', "
					 "'disable'.")));
}

/* The options of a connection; ERROR where one is no good. */
static NetDatabaseOptions
read_options(Jsonb *options)
{
	NetDatabaseOptions result = {0};

	result.host = core_json_text(options, "host");
	result.port = read_port(options);
	result.database = core_json_text(options, "dbname");
	result.user = core_json_text(options, "user");
	result.tls = read_tls(options);
	result.certificates = core_json_text(options, "sslrootcert");
	if (result.host != NULL)
		check_host(result.host);
	if (result.certificates != NULL && result.certificates[0] != '/')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"sslrootcert\" must be an absolute path"),
				 errdetail("It is \"%s\".", result.certificates)));
	return result;
}

/* ERROR where the options of a source are no good. */
void
ingest_check_database_source(Jsonb *options)
{
	NetDatabaseOptions read = read_options(options);

	/* who may name any file learns which ones there are */
	if (read.certificates != NULL && !superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("only a superuser may give option \"sslrootcert\""),
				 errhint("Or have the certificate added to the system's.")));
}

/* ---- what a stream says ---- */

/* The relation that the resource names, in the source's rules for names. */
static void
read_relation(IngestDatabase *database, const char *resource)
{
	List	   *names = NIL;
	char	   *copy = pstrdup(resource);

	if (!SplitIdentifierString(copy, '.', &names) || names == NIL ||
		list_length(names) > 2)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("invalid name of a table: \"%s\"", resource),
				 errhint("Write schema.table, with double quotes where SQL "
						 "needs them.")));
	database->schema = list_length(names) == 2 ? linitial(names) : "public";
	database->table = llast(names);
	database->relation = pstrdup(quote_qualified_identifier(database->schema,
															database->table));
}

/* ERROR where what the stream says does not go together. */
static void
check_stream(const IngestStream *stream)
{
	const IngestDatabase *database = stream->database;

	if (database->query != NULL && database->by_system)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("stream \"%s\" is a query, whose rows have no xmin",
						stream->name),
				 errhint("Name a column of the query in cursor_field.")));
	if (database->by_system && (stream->initial_value != NULL ||
								database->by_cursor))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("cursor field xmin of stream \"%s\" has neither an "
						"initial value nor the watermark \"cursor\"",
						stream->name)));
	if (database->query != NULL && !core_is_query(database->query))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"query\" of stream \"%s\" is not one SELECT",
						stream->name)));
	if (stream->cursor.field != NULL && stream->key_count == 0 &&
		strcmp(stream->disposition, "replace") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("stream \"%s\" has a cursor field and no primary key",
						stream->name),
				 errdetail("Rows near the cursor are read again, and only a "
						   "key tells that they are the same."),
				 errhint("Name the columns that identify a row in "
						 "primary_key.")));
}

/* What the stream and its source say of the database. */
void
ingest_read_database(IngestStream *stream, Jsonb *source_options)
{
	IngestDatabase *database = palloc0(sizeof(IngestDatabase));
	char	   *watermark = core_json_text(stream->options, "watermark");

	stream->database = database;
	database->options = read_options(source_options);
	database->what = psprintf("source \"%s\"", stream->source);
	database->query = core_json_text(stream->options, "query");
	if (database->query == NULL)
		read_relation(database, stream->resource);
	if (watermark != NULL && strcmp(watermark, "snapshot") != 0 &&
		strcmp(watermark, "cursor") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for option \"watermark\": \"%s\"",
						watermark),
				 errhint("Use one of 'snapshot', 'cursor'.")));
	database->by_cursor = watermark != NULL &&
		strcmp(watermark, "cursor") == 0;
	database->by_system = stream->cursor.field != NULL &&
		strcmp(stream->cursor.field, "xmin") == 0;
	check_stream(stream);
}

/* ---- asking without a stream ---- */

/* A stream of the source that is not declared, to connect with. */
static IngestStream *
stream_of_source(const char *source)
{
	Jsonb	   *declared = core_find_declaration("source", source, false);
	IngestStream *stream = palloc0(sizeof(IngestStream));

	stream->name = stream->source = pstrdup(source);
	stream->secrets = net_open_secrets(core_json_value(declared, "secrets"));
	stream->database = palloc0(sizeof(IngestDatabase));
	stream->database->options = read_options(core_json_value(declared,
															 "options"));
	stream->database->what = psprintf("source \"%s\"", source);
	return stream;
}

/* Connects and asks for something; an ERROR tells what is wrong. */
void
ingest_try_database(const char *source)
{
	(void) net_database_query(database_connect(stream_of_source(source),
											   CurrentMemoryContext),
							  "SELECT 1");
}

/* ---- tables ---- */

/* What visage_discover asks for: a row for each column. */
static char *
tables_query(void)
{
	return psprintf("SELECT c.relname, quote_ident(n.nspname) || '.' || quote_ident(c.relname),"
					" c.relkind IN ('r', 'p', 'm'), a.attname,"
					" array_position(k.conkey, a.attnum),"
					" format_type(t.oid, CASE WHEN o.typtype = 'd' THEN o.typtypmod ELSE a.atttypmod END), %s"
					" FROM pg_class AS c"
					" JOIN pg_namespace AS n ON n.oid = c.relnamespace"
					" JOIN pg_attribute AS a ON a.attrelid = c.oid"
					" JOIN pg_type AS o ON o.oid = a.atttypid"
					" JOIN pg_type AS t ON t.oid = CASE WHEN o.typtype = 'd' THEN o.typbasetype ELSE o.oid END"
					" LEFT JOIN pg_type AS e ON e.oid = t.typelem AND t.typcategory = 'A'"
					" LEFT JOIN pg_type AS b ON b.oid = CASE WHEN e.typtype = 'd' THEN e.typbasetype ELSE e.oid END"
					" LEFT JOIN pg_constraint AS k ON k.conrelid = c.oid AND k.contype = 'p'"
					" WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition"
					" AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'"
					" AND a.attnum > 0 AND NOT a.attisdropped"
					" AND has_schema_privilege(n.oid, 'USAGE')"
					" AND has_table_privilege(c.oid, 'SELECT')"
					" ORDER BY n.nspname, c.relname, a.attnum", database_type_columns());
}

/* A table while its columns are gathered. */
typedef struct Table
{
	char	   *name;
	char	   *resource;
	bool		has_xmin;
	StringInfoData columns;
	char	   *keys[INDEX_MAX_KEYS];
	int			key_count;
	char	   *cursor;
} Table;

/* Might the column say when its row was changed? */
static bool
tells_change(const char *name, const char *type)
{
	static const char *const names[] = {
		"updated_at", "modified_at", "changed_at", "last_modified",
		"last_updated", "updated_on", "modified_on", "updated", "modified"
	};

	if (strncmp(type, "timestamp", 9) != 0)
		return false;
	for (int i = 0; i < lengthof(names); i++)
		if (strcmp(names[i], name) == 0)
			return true;
	return false;
}

static void
add_column(Table *table, char **values)
{
	DatabaseColumn column = {.name = values[3],.type_name = values[5]};
	int			position = values[4] ? atoi(values[4]) : 0;

	database_map_type(&column, values + 6);
	database_map_column(&column);
	appendStringInfoString(&table->columns, table->columns.len ? ", " : "{");
	escape_json(&table->columns, column.name);
	appendStringInfoString(&table->columns, ": ");
	escape_json(&table->columns, column.local_type);
	if (position > 0 && position <= INDEX_MAX_KEYS)
	{
		table->keys[position - 1] = column.name;
		table->key_count = Max(table->key_count, position);
	}
	if (table->cursor == NULL && tells_change(column.name, column.local_type))
		table->cursor = column.name;
}

/* The row of visage_discover for a table whose columns are complete. */
static void
put_table(ReturnSetInfo *result, Table *table)
{
	Datum		values[5];
	bool		nulls[5] = {false};
	Datum		keys[INDEX_MAX_KEYS];

	if (table->name == NULL)
		return;
	if (table->cursor == NULL && table->has_xmin)
		table->cursor = "xmin";
	appendStringInfoChar(&table->columns, '}');
	for (int i = 0; i < table->key_count; i++)
		keys[i] = CStringGetTextDatum(table->keys[i]);
	values[0] = CStringGetTextDatum(core_snake_case(table->name));
	values[1] = CStringGetTextDatum(table->resource);
	values[2] = JsonbPGetDatum(core_json_parse(table->columns.data));
	nulls[3] = table->key_count == 0;
	values[3] = PointerGetDatum(construct_array(keys, table->key_count,
												TEXTOID, -1, false,
												TYPALIGN_INT));
	nulls[4] = table->cursor == NULL;
	values[4] = nulls[4] ? (Datum) 0 : CStringGetTextDatum(table->cursor);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* The rows of visage_discover: what the source's catalog has. */
void
ingest_discover_database(const char *source, ReturnSetInfo *result)
{
	NetDatabaseResult *rows;
	Table		table = {0};
	int			nest_level = NewGUCNestLevel();

	(void) set_config_option("visage.connect_timeout", "15s", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("visage.request_timeout", "15s", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("visage.max_retries", "0", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	rows = net_database_query(database_connect(stream_of_source(source),
											   CurrentMemoryContext),
							  tables_query());
	for (int i = 0; i < rows->rows; i++)
	{
		char	  **values = rows->values + (Size) i * rows->columns;

		if (table.resource == NULL || strcmp(table.resource, values[1]) != 0)
		{
			put_table(result, &table);
			memset(&table, 0, sizeof(table));
			table.name = values[0];
			table.resource = values[1];
			table.has_xmin = values[2][0] == 't';
			initStringInfo(&table.columns);
		}
		add_column(&table, values);
	}
	put_table(result, &table);
	AtEOXact_GUC(true, nest_level);
}

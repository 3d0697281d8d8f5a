/*-------------------------------------------------------------------------
 *
 * columns.c
 *		Which column of a source means what, and SQL made of them.
 *
 * Values are compared by the equality of their own types, found through the
 * type cache (record comparison), never by a name in a search path; a type
 * without equality, such as json or point, is compared as text.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "core/core.h"
#include "history/history.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

/* A list of the definition with every name quoted. */
static char **
quoted_list(Jsonb *definition, const char *key, int *count)
{
	char	  **names = core_json_text_array(definition, key, count);

	for (int i = 0; i < *count; i++)
		names[i] = pstrdup(quote_identifier(names[i]));
	return names;
}

/* A history as declared, without its columns. */
History *
history_describe(const char *name, Jsonb *definition)
{
	History    *history = palloc0(sizeof(History));

	history->name = pstrdup(name);
	history->table = core_dataset_table(name, CORE_LAYER_HISTORY);
	history->target = core_qualified(CORE_LAYER_HISTORY, history->table);
	history->superseded = core_qualified(CORE_LAYER_HISTORY,
										 psprintf("%s__superseded",
												  history->table));
	history->definition = definition;
	history->keys = quoted_list(definition, "unique_key",
								&history->key_count);
	history->sequence = quoted_list(definition, "sequence_by",
									&history->sequence_count);
	return history;
}

static bool
is_among(const char *name, char **names, int count)
{
	for (int i = 0; i < count; i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

/* The role of a column, from the declaration. */
static HistoryRole
column_role(const History *history, const char *name)
{
	int			tracked_count;
	int			fixed_count;
	char	  **tracked = quoted_list(history->definition,
									  "track_history_columns",
									  &tracked_count);
	char	  **fixed = quoted_list(history->definition, "fixed_columns",
									&fixed_count);

	if (is_among(name, history->keys, history->key_count))
		return HISTORY_KEY;
	if (is_among(name, history->sequence, history->sequence_count))
		return HISTORY_SEQUENCE;
	if (is_among(name, fixed, fixed_count))
		return HISTORY_FIXED;
	if (tracked == NULL || is_among(name, tracked, tracked_count))
		return HISTORY_TRACKED;
	return HISTORY_OVERWRITTEN;
}

/* Every name of a list must be a column of the source. */
static void
check_names(const History *history, const char *argument)
{
	int			count;
	char	  **names = quoted_list(history->definition, argument, &count);
	char	  **known = palloc(sizeof(char *) *
							   Max(history->column_count, 1));

	for (int i = 0; i < history->column_count; i++)
		known[i] = history->columns[i].name;
	for (int i = 0; i < count; i++)
	{
		char	   *nearest;

		if (is_among(names[i], known, history->column_count))
			continue;
		nearest = core_nearest(names[i], known, history->column_count);
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column %s of %s for \"%s\" does not exist in the "
						"source", names[i], argument, history->name),
				 nearest ? errhint("Perhaps you meant %s.", nearest) : 0));
	}
}

/* The first column of the sequence gives the time of a version. */
static void
check_sequence_type(const History *history)
{
	for (int i = 0; i < history->column_count; i++)
	{
		const HistoryColumn *column = &history->columns[i];

		if (history->sequence_count == 0 ||
			strcmp(column->name, history->sequence[0]) != 0)
			continue;
		if (column->type_oid != DATEOID && column->type_oid != TIMESTAMPOID &&
			column->type_oid != TIMESTAMPTZOID)
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("sequence column %s of \"%s\" cannot give the "
							"time of a version", column->name,
							history->name),
					 errdetail("It has type %s.", column->type),
					 errhint("The first column of sequence_by is a date, "
							 "timestamp or timestamptz.")));
	}
}

/*
 * Reads the columns of the source, but for staging's bookkeeping, and what
 * each means.  A domain is kept as its base type: its default and its checks
 * would run as the extension's owner.  The source is a qualified, quoted name of a relation.
 */
void
history_read_columns(History *history, const char *source)
{
	CoreArgs	args = {0};
	uint64		count;

	core_arg_text(&args, source);
	core_arg_text(&args, history->target);
	count = core_execute("SELECT quote_ident(s.attname),"
						 " s.atttypmod::bigint,"
						 " s.atttypid::bigint, h.attname IS NULL"
						 " FROM pg_attribute AS s"
						 " LEFT JOIN pg_attribute AS h"
						 " ON h.attrelid = to_regclass($2)"
						 " AND h.attname = s.attname AND NOT h.attisdropped"
						 " WHERE s.attrelid = $1::regclass"
						 " AND s.attnum > 0 AND NOT s.attisdropped"
						 " AND s.attname <> ALL"
						 " ('{_run_id,_ingested_at,_record_hash}')"
						 " ORDER BY s.attnum", &args, SPI_OK_SELECT);
	history->columns = palloc0(sizeof(HistoryColumn) * (count + 1));
	history->column_count = count;
	for (uint64 i = 0; i < count; i++)
	{
		HistoryColumn *column = &history->columns[i];
		int32		typmod;

		column->name = core_value_text(i, 1);
		typmod = (int32) core_value_int8(i, 2);
		column->type_oid = getBaseTypeAndTypmod(core_value_int8(i, 3),
												&typmod);
		column->type = format_type_with_typemod(column->type_oid, typmod);
		core_check_type(column->name, column->type_oid);
		column->is_new = strcmp(core_value_text(i, 4), "t") == 0;
		column->role = column_role(history, column->name);
	}
	check_names(history, "unique_key");
	check_names(history, "sequence_by");
	check_sequence_type(history);
}

/* "alias.a, alias.b" for the columns of a role, or for all. */
char *
history_column_list(const History *history, const char *alias,
					HistoryRole role, bool all)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < history->column_count; i++)
		if (all || history->columns[i].role == role)
			appendStringInfo(&list, "%s%s%s%s", list.len ? ", " : "", alias,
							 alias[0] ? "." : "", history->columns[i].name);
	return list.data;
}

/*
 * A record of the columns of a role, for comparison; columns that the
 * history does not have yet are left out.
 */
char *
history_record(const History *history, const char *alias, HistoryRole role)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < history->column_count; i++)
	{
		const HistoryColumn *column = &history->columns[i];
		TypeCacheEntry *type = lookup_type_cache(column->type_oid,
												 TYPECACHE_EQ_OPR);

		if (column->role == role)
			appendStringInfo(&list, "%s%s.%s%s", list.len ? ", " : "", alias,
							 column->name,
							 OidIsValid(type->eq_opr) ? "" : "::text");
	}
	return psprintf("ROW(%s)::record", list.data);
}

/* The hash of a version's tracked columns. */
char *
history_hash(const History *history, const char *alias)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < history->column_count; i++)
	{
		const HistoryColumn *column = &history->columns[i];
		TypeCacheEntry *type = lookup_type_cache(column->type_oid,
												 TYPECACHE_HASH_EXTENDED_PROC);

		if (column->role == HISTORY_TRACKED)
			appendStringInfo(&list, "%s%s.%s%s", list.len ? ", " : "", alias,
							 column->name,
							 OidIsValid(type->hash_extended_proc) ? "" :
							 "::text");
	}
	if (list.len == 0)
		return pstrdup("0::bigint");
	return psprintf("hash_record_extended(ROW(%s)::record, 0)", list.data);
}

/* "schema.=" as OPERATOR() wants it. */
static char *
operator_name(Oid operator)
{
	HeapTuple	tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(operator));
	Form_pg_operator form;
	char	   *name;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for operator %u", operator);
	form = (Form_pg_operator) GETSTRUCT(tuple);
	name = psprintf("%s.%s",
					quote_identifier(get_namespace_name(form->oprnamespace)),
					NameStr(form->oprname));
	ReleaseSysCache(tuple);
	return name;
}

/*
 * "left.k = right.k AND …" by the equality of each key's type, which may be
 * in any schema.
 */
char *
history_key_match(const History *history, const char *left,
				  const char *right)
{
	StringInfoData match;

	initStringInfo(&match);
	for (int i = 0; i < history->column_count; i++)
	{
		const HistoryColumn *column = &history->columns[i];
		TypeCacheEntry *type;

		if (column->role != HISTORY_KEY)
			continue;
		type = lookup_type_cache(column->type_oid, TYPECACHE_EQ_OPR);
		if (!OidIsValid(type->eq_opr))
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("key column %s of \"%s\" has a type without "
							"equality", column->name, history->name),
					 errdetail("It has type %s.", column->type)));
		appendStringInfo(&match, "%s%s.%s OPERATOR(%s) %s.%s",
						 match.len ? " AND " : "", left, column->name,
						 operator_name(type->eq_opr),
						 right, column->name);
	}
	return match.data;
}

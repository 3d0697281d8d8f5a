/*-------------------------------------------------------------------------
 *
 * source.c
 *		What a history is merged from.
 *
 * A source is a dataset, a table, or anything else that can be selected
 * from.  It is read by one query that runs as the caller, with the caller's
 * rights and row security, and whose rows go straight into the merge
 * (join.c).
 *
 * delete_when is somebody else's expression for whoever calls the merge; so
 * it may use nothing but immutable functions written in C, which can neither
 * write nor see anything but the record.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "core/core.h"
#include "history/history.h"
#include "lib/stringinfo.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "optimizer/optimizer.h"
#include "parser/analyze.h"
#include "parser/parser.h"
#include "parser/parsetree.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

/* The relation that a dataset's or a table's name means to the caller. */
static Oid
find_relation(const char *source)
{
	CoreArgs	args = {0};
	CoreIdentity caller;
	Oid			relation;

	core_arg_text(&args, source);
	core_become_owner(&caller);
	relation = core_query_int8("SELECT relation::oid::bigint"
							   " FROM visage.datasets WHERE dataset = $1",
							   &args, InvalidOid);
	core_become_caller(&caller);
	if (!OidIsValid(relation))
		relation = core_query_int8("SELECT pg_catalog.to_regclass($1)"
								   "::oid::bigint", &args, InvalidOid);
	return relation;
}

/* Staging's own bookkeeping, which is not part of a record. */
static bool
is_bookkeeping(const char *name)
{
	return strcmp(name, "_run_id") == 0 ||
		strcmp(name, "_ingested_at") == 0 ||
		strcmp(name, "_record_hash") == 0;
}

/* "type COLLATE …" where the collation is not the type's own. */
static char *
column_definition(const HistorySourceColumn *column, Oid collation)
{
	HeapTuple	tuple;
	Form_pg_collation form;
	char	   *definition;

	if (!OidIsValid(collation) ||
		collation == get_typcollation(column->type_oid))
		return column->type;
	tuple = SearchSysCache1(COLLOID, ObjectIdGetDatum(collation));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for collation %u", collation);
	form = (Form_pg_collation) GETSTRUCT(tuple);
	definition = psprintf("%s COLLATE %s", column->type,
						  quote_qualified_identifier(get_namespace_name(form->collnamespace),
													 NameStr(form->collname)));
	ReleaseSysCache(tuple);
	return definition;
}

/*
 * Asks the source for its columns; no row is read.  A domain is kept as its
 * base type: its default and its checks would run as the extension's owner.
 */
static void
read_columns(HistorySource *source)
{
	TupleDesc	desc;

	core_execute(psprintf("SELECT * FROM %s AS s LIMIT 0", source->from),
				 NULL, SPI_OK_SELECT);
	desc = SPI_tuptable->tupdesc;
	source->columns = palloc0(sizeof(HistorySourceColumn) *
							  Max(desc->natts, 1));
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);
		HistorySourceColumn *column = &source->columns[source->column_count];

		if (is_bookkeeping(NameStr(attribute->attname)))
			continue;
		column->name = pstrdup(NameStr(attribute->attname));
		column->type_oid = attribute->atttypid;
		column->typmod = attribute->atttypmod;
		if (column->type_oid == UNKNOWNOID)
			column->type_oid = TEXTOID;
		column->type_oid = getBaseTypeAndTypmod(column->type_oid,
												&column->typmod);
		core_check_type(column->name, column->type_oid);
		column->type = format_type_with_typemod(column->type_oid,
												column->typmod);
		column->definition = column_definition(column,
											   attribute->attcollation);
		source->column_count++;
	}
}

/*
 * The source that a text names; NULL where it is a relation that does not
 * exist.  Called as the caller.
 */
HistorySource *
history_find_source(const char *text)
{
	HistorySource *source = palloc0(sizeof(HistorySource));
	Oid			relation;

	if (core_is_query(text))
		source->from = psprintf("(%s\n)", text);
	else
	{
		relation = find_relation(text);
		if (!OidIsValid(relation))
			return NULL;
		source->from =
			quote_qualified_identifier(get_namespace_name(get_rel_namespace(relation)),
									   get_rel_name(relation));
	}
	read_columns(source);
	return source;
}

/* Is this function something else than immutable C? */
static bool
is_unsafe_function(Oid function, void *context)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc form;
	bool		safe;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", function);
	form = (Form_pg_proc) GETSTRUCT(tuple);
	safe = form->provolatile == PROVOLATILE_IMMUTABLE && !form->prosecdef &&
		(form->prolang == INTERNALlanguageId || form->prolang == ClanguageId);
	ReleaseSysCache(tuple);
	return !safe;
}

static bool
find_unsafe(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, SubLink) || IsA(node, Query) || IsA(node, Param) ||
		IsA(node, NextValueExpr) || IsA(node, SQLValueFunction) ||
		IsA(node, WindowFunc) || IsA(node, Aggref) ||
		IsA(node, CoerceToDomain))
		return true;
	if (check_functions_in_node(node, is_unsafe_function, context))
		return true;
	return expression_tree_walker(node, find_unsafe, context);
}

/* The expression of "SELECT (…) FROM source", analysed; the caller's. */
static Query *
analyse_condition(const History *history, const HistorySource *source)
{
	char	   *query = psprintf("SELECT (%s\n) AS c FROM %s AS s",
								 history->delete_when, source->from);
	List	   *parsed = raw_parser(query, RAW_PARSE_DEFAULT);

	if (list_length(parsed) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"delete_when\" of \"%s\" is not one expression",
						history->name)));
	return parse_analyze_fixedparams(linitial_node(RawStmt, parsed), query,
									 NULL, 0, NULL);
}

/*
 * Checks delete_when against the source, and finds out which of its columns
 * it looks at.
 */
void
history_check_condition(History *history, const HistorySource *source)
{
	Query	   *query;
	TargetEntry *entry;
	ListCell   *cell;

	if (history->delete_when == NULL)
		return;
	query = analyse_condition(history, source);
	entry = linitial_node(TargetEntry, query->targetList);
	if (query->commandType != CMD_SELECT ||
		list_length(query->targetList) != 1 || query->hasAggs ||
		query->setOperations || query->jointree->quals ||
		find_unsafe((Node *) entry->expr, NULL))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"delete_when\" of \"%s\" uses more than the record",
						history->name),
				 errhint("Use columns of the source, constants, operators "
						 "and immutable built-in functions.")));
	if (exprType((Node *) entry->expr) != BOOLOID)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("\"delete_when\" of \"%s\" is not a condition",
						history->name),
				 errdetail("It has type %s.",
						   format_type_be(exprType((Node *) entry->expr)))));

	history->delete_columns = palloc(sizeof(char *) *
									 (source->column_count + 1));
	history->delete_column_count = 0;
	foreach(cell, pull_var_clause((Node *) entry->expr, 0))
	{
		Var		   *var = lfirst_node(Var, cell);
		RangeTblEntry *table = rt_fetch(var->varno, query->rtable);

		if (var->varattno > 0 &&
			history->delete_column_count < source->column_count)
			history->delete_columns[history->delete_column_count++] =
				pstrdup(get_rte_attribute_name(table, var->varattno));
	}
}

/* Values of the source that the contract refuses, or NULL: none. */
static char *
refused_values(const HistorySource *source)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < source->column_count; i++)
		if (source->columns[i].refused)
			appendStringInfo(&list, "%ss.%s IS NOT NULL",
							 list.len ? " OR " : "",
							 quote_identifier(source->columns[i].name));
	return list.len ? list.data : NULL;
}

/*
 * The query whose rows are merged: the columns of the history that the
 * source has, in the history's order and of its types, then, where that can
 * be, whether the record is a delete, and whether the contract refuses it.
 * Where it cannot, the rows of a plain table need no projection and come as
 * they are stored (walk.c).
 */
char *
history_source_query(const History *history, HistorySource *source)
{
	StringInfoData query;
	int			count = 0;
	char	   *refused;

	initStringInfo(&query);
	appendStringInfoString(&query, "SELECT ");
	for (int i = 0; i < history->column_count; i++)
	{
		HistoryColumn *column = &history->columns[i];

		column->source = -1;
		for (int j = 0; j < source->column_count; j++)
		{
			const HistorySourceColumn *from = &source->columns[j];

			if (from->ignored || strcmp(from->name, column->name) != 0)
				continue;
			appendStringInfo(&query, "%ss.%s", count ? ", " : "",
							 column->quoted);
			if (from->type_oid != column->type_oid ||
				(from->typmod != column->typmod && column->typmod >= 0))
				appendStringInfo(&query, "::%s", column->type);
			column->source = count++;
		}
	}
	source->delete_place = source->refused_place = -1;
	if (history->delete_when)
	{
		appendStringInfo(&query, ", (%s\n)", history->delete_when);
		source->delete_place = count++;
	}
	refused = refused_values(source);
	if (refused)
	{
		appendStringInfo(&query, ", (%s)", refused);
		source->refused_place = count++;
	}
	appendStringInfo(&query, " FROM %s AS s", source->from);
	return query.data;
}

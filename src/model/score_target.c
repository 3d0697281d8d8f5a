/*-------------------------------------------------------------------------
 *
 * score_target.c
 *		The table that visage_score_table writes to.
 *
 * Into a plain table, without index, trigger, constraint or policy and with
 * the columns in their order, rows are written as they are.  Any other takes
 * them by an INSERT from a tuple store, which does all that an INSERT does.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "model/score_table.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/queryenvironment.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/varlena.h"

/* What the rows to insert are called in the statement. */
#define STORED "visage_scored_rows"

static const struct
{
	const char *name;
	Oid			type;
}			score_columns[SCORE_COLUMNS] = {
	{"score", FLOAT8OID},
	{"class", TEXTOID},
	{"reasons", JSONBOID},
	{"model", TEXTOID},
	{"version", INT4OID},
	{"scored_at", TIMESTAMPTZOID},
	{"run_id", INT8OID}
};

/* The table's name as SQL has it, and its OID if there is one. */
char *
score_target_name(const char *name, Oid *oid)
{
	List	   *names = textToQualifiedNameList(cstring_to_text(name));
	RangeVar   *range = makeRangeVarFromNameList(names);

	*oid = RangeVarGetRelid(range, NoLock, true);
	return range->schemaname == NULL ?
		pstrdup(quote_identifier(range->relname)) :
		quote_qualified_identifier(range->schemaname, range->relname);
}

/* The description of the rows: the key as in the query, and the rest. */
static TupleDesc
describe_rows(TupleDesc query, const int *key, int key_count)
{
	TupleDesc	rows = CreateTemplateTupleDesc(key_count + SCORE_COLUMNS);

	for (int i = 0; i < key_count; i++)
		TupleDescCopyEntry(rows, i + 1, query, key[i] + 1);
	for (int i = 0; i < SCORE_COLUMNS; i++)
		TupleDescInitEntry(rows, key_count + i + 1, score_columns[i].name,
						   score_columns[i].type, -1, 0);
	return rows;
}

/* The names of the key's columns, or of all: for a statement. */
static char *
list_columns(TupleDesc rows, int count)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < count; i++)
		appendStringInfo(&list, "%s%s", i > 0 ? ", " : "",
						 quote_identifier(NameStr(TupleDescAttr(rows, i)->attname)));
	return list.data;
}

/* Creates the table, as the caller. */
static void
create_table(const ScoreTarget *target)
{
	bool		merge = strcmp(target->request->mode, "merge") == 0;
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE TABLE %s (", target->quoted);
	for (int i = 0; i < target->rows->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(target->rows, i);

		appendStringInfo(&sql, "%s%s %s", i > 0 ? ", " : "",
						 quote_identifier(NameStr(attribute->attname)),
						 format_type_with_typemod(attribute->atttypid,
												  attribute->atttypmod));
	}
	if (merge)
		appendStringInfo(&sql, ", PRIMARY KEY (%s)",
						 list_columns(target->rows, target->request->key_count));
	appendStringInfoChar(&sql, ')');
	core_execute(sql.data, NULL, SPI_OK_UTILITY);
}

/* Is the table's attribute i the column of the rows? */
static bool
is_column(Relation relation, int i, Form_pg_attribute column)
{
	Form_pg_attribute attribute;

	if (i >= RelationGetDescr(relation)->natts)
		return false;
	attribute = TupleDescAttr(RelationGetDescr(relation), i);
	return !attribute->attisdropped &&
		strcmp(NameStr(attribute->attname), NameStr(column->attname)) == 0 &&
		attribute->atttypid == column->atttypid;
}

/* ERROR unless the table has all columns; are they all that it has? */
static bool
check_columns(const ScoreTarget *target)
{
	Relation	relation = target->relation;
	int			natts = RelationGetDescr(relation)->natts;
	bool		in_order = natts == target->rows->natts;

	for (int i = 0; i < target->rows->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(target->rows, i);
		bool		found = is_column(relation, i, column);

		in_order &= found;
		for (int j = 0; j < natts && !found; j++)
			found = is_column(relation, j, column);
		if (!found)
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("table \"%s\" is not one for these scores",
							RelationGetRelationName(relation)),
					 errdetail("It has no column \"%s\" of type %s.",
							   NameStr(column->attname),
							   format_type_be(column->atttypid)),
					 errhint("Name a table that does not exist, or drop this one.")));
	}
	return in_order;
}

/* Can rows be written as they are? */
static bool
is_plain(const ScoreTarget *target, bool in_order)
{
	Relation	relation = target->relation;

	return in_order && relation->rd_rel->relkind == RELKIND_RELATION &&
		strcmp(target->request->mode, "merge") != 0 &&
		!relation->rd_rel->relhasindex && relation->trigdesc == NULL &&
		!relation->rd_rel->relhasrules &&
		RelationGetDescr(relation)->constr == NULL &&
		check_enable_rls(RelationGetRelid(relation), InvalidOid,
						 true) != RLS_ENABLED;
}

/* Opens the table, created or emptied if need be. */
void
score_open_target(ScoreTarget *target, const ScoreRequest *request,
				  TupleDesc query, const int *key, bool empty)
{
	AclResult	allowed;
	Oid			oid;

	target->request = request;
	target->quoted = score_target_name(request->into, &oid);
	target->rows = describe_rows(query, key, request->key_count);
	if (!OidIsValid(oid))
		create_table(target);
	else if (empty)
		core_execute(psprintf("TRUNCATE %s", target->quoted), NULL,
					 SPI_OK_UTILITY);
	(void) score_target_name(request->into, &oid);
	target->relation = table_open(oid, RowExclusiveLock);
	allowed = pg_class_aclcheck(oid, GetUserId(), ACL_INSERT);
	if (allowed != ACLCHECK_OK)
		aclcheck_error(allowed, OBJECT_TABLE,
					   RelationGetRelationName(target->relation));
	if (!is_plain(target, check_columns(target)))
		target->store = tuplestore_begin_heap(false, false, work_mem);
}

/* The statement that inserts the stored rows. */
static char *
insertion(const ScoreTarget *target)
{
	const ScoreRequest *request = target->request;
	char	   *all = list_columns(target->rows, target->rows->natts);
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "INSERT INTO %s (%s) SELECT %s FROM " STORED,
					 target->quoted, all, all);
	if (strcmp(request->mode, "merge") != 0)
		return sql.data;
	appendStringInfo(&sql, " ON CONFLICT (%s) DO UPDATE SET ",
					 list_columns(target->rows, request->key_count));
	for (int i = 0; i < SCORE_COLUMNS; i++)
		appendStringInfo(&sql, "%s%s = EXCLUDED.%s", i > 0 ? ", " : "",
						 quote_identifier(score_columns[i].name),
						 quote_identifier(score_columns[i].name));
	return sql.data;
}

/* Inserts the rows of the tuple store, as the caller. */
void
score_insert_stored(ScoreTarget *target)
{
	EphemeralNamedRelation stored = palloc0(sizeof(EphemeralNamedRelationData));

	stored->md.name = pstrdup(STORED);
	stored->md.reliddesc = InvalidOid;
	stored->md.tupdesc = target->rows;
	stored->md.enrtype = ENR_NAMED_TUPLESTORE;
	stored->md.enrtuples = tuplestore_tuple_count(target->store);
	stored->reldata = target->store;
	if (SPI_register_relation(stored) != SPI_OK_REL_REGISTER)
		elog(ERROR, "cannot register the rows to insert");
	core_execute(insertion(target), NULL, SPI_OK_INSERT);
	(void) SPI_unregister_relation(STORED);
	tuplestore_end(target->store);
}

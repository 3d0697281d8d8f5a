/*-------------------------------------------------------------------------
 *
 * source.c
 *		What a history is merged from.
 *
 * A source is a table, or anything else that can be selected from.  Only a
 * superuser's table is read by the extension's owner, once the caller's right
 * to read it is established.  Everything else is read as the caller,
 * into a temporary table that is then the source: a view or a query may run
 * functions of others, and whoever owns a table, or its schema, can put a
 * view in its place at any moment.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "core/core.h"
#include "history/history.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"

#define SOURCE_TABLE "visage_merge_source"

/* Runs the query as the caller, into a temporary table. */
static char *
materialise(const char *query)
{
	/* An earlier merge of this transaction may have left its own. */
	if (core_query_text("SELECT pg_catalog.to_regclass('pg_temp."
						SOURCE_TABLE "')", NULL, CurrentMemoryContext) != NULL)
		core_execute("DROP TABLE pg_temp." SOURCE_TABLE, NULL,
					 SPI_OK_UTILITY);
	core_execute(psprintf("CREATE TEMPORARY TABLE " SOURCE_TABLE
						  " ON COMMIT DROP AS %s", query),
				 NULL, SPI_OK_UTILITY);
	return pstrdup("pg_temp." SOURCE_TABLE);
}

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

/*
 * The qualified, quoted name of the relation to merge from; NULL where the
 * source names a relation that does not exist.  Called as the caller.
 */
char *
history_find_source(const char *source)
{
	Oid			relation;
	char		kind;
	char	   *name;

	if (core_is_query(source))
		return materialise(source);
	relation = find_relation(source);
	if (!OidIsValid(relation))
		return NULL;
	name = quote_qualified_identifier(get_namespace_name(get_rel_namespace(relation)),
									  get_rel_name(relation));
	kind = get_rel_relkind(relation);
	if ((kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE) ||
		!core_is_superusers_table(relation) ||
		check_enable_rls(relation, InvalidOid, true) == RLS_ENABLED)
		return materialise(psprintf("SELECT * FROM %s", name));
	if (pg_class_aclcheck(relation, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, name);
	return name;
}

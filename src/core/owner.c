/*-------------------------------------------------------------------------
 *
 * owner.c
 *		Who runs what.
 *
 * The extension's owner owns the catalog tables, the layer schemas and every
 * table that Visage makes.  Visage's public functions run with the rights of
 * their caller, who needs no privilege on those tables: the functions become
 * the owner round their own statements, and only round those.  SQL that a
 * user wrote (a query, an expression) always runs as the user.
 *
 * While Visage is the owner, search_path is pg_catalog and pg_temp, so that
 * no object of a user can be called instead of a built-in one.
 *
 * An ERROR needs no care: the abort of the transaction or subtransaction
 * puts back the user and the settings.  A commit does: the caller must be
 * back before it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "core/core.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

/*
 * Reads the extension's row of pg_extension; ERROR where it does not exist,
 * which happens to a function called by its symbol only.
 */
static void
read_extension(Oid *owner, Oid *schema)
{
	Relation	relation = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber,
				F_NAMEEQ, CStringGetDatum("visage"));
	scan = systable_beginscan(relation, ExtensionNameIndexId, true, NULL, 1,
							  &key);
	tuple = systable_getnext(scan);
	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension \"visage\" does not exist in this database"),
				 errhint("Run CREATE EXTENSION visage.")));
	*owner = ((Form_pg_extension) GETSTRUCT(tuple))->extowner;
	*schema = ((Form_pg_extension) GETSTRUCT(tuple))->extnamespace;
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
}

/* The role that owns the extension and all that Visage makes. */
Oid
core_extension_owner(void)
{
	Oid			owner;
	Oid			schema;

	read_extension(&owner, &schema);
	return owner;
}

/* The quoted name of the schema that holds Visage's public functions. */
const char *
core_extension_schema(void)
{
	Oid			owner;
	Oid			schema;

	read_extension(&owner, &schema);
	return quote_identifier(get_namespace_name(schema));
}

/* Becomes the extension's owner with a safe search_path. */
void
core_become_owner(CoreIdentity *saved)
{
	Oid			owner = core_extension_owner();

	GetUserIdAndSecContext(&saved->user, &saved->context);
	saved->nest_level = NewGUCNestLevel();
	SetUserIdAndSecContext(owner,
						   saved->context | SECURITY_LOCAL_USERID_CHANGE);
	(void) set_config_option("search_path", "pg_catalog, pg_temp",
							 PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

/* Becomes again who core_become_owner found. */
void
core_become_caller(const CoreIdentity *saved)
{
	AtEOXact_GUC(true, saved->nest_level);
	SetUserIdAndSecContext(saved->user, saved->context);
}

/*
 * From here on, until core_end_utc or an ERROR, the zone is UTC: so a
 * timestamp or date without zone in a user's query means the same in every
 * session.
 */
int
core_begin_utc(void)
{
	int			nest_level = NewGUCNestLevel();

	(void) set_config_option("TimeZone", "UTC", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	return nest_level;
}

void
core_end_utc(int nest_level)
{
	AtEOXact_GUC(true, nest_level);
}

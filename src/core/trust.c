/*-------------------------------------------------------------------------
 *
 * trust.c
 *		What the extension's owner may handle without running foreign code.
 *
 * Types.  Whoever owns a type says what code runs when its values are read, checked
 * or cast: the CHECK of a domain, a cast of an enum or composite type to
 * text or json.  Where Visage is the extension's owner, that would be the
 * code of somebody else with a superuser's rights.  So a column that Visage
 * handles as the owner has a type of which every part belongs to a
 * superuser.  A type can be dropped and made again under its name: ask when
 * it is used, not only when it is declared.
 *
 * Tables.  Whoever owns a table, or its schema, can put a view in its place
 * between a look at it and its use.  A superuser does no such thing.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "core/core.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

static Oid	find_untrusted(Oid type);

/* The first untrusted type among the attributes of a row type. */
static Oid
find_untrusted_attribute(Oid type)
{
	TupleDesc	desc = lookup_rowtype_tupdesc(type, -1);
	Oid			found = InvalidOid;

	for (int i = 0; i < desc->natts && !OidIsValid(found); i++)
		if (!TupleDescAttr(desc, i)->attisdropped)
			found = find_untrusted(TupleDescAttr(desc, i)->atttypid);
	ReleaseTupleDesc(desc);
	return found;
}

/* The type, or the part of it, that belongs to no superuser; else invalid. */
static Oid
find_untrusted(Oid type)
{
	HeapTuple	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	Oid			element = get_element_type(type);
	Oid			owner;
	char		kind;

	check_stack_depth();
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for type %u", type);
	owner = ((Form_pg_type) GETSTRUCT(tuple))->typowner;
	kind = ((Form_pg_type) GETSTRUCT(tuple))->typtype;
	ReleaseSysCache(tuple);
	if (!superuser_arg(owner))
		return type;
	if (OidIsValid(element))
		return find_untrusted(element);
	switch (kind)
	{
		case TYPTYPE_DOMAIN:
			return find_untrusted(getBaseType(type));
		case TYPTYPE_RANGE:
			return find_untrusted(get_range_subtype(type));
		case TYPTYPE_MULTIRANGE:
			return find_untrusted(get_multirange_range(type));
		case TYPTYPE_COMPOSITE:
			return find_untrusted_attribute(type);
		default:
			return InvalidOid;
	}
}

/* ERROR unless the owner may handle the column's values. */
void
core_check_type(const char *column, Oid type)
{
	Oid			untrusted = find_untrusted(type);

	if (OidIsValid(untrusted))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("column \"%s\" cannot have type %s", column,
						format_type_be(type)),
				 errdetail("Type %s does not belong to a superuser, and "
						   "functions of its owner might run with the "
						   "rights of the extension's owner.",
						   format_type_be(untrusted)),
				 errhint("Cast the column to a type of PostgreSQL's own.")));
}

/* Does the schema belong to a superuser? */
bool
core_is_superusers_schema(Oid schema)
{
	HeapTuple	tuple = SearchSysCache1(NAMESPACEOID,
										ObjectIdGetDatum(schema));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		return false;
	owner = ((Form_pg_namespace) GETSTRUCT(tuple))->nspowner;
	ReleaseSysCache(tuple);
	if (owner == ROLE_PG_DATABASE_OWNER)
	{
		tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(MyDatabaseId));
		if (!HeapTupleIsValid(tuple))
			return false;
		owner = ((Form_pg_database) GETSTRUCT(tuple))->datdba;
		ReleaseSysCache(tuple);
	}
	return superuser_arg(owner);
}

/* Can nobody but superusers put something in this relation's place? */
bool
core_is_superusers_table(Oid relation)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
	Oid			owner;
	Oid			schema;

	if (!HeapTupleIsValid(tuple))
		return false;
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	schema = ((Form_pg_class) GETSTRUCT(tuple))->relnamespace;
	ReleaseSysCache(tuple);
	return superuser_arg(owner) && core_is_superusers_schema(schema);
}

/*-------------------------------------------------------------------------
 *
 * layers.c
 *		The layer schemas and the tables that Visage makes in them.
 *
 * A layer is a schema, made on first use by a function and so no member of
 * the extension: pg_dump dumps it and DROP EXTENSION leaves it.  It carries a
 * comment as its mark.  A schema that exists already is used as it is.  visage.datasets lists the tables
 * that Visage made; one that is not listed there is never touched.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "core/core.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"

static const char *const layer_names[] = {
	"landing", "staging", "history", "enriched", "serving"
};

/* The layer's name in the contract, without the installation's prefix. */
const char *
core_layer_name(CoreLayer layer)
{
	return layer_names[layer];
}

/* The name of the layer's schema, with the prefix, not quoted. */
static char *
schema_name(CoreLayer layer)
{
	const char *prefix = GetConfigOption("visage.schema_prefix", true, false);
	char	   *name = psprintf("%s%s", prefix ? prefix : "",
								layer_names[layer]);

	if (strlen(name) >= NAMEDATALEN)
		ereport(ERROR,
				(errcode(ERRCODE_NAME_TOO_LONG),
				 errmsg("the name of schema \"%s\" is longer than %d bytes",
						name, NAMEDATALEN - 1),
				 errhint("Shorten the setting visage.schema_prefix.")));
	return name;
}

/*
 * ERROR where the layer's schema belongs to somebody who could put other
 * tables, with triggers, in the place of Visage's.
 */
static void
check_schema(const char *name)
{
	Oid			schema = get_namespace_oid(name, false);

	if (!core_is_superusers_schema(schema))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("schema \"%s\" cannot be a layer", name),
				 errdetail("It does not belong to a superuser, and its owner "
						   "could replace the tables in it."),
				 errhint("Let a superuser own it, or choose other schemas "
						 "with the setting visage.schema_prefix.")));
}

/* Waits for whoever makes a layer now; true where the schema is there then. */
static bool
made_by_another(const char *name)
{
	core_execute("SELECT pg_advisory_xact_lock(hashtext('visage layer'))",
				 NULL, SPI_OK_SELECT);
	AcceptInvalidationMessages();
	return OidIsValid(get_namespace_oid(name, true));
}

/*
 * The layer's schema, made and granted to the roles of Visage where it does
 * not exist; the name is not quoted.  Runs as the extension's owner.
 */
char *
core_layer_schema(CoreLayer layer)
{
	char	   *name = schema_name(layer);
	CoreArgs	args = {0};

	if (OidIsValid(get_namespace_oid(name, true)) || made_by_another(name))
	{
		check_schema(name);
		return name;
	}
	core_execute(psprintf("CREATE SCHEMA %s", quote_identifier(name)), NULL,
				 SPI_OK_UTILITY);
	core_execute(psprintf("COMMENT ON SCHEMA %s IS 'Layer of Visage.'",
						  quote_identifier(name)), NULL, SPI_OK_UTILITY);
	core_arg_text(&args, name);
	core_execute("SELECT visage.grant_layer($1)", &args, SPI_OK_SELECT);
	return name;
}

/* The quoted, qualified name of a table in a layer; not over 63 bytes. */
char *
core_qualified(CoreLayer layer, const char *table)
{
	if (strlen(table) >= NAMEDATALEN)
		ereport(ERROR,
				(errcode(ERRCODE_NAME_TOO_LONG),
				 errmsg("the name of dataset \"%s.%s\" is longer than %d "
						"bytes", layer_names[layer], table, NAMEDATALEN - 1),
				 errdetail("Names are never truncated."),
				 errhint("Choose a shorter name.")));
	return quote_qualified_identifier(schema_name(layer), table);
}

/*
 * The table part of a dataset's name ("history.sf__businesses"), which must
 * be in the given layer; a name without a layer is in it by itself.
 */
char *
core_dataset_table(const char *dataset, CoreLayer layer)
{
	const char *dot = strchr(dataset, '.');

	if (dot == NULL)
		return pstrdup(dataset);
	if (strncmp(dataset, layer_names[layer], dot - dataset) != 0 ||
		strlen(layer_names[layer]) != dot - dataset ||
		strchr(dot + 1, '.') != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("invalid dataset name \"%s\"", dataset),
				 errdetail("A dataset of this kind is in layer %s.",
						   layer_names[layer]),
				 errhint("Write \"%s.name\".", layer_names[layer])));
	return pstrdup(dot + 1);
}

/* The table in the layer, or InvalidOid; makes nothing. */
Oid
core_table_oid(CoreLayer layer, const char *table)
{
	Oid			schema = get_namespace_oid(schema_name(layer), true);

	return OidIsValid(schema) ? get_relname_relid(table, schema) : InvalidOid;
}

/* The table that is listed under this name, or InvalidOid. */
static Oid
listed_table(CoreLayer layer, const char *table)
{
	CoreArgs	args = {0};

	core_arg_text(&args, psprintf("%s.%s", layer_names[layer], table));
	return (Oid) core_query_int8("SELECT relation::oid::bigint"
								 " FROM visage.datasets WHERE dataset = $1",
								 &args, InvalidOid);
}

/*
 * The table in the layer that Visage made, or InvalidOid.  ERROR where there
 * is one of that name that it did not make, even if it made one before.
 * Runs as the extension's owner.
 */
Oid
core_own_table(CoreLayer layer, const char *table)
{
	Oid			relation = core_table_oid(layer, table);

	if (OidIsValid(relation) && relation != listed_table(layer, table))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_TABLE),
				 errmsg("relation \"%s.%s\" already exists",
						layer_names[layer], table),
				 errdetail("It was not made by Visage."),
				 errhint("Choose another name, or move that relation "
						 "away.")));
	if (OidIsValid(relation))
		check_schema(schema_name(layer));
	return relation;
}

/*
 * Drops a table that Visage made, and its row of visage.datasets; a table
 * that somebody put in its place stays.  Runs as the extension's owner.
 */
void
core_drop_dataset(CoreLayer layer, const char *table)
{
	CoreArgs	args = {0};
	Oid			relation = core_table_oid(layer, table);

	if (OidIsValid(relation) && relation == listed_table(layer, table))
		core_execute(psprintf("DROP TABLE %s", core_qualified(layer, table)),
					 NULL, SPI_OK_UTILITY);
	core_arg_text(&args, psprintf("%s.%s", layer_names[layer], table));
	core_execute("DELETE FROM visage.datasets WHERE dataset = $1", &args,
				 SPI_OK_DELETE);
}

/*
 * Lets the roles of Visage read what it has just made, where the layer's
 * schema was there before and gives them no right by itself.
 */
void
core_grant_made(CoreLayer layer)
{
	CoreArgs	args = {0};

	core_arg_text(&args, schema_name(layer));
	core_execute("SELECT visage.grant_layer($1)"
				 " WHERE NOT visage.layer_is_ours($1)", &args, SPI_OK_SELECT);
}

/*
 * Lists a table that Visage has just made.  A row of that name is of a table
 * that somebody has dropped by hand.
 */
void
core_register_dataset(CoreLayer layer, const char *table, const char *kind,
					  const char *made_by)
{
	CoreArgs	args = {0};

	core_arg_text(&args, psprintf("%s.%s", layer_names[layer], table));
	core_arg(&args, OIDOID, ObjectIdGetDatum(core_table_oid(layer, table)),
			 false);
	core_arg_text(&args, kind);
	core_arg_text(&args, made_by);
	core_execute("INSERT INTO visage.datasets (dataset, relation, kind, made_by)"
				 " VALUES ($1, $2, $3, $4)"
				 " ON CONFLICT (dataset) DO UPDATE SET relation = excluded.relation,"
				 " kind = excluded.kind, made_by = excluded.made_by",
				 &args, SPI_OK_INSERT);
	core_grant_made(layer);
}

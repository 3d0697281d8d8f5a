/*-------------------------------------------------------------------------
 *
 * grant.c
 *		A model is an object with privileges.
 *
 * Each model has a view of its name in schema visage_models, and who may
 * SELECT from that view may use the model.  So GRANT, REVOKE, DROP OWNED and
 * pg_dump treat a model's privileges as they do all others.  A row trigger of
 * visage.model_cards makes the view with the first version and drops it with
 * the last one, whoever writes those rows.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/trigger.h"
#include "model/model.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

/* Runs a statement about the model's view; the caller is the owner, in SPI. */
static void
execute_for(const char *before, const char *model, const char *after)
{
	core_execute(psprintf("%s " MODEL_SCHEMA ".%s %s", before,
						  quote_identifier(model), after),
				 NULL, SPI_OK_UTILITY);
}

/* Makes the model's view, unless it is there. */
static bool
make_view(const char *model)
{
	if (OidIsValid(model_view_oid(model)))
		return false;
	execute_for("CREATE VIEW", model,
				psprintf("AS SELECT %s::pg_catalog.text AS model",
						 quote_literal_cstr(model)));
	execute_for("COMMENT ON VIEW", model,
				"IS 'Its privileges are those on the model of this name.'");
	return true;
}

static const char *
quoted_role(Oid role)
{
	return quote_identifier(GetUserNameFromId(role, false));
}

/* Grants the model to a role. */
static void
grant_to(const char *model, const char *role)
{
	execute_for("GRANT SELECT ON", model, psprintf("TO %s", role));
}

/* Grants the new model to who made it and to engineers. */
static void
grant_to_makers(const char *model)
{
	Oid			maker = GetOuterUserId();
	Oid			engineer = get_role_oid("visage_engineer", true);

	if (!superuser_arg(maker) && maker != core_extension_owner())
		grant_to(model, quoted_role(maker));
	if (OidIsValid(engineer) && engineer != maker &&
		core_query_int8("SELECT visage.role_is_ours('visage_engineer')::int::bigint",
						NULL, 0))
		grant_to(model, "visage_engineer");
}

/* Drops the view of a model that has no version left. */
static void
drop_view(const char *model)
{
	CoreArgs	args = {0};

	core_arg_text(&args, model);
	if (OidIsValid(model_view_oid(model)) &&
		core_execute("SELECT FROM visage.model_cards WHERE model = $1 LIMIT 1",
					 &args, SPI_OK_SELECT) == 0)
		execute_for("DROP VIEW", model, "");
}

/* Row trigger of visage.model_cards. */
PG_FUNCTION_INFO_V1(visage_model_named);
Datum
visage_model_named(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	CoreIdentity caller;
	char	   *model;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("this function is for a trigger")));
	core_spi_begin();
	model = SPI_getvalue(trigger->tg_trigtuple,
						 RelationGetDescr(trigger->tg_relation), 1);
	core_become_owner(&caller);
	if (TRIGGER_FIRED_BY_DELETE(trigger->tg_event))
		drop_view(model);
	else if (make_view(model))
		grant_to_makers(model);
	core_become_caller(&caller);
	core_spi_end();
	return PointerGetDatum(NULL);
}

/* Becomes the owner, for a model that exists and has its view. */
static char *
begin_change(FunctionCallInfo fcinfo, CoreIdentity *caller)
{
	char	   *model = text_to_cstring(PG_GETARG_TEXT_PP(0));

	core_spi_begin();
	core_become_owner(caller);
	model_require(model);
	(void) make_view(model);
	return model;
}

PG_FUNCTION_INFO_V1(visage_grant_model);
Datum
visage_grant_model(PG_FUNCTION_ARGS)
{
	CoreIdentity caller;
	char	   *model = begin_change(fcinfo, &caller);

	grant_to(model, quoted_role(PG_GETARG_OID(1)));
	core_become_caller(&caller);
	core_spi_end();
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(visage_revoke_model);
Datum
visage_revoke_model(PG_FUNCTION_ARGS)
{
	CoreIdentity caller;
	char	   *model = begin_change(fcinfo, &caller);

	execute_for("REVOKE SELECT ON", model,
				psprintf("FROM %s", quoted_role(PG_GETARG_OID(1))));
	core_become_caller(&caller);
	core_spi_end();
	PG_RETURN_VOID();
}

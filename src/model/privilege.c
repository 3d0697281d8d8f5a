/*-------------------------------------------------------------------------
 *
 * privilege.c
 *		Who may use a model: who may SELECT from the view of its name.
 *
 * Linked into visage.so, for scoring, and visage_models.so, for exports.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "miscadmin.h"
#include "model/model.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"

/* The view that holds the model's privileges, or InvalidOid. */
Oid
model_view_oid(const char *model)
{
	Oid			schema = get_namespace_oid(MODEL_SCHEMA, true);

	return OidIsValid(schema) ? get_relname_relid(model, schema) : InvalidOid;
}

/* May this user use the model?  The owner of the extension always may. */
bool
model_is_granted(const char *model, Oid user)
{
	Oid			view;
	bool		missing = false;

	if (superuser_arg(user))
		return true;
	view = model_view_oid(model);
	if (OidIsValid(view) &&
		pg_class_aclcheck_ext(view, user, ACL_SELECT,
							  &missing) == ACLCHECK_OK)
		return true;
	return has_privs_of_role(user, core_extension_owner());
}

/* ERROR unless the user may use the model. */
void
model_require_grant(const char *model, Oid user)
{
	if (!model_is_granted(model, user))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for model \"%s\"", model),
				 errhint("See visage_grant_model.")));
}

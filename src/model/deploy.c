/*-------------------------------------------------------------------------
 *
 * deploy.c
 *		Which version a model's aliases mean; dropping models.
 *
 * An alias is a row of visage.model_aliases, so a deploy is seen when its
 * transaction commits, by the statements that begin afterwards.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "model/model.h"
#include "utils/builtins.h"

/* Points the alias at the version.  The caller is the owner, in SPI. */
void
model_deploy(const char *model, int32 version, const char *alias)
{
	CoreArgs	args = {0};

	core_arg_text(&args, model);
	core_arg_text(&args, alias);
	core_arg(&args, INT4OID, Int32GetDatum(version), false);
	core_execute("INSERT INTO visage.model_aliases AS a"
				 " (model, alias, version, deployed_at, deployed_by)"
				 " VALUES ($1, $2, $3, now(), session_user)"
				 " ON CONFLICT (model, alias) DO UPDATE"
				 " SET version = EXCLUDED.version,"
				 " deployed_at = EXCLUDED.deployed_at,"
				 " deployed_by = EXCLUDED.deployed_by"
				 " WHERE a.version <> EXCLUDED.version",
				 &args, SPI_OK_INSERT);
}

/* ERROR unless the model has this version. */
static void
require_version(const char *model, int32 version)
{
	CoreArgs	args = {0};

	model_require(model);
	core_arg_text(&args, model);
	core_arg(&args, INT4OID, Int32GetDatum(version), false);
	if (core_execute("SELECT FROM visage.model_cards"
					 " WHERE model = $1 AND version = $2",
					 &args, SPI_OK_SELECT) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("model \"%s\" has no version %d", model, version),
				 errhint("See visage.model_versions.")));
}

PG_FUNCTION_INFO_V1(visage_deploy);
Datum
visage_deploy(PG_FUNCTION_ARGS)
{
	char	   *model = text_to_cstring(PG_GETARG_TEXT_PP(0));
	int32		version = PG_GETARG_INT32(1);
	char	   *alias = text_to_cstring(PG_GETARG_TEXT_PP(2));
	CoreIdentity caller;

	if (strcmp(alias, "champion") != 0 && strcmp(alias, "challenger") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unrecognized alias \"%s\"", alias),
				 errhint("Use champion or challenger.")));
	core_spi_begin();
	core_become_owner(&caller);
	require_version(model, version);
	model_deploy(model, version, alias);
	core_become_caller(&caller);
	core_spi_end();
	PG_RETURN_VOID();
}

/*
 * visage_drop_model(name, keep_data): takes the model out of use; its
 * versions go with it only when keep_data is false.
 */
PG_FUNCTION_INFO_V1(visage_drop_model);
Datum
visage_drop_model(PG_FUNCTION_ARGS)
{
	char	   *model = text_to_cstring(PG_GETARG_TEXT_PP(0));
	bool		keep_data = PG_GETARG_BOOL(1);
	CoreIdentity caller;
	CoreArgs	args = {0};

	core_arg_text(&args, model);
	core_spi_begin();
	core_become_owner(&caller);
	model_require(model);
	core_execute("DELETE FROM visage.model_aliases WHERE model = $1", &args,
				 SPI_OK_DELETE);
	if (!keep_data)
		core_execute("DELETE FROM visage.model_cards WHERE model = $1", &args,
					 SPI_OK_DELETE);
	core_become_caller(&caller);
	core_spi_end();
	PG_RETURN_VOID();
}

/*-------------------------------------------------------------------------
 *
 * export.c
 *		visage_export_model: a version as the bytes of a file.
 *
 * Who may score with a model may not yet read it: EXECUTE on this function
 * is for engineers, who need the privilege on the model besides.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "model/export.h"
#include "model/model.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(visage_export_model);

/* The image that a reference means, in the caller's context. */
static bytea *
find_image(const char *reference, Oid user, MemoryContext context)
{
	char	   *model = pstrdup(reference);
	char	   *at = strchr(model, '@');
	const char *part = at ? at + 1 : "champion";
	CoreArgs	args = {0};
	bool		isnull;
	Datum		image;

	if (at != NULL)
		*at = '\0';
	model_require(model);
	model_require_grant(model, user);
	core_arg_text(&args, model);
	core_arg_text(&args, part);
	if (core_execute("SELECT i.image FROM visage.model_images AS i"
					 " WHERE i.model = $1 AND (i.version::text = $2 OR EXISTS ("
					 " SELECT FROM visage.model_aliases AS a"
					 " WHERE a.model = $1 AND a.alias = $2"
					 " AND a.version = i.version))", &args,
					 SPI_OK_SELECT) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("model \"%s\" has no version or alias \"%s\"", model,
						part),
				 errhint("See visage.model_versions, and visage_deploy.")));
	image = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
						  &isnull);
	MemoryContextSwitchTo(context);
	return DatumGetByteaPCopy(image);
}

/* The image, aligned as its structs want it. */
static const ModelImage *
aligned_image(const bytea *image)
{
	Size		size = VARSIZE_ANY_EXHDR(image);
	char	   *copy = palloc_extended(size, MCXT_ALLOC_HUGE);

	return memcpy(copy, VARDATA_ANY(image), size);
}

/* Formats besides Visage's own, which is the image itself. */
static const struct
{
	const char *name;
	bytea	   *(*write) (const ModelImage *image);
}			formats[] = {
	{"visage", NULL}, {"onnx", export_onnx}, {"pmml", export_pmml}
};

Datum
visage_export_model(PG_FUNCTION_ARGS)
{
	char	   *reference = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *format = text_to_cstring(PG_GETARG_TEXT_PP(1));
	MemoryContext context = CurrentMemoryContext;
	Oid			user = GetUserId();
	CoreIdentity caller;
	bytea	   *image;
	int			chosen = 0;

	while (chosen < lengthof(formats) &&
		   strcmp(formats[chosen].name, format) != 0)
		chosen++;
	if (chosen == lengthof(formats))
		core_not_supported(psprintf("exporting a model in format \"%s\"",
									format),
						   "Formats are: visage, onnx, pmml.");
	core_spi_begin();
	core_become_owner(&caller);
	image = find_image(reference, user, context);
	core_become_caller(&caller);
	core_spi_end();
	if (formats[chosen].write != NULL)
		image = formats[chosen].write(aligned_image(image));
	PG_RETURN_BYTEA_P(image);
}

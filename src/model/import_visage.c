/*-------------------------------------------------------------------------
 *
 * import_visage.c
 *		Models in Visage's own format: what visage_export_model gives.
 *
 * The file is the image itself, so it has its own checksum; bytes from
 * outside are checked like those from the table.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "model/import.h"

static bool
recognise(const char *data, size_t size)
{
	uint32		magic = MODEL_MAGIC;

	return size >= sizeof(ModelImage) &&
		memcmp(data, &magic, sizeof(magic)) == 0;
}

static ModelImage *
import(const ImportSource *source)
{
	ModelImage *image = palloc_extended(Max(source->size, sizeof(ModelImage)),
										MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	const char *problem;
	int			options;

	(void) core_json_keys(source->options, &options);
	if (options > 0)
		core_not_supported("an option of a model in format \"visage\"",
						   "Give options when the model is imported from its "
						   "first format.");
	memcpy(image, source->data, source->size);
	problem = model_check_image(image, source->size);
	if (problem != NULL)
		import_damaged("visage", "%s", problem);
	return image;
}

const ImportFormat import_visage = {"visage", recognise, import};

/*-------------------------------------------------------------------------
 *
 * import.c
 *		visage_import_model: a file of another tool becomes a version.
 *
 * The table of formats is below.  The same bytes with the same options are
 * the version that exists.  An import deploys nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "model/import.h"
#include "model/model.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(visage_import_model);

/* In the order in which they are asked whether the bytes are theirs. */
static const ImportFormat *const formats[] = {
	&import_visage,
	&import_xgboost,
	&import_lightgbm,
	&import_onnx,
	&import_pmml,
};

/* What a call asks for. */
typedef struct Import
{
	char	   *model;
	char	   *given_format;	/* or NULL */
	const ImportFormat *format;
	ImportSource source;
} Import;

/* ---- for importers ---- */

void
import_damaged(const char *format, const char *where,...)
{
	char		detail[512];
	va_list		args;

	va_start(args, where);
	vsnprintf(detail, sizeof(detail), where, args);
	va_end(args);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("the %s model is damaged", format),
			 errdetail("In it, %s.", detail)));
}

const char *
import_feature_name(const ImportSource *source, int i, const char *name)
{
	char	   *renamed;

	if (source->feature_names != NULL && i < source->feature_count)
		name = source->feature_names[i];
	else if (name == NULL)
		name = psprintf("f%d", i);
	if (source->rename == NULL)
		return name;
	renamed = core_json_text(source->rename, name);
	return renamed != NULL ? renamed : name;
}

void
import_input_init(const ImportSource *source, int i, const char *name,
				  ProgramInput *input)
{
	ProgramInput initial = PROGRAM_INPUT_INIT;

	*input = initial;
	input->name = import_feature_name(source, i, name);
	if (source->refuse_missing)
		input->flags |= MODEL_REFUSE_MISSING;
}

bool
import_wants_raw(const ImportSource *source)
{
	if (source->output == NULL)
		return false;
	if (strcmp(source->output, "raw") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unrecognized value \"%s\" of option \"output\"",
						source->output),
				 errhint("Use raw for the scores before the link function.")));
	return true;
}

void
import_set_threshold(const ImportSource *source, ModelProgram *program)
{
	if (!isnan(source->threshold))
		program_set_threshold(program, source->threshold);
}

/* ---- the call ---- */

/* Options threshold and missing. */
static void
read_choices(ImportSource *source)
{
	char	   *threshold = core_json_text(source->options, "threshold");
	char	   *missing = core_json_text(source->options, "missing");
	char	   *end;

	source->threshold = NAN;
	if (threshold != NULL)
	{
		source->threshold = strtod(threshold, &end);
		if (end == threshold || *end != '\0' ||
			!(source->threshold >= 0 && source->threshold <= 1))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("option \"threshold\" must be a number from 0 to "
							"1"),
					 errdetail("It is %s.", threshold)));
	}
	source->refuse_missing = missing != NULL && strcmp(missing, "error") == 0;
	if (missing != NULL && !source->refuse_missing &&
		strcmp(missing, "null") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unrecognized value \"%s\" of option \"missing\"",
						missing),
				 errhint("Use error or null.")));
}

/* Option iterations: how many rounds of boosting count, or 0. */
static int
read_iterations(Jsonb *options)
{
	char	   *text = core_json_text(options, "iterations");
	char	   *end;
	long		iterations;

	if (text == NULL)
		return 0;
	iterations = strtol(text, &end, 10);
	if (end == text || *end != '\0' || iterations < 1 ||
		iterations > PG_INT32_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"iterations\" must be a number from 1 to %d",
						PG_INT32_MAX),
				 errdetail("It is %s.", text)));
	return (int) iterations;
}

static void
read_options(ImportSource *source)
{
	static const char *const known[] = {"feature_names", "rename",
	"threshold", "missing", "output", "iterations", NULL};
	Jsonb	   *options = source->options;

	core_check_keys(options, "options", known);
	source->feature_names = core_json_text_array(options, "feature_names",
												 &source->feature_count);
	if (source->feature_count == 0)
		source->feature_names = NULL;
	source->rename = core_json_value(options, "rename");
	if (source->rename != NULL && !JB_ROOT_IS_OBJECT(source->rename))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"rename\" must be an object of a name in "
						"the model and a column each")));
	source->output = core_json_text(options, "output");
	source->iterations = read_iterations(options);
	read_choices(source);
}

static void
read_arguments(FunctionCallInfo fcinfo, Import *import)
{
	static const char *const names[] = {"model", "data", NULL, "options"};
	bytea	   *data;

	for (int i = 0; i < lengthof(names); i++)
		if (names[i] != NULL && PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("argument \"%s\" must not be null", names[i])));
	import->model = text_to_cstring(PG_GETARG_TEXT_PP(0));
	core_check_name("model", import->model);
	data = PG_GETARG_BYTEA_PP(1);
	import->source.size = VARSIZE_ANY_EXHDR(data);
	import->source.data = memcpy(palloc_extended(import->source.size + 1,
												 MCXT_ALLOC_HUGE |
												 MCXT_ALLOC_ZERO),
								 VARDATA_ANY(data), import->source.size);
	if (!PG_ARGISNULL(2))
		import->given_format = text_to_cstring(PG_GETARG_TEXT_PP(2));
	import->source.options = PG_GETARG_JSONB_P(3);
	read_options(&import->source);
}

/* The names of all formats, for messages. */
static char *
format_names(void)
{
	StringInfoData names;

	initStringInfo(&names);
	for (int i = 0; i < lengthof(formats); i++)
		appendStringInfo(&names, "%s%s", i > 0 ? ", " : "", formats[i]->name);
	return names.data;
}

/* The format that is given, or that recognises the bytes. */
static const ImportFormat *
find_format(const Import *import)
{
	const ImportSource *source = &import->source;

	for (int i = 0; i < lengthof(formats); i++)
		if (import->given_format != NULL ?
			strcmp(import->given_format, formats[i]->name) == 0 :
			formats[i]->recognise(source->data, source->size))
			return formats[i];
	if (import->given_format != NULL)
		core_not_supported(psprintf("model format \"%s\"",
									import->given_format),
						   psprintf("Formats are: %s.", format_names()));
	import_refuse_unknown(source->data, source->size);
	core_not_supported("the format of these bytes",
					   psprintf("Formats are: %s.", format_names()));
	return NULL;
}

/*
 * SHA-256 of format, options and bytes, and of what they are compiled to: what
 * this release cannot load can be imported again.
 */
static bytea *
hash_source(const Import *import)
{
	bytea	   *hash = palloc(VARHDRSZ + PG_SHA256_DIGEST_LENGTH);
	uint8		image_format = MODEL_FORMAT;
	char	   *options = JsonbToCString(NULL, &import->source.options->root,
										 VARSIZE(import->source.options));
	pg_cryptohash_ctx *context = pg_cryptohash_create(PG_SHA256);

	SET_VARSIZE(hash, VARHDRSZ + PG_SHA256_DIGEST_LENGTH);
	if (context == NULL || pg_cryptohash_init(context) < 0 ||
		pg_cryptohash_update(context, (const uint8 *) import->format->name,
							 strlen(import->format->name) + 1) < 0 ||
		pg_cryptohash_update(context, (const uint8 *) options,
							 strlen(options) + 1) < 0 ||
		pg_cryptohash_update(context, &image_format, 1) < 0 ||
		pg_cryptohash_update(context, (const uint8 *) import->source.data,
							 import->source.size) < 0 ||
		pg_cryptohash_final(context, (uint8 *) VARDATA(hash),
							PG_SHA256_DIGEST_LENGTH) < 0)
		elog(ERROR, "could not compute SHA-256");
	pg_cryptohash_free(context);
	return hash;
}

/* The version that these bytes are already, or 0. */
static int32
find_version(const ModelCard *card)
{
	CoreArgs	args = {0};

	core_arg_text(&args, card->model);
	core_arg(&args, BYTEAOID, PointerGetDatum(card->source), false);
	return (int32) core_query_int8("SELECT version::bigint"
								   " FROM visage.model_cards"
								   " WHERE model = $1 AND source_sha256 = $2",
								   &args, 0);
}

Datum
visage_import_model(PG_FUNCTION_ARGS)
{
	Import		import = {0};
	ModelCard	card = {.rows = -1,.holdout_rows = -1,.skipped_rows = -1,
	.iterations = -1};
	CoreIdentity caller;
	ModelImage *image;
	int32		version;

	read_arguments(fcinfo, &import);
	import.format = find_format(&import);
	card.model = import.model;
	card.format = import.format->name;
	card.params = import.source.options;
	card.source = hash_source(&import);
	image = import.format->import(&import.source);

	core_spi_begin();
	core_become_owner(&caller);
	model_lock(import.model);
	version = find_version(&card);
	if (version == 0)
		version = model_store_version(&card, image);
	core_become_caller(&caller);
	core_spi_end();
	PG_RETURN_INT32(version);
}

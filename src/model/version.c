/*-------------------------------------------------------------------------
 *
 * version.c
 *		Storing a version of a model: its card and its image.
 *
 * Linked into visage.so, for training, and visage_models.so, for imports.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "model/model.h"
#include "utils/builtins.h"
#include "utils/json.h"

/* The inputs for visage.models: name, type, categories. */
static Jsonb *
describe_inputs(const ModelImage *image)
{
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfoChar(&text, '[');
	for (uint32 i = 0; i < image->input_count; i++)
	{
		const ModelInput *input = &model_inputs(image)[i];
		const ModelCategory *categories =
		MODEL_AT(image, ModelCategory, input->categories);

		appendStringInfoString(&text, i ? ", {\"name\": " : "{\"name\": ");
		escape_json(&text, model_string(image, input->name));
		appendStringInfo(&text, ", \"type\": \"%s\"",
						 input->kind == MODEL_NUMERIC ? "number" : "category");
		for (uint32 j = 0; j < input->category_count; j++)
		{
			appendStringInfoString(&text, j ? ", " : ", \"categories\": [");
			escape_json(&text, model_string(image, categories[j].text));
		}
		appendStringInfoString(&text, input->category_count ? "]}" : "}");
	}
	appendStringInfoChar(&text, ']');
	return core_json_parse(text.data);
}

/* The outputs for visage.models, in the order of visage_scores. */
static Jsonb *
describe_outputs(const ModelImage *image)
{
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfoChar(&text, '[');
	for (uint32 i = 0; i < image->output_count; i++)
	{
		appendStringInfoString(&text, i ? ", {\"name\": " : "{\"name\": ");
		escape_json(&text, model_output_name(image, i));
		appendStringInfo(&text, ", \"type\": \"%s\"}",
						 image->task == MODEL_CLASSIFICATION ? "class" :
						 "number");
	}
	appendStringInfoChar(&text, ']');
	return core_json_parse(text.data);
}

/* ERROR: there is no such model; with the nearest name. */
void
model_none_such(const char *model)
{
	CoreIdentity caller;
	uint64		count;
	char	  **names;
	char	   *nearest;

	core_spi_begin();
	core_become_owner(&caller);
	count = core_execute("SELECT DISTINCT model FROM visage.model_cards"
						 " ORDER BY model", NULL, SPI_OK_SELECT);
	names = palloc(sizeof(char *) * (count + 1));
	for (uint64 i = 0; i < count; i++)
		names[i] = core_value_text(i, 1);
	nearest = core_nearest(model, names, count);
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("model \"%s\" does not exist", model),
			 nearest ? errhint("Perhaps you meant \"%s\".", nearest) :
			 errhint("There is no model of a similar name.")));
}

/* ERROR unless the model has a version. */
void
model_require(const char *model)
{
	CoreArgs	args = {0};

	core_arg_text(&args, model);
	if (core_execute("SELECT FROM visage.model_cards WHERE model = $1 LIMIT 1",
					 &args, SPI_OK_SELECT) == 0)
		model_none_such(model);
}

/* A count, or NULL where it is not known. */
static void
add_count(CoreArgs *args, int64 count)
{
	core_arg(args, INT8OID, Int64GetDatum(count), count < 0);
}

/* Until the transaction ends, nobody else adds versions to the model. */
void
model_lock(const char *model)
{
	CoreArgs	args = {0};

	core_arg_text(&args, model);
	core_execute("SELECT pg_advisory_xact_lock("
				 "'visage.model_cards'::regclass::oid::int, hashtext($1))",
				 &args, SPI_OK_SELECT);
}

/* Writes a version.  The caller is the owner, in SPI, and has the lock. */
int32
model_store_version(const ModelCard *card, const ModelImage *image)
{
	bytea	   *bytes = palloc_extended(VARHDRSZ + (Size) image->size,
										MCXT_ALLOC_HUGE);
	CoreArgs	args = {0};

	SET_VARSIZE(bytes, VARHDRSZ + image->size);
	memcpy(VARDATA(bytes), image, image->size);
	core_arg_text(&args, card->model);
	core_arg_text(&args, model_string(image, image->algorithm));
	core_arg_jsonb(&args, card->params);
	core_arg_text(&args, card->query);
	core_arg_text(&args, card->target);
	core_arg_jsonb(&args, card->columns);
	core_arg_jsonb(&args, card->split);
	add_count(&args, card->rows);
	add_count(&args, card->holdout_rows);
	add_count(&args, card->skipped_rows);
	core_arg_jsonb(&args, describe_inputs(image));
	core_arg_jsonb(&args, card->metrics);
	add_count(&args, card->iterations);
	core_arg(&args, BYTEAOID, PointerGetDatum(bytes), false);
	core_arg_int8(&args, image->checksum);
	core_arg_jsonb(&args, describe_outputs(image));
	core_arg_text(&args, card->format);
	core_arg(&args, BYTEAOID, PointerGetDatum(card->source),
			 card->source == NULL);
	return (int32) core_query_int8("WITH card AS ("
								   " INSERT INTO visage.model_cards (model, version,"
								   " algorithm, params, query, target, columns, split, rows,"
								   " holdout_rows, skipped_rows, inputs, metrics, iterations,"
								   " outputs, format, source_sha256)"
								   " SELECT $1, coalesce(max(version), 0) + 1, $2, $3, $4, $5,"
								   " $6, $7, $8, $9, $10, $11, $12, $13, $16, $17, $18"
								   " FROM visage.model_cards WHERE model = $1"
								   " RETURNING version),"
								   " image AS ("
								   " INSERT INTO visage.model_images (model, version, image,"
								   " checksum, image_id)"
								   " SELECT $1, version, $14, $15, gen_random_uuid()"
								   " FROM card)"
								   " SELECT version::bigint FROM card",
								   &args, 0);
}

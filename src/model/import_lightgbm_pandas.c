/*-------------------------------------------------------------------------
 *
 * import_lightgbm_pandas.c
 *		What a LightGBM file says of categories, after its trees.
 *
 * The parameters list the categorical features.  pandas_categorical, which
 * LightGBM's Python package adds as JSON, has the categories of each
 * categorical column of the data frame that the model was trained on; their
 * positions are the codes that the trees know.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "model/import_document.h"
#include "model/import_lightgbm.h"

/*
 * The features of "0,3,4]".  The command line may have names there instead:
 * then the list is of no use, and taken as absent.  Returns what is wrong, or
 * NULL.
 */
const char *
model_read_lightgbm_categorical(LightgbmModel *model, const char *at,
								const char *end)
{
	int			allocated = 0;

	if (model->categorical != NULL)
		return "the categorical features appear twice";
	while (at < end && *at != ']')
	{
		int64		feature = 0;

		if (*at < '0' || *at > '9')
		{
			model->categorical_count = 0;
			return NULL;
		}
		while (at < end && *at >= '0' && *at <= '9' &&
			   feature < PG_INT32_MAX)
			feature = feature * 10 + (*at++ - '0');
		if (feature >= model->feature_count)
			return "a categorical feature does not exist";
		model->categorical = model_document_room(model->categorical,
												 model->categorical_count,
												 &allocated, sizeof(int32));
		model->categorical[model->categorical_count++] = (int32) feature;
		if (at < end && *at == ',')
			at++;
	}
	return NULL;
}

/* A category of a data frame as SQL writes it. */
static char *
category_name(ModelDocument *document)
{
	ModelDocumentNumber number;

	switch (model_document_kind(document))
	{
		case MODEL_DOCUMENT_STRING:
			return model_document_name(document);
		case MODEL_DOCUMENT_BOOLEAN:
			return model_document_boolean(document) ? "true" : "false";
		case MODEL_DOCUMENT_NUMBER:
			model_json_number(document, &number);
			if (number.is_integer)
				return psprintf(INT64_FORMAT, number.integer);
			if (number.real == rint(number.real) &&
				fabs(number.real) < 9007199254740992.0)
				return psprintf("%.0f", number.real);
			return psprintf("%.17g", number.real);
		default:
			model_document_damaged(document, "a category is expected");
	}
	return NULL;
}

static void
read_column(ModelDocument *document, LightgbmCategories *column)
{
	int			allocated = 0;

	memset(column, 0, sizeof(*column));
	model_document_begin(document, false);
	while (model_document_next(document))
	{
		column->names = model_document_room(column->names, column->count,
											&allocated, sizeof(char *));
		column->names[column->count++] = category_name(document);
	}
}

/* The lists of [["a","b"],[1,2]], or null.  Returns what is wrong, or NULL. */
const char *
model_read_lightgbm_pandas(LightgbmModel *model, const char *json,
						   const char *end)
{
	ModelDocument document;
	int			allocated = 0;

	if (model->pandas != NULL)
		return "the categories of pandas appear twice";
	model_document_init(&document, "LightGBM (pandas_categorical)", json,
						end - json, false);
	if (model_document_kind(&document) == MODEL_DOCUMENT_NULL)
	{
		model_document_skip(&document);
		model_document_finish(&document);
		return NULL;
	}
	model_document_begin(&document, false);
	while (model_document_next(&document))
	{
		model->pandas = model_document_room(model->pandas,
											model->pandas_count, &allocated,
											sizeof(LightgbmCategories));
		read_column(&document, &model->pandas[model->pandas_count++]);
	}
	model_document_finish(&document);
	return NULL;
}

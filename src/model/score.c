/*-------------------------------------------------------------------------
 *
 * score.c
 *		visage_score, visage_scores, visage_predict and their _json forms.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "common/shortest_dec.h"
#include "model/model.h"
#include "utils/array.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(visage_score);
PG_FUNCTION_INFO_V1(visage_score_json);
PG_FUNCTION_INFO_V1(visage_scores);
PG_FUNCTION_INFO_V1(visage_scores_json);
PG_FUNCTION_INFO_V1(visage_predict);
PG_FUNCTION_INFO_V1(visage_predict_json);

/* Is this score none at all? */
static bool
is_null(const ModelImage *image, double score)
{
	return (image->flags & MODEL_NULL_FOR_NAN) && isnan(score);
}

/* The score of a row; NULL where the model has none, or without a row. */
static pg_noinline Datum
one_score(FunctionCallInfo fcinfo, const ModelBinding *binding)
{
	double		score;

	if (binding == NULL)
		PG_RETURN_NULL();
	score = model_run_score(binding->entry->image, binding->workspace,
							binding->first_step);
	if (is_null(binding->entry->image, score))
		PG_RETURN_NULL();
	PG_RETURN_FLOAT8(score);
}

Datum
visage_score(PG_FUNCTION_ARGS)
{
	double		score = model_call_linear(fcinfo);

	if (!isnan(score))
		PG_RETURN_FLOAT8(score);
	return one_score(fcinfo, model_call(fcinfo));
}

Datum
visage_score_json(PG_FUNCTION_ARGS)
{
	return one_score(fcinfo, model_call_json(fcinfo));
}

/* All scores: one a class, or one a named output. */
static Datum
all_scores(const ModelBinding *binding)
{
	const ModelImage *image = binding->entry->image;
	int			count = image->output_count;
	int			lower = 1;
	Datum	   *scores = palloc(sizeof(Datum) * count);
	bool	   *nulls = palloc(sizeof(bool) * count);

	model_run(image, binding->workspace);
	for (int i = 0; i < count; i++)
	{
		double		score = binding->workspace[image->scores + i];

		nulls[i] = is_null(image, score);
		scores[i] = Float8GetDatum(score);
	}
	return PointerGetDatum(construct_md_array(scores, nulls, 1, &count,
											  &lower, FLOAT8OID,
											  sizeof(float8), FLOAT8PASSBYVAL,
											  TYPALIGN_DOUBLE));
}

Datum
visage_scores(PG_FUNCTION_ARGS)
{
	ModelBinding *binding = model_call(fcinfo);

	if (binding == NULL)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(all_scores(binding));
}

Datum
visage_scores_json(PG_FUNCTION_ARGS)
{
	PG_RETURN_DATUM(all_scores(model_call_json(fcinfo)));
}

/* The number of the class chosen, or -1. */
static int
choose_class(const ModelImage *image, const double *slots, size_t stride)
{
	const double *scores = slots + image->scores * stride;
	uint32		best = 0;

	if (image->choice != MODEL_NONE)
	{
		double		choice = slots[image->choice * stride];

		return choice >= 0 && choice < image->output_count ?
			(int) choice : -1;
	}
	if (image->output_count == 2)
		return slots[image->score * stride] > image->threshold;
	for (uint32 i = 1; i < image->output_count; i++)
		if (scores[i * stride] > scores[best * stride])
			best = i;
	return best;
}

/*
 * The class chosen, or the value of a regression, of a row that has run;
 * NULL where there is none.
 */
text *
model_prediction(const ModelImage *image, const double *slots, size_t stride)
{
	double		score = slots[image->score * stride];
	char		number[DOUBLE_SHORTEST_DECIMAL_LEN];
	int			class;

	if (is_null(image, score))
		return NULL;
	if (image->task == MODEL_REGRESSION)
	{
		int			length = double_to_shortest_decimal_bufn(score, number);

		return cstring_to_text_with_len(number, length);
	}
	class = choose_class(image, slots, stride);
	return class < 0 ? NULL : cstring_to_text(model_output_name(image, class));
}

/* Runs the row; its prediction. */
static text *
predict(const ModelBinding *binding)
{
	model_run(binding->entry->image, binding->workspace);
	return model_prediction(binding->entry->image, binding->workspace, 1);
}

Datum
visage_predict(PG_FUNCTION_ARGS)
{
	ModelBinding *binding = model_call(fcinfo);
	text	   *prediction = binding == NULL ? NULL : predict(binding);

	if (prediction == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(prediction);
}

Datum
visage_predict_json(PG_FUNCTION_ARGS)
{
	text	   *prediction = predict(model_call_json(fcinfo));

	if (prediction == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(prediction);
}

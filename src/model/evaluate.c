/*-------------------------------------------------------------------------
 *
 * evaluate.c
 *		visage_evaluate: a deployed model's metrics on a query's rows.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "miscadmin.h"
#include "model/model.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/portal.h"

#define BATCH 1000

/* What walking over the rows needs. */
typedef struct Evaluation
{
	ModelBinding *binding;
	ModelSource target;
	MemoryContext batch;
	Scored	   *rows;
	int64		count;
	int64		allocated;
} Evaluation;

/* Appends a member to an object that is being written. */
static void
append_number(StringInfo json, const char *name, double value)
{
	appendStringInfo(json, "%s\"%s\": %.17g", json->len > 1 ? ", " : "",
					 name, value);
}

/*
 * The metrics as an object; those that need both classes are null where the
 * rows have one.  Sorts the rows.
 */
Jsonb *
model_metrics_json(Scored *rows, int64 count)
{
	Metrics		metrics;
	StringInfoData json;
	int64		positives = 0;

	for (int64 i = 0; i < count; i++)
	{
		/* Nothing can be ranked beside a NaN. */
		if (isnan(rows[i].score))
			ereport(ERROR,
					(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
					 errmsg("the model gives a row a score that is not a "
							"number")));
		positives += rows[i].label;
	}
	initStringInfo(&json);
	appendStringInfoChar(&json, '{');
	append_number(&json, "rows", count);
	append_number(&json, "positives", positives);
	if (positives == 0 || positives == count)
		appendStringInfoString(&json, ", \"auc\": null}");
	else
	{
		metrics_compute(rows, count, &metrics);
		append_number(&json, "auc", metrics.auc);
		append_number(&json, "auc_low", metrics.auc_low);
		append_number(&json, "auc_high", metrics.auc_high);
		append_number(&json, "pr_auc", metrics.pr_auc);
		append_number(&json, "logloss", metrics.logloss);
		append_number(&json, "brier", metrics.brier);
		append_number(&json, "ks", metrics.ks);
		append_number(&json, "gini", metrics.gini);
		append_number(&json, "lift", metrics.lift);
		appendStringInfoChar(&json, '}');
	}
	return core_json_parse(json.data);
}

/* Finds the target among the query's columns. */
static void
bind_target(Evaluation *evaluation, TupleDesc tupdesc, const char *target,
			MemoryContext context)
{
	ModelInput	input = {.kind = MODEL_NUMERIC};

	for (int i = 0; i < tupdesc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(tupdesc, i);

		if (strcmp(NameStr(attribute->attname), target) != 0)
			continue;
		model_source_init(&evaluation->target, &input, target,
						  attribute->atttypid, i, context);
		return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("the query has no column \"%s\" for role target",
					target)));
}

/* Keeps a row's score and label; rows without a label are left out. */
static void
add_row(Evaluation *evaluation, HeapTuple tuple, TupleDesc tupdesc)
{
	ModelBinding *binding = evaluation->binding;
	ModelValue	label = {0};
	double		score;
	bool		isnull;
	Datum		value = heap_getattr(tuple, evaluation->target.position + 1,
									 tupdesc, &isnull);

	if (isnull)
		return;
	model_fill_tuple(binding, tuple);
	score = model_run_score(binding->entry->image, binding->workspace,
							binding->first_step);
	model_source_read(&evaluation->target, value, false, &label);
	if (label.missing || (label.number != 0 && label.number != 1))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the target must be true or false, or 1 or 0"),
				 errdetail("A row has %g.", label.number)));
	if (evaluation->count == evaluation->allocated)
	{
		evaluation->allocated *= 2;
		evaluation->rows = repalloc_huge(evaluation->rows,
										 evaluation->allocated *
										 sizeof(Scored));
	}
	evaluation->rows[evaluation->count].score = score;
	evaluation->rows[evaluation->count++].label = label.number == 1;
}

/* Takes the batch that SPI has fetched; false at the end. */
static bool
take_batch(Evaluation *evaluation)
{
	MemoryContext caller = MemoryContextSwitchTo(evaluation->batch);
	uint64		count = SPI_processed;

	for (uint64 i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		add_row(evaluation, SPI_tuptable->vals[i], SPI_tuptable->tupdesc);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextReset(evaluation->batch);
	SPI_freetuptable(SPI_tuptable);
	return count > 0;
}

PG_FUNCTION_INFO_V1(visage_evaluate);
Datum
visage_evaluate(PG_FUNCTION_ARGS)
{
	text	   *reference = PG_GETARG_TEXT_PP(0);
	char	   *query = text_to_cstring(PG_GETARG_TEXT_PP(1));
	char	   *target = text_to_cstring(PG_GETARG_TEXT_PP(2));
	MemoryContext context = CurrentMemoryContext;
	int			nest_level = core_begin_utc();
	Evaluation	evaluation = {.allocated = 8192};
	ModelEntry *entry = model_find(VARDATA_ANY(reference),
								   VARSIZE_ANY_EXHDR(reference));
	Portal		portal;
	Jsonb	   *metrics;

	model_pin(entry, context);
	evaluation.rows = palloc(sizeof(Scored) * evaluation.allocated);
	evaluation.batch = AllocSetContextCreate(context, "visage batch",
											 ALLOCSET_DEFAULT_SIZES);
	core_spi_begin();
	portal = model_open_query(query);
	evaluation.binding = model_bind_row(entry, portal->tupDesc, context);
	bind_target(&evaluation, portal->tupDesc, target, context);
	do
		SPI_cursor_fetch(portal, true, BATCH);
	while (take_batch(&evaluation));
	SPI_cursor_close(portal);
	core_spi_end();
	core_end_utc(nest_level);
	if (evaluation.count == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the query has no row with a value of \"%s\"",
						target)));
	metrics = model_metrics_json(evaluation.rows, evaluation.count);
	PG_RETURN_JSONB_P(metrics);
}

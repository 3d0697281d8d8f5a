/*-------------------------------------------------------------------------
 *
 * train.c
 *		visage_train: a query becomes a version of a model.
 *
 * The query runs as the caller, and the version is stored as the owner, in
 * one transaction: a failed training leaves nothing.  Training the same rows
 * again, in whatever order they come, holds out the same ones.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "model/model.h"
#include "portability/instr_time.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

typedef enum DeployWhen
{
	DEPLOY_NEVER,
	DEPLOY_ALWAYS
} DeployWhen;

/* What a call asks for. */
typedef struct Training
{
	char	   *model;
	char	   *algorithm;
	Jsonb	   *params;
	Jsonb	   *columns;
	Jsonb	   *split;
	DeployWhen	deploy;
	TrainingOptions options;
	LogisticOptions logistic;
} Training;

/* A number of params or split, checked against its bounds. */
static double
read_number(Jsonb *object, const char *what, const char *key, double if_none,
			double low, double high)
{
	char	   *text = core_json_text(object, key);
	char	   *end;
	double		value;

	if (text == NULL)
		return if_none;
	value = strtod(text, &end);
	if (end == text || *end != '\0' || !(value >= low && value <= high))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" in %s must be a number from %g to %g", key,
						what, low, high),
				 errdetail("It is %s.", text)));
	return value;
}

/* The algorithm, of those that this release has. */
static void
check_algorithm(const char *algorithm)
{
	static const char *const later[] = {"gbdt", "rank", "bgnbd", "paretonbd",
	"mbgnbd", "hazard", "isolation_forest"};
	static char *const now[] = {"logistic"};
	char	   *nearest;

	if (strcmp(algorithm, now[0]) == 0)
		return;
	for (int i = 0; i < lengthof(later); i++)
		if (strcmp(algorithm, later[i]) == 0)
			core_not_supported(psprintf("algorithm \"%s\"", algorithm),
							   "Use algorithm => 'logistic'.");
	nearest = core_nearest(algorithm, (char **) now, lengthof(now));
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unrecognized algorithm \"%s\"", algorithm),
			 nearest ? errhint("Perhaps you meant \"%s\".", nearest) :
			 errhint("Use algorithm => 'logistic'.")));
}

/* The roles of columns. */
static void
read_roles(Training *training)
{
	static const char *const known[] = {"key", "time", "exclude", "group",
	"weight", "duration", "event", "frequency", "recency", "age", NULL};
	TrainingOptions *options = &training->options;

	core_check_keys(training->columns, "columns", known);
	for (int i = 3; known[i] != NULL; i++)
		if (core_json_text(training->columns, known[i]) != NULL)
			core_not_supported(psprintf("column role \"%s\"", known[i]),
							   "Roles key, time and exclude can be given.");
	options->key = core_json_text_array(training->columns, "key",
										&options->key_count);
	options->excluded = core_json_text_array(training->columns, "exclude",
											 &options->excluded_count);
	options->time = core_json_text(training->columns, "time");
}

/* Which rows are held out. */
static void
read_split(Training *training)
{
	static const char *const known[] = {"holdout", "holdout_from", NULL};
	TrainingOptions *options = &training->options;

	core_check_keys(training->split, "split", known);
	options->holdout_from = core_json_text(training->split, "holdout_from");
	options->holdout = read_number(training->split, "split", "holdout", 0, 0,
								   0.9);
	if (options->holdout_from == NULL)
		return;
	if (core_json_text(training->split, "holdout") != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("split cannot have both \"holdout\" and "
						"\"holdout_from\"")));
	if (options->time == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"holdout_from\" in split needs a column of role "
						"time"),
				 errhint("Name it: columns => '{\"time\": "
						 "\"event_time\"}'.")));
}

/* The algorithm's own parameters. */
static void
read_params(Training *training)
{
	static const char *const known[] = {"C", "max_iter", "tolerance", "seed",
	NULL};
	LogisticOptions *logistic = &training->logistic;

	core_check_keys(training->params, "params", known);
	logistic->c = read_number(training->params, "params", "C", 1, 1e-10,
							  1e10);
	logistic->max_iterations = (int) read_number(training->params, "params",
												 "max_iter", 100, 1, 100000);
	logistic->tolerance = read_number(training->params, "params",
									  "tolerance", 1e-8, 0, 1);
	training->options.seed = (int64) read_number(training->params, "params",
												 "seed", 0, 0, 1e15);
}

static DeployWhen
read_deploy(const char *deploy)
{
	if (strcmp(deploy, "never") == 0)
		return DEPLOY_NEVER;
	if (strcmp(deploy, "always") == 0)
		return DEPLOY_ALWAYS;
	if (strcmp(deploy, "if_better") == 0)
		core_not_supported("deploy => 'if_better'",
						   "Use deploy => 'never', look at the metrics, and "
						   "call visage_deploy.");
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unrecognized value \"%s\" of deploy", deploy),
			 errhint("Use never or always.")));
	return DEPLOY_NEVER;
}

/* What the call asks for, checked. */
static void
read_arguments(FunctionCallInfo fcinfo, Training *training)
{
	static const char *const names[] = {"model", "query", NULL, "algorithm",
	"params", "columns", "split", "deploy"};

	for (int i = 0; i < lengthof(names); i++)
		if (names[i] != NULL && PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("argument \"%s\" must not be null", names[i])));
	training->model = text_to_cstring(PG_GETARG_TEXT_PP(0));
	core_check_name("model", training->model);
	training->options.query = text_to_cstring(PG_GETARG_TEXT_PP(1));
	training->options.target = PG_ARGISNULL(2) ? pstrdup("label") :
		text_to_cstring(PG_GETARG_TEXT_PP(2));
	training->algorithm = text_to_cstring(PG_GETARG_TEXT_PP(3));
	check_algorithm(training->algorithm);
	training->params = PG_GETARG_JSONB_P(4);
	training->columns = PG_GETARG_JSONB_P(5);
	training->split = PG_GETARG_JSONB_P(6);
	training->deploy = read_deploy(text_to_cstring(PG_GETARG_TEXT_PP(7)));
	read_roles(training);
	read_split(training);
	read_params(training);
}

/* The metrics on the rows that were held out, NULL where there are none. */
static Jsonb *
measure(const TrainingData *data, const ModelImage *image)
{
	Scored	   *rows = MemoryContextAllocHuge(CurrentMemoryContext,
											  Max(data->rows, 1) *
											  sizeof(Scored));
	double	   *workspace = palloc_extended(model_workspace(image, 1) *
											sizeof(double), MCXT_ALLOC_HUGE);
	int64		count = 0;

	for (int64 i = 0; i < data->rows; i++)
		if (data->held_out[i])
		{
			rows[count].score = model_predict_row(data, image, workspace, i);
			rows[count++].label = data->labels[i];
		}
	return count == 0 ? NULL : model_metrics_json(rows, count);
}

/* How many rows the version has learnt from. */
static int64
count_trained(const TrainingData *data)
{
	int64		count = 0;

	for (int64 i = 0; i < data->rows; i++)
		count += !data->held_out[i];
	return count;
}

/* What the version's card says. */
static ModelCard
describe(const Training *training, const TrainingData *data, int iterations,
		 Jsonb *metrics)
{
	int64		trained = count_trained(data);
	ModelCard	card = {.model = training->model,.format = "visage",
		.params = training->params,.query = training->options.query,
		.target = training->options.target,.columns = training->columns,
		.split = training->split,.rows = trained,
		.holdout_rows = data->rows - trained,.skipped_rows = data->skipped,
	.iterations = iterations,.metrics = metrics};

	return card;
}

PG_FUNCTION_INFO_V1(visage_train);
Datum
visage_train(PG_FUNCTION_ARGS)
{
	Training	training = {0};
	TimestampTz start = GetCurrentTimestamp();
	TrainingData *data;
	ModelImage *image;
	Jsonb	   *metrics;
	ModelCard	card;
	CoreIdentity caller;
	TupleDesc	tupdesc;
	Datum		values[5];
	bool		nulls[5] = {false};
	int			iterations;
	int32		version;

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "visage_train must return a row");
	read_arguments(fcinfo, &training);
	data = model_read_data(&training.options);
	image = model_fit_logistic(data, &training.logistic, &iterations);
	metrics = measure(data, image);
	card = describe(&training, data, iterations, metrics);

	core_spi_begin();
	core_become_owner(&caller);
	model_lock(training.model);
	version = model_store_version(&card, image);
	if (training.deploy == DEPLOY_ALWAYS)
		model_deploy(training.model, version, "champion");
	core_become_caller(&caller);
	core_spi_end();

	values[0] = Int32GetDatum(version);
	values[1] = Int64GetDatum(count_trained(data));
	nulls[2] = metrics == NULL;
	values[2] = nulls[2] ? (Datum) 0 : JsonbPGetDatum(metrics);
	values[3] = BoolGetDatum(training.deploy == DEPLOY_ALWAYS);
	values[4] = DirectFunctionCall2(timestamp_mi,
									TimestampGetDatum(GetCurrentTimestamp()),
									TimestampGetDatum(start));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc),
													  values, nulls)));
}

/*-------------------------------------------------------------------------
 *
 * score.c
 *		visage_score and visage_score_json.
 *
 * What a call means (which version, which columns) is worked out at the
 * first row and kept with the call's function info.  It is worked out again
 * when the model's name changes from row to row, or when the call runs under
 * another snapshot than before, as in a PL/pgSQL loop.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "model/model.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/typcache.h"

/* What tells one view of the database from another. */
typedef struct SnapshotMark
{
	TransactionId xmin;
	TransactionId xmax;
	uint32		xcnt;
	CommandId	curcid;
	uint64		completed;
} SnapshotMark;

/* Kept in fn_extra, in a context of its own that a rebinding resets. */
typedef struct ScoreCall
{
	MemoryContext context;
	SnapshotMark mark;
	char	   *reference;
	size_t		reference_length;
	ModelEntry *entry;
	ModelBinding *row;			/* whole-row calls */
	Oid			row_type;
	int32		row_typmod;
	TupleDesc	tupdesc;
	ModelSource *sources;		/* positional calls, one an input */
	double	   *workspace;
} ScoreCall;

static SnapshotMark
current_mark(void)
{
	Snapshot	snapshot = GetActiveSnapshot();
	SnapshotMark mark;

	memset(&mark, 0, sizeof(mark));
	mark.xmin = snapshot->xmin;
	mark.xmax = snapshot->xmax;
	mark.xcnt = snapshot->xcnt;
	mark.curcid = snapshot->curcid;
	mark.completed = snapshot->snapXactCompletionCount;
	return mark;
}

/* Does the kept call still mean this reference, as seen now? */
static bool
is_current(const ScoreCall *call, const char *reference, size_t length)
{
	SnapshotMark mark = current_mark();

	return call->entry != NULL && call->reference_length == length &&
		memcmp(call->reference, reference, length) == 0 &&
		memcmp(&call->mark, &mark, sizeof(mark)) == 0;
}

/* The call's state with the model that the first argument names. */
static ScoreCall *
score_call(FunctionCallInfo fcinfo)
{
	text	   *argument = PG_GETARG_TEXT_PP(0);
	const char *reference = VARDATA_ANY(argument);
	size_t		length = VARSIZE_ANY_EXHDR(argument);
	ScoreCall  *call = fcinfo->flinfo->fn_extra;
	MemoryContext context;

	if (call == NULL)
	{
		call = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt,
									  sizeof(ScoreCall));
		call->context = AllocSetContextCreate(fcinfo->flinfo->fn_mcxt,
											  "visage score",
											  ALLOCSET_SMALL_SIZES);
		fcinfo->flinfo->fn_extra = call;
	}
	if (is_current(call, reference, length))
		return call;
	context = call->context;
	memset(call, 0, sizeof(*call));
	call->context = context;
	MemoryContextReset(context);
	call->mark = current_mark();
	call->reference = MemoryContextAlloc(context, length + 1);
	memcpy(call->reference, reference, length);
	call->reference_length = length;
	call->entry = model_find(reference, length);
	model_pin(call->entry, context);
	return call;
}

/* Scores a row whose columns are found by name. */
static double
score_row(ScoreCall *call, HeapTupleHeader header)
{
	Oid			type = HeapTupleHeaderGetTypeId(header);
	int32		typmod = HeapTupleHeaderGetTypMod(header);
	HeapTupleData tuple;

	if (call->row == NULL || call->row_type != type ||
		call->row_typmod != typmod)
	{
		TupleDesc	tupdesc = lookup_rowtype_tupdesc(type, typmod);
		MemoryContext caller = MemoryContextSwitchTo(call->context);

		call->tupdesc = CreateTupleDescCopy(tupdesc);
		MemoryContextSwitchTo(caller);
		ReleaseTupleDesc(tupdesc);
		call->row = model_bind_row(call->entry, call->tupdesc, call->context);
		call->row_type = type;
		call->row_typmod = typmod;
	}
	tuple.t_len = HeapTupleHeaderGetDatumLength(header);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	tuple.t_data = header;
	return model_score_tuple(call->row, &tuple, call->tupdesc);
}

/* ERROR unless there are as many values as the model has inputs. */
static void
check_count(const ScoreCall *call, int count)
{
	if (count != call->entry->image->input_count)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("model \"%s\" takes %u values, not %d",
						call->entry->model, call->entry->image->input_count,
						count),
				 errhint("Give the values in the order of visage.models, or "
						 "a whole row.")));
}

/* Prepares the reading of values in the model's order. */
static void
bind_values(ScoreCall *call, const Oid *types, int count)
{
	const ModelImage *image = call->entry->image;

	check_count(call, count);
	call->workspace = MemoryContextAllocHuge(call->context,
											 model_workspace(image, 1) *
											 sizeof(double));
	call->sources = MemoryContextAllocZero(call->context,
										   sizeof(ModelSource) * Max(count, 1));
	for (int i = 0; i < count; i++)
	{
		const ModelInput *input = &model_inputs(image)[i];

		model_source_init(&call->sources[i], input,
						  model_string(image, input->name), types[i], i,
						  call->context);
	}
}

/* Scores a value an input. */
static double
score_datum(ScoreCall *call, int input, Datum value, bool isnull)
{
	const ModelImage *image = call->entry->image;
	ModelValue	read;

	model_source_read(&call->sources[input], value, isnull, &read);
	return model_slot(image, &model_inputs(image)[input], &read);
}

/* Scores values given one by one. */
static double
score_values(FunctionCallInfo fcinfo, ScoreCall *call)
{
	int			count = PG_NARGS() - 1;

	if (call->sources == NULL)
	{
		Oid		   *types = palloc(sizeof(Oid) * Max(count, 1));

		for (int i = 0; i < count; i++)
			types[i] = get_fn_expr_argtype(fcinfo->flinfo, i + 1);
		bind_values(call, types, count);
	}
	for (int i = 0; i < count; i++)
		call->workspace[i] = score_datum(call, i, fcinfo->args[i + 1].value,
										 fcinfo->args[i + 1].isnull);
	model_run(call->entry->image, call->workspace);
	return call->workspace[call->entry->image->score];
}

/* Scores values given as VARIADIC array. */
static double
score_array(FunctionCallInfo fcinfo, ScoreCall *call)
{
	ArrayType  *array = PG_GETARG_ARRAYTYPE_P(1);
	Oid			type = ARR_ELEMTYPE(array);
	int16		length;
	bool		by_value;
	char		align;
	Datum	   *datums;
	bool	   *nulls;
	int			count;

	get_typlenbyvalalign(type, &length, &by_value, &align);
	deconstruct_array(array, type, length, by_value, align, &datums, &nulls,
					  &count);
	check_count(call, count);
	if (call->sources == NULL)
	{
		Oid		   *types = palloc(sizeof(Oid) * Max(count, 1));

		for (int i = 0; i < count; i++)
			types[i] = type;
		bind_values(call, types, count);
	}
	for (int i = 0; i < count; i++)
		call->workspace[i] = score_datum(call, i, datums[i], nulls[i]);
	model_run(call->entry->image, call->workspace);
	return call->workspace[call->entry->image->score];
}

/*
 * visage_score(model, row), visage_score(model, value, …) and
 * visage_score(model, VARIADIC array).  NULL for a NULL model or row.
 */
PG_FUNCTION_INFO_V1(visage_score);
Datum
visage_score(PG_FUNCTION_ARGS)
{
	ScoreCall  *call;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	call = score_call(fcinfo);
	if (get_fn_expr_variadic(fcinfo->flinfo))
	{
		if (PG_ARGISNULL(1))
			PG_RETURN_NULL();
		PG_RETURN_FLOAT8(score_array(fcinfo, call));
	}
	if (PG_NARGS() == 2 &&
		type_is_rowtype(get_fn_expr_argtype(fcinfo->flinfo, 1)))
	{
		if (PG_ARGISNULL(1))
			PG_RETURN_NULL();
		PG_RETURN_FLOAT8(score_row(call, PG_GETARG_HEAPTUPLEHEADER(1)));
	}
	PG_RETURN_FLOAT8(score_values(fcinfo, call));
}

/* The value of an input as a JSON object has it. */
static void
read_json(Jsonb *features, const ModelEntry *entry, const ModelInput *input,
		  ModelValue *value)
{
	const char *name = model_string(entry->image, input->name);
	JsonbValue	buffer;
	JsonbValue *found = getKeyJsonValueFromContainer(&features->root, name,
													 strlen(name), &buffer);
	ModelSource source = {.type = UNKNOWNOID};

	if (found == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the object has no member \"%s\", which model \"%s\" "
						"needs", name, entry->model),
				 errhint("Give null for a missing value.")));
	source.as_text = input->kind == MODEL_CATEGORY;
	if (found->type == jbvBool && !source.as_text)
	{
		value->missing = false;
		value->number = found->val.boolean ? 1 : 0;
	}
	else
	{
		char	   *text = core_json_text(features, name);

		model_source_read(&source, CStringGetDatum(text), text == NULL,
						  value);
	}
}

/* visage_score_json(model, object): one signature for drivers. */
PG_FUNCTION_INFO_V1(visage_score_json);
Datum
visage_score_json(PG_FUNCTION_ARGS)
{
	ScoreCall  *call = score_call(fcinfo);
	Jsonb	   *features = PG_GETARG_JSONB_P(1);
	const ModelImage *image = call->entry->image;
	double	   *workspace = palloc_extended(model_workspace(image, 1) *
											sizeof(double), MCXT_ALLOC_HUGE);

	if (!JB_ROOT_IS_OBJECT(features))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the features of model \"%s\" must be a JSON object",
						call->entry->model)));
	for (uint32 i = 0; i < image->input_count; i++)
	{
		const ModelInput *input = &model_inputs(image)[i];
		ModelValue	value;

		read_json(features, call->entry, input, &value);
		workspace[i] = model_slot(image, input, &value);
	}
	model_run(image, workspace);
	PG_RETURN_FLOAT8(workspace[image->score]);
}

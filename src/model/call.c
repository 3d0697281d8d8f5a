/*-------------------------------------------------------------------------
 *
 * call.c
 *		What a call of a scoring function means, and its values.
 *
 * Which version and which columns are meant is worked out at the first row
 * and kept with the call's function info.  It is worked out again when the
 * model's name changes from row to row, or when the call runs under another
 * snapshot than before, as in a PL/pgSQL loop.  After that nothing is
 * allocated per row.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "model/model.h"
#include "nodes/nodeFuncs.h"
#include "utils/array.h"
#include "utils/arrayaccess.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

/* Kept in fn_extra, in a context of its own that a rebinding resets. */
typedef struct ScoreCall
{
	ModelKept	kept;
	MemoryContext context;
	char	   *reference;
	size_t		reference_length;
	ModelEntry *entry;
	ModelBinding *binding;
	bool		by_row;
	Oid			row_type;
	int32		row_typmod;
	Oid			array_type;		/* element of a VARIADIC array */
} ScoreCall;

/* Does the kept call still mean this reference, as seen now? */
static bool
is_current(const ScoreCall *call, const char *reference, size_t length)
{
	return call->entry != NULL && call->reference_length == length &&
		memcmp(call->reference, reference, length) == 0 &&
		model_is_current(&call->kept.moment);
}

/*
 * Empty state: first in the context of the function info, since most calls
 * are bound once, and from the second binding on in one that can be reset.
 */
static ScoreCall *
fresh_call(FmgrInfo *function)
{
	ScoreCall  *call = function->fn_extra;
	MemoryContext context = function->fn_mcxt;

	if (call == NULL)
	{
		call = MemoryContextAlloc(context, sizeof(ScoreCall));
		function->fn_extra = call;
	}
	else if (call->context == context)
		context = AllocSetContextCreate(context, "visage score",
										ALLOCSET_SMALL_SIZES);
	else
	{
		context = call->context;
		MemoryContextReset(context);
	}
	memset(call, 0, sizeof(*call));
	call->context = context;
	return call;
}

/* The call's state with the model that the first argument names. */
static ScoreCall *
score_call(FunctionCallInfo fcinfo)
{
	text	   *argument = PG_GETARG_TEXT_PP(0);
	const char *reference = VARDATA_ANY(argument);
	size_t		length = VARSIZE_ANY_EXHDR(argument);
	ScoreCall  *call = fcinfo->flinfo->fn_extra;

	if (call != NULL && is_current(call, reference, length))
		return call;
	call = fresh_call(fcinfo->flinfo);
	model_moment(&call->kept.moment);
	call->reference = MemoryContextAlloc(call->context, length + 1);
	memcpy(call->reference, reference, length);
	call->reference_length = length;
	call->entry = model_find(reference, length);
	model_pin(call->entry, call->context);
	return call;
}

/* Binds the columns of rows of this type. */
static void
bind_row(ScoreCall *call, Oid type, int32 typmod)
{
	TupleDesc	tupdesc = lookup_rowtype_tupdesc_copy(type, typmod);

	call->binding = model_bind_row(call->entry, tupdesc, call->context);
	FreeTupleDesc(tupdesc);
	call->row_type = type;
	call->row_typmod = typmod;
}

/* Takes the values of a row, whose columns are found by name. */
static void
fill_row(ScoreCall *call, HeapTupleHeader header)
{
	Oid			type = HeapTupleHeaderGetTypeId(header);
	int32		typmod = HeapTupleHeaderGetTypMod(header);
	HeapTupleData tuple;

	if (call->binding == NULL || call->row_type != type ||
		call->row_typmod != typmod)
		bind_row(call, type, typmod);
	tuple.t_len = HeapTupleHeaderGetDatumLength(header);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	tuple.t_data = header;
	model_fill_tuple(call->binding, &tuple);
}

/* ERROR unless there are as many values as the model has inputs. */
void
model_check_count(const ModelEntry *entry, int count)
{
	if (count != entry->image->input_count)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("model \"%s\" takes %u values, not %d",
						entry->model, entry->image->input_count, count),
				 errhint("Give the values in the order of visage.models, or "
						 "a whole row.")));
}

/* The types of the values, as get_fn_expr_argtype() tells them, but fast. */
static void
value_types(FmgrInfo *function, int count, Oid *types)
{
	Node	   *node = function->fn_expr;
	ListCell   *cell;

	if (node == NULL || !IsA(node, FuncExpr))
	{
		for (int i = 0; i < count; i++)
			types[i] = get_fn_expr_argtype(function, i + 1);
		return;
	}
	for_each_from(cell, ((FuncExpr *) node)->args, 1)
	{
		Node	   *value = lfirst(cell);

		*types++ = IsA(value, Var) ? ((Var *) value)->vartype :
			exprType(value);
	}
}

/* Is the function's first argument a constant? */
static bool
names_model(FmgrInfo *function)
{
	Node	   *node = function->fn_expr;

	return node != NULL && IsA(node, FuncExpr) &&
		IsA(linitial(((FuncExpr *) node)->args), Const);
}

/* Takes values given one by one. */
static void
fill_values(FunctionCallInfo fcinfo, ScoreCall *call)
{
	const ModelImage *image = call->entry->image;
	const ModelInput *inputs = model_inputs(image);
	int			count = PG_NARGS() - 1;
	ModelBinding *binding;

	if (call->binding == NULL)
	{
		Oid			types[FUNC_MAX_ARGS];

		model_check_count(call->entry, count);
		value_types(fcinfo->flinfo, count, types);
		call->binding = model_borrow_binding(call->entry, count, types,
											 call->context);
		if (names_model(fcinfo->flinfo))
			call->kept.linear = call->binding->linear;
	}
	binding = call->binding;
	if (binding->plain)
		for (int i = 0; i < count; i++)
			binding->workspace[i] = fcinfo->args[i + 1].isnull ? NAN :
				DatumGetFloat8(fcinfo->args[i + 1].value);
	else
		for (int i = 0; i < count; i++)
			binding->workspace[i] =
				model_read_slot(&binding->sources[i], image, &inputs[i],
								fcinfo->args[i + 1].value,
								fcinfo->args[i + 1].isnull);
}

/* Takes values given as VARIADIC array. */
static void
fill_array(ScoreCall *call, AnyArrayType *array)
{
	const ModelImage *image = call->entry->image;
	const ModelInput *inputs = model_inputs(image);
	Oid			type = AARR_ELEMTYPE(array);
	int			count = ArrayGetNItems(AARR_NDIM(array), AARR_DIMS(array));
	int16		length;
	bool		by_value;
	char		align;
	array_iter	iterator;

	model_check_count(call->entry, count);
	if (call->binding == NULL || call->array_type != type)
	{
		Oid		   *types = palloc(sizeof(Oid) * Max(count, 1));

		for (int i = 0; i < count; i++)
			types[i] = type;
		call->binding = model_borrow_binding(call->entry, count, types,
											 call->context);
		call->array_type = type;
		pfree(types);
	}
	get_typlenbyvalalign(type, &length, &by_value, &align);
	array_iter_setup(&iterator, array);
	for (int i = 0; i < count; i++)
	{
		bool		isnull;
		Datum		value = array_iter_next(&iterator, &isnull, i, length,
											by_value, align);

		call->binding->workspace[i] =
			model_read_slot(&call->binding->sources[i], image, &inputs[i],
							value, isnull);
	}
}

/*
 * (model, row), (model, value, …) and (model, VARIADIC array): the values
 * are in the workspace, and nothing has run.  NULL for a NULL model or row.
 */
ModelBinding *
model_call(FunctionCallInfo fcinfo)
{
	ScoreCall  *call;

	if (PG_ARGISNULL(0))
		return NULL;
	call = score_call(fcinfo);
	if (get_fn_expr_variadic(fcinfo->flinfo))
	{
		if (PG_ARGISNULL(1))
			return NULL;
		fill_array(call, PG_GETARG_ANY_ARRAY_P(1));
		return call->binding;
	}
	if (PG_NARGS() == 2 && call->binding == NULL)
		call->by_row = type_is_rowtype(get_fn_expr_argtype(fcinfo->flinfo, 1));
	if (!call->by_row)
		fill_values(fcinfo, call);
	else if (PG_ARGISNULL(1))
		return NULL;
	else
		fill_row(call, PG_GETARG_HEAPTUPLEHEADER(1));
	return call->binding;
}

/* ---- objects ---- */

/* (model, object), for drivers: one signature. */
ModelBinding *
model_call_json(FunctionCallInfo fcinfo)
{
	ScoreCall  *call = score_call(fcinfo);
	Jsonb	   *features = PG_GETARG_JSONB_P(1);

	if (!JB_ROOT_IS_OBJECT(features))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the features of model \"%s\" must be a JSON object",
						call->entry->model)));
	if (call->binding == NULL)
		call->binding = model_borrow_binding(call->entry, 0, NULL,
											 call->context);
	model_fill_object(call->binding, features);
	return call->binding;
}

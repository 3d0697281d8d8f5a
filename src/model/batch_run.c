/*-------------------------------------------------------------------------
 *
 * batch_run.c
 *		The node that scores in blocks, running.
 *
 * What it knows of its plan is in custom_private; see plan_batch() in
 * batch.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "core/compat.h"
#include "executor/executor.h"
#include "model/model.h"
#include "nodes/extensible.h"
#include "nodes/pg_list.h"
#include "utils/acl.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"

/* A call of the node, while it runs. */
typedef struct BatchCall
{
	ModelBinding *binding;
	double	   *workspace;		/* of a block */
} BatchCall;

typedef struct BatchState
{
	CustomScanState css;
	List	   *references;		/* of String */
	List	   *positions;		/* of List of int: arguments in the child */
	List	   *passed;			/* of int: columns handed on */
	List	   *functions;		/* of Oid */
	BatchCall  *calls;			/* NULL before the first row */
	int			call_count;
	int		   *passed_columns;
	int			passed_count;
	Datum	   *values;			/* passed columns, row by row */
	bool	   *nulls;
	MemoryContext block;		/* values by reference, until the next block */
	int			columns;		/* of the child that are read */
	int			rows;			/* in the block */
	int			next;			/* row to hand out */
	bool		done;			/* the child has no more */
} BatchState;

/* ERROR unless the user may execute the function, as for a call. */
static void
check_function(Oid function)
{
	AclResult	result = core_compat_function_aclcheck(function, GetUserId(),
													   ACL_EXECUTE);

	if (result != ACLCHECK_OK)
		aclcheck_error(result, OBJECT_FUNCTION, get_func_name(function));
}

static void
begin_batch(CustomScanState *css, EState *estate, int eflags)
{
	BatchState *state = (BatchState *) css;
	CustomScan *scan = (CustomScan *) css->ss.ps.plan;
	ListCell   *cell;
	int			passed;

	state->references = linitial(scan->custom_private);
	state->positions = lsecond(scan->custom_private);
	state->passed = lthird(scan->custom_private);
	state->functions = lfourth(scan->custom_private);
	foreach(cell, state->functions)
		check_function(lfirst_oid(cell));
	css->custom_ps = list_make1(ExecInitNode(linitial(scan->custom_plans),
											 estate, eflags));
	state->call_count = list_length(state->references);
	passed = state->passed_count = list_length(state->passed);
	state->passed_columns = palloc(sizeof(int) * Max(passed, 1));
	foreach(cell, state->passed)
		state->passed_columns[foreach_current_index(cell)] = lfirst_int(cell);
	state->values = palloc(sizeof(Datum) * MODEL_BLOCK * Max(passed, 1));
	state->nulls = palloc(sizeof(bool) * MODEL_BLOCK * Max(passed, 1));
	state->block = AllocSetContextCreate(CurrentMemoryContext, "visage block",
										 ALLOCSET_DEFAULT_SIZES);
}

/* Finds the model of a call, and how its arguments are read. */
static void
bind_call(BatchState *state, int number, TupleDesc tupdesc)
{
	BatchCall  *call = &state->calls[number];
	MemoryContext context = state->css.ss.ps.state->es_query_cxt;
	const char *reference = strVal(list_nth(state->references, number));
	List	   *positions = list_nth(state->positions, number);
	ModelEntry *entry = model_find(reference, strlen(reference));
	const ModelInput *inputs = model_inputs(entry->image);
	ListCell   *cell;

	model_pin(entry, context);
	model_check_count(entry, list_length(positions));
	call->binding = model_bind(entry, context);
	foreach(cell, positions)
	{
		int			i = foreach_current_index(cell);
		int			position = lfirst_int(cell);

		model_source_init(&call->binding->sources[i], &inputs[i],
						  model_string(entry->image, inputs[i].name),
						  TupleDescAttr(tupdesc, position)->atttypid,
						  position, context);
		state->columns = Max(state->columns, position + 1);
	}
	call->workspace = model_block_workspace(entry->image, context);
}

static void
bind_calls(BatchState *state, TupleDesc tupdesc)
{
	ListCell   *cell;

	state->calls =
		MemoryContextAllocZero(state->css.ss.ps.state->es_query_cxt,
							   sizeof(BatchCall) * state->call_count);
	for (int i = 0; i < state->call_count; i++)
		bind_call(state, i, tupdesc);
	foreach(cell, state->passed)
		state->columns = Max(state->columns, lfirst_int(cell) + 1);
	for (int i = 0; i < state->call_count; i++)
		model_bind_stored(state->calls[i].binding, tupdesc, state->columns,
						  state->css.ss.ps.state->es_query_cxt);
}

/* Keeps a column's value of a row that is handed on. */
static void
keep_value(BatchState *state, int place, Form_pg_attribute attribute,
		   Datum value, bool isnull)
{
	state->nulls[place] = isnull;
	state->values[place] = isnull || attribute->attbyval ? value :
		datumCopy(value, false, attribute->attlen);
}

/* Takes what is needed of a row that has been taken apart. */
static void
take_values(BatchState *state, TupleTableSlot *slot, int row)
{
	TupleDesc	tupdesc = slot->tts_tupleDescriptor;
	int			place = row * state->passed_count;

	slot_getsomeattrs(slot, state->columns);
	for (int i = 0; i < state->call_count; i++)
	{
		ModelBinding *binding = state->calls[i].binding;
		const ModelImage *image = binding->entry->image;
		const ModelInput *inputs = model_inputs(image);

		for (uint32 j = 0; j < image->input_count; j++)
		{
			ModelSource *source = &binding->sources[j];

			state->calls[i].workspace[j * MODEL_BLOCK + row] =
				model_read_slot(source, image, &inputs[j],
								slot->tts_values[source->position],
								slot->tts_isnull[source->position]);
		}
	}
	for (int i = 0; i < state->passed_count; i++)
	{
		int			column = state->passed_columns[i];

		keep_value(state, place + i, TupleDescAttr(tupdesc, column),
				   slot->tts_values[column], slot->tts_isnull[column]);
	}
}

/* The same of a row as it is stored, without NULLs. */
static void
take_stored(BatchState *state, TupleDesc tupdesc, const char *data, int row)
{
	int			place = row * state->passed_count;

	for (int i = 0; i < state->call_count; i++)
		model_take_stored(state->calls[i].binding, tupdesc, data,
						  state->calls[i].workspace + row);
	for (int i = 0; i < state->passed_count; i++)
	{
		int			column = state->passed_columns[i];
		Form_pg_attribute attribute = TupleDescAttr(tupdesc, column);

		keep_value(state, place + i, attribute,
				   model_stored_column(data, state->calls[0].binding->offsets,
									   attribute, column), false);
	}
}

/* Takes a row into the block. */
static void
take_row(BatchState *state, TupleTableSlot *slot, int row)
{
	const char *data = state->calls[0].binding->offsets == NULL ? NULL :
	model_stored_row(slot, state->columns);
	MemoryContext caller = MemoryContextSwitchTo(state->block);

	if (data != NULL)
		take_stored(state, slot->tts_tupleDescriptor, data, row);
	else
		take_values(state, slot, row);
	MemoryContextSwitchTo(caller);
}

/* Fills a block from the child and scores it. */
static void
fill_block(BatchState *state)
{
	PlanState  *child = linitial(state->css.custom_ps);

	MemoryContextReset(state->block);
	state->rows = 0;
	state->next = 0;
	while (state->rows < MODEL_BLOCK)
	{
		TupleTableSlot *slot = ExecProcNode(child);

		if (TupIsNull(slot))
		{
			state->done = true;
			break;
		}
		if (state->calls == NULL)
			bind_calls(state, slot->tts_tupleDescriptor);
		take_row(state, slot, state->rows++);
	}
	if (state->rows > 0)
		for (int i = 0; i < state->call_count; i++)
			model_run_block_scores(state->calls[i].binding->entry->image,
								   state->calls[i].workspace,
								   state->calls[i].binding->first_step);
}

/* Puts the block's next row into the slot. */
static void
hand_out(BatchState *state, TupleTableSlot *slot)
{
	int			passed = state->passed_count;
	int			row = state->next++;

	ExecClearTuple(slot);
	for (int i = 0; i < passed; i++)
	{
		slot->tts_values[i] = state->values[row * passed + i];
		slot->tts_isnull[i] = state->nulls[row * passed + i];
	}
	for (int i = 0; i < state->call_count; i++)
	{
		const ModelImage *image = state->calls[i].binding->entry->image;
		double		score =
		state->calls[i].workspace[image->score * MODEL_BLOCK + row];

		slot->tts_isnull[passed + i] = isnan(score) &&
			(image->flags & MODEL_NULL_FOR_NAN);
		slot->tts_values[passed + i] = Float8GetDatum(score);
	}
	ExecStoreVirtualTuple(slot);
}

static TupleTableSlot *
next_row(CustomScanState *css)
{
	BatchState *state = (BatchState *) css;
	TupleTableSlot *slot = css->ss.ss_ScanTupleSlot;
	ExprContext *context = css->ss.ps.ps_ExprContext;

	if (state->next == state->rows && !state->done)
		fill_block(state);
	if (state->next == state->rows)
		return ExecClearTuple(slot);
	hand_out(state, slot);
	if (css->ss.ps.ps_ProjInfo == NULL)
		return slot;
	ResetExprContext(context);
	context->ecxt_scantuple = slot;
	return ExecProject(css->ss.ps.ps_ProjInfo);
}

static void
end_batch(CustomScanState *css)
{
	ExecEndNode(linitial(css->custom_ps));
}

static void
rescan_batch(CustomScanState *css)
{
	BatchState *state = (BatchState *) css;

	state->rows = 0;
	state->next = 0;
	state->done = false;
	ExecReScan(linitial(css->custom_ps));
}

static void
explain_batch(CustomScanState *css, List *ancestors, ExplainState *es)
{
	if (!es->verbose || !es->analyze)
		return;
	ExplainPropertyText("Instructions", model_instructions_name(), es);
}

static const CustomExecMethods exec_methods = {
	.CustomName = "Visage Batch Score",
	.BeginCustomScan = begin_batch,
	.ExecCustomScan = next_row,
	.EndCustomScan = end_batch,
	.ReScanCustomScan = rescan_batch,
	.ExplainCustomScan = explain_batch
};

/* The state of a node that batch.c has planned. */
Node *
model_batch_state(CustomScan *scan)
{
	BatchState *state = (BatchState *) newNode(sizeof(BatchState),
											   T_CustomScanState);

	state->css.methods = &exec_methods;
	return (Node *) state;
}

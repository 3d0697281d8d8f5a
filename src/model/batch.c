/*-------------------------------------------------------------------------
 *
 * batch.c
 *		Scoring in blocks behind the planner.
 *
 * Where an aggregate's argument is a call of visage_score, as in
 * sum(visage_score('churn', t)), and visage.batch_scoring is on, the planner
 * may put a node between the aggregation and what it reads.  The node takes
 * rows from its child a block at a time, scores the block at once, and hands
 * the rows on with their scores as columns, which the aggregation finds in
 * place of its calls.
 *
 * Only calls that are evaluated for each row whatever happens are taken: whole
 * arguments of aggregates without FILTER, whose own arguments are columns.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "core/settings.h"
#include "model/model.h"
#include "nodes/extensible.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/pathnodes.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/plancat.h"
#include "optimizer/planner.h"
#include "optimizer/tlist.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"

/* What a call in a block costs of what one by itself does. */
#define BLOCK_COST 0.2

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

static create_upper_paths_hook_type next_hook = NULL;

/* ---- planning ---- */

/* Is this a call that a block can take? */
static bool
is_batchable(Node *node, List *columns)
{
	FuncExpr   *call = (FuncExpr *) node;
	Oid			support;
	ListCell   *cell;

	if (!IsA(node, FuncExpr) || call->funcvariadic ||
		call->funcresulttype != FLOAT8OID || !IsA(linitial(call->args), Const))
		return false;
	support = get_func_support(call->funcid);
	if (!OidIsValid(support) ||
		strcmp(get_func_name(support), "score_support") != 0 ||
		strcmp(get_namespace_name(get_func_namespace(support)),
			   "visage") != 0)
		return false;
	for_each_from(cell, call->args, 1)
		if (!list_member(columns, lfirst(cell)) ||
			type_is_rowtype(exprType(lfirst(cell))))
		return false;
	return model_call_cost(call) > 0;
}

/* What the walk over an aggregation finds. */
typedef struct Findings
{
	List	   *columns;		/* of the child */
	List	   *calls;			/* for blocks, each once */
	List	   *rest;			/* columns that are needed otherwise */
} Findings;

static bool
find_calls(Node *node, void *context)
{
	Findings   *findings = context;

	if (node == NULL)
		return false;
	if (IsA(node, Aggref))
	{
		Aggref	   *aggregate = (Aggref *) node;
		TargetEntry *argument = list_length(aggregate->args) == 1 ?
		linitial(aggregate->args) : NULL;

		if (argument != NULL && aggregate->aggfilter == NULL &&
			is_batchable((Node *) argument->expr, findings->columns))
		{
			findings->calls = list_append_unique(findings->calls,
												 argument->expr);
			return false;
		}
	}
	if (list_member(findings->columns, node))
	{
		findings->rest = list_append_unique(findings->rest, node);
		return false;
	}
	return expression_tree_walker(node, find_calls, findings);
}

/* The position of an expression that is in the list. */
static int
position_of(Node *node, List *list)
{
	int			position = 0;

	while (!equal(list_nth(list, position), node))
		position++;
	return position;
}

/* What the calls cost a row when they are made one by one. */
static double
cost_of_calls(List *calls)
{
	double		cost = 0;
	ListCell   *cell;

	foreach(cell, calls)
		cost += model_call_cost(lfirst(cell));
	return cost;
}

static Plan *plan_batch(PlannerInfo *root, RelOptInfo *relation,
						CustomPath *path, List *tlist, List *clauses,
						List *children);
static Node *create_state(CustomScan *scan);

static const CustomPathMethods path_methods = {
	.CustomName = "Visage Batch Score",
	.PlanCustomPath = plan_batch
};

static const CustomScanMethods scan_methods = {
	.CustomName = "Visage Batch Score",
	.CreateCustomScanState = create_state
};

/* The node over the child: its needed columns, then the calls' scores. */
static CustomPath *
batch_path(PlannerInfo *root, RelOptInfo *relation, Path *child,
		   const Findings *findings)
{
	CustomPath *path = makeNode(CustomPath);
	PathTarget *target = create_empty_pathtarget();
	ListCell   *cell;

	foreach(cell, findings->rest)
		add_column_to_pathtarget(target, lfirst(cell),
								 get_pathtarget_sortgroupref(child->pathtarget,
															 position_of(lfirst(cell),
																		 findings->columns)));
	foreach(cell, findings->calls)
		add_column_to_pathtarget(target, lfirst(cell), 0);
	set_pathtarget_cost_width(root, target);
	path->path.pathtype = T_CustomScan;
	path->path.parent = relation;
	path->path.pathtarget = target;
	path->path.rows = child->rows;
	path->path.parallel_safe = child->parallel_safe;
	path->path.parallel_workers = child->parallel_workers;
	path->path.startup_cost = child->startup_cost;
	path->path.total_cost = child->total_cost +
		child->rows * cost_of_calls(findings->calls) * BLOCK_COST;
	path->path.pathkeys = child->pathkeys;
	path->custom_paths = list_make1(child);
	path->methods = &path_methods;
	return path;
}

/* The same aggregation over blocks, or NULL where no call is for blocks. */
static Path *
batched(PlannerInfo *root, RelOptInfo *relation, const AggPath *aggregation)
{
	Path	   *child = aggregation->subpath;
	Findings	findings = {.columns = child->pathtarget->exprs};
	AggPath    *path = makeNode(AggPath);
	Cost		saved;
	ListCell   *cell;

	foreach(cell, findings.columns)
		if (get_pathtarget_sortgroupref(child->pathtarget,
										foreach_current_index(cell)) != 0)
		findings.rest = lappend(findings.rest, lfirst(cell));
	find_calls((Node *) aggregation->path.pathtarget->exprs, &findings);
	find_calls((Node *) aggregation->qual, &findings);
	if (findings.calls == NIL)
		return NULL;
	memcpy(path, aggregation, sizeof(AggPath));
	path->subpath = (Path *) batch_path(root, relation, child, &findings);
	saved = child->rows * cost_of_calls(findings.calls) * (1 - BLOCK_COST);
	path->path.total_cost -= saved;
	if (aggregation->aggstrategy != AGG_SORTED)
		path->path.startup_cost -= saved;
	return (Path *) path;
}

/*
 * The same path with blocks below: an aggregation, or a final one over what
 * workers have aggregated.  NULL where no call is for blocks.
 */
static Path *
with_blocks(PlannerInfo *root, RelOptInfo *relation, Path *path)
{
	Path	  **below;
	Path	   *copy;
	Path	   *batch;
	Size		size;

	if (IsA(path, AggPath) &&
		!DO_AGGSPLIT_COMBINE(((AggPath *) path)->aggsplit))
		return batched(root, relation, (AggPath *) path);
	if (IsA(path, AggPath))
		size = sizeof(AggPath);
	else if (IsA(path, GatherPath))
		size = sizeof(GatherPath);
	else if (IsA(path, GatherMergePath))
		size = sizeof(GatherMergePath);
	else if (IsA(path, SortPath))
		size = sizeof(SortPath);
	else
		return NULL;
	copy = palloc(size);
	memcpy(copy, path, size);
	below = IsA(path, AggPath) ? &((AggPath *) copy)->subpath :
		IsA(path, GatherPath) ? &((GatherPath *) copy)->subpath :
		IsA(path, GatherMergePath) ? &((GatherMergePath *) copy)->subpath :
		&((SortPath *) copy)->subpath;
	batch = with_blocks(root, relation, *below);
	if (batch == NULL)
		return NULL;
	copy->total_cost -= (*below)->total_cost - batch->total_cost;
	copy->startup_cost -= (*below)->startup_cost - batch->startup_cost;
	*below = batch;
	return copy;
}

static void
add_batch_paths(PlannerInfo *root, UpperRelationKind stage,
				RelOptInfo *input, RelOptInfo *output, void *extra)
{
	List	   *paths = NIL;
	ListCell   *cell;

	if (next_hook)
		next_hook(root, stage, input, output, extra);
	if (stage != UPPERREL_GROUP_AGG ||
		strcmp(core_setting("visage.batch_scoring"), "on") != 0)
		return;
	foreach(cell, output->pathlist)
		paths = lappend(paths, with_blocks(root, output, lfirst(cell)));
	foreach(cell, paths)
		if (lfirst(cell) != NULL)
		add_path(output, lfirst(cell));
}

/* Called once, when visage.so is loaded. */
void
model_register_batch(void)
{
	RegisterCustomScanMethods(&scan_methods);
	next_hook = create_upper_paths_hook;
	create_upper_paths_hook = add_batch_paths;
}

/*
 * The child's columns.  A scan of a table had better hand on its rows as they
 * are than copy the columns that are asked for.
 */
static List *
child_columns(PlannerInfo *root, const Path *path, Plan *plan)
{
	List	   *columns = path->pathtarget->exprs;
	List	   *whole = IsA(plan, SeqScan) ?
	build_physical_tlist(root, path->parent) : NIL;
	ListCell   *cell;

	if (whole == NIL)
		return columns;
	foreach(cell, columns)
	{
		if (!tlist_member(lfirst(cell), whole))
			return columns;
	}
	plan->targetlist = whole;
	return get_tlist_exprs(whole, true);
}

/* The plan: what the state needs to know of it is in custom_private. */
static Plan *
plan_batch(PlannerInfo *root, RelOptInfo *relation, CustomPath *path,
		   List *tlist, List *clauses, List *children)
{
	CustomScan *scan = makeNode(CustomScan);
	List	   *columns = child_columns(root, linitial(path->custom_paths),
										linitial(children));
	List	   *passed = NIL;
	List	   *references = NIL;
	List	   *positions = NIL;
	List	   *functions = NIL;
	ListCell   *cell;

	foreach(cell, path->path.pathtarget->exprs)
	{
		FuncExpr   *call = lfirst(cell);
		List	   *arguments = NIL;
		ListCell   *argument;

		if (list_member(columns, call))
		{
			passed = lappend_int(passed, position_of((Node *) call, columns));
			continue;
		}
		for_each_from(argument, call->args, 1)
			arguments = lappend_int(arguments,
									position_of(lfirst(argument), columns));
		references = lappend(references,
							 makeString(TextDatumGetCString(castNode(Const, linitial(call->args))->constvalue)));
		positions = lappend(positions, arguments);
		functions = lappend_oid(functions, call->funcid);
	}
	scan->scan.plan.targetlist = tlist;
	scan->custom_scan_tlist = copyObject(tlist);
	scan->custom_plans = children;
	scan->custom_private = list_make4(references, positions, passed,
									  functions);
	scan->methods = &scan_methods;
	return &scan->scan.plan;
}

/* ---- running ---- */

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
	call->workspace =
		MemoryContextAllocExtended(context,
								   model_workspace(entry->image, MODEL_BLOCK) *
								   sizeof(double),
								   MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
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
								   state->calls[i].workspace);
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

static const CustomExecMethods exec_methods = {
	.CustomName = "Visage Batch Score",
	.BeginCustomScan = begin_batch,
	.ExecCustomScan = next_row,
	.EndCustomScan = end_batch,
	.ReScanCustomScan = rescan_batch
};

static Node *
create_state(CustomScan *scan)
{
	BatchState *state = (BatchState *) newNode(sizeof(BatchState),
											   T_CustomScanState);

	state->css.methods = &exec_methods;
	return (Node *) state;
}

/*-------------------------------------------------------------------------
 *
 * batch.c
 *		Scoring in blocks behind the planner.
 *
 * Where visage_score is called in a query's output, or in an aggregate's
 * argument as in sum(visage_score('churn', t)), and visage.batch_scoring is
 * on, the planner may put a node between the projection or aggregation and
 * what it reads.  The node takes rows from its child a block at a time, scores
 * the block at once, and hands the rows on with their scores as columns, which
 * what is above finds in place of its calls; batch_run.c is the node.
 *
 * Only calls that are evaluated for each row whatever happens are taken, whose
 * arguments are columns: in the output, outside of CASE and its like and not
 * below a LIMIT that may want fewer rows; of aggregates without FILTER, their
 * whole arguments.
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

static create_upper_paths_hook_type next_hook = NULL;

/* ---- planning ---- */

/* Is this a call that a block can take, and that the child has not made? */
static bool
is_batchable(Node *node, List *columns)
{
	FuncExpr   *call = (FuncExpr *) node;
	Oid			support;
	ListCell   *cell;

	if (!IsA(node, FuncExpr) || list_member(columns, node) ||
		call->funcvariadic || call->funcresulttype != FLOAT8OID ||
		!IsA(linitial(call->args), Const))
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

/* Does a node of this kind evaluate all that is in it? */
static bool
evaluates_all(const Node *node)
{
	switch (nodeTag(node))
	{
		case T_List:
		case T_FuncExpr:
		case T_OpExpr:
		case T_NamedArgExpr:
		case T_RelabelType:
		case T_CoerceViaIO:
		case T_NullTest:
		case T_RowExpr:
		case T_ArrayExpr:
			return true;
		default:
			return false;
	}
}

/* The same in expressions of the output. */
static bool
find_output_calls(Node *node, void *context)
{
	Findings   *findings = context;

	if (node == NULL)
		return false;
	if (is_batchable(node, findings->columns))
	{
		findings->calls = list_append_unique(findings->calls, node);
		return false;
	}
	if (!evaluates_all(node))
		return find_calls(node, findings);
	return expression_tree_walker(node, find_output_calls, findings);
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

static const CustomPathMethods path_methods = {
	.CustomName = "Visage Batch Score",
	.PlanCustomPath = plan_batch
};

static const CustomScanMethods scan_methods = {
	.CustomName = "Visage Batch Score",
	.CreateCustomScanState = model_batch_state
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

/*
 * What the path below an aggregation or projection is asked for, besides what
 * its order needs: the columns that it is grouped by.
 */
static Findings
findings_over(const Path *child)
{
	Findings	findings = {.columns = child->pathtarget->exprs};
	ListCell   *cell;

	foreach(cell, findings.columns)
		if (get_pathtarget_sortgroupref(child->pathtarget,
										foreach_current_index(cell)) != 0)
		findings.rest = lappend(findings.rest, lfirst(cell));
	return findings;
}

/* What the calls cost less in blocks. */
static Cost
cost_saved(const Path *child, const Findings *findings)
{
	return child->rows * cost_of_calls(findings->calls) * (1 - BLOCK_COST);
}

/* The same aggregation over blocks, or NULL where no call is for blocks. */
static Path *
batched_aggregation(PlannerInfo *root, RelOptInfo *relation,
					const AggPath *aggregation)
{
	Path	   *child = aggregation->subpath;
	Findings	findings = findings_over(child);
	AggPath    *path = makeNode(AggPath);
	Cost		saved;

	find_calls((Node *) aggregation->path.pathtarget->exprs, &findings);
	find_calls((Node *) aggregation->qual, &findings);
	if (findings.calls == NIL)
		return NULL;
	memcpy(path, aggregation, sizeof(AggPath));
	path->subpath = (Path *) batch_path(root, relation, child, &findings);
	saved = cost_saved(child, &findings);
	path->path.total_cost -= saved;
	if (aggregation->aggstrategy != AGG_SORTED)
		path->path.startup_cost -= saved;
	return (Path *) path;
}

/* The same of a projection: the query's output. */
static Path *
batched_projection(PlannerInfo *root, RelOptInfo *relation,
				   const ProjectionPath *projection)
{
	Path	   *child = projection->subpath;
	Findings	findings = findings_over(child);
	ProjectionPath *path = makeNode(ProjectionPath);

	find_output_calls((Node *) projection->path.pathtarget->exprs, &findings);
	if (findings.calls == NIL)
		return NULL;
	memcpy(path, projection, sizeof(ProjectionPath));
	path->subpath = (Path *) batch_path(root, relation, child, &findings);
	path->dummypp = false;
	path->path.total_cost -= cost_saved(child, &findings);
	return (Path *) path;
}

static Path *with_blocks(PlannerInfo *root, RelOptInfo *relation, Path *path,
						 bool all);

/* The same of rows from several tables, such as partitions. */
static Path *
batched_append(PlannerInfo *root, RelOptInfo *relation,
			   const AppendPath *append, bool all)
{
	AppendPath *path;
	List	   *below = NIL;
	Cost		saved = 0;
	bool		any = false;
	ListCell   *cell;

	foreach(cell, append->subpaths)
	{
		Path	   *child = lfirst(cell);
		Path	   *batch = with_blocks(root, relation, child, all);

		below = lappend(below, batch == NULL ? child : batch);
		if (batch == NULL)
			continue;
		any = true;
		saved += child->total_cost - batch->total_cost;
	}
	if (!any)
		return NULL;
	path = makeNode(AppendPath);
	memcpy(path, append, sizeof(AppendPath));
	path->subpaths = below;
	path->path.total_cost -= saved / Max(path->path.parallel_workers, 1);
	return (Path *) path;
}

/* Where a path of these kinds has the path that it reads; else NULL. */
static Path **
path_below(Path *path, Size *size)
{
	switch (nodeTag(path))
	{
		case T_AggPath:
			*size = sizeof(AggPath);
			return &((AggPath *) path)->subpath;
		case T_GatherPath:
			*size = sizeof(GatherPath);
			return &((GatherPath *) path)->subpath;
		case T_GatherMergePath:
			*size = sizeof(GatherMergePath);
			return &((GatherMergePath *) path)->subpath;
		case T_SortPath:
			*size = sizeof(SortPath);
			return &((SortPath *) path)->subpath;
		case T_WindowAggPath:
			*size = sizeof(WindowAggPath);
			return &((WindowAggPath *) path)->subpath;
		case T_ModifyTablePath:
			*size = sizeof(ModifyTablePath);
			return &((ModifyTablePath *) path)->subpath;
		default:
			return NULL;
	}
}

/*
 * The same path with blocks below: an aggregation, or a final one over what
 * workers have aggregated, or a projection of which all rows are wanted.  NULL
 * where no call is for blocks.
 */
static Path *
with_blocks(PlannerInfo *root, RelOptInfo *relation, Path *path, bool all)
{
	Path	   *copy;
	Path	  **below;
	Path	   *batch;
	Size		size;

	if (IsA(path, AggPath) &&
		!DO_AGGSPLIT_COMBINE(((AggPath *) path)->aggsplit))
		return batched_aggregation(root, relation, (AggPath *) path);
	if (IsA(path, ProjectionPath))
		return all ? batched_projection(root, relation,
										(ProjectionPath *) path) : NULL;
	if (IsA(path, AppendPath))
		return batched_append(root, relation, (AppendPath *) path, all);
	below = path_below(path, &size);
	if (below == NULL)
		return NULL;
	batch = with_blocks(root, relation, *below, all || IsA(path, SortPath));
	if (batch == NULL)
		return NULL;
	copy = palloc(size);
	memcpy(copy, path, size);
	copy->total_cost -= (*below)->total_cost - batch->total_cost;
	copy->startup_cost -= (*below)->startup_cost - batch->startup_cost;
	*path_below(copy, &size) = batch;
	return copy;
}

/*
 * Does the query read rows only to hand them out or insert them?  Rows that
 * are locked or changed are looked at again when somebody else has changed
 * them, which is not for blocks.
 */
static bool
only_reads(const Query *query)
{
	return query->rowMarks == NIL &&
		(query->commandType == CMD_SELECT ||
		 query->commandType == CMD_INSERT);
}

static void
add_batch_paths(PlannerInfo *root, UpperRelationKind stage,
				RelOptInfo *input, RelOptInfo *output, void *extra)
{
	List	   *paths = NIL;
	ListCell   *cell;
	bool		all = root->parse->limitCount == NULL &&
	root->parse->limitOffset == NULL;

	if (next_hook)
		next_hook(root, stage, input, output, extra);
	if (strcmp(core_setting("visage.batch_scoring"), "on") != 0 ||
		(stage != UPPERREL_GROUP_AGG &&
		 ((stage != UPPERREL_ORDERED && stage != UPPERREL_FINAL) ||
		  !only_reads(root->parse))))
		return;
	foreach(cell, output->pathlist)
		paths = lappend(paths, with_blocks(root, output, lfirst(cell), all));
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

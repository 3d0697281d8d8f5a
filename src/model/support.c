/*-------------------------------------------------------------------------
 *
 * support.c
 *		What the planner learns about visage_score and its like, and
 *		visage_explain.
 *
 * visage_score('churn', t) would build each row of t whole, with columns that
 * no model reads, however wide.  The planner gets, instead of the row, the
 * columns that the model needs now, in its order, and a reference that says
 * which version's columns they are (see store.c).  The plan depends on the
 * catalog of models, so a cached one is made again after a deploy.
 *
 * And it learns what a call costs, so that scoring is worth a parallel plan,
 * and conditions that cost less are looked at first.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/tupdesc.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "model/model.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/pathnodes.h"
#include "nodes/supportnodes.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

/* The model that the call's first argument names, if the planner can know. */
static ModelEntry *
planned_model(List *args, bool to_keep)
{
	Const	   *model = args == NIL ? NULL : linitial(args);
	text	   *reference;

	if (model == NULL || !IsA(model, Const) || model->constisnull ||
		model->consttype != TEXTOID)
		return NULL;
	reference = DatumGetTextPP(model->constvalue);
	return model_find_quietly(VARDATA_ANY(reference),
							  VARSIZE_ANY_EXHDR(reference), to_keep);
}

/* ---- the row ---- */

/*
 * Is this relation of the query under the side of an outer join that may be
 * missing?  There a whole row can be NULL, which columns cannot say.  Also
 * true for what is not in the join tree.
 */
static bool
may_be_missing(Node *node, int relation, bool missing, bool *found)
{
	if (IsA(node, RangeTblRef))
	{
		*found = ((RangeTblRef *) node)->rtindex == relation;
		return missing;
	}
	if (IsA(node, FromExpr))
	{
		ListCell   *cell;

		foreach(cell, ((FromExpr *) node)->fromlist)
		{
			bool		result = may_be_missing(lfirst(cell), relation,
												missing, found);

			if (*found)
				return result;
		}
		return true;
	}
	if (IsA(node, JoinExpr))
	{
		JoinExpr   *join = (JoinExpr *) node;
		bool		result;

		result = may_be_missing(join->larg, relation,
								missing || join->jointype == JOIN_RIGHT ||
								join->jointype == JOIN_FULL, found);
		if (*found)
			return result;
		return may_be_missing(join->rarg, relation,
							  missing || join->jointype == JOIN_LEFT ||
							  join->jointype == JOIN_FULL, found);
	}
	return true;
}

/* The position of the name, from 1, or 0. */
static int
find_name(List *names, const char *name)
{
	ListCell   *cell;

	foreach(cell, names)
		if (strcmp(strVal(lfirst(cell)), name) == 0)
		return foreach_current_index(cell) + 1;
	return 0;
}

/* The same in a row type. */
static int
find_attribute(Oid row_type, const char *name)
{
	TupleDesc	tupdesc = lookup_rowtype_tupdesc(row_type, -1);
	int			found = 0;

	for (int i = 0; i < tupdesc->natts && found == 0; i++)
		if (!TupleDescAttr(tupdesc, i)->attisdropped &&
			strcmp(NameStr(TupleDescAttr(tupdesc, i)->attname), name) == 0)
			found = i + 1;
	ReleaseTupleDesc(tupdesc);
	return found;
}

/* The column of a relation or subquery that a whole-row variable is of. */
static Node *
column_of_variable(const Var *row, const RangeTblEntry *relation,
				   const char *name)
{
	int			position = row->vartype == RECORDOID ?
	find_name(relation->eref->colnames, name) :
	find_attribute(row->vartype, name);
	Var		   *column = copyObject((Var *) row);

	if (position == 0)
		return NULL;
	column->varattno = position;
	column->varattnosyn = position;
	if (relation->rtekind == RTE_RELATION)
		get_atttypetypmodcoll(relation->relid, position, &column->vartype,
							  &column->vartypmod, &column->varcollid);
	else
	{
		TargetEntry *entry = get_tle_by_resno(relation->subquery->targetList,
											  position);

		if (entry == NULL || entry->resjunk)
			return NULL;
		column->vartype = exprType((Node *) entry->expr);
		column->vartypmod = exprTypmod((Node *) entry->expr);
		column->varcollid = exprCollation((Node *) entry->expr);
	}
	return (Node *) column;
}

/* Can the planner look into this row? */
static bool
row_is_known(PlannerInfo *root, Node *row)
{
	Var		   *variable = (Var *) row;
	RangeTblEntry *relation;
	bool		found = false;

	if (IsA(row, RowExpr))
		return true;
	if (!IsA(row, Var) || variable->varattno != InvalidAttrNumber ||
		variable->varlevelsup != 0 || root->parse->groupingSets != NIL ||
		may_be_missing((Node *) root->parse->jointree, variable->varno, false,
					   &found))
		return false;
	relation = rt_fetch(variable->varno, root->parse->rtable);
	if (relation->rtekind == RTE_RELATION)
		return variable->vartype == get_rel_type_id(relation->relid);
	return relation->rtekind == RTE_SUBQUERY;
}

/* The column of this name, or NULL. */
static Node *
column_of_row(PlannerInfo *root, Node *row, const char *name)
{
	RowExpr    *expression = (RowExpr *) row;
	int			position;

	if (IsA(row, Var))
		return column_of_variable((Var *) row,
								  rt_fetch(((Var *) row)->varno,
										   root->parse->rtable), name);
	position = expression->row_typeid == RECORDOID ?
		find_name(expression->colnames, name) :
		find_attribute(expression->row_typeid, name);
	return position == 0 || position > list_length(expression->args) ? NULL :
		list_nth(expression->args, position - 1);
}

/* A row of just these columns, for more of them than a call can have. */
static List *
as_row(List *columns, List *names)
{
	RowExpr    *row = makeNode(RowExpr);

	row->args = columns;
	row->row_typeid = RECORDOID;
	row->row_format = COERCE_EXPLICIT_CALL;
	row->colnames = names;
	row->location = -1;
	return list_make1(row);
}

/* The columns that the model needs, in its order; NIL where one is missing. */
static List *
needed_columns(PlannerInfo *root, Node *row, const ModelEntry *entry)
{
	const ModelImage *image = entry->image;
	List	   *columns = NIL;
	List	   *names = NIL;

	if (!row_is_known(root, row))
		return NIL;
	for (uint32 i = 0; i < image->input_count; i++)
	{
		const char *name = model_string(image, model_inputs(image)[i].name);
		Node	   *column = column_of_row(root, row, name);

		if (column == NULL || type_is_rowtype(exprType(column)))
			return NIL;
		columns = lappend(columns, copyObject(column));
		names = lappend(names, makeString(pstrdup(name)));
	}
	return image->input_count < FUNC_MAX_ARGS ? columns :
		as_row(columns, names);
}

/* The call with columns for its row, or NULL to leave it as it is. */
static Node *
simplify(SupportRequestSimplify *request)
{
	FuncExpr   *call = request->fcall;
	ModelEntry *entry;
	List	   *columns;
	text	   *reference;
	char	   *planned;

	if (request->root == NULL || list_length(call->args) != 2 ||
		call->funcvariadic || !type_is_rowtype(exprType(lsecond(call->args))))
		return NULL;
	entry = planned_model(call->args, true);
	columns = entry == NULL ? NIL :
		needed_columns(request->root, lsecond(call->args), entry);
	if (columns == NIL)
		return NULL;
	reference = DatumGetTextPP(castNode(Const, linitial(call->args))->constvalue);
	planned = model_planned_reference(VARDATA_ANY(reference),
									  VARSIZE_ANY_EXHDR(reference), entry);
	if (planned == NULL)
		return NULL;
	request->root->glob->relationOids =
		list_append_unique_oid(request->root->glob->relationOids,
							   model_catalog_relation());
	call = copyObject(call);
	call->args = lcons(makeConst(TEXTOID, -1, DEFAULT_COLLATION_OID, -1,
								 CStringGetTextDatum(planned), false, false),
					   columns);
	return (Node *) call;
}

/* ---- the cost ---- */

/* A call's cost, in comparisons: each takes about 10 ns. */
static double
call_operators(const ModelImage *image)
{
	return 1 + image->input_count / 2.0 + image->size / 2048.0;
}

/*
 * What the planner thinks a call with a value for each input costs; 0 where
 * it does not know the model, or the number of values is not right.
 */
double
model_call_cost(FuncExpr *call)
{
	ModelEntry *entry = planned_model(call->args, false);

	if (entry == NULL ||
		entry->image->input_count != list_length(call->args) - 1)
		return 0;
	return cpu_operator_cost * call_operators(entry->image);
}

/* The model that a call for which the planner asks is of, or NULL. */
static ModelEntry *
called_model(Node *node)
{
	return node == NULL || !IsA(node, FuncExpr) ? NULL :
		planned_model(((FuncExpr *) node)->args, false);
}

static bool
estimate_cost(SupportRequestCost *request, double times)
{
	ModelEntry *entry = called_model(request->node);

	if (entry == NULL)
		return false;
	request->startup = 0;
	request->per_tuple = cpu_operator_cost * call_operators(entry->image) *
		times;
	return true;
}

PG_FUNCTION_INFO_V1(visage_score_support);
Datum
visage_score_support(PG_FUNCTION_ARGS)
{
	Node	   *request = (Node *) PG_GETARG_POINTER(0);
	Node	   *answer = NULL;

	if (IsA(request, SupportRequestSimplify))
		answer = simplify((SupportRequestSimplify *) request);
	else if (IsA(request, SupportRequestCost) &&
			 estimate_cost((SupportRequestCost *) request, 1))
		answer = request;
	PG_RETURN_POINTER(answer);
}

/* ---- visage_explain ---- */

/* What an explanation costs of what a score does, by what was measured. */
#define EXPLAIN_COST 100

/* A row for each input that is shown, and one for the base value. */
static bool
estimate_rows(SupportRequestRows *request)
{
	ModelEntry *entry = called_model(request->node);

	if (entry == NULL)
		return false;
	request->rows = model_explained_inputs(entry->image) + 1;
	return true;
}

PG_FUNCTION_INFO_V1(visage_explain_support);
Datum
visage_explain_support(PG_FUNCTION_ARGS)
{
	Node	   *request = (Node *) PG_GETARG_POINTER(0);
	bool		answered = false;

	if (IsA(request, SupportRequestRows))
		answered = estimate_rows((SupportRequestRows *) request);
	else if (IsA(request, SupportRequestCost))
		answered = estimate_cost((SupportRequestCost *) request,
								 EXPLAIN_COST);
	PG_RETURN_POINTER(answered ? request : NULL);
}

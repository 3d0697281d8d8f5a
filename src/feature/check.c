/*-------------------------------------------------------------------------
 *
 * check.c
 *		SQL that users give: what it may look like, and running it as them.
 *
 * Expressions and queries are put into larger statements.  They run with
 * the rights of whoever uses them, whatever they say; the checks only see to it
 * that an expression is one expression and a query one SELECT, so that a
 * stray bracket or comment is an error and not another query.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "core/core.h"
#include "feature/feature.h"
#include "nodes/parsenodes.h"
#include "parser/parser.h"

/* The one SELECT that the text is, or NULL. */
static SelectStmt *
parse_select(const char *text)
{
	List	   *statements = raw_parser(text, RAW_PARSE_DEFAULT);
	Node	   *statement;

	if (list_length(statements) != 1)
		return NULL;
	statement = linitial_node(RawStmt, statements)->stmt;
	return IsA(statement, SelectStmt) ? (SelectStmt *) statement : NULL;
}

/* ERROR unless the text is one expression. */
void
feature_check_expression(const char *what, const char *text)
{
	SelectStmt *select = parse_select(psprintf("SELECT (%s\n)", text));

	if (select == NULL || select->op != SETOP_NONE ||
		list_length(select->targetList) != 1 || select->fromClause != NIL ||
		select->whereClause != NULL || select->groupClause != NIL ||
		select->havingClause != NULL || select->windowClause != NIL ||
		select->sortClause != NIL || select->limitCount != NULL ||
		select->limitOffset != NULL || select->lockingClause != NIL ||
		select->intoClause != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("%s is not one SQL expression", what),
				 errdetail("It is: %s", text)));
}

/* ERROR unless the text is one query. */
void
feature_check_query(const char *what, const char *text)
{
	SelectStmt *select = parse_select(text);

	if (select == NULL || select->intoClause != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("%s is not one SELECT", what),
				 errdetail("It is: %s", text)));
}

/* Is this the error of something that may come to exist? */
static bool
is_missing(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_UNDEFINED_TABLE ||
		error->sqlerrcode == ERRCODE_INVALID_SCHEMA_NAME;
}

/*
 * Runs a step in a subtransaction.  False where it failed because a relation
 * that it names does not exist, with the message; any other error goes on.
 */
bool
feature_try(void (*step) (void *arg), void *arg, char **missing)
{
	ErrorData  *error = core_try(step, arg);

	if (error == NULL)
		return true;
	if (!is_missing(error))
		ReThrowError(error);
	*missing = error->message;
	return false;
}

/*-------------------------------------------------------------------------
 *
 * import_pmml_predicate.c
 *		Predicates of PMML: as slots, and as tests of trees.
 *
 * As a slot a predicate is 1, 0, or NaN where it is unknown: where a field is
 * missing.  As a test it is one node of a tree, if it is simple enough.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "miscadmin.h"
#include "model/import_pmml.h"

/* Members of a set that becomes bits are below it. */
#define MAX_MEMBER 65536

bool
pmml_is_predicate(const PmmlElement *element)
{
	return pmml_is(element, "True") || pmml_is(element, "False") ||
		pmml_is(element, "SimplePredicate") ||
		pmml_is(element, "SimpleSetPredicate") ||
		pmml_is(element, "CompoundPredicate");
}

/* The predicate of a Node, Segment or Attribute. */
PmmlElement *
pmml_predicate_of(const PmmlElement *element)
{
	for (PmmlElement *child = element->first; child != NULL;
		 child = child->next)
		if (pmml_is_predicate(child))
			return child;
	pmml_damaged(element, "there is no predicate");
}

/* The test that an operator stands for. */
static ProgramTest
operator_test(const PmmlElement *predicate, const char *operator)
{
	static const struct
	{
		const char *name;
		ProgramTest test;
	}			operators[] = {
		{"equal", PROGRAM_EQUAL}, {"notEqual", PROGRAM_NOT_EQUAL},
		{"lessThan", PROGRAM_BELOW}, {"lessOrEqual", PROGRAM_AT_MOST},
		{"greaterThan", PROGRAM_ABOVE}, {"greaterOrEqual", PROGRAM_AT_LEAST}
	};

	for (int i = 0; i < lengthof(operators); i++)
		if (strcmp(operators[i].name, operator) == 0)
			return operators[i].test;
	pmml_refuse(predicate, psprintf("operator \"%s\"", operator));
}

/* The members of a SimpleSetPredicate as numbers or codes. */
static double *
members_of(const PmmlElement *predicate, const PmmlValue *value, int *count)
{
	const PmmlElement *array = pmml_child(predicate, "Array");
	char	  **texts;
	double	   *members;

	if (array == NULL)
		pmml_damaged(predicate, "there is no array");
	texts = pmml_array(array, count);
	members = palloc(sizeof(double) * Max(*count, 1));
	for (int i = 0; i < *count; i++)
		members[i] = pmml_literal(array, value, texts[i]);
	return members;
}

static bool
set_is_in(const PmmlElement *predicate)
{
	const char *operator = pmml_require(predicate, "booleanOperator");

	if (strcmp(operator, "isIn") == 0)
		return true;
	if (strcmp(operator, "isNotIn") == 0)
		return false;
	pmml_refuse(predicate, psprintf("operator \"%s\"", operator));
}

/* ---- tests of trees ---- */

static bool
simple_test(PmmlImport *import, PmmlScope *scope,
			const PmmlElement *predicate, ProgramNode *node)
{
	PmmlValue	value = pmml_find_field(import, scope, predicate,
										pmml_require(predicate, "field"));
	const char *operator = pmml_require(predicate, "operator");

	node->slot = value.slot;
	if (strcmp(operator, "isMissing") == 0 ||
		strcmp(operator, "isNotMissing") == 0)
	{
		bool		missing = strcmp(operator, "isMissing") == 0;

		node->test = missing ? PROGRAM_ABOVE : PROGRAM_AT_MOST;
		node->threshold = INFINITY;
		node->missing_yes = missing;
		return true;
	}
	node->test = operator_test(predicate, operator);
	if (value.texts != NULL && node->test != PROGRAM_EQUAL &&
		node->test != PROGRAM_NOT_EQUAL)
		pmml_refuse(predicate, "an order of texts");
	node->threshold = pmml_literal(predicate, &value,
								   pmml_require(predicate, "value"));
	return true;
}

static bool
set_test(PmmlImport *import, PmmlScope *scope, const PmmlElement *predicate,
		 ProgramNode *node)
{
	PmmlValue	value = pmml_find_field(import, scope, predicate,
										pmml_require(predicate, "field"));
	int			count;
	double	   *members = members_of(predicate, &value, &count);
	uint32	   *set;
	int			words = 1;

	for (int i = 0; i < count; i++)
	{
		if (value.texts != NULL && members[i] == -2)
			continue;
		if (!(members[i] >= 0 && members[i] < MAX_MEMBER) ||
			members[i] != floor(members[i]))
			return false;
		words = Max(words, (int) members[i] / 32 + 1);
	}
	set = palloc0(sizeof(uint32) * words);
	for (int i = 0; i < count; i++)
		if (members[i] >= 0)
			set[(int) members[i] / 32] |= (uint32) 1 << ((int) members[i] % 32);
	node->test = set_is_in(predicate) ? PROGRAM_IN : PROGRAM_NOT_IN;
	node->slot = value.slot;
	node->set = set;
	node->set_words = words;
	node->set_exact = true;
	return true;
}

/* isMissing(x) or test(x): one test that holds for a missing value. */
static bool
missing_or_test(PmmlImport *import, PmmlScope *scope,
				const PmmlElement *predicate, ProgramNode *node)
{
	const PmmlElement *first = NULL;
	const PmmlElement *second = NULL;
	const char *operator;

	for (const PmmlElement *child = predicate->first; child != NULL;
		 child = child->next)
		if (pmml_is_predicate(child))
		{
			if (second != NULL)
				return false;
			if (first == NULL)
				first = child;
			else
				second = child;
		}
	if (first == NULL || second == NULL ||
		strcmp(pmml_require(predicate, "booleanOperator"), "or") != 0 ||
		!pmml_is(first, "SimplePredicate") ||
		!(pmml_is(second, "SimplePredicate") ||
		  pmml_is(second, "SimpleSetPredicate")) ||
		strcmp(pmml_require(first, "field"),
			   pmml_require(second, "field")) != 0)
		return false;
	operator = pmml_require(first, "operator");
	if (strcmp(operator, "isMissing") != 0 ||
		!pmml_predicate_test(import, scope, second, node))
		return false;
	node->missing_yes = true;
	return true;
}

/*
 * The predicate as a node's test, which is false where it is unknown; false
 * if it needs more than one node.
 */
bool
pmml_predicate_test(PmmlImport *import, PmmlScope *scope,
					const PmmlElement *predicate, ProgramNode *node)
{
	if (pmml_is(predicate, "SimplePredicate"))
		return simple_test(import, scope, predicate, node);
	if (pmml_is(predicate, "SimpleSetPredicate"))
		return set_test(import, scope, predicate, node);
	if (pmml_is(predicate, "CompoundPredicate"))
		return missing_or_test(import, scope, predicate, node);
	return false;
}

/* ---- slots ---- */

static int
is_missing(PmmlImport *import, int slot)
{
	return program_unary(import->program, MODEL_IS_MISSING, slot, 1, false);
}

/* The slot, or NaN where another one is missing. */
static int
unknown_if_missing(PmmlImport *import, int other, int slot)
{
	return pmml_where(import, is_missing(import, other),
					  pmml_constant(import, NAN), slot);
}

static int
simple_slot(PmmlImport *import, PmmlScope *scope,
			const PmmlElement *predicate)
{
	static const ModelOp ops[] = {
		[PROGRAM_EQUAL] = MODEL_EQUAL,[PROGRAM_NOT_EQUAL] = MODEL_NOT_EQUAL,
		[PROGRAM_BELOW] = MODEL_LESS,[PROGRAM_AT_MOST] = MODEL_LESS_EQUAL,
		[PROGRAM_ABOVE] = MODEL_GREATER,
		[PROGRAM_AT_LEAST] = MODEL_GREATER_EQUAL
	};
	ProgramNode node = PROGRAM_NODE_INIT;
	int			slot;

	(void) simple_test(import, scope, predicate, &node);
	if (strstr(pmml_require(predicate, "operator"), "Missing") != NULL)
	{
		slot = is_missing(import, node.slot);
		return node.missing_yes ? slot :
			program_unary(import->program, MODEL_NOT, slot, 1, false);
	}
	slot = program_constant(import->program, ops[node.test], node.slot, 1,
							&node.threshold, 1, false);
	return unknown_if_missing(import, node.slot, slot);
}

static int
set_slot(PmmlImport *import, PmmlScope *scope, const PmmlElement *predicate)
{
	PmmlValue	value = pmml_find_field(import, scope, predicate,
										pmml_require(predicate, "field"));
	int			count;
	double	   *members = members_of(predicate, &value, &count);
	double	   *results = palloc(sizeof(double) * Max(count, 1));
	bool		in = set_is_in(predicate);

	for (int i = 0; i < count; i++)
		results[i] = in ? 1 : 0;
	return program_lookup(import->program, value.slot, 1, members, results,
						  count, in ? 0 : 1, NAN);
}

/* Two predicates joined by and, or, xor. */
static int
join(PmmlImport *import, const PmmlElement *predicate, const char *operator,
	 int a, int b)
{
	ModelProgram *program = import->program;
	double		decides = strcmp(operator, "and") == 0 ? 0 : 1;
	int			decided;
	int			sum;

	if (strcmp(operator, "surrogate") == 0)
		return pmml_where(import, is_missing(import, a), b, a);
	if (strcmp(operator, "xor") == 0)
		return unknown_if_missing(import, program_binary(program, MODEL_ADD, a, b, 1, false),
								  program_binary(program, MODEL_NOT_EQUAL, a, b, 1, false));
	if (strcmp(operator, "and") != 0 && strcmp(operator, "or") != 0)
		pmml_refuse(predicate, psprintf("operator \"%s\"", operator));
	decided = program_binary(program, MODEL_OR,
							 program_constant(program, MODEL_EQUAL, a, 1, &decides, 1, false),
							 program_constant(program, MODEL_EQUAL, b, 1, &decides, 1, false),
							 1, false);
	/* undecided: both are 1 and 1 (and), 0 and 0 (or), or one is unknown */
	sum = program_binary(program, decides == 0 ? MODEL_MULTIPLY : MODEL_ADD,
						 a, b, 1, false);
	return pmml_where(import, decided, pmml_constant(import, decides), sum);
}

/* The predicate as a slot: 1, 0 or NaN. */
int
pmml_predicate(PmmlImport *import, PmmlScope *scope,
			   const PmmlElement *predicate)
{
	int			slot = -1;

	check_stack_depth();
	if (pmml_is(predicate, "True"))
		return pmml_constant(import, 1);
	if (pmml_is(predicate, "False"))
		return pmml_constant(import, 0);
	if (pmml_is(predicate, "SimplePredicate"))
		return simple_slot(import, scope, predicate);
	if (pmml_is(predicate, "SimpleSetPredicate"))
		return set_slot(import, scope, predicate);
	if (!pmml_is(predicate, "CompoundPredicate"))
		pmml_refuse(predicate, psprintf("predicate \"%s\"", predicate->name));
	for (const PmmlElement *child = predicate->first; child != NULL;
		 child = child->next)
		if (pmml_is_predicate(child))
		{
			int			next = pmml_predicate(import, scope, child);

			slot = slot < 0 ? next :
				join(import, predicate,
					 pmml_require(predicate, "booleanOperator"), slot, next);
		}
	if (slot < 0)
		pmml_damaged(predicate, "there are no predicates in it");
	return slot;
}

/*-------------------------------------------------------------------------
 *
 * import_pmml_regression.c
 *		RegressionModel and Scorecard of PMML.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "model/import_pmml.h"

/* ---- the linear part ---- */

/* Terms of a RegressionTable, growing. */
typedef struct Terms
{
	ProgramTerm *terms;
	int			count;
	int			allocated;
} Terms;

static ProgramTerm *
new_term(Terms *terms, int slot, double coefficient)
{
	ProgramTerm initial = PROGRAM_TERM_INIT;
	ProgramTerm *term;

	if (terms->count == terms->allocated)
	{
		terms->allocated = Max(16, terms->allocated * 2);
		terms->terms = terms->terms == NULL ?
			palloc(sizeof(ProgramTerm) * terms->allocated) :
			repalloc_huge(terms->terms, sizeof(ProgramTerm) * terms->allocated);
	}
	term = &terms->terms[terms->count++];
	*term = initial;
	term->slot = slot;
	term->coefficient = coefficient;
	return term;
}

static void
numeric_predictor(PmmlImport *import, PmmlScope *scope,
				  const PmmlElement *element, Terms *terms)
{
	PmmlValue	value = pmml_find_field(import, scope, element,
										pmml_require(element, "name"));
	double		exponent = pmml_number(element, "exponent", 1);
	double		coefficient = pmml_parse_number(element,
												pmml_require(element, "coefficient"));

	if (value.texts != NULL)
		pmml_refuse(element, "a NumericPredictor of texts");
	if (exponent >= 1 && exponent <= 32 && exponent == floor(exponent))
		new_term(terms, value.slot, coefficient)->exponent = (int) exponent;
	else
		new_term(terms, program_constant(import->program, MODEL_POWER,
										 value.slot, 1, &exponent, 1, false),
				 coefficient);
}

/* A category adds its coefficient; a missing value, or any other, nothing. */
static void
categorical_predictor(PmmlImport *import, PmmlScope *scope,
					  const PmmlElement *element, Terms *terms)
{
	PmmlValue	value = pmml_find_field(import, scope, element,
										pmml_require(element, "name"));
	double		key = pmml_literal(element, &value,
								   pmml_require(element, "value"));
	double		one = 1;
	int			slot = program_lookup(import->program, value.slot, 1, &key,
									  &one, 1, 0, 0);

	(void) new_term(terms, slot,
					pmml_parse_number(element,
									  pmml_require(element, "coefficient")));
}

/* A product of fields. */
static void
predictor_term(PmmlImport *import, PmmlScope *scope,
			   const PmmlElement *element, Terms *terms)
{
	int			product = -1;

	for (const PmmlElement *child = element->first; child != NULL;
		 child = child->next)
	{
		PmmlValue	value;

		if (!pmml_is(child, "FieldRef"))
			continue;
		value = pmml_find_field(import, scope, child,
								pmml_require(child, "field"));
		if (value.texts != NULL)
			pmml_refuse(child, "a product of texts");
		product = product < 0 ? value.slot :
			program_binary(import->program, MODEL_MULTIPLY, product,
						   value.slot, 1, false);
	}
	if (product < 0)
		pmml_damaged(element, "there are no fields in it");
	(void) new_term(terms, product,
					pmml_parse_number(element,
									  pmml_require(element, "coefficient")));
}

/* The slot of a RegressionTable's sum. */
static int
regression_table(PmmlImport *import, PmmlScope *scope,
				 const PmmlElement *table, bool float32)
{
	Terms		terms = {0};
	double		intercept = pmml_parse_number(table,
											  pmml_require(table, "intercept"));

	for (const PmmlElement *child = table->first; child != NULL;
		 child = child->next)
		if (pmml_is(child, "NumericPredictor"))
			numeric_predictor(import, scope, child, &terms);
		else if (pmml_is(child, "CategoricalPredictor"))
			categorical_predictor(import, scope, child, &terms);
		else if (pmml_is(child, "PredictorTerm"))
			predictor_term(import, scope, child, &terms);
		else if (!pmml_is(child, "Extension"))
			pmml_refuse(child, child->name);
	if (terms.count == 0)
		return pmml_constant(import, intercept);
	return program_add_linear(import->program, terms.terms, terms.count,
							  intercept, float32);
}

/* ---- links ---- */

/* A number after a normalisation method. */
int
pmml_link(PmmlImport *import, const PmmlElement *element, const char *method,
		  int slot)
{
	static const struct
	{
		const char *name;
		ModelOp		op;
	}			methods[] = {
		{"none", MODEL_COPY}, {"logit", MODEL_SIGMOID},
		{"softmax", MODEL_SIGMOID}, {"exp", MODEL_EXP},
		{"probit", MODEL_NORMAL_CDF}, {"cloglog", MODEL_CLOGLOG},
		{"loglog", MODEL_LOGLOG}, {"cauchit", MODEL_CAUCHIT}
	};

	for (int i = 0; i < lengthof(methods); i++)
		if (strcmp(methods[i].name, method) == 0)
			return i == 0 ? slot :
				program_unary(import->program, methods[i].op, slot, 1, false);
	pmml_refuse(element, psprintf("normalizationMethod \"%s\"", method));
}

/* Probabilities of classes from their sums, which are consecutive slots. */
static int
class_link(PmmlImport *import, const PmmlElement *model, const char *method,
		   int first, int count)
{
	ModelProgram *program = import->program;
	int			parts[2];
	double		one = 1;

	if (strcmp(method, "softmax") == 0)
		return program_unary(program, MODEL_SOFTMAX, first, count, false);
	if (strcmp(method, "simplemax") == 0)
		return program_unary(program, MODEL_NORMALIZE_L1, first, count, false);
	if (strcmp(method, "none") == 0 && count > 2)
		return first;
	if (count != 2)
		pmml_refuse(model, psprintf("normalizationMethod \"%s\" of %d classes",
									method, count));
	/* of two classes the second has what the first leaves */
	parts[0] = pmml_link(import, model, method, first);
	parts[1] = program_binary(program, MODEL_SUBTRACT,
							  program_fill(program, &one, 1), parts[0], 1,
							  false);
	return program_move(program, parts, 2);
}

/* ---- RegressionModel ---- */

/*
 * The sums before the link: of two classes what raises the probability of
 * the second.
 */
static void
set_raw(PmmlImport *import, const char *method, int first, const int *classes,
		PmmlResult *result)
{
	int			second = classes[0] == 0 ? first + 1 : first;

	result->raw = first;
	result->raw_count = result->count == 2 ? 1 : result->count;
	if (result->count > 2)
		return;
	if (strcmp(method, "softmax") == 0)
		result->raw = program_binary(import->program, MODEL_SUBTRACT, second,
									 classes[0] == 0 ? first : first + 1, 1,
									 false);
	else if (classes[0] == 0)
		result->raw = program_unary(import->program, MODEL_NEGATE, first, 1,
									false);
}

static void
classify(PmmlImport *import, PmmlScope *scope, const PmmlElement *model,
		 const char *method, bool float32, PmmlResult *result)
{
	int			count = 0;
	int		   *slots;
	int		   *sums;
	double	   *tables;
	double	   *classes;
	int			first;

	result->classification = true;
	result->labels = pmml_class_labels(import, model, &result->count);
	slots = palloc(sizeof(int) * result->count);
	sums = palloc(sizeof(int) * result->count);
	tables = palloc(sizeof(double) * result->count);
	classes = palloc(sizeof(double) * result->count);
	for (const PmmlElement *table = model->first; table != NULL;
		 table = table->next)
	{
		int			class;

		if (!pmml_is(table, "RegressionTable"))
			continue;
		class = pmml_class_number(table, result->labels, result->count,
								  pmml_require(table, "targetCategory"));
		if (count == result->count)
			pmml_damaged(table, "there are more tables than classes");
		sums[count] = regression_table(import, scope, table, float32);
		slots[count++] = class;
	}
	if (count != result->count)
		pmml_refuse(model, "classes without a table");
	first = program_move(import->program, sums, count);
	set_raw(import, method, first, slots, result);
	first = class_link(import, model, method, first, count);
	/* tables may come in another order than classes; the first one wins */
	for (int i = 0; i < count; i++)
	{
		sums[slots[i]] = first + i;
		tables[i] = i;
		classes[i] = slots[i];
	}
	result->first = program_move(import->program, sums, count);
	result->value = program_lookup(import->program,
								   program_unary(import->program,
												 MODEL_ARGMAX, first, count,
												 false), 1, tables, classes,
								   count, NAN, NAN);
}

void
pmml_regression(PmmlImport *import, PmmlScope *scope,
				const PmmlElement *model, PmmlResult *result)
{
	const char *method = pmml_attribute(model, "normalizationMethod");
	const char *context = pmml_attribute(model, "x-mathContext");
	bool		float32 = context != NULL && strcmp(context, "float") == 0;
	const PmmlElement *table = pmml_child(model, "RegressionTable");

	if (method == NULL)
		method = "none";
	if (table == NULL)
		pmml_damaged(model, "there is no RegressionTable");
	if (pmml_is_classification(model))
	{
		classify(import, scope, model, method, float32, result);
		return;
	}
	result->raw = regression_table(import, scope, table, float32);
	result->raw_count = 1;
	result->value = pmml_link(import, model, method, result->raw);
}

/* ---- Scorecard ---- */

/* The points of an Attribute. */
static int
partial_score(PmmlImport *import, PmmlScope *scope,
			  const PmmlElement *attribute)
{
	const PmmlElement *complex = pmml_child(attribute, "ComplexPartialScore");

	if (complex == NULL)
		return pmml_constant(import, pmml_parse_number(attribute,
													   pmml_require(attribute, "partialScore")));
	for (const PmmlElement *child = complex->first; child != NULL;
		 child = child->next)
		if (pmml_is_expression(child))
			return pmml_expression(import, scope, child).slot;
	pmml_damaged(complex, "there is no expression");
}

/* The points of a Characteristic: of the first attribute that is true. */
static int
characteristic(PmmlImport *import, PmmlScope *scope,
			   const PmmlElement *element)
{
	const PmmlElement **attributes;
	int			count = 0;
	int			slot;
	double		one = 1;

	for (const PmmlElement *child = element->first; child != NULL;
		 child = child->next)
		count += pmml_is(child, "Attribute");
	attributes = palloc(sizeof(PmmlElement *) * Max(count, 1));
	count = 0;
	for (const PmmlElement *child = element->first; child != NULL;
		 child = child->next)
		if (pmml_is(child, "Attribute"))
			attributes[count++] = child;
	slot = pmml_constant(import, NAN);
	while (count-- > 0)
		slot = pmml_where(import,
						  program_constant(import->program, MODEL_EQUAL,
										   pmml_predicate(import, scope, pmml_predicate_of(attributes[count])),
										   1, &one, 1, false),
						  partial_score(import, scope, attributes[count]), slot);
	return slot;
}

void
pmml_scorecard(PmmlImport *import, PmmlScope *scope,
			   const PmmlElement *model, PmmlResult *result)
{
	const PmmlElement *list = pmml_child(model, "Characteristics");
	Terms		terms = {0};

	if (list == NULL)
		pmml_damaged(model, "there are no characteristics");
	for (const PmmlElement *child = list->first; child != NULL;
		 child = child->next)
		if (pmml_is(child, "Characteristic"))
			(void) new_term(&terms, characteristic(import, scope, child), 1);
	if (terms.count == 0)
		pmml_damaged(list, "there are no characteristics in it");
	result->value = result->raw =
		program_add_linear(import->program, terms.terms, terms.count,
						   pmml_number(model, "initialScore", 0), false);
	result->raw_count = 1;
}

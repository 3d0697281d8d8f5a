/*-------------------------------------------------------------------------
 *
 * import_pmml_expression.c
 *		Expressions of PMML as steps.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "miscadmin.h"
#include "model/import_pmml.h"

/* ---- shared ---- */

/* A slot with a constant. */
int
pmml_constant(PmmlImport *import, double number)
{
	return program_fill(import->program, &number, 1);
}

/* condition is not 0: yes, else no. */
int
pmml_where(PmmlImport *import, int condition, int yes, int no)
{
	ProgramStep step = {.op = MODEL_WHERE,.count = 1,.a = condition,.b = yes,
	.c = no};

	return program_add_step(import->program, &step);
}

/* A literal as the slot of such a value has it. */
double
pmml_literal(const PmmlElement *element, const PmmlValue *value,
			 const char *text)
{
	if (value->texts != NULL)
	{
		int			code = import_text_code(value->texts, text);

		return code < 0 ? -2 : code;	/* what no slot has */
	}
	if (value->boolean && strcmp(text, "true") == 0)
		return 1;
	if (value->boolean && strcmp(text, "false") == 0)
		return 0;
	return value->float32 ? (float) pmml_parse_number(element, text) :
		pmml_parse_number(element, text);
}

static PmmlValue
number_value(int slot)
{
	PmmlValue	value = {.slot = slot};

	return value;
}

static void
require_number(const PmmlElement *element, const PmmlValue *value)
{
	if (value->texts != NULL)
		pmml_refuse(element, "a text where a number is expected");
}

/* The value, or a replacement where it is missing. */
static PmmlValue
map_missing(PmmlImport *import, const PmmlElement *element,
			const char *attribute, PmmlValue value)
{
	const char *replacement = pmml_attribute(element, attribute);
	double		constants[2] = {NAN, 0};

	if (replacement == NULL)
		return value;
	constants[1] = pmml_literal(element, &value, replacement);
	value.slot = program_constant(import->program, MODEL_IMPUTE, value.slot,
								  1, constants, 2, false);
	return value;
}

/* ---- constants and references ---- */

static PmmlValue
constant(PmmlImport *import, const PmmlElement *element)
{
	const char *type = pmml_attribute(element, "dataType");
	const char *text = element->text == NULL ? "" : element->text;
	char	   *end;
	PmmlValue	value = {0};
	double		number = strtod(text, &end);

	if (pmml_attribute(element, "missing") != NULL &&
		strcmp(pmml_attribute(element, "missing"), "true") == 0)
		number = NAN;
	else if (type != NULL && strcmp(type, "boolean") == 0)
	{
		value.boolean = true;
		number = pmml_literal(element, &value, text);
	}
	else if ((type != NULL && strcmp(type, "string") == 0) ||
			 (type == NULL && (end == text || *end != '\0')))
	{
		value.texts = import_create_texts(-1);
		number = import_text_code(value.texts, text);
	}
	else
		number = pmml_parse_number(element, text);
	value.slot = pmml_constant(import, number);
	return value;
}

/* ---- normalisation ---- */

static PmmlValue
norm_continuous(PmmlImport *import, PmmlScope *scope,
				const PmmlElement *element)
{
	PmmlValue	value = pmml_find_field(import, scope, element,
										pmml_require(element, "field"));
	const char *outliers = pmml_attribute(element, "outliers");
	int			count = 0;
	double	   *constants;
	int			at = 0;

	require_number(element, &value);
	for (PmmlElement *child = element->first; child != NULL;
		 child = child->next)
		count += pmml_is(child, "LinearNorm");
	if (count < 2)
		pmml_damaged(element, "there are fewer than two points");
	constants = palloc(sizeof(double) * 2 * count);
	for (PmmlElement *child = element->first; child != NULL;
		 child = child->next)
		if (pmml_is(child, "LinearNorm"))
		{
			constants[at] = pmml_parse_number(child, pmml_require(child, "orig"));
			constants[count + at] = pmml_parse_number(child, pmml_require(child, "norm"));
			if (at > 0 && !(constants[at] > constants[at - 1]))
				pmml_damaged(child, "the points are not in rising order");
			at++;
		}
	if (outliers != NULL && strcmp(outliers, "asExtremeValues") == 0)
	{
		double		bounds[2] = {constants[0], constants[count - 1]};

		value.slot = program_constant(import->program, MODEL_CLIP, value.slot,
									  1, bounds, 2, false);
	}
	else if (outliers != NULL && strcmp(outliers, "asIs") != 0)
		pmml_refuse(element, psprintf("outliers \"%s\"", outliers));
	value.slot = program_constant(import->program, MODEL_INTERPOLATE,
								  value.slot, 1, constants, 2 * count, false);
	return map_missing(import, element, "mapMissingTo", value);
}

static PmmlValue
norm_discrete(PmmlImport *import, PmmlScope *scope,
			  const PmmlElement *element)
{
	PmmlValue	value = pmml_find_field(import, scope, element,
										pmml_require(element, "field"));
	double		key = pmml_literal(element, &value,
								   pmml_require(element, "value"));
	double		one = 1;

	value = number_value(program_lookup(import->program, value.slot, 1, &key,
										&one, 1, 0, NAN));
	return map_missing(import, element, "mapMissingTo", value);
}

/* ---- discretisation and maps ---- */

/* A value of a result that may be text or number. */
static double
result_literal(PmmlImport *import, const PmmlElement *element,
			   PmmlValue *result, const char *text)
{
	return pmml_literal(element, result, text);
}

/* Are the results numbers?  Else they are texts. */
static void
result_type(const PmmlElement *element, PmmlValue *result)
{
	const char *type = pmml_attribute(element, "dataType");

	memset(result, 0, sizeof(*result));
	if (type == NULL && element->parent != NULL)
		type = pmml_attribute(element->parent, "dataType");
	if (type == NULL || strcmp(type, "string") == 0)
		result->texts = import_create_texts(-1);
	result->boolean = type != NULL && strcmp(type, "boolean") == 0;
}

/* A value's attribute as a slot; NaN if there is none. */
static int
attribute_slot(PmmlImport *import, const PmmlElement *element,
			   const char *name, PmmlValue *result)
{
	const char *text = pmml_attribute(element, name);

	return pmml_constant(import, text == NULL ? NAN :
						 result_literal(import, element, result, text));
}

static PmmlValue
discretize(PmmlImport *import, PmmlScope *scope, const PmmlElement *element)
{
	PmmlValue	value = pmml_find_field(import, scope, element,
										pmml_require(element, "field"));
	PmmlValue	result;
	int			slot;

	require_number(element, &value);
	result_type(element, &result);
	slot = attribute_slot(import, element, "defaultValue", &result);
	for (PmmlElement *bin = element->first; bin != NULL; bin = bin->next)
	{
		PmmlElement *interval;
		const char *closure;
		double		margin[2];
		int			inside;

		if (!pmml_is(bin, "DiscretizeBin"))
			continue;
		interval = pmml_child(bin, "Interval");
		if (interval == NULL)
			pmml_damaged(bin, "there is no interval");
		closure = pmml_require(interval, "closure");
		margin[0] = pmml_number(interval, "leftMargin", -INFINITY);
		margin[1] = pmml_number(interval, "rightMargin", INFINITY);
		inside = program_binary(import->program, MODEL_AND,
								program_constant(import->program,
												 strncmp(closure, "open", 4) == 0 ? MODEL_GREATER : MODEL_GREATER_EQUAL,
												 value.slot, 1, &margin[0], 1, false),
								program_constant(import->program,
												 strstr(closure, "Open") != NULL ? MODEL_LESS : MODEL_LESS_EQUAL,
												 value.slot, 1, &margin[1], 1, false),
								1, false);
		slot = pmml_where(import, inside,
						  pmml_constant(import, result_literal(import, bin, &result, pmml_require(bin, "binValue"))),
						  slot);
	}
	result.slot = pmml_where(import, program_unary(import->program,
												   MODEL_IS_MISSING,
												   value.slot, 1, false),
							 attribute_slot(import, element, "mapMissingTo",
											&result), slot);
	return result;
}

/* The cell of a row of an InlineTable, or NULL. */
static const char *
cell(const PmmlElement *row, const char *column)
{
	const PmmlElement *child = pmml_child(row, column);

	return child == NULL ? NULL : child->text == NULL ? "" : child->text;
}

static PmmlValue
map_values(PmmlImport *import, PmmlScope *scope, const PmmlElement *element)
{
	const PmmlElement *pair = pmml_child(element, "FieldColumnPair");
	const PmmlElement *table = pmml_child(element, "InlineTable");
	const char *output = pmml_require(element, "outputColumn");
	const char *otherwise = pmml_attribute(element, "defaultValue");
	const char *if_missing = pmml_attribute(element, "mapMissingTo");
	PmmlValue	value;
	PmmlValue	result;
	int			count = 0;
	int			allocated = 16;
	double	   *keys = palloc(sizeof(double) * allocated);
	double	   *values = palloc(sizeof(double) * allocated);

	if (pair == NULL || table == NULL)
		pmml_refuse(element, "MapValues without a column pair or inline table");
	for (const PmmlElement *more = pair->next; more != NULL; more = more->next)
		if (pmml_is(more, "FieldColumnPair"))
			pmml_refuse(element, "MapValues of several fields");
	value = pmml_find_field(import, scope, pair, pmml_require(pair, "field"));
	result_type(element, &result);
	for (const PmmlElement *row = table->first; row != NULL; row = row->next)
	{
		const char *key = cell(row, pmml_require(pair, "column"));
		const char *text = cell(row, output);

		if (!pmml_is(row, "row") || key == NULL || text == NULL)
			continue;
		if (count == allocated)
		{
			allocated *= 2;
			keys = repalloc_huge(keys, sizeof(double) * allocated);
			values = repalloc_huge(values, sizeof(double) * allocated);
		}
		keys[count] = pmml_literal(row, &value, key);
		values[count++] = result_literal(import, row, &result, text);
	}
	result.slot = program_lookup(import->program, value.slot, 1, keys, values,
								 count, otherwise == NULL ? NAN :
								 result_literal(import, element, &result, otherwise),
								 if_missing == NULL ? NAN :
								 result_literal(import, element, &result, if_missing));
	return result;
}

/* ---- functions ---- */

typedef struct Function
{
	const char *name;
	int			arguments;		/* -1: one or more */
	ModelOp		op;
} Function;

/* Those that are a step each; a missing argument makes the result missing. */
static const Function arithmetic[] = {
	{"+", 2, MODEL_ADD}, {"-", 2, MODEL_SUBTRACT}, {"*", 2, MODEL_MULTIPLY},
	{"/", 2, MODEL_DIVIDE}, {"pow", 2, MODEL_POWER},
	{"min", -1, MODEL_MINIMUM}, {"max", -1, MODEL_MAXIMUM},
	{"sum", -1, MODEL_ADD}, {"product", -1, MODEL_MULTIPLY},
	{"exp", 1, MODEL_EXP}, {"ln", 1, MODEL_LOG}, {"sqrt", 1, MODEL_SQRT},
	{"abs", 1, MODEL_ABS}, {"floor", 1, MODEL_FLOOR}, {"ceil", 1, MODEL_CEIL},
	{"tanh", 1, MODEL_TANH}, {"ln1p", 1, MODEL_LOG1P},
	{"rint", 1, MODEL_ROUND}, {"stdNormalCDF", 1, MODEL_NORMAL_CDF},
	{"stdNormalIDF", 1, MODEL_NORMAL_QUANTILE}
};

/* Comparisons, whose result is true, false or missing. */
static const Function comparisons[] = {
	{"equal", 2, MODEL_EQUAL}, {"notEqual", 2, MODEL_NOT_EQUAL},
	{"lessThan", 2, MODEL_LESS}, {"lessOrEqual", 2, MODEL_LESS_EQUAL},
	{"greaterThan", 2, MODEL_GREATER},
	{"greaterOrEqual", 2, MODEL_GREATER_EQUAL},
	{"threshold", 2, MODEL_GREATER}
};

#define MAX_ARGUMENTS 64

static const Function *
find_function(const Function *functions, int count, const char *name)
{
	for (int i = 0; i < count; i++)
		if (strcmp(functions[i].name, name) == 0)
			return &functions[i];
	return NULL;
}

/* The result where no argument is missing, else NaN. */
static int
unless_missing(PmmlImport *import, const PmmlValue *arguments, int count,
			   int slot)
{
	int			sum = arguments[0].slot;
	int			missing;

	missing = program_unary(import->program, MODEL_IS_MISSING, sum, 1, false);
	for (int i = 1; i < count; i++)
		missing = program_binary(import->program, MODEL_OR, missing,
								 program_unary(import->program,
											   MODEL_IS_MISSING,
											   arguments[i].slot, 1, false),
								 1, false);
	return pmml_where(import, missing, pmml_constant(import, NAN), slot);
}

/* The second of two texts with the codes of the first. */
static void
align_texts(PmmlImport *import, const PmmlElement *element, PmmlValue *a,
			PmmlValue *b)
{
	double	   *keys;
	double	   *values;
	PmmlValue  *other = b;
	PmmlValue  *base = a;

	if (a->texts == b->texts)
		return;
	if (a->texts == NULL || b->texts == NULL)
		pmml_refuse(element, "a comparison of a text and a number");
	if (a->texts->input < 0)
	{
		other = a;
		base = b;
	}
	if (other->texts->input >= 0)
		pmml_refuse(element, "a comparison of two fields of texts");
	keys = palloc(sizeof(double) * Max(other->texts->count, 1));
	values = palloc(sizeof(double) * Max(other->texts->count, 1));
	for (int i = 0; i < other->texts->count; i++)
	{
		keys[i] = i;
		values[i] = pmml_literal(element, base, other->texts->texts[i]);
	}
	other->slot = program_lookup(import->program, other->slot, 1, keys,
								 values, other->texts->count, -2, NAN);
	other->texts = base->texts;
}

static PmmlValue
logical(PmmlImport *import, const PmmlElement *element, const char *name,
		PmmlValue *arguments, int count)
{
	PmmlValue	result = {.boolean = true};
	double		decides = strcmp(name, "and") == 0 ? 0 : 1;
	int			any = -1;
	int			sum = arguments[0].slot;

	if (strcmp(name, "not") == 0)
	{
		result.slot = unless_missing(import, arguments, 1,
									 program_unary(import->program, MODEL_NOT,
												   sum, 1, false));
		return result;
	}
	for (int i = 0; i < count; i++)
	{
		int			is = program_constant(import->program, MODEL_EQUAL,
										  arguments[i].slot, 1, &decides, 1,
										  false);

		any = any < 0 ? is : program_binary(import->program, MODEL_OR, any,
											is, 1, false);
		if (i > 0)
			sum = program_binary(import->program,
								 decides == 0 ? MODEL_MULTIPLY : MODEL_ADD,
								 sum, arguments[i].slot, 1, false);
	}
	result.slot = pmml_where(import, any, pmml_constant(import, decides), sum);
	return result;
}

/* isIn and isNotIn: is the first argument equal to one of the others? */
static PmmlValue
membership(PmmlImport *import, const PmmlElement *element, bool in,
		   PmmlValue *arguments, int count)
{
	PmmlValue	result = {.boolean = true};
	int			any = pmml_constant(import, 0);

	for (int i = 1; i < count; i++)
	{
		align_texts(import, element, &arguments[0], &arguments[i]);
		any = program_binary(import->program, MODEL_OR, any,
							 program_binary(import->program, MODEL_EQUAL,
											arguments[0].slot,
											arguments[i].slot, 1, false),
							 1, false);
	}
	if (!in)
		any = program_unary(import->program, MODEL_NOT, any, 1, false);
	result.slot = unless_missing(import, arguments, 1, any);
	return result;
}

static PmmlValue
conditional(PmmlImport *import, const PmmlElement *element,
			PmmlValue *arguments, int count)
{
	PmmlValue	result = arguments[1];
	double		one = 1;

	if (count == 3)
		align_texts(import, element, &arguments[1], &arguments[2]);
	result = arguments[1];
	result.slot = pmml_where(import,
							 program_constant(import->program, MODEL_EQUAL,
											  arguments[0].slot, 1, &one, 1,
											  false), arguments[1].slot,
							 count == 3 ? arguments[2].slot :
							 pmml_constant(import, NAN));
	/* a missing condition: neither */
	result.slot = unless_missing(import, arguments, 1, result.slot);
	return result;
}

/* A function of PMML's list applied to arguments. */
static PmmlValue
apply_function(PmmlImport *import, const PmmlElement *element,
			   const char *name, PmmlValue *arguments, int count)
{
	const Function *function = find_function(arithmetic,
											 lengthof(arithmetic), name);
	PmmlValue	result = {0};

	if (function != NULL && count > 0 &&
		(function->arguments < 0 || function->arguments == count))
	{
		for (int i = 0; i < count; i++)
			require_number(element, &arguments[i]);
		result.slot = count == 1 && function->arguments == 1 ?
			program_unary(import->program, function->op, arguments[0].slot, 1,
						  false) : arguments[0].slot;
		for (int i = 1; i < count; i++)
			result.slot = program_binary(import->program, function->op,
										 result.slot, arguments[i].slot, 1,
										 false);
		return result;
	}
	function = find_function(comparisons, lengthof(comparisons), name);
	if (function != NULL && count == 2)
	{
		if (arguments[0].texts != NULL || arguments[1].texts != NULL)
		{
			if (function->op != MODEL_EQUAL && function->op != MODEL_NOT_EQUAL)
				pmml_refuse(element, "an order of texts");
			align_texts(import, element, &arguments[0], &arguments[1]);
		}
		result.boolean = strcmp(name, "threshold") != 0;
		result.slot = unless_missing(import, arguments, 2,
									 program_binary(import->program,
													function->op,
													arguments[0].slot,
													arguments[1].slot, 1,
													false));
		return result;
	}
	if ((strcmp(name, "isMissing") == 0 || strcmp(name, "isNotMissing") == 0) &&
		count == 1)
	{
		result.boolean = true;
		result.slot = program_unary(import->program, MODEL_IS_MISSING,
									arguments[0].slot, 1, false);
		if (strcmp(name, "isNotMissing") == 0)
			result.slot = program_unary(import->program, MODEL_NOT,
										result.slot, 1, false);
		return result;
	}
	if (((strcmp(name, "and") == 0 || strcmp(name, "or") == 0) && count >= 2) ||
		(strcmp(name, "not") == 0 && count == 1))
		return logical(import, element, name, arguments, count);
	if ((strcmp(name, "isIn") == 0 || strcmp(name, "isNotIn") == 0) &&
		count >= 2)
		return membership(import, element, strcmp(name, "isIn") == 0,
						  arguments, count);
	if (strcmp(name, "if") == 0 && (count == 2 || count == 3))
		return conditional(import, element, arguments, count);
	pmml_refuse(element, psprintf("function \"%s\" of %d arguments", name,
								  count));
}

static PmmlValue
apply(PmmlImport *import, PmmlScope *scope, const PmmlElement *element)
{
	PmmlValue	arguments[MAX_ARGUMENTS];
	PmmlValue	result;
	const char *otherwise = pmml_attribute(element, "defaultValue");
	const char *treatment = pmml_attribute(element, "invalidValueTreatment");
	int			count = 0;

	for (PmmlElement *child = element->first; child != NULL;
		 child = child->next)
	{
		if (pmml_is(child, "Extension"))
			continue;
		if (count == MAX_ARGUMENTS)
			pmml_refuse(element, "a function of so many arguments");
		arguments[count++] = pmml_expression(import, scope, child);
	}
	if (treatment != NULL && strcmp(treatment, "returnInvalid") != 0)
		pmml_refuse(element, psprintf("invalidValueTreatment \"%s\"",
									  treatment));
	if (otherwise != NULL)
		pmml_refuse(element, "defaultValue of a function");
	result = apply_function(import, element, pmml_require(element, "function"),
							arguments, count);
	return map_missing(import, element, "mapMissingTo", result);
}

/* ---- all of them ---- */

bool
pmml_is_expression(const PmmlElement *element)
{
	static const char *const names[] = {"FieldRef", "Constant",
		"NormContinuous", "NormDiscrete", "Discretize", "MapValues", "Apply",
		"TextIndex", "Aggregate", "Lag"
	};

	for (int i = 0; i < lengthof(names); i++)
		if (pmml_is(element, names[i]))
			return true;
	return false;
}

PmmlValue
pmml_expression(PmmlImport *import, PmmlScope *scope,
				const PmmlElement *element)
{
	PmmlValue	value;
	const PmmlElement *parent = element->parent;
	const char *type;

	check_stack_depth();
	if (pmml_is(element, "FieldRef"))
	{
		value = pmml_find_field(import, scope, element,
								pmml_require(element, "field"));
		value = map_missing(import, element, "mapMissingTo", value);
	}
	else if (pmml_is(element, "Constant"))
		value = constant(import, element);
	else if (pmml_is(element, "NormContinuous"))
		value = norm_continuous(import, scope, element);
	else if (pmml_is(element, "NormDiscrete"))
		value = norm_discrete(import, scope, element);
	else if (pmml_is(element, "Discretize"))
		value = discretize(import, scope, element);
	else if (pmml_is(element, "MapValues"))
		value = map_values(import, scope, element);
	else if (pmml_is(element, "Apply"))
		value = apply(import, scope, element);
	else
		pmml_refuse(element, psprintf("expression \"%s\"", element->name));
	if (parent == NULL || !pmml_is(parent, "DerivedField") ||
		(type = pmml_attribute(parent, "dataType")) == NULL)
		return value;
	value.float32 = strcmp(type, "float") == 0;
	if (value.texts == NULL && value.float32)
		value.slot = program_unary(import->program, MODEL_COPY, value.slot, 1,
								   true);
	else if (value.texts == NULL && strcmp(type, "integer") == 0 &&
			 !value.boolean)
		value.slot = program_unary(import->program, MODEL_TRUNCATE,
								   value.slot, 1, false);
	else if (value.texts == NULL && strcmp(type, "string") == 0)
		pmml_refuse(parent, "a number as a derived field of texts");
	else if (value.texts != NULL && strcmp(type, "string") != 0)
		pmml_refuse(parent, psprintf("a text as a derived field of %s", type));
	return value;
}

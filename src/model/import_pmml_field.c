/*-------------------------------------------------------------------------
 *
 * import_pmml_field.c
 *		Fields: the data dictionary, mining schemas, derived fields.
 *
 * A field is found in the nearest scope that has it.  Each model opens a
 * scope: its mining schema says how missing and invalid values of a field
 * are treated in it, its local transformations and the outputs of earlier
 * segments add fields.  A derived field becomes steps when it is first used.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "model/import_pmml.h"

PmmlField *
pmml_add_field(PmmlScope *scope, const char *name)
{
	PmmlField  *field = palloc0(sizeof(PmmlField));

	field->name = name;
	field->next = scope->fields;
	scope->fields = field;
	return field;
}

/* The declaration of a field in the data dictionary, or NULL. */
const PmmlElement *
pmml_data_field(const PmmlImport *import, const char *name)
{
	const PmmlElement *dictionary = pmml_child(import->root, "DataDictionary");

	for (const PmmlElement *child = dictionary ? dictionary->first : NULL;
		 child != NULL; child = child->next)
		if (pmml_is(child, "DataField") &&
			strcmp(pmml_require(child, "name"), name) == 0)
			return child;
	return NULL;
}

/* The mining field that is predicted, or NULL. */
const PmmlElement *
pmml_target_field(const PmmlElement *model)
{
	const PmmlElement *schema = pmml_child(model, "MiningSchema");

	for (const PmmlElement *child = schema ? schema->first : NULL;
		 child != NULL; child = child->next)
	{
		const char *usage = pmml_attribute(child, "usageType");

		if (pmml_is(child, "MiningField") && usage != NULL &&
			(strcmp(usage, "target") == 0 || strcmp(usage, "predicted") == 0))
			return child;
	}
	return NULL;
}

/* A field's value; ERROR if there is none. */
PmmlValue
pmml_find_field(PmmlImport *import, PmmlScope *scope,
				const PmmlElement *element, const char *name)
{
	for (PmmlScope *at = scope; at != NULL; at = at->outer)
		for (PmmlField *field = at->fields; field != NULL; field = field->next)
		{
			if (strcmp(field->name, name) != 0)
				continue;
			if (field->refused != NULL)
				pmml_refuse(element, psprintf("field \"%s\" (%s)", name,
											  field->refused));
			if (field->computing)
				pmml_damaged(element, psprintf("field \"%s\" needs itself",
											   name));
			if (field->pending != NULL)
			{
				field->computing = true;
				field->value = pmml_expression(import, at, field->pending);
				field->computing = false;
				field->pending = NULL;
			}
			return field->value;
		}
	pmml_damaged(element, psprintf("there is no field \"%s\"", name));
}

/* ---- derived fields ---- */

/* The expression of a DerivedField. */
static const PmmlElement *
expression_of(const PmmlElement *derived)
{
	for (const PmmlElement *child = derived->first; child != NULL;
		 child = child->next)
		if (pmml_is_expression(child))
			return child;
	pmml_refuse(derived, psprintf("the expression of derived field \"%s\"",
								  pmml_require(derived, "name")));
}

/* Adds the fields of a TransformationDictionary or LocalTransformations. */
void
pmml_add_derived(PmmlImport *import, PmmlScope *scope,
				 const PmmlElement *transformations)
{
	for (const PmmlElement *child = transformations->first; child != NULL;
		 child = child->next)
	{
		PmmlField  *field;

		if (pmml_is(child, "DefineFunction"))
			pmml_refuse(child, "DefineFunction");
		if (!pmml_is(child, "DerivedField"))
			continue;
		field = pmml_add_field(scope, pmml_require(child, "name"));
		field->pending = expression_of(child);
	}
}

/* ---- inputs ---- */

/* Is the field's type one of numbers? */
static bool
is_numeric(const PmmlElement *data)
{
	const char *type = pmml_require(data, "dataType");

	if (strcmp(type, "string") == 0)
		return false;
	if (strcmp(type, "integer") == 0 || strcmp(type, "float") == 0 ||
		strcmp(type, "double") == 0 || strcmp(type, "boolean") == 0)
		return true;
	pmml_refuse(data, psprintf("dataType \"%s\"", type));
}

/* The role of a mining field: is it an input of the model? */
static bool
is_active(const PmmlElement *field)
{
	const char *usage = pmml_attribute(field, "usageType");

	if (!pmml_is(field, "MiningField"))
		return false;
	if (usage == NULL || strcmp(usage, "active") == 0)
		return true;
	if (strcmp(usage, "target") == 0 || strcmp(usage, "predicted") == 0 ||
		strcmp(usage, "supplementary") == 0 ||
		strcmp(usage, "group") == 0 || strcmp(usage, "order") == 0 ||
		strcmp(usage, "frequencyWeight") == 0 ||
		strcmp(usage, "analysisWeight") == 0)
		return false;
	pmml_refuse(field, psprintf("usageType \"%s\"", usage));
}

static void
add_input(PmmlImport *import, PmmlScope *scope, const PmmlElement *data)
{
	const char *name = pmml_require(data, "name");
	int			number = program_input_count(import->program);
	const char *type = pmml_require(data, "dataType");
	ProgramInput input;
	PmmlField  *field = pmml_add_field(scope, name);
	ImportTexts *texts;

	import_input_init(import->source, number, name, &input);
	if (import->collecting)
	{
		import->inputs = number == 0 ? palloc(sizeof(ImportTexts *)) :
			repalloc(import->inputs, sizeof(ImportTexts *) * (number + 1));
		import->inputs[number] = is_numeric(data) ? NULL :
			import_create_texts(number);
		import->input_count = number + 1;
	}
	texts = import->inputs[number];
	if (texts != NULL)
	{
		for (const PmmlElement *value = data->first; value != NULL;
			 value = value->next)
			if (pmml_is(value, "Value"))
				(void) import_text_code(texts, pmml_require(value, "value"));
		input.kind = MODEL_CATEGORY;
		input.categories = (const char *const *) texts->texts;
		input.category_count = texts->count;
	}
	else if (strcmp(type, "float") == 0)
		input.cast = MODEL_FLOAT32;
	field->data = data;
	field->value.slot = program_add_input(import->program, &input);
	field->value.texts = texts;
	field->value.boolean = strcmp(type, "boolean") == 0;
	field->value.float32 = strcmp(type, "float") == 0;
}

/* The fields that the outermost model's schema asks for, in its order. */
void
pmml_add_inputs(PmmlImport *import, PmmlScope *scope,
				const PmmlElement *dictionary, const PmmlElement *schema)
{
	for (const PmmlElement *child = schema->first; child != NULL;
		 child = child->next)
	{
		const char *name;
		const PmmlElement *data;

		if (!is_active(child))
			continue;
		name = pmml_require(child, "name");
		data = pmml_data_field(import, name);
		if (data == NULL)
			pmml_damaged(child, psprintf("there is no data field \"%s\"",
										 name));
		add_input(import, scope, data);
	}
	if (program_input_count(import->program) == 0)
		pmml_refuse(schema, "a model without active fields");
}

/* ---- treatments ---- */

/* Does the data field limit what is valid? */
static bool
has_limits(const PmmlElement *data, const char *name)
{
	for (const PmmlElement *child = data->first; child != NULL;
		 child = child->next)
	{
		const char *property = pmml_attribute(child, "property");

		if (pmml_is(child, name) &&
			(property == NULL || strcmp(property, "valid") == 0))
			return true;
	}
	return false;
}

static int
binary(PmmlImport *import, ModelOp op, int slot, double number)
{
	return program_constant(import->program, op, slot, 1, &number, 1, false);
}

/* 1 where a number is in one of the field's intervals. */
static int
in_intervals(PmmlImport *import, const PmmlElement *data, int slot)
{
	int			any = -1;

	for (const PmmlElement *child = data->first; child != NULL;
		 child = child->next)
	{
		const char *closure;
		double		left;
		double		right;
		int			inside;

		if (!pmml_is(child, "Interval"))
			continue;
		closure = pmml_require(child, "closure");
		left = pmml_number(child, "leftMargin", -INFINITY);
		right = pmml_number(child, "rightMargin", INFINITY);
		inside = program_binary(import->program, MODEL_AND,
								binary(import, strncmp(closure, "open", 4) == 0 ?
									   MODEL_GREATER : MODEL_GREATER_EQUAL,
									   slot, left),
								binary(import, strstr(closure, "Open") != NULL ?
									   MODEL_LESS : MODEL_LESS_EQUAL,
									   slot, right), 1, false);
		any = any < 0 ? inside : program_binary(import->program, MODEL_OR,
												any, inside, 1, false);
	}
	return any;
}

/* The values of a property as numbers or codes. */
static int
listed_values(const PmmlElement *data, const PmmlValue *value,
			  const char *property, double **numbers)
{
	int			count = 0;
	int			allocated = 8;

	*numbers = palloc(sizeof(double) * allocated);
	for (const PmmlElement *child = data->first; child != NULL;
		 child = child->next)
	{
		const char *given = pmml_attribute(child, "property");

		if (!pmml_is(child, "Value") ||
			strcmp(given ? given : "valid", property) != 0)
			continue;
		if (count == allocated)
			*numbers = repalloc(*numbers, sizeof(double) * (allocated *= 2));
		(*numbers)[count++] = pmml_literal(child, value,
										   pmml_require(child, "value"));
	}
	return count;
}

/*
 * 1 where the field's value is valid, 0 where it is not; NaN where it is
 * missing.  -1: every value is valid.
 */
static int
validity(PmmlImport *import, const PmmlElement *data, const PmmlValue *value)
{
	double	   *listed;
	double	   *ones;
	int			count;

	if (has_limits(data, "Interval"))
		return pmml_where(import,
						  program_unary(import->program, MODEL_IS_MISSING,
										value->slot, 1, false),
						  pmml_constant(import, NAN),
						  in_intervals(import, data, value->slot));
	if (!has_limits(data, "Value"))
		return -1;
	count = listed_values(data, value, "valid", &listed);
	ones = palloc(sizeof(double) * count);
	for (int i = 0; i < count; i++)
		ones[i] = 1;
	return program_lookup(import->program, value->slot, 1, listed, ones,
						  count, 0, NAN);
}

/* What the dictionary calls missing becomes missing. */
static void
mark_missing(PmmlImport *import, const PmmlElement *data, PmmlValue *value)
{
	double	   *listed;
	int			count = listed_values(data, value, "missing", &listed);

	for (int i = 0; i < count; i++)
		value->slot = pmml_where(import,
								 binary(import, MODEL_EQUAL, value->slot,
										listed[i]),
								 pmml_constant(import, NAN), value->slot);
	if (listed_values(data, value, "invalid", &listed) > 0)
		pmml_refuse(data, "a value with property \"invalid\"");
}

static void
add_invalid(PmmlImport *import, int slot)
{
	import->invalid = import->invalid == NULL ? palloc(sizeof(int)) :
		repalloc(import->invalid, sizeof(int) * (import->invalid_count + 1));
	import->invalid[import->invalid_count++] = slot;
}

/* invalidValueTreatment. */
static void
treat_invalid(PmmlImport *import, const PmmlElement *field,
			  const PmmlElement *data, PmmlValue *value)
{
	const char *treatment = pmml_attribute(field, "invalidValueTreatment");
	int			valid;

	if (treatment != NULL && strcmp(treatment, "asIs") == 0)
		return;
	valid = validity(import, data, value);
	if (valid < 0)
		return;
	if (treatment == NULL || strcmp(treatment, "returnInvalid") == 0)
		add_invalid(import, binary(import, MODEL_EQUAL, valid, 0));
	else if (strcmp(treatment, "asMissing") == 0)
		value->slot = pmml_where(import, binary(import, MODEL_EQUAL, valid, 0),
								 pmml_constant(import, NAN), value->slot);
	else
		pmml_refuse(field, psprintf("invalidValueTreatment \"%s\"",
									treatment));
}

/* outliers. */
static void
treat_outliers(PmmlImport *import, const PmmlElement *field, PmmlValue *value)
{
	const char *treatment = pmml_attribute(field, "outliers");
	double		bounds[2];

	if (treatment == NULL || strcmp(treatment, "asIs") == 0)
		return;
	bounds[0] = pmml_number(field, "lowValue", -INFINITY);
	bounds[1] = pmml_number(field, "highValue", INFINITY);
	if (strcmp(treatment, "asExtremeValues") != 0)
		pmml_refuse(field, psprintf("outliers \"%s\"", treatment));
	value->slot = program_constant(import->program, MODEL_CLIP, value->slot,
								   1, bounds, 2, false);
}

/* missingValueReplacement and missingValueTreatment. */
static void
treat_missing(PmmlImport *import, const PmmlElement *field, PmmlValue *value)
{
	const char *replacement = pmml_attribute(field, "missingValueReplacement");
	const char *treatment = pmml_attribute(field, "missingValueTreatment");
	double		constants[2] = {NAN, 0};

	if (treatment != NULL && strcmp(treatment, "returnInvalid") == 0)
	{
		add_invalid(import, program_unary(import->program, MODEL_IS_MISSING,
										  value->slot, 1, false));
		return;
	}
	if (replacement == NULL)
		return;
	constants[1] = pmml_literal(field, value, replacement);
	value->slot = program_constant(import->program, MODEL_IMPUTE, value->slot,
								   1, constants, 2, false);
}

/* The fields of an outer scope as a model's schema treats them. */
void
pmml_apply_schema(PmmlImport *import, PmmlScope *scope,
				  const PmmlElement *schema)
{
	for (const PmmlElement *child = schema->first; child != NULL;
		 child = child->next)
	{
		const char *name;
		PmmlValue	value;
		const PmmlElement *data = NULL;
		PmmlField  *field;

		if (!is_active(child))
			continue;
		name = pmml_require(child, "name");
		value = pmml_find_field(import, scope->outer, child, name);
		if (import->depth <= 1)
			data = pmml_data_field(import, name);
		if (data != NULL)
			mark_missing(import, data, &value);
		if (data != NULL)
			treat_invalid(import, child, data, &value);
		treat_outliers(import, child, &value);
		treat_missing(import, child, &value);
		field = pmml_add_field(scope, name);
		field->value = value;
	}
}

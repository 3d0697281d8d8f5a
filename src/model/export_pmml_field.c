/*-------------------------------------------------------------------------
 *
 * export_pmml_field.c
 *		Fields and expressions of a PMML document being written.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "common/shortest_dec.h"
#include "model/export_pmml.h"

/* ---- text ---- */

/* Raises feature_not_supported. */
void
pmml_refuse_export(const char *what)
{
	core_not_supported(psprintf("exporting %s to PMML", what),
					   "Use format => 'visage'.");
}

/* A text as XML has it, in an attribute or between tags. */
char *
pmml_text(const char *text)
{
	StringInfoData escaped;

	initStringInfo(&escaped);
	for (const char *at = text; *at != '\0'; at++)
		if (*at == '&')
			appendStringInfoString(&escaped, "&amp;");
		else if (*at == '<')
			appendStringInfoString(&escaped, "&lt;");
		else if (*at == '>')
			appendStringInfoString(&escaped, "&gt;");
		else if (*at == '"')
			appendStringInfoString(&escaped, "&quot;");
		else if (*at == '\t' || *at == '\n' || *at == '\r')
			appendStringInfo(&escaped, "&#%d;", *at);
		else if ((unsigned char) *at < ' ')
			pmml_refuse_export("a name or category with a control character");
		else
			appendStringInfoChar(&escaped, *at);
	return escaped.data;
}

/* The shortest digits that mean this number; as XML Schema writes it. */
char *
pmml_double(double number)
{
	char		digits[DOUBLE_SHORTEST_DECIMAL_LEN];

	if (isinf(number))
		return pstrdup(number < 0 ? "-INF" : "INF");
	double_to_shortest_decimal_buf(number, digits);
	return pstrdup(digits);
}

/* ---- slots ---- */

/* The step that a slot comes from, or NULL for an input. */
const ModelStep *
pmml_step_of(const PmmlDocument *document, uint32 slot)
{
	uint32		writer = document->writers[slot];

	return writer == MODEL_NONE ? NULL : &document->steps[writer];
}

/* Follows the steps that only move a slot. */
PmmlSource
pmml_source(const PmmlDocument *document, uint32 slot)
{
	PmmlSource	source = {.slot = slot};
	const ModelInput *input;
	const ModelStep *step;

	while ((step = pmml_step_of(document, source.slot)) != NULL)
	{
		if (step->op != MODEL_MOVE && step->op != MODEL_MISSING_TO_LOW)
			return source;
		source.low |= step->op == MODEL_MISSING_TO_LOW;
		source.slot = MODEL_AT(document->image, uint32,
							   step->data)[source.slot - step->out];
	}
	input = &model_inputs(document->image)[source.slot];
	if (input->kind == MODEL_CATEGORY)
		source.category = input;
	return source;
}

/* A name for a slot that no input has. */
static char *
new_name(const PmmlDocument *document, const char *what, uint32 slot)
{
	return psprintf("%s%s%u", document->prefix, what, slot);
}

/* Adds a field to the dictionary, or to those that follow from a model. */
static void
add_named(PmmlDocument *document, const char *name, const char *expression,
		  bool single, bool late)
{
	appendStringInfo(late ? &document->local : &document->common,
					 "<DerivedField name=\"%s\" optype=\"continuous\""
					 " dataType=\"%s\">%s</DerivedField>\n", name,
					 single ? "float" : "double", expression);
}

/* Makes a slot a field that is computed; late: from a model's answer. */
void
pmml_set_field(PmmlDocument *document, uint32 slot, const char *expression,
			   bool single, bool late)
{
	document->fields[slot] = new_name(document, "v", slot);
	document->single[slot] = single;
	document->late[slot] = late;
	add_named(document, document->fields[slot], expression, single, late);
}

/* A field for a part of a computation. */
char *
pmml_extra_name(PmmlDocument *document, const char *expression, bool late)
{
	char	   *name = new_name(document, "part", document->extras++);

	document->uses_late |= late;
	add_named(document, name, expression, false, late);
	return name;
}

/* A reference to such a field. */
char *
pmml_extra(PmmlDocument *document, const char *expression, bool late)
{
	return psprintf("<FieldRef field=\"%s\"/>",
					pmml_extra_name(document, expression, late));
}

/*
 * The field of a slot, which is marked as used.  Of a text it is its code.
 */
const char *
pmml_field(PmmlDocument *document, uint32 slot)
{
	PmmlSource	source = pmml_source(document, slot);
	const ModelInput *input = source.category;

	if (source.low)
		pmml_refuse_export("missing values that count as low outside of trees");
	document->used[source.slot] = true;
	if (input == NULL)
		return document->fields[source.slot];
	if (document->whole[source.slot] == NULL)
	{
		double	   *codes = palloc(sizeof(double) *
								   Max(input->category_count, 1));

		for (uint32 i = 0; i < input->category_count; i++)
			codes[i] = i;
		document->whole[source.slot] = new_name(document, "code", source.slot);
		add_named(document, document->whole[source.slot],
				  pmml_category_map(document, input, codes, input->unseen,
									input->missing), false, false);
	}
	return document->whole[source.slot];
}

/* The field of a number cut to an integer; negative: towards zero. */
const char *
pmml_whole_field(PmmlDocument *document, uint32 slot, bool negative)
{
	uint32		from = pmml_source(document, slot).slot;
	char	   *x = pmml_ref(document, slot);
	char	   *whole = pmml_apply("floor", x, NULL, NULL);

	if (document->late[from])
		pmml_refuse_export("a set of numbers that a model gives");
	if (document->whole[from] == NULL)
	{
		if (negative)
			whole = pmml_apply("if",
							   pmml_apply("lessThan", x, pmml_constant_of(0), NULL),
							   pmml_apply("ceil", x, NULL, NULL), whole);
		document->whole[from] = new_name(document, "whole", from);
		add_named(document, document->whole[from], whole, false, false);
	}
	return document->whole[from];
}

/* ---- models ---- */

/* Forgets what an earlier model used. */
void
pmml_begin_schema(PmmlDocument *document)
{
	memset(document->used, 0, sizeof(bool) * document->image->slot_count);
	document->uses_late = false;
}

/* Marks the inputs that a used field is derived from. */
static void
use_origins(PmmlDocument *document)
{
	const ModelImage *image = document->image;
	const uint32 *origins = MODEL_AT(image, uint32, image->origins);
	bool		all = false;

	for (uint32 i = image->input_count; i < image->slot_count; i++)
	{
		if (!document->used[i])
			continue;
		if (document->late[i])
			document->uses_late = true;
		else if (origins[i] != MODEL_NONE)
			document->used[origins[i]] = true;
		else
			all = true;
	}
	/* a field behind models may read any input, too */
	all |= document->uses_late && document->local.len > 0;
	for (uint32 i = 0; i < image->input_count && all; i++)
		document->used[i] = true;
}

/* The MiningSchema of a model within the document: what it used. */
char *
pmml_schema(PmmlDocument *document)
{
	const ModelImage *image = document->image;
	StringInfoData schema;
	bool		any = false;

	use_origins(document);
	initStringInfo(&schema);
	appendStringInfoString(&schema, "<MiningSchema>");
	for (uint32 i = 0; i < image->input_count; i++)
		if (document->used[i])
		{
			any = true;
			appendStringInfo(&schema, "<MiningField name=\"%s\"/>",
							 document->names[i]);
		}
	if (document->uses_late)
		appendStringInfoString(&schema, document->answers.data);
	else if (!any)
		appendStringInfo(&schema, "<MiningField name=\"%s\"/>",
						 image->input_count > 0 ? document->names[0] :
						 document->target);
	appendStringInfoString(&schema, "</MiningSchema>\n");
	return schema.data;
}

/* Gives a model its schema, and the fields that it may need. */
void
pmml_set_schema(PmmlDocument *document, PmmlSegment *segment, char *schema)
{
	segment->schema = schema;
	if (document->uses_late && document->local.len > 0)
		segment->local = pstrdup(document->local.data);
}

/* A model's answer as a field for the models behind it. */
void
pmml_add_answer(PmmlDocument *document, PmmlSegment *segment,
				const char *name, bool single)
{
	appendStringInfo(&segment->outputs,
					 "<OutputField name=\"%s\" optype=\"continuous\""
					 " dataType=\"%s\" feature=\"predictedValue\"/>\n", name,
					 single ? "float" : "double");
	appendStringInfo(&document->answers, "<MiningField name=\"%s\"/>", name);
}

/* Begins a model that is to be a segment, or the only one. */
PmmlSegment *
pmml_add_segment(PmmlDocument *document, const char *element)
{
	PmmlSegment *segment;

	document->segments = document->segments == NULL ?
		palloc(sizeof(PmmlSegment)) :
		repalloc_huge(document->segments, sizeof(PmmlSegment) *
					  (document->segment_count + 1));
	segment = &document->segments[document->segment_count++];
	segment->element = element;
	segment->attributes = "";
	segment->schema = "";
	segment->local = NULL;
	initStringInfo(&segment->outputs);
	initStringInfo(&segment->body);
	return segment;
}

/* ---- expressions ---- */

/* Is the slot a constant? */
static bool
is_constant(const PmmlDocument *document, uint32 slot, double *number)
{
	uint32		from = pmml_source(document, slot).slot;
	const ModelStep *step = pmml_step_of(document, from);

	if (step == NULL || step->op != MODEL_FILL)
		return false;
	*number = MODEL_AT(document->image, double, step->data)[from - step->out];
	return true;
}

/* Is the slot always a missing value? */
bool
pmml_is_missing(const PmmlDocument *document, uint32 slot)
{
	double		number;

	return is_constant(document, slot, &number) && isnan(number);
}

/* A reference to a slot's field, or the constant that it is. */
char *
pmml_ref(PmmlDocument *document, uint32 slot)
{
	double		number;

	if (is_constant(document, slot, &number))
		return pmml_constant_of(number);
	return psprintf("<FieldRef field=\"%s\"/>", pmml_field(document, slot));
}

/* A constant; NaN is a missing value. */
char *
pmml_constant_of(double number)
{
	if (isnan(number))
		return pstrdup("<Constant dataType=\"double\" missing=\"true\"/>");
	return psprintf("<Constant dataType=\"double\">%s</Constant>",
					pmml_double(number));
}

/* A function of up to three arguments. */
char *
pmml_apply(const char *function, const char *a, const char *b, const char *c)
{
	return psprintf("<Apply function=\"%s\">%s%s%s</Apply>", function, a,
					b == NULL ? "" : b, c == NULL ? "" : c);
}

/* The same of two, with what it is where an argument is missing. */
char *
pmml_apply_or(const char *function, const char *if_missing, const char *a,
			  const char *b)
{
	return psprintf("<Apply function=\"%s\" mapMissingTo=\"%s\">%s%s</Apply>",
					function, if_missing, a, b == NULL ? "" : b);
}

/* 1 where a condition holds, else 0. */
char *
pmml_number_if(const char *condition)
{
	return pmml_apply("if", condition, pmml_constant_of(1),
					  pmml_constant_of(0));
}

/* A number for each category of a text, in the order of their codes. */
char *
pmml_category_map(const PmmlDocument *document, const ModelInput *input,
				  const double *values, double unseen, double missing)
{
	const ModelCategory *categories = MODEL_AT(document->image, ModelCategory,
											   input->categories);
	const char *name = pmml_text(model_string(document->image, input->name));
	StringInfoData map;

	initStringInfo(&map);
	appendStringInfoString(&map,
						   "<MapValues outputColumn=\"number\" dataType=\"double\"");
	if (!isnan(unseen))
		appendStringInfo(&map, " defaultValue=\"%s\"", pmml_double(unseen));
	if (!isnan(missing))
		appendStringInfo(&map, " mapMissingTo=\"%s\"", pmml_double(missing));
	appendStringInfo(&map, "><FieldColumnPair field=\"%s\" column=\"text\"/>"
					 "<InlineTable>", name);
	for (uint32 i = 0; i < input->category_count; i++)
		if (isnan(values[categories[i].code]) && !isnan(unseen))
			pmml_refuse_export("a category that counts as missing");
		else if (values[categories[i].code] != unseen &&
				 !isnan(values[categories[i].code]))
			appendStringInfo(&map,
							 "<row><text>%s</text><number>%s</number></row>",
							 pmml_text(model_string(document->image,
													categories[i].text)),
							 pmml_double(values[categories[i].code]));
	appendStringInfoString(&map, "</InlineTable></MapValues>");
	return map.data;
}

/* A bin of a Discretize; infinite margins are left out. */
void
pmml_bin(StringInfo bins, double value, const char *closure, double left,
		 double right)
{
	appendStringInfo(bins, "<DiscretizeBin binValue=\"%s\"><Interval"
					 " closure=\"%s\"", pmml_double(value), closure);
	if (!isinf(left))
		appendStringInfo(bins, " leftMargin=\"%s\"", pmml_double(left));
	if (!isinf(right))
		appendStringInfo(bins, " rightMargin=\"%s\"", pmml_double(right));
	appendStringInfoString(bins, "/></DiscretizeBin>");
}

/* A number for each interval, for the others and for a missing value. */
char *
pmml_discretize(const char *field, double other, double missing,
				const char *bins)
{
	StringInfoData result;

	initStringInfo(&result);
	appendStringInfo(&result, "<Discretize field=\"%s\" dataType=\"double\"",
					 field);
	if (!isnan(other))
		appendStringInfo(&result, " defaultValue=\"%s\"", pmml_double(other));
	if (!isnan(missing))
		appendStringInfo(&result, " mapMissingTo=\"%s\"", pmml_double(missing));
	appendStringInfo(&result, ">%s</Discretize>", bins);
	return result.data;
}

/*-------------------------------------------------------------------------
 *
 * export_pmml.c
 *		A model as a PMML 4.4 document: the document's frame.
 *
 * The frame is the dictionary of the data, the schema of the whole, fields
 * derived from the data alone, and around the models, where they are several,
 * a chain with a segment for each.  The last model gives the answer: see
 * export_pmml_answer.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <float.h>
#include <math.h>

#include "miscadmin.h"
#include "model/export_pmml.h"
#include "utils/memutils.h"

/* ---- inputs ---- */

static void
write_input(const PmmlDocument *document, StringInfo out, uint32 number)
{
	const ModelInput *input = &model_inputs(document->image)[number];
	const ModelCategory *categories = MODEL_AT(document->image, ModelCategory,
											   input->categories);
	bool		single = input->cast == MODEL_FLOAT32;
	char	   *most = pmml_double(single ? FLT_MAX : DBL_MAX);

	if (input->kind == MODEL_CATEGORY)
	{
		appendStringInfo(out, "<DataField name=\"%s\" optype=\"categorical\""
						 " dataType=\"string\">", document->names[number]);
		for (uint32 i = 0; (input->flags & MODEL_REFUSE_UNSEEN) &&
			 i < input->category_count; i++)
			appendStringInfo(out, "<Value value=\"%s\"/>",
							 pmml_text(model_string(document->image, categories[i].text)));
	}
	else
	{
		appendStringInfo(out, "<DataField name=\"%s\" optype=\"continuous\""
						 " dataType=\"%s\">", document->names[number],
						 single ? "float" : "double");
		if (input->flags & MODEL_INFINITE_IS_MISSING)
			appendStringInfo(out, "<Interval closure=\"closedClosed\""
							 " leftMargin=\"-%s\" rightMargin=\"%s\"/>", most, most);
		if (!isnan(input->marker))
			appendStringInfo(out, "<Value value=\"%s\" property=\"missing\"/>",
							 pmml_double(input->marker));
	}
	appendStringInfoString(out, "</DataField>\n");
}

static char *
write_dictionary(const PmmlDocument *document)
{
	const ModelImage *image = document->image;
	bool		classes = document->classes;
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfo(&out, "<DataDictionary numberOfFields=\"%u\">\n"
					 "<DataField name=\"%s\" optype=\"%s\" dataType=\"%s\">",
					 image->input_count + 1, document->target,
					 classes ? "categorical" : "continuous",
					 classes ? "string" : "double");
	for (uint32 i = 0; classes && i < image->output_count; i++)
		appendStringInfo(&out, "<Value value=\"%s\"/>",
						 pmml_label(document, i));
	appendStringInfoString(&out, "</DataField>\n");
	for (uint32 i = 0; i < image->input_count; i++)
		write_input(document, &out, i);
	appendStringInfoString(&out, "</DataDictionary>\n");
	return out.data;
}

/* The schema of the whole: inputs in their order, and how each is treated. */
static char *
write_schema(const PmmlDocument *document)
{
	const ModelImage *image = document->image;
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfo(&out, "<MiningSchema>\n"
					 "<MiningField name=\"%s\" usageType=\"target\"/>\n",
					 document->target);
	for (uint32 i = 0; i < image->input_count; i++)
	{
		const ModelInput *input = &model_inputs(image)[i];
		bool		text = input->kind == MODEL_CATEGORY;

		appendStringInfo(&out, "<MiningField name=\"%s\"", document->names[i]);
		if (input->flags & MODEL_REFUSE_MISSING)
			appendStringInfoString(&out, " missingValueTreatment=\"returnInvalid\"");
		else if (!text && !isnan(input->missing))
			appendStringInfo(&out, " missingValueReplacement=\"%s\"",
							 pmml_double(input->missing));
		if (text && !(input->flags & MODEL_REFUSE_UNSEEN))
			appendStringInfoString(&out, " invalidValueTreatment=\"asIs\"");
		else if (input->flags & MODEL_INFINITE_IS_MISSING)
			appendStringInfoString(&out, " invalidValueTreatment=\"asMissing\"");
		appendStringInfoString(&out, "/>\n");
	}
	appendStringInfoString(&out, "</MiningSchema>\n");
	return out.data;
}

/* ---- the document ---- */

/* Is that the beginning of an input's name? */
static bool
is_taken(const ModelImage *image, const char *name)
{
	for (uint32 i = 0; i < image->input_count; i++)
		if (strncmp(model_string(image, model_inputs(image)[i].name), name,
					strlen(name)) == 0)
			return true;
	return false;
}

/* Names that no input has, and those of the inputs themselves. */
static void
choose_names(PmmlDocument *document)
{
	const ModelImage *image = document->image;
	char	   *prefix = "_";

	while (is_taken(image, prefix))
		prefix = psprintf("%s_", prefix);
	document->prefix = prefix;
	document->target = psprintf("%starget", prefix);
	if (image->task != MODEL_CLASSIFICATION && image->output_count == 1 &&
		!is_taken(image, model_output_name(image, 0)))
		document->target = pmml_label(document, 0);
	for (uint32 i = 0; i < image->input_count; i++)
	{
		const ModelInput *input = &model_inputs(image)[i];

		document->names[i] = document->fields[i] =
			pmml_text(model_string(image, input->name));
		document->single[i] = input->kind == MODEL_NUMERIC &&
			input->cast == MODEL_FLOAT32;
	}
}

static void *
for_each_slot(const ModelImage *image, Size width)
{
	return palloc_extended(width * Max(image->slot_count, 1),
						   MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
}

static PmmlDocument
begin_document(const ModelImage *image)
{
	PmmlDocument document = {.image = image,
	.steps = MODEL_AT(image, ModelStep, image->steps)};

	document.writers = for_each_slot(image, sizeof(uint32));
	document.needed = for_each_slot(image, sizeof(bool));
	document.fields = for_each_slot(image, sizeof(char *));
	document.names = for_each_slot(image, sizeof(char *));
	document.whole = for_each_slot(image, sizeof(char *));
	document.late = for_each_slot(image, sizeof(bool));
	document.single = for_each_slot(image, sizeof(bool));
	document.used = for_each_slot(image, sizeof(bool));
	for (uint32 i = 0; i < image->slot_count; i++)
		document.writers[i] = MODEL_NONE;
	for (uint32 i = 0; i < image->step_count; i++)
		for (uint32 j = 0; j < document.steps[i].count; j++)
			document.writers[document.steps[i].out + j] = i;
	initStringInfo(&document.common);
	initStringInfo(&document.local);
	initStringInfo(&document.answers);
	choose_names(&document);
	return document;
}

/* A number that is cut to an integer is a field of its own. */
static void
cut_integers(PmmlDocument *document)
{
	for (uint32 i = 0; i < document->image->input_count; i++)
	{
		const ModelInput *input = &model_inputs(document->image)[i];

		if (input->kind == MODEL_NUMERIC && input->cast == MODEL_INTEGER &&
			document->needed[i])
			document->fields[i] = (char *) pmml_whole_field(document, i, true);
	}
}

/* A model with its schema, outputs and content. */
static void
write_model(StringInfo out, const PmmlSegment *segment, const char *schema)
{
	appendStringInfo(out, "<%s%s>\n%s", segment->element, segment->attributes,
					 schema);
	if (segment->outputs.len > 0)
		appendStringInfo(out, "<Output>\n%s</Output>\n", segment->outputs.data);
	if (segment->local != NULL)
		appendStringInfo(out, "<LocalTransformations>\n%s"
						 "</LocalTransformations>\n", segment->local);
	appendBinaryStringInfo(out, segment->body.data, segment->body.len);
	appendStringInfo(out, "</%s>\n", segment->element);
}

/* The models: one, or a chain. */
static void
write_models(const PmmlDocument *document, StringInfo out)
{
	const char *schema = write_schema(document);

	if (document->segment_count == 1)
	{
		write_model(out, &document->segments[0], schema);
		return;
	}
	appendStringInfo(out, "<MiningModel functionName=\"%s\">\n%s"
					 "<Segmentation multipleModelMethod=\"modelChain\">\n",
					 document->classes ? "classification" : "regression",
					 schema);
	for (int i = 0; i < document->segment_count; i++)
	{
		const PmmlSegment *segment = &document->segments[i];
		char	   *inner = segment->schema;

		if (i + 1 == document->segment_count)
			inner = psprintf("<MiningSchema><MiningField name=\"%s\""
							 " usageType=\"target\"/>%s", document->target,
							 inner + strlen("<MiningSchema>"));
		appendStringInfo(out, "<Segment id=\"m%d\"><True/>\n", i + 1);
		write_model(out, segment, inner);
		appendStringInfoString(out, "</Segment>\n");
	}
	appendStringInfoString(out, "</Segmentation>\n</MiningModel>\n");
}

bytea *
export_pmml(const ModelImage *image)
{
	PmmlDocument document = begin_document(image);
	PmmlAnswer	answer = pmml_find_answer(&document);
	StringInfoData out;
	bytea	   *result;

	pmml_need_answer(&document, &answer);
	cut_integers(&document);
	for (uint32 i = 0; i < image->step_count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		pmml_export_step(&document, &document.steps[i]);
	}
	if (!answer.trees || document.segment_count != 1 ||
		document.local.len > 0)
		pmml_write_answer(&document, &answer);
	initStringInfo(&out);
	appendStringInfo(&out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
					 "<PMML xmlns=\"http://www.dmg.org/PMML-4_4\" version=\"4.4\">\n"
					 "<Header><Application name=\"Visage\" version=\"%s\"/></Header>\n%s",
					 VISAGE_VERSION, write_dictionary(&document));
	if (document.common.len > 0)
		appendStringInfo(&out, "<TransformationDictionary>\n%s"
						 "</TransformationDictionary>\n", document.common.data);
	write_models(&document, &out);
	appendStringInfoString(&out, "</PMML>\n");
	result = palloc(VARHDRSZ + out.len);
	SET_VARSIZE(result, VARHDRSZ + out.len);
	memcpy(VARDATA(result), out.data, out.len);
	return result;
}

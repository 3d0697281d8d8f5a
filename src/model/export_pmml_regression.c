/*-------------------------------------------------------------------------
 *
 * export_pmml_regression.c
 *		Tables of PMML's RegressionModel.
 *
 * A linear step becomes the terms of a RegressionTable; any other slot is the
 * only term of one, or its intercept where it is a constant.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "model/export_pmml.h"

/* Is a slot of this step a sum of terms?  One of no step, an input, is not. */
bool
pmml_is_linear(const ModelStep *step)
{
	return step != NULL &&
		(step->op == MODEL_LINEAR || step->op == MODEL_MATMUL);
}

/* ---- tables ---- */

bool
pmml_table_is_single(const PmmlDocument *document, uint32 slot)
{
	const ModelStep *step = pmml_step_of(document, slot);

	return pmml_is_linear(step) && (step->flags & MODEL_IN_FLOAT32);
}

static void
predictor(StringInfo body, const char *field, int exponent,
		  double coefficient)
{
	appendStringInfo(body, "<NumericPredictor name=\"%s\"", field);
	if (exponent != 1)
		appendStringInfo(body, " exponent=\"%d\"", exponent);
	appendStringInfo(body, " coefficient=\"%s\"/>\n", pmml_double(coefficient));
}

/* A term that a table gives for each category of a text. */
static void
category_term(PmmlDocument *document, StringInfo body, const ModelTerm *term,
			  const PmmlSource *source)
{
	const ModelImage *image = document->image;
	const ModelInput *input = source->category;
	const ModelCategory *categories = MODEL_AT(image, ModelCategory,
											   input->categories);
	const double *table = MODEL_AT(image, double, term->table);
	double	   *values = palloc(sizeof(double) * (input->category_count + 2));

	for (uint32 i = 0; i < input->category_count + 2; i++)
	{
		double		code = i < input->category_count ? i :
		i == input->category_count ? input->unseen : input->missing;

		values[i] = isnan(code) ? term->missing :
			code >= 0 && code < term->table_count ? table[(uint32) code] :
			term->unseen;
	}
	document->used[source->slot] = true;
	if (values[input->category_count] != 0 ||
		values[input->category_count + 1] != 0)
	{
		/* a CategoricalPredictor adds nothing for any other text */
		predictor(body,
				  pmml_extra_name(document,
								  pmml_category_map(document, input, values,
													values[input->category_count],
													values[input->category_count + 1]),
								  false), 1, 1);
		return;
	}
	for (uint32 i = 0; i < input->category_count; i++)
		if (values[categories[i].code] != 0)
			appendStringInfo(body,
							 "<CategoricalPredictor name=\"%s\" value=\"%s\""
							 " coefficient=\"%s\"/>\n",
							 document->fields[source->slot],
							 pmml_text(model_string(image, categories[i].text)),
							 pmml_double(values[categories[i].code]));
}

/* A term that a table gives for each code that is a number. */
static char *
table_expression(const PmmlDocument *document, const ModelTerm *term,
				 const char *field)
{
	const double *table = MODEL_AT(document->image, double, term->table);
	StringInfoData bins;

	initStringInfo(&bins);
	for (uint32 i = 0; i < term->table_count; i++)
		pmml_bin(&bins, table[i], "closedOpen", i, i + 1);
	if (!isnan(term->unseen))
	{
		pmml_bin(&bins, term->unseen, "openOpen", -INFINITY, 0);
		pmml_bin(&bins, term->unseen, "closedOpen", term->table_count,
				 INFINITY);
	}
	return pmml_discretize(field, term->unseen, term->missing, bins.data);
}

/* coefficient * (x - center) ^ exponent, with what a missing x adds. */
static void
number_term(PmmlDocument *document, StringInfo body, const ModelTerm *term)
{
	bool		late = document->late[pmml_source(document, term->slot).slot];
	const char *field = pmml_field(document, term->slot);
	char	   *x = psprintf("<FieldRef field=\"%s\"/>", field);

	if (term->table != 0)
	{
		predictor(body, pmml_extra_name(document,
										table_expression(document, term, field), late), 1, 1);
		return;
	}
	if (term->center == 0 && isnan(term->missing))
	{
		predictor(body, field, term->exponent, term->coefficient);
		return;
	}
	if (term->center != 0)
		x = pmml_apply("-", x, pmml_constant_of(term->center), NULL);
	if (term->exponent != 1)
		x = pmml_apply("pow", x, pmml_constant_of(term->exponent), NULL);
	if (isnan(term->missing))
		x = pmml_apply("*", pmml_constant_of(term->coefficient), x, NULL);
	else
		x = pmml_apply_or("*", pmml_double(term->missing),
						  pmml_constant_of(term->coefficient), x);
	predictor(body, pmml_extra_name(document, x, late), 1, 1);
}

static double
write_terms(PmmlDocument *document, StringInfo body, const ModelStep *step,
			uint32 slot)
{
	const ModelImage *image = document->image;
	const ModelTerm *terms = MODEL_AT(image, ModelTerm, step->data);
	const double *weights = MODEL_AT(image, double, step->data);
	uint32		row = slot - step->out;

	if (step->op == MODEL_MATMUL)
	{
		for (uint32 i = 0; i < step->width; i++)
			predictor(body, pmml_field(document, step->a + i), 1,
					  weights[(Size) row * step->width + i]);
		return weights[(Size) step->count * step->width + row];
	}
	for (uint32 i = 0; i < step->data_count; i++)
	{
		PmmlSource	source = pmml_source(document, terms[i].slot);

		if (source.category != NULL && terms[i].table != 0)
			category_term(document, body, &terms[i], &source);
		else
			number_term(document, body, &terms[i]);
	}
	return step->bias;
}

/* A RegressionTable whose sum is the slot. */
void
pmml_table(PmmlDocument *document, StringInfo body, uint32 slot,
		   const char *category)
{
	const ModelStep *step = pmml_step_of(document, slot);
	StringInfoData terms;
	double		intercept = 0;

	initStringInfo(&terms);
	if (pmml_is_linear(step))
		intercept = write_terms(document, &terms, step, slot);
	else if (step != NULL && step->op == MODEL_FILL)
		intercept = MODEL_AT(document->image, double,
							 step->data)[slot - step->out];
	else
		predictor(&terms, pmml_field(document, slot), 1, 1);
	appendStringInfo(body, "<RegressionTable intercept=\"%s\"",
					 pmml_double(intercept));
	if (category != NULL)
		appendStringInfo(body, " targetCategory=\"%s\"", category);
	appendStringInfo(body, ">\n%s</RegressionTable>\n", terms.data);
}

/*-------------------------------------------------------------------------
 *
 * export_pmml.h
 *		What the files that write PMML share: a document being written.
 *
 * A slot of the program is a field: of the data, derived from others, or an
 * output of a model.  Fields derived from the data alone go into the
 * TransformationDictionary; what follows from a model's answer into the
 * LocalTransformations of the models behind it.  Models that feed others are
 * segments of a chain.
 *
 * A missing value of PMML is NaN of the program.
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_EXPORT_PMML_H
#define VISAGE_EXPORT_PMML_H

#include "model/export.h"

/* A model of the document. */
typedef struct PmmlSegment
{
	const char *element;		/* "RegressionModel" */
	char	   *attributes;		/* of the element, with a blank before each */
	char	   *schema;
	char	   *local;			/* its LocalTransformations, or NULL */
	StringInfoData outputs;
	StringInfoData body;
} PmmlSegment;

typedef struct PmmlDocument
{
	const ModelImage *image;
	const ModelStep *steps;
	uint32	   *writers;		/* the step that writes a slot, or NONE */
	bool	   *needed;			/* slots that must be fields */
	char	  **names;			/* of inputs */
	char	  **fields;			/* the field of a slot, once written */
	char	  **whole;			/* the field of a slot truncated, or NULL */
	bool	   *late;			/* the slot follows from a model */
	bool	   *single;			/* the slot's field is of type float */
	bool	   *used;			/* slots that the model being written reads */
	const char *prefix;			/* of names that no input has */
	const char *target;
	bool		classes;		/* answers classes, by their probabilities */
	StringInfoData common;		/* content of the TransformationDictionary */
	PmmlSegment *segments;
	int			segment_count;
	uint32		extras;			/* fields that are no slot's */
	StringInfoData local;		/* fields that follow from models, so far */
	StringInfoData answers;		/* what models answered so far, in a schema */
	bool		uses_late;		/* the model being written reads such a field */
} PmmlDocument;

/* A slot without the steps that only move it. */
typedef struct PmmlSource
{
	uint32		slot;
	bool		low;			/* a missing value counts as -infinity */
	const ModelInput *category; /* the input, if it is a text */
} PmmlSource;

/* What the document answers: a table a class, or one for a value. */
typedef struct PmmlAnswer
{
	const char *method;			/* PMML's normalizationMethod */
	uint32	   *slots;			/* before it; NONE: the number 0 */
	int			count;
	int			main;			/* of several values that of the table */
	bool		trees;			/* the answer is that of the last model */
} PmmlAnswer;

/* export_pmml_answer.c */
extern PmmlAnswer pmml_find_answer(PmmlDocument *document);
extern void pmml_need_answer(PmmlDocument *document,
							 const PmmlAnswer *answer);
extern char *pmml_label(const PmmlDocument *document, uint32 output);
extern void pmml_write_answer(PmmlDocument *document,
							  const PmmlAnswer *answer);

/* export_pmml_field.c: text */
extern void pmml_refuse_export(const char *what) pg_attribute_noreturn();
extern char *pmml_text(const char *text);
extern char *pmml_double(double number);

/* export_pmml_field.c: fields */
extern const ModelStep *pmml_step_of(const PmmlDocument *document,
									 uint32 slot);
extern PmmlSource pmml_source(const PmmlDocument *document, uint32 slot);
extern const char *pmml_field(PmmlDocument *document, uint32 slot);
extern void pmml_set_field(PmmlDocument *document, uint32 slot,
						   const char *expression, bool single, bool late);
extern char *pmml_extra_name(PmmlDocument *document, const char *expression,
							 bool late);
extern char *pmml_extra(PmmlDocument *document, const char *expression,
						bool late);
extern const char *pmml_whole_field(PmmlDocument *document, uint32 slot,
									bool negative);
extern void pmml_begin_schema(PmmlDocument *document);
extern char *pmml_schema(PmmlDocument *document);
extern PmmlSegment *pmml_add_segment(PmmlDocument *document,
									 const char *element);
extern void pmml_set_schema(PmmlDocument *document, PmmlSegment *segment,
							char *schema);
extern void pmml_add_answer(PmmlDocument *document, PmmlSegment *segment,
							const char *name, bool single);

/* export_pmml_field.c: expressions */
extern bool pmml_is_missing(const PmmlDocument *document, uint32 slot);
extern char *pmml_ref(PmmlDocument *document, uint32 slot);
extern char *pmml_constant_of(double number);
extern char *pmml_apply(const char *function, const char *a, const char *b,
						const char *c);
extern char *pmml_apply_or(const char *function, const char *if_missing,
						   const char *a, const char *b);
extern char *pmml_number_if(const char *condition);
extern char *pmml_category_map(const PmmlDocument *document,
							   const ModelInput *input, const double *values,
							   double unseen, double missing);
extern void pmml_bin(StringInfo bins, double value, const char *closure,
					 double left, double right);
extern char *pmml_discretize(const char *field, double other, double missing,
							 const char *bins);

/* export_pmml_step.c */
extern void pmml_export_step(PmmlDocument *document, const ModelStep *step);

/* export_pmml_regression.c */
extern bool pmml_is_linear(const ModelStep *step);
extern bool pmml_table_is_single(const PmmlDocument *document, uint32 slot);
extern void pmml_table(PmmlDocument *document, StringInfo body, uint32 slot,
					   const char *category);

/* export_pmml_trees.c */
extern void pmml_need_trees(PmmlDocument *document, const ModelStep *step);
extern void pmml_export_trees(PmmlDocument *document, const ModelStep *step);

#endif							/* VISAGE_EXPORT_PMML_H */

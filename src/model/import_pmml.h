/*-------------------------------------------------------------------------
 *
 * import_pmml.h
 *		What the files that read PMML share.
 *
 * import_pmml_xml.c turns bytes into a tree of elements and knows XML only;
 * import_pmml.c reads the document's frame (fields, outputs, which model);
 * each import_pmml_<theme>.c has the elements of a theme.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_IMPORT_PMML_H
#define VISAGE_IMPORT_PMML_H

#include "postgres.h"

#include "model/import.h"
#include "model/import_texts.h"

/* ---- XML: import_pmml_xml.c ---- */

typedef struct PmmlAttribute
{
	char	   *name;
	char	   *value;
} PmmlAttribute;

typedef struct PmmlElement
{
	char	   *name;
	int			line;
	int			attribute_count;
	PmmlAttribute *attributes;
	char	   *text;			/* of an element without children, or NULL */
	struct PmmlElement *parent;
	struct PmmlElement *first;	/* child */
	struct PmmlElement *last;
	struct PmmlElement *next;	/* sibling */
} PmmlElement;

extern PmmlElement *pmml_read(const char *data, size_t size);
extern void pmml_damaged(const PmmlElement *element, const char *problem)
			pg_attribute_noreturn();
extern void pmml_refuse(const PmmlElement *element, const char *what)
			pg_attribute_noreturn();
extern const char *pmml_attribute(const PmmlElement *element,
								  const char *name);
extern const char *pmml_require(const PmmlElement *element, const char *name);
extern double pmml_number(const PmmlElement *element, const char *name,
						  double if_none);
extern double pmml_parse_number(const PmmlElement *element,
								const char *text);
extern PmmlElement *pmml_child(const PmmlElement *element, const char *name);
extern bool pmml_is(const PmmlElement *element, const char *name);
extern char **pmml_array(const PmmlElement *array, int *count);

/* ---- values ---- */

/* What an expression or a field is for a row: NaN where it is missing. */
typedef struct PmmlValue
{
	int			slot;
	ImportTexts *texts;			/* of texts; the slot has a code */
	bool		boolean;		/* true and false are 1 and 0 */
	bool		float32;		/* of type float: so are literals beside it */
} PmmlValue;

/* A field by name; a nearer scope hides one of a farther. */
typedef struct PmmlField
{
	const char *name;
	PmmlValue	value;
	const PmmlElement *data;	/* its DataField, or NULL if derived */
	const char *refused;		/* why it cannot be used, or NULL */
	const PmmlElement *pending; /* DerivedField that is not computed yet */
	bool		computing;
	struct PmmlField *next;
} PmmlField;

typedef struct PmmlScope
{
	PmmlField  *fields;
	struct PmmlScope *outer;
} PmmlScope;

/* What a model answers. */
typedef struct PmmlResult
{
	bool		classification;
	int			value;			/* slot: a number, or the class's number */
	int			count;			/* of classes */
	char	  **labels;
	int			first;			/* slot of the first class's probability */
	int			raw;			/* slots before the link */
	int			raw_count;
} PmmlResult;

typedef struct PmmlImport
{
	const ImportSource *source;
	const PmmlElement *root;
	ModelProgram *program;
	bool		collecting;		/* the first walk: only texts matter */
	ImportTexts **inputs;		/* one for each input, or NULL for numbers */
	int			input_count;
	int			depth;			/* of models within models */
	int		   *invalid;		/* slots: not 0 where a value is not valid */
	int			invalid_count;
} PmmlImport;

/* import_pmml_field.c */
extern PmmlField *pmml_add_field(PmmlScope *scope, const char *name);
extern PmmlValue pmml_find_field(PmmlImport *import, PmmlScope *scope,
								 const PmmlElement *element,
								 const char *name);
extern void pmml_add_inputs(PmmlImport *import, PmmlScope *scope,
							const PmmlElement *dictionary,
							const PmmlElement *schema);
extern void pmml_apply_schema(PmmlImport *import, PmmlScope *scope,
							  const PmmlElement *schema);
extern void pmml_add_derived(PmmlImport *import, PmmlScope *scope,
							 const PmmlElement *transformations);
extern const PmmlElement *pmml_data_field(const PmmlImport *import,
										  const char *name);
extern const PmmlElement *pmml_target_field(const PmmlElement *model);

/* import_pmml_expression.c */
extern PmmlValue pmml_expression(PmmlImport *import, PmmlScope *scope,
								 const PmmlElement *element);
extern bool pmml_is_expression(const PmmlElement *element);
extern double pmml_literal(const PmmlElement *element,
						   const PmmlValue *value, const char *text);
extern int	pmml_constant(PmmlImport *import, double number);
extern int	pmml_where(PmmlImport *import, int condition, int yes, int no);

/* import_pmml_predicate.c */
extern bool pmml_is_predicate(const PmmlElement *element);
extern PmmlElement *pmml_predicate_of(const PmmlElement *element);
extern int	pmml_predicate(PmmlImport *import, PmmlScope *scope,
						   const PmmlElement *predicate);
extern bool pmml_predicate_test(PmmlImport *import, PmmlScope *scope,
								const PmmlElement *predicate,
								ProgramNode *node);

/* import_pmml_tree.c */
extern void pmml_tree(PmmlImport *import, PmmlScope *scope,
					  const PmmlElement *model, PmmlResult *result);
extern void pmml_add_tree(PmmlImport *import, PmmlScope *scope,
						  const PmmlElement *model, ProgramTrees *trees,
						  int output, char **labels, int count, bool votes);
extern bool pmml_tree_gives_null(const PmmlElement *model);

/* import_pmml_model.c */
extern void pmml_model(PmmlImport *import, PmmlScope *scope,
					   const PmmlElement *model, PmmlResult *result);
extern bool pmml_is_model(const PmmlElement *element);
extern bool pmml_is_classification(const PmmlElement *model);
extern char **pmml_class_labels(PmmlImport *import,
								const PmmlElement *model, int *count);
extern int	pmml_class_number(const PmmlElement *element, char **labels,
							  int count, const char *label);

/* import_pmml_mining.c */
extern void pmml_mining(PmmlImport *import, PmmlScope *scope,
						const PmmlElement *model, PmmlResult *result);

/* import_pmml_regression.c */
extern void pmml_regression(PmmlImport *import, PmmlScope *scope,
							const PmmlElement *model, PmmlResult *result);
extern void pmml_scorecard(PmmlImport *import, PmmlScope *scope,
						   const PmmlElement *model, PmmlResult *result);
extern int	pmml_link(PmmlImport *import, const PmmlElement *element,
					  const char *method, int slot);

#endif							/* VISAGE_IMPORT_PMML_H */

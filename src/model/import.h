/*-------------------------------------------------------------------------
 *
 * import.h
 *		Formats of models: what each importer offers.
 *
 * A format is an entry of the table in import.c.  An importer works in a
 * short-lived memory context, in one call, and answers with a program; what
 * it does not support is core_not_supported by name, damaged bytes are
 * import_damaged with where.  Foreign memory (libxml2, jansson) hangs on a
 * reset callback of the current context, since an ERROR may leave at any
 * call.  See import_visage.c for the smallest one.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_IMPORT_H
#define VISAGE_IMPORT_H

#include "core/core.h"
#include "lib/stringinfo.h"
#include "model/program.h"

/* The model as given.  data[size] is a NUL that is not part of it. */
typedef struct ImportSource
{
	const char *data;
	size_t		size;
	Jsonb	   *options;
	/* options, checked */
	char	  **feature_names;	/* or NULL */
	int			feature_count;
	Jsonb	   *rename;			/* model's name → column, or NULL */
	double		threshold;		/* or NaN */
	bool		refuse_missing; /* "missing": "error" */
	char	   *output;			/* or NULL */
	int			iterations;		/* rounds of boosting that count; 0: all */
} ImportSource;

typedef struct ImportFormat
{
	const char *name;
	/* Could the bytes be of this format?  Cheap, and never an ERROR. */
	bool		(*recognise) (const char *data, size_t size);
	/* The image, from program_compile. */
	ModelImage *(*import) (const ImportSource *source);
} ImportFormat;

extern const ImportFormat import_visage;
extern const ImportFormat import_xgboost;
extern const ImportFormat import_lightgbm;
extern const ImportFormat import_onnx;
extern const ImportFormat import_pmml;

/* ---- import_unknown.c ---- */

extern void import_refuse_unknown(const char *data, size_t size);

/* ---- import.c ---- */

/* Raises invalid_parameter_value: "… is damaged", with where as detail. */
extern void import_damaged(const char *format, const char *where,...)
			pg_attribute_printf(2, 3) pg_attribute_noreturn();

/*
 * The column's name of feature i (from 0) that the model calls so, or that
 * has no name (NULL): of feature_names, else the model's, else f0, f1, …;
 * then renamed.
 */
extern const char *import_feature_name(const ImportSource *source, int i,
									   const char *name);

/* As import_feature_name; also sets the flags that options ask for. */
extern void import_input_init(const ImportSource *source, int i,
							  const char *name, ProgramInput *input);

/* Does option output ask for the scores before the link function? */
extern bool import_wants_raw(const ImportSource *source);

/* Applies options threshold to a program of two classes. */
extern void import_set_threshold(const ImportSource *source,
								 ModelProgram *program);

#endif							/* VISAGE_IMPORT_H */

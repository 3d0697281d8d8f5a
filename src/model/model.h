/*-------------------------------------------------------------------------
 *
 * model.h
 *		What the files of room model share; no other room includes it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_MODEL_H
#define VISAGE_MODEL_H

#include "core/core.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "model/image.h"
#include "model/logistic.h"
#include "model/metrics.h"
#include "utils/portal.h"

/* ---- store.c: images by name ---- */

/* A parsed model, kept by the session; pinned while a query uses it. */
typedef struct ModelEntry
{
	char		model[NAMEDATALEN];
	int32		version;
	uint32		checksum;
	int			pins;
	uint64		last_used;
	MemoryContext context;
	const ModelImage *image;
} ModelEntry;

extern ModelEntry *model_find(const char *reference, size_t length);
extern void model_pin(ModelEntry *entry, MemoryContext until_reset);

/* ---- value.c: values of columns as values of inputs ---- */

/* How a type's values become a number or a text. */
typedef struct ModelSource
{
	int			position;		/* attribute or argument, from 0 */
	Oid			type;
	bool		as_text;		/* for a category, else a number */
	FmgrInfo	output;			/* of types that have no shorter way */
} ModelSource;

extern void model_source_init(ModelSource *source, const ModelInput *input,
							  const char *name, Oid type, int position,
							  MemoryContext context);
extern void model_source_read(ModelSource *source, Datum value, bool isnull,
							  ModelValue *result);
extern bool model_type_is_numeric(Oid type);
extern bool model_type_is_text(Oid type);

/* ---- bind.c: inputs found among columns ---- */

typedef struct ModelBinding
{
	ModelEntry *entry;
	int			count;
	ModelSource *sources;		/* one an input */
	ModelValue *values;
	Datum	   *datums;			/* of a row */
	bool	   *nulls;
	int			width;
} ModelBinding;

extern ModelBinding *model_bind_row(ModelEntry *entry, TupleDesc tupdesc,
									MemoryContext context);
extern double model_score_tuple(ModelBinding *binding, HeapTuple tuple,
								TupleDesc tupdesc);

/* ---- data.c: a query's rows as columns for training ---- */

typedef struct TrainingColumn
{
	char	   *name;
	ModelInputKind kind;
	double	   *numbers;		/* NaN for missing */
	int32	   *codes;			/* of categories, -1 for missing */
	char	  **categories;
	int			category_count;
	int			category_allocated;
	struct HTAB *lookup;
} TrainingColumn;

typedef struct TrainingData
{
	TrainingColumn *columns;
	int			column_count;
	unsigned char *labels;
	unsigned char *held_out;
	int64		rows;
	int64		allocated;
	int64		skipped;		/* rows whose target is NULL */
	Size		limit;			/* bytes */
} TrainingData;

typedef struct TrainingOptions
{
	char	   *query;
	char	   *target;
	char	  **excluded;
	int			excluded_count;
	char	  **key;			/* rows of a key are on the same side */
	int			key_count;
	char	   *time;			/* role time, or NULL */
	double		holdout;		/* share */
	char	   *holdout_from;	/* or an instant */
	int64		seed;
} TrainingOptions;

extern Portal model_open_query(const char *query);
extern TrainingData *model_read_data(const TrainingOptions *options);

/* ---- build.c: from data to an image ---- */

extern ModelImage *model_fit_logistic(const TrainingData *data,
									  const LogisticOptions *options,
									  int *iterations);
extern double model_predict_row(const TrainingData *data,
								const ModelImage *image, ModelValue *values,
								int64 row);
extern Jsonb *model_describe_inputs(const ModelImage *image);

/* ---- deploy.c ---- */

extern void model_deploy(const char *model, int32 version, const char *alias);

/* ---- evaluate.c ---- */

extern Jsonb *model_metrics_json(Scored *rows, int64 count);

#endif							/* VISAGE_MODEL_H */

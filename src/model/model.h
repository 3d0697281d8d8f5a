/*-------------------------------------------------------------------------
 *
 * model.h
 *		What the files of room model share; no other room includes it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_MODEL_H
#define VISAGE_MODEL_H

#include <math.h>

#include "access/htup_details.h"
#include "access/tupmacs.h"
#include "core/core.h"
#include "executor/tuptable.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "model/kernel.h"
#include "model/logistic.h"
#include "model/metrics.h"
#include "model/store.h"
#include "utils/jsonb.h"
#include "utils/portal.h"

/* ---- value.c: values of columns as values of inputs ---- */

/* A value for one input. */
typedef struct ModelValue
{
	bool		missing;
	double		number;			/* numeric inputs */
	const char *text;			/* categories: not NUL-terminated */
	size_t		length;
} ModelValue;

/* How a type's values are read; the numeric ones come first. */
typedef enum ModelReader
{
	READ_FLOAT8,
	READ_FLOAT4,
	READ_INT2,
	READ_INT4,
	READ_INT8,
	READ_NUMERIC,
	READ_BOOL,
	READ_LITERAL,				/* untyped */
	READ_TEXT,
	READ_BPCHAR,
	READ_DATE,
	READ_ENUM,
	READ_OUTPUT					/* by the type's output function */
} ModelReader;

/* Slots of enum labels that were looked up, by the label's OID. */
#define MODEL_KNOWN_ENUMS 64

typedef struct ModelKnownEnum
{
	Oid			label;
	double		slot;
} ModelKnownEnum;

/* What it takes to read the texts of a category. */
typedef struct ModelTexts
{
	FmgrInfo	output;			/* of other types than those above, and enums */
	ModelKnownEnum *known;		/* of an enum, or NULL */
	char		buffer[64];
} ModelTexts;

/*
 * How values of a column or argument become a number or a text.  Small, since
 * a call's sources are read at each row.
 */
typedef struct ModelSource
{
	int			position;		/* attribute or argument, from 0 */
	ModelReader reader;
	bool		as_text;		/* for a category, else a number */
	bool		direct;			/* a float8 whose slot is the number itself */
	bool		finite;			/* then: infinity is missing, too */
	ModelTexts *texts;			/* for a category, else NULL */
} ModelSource;

extern void model_source_init(ModelSource *source, const ModelInput *input,
							  const char *name, Oid type, int position,
							  MemoryContext context);
extern void model_source_read(ModelSource *source, Datum value, bool isnull,
							  ModelValue *result);
extern double model_source_slot(ModelSource *source, const ModelImage *image,
								const ModelInput *input, Datum value,
								bool isnull);

/* The slot of a float8 that is not NULL. */
static inline double
model_direct_slot(double number, bool finite)
{
	return finite && isinf(number) ? NAN : number;
}

/* The slot of an input for a value: what is most frequent without a call. */
static inline double
model_read_slot(ModelSource *source, const ModelImage *image,
				const ModelInput *input, Datum value, bool isnull)
{
	if (source->direct)
		return isnull ? NAN :
			model_direct_slot(DatumGetFloat8(value), source->finite);
	return model_source_slot(source, image, input, value, isnull);
}
extern double model_slot(const ModelImage *image, const ModelInput *input,
						 const ModelValue *value);
extern bool model_type_is_numeric(Oid type);
extern bool model_type_is_text(Oid type);

/* ---- bind.c: inputs found among columns ---- */

/* An input that is a float8, in a row as it is stored. */
typedef struct ModelStoredFloat
{
	int			offset;
	bool		finite;			/* infinity is missing */
} ModelStoredFloat;

typedef struct ModelMember ModelMember;
typedef struct ModelLinear ModelLinear;

/*
 * A model, where its inputs come from, and room to score a row.  One for
 * values given one by one is of use to the next query, too: see
 * model_borrow_binding.
 */
typedef struct ModelBinding
{
	ModelEntry *entry;
	ModelSource *sources;		/* one an input */
	double	   *workspace;		/* see kernel.h */
	uint32		first_step;		/* of a score by itself */
	TupleTableSlot *slot;		/* takes rows apart, */
	int			columns;		/* up to the last column needed */
	int		   *offsets;		/* of columns in a stored row, or NULL */
	ModelStoredFloat *floats;	/* then: inputs, where all are float8, or NULL */
	bool		plain;			/* values one by one are float8, taken as such */
	MemoryContext context;		/* of one that is lent, the rest likewise */
	Oid		   *types;			/* of the values */
	int			type_count;
	ModelMember *members;		/* of objects; see object.c */
	ModelLinear *linear;		/* see linear.c; or NULL */
	struct ModelBinding *next;	/* that nobody has borrowed */
	MemoryContextCallback give_back;
} ModelBinding;

extern ModelBinding *model_bind(ModelEntry *entry, MemoryContext context);
extern double *model_block_workspace(const ModelImage *image,
									 MemoryContext context);
extern ModelBinding *model_borrow_binding(ModelEntry *entry, int count,
										  const Oid *types,
										  MemoryContext until_reset);
extern void model_free_bindings(ModelEntry *entry);
extern ModelBinding *model_bind_row(ModelEntry *entry, TupleDesc tupdesc,
									MemoryContext context);
extern void model_fill_tuple(ModelBinding *binding, HeapTuple tuple);
extern void model_bind_stored(ModelBinding *binding, TupleDesc tupdesc,
							  int columns, MemoryContext context);
extern void model_take_stored(const ModelBinding *binding, TupleDesc tupdesc,
							  const char *data, double *place);

/*
 * The data of a row that a scan hands on as it is stored, for use with
 * ModelBinding.offsets; NULL where the row must be taken apart.
 */
static inline const char *
model_stored_row(TupleTableSlot *slot, int columns)
{
	HeapTuple	tuple;

	if (!TTS_IS_BUFFERTUPLE(slot) && !TTS_IS_HEAPTUPLE(slot))
		return NULL;
	tuple = ((HeapTupleTableSlot *) slot)->tuple;
	if (tuple == NULL || !HeapTupleNoNulls(tuple) ||
		HeapTupleHeaderGetNatts(tuple->t_data) < columns)
		return NULL;
	return (const char *) tuple->t_data + tuple->t_data->t_hoff;
}

/* A column of such a row. */
static inline Datum
model_stored_column(const char *data, const int *offsets,
					Form_pg_attribute attribute, int column)
{
	return fetch_att(data + offsets[column], attribute->attbyval,
					 attribute->attlen);
}

/* ---- object.c: inputs found among members of an object ---- */

extern void model_fill_object(ModelBinding *binding, Jsonb *features);

/* ---- linear.c: a score straight from a call's arguments ---- */

/* How a linear model is scored: the head of what is kept of it. */
struct ModelLinear
{
	double		(*score) (const ModelLinear *linear,
						  const NullableDatum *arguments);
};

extern ModelLinear *model_linear(const ModelImage *image,
								 const ModelSource *sources,
								 MemoryContext context);

/* ---- call.c: what a call of a scoring function means ---- */

/* What is kept with the function info of a call begins with this. */
typedef struct ModelKept
{
	ModelMoment moment;
	const ModelLinear *linear;	/* of values given one by one to the model
								 * that the query names, or NULL */
} ModelKept;

/*
 * The score of (model, value, …) where the call is bound already, to a model
 * that the query names, and the score follows from the arguments as they are;
 * else NaN.
 */
static inline double
model_call_linear(FunctionCallInfo fcinfo)
{
	const ModelKept *kept = fcinfo->flinfo->fn_extra;

	if (kept == NULL || kept->linear == NULL ||
		!model_is_current(&kept->moment))
		return NAN;
	return kept->linear->score(kept->linear, &fcinfo->args[1]);
}

/* The arguments' values in the workspace; NULL where the answer is NULL. */
extern ModelBinding *model_call(FunctionCallInfo fcinfo);
extern void model_check_count(const ModelEntry *entry, int count);
extern ModelBinding *model_call_json(FunctionCallInfo fcinfo);

/* ---- explain.c ---- */

extern uint32 model_explained_inputs(const ModelImage *image);
extern Jsonb *model_reasons(ModelEntry *entry, double *workspace, int top);

/* ---- support.c, batch.c, batch_run.c: for the planner ---- */

struct CustomScan;
struct FuncExpr;
struct Node;
extern double model_call_cost(struct FuncExpr *call);
extern void model_register_batch(void);
extern struct Node *model_batch_state(struct CustomScan *scan);

/* ---- score.c ---- */

extern text * model_prediction(const ModelImage *image,
							   const double *slots, size_t stride);

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
								const ModelImage *image, double *workspace,
								int64 row);

/* ---- version.c: versions of models, and what they say of themselves ---- */

/* What a card says besides what the image does; NULL where it says nothing. */
typedef struct ModelCard
{
	const char *model;
	const char *format;			/* visage, or what it was imported from */
	Jsonb	   *params;
	bytea	   *source;			/* SHA-256 of what was imported */
	const char *query;
	const char *target;
	Jsonb	   *columns;
	Jsonb	   *split;
	int64		rows;			/* -1: not known */
	int64		holdout_rows;
	int64		skipped_rows;
	int64		iterations;
	Jsonb	   *metrics;
} ModelCard;

extern void model_none_such(const char *model) pg_attribute_noreturn();
extern void model_require(const char *model);

/* privilege.c */
#define MODEL_SCHEMA "visage_models"
extern Oid	model_view_oid(const char *model);
extern bool model_is_granted(const char *model, Oid user);
extern void model_require_grant(const char *model, Oid user);
extern void model_lock(const char *model);
extern int32 model_store_version(const ModelCard *card,
								 const ModelImage *image);

/* ---- deploy.c ---- */

extern void model_deploy(const char *model, int32 version, const char *alias);

/* ---- evaluate.c ---- */

extern Jsonb *model_metrics_json(Scored *rows, int64 count);

#endif							/* VISAGE_MODEL_H */

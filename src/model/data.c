/*-------------------------------------------------------------------------
 *
 * data.c
 *		The rows of a training query, as columns.
 *
 * The query runs as the caller, with TimeZone UTC, through a cursor, so that
 * memory holds the columns and one batch.  Numbers become doubles (NaN for NULL and what is
 * not finite), texts become codes.  What does not fit into
 * visage.train_memory is refused.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "model/model.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/portal.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#define BATCH 1000

/* An entry of a column's dictionary, keyed by the text. */
typedef struct Category
{
	char	   *text;
	int32		code;
} Category;

/* What reading needs to know of the query's columns. */
typedef struct Reader
{
	const TrainingOptions *options;
	TrainingData *data;
	MemoryContext context;
	MemoryContext batch;		/* what values of a batch take */
	int			target;			/* attribute, from 0 */
	int			time;			/* or -1 */
	bool	   *hashed;			/* does the attribute decide the side? */
	int		   *attributes;		/* of the data's columns */
	ModelSource *sources;
	ModelSource target_source;
	TimestampTz holdout_from;
} Reader;

static uint32
category_hash(const void *key, Size size)
{
	const char *text = *(const char *const *) key;

	return DatumGetUInt32(hash_any((const unsigned char *) text,
								   strlen(text)));
}

static int
category_match(const void *a, const void *b, Size size)
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/* ---- columns ---- */

static bool
is_excluded(const TrainingOptions *options, const char *name)
{
	for (int i = 0; i < options->excluded_count; i++)
		if (strcmp(options->excluded[i], name) == 0)
			return true;
	for (int i = 0; i < options->key_count; i++)
		if (strcmp(options->key[i], name) == 0)
			return true;
	return strcmp(options->target, name) == 0 ||
		(options->time != NULL && strcmp(options->time, name) == 0);
}

/* A column that is a feature, of a type that can be one. */
static void
add_column(Reader *reader, Form_pg_attribute attribute, int position)
{
	TrainingData *data = reader->data;
	TrainingColumn *column = &data->columns[data->column_count];
	Oid			type = getBaseType(attribute->atttypid);
	ModelInput	input = {0};
	HASHCTL		control;

	column->name = pstrdup(NameStr(attribute->attname));
	if (model_type_is_numeric(type))
		column->kind = MODEL_NUMERIC;
	else if (model_type_is_text(type))
		column->kind = MODEL_CATEGORY;
	else
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" cannot be a feature", column->name),
				 errdetail("It has type %s; features are numbers, booleans "
						   "and texts.", format_type_be(attribute->atttypid)),
				 errhint("Leave it out with columns => '{\"exclude\": "
						 "[\"%s\"]}'.", column->name)));
	input.kind = column->kind;
	model_source_init(&reader->sources[data->column_count], &input,
					  column->name, attribute->atttypid, position,
					  reader->context);
	reader->attributes[data->column_count++] = position;
	if (column->kind == MODEL_NUMERIC)
		return;
	control = (HASHCTL)
	{
		.keysize = sizeof(char *),.entrysize = sizeof(Category),
			.hash = category_hash,.match = category_match,
			.hcxt = reader->context
	};
	column->lookup = hash_create("visage categories", 64, &control,
								 HASH_ELEM | HASH_FUNCTION | HASH_COMPARE |
								 HASH_CONTEXT);
}

/* The attribute of this name, which must exist. */
static int
require_attribute(TupleDesc tupdesc, const char *name, const char *role)
{
	char	  **names = palloc(sizeof(char *) * Max(tupdesc->natts, 1));
	char	   *nearest;

	for (int i = 0; i < tupdesc->natts; i++)
	{
		names[i] = NameStr(TupleDescAttr(tupdesc, i)->attname);
		if (strcmp(names[i], name) == 0)
			return i;
	}
	nearest = core_nearest(name, names, tupdesc->natts);
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("the query has no column \"%s\" for role %s", name, role),
			 nearest ? errhint("Perhaps you meant \"%s\".", nearest) : 0));
	return -1;
}

/* The column of the target: boolean, or a number that is 0 or 1. */
static void
read_target_column(Reader *reader, TupleDesc tupdesc)
{
	ModelInput	input = {.kind = MODEL_NUMERIC};
	Oid			type;

	reader->target = require_attribute(tupdesc, reader->options->target,
									   "target");
	type = TupleDescAttr(tupdesc, reader->target)->atttypid;
	model_source_init(&reader->target_source, &input,
					  reader->options->target, type, reader->target,
					  reader->context);
}

/* Works out what each column of the query is. */
static void
read_columns(Reader *reader, TupleDesc tupdesc)
{
	const TrainingOptions *options = reader->options;

	reader->sources = palloc0(sizeof(ModelSource) * Max(tupdesc->natts, 1));
	reader->attributes = palloc0(sizeof(int) * Max(tupdesc->natts, 1));
	reader->data->columns = palloc0(sizeof(TrainingColumn) *
									Max(tupdesc->natts, 1));
	for (int i = 0; i < options->excluded_count; i++)
		(void) require_attribute(tupdesc, options->excluded[i], "exclude");
	reader->time = options->time == NULL ? -1 :
		require_attribute(tupdesc, options->time, "time");
	read_target_column(reader, tupdesc);
	reader->hashed = palloc0(sizeof(bool) * Max(tupdesc->natts, 1));
	for (int i = 0; i < options->key_count; i++)
		reader->hashed[require_attribute(tupdesc, options->key[i],
										 "key")] = true;
	if (options->key_count == 0)
		memset(reader->hashed, true, tupdesc->natts);
	for (int i = 0; i < tupdesc->natts; i++)
		if (!is_excluded(options,
						 NameStr(TupleDescAttr(tupdesc, i)->attname)))
			add_column(reader, TupleDescAttr(tupdesc, i), i);
	if (reader->data->column_count == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the query has no column left to learn from")));
}

/* ---- rows ---- */

/* Makes room for more rows, within the limit. */
static void
grow(const Reader *reader)
{
	TrainingData *data = reader->data;
	int64		wanted = Max(data->allocated * 2, 8192);
	Size		needed = (Size) wanted *
	(data->column_count * (sizeof(double) + sizeof(double) +
						   sizeof(int32)) + 2);

	if (needed > data->limit)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("training needs more memory than setting "
						"visage.train_memory allows"),
				 errdetail(INT64_FORMAT " rows with %d features would take "
						   "%zu MB; the setting is %zu MB.", wanted,
						   data->column_count, needed >> 20,
						   data->limit >> 20),
				 errhint("Raise the setting, or train on a sample.")));
	for (int i = 0; i < data->column_count; i++)
	{
		TrainingColumn *column = &data->columns[i];

		if (column->kind == MODEL_NUMERIC)
			column->numbers = data->allocated == 0 ?
				MemoryContextAllocHuge(reader->context,
									   wanted * sizeof(double)) :
				repalloc_huge(column->numbers, wanted * sizeof(double));
		else
			column->codes = data->allocated == 0 ?
				MemoryContextAllocHuge(reader->context,
									   wanted * sizeof(int32)) :
				repalloc_huge(column->codes, wanted * sizeof(int32));
	}
	data->labels = data->allocated == 0 ?
		MemoryContextAllocHuge(reader->context, wanted) :
		repalloc_huge(data->labels, wanted);
	data->held_out = data->allocated == 0 ?
		MemoryContextAllocHuge(reader->context, wanted) :
		repalloc_huge(data->held_out, wanted);
	data->allocated = wanted;
}

/* The code of a category, which is added where it is new. */
static int32
category_code(const Reader *reader, TrainingColumn *column,
			  const ModelValue *value)
{
	char	   *text = pnstrdup(value->text, value->length);
	bool		found;
	Category   *category = hash_search(column->lookup, &text, HASH_ENTER,
									   &found);

	if (found)
		return category->code;
	text = MemoryContextStrdup(reader->context, text);
	if (column->category_count == column->category_allocated)
	{
		column->category_allocated = Max(column->category_allocated * 2, 16);
		column->categories = column->categories == NULL ?
			MemoryContextAlloc(reader->context, sizeof(char *) *
							   column->category_allocated) :
			repalloc(column->categories,
					 sizeof(char *) * column->category_allocated);
	}
	category->text = text;
	category->code = column->category_count;
	column->categories[column->category_count++] = text;
	return category->code;
}

/* The instant of a time column's value; dates and timestamps are UTC. */
static TimestampTz
row_time(Oid type, Datum value)
{
	switch (type)
	{
		case TIMESTAMPTZOID:
			return DatumGetTimestampTz(value);
		case TIMESTAMPOID:
			return DatumGetTimestamp(value);
		case DATEOID:
			return (TimestampTz) DatumGetDateADT(value) * USECS_PER_DAY;
		default:
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("the column of role time has type %s",
							format_type_be(type)),
					 errdetail("It must be a date or timestamp.")));
	}
	return 0;
}

/*
 * A hash of the key's values (of all values where no key is named), the same
 * in whatever order rows come: all rows of a key are on the same side.
 */
static uint64
row_hash(const Reader *reader, TupleDesc tupdesc, const Datum *datums,
		 const bool *nulls)
{
	int64		seed = reader->options->seed;
	uint64		hash = (uint64) seed;

	for (int i = 0; i < tupdesc->natts; i++)
	{
		TypeCacheEntry *type;
		uint64		element = 0;

		if (!reader->hashed[i])
			continue;
		type = lookup_type_cache(TupleDescAttr(tupdesc, i)->atttypid,
								 TYPECACHE_HASH_EXTENDED_PROC_FINFO);
		if (!nulls[i] && OidIsValid(type->hash_extended_proc_finfo.fn_oid))
			element = DatumGetUInt64(FunctionCall2Coll(&type->hash_extended_proc_finfo,
													   OidIsValid(type->typcollation) ?
													   C_COLLATION_OID : InvalidOid,
													   datums[i],
													   UInt64GetDatum(seed)));
		hash = hash_combine64(hash, element);
	}
	return DatumGetUInt64(hash_any_extended((unsigned char *) &hash,
											sizeof(hash), seed));
}

/* Is the row kept back for the hold-out? */
static bool
is_held_out(const Reader *reader, TupleDesc tupdesc, const Datum *datums,
			const bool *nulls)
{
	const TrainingOptions *options = reader->options;

	if (options->holdout_from != NULL)
		return !nulls[reader->time] &&
			row_time(TupleDescAttr(tupdesc, reader->time)->atttypid,
					 datums[reader->time]) >= reader->holdout_from;
	return options->holdout > 0 &&
		row_hash(reader, tupdesc, datums, nulls) / 18446744073709551616.0
		< options->holdout;
}

/* The label of a row: 0, 1, or an ERROR. */
static unsigned char
row_label(Reader *reader, Datum value)
{
	ModelValue	label;

	model_source_read(&reader->target_source, value, false, &label);
	if (label.missing || (label.number != 0 && label.number != 1))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("target \"%s\" must be true or false, or 1 or 0",
						reader->options->target),
				 errdetail("A row has %g.", label.number)));
	return label.number == 1;
}

/* Takes one row; its datums live only until the batch is freed. */
static void
add_row(Reader *reader, TupleDesc tupdesc, const Datum *datums,
		const bool *nulls)
{
	TrainingData *data = reader->data;
	int64		row = data->rows;

	if (nulls[reader->target])
	{
		data->skipped++;
		return;
	}
	if (row == data->allocated)
		grow(reader);
	data->labels[row] = row_label(reader, datums[reader->target]);
	data->held_out[row] = is_held_out(reader, tupdesc, datums, nulls);
	for (int i = 0; i < data->column_count; i++)
	{
		TrainingColumn *column = &data->columns[i];
		int			attribute = reader->attributes[i];
		ModelValue	value;

		model_source_read(&reader->sources[i], datums[attribute],
						  nulls[attribute], &value);
		if (column->kind == MODEL_NUMERIC)
			column->numbers[row] = value.missing || isinf(value.number) ?
				NAN : value.number;
		else
			column->codes[row] = value.missing ? -1 :
				category_code(reader, column, &value);
	}
	data->rows++;
}

/* Takes the batch that SPI has fetched, and frees it; false at the end. */
static bool
read_batch(Reader *reader)
{
	SPITupleTable *batch = SPI_tuptable;
	MemoryContext caller = MemoryContextSwitchTo(reader->batch);
	Datum	   *datums = palloc(sizeof(Datum) * batch->tupdesc->natts);
	bool	   *nulls = palloc(sizeof(bool) * batch->tupdesc->natts);
	uint64		count = SPI_processed;

	for (uint64 i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		heap_deform_tuple(batch->vals[i], batch->tupdesc, datums, nulls);
		add_row(reader, batch->tupdesc, datums, nulls);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextReset(reader->batch);
	SPI_freetuptable(batch);
	return count > 0;
}

/* A cursor over a query that a user gave, which must be one SELECT. */
Portal
model_open_query(const char *query)
{
	SPIPlanPtr	plan = SPI_prepare(query, 0, NULL);

	if (plan == NULL || !SPI_is_cursor_plan(plan))
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("the query of a model must be one SELECT"),
				 errdetail("It is: %s", query)));
	return SPI_cursor_open(NULL, plan, NULL, NULL, true);
}

/*
 * Runs the query as the caller and takes all its rows, in the current memory
 * context.
 */
TrainingData *
model_read_data(const TrainingOptions *options)
{
	Reader		reader = {.options = options,.context = CurrentMemoryContext};
	Portal		portal;
	int			nest_level = core_begin_utc();

	reader.data = palloc0(sizeof(TrainingData));
	reader.data->limit =
		(Size) strtoll(GetConfigOption("visage.train_memory", false, false),
					   NULL, 10) * 1024;
	if (options->holdout_from != NULL)
		reader.holdout_from =
			DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in,
													CStringGetDatum(options->holdout_from),
													ObjectIdGetDatum(InvalidOid),
													Int32GetDatum(-1)));
	reader.batch = AllocSetContextCreate(reader.context, "visage batch",
										 ALLOCSET_DEFAULT_SIZES);
	core_spi_begin();
	portal = model_open_query(options->query);
	MemoryContextSwitchTo(reader.context);
	read_columns(&reader, portal->tupDesc);
	do
	{
		SPI_cursor_fetch(portal, true, BATCH);
		MemoryContextSwitchTo(reader.context);
	} while (read_batch(&reader));
	SPI_cursor_close(portal);
	core_spi_end();
	core_end_utc(nest_level);
	MemoryContextDelete(reader.batch);
	return reader.data;
}

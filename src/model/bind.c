/*-------------------------------------------------------------------------
 *
 * bind.c
 *		A model's inputs found among the columns of a row, by name.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "model/model.h"

/* The attribute of this name, or -1. */
static int
find_attribute(TupleDesc tupdesc, const char *name)
{
	for (int i = 0; i < tupdesc->natts; i++)
		if (!TupleDescAttr(tupdesc, i)->attisdropped &&
			strcmp(NameStr(TupleDescAttr(tupdesc, i)->attname), name) == 0)
			return i;
	return -1;
}

/* Raises undefined_column for an input, with the nearest column. */
static void
no_such_column(const ModelEntry *entry, TupleDesc tupdesc, const char *name)
{
	char	  **names = palloc(sizeof(char *) * (tupdesc->natts + 1));
	char	   *nearest;

	for (int i = 0; i < tupdesc->natts; i++)
		names[i] = NameStr(TupleDescAttr(tupdesc, i)->attname);
	nearest = core_nearest(name, names, tupdesc->natts);
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("the row has no column \"%s\", which model \"%s\" needs",
					name, entry->model),
			 nearest ? errhint("The nearest column is \"%s\".", nearest) : 0));
}

/* Binds the model to rows of this description, in the given context. */
ModelBinding *
model_bind_row(ModelEntry *entry, TupleDesc tupdesc, MemoryContext context)
{
	MemoryContext caller = MemoryContextSwitchTo(context);
	const ModelImage *image = entry->image;
	ModelBinding *binding = palloc0(sizeof(ModelBinding));

	binding->entry = entry;
	binding->count = image->input_count;
	binding->sources = palloc0(sizeof(ModelSource) * Max(binding->count, 1));
	binding->workspace = palloc_extended(model_workspace(image, 1) *
										 sizeof(double), MCXT_ALLOC_HUGE);
	binding->width = tupdesc->natts;
	binding->datums = palloc(sizeof(Datum) * Max(tupdesc->natts, 1));
	binding->nulls = palloc(sizeof(bool) * Max(tupdesc->natts, 1));
	for (int i = 0; i < binding->count; i++)
	{
		const ModelInput *input = &model_inputs(image)[i];
		const char *name = model_string(image, input->name);
		int			attribute = find_attribute(tupdesc, name);

		if (attribute < 0)
			no_such_column(entry, tupdesc, name);
		model_source_init(&binding->sources[i], input, name,
						  TupleDescAttr(tupdesc, attribute)->atttypid,
						  attribute, context);
	}
	MemoryContextSwitchTo(caller);
	return binding;
}

/* Scores a row of the description that the binding was made for. */
double
model_score_tuple(ModelBinding *binding, HeapTuple tuple, TupleDesc tupdesc)
{
	const ModelImage *image = binding->entry->image;

	heap_deform_tuple(tuple, tupdesc, binding->datums, binding->nulls);
	for (int i = 0; i < binding->count; i++)
	{
		ModelSource *source = &binding->sources[i];
		ModelValue	value;

		model_source_read(source, binding->datums[source->position],
						  binding->nulls[source->position], &value);
		binding->workspace[i] = model_slot(image, &model_inputs(image)[i],
										   &value);
	}
	model_run(image, binding->workspace);
	return binding->workspace[image->score];
}

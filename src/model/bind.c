/*-------------------------------------------------------------------------
 *
 * bind.c
 *		A model's inputs found among the columns of a row, by name.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "executor/executor.h"
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

/* Room to score with the model, whose inputs are not bound yet. */
ModelBinding *
model_bind(ModelEntry *entry, MemoryContext context)
{
	const ModelImage *image = entry->image;
	ModelBinding *binding = MemoryContextAllocZero(context,
												   sizeof(ModelBinding));

	binding->entry = entry;
	binding->sources = MemoryContextAllocZero(context, sizeof(ModelSource) *
											  Max(image->input_count, 1));
	binding->workspace = MemoryContextAllocHuge(context,
												model_workspace(image, 1) *
												sizeof(double));
	return binding;
}

/* Binds the model to rows of this description, in the given context. */
ModelBinding *
model_bind_row(ModelEntry *entry, TupleDesc tupdesc, MemoryContext context)
{
	MemoryContext caller = MemoryContextSwitchTo(context);
	const ModelImage *image = entry->image;
	ModelBinding *binding = model_bind(entry, context);
	int			last = 0;

	for (uint32 i = 0; i < image->input_count; i++)
	{
		const ModelInput *input = &model_inputs(image)[i];
		const char *name = model_string(image, input->name);
		int			attribute = find_attribute(tupdesc, name);

		if (attribute < 0)
			no_such_column(entry, tupdesc, name);
		model_source_init(&binding->sources[i], input, name,
						  TupleDescAttr(tupdesc, attribute)->atttypid,
						  attribute, context);
		last = Max(last, attribute + 1);
	}
	binding->columns = last;
	binding->slot = MakeSingleTupleTableSlot(CreateTupleDescCopy(tupdesc),
											 &TTSOpsHeapTuple);
	MemoryContextSwitchTo(caller);
	return binding;
}

/* Takes the inputs from a row of the description that was bound. */
void
model_fill_tuple(ModelBinding *binding, HeapTuple tuple)
{
	const ModelImage *image = binding->entry->image;
	const ModelInput *inputs = model_inputs(image);
	TupleTableSlot *slot = binding->slot;

	ExecStoreHeapTuple(tuple, slot, false);
	slot_getsomeattrs(slot, binding->columns);
	for (uint32 i = 0; i < image->input_count; i++)
	{
		ModelSource *source = &binding->sources[i];

		binding->workspace[i] =
			model_read_slot(source, image, &inputs[i],
							slot->tts_values[source->position],
							slot->tts_isnull[source->position]);
	}
}

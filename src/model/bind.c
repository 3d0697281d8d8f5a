/*-------------------------------------------------------------------------
 *
 * bind.c
 *		A model's inputs found among the columns of a row, by name, or among
 *		values in the model's order.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "executor/executor.h"
#include "model/model.h"
#include "utils/memutils.h"

/* Bindings of an entry that are kept while nobody uses them. */
#define MAX_IDLE 4

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
	binding->first_step = model_first_step(image);
	binding->sources = MemoryContextAllocZero(context, sizeof(ModelSource) *
											  Max(image->input_count, 1));
	binding->workspace = MemoryContextAllocHuge(context,
												model_workspace(image, 1) *
												sizeof(double));
	return binding;
}

/*
 * The workspace of a block, which begins with a cache line: its rows are
 * read and written by whole lines, and two halves of two take twice as long.
 */
double *
model_block_workspace(const ModelImage *image, MemoryContext context)
{
	size_t		size = model_workspace(image, MODEL_BLOCK) * sizeof(double);
	void	   *space = MemoryContextAllocExtended(context,
												   size + PG_CACHE_LINE_SIZE,
												   MCXT_ALLOC_HUGE |
												   MCXT_ALLOC_ZERO);

	return (double *) CACHELINEALIGN(space);
}

/* Are all inputs float8 whose slots are the numbers themselves? */
static bool
is_plain(const ModelBinding *binding)
{
	for (uint32 i = 0; i < binding->entry->image->input_count; i++)
		if (!binding->sources[i].direct || binding->sources[i].finite)
			return false;
	return true;
}

/* ---- bindings to lend ---- */

/*
 * May a binding be used by a later query?  Not if it remembers what another
 * statement can change: labels of enums, functions of types.
 */
static bool
can_be_lent(const ModelBinding *binding)
{
	for (int i = 0; i < binding->type_count; i++)
		if (binding->types[i] >= FirstGenbkiObjectId ||
			binding->sources[i].reader >= READ_ENUM)
			return false;
	return true;
}

/* Binds values of these types, in a context of its own. */
static ModelBinding *
bind_values(ModelEntry *entry, int count, const Oid *types,
			MemoryContext parent)
{
	const ModelImage *image = entry->image;
	MemoryContext context = AllocSetContextCreate(parent, "visage binding",
												  ALLOCSET_SMALL_SIZES);
	ModelBinding *binding = model_bind(entry, context);

	binding->context = context;
	binding->type_count = count;
	binding->types = MemoryContextAlloc(context, sizeof(Oid) * Max(count, 1));
	for (int i = 0; i < count; i++)
	{
		const ModelInput *input = &model_inputs(image)[i];

		binding->types[i] = types[i];
		model_source_init(&binding->sources[i], input,
						  model_string(image, input->name), types[i], i,
						  context);
	}
	if (count > 0)
	{
		binding->plain = is_plain(binding);
		binding->linear = model_linear(image, binding->sources, context);
	}
	return binding;
}

/* Reset callback: a query needs the binding no longer. */
static void
give_back(void *arg)
{
	ModelBinding *binding = arg;
	ModelEntry *entry = binding->entry;
	int			idle = 0;

	for (ModelBinding *other = entry->bindings; other != NULL;
		 other = other->next)
		idle++;
	if (idle >= MAX_IDLE)
	{
		MemoryContextDelete(binding->context);
		return;
	}
	binding->next = entry->bindings;
	entry->bindings = binding;
}

/* An idle binding for values of these types, taken from the entry's, or NULL. */
static ModelBinding *
take_idle(ModelEntry *entry, int count, const Oid *types)
{
	for (ModelBinding **place = &entry->bindings; *place != NULL;
		 place = &(*place)->next)
	{
		ModelBinding *binding = *place;

		if (binding->type_count == count &&
			(count == 0 ||
			 memcmp(binding->types, types, sizeof(Oid) * count) == 0))
		{
			*place = binding->next;
			return binding;
		}
	}
	return NULL;
}

/*
 * A binding for values of these types in the model's order (none for an
 * object's members), until the context is reset.  The entry must be pinned
 * as long, and by an earlier callback.  Binding takes as long as a tree or
 * two hundred, so that a statement which scores one row had better find one.
 */
ModelBinding *
model_borrow_binding(ModelEntry *entry, int count, const Oid *types,
					 MemoryContext until_reset)
{
	ModelBinding *binding = take_idle(entry, count, types);

	if (binding == NULL)
	{
		binding = bind_values(entry, count, types, until_reset);
		if (!can_be_lent(binding))
			return binding;
		MemoryContextSetParent(binding->context, TopMemoryContext);
	}
	binding->give_back.func = give_back;
	binding->give_back.arg = binding;
	MemoryContextRegisterResetCallback(until_reset, &binding->give_back);
	return binding;
}

/* Frees what nobody has borrowed of an entry that goes. */
void
model_free_bindings(ModelEntry *entry)
{
	while (entry->bindings != NULL)
	{
		ModelBinding *binding = entry->bindings;

		entry->bindings = binding->next;
		MemoryContextDelete(binding->context);
	}
}

/* ---- rows ---- */

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

/*
 * Where the first columns of a row are if none is NULL; NULL where some are of
 * no fixed width.
 */
static int *
fixed_offsets(TupleDesc tupdesc, int columns, MemoryContext context)
{
	int		   *offsets = MemoryContextAlloc(context,
											 sizeof(int) * Max(columns, 1));
	int			offset = 0;

	for (int i = 0; i < columns; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(tupdesc, i);

		if (attribute->attlen <= 0)
		{
			pfree(offsets);
			return NULL;
		}
		offset = att_align_nominal(offset, attribute->attalign);
		offsets[i] = offset;
		offset += attribute->attlen;
	}
	return offsets;
}

/* The inputs of such rows, densely; NULL where some are no float8. */
static ModelStoredFloat *
stored_floats(const ModelBinding *binding, MemoryContext context)
{
	uint32		count = binding->entry->image->input_count;
	ModelStoredFloat *floats = MemoryContextAlloc(context,
												  sizeof(ModelStoredFloat) *
												  Max(count, 1));

	for (uint32 i = 0; i < count; i++)
	{
		const ModelSource *source = &binding->sources[i];

		if (!source->direct)
		{
			pfree(floats);
			return NULL;
		}
		floats[i].offset = binding->offsets[source->position];
		floats[i].finite = source->finite;
	}
	return floats;
}

/* Lets the binding, whose sources are known, take rows as they are stored. */
void
model_bind_stored(ModelBinding *binding, TupleDesc tupdesc, int columns,
				  MemoryContext context)
{
	binding->offsets = fixed_offsets(tupdesc, columns, context);
	if (binding->offsets != NULL)
		binding->floats = stored_floats(binding, context);
}

/* Takes the inputs from such a row into a block. */
void
model_take_stored(const ModelBinding *binding, TupleDesc tupdesc,
				  const char *data, double *place)
{
	const ModelImage *image = binding->entry->image;
	const ModelInput *inputs = model_inputs(image);
	ModelSource *sources = binding->sources;
	const int  *offsets = binding->offsets;
	const ModelStoredFloat *floats = binding->floats;

	if (floats != NULL)
	{
		for (uint32 i = 0; i < image->input_count; i++, place += MODEL_BLOCK)
		{
			double		number;

			memcpy(&number, data + floats[i].offset, sizeof(double));
			*place = model_direct_slot(number, floats[i].finite);
		}
		return;
	}
	for (uint32 i = 0; i < image->input_count; i++, place += MODEL_BLOCK)
	{
		int			column = sources[i].position;
		Form_pg_attribute attribute = TupleDescAttr(tupdesc, column);

		*place = model_read_slot(&sources[i], image, &inputs[i],
								 model_stored_column(data, offsets, attribute,
													 column), false);
	}
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

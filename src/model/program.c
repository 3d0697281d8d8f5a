/*-------------------------------------------------------------------------
 *
 * program.c
 *		Writing a model down: inputs, steps, results.  See program.h.
 *
 * Slots are handed out in order, so that a step writes behind everything it
 * reads, and an image can be checked for it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "model/builder.h"

/* Room for one more element of an array that doubles as it grows. */
void *
builder_grow(void *array, int count, int *allocated, size_t width)
{
	if (count < *allocated)
		return array;
	*allocated = Max(*allocated * 2, 16);
	return array == NULL ?
		palloc_extended(*allocated * width, MCXT_ALLOC_HUGE) :
		repalloc_huge(array, *allocated * width);
}

/* A copy of count elements, in the current context. */
static void *
copy_array(const void *array, int count, size_t width)
{
	void	   *copy = palloc_extended(Max(count, 1) * width, MCXT_ALLOC_HUGE);

	if (count > 0)
		memcpy(copy, array, count * width);
	return copy;
}

/* What a description got wrong. */
void
builder_invalid(const char *format,...)
{
	char		message[256];
	va_list		args;

	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("the model does not hold together"),
			 errdetail("In it, %s.", message)));
}

ModelProgram *
program_create(const char *algorithm)
{
	ModelProgram *program = palloc0(sizeof(ModelProgram));

	program->context = CurrentMemoryContext;
	program->algorithm = pstrdup(algorithm);
	program->zero = -1;
	program->choice = -1;
	program->scores = -1;
	program->raw = -1;
	program->threshold = 0.5;
	return program;
}

/* The first of count new slots, which come from this input. */
int
builder_add_slots(ModelProgram *program, int count, int origin)
{
	int			first = program->slot_count;

	if (count < 1 || count > MODEL_MAX_SLOTS - first)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a model can have %d slots", MODEL_MAX_SLOTS)));
	for (int i = 0; i < count; i++)
	{
		program->origins = builder_grow(program->origins, program->slot_count,
										&program->slots_allocated,
										sizeof(int));
		program->origins[program->slot_count++] = origin;
	}
	return first;
}

int
program_input_count(const ModelProgram *program)
{
	return program->input_count;
}

/* Inputs come before all steps: their slots have their numbers. */
int
program_add_input(ModelProgram *program, const ProgramInput *input)
{
	MemoryContext caller = MemoryContextSwitchTo(program->context);
	ProgramInput *copy;
	char	  **categories;

	if (program->step_count > 0)
		elog(ERROR, "inputs of a program come before its steps");
	program->inputs = builder_grow(program->inputs, program->input_count,
								   &program->inputs_allocated,
								   sizeof(ProgramInput));
	copy = &program->inputs[program->input_count];
	*copy = *input;
	copy->name = pstrdup(input->name);
	categories = palloc_extended(sizeof(char *) *
								 Max(input->category_count, 1),
								 MCXT_ALLOC_HUGE);
	for (int i = 0; i < input->category_count; i++)
		categories[i] = pstrdup(input->categories[i]);
	copy->categories = (const char *const *) categories;
	(void) builder_add_slots(program, 1, program->input_count);
	MemoryContextSwitchTo(caller);
	return program->input_count++;
}

/* ERROR unless these slots are there. */
void
builder_check_slots(const ModelProgram *program, int first, int count)
{
	if (first < 0 || count < 1 || count > program->slot_count - first)
		builder_invalid("step %d reads slots %d to %d of %d",
						program->step_count, first, first + count - 1,
						program->slot_count);
}

/* The origin of what is computed from two slots. */
static int
join_origins(int a, int b)
{
	if (a == ORIGIN_CONSTANT || a == b)
		return b;
	return b == ORIGIN_CONSTANT ? a : ORIGIN_MIXED;
}

/* The origin of what is computed from these slots, joined to one before. */
static int
span_origin(const ModelProgram *program, int first, int count, int origin)
{
	for (int i = 0; i < count; i++)
		origin = join_origins(origin, program->origins[first + i]);
	return origin;
}

/* The elements of a that a step reads. */
static int
width_of(const ProgramStep *step)
{
	if (step->broadcast_a || step->op == MODEL_ONE_HOT)
		return 1;
	return step->width > 0 ? step->width : step->count;
}

/* Is each element of the result a function of one element of operands? */
static bool
is_elementwise(ModelOp op)
{
	return op <= MODEL_ONE_HOT;
}

/* The origin of element i of the result. */
static int
result_origin(const ModelProgram *program, const ProgramStep *step, int i)
{
	int			origin = ORIGIN_CONSTANT;

	if (step->slots != NULL)
		return program->origins[step->slots[i]];
	if (!is_elementwise(step->op))
		return span_origin(program, step->a, width_of(step), origin);
	if (step->a >= 0)
		origin = join_origins(origin,
							  program->origins[step->a +
											   (width_of(step) == 1 ? 0 : i)]);
	if (step->b >= 0)
		origin = join_origins(origin,
							  program->origins[step->b +
											   (step->broadcast_b ? 0 : i)]);
	if (step->c >= 0)
		origin = join_origins(origin,
							  program->origins[step->c +
											   (step->broadcast_c ? 0 : i)]);
	return origin;
}

/* Appends a step that is put together; its operands are checked. */
BuilderStep *
builder_append_step(ModelProgram *program, const ProgramStep *step)
{
	BuilderStep *added;

	program->steps = builder_grow(program->steps, program->step_count,
								  &program->steps_allocated,
								  sizeof(BuilderStep));
	added = &program->steps[program->step_count++];
	memset(added, 0, sizeof(*added));
	added->step = *step;
	added->step.constants = copy_array(step->constants, step->constant_count,
									   sizeof(double));
	if (step->slots != NULL)
		added->step.slots = copy_array(step->slots, step->count, sizeof(int));
	return added;
}

int
program_add_step(ModelProgram *program, const ProgramStep *step)
{
	MemoryContext caller = MemoryContextSwitchTo(program->context);
	ProgramStep copy = *step;
	BuilderStep *added;
	int			out = program->slot_count;

	if (step->slots != NULL || step->op == MODEL_FILL)
		copy.a = -1;
	else
		builder_check_slots(program, step->a, width_of(step));
	if (step->op != MODEL_WHERE)
		copy.c = -1;
	else
		builder_check_slots(program, step->c,
							step->broadcast_c ? 1 : step->count);
	if (step->op < MODEL_ADD || step->op > MODEL_WHERE)
		copy.b = -1;
	else if (step->b >= 0)
		builder_check_slots(program, step->b,
							step->broadcast_b ? 1 : step->count);
	if (step->slots != NULL)
		for (int i = 0; i < step->count; i++)
			builder_check_slots(program, step->slots[i], 1);
	added = builder_append_step(program, &copy);
	added->out = out;
	for (int i = 0; i < step->count; i++)
		(void) builder_add_slots(program, 1,
								 result_origin(program, &copy, i));
	MemoryContextSwitchTo(caller);
	return out;
}

/* ---- shorthands ---- */

int
program_unary(ModelProgram *program, ModelOp op, int a, int count,
			  bool float32)
{
	ProgramStep step = {.op = op,.float32 = float32,.count = count,.a = a,
	.b = -1,.c = -1};

	if (op >= MODEL_SUM && op <= MODEL_COUNT_PRESENT)
	{
		step.width = count;
		step.count = 1;
	}
	return program_add_step(program, &step);
}

int
program_binary(ModelProgram *program, ModelOp op, int a, int b, int count,
			   bool float32)
{
	ProgramStep step = {.op = op,.float32 = float32,.count = count,.a = a,
	.b = b,.c = -1};

	return program_add_step(program, &step);
}

/* A step with constants; one constant serves a binary step of any length. */
int
program_constant(ModelProgram *program, ModelOp op, int a, int count,
				 const double *constants, int n, bool float32)
{
	ProgramStep step = {.op = op,.float32 = float32,.count = count,.a = a,
	.b = -1,.c = -1,.constants = constants,.constant_count = n};

	step.broadcast_b = n == 1;
	return program_add_step(program, &step);
}

int
program_move(ModelProgram *program, const int *slots, int count)
{
	ProgramStep step = {.op = MODEL_MOVE,.count = count,.a = -1,.b = -1,
	.c = -1,.slots = slots};

	return program_add_step(program, &step);
}

int
program_fill(ModelProgram *program, const double *values, int count)
{
	ProgramStep step = {.op = MODEL_FILL,.count = count,.a = -1,.b = -1,
	.c = -1,.constants = values,.constant_count = count};

	return program_add_step(program, &step);
}

/* A key of a look-up and its value, for sorting. */
typedef struct Pair
{
	double		key;
	double		value;
	int			position;
} Pair;

static int
by_key(const void *a, const void *b)
{
	const Pair *left = a;
	const Pair *right = b;

	if (left->key != right->key)
		return left->key < right->key ? -1 : 1;
	return left->position - right->position;
}

/* Of equal keys the last one counts. */
int
program_lookup(ModelProgram *program, int a, int count, const double *keys,
			   const double *values, int n, double otherwise,
			   double if_missing)
{
	Pair	   *pairs = palloc_extended(sizeof(Pair) * Max(n, 1),
										MCXT_ALLOC_HUGE);
	double	   *constants = palloc_extended(sizeof(double) * (2 + 2 * (Size) n),
											MCXT_ALLOC_HUGE);
	int			kept = 0;

	for (int i = 0; i < n; i++)
	{
		if (isnan(keys[i]))
			builder_invalid("a key of a look-up is not a number");
		pairs[i].key = keys[i];
		pairs[i].value = values[i];
		pairs[i].position = i;
	}
	qsort(pairs, n, sizeof(Pair), by_key);
	for (int i = 0; i < n; i++)
		if (kept > 0 && pairs[kept - 1].key == pairs[i].key)
			pairs[kept - 1] = pairs[i];
		else
			pairs[kept++] = pairs[i];
	constants[0] = otherwise;
	constants[1] = if_missing;
	for (int i = 0; i < kept; i++)
	{
		constants[2 + i] = pairs[i].key;
		constants[2 + kept + i] = pairs[i].value;
	}
	return program_constant(program, MODEL_LOOKUP, a, count, constants,
							2 + 2 * kept, false);
}

int
program_add_linear(ModelProgram *program, const ProgramTerm *terms, int count,
				   double bias, bool float32)
{
	MemoryContext caller = MemoryContextSwitchTo(program->context);
	ProgramStep step = {.op = MODEL_LINEAR,.float32 = float32,.count = 1,
	.a = -1,.b = -1,.c = -1};
	BuilderStep *added;
	int			origin = ORIGIN_CONSTANT;

	for (int i = 0; i < count; i++)
	{
		builder_check_slots(program, terms[i].slot, 1);
		origin = join_origins(origin, program->origins[terms[i].slot]);
	}
	added = builder_append_step(program, &step);
	added->bias = bias;
	added->term_count = count;
	added->terms = copy_array(terms, count, sizeof(ProgramTerm));
	for (int i = 0; i < count; i++)
		if (terms[i].table != NULL)
			added->terms[i].table = copy_array(terms[i].table,
											   terms[i].table_count,
											   sizeof(double));
	added->out = builder_add_slots(program, 1, origin);
	MemoryContextSwitchTo(caller);
	return added->out;
}

/* ---- results ---- */

void
program_set_scores(ModelProgram *program, ModelTask task, int slot, int count,
				   const char *const *names)
{
	MemoryContext caller = MemoryContextSwitchTo(program->context);

	builder_check_slots(program, slot, count);
	if (task == MODEL_CLASSIFICATION && count < 2)
		elog(ERROR, "a classification has at least two classes");
	program->task = task;
	program->scores = slot;
	program->output_count = count;
	program->outputs = palloc_extended(sizeof(char *) * count,
									   MCXT_ALLOC_HUGE);
	for (int i = 0; i < count; i++)
		program->outputs[i] = pstrdup(names[i]);
	if (task == MODEL_REGRESSION)
		program->score = slot;
	else if (count == 2)
		program->score = slot + 1;
	else
		program->score = program_unary(program, MODEL_LARGEST, slot, count,
									   false);
	MemoryContextSwitchTo(caller);
}

/*
 * Names for outputs that the library gives none: classes are numbers, a single
 * value is "value".
 */
const char **
program_output_names(int count)
{
	const char **names = palloc(sizeof(const char *) * count);

	for (int i = 0; i < count; i++)
		names[i] = count == 1 ? "value" : psprintf("%d", i);
	return names;
}

/* Two slots, 1 - p and p. */
int
program_complement(ModelProgram *program, int slot, bool float32)
{
	double		one = 1;
	int			ones = program_fill(program, &one, 1);
	int			parts[2];

	parts[0] = program_binary(program, MODEL_SUBTRACT, ones, slot, 1, float32);
	parts[1] = slot;
	return program_move(program, parts, 2);
}

void
program_set_raw(ModelProgram *program, int slot, int count)
{
	builder_check_slots(program, slot, count);
	program->raw = slot;
	program->raw_count = count;
}

void
program_set_null_for_nan(ModelProgram *program)
{
	program->null_for_nan = true;
}

void
program_set_threshold(ModelProgram *program, double threshold)
{
	program->threshold = threshold;
}

void
program_set_choice(ModelProgram *program, int slot)
{
	builder_check_slots(program, slot, 1);
	program->choice = slot;
}

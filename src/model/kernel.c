/*-------------------------------------------------------------------------
 *
 * kernel.c
 *		Running the steps of an image, for one row or a block of rows.
 *
 * The code is written once, for any number of rows, and compiled for both.
 * Floating-point arithmetic is taken as it stands: the Makefile forbids the
 * compiler to contract a * b + c, so that the bits are those of the
 * libraries that made the models, on every machine.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "model/kernel.h"

/* Slots and, behind them, a leaf number for each tree. */
size_t
model_workspace(const ModelImage *image, int rows)
{
	const ModelStep *steps = MODEL_AT(image, ModelStep, image->steps);
	uint32		trees = 0;

	for (uint32 i = 0; i < image->step_count; i++)
		if (steps[i].op == MODEL_TREES)
			trees = Max(trees, MODEL_AT(image, ModelTrees,
										steps[i].data)->tree_count);
	return (size_t) image->slot_count * rows + (trees + 1) / 2;
}

/* What a step needs at each row. */
typedef struct Running
{
	const ModelImage *image;
	const ModelStep *step;
	const double *k;			/* constants */
	const double *a;
	const double *b;
	const double *c;
	size_t		a_next;			/* from element to element */
	size_t		b_next;
	size_t		c_next;
	double	   *out;
	double	   *slots;
	uint32	   *leaves;
	bool		float32;
} Running;

/* Each element of the result from x, of operand a; i is its number. */
#define EACH(expression) \
	for (uint32 i = 0; i < run->step->count; i++) \
		for (int r = 0; r < rows; r++) \
		{ \
			double x = run->a[i * run->a_next + r]; \
			double y = (expression); \
			run->out[(size_t) i * rows + r] = run->float32 ? (float) y : y; \
		} \
	break

/* The same with y, of operand b or the constants. */
#define EACH_PAIR(expression) \
	for (uint32 i = 0; i < run->step->count; i++) \
		for (int r = 0; r < rows; r++) \
		{ \
			double x = run->a[i * run->a_next + r]; \
			double y = run->b == NULL ? \
				run->k[run->b_next == 0 ? 0 : i] : \
				run->b[i * run->b_next + r]; \
			double z = (expression); \
			run->out[(size_t) i * rows + r] = run->float32 ? (float) z : z; \
		} \
	break

/* exp and its like in the step's precision */
#define IN_PRECISION(function, x) \
	(run->float32 ? (double) function##f((float) (x)) : function(x))

/* 1 / (1 + exp(-x)) */
static inline double
sigmoid(const Running *run, double x)
{
	if (run->float32)
		return 1.0f / (1.0f + expf(-(float) x));
	return 1 / (1 + exp(-x));
}

/* XGBoost's own, in float32 whatever the step. */
static inline double
sigmoid_xgboost(double x)
{
	float		negative = -(float) x;

	return 1.0f / (expf(negative < 88.7f ? negative : 88.7f) + 1.0f + 1e-16f);
}

/*
 * The inverse of the normal distribution: Acklam's rational approximation,
 * then a step of Halley's method, which makes it exact to the last digits.
 */
static double
normal_quantile(double p)
{
	static const double a[] = {-3.969683028665376e+01, 2.209460984245205e+02,
		-2.759285104469687e+02, 1.383577518672690e+02,
	-3.066479806614716e+01, 2.506628277459239e+00};
	static const double b[] = {-5.447609879822406e+01, 1.615858368580409e+02,
	-1.556989798598866e+02, 6.680131188771972e+01, -1.328068155288572e+01};
	static const double c[] = {-7.784894002430293e-03, -3.223964580411365e-01,
		-2.400758277161838e+00, -2.549732539343734e+00,
	4.374664141464968e+00, 2.938163982698783e+00};
	static const double d[] = {7.784695709041462e-03, 3.224671290700398e-01,
	2.445134137142996e+00, 3.754408661907416e+00};
	double		q,
				r,
				x,
				error;

	if (!(p > 0 && p < 1))
		return p == 0 ? -INFINITY : p == 1 ? INFINITY : NAN;
	if (p < 0.02425 || p > 1 - 0.02425)
	{
		q = sqrt(-2 * log(p < 0.5 ? p : 1 - p));
		x = (((((c[0] * q + c[1]) * q + c[2]) * q + c[3]) * q + c[4]) * q +
			 c[5]) / ((((d[0] * q + d[1]) * q + d[2]) * q + d[3]) * q + 1);
		x = p < 0.5 ? x : -x;
	}
	else
	{
		q = p - 0.5;
		r = q * q;
		x = (((((a[0] * r + a[1]) * r + a[2]) * r + a[3]) * r + a[4]) * r +
			 a[5]) * q / (((((b[0] * r + b[1]) * r + b[2]) * r + b[3]) * r +
						   b[4]) * r + 1);
	}
	error = 0.5 * erfc(-x / M_SQRT2) - p;
	error *= sqrt(2 * M_PI) * exp(x * x / 2);
	return x - error / (1 + x * error / 2);
}

/* k = otherwise, if missing, n keys, n values */
static inline double
look_up(const double *k, uint32 count, double x)
{
	uint32		n = (count - 2) / 2;
	const double *keys = k + 2;
	uint32		low = 0;
	uint32		high = n;

	if (isnan(x))
		return k[1];
	while (low < high)
	{
		uint32		middle = low + (high - low) / 2;

		if (keys[middle] < x)
			low = middle + 1;
		else
			high = middle;
	}
	return low < n && keys[low] == x ? keys[n + low] : k[0];
}

/* k = n x, n y */
static inline double
interpolate(const double *k, uint32 count, double x)
{
	uint32		n = count / 2;
	const double *y = k + n;
	uint32		i = 1;

	if (isnan(x))
		return x;
	while (i < n - 1 && x > k[i])
		i++;
	return y[i - 1] + (x - k[i - 1]) / (k[i] - k[i - 1]) * (y[i] - y[i - 1]);
}

static inline double
impute(const Running *run, uint32 i, double x)
{
	const double *k = run->k;

	if (!isnan(x) && x != k[0])
		return x;
	return k[run->step->data_count == 2 ? 1 : 1 + i];
}

/* Subtracts and multiplies or divides, rounding twice in float32. */
static inline double
scale(const Running *run, uint32 i, double x)
{
	double		offset = run->k[i];
	double		factor = run->k[run->step->count + i];
	bool		divide = run->step->op == MODEL_SCALE_DIVIDE;
	float		x32 = (float) x - (float) offset;

	if (run->float32)
		return divide ? x32 / (float) factor : x32 * (float) factor;
	return divide ? (x - offset) / factor : (x - offset) * factor;
}

static inline double
clip(double x, double low, double high)
{
	return x < low ? low : x > high ? high : x;
}

static inline double
smaller(double x, double y)
{
	return isnan(x) || x < y ? x : y;
}

static inline double
larger(double x, double y)
{
	return isnan(x) || x > y ? x : y;
}

/* Each element of the result from x, of the slot that the step names. */
#define EACH_MOVED(expression) \
	for (uint32 i = 0; i < run->step->count; i++) \
	{ \
		const double *from = run->slots + (size_t) index[i] * rows; \
		double	   *out = run->out + (size_t) i * rows; \
		for (int r = 0; r < rows; r++) \
		{ \
			double x = from[r]; \
			out[r] = (expression); \
		} \
	} \
	break

/* Steps that move slots. */
static inline void
run_move(const Running *run, int rows)
{
	const uint32 *index = MODEL_AT(run->image, uint32, run->step->data);

	switch ((ModelOp) run->step->op)
	{
		case MODEL_MISSING_TO_LOW:
			EACH_MOVED(isnan(x) ? -INFINITY : x);
		case MODEL_ZERO_TO_MISSING:
			EACH_MOVED(fabs(x) <= (double) 1e-35f ? NAN : x);
		default:
			EACH_MOVED(x);
	}
}

/* Elementwise steps of one operand. */
static inline void
run_unary(const Running *run, int rows)
{
	const double *k = run->k;

	switch ((ModelOp) run->step->op)
	{
		case MODEL_COPY:
			EACH(x);
		case MODEL_TRUNCATE:
			EACH(trunc(x));
		case MODEL_TO_BOOL:
			EACH(x != 0);
		case MODEL_NEGATE:
			EACH(-x);
		case MODEL_ABS:
			EACH(fabs(x));
		case MODEL_EXP:
			EACH(IN_PRECISION(exp, x));
		case MODEL_LOG:
			EACH(IN_PRECISION(log, x));
		case MODEL_LOG1P:
			EACH(IN_PRECISION(log1p, x));
		case MODEL_SQRT:
			EACH(sqrt(x));
		case MODEL_TANH:
			EACH(IN_PRECISION(tanh, x));
		case MODEL_RELU:
			EACH(x < 0 ? 0 : x);
		case MODEL_FLOOR:
			EACH(floor(x));
		case MODEL_CEIL:
			EACH(ceil(x));
		case MODEL_ROUND:
			EACH(rint(x));
		case MODEL_NOT:
			EACH(x == 0);
		case MODEL_IS_MISSING:
			EACH(isnan(x) != 0);
		case MODEL_RECIPROCAL:
			EACH(1 / x);
		case MODEL_SIGMOID:
			EACH(sigmoid(run, x));
		case MODEL_SIGMOID_XGBOOST:
			EACH(sigmoid_xgboost(x));
		case MODEL_NORMAL_CDF:
			EACH(0.5 * erfc(-x / M_SQRT2));
		case MODEL_NORMAL_QUANTILE:
			EACH(normal_quantile(x));
		case MODEL_CLOGLOG:
			EACH(-expm1(-exp(x)));
		case MODEL_LOGLOG:
			EACH(exp(-exp(-x)));
		case MODEL_CAUCHIT:
			EACH(0.5 + atan(x) / M_PI);
		case MODEL_CLIP:
			EACH(clip(x, k[0], k[1]));
		case MODEL_IMPUTE:
			EACH(impute(run, i, x));
		case MODEL_SCALE:
			EACH(scale(run, i, x));
		case MODEL_SCALE_DIVIDE:
			EACH(scale(run, i, x));
		case MODEL_LOOKUP:
			EACH(look_up(k, run->step->data_count, x));
		case MODEL_INTERPOLATE:
			EACH(interpolate(k, run->step->data_count, x));
		default:
			break;
	}
}

/* Elementwise steps of two operands or more. */
static inline void
run_binary(const Running *run, int rows)
{
	switch ((ModelOp) run->step->op)
	{
		case MODEL_ADD:
			EACH_PAIR(x + y);
		case MODEL_SUBTRACT:
			EACH_PAIR(x - y);
		case MODEL_MULTIPLY:
			EACH_PAIR(x * y);
		case MODEL_DIVIDE:
			EACH_PAIR(x / y);
		case MODEL_POWER:
			EACH_PAIR(run->float32 ? powf((float) x, (float) y) : pow(x, y));
		case MODEL_MODULO:
			EACH_PAIR(fmod(x, y));
		case MODEL_MINIMUM:
			EACH_PAIR(smaller(x, y));
		case MODEL_MAXIMUM:
			EACH_PAIR(larger(x, y));
		case MODEL_LESS:
			EACH_PAIR(x < y);
		case MODEL_LESS_EQUAL:
			EACH_PAIR(x <= y);
		case MODEL_GREATER:
			EACH_PAIR(x > y);
		case MODEL_GREATER_EQUAL:
			EACH_PAIR(x >= y);
		case MODEL_EQUAL:
			EACH_PAIR(x == y);
		case MODEL_NOT_EQUAL:
			EACH_PAIR(x != y);
		case MODEL_AND:
			EACH_PAIR(x != 0 && y != 0);
		case MODEL_OR:
			EACH_PAIR(x != 0 || y != 0);
		case MODEL_WHERE:
			EACH_PAIR(x != 0 ? y : run->c[i * run->c_next + r]);
		default:
			break;
	}
}

static inline void
run_one_hot(const Running *run, int rows)
{
	for (uint32 i = 0; i < run->step->count; i++)
		for (int r = 0; r < rows; r++)
			run->out[(size_t) i * rows + r] = run->a[r] == run->k[i];
}

static inline void
run_fill(const Running *run, int rows)
{
	for (uint32 i = 0; i < run->step->count; i++)
		for (int r = 0; r < rows; r++)
			run->out[(size_t) i * rows + r] = run->k[i];
}

/* Divides a row's elements by a norm. */
static inline void
normalize(const Running *run, int rows, int r)
{
	uint32		count = run->step->count;
	double		norm = 0;

	for (uint32 i = 0; i < count; i++)
	{
		double		x = run->a[(size_t) i * rows + r];

		if (run->step->op == MODEL_NORMALIZE_MAX)
			norm = larger(norm, fabs(x));
		else if (run->step->op == MODEL_NORMALIZE_L1)
			norm += fabs(x);
		else
			norm += x * x;
		if (run->float32)
			norm = (float) norm;
	}
	if (run->step->op == MODEL_NORMALIZE_L2)
		norm = run->float32 ? sqrtf((float) norm) : sqrt(norm);
	for (uint32 i = 0; i < count; i++)
	{
		double		x = run->a[(size_t) i * rows + r];

		if (norm != 0)
			x = run->float32 ? (float) x / (float) norm : x / norm;
		run->out[(size_t) i * rows + r] = x;
	}
}

/* exp(x - largest) divided by their sum, which is a double. */
static inline void
softmax(const Running *run, int rows, int r)
{
	uint32		count = run->step->count;
	bool		keep_zero = run->step->op == MODEL_SOFTMAX_ZERO;
	double		top = -INFINITY;
	double		sum = 0;

	for (uint32 i = 0; i < count; i++)
		top = larger(top, run->a[(size_t) i * rows + r]);
	for (uint32 i = 0; i < count; i++)
	{
		double		x = run->a[(size_t) i * rows + r];
		double	   *out = &run->out[(size_t) i * rows + r];

		if (keep_zero && fabs(x) <= 0.0000001)
			*out = 0;
		else
			*out = run->float32 ? expf((float) x - (float) top) :
				exp(x - top);
		sum += *out;
	}
	for (uint32 i = 0; i < count && sum != 0; i++)
	{
		double	   *out = &run->out[(size_t) i * rows + r];

		*out = run->float32 ? (float) *out / (float) sum : *out / sum;
	}
}

/* One number from a row's elements. */
static inline double
reduce(const Running *run, int rows, int r)
{
	uint32		width = run->step->width;
	double		first = run->a[r];
	double		sum = 0;
	uint32		present = 0;
	uint32		best = 0;

	for (uint32 i = 0; i < width; i++)
	{
		double		x = run->a[(size_t) i * rows + r];

		switch (run->step->op)
		{
			case MODEL_SMALLEST:
				first = smaller(first, x);
				break;
			case MODEL_LARGEST:
				first = larger(first, x);
				break;
			case MODEL_ARGMAX:
				if (x > first)
				{
					first = x;
					best = i;
				}
				break;
			case MODEL_SUM_PRESENT:
			case MODEL_COUNT_PRESENT:
				if (isnan(x))
					break;
				present++;
				/* FALLTHROUGH */
			default:
				sum = run->float32 ? (float) sum + (float) x : sum + x;
		}
	}
	switch (run->step->op)
	{
		case MODEL_SMALLEST:
		case MODEL_LARGEST:
			return first;
		case MODEL_ARGMAX:
			return best;
		case MODEL_COUNT_PRESENT:
			return present;
		case MODEL_MEAN:
			return run->float32 ? (float) sum / (float) width : sum / width;
		default:
			return sum;
	}
}

static inline void
matmul(const Running *run, int rows, int r)
{
	uint32		width = run->step->width;
	const double *bias = run->k + (size_t) run->step->count * width;

	for (uint32 i = 0; i < run->step->count; i++)
	{
		const double *weights = run->k + (size_t) i * width;
		double		sum = bias[i];

		for (uint32 j = 0; j < width; j++)
		{
			double		x = run->a[(size_t) j * rows + r];

			sum = run->float32 ?
				(float) sum + (float) x * (float) weights[j] :
				sum + x * weights[j];
		}
		run->out[(size_t) i * rows + r] = sum;
	}
}

static inline void
run_vector(const Running *run, int rows)
{
	for (int r = 0; r < rows; r++)
		switch ((ModelOp) run->step->op)
		{
			case MODEL_NORMALIZE_MAX:
			case MODEL_NORMALIZE_L1:
			case MODEL_NORMALIZE_L2:
				normalize(run, rows, r);
				break;
			case MODEL_SOFTMAX:
			case MODEL_SOFTMAX_ZERO:
				softmax(run, rows, r);
				break;
			case MODEL_MATMUL:
				matmul(run, rows, r);
				break;
			default:
				run->out[r] = reduce(run, rows, r);
		}
}

/* A term of a sum for a value. */
double
model_term(const ModelImage *image, const ModelTerm *term, double x)
{
	double		distance = x - term->center;
	double		power = distance;

	if (isnan(x))
		return term->missing;
	if (term->table != 0)
		return x >= 0 && x < term->table_count ?
			MODEL_AT(image, double, term->table)[(uint32) x] : term->unseen;
	for (uint32 i = 1; i < term->exponent; i++)
		power *= distance;
	return term->coefficient * power;
}

/* A row's sum in order, each sum rounded. */
static inline double
sum_float32(const Running *run, const ModelTerm *terms, int rows, int r)
{
	float		sum = (float) run->step->bias;

	for (uint32 i = 0; i < run->step->data_count; i++)
		sum += (float) model_term(run->image, &terms[i],
								  run->slots[(size_t) terms[i].slot * rows + r]);
	return sum;
}

static inline void
run_linear(const Running *run, int rows)
{
	const ModelTerm *terms = MODEL_AT(run->image, ModelTerm, run->step->data);

	if (!run->float32)
	{
		model_sum(run->image, run->step, run->slots, run->out, rows);
		return;
	}
	for (int r = 0; r < rows; r++)
		run->out[r] = sum_float32(run, terms, rows, r);
}

static inline void
run_step(const Running *run, int rows)
{
	ModelOp		op = (ModelOp) run->step->op;

	if (op <= MODEL_ZERO_TO_MISSING)
		run_move(run, rows);
	else if (op == MODEL_FILL)
		run_fill(run, rows);
	else if (op == MODEL_SIGMOID && (run->step->flags & MODEL_OF_SUM))
		model_sigmoid(run->a, run->out, rows);
	else if (op < MODEL_ADD)
		run_unary(run, rows);
	else if (op < MODEL_ONE_HOT)
		run_binary(run, rows);
	else if (op == MODEL_ONE_HOT)
		run_one_hot(run, rows);
	else if (op < MODEL_LINEAR)
		run_vector(run, rows);
	else if (op == MODEL_LINEAR)
		run_linear(run, rows);
	else
	{
		const ModelTrees *trees = MODEL_AT(run->image, ModelTrees,
										   run->step->data);

		if (rows == 1)
			model_walk_row(run->image, trees, run->slots, run->out,
						   run->leaves);
		else
			model_walk_block(run->image, trees, run->slots, run->out,
							 run->leaves);
	}
}

/* An operand's first element, and how far it is to the next. */
static inline const double *
operand(const Running *run, uint32 first, uint32 broadcast, int rows,
		size_t *next)
{
	*next = (run->step->flags & broadcast) ? 0 : rows;
	return first == MODEL_NONE ? NULL : run->slots + (size_t) first * rows;
}

static pg_attribute_always_inline void
run_steps(const ModelImage *image, double *slots, uint32 first, uint32 end,
		  int rows)
{
	const ModelStep *steps = MODEL_AT(image, ModelStep, image->steps);
	Running		run = {.image = image,.slots = slots};

	run.leaves = (uint32 *) (slots + (size_t) image->slot_count * rows);
	for (uint32 i = first; i < end; i++)
	{
		run.step = &steps[i];
		run.float32 = (steps[i].flags & MODEL_IN_FLOAT32) != 0;
		run.k = MODEL_AT(image, double, steps[i].data);
		run.a = operand(&run, steps[i].a, MODEL_BROADCAST_A, rows,
						&run.a_next);
		run.b = operand(&run, steps[i].b, MODEL_BROADCAST_B, rows,
						&run.b_next);
		run.c = operand(&run, steps[i].c, MODEL_BROADCAST_C, rows,
						&run.c_next);
		run.out = slots + (size_t) steps[i].out * rows;
		run_step(&run, rows);
	}
}

void
model_run(const ModelImage *image, double *workspace)
{
	run_steps(image, workspace, 0, image->step_count, 1);
}

/* Can a score do with the ranks of inputs for these trees? */
static bool
go_by_ranks(const ModelImage *image, const ModelTrees *trees)
{
	const ModelRanked *ranked = MODEL_AT(image, ModelRanked, trees->ranked);

	if (!model_ranks_rows(trees))
		return false;
	for (uint32 i = 0; i < trees->ranked_count; i++)
		if (ranked[i].slot >= image->input_count)
			return false;
	return true;
}

/* Is it elementwise and of slots from this one on? */
static bool
reads_from(const ModelStep *step, uint32 first)
{
	return step->op >= MODEL_COPY && step->op < MODEL_ONE_HOT &&
		(step->a == MODEL_NONE || step->a >= first) &&
		(step->b == MODEL_NONE || step->b >= first) &&
		(step->c == MODEL_NONE || step->c >= first);
}

/*
 * The first step that visage_score needs.  Those before prepare slots for
 * walks down trees, where ranks do.
 */
uint32
model_first_step(const ModelImage *image)
{
	const ModelStep *steps = MODEL_AT(image, ModelStep, image->steps);
	uint32		first = 0;

	while (first < image->score_steps && steps[first].op <= MODEL_FILL)
		first++;
	if (first == image->score_steps || steps[first].op != MODEL_TREES ||
		!go_by_ranks(image, MODEL_AT(image, ModelTrees, steps[first].data)))
		return 0;
	for (uint32 i = first + 1; i < image->score_steps; i++)
		if (!reads_from(&steps[i], steps[first].out))
			return 0;
	return first;
}

/* Runs only the steps that visage_score needs, from this one on. */
double
model_run_score(const ModelImage *image, double *workspace, uint32 first)
{
	run_steps(image, workspace, first, image->score_steps, 1);
	return workspace[image->score];
}

void
model_run_block(const ModelImage *image, double *workspace)
{
	run_steps(image, workspace, 0, image->step_count, MODEL_BLOCK);
}

void
model_run_block_scores(const ModelImage *image, double *workspace,
					   uint32 first)
{
	run_steps(image, workspace, first, image->score_steps, MODEL_BLOCK);
}

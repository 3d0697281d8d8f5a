/*-------------------------------------------------------------------------
 *
 * logistic.c
 *		Logistic regression by Newton's method (IRLS).
 *
 * Minimises  C * sum_i [log(1 + exp(z_i)) - y_i z_i] + |w|^2 / 2  over the
 * weights w and an intercept that is not penalised; z = x'w + b.  This is
 * the objective of scikit-learn's LogisticRegression with its default
 * penalty.  It is strictly convex, so separation is harmless.
 *
 * Each pass over the rows accumulates gradient and Hessian; the step solves
 * the normal equations by Cholesky and is halved while it does not lower the
 * objective.  (McCullagh and Nelder, Generalized Linear Models, 1989, 2.5.)
 *
 * Plain C: no server, no allocation, no globals.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "model/logistic.h"

#define MAX_HALVINGS 40

/* Hessian (n * n), gradient, step, trial; n counts the intercept. */
size_t
logistic_workspace(int columns)
{
	size_t		n = (size_t) columns + 1;

	return n * n + 3 * n;
}

/* The linear predictor of a row; the intercept comes last. */
static double
predict_row(const LogisticData *data, int64 row, const double *weights)
{
	const int32 *index = data->index + row * data->width;
	const double *value = data->value + row * data->width;
	double		sum = weights[data->columns];

	for (int i = 0; i < data->width; i++)
		if (index[i] >= 0)
			sum += weights[index[i]] * value[i];
	return sum;
}

/* log(1 + exp(z)) without overflow. */
static double
log1p_exp(double z)
{
	return z > 0 ? z + log1p(exp(-z)) : log1p(exp(z));
}

static double
sigmoid(double z)
{
	return z >= 0 ? 1 / (1 + exp(-z)) : exp(z) / (1 + exp(z));
}

/* The objective at these weights. */
static double
objective(const LogisticData *data, const LogisticOptions *options,
		  const double *weights)
{
	double		loss = 0;
	double		penalty = 0;

	for (int64 row = 0; row < data->rows; row++)
	{
		double		z = predict_row(data, row, weights);

		loss += log1p_exp(z) - (data->label[row] ? z : 0);
	}
	for (int i = 0; i < data->columns; i++)
		penalty += weights[i] * weights[i];
	return options->c * loss + penalty / 2;
}

/* Adds a row to gradient and Hessian (lower triangle). */
static void
add_row(const LogisticData *data, int64 row, double slope, double curvature,
		double *gradient, double *hessian)
{
	const int32 *index = data->index + row * data->width;
	const double *value = data->value + row * data->width;
	int			last = data->columns;
	size_t		n = (size_t) last + 1;

	gradient[last] += slope;
	hessian[last * n + last] += curvature;
	for (int i = 0; i < data->width; i++)
	{
		double		scaled;

		if (index[i] < 0)
			continue;
		gradient[index[i]] += slope * value[i];
		scaled = curvature * value[i];
		hessian[last * n + index[i]] += scaled;
		for (int j = 0; j < data->width; j++)
			if (index[j] >= 0 && index[j] <= index[i])
				hessian[index[i] * n + index[j]] += scaled * value[j];
	}
}

/* Gradient and Hessian of the objective. */
static void
differentiate(const LogisticData *data, const LogisticOptions *options,
			  const double *weights, double *gradient, double *hessian)
{
	size_t		n = (size_t) data->columns + 1;

	memset(gradient, 0, n * sizeof(double));
	memset(hessian, 0, n * n * sizeof(double));
	for (int64 row = 0; row < data->rows; row++)
	{
		double		p = sigmoid(predict_row(data, row, weights));

		add_row(data, row, options->c * (p - data->label[row]),
				options->c * p * (1 - p), gradient, hessian);
	}
	for (int i = 0; i < data->columns; i++)
	{
		gradient[i] += weights[i];
		hessian[i * n + i] += 1;
	}
	/* Not penalised, but never flat either: p(1-p) may underflow. */
	hessian[(n - 1) * n + n - 1] += 1e-10;
}

/* Cholesky in place, lower triangle; false where a pivot is not positive. */
static bool
factorise(double *matrix, int n)
{
	for (int j = 0; j < n; j++)
	{
		double	   *row_j = matrix + (size_t) j * n;
		double		pivot = row_j[j];

		for (int k = 0; k < j; k++)
			pivot -= row_j[k] * row_j[k];
		if (!(pivot > 0))
			return false;
		pivot = sqrt(pivot);
		row_j[j] = pivot;
		for (int i = j + 1; i < n; i++)
		{
			double	   *row_i = matrix + (size_t) i * n;
			double		sum = row_i[j];

			for (int k = 0; k < j; k++)
				sum -= row_i[k] * row_j[k];
			row_i[j] = sum / pivot;
		}
	}
	return true;
}

/* Solves L L' x = b with the factor. */
static void
solve(const double *factor, int n, const double *b, double *x)
{
	for (int i = 0; i < n; i++)
	{
		double		sum = b[i];

		for (int k = 0; k < i; k++)
			sum -= factor[(size_t) i * n + k] * x[k];
		x[i] = sum / factor[(size_t) i * n + i];
	}
	for (int i = n - 1; i >= 0; i--)
	{
		double		sum = x[i];

		for (int k = i + 1; k < n; k++)
			sum -= factor[(size_t) k * n + i] * x[k];
		x[i] = sum / factor[(size_t) i * n + i];
	}
}

/*
 * Goes from weights along the step, halved until the objective falls; the
 * new weights and the new objective, false where no step lowers it.
 */
static bool
descend(const LogisticData *data, const LogisticOptions *options,
		double *weights, const double *step, double *trial, double *value)
{
	int			n = data->columns + 1;
	double		length = 1;

	for (int halving = 0; halving < MAX_HALVINGS; halving++, length /= 2)
	{
		double		reached;

		options->check();
		for (int i = 0; i < n; i++)
			trial[i] = weights[i] - length * step[i];
		reached = objective(data, options, trial);
		if (reached < *value)
		{
			memcpy(weights, trial, n * sizeof(double));
			*value = reached;
			return true;
		}
	}
	return false;
}

/*
 * Fits the weights, the intercept last, from where they are.  The largest
 * component of the last step is below the tolerance on convergence; a step
 * that no longer lowers the objective has met the limit of the arithmetic.
 */
LogisticResult
logistic_fit(const LogisticData *data, const LogisticOptions *options,
			 double *weights, double *workspace, int *iterations)
{
	int			n = data->columns + 1;
	double	   *hessian = workspace;
	double	   *gradient = hessian + (size_t) n * n;
	double	   *step = gradient + n;
	double	   *trial = step + n;
	double		value = objective(data, options, weights);

	for (*iterations = 1; *iterations <= options->max_iterations;
		 (*iterations)++)
	{
		double		largest = 0;

		options->check();
		differentiate(data, options, weights, gradient, hessian);
		if (!factorise(hessian, n))
			return LOGISTIC_SINGULAR;
		solve(hessian, n, gradient, step);
		for (int i = 0; i < n; i++)
			largest = fmax(largest, fabs(step[i]));
		if (largest < options->tolerance)
			return LOGISTIC_CONVERGED;
		if (!descend(data, options, weights, step, trial, &value))
			return LOGISTIC_CONVERGED;
	}
	return LOGISTIC_NOT_CONVERGED;
}

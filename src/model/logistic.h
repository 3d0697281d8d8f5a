/*-------------------------------------------------------------------------
 *
 * logistic.h
 *		Logistic regression with an L2 penalty; see logistic.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_LOGISTIC_H
#define VISAGE_LOGISTIC_H

/* Rows with the same number of entries, most of them the only non-zero ones. */
typedef struct LogisticData
{
	int64		rows;
	int			columns;		/* without the intercept */
	int			width;			/* entries a row */
	const int32 *index;			/* rows * width: column, or -1 for none */
	const double *value;		/* rows * width */
	const unsigned char *label; /* rows: 0 or 1 */
} LogisticData;

typedef struct LogisticOptions
{
	double		c;				/* inverse strength of the penalty */
	int			max_iterations;
	double		tolerance;		/* of the largest step */
	void		(*check) (void);	/* called once a pass; may not return */
} LogisticOptions;

typedef enum LogisticResult
{
	LOGISTIC_CONVERGED,
	LOGISTIC_NOT_CONVERGED,
	LOGISTIC_SINGULAR
} LogisticResult;

/* Doubles that the caller provides as workspace. */
extern size_t logistic_workspace(int columns);
extern LogisticResult logistic_fit(const LogisticData *data,
								   const LogisticOptions *options,
								   double *weights, double *workspace,
								   int *iterations);

#endif							/* VISAGE_LOGISTIC_H */

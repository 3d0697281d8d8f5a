/*-------------------------------------------------------------------------
 *
 * metrics.h
 *		How good a binary score is; see metrics.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_METRICS_H
#define VISAGE_METRICS_H

typedef struct Scored
{
	double		score;
	bool		label;
} Scored;

typedef struct Metrics
{
	int64		rows;
	int64		positives;
	double		auc;
	double		auc_low;		/* 95 % interval */
	double		auc_high;
	double		pr_auc;
	double		logloss;
	double		brier;
	double		ks;
	double		gini;
	double		lift;			/* of the highest tenth */
} Metrics;

/* Sorts the rows; needs at least one of each class. */
extern void metrics_compute(Scored *rows, int64 count, Metrics *metrics);

#endif							/* VISAGE_METRICS_H */

/*-------------------------------------------------------------------------
 *
 * metrics.c
 *		How good a binary score is.
 *
 *	auc		probability that a positive scores above a negative, ties a half
 *	auc_low, auc_high	auc -/+ 1.96 standard errors by DeLong, DeLong and
 *			Clarke-Pearson (Biometrics 44, 1988), computed from midranks
 *	pr_auc	average precision: sum of precision times gain in recall
 *	logloss	mean of -log of the probability given to what happened
 *	brier	mean squared error of the probability
 *	ks		largest distance of the classes' distributions
 *	gini	2 auc - 1
 *	lift	share of positives in the highest tenth over the share in all
 *
 * Plain C but for the sort.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "model/metrics.h"

#define SMALLEST 1e-15			/* probabilities are clipped here for logloss */

static int
by_score(const void *a, const void *b)
{
	double		left = ((const Scored *) a)->score;
	double		right = ((const Scored *) b)->score;

	return (left > right) - (left < right);
}

/* What DeLong's variance needs: a mean and a sum of squared distances. */
typedef struct Spread
{
	int64		count;
	double		mean;
	double		squares;
} Spread;

/* Welford's update, for several equal values at once. */
static void
spread_add(Spread *spread, double value, int64 times)
{
	double		distance = value - spread->mean;

	if (times == 0)
		return;
	spread->count += times;
	spread->mean += distance * times / spread->count;
	spread->squares += distance * (value - spread->mean) * times;
}

/*
 * AUC with its interval, in one walk over the sorted rows.  For a positive
 * the share of negatives below it (ties a half) is its structural component,
 * for a negative that of the positives above it.
 */
static void
compute_auc(const Scored *rows, int64 count, Metrics *metrics)
{
	int64		positives = metrics->positives;
	int64		negatives = count - positives;
	int64		positives_below = 0;
	int64		negatives_below = 0;
	Spread		of_positives = {0};
	Spread		of_negatives = {0};
	double		error;

	for (int64 i = 0, next; i < count; i = next)
	{
		int64		tied_positives = 0;

		for (next = i; next < count && rows[next].score == rows[i].score;
			 next++)
			tied_positives += rows[next].label;
		spread_add(&of_positives,
				   (negatives_below + (next - i - tied_positives) / 2.0) /
				   negatives, tied_positives);
		spread_add(&of_negatives,
				   (positives - positives_below - tied_positives / 2.0) /
				   positives, next - i - tied_positives);
		positives_below += tied_positives;
		negatives_below += next - i - tied_positives;
	}
	metrics->auc = of_positives.mean;
	error = sqrt((positives > 1 ? of_positives.squares / (positives - 1) : 0)
				 / positives +
				 (negatives > 1 ? of_negatives.squares / (negatives - 1) : 0)
				 / negatives);
	metrics->auc_low = fmax(0, metrics->auc - 1.959963984540054 * error);
	metrics->auc_high = fmin(1, metrics->auc + 1.959963984540054 * error);
	metrics->gini = 2 * metrics->auc - 1;
}

/* Average precision, KS and lift, from the highest score down. */
static void
compute_ranking(const Scored *rows, int64 count, Metrics *metrics)
{
	int64		positives = 0;
	int64		seen = 0;
	double		negatives = count - metrics->positives;
	int64		tenth = (count + 9) / 10;
	double		hits = 0;

	for (int64 i = count - 1, next; i >= 0; i = next)
	{
		int64		tied = 0;
		int64		tied_positives = 0;

		for (next = i; next >= 0 && rows[next].score == rows[i].score; next--)
		{
			tied++;
			tied_positives += rows[next].label;
		}
		/* Of rows tied across the tenth's edge, a proportional share. */
		if (seen < tenth)
			hits += tied_positives *
				(double) Min(tied, tenth - seen) / tied;
		seen += tied;
		positives += tied_positives;
		metrics->pr_auc += (double) positives / seen * tied_positives /
			metrics->positives;
		metrics->ks = fmax(metrics->ks,
						   fabs((double) positives / metrics->positives -
								(seen - positives) / negatives));
	}
	metrics->lift = hits / tenth / ((double) metrics->positives / count);
}

/* All of them. */
void
metrics_compute(Scored *rows, int64 count, Metrics *metrics)
{
	memset(metrics, 0, sizeof(*metrics));
	metrics->rows = count;
	for (int64 i = 0; i < count; i++)
	{
		double		p = fmin(fmax(rows[i].score, SMALLEST), 1 - SMALLEST);
		double		error = rows[i].score - rows[i].label;

		metrics->positives += rows[i].label;
		metrics->logloss -= log(rows[i].label ? p : 1 - p) / count;
		metrics->brier += error * error / count;
	}
	qsort(rows, count, sizeof(Scored), by_score);
	compute_auc(rows, count, metrics);
	compute_ranking(rows, count, metrics);
}

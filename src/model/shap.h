/*-------------------------------------------------------------------------
 *
 * shap.h
 *		Exact Shapley values of the trees of an ensemble; see shap.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_SHAP_H
#define VISAGE_SHAP_H

#include "model/image.h"

/* Where contributions go. */
typedef struct ShapTask
{
	const ModelImage *image;
	const ModelTrees *trees;
	uint32		output;			/* of the ensemble */
	const double *slots;		/* of the row, which has run */
	double		scale;			/* of every contribution */
	double	   *contributions;	/* one an input: added to */
	double	   *base;			/* added to */
} ShapTask;

extern void model_shap(const ShapTask *task);

#endif							/* VISAGE_SHAP_H */

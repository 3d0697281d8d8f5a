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

/* What a session finds out once of an ensemble that it explains. */
typedef struct ShapPlan ShapPlan;

/* Where contributions go. */
typedef struct ShapTask
{
	const ShapPlan *plan;
	uint32		output;			/* of the ensemble */
	const double *slots;		/* of the row, which has run */
	double		scale;			/* of every contribution */
	double	   *contributions;	/* one an input: added to */
	double	   *base;			/* added to */
} ShapTask;

extern void model_shap_plan(const ModelImage *image, const ModelTrees *trees,
							ShapPlan **plans);
extern ShapPlan *model_shap_find(ShapPlan *plans, const ModelTrees *trees);
extern void model_shap_free(ShapPlan **plans, bool all);
extern void model_shap(const ShapTask *task);

#endif							/* VISAGE_SHAP_H */

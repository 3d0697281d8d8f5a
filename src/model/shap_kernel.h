/*-------------------------------------------------------------------------
 *
 * shap_kernel.h
 *		Products down a tree and sums up, for one instruction set: a template.
 *
 * Before including it define
 *		SHAP_NAME(what)	the name of a function
 *		SHAP_COUNT		how many points, from the first lane on
 *		SHAP_VECTOR		the type of vectors
 *		SHAP_TARGET		the functions' attribute
 * All are undefined again at the end; SHAP_NAME(explain) stays.
 *
 * Any memory might be what a vector is stored to, so what loops need again
 * and again is passed by value.
 *
 *-------------------------------------------------------------------------
 */

#define SHAP_VECTORS (int) (SHAP_COUNT * sizeof(double) / sizeof(SHAP_VECTOR))
#define AS_VECTORS(lanes) ((SHAP_VECTOR *) (lanes).at)

/* A child's product, of its parent's. */
static pg_attribute_always_inline SHAP_TARGET void
SHAP_NAME(scale) (ShapPlace *child, const ShapPlace *parent, double factor)
{
	child->passed = false;
	for (int k = 0; k < SHAP_VECTORS; k++)
		AS_VECTORS(child->sum)[k] = AS_VECTORS(parent->sum)[k] * factor;
}

/*
 * Each place below the root gets its product, a leaf its value times that.
 * The factor of the side that the row takes, the hot one, is t + (1 - t) zero
 * and that of the other (1 - t) zero, in place of the one that the input's
 * last test above has left.
 */
static SHAP_TARGET void
SHAP_NAME(down) (Shap shap, ShapTree tree, const ShapPoints *points)
{
	for (uint32 i = 0; i < tree.inner_count; i++)
	{
		const ShapNode *node = &tree.inner[i];
		const ShapPlace *here = &shap.places[node->place];
		const ShapPlace *before = &shap.places[node->before];
		int			side = shap_side(&shap, tree.first + node->place);
		ShapPlace  *hot = &shap.places[node->child + side];
		ShapPlace  *cold = &shap.places[node->child + !side];
		double		hot_worth = shap_worth(&shap, node->leaf[side]);
		double		cold_worth = shap_worth(&shap, node->leaf[!side]);
		double		hot_zero = before->zero * node->part[side];
		double		cold_zero = before->zero * node->part[!side];

		if (!before->passed)
		{
			SHAP_NAME(scale) (hot, here, node->part[side] * hot_worth);
			SHAP_NAME(scale) (cold, here, node->part[!side] * cold_worth);
			continue;
		}
		hot->passed = true;
		hot->zero = hot_zero;
		cold->passed = false;
		for (int k = 0; k < SHAP_VECTORS; k++)
		{
			SHAP_VECTOR rest = AS_VECTORS(points->rest)[k];
			SHAP_VECTOR factor = AS_VECTORS(points->point)[k];
			SHAP_VECTOR others = AS_VECTORS(here->sum)[k];

			factor += rest * hot_zero;
			others *= AS_VECTORS(before->inverse)[k];
			AS_VECTORS(hot->inverse)[k] = 1 / factor;
			AS_VECTORS(hot->sum)[k] = others * (factor * hot_worth);
			AS_VECTORS(cold->sum)[k] = others *
				(rest * (cold_zero * cold_worth));
		}
	}
}

/*
 * Each place gets the sum of the leaves below it.  Of a leaf an input gets
 * (one - zero) over its newest factor; so a test adds what that makes of each
 * side's leaves and takes back what the last test above made of them, which
 * is the same where the row has not passed that.
 */
static SHAP_TARGET void
SHAP_NAME(up) (Shap shap, ShapTree tree, const ShapPoints *points)
{
	for (uint32 i = tree.inner_count; i-- > 0;)
	{
		const ShapNode *node = &tree.inner[i];
		ShapPlace  *here = &shap.places[node->place];
		const ShapPlace *before = &shap.places[node->before];
		int			side = !shap.places[node->child].passed;
		const ShapPlace *hot = &shap.places[node->child + side];
		const ShapPlace *cold = &shap.places[node->child + !side];
		ShapLanes  *total = &shap.totals[node->input];

		for (int k = 0; k < SHAP_VECTORS; k++)
			AS_VECTORS(here->sum)[k] = AS_VECTORS(hot->sum)[k] +
				AS_VECTORS(cold->sum)[k];
		if (!before->passed)
			continue;
		for (int k = 0; k < SHAP_VECTORS; k++)
			AS_VECTORS(*total)[k] += AS_VECTORS(hot->sum)[k] *
				AS_VECTORS(hot->inverse)[k] * (1 - hot->zero) -
				AS_VECTORS(cold->sum)[k] * AS_VECTORS(points->rest_inverse)[k] -
				AS_VECTORS(here->sum)[k] * AS_VECTORS(before->inverse)[k] *
				(1 - before->zero);
	}
}

/* Adds a tree, whose root has its product, to the totals. */
static SHAP_TARGET void
SHAP_NAME(explain) (const Shap *shap, const ShapTree *tree,
					const ShapPoints *points)
{
	SHAP_NAME(down) (*shap, *tree, points);
	SHAP_NAME(up) (*shap, *tree, points);
}

#undef AS_VECTORS
#undef SHAP_VECTORS
#undef SHAP_NAME
#undef SHAP_COUNT
#undef SHAP_VECTOR
#undef SHAP_TARGET

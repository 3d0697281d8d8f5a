/*-------------------------------------------------------------------------
 *
 * import_lightgbm.h
 *		A LightGBM model as its file has it.
 *
 * import_lightgbm_read.c fills this from the text and checks the notation and that
 * every list has the length it must have; import_lightgbm.c checks what the
 * numbers point at and says what they mean.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_IMPORT_LIGHTGBM_H
#define VISAGE_IMPORT_LIGHTGBM_H

/*
 * Splits are numbered from 0, leaves from 0 apart from them; a child is the
 * number of a split or the complement (~) of the number of a leaf.
 */
typedef struct LightgbmTree
{
	int64		line;			/* where it begins */
	int			leaf_count;
	int			set_count;		/* of sets of categories */
	bool		is_linear;
	int32	   *feature;		/* of each split */
	int32	   *decision;
	int32	   *left;
	int32	   *right;
	double	   *threshold;		/* of a categorical split: number of a set */
	double	   *leaf_value;
	int32	   *leaf_weight;	/* rows in training, or NULL */
	int32	   *set_bounds;		/* set_count + 1, in words */
	uint32	   *set_words;
	double	   *constant;		/* linear: of each leaf */
	int32	   *term_counts;	/* linear: of each leaf */
	int32	   *term_features;
	double	   *term_factors;
} LightgbmTree;

/* The categories of one pandas column, in the order of their codes. */
typedef struct LightgbmCategories
{
	int			count;
	char	  **names;
} LightgbmCategories;

typedef struct LightgbmModel
{
	int			version;		/* of the file's format */
	int			class_count;
	int			trees_per_iteration;
	int			feature_count;
	char	   *objective;		/* NULL: custom */
	bool		average_output;
	char	  **names;
	char	  **infos;			/* range or categories of each feature */
	int			tree_count;
	LightgbmTree *trees;
	int			categorical_count;	/* as the parameters list them; 0: not */
	int32	   *categorical;
	int			pandas_count;
	LightgbmCategories *pandas;
} LightgbmModel;

/* ---- import_lightgbm_read.c ---- */

extern LightgbmModel *model_read_lightgbm(const char *bytes, Size length);

/* ---- import_lightgbm_pandas.c ---- */

extern const char *model_read_lightgbm_categorical(LightgbmModel *model,
												   const char *at,
												   const char *end);
extern const char *model_read_lightgbm_pandas(LightgbmModel *model,
											  const char *json,
											  const char *end);

#endif							/* VISAGE_IMPORT_LIGHTGBM_H */

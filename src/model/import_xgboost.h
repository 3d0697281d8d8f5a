/*-------------------------------------------------------------------------
 *
 * import_xgboost.h
 *		An XGBoost model as its file has it.
 *
 * import_xgboost_read.c fills this from JSON or UBJSON and checks nothing but the
 * notation; import_xgboost.c checks that the parts fit and says what they
 * mean.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_IMPORT_XGBOOST_H
#define VISAGE_IMPORT_XGBOOST_H

/* Arrays of one element a node; NULL where the file has none. */
typedef struct XgboostTree
{
	Size		offset;			/* in the file, where it begins */
	int			id;
	int			node_count;
	int			declared_nodes; /* by its parameters */
	int			vector_leaf;	/* outputs of a leaf, 1 or 0 for a scalar */
	int32	   *left;
	int32	   *right;
	int32	   *feature;
	int32	   *default_left;
	int32	   *split_type;		/* 1 for a categorical split */
	float	   *condition;		/* threshold, or the value of a leaf */
	float	   *hessian;
	int			category_node_count;	/* nodes with a categorical split */
	int32	   *category_nodes;
	int32	   *category_starts;
	int32	   *category_sizes;
	int			category_count;
	int32	   *categories;
	int			lengths[9];		/* of the arrays above, in their order */
} XgboostTree;

/* The categories of a feature, in the order of their codes. */
typedef struct XgboostCategories
{
	int			count;
	char	  **names;
} XgboostCategories;

typedef struct XgboostModel
{
	const char *format;			/* for messages */
	int			version[3];		/* 0 where the file says nothing */
	char	   *objective;
	char	   *booster;		/* gbtree, dart, gblinear */
	char	   *base_score;		/* a number or numbers in brackets */
	int			feature_count;
	int			class_count;
	int			target_count;
	int			parallel_trees;
	int			best_iteration; /* -1 where none is recorded */
	int			name_count;
	char	  **names;
	int			type_count;
	char	  **types;
	int			tree_count;
	XgboostTree *trees;
	int			declared_trees;
	int			group_count;
	int32	   *groups;			/* output of each tree */
	int			boundary_count;
	int32	   *boundaries;		/* of iterations among the trees */
	int			drop_count;
	float	   *drops;			/* weights of dart's trees */
	int			weight_count;
	float	   *weights;		/* gblinear */
	int			category_column_count;
	XgboostCategories *category_columns;
} XgboostModel;

extern XgboostModel *model_read_xgboost(const char *bytes, Size length,
										bool binary);

#endif							/* VISAGE_IMPORT_XGBOOST_H */

/*-------------------------------------------------------------------------
 *
 * import_onnx_trees.h
 *		An ensemble of trees as its operator's attributes say it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_IMPORT_ONNX_TREES_H
#define VISAGE_IMPORT_ONNX_TREES_H

#include "model/import_onnx.h"

typedef enum OnnxLink
{
	ONNX_LINK_NONE,
	ONNX_LINK_SOFTMAX,
	ONNX_LINK_LOGISTIC
} OnnxLink;

typedef struct OnnxWeight
{
	int			output;
	double		value;
} OnnxWeight;

typedef struct OnnxTreeNode
{
	ProgramTest test;
	int			feature;
	double		value;
	bool		missing_yes;
	uint32	   *set;
	int			set_words;
	int			yes;			/* numbers of nodes of the ensemble */
	int			no;
	int			first_weight;	/* of leaves */
	int			weight_count;
} OnnxTreeNode;

typedef struct OnnxTree
{
	int			root;
	int			output;			/* the only one with weights, or -1 */
	bool	   *full;			/* each leaf has a weight for the output */
} OnnxTree;

typedef struct OnnxEnsemble
{
	int			outputs;
	bool		float32;
	bool		average;
	ModelAggregate aggregate;
	int			node_count;
	OnnxTreeNode *nodes;
	int			tree_count;
	OnnxTree   *trees;
	int			weight_count;
	OnnxWeight *weights;		/* those of a leaf side by side */
	bool		all_positive;	/* no weight is below 0 */
	bool	   *weighted;		/* some leaf has a weight for the output */
	int			base_count;
	double	   *base;			/* one an output; 0 if there are none */
} OnnxEnsemble;

/* import_onnx_ensemble.c */
extern void onnx_read_ensemble(OnnxImport *import, const OnnxValue *input,
							   bool classes, OnnxEnsemble *ensemble);

#endif							/* VISAGE_IMPORT_ONNX_TREES_H */

/*-------------------------------------------------------------------------
 *
 * export_onnx.h
 *		What the files that write ONNX share: a graph being written.
 *
 * Each slot of the program is a column of a tensor of the graph.  Tensors
 * are of type double, but for operators in float32 and for trees in float32,
 * round which values are cast.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_EXPORT_ONNX_H
#define VISAGE_EXPORT_ONNX_H

#include "model/export.h"

/* TensorProto.DataType */
#define ONNX_FLOAT 1
#define ONNX_UINT8 2
#define ONNX_INT64 7
#define ONNX_STRING 8
#define ONNX_BOOL 9
#define ONNX_DOUBLE 11

typedef struct OnnxColumn
{
	const char *tensor;			/* NULL: nothing was computed yet */
	int			column;
	int			width;			/* columns of the tensor */
} OnnxColumn;

typedef struct OnnxGraph
{
	const ModelImage *image;
	StringInfoData graph;		/* GraphProto */
	StringInfoData node;		/* NodeProto that is being written */
	int			names;			/* given so far */
	bool		new_trees;		/* TreeEnsemble is used */
	OnnxColumn *columns;		/* one a slot */
} OnnxGraph;

/* export_onnx.c */
extern char *onnx_new_name(OnnxGraph *graph);
extern void onnx_begin_node(OnnxGraph *graph, const char *operator,
							bool of_ml);
extern void onnx_node_input(OnnxGraph *graph, const char *name);
extern void onnx_node_int(OnnxGraph *graph, const char *name, int64 value);
extern void onnx_node_ints(OnnxGraph *graph, const char *name,
						   const int64 *values, int count);
extern void onnx_node_floats(OnnxGraph *graph, const char *name,
							 const double *values, int count);
extern void onnx_node_texts(OnnxGraph *graph, const char *name,
							const char *const *texts, int count);
extern void onnx_node_text(OnnxGraph *graph, const char *name,
						   const char *text);
extern void onnx_node_tensor(OnnxGraph *graph, const char *name, int type,
							 const double *values, int count);
extern char *onnx_end_node(OnnxGraph *graph);
extern char *onnx_simple(OnnxGraph *graph, const char *operator,
						 const char *a, const char *b, const char *c);
extern char *onnx_cast(OnnxGraph *graph, const char *tensor, int type);
extern char *onnx_doubles(OnnxGraph *graph, const double *values, int rows,
						  int columns);
extern char *onnx_number(OnnxGraph *graph, double number);
extern char *onnx_operand(OnnxGraph *graph, uint32 first, int count);
extern void onnx_set_columns(OnnxGraph *graph, uint32 first,
							 const char *tensor, int count);

/* export_onnx_step.c */
extern void onnx_export_step(OnnxGraph *graph, const ModelStep *step);
extern void onnx_refuse_export(const char *what);
extern char *onnx_in_precision(OnnxGraph *graph, const ModelStep *step,
							   char *tensor);
extern char *onnx_truncate(OnnxGraph *graph, char *a);

/* export_onnx_trees.c */
extern void onnx_export_trees(OnnxGraph *graph, const ModelStep *step);

/* export_onnx_ensemble.c */
extern void onnx_export_ensemble(OnnxGraph *graph, const ModelTrees *trees,
								 uint32 out);

#endif							/* VISAGE_EXPORT_ONNX_H */

/*-------------------------------------------------------------------------
 *
 * import_onnx.h
 *		What the files that read ONNX share.
 *
 * import_onnx_wire.c turns bytes into the structs of the first part and
 * knows the encoding only; import_onnx.c walks the graph and keeps the values
 * of the second part; each import_onnx_<theme>.c has the operators of a
 * theme.  Everything lives in the memory context of the import.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_IMPORT_ONNX_H
#define VISAGE_IMPORT_ONNX_H

#include "postgres.h"

#include "model/import.h"
#include "model/import_texts.h"

/* ---- the file: import_onnx_wire.c ---- */

/* TensorProto.DataType, those that are known by name. */
typedef enum OnnxType
{
	ONNX_UNDEFINED = 0,
	ONNX_FLOAT = 1,
	ONNX_UINT8 = 2,
	ONNX_INT8 = 3,
	ONNX_UINT16 = 4,
	ONNX_INT16 = 5,
	ONNX_INT32 = 6,
	ONNX_INT64 = 7,
	ONNX_STRING = 8,
	ONNX_BOOL = 9,
	ONNX_FLOAT16 = 10,
	ONNX_DOUBLE = 11,
	ONNX_UINT32 = 12,
	ONNX_UINT64 = 13
} OnnxType;

/* AttributeProto.AttributeType, those that operators of ours have. */
typedef enum OnnxAttributeType
{
	ONNX_ATTRIBUTE_FLOAT = 1,
	ONNX_ATTRIBUTE_INT = 2,
	ONNX_ATTRIBUTE_STRING = 3,
	ONNX_ATTRIBUTE_TENSOR = 4,
	ONNX_ATTRIBUTE_GRAPH = 5,
	ONNX_ATTRIBUTE_FLOATS = 6,
	ONNX_ATTRIBUTE_INTS = 7,
	ONNX_ATTRIBUTE_STRINGS = 8
} OnnxAttributeType;

#define ONNX_MAX_RANK 8

/* Numbers of all types are kept as double or as int64, whichever is exact. */
typedef struct OnnxTensor
{
	char	   *name;
	OnnxType	type;
	int			rank;
	int64		dims[ONNX_MAX_RANK];
	int			count;			/* of elements */
	double	   *numbers;		/* of floating-point types */
	int64	   *integers;		/* of integer types and bool */
	char	  **texts;
} OnnxTensor;

typedef struct OnnxAttribute
{
	char	   *name;
	int			type;
	double		f;
	int64		i;
	char	   *s;
	OnnxTensor *t;
	int			count;			/* of one of the lists */
	double	   *floats;
	int64	   *ints;
	char	  **strings;
} OnnxAttribute;

typedef struct OnnxNode
{
	char	   *name;
	char	   *op_type;
	char	   *domain;			/* "" for ai.onnx */
	int			input_count;
	char	  **inputs;			/* "" for one left out */
	int			output_count;
	char	  **outputs;
	int			attribute_count;
	OnnxAttribute *attributes;
	size_t		position;		/* in the file, for messages */
	struct OnnxEnsemble *ensemble;	/* read at the first walk */
} OnnxNode;

/* An input or output of the graph. */
typedef struct OnnxValueInfo
{
	char	   *name;
	OnnxType	type;			/* of a tensor; undefined for sequences */
	int			rank;			/* -1: no shape given */
	int64		dims[ONNX_MAX_RANK];	/* -1: symbolic */
} OnnxValueInfo;

typedef struct OnnxModel
{
	int64		ir_version;
	int64		opset;			/* of ai.onnx; 0: not used */
	int64		opset_ml;		/* of ai.onnx.ml; 0: not used */
	char	   *producer;
	int			node_count;
	OnnxNode   *nodes;
	int			initializer_count;
	OnnxTensor *initializers;
	int			input_count;
	OnnxValueInfo *inputs;
	int			output_count;
	OnnxValueInfo *outputs;
} OnnxModel;

extern OnnxModel *onnx_read(const char *data, size_t size);

/* ---- values and operators ---- */

/*
 * A tensor of the graph.  A constant has all its elements; any other has one
 * row of a batch, whose dimension 0 is left open (-1), and a slot for each
 * element of the row.
 */
typedef struct OnnxValue
{
	const char *name;
	OnnxType	type;
	int			rank;
	int64		dims[ONNX_MAX_RANK];
	int			width;			/* elements of a row, or of the constant */
	const OnnxTensor *constant;
	int		   *slots;
	ImportTexts **texts;		/* of strings, one an element */
	/* a class's label: which classes there are, and the number's slot */
	int			label_count;
	char	  **labels;
	int			label_slot;
	/* a score or probability: the slots before the link, if known */
	int			raw;
	int			raw_count;
	bool		map;			/* by ZipMap */
} OnnxValue;

typedef struct OnnxImport
{
	const ImportSource *source;
	OnnxModel  *model;
	ModelProgram *program;
	bool		collecting;		/* the first walk: only texts matter */
	ImportTexts **inputs;		/* one for each input of the program */
	int			input_count;
	ImportTexts *names;			/* of values */
	OnnxValue **values;			/* by the number of their name */
	int			values_allocated;
	const OnnxNode *node;		/* where the walk is */
} OnnxImport;

typedef void (*OnnxOperator) (OnnxImport *import, const OnnxNode *node);

typedef struct OnnxOperatorEntry
{
	const char *name;
	OnnxOperator operator;
} OnnxOperatorEntry;

/* Tables that end with a NULL name. */
extern const OnnxOperatorEntry onnx_math_operators[];
extern const OnnxOperatorEntry onnx_shape_operators[];
extern const OnnxOperatorEntry onnx_ml_operators[];
extern const OnnxOperatorEntry onnx_tree_operators[];

/* import_onnx_value.c */
extern void onnx_refuse(const OnnxImport *import, const char *format,...)
			pg_attribute_printf(2, 3) pg_attribute_noreturn();
extern void onnx_invalid(const OnnxImport *import, const char *format,...)
			pg_attribute_printf(2, 3) pg_attribute_noreturn();
extern const char *onnx_type_name(OnnxType type);
extern bool onnx_is_float(OnnxType type);
extern bool onnx_is_integer(OnnxType type);

extern const OnnxAttribute *onnx_attribute(const OnnxImport *import,
										   const char *name, int type);
extern int64 onnx_int(const OnnxImport *import, const char *name,
					  int64 if_none);
extern double onnx_float(const OnnxImport *import, const char *name,
						 double if_none);
extern const char *onnx_string(const OnnxImport *import, const char *name,
							   const char *if_none);
extern void onnx_known_attributes(const OnnxImport *import,
								  const char *const *known);

extern OnnxValue *onnx_input(OnnxImport *import, int i);
extern OnnxValue *onnx_optional_input(OnnxImport *import, int i);
extern OnnxValue *onnx_find_value(OnnxImport *import, const char *name);
extern OnnxValue *onnx_output(OnnxImport *import, int i, OnnxType type);
extern OnnxValue *onnx_add_value(OnnxImport *import, const char *name);
extern void onnx_set_shape(OnnxImport *import, OnnxValue *value, int rank,
						   const int64 *dims);
extern void onnx_same_shape(OnnxValue *value, const OnnxValue *as);
extern void onnx_set_run(OnnxValue *value, int first);
extern void onnx_copy_meaning(OnnxValue *value, const OnnxValue *of);
extern double onnx_constant_number(const OnnxValue *value, int i);
extern int64 onnx_constant_integer(const OnnxImport *import,
								   const OnnxValue *value, int i);
extern int	onnx_run(OnnxImport *import, OnnxValue *value);
extern void onnx_require_number(const OnnxImport *import,
								const OnnxValue *value);
extern void onnx_require_rows(const OnnxImport *import,
							  const OnnxValue *value);
extern void onnx_require_last_axis(const OnnxImport *import,
								   const OnnxValue *value, int64 axis);
extern OnnxValue *onnx_result_of_rows(OnnxImport *import, int output,
									  OnnxType type, int width);

/* import_onnx_shape.c */
extern void onnx_choose(OnnxImport *import, OnnxValue *output, int i,
						const OnnxValue *input, int64 index);

/* import_onnx_trees.c */
extern int	onnx_link(OnnxImport *import, int first, int count);
extern int	onnx_link_one(OnnxImport *import, int slot, int classes);

/* import_onnx_value.c, labels */
extern void onnx_set_labels(OnnxImport *import, OnnxValue *label,
							const char *strings, const char *ints,
							int count, int slot);

#endif							/* VISAGE_IMPORT_ONNX_H */

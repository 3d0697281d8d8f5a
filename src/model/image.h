/*-------------------------------------------------------------------------
 *
 * image.h
 *		A model as a flat, immutable block of bytes.
 *
 * Everything is found by offsets from the block's beginning, so it can be
 * stored, copied and mapped anywhere.  It is checked once, when it is
 * loaded; after that scoring trusts it, allocates nothing and cannot fail.
 * image.c and kernel.c know nothing of the server but its basic types.
 *
 * A model is a straight-line program over slots.  A slot is a double; the
 * first ones are the inputs, in order, and each step reads slots and writes
 * others.  A number of type float32 is a double that float32 can hold: a
 * step in float32 rounds its results.  program.h is how a program is
 * written; this is what it is compiled to.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_IMAGE_H
#define VISAGE_IMAGE_H

#define MODEL_MAGIC 0x47415356	/* "VSAG" */
#define MODEL_FORMAT 4
#define MODEL_BYTE_ORDER 0x0102

#define MODEL_MAX_SLOTS (1 << 20)
#define MODEL_NONE 0xFFFFFFFFu	/* no slot */

/* Trees of at most so many leaves are scored densely in blocks. */
#define MODEL_DENSE_LEAVES 64

typedef enum ModelTask
{
	MODEL_REGRESSION = 1,		/* the outputs are values */
	MODEL_CLASSIFICATION = 2	/* the outputs are classes */
} ModelTask;

typedef enum ModelInputKind
{
	MODEL_NUMERIC = 1,
	MODEL_CATEGORY = 2
} ModelInputKind;

/* What a number becomes before anything else is done with it. */
typedef enum ModelCast
{
	MODEL_FLOAT64 = 0,
	MODEL_FLOAT32 = 1,			/* rounded to the nearest float32 */
	MODEL_INTEGER = 2			/* truncated towards zero */
} ModelCast;

/* Flags of an input. */
#define MODEL_REFUSE_MISSING 1	/* NULL and NaN are an ERROR */
#define MODEL_REFUSE_UNSEEN 2	/* so is a category that is not listed */
#define MODEL_INFINITE_IS_MISSING 4

typedef struct ModelInput
{
	uint32		kind;
	uint32		name;			/* offset of a NUL-terminated string */
	uint32		cast;
	uint32		flags;
	double		missing;		/* the slot's value for NULL and NaN */
	double		marker;			/* a number that counts as missing, or NaN */
	double		unseen;			/* for a category that is not listed */
	uint32		category_count;
	uint32		categories;		/* offset of ModelCategory[], sorted by bytes */
} ModelInput;

typedef struct ModelCategory
{
	uint32		text;			/* offset of a NUL-terminated string */
	uint32		code;			/* what the slot gets */
} ModelCategory;

/*
 * What a step does.  a, b and c are operands of the step: vectors of slots,
 * or a constant where the operand's slot is MODEL_NONE.  "Elementwise" is
 * out[i] = f(a[i], b[i]) for i below count; an operand whose BROADCAST flag
 * is set is one element.  NaN is a missing value and spreads as in IEEE 754
 * unless said otherwise.  k[] are the step's constants.
 */
typedef enum ModelOp
{
	/* copying */
	MODEL_MOVE = 1,				/* out[i] = slot[index[i]] */
	MODEL_MISSING_TO_LOW,		/* the same, NaN becomes -infinity */
	MODEL_ZERO_TO_MISSING,		/* the same, |x| <= 1e-35f becomes NaN */
	MODEL_FILL,					/* out[i] = k[i] */
	/* elementwise, one operand */
	MODEL_COPY,					/* a (rounded, if the step is in float32) */
	MODEL_TRUNCATE,				/* to an integer, towards zero */
	MODEL_TO_BOOL,				/* a != 0; NaN is true */
	MODEL_NEGATE,
	MODEL_ABS,
	MODEL_EXP,
	MODEL_LOG,
	MODEL_LOG1P,				/* log(1 + a), exact for small a */
	MODEL_SQRT,
	MODEL_TANH,
	MODEL_RELU,
	MODEL_FLOOR,
	MODEL_CEIL,
	MODEL_ROUND,				/* half to even */
	MODEL_NOT,					/* a == 0 */
	MODEL_IS_MISSING,			/* 1 for NaN, else 0 */
	MODEL_RECIPROCAL,
	MODEL_SIGMOID,				/* 1 / (1 + exp(-a)) */
	MODEL_SIGMOID_XGBOOST,		/* 1 / (exp(min(-a, 88.7)) + 1 + 1e-16) */
	MODEL_NORMAL_CDF,			/* PMML's probit */
	MODEL_NORMAL_QUANTILE,		/* ONNX's PROBIT */
	MODEL_CLOGLOG,				/* 1 - exp(-exp(a)) */
	MODEL_LOGLOG,				/* exp(-exp(-a)) */
	MODEL_CAUCHIT,				/* 1/2 + atan(a) / pi */
	MODEL_CLIP,					/* from k[0] to k[1]; NaN stays */
	MODEL_IMPUTE,				/* k[1+i] where a[i] is NaN or equals k[0];
								 * one k[1] serves all */
	MODEL_SCALE,				/* (a[i] - k[i]) * k[count+i] */
	MODEL_SCALE_DIVIDE,			/* (a[i] - k[i]) / k[count+i] */
	MODEL_LOOKUP,				/* k = otherwise, if missing, n keys in rising
								 * order, n values: the value of the key that
								 * a[i] equals */
	MODEL_INTERPOLATE,			/* k = n rising x, n y: piecewise linear, the
								 * end pieces go on */
	/* elementwise, two operands; the second may be k[] */
	MODEL_ADD,
	MODEL_SUBTRACT,
	MODEL_MULTIPLY,
	MODEL_DIVIDE,
	MODEL_POWER,
	MODEL_MODULO,				/* fmod */
	MODEL_MINIMUM,				/* NaN if either is NaN */
	MODEL_MAXIMUM,
	MODEL_LESS,					/* 1 or 0; false for NaN */
	MODEL_LESS_EQUAL,
	MODEL_GREATER,
	MODEL_GREATER_EQUAL,
	MODEL_EQUAL,
	MODEL_NOT_EQUAL,			/* true for NaN */
	MODEL_AND,					/* of a != 0 and b != 0 */
	MODEL_OR,
	/* elementwise, three operands, all slots */
	MODEL_WHERE,				/* a[i] != 0 ? b[i] : c[i] */
	/* one element to many */
	MODEL_ONE_HOT,				/* out[i] = 1 if a equals k[i], else 0 */
	/* vectors: count elements to as many */
	MODEL_NORMALIZE_MAX,		/* a divided by its largest |a|, or itself if
								 * that is 0 */
	MODEL_NORMALIZE_L1,
	MODEL_NORMALIZE_L2,
	MODEL_SOFTMAX,
	MODEL_SOFTMAX_ZERO,			/* as ONNX: elements that are 0 stay 0 */
	/* vectors: width elements of a to one */
	MODEL_SUM,					/* in order */
	MODEL_MEAN,
	MODEL_SMALLEST,
	MODEL_LARGEST,
	MODEL_ARGMAX,				/* the first of the largest */
	MODEL_SUM_PRESENT,			/* of those that are not NaN */
	MODEL_COUNT_PRESENT,
	/* vectors: width elements to count */
	MODEL_MATMUL,				/* k = count rows of width weights, then count
								 * biases: out[i] = bias[i] + sum of a[j]
								 * w[i][j], added in order, the bias first; in
								 * float32 each product and sum is rounded */
	/* what is learnt */
	MODEL_LINEAR,				/* one output from ModelTerm[] */
	MODEL_TREES,				/* count outputs from ModelTrees */
	MODEL_OP_END
} ModelOp;

/* Flags of a step. */
#define MODEL_IN_FLOAT32 1
#define MODEL_BROADCAST_A 2
#define MODEL_BROADCAST_B 4
#define MODEL_BROADCAST_C 8
#define MODEL_OF_SUM 16			/* MODEL_SIGMOID: of what MODEL_LINEAR gives,
								 * in float64; see sigmoid.h */

typedef struct ModelStep
{
	uint32		op;
	uint32		flags;
	uint32		out;			/* first slot written */
	uint32		count;			/* of slots written */
	uint32		a;				/* first slots read */
	uint32		b;
	uint32		c;
	uint32		width;			/* elements of a, where that is not count */
	uint32		data;			/* offset of double[], of uint32[] for
								 * MODEL_MOVE and its like, ModelTerm[] or
								 * ModelTrees */
	uint32		data_count;		/* elements there */
	double		bias;			/* of MODEL_LINEAR */
} ModelStep;

/*
 * A term of a sum.  Without a table: coefficient * (x - center)^exponent.  With one: table[x] for a
 * code below the table's size, else unseen.
 */
typedef struct ModelTerm
{
	uint32		slot;
	uint32		exponent;		/* from 1 */
	uint32		table;			/* offset of double[], or 0 */
	uint32		table_count;
	double		coefficient;
	double		center;
	double		missing;		/* the term for NaN */
	double		unseen;
	double		expected;		/* mean of the term over the training rows, or
								 * 0: what visage_explain subtracts */
} ModelTerm;

/* How the trees of an output become one number. */
typedef enum ModelAggregate
{
	MODEL_TREES_SUM = 0,
	MODEL_TREES_MINIMUM = 1,
	MODEL_TREES_MAXIMUM = 2
} ModelAggregate;

/* Flags of an ensemble. */
#define MODEL_TREES_FLOAT32 1	/* sums are rounded to float32 at each step */
#define MODEL_TREES_BASE_LAST 2 /* the base is added after the trees */
#define MODEL_TREES_TESTS 4		/* some nodes are no MODEL_TEST_AT_MOST */
#define MODEL_TREES_LINEAR 8	/* some leaves are linear */

/*
 * A test goes on at next where it holds, at next + 1 where it does not.
 * A leaf tests a slot that is always 0 against its number, and goes on at
 * itself: a walk may take more steps than the tree is deep.
 */
#define MODEL_TEST_AT_MOST 0	/* x <= threshold; no for NaN */
#define MODEL_TEST_EQUAL 1		/* x == threshold */
#define MODEL_TEST_IN 2			/* x, truncated, is a member of the set */
#define MODEL_TEST_MASK 3
#define MODEL_TEST_MISSING 4	/* the test holds for NaN */
#define MODEL_TEST_NEGATIVE 8	/* IN: what is below 0 but truncates to 0 is 0 */
#define MODEL_TEST_EXACT 16		/* IN: only integers are members */
#define MODEL_TEST_LEAF 32

typedef struct ModelSet
{
	uint32		first;			/* word */
	uint32		words;
} ModelSet;

typedef struct ModelNode
{
	union
	{
		double		threshold;
		ModelSet	set;
	}			u;
	uint32		slot_and_test;	/* slot * 64 + test */
	uint32		next;
} ModelNode;

#define MODEL_NODE_SLOT(node) ((node)->slot_and_test >> 6)
#define MODEL_NODE_TEST(node) ((node)->slot_and_test & 63)

typedef struct ModelTree
{
	uint32		root;			/* node; the tree's nodes are contiguous and
								 * children come after their parents */
	uint32		node_count;
	uint32		depth;			/* steps to the deepest leaf */
	uint32		first_leaf;
	uint32		leaf_count;
	uint32		output;			/* or MODEL_NONE: leaves have all outputs */
	uint32		dense;			/* first of leaf_count - 1 dense nodes */
	uint32		unused;
} ModelTree;

/* An inner node for the block kernel: reach masks by tree-local number. */
typedef struct ModelDense
{
	double		threshold;
	uint32		slot;
	uint8		yes;			/* inner node, or DENSE_LEAVES + leaf */
	uint8		no;
	uint16		unused;
} ModelDense;

/*
 * A slot whose values are ranked.  A value's rank is how many of the slot's
 * thresholds it is not at most, so x <= threshold number r is rank <= r: a
 * comparison of bytes.  NaN has a rank that no other value has.  A histogram
 * of 255 bins, which most ensembles are grown from, leaves 254 thresholds.
 *
 * Thresholds are in strides of sixteen, padded with infinity; before the
 * first stride are sixteen pivots, the last threshold of each stride but the
 * last, padded likewise.
 */
#define MODEL_RANKS 254
#define MODEL_RANKED_SLOTS 128
#define MODEL_RANK_STRIDE 16
#define MODEL_RANK_OF_NAN(strides) Min((strides) * MODEL_RANK_STRIDE, 255)

typedef struct ModelRanked
{
	uint32		slot;
	uint32		low;			/* its copy in which NaN is -infinity, or
								 * MODEL_NONE */
	uint32		pivots;			/* number of the first one */
	uint32		strides;		/* 1 to 16, with room for one more threshold */
} ModelRanked;

/*
 * The tests of a tree with ranks: four arrays of ModelTrees.rank_width bytes.
 * Column 2i is ranked slot i, column 2i + 1 its copy with NaN as -infinity;
 * the others are as in ModelDense.  Arrays are 64 bytes apart; where they are
 * of 32 bytes, those of the next tree are in between: a register of AVX-512
 * has an array of two trees.
 */
enum
{
	MODEL_RANK_COLUMN,
	MODEL_RANK_RANK,
	MODEL_RANK_YES,
	MODEL_RANK_NO,
	MODEL_RANK_ARRAYS
};

#define MODEL_RANK_APART 64
#define MODEL_RANK_BYTES (MODEL_RANK_ARRAYS * MODEL_RANK_APART)

/*
 * Where no tree has more than 32 leaves: bit j of a row's word tells whether
 * test j of the tree holds, and the row is in the leaf for which word & tests
 * == outcome.  Of padding, none is.
 */
#define MODEL_PATH_LEAVES 32

typedef struct ModelPaths
{
	uint32		tests[MODEL_PATH_LEAVES];
	uint32		outcome[MODEL_PATH_LEAVES];
} ModelPaths;

/* A leaf that is constant + sum of coefficient * x, unless an x is NaN. */
typedef struct ModelLinearLeaf
{
	double		constant;
	uint32		first;			/* of its ModelCoefficient */
	uint32		count;
} ModelLinearLeaf;

typedef struct ModelCoefficient
{
	double		value;
	uint32		slot;
	uint32		unused;
} ModelCoefficient;

typedef struct ModelTrees
{
	uint32		flags;
	uint32		aggregate;
	uint32		output_count;
	uint32		tree_count;
	uint32		trees;			/* offsets: ModelTree[] */
	uint32		node_count;
	uint32		nodes;			/* ModelNode[] */
	uint32		covers;			/* double[node_count], or 0 */
	uint32		leaf_count;
	uint32		leaf_width;		/* values a leaf: 1 or output_count */
	uint32		leaves;			/* double[leaf_count * leaf_width] */
	uint32		base;			/* double[output_count] */
	uint32		word_count;
	uint32		words;			/* uint32[]: bits of sets */
	uint32		linear;			/* ModelLinearLeaf[leaf_count], or 0 */
	uint32		coefficient_count;
	uint32		coefficients;	/* ModelCoefficient[] */
	uint32		dense_count;	/* 0: no block kernel */
	uint32		dense;			/* ModelDense[] */
	uint32		order;			/* uint32[tree_count]: by falling depth */
	uint32		ranked_count;	/* 0: no ranks */
	uint32		ranked;			/* ModelRanked[] */
	uint32		threshold_count;
	uint32		thresholds;		/* double[]: theirs */
	uint32		rank_width;		/* 32 or 64 */
	uint32		rank_tests;		/* uint8[][4][64]; see model_rank_tests() */
	uint32		paths;			/* ModelPaths[tree_count], or 0 */
	uint32		heads;			/* with paths, uint32[tree_count]: all that a
								 * single row asks of ModelTree[] */
	double		divisor;		/* of the sum, before a base that comes last */
} ModelTrees;

/* What a head has besides the number of the first leaf. */
#define MODEL_HEAD_DEEP 0x80000000u /* half MODEL_PATH_LEAVES, or more */

/* A score that is NaN is no score: SQL's NULL. */
#define MODEL_NULL_FOR_NAN 1

typedef struct ModelImage
{
	uint32		magic;
	uint16		format;
	uint16		byte_order;
	uint32		size;			/* of the whole block */
	uint32		checksum;		/* CRC-32C of what follows the field */
	uint32		task;
	uint32		algorithm;		/* offset of a string */
	uint32		input_count;
	uint32		inputs;			/* offset of ModelInput[] */
	uint32		slot_count;
	uint32		origins;		/* offset of uint32[slot_count]: the input
								 * that a slot comes from, MODEL_NONE for none
								 * or several */
	uint32		step_count;
	uint32		steps;			/* offset of ModelStep[] */
	uint32		output_count;
	uint32		outputs;		/* offset of uint32[]: offsets of names */
	uint32		scores;			/* first of output_count slots */
	uint32		score;			/* slot of visage_score's answer */
	uint32		raw;			/* first of raw_count slots before the link */
	uint32		raw_count;
	uint32		choice;			/* slot of the class's number, or NONE: the
								 * largest score, the threshold for two */
	uint32		zero;			/* slot that is always 0, if there are trees */
	uint32		score_steps;	/* steps that lead to the score */
	uint32		flags;			/* MODEL_NULL_FOR_NAN */
	double		threshold;		/* score above it: the second of two classes */
} ModelImage;

#define MODEL_AT(image, type, offset) \
	((const type *) ((const char *) (image) + (offset)))

static inline const ModelInput *
model_inputs(const ModelImage *image)
{
	return MODEL_AT(image, ModelInput, image->inputs);
}

static inline const char *
model_string(const ModelImage *image, uint32 offset)
{
	return (const char *) image + offset;
}

/* The name of an output: a class, or what a value is. */
static inline const char *
model_output_name(const ModelImage *image, uint32 output)
{
	return model_string(image,
						MODEL_AT(image, uint32, image->outputs)[output]);
}

/* Where the tests of a tree begin, among arrays of this width. */
static inline size_t
model_rank_tests(uint32 width, size_t tree)
{
	size_t		byte = tree * width;

	return byte / MODEL_RANK_APART * MODEL_RANK_BYTES + byte % MODEL_RANK_APART;
}

/* How many bytes the tests of so many trees take. */
static inline size_t
model_rank_tests_size(uint32 width, size_t trees)
{
	return (trees * width + MODEL_RANK_APART - 1) / MODEL_RANK_APART *
		MODEL_RANK_BYTES;
}

/* What a single row needs of a tree. */
static inline uint32
model_head(const ModelTree *tree)
{
	return tree->first_leaf |
		(tree->depth >= MODEL_PATH_LEAVES / 2 ? MODEL_HEAD_DEEP : 0);
}

static inline uint32
model_first_leaf(uint32 head)
{
	return head & ~MODEL_HEAD_DEEP;
}

/* ---- image.c ---- */

extern const char *model_check_image(const ModelImage *image, size_t size);
extern void model_find_paths(const ModelDense *dense, int leaf_count,
							 ModelPaths *paths);
extern uint32 model_image_checksum(const ModelImage *image);

#endif							/* VISAGE_IMAGE_H */

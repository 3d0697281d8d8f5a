/*-------------------------------------------------------------------------
 *
 * program.h
 *		Writing a model down, and compiling it into an image.
 *
 * Importers and trainers describe a model with these calls; the result of
 * program_compile is the flat image that is stored and scored (image.h has
 * the exact meaning of each step and test).  The order is free except that
 * a step reads only what was there before it:
 *
 *		ModelProgram *program = program_create("lightgbm");
 *		int x = program_add_input(program, &input);		one slot an input
 *		int y = program_add_step(program, &step);		slots from slots
 *		int s = program_add_trees(program, trees);		raw scores
 *		int p = program_unary(program, MODEL_SIGMOID, s, 1, false);
 *		program_set_scores(program, MODEL_REGRESSION, p, 1, names);
 *		program_set_raw(program, s, 1);
 *		image = program_compile(program);
 *
 * Memory is taken from the context that was current at program_create, and
 * what is passed is copied.  A description that does not hold together is
 * invalid_parameter_value ("tree 3, node 17: …"), one that is too large
 * program_limit_exceeded: call from where an ERROR may be raised, never from
 * a callback of a foreign library.
 *
 * Slots.  Every slot is a double.  A program whose library computes in
 * float32 sets the cast of its inputs to MODEL_FLOAT32 and the float32 flag
 * of its steps and trees; comparisons are then exact by themselves.  NaN is
 * a missing value.  A category is its code, from 0 in the order of the
 * input's list; text to number is program_lookup over the codes, one-hot is
 * MODEL_ONE_HOT over them.  Concatenating is program_move of the parts to
 * new slots, and need not be done for trees, whose tests name any slot.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_PROGRAM_H
#define VISAGE_PROGRAM_H

#include "model/image.h"

typedef struct ModelProgram ModelProgram;

/* ---- inputs ---- */

/*
 * Begin with PROGRAM_INPUT_INIT: a number, missing values are NaN, unseen
 * categories have code -1, nothing is refused.
 */
typedef struct ProgramInput
{
	const char *name;			/* what the column must be called; unique */
	ModelInputKind kind;
	ModelCast	cast;			/* of numbers */
	uint32		flags;			/* MODEL_REFUSE_MISSING, … */
	double		missing;		/* the slot for NULL and NaN */
	double		marker;			/* a number that counts as missing, or NaN:
								 * XGBoost's "missing" parameter */
	double		unseen;			/* the slot for a category not listed */
	const char *const *categories;	/* in the order of their codes */
	int			category_count;
} ProgramInput;

#define PROGRAM_INPUT_INIT {.kind = MODEL_NUMERIC, .missing = NAN, \
	.marker = NAN, .unseen = -1}

extern ModelProgram *program_create(const char *algorithm);
extern int	program_add_input(ModelProgram *program,
							  const ProgramInput *input);
extern int	program_input_count(const ModelProgram *program);

/* ---- steps ---- */

/*
 * Any step of image.h but MODEL_LINEAR and MODEL_TREES.  count is the number
 * of slots it writes, and for elementwise steps and vectors to vectors also
 * of a; width the number of elements of a for steps that say so.  b = -1
 * stands for the constants.  The result is the first slot written.
 */
typedef struct ProgramStep
{
	ModelOp		op;
	bool		float32;		/* results are rounded to float32; of EXP and
								 * the like, float32's functions are used */
	int			count;
	int			width;
	int			a;
	int			b;
	int			c;
	bool		broadcast_a;	/* one element serves for all */
	bool		broadcast_b;
	bool		broadcast_c;
	const double *constants;
	int			constant_count;
	const int  *slots;			/* MODEL_MOVE */
} ProgramStep;

extern int	program_add_step(ModelProgram *program, const ProgramStep *step);

/* Shorthands of it. */
extern int	program_unary(ModelProgram *program, ModelOp op, int a, int count,
						  bool float32);
extern int	program_binary(ModelProgram *program, ModelOp op, int a, int b,
						   int count, bool float32);
extern int	program_constant(ModelProgram *program, ModelOp op, int a,
							 int count, const double *constants, int n,
							 bool float32);
extern int	program_move(ModelProgram *program, const int *slots, int count);
extern int	program_fill(ModelProgram *program, const double *values,
						 int count);
extern int	program_lookup(ModelProgram *program, int a, int count,
						   const double *keys, const double *values, int n,
						   double otherwise, double if_missing);

/* ---- linear models ---- */

/*
 * The slot of bias + term + term + …, in float32 in this order.  A term is
 * coefficient * (((x - center) / scale) ^ exponent), or by code from a table.
 * Begin with PROGRAM_TERM_INIT, whose missing value spreads NaN.
 */
typedef struct ProgramTerm
{
	int			slot;
	double		coefficient;
	int			exponent;
	double		center;
	double		scale;
	double		missing;		/* the whole term where x is NaN */
	const double *table;		/* instead: the term for each code */
	int			table_count;
	double		unseen;			/* the term for any other code */
	double		expected;		/* the term's mean, if known: explanations are
								 * relative to it */
} ProgramTerm;

#define PROGRAM_TERM_INIT {.coefficient = 1, .exponent = 1, .scale = 1, \
	.missing = NAN}

extern int	program_add_linear(ModelProgram *program,
							   const ProgramTerm *terms, int count,
							   double bias, bool float32);

/* ---- trees ---- */

typedef struct ProgramTrees ProgramTrees;

/* The tests of a node: x is the slot's value, t the threshold. */
typedef enum ProgramTest
{
	PROGRAM_LEAF,
	PROGRAM_AT_MOST,			/* x <= t */
	PROGRAM_BELOW,				/* x < t */
	PROGRAM_AT_LEAST,			/* x >= t */
	PROGRAM_ABOVE,				/* x > t */
	PROGRAM_EQUAL,
	PROGRAM_NOT_EQUAL,
	PROGRAM_IN,					/* bit x of the set, x truncated to an
								 * integer; x < 0 is no member */
	PROGRAM_NOT_IN
} ProgramTest;

/*
 * A node; begin with PROGRAM_NODE_INIT.  Children are numbers of nodes of
 * the same tree, in any order: the root is node 0.
 *
 * A missing value (NaN) goes to yes or no as missing_yes says; where
 * zero_missing is set, so does |x| <= 1e-35 (the float32 number, as
 * LightGBM's zero_as_missing).  A library that takes NaN for 0 at a node
 * sets missing_yes to whether 0 passes the test.
 *
 * If all tests of an input take NaN for 0, set its missing to 0 instead, and
 * missing_yes to false: that is free at run time.
 *
 * A leaf's value is added to the output of its tree, or, in a tree whose
 * output is -1, its values to all outputs.  A linear leaf is constant + sum
 * of coefficients times slots, and value where one of these is NaN.
 */
typedef struct ProgramNode
{
	ProgramTest test;
	int			slot;
	double		threshold;
	bool		missing_yes;
	bool		zero_missing;
	const uint32 *set;			/* bit i of word i / 32 */
	int			set_words;
	bool		set_negative;	/* -1 < x < 0 is 0: LightGBM */
	bool		set_exact;		/* x that is no integer is no member: ONNX */
	int			yes;
	int			no;
	double		cover;			/* weight of training rows; NaN: unknown */
	double		value;			/* leaves */
	const double *values;		/* leaves with all outputs */
	bool		linear;
	double		constant;
	const int  *slots;
	const double *coefficients;
	int			coefficient_count;
} ProgramNode;

#define PROGRAM_NODE_INIT {.cover = NAN}

/*
 * An ensemble with so many outputs.  float32: thresholds and leaves are
 * float32 numbers, and sums are rounded to float32 at each step; otherwise
 * all is float64.  Each output starts with its base and adds its trees in
 * the order in which they are given (base_last: it starts with 0, is divided
 * by the divisor, and the base is added last); a weight of trees (DART) is
 * multiplied into the leaves by the caller, as the library rounds.  The
 * divisor (1 if not set) is for averages.
 */
extern ProgramTrees *program_create_trees(ModelProgram *program, int outputs,
										  bool float32);
extern void program_trees_base(ProgramTrees *trees, const double *base,
							   bool base_last);
extern void program_trees_divisor(ProgramTrees *trees, double divisor);
extern void program_trees_aggregate(ProgramTrees *trees,
									ModelAggregate aggregate);

/* Adds a tree for one output, from 0, or for all (-1). */
extern void program_add_tree(ProgramTrees *trees, int output,
							 const ProgramNode *nodes, int count);

/* Adds the step; the first of as many slots as there are outputs. */
extern int	program_add_trees(ModelProgram *program, ProgramTrees *trees);

/* ---- results ---- */

/*
 * What visage_scores returns: slots, with a name each.  For classification,
 * names are the classes' labels and scores mostly probabilities; two classes
 * need two scores (of one probability p make 1 - p with program_complement),
 * and visage_score is the second.  Of more classes it is the largest, of a
 * regression the first.
 */
extern void program_set_scores(ModelProgram *program, ModelTask task,
							   int slot, int count,
							   const char *const *names);
extern const char **program_output_names(int count);
extern int	program_complement(ModelProgram *program, int slot, bool float32);

/* The scores before the link function, which visage_explain adds up to. */
extern void program_set_raw(ModelProgram *program, int slot, int count);

/* A score that is NaN is SQL's NULL: models that may give no prediction. */
extern void program_set_null_for_nan(ModelProgram *program);

/* Of two classes: scores above it are the second; 0.5 if not called. */
extern void program_set_threshold(ModelProgram *program, double threshold);

/* A slot that has the number of the class chosen, if it is not the largest. */
extern void program_set_choice(ModelProgram *program, int slot);

/* The image, palloc'd in the program's context. */
extern ModelImage *program_compile(ModelProgram *program);

#endif							/* VISAGE_PROGRAM_H */

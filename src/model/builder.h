/*-------------------------------------------------------------------------
 *
 * builder.h
 *		What program.c, trees.c and compile.c share: a program being written.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_BUILDER_H
#define VISAGE_BUILDER_H

#include "core/compat.h"
#include "model/program.h"

/* Where a slot's value comes from, if not from one input. */
#define ORIGIN_CONSTANT (-1)
#define ORIGIN_MIXED (-2)

/* Trees in the layout of the image, growing. */
struct ProgramTrees
{
	ModelProgram *program;
	bool		float32;
	bool		base_last;
	ModelAggregate aggregate;
	double		divisor;
	int			outputs;
	double	   *base;
	bool		all_outputs;	/* leaves have all outputs */
	ModelTree  *trees;
	int			tree_count;
	int			trees_allocated;
	ModelNode  *nodes;			/* slots not yet those of variants */
	unsigned char *variants;	/* of slots, one a node */
	double	   *covers;
	bool		covers_known;
	int			node_count;
	int			nodes_allocated;
	int			variants_allocated;
	int			covers_allocated;
	double	   *leaves;
	int			leaf_count;
	int			leaves_allocated;
	ModelLinearLeaf *linear;
	int			linear_allocated;
	bool		has_linear;
	ModelCoefficient *coefficients;
	int			coefficient_count;
	int			coefficients_allocated;
	uint32	   *words;
	int			word_count;
	int			words_allocated;
	ModelDense *dense;
	int			dense_count;
	int			dense_allocated;
	bool		has_tests;
	int			largest;		/* leaves of the largest tree */
};

typedef struct BuilderStep
{
	ProgramStep step;
	int			out;
	double		bias;
	ProgramTerm *terms;
	int			term_count;
	ProgramTrees *trees;
} BuilderStep;

struct ModelProgram
{
	MemoryContext context;
	char	   *algorithm;
	ProgramInput *inputs;
	int			input_count;
	int			inputs_allocated;
	int		   *origins;		/* one a slot */
	int			slot_count;
	int			slots_allocated;
	BuilderStep *steps;
	int			step_count;
	int			steps_allocated;
	int			zero;			/* slot that is 0, or -1 */
	ModelTask	task;
	int			scores;
	int			score;
	int			output_count;
	char	  **outputs;
	int			raw;
	int			raw_count;
	int			choice;
	double		threshold;
	bool		null_for_nan;
};

/* ---- compile_ranks.c ---- */

/* What ModelTrees says of ranks, as arrays. */
typedef struct BuilderRanks
{
	ModelRanked *ranked;
	int			ranked_count;
	double	   *thresholds;
	int			threshold_count;
	int			width;
	uint8	   *tests;
	size_t		tests_size;
	ModelPaths *paths;			/* or NULL */
	uint32	   *heads;			/* with paths */
} BuilderRanks;

extern bool builder_rank_trees(const ModelProgram *program,
							   const ProgramTrees *trees,
							   BuilderRanks *ranks);

/* ---- program.c ---- */

extern void *builder_grow(void *array, int count, int *allocated,
						  size_t width);
extern void builder_invalid(const char *format,...)
			pg_attribute_printf(1, 2) pg_attribute_noreturn();
extern int	builder_add_slots(ModelProgram *program, int count, int origin);
extern void builder_check_slots(const ModelProgram *program, int first,
								int count);
extern BuilderStep *builder_append_step(ModelProgram *program,
										const ProgramStep *step);

#endif							/* VISAGE_BUILDER_H */

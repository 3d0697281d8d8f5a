/*-------------------------------------------------------------------------
 *
 * rank.c
 *		Trees by ranks: a test is a comparison of bytes, so that AVX2 makes 32
 *		of them at once.
 *
 * Each slot's value is ranked among the slot's thresholds, once for all
 * trees.  A block of 64 rows then takes a node at a time, as in dense.c.  A
 * single row takes a tree at a time: all its tests at once make a word, and
 * the leaf is the one whose path asks for those bits.  There is no order of
 * features and no list of false nodes; no leaf is excluded step by step.
 *
 * Ranks are exact, so leaves and sums are those of a walk, bit for bit.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "model/kernel.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include <immintrin.h>

#define RANKS __attribute__((target("avx2,popcnt")))
#define RANKS_INLINE __attribute__((target("avx2,popcnt"), always_inline)) \
	static inline

/* Which of four numbers the value is above: bits. */
RANKS_INLINE uint32
above_4(const double *thresholds, __m256d value)
{
	return (uint32) _mm256_movemask_pd(_mm256_cmp_pd(value,
													 _mm256_loadu_pd(thresholds),
													 _CMP_GT_OQ));
}

/* How many of sixteen numbers in order the value is above. */
RANKS_INLINE uint32
above_16(const double *thresholds, __m256d value)
{
	__m256i		words[2];

	for (int i = 0; i < 2; i++)
	{
		__m256d		a = _mm256_cmp_pd(value,
									  _mm256_loadu_pd(thresholds + 8 * i),
									  _CMP_GT_OQ);
		__m256d		b = _mm256_cmp_pd(value,
									  _mm256_loadu_pd(thresholds + 8 * i + 4),
									  _CMP_GT_OQ);

		words[i] = _mm256_castps_si256(_mm256_shuffle_ps(_mm256_castpd_ps(a),
														 _mm256_castpd_ps(b),
														 0x88));
	}
	/* two bits a number */
	return _mm_popcnt_u32((uint32) _mm256_movemask_epi8(_mm256_packs_epi32(words[0],
																		   words[1]))) / 2;
}

RANKS_INLINE uint32
find_stride(const double *pivots, uint32 strides, double x)
{
	__m256d		value = _mm256_set1_pd(x);

	if (strides == 1)
		return 0;
	if (strides <= 5)
		return _mm_popcnt_u32(above_4(pivots, value));
	if (strides <= 9)
		return _mm_popcnt_u32(above_4(pivots, value) |
							  above_4(pivots + 4, value) << 4);
	return above_16(pivots, value);
}

RANKS_INLINE uint32
rank_in_stride(const double *thresholds, double x)
{
	return above_16(thresholds, _mm256_set1_pd(x));
}

/* The rank of a number, 0 for NaN, among so many strides of thresholds. */
RANKS_INLINE uint8
rank_number(const double *pivots, uint32 strides, double x)
{
	uint32		first = find_stride(pivots, strides, x) * MODEL_RANK_STRIDE;

	return first + rank_in_stride(pivots + MODEL_RANK_STRIDE + first, x);
}

/* The ranks of a block's slots, each with its copy. */
RANKS		pg_noinline static void
rank_block(const ModelImage *image, const ModelTrees *trees,
		   const double *slots, uint8 *ranks)
{
	const ModelRanked *ranked = MODEL_AT(image, ModelRanked, trees->ranked);

	for (uint32 i = 0; i < trees->ranked_count; i++)
	{
		const double *x = slots + (size_t) ranked[i].slot * MODEL_BLOCK;
		const double *pivots = MODEL_AT(image, double, trees->thresholds) +
		ranked[i].pivots;
		uint32		strides = ranked[i].strides;
		uint8		nan = MODEL_RANK_OF_NAN(strides);
		uint8	   *out = ranks + (size_t) i * 2 * MODEL_BLOCK;

		for (int row = 0; row < MODEL_BLOCK; row++)
		{
			uint8		rank = rank_number(pivots, strides, x[row]);

			out[row] = isnan(x[row]) ? nan : rank;
			out[row + MODEL_BLOCK] = rank;
		}
	}
}

/* Which of 64 ranks are at most this one. */
RANKS_INLINE uint64
at_most(const uint8 *ranks, uint8 rank)
{
	__m256i		all = _mm256_set1_epi8((char) rank);
	__m256i		low = _mm256_loadu_si256((const __m256i *) ranks);
	__m256i		high = _mm256_loadu_si256((const __m256i *) (ranks + 32));

	low = _mm256_cmpeq_epi8(_mm256_min_epu8(low, all), low);
	high = _mm256_cmpeq_epi8(_mm256_min_epu8(high, all), high);
	return (uint32) _mm256_movemask_epi8(low) |
		(uint64) (uint32) _mm256_movemask_epi8(high) << 32;
}

/* The numbers of leaves from bit planes, a byte a row. */
RANKS_INLINE void
leaf_numbers(const uint64 *planes, int count, uint8 *numbers)
{
	const __m256i byte = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0,
										  1, 1, 1, 1, 1, 1, 1, 1,
										  2, 2, 2, 2, 2, 2, 2, 2,
										  3, 3, 3, 3, 3, 3, 3, 3);
	const __m256i bit = _mm256_set1_epi64x((long long) UINT64CONST(0x8040201008040201));

	for (int half = 0; half < MODEL_BLOCK; half += 32)
	{
		__m256i		all = _mm256_setzero_si256();

		for (int p = 0; p < count; p++)
		{
			__m256i		plane = _mm256_set1_epi32((int) (planes[1 << p] >> half));

			plane = _mm256_and_si256(_mm256_shuffle_epi8(plane, byte), bit);
			plane = _mm256_and_si256(_mm256_cmpeq_epi8(plane, bit),
									 _mm256_set1_epi8((char) (1 << p)));
			all = _mm256_or_si256(all, plane);
		}
		_mm256_storeu_si256((__m256i *) (numbers + half), all);
	}
}

/* Adds each row's leaf of a tree. */
RANKS_INLINE void
add_leaves(uint64 *reach, int leaves, const double *values, bool float32,
		   double *sum)
{
	uint8		numbers[MODEL_BLOCK];

	leaf_numbers(reach, model_fold_leaves(reach, leaves), numbers);
	for (int row = 0; row < MODEL_BLOCK; row += 4)
	{
		__m256d		leaf = _mm256_setr_pd(values[numbers[row]],
										  values[numbers[row + 1]],
										  values[numbers[row + 2]],
										  values[numbers[row + 3]]);
		__m256d		sums = _mm256_loadu_pd(sum + row);

		if (float32)
			sums = _mm256_cvtps_pd(_mm_add_ps(_mm256_cvtpd_ps(sums),
											  _mm256_cvtpd_ps(leaf)));
		else
			sums = _mm256_add_pd(sums, leaf);
		_mm256_storeu_pd(sum + row, sums);
	}
}

#include "model/rank_kernel.h"

RANKS static void
add_block(const ModelImage *image, const ModelTrees *trees,
		  const double *slots, double *out)
{
	add_trees(image, trees, slots, out);
}

/* A row's ranks in registers: a byte's number is found by its lower bits. */
typedef struct RowRanks
{
	__m256i		sixteen[4];
} RowRanks;

/* Which of a tree's 32 tests hold: bits. */
RANKS_INLINE uint32
tests_that_hold(const RowRanks *ranks, const uint8 *tests)
{
	__m256i		column = _mm256_loadu_si256((const __m256i *) tests);
	__m256i		rank = _mm256_loadu_si256((const __m256i *)
										  (tests + MODEL_RANK_APART));
	__m256i		bit_4 = _mm256_slli_epi16(column, 3);
	__m256i		bit_5 = _mm256_slli_epi16(column, 2);
	__m256i		low = _mm256_blendv_epi8(_mm256_shuffle_epi8(ranks->sixteen[0], column),
										 _mm256_shuffle_epi8(ranks->sixteen[1], column),
										 bit_4);
	__m256i		high = _mm256_blendv_epi8(_mm256_shuffle_epi8(ranks->sixteen[2], column),
										  _mm256_shuffle_epi8(ranks->sixteen[3], column),
										  bit_4);
	__m256i		x = _mm256_blendv_epi8(low, high, bit_5);

	return (uint32) _mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_min_epu8(x, rank),
														   x));
}

/* Of which eight leaves these are the bits. */
RANKS_INLINE __m256i
eight_paths(const ModelPaths *paths, int first, __m256i word)
{
	__m256i		tests = _mm256_loadu_si256((const __m256i *)
										   (paths->tests + first));
	__m256i		outcome = _mm256_loadu_si256((const __m256i *)
											 (paths->outcome + first));

	return _mm256_cmpeq_epi32(_mm256_and_si256(tests, word), outcome);
}

/* The leaf that the word leads to. */
RANKS_INLINE uint32
find_leaf(const ModelPaths *paths, uint32 bits)
{
	/* packing works within the halves of a register */
	static const uint8 order[MODEL_PATH_LEAVES] = {
		0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27,
		4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31
	};
	__m256i		word = _mm256_set1_epi32((int) bits);
	__m256i		low = _mm256_packs_epi32(eight_paths(paths, 0, word),
										 eight_paths(paths, 8, word));
	__m256i		high = _mm256_packs_epi32(eight_paths(paths, 16, word),
										  eight_paths(paths, 24, word));
	uint32		found = (uint32) _mm256_movemask_epi8(_mm256_packs_epi16(low, high));

	return order[__builtin_ctz(found)];
}

/* Adds the leaves that the row reaches to the sum. */
RANKS static void
add_row(const ModelImage *image, const ModelTrees *trees, const double *slots,
		double *sum)
{
	const uint32 *heads = MODEL_AT(image, uint32, trees->heads);
	const ModelPaths *paths = MODEL_AT(image, ModelPaths, trees->paths);
	const uint8 *tests = MODEL_AT(image, uint8, trees->rank_tests);
	const double *leaves = MODEL_AT(image, double, trees->leaves);
	bool		float32 = (trees->flags & MODEL_TREES_FLOAT32) != 0;
	double		total = *sum;
	uint8		ranks[MODEL_RANK_COLUMNS];
	RowRanks	row;

	rank_row(image, trees, slots, ranks);
	for (int i = 0; i < 4; i++)
		row.sixteen[i] = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)
																	 (ranks + 16 * i)));
	for (uint32 i = 0; i < trees->tree_count; i++)
	{
		uint32		word = tests_that_hold(&row, tests +
										   model_rank_tests(MODEL_PATH_LEAVES,
															i));
		uint32		leaf = model_first_leaf(heads[i]) +
		find_leaf(&paths[i], word);

		total = add_leaf(total, leaves[leaf], float32);
	}
	*sum = total;
}

/*
 * Adds the trees to a block's outputs; false where that is not for ranks: the
 * processor or the ensemble has none.
 */
bool
model_rank_block(const ModelImage *image, const ModelTrees *trees,
				 const double *slots, double *out)
{
	ModelInstructions instructions = model_instructions();

	if (trees->ranked_count == 0 || instructions < MODEL_AVX2)
		return false;
	if (instructions == MODEL_AVX512_VBMI)
		model_rank_block_wide(image, trees, slots, out);
	else
		add_block(image, trees, slots, out);
	return true;
}

/* Are the sums of these trees for ranks, of single rows, too? */
bool
model_ranks_rows(const ModelTrees *trees)
{
	return trees->ranked_count > 0 && trees->paths != 0 &&
		2 * trees->ranked_count <= MODEL_RANK_COLUMNS &&
		trees->dense_count > 0 && trees->output_count == 1 &&
		trees->linear == 0 && trees->aggregate == MODEL_TREES_SUM &&
		model_instructions() >= MODEL_AVX2;
}

/*
 * Adds the leaves that a row reaches to the sum; false where that is not for
 * ranks.
 */
bool
model_rank_row(const ModelImage *image, const ModelTrees *trees,
			   const double *slots, double *sum)
{
	if (!model_ranks_rows(trees))
		return false;
	if (model_instructions() == MODEL_AVX512_VBMI)
		model_rank_row_wide(image, trees, slots, sum);
	else
		add_row(image, trees, slots, sum);
	return true;
}

#else

bool
model_ranks_rows(const ModelTrees *trees)
{
	return false;
}

bool
model_rank_block(const ModelImage *image, const ModelTrees *trees,
				 const double *slots, double *out)
{
	return false;
}

bool
model_rank_row(const ModelImage *image, const ModelTrees *trees,
			   const double *slots, double *sum)
{
	return false;
}

#endif							/* x86-64 */

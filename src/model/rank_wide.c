/*-------------------------------------------------------------------------
 *
 * rank_wide.c
 *		Trees by ranks, as in rank.c, with AVX-512: a block's 64 ranks are one
 *		register, and their comparison is a mask.
 *
 * A table of 64 bytes is one register, too, so that a row's ranks are taken
 * by column in one step (VBMI).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "model/kernel.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include <immintrin.h>

/* what model_instructions() asks for */
#define WIDE_TARGET \
	target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,popcnt,bmi,bmi2")
#define RANKS __attribute__((WIDE_TARGET))
#define RANKS_INLINE __attribute__((WIDE_TARGET, always_inline)) static inline

/* ---- ranks ---- */

/*
 * The ranks of eight values among so many strides: a search by halves, first
 * among the pivots, which stay in registers, then within a stride.
 */
RANKS_INLINE __m128i
rank_8(const double *pivots, uint32 strides, __m512d value)
{
	const double *all = pivots + MODEL_RANK_STRIDE;
	__m512d		low = _mm512_loadu_pd(pivots);
	__m512d		high = _mm512_loadu_pd(pivots + 8);
	__m512i		rank = _mm512_setzero_si512();
	__mmask8	nan = _mm512_cmp_pd_mask(value, value, _CMP_UNORD_Q);

	/* NaN would be above the padding, too, and be sought behind it */
	value = _mm512_mask_mov_pd(value, nan, _mm512_set1_pd(-INFINITY));
	for (uint32 half = 8; half >= 1; half /= 2)
	{
		__m512i		at;
		__mmask8	above;

		if (half >= strides)
			continue;
		at = _mm512_add_epi64(rank, _mm512_set1_epi64(half - 1));
		above = _mm512_cmp_pd_mask(value,
								   _mm512_permutex2var_pd(low, at, high),
								   _CMP_NLE_UQ);
		rank = _mm512_mask_add_epi64(rank, above, rank,
									 _mm512_set1_epi64(half));
	}
	rank = _mm512_slli_epi64(rank, 4);
	for (int half = 8; half >= 1; half /= 2)
	{
		__m512d		threshold = _mm512_i64gather_pd(rank, all + half - 1, 8);
		__mmask8	above = _mm512_cmp_pd_mask(value, threshold, _CMP_NLE_UQ);

		rank = _mm512_mask_add_epi64(rank, above, rank,
									 _mm512_set1_epi64(half));
	}
	rank = _mm512_mask_mov_epi64(rank, nan,
								 _mm512_set1_epi64(MODEL_RANK_OF_NAN(strides)));
	return _mm512_cvtepi64_epi8(rank);
}

/* The ranks of a block's slots, each with its copy. */
RANKS		pg_noinline static void
rank_block(const ModelImage *image, const ModelTrees *trees,
		   const double *slots, uint8 *ranks)
{
	const ModelRanked *ranked = MODEL_AT(image, ModelRanked, trees->ranked);
	const double *thresholds = MODEL_AT(image, double, trees->thresholds);

	for (uint32 i = 0; i < trees->ranked_count; i++)
	{
		const double *x = slots + (size_t) ranked[i].slot * MODEL_BLOCK;
		uint8	   *out = ranks + (size_t) i * 2 * MODEL_BLOCK;
		__m512i		nan = _mm512_set1_epi8((char) MODEL_RANK_OF_NAN(ranked[i].strides));
		__m512i		all;

		for (int row = 0; row < MODEL_BLOCK; row += 8)
			_mm_storel_epi64((__m128i *) (out + row),
							 rank_8(thresholds + ranked[i].pivots,
									ranked[i].strides,
									_mm512_loadu_pd(x + row)));
		all = _mm512_loadu_si512(out);
		_mm512_storeu_si512(out + MODEL_BLOCK,
							_mm512_maskz_mov_epi8(_mm512_cmpneq_epu8_mask(all, nan),
												  all));
	}
}

/* How many of eight numbers the value is above. */
RANKS_INLINE uint32
above_8(const double *thresholds, __m512d value)
{
	return _mm_popcnt_u32(_mm512_cmp_pd_mask(value,
											 _mm512_loadu_pd(thresholds),
											 _CMP_GT_OQ));
}

RANKS_INLINE uint32
find_stride(const double *pivots, uint32 strides, double x)
{
	__m512d		value = _mm512_set1_pd(x);

	return above_8(pivots, value) +
		(strides > 9 ? above_8(pivots + 8, value) : 0);
}

RANKS_INLINE uint32
rank_in_stride(const double *thresholds, double x)
{
	__m512d		value = _mm512_set1_pd(x);

	return above_8(thresholds, value) + above_8(thresholds + 8, value);
}

/* ---- a block of rows ---- */

/* Which of 64 ranks are at most this one. */
RANKS_INLINE uint64
at_most(const uint8 *ranks, uint8 rank)
{
	return _cvtmask64_u64(_mm512_cmpge_epu8_mask(_mm512_set1_epi8((char) rank),
												 _mm512_loadu_si512(ranks)));
}

/* The numbers of the leaves that rows reach, a byte a row. */
RANKS_INLINE void
leaf_numbers(const uint64 *reach, int leaves, uint8 *numbers)
{
	__m512i		all = _mm512_setzero_si512();
	__m512i		number = all;

#pragma GCC unroll 4
	for (int i = 1; i < leaves; i++)
	{
		number = _mm512_add_epi8(number, _mm512_set1_epi8(1));
		all = _mm512_mask_mov_epi8(all, _cvtu64_mask64(reach[i]), number);
	}
	_mm512_storeu_si512(numbers, all);
}

/* The values of eight rows' leaves, of 32 that are in registers. */
RANKS_INLINE __m512d
pick_leaves(const __m512d *values, __m512i number)
{
	__m512d		low = _mm512_permutex2var_pd(values[0], number, values[1]);
	__m512d		high = _mm512_permutex2var_pd(values[2], number, values[3]);

	return _mm512_mask_mov_pd(low, _mm512_test_epi64_mask(number, _mm512_set1_epi64(16)),
							  high);
}

/* Adds each row's leaf of a tree. */
RANKS_INLINE void
add_leaves(const uint64 *reach, int leaves, const double *values,
		   bool float32, double *sum)
{
	pg_attribute_aligned(64) uint8 numbers[MODEL_BLOCK];
	bool		few = leaves <= MODEL_PATH_LEAVES;
	uint32		present = _bzhi_u32(~0, leaves);
	__m512d		all[4] = {_mm512_setzero_pd()};

	leaf_numbers(reach, leaves, numbers);
	for (int i = 0; few && i < 4; i++)
		all[i] = _mm512_maskz_loadu_pd(present >> (8 * i) & 0xFF,
									   values + 8 * i);
	for (int row = 0; row < MODEL_BLOCK; row += 8)
	{
		__m512i		number = _mm512_cvtepu8_epi64(_mm_loadl_epi64((const __m128i *) (numbers + row)));
		__m512d		leaf = few ? pick_leaves(all, number) :
		_mm512_i64gather_pd(number, values, 8);
		__m512d		sums = _mm512_loadu_pd(sum + row);

		if (float32)
			sums = _mm512_cvtps_pd(_mm256_add_ps(_mm512_cvtpd_ps(sums),
												 _mm512_cvtpd_ps(leaf)));
		else
			sums = _mm512_add_pd(sums, leaf);
		_mm512_storeu_pd(sum + row, sums);
	}
}

#include "model/rank_kernel.h"

/* As model_rank_block, where the processor can. */
RANKS void
model_rank_block_wide(const ModelImage *image, const ModelTrees *trees,
					  const double *slots, double *out)
{
	add_trees(image, trees, slots, out);
}

/* ---- a row ---- */

/* Looks up the bytes that are inner nodes in the bytes themselves. */
RANKS_INLINE __m512i
two_steps_for_one(__m512i next)
{
	return _mm512_mask_permutexvar_epi8(next, _mm512_movepi8_mask(next), next,
										next);
}

/*
 * The leaves of two trees that a row reaches.
 *
 * Byte j is the node behind inner node j of the one tree, byte 32 + j of the
 * other: a leaf's number, or an inner node's byte with the sign bit set.
 * Looking up the bytes in themselves doubles how many tests have been passed.
 * Sixteen are mostly enough; where they may not be, a head is deep.
 */
RANKS_INLINE uint64
two_leaves(__m512i ranks, const uint8 *tests, uint32 heads)
{
	const		__m512i place = _mm512_inserti64x4(_mm512_set1_epi8((char) 0xC0),
												   _mm256_set1_epi8((char) 0xE0), 1);
	__m512i		next[MODEL_RANK_ARRAYS];

	for (int i = 0; i < MODEL_RANK_ARRAYS; i++)
		next[i] = _mm512_loadu_si512(tests + i * MODEL_RANK_APART);
	ranks = _mm512_permutexvar_epi8(next[MODEL_RANK_COLUMN], ranks);
	next[0] = _mm512_mask_mov_epi8(next[MODEL_RANK_NO],
								   _mm512_cmple_epu8_mask(ranks, next[MODEL_RANK_RANK]),
								   next[MODEL_RANK_YES]);
	next[0] = _mm512_add_epi8(next[0], place);
	for (int passed = 1; passed < MODEL_PATH_LEAVES / 2; passed *= 2)
		next[0] = two_steps_for_one(next[0]);
	if (unlikely(heads & MODEL_HEAD_DEEP))
		next[0] = two_steps_for_one(next[0]);
	return (uint32) _mm_cvtsi128_si32(_mm512_castsi512_si128(next[0])) % 32 |
		(uint64) ((uint32) _mm_cvtsi128_si32(_mm512_extracti32x4_epi32(next[0], 2)) % 32) << 32;
}

/* The sum with the leaves that the row reaches. */
RANKS_INLINE double
sum_leaves(const ModelImage *image, const ModelTrees *trees, __m512i ranks,
		   bool float32, double sum)
{
	const uint32 *heads = MODEL_AT(image, uint32, trees->heads);
	const uint8 *tests = MODEL_AT(image, uint8, trees->rank_tests);
	const double *leaves = MODEL_AT(image, double, trees->leaves);
	size_t		count = trees->tree_count;

	for (size_t i = 0; i + 1 < count; i += 2, tests += MODEL_RANK_BYTES)
	{
		uint64		found = two_leaves(ranks, tests, heads[i] | heads[i + 1]);

		sum = add_leaf(sum, leaves[model_first_leaf(heads[i]) +
								   (uint32) found], float32);
		sum = add_leaf(sum, leaves[model_first_leaf(heads[i + 1]) +
								   (uint32) (found >> 32)], float32);
	}
	if (count % 2 != 0)
	{
		uint32		head = heads[count - 1];

		sum = add_leaf(sum, leaves[model_first_leaf(head) +
								   (uint32) two_leaves(ranks, tests, head)],
					   float32);
	}
	return sum;
}

/* As model_rank_row, where the processor can. */
RANKS void
model_rank_row_wide(const ModelImage *image, const ModelTrees *trees,
					const double *slots, double *sum)
{
	uint8		bytes[MODEL_RANK_COLUMNS];
	__m512i		ranks;

	rank_row(image, trees, slots, bytes);
	ranks = _mm512_loadu_si512(bytes);
	if (trees->flags & MODEL_TREES_FLOAT32)
		*sum = sum_leaves(image, trees, ranks, true, *sum);
	else
		*sum = sum_leaves(image, trees, ranks, false, *sum);
}

#endif							/* x86-64 */

/*-------------------------------------------------------------------------
 *
 * dense.c
 *		Small trees for a block of 64 rows at a time, without branches.
 *
 * Every inner node is compared for all 64 rows, whether they come past it or
 * not: a mask of 64 bits.  A node's reach mask says which rows do come past;
 * the root's is all ones, and a child's is its parent's with the mask of the
 * test or its complement.  In the end each row has its bit in the mask of
 * one leaf.  The masks of leaves are turned into numbers of leaves, one a
 * row, by folding: bit plane p of the number is the union of the leaves
 * whose number has bit p.  A row's leaves are added tree by tree, so the
 * bits are those of a walk.
 *
 * The comparison is chosen by what the processor has.  It may order rows as
 * it likes among the bits; outputs are brought back into order at the end.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "model/kernel.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define HAVE_X86_KERNELS
#elif defined(__aarch64__) && defined(__ARM_NEON)
#include <arm_neon.h>
#define HAVE_NEON_KERNEL
#endif

typedef void (*DenseKernel) (const ModelImage *image, const ModelTrees *trees,
							 const double *slots, double *out);

/* The numbers of the leaves of eight rows, a byte each. */
static pg_attribute_always_inline uint64
eight_leaves(const uint64 *reach, int planes, int row)
{
	uint64		numbers = 0;

	for (int p = 0; p < planes; p++)
	{
		uint64		bits = reach[1 << p] >> row & 0xFF;

		/* bit k of the eight becomes the lowest bit of byte k */
		bits = bits * UINT64CONST(0x0101010101010101) &
			UINT64CONST(0x8040201008040201);
		bits = (bits + UINT64CONST(0x7F7F7F7F7F7F7F7F)) >> 7 &
			UINT64CONST(0x0101010101010101);
		numbers |= bits << p;
	}
	return numbers;
}

static pg_attribute_always_inline void
add_float64(const uint64 *reach, int planes, const double *values,
			double *sum)
{
	for (int row = 0; row < MODEL_BLOCK; row += 8)
	{
		uint64		numbers = eight_leaves(reach, planes, row);

		for (int k = 0; k < 8; k++)
			sum[row + k] += values[numbers >> (8 * k) & 0xFF];
	}
}

static pg_attribute_always_inline void
add_float32(const uint64 *reach, int planes, const double *values,
			double *sum)
{
	for (int row = 0; row < MODEL_BLOCK; row += 8)
	{
		uint64		numbers = eight_leaves(reach, planes, row);

		for (int k = 0; k < 8; k++)
			sum[row + k] = (float) sum[row + k] +
				(float) values[numbers >> (8 * k) & 0xFF];
	}
}

/* ---- plain C ---- */

static pg_attribute_always_inline uint64
compare_plain(const double *x, double threshold)
{
	uint64		mask = 0;

	for (int i = 0; i < MODEL_BLOCK; i++)
		mask |= (uint64) (x[i] <= threshold) << i;
	return mask;
}

#define DENSE_NAME dense_plain
#define DENSE_TARGET
#define DENSE_COMPARE(x, threshold) compare_plain(x, threshold)
#define DENSE_ROW(bit) (bit)
#include "model/dense_kernel.h"

#ifdef HAVE_X86_KERNELS

/* ---- AVX2 ---- */

/*
 * Eight comparisons of four rows each, narrowed to 32 bytes; narrowing works
 * within the halves of a register, which is where the order comes from.
 */
__attribute__((target("avx2"), always_inline))
static inline uint32
compare_avx2(const double *x, __m256d threshold)
{
	__m256i		words[4];

	for (int i = 0; i < 4; i++)
	{
		__m256d		a = _mm256_cmp_pd(_mm256_loadu_pd(x + 8 * i), threshold,
									  _CMP_LE_OQ);
		__m256d		b = _mm256_cmp_pd(_mm256_loadu_pd(x + 8 * i + 4),
									  threshold, _CMP_LE_OQ);

		words[i] = _mm256_castps_si256(_mm256_shuffle_ps(_mm256_castpd_ps(a),
														 _mm256_castpd_ps(b),
														 0x88));
	}
	return (uint32) _mm256_movemask_epi8(_mm256_packs_epi16(_mm256_packs_epi32(words[0], words[1]),
															_mm256_packs_epi32(words[2], words[3])));
}

__attribute__((target("avx2"), always_inline))
static inline uint64
compare64_avx2(const double *x, double threshold)
{
	__m256d		all = _mm256_set1_pd(threshold);

	return compare_avx2(x, all) | (uint64) compare_avx2(x + 32, all) << 32;
}

#define DENSE_NAME dense_avx2
#define DENSE_TARGET __attribute__((target("avx2")))
#define DENSE_COMPARE(x, threshold) compare64_avx2(x, threshold)
/* bit = half of 32, half of register, pair of four, then 0 1 4 5 */
#define DENSE_ROW(bit) (((bit) & 32) | ((bit) >> 2 & 3) << 3 | \
						((bit) & 2) << 1 | ((bit) >> 4 & 1) << 1 | ((bit) & 1))
#include "model/dense_kernel.h"

/* ---- AVX-512 ---- */

__attribute__((target("avx512f"), always_inline))
static inline uint64
compare_avx512(const double *x, double threshold)
{
	__m512d		all = _mm512_set1_pd(threshold);
	uint64		mask = 0;

	for (int i = 0; i < MODEL_BLOCK / 8; i++)
		mask |= (uint64) _mm512_cmp_pd_mask(_mm512_loadu_pd(x + 8 * i), all,
											_CMP_LE_OQ) << (8 * i);
	return mask;
}

#define DENSE_NAME dense_avx512
#define DENSE_TARGET __attribute__((target("avx512f")))
#define DENSE_COMPARE(x, threshold) compare_avx512(x, threshold)
#define DENSE_ROW(bit) (bit)
#include "model/dense_kernel.h"

#endif							/* HAVE_X86_KERNELS */

#ifdef HAVE_NEON_KERNEL

/* ---- NEON ---- */

/* Four comparisons of two rows each, narrowed to a byte a row. */
static inline uint64
compare_neon(const double *x, double threshold)
{
	static const uint8 weights[8] = {1, 2, 4, 8, 16, 32, 64, 128};
	float64x2_t all = vdupq_n_f64(threshold);
	uint64		mask = 0;

	for (int i = 0; i < MODEL_BLOCK; i += 8)
	{
		uint32x4_t	low = vcombine_u32(vmovn_u64(vcleq_f64(vld1q_f64(x + i), all)),
									   vmovn_u64(vcleq_f64(vld1q_f64(x + i + 2), all)));
		uint32x4_t	high = vcombine_u32(vmovn_u64(vcleq_f64(vld1q_f64(x + i + 4), all)),
										vmovn_u64(vcleq_f64(vld1q_f64(x + i + 6), all)));
		uint8x8_t	bytes = vmovn_u16(vcombine_u16(vmovn_u32(low),
												   vmovn_u32(high)));

		mask |= (uint64) vaddv_u8(vand_u8(bytes, vld1_u8(weights))) << i;
	}
	return mask;
}

#define DENSE_NAME dense_neon
#define DENSE_TARGET
#define DENSE_COMPARE(x, threshold) compare_neon(x, threshold)
#define DENSE_ROW(bit) (bit)
#include "model/dense_kernel.h"

#endif							/* HAVE_NEON_KERNEL */

/* The best that may be used. */
static DenseKernel
choose_kernel(void)
{
#if defined(HAVE_X86_KERNELS)
	if (model_instructions() >= MODEL_AVX512)
		return dense_avx512;
	if (model_instructions() >= MODEL_AVX2)
		return dense_avx2;
#elif defined(HAVE_NEON_KERNEL)
	if (model_instructions() == MODEL_NEON)
		return dense_neon;
#endif
	return dense_plain;
}

/* Adds the trees of an ensemble that has dense nodes to a block's outputs. */
void
model_dense_block(const ModelImage *image, const ModelTrees *trees,
				  const double *slots, double *out)
{
	choose_kernel() (image, trees, slots, out);
}

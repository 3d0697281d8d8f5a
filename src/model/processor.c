/*-------------------------------------------------------------------------
 *
 * processor.c
 *		Which instructions kernels may use.
 *
 * What the processor has, found out once a process, and what the setting
 * allows.  All kernels give the same bits.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "model/kernel.h"

static ModelInstructions most = MODEL_AVX512_VBMI;

/* The best that this processor has. */
static ModelInstructions
look(void)
{
#if defined(__x86_64__) && defined(__GNUC__)
	if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("popcnt") ||
		!__builtin_cpu_supports("bmi") || !__builtin_cpu_supports("fma"))
		return MODEL_PLAIN;
	if (!__builtin_cpu_supports("avx512f"))
		return MODEL_AVX2;
	/* Ice Lake's and Zen 4's */
	if (!__builtin_cpu_supports("avx512bw") ||
		!__builtin_cpu_supports("avx512dq") ||
		!__builtin_cpu_supports("avx512vl") ||
		!__builtin_cpu_supports("avx512vbmi") ||
		!__builtin_cpu_supports("bmi2"))
		return MODEL_AVX512;
	return MODEL_AVX512_VBMI;
#elif defined(__aarch64__) && defined(__ARM_NEON)
	return MODEL_NEON;
#else
	return MODEL_PLAIN;
#endif
}

/* The best that kernels may use. */
ModelInstructions
model_instructions(void)
{
	static bool known = false;
	static ModelInstructions best;

	if (!known)
		best = look();
	known = true;
	return Min(best, most);
}

/* Allows no more than this, by its name; "best" is all there is. */
void
model_limit_instructions(const char *name)
{
	if (strcmp(name, "plain") == 0)
		most = MODEL_PLAIN;
	else if (strcmp(name, "avx2") == 0)
		most = MODEL_AVX2;
	else
		most = MODEL_AVX512_VBMI;
}

/* What kernels use, by name. */
const char *
model_instructions_name(void)
{
	static const char *const names[] = {
		[MODEL_PLAIN] = "plain",
		[MODEL_NEON] = "neon",
		[MODEL_AVX2] = "avx2",
		[MODEL_AVX512] = "avx512",
		[MODEL_AVX512_VBMI] = "avx512-vbmi"
	};

	return names[model_instructions()];
}

/*-------------------------------------------------------------------------
 *
 * sigmoid.h
 *		The logistic function of a sum, 1 / (1 + exp(-x)), to four units in
 *		the last place.
 *
 * A row of a linear model takes little more time than its logistic function,
 * and most of that is spent waiting: each operation needs the one before.
 * This is the shortest chain we know of, shorter than the library's exp and
 * what follows.  With k = round(-64 x / ln 2) and r = -x - k ln 2 / 64,
 *
 *		1 + exp(-x) = 1 + 2^(k/64) + 2^(k/64) (exp(r) - 1)
 *
 * where 2^(k/64) comes from a table while exp(r) - 1, |r| < 0.0055, is summed
 * from five terms of its series (P. T. P. Tang, "Table-driven implementation
 * of the exponential function in IEEE floating-point arithmetic", 1989).
 *
 * It is written with fma() and gives the same bits wherever it is compiled,
 * but is fast only where that is an instruction.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_SIGMOID_H
#define VISAGE_SIGMOID_H

#include <math.h>

/* Beyond this the library's exp decides, which knows what is out of range. */
#define SIGMOID_LIMIT 700

/* 2^(i/64) */
static const double sigmoid_powers[64] = {
	1, 1.0108892860517005, 1.0218971486541166,
	1.0330248790212284, 1.0442737824274138, 1.0556451783605572,
	1.0671404006768237, 1.0787607977571199, 1.0905077326652577,
	1.1023825833078409, 1.1143867425958924, 1.1265216186082418,
	1.1387886347566916, 1.1511892299529827, 1.1637248587775775,
	1.1763969916502812, 1.189207115002721, 1.2021567314527031,
	1.215247359980469, 1.22848053610687, 1.241857812073484,
	1.2553807570246911, 1.2690509571917332, 1.2828700160787783,
	1.2968395546510096, 1.3109612115247644, 1.3252366431597413,
	1.3396675240533029, 1.3542555469368927, 1.3690024229745905,
	1.383909881963832, 1.3989796725383112, 1.4142135623730951,
	1.42961333839197, 1.4451808069770467, 1.460917794180647,
	1.4768261459394993, 1.4929077282912648, 1.5091644275934228,
	1.5255981507445384, 1.5422108254079407, 1.5590044002378369,
	1.5759808451078865, 1.593142151342267, 1.6104903319492543,
	1.6280274218573478, 1.6457554781539649, 1.6636765803267364,
	1.681792830507429, 1.7001063537185235, 1.7186192981224779,
	1.7373338352737062, 1.7562521603732995, 1.7753764925265212,
	1.7947090750031072, 1.8142521755003989, 1.8340080864093424,
	1.8539791250833855, 1.8741676341103, 1.8945759815869656,
	1.9152065613971474, 1.9360617934922943, 1.9571441241754002,
	1.9784560263879509
};

/* The logistic function of x, |x| < SIGMOID_LIMIT. */
static pg_attribute_always_inline double
sigmoid_within_limit(double x)
{
	/* What is added to this loses its fraction, and is its low bits. */
	const double rounder = 6755399441055744.0;	/* 1.5 * 2^52 */
	double		shifted = fma(x, -92.332482616893657, rounder);
	double		k = shifted - rounder;
	double		r = fma(k, -0.010830424696249145, -x);
	double		exact_r = fma(k, -3.6235106466348431e-19, r);
	double		r2 = r * r;
	double		low = fma(r, 1.0 / 6, 0.5);
	double		high = fma(r, 1.0 / 120, 1.0 / 24);
	double		power;
	uint64		bits;
	uint64		power_bits;

	memcpy(&bits, &shifted, sizeof(bits));
	memcpy(&power_bits, &sigmoid_powers[bits % 64], sizeof(bits));
	power_bits += bits / 64 << 52;
	memcpy(&power, &power_bits, sizeof(power));
	return 1 / fma(power * r2, fma(r2, high, low),
				   fma(power, exact_r, 1 + power));
}

/* The same of any x. */
static pg_attribute_always_inline double
sigmoid_of_sum(double x)
{
	if (!(fabs(x) < SIGMOID_LIMIT))
		return 1 / (1 + exp(-x));
	return sigmoid_within_limit(x);
}

#endif							/* VISAGE_SIGMOID_H */

/*-------------------------------------------------------------------------
 *
 * bytes.h
 *		Runs of bytes that need no closer look, sixteen at a time.
 *
 * Most bytes of an answer stand in short strings.  Every amd64 has what is
 * used here; elsewhere the plain loops do all of it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_BYTES_H
#define VISAGE_BYTES_H

#include "postgres.h"

#ifdef __SSE2__
#include <emmintrin.h>

#include "port/pg_bitutils.h"
#endif

/* To the next quote or backslash, or the end. */
static inline const char *
bytes_skip_unquoted(const char *at, const char *end)
{
#ifdef __SSE2__
	const __m128i quote = _mm_set1_epi8('"');
	const __m128i backslash = _mm_set1_epi8('\\');

	for (; end - at >= 16; at += 16)
	{
		__m128i		bytes = _mm_loadu_si128((const __m128i *) at);
		__m128i		found = _mm_or_si128(_mm_cmpeq_epi8(bytes, quote),
										 _mm_cmpeq_epi8(bytes, backslash));
		uint32		mask = _mm_movemask_epi8(found);

		if (mask != 0)
			return at + pg_rightmost_one_pos32(mask);
	}
#endif
	while (at < end && *at != '"' && *at != '\\')
		at++;
	return at;
}

/*
 * To what is no printable ASCII character of a string: a quote, a backslash,
 * a control character, a byte of a longer sequence, or the end.
 */
static inline const char *
bytes_skip_plain(const char *at, const char *end)
{
#ifdef __SSE2__
	const __m128i quote = _mm_set1_epi8('"');
	const __m128i backslash = _mm_set1_epi8('\\');
	const __m128i space = _mm_set1_epi8(' ');

	for (; end - at >= 16; at += 16)
	{
		__m128i		bytes = _mm_loadu_si128((const __m128i *) at);
		__m128i		found = _mm_or_si128(_mm_cmpeq_epi8(bytes, quote),
										 _mm_cmpeq_epi8(bytes, backslash));
		uint32		mask;

		/* compared with signs: bytes from 0x80 are less than a space, too */
		found = _mm_or_si128(found, _mm_cmplt_epi8(bytes, space));
		mask = _mm_movemask_epi8(found);
		if (mask != 0)
			return at + pg_rightmost_one_pos32(mask);
	}
#endif
	while (at < end && *at != '"' && *at != '\\' &&
		   (unsigned char) *at >= 0x20 && (unsigned char) *at < 0x80)
		at++;
	return at;
}

#endif							/* VISAGE_BYTES_H */

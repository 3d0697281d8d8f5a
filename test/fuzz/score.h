/*-------------------------------------------------------------------------
 *
 * score.h
 *		The scorer, for targets that have an image.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FUZZ_SCORE_H
#define FUZZ_SCORE_H

#include "model/image.h"

/* Aborts unless rows have the same bits in a block and one by one. */
extern void score_both_ways(const ModelImage *image);

#endif							/* FUZZ_SCORE_H */

/*-------------------------------------------------------------------------
 *
 * adopt.h
 *		The mark of adoption; see setting.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_ADOPT_H
#define VISAGE_ADOPT_H

extern char *core_adoption_file(void);

#endif							/* VISAGE_ADOPT_H */

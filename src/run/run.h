/*-------------------------------------------------------------------------
 *
 * run.h
 *		What others may use of room run.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_RUN_H
#define VISAGE_RUN_H

extern void run_register_launcher(void);

#endif							/* VISAGE_RUN_H */

/*-------------------------------------------------------------------------
 *
 * secret.h
 *		Resolving references to secrets; see secret.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_SECRET_H
#define VISAGE_SECRET_H

extern void core_check_secret(const char *name, const char *reference);
extern char *core_read_secret(const char *name, const char *reference);

#endif							/* VISAGE_SECRET_H */

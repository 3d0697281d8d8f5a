/*-------------------------------------------------------------------------
 *
 * secret.h
 *		Resolving references to secrets; see secret.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_SECRET_H
#define VISAGE_SECRET_H

/*
 * A stored secret is read by net/vault.c, which has the ciphers; what it
 * hands on begins with CORE_OPENED, which no user can give.
 */
#define CORE_STORED "stored:"
#define CORE_OPENED "opened:"

extern void core_check_secret_name(const char *name);
extern bool core_is_secret_reference(const char *text);
extern void core_check_secret(const char *name, const char *reference);
extern char *core_read_secret(const char *name, const char *reference);

#endif							/* VISAGE_SECRET_H */

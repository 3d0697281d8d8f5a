/*-------------------------------------------------------------------------
 *
 * libpq_lookup.h
 *		Names to addresses for libpq.c, without blocking, past the guard.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_LIBPQ_LOOKUP_H
#define VISAGE_LIBPQ_LOOKUP_H

typedef struct LibpqLookup LibpqLookup;

extern bool libpq_host_allowed(const char *allowed, const char *host,
							   int port, char *reason, size_t size);
extern LibpqLookup *libpq_begin_lookup(const char *host, int port);
extern int	libpq_lookup_socket(const LibpqLookup *lookup);
extern bool libpq_lookup_done(LibpqLookup *lookup);
extern bool libpq_lookup_found(LibpqLookup *lookup);
extern char *libpq_allowed_addresses(LibpqLookup *lookup,
									 const char *allowed, int port,
									 char *reason, size_t size);
extern void libpq_end_lookup(LibpqLookup *lookup);

#endif							/* VISAGE_LIBPQ_LOOKUP_H */

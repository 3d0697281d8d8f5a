/*-------------------------------------------------------------------------
 *
 * server.h
 *		What a fuzz target uses of the stand-in for the server.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FUZZ_SERVER_H
#define FUZZ_SERVER_H

#include "postgres.h"

/*
 * Runs body(argument); false if it ended in an ERROR, which is in
 * server_error then.  What it allocated stays until server_free_all.  At most
 * limit bytes may be allocated at a time: more than that is a bug.
 */
extern bool server_try(void (*body) (void *argument), void *argument,
					   size_t limit);
extern void server_free_all(void);
extern void server_keep_all(void);

typedef struct ServerError
{
	int			sqlstate;
	char		message[1024];
	char		detail[1024];
} ServerError;

extern ServerError server_error;

#endif							/* FUZZ_SERVER_H */

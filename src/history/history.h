/*-------------------------------------------------------------------------
 *
 * history.h
 *		What the files of room history share; no other room includes it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_HISTORY_H
#define VISAGE_HISTORY_H

#include "core/core.h"

/* What a column of the source means to the history. */
typedef enum HistoryRole
{
	HISTORY_KEY,
	HISTORY_SEQUENCE,
	HISTORY_TRACKED,			/* type 2: a change opens a version */
	HISTORY_FIXED,				/* type 0: the first value stays */
	HISTORY_OVERWRITTEN			/* type 1: changed in the open version */
} HistoryRole;

typedef struct HistoryColumn
{
	char	   *name;			/* quoted */
	char	   *type;
	Oid			type_oid;
	HistoryRole role;
	bool		is_new;			/* not yet in the history */
} HistoryColumn;

typedef struct History
{
	char	   *name;			/* "history.x", the noun's name */
	char	   *table;			/* "x" */
	char	   *target;			/* qualified and quoted */
	char	   *superseded;
	Jsonb	   *definition;
	char	  **keys;			/* quoted */
	int			key_count;
	char	  **sequence;		/* quoted; none: the time of the extract */
	int			sequence_count;
	HistoryColumn *columns;		/* of the source, in its order */
	int			column_count;
} History;

/* columns.c */
extern History *history_describe(const char *name, Jsonb *definition);
extern void history_read_columns(History *history, const char *source);
extern char *history_column_list(const History *history, const char *alias,
								 HistoryRole role, bool all);
extern char *history_record(const History *history, const char *alias,
							HistoryRole role);
extern char *history_hash(const History *history, const char *alias);
extern char *history_key_match(const History *history, const char *left,
							   const char *right);

/* tables.c */
extern void history_make_tables(History *history, const char *source);
extern void history_add_columns(History *history, const char *source);

/* source.c */
extern char *history_find_source(const char *source);

#endif							/* VISAGE_HISTORY_H */

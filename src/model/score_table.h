/*-------------------------------------------------------------------------
 *
 * score_table.h
 *		What the files behind visage_score_table share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_SCORE_TABLE_H
#define VISAGE_SCORE_TABLE_H

#include "access/tupdesc.h"
#include "model/model.h"
#include "model/store.h"
#include "utils/relcache.h"
#include "utils/tuplestore.h"

/* Columns behind the key's. */
typedef enum ScoreColumn
{
	COLUMN_SCORE,
	COLUMN_CLASS,
	COLUMN_REASONS,
	COLUMN_MODEL,
	COLUMN_VERSION,
	COLUMN_SCORED_AT,
	COLUMN_RUN_ID,
	SCORE_COLUMNS
}			ScoreColumn;

/* What a call asks for. */
typedef struct ScoreRequest
{
	text	   *model;
	char	   *query;
	char	   *into;
	char	  **key;
	int			key_count;
	char	   *mode;
	int			reasons;
} ScoreRequest;

/* Where a row of one batch begins. */
typedef struct ScoreRun
{
	int64		id;
	int64		rows;			/* before this batch, and after it */
	char	  **last;			/* the key of the last row, as texts, or NULL */
} ScoreRun;

/* The table that rows go to. */
typedef struct ScoreTarget
{
	char	   *quoted;
	Relation	relation;
	TupleDesc	rows;			/* the key's columns, and those behind */
	Tuplestorestate *store;		/* rows to insert by a statement, or NULL:
								 * they are written as they are */
	const ScoreRequest *request;
} ScoreTarget;

/* score_target.c */
extern void score_open_target(ScoreTarget *target,
							  const ScoreRequest *request, TupleDesc query,
							  const int *key, bool empty);
extern void score_insert_stored(ScoreTarget *target);
extern char *score_target_name(const char *name, Oid *oid);

/* score_run.c */
extern int64 score_begin_run(const char *into);
extern void score_end_run(const ScoreRun *run, const ModelEntry *entry);
extern void score_in_batches(const ScoreRequest *request, int batch);

/* score_table.c */
extern void score_query(const ScoreRequest *request, const char *query,
						ScoreRun *run, bool empty, bool keep_last);

#endif							/* VISAGE_SCORE_TABLE_H */

/*-------------------------------------------------------------------------
 *
 * feature.h
 *		What the files of room feature share; no other room includes it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_FEATURE_H
#define VISAGE_FEATURE_H

#include "core/core.h"
#include "lib/stringinfo.h"

/* How an aggregate is written; one row a name in view.c. */
typedef struct FeatureAggregate
{
	const char *name;
	const char *sql;			/* $o the expression, $t the times, $f the
								 * filter */
	bool		needs_of;
	bool		takes_of;
	bool		is_count;		/* 0, not NULL, without events */
	bool		is_value;		/* may be NaN or infinite, then NULL */
} FeatureAggregate;

typedef struct Feature
{
	char	   *name;
	const FeatureAggregate *aggregate;
	char	   *of;				/* expression over the source, or NULL */
	char	   *where;			/* likewise */
	char	   *window;			/* an interval, or NULL for all the past */
} Feature;

typedef struct FeatureView
{
	char	   *name;
	char	  **entity;
	int			entity_count;
	char	   *source;			/* a FROM item, in parentheses or qualified */
	char	   *event_time;
	char	   *recorded_time;	/* or NULL */
	Feature    *features;
	int			feature_count;
} FeatureView;

/* view.c */
extern FeatureView *feature_read_view(const char *name);
extern FeatureView *feature_parse_view(const char *name, Jsonb *definition);

/* check.c */
extern void feature_check_expression(const char *what, const char *text);
extern void feature_check_query(const char *what, const char *text);
extern bool feature_try(void (*step) (void *arg), void *arg, char **missing);

/* query.c */
extern void feature_append_events(StringInfo sql, const FeatureView *view);
extern char *feature_query(FeatureView **views, int count,
						   const char *labels, const char *label_columns,
						   const char *known_at);

#endif							/* VISAGE_FEATURE_H */

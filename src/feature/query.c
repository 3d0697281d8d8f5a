/*-------------------------------------------------------------------------
 *
 * query.c
 *		The one query that computes features, whoever asks.
 *
 * Training sets and single entities use the same text, so that they agree to
 * the bit.  For each view the distinct pairs (entity, time) of the labels are
 * joined with the events of the entity before the time, and aggregated; each
 * feature has its window and condition as a filter.  Nothing runs row by
 * row, and no index is needed.
 *
 * A feature at time t sees events with event_time < t, recorded by t where
 * the view has a recorded_time, and with known_at given also by then.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "core/core.h"
#include "feature/feature.h"
#include "utils/builtins.h"

/*
 * The events of a view: entity columns e0…, time, recorded time, and each
 * feature's expression and condition, evaluated where only the source's own
 * columns can be named.
 */
void
feature_append_events(StringInfo sql, const FeatureView *view)
{
	appendStringInfoString(sql, "SELECT ");
	for (int i = 0; i < view->entity_count; i++)
		appendStringInfo(sql, "s.%s AS e%d, ",
						 quote_identifier(view->entity[i]), i);
	appendStringInfo(sql, "s.%s::timestamptz AS at",
					 quote_identifier(view->event_time));
	if (view->recorded_time != NULL)
		appendStringInfo(sql, ", s.%s::timestamptz AS recorded",
						 quote_identifier(view->recorded_time));
	for (int i = 0; i < view->feature_count; i++)
	{
		const Feature *feature = &view->features[i];

		if (feature->of != NULL)
			appendStringInfo(sql, ", (%s\n) AS o%d", feature->of, i);
		if (feature->where != NULL)
			appendStringInfo(sql, ", (%s\n) AS w%d", feature->where, i);
	}
	appendStringInfo(sql, " FROM %s AS s", view->source);
}

/* " FILTER (WHERE …)" of a feature, or nothing. */
static char *
filter(const Feature *feature, int index)
{
	StringInfoData clause;

	initStringInfo(&clause);
	if (feature->window != NULL)
		appendStringInfo(&clause, "v.at >= p.at - %s::interval",
						 quote_literal_cstr(feature->window));
	if (feature->where != NULL)
		appendStringInfo(&clause, "%sv.w%d", clause.len ? " AND " : "",
						 index);
	if (clause.len == 0)
		return clause.data;
	return psprintf(" FILTER (WHERE %s)", clause.data);
}

/* The aggregate's template with its parts filled in. */
static char *
aggregate(const Feature *feature, int index)
{
	StringInfoData sql;
	char	   *clause = filter(feature, index);

	initStringInfo(&sql);
	for (const char *c = feature->aggregate->sql; *c; c++)
	{
		if (*c != '$')
		{
			appendStringInfoChar(&sql, *c);
			continue;
		}
		switch (*++c)
		{
			case 'o':
				appendStringInfoString(&sql, feature->of ?
									   psprintf("v.o%d", index) : "*");
				break;
			case 't':
				appendStringInfoString(&sql, "v.at");
				break;
			case 'p':
				appendStringInfoString(&sql, "p.at");
				break;
			case 'f':
				appendStringInfoString(&sql, clause);
				break;
		}
	}
	return sql.data;
}

/* A value that is never NaN or infinite. */
static char *
only_finite(const Feature *feature, char *sql)
{
	if (!feature->aggregate->is_value)
		return sql;
	return psprintf("CASE WHEN pg_typeof(%s)::oid IN (700, 701, 1700)"
					" AND (%s)::text IN ('NaN', 'Infinity', '-Infinity')"
					" THEN NULL ELSE %s END", sql, sql, sql);
}

/* The subquery of a view: pairs with events, and their features. */
static void
append_view(StringInfo sql, const FeatureView *view, const char *known_at)
{
	appendStringInfoString(sql, "(SELECT p.visage_pair");
	for (int i = 0; i < view->feature_count; i++)
		appendStringInfo(sql, ", %s AS f%d",
						 only_finite(&view->features[i],
									 aggregate(&view->features[i], i)), i);
	appendStringInfoString(sql, " FROM (SELECT min(visage_row) AS"
						   " visage_pair, event_time::timestamptz AS at");
	for (int i = 0; i < view->entity_count; i++)
		appendStringInfo(sql, ", %s AS e%d",
						 quote_identifier(view->entity[i]), i);
	appendStringInfoString(sql, " FROM visage_labels GROUP BY 2");
	for (int i = 0; i < view->entity_count; i++)
		appendStringInfo(sql, ", %d", i + 3);
	appendStringInfoString(sql, ") AS p JOIN (");
	feature_append_events(sql, view);
	appendStringInfoString(sql, ") AS v ON v.at < p.at");
	for (int i = 0; i < view->entity_count; i++)
		appendStringInfo(sql, " AND v.e%d = p.e%d", i, i);
	if (view->recorded_time != NULL)
		appendStringInfo(sql, " AND v.recorded <= p.at%s%s%s",
						 known_at ? " AND v.recorded <= " : "",
						 known_at ? quote_literal_cstr(known_at) : "",
						 known_at ? "::timestamptz" : "");
	appendStringInfoString(sql, " GROUP BY p.visage_pair, p.at)");
}

/* Which row of a view's subquery belongs to a label. */
static void
append_pairs(StringInfo sql, const FeatureView *view, int index)
{
	appendStringInfo(sql, ", min(visage_row) OVER (PARTITION BY"
					 " event_time::timestamptz");
	for (int i = 0; i < view->entity_count; i++)
		appendStringInfo(sql, ", %s", quote_identifier(view->entity[i]));
	appendStringInfo(sql, ") AS visage_pair%d", index);
}

/*
 * The statement: label_columns of the labels (a query), then the features of
 * the views in order, rows in the labels' order.
 */
char *
feature_query(FeatureView **views, int count, const char *labels,
			  const char *label_columns, const char *known_at)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "WITH visage_labels AS MATERIALIZED (SELECT"
					 " row_number() OVER () AS visage_row, l.*"
					 " FROM (%s\n) AS l), visage_pairs AS (SELECT *", labels);
	for (int i = 0; i < count; i++)
		append_pairs(&sql, views[i], i);
	appendStringInfo(&sql, " FROM visage_labels) SELECT %s", label_columns);
	for (int i = 0; i < count; i++)
		for (int j = 0; j < views[i]->feature_count; j++)
		{
			const Feature *feature = &views[i]->features[j];

			appendStringInfo(&sql, feature->aggregate->is_count ?
							 "%scoalesce(v%d.f%d, 0) AS %s" :
							 "%sv%d.f%d AS %s",
							 label_columns[0] || i || j ? ", " : "", i, j,
							 quote_identifier(feature->name));
		}
	appendStringInfoString(&sql, " FROM visage_pairs AS l");
	for (int i = 0; i < count; i++)
	{
		appendStringInfoString(&sql, " LEFT JOIN ");
		append_view(&sql, views[i], known_at);
		appendStringInfo(&sql, " AS v%d ON v%d.visage_pair ="
						 " l.visage_pair%d", i, i, i);
	}
	appendStringInfoString(&sql, " ORDER BY l.visage_row");
	return sql.data;
}

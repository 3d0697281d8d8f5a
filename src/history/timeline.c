/*-------------------------------------------------------------------------
 *
 * timeline.c
 *		From the set of what is known about a key, its versions.
 *
 * This is where a history gets its meaning, and nothing here looks at what
 * came first: the facts are put into the order of their sequence, and the
 * versions are a function of that.  A merge adds facts to those that the
 * store remembers, calls this, and writes the difference (apply.c).  So any
 * order of arrival and any split into merges ends in the same versions.
 *
 * Known about a key are records and deletes, each at an instant, and for
 * each complete extract whether it saw the key, and with which tracked
 * columns (a sighting).  At one instant the record of the greatest sequence
 * counts, and a sighting only where there is no record.  Going through the
 * instants in order:
 *
 *	- a record whose tracked columns are those of the version so far adds to
 *	  it: its type-1 columns overwrite, and it fills what was unknown;
 *	- another one closes the version and opens the next;
 *	- a delete, or an extract without the key, closes it, which is a version
 *	  of its own (is_deleted) with hard_deletes 'new_record';
 *	- an extract that saw other columns than the version's, or the key after
 *	  it was gone, opens a version with the latest record of such columns.
 *
 * Every version that is not deleted carries the columns and the sequence of
 * one record: the last one to overwrite or fill something in it, else the one
 * that opened it.  A type-0 column has the value of the key's first record.
 *
 * With valid_to_column each record is a version of its own, and ends where
 * it says or where the next begins.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "history/history.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

/* Appends a fact. */
void
history_add_fact(HistoryTimeline *timeline, HistoryFact *fact)
{
	if (timeline->fact_count == timeline->fact_space)
	{
		timeline->fact_space = Max(16, timeline->fact_space * 2);
		timeline->facts = timeline->facts ?
			repalloc(timeline->facts,
					 sizeof(HistoryFact *) * timeline->fact_space) :
			palloc(sizeof(HistoryFact *) * timeline->fact_space);
	}
	timeline->facts[timeline->fact_count++] = fact;
}

static HistoryVersion *
add_version(HistoryVersion **versions, int *count, int *space)
{
	if (*count == *space)
	{
		*space = Max(8, *space * 2);
		*versions = *versions ?
			repalloc(*versions, sizeof(HistoryVersion) * *space) :
			palloc(sizeof(HistoryVersion) * *space);
	}
	memset(&(*versions)[*count], 0, sizeof(HistoryVersion));
	return &(*versions)[(*count)++];
}

/* Appends a stored version. */
HistoryVersion *
history_add_stored(HistoryTimeline *timeline)
{
	return add_version(&timeline->stored, &timeline->stored_count,
					   &timeline->stored_space);
}

/* The version being built, or NULL: none yet, or it has ended. */
typedef struct Builder
{
	History    *history;
	HistoryTimeline *timeline;
	int			current;		/* its index, or -1 */
	int			next_fact;
	int			next_sighting;
} Builder;

static HistoryVersion *
current_version(Builder *builder)
{
	return builder->current < 0 ? NULL :
		&builder->timeline->versions[builder->current];
}

/* Ends the version at this instant, or where its source said it ends. */
static void
close_current(Builder *builder, TimestampTz at)
{
	HistoryVersion *version = current_version(builder);

	if (version)
		version->to = Min(at, version->end);
	builder->current = -1;
}

/* A version whose source said it ends before this instant has ended. */
static void
expire(Builder *builder, TimestampTz at)
{
	HistoryVersion *version = current_version(builder);

	if (version && version->end <= at)
		close_current(builder, at);
}

static HistoryVersion *
open_version(Builder *builder, TimestampTz from, HistoryFact *fact)
{
	HistoryTimeline *timeline = builder->timeline;
	int			end_column = builder->history->end_column;
	HistoryVersion *version;

	close_current(builder, from);
	version = add_version(&timeline->versions, &timeline->version_count,
						  &timeline->version_space);
	builder->current = timeline->version_count - 1;
	version->from = from;
	version->to = DT_NOEND;
	version->end = DT_NOEND;
	version->values = fact->values;
	version->nulls = fact->nulls;
	version->unknown = fact->unknown;
	version->fact = fact;
	version->is_exact = true;
	if (end_column >= 0 && !fact->nulls[end_column])
		version->end = history_time(&builder->history->columns[end_column],
									fact->values[end_column]);
	return version;
}

/* A copy of the version's columns, to be changed. */
static void
own_columns(History *history, HistoryVersion *version)
{
	Size		size = sizeof(Datum) * history->column_count;
	Datum	   *values = palloc(size);
	bool	   *nulls = palloc(sizeof(bool) * history->column_count);

	memcpy(values, version->values, size);
	memcpy(nulls, version->nulls, sizeof(bool) * history->column_count);
	version->values = values;
	version->nulls = nulls;
}

/* Does the record know something that the version does not? */
static bool
fills(const HistoryVersion *version, const HistoryFact *fact)
{
	return !bms_is_subset(version->unknown, fact->unknown);
}

/* A record with the tracked columns of the version so far. */
static void
extend(Builder *builder, HistoryFact *fact)
{
	History    *history = builder->history;
	HistoryVersion *version = current_version(builder);
	bool		fresh_values =
	!history_same_columns(history, HISTORY_ROLE(HISTORY_OVERWRITTEN),
						  version->values, version->nulls,
						  version->unknown, fact->values, fact->nulls,
						  fact->unknown);

	if (!fresh_values && !fills(version, fact))
		return;
	version->fact = fact;
	if (version->unknown == NULL && fact->unknown == NULL)
	{
		version->values = fact->values;
		version->nulls = fact->nulls;
		version->is_exact = true;
		return;
	}
	own_columns(history, version);
	for (int i = 0; i < history->column_count; i++)
	{
		HistoryRole role = history->columns[i].role;

		if (bms_is_member(i, fact->unknown) ||
			(role == HISTORY_TRACKED && !bms_is_member(i, version->unknown)))
			continue;
		version->values[i] = fact->values[i];
		version->nulls[i] = fact->nulls[i];
	}
	version->is_exact = bms_is_empty(fact->unknown);
	version->unknown = bms_intersect(version->unknown, fact->unknown);
}

static void
apply_record(Builder *builder, HistoryFact *fact)
{
	History    *history = builder->history;
	HistoryVersion *version = current_version(builder);

	if (version && !version->is_deleted && history->end_column < 0 &&
		history_same_columns(history, HISTORY_ROLE(HISTORY_TRACKED),
							 version->values, version->nulls,
							 version->unknown, fact->values, fact->nulls,
							 fact->unknown))
		extend(builder, fact);
	else
		open_version(builder, fact->at, fact);
}

/* The key is gone: by a delete, or because an extract lacks it. */
static void
apply_delete(Builder *builder, TimestampTz at)
{
	HistoryVersion *version = current_version(builder);

	if (version == NULL || version->is_deleted)
		return;
	if (builder->history->deletes == HISTORY_DELETES_NEW_RECORD)
	{
		HistoryVersion last = *version;
		HistoryVersion *gone = open_version(builder, at, last.fact);

		gone->values = last.values;
		gone->nulls = last.nulls;
		gone->unknown = last.unknown;
		gone->is_deleted = true;
		gone->is_exact = false;
		gone->end = DT_NOEND;
	}
	else
		close_current(builder, at);
}

/* The latest record up to an instant, of these tracked columns if given. */
static HistoryFact *
latest_record(Builder *builder, TimestampTz at,
			  const HistorySighting *sighting)
{
	HistoryTimeline *timeline = builder->timeline;

	for (int i = timeline->fact_count - 1; i >= 0; i--)
	{
		HistoryFact *fact = timeline->facts[i];

		if (fact->at <= at && !fact->is_delete &&
			(sighting == NULL ? fact->is_effective :
			 history_same_columns(builder->history,
								  HISTORY_ROLE(HISTORY_TRACKED),
								  fact->values, fact->nulls, fact->unknown,
								  sighting->values, sighting->nulls,
								  sighting->unknown)))
			return fact;
	}
	return NULL;
}

/* Does the record itself say that it has ended by this instant? */
static bool
has_ended(History *history, const HistoryFact *fact, TimestampTz at)
{
	int			c = history->end_column;

	return c >= 0 && !fact->nulls[c] &&
		history_time(&history->columns[c], fact->values[c]) <= at;
}

/* What an extract saw, where no record says what was at its time. */
static void
apply_sighting(Builder *builder, const HistorySighting *sighting)
{
	HistoryVersion *version;
	HistoryFact *fact;

	expire(builder, sighting->at);
	version = current_version(builder);
	if (!sighting->present)
	{
		apply_delete(builder, sighting->at);
		return;
	}
	if (version && !version->is_deleted &&
		history_same_columns(builder->history, HISTORY_ROLE(HISTORY_TRACKED),
							 version->values, version->nulls,
							 version->unknown, sighting->values,
							 sighting->nulls, sighting->unknown))
		return;
	fact = latest_record(builder, sighting->at, sighting);
	/* the record it saw has lost to another one of the same sequence */
	if (fact == NULL && (version == NULL || version->is_deleted))
		fact = latest_record(builder, sighting->at, NULL);
	if (fact && !has_ended(builder->history, fact, sighting->at))
		open_version(builder, sighting->at, fact);
}

/* Applies all sightings before an instant. */
static void
apply_sightings(Builder *builder, TimestampTz before)
{
	HistoryTimeline *timeline = builder->timeline;

	while (builder->next_sighting < timeline->sighting_count &&
		   timeline->sightings[builder->next_sighting].at < before)
		apply_sighting(builder,
					   &timeline->sightings[builder->next_sighting++]);
}

/* Gives every version the type-0 columns of the key's first record. */
static void
fix_columns(History *history, HistoryTimeline *timeline)
{
	for (int c = 0; c < history->column_count; c++)
	{
		HistoryFact *first = NULL;

		if (history->columns[c].role != HISTORY_FIXED)
			continue;
		for (int i = 0; i < timeline->fact_count && first == NULL; i++)
			if (!timeline->facts[i]->is_delete &&
				!bms_is_member(c, timeline->facts[i]->unknown))
				first = timeline->facts[i];
		if (first == NULL)
			continue;
		for (int i = 0; i < timeline->version_count; i++)
		{
			HistoryVersion *version = &timeline->versions[i];

			if ((version->values == first->values &&
				 version->nulls == first->nulls) ||
				(version->nulls[c] && first->nulls[c]) ||
				(!version->nulls[c] && !first->nulls[c] &&
				 history_same(&history->columns[c], version->values[c],
							  first->values[c])))
				continue;
			own_columns(history, version);
			version->values[c] = first->values[c];
			version->nulls[c] = first->nulls[c];
		}
	}
}

/*
 * The versions that follow from facts and sightings, each in its order.
 * What they hold points into the facts.
 */
void
history_make_versions(History *history, HistoryTimeline *timeline)
{
	Builder		builder = {history, timeline, -1, 0, 0};

	timeline->version_count = 0;
	for (int i = 0; i < timeline->fact_count; i++)
	{
		HistoryFact *fact = timeline->facts[i];

		CHECK_FOR_INTERRUPTS();
		if (!fact->is_effective)
			continue;
		apply_sightings(&builder, fact->at);
		while (builder.next_sighting < timeline->sighting_count &&
			   timeline->sightings[builder.next_sighting].at == fact->at)
			builder.next_sighting++;
		expire(&builder, fact->at);
		if (fact->is_delete)
			apply_delete(&builder, fact->at);
		else
			apply_record(&builder, fact);
	}
	apply_sightings(&builder, DT_NOEND);
	close_current(&builder, DT_NOEND);
	fix_columns(history, timeline);
}

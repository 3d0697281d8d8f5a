/*-------------------------------------------------------------------------
 *
 * facts.c
 *		What is known about a key: what was stored, and what is fresh.
 *
 * What was known before is read back from three places, and nothing of it is
 * said twice where that can be helped:
 *
 *	- a version that is not deleted carries the columns of one record;
 *	- __observed has the records that no version carries: those that changed
 *	  nothing, those overwritten since; and all deletes;
 *	- of a complete extract there is one row for all keys: it saw what the
 *	  version valid at its time says, or that there was none.  Where it saw
 *	  something else, a record that another one of its sequence has beaten
 *	  since, __observed says so.
 *
 * Without sequence_by a record's time is that of its merge, so a sighting is
 * a record: the same as the one before it in the version.
 *
 * A version that ends where neither a delete, an extract nor its source says
 * so was ended by hand.  That counts as a delete.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "history/history.h"
#include "utils/timestamp.h"

/* The record that a version carries. */
static void
add_carried_record(History *history, HistoryTimeline *timeline,
				   const HistoryVersion *version)
{
	HistoryFact *fact = palloc0(sizeof(HistoryFact));
	int			c = history->sequence_count > 0 ?
	history->sequence_columns[0] : -1;

	fact->origin = HISTORY_FROM_VERSION;
	fact->at = c >= 0 && !version->nulls[c] ?
		history_time(&history->columns[c], version->values[c]) :
		version->from;
	fact->values = version->values;
	fact->nulls = version->nulls;
	fact->unknown = version->unknown;
	history_add_fact(timeline, fact);
}

/* The version valid at an instant, or NULL. */
static HistoryVersion *
version_at(HistoryTimeline *timeline, TimestampTz at)
{
	for (int i = timeline->stored_count - 1; i >= 0; i--)
	{
		HistoryVersion *version = &timeline->stored[i];

		if (version->from <= at)
			return at < version->to && !version->is_deleted ? version : NULL;
	}
	return NULL;
}

static HistorySighting *
add_sighting(HistoryTimeline *timeline, TimestampTz at)
{
	HistorySighting *sighting;

	sighting = &timeline->sightings[timeline->sighting_count++];
	memset(sighting, 0, sizeof(*sighting));
	sighting->at = at;
	return sighting;
}

/* NULLs where a row is NULL or its columns are missing. */
static bool *
null_missing(const History *history, const bool *nulls,
			 const Bitmapset *missing)
{
	bool	   *copy = palloc(sizeof(bool) * history->column_count);

	for (int i = 0; i < history->column_count; i++)
		copy[i] = nulls[i] || bms_is_member(i, missing);
	return copy;
}

static void
see_version(const History *history, HistorySighting *sighting,
			const HistoryVersion *version, Bitmapset *missing)
{
	sighting->present = true;
	sighting->values = version->values;
	sighting->nulls = bms_is_empty(missing) ? version->nulls :
		null_missing(history, version->nulls, missing);
	sighting->unknown = bms_union(version->unknown, missing);
}

/* The latest record of a version up to an instant, before merging. */
static HistoryFact *
record_in_version(HistoryTimeline *timeline, int count,
				  const HistoryVersion *version, TimestampTz at)
{
	HistoryFact *latest = NULL;

	for (int i = 0; i < count; i++)
	{
		HistoryFact *fact = timeline->facts[i];

		if (fact->is_delete || fact->at > at || fact->at < version->from ||
			fact->origin == HISTORY_FRESH)
			continue;
		if (latest == NULL || fact->at > latest->at ||
			(fact->at == latest->at && fact->origin < latest->origin))
			latest = fact;
	}
	return latest;
}

/* Without sequence_by, an extract's record of the key. */
static void
add_extract_record(History *history, HistoryTimeline *timeline, int count,
				   const HistoryVersion *version,
				   const HistoryExtract *extract)
{
	HistoryFact *before = record_in_version(timeline, count, version,
											extract->at);
	HistoryFact *fact;

	if (before == NULL || before->at == extract->at)
		return;
	fact = palloc0(sizeof(HistoryFact));
	fact->origin = HISTORY_FROM_EXTRACT;
	fact->at = extract->at;
	fact->values = before->values;
	fact->nulls = before->nulls;
	fact->unknown = bms_union(before->unknown, extract->missing);
	if (!bms_is_empty(extract->missing))
		fact->nulls = null_missing(history, before->nulls, extract->missing);
	history_add_fact(timeline, fact);
}

/* Of the columns that only one of two knows, the first by name. */
static int
first_difference(const History *history, const Bitmapset *unknown,
				 const Bitmapset *other_unknown)
{
	int			first = -1;

	for (int i = 0; i < history->column_count; i++)
		if (bms_is_member(i, unknown) != bms_is_member(i, other_unknown) &&
			(first < 0 || strcmp(history->columns[i].name,
								 history->columns[first].name) < 0))
			first = i;
	return first;
}

/*
 * Two tracked rows of one sequence: by the hash, as between records.  If that
 * is the same, by which of them knows the first column that the other lacks.
 */
static bool
outranks(History *history, const HistorySighting *a, const HistorySighting *b)
{
	int			roles = HISTORY_ROLE(HISTORY_TRACKED);
	int64		hash = (int64) history_hash(history, roles, a->values,
											a->nulls);
	int64		other = (int64) history_hash(history, roles, b->values,
											 b->nulls);
	int			first;

	if (hash != other)
		return hash > other;
	first = first_difference(history, a->unknown, b->unknown);
	return first >= 0 && bms_is_member(first, b->unknown);
}

/* What __observed says of the extract of this time, or NULL. */
static HistorySighting *
remembered_sighting(History *history, HistoryTimeline *timeline,
					TimestampTz at)
{
	HistorySighting *found = NULL;
	ListCell   *cell;

	foreach(cell, timeline->seen)
	{
		HistorySighting *seen = lfirst(cell);

		if (seen->at == at &&
			(found == NULL || outranks(history, seen, found)))
			found = seen;
	}
	return found;
}

/* What the extracts merged before saw of the key. */
static void
add_sightings(HistoryMerge *merge, HistoryTimeline *timeline)
{
	History    *history = merge->history;
	int			count = timeline->fact_count;

	timeline->sightings = palloc(sizeof(HistorySighting) *
								 (merge->extract_count + 1));
	for (int i = 0; i < merge->extract_count; i++)
	{
		const HistoryExtract *extract = &merge->extracts[i];
		HistoryVersion *version = version_at(timeline, extract->at);
		HistorySighting *seen = remembered_sighting(history, timeline,
													extract->at);

		if (seen)
			*add_sighting(timeline, extract->at) = *seen;
		else if (version && history->sequence_count == 0)
			add_extract_record(history, timeline, count, version, extract);
		else if (version)
			see_version(history, add_sighting(timeline, extract->at),
						version, extract->missing);
		else
			(void) add_sighting(timeline, extract->at);
	}
}

/* What an extract with this record saw. */
static HistorySighting
saw_record(const HistoryFact *fact)
{
	HistorySighting sighting = {.values = fact->values,.nulls = fact->nulls,
	.unknown = fact->unknown};

	return sighting;
}

/* Of two records of one extract and sequence, does the first count? */
static bool
is_greater(History *history, const HistoryFact *a, const HistoryFact *b)
{
	HistorySighting first = saw_record(a);
	HistorySighting second = saw_record(b);

	return outranks(history, &first, &second);
}

/* The latest of this merge's records of the key up to its extract's time. */
static HistoryFact *
latest_fresh(HistoryMerge *merge, HistoryTimeline *timeline)
{
	HistoryFact *latest = NULL;

	for (int i = 0; i < timeline->fact_count; i++)
	{
		HistoryFact *fact = timeline->facts[i];
		int			order;

		if (fact->origin != HISTORY_FRESH || fact->at > merge->extract_at)
			continue;
		order = latest ? history_compare_sequence(merge->history, fact,
												  latest) : 1;
		if (order > 0 || (order == 0 && is_greater(merge->history, fact,
												   latest)))
			latest = fact;
	}
	return latest;
}

/* The sighting of this merge's extract, among the others by its time. */
static HistorySighting *
place_sighting(HistoryMerge *merge, HistoryTimeline *timeline)
{
	int			i = timeline->sighting_count;

	while (i > 0 && timeline->sightings[i - 1].at > merge->extract_at)
		i--;
	if (i > 0 && timeline->sightings[i - 1].at == merge->extract_at)
		return &timeline->sightings[i - 1];
	memmove(&timeline->sightings[i + 1], &timeline->sightings[i],
			sizeof(HistorySighting) * (timeline->sighting_count - i));
	memset(&timeline->sightings[i], 0, sizeof(HistorySighting));
	timeline->sightings[i].at = merge->extract_at;
	timeline->sighting_count++;
	return &timeline->sightings[i];
}

/* Has its source ended the record by the time of this merge's extract? */
static bool
has_ended(HistoryMerge *merge, const HistoryFact *fact)
{
	int			c = merge->history->end_column;

	return c >= 0 && !fact->nulls[c] &&
		history_time(&merge->history->columns[c], fact->values[c]) <=
		merge->extract_at;
}

/* Two extracts of one time: the key is seen where one of them saw it. */
static void
see_record(History *history, HistorySighting *sighting,
		   const HistoryFact *fact)
{
	HistorySighting seen = saw_record(fact);

	if (sighting->present && !outranks(history, &seen, sighting))
		return;
	sighting->is_remembered = false;
	sighting->present = true;
	sighting->values = fact->values;
	sighting->nulls = fact->nulls;
	sighting->unknown = fact->unknown;
}

/* Without sequence_by, the record that the extract repeats. */
static void
add_repeated_record(HistoryMerge *merge, HistoryTimeline *timeline,
					const HistoryVersion *version)
{
	HistoryExtract extract = {merge->extract_at, merge->missing};

	add_extract_record(merge->history, timeline, timeline->fact_count,
					   version, &extract);
}

/*
 * What this merge's complete extract saw of the key.  is_seen: one of its
 * records repeated the version valid at its time, if there is one.
 */
static void
add_own_sighting(HistoryMerge *merge, HistoryTimeline *timeline, bool is_seen)
{
	HistoryVersion *version = is_seen ?
	version_at(timeline, merge->extract_at) : NULL;
	HistoryFact *fact = latest_fresh(merge, timeline);
	HistorySighting *sighting;

	if (merge->history->sequence_count == 0)
	{
		if (version)
			add_repeated_record(merge, timeline, version);
		if (version == NULL && fact == NULL)
			(void) place_sighting(merge, timeline);
		return;
	}
	sighting = place_sighting(merge, timeline);
	if (version)
	{
		HistoryFact carried = {.at = version->from,.values = version->values,
		.nulls = version->nulls};
		int			c = merge->history->sequence_columns[0];

		if (!version->nulls[c])
			carried.at = history_time(&merge->history->columns[c],
									  version->values[c]);
		if (fact == NULL ||
			history_compare_sequence(merge->history, fact, &carried) <= 0)
		{
			carried.unknown = bms_union(version->unknown, merge->missing);
			carried.nulls = null_missing(merge->history, version->nulls,
										 merge->missing);
			see_record(merge->history, sighting, &carried);
			return;
		}
	}
	if (fact && !fact->is_delete && !has_ended(merge, fact))
		see_record(merge->history, sighting, fact);
}

static bool
is_extract_time(HistoryMerge *merge, TimestampTz at)
{
	for (int i = 0; i < merge->extract_count; i++)
		if (merge->extracts[i].at == at)
			return true;
	return false;
}

/* Does something known say that the version ends where it does? */
static bool
end_is_explained(HistoryMerge *merge, HistoryTimeline *timeline, int i)
{
	History    *history = merge->history;
	HistoryVersion *version = &timeline->stored[i];
	int			c = history->end_column;

	if (version->to == DT_NOEND ||
		(i + 1 < timeline->stored_count &&
		 timeline->stored[i + 1].from == version->to))
		return true;
	if (c >= 0 && !version->nulls[c] &&
		history_time(&history->columns[c], version->values[c]) == version->to)
		return true;
	for (int j = 0; j < timeline->fact_count; j++)
		if (timeline->facts[j]->is_delete &&
			timeline->facts[j]->at == version->to)
			return true;
	return is_extract_time(merge, version->to);
}

/* Versions that a user ended by hand. */
static void
add_unexplained_ends(HistoryMerge *merge, HistoryTimeline *timeline)
{
	for (int i = 0; i < timeline->stored_count; i++)
	{
		HistoryFact *fact;

		if (timeline->stored[i].is_deleted ||
			end_is_explained(merge, timeline, i))
			continue;
		fact = palloc0(sizeof(HistoryFact));
		fact->origin = HISTORY_FROM_VERSION;
		fact->is_delete = true;
		fact->at = timeline->stored[i].to;
		fact->values = timeline->stored[i].values;
		fact->nulls = timeline->stored[i].nulls;
		history_add_fact(timeline, fact);
	}
}

/* What is stored of the key, each fact said once. */
static void
load_stored(HistoryMerge *merge, const Datum *key, HistoryTimeline *timeline)
{
	if (history_store_is_empty(merge->store))
		return;
	history_load_versions(merge->store, key, timeline);
	history_load_observed(merge->store, key, timeline);
	add_unexplained_ends(merge, timeline);
	for (int i = 0; i < timeline->stored_count; i++)
		if (!timeline->stored[i].is_deleted)
			add_carried_record(merge->history, timeline,
							   &timeline->stored[i]);
	history_order_facts(merge, timeline);
}

/*
 * Merges what is fresh about one key with what is stored.  Everything is
 * allocated in the key's context.
 */
void
history_merge_key(HistoryMerge *merge, const Datum *key, List *fresh,
				  bool is_seen)
{
	HistoryTimeline timeline = {0};
	ListCell   *cell;

	load_stored(merge, key, &timeline);
	add_sightings(merge, &timeline);
	foreach(cell, fresh)
		history_add_fact(&timeline, lfirst(cell));
	if (merge->complete)
		add_own_sighting(merge, &timeline, is_seen);
	history_order_facts(merge, &timeline);
	history_make_versions(merge->history, &timeline);
	history_apply(merge, &timeline);
}

/*-------------------------------------------------------------------------
 *
 * apply.c
 *		The difference between the versions stored and those that should be.
 *
 * A stored version and a new one that begin at the same instant are one; if
 * they are the same in all else, nothing is written.  Every version that
 * changes or goes is copied to __superseded first.  Then, so that the unique
 * indexes hold at every moment: versions that go, are closed, are changed
 * otherwise, are opened again; last the new ones.
 *
 * What was written begins to be believed at the start of the transaction,
 * unless what it replaces was recorded later than that, by a transaction
 * that began after this one and was faster: then right after it.  So what
 * was replaced was believed for a time, whichever came first.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "history/history.h"
#include "utils/timestamp.h"

#define CARRIED_ROLES \
	(HISTORY_ROLE(HISTORY_SEQUENCE) | HISTORY_ROLE(HISTORY_TRACKED) | \
	 HISTORY_ROLE(HISTORY_OVERWRITTEN) | HISTORY_ROLE(HISTORY_END))

/* Is the stored version as it should be? */
static bool
is_same_version(History *history, const HistoryVersion *stored,
				const HistoryVersion *version)
{
	return stored->to == version->to &&
		stored->is_deleted == version->is_deleted &&
		bms_is_subset(stored->unknown, version->unknown) &&
		history_same_columns(history, CARRIED_ROLES |
							 HISTORY_ROLE(HISTORY_FIXED), stored->values,
							 stored->nulls, NULL, version->values,
							 version->nulls, NULL);
}

/* The stored version that begins at the same instant, or NULL. */
static HistoryVersion *
stored_from(HistoryTimeline *timeline, TimestampTz from)
{
	for (int i = timeline->stored_count - 1; i >= 0; i--)
		if (timeline->stored[i].from == from)
			return &timeline->stored[i];
	return NULL;
}

static HistoryVersion *
version_from(HistoryTimeline *timeline, TimestampTz from)
{
	for (int i = timeline->version_count - 1; i >= 0; i--)
		if (timeline->versions[i].from == from)
			return &timeline->versions[i];
	return NULL;
}

/* Marks what stays; true where anything is to be written. */
static bool
compare_versions(History *history, HistoryTimeline *timeline)
{
	int			kept = 0;

	for (int i = 0; i < timeline->version_count; i++)
	{
		HistoryVersion *version = &timeline->versions[i];
		HistoryVersion *stored = stored_from(timeline, version->from);

		if (stored == NULL || !is_same_version(history, stored, version))
			continue;
		stored->is_kept = true;
		version->is_kept = true;
		kept++;
	}
	return kept < timeline->version_count || kept < timeline->stored_count;
}

/* When what is written now begins to be believed. */
static TimestampTz
recording_time(HistoryMerge *merge, HistoryTimeline *timeline)
{
	TimestampTz at = merge->now;

	for (int i = 0; i < timeline->stored_count; i++)
		if (!timeline->stored[i].is_kept &&
			timeline->stored[i].recorded_at > at)
			at = timeline->stored[i].recorded_at + 1;
	return at;
}

typedef enum Step
{
	STEP_CLOSE,
	STEP_CHANGE,
	STEP_REOPEN,
	STEP_COUNT
} Step;

static Step
step_of(const HistoryVersion *stored, const HistoryVersion *version)
{
	if (version->to == DT_NOEND)
		return stored->to == DT_NOEND ? STEP_CHANGE : STEP_REOPEN;
	return stored->to == DT_NOEND ? STEP_CLOSE : STEP_CHANGE;
}

/* Copies aside what is replaced, and deletes what has no successor. */
static void
remove_versions(HistoryMerge *merge, HistoryTimeline *timeline,
				TimestampTz at)
{
	for (int i = 0; i < timeline->stored_count; i++)
	{
		HistoryVersion *stored = &timeline->stored[i];

		if (stored->is_kept)
			continue;
		history_store_supersede(merge->store, stored, at);
		if (version_from(timeline, stored->from) == NULL)
			history_store_delete(merge->store, stored);
	}
}

static void
write_versions(HistoryMerge *merge, HistoryTimeline *timeline)
{
	TimestampTz at = recording_time(merge, timeline);

	remove_versions(merge, timeline, at);
	for (int i = 0; i < timeline->version_count; i++)
	{
		HistoryVersion *version = &timeline->versions[i];

		if (version->is_kept)
			continue;
		version->recorded_at = at;
		version->row_hash = (int64)
			history_hash(merge->history, HISTORY_ROLE(HISTORY_TRACKED),
						 version->values, version->nulls);
	}
	for (Step step = STEP_CLOSE; step < STEP_COUNT; step++)
		for (int i = 0; i < timeline->stored_count; i++)
		{
			HistoryVersion *stored = &timeline->stored[i];
			HistoryVersion *version = stored->is_kept ? NULL :
			version_from(timeline, stored->from);

			if (version && step_of(stored, version) == step)
				history_store_update(merge->store, stored, version);
		}
	for (int i = 0; i < timeline->version_count; i++)
		if (!timeline->versions[i].is_kept &&
			stored_from(timeline, timeline->versions[i].from) == NULL)
			history_store_insert(merge->store, &timeline->versions[i]);
}

/* ---- what must be remembered beside the versions ---- */

/*
 * A row that is written now does not tell a NULL from what its record did not
 * know: such a record must be remembered, even where another version, that is
 * kept as it is, carries it, too.
 */
static void
unmark_rewritten(HistoryTimeline *timeline)
{
	for (int i = 0; i < timeline->version_count; i++)
	{
		HistoryVersion *version = &timeline->versions[i];

		if (!version->is_deleted && !version->is_kept &&
			!bms_is_empty(version->unknown))
			version->fact->is_implied = false;
	}
}

/* Marks the records that versions carry exactly. */
static void
mark_carried(HistoryMerge *merge, HistoryTimeline *timeline)
{
	bool		by_time = merge->history->sequence_count == 0;

	for (int i = 0; i < timeline->version_count; i++)
	{
		HistoryVersion *version = &timeline->versions[i];

		if (version->is_deleted || !version->is_exact ||
			version->fact->parts != NIL ||
			(by_time && version->from != version->fact->at))
			continue;
		if (bms_is_empty(version->unknown) ||
			(version->is_kept &&
			 version->fact->origin == HISTORY_FROM_VERSION))
			version->fact->is_implied = true;
	}
	unmark_rewritten(timeline);
}

/* The columns that the extracts of this time lacked, if there was one. */
static bool
find_extract(HistoryMerge *merge, TimestampTz at, Bitmapset **missing)
{
	bool		found = merge->complete && merge->extract_at == at;

	*missing = found ? merge->missing : NULL;
	for (int i = 0; i < merge->extract_count; i++)
	{
		const HistoryExtract *extract = &merge->extracts[i];

		if (extract->at != at)
			continue;
		*missing = found ? bms_intersect(*missing, extract->missing) :
			extract->missing;
		found = true;
	}
	return found;
}

/* Does a new version begin after one instant and up to another? */
static bool
begins_between(HistoryTimeline *timeline, TimestampTz after, TimestampTz at)
{
	for (int i = 0; i < timeline->version_count; i++)
		if (timeline->versions[i].from > after &&
			timeline->versions[i].from <= at)
			return true;
	return false;
}

/*
 * Without sequence_by, marks the records of extracts that are the same as
 * the record before them in their version.
 */
static void
mark_repeated(HistoryMerge *merge, HistoryTimeline *timeline)
{
	for (int i = 1; i < timeline->fact_count; i++)
	{
		HistoryFact *fact = timeline->facts[i];
		HistoryFact *before = timeline->facts[i - 1];
		Bitmapset  *missing;

		if (fact->is_delete || before->is_delete || fact->is_implied ||
			fact->parts != NIL ||
			!find_extract(merge, fact->at, &missing) ||
			!bms_equal(fact->unknown, bms_union(before->unknown, missing)) ||
			begins_between(timeline, before->at, fact->at))
			continue;
		fact->is_implied = history_same_columns(merge->history,
												CARRIED_ROLES, fact->values,
												fact->nulls, fact->unknown,
												before->values, before->nulls,
												before->unknown);
	}
}

/*
 * Would the version valid at its time say what the extract saw?  A row that
 * is written now does not tell a NULL from what its record did not know.
 */
static bool
is_shown(HistoryMerge *merge, HistoryTimeline *timeline,
		 const HistorySighting *sighting)
{
	Bitmapset  *missing = NULL;

	/* a record of the same instant counts instead, and always will */
	for (int i = 0; i < timeline->fact_count; i++)
		if (timeline->facts[i]->at == sighting->at)
			return true;
	(void) find_extract(merge, sighting->at, &missing);
	for (int i = 0; i < timeline->version_count; i++)
	{
		HistoryVersion *version = &timeline->versions[i];

		if (version->from <= sighting->at && sighting->at < version->to)
			return !version->is_deleted &&
				bms_equal(bms_union(version->is_kept ?
									stored_from(timeline,
												version->from)->unknown :
									NULL, missing),
						  sighting->unknown) &&
				history_same_columns(merge->history,
									 HISTORY_ROLE(HISTORY_TRACKED),
									 version->values, version->nulls,
									 sighting->unknown, sighting->values,
									 sighting->nulls, sighting->unknown);
	}
	return false;
}

/* What an extract saw and the versions do not show. */
static void
remember_sightings(HistoryMerge *merge, HistoryTimeline *timeline)
{
	for (int i = 0; i < timeline->sighting_count; i++)
	{
		HistorySighting *sighting = &timeline->sightings[i];
		HistoryFact fact = {.at = sighting->at,.values = sighting->values,
		.nulls = sighting->nulls,.unknown = sighting->unknown};

		if (sighting->present && !sighting->is_remembered &&
			(sighting->is_in_observed ||
			 !is_shown(merge, timeline, sighting)))
			history_store_observe(merge->store, &fact, "seen");
	}
}

/* Remembers the parts of a fact, as far as that was not done before. */
static void
remember_parts(HistoryMerge *merge, const HistoryFact *fact)
{
	ListCell   *cell;

	foreach(cell, fact->parts)
	{
		HistoryFact *part = lfirst(cell);

		if (!part->is_remembered)
			history_store_observe(merge->store, part, "record");
	}
}

/* What the versions do not show of the records, and all deletes. */
static void
remember_facts(HistoryMerge *merge, HistoryTimeline *timeline)
{
	mark_carried(merge, timeline);
	if (merge->history->sequence_count == 0)
		mark_repeated(merge, timeline);
	for (int i = 0; i < timeline->fact_count; i++)
	{
		HistoryFact *fact = timeline->facts[i];

		if (fact->parts != NIL)
			remember_parts(merge, fact);
		else if (!fact->is_remembered &&
				 (fact->is_delete || fact->is_in_observed || !fact->is_implied))
			history_store_observe(merge->store, fact, fact->is_delete ?
								  "delete" : "record");
	}
	remember_sightings(merge, timeline);
}

/* ---- counting ---- */

/* The latest time of which anything was known before this merge. */
static TimestampTz
newest_known(HistoryMerge *merge, HistoryTimeline *timeline)
{
	TimestampTz newest = DT_NOBEGIN;

	for (int i = 0; i < timeline->stored_count; i++)
	{
		HistoryVersion *version = &timeline->stored[i];

		newest = Max(newest, version->to == DT_NOEND ? version->from :
					 version->to);
	}
	for (int i = 0; i < timeline->fact_count; i++)
		if (timeline->facts[i]->origin != HISTORY_FRESH)
			newest = Max(newest, timeline->facts[i]->at);
	if (timeline->stored_count > 0 && merge->extract_count > 0)
		newest = Max(newest,
					 merge->extracts[merge->extract_count - 1].at);
	return newest;
}

static bool
lies_within_stored(const HistoryTimeline *timeline, TimestampTz at)
{
	for (int i = 0; i < timeline->stored_count; i++)
		if (timeline->stored[i].from < at && at < timeline->stored[i].to)
			return true;
	return false;
}

/* The version of new ones that ends where this one begins, or NULL. */
static const HistoryVersion *
predecessor(const HistoryTimeline *timeline, int i)
{
	if (i == 0 || timeline->versions[i - 1].is_deleted ||
		timeline->versions[i - 1].to != timeline->versions[i].from)
		return NULL;
	return &timeline->versions[i - 1];
}

/* Does the version end without a successor that is there? */
static bool
is_closed(const HistoryTimeline *timeline, int i)
{
	return !timeline->versions[i].is_deleted &&
		timeline->versions[i].to != DT_NOEND &&
		(i + 1 == timeline->version_count ||
		 timeline->versions[i + 1].is_deleted ||
		 timeline->versions[i + 1].from != timeline->versions[i].to);
}

static void
count_versions(HistoryMerge *merge, HistoryTimeline *timeline,
			   TimestampTz newest)
{
	HistoryCounts *counts = &merge->counts;

	for (int i = 0; i < timeline->version_count; i++)
	{
		HistoryVersion *version = &timeline->versions[i];
		bool		is_new = !version->is_kept &&
		stored_from(timeline, version->from) == NULL;
		bool		is_late = version->from <= newest;

		if (version->is_kept)
			continue;
		if (is_new && !version->is_deleted &&
			!(is_late && lies_within_stored(timeline, version->from)))
		{
			if (predecessor(timeline, i) == NULL &&
				(i == 0 ? timeline->stored_count == 0 : !is_late))
				counts->inserted++;
			else
				counts->versioned++;
		}
		if (is_closed(timeline, i) && version->to > newest)
			counts->closed++;
	}
}

/* Stored versions that this merge splits, shortens or replaces late. */
static void
count_corrected(HistoryMerge *merge, HistoryTimeline *timeline,
				TimestampTz newest)
{
	for (int i = 0; i < timeline->stored_count; i++)
	{
		HistoryVersion *stored = &timeline->stored[i];
		HistoryVersion *version = stored->is_kept ? NULL :
		version_from(timeline, stored->from);

		if (stored->is_kept)
			continue;
		if (version == NULL ||
			(version->to != stored->to && version->to <= newest) ||
			(version->to != stored->to && stored->to != DT_NOEND) ||
			version->is_deleted != stored->is_deleted ||
			!history_same_columns(merge->history,
								  HISTORY_ROLE(HISTORY_TRACKED),
								  stored->values, stored->nulls,
								  stored->unknown, version->values,
								  version->nulls, version->unknown))
			merge->counts.corrected++;
	}
}

/* Does a version begin or end here that did not before, or another one? */
static bool
is_turning_point(History *history, HistoryTimeline *timeline, TimestampTz at)
{
	for (int i = 0; i < timeline->version_count; i++)
	{
		HistoryVersion *version = &timeline->versions[i];
		HistoryVersion *stored;

		if (version->is_kept || (version->from != at && version->to != at))
			continue;
		stored = stored_from(timeline, version->from);
		if (stored == NULL || version->to == at ||
			version->is_deleted != stored->is_deleted ||
			!history_same_columns(history, HISTORY_ROLE(HISTORY_TRACKED),
								  stored->values, stored->nulls,
								  stored->unknown, version->values,
								  version->nulls, version->unknown))
			return true;
	}
	return false;
}

static void
count_records(HistoryMerge *merge, HistoryTimeline *timeline)
{
	for (int i = 0; i < timeline->fact_count; i++)
		if (timeline->facts[i]->is_counted &&
			!is_turning_point(merge->history, timeline,
							  timeline->facts[i]->at))
			merge->counts.unchanged++;
}

/* Writes what differs, remembers what is new, and counts. */
void
history_apply(HistoryMerge *merge, HistoryTimeline *timeline)
{
	if (compare_versions(merge->history, timeline))
	{
		TimestampTz newest = newest_known(merge, timeline);

		count_versions(merge, timeline, newest);
		count_corrected(merge, timeline, newest);
		write_versions(merge, timeline);
	}
	count_records(merge, timeline);
	remember_facts(merge, timeline);
}

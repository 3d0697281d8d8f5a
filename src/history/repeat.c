/*-------------------------------------------------------------------------
 *
 * repeat.c
 *		Does a record say nothing that a version does not say already?
 *
 * A record repeats a version that has the same columns and sequence: every
 * version carries one record, so nothing new is said.  Without sequence_by
 * it is a record of the extract's own time; it adds nothing where it belongs
 * to a complete extract, which is remembered as one row, and where no type-1
 * column can have been overwritten after it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "history/history.h"

/* Does the source have a column of these? */
static bool
provides_any(const History *history, const Bitmapset *columns)
{
	for (int c = -1; (c = bms_next_member(columns, c)) >= 0;)
		if (history->columns[c].source >= 0)
			return true;
	return false;
}

/*
 * Without sequence_by: is the record before this one, in its version, known
 * to have the version's columns?  Where a column was overwritten, or filled
 * in, only if it is the last extract's, and that lacked nothing.  That extract
 * did see the key if the version was there before: one that begins at its
 * instant may be another merge's.
 */
static bool
follows_its_like(const HistoryMerge *merge, TimestampTz from, TimestampTz at)
{
	const HistoryExtract *last = merge->extract_count == 0 ? NULL :
	&merge->extracts[merge->extract_count - 1];

	if (!merge->has_drifted)
		return !merge->history->has_overwritten || at > merge->newest;
	return at > merge->newest && last && last->at == merge->newest &&
		from < last->at &&
		!provides_any(merge->history, last->missing);
}

/*
 * Would a record say nothing new if it had the same columns, of these roles,
 * as a version that begins then?
 */
bool
history_may_repeat(const HistoryMerge *merge, const HistoryRecord *record,
				   TimestampTz from, int *roles)
{
	const History *history = merge->history;

	*roles = HISTORY_ROLE(HISTORY_TRACKED) |
		HISTORY_ROLE(HISTORY_OVERWRITTEN) | HISTORY_ROLE(HISTORY_END);
	if (record->is_delete)
		return false;
	if (history->sequence_count > 0)
	{
		*roles |= HISTORY_ROLE(HISTORY_SEQUENCE) |
			HISTORY_ROLE(HISTORY_FIXED);
		return !provides_any(history, merge->lacked);
	}
	if (merge->complete && from < record->at)
		return follows_its_like(merge, from, record->at);
	*roles |= HISTORY_ROLE(HISTORY_FIXED);
	return from == record->at && !history->has_overwritten &&
		!merge->has_drifted;
}

/* Does a record of the version's key repeat it? */
bool
history_repeats(HistoryMerge *merge, const HistoryRecord *record,
				const HistoryRow *row)
{
	int			roles;

	return !row->is_unsure &&
		history_may_repeat(merge, record, row->from, &roles) &&
		history_same_columns(merge->history, roles, record->values,
							 record->nulls, merge->missing, row->values,
							 row->nulls, NULL);
}

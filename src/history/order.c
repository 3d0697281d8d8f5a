/*-------------------------------------------------------------------------
 *
 * order.c
 *		The facts of a key put in order, each said once.
 *
 * Records of the same whole sequence are one fact, said several times: by a
 * record sent again, by a row of __observed, by the version that carries its
 * columns.  Where they know different columns, they are put together.  Where
 * they contradict each other, the one with the greater hash wins, whatever
 * came first, and the other goes to quarantine.  A delete comes after the
 * records of its sequence.
 *
 * A row of __observed is exact, while a version may have been overwritten
 * since it was opened; so where there is one, the version does not count.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "history/history.h"

#define COMPARED_ROLES \
	(HISTORY_ROLE(HISTORY_TRACKED) | HISTORY_ROLE(HISTORY_OVERWRITTEN) | \
	 HISTORY_ROLE(HISTORY_END))

/* By sequence; zero: the same fact, if they do not contradict each other. */
static int
compare_places(History *history, const HistoryFact *a, const HistoryFact *b)
{
	int			order = history_compare_sequence(history, a, b);

	return order != 0 ? order : (int) a->is_delete - (int) b->is_delete;
}

/* By sequence; what was stored before what is fresh. */
static int
compare_facts(const void *a, const void *b, void *history)
{
	const HistoryFact *first = *(HistoryFact *const *) a;
	const HistoryFact *second = *(HistoryFact *const *) b;
	int			order = compare_places(history, first, second);

	return order != 0 ? order : (int) second->origin - (int) first->origin;
}

static int
compare_hash(History *history, int roles, const HistoryFact *a,
			 const HistoryFact *b)
{
	int64		first = history_hash(history, roles, a->values, a->nulls);
	int64		second = history_hash(history, roles, b->values, b->nulls);

	return first < second ? -1 : first > second;
}

/* Which of two contradicting facts wins: above 0 the first. */
static int
compare_rank(History *history, const HistoryFact *a, const HistoryFact *b)
{
	int			order = compare_hash(history, HISTORY_ROLE(HISTORY_TRACKED),
									 a, b);

	return order != 0 ? order : compare_hash(history, COMPARED_ROLES, a, b);
}

/* The columns of these roles that one knows and the other does not. */
static Bitmapset *
more_known(History *history, int roles, const HistoryFact *fact,
		   const HistoryFact *other)
{
	Bitmapset  *more = bms_difference(fact->unknown, other->unknown);

	for (int i = 0; i < history->column_count; i++)
		if ((HISTORY_ROLE(history->columns[i].role) & roles) == 0)
			more = bms_del_member(more, i);
	return more;
}

/* A fact, with what the other one knows of columns of these roles. */
static HistoryFact *
put_together(History *history, int roles, HistoryFact *fact,
			 HistoryFact *other)
{
	Bitmapset  *more = more_known(history, roles, fact, other);
	HistoryFact *both;

	if (bms_is_empty(more))
		return fact;
	both = palloc(sizeof(HistoryFact));
	*both = *fact;
	both->values = palloc(sizeof(Datum) * history->column_count);
	both->nulls = palloc(sizeof(bool) * history->column_count);
	for (int i = 0; i < history->column_count; i++)
	{
		HistoryFact *knows = bms_is_member(i, more) ? other : fact;

		both->values[i] = knows->values[i];
		both->nulls[i] = knows->nulls[i];
	}
	both->unknown = bms_difference(fact->unknown, more);
	both->origin = Min(fact->origin, other->origin);
	both->is_remembered = fact->origin == HISTORY_FROM_OBSERVED &&
		other->origin == HISTORY_FROM_OBSERVED;
	both->is_counted = fact->is_counted || other->is_counted;
	return both;
}

static void
reject_loser(HistoryMerge *merge, const HistoryFact *loser,
			 const HistoryFact *winner)
{
	if (loser->origin == HISTORY_FRESH || winner->origin == HISTORY_FRESH)
		history_reject(merge, loser->values, loser->nulls,
					   merge->history->sequence_count > 0 ?
					   "differs from another record of the same key and "
					   "sequence" :
					   "differs from another record of the same key and "
					   "time");
}

/* Two facts of the same whole sequence: what they say together. */
static HistoryFact *
fold(HistoryMerge *merge, HistoryFact *fact, HistoryFact *other,
	 bool is_first)
{
	History    *history = merge->history;
	HistoryFact *winner = fact;
	HistoryFact *loser;
	bool		is_counted;
	int			fixed = 0;
	bool		is_same = fact->is_delete ||
	history_same_columns(history, COMPARED_ROLES, fact->values,
						 fact->nulls, fact->unknown, other->values,
						 other->nulls, other->unknown);

	if (is_same && is_first && !fact->is_delete &&
		!history_same_columns(history, HISTORY_ROLE(HISTORY_FIXED),
							  fact->values, fact->nulls, fact->unknown,
							  other->values, other->nulls, other->unknown))
		fixed = compare_hash(history, HISTORY_ROLE(HISTORY_FIXED), fact,
							 other);
	if (is_same && fixed == 0)
	{
		if (other->is_counted)
			merge->counts.unchanged++;
		other->is_counted = false;
		return fact->is_delete ? fact :
			put_together(history, ~0, fact, other);
	}
	if (is_same ? fixed < 0 : compare_rank(history, fact, other) < 0)
		winner = other;
	loser = winner == fact ? other : fact;
	reject_loser(merge, loser, winner);
	/* type-0 columns do not contradict each other */
	is_counted = winner->is_counted;
	winner = put_together(history, HISTORY_ROLE(HISTORY_FIXED), winner, loser);
	winner->is_counted = is_counted;
	winner->is_in_observed = fact->is_in_observed || other->is_in_observed;
	return winner;
}

/* Does a row of __observed say anything of this sequence? */
static bool
is_observed(HistoryFact **facts, int count)
{
	for (int i = 0; i < count; i++)
		if (facts[i]->origin == HISTORY_FROM_OBSERVED)
			return true;
	return false;
}

/* One fact of those of the same whole sequence. */
static HistoryFact *
fold_group(HistoryMerge *merge, HistoryFact **facts, int count, bool is_first)
{
	bool		observed = is_observed(facts, count);
	HistoryFact *fact = NULL;

	for (int i = 0; i < count; i++)
	{
		if (observed && facts[i]->origin > HISTORY_FROM_OBSERVED)
			continue;
		fact = fact ? fold(merge, fact, facts[i], is_first) : facts[i];
	}
	return fact;
}

/* Sorts the facts and leaves one of each sequence. */
void
history_order_facts(HistoryMerge *merge, HistoryTimeline *timeline)
{
	HistoryFact **facts = timeline->facts;
	int			kept = 0;
	bool		has_record = false;

	if (timeline->fact_count > 1)
		qsort_arg(facts, timeline->fact_count, sizeof(HistoryFact *),
				  compare_facts, merge->history);
	for (int begin = 0, end; begin < timeline->fact_count; begin = end)
	{
		for (end = begin + 1; end < timeline->fact_count; end++)
			if (compare_places(merge->history, facts[begin],
							   facts[end]) != 0)
				break;
		facts[kept] = fold_group(merge, facts + begin, end - begin,
								 !has_record);
		has_record |= !facts[kept]->is_delete;
		kept++;
	}
	timeline->fact_count = kept;
	for (int i = 0; i < kept; i++)
		facts[i]->is_effective = i == kept - 1 ||
			facts[i]->at < facts[i + 1]->at;
}

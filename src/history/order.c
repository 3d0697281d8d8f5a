/*-------------------------------------------------------------------------
 *
 * order.c
 *		The facts of a key put in order, each said once.
 *
 * Records of the same whole sequence are one fact, said several times: by a
 * record sent again, by a row of __observed, by the version that carries its
 * columns.  What they say together must depend on nothing but which records
 * there are, and must follow from what is kept of them:
 *
 *	- of records that know the same columns and contradict each other, the
 *	  one with the greater hash counts, and the other goes to quarantine;
 *	- a record that knows more columns counts, and one that knows only some
 *	  of them adds nothing;
 *	- what is left are parts of which none knows all that another does.  They
 *	  are put together, the one that knows the most first, then by hash; one
 *	  that contradicts those before it goes to quarantine, but is remembered
 *	  like them, since they may be beaten later;
 *	- of a type-0 column the value with the greater hash counts, for such
 *	  columns do not contradict each other.
 *
 * A delete comes after the records of its sequence.
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

/* By the order of the types: for those that have one but no hash. */
static int
compare_values(History *history, const HistoryFact *a, const HistoryFact *b)
{
	int			order = 0;

	for (int i = 0; i < history->column_count && order == 0; i++)
	{
		HistoryColumn *column = &history->columns[i];

		if ((HISTORY_ROLE(column->role) & COMPARED_ROLES) && !column->has_hash &&
			column->has_order && !a->nulls[i] && !b->nulls[i])
			order = DatumGetInt32(FunctionCall2Coll(&column->order,
													column->collation,
													a->values[i],
													b->values[i]));
	}
	return order;
}

/* Which of two contradicting facts wins: above 0 the first. */
static int
compare_rank(History *history, const HistoryFact *a, const HistoryFact *b)
{
	int			order = compare_hash(history, HISTORY_ROLE(HISTORY_TRACKED),
									 a, b);

	if (order == 0)
		order = compare_hash(history, COMPARED_ROLES, a, b);
	return order != 0 ? order : compare_values(history, a, b);
}

/* The columns that are compared and that the fact does not know. */
static Bitmapset *
compared_unknown(History *history, const HistoryFact *fact)
{
	Bitmapset  *unknown = bms_copy(fact->unknown);

	for (int i = -1; (i = bms_next_member(fact->unknown, i)) >= 0;)
		if ((HISTORY_ROLE(history->columns[i].role) & COMPARED_ROLES) == 0)
			unknown = bms_del_member(unknown, i);
	return unknown;
}

static bool
agree(History *history, int roles, const HistoryFact *a,
	  const HistoryFact *b)
{
	return history_same_columns(history, roles, a->values, a->nulls,
								a->unknown, b->values, b->nulls, b->unknown);
}

/* A copy whose columns may be changed. */
static HistoryFact *
copy_fact(const History *history, const HistoryFact *fact)
{
	HistoryFact *copy = palloc(sizeof(HistoryFact));
	Size		size = sizeof(Datum) * history->column_count;

	*copy = *fact;
	copy->values = palloc(size);
	copy->nulls = palloc(sizeof(bool) * history->column_count);
	memcpy(copy->values, fact->values, size);
	memcpy(copy->nulls, fact->nulls, sizeof(bool) * history->column_count);
	copy->unknown = bms_copy(fact->unknown);
	return copy;
}

/* Tells the fact a column that the other one knows. */
static void
learn(HistoryFact *fact, const HistoryFact *other, int column)
{
	fact->values[column] = other->values[column];
	fact->nulls[column] = other->nulls[column];
	fact->unknown = bms_del_member(fact->unknown, column);
}

/* Does the other fact know a value of a type-0 column that counts more? */
static bool
knows_better(History *history, const HistoryFact *fact,
			 const HistoryFact *other, int column)
{
	HistoryColumn *c = &history->columns[column];

	if (c->role != HISTORY_FIXED || bms_is_member(column, other->unknown))
		return false;
	return bms_is_member(column, fact->unknown) ||
		history_value_hash(c, other->values[column], other->nulls[column]) >
		history_value_hash(c, fact->values[column], fact->nulls[column]);
}

/* The fact, with the type-0 columns of the other where these count. */
static HistoryFact *
with_fixed(History *history, HistoryFact *fact, const HistoryFact *other)
{
	HistoryFact *both = fact;

	for (int i = 0; history->has_fixed && i < history->column_count; i++)
	{
		if (!knows_better(history, both, other, i))
			continue;
		if (both == fact)
			both = copy_fact(history, fact);
		learn(both, other, i);
	}
	if (both != fact)
	{
		both->origin = Min(fact->origin, other->origin);
		both->is_remembered = fact->is_remembered && other->is_remembered;
	}
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

/* Of two facts, one of which adds nothing, the one that counts. */
static HistoryFact *
keep_one(HistoryMerge *merge, HistoryFact *kept, HistoryFact *other,
		 bool is_first)
{
	History    *history = merge->history;
	HistoryFact *result = with_fixed(history, kept, other);
	HistoryFact *loser = NULL;

	if (!agree(history, COMPARED_ROLES, kept, other))
		loser = other;
	else if (is_first &&
			 !agree(history, HISTORY_ROLE(HISTORY_FIXED), kept, other))
		loser = result == kept ? other : kept;
	if (loser)
	{
		HistoryFact *winner = loser == other ? kept : other;

		reject_loser(merge, loser, winner);
		result->is_counted = winner->is_counted;
	}
	else if (other->is_counted)
		merge->counts.unchanged++;
	result->is_in_observed = kept->is_in_observed || other->is_in_observed;
	return result;
}

/* Adds a fact to the parts, of which none knows all that another does. */
static List *
add_part(HistoryMerge *merge, List *parts, HistoryFact *fact, bool is_first)
{
	History    *history = merge->history;
	Bitmapset  *unknown = compared_unknown(history, fact);
	List	   *result = NIL;
	ListCell   *cell;

	foreach(cell, parts)
	{
		HistoryFact *part = lfirst(cell);
		Bitmapset  *part_unknown = compared_unknown(history, part);
		bool		is_enough = bms_is_subset(part_unknown, unknown);

		if (is_enough && bms_equal(part_unknown, unknown) &&
			!agree(history, COMPARED_ROLES, part, fact))
			is_enough = compare_rank(history, part, fact) >= 0;
		if (is_enough)
		{
			/* then no part before it was left out */
			lfirst(cell) = keep_one(merge, part, fact, is_first);
			return parts;
		}
		if (bms_is_subset(unknown, part_unknown))
			fact = keep_one(merge, fact, part, is_first);
		else
			result = lappend(result, part);
	}
	return lappend(result, fact);
}

/* By how much they know, then by rank: the first part counts the most. */
static int
compare_parts(const ListCell *a, const ListCell *b)
{
	const HistoryFact *first = lfirst(a);
	const HistoryFact *second = lfirst(b);

	if (first->known != second->known)
		return first->known > second->known ? -1 : 1;
	if (first->rank != second->rank)
		return first->rank > second->rank ? -1 : 1;
	if (first->second_rank != second->second_rank)
		return first->second_rank > second->second_rank ? -1 : 1;
	return 0;
}

static void
rank_part(History *history, HistoryFact *part)
{
	part->known = -bms_num_members(compared_unknown(history, part));
	part->rank = (int64) history_hash(history, HISTORY_ROLE(HISTORY_TRACKED),
									  part->values, part->nulls);
	part->second_rank = (int64) history_hash(history, COMPARED_ROLES,
											 part->values, part->nulls);
}

/* What the parts say together. */
static HistoryFact *
put_together(HistoryMerge *merge, List *parts)
{
	History    *history = merge->history;
	HistoryFact *both;
	ListCell   *cell;

	if (list_length(parts) == 1)
		return linitial(parts);
	foreach(cell, parts)
		rank_part(history, lfirst(cell));
	list_sort(parts, compare_parts);
	both = copy_fact(history, linitial(parts));
	for_each_from(cell, parts, 1)
	{
		HistoryFact *part = lfirst(cell);
		bool		agrees = agree(history, COMPARED_ROLES, both, part);

		for (int i = 0; agrees && i < history->column_count; i++)
			if (bms_is_member(i, both->unknown) &&
				!bms_is_member(i, part->unknown))
				learn(both, part, i);
		both = with_fixed(history, both, part);
		if (!agrees)
			reject_loser(merge, part, both);
		else if (both->is_counted && part->is_counted)
			merge->counts.unchanged++;
		both->is_counted |= agrees && part->is_counted;
		both->origin = Min(both->origin, part->origin);
	}
	both->parts = parts;
	both->is_remembered = false;
	return both;
}

/*
 * The facts of a group, those that were put together taken apart; and
 * without versions, if a row of __observed says anything of the sequence.
 */
static List *
take_apart(HistoryFact **facts, int count)
{
	List	   *all = NIL;
	bool		observed = false;

	for (int i = 0; i < count; i++)
	{
		all = facts[i]->parts ? list_concat(all, facts[i]->parts) :
			lappend(all, facts[i]);
		observed |= facts[i]->origin == HISTORY_FROM_OBSERVED;
	}
	for (int i = list_length(all) - 1; observed && i >= 0; i--)
		if (((HistoryFact *) list_nth(all, i))->origin >
			HISTORY_FROM_OBSERVED)
			all = list_delete_nth_cell(all, i);
	return all;
}

/* One fact of those of the same whole sequence. */
static HistoryFact *
fold_group(HistoryMerge *merge, HistoryFact **facts, int count, bool is_first)
{
	List	   *all;
	List	   *parts = NIL;
	ListCell   *cell;

	if (count == 1)
		return facts[0];
	all = take_apart(facts, count);
	foreach(cell, all)
	{
		HistoryFact *fact = lfirst(cell);

		if (!fact->is_delete)
			parts = add_part(merge, parts, fact, is_first);
		else if (fact->is_counted && foreach_current_index(cell) > 0)
			merge->counts.unchanged++;
	}
	return parts ? put_together(merge, parts) : linitial(all);
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

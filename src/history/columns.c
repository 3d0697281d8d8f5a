/*-------------------------------------------------------------------------
 *
 * columns.c
 *		A history as declared, and opened: its columns and what each means.
 *
 * The columns that came from the source are found by name in each of the
 * tables, whatever their places there, and have one index everywhere in
 * this room: that into History.columns, which follows the target.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "core/core.h"
#include "history/history.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

/* The choice among words that the declaration made; NULL is the first. */
static int
choice(Jsonb *definition, const char *argument, const char *const *words,
	   int count)
{
	char	   *value = core_json_text(definition, argument);
	StringInfoData known;

	if (value == NULL)
		return 0;
	initStringInfo(&known);
	for (int i = 0; i < count; i++)
	{
		if (strcmp(value, words[i]) == 0)
			return i;
		appendStringInfo(&known, "%s%s", i ? ", " : "", words[i]);
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for \"%s\": \"%s\"", argument, value),
			 errhint("Known are %s.", known.data)));
}

/* A history as declared, without its columns. */
History *
history_describe(const char *name, Jsonb *definition)
{
	static const char *const deletes[] = {"ignore", "invalidate", "new_record"};
	static const char *const contracts[] = {
		"evolve", "freeze", "discard_row", "discard_value"
	};
	History    *history = palloc0(sizeof(History));

	history->name = pstrdup(name);
	history->table = core_dataset_table(name, CORE_LAYER_HISTORY);
	history->target = core_qualified(CORE_LAYER_HISTORY, history->table);
	history->superseded = core_qualified(CORE_LAYER_HISTORY,
										 psprintf("%s__superseded",
												  history->table));
	history->observed = core_qualified(CORE_LAYER_HISTORY,
									   psprintf("%s__observed",
												history->table));
	history->definition = definition;
	history->keys = core_json_text_array(definition, "unique_key",
										 &history->key_count);
	history->sequence = core_json_text_array(definition, "sequence_by",
											 &history->sequence_count);
	history->tracked = core_json_text_array(definition,
											"track_history_columns",
											&history->tracked_count);
	history->tracks_all = history->tracked == NULL;
	history->fixed = core_json_text_array(definition, "fixed_columns",
										  &history->fixed_count);
	history->end = core_json_text(definition, "valid_to_column");
	history->delete_when = core_json_text(definition, "delete_when");
	history->deletes = choice(definition, "hard_deletes", deletes,
							  lengthof(deletes));
	history->contract = unconstify(char *,
								   contracts[choice(definition,
													"schema_contract",
													contracts,
													lengthof(contracts))]);
	return history;
}

/* The declared history whose table this is. */
History *
history_find(Oid target)
{
	CoreIdentity caller;
	CoreArgs	args = {0};
	char	   *name;

	core_arg(&args, OIDOID, ObjectIdGetDatum(target), false);
	core_become_owner(&caller);
	name = core_query_text("SELECT d.dataset FROM visage.datasets AS d"
						   " JOIN visage.declarations AS n"
						   " ON n.noun = 'history' AND n.name = d.dataset"
						   " WHERE d.relation = $1", &args,
						   CurrentMemoryContext);
	core_become_caller(&caller);
	if (name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a history", get_rel_name(target)),
				 errhint("Declare it with visage_create_history.")));
	return history_describe(name,
							core_find_declaration("history", name, false));
}

static bool
is_among(const char *name, char **names, int count)
{
	for (int i = 0; i < count; i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

/*
 * The role of a column.  With no list of tracked columns all are but the
 * key, the sequence, the fixed ones, the end and what delete_when looks at.
 */
HistoryRole
history_role(const History *history, const char *name)
{
	if (is_among(name, history->keys, history->key_count))
		return HISTORY_KEY;
	if (is_among(name, history->sequence, history->sequence_count))
		return HISTORY_SEQUENCE;
	if (history->end && strcmp(name, history->end) == 0)
		return HISTORY_END;
	if (is_among(name, history->fixed, history->fixed_count))
		return HISTORY_FIXED;
	if (!history->tracks_all)
		return is_among(name, history->tracked, history->tracked_count) ?
			HISTORY_TRACKED : HISTORY_OVERWRITTEN;
	return is_among(name, history->delete_columns,
					history->delete_column_count) ?
		HISTORY_OVERWRITTEN : HISTORY_TRACKED;
}

/* "alias.a, alias.b", quoted. */
char *
history_name_list(char **names, int count, const char *alias)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < count; i++)
		appendStringInfo(&list, "%s%s%s%s", i ? ", " : "", alias,
						 alias[0] ? "." : "", quote_identifier(names[i]));
	return list.data;
}

/* "schema.=" as OPERATOR() wants it. */
static char *
operator_name(Oid operator)
{
	HeapTuple	tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(operator));
	Form_pg_operator form;
	char	   *name;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for operator %u", operator);
	form = (Form_pg_operator) GETSTRUCT(tuple);
	name = psprintf("%s.%s",
					quote_identifier(get_namespace_name(form->oprnamespace)),
					NameStr(form->oprname));
	ReleaseSysCache(tuple);
	return name;
}

/* "left.k = right.k AND …" by the equality of each key's type. */
char *
history_key_match(const History *history, Oid relation, const char *left,
				  const char *right)
{
	StringInfoData match;

	initStringInfo(&match);
	for (int i = 0; i < history->key_count; i++)
	{
		AttrNumber	place = get_attnum(relation, history->keys[i]);
		Oid			type = get_atttype(relation, place);
		TypeCacheEntry *entry = lookup_type_cache(type, TYPECACHE_EQ_OPR);
		const char *name = quote_identifier(history->keys[i]);

		appendStringInfo(&match, "%s%s.%s OPERATOR(%s) %s.%s",
						 i ? " AND " : "", left, name,
						 operator_name(entry->eq_opr), right, name);
	}
	return match.data;
}

/* The index of a column of the history, or -1. */
int
history_find_column(const History *history, const char *name)
{
	for (int i = 0; i < history->column_count; i++)
		if (strcmp(history->columns[i].name, name) == 0)
			return i;
	return -1;
}

/* The place of a column in a table; ERROR where somebody dropped it. */
static AttrNumber
place(Relation relation, const char *name)
{
	TupleDesc	desc = RelationGetDescr(relation);

	for (int i = 0; i < desc->natts; i++)
		if (!TupleDescAttr(desc, i)->attisdropped &&
			strcmp(NameStr(TupleDescAttr(desc, i)->attname), name) == 0)
			return i + 1;
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("table \"%s\" has lost its column \"%s\"",
					RelationGetRelationName(relation), name)));
}

static void
find_places(HistoryPlaces *places, Relation relation)
{
	places->valid_from = place(relation, "valid_from");
	places->valid_to = place(relation, "valid_to");
	places->is_deleted = place(relation, "is_deleted");
	places->recorded_at = place(relation, "recorded_at");
	places->row_hash = place(relation, "row_hash");
}

static bool
is_own(const char *name)
{
	return strcmp(name, "valid_from") == 0 || strcmp(name, "valid_to") == 0 ||
		strcmp(name, "is_deleted") == 0 ||
		strcmp(name, "recorded_at") == 0 || strcmp(name, "row_hash") == 0;
}

/* One column of the target that came from the source. */
static void
open_column(History *history, Form_pg_attribute attribute)
{
	HistoryColumn *column = &history->columns[history->column_count++];

	memset(column, 0, sizeof(*column));
	column->name = pstrdup(NameStr(attribute->attname));
	column->quoted = pstrdup(quote_identifier(column->name));
	column->type = format_type_with_typemod(attribute->atttypid,
											attribute->atttypmod);
	column->type_oid = attribute->atttypid;
	column->typmod = attribute->atttypmod;
	column->collation = attribute->attcollation;
	column->role = history_role(history, column->name);
	column->target = attribute->attnum;
	column->superseded = place(history->superseded_relation, column->name);
	column->observed = place(history->observed_relation, column->name);
	column->source = -1;
	column->added_at = DT_NOBEGIN;
	history_prepare_column(column);
	history->has_overwritten |= column->role == HISTORY_OVERWRITTEN;
	history->has_fixed |= column->role == HISTORY_FIXED;
}

static int *
column_indexes(History *history, char **names, int count)
{
	int		   *indexes = palloc(sizeof(int) * Max(count, 1));

	for (int i = 0; i < count; i++)
	{
		indexes[i] = history_find_column(history, names[i]);
		if (indexes[i] < 0)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("table \"%s\" has lost its column \"%s\"",
							RelationGetRelationName(history->relation),
							names[i])));
	}
	return indexes;
}

/* Opens the tables, whose locks are held, and reads their columns. */
void
history_open(History *history)
{
	TupleDesc	desc;

	history->relation =
		table_open(core_table_oid(CORE_LAYER_HISTORY, history->table), NoLock);
	history->superseded_relation =
		table_open(core_table_oid(CORE_LAYER_HISTORY,
								  psprintf("%s__superseded", history->table)),
				   RowExclusiveLock);
	history->observed_relation =
		table_open(core_table_oid(CORE_LAYER_HISTORY,
								  psprintf("%s__observed", history->table)),
				   RowExclusiveLock);
	desc = RelationGetDescr(history->relation);
	history->columns = palloc(sizeof(HistoryColumn) * desc->natts);
	history->column_count = 0;
	for (int i = 0; i < desc->natts; i++)
		if (!TupleDescAttr(desc, i)->attisdropped &&
			!is_own(NameStr(TupleDescAttr(desc, i)->attname)))
			open_column(history, TupleDescAttr(desc, i));

	find_places(&history->places, history->relation);
	find_places(&history->superseded_places, history->superseded_relation);
	history->superseded_places.superseded_at =
		place(history->superseded_relation, "superseded_at");
	history->observed_places.observed_at = place(history->observed_relation,
												 "observed_at");
	history->observed_places.observation = place(history->observed_relation,
												 "observation");
	history->observed_places.missing = place(history->observed_relation,
											 "missing");
	history->observed_places.recorded_at = place(history->observed_relation,
												 "recorded_at");
	history->key_columns = column_indexes(history, history->keys,
										  history->key_count);
	history->sequence_columns = column_indexes(history, history->sequence,
											   history->sequence_count);
	history->end_column = history->end ?
		*column_indexes(history, &history->end, 1) : -1;
}

/* Closes the tables; their locks are kept to the end of the transaction. */
void
history_close(History *history)
{
	table_close(history->relation, NoLock);
	table_close(history->superseded_relation, NoLock);
	table_close(history->observed_relation, NoLock);
}

/* A date, timestamp or timestamptz as an instant; the first two as UTC. */
TimestampTz
history_time(const HistoryColumn *column, Datum value)
{
	DateADT		date;

	if (column->type_oid != DATEOID)
		return DatumGetTimestampTz(value);
	date = DatumGetDateADT(value);
	if (DATE_IS_NOBEGIN(date))
		return DT_NOBEGIN;
	if (DATE_IS_NOEND(date))
		return DT_NOEND;
	if (date >= TIMESTAMP_END_JULIAN - POSTGRES_EPOCH_JDATE)
		return DT_NOEND;
	return date * USECS_PER_DAY;
}

/* Since when there have been as many columns as now. */
TimestampTz
history_newest_column(const History *history)
{
	TimestampTz newest = DT_NOBEGIN;

	for (int c = 0; c < history->column_count; c++)
		newest = Max(newest, history->columns[c].added_at);
	return newest;
}

/*-------------------------------------------------------------------------
 *
 * tables.c
 *		The tables of a history, and what reads them.
 *
 *	history.x				what is believed now, open and closed versions
 *	history.x__superseded	what a merge replaced, with the time it did
 *	history.x__observed		what was said and no version shows
 *	history.x__as_of(…)		the versions valid at one time, also as known at another
 *	history.x__current		the open versions without the time columns
 *
 * Two unique indexes let the store itself refuse two versions of a key that
 * begin together, and two open ones; triggers refuse what overlaps
 * (guard.c).  Closing a version makes one entry in the first of them and
 * none in the other.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "history/history.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/typcache.h"

#define TIME_COLUMNS \
	"valid_from timestamptz NOT NULL," \
	" valid_to timestamptz NOT NULL DEFAULT 'infinity'," \
	" is_deleted boolean NOT NULL DEFAULT false," \
	" recorded_at timestamptz NOT NULL DEFAULT now()," \
	" row_hash bigint NOT NULL DEFAULT 0"

/* A name that may not also be a column of the source. */
static void
check_reserved(const History *history, const HistorySource *source)
{
	static const char *const reserved[] = {
		"valid_from", "valid_to", "is_deleted", "recorded_at", "row_hash",
		"superseded_at", "observed_at", "observation", "missing"
	};

	for (int i = 0; i < source->column_count; i++)
		for (int j = 0; j < lengthof(reserved); j++)
			if (strcmp(source->columns[i].name, reserved[j]) == 0)
				ereport(ERROR,
						(errcode(ERRCODE_DUPLICATE_COLUMN),
						 errmsg("column \"%s\" of the source of \"%s\" has "
								"a name that the history uses itself",
								reserved[j], history->name),
						 errhint("Rename it in a query that is the "
								 "source.")));
}

static const HistorySourceColumn *
find_source_column(const History *history, const HistorySource *source,
				   const char *name, const char *argument)
{
	char	  **known = palloc(sizeof(char *) * Max(source->column_count, 1));
	char	   *nearest;

	for (int i = 0; i < source->column_count; i++)
	{
		known[i] = source->columns[i].name;
		if (strcmp(known[i], name) == 0)
			return &source->columns[i];
	}
	nearest = core_nearest(name, known, source->column_count);
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("column %s of %s for \"%s\" does not exist in the "
					"source", quote_identifier(name), argument,
					history->name),
			 nearest ? errhint("Perhaps you meant %s.",
							   quote_identifier(nearest)) : 0));
}

/* A column that says when something was. */
static void
check_time(const History *history, const HistorySourceColumn *column,
		   const char *what)
{
	if (column->type_oid != DATEOID && column->type_oid != TIMESTAMPOID &&
		column->type_oid != TIMESTAMPTZOID)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("%s column %s of \"%s\" cannot give the time of a "
						"version", what, quote_identifier(column->name),
						history->name),
				 errdetail("It has type %s.", column->type),
				 errhint("It must be a date, timestamp or timestamptz.")));
}

/* A key is found by its hash, and kept unique by its order. */
static void
check_key(const History *history, const HistorySourceColumn *column)
{
	TypeCacheEntry *type = lookup_type_cache(column->type_oid,
											 TYPECACHE_BTREE_OPFAMILY |
											 TYPECACHE_HASH_EXTENDED_PROC |
											 TYPECACHE_EQ_OPR);

	if (OidIsValid(type->eq_opr) && OidIsValid(type->btree_opf) &&
		OidIsValid(type->hash_extended_proc))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_DATATYPE_MISMATCH),
			 errmsg("key column %s of \"%s\" has a type without %s",
					quote_identifier(column->name), history->name,
					OidIsValid(type->eq_opr) ? "hash or order" : "equality"),
			 errdetail("It has type %s.", column->type)));
}

static void
check_tie_break(const History *history, const HistorySourceColumn *column)
{
	if (!OidIsValid(lookup_type_cache(column->type_oid,
									  TYPECACHE_CMP_PROC)->cmp_proc))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("sequence column %s of \"%s\" has a type without "
						"order", quote_identifier(column->name),
						history->name),
				 errdetail("It has type %s.", column->type)));
}

/*
 * The columns without which no record has a place in the history: they must
 * be there, of types that will do.
 */
void
history_check_source(const History *history, const HistorySource *source)
{
	check_reserved(history, source);
	for (int i = 0; i < history->key_count; i++)
		check_key(history, find_source_column(history, source,
											  history->keys[i],
											  "unique_key"));
	for (int i = 0; i < history->sequence_count; i++)
	{
		const HistorySourceColumn *column =
		find_source_column(history, source, history->sequence[i],
						   "sequence_by");

		if (i == 0)
			check_time(history, column, "sequence");
		else
			check_tie_break(history, column);
	}
	if (history->end)
		check_time(history, find_source_column(history, source, history->end,
											   "valid_to_column"), "end");
}

/* All columns that the declaration names, when the tables are made. */
static void
check_lists(const History *history, const HistorySource *source)
{
	for (int i = 0; i < history->tracked_count; i++)
		(void) find_source_column(history, source, history->tracked[i],
								  "track_history_columns");
	for (int i = 0; i < history->fixed_count; i++)
		(void) find_source_column(history, source, history->fixed[i],
								  "fixed_columns");
}

/* "a type, b type, " of the source's columns. */
static char *
column_definitions(const History *history, const HistorySource *source,
				   bool is_observed)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < source->column_count; i++)
	{
		const HistorySourceColumn *column = &source->columns[i];

		appendStringInfo(&list, "%s %s%s, ", quote_identifier(column->name),
						 column->definition, !is_observed &&
						 history_role(history, column->name) == HISTORY_KEY ?
						 " NOT NULL" : "");
	}
	return list.data;
}

/* The columns of the history table itself, quoted, in its order. */
static char *
target_columns(const History *history, const char *alias, bool with_times)
{
	CoreArgs	args = {0};
	uint64		count;
	StringInfoData list;

	core_arg_text(&args, history->target);
	count = core_execute(with_times ?
						 "SELECT quote_ident(attname) FROM pg_attribute"
						 " WHERE attrelid = $1::regclass AND attnum > 0"
						 " AND NOT attisdropped ORDER BY attnum" :
						 "SELECT quote_ident(attname) FROM pg_attribute"
						 " WHERE attrelid = $1::regclass AND attnum > 0"
						 " AND NOT attisdropped AND attname <> ALL"
						 " ('{valid_from,valid_to,is_deleted,recorded_at,"
						 "row_hash}') ORDER BY attnum",
						 &args, SPI_OK_SELECT);
	initStringInfo(&list);
	for (uint64 i = 0; i < count; i++)
		appendStringInfo(&list, "%s%s.%s", i ? ", " : "", alias,
						 core_value_text(i, 1));
	return list.data;
}

/* Makes or remakes a function over the history. */
static void
make_reader(const char *signature, const History *history,
			const char *body)
{
	core_execute(psprintf("CREATE OR REPLACE FUNCTION %s RETURNS SETOF %s"
						  " LANGUAGE sql STABLE PARALLEL SAFE"
						  " BEGIN ATOMIC %s; END",
						  signature, history->target, body),
				 NULL, SPI_OK_UTILITY);
}

/*
 * Makes or remakes the as-of functions.  Each is one plain SELECT without
 * SET, so that it is inlined and the tables' indexes serve it.  That of one
 * time is not the other with a default: a branch of a UNION ALL projects each
 * row even where no other branch is left, which a whole table feels.
 *
 * All conditions stand over the UNION ALL, for the planner makes a plain scan
 * only of a branch that has none of its own.  What is missing from the table
 * now is in the other branch, which folds away where known_at is NULL; so
 * does the condition on recorded_at.
 */
static void
make_as_of(const History *history)
{
	char	   *as_of = core_qualified(CORE_LAYER_HISTORY,
									   psprintf("%s__as_of", history->table));
	char	   *columns = target_columns(history, "h", true);

	make_reader(psprintf("%s (valid_at timestamptz DEFAULT now())", as_of),
				history,
				psprintf("SELECT %s FROM %s AS h WHERE h.valid_from <= $1"
						 " AND $1 < h.valid_to AND NOT h.is_deleted",
						 columns, history->target));
	make_reader(psprintf("%s (valid_at timestamptz, known_at timestamptz)",
						 as_of),
				history,
				psprintf("SELECT %s FROM (SELECT %s, NULL::timestamptz AS"
						 " superseded_at, false AS missing FROM %s AS h"
						 " UNION ALL SELECT %s, s.superseded_at, true"
						 " FROM %s AS s) AS v"
						 " WHERE v.valid_from <= $1 AND $1 < v.valid_to"
						 " AND NOT v.is_deleted"
						 " AND (v.recorded_at <= $2) IS NOT FALSE"
						 " AND (NOT v.missing OR $2 < v.superseded_at)",
						 target_columns(history, "v", true),
						 columns, history->target,
						 target_columns(history, "s", true),
						 history->superseded));
	core_execute(psprintf("REVOKE ALL ON FUNCTION %s(timestamptz),"
						  " %s(timestamptz, timestamptz) FROM PUBLIC",
						  as_of, as_of),
				 NULL, SPI_OK_UTILITY);
}

/* Makes or remakes the as-of functions and the view over the open versions. */
void
history_make_readers(const History *history)
{
	make_as_of(history);
	core_execute(psprintf("CREATE OR REPLACE VIEW %s AS SELECT %s"
						  " FROM %s AS h WHERE h.valid_to = 'infinity'"
						  " AND NOT h.is_deleted",
						  core_qualified(CORE_LAYER_HISTORY,
										 psprintf("%s__current",
												  history->table)),
						  target_columns(history, "h", false),
						  history->target),
				 NULL, SPI_OK_UTILITY);
	core_grant_made(CORE_LAYER_HISTORY);
}

/* A statement-level trigger that refuses what overlaps; see guard.c. */
static void
make_guards(const History *history, const char *table)
{
	static const char *const events[] = {"INSERT", "UPDATE"};

	for (int i = 0; i < lengthof(events); i++)
		core_execute(psprintf("CREATE TRIGGER visage_history_%s"
							  " AFTER %s ON %s REFERENCING NEW TABLE AS"
							  " visage_written FOR EACH STATEMENT"
							  " EXECUTE FUNCTION"
							  " visage.history_refuse_overlap(%s)",
							  i == 0 ? "insert" : "update", events[i], table,
							  quote_literal_cstr(history->name)),
					 NULL, SPI_OK_UTILITY);
}

static void
make_partitions(const History *history, int partitions)
{
	for (int i = 0; i < partitions; i++)
	{
		char	   *table = core_qualified(CORE_LAYER_HISTORY,
										   psprintf("%s__p%d",
													history->table, i));

		core_execute(psprintf("CREATE TABLE %s PARTITION OF %s FOR VALUES"
							  " WITH (MODULUS %d, REMAINDER %d)",
							  table, history->target, partitions, i),
					 NULL, SPI_OK_UTILITY);
		make_guards(history, table);
	}
}

static void
make_target(const History *history, const HistorySource *source,
			int partitions)
{
	char	   *keys = history_name_list(history->keys, history->key_count,
										 "");

	core_execute(psprintf("CREATE TABLE %s (%s" TIME_COLUMNS
						  ", CHECK (valid_from < valid_to))%s",
						  history->target,
						  column_definitions(history, source, false),
						  partitions > 0 ?
						  psprintf(" PARTITION BY HASH (%s)", keys) : ""),
				 NULL, SPI_OK_UTILITY);
	core_execute(psprintf("CREATE UNIQUE INDEX ON %s (%s, valid_from)",
						  history->target, keys), NULL, SPI_OK_UTILITY);
	core_execute(psprintf("CREATE UNIQUE INDEX ON %s (%s)"
						  " WHERE valid_to = 'infinity'",
						  history->target, keys), NULL, SPI_OK_UTILITY);
	make_partitions(history, partitions);
	make_guards(history, history->target);
}

/* Makes the tables after the source's columns; runs as the owner. */
void
history_make_tables(History *history, const HistorySource *source,
					int partitions)
{
	char	   *keys = history_name_list(history->keys, history->key_count,
										 "");

	history_check_source(history, source);
	check_lists(history, source);
	(void) core_layer_schema(CORE_LAYER_HISTORY);
	make_target(history, source, partitions);
	core_execute(psprintf("CREATE TABLE %s (%s" TIME_COLUMNS
						  ", superseded_at timestamptz NOT NULL)",
						  history->superseded,
						  column_definitions(history, source, false)),
				 NULL, SPI_OK_UTILITY);
	core_execute(psprintf("CREATE INDEX ON %s (%s, valid_from)",
						  history->superseded, keys), NULL, SPI_OK_UTILITY);
	core_execute(psprintf("CREATE TABLE %s (%sobserved_at timestamptz NOT"
						  " NULL, observation text NOT NULL, missing text[],"
						  " recorded_at timestamptz NOT NULL)",
						  history->observed,
						  column_definitions(history, source, true)),
				 NULL, SPI_OK_UTILITY);
	core_execute(psprintf("CREATE INDEX ON %s (%s, observed_at)",
						  history->observed, keys), NULL, SPI_OK_UTILITY);
	core_execute(psprintf("CREATE INDEX ON %s (observed_at)"
						  " WHERE " HISTORY_ABOUT_ALL, history->observed),
				 NULL, SPI_OK_UTILITY);
	core_register_dataset(CORE_LAYER_HISTORY, history->table, "history",
						  history->name);
	core_register_dataset(CORE_LAYER_HISTORY,
						  psprintf("%s__superseded", history->table),
						  "history", history->name);
	core_register_dataset(CORE_LAYER_HISTORY,
						  psprintf("%s__observed", history->table),
						  "history", history->name);
	history_make_readers(history);
}

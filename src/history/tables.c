/*-------------------------------------------------------------------------
 *
 * tables.c
 *		The tables of a history, and what reads them.
 *
 *	history.x				what is believed now, open and closed versions
 *	history.x__superseded	what a merge replaced, with the time it did
 *	history.x__as_of(…)		the versions valid at one time, as known at another
 *	history.x__current		the open versions without the time columns
 *
 * Two unique indexes let the store itself refuse two versions of a key that
 * begin together, and two open ones.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "core/core.h"
#include "history/history.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"

#define TIME_COLUMNS \
	"valid_from timestamptz NOT NULL," \
	" valid_to timestamptz NOT NULL DEFAULT 'infinity'," \
	" is_deleted boolean NOT NULL DEFAULT false," \
	" recorded_at timestamptz NOT NULL," \
	" row_hash bigint NOT NULL"

/* A name that may not also be a column of the source. */
static void
check_reserved(const History *history)
{
	static const char *const reserved[] = {
		"valid_from", "valid_to", "is_deleted", "recorded_at", "row_hash",
		"superseded_at"
	};

	for (int i = 0; i < history->column_count; i++)
		for (int j = 0; j < lengthof(reserved); j++)
			if (strcmp(history->columns[i].name, reserved[j]) == 0)
				ereport(ERROR,
						(errcode(ERRCODE_DUPLICATE_COLUMN),
						 errmsg("column \"%s\" of the source of \"%s\" has "
								"a name that the history uses itself",
								reserved[j], history->name),
						 errhint("Rename it in a query that is the "
								 "source.")));
}

/* "a type, b type, " of the source's columns. */
static char *
column_definitions(const History *history)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < history->column_count; i++)
		appendStringInfo(&list, "%s %s%s, ", history->columns[i].name,
						 history->columns[i].type,
						 history->columns[i].role == HISTORY_KEY ?
						 " NOT NULL" : "");
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

/*
 * Makes or remakes the as-of function and the view over the open versions.
 * The function is one plain SELECT without SET, so that it is inlined and
 * the table's indexes serve it.
 */
static void
make_readers(const History *history)
{
	char	   *as_of = core_qualified(CORE_LAYER_HISTORY,
									   psprintf("%s__as_of", history->table));

	core_execute(psprintf("CREATE OR REPLACE FUNCTION %s"
						  " (valid_at timestamptz DEFAULT now(),"
						  " known_at timestamptz DEFAULT NULL)"
						  " RETURNS SETOF %s LANGUAGE sql STABLE"
						  " PARALLEL SAFE BEGIN ATOMIC"
						  " SELECT %s FROM %s AS h"
						  " WHERE h.valid_from <= $1 AND $1 < h.valid_to"
						  " AND NOT h.is_deleted"
						  " AND ($2 IS NULL OR h.recorded_at <= $2)"
						  " UNION ALL SELECT %s FROM %s AS s"
						  " WHERE s.recorded_at <= $2"
						  " AND $2 < s.superseded_at"
						  " AND s.valid_from <= $1 AND $1 < s.valid_to"
						  " AND NOT s.is_deleted; END",
						  as_of, history->target,
						  target_columns(history, "h", true),
						  history->target,
						  target_columns(history, "s", true),
						  history->superseded),
				 NULL, SPI_OK_UTILITY);
	core_execute(psprintf("REVOKE ALL ON FUNCTION %s FROM PUBLIC", as_of),
				 NULL, SPI_OK_UTILITY);
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

/* Makes the tables after the source's columns; runs as the owner. */
void
history_make_tables(History *history, const char *source)
{
	char	   *keys = history_column_list(history, "", HISTORY_KEY, false);

	check_reserved(history);
	(void) core_layer_schema(CORE_LAYER_HISTORY);
	core_execute(psprintf("CREATE TABLE %s (%s" TIME_COLUMNS
						  ", CHECK (valid_from < valid_to))",
						  history->target, column_definitions(history)),
				 NULL, SPI_OK_UTILITY);
	core_execute(psprintf("CREATE UNIQUE INDEX ON %s (%s, valid_from)",
						  history->target, keys), NULL, SPI_OK_UTILITY);
	core_execute(psprintf("CREATE UNIQUE INDEX ON %s (%s)"
						  " WHERE valid_to = 'infinity'",
						  history->target, keys), NULL, SPI_OK_UTILITY);
	core_execute(psprintf("CREATE TABLE %s (%s" TIME_COLUMNS
						  ", superseded_at timestamptz NOT NULL)",
						  history->superseded, column_definitions(history)),
				 NULL, SPI_OK_UTILITY);
	core_execute(psprintf("CREATE INDEX ON %s (%s, valid_from)",
						  history->superseded, keys), NULL, SPI_OK_UTILITY);
	core_register_dataset(CORE_LAYER_HISTORY, history->table, "history",
						  source);
	core_register_dataset(CORE_LAYER_HISTORY,
						  psprintf("%s__superseded", history->table),
						  "history", source);
	make_readers(history);
	for (int i = 0; i < history->column_count; i++)
		history->columns[i].is_new = false;
}

/*
 * Follows a source that has more columns than before.  The new ones are
 * filled into the open versions, which makes no version of its own.
 */
void
history_add_columns(History *history, const char *source)
{
	StringInfoData add;
	StringInfoData set;

	initStringInfo(&add);
	initStringInfo(&set);
	for (int i = 0; i < history->column_count; i++)
	{
		HistoryColumn *column = &history->columns[i];

		if (!column->is_new)
			continue;
		appendStringInfo(&add, "%sADD COLUMN %s %s", add.len ? ", " : "",
						 column->name, column->type);
		appendStringInfo(&set, "%s%s = s.%s", set.len ? ", " : "",
						 column->name, column->name);
		column->is_new = false;
	}
	if (add.len == 0)
		return;
	check_reserved(history);
	core_execute(psprintf("ALTER TABLE %s %s", history->target, add.data),
				 NULL, SPI_OK_UTILITY);
	core_execute(psprintf("ALTER TABLE %s %s", history->superseded, add.data),
				 NULL, SPI_OK_UTILITY);
	core_execute(psprintf("UPDATE %s AS h SET %s FROM %s AS s"
						  " WHERE %s AND h.valid_to = 'infinity'",
						  history->target, set.data, source,
						  history_key_match(history, "h", "s")),
				 NULL, SPI_OK_UPDATE);
	make_readers(history);
}

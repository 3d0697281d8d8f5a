/*-------------------------------------------------------------------------
 *
 * drift.c
 *		A source whose columns are no longer those of its history.
 *
 * schema_contract says what happens to a column that the history lacks, or
 * has with another type:
 *
 *	evolve			it is added, unknown to what was recorded before; values of
 *					another type are cast to the history's, or are an ERROR
 *	freeze			an ERROR
 *	discard_row		a record with a value there goes to quarantine
 *	discard_value	it is left out
 *
 * A column that the source has lost is not compared, whatever the contract.
 * A column renamed is one lost and one added.  No version comes of any of
 * that.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "core/core.h"
#include "history/history.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"

/* Adds the column to the three tables, and notes when. */
static void
add_column(History *history, const HistorySourceColumn *column)
{
	char	   *tables[] = {
		history->target, history->superseded, history->observed
	};
	CoreArgs	args = {0};

	for (int i = 0; i < lengthof(tables); i++)
		core_execute(psprintf("ALTER TABLE %s ADD COLUMN %s %s", tables[i],
							  quote_identifier(column->name),
							  column->definition),
					 NULL, SPI_OK_UTILITY);
	core_arg_text(&args, column->name);
	core_execute(psprintf("INSERT INTO %s (observed_at, observation, missing,"
						  " recorded_at)"
						  " VALUES (now(), 'column', ARRAY[$1], now())",
						  history->observed), &args, SPI_OK_INSERT);
}

static void
refuse(const History *history, const HistorySourceColumn *column,
	   const char *type)
{
	if (type)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of the source of \"%s\" has changed "
						"its type", column->name, history->name),
				 errdetail("It is %s and was %s.", column->type, type),
				 errhint("schema_contract is 'freeze'.")));
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("column \"%s\" of the source of \"%s\" is not in the "
					"history", column->name, history->name),
			 errhint("schema_contract is 'freeze'.")));
}

/* Key, sequence and end decide where a version is: never left out. */
static bool
is_structural(const History *history, const char *name)
{
	HistoryRole role = history_role(history, name);

	return role == HISTORY_KEY || role == HISTORY_SEQUENCE ||
		role == HISTORY_END;
}

/* One column that the history lacks (type NULL) or has of another type. */
static bool
follow_column(History *history, HistorySourceColumn *column,
			  const char *type)
{
	bool		is_row = strcmp(history->contract, "discard_row") == 0;

	if (strcmp(history->contract, "freeze") == 0)
		refuse(history, column, type);
	if (strcmp(history->contract, "evolve") == 0 ||
		is_structural(history, column->name))
	{
		if (type == NULL)
			add_column(history, column);
		return type == NULL;
	}
	column->ignored = true;
	column->refused = is_row;
	return false;
}

/*
 * Compares the source's columns with the history's, and follows the contract
 * where they differ.  Runs as the owner; the history is not open yet.
 */
void
history_follow_source(History *history, HistorySource *source)
{
	bool		changed = false;

	history_check_source(history, source);
	for (int i = 0; i < source->column_count; i++)
	{
		HistorySourceColumn *column = &source->columns[i];
		CoreArgs	args = {0};
		char	   *type;

		core_arg_text(&args, history->target);
		core_arg_text(&args, column->name);
		type = core_query_text("SELECT format_type(atttypid, atttypmod)"
							   " FROM pg_attribute"
							   " WHERE attrelid = $1::regclass"
							   " AND attname = $2 AND attnum > 0"
							   " AND NOT attisdropped", &args,
							   CurrentMemoryContext);
		if (type == NULL || strcmp(type, column->type) != 0)
			changed |= follow_column(history, column, type);
	}
	if (changed)
		history_make_readers(history);
}

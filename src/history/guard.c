/*-------------------------------------------------------------------------
 *
 * guard.c
 *		The trigger that keeps a user's own statement from writing versions
 *		that overlap.
 *
 * It runs once after a statement, for the rows that it wrote, which it looks
 * for by the index on the key.  A lock, of its own kind so that it does not
 * meet the one that the statement has on the table, makes such statements
 * take turns until the end of their transactions; and what is compared is
 * what is committed now, whatever the statement's snapshot sees.  A merge
 * keeps all others away and checks nothing here.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "commands/trigger.h"
#include "core/core.h"
#include "history/history.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

/* The query for two versions of a key that overlap, one of them written. */
static char *
overlap_query(const History *history, Relation relation)
{
	return psprintf("SELECT jsonb_build_array(%s)::text,"
					" w.valid_from::text, w.valid_to::text,"
					" h.valid_from::text, h.valid_to::text"
					" FROM visage_written AS w JOIN %s AS h ON %s"
					" AND h.valid_from < w.valid_to"
					" AND w.valid_from < h.valid_to"
					" AND h.valid_from <> w.valid_from LIMIT 1",
					history_name_list(history->keys, history->key_count, "w"),
					history->target, history_key_match(history, RelationGetRelid(relation), "h", "w"));
}

static void
refuse_overlap(const History *history, TriggerData *trigger)
{
	SPIPlanPtr	plan;
	int			code;

	LockDatabaseObject(RelationRelationId,
					   core_table_oid(CORE_LAYER_HISTORY, history->table), 0,
					   ExclusiveLock);
	SPI_register_trigger_data(trigger);
	plan = SPI_prepare(overlap_query(history, trigger->tg_relation), 0, NULL);
	if (plan == NULL)
		elog(ERROR, "SPI_prepare returned %s",
			 SPI_result_code_string(SPI_result));
	code = SPI_execute_snapshot(plan, NULL, NULL, GetLatestSnapshot(),
								InvalidSnapshot, false, false, 1);
	if (code != SPI_OK_SELECT)
		elog(ERROR, "SPI_execute_snapshot returned %s",
			 SPI_result_code_string(code));
	if (SPI_processed > 0)
		ereport(ERROR,
				(errcode(ERRCODE_EXCLUSION_VIOLATION),
				 errmsg("versions of a key in \"%s\" overlap", history->name),
				 errdetail("Key %s: [%s, %s) and [%s, %s).",
						   core_value_text(0, 1), core_value_text(0, 2),
						   core_value_text(0, 3), core_value_text(0, 4),
						   core_value_text(0, 5))));
}

PG_FUNCTION_INFO_V1(visage_history_refuse_overlap);
Datum
visage_history_refuse_overlap(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	CoreIdentity caller;
	History    *history;
	Jsonb	   *definition;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		trigger->tg_trigger->tgnargs != 1 ||
		!TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_STATEMENT(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("visage.history_refuse_overlap is the trigger of a "
						"history")));
	core_spi_begin();
	core_become_owner(&caller);
	definition = core_find_declaration("history",
									   trigger->tg_trigger->tgargs[0], true);
	/* a history that was dropped, its data kept, is an ordinary table */
	if (definition)
	{
		history = history_describe(trigger->tg_trigger->tgargs[0], definition);
		refuse_overlap(history, trigger);
	}
	core_become_caller(&caller);
	core_spi_end();
	return PointerGetDatum(NULL);
}

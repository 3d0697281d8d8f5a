/*-------------------------------------------------------------------------
 *
 * reject.c
 *		Records that have no place in a history go to quarantine.
 *
 * They are found while the source is read, as the caller, and written to
 * visage.quarantine when that is over, as the owner; until then they wait in
 * a tuplestore, which spills.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "core/core.h"
#include "funcapi.h"
#include "history/history.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

static void
begin_rejects(HistoryMerge *merge)
{
	History    *history = merge->history;

	merge->record_desc = CreateTemplateTupleDesc(history->column_count);
	for (int i = 0; i < history->column_count; i++)
		TupleDescInitEntry(merge->record_desc, i + 1,
						   history->columns[i].name,
						   history->columns[i].type_oid,
						   history->columns[i].typmod, 0);
	BlessTupleDesc(merge->record_desc);
	merge->reject_desc = CreateTemplateTupleDesc(2);
	TupleDescInitEntry(merge->reject_desc, 1, "reason", TEXTOID, -1, 0);
	TupleDescInitEntry(merge->reject_desc, 2, "record", TEXTOID, -1, 0);
	merge->rejects = tuplestore_begin_heap(false, false, 1024);
}

/* Puts a record aside, with the reason, and counts it. */
void
history_reject(HistoryMerge *merge, const Datum *values, const bool *nulls,
			   const char *reason)
{
	MemoryContext old;
	HeapTuple	record;
	Datum		row[2];
	bool		row_nulls[2] = {false, false};

	if (merge->rejects == NULL)
	{
		old = MemoryContextSwitchTo(merge->context);
		begin_rejects(merge);
		MemoryContextSwitchTo(old);
	}
	record = heap_form_tuple(merge->record_desc, (Datum *) values,
							 (bool *) nulls);
	row[0] = CStringGetTextDatum(reason);
	row[1] = DirectFunctionCall1(row_to_json,
								 HeapTupleGetDatum(record));
	tuplestore_putvalues(merge->rejects, merge->reject_desc, row, row_nulls);
	merge->counts.rejected++;
}

/* Writes what was put aside; runs as the owner. */
void
history_write_rejects(HistoryMerge *merge)
{
	TupleTableSlot *slot;
	SPIPlanPtr	plan;
	Oid			types[4] = {TEXTOID, TEXTOID, TEXTOID, TEXTARRAYOID};
	CoreArgs	keys = {0};

	if (merge->rejects == NULL)
		return;
	core_arg_text_array(&keys, merge->history->keys,
						merge->history->key_count);
	plan = SPI_prepare("INSERT INTO visage.quarantine"
					   " (dataset, reason, raw, source_key)"
					   " SELECT $1, $2, convert_to($3, 'UTF8'),"
					   " (SELECT jsonb_agg($3::jsonb -> k ORDER BY o)::text"
					   " FROM unnest($4) WITH ORDINALITY AS u (k, o))",
					   4, types);
	if (plan == NULL)
		elog(ERROR, "SPI_prepare returned %s",
			 SPI_result_code_string(SPI_result));
	slot = MakeSingleTupleTableSlot(merge->reject_desc, &TTSOpsMinimalTuple);
	while (tuplestore_gettupleslot(merge->rejects, true, false, slot))
	{
		Datum		values[4];

		CHECK_FOR_INTERRUPTS();
		slot_getallattrs(slot);
		values[0] = CStringGetTextDatum(merge->history->name);
		values[1] = slot->tts_values[0];
		values[2] = slot->tts_values[1];
		values[3] = keys.values[0];
		if (SPI_execute_plan(plan, values, NULL, false, 0) != SPI_OK_INSERT)
			elog(ERROR, "SPI_execute_plan returned %s",
				 SPI_result_code_string(SPI_result));
	}
	ExecDropSingleTupleTableSlot(slot);
	tuplestore_end(merge->rejects);
}

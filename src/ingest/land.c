/*-------------------------------------------------------------------------
 *
 * land.c
 *		Applies a batch: landing, staging and quarantine, in one transaction.
 *
 * The records go to store.c in groups, each in a subtransaction.  Where one
 * cannot be typed or breaks a constraint, its group is undone; those before
 * it are stored again, it is put aside with the reason, and those behind it
 * go on.
 *
 * Whether staging has a record's key is looked up in its index, unless all
 * are likely to be new: in an empty table, and after a group of which all
 * were.  Then the insertion checks, as it does anyhow; if one is there after
 * all, the group is undone and stored again with its keys looked up, and
 * more and more groups after it are looked up before it is tried again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "core/core.h"
#include "ingest/ingest.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#define MOST_CAREFUL 1024

/*
 * Puts a record aside with the reason and its bytes; one that is there
 * already, read again at the cursor's edge, is only counted.
 */
void
ingest_quarantine(IngestRun *run, const IngestRecord *record,
				  const char *reason)
{
	bytea	   *raw = palloc(VARHDRSZ + record->slice.length);
	CoreArgs	args = {0};

	SET_VARSIZE(raw, VARHDRSZ + record->slice.length);
	memcpy(VARDATA(raw), record->slice.start, record->slice.length);
	core_arg_text(&args, psprintf("staging.%s", run->stream->table));
	core_arg_int8(&args, run->run_id);
	core_arg_text(&args, record->key);
	core_arg_text(&args, reason);
	core_arg(&args, BYTEAOID, PointerGetDatum(raw), false);
	core_execute("INSERT INTO visage.quarantine"
				 " (dataset, run_id, source_key, reason, raw)"
				 " SELECT $1, $2, $3, $4, $5 WHERE NOT EXISTS ("
				 " SELECT FROM visage.quarantine AS q WHERE q.dataset = $1"
				 " AND md5(q.raw) = md5($5) AND q.replayed_at IS NULL)",
				 &args, SPI_OK_INSERT);
	run->counts.quarantined++;
	pfree(raw);
}

/* ---- keys that come more than once ---- */

/*
 * Marks records whose key, or for 'append' key again, comes more than once
 * in the batch.  Of those with the same key the last one counts.
 */
static void
mark_repeated(const IngestRun *run, IngestBatch *batch)
{
	bool		append = strcmp(run->stream->disposition, "append") == 0;
	uint32		size = 64;
	int		   *table;

	if (run->stream->key_count == 0)
		return;
	while (size < (uint32) batch->count * 2)
		size *= 2;
	table = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(int) * (Size) size);
	memset(table, -1, sizeof(int) * (Size) size);
	for (int n = 0; n < batch->count; n++)
	{
		int			i = append ? n : batch->count - 1 - n;
		IngestRecord *record = &batch->records[i];
		uint32		slot;

		if (record->reason != NULL)
			continue;
		slot = hash_bytes((const unsigned char *) record->key,
						  strlen(record->key)) & (size - 1);
		while (table[slot] >= 0 &&
			   strcmp(batch->records[table[slot]].key, record->key) != 0)
			slot = (slot + 1) & (size - 1);
		if (table[slot] < 0)
			table[slot] = i;
		else if (append)
			record->again = true;
		else
			record->superseded = true;
	}
	pfree(table);
}

/* ---- groups ---- */

/* The arguments of a try, and how far it came. */
typedef struct GroupTry
{
	IngestStore *store;
	const IngestBatch *batch;
	IngestRecord **records;
	int			count;
	IngestStored stored;
	int			at;
} GroupTry;

/* Step of core_try. */
static void
store_records(void *arg)
{
	GroupTry   *try = arg;

	ingest_store(try->store, try->batch, try->records, try->count,
				 &try->stored, &try->at);
}

/* Learns from a group whether to look the keys of the next ones up. */
static void
learn(IngestRun *run, const IngestStored *stored, bool mistaken)
{
	if (mistaken)
	{
		run->mistakes = Min(run->mistakes * 2 + 1, MOST_CAREFUL);
		run->careful = run->mistakes;
	}
	else if (stored->found > 0)
		run->careful = Max(run->careful, 1);
	else if (run->careful > 0)
		run->careful--;
}

/*
 * Stores the records in a subtransaction.  Returns -1, or which of them
 * failed, with the reason; errors that no record is to blame for go on.
 */
static int
try_group(IngestRun *run, IngestStore *store, const IngestBatch *batch,
		  IngestRecord **records, int count, char **reason)
{
	GroupTry	try = {.store = store,.batch = batch,.records = records,
	.count = count};
	ErrorData  *error;
	bool		mistaken;

	try.stored.trusting = run->careful == 0 && ingest_store_may_trust(store);
	error = core_try(store_records, &try);
	mistaken = error != NULL && try.stored.trusting &&
		error->sqlerrcode == ERRCODE_UNIQUE_VIOLATION;
	learn(run, &try.stored, mistaken);
	if (error == NULL)
	{
		run->counts.landed += try.stored.landed;
		run->counts.deleted += try.stored.deleted;
		return -1;
	}
	if (ERRCODE_TO_CATEGORY(error->sqlerrcode) != ERRCODE_DATA_EXCEPTION &&
		ERRCODE_TO_CATEGORY(error->sqlerrcode) !=
		ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION)
		ReThrowError(error);
	ingest_store_failed(store);
	if (mistaken)
		return try_group(run, store, batch, records, count, reason);
	*reason = error->message;
	return try.at;
}

/* Stores the records of a group, putting aside those that cannot be. */
static void
store_group(IngestRun *run, IngestStore *store, const IngestBatch *batch,
			IngestRecord **records, int count)
{
	char	   *reason = NULL;

	while (count > 0)
	{
		int			failed = try_group(run, store, batch, records, count,
									   &reason);

		CHECK_FOR_INTERRUPTS();
		if (failed < 0)
			return;
		/* a constraint may blame another one without its neighbour */
		if (failed > 0)
			store_group(run, store, batch, records, failed);
		ingest_quarantine(run, records[failed], reason);
		records += failed + 1;
		count -= failed + 1;
	}
}

/* ---- a batch ---- */

/* A field of the record that the schema contract does not let in. */
static const char *
refused_field(const IngestRun *run, const IngestBatch *batch,
			  const IngestRecord *record)
{
	for (int i = 0; i < record->member_count; i++)
	{
		const IngestMember *member =
		&batch->members[record->first_member + i];
		const IngestField *field = &run->fields[member->field];

		if (field->refused && member->kind != SCAN_NULL)
			return psprintf("field \"%s\" is not in the schema contract",
							field->name);
	}
	return NULL;
}

/* The records to store; the others are put aside. */
static IngestRecord **
sort_out(IngestRun *run, IngestBatch *batch, int *count)
{
	IngestRecord **good =
	MemoryContextAllocHuge(CurrentMemoryContext,
						   sizeof(IngestRecord *) *
						   (Size) Max(batch->count, 1));
	bool		contract = strcmp(run->stream->contract, "discard_row") == 0;

	*count = 0;
	for (int i = 0; i < batch->count; i++)
	{
		IngestRecord *record = &batch->records[i];

		if (contract && record->reason == NULL)
			record->reason = refused_field(run, batch, record);
		if (record->reason != NULL)
			ingest_quarantine(run, record, record->reason);
		else if (!record->superseded)
			good[(*count)++] = record;
	}
	return good;
}

/*
 * Applies a batch as the extension's owner, in the caller's transaction.  The
 * caller moves the cursor in the same one.
 */
void
ingest_apply_batch(IngestRun *run, IngestBatch *batch)
{
	IngestRecord **good;
	int			count;
	IngestStore *store;
	int			most;

	CoreArgs	args = {0};

	run->counts.records += batch->count;
	if (batch->count == 0 ||
		(run->stream->main != NULL &&
		 !OidIsValid(core_own_table(CORE_LAYER_STAGING, run->stream->table))))
		return;
	/* one at a time: keys are looked up before they are written */
	core_arg_text(&args, run->stream->name);
	core_execute("SELECT pg_advisory_xact_lock(hashtext('visage stream'),"
				 " hashtext($1))", &args, SPI_OK_SELECT);
	ingest_prepare_landing(run);
	ingest_prepare_staging(run);
	mark_repeated(run, batch);
	good = sort_out(run, batch, &count);
	if (count == 0)
		return;
	store = ingest_open_store(run, count);
	if (run->careful < 0)
		run->careful = !ingest_store_is_empty(store);
	most = ingest_store_capacity(store);
	for (int i = 0; i < count; i += most)
		store_group(run, store, batch, good + i, Min(most, count - i));
	ingest_close_store(store);
	ingest_note_seen(run, good, count);
}

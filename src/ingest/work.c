/*-------------------------------------------------------------------------
 *
 * work.c
 *		Work that waits for locks without making others wait.
 *
 * A step of work asks for its locks with a short lock_timeout, since whoever
 * asks after it for a lock of the table queues behind it.  Where it does not
 * get them the work is undone, holds nothing for a while, and is done again
 * from the run's state before it, for up to visage.max_lock_wait.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "core/core.h"
#include "core/settings.h"
#include "ingest/ingest.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define FIRST_WAIT 50			/* ms, doubled up to */
#define LONGEST_WAIT 2000

/* What work changes of a run, and what goes with its transaction. */
typedef struct Before
{
	IngestPosition position;
	IngestCounts counts;
	int			partition_day;
	bool	   *discarded;		/* of the fields */
	bool	   *refused;
} Before;

static void
remember(const IngestRun *run, Before *before)
{
	before->position = run->position;
	before->counts = run->counts;
	before->partition_day = run->partition_day;
	before->discarded = palloc(sizeof(bool) * Max(run->field_count, 1));
	before->refused = palloc(sizeof(bool) * Max(run->field_count, 1));
	for (int i = 0; i < run->field_count; i++)
	{
		before->discarded[i] = run->fields[i].discarded;
		before->refused[i] = run->fields[i].refused;
	}
}

static void
go_back(IngestRun *run, const Before *before)
{
	run->position = before->position;
	run->counts = before->counts;
	run->partition_day = before->partition_day;
	for (int i = 0; i < run->field_count; i++)
	{
		run->fields[i].discarded = before->discarded[i];
		run->fields[i].refused = before->refused[i];
	}
	/* tables and columns that the work made are gone */
	run->columns = NULL;
	run->sequence = InvalidOid;
}

/* Works once; the error where that fails, after everything is undone. */
static ErrorData *
attempt(IngestRun *run, IngestStep step, void *arg)
{
	MemoryContext caller = CurrentMemoryContext;
	ErrorData  *volatile error = NULL;

	PG_TRY();
	{
		ingest_begin_work(run);
		step(run, arg);
		ingest_end_work(run);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		ingest_abandon_work(run);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	return error;
}

/* Waits so many milliseconds, with nothing held. */
static void
wait_for_others(int64 wait)
{
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													wait);
	long		left = wait;

	while (left > 0)
	{
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 left, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);
	}
}

/* Works until it succeeds, fails, or the locks were waited for so long. */
static ErrorData *
retry(IngestRun *run, IngestStep step, void *arg, int64 patience)
{
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													patience);
	int64		wait = FIRST_WAIT;
	Before		before;

	remember(run, &before);
	for (;;)
	{
		ErrorData  *error = attempt(run, step, arg);

		if (error == NULL ||
			(error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE &&
			 error->sqlerrcode != ERRCODE_T_R_DEADLOCK_DETECTED) ||
			GetCurrentTimestamp() >= until)
			return error;
		FreeErrorData(error);
		go_back(run, &before);
		wait_for_others(wait);
		wait = Min(wait * 2, LONGEST_WAIT);
	}
}

/* A step of work, in a transaction of its own; ERROR where it fails. */
void
ingest_work(IngestRun *run, IngestStep step, void *arg)
{
	ErrorData  *error = retry(run, step, arg,
							  core_setting_int("visage.max_lock_wait"));

	if (error != NULL)
		ReThrowError(error);
}

/* The same for work that can be left undone; false where locks are held. */
bool
ingest_try_work(IngestRun *run, IngestStep step, void *arg, int64 patience)
{
	ErrorData  *error = retry(run, step, arg, patience);

	if (error == NULL)
		return true;
	if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE &&
		error->sqlerrcode != ERRCODE_T_R_DEADLOCK_DETECTED)
		ReThrowError(error);
	return false;
}

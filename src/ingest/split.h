/*-------------------------------------------------------------------------
 *
 * split.h
 *		Cutting an answer into records while it comes in; see split.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_SPLIT_H
#define VISAGE_SPLIT_H

#include "ingest/scan.h"
#include "lib/stringinfo.h"

typedef enum SplitFormat
{
	SPLIT_JSON,
	SPLIT_NDJSON,
	SPLIT_CSV
} SplitFormat;

typedef enum SplitState
{
	SPLIT_BEFORE,				/* the array of records has not begun */
	SPLIT_RECORDS,
	SPLIT_AFTER,				/* it has ended, the document has not */
	SPLIT_END
} SplitState;

/* A record cut out; reason where it is none. */
typedef struct SplitRecord
{
	ScanSlice	slice;
	const char *reason;
} SplitRecord;

typedef struct Split
{
	SplitFormat format;
	SplitState	state;
	const char *selector;		/* JSON: where the array is */
	bool		first;			/* JSON: no element was cut yet */
	bool		single;			/* JSON: an object stands in the array's place */
	StringInfoData envelope;	/* JSON: the document without its records */
	char		delimiter;		/* CSV */
	char	  **nulls;			/* CSV: texts that mean null */
	int			null_count;
	char	  **titles;			/* CSV: as JSON strings, quoted */
	int			title_count;
	MemoryContext context;		/* of titles and envelope */
	SplitRecord *records;
	int			count;
	int			allocated;
} Split;

extern void split_begin(Split *split);
extern size_t split_cut(Split *split, ScanSlice data, bool final,
						char **problem);
extern void split_add(Split *split, ScanSlice slice, const char *reason);

/* csv.c */
extern size_t split_csv(Split *split, ScanSlice data, bool final,
						char **problem);

#endif							/* VISAGE_SPLIT_H */

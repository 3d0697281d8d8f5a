/*-------------------------------------------------------------------------
 *
 * scan.h
 *		Cutting a page into records; see scan.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_SCAN_H
#define VISAGE_SCAN_H

#include "postgres.h"

/* What a JSON value is; bits, so that kinds can be collected. */
typedef enum ScanKind
{
	SCAN_NULL = 1 << 0,
	SCAN_BOOL = 1 << 1,
	SCAN_INTEGER = 1 << 2,		/* fits a bigint */
	SCAN_NUMBER = 1 << 3,
	SCAN_STRING = 1 << 4,
	SCAN_CONTAINER = 1 << 5
} ScanKind;

typedef struct ScanSlice
{
	const char *start;
	size_t		length;
} ScanSlice;

/* Called for each member of a record's top level. */
typedef void (*ScanVisitor) (void *arg, ScanSlice name, ScanSlice value,
							 ScanKind kind);

extern ScanSlice *scan_page(ScanSlice page, const char *selector,
							int *count, char **problem);
extern const char *scan_record(ScanSlice record, ScanVisitor visitor,
							   void *arg);
extern char *scan_text(ScanSlice value);
extern bool scan_name_is(ScanSlice name, const char *text);

#endif							/* VISAGE_SCAN_H */

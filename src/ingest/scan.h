/*-------------------------------------------------------------------------
 *
 * scan.h
 *		Reading JSON from outside; see scan.c.
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

/* A member of an object. */
typedef struct ScanMember
{
	ScanSlice	name;			/* without its quotes */
	ScanSlice	value;
	ScanKind	kind;
	bool		name_escaped;	/* the name has escapes */
	bool		escaped;		/* the value is a string that has some */
} ScanMember;

/* Called for each member of a record's top level. */
typedef void (*ScanVisitor) (void *arg, const ScanMember *member);

/* Called for each element of an array. */
typedef void (*ScanElement) (void *arg, ScanSlice value, ScanKind kind);

extern const char *scan_record(ScanSlice record, ScanVisitor visitor,
							   void *arg);
extern char *scan_text(ScanSlice value);
extern bool scan_path(ScanSlice document, const char *path, ScanSlice *value,
					  ScanKind *kind);
extern char *scan_path_text(ScanSlice document, const char *path);
extern const char *scan_document(ScanSlice document);
extern bool scan_elements(ScanSlice array, ScanElement element, void *arg);
extern bool scan_name_is(ScanSlice name, const char *text);

#endif							/* VISAGE_SCAN_H */

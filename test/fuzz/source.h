/*-------------------------------------------------------------------------
 *
 * source.h
 *		What the targets share that read a connector's manifest.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FUZZ_SOURCE_H
#define FUZZ_SOURCE_H

#include "ingest/ingest.h"

#define SOURCE_SECRET "sesame"	/* what each of its secrets is */

/* The manifest under test. */
extern Jsonb *source_manifest;

typedef struct SourceStreams
{
	char	  **names;
	int			count;
} SourceStreams;

/* Steps of server_try. */
extern void source_read(void *text);	/* the manifest, held to the grammar */
extern void source_list_streams(void *streams);

/* The declaration of a stream of it; ERROR where it cannot be read. */
extern IngestStream *source_stream(const char *resource);

/* Can the request be sent as it is?  If not, the fuzzer stops. */
extern void source_check_request(const NetRequest *request);

#endif							/* FUZZ_SOURCE_H */

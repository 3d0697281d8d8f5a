/*-------------------------------------------------------------------------
 *
 * records.c
 *		A fuzz target: answers of other systems, cut into records.
 *
 * The first byte of the input chooses the format, the second how the rest is
 * broken into pieces.  Whatever the bytes are, cutting them as they come in
 * gives the same records, and the same verdict, as cutting them whole; and
 * each record goes through the scanner.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "ingest/split.h"
#include "server.h"

#define PER_BYTE 512
#define AT_LEAST ((size_t) 64 << 20)

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct Cut
{
	const char *data;
	size_t		size;
	size_t		piece;			/* bytes at a time, 0: all */
	int			format;
	uint64		hash;			/* of all records */
	int			count;
	bool		problem;
} Cut;

/* ScanVisitor and ScanElement: values can be read. */
static void
visit(void *arg, const ScanMember *member)
{
	(void) scan_name_is(member->name, "id");
	if (member->kind != SCAN_STRING)
		return;
	(void) scan_text(member->value);
	if (member->escaped !=
		(memchr(member->value.start, '\\', member->value.length) != NULL))
		abort();
}

static void
visit_element(void *arg, ScanSlice value, ScanKind kind)
{
	ScanSlice	inner;

	if (kind == SCAN_CONTAINER)
		(void) scan_path(value, "a.b", &inner, &kind);
}

static void
take_record(Cut *cut, const SplitRecord *record)
{
	for (size_t i = 0; i < record->slice.length; i++)
		cut->hash = cut->hash * 31 + (unsigned char) record->slice.start[i];
	cut->hash = cut->hash * 31 + (record->reason != NULL);
	cut->count++;
	(void) scan_record(record->slice, visit, NULL);
	(void) scan_elements(record->slice, visit_element, NULL);
}

/* Cuts the answer, a piece at a time. */
static void
cut_answer(void *arg)
{
	static char *nulls[] = {"N/A"};
	Cut		   *cut = arg;
	Split		split = {.format = cut->format % 3,
		.selector = cut->format % 2 ? "a.b" : "",.delimiter = ',',
	.nulls = nulls,.null_count = 1};
	size_t		start = 0;
	size_t		end = cut->piece ? Min(cut->piece, cut->size) : cut->size;

	split_begin(&split);
	for (;;)
	{
		bool		final = end == cut->size;
		/* a copy of its own, so that reading past it is seen */
		char	   *copy = palloc(Max(end - start, 1));
		ScanSlice	data = {copy, end - start};
		char	   *problem = NULL;
		size_t		used;

		memcpy(copy, cut->data + start, end - start);
		split.records = NULL;
		split.count = split.allocated = 0;
		used = split_cut(&split, data, final, &problem);
		if (used > data.length)
			abort();
		for (int i = 0; i < split.count; i++)
			take_record(cut, &split.records[i]);
		cut->problem = problem != NULL;
		if (problem != NULL || final)
			return;
		start += used;
		end = Min(end + cut->piece, cut->size);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	Cut			whole = {0};
	Cut			pieces;
	size_t		limit = AT_LEAST + size * PER_BYTE;

	if (size < 2)
		return 0;
	whole.format = data[0];
	whole.data = (const char *) data + 2;
	whole.size = size - 2;
	pieces = whole;
	pieces.piece = data[1] % 64 + 1;
	/* pieces of a long answer that never ends a record are quadratic */
	if (pieces.size / pieces.piece > 2000)
		pieces.piece = pieces.size / 2000 + 1;
	if (!server_try(cut_answer, &whole, limit))
		abort();
	server_free_all();
	if (!server_try(cut_answer, &pieces, limit * 64))
		abort();
	server_free_all();
	if (whole.problem != pieces.problem ||
		(!whole.problem &&
		 (whole.count != pieces.count || whole.hash != pieces.hash)))
		abort();
	return 0;
}

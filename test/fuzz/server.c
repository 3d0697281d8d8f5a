/*-------------------------------------------------------------------------
 *
 * server.c
 *		A stand-in for the server, to run parsers under a fuzzer.
 *
 * The parsers are compiled as they are, against the server's headers, with
 * the sanitizers; this file gives them memory, strings and errors.  An ERROR
 * leaves by longjmp, as in the server.  Every allocation is counted: one
 * that goes beyond the limit, which is tied to the size of the input, stops
 * the fuzzer, as does an error without a SQLSTATE of its own.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>
#include <setjmp.h>

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "model/import.h"
#include "nodes/pg_list.h"
#include "port/pg_crc32c.h"
#include "server.h"
#include "utils/memutils.h"

#define MOST_STACK (4 << 20)	/* of eight, which frames may be large in */

struct Context;

/* An allocation, in a list, before what is given out, aligned to 16. */
typedef struct Chunk
{
	struct Chunk *next;
	struct Chunk *previous;
	size_t		size;
	struct Context *context;
} Chunk;

/* What a MemoryContext points to. */
typedef struct Context
{
	Chunk		chunks;			/* a ring */
	MemoryContextCallback *callbacks;
	struct Context *parent;
	struct Context *next;		/* of all but the top one */
} Context;

volatile sig_atomic_t InterruptPending = false;
MemoryContext CurrentMemoryContext = NULL;
ServerError server_error;

static Context top = {.chunks = {&top.chunks, &top.chunks, 0, &top}};
static Context *contexts;		/* the others */
static size_t allocated;
static size_t allowed = SIZE_MAX;
static jmp_buf leave;
static char *stack_base;		/* of what server_try runs */

/* ---- memory ---- */

/* What a MemoryContext is; NULL: the top one. */
static Context *
context_of(MemoryContext context)
{
	return context ? (Context *) context : &top;
}

static void *
allocate_in(Context *context, Size size, int flags)
{
	Chunk	   *chunk;

	if (size > (flags & MCXT_ALLOC_HUGE ? MaxAllocHugeSize : MaxAllocSize))
		elog(ERROR, "invalid memory alloc request size %zu", size);
	allocated += size;
	if (allocated > allowed)
	{
		fprintf(stderr, "%zu bytes are allocated, %zu are allowed\n",
				allocated, allowed);
		abort();
	}
	chunk = malloc(sizeof(Chunk) + size);
	if (chunk == NULL)
		abort();
	if (flags & MCXT_ALLOC_ZERO)
		memset(chunk + 1, 0, size);
	chunk->size = size;
	chunk->context = context;
	chunk->next = context->chunks.next;
	chunk->previous = &context->chunks;
	context->chunks.next->previous = chunk;
	context->chunks.next = chunk;
	return chunk + 1;
}

static void *
allocate(Size size, int flags)
{
	return allocate_in(context_of(CurrentMemoryContext), size, flags);
}

void
pfree(void *pointer)
{
	Chunk	   *chunk = (Chunk *) pointer - 1;

	allocated -= chunk->size;
	chunk->next->previous = chunk->previous;
	chunk->previous->next = chunk->next;
	free(chunk);
}

/* Empties a context: what it holds, and its children. */
static void
reset(Context *context)
{
	for (Context *child = contexts; child;)
	{
		Context    *next = child->next;

		if (child->parent == context)
		{
			MemoryContextDelete((MemoryContext) child);
			next = contexts;
		}
		child = next;
	}
	while (context->callbacks != NULL)
	{
		MemoryContextCallback *callback = context->callbacks;

		context->callbacks = callback->next;
		callback->func(callback->arg);
	}
	while (context->chunks.next != &context->chunks)
		pfree(context->chunks.next + 1);
}

void
server_free_all(void)
{
	CurrentMemoryContext = NULL;
	reset(&top);
}

/* What is allocated now stays for good. */
void
server_keep_all(void)
{
	top.chunks.next = top.chunks.previous = &top.chunks;
	allocated = 0;
}

void *
palloc(Size size)
{
	return allocate(size, 0);
}

void *
palloc0(Size size)
{
	return allocate(size, MCXT_ALLOC_ZERO);
}

void *
palloc_extended(Size size, int flags)
{
	return allocate(size, flags);
}

void *
palloc_mul(Size size, Size count)
{
	if (size != 0 && count > MaxAllocSize / size)
		elog(ERROR, "invalid memory alloc request size %zu * %zu", size,
			 count);
	return allocate(size * count, 0);
}

static void *
reallocate(void *pointer, Size size, int flags)
{
	Chunk	   *chunk = (Chunk *) pointer - 1;
	void	   *moved = allocate_in(chunk->context, size, flags);

	memcpy(moved, pointer, Min(size, chunk->size));
	pfree(pointer);
	return moved;
}

void *
repalloc(void *pointer, Size size)
{
	return reallocate(pointer, size, 0);
}

void *
repalloc_huge(void *pointer, Size size)
{
	return reallocate(pointer, size, MCXT_ALLOC_HUGE);
}

char *
pstrdup(const char *in)
{
	return pnstrdup(in, strlen(in));
}

char *
pnstrdup(const char *in, Size length)
{
	char	   *copy;

	length = strnlen(in, length);
	copy = palloc(length + 1);
	memcpy(copy, in, length);
	copy[length] = '\0';
	return copy;
}

char *
psprintf(const char *format,...)
{
	va_list		args;
	int			length;
	char	   *result;

	va_start(args, format);
	length = vsnprintf(NULL, 0, format, args);
	va_end(args);
	result = palloc(length + 1);
	va_start(args, format);
	vsnprintf(result, length + 1, format, args);
	va_end(args);
	return result;
}

/* ---- growing strings ---- */

void
resetStringInfo(StringInfo string)
{
	string->len = 0;
	string->cursor = 0;
	string->data[0] = '\0';
}

void
initStringInfo(StringInfo string)
{
	string->maxlen = 64;
	string->data = palloc(string->maxlen);
	resetStringInfo(string);
}

void
appendBinaryStringInfo(StringInfo string, const char *data, int length)
{
	enlargeStringInfo(string, length);
	memcpy(string->data + string->len, data, length);
	string->len += length;
	string->data[string->len] = '\0';
}

void
appendStringInfoChar(StringInfo string, char byte)
{
	appendBinaryStringInfo(string, &byte, 1);
}

void
enlargeStringInfo(StringInfo string, int needed)
{
	if ((Size) string->len + needed >= MaxAllocSize)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("out of memory")));
	while (string->len + needed >= string->maxlen)
	{
		string->maxlen *= 2;
		string->data = repalloc(string->data, string->maxlen);
	}
}

void
appendStringInfo(StringInfo string, const char *format,...)
{
	char		text[2048];
	va_list		args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	appendBinaryStringInfo(string, text, strlen(text));
}

void
appendStringInfoString(StringInfo string, const char *text)
{
	appendBinaryStringInfo(string, text, strlen(text));
}

/* ---- memory contexts ---- */

MemoryContext
AllocSetContextCreateInternal(MemoryContext parent, const char *name,
							  Size minimum, Size initial, Size maximum)
{
	Context    *context = calloc(1, sizeof(Context));

	context->chunks.next = context->chunks.previous = &context->chunks;
	context->parent = context_of(parent);
	context->next = contexts;
	contexts = context;
	return (MemoryContext) context;
}

void *
MemoryContextAlloc(MemoryContext context, Size size)
{
	return allocate_in(context_of(context), size, 0);
}

void *
MemoryContextAllocZero(MemoryContext context, Size size)
{
	return allocate_in(context_of(context), size, MCXT_ALLOC_ZERO);
}

void *
MemoryContextAllocHuge(MemoryContext context, Size size)
{
	return allocate_in(context_of(context), size, MCXT_ALLOC_HUGE);
}

char *
MemoryContextStrdup(MemoryContext context, const char *string)
{
	size_t		size = strlen(string) + 1;

	return memcpy(MemoryContextAlloc(context, size), string, size);
}

void
MemoryContextRegisterResetCallback(MemoryContext context,
								   MemoryContextCallback *callback)
{
	callback->next = context_of(context)->callbacks;
	context_of(context)->callbacks = callback;
}

void
MemoryContextReset(MemoryContext context)
{
	reset(context_of(context));
}

void
MemoryContextDelete(MemoryContext context)
{
	Context    *gone = context_of(context);
	Context   **link = &contexts;

	if (gone == &top || context == CurrentMemoryContext)
		abort();
	reset(gone);
	while (*link != gone)
		link = &(*link)->next;
	*link = gone->next;
	free(gone);
}

/* ---- errors ---- */

bool
errstart(int level, const char *domain)
{
	memset(&server_error, 0, sizeof(server_error));
	return level >= ERROR;
}

bool
errstart_cold(int level, const char *domain)
{
	return errstart(level, domain);
}

void
errfinish(const char *file, int line, const char *function)
{
	if (server_error.sqlstate == 0 || server_error.message[0] == '\0')
	{
		fprintf(stderr, "%s:%d: an error without SQLSTATE: %s\n", file, line,
				server_error.message);
		abort();
	}
	longjmp(leave, 1);
}

int
errcode(int sqlstate)
{
	server_error.sqlstate = sqlstate;
	return 0;
}

#define KEEP(target) \
	do { \
		va_list		args; \
		va_start(args, format); \
		vsnprintf(target, sizeof(target), format, args); \
		va_end(args); \
	} while (0)

int
errmsg(const char *format,...)
{
	KEEP(server_error.message);
	return 0;
}

int
errmsg_internal(const char *format,...)
{
	KEEP(server_error.message);
	return 0;
}

int
errdetail(const char *format,...)
{
	KEEP(server_error.detail);
	return 0;
}

int
errhint(const char *format,...)
{
	return 0;
}

void
ProcessInterrupts(void)
{
}

/* As in the server, with less room. */
void
check_stack_depth(void)
{
	if (stack_base - (char *) __builtin_frame_address(0) > MOST_STACK)
		ereport(ERROR,
				(errcode(ERRCODE_STATEMENT_TOO_COMPLEX),
				 errmsg("stack depth limit exceeded")));
}

int
GetDatabaseEncoding(void)
{
	return PG_UTF8;
}

bool
server_try(void (*body) (void *argument), void *argument, size_t limit)
{
	allowed = limit;
	stack_base = __builtin_frame_address(0);
	if (setjmp(leave) != 0)
	{
		CurrentMemoryContext = NULL;
		return false;
	}
	body(argument);
	CurrentMemoryContext = NULL;
	return true;
}

/* ---- lists of pointers ---- */

List *
lappend(List *list, void *datum)
{
	int			length = list_length(list);
	List	   *longer = palloc0(offsetof(List, initial_elements) +
								 sizeof(ListCell) * (length + 1));

	longer->type = T_List;
	longer->length = longer->max_length = length + 1;
	longer->elements = longer->initial_elements;
	for (int i = 0; i < length; i++)
		longer->elements[i] = list->elements[i];
	longer->elements[length].ptr_value = datum;
	return longer;
}

/* ---- text ---- */

/* The most bytes of UTF-8 up to the limit that cut no character. */
int
pg_mbcliplen(const char *text, int length, int limit)
{
	if (length <= limit)
		return length;
	while (limit > 0 && (text[limit] & 0xC0) == 0x80)
		limit--;
	return limit;
}

int
varstr_levenshtein_less_equal(const char *source, int source_length,
							  const char *target, int target_length,
							  int insert, int delete, int substitute,
							  int most, bool trusted)
{
	return abs(source_length - target_length);
}

/* Is it UTF-8?  Strict: no overlong forms, no surrogates. */
bool
pg_verify_mbstr(int encoding, const char *text, int length, bool no_error)
{
	const unsigned char *at = (const unsigned char *) text;
	const unsigned char *end = at + length;

	while (at < end)
	{
		int			width = *at < 0x80 ? 1 : *at < 0xE0 ? 2 : *at < 0xF0 ? 3 : 4;

		if (*at == 0 || (*at >= 0x80 && *at < 0xC2) || *at > 0xF4 ||
			end - at < width)
			return false;
		for (int i = 1; i < width; i++)
			if ((at[i] & 0xC0) != 0x80)
				return false;
		if ((at[0] == 0xE0 && at[1] < 0xA0) || (at[0] == 0xED && at[1] > 0x9F) ||
			(at[0] == 0xF0 && at[1] < 0x90) || (at[0] == 0xF4 && at[1] > 0x8F))
			return false;
		at += width;
	}
	return true;
}

/* The database is one of UTF-8. */
char *
pg_any_to_server(const char *text, int length, int encoding)
{
	if (encoding != PG_UTF8)
		abort();
	return unconstify(char *, text);
}

/* A checksum of bytes; not the server's, which nothing here compares. */
static pg_crc32c
checksum(pg_crc32c sum, const void *data, size_t length)
{
	const unsigned char *bytes = data;

	for (size_t i = 0; i < length; i++)
		sum = (sum ^ bytes[i]) * 16777619u;
	return sum;
}

pg_crc32c	(*pg_comp_crc32c) (pg_crc32c, const void *, size_t) = checksum;

#undef qsort
void
pg_qsort(void *base, size_t count, size_t size,
		 int (*compare) (const void *, const void *))
{
	qsort(base, count, size, compare);
}

/* ---- what import.c and core do in the server ---- */

void
core_not_supported(const char *what, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("%s is not supported", what)));
	pg_unreachable();
}

/* Where names.c is not part of the target. */
__attribute__((weak)) char *
core_nearest(const char *wrong, char **names, int count)
{
	return count > 0 ? names[0] : NULL;
}

void
import_damaged(const char *format, const char *where,...)
{
	char		detail[512];
	va_list		args;

	va_start(args, where);
	vsnprintf(detail, sizeof(detail), where, args);
	va_end(args);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("the %s model is damaged", format),
			 errdetail("In it, %s.", detail)));
	pg_unreachable();
}

const char *
import_feature_name(const ImportSource *source, int i, const char *name)
{
	return name != NULL ? name : psprintf("f%d", i);
}

void
import_input_init(const ImportSource *source, int i, const char *name,
				  ProgramInput *input)
{
	ProgramInput initial = PROGRAM_INPUT_INIT;

	*input = initial;
	input->name = import_feature_name(source, i, name);
}

bool
import_wants_raw(const ImportSource *source)
{
	return source->output != NULL;
}

void
import_set_threshold(const ImportSource *source, ModelProgram *program)
{
}

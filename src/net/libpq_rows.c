/*-------------------------------------------------------------------------
 *
 * libpq_rows.c
 *		Statements through libpq, and the rows that they bring.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "core/settings.h"
#include "net/libpq.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define COPY_SIGNATURE 11
#define COPY_HEADER 19

/* ---- statements ---- */

/* Copies a field of the source's error, "" where it has none. */
static void
take_field(char *to, size_t size, const PGresult *result, int code)
{
	const char *value = PQresultErrorField(result, code);

	strlcpy(to, value ? value : "", size);
}

/* Notes the failure of a statement. */
static void
fail_statement(NetDatabaseLink *link)
{
	NetDatabaseFailure *failure = &link->failure;

	libpq_fail(link, NET_DATABASE_FAILED, "");
	take_field(failure->sqlstate, sizeof(failure->sqlstate), link->result,
			   PG_DIAG_SQLSTATE);
	take_field(failure->message, sizeof(failure->message), link->result,
			   PG_DIAG_MESSAGE_PRIMARY);
	take_field(failure->detail, sizeof(failure->detail), link->result,
			   PG_DIAG_MESSAGE_DETAIL);
	/* one that libpq made up itself is about the connection */
	if (failure->sqlstate[0] == '\0')
		libpq_fail(link, NET_DATABASE_LOST, PQerrorMessage(link->conn));
}

/* Waits for bytes of the source, and takes them in. */
static bool
wait_for_input(NetDatabaseLink *link, TimestampTz end)
{
	int			unsent = PQflush(link->conn);

	if (unsent < 0 || PQsocket(link->conn) < 0)
	{
		libpq_fail(link, NET_DATABASE_LOST, PQerrorMessage(link->conn));
		return false;
	}
	if (libpq_ms_until(end) <= 0)
	{
		libpq_fail(link, NET_DATABASE_LOST, "Timeout was reached: nothing came for "
				   "visage.request_timeout");
		return false;
	}
	libpq_wait(PQsocket(link->conn), WL_SOCKET_READABLE |
			   (unsent ? WL_SOCKET_WRITEABLE : 0),
			   libpq_ms_until(end));
	if (!PQconsumeInput(link->conn))
	{
		libpq_fail(link, NET_DATABASE_LOST, PQerrorMessage(link->conn));
		return false;
	}
	return true;
}

static TimestampTz
end_of_silence(const NetDatabaseLink *link)
{
	return TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
									   link->silence_ms);
}

/*
 * The next result into link->result, which is NULL after the last one; false
 * where the connection is lost.
 */
static bool
next_result(NetDatabaseLink *link)
{
	TimestampTz end = end_of_silence(link);

	if (link->result != NULL)
		PQclear(link->result);
	link->result = NULL;
	while (PQisBusy(link->conn))
		if (!wait_for_input(link, end))
			return false;
	link->result = PQgetResult(link->conn);
	return true;
}

/* Takes what comes until nothing more does; the failure stays. */
static void
drain(NetDatabaseLink *link)
{
	NetDatabaseFailure failure = link->failure;

	while (link->result != NULL &&
		   PQresultStatus(link->result) != PGRES_COPY_OUT &&
		   next_result(link))
		continue;
	link->failure = failure;
}

static bool
send_statement(NetDatabaseLink *link, const char *sql)
{
	if (PQsendQuery(link->conn, sql))
		return true;
	libpq_fail(link, NET_DATABASE_LOST, PQerrorMessage(link->conn));
	return false;
}

static char *
copy_text(const char *text)
{
	return text ? pstrdup(text) : NULL;
}

/* The rows of link->result in the current memory context. */
static NetDatabaseResult *
copy_result(const NetDatabaseLink *link)
{
	const PGresult *from = link->result;
	NetDatabaseResult *result = palloc0(sizeof(NetDatabaseResult));
	int			columns = PQnfields(from);
	int			rows = PQntuples(from);

	result->columns = columns;
	result->rows = rows;
	result->names = palloc(sizeof(char *) * Max(columns, 1));
	result->types = palloc(sizeof(Oid) * Max(columns, 1));
	result->typmods = palloc(sizeof(int) * Max(columns, 1));
	result->values = palloc_extended(sizeof(char *) *
									 Max((Size) columns * rows, 1),
									 MCXT_ALLOC_HUGE);
	for (int c = 0; c < columns; c++)
	{
		result->names[c] = copy_text(PQfname(from, c));
		result->types[c] = PQftype(from, c);
		result->typmods[c] = PQfmod(from, c);
		for (int r = 0; r < rows; r++)
			result->values[(Size) r * columns + c] =
				PQgetisnull(from, r, c) ? NULL :
				copy_text(PQgetvalue(from, r, c));
	}
	return result;
}

NetDatabaseResult *
libpq_query(NetDatabaseLink *link, const char *sql)
{
	NetDatabaseResult *result = palloc0(sizeof(NetDatabaseResult));

	if (!send_statement(link, sql))
		return NULL;
	while (next_result(link))
	{
		if (link->result == NULL)
			return result;
		switch (PQresultStatus(link->result))
		{
			case PGRES_TUPLES_OK:
				result = copy_result(link);
				break;
			case PGRES_COMMAND_OK:
			case PGRES_EMPTY_QUERY:
				break;
			default:
				fail_statement(link);
				drain(link);
				return NULL;
		}
	}
	return NULL;
}

/* ---- COPY ---- */

bool
libpq_begin_copy(NetDatabaseLink *link, const char *sql)
{
	if (!send_statement(link, sql) || !next_result(link))
		return false;
	link->at_start = true;
	link->at_end = false;
	if (link->result != NULL &&
		PQresultStatus(link->result) == PGRES_COPY_OUT)
		return true;
	if (link->result != NULL && PQresultStatus(link->result) ==
		PGRES_FATAL_ERROR)
		fail_statement(link);
	else
		libpq_fail(link, NET_DATABASE_LOST, "the source began no COPY");
	drain(link);
	return false;
}

/* Makes room for a row more. */
static void
widen_page(NetDatabasePage *page, size_t more)
{
	size_t		needed = page->length + more + 1;

	if (needed > page->allocated)
	{
		page->allocated = Max(needed, page->allocated * 3 / 2);
		page->data = page->data ?
			repalloc_huge(page->data, page->allocated) :
			MemoryContextAllocHuge(page->context, page->allocated);
	}
	if (page->count + 2 > page->starts_allocated)
	{
		page->starts_allocated = Max(1024, page->starts_allocated * 2);
		page->starts = page->starts ?
			repalloc_huge(page->starts,
						  sizeof(size_t) * page->starts_allocated) :
			MemoryContextAllocHuge(page->context, sizeof(size_t) *
								   page->starts_allocated);
		page->starts[page->count] = page->length;
	}
}

/*
 * One message of COPY: a row, the first one behind the header, or the mark of
 * the end, which has no row.  False where it is none of these.
 */
static bool
take_message(NetDatabaseLink *link, NetDatabasePage *page,
			 const char *message, size_t length)
{
	static const char end_mark[2] = {'\xff', '\xff'};

	if (link->at_start)
	{
		if (length < COPY_HEADER ||
			memcmp(message, "PGCOPY\n\377\r\n\0", COPY_SIGNATURE) != 0 ||
			memcmp(message + COPY_SIGNATURE, "\0\0\0\0\0\0\0\0", 8) != 0)
			return false;
		message += COPY_HEADER;
		length -= COPY_HEADER;
		link->at_start = false;
	}
	if (length == 0 ||
		(length == 2 && memcmp(message, end_mark, 2) == 0))
		return true;
	memcpy(page->data + page->length, message, length);
	page->starts[page->count++] = page->length;
	page->length += length;
	page->starts[page->count] = page->length;
	return true;
}

/*
 * The next message of the COPY into link->message, which a reset frees, with
 * its length; 0: no more without waiting, -1: the end, -2: a failure.
 */
static int
next_message(NetDatabaseLink *link)
{
	int			length;

	if (link->message != NULL)
		PQfreemem(link->message);
	link->message = NULL;
	if (link->at_end)
		return -1;
	length = PQgetCopyData(link->conn, &link->message, 1);
	link->at_end = length == -1;
	if (length == -2)
		libpq_fail(link, NET_DATABASE_LOST, PQerrorMessage(link->conn));
	if (length > 0 && (size_t) length > link->max_row)
	{
		libpq_fail(link, NET_DATABASE_TOO_LARGE,
				   "a row is larger than visage.max_record");
		return -2;
	}
	return length;
}

/* What is there of the COPY, as far as it is wanted. */
static NetDatabaseRead
take_rows(NetDatabaseLink *link, NetDatabasePage *page, size_t wanted)
{
	while (page->length < wanted)
	{
		int			length = next_message(link);

		if (length == 0)
			return NET_READ_WAITING;
		if (length < 0)
			return length == -1 ? NET_READ_END : NET_READ_FAILED;
		widen_page(page, length);
		if (!take_message(link, page, link->message, length))
		{
			libpq_fail(link, NET_DATABASE_LOST,
					   "what came is not PostgreSQL's binary COPY");
			return NET_READ_FAILED;
		}
	}
	return NET_READ_FULL;
}

/* The COPY has come to an end: was it a good one? */
static NetDatabaseRead
end_copy(NetDatabaseLink *link)
{
	NetDatabaseRead state = NET_READ_FAILED;

	if (!next_result(link))
		return NET_READ_FAILED;
	if (link->result != NULL &&
		PQresultStatus(link->result) == PGRES_COMMAND_OK)
		state = NET_READ_END;
	else if (link->result != NULL)
		fail_statement(link);
	else
		libpq_fail(link, NET_DATABASE_LOST, "the source ended its COPY early");
	drain(link);
	return state;
}

/*
 * Appends rows to the page until it has so many bytes.  Without waiting it
 * takes what is there.
 */
NetDatabaseRead
libpq_read_copy(NetDatabaseLink *link, NetDatabasePage *page, size_t wanted,
				bool wait)
{
	TimestampTz end = wait ? end_of_silence(link) : 0;
	bool		fresh = false;

	for (;;)
	{
		NetDatabaseRead state = take_rows(link, page, wanted);

		if (state == NET_READ_FULL)
			return state;
		if (state == NET_READ_END)
			/* waits for the end of the statement */
			return wait ? end_copy(link) : NET_READ_WAITING;
		if (state == NET_READ_FAILED)
			return state;
		if (!wait)
		{
			if (fresh || !PQconsumeInput(link->conn))
				return NET_READ_WAITING;
			fresh = true;
			continue;
		}
		if (!wait_for_input(link, end))
			return NET_READ_FAILED;
		end = end_of_silence(link);
	}
}

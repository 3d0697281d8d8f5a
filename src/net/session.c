/*-------------------------------------------------------------------------
 *
 * session.c
 *		Drives transfers, waiting on latch and sockets.
 *
 * libcurl tells which sockets and which timer to wait for; the server's
 * wait event sets do the waiting, so that a cancel or a shutdown wakes it.
 * All signals are blocked while libcurl runs, because it may start a thread
 * (name resolution) and a thread must never run the server's handlers.
 * Nothing in a callback of libcurl allocates in the server or raises.
 *
 * Interrupts are checked between calls of libcurl only, where an ERROR may
 * leave: the session belongs to a memory context, whose reset frees it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "core/core.h"
#include "core/settings.h"
#include "miscadmin.h"
#include "net/transfer.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define LONGEST_WAIT_MS 1000

/* Blocks every signal, and tells what was blocked before. */
void
net_block_signals(sigset_t *saved)
{
	sigset_t	all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, saved);
}

void
net_restore_signals(const sigset_t *saved)
{
	sigprocmask(SIG_SETMASK, saved, NULL);
}

/* CURLMOPT_SOCKETFUNCTION: remembers what to wait for. */
static int
socket_changed(CURL *easy, curl_socket_t fd, int what, void *arg, void *unused)
{
	NetSession *session = arg;
	int			i = 0;

	while (i < session->socket_count && session->sockets[i].fd != fd)
		i++;
	if (what == CURL_POLL_REMOVE)
	{
		if (i < session->socket_count)
			session->sockets[i] = session->sockets[--session->socket_count];
		return 0;
	}
	if (i == NET_MAX_SOCKETS)
		return -1;
	if (i == session->socket_count)
		session->socket_count++;
	session->sockets[i].fd = fd;
	session->sockets[i].what = what;
	return 0;
}

/* CURLMOPT_TIMERFUNCTION: remembers when libcurl wants to be called. */
static int
timer_changed(CURLM *multi, long milliseconds, void *arg)
{
	NetSession *session = arg;

	session->timer_set = milliseconds >= 0;
	session->timer_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													Max(milliseconds, 0));
	return 0;
}

/* Reset callback of the session's memory context. */
static void
close_session(void *arg)
{
	NetSession *session = arg;
	sigset_t	saved;

	net_block_signals(&saved);
	while (!dlist_is_empty(&session->transfers))
		net_destroy(dlist_container(NetTransfer, node,
									dlist_head_node(&session->transfers)));
	if (session->multi != NULL)
		curl_multi_cleanup(session->multi);
	net_restore_signals(&saved);
}

/* Opens a session that lives as long as the memory context. */
NetSession *
net_open(MemoryContext context, const NetLimits *limits)
{
	NetSession *session = MemoryContextAllocZero(context, sizeof(NetSession));
	sigset_t	saved;

	session->context = context;
	dlist_init(&session->transfers);
	session->allowed =
		MemoryContextStrdup(context, core_setting("visage.allowed_hosts"));
	session->limits = *limits;
	session->body_limit = (size_t) core_setting_int("visage.max_body") * 1024;
	session->idle_limit_ms = core_setting_int("visage.idle_timeout") * 1000;
	session->cleanup.func = close_session;
	session->cleanup.arg = session;
	MemoryContextRegisterResetCallback(context, &session->cleanup);

	net_block_signals(&saved);
	curl_global_init(CURL_GLOBAL_DEFAULT);
	session->multi = curl_multi_init();
	if (session->multi != NULL)
	{
		curl_multi_setopt(session->multi, CURLMOPT_SOCKETFUNCTION,
						  socket_changed);
		curl_multi_setopt(session->multi, CURLMOPT_SOCKETDATA, session);
		curl_multi_setopt(session->multi, CURLMOPT_TIMERFUNCTION,
						  timer_changed);
		curl_multi_setopt(session->multi, CURLMOPT_TIMERDATA, session);
	}
	net_restore_signals(&saved);
	if (session->multi == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("could not start an HTTP session")));
	return session;
}

static uint32
wait_event(void)
{
	static uint32 event = 0;

	if (event == 0)
		event = core_compat_wait_event("VisageHttp");
	return event;
}

/*
 * Begins the transfers whose time has come and that their host admits.
 * Returns how long, in milliseconds, until the next may begin.
 */
static long
begin_transfers(NetSession *session)
{
	TimestampTz now = GetCurrentTimestamp();
	long		wait = LONGEST_WAIT_MS;
	dlist_iter	iter;

	dlist_foreach(iter, &session->transfers)
	{
		NetTransfer *transfer = dlist_container(NetTransfer, node, iter.cur);
		int64		rest;

		if (transfer->state != TRANSFER_WAITING)
			continue;
		rest = (transfer->not_before - now + 999) / 1000;
		if (rest <= 0)
			rest = net_admit(transfer);
		if (transfer->state == TRANSFER_WAITING && rest <= 0)
			net_begin_hop(transfer);
		else
			wait = Min(wait, Max(rest, 1));
	}
	return wait;
}

/* How long may the next wait be? */
static long
wait_milliseconds(const NetSession *session, long wait)
{
	if (session->timer_set)
		wait = Min(wait,
				   TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
												   session->timer_at));
	return wait;
}

/*
 * Waits for the latch, a socket or the timer.  The set is made anew each
 * time, since libcurl closes sockets as it likes.
 */
static int
wait_for_events(NetSession *session, WaitEvent *events, long wait)
{
	WaitEventSet *set;
	int			count;

	InvalidateCatalogSnapshot();
	set = core_compat_create_wait_set(CurrentMemoryContext,
									  NET_MAX_SOCKETS + 2);
	AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	for (int i = 0; i < session->socket_count; i++)
	{
		int			what = session->sockets[i].what;
		uint32		flags = 0;

		if (what == CURL_POLL_IN || what == CURL_POLL_INOUT)
			flags |= WL_SOCKET_READABLE;
		if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT)
			flags |= WL_SOCKET_WRITEABLE;
		if (flags)
			AddWaitEventToSet(set, flags, session->sockets[i].fd, NULL, NULL);
	}
	count = WaitEventSetWait(set, wait_milliseconds(session, wait), events,
							 NET_MAX_SOCKETS + 2, wait_event());
	FreeWaitEventSet(set);
	return count;
}

/* Takes the transfers that libcurl has finished. */
static void
collect_finished(NetSession *session)
{
	CURLMsg    *message;
	int			queued;

	while ((message = curl_multi_info_read(session->multi, &queued)) != NULL)
	{
		NetTransfer *transfer;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
		net_finish_hop(transfer, message->data.result);
	}
}

/* Tells libcurl what happened; signals are blocked meanwhile. */
static void
drive(NetSession *session, const WaitEvent *events, int count)
{
	sigset_t	saved;
	int			running;

	net_block_signals(&saved);
	for (int i = 0; i < count; i++)
	{
		int			what = 0;

		if (events[i].events & WL_SOCKET_READABLE)
			what |= CURL_CSELECT_IN;
		if (events[i].events & WL_SOCKET_WRITEABLE)
			what |= CURL_CSELECT_OUT;
		if (what)
			curl_multi_socket_action(session->multi, events[i].fd, what,
									 &running);
	}
	if (session->timer_set && session->timer_at <= GetCurrentTimestamp())
	{
		session->timer_set = false;
		curl_multi_socket_action(session->multi, CURL_SOCKET_TIMEOUT, 0,
								 &running);
	}
	net_restore_signals(&saved);
	collect_finished(session);
}

/* Gives up the transfers that have brought nothing for too long. */
static void
end_idle(NetSession *session, TimestampTz since)
{
	int64		waited = (GetCurrentTimestamp() - since) / 1000;
	dlist_iter	iter;

	dlist_foreach(iter, &session->transfers)
	{
		NetTransfer *transfer = dlist_container(NetTransfer, node, iter.cur);

		if (transfer->state != TRANSFER_RUNNING || transfer->paused)
			continue;
		transfer->idle_ms += waited;
		if (transfer->idle_ms > session->idle_limit_ms)
			net_fail(transfer, NET_FAILED,
					 "Timeout was reached: nothing came for "
					 "visage.idle_timeout");
	}
}

/* Is there something for the caller to do with this transfer? */
static bool
is_ready(const NetTransfer *transfer)
{
	return transfer->state == TRANSFER_DONE || transfer->paused;
}

/*
 * Waits until the transfer is done, or its buffer is full; true where it is
 * done.  The session's other transfers go on meanwhile.
 */
bool
net_wait(NetTransfer *transfer)
{
	NetSession *session = transfer->session;
	WaitEvent	events[NET_MAX_SOCKETS + 2];

	while (!is_ready(transfer))
	{
		TimestampTz before;
		long		wait;
		int			count;

		CHECK_FOR_INTERRUPTS();
		wait = begin_transfers(session);
		drive(session, NULL, 0);
		if (is_ready(transfer))
			break;
		before = GetCurrentTimestamp();
		count = wait_for_events(session, events, wait);
		end_idle(session, before);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		drive(session, events, count);
	}
	return transfer->state == TRANSFER_DONE;
}

/* Lets what can move without waiting move: sends requests that wait. */
void
net_kick(NetSession *session)
{
	(void) begin_transfers(session);
	drive(session, NULL, 0);
}

/*-------------------------------------------------------------------------
 *
 * budget.c
 *		What a host may be asked, by all sessions of the server together.
 *
 * Three limits, each a reason to wait and none an error: so many requests a
 * period, so many under way, and the breaker.
 *
 * The rate: with N requests a period P, b = max(1, N/4) may go at once and
 * the others at an even distance of P / (N - b), so that no stretch of
 * length P ever holds more than N.  next_at is the virtual schedule's next
 * instant (the generic cell rate algorithm, ITU-T I.371).
 *
 * The breaker opens after visage.breaker_failures failures in a row, for
 * visage.breaker_pause; then one request tries.  If it fails the pause
 * doubles, up to visage.max_retry_wait.
 *
 * The state is in shared memory where visage.so was preloaded, and of this
 * session alone otherwise; visage.breakers tells which.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "core/core.h"
#include "core/settings.h"
#include "core/shared.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "net/budget.h"
#include "net/transfer.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#define FULL_WAIT_MS 20			/* until asking again whether there is room */

/* The requests of this session that are under way, by host. */
static struct
{
	int			host;
	int			count;
}			mine[CORE_MAX_HOSTS];
static int	mine_count;

static CoreSharedHosts *
table(void)
{
	static CoreSharedHosts *hosts;

	if (hosts == NULL)
		hosts = *find_rendezvous_variable(CORE_SHARED_HOSTS);
	if (hosts == NULL)
		hosts = MemoryContextAllocZero(TopMemoryContext,
									   sizeof(CoreSharedHosts));
	return hosts;
}

static void
lock(LWLockMode mode)
{
	if (table()->lock != NULL)
		LWLockAcquire(table()->lock, mode);
}

static void
unlock(void)
{
	if (table()->lock != NULL)
		LWLockRelease(table()->lock);
}

/* The host's entry; a new one takes the place that is unused the longest. */
static CoreHostState *
find_host(const NetGuard *guard)
{
	CoreSharedHosts *hosts = table();
	char		name[sizeof(hosts->hosts[0].name)];
	CoreHostState *oldest = &hosts->hosts[0];

	snprintf(name, sizeof(name), "%s:%d", guard->host, guard->port);
	for (int i = 0; i < CORE_MAX_HOSTS; i++)
	{
		CoreHostState *host = &hosts->hosts[i];

		if (strcmp(host->name, name) == 0)
			return host;
		if (host->in_flight == 0 &&
			(oldest->in_flight > 0 || host->touched < oldest->touched))
			oldest = host;
	}
	memset(oldest, 0, sizeof(CoreHostState));
	strlcpy(oldest->name, name, sizeof(oldest->name));
	return oldest;
}

/* ---- requests under way ---- */

/* before_shmem_exit: a session that ends has none. */
static void
release_all(int code, Datum arg)
{
	lock(LW_EXCLUSIVE);
	for (int i = 0; i < mine_count; i++)
	{
		CoreHostState *host = &table()->hosts[mine[i].host];

		host->in_flight -= mine[i].count;
		if (host->prober == MyProcPid)
			host->prober = 0;
	}
	mine_count = 0;
	unlock();
}

static void
count_mine(int host, int change)
{
	static bool registered = false;
	int			i = 0;

	if (!registered)
		before_shmem_exit(release_all, (Datum) 0);
	registered = true;
	while (i < mine_count && mine[i].host != host)
		i++;
	if (i == mine_count)
	{
		mine[i].host = host;
		mine[i].count = 0;
		mine_count++;
	}
	mine[i].count += change;
	if (mine[i].count == 0)
		mine[i] = mine[--mine_count];
}

/* Counts a request as under way; the caller holds the lock. */
static void
enter(CoreHostState *host, bool *probing)
{
	*probing = host->breaker == CORE_BREAKER_HALF_OPEN;
	if (*probing)
		host->prober = MyProcPid;
	host->in_flight++;
	count_mine(host - table()->hosts, 1);
}

/* It no longer is; the caller holds the lock. */
static void
leave(CoreHostState *host, bool *probing)
{
	if (*probing)
		host->prober = 0;
	*probing = false;
	host->in_flight = Max(host->in_flight - 1, 0);
	count_mine(host - table()->hosts, -1);
}

/* ---- admission ---- */

/* Milliseconds until the breaker lets a request through, 0: now. */
static int64
wait_for_breaker(CoreHostState *host, TimestampTz now)
{
	if (host->breaker == CORE_BREAKER_OPEN && now < host->retry_at)
		return (host->retry_at - now) / 1000 + 1;
	if (host->breaker == CORE_BREAKER_CLOSED)
		return 0;
	host->breaker = CORE_BREAKER_HALF_OPEN;
	return host->prober != 0 ? FULL_WAIT_MS : 0;
}

/* Milliseconds until the rate admits a request, 0: now, and it is counted. */
static int64
wait_for_rate(CoreHostState *host, const NetLimits *limits, TimestampTz now)
{
	int			burst = Max(1, limits->requests / 4);
	int64		distance;
	TimestampTz allowed_from;

	if (limits->requests <= 0 || limits->per_ms <= 0)
		return 0;
	distance = limits->per_ms * 1000 / Max(1, limits->requests - burst);
	if (host->next_at < now)
		host->next_at = now;
	allowed_from = host->next_at - distance * (burst - 1);
	if (allowed_from > now)
		return (allowed_from - now) / 1000 + 1;
	host->next_at += distance;
	return 0;
}

/*
 * Milliseconds until the transfer may begin; 0: now, and it counts as under
 * way.  Where the breaker stays open for longer than a run may wait, the
 * transfer fails.
 */
int64
net_admit(NetTransfer *transfer)
{
	const NetLimits *limits = &transfer->session->limits;
	TimestampTz now = GetCurrentTimestamp();
	CoreHostState *host;
	int64		wait;
	bool		hopeless;

	lock(LW_EXCLUSIVE);
	host = find_host(&transfer->first);
	host->touched = now;
	wait = wait_for_breaker(host, now);
	hopeless = wait > core_setting_int("visage.max_retry_wait") * 1000;
	if (wait == 0 && limits->concurrent > 0 &&
		host->in_flight >= limits->concurrent)
		wait = FULL_WAIT_MS;
	if (wait == 0)
		wait = wait_for_rate(host, limits, now);
	if (wait == 0)
	{
		enter(host, &transfer->probing);
		transfer->admitted = true;
	}
	unlock();
	if (hopeless)
		net_fail(transfer, NET_UNUSABLE, "the host's breaker is open for "
				 "longer than setting visage.max_retry_wait");
	return wait;
}

/* Where a header says that nothing is left, the others wait a period. */
void
net_take_remaining(NetTransfer *transfer)
{
	const NetLimits *limits = &transfer->session->limits;
	const char *left = limits->remaining_header ?
	net_header(transfer, limits->remaining_header) : NULL;
	CoreHostState *host;

	if (left == NULL || strtoll(left, NULL, 10) > 0 || limits->per_ms <= 0)
		return;
	lock(LW_EXCLUSIVE);
	host = find_host(&transfer->first);
	host->next_at = Max(host->next_at,
						TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													limits->per_ms));
	unlock();
}

/* ---- the breaker ---- */

static void
open_breaker(CoreHostState *host, TimestampTz now)
{
	int64		longest = core_setting_int("visage.max_retry_wait") * 1000;
	int64		pause = core_setting_int("visage.breaker_pause");

	if (host->breaker == CORE_BREAKER_HALF_OPEN)
		pause = Min(host->pause_ms * 2, Max(longest, pause));
	if (host->breaker == CORE_BREAKER_OPEN)
		return;
	host->breaker = CORE_BREAKER_OPEN;
	host->pause_ms = pause;
	host->opened_at = now;
	host->retry_at = TimestampTzPlusMilliseconds(now, pause);
}

/* Counts a success (error NULL) or a failure; the caller holds the lock. */
static void
count_outcome(CoreHostState *host, const char *error)
{
	int64		threshold = core_setting_int("visage.breaker_failures");

	if (error == NULL)
	{
		host->failures = 0;
		host->breaker = CORE_BREAKER_CLOSED;
		return;
	}
	host->failures++;
	strlcpy(host->last_error, error, sizeof(host->last_error));
	if (threshold > 0 && (host->failures >= threshold ||
						  host->breaker == CORE_BREAKER_HALF_OPEN))
		open_breaker(host, GetCurrentTimestamp());
}

/*
 * The transfer is no longer under way.  Its outcome counts in the same
 * moment: between the end of a request that tried a half-open host and what
 * it found, another one would try.
 */
void
net_release(NetTransfer *transfer, NetVerdict verdict)
{
	CoreHostState *host;
	char		status[32];

	if (!transfer->admitted)
		return;
	snprintf(status, sizeof(status), "status %d", transfer->status);
	lock(LW_EXCLUSIVE);
	host = find_host(&transfer->first);
	leave(host, &transfer->probing);
	transfer->admitted = false;
	if (verdict != NET_NO_VERDICT)
		count_outcome(host, verdict == NET_SUCCESS ? NULL :
					  transfer->outcome == NET_ANSWERED ? status :
					  transfer->reason);
	unlock();
}

/* ---- hosts that are not called by HTTP ---- */

/* The host's entry; the caller holds the lock. */
static CoreHostState *
named_host(const NetHostCall *call)
{
	NetGuard	guard = {.port = call->port};

	strlcpy(guard.host, call->name, sizeof(guard.host));
	return find_host(&guard);
}

/*
 * Milliseconds until the host's breaker lets a connection through; 0: now,
 * and it counts as under way until net_host_release.
 */
int64
net_host_admit(NetHostCall *call)
{
	TimestampTz now = GetCurrentTimestamp();
	CoreHostState *host;
	int64		wait;

	lock(LW_EXCLUSIVE);
	host = named_host(call);
	host->touched = now;
	wait = wait_for_breaker(host, now);
	if (wait == 0)
		enter(host, &call->probing);
	unlock();
	return wait;
}

/* The connection is made, or is not; error says why. */
void
net_host_release(NetHostCall *call, NetVerdict verdict, const char *error)
{
	CoreHostState *host;

	lock(LW_EXCLUSIVE);
	host = named_host(call);
	leave(host, &call->probing);
	if (verdict != NET_NO_VERDICT)
		count_outcome(host, verdict == NET_SUCCESS ? NULL : error);
	unlock();
}

/* The row of visage.breakers for a host. */
static void
put_breaker(ReturnSetInfo *rsinfo, const CoreHostState *host, bool shared)
{
	static const char *const states[] = {"closed", "open", "half_open"};
	CoreBreakerState state = host->breaker;
	Datum		values[8];
	bool		nulls[8] = {false};

	values[0] = CStringGetTextDatum(host->name);
	values[1] = CStringGetTextDatum(states[state]);
	values[2] = Int32GetDatum(host->failures);
	values[3] = TimestampTzGetDatum(host->opened_at);
	values[4] = TimestampTzGetDatum(host->retry_at);
	values[5] = CStringGetTextDatum(host->last_error);
	values[6] = Int32GetDatum(host->in_flight);
	values[7] = CStringGetTextDatum(shared ? "server" : "session");
	nulls[3] = nulls[4] = state == CORE_BREAKER_CLOSED;
	nulls[5] = host->last_error[0] == '\0';
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

PG_FUNCTION_INFO_V1(visage_breaker_states);
Datum
visage_breaker_states(PG_FUNCTION_ARGS)
{
	CoreSharedHosts *copy = palloc(sizeof(CoreSharedHosts));

	InitMaterializedSRF(fcinfo, 0);
	lock(LW_SHARED);
	memcpy(copy, table(), sizeof(CoreSharedHosts));
	unlock();
	for (int i = 0; i < CORE_MAX_HOSTS; i++)
		if (copy->hosts[i].name[0] != '\0')
			put_breaker((ReturnSetInfo *) fcinfo->resultinfo, &copy->hosts[i],
						copy->lock != NULL);
	return (Datum) 0;
}

/*-------------------------------------------------------------------------
 *
 * settings.c
 *		The settings of Visage, sorted by name.
 *
 * Those that reach files, hosts or secrets are the superuser's.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "core/hosts.h"
#include "core/settings.h"
#include "utils/guc.h"

static char *adoption_directory;
static char *allowed_hosts;
static bool batch_scoring;
static int	breaker_failures;
static int	breaker_pause;
static int	connect_timeout;
static bool enabled;
static int	explain_top;
static int	idle_timeout;
static int	ingest_memory;
static int	instructions;
static int	launcher_pause;
static int	max_body;
static int	max_lock_wait;
static int	max_record;
static int	max_retries;
static int	max_retry_wait;
static int	max_rewrite;
static int	merge_memory;
static int	model_cache;
static int	prefetch;
static int	request_timeout;
static int	retry_delay;
static char *schema_prefix;
static int	score_batch;
static char *secret_key_file;
static char *secrets_directory;
static char *ssl_ca_file;
static int	stream_pause;
static int	train_memory;

/* Their names are what the room of models asks for. */
static const struct config_enum_entry instructions_names[] = {
	{"best", 0, false},
	{"avx2", 1, false},
	{"plain", 2, false},
	{NULL, 0, false}
};

/* Refuses a list with an entry that is no host, address or block. */
static bool
check_allowed_hosts(char **newval, void **extra, GucSource source)
{
	const char *rest = *newval;
	CoreHost	host;
	bool		valid = true;

	while (core_next_host(&rest, &host, &valid))
		continue;
	if (!valid)
		GUC_check_errdetail("An entry is a host name, an address or a block "
							"in CIDR notation, each with an optional :port.");
	return valid;
}

/* The prefix becomes part of schema names. */
static bool
check_schema_prefix(char **newval, void **extra, GucSource source)
{
	if (strlen(*newval) > 50 || strspn(*newval,
									   "abcdefghijklmnopqrstuvwxyz0123456789_")
		!= strlen(*newval) || strncmp(*newval, "pg_", 3) == 0)
	{
		GUC_check_errdetail("A prefix is up to 50 lower-case letters, digits "
							"and underscores, and does not begin with pg_.");
		return false;
	}
	return true;
}

/* Paths are absolute, or empty. */
static bool
check_path(char **newval, void **extra, GucSource source)
{
	if ((*newval)[0] != '\0' && !is_absolute_path(*newval))
	{
		GUC_check_errdetail("The path must be absolute.");
		return false;
	}
	return true;
}

/* What tells where Visage may read, write and call. */
static void
define_access_settings(void)
{
	DefineCustomStringVariable("visage.adoption_directory",
							   "Sets the directory of the marks of adoption.",
							   "Empty: the parent of the data directory.",
							   &adoption_directory, "", PGC_SUSET,
							   GUC_SUPERUSER_ONLY, check_path, NULL,
							   NULL);
	DefineCustomStringVariable("visage.allowed_hosts",
							   "Lists the hosts that may be called.",
							   "Names, addresses and CIDR blocks, each with "
							   "an optional :port. Empty: none.",
							   &allowed_hosts, "", PGC_SUSET,
							   GUC_SUPERUSER_ONLY, check_allowed_hosts, NULL,
							   NULL);
	DefineCustomBoolVariable("visage.enabled",
							 "Lets Visage ingest, deliver and schedule.",
							 NULL, &enabled, true, PGC_SUSET, 0, NULL, NULL,
							 NULL);
	DefineCustomStringVariable("visage.schema_prefix",
							   "Sets the prefix of the layer schemas.", NULL,
							   &schema_prefix, "", PGC_SUSET, 0,
							   check_schema_prefix, NULL, NULL);
	DefineCustomStringVariable("visage.secret_key_file",
							   "Sets the file with the keys of stored "
							   "secrets.",
							   "Outside the data directory. Empty: no secret "
							   "can be stored.",
							   &secret_key_file, "", PGC_SUSET,
							   GUC_SUPERUSER_ONLY, check_path, NULL,
							   NULL);
	DefineCustomStringVariable("visage.secrets_directory",
							   "Sets the directory of secrets given as "
							   "\"file:name\".",
							   NULL, &secrets_directory, "", PGC_SUSET,
							   GUC_SUPERUSER_ONLY, check_path, NULL,
							   NULL);
	DefineCustomStringVariable("visage.ssl_ca_file",
							   "Sets the file of the authorities that sign "
							   "the certificates of hosts.",
							   "In place of the system's. Empty: those.",
							   &ssl_ca_file, "", PGC_SUSET,
							   GUC_SUPERUSER_ONLY, check_path, NULL,
							   NULL);
}

/* How patient and how large a call may be. */
static void
define_http_settings(void)
{
	DefineCustomIntVariable("visage.breaker_failures",
							"Sets after how many failures in a row a host is "
							"left alone.",
							"0: never.", &breaker_failures, 10, 0, 1000,
							PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("visage.breaker_pause",
							"Sets how long a host is left alone at first.",
							NULL, &breaker_pause, 30000, 1, 3600 * 1000,
							PGC_SUSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("visage.connect_timeout",
							"Sets the time to wait for a connection.", NULL,
							&connect_timeout, 10000, 100, INT_MAX, PGC_USERSET,
							GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("visage.idle_timeout",
							"Sets the time that an answer may bring nothing.",
							NULL, &idle_timeout, 60, 1, 86400, PGC_USERSET,
							GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("visage.max_body",
							"Sets the largest answer, after decompression.",
							NULL, &max_body, 4 * 1024 * 1024, 1, INT_MAX,
							PGC_SUSET, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("visage.max_lock_wait",
							"Sets how long a page waits for locks of its "
							"tables.",
							"Asking again and again, and holding nothing "
							"meanwhile.",
							&max_lock_wait, 60000, 0, INT_MAX, PGC_USERSET,
							GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("visage.max_record",
							"Sets the largest record of an answer.", NULL,
							&max_record, 64 * 1024, 1, 512 * 1024, PGC_SUSET,
							GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("visage.max_retries",
							"Sets how often a failed request is repeated.",
							NULL, &max_retries, 5, 0, 100, PGC_USERSET, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("visage.max_retry_wait",
							"Sets the longest wait before a repetition.",
							NULL, &max_retry_wait, 300, 0, 86400, PGC_USERSET,
							GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("visage.max_rewrite",
							"Sets the largest table that is written again to "
							"widen a column.",
							NULL, &max_rewrite, 1024 * 1024, 0, INT_MAX,
							PGC_USERSET, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("visage.prefetch",
							"Sets how many pages are asked for ahead.",
							"Where pages do not depend on each other.",
							&prefetch, 8, 1, 32, PGC_USERSET, 0, NULL, NULL,
							NULL);
	DefineCustomIntVariable("visage.request_timeout",
							"Sets the time that one answer may take in all.",
							NULL, &request_timeout, 3600, 1, 86400,
							PGC_USERSET, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("visage.retry_delay",
							"Sets the wait before the first repetition.",
							"Each further wait doubles, with jitter.",
							&retry_delay, 1000, 1, 3600 * 1000, PGC_USERSET,
							GUC_UNIT_MS, NULL, NULL, NULL);
}

/* How workers work. */
static void
define_worker_settings(void)
{
	DefineCustomIntVariable("visage.launcher_pause",
							"Sets how often the launcher looks for workers "
							"that are to run and do not.",
							"It looks at once when one has ended.",
							&launcher_pause, 60, 1, 86400, PGC_SIGHUP,
							GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("visage.stream_pause",
							"Sets how long a worker waits between two crawls "
							"of a stream.",
							NULL, &stream_pause, 60, 1, 86400, PGC_SIGHUP,
							GUC_UNIT_S, NULL, NULL, NULL);
}

/* How much memory a call may take. */
static void
define_memory_settings(void)
{
	DefineCustomIntVariable("visage.ingest_memory",
							"Sets the memory for answers that wait to be "
							"read.",
							NULL, &ingest_memory, 16 * 1024, 1024, INT_MAX,
							PGC_USERSET, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("visage.model_cache",
							"Sets the room for the images of models that "
							"all sessions share.",
							"Those used longest ago go first.", &model_cache,
							1024 * 1024, 1, INT_MAX, PGC_SIGHUP, GUC_UNIT_KB,
							NULL, NULL, NULL);
	DefineCustomIntVariable("visage.merge_memory",
							"Sets the memory that a merge may use.", NULL,
							&merge_memory, 256 * 1024, 1024, INT_MAX,
							PGC_USERSET, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("visage.train_memory",
							"Sets the memory that training may use.", NULL,
							&train_memory, 256 * 1024, 1024, INT_MAX,
							PGC_USERSET, GUC_UNIT_KB, NULL, NULL, NULL);
}

/* What models answer. */
static void
define_model_settings(void)
{
	DefineCustomBoolVariable("visage.batch_scoring",
							 "Lets the planner score rows in blocks.",
							 NULL, &batch_scoring, false, PGC_USERSET,
							 GUC_EXPLAIN, NULL, NULL, NULL);
	DefineCustomIntVariable("visage.explain_top",
							"Sets how many features an explanation has.",
							"The largest contributions; 0: all features.",
							&explain_top, 0, 0, INT_MAX, PGC_USERSET, 0, NULL,
							NULL, NULL);
	DefineCustomEnumVariable("visage.instructions",
							 "Sets which instructions of the processor "
							 "scoring may use.",
							 "All give the same bits.",
							 &instructions, 0,
							 instructions_names, PGC_BACKEND, 0, NULL, NULL,
							 NULL);
	DefineCustomIntVariable("visage.score_batch",
							"Sets how many rows visage_score_table commits at a time.",
							"0: all rows, in one transaction.",
							&score_batch, 0, 0, INT_MAX,
							PGC_USERSET, 0, NULL, NULL, NULL);
}

/* Called once, when visage.so is loaded. */
void
core_define_settings(void)
{
	define_access_settings();
	define_http_settings();
	define_worker_settings();
	define_memory_settings();
	define_model_settings();
	MarkGUCPrefixReserved("visage");
}

/*
 * What cppcheck must know of the server to read our sources without its
 * headers: that an ERROR does not return.
 */
#define DEBUG1 14
#define LOG 15
#define INFO 17
#define NOTICE 18
#define WARNING 19
#define ERROR 21
#define FATAL 22
#define PANIC 23
#define ereport(level, ...) do { if ((level) >= ERROR) abort(); } while (0)
#define elog(level, ...) do { if ((level) >= ERROR) abort(); } while (0)
#define PG_FUNCTION_INFO_V1(function)
#define PG_MODULE_MAGIC
#define PG_RE_THROW() abort()
#define INT64_FORMAT "%ld"
#define UINT64_FORMAT "%lu"

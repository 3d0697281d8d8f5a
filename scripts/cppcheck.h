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
#define pg_attribute_printf(format, arguments)
#define pg_attribute_noreturn() __attribute__((noreturn))
#define pg_attribute_always_inline
#define INT64_FORMAT "%ld"
#define UINT64_FORMAT "%lu"
#define foreach(cell, list) \
	for (cell = list_head(list); cell != NULL; cell = lnext(list, cell))
#define forboth(cell1, list1, cell2, list2) \
	for (cell1 = list_head(list1), cell2 = list_head(list2); \
		 cell1 != NULL && cell2 != NULL; \
		 cell1 = lnext(list1, cell1), cell2 = lnext(list2, cell2))
#define foreach_ptr(type, var, list) \
	for (type *var = first(list); var != NULL; var = next(list, var))
#define dlist_foreach(iter, list) \
	for ((iter).cur = head(list); (iter).cur != NULL; (iter).cur = (iter).cur->next)
#define slist_foreach(iter, list) dlist_foreach(iter, list)

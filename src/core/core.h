/*-------------------------------------------------------------------------
 *
 * core.h
 *		What every room of Visage may use.
 *
 * The room core knows the extension itself (its owner, its schemas, its
 * declarations) and nothing of any other room.  It is linked into each of
 * Visage's libraries, so it keeps no state of its own: settings are read by
 * name, everything else is read from the catalog when needed.
 *
 * Rules that callers rely on:
 *	- every function here raises an ERROR with a SQLSTATE or succeeds;
 *	- functions that touch tables run inside a transaction with an open SPI
 *	  connection (core_spi_begin), and leave the user as they found it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_CORE_H
#define VISAGE_CORE_H

#include "postgres.h"

#include "core/compat.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/jsonb.h"

/* ---- the extension and its owner (owner.c) ---- */

typedef struct CoreIdentity
{
	Oid			user;
	int			context;
	int			nest_level;
} CoreIdentity;

extern Oid	core_extension_owner(void);
extern const char *core_extension_schema(void);
extern void core_become_owner(CoreIdentity *saved);
extern void core_become_caller(const CoreIdentity *saved);
extern void core_require_enabled(const char *what);
extern int	core_begin_utc(void);
extern void core_end_utc(int nest_level);

/* ---- rows into a table (insert.c) ---- */

extern void core_insert_slots(Relation relation, TupleTableSlot **slots,
							  int count,
							  struct BulkInsertStateData *bulk,
							  MemoryContext context);

/* ---- statements (spi.c) ---- */

#define CORE_MAX_ARGS 24

typedef struct CoreArgs
{
	int			count;
	Oid			types[CORE_MAX_ARGS];
	Datum		values[CORE_MAX_ARGS];
	char		nulls[CORE_MAX_ARGS];
} CoreArgs;

extern void core_spi_begin(void);
extern void core_spi_end(void);
extern void core_arg(CoreArgs *args, Oid type, Datum value, bool isnull);
extern void core_arg_text(CoreArgs *args, const char *value);
extern void core_arg_int8(CoreArgs *args, int64 value);
extern void core_arg_jsonb(CoreArgs *args, Jsonb *value);
extern void core_arg_text_array(CoreArgs *args, char **values, int count);
extern uint64 core_execute(const char *sql, const CoreArgs *args,
						   int expected);
extern char *core_query_text(const char *sql, const CoreArgs *args,
							 MemoryContext context);
extern int64 core_query_int8(const char *sql, const CoreArgs *args,
							 int64 if_none);
extern char *core_value_text(uint64 row, int column);
extern int64 core_value_int8(uint64 row, int column);

/* ---- names and layers (names.c, layers.c) ---- */

typedef enum CoreLayer
{
	CORE_LAYER_LANDING,
	CORE_LAYER_STAGING,
	CORE_LAYER_HISTORY,
	CORE_LAYER_ENRICHED,
	CORE_LAYER_SERVING
} CoreLayer;

extern void core_check_name(const char *noun, const char *name);
extern void core_check_dataset(const char *dataset, const char *table);
extern char *core_snake_case(const char *name);
extern char *core_nearest(const char *wrong, char **names, int count);
extern const char *core_layer_name(CoreLayer layer);
extern char *core_layer_schema(CoreLayer layer);
extern char *core_qualified(CoreLayer layer, const char *table);
extern char *core_dataset_table(const char *dataset, CoreLayer layer);
extern Oid	core_table_oid(CoreLayer layer, const char *table);
extern Oid	core_own_table(CoreLayer layer, const char *table);
extern void core_register_dataset(CoreLayer layer, const char *table,
								  const char *kind, const char *made_by);
extern void core_drop_dataset(CoreLayer layer, const char *table);
extern void core_grant_made(CoreLayer layer);

/* ---- declarations (declare.c) ---- */

typedef enum CoreDeclared
{
	CORE_DECLARED_NEW,
	CORE_DECLARED_SAME,
	CORE_DECLARED_REPLACED
} CoreDeclared;

typedef struct CoreDeclaration
{
	const char *noun;
	const char *name;
	Jsonb	   *definition;
	const char *const *fixed;	/* keys that replace may not change, or NULL */
	bool		replace;
} CoreDeclaration;

extern char *core_spoken_noun(const char *noun);
extern Jsonb *core_definition(FunctionCallInfo fcinfo);
extern void core_lock_declarations(void);
extern CoreDeclared core_declare(const CoreDeclaration *declaration);
extern Jsonb *core_find_declaration(const char *noun, const char *name,
									bool missing_ok);
extern bool core_is_paused(const char *noun, const char *name);
extern char **core_declared_with(const char *noun, const char *argument,
								 const char *value, int *count);
extern void core_refuse_dependents(const char *noun, const char *name,
								   const char *dependent);
extern void core_forget_declaration(const char *noun, const char *name);

/* ---- changing one (alter.c) ---- */

extern void core_alter(const char *noun, const char *name, Jsonb *changes);

/* ---- jsonb (jsonb.c) ---- */

extern char *core_json_text(Jsonb *object, const char *key);
extern Jsonb *core_json_value(Jsonb *object, const char *key);
extern bool core_json_bool(Jsonb *object, const char *key, bool if_none);
extern char **core_json_text_array(Jsonb *object, const char *key,
								   int *count);
extern char **core_json_keys(Jsonb *object, int *count);
extern void core_check_keys(Jsonb *object, const char *what,
							const char *const *known);
extern Jsonb *core_json_parse(const char *text);
extern Jsonb *core_json_string(const char *text);
extern Jsonb *core_json_object(const char *key, Jsonb *value);
extern Jsonb *core_json_merge_patch(Jsonb *document, Jsonb *patch);
extern void core_check_schema(Jsonb *schema, Jsonb *value, const char *what);

/* ---- what users give (trust.c, names.c) ---- */

extern void core_check_type(const char *column, Oid type);
extern bool core_is_superusers_schema(Oid schema);
extern bool core_is_superusers_table(Oid relation);
extern bool core_is_query(const char *text);

/* ---- errors (error.c, try.c) ---- */

extern ErrorData *core_try(void (*step) (void *arg), void *arg);

extern void core_not_supported(const char *what, const char *hint)
			pg_attribute_noreturn();

#endif							/* VISAGE_CORE_H */

/*-------------------------------------------------------------------------
 *
 * compat.h
 *		What differs between PostgreSQL 15 and 18, and nothing else.
 *
 * This is the only file of Visage that looks at PG_VERSION_NUM.  Each block
 * names the release that brought the change, so that it can go when the
 * floor rises.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_COMPAT_H
#define VISAGE_COMPAT_H

#include "pgstat.h"
#include "storage/latch.h"
#include "utils/wait_event.h"

#if PG_VERSION_NUM < 150000
#error "Visage needs PostgreSQL 15 or later"
#endif

/* 16: varlena macros moved out of postgres.h */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* 16: one function for the privileges of every class of object */
#if PG_VERSION_NUM < 160000
#include "catalog/pg_namespace.h"
#include "utils/acl.h"
#define core_compat_schema_aclcheck(oid, role, mode) \
	pg_namespace_aclcheck(oid, role, mode)
#define core_compat_function_aclcheck(oid, role, mode) \
	pg_proc_aclcheck(oid, role, mode)
#else
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "utils/acl.h"
#define core_compat_schema_aclcheck(oid, role, mode) \
	object_aclcheck(NamespaceRelationId, oid, role, mode)
#define core_compat_function_aclcheck(oid, role, mode) \
	object_aclcheck(ProcedureRelationId, oid, role, mode)
#endif

/* 16: summarizing indexes; which relations a recheck is about */
#if PG_VERSION_NUM < 160000
#define core_compat_insert_index_tuples(info, slot, estate) \
	ExecInsertIndexTuples(info, slot, estate, false, false, NULL, NIL)
#define CORE_COMPAT_EPQ_RELATIONS
#else
#define core_compat_insert_index_tuples(info, slot, estate) \
	ExecInsertIndexTuples(info, slot, estate, false, false, NULL, NIL, false)
#define CORE_COMPAT_EPQ_RELATIONS , NIL
#endif

/* 18: a portal runs once anyhow */
#if PG_VERSION_NUM < 180000
#define core_compat_portal_run(portal, receiver) \
	PortalRun(portal, FETCH_ALL, true, true, receiver, receiver, NULL)
#else
#define core_compat_portal_run(portal, receiver) \
	PortalRun(portal, FETCH_ALL, true, receiver, receiver, NULL)
#endif

/* 18: index scans may count what they do */
#if PG_VERSION_NUM < 180000
#define core_compat_index_beginscan(table, index, snapshot, keys) \
	index_beginscan(table, index, snapshot, keys, 0)
#else
#define core_compat_index_beginscan(table, index, snapshot, keys) \
	index_beginscan(table, index, snapshot, NULL, keys, 0)
#endif

/* 17: extensions name their own wait events */
#if PG_VERSION_NUM < 170000
#define core_compat_wait_event(name) PG_WAIT_EXTENSION
#else
#define core_compat_wait_event(name) WaitEventExtensionNew(name)
#endif

/* 17: a wait event set may have a resource owner; Visage's never does */
#if PG_VERSION_NUM < 170000
#define core_compat_create_wait_set(context, size) \
	CreateWaitEventSet(context, size)
#else
#define core_compat_create_wait_set(context, size) \
	((void) (context), CreateWaitEventSet(NULL, size))
#endif

/* 18: pg_noreturn, in front, takes the place of the attribute */
#if PG_VERSION_NUM >= 180000
#define pg_attribute_noreturn() __attribute__((noreturn))
#endif

/* 16: permissions left the range table; 18: so did what is pruned */
#if PG_VERSION_NUM >= 160000
#include "parser/parse_relation.h"
#endif
#if PG_VERSION_NUM < 160000
#define core_compat_init_range_table(estate, entry) \
	ExecInitRangeTable(estate, list_make1(entry))
#elif PG_VERSION_NUM < 180000
#define core_compat_init_range_table(estate, entry) \
	do { \
		List	   *permissions_ = NIL; \
		addRTEPermissionInfo(&permissions_, entry); \
		ExecInitRangeTable(estate, list_make1(entry), permissions_); \
	} while (0)
#else
#define core_compat_init_range_table(estate, entry) \
	do { \
		List	   *permissions_ = NIL; \
		addRTEPermissionInfo(&permissions_, entry); \
		ExecInitRangeTable(estate, list_make1(entry), permissions_, \
						   bms_make_singleton(1)); \
	} while (0)
#endif

/* 16: a relation's file is a locator, not a node */
#include "utils/rel.h"
#if PG_VERSION_NUM < 160000
typedef RelFileNode CoreCompatFile;
#define core_compat_file(relation) ((relation)->rd_node)
#define core_compat_same_file(a, b) RelFileNodeEquals(a, b)
#else
typedef RelFileLocator CoreCompatFile;
#define core_compat_file(relation) ((relation)->rd_locator)
#define core_compat_same_file(a, b) RelFileLocatorEquals(a, b)
#endif

/* 18: what EXPLAIN offers is in three headers */
#if PG_VERSION_NUM >= 180000
#include "commands/explain_format.h"
#include "commands/explain_state.h"
#else
#include "commands/explain.h"
#endif

/* 18: a module tells its name and version */
#if PG_VERSION_NUM < 180000
#define VISAGE_MODULE_MAGIC(module) PG_MODULE_MAGIC
#else
#define VISAGE_MODULE_MAGIC(module) \
	PG_MODULE_MAGIC_EXT(.name = module, .version = VISAGE_VERSION)
#endif

#endif							/* VISAGE_COMPAT_H */

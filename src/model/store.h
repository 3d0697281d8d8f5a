/*-------------------------------------------------------------------------
 *
 * store.h
 *		Models by name: which version a name means now, and its image.
 *
 * A caller that keeps what it found for later calls keeps the moment, too:
 *
 *		model_moment(&call->moment);
 *		call->entry = model_find(reference, length);
 *		model_pin(call->entry, call->context);
 *
 * and may go on with the entry while model_is_current(&call->moment).
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_STORE_H
#define VISAGE_STORE_H

#include "access/genam.h"
#include "access/htup.h"
#include "access/xact.h"
#include "core/compat.h"
#include "miscadmin.h"
#include "model/image.h"
#include "storage/buf.h"
#include "storage/itemptr.h"
#include "utils/snapmgr.h"
#include "utils/uuid.h"

/* What identifies a stored image: no two rows ever have the same key. */
typedef struct ImageKey
{
	pg_uuid_t	id;
	uint32		checksum;
} ImageKey;

/* A version, mapped into this session; pinned while a query uses it. */
typedef struct ModelEntry
{
	char		model[NAMEDATALEN];
	int32		version;
	const ModelImage *image;
	ImageKey	key;
	size_t		mapped;			/* bytes */
	int			pins;
	uint64		last_used;
	TimestampTz used_by;		/* statement */
	TimestampTz touched;		/* when its file was last marked as used */
	struct ModelBinding *bindings;	/* that nobody has borrowed; of bind.c */
	struct ShapPlan *shap_plans;	/* of ensembles explained; of shap.c */
} ModelEntry;

/* What tells one snapshot from another, and the earlier from the later. */
typedef struct ModelView
{
	TransactionId xmax;
	uint32		running;		/* transactions below xmax that it ignores */
	CommandId	curcid;
} ModelView;

/* All that decides what a name means. */
typedef struct ModelMoment
{
	ModelView	view;
	Oid			user;
	uint64		undone;
} ModelMoment;

/* Counts subtransactions rolled back; of store.c, read for each row. */
extern uint64 model_undone;

static inline ModelView
model_view(Snapshot snapshot)
{
	ModelView	view;

	view.xmax = snapshot->xmax;
	view.running = snapshot->takenDuringRecovery ? snapshot->subxcnt :
		snapshot->xcnt;
	view.curcid = snapshot->curcid;
	return view;
}

static inline bool
model_same_view(const ModelView *a, const ModelView *b)
{
	return a->xmax == b->xmax && a->running == b->running &&
		a->curcid == b->curcid;
}

static inline void
model_moment(ModelMoment *moment)
{
	moment->view = model_view(GetActiveSnapshot());
	moment->user = GetUserId();
	moment->undone = model_undone;
}

/* Does what was found at that moment still hold? */
static inline bool
model_is_current(const ModelMoment *moment)
{
	ModelView	view = model_view(GetActiveSnapshot());

	return model_same_view(&moment->view, &view) &&
		moment->undone == model_undone && GetUserId() == moment->user;
}

/* ---- place.c: rows by their place ---- */

/*
 * A row as one transaction wrote it, by its place: readable without opening
 * its table.
 */
typedef struct ModelPlace
{
	Oid			relation;
	CoreCompatFile file;
	Buffer		buffer;			/* where its page was last */
	ItemPointerData tid;
	TransactionId xmin;
} ModelPlace;

/*
 * The rows that a reference leads to, each with that of its table in
 * pg_class.  Of a reference that names a version there is no alias's row.
 */
typedef struct ModelPlaces
{
	ModelPlace	alias;
	ModelPlace	alias_table;
	ModelPlace	image;
	ModelPlace	image_table;
} ModelPlaces;

struct ModelReference;

extern ModelPlace model_place_of_row(SysScanDesc scan, HeapTuple tuple);
extern HeapTuple model_row_at(const ModelPlace *place,
							  const ModelPlace *table, Snapshot snapshot);
extern bool model_recall_places(const struct ModelReference *reference,
								ModelPlaces *places);
extern void model_share_places(const struct ModelReference *reference,
							   ModelPlaces *places);
extern void model_request_shared_memory(void);

/* ---- lookup.c ---- */

#define MODEL_MAX_REFERENCE 192

/* The tables that tell what references mean. */
typedef struct ModelCatalog
{
	Oid			aliases;
	Oid			images;
} ModelCatalog;

/* The row that an image comes from. */
typedef struct ImageRow
{
	ModelPlace	mark;			/* of the row that tells of it */
	const char *model;
	int32		version;
	ImageKey	key;
	bool		own;			/* written by this transaction */
	struct varlena *image;		/* as stored: perhaps out of line */
} ImageRow;

/*
 * What a reference says: "churn" is the champion, "churn@3" version 3,
 * "churn@challenger" that alias.  The planner, which puts columns in place of
 * a whole row, adds ":version:id" of the version whose columns they are.
 */
typedef struct ModelReference
{
	char		model[NAMEDATALEN];
	char		alias[NAMEDATALEN]; /* empty for a version */
	int32		version;
	int32		planned;		/* version, or 0 */
	pg_uuid_t	planned_id;
} ModelReference;

extern bool model_parse_reference(const char *text, ModelReference *reference);
extern bool model_is_version(const char *text);
extern char *model_planned_reference(const char *reference, size_t length,
									 const ModelEntry *entry);
extern ImageKey model_image_key(HeapTuple tuple);
extern void model_read_catalog(ModelCatalog *catalog);
extern bool model_read_version(const char *model, int32 version,
							   Snapshot snapshot, ImageRow *row);
extern bool model_read_reference(const ModelReference *reference,
								 Snapshot snapshot, ModelCatalog *catalog,
								 ImageRow *row);

/* ---- store.c ---- */

extern ModelEntry *model_find(const char *reference, size_t length);
extern ModelEntry *model_find_quietly(const char *reference, size_t length,
									  bool to_keep);
extern void model_pin(ModelEntry *entry, MemoryContext until_reset);
extern Oid	model_catalog_relation(void);

/* ---- file.c: images as files that all sessions map ---- */

/* How long a file may look unused, in seconds, while it is in use. */
#define MODEL_TOUCH_EVERY 60

extern const ModelImage *model_file_map(const ImageRow *row, size_t *size);
extern void model_file_unmap(const ModelImage *image, size_t size);
extern bool model_file_exists(const ImageKey *key);
extern bool model_file_touch(const ImageKey *key);
extern void model_file_remove(const ImageKey *key);

#endif							/* VISAGE_STORE_H */

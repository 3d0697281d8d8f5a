/*-------------------------------------------------------------------------
 *
 * import_document.h
 *		Reading JSON and UBJSON documents piece by piece.
 *
 * The reader walks over bytes that stay where they are and builds no tree:
 * whoever calls it asks for what has to come next.  Anything else, and
 * anything malformed, is an ERROR (invalid_parameter_value) that says at
 * which byte.  Nothing read from the document makes the reader allocate more
 * than a fixed multiple of the document's own size: a count is believed only
 * when that many elements fit into the bytes that are left.
 *
 * What JSON does not define but writers of models emit (NaN, Infinity and
 * -Infinity as numbers) is read; nothing else is lenient.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_IMPORT_DOCUMENT_H
#define VISAGE_IMPORT_DOCUMENT_H

#include "core/core.h"
#include "lib/stringinfo.h"

/* Objects and arrays inside each other, at most. */
#define MODEL_DOCUMENT_DEPTH 32

typedef enum ModelDocumentKind
{
	MODEL_DOCUMENT_NULL,
	MODEL_DOCUMENT_BOOLEAN,
	MODEL_DOCUMENT_NUMBER,
	MODEL_DOCUMENT_STRING,
	MODEL_DOCUMENT_ARRAY,
	MODEL_DOCUMENT_OBJECT
} ModelDocumentKind;

/* An object or array that is being read. */
typedef struct ModelDocumentLevel
{
	bool		is_object;
	bool		started;		/* an element was read */
	char		type;			/* UBJSON: of all elements, or 0 */
	int64		left;			/* UBJSON: elements to come, or -1 */
} ModelDocumentLevel;

typedef struct ModelDocument
{
	const char *name;			/* of the format, for messages */
	const char *bytes;
	Size		length;
	Size		offset;			/* of the next byte */
	bool		binary;			/* UBJSON */
	int			depth;
	ModelDocumentLevel levels[MODEL_DOCUMENT_DEPTH];
	StringInfoData text;		/* the last key or string */
} ModelDocument;

/* ---- import_document.c ---- */

extern void model_document_init(ModelDocument *document, const char *name,
								const char *bytes, Size length, bool binary);
extern ModelDocumentKind model_document_kind(ModelDocument *document);
extern void model_document_begin(ModelDocument *document, bool is_object);
extern bool model_document_next(ModelDocument *document);
extern double model_document_double(ModelDocument *document);
extern float model_document_float(ModelDocument *document);
extern int64 model_document_integer(ModelDocument *document, int64 low,
									int64 high);
extern bool model_document_boolean(ModelDocument *document);
extern char *model_document_string(ModelDocument *document);
extern char *model_document_name(ModelDocument *document);
extern void model_document_skip(ModelDocument *document);
extern void model_document_finish(ModelDocument *document);
extern float *model_document_floats(ModelDocument *document, int *count);
extern int32 *model_document_integers(ModelDocument *document, int64 low,
									  int64 high, int *count);
extern char *model_document_copy_name(const char *format, const char *text,
									  Size length, Size offset);
extern void *model_document_room(void *array, int count, int *allocated,
								 Size width);
extern void model_document_damaged(ModelDocument *document, const char *what)
			pg_attribute_noreturn();

/* ---- import_json.c and import_ubjson.c: the two notations ---- */

/* A number as it stands in the document. */
typedef struct ModelDocumentNumber
{
	bool		is_integer;
	int64		integer;
	double		real;			/* also of an integer */
	float		single;			/* rounded once */
} ModelDocumentNumber;

extern ModelDocumentKind model_json_kind(ModelDocument *document);
extern void model_json_begin(ModelDocument *document, bool is_object);
extern bool model_json_next(ModelDocument *document);
extern void model_json_number(ModelDocument *document,
							  ModelDocumentNumber *number);
extern bool model_json_boolean(ModelDocument *document);
extern void model_json_string(ModelDocument *document);
extern void model_json_skip_scalar(ModelDocument *document);
extern void model_json_finish(ModelDocument *document);

extern ModelDocumentKind model_ubjson_kind(ModelDocument *document);
extern void model_ubjson_begin(ModelDocument *document, bool is_object);
extern bool model_ubjson_next(ModelDocument *document);
extern void model_ubjson_number(ModelDocument *document,
								ModelDocumentNumber *number);
extern bool model_ubjson_boolean(ModelDocument *document);
extern void model_ubjson_string(ModelDocument *document);
extern void model_ubjson_skip_scalar(ModelDocument *document);

#endif							/* VISAGE_IMPORT_DOCUMENT_H */

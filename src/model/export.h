/*-------------------------------------------------------------------------
 *
 * export.h
 *		What the exporters of models offer to export.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_EXPORT_H
#define VISAGE_EXPORT_H

#include "core/core.h"
#include "lib/stringinfo.h"
#include "model/image.h"

extern bytea *export_onnx(const ModelImage *image);
extern bytea *export_pmml(const ModelImage *image);

/* protobuf's wire format: export_protobuf.c */
extern void protobuf_int(StringInfo message, int field, int64 value);
extern void protobuf_float(StringInfo message, int field, float value);
extern void protobuf_bytes(StringInfo message, int field, const void *bytes,
						   int length);
extern void protobuf_text(StringInfo message, int field, const char *text);
extern void protobuf_message(StringInfo message, int field,
							 const StringInfoData *inner);
extern void protobuf_ints(StringInfo message, int field, const int64 *values,
						  int count);
extern void protobuf_floats(StringInfo message, int field,
							const double *values, int count);
extern void protobuf_doubles(StringInfo message, int field,
							 const double *values, int count);

#endif							/* VISAGE_EXPORT_H */

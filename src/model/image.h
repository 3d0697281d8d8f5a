/*-------------------------------------------------------------------------
 *
 * image.h
 *		A model as a flat, immutable block of bytes.
 *
 * Everything is found by offsets from the block's beginning, so it can be
 * stored, copied and mapped anywhere.  It is checked once, when it is
 * loaded; after that scoring trusts it, allocates nothing and cannot fail.
 * This file and image.c know nothing of the server but its basic types.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_IMAGE_H
#define VISAGE_IMAGE_H

#define MODEL_MAGIC 0x47415356	/* "VSAG" */
#define MODEL_FORMAT 1
#define MODEL_BYTE_ORDER 0x0102

typedef enum ModelKind
{
	MODEL_LOGISTIC = 1
} ModelKind;

typedef enum ModelInputKind
{
	MODEL_NUMERIC = 1,
	MODEL_CATEGORY = 2
} ModelInputKind;

typedef struct ModelInput
{
	uint32		kind;
	uint32		name;			/* offset of a NUL-terminated string */
	double		mean;			/* numeric: (x - mean) / scale */
	double		scale;
	int32		weight;			/* numeric: index of the weight; category: of
								 * the first category's */
	int32		missing_weight; /* for a missing value, or -1: no effect */
	uint32		category_count;
	uint32		categories;		/* offset of uint32 offsets of strings, sorted */
} ModelInput;

typedef struct ModelImage
{
	uint32		magic;
	uint16		format;
	uint16		byte_order;
	uint32		size;			/* of the whole block */
	uint32		checksum;		/* CRC-32C of what follows the field */
	uint32		kind;
	uint32		input_count;
	uint32		weight_count;
	uint32		inputs;			/* offset of ModelInput[] */
	uint32		weights;		/* offset of double[] */
	uint32		unused;			/* keeps what follows aligned; zero */
	double		intercept;
} ModelImage;

/* A value for one input. */
typedef struct ModelValue
{
	bool		missing;
	double		number;			/* numeric inputs */
	const char *text;			/* categories: not NUL-terminated */
	size_t		length;
} ModelValue;

static inline const ModelInput *
model_inputs(const ModelImage *image)
{
	return (const ModelInput *) ((const char *) image + image->inputs);
}

static inline const char *
model_string(const ModelImage *image, uint32 offset)
{
	return (const char *) image + offset;
}

extern const char *model_check_image(const ModelImage *image, size_t size);
extern uint32 model_image_checksum(const ModelImage *image);
extern double model_predict(const ModelImage *image, const ModelValue *values);
extern int	model_find_category(const ModelImage *image,
								const ModelInput *input, const char *text,
								size_t length);

#endif							/* VISAGE_IMAGE_H */

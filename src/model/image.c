/*-------------------------------------------------------------------------
 *
 * image.c
 *		Checking an image once, and predicting with it many times.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "model/image.h"
#include "port/pg_crc32c.h"

/* The checksum of all that follows the checksum's field. */
uint32
model_image_checksum(const ModelImage *image)
{
	size_t		start = offsetof(ModelImage, kind);
	pg_crc32c	crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, (const char *) image + start, image->size - start);
	FIN_CRC32C(crc);
	return crc;
}

/* Are count elements of this width at this offset inside the block? */
static bool
inside(const ModelImage *image, uint32 offset, uint64 count, size_t width,
	   size_t align)
{
	return offset % align == 0 && offset <= image->size &&
		count <= (image->size - offset) / width;
}

/* Is there a NUL-terminated string at this offset? */
static bool
string_inside(const ModelImage *image, uint32 offset)
{
	return offset < image->size &&
		memchr(model_string(image, offset), '\0', image->size - offset) != NULL;
}

/* Does a weight's index exist? -1 stands for none. */
static bool
weight_inside(const ModelImage *image, int64 first, int64 count)
{
	return first >= 0 && count >= 0 && first + count <= image->weight_count;
}

/* Is this input sound, with its categories in order? */
static bool
check_input(const ModelImage *image, const ModelInput *input)
{
	const uint32 *categories;

	if (!string_inside(image, input->name) ||
		(input->missing_weight != -1 &&
		 !weight_inside(image, input->missing_weight, 1)))
		return false;
	if (input->kind == MODEL_NUMERIC)
		return weight_inside(image, input->weight, 1) &&
			isfinite(input->mean) && isfinite(input->scale) &&
			input->scale > 0;
	if (input->kind != MODEL_CATEGORY ||
		!inside(image, input->categories, input->category_count,
				sizeof(uint32), sizeof(uint32)) ||
		!weight_inside(image, input->weight, input->category_count))
		return false;
	categories = (const uint32 *) ((const char *) image + input->categories);
	for (uint32 i = 0; i < input->category_count; i++)
		if (!string_inside(image, categories[i]) ||
			(i > 0 && strcmp(model_string(image, categories[i - 1]),
							 model_string(image, categories[i])) >= 0))
			return false;
	return true;
}

/* NULL, or what is wrong with the block. */
const char *
model_check_image(const ModelImage *image, size_t size)
{
	const double *weights;

	if (size < sizeof(ModelImage) || image->magic != MODEL_MAGIC)
		return "it is no model";
	if (image->byte_order != MODEL_BYTE_ORDER)
		return "it was made on a machine of another byte order";
	if (image->format != MODEL_FORMAT)
		return "it has another format";
	if (image->size != size)
		return "it has another length than it says";
	if (model_image_checksum(image) != image->checksum)
		return "its checksum is wrong";
	if (image->kind != MODEL_LOGISTIC ||
		!inside(image, image->inputs, image->input_count, sizeof(ModelInput),
				sizeof(double)) ||
		!inside(image, image->weights, image->weight_count, sizeof(double),
				sizeof(double)) || !isfinite(image->intercept))
		return "its parts do not fit";
	weights = (const double *) ((const char *) image + image->weights);
	for (uint32 i = 0; i < image->weight_count; i++)
		if (!isfinite(weights[i]))
			return "a weight is not finite";
	for (uint32 i = 0; i < image->input_count; i++)
		if (!check_input(image, &model_inputs(image)[i]))
			return "an input is not sound";
	return NULL;
}

/* The index of a category, or -1 for one not seen in training. */
int
model_find_category(const ModelImage *image, const ModelInput *input,
					const char *text, size_t length)
{
	const uint32 *categories =
	(const uint32 *) ((const char *) image + input->categories);
	int			low = 0;
	int			high = (int) input->category_count - 1;

	while (low <= high)
	{
		int			middle = low + (high - low) / 2;
		const char *name = model_string(image, categories[middle]);
		int			order = strncmp(text, name, length);

		if (order == 0 && name[length] != '\0')
			order = -1;
		if (order == 0)
			return middle;
		if (order < 0)
			high = middle - 1;
		else
			low = middle + 1;
	}
	return -1;
}

/* What one input adds to the linear predictor. */
static double
contribution(const ModelImage *image, const ModelInput *input,
			 const ModelValue *value)
{
	const double *weights =
	(const double *) ((const char *) image + image->weights);
	int			category;

	if (value->missing)
		return input->missing_weight < 0 ? 0 : weights[input->missing_weight];
	if (input->kind == MODEL_NUMERIC)
		return weights[input->weight] *
			((value->number - input->mean) / input->scale);
	category = model_find_category(image, input, value->text, value->length);
	return category < 0 ? 0 : weights[input->weight + category];
}

/* The probability of the positive class, for a value an input, in order. */
double
model_predict(const ModelImage *image, const ModelValue *values)
{
	const ModelInput *inputs = model_inputs(image);
	double		sum = image->intercept;

	for (uint32 i = 0; i < image->input_count; i++)
		sum += contribution(image, &inputs[i], &values[i]);
	if (sum >= 0)
		return 1 / (1 + exp(-sum));
	return exp(sum) / (1 + exp(sum));
}

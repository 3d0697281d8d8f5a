/*-------------------------------------------------------------------------
 *
 * model.c
 *		A fuzz target: an importer of models, and the scorer behind it.
 *
 * Compiled with -DIMPORT=import_xgboost and the like.  Whatever the bytes
 * are, the importer ends in an ERROR or in an image that passes the check,
 * and that image can be scored, a row and a block at a time, to the same
 * bits.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "model/import.h"
#include "model/kernel.h"
#include "server.h"

/* Bytes that may be allocated for each byte of a model, and in any case. */
#define PER_BYTE 512
#define AT_LEAST ((size_t) 64 << 20)

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct Run
{
	const uint8_t *data;
	size_t		size;
} Run;

/* A value for a slot: the usual ones, and those that break things. */
static double
value_for(uint32 slot, int row)
{
	static const double values[] = {0, NAN, 1, -1, INFINITY, -INFINITY, 2.5,
	1e-40, -0.5, 1e300, 31, 32, 4294967296.0, -1e300};

	return values[(slot * 7 + row) % lengthof(values)];
}

/* Scores 64 rows both ways. */
static void
score(const ModelImage *image)
{
	double	   *one = palloc(sizeof(double) * model_workspace(image, 1));
	double	   *block = palloc(sizeof(double) *
							   model_workspace(image, MODEL_BLOCK));

	for (uint32 i = 0; i < image->input_count; i++)
		for (int row = 0; row < MODEL_BLOCK; row++)
			block[(size_t) i * MODEL_BLOCK + row] = value_for(i, row);
	model_run_block(image, block);
	for (int row = 0; row < MODEL_BLOCK; row += 9)
	{
		for (uint32 i = 0; i < image->input_count; i++)
			one[i] = value_for(i, row);
		model_run(image, one);
		for (uint32 i = 0; i < image->output_count; i++)
		{
			double		a = one[image->scores + i];
			double		b = block[(size_t) (image->scores + i) * MODEL_BLOCK +
								  row];

			if (memcmp(&a, &b, sizeof(a)) != 0 && !(isnan(a) && isnan(b)))
				abort();
		}
	}
}

static void
import_and_score(void *argument)
{
	Run		   *run = argument;
	char	   *copy = palloc(run->size + 1);
	ImportSource source = {.size = run->size,.threshold = NAN};
	ModelImage *image;

	memcpy(copy, run->data, run->size);
	copy[run->size] = '\0';
	source.data = copy;
	(void) IMPORT.recognise(copy, run->size);
	image = IMPORT.import(&source);
	if (model_check_image(image, image->size) != NULL)
	{
		fprintf(stderr, "the image: %s\n",
				model_check_image(image, image->size));
		abort();
	}
	score(image);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	Run			run = {data, size};

	if (!server_try(import_and_score, &run, AT_LEAST + PER_BYTE * size) &&
		getenv("FUZZ_VERBOSE") != NULL)
		fprintf(stderr, "%s (%s)\n", server_error.message,
				server_error.detail);
	server_free_all();
	return 0;
}

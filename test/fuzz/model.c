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
#include "score.h"
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
	score_both_ways(image);
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

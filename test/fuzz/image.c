/*-------------------------------------------------------------------------
 *
 * image.c
 *		A fuzz target: images that somebody has made up.
 *
 * What passes model_check_image is scored, a row and a block at a time to the
 * same bits, with each of the instructions that the processor has.  A page
 * that nobody may read stands behind the image, as the end of a mapping does:
 * vectors are loaded by instructions that sanitizers know nothing of.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/mman.h>
#include <unistd.h>

#include "model/kernel.h"
#include "score.h"
#include "server.h"

/* More slots and trees than that are not scored: it takes too long. */
#define MOST ((size_t) 1 << 16)

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_and_score(void *argument)
{
	static const char *const instructions[] = {"best", "avx2", "plain"};
	ModelImage *image = argument;
	size_t		size = image->size;

	image->magic = MODEL_MAGIC;
	image->checksum = model_image_checksum(image);
	if (model_check_image(image, size) != NULL ||
		model_workspace(image, 1) > MOST)
		return;
	for (int i = 0; i < lengthof(instructions); i++)
	{
		model_limit_instructions(instructions[i]);
		score_both_ways(image);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t		page = sysconf(_SC_PAGESIZE);
	size_t		padded = TYPEALIGN(8, size);
	size_t		room = TYPEALIGN(page, padded);
	char	   *pages;
	ModelImage *image;

	if (size < sizeof(ModelImage))
		return 0;
	pages = mmap(NULL, room + page, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (pages == MAP_FAILED || mprotect(pages + room, page, PROT_NONE) != 0)
		abort();
	image = (ModelImage *) (pages + room - padded);
	memcpy(image, data, size);
	image->size = padded;
	(void) server_try(check_and_score, image, (size_t) 256 << 20);
	server_free_all();
	munmap(pages, room + page);
	return 0;
}

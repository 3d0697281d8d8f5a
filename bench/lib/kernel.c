/*-------------------------------------------------------------------------
 *
 * kernel.c
 *		Runs an image over rows in memory, for bench/kernel.
 *
 *	kernel IMAGE ROWS OUT FEATURES INSTRUCTIONS
 *
 * ROWS is float64 in row order, as a program holds them; OUT gets the first
 * raw score of each row.  For each line on standard input it scores all rows
 * once, laying out each block included, and prints the seconds of processor time that
 * took: others may use the machine.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <time.h>

#include "model/kernel.h"
#include "port/pg_crc32c.h"

#undef printf
#undef fprintf

/* image.c wants it for checksums, which nothing here computes. */
pg_crc32c	(*pg_comp_crc32c) (pg_crc32c, const void *, size_t) = NULL;

static double
now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
	return time.tv_sec + time.tv_nsec * 1e-9;
}

/* A whole file; *size is its length. */
static void *
slurp(const char *path, size_t *size)
{
	FILE	   *file = fopen(path, "rb");
	void	   *bytes;

	if (file == NULL || fseek(file, 0, SEEK_END) != 0)
		exit(1);
	*size = ftell(file);
	rewind(file);
	bytes = aligned_alloc(64, (*size + 63) / 64 * 64);
	if (bytes == NULL || fread(bytes, 1, *size, file) != *size)
		exit(1);
	fclose(file);
	return bytes;
}

static void
score_all(const ModelImage *image, const double *rows, size_t count,
		  int features, double *workspace, double *out)
{
	for (size_t first = 0; first < count; first += MODEL_BLOCK)
	{
		int			here = (int) Min(count - first, MODEL_BLOCK);

		for (int r = 0; r < here; r++)
			for (int f = 0; f < features; f++)
				workspace[f * MODEL_BLOCK + r] =
					rows[(first + r) * features + f];
		model_run_block(image, workspace);
		for (int r = 0; r < here; r++)
			out[first + r] = workspace[image->raw * MODEL_BLOCK + r];
	}
}

int
main(int argc, char **argv)
{
	size_t		size;
	const ModelImage *image = slurp(argv[1], &size);
	const double *rows = slurp(argv[2], &size);
	int			features = atoi(argv[4]);
	size_t		count = size / sizeof(double) / features;
	double	   *out = calloc(count, sizeof(double));
	double	   *workspace = aligned_alloc(64,
										  (model_workspace(image, MODEL_BLOCK) *
										   sizeof(double) + 63) / 64 * 64);
	FILE	   *file;

	model_limit_instructions(argv[5]);
	if (out == NULL || workspace == NULL || image->input_count != features)
		return 1;
	memset(workspace, 0, model_workspace(image, MODEL_BLOCK) * sizeof(double));
	while (getchar() != EOF)
	{
		double		start = now();

		score_all(image, rows, count, features, workspace, out);
		printf("%.9f\n", now() - start);
		fflush(stdout);
	}
	file = fopen(argv[3], "wb");
	if (file == NULL || fwrite(out, sizeof(double), count, file) != count)
		return 1;
	return fclose(file) == 0 ? 0 : 1;
}

/*-------------------------------------------------------------------------
 *
 * file.c
 *		Images as files that every session of the server maps.
 *
 * The first session that needs an image writes it, from its row, into a file
 * below base/pgsql_tmp; all sessions map that file read-only, so there is one
 * copy in memory.  The server removes what begins with pgsql_tmp there when
 * it starts, also after a crash, and base backups leave it out.  A file is
 * written under another name, checked, and then renamed: one that has its
 * name is whole and sound, and never changes.  Removing it is always safe:
 * who has mapped it keeps it, who needs it again writes it again.
 *
 * All files together take no more than visage.model_cache; those used
 * longest ago, by their time of modification, go first.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utime.h>

#include "access/detoast.h"
#include "common/file_utils.h"
#include "common/hashfn.h"
#include "core/settings.h"
#include "model/model.h"
#include "storage/fd.h"
#include "storage/lock.h"
#include "utils/builtins.h"

#define DIRECTORY "base/" PG_TEMP_FILES_DIR
#define PREFIX PG_TEMP_FILE_PREFIX "_visage_"
#define SLICE (1024 * 1024)

/* Tells our locks from those of pg_advisory_lock, which have 1 and 2. */
#define LOCK_CLASS 5

/* A file of the directory. */
typedef struct ImageFile
{
	char		path[MAXPGPATH];
	off_t		size;
	time_t		used;
} ImageFile;

/* A first score is in a hurry: printing each byte takes as long as to open. */
static void
file_path(const ImageKey *key, char *path)
{
	char		id[2 * UUID_LEN + 1];

	id[hex_encode((const char *) key->id.data, UUID_LEN, id)] = '\0';
	snprintf(path, MAXPGPATH, DIRECTORY "/" PREFIX "%u_%s_%08x", MyDatabaseId,
			 id, key->checksum);
}

/* Maps the open file; NULL where it is too short to be an image. */
static const ModelImage *
map_open_file(int fd, size_t *size, time_t *used)
{
	struct stat status;
	const ModelImage *image;

	if (fstat(fd, &status) != 0 || status.st_size < sizeof(ModelImage))
		return NULL;
	*used = status.st_mtime;
	image = mmap(NULL, status.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (image == MAP_FAILED)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not map a model's image: %m")));
	*size = status.st_size;
	return image;
}

/*
 * Maps the open file; NULL where its header is not what its name says.  The
 * rest was checked by who wrote it.
 */
static const ModelImage *
map_checked(int fd, const ImageKey *key, size_t *size, time_t *used)
{
	const ModelImage *image = map_open_file(fd, size, used);

	if (image == NULL)
		return NULL;
	if (image->magic == MODEL_MAGIC && image->size == *size &&
		image->checksum == key->checksum)
		return image;
	munmap((void *) image, *size);
	return NULL;
}

/* Maps the image's file; NULL where there is none, or a damaged one. */
static const ModelImage *
map_file(const ImageRow *row, size_t *size)
{
	char		path[MAXPGPATH];
	const ModelImage *image;
	time_t		used = 0;
	int			fd;

	file_path(&row->key, path);
	fd = OpenTransientFile(path, O_RDONLY | PG_BINARY);
	if (fd < 0)
	{
		if (errno != ENOENT)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not open file \"%s\": %m", path)));
		return NULL;
	}
	image = map_checked(fd, &row->key, size, &used);
	CloseTransientFile(fd);
	if (image == NULL)
	{
		ereport(LOG,
				(errmsg("file \"%s\" is damaged: version %d of model \"%s\" "
						"is written again", path, row->version,
						row->model)));
		unlink(path);
		return NULL;
	}
	if (labs(time(NULL) - used) >= MODEL_TOUCH_EVERY)
		utime(path, NULL);
	return image;
}

/* Adds the directory's images to the list, and gives their size in all. */
static uint64
list_files(List **files)
{
	DIR		   *directory = AllocateDir(DIRECTORY);
	struct dirent *member;
	uint64		total = 0;

	while ((member = ReadDirExtended(directory, DIRECTORY, LOG)) != NULL)
	{
		ImageFile  *file;
		struct stat status;

		if (strncmp(member->d_name, PREFIX, strlen(PREFIX)) != 0)
			continue;
		file = palloc(sizeof(ImageFile));
		snprintf(file->path, MAXPGPATH, DIRECTORY "/%s", member->d_name);
		if (stat(file->path, &status) != 0)
			continue;
		file->size = status.st_size;
		file->used = status.st_mtime;
		total += status.st_size;
		*files = lappend(*files, file);
	}
	FreeDir(directory);
	return total;
}

/* The earlier used first. */
static int
compare_files(const ListCell *a, const ListCell *b)
{
	const ImageFile *first = lfirst(a);
	const ImageFile *second = lfirst(b);

	if (first->used != second->used)
		return first->used < second->used ? -1 : 1;
	return strcmp(first->path, second->path);
}

/* Removes files, used longest ago first, until there is room for this one. */
static void
make_room(uint64 size, const ImageRow *row)
{
	uint64		limit = core_setting_int("visage.model_cache") * 1024;
	List	   *files = NIL;
	uint64		total;
	ListCell   *cell;

	if (size > limit)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("version %d of model \"%s\" is larger than "
						"visage.model_cache", row->version, row->model),
				 errdetail("It takes " UINT64_FORMAT " kB, the setting is "
						   UINT64_FORMAT " kB.", (size + 1023) / 1024,
						   limit / 1024)));
	total = list_files(&files);
	if (total + size <= limit)
		return;
	list_sort(files, compare_files);
	foreach(cell, files)
	{
		ImageFile  *file = lfirst(cell);

		if (total + size <= limit)
			break;
		unlink(file->path);
		total -= file->size;
	}
}

/* Writes the bytes, all of them or ERROR. */
static void
write_all(int fd, const char *path, const char *bytes, size_t length)
{
	while (length > 0)
	{
		ssize_t		written;

		errno = 0;
		written = write(fd, bytes, length);
		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
		{
			if (errno == 0)
				errno = ENOSPC;
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not write file \"%s\": %m", path)));
		}
		bytes += written;
		length -= written;
	}
}

/* Writes the image slice by slice, so that a large one takes little memory. */
static void
write_image(int fd, const char *path, struct varlena *image, size_t size)
{
	for (size_t offset = 0; offset < size; offset += SLICE)
	{
		struct varlena *slice = detoast_attr_slice(image, offset,
												   Min(SLICE, size - offset));

		write_all(fd, path, VARDATA_ANY(slice), VARSIZE_ANY_EXHDR(slice));
		pfree(slice);
	}
}

/* Maps what was written; ERROR unless it is sound. */
static const ModelImage *
map_written(int fd, const ImageRow *row, size_t *size)
{
	time_t		used;
	const ModelImage *image = map_open_file(fd, size, &used);
	const char *problem = "it is too short";

	if (image != NULL)
		problem = model_check_image(image, *size);
	if (problem == NULL && image->checksum == row->key.checksum)
		return image;
	if (problem == NULL)
		problem = "its checksum is not that of its row";
	if (image != NULL)
		munmap((void *) image, *size);
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("version %d of model \"%s\" cannot be loaded",
					row->version, row->model),
			 errdetail("In its image, %s.", problem),
			 errhint("Import the model, or train it, again.")));
	return NULL;
}

/* Writes the file whole, checks it, and gives it its name. */
static const ModelImage *
write_file(const ImageRow *row, const char *path, const char *part,
		   size_t *size)
{
	int			fd = OpenTransientFile(part, O_RDWR | O_CREAT | O_TRUNC |
									   PG_BINARY);
	const ModelImage *image;

	if (fd < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create file \"%s\": %m", part)));
	write_image(fd, part, row->image, *size);
	image = map_written(fd, row, size);
	if (CloseTransientFile(fd) != 0 || rename(part, path) != 0)
	{
		int			error = errno;

		munmap((void *) image, *size);
		errno = error;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", path)));
	}
	return image;
}

/*
 * Makes the image's file and maps it.  What is left of a failed attempt is
 * removed; of an attempt that was killed, when the server starts again.
 */
static const ModelImage *
make_file(const ImageRow *row, size_t *size)
{
	char		path[MAXPGPATH];
	char		part[MAXPGPATH + 16];
	const ModelImage *volatile image = NULL;

	*size = toast_raw_datum_size(PointerGetDatum(row->image)) - VARHDRSZ;
	file_path(&row->key, path);
	snprintf(part, sizeof(part), "%s.%d", path, MyProcPid);
	if (MakePGDirectory(DIRECTORY) != 0 && errno != EEXIST)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create directory \"%s\": %m",
						DIRECTORY)));
	make_room(*size, row);
	HOLD_INTERRUPTS();
	PG_TRY();
	{
		image = write_file(row, path, part, size);
	}
	PG_CATCH();
	{
		unlink(part);
		PG_RE_THROW();
	}
	PG_END_TRY();
	RESUME_INTERRUPTS();
	return image;
}

/*
 * Maps the row's image, and makes its file where there is none.  Of several
 * sessions that need it one makes it and the others wait.
 */
const ModelImage *
model_file_map(const ImageRow *row, size_t *size)
{
	const ModelImage *image = map_file(row, size);
	LOCKTAG		tag;
	uint64		hash;

	model_limit_instructions(core_setting("visage.instructions"));
	if (image != NULL)
		return image;
	hash = hash_bytes_extended(row->key.id.data, UUID_LEN, 0);
	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (hash >> 32),
						 (uint32) hash, LOCK_CLASS);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
	image = map_file(row, size);
	if (image == NULL)
		image = make_file(row, size);
	LockRelease(&tag, ExclusiveLock, false);
	return image;
}

void
model_file_unmap(const ModelImage *image, size_t size)
{
	munmap((void *) image, size);
}

/* Marks the file as used now; false where it is gone. */
bool
model_file_touch(const ImageKey *key)
{
	char		path[MAXPGPATH];

	file_path(key, path);
	return utime(path, NULL) == 0;
}

/* Has the image a file? */
bool
model_file_exists(const ImageKey *key)
{
	char		path[MAXPGPATH];

	file_path(key, path);
	return access(path, F_OK) == 0;
}

/* Removes the file, if there is one. */
void
model_file_remove(const ImageKey *key)
{
	char		path[MAXPGPATH];

	file_path(key, path);
	unlink(path);
}

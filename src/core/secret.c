/*-------------------------------------------------------------------------
 *
 * secret.c
 *		Secrets are references: what is stored and printed is where the
 *		secret is, never the secret.
 *
 *	file:NAME	a file below visage.secrets_directory, without its last
 *				line feed; NAME has no "..", and no part of it may be a
 *				symbolic link
 *	env:NAME	the server's environment; NAME begins with VISAGE_, so that
 *				a user of Visage cannot send the server's other variables
 *				to a host of their own
 *	stored:NAME	a secret of visage_set_secret; net/vault.c opens it
 *
 * The value is read when a request is made, kept in the run's memory and
 * never put into an error, a log or a table.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/core.h"
#include "core/secret.h"
#include "core/settings.h"

#define MAX_SECRET 65536

/*
 * A stored secret's name; that of a secret which was given to a source plainly
 * is the source's and its own, with a dot between.
 */
void
core_check_secret_name(const char *name)
{
	const char *dot = strchr(name, '.');

	if (dot != NULL)
		core_check_name("source", pnstrdup(name, dot - name));
	core_check_name("secret", dot ? dot + 1 : name);
}

/* Does the text say where a secret is?  Else it is the secret. */
bool
core_is_secret_reference(const char *text)
{
	return strncmp(text, "file:", 5) == 0 || strncmp(text, "env:", 4) == 0 ||
		strncmp(text, CORE_STORED, strlen(CORE_STORED)) == 0;
}

/* ERROR unless the reference is one that can be resolved some day. */
void
core_check_secret(const char *name, const char *reference)
{
	if (strncmp(reference, "file:", 5) == 0)
	{
		const char *path = reference + 5;

		if (path[0] == '\0' || path[0] == '/' || strstr(path, "..") != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid reference for secret \"%s\"", name),
					 errdetail("A file is named relative to "
							   "visage.secrets_directory, without \"..\".")));
	}
	else if (strncmp(reference, "env:", 4) == 0)
	{
		if (strncmp(reference + 4, "VISAGE_", 7) != 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid reference for secret \"%s\"", name),
					 errdetail("Only variables whose names begin with "
							   "VISAGE_ can be referred to.")));
	}
	else if (strncmp(reference, CORE_STORED, strlen(CORE_STORED)) == 0)
		core_check_secret_name(reference + strlen(CORE_STORED));
	else
		elog(ERROR, "secret \"%s\" is no reference", name);
}

/*
 * Opens a file below the secrets directory, one part of its path after the
 * other, following no symbolic link.  -1 with errno where that fails.
 */
static int
open_below(const char *directory, const char *path)
{
	int			fd = open(directory, O_RDONLY | O_DIRECTORY);
	char	   *part = pstrdup(path);

	while (fd >= 0 && part != NULL)
	{
		char	   *slash = strchr(part, '/');
		int			next;
		int			save_errno;

		if (slash)
			*slash = '\0';
		next = openat(fd, part, O_RDONLY | O_NOFOLLOW | O_NONBLOCK |
					  (slash ? O_DIRECTORY : 0));
		save_errno = errno;
		close(fd);
		errno = save_errno;
		fd = next;
		part = slash ? slash + 1 : NULL;
	}
	return fd;
}

/* The content of a secret's file. */
static char *
read_file(const char *name, const char *path)
{
	const char *directory = core_setting("visage.secrets_directory");
	char	   *value = palloc(MAX_SECRET + 1);
	struct stat status;
	ssize_t		len;
	int			fd;

	if (directory[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("secret \"%s\" cannot be read", name),
				 errdetail("Setting visage.secrets_directory is empty.")));
	fd = open_below(directory, path);
	if (fd < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("secret \"%s\" cannot be read: %m", name),
				 errdetail("It is file \"%s\" in visage.secrets_directory.",
						   path)));
	if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode))
		len = -1;
	else
		len = read(fd, value, MAX_SECRET);
	close(fd);
	if (len <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("secret \"%s\" cannot be read", name),
				 errdetail("File \"%s\" is empty or no regular file.", path)));
	while (len > 0 && (value[len - 1] == '\n' || value[len - 1] == '\r'))
		len--;
	value[len] = '\0';
	return value;
}

/* The secret itself, in the current memory context. */
char *
core_read_secret(const char *name, const char *reference)
{
	const char *value;

	if (strncmp(reference, CORE_OPENED, strlen(CORE_OPENED)) == 0)
		return pstrdup(reference + strlen(CORE_OPENED));
	core_check_secret(name, reference);
	if (strncmp(reference, "file:", 5) == 0)
		return read_file(name, reference + 5);
	if (strncmp(reference, "env:", 4) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("secret \"%s\" was not opened", name)));
	value = getenv(reference + 4);
	if (value == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("secret \"%s\" cannot be read", name),
				 errdetail("The server has no environment variable %s.",
						   reference + 4)));
	return pstrdup(value);
}

/*-------------------------------------------------------------------------
 *
 * setting.c
 *		Reading settings by name, and the two that stop everything.
 *
 * Nothing is ingested, delivered or scheduled where visage.enabled is off,
 * nor in a database that has not been adopted: a dump restored elsewhere, a
 * copy of the data directory, a database made from a template.  The mark of
 * adoption is a file outside the data directory, named for the system
 * identifier and the database, that holds the data directory's path; so no
 * kind of copy carries it along.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <unistd.h>

#include "access/xlog.h"
#include "core/adopt.h"
#include "core/core.h"
#include "core/settings.h"
#include "miscadmin.h"
#include "utils/guc.h"

/* The setting's text, "" where it is not set. */
const char *
core_setting(const char *name)
{
	const char *value = GetConfigOption(name, true, false);

	return value ? value : "";
}

/* The setting's number in its own unit. */
int64
core_setting_int(const char *name)
{
	const char *value = GetConfigOption(name, false, false);

	return strtoll(value, NULL, 10);
}

/* The file that marks this database of this server as adopted. */
char *
core_adoption_file(void)
{
	const char *directory = core_setting("visage.adoption_directory");
	char	   *parent;

	if (directory[0] == '\0')
	{
		parent = pstrdup(DataDir);
		get_parent_directory(parent);
		directory = parent;
	}
	return psprintf("%s/visage-adopted-" UINT64_FORMAT "-%u", directory,
					GetSystemIdentifier(), MyDatabaseId);
}

/* Does the mark exist, and was it made for this data directory? */
static bool
is_adopted(void)
{
	int			fd = open(core_adoption_file(), O_RDONLY);
	char		path[MAXPGPATH];
	ssize_t		len;

	if (fd < 0)
		return false;
	len = read(fd, path, sizeof(path) - 1);
	close(fd);
	if (len <= 0)
		return false;
	path[len] = '\0';
	return strcmp(path, DataDir) == 0;
}

/* ERROR where this database may not run anything now. */
void
core_require_enabled(const char *what)
{
	if (strcmp(core_setting("visage.enabled"), "off") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("%s is refused while visage.enabled is off", what)));
	if (!is_adopted())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("%s is refused: this database has not been adopted",
						what),
				 errdetail("A new, restored or cloned database calls no "
						   "outside system until it is told to."),
				 errhint("Run SELECT visage_adopt() if this is the database "
						 "that should.")));
}

/*-------------------------------------------------------------------------
 *
 * adopt.c
 *		visage_adopt() and visage_version().
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <unistd.h>

#include "core/adopt.h"
#include "core/core.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/builtins.h"

/*
 * Marks this database as one that may run, schedule and deliver.  Writes a
 * file and nothing in the database, so that a standby can be adopted before
 * it is promoted.  The file is written whole and then renamed.
 */
PG_FUNCTION_INFO_V1(visage_adopt);
Datum
visage_adopt(PG_FUNCTION_ARGS)
{
	char	   *file = core_adoption_file();
	char	   *temporary = psprintf("%s.%d", file, MyProcPid);
	int			fd = OpenTransientFile(temporary, O_WRONLY | O_CREAT | O_TRUNC);
	size_t		len = strlen(DataDir);

	if (fd < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create the mark of adoption \"%s\": %m",
						temporary),
				 errhint("Let setting visage.adoption_directory name a "
						 "directory outside the data directory that the "
						 "server may write.")));
	errno = 0;
	if (write(fd, DataDir, len) != len)
	{
		int			save_errno = errno ? errno : ENOSPC;

		CloseTransientFile(fd);
		unlink(temporary);
		errno = save_errno;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not write the mark of adoption \"%s\": %m",
						temporary)));
	}
	CloseTransientFile(fd);
	(void) durable_rename(temporary, file, ERROR);
	PG_RETURN_VOID();
}

/* The version of the library, which may be newer than the SQL objects'. */
PG_FUNCTION_INFO_V1(visage_version);
Datum
visage_version(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(VISAGE_VERSION));
}

/*-------------------------------------------------------------------------
 *
 * names.c
 *		Names of nouns, of columns, and what a wrong one was meant to be.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "core/core.h"
#include "lib/stringinfo.h"
#include "utils/varlena.h"

/* Is this [a-z][a-z0-9_]* without a double underscore? */
static bool
is_plain_name(const char *name)
{
	if (!(name[0] >= 'a' && name[0] <= 'z'))
		return false;
	for (const char *c = name; *c; c++)
		if (!((*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9') ||
			  *c == '_') || (c[0] == '_' && c[1] == '_'))
			return false;
	return true;
}

/* ERROR unless the name may name a noun. */
void
core_check_name(const char *noun, const char *name)
{
	if (!is_plain_name(name) || strlen(name) >= NAMEDATALEN)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("invalid %s name \"%s\"", noun, name),
				 errdetail("A name is a lower-case letter followed by "
						   "lower-case letters, digits and single "
						   "underscores, up to %d bytes.", NAMEDATALEN - 1)));
}

/*
 * ERROR unless the table part of a dataset's name is a name, or those of a
 * source and a stream with two underscores between.
 */
void
core_check_dataset(const char *dataset, const char *table)
{
	const char *middle = strstr(table, "__");

	if (middle ? is_plain_name(pnstrdup(table, middle - table)) &&
		is_plain_name(middle + 2) : is_plain_name(table))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_NAME),
			 errmsg("invalid dataset name \"%s\"", dataset),
			 errdetail("After the layer comes a name, or two with \"__\" "
					   "between: each a lower-case letter followed by "
					   "lower-case letters, digits and single "
					   "underscores.")));
}

/*
 * Does this text begin like a query, not like the name of a relation?  A
 * relation may be called selections, or with_tax.
 */
bool
core_is_query(const char *text)
{
	static const char *const words[] = {"select", "with", "values"};
	const char *begin = text + strspn(text, " \t\r\n(");

	for (int i = 0; i < lengthof(words); i++)
	{
		size_t		len = strlen(words[i]);

		if (pg_strncasecmp(begin, words[i], len) == 0 &&
			(begin[len] == '\0' || strchr(" \t\r\n(*'\"-/", begin[len])))
			return true;
	}
	return false;
}

/*
 * The column that holds a field: lower-cased, camelCase split, any other
 * character an underscore.  Never empty.
 */
char *
core_snake_case(const char *name)
{
	StringInfoData result;

	initStringInfo(&result);
	for (const char *c = name; *c; c++)
	{
		bool		upper = *c >= 'A' && *c <= 'Z';
		bool		after_lower = c > name &&
		((c[-1] >= 'a' && c[-1] <= 'z') || (c[-1] >= '0' && c[-1] <= '9'));

		if (upper && after_lower)
			appendStringInfoChar(&result, '_');
		if (upper)
			appendStringInfoChar(&result, *c - 'A' + 'a');
		else if ((*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9'))
			appendStringInfoChar(&result, *c);
		else
			appendStringInfoChar(&result, '_');
	}
	if (result.len == 0)
		appendStringInfoChar(&result, '_');
	return result.data;
}

/*
 * The name nearest to a wrong one by edit distance, or NULL where none is
 * near enough to be a slip of the finger.
 */
char *
core_nearest(const char *wrong, char **names, int count)
{
	int			wrong_len = strlen(wrong);
	int			limit = Max(wrong_len / 2, 2);
	int			best = limit + 1;
	char	   *nearest = NULL;

	if (wrong_len > 255)		/* the limit of varstr_levenshtein */
		return NULL;
	for (int i = 0; i < count; i++)
	{
		int			len = strlen(names[i]);
		int			distance;

		if (len > 255)
			continue;
		distance = varstr_levenshtein_less_equal(wrong, wrong_len, names[i],
												 len, 1, 1, 1, limit, true);
		if (distance < best)
		{
			best = distance;
			nearest = names[i];
		}
	}
	return nearest;
}

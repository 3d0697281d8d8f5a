/*-------------------------------------------------------------------------
 *
 * import_texts.c
 *		Texts and their codes, while a model is read.
 *
 * A program knows texts by their codes, and an input must list its texts
 * before the first step.  Importers that learn only from the steps which
 * texts matter read a model twice: the lists are open the first time, and
 * closed the second.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "model/import_texts.h"
#include "utils/memutils.h"

ImportTexts *
import_create_texts(int input)
{
	ImportTexts *texts = palloc0(sizeof(ImportTexts));

	texts->input = input;
	texts->number = -1;
	return texts;
}

/* Puts the number of a text into the hash table. */
static void
enter_bucket(ImportTexts *texts, int number)
{
	const char *text = texts->texts[number];
	uint32		at = hash_bytes((const unsigned char *) text, strlen(text));

	at &= texts->bucket_count - 1;
	while (texts->buckets[at] >= 0)
		at = (at + 1) & (texts->bucket_count - 1);
	texts->buckets[at] = number;
}

/* Makes room for one more text, with a hash table at most half full. */
static void
grow_texts(ImportTexts *texts)
{
	if (texts->count < texts->allocated)
		return;
	texts->allocated = Max(16, texts->allocated * 2);
	texts->texts = texts->texts == NULL ?
		palloc(sizeof(char *) * texts->allocated) :
		repalloc_huge(texts->texts, sizeof(char *) * texts->allocated);
	texts->bucket_count = texts->allocated * 2;
	texts->buckets = palloc_extended(sizeof(int) * texts->bucket_count,
									 MCXT_ALLOC_HUGE);
	for (int i = 0; i < texts->bucket_count; i++)
		texts->buckets[i] = -1;
	for (int i = 0; i < texts->count; i++)
		enter_bucket(texts, i);
}

/* The number of a text in a list, or -1. */
int
import_find_text(const ImportTexts *texts, const char *text)
{
	uint32		at;

	if (texts->count == 0)
		return -1;
	at = hash_bytes((const unsigned char *) text, strlen(text)) &
		(texts->bucket_count - 1);
	while (texts->buckets[at] >= 0)
	{
		if (strcmp(texts->texts[texts->buckets[at]], text) == 0)
			return texts->buckets[at];
		at = (at + 1) & (texts->bucket_count - 1);
	}
	return -1;
}

/* The code of a text, which becomes known; -1 if the list is closed. */
int
import_text_code(ImportTexts *texts, const char *text)
{
	int			number = import_find_text(texts, text);

	if (number >= 0 || texts->closed)
		return number;
	grow_texts(texts);
	texts->texts[texts->count] = pstrdup(text);
	enter_bucket(texts, texts->count);
	return texts->count++;
}

/*-------------------------------------------------------------------------
 *
 * import_texts.h
 *		Texts and their codes, while a model is read.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_IMPORT_TEXTS_H
#define VISAGE_IMPORT_TEXTS_H

/* Code i is texts[i]; any other code is no text of the list. */
typedef struct ImportTexts
{
	char	  **texts;
	int			count;
	int			allocated;
	int		   *buckets;		/* by hash: number of a text, or -1 */
	int			bucket_count;
	bool		closed;
	int			input;			/* the program's input, or -1 */
	bool		refuse_unseen;	/* the model fails on unknown texts */
	int			number;			/* slot of which these are the decimal digits,
								 * or -1 */
} ImportTexts;

extern ImportTexts *import_create_texts(int input);
extern int	import_find_text(const ImportTexts *texts, const char *text);
extern int	import_text_code(ImportTexts *texts, const char *text);

#endif							/* VISAGE_IMPORT_TEXTS_H */

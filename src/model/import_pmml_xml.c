/*-------------------------------------------------------------------------
 *
 * import_pmml_xml.c
 *		The bytes of a PMML file as a tree of elements.
 *
 * libxml2 reads, one node after the other, and everything is copied into the
 * memory context of the import.  A document type declaration is refused, so
 * no entity but XML's own five exists; nothing is fetched; libxml2's limits
 * on depth (256) and on lengths stay in force.  Its reader is freed by a
 * callback of the memory context, since an ERROR may be raised while it is
 * open; no callback of ours runs inside libxml2.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <libxml/xmlreader.h>

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "model/import_pmml.h"
#include "utils/float.h"
#include "utils/memutils.h"

/* More elements are no model. */
#define MAX_ELEMENTS 20000000

/* Raises the error of a document that says something impossible. */
void
pmml_damaged(const PmmlElement *element, const char *problem)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("the PMML model is damaged"),
			 errdetail("In element \"%s\" of line %d, %s.", element->name,
					   element->line, problem)));
}

/* Raises the error of something that PMML has and Visage has not. */
void
pmml_refuse(const PmmlElement *element, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("%s of PMML is not supported", what),
			 errdetail("It stands in element \"%s\" of line %d.",
					   element->name, element->line),
			 errhint("What is supported is listed in "
					 "docs/reference/model-import.md.")));
}

/* The reader's own complaint. */
static void
not_well_formed(xmlTextReaderPtr reader)
{
	const xmlError *error = xmlGetLastError();
	char	   *message = error != NULL && error->message != NULL ?
	pstrdup(error->message) : pstrdup("no reason is known");
	int			line = error != NULL ? error->line : 0;
	int			length = strlen(message);

	while (length > 0 && (message[length - 1] == '\n' || message[length - 1] == '.'))
		message[--length] = '\0';
	if (!pg_verify_mbstr(GetDatabaseEncoding(), message, length, true))
		message = "it is not well-formed";
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("the PMML model is damaged"),
			 errdetail("It is not well-formed XML at line %d: %s.", line,
					   message)));
}

/* libxml2's UTF-8 as text of the database. */
static char *
copy_text(const xmlChar *text)
{
	int			length = strlen((const char *) text);

	return pg_any_to_server(pnstrdup((const char *) text, length), length,
							PG_UTF8);
}

/* Is this attribute of PMML, and no declaration of a name space? */
static bool
is_plain_attribute(const xmlChar *name)
{
	return strncmp((const char *) name, "xmlns", 5) != 0;
}

static void
read_attributes(xmlTextReaderPtr reader, PmmlElement *element)
{
	int			count = xmlTextReaderAttributeCount(reader);

	if (count <= 0)
		return;
	element->attributes = palloc(sizeof(PmmlAttribute) * count);
	while (xmlTextReaderMoveToNextAttribute(reader) == 1)
	{
		const xmlChar *name = xmlTextReaderConstName(reader);
		const xmlChar *value = xmlTextReaderConstValue(reader);
		PmmlAttribute *attribute;

		if (!is_plain_attribute(name) || element->attribute_count >= count)
			continue;
		attribute = &element->attributes[element->attribute_count++];
		attribute->name = copy_text(name);
		attribute->value = value == NULL ? "" : copy_text(value);
	}
	xmlTextReaderMoveToElement(reader);
}

/*
 * The line that the reader stands at.  A node has 16 bits for it; beyond that
 * it is the parser's, which has read half a kilobyte ahead at most.
 */
static int
line_of(xmlTextReaderPtr reader)
{
	int			line = (int) xmlGetLineNo(xmlTextReaderCurrentNode(reader));

	return line < PG_UINT16_MAX ? line :
		xmlTextReaderGetParserLineNumber(reader);
}

/* The element that the reader stands at, as the last child of its parent. */
static PmmlElement *
read_element(xmlTextReaderPtr reader, PmmlElement *parent)
{
	PmmlElement *element = palloc0(sizeof(PmmlElement));

	element->name = copy_text(xmlTextReaderConstLocalName(reader));
	element->line = line_of(reader);
	element->parent = parent;
	read_attributes(reader, element);
	if (parent == NULL)
		return element;
	if (parent->last == NULL)
		parent->first = element;
	else
		parent->last->next = element;
	parent->last = element;
	return element;
}

/* Text between tags; white space alone is layout. */
static void
read_text(xmlTextReaderPtr reader, PmmlElement *element)
{
	const xmlChar *value = xmlTextReaderConstValue(reader);

	if (element == NULL || value == NULL)
		return;
	if (element->text == NULL)
		element->text = copy_text(value);
	else
		element->text = psprintf("%s%s", element->text, copy_text(value));
}

/* All nodes of the document; its root element. */
static PmmlElement *
read_nodes(xmlTextReaderPtr reader)
{
	PmmlElement *root = NULL;
	PmmlElement *current = NULL;
	int64		count = 0;
	int			state;

	while ((state = xmlTextReaderRead(reader)) == 1)
	{
		CHECK_FOR_INTERRUPTS();
		switch (xmlTextReaderNodeType(reader))
		{
			case XML_READER_TYPE_ELEMENT:
				if (++count > MAX_ELEMENTS)
					ereport(ERROR,
							(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
							 errmsg("the PMML model has more than %d elements",
									MAX_ELEMENTS)));
				current = read_element(reader, current);
				if (root == NULL)
					root = current;
				if (xmlTextReaderIsEmptyElement(reader))
					current = current->parent;
				break;
			case XML_READER_TYPE_END_ELEMENT:
				current = current->parent;
				break;
			case XML_READER_TYPE_TEXT:
			case XML_READER_TYPE_CDATA:
				read_text(reader, current);
				break;
			case XML_READER_TYPE_DOCUMENT_TYPE:
			case XML_READER_TYPE_ENTITY_REFERENCE:
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("a document type declaration in PMML is not supported"),
						 errhint("Take it out; PMML needs none.")));
		}
	}
	if (state != 0 || root == NULL)
		not_well_formed(reader);
	return root;
}

/* Reset callback of the context that the reader belongs to. */
static void
free_reader(void *reader)
{
	xmlFreeTextReader(reader);
	xmlResetLastError();
}

/* The document's root element. */
PmmlElement *
pmml_read(const char *data, size_t size)
{
	MemoryContext context;
	MemoryContextCallback *callback;
	xmlTextReaderPtr reader;
	PmmlElement *root;

	if (size > PG_INT32_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("the PMML model is longer than 2 GB")));
	context = AllocSetContextCreate(CurrentMemoryContext, "visage XML reader",
									ALLOCSET_SMALL_SIZES);
	callback = MemoryContextAlloc(context, sizeof(MemoryContextCallback));
	reader = xmlReaderForMemory(data, (int) size, NULL, NULL,
								XML_PARSE_NONET | XML_PARSE_NOERROR |
								XML_PARSE_NOWARNING | XML_PARSE_NOCDATA);
	if (reader == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("could not begin to read XML")));
	callback->func = free_reader;
	callback->arg = reader;
	MemoryContextRegisterResetCallback(context, callback);
	root = read_nodes(reader);
	MemoryContextDelete(context);
	return root;
}

/* ---- what elements say ---- */

/* The attribute's value, or NULL. */
const char *
pmml_attribute(const PmmlElement *element, const char *name)
{
	for (int i = 0; i < element->attribute_count; i++)
		if (strcmp(element->attributes[i].name, name) == 0)
			return element->attributes[i].value;
	return NULL;
}

/* The value of an attribute that must be there. */
const char *
pmml_require(const PmmlElement *element, const char *name)
{
	const char *value = pmml_attribute(element, name);

	if (value == NULL)
		pmml_damaged(element, psprintf("attribute \"%s\" is missing", name));
	return value;
}

/* A number as PMML writes it; ERROR if it is none. */
double
pmml_parse_number(const PmmlElement *element, const char *text)
{
	char	   *end;
	double		value;

	errno = 0;
	value = strtod(text, &end);
	while (*end == ' ' || *end == '\t' || *end == '\n' || *end == '\r')
		end++;
	if (end == text || *end != '\0')
		pmml_damaged(element, psprintf("\"%s\" is no number", text));
	return value;
}

/* An attribute as a number. */
double
pmml_number(const PmmlElement *element, const char *name, double if_none)
{
	const char *value = pmml_attribute(element, name);

	return value == NULL ? if_none : pmml_parse_number(element, value);
}

bool
pmml_is(const PmmlElement *element, const char *name)
{
	return strcmp(element->name, name) == 0;
}

/* The first child of that name, or NULL. */
PmmlElement *
pmml_child(const PmmlElement *element, const char *name)
{
	for (PmmlElement *child = element->first; child != NULL;
		 child = child->next)
		if (pmml_is(child, name))
			return child;
	return NULL;
}

/* One entry of an Array, quoted or not; NULL at its end. */
static char *
next_entry(const PmmlElement *array, const char **at)
{
	const char *from = *at + strspn(*at, " \t\r\n");
	StringInfoData entry;

	if (*from == '\0')
		return NULL;
	if (*from != '"')
	{
		size_t		length = strcspn(from, " \t\r\n");

		*at = from + length;
		return pnstrdup(from, length);
	}
	initStringInfo(&entry);
	for (from++; *from != '"'; from++)
	{
		if (from[0] == '\\' && from[1] == '"')
			from++;
		if (*from == '\0')
			pmml_damaged(array, "a quoted entry has no end");
		appendStringInfoChar(&entry, *from);
	}
	*at = from + 1;
	return entry.data;
}

/* The entries of an Array element. */
char	  **
pmml_array(const PmmlElement *array, int *count)
{
	const char *at = array->text == NULL ? "" : array->text;
	int			allocated = 8;
	char	  **entries = palloc(sizeof(char *) * allocated);
	char	   *entry;

	*count = 0;
	while ((entry = next_entry(array, &at)) != NULL)
	{
		if (*count == allocated)
			entries = repalloc(entries, sizeof(char *) * (allocated *= 2));
		entries[(*count)++] = entry;
	}
	return entries;
}

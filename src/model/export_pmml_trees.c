/*-------------------------------------------------------------------------
 *
 * export_pmml_trees.c
 *		Ensembles of trees as models of PMML.
 *
 * Each output is a MiningModel that adds up TreeModels; the number from
 * which the sum begins is a tree that is a leaf.  A node has two children,
 * one for each answer to its test, and says which of them is for a missing
 * value.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "miscadmin.h"
#include "model/export_pmml.h"
#include "utils/memutils.h"

/* What a node asks: a predicate for each answer. */
typedef struct Question
{
	char	   *yes;
	char	   *no;
	bool		missing_yes;
} Question;

typedef struct TreeWriter
{
	PmmlDocument *document;
	const ModelTrees *trees;
	const ModelNode *nodes;
	const double *leaves;
	const double *covers;		/* or NULL */
	uint32		root;
	uint32		output;
	StringInfo	body;
} TreeWriter;

/* Marks the slots that the tests read as needed. */
void
pmml_need_trees(PmmlDocument *document, const ModelStep *step)
{
	const ModelTrees *trees = MODEL_AT(document->image, ModelTrees,
									   step->data);
	const ModelNode *nodes = MODEL_AT(document->image, ModelNode,
									  trees->nodes);

	if (trees->flags & MODEL_TREES_LINEAR)
		pmml_refuse_export("trees with linear leaves");
	if (trees->aggregate == MODEL_TREES_MINIMUM)
		pmml_refuse_export("the least of several trees");
	for (uint32 i = 0; i < trees->node_count; i++)
		if (!(MODEL_NODE_TEST(&nodes[i]) & MODEL_TEST_LEAF))
			document->needed[pmml_source(document,
										 MODEL_NODE_SLOT(&nodes[i])).slot] = true;
}

/* ---- tests ---- */

static bool
is_member(const TreeWriter *writer, const ModelNode *node, double number)
{
	const uint32 *words = MODEL_AT(writer->document->image, uint32,
								   writer->trees->words) + node->u.set.first;

	return number >= 0 && number < node->u.set.words * 32.0 &&
		(words[(uint32) number / 32] >> ((uint32) number % 32) & 1);
}

/* Does the test hold for a code, which is an integer or NaN? */
static bool
holds(const TreeWriter *writer, const ModelNode *node, bool low, double code)
{
	uint32		test = MODEL_NODE_TEST(node);

	if (isnan(code))
		return low || (test & MODEL_TEST_MISSING);
	switch (test & MODEL_TEST_MASK)
	{
		case MODEL_TEST_AT_MOST:
			return code <= node->u.threshold;
		case MODEL_TEST_EQUAL:
			return code == node->u.threshold;
		default:
			return is_member(writer, node, code);
	}
}

static char *
simple(const char *field, const char *operator, const char *value)
{
	return psprintf("<SimplePredicate field=\"%s\" operator=\"%s\" value=\"%s\"/>",
					field, operator, value);
}

static char *
is_missing(const char *field, bool not)
{
	return psprintf("<SimplePredicate field=\"%s\" operator=\"%s\"/>", field,
					not ? "isNotMissing" : "isMissing");
}

/* An answer that does not depend on the value, unless it is missing. */
static Question
foregone(const char *field, bool answer, bool missing_yes)
{
	Question	question = {.missing_yes = missing_yes};

	if (answer == missing_yes)
	{
		question.yes = pstrdup(answer ? "<True/>" : "<False/>");
		question.no = pstrdup(answer ? "<False/>" : "<True/>");
		return question;
	}
	question.yes = is_missing(field, answer);
	question.no = is_missing(field, !answer);
	return question;
}

/* Is the value one of a set?  The entries are quoted where that is needed. */
static Question
ask_set(const char *field, const char *type, char **entries, int count,
		bool in, bool missing_yes)
{
	Question	question = {.missing_yes = missing_yes};
	StringInfoData array;
	char	   *inside;
	char	   *outside;

	if (count == 0)
		return foregone(field, !in, missing_yes);
	initStringInfo(&array);
	for (int i = 0; i < count; i++)
		appendStringInfo(&array, "%s%s", i > 0 ? " " : "", entries[i]);
	inside = psprintf("<SimpleSetPredicate field=\"%s\" booleanOperator=\"isIn\">"
					  "<Array type=\"%s\" n=\"%d\">%s</Array></SimpleSetPredicate>",
					  field, type, count, array.data);
	outside = psprintf("<SimpleSetPredicate field=\"%s\" booleanOperator=\"isNotIn\">"
					   "<Array type=\"%s\" n=\"%d\">%s</Array></SimpleSetPredicate>",
					   field, type, count, array.data);
	question.yes = in ? inside : outside;
	question.no = in ? outside : inside;
	return question;
}

/* A text as an entry of an array. */
static char *
quoted(const char *text)
{
	StringInfoData entry;

	initStringInfo(&entry);
	appendStringInfoChar(&entry, '"');
	for (const char *at = text; *at != '\0'; at++)
	{
		if (at[0] == '\\' && (at[1] == '"' || at[1] == '\0'))
			pmml_refuse_export("a category with a backslash at its end");
		if (*at == '"')
			appendStringInfoChar(&entry, '\\');
		appendStringInfoChar(&entry, *at);
	}
	appendStringInfoChar(&entry, '"');
	return pmml_text(entry.data);
}

/* A test of a text's code, as one of its categories. */
static Question
ask_category(const TreeWriter *writer, const ModelNode *node,
			 const PmmlSource *source)
{
	const ModelInput *input = source->category;
	const ModelCategory *categories = MODEL_AT(writer->document->image,
											   ModelCategory, input->categories);
	bool		unseen = holds(writer, node, source->low, input->unseen);
	char	  **entries = palloc(sizeof(char *) * Max(input->category_count, 1));
	int			count = 0;

	for (uint32 i = 0; i < input->category_count; i++)
		if (holds(writer, node, source->low, categories[i].code) != unseen)
			entries[count++] = quoted(model_string(writer->document->image,
												   categories[i].text));
	return ask_set(writer->document->fields[source->slot], "string", entries,
				   count, !unseen,
				   holds(writer, node, source->low, input->missing));
}

/* A test of membership of a number. */
static Question
ask_members(const TreeWriter *writer, const ModelNode *node,
			const PmmlSource *source)
{
	uint32		test = MODEL_NODE_TEST(node);
	char	  **entries = palloc_extended(sizeof(char *) * 32 *
										  Max(node->u.set.words, 1),
										  MCXT_ALLOC_HUGE);
	const char *field;
	int			count = 0;

	field = (test & MODEL_TEST_EXACT) ?
		pmml_field(writer->document, source->slot) :
		pmml_whole_field(writer->document, source->slot,
						 (test & MODEL_TEST_NEGATIVE) != 0);
	for (uint32 i = 0; i < node->u.set.words * 32; i++)
		if (is_member(writer, node, i))
			entries[count++] = psprintf("%u", i);
	return ask_set(field, "real", entries, count, true,
				   (test & MODEL_TEST_MISSING) != 0);
}

/*
 * x <= threshold, or x < the next number where that has fewer digits: the
 * threshold that the library wrote.  A threshold of a field of type float is
 * the next smaller float, with the digits of a double: it is the same number
 * to readers that take it for one.
 */
static Question
ask_at_most(const char *field, double threshold, bool single, bool low)
{
	Question	question = {.missing_yes = low};
	char	   *at_most;
	char	   *below;
	double		next;
	bool		strict;

	if (single)
	{
		float		number = (float) threshold;

		if (number > threshold)
			number = nextafterf(number, -INFINITY);
		threshold = number;
		next = nextafterf(number, INFINITY);
	}
	else
		next = nextafter(threshold, INFINITY);
	at_most = pmml_double(threshold);
	below = pmml_double(next);
	if (threshold == INFINITY)
		return foregone(field, true, low);
	/* PMML readers need not know infinity: below the least number there is */
	strict = threshold == -INFINITY ||
		(strlen(below) < strlen(at_most) && strcmp(below, "INF") != 0);
	question.yes = simple(field, strict ? "lessThan" : "lessOrEqual",
						  strict ? below : at_most);
	question.no = simple(field, strict ? "greaterOrEqual" : "greaterThan",
						 strict ? below : at_most);
	return question;
}

static Question
ask(const TreeWriter *writer, const ModelNode *node)
{
	PmmlDocument *document = writer->document;
	PmmlSource	source = pmml_source(document, MODEL_NODE_SLOT(node));
	uint32		test = MODEL_NODE_TEST(node);
	Question	question;
	const char *field;
	char	   *value;

	document->used[source.slot] = true;
	if (source.category != NULL)
		return ask_category(writer, node, &source);
	if ((test & MODEL_TEST_MASK) == MODEL_TEST_IN)
		return ask_members(writer, node, &source);
	field = document->fields[source.slot];
	if ((test & MODEL_TEST_MASK) == MODEL_TEST_AT_MOST)
		return ask_at_most(field, node->u.threshold,
						   document->single[source.slot], source.low);
	if (isnan(node->u.threshold))
		return foregone(field, false, (test & MODEL_TEST_MISSING) != 0);
	if (document->single[source.slot] &&
		(float) node->u.threshold != node->u.threshold)
		return foregone(field, false, (test & MODEL_TEST_MISSING) != 0);
	value = pmml_double(node->u.threshold);
	question.yes = simple(field, "equal", value);
	question.no = simple(field, "notEqual", value);
	question.missing_yes = (test & MODEL_TEST_MISSING) != 0;
	return question;
}

/* ---- trees ---- */

/* A node with what is below it; is_default: its parent's for missing values. */
static void
write_node(const TreeWriter *writer, uint32 number, const char *predicate,
		   bool is_default)
{
	const ModelNode *node = &writer->nodes[number];
	Question	question;

	check_stack_depth();
	appendStringInfoString(writer->body, "<Node");
	if (is_default)
		appendStringInfo(writer->body, " id=\"%u\"", number - writer->root);
	if (writer->covers != NULL)
		appendStringInfo(writer->body, " recordCount=\"%s\"",
						 pmml_double(writer->covers[number]));
	if (MODEL_NODE_TEST(node) & MODEL_TEST_LEAF)
	{
		Size		leaf = (uint32) node->u.threshold;
		double		value = writer->leaves[leaf * writer->trees->leaf_width +
										   (writer->trees->leaf_width > 1 ? writer->output : 0)];

		appendStringInfo(writer->body, " score=\"%s\">%s</Node>\n",
						 pmml_double(value), predicate);
		return;
	}
	question = ask(writer, node);
	appendStringInfo(writer->body, " defaultChild=\"%u\">%s\n",
					 node->next + (question.missing_yes ? 0 : 1) -
					 writer->root, predicate);
	write_node(writer, node->next, question.yes, question.missing_yes);
	write_node(writer, node->next + 1, question.no, !question.missing_yes);
	appendStringInfoString(writer->body, "</Node>\n");
	pfree(question.yes);
	pfree(question.no);
}

/* A segment that is a tree; its nodes are in the buffer. */
static void
write_tree(PmmlDocument *document, StringInfo out, int number, bool single,
		   const char *nodes)
{
	appendStringInfo(out, "<Segment id=\"%d\"><True/>\n"
					 "<TreeModel functionName=\"regression\""
					 " missingValueStrategy=\"defaultChild\""
					 " splitCharacteristic=\"binarySplit\"%s>%s%s</TreeModel>"
					 "</Segment>\n", number,
					 single ? " x-mathContext=\"float\"" : "",
					 pmml_schema(document), nodes);
}

/* A segment that always answers a number. */
static void
write_base(PmmlDocument *document, StringInfo out, int number, bool single,
		   double base)
{
	pmml_begin_schema(document);
	write_tree(document, out, number, single,
			   psprintf("<Node score=\"%s\"><True/></Node>",
						pmml_double(base)));
}

/* The segments of an output. */
static void
write_segments(PmmlDocument *document, const ModelTrees *trees, uint32 output,
			   StringInfo out, double base, bool base_first)
{
	const ModelImage *image = document->image;
	const ModelTree *tree = MODEL_AT(image, ModelTree, trees->trees);
	bool		single = (trees->flags & MODEL_TREES_FLOAT32) != 0;
	StringInfoData nodes;
	TreeWriter	writer = {.document = document,.trees = trees,
		.nodes = MODEL_AT(image, ModelNode, trees->nodes),
		.leaves = MODEL_AT(image, double, trees->leaves),
	.output = output,.body = &nodes};
	int			number = 1;

	if (trees->covers != 0)
		writer.covers = MODEL_AT(image, double, trees->covers);
	initStringInfo(&nodes);
	if (base != 0 && base_first)
		write_base(document, out, number++, single, base);
	for (uint32 i = 0; i < trees->tree_count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (trees->leaf_width == 1 && tree[i].output != output)
			continue;
		resetStringInfo(&nodes);
		pmml_begin_schema(document);
		writer.root = tree[i].root;
		write_node(&writer, tree[i].root, "<True/>", false);
		write_tree(document, out, number++, single, nodes.data);
	}
	if ((base != 0 && !base_first) || number == 1)
		write_base(document, out, number, single, base);
	pfree(nodes.data);
}

/* How many trees an output has. */
static uint32
trees_of(const PmmlDocument *document, const ModelTrees *trees, uint32 output)
{
	const ModelTree *tree = MODEL_AT(document->image, ModelTree, trees->trees);
	uint32		count = 0;

	for (uint32 i = 0; i < trees->tree_count; i++)
		count += trees->leaf_width > 1 || tree[i].output == output;
	return count;
}

/* All fields that any of the trees reads: the schema of the whole. */
static char *
whole_schema(PmmlDocument *document, const ModelTrees *trees)
{
	const ModelNode *nodes = MODEL_AT(document->image, ModelNode,
									  trees->nodes);

	pmml_begin_schema(document);
	for (uint32 i = 0; i < trees->node_count; i++)
		if (!(MODEL_NODE_TEST(&nodes[i]) & MODEL_TEST_LEAF))
			document->used[pmml_source(document,
									   MODEL_NODE_SLOT(&nodes[i])).slot] = true;
	return pmml_schema(document);
}

/* The model of one output, whose answer is the field of the slot. */
static void
write_output(PmmlDocument *document, const ModelTrees *trees, uint32 output,
			 uint32 slot)
{
	double		base = MODEL_AT(document->image, double, trees->base)[output];
	bool		single = (trees->flags & MODEL_TREES_FLOAT32) != 0;
	bool		largest = trees->aggregate == MODEL_TREES_MAXIMUM;
	bool		base_last = (trees->flags & MODEL_TREES_BASE_LAST) || largest;
	bool		average = !largest && trees->divisor ==
	trees_of(document, trees, output) && trees->divisor != 1 && base == 0;
	bool		after = largest ? base != 0 || trees->divisor != 1 :
	trees->divisor != 1 && !average;
	PmmlSegment *segment = pmml_add_segment(document, "MiningModel");
	char	   *name = psprintf("%s%s%u", document->prefix,
								after ? "sum" : "v", slot);

	segment->attributes = psprintf(" functionName=\"regression\"%s",
								   single ? " x-mathContext=\"float\"" : "");
	appendStringInfo(&segment->body,
					 "<Segmentation multipleModelMethod=\"%s\">\n",
					 largest ? "max" : average ? "average" : "sum");
	write_segments(document, trees, output, &segment->body,
				   after && base_last ? 0 : base, !base_last);
	appendStringInfoString(&segment->body, "</Segmentation>\n");
	pmml_set_schema(document, segment, whole_schema(document, trees));
	pmml_add_answer(document, segment, name, single);
	document->fields[slot] = name;
	document->late[slot] = true;
	document->single[slot] = single;
	if (after)
	{
		char	   *sum = psprintf("<FieldRef field=\"%s\"/>", name);

		if (trees->divisor != 1)
			sum = pmml_apply("/", sum, pmml_constant_of(trees->divisor), NULL);
		if (base_last && base != 0)
			sum = pmml_apply("+", sum, pmml_constant_of(base), NULL);
		pmml_set_field(document, slot, sum, single, true);
	}
}

void
pmml_export_trees(PmmlDocument *document, const ModelStep *step)
{
	const ModelTrees *trees = MODEL_AT(document->image, ModelTrees,
									   step->data);

	for (uint32 i = 0; i < trees->output_count; i++)
		if (document->needed[step->out + i])
			write_output(document, trees, i, step->out + i);
}

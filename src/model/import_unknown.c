/*-------------------------------------------------------------------------
 *
 * import_unknown.c
 *		Formats that are known, but not read: so that they are refused by name.
 *
 * Pickles are programs, and XGBoost's old binary format follows the layout
 * of structures in memory of one version; both have a way to a file that is
 * read.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "model/import.h"

typedef struct Signature
{
	const char *bytes;			/* at the beginning */
	int			length;
	const char *what;
	const char *hint;
} Signature;

#define PICKLE_HINT \
	"Convert it where it was made: XGBoost and LightGBM by save_model, " \
	"scikit-learn by skl2onnx."

#define PART_OF_PMML_HINT \
	"Import the whole document, whose root is the element PMML."

static const Signature signatures[] = {
	{"binf", 4, "XGBoost's binary format",
	"Load it with XGBoost before 3.1 and save it as JSON or UBJSON."},
	{"bs64", 4, "XGBoost's binary format in base64",
	"Load it with XGBoost before 3.1 and save it as JSON or UBJSON."},
	{"Tree=", 5, "a part of a LightGBM model",
	"Import the whole file, which begins with \"tree\"."},
	{"<TreeModel", 10, "a part of a PMML document", PART_OF_PMML_HINT},
	{"<MiningModel", 12, "a part of a PMML document", PART_OF_PMML_HINT},
	{"<RegressionModel", 16, "a part of a PMML document", PART_OF_PMML_HINT},
	{"\x80\x02", 2, "a Python pickle", PICKLE_HINT},
	{"\x80\x03", 2, "a Python pickle", PICKLE_HINT},
	{"\x80\x04", 2, "a Python pickle", PICKLE_HINT},
	{"\x80\x05", 2, "a Python pickle", PICKLE_HINT},
	{"ccopy_reg\n", 10, "a Python pickle", PICKLE_HINT},
	{"\x1f\x8b", 2, "a file compressed by gzip", "Decompress it first."},
	{"PK\x03\x04", 4, "a zip archive", "Take the model out of it."},
};

/*
 * Binary files of XGBoost before 1.0 begin with a structure of 136 bytes,
 * which the length and the name of the objective follow.
 */
static bool
is_old_xgboost(const char *data, size_t size)
{
	static const char *const prefixes[] = {"binary:", "reg:", "multi:",
	"rank:", "count:", "survival:"};
	const size_t name = 136 + sizeof(uint64);

	if (size < name + 16)
		return false;
	for (int i = 0; i < lengthof(prefixes); i++)
		if (memcmp(data + name, prefixes[i], strlen(prefixes[i])) == 0)
			return true;
	return false;
}

/* A dump begins with {"name": "tree", with white space in between. */
static bool
is_lightgbm_dump(const char *data, size_t size)
{
	static const char *const tokens[] = {"{", "\"name\"", ":", "\"tree\""};
	size_t		at = 0;

	for (int i = 0; i < lengthof(tokens); i++)
	{
		size_t		length = strlen(tokens[i]);

		while (at < size && (data[at] == ' ' || data[at] == '\n' ||
							 data[at] == '\r' || data[at] == '\t'))
			at++;
		if (size - at < length || memcmp(data + at, tokens[i], length) != 0)
			return false;
		at += length;
	}
	return true;
}

/* ERROR, if the bytes are of a format that has a name. */
void
import_refuse_unknown(const char *data, size_t size)
{
	for (int i = 0; i < lengthof(signatures); i++)
		if (size >= signatures[i].length &&
			memcmp(data, signatures[i].bytes, signatures[i].length) == 0)
			core_not_supported(signatures[i].what, signatures[i].hint);
	if (is_lightgbm_dump(data, size))
		core_not_supported("LightGBM's dump as JSON",
						   "Save the model with save_model.");
	if (is_old_xgboost(data, size))
		core_not_supported("XGBoost's binary format",
						   "Load it with XGBoost before 3.1 and save it as "
						   "JSON or UBJSON.");
}

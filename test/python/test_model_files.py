"""Models of XGBoost and LightGBM, imported and scored as the libraries do:
raw scores bit for bit, predictions to one unit in the last place.

What is compared is under test/models; its README says where it comes from.
Files of ../shared are read where they are (VISAGE_SHARED says where that is),
and the tests that need them say so when they are absent.
"""

import csv
import glob
import gzip
import io
import math
import os
import re
import shutil
import struct
import subprocess
import tempfile
import unittest

import house

MODELS = os.path.join(house.SOURCE, "test", "models")
SHARED = os.environ.get("VISAGE_SHARED") or os.path.join(house.SOURCE, "..", "shared")
SHARED = SHARED if os.path.isdir(SHARED) else None
REFERENCE = os.path.join(house.SOURCE, "docs", "reference", "model-import.md")


def read(path):
    with (gzip.open if path.endswith(".gz") else open)(path, "rb") as file:
        return file.read()


def ulps(a, b, single):
    """How many numbers lie between two, in the library's precision."""
    if a == b or (math.isnan(a) and math.isnan(b)):
        return 0
    pack, unpack = ("<f", "<i") if single else ("<d", "<q")
    try:
        bits = [struct.unpack(unpack, struct.pack(pack, value))[0] for value in (a, b)]
    except OverflowError:
        return math.inf
    if single and (a != struct.unpack("<f", struct.pack("<f", a))[0]):
        return math.inf
    return abs(bits[0] - bits[1]) if (bits[0] < 0) == (bits[1] < 0) else math.inf


class ModelFiles(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.database = house.Database("model_files")
        cls.connection = cls.database.connect()
        cls.count = 0

    @classmethod
    def tearDownClass(cls):
        cls.connection.close()
        cls.database.__exit__()

    def execute(self, query, *parameters):
        return self.connection.execute(query, parameters or None)

    def load(self, columns, rows):
        """A temporary table, its rows numbered; columns are (name, type)."""
        self.execute("DROP TABLE IF EXISTS given")
        listed = ", ".join('"%s" %s' % (name.replace('"', '""'), kind) for name, kind in columns)
        self.execute("CREATE TEMP TABLE given (n serial, %s)" % listed)
        names = ", ".join('"%s"' % name.replace('"', '""') for name, _ in columns)
        with self.connection.cursor().copy("COPY given (%s) FROM STDIN" % names) as copy:
            for row in rows:
                copy.write_row(row)

    def scores(self, data, options="{}"):
        """The scores of the table's rows by a model of these bytes."""
        type(self).count += 1
        name = "m%d" % self.count
        version = self.execute("SELECT visage_import_model(%s, %s::bytea, NULL, %s::jsonb)",
                               name, data, options).fetchone()[0]
        rows = self.execute("SELECT visage_scores('%s@%d', given) FROM given ORDER BY n" % (name, version)).fetchall()
        self.compare_blocks("%s@%d" % (name, version))
        self.execute("SELECT visage_drop_model(%s, false)", name)
        return [row[0] for row in rows]

    def compare_blocks(self, model):
        """Scoring in blocks gives the bits and classes of scoring row by row."""
        self.execute("CALL visage_score_table(%s, 'SELECT * FROM given', 'blocks', '{n}')", model)
        different = self.execute(
            "SELECT count(*) FROM given FULL JOIN blocks AS b USING (n) WHERE float8send(b.score) IS DISTINCT FROM float8send(visage_score(%s, given))"
            " OR b.class IS DISTINCT FROM visage_predict(%s, given)", model, model).fetchone()[0]
        self.assertEqual(different, 0, model)

    def compare(self, what, found, expected, single, allowed):
        """Every row's scores must be the expected ones."""
        self.assertEqual(len(found), len(expected), what)
        for number, (scores, wanted) in enumerate(zip(found, expected)):
            if len(wanted) == 1 and len(scores) == 2:
                scores = scores[1:]
            self.assertEqual(len(scores), len(wanted), what)
            for score, value in zip(scores, wanted):
                self.assertLessEqual(ulps(score, value, single), allowed, "%s, row %d: %r is not %r" % (
                    what, number, score, value))

    def compare_file(self, model, rows, data=None):
        """A model file against its rows in the format of generate.py."""
        with open(rows, encoding="utf-8") as file:
            lines = [line.rstrip("\n").split("\t") for line in file]
        header = [field.rsplit(":", 1) for field in lines[0]]
        expected = {kind: [i for i, (name, _) in enumerate(header) if re.match(kind + r"\.\d+$", name)]
                    for kind in ("raw", "out", "shap")}
        inputs = range(min(expected["raw"]))
        # what an option renames it to: a name of SQL has at most 63 bytes
        self.load([header[i] for i in inputs],
                  [[None if line[i] == "\\N" else line[i].replace("\\\\", "\\") for i in inputs]
                   for line in lines[1:]])
        single = "xgboost" in os.path.basename(model)
        linear = "gblinear" in os.path.basename(model)
        data = data or read(model)
        for kind, options, allowed in (("raw", '{"output": "raw"}', 0), ("out", "{}", 1)):
            values = [[float(line[i].replace("Infinity", "inf")) for i in expected[kind]] for line in lines[1:]]
            self.compare("%s, %s" % (os.path.basename(model), kind), self.scores(data, options), values, single,
                         1 if linear else allowed)
        if expected["shap"]:
            self.compare_contributions(os.path.basename(model), data, [header[i][0] for i in inputs],
                                       {number: [float(line[i]) for i in expected["shap"]]
                                        for number, line in enumerate(lines[1:], 1) if line[expected["shap"][0]] != "\\N"}, single)

    def compare_contributions(self, what, data, names, expected, single):
        """What each input adds, and the base value, against TreeSHAP of the
        library, which XGBoost computes in float32: for numbers of rows."""
        tolerance = 1e-4 if single else 1e-9
        version = self.execute("SELECT visage_import_model('explained', %s::bytea)", data).fetchone()[0]
        rows = self.execute("SELECT n, feature, contribution FROM given, visage_explain('explained@%d', given)"
                            " WHERE n = ANY (%%s)" % version, list(expected)).fetchall()
        self.execute("SELECT visage_drop_model('explained', false)")
        found = {(number, feature): contribution for number, feature, contribution in rows}
        for number, wanted in expected.items():
            for feature, value in zip(names + [None], wanted):
                self.assertLessEqual(abs(found[number, feature] - value), tolerance * max(1, abs(value)),
                                     "%s, row %d, contribution of %s" % (what, number, feature))

    def compare_directory(self, directory):
        models = sorted(path for path in glob.glob(os.path.join(directory, "*")) if not path.endswith(".tsv"))
        for model in models:
            with self.subTest(os.path.basename(model)):
                self.compare_file(model, os.path.splitext(model)[0] + ".tsv")
        return models

    def test_small_models(self):
        self.assertGreater(len(self.compare_directory(os.path.join(MODELS, "small"))), 100)

    def test_reference_lists_what_is_read(self):
        """The table of objectives: each is under small/, and all are listed."""
        with open(REFERENCE, encoding="utf-8") as file:
            listed = re.findall(r"^\| `([a-z_:0-9]+)` \| [^|]* \| [^|]* \|$", file.read(), re.M)
        self.assertEqual(len(listed), len(set(listed)))
        found = set()
        for path in glob.glob(os.path.join(MODELS, "small", "*")):
            text = read(path)
            if path.endswith(".json"):
                found.update(re.findall(rb'"objective":\{"name":"([a-z_:]+)"', text))
                found.update(re.findall(rb'"objective":\{[^{}]*\{[^{}]*\}[^{}]*"name":"([a-z_:]+)"', text))
            elif path.endswith(".txt"):
                found.update(re.findall(rb"^objective=([a-z_0-9]+)", text, re.M))
                if b"\nobjective=" not in text:
                    found.add(b"custom")
        found = {name.decode() for name in found}
        # an older name, which XGBoost writes no more
        self.assertEqual(found | {"reg:linear"}, set(listed))

    # ---- files of others ----

    def outcomes(self):
        with open(os.path.join(MODELS, "outcomes.tsv"), encoding="utf-8") as file:
            return [line.rstrip("\n").split("\t") for line in file if not line.startswith("#")]

    @unittest.skipUnless(SHARED, "no ../shared: set VISAGE_SHARED to the directory with data/models")
    def test_every_shared_file(self):
        root = os.path.join(SHARED, "data", "models")
        outcomes = self.outcomes()
        there = set()
        for folder in ("jpmml-lightgbm/lgbm", "jpmml-xgboost/xgboost", "jpmml-xgboost/xgboost/legacy", "leaves",
                       "lleaves", "mlserver", "tl2cgen", "treelite"):
            for path in glob.glob(os.path.join(root, folder, "*")):
                name = os.path.relpath(path, root)
                if os.path.isfile(path) and not re.search(
                        r"_data|predictions|_test|\.test|\.train|\.libsvm|densemat|README", name):
                    there.add(name)
        self.assertEqual({outcome[0] for outcome in outcomes}, there)
        for path, outcome, detail in outcomes:
            with self.subTest(path):
                if outcome == "refused":
                    self.refuse(read(os.path.join(root, path)), detail)
                elif detail.endswith(".tsv"):
                    self.compare_file(("xgboost" if path.endswith("json") else "") + path,
                                      os.path.join(MODELS, "shared", detail), read(os.path.join(root, path)))
                else:
                    getattr(self, "compare_" + detail)(root, path)

    def refuse(self, data, what):
        with self.assertRaises(Exception) as caught:
            self.execute("SELECT visage_import_model('refused', %s::bytea)", data)
        self.assertEqual(caught.exception.sqlstate, "0A000")
        self.assertTrue(caught.exception.diag.message_primary.startswith(what + " is not supported by Visage "),
                        caught.exception.diag.message_primary)

    def inputs_of(self, data):
        """Names and kinds of a model's inputs."""
        self.execute("SELECT visage_import_model('asked', %s::bytea, options => '{\"output\": \"raw\"}')", data)
        inputs = self.execute("SELECT inputs FROM visage.models WHERE model = 'asked'").fetchone()[0]
        self.execute("SELECT visage_drop_model('asked', false)")
        return [(entry["name"], entry["type"]) for entry in inputs]

    def compare_csv(self, root, path):
        """Tables with a header, N/A or NA for NULL, and one of predictions for each
        model; NAME@N.csv has those of its first N iterations."""
        folder, name = path.split("/")[0], os.path.basename(path).split(".")[0]
        tables = os.path.join(root, folder, "csv")
        inputs = self.inputs_of(read(os.path.join(root, path)))

        def table(file):
            found = glob.glob(os.path.join(tables, file + ".csv*"))
            return list(csv.DictReader(io.StringIO(read(found[0]).decode()))) if found else None

        source = re.sub(r"^(Multi)?(RF)?(Binomial|Multinomial|Linear|Logistic|Quantile)?"
                        r"(Classification|Regression|DecisionTree|RandomForest)(Regression)?", "", name)
        rows = table(source) or table(source.replace("Bin", ""))
        wanted = {"TRUE": "1", "FALSE": "0"}

        def value(row, column, kind):
            if column in row:
                text = row[column]
                return None if text in ("N/A", "NA") else wanted.get(text, text) if kind == "number" else text.lower() \
                    if text in wanted else text
            # a column for each category, as pandas makes them
            base, _, category = column.partition("_")
            return "1" if row[base] == category else "0"

        self.load([(column, "float8" if kind == "number" else "text") for column, kind in inputs],
                  [[value(row, column, kind) for column, kind in inputs] for row in rows])
        single = "xgboost" in folder
        files = [os.path.basename(file).split(".csv")[0] for file in glob.glob(os.path.join(tables, name + "*.csv*"))
                 if re.match(re.escape(name) + r"(@\d+)?\.csv", os.path.basename(file))]
        self.assertTrue(files)
        for file in files:
            expected = [[float(cell) for column, cell in row.items()
                         if "probability" in column or not any("probability" in other for other in row)]
                        for row in table(file)]
            if file.startswith("Multi") and "probability" in str(table(file)[0]):
                classes = len(expected[0]) // 2 if "Binomial" in file else 1
                expected = [row[1::2] for row in expected] if classes > 1 else expected
            options = '{"iterations": %s}' % file.split("@")[1] if "@" in file else "{}"
            found = self.scores(read(os.path.join(root, path)), options)
            self.compare(file, found, [row[-1:] if len(row) == 2 and len(found[0]) == 2 and "Multi" not in file else row
                                       for row in expected], single, 1)

    def compare_leaves(self, root, path):
        """Files of predictions beside rows without names."""
        data = read(os.path.join(root, path))
        inputs = self.inputs_of(data)
        if "lgmulticlass" in path:
            rows = [line.split("\t")[1:] for line in
                    read(os.path.join(root, "leaves", "multiclass_test.tsv.gz")).decode().splitlines()]
            files = [("lgmulticlass_true_raw_predictions.txt", '{"output": "raw"}'),
                     ("lgmulticlass_true_predictions.txt", "{}")]
        elif "lg_rf_iris" in path:
            rows = [[pair.split(":")[1] for pair in line.split()[1:]] for line in
                    read(os.path.join(root, "leaves", "iris_test.libsvm")).decode().splitlines()]
            # made before 2.2: the trees have probabilities, see import_lightgbm.c
            files = [("lg_rf_iris_true_predictions.txt", '{"output": "raw"}')]
        else:
            rows = [[pair.split(":")[1] for pair in line.split()[1:]] for line in read(os.path.join(
                root, "treelite", "toy_categorical_toy_categorical.test")).decode().splitlines()]
            files = [("../treelite/toy_categorical_toy_categorical.test.pred", "{}")]
        self.load([(name, "float8") for name, _ in inputs], rows)
        for file, options in files:
            expected = [[float(cell) for cell in line.split()] for line in
                        read(os.path.join(root, "leaves", file)).decode().splitlines()]
            # the exp of another C library
            self.compare(file, self.scores(data, options), expected, False, 0 if "raw" in options else 4)

    # ---- the big set ----

    @unittest.skipUnless(os.environ.get("VISAGE_LONG"), "about 500 models are trained only by scripts/check --long")
    @unittest.skipUnless(SHARED, "no ../shared: set VISAGE_SHARED to the directory with data/models")
    def test_large_models(self):
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        made = []
        for pins in sorted(glob.glob(os.path.join(MODELS, "pins-*.txt"))):
            python = subprocess.run(["bash", "-c", '. "$0" && vsg_venv "$1"', os.path.join(
                house.SOURCE, "scripts", "lib.sh"), pins], check=True, capture_output=True, text=True).stdout.strip()
            here = os.path.join(directory, os.path.basename(pins))
            made.append((here, subprocess.Popen([python, "-W", "ignore", os.path.join(MODELS, "generate.py"), here],
                                                env=dict(os.environ, VISAGE_SHARED=SHARED))))
            self.addCleanup(made[-1][1].wait)
            self.addCleanup(made[-1][1].kill)
        # one is compared while the others are still made
        for here, process in made:
            self.assertEqual(process.wait(), 0, here)
            models = self.compare_directory(here)
            self.assertGreater(len(models), 100)
            for library in ("xgboost", "lightgbm"):
                self.assertGreater(max(os.path.getsize(m) for m in models if library in os.path.basename(m)), 45_000_000)
            shutil.rmtree(here)


if __name__ == "__main__":
    unittest.main()

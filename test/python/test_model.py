"""Training and metrics against scikit-learn, and the main job as a whole."""

import math
import os
import random
import subprocess
import unittest

import numpy
from sklearn import metrics
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import house

ROWS = 3000
SETUP = os.path.join(house.EXAMPLE, "02_setup.sql")


def draw(seed):
    """Rows with numbers, a missing one, and a category; and whether they churn."""
    randomness = random.Random(seed)
    rows = []
    for number in range(ROWS):
        x, y = randomness.gauss(5, 2), randomness.expovariate(0.01)
        plan = randomness.choice(["monthly", "yearly", "trial", "Müller's"])
        missing = randomness.random() < 0.2
        signal = 0.6 * (x - 5) - 0.004 * y + {"trial": 1.0, "yearly": -1.0}.get(plan, 0) + (0.7 if missing else 0)
        rows.append((number, x, None if missing else y, plan, randomness.random() < 1 / (1 + math.exp(-signal))))
    return rows


def delong(labels, scores):
    """The AUC's variance from its structural components, pair by pair."""
    positive, negative = scores[labels], scores[~labels]
    wins = (positive[:, None] > negative[None, :]) + 0.5 * (positive[:, None] == negative[None, :])
    return wins.mean(), wins.mean(axis=1).var(ddof=1) / len(positive) + wins.mean(axis=0).var(ddof=1) / len(negative)


class ModelTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.database = cls.enterClassContext(house.Database("model"))
        cls.connection = cls.enterClassContext(cls.database.connect())
        cls.connection.execute("CREATE TABLE customers (id int, x float8, y float8, plan text, churned boolean)")
        with cls.connection.cursor() as cursor:
            cursor.executemany("INSERT INTO customers VALUES (%s, %s, %s, %s, %s)", draw(1))

    def query(self, statement, *parameters):
        return self.connection.execute(statement, parameters or None).fetchall()

    def train(self, model, where="true", **options):
        return self.query(
            "SELECT version, rows, metrics FROM visage_train(%s, %s, 'churned', 'logistic', columns => '{\"key\": \"id\"}', split => %s, params => %s, deploy => 'always')",
            model, "SELECT * FROM customers WHERE " + where, options.get("split", "{}"), options.get("params", "{}"))[0]

    def test_probabilities_are_those_of_scikit_learn(self):
        rows = numpy.array([[x, numpy.nan if y is None else y, plan] for _, x, y, plan, _ in draw(1)], dtype=object)
        labels = numpy.array([row[4] for row in draw(1)])
        for c in (0.01, 1.0, 100.0):
            with self.subTest(C=c):
                self.train("churn", params='{"C": %g}' % c)
                found = numpy.array(self.query("SELECT visage_score('churn', c) FROM customers AS c ORDER BY id"), dtype=float)[:, 0]
                # a missing value counts as the mean and has an indicator, which is not standardised
                numbers = make_pipeline(SimpleImputer(strategy="mean"), StandardScaler())
                present = ~numpy.isnan(rows[:, 1].astype(float))
                y = rows[:, 1].astype(float)
                standard = numpy.where(present, (y - y[present].mean()) / y[present].std(), 0)
                matrix = ColumnTransformer([("x", numbers, [0]), ("plan", OneHotEncoder(), [2])], sparse_threshold=0).fit_transform(rows)
                matrix = numpy.column_stack([matrix.astype(float), standard, ~present])
                model = LogisticRegression(C=c, tol=1e-12, max_iter=100000).fit(matrix, labels)
                self.assertLess(numpy.abs(model.predict_proba(matrix)[:, 1] - found).max(), 2e-5)

    def test_metrics_are_those_of_scikit_learn(self):
        self.train("measured", "id < 2000")
        found = self.query("SELECT visage_evaluate('measured', 'SELECT * FROM customers WHERE id >= 2000', 'churned')")[0][0]
        pairs = numpy.array(self.query("SELECT visage_score('measured', c), churned::int FROM customers AS c WHERE id >= 2000"), dtype=float)
        scores, labels = pairs[:, 0], pairs[:, 1].astype(bool)
        false_rate, true_rate, _ = metrics.roc_curve(labels, scores)
        auc, variance = delong(labels, scores)
        top = numpy.sort(scores)[::-1][len(scores) // 10 - 1]
        wanted = {
            "rows": len(labels), "positives": labels.sum(), "auc": metrics.roc_auc_score(labels, scores), "pr_auc": metrics.average_precision_score(labels, scores),
            "logloss": metrics.log_loss(labels, scores), "brier": metrics.brier_score_loss(labels, scores), "ks": (true_rate - false_rate).max(),
            "gini": 2 * auc - 1, "auc_low": auc - 1.959964 * variance ** 0.5, "auc_high": auc + 1.959964 * variance ** 0.5,
            "lift": labels[scores >= top].mean() / labels.mean()}
        for name, value in wanted.items():
            self.assertAlmostEqual(found[name], value, places=6, msg=name)

    def test_a_holdout_does_not_depend_on_the_order_of_rows(self):
        first = self.train("held", split='{"holdout": 0.3}')[2]
        self.connection.execute("CREATE TABLE shuffled AS SELECT * FROM customers ORDER BY hashtext(id::text)")
        again = self.query("SELECT metrics FROM visage_train('held', 'SELECT * FROM shuffled', 'churned', 'logistic', columns => '{\"key\": \"id\"}', split => '{\"holdout\": 0.3}')")[0][0]
        self.assertEqual(first["rows"], again["rows"])
        self.assertAlmostEqual(first["auc"], again["auc"], places=9)
        self.assertAlmostEqual(first["rows"] / ROWS, 0.3, delta=0.03)


class MainJobTest(unittest.TestCase):
    """From the API to a score, as three people who are no superusers."""

    def test_the_register_agrees_with_scikit_learn(self):
        double = self.enterContext(house.Double())
        database = self.enterContext(house.Database("main_job", double))
        database.execute("CREATE SCHEMA sf AUTHORIZATION test_engineer")
        setup = ["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", database.name, "-U", "test_engineer", "-v", "base_url=" + double.url, "-f", SETUP]
        subprocess.run(setup, check=True, capture_output=True)
        for load in ("2021-01-01", "2023-03-10"):
            double.control(load=load)
            database.execute("CALL visage_ingest('sf.businesses')", role="engineer")
        database.execute("CALL sf.refresh()", role="engineer")
        with self.subTest("the setup again changes nothing"):
            before = database.rows("SELECT xmin::text, d.* FROM visage.declarations AS d ORDER BY noun, name", role="engineer")
            subprocess.run(setup, check=True, capture_output=True)
            self.assertEqual(database.rows("SELECT xmin::text, d.* FROM visage.declarations AS d ORDER BY noun, name", role="engineer"), before)
        with self.subTest("the hold-out is the real one"):
            self.assertEqual(database.value("SELECT count(*), count(*) FILTER (WHERE label) FROM enriched.sf_closing WHERE event_time = '2022-03-10'", role="reader"), (3829, 213))
        exported = database.rows("""SELECT event_time, label, age, category, district, legal_form, licence, licences, firm_age, owner_locations, closures_near_1y
            FROM enriched.sf_closing""", role="reader")
        auc = database.value("SELECT (metrics ->> 'auc')::float8 FROM visage.model_versions WHERE model = 'sf_closing'", role="reader")
        self.assertAlmostEqual(auc, self.peer(exported), delta=0.005)
        with self.subTest("each may do what its role is for, and no more"):
            score = "SELECT count(visage_score('sf_closing', t)) FROM enriched.sf_at_risk AS t"
            self.assertEqual(database.value(score, role="scorer"), database.value("SELECT count(*) FROM enriched.sf_at_risk", role="reader"))
            for role, statement in (("reader", score), ("scorer", "CALL visage_ingest('sf.businesses')"), ("engineer", "SELECT visage_adopt()")):
                with self.assertRaises(house.psycopg.errors.InsufficientPrivilege):
                    database.execute(statement, role=role)

    def peer(self, exported):
        """scikit-learn's AUC on the exported rows, by the example's program."""
        names = ["event_time", "label", "age", "category", "district", "legal_form", "licence", "licences", "firm_age", "owner_locations", "closures_near_1y"]
        lines = [",".join(names)]
        for row in exported:
            row = [row[0].isoformat(), "t" if row[1] else "f", *row[2:]]
            lines.append(",".join('"%s"' % str("" if value is None else value).replace('"', '""') for value in row))
        output = subprocess.run(["/usr/bin/python3", os.path.join(house.EXAMPLE, "compare.py")], input="\n".join(lines) + "\n", check=True, capture_output=True, text=True).stdout
        return float(output)


if __name__ == "__main__":
    unittest.main()

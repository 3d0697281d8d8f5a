"""Random linear and logistic models: one row at a time from the arguments, as
src/model/linear.c does from a query's second row on, from an array and in
blocks they give the same bits, those of a sum in four strands."""

import math
import random
import struct
import unittest

import house
from model_image import TERM_CENTER, TERM_SIZE, Image

SPECIAL = (None, math.nan, math.inf, -math.inf, 0.0, -0.0, 1e308, -1e308, 5e-324)
ROWS = 60


def pmml(inputs, terms, intercept, logistic):
    """A model whose terms are (input, coefficient), in this order."""
    names = ["x%d" % i for i in range(inputs)]
    return ('<PMML version="4.4" xmlns="http://www.dmg.org/PMML-4_4"><Header/><DataDictionary>%s<DataField name="y" optype="continuous" dataType="double"/>'
            '</DataDictionary><RegressionModel functionName="regression"%s><MiningSchema>%s<MiningField name="y" usageType="target"/></MiningSchema>'
            '<RegressionTable intercept="%r">%s</RegressionTable></RegressionModel></PMML>' % (
                "".join('<DataField name="%s" optype="continuous" dataType="double"/>' % name for name in names),
                ' normalizationMethod="logit"' if logistic else "", "".join('<MiningField name="%s"/>' % name for name in names), intercept,
                "".join('<NumericPredictor name="x%d" coefficient="%r"/>' % term for term in terms)))


def score(terms, centers, intercept, logistic, row):
    """Term i is added to strand i % 4; a missing value makes the score missing."""
    sums = [intercept, 0.0, 0.0, 0.0]
    for i, (place, coefficient) in enumerate(terms):
        sums[i % 4] += coefficient * ((math.nan if row[place] is None else row[place]) - centers[i])
    total = (sums[0] + sums[1]) + (sums[2] + sums[3])
    if math.isnan(total):
        return None
    if not logistic:
        return total
    return 1 / (1 + math.exp(-total)) if total > -709 else 0.0


def bits(value):
    return None if value is None else struct.pack("d", value)


class Linear(unittest.TestCase):
    def setUp(self):
        self.randomness = random.Random(1)
        self.database = house.Database("linear")
        self.addCleanup(self.database.__exit__)
        self.database.execute("CREATE SCHEMA scores AUTHORIZATION test_engineer")

    def rows(self, inputs):
        """Most without a special value."""
        for _ in range(ROWS):
            row = [self.randomness.gauss(0, 10) for _ in range(inputs)]
            for _ in range(self.randomness.choice((0, 0, 0, 1, 1, 2))):
                row[self.randomness.randrange(inputs)] = self.randomness.choice(SPECIAL)
            yield row

    def terms(self, order):
        return [(place, self.randomness.uniform(-2, 2)) for place in order]

    def scores(self, connection, expression, table="cases"):
        return [bits(score) for score, in connection.execute("SELECT %s FROM scores.%s ORDER BY n" % (expression, table)).fetchall()]

    def set_centers(self, connection, centers):
        """Makes the terms of a model differences from these, as visage_train does."""
        image = Image(connection.execute("SELECT visage_export_model('m')").fetchone()[0])
        for i, center in enumerate(centers):
            struct.pack_into("=d", image.data, image.steps[0]["data"] + TERM_SIZE * i + TERM_CENTER, center)
        connection.execute("SELECT visage_deploy('m', visage_import_model('m', %s::bytea))", [image.sealed()])

    def try_model(self, connection, inputs, order, with_centers):
        terms = self.terms(order)
        intercept = self.randomness.choice((0.0, -0.0, self.randomness.gauss(0, 1)))
        logistic = self.randomness.random() < 0.5
        rows = list(self.rows(inputs))
        connection.execute("SELECT visage_deploy('m', visage_import_model('m', %s::text, 'pmml'))", [pmml(inputs, terms, intercept, logistic)])
        centers = [self.randomness.gauss(0, 10) if with_centers else 0.0 for _ in terms]
        if with_centers:
            self.set_centers(connection, centers)
        connection.execute("DROP TABLE IF EXISTS scores.cases, scores.scored")
        connection.execute("CREATE TABLE scores.cases (n int, %s)" % ", ".join("x%d float8" % i for i in range(inputs)))
        with connection.cursor().copy("COPY scores.cases FROM STDIN") as copy:
            for i, row in enumerate(rows):
                copy.write_row([i] + [None if value is None else repr(value) for value in row])
        wanted = [bits(score(terms, centers, intercept, logistic, row)) for row in rows]
        names = ", ".join("x%d" % i for i in range(inputs))
        with self.subTest(order=order, inputs=inputs, logistic=logistic):
            self.assertEqual(self.scores(connection, "visage_score('m', %s)" % names), wanted)
            self.assertEqual(self.scores(connection, "visage_score('m', VARIADIC ARRAY[%s])" % names), wanted)
            connection.execute("CALL visage_score_table('m', 'TABLE scores.cases', 'scores.scored', '{n}')")
            self.assertEqual(self.scores(connection, "score", "scored"), wanted)

    def try_orders(self, order_of, with_centers=False):
        with self.database.connect("engineer") as connection:
            for inputs in range(1, 31):
                self.try_model(connection, inputs, order_of(list(range(inputs))), with_centers)

    def shuffled(self, places):
        return self.randomness.sample(places, len(places))

    def test_in_order(self):
        self.try_orders(lambda places: places)

    def test_shuffled(self):
        self.try_orders(self.shuffled)

    def test_in_order_at_first(self):
        def order(places):
            first = self.randomness.randint(0, len(places))
            return places[:first] + self.shuffled(places[first:])
        self.try_orders(order)

    def test_the_first_inputs(self):
        self.try_orders(lambda places: places[:self.randomness.randint(1, len(places))])

    def test_some_inputs(self):
        self.try_orders(lambda places: self.randomness.sample(places, self.randomness.randint(1, len(places))))

    def test_differences_from_centers(self):
        self.try_orders(self.shuffled, with_centers=True)

    def test_infinity_is_missing(self):
        """To a model that Visage has trained, however a row is read."""
        with self.database.connect("engineer") as connection:
            connection.execute("CREATE TABLE scores.seen (x0 float8, x1 float8, x2 float8, label bool)")
            connection.execute("INSERT INTO scores.seen SELECT n, nullif(n % 7, 3), sin(n), n % 3 = 0 OR n > 120 FROM generate_series(1, 200) AS n")
            connection.execute("SELECT visage_train('m', 'TABLE scores.seen', 'label', 'logistic', deploy => 'always')")
            connection.execute("CREATE TABLE scores.cases (n int, x0 float8, x1 float8, x2 float8)")
            values = (math.inf, -math.inf, 0.0, 2.5, 100.0)
            with connection.cursor().copy("COPY scores.cases FROM STDIN") as copy:
                for i, row in enumerate((a, b, c) for a in values for b in values for c in values):
                    copy.write_row((i,) + tuple(repr(value) for value in row))
            connection.execute("CREATE VIEW scores.without AS SELECT n, %s FROM scores.cases" % ", ".join(
                "CASE WHEN abs(x%d) < 'infinity' THEN x%d END AS x%d" % (i, i, i) for i in range(3)))
            wanted = self.scores(connection, "visage_score('m', x0, x1, x2)", "without")
            self.assertEqual(len(set(wanted)), 4 ** 3)
            self.assertNotIn(None, wanted)
            self.assertEqual(self.scores(connection, "visage_score('m', x0, x1, x2)"), wanted)
            self.assertEqual(self.scores(connection, "visage_score('m', VARIADIC ARRAY[x0, x1, x2])"), wanted)
            self.assertEqual(self.scores(connection, "visage_score('m', cases)"), wanted)
            connection.execute("CALL visage_score_table('m', 'TABLE scores.cases', 'scores.scored', '{n}')")
            self.assertEqual(self.scores(connection, "score", "scored"), wanted)


if __name__ == "__main__":
    unittest.main()

"""Random linear and logistic models: one row at a time from the arguments, as
src/model/linear.c does from a query's second row on, from an array and in
blocks they give the same bits, those of a sum in eight strands, with any
instructions."""

import decimal
import fractions
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


def fma(a, b, c):
    """a * b + c, rounded once."""
    if not math.isfinite(a) or not math.isfinite(b):
        return a * b + c
    if not math.isfinite(c):
        return c
    exact = fractions.Fraction(a) * fractions.Fraction(b) + fractions.Fraction(c)
    try:
        return float(exact) if exact else a * b + c
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


def total(terms, centers, intercept, row):
    """Term i is added to strand i % 8; a missing value makes the sum missing."""
    sums = [intercept] + [0.0] * 7
    for i, (place, coefficient) in enumerate(terms):
        sums[i % 8] = fma(coefficient, (math.nan if row[place] is None else row[place]) - centers[i], sums[i % 8])
    return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]))


def logistic_function(x):
    """To the last digit; 0 where exp(-x) overflows."""
    if math.isnan(x):
        return None
    if x <= -709.7:
        return 0.0
    with decimal.localcontext() as context:
        context.prec = 40
        return float(1 / (1 + decimal.Decimal(-x).exp())) if x < 800 else 1.0


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
        wanted = [total(terms, centers, intercept, row) for row in rows]
        names = ", ".join("x%d" % i for i in range(inputs))
        with self.subTest(order=order, inputs=inputs, logistic=logistic):
            scores = self.scores(connection, "visage_score('m', %s)" % names)
            if logistic:
                self.assert_close(scores, [logistic_function(x) for x in wanted])
            else:
                self.assertEqual(scores, [bits(None if math.isnan(x) else x) for x in wanted])
            self.assertEqual(self.scores(self.plain, "visage_score('m', %s)" % names), scores)
            for session in (connection, self.plain):
                self.assertEqual(self.scores(session, "visage_score('m', VARIADIC ARRAY[%s])" % names), scores)
                session.execute("CALL visage_score_table('m', 'TABLE scores.cases', 'scores.scored', '{n}')")
                self.assertEqual(self.scores(connection, "score", "scored"), scores)

    def assert_close(self, scores, wanted):
        """Four units in the last place are allowed."""
        for given, exact in zip(scores, wanted):
            if given is None or exact is None:
                self.assertIs(given, exact)
                continue
            number, = struct.unpack("d", given)
            self.assertLessEqual(abs(number - exact), 4 * math.ulp(exact))

    def try_orders(self, order_of, with_centers=False):
        with self.database.connect("engineer") as connection, \
                self.database.connect("engineer", options="-c visage.instructions=plain") as self.plain:
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

    def test_centers_are_left_out(self):
        """Of a model that Visage has trained, but for values far from zero: there its scores are those of the same values near zero."""
        with self.database.connect("engineer") as connection:
            connection.execute("CREATE TABLE scores.near AS SELECT n, n % 17 + 0.25 AS x0, nullif(n % 7, 3) * 0.5::float8 AS x1, n % 3 = 0 OR n > 120 AS label"
                               " FROM generate_series(1, 200) AS n")
            connection.execute("CREATE TABLE scores.far AS SELECT n, x0 + 2::float8 ^ 33 AS x0, x1 - 2::float8 ^ 34 AS x1, label FROM scores.near")
            scores = {}
            for place in ("near", "far"):
                connection.execute("SELECT visage_train(%s, %s, 'label', 'logistic', columns => '{\"exclude\": [\"n\"]}', split => '{}', deploy => 'always')",
                                   [place, "TABLE scores." + place])
                image = Image(connection.execute("SELECT visage_export_model(%s)", [place]).fetchone()[0])
                centers = [struct.unpack_from("=d", image.data, image.steps[0]["data"] + TERM_SIZE * i + TERM_CENTER)[0] for i in range(2)]
                self.assertEqual([center != 0 for center in centers], [place == "far"] * 2)
                scores[place] = connection.execute("SELECT visage_score('%s', t) FROM scores.%s AS t ORDER BY n" % (place, place)).fetchall()
                added = connection.execute("SELECT max(abs(visage_score('%s', t) - 1 / (1 + exp(-(SELECT sum(contribution) FROM visage_explain('%s', t))))))"
                                           " FROM scores.%s AS t" % (place, place, place)).fetchone()[0]
                self.assertLess(added, 1e-9)
            self.assertGreater(len(set(scores["near"])), 50)
            for (near,), (far,) in zip(scores["near"], scores["far"]):
                self.assertAlmostEqual(near, far, delta=1e-9)

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

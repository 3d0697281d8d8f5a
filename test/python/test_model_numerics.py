"""A numeric, in a column or in an object, becomes the double that the server's
own cast makes of it: src/model/value.c reads most of them by itself."""

import random
import unittest

import house

IDENTITY = """<PMML version="4.4" xmlns="http://www.dmg.org/PMML-4_4"><Header/>
<DataDictionary><DataField name="x" optype="continuous" dataType="double"/><DataField name="y" optype="continuous" dataType="double"/></DataDictionary>
<RegressionModel functionName="regression"><MiningSchema><MiningField name="x"/><MiningField name="y" usageType="target"/></MiningSchema>
<RegressionTable intercept="0"><NumericPredictor name="x" coefficient="1"/></RegressionTable></RegressionModel></PMML>"""
SPECIAL = ("0", "-0.0", "NaN", "Infinity", "-Infinity", "0.1", "-0.3", "9007199254740993", "9007199254740992.5", "9007199254740993.5", "1e-19", "1e-20",
           "9999999999999999999", "18446744073709551615", "18446744073709551616", "0.9999999999999999999", "1e300", "1e-300", "1e-320", "123456789012345678901234.5",
           "4503599627370497.5", "4503599627370496.5", "2.2250738585072014e-308", "5e-324")


def numerics(count):
    randomness = random.Random(1)
    for _ in range(count):
        digits = randomness.randrange(10 ** randomness.randint(1, 22))
        # half way between two doubles, or just beside it
        if randomness.random() < 0.3:
            digits = (randomness.randrange(1 << 52, 1 << 53) * 2 + 1) * (5 ** randomness.randint(0, 1)) + randomness.choice((-1, 0, 0, 1))
        yield "%s%de-%d" % (randomness.choice(("", "-")), digits, randomness.randint(0, 21))


class Numerics(unittest.TestCase):
    def test_as_the_server_casts(self):
        with house.Database("numerics") as database, database.connect("engineer") as connection:
            connection.execute("SELECT visage_deploy('identity', visage_import_model('identity', %s::text, 'pmml'))", [IDENTITY])
            connection.execute("CREATE TEMP TABLE cases (x numeric)")
            with connection.cursor().copy("COPY cases FROM STDIN") as copy:
                for value in (*SPECIAL, *numerics(20000)):
                    copy.write_row([value])
            wrong = connection.execute("SELECT x, visage_score('identity', x), x::float8 FROM cases"
                                       " WHERE float8send(visage_score('identity', x)) <> float8send(x::float8) AND x <> 'NaN'").fetchall()
            self.assertEqual(wrong, [])
            wrong = connection.execute("SELECT x, visage_score_json('identity', jsonb_build_object('x', x)), x::float8 FROM cases"
                                       " WHERE abs(x) < 'Infinity' AND visage_score_json('identity', jsonb_build_object('x', x)) <> x::float8").fetchall()
            self.assertEqual(wrong, [])


if __name__ == "__main__":
    unittest.main()

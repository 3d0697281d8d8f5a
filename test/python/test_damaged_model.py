"""A model whose bytes somebody has changed, checksum and all, is refused, or
harmless: every call answers or fails, soon, and the server lives."""

import math
import random
import struct
import unittest

import psycopg

import house
import test_model_ranks
from model_image import BODY, TREES, RankedImage, sealed

ROWS = "SELECT i::float8 AS a, (i %% 7)::int AS c, 'x' || (i %% 4) AS b, i %% 2 = 0 AS label FROM generate_series(1, 200) AS i"
CALLS = (
    "SELECT visage_score(%s, 1.5::float8, 3, 'x1'::text)",
    "SELECT visage_score(%s, NULL::float8, NULL::int, NULL::text)",
    """SELECT visage_score_json(%s, '{"a": 1, "b": "x9", "c": 2}')""",
    "SELECT visage_evaluate(%s, $$" + ROWS + "$$, 'label')",
)


def change_word(body, randomness, offset):
    """Some other word at an offset of the image."""
    word = struct.unpack_from("=I", body, offset)[0]
    struct.pack_into("=I", body, offset, randomness.choice((
        0, 1, word + 1, word - 1, word ^ 1, word + 4, len(body), len(body) - 4, 0x7FFFFFFF, 0x80000000,
        0xFFFFFFFF, randomness.getrandbits(32), randomness.randrange(len(body)))) & 0xFFFFFFFF)


class DamagedTest(unittest.TestCase):
    def setUp(self):
        self.database = house.Database("damaged")
        self.addCleanup(self.database.__exit__)
        self.connection = self.connect()

    def connect(self, **options):
        connection = self.database.connect("engineer", **options)
        self.addCleanup(connection.close)
        connection.execute("SET statement_timeout = '10s'")
        return connection

    def import_image(self, image):
        """The version's name; None where the model was refused."""
        try:
            return "damaged@%d" % self.connection.execute("SELECT visage_import_model('damaged', %s::bytea)", [image]).fetchone()[0]
        except psycopg.Error as error:
            self.assertEqual(error.sqlstate, "22023", error)
            return None


class DamagedModelTest(DamagedTest):
    def setUp(self):
        super().setUp()
        self.connection.execute("SELECT visage_train('whole', $$" + ROWS.replace("%%", "%") + "$$, algorithm => 'logistic')")
        self.image = bytes(self.connection.execute("SELECT visage_export_model('whole@1')").fetchone()[0])

    def try_image(self, image):
        """The errors of all calls; none where the model was refused."""
        version = self.import_image(image)
        states = []
        for call in CALLS if version else ():
            try:
                self.connection.execute(call, [version])
            except psycopg.Error as error:
                self.assertFalse(self.connection.closed, error)
                states.append(error.sqlstate)
        return states

    def test_the_checksum_is_as_said(self):
        self.assertEqual(sealed(bytearray(self.image)), self.image)

    def test_scores_that_are_no_numbers(self):
        states = []
        for offset in range(BODY, len(self.image) - 7, 8):
            body = bytearray(self.image)
            struct.pack_into("=d", body, offset, float("nan"))
            states += self.try_image(sealed(body))
        self.assertIn("22003", states)
        self.assertNotIn("57014", states)

    def test_any_word_changed(self):
        randomness = random.Random(1)
        for _ in range(400):
            body = bytearray(self.image)
            for _ in range(randomness.choice((1, 1, 2))):
                change_word(body, randomness, randomness.randrange(BODY, len(body) - 3, 4))
            self.assertNotIn("57014", self.try_image(sealed(body)))


class DamagedRanksTest(DamagedTest):
    """Ranks say again what the nodes say, so where they are accepted the
    scores are what they were, with any instructions."""

    def setUp(self):
        super().setUp()
        # the last of its trees is one leaf; one threshold more needs another stride
        self.ensemble = test_model_ranks.Ensemble(14, 32, 3, 31)
        self.connection.execute("SELECT visage_import_model('whole', %s::text, 'lightgbm')", [self.ensemble.text()])
        self.image = RankedImage(self.connection.execute("SELECT visage_export_model('whole@1')").fetchone()[0])
        self.assertEqual({ranked["strides"] for ranked in self.image.ranked}, {2})
        self.sessions = [self.connect(options="-c visage.instructions=" + instructions) for instructions in ("best", "avx2", "plain")]
        rows = [[None, math.nan, math.inf], [math.inf, -math.inf, None], [math.nan] * 3, *self.ensemble.rows[:97]]
        for session in self.sessions:
            session.execute("CREATE TEMP TABLE cases (n int, f0 float8, f1 float8, f2 float8)")
            with session.cursor().copy("COPY cases FROM STDIN") as copy:
                for i, row in enumerate(rows):
                    copy.write_row([i] + [None if value is None else repr(value) for value in row])
        self.wanted = [self.ensemble.scores(row)[0] for row in rows]

    def check_scores(self, version):
        for session in self.sessions:
            for batch_scoring, query in (("off", "SELECT n, visage_score('%s', f0, f1, f2) FROM cases ORDER BY n"),
                                         ("on", "SELECT n, max(visage_score('%s', f0, f1, f2)) FROM cases GROUP BY n ORDER BY n")):
                session.execute("SET visage.batch_scoring = " + batch_scoring)
                self.assertEqual([score for _, score in session.execute(query % version).fetchall()], self.wanted)

    def test_any_word_of_the_ranks_changed(self):
        trees = self.image.trees
        places = (range(trees["ranked"], trees["ranked"] + 16 * trees["ranked_count"], 4),
                  range(trees["thresholds"], trees["thresholds"] + 8 * trees["threshold_count"], 4),
                  range(trees["rank_tests"], trees["rank_tests"] + 4 * trees["rank_width"] * trees["tree_count"], 4),
                  range(trees["paths"], trees["paths"] + 256 * trees["tree_count"], 4),
                  range(trees["heads"], trees["heads"] + 4 * trees["tree_count"], 4),
                  [self.image.at + 4 * TREES.index(name) for name in TREES if "rank" in name or name in ("thresholds", "threshold_count", "paths", "heads")])
        randomness = random.Random(1)
        for _ in range(300):
            body = bytearray(self.image.data)
            for _ in range(randomness.choice((1, 1, 2))):
                change_word(body, randomness, randomness.choice(randomness.choice(places)))
            version = self.import_image(sealed(body))
            if version:
                self.check_scores(version)

    def test_any_word_changed(self):
        randomness = random.Random(1)
        for _ in range(200):
            body = bytearray(self.image.data)
            change_word(body, randomness, randomness.randrange(BODY, len(body) - 3, 4))
            version = self.import_image(sealed(body))
            for session in self.sessions if version else ():
                try:
                    session.execute("SELECT visage_score(%s, f0, f1, f2) FROM cases", [version])
                except psycopg.Error as error:
                    self.assertFalse(session.closed, error)
                    self.assertNotEqual(error.sqlstate, "57014", error)

    def test_no_ranks_but_what_leads_to_leaves(self):
        for paths in (self.image.trees["paths"], len(self.image.data), 0x7FFFFFC0):
            self.image.set("ranked_count", 0)
            self.image.set("paths", paths)
            self.image.set("rank_tests", paths)
            version = self.import_image(self.image.sealed())
            if version:
                self.check_scores(version)

    def test_thresholds_at_the_end(self):
        trees = self.image.trees
        thresholds = self.image.data[trees["thresholds"]:trees["thresholds"] + 8 * trees["threshold_count"]]
        # to the end of a page
        self.image.data += bytes(-(len(self.image.data) + len(thresholds)) % 4096)
        self.image.set("thresholds", len(self.image.data))
        self.image.data += thresholds
        version = self.import_image(self.image.sealed())
        self.assertIsNotNone(version)
        self.check_scores(version)

    def test_bytes_of_a_tree_without_tests(self):
        trees = self.image.trees
        number = trees["tree_count"] - 1
        self.assertEqual(self.image.tree(number)["leaf_count"], 1)
        for array in range(4):
            for byte in (1, 64, 95, 255):
                body = bytearray(self.image.data)
                body[self.image.tests_at(number, array)] = byte
                self.assertIsNone(self.import_image(sealed(body)))

    def test_a_last_threshold_that_values_may_exceed(self):
        for ranked in self.image.ranked:
            body = bytearray(self.image.data)
            offset = self.image.threshold_at(ranked, 16 * ranked["strides"] - 1)
            self.assertEqual(struct.unpack_from("=d", body, offset), (math.inf,))
            struct.pack_into("=d", body, offset, 1.7e308)
            self.assertIsNone(self.import_image(sealed(body)))


if __name__ == "__main__":
    unittest.main()

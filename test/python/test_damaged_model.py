"""A model whose bytes somebody has changed, checksum and all, is refused, or
harmless: every call answers or fails, soon, and the server lives."""

import random
import struct
import unittest

import psycopg

import house

CHECKSUM = 12  # of the image: CRC-32C of all that follows the field
BODY = 16
ROWS = "SELECT i::float8 AS a, (i %% 7)::int AS c, 'x' || (i %% 4) AS b, i %% 2 = 0 AS label FROM generate_series(1, 200) AS i"
CALLS = (
    "SELECT visage_score(%s, 1.5::float8, 3, 'x1'::text)",
    "SELECT visage_score(%s, NULL::float8, NULL::int, NULL::text)",
    """SELECT visage_score_json(%s, '{"a": 1, "b": "x9", "c": 2}')""",
    "SELECT visage_evaluate(%s, $$" + ROWS + "$$, 'label')",
)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def sealed(body):
    """The image with its checksum made right again."""
    struct.pack_into("=I", body, CHECKSUM, crc32c(body[BODY:]))
    return bytes(body)


class DamagedModelTest(unittest.TestCase):
    def setUp(self):
        self.database = house.Database("damaged")
        self.addCleanup(self.database.__exit__)
        self.connection = self.database.connect("engineer")
        self.addCleanup(self.connection.close)
        self.connection.execute("SET statement_timeout = '10s'")
        self.connection.execute("SELECT visage_train('whole', $$" + ROWS.replace("%%", "%") + "$$, algorithm => 'logistic')")
        self.image = bytes(self.connection.execute("SELECT visage_export_model('whole@1')").fetchone()[0])

    def try_image(self, image):
        """The errors of all calls; none where the model was refused."""
        try:
            version = self.connection.execute("SELECT visage_import_model('damaged', %s::bytea)", [image]).fetchone()[0]
        except psycopg.Error as error:
            self.assertEqual(error.sqlstate, "22023", error)
            return []
        states = []
        for call in CALLS:
            try:
                self.connection.execute(call, ["damaged@%d" % version])
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
                offset = randomness.randrange(BODY, len(body) - 3, 4)
                word = struct.unpack_from("=I", body, offset)[0]
                struct.pack_into("=I", body, offset, randomness.choice((
                    0, 1, word + 1, word - 1, word ^ 1, word + 4, len(body), len(body) - 4, 0x7FFFFFFF, 0x80000000,
                    0xFFFFFFFF, randomness.getrandbits(32), randomness.randrange(len(body)))) & 0xFFFFFFFF)
            self.assertNotIn("57014", self.try_image(sealed(body)))


if __name__ == "__main__":
    unittest.main()

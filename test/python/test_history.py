"""A history against an oracle (history_oracle.py): random records, deletes,
extracts and schema changes, in random orders and batches.  After each merge
the whole table must be what the oracle says of everything merged so far, and
every answer of __as_of that was given must still be given when asked for with
known_at.

A case is the history of one key in one order of arrival.  VISAGE_LONG=1 runs
100,000 or VISAGE_CASES, a run by default 2,000; VISAGE_SEED sets where they
begin.
"""

import datetime
import os
import random
import unittest
from decimal import Decimal

import house
import history_oracle as oracle

CASES = int(os.environ.get("VISAGE_CASES", "100000")) if os.environ.get("VISAGE_LONG") else 2_000
SEED = int(os.environ.get("VISAGE_SEED", "1"))
SIZES = [100, 300] if os.environ.get("VISAGE_LONG") else [8, 30, 60]
START = datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc)
INSTANTS = 10
NUMBERS = ["1.5", "1.50", "2", "0"]
TYPES = {"k": "int", "at": "timestamptz", "tie": "int", "a": "text", "b": "numeric", "c": "text", "n": "int", "f": "text", "op": "text"}


def when(instant):
    return None if instant is None else START + datetime.timedelta(hours=instant)


def literal(value):
    if value is None:
        return "NULL"
    if isinstance(value, datetime.datetime):
        return "'%s'" % value.isoformat()
    return "'%s'" % value


class World:
    """A declaration, and everything there is to merge: a list of merges, each
    (extract_at, complete, columns, records).  Some worlds that drift begin
    without the column c, which the first source to have it adds."""

    def __init__(self, seed):
        self.seed = seed
        self.random = random.Random(seed)
        choice = self.random.choice
        self.sequence = choice([[], ["at"], ["at", "tie"], ["at", "tie"]])
        self.deletes = choice(["ignore", "invalidate", "new_record"])
        self.delete_when = choice([True, False])
        self.overwrites = choice([True, True, False])
        self.drifts = choice([True, False, False])
        self.conflicts = choice([True, False])
        self.adds = self.drifts and not self.overwrites and not self.delete_when
        self.instants = choice([2, 4, INSTANTS, INSTANTS])
        self.in_tables = choice([True, False])
        self.keys = range(self.random.choice(SIZES))
        self.columns = ["k"] + self.sequence + ["a", "b", "f"]
        if self.overwrites or self.delete_when:
            self.columns += ["n", "op"]
        self.merges = [self.merge() for _ in range(self.random.randint(3, 9))]
        self.merges += self.random.sample(self.merges, self.random.randint(0, 2))

    def merge(self):
        """A batch of new records, or a complete extract."""
        rng = self.random
        complete = rng.random() < 0.4
        at = rng.randrange(self.instants)
        columns = list(self.columns)
        if self.drifts:
            columns += ["c"] if rng.random() < 0.5 else []
            columns = [c for c in columns if c not in ("b", "n", "f") or rng.random() < 0.8 or (c == "n" and self.delete_when)]
        records = []
        for k in self.keys:
            count = rng.choice([0, 1, 1, 1]) if complete or not self.sequence else rng.choice([0, 0, 1, 1, 2, 4])
            for _ in range(count):
                records.append(self.record(k, at, complete, columns))
        return at, complete, columns, records

    def record(self, k, at, complete, columns):
        rng = self.random
        record = {"k": k, "at": at, "deleted": False, "a": rng.choice("xyz" if rng.random() < 0.3 else "xy"), "b": Decimal(rng.choice(NUMBERS)) if rng.random() < 0.3 else None,
                  "c": rng.choice([None, "p", "q"]), "f": rng.choice("fgh"), "n": rng.randrange(3)}
        if self.sequence:
            record["at"] = rng.randrange(at + 1) if complete else rng.randrange(self.instants)
        if len(self.sequence) > 1:
            record["tie"] = rng.choice([None, 1, 2, 3])
        if self.delete_when and rng.random() < 0.2:
            record["deleted"] = True
        if not self.conflicts:
            # what a source says of one key and sequence is always the same
            fixed = random.Random("%s %s %s" % (k, record["at"], record.get("tie")))
            record.update(f=fixed.choice("fg"), n=fixed.randrange(3), a=fixed.choice("xy"), b=fixed.choice([None, Decimal("1.5")]), c=fixed.choice([None, "p", "q"]),
                          deleted=self.delete_when and fixed.random() < 0.2)
        record["op"] = "D" if record["deleted"] else "U"
        return {c: v for c, v in record.items() if c in columns or c in ("k", "at", "deleted")}

    def source(self, merge):
        """The merge's records as a query."""
        _, _, columns, records = merge
        rows = []
        for record in records:
            row = dict(record, at=when(record["at"]))
            rows.append("(%s)" % ", ".join("%s::%s" % (literal(row.get(c)), TYPES[c]) for c in columns))
        if not rows:
            return "SELECT %s WHERE false" % ", ".join("NULL::%s AS %s" % (TYPES[c], c) for c in columns)
        return "SELECT * FROM (VALUES %s) AS v (%s)" % (", ".join(rows), ", ".join(columns))

    def declare(self, connection, name):
        columns = self.columns + (["c"] if self.drifts and not self.adds else [])
        nothing = "SELECT %s WHERE false" % ", ".join("NULL::%s AS %s" % (TYPES[c], c) for c in columns)
        connection.execute("SELECT visage_create_history(%s, %s, '{k}', sequence_by => %s, track_history_columns => %s, fixed_columns => '{f}', hard_deletes => %s, delete_when => %s)",
                           ["history." + name, nothing, self.sequence or None, None if self.adds else [c for c in columns if c in oracle.TRACKED], self.deletes, "op = 'D'" if self.delete_when else None])

    def __repr__(self):
        return "seed %d, sequence %s, deletes %s, delete_when %s, overwrites %s, drifts %s, conflicts %s, in tables %s" % (
            self.seed, self.sequence, self.deletes, self.delete_when, self.overwrites, self.drifts, self.conflicts, self.in_tables)


class HistoryTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.database = house.Database("history")
        cls.addClassCleanup(cls.database.__exit__)
        cls.connection = cls.database.connect()
        cls.addClassCleanup(cls.connection.close)
        cls.connection.execute("SET client_min_messages = warning; SET TimeZone = 'UTC'; SET synchronous_commit = off")
        cls.hashes = cls.read_hashes()

    @classmethod
    def read_hashes(cls):
        """column → value → its part of a row's hash, which decides between
        records that contradict each other."""
        values = {"a": list("xyz"), "b": [Decimal(n) for n in NUMBERS], "c": list("pq"), "n": [0, 1, 2], "f": list("fgh"), "op": ["U"]}
        hashes = {}
        for column, known in values.items():
            query = "SELECT v AS k, timestamptz '2024-01-01' AS at, v AS %s FROM unnest('{%s}'::%s[]) AS v" % (column, ",".join(map(str, known)), TYPES[column])
            cls.connection.execute("SELECT visage_create_history(%s, %s, '{k}', sequence_by => '{at}')", ["history.hash_" + column, query])
            cls.connection.execute("SELECT visage_merge(%s)", ["history.hash_" + column])
            hashes[column] = dict(cls.connection.execute("SELECT %s, row_hash FROM history.hash_%s" % (column, column)).fetchall())
        return hashes

    def told(self, name, columns):
        query = "SELECT k, valid_from, nullif(valid_to, 'infinity'), is_deleted, %s FROM history.%s ORDER BY k, valid_from" % (", ".join(columns), name)
        found = {}
        for row in self.connection.execute(query):
            found.setdefault(row[0], []).append(row[1:])
        return found

    def expected(self, world, merges, columns):
        records, extracts = {}, []
        for at, complete, _, rows in merges:
            seen = {}
            for row in rows:
                row = dict(row) if world.sequence else dict(row, at=at)
                records.setdefault(row["k"], []).append(row)
                seen.setdefault(row["k"], []).append(row)
            if complete and world.deletes != "ignore":
                extracts.append((at, seen))
        result = {}
        for k, rows in records.items():
            found = oracle.versions(rows, extracts, k, world.deletes, self.hashes)
            if found:
                result[k] = [(when(v["from"]), when(v["to"]), v["is_deleted"], *(v.get(c) for c in columns)) for v in found]
        return result

    def answers(self, name, columns, known_at=None):
        """A digest of __as_of at every instant and between."""
        return self.connection.execute(
            "SELECT count(*), sum(hash_record_extended(r, 0)) FROM (SELECT v, k, valid_from, %s FROM generate_series(%%s::timestamptz, %%s, '30 min') AS v,"
            " LATERAL history.%s__as_of(v, %%s)) AS r" % (", ".join(columns), name),
            [when(-1), when(INSTANTS), known_at]).fetchone()

    def merge(self, world, merge, name):
        at, complete, _, _ = merge
        source = world.source(merge)
        if world.in_tables:
            self.connection.execute("DROP TABLE IF EXISTS batch")
            self.connection.execute("CREATE TABLE batch AS " + source)
            source = "batch"
        extract_at = when(at) if complete or not world.sequence else None
        self.connection.execute("SELECT visage_merge(%s, %s, %s, %s)", ["history." + name, source, complete, extract_at])

    def run_world(self, world, merges, name):
        """Merge in this order, checking after each; the table at the end."""
        world.declare(self.connection, name)
        columns = ["a", "b", "f"] + (["n"] if "n" in world.columns else [])
        saved = []
        for done, merge in enumerate(merges, 1):
            self.merge(world, merge, name)
            known = columns + (["c"] if world.drifts and (not world.adds or any("c" in m[2] for m in merges[:done])) else [])
            with self.subTest(world=world, done=done, name=name):
                self.assertEqual(self.told(name, known), self.expected(world, merges[:done], known))
            saved.append((self.connection.execute("SELECT clock_timestamp()").fetchone()[0], known, self.answers(name, known)))
        for known_at, known, answers in saved:
            self.assertEqual(self.answers(name, known, known_at), answers)
        table = self.told(name, known + world.sequence)
        self.connection.execute("SELECT visage_drop_history(%s, keep_data => false)", ["history." + name])
        return table

    def test_any_order_is_the_oracles(self):
        cases = 0
        seed = SEED * 1_000_000
        while cases < CASES:
            world = World(seed)
            seed += 1
            first = self.run_world(world, world.merges, "first")
            shuffled = list(world.merges)
            world.random.shuffle(shuffled)
            second = self.run_world(world, shuffled, "second")
            with self.subTest(world=world):
                self.assertEqual(first, second)
            cases += 2 * len(world.keys)

    def test_memory_makes_no_difference(self):
        """30,000 keys in more than one partition, by index and in one piece; in
        the order of the versions, and in others; by a query or from a table."""
        rows = ("SELECT i AS k, timestamptz '2024-01-01' + interval '1 day' * {0} AS at, CASE WHEN i % 10 = {0} THEN 'b' ELSE 'a' END AS a, repeat('x', i % 300) AS b"
                " FROM generate_series({1}, {2}) AS i")
        merges = [
            (rows.format(0, 1, 30_000), True, when(0)),
            (rows.format(2, 2_000, 27_000), False, None),
            (rows.format(3, 100, 30_100) + " WHERE i % 1000 <> 7", True, when(24 * 4)),
            (rows.format(1, 5_000, 6_500) + " UNION ALL " + rows.format(5, 5_000, 6_500), False, None),
            (rows.format(0, 1, 30_000), True, when(0)),
        ]
        tables = []
        for name, memory, pieces, order in (("small", "1MB", 1, ""), ("large", "256MB", 1, ""), ("pieces", "256MB", 40, ""), ("small_shuffled", "1MB", 1, "md5({0} || k::text)"),
                                            ("shuffled", "256MB", 1, "md5({0} || k::text)"), ("small_behind", "1MB", 1, "(k + {0}) % 7, k DESC"), ("behind", "256MB", 1, "(k + {0}) % 7, k DESC"),
                                            ("small_shuffled_table", "1MB", 1, "md5({0} || k::text)"), ("shuffled_table", "256MB", 1, "md5({0} || k::text)")):
            nothing = rows.format(0, 1, 0)
            self.connection.execute("SELECT visage_create_history(%s, %s, '{k}', '{at}', hard_deletes => 'invalidate')", ["history." + name, nothing])
            self.connection.execute("SELECT set_config('visage.merge_memory', %s, false)", [memory])
            for number, (query, complete, at) in enumerate(merges):
                for piece in range(1 if complete else pieces):
                    part = "SELECT * FROM (%s) AS r WHERE k %% %d = %d" % (query, 1 if complete else pieces, piece)
                    if order:
                        part += " ORDER BY " + order.format(number)
                    if name.endswith("_table"):
                        self.connection.execute("DROP TABLE IF EXISTS batch")
                        self.connection.execute("CREATE TABLE batch AS " + part)
                        part = "batch"
                    self.connection.execute("SELECT visage_merge(%s, %s, %s, %s)", ["history." + name, part, complete, at])
            tables.append(self.connection.execute("SELECT k, at, a, b, valid_from, valid_to::text, is_deleted FROM history.%s ORDER BY k, valid_from" % name).fetchall())
        self.connection.execute("RESET visage.merge_memory")
        self.assertGreater(len(tables[0]), 33_000)
        for table in tables[1:]:
            self.assertEqual(tables[0], table)


if __name__ == "__main__":
    unittest.main()

"""Real registers over time, as dated extracts: merged in order, in reverse and
shuffled, the history as of each date is the extract of that date, and all
three histories are the same.

The data are public and beside the sources, not in them: VISAGE_SHARED, or
../shared, whose data/README.md says where they come from.
"""

import csv
import datetime
import gzip
import io
import json
import os
import random
import tarfile
import unittest

import house

DATA = os.path.join(os.environ.get("VISAGE_SHARED") or os.path.join(house.SOURCE, "..", "shared"), "data")


def noon(text):
    """The day in a file's name, as an instant."""
    digits = "".join(c for c in text if c.isdigit())[-8:]
    return datetime.datetime.strptime(digits, "%Y%m%d").replace(hour=12, tzinfo=datetime.timezone.utc)


def members(name):
    with tarfile.open(os.path.join(DATA, name)) as archive:
        for member in archive:
            if member.isfile():
                yield member.name, archive.extractfile(member).read().decode("utf-8", "replace")


def restaurants():
    directory = os.path.join(DATA, "sf_restaurants_scd")
    for name in sorted(os.listdir(directory)):
        if name.startswith("businesses"):
            with gzip.open(os.path.join(directory, name), "rt", encoding="cp1252", errors="replace") as file:
                yield noon(name), "business_id", list(csv.DictReader(file))


def fires():
    for name, text in members("calfire_api_scd/incidents_2020-2021.tar.xz"):
        records = [{c.lower(): v if isinstance(v, str) or v is None else json.dumps(v) for c, v in r.items()} for r in json.loads(text)["Incidents"]]
        yield noon(name), "uniqueid", records


def companies():
    for name, text in members("sp500_scd/constituents_to2024.tar.gz"):
        records = [{c.strip().lower().replace(" ", "_").replace("-", "_"): v for c, v in r.items() if c} for r in csv.DictReader(io.StringIO(text))]
        yield noon(name), "symbol", records


def extracts(register):
    """date → (key, records): each key once, the last one of a day."""
    found = {}
    for at, key, records in register():
        unique = {r[key]: r for r in records if r.get(key)}
        if unique:
            found[at] = key, list(unique.values())
    return found


class RegisterTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.database = house.Database("registers")
        cls.addClassCleanup(cls.database.__exit__)
        cls.connection = cls.database.connect()
        cls.addClassCleanup(cls.connection.close)
        cls.connection.execute("SET client_min_messages = warning; SET TimeZone = 'UTC'")

    def load(self, records):
        """A table of the extract, all text."""
        columns = list(records[0])
        self.connection.execute("DROP TABLE IF EXISTS extract; CREATE TABLE extract (%s)" % ", ".join('"%s" text' % c for c in columns))
        with self.connection.cursor().copy("COPY extract FROM STDIN") as copy:
            for record in records:
                copy.write_row([v.replace("\0", "") if isinstance(v, str) else None for v in map(record.get, columns)])
        return columns

    def replay(self, name, found, dates):
        """The history of the extracts merged in this order, checked."""
        key = found[dates[0]][0]
        self.load(found[dates[0]][1])
        self.connection.execute("SELECT visage_create_history('history.' || %s, 'extract', ARRAY[%s], hard_deletes => 'invalidate')", [name, key])
        for at in dates:
            self.load(found[at][1])
            self.connection.execute("SELECT visage_merge(('history.' || %s)::regclass, complete => true, extract_at => %s)", [name, at])
        for at in dates:
            columns = ", ".join('"%s"' % c for c in self.load(found[at][1]))
            there = "SELECT %s FROM history.%s__as_of('%s')" % (columns, name, at.isoformat())
            differ = "SELECT count(*) FROM ((TABLE extract EXCEPT ALL {0}) UNION ALL ({0} EXCEPT ALL TABLE extract)) AS d".format(there)
            self.assertEqual(self.connection.execute(differ).fetchone()[0], 0, "%s as of %s" % (name, at))
        columns = sorted({c for at in dates for c in found[at][1][0]})
        return self.connection.execute("SELECT %s, valid_from, valid_to::text FROM history.%s ORDER BY %s, valid_from" % (", ".join('"%s"' % c for c in columns), name, key)).fetchall()

    def check(self, register):
        if not os.path.isdir(DATA):
            self.skipTest("the public data are missing; set VISAGE_SHARED to the directory that has data/%s" % register.__name__)
        found = extracts(register)
        dates = sorted(found)
        if not os.environ.get("VISAGE_LONG"):
            dates = dates[:: max(1, len(dates) // 40)]
        shuffled = random.Random(1).sample(dates, len(dates))
        name = register.__name__
        first = self.replay(name + "_in_order", found, dates)
        self.assertGreater(len(first), len(found[dates[0]][1]))
        self.assertEqual(self.replay(name + "_in_reverse", found, dates[::-1]), first)
        self.assertEqual(self.replay(name + "_shuffled", found, shuffled), first)

    def test_restaurants(self):
        self.check(restaurants)

    def test_fires(self):
        self.check(fires)

    def test_companies(self):
        self.check(companies)


if __name__ == "__main__":
    unittest.main()

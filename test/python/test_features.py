"""Features against an oracle that goes through the events one by one."""

import datetime
import json
import math
import random
import unittest

import house

CASES = 40
ENTITIES = ["a", "b", "c", None]
START = datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc)
WINDOWS = [None, datetime.timedelta(days=1), datetime.timedelta(days=7, hours=3)]


def instant(randomness):
    """A time of few values, so that ties and window edges are met."""
    return START + datetime.timedelta(hours=6 * randomness.randrange(120))


def draw_event(randomness):
    return {"entity": randomness.choice(ENTITIES), "at": randomness.choice([None] + [instant(randomness) for _ in range(20)]),
            "recorded": instant(randomness), "value": randomness.choice([None, 0.0, 1.5, -2.0, float("nan"), float("inf"), 1e9]),
            "kind": randomness.choice(["x", "y", None])}


def draw_feature(randomness):
    """(definition, what the oracle needs of it)."""
    aggregate = randomness.choice(["count", "count_distinct", "sum", "avg", "min", "max", "stddev", "first", "last", "recency", "age"])
    definition = {"agg": aggregate}
    if aggregate not in ("recency", "age") and (aggregate != "count" or randomness.random() < 0.5):
        definition["of"] = randomness.choice(["kind", "value"]) if aggregate in ("count", "count_distinct", "first", "last") else "value"
    window = randomness.choice(WINDOWS)
    if window:
        definition["window"] = "%d seconds" % window.total_seconds()
    if randomness.random() < 0.4:
        definition["where"] = "kind = 'x'"
    return definition


def text(value):
    """A value as PostgreSQL writes it, for the order of ties."""
    if isinstance(value, str) or value is None:
        return value
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return "%d" % value if value == int(value) and abs(value) < 1e15 else repr(value)


def finite(value):
    return value if not isinstance(value, float) or math.isfinite(value) else None


def values_of(definition, events, at):
    """(time, value) of the events that the feature sees."""
    window = datetime.timedelta(seconds=int(definition["window"].split()[0])) if "window" in definition else None
    return [(event["at"], event.get(definition.get("of"), True)) for event in events
            if (window is None or event["at"] >= at - window) and ("where" not in definition or event["kind"] == "x")]



def oracle(definition, events, at):
    """The feature's value, by its definition."""
    seen = values_of(definition, events, at)
    known = [value for _, value in seen if value is not None]
    aggregate = definition["agg"]
    if aggregate == "count":
        return len(known)
    if aggregate == "count_distinct":
        return len({text(value) for value in known})
    if aggregate in ("first", "last"):
        if not seen:
            return None
        # ties by the value's text; nulls sort last, so a descending order has them first
        key = lambda pair: (pair[0], pair[1] is None, text(pair[1]) or "")  # noqa: E731
        return finite((min if aggregate == "first" else max)(seen, key=key)[1])
    if aggregate in ("recency", "age"):
        times = [time for time, _ in seen]
        return (at - (max if aggregate == "recency" else min)(times)).total_seconds() / 86400 if times else None
    if not known or (aggregate == "stddev" and len(known) < 2):
        return None
    if aggregate in ("min", "max"):
        order = sorted(known, key=lambda value: (math.isnan(value), value))
        return finite(order[0] if aggregate == "min" else order[-1])
    if not all(map(math.isfinite, known)):
        return None
    mean = math.fsum(known) / len(known)
    if aggregate == "sum":
        return math.fsum(known)
    return mean if aggregate == "avg" else math.sqrt(math.fsum((value - mean) ** 2 for value in known) / (len(known) - 1))


class FeaturesTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.database = cls.enterClassContext(house.Database("features"))
        cls.connection = cls.enterClassContext(cls.database.connect())
        cls.connection.execute("SET TimeZone = 'Asia/Kolkata'")
        cls.connection.execute("CREATE TABLE events (entity text, at timestamptz, recorded timestamptz, value float8, kind text COLLATE \"C\")")
        cls.connection.execute("CREATE TABLE labels (n int, entity text, event_time timestamptz, label boolean)")

    def fill(self, randomness):
        events = [draw_event(randomness) for _ in range(randomness.randrange(60))]
        labels = [(randomness.choice(ENTITIES), instant(randomness)) for _ in range(12)]
        self.connection.execute("TRUNCATE events, labels")
        with self.connection.cursor() as cursor:
            cursor.executemany("INSERT INTO events VALUES (%(entity)s, %(at)s, %(recorded)s, %(value)s, %(kind)s)", events)
            cursor.executemany("INSERT INTO labels VALUES (%s, %s, %s, true)", [(n, *label) for n, label in enumerate(labels)])
        return events, labels

    def same(self, wanted, found, what):
        if isinstance(wanted, float) and found is not None:
            self.assertAlmostEqual(wanted, float(found), delta=1e-9 * max(1, abs(wanted)), msg=what)
        else:
            self.assertEqual(wanted, found, what)

    def test_features_are_what_they_are_defined_to_be(self):
        for seed in range(CASES):
            randomness = random.Random(seed)
            events, labels = self.fill(randomness)
            features = {"f%d" % i: draw_feature(randomness) for i in range(6)}
            recorded = randomness.random() < 0.5
            known_at = instant(randomness) if recorded and randomness.random() < 0.5 else None
            self.connection.execute("SELECT visage_create_feature_view('view', '{entity}', 'public.events', 'at', %s, recorded_time => %s, replace => true)",
                                    [json.dumps(features), "recorded" if recorded else None])
            self.connection.execute("SELECT visage_create_training_set('rows', 'SELECT * FROM public.labels', '{view}', known_at => %s, replace => true)", [known_at])
            self.connection.execute("CALL visage_refresh('enriched.rows')")
            found = self.connection.execute("SELECT to_jsonb(r) FROM enriched.rows AS r ORDER BY n").fetchall()
            for (entity, at), (row,) in zip(labels, found, strict=True):
                seen = [event for event in events if entity is not None and event["entity"] == entity and event["at"] is not None and event["at"] < at
                        and (not recorded or event["recorded"] <= (min(at, known_at) if known_at else at))]
                for name, definition in features.items():
                    self.same(oracle(definition, seen, at), row[name], "seed %d, %s at %s, %s %s" % (seed, entity, at, name, definition))
                if entity is not None and not known_at:
                    alone = self.connection.execute("SELECT visage_features('view', to_jsonb(%s::text), %s)", [entity, at]).fetchone()[0]
                    self.assertEqual({name: row[name] for name in features}, alone, "seed %d, one entity" % seed)


if __name__ == "__main__":
    unittest.main()

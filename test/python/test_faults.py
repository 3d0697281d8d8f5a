"""Runs in which the outside system fails as a seed says, and the session, the
server or the connection dies at random instants: in the end the target holds
each record of the double's own data once, with equal content, and nothing
hangs.  A dozen runs, or 200 with VISAGE_LONG=1 (VISAGE_SEED and VISAGE_RUNS
choose others, to see one again); the faults are counted in a table that is
printed at the end."""

import collections
import os
import random
import signal
import sys
import tempfile
import threading
import time
import unittest

import psycopg
from psycopg import errors
from psycopg.types.json import Jsonb

import house

sys.path.insert(0, os.path.join(house.SOURCE, "test", "servers"))
import double as doubles  # noqa: E402

RUNS = int(os.environ.get("VISAGE_RUNS") or (200 if os.environ.get("VISAGE_LONG") else 12))
FIRST = int(os.environ.get("VISAGE_SEED", "1"))
OVER = 45  # the faults are dealt out over so many requests
PAGES = 50  # every run has at least so many answers
DEATHS = ("kill -9", "immediate stop", "terminate")
LIMIT = 120  # seconds that a run may take


class System:
    """A double with its source and stream, and the records that the stream
    should hold, of what the double has."""

    # faults that the system's wire format cannot show
    without = ("token",)
    secrets, options, stream, arguments = {}, {}, {}, ()

    def __init__(self, directory):
        self.directory = directory
        for name, value in self.secrets.items():
            self.write(name, value)

    def write(self, name, value):
        with open(os.path.join(self.directory, name), "w", encoding="ascii") as file:
            file.write(value)
        os.chmod(file.name, 0o644)

    def kinds(self):
        return [kind for kind in doubles.FAULTS if kind not in self.without]

    def start(self, seed):
        return house.Double(*self.arguments, "--seed", seed, system=self.double)

    def records(self, double):
        return double.data(self.resource)

    def connect(self, database, double):
        """The name of the connector."""
        return self.double

    def declare(self, database, double):
        connector = self.connect(database, double)
        secrets = {name: "file:" + name for name in self.secrets}
        options = {"base_url": double.url, **({"page_size": self.page_size} if self.page_size else {}), **self.options}
        with database.connect("engineer") as engineer:
            engineer.execute("SELECT visage_create_source('s', %s, %s, %s)", [connector, Jsonb(options), Jsonb(secrets)])
            engineer.execute("SELECT visage_create_stream('s', 'records', %s" + "".join(", %s => %%s" % name for name in self.stream) + ")",
                             [self.resource, *self.stream.values()])


class SocrataByCursor(System):
    double, page_size, resource = "socrata", 55, "g8m3-pdis"
    stream = {"primary_key": ["uniqueid"], "cursor_field": ":updated_at"}


class SocrataByOffset(SocrataByCursor):
    stream = {"primary_key": ["uniqueid"]}


class Freshdesk(System):
    double, page_size, resource, arguments, secrets = "freshdesk", 15, "tickets", ("--tickets", 900), {"api_key": "freshdesk-key"}

    def records(self, double):
        return [ticket for ticket in double.data("tickets") if not ticket.get("deleted")]


class FreshdeskContacts(Freshdesk):
    """By the Link header, in no order."""

    resource, page_size, arguments = "contacts", 15, ("--tickets", 20, "--contacts", 900)

    def records(self, double):
        return double.data("contacts")


class Hubspot(System):
    double, page_size, resource, arguments, without = "hubspot", 18, "contacts", ("--contacts", 1000), ()
    secrets = {"client_secret": "client-secret", "refresh_token": "refresh-token"}
    shown = {"createdate", "hs_object_id", "lastmodifieddate", "email", "firstname", "lastname"}

    def connect(self, database, double):
        """Tokens that live for a while, so that they can expire."""
        database.execute("SELECT visage_create_connector('hubspot_oauth', definition -> 'manifest' || '{"
                         "\"secrets\": {\"client_secret\": {}, \"refresh_token\": {}}, \"auth\": {\"type\": \"oauth2_refresh_token\","
                         " \"token_url\": \"%s/oauth/v3/token\", \"client_id\": \"client\","
                         " \"client_secret\": \"{secret.client_secret}\", \"refresh_token\": \"{secret.refresh_token}\"}, \"responses\": []}')"
                         " FROM visage.declarations WHERE noun = 'connector' AND name = 'hubspot'" % double.url)
        return "hubspot_oauth"

    def records(self, double):
        return [{**{name: value for name, value in record.items() if name != "properties"},
                 **{name: value for name, value in record["properties"].items() if name in self.shown}} for record in double.data("contacts") if not record["archived"]]


class Clevertap(System):
    """Exports a day, each in pages; there is no key."""

    double, page_size, resource, arguments = "clevertap", 9, "Charged", ("--days", 9, "--events", 120)
    options, secrets = {"time_zone": "Asia/Kolkata"}, {"account_id": "TEST-R78-4KZ", "passcode": "passcode"}

    def start(self, seed):
        double = super().start(seed)
        double.control(busy=0)
        return double

    def records(self, double):
        return [{**record, "event_name": "Charged"} for record in double.data("Charged")]


class Appsflyer(System):
    """A CSV a day."""

    double, page_size, resource, arguments, without = "appsflyer", None, "in_app_events", ("--days", 58, "--rows", 12), ("token", "truncated", "repeated", "endless")
    options, secrets, stream = {"app_id": "id123456789"}, {"api_token": "appsflyer-token"}, {}

    def declare(self, database, double):
        self.stream = {"initial_value": str(database.value("SELECT (now() AT TIME ZONE 'UTC')::date - 60"))}
        super().declare(database, double)

    def records(self, double):
        return [{name: value if value not in ("", "N/A", "NULL") else None for name, value in row.items()} for row in double.data("in_app_events_report")]


class Ga4(System):
    """A report a day, in pages, with tokens that can expire."""

    double, page_size, resource, without = "ga4", 8, "report", ()
    options = {"property_id": "123456", "dimensions": ["date", "country", "deviceCategory", "sessionDefaultChannelGroup"], "metrics": ["sessions", "totalRevenue"]}
    secrets = {"service_account": ""}

    def start(self, seed):
        path = os.path.join(self.directory, "service_account")
        double = house.Double("--days", 10, "--seed", seed, "--key-file", path, system="ga4")
        os.chmod(path, 0o644)
        return double

    def records(self, double):
        return double.data("date,country,deviceCategory,sessionDefaultChannelGroup:sessions,totalRevenue")


SYSTEMS = (SocrataByCursor, Freshdesk, Hubspot, Clevertap, Appsflyer, Ga4, SocrataByOffset, FreshdeskContacts)


class Death(threading.Thread):
    """Kills the session, the server or the connection at an instant between
    two requests or in one."""

    def __init__(self, kind, after, delay, double, cluster):
        super().__init__(daemon=True)
        self.kind, self.after, self.delay, self.double, self.cluster = kind, after, delay, double, cluster
        self.run_of, self.done, self.failure = None, False, None

    def run(self):
        try:
            house.wait_until(lambda: self.double.count() >= self.after, "request %d" % self.after, LIMIT)
            time.sleep(self.delay)
            # one that comes when the call has just ended does not count
            self.done = self.run_of.thread.is_alive()
            if self.kind == "immediate stop":
                self.cluster.restart()
            elif self.kind == "kill -9":
                os.kill(self.run_of.pid, signal.SIGKILL)
            else:
                with psycopg.connect(dbname="postgres", user="postgres", autocommit=True) as admin:
                    admin.execute("SELECT pg_terminate_backend(%s)", [self.run_of.pid])
        except ProcessLookupError:
            self.done = False
        except Exception as error:  # told to the test, which fails
            self.failure = error


class FaultsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = house.Cluster()
        cls.faults, cls.deaths, cls.systems, cls.said = (collections.Counter() for _ in range(4))
        cls.requests = cls.calls = cls.runs = 0
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        os.chmod(directory.name, 0o755)
        cls.directory = directory.name
        cls.addClassCleanup(cls.report)

    @classmethod
    def report(cls):
        """The table of what happened."""
        print("\n%d runs, %d requests, %d calls of visage_ingest" % (cls.runs, cls.requests, cls.calls))
        for title, counter in (("fault", cls.faults), ("death", cls.deaths), ("system", cls.systems), ("error", cls.said)):
            for name, count in sorted(counter.items()):
                print("%-8s %-36s %6d" % (title, name, count))
        sys.stdout.flush()

    def test_each_record_once(self):
        for seed in range(FIRST, FIRST + RUNS):
            with self.subTest(seed=seed):
                self.one(seed)
        if RUNS >= 200:
            for kind in list(doubles.FAULTS) + list(DEATHS):
                with self.subTest(kind=kind):
                    self.assertGreaterEqual((self.faults + self.deaths)[kind], 10)

    def one(self, seed):
        """A run: until a call succeeds and all that was planned has happened."""
        chance = random.Random(seed)
        system = SYSTEMS[seed % len(SYSTEMS)](self.directory)
        with system.start(seed) as double:
            database = house.Database("faults", double)
            try:
                self.prepare(database)
                system.declare(database, double)
                double.control(large=8 << 20, faults={"seed": seed, "count": chance.randint(5, 9), "over": OVER, "kinds": system.kinds()})
                death = Death(chance.choice(DEATHS), chance.randint(1, OVER), chance.uniform(0, 0.02), double, self.cluster)
                self.crawl(database, double, death)
                self.judge(database, double, system)
            finally:
                self.cluster.wait()
                database.__exit__()

    def prepare(self, database):
        """Patience of seconds, not of minutes."""
        with database.connect() as admin:
            for name, value in (("max_retries", "3"), ("max_retry_wait", "10s"), ("max_body", "4MB"), ("idle_timeout", "5s"), ("secrets_directory", self.directory)):
                admin.execute("ALTER DATABASE \"%s\" SET visage.%s = '%s'" % (database.name, name, value))

    def call(self, database):
        """A call in a session of its own, as soon as the server has one."""
        while True:
            self.cluster.wait()
            try:
                return house.Background(database, "CALL visage_ingest('s.records')")
            except psycopg.OperationalError:
                pass  # it went down after all

    def crawl(self, database, double, death):
        end = time.monotonic() + LIMIT
        death.run_of = run = self.call(database)
        death.start()
        while True:
            type(self).calls += 1
            error = run.join(LIMIT)
            self.cluster.wait()
            if error is None and (not death.is_alive() or double.count() < death.after):
                break
            if error is not None:
                self.assertNotIsInstance(error, errors.InternalError_, "an internal error")
                self.said[type(error).__name__] += 1
            self.assertLess(time.monotonic(), end, "the run does not end: %s" % error)
            # the server may still be on its way down or up
            house.wait_until(lambda: not (death.is_alive() and double.count() >= death.after), "the death is over", LIMIT)
            death.run_of = run = self.call(database)
        self.assertIsNone(death.failure)
        if death.done:
            self.deaths[death.kind] += 1

    def judge(self, database, double, system):
        """What is there, after a crawl without faults took what moved."""
        state = double.state()
        happened = collections.Counter(state["faults"])
        self.assertGreaterEqual(sum(happened.values()), 5, happened)
        self.assertGreaterEqual(len(state["requests"]), PAGES)
        self.faults.update(happened)
        self.systems[type(system).__name__] += 1
        type(self).requests += len(state["requests"])
        type(self).runs += 1
        double.control(faults=None)
        self.assertIsNone(self.call(database).join(LIMIT))
        expected, found = database.expected("staging.s__records", system.records(double)), database.contents("staging.s__records")
        self.assertEqual(sum(found.values()), sum(expected.values()))
        self.assertTrue(found == expected, house.difference(found, expected))
        landed = database.value("SELECT count(*), count(DISTINCT (_source_key, record)) FROM landing.s__records")
        if database.value("SELECT to_regclass('staging.s__records_pkey') IS NOT NULL"):
            self.assertEqual(*landed)


if __name__ == "__main__":
    unittest.main()

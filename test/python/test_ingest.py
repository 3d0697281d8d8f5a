"""Ingestion against the double: what arrives, what is refused, what a fault
leaves behind, and that a waiting session holds nothing and can be cancelled."""

import datetime
import socket
import threading
import unittest

import psycopg
from psycopg import errors

import house

PAGE = 500
ROWS = 3010
REQUESTS = ROWS // PAGE + 2  # to the empty page: a page may be short for other reasons
INGEST = "CALL visage_ingest('sf.businesses')"
LANDED = "SELECT count(*), count(DISTINCT uniqueid) FROM staging.sf__businesses"


class BlackHole:
    """A server on the loopback interface that does with a connection what it
    is told: nothing at all, as when a host drips or hangs."""

    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.taken = []
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        try:
            while True:
                self.taken.append(self.socket.accept()[0])
        except OSError:
            pass

    def close(self):
        self.socket.close()
        for connection in self.taken:
            connection.close()


class IngestTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.double = house.Double()
        cls.addClassCleanup(cls.double.__exit__)

    def setUp(self):
        self.double.control(load="2021-01-01", fault=None)
        self.database = house.Database("ingest", self.double)
        self.addCleanup(self.database.__exit__)
        self.declare(self.double.url)

    def declare(self, url, replace=False, **stream):
        with self.database.connect("engineer") as engineer:
            engineer.execute("SELECT visage_create_source('sf', 'socrata', jsonb_build_object('base_url', %s::text, 'page_size', %s::int), replace => %s)",
                             [url, PAGE, replace])
            engineer.execute("SELECT visage_create_stream('sf', 'businesses', %s, primary_key => '{uniqueid}', cursor_field => %s, write_disposition => %s, replace => %s)",
                             [stream.get("resource", "g8m3-pdis"), stream.get("cursor_field", ":updated_at"), stream.get("write_disposition", "merge"), replace])

    def ingest(self, statement=INGEST):
        with self.database.connect("engineer") as engineer:
            engineer.execute(statement)

    def fails(self, error, *texts, statement=INGEST):
        """The run fails with this class; each text is in the message or detail."""
        with self.assertRaises(error) as raised:
            self.ingest(statement)
        said = "%s\n%s" % (raised.exception.diag.message_primary, raised.exception.diag.message_detail)
        for text in texts:
            self.assertIn(text, said)
        return raised.exception

    def last_run(self):
        return self.database.value("SELECT state, counters, error FROM visage.runs ORDER BY run_id DESC LIMIT 1")

    def waiting(self):
        """The session's row in pg_stat_activity while it waits for an answer."""
        return self.database.value(
            "SELECT pid, backend_xmin IS NULL, backend_xid IS NULL, (SELECT count(*) FROM pg_locks AS l WHERE l.pid = a.pid AND l.locktype IN ('relation', 'transactionid'))"
            " FROM pg_stat_activity AS a WHERE datname = current_database() AND usename = 'test_engineer' AND state = 'active' AND wait_event_type = 'Extension'")

    def test_every_record_arrives_once(self):
        self.ingest()
        self.assertEqual(self.database.value(LANDED), (ROWS, ROWS))
        state, counters, _ = self.last_run()
        self.assertEqual((state, counters["records"], counters["landed"]), ("success", ROWS, ROWS))
        self.assertEqual(len(self.double.requests()), REQUESTS)
        with self.subTest("again: nothing is new"):
            self.ingest()
            self.assertEqual(self.database.value(LANDED), (ROWS, ROWS))
            self.assertEqual(self.last_run()[1]["landed"], 0)
        with self.subTest("the values are those of the wire"):
            self.assertEqual(self.database.value("SELECT count(*), count(location_end_date), count(DISTINCT _updated_at) FROM staging.sf__businesses"),
                             (ROWS, self.database.value("SELECT count(*) FROM landing.sf__businesses WHERE record ? 'location_end_date'"), 1))
        with self.subTest("the second load"):
            self.double.control(load="2023-03-10")
            self.ingest()
            self.assertEqual(self.database.value(LANDED), (4659, 4659))

    def test_the_answer_of_2017(self):
        self.ingest()
        with self.database.connect("engineer") as engineer:
            engineer.execute("SELECT visage_create_stream('sf', 'old', 'g8m3-2017', write_disposition => 'append')")
            engineer.execute("CALL visage_ingest('sf.old')")
        self.assertEqual(self.database.value("SELECT count(*) FROM staging.sf__old"), 98)

    def test_without_a_cursor_the_resource_is_read_whole(self):
        self.declare(self.double.url, replace=True, cursor_field=None)
        self.ingest()
        self.ingest()
        self.assertEqual(self.database.value(LANDED), (ROWS, ROWS))
        self.assertTrue(any("offset=500" in request["path"] for request in self.double.requests()))

    def test_a_page_that_fails_leaves_those_before(self):
        with self.database.connect() as admin:
            admin.execute('ALTER DATABASE "%s" SET visage.max_retries = 1' % self.database.name)
        cases = (
            ("404", errors.ExternalRoutineException, ["404", "The double was told so"]),
            ("403", errors.ExternalRoutineException, ["403"]),
            ("503", errors.ExternalRoutineException, ["503"]),
            ("html", errors.ProtocolViolation, ["JSON"]),
            ("cut", errors.ConnectionFailure, []),
            ("close", errors.ConnectionFailure, []),
            ("drop_column", errors.ExternalRoutineException, ["No such column"]))
        for kind, error, texts in cases:
            with self.subTest(kind=kind):
                with self.database.connect("engineer") as engineer:
                    engineer.execute("SELECT visage_reset_stream('sf.businesses')")
                self.database.execute("DROP SCHEMA IF EXISTS landing, staging CASCADE")
                self.double.fault(kind, after=2)
                raised = self.fails(error, 'page 3 of stream "sf.businesses"' if "page 3" else "", self.double.url + "/resource/g8m3-pdis.json?", *texts)
                self.assertEqual(self.database.value(LANDED), (2 * PAGE, 2 * PAGE))
                state, counters, said = self.last_run()
                self.assertEqual((state, counters["pages"], said), ("failed", 2, raised.diag.message_primary))
                self.double.control(fault=None)
                self.ingest()
                self.assertEqual(self.database.value(LANDED), (ROWS, ROWS))
                self.assertEqual(self.last_run()[1]["landed"], ROWS - 2 * PAGE, "what was read before is not read again")

    def test_what_passes_is_asked_for_again(self):
        for kind, more in (("503", {}), ("close", {}), ("cut", {}), ("429", {}), ("retry_after", {"value": "0"}), ("202", {})):
            with self.subTest(kind=kind):
                with self.database.connect("engineer") as engineer:
                    engineer.execute("SELECT visage_reset_stream('sf.businesses')")
                self.double.fault(kind, after=3, times=2, **more)
                self.ingest()
                self.assertEqual(self.database.value(LANDED), (ROWS, ROWS))
                self.assertEqual(len(self.double.requests()), REQUESTS + 2)

    def test_retry_after_is_waited_for(self):
        self.double.fault("retry_after", times=1, value="1")
        start = self.database.value("SELECT clock_timestamp()")
        self.ingest()
        self.assertGreaterEqual((self.database.value("SELECT clock_timestamp()") - start).total_seconds(), 1)

    def test_records_that_cannot_be_taken_in_are_quarantined(self):
        for kind, reason in (("no_key", "uniqueid"), ("poison", "")):
            with self.subTest(kind=kind):
                with self.database.connect("engineer") as engineer:
                    engineer.execute("SELECT visage_reset_stream('sf.businesses')")
                self.database.execute("DROP SCHEMA IF EXISTS landing, staging CASCADE", "DELETE FROM visage.quarantine")
                self.double.fault(kind, after=1, times=1)
                self.ingest()
                self.assertEqual(self.database.value(LANDED), (ROWS - 1, ROWS - 1))
                self.assertEqual(self.last_run()[1]["quarantined"], 1)
                stream, said, record = self.database.value("SELECT dataset, reason, raw FROM visage.quarantine")
                self.assertEqual(stream, "staging.sf__businesses")
                self.assertIn(reason, said)
                self.assertIn(b"dba_name", bytes(record))

    def test_refusals(self):
        with self.subTest("inside a transaction block"):
            with self.database.connect("engineer") as engineer, self.assertRaises(errors.InvalidTransactionTermination):
                with engineer.transaction():
                    engineer.execute(INGEST)
        with self.subTest("a host that is not allowed"):
            self.declare("http://localhost.invalid:1", replace=True)
            self.fails(errors.InsufficientPrivilege, "sf.businesses", "localhost.invalid")
        with self.subTest("a port that is not allowed"):
            self.declare("http://127.0.0.1:1", replace=True)
            self.fails(errors.InsufficientPrivilege, "127.0.0.1")
        with self.subTest("a name that leads to an address that is not allowed"):
            with self.database.connect() as admin:
                admin.execute("ALTER DATABASE \"%s\" SET visage.allowed_hosts = 'localhost'" % self.database.name)
            self.declare("http://localhost:%d" % self.double.port, replace=True)
            self.fails(errors.InsufficientPrivilege, "localhost")
            self.assertEqual(self.double.requests(), [])
        with self.subTest("a refused connection"):
            with socket.create_server(("127.0.0.1", 0)) as closed:
                port = closed.getsockname()[1]
            with self.database.connect() as admin:
                admin.execute("ALTER DATABASE \"%s\" SET visage.allowed_hosts = '127.0.0.1'" % self.database.name)
            self.declare("http://127.0.0.1:%d" % port, replace=True)
            self.fails(errors.ConnectionFailure, "page 1", "sf.businesses", "127.0.0.1:%d" % port)
        with self.subTest("a redirect to a host that is not allowed"):
            self.declare(self.double.url, replace=True)
            self.double.fault("redirect", location="http://metadata.invalid")
            self.fails(errors.InsufficientPrivilege, "metadata.invalid")
        with self.subTest("an unknown connector"):
            with self.database.connect("engineer") as engineer, self.assertRaises(errors.UndefinedObject):
                engineer.execute("SELECT visage_create_source('x', 'no_such')")

    def test_a_redirect_is_followed(self):
        self.double.fault("redirect", times=1, location="http://127.0.0.1:%d" % self.double.port)
        self.ingest()
        self.assertEqual(self.database.value(LANDED), (ROWS, ROWS))

    def test_nothing_is_held_while_waiting(self):
        self.database.execute("CREATE TABLE public.dead AS SELECT generate_series(1, 1000) AS i")
        self.double.fault("hang", after=2, times=1)
        run = house.Background(self.database, INGEST)
        pid, no_xmin, no_xid, locks = house.wait_until(lambda: len(self.double.requests()) == 3 and self.waiting(), "the session waits for the third page")
        self.assertEqual((pid, no_xmin, no_xid, locks), (run.pid, True, True, 0))
        with self.database.connect() as admin:
            admin.execute("DELETE FROM public.dead")
            admin.execute("VACUUM public.dead")
            self.assertEqual(admin.execute("SELECT pg_relation_size('public.dead')").fetchone()[0], 0, "VACUUM could remove the rows")
        self.assertLess(run.cancel(), 1)
        self.assertIsInstance(run.error, errors.QueryCanceled)
        with self.subTest("the next run goes on"):
            self.ingest()
            self.assertEqual(self.database.value(LANDED), (ROWS, ROWS))
            self.assertEqual(self.last_run()[1]["landed"], ROWS - 2 * PAGE)

    # ---- where a crawl begins ----

    def moments(self):
        """The times of change of all rows, in order."""
        return sorted(row[":updated_at"] for row in self.double.data("g8m3-pdis"))

    def cursor(self):
        return self.database.value("SELECT cursor_value, crawl FROM visage.stream_states")

    def test_a_back_fill_leaves_the_cursor_alone(self):
        self.double.control(load="2023-03-10")
        self.ingest()
        moments, before = sorted(set(self.moments())), self.cursor()
        low, high = moments[len(moments) // 4], moments[len(moments) // 2]
        self.assertLess(low, high, "a register has more moments than one")
        self.database.execute("TRUNCATE staging.sf__businesses")
        with self.database.connect("engineer") as engineer:
            engineer.execute("CALL visage_ingest('sf.businesses', from_value => %s, to_value => %s)", [low, high])
        wanted = {row["uniqueid"] for row in self.double.data("g8m3-pdis") if low <= row[":updated_at"] < high}
        self.assertEqual({key for key, in self.database.rows("SELECT uniqueid FROM staging.sf__businesses")}, wanted, "from a value to before another")
        self.assertEqual(self.cursor(), before)
        with self.subTest("one that fails, too"):
            self.double.fault("404", after=1, times=1)
            with self.assertRaises(errors.ExternalRoutineException), self.database.connect("engineer") as engineer:
                engineer.execute("CALL visage_ingest('sf.businesses', from_value => %s)", [low])
            self.assertEqual(self.cursor(), before)
        with self.subTest("a stream without a cursor has none"):
            self.database.execute("SELECT visage_create_stream('sf', 'whole', 'g8m3-pdis', primary_key => '{uniqueid}')", role="engineer")
            with self.assertRaises(errors.InvalidParameterValue):
                self.database.execute("CALL visage_ingest('sf.whole', from_value => '2020-01-01')", role="engineer")

    def test_a_crawl_begins_where_it_is_told(self):
        self.double.control(load="2023-03-10")
        self.ingest()
        moments = self.moments()
        middle = moments[len(moments) // 2]
        with self.subTest("visage_reset_stream"):
            self.database.execute("SELECT visage_reset_stream('sf.businesses', '%s')" % middle, role="engineer")
            self.ingest()
            self.assertEqual(self.last_run()[1]["records"], sum(moment >= middle for moment in moments))
            self.assertEqual(self.last_run()[1]["landed"], 0, "what has not changed is not landed again")
        with self.subTest("lag"):
            self.database.execute("SELECT visage_alter_stream('sf.businesses', '{\"lag\": \"3 days\"}')", role="engineer")
            self.database.execute("UPDATE staging.sf__businesses SET city = 'overwritten', _record_hash = 0", role=None)
            self.ingest()
            since = datetime.datetime.fromisoformat(moments[-1].replace("Z", "+00:00")) - datetime.timedelta(days=3)
            again = sum(datetime.datetime.fromisoformat(moment.replace("Z", "+00:00")) >= since for moment in moments)
            self.assertEqual(self.last_run()[1]["records"], again)
            self.assertEqual(self.database.value("SELECT count(*) FROM staging.sf__businesses WHERE city = 'overwritten'"), len(moments) - again, "the window is overwritten by key")

    def test_progress_is_seen_while_it_runs(self):
        self.double.fault("hang", after=2, times=1)
        run = house.Background(self.database, INGEST)
        house.wait_until(lambda: len(self.double.requests()) == 3 and self.waiting(), "the session waits for the third page")
        kind, name, pid, counters, fresh = self.database.value("SELECT kind, name, pid, counters, heartbeat_at >= started_at FROM visage.progress")
        self.assertEqual((kind, name, pid, fresh), ("stream", "sf.businesses", run.pid, True))
        self.assertEqual((counters["pages"], counters["records"], counters["landed"]), (2, 2 * PAGE, 2 * PAGE))
        with self.subTest("a stream that is being ingested is not dropped"), self.assertRaises(errors.ObjectInUse):
            self.database.execute("SELECT visage_drop_stream('sf.businesses')", role="engineer")
        run.cancel()
        self.assertEqual(self.database.rows("SELECT * FROM visage.progress"), [])

    def test_cancel_takes_effect_within_a_second(self):
        hole = BlackHole()
        self.addCleanup(hole.close)
        with self.database.connect() as admin:
            admin.execute("ALTER DATABASE \"%s\" SET visage.allowed_hosts = '127.0.0.1'" % self.database.name)
        with self.subTest("an answer that drips"):
            self.double.fault("drip", times=1)
            self.cancelled(lambda: self.double.requests())
        with self.subTest("a server that accepts and says nothing"):
            self.declare("http://127.0.0.1:%d" % hole.port, replace=True)
            self.cancelled(lambda: len(hole.taken) == 1)
        with self.subTest("a TLS handshake that does not end"):
            self.declare("https://127.0.0.1:%d" % hole.port, replace=True)
            self.cancelled(lambda: len(hole.taken) == 2)
        with self.subTest("the wait before a repetition"):
            self.declare(self.double.url, replace=True)
            self.double.fault("retry_after", value="120")
            self.cancelled(lambda: self.double.requests())

    def cancelled(self, asked):
        """A run that waits, after it has asked, ends when it is cancelled."""
        run = house.Background(self.database, INGEST)
        house.wait_until(lambda: asked() and self.waiting(), "the session waits for the network")
        took = run.cancel()
        self.assertIsInstance(run.error, errors.QueryCanceled)
        self.assertLess(took, 1)

    def test_two_runs_of_a_stream_at_once(self):
        self.double.fault("hang", times=1)
        run = house.Background(self.database, INGEST)
        house.wait_until(lambda: self.double.requests() and self.waiting(), "the first run waits")
        self.fails(errors.ObjectInUse, "sf.businesses")
        run.cancel()
        with self.subTest("a session that ended without a word leaves no lease"):
            self.double.fault("hang", times=1)
            run = house.Background(self.database, INGEST)
            house.wait_until(lambda: self.double.requests() and self.waiting(), "the run waits")
            self.database.value("SELECT pg_terminate_backend(%s)", run.pid)
            self.assertIsInstance(run.join(), psycopg.OperationalError)
            self.ingest()
            self.assertEqual(self.database.value(LANDED), (ROWS, ROWS))

    def test_history_follows_the_loads(self):
        self.database.execute("SELECT visage_drop_stream('sf.businesses')", role="engineer")
        self.declare(self.double.url, replace=True, write_disposition="history")
        self.ingest()
        self.double.control(load="2023-03-10")
        self.ingest()
        self.assertEqual(self.database.value("SELECT count(*), count(*) FILTER (WHERE valid_to = 'infinity') FROM history.sf__businesses"), (4914, 4659))
        for date, count in (("2020-12-31", 0), ("2021-01-02", ROWS), ("2023-03-11", 4659)):
            self.assertEqual(self.database.value("SELECT count(*) FROM history.sf__businesses__as_of(%s)", date), count)

    def test_secrets_are_in_no_message(self):
        with self.database.connect("engineer") as engineer, self.assertRaises(errors.ObjectNotInPrerequisiteState) as raised:
            engineer.execute("SELECT visage_create_source('t', 'socrata', '{\"base_url\": \"https://example.org\"}', '{\"app_token\": \"hunter2hunter2\"}')")
        self.assertNotIn("hunter2", str(raised.exception))


if __name__ == "__main__":
    unittest.main()

"""What a run makes of how a system answers: redirects, certificates, silence,
bodies that are too large or cut off, waits that are asked for, pages that
cannot be gone on from."""

import email.utils
import gzip
import http.server
import json
import os
import random
import ssl
import subprocess
import tempfile
import threading
import time
import unittest

import house
import own
from own import stamp
from psycopg import errors


class AnswerTest(own.ConnectorTest):
    def setUp(self):
        super().setUp()
        self.setting("allowed_hosts", "127.0.0.1")

    def setting(self, name, value):
        """A setting of the database's, for the sessions that begin from now."""
        with self.database.connect() as admin:
            admin.execute("ALTER DATABASE \"%s\" SET visage.%s = '%s'" % (self.database.name, name, value))
        self.addCleanup(self.database.execute, 'ALTER DATABASE "%s" RESET visage.%s' % (self.database.name, name))

    def fails(self, error, *texts):
        with self.assertRaises(error) as raised:
            self.ingest()
        said = "%s\n%s" % (raised.exception.diag.message_primary, raised.exception.diag.message_detail)
        for text in texts:
            self.assertIn(text, said)

    def answers(self, *bodies, **headers):
        """What the server says to one request after the other, then as usual."""
        left = list(bodies)
        self.held.hook = lambda handler, *_: bool(left) and (handler.answer(*left.pop(0), **headers) or True)

    # ---- where a request goes ----

    def test_credentials_stay_with_their_host(self):
        elsewhere = own.Server()
        self.addCleanup(elsewhere.close)
        elsewhere.reset()
        key = self.secret("token", "s3cret")
        headers = {"X-Key": "{secret.key}", "X-Open": "to all"}
        for auth in ({"type": "bearer", "token": "{secret.key}"}, {"type": "http_basic", "username": "{secret.key}"},
                     {"type": "api_key", "in": "header", "name": "X-Api", "value": "{secret.key}"}, {"type": "api_key", "in": "query", "name": "k", "value": "{secret.key}"}):
            for target, kept in ((elsewhere, False), (self.double, True)):
                with self.subTest(auth=auth, same_host=kept):
                    super().setUp()
                    elsewhere.server.log = []
                    self.declare({"path": "/all", "headers": headers, "auth": auth, "secrets": {"key": {}}}, secrets={"key": key})
                    self.answers((b"", 302), Location=target.url + "/all")
                    self.ingest()
                    self.assertEqual(len(self.ids()), 101)
                    _, path, _, sent = target.server.log[-1]
                    self.assertEqual(path, "/all", "what a redirect says")
                    self.assertEqual(sent["X-Open"], "to all")
                    said = json.dumps(sent)
                    self.assertEqual("s3cret" in said or "czNjcmV0" in said, kept)
                    if not kept:
                        self.assertNotIn("Authorization", sent)

    def https(self, address):
        """A server with a certificate for this address, and the file that vouches for it."""
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        os.chmod(directory.name, 0o755)
        certificate, key = os.path.join(directory.name, "certificate"), os.path.join(directory.name, "key")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=" + address, "-addext", "subjectAltName=IP:" + address,
                        "-keyout", key, "-out", certificate], check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server = own.Server(context)
        self.addCleanup(server.close)
        server.reset()
        return server, certificate

    def test_certificates(self):
        server, certificate = self.https("127.0.0.1")
        misnamed, other = self.https("127.0.0.9")
        self.setting("max_retries", 0)
        for what, asked, file, says in (("that nobody vouches for", server, None, "SSL"), ("for another address", misnamed, other, "SSL"),
                                        ("of another authority", server, other, "SSL"), ("with no authorities at all", server, "/nonexistent", "SSL CA cert")):
            with self.subTest(what):
                super().setUp()
                self.setting("ssl_ca_file", file or "")
                self.declare({"path": "/all"}, options={"base_url": asked.url})
                self.fails(errors.ConnectionFailure, "page 1", says)
                self.assertEqual(asked.server.log, [])
        super().setUp()
        self.setting("ssl_ca_file", certificate)
        self.declare({"path": "/all"}, options={"base_url": server.url})
        self.ingest()
        self.assertEqual(len(self.ids()), 101)

    # ---- silence, and too much ----

    def test_timeouts(self):
        self.setting("max_retries", 0)
        self.declare({"path": "/all"})
        for setting, value, text in (("idle_timeout", "1s", "nothing came for visage.idle_timeout"), ("request_timeout", "2s", "Timeout was reached")):
            with self.subTest(setting):
                self.setting(setting, value)
                over = threading.Event()

                def drip(handler, *_):
                    """A byte now and then; at last none."""
                    handler.send_response(200)
                    handler.end_headers()
                    for i in range(1 if setting == "idle_timeout" else 1000):
                        handler.wfile.write(b" ")
                        if over.wait(0.1):
                            break
                    over.wait(30)
                    handler.close_connection = True
                    return True
                self.held.hook = drip
                start = time.monotonic()
                self.fails(errors.ConnectionFailure, "page 1", text)
                self.assertLess(time.monotonic() - start, 10)
                over.set()
                self.database.execute('ALTER DATABASE "%s" RESET visage.%s' % (self.database.name, setting))

    def test_what_is_too_large(self):
        self.declare({"path": "/all"})
        long = [{"id": 1, "text": "x" * 3000000}]
        for setting, error, text in (("max_body", errors.ProgramLimitExceeded, "the answer is larger than setting visage.max_body"), ("max_record", errors.ProtocolViolation, "visage.max_record")):
            with self.subTest(setting):
                self.setting(setting, "1MB")
                self.held.hook = lambda handler, *_: handler.answer(long) or True
                self.fails(error, text)
                self.database.execute('ALTER DATABASE "%s" RESET visage.%s' % (self.database.name, setting))

    def test_a_compressed_body_that_is_cut_off(self):
        """Of several members, too, and between two of them it is whole."""
        self.setting("max_retries", 0)
        self.declare({"path": "/all", "format": {"type": "ndjson", "compression": "gzip"}})
        first, second = (gzip.compress(("".join('{"id": %d}\n' % i for i in ids)).encode()) for ids in (range(1, 51), range(51, 102)))
        for body in (first[:-1], first + second[:-1], first + second[:1], first + second[:-9], b""):
            with self.subTest(len(body)):
                self.held.hook = lambda handler, *_: handler.answer(body) or True
                self.fails(errors.ProtocolViolation, "Its compressed body is cut off.")
        with self.subTest("damaged"):
            self.held.hook = lambda handler, *_: handler.answer(first[:30] + b"????" + first[34:]) or True
            self.fails(errors.ProtocolViolation, "Its compressed body is damaged.")
        self.held.hook = lambda handler, *_: handler.answer(first + second) or True
        self.ingest()
        self.assertEqual(self.ids(), list(range(1, 102)))

    # ---- waits ----

    def gaps(self):
        """Seconds between one request and the next."""
        return [later - before for before, later in zip(self.times, self.times[1:])]

    def times_of(self, *answers, **headers):
        """When each request came, of a run that is answered so at first."""
        left, self.times = list(answers), []

        def hook(handler, *_):
            self.times.append(time.monotonic())
            if not left:
                return False
            handler.answer({}, left.pop(0), **{name: value() if callable(value) else value for name, value in headers.items()})
            return True
        self.held.hook = hook
        self.ingest()
        self.assertEqual(len(self.ids()), 101)

    def test_waits_double_and_differ(self):
        self.setting("retry_delay", "40ms")
        self.declare({"path": "/all"})
        seen = []
        for _ in range(2):
            self.times_of(500, 503, 429, 502)
            for i, gap in enumerate(self.gaps()):
                self.assertGreaterEqual(gap, 0.02 * 2 ** i, "at least half of 40 ms, doubled %d times" % i)
            seen.append([round(gap, 4) for gap in self.gaps()])
        self.assertNotEqual(seen[0], seen[1], "the other half is left to chance")

    def test_retry_after_in_both_forms(self):
        self.declare({"path": "/all"})
        now = email.utils.formatdate
        for header in ("1", lambda: now(time.time() + 2, usegmt=True)):
            with self.subTest(header if isinstance(header, str) else "a date"):
                self.times_of(429, Retry_After=header)
                self.assertGreaterEqual(self.gaps()[0], 0.99)

    # ---- ahead, and in the background ----

    def test_pages_asked_for_at_once_are_applied_in_their_order(self):
        self.setting("prefetch", 5)
        self.declare({"path": "/page", "page_size": 3, "params": {"n": "{page}", "size": "{page_size}"}, "paginator": {"type": "page_number"}})
        chance, lock = random.Random(1), threading.Lock()
        under_way, most = 0, 0

        def hook(*_):
            nonlocal under_way, most
            with lock:
                under_way += 1
                most = max(most, under_way)
                wait = chance.uniform(0, 0.05)
            time.sleep(wait)
            with lock:
                under_way -= 1
            return False
        self.held.hook = hook
        self.ingest()
        self.everything()
        self.assertGreater(most, 1)
        self.assertLessEqual(most, 5)
        self.assertEqual([int(key) for key, in self.database.rows("SELECT _source_key FROM landing.own__things ORDER BY _id")], list(range(1, 102)))

    def test_a_worker_holds_nothing_while_it_waits(self):
        self.declare({"path": "/all"})
        over = threading.Event()
        self.addCleanup(over.set)
        self.held.hook = lambda *_: not over.wait(60)
        self.database.execute("CREATE TABLE public.dead AS SELECT generate_series(1, 1000) AS i")
        self.database.execute("SELECT visage_start('own.things')", role="engineer")
        self.addCleanup(self.database.execute, "DROP TABLE public.dead")
        held = ("SELECT backend_xmin IS NULL AND backend_xid IS NULL AND NOT EXISTS (SELECT FROM pg_locks AS l WHERE l.pid = a.pid AND l.locktype IN ('relation', 'transactionid'))"
                " FROM pg_stat_activity AS a WHERE backend_type = 'visage stream' AND wait_event_type = 'Extension'")
        house.wait_until(lambda: self.held.log and self.database.value(held) is not None, "the worker waits for its answer")
        self.assertTrue(self.database.value(held))
        self.database.execute("DELETE FROM public.dead", "VACUUM public.dead")
        self.assertEqual(self.database.value("SELECT pg_relation_size('public.dead')"), 0, "VACUUM could remove the rows")
        over.set()
        house.wait_until(lambda: self.database.value("SELECT to_regclass('staging.own__things') IS NOT NULL") and len(self.ids()) == 101, "the worker goes on")
        self.database.execute("SELECT visage_stop('own.things')", role="engineer")
        house.wait_until(lambda: self.database.value("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'visage stream'") == 0, "the worker is gone")

    # ---- rules ----

    def test_a_body_as_it_is(self):
        """Without a path a rule means the body, which need not be JSON."""
        self.setting("max_retries", 0)
        self.declare({"path": "/all", "responses": [{"body": {"equals": "NO"}, "action": "fail", "message": "it says no"},
                                                    {"body": {"path": "", "equals": "\"NO\""}, "action": "fail", "message": "it says no in JSON"}]})
        for body, error, text in ((b"NO", errors.ExternalRoutineException, "it says no."), (b'"NO"', errors.ExternalRoutineException, "it says no in JSON."),
                                  (b'"', errors.ProtocolViolation, "not"), (b'"NO\\', errors.ProtocolViolation, "not"), (b"", errors.ProtocolViolation, "not")):
            with self.subTest(body):
                self.held.hook = lambda handler, *_: handler.answer(body) or True
                self.fails(error, text)
        self.held.hook = None
        self.ingest()
        self.everything()

    # ---- pages that go by a record ----

    KEYSET = {"path": "/keyset", "page_size": 4, "cursor": {"format": "iso8601"},
              "params": {"at": "{value}", "id": "{tie}", "size": "{page_size}"}}

    def keyset(self, handler, path, query):
        """Records in the order of their change, those without one first; as in
        SQL these are after no other one."""
        rows = sorted(self.held.records, key=lambda r: (r["changed"] or "", r["id"]))
        if "at" in query:
            rows = [r for r in rows if r["changed"] and (r["changed"], r["id"]) > (query["at"], int(query["id"]))]
        elif "id" in query:
            rows = sorted((r for r in rows if r["id"] > int(query["id"])), key=lambda r: r["id"])
        else:
            rows = rows if self.by == "cursor_and_tie" else sorted(rows, key=lambda r: r["id"])
        handler.answer(rows[:int(query["size"])])
        return True

    def pages(self, by, **arguments):
        self.by = by
        self.declare({**self.KEYSET, "paginator": {"type": "keyset", "by": by, "tie_break": "id"}}, **arguments)
        self.held.hook = self.keyset

    def test_records_without_what_pages_go_by(self):
        for without in (3, 4, 101):
            with self.subTest(without):
                self.setUp()
                self.pages("cursor_and_tie", cursor_field="changed")
                for record in self.held.records[:without]:
                    record["changed"] = None
                if without < 4:
                    self.ingest()
                    self.everything()
                else:
                    self.fails(errors.ProtocolViolation, 'the last record of page 1 of stream "own.things" has no "changed"', "cannot be asked for")
                    self.assertEqual(len(self.held.log), 1)
        with self.subTest("without the tie"):
            self.setUp()
            self.pages("cursor_and_tie", cursor_field="changed", primary_key=["changed"])
            self.held.hook = lambda handler, *_: handler.answer([{"changed": stamp(1)}]) or True
            self.fails(errors.ProtocolViolation, 'has no "id"')
        with self.subTest("no records at all"):
            self.setUp()
            self.pages("cursor_and_tie", cursor_field="changed")
            self.held.hook = lambda handler, *_: handler.answer([1, 2, 3]) or True
            self.fails(errors.ProtocolViolation, "lead in circles")
        with self.subTest("the last page, which nothing follows"):
            self.setUp()
            self.declare({**self.KEYSET, "page_size": 200, "paginator": {"type": "keyset", "tie_break": "id", "end": "short_page"}}, cursor_field="changed")
            self.by = "cursor_and_tie"
            self.held.hook = self.keyset
            self.held.records[7]["changed"] = None
            self.ingest()
            self.everything()

    def test_pages_by_id_need_no_cursor(self):
        self.pages("tie")
        self.ingest()
        self.everything()
        self.assertEqual(len(self.held.log), 101 // 4 + 2)


if __name__ == "__main__":
    unittest.main()

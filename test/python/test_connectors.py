"""Connectors that a user declares by SQL: every kind of paging, cursor, window,
format and credential, against a server in this process (own.py).  Each test
declares how to read its records and compares what arrives with what the server
holds."""

import base64
import json
import os
import random
import subprocess
import tempfile
import time
import unittest
import urllib.parse

import house
import own
from own import stamp
from psycopg import errors


class ConnectorTest(own.ConnectorTest):
    # ---- pages ----

    def test_a_link_header(self):
        self.reads_all({"path": "/link", "paginator": {"type": "header_link"}}, 11)

    def test_a_link_in_the_body(self):
        self.reads_all({"path": "/json", "data_selector": "data.items", "paginator": {"type": "json_link", "path": "next"}}, 15)

    def test_a_cursor_in_the_body(self):
        self.reads_all({"path": "/token", "data_selector": "results", "params": {"after": "{cursor}"}, "paginator": {"type": "cursor", "path": "paging.next.after"}}, 12)

    def test_page_numbers_in_parallel(self):
        self.held.latency = 0.01
        self.reads_all({"path": "/page", "page_size": 3, "params": {"n": "{page}", "size": "{page_size}"}, "paginator": {"type": "page_number"}})

    def test_page_numbers_one_by_one(self):
        self.reads_all({"path": "/page", "page_size": 3, "params": {"n": "{page}", "size": "{page_size}"}, "paginator": {"type": "page_number", "parallel": False}}, 35)
        self.setUp()
        self.reads_all({"path": "/page", "page_size": 3, "params": {"n": "{page}", "size": "{page_size}"}, "paginator": {"type": "page_number", "parallel": False, "end": "short_page"}}, 34)

    def test_a_system_that_gives_less_than_it_is_asked_for(self):
        for parallel in (False, True):
            with self.subTest(parallel=parallel):
                self.setUp()
                self.held.most = 7
                self.reads_all({"path": "/page", "page_size": 10, "params": {"n": "{page}", "size": "{page_size}"}, "paginator": {"type": "page_number", "parallel": parallel}})
                self.setUp()
                self.held.most = 7
                self.reads_all({"path": "/offset", "data_selector": "rows", "page_size": 10, "params": {"offset": "{offset}", "size": "{page_size}"},
                                "paginator": {"type": "offset", "parallel": parallel}})

    def test_offsets_up_to_a_total(self):
        self.reads_all({"path": "/offset", "data_selector": "rows", "page_size": 10, "params": {"offset": "{offset}", "size": "{page_size}"},
                        "paginator": {"type": "offset", "total_path": "total"}})

    def test_a_cursor_that_leads_in_circles(self):
        self.declare({"path": "/token", "data_selector": "results", "params": {"after": "{cursor}"}, "paginator": {"type": "cursor", "path": "paging.next.after"}})
        self.held.hook = lambda handler, path, query: "after" in query and (handler.answer({"results": [{"id": 1}], "paging": {"next": {"after": query["after"]}}}) or True)
        with self.assertRaisesRegex(errors.ProtocolViolation, "circles"):
            self.ingest()

    def test_a_link_to_another_host(self):
        self.declare({"path": "/json", "data_selector": "data.items", "paginator": {"type": "json_link", "path": "next"}})
        self.held.hook = lambda handler, path, query: handler.answer({"next": "http://evil.invalid/", "data": {"items": [{"id": 1}]}}) or True
        with self.assertRaises(errors.InsufficientPrivilege):
            self.ingest()

    # ---- cursors ----

    SINCE = {"path": "/since", "page_size": 3, "cursor": {"format": "iso8601", "granularity": "1 second"},
             "params": {"since": "{from}", "page": "{page}", "size": "{page_size}"}}

    def test_keyset_by_a_value_that_fills_pages(self):
        self.declare({**self.SINCE, "paginator": {"type": "keyset", "by": "cursor"}}, cursor_field="changed")
        self.ingest()
        self.everything()
        with self.subTest("the next crawl reads what changed"):
            self.held.records[0]["changed"] = stamp(1000)
            self.held.records.append({"id": 500, "name": "new", "changed": stamp(1001), "big": 1})
            before = len(self.held.log)
            self.ingest()
            self.assertLessEqual(len(self.held.log) - before, 3)
            self.assertEqual(self.database.value("SELECT changed FROM staging.own__things WHERE id = 1"), stamp(1000))
            self.assertEqual(len(self.ids()), 102)
            self.assertEqual(self.database.value("SELECT cursor_value FROM visage.stream_states"), stamp(1001))

    def test_a_limit_of_pages_begins_anew(self):
        self.held.max_page = 4
        self.declare({**self.SINCE, "cursor": {"format": "iso8601", "granularity": "1 second", "order": "ascending"},
                      "paginator": {"type": "page_number", "max_pages": 4, "at_limit": "restart"}}, cursor_field="changed")
        self.ingest()
        self.everything()

    def test_keyset_by_id_in_a_search(self):
        self.declare({
            "method": "POST", "path": "/find", "data_selector": "results", "page_size": 10, "flatten": {"properties": ""}, "rename": {"properties.id": "inner_id"},
            "cursor": {"field": "properties.changed", "format": "iso8601", "request_format": "epoch_ms", "granularity": "1 second"},
            "body": {"limit": {"$number": "{page_size}"}, "since": {"$number": "{from}"}, "beyond": {"$number": "{tie}"}},
            "paginator": {"type": "keyset", "by": "tie", "tie_break": "id", "end": "short_page"}}, initial_value="2026-01-01T00:00:00Z")

        def find(handler, path, _):
            body = json.loads(handler.body)
            self.assertEqual(body["since"] % 1000, 0)
            since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(body["since"] / 1000))
            rows = [r for r in self.held.records if r["id"] > body.get("beyond", 0) and r["changed"] >= since][:body["limit"]]
            handler.answer({"results": [{"id": r["id"], "properties": r} for r in rows]})
            return True
        self.held.hook = find
        self.ingest()
        self.everything()
        self.assertEqual(self.database.value("SELECT cursor_value FROM visage.stream_states"), stamp(25))

    def test_the_cursor_stays_behind_what_changes_meanwhile(self):
        self.declare({"path": "/all", "cursor": {"format": "iso8601"}}, cursor_field="changed")
        self.held.records[0]["changed"] = "2099-01-01T00:00:00Z"
        self.ingest()
        self.assertLess(self.database.value("SELECT cursor_value FROM visage.stream_states"), "2099")

    # ---- parents, windows, jobs ----

    def test_children_of_each_parent(self):
        self.declare({"streams": {"things": {"path": "/all", "primary_key": ["id"]}, "notes": {
            "path": "/children/{parent.id}", "primary_key": ["id"], "parent": {"stream": "things", "field": "id", "include": {"thing": "id"}},
            "responses": [{"status": [404], "action": "ignore"}]}}})
        self.stream("notes")
        with self.assertRaises(errors.ObjectNotInPrerequisiteState):
            self.ingest("notes")
        self.ingest()
        self.ingest("notes")
        expected = [(r["id"] * 100 + i, r["id"]) for r in self.held.records if r["id"] % 7 for i in range(r["id"] % 3)]
        self.assertEqual(self.database.rows("SELECT id, thing FROM staging.own__notes ORDER BY id"), sorted(expected))
        with self.subTest("only the parents that changed"):
            self.held.records[3]["name"] = "other"
            self.ingest()
            before = len(self.held.log)
            self.ingest("notes")
            self.assertEqual([path for _, path, _, _ in self.held.log[before:]], ["/children/4"])

    JOB = {"path": "/job", "params": {"cursor": "{cursor}"}, "data_selector": "records", "add": {"event": "{resource}"},
           "window": {"step": "1 day", "format": "basic_date", "to": "inclusive"},
           "paginator": {"type": "cursor", "path": "next_cursor", "decode": "percent", "create_path": "cursor",
                         "create": {"method": "POST", "path": "/job", "body": {"from": {"$number": "{from}"}, "to": {"$number": "{to}"}}}},
           "responses": [{"status": [200], "body": {"path": "code", "equals": 2}, "action": "retry", "wait": "1 ms", "retries": 100}]}

    def test_a_job_a_day_replaces_the_day(self):
        self.held.busy = 3
        self.declare(self.JOB, primary_key=None)
        window = ", from_value => '2026-11-01', to_value => '2026-11-04'"
        self.ingest(arguments=window)
        rows = "SELECT ts, (props ->> 'n')::int, event FROM staging.own__things ORDER BY 2"
        held = [(r["ts"], r["n"], "things") for r in self.held.events]
        self.assertEqual(self.database.rows(rows), held)
        self.assertEqual(self.held.jobs, 3)
        with self.subTest("again, with a day that changed"):
            self.held.events[13]["n"] = 299
            del self.held.events[30]
            self.ingest(arguments=window)
            held = sorted(((r["ts"], r["n"], "things") for r in self.held.events), key=lambda r: r[1])
            self.assertEqual(self.database.rows(rows), held)
        with self.subTest("a window that does not come whole leaves what was there"):
            self.held.hook = lambda handler, path, query: "cursor" in query and "c/8" in query["cursor"] and (handler.answer({}, 500) or True)
            with self.assertRaises(errors.ExternalRoutineException):
                self.ingest(arguments=window)
            self.assertEqual(self.database.rows(rows), held)

    def test_a_csv_that_is_cut_off_is_split(self):
        self.held.cut = 5
        self.declare({"path": "/csv", "params": {"from": "{from}", "to": "{to}"}, "format": {"type": "csv", "null": ["N/A"]},
                      "window": {"step": "1 day", "format": "datetime", "to": "inclusive", "granularity": "1 second"},
                      "responses": [{"records_at_least": 5, "action": "split"}]}, primary_key=None, columns={"N": "int", "Event Value": "jsonb"})
        self.ingest(arguments=", from_value => '2026-11-01', to_value => '2026-11-04'")
        self.assertEqual(self.database.rows("SELECT event_time, n, event_value FROM staging.own__things ORDER BY n"),
                         [(r["ts"], r["n"], {"n": str(r["n"]), "t": 1}) for r in self.held.events])

    def test_lines_in_a_compressed_file(self):
        self.reads_all({"path": "/lines", "format": {"type": "ndjson", "compression": "gzip"}}, 1)

    def test_lists_of_values_get_their_names(self):
        self.declare({"method": "POST", "path": "/report", "data_selector": "rows", "page_size": 40, "options": {"dimensions": {"type": "array"}},
                      "zip": [{"names": "dimensionHeaders[].name", "values": "dimensionValues[].value"}, {"names": "metricHeaders[].name", "values": "metricValues[].value"}],
                      "types": {"id": "bigint", "value": "numeric"},
                      "body": {"dimensions": {"$each": "{option.dimensions}", "item": {"name": "{item}"}}, "offset": "{offset}", "limit": "{page_size}"},
                      "paginator": {"type": "offset", "total_path": "rowCount"}}, options={"dimensions": ["id", "name"]})
        self.ingest()
        self.assertEqual(self.database.rows("SELECT id, name, value::float8 FROM staging.own__things ORDER BY id"),
                         [(r["id"], r["name"], r["id"] * 1.5) for r in self.held.records])

    def test_a_large_document_passes_through_a_small_buffer(self):
        self.held.records = [{"id": i, "name": "x" * 500, "changed": stamp(i % 86400), "big": i} for i in range(20000)]
        with self.database.connect("engineer") as engineer:
            self.declare({"path": "/all"})
            engineer.execute("SET visage.ingest_memory = '1MB'")
            engineer.execute("CALL visage_ingest('own.things')")
        self.everything()

    # ---- credentials ----

    def sent(self, name):
        return [headers.get(name) for _, _, _, headers in self.held.log]

    def test_simple_credentials(self):
        key = self.secret("key", "s3cret/=&")
        for auth, name, value in (
                ({"type": "bearer", "token": "{secret.key}"}, "Authorization", "Bearer s3cret/=&"),
                ({"type": "http_basic", "username": "{secret.key}", "password": "X"}, "Authorization", "Basic " + base64.b64encode(b"s3cret/=&:X").decode()),
                ({"type": "api_key", "in": "header", "name": "X-Key", "value": "{secret.key}"}, "X-Key", "s3cret/=&"),
                ({"type": "api_key", "in": "query", "name": "k", "value": "{secret.key}"}, None, "/all?k=s3cret%2F%3D%26")):
            with self.subTest(auth["type"]):
                self.setUp()
                self.declare({"path": "/all", "auth": auth, "secrets": {"key": {}}}, secrets={"key": key})
                self.ingest()
                self.assertEqual(self.sent(name) if name else [path for _, path, _, _ in self.held.log], [value])

    def test_a_missing_secret(self):
        self.declare({"path": "/all", "auth": {"type": "bearer", "token": "{secret.key}"}, "secrets": {"key": {}}})
        with self.assertRaises(errors.ObjectNotInPrerequisiteState):
            self.ingest()

    def test_a_token_that_expires(self):
        issued = []

        def hook(handler, path, _):
            if path == "/oauth":
                issued.append(urllib.parse.parse_qs(handler.body))
                handler.answer({"access_token": "t%d" % len(issued), "expires_in": 1800})
                return True
            if handler.headers.get("Authorization") != "Bearer t2":
                handler.answer({"message": "expired"}, 401)
                return True
            return False
        self.held.hook = hook
        self.declare({"path": "/all", "secrets": {"id": {}, "key": {}}, "auth": {"type": "oauth2_client_credentials", "token_url": self.double.url + "/oauth", "client_id": "{secret.id}", "client_secret": "{secret.key}", "scope": "read"}},
                     secrets={"id": self.secret("id", "me"), "key": self.secret("key2", "p&q")})
        self.ingest()
        self.everything()
        self.assertEqual(issued, [{"grant_type": ["client_credentials"], "client_id": ["me"], "client_secret": ["p&q"], "scope": ["read"]}] * 2)

    def test_a_service_account(self):
        pem = subprocess.run(["openssl", "genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], check=True, capture_output=True, text=True).stdout
        asked = []

        def hook(handler, path, _):
            if path == "/mint":
                asked.append(urllib.parse.parse_qs(handler.body)["assertion"][0])
                handler.answer({"access_token": "minted", "expires_in": 3599})
                return True
            self.assertEqual(handler.headers.get("Authorization"), "Bearer minted")
            return False
        self.held.hook = hook
        key = self.secret("account", json.dumps({"client_email": "me@example.test", "private_key": pem, "private_key_id": "k1", "token_uri": self.double.url + "/mint"}))
        self.declare({"path": "/all", "secrets": {"account": {}}, "auth": {"type": "service_account_jwt", "key": "{secret.account}", "scope": "a b"}}, secrets={"account": key})
        self.ingest()
        self.everything()
        head, claims, signature = asked[0].split(".")
        padded = [json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in (head, claims)]
        self.assertEqual(padded[0], {"alg": "RS256", "typ": "JWT", "kid": "k1"})
        self.assertEqual((padded[1]["iss"], padded[1]["scope"], padded[1]["aud"]), ("me@example.test", "a b", self.double.url + "/mint"))
        self.assertLessEqual(padded[1]["exp"] - padded[1]["iat"], 3600)
        with tempfile.TemporaryDirectory() as directory:
            for name, content in (("key", pem.encode()), ("signed", (head + "." + claims).encode()), ("signature", base64.urlsafe_b64decode(signature + "=="))):
                with open(os.path.join(directory, name), "wb") as file:
                    file.write(content)
            subprocess.run(["openssl", "pkey", "-in", "key", "-pubout", "-out", "public"], check=True, cwd=directory)
            subprocess.run(["openssl", "dgst", "-sha256", "-verify", "public", "-signature", "signature", "signed"], check=True, cwd=directory, capture_output=True)

    # ---- schemas, deletes, dispositions ----

    def test_types_are_widened(self):
        self.declare({"path": "/all"})
        self.held.records = [{"id": 1, "a": 1, "b": True, "c": 2, "d": "x"}]
        self.ingest()
        self.held.records = [{"id": 2, "a": 1.50, "b": "yes", "c": {"n": 1}, "d": 5, "e": [1]}]
        self.ingest()
        self.assertEqual(self.database.rows("SELECT id, a::text, b, c, d, e FROM staging.own__things ORDER BY id"),
                         [(1, "1", "true", 2, "x", None), (2, "1.5", "yes", {"n": 1}, "5", [1])])
        self.assertEqual(self.database.rows("SELECT column_name, change, before, after FROM visage.schema_changes ORDER BY column_name"), [
            ("a", "widened", "bigint", "numeric"), ("b", "widened", "boolean", "text"), ("c", "widened", "bigint", "jsonb"), ("e", "added", None, "jsonb")])
        with self.subTest("and not narrowed again"):
            types = self.database.columns("staging.own__things")
            self.database.execute("DELETE FROM staging.own__things")
            self.held.records = [{"id": 3, "a": 7, "b": False, "c": 8, "d": 9, "e": 10}]
            self.ingest()
            self.assertEqual(self.database.columns("staging.own__things"), types)
            self.assertEqual(self.database.value("SELECT a, b, c, d, e FROM staging.own__things"), (7, "false", 8, "9", 10))

    def test_schema_contracts(self):
        for contract in ("freeze", "discard_row", "discard_value"):
            with self.subTest(contract):
                self.setUp()
                self.declare({"path": "/all"}, schema_contract=contract)
                self.held.records = [{"id": 1, "a": 1}]
                self.ingest()
                self.held.records = [{"id": 1, "a": 2}, {"id": 2, "a": 3, "new": "x"}, {"id": 3, "a": [1]}]
                if contract == "freeze":
                    with self.assertRaises(errors.UndefinedColumn):
                        self.ingest()
                    continue
                self.ingest()
                self.assertEqual(self.database.rows("SELECT id, a FROM staging.own__things ORDER BY id"),
                                 [(1, 2)] if contract == "discard_row" else [(1, 2), (2, 3), (3, None)])
                self.assertEqual(self.database.value("SELECT count(*) FROM visage.quarantine"), 2 if contract == "discard_row" else 0)

    def test_nested_values_by_path(self):
        self.declare({"path": "/all"}, columns={"address.city": "text", "seen": "timestamptz", "local": "timestamp", "tags": "text[]"})
        self.held.records = [{"id": 1, "address": {"city": "Ulm", "zip": 89073}, "seen": "2026-11-01T10:00:00+02:00", "local": "2026-11-01T10:00:00", "tags": ["a", "b\"c", None]}]
        self.ingest()
        self.assertEqual(self.database.value("SELECT address_city, address, seen = '2026-11-01T08:00:00Z', local::text, tags FROM staging.own__things"),
                         ("Ulm", {"city": "Ulm", "zip": 89073}, True, "2026-11-01 10:00:00", ["a", "b\"c", None]))

    def test_landing_holds_what_the_server_would_make_of_it(self):
        """The jsonb that is written directly is, byte for byte, the server's."""
        random.seed(4)

        def value(depth):
            kind = random.randrange(9 if depth < 3 else 6)
            if kind == 0:
                return None
            if kind == 1:
                return random.choice([True, False])
            if kind in (2, 3):
                return random.choice([0, -1, 2 ** 70, 10 ** -9, 1.5, -0.25e300, random.randrange(10 ** 6)])
            if kind in (4, 5):
                return "".join(random.choice('ab"\\\n\t/éß漢\U0001F600\x7f ') for _ in range(random.randrange(40)))
            if kind == 6:
                return [value(depth + 1) for _ in range(random.randrange(4))]
            return {"k%d" % random.randrange(50): value(depth + 1) for _ in range(random.randrange(6))}
        names = ["id", "", "a", "B", "é", "a.b", "with \"quotes\"", "x" * 100] + ["f%d" % i for i in range(80)]
        records = [{"id": i, **{random.choice(names[2:]): value(0) for _ in range(random.randrange(90))}} for i in range(400)]
        body = "[" + ",".join(json.dumps(r, ensure_ascii=bool(i % 2)) for i, r in enumerate(records)) + ', {"id": 400, "f1": 1, "f1": 2, "a": {"b": 1, "b": 2}}]'
        self.held.hook = lambda handler, *_: handler.answer(body.encode()) or True
        self.declare({"path": "/all", "rename": {"B": "upper_b"}})
        self.ingest()
        with self.database.connect() as session:
            session.execute("CREATE TEMP TABLE made AS SELECT value AS record FROM jsonb_array_elements(%s::jsonb)", [body])
            same = session.execute("SELECT count(*), count(*) FILTER (WHERE jsonb_send(l.record) = jsonb_send(m.record) AND pg_column_size(l.record || '{}') = pg_column_size(m.record || '{}')"
                                   " AND l.record @> m.record AND jsonb_hash_extended(l.record, 7) = jsonb_hash_extended(m.record, 7))"
                                   " FROM landing.own__things AS l JOIN made AS m ON m.record -> 'id' = l.record -> 'id'").fetchone()
        self.assertEqual(same, (401, 401))

    def test_deletes_from_a_complete_extract(self):
        self.declare({"path": "/all"}, hard_deletes="invalidate")
        self.ingest()
        del self.held.records[10:20]
        self.ingest()
        self.assertEqual(self.ids(), [r["id"] for r in self.held.records])
        with self.subTest("nothing at all deletes nothing"):
            self.held.records = []
            self.ingest()
            self.assertEqual(len(self.ids()), 91)

    def test_a_key_and_a_cursor_that_are_renamed(self):
        """Meant by the field's name or by the column's."""
        streams = {"things": {"rename": {"id": "customer", "changed": "seen"}, "types": {"changed": "timestamptz"}},
                   "children": {"path": "/children/{parent.id}", "primary_key": ["id"], "parent": {"stream": "things", "field": "id"}, "responses": [{"status": [404], "action": "ignore"}]}}
        for key, cursor in (("id", "changed"), ("customer", "seen")):
            for disposition, more in (("merge", {"hard_deletes": "invalidate"}), ("merge", {"cursor_field": cursor}), ("append", {"cursor_field": cursor}),
                                      ("history", {"cursor_field": cursor}), ("replace", {})):
                with self.subTest(key=key, disposition=disposition, **more):
                    self.setUp()
                    self.database.execute("SELECT visage_drop_history(name, keep_data => false) FROM visage.declarations WHERE noun = 'history'")
                    self.declare({"path": "/all", "streams": streams}, primary_key=[key], write_disposition=disposition, **more)
                    self.ingest()
                    if "cursor_field" not in more:
                        del self.held.records[90:]
                    self.held.records[3].update(name="another", changed=stamp(1000))
                    self.ingest()
                    table = "history.own__things__current" if disposition == "history" else "staging.own__things"
                    expected = [(r["id"], r["name"]) for r in self.held.records]
                    if disposition == "append":
                        expected.insert(3, (4, "n4"))
                    self.assertEqual(self.database.rows("SELECT customer, name FROM %s ORDER BY customer, seen" % table), expected)
                    self.assertEqual(self.database.rows("SELECT * FROM visage.quarantine"), [])
        self.stream("children")
        self.ingest("children")
        self.assertEqual(self.ids("children"), sorted(r["id"] * 100 + i for r in self.held.records if r["id"] % 7 for i in range(r["id"] % 3)))

    def test_names_that_change_places(self):
        """A field's own name goes before the name that another one becomes."""
        self.declare({"path": "/all", "rename": {"id": "big", "big": "id"}}, primary_key=["id"], hard_deletes="invalidate")
        self.ingest()
        del self.held.records[50:]
        self.ingest()
        self.assertEqual(self.database.rows("SELECT big, id FROM staging.own__things ORDER BY big"), [(r["id"], r["big"]) for r in self.held.records])
        self.assertEqual(self.database.rows("SELECT DISTINCT _source_key::int FROM landing.own__things ORDER BY 1"), [(i,) for i in range(1, 102)])

    def test_a_cursor_is_asked_for_by_its_field(self):
        manifest = {**self.SINCE, "rename": {"changed": "seen"}, "params": {**self.SINCE["params"], "by": "{cursor_field}"}, "paginator": {"type": "page_number"}}
        for said, declared in (({}, {"cursor_field": "seen"}), ({"cursor": {**self.SINCE["cursor"], "field": "seen"}}, {})):
            with self.subTest(manifest=said, stream=declared):
                self.setUp()
                self.declare({**manifest, **said}, **declared)
                self.ingest()
                self.assertEqual({urllib.parse.parse_qs(urllib.parse.urlsplit(path).query)["by"][0] for _, path, _, _ in self.held.log}, {"changed"})

    def test_a_key_that_is_always_null(self):
        self.held.records = [{"id": None, "name": "a"}, {"id": None, "name": "b"}]
        self.declare({"path": "/all"})
        self.ingest()
        self.assertEqual(self.ids(), [])
        self.assertEqual(self.database.value("SELECT count(*) FROM visage.quarantine"), 2)

    def test_the_last_page_of_a_limit_may_be_short(self):
        self.reads_all({"path": "/page", "page_size": 10, "params": {"n": "{page}", "size": "{page_size}"}, "paginator": {"type": "page_number", "max_pages": 11}}, 11)

    def test_nothing_is_asked_for_behind_a_short_page_but_the_next(self):
        self.reads_all({"path": "/page", "page_size": 200, "params": {"n": "{page}", "size": "{page_size}"}, "paginator": {"type": "page_number"}}, 2)

    def test_an_extract_that_breaks_off_deletes_nothing(self):
        self.declare({"path": "/page", "page_size": 10, "params": {"n": "{page}", "size": "{page_size}"}, "paginator": {"type": "page_number", "parallel": False}},
                     hard_deletes="invalidate")
        self.ingest()
        del self.held.records[15:40]
        for page in ("3", "6"):
            self.held.hook = lambda handler, path, query: query["n"] == page and (handler.answer({}, 404) or True)
            with self.assertRaises(errors.ExternalRoutineException):
                self.ingest()
            self.assertEqual(len(self.ids()), 101)
        self.held.hook = None
        self.ingest()
        self.assertEqual(self.ids(), [r["id"] for r in self.held.records], "when it has come to its end it does")

    def test_a_key_may_be_spelled_in_several_ways(self):
        """A complete extract deletes no row that it brings, however it writes
        the key; the row stays the one that it was."""
        identifier = "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"
        for keys, columns, bodies in (
                (["id"], {"id": "uuid"}, ['"%s"' % identifier, '"%s"' % identifier.lower()]),
                (["id"], {"id": "timestamptz"}, ['"2024-02-29T12:00:00Z"', '"2024-02-29T14:00:00+02:00"']),
                (["id"], {"id": "numeric"}, ["1.0e2", "100"]),
                (["id"], {"id": "numeric(12,2)"}, ["1.504", "1.5"]),
                (["id"], None, ['"a/\u00e9"', '"a\\/\\u00e9"']),
                (["id", "k"], None, ['"a/\u00e9", "k": 7', '"a\\/\\u00e9", "k": 7']),
                (["id", "k"], {"id": "date", "k": "boolean"}, ['"2024-02-29", "k": true', '"20240229", "k": "yes"'])):
            with self.subTest(keys=keys, columns=columns):
                self.setUp()
                self.declare({"path": "/all"}, primary_key=keys, hard_deletes="invalidate", **({"columns": columns} if columns else {}))
                for body in bodies + bodies:
                    self.held.hook = lambda handler, *_: handler.answer(('[{"id": %s, "v": 1}]' % body).encode()) or True
                    self.ingest()
                    self.assertEqual(self.database.value("SELECT count(*) FROM staging.own__things"), 1)
                    self.assertIsNone(self.database.value("SELECT counters ->> 'deleted' FROM visage.runs ORDER BY run_id DESC LIMIT 1"))
        with self.subTest("a key that is no value of its type"):
            self.setUp()
            self.declare({"path": "/all"}, columns={"id": "bigint"}, hard_deletes="invalidate")
            self.held.hook = lambda handler, *_: handler.answer([{"id": i} for i in (1, 2, "x", 3, "y")]) or True
            self.ingest()
            self.ingest()
            self.assertEqual(self.ids(), [1, 2, 3])

    def test_tombstones(self):
        self.declare({"path": "/all", "deleted_when": {"path": "gone", "equals": True}}, hard_deletes="invalidate")
        self.ingest()
        self.held.records = [{"id": 5, "gone": True}]
        self.ingest()
        self.assertNotIn(5, self.ids())

    def test_replace(self):
        self.declare({"path": "/link", "paginator": {"type": "header_link"}}, primary_key=None, write_disposition="replace")
        self.ingest()
        self.everything()
        self.held.records = self.held.records[50:]
        self.ingest()
        self.assertEqual(self.ids(), [r["id"] for r in self.held.records])

    def test_append_applies_a_content_once(self):
        self.declare({"path": "/all"}, write_disposition="append")
        self.held.records = [{"id": 1, "v": 1}, {"id": 1, "v": 2}, {"id": 1, "v": 1}]
        self.ingest()
        self.ingest()
        self.assertEqual(self.database.rows("SELECT id, v FROM staging.own__things ORDER BY v"), [(1, 1), (1, 2)])

    def test_constraints_and_triggers_of_the_user_hold(self):
        self.declare({"path": "/all"})
        self.held.records = [{"id": 1, "v": 1}]
        self.ingest()
        with self.database.connect() as admin:
            admin.execute("ALTER TABLE staging.own__things ADD CHECK (v < 100)")
        self.held.records = [{"id": i, "v": i * 20} for i in range(1, 10)]
        self.ingest()
        self.assertEqual(self.ids(), [1, 2, 3, 4])
        self.assertEqual(self.database.value("SELECT count(*) FROM visage.quarantine WHERE reason LIKE '%%check constraint%%'"), 5)
        with self.database.connect() as admin:
            admin.execute("CREATE FUNCTION public.double_it() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.v := NEW.v * 2; RETURN NEW; END'")
            admin.execute("CREATE TRIGGER t BEFORE INSERT ON staging.own__things FOR EACH ROW EXECUTE FUNCTION public.double_it()")
        self.held.records = [{"id": 50, "v": 10}]
        self.ingest()
        self.assertEqual(self.database.value("SELECT v FROM staging.own__things WHERE id = 50"), 20)

    # ---- a source, and records from inside ----

    def test_the_check_of_a_source(self):
        key = self.secret("checked", "right")
        self.held.hook = lambda handler, *_: handler.headers.get("Authorization") != "Bearer right" and (handler.answer({"message": "who are you?"}, 401) or True)
        self.declare({"auth": {"type": "bearer", "token": "{secret.key}"}, "secrets": {"key": {}}, "error_message": "message", "streams": {
            "things": {"path": "/all", "primary_key": ["id"], "cursor_field": "changed", "types": {"big": "numeric"}}}}, secrets={"key": key})
        check = "SELECT ok, message, latency < '15 s' FROM visage_check_source('own')"
        self.assertEqual(self.database.value(check, role="engineer"), (True, "ok", True))
        self.assertEqual(self.database.rows("SELECT * FROM visage_discover('own')", role="engineer"),
                         [("things", "things", {"id": "bigint", "name": "text", "changed": "text", "big": "numeric"}, ["id"], "changed")])
        self.secret("checked", "wrong")
        self.assertEqual(self.database.value(check, role="engineer"), (False, "the server answers with status 401, and says: who are you?", True))
        os.unlink(os.path.join(self.secrets.name, "checked"))
        self.assertIn("secret", self.database.value(check, role="engineer")[1])

    def test_records_are_pushed(self):
        self.declare({"path": "/all"})
        push = "SELECT accepted, duplicate, quarantined FROM visage_push('own.things', %s)"
        self.assertEqual(self.database.value(push, json.dumps([{"id": 1, "a": 1}, {"id": 2, "a": 2}, {"a": 3}]), role="engineer"), (2, 0, 1))
        self.assertEqual(self.database.value(push, json.dumps({"id": 2, "a": 2}), role="engineer"), (0, 1, 0))
        with self.database.connect("engineer") as session:
            with session.transaction(force_rollback=True):
                session.execute(push, [json.dumps({"id": 9})])
        self.assertEqual(self.ids(), [1, 2])
        with self.subTest("again, and together with what is new"):
            again = json.dumps([{"id": 1, "a": 1}, {"id": 2, "a": 2}, {"id": 2, "a": 3}, {"id": 4, "a": 4}])
            self.assertEqual(self.database.value(push, again, role="engineer"), (2, 2, 0))
            self.assertEqual(self.database.value(push, again, role="engineer"), (0, 4, 0))
            self.assertEqual(self.database.rows("SELECT id, a FROM staging.own__things ORDER BY id"), [(1, 1), (2, 3), (4, 4)])
            self.assertEqual(self.database.value("SELECT count(*) FROM landing.own__things"), 4)
        with self.subTest("at the same time, in two sessions"):
            with self.database.connect("engineer") as session:
                session.execute("BEGIN")
                session.execute(push, [json.dumps({"id": 5, "a": 5})])
                other = house.Background(self.database, "SELECT visage_push('own.things', '{\"id\": 5, \"a\": 5}')")
                house.wait_until(lambda: self.database.value("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = %s", other.pid), "the other waits")
                session.execute("COMMIT")
            self.assertIsNone(other.join())
            self.assertEqual(self.database.value("SELECT count(*) FROM landing.own__things WHERE _source_key = '5'"), 1)

    def test_a_key_taken_for_new_may_be_there(self):
        self.declare({"path": "/all"})
        push = "SELECT accepted, duplicate, quarantined FROM visage_push('own.things', %s)"
        self.database.value(push, json.dumps([{"id": 2500, "v": 0}, {"id": 2501, "v": 2501 % 7}]), role="engineer")
        records = [{"id": i, "v": i % 7} for i in range(3000)]
        self.assertEqual(self.database.value(push, json.dumps(records), role="engineer"), (2999, 1, 0), "a thousand at a time, of which the third has two that are there")
        self.assertEqual(self.database.rows("SELECT id, v FROM staging.own__things ORDER BY id"), [(i, i % 7) for i in range(3000)])
        self.assertEqual(self.database.value("SELECT count(*) FROM landing.own__things"), 2 + 2999)

    def test_instants_are_what_the_server_reads(self):
        self.declare({"path": "/all"}, columns={"id": "bigint", "plain": "timestamp", "zoned": "timestamptz"})
        days = ["2023-03-10", "2024-02-29", "2023-02-29", "1900-02-29", "2000-02-29", "0001-01-01", "0099-12-31", "9999-12-31", "0000-01-01", "2023-13-01", "2023-00-10", "2023-04-31", "2023-4-3", "10000-01-01", "20230310"]
        times = ["", "T00:00:00.000", " 23:59:59.999999", "T24:00:00", "T23:59:60", "T12:34:56.1234567", "T12:34:56.5", "T12:34:56.", "T12:34", "t12:34:56", "T1:02:03", "T12:61:00", "T-1:00:00", "T12:34:56,5"]
        texts = [day + moment + zone for day in days for moment in times for zone in ("", "Z", "z", "+02", " UTC", "Z ", "ZZ")]
        for column, kind in (("plain", "timestamp"), ("zoned", "timestamptz")):
            expected = {}
            with self.database.connect() as session:
                session.execute("SET TimeZone = 'UTC'")
                for number, text in enumerate(texts):
                    try:
                        expected[number] = session.execute("SELECT %s::text::" + kind + "::text", [text]).fetchone()[0]
                    except (errors.DataError, errors.InvalidDatetimeFormat):
                        pass
                first = len(texts) * (column == "zoned")
                session.execute("SELECT visage_push('own.things', %s)", [json.dumps([{"id": first + number, column: text} for number, text in enumerate(texts)])])
                found = dict(session.execute("SELECT id - %s, " + column + "::text FROM staging.own__things WHERE " + column + " IS NOT NULL", [first]).fetchall())
            self.assertEqual(found, expected)
            self.assertGreater(len(expected), 100)
            self.assertGreater(len(texts) - len(expected), 100)

    def test_quarantine_is_replayed(self):
        self.declare({"path": "/all"})
        self.held.records = [{"id": 1, "v": 1}]
        self.ingest()
        with self.database.connect() as admin:
            admin.execute("ALTER TABLE staging.own__things ADD CONSTRAINT small CHECK (v < 10)")
        self.held.records = [{"id": 1, "v": 11}, {"id": 2, "v": 12}, {"id": 3, "v": 5}, {"id": 4, "v": 99}]
        self.ingest()
        self.assertEqual(self.ids(), [1, 3])
        self.held.records = [{"id": 1, "v": 2}]
        self.ingest()
        with self.database.connect() as admin:
            admin.execute("ALTER TABLE staging.own__things DROP CONSTRAINT small, ADD CHECK (v < 50)")
        self.assertEqual(self.database.value("SELECT visage_replay_quarantine('own.things')", role="engineer"), 1)
        self.assertEqual(self.database.rows("SELECT id, v FROM staging.own__things ORDER BY id"), [(1, 2), (2, 12), (3, 5)], "what came later stays")
        self.assertEqual(self.database.value("SELECT count(*) FROM visage.quarantine WHERE replayed_at IS NULL"), 1)

    def test_a_worker_runs_a_stream(self):
        self.declare({"path": "/all"})
        with self.database.connect() as admin:
            admin.execute("LOAD 'visage'")
            admin.execute("ALTER SYSTEM SET visage.stream_pause = 1")
            admin.execute("SELECT pg_reload_conf()")
        self.addCleanup(self.database.execute, "LOAD 'visage'", "ALTER SYSTEM RESET visage.stream_pause", "SELECT pg_reload_conf()")
        before = self.database.value("SELECT coalesce(max(run_id), 0) FROM visage.runs")
        self.addCleanup(self.database.execute, "DELETE FROM visage.stream_workers", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'visage stream'")
        self.database.execute("SELECT visage_start('own.things')", role="engineer")
        house.wait_until(lambda: self.database.value("SELECT state = 'waiting' FROM visage.workers"), "the worker has crawled")
        self.everything()
        self.held.records.append({"id": 900, "name": "later", "changed": stamp(1), "big": 1})
        house.wait_until(lambda: 900 in self.ids(), "the worker crawls again")
        workers = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'visage stream'"
        self.assertEqual(self.database.value(workers), 1)
        self.database.execute("SELECT visage_stop('own.things')", role="engineer")
        house.wait_until(lambda: self.database.value(workers) == 0, "the worker is gone")
        self.assertEqual(self.database.value("SELECT count(*), min(state), sum((counters ->> 'landed')::int) FROM visage.runs WHERE run_id > %s", before),
                         (1, "success", len(self.held.records)), "the crawls of an hour are one run")
        with self.assertRaises(errors.UndefinedObject):
            self.database.execute("SELECT visage_stop('own.things')", role="engineer")

    # ---- records that a system says are deleted ----

    def test_a_list_of_deleted_records(self):
        """Tombstones of yet another kind: a log of deletes, with paging and
        names of its own; one is older than the record that came again."""
        self.held.records = [{"id": i, "v": i, "changed": stamp(i)} for i in range(1, 31)]
        gone = [{"key": {"id": i}, "when": stamp(100 + i)} for i in range(1, 8)]

        def hook(handler, path, query):
            if path == "/log":
                start = int(query["skip"])
                handler.answer({"deleted": gone[start:start + 3]})
            return path == "/log"

        manifest = {"path": "/all", "types": {"changed": "timestamptz"}, "tombstones": {
            "path": "/log", "params": {"skip": "{offset}"}, "page_size": 3, "data_selector": "deleted", "record_selector": "key",
            "paginator": {"type": "offset"}}}
        self.held.hook = hook
        self.declare(manifest, hard_deletes="invalidate")
        self.ingest()
        self.assertEqual(self.ids(), list(range(8, 31)))
        self.ingest()
        self.assertEqual(self.ids(), list(range(8, 31)))

    def test_a_deleted_record_that_came_again(self):
        self.held.records = [{"id": i, "changed": stamp(i)} for i in range(1, 6)]
        gone = [{"id": 1, "when": stamp(50)}, {"id": 2, "when": stamp(50)}]
        self.held.hook = lambda handler, path, _: path == "/log" and (handler.answer(gone) or True)
        self.declare({"path": "/all", "types": {"changed": "timestamptz"}, "tombstones": {"path": "/log", "at": "when"}}, hard_deletes="invalidate", cursor_field="changed")
        self.ingest()
        self.assertEqual(self.ids(), [3, 4, 5])
        self.held.records[0] = {"id": 1, "changed": stamp(60)}
        self.held.records[1] = {"id": 2, "changed": stamp(40)}
        self.ingest()
        self.assertEqual(self.ids(), [1, 3, 4, 5], "changed after it was deleted, and before")

    # ---- politeness ----

    def test_the_rate_is_kept(self):
        self.declare({"path": "/page", "page_size": 5, "rate": {"requests": 8, "per": "1 second"},
                      "params": {"n": "{page}", "size": "{page_size}"}, "paginator": {"type": "page_number"}})
        times = []
        self.held.hook = lambda *_: times.append(time.monotonic())
        self.ingest()
        self.everything()
        for first, last in zip(times, times[8:]):
            self.assertGreater(last - first, 0.9)

    def test_the_breaker_opens_and_closes(self):
        self.declare({"path": "/all"})
        self.held.hook = lambda handler, *_: handler.answer({}, 503) or True
        with self.database.connect() as session:
            session.execute("SET visage.breaker_failures = 3")
            session.execute("SET visage.breaker_pause = '200ms'")
            session.execute("SET visage.max_retries = 4")
            with self.assertRaises(errors.ExternalRoutineException):
                session.execute("CALL visage_ingest('own.things')")
            host = "127.0.0.1:%d" % self.double.port
            state = "SELECT state, failures >= 3, last_error, scope IN ('server', 'session') FROM visage.breakers WHERE host = %s"
            self.assertEqual(session.execute(state, [host]).fetchone(), ("open", True, "status 503", True))
            self.held.hook = None
            session.execute("CALL visage_ingest('own.things')")
            self.assertEqual(session.execute(state, [host]).fetchone()[0], "closed")
        self.everything()

    def test_what_an_answer_says_decides(self):
        self.declare({"path": "/all", "responses": [
            {"status": [200], "body": {"path": "status", "equals": "fail"}, "action": "fail", "message": "the export was refused"},
            {"status": [403], "body": {"contains": "Limit reached"}, "action": "retry", "wait": "1 ms"},
            {"status": [400], "body": {"contains": "quota"}, "action": "retry", "wait_until": "utc_midnight"}]})
        answers = [({"message": "Limit reached for app"}, 403)]
        self.held.hook = lambda handler, *_: answers and (handler.answer(*answers.pop()) or True)
        self.ingest()
        self.everything()
        answers.append(({"status": "fail"}, 200))
        with self.assertRaisesRegex(errors.ExternalRoutineException, "status 200") as raised:
            self.ingest()
        self.assertIn("the export was refused", raised.exception.diag.message_detail)
        answers.append((b"your quota is spent", 400))
        with self.database.connect("engineer") as engineer:
            engineer.execute("SET visage.max_retry_wait = '1s'")
            with self.assertRaisesRegex(errors.ConnectionFailure, "max_retry_wait") as raised:
                engineer.execute("CALL visage_ingest('own.things')")
        self.assertRegex(raised.exception.diag.message_detail, r"from \d{4}-\d\d-\d\dT00:00:0")


if __name__ == "__main__":
    unittest.main()

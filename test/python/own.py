"""What tests of connectors made by SQL share: a server in this process that
holds records with ids and times of change, in every kind of paging, and a
database that declares how to read them."""

import base64
import gzip
import http.server
import json
import os
import tempfile
import threading
import time
import unittest
import urllib.parse

import house


def stamp(second):
    """An instant of 2026-11-01, so many seconds after midnight."""
    return "2026-11-01T%02d:%02d:%02dZ" % (second // 3600, second // 60 % 60, second % 60)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, body, status=200, **headers):
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self.handle_request()

    def do_GET(self):
        self.body = ""
        self.handle_request()

    def handle_request(self):
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        self.server.log.append((self.command, self.path, self.body, dict(self.headers)))
        hook = self.server.hook
        if hook and hook(self, url.path, query):
            return
        getattr(self, "get_" + url.path.split("/")[1])(url.path, query)

    # ---- ways of paging over self.server.records ----

    def get_link(self, _, query):
        page, size = int(query.get("page", 1)), 10
        rows = self.server.records[(page - 1) * size:page * size]
        more = page * size < len(self.server.records)
        link = {"Link": '<http://%s/link?page=%d>; rel="next", </x>; rel="last"' % (self.headers["Host"], page + 1)} if more else {}
        self.answer(rows, **link)

    def get_json(self, _, query):
        start = int(query.get("start", 0))
        body = {"next": "/json?start=%d" % (start + 7), "data": {"items": self.server.records[start:start + 7]}}
        if start + 7 >= len(self.server.records):
            body["next"] = None
        self.answer(body)

    def get_token(self, _, query):
        start = int(base64.b64decode(query["after"]).decode()) if "after" in query else 0
        rows = self.server.records[start:start + 9]
        body = {"results": rows, "paging": {"next": {"after": base64.b64encode(b"%d" % (start + 9)).decode()}}}
        if start + 9 >= len(self.server.records):
            del body["paging"]
        self.answer(body)

    def get_page(self, _, query):
        number, size = int(query["n"]), min(int(query["size"]), self.server.most)
        time.sleep(self.server.latency)
        self.answer(self.server.records[(number - 1) * size:number * size])

    def get_offset(self, _, query):
        offset, size = int(query["offset"]), min(int(query["size"]), self.server.most)
        self.answer({"total": len(self.server.records), "rows": self.server.records[offset:offset + size]})

    def get_since(self, _, query):
        """Everything changed at or after an instant, in its order, by pages."""
        rows = sorted((r for r in self.server.records if r["changed"] >= query.get("since", "")), key=lambda r: (r["changed"], r["id"]))
        page, size = int(query["page"]), int(query["size"])
        if page > self.server.max_page:
            self.answer({"message": "too deep"}, 400)
        else:
            self.answer(rows[(page - 1) * size:page * size])

    def get_children(self, path, _):
        parent = int(path.split("/")[2])
        if parent % 7 == 0:
            self.answer({"message": "no such parent"}, 404)
        else:
            self.answer([{"id": parent * 100 + i, "text": "child %d" % i} for i in range(parent % 3)])

    def get_job(self, _, query):
        if self.command == "POST":
            job = json.loads(self.body)
            self.server.jobs += 1
            self.server.job = [r for r in self.server.events if job["from"] <= r["day"] <= job["to"]]
            self.answer({"cursor": urllib.parse.quote("c/0=", safe="")})
            return
        start = int(query["cursor"].split("/")[1].rstrip("="))
        if self.server.busy > 0:
            self.server.busy -= 1
            self.answer({"status": "fail", "code": 2})
            return
        body = {"status": "success", "records": [{"ts": r["ts"], "props": {"n": r["n"]}} for r in self.server.job[start:start + 4]]}
        if start + 4 < len(self.server.job):
            body["next_cursor"] = urllib.parse.quote("c/%d=" % (start + 4), safe="")
        self.answer(body)

    def get_csv(self, _, query):
        rows = [r for r in self.server.events if query["from"] <= r["ts"] <= query["to"]][:self.server.cut]
        text = "\ufeffEvent Time,Event Value,N\r\n" + "".join('%s,"{""n"": ""%d"",\n""t"": 1}",%s\r\n' % (r["ts"], r["n"], r["n"] or "N/A") for r in rows)
        self.answer(text.encode(), Content_Type="text/csv")

    def get_lines(self, *_):
        self.answer(gzip.compress("\n".join(json.dumps(r) for r in self.server.records).encode()), Content_Type="application/gzip")

    def get_report(self, *_):
        body = json.loads(self.body)
        rows = [[str(r["id"]), r["name"], str(r["id"] * 1.5)] for r in self.server.records]
        offset, limit = int(body["offset"]), int(body["limit"])
        self.answer({"dimensionHeaders": [{"name": d["name"]} for d in body["dimensions"]], "metricHeaders": [{"name": "value"}],
                     "rows": [{"dimensionValues": [{"value": v} for v in row[:2]], "metricValues": [{"value": row[2]}]} for row in rows[offset:offset + limit]],
                     "rowCount": len(rows)})

    def get_all(self, *_):
        self.answer(self.server.records)


class Quiet(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """A client that is gone is no matter."""


class Server:
    """The server, with what it holds and what it was asked."""

    def __init__(self, tls=None):
        self.server = Quiet(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.url = "%s://127.0.0.1:%d" % ("https" if tls else "http", self.port)
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def reset(self):
        self.server.records = [{"id": i, "name": "n%d" % i, "changed": stamp(i // 4), "big": 2 ** 60 + i} for i in range(1, 102)]
        self.server.events = [{"ts": "2026-11-%02d %02d:00:00" % (d, h), "day": 20261100 + d, "n": d * 100 + h} for d in range(1, 4) for h in range(0, 24, 2)]
        self.server.log, self.server.hook = [], None
        self.server.most = 10 ** 9  # records of a page, whatever was asked for
        self.server.latency, self.server.max_page, self.server.busy, self.server.cut, self.server.jobs = 0, 1000, 0, 10 ** 9, 0

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class ConnectorTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.double = Server()
        cls.addClassCleanup(cls.double.close)
        cls.database = house.Database("own_connectors", cls.double)
        cls.addClassCleanup(cls.database.__exit__)
        cls.secrets = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.secrets.cleanup)
        os.chmod(cls.secrets.name, 0o755)
        with cls.database.connect() as admin:
            admin.execute("ALTER DATABASE \"%s\" SET visage.secrets_directory = '%s'" % (cls.database.name, cls.secrets.name))

    def setUp(self):
        self.double.reset()
        self.held = self.double.server
        self.database.execute(
            "SELECT visage_drop_stream(name, keep_data => false) FROM visage.declarations WHERE noun = 'stream'",
            "SELECT visage_drop_source(name) FROM visage.declarations WHERE noun = 'source'",
            "SELECT visage_drop_connector(name) FROM visage.declarations WHERE noun = 'connector' AND NOT builtin",
            "DELETE FROM visage.quarantine", "DELETE FROM visage.schema_changes")

    def secret(self, name, value):
        path = os.path.join(self.secrets.name, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(value)
        os.chmod(path, 0o644)
        return "file:" + name

    def declare(self, manifest, stream="things", secrets=None, options=None, **arguments):
        arguments = {"primary_key": ["id"], **arguments}
        with self.database.connect() as admin:
            admin.execute("SELECT visage_create_connector('own', %s)", [json.dumps({"version": 1, **manifest})])
        with self.database.connect("engineer") as engineer:
            engineer.execute("SELECT visage_create_source('own', 'own', %s, %s)", [json.dumps({"base_url": self.double.url, **(options or {})}), json.dumps(secrets or {})])
        self.stream(stream, **arguments)

    def stream(self, stream, **arguments):
        named = "".join(", %s => %%s" % name for name in arguments)
        values = [json.dumps(value) if isinstance(value, dict) else value for value in arguments.values()]
        with self.database.connect("engineer") as engineer:
            engineer.execute("SELECT visage_create_stream('own', '%s'%s)" % (stream, named), values)

    def ingest(self, stream="things", arguments=""):
        self.database.execute("CALL visage_ingest('own.%s'%s)" % (stream, arguments), role="engineer")

    def ids(self, stream="things"):
        return [row[0] for row in self.database.rows("SELECT id FROM staging.own__%s ORDER BY id" % stream)]

    def everything(self):
        """What arrived is what the server holds, each record once."""
        self.assertEqual(self.database.rows("SELECT id, name, changed, big FROM staging.own__things ORDER BY id"),
                         [(r["id"], r["name"], r["changed"], r["big"]) for r in sorted(self.held.records, key=lambda r: r["id"])])
        self.assertEqual(self.database.value("SELECT count(*) FROM landing.own__things"), len(self.held.records))

    def reads_all(self, manifest, requests=None):
        self.declare(manifest)
        self.ingest()
        self.everything()
        if requests:
            self.assertEqual(len(self.held.log), requests)

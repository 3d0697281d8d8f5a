"""What the tests in Python share: a database of their own on the running
server, and a double of an outside system that runs beside it.

	with house.Double() as double, house.Database("name", double) as database:
		with database.connect("engineer") as connection: …

PGHOST and PGPORT say where the server is, VISAGE_SOURCE where the sources are.
"""

import collections
import datetime
import decimal
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import psycopg

SOURCE = os.environ.get("VISAGE_SOURCE") or os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
EXAMPLE = os.path.join(SOURCE, "examples", "sf_business")


def wait_until(condition, what, seconds=30):
    """The first true value of the condition; the test fails when it stays false."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError("waited %d s in vain for: %s" % (seconds, what))
        time.sleep(0.01)


SHARED = os.environ.get("VISAGE_SHARED") or os.path.join(SOURCE, "..", "shared")


def recorded(system):
    """The directory with recorded answers of a system, or None: they may not
    be copied into the sources, or are too big for them."""
    path = os.path.join(SHARED, "data", "api", system)
    return path if os.path.isdir(path) else None


def no_recording(system):
    """What a skipped test says."""
    return "no recorded answers of %s: set VISAGE_SHARED to the directory that has data/api/%s" % (system, system)


class Double:
    """A double of an outside system, test/servers/<system>.py, as a process."""

    def __init__(self, *arguments, system="socrata"):
        self.directory = tempfile.TemporaryDirectory()
        port = os.path.join(self.directory.name, "port")
        if system == "socrata":
            arguments = ("--register", os.path.join(EXAMPLE, "register_2023-03-10.csv.gz"),
                         "--soda2017", os.path.join(EXAMPLE, "soda_2017-12-11.json"), *arguments)
        self.process = subprocess.Popen([
            sys.executable, "-B", os.path.join(SOURCE, "test", "servers", system + ".py"), "--port-file", port, *map(str, arguments)])
        wait_until(lambda: os.path.exists(port) or self.process.poll() is not None, "the double's port")
        with open(port, encoding="ascii") as file:
            self.port = int(file.read())
        self.url = "http://127.0.0.1:%d" % self.port

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.directory.cleanup()

    def control(self, **command):
        """Steer it, see the head of double.py."""
        urllib.request.urlopen(self.url + "/_control", json.dumps(command).encode()).close()

    def fault(self, kind, **more):
        self.control(fault={"kind": kind, **more})

    def state(self):
        with urllib.request.urlopen(self.url + "/_control") as answer:
            return json.load(answer)

    def requests(self):
        """What it was asked for since the last fault was set."""
        return self.state()["requests"]

    def count(self):
        """How many requests that was."""
        with urllib.request.urlopen(self.url + "/_count") as answer:
            return json.load(answer)["requests"]

    def data(self, stream):
        """All that the system holds of a stream now."""
        with urllib.request.urlopen(self.url + "/_data?" + urllib.parse.urlencode({"stream": stream})) as answer:
            return json.load(answer, parse_float=decimal.Decimal)

    def ask(self, path, body=None, headers=None, method=None):
        """(status, headers, bytes) of one request of a test's own; a body that
        is a dict or list goes out as JSON."""
        headers = dict(headers or {})
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        request = urllib.request.Request(self.url + path, body, headers, method=method)
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()


class Database:
    """A new database with the extension, adopted; with its double as the only
    host that may be called.  Roles are the cluster's: test_engineer,
    test_scorer, test_reader, each a member of Visage's role of that name."""

    def __init__(self, name, double=None):
        self.name = "test_" + name
        with psycopg.connect(dbname="postgres", user="postgres", autocommit=True) as admin:
            admin.execute('DROP DATABASE IF EXISTS "%s" WITH (FORCE)' % self.name)
            admin.execute('CREATE DATABASE "%s"' % self.name)
        with self.connect() as admin:
            admin.execute("SET client_min_messages = warning")
            admin.execute("CREATE EXTENSION visage")
            admin.execute("SELECT visage_create_roles(), visage_adopt()")
            if double:
                admin.execute("ALTER DATABASE \"%s\" SET visage.allowed_hosts = '127.0.0.1:%d'" % (self.name, double.port))
            admin.execute("ALTER DATABASE \"%s\" SET visage.retry_delay = '1ms'" % self.name)
            for role in ("engineer", "scorer", "reader"):
                if not admin.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", ["test_" + role]).fetchone():
                    admin.execute("CREATE ROLE test_%s LOGIN" % role)
                admin.execute("GRANT visage_%s TO test_%s" % (role, role))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with psycopg.connect(dbname="postgres", user="postgres", autocommit=True) as admin:
            admin.execute('DROP DATABASE "%s" WITH (FORCE)' % self.name)

    def connect(self, role=None, **options):
        user = "test_" + role if role else "postgres"
        return psycopg.connect(dbname=self.name, user=user, autocommit=True, **options)

    def value(self, query, *parameters, role=None):
        """The first row's only column, or the first row."""
        with self.connect(role) as connection:
            row = connection.execute(query, parameters or None).fetchone()
        return row[0] if row and len(row) == 1 else row

    def execute(self, *statements, role=None):
        with self.connect(role) as connection:
            for statement in statements:
                connection.execute(statement)

    def columns(self, table):
        """{column: type} of a table, without Visage's own."""
        return dict(self.rows("SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
                              " WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped"
                              " AND attname NOT IN ('_run_id', '_ingested_at', '_record_hash', '_window', '_deleted')", table))

    def contents(self, table):
        """How often each row is in a table: its values by column, canonical,
        nulls left out."""
        kinds = self.columns(table)
        with self.connect() as connection:
            rows = connection.execute("SELECT to_jsonb(t)::text FROM %s AS t" % table).fetchall()
        return collections.Counter(frozenset((name, canonical(value, kinds[name])) for name, value in json.loads(row, parse_float=decimal.Decimal).items()
                                             if name in kinds and value is not None) for row, in rows)

    def expected(self, table, records):
        """The same of records as they are on the wire, in the table's types."""
        kinds = self.columns(table)
        return collections.Counter(frozenset((column, canonical(value, kinds[column]))
                                             for column, value in ((snake_case(name), value) for name, value in record.items())
                                             if value is not None) for record in records)

    def rows(self, query, *parameters, role=None):
        with self.connect(role) as connection:
            return connection.execute(query, parameters or None).fetchall()


class Cluster:
    """The running server, to be stopped at once and started again."""

    def __init__(self):
        with psycopg.connect(dbname="postgres", user="postgres", autocommit=True) as admin:
            self.data, = admin.execute("SHOW data_directory").fetchone()
        with open(os.path.join(self.data, "postmaster.pid"), encoding="ascii") as file:
            self.pid = int(file.readline())
        self.log = self.data + ".log"
        self.binaries = os.path.dirname(os.readlink("/proc/%d/exe" % self.pid))
        with open("/proc/%d/environ" % self.pid, "rb") as file:
            self.environment = dict(item.split("=", 1) for item in file.read().decode().split("\0") if "=" in item)

    def pg_ctl(self, *arguments):
        """pg_ctl, as the user whose server it is."""
        owner = os.stat(self.data)
        change = ["setpriv", "--reuid=%d" % owner.st_uid, "--regid=%d" % owner.st_gid, "--clear-groups"] if os.geteuid() == 0 else []
        subprocess.run([*change, os.path.join(self.binaries, "pg_ctl"), "-s", "-w", "-D", self.data, *arguments], check=True, timeout=120,
                       cwd="/", env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def restart(self, mode="immediate"):
        self.pg_ctl("stop", "-m", mode)
        self.pg_ctl("start", "-l", self.log)

    def wait(self):
        """Until it takes connections."""
        def alive():
            try:
                psycopg.connect(dbname="postgres", user="postgres").close()
                return True
            except psycopg.OperationalError:
                return False
        wait_until(alive, "the server takes connections", 60)


def snake_case(name):
    """The column of a field: lower-case, camelCase split, else underscores."""
    return re.sub("[^a-z0-9]", "_", re.sub("([a-z0-9])([A-Z])", r"\1_\2", name).lower())


def canonical(value, kind):
    """A value as a text that does not depend on how it is written: of JSON,
    or of a column of a type."""
    if isinstance(value, (dict, list)):
        return json.dumps(value, sort_keys=True, default=lambda number: str(number.normalize()))
    if isinstance(value, bool):
        return "true" if value else "false"
    if kind in ("bigint", "numeric", "integer") or isinstance(value, (int, decimal.Decimal)):
        return str(decimal.Decimal(str(value)).normalize())
    if kind.startswith("timestamp"):
        moment = datetime.datetime.fromisoformat(str(value).replace("Z", "+00:00"))
        return str(moment.astimezone(datetime.timezone.utc).replace(tzinfo=None) if moment.tzinfo else moment)
    if kind == "date":
        return str(datetime.date.fromisoformat(str(value)[:10]))
    return str(value)


def difference(found, expected):
    """In short, how two multisets of rows differ."""
    extra, missing = found - expected, expected - found
    lines = ["%d rows are there that should not be, %d are missing" % (sum(extra.values()), sum(missing.values()))]
    for row in list(extra)[:3]:
        nearest = max(missing, key=lambda other: len(row & other), default=frozenset())
        lines.append("found %s instead of %s" % (sorted(row - nearest), sorted(nearest - row)))
    return "\n".join(lines)


class Background:
    """A statement that runs in a session of its own."""

    def __init__(self, database, statement, role="engineer"):
        self.connection = database.connect(role)
        self.pid = self.connection.info.backend_pid
        self.error = self.ended = None
        self.thread = threading.Thread(target=self.run, args=(statement,))
        self.thread.start()

    def run(self, statement):
        try:
            self.connection.execute(statement)
        except psycopg.Error as error:
            self.error = error
        self.ended = time.monotonic()

    def cancel(self):
        """Cancel, and tell how many seconds the session took to notice."""
        start = time.monotonic()
        self.connection.cancel()
        self.join()
        return self.ended - start

    def join(self, seconds=60):
        self.thread.join(seconds)
        assert not self.thread.is_alive(), "the statement does not end"
        self.connection.close()
        return self.error

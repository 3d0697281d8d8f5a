"""The measures of bench/ingest; it starts the servers.

	ingest.py SOURCE ROWS ROUNDS PYTHON

PYTHON has dlt (bench/lib/dlt.txt).
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import psycopg
import requests

from measures import Measures, interleave, median, must_equal, say, spread, timed

PAGE = 5000
DATA_SET = "g8m3-pdis"
DATABASE = "bench"

# What both sides make of a field that is no text; the rest is text.
TIMESTAMPS = {"dba_start_date", "dba_end_date", "location_start_date", "location_end_date"}
BOOLEANS = {"parking_tax", "transient_occupancy_tax"}
OBJECTS = {"location"}
SYSTEM = {":id": "_id", ":created_at": "_created_at", ":updated_at": "_updated_at", ":version": "_version"}


def wait_for(path, process):
    """The content of a file that a process is to write."""
    while not os.path.exists(path):
        if process.poll() is not None:
            sys.exit("bench: the double ended")
        time.sleep(0.05)
    with open(path, encoding="ascii") as file:
        return file.read().strip()


def start_double(source, rows, directory):
    """(process, URL) of the double with the register repeated to that many rows."""
    example = os.path.join(source, "examples", "sf_business")
    port = os.path.join(directory, "port")
    process = subprocess.Popen([
        "/usr/bin/python3", "-B", os.path.join(source, "test", "servers", "socrata.py"), "--port-file", port, "--rows", str(rows),
        "--loads", "2023-03-10", "--no-gzip", "--register", os.path.join(example, "register_2023-03-10.csv.gz")])
    return process, "http://127.0.0.1:" + wait_for(port, process)


def column_name(field):
    """The column that Visage makes of a field."""
    return field.lower().replace(":", "_").replace("@", "_").replace(".", "_")


def pages(session, url):
    """The data set, page by page, in the order of :updated_at and :id."""
    last = None
    while True:
        parameters = {"$select": ":*,*", "$limit": PAGE, "$order": ":updated_at,:id"}
        if last:
            parameters["$where"] = "(:updated_at > '{0}' OR (:updated_at = '{0}' AND :id > '{1}'))".format(last[":updated_at"], last[":id"])
        records = session.get("%s/resource/%s.json" % (url, DATA_SET), params=parameters, timeout=60).json()
        if records:
            yield records
        if len(records) < PAGE:
            return
        last = records[-1]


def serve_alone(url):
    """Read everything and do nothing with it: the double's own rate."""
    with requests.Session() as session:
        last = None
        while True:
            parameters = {"$select": ":*,*", "$limit": PAGE, "$order": ":updated_at,:id"}
            if last:
                parameters["$where"] = last
            body = session.get("%s/resource/%s.json" % (url, DATA_SET), params=parameters, timeout=60).content
            if len(body) < 4:
                return
            end = json.loads(body[body.rindex(b"\n,{") + 2:body.rindex(b"]")])
            last = "(:updated_at > '{0}' OR (:updated_at = '{0}' AND :id > '{1}'))".format(end[":updated_at"], end[":id"])


class Visage:
    """Ingests into staging.<stream>, and landing beside it, as CALL does."""

    def __init__(self, url):
        self.connection = psycopg.connect(dbname=DATABASE, autocommit=True)
        self.connection.execute("SELECT visage_create_source('sf', 'socrata', %s)", [json.dumps({"base_url": url, "page_size": PAGE})])

    def reset(self):
        self.connection.execute("SELECT visage_drop_stream('sf.businesses', keep_data => false) WHERE EXISTS (SELECT FROM visage.declarations WHERE name = 'sf.businesses')")
        self.connection.execute(
            "SELECT visage_create_stream('sf', 'businesses', %s, primary_key => '{uniqueid}', cursor_field => ':updated_at', columns => %s)",
            [DATA_SET, json.dumps({name: "timestamp" for name in TIMESTAMPS})])

    def run(self):
        self.connection.execute("CALL visage_ingest('sf.businesses')")


class Python:
    """The program that one writes: requests, then COPY of each page into a
    typed table with a primary key, one transaction a page."""

    def __init__(self, url):
        self.url = url
        self.connection = psycopg.connect(dbname=DATABASE)

    def reset(self):
        """A table with the columns of Visage's, which has been filled once."""
        self.connection.execute("DROP TABLE IF EXISTS public.businesses")
        self.connection.execute("CREATE TABLE public.businesses (LIKE staging.sf__businesses)")
        for column in ("_run_id", "_ingested_at", "_record_hash"):
            self.connection.execute("ALTER TABLE public.businesses DROP COLUMN %s" % column)
        self.connection.execute("ALTER TABLE public.businesses ADD PRIMARY KEY (uniqueid)")
        self.columns = [row[0] for row in self.connection.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = 'public.businesses'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum")]
        self.connection.commit()

    def run(self):
        quoted = ", ".join('"%s"' % column for column in self.columns)
        with requests.Session() as session:
            for records in pages(session, self.url):
                fields = {column_name(field): field for record in records for field in record}
                order = [fields.get(column) for column in self.columns]
                with self.connection.cursor() as cursor:
                    with cursor.copy("COPY public.businesses (%s) FROM STDIN" % quoted) as copy:
                        for record in records:
                            row = []
                            for field in order:
                                value = record.get(field)
                                row.append(json.dumps(value) if isinstance(value, (dict, list)) else value)
                            copy.write_row(row)
                self.connection.commit()


def contents(connection, table, columns):
    """Count and checksum of a table, whatever the order of its rows."""
    row = ", ".join('"%s"::text' % column for column in columns)
    return connection.execute("SELECT count(*), sum(hashtextextended(ROW(%s)::text, 0)) FROM %s" % (row, table)).fetchone()


class Copy:
    """COPY FROM of Visage's typed rows as CSV, into a table made alike."""

    def __init__(self, directory):
        self.connection = psycopg.connect(dbname=DATABASE, autocommit=True)
        self.path = os.path.join(directory, "rows.csv")

    def prepare(self):
        self.connection.execute("COPY staging.sf__businesses TO '%s' (FORMAT csv)" % self.path)

    def reset(self):
        self.connection.execute("DROP TABLE IF EXISTS public.copied")
        self.connection.execute("CREATE TABLE public.copied (LIKE staging.sf__businesses INCLUDING ALL)")

    def run(self):
        self.connection.execute("COPY public.copied FROM '%s' (FORMAT csv)" % self.path)


class Dlt:
    """dlt, as ingest_dlt.py says; its own clock, so that its start is not counted."""

    def __init__(self, python, source, url, directory):
        self.command = [python, os.path.join(source, "bench", "lib", "ingest_dlt.py"), url, str(PAGE), os.environ["PGHOST"], os.environ["PGPORT"]]
        self.directory = os.path.join(directory, "dlt")
        self.connection = psycopg.connect(dbname=DATABASE, autocommit=True)

    def reset(self):
        shutil.rmtree(self.directory, ignore_errors=True)
        self.connection.execute("DROP SCHEMA IF EXISTS dlt CASCADE")

    def timed(self):
        output = subprocess.run([*self.command, self.directory], check=True, capture_output=True, text=True).stdout
        return float(re.search(r"seconds (\S+)", output).group(1))


class Memory:
    """The peak of a process's own memory (RssAnon: what is not shared with the
    server's buffers) above what it was at the start, in MiB."""

    def __init__(self, pid):
        self.path = "/proc/%d/status" % pid
        self.start = self.peak = self.now()
        self.ended = False
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()

    def now(self):
        with open(self.path, encoding="ascii") as file:
            return int(re.search(r"RssAnon:\s+(\d+) kB", file.read()).group(1)) / 1024

    def watch(self):
        while not self.ended:
            self.peak = max(self.peak, self.now())
            time.sleep(0.01)

    def end(self):
        self.ended = True
        self.thread.join()
        return self.peak - self.start


def peak_memory(statement, reset):
    """MiB above its start that a fresh session needs for the statement."""
    reset()
    with psycopg.connect(dbname=DATABASE, autocommit=True) as session:
        session.execute("LOAD 'visage_net'")
        memory = Memory(session.info.backend_pid)
        session.execute(statement)
        return memory.end()


def register(measures, source, url, rows, rounds, python_with_dlt, directory):
    """The register to a typed table, by Visage and by the others."""
    visage, python, copy, dlt = Visage(url), Python(url), Copy(directory), Dlt(python_with_dlt, source, url, directory)
    visage.reset()
    visage.run()
    copy.prepare()
    sides = {"visage": visage, "requests + psycopg COPY": python, "COPY FROM": copy, "dlt": dlt}

    def measure(side):
        side.reset()
        return side.timed() if side is dlt else timed(side.run)

    serve_alone(url)
    dlt.reset()
    dlt.timed()
    times = interleave(sides, rounds, measure)
    same = python.columns
    must_equal("%d records, visage and requests" % rows, contents(visage.connection, "staging.sf__businesses", same), contents(visage.connection, "public.businesses", same))
    must_equal("%d records, visage and COPY" % rows, contents(visage.connection, "staging.sf__businesses", same), contents(visage.connection, "public.copied", same))
    text = [column for column in same if column in ("uniqueid", "dba_name", "full_business_address", "city", "location_start_date", "location_end_date", "parking_tax", "naic_code")]
    must_equal("%d records, visage and dlt" % rows, contents(visage.connection, "staging.sf__businesses", text), contents(visage.connection, "dlt.businesses", text))
    alone = [timed(lambda: serve_alone(url)) for _ in range(3)]
    say("   the double alone: %s, %d records/s" % (spread(alone), rows / median(alone)))
    for name, values in times.items():
        say("   %s: %s, %d records/s" % (name, spread(values), rows / median(values)))
    ours = median(times["visage"])
    measures.at_least("%d Socrata records (36 fields) double → typed staging, against dlt" % rows, median(times["dlt"]) / ours, 5)
    measures.at_least("the same, against a hand-written Python requests + psycopg COPY into the same typed table", median(times["requests + psycopg COPY"]) / ours, 2)
    measures.at_most("the same, time against COPY FROM of the typed rows as CSV", ours / median(times["COPY FROM"]), 4)
    measures.at_least("the double's own serving rate, over the faster side's", min(ours, median(times["requests + psycopg COPY"])) / median(alone), 3)
    measures.at_most("peak memory of the ingesting process while doing it, above its start (MiB)", peak_memory("CALL visage_ingest('sf.businesses')", visage.reset), 64)


def own_connector(connection, name, manifest, url):
    connection.execute("SELECT visage_create_connector(%s, %s)", [name, json.dumps({"version": 1, **manifest})])
    connection.execute("SELECT visage_create_source(%s, %s, %s)", [name, name, json.dumps({"base_url": url})])


def large_document(measures, url):
    """One JSON document of 100 MB."""
    with psycopg.connect(dbname=DATABASE, autocommit=True) as connection:
        own_connector(connection, "document", {"path": "/document.json", "paginator": {"type": "single_page"}}, url)

        def reset():
            connection.execute("SELECT visage_create_stream('document', 'all', primary_key => '{id}')")
        measures.at_most("a 100 MB single JSON document of records, the same (MiB)", peak_memory("CALL visage_ingest('document.all')", reset), 64)
        say("   the document: %d records" % connection.execute("SELECT count(*) FROM staging.document__all").fetchone())


def small_requests(measures, url, rounds):
    """1,000 pages of ten records, each after 20 ms."""
    with psycopg.connect(dbname=DATABASE, autocommit=True) as connection:
        own_connector(connection, "small", {"path": "/small/{resource}", "page_size": 10, "streams": {"pages": {
            "path": "/small/1", "primary_key": ["id"], "paginator": {"type": "page_number", "params": {"page": "{page}"}}}}}, url)

        def run(prefetch):
            connection.execute("SELECT visage_drop_stream('small.pages', keep_data => false) WHERE EXISTS (SELECT FROM visage.declarations WHERE name = 'small.pages')")
            connection.execute("SELECT visage_create_stream('small', 'pages')")
            connection.execute("SET visage.prefetch = %d" % prefetch)
            seconds = timed(lambda: connection.execute("CALL visage_ingest('small.pages')"))
            must_equal("1,000 pages", connection.execute("SELECT count(*), sum(v) FROM staging.small__pages").fetchone(), (10000, 45000))
            return seconds
        times = interleave({"in parallel": 16, "one at a time": 1}, rounds, run)
        for name, values in times.items():
            say("   %s: %s" % (name, spread(values)))
        measures.at_least("1,000 small requests on one stream, double with 20 ms latency, parallel pages, against one at a time",
                          median(times["one at a time"]) / median(times["in parallel"]), 5)


def main():
    source, rows, rounds, python_with_dlt = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    measures = Measures()
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o777)
        process, origin = start_double(source, rows, directory)
        replay = subprocess.Popen(["/usr/bin/python3", "-B", os.path.join(source, "bench", "lib", "replay.py"), directory, origin])
        try:
            url = "http://127.0.0.1:" + wait_for(os.path.join(directory, "replay-port"), replay)
            register(measures, source, url, rows, rounds, python_with_dlt, directory)
            large_document(measures, url)
            small_requests(measures, url, min(rounds, 3))
        finally:
            for one in (process, replay):
                one.kill()
                one.wait()
    measures.close()


if __name__ == "__main__":
    main()

"""The measures of bench/ingest; it starts the servers.

	ingest.py SOURCE ROWS ROUNDS
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request

import psycopg
import requests

from measures import Measures, interleave, median, must_equal, say, spread, timed

PAGE = 1000
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
        "--loads", "2023-03-10", "--register", os.path.join(example, "register_2023-03-10.csv.gz")])
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


def small_slice(measures, url, rows, rounds):
    """The same records to a typed table, by Visage and by a program."""
    visage, python = Visage(url), Python(url)
    visage.reset()
    visage.run()
    sides = {"visage": visage, "requests + psycopg COPY": python}

    def measure(side):
        side.reset()
        return timed(side.run)

    python.reset()
    times = interleave(sides, rounds, measure)
    must_equal("%d records" % rows, contents(visage.connection, "staging.sf__businesses", python.columns),
               contents(visage.connection, "public.businesses", python.columns))
    alone = [timed(lambda: serve_alone(url)) for _ in range(3)]
    say("   the double alone: %s, %d records/s" % (spread(alone), rows / median(alone)))
    for name, values in times.items():
        say("   %s: %s, %d records/s" % (name, spread(values), rows / median(values)))
    measures.state("%d register records to staging, rows/s over those of requests + psycopg COPY" % rows,
                   median(times["requests + psycopg COPY"]) / median(times["visage"]))


def main():
    source, rows, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    measures = Measures()
    with tempfile.TemporaryDirectory() as directory:
        process, url = start_double(source, rows, directory)
        try:
            small_slice(measures, url, rows, rounds)
        finally:
            process.kill()
            process.wait()
    measures.close()


if __name__ == "__main__":
    main()

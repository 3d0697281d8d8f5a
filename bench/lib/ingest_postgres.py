"""The measure of bench/ingest that has another PostgreSQL as its source.

	ingest_postgres.py ROWS ROUNDS BIN HOST PORT

The server of PGHOST and PGPORT has Visage, the one at HOST (a directory of
sockets) and PORT, which also listens on 127.0.0.1, is the source.
"""

import json
import subprocess
import sys

import psycopg

from ingest import Memory
from measures import Measures, interleave, median, must_equal, say, spread, timed

DATABASE = "bench"
COLUMNS = "id, customer_id, status, amount, quantity, placed_at, updated_at, note"
TABLE = """(id bigint PRIMARY KEY, customer_id integer, status text, amount numeric(12,2), quantity smallint,
	placed_at timestamp with time zone, updated_at timestamp with time zone, note text)"""


def fill(source, rows):
    """Orders, as a shop has them."""
    source.execute("CREATE TABLE orders " + TABLE)
    source.execute("""INSERT INTO orders
        SELECT i, hashint8(i) & 1048575, (ARRAY['new', 'paid', 'sent', 'returned'])[1 + (hashint8(i) & 3)], (hashint8(i * 7) & 9999999) / 100.0, hashint8(i) & 15,
            timestamptz '2020-01-01 00:00+00' + i * interval '13.7 seconds', timestamptz '2024-01-01 00:00+00' + i * interval '1 second',
            CASE WHEN hashint8(i) & 3 = 0 THEN 'left at ' || md5(i::text) END
        FROM generate_series(1, %d::bigint) AS i""" % rows)
    source.execute("VACUUM (ANALYZE, FREEZE) orders")


class Visage:
    """CALL visage_ingest into an empty staging table with a primary key."""

    def __init__(self, target, port):
        self.target = target
        target.execute("SELECT visage_create_source('shop', 'postgres', %s)",
                       [json.dumps({"host": "127.0.0.1", "port": int(port), "dbname": DATABASE, "user": "postgres", "sslmode": "disable"})])

    def reset(self):
        self.target.execute("SELECT visage_drop_stream('shop.orders', keep_data => false) WHERE EXISTS (SELECT FROM visage.declarations WHERE name = 'shop.orders')")
        self.target.execute("SELECT visage_create_stream('shop', 'orders', primary_key => '{id}', cursor_field => 'xmin')")

    def run(self):
        self.target.execute("CALL visage_ingest('shop.orders')")


class Dump:
    """pg_dump --data-only | psql, into an empty table with a primary key."""

    def __init__(self, target, binaries, host, port):
        self.target = target
        self.command = ("set -o pipefail; %s/pg_dump -h %s -p %s -U postgres -d %s --data-only -t public.orders | %s/psql -X -q -v ON_ERROR_STOP=1 -d %s -o /dev/null"
                        % (binaries, host, port, DATABASE, binaries, DATABASE))

    def reset(self):
        self.target.execute("DROP TABLE IF EXISTS public.orders")
        self.target.execute("CREATE TABLE public.orders " + TABLE)

    def run(self):
        subprocess.run(["bash", "-c", self.command], check=True)


def contents(connection, table):
    """Count and checksum of a table, whatever the order of its rows."""
    return connection.execute("SELECT count(*), sum(hashtextextended(ROW(%s)::text, 0)) FROM %s" % (COLUMNS, table)).fetchone()


def main():
    rows, rounds, binaries, host, port = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:6]
    measures = Measures()
    with psycopg.connect(dbname=DATABASE, autocommit=True) as target, \
            psycopg.connect(host=host, port=port, user="postgres", dbname=DATABASE, autocommit=True) as source:
        fill(source, rows)
        visage, dump = Visage(target, port), Dump(target, binaries, host, port)

        def measure(side):
            side.reset()
            target.execute("CHECKPOINT")
            return timed(side.run)

        times = interleave({"visage": visage, "pg_dump --data-only | psql": dump}, rounds, measure)
        must_equal("%d rows, visage and the source" % rows, contents(target, "staging.shop__orders"), contents(source, "orders"))
        must_equal("%d rows, pg_dump and the source" % rows, contents(target, "public.orders"), contents(source, "orders"))
        for name, values in times.items():
            say("   %s: %s, %d rows/s" % (name, spread(values), rows / median(values)))
        size = "%d M" % (rows / 1000000)
        measures.at_most("%s rows from another PostgreSQL, against pg_dump --data-only | psql" % size,
                         median(times["visage"]) / median(times["pg_dump --data-only | psql"]), 1.5)
        say("   the next crawl, nothing changed, a scan of the source: %.3g s" % timed(visage.run))
        visage.reset()
        with psycopg.connect(dbname=DATABASE, autocommit=True) as session:
            session.execute("LOAD 'visage_net'")
            memory = Memory(session.info.backend_pid)
            session.execute("CALL visage_ingest('shop.orders')")
            measures.state("peak memory of the ingesting process while reading another PostgreSQL, above its start (MiB)", memory.end())
    measures.close()


if __name__ == "__main__":
    main()

"""The measures of bench/history: SCALE DIRECTORY PART [PYTHON-WITH-DBT]."""

import json
import os
import subprocess
import sys

import psycopg

from measures import Measures, interleave, median, must_equal, say, spread, timed

SCALE = int(sys.argv[1])
DIRECTORY = sys.argv[2]
PART = sys.argv[3]
DBT = sys.argv[4] if len(sys.argv) > 4 else None
ROUNDS = 3
CLOSE = 9  # rounds of sides that do nearly the same, with bars close to 1
OFTEN = CLOSE * (3 if SCALE > 1 else 1)  # of those that are short where the table is small
DELTA = 10_000 // SCALE
COLUMNS = ["a%d" % i for i in range(1, 12)]
LIST = ", ".join(COLUMNS)

connection = psycopg.connect(dbname="bench", user="postgres", autocommit=True)
connection.execute("SET client_min_messages = warning; SET TimeZone = 'UTC'")
run = connection.execute

# keys of text; eleven tracked columns of the usual types
ROWS = """SELECT 'key' || i AS id, timestamptz '2024-01-01' AS at, i AS a1, i %% 100 AS a2, i * 7::bigint AS a3, md5(i::text) AS a4, 'text ' || i %% 1000 AS a5,
	i::numeric / 100 AS a6, date '2020-01-01' + i %% 1000 AS a7, i %% 2 = 0 AS a8, i::float8 / 3 AS a9, 'x' || i %% 10 AS a10, 'city ' || i %% 50 AS a11
	FROM generate_series(1, %d) AS i"""


def one(query):
    return run(query).fetchone()


def label(size):
    return "%d M" % (size // 1_000_000) if size >= 1_000_000 else "%d k" % (size // 1000)


def clean():
    """Removes what was rolled back, which else the next side would meet."""
    run("SELECT pg_stat_force_next_flush()")
    for table, in run("SELECT schemaname || '.' || relname FROM pg_stat_user_tables WHERE n_dead_tup > 0").fetchall():
        run("VACUUM (INDEX_CLEANUP ON) " + table)


def rolled_back(statements, check=None):
    """A side: its statements in a transaction that is undone."""
    def side():
        for statement in statements:
            run(statement)

    def measured():
        run("BEGIN")
        seconds = timed(side)
        if check:
            check()
        run("ROLLBACK")
        clean()
        run("CHECKPOINT")
        return seconds
    return measured


def in_turn(sides, rounds=ROUNDS):
    clean()
    times = interleave(sides, rounds, measure=lambda side: side())
    for name, values in times.items():
        say("   %s: %s" % (name, spread(values)))
    return {name: median(values) for name, values in times.items()}


def make_sources(size):
    """An extract and the next: 1 % changed, 0.1 % new, 0.1 % gone."""
    run("DROP TABLE IF EXISTS extract, next_extract")
    run("CREATE TABLE extract AS " + ROWS % size)
    run("""CREATE TABLE next_extract AS SELECT id, CASE WHEN a1 % 100 = 0 THEN timestamptz '2024-01-03' ELSE at END AS at, a1, a2, a3, a4,
		CASE WHEN a1 % 100 = 0 THEN 'changed' ELSE a5 END AS a5, a6, a7, a8, a9, a10, a11 FROM extract WHERE a1 % 1000 <> 1
		UNION ALL SELECT 'new' || id, '2024-01-03', """ + LIST + " FROM extract WHERE a1 % 1000 = 1")
    run("VACUUM ANALYZE extract")
    run("VACUUM ANALYZE next_extract")


def make_history(name="h"):
    run("SELECT visage_create_history('history.%s', 'extract', '{id}', '{at}', hard_deletes => 'invalidate')" % name)
    run("SELECT visage_merge('history.%s', 'extract', true, '2024-01-02')" % name)
    run("VACUUM ANALYZE history." + name)


def row(alias):
    return "ROW(%s)" % ", ".join("%s.%s" % (alias, c) for c in COLUMNS)


MERGE = "SELECT visage_merge('history.h', 'next_extract', true, '2024-01-04')"
JOIN = "SELECT count(*) FROM next_extract AS s FULL JOIN history.h AS h ON h.id = s.id AND h.valid_to = 'infinity' WHERE %s IS DISTINCT FROM %s" % (row("s"), row("h"))

# The fastest of the shapes tried: one full join that keeps what differs, then
# the closings by their place, then the insertions.  Comparing column by column
# with IS DISTINCT FROM took as long as comparing rows.  It has the same unique
# indexes, but less to do: it locks nothing, copies nothing to a __superseded
# table, hashes no row, and assumes that no record is late, is told twice or
# has no key.
BY_HAND = [
    """CREATE TEMPORARY TABLE delta ON COMMIT DROP AS SELECT s.*, h.ctid AS place FROM next_extract AS s
	FULL JOIN (SELECT *, ctid FROM by_hand WHERE valid_to = 'infinity') AS h ON h.id = s.id WHERE %s IS DISTINCT FROM %s""" % (row("s"), row("h")),
    "UPDATE by_hand AS h SET valid_to = coalesce(d.at, '2024-01-04'), recorded_at = now() FROM delta AS d WHERE h.ctid = d.place",
    "INSERT INTO by_hand (id, at, %s, valid_from, valid_to, is_deleted, recorded_at, row_hash) SELECT id, at, %s, at, 'infinity', false, now(), 0 FROM delta WHERE id IS NOT NULL" % (LIST, LIST),
]


def keep_result(table):
    """The table as a side left it, kept past the rollback as a hash."""
    return one("SELECT count(*), sum(hashtextextended((id, at, %s, valid_from, valid_to)::text, 0)) FROM %s" % (LIST, table))


def run_dbt(size):
    """dbt snapshot, strategy check, hard_deletes invalidate; the seconds that
    dbt itself says the second snapshot took, start-up left out."""
    project = os.path.join(DIRECTORY, "dbt")
    os.makedirs(os.path.join(project, "snapshots"), exist_ok=True)
    files = {
        "dbt_project.yml": "name: bench\nversion: '1.0.0'\nprofile: bench\nflags:\n  send_anonymous_usage_stats: false\n",
        "profiles.yml": "bench:\n  target: bench\n  outputs:\n    bench: {type: postgres, host: '%s', port: %s, user: postgres, password: '', dbname: bench, schema: dbt, threads: 1}\n" % (os.environ["PGHOST"], os.environ["PGPORT"]),
        "snapshots/snap.sql": "{%% snapshot snap %%}{{ config(target_schema='dbt', unique_key='id', strategy='check', check_cols=%s, hard_deletes='invalidate') }}\nSELECT id, %s FROM public.dbt_source\n{%% endsnapshot %%}\n" % (COLUMNS, LIST),
    }
    for name, text in files.items():
        with open(os.path.join(project, name), "w", encoding="utf-8") as file:
            file.write(text)

    def snapshot():
        command = [DBT.replace("/python", "/dbt"), "snapshot", "--project-dir", project, "--profiles-dir", project, "--quiet"]
        subprocess.run(command, check=True, env=dict(os.environ, HOME=DIRECTORY), cwd=project, stdout=subprocess.DEVNULL)
        with open(os.path.join(project, "target", "run_results.json"), encoding="utf-8") as file:
            return json.load(file)["results"][0]["execution_time"]

    run("DROP SCHEMA IF EXISTS dbt CASCADE; CREATE SCHEMA dbt; CREATE OR REPLACE VIEW dbt_source AS SELECT * FROM extract")
    snapshot()
    run("CREATE UNIQUE INDEX ON dbt.snap (id, dbt_valid_from); CREATE UNIQUE INDEX ON dbt.snap (id) WHERE dbt_valid_to IS NULL")
    run("VACUUM ANALYZE dbt.snap")
    run("CREATE OR REPLACE VIEW dbt_source AS SELECT * FROM next_extract")
    seconds = snapshot()
    say("   dbt snapshot: %.4g s" % seconds)
    return seconds


def full_extract(measures, size):
    say("Full extract, %s rows" % label(size))
    make_sources(size)
    make_history()
    run("DROP TABLE IF EXISTS by_hand; CREATE TABLE by_hand AS SELECT * FROM history.h")
    run("CREATE UNIQUE INDEX ON by_hand (id, valid_from); CREATE UNIQUE INDEX ON by_hand (id) WHERE valid_to = 'infinity'")
    run("VACUUM ANALYZE by_hand")
    kept = {}
    times = in_turn({
        "visage": rolled_back([MERGE], lambda: kept.update(visage=keep_result("history.h"))),
        "join": rolled_back([JOIN]),
        "by hand": rolled_back(BY_HAND, lambda: kept.update(by_hand=keep_result("by_hand"))),
    })
    must_equal("the table by hand", kept["visage"], kept["by_hand"])
    little = in_turn({
        "visage, 256 MB": rolled_back([MERGE]),
        "visage, 64 kB": rolled_back(["SET LOCAL work_mem = '64kB'", MERGE]),
    }, CLOSE)
    shuffled(measures, size, kept)
    if DBT:
        seconds = run_dbt(size)
        run("BEGIN")
        run(MERGE)
        for end, dbt_end in (("valid_to = 'infinity'", "dbt_valid_to IS NULL"), ("valid_to < 'infinity'", "dbt_valid_to IS NOT NULL")):
            must_equal("the table of dbt, where " + end,
                       one("SELECT count(*), sum(hashtextextended((id, %s)::text, 0)) FROM history.h WHERE %s" % (LIST, end)),
                       one("SELECT count(*), sum(hashtextextended((id, %s)::text, 0)) FROM dbt.snap WHERE %s" % (LIST, dbt_end)))
        run("ROLLBACK")
        run("DROP SCHEMA dbt CASCADE; DROP VIEW dbt_source")
        measures.at_least("full extract %s rows, 1 %% changed, 0.1 %% new, 0.1 %% gone, against dbt-postgres `snapshot` (check, invalidate) really run" % label(size), seconds / times["visage"], 5)
    measures.at_least("full extract %s rows, against the best hand-written SQL" % label(size), times["by hand"] / times["visage"], 1.5)
    measures.at_most("full extract %s rows, time against one join of the two tables on the key that also compares the 11 columns and writes nothing" % label(size), times["visage"] / times["join"], 1.3)
    measures.at_most("full extract %s rows, at `work_mem = 64kB` against 256 MB" % label(size), little["visage, 64 kB"] / little["visage, 256 MB"], 1.1)
    run("SELECT visage_drop_history('history.h', keep_data => false)")
    run("DROP TABLE by_hand")


def shuffled(measures, size, kept):
    """The same extract in an order that has nothing to do with the target's."""
    if size > 1_000_000:
        return
    run("CREATE TABLE shuffled AS SELECT * FROM next_extract ORDER BY md5(id)")
    run("VACUUM ANALYZE shuffled")
    times = in_turn({
        "visage, shuffled": rolled_back([MERGE.replace("next_extract", "shuffled")], lambda: must_equal("the table of shuffled rows", keep_result("history.h"), kept["visage"])),
        "by hand, shuffled": rolled_back([BY_HAND[0].replace("next_extract", "shuffled"), *BY_HAND[1:]]),
    })
    measures.state("full extract %s rows in random order, against the best hand-written SQL" % label(size), times["by hand, shuffled"] / times["visage, shuffled"])
    run("DROP TABLE shuffled")


BY_KEY = [
    "ALTER TABLE history.h DISABLE TRIGGER USER",
    "UPDATE history.h AS h SET valid_to = d.at, recorded_at = now() FROM delta AS d WHERE h.id = d.id AND h.valid_to = 'infinity'",
    "INSERT INTO history.h (id, at, %s, valid_from, valid_to, is_deleted, recorded_at, row_hash) SELECT id, at, %s, at, 'infinity', false, now(), 0 FROM delta" % (LIST, LIST),
]


def delta(measures, size, others):
    """A delta into so many versions; also late records, and __as_of."""
    say("Delta of %d records into %s versions" % (DELTA, label(size)))
    run("DROP TABLE IF EXISTS extract, next_extract, delta, late")
    run("CREATE TABLE extract AS " + ROWS % size)
    make_history()
    run("CREATE TABLE delta AS SELECT id, timestamptz '2024-02-01' AS at, %s FROM (SELECT * FROM extract WHERE a1 %% %d = 5) AS e" % (LIST.replace("a5", "'changed' AS a5"), size // DELTA))
    run("CREATE TABLE late AS SELECT id, timestamptz '2024-01-01 12:00' AS at, %s FROM delta" % LIST)
    run("DROP TABLE extract")
    for table in ("delta", "late"):
        run("VACUUM ANALYZE " + table)
    run("CHECKPOINT")
    kept = {}
    sides = {
        "visage": rolled_back(["SELECT visage_merge('history.h', 'delta')"], lambda: kept.update(visage=keep_result("history.h"))),
        "by key": rolled_back(BY_KEY, lambda: kept.update(by_key=keep_result("history.h"))),
    }
    if others:
        sides["late"] = rolled_back(["SELECT visage_merge('history.h', 'late')"], lambda: must_equal("late records split", one("SELECT count(*) FROM history.h")[0], size + 2 * DELTA))
    times = in_turn(sides)
    must_equal("the table by key", kept["visage"], kept["by_key"])
    if others:
        measures.at_most("delta of 10,000 records into 10 M versions, against plain UPDATE + INSERT by key of the same rows", times["visage"] / times["by key"], 2)
        measures.at_most("10,000 late records that split versions, against 10,000 in order", times["late"] / times["visage"], 3)
        wal(measures)
        as_of(measures, size)
    run("SELECT visage_drop_history('history.h', keep_data => false)")
    return times["visage"]


def wal(measures):
    """What closing a version and opening the next writes."""
    run("BEGIN")
    run("SELECT visage_merge('history.h', 'delta')")
    run("ROLLBACK")
    # the pages are in the log already, whole
    before = one("SELECT pg_current_wal_insert_lsn()")[0]
    run("BEGIN")
    run("SELECT visage_merge('history.h', 'delta')")
    bytes_written = one("SELECT pg_current_wal_insert_lsn() - '%s'::pg_lsn" % before)[0]
    run("ROLLBACK")
    measures.state("WAL bytes per closed version (its closing, its successor, the copy of what it was)", float(bytes_written) / DELTA)


def as_of(measures, size):
    keys = [k for k, in run("SELECT id FROM delta LIMIT 2000").fetchall()]
    one_key = {
        "as_of": "SELECT a1 FROM history.h__as_of(%s::timestamptz) WHERE id = %s",
        "range": "SELECT a1 FROM history.h WHERE valid_from <= %s::timestamptz AND %s::timestamptz < valid_to AND id = %s AND NOT is_deleted",
    }

    def look_up(name):
        at = "2024-01-15"
        for key in keys:
            run(one_key[name], (at, key) if name == "as_of" else (at, at, key), prepare=True).fetchone()

    times = in_turn({name: lambda name=name: timed(lambda: look_up(name)) for name in one_key}, OFTEN)
    measures.at_most("`__as_of` one key, against a hand-written range predicate", times["as_of"] / times["range"], 1.1)
    whole = {
        "as_of, whole": "SELECT count(*), sum(a1) FROM history.h__as_of('2024-01-15')",
        "range, whole": "SELECT count(*), sum(a1) FROM history.h WHERE valid_from <= '2024-01-15' AND '2024-01-15' < valid_to AND NOT is_deleted",
    }
    valid = "valid_from <= '2024-01-15' AND '2024-01-15' < valid_to AND NOT is_deleted AND recorded_at <= now()"
    known = {
        "as_of, known": "SELECT count(*), sum(a1) FROM history.h__as_of('2024-01-15', now())",
        "range, known": "SELECT count(*), sum(a1) FROM (SELECT a1 FROM history.h WHERE %s UNION ALL SELECT a1 FROM history.h__superseded WHERE %s AND now() < superseded_at) AS v" % (valid, valid),
    }
    for what, queries in (("whole", whole), ("known", known)):
        must_equal("the whole table as of then, " + what, *(one(query) for query in queries.values()))
        times = in_turn({name: lambda query=query: timed(lambda: one(query)) for name, query in queries.items()}, OFTEN)
        measures.at_most("`__as_of` whole table%s, against a hand-written range predicate" % (", with known_at" if what == "known" else ""),
                         times["as_of, " + what] / times["range, " + what], 1.1)


def main():
    measures = Measures()
    for part, size in (("full-1m", 1_000_000), ("full-5m", 5_000_000)):
        if PART in (part, "all"):
            full_extract(measures, size // SCALE)
    if PART in ("delta", "all"):
        small = delta(measures, 1_000_000 // SCALE, False)
        large = delta(measures, 10_000_000 // SCALE, True)
        measures.at_most("the same into 10 M, against into 1 M", large / small, 2)
    measures.close()


main()

"""The measures of bench/score; it starts the server.

    score.py ROWS SECONDS ROUNDS DIRECTORY [PART...]
"""

import ctypes
import io
import math
import operator
import os
import re
import subprocess
import sys

import connectorx
import lightgbm
import numpy
import psycopg

from measures import Measures, by_round, has_instructions, interleave, median, must_equal, say, spread, timed

FEATURES = 30
COLUMNS = ["f%d" % i for i in range(1, FEATURES + 1)]


def arguments(prefix="t."):
    return ", ".join(prefix + column for column in COLUMNS)


def train(directory):
    """LightGBM, 100 trees of 31 leaves over 30 features; its text."""
    random = numpy.random.default_rng(1)
    rows = random.uniform(-1, 1, (50000, FEATURES))
    logit = (3 * rows[:, 0] * rows[:, 1] + numpy.sin(4 * rows[:, 2]) + rows[:, 3:10].sum(1) / 2
             + rows[:, 10] * (rows[:, 11] > 0))
    label = random.uniform(size=len(rows)) < 1 / (1 + numpy.exp(-logit))
    data = lightgbm.Dataset(rows, label.astype(int), feature_name=COLUMNS)
    booster = lightgbm.train({"objective": "binary", "num_leaves": 31, "verbose": -1, "num_threads": 1}, data, 100)
    path = os.path.join(directory, "model.txt")
    booster.save_model(path)
    with open(path, encoding="utf-8") as file:
        return booster, file.read()


def enlarge(text, times):
    """The same trees over and over."""
    head, _, rest = text.partition("Tree=0\n")
    trees, _, tail = ("Tree=0\n" + rest).partition("end of trees")
    bodies = [body.split("\n", 1)[1] for body in trees.split("Tree=")[1:]] * times
    head = re.sub(r"^tree_sizes=.*\n", "", head, flags=re.M)
    return head + "".join("Tree=%d\n%s" % (i, body) for i, body in enumerate(bodies)) + "end of trees" + tail


def prepare(connection, rows, text):
    """A table of features, two models over them, and the function that does
    nothing."""
    columns = ", ".join("(random() * 2 - 1)::float8 AS %s" % column for column in COLUMNS)
    connection.execute("SELECT setseed(0.5)")
    connection.execute("CREATE TABLE customers AS SELECT i::int AS id, %s, random() < 0.3 AS label FROM generate_series(1, %d) AS i" % (columns, rows))
    connection.execute("ALTER TABLE customers ADD PRIMARY KEY (id)")
    connection.execute("CREATE TABLE wide AS SELECT id, %s, (SELECT string_agg(md5(id::text || n), '') FROM generate_series(1, 250) AS n) AS note"
                       " FROM customers AS t WHERE id <= %d" % (arguments(), rows // 50))
    connection.execute("CREATE TABLE narrow AS SELECT id, %s FROM customers AS t WHERE id <= %d" % (arguments(), rows // 50))
    connection.execute("CREATE TABLE objects AS SELECT id, to_jsonb(t) AS features FROM narrow AS t WHERE id <= 10000")
    for table in ("customers", "wide", "narrow", "objects"):
        connection.execute("VACUUM (ANALYZE, FREEZE) " + table)
    connection.execute("SELECT visage_train('plain', 'SELECT * FROM customers WHERE id <= 20000', algorithm => 'logistic',"
                       " columns => '{\"exclude\": [\"id\"]}', split => '{}', deploy => 'always')")
    connection.execute("SELECT visage_deploy('trees', visage_import_model('trees', %s::text, 'lightgbm'))", [text])
    connection.execute("CREATE FUNCTION noop30(model text, %s) RETURNS float8 LANGUAGE c STABLE PARALLEL SAFE AS 'noop', 'noop'"
                       % ", ".join("%s float8" % column for column in COLUMNS))
    for model in ("plain", "trees"):
        inputs = connection.execute("SELECT inputs FROM visage.models WHERE model = %s", [model]).fetchone()[0]
        must_equal("order of the features of model " + model, [member["name"] for member in inputs], COLUMNS)


def turns(rounds, sides):
    """Times of statements of one session that take turns; they are shown."""
    times = interleave(sides, rounds)
    for name, values in times.items():
        say("   %s: %s" % (name, spread(values)))
    return times


def ratio(times, one, other):
    return by_round(operator.truediv, times[one], times[other])


def statement(connection, query, *parameters):
    return lambda: connection.execute(query, *parameters).fetchall()


# ---- the kernel ----


def kernel_alone(measures, connection, booster, rows, rounds, directory):
    rows = rows // 10 // 64 * 64
    given = numpy.random.default_rng(2).uniform(-1, 1, (rows, FEATURES))
    image = connection.execute("SELECT visage_export_model('trees')").fetchone()[0]
    image = numpy.frombuffer(image + b"\0" * (-len(image) % 8), dtype=numpy.float64).copy()
    library = ctypes.CDLL(os.path.join(directory, "kernel.so"))
    library.bench_workspace.restype = ctypes.c_size_t

    def pointer(array):
        return ctypes.c_void_p(array.ctypes.data)

    workspace = numpy.zeros(library.bench_workspace(pointer(image)))
    raw = numpy.zeros(rows)

    def visage():
        library.bench_blocks(pointer(image), pointer(workspace), pointer(given), ctypes.c_long(rows), pointer(raw))

    found = []

    def peer():
        found[:] = [booster.predict(given, raw_score=True, num_threads=1)]

    visage()
    peer()
    must_equal("raw scores, bit for bit", raw.tobytes(), found[0].tobytes())
    times = turns(rounds, {"kernel": visage, "LightGBM": peer})
    widest = "AVX-512" if has_instructions("avx512f") else "AVX2"
    measures.at_least("batch kernel alone against LightGBM's C API, one thread, same model (bit-equal raw scores), %s: times faster" % widest,
                      ratio(times, "LightGBM", "kernel"), 15 if widest == "AVX-512" else 10)


# ---- SQL over a table ----


def behind_the_planner(connection, query):
    """A query over customers t, with the planner's node for blocks; its text is
    its own, since a prepared statement keeps the plan that it was made with."""
    def run():
        connection.execute("SET visage.batch_scoring = on")
        found = connection.execute("/* in blocks */ " + query).fetchall()
        connection.execute("RESET visage.batch_scoring")
        return found

    must_equal("what is found one by one and in blocks", connection.execute(query).fetchall(), run())
    return run


def over_a_table(measures, connection, rounds):
    connection.execute("SET max_parallel_workers_per_gather = 0")
    ranked = "SELECT id, visage_score('trees', %s) FROM customers AS t ORDER BY 2 DESC LIMIT 100" % arguments()
    nothing = statement(connection, "SELECT sum(noop30('m', %s)) FROM customers AS t" % arguments())
    times = turns(rounds, {
        "noop30": nothing,
        "trees": statement(connection, "SELECT sum(visage_score('trees', %s)) FROM customers AS t" % arguments()),
        "row": statement(connection, "SELECT sum(visage_score('trees', t)) FROM customers AS t"),
        "blocks": behind_the_planner(connection, "SELECT sum(visage_score('trees', %s)) FROM customers AS t" % arguments()),
        "ranked": statement(connection, ranked),
        "ranked in blocks": behind_the_planner(connection, ranked),
        "count": statement(connection, "SELECT count(*) FROM customers")})
    measures.at_most("plain SQL sum(visage_score('m', f1, ..., f30)) against sum(noop30(f1, ..., f30)), row at a time",
                     ratio(times, "trees", "noop30"), 5.5)
    measures.at_most("the same with the batch path behind the planner", ratio(times, "blocks", "noop30"), 2.3)
    measures.at_most("batch path, result aggregated, against SELECT count(*) of the same table", ratio(times, "blocks", "count"), 7)
    measures.state("SELECT id, visage_score(...) ... ORDER BY 2 DESC LIMIT 100 with the batch path behind the planner: times faster than row at a time",
                   ratio(times, "ranked", "ranked in blocks"))
    measures.at_most("sum(visage_score('m', t)) against the positional form", ratio(times, "row", "trees"), 1.1)
    # the bar is near 1: more rounds
    logistic = "SELECT sum(visage_score('plain', %s)) FROM customers AS t" % arguments()
    times = turns(rounds * 4, {
        "noop30": nothing,
        "logistic": statement(connection, logistic),
        "logistic in blocks": behind_the_planner(connection, logistic)})
    measures.at_most("logistic, 30 features, against noop30", ratio(times, "logistic", "noop30"), 1.15)
    measures.state("logistic, 30 features, against noop30, with the batch path behind the planner", ratio(times, "logistic in blocks", "noop30"))
    times = turns(rounds, {
        "positional": statement(connection, "SELECT sum(visage_score('trees', %s)) FROM wide AS t" % arguments()),
        "row": statement(connection, "SELECT sum(visage_score('trees', t)) FROM wide AS t")})
    measures.at_most("sum(visage_score('m', t)) against the positional form, also with an unused wide column",
                     ratio(times, "row", "positional"), 1.1)


def in_parallel(measures, connection, rounds):
    """Not prepared: a prepared statement keeps the plan that it was made with.
    A row is scored with its values in other orders, too, for as much work as
    the measure names."""
    connection.execute("SET max_parallel_workers_per_gather = 0")

    def work(orders):
        names = arguments().split(", ")
        return "SELECT %s FROM customers AS t" % ", ".join(
            "sum(visage_score('trees', %s))" % ", ".join(names[i:] + names[:i]) for i in range(orders))

    connection.execute(work(1))
    seconds = timed(lambda: connection.execute(work(1), prepare=False).fetchall())
    query = work(min(FEATURES, max(1, math.ceil(1.3 / seconds))))
    connection.execute("SET parallel_setup_cost = 0")
    connection.execute("SET parallel_tuple_cost = 0")
    connection.execute("SET min_parallel_table_scan_size = 0")

    def with_workers(count):
        def run():
            connection.execute("SET max_parallel_workers_per_gather = %d" % count)
            return connection.execute(query, prepare=False).fetchall()
        return run

    times = turns(rounds, {"serial": with_workers(0), "leader and worker": with_workers(1)})
    connection.execute("SET max_parallel_workers_per_gather = 0")
    measures.at_least("parallel plan, leader + 1 worker, work of a second or more: times of serial",
                      ratio(times, "serial", "leader and worker"), 1.75)


def into_a_table(measures, connection, booster, rounds):
    """Scores kept in a table: in blocks, a constant, and by taking the rows out."""
    connection.execute("CREATE TABLE constants (id int, score float8)")
    connection.execute("CREATE TABLE outside (id int, score float8)")
    dsn = "postgresql://postgres@localhost/%s?host=%s&port=%s" % (os.environ["PGDATABASE"], os.environ["PGHOST"], os.environ["PGPORT"])

    def constants():
        connection.execute("TRUNCATE constants")
        connection.execute("INSERT INTO constants SELECT id, 0.5 FROM customers")

    def blocks():
        connection.execute("CALL visage_score_table('trees', 'SELECT * FROM customers', 'scored', '{id}')")

    def put_back(keys, scores):
        connection.execute("TRUNCATE outside")
        text = io.StringIO()
        for key, score in zip(keys.tolist(), scores.tolist()):
            text.write("%d\t%r\n" % (key, score))
        with connection.cursor().copy("COPY outside FROM STDIN") as copy:
            copy.write(text.getvalue())

    def with_psycopg():
        with connection.cursor(binary=True) as cursor:
            cursor.execute("SELECT id, %s FROM customers AS t" % arguments())
            rows = numpy.array(cursor.fetchall())
        put_back(rows[:, 0].astype(int), booster.predict(rows[:, 1:], num_threads=1))

    def with_connectorx():
        rows = connectorx.read_sql(dsn, "SELECT id, %s FROM customers AS t" % arguments())
        put_back(rows["id"].to_numpy(), booster.predict(rows[COLUMNS].to_numpy(), num_threads=1))

    sides = {"visage_score_table": blocks, "constant": constants, "psycopg": with_psycopg}
    try:
        connectorx.read_sql(dsn, "SELECT 1 AS one")
        sides["ConnectorX"] = with_connectorx
    except RuntimeError as error:
        say("   ConnectorX left out: it cannot connect through a Unix socket (%s)" % str(error).split("\n", 1)[0])
    times = turns(min(rounds, 3), sides)
    must_equal("scores of both", connection.execute(
        "SELECT count(*) FROM scored JOIN outside USING (id) WHERE abs(scored.score - outside.score) < 1e-15").fetchone()[0],
        connection.execute("SELECT count(*) FROM customers").fetchone()[0])
    measures.at_most("visage_score_table against INSERT ... SELECT id, constant of the same table",
                     ratio(times, "visage_score_table", "constant"), 1.5)
    measures.at_least("the same work done by taking the rows out (psycopg binary, ConnectorX; process start not counted), LightGBM predict, COPY back: times faster",
                      min(ratio(times, name, "visage_score_table") for name in ("psycopg", "ConnectorX") if name in times), 10)


# ---- one row ----


def pgbench(scripts, rows, seconds, clients):
    """What it says after running prepared scripts, by chance one or another."""
    files = [option for script in scripts for option in ("-f", script)]
    return subprocess.run(
        ["pgbench", "-n", "-M", "prepared", "-c", str(clients), "-j", str(clients), "-T", str(seconds), "-D", "rows=%d" % rows] + files,
        check=True, capture_output=True, text=True).stdout


def latency(script, rows, seconds):
    """Mean latency of a script with two clients, in microseconds: the one that
    pgbench prints is rounded."""
    output = pgbench([script], rows, seconds, 2)
    return 2 / float(re.search(r"tps = ([0-9.]+)", output).group(1)) * 1e6


def pipelines(scripts, rows, seconds, rounds):
    """Mean latencies of scripts that one session runs in turn, by name, in microseconds."""
    found = {name: [] for name in scripts}
    for _ in range(rounds):
        output = pgbench(scripts.values(), rows, seconds, 1)
        means = re.findall(r"^ - latency average = ([0-9.]+) ms", output, re.MULTILINE)
        for name, mean in zip(scripts, means, strict=True):
            found[name].append(float(mean) * 1e3)
    return found


def one_row(measures, rows, seconds, rounds, directory):
    """Latency of a score by primary key over that of doing nothing."""
    names = {"logistic": "visage_score('plain'", "trees": "visage_score('trees'", "noop30": "noop30('as_long_one'"}

    def scripts(kind, before, times, after):
        """Of texts of one length: the server copies them for each execution, and with these it matters whether they need more than 256 bytes."""
        written = {}
        for name, call in names.items():
            written[name + kind] = os.path.join(directory, name + kind + ".sql")
            with open(written[name + kind], "w", encoding="ascii") as file:
                file.write(before + ("\\set id random(1, :rows)\nSELECT %s, %s) FROM customers AS t WHERE t.id = :id;\n" % (call, arguments())) * times + after)
        return written

    times = interleave(scripts("", "", 1, ""), rounds * 2, lambda script: latency(script, rows, max(1, seconds // 2)))
    times.update(pipelines(scripts(" pipeline", "\\startpipeline\n", 50, "\\endpipeline\n"), rows, seconds * 2, rounds))
    for name, values in times.items():
        say("   %s: %s" % (name, spread(values, "us")))
    measures.at_most("one row by primary key, prepared, 2 clients: latency over the same query with noop30", ratio(times, "trees", "noop30"), 1.10)
    measures.state("visage_score of one row by primary key, logistic, prepared, 2 clients: latency over the same query with noop30",
                   ratio(times, "logistic", "noop30"))
    measures.at_most("the same, 50 in one pipeline: time added per call, us",
                     by_round(operator.sub, times["trees pipeline"], times["noop30 pipeline"]) / 50, 1.5)


def as_object(measures, connection, rounds):
    count = connection.execute("SELECT count(*) FROM objects").fetchone()[0]
    times = turns(rounds, {
        "jsonb": statement(connection, "SELECT sum(visage_score_json('trees', features)) FROM objects"),
        "values": statement(connection, "SELECT sum(visage_score('trees', %s)) FROM narrow AS t WHERE id <= 10000" % arguments())})
    measures.at_most("jsonb form, one row: time added, us", by_round(operator.sub, times["jsonb"], times["values"]) / count * 1e6, 8)


def fresh_session(measures, rounds):
    """The first call in a session over the second, with parameters as a driver
    sends them and with constants, whose casts the server looks up; stated, too,
    for the function that does nothing, whose first call reads the system's
    catalogs as well."""
    forms = {"": (", ".join(["%s"] * FEATURES), [0.5] * FEATURES), " of constants": (", ".join(["0.5::float8"] * FEATURES),)}
    queries = {name + form: ("SELECT %s, %s)" % (call, given[0]), *given[1:]) for form, given in forms.items()
               for name, call in (("score", "visage_score('trees'"), ("noop30", "noop30('m'"))}

    def first_over_second(query):
        with psycopg.connect(autocommit=True) as connection:
            connection.execute("SELECT 1").fetchall()
            first, second = (timed(statement(connection, *query)) for _ in range(2))
            return (first - second) * 1e6

    # a session that the machine disturbs tells nothing: many of them
    added = interleave(queries, rounds * 20, first_over_second)
    for name, values in added.items():
        say("   %s, first over second: %s" % (name, spread(values, "us")))
    measures.at_most("first score in a fresh session (library preloaded, model in use elsewhere), over the second, us", median(added["score"]), 400)
    measures.state("the same of noop30, us: what the server itself takes", median(added["noop30"]))
    measures.state("first score of constants, over the second, us", median(added["score of constants"]))
    measures.state("the same of noop30 of constants, us", median(added["noop30 of constants"]))


def private_memory(measures, connection, text):
    """What a session's own memory grows by when it scores with a large model."""
    large = enlarge(text, 230)
    connection.execute("SELECT visage_deploy('large', visage_import_model('large', %s::text, 'lightgbm'))", [large])
    size = connection.execute("SELECT length(image) FROM visage.model_images WHERE model = 'large'").fetchone()[0]
    say("   the image has %.0f MB" % (size / 1e6))
    query = "SELECT visage_score('large', %s)" % ", ".join(["0.5::float8"] * FEATURES)
    connection.execute(query)
    with psycopg.connect(autocommit=True) as session:
        pid = session.execute("SELECT pg_backend_pid(), visage_score('trees', %s)" % ", ".join(["0.5::float8"] * FEATURES)).fetchone()[0]

        def anonymous():
            with open("/proc/%d/status" % pid, encoding="ascii") as file:
                return int(re.search(r"RssAnon:\s+(\d+)", file.read()).group(1)) / 1024

        before = anonymous()
        session.execute(query).fetchall()
        measures.at_most("private memory a session adds for a 50 MB model, MB", anonymous() - before, 1)
    connection.execute("SELECT visage_drop_model('large', false)")


def explanations(measures, connection, booster, rounds):
    """Both explain single rows; times are of CPU in either process."""
    row = numpy.random.default_rng(3).uniform(-1, 1, (1, FEATURES))
    values = ", ".join("%r::float8" % value for value in row[0].tolist())
    found = dict(connection.execute("SELECT coalesce(feature, ''), contribution FROM visage_explain('trees', %s)" % values).fetchall())
    expected = dict(zip(COLUMNS + [""], booster.predict(row, pred_contrib=True)[0].tolist()))
    must_equal("contributions, to 1e-9", [], [name for name in expected if abs(found[name] - expected[name]) > 1e-9])

    def peer():
        for _ in range(200):
            booster.predict(row, pred_contrib=True, num_threads=1)

    # the values come from the series, so each row is explained anew
    lateral = ("SELECT count(*) FROM (SELECT '{%s}'::float8[] AS a FROM generate_series(1, 200) OFFSET 0) AS s, LATERAL visage_explain('trees', VARIADIC s.a)"
               % ", ".join("%r" % value for value in row[0].tolist()))
    times = turns(rounds, {"visage_explain": statement(connection, lateral), "pred_contrib": peer})
    measures.at_least("visage_explain (exact) against LightGBM pred_contrib, one row: times faster", ratio(times, "pred_contrib", "visage_explain"), 3)


PARTS = ("kernel", "table", "into", "parallel", "json", "fresh", "explain", "memory", "row")


def main():
    rows, seconds, rounds, directory = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    parts = sys.argv[5:] or PARTS
    if not set(parts) <= set(PARTS):
        sys.exit("bench: the parts are %s" % ", ".join(PARTS))
    measures = Measures()
    booster, text = train(directory)
    with psycopg.connect(autocommit=True) as connection:
        prepare(connection, rows, text)
        measure = {
            "kernel": lambda: kernel_alone(measures, connection, booster, rows, rounds, directory),
            "table": lambda: over_a_table(measures, connection, rounds),
            "into": lambda: into_a_table(measures, connection, booster, rounds),
            "parallel": lambda: in_parallel(measures, connection, rounds),
            "json": lambda: as_object(measures, connection, rounds),
            "fresh": lambda: fresh_session(measures, rounds),
            "explain": lambda: explanations(measures, connection, booster, rounds),
            "memory": lambda: private_memory(measures, connection, text),
            "row": lambda: one_row(measures, rows, max(1, int(seconds)), rounds, directory)}
        for part in PARTS:
            if part in parts:
                measure[part]()
    measures.close()


if __name__ == "__main__":
    main()

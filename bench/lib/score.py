"""The measures of bench/score; it starts the server.

	score.py ROWS SECONDS ROUNDS DIRECTORY
"""

import os
import re
import subprocess
import sys

import psycopg

from measures import Measures, interleave, median, must_equal, say, spread

FEATURES = 30
MODEL = "bench"


def arguments(prefix="t."):
    return ", ".join("%sf%d" % (prefix, i) for i in range(1, FEATURES + 1))


def prepare(connection, rows):
    """A table of features, a logistic model over them, and the function that
    does nothing."""
    columns = ", ".join("(random() * 2 - 1)::float8 AS f%d" % i for i in range(1, FEATURES + 1))
    connection.execute("SELECT setseed(0.5)")
    connection.execute("CREATE TABLE customers AS SELECT i::int AS id, %s, random() < 0.3 AS label FROM generate_series(1, %d) AS i" % (columns, rows))
    connection.execute("ALTER TABLE customers ADD PRIMARY KEY (id)")
    connection.execute("VACUUM (ANALYZE, FREEZE) customers")
    connection.execute("SELECT visage_train(%s, %s, algorithm => 'logistic', columns => '{\"exclude\": [\"id\"]}', split => '{}', deploy => 'always')",
                       [MODEL, "SELECT * FROM customers WHERE id <= 20000"])
    connection.execute("CREATE FUNCTION noop30(model text, %s) RETURNS float8 LANGUAGE c STABLE PARALLEL SAFE AS 'noop', 'noop'"
                       % ", ".join("f%d float8" % i for i in range(1, FEATURES + 1)))
    order = [member["name"] for member in connection.execute("SELECT inputs FROM visage.models WHERE model = %s", [MODEL]).fetchone()[0]]
    must_equal("order of the features", order, ["f%d" % i for i in range(1, FEATURES + 1)])
    scored, by_name = connection.execute(
        "SELECT sum(visage_score('%s', %s)), sum(visage_score('%s', t)) FROM customers AS t WHERE id <= 1000" % (MODEL, arguments(), MODEL)).fetchone()
    must_equal("scores by position and by name", scored, by_name)


def pgbench(script, rows, seconds, clients):
    """Mean latency in microseconds of a prepared script."""
    output = subprocess.run(
        ["pgbench", "-n", "-M", "prepared", "-c", str(clients), "-j", str(clients), "-T", str(seconds), "-D", "rows=%d" % rows, "-f", script],
        check=True, capture_output=True, text=True).stdout
    return float(re.search(r"latency average = ([0-9.]+) ms", output).group(1)) * 1000


def one_row(measures, rows, seconds, rounds, directory):
    """Latency of a score by primary key over that of doing nothing."""
    scripts = {}
    for name, call in (("visage_score", "visage_score"), ("noop30", "noop30")):
        scripts[name] = os.path.join(directory, name + ".sql")
        with open(scripts[name], "w", encoding="ascii") as file:
            file.write("\\set id random(1, :rows)\nSELECT %s('%s', %s) FROM customers AS t WHERE t.id = :id;\n" % (call, MODEL, arguments()))
    latencies = interleave(scripts, rounds, lambda script: pgbench(script, rows, seconds, clients=2))
    for name, values in latencies.items():
        say("   %s: %s" % (name, spread(values, "us")))
    measures.state("visage_score of one row by primary key, logistic, prepared, 2 clients: latency over the same query with noop30",
                   median(latencies["visage_score"]) / median(latencies["noop30"]))


def main():
    rows, seconds, rounds, directory = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    measures = Measures()
    with psycopg.connect(autocommit=True) as connection:
        prepare(connection, rows)
    one_row(measures, rows, max(1, int(seconds)), rounds, directory)
    measures.close()


if __name__ == "__main__":
    main()

"""bench/kernel: trains, imports, and takes turns.  Times are processor time,
for others may use the machine.  Arguments: rows, rows that
are explained, rounds, a directory, where the program `kernel` is, and the instructions to use."""

import ctypes
import os
import subprocess
import sys
import time

import lightgbm
import numpy
import psycopg

import measures as m

ROWS, EXPLAINED, ROUNDS, DIRECTORY, INSTRUCTIONS = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5]
FEATURES = 30


def train():
    """The reference model, on rows that no test knows."""
    generator = numpy.random.default_rng(7)
    rows = generator.normal(size=(max(ROWS, 200000), FEATURES))
    score = rows[:, 0] + rows[:, 1] * rows[:, 2] + numpy.sin(3 * rows[:, 3]) + 0.5 * rows[:, 4:].sum(axis=1) / 5
    labels = (score + generator.normal(size=len(rows)) > 0).astype(float)
    data = lightgbm.Dataset(rows[:200000], labels[:200000], feature_name=["f%d" % (i + 1) for i in range(FEATURES)])
    model = lightgbm.train({"objective": "binary", "num_leaves": 31, "verbose": -1, "num_threads": 1, "seed": 1},
                           data, 100)
    return model.model_to_string(), numpy.ascontiguousarray(rows[:ROWS])


class Lightgbm:
    """LightGBM through its C API, one thread."""

    def __init__(self, text):
        self.booster = lightgbm.Booster(model_str=text)
        self.library = lightgbm.basic._LIB

    def predict(self, rows, kind):
        """0 for its scores after the link, 1 before it, 3 for contributions."""
        width = FEATURES + 1 if kind == 3 else 1
        out = numpy.empty(len(rows) * width)
        length = ctypes.c_int64()
        status = self.library.LGBM_BoosterPredictForMat(
            self.booster._handle, rows.ctypes.data_as(ctypes.c_void_p), ctypes.c_int(1),
            ctypes.c_int32(len(rows)), ctypes.c_int32(FEATURES), ctypes.c_int(1), ctypes.c_int(kind), ctypes.c_int(0),
            ctypes.c_int(-1), ctypes.c_char_p(b"num_threads=1"), ctypes.byref(length),
            out.ctypes.data_as(ctypes.POINTER(ctypes.c_double)))
        if status != 0 or length.value != len(out):
            sys.exit("bench: LightGBM does not predict")
        return out


def kernel(connection, text, rows):
    """The program that scores the rows by the image, waiting for lines."""
    connection.execute("SELECT visage_import_model('reference', %s::text)", [text])
    image = connection.execute("SELECT visage_export_model('reference@1')").fetchone()[0]
    with open(os.path.join(DIRECTORY, "image"), "wb") as file:
        file.write(image)
    rows.tofile(os.path.join(DIRECTORY, "rows"))
    return subprocess.Popen([os.path.join(DIRECTORY, "kernel")] + [
        os.path.join(DIRECTORY, name) for name in ("image", "rows", "out")] + [str(FEATURES), INSTRUCTIONS],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def bench_kernel(measures, connection, text, rows, library):
    m.say("1. batch kernel, %d rows, laid out from float8 in row order" % len(rows))
    program = kernel(connection, text, rows)

    def ours():
        program.stdin.write("\n")
        program.stdin.flush()
        return float(program.stdout.readline())

    expected = library.predict(rows, 1)
    ours()
    times = {"visage": [], "lightgbm": []}
    for _ in range(ROUNDS):
        times["visage"].append(ours())
        start = time.process_time()
        library.predict(rows, 1)
        times["lightgbm"].append(time.process_time() - start)
    program.stdin.close()
    program.wait()
    found = numpy.fromfile(os.path.join(DIRECTORY, "out"))
    m.must_equal("raw scores, bit for bit", bool((found.view(numpy.int64) == expected.view(numpy.int64)).all()), True)
    for name, values in times.items():
        m.say("   %-10s %s a row" % (name, m.spread(values, "ns", 1e9 / len(rows))))
    measure = "batch kernel alone against LightGBM's C API, one thread, same model (bit-equal raw scores)"
    ratio = m.median(times["lightgbm"]) / m.median(times["visage"])
    if INSTRUCTIONS == "plain":
        measures.state(measure, ratio)
    else:
        wide = INSTRUCTIONS == "best" and m.has_instructions("avx512f")
        measures.at_least(measure, ratio, 15 if wide else 10)


def processor_time(process):
    """Seconds that a process has had, which the kernel counts in ticks."""
    with open("/proc/%d/stat" % process, encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def bench_explain(measures, connection, rows, library):
    m.say("2. visage_explain, %d rows, one after the other" % EXPLAINED)
    rows = rows[:EXPLAINED]
    names = ["f%d" % (i + 1) for i in range(FEATURES)]
    connection.execute("CREATE TEMP TABLE given (n int, %s)" % ", ".join("%s float8" % name for name in names))
    with connection.cursor().copy("COPY given FROM STDIN") as copy:
        for number, row in enumerate(rows.tolist()):
            copy.write_row([number] + row)
    connection.execute("ANALYZE given")
    arguments = ", ".join(names)
    query = "SELECT sum(e.contribution) FROM given, visage_explain('reference@1', %s) AS e" % arguments
    expected = library.predict(rows, 3).reshape(len(rows), FEATURES + 1)
    found = numpy.zeros_like(expected)
    for number, feature, contribution in connection.execute(
            "SELECT n, e.feature, e.contribution FROM given, visage_explain('reference@1', %s) AS e" % arguments):
        found[number, FEATURES if feature is None else int(feature[1:]) - 1] = contribution
    m.must_equal("contributions, to 1e-9", bool((numpy.abs(found - expected) <= 1e-9).all()), True)
    connection.execute(query).fetchone()
    backend = connection.execute("SELECT pg_backend_pid()").fetchone()[0]
    times = {"visage": [], "lightgbm": []}
    for _ in range(ROUNDS):
        start = processor_time(backend)
        connection.execute(query).fetchone()
        times["visage"].append(processor_time(backend) - start)
        start = time.process_time()
        for i in range(len(rows)):
            library.predict(rows[i:i + 1], 3)
        times["lightgbm"].append(time.process_time() - start)
    for name, values in times.items():
        m.say("   %-10s %s a row" % (name, m.spread(values, "µs", 1e6 / len(rows))))
    measures.at_least("visage_explain (exact) against LightGBM pred_contrib, one row",
                      m.median(times["lightgbm"]) / m.median(times["visage"]), 3)


def main():
    measures = m.Measures()
    text, rows = train()
    library = Lightgbm(text)
    m.say("   LightGBM %s, NumPy %s" % (lightgbm.__version__, numpy.__version__))
    with psycopg.connect(user="postgres", autocommit=True, options="-c visage.instructions=" + INSTRUCTIONS) as connection:
        bench_kernel(measures, connection, text, rows, library)
        bench_explain(measures, connection, rows, library)
    measures.close()


main()

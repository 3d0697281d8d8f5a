"""Random ensembles, at their thresholds and beside them: one row at a time, in
blocks and in blocks behind the planner they are what the definition of
LightGBM's trees says, bit for bit.

The ensembles are of the sizes at which a test compares ranks of values
(src/model/rank.c), and of sizes just beyond.  All that is done with each of
the instructions that the processor has: on one with AVX-512, three times."""

import json
import math
import platform
import random
import struct
import unittest

import house
import model_image

# the library reads as 0 what is no larger
ZERO = struct.unpack("f", struct.pack("f", 1e-35))[0]
SPECIAL = (None, math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-36, -1e-36, 5e-324, 1.7e308)


class Tree:
    def __init__(self, randomness, leaves, thresholds):
        self.left, self.right, self.feature, self.threshold, self.decision = [], [], [], [], []
        self.values = [randomness.uniform(-1, 1) for _ in range(leaves)]
        for number in range(leaves - 1):
            self.feature.append(randomness.randrange(len(thresholds)))
            self.threshold.append(randomness.choice(thresholds[self.feature[-1]]))
            self.decision.append(randomness.choice((0, 2, 4, 6, 8, 10)))
            self.left.append(~0)
            self.right.append(~0)
            if number == 0:
                self.left[0], self.right[0] = ~0, ~1
                continue
            # the new leaf and one that was there are now below the new node
            split = randomness.randrange(number + 1)
            for side in (self.left, self.right):
                side[:number] = [number if child == ~split else child for child in side[:number]]
            self.left[number], self.right[number] = ~split, ~(number + 1)

    def text(self, number):
        def line(name, values):
            return "%s=%s\n" % (name, " ".join(repr(value) for value in values))
        head = "Tree=%d\nnum_leaves=%d\nnum_cat=0\n" % (number, len(self.values))
        if len(self.values) == 1:
            return head + line("leaf_value", self.values) + "is_linear=0\nshrinkage=1\n\n"
        return (head + line("split_feature", self.feature) + line("split_gain", [1] * len(self.feature)) + line("threshold", self.threshold)
                + line("decision_type", self.decision) + line("left_child", self.left) + line("right_child", self.right)
                + line("leaf_value", self.values) + line("leaf_count", [1] * len(self.values)) + "is_linear=0\nshrinkage=1\n\n")

    def goes_left(self, node, value):
        missing = self.decision[node] >> 2 & 3
        if math.isnan(value) and missing != 2:
            value = 0.0
        if (missing == 1 and abs(value) <= ZERO) or (missing == 2 and math.isnan(value)):
            return bool(self.decision[node] & 2)
        return value <= self.threshold[node]

    def score(self, row):
        if len(self.values) == 1:
            return self.values[0]
        node = 0
        while node >= 0:
            node = self.left[node] if self.goes_left(node, row[self.feature[node]]) else self.right[node]
        return self.values[~node]


class Chain(Tree):
    """A tree as deep as can be; most rows go far down."""

    def __init__(self, randomness, leaves, thresholds):
        super().__init__(randomness, leaves, thresholds)
        lefts = randomness.choice((0, 0.5, 1))
        for number in range(leaves - 1):
            onward = number + 1 if number < leaves - 2 else ~(leaves - 1)
            goes_left = randomness.random() < lefts
            self.left[number], self.right[number] = (onward, ~number) if goes_left else (~number, onward)
            if randomness.random() < 0.95:
                self.threshold[number] = (max if goes_left else min)(thresholds[self.feature[number]])
                self.decision[number] = self.decision[number] & ~2 | 2 * goes_left


def single(number):
    """Rounded to float32."""
    return struct.unpack("f", struct.pack("f", number))[0]


class Ensemble:
    def __init__(self, trees, leaves, features, different, kind=Tree, classes=1):
        randomness = random.Random(1)
        self.features = ["f%d" % i for i in range(features)]
        self.thresholds = [self.draw(randomness, different) for _ in range(features)]
        self.classes = classes
        self.trees = [kind(randomness, leaves, self.thresholds) for _ in range(trees)] + [Tree(randomness, 1, self.thresholds)]
        if kind is Tree:
            self.use_all(randomness)
        self.rows = [[self.value(randomness, i) for i in range(features)] for _ in range(300)]

    @staticmethod
    def draw(randomness, different):
        """As many thresholds, none of which is another for the library: those beside 0 are two."""
        found = {randomness.choice((0.0, -0.0, 5e-36)), -5e-36}
        while len(found) < different:
            number = randomness.gauss(0, 1)
            found |= {number} if abs(number) > ZERO else set()
        return sorted(found)

    def use_all(self, randomness):
        """Every threshold is of some test, where 0 is missing and where it is not."""
        nodes = [(tree, node) for tree in self.trees for node in range(len(tree.feature))]
        tests = [(feature, threshold, decision) for feature, thresholds in enumerate(self.thresholds) for threshold in thresholds
                 for decision in ((0, 2, 8, 10), (4, 6))]
        randomness.shuffle(nodes)
        randomness.shuffle(tests)
        for (tree, node), (feature, threshold, decision) in zip(nodes, tests):
            tree.feature[node], tree.threshold[node], tree.decision[node] = feature, threshold, randomness.choice(decision)

    def value(self, randomness, feature):
        threshold = randomness.choice(self.thresholds[feature])
        return randomness.choice((threshold, math.nextafter(threshold, -math.inf), math.nextafter(threshold, math.inf), randomness.gauss(0, 1),
                                  randomness.choice(SPECIAL)))

    def text(self):
        return ("tree\nversion=v4\nnum_class=%d\nnum_tree_per_iteration=%d\nlabel_index=0\nmax_feature_idx=%d\nobjective=%s\n"
                "feature_names=%s\nfeature_infos=%s\ntree_sizes=%s\n\n%send of trees\n"
                % (self.classes, self.classes, len(self.features) - 1, "regression" if self.classes == 1 else "multiclass num_class:%d" % self.classes,
                   " ".join(self.features), " ".join("[-9:9]" for _ in self.features),
                   " ".join("1" for _ in self.trees), "".join(tree.text(i) for i, tree in enumerate(self.trees))))

    def scores(self, row, rounded=float):
        """The sum of each class: trees take turns."""
        totals = [0.0] * self.classes
        for number, tree in enumerate(self.trees):
            value = tree.score([math.nan if value is None else 0.0 if abs(value) <= ZERO else value for value in row])
            totals[number % self.classes] = rounded(totals[number % self.classes] + rounded(value))
        return totals


def possible_instructions(most):
    """What kernels may use, by the processor's flags."""
    if most == "plain":
        return {"plain"}
    if platform.machine() != "x86_64":
        return {"plain", "neon"}
    with open("/proc/cpuinfo", encoding="ascii") as file:
        flags = {"avx512vbmi" if flag == "avx512_vbmi" else flag for line in file if line.startswith("flags") for flag in line.split()}
    if not flags >= {"avx2", "popcnt", "bmi1"}:
        return {"plain"}
    if most == "avx2" or "avx512f" not in flags:
        return {"avx2"}
    return {"avx512-vbmi" if flags >= {"avx512bw", "avx512dq", "avx512vl", "avx512vbmi", "bmi2"} else "avx512"}


class Ranks(unittest.TestCase):
    def setUp(self):
        self.database = house.Database("ranks")
        self.addCleanup(self.database.__exit__)
        self.database.execute("CREATE SCHEMA scores AUTHORIZATION test_engineer")
        self.connection = self.database.connect("engineer")
        self.addCleanup(self.connection.close)

    def load(self, ensemble, **options):
        """Deploys the model, makes a table of its rows; its image."""
        self.connection.execute("SELECT visage_deploy('m', visage_import_model('m', %s::text, 'lightgbm', %s))",
                                [ensemble.text(), json.dumps(options)])
        self.connection.execute("DROP TABLE IF EXISTS scores.cases")
        self.connection.execute("CREATE TABLE scores.cases (n int, %s)" % ", ".join(name + " float8" for name in ensemble.features))
        with self.connection.cursor().copy("COPY scores.cases FROM STDIN") as copy:
            for i, row in enumerate(ensemble.rows):
                copy.write_row([i] + [None if value is None else repr(value) for value in row])
        return model_image.RankedImage(self.connection.execute("SELECT visage_export_model('m')").fetchone()[0])

    def with_each(self, check, *arguments, **shape):
        """The check in a session with each of the instructions."""
        for instructions in ("best", "avx2", "plain"):
            with self.subTest(instructions=instructions, **shape), \
                    self.database.connect("engineer", options="-c visage.instructions=" + instructions) as connection:
                self.assertIn(self.used(connection), possible_instructions(instructions))
                check(connection, *arguments)

    @staticmethod
    def used(connection):
        """The instructions that scoring uses."""
        connection.execute("SET visage.batch_scoring = on")
        plan = connection.execute("EXPLAIN (ANALYZE, VERBOSE, COSTS off) SELECT sum(visage_score('m', t)) FROM scores.cases AS t").fetchall()
        connection.execute("RESET visage.batch_scoring")
        return [line.split()[1] for line, in plan if line.strip().startswith("Instructions: ")][0]

    def try_ensemble(self, *shape, strides, **kinds):
        """The strides of thresholds that each slot must have; 0: no ranks."""
        ensemble = Ensemble(*shape, **kinds)
        image = self.load(ensemble)
        self.assertEqual({ranked["strides"] for ranked in image.ranked} or {0}, {strides})
        wanted = [ensemble.scores(row)[0] for row in ensemble.rows]
        self.with_each(self.must_score, ", ".join(ensemble.features), wanted, shape=shape)

    def must_score(self, connection, names, wanted):
        def scores(query):
            return [score for _, score in connection.execute(query).fetchall()]

        self.assertEqual(scores("SELECT n, visage_score('m', %s) FROM scores.cases ORDER BY n" % names), wanted)
        connection.execute("CALL visage_score_table('m', 'TABLE scores.cases', 'scores.scored', '{n}')")
        self.assertEqual(scores("SELECT n, score FROM scores.scored ORDER BY n"), wanted)
        connection.execute("DROP TABLE scores.scored")
        connection.execute("SET visage.batch_scoring = on")
        self.assertEqual(scores("SELECT n, max(visage_score('m', %s)) FROM scores.cases GROUP BY n ORDER BY n" % names), wanted)

    def must_choose(self, connection, wanted):
        self.assertEqual(self.column(connection, "visage_predict('m', t)"), wanted)
        connection.execute("CALL visage_score_table('m', 'TABLE scores.cases', 'scores.scored', '{n}')")
        self.assertEqual(self.column(connection, "class", "scored"), wanted)
        connection.execute("DROP TABLE scores.scored")

    @staticmethod
    def column(connection, expression, table="cases"):
        return [value for value, in connection.execute("SELECT %s FROM scores.%s AS t ORDER BY n" % (expression, table)).fetchall()]

    def test_one_row_and_blocks(self):
        self.try_ensemble(60, 31, 6, 130, strides=9)

    def test_one_stride_of_thresholds(self):
        self.try_ensemble(40, 32, 3, 15, strides=1)

    def test_a_stride_that_is_full(self):
        self.try_ensemble(40, 32, 3, 16, strides=2)

    def test_numbers_of_strides(self):
        for thresholds, strides in ((79, 5), (80, 6), (95, 6), (143, 9), (144, 10), (159, 10), (239, 15), (240, 16)):
            self.try_ensemble(40, 32, 2, thresholds, strides=strides)

    def test_trees_too_large_for_paths(self):
        self.try_ensemble(40, 64, 5, 120, strides=8)

    def test_as_many_thresholds_as_ranks(self):
        self.try_ensemble(200, 32, 4, 254, strides=16)

    def test_as_many_in_trees_too_large_for_paths(self):
        self.try_ensemble(100, 64, 4, 254, strides=16)

    def test_more_thresholds_than_ranks(self):
        self.try_ensemble(300, 32, 2, 255, strides=0)

    def test_too_many_slots_for_one_row(self):
        self.try_ensemble(90, 31, 40, 30, strides=2)

    def test_too_few_tests(self):
        self.try_ensemble(3, 8, 5, 30, strides=0)

    def test_chains(self):
        for leaves in (16, 17, 18, 25, 32):
            self.try_ensemble(61, leaves, 3, 12, kind=Chain, strides=1)

    def test_chains_too_large_for_paths(self):
        for leaves in (33, 64):
            self.try_ensemble(60, leaves, 3, 12, kind=Chain, strides=1)

    def test_several_classes(self):
        ensemble = Ensemble(89, 32, 5, 60, classes=3)
        self.assertNotEqual(self.load(ensemble).ranked, [])
        wanted = [ensemble.scores(row) for row in ensemble.rows]
        classes = [str(max(range(3), key=sums.__getitem__)) for sums in wanted]
        self.with_each(self.must_choose, classes)
        self.load(ensemble, output="raw")
        self.with_each(lambda connection: self.assertEqual(self.column(connection, "visage_scores('m', t)"), wanted))

    def test_sums_in_float32(self):
        for leaves in (32, 64):
            ensemble = Ensemble(60, leaves, 5, 60)
            image = self.load(ensemble)
            self.assertNotEqual(image.ranked, [])
            image.set("flags", image.trees["flags"] | model_image.FLOAT32)
            self.connection.execute("SELECT visage_deploy('m', visage_import_model('m', %s::bytea))", [image.sealed()])
            wanted = [ensemble.scores(row, single)[0] for row in ensemble.rows]
            self.with_each(self.must_score, ", ".join(ensemble.features), wanted, leaves=leaves)


if __name__ == "__main__":
    unittest.main()

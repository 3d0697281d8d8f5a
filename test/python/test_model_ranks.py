"""Random ensembles, at their thresholds and beside them: one row at a time, in
blocks and in blocks behind the planner they are what the definition of
LightGBM's trees says, bit for bit.

The ensembles are of the sizes at which a test compares ranks of values
(src/model/rank.c), and of sizes just beyond.  All that is done with each of
the instructions that the processor has: on one with AVX-512, three times."""

import math
import random
import struct
import unittest

import house

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


class Ensemble:
    def __init__(self, seed, trees, leaves, features, different):
        randomness = random.Random(seed)
        self.features = ["f%d" % i for i in range(features)]
        self.thresholds = [sorted({randomness.choice((0.0, -0.0, randomness.gauss(0, 1), randomness.gauss(0, 1e-35))) for _ in range(different)})
                           for _ in range(features)]
        self.trees = [Tree(randomness, leaves, self.thresholds) for _ in range(trees)] + [Tree(randomness, 1, self.thresholds)]
        self.rows = [[self.value(randomness, i) for i in range(features)] for _ in range(300)]

    def value(self, randomness, feature):
        threshold = randomness.choice(self.thresholds[feature])
        return randomness.choice((threshold, math.nextafter(threshold, -math.inf), math.nextafter(threshold, math.inf), randomness.gauss(0, 1),
                                  randomness.choice(SPECIAL)))

    def text(self):
        return ("tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nlabel_index=0\nmax_feature_idx=%d\nobjective=regression\n"
                "feature_names=%s\nfeature_infos=%s\ntree_sizes=%s\n\n%send of trees\n"
                % (len(self.features) - 1, " ".join(self.features), " ".join("[-9:9]" for _ in self.features),
                   " ".join("1" for _ in self.trees), "".join(tree.text(i) for i, tree in enumerate(self.trees))))

    def score(self, row):
        total = 0.0
        for tree in self.trees:
            total += tree.score([math.nan if value is None else 0.0 if abs(value) <= ZERO else value for value in row])
        return total


class Ranks(unittest.TestCase):
    def setUp(self):
        self.database = house.Database("ranks")
        self.addCleanup(self.database.__exit__)
        self.database.execute("CREATE SCHEMA scores AUTHORIZATION test_engineer")
        self.connection = self.database.connect("engineer")
        self.addCleanup(self.connection.close)

    def try_ensemble(self, *shape):
        ensemble = Ensemble(1, *shape)
        self.connection.execute("SELECT visage_deploy('m', visage_import_model('m', %s::text, 'lightgbm'))", [ensemble.text()])
        self.connection.execute("CREATE TABLE scores.cases (n int, %s)" % ", ".join(name + " float8" for name in ensemble.features))
        with self.connection.cursor().copy("COPY scores.cases FROM STDIN") as copy:
            for i, row in enumerate(ensemble.rows):
                copy.write_row([i] + [None if value is None else repr(value) for value in row])
        wanted = [ensemble.score(row) for row in ensemble.rows]
        for instructions in ("best", "avx2", "plain"):
            with self.subTest(shape=shape, instructions=instructions), \
                    self.database.connect("engineer", options="-c visage.instructions=" + instructions) as connection:
                self.must_score(connection, ", ".join(ensemble.features), wanted)

    def must_score(self, connection, names, wanted):
        def scores(query):
            return [score for _, score in connection.execute(query).fetchall()]

        self.assertEqual(scores("SELECT n, visage_score('m', %s) FROM scores.cases ORDER BY n" % names), wanted)
        connection.execute("CALL visage_score_table('m', 'TABLE scores.cases', 'scores.scored', '{n}')")
        self.assertEqual(scores("SELECT n, score FROM scores.scored ORDER BY n"), wanted)
        connection.execute("DROP TABLE scores.scored")
        connection.execute("SET visage.batch_scoring = on")
        self.assertEqual(scores("SELECT n, max(visage_score('m', %s)) FROM scores.cases GROUP BY n ORDER BY n" % names), wanted)

    def test_one_row_and_blocks(self):
        self.try_ensemble(60, 31, 6, 200)

    def test_one_stride_of_thresholds(self):
        self.try_ensemble(40, 32, 3, 15)

    def test_a_stride_that_is_full(self):
        self.try_ensemble(40, 32, 3, 17)

    def test_trees_too_large_for_paths(self):
        self.try_ensemble(40, 64, 5, 120)

    def test_as_many_thresholds_as_ranks(self):
        self.try_ensemble(200, 32, 4, 260)

    def test_more_thresholds_than_ranks(self):
        self.try_ensemble(300, 32, 2, 900)

    def test_too_many_slots_for_one_row(self):
        self.try_ensemble(90, 31, 40, 30)

    def test_too_few_tests(self):
        self.try_ensemble(3, 8, 5, 30)


if __name__ == "__main__":
    unittest.main()

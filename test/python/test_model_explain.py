"""visage_explain against its definition: Shapley values by all coalitions, of
random trees that test an input again and again, some where no training row
went, for rows on a threshold and with missing values.  Trees whose paths have
too many inputs for that are taken leaf by leaf."""

import itertools
import math
import random
import unittest

import house
from model_image import TREE, RankedImage

INPUTS = "abcdef"
THRESHOLDS = (-1.5, -0.5, 0.0, 0.5, 1.5)
ROWS = 12
MODELS = 40
# inputs on the longest path: about where a quadrature has as many points as it needs
LONG = (7, 8, 9, 15, 16, 17, 18, 31, 32, 33, 50)


def grow(chance, depth):
    """A tree: (cover, value), or (cover, input, threshold, missing goes left, left, right)."""
    if depth == 0 or chance.random() < 0.2:
        return (chance.choice((0, 0, 1, 2, 7)), chance.uniform(-2, 2))
    left, right = grow(chance, depth - 1), grow(chance, depth - 1)
    return (left[0] + right[0], chance.randrange(len(INPUTS)), chance.choice(THRESHOLDS), chance.random() < 0.5, left, right)


def grow_long(chance, inputs):
    """A tree with a path of this many inputs, some tested twice, and short ways off it."""
    places = list(range(inputs)) + [chance.randrange(inputs) for _ in range(inputs // 3)]
    chance.shuffle(places)
    tree = (3, chance.uniform(-2, 2))
    for place in places:
        off = (chance.choice((1, 2, 7)), chance.uniform(-2, 2))
        if chance.random() < 0.3:
            more = (4, chance.uniform(-2, 2))
            off = (off[0] + more[0], chance.randrange(inputs), chance.choice(THRESHOLDS), chance.random() < 0.5, off, more)
        left, right = (tree, off) if chance.random() < 0.5 else (off, tree)
        tree = (left[0] + right[0], place, chance.choice(THRESHOLDS), chance.random() < 0.5, left, right)
    return tree


def as_text(number, tree):
    """The tree as LightGBM writes it."""
    inner, leaves = [], []

    def add(node):
        if len(node) == 2:
            leaves.append(node)
            return -len(leaves)
        place = len(inner)
        inner.append(None)
        inner[place] = (node, add(node[4]), add(node[5]))
        return place
    add(tree)

    def line(name, values):
        return "%s=%s\n" % (name, " ".join(repr(value) for value in values))
    text = "Tree=%d\nnum_leaves=%d\nnum_cat=0\n" % (number, len(leaves))
    if inner:
        text += line("split_feature", (node[1] for node, _, _ in inner)) + line("split_gain", (1 for _ in inner))
        text += line("threshold", (node[2] for node, _, _ in inner))
        # missing values are NaN; bit 1: they go left
        text += line("decision_type", (8 + 2 * node[3] for node, _, _ in inner))
        text += line("left_child", (left for _, left, _ in inner)) + line("right_child", (right for _, _, right in inner))
    text += line("leaf_value", (value for _, value in leaves)) + line("leaf_weight", (float(cover) for cover, _ in leaves))
    text += line("leaf_count", (cover for cover, _ in leaves))
    if inner:
        text += line("internal_value", (0 for _ in inner)) + line("internal_weight", (0 for _ in inner))
        text += line("internal_count", (node[0] for node, _, _ in inner))
    return text + "is_linear=0\nshrinkage=1\n\n\n"


def model(trees, names=INPUTS, classes=1):
    blocks = [as_text(number, tree) for number, tree in enumerate(trees)]
    return ("tree\nversion=v4\nnum_class=%d\nnum_tree_per_iteration=%d\nlabel_index=0\nmax_feature_idx=%d\nobjective=%s\nfeature_names=%s\nfeature_infos=%s\ntree_sizes=%s\n\n"
            % (classes, classes, len(names) - 1, "regression" if classes == 1 else "multiclass num_class:%d" % classes, " ".join(names), " ".join("[-2:2]" for _ in names), " ".join(str(len(block)) for block in blocks))
            + "".join(blocks) + "end of trees\n")


def worth(tree, row, coalition):
    """What the tree says of the inputs in the coalition alone."""
    if len(tree) == 2:
        return tree[1]
    cover, place, threshold, missing_left, left, right = tree
    if place in coalition:
        value = row[place]
        return worth(left if (missing_left if value is None else value <= threshold) else right, row, coalition)
    return sum(side[0] / cover * worth(side, row, coalition) for side in (left, right)) if cover else 0.0


def shapley(trees, row):
    """input → its value, None → that of the empty coalition."""
    everybody = range(len(INPUTS))
    game = {coalition: sum(worth(tree, row, coalition) for tree in trees)
            for size in range(len(INPUTS) + 1) for coalition in itertools.combinations(everybody, size)}
    result = {None: game[()]}
    for place in everybody:
        result[INPUTS[place]] = sum(
            (game[tuple(sorted((*others, place)))] - game[others]) / (len(INPUTS) * math.comb(len(INPUTS) - 1, len(others)))
            for size in range(len(INPUTS)) for others in itertools.combinations([other for other in everybody if other != place], size))
    return result


def leaves(tree, row, path=None):
    """Each leaf's value, and for its path's inputs: does the row pass, what share of the training rows does."""
    path = path or {}
    if len(tree) == 2:
        yield tree[1], path
        return
    cover, place, threshold, missing_left, *sides = tree
    goes_left = missing_left if row[place] is None else row[place] <= threshold
    for side, passes in zip(sides, (goes_left, not goes_left)):
        one, zero = path.get(place, (1, 1.0))
        yield from leaves(side, row, {**path, place: (one * passes, zero * side[0] / cover)})


def times(polynomial, one, zero):
    """The polynomial times (one x + zero)."""
    result = [zero * value for value in polynomial] + [0.0]
    for power, value in enumerate(polynomial):
        result[power + 1] += one * value
    return result


def shapley_by_leaves(tree, row, names):
    """The same as shapley, of one tree.  Power k of a polynomial stands for coalitions of k inputs."""
    result = dict.fromkeys((None, *names), 0.0)
    for value, path in leaves(tree, row):
        result[None] += value * math.prod(zero for _, zero in path.values())
        for place, (one, zero) in path.items():
            polynomial = [value * (one - zero)]
            for other in path.keys() - {place}:
                polynomial = times(polynomial, *path[other])
            result[names[place]] += sum(part / (len(path) * math.comb(len(path) - 1, size)) for size, part in enumerate(polynomial))
    return result


def as_arguments(row):
    return ", ".join("NULL::float8" if value is None else "%r::float8" % value for value in row)


class Explain(unittest.TestCase):
    def check_row(self, connection, row, expected):
        values = as_arguments(row)
        self.check_contributions(connection, values, expected, connection.execute("SELECT visage_score('t', %s)" % values).fetchone()[0])

    def check_contributions(self, connection, values, expected, score):
        found = dict(connection.execute("SELECT feature, contribution FROM visage_explain('t', %s)" % values).fetchall())
        self.assertEqual({name for name, value in expected.items() if abs(value) > 1e-9} - set(found), set())
        for name, value in found.items():
            self.assertAlmostEqual(value, expected[name], delta=1e-9, msg=name)
        self.assertAlmostEqual(sum(found.values()), score, delta=1e-9)

    def test_against_all_coalitions(self):
        chance = random.Random(20261130)
        with house.Database("explain") as database, database.connect("engineer") as connection:
            for number in range(MODELS):
                trees = [grow(chance, chance.randint(0, 7)) for _ in range(chance.randint(1, 3))]
                connection.execute("SELECT visage_deploy('t', visage_import_model('t', %s::text, 'lightgbm'))", [model(trees)])
                for _ in range(ROWS):
                    row = [chance.choice((None, *THRESHOLDS, chance.uniform(-2, 2))) for _ in INPUTS]
                    with self.subTest(model=number, row=row):
                        self.check_row(connection, row, shapley(trees, row))

    def test_the_class_with_the_largest_sum(self):
        chance = random.Random(20261203)
        explained = set()
        with house.Database("explain_classes") as database, database.connect("engineer") as connection:
            for number in range(MODELS // 4):
                trees = [grow(chance, chance.randint(0, 6)) for _ in range(3 * chance.randint(1, 3))]
                connection.execute("SELECT visage_deploy('t', visage_import_model('t', %s::text, 'lightgbm'))", [model(trees, classes=3)])
                for _ in range(ROWS):
                    row = [chance.choice((None, *THRESHOLDS, chance.uniform(-2, 2))) for _ in INPUTS]
                    # trees take turns
                    sums = [sum(worth(tree, row, range(len(INPUTS))) for tree in trees[one::3]) for one in range(3)]
                    largest = sums.index(max(sums))
                    with self.subTest(model=number, row=row, sums=sums):
                        self.check_contributions(connection, as_arguments(row), shapley(trees[largest::3], row), sums[largest])
                    explained.add(largest)
        self.assertEqual(explained, {0, 1, 2})

    def test_long_paths(self):
        chance = random.Random(20261201)
        with house.Database("explain_long") as database, database.connect("engineer") as connection:
            for inputs in LONG:
                tree = grow_long(chance, inputs)
                names = ["i%d" % place for place in range(inputs)]
                connection.execute("SELECT visage_deploy('t', visage_import_model('t', %s::text, 'lightgbm'))", [model([tree], names)])
                for _ in range(4):
                    row = [chance.choice((None, *THRESHOLDS, chance.uniform(-2, 2))) for _ in names]
                    with self.subTest(inputs=inputs, row=row):
                        self.check_row(connection, row, shapley_by_leaves(tree, row, names))

    def test_an_ensemble_too_large_for_its_plan_to_be_kept(self):
        chance = random.Random(20261202)
        trees = [grow_long(chance, 40) for _ in range(30)]
        copies = 30
        names = ["i%d" % place for place in range(40)]
        # 40 bytes an inner node
        self.assertGreater(40 * copies * sum(len(list(leaves(tree, [0] * 40))) - 1 for tree in trees), 1024 * 1024)
        with house.Database("explain_large") as database, database.connect("engineer") as connection:
            connection.execute("SELECT visage_deploy('t', visage_import_model('t', %s::text, 'lightgbm'))", [model(trees * copies, names)])
            for _ in range(2):
                row = [chance.choice((None, *THRESHOLDS)) for _ in names]
                alone = [shapley_by_leaves(tree, row, names) for tree in trees]
                self.check_row(connection, row, {name: copies * sum(one[name] for one in alone) for name in (None, *names)})

    def test_trees_that_share_their_nodes(self):
        """Made up: an image whose trees are all the first one."""
        chance = random.Random(20261203)
        tree, copies = grow_long(chance, 12), 40
        names = ["i%d" % place for place in range(12)]
        with house.Database("explain_shared") as database, database.connect("engineer") as connection:
            connection.execute("SELECT visage_import_model('whole', %s::text, 'lightgbm')", [model([tree] * copies, names)])
            image = RankedImage(connection.execute("SELECT visage_export_model('whole@1')").fetchone()[0])
            size = 4 * len(TREE)
            first = image.trees["trees"]
            image.set("node_count", image.tree(0)["node_count"])
            image.set("dense_count", 0)
            for name in ("ranked_count", "paths"):
                image.set(name, 0)
            for number in range(1, copies):
                image.data[first + number * size:first + (number + 1) * size] = image.data[first:first + size]
            connection.execute("SELECT visage_deploy('t', visage_import_model('t', %s::bytea))", [image.sealed()])
            row = [chance.choice(THRESHOLDS) for _ in names]
            self.check_row(connection, row, {name: copies * value for name, value in shapley_by_leaves(tree, row, names).items()})


if __name__ == "__main__":
    unittest.main()

"""visage_explain against its definition: Shapley values by all coalitions, of
random trees that test an input again and again, some where no training row
went, for rows on a threshold and with missing values."""

import itertools
import math
import random
import unittest

import house

INPUTS = "abcdef"
THRESHOLDS = (-1.5, -0.5, 0.0, 0.5, 1.5)
ROWS = 12
MODELS = 40


def grow(chance, depth):
    """A tree: (cover, value), or (cover, input, threshold, missing goes left, left, right)."""
    if depth == 0 or chance.random() < 0.2:
        return (chance.choice((0, 0, 1, 2, 7)), chance.uniform(-2, 2))
    left, right = grow(chance, depth - 1), grow(chance, depth - 1)
    return (left[0] + right[0], chance.randrange(len(INPUTS)), chance.choice(THRESHOLDS), chance.random() < 0.5, left, right)


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


def model(trees):
    blocks = [as_text(number, tree) for number, tree in enumerate(trees)]
    return ("tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nlabel_index=0\nmax_feature_idx=%d\nobjective=regression\nfeature_names=%s\nfeature_infos=%s\ntree_sizes=%s\n\n"
            % (len(INPUTS) - 1, " ".join(INPUTS), " ".join("[-2:2]" for _ in INPUTS), " ".join(str(len(block)) for block in blocks))
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


class Explain(unittest.TestCase):
    def test_against_all_coalitions(self):
        chance = random.Random(20261130)
        with house.Database("explain") as database, database.connect("engineer") as connection:
            for number in range(MODELS):
                trees = [grow(chance, chance.randint(0, 7)) for _ in range(chance.randint(1, 3))]
                connection.execute("SELECT visage_deploy('t', visage_import_model('t', %s::text, 'lightgbm'))", [model(trees)])
                for _ in range(ROWS):
                    row = [chance.choice((None, *THRESHOLDS, chance.uniform(-2, 2))) for _ in INPUTS]
                    expected = shapley(trees, row)
                    values = ", ".join("NULL::float8" if value is None else "%r::float8" % value for value in row)
                    found = dict(connection.execute("SELECT feature, contribution FROM visage_explain('t', %s)" % values).fetchall())
                    score, = connection.execute("SELECT visage_score('t', %s)" % values).fetchone()
                    with self.subTest(model=number, row=row):
                        self.assertEqual({name for name, value in expected.items() if abs(value) > 1e-9} - set(found), set())
                        for name, value in found.items():
                            self.assertAlmostEqual(value, expected[name], delta=1e-9, msg=name)
                        self.assertAlmostEqual(sum(found.values()), score, delta=1e-9)


if __name__ == "__main__":
    unittest.main()

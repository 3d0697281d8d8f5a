"""Train models, convert them to ONNX, and keep what onnxruntime answers.

    generate_onnx.py --data ../shared/data [--into DIRECTORY] [NAME…]

For each case writes NAME.onnx and NAME.json: the inputs' names and types,
rows (None for NULL; "NaN", "Infinity" and "-Infinity" as texts), the
outputs' names, the scores of onnxruntime on one thread, and the classes it
chose.  generate_onnx_trained.py makes the models that take minutes.
"""

import argparse
import json
import math
import os
import sys
import warnings

import numpy as np
import onnx
import onnxruntime
import pandas as pd
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from sklearn import ensemble, linear_model, neural_network, svm, tree
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_iris
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (Binarizer, MaxAbsScaler, MinMaxScaler, Normalizer, OneHotEncoder, OrdinalEncoder,
                                   RobustScaler, StandardScaler)
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, Int64TensorType, StringTensorType

warnings.filterwarnings('ignore')
ROWS = 60
SEED = 20
CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


# ---- data ----

def bank(data):
    """The bank-marketing set; target 1 for yes."""
    frame = pd.read_csv(os.path.join(data, 'bank_marketing', 'bank-full.csv.gz'), sep=';')
    return frame.drop(columns=['y', 'duration']), (frame['y'] == 'yes').astype(int)


NUMBERS = ['age', 'balance', 'day', 'campaign', 'pdays', 'previous']
TEXTS = ['job', 'marital', 'education', 'default', 'housing', 'loan', 'contact', 'month', 'poutcome']


def iris():
    bunch = load_iris()
    return bunch.data, bunch.target, bunch.target_names


def diabetes():
    bunch = load_diabetes(scaled=False)
    return bunch.data, bunch.target


# ---- rows that hurt ----

def hard_numbers(matrix, thresholds=(), missing=False):
    """Some rows of a matrix, and such with extreme or exact values."""
    generator = np.random.default_rng(SEED)
    rows = matrix[generator.choice(len(matrix), min(ROWS, len(matrix)), replace=False)].astype(float)
    special = [np.inf, -np.inf, 0.0, -0.0, 1e-40, -1e-300, 1e30, -1e30]
    extra = rows[:24].copy()
    for i, row in enumerate(extra):
        column = i % row.size
        row[column] = special[i % len(special)]
    rows = [rows, extra]
    if len(thresholds):
        at = rows[0][:len(thresholds)].copy()
        for row, (feature, value) in zip(at, thresholds):
            row[feature] = value
        rows.append(at)
    if missing:
        holes = rows[0][:20].copy()
        holes[generator.random(holes.shape) < 0.3] = np.nan
        holes[0] = np.nan
        rows.append(holes)
    return np.concatenate(rows)


def thresholds_of(model):
    """Values that tests of a converted model compare with, by feature."""
    found = []
    for node in model.graph.node:
        if not node.op_type.startswith('TreeEnsemble'):
            continue
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        for feature, value, mode in zip(attributes.get('nodes_featureids', []), attributes.get('nodes_values', []),
                                        attributes.get('nodes_modes', [])):
            if mode != b'LEAF':
                found.append((feature, value))
    generator = np.random.default_rng(SEED)
    generator.shuffle(found)
    return [(int(feature), float(value)) for feature, value in found[:30]]


# ---- writing ----

def plain(value):
    """A value as JSON has it."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    value = float(value)
    if math.isnan(value):
        return 'NaN'
    if math.isinf(value):
        return 'Infinity' if value > 0 else '-Infinity'
    return value


def run(model, feeds):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=['CPUExecutionProvider'])
    return [o.name for o in session.get_outputs()], session.run(None, feeds)


def expected(model, feeds, outputs=None, reference=False):
    """(names of the outputs, scores by row, classes by row)."""
    names, results = run(model, feeds)
    if reference:
        results = ReferenceEvaluator(model).run(None, feeds)
    labels = scores = classes = None
    for name, result in zip(names, results):
        if outputs and name != outputs:
            continue
        if isinstance(result, list):
            classes = [str(key) for key in result[0]]
            scores = [[row[key] for key in row] for row in result]
        elif result.dtype.kind == 'f':
            scores = result.reshape(len(result), -1)
            classes = classes or [name] if scores.shape[1] == 1 else classes
        else:
            labels = [str(v) for v in result.reshape(-1)]
    return classes, scores, labels


def write(into, name, model, names, types, rows, feeds, tolerance=0.0, options=None, outputs=None, reference=False):
    classes, scores, labels = expected(model, feeds, outputs, reference)
    base = os.path.join(into, name)
    onnx.save(model, base + '.onnx')
    with open(base + '.json', 'w') as file:
        json.dump({
            'inputs': [{'name': n, 'type': t} for n, t in zip(names, types)],
            'options': options or {},
            'rows': [[plain(v) for v in row] for row in rows],
            'outputs': classes,
            'scores': None if scores is None else [[plain(v) for v in row] for row in scores],
            'classes': labels,
            'tolerance': tolerance,
        }, file)
        file.write('\n')


def write_matrix(into, name, model, matrix, dtype=np.float32, **rest):
    """A model with one tensor as input."""
    initial = model.graph.input[0].name
    matrix = matrix.astype(dtype)
    kind = 'float8' if dtype == np.float64 else 'float4'
    names = [f'f{i}' for i in range(matrix.shape[1])]
    if matrix.shape[1] == 1:
        names = [initial]
    write(into, name, model, names, [kind] * matrix.shape[1], matrix.tolist(), {initial: matrix}, **rest)


def convert(model, width, dtype=FloatTensorType, **options):
    return convert_sklearn(model, initial_types=[('input', dtype([None, width]))], target_opset={'': 17, 'ai.onnx.ml': 3},
                           options=options or None)


def convert_frame(pipeline, frame):
    types = [(c, StringTensorType([None, 1]) if frame[c].dtype == object else
              Int64TensorType([None, 1]) if frame[c].dtype.kind == 'i' else FloatTensorType([None, 1])) for c in frame]
    return convert_sklearn(pipeline, initial_types=types, target_opset={'': 17, 'ai.onnx.ml': 3})


def write_frame(into, name, model, frame, **rest):
    """A model with an input for each column.  A text None is fed as ''."""
    wanted = [i.name for i in model.graph.input]
    frame = frame[wanted]
    feeds, types = {}, []
    for column in wanted:
        values = frame[column]
        if values.dtype == object:
            types.append('text')
            feeds[column] = np.array([[v if isinstance(v, str) else ''] for v in values], dtype=object)
        else:
            integer = values.dtype.kind == 'i'
            types.append('int8' if integer else 'float4')
            feeds[column] = values.to_numpy(np.int64 if integer else np.float32).reshape(-1, 1)
    rows = [[None if isinstance(v, float) and math.isnan(v) and t == 'text' else
             np.float32(v) if t == 'float4' else v for v, t in zip(row, types)]
            for row in frame.astype(object).itertuples(index=False)]
    write(into, name, model, wanted, types, rows, feeds, **rest)


def some_rows(frame, unseen=True):
    """Rows of a frame, with categories and values that training had not."""
    rows = frame.sample(ROWS, random_state=SEED).copy()
    if unseen:
        for i, column in enumerate(c for c in rows if rows[c].dtype == object):
            rows.iloc[i, rows.columns.get_loc(column)] = 'never seen'
            rows.iloc[i + 20, rows.columns.get_loc(column)] = None
    return rows


# ---- pipelines with a ColumnTransformer ----

def transformer(numbers=StandardScaler, texts=lambda: OneHotEncoder(handle_unknown='ignore')):
    return ColumnTransformer([('numbers', numbers(), NUMBERS), ('texts', texts(), TEXTS)])


def bank_pipeline(data, estimator, rows=8000, **parts):
    frame, target = bank(data)
    frame[NUMBERS] = frame[NUMBERS].astype(np.float32)
    sample = frame.sample(rows, random_state=SEED)
    pipeline = make_pipeline(transformer(**parts), estimator)
    pipeline.fit(sample, target[sample.index])
    return pipeline, frame


@case
def pipeline_logistic(data, into, name):
    pipeline, frame = bank_pipeline(data, linear_model.LogisticRegression(max_iter=1000))
    write_frame(into, name, convert_frame(pipeline, frame), some_rows(frame), tolerance=1e-6)


@case
def pipeline_forest(data, into, name):
    pipeline, frame = bank_pipeline(data, ensemble.RandomForestClassifier(12, max_depth=6, random_state=1),
                                    numbers=lambda: SimpleImputer(strategy='median'))
    rows = some_rows(frame)
    rows.iloc[5, rows.columns.get_loc('age')] = np.nan
    rows.iloc[6, rows.columns.get_loc('balance')] = np.nan
    write_frame(into, name, convert_frame(pipeline, frame), rows)


@case
def pipeline_ordinal_boosting(data, into, name):
    encoder = lambda: OrdinalEncoder(handle_unknown='use_encoded_value', unknown_value=-1)
    pipeline, frame = bank_pipeline(data, ensemble.GradientBoostingClassifier(n_estimators=15, random_state=1),
                                    texts=encoder, numbers=lambda: make_pipeline(SimpleImputer(), MinMaxScaler()))
    write_frame(into, name, convert_frame(pipeline, frame), some_rows(frame))


@case
def pipeline_text_classes(data, into, name):
    frame, _ = bank(data)
    frame[NUMBERS] = frame[NUMBERS].astype(np.float32)
    sample = frame.sample(4000, random_state=SEED)
    columns = [c for c in TEXTS if c != 'job']
    pipeline = make_pipeline(ColumnTransformer([
        ('numbers', RobustScaler(), NUMBERS), ('texts', OneHotEncoder(handle_unknown='ignore'), columns)]),
        linear_model.LogisticRegression(max_iter=300))
    pipeline.fit(sample[NUMBERS + columns], sample['job'])
    frame = frame[NUMBERS + columns]
    write_frame(into, name, convert_frame(pipeline, frame), some_rows(frame), tolerance=2e-6)


@case
def pipeline_integers(data, into, name):
    frame, target = bank(data)
    frame = frame[NUMBERS + ['marital', 'month']].sample(4000, random_state=SEED)
    for column in NUMBERS:
        frame[column] = frame[column].astype(np.int64)
    pipeline = make_pipeline(ColumnTransformer([
        ('number', StandardScaler(), ['age', 'balance']),
        ('one', OneHotEncoder(handle_unknown='ignore'), ['day', 'marital', 'month']),
        ('keep', 'passthrough', ['campaign', 'previous'])]), linear_model.LogisticRegression(max_iter=500))
    pipeline.fit(frame, target[frame.index])
    model = convert_frame(pipeline, frame)
    rows = frame.sample(ROWS, random_state=SEED).copy()
    rows.iloc[0, rows.columns.get_loc('day')] = 99
    write_frame(into, name, model, rows, tolerance=1e-6)


# ---- trees ----

def tree_case(into, name, estimator, matrix, target, missing=False, dtype=FloatTensorType):
    estimator.fit(matrix.astype(np.float32), target)
    write_trees(into, name, convert(estimator, matrix.shape[1], dtype), matrix, missing, dtype)


# onnxruntime's softmax has an exp of its own: other last bits than libm's.
SOFTMAX = 3e-7


def write_trees(into, name, model, matrix, missing, dtype=FloatTensorType):
    """The model as it is, and, where softmax follows, its sums before that."""
    rows = hard_numbers(matrix, thresholds_of(model), missing)
    numbers = np.float64 if dtype == DoubleTensorType else np.float32
    links = [a for node in model.graph.node for a in node.attribute if a.name == 'post_transform' and a.s == b'SOFTMAX']
    write_matrix(into, name, model, rows, numbers, tolerance=SOFTMAX if links else 0.0)
    if links:
        links[0].s = b'NONE'
        write_matrix(into, name + '_sums', model, rows, numbers)


@case
def tree_iris(data, into, name):
    matrix, target, names = iris()
    tree_case(into, name, tree.DecisionTreeClassifier(max_depth=4, random_state=1), matrix, names[target])


@case
def forest_iris(data, into, name):
    matrix, target, _ = iris()
    tree_case(into, name, ensemble.RandomForestClassifier(20, max_depth=5, random_state=1), matrix, target)


@case
def forest_binary(data, into, name):
    matrix, target, _ = iris()
    tree_case(into, name, ensemble.RandomForestClassifier(20, max_depth=5, random_state=1), matrix, target == 1)


@case
def extra_trees_regression(data, into, name):
    tree_case(into, name, ensemble.ExtraTreesRegressor(15, max_depth=6, random_state=1), *diabetes())


@case
def boosting_binary(data, into, name):
    matrix, target = diabetes()
    tree_case(into, name, ensemble.GradientBoostingClassifier(n_estimators=25, random_state=1), matrix,
              (target > 140).astype(int))


@case
def boosting_iris(data, into, name):
    matrix, target, _ = iris()
    tree_case(into, name, ensemble.GradientBoostingClassifier(n_estimators=10, random_state=1), matrix, target)


@case
def boosting_regression(data, into, name):
    tree_case(into, name, ensemble.GradientBoostingRegressor(n_estimators=25, random_state=1), *diabetes())


def with_holes(matrix):
    matrix = matrix.copy()
    matrix[np.random.default_rng(3).random(matrix.shape) < 0.1] = np.nan
    return matrix


@case
def histogram_regression(data, into, name):
    matrix, target = diabetes()
    tree_case(into, name, ensemble.HistGradientBoostingRegressor(max_iter=15, max_leaf_nodes=12, random_state=1),
              with_holes(matrix), target, missing=True)


@case
def histogram_binary(data, into, name):
    matrix, target = diabetes()
    tree_case(into, name, ensemble.HistGradientBoostingClassifier(max_iter=15, max_leaf_nodes=12, random_state=1),
              with_holes(matrix), (target > 140).astype(int), missing=True)


@case
def histogram_iris(data, into, name):
    matrix, target, _ = iris()
    tree_case(into, name, ensemble.HistGradientBoostingClassifier(max_iter=8, random_state=1), matrix, target,
              missing=True)


@case
def forest_double(data, into, name):
    matrix, target = diabetes()
    tree_case(into, name, ensemble.RandomForestClassifier(8, max_depth=5, random_state=1), matrix,
              (target > 140).astype(int), dtype=DoubleTensorType)


@case
def isolation(data, into, name):
    matrix, _ = diabetes()
    estimator = ensemble.IsolationForest(n_estimators=5, random_state=1).fit(matrix.astype(np.float32))
    model = convert_sklearn(estimator, initial_types=[('input', FloatTensorType([None, matrix.shape[1]]))],
                            target_opset={'': 17, 'ai.onnx.ml': 3})
    write_matrix(into, name, model, hard_numbers(matrix), options={'output': 'scores'}, outputs='scores',
                 tolerance=1e-6)


# ---- other libraries, through onnxmltools ----

def other(into, name, convert_function, estimator, matrix, target):
    estimator.fit(matrix, target)
    from onnxmltools.convert.common.data_types import FloatTensorType as Other
    model = convert_function(estimator, initial_types=[('input', Other([None, matrix.shape[1]]))], target_opset=15)
    write_trees(into, name, model, matrix, True)


@case
def xgboost_binary(data, into, name):
    import onnxmltools, xgboost
    matrix, target = diabetes()
    other(into, name, onnxmltools.convert_xgboost, xgboost.XGBClassifier(n_estimators=15, max_depth=4, base_score=0.4),
          with_holes(matrix), (target > 140).astype(int))


@case
def xgboost_iris(data, into, name):
    import onnxmltools, xgboost
    matrix, target, _ = iris()
    other(into, name, onnxmltools.convert_xgboost, xgboost.XGBClassifier(n_estimators=6, max_depth=3), matrix, target)


@case
def xgboost_regression(data, into, name):
    import onnxmltools, xgboost
    matrix, target = diabetes()
    other(into, name, onnxmltools.convert_xgboost, xgboost.XGBRegressor(n_estimators=15, max_depth=4, base_score=150),
          with_holes(matrix), target)


@case
def xgboost_poisson(data, into, name):
    import onnxmltools, xgboost
    matrix, target = diabetes()
    other(into, name, onnxmltools.convert_xgboost, xgboost.XGBRegressor(objective='count:poisson', n_estimators=10,
                                                                        max_depth=3, base_score=0.5),
          matrix, np.floor(target / 10))


@case
def lightgbm_binary(data, into, name):
    import lightgbm, onnxmltools
    matrix, target = diabetes()
    other(into, name, onnxmltools.convert_lightgbm, lightgbm.LGBMClassifier(n_estimators=15, num_leaves=12, verbose=-1),
          with_holes(matrix), (target > 140).astype(int))


@case
def lightgbm_iris(data, into, name):
    import lightgbm, onnxmltools
    matrix, target, _ = iris()
    other(into, name, onnxmltools.convert_lightgbm, lightgbm.LGBMClassifier(n_estimators=6, num_leaves=8, verbose=-1),
          matrix, target)


@case
def lightgbm_regression(data, into, name):
    import lightgbm, onnxmltools
    matrix, target = diabetes()
    other(into, name, onnxmltools.convert_lightgbm, lightgbm.LGBMRegressor(n_estimators=15, num_leaves=12, verbose=-1),
          with_holes(matrix), target)


# ---- linear and the like ----

def matrix_case(into, name, estimator, matrix, target, tolerance, dtype=FloatTensorType, **options):
    estimator.fit(matrix, target)
    model = convert(estimator, matrix.shape[1], dtype, **options)
    generator = np.random.default_rng(SEED)
    rows = matrix[generator.choice(len(matrix), ROWS, replace=False)]
    write_matrix(into, name, model, rows, np.float64 if dtype == DoubleTensorType else np.float32,
                 tolerance=tolerance)


@case
def linear_regression(data, into, name):
    matrix_case(into, name, linear_model.LinearRegression(), *diabetes(), tolerance=1e-5)


@case
def linear_double(data, into, name):
    matrix_case(into, name, make_pipeline(StandardScaler(), linear_model.Ridge()), *diabetes(), tolerance=1e-9,
                dtype=DoubleTensorType)


@case
def logistic_double(data, into, name):
    matrix, target = diabetes()
    matrix_case(into, name, make_pipeline(StandardScaler(), linear_model.LogisticRegression()), matrix,
                (target > 140).astype(int), tolerance=1e-9, dtype=DoubleTensorType, zipmap=False)


@case
def logistic_iris(data, into, name):
    matrix, target, names = iris()
    matrix_case(into, name, make_pipeline(Normalizer(), MaxAbsScaler(), linear_model.LogisticRegression()), matrix,
                names[target], tolerance=1e-6)


@case
def logistic_one_against_rest(data, into, name):
    matrix, target, _ = iris()
    matrix_case(into, name, linear_model.LogisticRegression(multi_class='ovr'), matrix, target, tolerance=1e-6)


@case
def network_iris(data, into, name):
    matrix, target, _ = iris()
    matrix_case(into, name, make_pipeline(StandardScaler(), neural_network.MLPClassifier((8, 5), max_iter=400,
                                                                                        random_state=1)),
                matrix, target, tolerance=1e-6)


@case
def network_regression(data, into, name):
    matrix_case(into, name, make_pipeline(StandardScaler(), neural_network.MLPRegressor(
        (8,), activation='tanh', max_iter=300, random_state=1)), *diabetes(), tolerance=1e-5)


@case
def support_vectors_linear(data, into, name):
    matrix, target, _ = iris()
    matrix_case(into, name, svm.LinearSVC(random_state=1), matrix, target, tolerance=1e-5)


@case
def stochastic_gradient(data, into, name):
    matrix, target = diabetes()
    matrix_case(into, name, make_pipeline(StandardScaler(), Binarizer(threshold=0.1), linear_model.SGDClassifier(
        loss='log_loss', random_state=1)), matrix, (target > 140).astype(int), tolerance=1e-6)


# ---- operators one by one, made by hand ----

def graph_case(into, name, nodes, inputs, outputs, initializers, feeds, rows, names, types, ml=3, **rest):
    graph = helper.make_graph(nodes, name, inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17), helper.make_opsetid('ai.onnx.ml', ml)],
                              ir_version=9, producer_name='visage test')
    onnx.checker.check_model(model)
    write(into, name, model, names, types, rows, feeds, **rest)


def one_tree(**more):
    """Attributes of two trees over two features; leaf 2 of each is missing's."""
    attributes = {
        'nodes_treeids': [0, 0, 0, 1, 1, 1, 1, 1], 'nodes_nodeids': [0, 1, 2, 0, 1, 2, 3, 4],
        'nodes_featureids': [0, 0, 0, 1, 0, 0, 0, 0], 'nodes_values': [0.5, 0, 0, -1.25, 0.1, 0, 0, 0],
        'nodes_modes': ['BRANCH_LEQ', 'LEAF', 'LEAF', 'BRANCH_LT', 'BRANCH_GTE', 'LEAF', 'LEAF', 'LEAF'],
        'nodes_truenodeids': [1, 0, 0, 1, 3, 0, 0, 0], 'nodes_falsenodeids': [2, 0, 0, 2, 4, 0, 0, 0],
        'nodes_missing_value_tracks_true': [1, 0, 0, 0, 1, 0, 0, 0],
        'nodes_hitrates': [1.0] * 8,
    }
    attributes.update(more)
    return attributes


PLACES = np.array([[a, b] for a in (-np.inf, -2, 0.1, 0.5, 0.50000006, 3, np.nan, np.inf)
                   for b in (-1.25, -1.2500001, 0, np.nan)], np.float32)


def classifier_case(into, name, post, positive, base, ids=0, **rest):
    weights = [0.3, 0.1, 0.35, 0.2, 0.4] if positive else [-0.3, 0.1, 0.75, -0.2, 0.4]
    attributes = one_tree(class_treeids=[0, 0, 1, 1, 1], class_nodeids=[1, 2, 2, 3, 4], class_ids=[ids] * 5,
                          class_weights=weights, classlabels_int64s=[0, 1], post_transform=post)
    if base is not None:
        attributes['base_values'] = base
    node = helper.make_node('TreeEnsembleClassifier', ['input'], ['label', 'scores'], domain='ai.onnx.ml',
                            **attributes)
    graph_case(into, name, [node], [helper.make_tensor_value_info('input', TensorProto.FLOAT, [None, 2])],
               [helper.make_tensor_value_info('label', TensorProto.INT64, [None]),
                helper.make_tensor_value_info('scores', TensorProto.FLOAT, [None, 2])], [],
               {'input': PLACES}, PLACES.tolist(), ['f0', 'f1'], ['float4', 'float4'], **rest)


for post in ('NONE', 'LOGISTIC', 'SOFTMAX'):
    for positive in (False, True):
        for base in (None, [0.1]):
            def made(data, into, name, post=post, positive=positive, base=base):
                classifier_case(into, name, post, positive, base)
            made.__name__ = f'classifier_{post.lower()}_{"votes" if positive else "signs"}_{"base" if base else "plain"}'
            case(made)


def regressor_case(into, name, aggregate, targets, base):
    count = 5 * targets
    weights = [float(np.float32(v)) for v in np.linspace(-1.3, 2.9, count)]
    attributes = one_tree(
        target_treeids=[0] * (2 * targets) + [1] * (3 * targets),
        target_nodeids=[n for n in (1, 2) for _ in range(targets)] + [n for n in (2, 3, 4) for _ in range(targets)],
        target_ids=list(range(targets)) * 5, target_weights=weights, n_targets=targets, aggregate_function=aggregate)
    if base:
        attributes['base_values'] = base
    node = helper.make_node('TreeEnsembleRegressor', ['input'], ['value'], domain='ai.onnx.ml', **attributes)
    graph_case(into, name, [node], [helper.make_tensor_value_info('input', TensorProto.FLOAT, [None, 2])],
               [helper.make_tensor_value_info('value', TensorProto.FLOAT, [None, targets])], [],
               {'input': PLACES}, PLACES.tolist(), ['f0', 'f1'], ['float4', 'float4'])


for aggregate in ('SUM', 'AVERAGE', 'MIN', 'MAX'):
    for targets in (1, 3):
        def made(data, into, name, aggregate=aggregate, targets=targets):
            regressor_case(into, name, aggregate, targets, [0.7, -0.1, 1.5][:targets] if aggregate != 'MIN' else None)
        made.__name__ = f'regressor_{aggregate.lower()}_{targets}'
        case(made)


@case
def ensemble_version_5(data, into, name):
    """TreeEnsemble of operator set 5, with a set and several targets: as ONNX's
    own reference answers, since onnxruntime 1.22 mixes the targets up."""
    def tensor(values, kind=TensorProto.FLOAT):
        return helper.make_tensor('t', kind, [len(values)], values)
    node = helper.make_node(
        'TreeEnsemble', ['input'], ['value'], domain='ai.onnx.ml', n_targets=2, aggregate_function=1, post_transform=0,
        tree_roots=[0, 2], nodes_featureids=[0, 1, 1], nodes_modes=tensor([0, 4, 6], TensorProto.UINT8),
        nodes_splits=tensor([0.5, 0.0, 0.0]), nodes_truenodeids=[1, 0, 3], nodes_trueleafs=[0, 1, 1],
        nodes_falsenodeids=[1, 2, 4], nodes_falseleafs=[1, 1, 1],
        nodes_missing_value_tracks_true=[0, 0, 0], nodes_hitrates=tensor([1.0, 1.0, 1.0]),
        membership_values=tensor([1.0, 3.0, 7.0, float('nan')]),
        leaf_targetids=[0, 1, 0, 1, 0], leaf_weights=tensor([1.5, -2.0, 0.25, 4.0, 8.0]))
    rows = np.array([[a, b] for a in (-1, 0.5, 0.6) for b in (0, 1, 2, 3, 3.5, 7, 8, -1)], np.float32)
    graph_case(into, name, [node], [helper.make_tensor_value_info('input', TensorProto.FLOAT, [None, 2])],
               [helper.make_tensor_value_info('value', TensorProto.FLOAT, [None, 2])], [], {'input': rows},
               rows.tolist(), ['f0', 'f1'], ['float4', 'float4'], ml=5, reference=True)


@case
def encoders(data, into, name):
    """Texts to texts to numbers, one-hot of integers, arithmetic, Where."""
    nodes = [
        helper.make_node('LabelEncoder', ['colour'], ['short'], domain='ai.onnx.ml', keys_strings=['red', 'green', ''],
                         values_strings=['r', 'g', 'none'], default_string='other'),
        helper.make_node('LabelEncoder', ['short'], ['code'], domain='ai.onnx.ml',
                         keys_strings=['r', 'g', 'other', 'none'], values_floats=[1.5, -2.0, 7.0, 0.125],
                         default_float=99.0),
        helper.make_node('OneHotEncoder', ['size'], ['hot3'], domain='ai.onnx.ml', cats_int64s=[1, 2, 40], zeros=1),
        helper.make_node('Reshape', ['hot3', 'shape'], ['hot']),
        helper.make_node('Cast', ['size'], ['size_float'], to=TensorProto.FLOAT),
        helper.make_node('Div', ['size_float', 'three'], ['third']),
        helper.make_node('Concat', ['code', 'hot', 'third', 'price'], ['all'], axis=1),
        helper.make_node('Imputer', ['all'], ['filled'], domain='ai.onnx.ml', imputed_value_floats=[2.5],
                         replaced_value_float=float('nan')),
        helper.make_node('Greater', ['filled', 'limit'], ['large']),
        helper.make_node('Where', ['large', 'limit', 'filled'], ['capped']),
        helper.make_node('Scaler', ['capped'], ['scaled'], domain='ai.onnx.ml', offset=[0.5], scale=[0.3]),
        helper.make_node('ReduceSum', ['scaled', 'axis'], ['sum'], keepdims=1),
        helper.make_node('Sigmoid', ['sum'], ['value']),
    ]
    initializers = [helper.make_tensor('shape', TensorProto.INT64, [2], [-1, 3]),
                    helper.make_tensor('three', TensorProto.FLOAT, [1], [3.0]),
                    helper.make_tensor('limit', TensorProto.FLOAT, [1], [5.0]),
                    helper.make_tensor('axis', TensorProto.INT64, [1], [1])]
    rows = [[c, s, p] for c in ('red', 'green', 'blue', None) for s in (1, 2, 40, 41, -3) for p in (0.1, 9.0, float('nan'))]
    feeds = {'colour': np.array([[r[0] or ''] for r in rows], dtype=object),
             'size': np.array([[r[1]] for r in rows], np.int64), 'price': np.array([[r[2]] for r in rows], np.float32)}
    graph_case(into, name, nodes, [helper.make_tensor_value_info('colour', TensorProto.STRING, [None, 1]),
                                   helper.make_tensor_value_info('size', TensorProto.INT64, [None, 1]),
                                   helper.make_tensor_value_info('price', TensorProto.FLOAT, [None, 1])],
               [helper.make_tensor_value_info('value', TensorProto.FLOAT, [None, 1])], initializers, feeds,
               [[r[0], r[1], np.float32(r[2])] for r in rows], ['colour', 'size', 'price'], ['text', 'int8', 'float4'],
               tolerance=1e-6)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', required=True)
    parser.add_argument('--into', default=os.path.join(os.path.dirname(os.path.abspath(__file__)), 'onnx'))
    parser.add_argument('names', nargs='*')
    arguments = parser.parse_args()
    os.makedirs(arguments.into, exist_ok=True)
    for name, function in CASES.items():
        if not arguments.names or name in arguments.names:
            function(arguments.data, arguments.into, name)
            print(name, file=sys.stderr)


if __name__ == '__main__':
    main()

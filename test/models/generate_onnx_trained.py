"""Train whole pipelines on ../shared/data, convert them to ONNX, and keep what
onnxruntime answers.

    generate_onnx_trained.py --into DIRECTORY [--small] [--part I/N] [NAME…]

Each kind of estimator of ESTIMATORS on two of the four data sets, and a model
of some 50 MB; files as generate_onnx.py writes them.  --small makes the few
that are kept.  VISAGE_SHARED says where ../shared is.  The rows are real ones,
with categories that training never saw, missing, infinite and denormal numbers,
and values exactly on a threshold and the next numbers to it.
"""

import warnings

import lightgbm
import numpy as np
import xgboost
from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm
from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
from skl2onnx import convert_sklearn, update_registered_converter
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from skl2onnx.common.shape_calculator import (calculate_linear_classifier_output_shapes,
                                              calculate_linear_regressor_output_shapes)
from sklearn import ensemble, linear_model, neural_network, tree
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

import datasets
from datasets import generate, hard_rows, numbers_of, texts_of
from generate_onnx import SOFTMAX, thresholds_of, write_frame

warnings.filterwarnings('ignore')
SPECIAL = [np.inf, -np.inf, np.nan, 0.0, -0.0, 1e-40, -1e-40, 1e-30, 1e30, -1e30]


def beside(edges):
    """Each number, and its neighbours in float32."""
    return [(column, np.float32(value) if towards is None else np.nextafter(np.float32(value), np.float32(towards)))
            for column, value in edges for towards in (None, np.inf, -np.inf)]


# ---- pipelines ----

def scaled(frame):
    """For sums: numbers imputed and scaled, texts one-hot."""
    return ColumnTransformer([
        ('numbers', make_pipeline(SimpleImputer(strategy='median'), StandardScaler()), numbers_of(frame)),
        ('texts', OneHotEncoder(handle_unknown='ignore', min_frequency=0.01), texts_of(frame))])


def hot(frame):
    """For trees: numbers imputed only, texts one-hot."""
    return ColumnTransformer([
        ('numbers', SimpleImputer(strategy='mean'), numbers_of(frame)),
        ('texts', OneHotEncoder(handle_unknown='ignore', min_frequency=0.01), texts_of(frame))])


def ordinal(frame):
    """For trees that know missing values: numbers as they are, texts as codes."""
    return ColumnTransformer([
        ('numbers', 'passthrough', numbers_of(frame)),
        ('texts', OrdinalEncoder(handle_unknown='use_encoded_value', unknown_value=-1), texts_of(frame))])


def numeric(frame):
    """Numbers alone, as they are."""
    return ColumnTransformer([('numbers', 'passthrough', numbers_of(frame))])


# name: (target, columns, estimator, tolerance)
LINEAR = 2e-6
ESTIMATORS = {
    'logistic': ('binary', scaled, lambda: linear_model.LogisticRegression(max_iter=300), LINEAR),
    'logistic_classes': ('multi', scaled, lambda: linear_model.LogisticRegression(max_iter=300), LINEAR),
    'stochastic': ('binary', scaled, lambda: linear_model.SGDClassifier(loss='log_loss', random_state=1), LINEAR),
    'network': ('binary', scaled, lambda: neural_network.MLPClassifier((12, 6), max_iter=15, random_state=1), 1e-5),
    'ridge': ('value', scaled, lambda: linear_model.Ridge(), LINEAR),
    'poisson': ('count', scaled, lambda: linear_model.PoissonRegressor(), 1e-5),
    'tree': ('binary', hot, lambda: tree.DecisionTreeClassifier(max_depth=7, random_state=1), 0.0),
    'tree_value': ('value', hot, lambda: tree.DecisionTreeRegressor(max_depth=8, random_state=1), 0.0),
    'forest': ('binary', hot, lambda: ensemble.RandomForestClassifier(15, max_depth=8, random_state=1), 0.0),
    'forest_classes': ('multi', ordinal, lambda: ensemble.RandomForestClassifier(10, max_depth=7, random_state=1), 0.0),
    'extra_trees': ('value', hot, lambda: ensemble.ExtraTreesRegressor(10, max_depth=8, random_state=1), 0.0),
    'boosting': ('binary', hot, lambda: ensemble.GradientBoostingClassifier(n_estimators=30, random_state=1), 0.0),
    'boosting_classes': ('multi', hot, lambda: ensemble.GradientBoostingClassifier(n_estimators=6, random_state=1),
                         SOFTMAX),
    'boosting_value': ('value', hot, lambda: ensemble.GradientBoostingRegressor(n_estimators=30, random_state=1), 0.0),
    'histogram': ('binary', ordinal, lambda: ensemble.HistGradientBoostingClassifier(max_iter=20, random_state=1), 0.0),
    'histogram_classes': ('multi', ordinal, lambda: ensemble.HistGradientBoostingClassifier(max_iter=6, random_state=1),
                          SOFTMAX),
    'histogram_value': ('value', ordinal, lambda: ensemble.HistGradientBoostingRegressor(max_iter=20, random_state=1), 0.0),
    'histogram_poisson': ('count', ordinal, lambda: ensemble.HistGradientBoostingRegressor(
        loss='poisson', max_iter=20, random_state=1), 1e-6),
    'xgboost': ('binary', numeric, lambda: xgboost.XGBClassifier(n_estimators=25, max_depth=5, nthread=1), 0.0),
    'xgboost_classes': ('multi', numeric, lambda: xgboost.XGBClassifier(n_estimators=8, max_depth=4, nthread=1), SOFTMAX),
    'xgboost_value': ('value', numeric, lambda: xgboost.XGBRegressor(n_estimators=25, max_depth=5, nthread=1), 0.0),
    'xgboost_poisson': ('count', numeric, lambda: xgboost.XGBRegressor(
        objective='count:poisson', n_estimators=20, max_depth=4, base_score=1.0, nthread=1), 1e-6),
    'lightgbm': ('binary', numeric, lambda: lightgbm.LGBMClassifier(n_estimators=25, n_jobs=1, verbose=-1), 0.0),
    'lightgbm_classes': ('multi', numeric, lambda: lightgbm.LGBMClassifier(n_estimators=8, n_jobs=1, verbose=-1), SOFTMAX),
    'lightgbm_value': ('value', numeric, lambda: lightgbm.LGBMRegressor(n_estimators=25, n_jobs=1, verbose=-1), 0.0),
    'lightgbm_poisson': ('count', numeric, lambda: lightgbm.LGBMRegressor(
        objective='poisson', n_estimators=20, n_jobs=1, verbose=-1), 1e-6),
}
SMALL = [('logistic', 'hotel'), ('boosting_value', 'hotel'), ('histogram', 'bank'), ('xgboost_poisson', 'credit')]


def register():
    """Teaches skl2onnx the converters of onnxmltools."""
    for estimator, alias, shape, converter in (
            (xgboost.XGBClassifier, 'XGBoostXGBClassifier', calculate_linear_classifier_output_shapes, convert_xgboost),
            (xgboost.XGBRegressor, 'XGBoostXGBRegressor', calculate_linear_regressor_output_shapes, convert_xgboost),
            (lightgbm.LGBMClassifier, 'LightGbmLGBMClassifier', calculate_linear_classifier_output_shapes, convert_lightgbm),
            (lightgbm.LGBMRegressor, 'LightGbmLGBMRegressor', calculate_linear_regressor_output_shapes, convert_lightgbm)):
        options = {'nocl': [True, False], 'zipmap': [True, False, 'columns']} if 'Classifier' in alias else {'split': None}
        update_registered_converter(estimator, alias, shape, converter, options=options)


def make(into, name, source, target, columns, estimator, tolerance, small=False):
    frame, wanted = datasets.frame_of(source, target, np.float32, '', small)
    pipeline = make_pipeline(columns(frame), estimator())
    pipeline.fit(frame, wanted)
    types = [(c, StringTensorType([None, 1]) if frame[c].dtype == object else FloatTensorType([None, 1])) for c in frame]
    if columns is numeric:
        types = [(c, t) for c, t in types if isinstance(t, FloatTensorType)]
    model = convert_sklearn(pipeline, initial_types=types, target_opset={'': 17, 'ai.onnx.ml': 3})
    numbers = numbers_of(frame)
    # numbers come first, and reach trees as they are
    edges = [(numbers[feature], value) for feature, value in thresholds_of(model)
             if feature < len(numbers) and columns is not scaled]
    count = 12 if small else 60
    rows = hard_rows(frame, SPECIAL, beside(edges[:count // 2]), count)
    write_frame(into, name, model, rows, tolerance=tolerance)


def cases(small):
    """name -> arguments of make"""
    if small:
        return {f'trained_{name}_{source}': (source, *ESTIMATORS[name], True) for name, source in SMALL}
    found = {}
    for number, (name, arguments) in enumerate(ESTIMATORS.items()):
        for source in (datasets.NAMES[number % 4], datasets.NAMES[(number + 1) % 4]):
            found[f'{name}_{source}'] = (source, *arguments)
    found['large_forest'] = ('hotel', 'binary', hot, lambda: ensemble.RandomForestClassifier(
        310, min_samples_leaf=1, random_state=1), 0.0)
    return found


if __name__ == '__main__':
    register()
    generate(__doc__, cases, make)

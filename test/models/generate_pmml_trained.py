"""Train whole pipelines on ../shared/data, convert them to PMML with
sklearn2pmml, and keep what the libraries themselves predict.

    generate_pmml_trained.py --into DIRECTORY [--small] [--part I/N] [NAME…]

Needs Java.  Each kind of estimator of ESTIMATORS on two of the four data
sets, and a model of some 50 MB; files as generate_pmml.py writes them.
--small makes the few that are kept.  VISAGE_SHARED says where ../shared is.
The rows are real ones, with categories that training never saw, missing and
denormal numbers, and values exactly on a threshold and the next numbers to it;
scikit-learn refuses infinite ones.
"""

import json
import math
import os
import re
import warnings

import lightgbm
import numpy as np
import xgboost
from sklearn import ensemble, linear_model, tree
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn2pmml import sklearn2pmml
from sklearn2pmml.decoration import CategoricalDomain
from sklearn2pmml.pipeline import PMMLPipeline

import datasets
from datasets import SEED, generate, hard_rows, numbers_of, texts_of

warnings.filterwarnings('ignore')
SPECIAL = [np.nan, 0.0, -0.0, 5e-324, 1e-310, 1e-40, -1e-40, 1e-30, 1e30, -1e30]
JAVA = ['-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC']


def thresholds_of(text, names):
    """(input, number) of tests in the document."""
    found = set()
    for field, value in re.findall(r'<SimplePredicate field="([^"]+)" operator="\w+" value="([-+.0-9eE]+)"', text):
        name = re.sub(r'^(?:float|double)\((?:float|double)?\(?([^()]+)\)?\)$', r'\1', field)
        if name in names:
            found.add((name, float(value)))
    found = sorted(found)
    return [found[i] for i in np.random.default_rng(SEED).permutation(len(found))]


def beside(edges):
    """Each number, and its neighbours in both precisions."""
    return [(column, near) for column, value in edges for single in [np.float32(value)] for near in (
        value, math.nextafter(value, math.inf), math.nextafter(value, -math.inf), float(single),
        float(np.nextafter(single, np.float32(np.inf))), float(np.nextafter(single, np.float32(-np.inf))))]


# ---- pipelines ----

def one_hot(frame):
    """Texts: a missing one is a category, one that was never seen is none."""
    return make_pipeline(CategoricalDomain(missing_value_replacement='(none)', invalid_value_treatment='as_is',
                                           with_statistics=False),
                         OneHotEncoder(handle_unknown='ignore', sparse_output=False))


def scaled(frame):
    return ColumnTransformer([
        ('numbers', make_pipeline(SimpleImputer(strategy='median'), StandardScaler()), numbers_of(frame)),
        *([('texts', one_hot(frame), texts_of(frame))] if texts_of(frame) else [])])


def hot(frame):
    return ColumnTransformer([
        ('numbers', SimpleImputer(strategy='mean'), numbers_of(frame)),
        *([('texts', one_hot(frame), texts_of(frame))] if texts_of(frame) else [])])


def as_is(frame):
    """For estimators that know missing values."""
    return ColumnTransformer([
        ('numbers', 'passthrough', numbers_of(frame)),
        *([('texts', one_hot(frame), texts_of(frame))] if texts_of(frame) else [])])


# name: (target, columns, estimator, tolerance)
# the document adds the base score last, the library first: a digit of float32
FLOAT = 3e-6
DOUBLE = 1e-12
SUMS = 1e-9
ESTIMATORS = {
    'logistic': ('binary', scaled, lambda: linear_model.LogisticRegression(max_iter=300), SUMS),
    'logistic_classes': ('multi', scaled, lambda: linear_model.LogisticRegression(max_iter=300), SUMS),
    'ridge': ('value', scaled, lambda: linear_model.Ridge(), SUMS),
    'poisson': ('count', scaled, lambda: linear_model.PoissonRegressor(), SUMS),
    'tree': ('binary', hot, lambda: tree.DecisionTreeClassifier(max_depth=7, random_state=1), DOUBLE),
    'tree_value': ('value', hot, lambda: tree.DecisionTreeRegressor(max_depth=8, random_state=1), DOUBLE),
    'forest': ('binary', hot, lambda: ensemble.RandomForestClassifier(12, max_depth=7, random_state=1), DOUBLE),
    'forest_classes': ('multi', hot, lambda: ensemble.RandomForestClassifier(8, max_depth=7, random_state=1), DOUBLE),
    'extra_trees': ('value', hot, lambda: ensemble.ExtraTreesRegressor(8, max_depth=7, random_state=1), DOUBLE),
    'boosting': ('binary', hot, lambda: ensemble.GradientBoostingClassifier(n_estimators=20, random_state=1), DOUBLE),
    'boosting_value': ('value', hot, lambda: ensemble.GradientBoostingRegressor(n_estimators=20, random_state=1), DOUBLE),
    'histogram': ('binary', as_is, lambda: ensemble.HistGradientBoostingClassifier(max_iter=15, random_state=1), DOUBLE),
    'histogram_value': ('value', as_is, lambda: ensemble.HistGradientBoostingRegressor(max_iter=15, random_state=1), DOUBLE),
    'xgboost': ('binary', as_is, lambda: xgboost.XGBClassifier(n_estimators=15, max_depth=5, nthread=1), FLOAT),
    'xgboost_classes': ('multi', as_is, lambda: xgboost.XGBClassifier(n_estimators=5, max_depth=4, nthread=1), FLOAT),
    'xgboost_value': ('value', as_is, lambda: xgboost.XGBRegressor(n_estimators=15, max_depth=5, nthread=1), FLOAT),
    'xgboost_poisson': ('count', as_is, lambda: xgboost.XGBRegressor(
        objective='count:poisson', n_estimators=15, max_depth=4, nthread=1), FLOAT),
    'lightgbm': ('binary', as_is, lambda: lightgbm.LGBMClassifier(n_estimators=15, n_jobs=1, verbose=-1), DOUBLE),
    'lightgbm_classes': ('multi', as_is, lambda: lightgbm.LGBMClassifier(n_estimators=5, n_jobs=1, verbose=-1), DOUBLE),
    'lightgbm_value': ('value', as_is, lambda: lightgbm.LGBMRegressor(n_estimators=15, n_jobs=1, verbose=-1), DOUBLE),
    'lightgbm_poisson': ('count', as_is, lambda: lightgbm.LGBMRegressor(
        objective='poisson', n_estimators=15, n_jobs=1, verbose=-1), DOUBLE),
}
SMALL = [('logistic', 'hotel'), ('ridge', 'credit'), ('tree', 'bank'), ('xgboost', 'credit'), ('lightgbm_value', 'hotel')]


def plain(value):
    """A value as JSON has it; NaN is a missing one."""
    if value is None or isinstance(value, str):
        return value
    return None if math.isnan(value) else float(value)


def make(into, name, source, target, columns, estimator, tolerance, small=False):
    frame, wanted = datasets.frame_of(source, target, float, '(none)', small)
    count = 12 if small else 60
    pipeline = PMMLPipeline([('columns', columns(frame)), ('estimator', estimator())])
    pipeline.fit(frame, wanted)
    path = os.path.join(into, name + '.pmml')
    sklearn2pmml(pipeline, path, java_opts=JAVA)
    with open(path, encoding='utf-8') as file:
        edges = thresholds_of(file.read(), numbers_of(frame))
    rows = hard_rows(frame, SPECIAL, beside(edges[:count // 2]), count)
    classes = None
    if target in ('binary', 'multi'):
        classes = [str(c) for c in pipeline.classes_]
        scores, labels = pipeline.predict_proba(rows), [str(c) for c in pipeline.predict(rows)]
    else:
        scores, labels = pipeline.predict(rows).reshape(-1, 1), None
    with open(os.path.join(into, name + '.json'), 'w', encoding='utf-8') as file:
        json.dump({'inputs': [{'name': c, 'type': 'text' if frame[c].dtype == object else 'float8'} for c in frame],
                   'rows': [[plain(v) for v in row] for row in rows.itertuples(index=False)], 'outputs': classes,
                   'scores': [[float(v) for v in row] for row in scores], 'classes': labels, 'tolerance': tolerance}, file)
        file.write('\n')


def cases(small):
    """name -> arguments of make"""
    if small:
        return {f'trained_{name}_{source}': (source, *ESTIMATORS[name], True) for name, source in SMALL}
    found = {}
    for number, (name, arguments) in enumerate(ESTIMATORS.items()):
        for source in (datasets.NAMES[number % 4], datasets.NAMES[(number + 1) % 4]):
            found[f'{name}_{source}'] = (source, *arguments)
    found['large_forest'] = ('hotel', 'binary', hot, lambda: ensemble.RandomForestClassifier(
        60, min_samples_leaf=1, random_state=1), DOUBLE)
    return found


if __name__ == '__main__':
    generate(__doc__, cases, make)

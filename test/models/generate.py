"""Train models with the real libraries, and keep what they predict.

	python generate.py DIRECTORY [--small | --shared]

Every model is a file of its library's own format beside NAME.tsv: rows of
inputs with the library's raw scores and predictions, in the text format of
COPY.  Its first line names the columns, as column:type; those that begin with
"raw.", "out." and "shap." (contributions to the raw score, then the base value)
are expected values, and float8 is written so that it reads
back bit for bit; of many rows contributions are kept for a part.  NAME.json.tsv and NAME.ubj.tsv would be equal, so the two
notations of XGBoost share one.

The rows are real ones, and real ones with something made extreme: missing,
infinite, denormal, exactly on a threshold of the model or the number next to
it, a category that training never saw.  The library reads its own file back
before it predicts, so what is compared is what the file says.

--small trains the few and small models that are committed under small/; they
come from data that may be passed on with its source named (see README.md).
Without it there are several for each objective and format, up to 50 MB.

--shared trains nothing: it predicts with models of ../shared/data/models that
have no predictions beside them, on rows made up here, and keeps only these.
"""

import argparse
import gzip
import json
import math
import os
import sys

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import lightgbm
import numpy
import pandas
import xgboost

import datasets
from datasets import SEED, SHARED

XGBOOST = tuple(int(part) for part in xgboost.__version__.split("."))
BIGGEST = 3.4e38  # XGBoost refuses infinite inputs


# Models whose contributions are kept, too: one output, sums of trees.
EXPLAINED = ("reg:squarederror", "binary:logistic", "count:poisson", "regression", "binary", "poisson", "cross_entropy",
             "lambdarank")


# ---- data ----

class Data:
    """A data set for one target, in one of three shapes: numeric columns
    only, categories as codes, or categories as texts."""

    def __init__(self, name, target, shape, columns=None):
        inputs, targets, excluded = datasets.load(name)
        inputs = inputs.drop(columns=excluded.get(target, []))
        if columns:
            inputs = inputs[columns]
        self.texts = [column for column in inputs if inputs[column].dtype == object]
        self.shape = shape
        self.target = targets[target].to_numpy().astype(float)
        if shape == "numeric":
            inputs = inputs.drop(columns=self.texts)
            self.texts = []
        self.categories = {column: sorted(inputs[column].dropna().unique()) for column in self.texts}
        self.frame = inputs.copy()
        for column in inputs:
            if column not in self.texts:
                self.frame[column] = inputs[column].astype(float)
            elif shape == "codes":
                codes = inputs[column].map({text: code for code, text in enumerate(self.categories[column])})
                self.frame[column] = codes.astype(float)
        self.names = list(self.frame)

    def encode(self, frame):
        """The frame as a library takes it."""
        if self.shape != "texts":
            return frame[self.names].to_numpy(dtype=float)
        result = frame[self.names].copy()
        for column in self.texts:
            result[column] = pandas.Categorical(result[column], categories=self.categories[column])
        return result

    def code_columns(self):
        return [self.names.index(column) for column in self.texts]


def probes(data, thresholds, count, infinite, odd_categories, generator):
    """Rows to score: real ones, then real ones with something extreme."""
    frame = data.frame.iloc[generator.permutation(len(data.frame))[:count]].reset_index(drop=True)
    extreme = [numpy.nan, 0.0, -0.0, 5e-324, -5e-324, 1e-310, 1e-40, -1e-40, 1e-36, 1e-35, -1e-35,
               float(numpy.float32(1e-35)), 1.0000000180025095e-35, BIGGEST, -BIGGEST, 1e-300, -1.5, 0.1]
    if infinite:
        extreme += [math.inf, -math.inf, 1e300, -1e300]
    edges = [(column, value) for column in data.names if column not in data.texts for value in extreme]
    for column, value in thresholds:
        # in both precisions, the threshold itself and its neighbours
        edges += [(column, value), (column, math.nextafter(value, math.inf)), (column, math.nextafter(value, -math.inf)),
                  (column, float(numpy.nextafter(numpy.float32(value), numpy.float32(numpy.inf)))),
                  (column, float(numpy.nextafter(numpy.float32(value), numpy.float32(-numpy.inf))))]
    for column in data.texts:
        if data.shape == "codes":
            edges += [(column, value) for value in
                      [numpy.nan, 0.0, float(len(data.categories[column]) - 1)] + odd_categories]
        else:
            edges += [(column, None)] + ([(column, "never seen")] if odd_categories else [])
    rows = [frame]
    order = generator.permutation(len(edges))[:count * 2]
    changed = frame.iloc[[i % len(frame) for i in range(len(order))]].reset_index(drop=True)
    changed = changed.astype({column: object for column in data.texts}) if data.shape == "texts" else changed
    for i, edge in enumerate(order):
        column, value = edges[edge]
        if isinstance(value, float) and (abs(value) <= BIGGEST or infinite or math.isnan(value)):
            changed.loc[i, column] = value
        elif not isinstance(value, float):
            changed.loc[i, column] = value
    rows.append(changed)
    empty = frame.iloc[:1].copy()
    for column in data.names:
        empty[column] = None if column in data.texts and data.shape == "texts" else numpy.nan
    rows.append(empty)
    return pandas.concat(rows, ignore_index=True)


def number(value):
    if value is None or value is pandas.NA:
        return "\\N"
    value = float(value)
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return repr(value)


def text(value):
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "\\N"
    return str(value).replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")


def explained(frame, most):
    """The numbers of at most so many rows, and these rows."""
    numbers = range(0, len(frame), -(-len(frame) // most))
    return numbers, frame.iloc[numbers]


def write(path, data, names, frame, raw, out, shap=None):
    """The rows and what is expected of them; shap has, by the number of a row,
    what each feature adds and the base value."""
    raw = numpy.asarray(raw, dtype=float).reshape(len(frame), -1)
    out = numpy.asarray(out, dtype=float).reshape(len(frame), -1)
    as_text = [column in data.texts and data.shape == "texts" for column in data.names]
    header = ["%s:%s" % (name, "text" if is_text else "float8") for name, is_text in zip(names, as_text)]
    header += ["raw.%d:float8" % i for i in range(raw.shape[1])] + ["out.%d:float8" % i for i in range(out.shape[1])]
    if shap:
        header += ["shap.%d:float8" % i for i in range(len(shap[0]))]
    with open(path, "w", encoding="utf-8") as file:
        file.write("\t".join(header) + "\n")
        for i, row in enumerate(frame[data.names].itertuples(index=False)):
            fields = [text(value) if is_text else number(value) for value, is_text in zip(row, as_text)]
            fields += [number(value) for value in raw[i]] + [number(value) for value in out[i]]
            if shap:
                fields += [number(value) for value in shap[i]] if i in shap else ["\\N"] * len(shap[0])
            # every other missing number is NULL, not NaN
            if i % 2:
                fields = [field if field != "NaN" or j >= len(names) else "\\N" for j, field in enumerate(fields)]
            file.write("\t".join(fields) + "\n")


# ---- XGBoost ----

def xgboost_matrix(data, frame, label=None, group=None, named=True):
    encoded = data.encode(frame)
    options = {"enable_categorical": True} if data.texts else {}
    if data.shape != "texts":
        options["feature_names"] = data.names if named else None
        if data.texts:
            options["feature_types"] = ["c" if name in data.texts else "q" for name in data.names]
    matrix = xgboost.DMatrix(encoded, label=label, **options)
    if group is not None:
        matrix.set_group(group)
    return matrix


def xgboost_thresholds(document, names):
    booster = document["learner"]["gradient_booster"]
    model = booster.get("gbtree", booster)["model"]
    found = []
    for tree in model.get("trees", []):
        kinds = tree.get("split_type") or [0] * len(tree["left_children"])
        for left, feature, condition, kind in zip(
                tree["left_children"], tree["split_indices"], tree["split_conditions"], kinds):
            if left != -1 and kind == 0:
                found.append((names[feature], float(numpy.float32(condition))))
    return found


def make_xgboost(directory, name, data, params, rounds, seed, stop=False, named=True, rows=40,
                 explain=80):
    """Trains, saves in both notations, and predicts with what was saved."""
    generator = numpy.random.default_rng(seed)
    params = dict(params, seed=seed, nthread=1)
    group = None
    if params["objective"].startswith("rank:"):
        group = [20] * (len(data.frame) // 20)
        count = sum(group)
        train = xgboost_matrix(data, data.frame[:count], data.target[:count], group, named)
    elif params["objective"] == "survival:aft":
        train = xgboost_matrix(data, data.frame, named=named)
        train.set_float_info("label_lower_bound", data.target + 1)
        train.set_float_info("label_upper_bound", data.target + 1)
    else:
        train = xgboost_matrix(data, data.frame, data.target, named=named)
    if stop:
        half = len(data.frame) // 2
        train = xgboost_matrix(data, data.frame[:half], data.target[:half], named=named)
        test = xgboost_matrix(data, data.frame[half:], data.target[half:], named=named)
        booster = xgboost.train(params, train, rounds, evals=[(test, "test")], early_stopping_rounds=5,
                                verbose_eval=False)
    else:
        booster = xgboost.train(params, train, rounds)
    path = os.path.join(directory, name)
    booster.save_model(path + ".json")
    booster.save_model(path + ".ubj")
    with open(path + ".json", encoding="utf-8") as file:
        document = json.load(file)
    names = data.names if named else ["f%d" % i for i in range(len(data.names))]
    odd = [] if data.shape == "texts" else [float(len(c) + 3) for c in data.categories.values()][:1] + [999.0]
    thresholds = xgboost_thresholds(document, data.names)
    frame = probes(data, thresholds, rows, False, odd, generator)
    matrix = xgboost_matrix(data, frame, named=named)
    saved = xgboost.Booster(model_file=path + ".ubj")
    saved.set_param({"nthread": 1})
    end = int(saved.attr("best_iteration")) + 1 if saved.attr("best_iteration") else 0
    span = (0, end)
    raw = saved.predict(matrix, output_margin=True, iteration_range=span)
    out = saved.predict(matrix, iteration_range=span)
    if params["objective"] == "multi:softmax":
        # the library predicts the class; Visage has its probability, too
        document["learner"]["objective"]["name"] = "multi:softprob"
        out = xgboost.Booster(model_file=bytearray(json.dumps(document).encode())).predict(
            matrix, iteration_range=span)
    shap = None
    if params["objective"] in EXPLAINED and params.get("booster", "gbtree") == "gbtree":
        numbers, part = explained(frame, explain)
        shap = dict(zip(numbers, saved.predict(xgboost_matrix(data, part, named=named), pred_contribs=True,
                                               iteration_range=span)))
    write(path + ".tsv", data, names, frame, raw, out, shap)


XGBOOST_OBJECTIVES = {
    "reg:squarederror": "value", "reg:squaredlogerror": "value", "reg:absoluteerror": "value",
    "reg:pseudohubererror": "value", "reg:quantileerror": "value", "reg:logistic": "binary",
    "binary:logistic": "binary", "binary:logitraw": "binary", "binary:hinge": "binary", "count:poisson": "count",
    "reg:gamma": "value", "reg:tweedie": "count", "survival:cox": "value", "survival:aft": "value",
    "rank:pairwise": "binary", "rank:ndcg": "binary", "rank:map": "binary", "multi:softprob": "multi",
    "multi:softmax": "multi",
}


def xgboost_params(objective, data):
    params = {"objective": objective, "max_depth": 6, "tree_method": "hist", "base_score": None}
    if objective.startswith("multi:"):
        params["num_class"] = int(data.target.max()) + 1
    if objective == "reg:quantileerror":
        params["quantile_alpha"] = 0.8
    if objective == "reg:tweedie":
        params["tweedie_variance_power"] = 1.4
    return {key: value for key, value in params.items() if value is not None}


def texts_possible():
    return "texts" if XGBOOST >= (3, 1) else "codes"


def xgboost_small(directory):
    columns = {"hotel": ["lead_time", "adults", "children", "meal", "deposit_type", "adr"],
               "bank": ["age", "job", "education", "balance", "pdays", "day"],
               "credit": ["LIMIT_BAL", "EDUCATION", "PAY_0", "BILL_AMT1", "PAY_AMT1"]}
    for number_, (objective, target) in enumerate(XGBOOST_OBJECTIVES.items()):
        if objective in ("reg:quantileerror", "reg:absoluteerror") and XGBOOST < (2, 0):
            continue
        source = ["bank", "hotel", "credit"][number_ % 3]
        wanted = [c for c in columns[source] if c not in datasets.load(source)[2].get(target, [])]
        data = Data(source, target, ["numeric", "codes", texts_possible()][number_ % 2 + (number_ % 4 == 3)], wanted)
        params = dict(xgboost_params(objective, data), max_depth=3)
        if number_ % 3 == 1:
            params.update(max_cat_to_onehot=1)
        if number_ % 5 == 2:
            params.update(booster="dart", rate_drop=0.4, one_drop=1)
        make_xgboost(directory, "xgboost%s_%s" % (".".join(map(str, XGBOOST[:2])), objective.replace(":", "_")),
                     data, params, 3, SEED + number_, named=number_ % 4 != 1 or data.shape == "texts", rows=24)
    for objective, target in (("binary:logistic", "binary"), ("multi:softprob", "multi"), ("count:poisson", "count")):
        data = Data("credit", target, "numeric", [c for c in columns["credit"] if c != "EDUCATION"])
        params = dict(xgboost_params(objective, data), booster="gblinear", updater="coord_descent")
        params.pop("max_depth"), params.pop("tree_method")
        make_xgboost(directory, "xgboost%s_gblinear_%s" % (".".join(map(str, XGBOOST[:2])), objective.replace(":", "_")),
                     data, params, 5, SEED, rows=24)
    data = Data("bank", "binary", "numeric", ["age", "balance", "pdays", "day"])
    make_xgboost(directory, "xgboost%s_early_stopped" % ".".join(map(str, XGBOOST[:2])), data,
                 dict(xgboost_params("binary:logistic", data), max_depth=2, eta=0.9), 30, SEED, stop=True, rows=24)


def xgboost_large(directory):
    label = ".".join(map(str, XGBOOST[:2]))
    for number_, (objective, target) in enumerate(XGBOOST_OBJECTIVES.items()):
        if objective in ("reg:quantileerror", "reg:absoluteerror") and XGBOOST < (2, 0):
            continue
        for variant, source in enumerate(("telco", "bank", "hotel", "credit")):
            data = Data(source, target, ["codes", texts_possible(), "codes", "numeric"][variant])
            params = xgboost_params(objective, data)
            rounds = [1, 40, 25, 80][variant]
            if variant == 0:
                params.update(max_depth=10)
            elif variant == 1:
                params.update(max_cat_to_onehot=[1, 100][number_ % 2], grow_policy="lossguide", max_leaves=40)
            elif variant == 2:
                params.update(booster="dart", rate_drop=0.2, skip_drop=0.2, max_cat_threshold=8)
            else:
                params.update(subsample=0.6, colsample_bytree=0.7, num_parallel_tree=2 if number_ % 2 else 1)
            make_xgboost(directory, "xgboost%s_%s_%s" % (label, objective.replace(":", "_"), source), data, params,
                         rounds, SEED + number_ * 10 + variant, stop=(variant == 3 and objective in (
                             "binary:logistic", "multi:softprob", "reg:squarederror")), rows=300)
    for objective, target in (("binary:logistic", "binary"), ("reg:squarederror", "value"),
                              ("multi:softprob", "multi"), ("count:poisson", "count")):
        for source in ("telco", "bank", "credit"):
            data = Data(source, target, "numeric")
            params = dict(xgboost_params(objective, data), booster="gblinear", updater="coord_descent", eta=0.3)
            params.pop("max_depth"), params.pop("tree_method")
            make_xgboost(directory, "xgboost%s_gblinear_%s_%s" % (label, objective.replace(":", "_"), source), data,
                         params, 20, SEED, rows=300)
    data = Data("hotel", "binary", "codes")
    make_xgboost(directory, "xgboost%s_large" % label, data,
                 dict(xgboost_params("binary:logistic", data), max_depth=14, eta=0.05, min_child_weight=0,
                      max_cat_to_onehot=1000), 900, SEED, rows=300, explain=4)


# ---- LightGBM ----

def lightgbm_thresholds(booster, names):
    found = []

    def walk(node):
        if "split_feature" not in node:
            return
        if node["decision_type"] == "<=":
            found.append((names[node["split_feature"]], float(node["threshold"])))
        walk(node["left_child"])
        walk(node["right_child"])

    sys.setrecursionlimit(100000)
    for tree in booster.dump_model()["tree_info"]:
        walk(tree["tree_structure"])
    return found


def make_lightgbm(directory, name, data, params, rounds, seed, named=True, rows=40, explain=80):
    generator = numpy.random.default_rng(seed)
    params = dict(params, verbose=-1, seed=seed, num_threads=1, deterministic=True, force_row_wise=True)
    options = {}
    count = len(data.frame)
    if params["objective"] in ("lambdarank", "rank_xendcg"):
        count -= count % 20
        options["group"] = [20] * (count // 20)
    if data.shape != "texts":
        options["feature_name"] = data.names if named else "auto"
        options["categorical_feature"] = data.code_columns()
    train = lightgbm.Dataset(data.encode(data.frame[:count]), data.target[:count], free_raw_data=False, **options)
    objective = params["objective"]
    if objective == "custom":
        def gradient(scores, dataset):
            difference = scores - dataset.get_label()
            return difference, numpy.ones_like(difference)
        if lightgbm.__version__ < "4":
            params.pop("objective")
            booster = lightgbm.train(params, train, rounds, fobj=gradient)
        else:
            params["objective"] = gradient
            booster = lightgbm.train(params, train, rounds)
    else:
        booster = lightgbm.train(params, train, rounds)
    path = os.path.join(directory, name)
    booster.save_model(path + ".txt")
    saved = lightgbm.Booster(model_file=path + ".txt")
    names = saved.feature_name()
    thresholds = lightgbm_thresholds(saved, data.names)
    odd = [999.0, -1.0, -0.5, 0.999, 2.5, 1e10, -1e10, math.inf]
    frame = probes(data, thresholds, rows, True, odd, generator)
    encoded = data.encode(frame)
    raw = saved.predict(encoded, raw_score=True, num_threads=1)
    out = saved.predict(encoded, num_threads=1)
    if params.get("boosting") == "rf":
        # the library's raw score is the sum; Visage's is what the link gets
        raw = raw / rounds
    shap = None
    if objective in EXPLAINED and params.get("boosting") != "rf" and not params.get("linear_tree"):
        numbers, part = explained(frame, explain)
        shap = dict(zip(numbers, saved.predict(data.encode(part), pred_contrib=True, num_threads=1)))
    write(path + ".tsv", data, names, frame, raw, out, shap)


LIGHTGBM_OBJECTIVES = {
    "regression": "value", "regression_l1": "value", "huber": "value", "fair": "value", "poisson": "count",
    "quantile": "value", "mape": "value", "gamma": "value", "tweedie": "count", "binary": "binary",
    "multiclass": "multi", "multiclassova": "multi", "cross_entropy": "binary", "cross_entropy_lambda": "binary",
    "lambdarank": "binary", "rank_xendcg": "binary", "custom": "value",
}


def lightgbm_params(objective, data, **more):
    params = {"objective": objective, "min_data_per_group": 10, "cat_smooth": 1}
    if objective.startswith("multiclass"):
        params["num_class"] = int(data.target.max()) + 1
    params.update(more)
    return params


def lightgbm_small(directory):
    label = "lightgbm%s" % ".".join(lightgbm.__version__.split(".")[:2])
    columns = {"hotel": ["lead_time", "adults", "children", "meal", "country", "adr"],
               "bank": ["age", "job", "education", "balance", "pdays", "day"],
               "credit": ["LIMIT_BAL", "EDUCATION", "PAY_0", "BILL_AMT1", "PAY_AMT1"]}

    def small(source, target, shape):
        return Data(source, target, shape, [c for c in columns[source] if c not in datasets.load(source)[2].get(target, [])])

    for number_, (objective, target) in enumerate(LIGHTGBM_OBJECTIVES.items()):
        data = small(["bank", "hotel", "credit"][number_ % 3], target, ["texts", "codes", "numeric"][number_ // 3 % 3])
        make_lightgbm(directory, "%s_%s" % (label, objective), data, lightgbm_params(objective, data, num_leaves=7), 3,
                      SEED + number_, named=number_ % 4 != 1, rows=24)
    more = {
        "sqrt": ("bank", "value", "regression", {"reg_sqrt": True}),
        "zero_as_missing": ("bank", "binary", "binary", {"zero_as_missing": True}),
        "no_missing": ("credit", "binary", "binary", {"use_missing": False}),
        "sigmoid": ("credit", "binary", "binary", {"sigmoid": 0.7}),
        "ova_sigmoid": ("credit", "multi", "multiclassova", {"sigmoid": 1.5}),
        "rf": ("bank", "binary", "binary", {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.6}),
        "rf_multiclass": ("credit", "multi", "multiclass", {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.6}),
        "dart": ("credit", "binary", "binary", {"boosting": "dart", "drop_rate": 0.5}),
        "linear": ("hotel", "value", "regression", {"linear_tree": True}),
        "linear_binary": ("bank", "binary", "binary", {"linear_tree": True}),
        "one_leaf": ("credit", "binary", "binary", {"min_gain_to_split": 1e9}),
    }
    for name, (source, target, objective, params) in more.items():
        data = small(source, target, "numeric" if "linear" in name else "codes")
        make_lightgbm(directory, "%s_%s" % (label, name), data,
                      lightgbm_params(objective, data, num_leaves=6, **params), 3, SEED, rows=24)


def lightgbm_large(directory):
    label = "lightgbm%s" % ".".join(lightgbm.__version__.split(".")[:2])
    for number_, (objective, target) in enumerate(LIGHTGBM_OBJECTIVES.items()):
        for variant, source in enumerate(("telco", "bank", "hotel", "credit")):
            data = Data(source, target, ["texts", "codes", "texts", "numeric"][variant])
            more = [{"num_leaves": 127}, {"boosting": "dart"}, {"zero_as_missing": number_ % 2 == 1},
                    {"linear_tree": objective not in ("regression_l1",), "num_leaves": 15}][variant]
            make_lightgbm(directory, "%s_%s_%s" % (label, objective, source), data,
                          lightgbm_params(objective, data, **more), [1, 40, 100, 20][variant],
                          SEED + number_ * 10 + variant, rows=300)
    for source in ("telco", "bank", "hotel"):
        for objective, target in (("binary", "binary"), ("multiclass", "multi"), ("regression", "value")):
            data = Data(source, target, "codes")
            make_lightgbm(directory, "%s_rf_%s_%s" % (label, objective, source), data,
                          lightgbm_params(objective, data, boosting="rf", bagging_freq=1, bagging_fraction=0.7), 30,
                          SEED, rows=300)
    data = Data("hotel", "binary", "texts")
    make_lightgbm(directory, "%s_large" % label, data,
                  lightgbm_params("binary", data, num_leaves=1200, min_data_in_leaf=2, learning_rate=0.02,
                                  min_sum_hessian_in_leaf=0), 390, SEED, rows=300, explain=4)


# ---- models of others ----

WITHOUT_PREDICTIONS = (
    "leaves/lg_breast_cancer.txt.gz", "leaves/model_simple.txt", "lleaves/NYC_taxi_model.txt.gz",
    "lleaves/airline_model.txt.gz", "lleaves/boston_housing_model.txt.gz", "lleaves/mixed_categorical_model.txt",
    "lleaves/multiclass_model.txt.gz", "lleaves/pure_categorical_model.txt", "lleaves/single_tree_model.txt",
    "lleaves/tiniest_single_tree_model.txt", "mlserver/iris-lightgbm.bst.gz", "mlserver/mushroom-xgboost.json",
)


class Given:
    """The rows made up for a model, as write takes them."""

    def __init__(self, names, columns):
        self.names = names
        self.texts = []
        self.shape = "numeric"
        self.frame = pandas.DataFrame(dict(zip(names, columns)))


def column_of(info, thresholds, count, generator):
    """Values of one feature: as in training, at thresholds, and odd ones."""
    odd = [numpy.nan, 0.0, 1e-40, -1.0, 2.5, math.inf, -math.inf, 1e10]
    if info.startswith("["):
        low, high = (float(part) for part in info[1:-1].split(":"))
        values = generator.uniform(low, high, count)
    elif info == "none":
        values = generator.normal(size=count)
    else:
        values = generator.choice([float(part) for part in info.split(":")], count)
    for i in range(count):
        draw = generator.random()
        if draw < 0.15:
            values[i] = odd[generator.integers(len(odd))]
        elif draw < 0.5 and thresholds:
            value = thresholds[generator.integers(len(thresholds))]
            values[i] = [value, math.nextafter(value, math.inf), math.nextafter(value, -math.inf)][generator.integers(3)]
    return values


def predict_shared(directory):
    for number_, path in enumerate(WITHOUT_PREDICTIONS):
        generator = numpy.random.default_rng(SEED + number_)
        full = os.path.join(SHARED, "data", "models", path)
        with (gzip.open if path.endswith(".gz") else open)(full, "rb") as file:
            model = file.read()
        if path.endswith(".json"):
            booster = xgboost.Booster(model_file=bytearray(model))
            names = booster.feature_names or ["f%d" % i for i in range(booster.num_features())]
            columns = [generator.choice([0.0, 1.0, numpy.nan, 0.5], 80) for _ in names]
            given = Given(names, columns)
            matrix = xgboost.DMatrix(given.frame.to_numpy(), feature_names=booster.feature_names)
            span = (0, int(booster.attr("best_iteration") or -1) + 1)
            raw = booster.predict(matrix, output_margin=True, iteration_range=span)
            out = booster.predict(matrix, iteration_range=span)
        else:
            booster = lightgbm.Booster(model_str=model.decode())
            names = booster.feature_name()
            infos = [line for line in model.decode().splitlines() if line.startswith("feature_infos=")][0][14:].split(" ")
            thresholds = {}
            for name, value in lightgbm_thresholds(booster, names):
                thresholds.setdefault(name, []).append(value)
            given = Given(names, [column_of(info, thresholds.get(name), 80, generator)
                                  for name, info in zip(names, infos)])
            raw = booster.predict(given.frame.to_numpy(), raw_score=True)
            out = booster.predict(given.frame.to_numpy())
        name = path.replace("/", "_").replace(".gz", "").rsplit(".", 1)[0]
        write(os.path.join(directory, name + ".tsv"), given, names, given.frame, raw, out)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--shared", action="store_true")
    arguments = parser.parse_args()
    os.makedirs(arguments.directory, exist_ok=True)
    if arguments.shared:
        predict_shared(arguments.directory)
        return
    if arguments.small:
        xgboost_small(arguments.directory)
        lightgbm_small(arguments.directory)
    else:
        xgboost_large(arguments.directory)
        lightgbm_large(arguments.directory)


if __name__ == "__main__":
    main()

"""The data that models are trained on, read from ../shared/data.

load(NAME) is (inputs, targets, excluded): a frame, a column for each kind of
target (binary, multi, value, count), and for each the inputs that would tell
it.  VISAGE_SHARED says where ../shared is, if it is not there.
"""

import argparse
import functools
import math
import os

import numpy
import pandas

SHARED = os.environ.get("VISAGE_SHARED") or os.path.join(
    os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", "shared")
NAMES = ("telco", "bank", "hotel", "credit")
SEED = 20261124
# Inputs of small models, of the data that may be passed on with its source named.
SMALL = {"hotel": ["lead_time", "adults", "children", "meal", "deposit_type", "adr"],
         "bank": ["age", "job", "education", "balance", "pdays", "day"],
         "credit": ["LIMIT_BAL", "EDUCATION", "PAY_0", "BILL_AMT1", "PAY_AMT1"]}


def read(path, **options):
    return pandas.read_csv(os.path.join(SHARED, "data", path), **options)


def telco():
    table = read("telco_churn/WA_Fn-UseC_-Telco-Customer-Churn.csv")
    table["TotalCharges"] = pandas.to_numeric(table["TotalCharges"], errors="coerce")
    inputs = table.drop(columns=["customerID", "Churn"])
    return inputs, {
        "binary": (table["Churn"] == "Yes").astype(int),
        "multi": table["Contract"].astype("category").cat.codes,
        "value": table["MonthlyCharges"],
        "count": table["tenure"],
    }, {"multi": ["Contract"], "value": ["MonthlyCharges", "TotalCharges"], "count": ["tenure", "TotalCharges"]}


def bank():
    table = read("bank_marketing/bank-full.csv.gz", sep=";").sample(9000, random_state=SEED).reset_index(drop=True)
    inputs = table.drop(columns=["y", "duration"])
    inputs["balance"] = inputs["balance"].where(inputs["balance"] != 0)
    inputs["pdays"] = inputs["pdays"].where(inputs["pdays"] >= 0)
    return inputs, {
        "binary": (table["y"] == "yes").astype(int),
        "multi": table["job"].astype("category").cat.codes,
        "value": table["duration"] + 1.0,
        "count": table["campaign"] - 1,
    }, {"multi": ["job"], "count": ["campaign"]}


def hotel():
    table = read("cancellations/hotel_bookings.csv.gz", na_values=["NULL"]).sample(12000, random_state=SEED)
    table = table.reset_index(drop=True)
    inputs = table.drop(columns=["is_canceled", "reservation_status", "reservation_status_date"])
    for column in ("agent", "company"):
        inputs[column] = inputs[column].map(lambda value: None if math.isnan(value) else "a%d" % value)
    return inputs, {
        "binary": table["is_canceled"],
        "multi": table["customer_type"].astype("category").cat.codes,
        "value": table["adr"].clip(0.5, 500),
        "count": table["total_of_special_requests"],
    }, {"multi": ["customer_type"], "value": ["adr"], "count": ["total_of_special_requests"]}


def credit():
    table = read("credit/UCI_Credit_Card.csv.gz").sample(9000, random_state=SEED).reset_index(drop=True)
    inputs = table.drop(columns=["ID", "default.payment.next.month"]).astype(float)
    return inputs, {
        "binary": table["default.payment.next.month"],
        "multi": table["EDUCATION"].clip(1, 4) - 1,
        "value": table["LIMIT_BAL"] / 1000.0,
        "count": (table["AGE"] - 20).clip(0),
    }, {"multi": ["EDUCATION"], "value": ["LIMIT_BAL"], "count": ["AGE"]}


@functools.lru_cache(None)
def load(name):
    return {"telco": telco, "bank": bank, "hotel": hotel, "credit": credit}[name]()


# ---- for whole pipelines ----

def frame_of(source, target, kind, missing, small):
    """(inputs, target): numbers of this kind, what stands for a missing text."""
    inputs, targets, excluded = load(source)
    inputs = inputs.drop(columns=excluded.get(target, [])).copy()
    if small:
        inputs = inputs[[column for column in SMALL[source] if column in inputs]].copy()
    for column in inputs:
        if inputs[column].dtype == object:
            inputs[column] = inputs[column].astype(object).where(inputs[column].notna(), missing)
        else:
            inputs[column] = inputs[column].astype(kind)
    return inputs, targets[target].to_numpy()


def texts_of(frame):
    return [column for column in frame if frame[column].dtype == object]


def numbers_of(frame):
    return [column for column in frame if frame[column].dtype != object]


def hard_rows(frame, special, edges, count):
    """Real rows, and such with one value changed: to a special number, to a
    category that is missing or was never seen, or as edges (column, value) say."""
    generator = numpy.random.default_rng(SEED)
    rows = frame.iloc[generator.permutation(len(frame))[:count]].reset_index(drop=True)
    changes = [(column, value) for column in numbers_of(frame) for value in special]
    changes = [changes[i] for i in generator.permutation(len(changes))[:count]]
    changes += [(column, value) for column in texts_of(frame) for value in ("never seen", None)] + edges
    changed = rows.iloc[[i % count for i in range(len(changes))]].reset_index(drop=True)
    for i, (column, value) in enumerate(changes):
        changed.loc[i, column] = value
    result = pandas.concat([rows, changed], ignore_index=True)
    return result.astype({column: frame[column].dtype for column in numbers_of(frame)})


def generate(description, cases, make):
    """The command line of a generator: makes the cases that it asks for."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", required=True)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--part", default="0/1", help="only those whose place leaves I when divided by N")
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    os.makedirs(arguments.into, exist_ok=True)
    part, parts = (int(number) for number in arguments.part.split("/"))
    for number, (name, case) in enumerate(cases(arguments.small).items()):
        if number % parts == part and (not arguments.names or name in arguments.names):
            make(arguments.into, name, *case)

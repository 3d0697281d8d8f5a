#!/usr/bin/python3
"""scikit-learn's logistic regression on the rows that Visage learnt from.

	psql -c "\\copy (SELECT … FROM enriched.sf_closing) TO STDOUT (FORMAT csv, HEADER)" | compare.py

Learns from the rows before the last event_time, prints the AUC on those of
the last one.  The preparation is the one that docs/reference/model.md
describes, written with scikit-learn's own parts: numbers standardised, a
missing one counted as the mean with an indicator; texts one-hot.
"""

import csv
import sys

import numpy
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

NOT_FEATURES = {"event_time", "label"}


def number(text):
    return float("nan") if text == "" else float(text)


def is_number(values):
    try:
        for value in values:
            number(value)
    except ValueError:
        return False
    return True


def read(file):
    """(numbers, texts, labels, held out) of the rows."""
    rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name not in NOT_FEATURES]
    columns = {name: [row[name] for row in rows] for name in names}
    # supervisor districts look like numbers and are texts, as in the database
    numeric = [name for name in names if name != "district" and is_number(columns[name])]
    texts = [name for name in names if name not in numeric]
    last = max(row["event_time"] for row in rows)
    numbers = numpy.array([[number(value) for value in columns[name]] for name in numeric]).T
    words = numpy.array([columns[name] for name in texts], dtype=object).T
    labels = numpy.array([row["label"] == "t" for row in rows])
    held_out = numpy.array([row["event_time"] == last for row in rows])
    return numbers, words, labels, held_out


def main():
    numbers, words, labels, held_out = read(sys.stdin)
    count = numbers.shape[1]
    data = numpy.hstack([numbers.astype(object), words]) if words.size else numbers.astype(object)
    parts = [("numbers", make_pipeline(SimpleImputer(strategy="mean", add_indicator=True), StandardScaler()), list(range(count)))]
    if words.size:
        parts.append(("texts", OneHotEncoder(handle_unknown="ignore"), list(range(count, data.shape[1]))))
    model = make_pipeline(ColumnTransformer(parts), LogisticRegression(C=1.0, max_iter=5000, tol=1e-8))
    model.fit(data[~held_out], labels[~held_out])
    scores = model.predict_proba(data[held_out])[:, 1]
    print("%.6f" % roc_auc_score(labels[held_out], scores))


if __name__ == "__main__":
    main()

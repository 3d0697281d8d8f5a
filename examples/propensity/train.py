"""What a data scientist's notebook does: a pipeline, fitted and pickled.

    train.py bank.csv.gz propensity.pkl

Prints the metrics of the rows that were held out: every fifth row.
"""

import json
import pickle
import sys

import pandas
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

NUMBERS = ['age', 'balance', 'day', 'campaign', 'pdays', 'previous']
TEXTS = ['job', 'marital', 'education', 'default', 'housing', 'loan', 'contact', 'month', 'poutcome']


def main(data, model):
    rows = pandas.read_csv(data, sep=';')
    target = rows['y'] == 'yes'
    held_out = rows.index % 5 == 0
    pipeline = make_pipeline(
        ColumnTransformer([
            ('numbers', make_pipeline(SimpleImputer(strategy='median'), StandardScaler()), NUMBERS),
            ('texts', OneHotEncoder(handle_unknown='ignore'), TEXTS)]),
        GradientBoostingClassifier(n_estimators=60, random_state=7))
    pipeline.fit(rows.loc[~held_out, NUMBERS + TEXTS], target[~held_out])
    with open(model, 'wb') as file:
        pickle.dump(pipeline, file)
    scores = pipeline.predict_proba(rows.loc[held_out, NUMBERS + TEXTS])[:, 1]
    truth = target[held_out]
    print(json.dumps({'auc': roc_auc_score(truth, scores), 'pr_auc': average_precision_score(truth, scores),
                      'logloss': log_loss(truth, scores), 'brier': brier_score_loss(truth, scores)}))


if __name__ == '__main__':
    main(*sys.argv[1:])

"""Answers of PMML4S: for tests of exported models.  Needs a Java runtime.

    run_pmml.py < REQUESTS

Each line is {"model": path, "columns": [names], "rows": [[values]]}; prints a
line of {"columns": [names], "rows": [[values]]} for it, or of {"error": text}.
A missing value is null.
"""

import json
import math
import sys

import pandas
from pypmml import Model


def plain(value):
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return value if isinstance(value, str) else float(value)


def main():
    for line in sys.stdin:
        request = json.loads(line)
        try:
            model = Model.load(request['model'])
            answers = model.predict(pandas.DataFrame(request['rows'], columns=request['columns'], dtype=object))
            answer = {'columns': list(answers.columns), 'rows': [[plain(v) for v in row] for row in answers.values]}
        except Exception as error:
            answer = {'error': str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == '__main__':
    main()

"""Answers of onnxruntime, on one thread: for tests of exported models.

    run_onnx.py < REQUESTS

Each line is {"model": path, "inputs": {name: [values]}}; prints a line of
{output: rows} for it.  A text None is the empty string, a number None NaN.
"""

import json
import sys

import numpy as np
import onnxruntime


def feed(kind, values):
    if kind == 'tensor(string)':
        return np.array([[v or ''] for v in values], dtype=object)
    return np.array([[float('nan') if v is None else float(v)] for v in values])


def main():
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    for line in sys.stdin:
        request = json.loads(line)
        try:
            session = onnxruntime.InferenceSession(request['model'], options)
            feeds = {i.name: feed(i.type, request['inputs'][i.name]) for i in session.get_inputs()}
            names = [o.name for o in session.get_outputs()]
            answer = {n: r.tolist() for n, r in zip(names, session.run(None, feeds))}
        except Exception as error:
            answer = {'error': str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == '__main__':
    main()

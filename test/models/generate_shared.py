"""What onnxruntime answers to the public ONNX files.

    generate_shared.py --models ../shared/data/models

The files stay where they are; shared/NAME.json gets rows and answers.  The
public PMML files are compared with evaluate_pmml.py.
"""

import argparse
import gzip
import json
import math
import os
import random
import tempfile
import xml.etree.ElementTree

HERE = os.path.dirname(os.path.abspath(__file__))
ROWS = 40


def write(file, case):
    with open(os.path.join(HERE, 'shared', file.replace('/', '__') + '.json'), 'w', encoding='utf-8') as out:
        json.dump(case, out)
        out.write('\n')


def listed(extension):
    with open(os.path.join(HERE, 'outcomes_onnx_pmml.tsv'), encoding='utf-8') as file:
        for line in file:
            name, outcome, _ = line.rstrip('\n').split('\t') if not line.startswith('#') else ('', '', '')
            if outcome == 'equal' and extension in name:
                yield name


# ---- ONNX ----

def onnx_files(models):
    import numpy
    import onnx
    import onnxruntime
    from onnx import numpy_helper
    kinds = {'tensor(float)': ('float4', numpy.float32), 'tensor(int64)': ('int8', numpy.int64),
             'tensor(double)': ('float8', numpy.float64),
             'tensor(string)': ('text', object)}
    for name in listed('.onnx'):
        path = os.path.join(models, name)
        session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
        generator = numpy.random.default_rng(7)
        beside = os.path.join(os.path.dirname(path), 'test_data_set_0')
        feeds, inputs, columns = {}, [], []
        for number, given in enumerate(session.get_inputs()):
            kind, dtype = kinds[given.type]
            if os.path.isdir(beside):
                with open(os.path.join(beside, f'input_{number}.pb'), 'rb') as file:
                    values = numpy_helper.to_array(onnx.TensorProto.FromString(file.read()))
                values = values.astype(object) if kind == 'text' else values
                values = numpy.array([v.decode() if isinstance(v, bytes) else v for v in values.reshape(-1)],
                                     dtype=dtype).reshape(values.shape)
            else:
                width = given.shape[1] if len(given.shape) > 1 and isinstance(given.shape[1], int) else \
                    WIDTHS.get(name, 1)
                values = (generator.normal(0, 2, (ROWS, width)) * 2).astype(dtype)
            feeds[given.name] = values
            for column in values.reshape(len(values), -1).T:
                inputs.append({'name': given.name if values.size == len(values) else f'f{len(inputs)}', 'type': kind})
                columns.append(column.tolist())
        case = {'inputs': inputs, 'rows': [list(r) for r in zip(*columns)], 'outputs': None, 'tolerance': 1e-6,
                'options': {'feature_names': [i['name'] for i in inputs]} if name in WIDTHS else {}, 'classes': None}
        if len(session.get_inputs()[0].shape) == 1 and not os.path.isdir(beside):
            parts = [session.run(None, {n: v[i] for n, v in feeds.items()}) for i in range(ROWS)]
            results = [numpy.concatenate([p[k].reshape(1, -1) for p in parts]) for k in range(len(parts[0]))]
        else:
            results = session.run(None, feeds)
        for output, result in zip(session.get_outputs(), results):
            if isinstance(result, list):
                case['scores'] = [list(row.values()) for row in result]
            elif result.dtype.kind == 'f' or len(session.get_outputs()) == 1:
                case['scores'] = result.reshape(len(result), -1).astype(float).tolist()
            else:
                case['classes'] = [str(v) for v in result.reshape(-1)]
        write(name, case)


WIDTHS = {'onnx-ml/treecl.onnx': 0, 'onnx-ml/treecl2.onnx': 0}


def find_widths(models):
    import onnx
    from onnx import helper
    for name in WIDTHS:
        model = onnx.load(os.path.join(models, name))
        WIDTHS[name] = 1 + max(max(helper.get_attribute_value(a)) for n in model.graph.node for a in n.attribute
                               if a.name == 'nodes_featureids')


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--models', required=True)
    arguments = parser.parse_args()
    find_widths(arguments.models)
    onnx_files(arguments.models)

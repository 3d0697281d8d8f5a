"""A pickled scikit-learn pipeline as an ONNX file for visage_import_model.

    convert.py MODEL.pkl SAMPLE.csv MODEL.onnx [--separator ';'] [--exclude COLUMN]…

SAMPLE.csv has rows as the pipeline was trained on: names and types of the
inputs come from it, so that Visage finds columns by name.  A step that
cannot be converted is named.  Unpickling runs code: convert only what you
would run.
"""

import argparse
import pickle
import sys

import pandas
from onnx import TensorProto, helper
from sklearn.preprocessing import StandardScaler
from skl2onnx import convert_sklearn, supported_converters
from skl2onnx._supported_operators import sklearn_operator_name_map
from skl2onnx.common.data_types import DoubleTensorType, StringTensorType

OPSETS = {'': 17, 'ai.onnx.ml': 3}


def steps(model, path=''):
    """(path, estimator) of each step that does not consist of others."""
    parts = getattr(model, 'steps', None) or [
        (name, part) for name, part, *_ in getattr(model, 'transformers_', None) or getattr(model, 'transformer_list', [])]
    if not parts:
        yield path or type(model).__name__, model
    for name, part in parts:
        if not isinstance(part, str):
            yield from steps(part, f'{path}/{name}' if path else name)


def unconvertible(model):
    """The steps that no converter exists for, as texts."""
    known = set(supported_converters())
    return [f'step "{path}" ({type(part).__module__}.{type(part).__name__})' for path, part in steps(model)
            if sklearn_operator_name_map.get(type(part)) not in known]


def input_types(sample):
    """An input for each column: numbers are float64, since they may be missing."""
    return [(name, DoubleTensorType([None, 1]) if sample[name].dtype.kind in 'biuf' else StringTensorType([None, 1]))
            for name in sample]


def round_for_trees(graph):
    """Trees of scikit-learn round what they get to float32, and so they do
    here: a value may be nearer to a threshold than float32 can tell."""
    nodes = []
    for node in graph.node:
        if node.op_type.startswith('TreeEnsemble') and not any(a.name == 'nodes_values_as_tensor' for a in node.attribute):
            rounded = node.name + '_float32'
            nodes.append(helper.make_node('Cast', [node.input[0]], [rounded], rounded, to=TensorProto.FLOAT))
            node.input[0] = rounded
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def convert(model, sample):
    columns = list(getattr(model, 'feature_names_in_', sample.columns))
    options = {id(part): {'div': 'div'} for _, part in steps(model) if isinstance(part, StandardScaler)}
    converted = convert_sklearn(model, initial_types=input_types(sample[columns]), target_opset=OPSETS, options=options)
    round_for_trees(converted.graph)
    return converted


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('model')
    parser.add_argument('sample')
    parser.add_argument('output')
    parser.add_argument('--separator', default=',')
    parser.add_argument('--exclude', action='append', default=[])
    arguments = parser.parse_args()
    with open(arguments.model, 'rb') as file:
        model = pickle.load(file)
    sample = pandas.read_csv(arguments.sample, sep=arguments.separator).drop(columns=arguments.exclude)
    missing = unconvertible(model)
    if missing:
        sys.exit('cannot be converted to ONNX: ' + ', '.join(missing))
    with open(arguments.output, 'wb') as file:
        file.write(convert(model, sample).SerializeToString())


if __name__ == '__main__':
    main()

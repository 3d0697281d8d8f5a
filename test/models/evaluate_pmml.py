"""A second reading of PMML, to compare with: trees, sums, averages, votes,
chains and regressions, straight from the specification and slow.

PMML4S, which the models made by hand are compared with, parses numbers less
exactly than thresholds and float64 sums of hundreds of trees need.
"""

import math
import random
import re
import struct
import xml.etree.ElementTree

MODELS = ('TreeModel', 'MiningModel', 'RegressionModel')


def read(data):
    root = xml.etree.ElementTree.fromstring(data)
    for element in root.iter():
        element.tag = element.tag.rpartition('}')[2]
    return root


def single(value):
    """Rounded to float32."""
    return struct.unpack('f', struct.pack('f', value))[0]


def known(predicate, row):
    """True, False, or None where a field is missing."""
    if predicate.tag in ('True', 'False'):
        return predicate.tag == 'True'
    value = row.get(predicate.get('field'))
    if predicate.tag == 'SimpleSetPredicate':
        members = [a or b for a, b in re.findall(r'"([^"]*)"|(\S+)', predicate.find('Array').text)]
        return None if value is None else (value in members) == (predicate.get('booleanOperator') == 'isIn')
    operator, literal = predicate.get('operator'), predicate.get('value')
    if operator in ('isMissing', 'isNotMissing'):
        return (value is None) == (operator == 'isMissing')
    if value is None:
        return None
    literal = literal if isinstance(value, str) else single(float(literal)) if predicate.get('field') in row['float'] else \
        float(literal)
    return {'equal': value == literal, 'notEqual': value != literal}[operator] if operator.endswith('qual') and operator in (
        'equal', 'notEqual') else {'lessThan': value < literal, 'lessOrEqual': value <= literal,
                                   'greaterThan': value > literal, 'greaterOrEqual': value >= literal}[operator]


def predicate_of(node):
    return next(c for c in node if c.tag in ('True', 'False', 'SimplePredicate', 'SimpleSetPredicate', 'CompoundPredicate'))


def leaf_of(model, row):
    node = model.find('Node')
    while True:
        children = [c for c in node if c.tag == 'Node']
        if not children:
            return node
        chosen = None
        for child in children:
            answer = known(predicate_of(child), row)
            if answer is None and model.get('missingValueStrategy') == 'defaultChild':
                chosen = next(c for c in children if c.get('id') == node.get('defaultChild'))
            if answer or chosen is not None:
                chosen = chosen if chosen is not None else child
                break
        if chosen is None:
            return node if model.get('noTrueChildStrategy') == 'returnLastPrediction' else None
        node = chosen


def tree(model, row, classes):
    leaf = leaf_of(model, row)
    if model.get('functionName') == 'regression':
        return None if leaf is None else float(leaf.get('score'))
    counts = {d.get('value'): float(d.get('recordCount')) for d in leaf.iter('ScoreDistribution')} if leaf is not None else {}
    if leaf is None:
        return None
    if not counts:
        return {c: float(same_class(c, leaf.get('score'))) for c in classes}
    return {c: sum(v for k, v in counts.items() if same_class(c, k)) / sum(counts.values()) for c in classes}


def same_class(a, b):
    try:
        return float(a) == float(b)
    except ValueError:
        return a == b


def regression(model, row, classes):
    sums = {}
    for table in model.iter('RegressionTable'):
        total = float(table.get('intercept'))
        for term in table:
            value = row.get(term.get('name'))
            if term.tag == 'CategoricalPredictor':
                total += float(term.get('coefficient')) * (value == term.get('value'))
            elif term.tag == 'NumericPredictor':
                total += float(term.get('coefficient')) * value ** int(term.get('exponent', 1))
        sums[table.get('targetCategory')] = total
    method = model.get('normalizationMethod', 'none')
    if model.get('functionName') == 'regression':
        return sums[None]
    if method == 'softmax':
        top = max(sums.values())
        total = sum(math.exp(v - top) for v in sums.values())
        return {c: math.exp(sums[c] - top) / total for c in classes}
    first, second = sums
    share = 1 / (1 + math.exp(-sums[first]))
    return {first: share, second: 1 - share}


def mining(model, row, classes):
    segmentation = model.find('Segmentation')
    method, results = segmentation.get('multipleModelMethod'), []
    for segment in segmentation.findall('Segment'):
        inner = next(c for c in segment if c.tag in MODELS)
        results.append(evaluate(inner, row, classes))
        for output in inner.iter('OutputField') if method == 'modelChain' else ():
            if output.get('feature', 'predictedValue') == 'predictedValue':
                row = {**row, output.get('name'): results[-1]}
    if method == 'modelChain':
        return results[-1]
    if method == 'sum':
        return sum(results)
    if method == 'average' and not isinstance(results[0], dict):
        return sum(results) / len(results)
    if method == 'majorityVote':
        results = [None if r is None else {c: float(v == max(r.values())) for c, v in r.items()} for r in results]
    return None if None in results else {c: sum(r[c] for r in results) / len(results) for c in classes}


def evaluate(model, row, classes):
    result = {'TreeModel': tree, 'RegressionModel': regression, 'MiningModel': mining}[model.tag](model, row, classes)
    for target in model.findall('Targets/Target'):
        result = result * float(target.get('rescaleFactor', 1)) + float(target.get('rescaleConstant', 0))
    return result


def derive(root, row):
    """Fields in float32 as such, and derived fields that rename another."""
    row = {**row, 'float': set()}
    for field in [*root.iter('DataField'), *root.iter('DerivedField')]:
        reference = field.find('FieldRef')
        value = row.get(field.get('name') if reference is None else reference.get('field'))
        if field.get('dataType') == 'float' and value is not None:
            value = single(value)
            row['float'].add(field.get('name'))
        row[field.get('name')] = value
    return row


def case(data, count=40):
    """Rows for the model in these bytes, with its answers."""
    root = read(data)
    model = next(c for c in root if c.tag in MODELS)
    fields = {f.get('name'): f for f in root.iter('DataField')}
    schema = [f for f in model.find('MiningSchema')]
    active = [f.get('name') for f in schema if f.get('usageType', 'active') == 'active']
    target = next((f.get('name') for f in schema if f.get('usageType') in ('target', 'predicted')), None)
    renamed = {f.get('name'): f.find('FieldRef').get('field') for f in root.iter('DerivedField')}
    numeric = {n for n in active if fields[n].get('dataType') != 'string'}
    choices = {n: [v.get('value') for v in fields[n].iter('Value')] for n in active}
    for predicate in root.iter():
        name = renamed.get(predicate.get('field'), predicate.get('field'))
        if name not in choices or predicate.tag not in ('SimplePredicate', 'SimpleSetPredicate'):
            continue
        if predicate.tag == 'SimplePredicate' and predicate.get('value') is not None and name in numeric:
            choices[name] += [float(predicate.get('value')) + d for d in (0, 1e-9, -0.01)]
        elif name not in numeric and not list(fields[name].iter('Value')):
            array = predicate.find('Array')
            choices[name] += [predicate.get('value')] if array is None else array.text.replace('"', '').split()
    randomness = random.Random(7)
    rows = [[float(randomness.choice(choices[n] or [1.5, 0, -2, 30])) if n in numeric else randomness.choice(choices[n] or ['x'])
             for n in active] for _ in range(count)]
    classes = None
    if model.get('functionName') == 'classification':
        classes = [v.get('value') for v in fields[target].iter('Value')] if target else []
        classes = classes or sorted({d.get('value') for d in root.iter('ScoreDistribution')})
    answers = [evaluate(model, derive(root, dict(zip(active, row))), classes) for row in rows]
    return {'inputs': [{'name': n, 'type': 'float8' if n in numeric else 'text'} for n in active], 'rows': rows,
            'scores': [[a[c] for c in classes] if isinstance(a, dict) else [a] * len(classes or [0]) for a in answers],
            'outputs': classes, 'classes': None, 'options': {},
            # this reading computes in float64 throughout
            'tolerance': 1e-6 if b'x-mathContext="float"' in data else 1e-12}

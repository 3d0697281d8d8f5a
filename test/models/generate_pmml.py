"""Write PMML models by hand, and keep what PMML4S answers.

    generate_pmml.py [--into DIRECTORY] [NAME…]

Needs Java.  Where PMML4S departs from the specification a case is left out:
Discretize of a number in none of the bins (PMML4S 1.5.8 takes mapMissingTo or a
missing value; the specification, Transformations, Discretization: defaultValue,
and mapMissingTo for missing values only), loglog, nullPrediction with
returnLastPrediction, xor, if with a missing condition (PMML4S takes it for
false; Functions: what has a missing argument is missing unless it is said
otherwise); it has no max of segments.  For each case writes NAME.pmml and NAME.json: the inputs' names
and types, rows, the outputs' names, and the scores and classes that PMML4S
(pypmml) gives; None where it gives nothing.
"""

import argparse
import itertools
import json
import math
import os

import pandas
from pypmml import Model

HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<PMML xmlns="http://www.dmg.org/PMML-4_4" version="4.4">
<Header description="made by hand for tests"/>
"""

DICTIONARY = """<DataDictionary>
 <DataField name="x" optype="continuous" dataType="double"/>
 <DataField name="y" optype="continuous" dataType="double"/>
 <DataField name="c" optype="categorical" dataType="string"><Value value="red"/><Value value="green"/><Value value="blue"/></DataField>
 <DataField name="{target}" optype="{optype}" dataType="{type}">{values}</DataField>
</DataDictionary>
"""

SCHEMA = """<MiningSchema>
 <MiningField name="{target}" usageType="target"/>
 <MiningField name="x"{x}/><MiningField name="y"{y}/><MiningField name="c" {c}/>
</MiningSchema>
"""

INNER = '<MiningSchema><MiningField name="x"/><MiningField name="y"/><MiningField name="c" invalidValueTreatment="asIs"/></MiningSchema>'
NUMBERS = [None, -2.5, -1.0, 0.0, 0.5, 1.0, 3.25, 100.0]
COLOURS = ['red', 'green', 'blue', None]


def document(model, classes=None, x='', y='', c='invalidValueTreatment="asMissing"', common=''):
    """A document whose model has {schema} where its schema goes."""
    target = {'target': 'z', 'optype': 'categorical' if classes else 'continuous',
              'type': 'string' if classes else 'double',
              'values': ''.join(f'<Value value="{v}"/>' for v in classes or [])}
    return (HEAD + DICTIONARY.format(**target) + common +
            model.replace('{schema}', SCHEMA.format(target='z', x=x, y=y, c=c)) + '</PMML>\n')


def test(field, operator, value=None):
    return f'<SimplePredicate field="{field}" operator="{operator}"' + (f' value="{value}"/>' if value is not None else '/>')


def members(field, operator, *values):
    quoted = ' '.join(f'&quot;{v}&quot;' for v in values)
    return (f'<SimpleSetPredicate field="{field}" booleanOperator="{operator}"><Array n="{len(values)}" type="string">'
            f'{quoted}</Array></SimpleSetPredicate>')


def compound(operator, *predicates):
    return f'<CompoundPredicate booleanOperator="{operator}">' + ''.join(predicates) + '</CompoundPredicate>'


def node(predicate, score=None, children='', more='', shares=None):
    given = f' score="{score}"' if score is not None else ''
    shares = ''.join(f'<ScoreDistribution value="{k}" recordCount="{v}"/>' for k, v in (shares or {}).items())
    return f'<Node{given}{more}>{predicate}{shares}{children}</Node>'


TRUE = '<True/>'


def tree(children, function='regression', strategy='none', last='returnNullPrediction', score='0', more='', schema='{schema}', shares=None):
    return (f'<TreeModel functionName="{function}" missingValueStrategy="{strategy}" noTrueChildStrategy="{last}">{schema}' +
            node(TRUE, score, children, more, shares) + '</TreeModel>')


SPLITS = (node(test('x', 'lessOrEqual', 0.5), 1, node(test('y', 'lessThan', 0), 2) + node(test('y', 'greaterOrEqual', 0), 3)) +
          node(test('x', 'greaterThan', 0.5), 4, node(members('c', 'isIn', 'red', 'blue'), 5) +
               node(test('c', 'equal', 'green'), 6)))
CASES = {}
for strategy in ('none', 'lastPrediction', 'nullPrediction'):
    for last in ('returnNullPrediction', 'returnLastPrediction')[:1 if strategy == 'nullPrediction' else 2]:
        CASES[f'tree_{strategy.lower()}_{"last" if "Last" in last else "null"}'] = document(
            tree(SPLITS, strategy=strategy, last=last))
CASES['tree_default_child'] = document(tree(
    node(test('x', 'lessThan', 0.5), 1, node(test('y', 'lessThan', 0), 2, more=' id="c"') +
         node(test('y', 'greaterOrEqual', 0), 3, more=' id="d"'), ' id="a" defaultChild="d"') +
    node(test('x', 'greaterOrEqual', 0.5), 4, more=' id="b"'), strategy='defaultChild', more=' defaultChild="a"'))
CASES['tree_compound'] = document(tree(
    node(compound('and', test('x', 'greaterThan', 0), members('c', 'isNotIn', 'green')), 1) +
    node(compound('or', test('y', 'isMissing'), test('y', 'lessThan', -1)), 2) +
    node(compound('surrogate', test('x', 'lessThan', 0), test('y', 'greaterThan', 0), TRUE), 3) +
    node(members('c', 'isNotIn', 'red'), 4) + node(TRUE, 5)))
CASES['tree_classes'] = document(tree(
    node(test('x', 'lessOrEqual', 0), 'a', shares={'a': 7, 'b': 2, 'c': 1}) +
    node(test('x', 'greaterThan', 0), 'b', node(members('c', 'isIn', 'red'), 'b', shares={'a': 1, 'b': 5, 'c': 4}) +
         node(members('c', 'isIn', 'green', 'blue'), 'c', shares={'a': 0, 'b': 3, 'c': 3})),
    function='classification', score='a'), ['a', 'b', 'c'])

SUM = ('<RegressionTable intercept="0.75"{target}><NumericPredictor name="x" coefficient="0.3"/>'
       '<NumericPredictor name="y" exponent="2" coefficient="-0.0125"/>'
       '<CategoricalPredictor name="c" value="red" coefficient="0.4"/><CategoricalPredictor name="c" value="blue" coefficient="-1.7"/>'
       '<PredictorTerm coefficient="0.01"><FieldRef field="x"/><FieldRef field="y"/></PredictorTerm></RegressionTable>')
PLAIN = '<RegressionTable intercept="{}" targetCategory="{}"><NumericPredictor name="x" coefficient="{}"/></RegressionTable>'
for method in ('none', 'logit', 'exp', 'probit', 'cloglog', 'cauchit'):
    CASES[f'regression_{method}'] = document(
        f'<RegressionModel functionName="regression" normalizationMethod="{method}">' + '{schema}' +
        SUM.replace('{target}', '') + '</RegressionModel>')
CASES['regression_two_classes'] = document(
    '<RegressionModel functionName="classification" normalizationMethod="logit">{schema}' +
    SUM.replace('{target}', ' targetCategory="yes"') + '<RegressionTable intercept="0" targetCategory="no"/></RegressionModel>',
    ['no', 'yes'])
CASES['regression_softmax'] = document(
    '<RegressionModel functionName="classification" normalizationMethod="softmax">{schema}' + PLAIN.format(0.1, 'a', 0.5) +
    PLAIN.format(-0.2, 'b', 0.01) + PLAIN.format(0.3, 'c', -0.25) + '</RegressionModel>', ['a', 'b', 'c'])


def derived(name, kind, expression, optype='continuous'):
    return f'<DerivedField name="{name}" optype="{optype}" dataType="{kind}">{expression}</DerivedField>'


def apply(function, *arguments):
    return f'<Apply function="{function}">' + ''.join(arguments) + '</Apply>'


def ref(field):
    return f'<FieldRef field="{field}"/>'


def constant(value, kind='double'):
    return f'<Constant dataType="{kind}">{value}</Constant>'


COMMON = '<TransformationDictionary>' + ''.join([
    derived('scaled', 'double', '<NormContinuous field="x" mapMissingTo="0.25"><LinearNorm orig="-1" norm="0"/>'
            '<LinearNorm orig="1" norm="1"/><LinearNorm orig="4" norm="1.5"/></NormContinuous>'),
    derived('capped', 'double', '<NormContinuous field="x" outliers="asExtremeValues"><LinearNorm orig="-1" norm="3"/>'
            '<LinearNorm orig="1" norm="1"/></NormContinuous>'),
    derived('is_red', 'double', '<NormDiscrete field="c" value="red" mapMissingTo="0.5"/>'),
    derived('bin', 'string', '<Discretize field="y" defaultValue="far">'
            '<DiscretizeBin binValue="low"><Interval closure="closedOpen" leftMargin="-5" rightMargin="0"/></DiscretizeBin>'
            '<DiscretizeBin binValue="middle"><Interval closure="closedClosed" leftMargin="0" rightMargin="1"/></DiscretizeBin>'
            '</Discretize>' + ''.join(f'<Value value="{v}"/>' for v in ('low', 'middle', 'far', 'none')), 'categorical'),
    derived('weight', 'double', '<MapValues outputColumn="w" dataType="double" defaultValue="9" mapMissingTo="-1">'
            '<FieldColumnPair field="c" column="k"/><InlineTable><row><k>red</k><w>1.5</w></row>'
            '<row><k>green</k><w>2.5</w></row></InlineTable></MapValues>'),
    derived('computed', 'double', apply('+', apply('*', ref('scaled'), constant(2)), apply('-', ref('weight'), ref('is_red')))),
    derived('chosen', 'double', apply('if', apply('or', apply('and', apply('isNotMissing', ref('c')), apply('equal', ref('c'), constant('green', 'string'))),
                                                  apply('greaterThan', ref('scaled'), constant(0.9))),
                                      apply('sqrt', apply('abs', ref('weight'))),
                                      apply('max', ref('scaled'), ref('is_red'), constant(0.1)))),
]) + '</TransformationDictionary>'
CASES['transformations'] = document(
    '<RegressionModel functionName="regression">{schema}<RegressionTable intercept="0.5">' + ''.join(
        f'<NumericPredictor name="{n}" coefficient="{v}"/>' for n, v in
        (('scaled', 1.25), ('is_red', 2), ('weight', 0.1), ('computed', 0.3), ('chosen', -1.5))) +
    ''.join(f'<CategoricalPredictor name="bin" value="{n}" coefficient="{v}"/>' for n, v in
            (('low', 10), ('middle', 20), ('far', 40), ('none', 80))) + '</RegressionTable></RegressionModel>', common=COMMON)
CASES['capped'] = document('<RegressionModel functionName="regression">{schema}<RegressionTable intercept="0">'
                           '<NumericPredictor name="capped" coefficient="1"/></RegressionTable></RegressionModel>', common=COMMON)


def segments(method, *models, function='regression', more='', weights=None):
    weights = [f' weight="{w}"' for w in weights] if weights else [''] * len(models)
    return (f'<MiningModel functionName="{function}">' + '{schema}' + more + f'<Segmentation multipleModelMethod="{method}">' +
            ''.join(f'<Segment id="{i + 1}"{weights[i]}>{m}</Segment>' for i, m in enumerate(models)) +
            '</Segmentation></MiningModel>')


def always(model):
    return TRUE + model


SMALL = [tree(node(test('x', 'lessThan', a), a) + node(test('x', 'greaterOrEqual', a), b), last='returnLastPrediction',
              score=0.25, schema=INNER) for a, b in ((0.5, 1.1), (-1, 2.2), (1, -0.7))]
CLASSES = [tree(node(test('x', 'lessThan', a), 'u', shares={'u': 3, 'v': 1}) +
                node(test('x', 'greaterOrEqual', a), 'v', shares={'u': 1, 'v': 4}), function='classification',
                last='returnLastPrediction', score='u', schema=INNER, shares={'u': 5, 'v': 5}) for a in (0.5, -1, 1)]
for method in ('sum', 'average'):
    CASES[f'mining_{method.lower()}'] = document(segments(method, *map(always, SMALL)))
CASES['mining_targets'] = document(segments('sum', *map(always, SMALL), more='<Targets><Target field="z" rescaleFactor="2" rescaleConstant="-3.5"/></Targets>'))
CASES['mining_vote'] = document(segments('majorityVote', *map(always, CLASSES), function='classification'), ['u', 'v'])
CASES['mining_mean_of_classes'] = document(segments('average', *map(always, CLASSES), function='classification'), ['u', 'v'])
CASES['mining_weighted'] = document(segments('weightedAverage', *map(always, SMALL), weights=(0.5, 2, 1.25)))
CASES['mining_weighted_classes'] = document(segments('weightedAverage', *map(always, CLASSES), function='classification', weights=(0.5, 2, 1.25)), ['u', 'v'])
CASES['mining_first'] = document(segments('selectFirst', test('y', 'greaterThan', 0) + SMALL[0], test('y', 'lessOrEqual', 0) + SMALL[1],
                                          TRUE + SMALL[2]))
CASES['mining_chain'] = document(
    '<MiningModel functionName="classification">{schema}<Segmentation multipleModelMethod="modelChain">'
    '<Segment id="1"><True/><MiningModel functionName="regression">' + INNER +
    '<Output><OutputField name="margin" optype="continuous" dataType="double" feature="predictedValue"/></Output>'
    '<Segmentation multipleModelMethod="sum">' + ''.join(f'<Segment id="{i}">{TRUE}{m}</Segment>' for i, m in enumerate(SMALL)) +
    '</Segmentation></MiningModel></Segment><Segment id="2"><True/>'
    '<RegressionModel functionName="classification" normalizationMethod="logit">'
    '<MiningSchema><MiningField name="z" usageType="target"/><MiningField name="margin"/></MiningSchema>'
    '<RegressionTable intercept="0" targetCategory="v"><NumericPredictor name="margin" coefficient="1"/></RegressionTable>'
    '<RegressionTable intercept="0" targetCategory="u"/></RegressionModel></Segment></Segmentation></MiningModel>', ['u', 'v'])


def attribute(score, predicate):
    return f'<Attribute partialScore="{score}">{predicate}</Attribute>'


CASES['scorecard'] = document(
    '<Scorecard functionName="regression" initialScore="10" useReasonCodes="false">{schema}<Characteristics>'
    '<Characteristic name="one">' + attribute(5, test('x', 'isMissing')) + attribute(-3, test('x', 'lessThan', 0)) +
    attribute(12, compound('and', test('x', 'greaterOrEqual', 0), test('x', 'lessThan', 1))) + attribute(20, TRUE) +
    '</Characteristic><Characteristic name="two">' + attribute(1, members('c', 'isIn', 'red', 'blue')) + attribute(2, TRUE) +
    '</Characteristic></Characteristics></Scorecard>')
CASES['treatments'] = document(
    '<RegressionModel functionName="regression">{schema}<RegressionTable intercept="1">'
    '<NumericPredictor name="x" coefficient="1"/><NumericPredictor name="y" coefficient="100"/>'
    '<CategoricalPredictor name="c" value="red" coefficient="0.5"/></RegressionTable></RegressionModel>',
    x=' missingValueReplacement="7"', y=' outliers="asExtremeValues" lowValue="-1" highValue="2" missingValueReplacement="-9"',
    c='missingValueReplacement="red" invalidValueTreatment="asMissing"')


def plain(value):
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return float(value) if not isinstance(value, str) else value


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--into', default=os.path.join(os.path.dirname(os.path.abspath(__file__)), 'pmml'))
    parser.add_argument('names', nargs='*')
    arguments = parser.parse_args()
    os.makedirs(arguments.into, exist_ok=True)
    rows = [list(r) for r in itertools.product(NUMBERS, NUMBERS[:6], COLOURS)][::3] + [[1.0, 1.0, 'unheard of']]
    for name, text in CASES.items():
        if arguments.names and name not in arguments.names:
            continue
        path = os.path.join(arguments.into, name + '.pmml')
        with open(path, 'w', encoding='utf-8') as file:
            file.write(text)
        model = Model.load(path)
        answers = model.predict(pandas.DataFrame(rows, columns=['x', 'y', 'c'], dtype=object))
        value = next(c for c in answers if c.startswith('predicted'))
        order = [v for v in ('no', 'yes', 'a', 'b', 'c', 'u', 'v') if f'probability_{v}' in answers]
        labels = [plain(v) for v in answers[value]] if order else None
        scores = [[plain(answers[f'probability_{v}'][i]) for v in order] for i in range(len(rows))] if order else \
            [[plain(v)] for v in answers[value]]
        with open(os.path.join(arguments.into, name + '.json'), 'w', encoding='utf-8') as file:
            json.dump({'inputs': [{'name': 'x', 'type': 'float8'}, {'name': 'y', 'type': 'float8'}, {'name': 'c', 'type': 'text'}],
                       'rows': rows, 'outputs': order or ['z'], 'scores': scores, 'classes': labels, 'tolerance': 1e-12}, file)
            file.write('\n')


if __name__ == '__main__':
    main()

"""Models exported to PMML: PMML4S answers as Visage does, and so does the
export when it is imported again.

The models are those of test/models.  PMML4S computes in float64 throughout
(it does not know x-mathContext) and keeps fields of type float as they come,
so models in float32 differ from it in the last digits of float32, and rows are
left out where a float is on a threshold; the export that is imported again is
compared on all rows.
"""

import glob
import json
import math
import os
import re
import shutil
import struct
import subprocess
import tempfile
import unittest

import psycopg

import house
import scoring

MODELS = os.path.join(house.SOURCE, 'test', 'models')
JAVA = shutil.which('java')


def paths():
    """name -> file of a model whose rows are beside it."""
    found = {}
    for directory, suffix in (('onnx', '.onnx'), ('pmml', '.pmml')):
        for path in glob.glob(os.path.join(MODELS, directory, '*' + suffix)):
            found[directory + '_' + os.path.basename(path)[:-len(suffix)]] = path
    for rows in glob.glob(os.path.join(MODELS, 'small', '*.tsv')):
        model = [p for p in glob.glob(glob.escape(rows[:-4]) + '.*') if not p.endswith('.tsv')]
        found['small_' + os.path.basename(rows)[:-4].replace('.', '_')] = model[0]
    return found


# What the exporter refuses, by name; everything else must come through.
REFUSED = {
    'onnx_regressor_min_1': 'the least of several trees',
    'onnx_regressor_min_3': 'the least of several trees',
    **{name: 'linear leaves' for name in paths() if name.startswith('small_lightgbm') and '_linear' in name},
}
# What PMML4S does not read: max of numbers.
UNREAD = {'onnx_regressor_max_1', 'onnx_regressor_max_3'}


def number_or_text(value, kind):
    if value is None or value == '\\N':
        return None
    if 'text' in kind or 'char' in kind:
        return value
    if kind == 'boolean' or kind == 'bool':
        return {'t': 'true', 'f': 'false'}.get(value, value)
    return float(value)


def read_case(path):
    """Inputs with their types, rows, options."""
    beside = os.path.splitext(path)[0] + '.json'
    if os.path.basename(os.path.dirname(path)) != 'small':
        with open(beside, encoding='utf-8') as file:
            case = json.load(file)
        return case['inputs'], case['rows'], case.get('options') or {}
    with open(os.path.splitext(path)[0] + '.tsv', encoding='utf-8') as file:
        lines = [line.rstrip('\n').split('\t') for line in file]
    header = [field.rsplit(':', 1) for field in lines[0]]
    used = [i for i, (name, _) in enumerate(header) if not name.split('.')[0] in ('raw', 'out', 'shap')]
    rows = [[number_or_text(line[i].replace('\\\\', '\\') if line[i] != '\\N' else None, header[i][1]) for i in used]
            for line in lines[1:]]
    return [{'name': header[i][0], 'type': header[i][1]} for i in used], rows, {}


def in_float32(data):
    return b'x-mathContext="float"' in data or b'dataType="float"' in data


class ExportPmml(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.database = house.Database('export_pmml')
        cls.connection = cls.database.connect()
        cls.files = tempfile.TemporaryDirectory()
        cls.runtime = None
        if JAVA:
            python = subprocess.run(
                ['bash', '-euc', '. scripts/lib.sh; vsg_venv test/models/requirements_pmml.txt'], cwd=house.SOURCE,
                check=True, capture_output=True, text=True).stdout.strip()
            cls.runtime = subprocess.Popen([python, os.path.join(MODELS, 'run_pmml.py')], stdin=subprocess.PIPE,
                                           stdout=subprocess.PIPE, text=True)

    @classmethod
    def tearDownClass(cls):
        if cls.runtime:
            cls.runtime.stdin.close()
            cls.runtime.wait()
            cls.runtime.stdout.close()
        cls.files.cleanup()
        cls.connection.close()
        cls.database.__exit__()

    def export(self, name, path):
        """(scores of the model, its export, columns, rows)"""
        inputs, rows, options = read_case(path)
        with open(path, 'rb') as file:
            version = scoring.import_model(self.connection, name, file.read(), options)
        renamed = self.connection.execute(
            "SELECT coalesce(inputs, '[]') FROM visage.model_versions WHERE model = %s AND version = %s", (name, version)).fetchone()[0]
        wanted = scoring.score(self.connection, f'{name}@{version}', inputs, rows)
        exported = self.connection.execute('SELECT visage_export_model(%s, %s)', (f'{name}@{version}', 'pmml')).fetchone()[0]
        return wanted, exported, inputs, rows, [i['name'] for i in renamed]

    def compare(self, what, wanted, answers, rows, tolerance):
        for i, ((scores, label), (got, got_label)) in enumerate(zip(wanted, answers)):
            for score, value in zip(scores, got):
                self.assertTrue(scoring.same(value, score, tolerance),
                                f'{what}, row {i}, {rows[i]}: {got}, not {scores}')
            if got_label is not None and label is not None and len(scores) > 1:
                self.assertEqual(got_label, label, f'{what}, row {i}: {scores}')

    def check_again(self, name):
        """The export imported again, in Visage."""
        wanted, exported, inputs, rows, _ = self.export(name, paths()[name])
        again = scoring.import_model(self.connection, name + '_again', exported)
        answers = scoring.score(self.connection, f'{name}_again@{again}', inputs, rows)
        if len(wanted[0][0]) == 2 and b'"value(' in exported and b'_label"' in exported:
            # of two classes the second is the model's value
            wanted = [(scores[1:], None) for scores, _ in wanted]
        if b'_label"' in exported or (len(wanted[0][0]) > 1 and len(answers[0][0]) == 1):
            answers = [(got, None) for got, _ in answers]
        self.compare('again', wanted, answers, rows, 1e-6 if in_float32(exported) else 1e-12)

    def answers(self, name, exported, inputs, rows, names):
        path = os.path.join(self.files.name, name + '.pmml')
        with open(path, 'wb') as file:
            file.write(exported)
        places = [[i['name'] for i in inputs].index(n) for n in names]
        rows = [[plain(row[p], inputs[p]['type']) for p in places] for row in rows]
        if b'dataType="float"' in exported:
            rows = [[single(v) for v in row] for row in rows]
        self.runtime.stdin.write(json.dumps({'model': path, 'columns': names, 'rows': rows}) + '\n')
        self.runtime.stdin.flush()
        return json.loads(self.runtime.stdout.readline())

    def check_pmml4s(self, name):
        wanted, exported, inputs, rows, names = self.export(name, paths()[name])
        outputs = self.connection.execute(
            'SELECT outputs FROM visage.model_versions WHERE model = %s ORDER BY version DESC LIMIT 1', (name,)).fetchone()[0]
        answer = self.answers(name, exported, inputs, rows, names)
        self.assertNotIn('error', answer)
        columns = answer['columns']
        if f'probability({outputs[0]["name"]})' in columns:
            places = [columns.index(f'probability({o["name"]})') for o in outputs]
        elif len(outputs) > 1:
            places = [columns.index(f'value({o["name"]})') for o in outputs]
        else:
            places = [next(i for i, c in enumerate(columns) if c.startswith('predicted') or len(columns) == 1)]
        limits = thresholds(exported)
        clear = [i for i, row in enumerate(rows) if all(
            is_clear(plain(v, k['type']), limits.get(k['name'], ())) for v, k in zip(row, inputs))]
        self.assertTrue(clear)
        clear = [i for i in clear if not any(s is not None and math.isinf(s) for s in wanted[i][0])]
        label = columns.index('_label') if '_label' in columns else None
        self.compare('PMML4S', [wanted[i] for i in clear],
                     [([answer['rows'][i][p] for p in places], None if label is None else class_of(answer['rows'][i][label]))
                      for i in clear],
                     [rows[i] for i in clear], 1e-5 if in_float32(exported) else 1e-9)


def plain(value, kind):
    """A value for PMML4S: NaN is missing there, too."""
    if kind in ('float8', 'float4', 'int', 'int8', 'bigint', 'integer', 'double precision', 'real') and isinstance(value, str):
        value = float(value)
    return None if isinstance(value, float) and value != value else value


def class_of(value):
    """A class as text: the client of PMML4S makes numbers of digits."""
    return '%d' % value if isinstance(value, float) else value


def thresholds(exported):
    """input -> what tests compare it with, where there are floats."""
    found = {}
    if b'dataType="float"' in exported:
        for name, value in re.findall(r'<SimplePredicate field="([^"]+)" operator="\w+" value="([-+.0-9eE]+)"', exported.decode()):
            found.setdefault(name, set()).add(float(value))
    return found


def is_clear(value, limits):
    """Does PMML4S tell it from its neighbours?  It takes infinity for missing,
    numbers that are all but equal for equal, and rounds floats by their digits."""
    if value is None or isinstance(value, str):
        return True
    if any(abs(value - limit) <= 1e-6 * max(1, abs(limit)) for limit in limits):
        return False
    return abs(value) < 1e37 and (value == single(value) or value == float('%.13g' % value))


def single(value):
    """The float32 number that Visage makes of it, for a reader that does not."""
    if value is None or isinstance(value, str):
        return value
    try:
        return struct.unpack('<f', struct.pack('<f', value))[0]
    except OverflowError:
        return float('inf') if value > 0 else float('-inf')


def refused(name):
    def test(self):
        with self.assertRaisesRegex(psycopg.errors.FeatureNotSupported, REFUSED[name]):
            self.export(name, paths()[name])
    return test


for case_name in sorted(paths()):
    if case_name in REFUSED:
        setattr(ExportPmml, 'test_refused_' + case_name, refused(case_name))
        continue
    setattr(ExportPmml, 'test_again_' + case_name, lambda self, name=case_name: self.check_again(name))
    setattr(ExportPmml, 'test_pmml4s_' + case_name, unittest.skipUnless(
        JAVA and case_name not in UNREAD, 'PMML4S does not read it' if JAVA else 'no Java runtime for PMML4S: apt-get install default-jre-headless')(
            lambda self, name=case_name: self.check_pmml4s(name)))

if __name__ == '__main__':
    unittest.main()

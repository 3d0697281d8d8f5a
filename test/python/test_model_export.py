"""Models exported to ONNX: onnxruntime answers as Visage does, and so does
the export when it is imported again.
"""

import json
import os
import subprocess
import tempfile
import unittest

import psycopg

import house
import scoring
from test_model_export_pmml import paths, plain, read_case

# What the exporter refuses, by name; everything else must come through.
REFUSED = {}


def quoted(column):
    return '"' + column['name'].replace('"', '""') + '"'


def onnx_cases():
    return sorted(f[:-5] for f in os.listdir(os.path.join(house.SOURCE, 'test', 'models', 'onnx')) if f.endswith('.json'))


class Export(scoring.Cases, unittest.TestCase):
    directory, suffix = 'onnx', '.onnx'

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.files = tempfile.TemporaryDirectory()
        python = subprocess.run(
            ['bash', '-euc', '. scripts/lib.sh; vsg_venv test/models/requirements_runtime.txt'], cwd=house.SOURCE,
            check=True, capture_output=True, text=True).stdout.strip()
        cls.runtime = subprocess.Popen([python, os.path.join(house.SOURCE, 'test', 'models', 'run_onnx.py')],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    @classmethod
    def tearDownClass(cls):
        cls.runtime.stdin.close()
        cls.runtime.wait()
        cls.runtime.stdout.close()
        cls.files.cleanup()
        super().tearDownClass()

    def ask(self, data, case):
        """onnxruntime's answers to an exported model."""
        path = os.path.join(self.files.name, 'model.onnx')
        with open(path, 'wb') as file:
            file.write(data)
        columns = zip(*case['rows'])
        self.runtime.stdin.write(json.dumps({'model': path, 'inputs': {
            i['name']: list(c) for i, c in zip(case['inputs'], columns)}}) + '\n')
        self.runtime.stdin.flush()
        answer = json.loads(self.runtime.stdout.readline())
        self.assertNotIn('error', answer)
        return answer

    def check_export(self, name):
        case, data = self.load(name)
        version = scoring.import_model(self.connection, name, data, case['options'])
        wanted = scoring.score(self.connection, f'{name}@{version}', case['inputs'], case['rows'])
        export = 'SELECT visage_export_model(%s, %s)'
        if name in REFUSED:
            with self.assertRaisesRegex(psycopg.errors.FeatureNotSupported, REFUSED[name]):
                self.connection.execute(export, (f'{name}@{version}', 'onnx'))
            return
        exported = self.connection.execute(export, (f'{name}@{version}', 'onnx')).fetchone()[0]
        answer = self.ask(exported, case)
        for i, (scores, label) in enumerate(wanted):
            rows = answer.get('probabilities') or answer['value']
            for got, value in zip(rows[i], scores):
                self.assertTrue(scoring.same(got, value, 1e-6), f'row {i}, {case["rows"][i]}: {rows[i]}, not {scores}')
            if 'label' in answer:
                self.assertEqual(answer['label'][i][0], label, f'row {i}: {scores}')
        again = scoring.import_model(self.connection, name + '_again', exported)
        for i, (scores, label) in enumerate(scoring.score(self.connection, f'{name}_again@{again}', case['inputs'],
                                                          case['rows'])):
            for got, value in zip(scores, wanted[i][0]):
                self.assertTrue(scoring.same(got, value, 1e-6), f'again, row {i}: {scores}, not {wanted[i][0]}')

    def check_small(self, name):
        """A model of XGBoost or LightGBM: sets of categories, linear leaves."""
        inputs, rows, _ = read_case(paths()[name])
        with open(paths()[name], 'rb') as file:
            version = scoring.import_model(self.connection, name, file.read())
        kinds = dict(self.connection.execute("SELECT i ->> 'name', i ->> 'type' FROM visage.model_versions,"
                                             " jsonb_array_elements(inputs) AS i WHERE model = %s AND version = %s", (name, version)).fetchall())
        wanted = scoring.score(self.connection, f'{name}@{version}', inputs, rows)
        exported = self.connection.execute('SELECT visage_export_model(%s, %s)', (f'{name}@{version}', 'onnx')).fetchone()[0]
        answer = self.ask(exported, {'inputs': inputs, 'rows': [
            [plain(v, i['type']) if kinds.get(i['name']) == 'number' else v for v, i in zip(row, inputs)] for row in rows]})
        found = answer.get('probabilities') or answer['value']
        for row, (scores, _), got in zip(rows, wanted, found):
            for score, value in zip(scores, got):
                self.assertTrue(scoring.same(value, score, 3e-6), f'{row}: {got}, not {scores}')
        again = scoring.import_model(self.connection, name + '_again', exported)
        # ONNX has no NULL: a text that is missing is the empty string
        for column in inputs:
            if column['type'] == 'text':
                self.connection.execute(f"UPDATE rows_of_{name} SET {quoted(column)} = '' WHERE {quoted(column)} IS NULL")
        for row, (scores, _), (got,) in zip(rows, wanted, self.connection.execute(
                f"SELECT visage_scores('{name}_again@{again}', t) FROM rows_of_{name} AS t ORDER BY n").fetchall()):
            for score, value in zip(scores, got):
                self.assertTrue(scoring.same(value, score, 3e-6), f'again, {row}: {got}, not {scores}')

    def test_trained(self):
        run = self.connection.execute
        run("""CREATE TABLE people AS SELECT i, CASE WHEN i % 7 > 0 THEN (i * 37 % 101)::float8 END AS age,
            (ARRAY['red', 'green', NULL, 'blue'])[1 + i % 4] AS colour, (i * 31 % 97 > 40 + i % 4 * 5) AS label
            FROM generate_series(1, 400) AS i""")
        run("SELECT visage_train('trained', 'SELECT age, colour, label FROM people', algorithm => 'logistic', deploy => 'always')")
        rows = run("SELECT age, colour, visage_score('trained', p) FROM people p ORDER BY i").fetchall()
        rows += [(age, 'unheard of', run("SELECT visage_score('trained', %s::float8, 'unheard of')", (age,)).fetchone()[0])
                 for age in (None, 20.5)]
        exported = run("SELECT visage_export_model('trained', 'onnx')").fetchone()[0]
        answer = self.ask(exported, {'inputs': [{'name': 'age'}, {'name': 'colour'}], 'rows': [r[:2] for r in rows]})
        worst = max(abs(got[1] - row[2]) for got, row in zip(answer['probabilities'], rows))
        self.assertLess(worst, 1e-12)


for case_name in sorted(paths()):
    if case_name.startswith('small_'):
        setattr(Export, 'test_' + case_name, lambda self, name=case_name: self.check_small(name))
for case_name in onnx_cases():
    setattr(Export, 'test_' + case_name, lambda self, name=case_name: self.check_export(name))

if __name__ == '__main__':
    unittest.main()

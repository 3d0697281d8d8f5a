"""Imports a model, scores rows with it, and compares with what its library said.

A case is NAME.json beside NAME.<suffix>: inputs (name, type), rows, outputs,
scores and classes as a program of test/models wrote them down.
"""

import json
import math
import os
import subprocess
import tempfile
import unittest

from psycopg import sql

import house

SHARED = os.environ.get('VISAGE_SHARED') or os.path.join(house.SOURCE, '..', 'shared')


def number(value):
    return float(value) if isinstance(value, str) else value


def same(got, wanted, tolerance):
    """Equal: exactly where the tolerance is 0, else relative to 1 or more."""
    if wanted is None or got is None:
        return wanted is None and got is None
    if math.isnan(wanted) or math.isinf(wanted):
        return got == wanted or (math.isnan(wanted) and math.isnan(got))
    if tolerance == 0:
        return got == wanted
    return abs(got - wanted) <= tolerance * max(1.0, abs(wanted))


def import_model(connection, name, data, options=None):
    return connection.execute('SELECT visage_import_model(%s, %b, options => %s)',
                              (name, data, json.dumps(options or {}))).fetchone()[0]


def score(connection, model, inputs, rows):
    """(scores, class) of each row; the model's inputs are columns."""
    table = sql.Identifier('rows_of_' + model.split('@')[0])
    connection.execute(sql.SQL('DROP TABLE IF EXISTS {}').format(table))
    connection.execute(sql.SQL('CREATE TEMP TABLE {} (n int, {})').format(table, sql.SQL(', ').join(
        sql.SQL('{} {}').format(sql.Identifier(i['name']), sql.SQL(i['type'])) for i in inputs)))
    with connection.cursor().copy(sql.SQL('COPY {} FROM STDIN').format(table)) as copy:
        for i, row in enumerate(rows):
            copy.write_row([i] + [v if isinstance(v, str) or v is None else repr(v) for v in row])
    return connection.execute(sql.SQL('SELECT visage_scores({0}, t), visage_predict({0}, t) FROM {1} t ORDER BY n').format(
        model, table)).fetchall()


def outputs(connection, model):
    found = connection.execute('SELECT outputs FROM visage.models WHERE model = %s', (model,)).fetchone()[0]
    return [o['name'] for o in found]


def compare(test, case, answers):
    """Fails the test where an answer is not the library's."""
    test.assertEqual(len(answers), len(case['rows']))
    for i, (scores, label) in enumerate(answers):
        wanted = [number(v) for v in case['scores'][i]]
        test.assertEqual(len(scores), len(wanted))
        for got, value in zip(scores, wanted):
            test.assertTrue(same(got, value, case['tolerance']), f'row {i}, {case["rows"][i]}: {scores}, not {wanted}')
        if case['classes'] is not None:
            test.assertEqual(label, case['classes'][i], f'row {i}, {case["rows"][i]}: {scores}')


class Cases:
    """A mixin: a database, and check(name) for the cases of a directory."""
    directory = suffix = None

    @classmethod
    def setUpClass(cls):
        cls.database = house.Database(cls.__name__.lower())
        cls.connection = cls.database.connect()

    @classmethod
    def tearDownClass(cls):
        cls.connection.close()
        cls.database.__exit__()

    @classmethod
    def path(cls, name, suffix):
        return os.path.join(house.SOURCE, 'test', 'models', cls.directory, name + suffix)

    def load(self, name):
        with open(self.path(name, '.json'), encoding='utf-8') as file:
            case = json.load(file)
        with open(self.path(name, self.suffix), 'rb') as file:
            return case, file.read()

    def check(self, name):
        case, data = self.load(name)
        version = import_model(self.connection, name, data, case.get('options'))
        if case['outputs'] is not None:
            self.assertEqual(outputs(self.connection, name), case['outputs'])
        compare(self, case, score(self.connection, f'{name}@{version}', case['inputs'], case['rows']))

    @classmethod
    def add(cls):
        directory = os.path.dirname(cls.path('', ''))
        for file in sorted(os.listdir(directory)):
            if file.endswith('.json'):
                name = file[:-len('.json')]
                setattr(cls, 'test_' + name, lambda self, name=name: self.check(name))


@unittest.skipUnless(os.environ.get('VISAGE_LONG'), 'takes minutes: VISAGE_LONG=1')
@unittest.skipUnless(os.path.isdir(os.path.join(SHARED, 'data')), f'no public data in {SHARED}: set VISAGE_SHARED')
class Generated(Cases):
    """A mixin: models that a program of test/models trains now, up to 50 MB."""
    program = requirements = None
    least = 40

    def test_generated(self):
        python = subprocess.run(
            ['bash', '-euc', f'. scripts/lib.sh; vsg_venv test/models/{self.requirements}'], cwd=house.SOURCE,
            check=True, capture_output=True, text=True).stdout.strip()
        with tempfile.TemporaryDirectory() as directory:
            program = os.path.join(house.SOURCE, 'test', 'models', self.program)
            made = [subprocess.Popen([python, program, '--into', directory, '--part', f'{i}/2'], stdout=subprocess.DEVNULL,
                                     stderr=subprocess.PIPE, text=True, env=dict(os.environ, VISAGE_SHARED=SHARED)) for i in range(2)]
            for process in made:
                said = process.communicate()[1]
                self.assertEqual(process.returncode, 0, said[-3000:])
            type(self).directory = directory
            names = sorted(f[:-len('.json')] for f in os.listdir(directory) if f.endswith('.json'))
            self.assertGreater(len(names), self.least)
            self.assertGreater(max(os.path.getsize(self.path(n, self.suffix)) for n in names), 45_000_000)
            for name in names:
                with self.subTest(name):
                    self.check(name)

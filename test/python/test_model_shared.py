"""The public ONNX and PMML files of ../shared/data/models: each is scored as
onnxruntime (answers in test/models/shared) or test/models/evaluate_pmml.py
does, or refused by name.
"""

import gzip
import json
import os
import sys
import unittest

import psycopg

import house
import scoring

MODELS = os.path.join(os.environ.get('VISAGE_SHARED') or os.path.join(house.SOURCE, '..', 'shared'), 'data', 'models')
HERE = os.path.join(house.SOURCE, 'test', 'models')
sys.path.insert(0, HERE)
import evaluate_pmml  # noqa: E402


def outcomes():
    with open(os.path.join(HERE, 'outcomes_onnx_pmml.tsv'), encoding='utf-8') as file:
        return [line.rstrip('\n').split('\t') for line in file if not line.startswith('#')]


@unittest.skipUnless(os.path.isdir(MODELS), f'no public models in {MODELS}: set VISAGE_SHARED')
class Shared(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.database = house.Database('shared')
        cls.connection = cls.database.connect()

    @classmethod
    def tearDownClass(cls):
        cls.connection.close()
        cls.database.__exit__()

    def test_every_file_is_listed(self):
        found = {os.path.relpath(os.path.join(root, name), MODELS) for root, _, names in os.walk(MODELS) for name in names
                 if name.endswith(('.onnx', '.pmml', '.pmml.gz'))}
        self.assertEqual(found, {name for name, _, _ in outcomes()})

    def check(self, name, outcome, said):
        opened = gzip.open if name.endswith('.gz') else open
        with opened(os.path.join(MODELS, name), 'rb') as file:
            data = file.read()
        if outcome == 'refused':
            with self.assertRaises(psycopg.errors.FeatureNotSupported) as caught:
                scoring.import_model(self.connection, 'refused', data)
            self.assertIn(said, f'{caught.exception.diag.message_primary} {caught.exception.diag.message_detail}')
            return
        if '.pmml' in name:
            case = evaluate_pmml.case(data)
        else:
            with open(os.path.join(HERE, 'shared', name.replace('/', '__') + '.json'), encoding='utf-8') as file:
                case = json.load(file)
        version = scoring.import_model(self.connection, 'shared', data, case['options'])
        answers = scoring.score(self.connection, f'shared@{version}', case['inputs'], case['rows'])
        scoring.compare(self, case, answers)


for number, entry in enumerate(outcomes()):
    setattr(Shared, f'test_{number:02}_' + entry[0].replace('/', '_').replace('.', '_').replace('-', '_'),
            lambda self, entry=entry: self.check(*entry))

if __name__ == '__main__':
    unittest.main()

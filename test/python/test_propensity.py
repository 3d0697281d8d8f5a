"""The example of the pickled pipeline: converted, imported, compared."""

import json
import os
import subprocess
import tempfile
import unittest

import house
import scoring

EXAMPLE = os.path.join(house.SOURCE, 'examples', 'propensity')
COLUMNS = """age int, job text, marital text, education text, "default" text, balance int, housing text, loan text,
    contact text, day int, month text, duration int, campaign int, pdays int, previous int, poutcome text, y text"""
UNCONVERTIBLE = """
import pickle, sys
import pandas
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import SplineTransformer
pickle.dump(make_pipeline(SplineTransformer(), LogisticRegression()), open(sys.argv[1], 'wb'))
"""
PREDICT = """
import json, pickle, sys
import pandas
model = pickle.load(open(sys.argv[1], 'rb'))
rows = pandas.read_csv(sys.argv[2], sep=';')
print(json.dumps(model.predict_proba(rows[list(model.feature_names_in_)]).tolist()))
"""


class Propensity(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.python = subprocess.run(
            ['bash', '-euc', '. scripts/lib.sh; vsg_venv examples/propensity/requirements.txt'], cwd=house.SOURCE,
            check=True, capture_output=True, text=True).stdout.strip()
        cls.directory = tempfile.TemporaryDirectory()
        cls.model = os.path.join(cls.directory.name, 'propensity.pkl')
        cls.metrics = json.loads(cls.run_python(os.path.join(EXAMPLE, 'train.py'), cls.data(), cls.model))

    @classmethod
    def tearDownClass(cls):
        cls.directory.cleanup()

    @classmethod
    def run_python(cls, *arguments):
        return subprocess.run([cls.python, *arguments], check=True, capture_output=True, text=True,
                              env={**os.environ, 'OMP_NUM_THREADS': '1'}).stdout

    @staticmethod
    def data():
        return os.path.join(EXAMPLE, 'bank.csv.gz')

    def convert(self, model, output):
        return subprocess.run([self.python, os.path.join(EXAMPLE, 'convert.py'), model, self.data(), output,
                               '--separator', ';'], capture_output=True, text=True)

    def test_scores_as_predict_proba(self):
        output = os.path.join(self.directory.name, 'propensity.onnx')
        self.assertEqual(self.convert(self.model, output).returncode, 0)
        wanted = json.loads(self.run_python('-c', PREDICT, self.model, self.data()))
        with house.Database('propensity') as database, database.connect() as connection:
            connection.execute(f'CREATE TABLE bank (n int GENERATED ALWAYS AS IDENTITY, {COLUMNS})')
            names = [c.split()[0] for c in COLUMNS.replace('\n', ' ').split(',')]
            with connection.cursor().copy(f'COPY bank ({", ".join(names)}) FROM STDIN (FORMAT csv, HEADER, DELIMITER \';\')') \
                    as copy:
                copy.write(subprocess.run(['gzip', '-dc', self.data()], check=True, capture_output=True).stdout)
            with open(output, 'rb') as file:
                scoring.import_model(connection, 'propensity', file.read())
            connection.execute("SELECT visage_deploy('propensity', 1)")
            scores = connection.execute("SELECT visage_scores('propensity', b) FROM bank b ORDER BY n").fetchall()
            self.assertEqual(len(scores), len(wanted))
            worst = max(abs(got - value) for (row,), target in zip(scores, wanted) for got, value in zip(row, target))
            self.assertLess(worst, 1e-6)
            metrics = connection.execute("""SELECT visage_evaluate('propensity',
                'SELECT *, y = ''yes'' AS bought FROM bank WHERE (n - 1) % 5 = 0', 'bought')""").fetchone()[0]
            for name, value in self.metrics.items():
                self.assertAlmostEqual(metrics[name], value, delta=1e-6, msg=name)

    def test_unconvertible_step_is_named(self):
        model = os.path.join(self.directory.name, 'other.pkl')
        self.run_python('-c', UNCONVERTIBLE, model)
        done = self.convert(model, os.path.join(self.directory.name, 'other.onnx'))
        self.assertNotEqual(done.returncode, 0)
        self.assertIn('step "splinetransformer" (sklearn.preprocessing._polynomial.SplineTransformer)', done.stderr)


if __name__ == '__main__':
    unittest.main()

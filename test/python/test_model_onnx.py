"""Models in ONNX, scored as onnxruntime scores them.

Made by test/models/generate_onnx.py, with onnxruntime's answers; with
VISAGE_LONG also large ones, made now.
"""

import os
import subprocess
import tempfile
import unittest

import house
import scoring


class Onnx(scoring.Cases, unittest.TestCase):
    directory, suffix = 'onnx', '.onnx'


Onnx.add()

DATA = os.path.join(os.environ.get('VISAGE_SHARED') or os.path.join(house.SOURCE, '..', 'shared'), 'data')


@unittest.skipUnless(os.environ.get('VISAGE_LONG'), 'takes minutes: VISAGE_LONG=1')
@unittest.skipUnless(os.path.isdir(DATA), f'no public data in {DATA}: set VISAGE_SHARED')
class Large(scoring.Cases, unittest.TestCase):
    suffix = '.onnx'

    def test_large(self):
        python = subprocess.run(
            ['bash', '-euc', '. scripts/lib.sh; vsg_venv test/models/requirements_onnx.txt'], cwd=house.SOURCE,
            check=True, capture_output=True, text=True).stdout.strip()
        with tempfile.TemporaryDirectory() as directory:
            subprocess.run([python, os.path.join(house.SOURCE, 'test', 'models', 'generate_onnx.py'), '--data', DATA,
                            '--into', directory, '--large'], check=True, capture_output=True)
            type(self).directory = directory
            for name in ('large_forest', 'large_boosting'):
                self.check(name)


if __name__ == '__main__':
    unittest.main()

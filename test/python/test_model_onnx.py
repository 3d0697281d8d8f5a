"""Models in ONNX, scored as onnxruntime scores them.

Made by test/models/generate_onnx.py, with onnxruntime's answers; with
VISAGE_LONG also those of generate_onnx_trained.py, made now.
"""

import unittest

import scoring


class Onnx(scoring.Cases, unittest.TestCase):
    directory, suffix = 'onnx', '.onnx'


Onnx.add()


class Trained(scoring.Generated, unittest.TestCase):
    program, requirements, suffix = 'generate_onnx_trained.py', 'requirements_onnx.txt', '.onnx'


if __name__ == '__main__':
    unittest.main()

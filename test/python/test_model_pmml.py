"""Models in PMML, scored as PMML4S scores them.

Made by test/models/generate_pmml.py, with PMML4S's answers.
"""

import unittest

import scoring


class Pmml(scoring.Cases, unittest.TestCase):
    directory, suffix = 'pmml', '.pmml'


Pmml.add()

if __name__ == '__main__':
    unittest.main()

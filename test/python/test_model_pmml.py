"""Models in PMML, scored as PMML4S scores them.

Made by test/models/generate_pmml.py, with PMML4S's answers; with VISAGE_LONG
also those that sklearn2pmml writes (generate_pmml_trained.py), made now, as the
libraries predict that trained them.
"""

import shutil
import unittest

import scoring


class Pmml(scoring.Cases, unittest.TestCase):
    directory, suffix = 'pmml', '.pmml'


Pmml.add()


@unittest.skipUnless(shutil.which('java'), 'no Java runtime for sklearn2pmml: apt-get install default-jre-headless')
class Trained(scoring.Generated, unittest.TestCase):
    program, requirements, suffix = 'generate_pmml_trained.py', 'requirements_sklearn2pmml.txt', '.pmml'


if __name__ == '__main__':
    unittest.main()

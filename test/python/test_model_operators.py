"""The list of ONNX operators in the reference is the importer's, and
everything else is refused by name."""

import os
import re
import unittest

import psycopg

import house
import scoring


def varint(value):
    out = b''
    while value >= 0x80:
        out += bytes([value & 0x7f | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number, content):
    content = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(content)) + content


def integer(number, value):
    return varint(number << 3) + varint(value)


def model(operator, domain):
    """A graph of one node that reads a float and writes y."""
    shape = field(2, field(1, field(2, 'n')) + field(1, integer(1, 1)))
    graph = field(1, field(1, 'x') + field(2, 'y') + field(4, operator) + (field(7, domain) if domain else b''))
    graph += field(11, field(1, 'x') + field(2, field(1, integer(1, 1) + shape))) + field(12, field(1, 'y'))
    return integer(1, 8) + field(7, graph)


def documented():
    with open(os.path.join(house.SOURCE, 'docs', 'reference', 'model-import.md'), encoding='utf-8') as file:
        text = file.read()
    rows = re.findall(r'^\| (ai\.onnx(?:\.ml)?) \| (.*) \|$', text, re.M)
    return {(domain, name) for domain, names in rows for name in names.split(', ')}


def accepted():
    """What the importer's tables have."""
    found = set()
    for name in sorted(os.listdir(os.path.join(house.SOURCE, 'src', 'model'))):
        match = re.match(r'import_onnx_(math|shape|ml|trees)\.c$', name)
        if not match:
            continue
        with open(os.path.join(house.SOURCE, 'src', 'model', name), encoding='utf-8') as file:
            table = re.search(r'const OnnxOperatorEntry onnx_\w+\[\] = \{(.*?)\n\};', file.read(), re.S).group(1)
        domain = 'ai.onnx' if match.group(1) in ('math', 'shape') else 'ai.onnx.ml'
        found |= {(domain, entry) for entry in re.findall(r'\{"(\w+)"', table)}
    return found


class Operators(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.database = house.Database('operators')
        cls.connection = cls.database.connect()

    @classmethod
    def tearDownClass(cls):
        cls.connection.close()
        cls.database.__exit__()

    def refusal(self, operator, domain):
        """What the import of this operator alone says, or None."""
        try:
            scoring.import_model(self.connection, 'one', model(operator, domain if domain != 'ai.onnx' else ''))
        except psycopg.Error as error:
            return error
        return None

    def test_documented_are_accepted(self):
        self.assertEqual(documented(), accepted())

    def test_documented_are_known_to_the_importer(self):
        for domain, name in sorted(documented()):
            error = self.refusal(name, domain)
            if error is not None:
                self.assertNotIn('operators that are not supported', error.diag.message_primary, name)

    def test_others_are_refused_by_name(self):
        for domain, name in (('ai.onnx', 'Conv'), ('ai.onnx', 'Sign'), ('ai.onnx.ml', 'SVMClassifier'),
                             ('com.microsoft', 'Tokenizer'), ('ai.onnx.ml', 'Add'), ('ai.onnx', 'Scaler')):
            error = self.refusal(name, domain)
            self.assertEqual(error.sqlstate, '0A000')
            self.assertIn(name + ' "y"', error.diag.message_detail)

    def test_damage_is_said_with_its_place(self):
        whole = model('Abs', '')
        scoring.import_model(self.connection, 'whole', whole)
        for length in range(3, len(whole)):
            with self.assertRaises(psycopg.Error) as caught:
                scoring.import_model(self.connection, 'part', whole[:length])
            self.assertIn(caught.exception.sqlstate, ('22023', '0A000'), length)
        with self.assertRaises(psycopg.errors.InvalidParameterValue) as caught:
            scoring.import_model(self.connection, 'part', whole[:-3])
        self.assertRegex(caught.exception.diag.message_detail, r'at byte \d+')

    def test_options_that_mean_nothing_are_refused(self):
        with self.assertRaises(psycopg.errors.FeatureNotSupported):
            scoring.import_model(self.connection, 'whole', model('Abs', ''), {'iterations': 3})
        with self.assertRaises(psycopg.errors.InvalidParameterValue):
            scoring.import_model(self.connection, 'whole', model('Abs', ''), {'output': 'z'})

    def test_pmml_damage_is_said_with_its_place(self):
        good = '<PMML version="4.4"><DataDictionary><DataField name="x" optype="continuous" dataType="double"/></DataDictionary>\n' \
            '<RegressionModel functionName="regression"><MiningSchema><MiningField name="x"/></MiningSchema>\n' \
            '<RegressionTable intercept="%s"><NumericPredictor name="%s" coefficient="2"/></RegressionTable></RegressionModel></PMML>'
        for text, code, said in (
                (good % ('1', 'x'), None, None),
                (good % ('one', 'x'), '22023', 'In element "RegressionTable" of line 3, "one" is no number.'),
                (good % ('1', 'z'), '22023', 'In element "NumericPredictor" of line 3, there is no field "z".'),
                ((good % ('1', 'x'))[:-20], '22023', 'not well-formed XML at line 3'),
                ('<!DOCTYPE PMML [<!ENTITY a "b">]>' + good % ('1', 'x'), '0A000', 'document type declaration'),
                (good.replace('RegressionModel', 'NeuralNetwork') % ('1', 'x'), '0A000', 'NeuralNetwork')):
            if code is None:
                scoring.import_model(self.connection, 'pmml', text.encode())
                continue
            with self.assertRaises(psycopg.Error) as caught:
                scoring.import_model(self.connection, 'pmml', text.encode())
            self.assertEqual(caught.exception.sqlstate, code)
            self.assertIn(said, f'{caught.exception.diag.message_primary} {caught.exception.diag.message_detail}')

    def test_pmml_damage_far_down_is_said_with_its_place(self):
        head = '<PMML version="4.4">\n<DataDictionary>\n<DataField name="x" optype="continuous" dataType="double"/>\n</DataDictionary>\n' \
            '<RegressionModel functionName="regression">\n<MiningSchema><MiningField name="x"/></MiningSchema>\n<RegressionTable intercept="0">\n'
        terms = ['<NumericPredictor name="x" coefficient="1"/>\n'] * 70000
        terms[69000] = '<NumericPredictor name="x" coefficient="one"/>\n'
        with self.assertRaises(psycopg.errors.InvalidParameterValue) as caught:
            scoring.import_model(self.connection, 'long', (head + ''.join(terms) + '</RegressionTable></RegressionModel></PMML>').encode())
        # the XML parser has read on by half a kilobyte at most
        self.assertAlmostEqual(int(re.search(r'of line (\d+)', caught.exception.diag.message_detail).group(1)), 69008 + 6, delta=7)


if __name__ == '__main__':
    unittest.main()

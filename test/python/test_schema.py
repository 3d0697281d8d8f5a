"""The grammar of manifests: what visage_create_connector lets in is what the
JSON Schema connectors/schema.json allows, by another validator's judgement,
less what the schema cannot say of one part by looking at another."""

import copy
import glob
import json
import os
import random
import re
import unittest

import house
import psycopg

try:
    import jsonschema
except ImportError:
    jsonschema = None

BEYOND_SCHEMA = re.compile('stream "[^"]+" of connector "candidate" (has no path|have no length)')
CONNECTORS = os.path.join(house.SOURCE, "connectors")


def read(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def places(value, path=()):
    """Every place of a document, as the keys that lead there."""
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], path + (key,))
    elif isinstance(value, list):
        for i, element in enumerate(value):
            yield from places(element, path + (i,))


def broken(manifest, rng):
    """The manifest with one change at random, which may or may not matter."""
    manifest = copy.deepcopy(manifest)
    path = rng.choice([place for place in places(manifest) if place])
    owner = manifest
    for key in path[:-1]:
        owner = owner[key]
    change = rng.randrange(4)
    if change == 0:
        del owner[path[-1]]
    elif change == 1 and isinstance(owner, dict):
        owner["colour"] = owner.pop(path[-1])
    else:
        owner[path[-1]] = rng.choice([None, 0, -1, 1.5, "", "x", "1 day", True, [], {}, ["a"], {"type": "offset"}, {"type": "nonsense"}, "GET", [200], ["5xx"], 10 ** 9])
    return manifest


@unittest.skipUnless(jsonschema, "needs python3-jsonschema (scripts/bootstrap installs it)")
class SchemaTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.database = house.Database("schema")
        cls.addClassCleanup(cls.database.__exit__)
        cls.schema = read(os.path.join(CONNECTORS, "schema.json"))
        cls.manifests = {path: read(path) for path in sorted(glob.glob(os.path.join(CONNECTORS, "*.json"))) if not path.endswith("schema.json")}

    def test_the_extension_carries_the_file(self):
        self.assertEqual(self.database.value("SELECT visage.manifest_schema()"), self.schema)

    def test_both_validators_agree(self):
        validator = jsonschema.validators.validator_for(self.schema)(self.schema)
        validator.check_schema(self.schema)
        rng = random.Random(11)
        judged = {True: 0, False: 0}
        with self.database.connect() as session:
            for path, manifest in self.manifests.items():
                self.assertTrue(validator.is_valid(manifest), path)
                for _ in range(400):
                    candidate = broken(manifest, rng)
                    try:
                        session.execute("SELECT visage_create_connector('candidate', %s, replace => true)", [json.dumps(candidate)])
                        accepted = True
                    except psycopg.errors.InvalidParameterValue as error:
                        accepted = BEYOND_SCHEMA.search(str(error)) is not None
                    self.assertEqual(accepted, validator.is_valid(candidate), json.dumps(candidate))
                    judged[accepted] += 1
        self.assertGreater(min(judged.values()), 50)


if __name__ == "__main__":
    unittest.main()

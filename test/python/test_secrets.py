"""Stored secrets: where they can be seen (the other system only), whose they
are, and what becomes of them when the key changes or is not there."""

import os
import secrets
import subprocess
import tempfile
import unittest

import psycopg
from psycopg import errors

import house

VALUE = "swordfish-" + secrets.token_hex(8)
SET = "SELECT visage_set_secret('token', %s)"
INGEST = "CALL visage_ingest('sf.businesses')"


class SecretsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = house.Cluster()
        cls.double = house.Double()
        cls.addClassCleanup(cls.double.__exit__)

    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.file = os.path.join(directory.name, "keys")
        self.owner = os.stat(self.cluster.data).st_uid
        self.write("k1:" + "1f" * 32)
        os.chown(directory.name, self.owner, -1)
        self.double.control(load="2021-01-01", fault=None)
        self.database = house.Database("secrets", self.double)
        self.addCleanup(self.database.__exit__)
        with self.database.connect() as admin:
            for name, value in (("visage.secret_key_file", self.file), ("log_parameter_max_length", "0"), ("log_statement", "all"), ("log_min_duration_statement", "0")):
                admin.execute("ALTER DATABASE \"%s\" SET %s = '%s'" % (self.database.name, name, value))

    def write(self, *lines, mode=0o600):
        with open(self.file, "w", encoding="ascii") as file:
            file.write("".join(line + "\n" for line in lines))
        os.chmod(self.file, mode)
        os.chown(self.file, self.owner, -1)

    def store(self, value=VALUE, role="engineer"):
        with self.database.connect(role) as engineer:
            engineer.execute(SET, [value])

    def declare(self, role="engineer", replace=False):
        with self.database.connect(role) as engineer:
            engineer.execute("SELECT visage_create_source('sf', 'socrata', jsonb_build_object('base_url', %s::text, 'page_size', 900), '{\"app_token\": \"stored:token\"}', replace => %s)",
                             [self.double.url, replace])
            engineer.execute("SELECT visage_create_stream('sf', 'businesses', 'g8m3-pdis', primary_key => '{uniqueid}', cursor_field => ':updated_at')")

    def ingest(self):
        with self.database.connect("engineer") as engineer:
            engineer.execute(INGEST)

    def sent(self):
        """What reached the other system as token."""
        return {request["headers"].get("X-App-Token") for request in self.double.requests()}

    def dump(self):
        return subprocess.run([os.path.join(self.cluster.binaries, "pg_dump"), "-U", "postgres", self.database.name], check=True, capture_output=True).stdout

    def test_only_the_other_system_sees_it(self):
        log = self.cluster.log
        start = os.path.getsize(log)
        self.store()
        self.declare()
        self.double.fault("404", after=2)
        with self.database.connect("engineer") as engineer, self.assertRaises(errors.ExternalRoutineException) as raised:
            engineer.execute(INGEST)
        self.double.control(fault=None)
        self.assertNotIn(VALUE, "%s %s" % (raised.exception, raised.exception.diag.message_detail))
        self.ingest()
        self.assertEqual(self.sent(), {VALUE})
        with open(log, "rb") as file:
            file.seek(start)
            written = file.read()
        self.assertIn(b"visage_set_secret", written, "the log has the statements")
        self.assertNotIn(VALUE.encode(), written)
        dump = self.dump()
        self.assertIn(b"stored_secrets", dump)
        for spelling in (VALUE.encode(), VALUE.encode().hex().encode()):
            self.assertNotIn(spelling, dump)
        for relation, in self.database.rows("SELECT c.oid::regclass::text FROM pg_class AS c WHERE relkind IN ('r', 'v') AND relnamespace = 'visage'::regnamespace"):
            for row, in self.database.rows("SELECT t::text FROM %s AS t" % relation):
                self.assertNotIn(VALUE, row)
        self.assertFalse(self.database.rows("SELECT FROM pg_stat_activity WHERE strpos(query, %s) > 0 AND pid <> pg_backend_pid()", VALUE))

    def test_one_that_is_given_plainly(self):
        """It is stored, and taken for a change only where it is one."""
        create = "SELECT visage_create_source('sf', 'socrata', jsonb_build_object('base_url', %s::text, 'page_size', 900), jsonb_build_object('app_token', %s::text), replace => %s)"
        said = []
        with self.database.connect("engineer") as engineer:
            engineer.add_notice_handler(lambda notice: said.append((notice.severity_nonlocalized, notice.message_primary)))
            engineer.execute(create, [self.double.url, VALUE, False])
            self.assertEqual(said, [("WARNING", 'secret "app_token" of source "sf" is given plainly')])
            engineer.execute(create, [self.double.url, VALUE, False])
            self.assertEqual(said[-1][0], "NOTICE", "the same again")
            with self.assertRaises(errors.DuplicateObject) as raised:
                engineer.execute(create, [self.double.url, VALUE + "2", False])
            self.assertEqual(raised.exception.diag.message_detail, 'Secret "app_token" has another value.')
            engineer.execute("SELECT visage_create_stream('sf', 'businesses', 'g8m3-pdis', primary_key => '{uniqueid}', cursor_field => ':updated_at')")
            engineer.execute(INGEST)
            self.assertEqual(self.sent(), {VALUE})
            definitions, = engineer.execute("SELECT visage_definitions()").fetchone()
            self.assertIn("stored:sf.app_token", definitions)
            engineer.execute("SELECT visage_alter_source('sf', jsonb_build_object('secrets', jsonb_build_object('app_token', %s::text)))", [VALUE + "2"])
            self.double.control(fault=None)
            engineer.execute(INGEST)
            self.assertEqual(self.sent(), {VALUE + "2"})
        for text in [definitions, *(text for _, text in said), self.dump().decode()]:
            self.assertNotIn(VALUE, text)
        with self.assertRaises(errors.InsufficientPrivilege):
            with self.database.connect() as admin:
                admin.execute("CREATE ROLE test_other; GRANT visage_engineer TO test_other")
                self.addCleanup(self.database.execute, "DROP ROLE test_other")
                admin.execute("SET ROLE test_other")
                admin.execute("SELECT visage_alter_source('sf', '{\"options\": {\"base_url\": \"https://elsewhere.example.org\"}}')")
        self.database.execute("SELECT visage_drop_stream('sf.businesses'), visage_drop_source('sf')", role="engineer")
        self.assertEqual(self.database.value("SELECT count(*) FROM visage.secrets"), 0)

    def test_each_seal_is_another(self):
        self.store()
        one = self.database.value("SELECT sealed FROM visage.stored_secrets")
        self.store()
        other = self.database.value("SELECT sealed FROM visage.stored_secrets")
        self.assertNotEqual(one, other)
        self.assertEqual(len(one), len(VALUE) + 12 + 16)

    def test_warnings(self):
        def warned(statement, parameters=None, length="0"):
            said = []
            with self.database.connect() as admin:
                admin.execute("SET log_parameter_max_length = '%s'" % length)
                admin.add_notice_handler(lambda notice: said.append(notice.message_primary))
                admin.execute(statement, parameters)
            self.assertFalse([text for text in said if VALUE in text])
            return said

        self.assertEqual(warned(SET, [VALUE]), [])
        self.assertEqual(warned(SET, [VALUE], "-1"), ['the server\'s log may show secret "token"'])
        self.assertEqual(warned(SET.replace("%s", "'%s'" % VALUE)), ['secret "token" stands in the text of the statement'])

    def test_a_row_that_was_changed_does_not_open(self):
        self.store()
        self.declare()
        for change in ("sealed = set_byte(sealed, 20, get_byte(sealed, 20) # 1)", "sealed = set_byte(sealed, 3, get_byte(sealed, 3) # 1)", "sealed = '\\x00'",
                       "owner = 'postgres'", "sealed = (SELECT sealed FROM visage.stored_secrets WHERE name = 'other')"):
            with self.subTest(change=change):
                self.store()
                with self.database.connect("engineer") as engineer:
                    engineer.execute("SELECT visage_set_secret('other', 'value')")
                self.database.execute("UPDATE visage.stored_secrets SET %s WHERE name = 'token'" % change)
                with self.assertRaises(errors.DataCorrupted) as raised:
                    self.ingest()
                self.assertIn('secret "token" does not open', str(raised.exception))
                self.database.execute("UPDATE visage.stored_secrets SET owner = 'test_engineer'")
        self.assertEqual(self.double.requests(), [], "nothing was asked without it")

    def test_rotation(self):
        self.store()
        self.declare()
        self.write("k2:" + "2e" * 32, "", "# the one before", "k1:" + "1f" * 32)
        with self.database.connect("engineer") as engineer, self.assertRaises(errors.InsufficientPrivilege):
            engineer.execute("SELECT visage_rotate_key()")
        self.assertEqual(self.database.value("SELECT visage_rotate_key()"), 1)
        self.assertEqual(self.database.value("SELECT owner, key_id FROM visage.secrets"), ("test_engineer", "k2"))
        self.write("k2:" + "2e" * 32)
        self.ingest()
        self.assertEqual(self.sent(), {VALUE})
        for lines, said in ((["k3:" + "3d" * 32], 'holds no key "k2"'), (["k2:" + "3d" * 32], 'Key "k2" did not seal it'), (["k2:12"], "has no key in line 1"), ([], "is empty")):
            with self.subTest(said=said):
                self.write(*lines)
                with self.assertRaises((errors.ObjectNotInPrerequisiteState, errors.DataCorrupted)) as raised:
                    self.ingest()
                self.assertIn(said, raised.exception.diag.message_detail)

    def test_whose_it_is(self):
        self.store()
        with self.database.connect() as admin:
            if not admin.execute("SELECT FROM pg_roles WHERE rolname = 'test_other'").fetchone():
                admin.execute("CREATE ROLE test_other LOGIN")
            admin.execute("GRANT visage_engineer TO test_other")
        for statement in ("SELECT visage_set_secret('token', 'x')", "SELECT visage_set_secret('token', NULL)",
                          "SELECT visage_create_source('mine', 'socrata', '{\"base_url\": \"https://example.org\"}', '{\"app_token\": \"stored:token\"}')",
                          "SELECT * FROM visage.stored_secrets"):
            with self.subTest(statement=statement), self.database.connect("other") as other, self.assertRaises(errors.InsufficientPrivilege):
                other.execute(statement)
        self.assertEqual(self.database.value("SELECT name, owner FROM visage.secrets", role="other"), ("token", "test_engineer"))
        self.store(None)
        self.assertIsNone(self.database.value("SELECT name FROM visage.secrets"))
        with self.assertRaises(errors.UndefinedObject):
            self.declare()

    def test_key_files_that_are_not_safe(self):
        inside = os.path.join(self.cluster.data, "keys")
        os.symlink(self.file, inside)
        self.addCleanup(os.unlink, inside)
        os.rename(self.file, self.file + ".real")
        with open(os.path.join(self.cluster.data, "real_keys"), "w", encoding="ascii") as file:
            file.write("k1:%s\n" % ("1f" * 32))
        self.addCleanup(os.unlink, file.name)
        os.chown(file.name, self.owner, -1)
        os.chmod(file.name, 0o600)
        os.symlink(file.name, self.file)
        with self.assertRaises(errors.ObjectNotInPrerequisiteState) as raised:
            self.store()
        self.assertIn("is in the data directory", raised.exception.diag.message_detail)
        os.unlink(self.file)
        self.write("k1:" + "1f" * 32, mode=0o644)
        with self.assertRaises(errors.ObjectNotInPrerequisiteState) as raised:
            self.store()
        self.assertIn("by other users", raised.exception.diag.message_detail)

    def test_a_copy_without_the_key(self):
        """A dump that is restored elsewhere: what is stored stays shut."""
        self.store()
        self.declare()
        dump = self.dump()
        copy = house.Database.__new__(house.Database)
        copy.name = "test_secrets_copy"
        with psycopg.connect(dbname="postgres", user="postgres", autocommit=True) as admin:
            admin.execute('DROP DATABASE IF EXISTS "%s" WITH (FORCE)' % copy.name)
            admin.execute('CREATE DATABASE "%s"' % copy.name)
        self.addCleanup(copy.__exit__)
        subprocess.run([os.path.join(self.cluster.binaries, "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres", copy.name], input=dump, check=True, stdout=subprocess.DEVNULL)
        copy.execute("SELECT visage_adopt()", "ALTER DATABASE \"%s\" SET visage.allowed_hosts = '127.0.0.1:%d'" % (copy.name, self.double.port))
        with copy.connect("engineer") as engineer, self.assertRaises(errors.ObjectNotInPrerequisiteState) as raised:
            engineer.execute(INGEST)
        self.assertIn("visage.secret_key_file is empty", raised.exception.diag.message_detail)
        copy.execute("ALTER DATABASE \"%s\" SET visage.secret_key_file = '%s'" % (copy.name, self.file))
        with copy.connect("engineer") as engineer:
            engineer.execute(INGEST)
        self.assertEqual(self.sent(), {VALUE})


if __name__ == "__main__":
    unittest.main()

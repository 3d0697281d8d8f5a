"""An engineer is no superuser: whatever an engineer declares, nothing that the
engineer wrote runs as the extension's owner, and tables that Visage did not
make stay as they are."""

import unittest

from psycopg import errors

import house


class RightsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.double = house.Double()
        cls.addClassCleanup(cls.double.__exit__)

    def setUp(self):
        self.double.control(load="2021-01-01", fault=None)
        self.database = house.Database("rights", self.double)
        self.addCleanup(self.database.__exit__)
        self.database.execute(
            "CREATE SCHEMA mine AUTHORIZATION test_engineer",
            "CREATE TABLE mine.ran (role name)",
            "GRANT INSERT ON mine.ran TO PUBLIC")
        self.engineer = self.database.connect("engineer")
        self.addCleanup(self.engineer.close)
        for statement in (
                "CREATE FUNCTION mine.run(text) RETURNS boolean LANGUAGE sql AS 'INSERT INTO mine.ran VALUES (current_user) RETURNING true'",
                "CREATE DOMAIN mine.checked AS text DEFAULT mine.run('')::text CHECK (mine.run(VALUE))",
                "CREATE TYPE mine.pair AS (j json)",
                "CREATE FUNCTION mine.to_text(mine.pair) RETURNS text LANGUAGE sql AS $$INSERT INTO mine.ran VALUES (current_user) RETURNING ''$$",
                "CREATE CAST (mine.pair AS text) WITH FUNCTION mine.to_text AS ASSIGNMENT",
                "CREATE TYPE mine.colour AS ENUM ('red')",
                "CREATE FUNCTION mine.to_json(mine.colour) RETURNS json LANGUAGE sql AS $$INSERT INTO mine.ran VALUES (current_user) RETURNING '1'::json$$",
                "CREATE CAST (mine.colour AS json) WITH FUNCTION mine.to_json",
                "CREATE TABLE mine.records (id int, at timestamptz, name text)",
                "INSERT INTO mine.records VALUES (1, '2020-01-01', 'a')"):
            self.engineer.execute(statement)

    def tearDown(self):
        self.assertEqual(self.database.rows("SELECT DISTINCT role FROM mine.ran WHERE role <> 'test_engineer'"), [])

    def merge(self, source=None):
        return self.engineer.execute("SELECT visage_merge('history.records', %s::text)", [source])

    def create_history(self, source="mine.records"):
        self.engineer.execute("SELECT visage_create_history('records', %s, '{id}', '{at}')", [source])

    # ---- types ----

    def test_a_domain_is_kept_as_its_base_type(self):
        self.create_history()
        self.merge()
        self.engineer.execute("ALTER TABLE mine.records ADD COLUMN more mine.checked")
        self.engineer.execute("UPDATE mine.records SET more = 'b', at = '2021-01-01', name = 'b'")
        self.merge()
        self.assertEqual(self.database.value("SELECT format_type(atttypid, atttypmod) FROM pg_attribute"
                                             " WHERE attrelid = 'history.records'::regclass AND attname = 'more'"), "text")
        self.assertEqual(self.database.value("SELECT more FROM history.records WHERE valid_to = 'infinity'"), "b")

    def test_types_of_users_are_no_columns_of_a_history(self):
        self.create_history()
        for value in ("ROW('{}')::mine.pair", "'red'::mine.colour", "ARRAY['a']::mine.checked[]"):
            with self.subTest(value), self.assertRaises(errors.InsufficientPrivilege) as raised:
                self.merge("SELECT 1 AS id, now() AS at, %s AS name" % value)
            self.assertIn('"name"', raised.exception.diag.message_primary)
        with self.assertRaises(errors.InsufficientPrivilege):
            self.engineer.execute("SELECT visage_create_history('others', $$SELECT 1 AS id, now() AS at, 'red'::mine.colour AS c$$, '{id}', '{at}')")

    def test_types_of_users_are_no_columns_of_a_stream(self):
        self.engineer.execute("SELECT visage_create_source('sf', 'socrata', jsonb_build_object('base_url', %s::text))", [self.double.url])
        for kind, error in (("mine.checked[]", errors.InsufficientPrivilege), ("mine.colour", errors.InsufficientPrivilege),
                            ("mine.checked", errors.FeatureNotSupported)):
            with self.subTest(kind), self.assertRaises(error):
                self.engineer.execute("SELECT visage_create_stream('sf', 'x', primary_key => '{uniqueid}', columns => jsonb_build_object('lic', %s::text))", [kind])

    def test_a_type_is_looked_at_again_when_it_is_used(self):
        self.database.execute("CREATE SCHEMA types", "GRANT USAGE ON SCHEMA types TO PUBLIC", "CREATE TYPE types.short AS ENUM ('a')")
        self.engineer.execute("SELECT visage_create_source('sf', 'socrata', jsonb_build_object('base_url', %s::text))", [self.double.url])
        self.engineer.execute("""SELECT visage_create_stream('sf', 'x', 'g8m3-pdis', primary_key => '{uniqueid}', cursor_field => ':updated_at', columns => '{"dba_name": "types.short"}')""")
        self.database.execute("DROP TYPE types.short", "GRANT CREATE, USAGE ON SCHEMA types TO test_engineer")
        self.engineer.execute("CREATE DOMAIN types.short AS text CHECK (mine.run(VALUE))")
        with self.assertRaises(errors.FeatureNotSupported):
            self.engineer.execute("CALL visage_ingest('sf.x')")

    # ---- sources ----

    def test_a_query_is_not_merged_by_a_stream(self):
        self.engineer.execute("SELECT visage_create_source('sf', 'socrata', jsonb_build_object('base_url', %s::text))", [self.double.url])
        self.engineer.execute("SELECT visage_create_stream('sf', 'x', 'g8m3-pdis', primary_key => '{uniqueid}', cursor_field => ':updated_at', write_disposition => 'history')")
        self.engineer.execute("SELECT visage_create_history('sf__x', 'SELECT mine.run('''')::text AS uniqueid, now() AS at', '{uniqueid}', '{at}')")
        with self.assertRaises(errors.ObjectNotInPrerequisiteState) as raised:
            self.engineer.execute("CALL visage_ingest('sf.x')")
        self.assertIn("staging.sf__x", raised.exception.diag.message_detail)

    def test_a_table_that_becomes_a_view_is_read_as_the_caller(self):
        self.create_history()
        self.merge()
        self.engineer.execute("BEGIN")
        self.merge()
        second = house.Background(self.database, "SELECT visage_merge('history.records')")
        house.wait_until(lambda: self.database.value("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = %s", second.pid),
                         "the second merge waits")
        self.engineer.execute("ALTER TABLE mine.records RENAME TO renamed")
        self.engineer.execute("CREATE VIEW mine.records AS SELECT id, at, name FROM mine.renamed WHERE mine.run(name)")
        self.engineer.execute("COMMIT")
        second.join()

    # ---- tables ----

    def test_a_table_in_the_place_of_a_dataset_is_not_touched(self):
        self.engineer.execute("""SELECT visage_create_feature_view('v', '{id}', 'mine.records', 'at', '{"n": {"agg": "count"}}')""")
        make = "SELECT visage_create_training_set('t', 'SELECT 1 AS id, now() AS event_time, true AS label', '{v}')"
        self.engineer.execute(make)
        self.database.execute("DROP TABLE enriched.t", "CREATE TABLE enriched.t (id text)", "INSERT INTO enriched.t VALUES ('mine')")
        with self.assertRaises(errors.DuplicateTable):
            self.engineer.execute("CALL visage_refresh('enriched.t')")
        self.engineer.execute("SELECT visage_drop_training_set('t', keep_data => false)")
        self.assertEqual(self.database.value("SELECT id FROM enriched.t"), "mine")
        self.database.execute("DROP TABLE enriched.t")
        self.engineer.execute(make)
        self.database.execute("DROP TABLE enriched.t")
        self.engineer.execute("SELECT visage_drop_training_set('t', keep_data => false)")

    def test_a_stream_does_not_write_into_a_table_that_was_there(self):
        self.database.execute("CREATE SCHEMA landing", "CREATE TABLE landing.sf__x (_id bigint)")
        self.engineer.execute("SELECT visage_create_source('sf', 'socrata', jsonb_build_object('base_url', %s::text))", [self.double.url])
        self.engineer.execute("SELECT visage_create_stream('sf', 'x', 'g8m3-pdis', primary_key => '{uniqueid}', cursor_field => ':updated_at')")
        with self.assertRaises(errors.DuplicateTable):
            self.engineer.execute("CALL visage_ingest('sf.x')")
        self.engineer.execute("SELECT visage_drop_stream('sf.x', keep_data => false)")
        self.assertEqual(self.database.value("SELECT count(*) FROM landing.sf__x"), 0)

    def test_a_schema_of_a_user_is_no_layer(self):
        self.database.execute("CREATE SCHEMA history AUTHORIZATION test_engineer")
        with self.assertRaises(errors.InsufficientPrivilege):
            self.create_history()
        self.database.execute("ALTER SCHEMA history OWNER TO postgres")
        self.create_history()
        self.merge()
        self.database.execute("ALTER SCHEMA history OWNER TO test_engineer")
        with self.assertRaises(errors.InsufficientPrivilege):
            self.merge()

    def test_a_history_whose_view_is_gone_can_be_dropped(self):
        self.create_history()
        self.merge()
        self.database.execute("DROP VIEW history.records__current")
        self.engineer.execute("SELECT visage_drop_history('records', keep_data => false)")
        self.assertIsNone(self.database.value("SELECT to_regclass('history.records')"))

    def test_a_history_is_dropped_with_the_table_that_is_being_made(self):
        self.engineer.execute("BEGIN")
        self.create_history()
        drop = house.Background(self.database, "SELECT visage_drop_history('records', keep_data => false)")
        house.wait_until(lambda: self.database.value("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = %s", drop.pid),
                         "the drop waits")
        self.engineer.execute("COMMIT")
        self.assertIsNone(drop.join())
        self.assertIsNone(self.database.value("SELECT to_regclass('history.records')"))

    # ---- models ----

    def test_an_export_needs_the_privilege_on_the_model(self):
        self.database.execute(
            "CREATE TABLE mine.people AS SELECT i AS x, i * 31 % 97 > 40 AS label FROM generate_series(1, 200) AS i",
            "SELECT visage_train('private', 'SELECT x, label FROM mine.people', algorithm => 'logistic', deploy => 'always')")
        export = "SELECT length(visage_export_model('private', %s)) > 100"
        for form in ("visage", "onnx", "pmml"):
            with self.subTest(form):
                self.assertTrue(self.database.value(export, form, role="engineer"))
        self.database.execute("SELECT visage_revoke_model('private', 'visage_engineer')")
        for form in ("visage", "onnx", "pmml"):
            with self.subTest(form), self.assertRaises(errors.InsufficientPrivilege) as raised:
                self.database.value(export, form, role="engineer")
            self.assertIn('model "private"', raised.exception.diag.message_primary)
        # who may score may not yet read the model
        self.database.execute("SELECT visage_grant_model('private', 'test_scorer')")
        self.assertIsNotNone(self.database.value("SELECT visage_score('private', 1)", role="scorer"))
        with self.assertRaises(errors.InsufficientPrivilege) as raised:
            self.database.value(export, "visage", role="scorer")
        self.assertIn("function visage_export_model", raised.exception.diag.message_primary)

    # ---- what readers may read ----

    def test_readers_read_what_visage_made_and_nothing_else(self):
        self.database.execute("CREATE SCHEMA history", "CREATE TABLE history.private (x int)")
        self.create_history()
        self.merge()
        self.database.execute("SELECT visage_create_roles()", "CREATE TABLE history.later (x int)")
        for relation in ("history.records", "history.records__superseded", "history.records__current", "history.records__as_of(now())"):
            with self.subTest(relation):
                self.database.value("SELECT count(*) FROM %s" % relation, role="reader")
        for relation in ("history.private", "history.later"):
            with self.subTest(relation), self.assertRaises(errors.InsufficientPrivilege):
                self.database.value("SELECT count(*) FROM %s" % relation, role="reader")

    def test_readers_read_every_view(self):
        views = [name for name, in self.database.rows("SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'visage'::regnamespace AND relkind = 'v' ORDER BY 1")]
        self.assertIn("visage.breakers", views)
        for view in views:
            with self.subTest(view):
                self.database.rows("SELECT * FROM %s" % view, role="reader")

    def test_readers_read_a_layer_that_visage_made(self):
        self.create_history()
        self.merge()
        for relation in ("history.records", "history.records__current", "history.records__as_of(now())"):
            with self.subTest(relation):
                self.assertEqual(self.database.value("SELECT count(*) FROM %s" % relation, role="reader"), 1)


if __name__ == "__main__":
    unittest.main()

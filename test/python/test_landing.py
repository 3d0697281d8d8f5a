"""Landing's partitions, and locks that others hold on a stream's tables: the
run waits for them, and nobody waits long for the run."""

import unittest

from psycopg import errors

import house

INGEST = "CALL visage_ingest('sf.businesses', full_refresh => true)"
ROWS = 3010


class LandingTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.double = house.Double()
        cls.addClassCleanup(cls.double.__exit__)

    def setUp(self):
        self.double.control(load="2021-01-01", fault=None)
        self.database = house.Database("landing", self.double)
        self.addCleanup(self.database.__exit__)
        with self.database.connect("engineer") as engineer:
            engineer.execute("SELECT visage_create_source('sf', 'socrata', jsonb_build_object('base_url', %s::text, 'page_size', 900))", [self.double.url])
            engineer.execute("SELECT visage_create_stream('sf', 'businesses', 'g8m3-pdis', primary_key => '{uniqueid}', cursor_field => ':updated_at')")

    def ingest(self):
        self.database.execute(INGEST, role="engineer")

    def partitions(self):
        """(first day, days) of each, the days counted from today."""
        return [tuple(map(int, row)) for row in self.database.rows(
            "SELECT b[1]::timestamptz::date - (now() AT TIME ZONE 'UTC')::date, b[2]::timestamptz::date - b[1]::timestamptz::date FROM pg_inherits,"
            " regexp_match(pg_get_expr((SELECT relpartbound FROM pg_class WHERE oid = inhrelid), inhrelid), 'FROM \\(''([^'']+)''\\) TO \\(''([^'']+)''\\)') AS b"
            " WHERE inhparent = 'landing.sf__businesses'::regclass ORDER BY 1")]

    def whole(self):
        self.assertEqual(self.database.value("SELECT count(*) FROM staging.sf__businesses"), ROWS)

    def waits_for_a_lock(self, run):
        return self.database.value("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = %s", run.pid)

    def old_partition(self, days):
        """One that a user made, of a day so long ago."""
        bounds = self.database.value("SELECT format('FROM (%%L) TO (%%L)', d, d + interval '1 day') FROM (SELECT date_trunc('day', now(), 'UTC') - %s * interval '1 day' AS d) AS t", days)
        self.database.execute("CREATE TABLE landing.odd PARTITION OF landing.sf__businesses FOR VALUES " + bounds)

    def there(self):
        return self.database.value("SELECT to_regclass('landing.odd') IS NOT NULL")

    # ---- partitions ----

    def test_partitions_are_made_ahead_and_longer_where_little_lands(self):
        self.ingest()
        self.assertEqual(self.partitions(), [(0, 1), (1, 7)], "kept 30 days")
        for keep, days in (("5 days", 1), ("100 days", 28)):
            with self.subTest(keep):
                self.database.execute("DO $$ DECLARE t regclass; BEGIN FOR t IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'landing.sf__businesses'::regclass"
                                      " LOOP EXECUTE 'DROP TABLE ' || t; END LOOP; END $$")
                self.database.execute("SELECT visage_alter_stream('sf.businesses', '{\"keep_landing\": \"%s\"}')" % keep, role="engineer")
                self.ingest()
                self.assertEqual(self.partitions(), [(0, 1), (1, days)])

    def test_old_partitions_are_dropped(self):
        self.ingest()
        for days, stays in ((33, False), (20, True)):
            self.old_partition(days)
            self.ingest()
            self.assertEqual(self.there(), stays, "%d days old" % days)

    def test_a_partition_that_is_read_is_left_to_a_later_run(self):
        self.ingest()
        self.old_partition(40)
        with self.database.connect() as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM landing.sf__businesses")
            run = house.Background(self.database, INGEST)
            house.wait_until(lambda: self.waits_for_a_lock(run), "the run asks for the lock")
            for _ in range(3):
                with self.database.connect() as other:
                    other.execute("SET statement_timeout = '2s'")
                    other.execute("SELECT count(*) FROM landing.sf__businesses")
            self.assertIsNone(run.join())
            self.assertTrue(self.there())
            reader.execute("COMMIT")
        self.ingest()
        self.assertFalse(self.there())

    # ---- locks ----

    def test_a_run_waits_for_a_reader_and_readers_do_not_wait_for_it(self):
        self.ingest()
        self.database.execute("ALTER TABLE staging.sf__businesses DROP COLUMN city")
        with self.database.connect() as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM staging.sf__businesses")
            run = house.Background(self.database, INGEST)
            for turn in range(3):
                house.wait_until(lambda: self.waits_for_a_lock(run), "the run asks for the lock")
                with self.database.connect() as other:
                    other.execute("SET statement_timeout = '2s'")
                    other.execute("SELECT count(*) FROM staging.sf__businesses")
                house.wait_until(lambda: not self.waits_for_a_lock(run), "the run lets go")
                self.assertTrue(run.thread.is_alive())
            held = self.database.value("SELECT count(*) FROM visage.runs WHERE state = 'running'")
            self.assertEqual(held, 1, "and is still at it")
            reader.execute("COMMIT")
        self.assertIsNone(run.join())
        self.whole()
        self.assertEqual(self.database.value("SELECT count(*) FROM visage.schema_changes WHERE column_name = 'city'"), 1)
        self.assertEqual(self.database.value("SELECT counters -> 'records' = to_jsonb(%s) FROM visage.runs ORDER BY run_id DESC LIMIT 1" % ROWS), True, "counted once")

    def test_a_partition_of_today_is_waited_for(self):
        self.ingest()
        self.database.execute("DO $$ DECLARE t regclass; BEGIN FOR t IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'landing.sf__businesses'::regclass"
                              " LOOP EXECUTE 'DROP TABLE ' || t; END LOOP; END $$", "UPDATE staging.sf__businesses SET _record_hash = 0")
        with self.database.connect() as other:
            other.execute("BEGIN")
            other.execute("LOCK TABLE landing.sf__businesses IN SHARE UPDATE EXCLUSIVE MODE")
            run = house.Background(self.database, INGEST)
            house.wait_until(lambda: self.double.count() > 0 and self.waits_for_a_lock(run), "the page waits")
            other.execute("COMMIT")
        self.assertIsNone(run.join())
        self.assertEqual(self.database.value("SELECT count(*) FROM landing.sf__businesses"), ROWS)

    def test_patience_ends(self):
        self.ingest()
        self.database.execute("ALTER TABLE staging.sf__businesses DROP COLUMN city", 'ALTER DATABASE "%s" SET visage.max_lock_wait = \'100ms\'' % self.database.name)
        with self.database.connect() as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM staging.sf__businesses")
            with self.assertRaises(errors.LockNotAvailable):
                self.ingest()
            reader.execute("COMMIT")
        self.assertEqual(self.database.value("SELECT state FROM visage.runs ORDER BY run_id DESC LIMIT 1"), "failed")
        self.ingest()
        self.whole()

    def test_the_end_of_a_run_waits_too(self):
        """The merge of a history, with its table locked by somebody."""
        self.database.execute("SELECT visage_drop_stream('sf.businesses', false)",
                              "SELECT visage_create_stream('sf', 'businesses', 'g8m3-pdis', primary_key => '{uniqueid}', cursor_field => ':updated_at', write_disposition => 'history')",
                              role="engineer")
        self.ingest()
        self.double.control(load="2023-03-10")
        with self.database.connect() as other:
            other.execute("BEGIN")
            other.execute("LOCK TABLE history.sf__businesses IN EXCLUSIVE MODE")
            run = house.Background(self.database, "CALL visage_ingest('sf.businesses')")
            house.wait_until(lambda: self.waits_for_a_lock(run), "the merge waits")
            other.execute("COMMIT")
        self.assertIsNone(run.join())
        self.assertEqual(self.database.value("SELECT count(*) > 0 FROM history.sf__businesses WHERE valid_to < 'infinity'"), True)


if __name__ == "__main__":
    unittest.main()

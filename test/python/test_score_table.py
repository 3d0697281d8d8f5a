"""CALL visage_score_table in batches that are committed: a call that was
cancelled, whose session or whose server died, goes on where it stopped; and
tables that have more to them than columns.
"""

import time
import unittest

import psycopg
from psycopg import errors

import house

ROWS = 6000
CALL = "CALL visage_score_table('m', 'SELECT *, gate(id) FROM orders', 'scored', '{id}'%s)"
# so that a batch reads no more rows than it scores
OPTIONS = "-c enable_seqscan=off -c enable_sort=off -c visage.score_batch=1000"


class ScoreTable(unittest.TestCase):
    def setUp(self):
        self.database = house.Database("score_table")
        self.addCleanup(self.database.__exit__)
        self.database.execute(
            "GRANT CREATE ON SCHEMA public TO test_engineer",
            """CREATE TABLE orders AS SELECT i AS id, (i * 7919 % 1000) / 100.0::float8 AS amount,
               (ARRAY['gold', 'silver', 'bronze'])[1 + i % 3] AS plan, i * 31 % 97 > 40 + i % 3 * 5 AS label FROM generate_series(1, {}) AS i""".format(ROWS),
            "ALTER TABLE orders ADD PRIMARY KEY (id)",
            # a call waits at order 2500 while somebody keeps the gate shut
            """CREATE FUNCTION gate(id int) RETURNS int LANGUAGE plpgsql STABLE AS
               'BEGIN IF id = 2500 THEN PERFORM pg_advisory_xact_lock_shared(7); END IF; RETURN id; END'""",
            "GRANT SELECT ON orders TO test_engineer",
            "SELECT visage_train('m', 'SELECT id, amount, plan, label FROM orders', algorithm => 'logistic', columns => '{\"key\": \"id\"}', deploy => 'always')")
        self.settings = {"options": OPTIONS}

    def call(self, more="", **options):
        """What the call says."""
        said = []
        with self.database.connect("engineer", **(options or self.settings)) as connection:
            connection.add_notice_handler(lambda notice: said.append(notice.message_primary))
            connection.execute(CALL % more)
        return said

    def check(self, runs=1):
        """Every order is scored, once, as visage_score does."""
        found = self.database.value(
            """SELECT count(*), count(DISTINCT s.id), count(DISTINCT s.run_id), coalesce(bool_and(s.score = visage_score('m', o) AND s.class = visage_predict('m', o)), false)
               FROM scored AS s JOIN orders AS o USING (id)""")
        self.assertEqual(found, (ROWS, ROWS, runs, True))
        self.assertEqual(self.database.value("SELECT state, error, counters ->> 'scored' FROM visage.runs WHERE kind = 'scoring' ORDER BY run_id DESC LIMIT 1"),
                         ("success", None, str(ROWS)))

    def start_slow(self, more=""):
        """A call in another session that is held up in its third batch."""
        keeper = self.database.connect()
        self.addCleanup(keeper.close)
        keeper.execute("SELECT pg_advisory_lock(7)")
        slow = Slow(self.database, more)
        house.wait_until(lambda: self.database.value("SELECT wait_event = 'advisory' FROM pg_stat_activity WHERE pid = %s", slow.pid),
                         "two batches are committed")
        self.assertEqual(self.database.value("SELECT counters ->> 'scored' FROM visage.progress WHERE kind = 'scoring'"), "2000")
        self.keeper = keeper
        return slow

    def go_on(self):
        self.keeper.close()
        before = self.database.value("SELECT count(*) FROM scored")
        self.assertEqual(before, 2000)
        said = self.call()
        self.assertIn('scoring into "scored" goes on behind %d rows' % before, said)
        self.check()

    def test_a_cancelled_call_goes_on(self):
        slow = self.start_slow()
        slow.cancel()
        self.assertIsInstance(slow.error, errors.QueryCanceled)
        self.assertEqual(self.database.value("SELECT state FROM visage.runs WHERE kind = 'scoring'"), "failed")
        self.go_on()

    def test_a_call_whose_session_died_goes_on(self):
        slow = self.start_slow()
        self.database.value("SELECT pg_terminate_backend(%s)", slow.pid)
        slow.join()
        house.wait_until(lambda: not self.database.value("SELECT count(*) FROM pg_stat_activity WHERE pid = %s", slow.pid), "the session is gone")
        self.go_on()

    def test_a_call_whose_server_died_goes_on(self):
        slow = self.start_slow()
        house.Cluster().restart()
        slow.join()
        self.go_on()

    def test_two_sessions_do_not_score_into_one_table(self):
        slow = self.start_slow()
        with self.assertRaises(errors.ObjectInUse):
            self.call()
        slow.cancel()
        self.go_on()

    def test_another_call_begins_anew(self):
        slow = self.start_slow()
        slow.cancel()
        self.keeper.close()
        self.assertEqual(self.call(", reasons => 1"), [])
        self.check()
        self.assertEqual(self.database.value("SELECT count(*) FROM scored WHERE reasons IS NULL"), 0)

    def test_a_call_in_one_transaction_begins_anew(self):
        slow = self.start_slow()
        house.Cluster().restart()
        slow.join()
        self.keeper.close()
        self.assertEqual(self.call(options="-c visage.score_batch=0"), [])
        self.check()
        self.assertEqual(self.database.rows("SELECT state FROM visage.runs WHERE kind = 'scoring' ORDER BY run_id"), [("failed",), ("success",)])

    def test_another_version_begins_anew(self):
        slow = self.start_slow()
        slow.cancel()
        self.keeper.close()
        self.database.execute("SELECT visage_train('m', 'SELECT id, amount, label FROM orders', algorithm => 'logistic', columns => '{\"key\": \"id\"}', deploy => 'always')")
        self.assertEqual(self.call(), [])
        self.check()
        self.assertEqual(self.database.rows("SELECT DISTINCT version FROM scored"), [(2,)])

    def test_appending_goes_on(self):
        self.call()
        slow = self.start_slow(", mode => 'append'")
        slow.cancel()
        self.keeper.close()
        self.assertEqual(len(self.call(", mode => 'append'")), 1)
        self.assertEqual(self.database.value("SELECT count(*), count(DISTINCT id), count(DISTINCT run_id) FROM scored"), (2 * ROWS, ROWS, 2))

    def test_in_a_transaction_it_is_one(self):
        with self.database.connect("engineer", **self.settings) as connection:
            connection.execute("BEGIN")
            connection.execute(CALL % "")
            connection.execute("ROLLBACK")
        self.assertIsNone(self.database.value("SELECT to_regclass('scored')"))
        self.assertEqual(self.database.value("SELECT count(*) FROM visage.runs WHERE kind = 'scoring'"), 0)

    def test_a_table_with_more_to_it(self):
        self.database.execute(
            """CREATE TABLE scored (id int PRIMARY KEY, run_id bigint, model text, version int, scored_at timestamptz NOT NULL, reasons jsonb, class text,
               score float8 CHECK (score BETWEEN 0 AND 1), percent numeric GENERATED ALWAYS AS (round(score::numeric * 100, 1)) STORED, note text DEFAULT 'new')""",
            "CREATE INDEX ON scored (score)",
            "CREATE TABLE seen (n bigint)",
            "CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO seen SELECT count(*) FROM new; RETURN NULL; END'",
            "CREATE TRIGGER see AFTER INSERT ON scored REFERENCING NEW TABLE AS new FOR EACH STATEMENT EXECUTE FUNCTION see()",
            "ALTER TABLE scored OWNER TO test_engineer", "GRANT INSERT ON seen TO test_engineer")
        for settings, seen in (({"options": "-c visage.score_batch=0"}, [(ROWS,)]), (self.settings, [(1000,)] * 6)):
            with self.subTest(settings):
                self.database.execute("TRUNCATE seen")
                self.call(**settings)
                self.check()
                self.assertEqual([row for row in self.database.rows("SELECT n FROM seen") if row[0]], seen)
                self.assertEqual(self.database.value("SELECT count(*) FROM scored WHERE note = 'new' AND percent = round(score::numeric * 100, 1)"), ROWS)
        with self.assertRaises(errors.UniqueViolation):
            self.call(", mode => 'append'")

    def test_merge(self):
        self.call(", mode => 'merge'")
        self.database.execute("UPDATE scored SET score = 2 WHERE id % 2 = 0", "DELETE FROM scored WHERE id % 5 = 0")
        self.call(", mode => 'merge'")
        found = self.database.value("SELECT count(*), count(DISTINCT id), max(score) <= 1, count(DISTINCT run_id) FROM scored")
        self.assertEqual(found, (ROWS, ROWS, True, 1))
        self.database.execute("ALTER TABLE scored DROP CONSTRAINT scored_pkey")
        with self.assertRaises(errors.InvalidColumnReference):
            self.call(", mode => 'merge'")

    def test_rows_of_one_key_stay_together(self):
        with self.database.connect("engineer", **self.settings) as connection:
            connection.execute("CALL visage_score_table('m', 'SELECT * FROM orders', 'by_plan', '{plan}')")
        self.assertEqual(self.database.rows("SELECT plan, count(*) FROM by_plan GROUP BY 1 ORDER BY 1"),
                         [(plan, ROWS // 3) for plan in ("bronze", "gold", "silver")])

    def test_keys_of_all_kinds(self):
        """A batch begins behind the key of the last row, whatever its type."""
        for key in ("i::numeric / 7", "'2020-01-01'::timestamptz + i * interval '1 hour 1 second'", "'2020-01-01'::date + i",
                    "i / 3.0::float8", "i::text COLLATE \"C\"", "(i / 10)::text || ''' \\'", "md5(i::text)::uuid", "(i::text)::varchar(3)"):
            with self.subTest(key), self.database.connect("engineer", options="-c visage.score_batch=700 -c DateStyle=German -c TimeZone=Asia/Kolkata") as connection:
                connection.execute("DROP TABLE IF EXISTS keyed")
                query = "SELECT {} AS key, id, amount, plan FROM (SELECT *, id AS i FROM orders) AS o;  ".format(key)
                connection.execute("CALL visage_score_table('m', $q$%s$q$, 'keyed', '{key,id}')" % query)
                self.assertEqual(self.database.value("SELECT count(*), count(DISTINCT id) FROM keyed"), (ROWS, ROWS))

    def test_rows_without_a_key(self):
        with self.database.connect("engineer", **self.settings) as connection, self.assertRaises(errors.NullValueNotAllowed):
            connection.execute("CALL visage_score_table('m', 'SELECT nullif(id, 5500) AS key, * FROM orders', 'keyed', '{key}')")
        self.assertEqual(self.database.value("SELECT state FROM visage.runs WHERE kind = 'scoring'"), "failed")


class Slow(house.Background):
    """A call in batches, in a session of its own."""

    def __init__(self, database, more=""):
        self.more = more
        super().__init__(database, None)

    def run(self, statement):
        try:
            self.connection.execute("SET enable_seqscan = off")
            self.connection.execute("SET enable_sort = off")
            self.connection.execute("SET visage.score_batch = 1000")
            self.connection.execute(CALL % self.more)
        except psycopg.Error as error:
            self.error = error
        self.ended = time.monotonic()


if __name__ == "__main__":
    unittest.main()

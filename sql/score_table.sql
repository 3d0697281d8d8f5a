-- Scoring a query into a table, and explanations.
CREATE SCHEMA regress_scores;
CREATE TABLE regress_scores.orders AS
SELECT i AS id, (i * 7919 % 1000) / 100.0::float8 AS amount, CASE WHEN i % 10 = 3 THEN NULL ELSE i * 104729 % 77 END AS age,
	(ARRAY['gold', 'silver', 'bronze'])[1 + i % 3] AS plan, (i * 7919 % 1000) / 100.0 + 3 * (i % 3) + (i % 7) / 2.0 > 9 AS label
FROM generate_series(1, 3000) AS i;
SELECT version FROM visage_train('regress_scores', 'SELECT * FROM regress_scores.orders', algorithm => 'logistic', columns => '{"key": "id"}', deploy => 'always');

-- Blocks that are full and one that is not: the bits of scoring row by row.
CALL visage_score_table('regress_scores', 'SELECT * FROM regress_scores.orders', 'regress_scores.scored', '{id}');
SELECT count(*), count(DISTINCT s.id), bool_and(s.score = visage_score('regress_scores', o)) AS score, bool_and(s.class = visage_predict('regress_scores', o)) AS class,
	bool_and(s.reasons IS NULL) AS no_reasons, min(s.model) AS model, min(s.version) AS version, bool_and(s.scored_at = r.started_at OR s.scored_at <= r.started_at) AS at, min(r.state) AS state, min(r.counters::text) AS counters
FROM regress_scores.scored AS s JOIN regress_scores.orders AS o USING (id) JOIN visage.runs AS r USING (run_id);
-- Replaced, appended to; nothing; a key of several columns.
CALL visage_score_table('regress_scores', 'SELECT * FROM regress_scores.orders WHERE id <= 64', 'regress_scores.scored', '{id}');
CALL visage_score_table('regress_scores@1', 'SELECT * FROM regress_scores.orders WHERE id = 65', 'regress_scores.scored', '{id}', 'append', 2);
CALL visage_score_table('regress_scores', 'SELECT * FROM regress_scores.orders WHERE false', 'regress_scores.scored', '{id}', mode => 'append');
SELECT count(*), max(id), count(DISTINCT run_id) AS runs, max(jsonb_array_length(reasons)) AS reasons FROM regress_scores.scored;
CALL visage_score_table('regress_scores', 'SELECT NULL::text AS note, o.* FROM regress_scores.orders AS o ORDER BY id LIMIT 3', 'regress_scores."By plan"', '{plan, note, id}');
SELECT plan, note, id, score = visage_score('regress_scores', amount, age, plan) AS score FROM regress_scores."By plan" JOIN regress_scores.orders USING (id, plan) ORDER BY id;
-- A failed call changes nothing.
CALL visage_score_table('regress_scores', 'SELECT 1 / (id - 5) AS one, o.* FROM regress_scores.orders AS o', 'regress_scores.scored', '{one}');
\echo :LAST_ERROR_SQLSTATE
CALL visage_score_table('regress_scores', 'SELECT 1 / (id - 1500) AS one, o.* FROM regress_scores.orders AS o', 'regress_scores.scored', '{id}');
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) FROM regress_scores.scored;

-- A table with more to it takes rows as from INSERT; merged by its key.
CREATE TABLE regress_scores.kept (id int PRIMARY KEY, note text DEFAULT 'new', score float8 CHECK (score < 1), class text, reasons jsonb, model text, version int, scored_at timestamptz, run_id bigint,
	percent float8 GENERATED ALWAYS AS (score * 100) STORED);
CALL visage_score_table('regress_scores', 'SELECT * FROM regress_scores.orders WHERE id <= 100', 'regress_scores.kept', '{id}');
CALL visage_score_table('regress_scores', 'SELECT * FROM regress_scores.orders WHERE id = 100', 'regress_scores.kept', '{id}', 'append');
\echo :LAST_ERROR_SQLSTATE
UPDATE regress_scores.kept SET note = 'old', score = 0;
CALL visage_score_table('regress_scores', 'SELECT * FROM regress_scores.orders WHERE id BETWEEN 51 AND 150', 'regress_scores.kept', '{id}', 'merge');
SELECT note, score = 0 AS zero, percent = score * 100 AS percent, count(*), min(id), max(id) FROM regress_scores.kept GROUP BY 1, 2, 3 ORDER BY 5;
CALL visage_score_table('regress_scores', 'SELECT * FROM regress_scores.orders', 'regress_scores.merged', '{id}', 'merge');
CALL visage_score_table('regress_scores', 'SELECT * FROM regress_scores.orders', 'regress_scores.merged', '{id}', 'merge');
SELECT count(*), count(DISTINCT run_id) AS runs FROM regress_scores.merged;

-- In batches that are committed: a call that failed goes on behind them.
ALTER TABLE regress_scores.orders ADD PRIMARY KEY (id);
SET visage.score_batch = 1000;
SET enable_sort = off;
SET enable_seqscan = off;
CREATE TABLE regress_scores.fuse AS SELECT 2500 AS id;
CALL visage_score_table('regress_scores', 'SELECT o.*, 1 / (o.id - f.id) AS one FROM regress_scores.orders AS o, regress_scores.fuse AS f', 'regress_scores.batched', '{id}');
\echo :LAST_ERROR_SQLSTATE
SELECT r.state, r.error, r.counters ->> 'scored' AS scored, (SELECT count(*) FROM regress_scores.batched AS b WHERE b.run_id = r.run_id) AS rows FROM visage.runs AS r WHERE kind = 'scoring' ORDER BY run_id DESC LIMIT 1;
UPDATE regress_scores.fuse SET id = 0;
CALL visage_score_table('regress_scores', 'SELECT o.*, 1 / (o.id - f.id) AS one FROM regress_scores.orders AS o, regress_scores.fuse AS f', 'regress_scores.batched', '{id}');
SELECT r.state, r.error, r.counters ->> 'scored' AS scored, count(*), count(DISTINCT b.id) FROM visage.runs AS r JOIN regress_scores.batched AS b USING (run_id) GROUP BY 1, 2, 3;
-- A finished one does not go on; nor does another call.
CALL visage_score_table('regress_scores', 'SELECT o.*, 1 / (o.id - f.id) AS one FROM regress_scores.orders AS o, regress_scores.fuse AS f', 'regress_scores.batched', '{id}');
SELECT count(*), count(DISTINCT run_id) AS runs FROM regress_scores.batched;
RESET visage.score_batch;
RESET enable_sort;
RESET enable_seqscan;

-- Explanations: they add up, the largest comes first, in each form.
SELECT count(*), bool_and(abs(e.sum - ln(s / (1 - s))) < 1e-9) AS adds_up, min(e.rows) AS least, max(e.rows) AS most, bool_and(e.sorted) AS sorted
FROM regress_scores.orders AS o, LATERAL visage_score('regress_scores', o) AS s,
	LATERAL (
		SELECT count(*) AS rows, sum(contribution), bool_and(next IS NULL OR abs(contribution) >= abs(next)) AS sorted
		FROM (SELECT *, lead(CASE WHEN feature IS NOT NULL THEN contribution END) OVER () AS next FROM visage_explain('regress_scores', o)) AS x) AS e;
SELECT feature, value, contribution = 0 AS nothing FROM visage_explain('regress_scores', 3, NULL::int, 'tin'::text) ORDER BY feature;
SELECT (SELECT array_agg(e) FROM visage_explain('regress_scores', 3, 40, 'gold'::text) AS e) = (SELECT array_agg(e) FROM visage_explain_json('regress_scores', '{"amount": 3, "age": 40, "plan": "gold"}') AS e) AS same;
-- Centred on the training rows: the contributions' means are 0.
SELECT feature, abs(avg(contribution)) < stddev(contribution) / 20 AS centred FROM regress_scores.orders AS o, LATERAL visage_explain('regress_scores', o) AS e WHERE feature IS NOT NULL GROUP BY 1 ORDER BY 1;
-- What the planner expects.
CREATE FUNCTION regress_scores.expected_rows(query text) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	plan json;
BEGIN
	EXECUTE 'EXPLAIN (FORMAT JSON) ' || query INTO plan;
	RETURN plan -> 0 -> 'Plan' ->> 'Plan Rows';
END
$$;
SELECT regress_scores.expected_rows($$SELECT * FROM visage_explain('regress_scores', 3, 40, 'gold'::text)$$);
SELECT regress_scores.expected_rows($$SELECT * FROM visage_explain_json('regress_scores', '{}')$$);
SET visage.explain_top = 1;
SELECT regress_scores.expected_rows($$SELECT * FROM visage_explain('regress_scores', 3, 40, 'gold'::text)$$);
SELECT count(*) FROM visage_explain('regress_scores', 3, 40, 'gold'::text);
RESET visage.explain_top;
SELECT count(*) FROM visage_explain('regress_scores', NULL::regress_scores.orders);
SELECT count(*) FROM visage_explain(NULL, 1);
SELECT * FROM visage_explain('regress_scores', 3, 40);
\echo :LAST_ERROR_SQLSTATE

-- Errors.
CALL visage_score_table('regress_scores', 'SELECT * FROM regress_scores.orders', 'regress_scores.scored', '{ident}');
\echo :LAST_ERROR_SQLSTATE
CALL visage_score_table('regress_scores', 'SELECT id, amount, age FROM regress_scores.orders', 'regress_scores.scored', '{id}');
\echo :LAST_ERROR_SQLSTATE
CALL visage_score_table('regress_scores', 'SELECT * FROM regress_scores.orders', 'regress_scores.scored', '{id}', 'upsert');
\echo :LAST_ERROR_SQLSTATE
CALL visage_score_table('regress_scores', 'SELECT * FROM regress_scores.orders', 'regress_scores.scored', '{}', 'merge');
\echo :LAST_ERROR_SQLSTATE
CALL visage_score_table('regress_scores', 'SELECT * FROM regress_scores.orders', 'regress_scores.scored', '{id}', 'append', -1);
\echo :LAST_ERROR_SQLSTATE
CALL visage_score_table('regress_scores', 'SELECT * FROM regress_scores.orders', 'regress_scores.scored', NULL);
\echo :LAST_ERROR_SQLSTATE
CALL visage_score_table('regress_scores', 'SELECT * FROM regress_scores.orders', 'regress_scores.orders', '{id}', 'append');
\echo :LAST_ERROR_SQLSTATE
CALL visage_score_table('regress_scores', 'SELECT * FROM regress_scores.orders', 'regress_scores.scored', '{plan}', 'append');
\echo :LAST_ERROR_SQLSTATE
CALL visage_score_table('regress_scores', 'DELETE FROM regress_scores.orders', 'regress_scores.scored', '{id}', 'append');
\echo :LAST_ERROR_SQLSTATE

SELECT visage_drop_model('regress_scores', keep_data => false);
DROP SCHEMA regress_scores CASCADE;

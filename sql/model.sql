-- Models: training, deploying, scoring, evaluating.
CREATE SCHEMA regress_model;
CREATE TABLE regress_model.orders AS
SELECT i AS id, timestamptz '2024-01-01 00:00+00' + i * interval '1 hour' AS at,
	(i * 7919 % 1000) / 100.0::float8 AS amount, CASE WHEN i % 10 = 3 THEN NULL ELSE (i * 104729 % 77)::numeric END AS age,
	(ARRAY['gold', 'silver', 'bronze'])[1 + i % 3] AS plan, i % 2 = 0 AS active,
	(i * 7919 % 1000) / 100.0 + 3 * (i % 3) + (i * 15485863::bigint % 1009) / 150.0 > 12 AS label
FROM generate_series(1, 3000) AS i;

SELECT version, rows, deployed, duration > '0' AS took_time, round((metrics ->> 'auc')::numeric, 2) AS auc, metrics -> 'auc_low' < metrics -> 'auc' AND metrics -> 'auc' < metrics -> 'auc_high' AS inside
FROM visage_train('regress', 'SELECT * FROM regress_model.orders', algorithm => 'logistic', columns => '{"key": "id", "time": "at"}', deploy => 'always');
-- The same rows in another order: the same hold-out, the same model.
SELECT version, rows, deployed FROM visage_train('regress', 'SELECT * FROM regress_model.orders ORDER BY id DESC', 'label', 'logistic', columns => '{"key": ["id"], "time": "at"}');
SELECT max(abs(visage_score('regress', o) - visage_score('regress@2', o))) < 1e-9 AS same_model FROM regress_model.orders AS o;
SELECT a.rows = b.rows AND a.holdout_rows = b.holdout_rows AS same_rows FROM visage.model_versions AS a, visage.model_versions AS b WHERE a.version = 1 AND b.version = 2;
-- A hold-out by time, and none.
SELECT version, rows FROM visage_train('regress', 'SELECT * FROM regress_model.orders', algorithm => 'logistic', columns => '{"key": "id", "time": "at"}', split => '{"holdout_from": "2024-04-01"}');
SELECT version, rows, metrics FROM visage_train('regress', 'SELECT * FROM regress_model.orders', algorithm => 'logistic', params => '{"C": 0.1, "max_iter": 50, "seed": 7}', columns => '{"exclude": ["id", "at"]}', split => '{}');
SELECT (SELECT count(*) FROM regress_model.orders WHERE at < '2024-04-01 00:00+00') AS before;

-- By row, by position, by array, by JSON: one answer.
SELECT count(*), bool_and(s BETWEEN 0 AND 1) AS probability,
	bool_and(s = visage_score('regress', o.amount, o.age, o.plan, o.active)) AS position, bool_and(s = visage_score_json('regress', to_jsonb(o))) AS json
FROM regress_model.orders AS o, LATERAL visage_score('regress', o) AS s;
SELECT visage_score('numbers', 1.5, 2) = visage_score('numbers', VARIADIC ARRAY[1.5, 2]) AS array
FROM visage_train('numbers', 'SELECT amount, age, label FROM regress_model.orders', algorithm => 'logistic', deploy => 'always');
SELECT visage_drop_model('numbers', keep_data => false);
SELECT visage_score('regress', 5::numeric, 30::smallint, 'gold'::varchar, 1) = visage_score('regress', 5::real, 30::bigint, 'gold'::name, true) AS types;
SELECT visage_score('regress', r) = visage_score('regress', 5, 30, 'gold', true) AS by_name FROM (SELECT true AS active, 'gold' AS plan, 'extra' AS other, 30 AS age, 5 AS amount) AS r;
-- All scores and the class, in each form.
SELECT count(*), bool_and(visage_scores('regress', o) = ARRAY[1 - s, s]) AS scores, bool_and(visage_predict('regress', o) = (s > 0.5)::text) AS class,
	bool_and(visage_scores('regress', o.amount, o.age, o.plan, o.active) = visage_scores_json('regress', to_jsonb(o))) AS scores_json,
	bool_and(visage_predict('regress', o.amount, o.age, o.plan, o.active) = visage_predict_json('regress', to_jsonb(o))) AS class_json
FROM regress_model.orders AS o, LATERAL visage_score('regress', o) AS s;
-- A category of any type.
CREATE TYPE regress_model.plan AS ENUM ('silver', 'gold', 'other');
SELECT bool_and(visage_score('regress', 5, 30, e, true) = visage_score('regress', 5, 30, e::text, true)) AS enum,
	bool_and(visage_score('regress', 5, 30, e::text::char(9), true) = visage_score('regress', 5, 30, e::text, true)) AS blanks
FROM unnest(enum_range(NULL::regress_model.plan)) AS e;
SELECT version FROM visage_train('kinds', 'SELECT (i % 3)::text AS whole, to_char(date ''2024-02-28'' + i % 3, ''YYYY-MM-DD'') AS day, (i % 2 = 0)::text AS flag, i % 3 + i % 5 > 3 AS label FROM generate_series(1, 200) AS i',
	algorithm => 'logistic', deploy => 'always');
SELECT bool_and(visage_score('kinds', i, date '2024-02-28' + i, i = 1) = visage_score('kinds', i::text, to_char(date '2024-02-28' + i, 'YYYY-MM-DD'), (i = 1)::text)) AS typed,
	bool_and(visage_score('kinds', i::float8, i::numeric, i = 1) = visage_score('kinds', i::text, i::text, (i = 1)::text)) AS numbers,
	bool_and(visage_score('kinds', 1.5, 1.5::real, 7::bigint) = visage_score('kinds', '1.5', '1.5', '7')) AS fractions
FROM generate_series(0, 2) AS i;
SELECT visage_score('kinds', 1, 'infinity'::date, true) IS NOT NULL AS infinite;
SELECT visage_drop_model('kinds', keep_data => false);
-- NULL and categories that were not seen are scored; NULL for no row or model.
SELECT visage_score('regress', NULL::float8, NULL::numeric, NULL::text, NULL::bool) IS NOT NULL AS missing, visage_score('regress', 5, 'NaN'::float8, 'platinum', true) IS NOT NULL AS unseen,
	visage_score('regress', NULL::regress_model.orders) IS NULL AS no_row, visage_score(NULL, 1) IS NULL AS no_model, visage_score_json('regress', NULL) IS NULL AS no_object;

-- Aliases.
SELECT model, algorithm, champion, challenger, latest, inputs FROM visage.models;
SELECT visage_deploy('regress', 4, 'challenger');
SELECT visage_score('regress@challenger', o) = visage_score('regress@4', o) AS challenger FROM regress_model.orders AS o WHERE id = 1;
BEGIN;
SELECT visage_deploy('regress', 4);
SELECT visage_score('regress', o) = visage_score('regress@4', o) AS deployed FROM regress_model.orders AS o WHERE id = 1;
ROLLBACK;
SELECT visage_score('regress', o) = visage_score('regress@1', o) AS undone FROM regress_model.orders AS o WHERE id = 1;
SELECT version, aliases FROM visage.model_versions WHERE model = 'regress' ORDER BY version;
SELECT version, count(*) AS metrics FROM visage.model_metrics GROUP BY version ORDER BY version;

-- In a function that keeps its plan, a deploy is seen by the next statement.
CREATE FUNCTION regress_model.follow() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answers text := '';
BEGIN
	FOR i IN 1..4 LOOP
		PERFORM visage_deploy('regress', i);
		answers := answers || (SELECT visage_score('regress', o) = visage_score('regress@' || i, o) FROM regress_model.orders AS o WHERE id = 2);
	END LOOP;
	RETURN answers;
END
$$;
SELECT regress_model.follow();
SELECT round((visage_evaluate('regress', 'SELECT * FROM regress_model.orders', 'label') ->> 'auc')::numeric, 2) AS auc;
SELECT visage_evaluate('regress', 'SELECT * FROM regress_model.orders WHERE label', 'label') -> 'auc' AS one_class;

-- Training: errors.
SELECT visage_train('regress', 'SELECT * FROM regress_model.orders');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_train('regress', 'SELECT * FROM regress_model.orders', algorithm => 'logistics');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_train('regress', 'SELECT * FROM regress_model.orders', algorithm => 'logistic');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_train('regress', 'SELECT * FROM regress_model.orders', 'lable', 'logistic');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_train('regress', 'SELECT id, amount AS label FROM regress_model.orders', algorithm => 'logistic');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_train('regress', 'SELECT amount, plan AS label FROM regress_model.orders', algorithm => 'logistic');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_train('regress', 'SELECT label FROM regress_model.orders', algorithm => 'logistic');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_train('regress', 'SELECT amount, label FROM regress_model.orders WHERE label', algorithm => 'logistic');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_train('regress', 'SELECT amount, label FROM regress_model.orders', algorithm => 'logistic', params => '{"c": 1}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_train('regress', 'SELECT amount, label FROM regress_model.orders', algorithm => 'logistic', params => '{"C": "strong"}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_train('regress', 'SELECT amount, label FROM regress_model.orders', algorithm => 'logistic', columns => '{"weight": "amount"}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_train('regress', 'SELECT amount, label FROM regress_model.orders', algorithm => 'logistic', columns => '{"key": "ammount"}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_train('regress', 'SELECT amount, label FROM regress_model.orders', algorithm => 'logistic', split => '{"holdout_from": "2024-04-01"}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_train('regress', 'SELECT amount, label FROM regress_model.orders', algorithm => 'logistic', split => '{"holdout": 2}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_train('regress', 'SELECT amount, label FROM regress_model.orders', algorithm => 'logistic', columns => '{"time": "amount"}', split => '{"holdout": 0.2, "holdout_from": "2024-04-01"}');
SELECT visage_train('regress', 'SELECT amount, label, at FROM regress_model.orders', algorithm => 'logistic', columns => '{"time": "at"}', split => '{"holdout_from": "some day"}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_train('regress', 'SELECT amount, label FROM regress_model.orders', algorithm => 'logistic', deploy => 'if_better');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_train('regress', 'SELECT amount, label FROM regress_model.orders', algorithm => 'logistic', deploy => 'sometimes');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_train('Regress', 'SELECT amount, label FROM regress_model.orders', algorithm => 'logistic');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_train('regress', 'DELETE FROM regress_model.orders', algorithm => 'logistic');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_train('regress', NULL, algorithm => 'logistic');
\echo :LAST_ERROR_SQLSTATE
SET visage.train_memory = '1MB';
SELECT visage_train('regress', 'SELECT o.amount, o.label FROM regress_model.orders AS o, generate_series(1, 50)', algorithm => 'logistic');
\echo :LAST_ERROR_SQLSTATE
RESET visage.train_memory;
SELECT version FROM visage_train('regress', 'SELECT i, i % 2 AS label, i::text AS name FROM generate_series(1, 900) AS i', algorithm => 'logistic', params => '{"max_iter": 1}', split => '{}');

-- Scoring: errors.
SELECT visage_score('regres', 1);
\echo :LAST_ERROR_SQLSTATE
SELECT visage_score('regress@9', 1);
\echo :LAST_ERROR_SQLSTATE
SELECT visage_score('regress@best', 1);
\echo :LAST_ERROR_SQLSTATE
SELECT visage_score('regress@1', 1, 2);
\echo :LAST_ERROR_SQLSTATE
SELECT visage_score('regress@1', r) FROM (SELECT 1 AS amont, 2 AS age, 'gold' AS plan, true AS active) AS r;
\echo :LAST_ERROR_SQLSTATE
SELECT visage_score('regress@1', r) FROM (SELECT 'much' AS amount, 2 AS age, 'gold' AS plan, true AS active) AS r;
\echo :LAST_ERROR_SQLSTATE
SELECT visage_score_json('regress@1', '{"amount": 1}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_score_json('regress@1', '[1]');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_score_json('regress@1', '{"amount": "much", "age": 1, "plan": null, "active": true}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_evaluate('regress@1', 'SELECT * FROM regress_model.orders', 'lable');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_evaluate('regress@1', 'SELECT * FROM regress_model.orders LIMIT 0', 'label');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_evaluate('regress@1', 'SELECT amount, age, plan, active, amount AS target FROM regress_model.orders', 'target');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_evaluate('regress@1', 'SELECT 1; SELECT 2', 'label');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_deploy('regress', 99);
\echo :LAST_ERROR_SQLSTATE
SELECT visage_deploy('regres', 1);
\echo :LAST_ERROR_SQLSTATE
SELECT visage_deploy('regress', 1, 'best');
\echo :LAST_ERROR_SQLSTATE
-- A damaged image is found when it is loaded.
UPDATE visage.model_images SET image = set_byte(image, 200, get_byte(image, 200) # 1), checksum = 1 WHERE model = 'regress' AND version = 2;
SELECT visage_score('regress@2', 1, 2, 'gold', true);
\echo :LAST_ERROR_SQLSTATE

-- Dropping.
SELECT visage_drop_model('regress');
SELECT visage_score('regress', 1);
\echo :LAST_ERROR_SQLSTATE
SELECT visage_score('regress@1', 1, 2, 'gold', true) IS NOT NULL AS still_there;
SELECT visage_drop_model('regress', keep_data => false);
SELECT visage_drop_model('regress', keep_data => false);
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) FROM visage.model_images;
SET client_min_messages = warning;
DROP SCHEMA regress_model CASCADE;

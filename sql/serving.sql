-- Serving models: privileges, what the planner does, which version a
-- statement sees.
CREATE SCHEMA regress_serving;
CREATE TABLE regress_serving.rows AS
SELECT i AS id, repeat('x', 40) AS note, (i * 7919 % 1000)::float8 AS b, (i * 104729 % 77)::float8 AS a, CASE WHEN i % 4 = 0 THEN 'gold' ELSE 'tin' END AS plan,
	(i * 7919 % 1000) + 9 * (i * 104729 % 77) + i * 15485863::bigint % 300 > 1000 AS label
FROM generate_series(1, 2000) AS i;
ALTER TABLE regress_serving.rows ADD PRIMARY KEY (id);
ANALYZE regress_serving.rows;
CREATE TYPE regress_serving.narrow AS (id integer, label boolean);
-- An EXPLAIN without what differs from run to run.
CREATE FUNCTION regress_serving.explain(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	line text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS OFF, VERBOSE) ' || query LOOP
		RETURN NEXT regexp_replace(line, '[0-9a-f]{32}', '…', 'g');
	END LOOP;
END
$$;
SELECT version FROM visage_train('serving', 'SELECT a, b, label FROM regress_serving.rows', algorithm => 'logistic', split => '{}', deploy => 'always');
SELECT version FROM visage_train('serving', 'SELECT b, a, label FROM regress_serving.rows', algorithm => 'logistic', params => '{"C": 0.01}', split => '{}');
SELECT version FROM visage_train('serving', 'SELECT plan, a, b, label FROM regress_serving.rows', algorithm => 'logistic', split => '{}');
SELECT version FROM visage_train('serving', 'SELECT a, b, label FROM regress_serving.rows', algorithm => 'logistic', params => '{"C": 0.01}', split => '{}');

-- Who may score: nobody who was not told so.
CREATE ROLE regress_scorer;
CREATE ROLE regress_trainer;
GRANT USAGE ON SCHEMA regress_serving TO regress_scorer, regress_trainer;
GRANT SELECT ON regress_serving.rows TO regress_scorer, regress_trainer;
GRANT EXECUTE ON FUNCTION visage_score, visage_score_json TO regress_scorer, regress_trainer;
GRANT EXECUTE ON FUNCTION visage_train, visage_drop_model TO regress_trainer;
SET ROLE regress_scorer;
SELECT visage_score('serving', 1, 2);
\echo :LAST_ERROR_SQLSTATE
SELECT visage_score('serving', r) FROM regress_serving.rows AS r;
\echo :LAST_ERROR_SQLSTATE
SELECT visage_grant_model('serving', 'regress_scorer');
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
SELECT visage_grant_model('serving', 'regress_scorer');
SELECT visage_grant_model('serving', 'regress_scorer');
SELECT model, role FROM visage.model_grants WHERE role LIKE 'regress%';
SET ROLE regress_scorer;
SELECT visage_score('serving', 1, 2) IS NOT NULL AS granted;
RESET ROLE;
SELECT visage_revoke_model('serving', 'regress_scorer');
SET ROLE regress_scorer;
SELECT visage_score('serving', 1, 2);
RESET ROLE;
-- In SQL's own words, and through membership.
GRANT SELECT ON visage_models.serving TO regress_trainer;
GRANT regress_trainer TO regress_scorer;
SET ROLE regress_scorer;
SELECT visage_score('serving', 1, 2) IS NOT NULL AS granted;
-- The right is looked at again in the same statement's next execution.
PREPARE score AS SELECT visage_score('serving', 1, 2) IS NOT NULL AS granted;
EXECUTE score;
RESET ROLE;
DROP OWNED BY regress_trainer;
SET ROLE regress_scorer;
EXECUTE score;
DEALLOCATE score;
RESET ROLE;
SELECT count(*) FROM visage.model_grants WHERE role LIKE 'regress%';
-- Who makes a model may use it.
GRANT USAGE ON SCHEMA regress_serving TO regress_trainer;
GRANT SELECT ON regress_serving.rows TO regress_trainer;
GRANT EXECUTE ON FUNCTION visage_train, visage_score, visage_drop_model TO regress_trainer;
SET ROLE regress_trainer;
SELECT version FROM visage_train('mine', 'SELECT a, label FROM regress_serving.rows', algorithm => 'logistic', split => '{}', deploy => 'always');
SELECT visage_score('mine', 1) IS NOT NULL AS mine;
RESET ROLE;
SELECT model, role FROM visage.model_grants WHERE role LIKE 'regress%';
-- The view goes with the model.
SELECT * FROM visage_models.mine;
SELECT visage_drop_model('mine', keep_data => false);
SELECT to_regclass('visage_models.mine');
SELECT visage_grant_model('mine', 'regress_scorer');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_grant_model('servin', 'regress_scorer');
SELECT visage_grant_model('serving', 'regress_nobody');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_grant_model(NULL, 'regress_scorer') IS NULL AS strict, visage_revoke_model('serving', NULL) IS NULL AS strict_too;

-- The planner passes the columns that the model needs instead of the row.
SELECT regress_serving.explain($$SELECT visage_score('serving', r) FROM regress_serving.rows AS r$$);
SELECT regress_serving.explain($$SELECT visage_score('serving@3', r) FROM (SELECT a, b / 2 AS b, id, plan FROM regress_serving.rows) AS r WHERE r.id = 1$$);
SELECT regress_serving.explain($$SELECT visage_score('serving', r) FROM (SELECT * FROM regress_serving.rows OFFSET 0) AS r$$);
SELECT regress_serving.explain($$SELECT r.id FROM regress_serving.rows AS r ORDER BY visage_score('serving', r) LIMIT 1$$);
-- Not where a row can be missing, nor where a column is.
SELECT regress_serving.explain($$SELECT visage_score('serving', r) FROM generate_series(1, 2) AS g LEFT JOIN regress_serving.rows AS r ON r.id = g$$);
SELECT visage_score('serving', r) IS NULL AS no_row FROM generate_series(0, 1) AS g LEFT JOIN regress_serving.rows AS r ON r.id = g ORDER BY g;
SELECT visage_score('serving', r) FROM (SELECT a, id FROM regress_serving.rows) AS r WHERE r.id = 1;
\echo :LAST_ERROR_SQLSTATE
SELECT visage_score('serving', ROW(1, true)::regress_serving.narrow);
\echo :LAST_ERROR_SQLSTATE
SELECT regress_serving.explain($$SELECT r, count(*) FROM regress_serving.rows AS r GROUP BY GROUPING SETS ((r), ()) HAVING visage_score('serving', r) > 0.5$$);
-- One answer in all forms.
SELECT count(*), bool_and(row = position AND row = json) AS same
FROM (
	SELECT visage_score('serving', r) AS row, visage_score('serving', r.a, r.b) AS position, visage_score_json('serving', to_jsonb(r)) AS json
	FROM regress_serving.rows AS r) AS s;
-- A linear model's score is summed where the arguments are; what is not a plain
-- number goes the way of all others.  Same bits.
SELECT count(*), bool_and(visage_score('serving', a, b) IS NOT DISTINCT FROM (visage_scores('serving', a, b))[2]) AS same
FROM (SELECT a, b FROM unnest('{1,0,-0,5e-324,1e-300,1e308,-1e308,NaN,Infinity,-Infinity,NULL}'::float8[]) AS a, unnest('{2,0,-0,-5e-324,1e308,NaN,Infinity,NULL,7}'::float8[]) AS b) AS edges;
UPDATE regress_serving.rows AS r SET a = a + 1 WHERE id = 1 RETURNING visage_score('serving', r) = visage_score('serving', r.a, r.b) AS new_row;
-- More columns than a call can have.
DO $$
BEGIN
	EXECUTE (SELECT format('CREATE TABLE regress_serving.wide AS SELECT i AS id, %s, i %% 2 = 0 AS label FROM generate_series(1, 300) AS i',
		string_agg(format('(i * %s %% 101)::float8 AS c%s', 7919 + n, n), ', ' ORDER BY n)) FROM generate_series(1, 120) AS n);
END
$$;
SELECT version FROM visage_train('wide', 'SELECT * FROM regress_serving.wide', algorithm => 'logistic', columns => '{"exclude": ["id"]}', split => '{}', deploy => 'always');
SELECT count(*), bool_and(visage_score('wide', w) = visage_score_json('wide', to_jsonb(w))) AS same FROM regress_serving.wide AS w;
SELECT bool_or(line LIKE '%ROW(c1, c2, %c120))%') AS only_columns FROM regress_serving.explain($$SELECT visage_score('wide', w) FROM regress_serving.wide AS w$$) AS line;

-- A cached plan follows a deploy: other columns, other order, same columns.
SET plan_cache_mode = force_generic_plan;
PREPARE follow AS SELECT visage_score('serving', r) = visage_score_json('serving', to_jsonb(r)) AS follows FROM regress_serving.rows AS r WHERE id = 7;
EXECUTE follow;
SELECT visage_deploy('serving', 2);
EXECUTE follow;
SELECT visage_deploy('serving', 3);
EXECUTE follow;
SELECT visage_deploy('serving', 4);
EXECUTE follow;
BEGIN;
SELECT visage_deploy('serving', 3);
EXECUTE follow;
SAVEPOINT s;
SELECT visage_deploy('serving', 2);
EXECUTE follow;
ROLLBACK TO SAVEPOINT s;
EXECUTE follow;
ROLLBACK;
EXECUTE follow;
RESET plan_cache_mode;
DEALLOCATE follow;

-- A conjured reference of the planner's kind: the version that was planned
-- with must be that very one.
SELECT visage_score('serving@champion:4:00000000000000000000000000000000', 1, 2);
\echo :LAST_ERROR_SQLSTATE
SELECT visage_score('serving@champion:x:1', 1, 2);
\echo :LAST_ERROR_SQLSTATE
-- Where the champion has changed since: it, if it takes the same columns in the
-- same order; else the version that was planned with.
SELECT version, visage_score(format('serving@champion:%s:%s', version, replace(image_id::text, '-', '')), 2, 1) = visage_score(CASE version WHEN 2 THEN 'serving@2' ELSE 'serving' END, 2, 1) AS right
FROM visage.model_images WHERE model = 'serving' AND version IN (1, 2) ORDER BY version;

-- It is worth a parallel plan.
SET parallel_setup_cost = 0;
SET min_parallel_table_scan_size = 0;
SELECT regress_serving.explain($$SELECT sum(visage_score('serving', r)) FROM regress_serving.rows AS r$$);
SET max_parallel_workers_per_gather = 0;
SELECT sum(visage_score('serving', r)) AS serial FROM regress_serving.rows AS r \gset
SET max_parallel_workers_per_gather = 2;
SELECT abs(sum(visage_score('serving', r)) - :serial) < 1e-9 AS same FROM regress_serving.rows AS r;
BEGIN;
SELECT visage_deploy('serving', 1);
SELECT abs(sum(visage_score('serving', r)) - sum(visage_score_json('serving@1', to_jsonb(r)))) < 1e-9 AS own_deploy FROM regress_serving.rows AS r;
ROLLBACK;
RESET parallel_setup_cost;
RESET min_parallel_table_scan_size;
RESET max_parallel_workers_per_gather;

-- In blocks, behind the planner: the same answers.
SET visage.batch_scoring = on;
SELECT regress_serving.explain($$SELECT sum(visage_score('serving', r)), avg(visage_score('serving@3', r)) FROM regress_serving.rows AS r WHERE note <> 'y'$$);
SELECT regress_serving.explain($$SELECT plan, max(visage_score('serving', r)), max(note || id) FROM regress_serving.rows AS r GROUP BY plan HAVING min(visage_score('serving', r)) < 1$$);
PREPARE whole AS SELECT sum(visage_score('serving', r)) FROM regress_serving.rows AS r;
PREPARE grouped AS
	SELECT plan, count(*), max(visage_score('serving', r)) AS highest, min(visage_score('serving@3', r)) AS lowest, max(note || id) AS note
	FROM regress_serving.rows AS r GROUP BY plan HAVING min(visage_score('serving', r)) < 1 ORDER BY plan;
PREPARE again AS
	SELECT g, (SELECT sum(visage_score('serving', r)) FROM regress_serving.rows AS r WHERE r.id <= g) AS some FROM generate_series(0, 200, 50) AS g;
CREATE TEMPORARY TABLE blocks AS EXECUTE whole;
CREATE TEMPORARY TABLE block_groups AS EXECUTE grouped;
CREATE TEMPORARY TABLE block_again AS EXECUTE again;
DEALLOCATE ALL;
SET visage.batch_scoring = off;
PREPARE whole AS SELECT sum(visage_score('serving', r)) FROM regress_serving.rows AS r;
PREPARE grouped AS
	SELECT plan, count(*), max(visage_score('serving', r)) AS highest, min(visage_score('serving@3', r)) AS lowest, max(note || id) AS note
	FROM regress_serving.rows AS r GROUP BY plan HAVING min(visage_score('serving', r)) < 1 ORDER BY plan;
PREPARE again AS
	SELECT g, (SELECT sum(visage_score('serving', r)) FROM regress_serving.rows AS r WHERE r.id <= g) AS some FROM generate_series(0, 200, 50) AS g;
CREATE TEMPORARY TABLE rows_whole AS EXECUTE whole;
CREATE TEMPORARY TABLE row_groups AS EXECUTE grouped;
CREATE TEMPORARY TABLE row_again AS EXECUTE again;
DEALLOCATE ALL;
SELECT count(*) AS whole FROM (TABLE blocks INTERSECT TABLE rows_whole) AS same;
SELECT count(*) AS groups FROM (TABLE block_groups INTERSECT TABLE row_groups) AS same;
SELECT count(*) AS rescans FROM (TABLE block_again INTERSECT TABLE row_again) AS same;
-- Workers score in blocks, too.
SET max_parallel_workers_per_gather = 1;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SELECT max(visage_score('serving', r)) AS highest, min(visage_score('serving', r)) AS lowest FROM regress_serving.rows AS r \gset
SET visage.batch_scoring = on;
SELECT regress_serving.explain($$SELECT max(visage_score('serving', r)), min(visage_score('serving', r)) FROM regress_serving.rows AS r$$);
SELECT max(visage_score('serving', r)) = :highest AS highest, min(visage_score('serving', r)) = :lowest AS lowest FROM regress_serving.rows AS r;
SELECT regress_serving.explain($$SELECT plan, count(*), max(visage_score('serving', r)) FROM regress_serving.rows AS r GROUP BY plan ORDER BY plan$$);
SELECT count(*) AS groups FROM
	(SELECT plan, count(*), max(visage_score('serving', r)) AS highest FROM regress_serving.rows AS r GROUP BY plan) AS blocks
	JOIN row_groups USING (plan, count, highest);
-- Also in a query's output: by itself, within functions, beside a condition,
-- sorted, inserted; below a Gather, too.
SET visage.batch_scoring = off;
CREATE TEMPORARY TABLE rows_output AS
	SELECT id, note, visage_score('serving', r) AS score, 1 - visage_score('serving@3', r) AS other, CASE WHEN id > 9 THEN visage_score('serving', r) END AS some
	FROM regress_serving.rows AS r;
SET visage.batch_scoring = on;
SELECT regress_serving.explain($$SELECT id, 1 - visage_score('serving', r) FROM regress_serving.rows AS r ORDER BY visage_score('serving', r) DESC LIMIT 3$$);
SET max_parallel_workers_per_gather = 0;
SELECT regress_serving.explain($$SELECT id, note, visage_score('serving', r) AS score, 1 - visage_score('serving@3', r) AS other, CASE WHEN id > 9 THEN visage_score('serving', r) END AS some FROM regress_serving.rows AS r$$);
CREATE TEMPORARY TABLE block_output AS
	SELECT id, note, visage_score('serving', r) AS score, 1 - visage_score('serving@3', r) AS other, CASE WHEN id > 9 THEN visage_score('serving', r) END AS some
	FROM regress_serving.rows AS r;
SELECT count(*) AS output FROM (TABLE block_output INTERSECT TABLE rows_output) AS same;
SELECT array_agg(id) = (SELECT array_agg(id) FROM (SELECT id FROM rows_output ORDER BY score DESC, id LIMIT 70) AS s) AS ranked
FROM (SELECT id FROM regress_serving.rows AS r ORDER BY visage_score('serving', r) DESC, id LIMIT 70) AS s;
SELECT regress_serving.explain($$INSERT INTO block_output (id, score) SELECT id, visage_score('serving', r) FROM regress_serving.rows AS r$$);
BEGIN;
INSERT INTO block_output (id, score) SELECT -id, visage_score('serving', r) FROM regress_serving.rows AS r WHERE id <= 100;
SELECT count(*) AS inserted FROM block_output AS b JOIN rows_output AS r ON b.id = -r.id AND b.score = r.score;
ROLLBACK;
SELECT bool_or(line LIKE '%Visage Batch Score%') AS in_windows
FROM regress_serving.explain($$SELECT id, rank() OVER (ORDER BY visage_score('serving', r) DESC) FROM regress_serving.rows AS r$$) AS line;
SELECT count(*) AS in_windows FROM (
	SELECT id, rank() OVER (ORDER BY visage_score('serving', r) DESC) FROM regress_serving.rows AS r
	INTERSECT SELECT id, rank() OVER (ORDER BY score DESC) FROM rows_output) AS same;
CREATE TABLE regress_serving.parts (LIKE regress_serving.rows) PARTITION BY HASH (id);
CREATE TABLE regress_serving.part_0 PARTITION OF regress_serving.parts FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE regress_serving.part_1 PARTITION OF regress_serving.parts FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO regress_serving.parts TABLE regress_serving.rows;
SELECT regress_serving.explain($$SELECT id, visage_score('serving', p) FROM regress_serving.parts AS p ORDER BY 2$$);
SELECT count(*) AS of_partitions FROM (SELECT id, visage_score('serving', p) AS score FROM regress_serving.parts AS p INTERSECT SELECT id, score FROM rows_output) AS same;
DROP TABLE regress_serving.parts;
-- Not where a condition or a LIMIT may want fewer, or rows are locked or changed.
SELECT regress_serving.explain($$SELECT id, coalesce(a, visage_score('serving', r)) FROM regress_serving.rows AS r$$);
SELECT regress_serving.explain($$SELECT id, visage_score('serving', r) FROM regress_serving.rows AS r LIMIT 3$$);
SELECT regress_serving.explain($$SELECT id, visage_score('serving', r) FROM regress_serving.rows AS r ORDER BY id LIMIT 3$$);
SELECT regress_serving.explain($$SELECT id, visage_score('serving', r) FROM regress_serving.rows AS r FOR UPDATE$$);
SELECT regress_serving.explain($$UPDATE regress_serving.rows AS r SET b = visage_score('serving', r)$$);
-- A cursor can go back.
BEGIN;
DECLARE back SCROLL CURSOR FOR SELECT id AS at, visage_score('serving', r) AS score FROM regress_serving.rows AS r;
MOVE FORWARD 150 IN back;
FETCH BACKWARD 1 FROM back \gset
SELECT :score = (SELECT score FROM rows_output WHERE id = :at) AS went_back;
ROLLBACK;
RESET max_parallel_workers_per_gather;
RESET parallel_setup_cost;
RESET parallel_tuple_cost;
RESET min_parallel_table_scan_size;

-- NULLs, no rows, a condition, a wrong number of values, privileges.
SELECT sum(visage_score('serving', a, b)) IS NULL AS no_rows FROM regress_serving.rows WHERE id < 0;
SELECT count(visage_score('serving', a, b)) AS with_nulls, sum(visage_score('serving', a, b)) = sum(visage_score('serving', a + 0, b)) AS same
FROM (SELECT CASE WHEN id % 2 = 0 THEN a END AS a, b FROM regress_serving.rows OFFSET 0) AS r;
SELECT sum(visage_score('serving', r)) FILTER (WHERE id < 100) = sum(CASE WHEN id < 100 THEN visage_score('serving', r) END) AS condition FROM regress_serving.rows AS r;
SELECT sum(visage_score('serving', a)) FROM regress_serving.rows;
\echo :LAST_ERROR_SQLSTATE
PREPARE positions AS SELECT sum(visage_score('serving', a, b)) FROM regress_serving.rows;
SET plan_cache_mode = force_generic_plan;
EXPLAIN (COSTS OFF) EXECUTE positions;
SELECT visage_deploy('serving', 3);
EXECUTE positions;
\echo :LAST_ERROR_SQLSTATE
SELECT visage_deploy('serving', 4);
DEALLOCATE positions;
RESET plan_cache_mode;
SET ROLE regress_scorer;
SELECT sum(visage_score('serving', r)) FROM regress_serving.rows AS r;
RESET ROLE;
GRANT USAGE ON SCHEMA regress_serving TO regress_scorer;
GRANT SELECT ON regress_serving.rows TO regress_scorer;
SELECT visage_grant_model('serving', 'regress_scorer');
SET ROLE regress_scorer;
SELECT sum(visage_score('serving', r)) > 0 AS granted FROM regress_serving.rows AS r;
RESET ROLE;
REVOKE EXECUTE ON FUNCTION visage_score FROM regress_scorer, regress_trainer;
SET ROLE regress_scorer;
SELECT sum(visage_score('serving', r)) > 0 AS granted FROM regress_serving.rows AS r;
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
RESET visage.batch_scoring;

-- What is rolled back has never been: to a savepoint, in an exception block.
SELECT visage_score('serving', 1, 2) AS before \gset
BEGIN;
SAVEPOINT s;
SELECT version FROM visage_train('serving', 'SELECT a, b, label FROM regress_serving.rows WHERE id < 500', algorithm => 'logistic', split => '{}', deploy => 'always');
SELECT visage_score('serving', 1, 2) <> :before AS other, visage_score('serving@5', 1, 2) = visage_score('serving', 1, 2) AS fifth;
ROLLBACK TO SAVEPOINT s;
SELECT visage_score('serving', 1, 2) = :before AS undone;
SELECT visage_score('serving@5', 1, 2);
ROLLBACK;
SELECT version FROM visage_train('serving', 'SELECT a, b, label FROM regress_serving.rows WHERE id < 700', algorithm => 'logistic', split => '{}');
SELECT visage_score('serving', 1, 2) = :before AS undone;
DO $$
DECLARE
	before float8 := visage_score('serving', 1, 2);
	inside float8;
BEGIN
	FOR i IN 1..5 LOOP
		BEGIN
			PERFORM visage_deploy('serving', 5);
			inside := visage_score('serving', 1, 2);
			ASSERT inside <> before AND inside = visage_score('serving@5', 1, 2), 'the deploy is seen';
			RAISE EXCEPTION SQLSTATE 'UV001';
		EXCEPTION WHEN SQLSTATE 'UV001' THEN
			ASSERT visage_score('serving', 1, 2) = before, 'and undone';
		END;
	END LOOP;
END
$$;
-- A trigger scores each row by the version of its statement.
CREATE TABLE regress_serving.scored (a float8, b float8, score float8, version integer);
CREATE FUNCTION regress_serving.score_it() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.score := visage_score('serving', NEW.a, NEW.b);
	NEW.version := (SELECT champion FROM visage.models WHERE model = 'serving');
	RETURN NEW;
END
$$;
CREATE TRIGGER score_it BEFORE INSERT ON regress_serving.scored FOR EACH ROW EXECUTE FUNCTION regress_serving.score_it();
INSERT INTO regress_serving.scored SELECT a, b FROM regress_serving.rows WHERE id <= 100;
SELECT visage_deploy('serving', 5);
INSERT INTO regress_serving.scored SELECT a, b FROM regress_serving.rows WHERE id <= 100;
SELECT version, count(*), bool_and(score = visage_score('serving@' || version, a, b)) AS right FROM regress_serving.scored GROUP BY version ORDER BY version;
-- A function that deploys and scores in one statement sees its own deploy only
-- in its own next statements.
CREATE FUNCTION regress_serving.deploy_and_score(version integer) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	PERFORM visage_deploy('serving', version);
	RETURN visage_score('serving', 1, 2) = visage_score('serving@' || version, 1, 2);
END
$$;
SELECT regress_serving.deploy_and_score(4), visage_score('serving', 1, 2) = visage_score('serving@5', 1, 2) AS as_begun;
-- By name where the tables were changed by hand.
UPDATE visage.model_aliases SET version = 1 WHERE model = 'serving';
SELECT visage_score('serving', 1, 2) = visage_score('serving@1', 1, 2) AS by_hand;
TRUNCATE visage.model_aliases;
SELECT visage_score('serving', 1, 2);

SELECT visage_drop_model('serving', keep_data => false);
SELECT visage_drop_model('wide', keep_data => false);
SET client_min_messages = warning;
DROP OWNED BY regress_scorer, regress_trainer;
DROP ROLE regress_scorer;
DROP ROLE regress_trainer;
DROP SCHEMA regress_serving CASCADE;

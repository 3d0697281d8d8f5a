-- Histories: declared, merged in any order, read back.
SET TimeZone = 'UTC';
SET client_min_messages = warning;
CREATE SCHEMA regress_history;
CREATE TABLE regress_history.customer (id int, region text, name text, plan text, note jsonb, at timestamptz);
INSERT INTO regress_history.customer VALUES
	(1, 'eu', 'Ada', 'basic', '{"a": 1}', '2024-01-01'),
	(2, 'eu', 'Bob', NULL, NULL, '2024-01-01'),
	(3, 'us', 'Cyd', 'pro', '{}', '2024-01-01');
SELECT visage_create_history('history.customer', 'regress_history.customer', '{region,id}', sequence_by => '{at}', track_history_columns => '{plan,note}', fixed_columns => '{}');
RESET client_min_messages;
SELECT visage_create_history('history.customer', 'regress_history.customer', '{region,id}', sequence_by => '{at}', track_history_columns => '{plan,note}', fixed_columns => '{}');
SELECT * FROM visage_merge('history.customer');
SELECT * FROM visage_merge('history.customer');

-- The name with and without its layer is one; and may be that of a stream.
SELECT visage_create_history('customer', 'regress_history.customer', '{region,id}', sequence_by => '{at}', track_history_columns => '{plan,note}', fixed_columns => '{}');
SELECT visage_create_history('shop__orders', 'SELECT 1 AS id, 2 AS v', '{id}');
SELECT visage_create_history('history.shop__orders', 'SELECT 1 AS id, 2 AS v', '{id}');
SELECT name, definition ->> 'target' AS target FROM visage.declarations WHERE noun = 'history' ORDER BY name;
SELECT visage_drop_history('shop__orders', keep_data => false);
SELECT to_regclass('history.shop__orders');

-- A new version, an overwritten name, a new key, a NULL key, a NULL time.
UPDATE regress_history.customer SET plan = 'pro', at = '2024-02-01' WHERE id = 1;
UPDATE regress_history.customer SET name = 'Rob', at = '2024-02-01' WHERE id = 2;
INSERT INTO regress_history.customer VALUES (4, 'us', 'Dot', 'pro', NULL, '2024-02-01'), (NULL, 'us', 'Eve', 'pro', NULL, '2024-02-01'),
	(5, 'us', 'Fay', 'pro', NULL, NULL), (6, 'us', 'Gil', 'pro', NULL, 'infinity'), (7, 'us', 'Hal', 'pro', NULL, '3024-02-01');
SELECT * FROM visage_merge('history.customer');
SELECT region, id, name, plan, at::date, valid_from::date, valid_to::date FROM history.customer ORDER BY 1, 2, valid_from;
SELECT region, id, name, plan, valid_to, superseded_at > recorded_at AS later FROM history.customer__superseded ORDER BY 1, 2;
SELECT region, id, name, at::date, observed_at::date, observation, missing FROM history.customer__observed ORDER BY 1, 2, observed_at;
SELECT region, id, name, plan FROM history.customer__current ORDER BY 1, 2;
SELECT region, id, plan FROM history.customer__as_of('2024-01-15') ORDER BY 1, 2;
SELECT region, id, plan FROM history.customer__as_of('2024-02-01') ORDER BY 1, 2;
SELECT count(*) FROM history.customer__as_of('2023-12-31');
SELECT dataset, source_key, reason, convert_from(raw, 'UTF8')::jsonb ->> 'name' AS name FROM visage.quarantine WHERE dataset = 'history.customer' ORDER BY name;
DELETE FROM visage.quarantine;

-- Equal in its type is equal: nothing changes, nothing is written.
DELETE FROM regress_history.customer WHERE id IS NULL OR id > 4;
UPDATE regress_history.customer SET note = '{"a": 1.0}' WHERE id = 1;
SELECT * FROM visage_merge('history.customer');

-- Late records: one that agrees, one that splits, one that contradicts.
SELECT * FROM visage_merge('history.customer', $$SELECT 1 AS id, 'eu' AS region, 'Ada' AS name, 'basic' AS plan, '{"a": 1}'::jsonb AS note, timestamptz '2024-01-20' AS at$$);
SELECT * FROM visage_merge('history.customer', $$SELECT 1 AS id, 'eu' AS region, 'Ada' AS name, 'gold' AS plan, '{"a": 1}'::jsonb AS note, timestamptz '2024-01-10' AS at$$);
SELECT plan, valid_from::date, valid_to::date FROM history.customer WHERE id = 1 ORDER BY 2;
SELECT * FROM visage_merge('history.customer', $$SELECT 1 AS id, 'eu' AS region, 'Ada' AS name, 'gold' AS plan, '{"a": 1}'::jsonb AS note, timestamptz '2024-02-01' AS at$$);
SELECT source_key, reason FROM visage.quarantine WHERE dataset = 'history.customer' ORDER BY id;
SELECT plan FROM history.customer WHERE id = 1 AND valid_to = 'infinity';
SELECT * FROM visage_history_diff('history.customer', '2024-01-05', '2024-01-15');
SELECT key, change, before -> 'plan' AS before, after -> 'plan' AS after FROM visage_history_diff('history.customer', '2023-01-05', '2024-02-15') ORDER BY key::text;

-- Several records of a key in one merge, in any order.
SELECT * FROM visage_merge('history.customer', $$
	SELECT id, 'eu' AS region, 'Zoe' AS name, plan, NULL::jsonb AS note, at
	FROM (VALUES (9, 'c', timestamptz '2024-03-03'), (9, 'a', '2024-03-01'), (9, 'b', '2024-03-02'), (9, 'b', '2024-03-02 12:00')) AS v (id, plan, at)$$);
SELECT plan, valid_from, valid_to FROM history.customer WHERE id = 9 ORDER BY 2;

-- A new column is filled in, a lost one not compared: neither versions.
ALTER TABLE regress_history.customer ADD COLUMN city text;
UPDATE regress_history.customer SET city = 'Rome';
ALTER TABLE regress_history.customer DROP COLUMN note;
SELECT * FROM visage_merge('history.customer');
SELECT id, city, note FROM history.customer__current WHERE region = 'us' ORDER BY 1;
SELECT id, city FROM history.customer__as_of('2024-01-15') WHERE region = 'us' ORDER BY 1;

-- A column of another type is cast; a value that cannot be is an error.
ALTER TABLE regress_history.customer ALTER COLUMN id TYPE bigint;
SELECT * FROM visage_merge('history.customer');
UPDATE regress_history.customer SET id = 10000000000 WHERE id = 3;
SELECT * FROM visage_merge('history.customer');
\echo :LAST_ERROR_SQLSTATE
UPDATE regress_history.customer SET id = 3 WHERE id > 3 AND name = 'Cyd';

-- As the table was known before; by key, the indexes serve.
SELECT count(*) FROM history.customer__as_of(now(), '2000-01-01');
SELECT count(*) FROM history.customer__as_of(now(), now());
SET enable_seqscan = off;
EXPLAIN (COSTS OFF) SELECT plan FROM history.customer__as_of('2024-01-15') WHERE region = 'us' AND id = 3;
EXPLAIN (COSTS OFF) SELECT plan FROM history.customer__as_of('2024-01-15', '2024-01-15') WHERE region = 'us' AND id = 3;
RESET enable_seqscan;
EXPLAIN (COSTS OFF) SELECT plan FROM history.customer__as_of('2024-01-15');
EXPLAIN (COSTS OFF) SELECT plan FROM history.customer__as_of('2024-01-15', NULL);

-- The store itself refuses what would be wrong, from anybody.
INSERT INTO history.customer (id, region, valid_from) VALUES (3, 'us', '2025-01-01');
INSERT INTO history.customer (id, region, valid_from, valid_to) VALUES (3, 'us', '2023-01-01', '2024-06-01');
\echo :LAST_ERROR_SQLSTATE
UPDATE history.customer SET valid_from = '2023-01-01' WHERE id = 9 AND plan = 'b';
\echo :LAST_ERROR_SQLSTATE
\set VERBOSITY terse
UPDATE history.customer SET valid_to = '2023-01-01' WHERE id = 9 AND plan = 'b';
\set VERBOSITY default
\echo :LAST_ERROR_SQLSTATE
INSERT INTO history.customer (id, region, valid_from, valid_to) VALUES (3, 'us', '2023-01-01', '2024-01-01');
DELETE FROM history.customer WHERE id = 3 AND valid_from = '2023-01-01';

-- A version that a user ended stays ended.
UPDATE history.customer SET valid_to = '2024-06-01' WHERE id = 4;
SELECT * FROM visage_merge('history.customer', $$SELECT 4 AS id, 'us' AS region, 'Dot' AS name, 'basic' AS plan, timestamptz '2024-01-15' AS at$$);
SELECT plan, valid_from::date, valid_to::date FROM history.customer WHERE id = 4 ORDER BY 2;

-- Deletes and complete extracts; delete, restore, delete.
SET client_min_messages = warning;
CREATE FUNCTION regress_history.show(history text) RETURNS TABLE (id int, v text, valid_from date, valid_to date, is_deleted bool)
	LANGUAGE plpgsql AS $$ BEGIN RETURN QUERY EXECUTE format('SELECT id, v, valid_from::date, valid_to::date, is_deleted FROM %s ORDER BY id, valid_from', history); END $$;
CREATE TABLE regress_history.feed (id int, v text, op text, at date);
SELECT visage_create_history('history.ignored', 'regress_history.feed', '{id}', '{at}', delete_when => $$op = 'D'$$);
SELECT visage_create_history('history.invalidated', 'regress_history.feed', '{id}', '{at}', hard_deletes => 'invalidate', delete_when => $$op = 'D'$$);
SELECT visage_create_history('history.recorded', 'regress_history.feed', '{id}', '{at}', hard_deletes => 'new_record', delete_when => $$op = 'D'$$);
RESET client_min_messages;
INSERT INTO regress_history.feed VALUES (1, 'a', 'U', '2024-01-01'), (1, NULL, 'D', '2024-01-03'), (1, 'a', 'U', '2024-01-05'), (1, NULL, 'D', '2024-01-07'), (2, NULL, 'D', '2024-01-01'), (3, 'a', 'U', '2024-01-01');
SELECT * FROM visage_merge('history.ignored');
SELECT * FROM visage_merge('history.ignored', 'SELECT * FROM regress_history.feed WHERE false', complete => true, extract_at => '2024-02-01');
SELECT * FROM visage_merge('history.invalidated');
SELECT * FROM visage_merge('history.invalidated', 'SELECT * FROM regress_history.feed WHERE false', complete => true, extract_at => '2024-02-01');
SELECT * FROM visage_merge('history.recorded', 'SELECT * FROM regress_history.feed WHERE id = 3', complete => true, extract_at => '2024-02-01');
SELECT * FROM visage_merge('history.recorded');
SELECT * FROM visage_merge('history.recorded', 'SELECT * FROM regress_history.feed WHERE false', complete => true, extract_at => '2024-03-01');
SELECT * FROM regress_history.show('history.ignored');
SELECT * FROM regress_history.show('history.invalidated');
SELECT * FROM regress_history.show('history.recorded');
SELECT id, v FROM history.recorded__current;
SELECT id, v FROM history.recorded__as_of('2024-01-04');
SELECT id, v FROM history.recorded__as_of('2024-01-06') ORDER BY 1;

-- Extracts that cannot be what they say.
SELECT * FROM visage_merge('history.recorded', 'SELECT * FROM regress_history.feed WHERE false', complete => true);
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM visage_merge('history.recorded', $$SELECT * FROM regress_history.feed WHERE op = 'U'$$, complete => true);
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM visage_merge('history.recorded', complete => true, extract_at => '2024-01-02');
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM visage_merge('history.recorded', 'SELECT NULL::int AS id, * FROM (SELECT v, op, at FROM regress_history.feed) AS f', complete => true, extract_at => '2024-04-01');
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM visage_merge('history.recorded', extract_at => 'infinity');
\echo :LAST_ERROR_SQLSTATE

-- Without sequence_by, a record is of the time of its merge.
CREATE TABLE regress_history.plain (id int, v numeric(6,2), f text);
SET client_min_messages = warning;
SELECT visage_create_history('history.plain', 'regress_history.plain', '{id}', fixed_columns => '{f}', hard_deletes => 'invalidate');
RESET client_min_messages;
SELECT * FROM visage_merge('history.plain', $$VALUES (1, 1.5, 'f'), (2, 2, 'f'), (2, 2, 'f')$$, complete => true, extract_at => '2024-01-01');
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM visage_merge('history.plain', $$SELECT * FROM (VALUES (1, 1.5, 'f'), (2, 2, 'f'), (2, 2, 'f'), (3, 3, 'f'), (3, 4, 'f')) AS v (id, v, f)$$, complete => true, extract_at => '2024-01-01');
SELECT * FROM visage_merge('history.plain', $$SELECT * FROM (VALUES (1, 1.50, 'g'), (2, 2.5, 'g')) AS v (id, v, f)$$, complete => true, extract_at => '2024-01-05');
SELECT * FROM visage_merge('history.plain', $$SELECT * FROM (VALUES (1, 7, 'h'), (2, 2, 'h')) AS v (id, v, f)$$, complete => true, extract_at => '2024-01-03');
SELECT id, v, f, valid_from::date, valid_to::date FROM history.plain WHERE id < 3 ORDER BY 1, 4;
SELECT source_key, reason FROM visage.quarantine WHERE dataset = 'history.plain';
SELECT observed_at::date, observation FROM history.plain__observed ORDER BY 1;

-- Where the source says when a version ends.
SET client_min_messages = warning;
CREATE TABLE regress_history.contract (id int, begins date, ends date, rate numeric);
SELECT visage_create_history('history.contract', 'regress_history.contract', '{id}', '{begins}', valid_to_column => 'ends');
RESET client_min_messages;
INSERT INTO regress_history.contract VALUES (1, '2024-01-01', '2024-03-01', 5), (1, '2024-03-01', '2024-06-01', 5), (1, '2024-07-01', NULL, 6), (1, '2024-09-01', '2024-08-01', 6);
SELECT * FROM visage_merge('history.contract');
SELECT id, rate, valid_from::date, valid_to::date FROM history.contract ORDER BY 3;

-- Schema contracts.
SET client_min_messages = warning;
CREATE TABLE regress_history.drifting (id int, v text, at date);
INSERT INTO regress_history.drifting VALUES (1, 'a', '2024-01-01'), (2, 'b', '2024-01-01');
SELECT visage_create_history('history.' || c, 'regress_history.drifting', '{id}', '{at}', schema_contract => c) FROM unnest('{freeze,discard_row,discard_value}'::text[]) AS c;
RESET client_min_messages;
SELECT * FROM visage_merge('history.freeze');
ALTER TABLE regress_history.drifting ADD COLUMN w text;
UPDATE regress_history.drifting SET w = 'w' WHERE id = 1;
SELECT * FROM visage_merge('history.freeze');
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM visage_merge('history.discard_row');
SELECT * FROM visage_merge('history.discard_value');
SELECT source_key, reason FROM visage.quarantine WHERE dataset = 'history.discard_row';
ALTER TABLE regress_history.drifting DROP COLUMN w;
ALTER TABLE regress_history.drifting ALTER COLUMN v TYPE varchar(5);
SELECT * FROM visage_merge('history.freeze');
\echo :LAST_ERROR_SQLSTATE
ALTER TABLE regress_history.drifting DROP COLUMN at;
SELECT * FROM visage_merge('history.discard_value');
\echo :LAST_ERROR_SQLSTATE

-- Types: enum, domain, array, composite key, type without equality, toast.
SET client_min_messages = warning;
CREATE TYPE regress_history.mood AS ENUM ('low', 'high');
CREATE DOMAIN regress_history.code AS text CHECK (value ~ '^[a-z]+$');
CREATE COLLATION regress_history.any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE regress_history.typed (k1 regress_history.mood, k2 regress_history.code, k3 int[], "A b" text COLLATE regress_history.any_case, j json, p point, b text, at timestamp);
INSERT INTO regress_history.typed VALUES ('low', 'x', '{1,2}', 'One', '{"a":1}', '(1,2)', repeat('toast', 100000), '2024-01-01');
SELECT visage_create_history('history.typed', 'regress_history.typed', '{k1,k2,k3}', '{at}', hard_deletes => 'invalidate');
RESET client_min_messages;
SELECT * FROM visage_merge('history.typed', complete => true, extract_at => '2024-01-02');
UPDATE regress_history.typed SET "A b" = 'ONE', b = repeat('toast', 100000);
SELECT * FROM visage_merge('history.typed', complete => true, extract_at => '2024-01-03');
UPDATE regress_history.typed SET j = '{"a": 1}', at = '2024-01-04';
SELECT * FROM visage_merge('history.typed', complete => true, extract_at => '2024-01-05');
SELECT k1, k2, k3, "A b", j, p, length(b), valid_from::date, valid_to::date FROM history.typed ORDER BY valid_from;

-- Partitioned by the hash of the key.
SET client_min_messages = warning;
SELECT visage_create_history('history.parts', 'SELECT i AS id, i % 7 AS v, date ''2024-01-01'' AS at FROM generate_series(1, 100) AS i', '{id}', '{at}', hard_deletes => 'new_record', partitions => 3);
RESET client_min_messages;
SELECT * FROM visage_merge('history.parts', complete => true);
SELECT * FROM visage_merge('history.parts', 'SELECT i AS id, i % 5 AS v, date ''2024-01-02'' AS at FROM generate_series(2, 101) AS i', complete => true);
SELECT count(*), count(DISTINCT tableoid), count(*) FILTER (WHERE valid_to = 'infinity'), count(*) FILTER (WHERE is_deleted) FROM history.parts;
INSERT INTO history.parts__p0 SELECT id, 9, at, '2023-01-01', '2025-01-01' FROM history.parts__p0 LIMIT 1;
\echo :LAST_ERROR_SQLSTATE

-- Errors.
SELECT visage_create_history('history.customer', 'regress_history.customer', '{id}', sequence_by => '{at}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_history('history.customer', 'regress_history.customer', '{id}', sequence_by => '{at}', replace => true);
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_history('staging.other', 'regress_history.customer', '{id}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_history('history.Other', 'regress_history.customer', '{id}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_history('other__thing__more', 'regress_history.customer', '{id}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_history('history.', 'regress_history.customer', '{id}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_history('history.' || repeat('a', 52), 'regress_history.customer', '{id}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_history('history.other', 'regress_history.customer', '{idd}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_history('history.other', 'regress_history.customer', '{id}', sequence_by => '{plan}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_history('history.other', 'regress_history.typed', '{k2}', sequence_by => '{at,p}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_history('history.other', 'regress_history.typed', '{j}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_history('history.other', 'regress_history.customer', '{}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_history('history.other', 'regress_history.customer', NULL);
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_history('history.other', 'regress_history.customer', '{id}', hard_deletes => 'purge');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_history('history.other', 'regress_history.customer', '{id}', schema_contract => 'melt');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_history('history.other', 'regress_history.customer', '{id}', fixed_columns => '{id}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_history('history.other', 'regress_history.customer', '{id}', track_history_columns => '{plan,id}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_history('history.other', 'regress_history.customer', '{id}', partitions => 0);
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_history('history.other', 'regress_history.customer', '{id}', delete_when => 'plan');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_history('history.other', 'regress_history.customer', '{id}', delete_when => 'random() < 0.5');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_history('history.other', 'regress_history.customer', '{id}', delete_when => 'EXISTS (SELECT)');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_history('history.other', 'regress_history.customer', '{id}', delete_when => 'nobody');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_history('history.other', 'SELECT 1 AS id, now() AS valid_from', '{id}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_history(NULL, 'x', '{id}');
\echo :LAST_ERROR_SQLSTATE
CREATE TABLE history.taken (id int);
SELECT visage_create_history('history.taken', 'regress_history.customer', '{id}');
\echo :LAST_ERROR_SQLSTATE
DROP TABLE history.taken;
SELECT visage_merge('regress_history.customer');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_merge(NULL);
\echo :LAST_ERROR_SQLSTATE
SELECT visage_merge('history.customer', 'regress_history.no_such_table');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_merge('history.customer', 'SELECT 1 AS id');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_history_diff('regress_history.customer', now(), now());
\echo :LAST_ERROR_SQLSTATE

-- The source is read as the caller.
CREATE ROLE regress_merger;
GRANT USAGE ON SCHEMA regress_history, history TO regress_merger;
GRANT EXECUTE ON FUNCTION visage_merge TO regress_merger;
SET ROLE regress_merger;
SELECT visage_merge('history.customer');
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;

-- A source that comes later.
SELECT visage_create_history('history.later', 'regress_history.later', '{id}');
CREATE TABLE regress_history.later AS SELECT 1 AS id, json '{"b": 2}' AS document, point '(1,2)' AS place;
SELECT visage_create_history('history.later', 'regress_history.later', '{id}');
SELECT * FROM visage_merge('history.later', extract_at => '2024-01-01');
SELECT * FROM visage_merge('history.later', extract_at => '2024-01-02');

-- A source whose name begins like a query.
CREATE TABLE withdrawals AS SELECT 1 AS id, timestamptz '2024-01-01' AS at;
SELECT visage_create_history('history.taken', 'withdrawals', '{id}', '{at}');
SELECT inserted FROM visage_merge('history.taken');

-- Dropping with and without data; what is left is an ordinary table.
SELECT visage_drop_history('history.customer');
SELECT count(*) FROM history.customer;
INSERT INTO history.customer (id, region, valid_from, valid_to) VALUES (3, 'us', '2023-01-01', '2024-06-01');
SELECT visage_drop_history('later', keep_data => false);
SELECT visage_drop_history('history.taken', keep_data => false);
DROP TABLE withdrawals;
SELECT to_regclass('history.later') IS NULL AS gone;
SET client_min_messages = warning;
DROP TABLE history.customer, history.customer__superseded CASCADE;
DELETE FROM visage.datasets;
DELETE FROM visage.declarations WHERE noun = 'history';
DELETE FROM visage.quarantine;
REVOKE ALL ON FUNCTION visage_merge FROM regress_merger;
DROP SCHEMA regress_history, history CASCADE;
DROP ROLE regress_merger;

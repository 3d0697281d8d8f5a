-- Histories: declared, merged, read back.
CREATE SCHEMA regress_history;
CREATE TABLE regress_history.customer (id int, region text, name text, plan text, note jsonb, at timestamptz);
INSERT INTO regress_history.customer VALUES
	(1, 'eu', 'Ada', 'basic', '{"a": 1}', '2024-01-01 00:00+00'),
	(2, 'eu', 'Bob', NULL, NULL, '2024-01-01 00:00+00'),
	(3, 'us', 'Cyd', 'pro', '{}', '2024-01-01 00:00+00');
SELECT visage_create_history('history.customer', 'regress_history.customer', '{region,id}', sequence_by => '{at}', track_history_columns => '{plan,note}', fixed_columns => '{}');
SELECT visage_create_history('history.customer', 'regress_history.customer', '{region,id}', sequence_by => '{at}', track_history_columns => '{plan,note}', fixed_columns => '{}');
SELECT * FROM visage_merge('history.customer');
SELECT * FROM visage_merge('history.customer');

-- A new version, an overwritten name, a new key, a NULL key, NULL to value.
UPDATE regress_history.customer SET plan = 'pro', at = '2024-02-01 00:00+00' WHERE id = 1;
UPDATE regress_history.customer SET name = 'Rob', at = '2024-02-01 00:00+00' WHERE id = 2;
INSERT INTO regress_history.customer VALUES (4, 'us', 'Dot', 'pro', NULL, '2024-02-01 00:00+00'), (NULL, 'us', 'Eve', 'pro', NULL, '2024-02-01 00:00+00');
SELECT * FROM visage_merge('history.customer');
SELECT region, id, name, plan, valid_from AT TIME ZONE 'UTC' AS valid_from, valid_to AT TIME ZONE 'UTC' AS valid_to FROM history.customer ORDER BY 1, 2, 5;
SELECT region, id, name, plan, superseded_at = recorded_at AS same_time FROM history.customer__superseded ORDER BY 1, 2;
SELECT region, id, name, plan FROM history.customer__current ORDER BY 1, 2;
SELECT region, id, plan FROM history.customer__as_of('2024-01-15 00:00+00') ORDER BY 1, 2;
SELECT region, id, plan FROM history.customer__as_of('2024-02-01 00:00+00') ORDER BY 1, 2;
SELECT count(*) FROM history.customer__as_of('2023-12-31 00:00+00');
SELECT dataset, source_key, reason, convert_from(raw, 'UTF8')::jsonb ->> 'name' AS name FROM visage.quarantine WHERE dataset = 'history.customer';

-- Equal in its type is equal: nothing changes, nothing is written.
UPDATE regress_history.customer SET note = '{"a": 1.0}' WHERE id = 1;
DELETE FROM regress_history.customer WHERE id IS NULL;
SELECT * FROM visage_merge('history.customer');

-- Late records: one that agrees, one that would split, one of the same time.
SELECT * FROM visage_merge('history.customer', $$SELECT 1 AS id, 'eu' AS region, 'Ada' AS name, 'basic' AS plan, '{"a": 1}'::jsonb AS note, timestamptz '2024-01-10 00:00+00' AS at$$);
SELECT * FROM visage_merge('history.customer', $$SELECT 1 AS id, 'eu' AS region, 'Ada' AS name, 'gold' AS plan, '{"a": 1}'::jsonb AS note, timestamptz '2024-01-10 00:00+00' AS at$$);
SELECT * FROM visage_merge('history.customer', $$SELECT 1 AS id, 'eu' AS region, 'Ada' AS name, 'gold' AS plan, '{"a": 1}'::jsonb AS note, timestamptz '2024-02-01 00:00+00' AS at$$);
SELECT source_key, reason FROM visage.quarantine WHERE dataset = 'history.customer' ORDER BY id;

-- Several records of a key in one merge, in any order.
SELECT * FROM visage_merge('history.customer', $$
	SELECT id, 'eu' AS region, 'Zoe' AS name, plan, NULL::jsonb AS note, at
	FROM (VALUES (9, 'c', timestamptz '2024-03-03 00:00+00'), (9, 'a', '2024-03-01 00:00+00'), (9, 'b', '2024-03-02 00:00+00'), (9, 'b', '2024-03-02 12:00+00')) AS v (id, plan, at)$$);
SELECT plan, valid_from AT TIME ZONE 'UTC' AS valid_from, valid_to AT TIME ZONE 'UTC' AS valid_to FROM history.customer WHERE id = 9 ORDER BY 2;

-- A new column is filled in, and versions nothing.
ALTER TABLE regress_history.customer ADD COLUMN city text;
UPDATE regress_history.customer SET city = 'Rome';
SELECT * FROM visage_merge('history.customer');
SELECT id, city FROM history.customer__current WHERE region = 'us' ORDER BY 1;
SELECT id, city FROM history.customer__as_of('2024-01-15 00:00+00') WHERE region = 'us' ORDER BY 1;

-- As the table was known before: only what had been recorded by then.
SELECT count(*) FROM history.customer__as_of(now(), '2000-01-01 00:00+00');
SELECT count(*) FROM history.customer__as_of(now(), now());
EXPLAIN (COSTS OFF) SELECT plan FROM history.customer__as_of('2024-01-15 00:00+00') WHERE region = 'us' AND id = 3;

-- The store itself refuses a second open version.
INSERT INTO history.customer (id, region, valid_from, recorded_at, row_hash) VALUES (3, 'us', now(), now(), 0);

-- Errors.
SELECT visage_create_history('history.customer', 'regress_history.customer', '{id}', sequence_by => '{at}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_history('staging.other', 'regress_history.customer', '{id}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_history('history.other', 'regress_history.customer', '{idd}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_history('history.other', 'regress_history.customer', '{id}', sequence_by => '{plan}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_history('history.other', 'regress_history.customer', '{}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_history('history.other', 'regress_history.customer', NULL);
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_history('history.other', 'regress_history.customer', '{id}', hard_deletes => 'invalidate');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_history('history.other', 'regress_history.customer', '{id}', delete_when => 'true');
SELECT visage_create_history('history.other', 'regress_history.customer', '{id}', valid_to_column => 'at');
SELECT visage_create_history('history.other', 'regress_history.customer', '{id}', schema_contract => 'freeze');
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

-- A source that comes later.
SELECT visage_create_history('history.later', 'regress_history.later', '{id}');
CREATE TABLE regress_history.later AS SELECT 1 AS id, json '{"b": 2}' AS document, point '(1,2)' AS place;
SELECT visage_create_history('history.later', 'regress_history.later', '{id}');
SELECT * FROM visage_merge('history.later', extract_at => '2024-01-01 00:00+00');
SELECT * FROM visage_merge('history.later', extract_at => '2024-01-02 00:00+00');

-- A source whose name begins like a query.
CREATE TABLE withdrawals AS SELECT 1 AS id, timestamptz '2024-01-01 00:00+00' AS at;
SELECT visage_create_history('history.taken', 'withdrawals', '{id}', '{at}');
SELECT inserted FROM visage_merge('history.taken');

-- Dropping with and without data.
SELECT visage_drop_history('history.customer');
SELECT count(*) FROM history.customer;
SELECT visage_drop_history('later', keep_data => false);
SELECT visage_drop_history('history.taken', keep_data => false);
DROP TABLE withdrawals;
SELECT to_regclass('history.later') IS NULL AS gone;
DROP TABLE history.customer, history.customer__superseded CASCADE;
DELETE FROM visage.datasets;
DROP SCHEMA regress_history, history CASCADE;

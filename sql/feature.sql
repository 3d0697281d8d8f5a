-- Feature views and training sets.
CREATE SCHEMA regress_feature;
CREATE TABLE regress_feature.orders (customer int, at timestamptz, amount float8, status text);
INSERT INTO regress_feature.orders VALUES
	(1, '2024-01-01 00:00+00', 10, 'paid'),
	(1, '2024-01-11 00:00+00', 20, 'open'),
	(1, '2024-01-21 00:00+00', 'NaN', 'paid'),
	(2, '2024-01-15 12:00+00', 5, NULL);
CREATE TABLE regress_feature.labels (customer int, event_time timestamptz, label bool, note text);
INSERT INTO regress_feature.labels VALUES
	(1, '2024-01-01 00:00+00', true, 'nothing is before its own time'),
	(1, '2024-01-11 00:00+00', false, 'the event at t does not count'),
	(1, '2024-01-21 00:00+00', true, 'the event at t - window does'),
	(1, '2024-01-22 00:00+00', true, 'NaN becomes NULL'),
	(2, '2024-02-01 00:00+00', false, 'half a day'),
	(3, '2024-02-01 00:00+00', NULL, 'no events'),
	(NULL, '2024-02-01 00:00+00', true, 'no entity');

SELECT visage_create_feature_view('orders', '{customer}', 'regress_feature.orders', 'at',
	'{"n": {"agg": "count"}, "n_10d": {"agg": "count", "window": "10 days"}, "paid": {"agg": "sum", "of": "amount", "where": "status = ''paid''"},
	  "statuses": {"agg": "count_distinct", "of": "status"}, "mean": {"agg": "avg", "of": "amount"}, "least": {"agg": "min", "of": "amount"}, "most": {"agg": "max", "of": "amount"},
	  "spread": {"agg": "stddev", "of": "amount"}, "opened_with": {"agg": "first", "of": "status"}, "status": {"agg": "last", "of": "status"},
	  "recency": {"agg": "recency"}, "age": {"agg": "age"}}');
SELECT visage_create_training_set('regress', 'SELECT * FROM regress_feature.labels', '{orders}');
SELECT customer, event_time AT TIME ZONE 'UTC' AS event_time, label, n, n_10d, paid, statuses FROM enriched.regress ORDER BY 1, 2;
SELECT customer, mean, least, most, spread, opened_with, status, recency, age FROM enriched.regress ORDER BY customer, event_time;
SELECT visage_features('orders', '1', '2024-01-21 00:00+00') = (SELECT to_jsonb(r) - '{customer,event_time,label,note}'::text[] FROM enriched.regress AS r WHERE customer = 1 AND event_time = '2024-01-21 00:00+00') AS same_to_the_bit;
SELECT visage_features('orders', '{"customer": 2}', '2024-02-01 00:00+00') ->> 'age' AS age;
SELECT visage_features('orders', '99') ->> 'n' AS n;

-- The same again changes nothing; refreshing takes in what has changed.
SELECT visage_create_training_set('regress', 'SELECT * FROM regress_feature.labels', '{orders}');
INSERT INTO regress_feature.orders VALUES (3, '2024-01-31 00:00+00', 1, 'paid');
SELECT n FROM enriched.regress WHERE customer = 3;
CALL visage_refresh('enriched.regress');
SELECT n FROM enriched.regress WHERE customer = 3;

-- An instant without zone is UTC, whatever the session says.
SET TimeZone = 'Asia/Tokyo';
SELECT visage_create_feature_view('local', '{customer}', 'SELECT customer, at AT TIME ZONE ''UTC'' AS at FROM regress_feature.orders', 'at', '{"local_n": {"agg": "count"}}');
SELECT visage_create_training_set('regress_local', 'SELECT 1 AS customer, timestamp ''2024-01-11 00:00'' AS event_time, 1 AS label', '{local}');
SELECT local_n FROM enriched.regress_local;
RESET TimeZone;

-- Only what was recorded by then.
CREATE TABLE regress_feature.late AS SELECT 1 AS customer, timestamptz '2024-01-01 00:00+00' AS at, timestamptz '2024-03-01 00:00+00' AS known;
SELECT visage_create_feature_view('late', '{customer}', 'regress_feature.late', 'at', '{"late_n": {"agg": "count"}}', recorded_time => 'known');
SELECT visage_create_training_set('regress_late', $$SELECT 1 AS customer, t AS event_time, 1 AS label FROM unnest('{2024-02-01 00:00+00,2024-04-01 00:00+00}'::timestamptz[]) AS t$$, '{late}');
SELECT late_n FROM enriched.regress_late ORDER BY event_time;
SELECT visage_create_training_set('regress_late', $$SELECT 1 AS customer, t AS event_time, 1 AS label FROM unnest('{2024-02-01 00:00+00,2024-04-01 00:00+00}'::timestamptz[]) AS t$$, '{late}', known_at => '2024-02-15 00:00+00', replace => true);
SELECT late_n FROM enriched.regress_late ORDER BY event_time;

-- Sources that do not exist yet.
SELECT visage_create_feature_view('soon', '{id}', 'regress_feature.soon', 'at', '{"soon_n": {"agg": "count"}}');
SELECT visage_create_training_set('regress_soon', 'SELECT 1 AS id, now() AS event_time, 1 AS label', '{soon}');

-- Views: errors.
SELECT visage_create_feature_view('v', '{customer}', 'regress_feature.orders', 'att', '{"n": {"agg": "count"}}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_feature_view('v', '{customer}', 'regress_feature.orders', 'at', '{"n": {"agg": "sum", "of": "amoun"}}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_feature_view('v', '{customer}', 'regress_feature.orders', 'at', '{"n": {"agg": "sum"}}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_feature_view('v', '{customer}', 'regress_feature.orders', 'at', '{"n": {"agg": "age", "of": "amount"}}');
SELECT visage_create_feature_view('v', '{customer}', 'regress_feature.orders', 'at', '{"n": {"agg": "ewma", "of": "amount"}}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_feature_view('v', '{customer}', 'regress_feature.orders', 'at', '{"n": {"agg": "total", "of": "amount"}}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_feature_view('v', '{customer}', 'regress_feature.orders', 'at', '{"n": {"of": "amount"}}');
SELECT visage_create_feature_view('v', '{customer}', 'regress_feature.orders', 'at', '{"n": {"agg": "count", "windows": "1 day"}}');
SELECT visage_create_feature_view('v', '{customer}', 'regress_feature.orders', 'at', '{"n": {"agg": "count", "window": "-1 day"}}');
SELECT visage_create_feature_view('v', '{customer}', 'regress_feature.orders', 'at', '{"n": {"agg": "count", "window": "1000000 years"}}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_feature_view('v', '{customer}', 'regress_feature.orders', 'at', '{"n": {"from": "request", "type": "float8"}}');
SELECT visage_create_feature_view('v', '{customer}', 'regress_feature.orders', 'at', '{"n": {"agg": "count"}}', ttl => '1 day');
SELECT visage_create_feature_view('v', '{customer}', 'regress_feature.orders', 'at', '{"n": {"agg": "count", "where": "true) --"}}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_feature_view('v', '{customer}', 'regress_feature.orders', 'at', '{"n": {"agg": "count", "where": "true), (true"}}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_feature_view('v', '{customer}', 'SELECT 1; DROP TABLE regress_feature.orders', 'at', '{"n": {"agg": "count"}}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_feature_view('v', '{}', 'regress_feature.orders', 'at', '{"n": {"agg": "count"}}');
SELECT visage_create_feature_view('v', NULL, 'regress_feature.orders', 'at', '{"n": {"agg": "count"}}');
\echo :LAST_ERROR_SQLSTATE

-- A relation whose name begins like a query.
CREATE VIEW regress_feature.selections AS TABLE regress_feature.orders;
SET search_path = public, regress_feature;
SELECT visage_create_feature_view('selected', '{customer}', 'selections', 'at', '{"n": {"agg": "count"}}');
SELECT visage_create_feature_view('valued', '{customer}', 'values(1, now())', 'at', '{"n": {"agg": "count"}}');
\echo :LAST_ERROR_SQLSTATE
RESET search_path;

-- An instant without end has no age.
SELECT visage_create_feature_view('endless', '{customer}', 'SELECT 1 AS customer, timestamptz ''-infinity'' AS at', 'at', '{"since": {"agg": "age"}, "last": {"agg": "recency"}}');
SELECT visage_features('endless', '1', '2024-01-01 00:00+00');

-- Training sets: errors.
SELECT visage_create_training_set('t', 'SELECT 1 AS customer, now() AS event_time', '{orders}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_training_set('t', 'SELECT 1 AS id, now() AS event_time, 1 AS label', '{orders}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_training_set('t', 'SELECT 1 AS customer, now() AS event_time, 1 AS label, 1 AS n', '{orders}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_training_set('t', 'SELECT 1 AS customer, now() AS event_time, 1 AS label, 2 AS label', '{orders}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_training_set('t', 'SELECT 1 AS customer, now() AS event_time, 1 AS label, 1 AS visage_row', '{orders}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_training_set('t', 'SELECT ''a''::text AS customer, now() AS event_time, 1 AS label', '{orders}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_training_set('t', 'SELECT 1 AS customer, now() AS event_time, 1 AS label', '{order}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_training_set('t', 'DELETE FROM regress_feature.orders', '{orders}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_training_set(NULL, 'SELECT 1', '{orders}');
\echo :LAST_ERROR_SQLSTATE
CREATE TABLE enriched.taken (id int);
SELECT visage_create_training_set('taken', 'SELECT 1 AS customer, now() AS event_time, 1 AS label', '{orders}');
\echo :LAST_ERROR_SQLSTATE
CALL visage_refresh('enriched.no_such_set');
\echo :LAST_ERROR_SQLSTATE
CALL visage_refresh('serving.x');
\echo :LAST_ERROR_SQLSTATE
CALL visage_refresh(NULL);
SELECT visage_features('orders', '[1, 2]');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_features('orders', '{"custmer": 1}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_features(NULL, '1') IS NULL AS strict;

-- Dropping.
SELECT visage_drop_feature_view('orders');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_drop_training_set(name, keep_data => false) FROM visage.declarations WHERE noun = 'training_set' ORDER BY name;
SELECT visage_drop_feature_view(name) FROM visage.declarations WHERE noun = 'feature_view' ORDER BY name;
SELECT to_regclass('enriched.regress') IS NULL AS gone;
SET client_min_messages = warning;
DROP SCHEMA regress_feature, enriched CASCADE;

-- Importing and exporting models.
CREATE SCHEMA regress_import;
CREATE TABLE regress_import.orders AS
SELECT i AS id, (i * 7919 % 1000) / 100.0::float8 AS amount, CASE WHEN i % 10 = 3 THEN NULL ELSE i * 104729 % 77 END AS age,
	(ARRAY['gold', 'silver', 'bronze'])[1 + i % 3] AS plan, (i * 7919 % 1000) / 100.0 + 3 * (i % 3) > 9 AS label
FROM generate_series(1, 500) AS i;
SELECT version FROM visage_train('regress_import', 'SELECT * FROM regress_import.orders', algorithm => 'logistic', columns => '{"key": "id"}', deploy => 'always');

-- Out and in again: the same scores; the same bytes are the same version.
SELECT visage_import_model('regress_copy', visage_export_model('regress_import'));
SELECT visage_import_model('regress_copy', visage_export_model('regress_import@1'), 'visage');
SELECT model, version, algorithm, format, rows, query, outputs, aliases FROM visage.model_versions WHERE model = 'regress_copy';
SELECT bool_and(visage_score('regress_copy@1', o) = visage_score('regress_import', o)) AS same FROM regress_import.orders AS o;
SELECT visage_export_model('regress_copy@1') = visage_export_model('regress_import@champion') AS same;

-- Errors.
\set VERBOSITY terse
SELECT visage_import_model('regress_copy', 'no model');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_import_model('regress_copy', 'no model', 'pickle');
\echo :LAST_ERROR_SQLSTATE
\set VERBOSITY default
SELECT visage_import_model('regress_copy', 'GSAV', 'visage');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_import_model('regress_copy', set_byte(visage_export_model('regress_import'), 300, 1), 'visage');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_import_model('regress_copy', substr(visage_export_model('regress_import'), 1, 500), 'visage');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_import_model('regress_copy', visage_export_model('regress_import'), options => '{"threshold": 0.3}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_import_model('regress_copy', 'x', options => '{"treshold": 0.3}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_import_model('regress_copy', 'x', options => '{"threshold": "high"}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_import_model('regress_copy', 'x', options => '{"missing": "zero"}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_import_model('regress_copy', 'x', options => '{"rename": ["a"]}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_import_model('Regress copy', 'x');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_import_model('regress_copy', NULL::bytea);
\echo :LAST_ERROR_SQLSTATE
SELECT visage_export_model('regress_cpy');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_export_model('regress_copy');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_export_model('regress_copy@1', 'pickle');
\echo :LAST_ERROR_SQLSTATE

SELECT visage_drop_model('regress_import', keep_data => false), visage_drop_model('regress_copy', keep_data => false);
DROP SCHEMA regress_import CASCADE;

-- The floor: the extension, its roles, its declarations.
SELECT visage_version() = extversion AS version_agrees FROM pg_extension WHERE extname = 'visage';

-- A schema in which PUBLIC may create is refused.
CREATE SCHEMA regress_open;
GRANT CREATE ON SCHEMA regress_open TO PUBLIC;
DROP EXTENSION visage;
\set SHOW_CONTEXT never
CREATE EXTENSION visage SCHEMA regress_open;
\echo :LAST_ERROR_SQLSTATE
\set SHOW_CONTEXT errors
REVOKE CREATE ON SCHEMA regress_open FROM PUBLIC;
CREATE EXTENSION visage SCHEMA regress_open;
SELECT regress_open.visage_version() IS NOT NULL AS elsewhere;
DROP EXTENSION visage;
DROP SCHEMA regress_open;

-- No layer schema comes with the extension, and a planted one stops nothing.
CREATE EXTENSION visage;
SELECT count(*) FROM pg_namespace WHERE nspname IN ('landing', 'staging', 'history', 'enriched', 'serving');

-- Nouns that do not exist, and NULLs.
SELECT visage_pause('source', 'nothing');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_pause(NULL, 'nothing') IS NULL AS strict;
SELECT visage_definitions() IS NULL AS nothing_declared;

-- Settings are checked when set.
SELECT boot_val = '' AS nobody_may_be_called FROM pg_settings WHERE name = 'visage.allowed_hosts';
SET visage.allowed_hosts = 'data.sfgov.org, 10.0.0.0/8, [::1]:8080, 127.0.0.1:80';
SET visage.allowed_hosts = 'data.sfgov.org, 10.0.0.0/99';
\echo :LAST_ERROR_SQLSTATE
SET visage.allowed_hosts = 'bad host';
SET visage.allowed_hosts = '127.0.0.1:99999';
SET visage.schema_prefix = 'Bad-';
SET visage.secrets_directory = 'relative';
SET visage.no_such_setting = 1;
\echo :LAST_ERROR_SQLSTATE
RESET visage.allowed_hosts;

-- Stored secrets: what is refused.  test/python/test_secrets.py has the rest.
SET client_min_messages = warning;
SELECT visage_set_secret('token', 'hunter2');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_set_secret(NULL, 'hunter2');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_set_secret('To ken', 'hunter2');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_set_secret('token', '');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_set_secret('token', repeat('x', 65537));
\echo :LAST_ERROR_SQLSTATE
SET visage.secret_key_file = 'keys';
\echo :LAST_ERROR_SQLSTATE
SET visage.secret_key_file = '/nonexistent/keys';
SELECT visage_set_secret('token', 'hunter2');
\echo :LAST_ERROR_SQLSTATE
SET visage.secret_key_file = '/etc/passwd';
SELECT visage_set_secret('token', 'hunter2');
\echo :LAST_ERROR_SQLSTATE
SET visage.secret_key_file = '/etc';
SELECT visage_set_secret('token', 'hunter2');
RESET visage.secret_key_file;

-- No key is needed where there is nothing to open, or to forget.
SELECT visage_rotate_key();
SELECT visage_set_secret('token', NULL);
SELECT visage_create_source('vault', 'socrata', '{"base_url": "https://example.org"}', '{"app_token": "stored:none"}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_source('vault', 'socrata', '{"base_url": "https://example.org"}', '{"app_token": "stored:No Ne"}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_source('vault', 'socrata', '{"base_url": "https://example.org"}', '{"app_token": "opened:hunter2"}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_source('vault', 'socrata', '{"base_url": "https://example.org"}', '{"app_token": "stored:vault.app_token"}');
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM visage.secrets;

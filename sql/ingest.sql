-- Declaring sources and streams; nothing here talks to anybody.
SELECT visage_create_source('sf', 'socrata', '{"base_url": "https://data.sfgov.org/"}');
SELECT visage_create_source('sf', 'socrata', '{"base_url": "https://data.sfgov.org/"}');
SELECT visage_create_source('sf', 'socrata', '{"base_url": "https://data.sf.gov"}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_source('sf', 'socrata', '{"base_url": "https://data.sf.gov", "page_size": 500}', replace => true);

-- Bad sources.
SELECT visage_create_source('s', 'socrat', '{"base_url": "https://example.org"}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_source('s__x', 'socrata', '{"base_url": "https://example.org"}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_source('s', 'socrata', '{"base_url": "ftp://example.org"}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_source('s', 'socrata', '{"base_url": "https://user:password@example.org"}');
SELECT visage_create_source('s', 'socrata', '{}');
SELECT visage_create_source('s', 'socrata', '{"base_url": "https://example.org", "pagesize": 1}');
SELECT visage_create_source('s', 'socrata', '{"base_url": "https://example.org", "page_size": 0}');
SELECT visage_create_source('s', 'socrata', '[]');
SELECT visage_create_source('s', 'socrata', '{"base_url": "https://example.org"}', '{"app_token": "plain"}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_source('s', 'socrata', '{"base_url": "https://example.org"}', '{"app_token": "file:../etc/passwd"}');
SELECT visage_create_source('s', 'socrata', '{"base_url": "https://example.org"}', '{"app_token": "env:HOME"}');
SELECT visage_create_source('s', 'socrata', '{"base_url": "https://example.org"}', '{"password": "file:x"}');
SELECT visage_create_source('s', 'socrata', '{"base_url": "https://example.org"}', '{"app_token": null}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_source('s', 'socrata', '{"base_url": "https://example.org"}', NULL);
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_source(NULL, 'socrata');
\echo :LAST_ERROR_SQLSTATE

-- Connectors.
SELECT visage_create_connector('shop', '{"version": 1, "path": "/{resource}", "paginator": {"type": "page_number", "params": {"p": "{page}"}}}');
SELECT visage_create_connector('shop', '{"version": 1, "path": "/{resource}", "paginator": {"type": "page_number", "params": {"p": "{page}"}}}');
SELECT visage_create_connector('shop', '{"version": 1, "path": "/all"}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_connector('shop', '{"version": 1, "path": "/all"}', replace => true);
SELECT visage_create_connector('socrata', '{"version": 1, "path": "/all"}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_connector('bad', '{"version": 2}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_connector('bad', '{"version": 1, "paginator": {"type": "pages"}}');
SELECT visage_create_connector('bad', '{"version": 1, "paginator": {"type": "cursor"}}');
SELECT visage_create_connector('bad', '{"version": 1, "streams": {"a": {"window": {"step": "soon"}}}}');
SELECT visage_create_connector('bad', '{"version": 1, "responses": [{"status": [200, "2x"], "action": "retry"}]}');
SELECT visage_create_connector('bad', '{"version": 1, "rate": {"requests": 0}}');
SELECT visage_create_connector('bad', '{"version": 1, "colour": 1}');
SELECT visage_create_connector('bad', '{"version": 1, "streams": {"a": {"path": "/a"}, "b": {"params": {"p": "1"}}}}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_connector('bad', '{"version": 1, "path": "/a", "streams": {"a": {"window": {"step": "0.0 s"}}}}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_connector('bad', '{"version": 1, "path": "/a", "streams": {"a": {"window": {"step": "1 day", "max_age": "2000000000 months"}}}}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_connector('bad', '[]');
SELECT visage_create_connector('bad__', '{"version": 1}');
SELECT visage_create_connector('bad', NULL);
SELECT visage_create_connector('desk', '{"version": 1, "base_url": "https://{option.name}.example.org", "options": {"name": {"required": true}}, "secrets": {"key": {"required": true}}, "auth": {"type": "http_basic", "username": "{secret.key}"}, "streams": {"tickets": {"path": "/tickets", "primary_key": ["id"]}}}');
SELECT visage_create_source('d', 'desk', '{"name": "a"}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_source('d', 'desk', '{}', '{"key": "env:VISAGE_KEY"}');
SELECT visage_create_source('d', 'desk', '{"name": "a"}', '{"key": "env:VISAGE_KEY"}');
SELECT visage_create_stream('d', 'ticket');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_stream('d', 'tickets');
SELECT visage_drop_connector('desk');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_drop_stream('d.tickets');
SELECT visage_drop_source('d');
SELECT visage_drop_connector('desk');
SELECT visage_drop_connector('shop');
SELECT visage_drop_connector('socrata');
\echo :LAST_ERROR_SQLSTATE

-- Streams.
SELECT visage_create_stream('sf', 'businesses', 'g8m3-pdis', primary_key => '{uniqueid}', cursor_field => ':updated_at', columns => '{"location_start_date": "timestamp"}');
SELECT visage_create_stream('sf', 'businesses', 'g8m3-pdis', primary_key => '{uniqueid}', cursor_field => ':updated_at', columns => '{"location_start_date": "timestamp"}');
SELECT visage_create_stream('sf', 'businesses', 'g8m3-pdis', primary_key => '{ttxid}', cursor_field => ':updated_at', columns => '{"location_start_date": "timestamp"}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_stream('sff', 'x', primary_key => '{id}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_stream('sf', 'x');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_stream('sf', 'x', primary_key => '{id}', write_disposition => 'upsert');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_stream('sf', 'x', primary_key => '{id}', schema_contract => 'thaw');
SELECT visage_create_stream('sf', 'x', primary_key => '{id}', hard_deletes => 'sometimes');
SELECT visage_create_stream('sf', 'x', primary_key => '{id}', options => '{"colour": 1}');
SELECT visage_create_stream('sf', 'x', primary_key => '{id}', columns => '{"a": "no_such_type"}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_stream('sf', 'x', primary_key => '{id}', columns => '{"a": null}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_stream('sf', 'x', primary_key => '{id}', columns => '["a"]');
\echo :LAST_ERROR_SQLSTATE
CREATE DOMAIN regress_domain AS text;
SELECT visage_create_stream('sf', 'x', primary_key => '{id}', columns => '{"a": "regress_domain"}');
\echo :LAST_ERROR_SQLSTATE
DROP DOMAIN regress_domain;
SELECT visage_create_stream('sf', 'a_name_that_leaves_no_room_for_what_is_derived_from_it', primary_key => '{id}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_create_stream('sf', 'x', primary_key => '{id}', lag => NULL);
\echo :LAST_ERROR_SQLSTATE

-- A script that declares it all again.
SELECT visage_definitions();

-- Calls that are refused before anything is asked of anybody.
CALL visage_ingest(NULL);
\echo :LAST_ERROR_SQLSTATE
BEGIN;
CALL visage_ingest('sf.businesses');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
CALL visage_ingest('sf.businesses');
\echo :LAST_ERROR_SQLSTATE
SET visage.enabled = off;
CALL visage_ingest('sf.businesses');
\echo :LAST_ERROR_SQLSTATE
RESET visage.enabled;

-- Dropping.
SELECT visage_reset_stream('sf.businesses', '2021-01-01T00:00:00.000Z');
SELECT stream, cursor_value, crawl FROM visage.stream_states;
SELECT visage_drop_source('sf');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_drop_stream('sf.businesses', keep_data => false);
SELECT visage_drop_source('sf');
SELECT count(*) FROM visage.stream_states;
SELECT visage_definitions() IS NULL AS nothing_left;

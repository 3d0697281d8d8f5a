-- Changing what is declared: a JSON merge patch (RFC 7396) on its arguments.
SET client_min_messages = notice;
\set SHOW_CONTEXT never
SELECT visage_create_connector('shop', '{"version": 1, "path": "/{resource}", "params": {"size": "{page_size}", "page": "{page}"}, "options": {"region": {}}, "secrets": {"key": {}}, "paginator": {"type": "page_number"}}');
SELECT visage_create_source('s', 'shop', '{"base_url": "https://shop.example.org", "region": "eu"}', '{"key": "env:VISAGE_KEY"}');
SELECT visage_create_stream('s', 'orders', primary_key => '{id}', columns => '{"at": "timestamptz"}', options => '{"page_size": 10}');

-- Members are replaced, objects member by member; null gives back the default.
SELECT visage_alter_stream('s.orders', '{"lag": "1 day", "options": {"region": "us", "page_size": null}}');
SELECT jsonb_strip_nulls(definition) FROM visage.declarations WHERE name = 's.orders';
SELECT visage_alter_stream('s.orders', '{"lag": null, "options": null}');
SELECT jsonb_strip_nulls(definition) FROM visage.declarations WHERE name = 's.orders';
SELECT visage_alter_stream('s.orders', '{}');
SELECT visage_alter_source('s', '{"options": {"region": null}, "secrets": null}');
SELECT jsonb_strip_nulls(definition) FROM visage.declarations WHERE noun = 'source';
SELECT visage_alter_connector('shop', '{"manifest": {"params": {"page": null, "p": "{page}"}}}');
SELECT definition -> 'manifest' -> 'params' FROM visage.declarations WHERE noun = 'connector' AND name = 'shop';

-- What is refused: names, wrong keys, wrong values.
SELECT visage_alter_stream('s.orders', '{"stream": "o"}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_alter_source('s', '{"name": "t"}');
SELECT visage_alter_stream('s.orders', '{"replace": true}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_alter_stream('s.orders', '{"colour": 1}');
SELECT visage_alter_stream('s.orders', '[]');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_alter_stream('s.orders', '{"resource": {"a": 1}}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_alter_stream('s.orders', '{"primary_key": 1}');
SELECT visage_alter_stream('s.orders', '{"lag": "soon"}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_alter_stream('s.order', '{"lag": "1 day"}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_alter_source('s', '{"connector": null}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_alter_connector('socrata', '{"manifest": {"page_size": 1}}');
\echo :LAST_ERROR_SQLSTATE

-- A source must fit its connector, a stream its source.
SELECT visage_alter_connector('shop', '{"manifest": {"options": {"region": {"required": true}}}}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_alter_connector('shop', '{"manifest": {"path": null, "streams": {"customers": {"path": "/c"}}}}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_alter_source('s', '{"connector": "freshdesk", "secrets": {"api_key": "env:VISAGE_KEY"}}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_alter_stream('s.orders', '{"primary_key": null}');
\echo :LAST_ERROR_SQLSTATE

-- Before there are data anything may change; after, what they are made from stays.
SELECT visage_alter_stream('s.orders', '{"primary_key": ["number"], "write_disposition": "append"}');
SELECT visage_alter_stream('s.orders', '{"primary_key": ["id"], "write_disposition": "merge"}');
SELECT accepted FROM visage_push('s.orders', '[{"id": 1, "at": "2026-11-20T09:00:00Z", "paid": 1}]');
SELECT visage_alter_stream('s.orders', '{"primary_key": ["number"]}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_alter_stream('s.orders', '{"write_disposition": "append"}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_alter_stream('s.orders', '{"columns": {"at": "text"}}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_alter_stream('s.orders', '{"columns": {"paid": "bigint", "due": "date"}, "schema_contract": "discard_value", "write_disposition": "history", "cursor_field": "at"}');
SELECT accepted FROM visage_push('s.orders', '[{"id": 2, "due": "2026-12-01", "other": 1}]');
SELECT id, due FROM staging.s__orders ORDER BY id;
SELECT visage_reset_stream('s.orders', '2026-11-20');
SELECT visage_alter_stream('s.orders', '{"cursor_field": "due"}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_alter_stream('s.orders', '{"resource": "other"}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_reset_stream('s.orders');
SELECT visage_alter_stream('s.orders', '{"cursor_field": "due", "resource": "other"}');

-- Replacing by visage_create_stream is refused alike.
SELECT visage_create_stream('s', 'orders', primary_key => '{number}', replace => true);
\echo :LAST_ERROR_SQLSTATE

-- A pause of the source or the connector is one of its streams.
SELECT visage_pause('source', 's');
SELECT visage_push('s.orders', '{"id": 3}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_resume('source', 's');
SELECT visage_pause('connector', 'shop');
SELECT visage_push('s.orders', '{"id": 3}');
SELECT visage_resume('connector', 'shop');
SELECT accepted FROM visage_push('s.orders', '{"id": 3}');
SELECT visage_pause('planet', 's');
\echo :LAST_ERROR_SQLSTATE

-- Rights: as for creating.
CREATE ROLE regress_alter NOLOGIN;
GRANT EXECUTE ON FUNCTION visage_alter_stream TO regress_alter;
SET ROLE regress_alter;
SELECT visage_alter_stream('s.orders', '{"lag": "2 days"}');
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
REVOKE EXECUTE ON FUNCTION visage_alter_stream FROM regress_alter;
DROP ROLE regress_alter;

-- Histories and feature views.
CREATE TABLE regress_customer (id int, at timestamptz, plan text);
SELECT visage_create_history('regress_customer', 'public.regress_customer', '{id}', '{at}');
SELECT visage_alter_history('regress_customer', '{"hard_deletes": "invalidate"}');
SELECT definition ->> 'hard_deletes' FROM visage.declarations WHERE noun = 'history';
SELECT visage_alter_history('history.regress_customer', '{"unique_key": ["plan"]}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_drop_history('regress_customer', keep_data => false);
SELECT visage_create_feature_view('customer', '{id}', 'public.regress_customer', 'at', '{"n": {"agg": "count", "window": "1 day"}}');
SELECT visage_alter_feature_view('customer', '{"features": {"n": {"window": null}, "last_plan": {"agg": "last", "of": "plan"}}}');
SELECT definition -> 'features' FROM visage.declarations WHERE noun = 'feature_view';
SELECT visage_alter_feature_view('customer', '{"features": {"n": {"agg": "no"}}}');
\echo :LAST_ERROR_SQLSTATE
SELECT visage_drop_feature_view('customer');
DROP TABLE regress_customer;

-- Dropping.
SELECT visage_drop_stream('s.orders', keep_data => false);
SELECT visage_drop_source('s');
SELECT visage_drop_connector('shop');
SELECT dataset FROM visage.datasets ORDER BY 1;
DELETE FROM visage.run_log;

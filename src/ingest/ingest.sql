-- Room ingest: sources, streams, and how far each stream has come.

-- cursor_value is where the next crawl begins.  crawl is where an unfinished
-- one goes on (see position.c); watermark is the snapshot that a database was
-- read in (see database.c).  All change with the rows they describe.
CREATE TABLE visage.stream_states (
	stream text PRIMARY KEY,
	cursor_value text,
	crawl jsonb,
	watermark jsonb,
	updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE visage.stream_states IS 'How far each stream has come; committed with its rows.';
SELECT pg_catalog.pg_extension_config_dump('visage.stream_states', '');

CREATE TABLE visage.schema_changes (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	dataset text NOT NULL,
	run_id bigint,
	column_name text NOT NULL,
	change text NOT NULL,
	before text,
	after text,
	changed_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE visage.schema_changes IS 'What changed in staging tables, or was not let in; committed with the page that brought it.';
SELECT pg_catalog.pg_extension_config_dump('visage.schema_changes', '');
SELECT pg_catalog.pg_extension_config_dump('visage.schema_changes_id_seq', '');

CREATE FUNCTION visage.breaker_states(OUT host text, OUT state text, OUT failures integer, OUT opened_at timestamptz, OUT retry_at timestamptz, OUT last_error text, OUT requests_under_way integer, OUT scope text) RETURNS SETOF record
	LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED
	AS '$libdir/visage_net', 'visage_breaker_states';
COMMENT ON FUNCTION visage.breaker_states() IS 'The hosts that were called, each with the state of its circuit breaker.';

CREATE VIEW visage.breakers AS
	SELECT host, state, failures, opened_at, retry_at, last_error, requests_under_way, scope
	FROM visage.breaker_states();
COMMENT ON VIEW visage.breakers IS 'The circuit breaker of each host: closed, open or half_open; scope session where Visage is not preloaded.';

CREATE FUNCTION visage_create_connector(name text, manifest jsonb, replace boolean DEFAULT false) RETURNS void
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS '$libdir/visage_net', 'visage_create_connector';
COMMENT ON FUNCTION visage_create_connector(text, jsonb, boolean) IS 'Declares a connector: a manifest that says how to talk to a kind of system.';

CREATE FUNCTION visage_alter_connector(name text, changes jsonb) RETURNS void
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS '$libdir/visage_net', 'visage_alter_connector';
COMMENT ON FUNCTION visage_alter_connector(text, jsonb) IS 'Changes a connector by a JSON merge patch on its arguments; its sources and streams must still fit.';

CREATE FUNCTION visage_drop_connector(name text, keep_data boolean DEFAULT true) RETURNS void
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS '$libdir/visage_net', 'visage_drop_connector';
COMMENT ON FUNCTION visage_drop_connector(text, boolean) IS 'Forgets a connector that has no sources.';

CREATE FUNCTION visage_create_source(name text, connector text, options jsonb DEFAULT '{}', secrets jsonb DEFAULT '{}', replace boolean DEFAULT false) RETURNS void
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS '$libdir/visage_net', 'visage_create_source';
COMMENT ON FUNCTION visage_create_source(text, text, jsonb, jsonb, boolean) IS 'Declares a source: a connector with options and references to secrets.';

CREATE FUNCTION visage_create_stream(source text, stream text, resource text DEFAULT NULL, primary_key text[] DEFAULT NULL, cursor_field text DEFAULT NULL, initial_value text DEFAULT NULL, lag interval DEFAULT '0', write_disposition text DEFAULT 'merge', columns jsonb DEFAULT NULL, schema_contract text DEFAULT 'evolve', hard_deletes text DEFAULT 'ignore', keep_landing interval DEFAULT '30 days', options jsonb DEFAULT '{}', replace boolean DEFAULT false) RETURNS void
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS '$libdir/visage_net', 'visage_create_stream';
COMMENT ON FUNCTION visage_create_stream(text, text, text, text[], text, text, interval, text, jsonb, text, text, interval, jsonb, boolean) IS 'Declares a stream: one resource of a source, with its key, cursor and write disposition.';

CREATE FUNCTION visage_alter_source(name text, changes jsonb) RETURNS void
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS '$libdir/visage_net', 'visage_alter_source';
COMMENT ON FUNCTION visage_alter_source(text, jsonb) IS 'Changes a source by a JSON merge patch on its arguments; its streams must still fit.';

CREATE FUNCTION visage_alter_stream(name text, changes jsonb) RETURNS void
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS '$libdir/visage_net', 'visage_alter_stream';
COMMENT ON FUNCTION visage_alter_stream(text, jsonb) IS 'Changes a stream by a JSON merge patch on its arguments; what needs its data to be written again is refused.';

CREATE FUNCTION visage_drop_source(name text, keep_data boolean DEFAULT true) RETURNS void
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS '$libdir/visage_net', 'visage_drop_source';
COMMENT ON FUNCTION visage_drop_source(text, boolean) IS 'Forgets a source that has no streams.';

CREATE FUNCTION visage_drop_stream(name text, keep_data boolean DEFAULT true) RETURNS void
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS '$libdir/visage_net', 'visage_drop_stream';
COMMENT ON FUNCTION visage_drop_stream(text, boolean) IS 'Forgets a stream and how far it had come; its tables stay unless keep_data is false.';

CREATE FUNCTION visage_reset_stream(stream text, to_value text DEFAULT NULL) RETURNS void
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS '$libdir/visage_net', 'visage_reset_stream';
COMMENT ON FUNCTION visage_reset_stream(text, text) IS 'Sets where the next crawl of a stream begins; NULL: at its initial value.';

CREATE PROCEDURE visage_ingest(stream text, full_refresh boolean DEFAULT false, from_value text DEFAULT NULL, to_value text DEFAULT NULL)
	LANGUAGE C
	AS '$libdir/visage_net', 'visage_ingest';
COMMENT ON PROCEDURE visage_ingest(text, boolean, text, text) IS 'Reads a stream to its end, committing page by page.';

CREATE FUNCTION visage_check_source(name text, OUT ok boolean, OUT latency interval, OUT message text) RETURNS record
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS '$libdir/visage_net', 'visage_check_source';
COMMENT ON FUNCTION visage_check_source(text) IS 'Makes one request of a source with its credentials, 15 s at most, and tells how it went.';

CREATE FUNCTION visage_discover(source text, OUT stream text, OUT resource text, OUT columns jsonb, OUT primary_key text[], OUT cursor_field text) RETURNS SETOF record
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS '$libdir/visage_net', 'visage_discover';
COMMENT ON FUNCTION visage_discover(text) IS 'The streams of a source, with their keys, cursors and columns; asks the system, 15 s at most.';

CREATE FUNCTION visage_push(stream text, records jsonb, OUT accepted bigint, OUT duplicate bigint, OUT quarantined bigint) RETURNS record
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS '$libdir/visage_net', 'visage_push';
COMMENT ON FUNCTION visage_push(text, jsonb) IS 'Puts records into a stream from inside the database, in the caller''s transaction.';

CREATE FUNCTION visage_replay_quarantine(stream text) RETURNS bigint
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS '$libdir/visage_net', 'visage_replay_quarantine';
COMMENT ON FUNCTION visage_replay_quarantine(text) IS 'Tries the quarantined records of a stream again; the number that went in.';

-- Which streams a worker is to run, and the worker that does: its process and
-- when that began.
CREATE TABLE visage.stream_workers (
	stream text PRIMARY KEY,
	pid integer,
	role name NOT NULL DEFAULT current_user,
	started_at timestamptz,
	failures integer NOT NULL DEFAULT 0,
	next_at timestamptz
);
COMMENT ON TABLE visage.stream_workers IS 'Streams that a worker runs over and over; see visage_start.';
SELECT pg_catalog.pg_extension_config_dump('visage.stream_workers', '');

CREATE VIEW visage.workers AS
	SELECT 'stream'::text AS kind, w.stream AS name, w.role, a.pid,
		CASE WHEN a.pid IS NULL THEN 'down' WHEN w.next_at IS NULL THEN 'running' ELSE 'waiting' END AS state,
		w.started_at, w.failures, w.next_at
	FROM visage.stream_workers AS w
	LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = w.pid AND coalesce(a.backend_start = w.started_at, true);
COMMENT ON VIEW visage.workers IS 'What workers are to run over and over, and whether they do: running, waiting until next_at, or down.';

CREATE FUNCTION visage.resume_workers() RETURNS void
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS '$libdir/visage_net', 'visage_resume_workers';
COMMENT ON FUNCTION visage.resume_workers() IS 'Starts the workers that are to run and do not; the launcher calls it.';

CREATE FUNCTION visage_start(stream text) RETURNS void
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS '$libdir/visage_net', 'visage_start';
COMMENT ON FUNCTION visage_start(text) IS 'Has a worker run a stream over and over, as the caller, until visage_stop.';

CREATE FUNCTION visage_stop(stream text) RETURNS void
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS '$libdir/visage_net', 'visage_stop';
COMMENT ON FUNCTION visage_stop(text) IS 'Ends the worker of a stream; the page under way is undone.';

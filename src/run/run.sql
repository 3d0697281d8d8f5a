-- Room run: one row per execution of a stream, a pipeline or a sync.

CREATE TABLE visage.run_log (
	run_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	kind text NOT NULL,
	name text NOT NULL,
	state text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'success', 'failed')),
	started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	heartbeat_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	finished_at timestamptz,
	pid integer,
	started_by name NOT NULL DEFAULT session_user,
	counters jsonb NOT NULL DEFAULT '{}',
	error text
);
COMMENT ON TABLE visage.run_log IS 'Every execution, with its counters; a running one is a lease with a heartbeat.';
SELECT pg_catalog.pg_extension_config_dump('visage.run_log', '');
SELECT pg_catalog.pg_extension_config_dump('visage.run_log_run_id_seq', '');

-- At most one run of a noun at a time: the claim is this index.
CREATE UNIQUE INDEX run_log_running ON visage.run_log (kind, name) WHERE state = 'running';

CREATE VIEW visage.runs AS
	SELECT run_id, kind, name, state, started_at, finished_at,
		coalesce(finished_at, heartbeat_at) - started_at AS duration,
		pid, started_by, counters, error
	FROM visage.run_log;
COMMENT ON VIEW visage.runs IS 'Executions of streams, pipelines and syncs, with rows and times.';

CREATE VIEW visage.progress AS
	SELECT run_id, kind, name, started_at, heartbeat_at, pid, counters
	FROM visage.run_log
	WHERE state = 'running';
COMMENT ON VIEW visage.progress IS 'What is running now, and how far it has come.';

-- Room quality: what could not be taken in, kept with the reason.

CREATE TABLE visage.quarantine (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	dataset text NOT NULL,
	run_id bigint,
	source_key text,
	reason text NOT NULL,
	raw bytea,
	quarantined_at timestamptz NOT NULL DEFAULT now(),
	replayed_at timestamptz
);
COMMENT ON TABLE visage.quarantine IS 'Records that could not be typed or merged, with the reason and their bytes.';
CREATE INDEX ON visage.quarantine (dataset, md5(raw));
SELECT pg_catalog.pg_extension_config_dump('visage.quarantine', '');
SELECT pg_catalog.pg_extension_config_dump('visage.quarantine_id_seq', '');

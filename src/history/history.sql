-- Room history: versions of records, and what was believed when.

CREATE FUNCTION visage_create_history(target text, source text, unique_key text[], sequence_by text[] DEFAULT NULL, track_history_columns text[] DEFAULT NULL, fixed_columns text[] DEFAULT NULL, valid_to_column text DEFAULT NULL, hard_deletes text DEFAULT 'ignore', delete_when text DEFAULT NULL, schema_contract text DEFAULT 'evolve', replace boolean DEFAULT false, partitions integer DEFAULT NULL) RETURNS void
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'visage_create_history';
COMMENT ON FUNCTION visage_create_history(text, text, text[], text[], text[], text[], text, text, text, text, boolean, integer) IS 'Declares a history of a source and makes its tables.';

CREATE FUNCTION visage_alter_history(name text, changes jsonb) RETURNS void
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'visage_alter_history';
COMMENT ON FUNCTION visage_alter_history(text, jsonb) IS 'Changes a history by a JSON merge patch on its arguments; what its versions are made from is refused.';

CREATE FUNCTION visage_drop_history(name text, keep_data boolean DEFAULT true) RETURNS void
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'visage_drop_history';
COMMENT ON FUNCTION visage_drop_history(text, boolean) IS 'Forgets a history; its tables stay unless keep_data is false.';

CREATE FUNCTION visage_merge(target regclass, source text DEFAULT NULL, complete boolean DEFAULT false, extract_at timestamptz DEFAULT NULL, OUT inserted bigint, OUT versioned bigint, OUT corrected bigint, OUT closed bigint, OUT unchanged bigint, OUT rejected bigint) RETURNS record
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'visage_merge';
COMMENT ON FUNCTION visage_merge(regclass, text, boolean, timestamptz) IS 'Merges the source into its history and counts what that did.';

CREATE FUNCTION visage_history_diff(history regclass, from_at timestamptz, to_at timestamptz, OUT key jsonb, OUT change text, OUT before jsonb, OUT after jsonb) RETURNS SETOF record
	LANGUAGE C STABLE STRICT PARALLEL RESTRICTED
	AS 'MODULE_PATHNAME', 'visage_history_diff';
COMMENT ON FUNCTION visage_history_diff(regclass, timestamptz, timestamptz) IS 'The keys that are new, gone or changed between two instants.';

CREATE FUNCTION visage.history_refuse_overlap() RETURNS trigger
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'visage_history_refuse_overlap';
COMMENT ON FUNCTION visage.history_refuse_overlap() IS 'Refuses a statement that would make versions of a key overlap.';

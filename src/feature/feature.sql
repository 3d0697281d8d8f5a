-- Room feature: features of entities as of any time, and training sets.

CREATE FUNCTION visage_create_feature_view(name text, entity text[], source text, event_time text, features jsonb, recorded_time text DEFAULT NULL, ttl interval DEFAULT NULL, replace boolean DEFAULT false) RETURNS void
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'visage_create_feature_view';
COMMENT ON FUNCTION visage_create_feature_view(text, text[], text, text, jsonb, text, interval, boolean) IS 'Declares named features of an entity over the events of a source.';

CREATE FUNCTION visage_alter_feature_view(name text, changes jsonb) RETURNS void
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'visage_alter_feature_view';
COMMENT ON FUNCTION visage_alter_feature_view(text, jsonb) IS 'Changes a feature view by a JSON merge patch on its arguments.';

CREATE FUNCTION visage_drop_feature_view(name text, keep_data boolean DEFAULT true) RETURNS void
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'visage_drop_feature_view';
COMMENT ON FUNCTION visage_drop_feature_view(text, boolean) IS 'Forgets a feature view that no training set uses.';

CREATE FUNCTION visage_create_training_set(name text, labels text, feature_views text[], known_at timestamptz DEFAULT NULL, replace boolean DEFAULT false) RETURNS bigint
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'visage_create_training_set';
COMMENT ON FUNCTION visage_create_training_set(text, text, text[], timestamptz, boolean) IS 'Makes enriched.<name>: labels with the features as they were at their times; gives its rows.';

CREATE FUNCTION visage_drop_training_set(name text, keep_data boolean DEFAULT true) RETURNS void
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'visage_drop_training_set';
COMMENT ON FUNCTION visage_drop_training_set(text, boolean) IS 'Forgets a training set; its table stays unless keep_data is false.';

CREATE PROCEDURE visage_refresh(dataset text)
	LANGUAGE C
	AS 'MODULE_PATHNAME', 'visage_refresh';
COMMENT ON PROCEDURE visage_refresh(text) IS 'Computes a training set again from its definition and the data of today.';

CREATE FUNCTION visage_features(feature_view text, entity jsonb, as_of timestamptz DEFAULT now()) RETURNS jsonb
	LANGUAGE C STABLE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'visage_features';
COMMENT ON FUNCTION visage_features(text, jsonb, timestamptz) IS 'The features of one entity as of a time, computed now.';

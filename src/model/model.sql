-- Room model: versions of models, what they mean by name, and scoring.

-- The model card.  A version never changes.  What an import does not know
-- is NULL.
CREATE TABLE visage.model_cards (
	model text COLLATE "C" NOT NULL,
	version integer NOT NULL,
	algorithm text NOT NULL,
	format text NOT NULL,
	source_sha256 bytea,
	params jsonb NOT NULL,
	query text,
	target text,
	columns jsonb,
	split jsonb,
	rows bigint,
	holdout_rows bigint,
	skipped_rows bigint,
	inputs jsonb NOT NULL,
	outputs jsonb NOT NULL,
	metrics jsonb,
	iterations bigint,
	trained_at timestamptz NOT NULL DEFAULT now(),
	trained_by name NOT NULL DEFAULT session_user,
	PRIMARY KEY (model, version)
);
COMMENT ON TABLE visage.model_cards IS 'How each version of a model was made, and how good it was on held-out rows.';
SELECT pg_catalog.pg_extension_config_dump('visage.model_cards', '');

-- model_images and model_aliases are read by lookup.c directly: the columns'
-- order and the primary keys' names are known there.  They have no defaults
-- and no checks, for which a session that opens a table reads two more tables
-- of the system's; what writes to them gives all values.
CREATE TABLE visage.model_images (
	model text COLLATE "C" NOT NULL,
	version integer NOT NULL,
	image bytea NOT NULL,
	checksum bigint NOT NULL,
	image_id uuid NOT NULL,
	CONSTRAINT model_images_pkey PRIMARY KEY (model, version),
	FOREIGN KEY (model, version) REFERENCES visage.model_cards ON DELETE CASCADE
);
COMMENT ON TABLE visage.model_images IS 'What the scorer loads: one block of bytes a version.';
-- Read slice by slice, so it is not compressed.
ALTER TABLE visage.model_images ALTER COLUMN image SET STORAGE EXTERNAL;
SELECT pg_catalog.pg_extension_config_dump('visage.model_images', '');

CREATE TABLE visage.model_aliases (
	model text COLLATE "C" NOT NULL,
	alias text COLLATE "C" NOT NULL,
	version integer NOT NULL,
	deployed_at timestamptz NOT NULL,
	deployed_by name NOT NULL,
	CONSTRAINT model_aliases_pkey PRIMARY KEY (model, alias),
	FOREIGN KEY (model, version) REFERENCES visage.model_cards ON DELETE CASCADE
);
COMMENT ON TABLE visage.model_aliases IS 'Which version champion and challenger are.';
SELECT pg_catalog.pg_extension_config_dump('visage.model_aliases', '');

-- What sessions keep of these tables, they forget when told of a change;
-- ALWAYS, so that rows which arrive by replication tell them, too.
CREATE FUNCTION visage.model_changed() RETURNS trigger
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'visage_model_changed';
COMMENT ON FUNCTION visage.model_changed() IS 'Tells all sessions that what a model''s name means may have changed.';

CREATE TRIGGER model_changed AFTER INSERT OR UPDATE OR DELETE ON visage.model_aliases
	FOR EACH ROW EXECUTE FUNCTION visage.model_changed();
CREATE TRIGGER model_truncated AFTER TRUNCATE ON visage.model_aliases
	FOR EACH STATEMENT EXECUTE FUNCTION visage.model_changed();
ALTER TABLE visage.model_aliases ENABLE ALWAYS TRIGGER model_changed, ENABLE ALWAYS TRIGGER model_truncated;
CREATE TRIGGER model_changed AFTER UPDATE OR DELETE ON visage.model_images
	FOR EACH ROW EXECUTE FUNCTION visage.model_changed();
CREATE TRIGGER model_truncated AFTER TRUNCATE ON visage.model_images
	FOR EACH STATEMENT EXECUTE FUNCTION visage.model_changed();
ALTER TABLE visage.model_images ENABLE ALWAYS TRIGGER model_changed, ENABLE ALWAYS TRIGGER model_truncated;

-- Each model has a view of its name here, whose privileges are the model's:
-- who may SELECT from it may score.  The views are not members of the
-- extension, so pg_dump dumps them with their privileges.
CREATE SCHEMA visage_models;
COMMENT ON SCHEMA visage_models IS 'A view for each model; its privileges are those on the model.';

CREATE FUNCTION visage.model_named() RETURNS trigger
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'visage_model_named';
COMMENT ON FUNCTION visage.model_named() IS 'Makes the view that holds a new model''s privileges, and drops that of a model without versions.';
CREATE TRIGGER model_named AFTER INSERT OR DELETE ON visage.model_cards
	FOR EACH ROW EXECUTE FUNCTION visage.model_named();
ALTER TABLE visage.model_cards ENABLE ALWAYS TRIGGER model_named;

CREATE VIEW visage.model_grants AS
	SELECT c.relname::text AS model, pg_catalog.pg_get_userbyid(a.grantee) AS role, pg_catalog.pg_get_userbyid(a.grantor) AS granted_by
	FROM pg_catalog.pg_class AS c
	CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) AS a
	WHERE c.relnamespace = 'visage_models'::pg_catalog.regnamespace AND a.privilege_type = 'SELECT' AND a.grantee <> c.relowner;
COMMENT ON VIEW visage.model_grants IS 'Who may score with which model, besides the owner of the extension.';

CREATE VIEW visage.models AS
	SELECT newest.model, newest.algorithm,
		champion.version AS champion, challenger.version AS challenger, newest.version AS latest,
		coalesce(deployed.inputs, newest.inputs) AS inputs,
		coalesce(deployed.outputs, newest.outputs) AS outputs
	FROM (
		SELECT DISTINCT ON (model) model, version, algorithm, inputs, outputs
		FROM visage.model_cards
		ORDER BY model, version DESC) AS newest
	LEFT JOIN visage.model_aliases AS champion ON champion.model = newest.model AND champion.alias = 'champion'
	LEFT JOIN visage.model_aliases AS challenger ON challenger.model = newest.model AND challenger.alias = 'challenger'
	LEFT JOIN visage.model_cards AS deployed ON deployed.model = champion.model AND deployed.version = champion.version;
COMMENT ON VIEW visage.models IS 'Models with their aliases, and the inputs of the champion (of the newest version where there is none) in their order.';

CREATE VIEW visage.model_versions AS
	SELECT c.model, c.version, c.algorithm, c.format, c.params, c.query, c.target, c.columns, c.split,
		c.rows, c.holdout_rows, c.skipped_rows, c.inputs, c.outputs, c.metrics, c.iterations, c.trained_at, c.trained_by,
		ARRAY(SELECT a.alias::text FROM visage.model_aliases AS a WHERE a.model = c.model AND a.version = c.version ORDER BY a.alias) AS aliases
	FROM visage.model_cards AS c;
COMMENT ON VIEW visage.model_versions IS 'The model card of each version.';

CREATE VIEW visage.model_metrics AS
	SELECT c.model, c.version, m.metric, m.value::float8 AS value
	FROM visage.model_cards AS c
	CROSS JOIN LATERAL jsonb_each_text(c.metrics) AS m (metric, value);
COMMENT ON VIEW visage.model_metrics IS 'Metrics of each version on the rows that were held out.';

CREATE FUNCTION visage_train(model text, query text, target text DEFAULT NULL, algorithm text DEFAULT 'gbdt', params jsonb DEFAULT '{}', columns jsonb DEFAULT '{}', split jsonb DEFAULT '{"holdout":0.2}', deploy text DEFAULT 'never', OUT version integer, OUT rows bigint, OUT metrics jsonb, OUT deployed boolean, OUT duration interval) RETURNS record
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'visage_train';
COMMENT ON FUNCTION visage_train(text, text, text, text, jsonb, jsonb, jsonb, text) IS 'Trains a new version of a model on the rows of a query.';

CREATE FUNCTION visage_import_model(model text, data bytea, format text DEFAULT NULL, options jsonb DEFAULT '{}') RETURNS integer
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS '$libdir/visage_models', 'visage_import_model';
COMMENT ON FUNCTION visage_import_model(text, bytea, text, jsonb) IS 'Makes a model of another tool a new version; the version''s number.';

CREATE FUNCTION visage_import_model(model text, data text, format text DEFAULT NULL, options jsonb DEFAULT '{}') RETURNS integer
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS '$libdir/visage_models', 'visage_import_model';
COMMENT ON FUNCTION visage_import_model(text, text, text, jsonb) IS 'The same for a model that is text.';

CREATE FUNCTION visage_export_model(model text, format text DEFAULT 'visage') RETURNS bytea
	LANGUAGE C STABLE STRICT PARALLEL UNSAFE
	AS '$libdir/visage_models', 'visage_export_model';
COMMENT ON FUNCTION visage_export_model(text, text) IS 'A version of a model as the bytes of a file.';

CREATE FUNCTION visage_deploy(model text, version integer, alias text DEFAULT 'champion') RETURNS void
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'visage_deploy';
COMMENT ON FUNCTION visage_deploy(text, integer, text) IS 'Makes a version the champion or the challenger of its model.';

CREATE FUNCTION visage_drop_model(name text, keep_data boolean DEFAULT true) RETURNS void
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'visage_drop_model';
COMMENT ON FUNCTION visage_drop_model(text, boolean) IS 'Takes a model out of use; its versions stay unless keep_data is false.';

CREATE FUNCTION visage_grant_model(model text, role regrole) RETURNS void
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'visage_grant_model';
COMMENT ON FUNCTION visage_grant_model(text, regrole) IS 'Lets a role score with a model.';

CREATE FUNCTION visage_revoke_model(model text, role regrole) RETURNS void
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'visage_revoke_model';
COMMENT ON FUNCTION visage_revoke_model(text, regrole) IS 'Takes back what visage_grant_model gave.';

CREATE FUNCTION visage.score_support(internal) RETURNS internal
	LANGUAGE C IMMUTABLE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'visage_score_support';
COMMENT ON FUNCTION visage.score_support(internal) IS 'Tells the planner what scoring costs, and which columns of a row it reads.';

CREATE FUNCTION visage_score(model text, VARIADIC features "any") RETURNS float8
	LANGUAGE C STABLE PARALLEL SAFE SUPPORT visage.score_support
	AS 'MODULE_PATHNAME', 'visage_score';
COMMENT ON FUNCTION visage_score(text, "any") IS 'The score of a row, or of values in the order of the model''s inputs.';

CREATE FUNCTION visage_score_json(model text, features jsonb) RETURNS float8
	LANGUAGE C STABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'visage_score_json';
COMMENT ON FUNCTION visage_score_json(text, jsonb) IS 'The score of an object with a member for each of the model''s inputs.';

CREATE FUNCTION visage_scores(model text, VARIADIC features "any") RETURNS float8[]
	LANGUAGE C STABLE PARALLEL SAFE SUPPORT visage.score_support
	AS 'MODULE_PATHNAME', 'visage_scores';
COMMENT ON FUNCTION visage_scores(text, "any") IS 'The score of each class, or each named output, of a row, or of values in the order of the model''s inputs.';

CREATE FUNCTION visage_scores_json(model text, features jsonb) RETURNS float8[]
	LANGUAGE C STABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'visage_scores_json';
COMMENT ON FUNCTION visage_scores_json(text, jsonb) IS 'The score of each class, or each named output, of an object with a member for each of the model''s inputs.';

CREATE FUNCTION visage_predict(model text, VARIADIC features "any") RETURNS text
	LANGUAGE C STABLE PARALLEL SAFE SUPPORT visage.score_support
	AS 'MODULE_PATHNAME', 'visage_predict';
COMMENT ON FUNCTION visage_predict(text, "any") IS 'The class, or the value of a regression, of a row, or of values in the order of the model''s inputs.';

CREATE FUNCTION visage_predict_json(model text, features jsonb) RETURNS text
	LANGUAGE C STABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'visage_predict_json';
COMMENT ON FUNCTION visage_predict_json(text, jsonb) IS 'The class, or the value of a regression, of an object with a member for each of the model''s inputs.';

CREATE FUNCTION visage.explain_support(internal) RETURNS internal
	LANGUAGE C IMMUTABLE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'visage_explain_support';
COMMENT ON FUNCTION visage.explain_support(internal) IS 'Tells the planner what explaining costs, and how many rows it gives.';

CREATE FUNCTION visage_explain(model text, VARIADIC features "any") RETURNS TABLE (feature text, value text, contribution float8)
	LANGUAGE C STABLE PARALLEL SAFE SUPPORT visage.explain_support
	AS 'MODULE_PATHNAME', 'visage_explain';
COMMENT ON FUNCTION visage_explain(text, "any") IS 'What each feature adds to the raw score of a row, or of values, largest first, and the base value without a feature.';

CREATE FUNCTION visage_explain_json(model text, features jsonb) RETURNS TABLE (feature text, value text, contribution float8)
	LANGUAGE C STABLE STRICT PARALLEL SAFE SUPPORT visage.explain_support
	AS 'MODULE_PATHNAME', 'visage_explain_json';
COMMENT ON FUNCTION visage_explain_json(text, jsonb) IS 'What each feature adds to the raw score of an object, largest first, and the base value without a feature.';

CREATE PROCEDURE visage_score_table(model text, query text, into_table text, key text[], mode text DEFAULT 'replace', reasons integer DEFAULT 0)
	LANGUAGE C
	AS 'MODULE_PATHNAME', 'visage_score_table';
COMMENT ON PROCEDURE visage_score_table(text, text, text, text[], text, integer) IS 'Scores the rows of a query into a table, in blocks.';

CREATE FUNCTION visage_evaluate(model text, query text, target text) RETURNS jsonb
	LANGUAGE C STABLE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'visage_evaluate';
COMMENT ON FUNCTION visage_evaluate(text, text, text) IS 'How good a model''s scores are on the rows of a query.';

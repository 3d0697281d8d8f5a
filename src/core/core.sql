-- Room core: the declarations of every noun, the datasets, the roles.

CREATE SCHEMA visage;
COMMENT ON SCHEMA visage IS 'Catalog tables and monitoring views of Visage.';

-- One row per declared noun.  definition is keyed by the argument names of
-- visage_create_<noun>; parent names the noun whose declaration made this
-- one (a stream makes its history), so that it is not printed by itself.
CREATE TABLE visage.declarations (
	noun text NOT NULL,
	name text NOT NULL,
	definition jsonb NOT NULL,
	parent text,
	paused boolean NOT NULL DEFAULT false,
	builtin boolean NOT NULL DEFAULT false,
	created_at timestamptz NOT NULL DEFAULT now(),
	created_by name NOT NULL DEFAULT session_user,
	PRIMARY KEY (noun, name)
);
COMMENT ON TABLE visage.declarations IS 'Every source, stream, history, feature view, … as it was declared.';
SELECT pg_catalog.pg_extension_config_dump('visage.declarations', 'WHERE NOT builtin');

-- The tables that Visage made, in every layer.
CREATE TABLE visage.datasets (
	dataset text PRIMARY KEY,
	relation regclass NOT NULL,
	kind text NOT NULL,
	made_by text NOT NULL,
	description text,
	created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE visage.datasets IS 'The tables that Visage manages, by layer and name.';
SELECT pg_catalog.pg_extension_config_dump('visage.datasets', '');

CREATE FUNCTION visage_version() RETURNS text
	LANGUAGE C STABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'visage_version';
COMMENT ON FUNCTION visage_version() IS 'The version of the Visage library.';

CREATE FUNCTION visage_adopt() RETURNS void
	LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED
	AS 'MODULE_PATHNAME', 'visage_adopt';
COMMENT ON FUNCTION visage_adopt() IS 'Lets this database ingest, schedule and deliver; a restored copy may not until then.';

CREATE FUNCTION visage_pause(kind text, name text) RETURNS void
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'visage_pause';
COMMENT ON FUNCTION visage_pause(text, text) IS 'Pauses a noun of this kind and name: it is refused to run until resumed.';

CREATE FUNCTION visage_resume(kind text, name text) RETURNS void
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'visage_resume';
COMMENT ON FUNCTION visage_resume(text, text) IS 'Resumes a paused noun.';

-- What the roles may do in a layer.  A schema that Visage made carries a mark,
-- and the roles may read all in it, now and later.  In a schema that was there
-- before they may read what Visage made, and nothing else.
CREATE FUNCTION visage.grant_layer(layer text) RETURNS void
	LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	owner regrole;
	member record;
BEGIN
	IF NOT visage.role_is_ours('visage_reader') THEN
		RETURN;
	END IF;
	EXECUTE format('GRANT USAGE ON SCHEMA %I TO visage_reader', layer);
	IF visage.layer_is_ours(layer) THEN
		SELECT extowner INTO owner FROM pg_catalog.pg_extension WHERE extname = 'visage';
		EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA %I TO visage_reader', layer);
		EXECUTE format('GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA %I TO visage_reader', layer);
		EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %s IN SCHEMA %I GRANT SELECT ON TABLES TO visage_reader', owner, layer);
		EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %s IN SCHEMA %I GRANT EXECUTE ON FUNCTIONS TO visage_reader', owner, layer);
		RETURN;
	END IF;
	-- A history comes with a view and functions.
	FOR member IN
		WITH made AS (
			SELECT d.kind, c.oid, c.relname, c.relnamespace
			FROM visage.datasets AS d
			JOIN pg_catalog.pg_class AS c ON c.oid = d.relation
			JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
			WHERE n.nspname = layer)
		SELECT 'SELECT ON ' || oid::regclass AS granted FROM made
		WHERE NOT has_table_privilege('visage_reader', oid, 'SELECT')
		UNION ALL
		SELECT 'SELECT ON ' || v.oid::regclass
		FROM made AS m JOIN pg_catalog.pg_class AS v
			ON v.relnamespace = m.relnamespace AND v.relname = m.relname || '__current' AND v.relkind = 'v'
		WHERE m.kind = 'history' AND NOT has_table_privilege('visage_reader', v.oid, 'SELECT')
		UNION ALL
		SELECT 'EXECUTE ON FUNCTION ' || p.oid::regprocedure
		FROM made AS m JOIN pg_catalog.pg_proc AS p
			ON p.pronamespace = m.relnamespace AND p.proname = m.relname || '__as_of'
		WHERE m.kind = 'history' AND NOT has_function_privilege('visage_reader', p.oid, 'EXECUTE')
	LOOP
		EXECUTE format('GRANT %s TO visage_reader', member.granted);
	END LOOP;
END
$$;
COMMENT ON FUNCTION visage.grant_layer(text) IS 'Grants visage_reader what Visage made in a layer schema and, where it made the schema, what will be made in it.';

-- A layer is ours when Visage made its schema: then it carries our mark.
CREATE FUNCTION visage.layer_is_ours(layer text) RETURNS boolean
	LANGUAGE sql STABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
	SELECT EXISTS (
		SELECT FROM pg_catalog.pg_namespace AS n
		WHERE n.nspname = layer
			AND pg_catalog.obj_description(n.oid, 'pg_namespace') = 'Layer of Visage.');
END;
COMMENT ON FUNCTION visage.layer_is_ours(text) IS 'Did Visage make this layer schema?';

-- A role is ours when it carries our mark and cannot log in or do harm.
CREATE FUNCTION visage.role_is_ours(role text) RETURNS boolean
	LANGUAGE sql STABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
	SELECT EXISTS (
		SELECT FROM pg_catalog.pg_roles AS r
		WHERE r.rolname = role
			AND NOT (r.rolcanlogin OR r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls)
			AND pg_catalog.shobj_description(r.oid, 'pg_authid') = 'Made by visage_create_roles().');
END;
COMMENT ON FUNCTION visage.role_is_ours(text) IS 'Was this role made by visage_create_roles(), and is it still harmless?';

CREATE FUNCTION visage_create_roles() RETURNS void
	LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	role text;
	layer text;
BEGIN
	-- Two at once would grant the same twice.
	LOCK TABLE visage.declarations IN SHARE ROW EXCLUSIVE MODE;
	FOREACH role IN ARRAY ARRAY['visage_reader', 'visage_scorer', 'visage_engineer', 'visage_admin'] LOOP
		IF visage.role_is_ours(role) THEN
			CONTINUE;
		ELSIF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = role) THEN
			RAISE EXCEPTION 'role "%" exists and was not made by visage_create_roles()', role
				USING ERRCODE = 'duplicate_object',
				HINT = 'Rename or drop that role, or grant the functions of Visage to roles of your own.';
		END IF;
		EXECUTE format('CREATE ROLE %I NOLOGIN', role);
		EXECUTE format('COMMENT ON ROLE %I IS %L', role, 'Made by visage_create_roles().');
	END LOOP;
	GRANT visage_reader TO visage_scorer;
	GRANT visage_scorer TO visage_engineer;
	GRANT visage_engineer TO visage_admin;
	PERFORM visage.grant_catalog();
	FOR layer IN
		SELECT DISTINCT n.nspname
		FROM visage.datasets AS d
		JOIN pg_catalog.pg_class AS c ON c.oid = d.relation
		JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
	LOOP
		PERFORM visage.grant_layer(layer);
	END LOOP;
END
$$;
COMMENT ON FUNCTION visage_create_roles() IS 'Makes the roles visage_admin, visage_engineer, visage_scorer and visage_reader and grants them what they need; optional.';

-- Prints each declaration as the call that makes it; arguments by name, in
-- the order of the function that takes them.  Then what is paused, of what is
-- built in, too.
CREATE FUNCTION visage_definitions() RETURNS text
	LANGUAGE sql STABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
	SELECT pg_catalog.string_agg(call.text, E'\n' ORDER BY call.rank, call.name)
	FROM (
		SELECT d.name, pg_catalog.array_position(ARRAY['connector', 'source', 'stream', 'history', 'feature_view', 'training_set'], d.noun) AS rank,
			pg_catalog.format(E'SELECT visage_create_%s(\n\t%s);', d.noun,
				pg_catalog.string_agg(pg_catalog.format('%I => %s', a.name,
					CASE
						WHEN a.type = 'text[]'::pg_catalog.regtype THEN
							pg_catalog.quote_literal(ARRAY(SELECT pg_catalog.jsonb_array_elements_text(d.definition -> a.name))::text)
						WHEN a.type = 'jsonb'::pg_catalog.regtype THEN
							pg_catalog.quote_literal((d.definition -> a.name)::text)
						ELSE pg_catalog.quote_literal(d.definition ->> a.name)
					END), E',\n\t' ORDER BY a.position)) AS text
		FROM visage.declarations AS d
		JOIN pg_catalog.pg_proc AS p ON p.proname = 'visage_create_' || d.noun
		JOIN pg_catalog.pg_depend AS m ON m.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND m.objid = p.oid AND m.deptype = 'e'
		CROSS JOIN LATERAL unnest(p.proargnames, p.proargtypes::oid[]) WITH ORDINALITY AS a (name, type, position)
		WHERE NOT d.builtin AND d.parent IS NULL
			AND pg_catalog.jsonb_typeof(d.definition -> a.name) <> 'null'
		GROUP BY d.noun, d.name
		UNION ALL
		SELECT d.noun || '.' || d.name, 100, pg_catalog.format('SELECT visage_pause(%L, %L);', d.noun, d.name)
		FROM visage.declarations AS d
		WHERE d.paused
	) AS call;
END;
COMMENT ON FUNCTION visage_definitions() IS 'A script that declares everything again, without secrets.';

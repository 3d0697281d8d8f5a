-- The end of the script: privileges.  Functions are executable by PUBLIC
-- unless revoked, and nothing of Visage is granted to PUBLIC.

CREATE FUNCTION visage.grant_catalog() RETURNS void
	LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	member record;
BEGIN
	EXECUTE format('GRANT USAGE ON SCHEMA visage, visage_models, %I TO visage_reader', (
		SELECT n.nspname FROM pg_catalog.pg_extension AS e JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace
		WHERE e.extname = 'visage'));
	-- Views are for readers, tables for engineers, sealed secrets for nobody.
	FOR member IN
		SELECT c.oid::regclass AS relation, CASE c.relkind WHEN 'v' THEN 'visage_reader' ELSE 'visage_engineer' END AS role
		FROM pg_catalog.pg_class AS c
		JOIN pg_catalog.pg_depend AS d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
		JOIN pg_catalog.pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND e.oid = d.refobjid
		WHERE e.extname = 'visage' AND c.relkind IN ('r', 'p', 'v') AND c.relname <> 'stored_secrets'
	LOOP
		EXECUTE format('GRANT SELECT ON %s TO %I', member.relation, member.role);
	END LOOP;
	FOR member IN
		SELECT c.oid::regclass AS relation FROM pg_catalog.pg_class AS c WHERE c.relnamespace = 'visage_models'::regnamespace AND c.relkind = 'v'
	LOOP
		EXECUTE format('GRANT SELECT ON %s TO visage_engineer', member.relation);
	END LOOP;
	-- Which role may call what; what has none is called by Visage itself.
	FOR member IN
		SELECT p.oid::regprocedure AS routine,
			CASE
				WHEN p.prorettype = 'trigger'::regtype OR p.proname = 'visage_create_roles' THEN NULL
				-- whoever reads a view calls what it calls
				WHEN p.proname IN ('visage_version', 'breaker_states') THEN 'visage_reader'
				WHEN p.proname NOT LIKE 'visage\_%' THEN NULL
				WHEN p.prokind = 'a' THEN 'visage_reader'
				WHEN p.proname IN ('visage_adopt', 'visage_create_connector', 'visage_alter_connector', 'visage_rotate_key') THEN 'visage_admin'
				WHEN p.proname ~ '^visage_(score|scores|predict|explain)(_json|_key)?$' THEN 'visage_scorer'
				ELSE 'visage_engineer'
			END AS role
		FROM pg_catalog.pg_proc AS p
		JOIN pg_catalog.pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
		JOIN pg_catalog.pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND e.oid = d.refobjid
		WHERE e.extname = 'visage'
	LOOP
		IF member.role IS NOT NULL THEN
			EXECUTE format('GRANT EXECUTE ON ROUTINE %s TO %I', member.routine, member.role);
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION visage.grant_catalog() IS 'Grants the functions, tables and views of Visage to its roles.';

DO $finish$
DECLARE
	routine regprocedure;
BEGIN
	FOR routine IN
		SELECT p.oid
		FROM pg_catalog.pg_proc AS p
		JOIN pg_catalog.pg_depend AS d ON d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid AND d.deptype = 'e'
		JOIN pg_catalog.pg_extension AS e ON d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND e.oid = d.refobjid
		WHERE e.extname = 'visage'
	LOOP
		EXECUTE pg_catalog.format('REVOKE ALL ON ROUTINE %s FROM PUBLIC', routine);
	END LOOP;
END
$finish$;

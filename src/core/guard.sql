-- Visage: in-database analytics.  Made by the Makefile from the SQL files of
-- the rooms; the order is the Makefile's SQL_PARTS.
\echo Use "CREATE EXTENSION visage" to load this file. \quit

-- A function that somebody plants beside ours in the same schema, with more
-- exactly matching arguments, would be called instead of ours.
DO $guard$
BEGIN
	IF pg_catalog.has_schema_privilege('public', '@extschema@', 'CREATE') THEN
		RAISE EXCEPTION 'extension "visage" cannot be created in schema %, where PUBLIC may create objects', '@extschema@'
			USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = 'Run REVOKE CREATE ON SCHEMA @extschema@ FROM PUBLIC, or choose another schema with CREATE EXTENSION visage SCHEMA name.';
	END IF;
END
$guard$;

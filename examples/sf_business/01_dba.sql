-- What the DBA does once, as superuser; the same again changes nothing.
-- In postgresql.conf: visage.allowed_hosts with the host of the API, and for
-- the schedule pg_cron in shared_preload_libraries with cron.database_name.
--
--	psql -f 01_dba.sql

CREATE EXTENSION IF NOT EXISTS visage;
CREATE EXTENSION IF NOT EXISTS pg_cron;
SELECT visage_create_roles();

-- Three people: one sets up and trains, one scores, one looks.
SELECT format('CREATE ROLE %I LOGIN', role)
FROM unnest('{sf_engineer,sf_scorer,sf_reader}'::text[]) AS role
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) \gexec
GRANT visage_engineer TO sf_engineer;
GRANT visage_scorer TO sf_scorer;
GRANT visage_reader TO sf_reader;
GRANT USAGE ON SCHEMA cron TO sf_engineer;

-- The procedure that is scheduled lives in a schema of the engineer's.
CREATE SCHEMA IF NOT EXISTS sf AUTHORIZATION sf_engineer;

-- This database may ingest here; a restored copy may not until it is adopted.
SELECT visage_adopt();

-- What holds for every SQL object of the extension: it has a COMMENT, PUBLIC
-- may not use it, and what users store in the catalog tables is dumped.
\set ON_ERROR_STOP on
\set QUIET on
CREATE EXTENSION pgtap;
CREATE EXTENSION visage;

BEGIN;
SELECT plan(6);

-- The members of the extension that somebody may name.  Types of tables,
-- rules of views and the like belong to an object that is listed.
CREATE TEMPORARY VIEW member AS
SELECT d.classid, d.objid, pg_describe_object(d.classid, d.objid, 0) AS name
FROM pg_depend AS d
JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
WHERE e.extname = 'visage' AND d.deptype = 'e'
	AND NOT (d.classid = 'pg_type'::regclass AND EXISTS (
		SELECT FROM pg_type AS t LEFT JOIN pg_class AS c ON c.oid = t.typrelid
		WHERE t.oid = d.objid AND (t.typelem <> 0 OR c.relkind <> 'c')));

SELECT cmp_ok((SELECT count(*) FROM member), '>', 10::bigint, 'the extension has members');

-- An identity column's sequence goes by its table's comment.
SELECT is_empty($$
	SELECT m.name FROM member AS m
	WHERE obj_description(m.objid, m.classid::regclass::name) IS NULL
		AND NOT EXISTS (
			SELECT FROM pg_depend AS i WHERE i.classid = m.classid AND i.objid = m.objid
				AND i.refclassid = 'pg_class'::regclass AND i.deptype IN ('a', 'i'))
	ORDER BY 1
	$$, 'every object has a COMMENT');

SELECT is_empty($$
	SELECT m.name, a.privilege_type
	FROM (
		SELECT 'pg_proc'::regclass, oid, coalesce(proacl, acldefault('f', proowner)) FROM pg_proc
		UNION ALL SELECT 'pg_class'::regclass, oid, relacl FROM pg_class
		UNION ALL SELECT 'pg_class'::regclass, attrelid, attacl FROM pg_attribute
		UNION ALL SELECT 'pg_namespace'::regclass, oid, nspacl FROM pg_namespace
		UNION ALL SELECT 'pg_foreign_data_wrapper'::regclass, oid, fdwacl FROM pg_foreign_data_wrapper
	) AS object (classid, objid, acl)
	JOIN member AS m USING (classid, objid)
	CROSS JOIN LATERAL aclexplode(object.acl) AS a
	WHERE a.grantee = 0
	ORDER BY 1, 2
	$$, 'nothing is granted to PUBLIC');

SELECT is_empty($$
	SELECT p.oid::regprocedure::text
	FROM member AS m JOIN pg_proc AS p ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
	WHERE p.prosecdef AND NOT EXISTS (SELECT FROM unnest(p.proconfig) AS c WHERE c LIKE 'search\_path=%')
	ORDER BY 1
	$$, 'no SECURITY DEFINER function leaves search_path to its caller');

-- Tables whose rows a dump must not carry, each with the reason.
CREATE TEMPORARY TABLE not_dumped (relation text PRIMARY KEY, reason text NOT NULL);

SELECT is_empty($$
	SELECT c.oid::regclass::text
	FROM pg_class AS c
	WHERE c.relnamespace = 'visage'::regnamespace AND c.relkind IN ('r', 'p', 'S') AND NOT c.relispartition
		AND c.oid <> ALL (SELECT unnest(extconfig) FROM pg_extension WHERE extname = 'visage')
		AND c.oid::regclass::text NOT IN (SELECT relation FROM not_dumped)
	ORDER BY 1
	$$, 'every catalog table and sequence is registered for pg_dump');

SELECT is_empty($$
	SELECT d.noun, d.name FROM visage.declarations AS d WHERE NOT d.builtin ORDER BY 1, 2
	$$, 'the rows that the script inserts are marked built-in');

SELECT * FROM finish();
ROLLBACK;

-- Room net: secrets that are stored, sealed with a key that is not.

CREATE TABLE visage.stored_secrets (
	name text PRIMARY KEY,
	owner name NOT NULL,
	key_id text NOT NULL,
	sealed bytea NOT NULL,
	updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE visage.stored_secrets IS 'Secrets sealed with AES-256-GCM under a key of visage.secret_key_file; nobody but the owner of the extension reads this.';
SELECT pg_catalog.pg_extension_config_dump('visage.stored_secrets', '');

CREATE VIEW visage.secrets AS
	SELECT name, owner, key_id, updated_at FROM visage.stored_secrets;
COMMENT ON VIEW visage.secrets IS 'Which secrets are stored, whose they are and which key sealed them.';

CREATE FUNCTION visage_set_secret(name text, value text) RETURNS void
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS '$libdir/visage_net', 'visage_set_secret';
COMMENT ON FUNCTION visage_set_secret(text, text) IS 'Stores a secret, sealed, to be referred to as stored:name; NULL forgets it.';

CREATE FUNCTION visage_rotate_key() RETURNS bigint
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS '$libdir/visage_net', 'visage_rotate_key';
COMMENT ON FUNCTION visage_rotate_key() IS 'Seals every stored secret anew with the first key of the key file; how many those are.';

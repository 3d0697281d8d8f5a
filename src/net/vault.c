/*-------------------------------------------------------------------------
 *
 * vault.c
 *		Secrets at rest: visage_set_secret, visage_rotate_key, and reading
 *		what "stored:NAME" refers to.
 *
 * A secret is sealed with AES-256-GCM (NIST SP 800-38D) under a key of the
 * file that setting visage.secret_key_file names, which lies outside the data
 * directory: neither a backup nor a dump nor a standby holds it.  The file
 * has a key a line, "ID:" and 64 hexadecimal digits; the first one seals, all
 * of them open, so a new key goes on top and visage_rotate_key does the rest.
 *
 * What is stored is a random nonce of 12 bytes, the ciphertext and the tag of
 * 16 bytes.  The key's id, the name of the role that set the secret and the
 * secret's own name are authenticated with it, so a row that somebody edits
 * or copies to another name or owner does not open.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/core.h"
#include "core/secret.h"
#include "core/settings.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "net/net.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#define KEY_BYTES 32
#define NONCE_BYTES 12
#define TAG_BYTES 16
#define MAX_SECRET 65536
#define MAX_KEY_FILE 65536
#define KEY_ID_CHARACTERS \
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-"
#define SETTING "visage.secret_key_file"

typedef struct VaultKey
{
	char		id[NAMEDATALEN];
	unsigned char bytes[KEY_BYTES];
} VaultKey;

/* A secret's row of visage.stored_secrets. */
typedef struct VaultRow
{
	const char *name;
	const char *owner;
	char	   *key_id;
	bytea	   *sealed;
} VaultRow;

/* The ERROR for a key file that cannot be used. */
static void
key_file_error(const char *path, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the key file of stored secrets cannot be used"),
			 errdetail("File \"%s\" %s.", path, detail),
			 errhint("Setting " SETTING " names a file outside the data "
					 "directory that only the server's user can read, with "
					 "a line \"ID:\" and 64 hexadecimal digits for each "
					 "key.")));
}

/* ERROR where the file is in the data directory, or open to others. */
static void
check_key_file(const char *path, int fd)
{
	char	   *real = realpath(path, NULL);
	char	   *data = realpath(DataDir, NULL);
	bool		inside = real == NULL || data == NULL ||
	(strncmp(real, data, strlen(data)) == 0 && real[strlen(data)] == '/');
	struct stat status;

	free(real);
	free(data);
	if (inside)
		key_file_error(path, "is in the data directory");
	if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode))
		key_file_error(path, "is no regular file");
	if (status.st_uid != geteuid() && status.st_uid != 0)
		key_file_error(path, "belongs to neither the server's user nor root");
	if ((status.st_mode & S_IRWXO) != 0 || (status.st_mode & S_IWGRP) != 0 ||
		(status.st_uid != 0 && (status.st_mode & S_IRWXG) != 0))
		key_file_error(path, "can be read or changed by other users");
}

/* The content of the key file, which the caller wipes. */
static char *
read_key_file(void)
{
	const char *path = core_setting(SETTING);
	char	   *content = palloc0(MAX_KEY_FILE + 1);
	ssize_t		len;
	int			fd;

	if (path[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("secrets cannot be stored or read"),
				 errdetail("Setting " SETTING " is empty."),
				 errhint("A superuser sets it to a file of keys outside the "
						 "data directory.")));
	fd = open(path, O_RDONLY | O_NONBLOCK);
	if (fd < 0)
		key_file_error(path, psprintf("cannot be opened: %s",
									  strerror(errno)));
	PG_TRY();
	{
		check_key_file(path, fd);
	}
	PG_FINALLY();
	{
		len = read(fd, content, MAX_KEY_FILE);
		close(fd);
	}
	PG_END_TRY();
	if (len <= 0 || len == MAX_KEY_FILE)
		key_file_error(path, "is empty or too long");
	return content;
}

/* Takes the key of one line; false where it has another id. */
static bool
parse_key(char *line, int number, const char *id, VaultKey *key)
{
	size_t		id_length = strspn(line, KEY_ID_CHARACTERS);
	char	   *digits = line + id_length + 1;

	if (id_length == 0 || id_length >= NAMEDATALEN ||
		line[id_length] != ':' || strlen(digits) != KEY_BYTES * 2 ||
		strspn(digits, "0123456789abcdefABCDEF") != KEY_BYTES * 2)
		key_file_error(core_setting(SETTING),
					   psprintf("has no key in line %d", number));
	line[id_length] = '\0';
	if (id != NULL && strcmp(id, line) != 0)
		return false;
	strlcpy(key->id, line, sizeof(key->id));
	(void) hex_decode(digits, KEY_BYTES * 2, (char *) key->bytes);
	return true;
}

/* The key of this id, or the first one; ERROR where there is none. */
static void
find_key(const char *id, VaultKey *key)
{
	char	   *content = read_key_file();
	char	   *rest = content;
	bool		found = false;

	for (int number = 1; !found && rest != NULL; number++)
	{
		char	   *line = strsep(&rest, "\n");

		line[strcspn(line, "\r")] = '\0';
		if (line[0] != '\0' && line[0] != '#')
			found = parse_key(line, number, id, key);
	}
	OPENSSL_cleanse(content, MAX_KEY_FILE);
	if (!found)
		key_file_error(core_setting(SETTING), id == NULL ? "holds no key" :
					   psprintf("holds no key \"%s\"", id));
}

/* What is authenticated with a secret besides itself. */
static StringInfo
associated_data(const VaultRow *row)
{
	StringInfo	data = makeStringInfo();

	appendBinaryStringInfo(data, row->key_id, strlen(row->key_id) + 1);
	appendBinaryStringInfo(data, row->owner, strlen(row->owner) + 1);
	appendBinaryStringInfo(data, row->name, strlen(row->name) + 1);
	return data;
}

/*
 * Runs the cipher over a text of len bytes: seals it and writes the tag, or
 * opens it and checks the tag.  False where OpenSSL refuses, which is what a
 * wrong tag looks like.
 */
static bool
run_cipher(bool seal, const VaultKey *key, StringInfo associated,
		   const unsigned char *nonce, const unsigned char *from, int len,
		   unsigned char *to, unsigned char *tag)
{
	EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
	int			done = 0;
	bool		good = context != NULL &&
	EVP_CipherInit_ex(context, EVP_aes_256_gcm(), NULL, key->bytes, nonce,
					  seal) == 1 &&
	EVP_CipherUpdate(context, NULL, &done,
					 (unsigned char *) associated->data,
					 associated->len) == 1 &&
	EVP_CipherUpdate(context, to, &done, from, len) == 1 && done == len;

	if (good && !seal)
		good = EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_SET_TAG, TAG_BYTES,
								   tag) == 1;
	good = good && EVP_CipherFinal_ex(context, to + len, &done) == 1;
	if (good && seal)
		good = EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, TAG_BYTES,
								   tag) == 1;
	EVP_CIPHER_CTX_free(context);
	return good;
}

/* Seals a value under the first key; the row gets its id and the result. */
static void
seal(VaultRow *row, const char *value)
{
	int			len = strlen(value);
	Size		size = VARHDRSZ + NONCE_BYTES + len + TAG_BYTES;
	unsigned char *nonce;
	VaultKey	key;
	bool		good;

	find_key(NULL, &key);
	row->key_id = pstrdup(key.id);
	row->sealed = palloc0(size);
	SET_VARSIZE(row->sealed, size);
	nonce = (unsigned char *) VARDATA(row->sealed);
	good = pg_strong_random(nonce, NONCE_BYTES) &&
		run_cipher(true, &key, associated_data(row), nonce,
				   (const unsigned char *) value, len, nonce + NONCE_BYTES,
				   nonce + NONCE_BYTES + len);
	OPENSSL_cleanse(&key, sizeof(key));
	if (!good)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("secret \"%s\" could not be encrypted", row->name)));
}

/* The value of a sealed row, in the current memory context. */
static char *
unseal(const VaultRow *row)
{
	unsigned char *nonce = (unsigned char *) VARDATA_ANY(row->sealed);
	int			len = VARSIZE_ANY_EXHDR(row->sealed) - NONCE_BYTES - TAG_BYTES;
	char	   *value = palloc0(Max(len, 0) + 1);
	VaultKey	key;
	bool		good;

	find_key(row->key_id, &key);
	good = len > 0 && run_cipher(false, &key, associated_data(row), nonce,
								 nonce + NONCE_BYTES, len,
								 (unsigned char *) value,
								 nonce + NONCE_BYTES + len);
	OPENSSL_cleanse(&key, sizeof(key));
	if (!good)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("secret \"%s\" does not open", row->name),
				 errdetail("Key \"%s\" did not seal it for owner \"%s\", or "
						   "it was changed.", row->key_id, row->owner),
				 errhint("Set it again with visage_set_secret.")));
	return value;
}

/*
 * Reads a secret's row as the extension's owner; false where there is none.
 * The row is in the caller's memory context.
 */
static bool
find_row(const char *name, VaultRow *row)
{
	MemoryContext caller = CurrentMemoryContext;
	CoreIdentity saved;
	CoreArgs	args = {0};
	bool		found;

	core_spi_begin();
	core_become_owner(&saved);
	core_arg_text(&args, name);
	found = core_execute("SELECT owner, key_id, sealed"
						 " FROM visage.stored_secrets WHERE name = $1",
						 &args, SPI_OK_SELECT) == 1;
	if (found)
	{
		bool		isnull;
		Datum		sealed = SPI_getbinval(SPI_tuptable->vals[0],
										   SPI_tuptable->tupdesc, 3, &isnull);

		row->name = name;
		row->owner = MemoryContextStrdup(caller, core_value_text(0, 1));
		row->key_id = MemoryContextStrdup(caller, core_value_text(0, 2));
		row->sealed = (bytea *)
			MemoryContextAlloc(caller, VARSIZE_ANY(DatumGetPointer(sealed)));
		memcpy(row->sealed, DatumGetPointer(sealed),
			   VARSIZE_ANY(DatumGetPointer(sealed)));
	}
	core_become_caller(&saved);
	core_spi_end();
	return found;
}

/* ERROR unless the caller may act for the secret's owner. */
static void
require_owner(const VaultRow *row)
{
	Oid			owner = get_role_oid(row->owner, true);

	if (!OidIsValid(owner) ? !superuser() :
		!has_privs_of_role(GetUserId(), owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("secret \"%s\" belongs to role \"%s\"", row->name,
						row->owner)));
}

/* The row of a secret that must be there. */
static void
require_row(const char *name, VaultRow *row)
{
	if (!find_row(name, row))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("there is no stored secret \"%s\"", name),
				 errhint("Set it with visage_set_secret.")));
}

/* The value of a stored secret, in the current memory context. */
static char *
open_stored(const char *name)
{
	VaultRow	row;

	require_row(name, &row);
	return unseal(&row);
}

/*
 * Is this a reference that the caller may give to a source?  Besides what
 * core_check_secret asks, a stored secret must be there and be theirs.
 */
void
net_check_secret(const char *name, const char *reference)
{
	VaultRow	row;

	core_check_secret(name, reference);
	if (strncmp(reference, CORE_STORED, strlen(CORE_STORED)) != 0)
		return;
	require_row(reference + strlen(CORE_STORED), &row);
	require_owner(&row);
}

/* A string for a Jsonb under construction. */
static JsonbValue
json_string(char *text)
{
	JsonbValue	value = {.type = jbvString};

	value.val.string.val = text;
	value.val.string.len = strlen(text);
	return value;
}

/*
 * A source's references to secrets, those to stored ones replaced by the
 * secrets themselves, as core_read_secret knows them: so that they are read
 * while there is a transaction, and used when there is none.  In the current
 * memory context; nobody may print it.
 */
Jsonb *
net_open_secrets(Jsonb *references)
{
	JsonbParseState *state = NULL;
	int			count;
	char	  **names = core_json_keys(references, &count);

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < count; i++)
	{
		char	   *reference = core_json_text(references, names[i]);
		JsonbValue	name = json_string(names[i]);
		JsonbValue	value;

		if (strncmp(reference, CORE_STORED, strlen(CORE_STORED)) == 0)
			reference = psprintf("%s%s", CORE_OPENED,
								 open_stored(reference +
											 strlen(CORE_STORED)));
		value = json_string(reference);
		pushJsonbValue(&state, WJB_KEY, &name);
		pushJsonbValue(&state, WJB_VALUE, &value);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/* Where the value can be seen although it is stored sealed. */
static void
warn_of_leaks(const char *name, const char *value)
{
	const char *length = GetConfigOption("log_parameter_max_length", true,
										 false);

	if (debug_query_string != NULL && strstr(debug_query_string, value))
		ereport(WARNING,
				(errcode(ERRCODE_WARNING),
				 errmsg("secret \"%s\" stands in the text of the statement",
						name),
				 errdetail("pg_stat_activity and the server's log may show "
						   "it."),
				 errhint("Give it as a bound parameter, and replace the one "
						 "that was seen.")));
	else if (length == NULL || strcmp(length, "0") != 0)
		ereport(WARNING,
				(errcode(ERRCODE_WARNING),
				 errmsg("the server's log may show secret \"%s\"", name),
				 errdetail("A statement that is logged is logged with its "
						   "parameters."),
				 errhint("Set log_parameter_max_length to 0 for the session "
						 "that sets secrets.")));
}

/* Writes or forgets a row, as the extension's owner. */
static void
write_row(const VaultRow *row)
{
	CoreIdentity saved;
	CoreArgs	args = {0};

	core_spi_begin();
	core_become_owner(&saved);
	core_arg_text(&args, row->name);
	if (row->sealed == NULL)
		(void) core_execute("DELETE FROM visage.stored_secrets"
							" WHERE name = $1", &args, SPI_OK_DELETE);
	else
	{
		core_arg_text(&args, row->owner);
		core_arg_text(&args, row->key_id);
		core_arg(&args, BYTEAOID, PointerGetDatum(row->sealed), false);
		(void) core_execute("INSERT INTO visage.stored_secrets AS s"
							" (name, owner, key_id, sealed)"
							" VALUES ($1, $2, $3, $4)"
							" ON CONFLICT (name) DO UPDATE SET"
							" key_id = excluded.key_id,"
							" sealed = excluded.sealed,"
							" updated_at = now()",
							&args, SPI_OK_INSERT);
	}
	core_become_caller(&saved);
	core_spi_end();
}

static void
check_value(const char *name, const char *value)
{
	if (value[0] == '\0' || strlen(value) > MAX_SECRET)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("secret \"%s\" must have 1 to %d bytes", name,
						MAX_SECRET)));
}

/*
 * Stores a secret that a source was given plainly.  False, and nothing is
 * stored, where another value is there and is not to be replaced.
 */
bool
net_store_secret(const char *name, const char *value, bool replace)
{
	VaultRow	row = {0};

	if (core_setting(SETTING)[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("secret \"%s\" is given plainly and cannot be "
						"stored", name),
				 errdetail("Setting " SETTING " is empty."),
				 errhint("Refer to it as \"file:name\" (a file below "
						 "visage.secrets_directory) or \"env:VISAGE_NAME\", "
						 "or have a superuser set a key file.")));
	check_value(name, value);
	if (find_row(name, &row))
	{
		char	   *stored;
		bool		same;

		require_owner(&row);
		stored = unseal(&row);
		same = strcmp(stored, value) == 0;
		OPENSSL_cleanse(stored, strlen(stored));
		if (same || !replace)
			return same;
	}
	else
		row.owner = GetUserNameFromId(GetUserId(), false);
	row.name = name;
	seal(&row, value);
	write_row(&row);
	return true;
}

/* Forgets the secrets that a source was given plainly; as the owner. */
void
net_forget_secrets(const char *source)
{
	CoreArgs	args = {0};

	core_arg_text(&args, source);
	core_execute("DELETE FROM visage.stored_secrets"
				 " WHERE split_part(name, '.', 1) = $1"
				 " AND strpos(name, '.') > 0", &args, SPI_OK_DELETE);
}

PG_FUNCTION_INFO_V1(visage_set_secret);
Datum
visage_set_secret(PG_FUNCTION_ARGS)
{
	VaultRow	row = {0};
	char	   *name;
	char	   *value;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"name\" must not be null")));
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	core_check_secret_name(name);
	if (find_row(name, &row))
		require_owner(&row);
	else
		row.owner = GetUserNameFromId(GetUserId(), false);
	row.name = name;
	row.sealed = NULL;
	if (!PG_ARGISNULL(1))
	{
		value = text_to_cstring(PG_GETARG_TEXT_PP(1));
		check_value(name, value);
		seal(&row, value);
		warn_of_leaks(name, value);
		OPENSSL_cleanse(value, strlen(value));
	}
	write_row(&row);
	PG_RETURN_VOID();
}

/* The names of all stored secrets, in the caller's memory context. */
static char **
stored_names(uint64 *count)
{
	MemoryContext caller = CurrentMemoryContext;
	CoreIdentity saved;
	CoreArgs	args = {0};
	char	  **names;

	core_spi_begin();
	core_become_owner(&saved);
	(void) core_execute("LOCK TABLE visage.stored_secrets"
						" IN SHARE ROW EXCLUSIVE MODE", &args,
						SPI_OK_UTILITY);
	*count = core_execute("SELECT name FROM visage.stored_secrets"
						  " ORDER BY name", &args, SPI_OK_SELECT);
	names = MemoryContextAlloc(caller, sizeof(char *) * Max(*count, 1));
	for (uint64 i = 0; i < *count; i++)
		names[i] = MemoryContextStrdup(caller, core_value_text(i, 1));
	core_become_caller(&saved);
	core_spi_end();
	return names;
}

PG_FUNCTION_INFO_V1(visage_rotate_key);
Datum
visage_rotate_key(PG_FUNCTION_ARGS)
{
	uint64		count;
	char	  **names = stored_names(&count);

	for (uint64 i = 0; i < count; i++)
	{
		VaultRow	row;
		char	   *value;

		CHECK_FOR_INTERRUPTS();
		/* the lock keeps the row that its name was read from */
		if (!find_row(names[i], &row))
			continue;
		value = unseal(&row);
		seal(&row, value);
		OPENSSL_cleanse(value, strlen(value));
		write_row(&row);
	}
	PG_RETURN_INT64((int64) count);
}

/*-------------------------------------------------------------------------
 *
 * sign.c
 *		Encoding and signing what requests carry.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "common/base64.h"
#include "net/net.h"

/* Base64 (RFC 4648, with padding). */
char *
net_base64(const void *data, size_t length)
{
	int			size = pg_b64_enc_len(length);
	char	   *text = palloc(size + 1);
	int			len = pg_b64_encode(data, length, text, size);

	if (len < 0)
		elog(ERROR, "could not encode %zu bytes", length);
	text[len] = '\0';
	return text;
}

/* Base64url without padding, as JSON Web Tokens have it (RFC 7515). */
char *
net_base64url(const void *data, size_t length)
{
	char	   *text = net_base64(data, length);

	for (char *c = text; *c; c++)
	{
		if (*c == '+')
			*c = '-';
		else if (*c == '/')
			*c = '_';
		else if (*c == '=')
		{
			*c = '\0';
			break;
		}
	}
	return text;
}

/* Signs with RSASSA-PKCS1-v1_5 and SHA-256 into size bytes; 0: could not. */
static size_t
sign(EVP_PKEY *key, const char *text, unsigned char *signature, size_t size)
{
	EVP_MD_CTX *digest = EVP_MD_CTX_new();
	bool		done = digest != NULL &&
	EVP_DigestSignInit(digest, NULL, EVP_sha256(), NULL, key) == 1 &&
	EVP_DigestSign(digest, signature, &size, (const unsigned char *) text,
				   strlen(text)) == 1;

	EVP_MD_CTX_free(digest);
	return done ? size : 0;
}

/*
 * The RS256 signature of a text (RFC 7518), base64url-encoded, with a private
 * key in PEM.  The key stands in no message.
 */
char *
net_sign_rs256(const char *private_key, const char *text)
{
	unsigned char signature[1024];
	BIO		   *memory = BIO_new_mem_buf(private_key, -1);
	EVP_PKEY   *key = memory ?
	PEM_read_bio_PrivateKey(memory, NULL, NULL, "") : NULL;
	size_t		length = 0;

	if (key != NULL && EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA &&
		EVP_PKEY_get_size(key) <= (int) sizeof(signature))
		length = sign(key, text, signature, sizeof(signature));
	EVP_PKEY_free(key);
	BIO_free(memory);
	if (length == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("could not sign with the private key"),
				 errdetail("It must be an RSA key in PEM.")));
	return net_base64url(signature, length);
}

/*-------------------------------------------------------------------------
 *
 * auth.c
 *		Credentials of requests: what the manifest's "auth" says.
 *
 * Tokens are fetched when one is needed, kept for the run only, and renewed
 * a minute before they expire or when the system refuses one.  No secret
 * and no token stands in a message.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <time.h>

#include "core/core.h"
#include "ingest/ingest.h"
#include "lib/stringinfo.h"
#include "utils/json.h"
#include "utils/timestamp.h"

#define RENEW_MS (60 * 1000)	/* before the token's end */

/* A template of auth, which may hold secrets; ERROR where one is missing. */
static char *
part(IngestRun *run, Jsonb *auth, const char *name, bool required)
{
	IngestVariables variables = {run, &run->position};
	IngestScope scope = {.lookup = ingest_variable,.arg = &variables};
	char	   *template = core_json_text(auth, name);
	char	   *value = template ? ingest_fill(template, &scope) : NULL;

	if (value != NULL && !scope.missing)
		return value;
	if (required)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("source \"%s\" has not all the secrets that it needs",
						run->stream->source),
				 errdetail("The connector's auth uses %s for \"%s\".",
						   template, name),
				 errhint("Give the secret to visage_create_source.")));
	return NULL;
}

static void
append_form(StringInfo form, const char *name, const char *value)
{
	if (value == NULL)
		return;
	if (form->len > 0)
		appendStringInfoChar(form, '&');
	ingest_append_encoded(form, name, "");
	appendStringInfoChar(form, '=');
	ingest_append_encoded(form, value, "");
}

/* "Basic …" of user and password. */
static char *
basic(const char *user, const char *password)
{
	char	   *pair = psprintf("%s:%s", user, password ? password : "");

	return psprintf("Basic %s", net_base64(pair, strlen(pair)));
}

/* ---- tokens ---- */

/* Takes the token out of the answer to a form. */
static void
fetch_token(IngestRun *run, NetRequest *request)
{
	char	   *body = ingest_call(run, request, "the token");
	ScanSlice	document = {body, strlen(body)};
	char	   *token = scan_path_text(document, "access_token");
	char	   *expires = scan_path_text(document, "expires_in");
	int64		seconds = expires ? strtoll(expires, NULL, 10) : 3600;

	if (token == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_PROTOCOL_VIOLATION),
				 errmsg("the answer to the request for a token of source "
						"\"%s\" holds no access_token",
						run->stream->source)));
	run->token = MemoryContextStrdup(run->context, token);
	run->token_until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
												   Max(seconds * 1000 - RENEW_MS, seconds * 500));
}

/* A POST of a form to the token's URL. */
static NetRequest *
token_request(const char *url, char *form)
{
	NetRequest *request = palloc0(sizeof(NetRequest));

	request->method = "POST";
	request->url = pstrdup(url);
	request->body = form;
	ingest_add_header(request, "Content-Type",
					  "application/x-www-form-urlencoded", false);
	ingest_add_header(request, "Accept", "application/json", false);
	return request;
}

/* OAuth 2 (RFC 6749): client credentials, or a refresh token. */
static void
fetch_oauth_token(IngestRun *run, Jsonb *auth, bool refresh)
{
	char	   *how = core_json_text(auth, "client_auth");
	bool		in_header = how != NULL && strcmp(how, "basic") == 0;
	char	   *client = part(run, auth, "client_id", true);
	char	   *secret = part(run, auth, "client_secret", !refresh);
	Jsonb	   *params = core_json_value(auth, "params");
	int			count;
	char	  **names = core_json_keys(params, &count);
	StringInfoData form;
	NetRequest *request;

	initStringInfo(&form);
	append_form(&form, "grant_type",
				refresh ? "refresh_token" : "client_credentials");
	if (refresh)
		append_form(&form, "refresh_token",
					part(run, auth, "refresh_token", true));
	if (!in_header)
	{
		append_form(&form, "client_id", client);
		append_form(&form, "client_secret", secret);
	}
	append_form(&form, "scope", part(run, auth, "scope", false));
	for (int i = 0; i < count; i++)
		append_form(&form, names[i], part(run, params, names[i], false));
	request = token_request(part(run, auth, "token_url", true), form.data);
	if (in_header)
		ingest_add_header(request, "Authorization", basic(client, secret),
						  true);
	fetch_token(run, request);
}

/* A member of the key file of a service account. */
static char *
key_member(IngestRun *run, const char *key, const char *name, bool required)
{
	ScanSlice	document = {key, strlen(key)};
	char	   *value = scan_path_text(document, name);

	if (value == NULL && required)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the service account's key of source \"%s\" has no "
						"\"%s\"", run->stream->source, name),
				 errhint("The secret is the JSON key file as it was "
						 "downloaded.")));
	return value;
}

/* The JSON Web Token that a service account signs (RFC 7523). */
static char *
signed_assertion(IngestRun *run, const char *key, const char *scope,
				 const char *audience, int64 lifetime)
{
	int64		now = time(NULL);
	char	   *key_id = key_member(run, key, "private_key_id", false);
	StringInfoData header;
	StringInfoData claims;
	char	   *text;

	initStringInfo(&header);
	appendStringInfoString(&header, "{\"alg\":\"RS256\",\"typ\":\"JWT\"");
	if (key_id != NULL)
	{
		appendStringInfoString(&header, ",\"kid\":");
		escape_json(&header, key_id);
	}
	appendStringInfoChar(&header, '}');
	initStringInfo(&claims);
	appendStringInfoString(&claims, "{\"iss\":");
	escape_json(&claims, key_member(run, key, "client_email", true));
	appendStringInfoString(&claims, ",\"scope\":");
	escape_json(&claims, scope);
	appendStringInfoString(&claims, ",\"aud\":");
	escape_json(&claims, audience);
	appendStringInfo(&claims, ",\"iat\":" INT64_FORMAT ",\"exp\":"
					 INT64_FORMAT "}", now, now + lifetime);
	text = psprintf("%s.%s", net_base64url(header.data, header.len),
					net_base64url(claims.data, claims.len));
	return psprintf("%s.%s", text,
					net_sign_rs256(key_member(run, key, "private_key", true),
								   text));
}

static void
fetch_service_token(IngestRun *run, Jsonb *auth)
{
	char	   *key = part(run, auth, "key", true);
	char	   *url = part(run, auth, "token_url", false);
	char	   *length = core_json_text(auth, "lifetime");
	char	   *audience = key_member(run, key, "token_uri", url == NULL);
	StringInfoData form;

	if (url == NULL)
		url = audience;
	if (audience == NULL)
		audience = url;
	initStringInfo(&form);
	append_form(&form, "grant_type",
				"urn:ietf:params:oauth:grant-type:jwt-bearer");
	append_form(&form, "assertion",
				signed_assertion(run, key, part(run, auth, "scope", true),
								 audience,
								 length ? ingest_duration(length) / USECS_PER_SEC : 3600));
	fetch_token(run, token_request(url, form.data));
}

/* A token that is good for a minute at least. */
static char *
current_token(IngestRun *run, Jsonb *auth, const char *type)
{
	if (run->token != NULL && GetCurrentTimestamp() < run->token_until)
		return run->token;
	if (strcmp(type, "service_account_jwt") == 0)
		fetch_service_token(run, auth);
	else
		fetch_oauth_token(run, auth,
						  strcmp(type, "oauth2_refresh_token") == 0);
	return run->token;
}

/*
 * Forgets the token, so that the next request fetches one.  False where
 * there is none to fetch.
 */
bool
ingest_forget_token(IngestRun *run)
{
	bool		had = run->token != NULL;

	run->token = NULL;
	return had;
}

/* ---- requests ---- */

/* Adds what proves who asks. */
void
ingest_authenticate(IngestRun *run, NetRequest *request)
{
	Jsonb	   *auth = core_json_value(run->stream->manifest, "auth");
	char	   *type = core_json_text(auth, "type");
	char	   *value;

	if (type == NULL || strcmp(type, "none") == 0)
		return;
	if (strcmp(type, "api_key") == 0)
	{
		char	   *name = core_json_text(auth, "name");

		value = part(run, auth, "value", true);
		if (strcmp(core_json_text(auth, "in"), "header") == 0)
			ingest_add_header(request, name, value, true);
		else
		{
			StringInfoData query;

			initStringInfo(&query);
			append_form(&query, name, value);
			request->secret_query = query.data;
		}
		return;
	}
	if (strcmp(type, "bearer") == 0)
		value = psprintf("Bearer %s", part(run, auth, "token", true));
	else if (strcmp(type, "http_basic") == 0)
		value = basic(part(run, auth, "username", true),
					  part(run, auth, "password", false));
	else
		value = psprintf("Bearer %s", current_token(run, auth, type));
	ingest_add_header(request, "Authorization", value, true);
}

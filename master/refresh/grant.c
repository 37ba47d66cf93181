/* SPDX-License-Identifier: MIT */
/* Requests to token endpoints, and their answers; see grant.h. */
#include "master/refresh/grant.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "common/alloc.h"
#include "common/secret.h"
#include "common/str.h"
#include "master/credential/credfile.h"
#include "master/credential/json_text.h"
#include "master/credential/jwt.h"

enum {
	BODY_MAX = 64 * 1024,
	TEXT_MAX = 2 * CREDFILE_BYTES_MAX,
	VALUE_MAX = 512 * 1024,
	ASSERTION_S = 3600,
	EXPIRES_MAX_S = 10 * 366 * 24 * 3600
};

/* A "wait" that an endpoint asks for is taken for one within these. */
enum { WAIT_MIN_MS = 5000, WAIT_MAX_MS = 300000 };

static const char vertex_scope[] =
    "https://www.googleapis.com/auth/cloud-platform";

/* What an endpoint says of a token that will never be good again. */
static const char *const final_errors[] = {
	"invalid_grant",
	"refresh_token_reused",
	"refresh_token_expired",
	"refresh_token_invalidated",
	"unauthorized_client",
};

/* ---- reading the file */

static const char *
string_in(const cJSON *object, const char *key)
{
	const char *s =
	    cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));

	return s != NULL ? s : "";
}

static const cJSON *
object_in(const cJSON *file, const char *key)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(file, key);

	return cJSON_IsObject(item) ? item : NULL;
}

static const cJSON *
nested_token(const cJSON *file)
{
	const cJSON *token = object_in(file, "token");

	return token != NULL ? token : object_in(file, "Token");
}

/* Of the file, else of its nested token. */
static const char *
file_string(const cJSON *file, const char *key)
{
	const char *s = string_in(file, key);

	return *s != '\0' ? s : string_in(nested_token(file), key);
}

/* The first that is said, or NULL. */
static const char *
first_of(const char *a, const char *b, const char *c)
{
	if (*a != '\0')
		return a;
	return *b != '\0' ? b : c;
}

static bool
is_refresh_token(const cJSON *file, const char *refresh_token)
{
	struct span have =
	    span_trim(span_of(file_string(file, "refresh_token")));

	return span_equal(have, span_of(refresh_token));
}

bool
grant_is_of(const char *text, size_t len, const char *refresh_token)
{
	cJSON *file;
	bool is;

	if (json_parse(text, len, &file, NULL) < 0)
		return false;
	is = is_refresh_token(file, refresh_token);
	cJSON_Delete(file);
	return is;
}

/* ---- bodies */

struct field {
	const char *name;
	const char *value; /* NULL or "": left out */
};

static void
put_escaped(struct buf *out, const char *s)
{
	static const char plain[] = "-._~";

	for (; *s != '\0'; s++) {
		unsigned char c = (unsigned char)*s;

		if (isascii(c) && (isalnum(c) || strchr(plain, c) != NULL))
			buf_putc(out, *s);
		else
			buf_printf(out, "%%%02X", c);
	}
}

static void
put_form(struct buf *out, const struct field *f, bool first)
{
	buf_printf(out, "%s%s=", first ? "" : "&", f->name);
	put_escaped(out, f->value);
}

static void
put_json(struct buf *out, const struct field *f, bool first)
{
	buf_printf(out, "%s\"%s\":", first ? "{" : ",", f->name);
	buf_json_string(out, f->value, strlen(f->value));
}

/* 0, or -EINVAL for one that is too long. */
static int
make_body(struct grant *g, const struct field *fields, size_t n)
{
	struct buf out = BUF_INIT(BODY_MAX);
	bool json = g->encoding == OAUTH_JSON;
	bool first = true;

	for (size_t i = 0; i < n; i++) {
		if (fields[i].value == NULL || *fields[i].value == '\0')
			continue;
		if (json)
			put_json(&out, &fields[i], first);
		else
			put_form(&out, &fields[i], first);
		first = false;
	}
	if (json)
		buf_putc(&out, '}');
	if (!out.failed)
		g->body = xstrdup(buf_string(&out));
	if (out.data != NULL)
		secret_wipe(out.data, out.cap);
	buf_fini(&out);
	return g->body != NULL ? 0 : -EINVAL;
}

/* ---- requests */

static enum oauth_encoding
encoding_of(
    const struct provider *provider, const struct oauth_settings *settings)
{
	if (*settings->encoding == '\0')
		return provider->oauth.encoding;
	return strcmp(settings->encoding, "json") == 0 ? OAUTH_JSON
						       : OAUTH_FORM;
}

static int
set_endpoint(struct grant *g, const char *url, const char **why)
{
	if (url == NULL) {
		*why = "no token endpoint is known for it";
		return -EINVAL;
	}
	if (!config_endpoint_is_safe(url)) {
		*why = "its token endpoint is neither https nor on loopback";
		return -EINVAL;
	}
	g->url = xstrdup(url);
	return 0;
}

static int
make_refresh(const struct provider *provider,
    const struct oauth_settings *settings, const cJSON *file, struct grant *g,
    const char **why)
{
	const struct provider_oauth *known = &provider->oauth;
	const char *client_id = first_of(file_string(file, "client_id"),
	    settings->client_id, known->client_id);
	struct span token =
	    span_trim(span_of(file_string(file, "refresh_token")));

	g->refresh_token = xstrndup(token.p, token.len);
	if (token.len == 0) {
		*why = "it has no refresh token";
		return -EINVAL;
	}
	if (client_id == NULL) {
		*why = "no client id is known for it";
		return -EINVAL;
	}
	if (set_endpoint(g,
		first_of(file_string(file, "token_endpoint"),
		    settings->token_endpoint, known->token_endpoint),
		why) < 0)
		return -EINVAL;
	*why = "its tokens are too long";
	return make_body(g,
	    (const struct field[]){
		{ "grant_type", "refresh_token" },
		{ "refresh_token", g->refresh_token },
		{ "client_id", client_id },
		{ "client_secret", first_of(file_string(file, "client_secret"),
				       settings->client_secret, NULL) },
		{ "scope", known->scope },
	    },
	    5);
}

/* Google signs nobody in who cannot say for whom, to whom and until when. */
static char *
assertion_claims(const cJSON *account, const char *audience, int64_t now_s)
{
	struct buf json = BUF_INIT(16 * 1024);
	const char *issuer = string_in(account, "client_email");
	char *claims;

	buf_puts(&json, "{\"iss\":");
	buf_json_string(&json, issuer, strlen(issuer));
	buf_printf(&json, ",\"scope\":\"%s\",\"aud\":", vertex_scope);
	buf_json_string(&json, audience, strlen(audience));
	buf_printf(&json, ",\"iat\":%" PRId64 ",\"exp\":%" PRId64 "}", now_s,
	    now_s + ASSERTION_S);
	claims = xstrdup(buf_string(&json));
	buf_fini(&json);
	return claims;
}

static int
make_assertion(const struct provider *provider,
    const struct oauth_settings *settings, const cJSON *file,
    const cJSON *account, int64_t now_s, struct grant *g, const char **why)
{
	const char *own = string_in(file, "token_endpoint");
	const char *key_id = string_in(account, "private_key_id");
	AUTO_FREE char *claims = NULL;
	char *assertion = NULL;
	int rc;

	if (*own == '\0')
		own = string_in(account, "token_uri");
	if (set_endpoint(g,
		first_of(own, settings->token_endpoint,
		    provider->oauth.token_endpoint),
		why) < 0)
		return -EINVAL;
	g->refresh_token = xstrdup("");
	claims = assertion_claims(account, g->url, now_s);
	*why = "its private key cannot be used";
	rc = jwt_sign(claims, *key_id != '\0' ? key_id : NULL,
	    string_in(account, "private_key"), &assertion);
	if (rc < 0)
		return rc;
	g->encoding = OAUTH_FORM;
	rc = make_body(g,
	    (const struct field[]){
		{ "grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer" },
		{ "assertion", assertion },
	    },
	    2);
	secret_free(assertion);
	return rc;
}

int
grant_make(const struct provider *provider,
    const struct oauth_settings *settings, const char *text, size_t len,
    int64_t now_s, struct grant *g, const char **why)
{
	const cJSON *account;
	cJSON *file;
	int rc;

	*g = (struct grant){ .encoding = encoding_of(provider, settings) };
	rc = json_parse(text, len, &file, why);
	if (rc < 0)
		return rc;
	account = object_in(file, "service_account");
	if (account != NULL && *file_string(file, "refresh_token") == '\0')
		rc = make_assertion(
		    provider, settings, file, account, now_s, g, why);
	else
		rc = make_refresh(provider, settings, file, g, why);
	cJSON_Delete(file);
	if (rc < 0)
		grant_fini(g);
	return rc;
}

void
grant_fini(struct grant *g)
{
	free(g->url);
	secret_free(g->body);
	secret_free(g->refresh_token);
	*g = (struct grant){ 0 };
}

/* ---- answers */

/* As OAuth spells its errors; what else stands there may be a secret. */
static bool
may_be_shown(const char *word)
{
	size_t len = strspn(word, "abcdefghijklmnopqrstuvwxyz_");

	return len > 0 && len <= 48 && word[len] == '\0';
}

/* {"error": "..."}, or {"error": {"code" or "type": "..."}}, or "code". */
static const char *
error_word(const cJSON *json)
{
	const cJSON *error = cJSON_GetObjectItemCaseSensitive(json, "error");
	const char *word = cJSON_GetStringValue(error);

	if (word == NULL || *word == '\0')
		word = string_in(error, "code");
	if (*word == '\0')
		word = string_in(error, "type");
	return *word != '\0' ? word : string_in(json, "code");
}

/* The word of an error that is final; NULL if it is not. */
static const char *
final_word(const cJSON *json, const struct fetch_answer *answer)
{
	const char *word = error_word(json);

	for (size_t i = 0; i < ARRAY_LEN(final_errors); i++) {
		if (strcmp(word, final_errors[i]) == 0)
			return final_errors[i];
	}
	/* Some wrap it into an error of their own. */
	for (size_t i = 0; i < 2; i++) {
		if (strstr(answer->body, final_errors[i]) != NULL)
			return final_errors[i];
	}
	if (answer->status == 401)
		return may_be_shown(word) ? word : "unauthorized";
	return NULL;
}

static int64_t
clamp(int64_t value, int64_t min, int64_t max)
{
	if (value < min)
		return min;
	return value < max ? value : max;
}

static void
read_refusal(const cJSON *json, const struct fetch_answer *answer,
    struct grant_answer *out)
{
	const char *word = answer->status < 500 && answer->status != 429
			       ? final_word(json, answer)
			       : NULL;

	if (word != NULL) {
		out->end = GRANT_LOGIN;
		(void)str_copy(out->reason, sizeof(out->reason), word);
		return;
	}
	out->end = GRANT_FAILED;
	if (answer->status == 429 || answer->retry_after_s > 0)
		out->wait_ms = clamp(
		    answer->retry_after_s * 1000, WAIT_MIN_MS, WAIT_MAX_MS);
	(void)snprintf(out->reason, sizeof(out->reason),
	    "the token endpoint says %d", answer->status);
}

static void
take(char **field, const cJSON *json, const char *key)
{
	struct span value = span_trim(span_of(string_in(json, key)));

	secret_free(*field);
	*field = xstrndup(value.p, value.len);
}

/* Said in so many words, or by the token itself. */
static int64_t
lifetime_s(const cJSON *json, const char *access_token, int64_t now_s)
{
	const cJSON *item =
	    cJSON_GetObjectItemCaseSensitive(json, "expires_in");
	const char *text = cJSON_GetStringValue(item);
	int64_t said = 0;
	cJSON *claims;

	if (cJSON_IsNumber(item) && item->valuedouble > 0 &&
	    item->valuedouble <= EXPIRES_MAX_S)
		return (int64_t)item->valuedouble;
	if (text != NULL && str_to_int(text, 1, EXPIRES_MAX_S, &said) == 0)
		return said;
	claims = jwt_claims(access_token);
	item = cJSON_GetObjectItemCaseSensitive(claims, "exp");
	if (cJSON_IsNumber(item))
		said = (int64_t)clamp(
		    (int64_t)item->valuedouble - now_s, 0, EXPIRES_MAX_S);
	cJSON_Delete(claims);
	return said;
}

static void
read_tokens(const cJSON *json, int64_t now_s, struct grant_answer *out)
{
	take(&out->access_token, json, "access_token");
	take(&out->refresh_token, json, "refresh_token");
	take(&out->id_token, json, "id_token");
	out->expires_in_s = lifetime_s(json, out->access_token, now_s);
	if (*out->access_token != '\0') {
		out->end = GRANT_TOKENS;
		return;
	}
	out->end = GRANT_LOST;
	(void)snprintf(out->reason, sizeof(out->reason),
	    "the token endpoint gave no access token");
}

/* Some say 200 to everything, and what went wrong in the body. */
static bool
is_success(const cJSON *json, const struct fetch_answer *answer)
{
	return answer->status >= 200 && answer->status < 300 &&
	       (*error_word(json) == '\0' ||
		   *string_in(json, "access_token") != '\0');
}

static void
read_answered(
    const struct fetch_answer *answer, int64_t now_s, struct grant_answer *out)
{
	cJSON *json;

	/* What is no JSON says nothing, as an empty object would. */
	if (json_parse(answer->body, answer->len, &json, NULL) < 0)
		json = NULL;
	out->end = GRANT_FAILED;
	if (is_success(json, answer))
		read_tokens(json, now_s, out);
	else
		read_refusal(json, answer, out);
	cJSON_Delete(json);
}

void
grant_read(
    const struct fetch_answer *answer, int64_t now_s, struct grant_answer *out)
{
	*out = (struct grant_answer){ .access_token = xstrdup(""),
		.refresh_token = xstrdup(""),
		.id_token = xstrdup("") };
	if (answer->end == FETCH_ANSWERED) {
		read_answered(answer, now_s, out);
		return;
	}
	out->end = answer->end == FETCH_UNSENT ? GRANT_FAILED : GRANT_LOST;
	(void)snprintf(out->reason, sizeof(out->reason), "%s: %.40s",
	    out->end == GRANT_LOST ? "the answer was lost"
				   : "the token endpoint was not reached",
	    answer->detail);
}

void
grant_answer_fini(struct grant_answer *answer)
{
	secret_free(answer->access_token);
	secret_free(answer->refresh_token);
	secret_free(answer->id_token);
	*answer = (struct grant_answer){ 0 };
}

/* ---- merging */

/* In the order in which a reader looks for them. */
static const char *const expiry_keys[] = { "expired", "expire", "expires_at",
	"expiresAt", "expiry", "expires" };

/* An object as text, edited member by member. */
struct draft {
	struct buf text;
	const cJSON *was; /* as it was, for the kinds of its members */
	int rc;
};

static void
draft_set(struct draft *d, const char *key, const char *value)
{
	struct buf next = BUF_INIT(TEXT_MAX);

	if (d->rc == 0)
		d->rc = json_set_member(
		    d->text.data, d->text.len, key, value, &next);
	if (d->text.data != NULL)
		secret_wipe(d->text.data, d->text.cap);
	buf_fini(&d->text);
	d->text = next;
}

static void
draft_set_string(struct draft *d, const char *key, const char *s)
{
	struct buf value = BUF_INIT(VALUE_MAX);

	buf_json_string(&value, s, strlen(s));
	draft_set(d, key, buf_string(&value));
	secret_wipe(value.data, value.cap);
	buf_fini(&value);
}

static void
draft_set_number(struct draft *d, const char *key, int64_t number)
{
	char value[32];

	(void)snprintf(value, sizeof(value), "%" PRId64, number);
	draft_set(d, key, value);
}

static void
draft_set_time(struct draft *d, const char *key, int64_t unix_s)
{
	char text[32] = "";

	if (unix_s > 0)
		str_from_time(unix_s, text, sizeof(text));
	draft_set_string(d, key, text);
}

static const cJSON *
was(const struct draft *d, const char *key)
{
	return cJSON_GetObjectItemCaseSensitive(d->was, key);
}

/*
 * In the form in which it was said before. One that is not known any more is
 * spelled so that it says nothing.
 */
static void
set_expiry(struct draft *d, int64_t unix_s, const char *otherwise)
{
	const char *key = NULL;

	for (size_t i = 0; i < ARRAY_LEN(expiry_keys) && key == NULL; i++) {
		if (was(d, expiry_keys[i]) != NULL)
			key = expiry_keys[i];
	}
	if (key == NULL && unix_s > 0)
		draft_set_time(d, otherwise, unix_s);
	else if (key != NULL && !cJSON_IsNumber(was(d, key)))
		draft_set_time(d, key, unix_s);
	else if (key != NULL)
		draft_set_number(d, key,
		    was(d, key)->valuedouble > 1e12 ? unix_s * 1000 : unix_s);
}

static void
set_tokens(struct draft *d, const struct grant_answer *a, int64_t now_s,
    const char *expiry_key)
{
	draft_set_string(d, "access_token", a->access_token);
	if (*a->refresh_token != '\0')
		draft_set_string(d, "refresh_token", a->refresh_token);
	if (*a->id_token != '\0')
		draft_set_string(d, "id_token", a->id_token);
	set_expiry(
	    d, a->expires_in_s > 0 ? now_s + a->expires_in_s : 0, expiry_key);
	if (cJSON_IsNumber(was(d, "expires_in")))
		draft_set_number(d, "expires_in", a->expires_in_s);
	if (cJSON_IsNumber(was(d, "timestamp")))
		draft_set_number(d, "timestamp", now_s * 1000);
}

static void
draft_begin(struct draft *d, const char *text, size_t len, const cJSON *object)
{
	*d = (struct draft){ .was = object };
	buf_init(&d->text, TEXT_MAX);
	buf_append(&d->text, text, len);
}

static void
draft_end(struct draft *d)
{
	if (d->text.data != NULL)
		secret_wipe(d->text.data, d->text.cap);
	buf_fini(&d->text);
}

/* The tokens of the nested object, within the text of the file. */
static void
set_nested(struct draft *whole, const cJSON *file, const struct grant_answer *a,
    int64_t now_s)
{
	const char *key = object_in(file, "token") != NULL ? "token" : "Token";
	const char *text;
	struct draft inner;
	size_t len = 0;

	text = json_member_text(whole->text.data, whole->text.len, key, &len);
	if (text == NULL) {
		whole->rc = -EINVAL;
		return;
	}
	draft_begin(&inner, text, len, nested_token(file));
	set_tokens(&inner, a, now_s, "expiry");
	if (inner.rc == 0)
		draft_set(whole, key, buf_string(&inner.text));
	else
		whole->rc = inner.rc;
	draft_end(&inner);
}

int
grant_merge(const char *text, size_t len, const struct grant_answer *a,
    int64_t now_s, struct buf *out)
{
	struct draft d;
	cJSON *file;
	int rc = json_parse(text, len, &file, NULL);

	if (rc < 0)
		return rc;
	draft_begin(&d, text, len, file);
	if (*string_in(file, "refresh_token") == '\0' &&
	    *string_in(nested_token(file), "refresh_token") != '\0')
		set_nested(&d, file, a, now_s);
	else
		set_tokens(&d, a, now_s, "expired");
	draft_set_time(&d, "last_refresh", now_s);
	rc = d.rc;
	if (rc == 0)
		buf_append(out, d.text.data, d.text.len);
	draft_end(&d);
	cJSON_Delete(file);
	return rc == 0 && out->failed ? -EINVAL : rc;
}

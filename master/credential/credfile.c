/* SPDX-License-Identifier: MIT */
/* Credential files; see credfile.h. */
#include "master/credential/credfile.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "common/alloc.h"
#include "common/str.h"
#include "common/utf8.h"
#include "master/credential/atomic_file.h"
#include "master/credential/base_url.h"
#include "master/credential/json_text.h"
#include "master/credential/jwt.h"
#include "master/credential/time_text.h"

enum {
	WEIGHT_MAX = 1000000,
	RETRY_MAX = 100,
	NAME_LEN_MAX = 255,
	INTERVAL_MAX_S = 366 * 24 * 3600,
	EDIT_TRIES = 4
};

static const char suffix[] = ".json";

/* Where the Codex token keeps the account and its plan. */
static const char codex_claim[] = "https://api.openai.com/auth";

/* Keys that older files spell with hyphens; the new spelling wins. */
static const struct {
	const char *key, *legacy;
} legacy_keys[] = {
	{ "api_key", "api-key" },
	{ "base_url", "base-url" },
	{ "disable_cooling", "disable-cooling" },
	{ "excluded_models", "excluded-models" },
	{ "model_aliases", "model-aliases" },
	{ "proxy_url", "proxy-url" },
	{ "request_retry", "request-retry" },
};

/* In the order in which they are looked for. */
static const char *const expiry_keys[] = { "expired", "expire", "expires_at",
	"expiresAt", "expiry", "expires" };

static const char *const last_refresh_keys[] = { "last_refresh", "lastRefresh",
	"last_refreshed_at", "lastRefreshedAt" };

static const char *const interval_keys[] = { "refresh_interval_seconds",
	"refreshIntervalSeconds", "refresh_interval", "refreshInterval" };

struct reader {
	const cJSON *file;
	const cJSON *token; /* the nested object, or NULL */
	struct credential *c;
	struct buf *why;
};

bool
credfile_is_name(const char *name)
{
	size_t len = strlen(name);
	size_t tail = sizeof(suffix) - 1;
	size_t i, n;

	if (name[0] == '.' || len <= tail || len > NAME_LEN_MAX ||
	    strcmp(name + len - tail, suffix) != 0)
		return false;
	for (i = 0; i < len; i += n) {
		n = utf8_sequence((const unsigned char *)name + i, len - i);
		if (n == 0 || iscntrl((unsigned char)name[i]))
			return false;
	}
	return true;
}

static int
read_all(int fd, struct buf *text)
{
	ssize_t n;
	int rc;

	do {
		rc = buf_reserve(text, 16384);
		if (rc < 0)
			return rc == -E2BIG ? -EFBIG : rc;
		n = read(fd, text->data + text->len, 16384);
		if (n < 0 && errno != EINTR)
			return -errno;
		text->len += n > 0 ? (size_t)n : 0;
	} while (n != 0);
	return text->len > CREDFILE_BYTES_MAX ? -EFBIG : 0;
}

int
credfile_read(int dirfd, const char *name, struct buf *text, struct stat *st)
{
	AUTO_CLOSE int fd = -1;

	buf_clear(text);
	fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return -errno;
	if (fstat(fd, st) < 0)
		return -errno;
	if (!S_ISREG(st->st_mode))
		return -ENOENT;
	if (st->st_size > CREDFILE_BYTES_MAX)
		return -EFBIG;
	return read_all(fd, text);
}

static const cJSON *
member(const cJSON *object, const char *key)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
	size_t i;

	for (i = 0; item == NULL && i < ARRAY_LEN(legacy_keys); i++) {
		if (strcmp(legacy_keys[i].key, key) == 0)
			item = cJSON_GetObjectItemCaseSensitive(
			    object, legacy_keys[i].legacy);
	}
	return item;
}

/* The string of a member, "" if it is absent or none. */
static const char *
string_of(const cJSON *object, const char *key)
{
	const char *s = cJSON_GetStringValue(member(object, key));

	return s != NULL ? s : "";
}

/* Likewise without blanks at its ends; the caller owns it. */
static char *
trimmed(const char *s)
{
	struct span span = span_trim(span_of(s));

	return xstrndup(span.p, span.len);
}

/* Of the file, else of its nested token. */
static const char *
token_string(const struct reader *r, const char *key)
{
	const char *s = string_of(r->file, key);

	return *s != '\0' ? s : string_of(r->token, key);
}

static void
remark(struct reader *r, const char *what)
{
	if (strstr(buf_string(r->why), what) == NULL)
		buf_printf(r->why, "%s%s", r->why->len > 0 ? "; " : "", what);
}

/* A value that a header can carry. */
static bool
is_field_value(const char *s)
{
	for (; *s != '\0'; s++) {
		if (((unsigned char)*s < 0x20 && *s != '\t') || *s == 0x7f)
			return false;
	}
	return true;
}

static bool
is_field_name(const char *s)
{
	static const char marks[] = "!#$%&'*+-.^_`|~";

	if (*s == '\0')
		return false;
	for (; *s != '\0'; s++) {
		if (!(isascii((unsigned char)*s) &&
			(isalnum((unsigned char)*s) ||
			    strchr(marks, *s) != NULL)))
			return false;
	}
	return true;
}

/* A number or the text of a whole one. Whether it was; *exact: no fraction. */
static bool
number_of(const cJSON *item, double *value, bool *exact)
{
	AUTO_FREE char *text = NULL;
	int64_t whole;

	*exact = true;
	if (cJSON_IsNumber(item)) {
		*value = item->valuedouble;
		*exact = *value == trunc(*value);
		return isfinite(*value);
	}
	if (!cJSON_IsString(item))
		return false;
	text = trimmed(item->valuestring);
	if (str_to_int(text[0] == '+' ? text + 1 : text, INT64_MIN + 1,
		INT64_MAX, &whole) < 0)
		return false;
	*value = (double)whole;
	return true;
}

static void
read_priority(struct reader *r)
{
	double value;
	bool exact;

	if (number_of(member(r->file, "priority"), &value, &exact) &&
	    value >= INT32_MIN && value <= INT32_MAX)
		r->c->priority = (int)value;
}

/* 0, or -EINVAL: a weight is the one number that is never guessed. */
static int
read_weight(struct reader *r)
{
	const cJSON *item = member(r->file, "weight");
	double value;
	bool exact;

	if (item == NULL || cJSON_IsNull(item))
		return 0;
	if (!number_of(item, &value, &exact) || !exact || value > WEIGHT_MAX) {
		remark(r, "has a \"weight\" that is no whole number up to "
			  "1000000");
		return -EINVAL;
	}
	r->c->weight = value > 0 ? (int)value : 0;
	return 0;
}

static void
read_request_retry(struct reader *r)
{
	double value;
	bool exact;

	if (number_of(member(r->file, "request_retry"), &value, &exact) &&
	    exact && value >= 0)
		r->c->request_retry =
		    value < RETRY_MAX ? (int)value : RETRY_MAX;
}

static void
read_disable_cooling(struct reader *r)
{
	const cJSON *item = member(r->file, "disable_cooling");
	const char *text = cJSON_GetStringValue(item);
	bool known = true;
	bool on = false;

	if (cJSON_IsBool(item))
		on = cJSON_IsTrue(item);
	else if (cJSON_IsNumber(item))
		on = item->valuedouble != 0;
	else if (text != NULL && strcasecmp(text, "true") == 0)
		on = true;
	else
		known = text != NULL && strcasecmp(text, "false") == 0;
	if (known)
		r->c->disable_cooling = on ? TRI_TRUE : TRI_FALSE;
}

/* Blanks and slashes at the ends do not count; one inside makes it void. */
static void
read_prefix(struct reader *r)
{
	const char *s = string_of(r->file, "prefix");
	AUTO_FREE char *prefix = NULL;
	size_t len;

	s += strspn(s, " \t/");
	len = strlen(s);
	while (len > 0 && strchr(" \t/", s[len - 1]) != NULL)
		len--;
	prefix = xstrndup(s, len);
	if (strchr(prefix, '/') != NULL)
		remark(r, "has a \"prefix\" with a slash inside, which is "
			  "ignored");
	else
		credential_set(&r->c->prefix, prefix);
}

static void
read_headers(struct reader *r)
{
	const cJSON *item;

	cJSON_ArrayForEach (item, member(r->file, "headers")) {
		AUTO_FREE char *name = NULL;
		AUTO_FREE char *value = NULL;

		if (!cJSON_IsString(item) || item->string == NULL)
			continue;
		name = trimmed(item->string);
		value = trimmed(item->valuestring);
		if (*name == '\0' || *value == '\0')
			continue;
		if (is_field_name(name) && is_field_value(value))
			credential_add_header(r->c, name, value);
		else
			remark(r, "has \"headers\" that are none, which are "
				  "ignored");
	}
}

static void
read_excluded(struct reader *r)
{
	const cJSON *item;

	cJSON_ArrayForEach (item, member(r->file, "excluded_models")) {
		AUTO_FREE char *pattern = NULL;

		if (!cJSON_IsString(item))
			continue;
		pattern = trimmed(item->valuestring);
		if (*pattern != '\0')
			str_list_add(&r->c->excluded, pattern);
	}
}

static bool
has_alias(const struct model_rules *rules, const char *alias)
{
	size_t i;

	for (i = 0; i < rules->n; i++) {
		if (strcasecmp(rules->v[i].alias, alias) == 0)
			return true;
	}
	return false;
}

static void
read_aliases(struct reader *r)
{
	const cJSON *item;

	cJSON_ArrayForEach (item, member(r->file, "model_aliases")) {
		AUTO_FREE char *name = trimmed(string_of(item, "name"));
		AUTO_FREE char *alias = trimmed(string_of(item, "alias"));

		if (*name == '\0' || *alias == '\0' ||
		    strcasecmp(name, alias) == 0 ||
		    has_alias(&r->c->aliases, alias))
			continue;
		model_rules_add(&r->c->aliases, name, alias,
		    cJSON_IsTrue(member(item, "fork")));
	}
}

/* The first of these members that is a time. */
static bool
time_in(const cJSON *object, const char *const *keys, size_t n, int64_t *ms)
{
	const cJSON *item;
	size_t i;

	for (i = 0; i < n; i++) {
		item = cJSON_GetObjectItemCaseSensitive(object, keys[i]);
		if (cJSON_IsNumber(item)) {
			*ms = time_from_number(item->valuedouble);
			return true;
		}
		if (cJSON_IsString(item) &&
		    time_from_text(item->valuestring, ms) == 0)
			return true;
	}
	return false;
}

static int64_t
interval_of(const cJSON *item)
{
	int64_t ms = 0;

	if (cJSON_IsNumber(item) && item->valuedouble > 0 &&
	    item->valuedouble < INTERVAL_MAX_S)
		ms = (int64_t)(item->valuedouble * 1000);
	else if (cJSON_IsString(item) &&
		 str_to_duration_ms(item->valuestring, &ms) < 0)
		ms = 0;
	return ms > 0 ? ms : 0;
}

/* What a refresh goes by. */
static void
read_times(struct reader *r)
{
	struct credential *c = r->c;
	size_t i;

	if (!time_in(
		r->file, expiry_keys, ARRAY_LEN(expiry_keys), &c->expires_ms))
		(void)time_in(r->token, expiry_keys, ARRAY_LEN(expiry_keys),
		    &c->expires_ms);
	(void)time_in(r->file, last_refresh_keys, ARRAY_LEN(last_refresh_keys),
	    &c->last_refresh_ms);
	for (i = 0; i < ARRAY_LEN(interval_keys) && c->refresh_interval_ms == 0;
	     i++)
		c->refresh_interval_ms =
		    interval_of(member(r->file, interval_keys[i]));
}

/* 0, or -EINVAL: requests must not go where nobody meant them to. */
static int
read_base_url(struct reader *r)
{
	const char *text = string_of(r->file, "base_url");
	AUTO_FREE char *url = NULL;

	if (text[strspn(text, " \t")] == '\0')
		return 0;
	url = base_url_clean(text);
	if (url == NULL) {
		remark(r, "has a \"base_url\" that is no http or https URL");
		return -EINVAL;
	}
	credential_set(&r->c->base_url, url);
	return 0;
}

/* 0, or -EINVAL for a secret that no header can carry. */
static int
read_secret(struct reader *r)
{
	const char *token = token_string(r, "access_token");
	AUTO_FREE char *secret = NULL;
	struct span refresh;

	if (r->c->auth == AUTH_API_KEY)
		token = string_of(r->file, "api_key");
	secret = trimmed(token);
	if (!is_field_value(secret)) {
		secret_wipe(secret, strlen(secret));
		remark(r, "holds a token with control characters");
		return -EINVAL;
	}
	credential_set(&r->c->secret, secret);
	secret_wipe(secret, strlen(secret));
	refresh = span_trim(span_of(token_string(r, "refresh_token")));
	digest_of(refresh.p, refresh.len, &r->c->refresh_token);
	r->c->refreshable = refresh.len > 0;
	r->c->signs = !r->c->refreshable && r->c->auth == AUTH_OAUTH &&
		      cJSON_IsObject(member(r->file, "service_account"));
	r->c->refreshable = r->c->refreshable || r->c->signs;
	return 0;
}

/* Account and plan of a Codex login, from the file or from its id token. */
static void
read_codex(struct reader *r)
{
	cJSON *claims = jwt_claims(token_string(r, "id_token"));
	const cJSON *auth = member(claims, codex_claim);
	const char *account = token_string(r, "account_id");
	AUTO_FREE char *plan = NULL;

	if (*account == '\0')
		account = string_of(auth, "chatgpt_account_id");
	if (is_field_value(account))
		credential_set(&r->c->account_id, account);
	plan = trimmed(string_of(auth, "chatgpt_plan_type"));
	credential_set(
	    &r->c->catalog, credential_catalog(PROVIDER_CODEX, plan));
	cJSON_Delete(claims);
}

static bool
is_label(const char *s)
{
	return *s != '\0' &&
	       s[strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-.:")] == '\0';
}

/* A service account says by project and place where it is served. */
static void
read_vertex(struct reader *r)
{
	const char *project = string_of(r->file, "project_id");
	const char *place = string_of(r->file, "location");
	bool global;
	AUTO_FREE char *url = NULL;

	if (*project == '\0')
		project = string_of(r->file, "project");
	if (*project == '\0')
		project =
		    string_of(member(r->file, "service_account"), "project_id");
	if (*place == '\0')
		place = "us-central1";
	if (!r->c->signs || *r->c->base_url != '\0' || !is_label(project) ||
	    !is_label(place))
		return;
	global = strcmp(place, "global") == 0;
	url = xasprintf("https://%s%saiplatform.googleapis.com"
			"/v1/projects/%s/locations/%s",
	    global ? "" : place, global ? "" : "-", project, place);
	credential_set(&r->c->base_url, url);
}

static void
find_fault(struct reader *r)
{
	struct credential *c = r->c;

	if (*c->base_url == '\0')
		c->fault = "it has no base_url";
	else if (*c->secret == '\0' && c->refreshable)
		c->fault = credential_no_token;
	else if (*c->secret == '\0')
		c->fault = "it has no access token";
}

static void
read_label(struct reader *r)
{
	AUTO_FREE char *email = trimmed(string_of(r->file, "email"));

	if (*email != '\0')
		credential_set(&r->c->label, email);
}

static int
read_members(struct reader *r)
{
	int rc;

	rc = read_secret(r);
	if (rc == 0)
		rc = read_base_url(r);
	if (rc == 0)
		rc = read_weight(r);
	if (rc < 0)
		return rc;
	r->c->disabled = cJSON_IsTrue(member(r->file, "disabled"));
	credential_set(&r->c->proxy_url, string_of(r->file, "proxy_url"));
	read_label(r);
	read_prefix(r);
	read_priority(r);
	read_request_retry(r);
	read_disable_cooling(r);
	read_headers(r);
	read_excluded(r);
	read_aliases(r);
	read_times(r);
	if (r->c->provider->id == PROVIDER_CODEX)
		read_codex(r);
	if (r->c->provider->id == PROVIDER_VERTEX)
		read_vertex(r);
	find_fault(r);
	return 0;
}

/* The row of the file's type. 0, CREDFILE_IGNORED or -EINVAL. */
static int
find_provider(struct reader *r, const struct provider **out)
{
	AUTO_FREE char *type = trimmed(string_of(r->file, "type"));

	if (*type == '\0') {
		remark(r, "has no \"type\"");
		return -EINVAL;
	}
	*out = provider_find(type);
	if (*out != NULL && (*out)->id != PROVIDER_COMPAT)
		return 0;
	buf_printf(r->why, "is of type %.40s, which is not served from a file",
	    is_field_value(type) ? type : "(unprintable)");
	return CREDFILE_IGNORED;
}

/* An access token, or in its absence an API key. */
static enum auth_kind
kind_of(const struct reader *r)
{
	if (*token_string(r, "access_token") == '\0' &&
	    *string_of(r->file, "api_key") != '\0')
		return AUTH_API_KEY;
	return AUTH_OAUTH;
}

static int
read_file(struct reader *r, const char *name, struct credential **out)
{
	const struct provider *provider;
	int rc;

	if (!cJSON_IsObject(r->file)) {
		remark(r, "is not a JSON object");
		return -EINVAL;
	}
	r->token = member(r->file, "token");
	if (!cJSON_IsObject(r->token))
		r->token = member(r->file, "Token");
	rc = find_provider(r, &provider);
	if (rc != 0)
		return rc;
	r->c = credential_new(provider, kind_of(r), name);
	r->c->source = CREDENTIAL_FROM_FILE;
	rc = read_members(r);
	if (rc == 0)
		*out = r->c;
	else
		credential_unref(r->c);
	return rc;
}

/* Of all of the text but the value of `disabled`. */
static void
digest_identity(const char *text, size_t len, struct digest *out)
{
	struct digest_stream *s = digest_stream_new();
	size_t cut_len = 0;
	const char *cut = json_member_text(text, len, "disabled", &cut_len);
	size_t head = cut != NULL ? (size_t)(cut - text) : len;

	digest_stream_add(s, text, head);
	digest_stream_add(s, text + head + cut_len, len - head - cut_len);
	digest_stream_end(s, out);
}

int
credfile_parse(const char *name, const char *text, size_t len,
    struct credential **out, struct buf *why)
{
	struct reader r = { .why = why };
	const char *reason;
	cJSON *file;
	int rc;

	rc = json_parse(text, len, &file, &reason);
	if (rc < 0) {
		remark(&r, reason);
		return rc;
	}
	r.file = file;
	rc = read_file(&r, name, out);
	if (rc == 0)
		digest_identity(text, len, &(*out)->identity);
	cJSON_Delete(file);
	return rc;
}

void
credfile_wipe(struct buf *text)
{
	if (text->data != NULL)
		secret_wipe(text->data, text->cap);
	buf_fini(text);
}

static int
edit_once(const char *dir, const char *name, credfile_edit_fn *edit, void *ctx,
    struct buf *text)
{
	struct buf was = BUF_INIT(2 * CREDFILE_BYTES_MAX);
	AUTO_CLOSE int dirfd = -1;
	struct stat st;
	int rc;

	dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0)
		return -errno;
	rc = credfile_read(dirfd, name, &was, &st);
	if (rc == 0)
		rc = edit(ctx, &was, text);
	if (rc == 0)
		rc = atomic_file_replace(dir, name, &was, text);
	credfile_wipe(&was);
	return rc;
}

int
credfile_edit(const char *dir, const char *name, credfile_edit_fn *edit,
    void *ctx, struct buf *text)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	int rc = -EAGAIN;

	(void)pthread_mutex_lock(&lock);
	for (int tries = 0; rc == -EAGAIN && tries < EDIT_TRIES; tries++) {
		buf_clear(text);
		rc = edit_once(dir, name, edit, ctx, text);
	}
	(void)pthread_mutex_unlock(&lock);
	return rc;
}

static int
set_disabled(void *ctx, const struct buf *was, struct buf *now)
{
	const bool *disabled = ctx;

	return json_set_member(
	    was->data, was->len, "disabled", *disabled ? "true" : "false", now);
}

int
credfile_set_disabled(
    const char *dir, const char *name, bool disabled, struct buf *text)
{
	return credfile_edit(dir, name, set_disabled, &disabled, text);
}

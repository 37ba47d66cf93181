/* SPDX-License-Identifier: MIT */
/* A credential in memory; see credential.h. */
#include "master/credential/credential.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/alloc.h"
#include "common/attr.h"

/* The first row of a provider is its default. */
static const struct {
	enum provider_id provider;
	const char *plan;
	const char *section;
} catalogs[] = {
	{ PROVIDER_CLAUDE, "", "claude" },
	{ PROVIDER_CODEX, "pro", "codex-pro" },
	{ PROVIDER_CODEX, "plus", "codex-plus" },
	{ PROVIDER_CODEX, "team", "codex-team" },
	{ PROVIDER_CODEX, "business", "codex-team" },
	{ PROVIDER_CODEX, "go", "codex-team" },
	{ PROVIDER_CODEX, "free", "codex-free" },
	{ PROVIDER_GEMINI, "", "gemini" },
	{ PROVIDER_VERTEX, "", "vertex" },
	{ PROVIDER_KIMI, "", "kimi" },
	{ PROVIDER_XAI, "", "xai" },
};

const char credential_no_token[] = "it has no access token yet";

const char *
credential_catalog(enum provider_id provider, const char *plan)
{
	const char *section = NULL;
	size_t i;

	for (i = 0; i < ARRAY_LEN(catalogs); i++) {
		if (catalogs[i].provider != provider)
			continue;
		if (section == NULL)
			section = catalogs[i].section;
		if (plan != NULL && strcasecmp(catalogs[i].plan, plan) == 0)
			return catalogs[i].section;
	}
	return section != NULL ? section : "";
}

struct credential *
credential_new(
    const struct provider *provider, enum auth_kind auth, const char *id)
{
	struct credential *c = xcalloc(1, sizeof(*c));
	bool oauth = auth == AUTH_OAUTH;
	const char *base = oauth ? provider->base_oauth : provider->base_key;

	c->refs = 1;
	c->provider = provider;
	c->auth = auth;
	c->auth_style = oauth ? provider->style_oauth : provider->style_key;
	c->dialects = provider->dialects;
	c->weight = 1;
	c->request_retry = -1;
	c->disable_cooling = TRI_UNSET;
	c->id = xstrdup(id);
	credential_set(&c->label, provider->name);
	credential_set(&c->provider_name, provider->name);
	credential_set(&c->base_url, base);
	credential_set(&c->proxy_url, NULL);
	credential_set(&c->secret, NULL);
	credential_set(&c->account_id, NULL);
	credential_set(&c->prefix, NULL);
	credential_set(&c->catalog, credential_catalog(provider->id, NULL));
	credential_set(&c->listing, NULL);
	return c;
}

struct credential *
credential_ref(struct credential *c)
{
	c->refs++;
	return c;
}

static void
header_rules_clear(struct header_rules *rules)
{
	size_t i;

	for (i = 0; i < rules->n; i++) {
		free(rules->v[i].name);
		secret_free(rules->v[i].value);
	}
	free(rules->v);
}

static void
model_rules_clear(struct model_rules *rules)
{
	size_t i;

	for (i = 0; i < rules->n; i++) {
		free(rules->v[i].name);
		free(rules->v[i].alias);
	}
	free(rules->v);
}

static void
str_list_clear(struct str_list *list)
{
	size_t i;

	for (i = 0; i < list->n; i++)
		free(list->v[i]);
	free(list->v);
}

static void
error_rules_clear(struct error_rules *rules)
{
	size_t i;

	for (i = 0; i < rules->n; i++) {
		str_list_clear(&rules->v[i].match);
		str_list_clear(&rules->v[i].match_regex);
	}
	free(rules->v);
}

void
credential_unref(struct credential *c)
{
	if (c == NULL || --c->refs > 0)
		return;
	free(c->id);
	free(c->label);
	free(c->provider_name);
	free(c->base_url);
	secret_free(c->proxy_url);
	secret_free(c->secret);
	free(c->account_id);
	free(c->prefix);
	free(c->catalog);
	free(c->listing);
	header_rules_clear(&c->headers);
	model_rules_clear(&c->models);
	model_rules_clear(&c->aliases);
	str_list_clear(&c->excluded);
	error_rules_clear(&c->errors);
	free(c);
}

/* All that credential_unref() frees is copied. */
struct credential *
credential_with_token(
    const struct credential *c, const char *token, int64_t expires_ms)
{
	struct credential *copy = xmalloc(sizeof(*copy));

	*copy = *c;
	copy->refs = 1;
	copy->id = xstrdup(c->id);
	copy->label = xstrdup(c->label);
	copy->provider_name = xstrdup(c->provider_name);
	copy->base_url = xstrdup(c->base_url);
	copy->proxy_url = xstrdup(c->proxy_url);
	copy->secret = xstrdup(token);
	copy->account_id = xstrdup(c->account_id);
	copy->prefix = xstrdup(c->prefix);
	copy->catalog = xstrdup(c->catalog);
	copy->listing = xstrdup(c->listing);
	copy->headers = (struct header_rules){ 0 };
	copy->models = (struct model_rules){ 0 };
	copy->aliases = (struct model_rules){ 0 };
	copy->excluded = (struct str_list){ 0 };
	copy->errors = (struct error_rules){ 0 };
	header_rules_copy(&copy->headers, &c->headers);
	model_rules_copy(&copy->models, &c->models);
	model_rules_copy(&copy->aliases, &c->aliases);
	str_list_copy(&copy->excluded, &c->excluded);
	error_rules_copy(&copy->errors, &c->errors);
	copy->expires_ms = expires_ms;
	if (copy->fault == credential_no_token)
		copy->fault = NULL;
	return copy;
}

void
credential_set(char **field, const char *value)
{
	char *copy = xstrdup(value != NULL ? value : "");

	secret_free(*field);
	*field = copy;
}

void
credential_add_header(struct credential *c, const char *name, const char *value)
{
	struct header_rules *rules = &c->headers;

	rules->v = xreallocarray(rules->v, rules->n + 1, sizeof(*rules->v));
	rules->v[rules->n++] =
	    (struct header_rule){ xstrdup(name), xstrdup(value) };
}

void
model_rules_add(
    struct model_rules *rules, const char *name, const char *alias, bool fork)
{
	rules->v = xreallocarray(rules->v, rules->n + 1, sizeof(*rules->v));
	rules->v[rules->n++] =
	    (struct model_rule){ xstrdup(name), xstrdup(alias), fork };
}

void
str_list_add(struct str_list *list, const char *s)
{
	list->v = xreallocarray(list->v, list->n + 1, sizeof(*list->v));
	list->v[list->n++] = xstrdup(s);
}

void
header_rules_copy(struct header_rules *to, const struct header_rules *from)
{
	size_t i;

	to->v = xcalloc(from->n + 1, sizeof(*to->v));
	for (i = 0; i < from->n; i++)
		to->v[to->n++] = (struct header_rule){ xstrdup(from->v[i].name),
			xstrdup(from->v[i].value) };
}

void
model_rules_copy(struct model_rules *to, const struct model_rules *from)
{
	size_t i;

	for (i = 0; i < from->n; i++)
		model_rules_add(
		    to, from->v[i].name, from->v[i].alias, from->v[i].fork);
}

void
str_list_copy(struct str_list *to, const struct str_list *from)
{
	size_t i;

	for (i = 0; i < from->n; i++)
		str_list_add(to, from->v[i]);
}

void
error_rules_copy(struct error_rules *to, const struct error_rules *from)
{
	size_t i;

	to->v = xreallocarray(to->v, to->n + from->n, sizeof(*to->v));
	for (i = 0; i < from->n; i++) {
		struct error_rule *rule = &to->v[to->n++];

		*rule = (struct error_rule){ .status = from->v[i].status,
			.action = from->v[i].action };
		str_list_copy(&rule->match, &from->v[i].match);
		str_list_copy(&rule->match_regex, &from->v[i].match_regex);
	}
}

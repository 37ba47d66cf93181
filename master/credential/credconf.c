/* SPDX-License-Identifier: MIT */
/* Sections of the configuration as credentials; see credconf.h. */
#include "master/credential/credconf.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "common/alloc.h"
#include "common/str.h"
#include "master/credential/base_url.h"
#include "master/credential/name_map.h"
#include "master/registry/catalog.h"

enum {
	SHORT_HASH = 12,
	NAME_LEN_MAX = 128 /* of a section, in ids: they have a limit */
};

/* Which parts beyond key, base-url and proxy-url an id depends on. */
static const bool id_has_prefix_and_headers[PROVIDER_COMPAT] = {
	[PROVIDER_CLAUDE] = true,
	[PROVIDER_CODEX] = true,
	[PROVIDER_GEMINI] = true,
};

struct id_count {
	char *id;
	unsigned n;
};

struct emitter {
	const struct config *config;
	credconf_fn *fn;
	void *ctx;
	struct name_map seen; /* struct id_count */
};

static void
hash_part(struct digest_stream *s, const char *part)
{
	struct span trimmed = span_trim(span_of(part));

	digest_stream_add(s, "", 1);
	digest_stream_add(s, trimmed.p, trimmed.len);
}

static int
compare_headers(const void *a, const void *b)
{
	const struct header_rule *x = a;
	const struct header_rule *y = b;
	int order = strcasecmp(x->name, y->name);

	return order != 0 ? order : strcmp(x->value, y->value);
}

static void
hash_headers(struct digest_stream *s, const struct header_rules *rules)
{
	struct header_rules sorted = { 0 };
	size_t i;

	sorted.v = xcalloc(rules->n + 1, sizeof(*sorted.v));
	if (rules->n > 0)
		memcpy(sorted.v, rules->v, rules->n * sizeof(*sorted.v));
	qsort(sorted.v, rules->n, sizeof(*sorted.v), compare_headers);
	for (i = 0; i < rules->n; i++) {
		AUTO_FREE char *part =
		    xasprintf("%s:%s", sorted.v[i].name, sorted.v[i].value);

		hash_part(s, part);
	}
	free(sorted.v);
}

static char *
finish_id(const char *kind, struct digest_stream *s)
{
	char hex[2 * DIGEST_LEN + 1];
	struct digest digest;

	digest_stream_end(s, &digest);
	str_hex(digest.bytes, DIGEST_LEN, hex);
	return xasprintf("%s:%.*s", kind, SHORT_HASH, hex);
}

static struct digest_stream *
begin_id(const char *kind)
{
	struct digest_stream *s = digest_stream_new();

	digest_stream_add(s, kind, strlen(kind));
	return s;
}

static char *
key_id(const struct provider *provider, const struct key_entry *e)
{
	AUTO_FREE char *kind = xasprintf("%s:apikey", provider->name);
	struct digest_stream *s = begin_id(kind);

	hash_part(s, e->api_key);
	hash_part(s, e->base_url);
	hash_part(s, e->proxy_url);
	if (id_has_prefix_and_headers[provider->id]) {
		hash_part(s, e->prefix);
		hash_headers(s, &e->headers);
	}
	return finish_id(kind, s);
}

/* e is NULL for a section without keys. */
static char *
compat_id(const struct compat_section *section, const struct key_entry *e)
{
	AUTO_FREE char *kind =
	    xasprintf("openai-compatibility:%.*s", NAME_LEN_MAX, section->name);
	struct digest_stream *s;
	char *p;

	for (p = kind; *p != '\0'; p++)
		*p = (char)tolower((unsigned char)*p);
	s = begin_id(kind);
	if (e != NULL)
		hash_part(s, e->api_key);
	hash_part(s, section->base_url);
	if (e != NULL)
		hash_part(s, e->proxy_url);
	return finish_id(kind, s);
}

/* The id itself for the first of a kind, then id-1, id-2; takes it over. */
static char *
unique_id(struct emitter *em, char *id)
{
	struct id_count *seen = name_map_find(&em->seen, id);

	if (seen == NULL) {
		seen = xcalloc(1, sizeof(*seen));
		seen->id = id;
		(void)name_map_put(&em->seen, seen);
		return xstrdup(id);
	}
	free(id);
	return xasprintf("%s-%u", seen->id, ++seen->n);
}

static struct credential *
new_credential(struct emitter *em, const struct provider *provider, char *id,
    const char *key)
{
	AUTO_FREE char *unique = unique_id(em, id);
	struct credential *c = credential_new(
	    provider, *key != '\0' ? AUTH_API_KEY : AUTH_NONE, unique);

	c->source = CREDENTIAL_FROM_CONFIG;
	credential_set(&c->secret, key);
	return c;
}

static void
set_base(struct credential *c, const char *base_url)
{
	AUTO_FREE char *clean = base_url_clean(base_url);

	if (clean != NULL)
		credential_set(&c->base_url, clean);
	if (*c->base_url == '\0')
		c->fault = "it has no base-url";
}

/* What is listed for a credential is known under this name. */
static void
set_listing(const struct emitter *em, struct credential *c, const char *whose)
{
	AUTO_FREE char *name =
	    xasprintf("%s%s %s", CATALOG_LISTED, whose, c->base_url);

	if (em->config->discover_models && c->provider->listing != NULL &&
	    c->models.n == 0 && *c->base_url != '\0')
		credential_set(&c->listing, name);
}

static void
emit_key(struct emitter *em, const struct provider *provider,
    const struct key_entry *e)
{
	AUTO_FREE char *label = xasprintf("%s-apikey", provider->name);
	struct credential *c =
	    new_credential(em, provider, key_id(provider, e), e->api_key);

	credential_set(&c->label, label);
	set_base(c, e->base_url);
	credential_set(&c->proxy_url, e->proxy_url);
	credential_set(&c->prefix, e->prefix);
	c->priority = e->priority;
	c->weight = e->weight;
	c->request_retry = e->request_retry;
	c->disable_cooling = e->disable_cooling;
	header_rules_copy(&c->headers, &e->headers);
	model_rules_copy(&c->models, &e->models);
	str_list_copy(&c->excluded, &e->excluded_models);
	error_rules_copy(&c->errors, &e->errors);
	set_listing(em, c, c->id);
	em->fn(em->ctx, c);
}

static void
emit_compat(struct emitter *em, const struct compat_section *section,
    const struct key_entry *e)
{
	const char *key = e != NULL ? e->api_key : "";
	struct credential *c = new_credential(
	    em, provider_get(PROVIDER_COMPAT), compat_id(section, e), key);

	credential_set(&c->label, section->name);
	credential_set(&c->provider_name, section->name);
	set_base(c, section->base_url);
	credential_set(&c->proxy_url, e != NULL ? e->proxy_url : "");
	credential_set(&c->prefix, section->prefix);
	if (section->responses)
		c->dialects |= DIALECT_BIT(DIALECT_RESPONSES);
	c->disabled = section->disabled;
	c->priority = section->priority;
	c->weight = e != NULL ? e->weight : 1;
	c->request_retry = section->request_retry;
	c->disable_cooling = section->disable_cooling;
	header_rules_copy(&c->headers, &section->headers);
	model_rules_copy(&c->models, &section->models);
	str_list_copy(&c->excluded, &section->excluded_models);
	error_rules_copy(&c->errors, &section->errors);
	set_listing(em, c, section->name);
	em->fn(em->ctx, c);
}

static void
emit_section(struct emitter *em, const struct compat_section *section)
{
	size_t i;

	if (section->keys.n == 0)
		emit_compat(em, section, NULL);
	for (i = 0; i < section->keys.n; i++)
		emit_compat(em, section, &section->keys.v[i]);
}

static void
forget_ids(struct emitter *em)
{
	struct id_count *seen;
	size_t i;

	for (i = 0; i < em->seen.n; i++) {
		seen = em->seen.v[i];
		free(seen->id);
		free(seen);
	}
	name_map_fini(&em->seen);
}

void
credconf_each(const struct config *config, credconf_fn *fn, void *ctx)
{
	struct emitter em = { .config = config, .fn = fn, .ctx = ctx };
	const struct provider *provider;
	size_t i, id;

	for (id = 0; id < PROVIDER_COMPAT; id++) {
		provider = provider_get((enum provider_id)id);
		for (i = 0; i < config->keys[id].n; i++)
			emit_key(&em, provider, &config->keys[id].v[i]);
	}
	for (i = 0; i < config->compat.n; i++)
		emit_section(&em, &config->compat.v[i]);
	forget_ids(&em);
}

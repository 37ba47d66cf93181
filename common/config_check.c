/* SPDX-License-Identifier: MIT */
/*
 * What one row cannot see: rules across settings, and what a default leaves
 * open until the machine is known.
 */
#include "common/config.h"

#include <errno.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "build.h"
#include "common/address.h"
#include "common/alloc.h"
#include "common/config_table.h"
#include "common/proxy.h"
#include "common/str.h"
#include "common/unicode.h"

/* The setting at a path, for its line; NULL where the default applies. */
static const config_setting_t *
at(const config_t *parsed, const char *path)
{
	return config_lookup(parsed, path);
}

static const config_setting_t *
element(const config_t *parsed, const char *path, size_t i)
{
	const config_setting_t *list = at(parsed, path);

	return list != NULL ? config_setting_get_elem(list, (unsigned)i) : NULL;
}

static void
replace(char **s, const char *value)
{
	free(*s);
	*s = xstrdup(value);
}

static void
resolve_defaults(struct config *c)
{
	long cpus;

	if (*c->models_file == '\0')
		replace(&c->models_file, PATH_MODELS);
	/* To name the default is no more than to leave it as it is. */
	c->auth_dir_given =
	    strcmp(c->auth_dir, config_default("auth-dir")) != 0;
	c->models_file_given = strcmp(c->models_file, PATH_MODELS) != 0;
	if (c->workers == 0) {
		cpus = sysconf(_SC_NPROCESSORS_ONLN);
		c->workers = cpus < 1 ? 1 : cpus > 64 ? 64 : (int)cpus;
	}
}

/* Whether every listener is reachable from this machine only. */
static bool
check_listen(
    struct config_loader *l, const struct config *c, const config_t *parsed)
{
	struct address address;
	bool loopback = true;
	size_t i;

	for (i = 0; i < c->listen.n; i++) {
		if (address_parse(c->listen.v[i], &address) < 0)
			config_error(l, element(parsed, "listen", i),
			    "\"listen\": \"%s\" is no address; write "
			    "host:port, [v6]:port or unix:PATH",
			    c->listen.v[i]);
		else
			loopback = loopback && address.loopback;
	}
	return loopback;
}

static void
check_clients(struct config_loader *l, const struct config *c,
    const config_t *parsed, bool loopback)
{
	const config_setting_t *keys = at(parsed, "api-keys");

	if (c->client_keys.n > 0)
		return;
	if (!c->allow_anonymous)
		config_error(l, keys,
		    "\"api-keys\" is empty: list the keys of your clients, or "
		    "set \"allow-anonymous\" on a loopback listener");
	else if (!loopback)
		config_error(l, keys != NULL ? keys : at(parsed, "listen"),
		    "\"api-keys\" is empty while a listener is open to the "
		    "network: \"allow-anonymous\" is for loopback and unix "
		    "listeners only");
}

static void
check_admin(
    struct config_loader *l, const struct config *c, const config_t *parsed)
{
	const config_setting_t *where = at(parsed, "admin-listen");
	struct address address;

	if (*c->admin_listen == '\0')
		return;
	if (address_parse(c->admin_listen, &address) < 0)
		config_error(l, where, "\"admin-listen\": \"%s\" is no address",
		    c->admin_listen);
	else if (!address.loopback && *c->admin_key == '\0')
		config_error(l, where,
		    "\"admin-listen\" is open to the network: set "
		    "\"admin-key\"");
}

static void
check_routing(struct config_loader *l, struct config *c, const config_t *parsed)
{
	if (!c->routing.claude_code_session_affinity)
		return;
	config_warning(l, at(parsed, "routing.claude-code-session-affinity"),
	    "\"routing.claude-code-session-affinity\" is deprecated: write "
	    "\"routing.session-affinity\"");
	c->routing.session_affinity = true;
}

static void
check_paths(
    struct config_loader *l, const struct config *c, const config_t *parsed)
{
	const struct {
		const char *path, *value;
	} dirs[] = {
		{ "state-dir", c->state_dir },
		{ "runtime-dir", c->runtime_dir },
		{ "auth-dir", c->auth_dir },
		{ "models-file", c->models_file },
	}, logs[] = {
		{ "log.file", c->log.file },
		{ "log.access-file", c->log.access_file },
		{ "log.usage-file", c->log.usage_file },
	};
	size_t i;

	for (i = 0; i < ARRAY_LEN(dirs); i++) {
		if (dirs[i].value[0] != '/')
			config_error(l, at(parsed, dirs[i].path),
			    "\"%s\" must be an absolute path", dirs[i].path);
	}
	for (i = 0; i < ARRAY_LEN(logs); i++) {
		if (logs[i].value[0] != '/' && logs[i].value[0] != '\0')
			config_error(l, at(parsed, logs[i].path),
			    "\"%s\" must be an absolute path", logs[i].path);
	}
}

/* A default may be absent, and is a warning then; what was named may not. */
static void
check_sources(
    struct config_loader *l, const struct config *c, const config_t *parsed)
{
	struct stat st;

	if (c->auth_dir_given && *c->auth_dir == '/' &&
	    (stat(c->auth_dir, &st) < 0 || !S_ISDIR(st.st_mode)))
		config_error(l, at(parsed, "auth-dir"),
		    "\"auth-dir\": \"%s\" is no directory", c->auth_dir);
	if (c->models_file_given && *c->models_file == '/' &&
	    access(c->models_file, R_OK) < 0)
		config_error(l, at(parsed, "models-file"),
		    "\"models-file\": cannot read \"%s\": %s", c->models_file,
		    strerror(errno));
}

static void
check_user(
    struct config_loader *l, const struct config *c, const config_t *parsed)
{
	if (*c->group != '\0' && *c->user == '\0')
		config_warning(l, at(parsed, "group"),
		    "\"group\" has no effect without \"user\"");
}

/* A line break in a key would end its header and begin another. */
static void
check_secret(struct config_loader *l, const config_setting_t *entry,
    const char *section, const char *key)
{
	if (unicode_has_control(span_trim(span_of(key))))
		config_error(l, entry,
		    "\"%s\": \"api-key\" holds a control character", section);
}

static void
check_proxy(
    struct config_loader *l, const config_setting_t *entry, const char *value)
{
	if (proxy_parse(value) == PROXY_INVALID)
		config_warning(l, entry,
		    "\"proxy-url\" is invalid: this credential will not be "
		    "used");
}

static void
check_models(struct config_loader *l, const config_setting_t *entry,
    struct model_rules *models)
{
	size_t i;

	for (i = 0; i < models->n; i++) {
		if (*models->v[i].name == '\0')
			config_error(l, entry, "a model has no \"name\"");
		if (*models->v[i].alias == '\0')
			replace(&models->v[i].alias, models->v[i].name);
	}
}

static void
check_errors(struct config_loader *l, const config_setting_t *entry,
    const struct error_rules *rules)
{
	const struct error_rule *r;
	regex_t regex;
	size_t i, k;

	for (i = 0; i < rules->n; i++) {
		r = &rules->v[i];
		for (k = 0; k < r->match_regex.n; k++) {
			if (regcomp(&regex, r->match_regex.v[k],
				REG_EXTENDED | REG_NOSUB) != 0)
				config_error(l, entry,
				    "\"match-regex\": \"%s\" is no regular "
				    "expression",
				    r->match_regex.v[k]);
			else
				regfree(&regex);
		}
	}
}

/* What a key section cannot do without. */
static const struct {
	bool key, base_url;
} needs[PROVIDER_COMPAT] = {
	[PROVIDER_CLAUDE] = { .key = true },
	[PROVIDER_CODEX] = { .key = true, .base_url = true },
	[PROVIDER_GEMINI] = { .key = true },
	[PROVIDER_VERTEX] = { .key = true },
};

static void
check_key_entry(struct config_loader *l, enum provider_id id,
    struct key_entry *e, const config_setting_t *where)
{
	const struct provider *p = provider_get(id);

	if (needs[id].key && *e->api_key == '\0')
		config_error(
		    l, where, "\"%s\": \"api-key\" is missing", p->section);
	if (needs[id].base_url && *e->base_url == '\0')
		config_error(
		    l, where, "\"%s\": \"base-url\" is missing", p->section);
	check_secret(l, where, p->section, e->api_key);
	check_proxy(l, where, e->proxy_url);
	check_models(l, where, &e->models);
	check_errors(l, where, &e->errors);
}

static void
check_keys(struct config_loader *l, struct config *c, const config_t *parsed)
{
	const char *section;
	size_t i;
	int id;

	for (id = 0; id < PROVIDER_COMPAT; id++) {
		section = provider_get((enum provider_id)id)->section;
		for (i = 0; i < c->keys[id].n; i++)
			check_key_entry(l, (enum provider_id)id,
			    &c->keys[id].v[i], element(parsed, section, i));
	}
}

static void
check_compat(struct config_loader *l, struct config *c, const config_t *parsed)
{
	const config_setting_t *where;
	struct compat_section *s;
	size_t i, k;

	for (i = 0; i < c->compat.n; i++) {
		s = &c->compat.v[i];
		where = element(parsed, "openai-compatibility", i);
		if (*s->base_url == '\0')
			config_error(l, where,
			    "\"openai-compatibility\": \"base-url\" is "
			    "missing");
		if (*s->name == '\0')
			config_error(l, where,
			    "\"openai-compatibility\": \"name\" is empty");
		for (k = 0; k < s->keys.n; k++) {
			check_secret(l, where, "openai-compatibility",
			    s->keys.v[k].api_key);
			check_proxy(l, where, s->keys.v[k].proxy_url);
		}
		check_models(l, where, &s->models);
		check_errors(l, where, &s->errors);
	}
}

/* The host of a URL that begins with http://, without its port. */
static struct span
http_host(const char *url)
{
	const char *host = url + strlen("http://");
	size_t len =
	    *host == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":/?#");

	return (struct span){ host, strnlen(host, len) };
}

bool
config_endpoint_is_safe(const char *url)
{
	struct address address;
	struct span host;
	char text[80];

	if (strncmp(url, "https://", 8) == 0)
		return true;
	if (strncmp(url, "http://", 7) != 0)
		return false;
	host = http_host(url);
	if (span_equal(host, SPAN("localhost")))
		return true;
	/* Digits and colons only: a name could resolve to anything. */
	if (strspn(host.p, "0123456789.[]:abcdef") < host.len ||
	    (size_t)snprintf(text, sizeof(text), "%.*s:1", (int)host.len,
		host.p) >= sizeof(text))
		return false;
	return address_parse(text, &address) == 0 && address.loopback;
}

static void
check_oauth(struct config_loader *l, struct config *c, const config_t *parsed)
{
	int id;

	for (id = 0; id < PROVIDER_MAX; id++) {
		const char *endpoint = c->oauth[id].token_endpoint;

		if (*endpoint != '\0' && !config_endpoint_is_safe(endpoint))
			config_error(l, at(parsed, "oauth"),
			    "\"oauth.%s.token-endpoint\" must be https, or "
			    "http on loopback",
			    provider_get((enum provider_id)id)->name);
		check_models(
		    l, at(parsed, "oauth-model-alias"), &c->oauth_alias[id]);
		check_errors(l, at(parsed, "oauth-request-scoped-errors"),
		    &c->oauth_errors[id]);
	}
	check_errors(l, at(parsed, "request-scoped-errors"), &c->errors);
}

void
config_check(struct config_loader *l, struct config *c, const config_t *parsed)
{
	resolve_defaults(c);
	check_clients(l, c, parsed, check_listen(l, c, parsed));
	check_admin(l, c, parsed);
	check_user(l, c, parsed);
	check_paths(l, c, parsed);
	check_sources(l, c, parsed);
	check_routing(l, c, parsed);
	if (proxy_parse(c->proxy_url) == PROXY_INVALID)
		config_error(l, at(parsed, "proxy-url"),
		    "\"proxy-url\" must be \"direct\" or a URL of http, "
		    "https, socks5 or socks5h");
	check_keys(l, c, parsed);
	check_compat(l, c, parsed);
	check_oauth(l, c, parsed);
}

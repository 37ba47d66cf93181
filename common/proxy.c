/* SPDX-License-Identifier: MIT */
#include "common/proxy.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/alloc.h"
#include "common/secret.h"
#include "common/str.h"

static const char *const schemes[] = { "http", "https", "socks5", "socks5h" };

struct url_parts {
	struct span scheme;
	struct span userinfo;
	struct span authority; /* host and port */
};

/* scheme://[user[:password]@]host[:port][/...]; false for what is none. */
static bool
split(struct span url, struct url_parts *parts)
{
	const char *sep = memmem(url.p, url.len, "://", 3);
	const char *rest, *end, *at;

	if (sep == NULL || sep == url.p)
		return false;
	parts->scheme = (struct span){ url.p, (size_t)(sep - url.p) };
	rest = sep + 3;
	end = url.p + url.len;
	for (at = rest; at < end && strchr("/?#", *at) == NULL; at++)
		continue;
	end = at;
	at = memrchr(rest, '@', (size_t)(end - rest));
	parts->userinfo =
	    (struct span){ rest, at != NULL ? (size_t)(at - rest) : 0 };
	if (at != NULL)
		rest = at + 1;
	parts->authority = (struct span){ rest, (size_t)(end - rest) };
	return rest < end && *rest != ':';
}

/* An optional port must be a number that a port can be. */
static bool
port_is_sound(struct span authority)
{
	const char *end = authority.p + authority.len;
	const char *colon = memrchr(authority.p, ':', authority.len);
	char digits[8];
	int64_t port;
	size_t len;

	if (colon == NULL || memchr(colon, ']', (size_t)(end - colon)) != NULL)
		return true;
	len = (size_t)(end - colon) - 1;
	if (len == 0 || len >= sizeof(digits))
		return false;
	memcpy(digits, colon + 1, len);
	digits[len] = '\0';
	return str_to_int(digits, 1, 65535, &port) == 0;
}

static bool
has_blank(struct span s)
{
	size_t i;

	for (i = 0; i < s.len; i++) {
		if ((unsigned char)s.p[i] <= 0x20 || s.p[i] == 0x7f)
			return true;
	}
	return false;
}

enum proxy_kind
proxy_parse(const char *text)
{
	struct span s = span_trim(span_of(text));
	struct url_parts parts;
	size_t i;

	if (s.len == 0)
		return PROXY_INHERIT;
	if (span_equal_nocase(s, SPAN("direct")) ||
	    span_equal_nocase(s, SPAN("none")))
		return PROXY_DIRECT;
	if (has_blank(s) || !split(s, &parts) ||
	    !port_is_sound(parts.authority))
		return PROXY_INVALID;
	for (i = 0; i < ARRAY_LEN(schemes); i++) {
		if (span_equal_nocase(parts.scheme, span_of(schemes[i])))
			return PROXY_URL;
	}
	return PROXY_INVALID;
}

void
proxy_redact(const char *text, char *out, size_t size)
{
	struct url_parts parts;

	switch (proxy_parse(text)) {
	case PROXY_INHERIT:
		(void)str_copy(out, size, "");
		break;
	case PROXY_DIRECT:
		(void)str_copy(out, size, "direct");
		break;
	case PROXY_URL:
		(void)split(span_trim(span_of(text)), &parts);
		(void)snprintf(out, size, "%.*s://%s%.*s",
		    (int)parts.scheme.len, parts.scheme.p,
		    parts.userinfo.len != 0 ? "redacted@" : "",
		    (int)parts.authority.len, parts.authority.p);
		break;
	case PROXY_INVALID:
		(void)str_copy(out, size, "<invalid proxy URL>");
		break;
	}
}

/* Lower case first, as curl and others do; HTTP_PROXY in capitals is what a
 * CGI would get from a client's header, so it counts last. */
static char *
env_either(const char *lower, const char *upper)
{
	const char *value = getenv(lower);

	if (value == NULL || *value == '\0')
		value = getenv(upper);
	return xstrdup(value != NULL ? value : "");
}

void
proxy_env_read(struct proxy_env *env)
{
	env->https = env_either("https_proxy", "HTTPS_PROXY");
	env->http = env_either("http_proxy", "HTTP_PROXY");
	env->all = env_either("all_proxy", "ALL_PROXY");
	env->no_proxy = env_either("no_proxy", "NO_PROXY");
}

void
proxy_env_fini(struct proxy_env *env)
{
	secret_free(env->https);
	secret_free(env->http);
	secret_free(env->all);
	free(env->no_proxy);
	*env = (struct proxy_env){ 0 };
}

void
proxy_env_show(const struct proxy_env *env, struct buf *out)
{
	const struct {
		const char *name, *value;
	} rows[] = {
		{ "HTTPS_PROXY", env->https },
		{ "HTTP_PROXY", env->http },
		{ "ALL_PROXY", env->all },
	};
	char shown[512];
	size_t i;

	for (i = 0; i < ARRAY_LEN(rows); i++) {
		if (*rows[i].value == '\0')
			continue;
		proxy_redact(rows[i].value, shown, sizeof(shown));
		buf_printf(
		    out, "# %s of the environment: %s\n", rows[i].name, shown);
	}
	if (out->len > 0 && *env->no_proxy != '\0')
		buf_printf(
		    out, "# NO_PROXY of the environment: %s\n", env->no_proxy);
}

static struct span
host_of(struct span authority)
{
	const char *colon;

	if (authority.len > 0 && authority.p[0] == '[') {
		colon = memchr(authority.p, ']', authority.len);
		if (colon != NULL)
			return (struct span){ authority.p + 1,
				(size_t)(colon - authority.p) - 1 };
	}
	colon = memrchr(authority.p, ':', authority.len);
	if (colon != NULL)
		authority.len = (size_t)(colon - authority.p);
	return authority;
}

/* "example.com" and ".example.com" match the host and what is below it. */
static bool
domain_matches(struct span host, struct span rule)
{
	struct span tail;

	if (rule.len == 1 && rule.p[0] == '*')
		return true;
	if (rule.len > 0 && rule.p[0] == '.') {
		rule.p++;
		rule.len--;
	}
	if (rule.len == 0 || host.len < rule.len)
		return false;
	tail = (struct span){ host.p + host.len - rule.len, rule.len };
	return span_equal_nocase(tail, rule) &&
	       (tail.p == host.p || tail.p[-1] == '.');
}

static bool
no_proxy_covers(const char *list, struct span authority)
{
	struct span host = host_of(authority);
	struct span rule;
	size_t len;

	while (*list != '\0') {
		len = strcspn(list, ",");
		rule = span_trim((struct span){ list, len });
		if (rule.len != 0 && (span_equal_nocase(rule, authority) ||
					 domain_matches(host, rule)))
			return true;
		list += len + (list[len] == ',');
	}
	return false;
}

static const char *
from_environment(const struct proxy_env *env, const char *base_url)
{
	struct url_parts parts;
	const char *value;

	if (env == NULL || !split(span_of(base_url), &parts) ||
	    no_proxy_covers(env->no_proxy, parts.authority))
		return "";
	value = span_equal_nocase(parts.scheme, SPAN("https")) ? env->https
							       : env->http;
	return *value != '\0' ? value : env->all;
}

const char *
proxy_resolve(const char *credential, const char *config,
    const struct proxy_env *env, const char *base_url)
{
	const char *const choices[] = { credential, config,
		from_environment(env, base_url) };
	size_t i;

	for (i = 0; i < ARRAY_LEN(choices); i++) {
		switch (proxy_parse(choices[i])) {
		case PROXY_INHERIT:
			continue;
		case PROXY_DIRECT:
			return "";
		case PROXY_URL:
			return choices[i] + strspn(choices[i], " \t");
		case PROXY_INVALID:
			return NULL;
		}
	}
	return "";
}

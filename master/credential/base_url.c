/* SPDX-License-Identifier: MIT */
/* Base URLs of upstreams; see base_url.h. */
#include "master/credential/base_url.h"

#include <ctype.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

#include "common/alloc.h"
#include "common/str.h"

static const struct {
	struct span scheme;
	const char *port;
} schemes[] = {
	{ { "https://", 8 }, "443" },
	{ { "http://", 7 }, "80" },
};

/* The row of the scheme, or -1. */
static int
scheme_of(const char *url)
{
	size_t i;

	for (i = 0; i < ARRAY_LEN(schemes); i++) {
		if (strncasecmp(
			url, schemes[i].scheme.p, schemes[i].scheme.len) == 0)
			return (int)i;
	}
	return -1;
}

char *
base_url_clean(const char *text)
{
	struct span s = span_trim(span_of(text));
	int row = scheme_of(s.p);
	const char *host;
	size_t i;

	if (row < 0 || s.len <= schemes[row].scheme.len)
		return NULL;
	host = s.p + schemes[row].scheme.len;
	if (*host == '/' || *host == ':')
		return NULL;
	for (i = 0; i < s.len; i++) {
		if ((unsigned char)s.p[i] <= 0x20 || s.p[i] == 0x7f ||
		    strchr("?#@", s.p[i]) != NULL)
			return NULL;
	}
	while (s.p[s.len - 1] == '/')
		s.len--;
	return xstrndup(s.p, s.len);
}

/* Whether host[:port] says its port; the colons of [v6] are none. */
static bool
has_port(const char *authority, size_t len)
{
	const char *colon = memrchr(authority, ':', len);

	return colon != NULL &&
	       memchr(colon, ']', (size_t)(authority + len - colon)) == NULL;
}

char *
base_url_origin(const char *url)
{
	int row = scheme_of(url);
	const char *authority;
	char *origin, *p;
	size_t len;

	if (row < 0)
		return xstrdup(url);
	authority = url + schemes[row].scheme.len;
	len = strcspn(authority, "/?#");
	origin = xasprintf("%s%.*s%s%s", schemes[row].scheme.p, (int)len,
	    authority, has_port(authority, len) ? "" : ":",
	    has_port(authority, len) ? "" : schemes[row].port);
	for (p = origin; *p != '\0'; p++)
		*p = (char)tolower((unsigned char)*p);
	return origin;
}

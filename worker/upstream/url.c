/* SPDX-License-Identifier: MIT */
#include "worker/upstream/url.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

static const struct {
	struct span prefix;
	bool tls;
	uint16_t port;
} schemes[] = {
	{ SPAN("https://"), true, 443 },
	{ SPAN("http://"), false, 80 },
};

static int
scheme_of(const char *text)
{
	for (size_t i = 0; i < ARRAY_LEN(schemes); i++)
		if (strncasecmp(
			text, schemes[i].prefix.p, schemes[i].prefix.len) == 0)
			return (int)i;
	return -1;
}

size_t
url_origin_len(const char *text)
{
	int row = scheme_of(text);

	if (row < 0)
		return 0;
	return schemes[row].prefix.len +
	       strcspn(text + schemes[row].prefix.len, "/?#");
}

/* Digits after the host's colon; none at all mean the scheme's port. */
static int
take_port(struct url *u, struct span digits)
{
	unsigned port = 0;

	if (digits.len == 0)
		return 0;
	for (size_t i = 0; i < digits.len; i++) {
		if (!isdigit((unsigned char)digits.p[i]))
			return -EINVAL;
		port = port * 10 + (unsigned)(digits.p[i] - '0');
		if (port > UINT16_MAX)
			return -EINVAL;
	}
	u->port = (uint16_t)port;
	return port != 0 ? 0 : -EINVAL;
}

static int
take_v6(struct url *u)
{
	const char *close = memchr(u->authority.p, ']', u->authority.len);
	char text[INET6_ADDRSTRLEN];
	struct in6_addr address;
	struct span rest;

	if (close == NULL)
		return -EINVAL;
	u->host.p = u->authority.p + 1;
	u->host.len = (size_t)(close - u->host.p);
	if (u->host.len >= sizeof(text))
		return -EINVAL;
	memcpy(text, u->host.p, u->host.len);
	text[u->host.len] = '\0';
	if (inet_pton(AF_INET6, text, &address) != 1)
		return -EINVAL;
	rest.p = close + 1;
	rest.len = u->authority.len - u->host.len - 2;
	if (rest.len == 0)
		return 0;
	return *rest.p == ':'
		   ? take_port(u, (struct span){ rest.p + 1, rest.len - 1 })
		   : -EINVAL;
}

static int
take_name(struct url *u)
{
	const char *colon = memchr(u->authority.p, ':', u->authority.len);
	size_t len =
	    colon != NULL ? (size_t)(colon - u->authority.p) : u->authority.len;
	bool foreign = false;
	int rc = 0;

	u->host = (struct span){ u->authority.p, len };
	if (len == 0)
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)u->host.p[i];

		if (c >= 0x80 || c == '%')
			foreign = true;
		else if (!isalnum(c) && strchr("-._~", c) == NULL)
			return -EINVAL;
	}
	if (colon != NULL)
		rc = take_port(
		    u, (struct span){ colon + 1, u->authority.len - len - 1 });
	return rc == 0 && foreign ? URL_FOREIGN : rc;
}

int
url_parse(struct url *u, const char *text)
{
	int row = scheme_of(text);
	size_t len = url_origin_len(text);

	if (row < 0)
		return -EINVAL;
	for (const char *p = text; *p != '\0'; p++)
		if ((unsigned char)*p <= ' ' || *p == 0x7f || *p == '#')
			return -EINVAL;
	*u = (struct url){
		.tls = schemes[row].tls,
		.port = schemes[row].port,
		.origin = { text, len },
		.authority = { text + schemes[row].prefix.len,
		    len - schemes[row].prefix.len },
		.path = span_of(text + len),
	};
	if (memchr(u->authority.p, '@', u->authority.len) != NULL)
		return -EINVAL;
	return u->authority.p[0] == '[' ? take_v6(u) : take_name(u);
}

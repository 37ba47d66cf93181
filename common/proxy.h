/* SPDX-License-Identifier: MIT */
/*
 * What the proxy of an outbound connection may be, as people write it:
 * nothing (inherit), "direct" or "none", or http, https, socks5, socks5h
 * with a host. Anything else is invalid, and a credential whose proxy is
 * invalid is not used at all.
 */
#ifndef FL_COMMON_PROXY_H
#define FL_COMMON_PROXY_H

#include <stddef.h>

#include "common/buf.h"

enum proxy_kind {
	PROXY_INHERIT, /* empty */
	PROXY_DIRECT,
	PROXY_URL,
	PROXY_INVALID
};

enum proxy_kind proxy_parse(const char *text);

/*
 * The text for people: scheme://redacted@host:port without path, or
 * "direct", or "<invalid proxy URL>".
 */
void proxy_redact(const char *text, char *out, size_t size);

/* The proxies of the environment, read once by the master. */
struct proxy_env {
	char *https;
	char *http;
	char *all;
	char *no_proxy;
};

void proxy_env_read(struct proxy_env *env);
void proxy_env_fini(struct proxy_env *env);

/* Comment lines of a configuration that say what was found, redacted. */
void proxy_env_show(const struct proxy_env *env, struct buf *out);

/*
 * The proxy for an upstream base URL: the credential's text, else the
 * configuration's, else the environment's (NO_PROXY honoured). Returns a
 * borrowed text that is "" for a direct connection; NULL if what applies is
 * invalid, and then nothing else is tried in its place.
 */
const char *proxy_resolve(const char *credential, const char *config,
    const struct proxy_env *env, const char *base_url);

#endif

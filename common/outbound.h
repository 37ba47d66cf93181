/* SPDX-License-Identifier: MIT */
/*
 * What every outbound connection has in common, whoever makes it: proxy, TLS,
 * deadlines and the settings that keep libcurl (7.88.1) from surprising us,
 * applied to a handle. Workers use it for requests, the master for refreshes.
 */
#ifndef FL_COMMON_OUTBOUND_H
#define FL_COMMON_OUTBOUND_H

#include <stdint.h>

#include <curl/curl.h>

#include "common/attr.h"

struct outbound {
	const char *proxy; /* resolved: "" is direct, never NULL */
	int64_t connect_timeout_ms;
	int64_t total_timeout_ms; /* 0: none */
};

/* Once per process, before any handle; 0 or negative errno. */
int outbound_init(void) MUST_CHECK;

/*
 * 0; -EINVAL for a proxy that is not http, https, socks5 or socks5h with a
 * host, and then the handle must not be used; -ENOMEM. Nothing of the
 * environment has a say. May be applied again to the same handle.
 */
int outbound_apply(CURL *handle, const struct outbound *o) MUST_CHECK;

/* The CA bundle in use: found once at init, SSL_CERT_FILE first. */
const char *outbound_ca_file(void);

#endif

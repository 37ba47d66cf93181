/* SPDX-License-Identifier: MIT */
/* The parts of an http or https URL (RFC 3986), as spelled: nothing is
 * decoded or normalised. */
#ifndef FL_WORKER_UPSTREAM_URL_H
#define FL_WORKER_UPSTREAM_URL_H

#include <stdbool.h>
#include <stdint.h>

#include "common/attr.h"
#include "common/str.h"

struct url {
	bool tls;
	uint16_t port;
	struct span origin;    /* scheme and authority */
	struct span authority; /* host and port, for the Host header */
	struct span host;      /* without the brackets of an IPv6 address */
	struct span path;      /* with the query; empty means "/" */
};

enum {
	URL_FOREIGN = 1 /* its host has to be translated first */
};

/*
 * Borrows text. 0; URL_FOREIGN; -EINVAL for another scheme, user information,
 * a fragment, white space or control characters, or what is no host or port.
 */
int url_parse(struct url *u, const char *text) MUST_CHECK;

/* How much of text is its origin, checked no further; 0: there is none. */
size_t url_origin_len(const char *text);

#endif

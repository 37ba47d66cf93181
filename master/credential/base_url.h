/* SPDX-License-Identifier: MIT */
/* Base URLs of upstreams: what is one, and which origin it has. */
#ifndef FL_MASTER_CREDENTIAL_BASE_URL_H
#define FL_MASTER_CREDENTIAL_BASE_URL_H

#include "common/attr.h"

/*
 * http or https with a host, and perhaps a port and a path; no user, query or
 * fragment. Returns it without trailing slashes, owned by the caller, or NULL
 * for what is none. The same rule as for "base-url" in the configuration.
 */
char *base_url_clean(const char *text) MUST_CHECK;

/*
 * scheme://host:port in lower case, the port always written: two URLs with
 * the same origin share their connections and their outages. Owned by the
 * caller; of a URL that is none, the text as it is.
 */
char *base_url_origin(const char *url) MUST_CHECK;

#endif

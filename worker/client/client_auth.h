/* SPDX-License-Identifier: MIT */
/*
 * Who a client is: the key it brings, in any of the places where the
 * dialects' clients put one, against the digests of the configuration. The
 * first known key wins. Keys themselves are never kept.
 */
#ifndef FL_WORKER_CLIENT_CLIENT_AUTH_H
#define FL_WORKER_CLIENT_CLIENT_AUTH_H

#include "common/config.h"
#include "common/secret.h"
#include "worker/http/http_head.h"

enum client_auth {
	CLIENT_KNOWN,     /* *scope is the digest of its key */
	CLIENT_ANONYMOUS, /* no keys are configured, and that is allowed */
	CLIENT_NO_KEY,
	CLIENT_WRONG_KEY
};

/* The order: Authorization, X-Goog-Api-Key, X-Api-Key, ?key, ?auth_token. */
enum client_auth client_authenticate(const struct config *config,
    const struct http_head *head, struct digest *scope);

#endif

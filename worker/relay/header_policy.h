/* SPDX-License-Identifier: MIT */
/*
 * Which headers pass, in either direction: a client's go upstream unless a
 * row names them, an upstream's come back only if a row names them
 * (fairlead-internals(7), "Headers").
 */
#ifndef FL_WORKER_RELAY_HEADER_POLICY_H
#define FL_WORKER_RELAY_HEADER_POLICY_H

#include <stdbool.h>
#include <stddef.h>

#include "worker/client/exchange.h"
#include "worker/http/http_head.h"
#include "worker/upstream/upstream.h"

/*
 * Whether field i of a client's head goes upstream. named: the head's
 * Connection may name further ones (header_connection_names()).
 */
bool header_goes_upstream(const struct http_head *head, int i, bool named);

/* Whether any Connection field lists more than keep-alive and close. */
bool header_connection_names(const struct http_head *head);

/* Whether a credential may add it: not what frames the message. */
bool header_may_be_added(struct span name);

enum { HEADERS_BACK_MAX = 64 };

/*
 * The headers of an answer that go back to the client, into out; spans lead
 * into the call. all: passthrough-headers is set. At most HEADERS_BACK_MAX;
 * what could not stand in a head of ours is left out. Returns how many.
 */
size_t headers_back(
    struct upstream_call *call, bool all, struct header out[HEADERS_BACK_MAX]);

#endif

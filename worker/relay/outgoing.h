/* SPDX-License-Identifier: MIT */
/*
 * A request as it goes to a provider: URL and headers, from what the client
 * sent, the row of the provider and the credential. The body is attempt.c's
 * matter.
 */
#ifndef FL_WORKER_RELAY_OUTGOING_H
#define FL_WORKER_RELAY_OUTGOING_H

#include <stddef.h>

#include "common/attr.h"
#include "common/buf.h"
#include "common/state.h"
#include "worker/client/exchange.h"
#include "worker/upstream/upstream.h"

enum {
	OUTGOING_HEADERS = HTTP_HEAD_FIELDS + 64,
	OUTGOING_NO_PATH = 1 /* the provider has no such endpoint */
};

/* Holds the secret: outgoing_fini() wipes it. About 6 KB. */
struct outgoing {
	struct buf url;
	struct buf text; /* names and values, each terminated */
	size_t n;
	struct {
		size_t name, value; /* offsets into text */
	} at[OUTGOING_HEADERS];
	struct upstream_header headers[OUTGOING_HEADERS];
};

/*
 * model: as it is named upstream. 0; OUTGOING_NO_PATH; -E2BIG when the client
 * and the credential have more headers than OUTGOING_HEADERS, or larger ones
 * than can be. Always followed by outgoing_fini().
 */
int outgoing_make(struct outgoing *o, const struct exchange *x,
    const struct state_credential *c, const char *model) MUST_CHECK;

void outgoing_fini(struct outgoing *o);

#endif

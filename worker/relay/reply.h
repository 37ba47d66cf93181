/* SPDX-License-Identifier: MIT */
/*
 * An error kept to be told to the client later, when nobody else is left to
 * ask: what an upstream answered, or what we say in its place.
 */
#ifndef FL_WORKER_RELAY_REPLY_H
#define FL_WORKER_RELAY_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "worker/client/exchange.h"
#include "worker/dialect/dialect.h"
#include "worker/dialect/error_body.h"
#include "worker/relay/header_policy.h"
#include "worker/upstream/upstream.h"

enum { REPLY_BODY_MAX = 64 * 1024, REPLY_MESSAGE = 512 };

struct reply {
	int status;
	bool verbatim; /* body is told as it came, with its headers */
	struct buf body;
	char code[ERROR_BODY_WORD];
	char type[ERROR_BODY_WORD];
	char message[REPLY_MESSAGE];

	/* Headers of the upstream that may go back, in one block. */
	struct buf text;
	struct header headers[HEADERS_BACK_MAX];
	size_t nheaders;
};

void reply_init(struct reply *r);

/* Forgets the error and its memory. */
void reply_clear(struct reply *r);

/* Keeps an error of our own, or one that came inside an answer. */
void reply_set(struct reply *r, int status, const char *code, const char *type,
    const char *message);

/*
 * Keeps an upstream's answer: takes the body over, copies the headers. whole:
 * the body is not cut. fault: passed on as it is, whatever it is. A body that
 * repeats the secret is never passed on.
 */
void reply_keep(struct reply *r, struct upstream_call *call, int status,
    struct buf *body, const struct error_body *e, bool whole, bool fault,
    bool all_headers, const char *secret);

/* Whether one of the headers is Retry-After. */
bool reply_has_retry_after(const struct reply *r);

/* What an error event or a body of ours says of it. */
struct dialect_error reply_error(const struct reply *r, const char *request_id);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Small HTTP exchanges of the master's own, many at once and none of them
 * ever holding up the event loop: a token endpoint is asked for a token, an
 * upstream for its models. The whole answer is gathered within a bound and
 * handed over at once; nothing is repeated, redirected or kept alive. Not for
 * traffic of clients.
 */
#ifndef FL_MASTER_FETCH_H
#define FL_MASTER_FETCH_H

#include <stddef.h>
#include <stdint.h>

#include <event2/event.h>

#include "common/attr.h"

struct fetcher;
struct fetch;

struct fetch_header {
	const char *name;
	const char *value;
};

struct fetch_request {
	const char *url;
	const struct fetch_header *headers;
	size_t nheaders;
	const char *body; /* NULL: GET, else POST */
	size_t body_len;
	const char *proxy;  /* resolved: "" is direct, never NULL */
	int64_t timeout_ms; /* of everything, connecting included */
	size_t max_bytes;   /* of the answer's body */
};

enum fetch_end {
	FETCH_ANSWERED, /* whole, whatever its status */
	FETCH_UNSENT,   /* the server never saw any of the request */
	FETCH_LOST,     /* it may have, and there is no whole answer */
	FETCH_TOO_LARGE /* more than max_bytes */
};

/* Borrowed for the length of the callback. */
struct fetch_answer {
	enum fetch_end end;
	int status;            /* 0 without an answer */
	int64_t retry_after_s; /* 0: not said */
	const char *body; /* terminated by a zero that len does not count */
	size_t len;
	const char *detail; /* why there is no whole answer, without secrets */
};

/* Once for every fetch that is started and not cancelled. */
typedef void fetch_done_fn(void *ctx, const struct fetch_answer *answer);

struct fetcher *fetch_new(struct event_base *base);

/* Cancels what is under way; its callbacks are not called. NULL is fine. */
void fetch_free(struct fetcher *fetcher);

/*
 * Starts one. Everything in the request is copied, and body and answer are
 * wiped when it ends. done comes from the event loop, never from in here, and
 * may start and cancel others. 0; -EINVAL for a proxy that is none; -ENOMEM.
 */
int fetch_start(struct fetcher *fetcher, const struct fetch_request *request,
    fetch_done_fn *done, void *ctx, struct fetch **out) MUST_CHECK;

/* Ends one whose callback has not been called, and never will be. */
void fetch_cancel(struct fetch *fetch);

#endif

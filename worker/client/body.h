/* SPDX-License-Identifier: MIT */
/*
 * The body of a request on its way in: taken out of its framing (length or
 * chunked) and its coding (identity, gzip, zstd) into one buffer. It is
 * bounded twice before it is allocated: by limits.body, and by a reservation
 * in the daemon-wide limits.bodies-total. It reads no socket.
 */
#ifndef FL_WORKER_CLIENT_BODY_H
#define FL_WORKER_CLIENT_BODY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/attr.h"
#include "worker/client/decoder.h"
#include "worker/http/http_chunk.h"
#include "worker/http/http_head.h"
#include "worker/worker.h"

enum body_result {
	BODY_DONE,
	BODY_MORE,           /* all input was used */
	BODY_YIELD,          /* enough decoded for one turn of the loop: call
			      * again with the rest on the next */
	BODY_BAD,            /* 400: broken framing */
	BODY_BAD_ENCODING,   /* 400: broken gzip or zstd */
	BODY_UNKNOWN_CODING, /* 415 */
	BODY_TOO_LARGE,      /* 413 */
	BODY_OVERLOADED      /* 503: no reservation to be had */
};

/* At most this many bytes come out of a coding per call. */
enum { BODY_SLICE = 256 * 1024 };

struct body {
	struct worker *worker;
	char *data;
	size_t len, cap;
	uint64_t reserved; /* on the board; at least cap */
	bool chunked;
	uint64_t left; /* of a body with a length */
	struct http_chunk chunk;
	size_t plain; /* input at hand that is out of its chunks already */
	bool last;    /* so is all there will be */
	struct decoder *decoder; /* NULL: identity */
	bool ended;              /* its coding is complete */
	bool waits;              /* it goes on without input */
};

/*
 * Prepares for the body that a head announces. BODY_MORE: there is one;
 * BODY_DONE: there is none; or what refuses it before a byte is read.
 */
enum body_result body_begin(
    struct body *b, struct worker *w, const struct http_head *head) MUST_CHECK;

/*
 * Where the next bytes may be read straight to: only for a body of known
 * length without a coding; otherwise *len is 0 and body_feed() is used.
 */
char *body_room(struct body *b, size_t *len);
enum body_result body_added(struct body *b, size_t len) MUST_CHECK;

/*
 * Takes input from elsewhere; changes it in place. *used: how much of it. After
 * BODY_YIELD the next call begins with the rest, as it was left.
 */
enum body_result
body_feed(struct body *b, char *p, size_t len, size_t *used) MUST_CHECK;

/* After BODY_YIELD: there is more to come, even if all input was used. */
bool body_waits(const struct body *b);

/* Gives data and reservation back. Idempotent. */
void body_release(struct body *b);

#endif

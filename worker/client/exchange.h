/* SPDX-License-Identifier: MIT */
/*
 * One request of a client and its answer: the face between the client side
 * (conn.c), which reads, checks and writes, and the relay, which decides. The
 * connection owns the exchange and outlives the relay's interest in it: after
 * relay_client_gone() or exchange_finish() or exchange_break() the relay does
 * not touch it again.
 *
 * Nothing here calls back into the relay from within a call of the relay's;
 * what happens meanwhile (a write that fails) is told on a later turn of the
 * event loop.
 */
#ifndef FL_WORKER_CLIENT_EXCHANGE_H
#define FL_WORKER_CLIENT_EXCHANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "common/secret.h"
#include "worker/client/route.h"
#include "worker/http/http_head.h"
#include "worker/worker.h"

enum { REQUEST_ID_LEN = 20 };

struct relay;

struct exchange {
	struct worker *worker;
	struct http_head head; /* spans into the connection's buffer, kept
				* until the exchange ends */
	struct route_match route;
	struct digest scope; /* of the client key; all zero: anonymous */
	bool has_scope;
	char request_id[REQUEST_ID_LEN + 1];
	char *body; /* whole and decoded; NULL once released */
	size_t body_len;
	int64_t start_us;    /* clock_mono_us() at the first byte */
	struct relay *relay; /* while it works for this exchange */
	bool opened;         /* a response head was sent */
};

struct header {
	struct span name;
	struct span value;
};

/*
 * A whole answer: head and body in one write. x-fairlead-request-id, date,
 * content-length and connection are added here. Ends the exchange.
 */
void
exchange_answer(struct exchange *x, int status, const struct header *headers,
    size_t nheaders, const void *body, size_t len);

/*
 * Body bytes go out in one write, with their framing, in at most EXCHANGE_IOV
 * pieces; what the socket does not take is copied and queued. The two calls
 * return the bytes that are queued now: from EXCHANGE_HIGH on the relay pauses
 * its upstream until relay_writable(), which comes once for it.
 */
enum { EXCHANGE_HIGH = 24 * 1024, EXCHANGE_LOW = 8 * 1024, EXCHANGE_IOV = 16 };

/*
 * The head of an answer, with the first bytes of its body, if there are any
 * yet (n may be 0): content_length -1 means chunked (HTTP/1.1) or until close
 * (HTTP/1.0). A body that turns out longer or shorter than it says is a broken
 * answer.
 */
size_t
exchange_open(struct exchange *x, int status, const struct header *headers,
    size_t nheaders, int64_t content_length, const struct iovec *iov, int n);

/* More of its body. */
size_t exchange_write(struct exchange *x, const struct iovec *iov, int n);

/* The body is complete. */
void exchange_finish(struct exchange *x);

/*
 * The answer cannot be completed: what was written of it still goes out, and
 * then the connection ends so that the client does not take it for whole.
 */
void exchange_break(struct exchange *x);

/* Gives the request body back to its pool and its reservation to the board. */
void exchange_release_body(struct exchange *x);

/*
 * The relay's part, called by the client side:
 * relay_start: a request that was let in is complete; answers sooner or later.
 * relay_writable: the queue fell below EXCHANGE_LOW.
 * relay_client_gone: the client left; the exchange dies with this call.
 */
void relay_start(struct exchange *x);
void relay_writable(struct relay *r);
void relay_client_gone(struct relay *r);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * One connection of our own to an origin: resolving, connecting, TLS, then
 * bytes. It knows nothing of HTTP. Whoever owns it (a call, or the pool while
 * it is idle) is told from the event loop only.
 */
#ifndef FL_WORKER_UPSTREAM_DIRECT_CONN_H
#define FL_WORKER_UPSTREAM_DIRECT_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <event2/event_struct.h>

#include "common/attr.h"

struct direct;
struct direct_conn;
struct dial;
struct origin;
struct ssl_st;

struct direct_conn_owner {
	/* It can be written to; from now on ready() comes. */
	void (*opened)(void *ctx);
	/* It never will be; the owner closes it. why is for a log. */
	void (*failed)(void *ctx, const char *why);
	/* There is something to read, room to write, or its end. */
	void (*ready)(void *ctx);
};

struct direct_conn {
	TAILQ_ENTRY(direct_conn) link; /* of idle ones */
	struct direct *direct;
	struct origin *origin;
	const struct direct_conn_owner *owner;
	void *ctx;
	struct dial *dial; /* until it is open */
	struct ssl_st *tls;
	struct event event;
	int64_t idle_since_ms;
	int fd;       /* -1 before it is connected */
	short armed;  /* EV_* that the loop waits for */
	bool reused;  /* it has carried a call before */
	bool starved; /* no descriptor was left for it */
};

/* What ended a read or write beside errors. */
enum {
	DIRECT_CONN_WAIT = 0,
	DIRECT_CONN_EOF = -1,   /* the peer ended it as it should */
	DIRECT_CONN_BROKEN = -2 /* it broke, or was cut off in TLS */
};

/* Starts; nothing is told from within. NULL: out of memory. */
struct direct_conn *direct_conn_open(struct direct *direct,
    struct origin *origin, int64_t timeout_ms,
    const struct direct_conn_owner *owner, void *ctx) MUST_CHECK;

/* At any time; what is in flight is lost. */
void direct_conn_close(struct direct_conn *c);

static inline bool
direct_conn_is_open(const struct direct_conn *c)
{
	return c->dial == NULL;
}

/* Keeps the loop waiting for EV_READ, EV_WRITE, both or nothing. */
void direct_conn_want(struct direct_conn *c, short events);

/*
 * As much as there is, at most len: bytes, or one of the above. *more: there
 * may be more now, for which the loop will not tell again.
 */
ssize_t direct_conn_read(
    struct direct_conn *c, char *buf, size_t len, bool *more) MUST_CHECK;

/*
 * Bytes that went out of piece[0] and piece[1], or one of the above. What did
 * not go out comes again with the next write. *full: the loop has to say when
 * there is room again.
 */
ssize_t direct_conn_write(
    struct direct_conn *c, const struct iovec *piece, bool *full) MUST_CHECK;

#endif

/* SPDX-License-Identifier: MIT */
/*
 * A client's connection: one descriptor, one edge-triggered event, one timer.
 * It reads a request, hands it to serve.h, carries the answer out and goes on
 * with the next. Requests of one connection are answered one after another.
 *
 * The struct is open to exchange.c, which writes answers; everybody else
 * knows the exchange only.
 */
#ifndef FL_WORKER_CLIENT_CONN_H
#define FL_WORKER_CLIENT_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include <event2/event.h>
#include <event2/event_struct.h>

#include "common/attr.h"
#include "worker/client/body.h"
#include "worker/client/exchange.h"
#include "worker/client/sendq.h"
#include "worker/worker.h"

enum conn_state {
	CONN_IDLE,    /* between requests; nothing of the next one is here */
	CONN_HEAD,    /* a head is coming in */
	CONN_BODY,    /* let in; the body is coming in */
	CONN_WORKING, /* the exchange is being served */
	CONN_FLUSH,   /* answered; before anything else the rest of the answer
		       * goes out */
	CONN_LINGER,  /* our side is shut; what the client still sends is
		       * dropped, so that it can read our answer */
	CONN_DEAD     /* to be freed at the end of this turn */
};

struct conn {
	struct worker *worker;
	int fd;
	enum conn_state state;
	struct event event; /* READ|WRITE|CLOSED|ET, from birth to death */
	struct event timer;
	struct event again;  /* goes on with this connection */
	int64_t deadline_ms; /* of the state; the timer may fire earlier */
	int64_t armed_ms;    /* when the timer fires; 0: not set */
	size_t budget;       /* bytes that this turn may still take in */
	bool running;        /* conn_run() is on the stack */
	bool readable;       /* the last read did not empty the socket */
	bool hangup;         /* the client has shut its side */
	bool suspect;        /* an event may have been a reset */
	bool unchecked;      /* its request may have come with one */
	bool broken;     /* the socket is, or a part of an answer was lost */
	bool closing;    /* close when the current answer is out */
	bool over_limit; /* beyond limits.connections: answers 503 */
	bool admin;      /* came in on admin-listen */
	bool kept;       /* a request on it was answered */

	/* The open answer. */
	bool chunked;
	bool unframed;      /* it ends with the connection */
	bool head_only;     /* the answer to a HEAD has no body */
	bool cut;           /* it ends before it is whole */
	int64_t left;       /* of its body; -1: not announced */
	bool want_writable; /* the relay waits for the queue to fall */

	char *in; /* the head, and what was read beyond it */
	size_t in_len, in_cap;
	size_t in_next; /* where the body, or the next request, begins */
	struct body body;
	uint64_t body_mark; /* progress since the deadline was last moved */

	struct sendq out;
	uint64_t sent_mark; /* out.sent when the deadline was last moved */

	struct exchange *x; /* from the first byte of a request on */
	TAILQ_ENTRY(conn) link;
	TAILQ_ENTRY(conn) check_link;
};

struct conns;

/* For w->conns. */
struct conns *conns_new(struct worker *w);
/* Closes everything at once. */
void conns_free(struct conns *cs);
size_t conns_count(const struct conns *cs);
/*
 * Closes, now and from now on, what is kept open for a next request of which
 * nothing has come: the daemon is about to end.
 */
void conns_close_idle(struct conns *cs);

/* Takes over an accepted descriptor, non-blocking; admin: of admin-listen. */
void conn_open(struct worker *w, int fd, bool admin);

/*
 * For exchange.c: the answer of the current exchange is complete and queued;
 * flushes, and goes on with the next request or closes. Frees the exchange.
 */
void conn_answered(struct conn *c);

/*
 * For exchange.c: the same for an answer that stays incomplete. What is
 * queued still goes out, then the connection ends so that the client sees a
 * broken answer.
 */
void conn_break(struct conn *c);

/* Answer bytes, in order; copies what the socket does not take. */
void conn_send(struct conn *c, const struct iovec *iov, int n);

/*
 * For exchange.c: nobody needs the request's body any more, and its head is
 * kept in no more room than it takes.
 */
void conn_release_body(struct conn *c);

/* For exchange.c: a part of the answer cannot be sent; closes next turn. */
void conn_fail(struct conn *c);

/* Bytes that wait for the socket. */
static inline size_t
conn_queued(const struct conn *c)
{
	return sendq_waiting(&c->out);
}

/* The connection of an exchange. */
struct conn *conn_of(struct exchange *x);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Addresses are tried one after another, each a little after the one before
 * it, so that a family that leads nowhere costs a quarter of a second and not
 * the whole deadline (RFC 8305 5). The first socket that connects stays.
 *
 * Once open, a connection has one level-triggered event. It asks for EV_READ
 * as good as always, so a request on a pooled connection costs no
 * epoll_ctl(2), and neither an end nor a reset behind the last byte is missed
 * by a read that stopped short of it.
 */
#include "worker/upstream/direct_conn.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "common/alloc.h"
#include "common/clock.h"
#include "common/str.h"
#include "worker/upstream/direct.h"
#include "worker/upstream/resolve.h"
#include "worker/upstream/tls.h"

enum { NEXT_ADDRESS_MS = 250 };

/* A socket on its way to one address. */
struct
try {
	struct event event;
	struct dial *dial;
	int fd; /* -1: not begun, or over */
};

/* A connection that is being opened. */
struct dial {
	struct direct_conn *conn;
	struct question question;
	struct event timer;
	int64_t deadline_ms;
	struct endpoints list;
	size_t next; /* of the list */
	unsigned open;
	bool over; /* it has failed; the owner is to be told */
	struct try tries[ENDPOINTS_MAX];
	char why[TLS_WHY_MAX]; /* the last failure */
};

/* ---- waiting */

static void conn_ready(struct direct_conn *c);

static void
on_ready(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	conn_ready(arg);
}

void
direct_conn_want(struct direct_conn *c, short events)
{
	if (c->armed == events)
		return;
	if (c->armed != 0)
		(void)event_del(&c->event);
	c->armed = 0;
	if (events == 0)
		return;
	if (event_assign(&c->event, c->direct->base, c->fd,
		(short)(events | EV_PERSIST), on_ready, c) == 0 &&
	    event_add(&c->event, NULL) == 0)
		c->armed = events;
}

/* ---- dialling */

static void
try_end(struct try *t)
{
	if (t->fd < 0)
		return;
	(void)event_del(&t->event);
	(void)close(t->fd);
	t->fd = -1;
	t->dial->open--;
}

static void
tries_end(struct dial *d)
{
	for (size_t i = 0; i < d->next; i++)
		try_end(&d->tries[i]);
}

static void
dial_free(struct dial *d)
{
	tries_end(d);
	resolver_cancel(&d->question);
	(void)event_del(&d->timer);
	free(d);
}

static void
dial_arm(struct dial *d, int64_t ms)
{
	struct timeval tv;

	if (ms < 0)
		ms = 0;
	tv = (struct timeval){ ms / 1000, ms % 1000 * 1000 };
	(void)evtimer_add(&d->timer, &tv);
}

static int64_t
dial_left_ms(const struct dial *d)
{
	return d->deadline_ms - clock_mono_us() / 1000;
}

/* Not told from within a call of the owner's, so from the timer. */
static void
dial_fail_later(struct dial *d)
{
	tries_end(d);
	d->over = true;
	dial_arm(d, 0);
}

static void
dial_fail(struct dial *d)
{
	struct direct_conn *c = d->conn;
	char why[TLS_WHY_MAX];

	(void)str_copy(why, sizeof(why), d->why);
	c->owner->failed(c->ctx, why);
}

static void
dial_opened(struct dial *d)
{
	struct direct_conn *c = d->conn;

	c->dial = NULL;
	dial_free(d);
	c->owner->opened(c->ctx);
}

static void
dial_shake_hands(struct dial *d)
{
	struct direct_conn *c = d->conn;

	switch (tls_handshake(c->tls, d->why)) {
	case TLS_DONE:
		direct_conn_want(c, EV_READ);
		dial_opened(d);
		break;
	case TLS_WANT_READ:
		direct_conn_want(c, EV_READ);
		break;
	case TLS_WANT_WRITE:
		direct_conn_want(c, EV_WRITE);
		break;
	default:
		direct_conn_want(c, 0);
		dial_fail(d);
		break;
	}
}

static bool
begin_tls(struct dial *d)
{
	struct direct_conn *c = d->conn;
	struct origin *o = c->origin;

	if (c->direct->tls == NULL)
		c->direct->tls = tls_client_new();
	if (c->direct->tls != NULL)
		c->tls = tls_open(
		    c->direct->tls, c->fd, o->host, o->is_address, &o->session);
	return c->tls != NULL;
}

static void
dial_connected(struct dial *d, struct try *t)
{
	struct direct_conn *c = d->conn;
	int64_t left_ms = dial_left_ms(d);

	c->fd = t->fd;
	(void)event_del(&t->event);
	t->fd = -1;
	d->open--;
	tries_end(d);
	d->next = d->list.n;
	dial_arm(d, left_ms);
	if (!c->origin->tls) {
		direct_conn_want(c, EV_READ);
		dial_opened(d);
	} else if (begin_tls(d)) {
		dial_shake_hands(d);
	} else {
		(void)str_copy(d->why, sizeof(d->why), "TLS cannot be set up");
		dial_fail(d);
	}
}

static void dial_next(struct dial *d);

static void
try_failed(struct dial *d, int error)
{
	d->conn->starved = error == EMFILE || error == ENFILE;
	(void)snprintf(d->why, sizeof(d->why), "cannot connect to \"%s\": %s",
	    d->conn->origin->authority, strerror(error));
}

static void
try_ready(struct try *t)
{
	struct dial *d = t->dial;
	socklen_t len = sizeof(int);
	int error = 0;

	if (getsockopt(t->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	if (error == 0) {
		dial_connected(d, t);
		return;
	}
	try_failed(d, error);
	try_end(t);
	dial_next(d);
}

static void
on_try(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	try_ready(arg);
}

/* 0, or the errno for which this address cannot be. */
static int
try_begin(struct try *t, const union endpoint *to)
{
	int one = 1;

	t->fd = socket(
	    to->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (t->fd < 0)
		return errno;
	(void)setsockopt(t->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	(void)setsockopt(t->fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	if ((connect(t->fd, &to->sa, endpoint_len(to)) < 0 &&
		errno != EINPROGRESS) ||
	    event_assign(&t->event, t->dial->conn->direct->base, t->fd,
		EV_WRITE, on_try, t) != 0 ||
	    event_add(&t->event, NULL) != 0) {
		int error = errno;

		(void)close(t->fd);
		t->fd = -1;
		return error;
	}
	t->dial->open++;
	return 0;
}

/* Tries the next address that can be tried at all. */
static void
dial_next(struct dial *d)
{
	bool begun = false;
	int64_t left_ms = dial_left_ms(d);

	while (!begun && d->next < d->list.n) {
		struct try *t = &d->tries[d->next];
		int error = try_begin(t, &d->list.at[d->next]);

		d->next++;
		begun = error == 0;
		if (!begun)
			try_failed(d, error);
	}
	if (d->open == 0)
		dial_fail_later(d);
	else if (d->next < d->list.n && left_ms > NEXT_ADDRESS_MS)
		dial_arm(d, NEXT_ADDRESS_MS);
	else
		dial_arm(d, left_ms);
}

static void
dial_timer(struct dial *d)
{
	int64_t left_ms = dial_left_ms(d);

	if (d->over) {
		dial_fail(d);
	} else if (left_ms <= 0) {
		(void)snprintf(d->why, sizeof(d->why),
		    "cannot connect to \"%s\" in time",
		    d->conn->origin->authority);
		dial_fail(d);
	} else if (d->open > 0) {
		dial_next(d);
	} else {
		dial_arm(d, left_ms);
	}
}

static void
on_dial_timer(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	dial_timer(arg);
}

static void
dial_begin(struct dial *d)
{
	for (size_t i = 0; i < d->list.n; i++) {
		d->tries[i] = (struct try){ .dial = d, .fd = -1 };
		endpoint_set_port(&d->list.at[i], d->conn->origin->port);
	}
	dial_next(d);
}

static void
dial_unresolved(struct dial *d, const char *why)
{
	(void)snprintf(d->why, sizeof(d->why), "cannot resolve \"%s\": %s",
	    d->conn->origin->host, why);
}

static void
on_resolved(struct question *q, const struct endpoints *found, const char *why)
{
	struct dial *d =
	    (struct dial *)((char *)q - offsetof(struct dial, question));

	if (found == NULL) {
		dial_unresolved(d, why);
		dial_fail(d);
		return;
	}
	d->list = *found;
	dial_begin(d);
}

static void
dial_start(struct dial *d, int64_t timeout_ms)
{
	struct direct_conn *c = d->conn;
	int rc;

	d->deadline_ms = clock_mono_us() / 1000 + timeout_ms;
	d->question.answered = on_resolved;
	(void)evtimer_assign(&d->timer, c->direct->base, on_dial_timer, d);
	rc = resolver_ask(
	    c->direct->resolver, c->origin->host, &d->question, &d->list);
	if (rc == 0) {
		dial_begin(d);
	} else if (rc == RESOLVE_LATER) {
		dial_arm(d, timeout_ms);
	} else {
		dial_unresolved(d, "too many names are being asked for");
		dial_fail_later(d);
	}
}

static void
conn_ready(struct direct_conn *c)
{
	if (c->dial != NULL)
		dial_shake_hands(c->dial);
	else
		c->owner->ready(c->ctx);
}

/* ---- the face */

struct direct_conn *
direct_conn_open(struct direct *direct, struct origin *origin,
    int64_t timeout_ms, const struct direct_conn_owner *owner, void *ctx)
{
	struct direct_conn *c = calloc(1, sizeof(*c));
	struct dial *d = calloc(1, sizeof(*d));

	if (c == NULL || d == NULL) {
		free(c);
		free(d);
		return NULL;
	}
	*c = (struct direct_conn){
		.direct = direct,
		.origin = origin,
		.owner = owner,
		.ctx = ctx,
		.dial = d,
		.fd = -1,
	};
	origin->conns++;
	d->conn = c;
	dial_start(d, timeout_ms);
	return c;
}

void
direct_conn_close(struct direct_conn *c)
{
	if (c->dial != NULL)
		dial_free(c->dial);
	direct_conn_want(c, 0);
	tls_close(c->tls);
	if (c->fd >= 0)
		(void)close(c->fd);
	c->origin->conns--;
	free(c);
}

static ssize_t
read_tls(struct direct_conn *c, char *buf, size_t len, bool *more)
{
	size_t n;
	enum tls_result result = tls_read(c->tls, buf, len, &n);

	/* An end behind some bytes is told with the next read. */
	*more = n > 0 && result != TLS_WANT_READ && result != TLS_WANT_WRITE;
	if (n > 0)
		return (ssize_t)n;
	if (result == TLS_WANT_READ || result == TLS_WANT_WRITE)
		return DIRECT_CONN_WAIT;
	return result == TLS_CLOSED ? DIRECT_CONN_EOF : DIRECT_CONN_BROKEN;
}

ssize_t
direct_conn_read(struct direct_conn *c, char *buf, size_t len, bool *more)
{
	ssize_t n;

	if (c->tls != NULL)
		return read_tls(c, buf, len, more);
	do
		n = recv(c->fd, buf, len, 0);
	while (n < 0 && errno == EINTR);
	*more = n > 0 && (size_t)n == len;
	if (n > 0)
		return n;
	if (n == 0)
		return DIRECT_CONN_EOF;
	return errno == EAGAIN ? DIRECT_CONN_WAIT : DIRECT_CONN_BROKEN;
}

/*
 * The two pieces leave in one record as long as the first is not out: a small
 * request is one segment. What is copied only depends on what is left, so a
 * record that has to wait is the same when it comes again.
 */
static ssize_t
write_tls(struct direct_conn *c, const struct iovec *piece, bool *full)
{
	char *record = c->direct->record;
	size_t head = piece[0].iov_len;
	size_t total = 0;
	enum tls_result result = TLS_DONE;
	size_t n;

	if (head > 0 && head < DIRECT_RECORD) {
		size_t room = DIRECT_RECORD - head;
		size_t body = piece[1].iov_len < room ? piece[1].iov_len : room;

		memcpy(record, piece[0].iov_base, head);
		if (body > 0)
			memcpy(record + head, piece[1].iov_base, body);
		result = tls_write(c->tls, record, head + body, &total);
	} else if (head > 0) {
		result = tls_write(c->tls, piece[0].iov_base, head, &total);
	}
	if (result == TLS_DONE && total >= head &&
	    total - head < piece[1].iov_len) {
		size_t sent = total - head;

		result =
		    tls_write(c->tls, (const char *)piece[1].iov_base + sent,
			piece[1].iov_len - sent, &n);
		total += n;
	}
	*full = result == TLS_WANT_WRITE;
	if (total > 0)
		return (ssize_t)total;
	return result == TLS_FAILED || result == TLS_CLOSED ? DIRECT_CONN_BROKEN
							    : DIRECT_CONN_WAIT;
}

ssize_t
direct_conn_write(struct direct_conn *c, const struct iovec *piece, bool *full)
{
	struct msghdr msg = { .msg_iovlen = 2 };
	ssize_t n;

	if (c->tls != NULL)
		return write_tls(c, piece, full);
	memcpy(&msg.msg_iov, &piece, sizeof(piece));
	do
		n = sendmsg(c->fd, &msg, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	*full = n < 0 ? errno == EAGAIN
		      : (size_t)n < piece[0].iov_len + piece[1].iov_len;
	if (n >= 0)
		return n;
	return *full ? DIRECT_CONN_WAIT : DIRECT_CONN_BROKEN;
}

/* SPDX-License-Identifier: MIT */
/*
 * The life of a client connection. Its one event is edge-triggered, so that a
 * request costs no epoll_ctl(2), and asks for EV_CLOSED, so that a client that
 * leaves is noticed while nothing is read from it. conn_run() takes steps
 * until the socket or the relay has to go on; whatever ends an answer inside a
 * step is taken up by the loop there and never by recursion.
 */
#include "worker/client/conn.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/clock.h"
#include "common/spares.h"
#include "worker/client/request_id.h"
#include "worker/client/respond.h"
#include "worker/client/serve.h"

enum {
	IN_FIRST = 4096,
	IN_STAGE = 16384,     /* room for a body that is not read in place */
	TURN_BUDGET = 262144, /* bytes in, read or decoded, of a connection */
	OUT_MAX = 64 << 20,
	BODY_PACE = 4096, /* a body must make that much per body-timeout */
	LINGER_MS = 2000,
	RECHECK_MS = 200,
	OVER_LIMIT_MAX = 128 /* connections that are told 503, beyond which
			      * they are only closed */
};

TAILQ_HEAD(conn_list, conn);

struct conns {
	struct worker *worker;
	struct conn_list live;
	struct conn_list dead; /* freed at the end of the turn */
	struct event reaper;
	/* Whose request may have come together with a reset. */
	struct conn_list unchecked;
	struct event recheck;
	bool rechecking; /* its timer is set */
	struct spares exchanges;
	struct spares ins; /* of IN_FIRST bytes */
	size_t count;
	size_t limit; /* this worker's share of limits.connections */
	bool close_idle;
};

/* What a step leaves to do. */
enum step { STEP_ON, STEP_WAIT };

struct conn_exchange {
	struct exchange x;
	struct conn *conn;
};

static void conn_close(struct conn *c);

/*
 * libevent 2.1.12 tells EPOLLERR as READ|WRITE, without CLOSED. While an
 * answer is awaited nothing is read, so a reset has to be asked for.
 */
static bool
is_reset(const struct conn *c)
{
	socklen_t len = sizeof(int);
	int error = 0;

	return getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0 ||
	       error != 0;
}

/* ---- timers */

static int64_t
now_ms(void)
{
	return clock_mono_us() / 1000;
}

static void
arm(struct conn *c, int64_t ms)
{
	struct timeval tv = { ms / 1000, (ms % 1000) * 1000 };

	c->armed_ms = now_ms() + ms;
	(void)evtimer_add(&c->timer, &tv);
}

/*
 * The timer is moved only when the new deadline comes first; otherwise it
 * fires early, finds that it is not time yet, and waits for the rest.
 */
static void
set_deadline(struct conn *c, int64_t ms)
{
	c->deadline_ms = now_ms() + ms;
	if (c->armed_ms == 0 || c->armed_ms > c->deadline_ms)
		arm(c, ms);
}

static const struct config *
config_of(const struct conn *c)
{
	return c->worker->config;
}

/*
 * Goes on when other connections had their turn. event_active() would not do:
 * libevent 2.1.12 runs what it activates before it looks for new events.
 */
static enum step
next_turn(struct conn *c)
{
	const struct timeval now = { 0, 0 };

	(void)evtimer_add(&c->again, &now);
	return STEP_WAIT;
}

/* ---- writing */

/* A client that takes nothing from here on until the deadline is cut off. */
static void
watch_progress(struct conn *c)
{
	c->sent_mark = c->out.sent;
	set_deadline(c, config_of(c)->limits.stream_idle_timeout_ms);
}

void
conn_send(struct conn *c, const struct iovec *iov, int n)
{
	bool was_empty = conn_queued(c) == 0;

	if (c->broken)
		return;
	if (sendq_write(&c->out, iov, n) < 0) {
		conn_fail(c);
		return;
	}
	if (conn_queued(c) == 0)
		return;
	if (was_empty && c->state == CONN_WORKING)
		watch_progress(c);
	if (c->out.writable)
		event_active(&c->again, EV_TIMEOUT, 0);
}

void
conn_fail(struct conn *c)
{
	c->broken = true;
	event_active(&c->again, EV_TIMEOUT, 0);
}

/* ---- the exchange */

struct conn *
conn_of(struct exchange *x)
{
	return ((struct conn_exchange *)x)->conn;
}

static void
exchange_begin(struct conn *c)
{
	struct conn_exchange *cx = spares_get(&c->worker->conns->exchanges);

	if (cx == NULL) {
		conn_close(c);
		return;
	}
	memset(cx, 0, sizeof(*cx));
	cx->conn = c;
	cx->x.worker = c->worker;
	cx->x.start_us = clock_mono_us();
	http_head_init(&cx->x.head);
	request_id_make(cx->x.request_id);
	c->x = &cx->x;
	c->state = CONN_HEAD;
	set_deadline(c, config_of(c)->limits.header_timeout_ms);
}

static void
exchange_end(struct conn *c)
{
	if (c->unchecked)
		TAILQ_REMOVE(&c->worker->conns->unchecked, c, check_link);
	c->unchecked = false;
	body_release(&c->body);
	spares_put(&c->worker->conns->exchanges, c->x);
	c->x = NULL;
}

/*
 * A reset that comes by itself is an event. One that came with the request is
 * asked for a little later, when most answers are out.
 */
static void
check_later(struct conn *c)
{
	static const struct timeval later = { 0, RECHECK_MS * 1000 };
	struct conns *cs = c->worker->conns;

	c->unchecked = true;
	TAILQ_INSERT_TAIL(&cs->unchecked, c, check_link);
	if (!cs->rechecking)
		(void)evtimer_add(&cs->recheck, &later);
	cs->rechecking = true;
}

static void
recheck(struct conns *cs)
{
	struct conn *c;

	cs->rechecking = false;
	while ((c = TAILQ_FIRST(&cs->unchecked)) != NULL) {
		TAILQ_REMOVE(&cs->unchecked, c, check_link);
		c->unchecked = false;
		if (c->state == CONN_WORKING && is_reset(c))
			conn_close(c);
	}
}

static void
on_recheck(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	recheck(arg);
}

/* ---- reading */

/* Reads what the socket has, at most room. Bytes, 0 for none now, -1: gone. */
static ssize_t
receive(struct conn *c, char *p, size_t room)
{
	ssize_t n;

	if (!c->readable)
		return 0;
	if (c->budget == 0) {
		(void)next_turn(c);
		return 0;
	}
	if (room > c->budget)
		room = c->budget;
	do
		n = recv(c->fd, p, room, 0);
	while (n < 0 && errno == EINTR);
	if (n > 0) {
		c->budget -= (size_t)n;
		/* Edge-triggered: a short read has emptied the socket. */
		if ((size_t)n < room && !c->hangup)
			c->readable = false;
		return n;
	}
	if (n < 0 && errno == EAGAIN) {
		c->readable = false;
		return 0;
	}
	return -1;
}

static void
in_free(struct conn *c)
{
	if (c->in_cap == IN_FIRST)
		spares_put(&c->worker->conns->ins, c->in);
	else
		free(c->in);
	c->in = NULL;
	c->in_cap = 0;
}

static bool
in_resize(struct conn *c, size_t cap)
{
	char *in = c->in == NULL && cap == IN_FIRST
		       ? spares_get(&c->worker->conns->ins)
		       : realloc(c->in, cap);

	if (in == NULL)
		return false;
	c->in = in;
	c->in_cap = cap;
	if (c->x != NULL)
		c->x->head.base = in;
	return true;
}

static bool
in_reserve(struct conn *c, size_t cap)
{
	return cap <= c->in_cap || in_resize(c, cap);
}

/*
 * What of the body went through the room behind the head is in the body now.
 * An answer can take long: the room is not kept for it.
 */
static void
in_drop_body(struct conn *c)
{
	size_t head = c->x->head.size;
	size_t more = c->in_len - c->in_next;

	memmove(c->in + head, c->in + c->in_next, more);
	c->in_next = head;
	c->in_len = head + more;
	if (c->in_cap > IN_FIRST)
		(void)in_resize(c, c->in_len);
}

static void
refuse(struct conn *c, enum respond_error error, const char *why)
{
	c->closing = true;
	respond_error(c->x, error, why != NULL ? "%s" : NULL, why);
}

static const enum respond_error head_errors[] = {
	[HTTP_HEAD_BAD] = RESPOND_BAD_REQUEST,
	[HTTP_HEAD_VERSION] = RESPOND_HTTP_VERSION,
	[HTTP_HEAD_CODING] = RESPOND_CODING_UNKNOWN,
	[HTTP_HEAD_TOO_LARGE] = RESPOND_HEAD_TOO_LARGE,
};

static const enum respond_error body_errors[] = {
	[BODY_BAD] = RESPOND_BAD_REQUEST,
	[BODY_BAD_ENCODING] = RESPOND_BAD_ENCODING,
	[BODY_UNKNOWN_CODING] = RESPOND_ENCODING_UNKNOWN,
	[BODY_TOO_LARGE] = RESPOND_BODY_TOO_LARGE,
	[BODY_OVERLOADED] = RESPOND_OVERLOADED,
};

static enum step
serve_whole(struct conn *c)
{
	struct exchange *x = c->x;

	c->state = CONN_WORKING;
	x->body = c->body.data;
	x->body_len = c->body.len;
	in_drop_body(c);
	watch_progress(c);
	check_later(c);
	serve_request(x);
	return STEP_ON;
}

static void
send_continue(struct conn *c)
{
	static char interim[] = "HTTP/1.1 100 Continue\r\n\r\n";
	struct iovec iov = { interim, sizeof(interim) - 1 };

	conn_send(c, &iov, 1);
}

static enum step
body_outcome(struct conn *c, enum body_result result)
{
	if (result == BODY_DONE)
		return serve_whole(c);
	if (result != BODY_MORE) {
		refuse(c, body_errors[result], NULL);
		return STEP_ON;
	}
	c->state = CONN_BODY;
	return STEP_ON;
}

/* The head is whole: decide who may go on. */
static enum step
head_done(struct conn *c)
{
	struct exchange *x = c->x;
	enum body_result result;

	c->in_next = x->head.size;
	if (!x->head.chunked && x->head.content_length <= 0)
		c->state = CONN_WORKING;
	if (serve_head(x) == SERVE_ANSWERED)
		return STEP_ON;
	result = body_begin(&c->body, c->worker, &x->head);
	if (result == BODY_MORE) {
		c->body_mark = 0;
		set_deadline(c, config_of(c)->limits.body_timeout_ms);
		if (x->head.expect_continue && c->in_len == c->in_next)
			send_continue(c);
	}
	return body_outcome(c, result);
}

static enum step
parse_head(struct conn *c)
{
	size_t max = (size_t)config_of(c)->limits.header;
	struct exchange *x = c->x;
	enum http_head_result result;

	result = http_head_parse(&x->head, c->in, c->in_len);
	if (result == HTTP_HEAD_DONE && x->head.size <= max)
		return head_done(c);
	if (result == HTTP_HEAD_MORE && c->in_len < max)
		return STEP_ON;
	if (result <= HTTP_HEAD_MORE)
		result = HTTP_HEAD_TOO_LARGE;
	refuse(c, head_errors[result], x->head.error);
	return STEP_ON;
}

/* Room for more of a head, which is never full without being refused. */
static bool
in_grow(struct conn *c)
{
	size_t max = (size_t)config_of(c)->limits.header;
	size_t cap = c->in_cap != 0 ? c->in_cap * 2 : IN_FIRST;

	return c->in_len < c->in_cap || in_reserve(c, cap < max ? cap : max);
}

static enum step
read_head(struct conn *c)
{
	ssize_t n;

	if (!c->readable)
		return STEP_WAIT;
	n = in_grow(c) ? receive(c, c->in + c->in_len, c->in_cap - c->in_len)
		       : -1;
	if (n < 0)
		conn_close(c);
	if (n <= 0)
		return STEP_WAIT;
	c->in_len += (size_t)n;
	if (c->x == NULL)
		exchange_begin(c);
	return c->x != NULL ? parse_head(c) : STEP_WAIT;
}

/* Idle: the next request may be here already. */
static enum step
step_idle(struct conn *c)
{
	if (c->in_len == 0)
		return read_head(c);
	exchange_begin(c);
	return c->x != NULL ? parse_head(c) : STEP_WAIT;
}

/* A body that dribbles is no better than one that stands still. */
static void
body_progress(struct conn *c, size_t n)
{
	c->body_mark += n;
	if (c->body_mark < BODY_PACE)
		return;
	c->body_mark = 0;
	set_deadline(c, config_of(c)->limits.body_timeout_ms);
}

/* Body bytes that came with the head, or wait in the staging room. */
static enum body_result
body_from_in(struct conn *c)
{
	size_t have = c->in_len - c->in_next;
	size_t before = c->body.len;
	enum body_result result;
	size_t room, used, made;
	char *to = body_room(&c->body, &room);

	if (room > 0) {
		used = have < room ? have : room;
		memcpy(to, c->in + c->in_next, used);
		result = body_added(&c->body, used);
	} else {
		result = body_feed(&c->body, c->in + c->in_next, have, &used);
	}
	c->in_next += used;
	made = c->body.len - before;
	c->budget -= made < c->budget ? made : c->budget;
	return result;
}

/* Straight into the body, and never beyond its end. */
static enum step
read_body(struct conn *c, char *to, size_t room)
{
	ssize_t n = receive(c, to, room);

	if (n < 0)
		conn_close(c);
	if (n <= 0)
		return STEP_WAIT;
	body_progress(c, (size_t)n);
	return body_outcome(c, body_added(&c->body, (size_t)n));
}

/* To staging room behind the head, from where body_from_in() takes it. */
static enum step
stage_body(struct conn *c)
{
	ssize_t n = -1;

	c->in_len = c->in_next = c->x->head.size;
	if (in_reserve(c, c->in_len + IN_STAGE))
		n = receive(c, c->in + c->in_len, c->in_cap - c->in_len);
	if (n < 0)
		conn_close(c);
	if (n <= 0)
		return STEP_WAIT;
	body_progress(c, (size_t)n);
	c->in_len += (size_t)n;
	return STEP_ON;
}

static enum step
step_body(struct conn *c)
{
	enum body_result result;
	size_t room;
	char *to;

	/* An interim answer may wait for the socket. */
	if (sendq_flush(&c->out) < 0) {
		conn_close(c);
		return STEP_WAIT;
	}
	if (c->in_len > c->in_next || body_waits(&c->body)) {
		result = body_from_in(c);
		if (result == BODY_YIELD)
			return next_turn(c);
		if (result != BODY_MORE)
			return body_outcome(c, result);
	}
	to = body_room(&c->body, &room);
	return room > 0 ? read_body(c, to, room) : stage_body(c);
}

void
conn_release_body(struct conn *c)
{
	body_release(&c->body);
	if (c->in_cap > c->in_len && c->in_len > 0)
		(void)in_resize(c, c->in_len);
}

/* ---- ending */

static void
on_reaper(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	struct conns *cs = arg;
	struct conn *c;

	while ((c = TAILQ_FIRST(&cs->dead)) != NULL) {
		TAILQ_REMOVE(&cs->dead, c, link);
		free(c);
	}
}

/* Where only the close ends an answer, it must not look like its end. */
static bool
would_seem_whole(const struct conn *c)
{
	return c->unframed &&
	       (c->state == CONN_WORKING || c->cut || conn_queued(c) > 0);
}

static void
reset_on_close(struct conn *c)
{
	struct linger hard = { .l_onoff = 1, .l_linger = 0 };

	(void)setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
}

/* The exchange dies, and with it the relay's interest in it. */
static void
abandon(struct conn *c)
{
	struct relay *relay = c->x->relay;

	c->x->relay = NULL;
	if (relay != NULL)
		relay_client_gone(relay);
	exchange_end(c);
}

/*
 * The end: the descriptor is closed now, the struct freed when the turn is
 * over, because callers up the stack still hold it.
 */
static void
conn_close(struct conn *c)
{
	struct conns *cs = c->worker->conns;

	if (c->state == CONN_DEAD)
		return;
	if (would_seem_whole(c))
		reset_on_close(c);
	c->state = CONN_DEAD;
	if (c->x != NULL)
		abandon(c);
	(void)event_del(&c->event);
	(void)event_del(&c->timer);
	(void)event_del(&c->again);
	(void)close(c->fd);
	in_free(c);
	sendq_fini(&c->out);
	TAILQ_REMOVE(&cs->live, c, link);
	TAILQ_INSERT_TAIL(&cs->dead, c, link);
	event_active(&cs->reaper, EV_TIMEOUT, 0);
	cs->count--;
	atomic_fetch_sub(&c->worker->slot->connections, 1);
	worker_conn_gone(c->worker);
}

void
conn_answered(struct conn *c)
{
	assert(c->state != CONN_DEAD);
	exchange_end(c);
	c->want_writable = false;
	c->state = CONN_FLUSH;
	if (conn_queued(c) > 0)
		watch_progress(c);
	/* Inside of conn_run() its loop goes on from here. */
	if (!c->running)
		event_active(&c->again, EV_TIMEOUT, 0);
}

void
conn_break(struct conn *c)
{
	c->cut = true;
	c->closing = true;
	conn_answered(c);
}

/*
 * Closing a socket whose input was not read resets the connection, and the
 * reset can overtake our answer (RFC 9112 9.6). So only our side is shut, and
 * the client has a moment to read and leave.
 */
static enum step
linger(struct conn *c)
{
	if (would_seem_whole(c)) {
		conn_close(c);
		return STEP_WAIT;
	}
	c->state = CONN_LINGER;
	(void)shutdown(c->fd, SHUT_WR);
	set_deadline(c, LINGER_MS);
	return STEP_ON;
}

/* Forgets the request that was answered; what came behind it is the next. */
static enum step
next_request(struct conn *c)
{
	c->in_len -= c->in_next;
	if (c->in_len > 0) {
		memmove(c->in, c->in + c->in_next, c->in_len);
	} else {
		in_free(c);
	}
	c->in_next = 0;
	c->state = CONN_IDLE;
	c->kept = true;
	set_deadline(c, config_of(c)->limits.idle_timeout_ms);
	/* Many requests in one segment: others get their turn between them. */
	return c->in_len > 0 ? next_turn(c) : STEP_ON;
}

static enum step
step_flush(struct conn *c)
{
	if (sendq_flush(&c->out) < 0) {
		conn_close(c);
		return STEP_WAIT;
	}
	if (conn_queued(c) > 0)
		return STEP_WAIT;
	if (c->closing)
		return linger(c);
	if (!c->worker->conns->close_idle || c->in_len > c->in_next)
		return next_request(c);
	/* All that came was read, so no reset can overtake the answer. */
	conn_close(c);
	return STEP_WAIT;
}

static enum step
step_linger(struct conn *c)
{
	char drop[4096];
	ssize_t n = receive(c, drop, sizeof(drop));

	if (n < 0)
		conn_close(c);
	return n > 0 ? STEP_ON : STEP_WAIT;
}

static enum step
step_working(struct conn *c)
{
	bool reset = c->suspect && is_reset(c);

	c->suspect = false;
	if (c->hangup || reset || sendq_flush(&c->out) < 0) {
		conn_close(c);
		return STEP_WAIT;
	}
	if (!c->want_writable || conn_queued(c) >= EXCHANGE_LOW)
		return STEP_WAIT;
	c->want_writable = false;
	if (c->x->relay != NULL)
		relay_writable(c->x->relay);
	return c->state == CONN_WORKING ? STEP_WAIT : STEP_ON;
}

static enum step (*const steps[])(struct conn *c) = {
	[CONN_IDLE] = step_idle,
	[CONN_HEAD] = read_head,
	[CONN_BODY] = step_body,
	[CONN_WORKING] = step_working,
	[CONN_FLUSH] = step_flush,
	[CONN_LINGER] = step_linger,
};

static void
conn_run(struct conn *c)
{
	enum step step = STEP_ON;

	c->running = true;
	c->budget = TURN_BUDGET;
	while (step == STEP_ON && c->state != CONN_DEAD) {
		if (c->broken)
			conn_close(c);
		else
			step = steps[c->state](c);
	}
	c->running = false;
}

static void
on_event(evutil_socket_t fd UNUSED, short what, void *arg)
{
	struct conn *c = arg;

	if ((what & EV_READ) != 0)
		c->readable = true;
	if ((what & EV_WRITE) != 0)
		c->out.writable = true;
	if ((what & EV_CLOSED) != 0)
		c->hangup = true;
	c->suspect = c->state == CONN_WORKING;
	conn_run(c);
}

static void
on_again(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	conn_run(arg);
}

/* Nothing was taken since the deadline was set, or nothing had to be. */
static void
expire_answer(struct conn *c)
{
	if (conn_queued(c) > 0 && c->out.sent == c->sent_mark)
		conn_close(c);
	else
		watch_progress(c);
}

static void
expire(struct conn *c)
{
	switch (c->state) {
	case CONN_HEAD:
	case CONN_BODY:
		refuse(c, RESPOND_REQUEST_TIMEOUT, NULL);
		conn_run(c);
		break;
	case CONN_WORKING:
	case CONN_FLUSH:
		expire_answer(c);
		break;
	case CONN_IDLE:
	case CONN_LINGER:
	case CONN_DEAD:
		conn_close(c);
		break;
	}
}

static void
on_timer(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	struct conn *c = arg;
	int64_t left = c->deadline_ms - now_ms();

	c->armed_ms = 0;
	if (left > 0)
		arm(c, left);
	else
		expire(c);
}

/* ---- all of them */

struct conns *
conns_new(struct worker *w)
{
	struct conns *cs = xcalloc(1, sizeof(*cs));
	size_t workers = (size_t)w->config->workers;

	cs->worker = w;
	TAILQ_INIT(&cs->live);
	TAILQ_INIT(&cs->dead);
	TAILQ_INIT(&cs->unchecked);
	spares_init(&cs->exchanges, sizeof(struct conn_exchange));
	spares_init(&cs->ins, IN_FIRST);
	evtimer_assign(&cs->recheck, w->base, on_recheck, cs);
	evtimer_assign(&cs->reaper, w->base, on_reaper, cs);
	cs->limit =
	    ((size_t)w->config->limits.connections + workers - 1) / workers;
	return cs;
}

void
conns_free(struct conns *cs)
{
	struct conn *c;

	if (cs == NULL)
		return;
	while ((c = TAILQ_FIRST(&cs->live)) != NULL)
		conn_close(c);
	(void)event_del(&cs->reaper);
	(void)event_del(&cs->recheck);
	on_reaper(-1, 0, cs);
	spares_fini(&cs->exchanges);
	spares_fini(&cs->ins);
	free(cs);
}

/* Whether it waits for a request that may never come. */
static bool
is_idle(const struct conn *c)
{
	char byte;

	return c->state == CONN_IDLE && c->kept && c->in_len == 0 &&
	       recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0;
}

void
conns_close_idle(struct conns *cs)
{
	struct conn *c, *next;

	cs->close_idle = true;
	for (c = TAILQ_FIRST(&cs->live); c != NULL; c = next) {
		next = TAILQ_NEXT(c, link);
		if (is_idle(c))
			conn_close(c);
	}
}

size_t
conns_count(const struct conns *cs)
{
	return cs->count;
}

void
conn_open(struct worker *w, int fd, bool admin)
{
	struct conns *cs = w->conns;
	struct conn *c;
	int one = 1;

	if (cs->count >= cs->limit + OVER_LIMIT_MAX ||
	    (c = calloc(1, sizeof(*c))) == NULL) {
		(void)close(fd);
		return;
	}
	/* Fails on a unix socket, where there is nothing to delay. */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	c->worker = w;
	c->fd = fd;
	c->state = CONN_IDLE;
	c->admin = admin;
	c->over_limit = cs->count >= cs->limit;
	sendq_init(&c->out, fd, OUT_MAX);
	TAILQ_INSERT_TAIL(&cs->live, c, link);
	cs->count++;
	atomic_fetch_add(&w->slot->connections, 1);
	evtimer_assign(&c->timer, w->base, on_timer, c);
	evtimer_assign(&c->again, w->base, on_again, c);
	(void)event_assign(&c->event, w->base, fd,
	    EV_READ | EV_WRITE | EV_CLOSED | EV_ET | EV_PERSIST, on_event, c);
	(void)event_add(&c->event, NULL);
	set_deadline(c, config_of(c)->limits.header_timeout_ms);
}

/* SPDX-License-Identifier: MIT */
/*
 * The client side of a worker for tests: real sockets on a real event loop,
 * conn.c and what it uses, and a relay that does what the test tells it. The
 * test is the client too, and takes its steps between the turns of the loop.
 */
#ifndef FL_TESTS_UNIT_CLIENT_SIDE_H
#define FL_TESTS_UNIT_CLIENT_SIDE_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <event2/event.h>

#include "common/clock.h"
#include "worker/client/conn.h"
#include "worker/http/http_chunk.h"

#define KEY  "Authorization: Bearer sk-test\r\n"
#define HOST "Host: a\r\n"
#define POST "POST /v1/chat/completions HTTP/1.1\r\n" HOST KEY
#define GET  "GET /healthz HTTP/1.1\r\n" HOST "\r\n"

enum {
	DEADLINE_MS = 20000, /* of a condition; a failure, not a wait */
	LONG_MS = 600000,
	LIMIT = 16 << 20,
	TEXT = 3 << 20
};

/* Slow: with next to no buffers, so that every writer meets EAGAIN. */
enum transport { UNIX, TCP, SLOW_UNIX, SLOW_TCP };

enum { SMALL = 4096 };

struct client {
	int fd;
	struct buf got;
	size_t at;  /* of the first answer that was not looked at */
	bool deaf;  /* leaves what comes in the socket */
	bool eof;   /* the server shut its side */
	bool reset; /* or broke it */
};

struct answer {
	int status;
	bool close;
	bool keep_alive; /* said, as only HTTP/1.0 needs it */
	char id[REQUEST_ID_LEN + 1];
	struct buf body;
};

struct fixture {
	struct config config;
	struct digest key;
	struct worker worker;
	struct client client;
};

/* ---- the relay of these tests */

struct relay {
	struct exchange *x;
};

static struct {
	bool hold; /* keeps the exchange; else answers with its body */
	struct relay relay;
	unsigned started, writable, gone;
	bool exit; /* a draining worker would end now */
} fake;

void
relay_start(struct exchange *x)
{
	fake.started++;
	if (fake.hold) {
		fake.relay.x = x;
		x->relay = &fake.relay;
	} else {
		exchange_answer(x, 200, NULL, 0, x->body, x->body_len);
	}
}

void
relay_writable(struct relay *r)
{
	assert_ptr_equal(r->x->relay, r);
	fake.writable++;
}

void
relay_client_gone(struct relay *r)
{
	assert_non_null(r->x);
	r->x = NULL;
	fake.gone++;
}

void
worker_conn_gone(struct worker *w)
{
	if (w->state == WORKER_DRAINING && conns_count(w->conns) == 0)
		fake.exit = true;
}

/* Takes the held exchange, as a relay does that is about to end it. */
static inline struct exchange *
held(void)
{
	struct exchange *x = fake.relay.x;

	assert_non_null(x);
	x->relay = NULL;
	fake.relay.x = NULL;
	return x;
}

/* ---- the client */

static inline void
client_read(struct client *c)
{
	char part[65536];
	ssize_t n;

	while (!c->eof && !c->reset) {
		n = recv(c->fd, part, sizeof(part), MSG_DONTWAIT);
		if (n > 0)
			buf_append(&c->got, part, (size_t)n);
		else if (n == 0)
			c->eof = true;
		else if (errno == EAGAIN)
			return;
		else
			c->reset = true;
	}
	assert_false(c->got.failed);
}

static inline void
turn(struct fixture *f)
{
	(void)event_base_loop(f->worker.base, EVLOOP_NONBLOCK | EVLOOP_ONCE);
	if (f->client.fd >= 0 && !f->client.deaf)
		client_read(&f->client);
}

static inline void
turns(struct fixture *f, int n)
{
	while (n-- > 0)
		turn(f);
}

static inline int64_t
now_ms(void)
{
	return clock_mono_us() / 1000;
}

#define UNTIL(f, condition)                                                    \
	do {                                                                   \
		int64_t end_ms = now_ms() + DEADLINE_MS;                       \
		while (!(condition)) {                                         \
			assert_true(now_ms() < end_ms);                        \
			turn(f);                                               \
		}                                                              \
	} while (0)

/* Lets that much time pass on the loop; for what must not happen in it. */
static inline void
pass(struct fixture *f, int64_t ms)
{
	int64_t end_ms = now_ms() + ms;

	while (now_ms() < end_ms)
		turn(f);
}

static inline void
shrink(int fd, int option)
{
	int small = SMALL;

	setsockopt(fd, SOL_SOCKET, option, &small, sizeof(small));
}

static inline void
unix_pair(int fds[2], bool slow)
{
	assert_int_equal(
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
	if (slow)
		shrink(fds[0], SO_SNDBUF);
}

static inline void
tcp_pair(int fds[2], bool slow)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };
	socklen_t len = sizeof(sin);
	int l = socket(AF_INET, SOCK_STREAM, 0);

	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(l, (struct sockaddr *)&sin, sizeof(sin)), 0);
	assert_int_equal(listen(l, 1), 0);
	assert_int_equal(getsockname(l, (struct sockaddr *)&sin, &len), 0);
	fds[1] = socket(AF_INET, SOCK_STREAM, 0);
	if (slow)
		shrink(fds[1], SO_RCVBUF);
	assert_int_equal(
	    connect(fds[1], (struct sockaddr *)&sin, sizeof(sin)), 0);
	fds[0] = accept4(l, NULL, NULL, SOCK_NONBLOCK);
	assert_true(fds[0] >= 0);
	if (slow)
		shrink(fds[0], SO_SNDBUF);
	assert_int_equal(fcntl(fds[1], F_SETFL, O_NONBLOCK), 0);
	close(l);
}

static inline void
client_fini(struct client *c)
{
	if (c->fd >= 0)
		close(c->fd);
	buf_fini(&c->got);
	*c = (struct client){ .fd = -1 };
}

static inline void
client_open(struct fixture *f, struct client *c, enum transport transport)
{
	int fds[2];

	if (transport == UNIX || transport == SLOW_UNIX)
		unix_pair(fds, transport == SLOW_UNIX);
	else
		tcp_pair(fds, transport == SLOW_TCP);
	client_fini(c);
	c->fd = fds[1];
	buf_init(&c->got, 64 << 20);
	conn_open(&f->worker, fds[0], false);
}

static inline void
client_reset(struct client *c)
{
	struct linger hard = { .l_onoff = 1, .l_linger = 0 };

	setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	client_fini(c);
}

/* Sends in pieces, with turns of the loop between them and while it is full. */
static inline void
send_pieces(struct fixture *f, const char *p, size_t len, size_t piece)
{
	int64_t end_ms = now_ms() + DEADLINE_MS;
	size_t n;
	ssize_t sent;

	while (len > 0) {
		assert_true(now_ms() < end_ms);
		n = len < piece ? len : piece;
		sent = send(f->client.fd, p, n, MSG_NOSIGNAL);
		if (sent < 0 && errno != EAGAIN)
			return; /* refused, and the answer says why */
		if (sent > 0) {
			p += sent;
			len -= (size_t)sent;
		}
		if (len > 0)
			turn(f);
	}
}

static inline void
send_text(struct fixture *f, const char *text)
{
	send_pieces(f, text, strlen(text), SIZE_MAX);
}

/* ---- answers, as a client reads them */

static inline struct span
field(struct span head, const char *name)
{
	size_t len = strlen(name);
	const char *p = head.p, *end = head.p + head.len, *lf;

	while ((lf = memchr(p, '\n', (size_t)(end - p))) != NULL) {
		if ((size_t)(lf - p) > len + 2 && memcmp(p, name, len) == 0 &&
		    p[len] == ':')
			return span_trim((struct span){
			    p + len + 1, (size_t)(lf - 1 - p) - len - 1 });
		p = lf + 1;
	}
	return (struct span){ NULL, 0 };
}

/* Bytes of the body on the wire, -1: not all is there. */
static inline ssize_t
read_length(
    struct client *c, struct span rest, struct span length, struct answer *a)
{
	size_t len = (size_t)strtoul(length.p, NULL, 10);

	if (rest.len < len)
		return -1;
	(void)c;
	buf_append(&a->body, rest.p, len);
	return (ssize_t)len;
}

static inline ssize_t
read_chunks(struct span rest, struct answer *a)
{
	struct http_chunk chunk;
	char *copy = malloc(rest.len + 1);
	size_t used, made;
	enum http_chunk_result result;

	memcpy(copy, rest.p, rest.len);
	http_chunk_init(&chunk, SIZE_MAX);
	result = http_chunk_decode(&chunk, copy, rest.len, &used, &made);
	if (result == HTTP_CHUNK_DONE)
		buf_append(&a->body, copy, made);
	free(copy);
	assert_true(result <= HTTP_CHUNK_MORE);
	return result == HTTP_CHUNK_DONE ? (ssize_t)used : -1;
}

static inline ssize_t
read_answer_body(struct client *c, struct span head, struct span rest,
    bool head_only, struct answer *a)
{
	struct span length = field(head, "content-length");

	if (head_only || a->status < 200)
		return 0;
	if (length.p != NULL)
		return read_length(c, rest, length, a);
	if (field(head, "transfer-encoding").p != NULL)
		return read_chunks(rest, a);
	if (!c->eof)
		return -1;
	buf_append(&a->body, rest.p, rest.len);
	return (ssize_t)rest.len;
}

/* Takes the next answer if all of it is there. */
static inline bool
next_answer(struct client *c, bool head_only, struct answer *a)
{
	const char *p = c->got.data + c->at;
	size_t have = c->got.len - c->at;
	const char *end = have > 0 ? memmem(p, have, "\r\n\r\n", 4) : NULL;
	struct span head, rest, id;
	ssize_t used;

	buf_init(&a->body, 64 << 20);
	if (end == NULL)
		return false;
	head = (struct span){ p, (size_t)(end + 2 - p) };
	rest = (struct span){ end + 4, have - head.len - 2 };
	assert_memory_equal(p, "HTTP/1.1 ", 9);
	a->status = atoi(p + 9);
	a->close = span_equal(field(head, "connection"), SPAN("close"));
	a->keep_alive =
	    span_equal(field(head, "connection"), SPAN("keep-alive"));
	id = field(head, "x-fairlead-request-id");
	if (a->status >= 200)
		assert_int_equal(id.len, REQUEST_ID_LEN);
	(void)snprintf(a->id, sizeof(a->id), "%.*s", (int)id.len, id.p);
	used = read_answer_body(c, head, rest, head_only, a);
	if (used < 0)
		return false;
	c->at += head.len + 2 + (size_t)used;
	return true;
}

static inline struct answer
expect_answer(struct fixture *f, int status, bool close)
{
	struct answer a;

	UNTIL(f, next_answer(&f->client, false, &a));
	assert_int_equal(a.status, status);
	assert_int_equal(a.close, close);
	return a;
}

static inline void
expect(struct fixture *f, int status, bool close)
{
	struct answer a = expect_answer(f, status, close);

	buf_fini(&a.body);
}

/* Nothing is left unread, and the server is through with this client. */
static inline void
expect_end(struct fixture *f)
{
	UNTIL(f, f->client.eof || f->client.reset);
	assert_false(f->client.reset);
	assert_int_equal(f->client.at, f->client.got.len);
}

static inline void
expect_open(struct fixture *f)
{
	turns(f, 3);
	assert_false(f->client.eof || f->client.reset);
	assert_int_equal(f->client.at, f->client.got.len);
	assert_int_equal(conns_count(f->worker.conns), 1);
}

/* ---- setting up */

static struct board *board;
static char text[TEXT];

static inline int
set_up_group(void **state UNUSED)
{
	uint32_t random = 1;
	size_t i;

	/* Only the words that a reservation touches are ever used of it. */
	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_true(board != MAP_FAILED);
	for (i = 0; i < TEXT; i++) {
		random = random * 1103515245 + 12345;
		text[i] = (char)('a' + (random >> 16) % 23);
	}
	return 0;
}

static inline int
tear_down_group(void **state UNUSED)
{
	return munmap(board, sizeof(*board));
}

static inline struct event_base *
new_base(void)
{
	struct event_config *cfg = event_config_new();
	struct event_base *base;

	assert_int_equal(event_config_require_features(
			     cfg, EV_FEATURE_ET | EV_FEATURE_EARLY_CLOSE),
	    0);
	base = event_base_new_with_config(cfg);
	event_config_free(cfg);
	assert_non_null(base);
	return base;
}

static inline int
set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct config *config = &f->config;

	memset(&fake, 0, sizeof(fake));
	digest_of_client_key("sk-test", 7, &f->key);
	config->client_keys.v = &f->key;
	config->client_keys.n = 1;
	config->workers = 1;
	config->limits.body = LIMIT;
	config->limits.bodies_total = 2 * LIMIT;
	config->limits.header = 65536;
	config->limits.connections = 100;
	config->limits.header_timeout_ms = LONG_MS;
	config->limits.body_timeout_ms = LONG_MS;
	config->limits.idle_timeout_ms = LONG_MS;
	config->limits.stream_idle_timeout_ms = LONG_MS;
	f->worker.base = new_base();
	f->worker.config = config;
	f->worker.board = board;
	f->worker.slot = &board->slots[0];
	f->worker.state = WORKER_SERVING;
	f->worker.access_fd = -1;
	f->worker.conns = conns_new(&f->worker);
	f->client.fd = -1;
	*state = f;
	return 0;
}

static inline int
tear_down(void **state)
{
	struct fixture *f = *state;

	client_fini(&f->client);
	conns_free(f->worker.conns);
	event_base_free(f->worker.base);
	assert_int_equal(atomic_load(&board->bodies), 0);
	assert_int_equal(atomic_load(&board->slots[0].connections), 0);
	free(f);
	return 0;
}

/* Sends a request for which the relay keeps the exchange. */
static inline void
start_held(struct fixture *f, const char *request)
{
	unsigned before = fake.started;

	fake.hold = true;
	send_text(f, request);
	UNTIL(f, fake.started == before + 1);
}

static inline void
write_body(struct exchange *x, const char *p, size_t len)
{
	struct iovec iov = { .iov_len = len };

	memcpy(&iov.iov_base, &p, sizeof(p));
	(void)exchange_write(x, &iov, 1);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif

/* SPDX-License-Identifier: MIT */
/*
 * upstream.h over each of its carriers, and over TLS, against an origin on the
 * same event loop, which answers by the path it is asked for.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "common/alloc.h"
#include "common/buf.h"
#include "common/outbound.h"
#include "worker/upstream/carrier.h"
#include "worker/upstream/upstream.h"
#include "worker/worker.h"

enum { BIG = 8 * 1024 * 1024, GUARD_S = 20, LOG_MAX = 64 * 1024 };

struct origin {
	struct evconnlistener *listener;
	TAILQ_HEAD(, visit) visits;
	unsigned port;
	unsigned connections;
	unsigned closed;
	unsigned requests;
	unsigned resumed; /* connections of TLS that had been here before */
	struct buf seen;  /* heads of the requests */
	size_t body_len;  /* of the last one */
};

struct visit {
	TAILQ_ENTRY(visit) link;
	struct bufferevent *bev;
	struct event *drip;
	size_t dripped;
	bool closing; /* when all is written */
	struct origin *origin;
	unsigned requests; /* on this connection */
};

/* What a test wants done in an event. */
enum act { ACT_NONE, ACT_CANCEL, ACT_PAUSE };

struct client {
	struct upstream_call *call;
	enum act on_head, on_data;
	int status;
	unsigned heads, datas;
	struct buf body;
	bool done;
	bool stopped; /* cancelled by the test: no event may come */
	enum upstream_end end;
	char detail[160];
	char type[64];
	struct client *then; /* started when this one is done */
};

/* An answer as its bytes, for the path /raw. */
struct raw {
	const char *text;
	size_t step; /* bytes written at a time; 0: all at once */
	bool close;  /* behind the last of them */
};

static struct worker worker;
static struct origin origin;
static struct raw raw;
static const struct carrier *carrier; /* NULL: whichever is chosen */
static SSL_CTX *origin_tls;           /* NULL: it speaks plainly */
static char ca_file[] = "/tmp/fairlead-test-ca-XXXXXX";
static bool guard_fired;

static void
on_guard(evutil_socket_t fd UNUSED, short what UNUSED, void *arg UNUSED)
{
	guard_fired = true;
}

static void
reply(struct bufferevent *bev, const char *text)
{
	bufferevent_write(bev, text, strlen(text));
}

static void
drop(struct bufferevent *bev, bool reset)
{
	struct linger linger = { .l_onoff = 1, .l_linger = 0 };
	struct visit *v;

	if (reset)
		setsockopt(bufferevent_getfd(bev), SOL_SOCKET, SO_LINGER,
		    &linger, sizeof(linger));
	else if (origin_tls != NULL)
		SSL_shutdown(bufferevent_openssl_get_ssl(bev));
	bufferevent_getcb(bev, NULL, NULL, NULL, (void **)&v);
	TAILQ_REMOVE(&v->origin->visits, v, link);
	if (v->drip != NULL)
		event_free(v->drip);
	free(v);
	bufferevent_free(bev);
}

static void
reply_ok(struct bufferevent *bev, struct visit *v UNUSED)
{
	reply(bev,
	    "HTTP/1.1 200 OK\r\nContent-Type:  text/plain \r\n"
	    "X-Twice: a\r\nX-Twice: b\r\nContent-Length: 5\r\n\r\nhello");
}

static void
reply_interim(struct bufferevent *bev, struct visit *v)
{
	reply(bev, "HTTP/1.1 100 Continue\r\n\r\n"
		   "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n");
	reply_ok(bev, v);
}

static void
reply_chunks(struct bufferevent *bev, struct visit *v UNUSED)
{
	struct evbuffer *out = evbuffer_new();

	evbuffer_add_printf(
	    out, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
	for (int i = 0; i < 10; i++)
		evbuffer_add_printf(out, "6\r\nchunk%d\r\n", i);
	evbuffer_add_printf(out, "0\r\nX-Trailer: late\r\n\r\n");
	bufferevent_write_buffer(bev, out);
	evbuffer_free(out);
}

static void
reply_big(struct bufferevent *bev, struct visit *v UNUSED)
{
	char *text = xmalloc(BIG);

	for (size_t i = 0; i < BIG; i++)
		text[i] = (char)('a' + i % 23);
	evbuffer_add_printf(bufferevent_get_output(bev),
	    "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", BIG);
	bufferevent_write(bev, text, BIG);
	free(text);
}

static void
reply_large_head(struct bufferevent *bev, struct visit *v UNUSED)
{
	reply(bev, "HTTP/1.1 200 OK\r\n");
	for (int i = 0; i < 100; i++)
		evbuffer_add_printf(bufferevent_get_output(bev),
		    "X-Filler-%d: %01000d\r\n", i, i);
	reply(bev, "Content-Length: 0\r\n\r\n");
}

static void
reply_nothing(struct bufferevent *bev, struct visit *v UNUSED)
{
	drop(bev, false);
}

static void
reply_half(struct bufferevent *bev, struct visit *v)
{
	v->closing = true;
	reply(bev, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this");
}

/* Keeps the connection, and resets it when it is used again. */
static void
reply_once(struct bufferevent *bev, struct visit *v)
{
	if (v->requests > 1)
		drop(bev, true);
	else
		reply_ok(bev, v);
}

static void
reply_never(struct bufferevent *bev UNUSED, struct visit *v UNUSED)
{
}

/* Answers before it has read the body, which never comes to its end. */
static void
reply_early(struct bufferevent *bev, struct visit *v UNUSED)
{
	reply(bev, "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig");
}

static void
drip(struct visit *v)
{
	size_t left = strlen(raw.text) - v->dripped;
	size_t n = raw.step != 0 && raw.step < left ? raw.step : left;

	v->closing = raw.close && n == left;
	bufferevent_write(v->bev, raw.text + v->dripped, n);
	v->dripped += n;
	if (n < left)
		event_add(v->drip, &(struct timeval){ 0, 0 });
}

static void
on_drip(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	drip(arg);
}

static void
reply_raw(struct bufferevent *bev UNUSED, struct visit *v)
{
	if (v->drip == NULL)
		v->drip = evtimer_new(worker.base, on_drip, v);
	v->dripped = 0;
	drip(v);
}

static const struct {
	const char *path;
	void (*reply)(struct bufferevent *bev, struct visit *v);
} scripts[] = {
	{ "/ok", reply_ok },
	{ "/interim", reply_interim },
	{ "/chunks", reply_chunks },
	{ "/big", reply_big },
	{ "/large-head", reply_large_head },
	{ "/nothing", reply_nothing },
	{ "/half", reply_half },
	{ "/once", reply_once },
	{ "/never", reply_never },
	{ "/early", reply_early },
	{ "/raw", reply_raw },
};

static void
origin_request(struct bufferevent *bev, struct visit *v, const char *head)
{
	const char *path = strchr(head, ' ') + 1;

	if (strncmp(path, "http://", 7) == 0)
		path = strchr(path + 7, '/');
	for (size_t i = 0; i < ARRAY_LEN(scripts); i++) {
		size_t len = strlen(scripts[i].path);

		if (strncmp(path, scripts[i].path, len) == 0 &&
		    path[len] == ' ') {
			scripts[i].reply(bev, v);
			return;
		}
	}
	fail_msg("no script for %s", path);
}

static void
on_origin_read(struct bufferevent *bev, void *arg)
{
	struct evbuffer *in = bufferevent_get_input(bev);
	struct visit *v = arg;
	struct evbuffer_ptr end = evbuffer_search(in, "\r\n\r\n", 4, NULL);
	const char *length;
	size_t head_len, body_len = 0;
	char *head;

	if (end.pos < 0)
		return;
	head_len = (size_t)end.pos + 4;
	head =
	    xstrndup((char *)evbuffer_pullup(in, (ssize_t)head_len), head_len);
	length = strcasestr(head, "\r\nContent-Length:");
	if (length != NULL)
		body_len = strtoul(length + 17, NULL, 10);
	if (evbuffer_get_length(in) >= head_len + body_len ||
	    strstr(head, "/early ") != NULL) {
		evbuffer_drain(in, head_len + body_len);
		if (strstr(head, "/early ") != NULL)
			bufferevent_disable(bev, EV_READ);
		buf_puts(&v->origin->seen, head);
		v->origin->body_len = body_len;
		v->origin->requests++;
		v->requests++;
		origin_request(bev, v, head);
	}
	free(head);
}

static void
on_origin_written(struct bufferevent *bev, void *arg)
{
	struct visit *v = arg;

	if (v->closing && evbuffer_get_length(bufferevent_get_output(bev)) == 0)
		drop(bev, false);
}

static void
on_origin_event(struct bufferevent *bev, short what, void *arg)
{
	struct visit *v = arg;

	if ((what & BEV_EVENT_CONNECTED) != 0) {
		v->origin->resumed += (unsigned)SSL_session_reused(
		    bufferevent_openssl_get_ssl(bev));
		return;
	}
	v->origin->closed++;
	drop(bev, false);
}

static struct bufferevent *
new_bev(evutil_socket_t fd)
{
	if (origin_tls == NULL)
		return bufferevent_socket_new(
		    worker.base, fd, BEV_OPT_CLOSE_ON_FREE);
	return bufferevent_openssl_socket_new(worker.base, fd,
	    SSL_new(origin_tls), BUFFEREVENT_SSL_ACCEPTING,
	    BEV_OPT_CLOSE_ON_FREE);
}

static void
on_accept(struct evconnlistener *listener UNUSED, evutil_socket_t fd,
    struct sockaddr *address UNUSED, int len UNUSED, void *arg)
{
	struct bufferevent *bev = new_bev(fd);
	struct visit *v = xcalloc(1, sizeof(*v));
	int one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	v->origin = arg;
	v->bev = bev;
	TAILQ_INSERT_TAIL(&v->origin->visits, v, link);
	v->origin->connections++;
	bufferevent_setcb(
	    bev, on_origin_read, on_origin_written, on_origin_event, v);
	bufferevent_enable(bev, EV_READ | EV_WRITE);
}

static void
on_head(void *ctx, int status)
{
	struct client *c = ctx;
	struct span type = upstream_header_get(c->call, "content-type");

	assert_false(c->stopped || c->done);
	c->heads++;
	c->status = status;
	(void)snprintf(c->type, sizeof(c->type), "%.*s", (int)type.len, type.p);
	if (c->on_head == ACT_CANCEL) {
		upstream_cancel(c->call);
		c->stopped = true;
	} else if (c->on_head == ACT_PAUSE) {
		upstream_pause(c->call);
	}
}

static void
on_data(void *ctx, const char *p, size_t len)
{
	struct client *c = ctx;

	assert_false(c->stopped || c->done);
	assert_int_equal(c->heads, 1);
	assert_true(len > 0);
	c->datas++;
	buf_append(&c->body, p, len);
	if (c->on_data == ACT_CANCEL) {
		upstream_cancel(c->call);
		c->stopped = true;
	} else if (c->on_data == ACT_PAUSE) {
		upstream_pause(c->call);
	}
}

static void client_start(struct client *c, const char *path);

static void
origin_url(char url[128], const char *host, const char *path)
{
	(void)snprintf(url, 128, "%s://%s:%u%s",
	    origin_tls != NULL ? "https" : "http", host, origin.port, path);
}

static void
on_done(void *ctx, enum upstream_end end, const char *detail)
{
	struct client *c = ctx;

	assert_false(c->stopped || c->done);
	c->done = true;
	c->end = end;
	(void)str_copy(c->detail, sizeof(c->detail), detail);
	if (c->then != NULL)
		client_start(c->then, "/ok");
}

static const struct upstream_events events = { on_head, on_data, on_done };

static int
client_ask(struct client *c, struct upstream_request *req)
{
	buf_init(&c->body, 2 * BIG);
	req->method = "POST";
	if (req->proxy == NULL)
		req->proxy = "";
	if (req->connect_timeout_ms == 0)
		req->connect_timeout_ms = 5000;
	return upstream_start(worker.upstream, req, &events, c, &c->call);
}

static void
client_start(struct client *c, const char *path)
{
	char url[128];
	struct upstream_request req = {
		.url = url, .body = "{}", .body_len = 2
	};

	origin_url(url, "127.0.0.1", path);
	assert_int_equal(client_ask(c, &req), 0);
	assert_int_equal(c->heads, 0);
}

static void
turn(void)
{
	assert_int_equal(event_base_loop(worker.base, EVLOOP_ONCE), 0);
	assert_false(guard_fired);
}

static void
client_wait(struct client *c)
{
	while (!c->done)
		turn();
}

static void
client_fini(struct client *c)
{
	buf_fini(&c->body);
}

static void
client_run(struct client *c, const char *path)
{
	client_start(c, path);
	client_wait(c);
}

static int
setup(void **state UNUSED)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(address);

	guard_fired = false;
	memset(&origin, 0, sizeof(origin));
	buf_init(&origin.seen, LOG_MAX);
	TAILQ_INIT(&origin.visits);
	worker.base = event_base_new();
	worker.upstream = carrier != NULL ? upstream_new_over(&worker, carrier)
					  : upstream_new(&worker);
	assert_non_null(worker.upstream);
	origin.listener = evconnlistener_new_bind(worker.base, on_accept,
	    &origin, LEV_OPT_CLOSE_ON_FREE, 256, (struct sockaddr *)&address,
	    sizeof(address));
	assert_non_null(origin.listener);
	assert_int_equal(getsockname(evconnlistener_get_fd(origin.listener),
			     (struct sockaddr *)&address, &len),
	    0);
	origin.port = ntohs(address.sin_port);
	event_base_once(worker.base, -1, EV_TIMEOUT, on_guard, NULL,
	    &(struct timeval){ .tv_sec = GUARD_S });
	return 0;
}

static int
teardown(void **state UNUSED)
{
	upstream_free(worker.upstream);
	while (!TAILQ_EMPTY(&origin.visits))
		drop(TAILQ_FIRST(&origin.visits)->bev, false);
	evconnlistener_free(origin.listener);
	buf_fini(&origin.seen);
	event_base_free(worker.base);
	return 0;
}

static void
answer_comes_as_head_data_and_done(void **state UNUSED)
{
	struct client c = { 0 };

	client_run(&c, "/ok");
	assert_int_equal(c.end, UPSTREAM_COMPLETE);
	assert_int_equal(c.heads, 1);
	assert_int_equal(c.status, 200);
	assert_string_equal(c.type, "text/plain");
	assert_string_equal(buf_string(&c.body), "hello");
	client_fini(&c);
}

static void
request_goes_out_as_it_was_given(void **state UNUSED)
{
	static const struct upstream_header headers[] = {
		{ "X-One", "1" },
		{ "x_two", "a: b" },
		{ "X-Empty", "" },
		{ "X-One", "again" },
	};
	static const char *const wanted[] = {
		"POST /ok HTTP/1.1\r\n",
		"X-One: 1\r\nx_two: a: b\r\nX-Empty:\r\nX-One: again\r\n",
		"Content-Length: 3\r\n",
	};
	static const char *const unwanted[] = { "Accept", "Expect",
		"Content-Type", "User-Agent", "Connection", "chunked" };
	struct client c = { 0 };
	char url[128];
	struct upstream_request req = { .url = url,
		.headers = headers,
		.nheaders = ARRAY_LEN(headers),
		.body = "abc",
		.body_len = 3 };
	const char *seen;

	origin_url(url, "127.0.0.1", "/ok");
	assert_int_equal(client_ask(&c, &req), 0);
	client_wait(&c);
	assert_int_equal(c.end, UPSTREAM_COMPLETE);
	seen = buf_string(&origin.seen);
	for (size_t i = 0; i < ARRAY_LEN(wanted); i++)
		assert_non_null(strstr(seen, wanted[i]));
	for (size_t i = 0; i < ARRAY_LEN(unwanted); i++)
		assert_null(strcasestr(seen, unwanted[i]));
	client_fini(&c);
}

static void
headers_can_be_walked(void **state UNUSED)
{
	static const char *const wanted[][2] = {
		{ "Content-Type", "text/plain" },
		{ "X-Twice", "a" },
		{ "X-Twice", "b" },
		{ "Content-Length", "5" },
	};
	struct client c = { .on_head = ACT_PAUSE };
	struct span name, value;
	size_t cursor = 0;

	client_start(&c, "/ok");
	while (c.heads == 0)
		turn();
	for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
		assert_true(
		    upstream_header_next(c.call, &cursor, &name, &value));
		assert_true(span_equal(name, span_of(wanted[i][0])));
		assert_true(span_equal(value, span_of(wanted[i][1])));
	}
	assert_false(upstream_header_next(c.call, &cursor, &name, &value));
	assert_null(name.p);
	assert_int_equal(upstream_header_get(c.call, "x-none").len, 0);
	upstream_resume(c.call);
	client_wait(&c);
	client_fini(&c);
}

static void
chunks_of_one_wakeup_come_as_one(void **state UNUSED)
{
	struct client c = { 0 };

	client_run(&c, "/chunks");
	assert_int_equal(c.end, UPSTREAM_COMPLETE);
	assert_int_equal(c.datas, 1);
	assert_int_equal(c.body.len, 60);
	client_fini(&c);
}

static void
interim_answers_are_not_told(void **state UNUSED)
{
	struct client c = { 0 };

	client_run(&c, "/interim");
	assert_int_equal(c.end, UPSTREAM_COMPLETE);
	assert_int_equal(c.heads, 1);
	assert_int_equal(c.status, 200);
	client_fini(&c);
}

static void
head_beyond_its_bound_is_too_large(void **state UNUSED)
{
	struct client c = { 0 };

	client_run(&c, "/large-head");
	assert_int_equal(c.end, UPSTREAM_TOO_LARGE);
	assert_int_equal(c.heads, 0);
	client_fini(&c);
}

static void
dead_connections_are_told_apart(void **state UNUSED)
{
	static const struct {
		const char *path;
		enum upstream_end end;
		unsigned heads;
		const char *body;
	} rows[] = {
		{ "/nothing", UPSTREAM_BROKEN, 0, "" },
		{ "/half", UPSTREAM_BROKEN, 1, "only this" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct client c = { 0 };

		client_run(&c, rows[i].path);
		assert_int_equal(c.end, rows[i].end);
		assert_int_equal(c.heads, rows[i].heads);
		assert_string_equal(buf_string(&c.body), rows[i].body);
		assert_true(c.detail[0] != '\0');
		client_fini(&c);
	}
}

static void
refused_connection_is_no_connect(void **state UNUSED)
{
	struct client c = { 0 };
	struct upstream_request req = { .url = "http://127.0.0.1:1/" };

	assert_int_equal(client_ask(&c, &req), 0);
	client_wait(&c);
	assert_int_equal(c.end, UPSTREAM_NO_CONNECT);
	client_fini(&c);
}

static void
no_descriptor_left_is_no_fault_of_the_origin(void **state UNUSED)
{
	struct client c = { 0 };
	struct upstream_request req = { .url = "http://127.0.0.1:1/" };
	struct rlimit limit, none;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = (struct rlimit){ 0, limit.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_int_equal(client_ask(&c, &req), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	client_wait(&c);
	assert_int_equal(c.end, UPSTREAM_STARVED);
	client_fini(&c);
}

/* The origin never speaks TLS. */
static void
connect_timeout_covers_tls(void **state UNUSED)
{
	struct client c = { 0 };
	char url[128];
	struct upstream_request req = { .url = url, .connect_timeout_ms = 50 };

	(void)snprintf(url, sizeof(url), "https://127.0.0.1:%u/", origin.port);
	assert_int_equal(client_ask(&c, &req), 0);
	client_wait(&c);
	assert_int_equal(c.end, UPSTREAM_NO_CONNECT);
	client_fini(&c);
}

static void
connections_are_used_again(void **state UNUSED)
{
	for (int i = 0; i < 5; i++) {
		struct client c = { 0 };

		client_run(&c, "/ok");
		assert_int_equal(c.end, UPSTREAM_COMPLETE);
		client_fini(&c);
	}
	assert_int_equal(origin.connections, 1);
	assert_int_equal(origin.requests, 5);
}

static void
reused_connection_that_dies_is_no_failure(void **state UNUSED)
{
	struct client first = { 0 }, second = { 0 };

	client_run(&first, "/once");
	client_run(&second, "/once");
	assert_int_equal(first.end, UPSTREAM_COMPLETE);
	assert_true(
	    second.end == UPSTREAM_COMPLETE || second.end == UPSTREAM_STALE);
	client_fini(&first);
	client_fini(&second);
}

static void
assert_big(const struct client *c)
{
	assert_int_equal(c->end, UPSTREAM_COMPLETE);
	assert_int_equal(c->body.len, BIG);
	for (size_t i = 0; i < BIG; i += 997)
		assert_int_equal(c->body.data[i], 'a' + i % 23);
}

static void
nothing_comes_while_paused(void **state UNUSED)
{
	struct client c = { .on_data = ACT_PAUSE };
	struct client other[30] = { 0 };
	size_t before;

	client_start(&c, "/big");
	while (c.datas == 0)
		turn();
	before = c.body.len;
	for (size_t i = 0; i < ARRAY_LEN(other); i++) {
		client_run(&other[i], "/ok");
		client_fini(&other[i]);
	}
	assert_int_equal(c.body.len, before);
	assert_false(c.done);
	while (!c.done) {
		upstream_resume(c.call);
		turn();
	}
	assert_big(&c);
	client_fini(&c);
}

static void
end_waits_for_the_data_before_it(void **state UNUSED)
{
	struct client c = { .on_head = ACT_PAUSE };

	client_start(&c, "/ok");
	while (c.heads == 0)
		turn();
	event_base_loop(worker.base, EVLOOP_NONBLOCK);
	assert_int_equal(c.datas, 0);
	assert_false(c.done);
	upstream_resume(c.call);
	assert_int_equal(c.datas, 0);
	client_wait(&c);
	assert_string_equal(buf_string(&c.body), "hello");
	client_fini(&c);
}

static void
cancel_closes_and_no_event_follows(void **state UNUSED)
{
	static const struct {
		const char *path;
		enum act on_head, on_data;
	} rows[] = {
		{ "/big", ACT_CANCEL, ACT_NONE },
		{ "/big", ACT_NONE, ACT_CANCEL },
		{ "/ok", ACT_CANCEL, ACT_NONE },
		{ "/ok", ACT_NONE, ACT_CANCEL },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct client c = { .on_head = rows[i].on_head,
			.on_data = rows[i].on_data };

		client_start(&c, rows[i].path);
		while (!c.stopped)
			turn();
		event_base_loop(worker.base, EVLOOP_NONBLOCK);
		client_fini(&c);
	}
}

static void
cancel_before_the_first_byte_reaches_the_origin(void **state UNUSED)
{
	struct client c = { 0 };

	client_start(&c, "/never");
	while (origin.requests == 0)
		turn();
	upstream_cancel(c.call);
	c.stopped = true;
	while (origin.closed == 0)
		turn();
	client_fini(&c);
}

static void
cancel_before_anything_happened(void **state UNUSED)
{
	struct client c = { 0 };

	client_start(&c, "/ok");
	upstream_cancel(c.call);
	c.stopped = true;
	event_base_loop(worker.base, EVLOOP_NONBLOCK);
	assert_int_equal(origin.requests, 0);
	client_fini(&c);
}

static void
next_call_can_start_from_done(void **state UNUSED)
{
	struct client second = { 0 };
	struct client first = { .then = &second };

	client_run(&first, "/nothing");
	client_wait(&second);
	assert_int_equal(first.end, UPSTREAM_BROKEN);
	assert_int_equal(second.end, UPSTREAM_COMPLETE);
	client_fini(&first);
	client_fini(&second);
}

static void
many_calls_at_once_are_spread_over_shards(void **state UNUSED)
{
	struct client *c = xcalloc(200, sizeof(*c));

	for (int round = 0; round < 2; round++) {
		memset(c, 0, 200 * sizeof(*c));
		for (int i = 0; i < 200; i++)
			client_start(&c[i], "/ok");
		for (int i = 0; i < 200; i++) {
			client_wait(&c[i]);
			assert_int_equal(c[i].end, UPSTREAM_COMPLETE);
			client_fini(&c[i]);
		}
		upstream_trim(worker.upstream);
	}
	assert_int_equal(origin.requests, 400);
	assert_true(origin.connections <= 200);
	free(c);
}

static void
proxy_is_asked_for_the_whole_url(void **state UNUSED)
{
	struct client c = { 0 };
	char proxy[64];
	struct upstream_request req = { .url = "http://provider.test/ok",
		.proxy = proxy };
	const char *seen;

	(void)snprintf(
	    proxy, sizeof(proxy), "http://u:p@127.0.0.1:%u", origin.port);
	assert_int_equal(client_ask(&c, &req), 0);
	client_wait(&c);
	assert_int_equal(c.end, UPSTREAM_COMPLETE);
	seen = buf_string(&origin.seen);
	assert_non_null(strstr(seen, "POST http://provider.test/ok HTTP/1.1"));
	assert_non_null(strstr(seen, "Proxy-Authorization: Basic dTpw\r\n"));
	client_fini(&c);
}

static void
environment_names_no_proxy(void **state UNUSED)
{
	struct client c = { 0 };

	setenv("http_proxy", "http://127.0.0.1:1", 1);
	setenv("ALL_PROXY", "http://127.0.0.1:1", 1);
	client_run(&c, "/ok");
	assert_int_equal(c.end, UPSTREAM_COMPLETE);
	unsetenv("http_proxy");
	unsetenv("ALL_PROXY");
	client_fini(&c);
}

static void
environment_takes_no_proxy_away(void **state UNUSED)
{
	struct client c = { 0 };
	char proxy[64];
	struct upstream_request req = { .url = "http://127.0.0.1:1/ok",
		.proxy = proxy };

	setenv("NO_PROXY", "*", 1);
	(void)snprintf(
	    proxy, sizeof(proxy), "http://127.0.0.1:%u", origin.port);
	assert_int_equal(client_ask(&c, &req), 0);
	client_wait(&c);
	assert_int_equal(c.end, UPSTREAM_COMPLETE);
	unsetenv("NO_PROXY");
	client_fini(&c);
}

static void
what_cannot_be_is_refused_at_start(void **state UNUSED)
{
	static const struct {
		const char *url, *proxy;
	} rows[] = {
		{ "ftp://127.0.0.1/", "" },
		{ "127.0.0.1/", "" },
		{ "file:///etc/passwd", "" },
		{ "http://127.0.0.1/", "ftp://127.0.0.1" },
		{ "http://127.0.0.1/", "127.0.0.1:3128" },
		{ "http://127.0.0.1/", "http://" },
		{ "http://127.0.0.1/", "socks5://user@" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct client c = { 0 };
		struct upstream_request req = { .url = rows[i].url,
			.proxy = rows[i].proxy };

		assert_int_equal(client_ask(&c, &req), -EINVAL);
	}
}

static void
body_can_be_given_back_once_it_is_sent(void **state UNUSED)
{
	enum { LEN = 3 * 1024 * 1024 };
	struct client c = { .on_head = ACT_PAUSE };
	char *body = xmalloc(LEN);
	char url[128];
	struct upstream_request req = {
		.url = url, .body = body, .body_len = LEN
	};

	memset(body, 'x', LEN);
	origin_url(url, "127.0.0.1", "/ok");
	assert_int_equal(client_ask(&c, &req), 0);
	assert_int_equal(upstream_sent_bytes(c.call), 0);
	while (c.heads == 0)
		turn();
	assert_int_equal(upstream_sent_bytes(c.call), LEN);
	memset(body, 0, LEN);
	free(body);
	upstream_resume(c.call);
	client_wait(&c);
	assert_int_equal(origin.body_len, LEN);
	assert_null(strcasestr(buf_string(&origin.seen), "Expect"));
	client_fini(&c);
}

static void
raw_answers_are_read_whole_or_not_at_all(void **state UNUSED)
{
#define OK "HTTP/1.1 200 OK\r\n"
	static const struct {
		const char *text;
		const char *body;
		enum upstream_end end;
		int status;
		bool close;   /* the origin closes behind it */
		bool again;   /* the connection can carry the next request */
		bool ours;    /* libcurl is of another opinion */
		bool at_once; /* in pieces it is a matter of time */
	} rows[] = {
		{ .text = OK "Content-Length: 2\r\n\r\nhi",
		    .body = "hi",
		    .again = true },
		{ .text = OK "Content-Length: 0\r\n\r\n",
		    .body = "",
		    .again = true },
		{ .text = OK "Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
		    .body = "hi",
		    .again = true },
		{ .text = OK "Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi",
		    .end = UPSTREAM_BROKEN,
		    .ours = true },
		{ .text = OK "Content-Length: -2\r\n\r\nhi",
		    .end = UPSTREAM_BROKEN },
		{ .text = OK "Content-Length: 2\r\nConnection: close\r\n\r\nhi",
		    .body = "hi" },
		{ .text = OK "Transfer-Encoding: chunked\r\n\r\n"
			     "2\r\nhi\r\n1;a=b\r\n!\r\n0\r\nA: b\r\n\r\n",
		    .body = "hi!",
		    .again = true },
		{ .text = OK "Transfer-Encoding: chunked\r\n"
			     "Content-Length: 1\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
		    .body = "hi",
		    .ours = true },
		{ .text = OK "Transfer-Encoding: chunked\r\n\r\n"
			     "2\r\nhi\r\nx\r\n",
		    .body = "hi",
		    .status = 200,
		    .end = UPSTREAM_BROKEN },
		{ .text = OK "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n",
		    .body = "hi",
		    .status = 200,
		    .close = true,
		    .end = UPSTREAM_BROKEN },
		{ .text = OK "Transfer-Encoding: zip, chunked\r\n\r\n0\r\n\r\n",
		    .end = UPSTREAM_BROKEN,
		    .ours = true },
		{ .text = OK "Content-Length: 3\r\n\r\nhi",
		    .body = "hi",
		    .status = 200,
		    .close = true,
		    .end = UPSTREAM_BROKEN },
		{ .text = OK "\r\nhi", .body = "hi", .close = true },
		{ .text = "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
		    .body = "hi" },
		{ .text = "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n"
			  "Content-Length: 2\r\n\r\nhi",
		    .body = "hi",
		    .again = true },
		{ .text = "HTTP/1.1 204 No Content\r\n\r\n",
		    .body = "",
		    .status = 204,
		    .again = true },
		{ .text = "HTTP/1.1 304 Not Modified\r\n"
			  "Content-Length: 9\r\n\r\n",
		    .body = "",
		    .status = 304,
		    .again = true },
		{ .text = OK "Content-Length: 2\r\n\r\nhi there",
		    .body = "hi",
		    .at_once = true },
		{ .text = OK "X: a\r\n b\r\nContent-Length: 2\r\n\r\nhi",
		    .body = "hi",
		    .again = true },
		{ .text = "HTTP/1.1 200 OK\nContent-Length: 2\n\nhi",
		    .body = "hi",
		    .again = true },
		{ .text = "HTTP/1.1 100 Continue\r\n\r\n" OK
			  "Content-Length: 2\r\n\r\nhi",
		    .body = "hi",
		    .again = true },
		{ .text = "HTTP/1.1 101 Go\r\n\r\n",
		    .end = UPSTREAM_BROKEN,
		    .ours = true },
		{ .text = "220 mail.test ESMTP\r\n",
		    .end = UPSTREAM_BROKEN,
		    .ours = true },
		{ .text = "\r\n\r\n", .end = UPSTREAM_BROKEN, .ours = true },
		{ .text = OK "no field\r\n\r\n",
		    .end = UPSTREAM_BROKEN,
		    .ours = true },
		{ .text = OK ": no name\r\n\r\n",
		    .end = UPSTREAM_BROKEN,
		    .ours = true },
		{ .text = OK "X: \001\r\n\r\n",
		    .end = UPSTREAM_BROKEN,
		    .ours = true },
		{ .text = OK, .close = true, .end = UPSTREAM_BROKEN },
	};
#undef OK

	for (size_t i = 0; i < 2 * ARRAY_LEN(rows); i++) {
		const __typeof__(rows[0]) *row = &rows[i / 2];
		struct client c = { 0 }, next = { 0 };
		unsigned before = origin.connections;

		if ((row->ours && carrier == &curl_carrier) ||
		    (row->at_once && i % 2 == 1))
			continue;
		raw = (struct raw){ row->text, i % 2, row->close };
		client_run(&c, "/raw");
		if (c.end != row->end)
			fail_msg("row %zu ended with %d", i / 2, c.end);
		if (row->status != 0 || row->end == UPSTREAM_COMPLETE)
			assert_int_equal(
			    c.status, row->status != 0 ? row->status : 200);
		else
			assert_int_equal(c.heads, 0);
		assert_string_equal(
		    buf_string(&c.body), row->body != NULL ? row->body : "");
		before = origin.connections;
		client_run(&next, "/ok");
		assert_int_equal(next.end, UPSTREAM_COMPLETE);
		if (carrier == &direct_carrier)
			assert_int_equal(
			    origin.connections - before, row->again ? 0 : 1);
		client_fini(&c);
		client_fini(&next);
	}
}

static void
answer_before_the_request_is_out_counts(void **state UNUSED)
{
	enum { LEN = 16 * 1024 * 1024 };
	struct client c = { 0 }, next = { 0 };
	char *body = xcalloc(1, LEN);
	char url[128];
	struct upstream_request req = {
		.url = url, .body = body, .body_len = LEN
	};

	origin_url(url, "127.0.0.1", "/early");
	assert_int_equal(client_ask(&c, &req), 0);
	client_wait(&c);
	assert_int_equal(c.end, UPSTREAM_COMPLETE);
	assert_int_equal(c.status, 413);
	assert_string_equal(buf_string(&c.body), "big");
	client_run(&next, "/ok");
	assert_int_equal(next.end, UPSTREAM_COMPLETE);
	client_fini(&c);
	client_fini(&next);
	free(body);
}

static void
names_are_resolved(void **state UNUSED)
{
	static const struct {
		const char *host;
		enum upstream_end end;
	} rows[] = {
		{ "localhost", UPSTREAM_COMPLETE },
		{ "any.LOCALHOST", UPSTREAM_COMPLETE },
		{ "no-such-name.invalid", UPSTREAM_NO_CONNECT },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct client c = { 0 };
		char url[128];
		struct upstream_request req = { .url = url };

		origin_url(url, rows[i].host, "/ok");
		assert_int_equal(client_ask(&c, &req), 0);
		client_wait(&c);
		assert_int_equal(c.end, rows[i].end);
		client_fini(&c);
	}
}

static void
cancel_while_resolving_does_not_wait(void **state UNUSED)
{
	struct upstream_request req = { .url = "http://slow.invalid/" };
	struct client c[3] = { { 0 }, { 0 }, { 0 } };

	for (size_t i = 0; i < ARRAY_LEN(c); i++)
		assert_int_equal(client_ask(&c[i], &req), 0);
	for (size_t i = 0; i < ARRAY_LEN(c); i++) {
		upstream_cancel(c[i].call);
		c[i].stopped = true;
		client_fini(&c[i]);
	}
	event_base_loop(worker.base, EVLOOP_NONBLOCK);
}

/* Closed while it is idle: it is not used again. */
static void
closed_idle_connection_is_left(void **state UNUSED)
{
	struct client first = { 0 }, second = { 0 };

	client_run(&first, "/ok");
	drop(TAILQ_FIRST(&origin.visits)->bev, false);
	event_base_loop(worker.base, EVLOOP_NONBLOCK);
	client_run(&second, "/ok");
	assert_int_equal(second.end, UPSTREAM_COMPLETE);
	assert_int_equal(origin.connections, 2);
	client_fini(&first);
	client_fini(&second);
}

static void
reset_of_a_pooled_connection_is_stale(void **state UNUSED)
{
	struct client first = { 0 }, second = { 0 };

	client_run(&first, "/once");
	client_run(&second, "/once");
	assert_int_equal(second.end, UPSTREAM_STALE);
	assert_int_equal(second.heads, 0);
	client_fini(&first);
	client_fini(&second);
}

static void
idle_connections_are_not_kept_for_ever(void **state UNUSED)
{
	struct client c = { 0 };

	client_run(&c, "/ok");
	upstream_trim(worker.upstream);
	assert_int_equal(origin.closed, 0);
	upstream_free(worker.upstream);
	while (origin.closed == 0)
		turn();
	worker.upstream = upstream_new_over(&worker, carrier);
	client_fini(&c);
}

static void
controls_in_a_request_are_refused(void **state UNUSED)
{
	static const struct {
		const char *path, *name, *value;
	} rows[] = {
		{ "/a b", "x", "y" },
		{ "/a\r\nb", "x", "y" },
		{ "/a#b", "x", "y" },
		{ "/", "x", "y\r\nz: 1" },
		{ "/", "x\n", "y" },
		{ "/", "", "y" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct client c = { 0 };
		char url[128];
		struct upstream_header header = { rows[i].name, rows[i].value };
		struct upstream_request req = {
			.url = url, .headers = &header, .nheaders = 1
		};

		origin_url(url, "127.0.0.1", rows[i].path);
		assert_int_equal(client_ask(&c, &req), -EINVAL);
	}
}

/* ---- TLS */

static void
add_extension(X509 *cert, int nid, const char *value)
{
	X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

	assert_non_null(ext);
	X509_add_ext(cert, ext, -1);
	X509_EXTENSION_free(ext);
}

/* A certificate of the origin that is its own authority. */
static X509 *
new_certificate(EVP_PKEY *key)
{
	X509 *cert = X509_new();
	X509_NAME *name = X509_get_subject_name(cert);

	X509_set_version(cert, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
	X509_gmtime_adj(X509_getm_notBefore(cert), -60);
	X509_gmtime_adj(X509_getm_notAfter(cert), 60 * 60);
	X509_set_pubkey(cert, key);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
	    (const unsigned char *)"wrong.localhost", -1, -1, 0);
	X509_set_issuer_name(cert, name);
	add_extension(cert, NID_subject_alt_name,
	    "DNS:localhost,DNS:*.sub.localhost,IP:127.0.0.1");
	assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
	return cert;
}

static void
tls_init(void)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = new_certificate(key);
	FILE *file = fdopen(mkstemp(ca_file), "w");

	PEM_write_X509(file, cert);
	(void)fclose(file);
	setenv("SSL_CERT_FILE", ca_file, 1);
	origin_tls = SSL_CTX_new(TLS_server_method());
	SSL_CTX_use_certificate(origin_tls, cert);
	SSL_CTX_use_PrivateKey(origin_tls, key);
	SSL_CTX_set_options(origin_tls, SSL_OP_IGNORE_UNEXPECTED_EOF);
	X509_free(cert);
	EVP_PKEY_free(key);
}

static void
only_the_name_asked_for_is_spoken_to(void **state UNUSED)
{
	static const struct {
		const char *host;
		enum upstream_end end;
	} rows[] = {
		{ "localhost", UPSTREAM_COMPLETE },
		{ "LOCALHOST.", UPSTREAM_COMPLETE },
		{ "a.sub.localhost", UPSTREAM_COMPLETE },
		{ "127.0.0.1", UPSTREAM_COMPLETE },
		{ "a.b.sub.localhost", UPSTREAM_NO_CONNECT },
		{ "other.localhost", UPSTREAM_NO_CONNECT },
		/* A subject counts for nothing beside alternative names. */
		{ "wrong.localhost", UPSTREAM_NO_CONNECT },
		{ "127.1", UPSTREAM_NO_CONNECT },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct client c = { 0 };
		char url[128];
		struct upstream_request req = { .url = url };

		origin_url(url, rows[i].host, "/ok");
		assert_int_equal(client_ask(&c, &req), 0);
		client_wait(&c);
		if (c.end != rows[i].end)
			fail_msg("%s: %d, %s", rows[i].host, c.end, c.detail);
		assert_int_equal(c.detail[0] != '\0', c.heads == 0);
		client_fini(&c);
	}
}

static void
sessions_are_resumed(void **state UNUSED)
{
	struct client first = { 0 }, second = { 0 };

	client_run(&first, "/ok");
	drop(TAILQ_FIRST(&origin.visits)->bev, false);
	event_base_loop(worker.base, EVLOOP_NONBLOCK);
	client_run(&second, "/ok");
	assert_int_equal(origin.connections, 2);
	assert_int_equal(origin.resumed, 1);
	client_fini(&first);
	client_fini(&second);
}

/* Whoever cuts the wire could end such an answer where he likes. */
static void
end_without_goodbye_is_no_end(void **state UNUSED)
{
	struct client c = { 0 };

	raw = (struct raw){ "HTTP/1.1 200 OK\r\n\r\nhi", 0, false };
	client_start(&c, "/raw");
	while (c.body.len < 2)
		turn();
	SSL_set_quiet_shutdown(
	    bufferevent_openssl_get_ssl(TAILQ_FIRST(&origin.visits)->bev), 1);
	drop(TAILQ_FIRST(&origin.visits)->bev, false);
	client_wait(&c);
	assert_int_equal(c.end, UPSTREAM_BROKEN);
	client_fini(&c);
}

static void
old_protocols_are_refused(void **state UNUSED)
{
	struct client c = { 0 };

	SSL_CTX_set_max_proto_version(origin_tls, TLS1_1_VERSION);
	SSL_CTX_set_security_level(origin_tls, 0);
	client_run(&c, "/ok");
	SSL_CTX_set_max_proto_version(origin_tls, 0);
	assert_int_equal(c.end, UPSTREAM_NO_CONNECT);
	client_fini(&c);
}

static void
request_goes_out_while_an_answer_comes_in(void **state UNUSED)
{
	struct client c = { 0 };
	char url[128];
	char *body = xcalloc(1, BIG);
	struct upstream_request req = {
		.url = url, .body = body, .body_len = BIG
	};

	origin_url(url, "127.0.0.1", "/big");
	assert_int_equal(client_ask(&c, &req), 0);
	client_wait(&c);
	assert_int_equal(origin.body_len, BIG);
	assert_big(&c);
	client_fini(&c);
	free(body);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest any[] = {
		CASE(answer_comes_as_head_data_and_done),
		CASE(request_goes_out_as_it_was_given),
		CASE(headers_can_be_walked),
		CASE(chunks_of_one_wakeup_come_as_one),
		CASE(interim_answers_are_not_told),
		CASE(head_beyond_its_bound_is_too_large),
		CASE(dead_connections_are_told_apart),
		CASE(refused_connection_is_no_connect),
		CASE(connections_are_used_again),
		CASE(reused_connection_that_dies_is_no_failure),
		CASE(nothing_comes_while_paused),
		CASE(end_waits_for_the_data_before_it),
		CASE(cancel_closes_and_no_event_follows),
		CASE(cancel_before_the_first_byte_reaches_the_origin),
		CASE(cancel_before_anything_happened),
		CASE(next_call_can_start_from_done),
		CASE(many_calls_at_once_are_spread_over_shards),
		CASE(environment_names_no_proxy),
		CASE(body_can_be_given_back_once_it_is_sent),
		CASE(raw_answers_are_read_whole_or_not_at_all),
		CASE(answer_before_the_request_is_out_counts),
		CASE(cancel_while_resolving_does_not_wait),
		CASE(closed_idle_connection_is_left),
		CASE(request_goes_out_while_an_answer_comes_in),
	};
	const struct CMUnitTest plain[] = {
		CASE(connect_timeout_covers_tls),
		CASE(names_are_resolved),
	};
	const struct CMUnitTest direct[] = {
		CASE(reset_of_a_pooled_connection_is_stale),
		CASE(idle_connections_are_not_kept_for_ever),
		CASE(controls_in_a_request_are_refused),
		CASE(no_descriptor_left_is_no_fault_of_the_origin),
	};
	const struct CMUnitTest tls[] = {
		CASE(only_the_name_asked_for_is_spoken_to),
		CASE(sessions_are_resumed),
		CASE(end_without_goodbye_is_no_end),
		CASE(old_protocols_are_refused),
	};
	const struct CMUnitTest chosen[] = {
		CASE(proxy_is_asked_for_the_whole_url),
		CASE(environment_takes_no_proxy_away),
		CASE(what_cannot_be_is_refused_at_start),
	};
	int failed;

	SSL_CTX *ctx;

	(void)signal(SIGPIPE, SIG_IGN);
	tls_init();
	if (outbound_init() != 0)
		return 1;
	ctx = origin_tls;
	carrier = &direct_carrier;
	failed = cmocka_run_group_tests_name("ours, TLS", any, NULL, NULL);
	failed +=
	    cmocka_run_group_tests_name("ours alone, TLS", direct, NULL, NULL);
	failed += cmocka_run_group_tests_name("TLS", tls, NULL, NULL);
	origin_tls = NULL;
	SSL_CTX_free(ctx);
	carrier = &curl_carrier;
	failed += cmocka_run_group_tests_name("libcurl", any, NULL, NULL);
	failed +=
	    cmocka_run_group_tests_name("libcurl, plain", plain, NULL, NULL);
	carrier = &direct_carrier;
	failed += cmocka_run_group_tests_name("ours", any, NULL, NULL);
	failed += cmocka_run_group_tests_name("ours, plain", plain, NULL, NULL);
	failed += cmocka_run_group_tests_name("ours alone", direct, NULL, NULL);
	carrier = NULL;
	failed += cmocka_run_group_tests_name("chosen", chosen, NULL, NULL);
	(void)unlink(ca_file);
	return failed;
}

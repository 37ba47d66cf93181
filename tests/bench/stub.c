/* SPDX-License-Identifier: MIT */
/*
 * The provider behind a proxy under measurement: an HTTP/1.1 server that reads
 * a request whole and answers from memory, on a plain and, given a certificate,
 * a TLS port of 127.0.0.1. It checks nothing: what it is for is to be so cheap
 * that the proxy is what one measures. Prints its ports as one JSON line and
 * ends with its standard input, so that it cannot outlive who started it.
 *
 * A request is answered with a chat completion of about 1 KB, or, where it has
 * a header "X-Stub: events=N [batch=K] [interval=MS] [wait=MS]", with N
 * server-sent events: all at once, K in each write (0: as many as go), or the
 * first at once and one more every MS milliseconds, each bearing the time it
 * was sent; nothing at all before the wait is over. With limited=P it is a 429,
 * in P of a hundred cases, that asks for a tenth of a second. GET /stats
 * counts.
 */
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include <openssl/ssl.h>

#define HEAD_MAX     16384
#define BLOCK_EVENTS 64
#define STAMP_DIGITS 19
#define NSEC_PER_MS  INT64_C(1000000)

/* What the loop calls when a descriptor is ready; first member of its owner. */
struct source {
	int fd;
	void (*ready)(struct source *source, uint32_t events);
};

struct listener {
	struct source source;
	SSL_CTX *tls; /* NULL: plain */
};

struct blob {
	const char *data;
	size_t len;
};

/* An answer is a head, so many times one event, and a tail. */
struct answer {
	struct blob head;
	uint64_t events;
	struct blob tail;
	unsigned batch;
	unsigned interval_ms; /* 0: not paced */
	unsigned wait_ms;     /* before its first byte */
};

struct conn {
	struct source source;
	SSL *ssl;
	bool wants_out;
	bool answering;
	uint64_t body_left;
	struct answer answer;
	uint64_t sent;    /* bytes of the answer */
	uint64_t allowed; /* bytes that may be sent by now */
	int64_t due_ns;   /* of the next event, when paced */
	bool paced;       /* is on the list */
	TAILQ_ENTRY(conn) pace;
	size_t in_len;
	char in[HEAD_MAX];
};

static struct {
	uint64_t requests;
	uint64_t connections;
	uint64_t streams;
	uint64_t cancelled;
} stats;

/* Streams that wait for their next event, soonest first. */
static TAILQ_HEAD(pace_list, conn) pacing = TAILQ_HEAD_INITIALIZER(pacing);

static int loop_fd;
static bool loop_done;

/* One event, BLOCK_EVENTS times; every event has the same length. */
static char event_block[BLOCK_EVENTS * 512];
static size_t event_len;
static size_t stamp_at;

static char json_answer[2048];
static char stream_head[1024];
static char stream_tail[512];
static char stats_answer[512];

static int64_t
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

static size_t
chunk_format(char *out, size_t size, const char *payload)
{
	return (size_t)snprintf(
	    out, size, "%zx\r\n%s\r\n", strlen(payload), payload);
}

static size_t
event_format(char *out, size_t size, const char *delta, const char *finish)
{
	char event[512];

	snprintf(event, sizeof(event),
	    "data: {\"id\":\"chatcmpl-bench\",\"object\":"
	    "\"chat.completion.chunk\",\"created\":1700000000,\"model\":"
	    "\"bench\",\"choices\":[{\"index\":0,\"delta\":{%s},"
	    "\"finish_reason\":%s}]}\n\n",
	    delta, finish);
	return chunk_format(out, size, event);
}

static void
json_prepare(void)
{
	static const char words[] =
	    "The line always runs over the same place. ";
	char text[800], body[1200];
	size_t i;

	for (i = 0; i < sizeof(text) - 1; i++)
		text[i] = words[i % (sizeof(words) - 1)];
	text[i] = '\0';
	snprintf(body, sizeof(body),
	    "{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion\","
	    "\"created\":1700000000,\"model\":\"bench\",\"choices\":[{"
	    "\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":"
	    "\"%s\"},\"finish_reason\":\"stop\"}],\"usage\":{"
	    "\"prompt_tokens\":400,\"completion_tokens\":200,"
	    "\"total_tokens\":600}}",
	    text);
	snprintf(json_answer, sizeof(json_answer),
	    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
	    "Content-Length: %zu\r\n\r\n%s",
	    strlen(body), body);
}

static void
stream_prepare(void)
{
	char delta[64];
	size_t len;
	int i;

	len = (size_t)snprintf(stream_head, sizeof(stream_head),
	    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
	    "Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n");
	event_format(stream_head + len, sizeof(stream_head) - len,
	    "\"role\":\"assistant\",\"content\":\"\"", "null");

	len = event_format(stream_tail, sizeof(stream_tail), "", "\"stop\"");
	len += chunk_format(
	    stream_tail + len, sizeof(stream_tail) - len, "data: [DONE]\n\n");
	snprintf(stream_tail + len, sizeof(stream_tail) - len, "0\r\n\r\n");

	snprintf(delta, sizeof(delta), "\"content\":\"%0*d\"", STAMP_DIGITS, 0);
	event_len = event_format(event_block, 512, delta, "null");
	stamp_at =
	    (size_t)(strstr(event_block, "\"content\":\"") - event_block) +
	    strlen("\"content\":\"");
	for (i = 1; i < BLOCK_EVENTS; i++)
		memcpy(event_block + (size_t)i * event_len, event_block,
		    event_len);
}

/* The first event of the block is the one that is sent alone. */
static void
event_stamp(void)
{
	char digits[STAMP_DIGITS + 1];

	snprintf(digits, sizeof(digits), "%0*" PRId64, STAMP_DIGITS, now_ns());
	memcpy(event_block + stamp_at, digits, STAMP_DIGITS);
}

static struct blob
blob_of(const char *text)
{
	return (struct blob){ text, strlen(text) };
}

static uint64_t
answer_size(const struct answer *a)
{
	return a->head.len + a->events * event_len + a->tail.len;
}

/* The next piece of events, from a position counted from the first one. */
static struct blob
answer_events_at(const struct answer *a, uint64_t pos, uint64_t upto)
{
	uint64_t batch =
	    a->batch > 0 && a->batch < BLOCK_EVENTS ? a->batch : BLOCK_EVENTS;
	uint64_t first = pos / event_len;
	size_t offset = (size_t)(pos % event_len);
	uint64_t end = (first + batch) * event_len;

	if (a->interval_ms > 0 && offset == 0)
		event_stamp();
	if (end > upto)
		end = upto;
	return (struct blob){ event_block + offset, (size_t)(end - pos) };
}

/* What comes at this position of the answer, not beyond the given one. */
static struct blob
answer_at(const struct answer *a, uint64_t pos, uint64_t upto)
{
	uint64_t events_end = a->head.len + a->events * event_len;
	struct blob piece;

	if (pos < a->head.len) {
		piece.data = a->head.data + pos;
		piece.len = a->head.len - (size_t)pos;
	} else if (pos < events_end) {
		piece = answer_events_at(a, pos - a->head.len,
		    (upto < events_end ? upto : events_end) - a->head.len);
	} else {
		piece.data = a->tail.data + (pos - events_end);
		piece.len = a->tail.len - (size_t)(pos - events_end);
	}
	return piece;
}

static void
loop_watch(struct source *source, int op, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = source };

	if (epoll_ctl(loop_fd, op, source->fd, &ev) < 0)
		err(1, "epoll_ctl");
}

static void
conn_want_out(struct conn *c, bool wanted)
{
	if (c->wants_out == wanted)
		return;
	c->wants_out = wanted;
	loop_watch(&c->source, EPOLL_CTL_MOD,
	    EPOLLIN | EPOLLRDHUP | (wanted ? (uint32_t)EPOLLOUT : 0));
}

static void
conn_unpace(struct conn *c)
{
	if (c->paced)
		TAILQ_REMOVE(&pacing, c, pace);
	c->paced = false;
}

static void
conn_free(struct conn *c)
{
	if (c->answering && c->answer.events > 0) {
		stats.streams--;
		stats.cancelled++;
	}
	conn_unpace(c);
	SSL_free(c->ssl);
	close(c->source.fd);
	stats.connections--;
	free(c);
}

/* Bytes moved, 0 at the end, -EAGAIN when it has to wait, or -EIO. */
static ssize_t
tls_result(struct conn *c, int ret)
{
	switch (SSL_get_error(c->ssl, ret)) {
	case SSL_ERROR_NONE:
		return ret;
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	case SSL_ERROR_WANT_WRITE:
		conn_want_out(c, true);
		return -EAGAIN;
	case SSL_ERROR_WANT_READ:
		return -EAGAIN;
	default:
		return -EIO;
	}
}

static ssize_t
conn_recv(struct conn *c, char *data, size_t size, int flags)
{
	ssize_t n;

	if (c->ssl != NULL)
		return tls_result(c, SSL_read(c->ssl, data, (int)size));
	n = recv(c->source.fd, data, size, flags);
	return n < 0 ? -errno : n;
}

static ssize_t
conn_send(struct conn *c, struct blob piece)
{
	ssize_t n;

	if (c->ssl != NULL)
		return tls_result(
		    c, SSL_write(c->ssl, piece.data, (int)piece.len));
	n = send(c->source.fd, piece.data, piece.len, MSG_NOSIGNAL);
	return n < 0 ? -errno : n;
}

/* Almost always behind its elders: streams of a run have one interval. */
static void
conn_pace(struct conn *c)
{
	struct conn *before;

	c->due_ns =
	    now_ns() + NSEC_PER_MS * (c->allowed == 0 ? c->answer.wait_ms
						      : c->answer.interval_ms);
	TAILQ_FOREACH_REVERSE(before, &pacing, pace_list, pace)
	{
		if (before->due_ns <= c->due_ns)
			break;
	}
	if (before != NULL)
		TAILQ_INSERT_AFTER(&pacing, before, c, pace);
	else
		TAILQ_INSERT_HEAD(&pacing, c, pace);
	c->paced = true;
}

static void
answer_done(struct conn *c)
{
	if (c->answer.events > 0)
		stats.streams--;
	c->answering = false;
}

/* False when the connection is gone. */
static bool
conn_flush(struct conn *c)
{
	uint64_t size = answer_size(&c->answer);
	ssize_t n;

	while (c->sent < c->allowed) {
		n = conn_send(c, answer_at(&c->answer, c->sent, c->allowed));
		if (n == -EAGAIN) {
			conn_want_out(c, true);
			return true;
		}
		if (n <= 0) {
			conn_free(c);
			return false;
		}
		c->sent += (uint64_t)n;
	}
	conn_want_out(c, false);
	if (c->sent == size)
		answer_done(c);
	else
		conn_pace(c);
	return true;
}

/*
 * Lets the next event of a paced stream go, the head before the first one and
 * the tail behind the last.
 */
static void
conn_allow_event(struct conn *c)
{
	const struct answer *a = &c->answer;
	uint64_t size = answer_size(a);

	c->allowed += event_len + (c->allowed == 0 ? a->head.len : 0);
	if (a->interval_ms == 0 || c->allowed + a->tail.len >= size)
		c->allowed = size;
}

static const char limit_answer[] =
    "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\n"
    "Retry-After-Ms: 100\r\nContent-Length: 41\r\n\r\n"
    "{\"error\":{\"code\":\"rate_limit_exceeded\"}}\n";

static void
answer_stats(struct answer *a)
{
	char body[256];

	snprintf(body, sizeof(body),
	    "{\"requests\": %" PRIu64 ", \"connections\": %" PRIu64
	    ", \"streams\": %" PRIu64 ", \"cancelled\": %" PRIu64 "}\n",
	    stats.requests, stats.connections, stats.streams, stats.cancelled);
	snprintf(stats_answer, sizeof(stats_answer),
	    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
	    "Content-Length: %zu\r\n\r\n%s",
	    strlen(body), body);
	a->head = blob_of(stats_answer);
}

static uint64_t
option_value(const char *options, const char *name)
{
	const char *at = strstr(options, name);

	return at != NULL ? strtoull(at + strlen(name), NULL, 10) : 0;
}

static void
answer_options(struct answer *a, const char *options)
{
	uint64_t limited;

	a->events = option_value(options, "events=");
	a->interval_ms = (unsigned)option_value(options, "interval=");
	a->batch = (unsigned)option_value(options, "batch=");
	a->wait_ms = (unsigned)option_value(options, "wait=");
	limited = option_value(options, "limited=");
	if (stats.requests * limited % 100 < limited) {
		a->head = blob_of(limit_answer);
		return;
	}
	if (a->events == 0)
		return;
	a->head = blob_of(stream_head);
	a->tail = blob_of(stream_tail);
	stats.streams++;
}

/* The value of a header, up to the end of its line; NULL when absent. */
static const char *
head_find(const char *head, const char *name)
{
	size_t len = strlen(name);
	const char *line;

	for (line = strchr(head, '\n'); line != NULL;
	     line = strchr(line, '\n')) {
		line++;
		if (strncasecmp(line, name, len) == 0 && line[len] == ':')
			return line + len + 1;
	}
	return NULL;
}

/* head ends with a NUL in the place of its last newline. */
static void
conn_begin_request(struct conn *c, char *head)
{
	const char *length = head_find(head, "Content-Length");
	const char *options = head_find(head, "X-Stub");
	struct answer *a = &c->answer;

	*a = (struct answer){ .batch = 0 };
	c->body_left = length != NULL ? strtoull(length, NULL, 10) : 0;
	c->sent = 0;
	if (strncmp(head, "GET /stats ", 11) == 0) {
		answer_stats(a);
		return;
	}
	stats.requests++;
	a->head = blob_of(json_answer);
	if (options != NULL)
		answer_options(a, options);
}

static bool
conn_answer(struct conn *c)
{
	c->allowed = 0;
	if (c->answer.wait_ms == 0)
		conn_allow_event(c);
	return conn_flush(c);
}

static void
conn_drop_input(struct conn *c, size_t len)
{
	c->in_len -= len;
	memmove(c->in, c->in + len, c->in_len);
}

/* Takes what the buffer holds of a body. */
static void
conn_eat_body(struct conn *c)
{
	size_t len =
	    c->in_len < c->body_left ? c->in_len : (size_t)c->body_left;

	conn_drop_input(c, len);
	c->body_left -= len;
}

/* False when the connection is gone. */
static bool
conn_take_request(struct conn *c)
{
	char *end = memmem(c->in, c->in_len, "\r\n\r\n", 4);

	if (end == NULL && c->in_len == sizeof(c->in)) {
		conn_free(c);
		return false;
	}
	if (end == NULL)
		return true;
	end[3] = '\0';
	c->answering = true;
	conn_begin_request(c, c->in);
	conn_drop_input(c, (size_t)(end + 4 - c->in));
	conn_eat_body(c);
	return c->body_left > 0 || conn_answer(c);
}

/* A body that is still to come is thrown away unseen. */
static ssize_t
conn_recv_body(struct conn *c)
{
	static char scratch[262144];
	size_t size = sizeof(scratch);
	ssize_t n;

	if (size > c->body_left)
		size = (size_t)c->body_left;
	n = conn_recv(c, scratch, size, MSG_TRUNC);
	if (n > 0)
		c->body_left -= (uint64_t)n;
	return n;
}

static ssize_t
conn_recv_head(struct conn *c)
{
	ssize_t n;

	if (c->in_len == sizeof(c->in))
		return -EIO;
	n = conn_recv(c, c->in + c->in_len, sizeof(c->in) - c->in_len, 0);
	if (n > 0)
		c->in_len += (size_t)n;
	return n;
}

static bool
conn_advance(struct conn *c, bool was_body)
{
	if (was_body)
		return c->body_left > 0 || conn_answer(c);
	return c->answering || conn_take_request(c);
}

static void
conn_readable(struct conn *c)
{
	bool body;
	ssize_t n;

	do {
		body = c->answering && c->body_left > 0;
		n = body ? conn_recv_body(c) : conn_recv_head(c);
		if (n == -EAGAIN)
			return;
		if (n <= 0) {
			conn_free(c);
			return;
		}
		if (!conn_advance(c, body))
			return;
	} while (c->ssl != NULL && SSL_has_pending(c->ssl));
}

static void
conn_ready(struct conn *c, uint32_t events)
{
	if (events & EPOLLOUT) {
		if (!c->answering || c->body_left > 0)
			conn_want_out(c, false);
		else if (!c->paced && !conn_flush(c))
			return;
	}
	if (events & ~(uint32_t)EPOLLOUT)
		conn_readable(c);
}

static void
on_conn_ready(struct source *source, uint32_t events)
{
	conn_ready((struct conn *)source, events);
}

static void
conn_new(int fd, SSL_CTX *tls)
{
	struct conn *c = calloc(1, sizeof(*c));
	int on = 1;

	if (c == NULL)
		err(1, "calloc");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	c->source.fd = fd;
	c->source.ready = on_conn_ready;
	if (tls != NULL) {
		c->ssl = SSL_new(tls);
		if (c->ssl == NULL || SSL_set_fd(c->ssl, fd) != 1)
			errx(1, "SSL_new");
		SSL_set_accept_state(c->ssl);
	}
	stats.connections++;
	loop_watch(&c->source, EPOLL_CTL_ADD, EPOLLIN | EPOLLRDHUP);
}

static void
listener_accept(struct listener *l)
{
	int fd;

	while ((fd = accept4(l->source.fd, NULL, NULL,
		    SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
		conn_new(fd, l->tls);
	if (errno != EAGAIN && errno != ECONNABORTED)
		err(1, "accept");
}

static void
on_listener_ready(struct source *source, uint32_t events)
{
	(void)events;
	listener_accept((struct listener *)source);
}

static void
on_stdin_ready(struct source *source, uint32_t events)
{
	char byte;

	(void)events;
	if (read(source->fd, &byte, 1) <= 0)
		loop_done = true;
}

/* Listens on a free port of 127.0.0.1 and returns it. */
static unsigned
listener_open(struct listener *l, SSL_CTX *tls)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr *sa = (struct sockaddr *)&sin;
	socklen_t len = sizeof(sin);
	int fd;

	fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, sa, len) < 0 || listen(fd, SOMAXCONN) < 0 ||
	    getsockname(fd, sa, &len) < 0)
		err(1, "listen");
	l->source.fd = fd;
	l->source.ready = on_listener_ready;
	l->tls = tls;
	loop_watch(&l->source, EPOLL_CTL_ADD, EPOLLIN);
	return ntohs(sin.sin_port);
}

static SSL_CTX *
tls_open(const char *cert, const char *key)
{
	SSL_CTX *tls = SSL_CTX_new(TLS_server_method());

	if (tls == NULL || SSL_CTX_use_certificate_chain_file(tls, cert) != 1 ||
	    SSL_CTX_use_PrivateKey_file(tls, key, SSL_FILETYPE_PEM) != 1)
		errx(1, "%s, %s: no usable certificate and key", cert, key);
	SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE |
				  SSL_MODE_RELEASE_BUFFERS |
				  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_read_ahead(tls, 1);
	SSL_CTX_set_default_read_buffer_len(tls, 65536);
	return tls;
}

/* Milliseconds until the next event of a paced stream is due, or -1. */
static int
pacing_run(void)
{
	int64_t now = now_ns();
	struct conn *c;

	while ((c = TAILQ_FIRST(&pacing)) != NULL && c->due_ns <= now) {
		conn_unpace(c);
		conn_allow_event(c);
		conn_flush(c);
	}
	if (c == NULL)
		return -1;
	return (int)((c->due_ns - now + NSEC_PER_MS - 1) / NSEC_PER_MS);
}

static void
loop_run(void)
{
	struct epoll_event events[256];
	struct source *source;
	int i, n;

	while (!loop_done) {
		n = epoll_wait(loop_fd, events, 256, pacing_run());
		if (n < 0 && errno != EINTR)
			err(1, "epoll_wait");
		for (i = 0; i < n; i++) {
			source = events[i].data.ptr;
			source->ready(source, events[i].events);
		}
	}
}

static void
usage(void)
{
	fprintf(stderr, "usage: bench-stub [-c CERTIFICATE -k KEY]\n");
	exit(2);
}

int
main(int argc, char **argv)
{
	struct source input = { STDIN_FILENO, on_stdin_ready };
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = &input };
	const char *cert = NULL, *key = NULL;
	struct listener plain, tls;
	unsigned port, tls_port = 0;
	int opt;

	while ((opt = getopt(argc, argv, "c:k:")) != -1) {
		if (opt == 'c')
			cert = optarg;
		else if (opt == 'k')
			key = optarg;
		else
			usage();
	}
	if (optind != argc || (cert == NULL) != (key == NULL))
		usage();
	signal(SIGPIPE, SIG_IGN);
	json_prepare();
	stream_prepare();
	loop_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop_fd < 0)
		err(1, "epoll_create1");
	if (epoll_ctl(loop_fd, EPOLL_CTL_ADD, input.fd, &ev) < 0)
		errx(1, "standard input has to be a pipe or a terminal");
	port = listener_open(&plain, NULL);
	if (cert != NULL)
		tls_port = listener_open(&tls, tls_open(cert, key));
	printf("{\"port\": %u, \"tls_port\": %u}\n", port, tls_port);
	fflush(stdout);
	loop_run();
	return 0;
}

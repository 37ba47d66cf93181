/* SPDX-License-Identifier: MIT */
/*
 * The clients before a proxy under measurement, one thread, one epoll loop.
 * Closed loop: every connection asks again as soon as it has its answer. Open
 * loop: requests come at random moments (Poisson) of a given rate, whether or
 * not earlier ones have been answered; one that finds no free connection waits
 * and its latency counts from the moment it came. Hold: every connection asks
 * once and stays, for what an open stream costs.
 *
 * Prints one line of JSON. Asks nothing more after the given time, and ends
 * when the last answers are in, up to two seconds later; a hold prints when all
 * streams are open and ends with its standard input as well.
 */
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/bench/answer.h"
#include "tests/bench/histogram.h"

#define CONNECTIONS_MAX 16384
#define QUEUE_MAX       65536
#define OPENING_MAX     256 /* streams being opened at once, in a hold */
#define SESSION_DIGITS  8
#define STAMP_DIGITS    19
#define NSEC_PER_SEC    INT64_C(1000000000)
#define FAILURES_MAX    1000
#define DRAIN_NS        (2 * NSEC_PER_SEC) /* for the last answers */

enum conn_state {
	CONN_CLOSED,
	CONN_IDLE,
	CONN_WRITING,
	CONN_READING,
	CONN_HELD, /* its stream is open */
};

struct conn {
	int fd;
	enum conn_state state;
	uint32_t watched;
	uint64_t session;
	size_t written;
	int64_t began_ns;
	struct conn *next_parked;
	struct answer answer;
};

static struct {
	struct sockaddr_in target;
	const char *method;
	const char *path;
	const char *model;
	const char *body_file;
	char headers[4096];
	uint64_t connections;
	double rate; /* 0: closed loop */
	double seconds;
	uint64_t requests_max;
	uint64_t body_size;
	uint64_t sessions;
	bool stream;
	bool event_delay;
	bool hold;
	bool stall;
	uint64_t seed;
} opt = {
	.method = "POST",
	.path = "/v1/chat/completions",
	.model = "bench",
	.connections = 64,
	.seconds = 2,
	.seed = 1,
};

static struct {
	uint64_t requests; /* answered with 200 */
	uint64_t refused;  /* answered otherwise */
	uint64_t broken;   /* connection lost, or no HTTP */
	uint64_t stuck;    /* not answered in time */
	uint64_t dropped;  /* never sent: the queue was full */
	uint64_t held;
	int first_status;
	struct histogram latency;
	struct histogram event_delay;
} result;

static struct conn *conns;
static struct conn *parked; /* the ones with nothing to do */
static unsigned in_flight;
static unsigned opening; /* streams of a hold that are not yet open */
static int loop_fd;
static bool loop_done;
static int64_t start_ns, end_ns, next_arrival_ns;
static uint64_t started, random_state;

/* Moments at which waiting requests came. */
static struct {
	int64_t at[QUEUE_MAX];
	uint64_t head, tail;
} queue;

/* The request; the digits of its session are filled in before each. */
static char head[8192];
static size_t head_len;
static char *session_at;
static char *body;
static size_t body_len;

static int64_t
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}

/* Uniform in (0, 1], by xorshift. */
static double
random_unit(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return ((double)(random_state >> 11) + 1) / 9007199254740992.0;
}

static void
body_read(const char *path)
{
	FILE *file = fopen(path, "rb");
	long size;

	if (file == NULL || fseek(file, 0, SEEK_END) < 0 ||
	    (size = ftell(file)) < 0 || fseek(file, 0, SEEK_SET) < 0)
		err(1, "%s", path);
	body_len = (size_t)size;
	body = malloc(body_len + 1);
	if (body == NULL || fread(body, 1, body_len, file) != body_len)
		err(1, "%s", path);
	fclose(file);
}

/* A chat request of exactly the size asked for, when that is possible. */
static void
body_make(size_t size)
{
	static const char words[] =
	    "Explain how a line is led over a ship's side without chafing. ";
	static const char end[] = "\"}]}";
	char start[512];
	size_t i, len;

	len = (size_t)snprintf(start, sizeof(start),
	    "{\"model\":\"%s\",\"stream\":%s,\"messages\":[{\"role\":\"system\""
	    ",\"content\":\"You are a bosun.\"},{\"role\":\"user\","
	    "\"content\":\"",
	    opt.model, opt.stream ? "true" : "false");
	if (size < len + strlen(end))
		size = len + strlen(end);
	body = malloc(size + 1);
	if (body == NULL)
		err(1, "malloc");
	memcpy(body, start, len);
	for (i = len; i < size - strlen(end); i++)
		body[i] = words[(i - len) % (sizeof(words) - 1)];
	memcpy(body + i, end, sizeof(end));
	body_len = size;
}

static void
head_make(void)
{
	char session[64] = "";
	int len;

	if (opt.sessions > 0)
		snprintf(session, sizeof(session),
		    "X-Session-ID: bench-%0*d\r\n", SESSION_DIGITS, 0);
	len = snprintf(head, sizeof(head),
	    "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench-load\r\n"
	    "Accept: */*\r\n%s%s",
	    opt.method, opt.path, inet_ntoa(opt.target.sin_addr), opt.headers,
	    session);
	if (body_len > 0)
		len += snprintf(head + len, sizeof(head) - (size_t)len,
		    "Content-Type: application/json\r\n"
		    "Content-Length: %zu\r\n",
		    body_len);
	len += snprintf(head + len, sizeof(head) - (size_t)len, "\r\n");
	if ((size_t)len >= sizeof(head))
		errx(1, "the request head is too long");
	head_len = (size_t)len;
	if (opt.sessions > 0)
		session_at = strstr(head, "bench-0000") + strlen("bench-");
}

static void
head_set_session(uint64_t session)
{
	int i;

	if (session_at == NULL)
		return;
	for (i = SESSION_DIGITS - 1; i >= 0; i--, session /= 10)
		session_at[i] = (char)('0' + session % 10);
}

static void
conn_watch(struct conn *c, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = c };

	if (c->watched == events)
		return;
	if (epoll_ctl(loop_fd, c->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD,
		c->fd, &ev) < 0)
		err(1, "epoll_ctl");
	c->watched = events;
}

/* Connects while it blocks: on loopback there is nothing to wait for. */
static bool
conn_open(struct conn *c)
{
	const struct sockaddr *sa = (const struct sockaddr *)&opt.target;
	struct timeval patience = { .tv_sec = 2 };
	int on = 1;

	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		err(1, "socket");
	setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	c->watched = 0;
	if (connect(c->fd, sa, sizeof(opt.target)) < 0 ||
	    fcntl(c->fd, F_SETFL, O_NONBLOCK) < 0) {
		close(c->fd);
		return false;
	}
	c->state = CONN_IDLE;
	conn_watch(c, EPOLLIN);
	return true;
}

static void
conn_close(struct conn *c)
{
	if (c->state == CONN_CLOSED)
		return;
	close(c->fd);
	c->state = CONN_CLOSED;
}

static void
conn_park(struct conn *c)
{
	c->next_parked = parked;
	parked = c;
}

static void
conn_fail(struct conn *c)
{
	in_flight--;
	if (opt.hold && c->state != CONN_HELD)
		opening--;
	conn_close(c);
	conn_park(c);
	if (++result.broken >= FAILURES_MAX)
		loop_done = true;
}

static void
conn_write(struct conn *c)
{
	struct iovec iov[2];
	ssize_t n;

	head_set_session(c->session);
	while (c->written < head_len + body_len) {
		size_t of_head = c->written < head_len ? c->written : head_len;
		size_t of_body = c->written - of_head;

		iov[0] = (struct iovec){ head + of_head, head_len - of_head };
		iov[1] = (struct iovec){ body + of_body, body_len - of_body };
		n = writev(c->fd, iov, 2);
		if (n < 0 && errno == EAGAIN) {
			conn_watch(c, EPOLLIN | EPOLLOUT);
			return;
		}
		if (n < 0) {
			conn_fail(c);
			return;
		}
		c->written += (size_t)n;
	}
	c->state = CONN_READING;
	conn_watch(c, EPOLLIN);
}

static void
conn_begin(struct conn *c, int64_t came_ns)
{
	in_flight++;
	if (c->state == CONN_CLOSED && !conn_open(c)) {
		conn_fail(c);
		return;
	}
	if (opt.sessions > 0)
		c->session = (started + opt.seed * 104729) % opt.sessions;
	started++;
	c->began_ns = came_ns;
	c->written = 0;
	c->state = CONN_WRITING;
	answer_init(&c->answer);
	conn_write(c);
}

static void
result_show_refusal(const struct conn *c)
{
	if (result.first_status != 0)
		return;
	result.first_status = c->answer.status;
	fprintf(stderr, "bench-load: an answer was refused:\n%.400s\n",
	    c->answer.head);
}

static void
conn_answered(struct conn *c)
{
	int64_t now = now_ns();

	in_flight--;
	if (c->answer.status == 200) {
		result.requests++;
		histogram_add(&result.latency, (uint64_t)(now - c->began_ns));
	} else {
		result.refused++;
		result_show_refusal(c);
	}
	if (c->state == CONN_WRITING || c->answer.closes)
		conn_close(c);
	else
		c->state = CONN_IDLE;
	conn_park(c);
}

/* The delay of paced events, from the time each bears; data ends in a NUL. */
static void
events_note(const char *data, size_t len)
{
	static const char mark[] = "\"content\":\"";
	const char *end = data + len, *at = data;
	int64_t now = now_ns(), sent;

	while (
	    (at = memmem(at, (size_t)(end - at), mark, strlen(mark))) != NULL) {
		at += strlen(mark);
		if (end - at < STAMP_DIGITS)
			return;
		sent = strtoll(at, NULL, 10);
		if (sent > start_ns && sent <= now)
			histogram_add(
			    &result.event_delay, (uint64_t)(now - sent));
	}
}

static void
conn_note_open_stream(struct conn *c)
{
	if (c->state != CONN_READING || c->answer.body_bytes == 0)
		return;
	c->state = CONN_HELD;
	result.held++;
	opening--;
	if (opt.stall)
		conn_watch(c, EPOLLRDHUP);
}

static void
conn_take(struct conn *c, char *data, ssize_t n)
{
	if (n == 0 && answer_ends_by_close(&c->answer))
		c->answer.state = ANSWER_DONE;
	else if (n <= 0 || answer_feed(&c->answer, data, (size_t)n) < 0) {
		conn_fail(c);
		return;
	}
	if (opt.event_delay && n > 0)
		events_note(data, (size_t)n);
	if (opt.hold)
		conn_note_open_stream(c);
	if (c->answer.state == ANSWER_DONE)
		conn_answered(c);
}

static void
conn_read(struct conn *c)
{
	static char scratch[65536 + 1];
	size_t size = opt.stall ? 1024 : sizeof(scratch) - 1;
	ssize_t n = recv(c->fd, scratch, size, 0);

	if (n < 0 && errno == EAGAIN)
		return;
	scratch[n > 0 ? n : 0] = '\0';
	if (c->state == CONN_IDLE)
		conn_close(c); /* it is on the free list already */
	else
		conn_take(c, scratch, n);
}

static void
conn_ready(struct conn *c, uint32_t events)
{
	if ((events & EPOLLOUT) && c->state == CONN_WRITING)
		conn_write(c);
	if ((events & ~(uint32_t)EPOLLOUT) && c->state != CONN_CLOSED)
		conn_read(c);
}

static struct conn *
conn_unpark(void)
{
	struct conn *c = parked;

	parked = c->next_parked;
	return c;
}

static bool
feed_is_over(int64_t now)
{
	return now >= end_ns ||
	       (opt.requests_max > 0 && started >= opt.requests_max);
}

/* Everybody who has an answer asks again. */
static void
feed_closed(int64_t now)
{
	while (parked != NULL && !loop_done && !feed_is_over(now))
		conn_begin(conn_unpark(), now);
}

static void
queue_add(int64_t at)
{
	if (queue.tail - queue.head == QUEUE_MAX)
		result.dropped++;
	else
		queue.at[queue.tail++ % QUEUE_MAX] = at;
}

static void
queue_drain(void)
{
	while (queue.head < queue.tail && parked != NULL && !loop_done)
		conn_begin(conn_unpark(), queue.at[queue.head++ % QUEUE_MAX]);
}

/*
 * A request that finds a connection free begins now: that this program was
 * woken late is not the proxy's doing.
 */
static void
feed_open(int64_t now)
{
	queue_drain();
	while (next_arrival_ns <= now && !feed_is_over(now)) {
		queue_add(parked != NULL ? now : next_arrival_ns);
		next_arrival_ns += (int64_t)(-log(random_unit()) / opt.rate *
					     (double)NSEC_PER_SEC);
		queue_drain();
	}
}

static void
feed_hold(int64_t now)
{
	while (
	    started < opt.connections && opening < OPENING_MAX && !loop_done) {
		opening++;
		conn_begin(conn_unpark(), now);
	}
}

static bool
run_is_over(int64_t now)
{
	if (loop_done || now >= end_ns + DRAIN_NS)
		return true;
	return feed_is_over(now) &&
	       (opt.hold || (in_flight == 0 && queue.head == queue.tail));
}

static struct timespec
loop_patience(int64_t now)
{
	int64_t until = now < end_ns ? end_ns : end_ns + DRAIN_NS;

	if (opt.rate > 0 && !feed_is_over(now))
		until = next_arrival_ns;
	if (until < now || loop_done)
		until = now;
	return (struct timespec){ (until - now) / NSEC_PER_SEC,
		(until - now) % NSEC_PER_SEC };
}

/* The only event without a connection is the standard input of a hold. */
static void
loop_dispatch(const struct epoll_event *ev)
{
	char byte;

	if (ev->data.ptr != NULL)
		conn_ready(ev->data.ptr, ev->events);
	else if (read(STDIN_FILENO, &byte, 1) <= 0)
		loop_done = true;
}

static void
hold_report(void)
{
	static bool reported;

	if (reported || !opt.hold ||
	    result.held + result.broken + result.refused < opt.connections)
		return;
	reported = true;
	printf("{\"held\": %" PRIu64 ", \"errors\": %" PRIu64 "}\n",
	    result.held, result.broken + result.refused);
	fflush(stdout);
}

static void
loop_run(void (*feed)(int64_t now))
{
	struct epoll_event events[256];
	struct timespec patience;
	int64_t now = now_ns();
	int i, n;

	while (!run_is_over(now)) {
		feed(now);
		hold_report();
		patience = loop_patience(now_ns());
		n = epoll_pwait2(loop_fd, events, 256, &patience, NULL);
		if (n < 0 && errno != EINTR)
			err(1, "epoll_pwait2");
		for (i = 0; i < n; i++)
			loop_dispatch(&events[i]);
		now = now_ns();
	}
}

static void
load_run(void)
{
	struct epoll_event input = { .events = EPOLLIN };
	unsigned i;

	loop_fd = epoll_create1(EPOLL_CLOEXEC);
	conns = calloc(opt.connections, sizeof(*conns));
	if (loop_fd < 0 || conns == NULL)
		err(1, "cannot start");
	for (i = 0; i < opt.connections; i++)
		conn_park(&conns[i]);
	start_ns = now_ns();
	end_ns = start_ns + (int64_t)(opt.seconds * (double)NSEC_PER_SEC);
	next_arrival_ns = start_ns;
	random_state = opt.seed * UINT64_C(0x9e3779b97f4a7c15);
	if (opt.hold &&
	    epoll_ctl(loop_fd, EPOLL_CTL_ADD, STDIN_FILENO, &input) < 0)
		errx(1, "standard input has to be a pipe or a terminal");
	loop_run(opt.hold ? feed_hold : opt.rate > 0 ? feed_open : feed_closed);
}

static double
quantile_us(const struct histogram *h, double fraction)
{
	return (double)histogram_quantile_ns(h, fraction) / 1e3;
}

static void
result_print(void)
{
	const struct histogram *h = &result.latency;
	double seconds = (double)(now_ns() - start_ns) / 1e9;

	printf("{\"requests\": %" PRIu64 ", \"errors\": %" PRIu64
	       ", \"refused\": %" PRIu64 ", \"broken\": %" PRIu64
	       ", \"stuck\": %" PRIu64 ", \"dropped\": %" PRIu64
	       ", \"seconds\": %.3f, \"rps\": %.1f",
	    result.requests,
	    result.refused + result.broken + result.stuck + result.dropped,
	    result.refused, result.broken, result.stuck, result.dropped,
	    seconds, (double)result.requests / seconds);
	printf(", \"p50_us\": %.1f, \"p90_us\": %.1f, \"p99_us\": %.1f"
	       ", \"max_us\": %.1f",
	    quantile_us(h, .5), quantile_us(h, .9), quantile_us(h, .99),
	    (double)h->max_ns / 1e3);
	h = &result.event_delay;
	printf(", \"events\": %" PRIu64 ", \"event_p50_us\": %.1f"
	       ", \"event_p99_us\": %.1f}\n",
	    h->total, quantile_us(h, .5), quantile_us(h, .99));
}

static _Noreturn void
usage(void)
{
	fprintf(stderr,
	    "usage: bench-load [-ekLs] [-b BYTES | -f FILE] [-c CONNECTIONS]\n"
	    "           [-d SECONDS] [-H HEADER]... [-m MODEL] [-n REQUESTS]\n"
	    "           [-r RATE] [-S SESSIONS] [-u PATH] [-x METHOD]\n"
	    "           [-z SEED] PORT\n"
	    "  -b  send a chat request of so many bytes    -f  send a file\n"
	    "  -r  requests a second, at random moments; without it, each\n"
	    "      connection asks again as soon as it is answered\n"
	    "  -S  rotate over so many sessions in X-Session-ID\n"
	    "  -s  ask for streams        -e  and measure the delay of events\n"
	    "  -k  keep the streams open  -L  and stop reading them "
	    "(laggards)\n");
	exit(2);
}

static void
header_add(const char *header)
{
	size_t len = strlen(opt.headers);
	int added = snprintf(
	    opt.headers + len, sizeof(opt.headers) - len, "%s\r\n", header);

	if ((size_t)added >= sizeof(opt.headers) - len)
		errx(2, "too many headers");
}

static double
number(const char *text, double min, double max)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end != '\0' || !(value >= min && value <= max))
		errx(2, "%s: not a number from %g to %g", text, min, max);
	return value;
}

static const struct option_row {
	char letter;
	enum { FLAG, TEXT, COUNT, REAL } type;
	void *value;
	double min, max;
} option_rows[] = {
	{ 'e', FLAG, &opt.event_delay, 0, 0 },
	{ 'k', FLAG, &opt.hold, 0, 0 },
	{ 'L', FLAG, &opt.stall, 0, 0 },
	{ 's', FLAG, &opt.stream, 0, 0 },
	{ 'f', TEXT, &opt.body_file, 0, 0 },
	{ 'm', TEXT, &opt.model, 0, 0 },
	{ 'u', TEXT, &opt.path, 0, 0 },
	{ 'x', TEXT, &opt.method, 0, 0 },
	{ 'b', COUNT, &opt.body_size, 1, 1 << 30 },
	{ 'c', COUNT, &opt.connections, 1, CONNECTIONS_MAX },
	{ 'n', COUNT, &opt.requests_max, 1, 1e12 },
	{ 'S', COUNT, &opt.sessions, 1, 99999999 },
	{ 'z', COUNT, &opt.seed, 1, 1e9 },
	{ 'd', REAL, &opt.seconds, 0.01, 3600 },
	{ 'r', REAL, &opt.rate, 0.1, 1e6 },
};

static void
option_set(const struct option_row *row, const char *arg)
{
	switch (row->type) {
	case FLAG:
		*(bool *)row->value = true;
		break;
	case TEXT:
		*(const char **)row->value = arg;
		break;
	case COUNT:
		*(uint64_t *)row->value =
		    (uint64_t)number(arg, row->min, row->max);
		break;
	case REAL:
		*(double *)row->value = number(arg, row->min, row->max);
		break;
	}
}

static const struct option_row *
option_find(int letter)
{
	const size_t rows = sizeof(option_rows) / sizeof(*option_rows);
	const struct option_row *row;

	for (row = option_rows; row < option_rows + rows; row++) {
		if (row->letter == letter)
			return row;
	}
	usage();
}

static void
options_parse(int argc, char **argv)
{
	int c;

	while ((c = getopt(argc, argv, "ekLsb:f:c:d:H:m:n:r:S:u:x:z:")) != -1) {
		if (c == 'H')
			header_add(optarg);
		else
			option_set(option_find(c), optarg);
	}
	if (optind != argc - 1)
		usage();
	opt.hold = opt.hold || opt.stall;
	opt.target.sin_family = AF_INET;
	opt.target.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	opt.target.sin_port =
	    htons((uint16_t)number(argv[optind], 1, UINT16_MAX));
}

int
main(int argc, char **argv)
{
	options_parse(argc, argv);
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_TIMERSLACK, 1);
	if (opt.body_file != NULL)
		body_read(opt.body_file);
	else if (opt.body_size > 0)
		body_make((size_t)opt.body_size);
	head_make();
	load_run();
	result.stuck = in_flight + (queue.tail - queue.head);
	result_print();
	return 0;
}

/* SPDX-License-Identifier: MIT */
/* Requests on their way in, and the life of a connection. */
#include "tests/unit/client_side.h"

#include <zlib.h>
#include <zstd.h>

/* ---- requests and their answers */

/* An answer in short: the status, and 'c' where the connection closes. */
struct dialogue {
	const char *name;
	const char *request;
	const char *answers;
	unsigned started;
};

static const struct dialogue dialogues[] = {
	{ "health", GET, "200", 0 },
	{ "health, twice", GET GET, "200 200", 0 },
	{ "HTTP/1.0", "GET /healthz HTTP/1.0\r\n\r\n", "200c", 0 },
	{ "close is asked for",
	    "GET /healthz HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n" GET,
	    "200c", 0 },
	{ "an empty line in front", "\r\n" GET "\r\n" GET, "200 200", 0 },
	{ "a body in one piece", POST "Content-Length: 5\r\n\r\nhello", "200",
	    1 },
	{ "three bodies",
	    POST "Content-Length: 5\r\n\r\nhello" POST
		 "Content-Length: 0\r\n\r\n" POST
		 "Content-Length: 1\r\n\r\nx" GET,
	    "200 200 200 200", 3 },
	{ "no body", POST "\r\n" GET, "200 200", 1 },
	{ "chunks, and the next request",
	    POST "Transfer-Encoding: chunked\r\n\r\n"
		 "3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n" GET,
	    "200 200", 1 },
	{ "chunks with a trailer",
	    POST "Transfer-Encoding: chunked\r\n\r\n"
		 "5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n" POST
		 "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" GET,
	    "200 200 200", 2 },
	{ "a GET with a body",
	    "GET /healthz HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc" GET,
	    "200 200", 0 },
	{ "an unknown path", "GET /x HTTP/1.1\r\n" HOST "\r\n" GET, "404 200",
	    0 },
	{ "a wrong method", "PUT /healthz HTTP/1.1\r\n" HOST "\r\n" GET,
	    "405 200", 0 },
	{ "a websocket",
	    "GET /v1/responses HTTP/1.1\r\n" HOST
	    "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n" GET,
	    "426 200", 0 },
	{ "no key, no body", "POST /v1/messages HTTP/1.1\r\n" HOST "\r\n" GET,
	    "401 200", 0 },
	{ "no key: the body is not read",
	    "POST /v1/messages HTTP/1.1\r\n" HOST
	    "Content-Length: 100\r\n\r\n{",
	    "401c", 0 },
	{ "a wrong key: what follows is no request",
	    "POST /v1/messages HTTP/1.1\r\n" HOST "X-Api-Key: no\r\n"
	    "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" GET,
	    "401c", 0 },
	{ "an unknown path with a body",
	    "POST /x HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\nx" GET,
	    "404c", 0 },
	{ "not HTTP", "\x16\x03\x01\x02 not http at all\r\n\r\n", "400c", 0 },
	{ "no Host", "GET / HTTP/1.1\r\n\r\n", "400c", 0 },
	{ "HTTP/2", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", "505c", 0 },
	{ "a transfer coding",
	    POST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "501c",
	    0 },
	{ "a content coding",
	    POST "Content-Encoding: br\r\nContent-Length: 1\r\n\r\nx", "415c",
	    0 },
	{ "too much is announced", POST "Content-Length: 16777217\r\n\r\nx",
	    "413c", 0 },
	{ "a chunk that is too large",
	    POST "Transfer-Encoding: chunked\r\n\r\n1000001\r\nx", "413c", 0 },
	{ "a broken chunk",
	    POST "Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX", "400c", 0 },
	{ "broken gzip",
	    POST "Content-Encoding: gzip\r\nContent-Length: 12\r\n\r\n"
		 "abcdefghijkl",
	    "400c", 0 },
	{ "cut gzip",
	    POST "Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\n"
		 "\x1f\x8b\x08",
	    "400c", 0 },
};

static void
expect_dialogue(struct fixture *f, const struct dialogue *d)
{
	const char *p = d->answers;
	char *end;
	int status;

	while (*p != '\0') {
		status = (int)strtol(p, &end, 10);
		expect(f, status, *end == 'c');
		p = end + (*end == 'c') + (end[*end == 'c'] == ' ');
	}
	if (end[0] == 'c')
		expect_end(f);
	else
		expect_open(f);
	assert_int_equal(fake.started, d->started);
}

static void
requests_are_answered_however_they_are_cut(void **state)
{
	static const size_t pieces[] = { SIZE_MAX, 1, 7, 50 };
	struct fixture *f = *state;
	const struct dialogue *d;
	size_t i, k;

	for (i = 0; i < ARRAY_LEN(dialogues); i++) {
		d = &dialogues[i];
		for (k = 0; k < ARRAY_LEN(pieces); k++) {
			print_message(
			    "%s, by %zd\n", d->name, (ssize_t)pieces[k]);
			fake.started = 0;
			client_open(f, &f->client, UNIX);
			send_pieces(
			    f, d->request, strlen(d->request), pieces[k]);
			expect_dialogue(f, d);
			client_fini(&f->client);
			UNTIL(f, conns_count(f->worker.conns) == 0);
		}
	}
}

static void
the_body_reaches_the_relay_and_comes_back(void **state)
{
	struct fixture *f = *state;
	struct answer a;

	client_open(f, &f->client, UNIX);
	send_text(f, POST "Content-Length: 5\r\n\r\nhello");
	a = expect_answer(f, 200, false);
	assert_int_equal(a.body.len, 5);
	assert_memory_equal(a.body.data, "hello", 5);
	buf_fini(&a.body);
}

static void
a_head_request_is_answered_without_a_body(void **state)
{
	struct fixture *f = *state;
	struct answer a;

	client_open(f, &f->client, UNIX);
	send_text(f, "HEAD /healthz HTTP/1.1\r\n" HOST "\r\n"
		     "HEAD / HTTP/1.1\r\n" HOST "\r\n" GET);
	UNTIL(f, next_answer(&f->client, true, &a));
	assert_int_equal(a.status, 200);
	UNTIL(f, next_answer(&f->client, true, &a));
	assert_int_equal(a.status, 200);
	expect(f, 200, false);
	expect_open(f);
}

static void
http_1_0_may_ask_to_keep_the_connection(void **state)
{
	static const char request[] =
	    "GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
	struct fixture *f = *state;
	struct answer a;

	client_open(f, &f->client, UNIX);
	send_text(f, request);
	a = expect_answer(f, 200, false);
	assert_true(a.keep_alive);
	buf_fini(&a.body);
	expect_open(f);
}

static void
many_requests_in_one_segment_are_answered_in_order(void **state)
{
	enum { N = 500 };
	struct fixture *f = *state;
	struct buf all = BUF_INIT(1 << 20);
	char number[16], last[REQUEST_ID_LEN + 1] = "";
	struct answer a;
	int i;

	client_open(f, &f->client, UNIX);
	for (i = 0; i < N; i++)
		buf_printf(&all,
		    POST "Transfer-Encoding: chunked\r\n\r\n"
			 "4\r\n%04d\r\n0\r\n\r\n" POST
			 "Content-Length: 4\r\n\r\n%04d",
		    2 * i, 2 * i + 1);
	send_pieces(f, all.data, all.len, SIZE_MAX);
	buf_fini(&all);
	for (i = 0; i < 2 * N; i++) {
		a = expect_answer(f, 200, false);
		(void)snprintf(number, sizeof(number), "%04d", i);
		assert_memory_equal(a.body.data, number, 4);
		assert_string_not_equal(a.id, last);
		memcpy(last, a.id, sizeof(last));
		buf_fini(&a.body);
	}
	expect_open(f);
}

static void
a_client_that_does_not_read_is_not_served_on(void **state)
{
	enum { N = 2000, SIZE = 2000 };
	struct fixture *f = *state;
	char request[4096];
	unsigned stuck;
	int i, n;

	client_open(f, &f->client, SLOW_TCP);
	f->client.deaf = true;
	n = snprintf(request, sizeof(request),
	    POST "Content-Length: %d\r\n\r\n%.*s", SIZE, SIZE, text);
	for (i = 0; i < N; i++) {
		if (send(f->client.fd, request, (size_t)n, MSG_NOSIGNAL) != n)
			break;
		turns(f, 2);
	}
	stuck = fake.started;
	turns(f, 100);
	assert_int_equal(fake.started, stuck);
	assert_true(stuck < 100);
	f->client.deaf = false;
	for (i = 0; i < (int)stuck; i++)
		expect(f, 200, false);
	UNTIL(f, fake.started > stuck);
}

static void
a_head_has_its_limit(void **state)
{
	static const size_t sizes[] = { 0, 100, 4095, 8191 };
	struct fixture *f = *state;
	char head[16384];
	size_t i, k;
	int n;

	f->config.limits.header = 8192;
	for (i = 0; i < ARRAY_LEN(sizes); i++) {
		for (k = 0; k < 2; k++) {
			n = snprintf(head, sizeof(head),
			    "%sGET /healthz HTTP/1.1\r\n" HOST "X-A: ",
			    k == 0 ? ""
				   : POST "Transfer-Encoding: chunked\r\n\r\n"
					  "0\r\n\r\n");
			memset(head + n, 'a', sizeof(head) - (size_t)n);
			client_open(f, &f->client, UNIX);
			send_pieces(f, head, sizeof(head), sizes[i] + 1);
			if (k == 1)
				expect(f, 200, false);
			expect(f, 431, true);
			expect_end(f);
			client_fini(&f->client);
			UNTIL(f, conns_count(f->worker.conns) == 0);
		}
	}
}

/* ---- bodies */

struct coded {
	char *data;
	size_t len;
};

static struct coded
code_not(const char *p, size_t len)
{
	struct coded coded = { malloc(len), len };

	memcpy(coded.data, p, len);
	return coded;
}

static struct coded
code_gzip(const char *p, size_t len)
{
	struct coded coded = { malloc(len + 1024), 0 };
	z_stream z = { 0 };

	assert_int_equal(deflateInit2(&z, 1, Z_DEFLATED, 15 + 16, 8, 0), Z_OK);
	memcpy(&z.next_in, &p, sizeof(p));
	z.avail_in = (uInt)len;
	z.next_out = (Bytef *)coded.data;
	z.avail_out = (uInt)len + 1024;
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	coded.len = z.total_out;
	deflateEnd(&z);
	return coded;
}

static struct coded
code_zstd(const char *p, size_t len)
{
	size_t room = ZSTD_compressBound(len);
	struct coded coded = { malloc(room), 0 };

	coded.len = ZSTD_compress(coded.data, room, p, len, 1);
	assert_false(ZSTD_isError(coded.len));
	return coded;
}

static const struct {
	const char *name;
	struct coded (*code)(const char *p, size_t len);
} codings[] = {
	{ "identity", code_not },
	{ "gzip", code_gzip },
	{ "zstd", code_zstd },
};

/* A request with that body, framed by length or in chunks, and a GET. */
static void
make_upload(struct buf *b, const char *coding, struct coded coded, bool chunked,
    size_t chunk)
{
	size_t at, n;

	buf_init(b, 64 << 20);
	buf_printf(b, POST "Content-Encoding: %s\r\n", coding);
	if (!chunked) {
		buf_printf(b, "Content-Length: %zu\r\n\r\n", coded.len);
		buf_append(b, coded.data, coded.len);
	} else {
		buf_puts(b, "Transfer-Encoding: chunked\r\n\r\n");
		for (at = 0; at < coded.len; at += n) {
			n = coded.len - at < chunk ? coded.len - at : chunk;
			buf_printf(b, "%zx\r\n", n);
			buf_append(b, coded.data + at, n);
			buf_puts(b, "\r\n");
		}
		buf_puts(b, "0\r\n\r\n");
	}
	buf_puts(b, GET);
	free(coded.data);
}

static void
expect_upload(struct fixture *f, const char *p, size_t len)
{
	struct answer a = expect_answer(f, 200, false);

	assert_int_equal(a.body.len, len);
	assert_memory_equal(a.body.data, p, len);
	buf_fini(&a.body);
	expect(f, 200, false);
	expect_open(f);
	assert_int_equal(atomic_load(&board->bodies), 0);
}

static void
bodies_come_in_every_framing_coding_and_piece(void **state)
{
	static const struct {
		size_t len, piece, chunk;
	} sizes[] = {
		{ 300, 1, 7 },
		{ 20000, 13, 100 },
		{ 20000, SIZE_MAX, 20000 },
		{ TEXT, 65536, 300000 },
		{ TEXT, SIZE_MAX, 4000 },
	};
	struct fixture *f = *state;
	struct buf request;
	size_t i, k;
	int chunked;

	client_open(f, &f->client, TCP);
	for (i = 0; i < ARRAY_LEN(codings); i++) {
		for (k = 0; k < ARRAY_LEN(sizes); k++) {
			for (chunked = 0; chunked < 2; chunked++) {
				make_upload(&request, codings[i].name,
				    codings[i].code(text, sizes[k].len),
				    chunked != 0, sizes[k].chunk);
				send_pieces(f, request.data, request.len,
				    sizes[k].piece);
				expect_upload(f, text, sizes[k].len);
				buf_fini(&request);
			}
		}
	}
}

/*
 * What swells takes its share of a turn only, in either framing, and others
 * are served meanwhile.
 */
static void
a_body_that_swells_shares_the_loop(void **state)
{
	enum { LEN = 8 << 20, SHARE = 512 * 1024 };
	struct fixture *f = *state;
	char *zeros = calloc(1, LEN);
	struct buf request;
	size_t i;
	int chunked, n;

	for (i = 1; i < ARRAY_LEN(codings); i++) {
		for (chunked = 0; chunked < 2; chunked++) {
			client_open(f, &f->client, UNIX);
			make_upload(&request, codings[i].name,
			    codings[i].code(zeros, LEN), chunked != 0,
			    SIZE_MAX);
			send_pieces(f, request.data, request.len, SIZE_MAX);
			fake.started = 0;
			for (n = 0; fake.started == 0; n++)
				turn(f);
			assert_true(n >= LEN / SHARE);
			expect_upload(f, zeros, LEN);
			buf_fini(&request);
			client_fini(&f->client);
			UNTIL(f, conns_count(f->worker.conns) == 0);
		}
	}
	free(zeros);
}

static void
a_client_may_wait_for_100_continue(void **state)
{
	struct fixture *f = *state;

	client_open(f, &f->client, UNIX);
	send_text(f, POST "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n");
	expect(f, 100, false);
	send_text(f, "hi");
	expect(f, 200, false);
	send_text(f, POST "Expect: 100-continue\r\n"
			  "Transfer-Encoding: chunked\r\n\r\n");
	expect(f, 100, false);
	send_text(f, "0\r\n\r\n");
	expect(f, 200, false);
	/* The body came without waiting, or there is none. */
	send_text(f,
	    POST "Expect: 100-continue\r\nContent-Length: 2\r\n\r\nhi" POST
		 "Expect: 100-continue\r\nContent-Length: 0\r\n\r\n");
	expect(f, 200, false);
	expect(f, 200, false);
	expect_open(f);
}

static void
who_is_refused_gets_no_100_continue(void **state)
{
	struct fixture *f = *state;

	client_open(f, &f->client, UNIX);
	send_text(f, "POST /v1/messages HTTP/1.1\r\n" HOST
		     "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n");
	expect(f, 401, true);
	expect_end(f);
}

/* The refusal must not be lost in a reset because the body is still coming. */
static void
a_refusal_is_read_by_a_client_that_goes_on_sending(void **state)
{
	struct fixture *f = *state;

	client_open(f, &f->client, TCP);
	send_text(f, "POST /v1/messages HTTP/1.1\r\n" HOST
		     "Content-Length: 3145728\r\n\r\n");
	f->client.deaf = true;
	send_pieces(f, text, TEXT, 65536);
	f->client.deaf = false;
	expect(f, 401, true);
	expect_end(f);
	assert_int_equal(fake.started, 0);
	client_fini(&f->client);
	UNTIL(f, conns_count(f->worker.conns) == 0);
}

static void
bodies_of_all_have_a_limit_and_give_back(void **state)
{
	struct fixture *f = *state;

	f->config.limits.bodies_total = 1000;
	client_open(f, &f->client, UNIX);
	start_held(f, POST "Content-Length: 5\r\n\r\nhello");
	assert_int_equal(atomic_load(&board->bodies), 5);
	exchange_release_body(fake.relay.x);
	assert_null(fake.relay.x->body);
	assert_int_equal(atomic_load(&board->bodies), 0);
	exchange_answer(held(), 200, NULL, 0, NULL, 0);
	expect(f, 200, false);
	send_text(f, POST "Content-Length: 1001\r\n\r\n");
	expect(f, 503, true);
	expect_end(f);
}

/* ---- clients that leave */

static void
a_client_that_leaves_is_told_to_the_relay_once(void **state)
{
	static const struct {
		const char *name;
		enum transport transport;
		bool reset;
		bool at_once;     /* with the request, in one turn */
		const char *more; /* left unread in the socket */
	} rows[] = {
		{ "close", UNIX, false, false, "" },
		{ "close", TCP, false, false, "" },
		{ "reset", TCP, true, false, "" },
		{ "close behind more", TCP, false, false, GET GET },
		{ "reset behind more", TCP, true, false, GET GET },
		{ "close at once", UNIX, false, true, "" },
		{ "close at once", TCP, false, true, "" },
		{ "reset at once", TCP, true, true, "" },
	};
	struct fixture *f = *state;
	size_t i;

	fake.hold = true;
	for (i = 0; i < ARRAY_LEN(rows); i++) {
		print_message("%s\n", rows[i].name);
		client_open(f, &f->client, rows[i].transport);
		send_text(f, POST "Content-Length: 5\r\n\r\nhello");
		if (!rows[i].at_once)
			UNTIL(f, fake.started == i + 1);
		send_text(f, rows[i].more);
		if (!rows[i].at_once)
			turns(f, 2);
		assert_int_equal(fake.gone, i);
		if (rows[i].reset)
			client_reset(&f->client);
		else
			client_fini(&f->client);
		UNTIL(f, conns_count(f->worker.conns) == 0);
		assert_int_equal(fake.started, i + 1);
		assert_int_equal(fake.gone, i + 1);
		assert_int_equal(atomic_load(&board->bodies), 0);
	}
}

static void
a_client_that_leaves_before_its_request_is_whole_costs_nothing(void **state)
{
	static const char *const parts[] = {
		"",
		"POST /v1/mess",
		POST "Content-Length: 5\r\n\r\nhel",
		POST "Transfer-Encoding: chunked\r\n\r\n5\r\nhe",
		POST "Content-Encoding: gzip\r\nContent-Length: 50\r\n\r\n\x1f",
	};
	struct fixture *f = *state;
	size_t i;
	int reset;

	for (i = 0; i < ARRAY_LEN(parts); i++) {
		for (reset = 0; reset < 2; reset++) {
			client_open(f, &f->client, TCP);
			send_text(f, parts[i]);
			turns(f, 3);
			assert_int_equal(conns_count(f->worker.conns), 1);
			if (reset)
				client_reset(&f->client);
			else
				client_fini(&f->client);
			UNTIL(f, conns_count(f->worker.conns) == 0);
			assert_int_equal(atomic_load(&board->bodies), 0);
		}
	}
	assert_int_equal(fake.started, 0);
}

/* A request that needs no relay is answered even to who shut its side. */
static void
a_half_closed_client_gets_local_answers(void **state)
{
	struct fixture *f = *state;

	client_open(f, &f->client, TCP);
	send_text(f, GET GET);
	shutdown(f->client.fd, SHUT_WR);
	expect(f, 200, false);
	expect(f, 200, false);
	expect_end(f);
}

static void
the_end_of_the_worker_is_told_to_the_relay(void **state)
{
	struct fixture *f = *state;

	client_open(f, &f->client, UNIX);
	start_held(f, POST "Content-Length: 5\r\n\r\nhello");
	conns_free(f->worker.conns);
	assert_int_equal(fake.gone, 1);
	f->worker.conns = conns_new(&f->worker);
}

/* ---- time */

enum { SHORT_MS = 30 };

static void
a_request_has_its_time(void **state)
{
	static const struct {
		const char *part;
		int status; /* 0: closed without a word */
	} rows[] = {
		{ "", 0 },
		{ "GET /heal", 408 },
		{ GET "GET /heal", 408 },
		{ POST "Content-Length: 5\r\n\r\nhel", 408 },
		{ POST "Transfer-Encoding: chunked\r\n\r\n5\r\n", 408 },
	};
	struct fixture *f = *state;
	size_t i;

	f->config.limits.header_timeout_ms = SHORT_MS;
	f->config.limits.body_timeout_ms = SHORT_MS;
	for (i = 0; i < ARRAY_LEN(rows); i++) {
		client_open(f, &f->client, TCP);
		send_text(f, rows[i].part);
		if (strncmp(rows[i].part, GET, strlen(GET)) == 0)
			expect(f, 200, false);
		if (rows[i].status != 0)
			expect(f, rows[i].status, true);
		expect_end(f);
		client_fini(&f->client);
		UNTIL(f, conns_count(f->worker.conns) == 0);
	}
	assert_int_equal(fake.started, 0);
}

static void
a_head_or_body_that_dribbles_runs_out_of_time(void **state)
{
	static const char *const parts[] = { "GET /?a=",
		POST "Content-Length: 100000\r\n\r\n" };
	struct fixture *f = *state;
	struct answer a;
	size_t i;

	f->config.limits.header_timeout_ms = SHORT_MS;
	f->config.limits.body_timeout_ms = SHORT_MS;
	for (i = 0; i < ARRAY_LEN(parts); i++) {
		client_open(f, &f->client, TCP);
		send_text(f, parts[i]);
		UNTIL(f, (usleep(1000), send_text(f, "x"),
			     next_answer(&f->client, false, &a)));
		assert_int_equal(a.status, 408);
		buf_fini(&a.body);
		expect_end(f);
	}
}

static void
a_body_that_keeps_its_pace_may_take_long(void **state)
{
	enum { PART = 5000, N = 30, PACE_MS = 500 };
	struct fixture *f = *state;
	struct answer a;
	int i;

	f->config.limits.body_timeout_ms = PACE_MS;
	client_open(f, &f->client, TCP);
	send_text(f, POST "Content-Length: 150000\r\n\r\n");
	for (i = 0; i < N; i++) {
		pass(f, PACE_MS / 15);
		send_pieces(f, text + (size_t)i * PART, PART, SIZE_MAX);
	}
	a = expect_answer(f, 200, false);
	assert_memory_equal(a.body.data, text, 150000);
	buf_fini(&a.body);
}

static void
an_idle_connection_is_closed_in_time(void **state)
{
	struct fixture *f = *state;

	f->config.limits.idle_timeout_ms = SHORT_MS;
	client_open(f, &f->client, UNIX);
	send_text(f, GET);
	expect(f, 200, false);
	expect_end(f);
	client_fini(&f->client);
	UNTIL(f, conns_count(f->worker.conns) == 0);
}

/* ---- the worker's own affairs */

static void
a_draining_worker_lets_every_client_hear_it_from_an_answer(void **state)
{
	struct fixture *f = *state;
	struct client idle = { .fd = -1 };

	client_open(f, &f->client, UNIX);
	send_text(f, GET);
	expect(f, 200, false);
	client_open(f, &idle, UNIX);
	f->worker.state = WORKER_DRAINING;
	pass(f, SHORT_MS);
	assert_int_equal(conns_count(f->worker.conns), 2);

	send_text(f, GET GET);
	expect(f, 200, true);
	expect_end(f);
	client_fini(&f->client);
	UNTIL(f, conns_count(f->worker.conns) == 1);
	assert_false(fake.exit);

	f->client = idle;
	start_held(f, POST "\r\n");
	(void)exchange_open(fake.relay.x, 200, NULL, 0, -1, NULL, 0);
	turns(f, 3);
	exchange_finish(held());
	expect(f, 200, true);
	expect_end(f);
	assert_false(fake.exit);
	client_fini(&f->client);
	UNTIL(f, fake.exit);
}

static void
beyond_the_limit_clients_are_told_so(void **state)
{
	enum { TOLD = 128 };
	struct fixture *f = *state;
	struct client first = { .fd = -1 }, more[TOLD];
	size_t i;

	conns_free(f->worker.conns);
	f->config.limits.connections = 1;
	f->worker.conns = conns_new(&f->worker);

	client_open(f, &first, UNIX);
	client_open(f, &f->client, UNIX);
	send_text(f, "GET /x HTTP/1.1\r\n" HOST "\r\n");
	expect(f, 404, true);
	expect_end(f);
	client_open(f, &f->client, UNIX);
	send_text(f, POST "Content-Length: 5\r\n\r\nhello");
	expect(f, 503, true);
	expect_end(f);
	client_fini(&f->client);
	UNTIL(f, conns_count(f->worker.conns) == 1);

	for (i = 0; i < TOLD; i++) {
		more[i] = (struct client){ .fd = -1 };
		client_open(f, &more[i], UNIX);
	}
	client_open(f, &f->client, UNIX);
	expect_end(f);
	for (i = 0; i < TOLD; i++)
		client_fini(&more[i]);
	client_fini(&first);
	UNTIL(f, conns_count(f->worker.conns) == 0);
	client_open(f, &f->client, UNIX);
	send_text(f, GET);
	expect(f, 200, false);
}

static void
the_admin_listener_serves_no_clients(void **state)
{
	struct fixture *f = *state;
	int fds[2];

	unix_pair(fds, false);
	f->client.fd = fds[1];
	buf_init(&f->client.got, 1 << 20);
	conn_open(&f->worker, fds[0], true);
	send_text(f, GET POST "\r\n");
	expect(f, 200, false);
	expect(f, 404, false);
	assert_int_equal(fake.started, 0);
}

/* Staging room for a coded body is not kept while the answer is awaited. */
static void
a_waiting_connection_is_small(void **state)
{
	struct fixture *f = *state;
	struct buf request;

	fake.hold = true;
	client_open(f, &f->client, UNIX);
	make_upload(&request, "gzip", code_gzip(text, 100000), false, SIZE_MAX);
	send_pieces(f, request.data, request.len - strlen(GET), SIZE_MAX);
	buf_fini(&request);
	UNTIL(f, fake.started == 1);
	assert_true(conn_of(fake.relay.x)->in_cap <= 4096);
	assert_true(conn_of(fake.relay.x)->body.cap < 120000);
	exchange_answer(held(), 200, NULL, 0, NULL, 0);
	expect(f, 200, false);
	expect_open(f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(requests_are_answered_however_they_are_cut),
		CASE(the_body_reaches_the_relay_and_comes_back),
		CASE(a_head_request_is_answered_without_a_body),
		CASE(http_1_0_may_ask_to_keep_the_connection),
		CASE(many_requests_in_one_segment_are_answered_in_order),
		CASE(a_client_that_does_not_read_is_not_served_on),
		CASE(a_head_has_its_limit),
		CASE(bodies_come_in_every_framing_coding_and_piece),
		CASE(a_body_that_swells_shares_the_loop),
		CASE(a_client_may_wait_for_100_continue),
		CASE(who_is_refused_gets_no_100_continue),
		CASE(a_refusal_is_read_by_a_client_that_goes_on_sending),
		CASE(bodies_of_all_have_a_limit_and_give_back),
		CASE(a_client_that_leaves_is_told_to_the_relay_once),
		CASE(
		    a_client_that_leaves_before_its_request_is_whole_costs_nothing),
		CASE(a_half_closed_client_gets_local_answers),
		CASE(the_end_of_the_worker_is_told_to_the_relay),
		CASE(a_request_has_its_time),
		CASE(a_head_or_body_that_dribbles_runs_out_of_time),
		CASE(a_body_that_keeps_its_pace_may_take_long),
		CASE(an_idle_connection_is_closed_in_time),
		CASE(
		    a_draining_worker_lets_every_client_hear_it_from_an_answer),
		CASE(beyond_the_limit_clients_are_told_so),
		CASE(the_admin_listener_serves_no_clients),
		CASE(a_waiting_connection_is_small),
	};

	return cmocka_run_group_tests(tests, set_up_group, tear_down_group);
}

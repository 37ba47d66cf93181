/* SPDX-License-Identifier: MIT */
/* Answers on their way out: streams, back-pressure, breaks. */
#include "tests/unit/client_side.h"

enum { SHORT_MS = 30 };

static void
a_stream_arrives_whole_through_a_narrow_socket(void **state)
{
	static const enum transport transports[] = { UNIX, TCP, SLOW_UNIX,
		SLOW_TCP };
	struct fixture *f = *state;
	struct answer a;
	size_t i, at;
	struct iovec iov[3];

	for (i = 0; i < ARRAY_LEN(transports); i++) {
		client_open(f, &f->client, transports[i]);
		start_held(f, POST "\r\n");
		(void)exchange_open(fake.relay.x, 200, NULL, 0, -1, NULL, 0);
		for (at = 0; at + 3000 <= 300000; at += 3000) {
			iov[0] = (struct iovec){ text + at, 1 };
			iov[1] = (struct iovec){ text + at + 1, 999 };
			iov[2] = (struct iovec){ text + at + 1000, 2000 };
			(void)exchange_write(fake.relay.x, iov, 3);
			(void)exchange_write(fake.relay.x, iov, 0);
			if (at % 9000 == 0)
				turn(f);
		}
		exchange_finish(held());
		a = expect_answer(f, 200, false);
		assert_int_equal(a.body.len, 300000);
		assert_memory_equal(a.body.data, text, 300000);
		buf_fini(&a.body);
		expect_open(f);
		client_fini(&f->client);
		UNTIL(f, conns_count(f->worker.conns) == 0);
	}
	assert_int_equal(fake.gone, 0);
}

static void
a_stream_to_http_1_0_ends_with_the_connection(void **state)
{
	struct fixture *f = *state;
	struct answer a;

	client_open(f, &f->client, TCP);
	start_held(f, "POST /v1/messages HTTP/1.0\r\n" KEY
		      "Connection: keep-alive\r\n\r\n");
	(void)exchange_open(fake.relay.x, 200, NULL, 0, -1, NULL, 0);
	write_body(fake.relay.x, text, 1000);
	exchange_finish(held());
	a = expect_answer(f, 200, true);
	assert_int_equal(a.body.len, 1000);
	buf_fini(&a.body);
	expect_end(f);
}

static void
a_full_queue_is_told_once_when_it_falls(void **state)
{
	struct fixture *f = *state;
	size_t queued, total = 0;
	unsigned round;
	struct answer a;

	client_open(f, &f->client, SLOW_TCP);
	start_held(f, POST "\r\n");
	(void)exchange_open(fake.relay.x, 200, NULL, 0, -1, NULL, 0);
	for (round = 1; round <= 3; round++) {
		f->client.deaf = true;
		do {
			struct iovec iov = { text + total, 10000 };

			queued = exchange_write(fake.relay.x, &iov, 1);
			total += 10000;
		} while (queued < EXCHANGE_HIGH);
		turns(f, 10);
		assert_int_equal(fake.writable, round - 1);
		f->client.deaf = false;
		UNTIL(f, fake.writable == round);
		assert_true(conn_queued(conn_of(fake.relay.x)) < EXCHANGE_LOW);
		turns(f, 10);
		assert_int_equal(fake.writable, round);
	}
	UNTIL(f, conn_queued(conn_of(fake.relay.x)) == 0);
	assert_null(conn_of(fake.relay.x)->out.buf.data);
	exchange_finish(held());
	a = expect_answer(f, 200, false);
	assert_int_equal(a.body.len, total);
	assert_memory_equal(a.body.data, text, total);
	buf_fini(&a.body);
	assert_int_equal(fake.writable, 3);
}

static void
the_next_exchange_is_not_told_of_the_queue_of_the_last(void **state)
{
	struct fixture *f = *state;

	client_open(f, &f->client, SLOW_TCP);
	f->client.deaf = true;
	start_held(f, POST "\r\n");
	(void)exchange_open(fake.relay.x, 200, NULL, 0, -1, NULL, 0);
	write_body(fake.relay.x, text, TEXT);
	exchange_finish(held());
	send_text(f, POST "\r\n");
	f->client.deaf = false;
	UNTIL(f, fake.started == 2);
	expect(f, 200, false);
	turns(f, 10);
	assert_int_equal(fake.writable, 0);
}

/* A long answer that is complete has all the time that its reader needs. */
static void
a_slow_reader_of_a_whole_answer_is_not_idle(void **state)
{
	struct fixture *f = *state;
	struct answer a;
	int again;

	f->config.limits.idle_timeout_ms = 20;
	for (again = 0; again < 2; again++) {
		client_open(f, &f->client, SLOW_TCP);
		f->client.deaf = true;
		start_held(
		    f, again ? POST "Connection: close\r\n\r\n" : POST "\r\n");
		exchange_answer(held(), 200, NULL, 0, text, TEXT);
		pass(f, 60);
		f->client.deaf = false;
		a = expect_answer(f, 200, again != 0);
		assert_int_equal(a.body.len, TEXT);
		assert_memory_equal(a.body.data, text, TEXT);
		buf_fini(&a.body);
		expect_end(f);
	}
}

static void
what_was_said_before_a_break_arrives_and_no_end(void **state)
{
	static const struct {
		const char *request;
		int64_t length;
		enum transport transport;
		bool reset; /* the only way to tell */
	} rows[] = {
		{ POST "\r\n", -1, UNIX, false },
		{ POST "\r\n", -1, SLOW_TCP, false },
		{ POST "\r\n", TEXT, SLOW_TCP, false },
		{ "POST /v1/messages HTTP/1.0\r\n" KEY "\r\n", -1, TCP, true },
	};
	struct fixture *f = *state;
	size_t i, len;

	for (i = 0; i < ARRAY_LEN(rows); i++) {
		client_open(f, &f->client, rows[i].transport);
		start_held(f, rows[i].request);
		len = rows[i].reset ? 10 : 500000;
		(void)exchange_open(
		    fake.relay.x, 200, NULL, 0, rows[i].length, NULL, 0);
		write_body(fake.relay.x, text, len);
		exchange_break(held());
		UNTIL(f, f->client.eof || f->client.reset);
		assert_int_equal(f->client.reset, rows[i].reset);
		assert_true(f->client.got.len >= len);
		if (rows[i].length < 0)
			assert_memory_not_equal(
			    f->client.got.data + f->client.got.len - 5,
			    "0\r\n\r\n", 5);
		client_fini(&f->client);
		UNTIL(f, conns_count(f->worker.conns) == 0);
	}
	assert_int_equal(fake.gone, 0);
}

/* Else the next answer would be read as the rest of this one. */
static void
a_body_of_another_length_than_announced_is_a_broken_answer(void **state)
{
	static const struct {
		int64_t announced;
		size_t parts; /* of 100 bytes */
		size_t got;   /* of the body */
		bool open;    /* the next request is answered */
	} rows[] = {
		{ 200, 2, 200, true },
		{ 200, 1, 100, false },
		{ 200, 3, 200, false },
		{ 0, 0, 0, true },
		{ 0, 1, 0, false },
	};
	struct fixture *f = *state;
	const char *end;
	size_t i, k;

	for (i = 0; i < ARRAY_LEN(rows); i++) {
		client_open(f, &f->client, UNIX);
		start_held(f, POST "\r\n");
		send_text(f, GET);
		(void)exchange_open(
		    fake.relay.x, 200, NULL, 0, rows[i].announced, NULL, 0);
		for (k = 0; k < rows[i].parts; k++)
			write_body(fake.relay.x, text, 100);
		exchange_finish(held());
		if (rows[i].open) {
			expect(f, 200, false);
			expect(f, 200, false);
			continue;
		}
		UNTIL(f, f->client.eof || f->client.reset);
		end = memmem(
		    f->client.got.data, f->client.got.len, "\r\n\r\n", 4);
		assert_non_null(end);
		assert_int_equal(
		    f->client.got.data + f->client.got.len - end - 4,
		    rows[i].got);
	}
}

static void
an_answer_that_cannot_be_made_closes_the_connection(void **state)
{
	struct fixture *f = *state;
	char *value = malloc(300000);
	struct header header = { SPAN("x-large"), { value, 300000 } };
	int opened;

	memset(value, 'v', 300000);
	for (opened = 0; opened < 2; opened++) {
		client_open(f, &f->client, UNIX);
		start_held(f, POST "\r\n");
		if (opened)
			(void)exchange_open(
			    fake.relay.x, 200, &header, 1, -1, NULL, 0);
		else
			exchange_answer(held(), 200, &header, 1, "x", 1);
		UNTIL(f, f->client.eof);
		assert_int_equal(f->client.got.len, 0);
		assert_int_equal(fake.gone, (unsigned)opened);
	}
	free(value);
}

static void
a_long_answer_that_breaks_the_queue_is_not_followed_by_another(void **state)
{
	struct fixture *f = *state;
	size_t len = (size_t)70 << 20;
	char *huge = calloc(1, len);

	client_open(f, &f->client, SLOW_TCP);
	start_held(f, POST "\r\n");
	send_text(f, GET);
	exchange_answer(held(), 200, NULL, 0, huge, len);
	UNTIL(f, f->client.eof || f->client.reset);
	assert_true(f->client.got.len < len);
	assert_null(memmem(f->client.got.data, f->client.got.len, "ok", 2));
	free(huge);
}

static void
a_client_that_leaves_during_a_stream_is_noticed(void **state)
{
	static const enum transport transports[] = { UNIX, TCP, SLOW_UNIX,
		SLOW_TCP };
	struct fixture *f = *state;
	size_t i;

	for (i = 0; i < ARRAY_LEN(transports); i++) {
		client_open(f, &f->client, transports[i]);
		start_held(f, POST "\r\n");
		(void)exchange_open(fake.relay.x, 200, NULL, 0, -1, NULL, 0);
		write_body(fake.relay.x, text, 1000000);
		turn(f);
		client_reset(&f->client);
		/* Not seen yet; the writes fail, and that is told later. */
		write_body(fake.relay.x, text, 1000);
		write_body(fake.relay.x, text, 1000);
		assert_int_equal(fake.gone, i);
		UNTIL(f, fake.gone == i + 1);
		UNTIL(f, conns_count(f->worker.conns) == 0);
	}
}

static void
a_stalled_reader_is_cut_off(void **state)
{
	struct fixture *f = *state;
	int answered;

	f->config.limits.stream_idle_timeout_ms = SHORT_MS;
	for (answered = 0; answered < 2; answered++) {
		client_open(f, &f->client, SLOW_TCP);
		f->client.deaf = true;
		start_held(f, POST "\r\n");
		/* Before there is anything to take nobody stalls. */
		pass(f, 3 * SHORT_MS);
		assert_int_equal(fake.gone, 0);
		if (answered) {
			exchange_answer(held(), 200, NULL, 0, text, TEXT);
			UNTIL(f, conns_count(f->worker.conns) == 0);
			break;
		}
		(void)exchange_open(fake.relay.x, 200, NULL, 0, -1, NULL, 0);
		write_body(fake.relay.x, text, TEXT);
		UNTIL(f, fake.gone == 1);
		fake.gone = 0;
		assert_int_equal(conns_count(f->worker.conns), 0);
	}
}

/* A unix socket, because TCP has a mind of its own about small windows. */
static void
a_reader_that_is_only_slow_is_not(void **state)
{
	enum { STALL_MS = 500, STEPS = 45, EACH_MS = STALL_MS / 15 };
	struct fixture *f = *state;
	char part[SMALL];
	uint64_t sent;
	int i;

	f->config.limits.stream_idle_timeout_ms = STALL_MS;
	client_open(f, &f->client, SLOW_UNIX);
	f->client.deaf = true;
	start_held(f, POST "\r\n");
	(void)exchange_open(fake.relay.x, 200, NULL, 0, -1, NULL, 0);
	write_body(fake.relay.x, text, TEXT);
	for (i = 0; i < STEPS; i++) {
		sent = conn_of(fake.relay.x)->out.sent;
		UNTIL(f, (recv(f->client.fd, part, sizeof(part), MSG_DONTWAIT),
			     conn_of(fake.relay.x)->out.sent > sent));
		pass(f, EACH_MS);
		assert_int_equal(fake.gone, 0);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(a_stream_arrives_whole_through_a_narrow_socket),
		CASE(a_stream_to_http_1_0_ends_with_the_connection),
		CASE(a_full_queue_is_told_once_when_it_falls),
		CASE(the_next_exchange_is_not_told_of_the_queue_of_the_last),
		CASE(a_slow_reader_of_a_whole_answer_is_not_idle),
		CASE(what_was_said_before_a_break_arrives_and_no_end),
		CASE(
		    a_body_of_another_length_than_announced_is_a_broken_answer),
		CASE(an_answer_that_cannot_be_made_closes_the_connection),
		CASE(
		    a_long_answer_that_breaks_the_queue_is_not_followed_by_another),
		CASE(a_client_that_leaves_during_a_stream_is_noticed),
		CASE(a_stalled_reader_is_cut_off),
		CASE(a_reader_that_is_only_slow_is_not),
	};

	return cmocka_run_group_tests(tests, set_up_group, tear_down_group);
}

/* SPDX-License-Identifier: MIT */
#include "worker/client/sendq.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/attr.h"

enum { MAX = 1 << 20, PART = 3001, PARTS = 200 };

struct fixture {
	struct sendq q;
	int peer;
	char text[PART * PARTS];
};

static int
set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int fds[2], small = 8192;
	size_t i;

	assert_int_equal(
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
	setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	f->peer = fds[1];
	sendq_init(&f->q, fds[0], MAX);
	f->q.writable = true;
	for (i = 0; i < sizeof(f->text); i++)
		f->text[i] = (char)('a' + i * i / 13 % 23);
	*state = f;
	return 0;
}

static int
tear_down(void **state)
{
	struct fixture *f = *state;

	sendq_fini(&f->q);
	close(f->q.fd);
	close(f->peer);
	free(f);
	return 0;
}

static int
write_part(struct fixture *f, size_t part)
{
	char *p = f->text + part * PART;
	struct iovec iov[3] = { { p, 1 }, { p + 1, 0 }, { p + 1, PART - 1 } };

	return sendq_write(&f->q, iov, 3);
}

/* Whatever the peer can read, checked against the text. */
static size_t
read_all(struct fixture *f, size_t at)
{
	char got[4096];
	ssize_t n;

	while ((n = recv(f->peer, got, sizeof(got), 0)) > 0) {
		assert_memory_equal(got, f->text + at, (size_t)n);
		at += (size_t)n;
	}
	assert_int_equal(errno, EAGAIN);
	return at;
}

static void
what_the_socket_takes_is_not_queued(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(write_part(f, 0), 0);
	assert_int_equal(sendq_waiting(&f->q), 0);
	assert_null(f->q.buf.data);
	assert_int_equal(f->q.sent, PART);
	assert_int_equal(read_all(f, 0), PART);
}

static void
a_socket_that_is_not_writable_is_left_alone(void **state)
{
	struct fixture *f = *state;

	f->q.writable = false;
	assert_int_equal(write_part(f, 0), 0);
	assert_int_equal(sendq_flush(&f->q), 0);
	assert_int_equal(sendq_waiting(&f->q), PART);
	assert_int_equal(read_all(f, 0), 0);
}

static void
all_of_it_arrives_in_order_and_the_memory_is_returned(void **state)
{
	struct fixture *f = *state;
	size_t at = 0, i;

	for (i = 0; i < PARTS; i++) {
		assert_int_equal(write_part(f, i), 0);
		if (i % 7 == 0) {
			at = read_all(f, at);
			f->q.writable = true;
			assert_int_equal(sendq_flush(&f->q), 0);
		}
	}
	while (at < sizeof(f->text)) {
		at = read_all(f, at);
		f->q.writable = true;
		assert_int_equal(sendq_flush(&f->q), 0);
	}
	assert_int_equal(f->q.sent, sizeof(f->text));
	assert_null(f->q.buf.data);
}

static void
more_than_may_wait_is_an_error(void **state)
{
	struct fixture *f = *state;
	size_t i;
	int rc;

	f->q.buf.max = 10 * PART;
	f->q.writable = false;
	for (i = 0; i < 10; i++)
		assert_int_equal(write_part(f, i), 0);
	rc = write_part(f, i);
	assert_int_equal(rc, -ENOBUFS);
	assert_true(sendq_waiting(&f->q) <= 10 * PART);
}

static void
a_broken_socket_is_an_error(void **state)
{
	struct fixture *f = *state;
	size_t i;

	for (i = 0; f->q.writable; i++)
		assert_int_equal(write_part(f, i), 0);
	shutdown(f->peer, SHUT_RD);
	f->q.writable = true;
	assert_int_equal(sendq_flush(&f->q), -EPIPE);
	sendq_fini(&f->q);
	assert_int_equal(write_part(f, 0), -EPIPE);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(what_the_socket_takes_is_not_queued),
		CASE(a_socket_that_is_not_writable_is_left_alone),
		CASE(all_of_it_arrives_in_order_and_the_memory_is_returned),
		CASE(more_than_may_wait_is_an_error),
		CASE(a_broken_socket_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/* Names with several addresses, over a getaddrinfo(3) of our own. */
#include "worker/upstream/direct_conn.h"

#include <netdb.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <event2/event.h>

#include "common/alloc.h"
#include "common/attr.h"
#include "worker/upstream/direct.h"
#include "worker/upstream/resolve.h"

enum { BACKLOG_MAX = 8 };

static struct direct direct;
static const char *const *known; /* addresses of every name */
static struct direct_conn *conn;
static bool opened, failed;

int
getaddrinfo(const char *host UNUSED, const char *service UNUSED,
    const struct addrinfo *hints UNUSED, struct addrinfo **out)
{
	struct addrinfo **next = out;

	for (size_t i = 0; known[i] != NULL; i++) {
		struct addrinfo *ai = xcalloc(1, sizeof(*ai));
		union endpoint *a = xcalloc(1, sizeof(*a));

		(void)endpoint_parse(a, known[i]);
		ai->ai_family = a->sa.sa_family;
		ai->ai_addr = &a->sa;
		ai->ai_addrlen = endpoint_len(a);
		*next = ai;
		next = &ai->ai_next;
	}
	return 0;
}

void
freeaddrinfo(struct addrinfo *ai)
{
	while (ai != NULL) {
		struct addrinfo *next = ai->ai_next;

		free(ai->ai_addr);
		free(ai);
		ai = next;
	}
}

static void
on_opened(void *ctx UNUSED)
{
	opened = true;
}

static void
on_failed(void *ctx UNUSED, const char *why)
{
	assert_true(why[0] != '\0');
	failed = true;
}

static void
on_ready(void *ctx UNUSED)
{
}

static const struct direct_conn_owner owner = { on_opened, on_failed,
	on_ready };

/* Listens at an address; *port 0: at one of the system's choice. */
static int
listen_at(const char *text, uint16_t *port, int backlog)
{
	union endpoint a;
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

	assert_true(fd >= 0);
	assert_true(endpoint_parse(&a, text));
	endpoint_set_port(&a, *port);
	assert_int_equal(bind(fd, &a.sa, endpoint_len(&a)), 0);
	assert_int_equal(listen(fd, backlog), 0);
	assert_int_equal(getsockname(fd, &a.sa, &len), 0);
	*port = ntohs(a.in.sin_port);
	return fd;
}

/* Fills the queue of a listener, so that who comes next hears nothing. */
static void
fill(const char *text, uint16_t port, int fds[BACKLOG_MAX])
{
	union endpoint a;

	assert_true(endpoint_parse(&a, text));
	endpoint_set_port(&a, port);
	for (int i = 0; i < BACKLOG_MAX; i++) {
		fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		assert_true(fds[i] >= 0);
		(void)!connect(fds[i], &a.sa, endpoint_len(&a));
	}
}

static void
dial(uint16_t port, int64_t timeout_ms)
{
	char url[64];
	struct origin *o;

	opened = failed = false;
	(void)snprintf(url, sizeof(url), "http://many.test:%u/", port);
	assert_int_equal(pool_origin(&direct.pool, url, &o), 0);
	conn = direct_conn_open(&direct, o, timeout_ms, &owner, NULL);
	assert_non_null(conn);
	while (!opened && !failed)
		event_base_loop(direct.base, EVLOOP_ONCE);
}

static void
assert_peer(const char *text)
{
	union endpoint wanted, is;
	socklen_t len = sizeof(is);

	assert_true(opened);
	assert_true(endpoint_parse(&wanted, text));
	assert_int_equal(getpeername(conn->fd, &is.sa, &len), 0);
	assert_int_equal(is.in.sin_addr.s_addr, wanted.in.sin_addr.s_addr);
}

static int
setup(void **state UNUSED)
{
	direct = (struct direct){ .base = event_base_new() };
	pool_init(&direct.pool);
	direct.resolver = resolver_new(direct.base);
	return direct.resolver == NULL;
}

static int
teardown(void **state UNUSED)
{
	direct_conn_close(conn);
	pool_fini(&direct.pool);
	resolver_free(direct.resolver);
	event_base_free(direct.base);
	return 0;
}

static void
an_address_that_refuses_falls_to_the_next(void **state UNUSED)
{
	static const char *const list[] = { "127.0.0.7", "127.0.0.8",
		"127.0.0.9", NULL };
	uint16_t port = 0;
	int fd = listen_at("127.0.0.9", &port, 8);

	known = list;
	dial(port, 20000);
	assert_peer("127.0.0.9");
	(void)close(fd);
}

static void
a_dead_address_falls_to_the_next(void **state UNUSED)
{
	static const char *const list[] = { "127.0.0.7", "127.0.0.9", NULL };
	uint16_t port = 0;
	int fd = listen_at("127.0.0.9", &port, 8);
	int dead = listen_at("127.0.0.7", &port, 0);
	int fds[BACKLOG_MAX];

	fill("127.0.0.7", port, fds);
	known = list;
	dial(port, 20000);
	assert_peer("127.0.0.9");
	for (int i = 0; i < BACKLOG_MAX; i++)
		(void)close(fds[i]);
	(void)close(dead);
	(void)close(fd);
}

static void
no_address_left_is_a_failure(void **state UNUSED)
{
	static const char *const list[] = { "127.0.0.7", "127.0.0.8", NULL };
	uint16_t port = 0;
	int fd = listen_at("127.0.0.9", &port, 8);

	known = list;
	dial(port, 20000);
	assert_true(failed);
	assert_false(conn->starved);
	(void)close(fd);
}

static void
dead_addresses_fail_at_the_deadline(void **state UNUSED)
{
	static const char *const list[] = { "127.0.0.7", "127.0.0.7", NULL };
	uint16_t port = 0;
	int dead = listen_at("127.0.0.7", &port, 0);
	int fds[BACKLOG_MAX];

	fill("127.0.0.7", port, fds);
	known = list;
	dial(port, 300);
	assert_true(failed);
	for (int i = 0; i < BACKLOG_MAX; i++)
		(void)close(fds[i]);
	(void)close(dead);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(an_address_that_refuses_falls_to_the_next),
		CASE(a_dead_address_falls_to_the_next),
		CASE(no_address_left_is_a_failure),
		CASE(dead_addresses_fail_at_the_deadline),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

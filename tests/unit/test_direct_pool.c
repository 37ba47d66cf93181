/* SPDX-License-Identifier: MIT */
#include "worker/upstream/direct_pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <event2/event.h>

#include "common/alloc.h"
#include "common/attr.h"
#include "worker/upstream/direct.h"

enum { IDLE_MS = 50 * 1000, IDLE_MAX = 512, FORGET_MS = 10 * 60 * 1000 };

static struct direct direct;
static const struct direct_conn_owner nobody;

static struct origin *
origin_of(const char *url)
{
	struct origin *o;

	assert_int_equal(pool_origin(&direct.pool, url, &o), 0);
	return o;
}

/* An open connection; without a socket where nobody looks at it. */
static struct direct_conn *
conn_new(struct origin *o, int fd)
{
	struct direct_conn *c = xcalloc(1, sizeof(*c));

	c->direct = &direct;
	c->origin = o;
	c->fd = fd;
	o->conns++;
	return c;
}

static struct direct_conn *
idle_new(struct origin *o, int fd)
{
	struct direct_conn *c = conn_new(o, fd);

	pool_put(&direct.pool, c);
	return c;
}

static size_t
count_origins(void)
{
	struct origin *o;
	size_t n = 0;

	for (size_t i = 0; i < ORIGIN_BUCKETS; i++)
		TAILQ_FOREACH (o, &direct.pool.buckets[i], link)
			n++;
	return n;
}

static int
setup(void **state UNUSED)
{
	direct = (struct direct){ .base = event_base_new() };
	pool_init(&direct.pool);
	return direct.base == NULL;
}

static int
teardown(void **state UNUSED)
{
	pool_fini(&direct.pool);
	assert_int_equal(direct.pool.idle, 0);
	event_base_free(direct.base);
	return 0;
}

static void
an_origin_is_scheme_host_and_port(void **state UNUSED)
{
	struct origin *o = origin_of("http://host.test:81/v1/a?b");

	assert_ptr_equal(o, origin_of("http://host.test:81/v1/c"));
	assert_ptr_not_equal(o, origin_of("https://host.test:81/v1/a"));
	assert_ptr_not_equal(o, origin_of("http://host.test:82/v1/a"));
	assert_ptr_not_equal(o, origin_of("http://other.test:81/v1/a"));
	assert_int_equal(o->port, 81);
	assert_string_equal(o->host, "host.test");
	assert_int_equal(count_origins(), 4);
}

static void
last_put_is_first_taken(void **state UNUSED)
{
	struct origin *o = origin_of("http://a.test/");
	struct origin *other = origin_of("http://b.test/");
	struct direct_conn *first = idle_new(o, -1);
	struct direct_conn *second = idle_new(o, -1);

	assert_null(pool_take(&direct.pool, other, &nobody, NULL));
	assert_ptr_equal(pool_take(&direct.pool, o, &nobody, NULL), second);
	assert_ptr_equal(pool_take(&direct.pool, o, &nobody, NULL), first);
	assert_null(pool_take(&direct.pool, o, &nobody, NULL));
	assert_true(first->reused && second->reused);
	direct_conn_close(first);
	direct_conn_close(second);
	assert_int_equal(o->conns, 0);
}

static void
too_old_is_not_taken_and_goes(void **state UNUSED)
{
	struct origin *o = origin_of("http://a.test/");
	struct direct_conn *old = idle_new(o, -1);
	struct direct_conn *young = idle_new(o, -1);

	old->idle_since_ms -= IDLE_MS + 1;
	young->idle_since_ms -= IDLE_MS - 10 * 1000;
	pool_trim(&direct.pool);
	assert_int_equal(direct.pool.idle, 1);
	assert_int_equal(o->conns, 1);
	young->idle_since_ms -= 11 * 1000;
	assert_null(pool_take(
	    &direct.pool, origin_of("http://a.test/"), &nobody, NULL));
	pool_trim(&direct.pool);
	assert_int_equal(o->conns, 0);
}

static void
full_pool_keeps_no_more(void **state UNUSED)
{
	struct origin *o = origin_of("http://a.test/");
	struct origin *other = origin_of("http://b.test/");

	for (int i = 0; i < IDLE_MAX; i++)
		(void)idle_new(o, -1);
	pool_put(&direct.pool, conn_new(other, -1));
	assert_int_equal(direct.pool.idle, IDLE_MAX);
	assert_int_equal(other->conns, 0);
	direct_conn_close(pool_take(&direct.pool, o, &nobody, NULL));
	pool_put(&direct.pool, conn_new(other, -1));
	assert_int_equal(other->conns, 1);
}

static void
distrust_is_of_one_origin(void **state UNUSED)
{
	struct origin *o = origin_of("http://a.test/");
	struct origin *other = origin_of("http://b.test/");

	(void)idle_new(o, -1);
	(void)idle_new(o, -1);
	(void)idle_new(other, -1);
	pool_distrust(&direct.pool, o);
	assert_int_equal(o->conns, 0);
	assert_int_equal(other->conns, 1);
	assert_int_equal(direct.pool.idle, 1);
}

static void
idle_one_that_speaks_or_ends_is_closed(void **state UNUSED)
{
	struct origin *o = origin_of("http://a.test/");

	for (int speaks = 0; speaks < 2; speaks++) {
		int ends[2];

		assert_int_equal(
		    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends),
		    0);
		(void)idle_new(o, ends[0]);
		event_base_loop(direct.base, EVLOOP_NONBLOCK);
		assert_int_equal(o->conns, 1);
		if (speaks)
			assert_int_equal(write(ends[1], "x", 1), 1);
		else
			assert_int_equal(shutdown(ends[1], SHUT_WR), 0);
		event_base_loop(direct.base, EVLOOP_NONBLOCK);
		assert_int_equal(o->conns, 0);
		assert_int_equal(direct.pool.idle, 0);
		(void)close(ends[1]);
	}
}

static void
unused_origins_without_connections_are_forgotten(void **state UNUSED)
{
	struct origin *busy = origin_of("http://busy.test/");
	struct direct_conn *c = conn_new(busy, -1);

	busy->used_ms -= FORGET_MS + 1;
	origin_of("http://gone.test/")->used_ms -= FORGET_MS + 1;
	(void)origin_of("http://fresh.test/");
	pool_trim(&direct.pool);
	assert_int_equal(count_origins(), 2);
	direct_conn_close(c);
	pool_trim(&direct.pool);
	assert_int_equal(count_origins(), 1);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(an_origin_is_scheme_host_and_port),
		CASE(last_put_is_first_taken),
		CASE(too_old_is_not_taken_and_goes),
		CASE(full_pool_keeps_no_more),
		CASE(distrust_is_of_one_origin),
		CASE(idle_one_that_speaks_or_ends_is_closed),
		CASE(unused_origins_without_connections_are_forgotten),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

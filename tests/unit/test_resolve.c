/* SPDX-License-Identifier: MIT */
/*
 * The resolver over a getaddrinfo(3) and a clock of our own: both stand in
 * this program, so the linker prefers them to those of libc.
 */
#include "worker/upstream/resolve.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <event2/event.h>

#include "common/alloc.h"
#include "common/attr.h"

enum { KEEP_S = 60, NAMES_MAX = 512, JOBS_MAX = 128 };

static struct event_base *base;
static struct resolver *resolver;
static time_t ahead_s; /* of the time since boot */

/* What getaddrinfo() knows. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t opened = PTHREAD_COND_INITIALIZER;
static bool gate_closed; /* questions wait behind it */
static unsigned entered, left;
static const char *const *known; /* addresses of every name; NULL: none */

int
clock_gettime(clockid_t id, struct timespec *ts)
{
	int rc = (int)syscall(SYS_clock_gettime, id, ts);

	if (id == CLOCK_BOOTTIME)
		ts->tv_sec += ahead_s;
	return rc;
}

static struct addrinfo *
info_new(const char *text)
{
	struct addrinfo *ai = xcalloc(1, sizeof(*ai));
	union endpoint *a = xcalloc(1, sizeof(*a));

	assert(endpoint_parse(a, text));
	ai->ai_family = a->sa.sa_family;
	ai->ai_addr = &a->sa;
	ai->ai_addrlen = endpoint_len(a);
	return ai;
}

int
getaddrinfo(const char *host UNUSED, const char *service UNUSED,
    const struct addrinfo *hints UNUSED, struct addrinfo **out)
{
	struct addrinfo **next = out;

	(void)pthread_mutex_lock(&lock);
	entered++;
	while (gate_closed)
		(void)pthread_cond_wait(&opened, &lock);
	left++;
	(void)pthread_mutex_unlock(&lock);
	if (known == NULL)
		return EAI_NONAME;
	for (size_t i = 0; known[i] != NULL; i++) {
		*next = info_new(known[i]);
		next = &(*next)->ai_next;
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
gate(bool closed)
{
	(void)pthread_mutex_lock(&lock);
	gate_closed = closed;
	(void)pthread_cond_broadcast(&opened);
	(void)pthread_mutex_unlock(&lock);
}

static unsigned
count(const unsigned *of)
{
	unsigned n;

	(void)pthread_mutex_lock(&lock);
	n = *of;
	(void)pthread_mutex_unlock(&lock);
	return n;
}

/* ---- who asks */

struct asker {
	struct question question;
	struct endpoints found;
	unsigned answers;
	bool failed;
};

static void
on_answer(struct question *q, const struct endpoints *found, const char *why)
{
	struct asker *a = (struct asker *)q;

	a->answers++;
	a->failed = found == NULL;
	assert_true(a->failed == (why != NULL));
	if (found != NULL)
		a->found = *found;
}

static int
ask(struct asker *a, const char *host)
{
	*a = (struct asker){ .question.answered = on_answer };
	return resolver_ask(resolver, host, &a->question, &a->found);
}

static void
wait_for(const struct asker *a)
{
	while (a->answers == 0)
		event_base_loop(base, EVLOOP_ONCE);
}

static void
ask_and_wait(struct asker *a, const char *host)
{
	assert_int_equal(ask(a, host), RESOLVE_LATER);
	wait_for(a);
}

static void
name_number(char *name, size_t size, unsigned i)
{
	(void)snprintf(name, size, "host-%u.test", i);
}

static const char *const one_address[] = { "192.0.2.1", NULL };

static int
setup(void **state UNUSED)
{
	known = one_address;
	entered = left = 0;
	ahead_s = 0;
	gate_closed = false;
	base = event_base_new();
	resolver = resolver_new(base);
	return resolver == NULL;
}

static int
teardown(void **state UNUSED)
{
	resolver_free(resolver);
	event_base_free(base);
	return 0;
}

static void
assert_found(const struct endpoints *found, const char *const *wanted)
{
	size_t n = 0;

	for (; wanted[n] != NULL; n++) {
		union endpoint a;

		assert_true(n < found->n);
		assert_true(endpoint_parse(&a, wanted[n]));
		assert_memory_equal(&a, &found->at[n], sizeof(a));
	}
	assert_int_equal(found->n, n);
}

static void
what_is_known_by_itself_is_not_asked(void **state UNUSED)
{
	static const char *const v4[] = { "192.0.2.7", NULL };
	static const char *const v6[] = { "2001:db8::7", NULL };
	static const char *const here[] = { "127.0.0.1", "::1", NULL };
	static const struct {
		const char *host;
		const char *const *found;
	} rows[] = {
		{ "192.0.2.7", v4 },
		{ "2001:db8::7", v6 },
		{ "localhost", here },
		{ "LOCALHOST.", here },
		{ "a.localhost", here },
	};
	struct asker a;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(ask(&a, rows[i].host), 0);
		assert_found(&a.found, rows[i].found);
	}
	assert_int_equal(count(&entered), 0);
	ask_and_wait(&a, "notlocalhost");
	assert_int_equal(count(&entered), 1);
}

static void
families_take_turns(void **state UNUSED)
{
	static const char *const from[] = { "2001:db8::1", "2001:db8::2",
		"2001:db8::3", "192.0.2.1", "192.0.2.2", NULL };
	static const char *const to[] = { "2001:db8::1", "192.0.2.1",
		"2001:db8::2", "192.0.2.2", "2001:db8::3", NULL };
	struct asker a;

	known = from;
	ask_and_wait(&a, "both.test");
	assert_found(&a.found, to);
}

static void
more_addresses_than_are_tried_are_left(void **state UNUSED)
{
	static const char *const many[] = { "192.0.2.1", "192.0.2.2",
		"192.0.2.3", "192.0.2.4", "192.0.2.5", "192.0.2.6", "192.0.2.7",
		"192.0.2.8", "192.0.2.9", "192.0.2.10", NULL };
	struct asker a;

	known = many;
	ask_and_wait(&a, "many.test");
	assert_int_equal(a.found.n, ENDPOINTS_MAX);
}

static void
what_was_found_holds_for_a_minute(void **state UNUSED)
{
	struct asker a;

	ask_and_wait(&a, "a.test");
	assert_false(a.failed);
	ahead_s = KEEP_S - 10;
	assert_int_equal(ask(&a, "A.test"), 0);
	assert_found(&a.found, one_address);
	assert_int_equal(count(&entered), 1);
	ahead_s = KEEP_S + 1;
	ask_and_wait(&a, "a.test");
	assert_int_equal(count(&entered), 2);
}

static void
a_failure_is_told_and_not_kept(void **state UNUSED)
{
	struct asker a;

	known = NULL;
	ask_and_wait(&a, "a.test");
	assert_true(a.failed);
	known = one_address;
	ask_and_wait(&a, "a.test");
	assert_false(a.failed);
}

static void
who_asks_meanwhile_shares_the_answer(void **state UNUSED)
{
	struct asker a, b, gone;

	gate(true);
	assert_int_equal(ask(&a, "a.test"), RESOLVE_LATER);
	assert_int_equal(ask(&gone, "a.test"), RESOLVE_LATER);
	assert_int_equal(ask(&b, "A.TEST"), RESOLVE_LATER);
	resolver_cancel(&gone.question);
	resolver_cancel(&gone.question);
	gate(false);
	wait_for(&b);
	assert_int_equal(a.answers, 1);
	assert_int_equal(b.answers, 1);
	assert_int_equal(gone.answers, 0);
	assert_int_equal(count(&entered), 1);
}

static void
full_queue_takes_no_more_until_there_is_room(void **state UNUSED)
{
	static struct asker askers[JOBS_MAX];
	struct asker more;
	char name[32];

	gate(true);
	for (unsigned i = 0; i < JOBS_MAX; i++) {
		name_number(name, sizeof(name), i);
		assert_int_equal(ask(&askers[i], name), RESOLVE_LATER);
	}
	assert_int_equal(ask(&more, "more.test"), -EAGAIN);
	resolver_cancel(&more.question);
	assert_int_equal(ask(&more, "host-0.test"), RESOLVE_LATER);
	gate(false);
	for (unsigned i = 0; i < JOBS_MAX; i++)
		wait_for(&askers[i]);
	wait_for(&more);
	ask_and_wait(&more, "more.test");
	assert_int_equal(count(&entered), JOBS_MAX + 1);
}

static void
name_not_used_for_the_longest_makes_room(void **state UNUSED)
{
	struct asker a;
	char name[32];

	for (unsigned i = 0; i < NAMES_MAX; i++) {
		name_number(name, sizeof(name), i);
		ask_and_wait(&a, name);
	}
	assert_int_equal(ask(&a, "host-0.test"), 0);
	ask_and_wait(&a, "more.test");
	assert_int_equal(ask(&a, "host-0.test"), 0);
	assert_int_equal(ask(&a, "host-2.test"), 0);
	ask_and_wait(&a, "host-1.test");
	assert_int_equal(count(&entered), NAMES_MAX + 2);
}

static void
resolver_goes_while_a_thread_still_asks(void **state UNUSED)
{
	struct asker a;

	gate(true);
	assert_int_equal(ask(&a, "slow.test"), RESOLVE_LATER);
	while (count(&entered) == 0)
		(void)usleep(1000);
	resolver_cancel(&a.question);
	resolver_free(resolver);
	resolver = NULL;
	gate(false);
	while (count(&left) == 0)
		(void)usleep(1000);
	assert_int_equal(a.answers, 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(what_is_known_by_itself_is_not_asked),
		CASE(families_take_turns),
		CASE(more_addresses_than_are_tried_are_left),
		CASE(what_was_found_holds_for_a_minute),
		CASE(a_failure_is_told_and_not_kept),
		CASE(who_asks_meanwhile_shares_the_answer),
		CASE(full_queue_takes_no_more_until_there_is_room),
		CASE(name_not_used_for_the_longest_makes_room),
		CASE(resolver_goes_while_a_thread_still_asks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

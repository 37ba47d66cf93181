/* SPDX-License-Identifier: MIT */
/*
 * Listening sockets at the numbers at which the master hands them over, and
 * a conn_open() that only counts.
 */
#include "worker/listeners.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <event2/event.h>

#include "common/attr.h"
#include "common/clock.h"
#include "common/handoff.h"
#include "common/ipc.h"
#include "common/log.h"
#include "worker/client/conn.h"

enum { N = 2, CLIENTS = 100, DEADLINE_MS = 20000 };

struct fixture {
	struct worker worker;
	struct listeners *listeners;
	struct sockaddr_in addresses[N];
	int clients[CLIENTS];
	size_t nclients;
};

static struct {
	unsigned clients, admins;
} opened;

void
conn_open(struct worker *w UNUSED, int fd, bool admin)
{
	assert_int_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	if (admin)
		opened.admins++;
	else
		opened.clients++;
	close(fd);
}

static void
listen_at(int number, struct sockaddr_in *address)
{
	socklen_t len = sizeof(*address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

	*address = (struct sockaddr_in){ .sin_family = AF_INET };
	address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(
	    bind(fd, (struct sockaddr *)address, sizeof(*address)), 0);
	assert_int_equal(listen(fd, CLIENTS), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)address, &len), 0);
	if (fd != number) {
		assert_int_equal(dup2(fd, number), number);
		close(fd);
	}
}

static int
set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int i;

	memset(&opened, 0, sizeof(opened));
	for (i = 0; i < N; i++)
		listen_at(HANDOFF_LISTEN + i, &f->addresses[i]);
	f->worker.base = event_base_new();
	f->listeners = listeners_new(&f->worker, N);
	*state = f;
	return 0;
}

static int
tear_down(void **state)
{
	struct fixture *f = *state;
	size_t i;

	listeners_stop(f->listeners);
	listeners_free(f->listeners);
	event_base_free(f->worker.base);
	for (i = 0; i < f->nclients; i++)
		close(f->clients[i]);
	free(f);
	return 0;
}

static void
come(struct fixture *f, int listener)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_true(fd >= 0);
	f->clients[f->nclients++] = fd;
	assert_int_equal(connect(fd, (struct sockaddr *)&f->addresses[listener],
			     sizeof(f->addresses[listener])),
	    0);
}

static void
turns(struct fixture *f, int n)
{
	while (n-- > 0)
		(void)event_base_loop(
		    f->worker.base, EVLOOP_NONBLOCK | EVLOOP_ONCE);
}

static void
only_adopted_sockets_are_polled_and_only_from_the_start_on(void **state)
{
	struct fixture *f = *state;

	listeners_adopt(f->listeners, 0, IPC_LISTENER_CLIENTS);
	listeners_adopt(f->listeners, 99, IPC_LISTENER_CLIENTS);
	come(f, 0);
	come(f, 1);
	turns(f, 3);
	assert_int_equal(opened.clients, 0);
	listeners_start(f->listeners);
	turns(f, 3);
	assert_int_equal(opened.clients, 1);

	listeners_adopt(f->listeners, 1, IPC_LISTENER_ADMIN);
	turns(f, 3);
	assert_int_equal(opened.clients, 1);
	assert_int_equal(opened.admins, 1);

	listeners_release(f->listeners, 0);
	come(f, 0);
	turns(f, 3);
	assert_int_equal(opened.clients, 1);
}

static void
stopping_empties_the_queue_and_closes_all(void **state)
{
	struct fixture *f = *state;
	int i;

	listeners_adopt(f->listeners, 0, IPC_LISTENER_CLIENTS);
	listeners_start(f->listeners);
	for (i = 0; i < CLIENTS - 1; i++)
		come(f, 0);
	come(f, 1);
	listeners_stop(f->listeners);
	assert_int_equal(opened.clients, CLIENTS - 1);
	assert_int_equal(opened.admins, 0);
	for (i = 0; i < N; i++)
		assert_int_equal(fcntl(HANDOFF_LISTEN + i, F_GETFD), -1);
	listeners_adopt(f->listeners, 1, IPC_LISTENER_CLIENTS);
	listeners_start(f->listeners);
	turns(f, 3);
}

static void
stopping_before_the_start_accepts_nothing(void **state)
{
	struct fixture *f = *state;

	listeners_adopt(f->listeners, 0, IPC_LISTENER_CLIENTS);
	come(f, 0);
	listeners_stop(f->listeners);
	assert_int_equal(opened.clients, 0);
}

static void
out_of_descriptors_it_waits_and_comes_back(void **state)
{
	struct fixture *f = *state;
	struct rlimit before, low;
	int64_t end_ms = clock_mono_us() / 1000 + DEADLINE_MS;
	int lowest;

	log_set_level(LOG_LEVEL_ERROR);
	listeners_adopt(f->listeners, 0, IPC_LISTENER_CLIENTS);
	listeners_start(f->listeners);
	come(f, 0);
	lowest = dup(0);
	close(lowest);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	low = (struct rlimit){ (rlim_t)lowest, before.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	turns(f, 3);
	assert_int_equal(opened.clients, 0);
	/* Not polled: the loop has nothing but a timer to wait for. */
	assert_int_equal(
	    event_base_get_num_events(f->worker.base, EVENT_BASE_COUNT_ADDED),
	    1);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	while (opened.clients == 0) {
		assert_true(clock_mono_us() / 1000 < end_ms);
		(void)event_base_loop(f->worker.base, EVLOOP_ONCE);
	}
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(
		    only_adopted_sockets_are_polled_and_only_from_the_start_on),
		CASE(stopping_empties_the_queue_and_closes_all),
		CASE(stopping_before_the_start_accepts_nothing),
		CASE(out_of_descriptors_it_waits_and_comes_back),
	};

	/* What the runner left open would stand where the sockets belong. */
	(void)close_range(STDERR_FILENO + 1, ~0u, 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

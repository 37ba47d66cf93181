/* SPDX-License-Identifier: MIT */
#include "master/notify.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/attr.h"

/* An abstract socket of this process, and the name that leads there. */
static int
listen_as_supervisor(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char name[64];
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	int len = snprintf(
	    name, sizeof(name), "@fairlead-test-notify-%ld", (long)getpid());

	assert_true(fd >= 0);
	memcpy(address.sun_path + 1, name + 1, (size_t)len - 1);
	assert_int_equal(
	    bind(fd, (struct sockaddr *)&address,
		(socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)),
	    0);
	assert_int_equal(setenv("NOTIFY_SOCKET", name, 1), 0);
	return fd;
}

static void
each_state_is_one_datagram(void **state UNUSED)
{
	static const struct {
		enum notify_state state;
		const char *begins;
	} rows[] = {
		{ NOTIFY_READY, "READY=1\nMAINPID=" },
		{ NOTIFY_RELOADING, "RELOADING=1\nMONOTONIC_USEC=" },
		{ NOTIFY_STOPPING, "STOPPING=1\n" },
	};
	int fd = listen_as_supervisor();
	char text[256];
	ssize_t n;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		notify(rows[i].state);
		n = recv(fd, text, sizeof(text) - 1, 0);
		assert_true(n > 0);
		text[n] = '\0';
		assert_memory_equal(
		    text, rows[i].begins, strlen(rows[i].begins));
		assert_true(recv(fd, text, sizeof(text), 0) < 0);
	}
	(void)close(fd);
}

static void
ready_names_the_process_that_serves(void **state UNUSED)
{
	int fd = listen_as_supervisor();
	char text[256], wanted[64];
	ssize_t n;

	notify(NOTIFY_READY);
	n = recv(fd, text, sizeof(text) - 1, 0);
	assert_true(n > 0);
	text[n] = '\0';
	(void)snprintf(
	    wanted, sizeof(wanted), "\nMAINPID=%ld\n", (long)getpid());
	assert_non_null(strstr(text, wanted));
	(void)close(fd);
}

static void
nobody_who_listens_is_no_matter(void **state UNUSED)
{
	static const char *const names[] = { "", "@", "relative",
		"/nonexistent/notify", "@fairlead-nobody-is-here" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		assert_int_equal(setenv("NOTIFY_SOCKET", names[i], 1), 0);
		notify(NOTIFY_READY);
	}
	assert_int_equal(unsetenv("NOTIFY_SOCKET"), 0);
	notify(NOTIFY_READY);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_state_is_one_datagram),
		cmocka_unit_test(ready_names_the_process_that_serves),
		cmocka_unit_test(nobody_who_listens_is_no_matter),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/* fetch.h against a server on the same event loop that answers by the path. */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>

#include "common/alloc.h"
#include "common/attr.h"
#include "master/fetch.h"

enum { GUARD_S = 20, MAX_BYTES = 64 };

static struct event_base *base;
static struct fetcher *fetcher;
static unsigned port;
static unsigned connections;
static char last_request[4096];

/* What it says to a path; NULL: it hangs up without a word. */
static const struct {
	const char *path;
	const char *says;
	bool stays; /* the connection is left open */
} scripts[] = {
	{ "/ok", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", true },
	{ "/refused",
	    "HTTP/1.1 429 No\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\n{}",
	    true },
	{ "/moved",
	    "HTTP/1.1 302 Found\r\nLocation: /ok\r\nContent-Length: 0\r\n\r\n",
	    true },
	{ "/fits",
	    "HTTP/1.1 200 OK\r\nContent-Length: 64\r\n\r\n"
	    "0123456789012345678901234567890123456789012345678901234567890123",
	    true },
	{ "/large",
	    "HTTP/1.1 200 OK\r\nContent-Length: 65\r\n\r\n"
	    "01234567890123456789012345678901234567890123456789012345678901234",
	    true },
	{ "/half", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", false },
	{ "/silent", "", true },
	{ "/gone", NULL, false },
};

struct seen {
	unsigned calls;
	enum fetch_end end;
	int status;
	int64_t retry_after_s;
	char body[MAX_BYTES + 1];
	struct fetch *cancel; /* what the callback cancels */
	const char *next;     /* what it starts */
};

/* The connections that are open. */
static struct bufferevent *visits[16];

static void
hang_up(struct bufferevent *bev)
{
	for (size_t i = 0; i < ARRAY_LEN(visits); i++) {
		if (visits[i] == bev)
			visits[i] = NULL;
	}
	bufferevent_free(bev);
}

static void
on_written(struct bufferevent *bev, void *arg UNUSED)
{
	hang_up(bev);
}

static void
on_hangup(struct bufferevent *bev, short what UNUSED, void *arg UNUSED)
{
	hang_up(bev);
}

static void
answer(struct bufferevent *bev, const char *path)
{
	for (size_t i = 0; i < ARRAY_LEN(scripts); i++) {
		size_t len = strlen(scripts[i].path);

		if (strncmp(path, scripts[i].path, len) != 0 ||
		    path[len] != ' ')
			continue;
		if (scripts[i].says == NULL) {
			hang_up(bev);
			return;
		}
		bufferevent_write(
		    bev, scripts[i].says, strlen(scripts[i].says));
		if (!scripts[i].stays)
			bufferevent_setcb(
			    bev, NULL, on_written, on_hangup, NULL);
		return;
	}
	fail_msg("no script for %s", path);
}

static void
on_read(struct bufferevent *bev, void *arg UNUSED)
{
	struct evbuffer *in = bufferevent_get_input(bev);
	size_t len = evbuffer_get_length(in);
	const char *length, *end;

	assert_true(len < sizeof(last_request));
	(void)evbuffer_copyout(in, last_request, len);
	last_request[len] = '\0';
	end = strstr(last_request, "\r\n\r\n");
	if (end == NULL)
		return;
	length = strcasestr(last_request, "\r\ncontent-length: ");
	if (length != NULL && strlen(end + 4) < strtoul(length + 18, NULL, 10))
		return;
	(void)evbuffer_drain(in, len);
	answer(bev, strchr(last_request, ' ') + 1);
}

static void
on_accept(struct evconnlistener *listener UNUSED, evutil_socket_t fd,
    struct sockaddr *address UNUSED, int len UNUSED, void *arg UNUSED)
{
	struct bufferevent *bev =
	    bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);

	connections++;
	for (size_t i = 0; i < ARRAY_LEN(visits); i++) {
		if (visits[i] == NULL) {
			visits[i] = bev;
			break;
		}
	}
	bufferevent_setcb(bev, on_read, NULL, on_hangup, NULL);
	bufferevent_enable(bev, EV_READ | EV_WRITE);
}

static void
on_guard(evutil_socket_t fd UNUSED, short what UNUSED, void *arg UNUSED)
{
	fail_msg("not done after %d s", GUARD_S);
}

static void on_done(void *ctx, const struct fetch_answer *a);

static int
start(const char *path, struct seen *seen, struct fetch **out)
{
	static const struct fetch_header headers[] = {
		{ "Content-Type", "application/json" },
	};
	AUTO_FREE char *url = xasprintf("http://127.0.0.1:%u%s", port, path);
	struct fetch_request request = {
		.url = url,
		.headers = headers,
		.nheaders = ARRAY_LEN(headers),
		.body = "{\"a\":1}",
		.body_len = 7,
		.proxy = "",
		.timeout_ms = strcmp(path, "/silent") == 0 ? 200 : 10000,
		.max_bytes = MAX_BYTES,
	};

	return fetch_start(fetcher, &request, on_done, seen, out);
}

static void
on_done(void *ctx, const struct fetch_answer *a)
{
	struct seen *seen = ctx;
	struct fetch *f;

	seen->calls++;
	seen->end = a->end;
	seen->status = a->status;
	seen->retry_after_s = a->retry_after_s;
	assert_int_equal(a->body[a->len], '\0');
	(void)snprintf(seen->body, sizeof(seen->body), "%s", a->body);
	if (seen->cancel != NULL)
		fetch_cancel(seen->cancel);
	if (seen->next != NULL) {
		const char *next = seen->next;

		seen->next = NULL;
		assert_int_equal(start(next, seen, &f), 0);
		return;
	}
	event_base_loopbreak(base);
}

static int
set_up(void **state)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sin);
	struct evconnlistener *listener;
	struct timeval guard = { .tv_sec = GUARD_S };

	base = event_base_new();
	listener = evconnlistener_new_bind(base, on_accept, NULL,
	    LEV_OPT_CLOSE_ON_FREE, -1, (struct sockaddr *)&sin, sizeof(sin));
	assert_non_null(listener);
	(void)getsockname(
	    evconnlistener_get_fd(listener), (struct sockaddr *)&sin, &len);
	port = ntohs(sin.sin_port);
	event_base_once(base, -1, EV_TIMEOUT, on_guard, NULL, &guard);
	fetcher = fetch_new(base);
	connections = 0;
	last_request[0] = '\0';
	*state = listener;
	return 0;
}

static int
tear_down(void **state)
{
	fetch_free(fetcher);
	for (size_t i = 0; i < ARRAY_LEN(visits); i++) {
		if (visits[i] != NULL)
			hang_up(visits[i]);
	}
	evconnlistener_free(*state);
	event_base_free(base);
	return 0;
}

static void
every_end_is_told_apart(void **state UNUSED)
{
	static const struct {
		const char *path;
		enum fetch_end end;
		int status;
		int64_t retry_after_s;
		const char *body;
	} cases[] = {
		{ "/ok", FETCH_ANSWERED, 200, 0, "hello" },
		{ "/refused", FETCH_ANSWERED, 429, 7, "{}" },
		{ "/moved", FETCH_ANSWERED, 302, 0, "" },
		{ "/fits", FETCH_ANSWERED, 200, 0,
		    "0123456789012345678901234567890123456789012345678901234567"
		    "890123" },
		{ "/large", FETCH_TOO_LARGE, 200, 0, "" },
		{ "/half", FETCH_LOST, 200, 0, "half" },
		{ "/silent", FETCH_LOST, 0, 0, "" },
		{ "/gone", FETCH_LOST, 0, 0, "" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct seen seen = { 0 };
		struct fetch *f;

		assert_int_equal(start(cases[i].path, &seen, &f), 0);
		assert_int_equal(seen.calls, 0);
		event_base_dispatch(base);
		assert_int_equal(seen.calls, 1);
		assert_int_equal(seen.end, cases[i].end);
		assert_int_equal(seen.status, cases[i].status);
		assert_int_equal(seen.retry_after_s, cases[i].retry_after_s);
		assert_string_equal(seen.body, cases[i].body);
	}
}

static void
request_goes_out_as_it_was_given(void **state UNUSED)
{
	struct seen seen = { 0 };
	struct fetch *f;

	assert_int_equal(start("/ok", &seen, &f), 0);
	event_base_dispatch(base);
	assert_memory_equal(last_request, "POST /ok HTTP/1.1\r\n", 19);
	assert_non_null(
	    strstr(last_request, "\r\nContent-Type: application/json\r\n"));
	assert_null(strstr(last_request, "\r\nExpect:"));
	assert_non_null(strstr(last_request, "\r\n\r\n{\"a\":1}"));
}

static void
nothing_is_sent_a_second_time(void **state UNUSED)
{
	struct seen seen = { .next = "/gone" };
	struct fetch *f;

	assert_int_equal(start("/ok", &seen, &f), 0);
	event_base_dispatch(base);
	assert_int_equal(seen.calls, 2);
	assert_int_equal(seen.end, FETCH_LOST);
	assert_int_equal(connections, 2);
}

static void
server_that_is_not_there_has_seen_nothing(void **state)
{
	struct seen seen = { 0 };
	struct fetch *f;

	evconnlistener_free(*state);
	assert_int_equal(start("/ok", &seen, &f), 0);
	event_base_dispatch(base);
	assert_int_equal(seen.end, FETCH_UNSENT);
	*state = evconnlistener_new(base, on_accept, NULL, 0, 0, -1);
}

static void
cancelled_one_is_never_heard_of_again(void **state UNUSED)
{
	struct seen first = { 0 }, second = { 0 };
	struct fetch *f;

	assert_int_equal(start("/silent", &second, &first.cancel), 0);
	assert_int_equal(start("/ok", &first, &f), 0);
	event_base_dispatch(base);
	assert_int_equal(first.calls, 1);
	assert_int_equal(second.calls, 0);
	assert_int_equal(start("/ok", &first, &f), 0);
	fetch_cancel(f);
	assert_int_equal(start("/silent", &second, &f), 0);
	event_base_dispatch(base);
	assert_int_equal(first.calls, 1);
	assert_int_equal(second.calls, 1);
}

static void
proxy_that_is_none_is_refused(void **state UNUSED)
{
	struct seen seen = { 0 };
	struct fetch_request request = { .url = "http://127.0.0.1/",
		.proxy = "ftp://x",
		.timeout_ms = 1000,
		.max_bytes = MAX_BYTES };
	struct fetch *f;

	assert_int_equal(
	    fetch_start(fetcher, &request, on_done, &seen, &f), -EINVAL);
	assert_int_equal(seen.calls, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
		    every_end_is_told_apart, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
		    request_goes_out_as_it_was_given, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
		    nothing_is_sent_a_second_time, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
		    server_that_is_not_there_has_seen_nothing, set_up,
		    tear_down),
		cmocka_unit_test_setup_teardown(
		    cancelled_one_is_never_heard_of_again, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
		    proxy_that_is_none_is_refused, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

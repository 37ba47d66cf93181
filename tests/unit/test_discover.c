/* SPDX-License-Identifier: MIT */
/* discover.h with a registry, against an upstream on the same event loop. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>

#include "common/clock.h"
#include "common/outbound.h"
#include "master/registry/discover.h"
#include "tests/unit/master_fixture.h"

enum { VISITS = 32 };

static struct fixture fixture;
static struct event_base *base;
static struct fetcher *fetcher;
static struct registry *registry;
static struct discover *discover;
static struct config *configs[4]; /* a set borrows its configuration */
static size_t nconfigs;

static struct {
	struct evconnlistener *listener;
	struct bufferevent *visits[VISITS];
	size_t nvisits;
	unsigned port;
	const char *status, *body;
	unsigned requests;
	char head[4096]; /* of the last one */
} upstream;

static void
on_request(struct bufferevent *bev, void *arg UNUSED)
{
	struct evbuffer *in = bufferevent_get_input(bev);
	size_t n = evbuffer_get_length(in);

	assert_true(n < sizeof(upstream.head));
	(void)evbuffer_remove(in, upstream.head, n);
	upstream.head[n] = '\0';
	if (strstr(upstream.head, "\r\n\r\n") == NULL)
		return;
	upstream.requests++;
	evbuffer_add_printf(bufferevent_get_output(bev),
	    "HTTP/1.1 %s\r\nContent-Length: %zu\r\n\r\n%s", upstream.status,
	    strlen(upstream.body), upstream.body);
}

static void
on_visit(struct evconnlistener *listener UNUSED, evutil_socket_t fd,
    struct sockaddr *address UNUSED, int len UNUSED, void *arg UNUSED)
{
	struct bufferevent *bev =
	    bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);

	assert_true(upstream.nvisits < VISITS);
	upstream.visits[upstream.nvisits++] = bev;
	bufferevent_setcb(bev, on_request, NULL, NULL, NULL);
	bufferevent_enable(bev, EV_READ | EV_WRITE);
}

static void
listen_upstream(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET,
		.sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t len = sizeof(at);

	memset(&upstream, 0, sizeof(upstream));
	upstream.status = "200 OK";
	upstream.listener = evconnlistener_new_bind(base, on_visit, NULL,
	    LEV_OPT_CLOSE_ON_FREE, 16, (struct sockaddr *)&at, sizeof(at));
	assert_non_null(upstream.listener);
	assert_int_equal(getsockname(evconnlistener_get_fd(upstream.listener),
			     (struct sockaddr *)&at, &len),
	    0);
	upstream.port = ntohs(at.sin_port);
}

static void
open_registry(void)
{
	assert_int_equal(
	    registry_new(&fixture.state, fixture.board, &registry), 0);
	discover = discover_new(base, registry, fetcher);
}

static void
close_registry(void)
{
	discover_free(discover);
	registry_free(registry);
	while (nconfigs > 0)
		config_free(configs[--nconfigs]);
}

static int
set_up(void **state UNUSED)
{
	fixture_make(&fixture);
	base = event_base_new();
	fetcher = fetch_new(base);
	nconfigs = 0;
	listen_upstream();
	open_registry();
	return 0;
}

static int
tear_down(void **state UNUSED)
{
	close_registry();
	fetch_free(fetcher);
	for (size_t i = 0; i < upstream.nvisits; i++)
		bufferevent_free(upstream.visits[i]);
	evconnlistener_free(upstream.listener);
	event_base_free(base);
	fixture_break(&fixture);
	return 0;
}

/* %u in the settings is the port of the upstream. */
static void
commit(const char *settings)
{
	AUTO_FREE char *text = NULL;
	struct buf why = BUF_INIT(4096);
	struct registry_set *set;
	const char *hole = strstr(settings, "%u");

	text = hole == NULL ? xstrdup(settings)
			    : xasprintf("%.*s%u%s", (int)(hole - settings),
				  settings, upstream.port, hole + 2);
	assert_true(nconfigs < ARRAY_LEN(configs));
	configs[nconfigs] = fixture_config(&fixture, text);
	assert_int_equal(registry_stage(registry, configs[nconfigs++],
			     &fixture.env, &set, &why),
	    0);
	assert_int_equal(registry_commit(registry, set, 1), 0);
	buf_fini(&why);
	discover_follow(discover);
}

/* Turns the loop until the upstream was asked so often and was answered. */
static void
answer(unsigned times)
{
	unsigned until = upstream.requests + times;
	size_t models = registry_count_models(registry);

	while (upstream.requests < until)
		assert_true(event_base_loop(base, EVLOOP_ONCE) >= 0);
	/* The answer is on its way: a few more turns, without waiting. */
	for (int i = 0; i < 1000 && registry_count_models(registry) == models;
	     i++)
		assert_true(event_base_loop(base, EVLOOP_NONBLOCK) >= 0);
}

static void
assert_route(const char *model, bool there)
{
	AUTO_FREE char *text = fixture_route_text(&fixture, model);

	assert_int_equal(text != NULL && text[0] != '\0', there);
}

#define COMPAT                                                                 \
	"discover-models = true;"                                              \
	"openai-compatibility = ( { name = \"local\";"                         \
	" base-url = \"http://127.0.0.1:%u/v1\"; excluded-models = [\"*-x\"];" \
	" api-key-entries = ( { api-key = \"k1\"; }, { api-key = \"k2\"; } );" \
	"} );"

static void
section_without_models_serves_what_is_listed(void **state UNUSED)
{
	upstream.body = "{\"data\":[{\"id\":\"m-1\"},{\"id\":\"m-x\"}]}";
	commit(COMPAT);
	assert_route("m-1", false);
	answer(1);
	/* Once for both keys, with a key, and less what is excluded. */
	assert_int_equal(upstream.requests, 1);
	assert_int_equal(
	    strncmp(upstream.head, "GET /v1/models HTTP/1.1\r\n", 25), 0);
	assert_non_null(strcasestr(upstream.head, "authorization: Bearer k"));
	assert_route("m-1", true);
	assert_route("m-x", false);
	assert_int_equal(registry_count_models(registry), 1);
}

static void
a_key_serves_the_catalogue_and_what_is_listed(void **state UNUSED)
{
	upstream.body = "{\"data\":[{\"id\":\"c-new\"},{\"id\":\"c-one\","
			"\"display_name\":\"other\"}]}";
	commit("discover-models = true;"
	       "claude-api-key = ( { api-key = \"sk\";"
	       " base-url = \"http://127.0.0.1:%u\";"
	       " headers = { X-Team = \"blue\"; X-User = \"$X-User\"; }; } );");
	assert_route("c-one", true);
	answer(1);
	assert_route("c-new", true);
	assert_non_null(strstr(upstream.head, "GET /v1/models?limit=1000 "));
	assert_non_null(strcasestr(upstream.head, "x-api-key: sk\r\n"));
	assert_non_null(strcasestr(upstream.head, "anthropic-version: "));
	assert_non_null(strcasestr(upstream.head, "x-team: blue\r\n"));
	assert_null(strcasestr(upstream.head, "x-user"));
	/* What the catalogue knows counts. */
	{
		const struct state_route *r = fixture_route(&fixture, "c-one");

		assert_string_equal(state_string(r, r->display_name), "C One");
		fixture_read_end(&fixture);
	}
}

static void
nobody_is_asked_for_models_that_are_named(void **state UNUSED)
{
	static const char *const settings[] = {
		"discover-models = true;"
		"claude-api-key = ( { api-key = \"sk\";"
		" base-url = \"http://127.0.0.1:%u\";"
		" models = ( { name = \"c-one\"; } ); } );",
		"claude-api-key = ( { api-key = \"sk\";"
		" base-url = \"http://127.0.0.1:%u\"; } );",
		"discover-models = true;"
		"vertex-api-key = ( { api-key = \"sk\";"
		" base-url = \"http://127.0.0.1:%u\"; } );",
	};

	for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
		commit(settings[i]);
		(void)event_base_loop(base, EVLOOP_NONBLOCK);
		assert_int_equal(upstream.nvisits, 0);
	}
}

static void
a_failure_keeps_the_last_list_and_is_tried_again(void **state UNUSED)
{
	int64_t now_ms = clock_boot_ms();

	upstream.body = "{\"data\":[{\"id\":\"m-1\"}]}";
	commit(COMPAT);
	answer(1);
	upstream.status = "500 Oops";
	discover_tick(discover, now_ms + DISCOVER_EVERY_MS - 1000);
	(void)event_base_loop(base, EVLOOP_NONBLOCK);
	assert_int_equal(upstream.requests, 1);
	discover_tick(discover, now_ms + DISCOVER_EVERY_MS + 60000);
	answer(1);
	assert_route("m-1", true);
	upstream.status = "200 OK";
	upstream.body = "{\"data\":[{\"id\":\"m-2\"},{\"id\":\"m-3\"}]}";
	now_ms += DISCOVER_EVERY_MS + 60000;
	discover_tick(discover, now_ms + DISCOVER_RETRY_MS - 1);
	(void)event_base_loop(base, EVLOOP_NONBLOCK);
	assert_int_equal(upstream.requests, 2);
	discover_tick(discover, now_ms + DISCOVER_RETRY_MS);
	answer(1);
	assert_route("m-1", false);
	assert_route("m-2", true);
}

/* The state of a listed model outlives the master, before it has asked. */
static void
a_restart_goes_on_with_the_last_list(void **state UNUSED)
{
	upstream.body = "{\"data\":[{\"id\":\"m-1\"}]}";
	commit(COMPAT);
	answer(1);
	close_registry();
	fixture_close_stores(&fixture);
	fixture_open_stores(&fixture);
	open_registry();
	commit(COMPAT);
	assert_route("m-1", true);
	/* And a reload, and a change of the file. */
	commit(COMPAT);
	assert_route("m-1", true);
	fixture_replace(&fixture, "models.json", "{\"claude\": []}");
	assert_int_equal(registry_catalog_changed(registry), 0);
	assert_route("m-1", true);
}

static void
switched_off_it_serves_nothing_that_was_listed(void **state UNUSED)
{
	upstream.body = "{\"data\":[{\"id\":\"m-1\"}]}";
	commit(COMPAT);
	answer(1);
	assert_route("m-1", true);
	commit("openai-compatibility = ( { name = \"local\";"
	       " base-url = \"http://127.0.0.1:%u/v1\";"
	       " api-key-entries = ( { api-key = \"k1\"; } ); } );");
	assert_route("m-1", false);
}

#define EACH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		EACH(section_without_models_serves_what_is_listed),
		EACH(a_key_serves_the_catalogue_and_what_is_listed),
		EACH(nobody_is_asked_for_models_that_are_named),
		EACH(a_failure_keeps_the_last_list_and_is_tried_again),
		EACH(a_restart_goes_on_with_the_last_list),
		EACH(switched_off_it_serves_nothing_that_was_listed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

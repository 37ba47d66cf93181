/* SPDX-License-Identifier: MIT */
#include "master/credential/watch.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>
#include <event2/event.h>

#include "common/alloc.h"
#include "common/clock.h"
#include "common/str.h"
#include "tests/unit/master_fixture.h"

#define CLAUDE(more) "{\"type\": \"claude\", \"access_token\": \"t\"" more "}"

/* Only a test that fails waits that long. */
enum { PATIENCE_MS = 20000, QUEUE_MAX = 200000 };

static struct fixture fixture;
static struct registry *registry;
static struct watch *watch;
static struct event_base *base;
static struct config *config;
static int announced;
static int64_t end_us; /* of the test's patience */

static void
on_published(void *ctx UNUSED)
{
	announced++;
}

static void
write_auth(const char *name, const char *text)
{
	AUTO_FREE char *path = xasprintf("auths/%s", name);

	fixture_write(&fixture, path, text);
}

static void
replace_auth(const char *name, const char *text)
{
	AUTO_FREE char *path = xasprintf("auths/%s", name);

	fixture_replace(&fixture, path, text);
}

static void
remove_auth(const char *name)
{
	AUTO_FREE char *path = xasprintf("auths/%s", name);

	fixture_remove(&fixture, path);
}

static bool
route_is(const char *model, const char *text)
{
	AUTO_FREE char *route = fixture_route_text(&fixture, model);

	if (route == NULL || text == NULL)
		return route == text;
	return strcmp(route, text) == 0;
}

static void
run_a_little(void)
{
	struct timeval tick = { .tv_usec = 10000 };

	assert_true(clock_mono_us() < end_us);
	(void)event_base_loopexit(base, &tick);
	(void)event_base_dispatch(base);
}

/* Runs the loop until the route is that; fails the test if it never is. */
static void
wait_for_route(const char *model, const char *text)
{
	while (!route_is(model, text))
		run_a_little();
}

/*
 * When what was done last has been seen, so has all that was done before:
 * files are looked at before the catalogue, in a transaction of their own.
 */
static void
settle(void)
{
	bool one = !route_is("g-one", NULL);
	const char *next = one ? "g-two" : "g-one";
	AUTO_FREE char *text = xasprintf("{\"claude\": [{\"id\": \"c-one\"}],"
					 " \"gemini\": [{\"id\": \"%s\"}]}",
	    next);

	fixture_write(&fixture, "models.json", text);
	while (route_is(next, NULL))
		run_a_little();
	announced--;
}

static uint64_t
epoch_of(const char *id)
{
	const struct state_credential *c = fixture_credential(&fixture, id);
	uint64_t epoch = c != NULL ? c->epoch : 0;

	fixture_read_end(&fixture);
	return epoch;
}

static void
files_that_come_change_and_go_are_followed(void **state UNUSED)
{
	AUTO_FREE char *inside = fixture_path(&fixture, "auths/b.json");
	AUTO_FREE char *outside = fixture_path(&fixture, "b.json");

	write_auth("a.json", CLAUDE(""));
	wait_for_route("c-one", "0:a.json");
	replace_auth("a.json", CLAUDE(", \"priority\": 2"));
	wait_for_route("c-one", "2:a.json");
	fixture_write(&fixture, "b.json", CLAUDE(""));
	assert_int_equal(rename(outside, inside), 0);
	wait_for_route("c-one", "2:a.json 0:b.json");
	assert_int_equal(rename(inside, outside), 0);
	wait_for_route("c-one", "2:a.json");
	remove_auth("a.json");
	wait_for_route("c-one", NULL);
}

static void
touches_and_our_own_writes_are_silent(void **state UNUSED)
{
	AUTO_FREE char *path = fixture_path(&fixture, "auths/a.json");

	write_auth("a.json", CLAUDE(""));
	wait_for_route("c-one", "0:a.json");
	announced = 0;
	assert_int_equal(utimensat(AT_FDCWD, path, NULL, 0), 0);
	assert_int_equal(chmod(path, 0400), 0);
	assert_int_equal(chmod(path, 0600), 0);
	write_auth("a.json", CLAUDE(""));
	replace_auth("a.json", CLAUDE(""));
	settle();
	assert_int_equal(announced, 0);

	assert_int_equal(registry_disable(registry, "a.json"), 0);
	assert_int_equal(announced, 1);
	settle();
	assert_int_equal(announced, 1);
}

static void
only_direct_children_count(void **state UNUSED)
{
	AUTO_FREE char *below = fixture_path(&fixture, "auths/sub.json");
	AUTO_FREE char *beside = fixture_path(&fixture, "auths-old");

	assert_int_equal(mkdir(below, 0700), 0);
	assert_int_equal(mkdir(beside, 0700), 0);
	write_auth("sub.json/a.json", CLAUDE(""));
	fixture_write(&fixture, "auths-old/b.json", CLAUDE(""));
	fixture_write(&fixture, "c.json", CLAUDE(""));
	write_auth(".d.json", CLAUDE(""));
	write_auth("e.JSON", CLAUDE(""));
	write_auth("f.txt", CLAUDE(""));
	announced = 0;
	settle();
	assert_int_equal(announced, 0);
	assert_true(route_is("c-one", NULL));
}

static void
half_a_file_never_drops_a_credential(void **state UNUSED)
{
	uint64_t epoch;

	write_auth("a.json", CLAUDE(""));
	wait_for_route("c-one", "0:a.json");
	epoch = epoch_of("a.json");
	write_auth("a.json", "{\"type\": \"cla");
	settle();
	assert_true(route_is("c-one", "0:a.json"));
	write_auth("a.json", "");
	settle();
	assert_true(route_is("c-one", "0:a.json"));
	write_auth("a.json", CLAUDE(", \"priority\": 1"));
	wait_for_route("c-one", "1:a.json");
	assert_int_equal(epoch_of("a.json"), epoch);
}

static void
what_cannot_be_read_is_tried_again(void **state UNUSED)
{
	AUTO_FREE char *link = fixture_path(&fixture, "auths/a.json");
	AUTO_FREE char *target = fixture_path(&fixture, "target");

	fixture_write(&fixture, "target", "{");
	assert_int_equal(symlink(target, link), 0);
	settle();
	assert_true(route_is("c-one", NULL));
	/* No event of auth-dir tells of this. */
	fixture_write(&fixture, "target", CLAUDE(""));
	wait_for_route("c-one", "0:a.json");
}

static void
deleted_and_made_again_at_once_is_another_credential(void **state UNUSED)
{
	uint64_t epoch;

	write_auth("a.json", CLAUDE(""));
	wait_for_route("c-one", "0:a.json");
	epoch = epoch_of("a.json");
	replace_auth("a.json", CLAUDE(", \"priority\": 1"));
	wait_for_route("c-one", "1:a.json");
	assert_int_equal(epoch_of("a.json"), epoch);
	remove_auth("a.json");
	write_auth("a.json", CLAUDE(", \"priority\": 1"));
	settle();
	assert_true(route_is("c-one", "1:a.json"));
	assert_true(epoch_of("a.json") > epoch);
}

static void
events_wait_while_held(void **state UNUSED)
{
	struct timeval a_while = { .tv_usec = 400000 };

	watch_hold(watch);
	write_auth("a.json", CLAUDE(""));
	(void)event_base_loopexit(base, &a_while);
	(void)event_base_dispatch(base);
	assert_true(route_is("c-one", NULL));
	watch_release(watch);
	wait_for_route("c-one", "0:a.json");
}

static void
models_file_is_followed_and_its_neighbours_are_not(void **state UNUSED)
{
	write_auth("a.json", CLAUDE(""));
	wait_for_route("c-one", "0:a.json");
	announced = 0;
	fixture_write(&fixture, "models.json.bak", "{}");
	fixture_write(&fixture, "other.json", "{}");
	settle();
	assert_int_equal(announced, 0);
	fixture_replace(
	    &fixture, "models.json", "{\"claude\": [{\"id\": \"c-new\"}]}");
	wait_for_route("c-new", "0:a.json");
	fixture_write(&fixture, "models.json", "{");
	fixture_write(
	    &fixture, "models.json", "{\"claude\": [{\"id\": \"c-newer\"}]}");
	wait_for_route("c-newer", "0:a.json");
}

static void
a_replaced_directory_is_found_again(void **state UNUSED)
{
	AUTO_FREE char *auths = fixture_path(&fixture, "auths");
	AUTO_FREE char *away = fixture_path(&fixture, "away");

	write_auth("a.json", CLAUDE(""));
	wait_for_route("c-one", "0:a.json");
	assert_int_equal(rename(auths, away), 0);
	assert_int_equal(mkdir(auths, 0700), 0);
	write_auth("b.json", CLAUDE(""));
	wait_for_route("c-one", "0:b.json");
	/* And the one that went is not followed any more. */
	fixture_write(&fixture, "away/c.json", CLAUDE(""));
	write_auth("d.json", CLAUDE(""));
	wait_for_route("c-one", "0:b.json,d.json");
}

static void
another_directory_is_followed_after_a_change(void **state UNUSED)
{
	AUTO_FREE char *more = fixture_path(&fixture, "more");
	struct config next = *config;
	struct registry_set *set;
	struct buf why = BUF_INIT(4096);

	write_auth("a.json", CLAUDE(""));
	wait_for_route("c-one", "0:a.json");
	assert_int_equal(mkdir(more, 0700), 0);
	next.auth_dir = more;
	watch_hold(watch);
	assert_int_equal(watch_follow(watch, &next), 0);
	assert_int_equal(
	    registry_stage(registry, &next, &fixture.env, &set, &why), 0);
	fixture_write(&fixture, "more/b.json", CLAUDE(""));
	assert_int_equal(registry_commit(registry, set, 2), 0);
	watch_release(watch);
	wait_for_route("c-one", "0:b.json");

	/* Back again, as after a reload that failed. */
	watch_hold(watch);
	assert_int_equal(watch_follow(watch, config), 0);
	assert_int_equal(watch_follow(watch, &next), 0);
	fixture_remove(&fixture, "more/b.json");
	watch_release(watch);
	wait_for_route("c-one", NULL);
	assert_int_equal(watch_follow(watch, config), 0);
	assert_int_equal(
	    registry_stage(registry, config, &fixture.env, &set, &why), 0);
	assert_int_equal(registry_commit(registry, set, 3), 0);
	buf_fini(&why);
}

static int64_t
queue_length(void)
{
	AUTO_FCLOSE FILE *file =
	    fopen("/proc/sys/fs/inotify/max_queued_events", "re");
	char line[32] = "";
	int64_t n;

	if (file == NULL || fgets(line, sizeof(line), file) == NULL)
		return QUEUE_MAX;
	line[strcspn(line, "\n")] = '\0';
	return str_to_int(line, 0, INT64_MAX, &n) == 0 ? n : QUEUE_MAX;
}

static void
lost_events_mean_a_look_at_everything(void **state UNUSED)
{
	AUTO_FREE char *a = fixture_path(&fixture, "auths/a.json");
	AUTO_FREE char *b = fixture_path(&fixture, "auths/b.json");
	int64_t i, n = queue_length();

	if (n >= QUEUE_MAX)
		skip();
	write_auth("a.json", CLAUDE(""));
	write_auth("b.json", CLAUDE(""));
	wait_for_route("c-one", "0:a.json,b.json");
	for (i = 0; i <= n; i++)
		assert_int_equal(
		    utimensat(AT_FDCWD, i % 2 == 0 ? a : b, NULL, 0), 0);
	write_auth("c.json", CLAUDE(""));
	remove_auth("a.json");
	wait_for_route("c-one", "0:b.json,c.json");
}

static void
a_burst_is_a_few_transactions(void **state UNUSED)
{
	enum { BURST = 300 };
	char name[32];
	int i;

	announced = 0;
	for (i = 0; i < BURST; i++) {
		(void)snprintf(name, sizeof(name), "n%03d.json", i);
		write_auth(name, CLAUDE(""));
	}
	settle();
	assert_int_equal(registry_count_credentials(registry), BURST + 1);
	assert_true(announced < BURST / 10);
}

static int
set_up(void **state UNUSED)
{
	struct registry_set *set;
	struct buf why = BUF_INIT(4096);

	fixture_make(&fixture);
	end_us = clock_mono_us() + PATIENCE_MS * INT64_C(1000);
	config = fixture_config(
	    &fixture, "gemini-api-key = ( { api-key = \"k\"; } );");
	base = event_base_new();
	assert_non_null(base);
	assert_int_equal(
	    registry_new(&fixture.state, fixture.board, &registry), 0);
	assert_int_equal(watch_new(base, registry, &watch), 0);
	assert_int_equal(watch_follow(watch, config), 0);
	assert_int_equal(
	    registry_stage(registry, config, &fixture.env, &set, &why), 0);
	assert_int_equal(registry_commit(registry, set, 1), 0);
	registry_set_listener(registry, on_published, NULL);
	watch_release(watch);
	buf_fini(&why);
	return 0;
}

static int
tear_down(void **state UNUSED)
{
	watch_free(watch);
	registry_free(registry);
	config_free(config);
	event_base_free(base);
	fixture_break(&fixture);
	return 0;
}

#define EACH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		EACH(files_that_come_change_and_go_are_followed),
		EACH(touches_and_our_own_writes_are_silent),
		EACH(only_direct_children_count),
		EACH(half_a_file_never_drops_a_credential),
		EACH(what_cannot_be_read_is_tried_again),
		EACH(deleted_and_made_again_at_once_is_another_credential),
		EACH(events_wait_while_held),
		EACH(models_file_is_followed_and_its_neighbours_are_not),
		EACH(a_replaced_directory_is_found_again),
		EACH(another_directory_is_followed_after_a_change),
		EACH(lost_events_mean_a_look_at_everything),
		EACH(a_burst_is_a_few_transactions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * Requests captured from real clients: each yields the session it is known to
 * belong to, and those that are known to belong together, or not, do so. The
 * directory of the captures is FAIRLEAD_FIXTURES or the argument.
 */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>
#include <cmocka.h>

#include "common/buf.h"
#include "worker/http/http_head.h"
#include "worker/session/derived.h"
#include "worker/session/facts.h"
#include "worker/session/session.h"

enum { MAX_FILE_BYTES = 16 << 20 };

static const char *directory;
static cJSON *groups;

/* One captured request, as the worker would see it. */
struct capture {
	const char *name;
	cJSON *json;
	struct buf head_text;
	struct http_head head;
	char *body; /* NULL: none */
	struct facts facts;
	struct session_id session;
	struct session_id by_prefix; /* without headers and explicit values */
	char derived[DERIVED_ID_BYTES];
};

static cJSON *
load(const char *name)
{
	char path[4096];
	struct buf b;
	cJSON *json;
	FILE *f;
	size_t n;

	(void)snprintf(path, sizeof(path), "%s/%s.json", directory, name);
	f = fopen(path, "re");
	if (f == NULL)
		fail_msg("cannot open %s", path);
	buf_init(&b, MAX_FILE_BYTES);
	while (buf_reserve(&b, 65536) == 0 &&
	       (n = fread(b.data + b.len, 1, 65536, f)) > 0)
		b.len += n;
	(void)fclose(f);
	json = cJSON_ParseWithLength(b.data, b.len);
	buf_fini(&b);
	assert_non_null(json);
	return json;
}

static const char *
string_of(const cJSON *object, const char *name)
{
	return cJSON_GetStringValue(
	    cJSON_GetObjectItemCaseSensitive(object, name));
}

static void
parse_head(struct capture *c)
{
	const cJSON *field, *headers;

	buf_printf(
	    &c->head_text, "POST %s HTTP/1.1\r\n", string_of(c->json, "path"));
	headers = cJSON_GetObjectItemCaseSensitive(c->json, "headers");
	cJSON_ArrayForEach (field, headers) {
		buf_printf(&c->head_text, "%s: %s\r\n",
		    cJSON_GetArrayItem(field, 0)->valuestring,
		    cJSON_GetArrayItem(field, 1)->valuestring);
	}
	buf_puts(&c->head_text, "\r\n");
	http_head_init(&c->head);
	if (http_head_parse(&c->head, c->head_text.data, c->head_text.len) !=
	    HTTP_HEAD_DONE)
		fail_msg("%s: %s", c->name, c->head.error);
}

/* What is left when nothing names the session: the beginning of the talk. */
static void
find_by_prefix(struct capture *c)
{
	static const char bare_head[] = "POST / HTTP/1.1\r\nHost: h\r\n\r\n";
	struct facts bare = c->facts;
	struct http_head none;
	int field;

	for (field = FACTS_USER_ID; field <= FACTS_PREVIOUS_RESPONSE_ID;
	     field++)
		bare.field[field] = (struct json_value){ 0 };
	http_head_init(&none);
	assert_int_equal(
	    http_head_parse(&none, bare_head, sizeof(bare_head) - 1),
	    HTTP_HEAD_DONE);
	(void)session_find(&c->by_prefix, &none, &bare);
	if (!derived_id(&bare, c->derived))
		c->derived[0] = '\0';
}

static void
capture_open(struct capture *c, const char *name)
{
	const cJSON *body;

	memset(c, 0, sizeof(*c));
	c->name = name;
	c->json = load(name);
	buf_init(&c->head_text, 1 << 20);
	parse_head(c);
	body = cJSON_GetObjectItemCaseSensitive(c->json, "body");
	if (cJSON_IsObject(body)) {
		c->body = cJSON_PrintUnformatted(body);
		assert_non_null(c->body);
		if (facts_read(&c->facts, c->body, strlen(c->body)) != FACTS_OK)
			fail_msg("%s: body refused", name);
		find_by_prefix(c);
	}
	(void)session_find(
	    &c->session, &c->head, c->body != NULL ? &c->facts : NULL);
}

static void
capture_close(struct capture *c)
{
	free(c->body);
	buf_fini(&c->head_text);
	cJSON_Delete(c->json);
}

/* How the signals of the captures are named in the table of sources. */
static const struct signal {
	const char *key, *source, *prefix;
} signals[] = {
	{ "x-claude-code-session-id", "header x-claude-code-session-id",
	    "claude" },
	{ "session-id", "header session-id", "codex" },
	{ "session_id", "header session_id", "codex" },
	{ "x-opencode-session", "header x-opencode-session", "opencode" },
	{ "x-session-id", "header x-session-id", "header" },
	{ "x-session-affinity", "header x-session-affinity", "affinity" },
	{ "x-amp-thread-id", "header x-amp-thread-id", "amp" },
	{ "prompt_cache_key", "body prompt_cache_key", "pck" },
	{ "promptCacheKey", "body promptCacheKey", "pck" },
	{ "conversation", "body conversation", "conv" },
	{ "metadata.user_id", "body metadata.user_id", "user" },
	{ "metadata.user_id(JSON).session_id", "body metadata.user_id",
	    "claude" },
};

static const struct signal *
signal_find(const char *key)
{
	size_t i;

	for (i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		if (strcmp(signals[i].key, key) == 0)
			return &signals[i];
	}
	return NULL;
}

/* A chain of responses names the one before, which is no session. */
static void
assert_chain(const struct capture *c, const char *key, const char *value)
{
	char text[128];
	size_t len;

	assert_true(strcmp(c->session.prefix, "msg") == 0 ||
		    strcmp(c->session.prefix, "derived") == 0);
	if (strcmp(key, "previous_response_id") != 0) {
		assert_string_equal(key, "previous_interaction_id");
		return;
	}
	len = facts_text(
	    &c->facts, FACTS_PREVIOUS_RESPONSE_ID, text, sizeof(text));
	assert_int_equal(len, strlen(value));
	assert_memory_equal(text, value, len);
}

static void
assert_expected(const struct capture *c)
{
	const cJSON *expected = cJSON_GetObjectItemCaseSensitive(
	    c->json, "expected_session_signal");
	const cJSON *primary =
	    cJSON_GetObjectItemCaseSensitive(expected, "primary");
	const char *key = string_of(primary, "key");
	const char *value = string_of(primary, "value");
	const struct signal *signal;
	char id[SESSION_ID_BYTES];

	if (key == NULL) {
		assert_true(c->session.prefix == NULL ||
			    strcmp(c->session.prefix, "msg") == 0 ||
			    strcmp(c->session.prefix, "derived") == 0);
		return;
	}
	signal = signal_find(key);
	if (signal == NULL) {
		assert_chain(c, key, value);
		return;
	}
	(void)snprintf(id, sizeof(id), "%s:%s", signal->prefix, value);
	if (strcmp(c->session.id, id) != 0)
		fail_msg("%s: %s, not %s", c->name, c->session.id, id);
	assert_string_equal(c->session.source, signal->source);
}

static int
is_capture(const struct dirent *entry)
{
	size_t len = strlen(entry->d_name);

	return len > 5 && strcmp(entry->d_name + len - 5, ".json") == 0 &&
	       strcmp(entry->d_name, "groups.json") != 0;
}

static void
every_capture_yields_its_session(void **state)
{
	struct dirent **names;
	struct capture c;
	int i, n = scandir(directory, &names, is_capture, alphasort);

	(void)state;
	assert_true(n > 0);
	for (i = 0; i < n; i++) {
		names[i]->d_name[strlen(names[i]->d_name) - 5] = '\0';
		capture_open(&c, names[i]->d_name);
		assert_expected(&c);
		capture_close(&c);
		free(names[i]);
	}
	free(names);
}

typedef void
group_check(const struct capture *first, const struct capture *other);

/* Check the first of each group against every other of it. */
static void
for_each_group(const char *kind, group_check *check)
{
	const cJSON *group, *name, *all;
	struct capture first, other;

	all = cJSON_GetObjectItemCaseSensitive(groups, kind);
	assert_true(cJSON_GetArraySize(all) > 0);
	cJSON_ArrayForEach (group, all) {
		capture_open(&first, group->child->valuestring);
		for (name = group->child->next; name != NULL;
		     name = name->next) {
			capture_open(&other, name->valuestring);
			check(&first, &other);
			capture_close(&other);
		}
		capture_close(&first);
	}
}

static void
check_same(const struct capture *first, const struct capture *other)
{
	if (strcmp(first->session.id, other->session.id) != 0)
		fail_msg("%s and %s differ", first->name, other->name);
}

static void
requests_of_one_session_are_one(void **state)
{
	(void)state;
	for_each_group("same", check_same);
}

static void
check_different(const struct capture *first, const struct capture *other)
{
	if (strcmp(first->session.id, other->session.id) == 0 ||
	    strcmp(first->session.id, other->session.alias) == 0)
		fail_msg("%s and %s agree", first->name, other->name);
}

static void
requests_of_other_sessions_are_others(void **state)
{
	(void)state;
	for_each_group("different", check_different);
}

/* The binding of the first turn is found by the id or alias of the later. */
static void
check_same_by_prefix(const struct capture *first, const struct capture *other)
{
	if (strcmp(first->derived, other->derived) != 0)
		fail_msg("%s and %s differ", first->name, other->name);
	if (strcmp(first->by_prefix.id, other->by_prefix.id) != 0 &&
	    strcmp(first->by_prefix.id, other->by_prefix.alias) != 0)
		fail_msg("%s and %s differ in texts", first->name, other->name);
}

static void
later_turns_are_known_by_how_it_began(void **state)
{
	(void)state;
	for_each_group("same_by_prefix_only", check_same_by_prefix);
}

static void
requests_without_signal_are_known_by_their_texts(void **state)
{
	const cJSON *name, *all;
	struct capture c;

	(void)state;
	all = cJSON_GetObjectItemCaseSensitive(groups, "no_signal");
	assert_true(cJSON_GetArraySize(all) > 0);
	cJSON_ArrayForEach (name, all) {
		capture_open(&c, name->valuestring);
		assert_string_equal(c.session.prefix, "msg");
		capture_close(&c);
	}
}

static int
open_groups(void **state)
{
	(void)state;
	groups = load("groups");
	return 0;
}

static int
close_groups(void **state)
{
	(void)state;
	cJSON_Delete(groups);
	return 0;
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_capture_yields_its_session),
		cmocka_unit_test(requests_of_one_session_are_one),
		cmocka_unit_test(requests_of_other_sessions_are_others),
		cmocka_unit_test(later_turns_are_known_by_how_it_began),
		cmocka_unit_test(
		    requests_without_signal_are_known_by_their_texts),
	};

	directory = argc > 1 ? argv[1] : getenv("FAIRLEAD_FIXTURES");
	if (directory == NULL) {
		(void)fprintf(stderr, "FAIRLEAD_FIXTURES is not set\n");
		return 1;
	}
	return cmocka_run_group_tests(tests, open_groups, close_groups);
}

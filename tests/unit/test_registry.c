/* SPDX-License-Identifier: MIT */
#include "master/registry/registry.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "common/alloc.h"
#include "common/clock.h"
#include "tests/unit/master_fixture.h"

#define CLAUDE(more) "{\"type\": \"claude\", \"access_token\": \"t\"" more "}"

static struct fixture fixture;
static struct registry *registry;
static struct config *config; /* of the set that is committed */
static int announced;

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
remove_auth(const char *name)
{
	AUTO_FREE char *path = xasprintf("auths/%s", name);

	fixture_remove(&fixture, path);
}

/* Stages and commits; a configuration that is replaced is freed after. */
static int
reload(const char *settings, uint64_t generation)
{
	struct config *next = fixture_config(&fixture, settings);
	struct registry_set *set = NULL;
	struct buf why = BUF_INIT(4096);
	int rc;

	rc = registry_stage(registry, next, &fixture.env, &set, &why);
	if (rc < 0)
		assert_true(why.len > 0);
	buf_fini(&why);
	if (rc == 0)
		rc = registry_commit(registry, set, generation);
	if (rc < 0) {
		config_free(next);
		return rc;
	}
	config_free(config);
	config = next;
	return 0;
}

static void
restart_master(void)
{
	registry_free(registry);
	fixture_close_stores(&fixture);
	fixture_open_stores(&fixture);
	assert_int_equal(
	    registry_new(&fixture.state, fixture.board, &registry), 0);
}

static int
changed(const char *name)
{
	return registry_file_changed(registry, name);
}

static void
assert_route(const char *model, const char *text)
{
	AUTO_FREE char *route = fixture_route_text(&fixture, model);

	if (text == NULL) {
		assert_null(route);
		return;
	}
	assert_non_null(route);
	assert_string_equal(route, text);
}

/* A member of the credential's JSON as text; the caller frees it. */
static char *
told(const char *id, const char *key)
{
	cJSON *o = registry_credential_json(registry, id, NULL, NULL);
	char *text;

	assert_non_null(o);
	text = cJSON_PrintUnformatted(cJSON_GetObjectItemCaseSensitive(o, key));
	assert_non_null(text);
	cJSON_Delete(o);
	return text;
}

static void
assert_told(const char *id, const char *key, const char *text)
{
	AUTO_FREE char *is = told(id, key);

	assert_string_equal(is, text);
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
files_and_keys_are_published_together(void **state UNUSED)
{
	AUTO_FREE char *route = NULL;

	write_auth("a.json", CLAUDE(""));
	write_auth(".hidden.json", CLAUDE(""));
	write_auth("upper.JSON", CLAUDE(""));
	write_auth("qwen.json", "{\"type\": \"qwen\"}");
	write_auth("broken.json", "{");
	assert_int_equal(
	    reload(
		"claude-api-key = ( { api-key = \"k\"; priority = 2; } );", 1),
	    0);
	assert_int_equal(registry_count_credentials(registry), 2);
	assert_int_equal(registry_count_models(registry), 2);
	route = fixture_route_text(&fixture, "c-one");
	assert_memory_equal(route, "2:claude:apikey:", 16);
	assert_non_null(strstr(route, " 0:a.json"));
	assert_int_equal(announced, 1);
}

static void
a_file_that_comes_changes_and_goes_is_followed(void **state UNUSED)
{
	assert_int_equal(reload("", 1), 0);
	announced = 0;
	write_auth("a.json", CLAUDE(""));
	assert_int_equal(changed("a.json"), 0);
	assert_route("c-one", "0:a.json");
	write_auth("a.json", CLAUDE(", \"priority\": 4"));
	assert_int_equal(changed("a.json"), 0);
	assert_route("c-one", "4:a.json");
	remove_auth("a.json");
	assert_int_equal(changed("a.json"), 0);
	assert_route("c-one", NULL);
	assert_int_equal(announced, 3);
	assert_int_equal(changed("a.json"), 0);
	assert_int_equal(announced, 3);
}

static void
the_same_bytes_are_no_change(void **state UNUSED)
{
	write_auth("a.json", CLAUDE(""));
	write_auth("q.json", "{\"type\": \"qwen\"}");
	assert_int_equal(reload("", 1), 0);
	announced = 0;
	assert_int_equal(changed("a.json"), REGISTRY_UNCHANGED);
	write_auth("a.json", CLAUDE(""));
	assert_int_equal(changed("a.json"), REGISTRY_UNCHANGED);
	assert_int_equal(changed("q.json"), REGISTRY_UNCHANGED);
	assert_int_equal(changed(".x.json"), REGISTRY_UNCHANGED);
	assert_int_equal(changed("../etc"), REGISTRY_UNCHANGED);
	assert_int_equal(announced, 0);
}

static void
a_file_that_cannot_be_used_leaves_the_good_one(void **state UNUSED)
{
	static const char *const bad[] = { "", "{\"type\": \"cl", "[]",
		"{\"type\": \"claude\", \"access_token\": \"t\","
		" \"weight\": 1.5}" };
	uint64_t epoch;
	size_t i;

	write_auth("a.json", CLAUDE(", \"priority\": 3"));
	assert_int_equal(reload("", 1), 0);
	epoch = epoch_of("a.json");
	for (i = 0; i < ARRAY_LEN(bad); i++) {
		write_auth("a.json", bad[i]);
		assert_int_equal(changed("a.json"), REGISTRY_RETRY);
		assert_route("c-one", "3:a.json");
		/* Nor does a reload drop it. */
		assert_int_equal(reload("", 2 + i), 0);
		assert_route("c-one", "3:a.json");
		assert_int_equal(epoch_of("a.json"), epoch);
	}
	/* The old bytes again: what is published, so nothing happens. */
	write_auth("a.json", CLAUDE(", \"priority\": 3"));
	assert_int_equal(changed("a.json"), REGISTRY_UNCHANGED);
	/* A whole file of a type that is not served says that it is over. */
	write_auth("a.json", "{\"type\": \"kimi\"}");
	assert_int_equal(changed("a.json"), 0);
	assert_route("c-one", NULL);
}

static void
a_failed_stage_changes_nothing(void **state UNUSED)
{
	write_auth("a.json", CLAUDE(""));
	assert_int_equal(reload("", 1), 0);
	fixture_write(&fixture, "models.json", "{\"claude\": [{}]}");
	assert_int_equal(reload("", 2), -EINVAL);
	assert_route("c-one", "0:a.json");
	fixture_write(&fixture, "models.json", "");
	assert_int_equal(reload("", 2), -EINVAL);
	assert_route("c-one", "0:a.json");
	assert_told("a.json", "state", "\"ready\"");
}

static void
a_discarded_set_leaves_no_trace(void **state UNUSED)
{
	struct config *next;
	struct registry_set *set;
	struct buf why = BUF_INIT(4096);
	AUTO_FREE char *text = NULL;
	cJSON *diff;

	write_auth("a.json", CLAUDE(""));
	write_auth("b.json", CLAUDE(""));
	assert_int_equal(reload("", 1), 0);
	remove_auth("a.json");
	write_auth("b.json", CLAUDE(", \"priority\": 1"));
	write_auth("c.json", "{\"type\": \"gemini\", \"token\":"
			     " {\"access_token\": \"t\"}}");
	next = fixture_config(
	    &fixture, "oauth-excluded-models = { claude = (\"c-two\"); };");
	assert_int_equal(
	    registry_stage(registry, next, &fixture.env, &set, &why), 0);
	diff = registry_diff_json(registry, set);
	text = cJSON_PrintUnformatted(diff);
	assert_string_equal(text,
	    "{\"credentials\":{\"added\":[\"c.json\"],"
	    "\"removed\":[\"a.json\"],\"changed\":[\"b.json\"]},"
	    "\"models\":{\"added\":[\"g-one\"],\"removed\":[\"c-two\"]}}");
	cJSON_Delete(diff);
	registry_discard(set);
	config_free(next);
	buf_fini(&why);
	assert_route("c-one", "0:a.json,b.json");
	assert_route("g-one", NULL);
	assert_int_equal(changed("b.json"), 0);
	assert_route("c-one", "1:b.json 0:a.json");
}

static void
a_restart_keeps_epochs_and_what_was_disabled_by_hand(void **state UNUSED)
{
	static const char settings[] =
	    "claude-api-key = ( { api-key = \"k\"; } );";
	AUTO_FREE char *id = NULL;
	uint64_t file_epoch, key_epoch;
	cJSON *list;

	write_auth("z.json", CLAUDE(""));
	assert_int_equal(reload(settings, 1), 0);
	list = registry_credentials_json(registry, NULL, NULL);
	id = xstrdup(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(
	    cJSON_GetArrayItem(list, 0), "id")));
	cJSON_Delete(list);
	assert_memory_equal(id, "claude:apikey:", 14);
	file_epoch = epoch_of("z.json");
	key_epoch = epoch_of(id);
	assert_int_equal(registry_disable(registry, id), 0);
	assert_told(id, "state", "\"disabled\"");
	assert_route("c-one", "0:z.json");

	restart_master();
	assert_int_equal(reload(settings, 2), 0);
	assert_told(id, "state", "\"disabled\"");
	assert_int_equal(epoch_of(id), key_epoch);
	assert_int_equal(epoch_of("z.json"), file_epoch);
	assert_int_equal(registry_enable(registry, id), 0);
	assert_told(id, "state", "\"ready\"");
	assert_int_equal(epoch_of(id), key_epoch);
	restart_master();
	assert_int_equal(reload(settings, 3), 0);
	assert_told(id, "state", "\"ready\"");
}

static void
a_file_is_disabled_in_the_file_itself(void **state UNUSED)
{
	AUTO_FREE char *text = NULL;
	AUTO_FREE char *again = NULL;

	write_auth("a.json", "{\n  \"type\": \"claude\",\n  \"mine\": 1.0,\n"
			     "  \"access_token\": \"t\"\n}\n");
	assert_int_equal(reload("", 1), 0);
	assert_int_equal(registry_disable(registry, "a.json"), 0);
	text = fixture_read(&fixture, "auths/a.json");
	assert_string_equal(text,
	    "{\n  \"type\": \"claude\",\n  \"mine\": 1.0,\n"
	    "  \"access_token\": \"t\",\n  \"disabled\": true\n}\n");
	assert_told("a.json", "state", "\"disabled\"");
	/* The echo of our own write. */
	assert_int_equal(changed("a.json"), REGISTRY_UNCHANGED);
	assert_int_equal(registry_enable(registry, "a.json"), 0);
	again = fixture_read(&fixture, "auths/a.json");
	assert_non_null(strstr(again, "\"disabled\": false"));
	assert_told("a.json", "state", "\"ready\"");
	assert_int_equal(registry_enable(registry, "a.json"), 0);
}

static void
what_is_not_there_is_unknown(void **state UNUSED)
{
	assert_int_equal(reload("", 1), 0);
	assert_int_equal(registry_enable(registry, "x"), REGISTRY_UNKNOWN);
	assert_int_equal(registry_disable(registry, "x"), REGISTRY_UNKNOWN);
	assert_int_equal(registry_reset(registry, "x"), REGISTRY_UNKNOWN);
	assert_int_equal(registry_unbind(registry, "x"), REGISTRY_UNKNOWN);
	assert_null(registry_credential_json(registry, "x", NULL, NULL));
}

static void
a_section_that_is_disabled_is_not_enabled_by_hand(void **state UNUSED)
{
	cJSON *list;
	AUTO_FREE char *id = NULL;

	assert_int_equal(reload("openai-compatibility = ( { name = \"l\";"
				" base-url = \"http://l\"; disabled = true;"
				" models = ( { name = \"m\"; } ); } );",
			     1),
	    0);
	list = registry_credentials_json(registry, NULL, NULL);
	id = xstrdup(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(
	    cJSON_GetArrayItem(list, 0), "id")));
	cJSON_Delete(list);
	assert_int_equal(registry_enable(registry, id), -EPERM);
	assert_route("m", "");
	/* And is no longer once the section says otherwise. */
	assert_int_equal(reload("openai-compatibility = ( { name = \"l\";"
				" base-url = \"http://l\";"
				" models = ( { name = \"m\"; } ); } );",
			     2),
	    0);
	assert_told(id, "state", "\"ready\"");
}

static void
what_is_disabled_while_a_reload_is_staged_stays_disabled(void **state UNUSED)
{
	static const char settings[] =
	    "vertex-api-key = ( { api-key = \"k\"; } );";
	struct registry_set *set;
	struct config *next;
	struct buf why = BUF_INIT(4096);
	AUTO_FREE char *id = NULL;
	cJSON *list;

	assert_int_equal(reload(settings, 1), 0);
	list = registry_credentials_json(registry, NULL, NULL);
	id = xstrdup(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(
	    cJSON_GetArrayItem(list, 0), "id")));
	cJSON_Delete(list);
	next = fixture_config(&fixture, settings);
	assert_int_equal(
	    registry_stage(registry, next, &fixture.env, &set, &why), 0);
	assert_int_equal(registry_disable(registry, id), 0);
	assert_int_equal(registry_commit(registry, set, 2), 0);
	config_free(config);
	config = next;
	buf_fini(&why);
	assert_told(id, "state", "\"disabled\"");
	assert_route("v-one", "");
}

static void
a_rescan_finds_everything_that_happened(void **state UNUSED)
{
	AUTO_FREE char *auths = fixture_path(&fixture, "auths");
	AUTO_FREE char *away = fixture_path(&fixture, "away");

	write_auth("a.json", CLAUDE(""));
	write_auth("b.json", CLAUDE(""));
	assert_int_equal(reload("", 1), 0);
	remove_auth("a.json");
	write_auth("b.json", CLAUDE(", \"priority\": 2"));
	write_auth("c.json", CLAUDE(""));
	assert_int_equal(registry_rescan(registry), 0);
	assert_route("c-one", "2:b.json 0:c.json");
	write_auth("c.json", "{");
	assert_int_equal(registry_rescan(registry), REGISTRY_RETRY);
	assert_route("c-one", "2:b.json 0:c.json");

	/* A directory that is not there takes nothing with it. */
	assert_int_equal(rename(auths, away), 0);
	assert_int_equal(registry_rescan(registry), REGISTRY_RETRY);
	assert_route("c-one", "2:b.json 0:c.json");
}

static void
a_changed_catalogue_changes_routes(void **state UNUSED)
{
	uint64_t epoch;

	write_auth("a.json", CLAUDE(""));
	assert_int_equal(reload("", 1), 0);
	epoch = epoch_of("a.json");
	announced = 0;
	assert_int_equal(
	    registry_catalog_changed(registry), REGISTRY_UNCHANGED);
	fixture_write(&fixture, "models.json", "{\"claude\":");
	assert_int_equal(registry_catalog_changed(registry), REGISTRY_RETRY);
	assert_route("c-two", "0:a.json");
	assert_int_equal(announced, 0);
	fixture_write(&fixture, "models.json",
	    "{\"claude\": [{\"id\": \"c-one\"}, {\"id\": \"c-new\"}]}");
	assert_int_equal(registry_catalog_changed(registry), 0);
	assert_route("c-new", "0:a.json");
	assert_route("c-two", NULL);
	assert_int_equal(epoch_of("a.json"), epoch);
	assert_int_equal(announced, 1);
	/* And files go on under the new one. */
	write_auth("b.json", CLAUDE(""));
	assert_int_equal(changed("b.json"), 0);
	assert_route("c-new", "0:a.json,b.json");
}

static void
a_batch_is_one_transaction_with_a_result_each(void **state UNUSED)
{
	struct registry_change changes[] = {
		{ .name = "a.json", .unlinked = true },
		{ .name = "b.json" },
		{ .name = "bad.json" },
		{ .name = "notes.txt" },
		{ .name = "same.json" },
	};
	uint64_t epoch;

	write_auth("a.json", CLAUDE(""));
	write_auth("same.json", CLAUDE(""));
	assert_int_equal(reload("", 1), 0);
	epoch = epoch_of("a.json");
	announced = 0;
	write_auth("b.json", CLAUDE(""));
	write_auth("bad.json", "{");
	assert_int_equal(
	    registry_files_changed(registry, changes, ARRAY_LEN(changes)), 0);
	assert_int_equal(changes[0].result, 0);
	assert_int_equal(changes[1].result, 0);
	assert_int_equal(changes[2].result, REGISTRY_RETRY);
	assert_int_equal(changes[3].result, REGISTRY_UNCHANGED);
	assert_int_equal(changes[4].result, REGISTRY_UNCHANGED);
	assert_int_equal(announced, 1);
	assert_route("c-one", "0:a.json,b.json,same.json");
	assert_true(epoch_of("a.json") > epoch);
}

static void
what_is_told_has_every_field_and_no_secret(void **state UNUSED)
{
	static const char *const fields[] = { "id", "provider", "label",
		"source", "state", "until", "reason", "priority", "weight",
		"prefix", "models", "in_flight", "sessions", "succeeded",
		"failed", "last_error", "expires", "next_refresh" };
	AUTO_FREE char *text = NULL;
	cJSON *list, *o;
	size_t i;

	write_auth("a.json",
	    "{\"type\": \"codex\", \"access_token\": \"hush-1\","
	    " \"refresh_token\": \"hush-2\", \"id_token\": \"hush-3\","
	    " \"headers\": {\"X-K\": \"hush-4\"}, \"email\": \"a@b\","
	    " \"proxy_url\": \"http://u:hush-5@p:1\","
	    " \"expired\": \"2020-01-02T03:04:05Z\"}");
	assert_int_equal(
	    reload("claude-api-key = ( { api-key = \"hush-6\"; } );", 1), 0);
	list = registry_credentials_json(registry, NULL, NULL);
	assert_int_equal(cJSON_GetArraySize(list), 2);
	cJSON_ArrayForEach (o, list) {
		for (i = 0; i < ARRAY_LEN(fields); i++)
			assert_non_null(
			    cJSON_GetObjectItemCaseSensitive(o, fields[i]));
	}
	text = cJSON_PrintUnformatted(list);
	assert_null(strstr(text, "hush"));
	cJSON_Delete(list);
	assert_told("a.json", "provider", "\"codex\"");
	assert_told("a.json", "label", "\"a@b\"");
	assert_told("a.json", "source", "\"file\"");
	assert_told("a.json", "state", "\"ready\"");
	assert_told("a.json", "until", "null");
	assert_told("a.json", "models", "[\"x-pro\"]");
	assert_told("a.json", "expires", "\"2020-01-02T03:04:05Z\"");
	assert_told("a.json", "sessions", "null");
}

/* Raises words as a worker would. */
static void
bar(const char *id, const char *model, enum board_kind kind,
    enum cool_reason reason, int64_t ms)
{
	const struct state_credential *c = fixture_credential(&fixture, id);
	const struct state_model *m =
	    state_credential_model(c, state_model_hash(model, strlen(model)));
	struct board_cell *cell =
	    *model == '\0' ? &fixture.board->credentials[c->slot].cell
			   : &fixture.board->cells[m->cell];

	assert_true(board_cell_raise(cell,
	    (struct board_word){ c->incarnation, kind, clock_now_ms() + ms }));
	board_cell_set_note(
	    cell, (struct board_note){ .reason = (uint8_t)reason });
	fixture_read_end(&fixture);
}

static void
states_are_told_as_they_are(void **state UNUSED)
{
	AUTO_FREE char *until = NULL;

	write_auth("a.json", CLAUDE(""));
	write_auth("v.json", "{\"type\": \"vertex\", \"project_id\": \"p\","
			     " \"service_account\": {}}");
	write_auth("p.json", CLAUDE(", \"proxy_url\": \"nonsense\""));
	write_auth("d.json", CLAUDE(", \"disabled\": true"));
	write_auth("n.json", CLAUDE(", \"excluded_models\": [\"*\"]"));
	assert_int_equal(reload("", 1), 0);
	assert_told("v.json", "state", "\"blocked\"");
	assert_told("v.json", "reason", "\"it has no access token yet\"");
	assert_told("p.json", "state", "\"blocked\"");
	assert_told("p.json", "reason", "\"its proxy URL is invalid\"");
	assert_told("d.json", "state", "\"disabled\"");
	assert_told("n.json", "reason", "\"it serves no model\"");
	assert_told("a.json", "state", "\"ready\"");

	/* One model of two leaves it ready; both make it cool. */
	bar("a.json", "c-one", BOARD_BLOCKED, COOL_UNAUTHORIZED, 60000);
	assert_told("a.json", "state", "\"ready\"");
	bar("a.json", "c-two", BOARD_COOLING, COOL_QUOTA, 30000);
	assert_told("a.json", "state", "\"cooling\"");
	assert_told("a.json", "reason", "\"quota\"");
	until = told("a.json", "until");
	assert_int_equal(until[0], '"');
	bar("a.json", "", BOARD_BLOCKED, COOL_NETWORK, 1000);
	assert_told("a.json", "state", "\"blocked\"");
	assert_told("a.json", "reason", "\"network\"");
	assert_int_equal(registry_reset(registry, "a.json"), 0);
	assert_told("a.json", "state", "\"ready\"");
}

static void
models_are_told_with_candidates_and_ready_ones(void **state UNUSED)
{
	AUTO_FREE char *text = NULL;
	cJSON *list;

	write_auth("a.json", CLAUDE(", \"excluded_models\": [\"c-two\"]"));
	write_auth("b.json", CLAUDE(""));
	write_auth("d.json", CLAUDE(", \"disabled\": true"));
	assert_int_equal(reload("openai-compatibility = ( { name = \"l\";"
				" base-url = \"http://l\";"
				" models = ( { name = \"c-one\"; } ); } );",
			     1),
	    0);
	bar("a.json", "c-one", BOARD_COOLING, COOL_QUOTA, 60000);
	list = registry_models_json(registry);
	text = cJSON_PrintUnformatted(list);
	cJSON_Delete(list);
	assert_string_equal(text,
	    "[{\"id\":\"c-one\",\"providers\":[\"claude\",\"l\"],"
	    "\"candidates\":3,\"ready\":2},"
	    "{\"id\":\"c-two\",\"providers\":[\"claude\"],"
	    "\"candidates\":1,\"ready\":1}]");
}

static void
assert_lines(
    void (*fn)(const struct registry *, struct buf *), const char *part)
{
	struct buf text = BUF_INIT(4096);

	fn(registry, &text);
	if (*part == '\0')
		assert_int_equal(text.len, 0);
	else
		assert_non_null(strstr(buf_string(&text), part));
	buf_fini(&text);
}

static void
summary_and_warnings_say_what_an_operator_wants_to_know(void **state UNUSED)
{
	assert_int_equal(reload("", 1), 0);
	assert_lines(registry_summary, "0 credentials, 0 models");
	assert_lines(registry_warnings, "there is no credential");
	write_auth("a.json", CLAUDE(", \"disabled\": true"));
	assert_int_equal(changed("a.json"), 0);
	assert_lines(registry_warnings, "none of the 1 credential can serve");
	write_auth("b.json", CLAUDE(", \"excluded_models\": [\"*\"]"));
	write_auth("c.json", CLAUDE(""));
	assert_int_equal(registry_rescan(registry), 0);
	assert_lines(registry_warnings, "b.json for one");
	assert_lines(
	    registry_summary, "3 credentials (claude 3; 1 disabled), 2 models");
	remove_auth("b.json");
	assert_int_equal(registry_rescan(registry), 0);
	assert_lines(registry_warnings, "");
}

static void
cooling_is_off_by_credential_then_section_then_all(void **state UNUSED)
{
	static const struct {
		const char *id;
		bool off;
	} rows[] = { { "no.json", false }, { "yes.json", true },
		{ "unsaid.json", true } };
	const struct state_credential *c;
	size_t i;

	write_auth("no.json", CLAUDE(", \"disable_cooling\": false"));
	write_auth("yes.json", CLAUDE(", \"disable_cooling\": true"));
	write_auth("unsaid.json", CLAUDE(""));
	assert_int_equal(reload("disable-cooling = true;"
				"transient-error-cooldown = \"5s\";",
			     1),
	    0);
	for (i = 0; i < ARRAY_LEN(rows); i++) {
		c = fixture_credential(&fixture, rows[i].id);
		assert_int_equal(
		    (c->flags & STATE_DISABLE_COOLING) != 0, rows[i].off);
		assert_int_equal(c->transient_cooldown_ms, 5000);
	}
	fixture_read_end(&fixture);
}

static void
the_proxy_of_the_configuration_applies_where_a_file_has_none(
    void **state UNUSED)
{
	const struct state_credential *c;

	write_auth("own.json", CLAUDE(", \"proxy_url\": \"socks5://s:1\""));
	write_auth("none.json", CLAUDE(", \"proxy_url\": \"direct\""));
	write_auth("unsaid.json", CLAUDE(""));
	assert_int_equal(reload("proxy-url = \"http://g:1\";", 1), 0);
	c = fixture_credential(&fixture, "own.json");
	assert_string_equal(state_string(c, c->proxy), "socks5://s:1");
	c = fixture_credential(&fixture, "none.json");
	assert_string_equal(state_string(c, c->proxy), "");
	c = fixture_credential(&fixture, "unsaid.json");
	assert_string_equal(state_string(c, c->proxy), "http://g:1");
	fixture_read_end(&fixture);
}

static void
stale_temporary_files_are_removed_at_start(void **state UNUSED)
{
	AUTO_FREE char *stale = fixture_path(&fixture, "auths/.fairlead-1.tmp");
	AUTO_FREE char *other = fixture_path(&fixture, "auths/.other.tmp");

	write_auth(".fairlead-1.tmp", "x");
	write_auth(".other.tmp", "x");
	assert_int_equal(reload("", 1), 0);
	assert_int_equal(access(stale, F_OK), -1);
	assert_int_equal(access(other, F_OK), 0);
}

static void
links_count_and_directories_do_not(void **state UNUSED)
{
	AUTO_FREE char *target = fixture_path(&fixture, "target");
	AUTO_FREE char *link = fixture_path(&fixture, "auths/link.json");
	AUTO_FREE char *loop = fixture_path(&fixture, "auths/loop.json");
	AUTO_FREE char *dir = fixture_path(&fixture, "auths/dir.json");

	fixture_write(&fixture, "target", CLAUDE(""));
	assert_int_equal(symlink(target, link), 0);
	assert_int_equal(symlink("loop.json", loop), 0);
	assert_int_equal(mkdir(dir, 0700), 0);
	assert_int_equal(reload("", 1), 0);
	assert_int_equal(registry_count_credentials(registry), 1);
	assert_route("c-one", "0:link.json");
}

static int
set_up(void **state UNUSED)
{
	fixture_make(&fixture);
	announced = 0;
	config = NULL;
	assert_int_equal(
	    registry_new(&fixture.state, fixture.board, &registry), 0);
	registry_set_listener(registry, on_published, NULL);
	return 0;
}

static int
tear_down(void **state UNUSED)
{
	registry_free(registry);
	config_free(config);
	fixture_break(&fixture);
	return 0;
}

#define EACH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		EACH(files_and_keys_are_published_together),
		EACH(a_file_that_comes_changes_and_goes_is_followed),
		EACH(the_same_bytes_are_no_change),
		EACH(a_file_that_cannot_be_used_leaves_the_good_one),
		EACH(a_failed_stage_changes_nothing),
		EACH(a_discarded_set_leaves_no_trace),
		EACH(a_restart_keeps_epochs_and_what_was_disabled_by_hand),
		EACH(a_file_is_disabled_in_the_file_itself),
		EACH(what_is_not_there_is_unknown),
		EACH(a_section_that_is_disabled_is_not_enabled_by_hand),
		EACH(what_is_disabled_while_a_reload_is_staged_stays_disabled),
		EACH(a_rescan_finds_everything_that_happened),
		EACH(a_changed_catalogue_changes_routes),
		EACH(a_batch_is_one_transaction_with_a_result_each),
		EACH(what_is_told_has_every_field_and_no_secret),
		EACH(states_are_told_as_they_are),
		EACH(models_are_told_with_candidates_and_ready_ones),
		EACH(summary_and_warnings_say_what_an_operator_wants_to_know),
		EACH(cooling_is_off_by_credential_then_section_then_all),
		EACH(
		    the_proxy_of_the_configuration_applies_where_a_file_has_none),
		EACH(stale_temporary_files_are_removed_at_start),
		EACH(links_count_and_directories_do_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

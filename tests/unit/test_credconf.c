/* SPDX-License-Identifier: MIT */
#include "master/credential/credconf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "common/alloc.h"
#include "tests/unit/master_fixture.h"

enum { LIST_MAX = 32 };

struct list {
	struct credential *v[LIST_MAX];
	size_t n;
};

static struct fixture fixture;

static void
collect(void *ctx, struct credential *c)
{
	struct list *list = ctx;

	assert_true(list->n < LIST_MAX);
	list->v[list->n++] = c;
}

static struct list
credentials_of(const char *settings)
{
	struct config *config = fixture_config(&fixture, settings);
	struct list list = { 0 };

	credconf_each(config, collect, &list);
	config_free(config);
	return list;
}

static void
release(struct list *list)
{
	size_t i;

	for (i = 0; i < list->n; i++)
		credential_unref(list->v[i]);
	list->n = 0;
}

static char *
id_of(const char *settings)
{
	struct list list = credentials_of(settings);
	char *id;

	assert_int_equal(list.n, 1);
	id = xstrdup(list.v[0]->id);
	release(&list);
	return id;
}

static void
sections_come_in_order_with_defaults_and_labels(void **state UNUSED)
{
	static const struct {
		const char *kind, *label, *provider, *base_url, *catalog;
		enum auth_style style;
	} rows[] = {
		{ "claude:apikey:", "claude-apikey", "claude",
		    "https://api.anthropic.com", "claude",
		    AUTH_STYLE_X_API_KEY },
		{ "codex:apikey:", "codex-apikey", "codex", "http://x/v1",
		    "codex-pro", AUTH_STYLE_BEARER },
		{ "gemini:apikey:", "gemini-apikey", "gemini",
		    "https://generativelanguage.googleapis.com", "gemini",
		    AUTH_STYLE_X_GOOG_API_KEY },
		{ "vertex:apikey:", "vertex-apikey", "vertex",
		    "https://aiplatform.googleapis.com", "vertex",
		    AUTH_STYLE_X_GOOG_API_KEY },
		{ "openai-compatibility:local:", "Local", "Local",
		    "http://l/v1", "", AUTH_STYLE_BEARER },
		{ "openai-compatibility:bare:", "bare", "bare", "http://b/v1",
		    "", AUTH_STYLE_BEARER },
	};
	struct list list = credentials_of(
	    "openai-compatibility = ("
	    " { name = \"Local\"; base-url = \"http://l/v1/\";"
	    "   api-key-entries = ( { api-key = \"k\"; } ); },"
	    " { name = \"bare\"; base-url = \"http://b/v1\"; } );"
	    "vertex-api-key = ( { api-key = \"v\"; } );"
	    "gemini-api-key = ( { api-key = \"g\"; } );"
	    "codex-api-key = ( { api-key = \"x\";"
	    "   base-url = \"http://x/v1\"; } );"
	    "claude-api-key = ( { api-key = \"c\"; } );");
	size_t i;

	assert_int_equal(list.n, ARRAY_LEN(rows));
	for (i = 0; i < list.n; i++) {
		const struct credential *c = list.v[i];
		size_t len = strlen(rows[i].kind);

		assert_memory_equal(c->id, rows[i].kind, len);
		assert_int_equal(strlen(c->id), len + 12);
		assert_int_equal(strspn(c->id + len, "0123456789abcdef"), 12);
		assert_string_equal(c->label, rows[i].label);
		assert_string_equal(c->provider_name, rows[i].provider);
		assert_string_equal(c->base_url, rows[i].base_url);
		assert_string_equal(c->catalog, rows[i].catalog);
		assert_int_equal(c->auth_style, rows[i].style);
		assert_int_equal(c->source, CREDENTIAL_FROM_CONFIG);
		assert_null(c->fault);
	}
	assert_int_equal(list.v[4]->auth, AUTH_API_KEY);
	assert_int_equal(list.v[5]->auth, AUTH_NONE);
	release(&list);
}

/* printf 'claude:apikey\0sk\0http://h\0\0' | sha256sum, and so on */
static void
ids_are_those_of_the_documented_hash(void **state UNUSED)
{
	static const struct {
		const char *settings, *id;
	} rows[] = {
		{ "claude-api-key = ( { api-key = \" sk \";"
		  " base-url = \"http://h\"; } );",
		    "claude:apikey:355d72c64633" },
		{ "vertex-api-key = ( { api-key = \"sk\";"
		  " base-url = \"http://h\"; prefix = \"p\"; } );",
		    "vertex:apikey:f9522045afb0" },
		{ "openai-compatibility = ( { name = \"A B\";"
		  " base-url = \"http://h\"; } );",
		    "openai-compatibility:a b:af5c6cd2046d" },
	};
	size_t i;

	for (i = 0; i < ARRAY_LEN(rows); i++) {
		AUTO_FREE char *id = id_of(rows[i].settings);

		assert_string_equal(id, rows[i].id);
	}
}

/* The settings of one entry, of which some make another credential of it. */
static void
ids_change_with_the_key_and_where_it_leads_only(void **state UNUSED)
{
	static const struct {
		const char *more;
		bool same;
	} rows[] = {
		{ "", true },
		{ "priority = 5;", true },
		{ "weight = 5;", true },
		{ "models = ( { name = \"m\"; } );", true },
		{ "excluded-models = ( \"m\" );", true },
		{ "disable-cooling = true;", true },
		{ "base-url = \"http://h\";", false },
		{ "proxy-url = \"direct\";", false },
		{ "prefix = \"p\";", false },
		{ "headers = { X = \"y\"; };", false },
	};
	AUTO_FREE char *plain =
	    id_of("claude-api-key = ( { api-key = \"k\"; } );");
	size_t i;

	for (i = 0; i < ARRAY_LEN(rows); i++) {
		AUTO_FREE char *settings =
		    xasprintf("claude-api-key = ( { api-key = \"k\"; %s } );",
			rows[i].more);
		AUTO_FREE char *id = id_of(settings);

		assert_int_equal(strcmp(id, plain) == 0, rows[i].same);
	}
}

static void
header_order_does_not_change_an_id(void **state UNUSED)
{
	AUTO_FREE char *a = id_of("claude-api-key = ( { api-key = \"k\";"
				  " headers = ( \"A: 1\", \"B: 2\" ); } );");
	AUTO_FREE char *b = id_of("claude-api-key = ( { api-key = \"k\";"
				  " headers = ( \"B: 2\", \"A: 1\" ); } );");

	assert_string_equal(a, b);
}

static void
the_same_twice_is_numbered_in_the_order_of_the_file(void **state UNUSED)
{
	struct list list = credentials_of(
	    "claude-api-key = ( { api-key = \"k\"; }, { api-key = \"other\"; },"
	    " { api-key = \"k\"; priority = 2; },"
	    " { api-key = \"k\"; priority = 3; } );");
	AUTO_FREE char *second = xasprintf("%s-1", list.v[0]->id);
	AUTO_FREE char *third = xasprintf("%s-2", list.v[0]->id);

	assert_int_equal(list.n, 4);
	assert_string_equal(list.v[2]->id, second);
	assert_int_equal(list.v[2]->priority, 2);
	assert_string_equal(list.v[3]->id, third);
	assert_string_not_equal(list.v[1]->id, list.v[0]->id);
	release(&list);
}

static void
an_entry_keeps_all_it_says(void **state UNUSED)
{
	struct list list = credentials_of(
	    "claude-api-key = ( { api-key = \"k\"; base-url = \"http://h/\";"
	    " proxy-url = \"direct\"; priority = -3; weight = 0;"
	    " prefix = \"/p/\"; headers = { X-A = \"1\"; };"
	    " models = ( { name = \"m\"; alias = \"a\"; }, { name = \"n\"; });"
	    " excluded-models = [\"x*\"]; disable-cooling = false;"
	    " request-retry = 0; } );");
	const struct credential *c = list.v[0];

	assert_int_equal(list.n, 1);
	assert_string_equal(c->secret, "k");
	assert_string_equal(c->base_url, "http://h");
	assert_string_equal(c->proxy_url, "direct");
	assert_string_equal(c->prefix, "p");
	assert_int_equal(c->priority, -3);
	assert_int_equal(c->weight, 0);
	assert_int_equal(c->headers.n, 1);
	assert_int_equal(c->models.n, 2);
	assert_string_equal(c->models.v[0].alias, "a");
	assert_string_equal(c->models.v[1].alias, "n");
	assert_int_equal(c->excluded.n, 1);
	assert_int_equal(c->disable_cooling, TRI_FALSE);
	assert_int_equal(c->request_retry, 0);
	release(&list);
}

static void
a_compat_section_shares_its_settings_among_its_keys(void **state UNUSED)
{
	struct list list = credentials_of(
	    "openai-compatibility = ( { name = \"l\"; base-url = \"http://l\";"
	    " disabled = true; responses = true; priority = 4;"
	    " models = ( { name = \"m\"; } ); api-key-entries = ("
	    " { api-key = \"a\"; weight = 2; proxy-url = \"direct\"; },"
	    " { api-key = \"b\"; } ); } );");

	assert_int_equal(list.n, 2);
	assert_string_not_equal(list.v[0]->id, list.v[1]->id);
	assert_string_equal(list.v[0]->secret, "a");
	assert_string_equal(list.v[0]->proxy_url, "direct");
	assert_int_equal(list.v[0]->weight, 2);
	assert_int_equal(list.v[1]->weight, 1);
	assert_int_equal(list.v[1]->priority, 4);
	assert_true(list.v[1]->disabled);
	assert_int_equal(list.v[1]->models.n, 1);
	assert_int_equal(list.v[1]->dialects,
	    DIALECT_BIT(DIALECT_OPENAI) | DIALECT_BIT(DIALECT_RESPONSES));
	release(&list);
}

static void
a_long_name_still_gives_an_id_that_fits(void **state UNUSED)
{
	char name[400];
	AUTO_FREE char *settings = NULL;
	AUTO_FREE char *id = NULL;

	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	settings = xasprintf("openai-compatibility = ( { name = \"%s\";"
			     " base-url = \"http://l\"; } );",
	    name);
	id = id_of(settings);
	assert_true(strlen(id) < 256);
}

static int
set_up(void **state UNUSED)
{
	fixture_make(&fixture);
	return 0;
}

static int
tear_down(void **state UNUSED)
{
	fixture_break(&fixture);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    sections_come_in_order_with_defaults_and_labels),
		cmocka_unit_test(ids_are_those_of_the_documented_hash),
		cmocka_unit_test(
		    ids_change_with_the_key_and_where_it_leads_only),
		cmocka_unit_test(header_order_does_not_change_an_id),
		cmocka_unit_test(
		    the_same_twice_is_numbered_in_the_order_of_the_file),
		cmocka_unit_test(an_entry_keeps_all_it_says),
		cmocka_unit_test(
		    a_compat_section_shares_its_settings_among_its_keys),
		cmocka_unit_test(a_long_name_still_gives_an_id_that_fits),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}

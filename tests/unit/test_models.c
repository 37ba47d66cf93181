/* SPDX-License-Identifier: MIT */
#include "master/registry/models.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/alloc.h"
#include "master/credential/credconf.h"
#include "master/credential/credfile.h"
#include "tests/unit/master_fixture.h"

static struct fixture fixture;
static struct catalog *catalog;

static int
compare_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* "name=upstream name=upstream", sorted; the caller frees it. */
static char *
text_of(const struct served *served)
{
	char **lines = xcalloc(served->n, sizeof(*lines));
	struct buf out = BUF_INIT(65536);
	char *text;
	size_t i;

	for (i = 0; i < served->n; i++)
		lines[i] = xasprintf(
		    "%s=%s", served->v[i].name, served->v[i].upstream);
	qsort(lines, served->n, sizeof(*lines), compare_text);
	for (i = 0; i < served->n; i++) {
		buf_printf(&out, "%s%s", i > 0 ? " " : "", lines[i]);
		free(lines[i]);
	}
	free(lines);
	text = xstrdup(buf_string(&out));
	buf_fini(&out);
	return text;
}

static struct served *
file_serves(const char *members, const char *settings)
{
	AUTO_FREE char *text =
	    xasprintf("{\"access_token\": \"t\", %s}", members);
	struct config *config = fixture_config(&fixture, settings);
	struct buf why = BUF_INIT(4096);
	struct credential *c;
	struct served *served;

	assert_int_equal(
	    credfile_parse("f.json", text, strlen(text), &c, &why), 0);
	served = models_served(c, config, catalog);
	credential_unref(c);
	config_free(config);
	buf_fini(&why);
	return served;
}

static void
wildcards_match_the_whole_name_without_case(void **state UNUSED)
{
	static const struct {
		const char *pattern, *name;
		bool match;
	} rows[] = {
		{ "m", "m", true },
		{ "M", "m", true },
		{ "m", "mm", false },
		{ "", "", true },
		{ "", "m", false },
		{ "*", "", true },
		{ "*", "anything/at all", true },
		{ "claude-*", "Claude-3", true },
		{ "claude-*", "x-claude-3", false },
		{ "*-preview", "g-3-preview", true },
		{ "*-preview", "g-preview-3", false },
		{ "*a*b*", "xxaxxbxx", true },
		{ "*a*b*", "xxbxxaxx", false },
		{ "a**b", "ab", true },
		{ "*ab", "aab", true },
		{ "a?c", "abc", false },
		{ "a.c", "abc", false },
		{ "[a]", "a", false },
	};
	size_t i;

	for (i = 0; i < ARRAY_LEN(rows); i++)
		assert_int_equal(
		    models_match(rows[i].pattern, rows[i].name), rows[i].match);
}

static void
files_serve_the_catalogue_less_exclusions_plus_aliases(void **state UNUSED)
{
	static const struct {
		const char *members, *settings, *serves;
	} rows[] = {
		{ "\"type\": \"claude\"", "", "c-one=c-one c-two=c-two" },
		/* exclusion: its own and its provider's */
		{ "\"type\": \"claude\", \"excluded_models\": [\"C-ONE\"]", "",
		    "c-two=c-two" },
		{ "\"type\": \"claude\", \"excluded_models\": [\"c-one\"]",
		    "oauth-excluded-models = { claude = ( \"*two\" ); };", "" },
		{ "\"type\": \"claude\"",
		    "oauth-excluded-models = { codex = ( \"*\" ); };",
		    "c-one=c-one c-two=c-two" },
		/* alias: rename, fork, two of one */
		{ "\"type\": \"claude\"",
		    "oauth-model-alias = { claude = ("
		    " { name = \"C-One\"; alias = \"best\"; } ); };",
		    "best=c-one c-two=c-two" },
		{ "\"type\": \"claude\"",
		    "oauth-model-alias = { claude = ("
		    " { name = \"c-one\"; alias = \"best\"; fork = true; },"
		    " { name = \"c-one\"; alias = \"top\"; } ); };",
		    "best=c-one c-one=c-one c-two=c-two top=c-one" },
		/* an alias that is taken leaves the original */
		{ "\"type\": \"claude\"",
		    "oauth-model-alias = { claude = ("
		    " { name = \"c-two\"; alias = \"C-One\"; } ); };",
		    "c-one=c-one c-two=c-two" },
		/* its own rules hide the provider's of the same alias */
		{ "\"type\": \"claude\", \"model_aliases\":"
		  " [{\"name\": \"c-two\", \"alias\": \"best\"}]",
		    "oauth-model-alias = { claude = ("
		    " { name = \"c-one\"; alias = \"Best\"; } ); };",
		    "best=c-two c-one=c-one" },
		/* exclusion looks at names before aliases */
		{ "\"type\": \"claude\", \"excluded_models\": [\"best\"]",
		    "oauth-model-alias = { claude = ("
		    " { name = \"c-one\"; alias = \"best\"; } ); };",
		    "best=c-one c-two=c-two" },
		/* prefix, last */
		{ "\"type\": \"claude\", \"prefix\": \"t\","
		  " \"excluded_models\": [\"c-two\"]",
		    "", "c-one=c-one t/c-one=c-one" },
		{ "\"type\": \"claude\", \"prefix\": \"t\","
		  " \"excluded_models\": [\"c-two\"]",
		    "force-model-prefix = true;", "t/c-one=c-one" },
		{ "\"type\": \"claude\", \"prefix\": \"c-one\","
		  " \"excluded_models\": [\"c-two\"]",
		    "force-model-prefix = true;",
		    "c-one/c-one=c-one c-one=c-one" },
		/* plans */
		{ "\"type\": \"codex\"", "", "x-pro=x-pro" },
		/* not for vertex, not for keys */
		{ "\"type\": \"vertex\", \"base_url\": \"http://v\"",
		    "oauth-model-alias = { vertex = ("
		    " { name = \"v-one\"; alias = \"best\"; } ); };",
		    "g-one=g-one v-one=v-one" },
	};
	size_t i;

	for (i = 0; i < ARRAY_LEN(rows); i++) {
		AUTO_FREE struct served *served =
		    file_serves(rows[i].members, rows[i].settings);
		AUTO_FREE char *text = text_of(served);

		assert_string_equal(text, rows[i].serves);
	}
}

struct key_case {
	const char *serves;
	const struct config *config;
};

static void
check_key(void *ctx, struct credential *c)
{
	const struct key_case *k = ctx;
	AUTO_FREE struct served *served = models_served(c, k->config, catalog);
	AUTO_FREE char *text = text_of(served);

	assert_string_equal(text, k->serves);
	credential_unref(c);
}

static void
keys_serve_what_they_list_or_the_catalogue(void **state UNUSED)
{
	static const struct {
		const char *settings, *serves;
	} rows[] = {
		{ "claude-api-key = ( { api-key = \"k\"; } );",
		    "c-one=c-one c-two=c-two" },
		{ "claude-api-key = ( { api-key = \"k\"; models = ("
		  " { name = \"up\"; alias = \"seen\"; }, { name = \"b\"; } );"
		  " } );",
		    "b=b seen=up" },
		{ "claude-api-key = ( { api-key = \"k\"; models = ("
		  " { name = \"up\"; alias = \"seen\"; }, { name = \"b\"; } );"
		  " excluded-models = ( \"se*\", \"up\" ); } );",
		    "b=b" },
		/* the provider's rules are for logins */
		{ "claude-api-key = ( { api-key = \"k\"; } );"
		  "oauth-excluded-models = { claude = ( \"*\" ); };"
		  "oauth-model-alias = { claude = ("
		  " { name = \"c-one\"; alias = \"best\"; } ); };",
		    "c-one=c-one c-two=c-two" },
		{ "codex-api-key = ( { api-key = \"k\"; base-url = "
		  "\"http://x\";"
		  " } );",
		    "x-pro=x-pro" },
		{ "openai-compatibility = ( { name = \"l\";"
		  " base-url = \"http://l\"; } );",
		    "" },
		{ "openai-compatibility = ( { name = \"l\"; prefix = \"p\";"
		  " base-url = \"http://l\"; models = ( { name = \"m(low)\";"
		  " alias = \"m\"; } ); } );",
		    "m=m(low) p/m=m(low)" },
	};
	size_t i;

	for (i = 0; i < ARRAY_LEN(rows); i++) {
		struct config *config =
		    fixture_config(&fixture, rows[i].settings);
		struct key_case k = { rows[i].serves, config };

		credconf_each(config, check_key, &k);
		config_free(config);
	}
}

/* "name:place/npool=upstream ...", in the order of names and places. */
static void
check_pools(void *ctx, struct credential *c)
{
	const struct key_case *k = ctx;
	AUTO_FREE struct served *served = models_served(c, k->config, catalog);
	char *lines[16];
	struct buf out = BUF_INIT(4096);
	size_t i;

	assert_true(served->n < ARRAY_LEN(lines));
	for (i = 0; i < served->n; i++)
		lines[i] = xasprintf("%s:%u/%u=%s", served->v[i].name,
		    served->v[i].place, served->v[i].npool,
		    served->v[i].upstream);
	qsort(lines, served->n, sizeof(*lines), compare_text);
	for (i = 0; i < served->n; i++) {
		buf_printf(&out, "%s%s", i > 0 ? " " : "", lines[i]);
		free(lines[i]);
	}
	assert_string_equal(buf_string(&out), k->serves);
	buf_fini(&out);
	credential_unref(c);
}

static void
one_alias_of_several_models_is_a_pool(void **state UNUSED)
{
	static const struct {
		const char *models, *serves;
	} rows[] = {
		{ "models = ( { name = \"z\"; alias = \"best\"; },"
		  " { name = \"a\"; alias = \"Best\"; },"
		  " { name = \"z\"; alias = \"best\"; },"
		  " { name = \"a\"; } );",
		    "a:0/1=a best:0/2=z best:1/1=a" },
		{ "prefix = \"p\"; models = ( { name = \"z\"; alias = \"b\"; },"
		  " { name = \"a\"; alias = \"b\"; } );",
		    "b:0/2=z b:1/1=a p/b:0/2=z p/b:1/1=a" },
		/* A name that is something else's already is no pool. */
		{ "prefix = \"p\"; models = ( { name = \"z\"; alias = \"p/b\"; "
		  "},"
		  " { name = \"a\"; alias = \"b\"; },"
		  " { name = \"c\"; alias = \"b\"; } );",
		    "b:0/2=a b:1/1=c p/b:0/1=z p/p/b:0/1=z" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		AUTO_FREE char *settings =
		    xasprintf("openai-compatibility = ( { name = \"l\";"
			      " base-url = \"http://l\"; %s } );",
			rows[i].models);
		struct config *config = fixture_config(&fixture, settings);
		struct key_case k = { rows[i].serves, config };

		credconf_each(config, check_pools, &k);
		config_free(config);
	}
}

static void
names_of_one_upstream_model_share_its_state(void **state UNUSED)
{
	AUTO_FREE struct served *served =
	    file_serves("\"type\": \"claude\", \"prefix\": \"t\"",
		"oauth-model-alias = { claude = ("
		" { name = \"c-one\"; alias = \"best\"; fork = true; } ); };");
	const struct served_model *m = served_find_key(served, "c-one");
	size_t i;
	size_t n = 0;

	assert_non_null(m);
	for (i = 0; i < served->n; i++)
		n += strcmp(served->v[i].key, "c-one") == 0;
	assert_int_equal(n, 4);
	assert_string_equal(m->info->display_name, "C One");
	assert_null(served_find_key(served, "best"));
	assert_null(served_find_key(served, ""));
	assert_null(served_find_key(served, "zzz"));
}

static void
equality_is_of_names_and_upstream_names(void **state UNUSED)
{
	static const struct served_pair pairs[] = {
		{ "b", "x", 7, BOARD_NONE },
		{ "a", "y", 9, BOARD_NONE },
	};
	static const struct served_pair swapped[] = {
		{ "a", "x", 7, BOARD_NONE },
		{ "b", "y", 9, BOARD_NONE },
	};
	AUTO_FREE struct served *one = models_from_pairs(pairs, 2);
	AUTO_FREE struct served *same = models_from_pairs(pairs, 2);
	AUTO_FREE struct served *other = models_from_pairs(swapped, 2);
	AUTO_FREE struct served *fewer = models_from_pairs(pairs, 1);

	assert_true(served_equal(one, same));
	assert_false(served_equal(one, other));
	assert_false(served_equal(one, fewer));
	assert_int_equal(served_find_key(one, "x")->cell, 7);
	assert_int_equal(served_find_key(one, "y")->cell, 9);
}

static int
set_up(void **state UNUSED)
{
	AUTO_FREE char *path = NULL;
	struct buf text = BUF_INIT(CATALOG_BYTES_MAX);
	struct buf why = BUF_INIT(4096);
	int rc;

	fixture_make(&fixture);
	path = fixture_path(&fixture, "models.json");
	rc = catalog_load(path, &text, &catalog, &why);
	buf_fini(&text);
	buf_fini(&why);
	return rc;
}

static int
tear_down(void **state UNUSED)
{
	catalog_free(catalog);
	fixture_break(&fixture);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wildcards_match_the_whole_name_without_case),
		cmocka_unit_test(
		    files_serve_the_catalogue_less_exclusions_plus_aliases),
		cmocka_unit_test(keys_serve_what_they_list_or_the_catalogue),
		cmocka_unit_test(one_alias_of_several_models_is_a_pool),
		cmocka_unit_test(names_of_one_upstream_model_share_its_state),
		cmocka_unit_test(equality_is_of_names_and_upstream_names),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}

/* SPDX-License-Identifier: MIT */
#include "master/credential/credfile.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/alloc.h"
#include "master/credential/json_text.h"
#include "master/credential/time_text.h"
#include "tests/unit/master_fixture.h"

static struct buf why;

static int
parse(const char *text, struct credential **c)
{
	*c = NULL;
	buf_clear(&why);
	return credfile_parse("name.json", text, strlen(text), c, &why);
}

/* A file that must be good; released by the caller. */
static struct credential *
good(const char *text)
{
	struct credential *c;

	assert_int_equal(parse(text, &c), 0);
	assert_non_null(c);
	return c;
}

static int
set_up(void **state UNUSED)
{
	buf_init(&why, 4096);
	return 0;
}

static int
tear_down(void **state UNUSED)
{
	buf_fini(&why);
	return 0;
}

static void
only_visible_json_names_count(void **state UNUSED)
{
	static const struct {
		const char *name;
		bool counts;
	} rows[] = {
		{ "claude-a@b.json", true },
		{ "a.b.json", true },
		{ "x.json", true },
		{ "\xc3\xa9.json", true },
		{ ".json", false },
		{ ".hidden.json", false },
		{ ".fairlead-12.tmp", false },
		{ "x.JSON", false },
		{ "x.Json", false },
		{ "x.json.bak", false },
		{ "x.json~", false },
		{ "json", false },
		{ "", false },
		{ "line\nbreak.json", false },
		{ "\xff.json", false },
	};
	char longest[300];
	size_t i;

	for (i = 0; i < ARRAY_LEN(rows); i++)
		assert_int_equal(
		    credfile_is_name(rows[i].name), rows[i].counts);
	memset(longest, 'x', sizeof(longest));
	strcpy(longest + 251, ".json");
	assert_false(credfile_is_name(longest));
	assert_true(credfile_is_name(longest + 1));
}

static void
claude_login_serves_with_its_access_token(void **state UNUSED)
{
	struct credential *c =
	    good("{\"type\": \" Claude \", \"access_token\": \"tok\","
		 " \"refresh_token\": \"ref\", \"email\": \"a@b\","
		 " \"expired\": \"2026-01-02T03:04:05+02:00\"}");

	assert_string_equal(c->id, "name.json");
	assert_string_equal(c->label, "a@b");
	assert_string_equal(c->secret, "tok");
	assert_string_equal(c->base_url, "https://api.anthropic.com");
	assert_string_equal(c->catalog, "claude");
	assert_int_equal(c->auth, AUTH_OAUTH);
	assert_int_equal(c->auth_style, AUTH_STYLE_BEARER);
	assert_int_equal(c->weight, 1);
	assert_int_equal(c->request_retry, -1);
	assert_int_equal(c->disable_cooling, TRI_UNSET);
	assert_int_equal(c->expires_ms, 1767315845000);
	assert_true(c->refreshable);
	assert_false(c->disabled);
	assert_null(c->fault);
	assert_int_equal(why.len, 0);
	credential_unref(c);
}

static void
api_key_serves_where_there_is_no_token(void **state UNUSED)
{
	struct credential *c =
	    good("{\"type\": \"claude\", \"api-key\": \"sk\"}");

	assert_int_equal(c->auth, AUTH_API_KEY);
	assert_int_equal(c->auth_style, AUTH_STYLE_X_API_KEY);
	assert_string_equal(c->secret, "sk");
	credential_unref(c);
	c = good("{\"type\": \"claude\", \"api_key\": \"sk\","
		 " \"access_token\": \"tok\"}");
	assert_int_equal(c->auth, AUTH_OAUTH);
	assert_string_equal(c->secret, "tok");
	credential_unref(c);
}

static void
every_option_of_a_file_is_read(void **state UNUSED)
{
	struct credential *c = good(
	    "{\"type\": \"gemini\", \"token\": {\"access_token\": \"nested\","
	    " \"refresh_token\": \"r\", \"expiry\": 1767315845},"
	    " \"base_url\": \"http://127.0.0.1:81/x//\","
	    " \"proxy_url\": \"socks5://h:1\", \"prefix\": \" /team/ \","
	    " \"priority\": \" 10 \", \"weight\": \"7\", \"disabled\": true,"
	    " \"disable_cooling\": \"true\", \"request_retry\": 2,"
	    " \"headers\": {\" X-A \": \" v \", \"\": \"x\", \"X-B\": \"\"},"
	    " \"excluded_models\": [\" a* \", \"\", 3],"
	    " \"model_aliases\": [{\"name\": \"m\", \"alias\": \"n\","
	    " \"fork\": true}, {\"name\": \"q\", \"alias\": \"Q\"},"
	    " {\"name\": \"z\", \"alias\": \"N\"}, {\"name\": \"\"}]}");

	assert_string_equal(c->secret, "nested");
	assert_true(c->refreshable);
	assert_int_equal(c->expires_ms, 1767315845000);
	assert_string_equal(c->base_url, "http://127.0.0.1:81/x");
	assert_string_equal(c->proxy_url, "socks5://h:1");
	assert_string_equal(c->prefix, "team");
	assert_int_equal(c->priority, 10);
	assert_int_equal(c->weight, 7);
	assert_true(c->disabled);
	assert_int_equal(c->disable_cooling, TRI_TRUE);
	assert_int_equal(c->request_retry, 2);
	assert_int_equal(c->headers.n, 1);
	assert_string_equal(c->headers.v[0].name, "X-A");
	assert_string_equal(c->headers.v[0].value, "v");
	assert_int_equal(c->excluded.n, 1);
	assert_string_equal(c->excluded.v[0], "a*");
	assert_int_equal(c->aliases.n, 1);
	assert_string_equal(c->aliases.v[0].alias, "n");
	assert_true(c->aliases.v[0].fork);
	credential_unref(c);
}

static void
old_spelling_counts_and_new_one_wins(void **state UNUSED)
{
	struct credential *c =
	    good("{\"type\": \"claude\", \"access_token\": \"t\","
		 " \"proxy-url\": \"direct\", \"base-url\": \"http://old\","
		 " \"base_url\": \"http://new\", \"disable-cooling\": false,"
		 " \"request-retry\": \"3\", \"excluded-models\": [\"x\"]}");

	assert_string_equal(c->proxy_url, "direct");
	assert_string_equal(c->base_url, "http://new");
	assert_int_equal(c->disable_cooling, TRI_FALSE);
	assert_int_equal(c->request_retry, 3);
	assert_int_equal(c->excluded.n, 1);
	credential_unref(c);
}

static void
numbers_are_read_as_the_reference_reads_them(void **state UNUSED)
{
	static const struct {
		const char *member;
		int priority, weight; /* weight -1: the file is refused */
	} rows[] = {
		{ "\"priority\": 3.9", 3, 1 },
		{ "\"priority\": -3.9", -3, 1 },
		{ "\"priority\": \" -4\"", -4, 1 },
		{ "\"priority\": \"high\"", 0, 1 },
		{ "\"priority\": true", 0, 1 },
		{ "\"priority\": 1e300", 0, 1 },
		{ "\"weight\": null", 0, 1 },
		{ "\"weight\": 0", 0, 0 },
		{ "\"weight\": -5", 0, 0 },
		{ "\"weight\": \"12\"", 0, 12 },
		{ "\"weight\": 1000000", 0, 1000000 },
		{ "\"weight\": 1000001", 0, -1 },
		{ "\"weight\": 1.5", 0, -1 },
		{ "\"weight\": \"x\"", 0, -1 },
		{ "\"weight\": \"99999999999999999999\"", 0, -1 },
		{ "\"weight\": []", 0, -1 },
	};
	struct credential *c;
	size_t i;

	for (i = 0; i < ARRAY_LEN(rows); i++) {
		AUTO_FREE char *text = xasprintf(
		    "{\"type\": \"claude\", \"access_token\": \"t\", %s}",
		    rows[i].member);

		if (rows[i].weight < 0) {
			assert_int_equal(parse(text, &c), -EINVAL);
			assert_non_null(strstr(buf_string(&why), "weight"));
			continue;
		}
		c = good(text);
		assert_int_equal(c->priority, rows[i].priority);
		assert_int_equal(c->weight, rows[i].weight);
		credential_unref(c);
	}
}

static void
only_the_word_true_disables(void **state UNUSED)
{
	static const char *const rows[] = { "\"true\"", "1", "null", "false",
		"[true]" };
	struct credential *c;
	size_t i;

	for (i = 0; i < ARRAY_LEN(rows); i++) {
		AUTO_FREE char *text =
		    xasprintf("{\"type\": \"claude\", \"access_token\": \"t\","
			      " \"disabled\": %s}",
			rows[i]);

		c = good(text);
		assert_false(c->disabled);
		credential_unref(c);
	}
}

static void
expiry_is_found_under_all_its_names_and_forms(void **state UNUSED)
{
	static const struct {
		const char *members;
		int64_t expires_ms;
	} rows[] = {
		{ "\"expired\": \"2026-01-02T03:04:05Z\"", 1767323045000 },
		{ "\"expired\": \"2026-01-02T03:04:05.5-01:00\"",
		    1767326645500 },
		{ "\"expire\": \"2026-01-02 03:04:05\"", 1767323045000 },
		{ "\"expires_at\": \"2026-01-02 03:04\"", 1767323040000 },
		{ "\"expiresAt\": 1767323045", 1767323045000 },
		{ "\"expiry\": \"1767323045\"", 1767323045000 },
		{ "\"expires\": 1767323045123", 1767323045123 },
		{ "\"expired\": 0, \"expires\": 1767323045", 0 },
		{ "\"expired\": \"soon\", \"expires\": 1767323045",
		    1767323045000 },
		{ "\"expired\": \"2026-13-02T03:04:05Z\"", 0 },
		{ "\"token\": {\"expiry\": 1767323045}", 1767323045000 },
		{ "\"Token\": {\"expiry\": 1767323045}", 1767323045000 },
		{ "\"expired\": 5, \"token\": {\"expiry\": 1767323045}", 5000 },
		{ "\"x\": 1", 0 },
	};
	size_t i;

	for (i = 0; i < ARRAY_LEN(rows); i++) {
		AUTO_FREE char *text = xasprintf(
		    "{\"type\": \"claude\", \"access_token\": \"t\", %s}",
		    rows[i].members);
		struct credential *c = good(text);

		assert_int_equal(c->expires_ms, rows[i].expires_ms);
		credential_unref(c);
	}
}

/* {"https://api.openai.com/auth": {"chatgpt_plan_type": "free",
 * "chatgpt_account_id": "acct"}} */
#define ID_TOKEN                                                               \
	"h.eyJodHRwczovL2FwaS5vcGVuYWkuY29tL2F1dGgiOiB7ImNoYXRncHRfcGxhbl90e"  \
	"XBlIjogImZyZWUiLCAiY2hhdGdwdF9hY2NvdW50X2lkIjogImFjY3QifX0.s"

static void
codex_login_takes_account_and_plan_from_its_id_token(void **state UNUSED)
{
	struct credential *c =
	    good("{\"type\": \"codex\", \"access_token\": \"t\","
		 " \"id_token\": \"" ID_TOKEN "\"}");

	assert_string_equal(c->account_id, "acct");
	assert_string_equal(c->catalog, "codex-free");
	assert_string_equal(
	    c->base_url, "https://chatgpt.com/backend-api/codex");
	credential_unref(c);

	c = good("{\"type\": \"codex\", \"access_token\": \"t\","
		 " \"account_id\": \"own\", \"id_token\": \"no.jwt\"}");
	assert_string_equal(c->account_id, "own");
	assert_string_equal(c->catalog, "codex-pro");
	credential_unref(c);
}

static void
what_cannot_serve_yet_is_known_with_its_reason(void **state UNUSED)
{
	struct credential *c =
	    good("{\"type\": \"vertex\", \"project_id\": \"p\","
		 " \"service_account\": {\"private_key\": \"secret-key\"}}");

	assert_ptr_equal(c->fault, credential_no_token);
	assert_true(c->refreshable && c->signs);
	assert_string_equal(c->base_url,
	    "https://us-central1-aiplatform.googleapis.com"
	    "/v1/projects/p/locations/us-central1");
	credential_unref(c);
	c = good("{\"type\": \"claude\", \"refresh_token\": \"r\"}");
	assert_ptr_equal(c->fault, credential_no_token);
	assert_true(c->refreshable && !c->signs);
	credential_unref(c);
	c = good("{\"type\": \"claude\"}");
	assert_non_null(strstr(c->fault, "access token"));
	credential_unref(c);
	c = good("{\"type\": \"vertex\", \"access_token\": \"t\"}");
	assert_non_null(strstr(c->fault, "base_url"));
	credential_unref(c);
}

static void
what_a_refresh_goes_by_is_read(void **state UNUSED)
{
	static const struct {
		const char *text;
		int64_t expires_ms, last_ms, interval_ms;
	} rows[] = {
		{ "\"expired\": 100, \"last_refresh\": 50", 100000, 50000, 0 },
		{ "\"lastRefresh\": \"1970-01-01T00:01:00Z\"", 0, 60000, 0 },
		{ "\"last_refreshed_at\": \"7\"", 0, 7000, 0 },
		{ "\"refresh_interval_seconds\": 90", 0, 0, 90000 },
		{ "\"refreshInterval\": \"1h\"", 0, 0, 3600000 },
		{ "\"refresh_interval\": \"-5\"", 0, 0, 0 },
		{ "\"refresh_interval\": 0", 0, 0, 0 },
		{ "\"refresh_interval\": 1e300", 0, 0, 0 },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		AUTO_FREE char *text = xasprintf(
		    "{\"type\": \"claude\", \"access_token\": \"t\", %s}",
		    rows[i].text);
		struct credential *c = good(text);

		assert_int_equal(c->expires_ms, rows[i].expires_ms);
		assert_int_equal(c->last_refresh_ms, rows[i].last_ms);
		assert_int_equal(c->refresh_interval_ms, rows[i].interval_ms);
		credential_unref(c);
	}
}

/* Switching it off and on again makes no other file of it. */
static void
identity_is_of_all_but_disabled(void **state UNUSED)
{
	struct credential *on = good("{\"type\": \"claude\","
				     " \"access_token\": \"t\","
				     " \"disabled\": false}");
	struct credential *off = good("{\"type\": \"claude\","
				      " \"access_token\": \"t\","
				      " \"disabled\": true}");
	struct credential *other = good("{\"type\": \"claude\","
					" \"access_token\": \"u\","
					" \"disabled\": true}");

	assert_true(digest_equal(&on->identity, &off->identity));
	assert_false(digest_equal(&other->identity, &off->identity));
	credential_unref(on);
	credential_unref(off);
	credential_unref(other);
}

static void
files_that_cannot_be_used_say_why(void **state UNUSED)
{
	static const struct {
		const char *text;
		int rc;
		const char *why;
	} rows[] = {
		{ "", -EINVAL, "empty" },
		{ " \n", -EINVAL, "empty" },
		{ "{", -EINVAL, "not valid JSON" },
		{ "{\"type\": \"claude\"", -EINVAL, "not valid JSON" },
		{ "{\"type\": \"claude\"} x", -EINVAL, "after its JSON" },
		{ "[1]", -EINVAL, "not a JSON object" },
		{ "null", -EINVAL, "not a JSON object" },
		{ "{}", -EINVAL, "no \"type\"" },
		{ "{\"type\": 1}", -EINVAL, "no \"type\"" },
		{ "{\"type\": \" \"}", -EINVAL, "no \"type\"" },
		{ "{\"type\": \"\xff\"}", -EINVAL, "UTF-8" },
		{ "{\"type\": \"a\\u0000\"}", -EINVAL, "zero byte" },
		{ "{\"type\": \"claude\", \"access_token\": \"a\\r\\nb\"}",
		    -EINVAL, "control" },
		{ "{\"type\": \"claude\", \"access_token\": \"t\","
		  " \"base_url\": \"ftp://h\"}",
		    -EINVAL, "base_url" },
		{ "{\"type\": \"claude\", \"access_token\": \"t\","
		  " \"base_url\": \"http://u:p@h\"}",
		    -EINVAL, "base_url" },
		{ "{\"type\": \"qwen\"}", CREDFILE_IGNORED, "type qwen" },
		{ "{\"type\": \"openai-compatibility\"}", CREDFILE_IGNORED,
		    "not served from a file" },
	};
	struct credential *c;
	size_t i;

	for (i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(parse(rows[i].text, &c), rows[i].rc);
		assert_null(c);
		assert_non_null(strstr(buf_string(&why), rows[i].why));
	}
}

static void
nesting_is_bounded(void **state UNUSED)
{
	char text[200];
	struct credential *c;

	memset(text, '[', 100);
	memset(text + 100, ']', 100);
	assert_int_equal(
	    credfile_parse("n.json", text, sizeof(text), &c, &why), -EINVAL);
	assert_non_null(strstr(buf_string(&why), "deep"));
	/* Brackets in strings are not nesting. */
	c = good("{\"type\": \"claude\", \"access_token\": \"t\", \"note\":"
		 " \"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\"[[[[\"}");
	credential_unref(c);
}

static void
remarks_do_not_refuse_a_file(void **state UNUSED)
{
	struct credential *c =
	    good("{\"type\": \"claude\", \"access_token\": \"t\","
		 " \"prefix\": \"a/b\", \"headers\": {\"X\": \"a\\nb\"}}");

	assert_string_equal(c->prefix, "");
	assert_int_equal(c->headers.n, 0);
	assert_non_null(strstr(buf_string(&why), "prefix"));
	assert_non_null(strstr(buf_string(&why), "headers"));
	credential_unref(c);
}

static void
disabled_is_written_and_nothing_else_changes(void **state UNUSED)
{
	static const struct {
		const char *before;
		const char *after; /* of "disabled": true */
	} rows[] = {
		{ "{\"type\":\"claude\"}",
		    "{\"type\":\"claude\",\"disabled\": true}" },
		{ "{\n  \"type\": \"claude\",\n  \"big\": "
		  "12345678901234567890,\n"
		  "  \"x\": {\"disabled\": 1}\n}\n",
		    "{\n  \"type\": \"claude\",\n"
		    "  \"big\": 12345678901234567890,\n"
		    "  \"x\": {\"disabled\": 1},\n  \"disabled\": true\n}\n" },
		{ "{\"disabled\" : false , \"type\": \"claude\"}",
		    "{\"disabled\" : true , \"type\": \"claude\"}" },
		{ "{\"a\": \"\\\"}\", \"disabled\": [1, {\"}\": 2}]}",
		    "{\"a\": \"\\\"}\", \"disabled\": true}" },
		{ "{\"disabled\": -1.5e3}", "{\"disabled\": true}" },
		{ "[]", NULL },
		{ "{}", NULL },
		{ "{\"dis\\u0061bled\": false}", NULL },
	};
	struct buf out = BUF_INIT(4096);
	size_t i;
	int rc;

	for (i = 0; i < ARRAY_LEN(rows); i++) {
		buf_clear(&out);
		rc = json_set_member(rows[i].before, strlen(rows[i].before),
		    "disabled", "true", &out);
		if (rows[i].after == NULL) {
			assert_int_equal(rc, -EINVAL);
			continue;
		}
		assert_int_equal(rc, 0);
		assert_string_equal(buf_string(&out), rows[i].after);
	}
	buf_fini(&out);
}

static void
writing_replaces_the_file_in_one_step_and_keeps_links(void **state UNUSED)
{
	AUTO_FREE char *target = NULL;
	AUTO_FREE char *link = NULL;
	AUTO_FREE char *dir = NULL;
	AUTO_FREE char *text = NULL;
	struct buf now = BUF_INIT(1 << 16);
	struct fixture f;
	struct stat st;

	fixture_make(&f);
	dir = fixture_path(&f, "auths");
	target = fixture_path(&f, "elsewhere.json");
	link = fixture_path(&f, "auths/a.json");
	fixture_write(&f, "elsewhere.json", "{\"type\": \"claude\"}");
	assert_int_equal(chmod(target, 0644), 0);
	assert_int_equal(symlink(target, link), 0);

	assert_int_equal(credfile_set_disabled(dir, "a.json", true, &now), 0);
	text = fixture_read(&f, "elsewhere.json");
	assert_string_equal(text, "{\"type\": \"claude\",\"disabled\": true}");
	assert_string_equal(buf_string(&now), text);
	assert_int_equal(lstat(link, &st), 0);
	assert_true(S_ISLNK(st.st_mode));
	assert_int_equal(stat(target, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);

	buf_clear(&now);
	assert_int_equal(
	    credfile_set_disabled(dir, "absent.json", true, &now), -ENOENT);
	buf_fini(&now);
	fixture_break(&f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_visible_json_names_count),
		cmocka_unit_test(claude_login_serves_with_its_access_token),
		cmocka_unit_test(api_key_serves_where_there_is_no_token),
		cmocka_unit_test(every_option_of_a_file_is_read),
		cmocka_unit_test(old_spelling_counts_and_new_one_wins),
		cmocka_unit_test(numbers_are_read_as_the_reference_reads_them),
		cmocka_unit_test(only_the_word_true_disables),
		cmocka_unit_test(expiry_is_found_under_all_its_names_and_forms),
		cmocka_unit_test(
		    codex_login_takes_account_and_plan_from_its_id_token),
		cmocka_unit_test(
		    what_cannot_serve_yet_is_known_with_its_reason),
		cmocka_unit_test(what_a_refresh_goes_by_is_read),
		cmocka_unit_test(identity_is_of_all_but_disabled),
		cmocka_unit_test(files_that_cannot_be_used_say_why),
		cmocka_unit_test(nesting_is_bounded),
		cmocka_unit_test(remarks_do_not_refuse_a_file),
		cmocka_unit_test(disabled_is_written_and_nothing_else_changes),
		cmocka_unit_test(
		    writing_replaces_the_file_in_one_step_and_keeps_links),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}

/* SPDX-License-Identifier: MIT */
/* grant.h: requests of files, what answers say, and files with new tokens. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/attr.h"
#include "master/refresh/grant.h"

enum { NOW_S = 1700000000 };

static char nothing[] = "";
static const struct oauth_settings unset = { nothing, nothing, nothing, -1,
	nothing };

static void
request_is_made_of_file_settings_and_row(void **state UNUSED)
{
	static char endpoint[] = "https://config/token", id[] = "cid",
		    secret[] = "s&t", json[] = "json";
	const struct oauth_settings set = { endpoint, id, secret, -1, json };
	static const struct {
		enum provider_id provider;
		bool set;
		const char *text, *url, *body;
	} rows[] = {
		{ PROVIDER_CLAUDE, false, "{\"refresh_token\": \" r\\\"t \"}",
		    "https://platform.claude.com/v1/oauth/token",
		    "{\"grant_type\":\"refresh_token\","
		    "\"refresh_token\":\"r\\\"t\",\"client_id\":"
		    "\"9d1c250a-e61b-44d9-88ed-5944d1962f5e\"}" },
		{ PROVIDER_CODEX, false, "{\"refresh_token\": \"r/t+\"}",
		    "https://auth.openai.com/oauth/token",
		    "grant_type=refresh_token&refresh_token=r%2Ft%2B&client_id="
		    "app_EMoamEEZ73f0CkXaXp7hrann&"
		    "scope=openid%20profile%20email" },
		{ PROVIDER_GEMINI, true, "{\"refresh_token\": \"r\"}",
		    "https://config/token",
		    "{\"grant_type\":\"refresh_token\",\"refresh_token\":\"r\","
		    "\"client_id\":\"cid\",\"client_secret\":\"s&t\"}" },
		{ PROVIDER_XAI, true,
		    "{\"refresh_token\": \"r\", \"client_id\": \"own\","
		    " \"token_endpoint\": \"http://127.0.0.1:9/t\"}",
		    "http://127.0.0.1:9/t",
		    "{\"grant_type\":\"refresh_token\",\"refresh_token\":\"r\","
		    "\"client_id\":\"own\",\"client_secret\":\"s&t\"}" },
		{ PROVIDER_GEMINI, false,
		    "{\"token\": {\"refresh_token\": \"n\","
		    " \"client_id\": \"i\", \"client_secret\": \"x\"}}",
		    "https://oauth2.googleapis.com/token",
		    "grant_type=refresh_token&refresh_token=n&client_id=i&"
		    "client_secret=x" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct grant g;
		const char *why = NULL;

		assert_int_equal(grant_make(provider_get(rows[i].provider),
				     rows[i].set ? &set : &unset, rows[i].text,
				     strlen(rows[i].text), NOW_S, &g, &why),
		    0);
		assert_string_equal(g.url, rows[i].url);
		assert_string_equal(g.body, rows[i].body);
		grant_fini(&g);
	}
}

static void
request_that_cannot_be_made_says_why(void **state UNUSED)
{
	static const struct {
		enum provider_id provider;
		const char *text, *why;
	} rows[] = {
		{ PROVIDER_CLAUDE, "{}", "refresh token" },
		{ PROVIDER_CLAUDE, "{", "JSON" },
		{ PROVIDER_GEMINI, "{\"refresh_token\": \"r\"}", "client id" },
		{ PROVIDER_COMPAT,
		    "{\"refresh_token\": \"r\", \"client_id\": \"i\"}",
		    "token endpoint" },
		{ PROVIDER_CLAUDE,
		    "{\"refresh_token\": \"r\","
		    " \"token_endpoint\": \"http://h/t\"}",
		    "loopback" },
		{ PROVIDER_CLAUDE,
		    "{\"refresh_token\": \"r\","
		    " \"token_endpoint\": \"http://127.0.0.1@h/t\"}",
		    "loopback" },
		{ PROVIDER_VERTEX,
		    "{\"service_account\": {\"private_key\": \"no key\"}}",
		    "private key" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct grant g;
		const char *why = NULL;

		assert_int_equal(
		    grant_make(provider_get(rows[i].provider), &unset,
			rows[i].text, strlen(rows[i].text), NOW_S, &g, &why),
		    -EINVAL);
		assert_non_null(strstr(why, rows[i].why));
		assert_null(g.body);
	}
}

static void
answers_are_told_apart(void **state UNUSED)
{
	static const struct {
		enum fetch_end end;
		int status;
		const char *body;
		enum grant_end is;
		const char
		    *says; /* the access token, or a part of the reason */
	} rows[] = {
		{ FETCH_ANSWERED, 200, "{\"access_token\": \"a\"}",
		    GRANT_TOKENS, "a" },
		{ FETCH_ANSWERED, 200, "{}", GRANT_LOST, "no access token" },
		{ FETCH_ANSWERED, 200, "", GRANT_LOST, "no access token" },
		{ FETCH_ANSWERED, 200, "{\"access_token\": \"a", GRANT_LOST,
		    "no access token" },
		{ FETCH_ANSWERED, 200, "{\"error\": \"invalid_grant\"}",
		    GRANT_LOGIN, "invalid_grant" },
		{ FETCH_ANSWERED, 200, "{\"error\": \"slow_down\"}",
		    GRANT_FAILED, "200" },
		{ FETCH_ANSWERED, 200, "{\"access_token\": 1}", GRANT_LOST,
		    "no access token" },
		{ FETCH_ANSWERED, 400, "{\"error\": \"invalid_grant\"}",
		    GRANT_LOGIN, "invalid_grant" },
		{ FETCH_ANSWERED, 400,
		    "{\"error\": {\"code\": \"refresh_token_reused\"}}",
		    GRANT_LOGIN, "refresh_token_reused" },
		{ FETCH_ANSWERED, 400, "wrapped: invalid_grant", GRANT_LOGIN,
		    "invalid_grant" },
		{ FETCH_ANSWERED, 400, "{\"error\": \"unauthorized_client\"}",
		    GRANT_LOGIN, "unauthorized_client" },
		{ FETCH_ANSWERED, 401, "", GRANT_LOGIN, "unauthorized" },
		{ FETCH_ANSWERED, 401, "{\"error\": \"token_gone\"}",
		    GRANT_LOGIN, "token_gone" },
		{ FETCH_ANSWERED, 401, "{\"error\": \"rt-1a is no good\"}",
		    GRANT_LOGIN, "unauthorized" },
		{ FETCH_ANSWERED, 400, "{\"error\": \"invalid_request\"}",
		    GRANT_FAILED, "400" },
		{ FETCH_ANSWERED, 403, "", GRANT_FAILED, "403" },
		{ FETCH_ANSWERED, 429, "{\"error\": \"invalid_grant\"}",
		    GRANT_FAILED, "429" },
		{ FETCH_ANSWERED, 503, "invalid_grant", GRANT_FAILED, "503" },
		{ FETCH_ANSWERED, 302, "", GRANT_FAILED, "302" },
		{ FETCH_UNSENT, 0, "", GRANT_FAILED, "not reached" },
		{ FETCH_LOST, 0, "", GRANT_LOST, "lost" },
		{ FETCH_LOST, 200, "{\"access", GRANT_LOST, "lost" },
		{ FETCH_TOO_LARGE, 200, "", GRANT_LOST, "lost" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct fetch_answer answer = {
			.end = rows[i].end,
			.status = rows[i].status,
			.body = rows[i].body,
			.len = strlen(rows[i].body),
			.detail = "x",
		};
		struct grant_answer a;

		grant_read(&answer, NOW_S, &a);
		assert_int_equal(a.end, rows[i].is);
		if (a.end == GRANT_TOKENS)
			assert_string_equal(a.access_token, rows[i].says);
		else
			assert_non_null(strstr(a.reason, rows[i].says));
		grant_answer_fini(&a);
	}
}

static void
wait_and_lifetime_are_read_within_bounds(void **state UNUSED)
{
	static const struct {
		int status;
		int64_t retry_after_s;
		const char *body;
		int64_t wait_ms, expires_in_s;
	} rows[] = {
		{ 429, 0, "", 5000, 0 },
		{ 429, 60, "", 60000, 0 },
		{ 429, 86400, "", 300000, 0 },
		{ 503, 0, "", 0, 0 },
		{ 503, 9, "", 9000, 0 },
		{ 200, 0, "{\"access_token\": \"a\", \"expires_in\": 90}", 0,
		    90 },
		{ 200, 0, "{\"access_token\": \"a\", \"expires_in\": \"90\"}",
		    0, 90 },
		{ 200, 0, "{\"access_token\": \"a\", \"expires_in\": -1}", 0,
		    0 },
		{ 200, 0, "{\"access_token\": \"a\", \"expires_in\": 1e300}", 0,
		    0 },
		/* {"exp": 1700000600} */
		{ 200, 0,
		    "{\"access_token\": \"x.eyJleHAiOiAxNzAwMDAwNjAwfQ.y\"}", 0,
		    600 },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct fetch_answer answer = {
			.end = FETCH_ANSWERED,
			.status = rows[i].status,
			.retry_after_s = rows[i].retry_after_s,
			.body = rows[i].body,
			.len = strlen(rows[i].body),
		};
		struct grant_answer a;

		grant_read(&answer, NOW_S, &a);
		assert_int_equal(a.wait_ms, rows[i].wait_ms);
		assert_int_equal(a.expires_in_s, rows[i].expires_in_s);
		grant_answer_fini(&a);
	}
}

static void
merge_touches_nothing_but_tokens_and_times(void **state UNUSED)
{
	static char access[] = "A2", refresh[] = "R2", id[] = "I2";
	struct grant_answer full = { .access_token = access,
		.refresh_token = refresh,
		.id_token = id,
		.expires_in_s = 60 };
	struct grant_answer bare = { .access_token = access,
		.refresh_token = nothing,
		.id_token = nothing };
	static const struct {
		bool full;
		const char *text, *merged;
	} rows[] = {
		{ true,
		    "{ \"z\": 1.50,\n  \"access_token\":\"a\","
		    " \"refresh_token\": \"r\", \"expired\": \"x\","
		    " \"id_token\": \"i\", \"last_refresh\": \"\" }\n",
		    "{ \"z\": 1.50,\n  \"access_token\":\"A2\","
		    " \"refresh_token\": \"R2\", \"expired\": "
		    "\"2023-11-14T22:14:20Z\", \"id_token\": \"I2\","
		    " \"last_refresh\": \"2023-11-14T22:13:20Z\" }\n" },
		/* What the answer does not say stays; no expiry, no time. */
		{ false,
		    "{\"access_token\":\"a\",\"refresh_token\":\"r\","
		    "\"id_token\":\"i\",\"email\":\"e\",\"expires_at\":5}",
		    "{\"access_token\":\"A2\",\"refresh_token\":\"r\","
		    "\"id_token\":\"i\",\"email\":\"e\",\"expires_at\":0,"
		    "\"last_refresh\": \"2023-11-14T22:13:20Z\"}" },
		/* Times stay in the form in which they were. */
		{ true,
		    "{\"access_token\":\"a\",\"refresh_token\":\"r\","
		    "\"id_token\":\"i\",\"expires_at\":1600000000000,"
		    "\"expires_in\":1,\"timestamp\":7,\"last_refresh\":0}",
		    "{\"access_token\":\"A2\",\"refresh_token\":\"R2\","
		    "\"id_token\":\"I2\",\"expires_at\":1700000060000,"
		    "\"expires_in\":60,\"timestamp\":1700000000000,"
		    "\"last_refresh\":\"2023-11-14T22:13:20Z\"}" },
		/* Tokens of a nested object stay in it. */
		{ true,
		    "{\"token\": {\"access_token\":\"a\","
		    "\"refresh_token\":\"r\",\"id_token\":\"\","
		    "\"expiry\":\"\"}, \"last_refresh\":1}",
		    "{\"token\": {\"access_token\":\"A2\","
		    "\"refresh_token\":\"R2\",\"id_token\":\"I2\","
		    "\"expiry\":\"2023-11-14T22:14:20Z\"},"
		    " \"last_refresh\":\"2023-11-14T22:13:20Z\"}" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct buf out = BUF_INIT(4096);

		assert_int_equal(grant_merge(rows[i].text, strlen(rows[i].text),
				     rows[i].full ? &full : &bare, NOW_S, &out),
		    0);
		assert_string_equal(buf_string(&out), rows[i].merged);
		buf_fini(&out);
	}
}

static void
refresh_token_of_a_text_is_known(void **state UNUSED)
{
	static const struct {
		const char *text;
		bool is;
	} rows[] = {
		{ "{\"refresh_token\": \"rt\"}", true },
		{ "{\"refresh_token\": \" rt \"}", true },
		{ "{\"token\": {\"refresh_token\": \"rt\"}}", true },
		{ "{\"refresh_token\": \"rt2\"}", false },
		{ "{\"refresh_token\": \"r\"}", false },
		{ "{}", false },
		{ "{", false },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_int_equal(
		    grant_is_of(rows[i].text, strlen(rows[i].text), "rt"),
		    rows[i].is);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(request_is_made_of_file_settings_and_row),
		cmocka_unit_test(request_that_cannot_be_made_says_why),
		cmocka_unit_test(answers_are_told_apart),
		cmocka_unit_test(wait_and_lifetime_are_read_within_bounds),
		cmocka_unit_test(merge_touches_nothing_but_tokens_and_times),
		cmocka_unit_test(refresh_token_of_a_text_is_known),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

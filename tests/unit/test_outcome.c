/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/attr.h"
#include "worker/dialect/error_body.h"
#include "worker/relay/outcome.h"
#include "worker/relay/retry_after.h"

enum {
	MINUTES_30 = 30 * 60 * 1000,
	HOURS_12 = 12 * 3600 * 1000,
	TRANSIENT_MS = 60 * 1000,
	MAX_MS = 24 * 3600 * 1000
};

static const struct cooling usual = { .transient_ms = TRANSIENT_MS,
	.max_ms = MAX_MS };

static struct outcome
outcome_of_body(int status, const char *body, const struct cooling *cooling)
{
	struct error_body e;
	struct failure f;

	error_body_read(&e, body, strlen(body));
	f = (struct failure){ .end = ATTEMPT_STATUS,
		.status = status,
		.text = span_of(body),
		.code = e.code,
		.type = e.type,
		.operation = OPERATION_CHAT,
		.model = "m",
		.retry_after_ms = RETRY_AFTER_NONE };
	return outcome_of(&f, cooling);
}

static void
each_status_has_its_price(void **state UNUSED)
{
	static const struct {
		int status;
		enum outcome_action action;
		enum cool_reason reason;
		enum board_kind kind;
		int64_t cooldown_ms;
		bool ladder;
	} rows[] = {
		{ 302, OUTCOME_OTHER, COOL_TRANSIENT, BOARD_BLOCKED,
		    TRANSIENT_MS, false },
		{ 400, OUTCOME_PASS_ON, COOL_NONE, BOARD_READY, 0, false },
		{ 401, OUTCOME_OTHER, COOL_UNAUTHORIZED, BOARD_BLOCKED,
		    MINUTES_30, false },
		{ 402, OUTCOME_OTHER, COOL_PAYMENT, BOARD_BLOCKED, MINUTES_30,
		    false },
		{ 403, OUTCOME_OTHER, COOL_FORBIDDEN, BOARD_BLOCKED, MINUTES_30,
		    false },
		{ 404, OUTCOME_OTHER, COOL_NOT_FOUND, BOARD_BLOCKED, HOURS_12,
		    false },
		{ 408, OUTCOME_OTHER, COOL_TRANSIENT, BOARD_BLOCKED,
		    TRANSIENT_MS, false },
		{ 409, OUTCOME_PASS_ON, COOL_NONE, BOARD_READY, 0, false },
		{ 413, OUTCOME_PASS_ON, COOL_NONE, BOARD_READY, 0, false },
		{ 418, OUTCOME_OTHER, COOL_TRANSIENT, BOARD_BLOCKED,
		    TRANSIENT_MS, false },
		{ 422, OUTCOME_PASS_ON, COOL_NONE, BOARD_READY, 0, false },
		{ 429, OUTCOME_OTHER, COOL_QUOTA, BOARD_COOLING, 0, true },
		{ 500, OUTCOME_OTHER, COOL_TRANSIENT, BOARD_BLOCKED,
		    TRANSIENT_MS, false },
		{ 503, OUTCOME_OTHER, COOL_TRANSIENT, BOARD_BLOCKED,
		    TRANSIENT_MS, false },
		{ 529, OUTCOME_OTHER, COOL_TRANSIENT, BOARD_BLOCKED,
		    TRANSIENT_MS, false },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct outcome o =
		    outcome_of_body(rows[i].status, "{}", &usual);

		assert_int_equal(o.action, rows[i].action);
		assert_int_equal(o.reason, rows[i].reason);
		assert_int_equal(o.kind, rows[i].kind);
		assert_int_equal(o.cooldown_ms, rows[i].cooldown_ms);
		assert_int_equal(o.ladder, rows[i].ladder);
	}
}

static void
bodies_can_say_that_the_request_is_at_fault(void **state UNUSED)
{
	static const struct {
		int status;
		const char *body;
		bool fault;
	} rows[] = {
		{ 403, "{\"error\":{\"code\":\"cyber_policy\"}}", true },
		{ 403, "{\"code\":\"cyber_policy\"}", true },
		{ 403, "{\"response\":{\"error\":{\"code\":\"cyber_policy\"}}}",
		    true },
		{ 403, "{\"body\":{\"error\":{\"code\":\"cyber_policy\"}}}",
		    true },
		{ 403, "{\"else\":{\"error\":{\"code\":\"cyber_policy\"}}}",
		    false },
		{ 403, "[{\"error\":{\"code\":\"cyber_policy\"}}]", true },
		{ 403, "{\"error\":{\"code\":\"cyber_policy\"}} trailing",
		    false },
		{ 500, "{\"error\":{\"code\":\"context_length_exceeded\"}}",
		    true },
		{ 404, "{\"error\":{\"type\":\"invalid_request_error\"}}",
		    true },
		{ 502, "{\"error\":{\"type\":\"bad_request_error\"}}", true },
		{ 402, "{\"error\":{\"type\":\"invalid_request_error\"}}",
		    false },
		{ 429, "{\"error\":{\"type\":\"invalid_request_error\"}}",
		    false },
		{ 401, "{\"error\":{\"type\":\"authentication_error\"}}",
		    false },
		{ 401, "{\"error\":{\"type\":\"invalid_request_error\"}}",
		    true },
		{ 401,
		    "{\"error\":{\"type\":\"invalid_request_error\","
		    "\"code\":\"invalid_api_key\"}}",
		    false },
		{ 404,
		    "{\"error\":{\"type\":\"invalid_request_error\","
		    "\"code\":\"model_not_found\"}}",
		    false },
		{ 404,
		    "{\"error\":{\"message\":\"Item rs_1 not found. Items are "
		    "not persisted when store is set to false.\"}}",
		    true },
		{ 404, "{\"error\":{\"message\":\"model not found\"}}", false },
		{ 500, "cyber_policy", false },
		{ 500, "", false },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct outcome o =
		    outcome_of_body(rows[i].status, rows[i].body, &usual);

		assert_int_equal(o.action == OUTCOME_PASS_ON, rows[i].fault);
		assert_int_equal(o.reason == COOL_NONE, rows[i].fault);
	}
}

static void
unsupported_model_is_not_the_requests_fault(void **state UNUSED)
{
	static const struct {
		int status;
		const char *body;
		bool unsupported;
	} rows[] = {
		{ 400, "{\"error\":{\"code\":\"model_not_supported\"}}", true },
		{ 422, "The Requested Model is NOT SUPPORTED here", true },
		{ 400, "Not available for your plan", true },
		{ 400, "model is fine, messages are not", false },
		{ 413, "{\"error\":{\"code\":\"model_not_supported\"}}",
		    false },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct outcome o =
		    outcome_of_body(rows[i].status, rows[i].body, &usual);

		assert_int_equal(o.reason,
		    rows[i].unsupported ? COOL_UNSUPPORTED : COOL_NONE);
		assert_int_equal(
		    o.cooldown_ms, rows[i].unsupported ? HOURS_12 : 0);
		assert_int_equal(o.action,
		    rows[i].unsupported ? OUTCOME_OTHER : OUTCOME_PASS_ON);
	}
}

static void
challenges_and_dead_grants_are_nobodys_request(void **state UNUSED)
{
	static const struct {
		int status;
		const char *body;
		enum cool_reason reason;
		bool ladder;
		int64_t cooldown_ms;
	} rows[] = {
		{ 403, "<script src=/cdn-cgi/challenge-platform/h>",
		    COOL_CHALLENGE, true, 10000 },
		{ 503, "cf-mitigated", COOL_CHALLENGE, true, 10000 },
		{ 400, "a Cloudflare Challenge", COOL_CHALLENGE, true, 10000 },
		{ 502, "<HTML>... CloudFlare ...", COOL_CHALLENGE, true,
		    10000 },
		{ 403, "cloudflare said no", COOL_FORBIDDEN, false,
		    MINUTES_30 },
		{ 400, "{\"error\":\"invalid_grant\"}", COOL_INVALID_GRANT,
		    false, MINUTES_30 },
		{ 400,
		    "{\"error\":{\"type\":\"invalid_request_error\","
		    "\"code\":\"invalid_grant\"}}",
		    COOL_INVALID_GRANT, false, MINUTES_30 },
		{ 401, "token: invalid_grant", COOL_INVALID_GRANT, false,
		    MINUTES_30 },
		{ 403, "invalid_grant", COOL_FORBIDDEN, false, MINUTES_30 },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct outcome o =
		    outcome_of_body(rows[i].status, rows[i].body, &usual);

		assert_int_equal(o.action, OUTCOME_OTHER);
		assert_int_equal(o.reason, rows[i].reason);
		assert_int_equal(o.ladder, rows[i].ladder);
		assert_int_equal(o.cooldown_ms, rows[i].cooldown_ms);
		assert_int_equal(
		    o.kind, o.ladder ? BOARD_COOLING : BOARD_BLOCKED);
	}
}

static void
a_quota_of_the_account_closes_every_model(void **state UNUSED)
{
	struct failure f = { .end = ATTEMPT_STATUS,
		.status = 429,
		.code = "",
		.type = "",
		.model = "m",
		.retry_after_ms = 5000,
		.account = true };

	assert_true(outcome_of(&f, &usual).account);
	assert_int_equal(outcome_of(&f, &usual).cooldown_ms, 5000);
	f.retry_after_ms = RETRY_AFTER_NONE;
	assert_true(outcome_of(&f, &usual).account);
	assert_true(outcome_of(&f, &usual).ladder);
	f.status = 500;
	assert_false(outcome_of(&f, &usual).account);
}

static void
rules_of_the_operator_overrule_the_table(void **state UNUSED)
{
	static const struct cooling off = { .disabled = true,
		.max_ms = MAX_MS };
	static const struct {
		int status;
		enum error_action rule;
		const struct cooling *cooling;
		enum outcome_action action;
		enum cool_reason reason;
		int64_t cooldown_ms;
		bool ladder;
	} rows[] = {
		{ 429, ERROR_ACTION_STOP, &usual, OUTCOME_PASS_ON, COOL_NONE, 0,
		    false },
		{ 500, ERROR_ACTION_CONTINUE, &usual, OUTCOME_OTHER, COOL_NONE,
		    0, false },
		{ 400, ERROR_ACTION_CONTINUE, &usual, OUTCOME_OTHER, COOL_NONE,
		    0, false },
		{ 400, ERROR_ACTION_CONTINUE_AND_COOLDOWN, &usual,
		    OUTCOME_OTHER, COOL_TRANSIENT, 60000, false },
		{ 400, ERROR_ACTION_STOP_AND_COOLDOWN, &off, OUTCOME_PASS_ON,
		    COOL_TRANSIENT, 60000, false },
		{ 401, ERROR_ACTION_STOP_AND_COOLDOWN, &off, OUTCOME_PASS_ON,
		    COOL_UNAUTHORIZED, MINUTES_30, false },
		{ 500, ERROR_ACTION_CONTINUE_AND_COOLDOWN, &off, OUTCOME_OTHER,
		    COOL_TRANSIENT, 60000, false },
		{ 429, ERROR_ACTION_CONTINUE_AND_COOLDOWN, &off, OUTCOME_OTHER,
		    COOL_QUOTA, 60000, true },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct failure f = { .end = ATTEMPT_STATUS,
			.status = rows[i].status,
			.code = "",
			.type = "",
			.model = "m",
			.retry_after_ms = RETRY_AFTER_NONE,
			.ruled = true,
			.rule = rows[i].rule };
		struct outcome o = outcome_of(&f, rows[i].cooling);

		assert_int_equal(o.action, rows[i].action);
		assert_int_equal(o.reason, rows[i].reason);
		assert_int_equal(o.cooldown_ms, rows[i].cooldown_ms);
		assert_int_equal(o.ladder, rows[i].ladder);
	}
}

static struct outcome
outcome_of_end(enum attempt_end end, const struct cooling *cooling)
{
	struct failure f = { .end = end,
		.code = "",
		.type = "",
		.model = "m",
		.retry_after_ms = RETRY_AFTER_NONE };

	return outcome_of(&f, cooling);
}

static void
broken_path_costs_only_its_owner(void **state UNUSED)
{
	struct cooling own = usual;
	struct outcome o = outcome_of_end(ATTEMPT_NETWORK, &usual);

	own.own_path = true;
	assert_int_equal(o.action, OUTCOME_AGAIN);
	assert_int_equal(o.reason, COOL_NONE);
	o = outcome_of_end(ATTEMPT_NETWORK, &own);
	assert_int_equal(o.action, OUTCOME_OTHER);
	assert_int_equal(o.reason, COOL_NETWORK);
	assert_int_equal(o.cooldown_ms, TRANSIENT_MS);
	o = outcome_of_end(ATTEMPT_TIMEOUT, &usual);
	assert_int_equal(o.action, OUTCOME_OTHER);
	assert_int_equal(o.reason, COOL_TRANSIENT);
}

static void
a_hint_is_followed_within_bounds(void **state UNUSED)
{
	static const struct {
		int status;
		int64_t hint_ms, wanted_ms;
		bool ladder;
	} rows[] = {
		{ 429, 7000, 7000, false },
		{ 429, MAX_MS + 1, MAX_MS, false },
		{ 429, RETRY_AFTER_NONE, 0, true },
		{ 429, 0, 0, true },
		{ 503, 7000, TRANSIENT_MS, false },
		{ 503, 2 * TRANSIENT_MS, 2 * TRANSIENT_MS, false },
		{ 503, MAX_MS + 1, MAX_MS, false },
		{ 503, RETRY_AFTER_NONE, TRANSIENT_MS, false },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct failure f = { .end = ATTEMPT_STATUS,
			.status = rows[i].status,
			.code = "",
			.type = "",
			.model = "m",
			.retry_after_ms = rows[i].hint_ms };
		struct outcome o = outcome_of(&f, &usual);

		assert_int_equal(o.cooldown_ms, rows[i].wanted_ms);
		assert_int_equal(o.ladder, rows[i].ladder);
	}
}

static void
disabled_cooling_costs_nothing_but_still_moves_on(void **state UNUSED)
{
	struct cooling off = usual;
	struct outcome o;

	off.disabled = true;
	for (int status = 401; status < 530; status++) {
		o = outcome_of_body(status, "{}", &off);
		assert_int_equal(o.cooldown_ms, 0);
		assert_false(o.ladder);
		if (status != 409 && status != 413 && status != 422)
			assert_int_equal(o.action, OUTCOME_OTHER);
	}
}

static void
side_endpoints_say_little_about_the_model(void **state UNUSED)
{
	static const struct {
		enum operation operation;
		int status;
		const char *body;
		enum cool_reason reason;
	} rows[] = {
		{ OPERATION_COUNT_TOKENS, 404, "no route", COOL_NONE },
		{ OPERATION_COUNT_TOKENS, 404, "model claude-x not found",
		    COOL_NOT_FOUND },
		{ OPERATION_GEMINI_COUNT, 404, "no route", COOL_NONE },
		{ OPERATION_COUNT_TOKENS, 500, "no route", COOL_TRANSIENT },
		{ OPERATION_MESSAGES, 404, "no route", COOL_NOT_FOUND },
		{ OPERATION_COMPACT, 500, "", COOL_NONE },
		{ OPERATION_COMPACT, 404, "", COOL_NONE },
		{ OPERATION_COMPACT, 401, "", COOL_UNAUTHORIZED },
		{ OPERATION_COMPACT, 403, "", COOL_FORBIDDEN },
		{ OPERATION_COMPACT, 429, "", COOL_QUOTA },
		{ OPERATION_COMPACT, 503, "cf-mitigated", COOL_CHALLENGE },
		{ OPERATION_COMPACT, 400, "invalid_grant", COOL_INVALID_GRANT },
		{ OPERATION_COMPACT, 422, "unsupported model", COOL_NONE },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct failure f = { .end = ATTEMPT_STATUS,
			.status = rows[i].status,
			.text = span_of(rows[i].body),
			.code = "",
			.type = "",
			.operation = rows[i].operation,
			.model = "claude-x",
			.retry_after_ms = RETRY_AFTER_NONE };
		struct outcome o = outcome_of(&f, &usual);

		assert_int_equal(o.reason, rows[i].reason);
		assert_int_equal(o.action, OUTCOME_OTHER);
	}
}

static void
assert_delay(const char *body, int64_t wanted_ms)
{
	struct error_body e;

	error_body_read(&e, body, strlen(body));
	assert_true(e.json);
	assert_string_equal(e.type, "");
	assert_int_equal(e.delay_ms, wanted_ms);
}

static void
error_bodies_are_read_wherever_they_say_it(void **state UNUSED)
{
	static const char body[] =
	    "{\"type\":\"error\",\"error\":{\"type\":\"usage_limit_reached\","
	    "\"message\":\"The \\u201climit\\u201d\",\"code\":null,"
	    "\"resets_in_seconds\":90,\"resets_at\":\"1700000000\"},"
	    "\"message\":\"outer\",\"code\":17}";
	struct error_body e;

	error_body_read(&e, body, sizeof(body) - 1);
	assert_true(e.json);
	assert_string_equal(e.type, "usage_limit_reached");
	assert_string_equal(e.message, "The \u201climit\u201d");
	assert_string_equal(e.code, "17");
	assert_int_equal(e.delay_ms, 90000);
	assert_int_equal(e.resets_at_s, 1700000000);

	assert_delay(
	    "{\"error\":{\"details\":[{\"@type\":\"x\",\"type\":\"y\"},"
	    "{\"retryDelay\":\"36.5s\"}]}}",
	    36500);
	assert_delay("{\"error\":{\"details\":[{\"metadata\":"
		     "{\"quotaResetDelay\":\"1h16m0.667s\"}}]}}",
	    4560667);
	assert_delay("{\"error\":{\"details\":[{\"metadata\":"
		     "{\"quotaResetDelay\":\"9s\"}},{\"retryDelay\":\"3s\"}],"
		     "\"message\":\"again in 5s\"}}",
	    3000);
	assert_delay(
	    "[{\"error\":{\"message\":\"Resets after 1m2s.\"}}]", 62000);
	assert_delay(
	    "{\"error\":{\"message\":\"after 9s\",\"resets_at\":5}}", -1);
	assert_delay("{\"error\":{\"resets_in_seconds\":1.5}}", 1500);
	assert_delay("{\"error\":{\"details\":\"again in 5s\"}}", -1);

	error_body_read(&e, "{\"error\":\"plain words\"}", 23);
	assert_string_equal(e.message, "plain words");
	error_body_read(&e, "{\"detail\":\"Not so\"}", 19);
	assert_string_equal(e.message, "Not so");
	assert_int_equal(e.resets_at_s, -1);
	error_body_read(&e, "<html>", 6);
	assert_false(e.json);
	assert_string_equal(e.message, "");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_status_has_its_price),
		cmocka_unit_test(bodies_can_say_that_the_request_is_at_fault),
		cmocka_unit_test(unsupported_model_is_not_the_requests_fault),
		cmocka_unit_test(
		    challenges_and_dead_grants_are_nobodys_request),
		cmocka_unit_test(a_quota_of_the_account_closes_every_model),
		cmocka_unit_test(rules_of_the_operator_overrule_the_table),
		cmocka_unit_test(broken_path_costs_only_its_owner),
		cmocka_unit_test(a_hint_is_followed_within_bounds),
		cmocka_unit_test(
		    disabled_cooling_costs_nothing_but_still_moves_on),
		cmocka_unit_test(side_endpoints_say_little_about_the_model),
		cmocka_unit_test(error_bodies_are_read_wherever_they_say_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

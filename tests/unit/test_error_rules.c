/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/alloc.h"
#include "common/attr.h"
#include "common/store.h"
#include "tests/unit/scratch.h"
#include "worker/relay/error_rules.h"

static char *denied[] = { (char *)(uintptr_t) "denied",
	(char *)(uintptr_t) "policy" };
static char *numbered[] = { (char *)(uintptr_t) "code [0-9]+$" };

static struct error_rule rules_v[] = {
	{ 403, { denied, 2 }, { NULL, 0 }, ERROR_ACTION_STOP },
	{ 0, { NULL, 0 }, { numbered, 1 }, ERROR_ACTION_CONTINUE },
	{ 403, { denied, 1 }, { NULL, 0 }, ERROR_ACTION_CONTINUE },
	{ 418, { NULL, 0 }, { NULL, 0 }, ERROR_ACTION_STOP_AND_COOLDOWN },
	{ 403, { denied, 1 }, { numbered, 1 },
	    ERROR_ACTION_CONTINUE_AND_COOLDOWN },
};
static const struct error_rules rules = { rules_v, ARRAY_LEN(rules_v) };

static const struct {
	int status;
	const char *text;
	int action; /* -1: none holds */
} rows[] = {
	{ 403, "it is denied", ERROR_ACTION_STOP },
	{ 403, "a policy", ERROR_ACTION_STOP },
	{ 403, "DENIED", -1 },
	{ 400, "it is denied", -1 },
	{ 500, "this is code 17", ERROR_ACTION_CONTINUE },
	{ 500, "this is code 17!", -1 },
	{ 403, "code 3", ERROR_ACTION_CONTINUE },
	{ 418, "", ERROR_ACTION_STOP_AND_COOLDOWN },
	{ 200, "", -1 },
};

static void
first_rule_that_holds_decides(void **state UNUSED)
{
	enum error_action action;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		bool holds = error_rules_find(
		    &rules, rows[i].status, span_of(rows[i].text), &action);

		assert_int_equal(holds, rows[i].action >= 0);
		if (holds)
			assert_int_equal(action, rows[i].action);
	}
}

/* The text is part of a buffer that goes on. */
static void
expressions_end_where_the_text_does(void **state UNUSED)
{
	struct span text = { "code 17 and more", 7 };
	enum error_action action;

	assert_true(error_rules_find(&rules, 500, text, &action));
	text.len = 4;
	assert_false(error_rules_find(&rules, 500, text, &action));
}

static void
rules_of_a_section_come_with_its_credentials(void **state UNUSED)
{
	struct scratch scratch;
	struct state_credential_input in = {
		.id = "c",
		.label = "",
		.provider_name = "claude",
		.source = "config",
		.base_url = "",
		.proxy = "",
		.secret = "",
		.account_id = "",
		.prefix = "",
		.errors = &rules,
	};
	const struct state_credential *c;
	enum error_action action;
	struct store store;
	MDB_txn *txn;

	scratch_make(&scratch);
	assert_int_equal(store_open_master(&store, STORE_STATE, scratch.dir,
			     "11111111-2222-3333-4444-555555555555"),
	    0);
	assert_int_equal(store_write(&store, &txn), 0);
	assert_int_equal(state_put_credential(&store, txn, &in), 0);
	assert_int_equal(store_commit(txn), 0);
	assert_int_equal(store_read(&store, &txn), 0);
	assert_int_equal(state_get_credential(&store, txn, "c", &c), 0);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		bool holds = error_rules_find_own(
		    c, rows[i].status, span_of(rows[i].text), &action);

		assert_int_equal(holds, rows[i].action >= 0);
		if (holds)
			assert_int_equal(action, rows[i].action);
	}
	store_read_end(&store);
	store_close(&store, false);
	scratch_remove(&scratch);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(first_rule_that_holds_decides),
		cmocka_unit_test(expressions_end_where_the_text_does),
		cmocka_unit_test(rules_of_a_section_come_with_its_credentials),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/* record.h: what the ledger keeps of refreshes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/clock.h"
#include "master/refresh/record.h"
#include "tests/unit/scratch.h"

struct ledger {
	struct scratch scratch;
	struct store store;
};

static char seen[256];

static int
set_up(void **state)
{
	static struct ledger l;
	char boot_id[37];

	scratch_make(&l.scratch);
	assert_int_equal(clock_boot_id(boot_id), 0);
	assert_int_equal(
	    store_open_master(&l.store, STORE_LEDGER, l.scratch.dir, boot_id),
	    0);
	*state = &l;
	return 0;
}

static int
tear_down(void **state)
{
	struct ledger *l = *state;

	store_close(&l->store, true);
	scratch_remove(&l->scratch);
	return 0;
}

static void
on_record(void *ctx, const char *id, const struct refresh_record *r)
{
	size_t len = strlen(seen);

	assert_ptr_equal(ctx, seen);
	(void)snprintf(seen + len, sizeof(seen) - len, "%s=%u:%s ", id, r->kind,
	    r->reason);
}

static void
records_are_kept_replaced_and_forgotten(void **state)
{
	struct store *store = &((struct ledger *)*state)->store;
	struct refresh_record a = { .kind = REFRESH_INTENT, .reason = "one" };
	struct refresh_record b = { .kind = REFRESH_LOGIN, .reason = "two" };

	assert_int_equal(refresh_record_put(store, "b.json", &b), 0);
	assert_int_equal(refresh_record_put(store, "a.json", &b), 0);
	assert_int_equal(refresh_record_put(store, "a.json", &a), 0);
	seen[0] = '\0';
	assert_int_equal(refresh_record_each(store, on_record, seen), 0);
	assert_string_equal(seen, "a.json=1:one b.json=3:two ");
	assert_int_equal(refresh_record_delete(store, "a.json"), 0);
	assert_int_equal(refresh_record_delete(store, "a.json"), 0);
	seen[0] = '\0';
	assert_int_equal(refresh_record_each(store, on_record, seen), 0);
	assert_string_equal(seen, "b.json=3:two ");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
		    records_are_kept_replaced_and_forgotten, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

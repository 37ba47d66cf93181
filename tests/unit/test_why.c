/* SPDX-License-Identifier: MIT */
#include "common/why.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/attr.h"
#include "tests/unit/scratch.h"

enum { SLOT = 3, GOOD = 1, BAD = 2 };

static struct scratch scratch;
static struct why *ring;
static struct why_found found;

static void
open_ring(void)
{
	assert_int_equal(why_open(scratch.dir, SLOT, &ring), 0);
	why_word(ring, WHY_DIALECT, 1, "claude");
	why_word(ring, WHY_DECISION, GOOD, "hit");
	why_word(ring, WHY_DECISION, BAD, "moved");
	why_word(ring, WHY_PIN, 0, "none");
	why_word(ring, WHY_OUTCOME, GOOD, "ok");
	why_word(ring, WHY_OUTCOME, BAD, "status");
	why_word(ring, WHY_PASSED_OVER, BAD, "cooling");
}

static int
set_up(void **state UNUSED)
{
	scratch_make(&scratch);
	open_ring();
	return 0;
}

static int
tear_down(void **state UNUSED)
{
	why_close(ring);
	scratch_remove(&scratch);
	return 0;
}

static uint64_t
begin(const char *request_id)
{
	const struct why_request request = {
		.request_id = request_id,
		.model = "m",
		.source = "header x",
		.session = "s",
		.dialect = 1,
	};

	return why_begin(ring, &request);
}

static int
find(const char *request_id)
{
	return why_find(scratch.dir, SLOT, getpid(), request_id, &found);
}

static void
what_was_written_is_found(void **state UNUSED)
{
	uint64_t n = begin("r1");
	int first, second;

	why_passed_over(ring, n, "A", BAD);
	why_passed_over(ring, n, "A", BAD);
	first = why_attempt_begin(ring, n, "B");
	why_attempt_end(ring, n, first, 429, BAD, 12300);
	second = why_attempt_begin(ring, n, "C");
	why_decided(ring, n, BAD, 0, -7);

	assert_int_equal(find("r1"), 0);
	assert_string_equal(found.request_id, "r1");
	assert_string_equal(found.model, "m");
	assert_string_equal(found.source, "header x");
	assert_string_equal(found.session, "s");
	assert_string_equal(found.dialect, "claude");
	assert_string_equal(found.decision, "moved");
	assert_string_equal(found.pin, "none");
	assert_int_equal(found.tier, -7);
	assert_false(found.orphaned);
	assert_int_equal(found.npassed, 1);
	assert_string_equal(found.passed[0].credential, "A");
	assert_string_equal(found.passed[0].why, "cooling");
	assert_int_equal(found.nattempts, 2);
	assert_string_equal(found.attempts[0].credential, "B");
	assert_int_equal(found.attempts[0].status, 429);
	assert_string_equal(found.attempts[0].outcome, "status");
	assert_int_equal((int)(found.attempts[0].ms * 10), 123);
	assert_string_equal(found.attempts[1].credential, "C");
	assert_false(found.attempts[1].ended);

	why_attempt_drop(ring, n, second);
	assert_int_equal(find("r1"), 0);
	assert_int_equal(found.nattempts, 1);
	assert_int_equal(find("r2"), WHY_MISS);
	assert_int_equal(
	    why_find(scratch.dir, SLOT + 1, 0, "r1", &found), WHY_MISS);
}

static void
undecided_has_no_decision(void **state UNUSED)
{
	(void)begin("r1");
	assert_int_equal(find("r1"), 0);
	assert_string_equal(found.decision, "");
	assert_int_equal(found.nattempts, 0);
}

static void
the_last_ten_thousand_are_kept(void **state UNUSED)
{
	uint64_t oldest = begin("r-1");
	char id[32];

	for (int i = 0; i < WHY_RECORDS; i++) {
		(void)snprintf(id, sizeof(id), "r%d", i);
		(void)begin(id);
	}
	assert_int_equal(find("r-1"), WHY_MISS);
	/* Its late end is nobody else's. */
	why_decided(ring, oldest, GOOD, 0, 5);
	assert_int_equal(why_attempt_begin(ring, oldest, "A"), -1);
	for (int i = 0; i < WHY_RECORDS; i += WHY_RECORDS / 10 - 1) {
		(void)snprintf(id, sizeof(id), "r%d", i);
		assert_int_equal(find(id), 0);
		assert_string_equal(found.decision, "");
	}
}

static void
too_much_is_left_out(void **state UNUSED)
{
	uint64_t n = begin("r1");
	char id[300];

	memset(id, 'x', sizeof(id));
	id[sizeof(id) - 1] = '\0';
	for (int i = 0; i < WHY_ATTEMPTS; i++)
		assert_int_equal(why_attempt_begin(ring, n, id), i);
	assert_int_equal(why_attempt_begin(ring, n, id), -1);
	why_attempt_end(ring, n, -1, 200, GOOD, 1);
	for (int i = 0; i < WHY_PASSED + 5; i++) {
		(void)snprintf(id, sizeof(id), "credential-%d", i);
		why_passed_over(ring, n, id, BAD);
	}
	assert_int_equal(find("r1"), 0);
	assert_int_equal(found.nattempts, WHY_ATTEMPTS);
	assert_int_equal(strlen(found.attempts[0].credential), WHY_ID_SIZE - 1);
	assert_int_equal(found.npassed, WHY_PASSED);
	assert_string_equal(found.passed[15].credential, "credential-15");
}

static void
names_lost_to_others_are_told_as_unknown(void **state UNUSED)
{
	uint64_t n = begin("r1");
	char id[32];

	(void)why_attempt_begin(ring, n, "first");
	for (int i = 0; i < 100000; i++) {
		(void)snprintf(id, sizeof(id), "credential-%d", i);
		(void)why_attempt_begin(ring, begin("other"), id);
	}
	n = begin("r2");
	(void)why_attempt_begin(ring, n, "first");
	assert_int_equal(find("r2"), 0);
	assert_string_equal(found.attempts[0].credential, "first");
}

static void
the_next_process_goes_on_where_one_died(void **state UNUSED)
{
	uint64_t n = begin("r1");

	(void)why_attempt_begin(ring, n, "A");
	assert_int_equal(why_find(scratch.dir, SLOT, 0, "r1", &found), 0);
	assert_true(found.orphaned);
	why_close(ring);
	open_ring();
	assert_int_equal(begin("r2"), n + 1);
	assert_int_equal(find("r1"), 0);
	assert_true(found.orphaned);
	assert_string_equal(found.attempts[0].credential, "A");
	assert_int_equal(find("r2"), 0);
	assert_false(found.orphaned);
}

static void
a_file_of_another_layout_is_made_anew(void **state UNUSED)
{
	char path[128];
	struct stat st;
	int fd;

	(void)begin("r1");
	why_close(ring);
	(void)snprintf(path, sizeof(path), "%s/why.%d", scratch.dir, SLOT);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_int_equal(pwrite(fd, "xx", 2, 0), 2);
	assert_int_equal(close(fd), 0);
	assert_int_equal(find("r1"), WHY_MISS);
	open_ring();
	assert_int_equal(find("r1"), WHY_MISS);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	/* Nothing of it is a hole that a full disk could turn into SIGBUS. */
	assert_true((off_t)st.st_blocks * 512 >= st.st_size);
}

static void
without_a_ring_nothing_happens(void **state UNUSED)
{
	const struct why_request request = { .request_id = "r1" };

	assert_int_equal(why_begin(NULL, &request), 0);
	why_word(NULL, WHY_PIN, 0, "none");
	why_decided(NULL, 0, GOOD, 0, 0);
	why_passed_over(NULL, 0, "A", BAD);
	assert_int_equal(why_attempt_begin(NULL, 0, "A"), -1);
	why_attempt_end(NULL, 0, -1, 0, 0, 0);
	why_attempt_drop(NULL, 0, -1);
	why_close(NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_was_written_is_found),
		TEST(undecided_has_no_decision),
		TEST(the_last_ten_thousand_are_kept),
		TEST(too_much_is_left_out),
		TEST(names_lost_to_others_are_told_as_unknown),
		TEST(the_next_process_goes_on_where_one_died),
		TEST(a_file_of_another_layout_is_made_anew),
		cmocka_unit_test(without_a_ring_nothing_happens),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

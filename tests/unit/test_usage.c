/* SPDX-License-Identifier: MIT */
/* Usage records from the line that is written to the totals. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/usage_line.h"
#include "master/usage/fold.h"
#include "master/usage/search.h"
#include "master/usage/totals.h"
#include "tests/unit/scratch.h"

/* 2026-11-22T10:00:00Z */
#define TIME_S INT64_C(1795341600)

struct fixture {
	struct scratch scratch;
	struct store store;
	char path[256];
	int fd;
};

static int
set_up(void **state)
{
	struct fixture *f = test_calloc(1, sizeof(*f));

	*state = f;
	scratch_make(&f->scratch);
	assert_int_equal(
	    store_open_master(&f->store, STORE_LEDGER, f->scratch.dir, "boot"),
	    0);
	(void)snprintf(f->path, sizeof(f->path), "%s/usage", f->scratch.dir);
	f->fd = open(f->path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	assert_true(f->fd >= 0);
	return 0;
}

static int
tear_down(void **state)
{
	struct fixture *f = *state;

	(void)close(f->fd);
	store_close(&f->store, true);
	scratch_remove(&f->scratch);
	test_free(f);
	return 0;
}

static struct board_attempt
attempt(const char *request_id, unsigned number)
{
	struct board_attempt a = { .number = (uint8_t)number,
		.dialect = DIALECT_CLAUDE,
		.stream = 1,
		.has_client = 1,
		.client = { 0xab, 1, 2, 3, 4, 5 },
		.session = "claude:1...",
		.provider = "claude",
		.model = "a\"b\n\x01",
		.upstream = "up",
		.id = "c\\.json",
		.record_s = TIME_S };

	(void)snprintf(a.request_id, sizeof(a.request_id), "%s", request_id);
	return a;
}

static const struct tokens some_tokens = { { 10, 6, 4, -1, 5, 16 } };

static void
put(struct buf *b, const char *request_id, unsigned number, bool failed)
{
	struct board_attempt a = attempt(request_id, number);
	const struct usage_end end = { .time_s = TIME_S,
		.status = failed ? 500 : 200,
		.failed = failed,
		.outcome = failed ? "status" : "ok",
		.error = failed ? "it \"broke\"" : "",
		.latency_us = 1500,
		.ttft_us = failed ? -1 : 1002,
		.tokens = failed ? NULL : &some_tokens };

	usage_line_put(b, &a, &end);
}

static void
a_record_is_one_line_with_every_member(void **state UNUSED)
{
	static const char want[] =
	    "{\"time\":\"2026-11-22T10:00:00Z\",\"request_id\":\"id-1\","
	    "\"attempt\":2,\"dialect\":\"claude\",\"provider\":\"claude\","
	    "\"model\":\"a\\\"b\\n\\u0001\",\"upstream_model\":\"up\","
	    "\"credential\":\"c\\\\.json\",\"client\":\"ab0102030405\","
	    "\"session\":\"claude:1...\",\"stream\":true,\"status\":200,"
	    "\"failed\":false,\"outcome\":\"ok\",\"error\":null,"
	    "\"latency_ms\":1.500,\"ttft_ms\":1.002,\"tokens\":{\"input\":10,"
	    "\"output\":6,\"cached\":4,\"cache_write\":null,\"reasoning\":5,"
	    "\"total\":16}}\n";
	struct buf b = BUF_INIT(USAGE_LINE_MAX);

	put(&b, "id-1", 2, false);
	assert_string_equal(buf_string(&b), want);
	buf_clear(&b);
	put(&b, "id-1", 1, true);
	assert_non_null(strstr(buf_string(&b),
	    "\"status\":500,\"failed\":true,\"outcome\":\"status\","
	    "\"error\":\"it \\\"broke\\\"\",\"latency_ms\":1.500,"
	    "\"ttft_ms\":null,\"tokens\":null}\n"));
	buf_fini(&b);
}

static void
what_is_written_is_read_back(void **state UNUSED)
{
	struct buf b = BUF_INIT(USAGE_LINE_MAX);
	struct usage_line l;

	put(&b, "id-1", 2, false);
	assert_true(usage_line_read(&l, b.data, b.len - 1));
	assert_string_equal(l.day, "2026-11-22");
	assert_string_equal(l.request_id, "id-1");
	assert_int_equal(l.attempt, 2);
	assert_string_equal(l.model, "a\"b\n\x01");
	assert_string_equal(l.credential, "c\\.json");
	assert_string_equal(l.client, "ab0102030405");
	assert_false(l.failed);
	assert_true(l.has_tokens);
	assert_memory_equal(&l.tokens, &some_tokens, sizeof(some_tokens));
	buf_clear(&b);
	put(&b, "id-1", 2, true);
	assert_true(usage_line_read(&l, b.data, b.len - 1));
	assert_true(l.failed);
	assert_false(l.has_tokens);
	buf_fini(&b);
}

/* Cut anywhere, a line is no record, and costs the next one nothing. */
static void
a_line_cut_short_leaves_the_next_one_whole(void **state UNUSED)
{
	struct buf whole = BUF_INIT(USAGE_LINE_MAX);
	struct buf both = BUF_INIT(2 * USAGE_LINE_MAX);
	struct usage_line l;

	put(&whole, "id-1", 1, false);
	for (size_t cut = 0; cut < whole.len; cut++) {
		if (cut < whole.len - 1)
			assert_false(usage_line_read(&l, whole.data, cut));
		buf_clear(&both);
		buf_append(&both, whole.data, cut);
		put(&both, "id-2", 1, false);
		assert_true(usage_line_read(&l, both.data, both.len - 1));
		assert_string_equal(l.request_id, "id-2");
	}
	buf_fini(&whole);
	buf_fini(&both);
}

static void
other_lines_are_no_records(void **state UNUSED)
{
	static const char *const lines[] = {
		"",
		"x",
		"{}",
		"[1]",
		"{\"time\":\"2026-11-22T10:00:00Z\"}",
		"{\"time\":\"2026-1122T10:00:00Z\",\"request_id\":\"x\","
		"\"attempt\":1}",
		"{\"time\":\"2026-11-22T10:00:00Z\",\"request_id\":\"x\","
		"\"attempt\":0}",
		"{\"time\":\"2026-11-22T10:00:00Z\",\"request_id\":\"x\","
		"\"attempt\":1}x",
		"{\"time\":\"2026-11-22T10:00:00Z\",\"request_id\":\"x\","
		"\"attempt\":99999999999999999999}",
		"{\"time\":\"2026-11-22T10:00:00Z\",\"request_id\":\"x\","
		"\"attempt\":1,\"tokens\":[]}",
	};
	struct usage_line l;

	for (size_t i = 0; i < ARRAY_LEN(lines); i++)
		assert_false(usage_line_read(&l, lines[i], strlen(lines[i])));
}

/* ---- folding */

static void
append(struct fixture *f, const struct buf *b, size_t from, size_t to)
{
	assert_int_equal(write(f->fd, b->data + from, to - from), to - from);
}

static void
fold_all(struct fixture *f, struct fold *fold)
{
	bool more = true;

	*fold = (struct fold){ .fd = f->fd };
	while (more)
		assert_int_equal(fold_step(&f->store, fold, &more), 0);
}

static int
total(struct fixture *f, const char *member)
{
	cJSON *rows;
	const cJSON *row, *value;
	int sum = 0;

	assert_int_equal(totals_report(&f->store, TOTALS_DAY, "", &rows), 0);
	cJSON_ArrayForEach (row, rows) {
		value = cJSON_GetObjectItem(row, member);
		if (value == NULL)
			value = cJSON_GetObjectItem(
			    cJSON_GetObjectItem(row, "tokens"), member);
		sum += (int)value->valuedouble;
	}
	cJSON_Delete(rows);
	return sum;
}

static void
each_record_is_folded_once(void **state)
{
	struct fixture *f = *state;
	struct buf b = BUF_INIT(1 << 20);
	struct fold fold;

	fold_all(f, &fold);
	assert_int_equal(total(f, "requests"), 0);
	put(&b, "id-1", 1, true);
	put(&b, "id-1", 2, false);
	append(f, &b, 0, b.len);
	fold_all(f, &fold);
	assert_int_equal(fold.records, 2);
	assert_int_equal(fold.offset, b.len);
	fold_all(f, &fold);
	assert_int_equal(fold.records, 0);
	assert_int_equal(total(f, "requests"), 2);
	assert_int_equal(total(f, "failed"), 1);
	assert_int_equal(total(f, "input"), 10);
	assert_int_equal(total(f, "cache_write"), 0);
	assert_int_equal(total(f, "total"), 16);
	/* One that is not all there yet waits. */
	append(f, &b, 0, b.len - 1);
	fold_all(f, &fold);
	assert_int_equal(fold.records, 1);
	append(f, &b, b.len - 1, b.len);
	fold_all(f, &fold);
	assert_int_equal(fold.records, 1);
	assert_int_equal(total(f, "requests"), 4);
	buf_fini(&b);
}

static void
a_file_is_known_by_its_beginning(void **state)
{
	struct fixture *f = *state;
	struct buf b = BUF_INIT(1 << 20);
	struct fold fold;

	put(&b, "id-1", 1, false);
	append(f, &b, 0, b.len);
	fold_all(f, &fold);
	/* The same inode, and another file: all of it is new. */
	assert_int_equal(ftruncate(f->fd, 0), 0);
	buf_clear(&b);
	put(&b, "id-2", 1, false);
	put(&b, "id-3", 1, false);
	append(f, &b, 0, b.len);
	fold_all(f, &fold);
	assert_int_equal(fold.records, 2);
	assert_int_equal(total(f, "requests"), 3);
	/* Cut back to a part that was folded: nothing of it is new. */
	assert_int_equal(ftruncate(f->fd, (off_t)b.len / 2), 0);
	fold_all(f, &fold);
	assert_int_equal(total(f, "requests"), 3);
	buf_fini(&b);
}

static void
large_files_take_several_steps(void **state)
{
	struct fixture *f = *state;
	struct buf b = BUF_INIT(4 << 20);
	struct fold fold;
	char id[24];
	int n;

	for (n = 0; b.len < FOLD_STEP * 5 / 2; n++) {
		(void)snprintf(id, sizeof(id), "id-%d", n);
		put(&b, id, 1, n % 3 == 0);
		if (n % 100 == 0)
			buf_puts(&b, "no record\n");
	}
	append(f, &b, 0, b.len);
	fold_all(f, &fold);
	assert_int_equal(fold.records, n);
	assert_int_equal(fold.broken, (n + 99) / 100);
	assert_int_equal(total(f, "requests"), n);
	buf_fini(&b);
}

static size_t
meta_records(struct fixture *f)
{
	MDB_stat stat;
	MDB_txn *txn;

	assert_int_equal(store_read(&f->store, &txn), 0);
	assert_int_equal(mdb_stat(txn, f->store.tables[LEDGER_META], &stat), 0);
	store_read_end(&f->store);
	return stat.ms_entries;
}

static void
only_so_many_files_are_remembered(void **state)
{
	struct fixture *f = *state;
	struct buf b = BUF_INIT(1 << 20);
	size_t before = meta_records(f);
	struct fold fold;
	char id[24];

	for (int i = 0; i < FOLD_FILES_KEPT + 9; i++) {
		assert_int_equal(ftruncate(f->fd, 0), 0);
		buf_clear(&b);
		(void)snprintf(id, sizeof(id), "id-%d", i);
		put(&b, id, 1, false);
		append(f, &b, 0, b.len);
		fold_all(f, &fold);
	}
	fold_all(f, &fold);
	assert_int_equal(total(f, "requests"), FOLD_FILES_KEPT + 9);
	assert_int_equal(meta_records(f), before + FOLD_FILES_KEPT);
	buf_fini(&b);
}

static void
a_full_ledger_changes_nothing_until_there_is_room(void **state)
{
	struct fixture *f = *state;
	struct buf b = BUF_INIT(4 << 20);
	struct fold fold = { .fd = f->fd };
	bool more;
	char id[24];

	store_close(&f->store, true);
	store_set_map_size_for_test(STORE_LEDGER, 64 << 10);
	assert_int_equal(
	    store_open_master(&f->store, STORE_LEDGER, f->scratch.dir, "boot"),
	    0);
	for (int n = 0; n < 1000; n++) {
		struct board_attempt a;

		(void)snprintf(id, sizeof(id), "id-%d", n);
		a = attempt(id, 1);
		(void)snprintf(a.id, sizeof(a.id), "credential-%d", n);
		usage_line_put(&b, &a,
		    &(struct usage_end){
			.time_s = TIME_S, .outcome = "ok", .error = "" });
	}
	append(f, &b, 0, b.len);
	assert_int_equal(fold_step(&f->store, &fold, &more), -ENOSPC);
	assert_int_equal(total(f, "requests"), 0);
	store_close(&f->store, true);
	store_set_map_size_for_test(STORE_LEDGER, 0);
	assert_int_equal(
	    store_open_master(&f->store, STORE_LEDGER, f->scratch.dir, "boot"),
	    0);
	fold_all(f, &fold);
	assert_int_equal(total(f, "requests"), 1000);
	buf_fini(&b);
}

/* ---- reports */

static void
reports_add_up_what_is_not_asked_for(void **state)
{
	static const struct {
		unsigned by;
		const char *since;
		int rows, first;
	} asked[] = {
		{ TOTALS_CREDENTIAL, "", 2, 3 },
		{ TOTALS_MODEL, "", 1, 6 },
		{ TOTALS_DAY, "", 3, 2 },
		{ TOTALS_CLIENT, "", 1, 6 },
		{ TOTALS_USUAL, "", 6, 1 },
		{ TOTALS_CREDENTIAL, "2026-11-23", 2, 2 },
		{ TOTALS_DAY, "2026-11-25", 0, 0 },
	};
	struct fixture *f = *state;
	struct buf b = BUF_INIT(1 << 20);
	struct fold fold;

	for (int i = 0; i < 6; i++) {
		struct board_attempt a = attempt("id", 1);

		(void)snprintf(a.id, sizeof(a.id), "c%d", i % 2);
		usage_line_put(&b, &a,
		    &(struct usage_end){ .time_s = TIME_S + i / 2 * 86400,
			.outcome = "ok",
			.error = "" });
	}
	append(f, &b, 0, b.len);
	fold_all(f, &fold);
	for (size_t i = 0; i < ARRAY_LEN(asked); i++) {
		const cJSON *row;
		cJSON *rows;

		assert_int_equal(totals_report(&f->store, asked[i].by,
				     asked[i].since, &rows),
		    0);
		assert_int_equal(cJSON_GetArraySize(rows), asked[i].rows);
		row = cJSON_GetArrayItem(rows, 0);
		if (row != NULL) {
			assert_int_equal(
			    cJSON_GetObjectItem(row, "requests")->valuedouble,
			    asked[i].first);
			assert_int_equal(
			    cJSON_IsNull(cJSON_GetObjectItem(row, "model")),
			    (asked[i].by & TOTALS_MODEL) == 0);
		}
		cJSON_Delete(rows);
	}
	buf_fini(&b);
}

/* ---- the records of who died */

static void
a_record_is_found_where_it_is_whole(void **state)
{
	struct fixture *f = *state;
	struct board_attempt last = attempt("last", 1);
	struct board_attempt twelfth = attempt("id-7", 12);
	struct board_attempt first = attempt("id-7", 1);
	struct buf b = BUF_INIT(8 << 20);

	assert_false(search_record(f->fd, &last));
	put(&b, "id-7", 12, false);
	while (b.len < 3 << 20)
		put(&b, "more", 1, false);
	append(f, &b, 0, b.len);
	assert_true(search_record(f->fd, &twelfth));
	assert_false(search_record(f->fd, &first));
	/* It is not looked for among records that are older by far. */
	twelfth.record_s += 60;
	assert_false(search_record(f->fd, &twelfth));

	buf_clear(&b);
	put(&b, "last", 1, false);
	append(f, &b, 0, b.len - 1);
	assert_false(search_record(f->fd, &last));
	append(f, &b, b.len - 1, b.len);
	assert_true(search_record(f->fd, &last));
	buf_fini(&b);
}

int
main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_record_is_one_line_with_every_member),
		cmocka_unit_test(what_is_written_is_read_back),
		cmocka_unit_test(a_line_cut_short_leaves_the_next_one_whole),
		cmocka_unit_test(other_lines_are_no_records),
		CASE(each_record_is_folded_once),
		CASE(a_file_is_known_by_its_beginning),
		CASE(large_files_take_several_steps),
		CASE(only_so_many_files_are_remembered),
		CASE(a_full_ledger_changes_nothing_until_there_is_room),
		CASE(reports_add_up_what_is_not_asked_for),
		CASE(a_record_is_found_where_it_is_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

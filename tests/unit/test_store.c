/* SPDX-License-Identifier: MIT */
#include "common/store.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/attr.h"
#include "tests/unit/scratch.h"

#define BOOT_A "aaaaaaaa-1111-2222-3333-444444444444"
#define BOOT_B "bbbbbbbb-1111-2222-3333-444444444444"

static struct scratch scratch;

static int
set_up(void **state UNUSED)
{
	scratch_make(&scratch);
	return 0;
}

static int
tear_down(void **state UNUSED)
{
	for (int i = 0; i < STORE_MAX; i++)
		store_set_map_size_for_test((enum store_kind)i, 0);
	scratch_remove(&scratch);
	return 0;
}

static const char *
file_of(enum store_kind kind, const char *name)
{
	static char path[128];

	(void)snprintf(path, sizeof(path), "%s/%s/%s", scratch.dir,
	    store_name(kind), name);
	return path;
}

static int
put(MDB_txn *txn, MDB_dbi table, const char *key, size_t value_len)
{
	char value[1024];
	MDB_val k = { strlen(key), (void *)(uintptr_t)key };
	MDB_val v = { value_len, value };

	memset(value, 'v', sizeof(value));
	return store_errno(mdb_put(txn, table, &k, &v, 0));
}

static int
write_key(struct store *s, const char *key)
{
	MDB_txn *txn;
	int rc;

	rc = store_write(s, &txn);
	if (rc < 0)
		return rc;
	rc = put(txn, s->tables[1], key, 8);
	if (rc < 0) {
		mdb_txn_abort(txn);
		return rc;
	}
	return store_commit(txn);
}

static int
has_key(struct store *s, const char *key)
{
	MDB_val k = { strlen(key), (void *)(uintptr_t)key }, v;
	MDB_txn *txn;
	int rc;

	rc = store_read(s, &txn);
	if (rc < 0)
		return rc;
	rc = store_errno(mdb_get(txn, s->tables[1], &k, &v));
	store_read_end(s);
	return rc;
}

static void
environments_are_private(void **state UNUSED)
{
	static const char *const files[] = { "", "data.mdb", "lock.mdb" };
	struct store store;
	struct stat st;

	for (int kind = 0; kind < STORE_MAX; kind++) {
		assert_int_equal(
		    store_open_master(
			&store, (enum store_kind)kind, scratch.dir, BOOT_A),
		    0);
		for (size_t i = 0; i < ARRAY_LEN(files); i++) {
			assert_int_equal(
			    stat(file_of((enum store_kind)kind, files[i]), &st),
			    0);
			assert_int_equal(
			    st.st_mode & 07777, i == 0 ? 0700 : 0600);
		}
		assert_true(store_used_bytes(&store) > 0);
		store_close(&store, true);
	}
}

static const struct {
	enum store_kind kind;
	bool clean;
	const char *boot;
	int expected;
	int kept; /* of what was written before */
} reopenings[] = {
	{ STORE_STATE, true, BOOT_A, 0, 0 },
	{ STORE_STATE, false, BOOT_A, 0, 0 },
	{ STORE_STATE, true, BOOT_B, 0, 0 },
	{ STORE_STATE, false, BOOT_B, STORE_STALE, -ENOENT },
	{ STORE_BINDINGS, false, BOOT_A, 0, 0 },
	{ STORE_BINDINGS, true, BOOT_B, 0, 0 },
	{ STORE_BINDINGS, false, BOOT_B, STORE_STALE, -ENOENT },
	{ STORE_LEDGER, false, BOOT_B, 0, 0 },
};

static void
what_was_not_closed_clean_is_stale_after_another_boot(void **state UNUSED)
{
	enum store_kind kind;
	struct store store;

	for (size_t i = 0; i < ARRAY_LEN(reopenings); i++) {
		kind = reopenings[i].kind;
		assert_int_equal(store_discard(kind, scratch.dir), 0);
		assert_int_equal(
		    store_open_master(&store, kind, scratch.dir, BOOT_A), 0);
		assert_int_equal(write_key(&store, "k"), 0);
		store_close(&store, reopenings[i].clean);

		assert_int_equal(store_open_master(&store, kind, scratch.dir,
				     reopenings[i].boot),
		    reopenings[i].expected);
		if (reopenings[i].expected == STORE_STALE) {
			assert_null(store.env);
			assert_int_equal(store_discard(kind, scratch.dir), 0);
			assert_int_equal(store_open_master(&store, kind,
					     scratch.dir, reopenings[i].boot),
			    0);
		}
		assert_int_equal(has_key(&store, "k"), reopenings[i].kept);
		store_close(&store, false);
	}
}

static void
environment_without_a_mark_is_stale(void **state UNUSED)
{
	struct store store;

	assert_int_equal(
	    store_open_master(&store, STORE_STATE, scratch.dir, BOOT_A), 0);
	store_close(&store, true);
	assert_int_equal(unlink(file_of(STORE_STATE, "boot")), 0);
	assert_int_equal(
	    store_open_master(&store, STORE_STATE, scratch.dir, BOOT_A),
	    STORE_STALE);
}

static void
damaged_environment_is_stale_and_can_be_discarded(void **state UNUSED)
{
	struct store store;
	char junk[8192];
	int fd;

	assert_int_equal(
	    store_open_master(&store, STORE_BINDINGS, scratch.dir, BOOT_A), 0);
	store_close(&store, true);
	memset(junk, 0x5a, sizeof(junk));
	fd = open(file_of(STORE_BINDINGS, "data.mdb"), O_WRONLY);
	assert_int_equal(write(fd, junk, sizeof(junk)), sizeof(junk));
	(void)close(fd);
	assert_int_equal(
	    store_open_master(&store, STORE_BINDINGS, scratch.dir, BOOT_A),
	    STORE_STALE);
	assert_int_equal(store_discard(STORE_BINDINGS, scratch.dir), 0);
	assert_int_equal(
	    store_open_master(&store, STORE_BINDINGS, scratch.dir, BOOT_A), 0);
	store_close(&store, false);
}

static void
put_schema(uint32_t schema)
{
	const uint32_t value[2] = { schema, 0 };
	MDB_val k = { 8, (void *)(uintptr_t) "schema\0" };
	MDB_val v = { sizeof(value), (void *)(uintptr_t)value };
	struct store store;
	MDB_txn *txn;

	assert_int_equal(
	    store_open_master(&store, STORE_LEDGER, scratch.dir, BOOT_A), 0);
	assert_int_equal(store.schema, STORE_SCHEMA);
	assert_int_equal(write_key(&store, "kept"), 0);
	assert_int_equal(store_write(&store, &txn), 0);
	if (schema != 0)
		assert_int_equal(
		    mdb_put(txn, store.tables[LEDGER_META], &k, &v, 0), 0);
	else
		assert_int_equal(
		    mdb_del(txn, store.tables[LEDGER_META], &k, NULL), 0);
	assert_int_equal(store_commit(txn), 0);
	store_close(&store, true);
}

static void
another_schema_is_told_and_left_alone(void **state UNUSED)
{
	const uint32_t schemas[] = { STORE_SCHEMA + 1, 99 };
	struct store store;
	size_t i;

	put_schema(schemas[0]);
	for (i = 0; i < 2; i++) {
		assert_int_equal(store_open_master(
				     &store, STORE_LEDGER, scratch.dir, BOOT_A),
		    STORE_OTHER);
		assert_int_equal(store.schema, schemas[0]);
		assert_null(store.env);
	}
	assert_int_equal(store_open_worker(&store, STORE_LEDGER, scratch.dir),
	    -EPROTONOSUPPORT);
}

static void
without_a_schema_it_is_the_first(void **state UNUSED)
{
	struct store store;

	put_schema(0);
	assert_int_equal(
	    store_open_master(&store, STORE_LEDGER, scratch.dir, BOOT_A),
	    STORE_SCHEMA == 1 ? 0 : STORE_OTHER);
	assert_int_equal(has_key(&store, "kept"), 0);
	store_close(&store, true);
}

static void
missing_state_directory_is_told(void **state UNUSED)
{
	struct store store;

	assert_int_equal(store_open_master(&store, STORE_STATE,
			     "/nonexistent/fairlead", BOOT_A),
	    -ENOENT);
	assert_int_equal(
	    store_open_worker(&store, STORE_STATE, scratch.dir), -ENOENT);
}

struct worker {
	struct gate gate;
	enum store_kind kind;
};

static int
work(void *ctx)
{
	struct worker *w = ctx;
	struct store store;

	if (store_open_worker(&store, w->kind, scratch.dir) != 0)
		return 1;
	if (has_key(&store, "first") != 0 || has_key(&store, "second") == 0)
		return 2;
	gate_tell(&w->gate);
	gate_pass(&w->gate);
	/* The transaction that was kept sees what was committed since. */
	if (has_key(&store, "second") != 0)
		return 3;
	if (w->kind == STORE_STATE)
		return write_key(&store, "mine") == -EACCES ? 0 : 4;
	return write_key(&store, "mine") == 0 ? 0 : 5;
}

static void
worker_reads_what_the_master_writes(void **state UNUSED)
{
	static const enum store_kind kinds[] = { STORE_STATE, STORE_BINDINGS };
	struct store store;
	struct worker w;
	pid_t pid;

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		w.kind = kinds[i];
		gate_make(&w.gate);
		assert_int_equal(
		    store_open_master(&store, w.kind, scratch.dir, BOOT_A), 0);
		assert_int_equal(write_key(&store, "first"), 0);
		pid = child_start(work, &w);
		gate_listen(&w.gate);
		assert_int_equal(write_key(&store, "second"), 0);
		gate_open(&w.gate);
		assert_int_equal(child_wait(pid), 0);
		assert_int_equal(has_key(&store, "mine"),
		    w.kind == STORE_STATE ? -ENOENT : 0);
		store_close(&store, false);
		gate_remove(&w.gate);
	}
}

static void
full_map_is_no_space_and_leaves_what_is_there(void **state UNUSED)
{
	struct store store;
	char key[32];
	int i, rc;

	store_set_map_size_for_test(STORE_BINDINGS, 256 * 1024);
	assert_int_equal(
	    store_open_master(&store, STORE_BINDINGS, scratch.dir, BOOT_A), 0);
	for (i = 0, rc = 0; rc == 0 && i < 100000; i++) {
		(void)snprintf(key, sizeof(key), "key-%d", i);
		rc = write_key(&store, key);
	}
	assert_int_equal(rc, -ENOSPC);
	assert_true(i > 100);
	assert_int_equal(has_key(&store, "key-0"), 0);
	assert_int_equal(has_key(&store, key), -ENOENT);
	assert_true(store_used_bytes(&store) <= 256 * 1024);
	store_close(&store, true);
}

/* Takes all slots for readers and stays. */
static int
read_everywhere(void *ctx)
{
	struct store store;
	MDB_txn *txn;
	int rc;

	if (store_open_worker(&store, STORE_STATE, scratch.dir) != 0)
		return 1;
	do {
		rc = mdb_txn_begin(store.env, NULL, MDB_RDONLY, &txn);
	} while (rc == 0);
	if (rc != MDB_READERS_FULL)
		return 2;
	gate_tell(ctx);
	(void)pause();
	return 0;
}

static void
slots_of_dead_readers_are_found_when_none_is_free(void **state UNUSED)
{
	struct store store;
	struct gate gate;
	pid_t pid;

	gate_make(&gate);
	assert_int_equal(
	    store_open_master(&store, STORE_STATE, scratch.dir, BOOT_A), 0);
	assert_int_equal(write_key(&store, "k"), 0);
	pid = child_start(read_everywhere, &gate);
	gate_listen(&gate);
	assert_int_equal(has_key(&store, "k"), -EUSERS);
	child_kill(pid);
	assert_int_equal(has_key(&store, "k"), 0);
	store_close(&store, false);
	gate_remove(&gate);
}

static int
grow_the_map(void *ctx UNUSED)
{
	struct store store;
	char key[32];

	store_set_map_size_for_test(STORE_BINDINGS, 64 << 20);
	if (store_open_worker(&store, STORE_BINDINGS, scratch.dir) != 0)
		return 1;
	for (int i = 0; i < 20000; i++) {
		(void)snprintf(key, sizeof(key), "grown-%d", i);
		if (write_key(&store, key) != 0)
			return 2;
	}
	return 0;
}

static void
map_that_another_process_grew_is_followed(void **state UNUSED)
{
	struct store store;

	store_set_map_size_for_test(STORE_BINDINGS, 256 * 1024);
	assert_int_equal(
	    store_open_master(&store, STORE_BINDINGS, scratch.dir, BOOT_A), 0);
	assert_int_equal(has_key(&store, "grown-19999"), -ENOENT);
	assert_int_equal(child_wait(child_start(grow_the_map, NULL)), 0);
	assert_int_equal(has_key(&store, "grown-19999"), 0);
	assert_int_equal(write_key(&store, "mine"), 0);
	store_close(&store, false);
}

static int
die_writing(void *ctx)
{
	struct store store;
	MDB_txn *txn;

	if (store_open_worker(&store, STORE_BINDINGS, scratch.dir) != 0 ||
	    store_write(&store, &txn) != 0 ||
	    put(txn, store.tables[1], "half", 100) != 0)
		return 1;
	gate_tell(ctx);
	(void)pause();
	return 0;
}

static void
writer_that_is_killed_leaves_no_trace(void **state UNUSED)
{
	struct store store;
	struct gate gate;
	pid_t pid;

	gate_make(&gate);
	assert_int_equal(
	    store_open_master(&store, STORE_BINDINGS, scratch.dir, BOOT_A), 0);
	assert_int_equal(write_key(&store, "whole"), 0);
	pid = child_start(die_writing, &gate);
	gate_listen(&gate);
	child_kill(pid);
	assert_int_equal(write_key(&store, "after"), 0);
	assert_int_equal(has_key(&store, "whole"), 0);
	assert_int_equal(has_key(&store, "after"), 0);
	assert_int_equal(has_key(&store, "half"), -ENOENT);
	store_close(&store, false);
	gate_remove(&gate);
}

static const struct {
	int mdb;
	int error;
} codes[] = {
	{ 0, 0 },
	{ MDB_NOTFOUND, -ENOENT },
	{ MDB_KEYEXIST, -EEXIST },
	{ MDB_MAP_FULL, -ENOSPC },
	{ MDB_CORRUPTED, -EBADMSG },
	{ MDB_BAD_TXN, -EINVAL },
	{ MDB_PANIC, -ENOTRECOVERABLE },
	{ ENOSPC, -ENOSPC },
	{ EACCES, -EACCES },
	{ -1, -EIO },
};

static void
return_codes_are_errors_of_the_system(void **state UNUSED)
{
	for (size_t i = 0; i < ARRAY_LEN(codes); i++)
		assert_int_equal(store_errno(codes[i].mdb), codes[i].error);
	for (int code = MDB_LAST_ERRCODE; code <= MDB_KEYEXIST; code++)
		assert_int_not_equal(store_errno(code), -EIO);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(environments_are_private),
		TEST(what_was_not_closed_clean_is_stale_after_another_boot),
		TEST(environment_without_a_mark_is_stale),
		TEST(damaged_environment_is_stale_and_can_be_discarded),
		TEST(another_schema_is_told_and_left_alone),
		TEST(without_a_schema_it_is_the_first),
		TEST(missing_state_directory_is_told),
		TEST(worker_reads_what_the_master_writes),
		TEST(full_map_is_no_space_and_leaves_what_is_there),
		TEST(slots_of_dead_readers_are_found_when_none_is_free),
		TEST(map_that_another_process_grew_is_followed),
		TEST(writer_that_is_killed_leaves_no_trace),
		TEST(return_codes_are_errors_of_the_system),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * Opening, reading and writing LMDB environments. What the records mean is
 * state.c's, bindings.c's and the ledger's.
 */
#include "common/store.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/str.h"

enum {
	STORE_READERS = 4096,
	STORE_SCHEMA_FIRST = 1,
	SCHEMA_DIFFERS = MDB_LAST_ERRCODE - 1000, /* none of LMDB's */
	STORE_TRIES = 3,
	STORE_NEARLY_FULL = 128 << 10, /* what the largest write may lack */
	STORE_ROOM = 4 << 20,
	MARK_SIZE = 64
};

#define MARK_FILE "boot"
#define MARK_TEMP "boot.new"

struct store_row {
	const char *name;
	size_t map_bytes;
	unsigned int flags;
	const char *tables[ARRAY_LEN(((struct store *)NULL)->tables)];
};

static const struct store_row rows[STORE_MAX] = {
	[STORE_STATE] = {
		.name = "state",
		.map_bytes = (size_t)4 << 30,
		.flags = MDB_NOTLS | MDB_NOSYNC,
		.tables = {
			[STATE_META] = "meta",
			[STATE_CREDENTIAL] = "credential.2",
			[STATE_ROUTE] = "route.2",
			[STATE_HEALTH] = "health.1",
		},
	},
	[STORE_BINDINGS] = {
		.name = "bindings",
		.map_bytes = (size_t)16 << 30,
		.flags = MDB_NOTLS | MDB_NOSYNC,
		.tables = {
			[BINDINGS_META] = "meta",
			[BINDINGS_BINDING] = "binding.1",
			[BINDINGS_ALIAS] = "alias.1",
			[BINDINGS_EXPIRY] = "expiry.1",
			[BINDINGS_GROUP] = "group.1",
			[BINDINGS_PIN] = "pin.1",
			[BINDINGS_PIN_EXPIRY] = "pin_expiry.1",
		},
	},
	[STORE_LEDGER] = {
		.name = "ledger",
		.map_bytes = (size_t)1 << 30,
		.flags = MDB_NOTLS,
		.tables = {
			[LEDGER_META] = "meta",
			[LEDGER_REFRESH] = "refresh.1",
			[LEDGER_USAGE] = "usage.1",
		},
	},
};

static const struct {
	int mdb;
	int error;
} errors[] = {
	{ MDB_KEYEXIST, EEXIST },
	{ MDB_NOTFOUND, ENOENT },
	{ MDB_PAGE_NOTFOUND, EBADMSG },
	{ MDB_CORRUPTED, EBADMSG },
	{ MDB_PANIC, ENOTRECOVERABLE },
	{ MDB_VERSION_MISMATCH, EBADMSG },
	{ MDB_INVALID, EBADMSG },
	{ MDB_MAP_FULL, ENOSPC },
	{ MDB_DBS_FULL, EMFILE },
	{ MDB_READERS_FULL, EUSERS },
	{ MDB_TLS_FULL, EUSERS },
	{ MDB_TXN_FULL, E2BIG },
	{ MDB_CURSOR_FULL, E2BIG },
	{ MDB_PAGE_FULL, E2BIG },
	{ MDB_MAP_RESIZED, EAGAIN },
	{ MDB_INCOMPATIBLE, EBADMSG },
	{ MDB_BAD_RSLOT, EAGAIN },
	{ MDB_BAD_TXN, EINVAL },
	{ MDB_BAD_VALSIZE, ENAMETOOLONG },
	{ MDB_BAD_DBI, EBADMSG },
	{ SCHEMA_DIFFERS, EPROTONOSUPPORT },
};

static size_t map_bytes_for_test[STORE_MAX];

int
store_errno(int mdb_rc)
{
	if (mdb_rc >= 0)
		return -mdb_rc;
	for (size_t i = 0; i < ARRAY_LEN(errors); i++) {
		if (errors[i].mdb == mdb_rc)
			return -errors[i].error;
	}
	return -EIO;
}

static int
env_path(enum store_kind kind, const char *state_dir, char *path, size_t size)
{
	int n = snprintf(path, size, "%s/%s", state_dir, rows[kind].name);

	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

static bool
syncs(enum store_kind kind)
{
	return (rows[kind].flags & MDB_NOSYNC) == 0;
}

/*
 * The mark: "BOOT-ID open" or "BOOT-ID clean". 0, -ENOENT, or negative errno.
 */
static int
read_mark(int dir_fd, char mark[MARK_SIZE])
{
	AUTO_CLOSE int fd = -1;
	ssize_t n;

	fd = openat(dir_fd, MARK_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	n = read(fd, mark, MARK_SIZE - 1);
	if (n < 0)
		return -errno;
	mark[n] = '\0';
	return 0;
}

static int
write_all_synced(int dir_fd, const char *name, const char *text)
{
	AUTO_CLOSE int fd = -1;
	size_t len = strlen(text);
	ssize_t n;

	fd = openat(dir_fd, name,
	    O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	n = write(fd, text, len);
	if (n < 0)
		return -errno;
	if ((size_t)n != len)
		return -ENOSPC;
	return fsync(fd) < 0 ? -errno : 0;
}

static int
write_mark(int dir_fd, const char *boot_id, const char *state)
{
	char mark[MARK_SIZE];
	int rc;

	(void)snprintf(mark, sizeof(mark), "%s %s\n", boot_id, state);
	rc = write_all_synced(dir_fd, MARK_TEMP, mark);
	if (rc == 0 && renameat(dir_fd, MARK_TEMP, dir_fd, MARK_FILE) < 0)
		rc = -errno;
	if (rc == 0 && fsync(dir_fd) < 0)
		rc = -errno;
	return rc;
}

/*
 * Whether what lies in the directory can be trusted: nothing, an environment
 * of this boot, or one that was closed clean. 0, STORE_STALE, negative errno.
 */
static int
check_mark(int dir_fd, const char *boot_id)
{
	char mark[MARK_SIZE], open_now[MARK_SIZE];
	size_t len;
	int rc;

	rc = read_mark(dir_fd, mark);
	if (rc == -ENOENT)
		return faccessat(dir_fd, "data.mdb", F_OK, 0) == 0 ? STORE_STALE
								   : 0;
	if (rc < 0)
		return rc;
	(void)snprintf(open_now, sizeof(open_now), "%s open\n", boot_id);
	if (strcmp(mark, open_now) == 0)
		return 0;
	len = strlen(mark);
	if (len >= 7 && strcmp(mark + len - 7, " clean\n") == 0)
		return 0;
	return STORE_STALE;
}

static int
open_tables(struct store *store, bool create)
{
	const struct store_row *row = &rows[store->kind];
	unsigned int begin_flags = create ? 0 : MDB_RDONLY;
	MDB_txn *txn;
	int rc;

	rc = mdb_txn_begin(store->env, NULL, begin_flags, &txn);
	if (rc != 0)
		return rc;
	for (size_t i = 0; i < ARRAY_LEN(row->tables); i++) {
		if (row->tables[i] == NULL)
			continue;
		rc = mdb_dbi_open(txn, row->tables[i], create ? MDB_CREATE : 0,
		    &store->tables[i]);
		if (rc != 0) {
			mdb_txn_abort(txn);
			return rc;
		}
	}
	return mdb_txn_commit(txn);
}

/*
 * The schema is a record of the table that every layout has. One without is
 * of the first, from before it was written down; a new environment has none.
 */
static const char schema_key[8] = "schema";

static int
read_schema(struct store *store)
{
	MDB_val key = { sizeof(schema_key), (void *)(uintptr_t)schema_key };
	MDB_val value;
	MDB_txn *txn;
	MDB_dbi meta;
	int rc = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn);

	if (rc != 0)
		return rc;
	store->schema = STORE_SCHEMA;
	rc = mdb_dbi_open(txn, "meta", 0, &meta);
	if (rc == 0) {
		rc = mdb_get(txn, meta, &key, &value);
		if (rc == MDB_NOTFOUND)
			store->schema = STORE_SCHEMA_FIRST;
		else if (rc == 0 && value.mv_size >= sizeof(store->schema))
			memcpy(&store->schema, value.mv_data,
			    sizeof(store->schema));
	}
	mdb_txn_abort(txn);
	return rc == MDB_NOTFOUND ? 0 : rc;
}

static int
write_schema(struct store *store)
{
	const uint32_t schema[2] = { STORE_SCHEMA, 0 };
	MDB_val key = { sizeof(schema_key), (void *)(uintptr_t)schema_key };
	MDB_val value = { sizeof(schema), (void *)(uintptr_t)schema };
	MDB_txn *txn;
	int rc = mdb_txn_begin(store->env, NULL, 0, &txn);

	if (rc != 0)
		return rc;
	/* One is the table "meta" in every environment. */
	rc = mdb_put(txn, store->tables[STATE_META], &key, &value, 0);
	if (rc == 0)
		return mdb_txn_commit(txn);
	mdb_txn_abort(txn);
	return rc;
}

/* MDB's return code; nothing is left open on failure. */
static int
open_env(struct store *store, const char *path, bool create)
{
	const struct store_row *row = &rows[store->kind];
	size_t map_bytes = map_bytes_for_test[store->kind];
	unsigned int flags = row->flags | (store->read_only ? MDB_RDONLY : 0);
	int rc;

	rc = mdb_env_create(&store->env);
	if (rc != 0)
		return rc;
	(void)mdb_env_set_maxdbs(store->env, ARRAY_LEN(row->tables));
	(void)mdb_env_set_maxreaders(store->env, STORE_READERS);
	(void)mdb_env_set_mapsize(
	    store->env, map_bytes != 0 ? map_bytes : row->map_bytes);
	rc = mdb_env_open(store->env, path, flags, 0600);
	if (rc == 0)
		rc = read_schema(store);
	if (rc == 0 && store->schema != STORE_SCHEMA)
		rc = SCHEMA_DIFFERS;
	/* Only a new environment takes LMDB's lock here, which is free then. */
	if (rc == 0)
		rc = open_tables(store, false);
	if (rc == MDB_NOTFOUND && create) {
		rc = open_tables(store, true);
		if (rc == 0)
			rc = write_schema(store);
	}
	if (rc != 0) {
		mdb_env_close(store->env);
		store->env = NULL;
	}
	return rc;
}

static void
init(struct store *store, enum store_kind kind)
{
	memset(store, 0, sizeof(*store));
	store->kind = kind;
	store->dir_fd = -1;
}

/* Nothing is changed of what another program will want as it was. */
/* LMDB maps its lock file and touches it: SIGBUS where the disk is full. */
static int
check_room(int dir_fd)
{
	int rc = write_all_synced(dir_fd, MARK_TEMP, "room\n");

	(void)unlinkat(dir_fd, MARK_TEMP, 0);
	return rc;
}

static int
open_marked(struct store *store, const char *path)
{
	int rc =
	    syncs(store->kind) ? 0 : check_mark(store->dir_fd, store->boot_id);

	if (rc == 0)
		rc = check_room(store->dir_fd);
	if (rc != 0)
		return rc;
	rc = open_env(store, path, true);
	if (rc == SCHEMA_DIFFERS)
		return STORE_OTHER;
	rc = store_errno(rc);
	if (rc == -EBADMSG)
		return STORE_STALE;
	if (rc == 0 && !syncs(store->kind))
		rc = write_mark(store->dir_fd, store->boot_id, "open");
	if (rc == 0) {
		store_check_readers(store);
	} else if (store->env != NULL) {
		mdb_env_close(store->env);
		store->env = NULL;
	}
	return rc;
}

int
store_open_master(struct store *store, enum store_kind kind,
    const char *state_dir, const char *boot_id)
{
	char path[PATH_MAX];
	int rc;

	init(store, kind);
	(void)str_copy(store->boot_id, sizeof(store->boot_id), boot_id);
	rc = env_path(kind, state_dir, path, sizeof(path));
	if (rc < 0)
		return rc;
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return -errno;
	store->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (store->dir_fd < 0)
		return -errno;
	rc = open_marked(store, path);
	if (rc != 0) {
		(void)close(store->dir_fd);
		store->dir_fd = -1;
	}
	return rc;
}

int
store_open_worker(
    struct store *store, enum store_kind kind, const char *state_dir)
{
	char path[PATH_MAX];
	int rc;

	init(store, kind);
	store->read_only = kind == STORE_STATE;
	rc = env_path(kind, state_dir, path, sizeof(path));
	if (rc < 0)
		return rc;
	return store_errno(open_env(store, path, false));
}

static int
check_mark_of(enum store_kind kind, const char *path, const char *boot_id)
{
	AUTO_CLOSE int dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dir_fd < 0)
		return -errno;
	return syncs(kind) ? 0 : check_mark(dir_fd, boot_id);
}

int
store_open_reader(struct store *store, enum store_kind kind,
    const char *state_dir, const char *boot_id)
{
	char path[PATH_MAX];
	int rc;

	init(store, kind);
	store->read_only = true;
	rc = env_path(kind, state_dir, path, sizeof(path));
	if (rc == 0)
		rc = check_mark_of(kind, path, boot_id);
	if (rc != 0)
		return rc;
	rc = open_env(store, path, false);
	if (rc == SCHEMA_DIFFERS)
		return STORE_OTHER;
	rc = store_errno(rc);
	return rc == -EBADMSG ? STORE_STALE : rc;
}

int
store_discard(enum store_kind kind, const char *state_dir)
{
	static const char *const files[] = { "data.mdb", "lock.mdb",
		MARK_FILE };
	AUTO_CLOSE int dir_fd = -1;
	char path[PATH_MAX];
	int rc;

	rc = env_path(kind, state_dir, path, sizeof(path));
	if (rc < 0)
		return rc;
	dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir_fd < 0)
		return errno == ENOENT ? 0 : -errno;
	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		if (unlinkat(dir_fd, files[i], 0) < 0 && errno != ENOENT)
			return -errno;
	}
	return 0;
}

void
store_close(struct store *store, bool clean)
{
	bool synced;

	if (store->env == NULL)
		return;
	if (store->reader != NULL)
		mdb_txn_abort(store->reader);
	synced =
	    clean && store->dir_fd >= 0 && mdb_env_sync(store->env, 1) == 0;
	mdb_env_close(store->env);
	/* Without the mark the next boot starts fresh, which is safe. */
	if (synced && !syncs(store->kind))
		(void)write_mark(store->dir_fd, store->boot_id, "clean");
	if (store->dir_fd >= 0)
		(void)close(store->dir_fd);
	init(store, store->kind);
}

/* Whether the cause of a failed begin is mended and it may be tried again. */
static bool
mend(struct store *store, int rc)
{
	switch (rc) {
	case MDB_MAP_RESIZED:
		return mdb_env_set_mapsize(store->env, 0) == 0;
	case MDB_READERS_FULL:
		store_check_readers(store);
		return true;
	case MDB_BAD_RSLOT:
		if (store->reader == NULL)
			return false;
		mdb_txn_abort(store->reader);
		store->reader = NULL;
		return true;
	default:
		return false;
	}
}

static int
begin_read(struct store *store)
{
	if (store->reader != NULL)
		return mdb_txn_renew(store->reader);
	return mdb_txn_begin(store->env, NULL, MDB_RDONLY, &store->reader);
}

int
store_read(struct store *store, MDB_txn **txn)
{
	int rc;

	assert(!store->reading);
	for (int i = 0; i < STORE_TRIES; i++) {
		rc = begin_read(store);
		if (rc == 0 || !mend(store, rc))
			break;
	}
	if (rc != 0)
		return store_errno(rc);
	store->reading = true;
	*txn = store->reader;
	return 0;
}

void
store_read_end(struct store *store)
{
	if (!store->reading)
		return;
	mdb_txn_reset(store->reader);
	store->reading = false;
}

int
store_write(struct store *store, MDB_txn **txn)
{
	int rc;

	assert(!store->reading);
	for (int i = 0; i < STORE_TRIES; i++) {
		rc = mdb_txn_begin(store->env, NULL, 0, txn);
		if (rc == 0 || !mend(store, rc))
			break;
	}
	return store_errno(rc);
}

int
store_commit(MDB_txn *txn)
{
	int rc = mdb_txn_commit(txn);

	/* LMDB says EIO when the disk took only a part of a write. */
	return rc == EIO ? -ENOSPC : store_errno(rc);
}

bool
store_make_room(struct store *store)
{
	MDB_envinfo info;
	size_t used = store_used_bytes(store);

	assert(!store->reading);
	if (mdb_env_info(store->env, &info) != 0 ||
	    used + STORE_NEARLY_FULL < info.me_mapsize)
		return false;
	return mdb_env_set_mapsize(store->env, info.me_mapsize + STORE_ROOM) ==
	       0;
}

void
store_check_readers(struct store *store)
{
	(void)mdb_reader_check(store->env, NULL);
}

uint64_t
store_used_bytes(struct store *store)
{
	MDB_envinfo info;
	MDB_stat stat;

	if (mdb_env_info(store->env, &info) != 0 ||
	    mdb_env_stat(store->env, &stat) != 0)
		return 0;
	return ((uint64_t)info.me_last_pgno + 1) * stat.ms_psize;
}

void
store_set_map_size_for_test(enum store_kind kind, size_t bytes)
{
	map_bytes_for_test[kind] = bytes;
}

const char *
store_name(enum store_kind kind)
{
	return rows[kind].name;
}

/* SPDX-License-Identifier: MIT */
#include "master/usage/fold.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/alloc.h"
#include "master/usage/totals.h"
#include "master/usage/usage_read.h"

/* The key of a mark in the table `meta`. */
struct mark_key {
	char kind[8]; /* MARK_KIND */
	uint64_t inode;
	char head[FOLD_HEAD];
};

struct mark {
	int64_t offset;
	int64_t used_s; /* of the wall clock: the longest unused one goes */
};

static const char mark_kind[8] = "usagefd";

static ssize_t
read_at(int fd, char *p, size_t len, int64_t offset)
{
	ssize_t n;

	do
		n = pread(fd, p, len, (off_t)offset);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

/* False while the file is too short to be told apart, and holds no record. */
static int
identify(struct fold *f, struct mark_key *key, bool *known)
{
	struct stat st;
	ssize_t n;

	*known = false;
	if (fstat(f->fd, &st) < 0)
		return -errno;
	f->size = st.st_size;
	memset(key, 0, sizeof(*key));
	memcpy(key->kind, mark_kind, sizeof(key->kind));
	key->inode = st.st_ino;
	n = read_at(f->fd, key->head, sizeof(key->head), 0);
	if (n < 0)
		return (int)n;
	*known = (size_t)n == sizeof(key->head);
	return 0;
}

static int
get_mark(
    struct store *store, MDB_txn *txn, struct mark_key *key, struct mark *mark)
{
	MDB_val k = { sizeof(*key), key }, v;
	int rc = mdb_get(txn, store->tables[LEDGER_META], &k, &v);

	*mark = (struct mark){ 0 };
	if (rc == 0 && v.mv_size == sizeof(*mark))
		memcpy(mark, v.mv_data, sizeof(*mark));
	return rc == MDB_NOTFOUND ? 0 : store_errno(rc);
}

/* Forgets the file that was longest not folded, but for this one. */
static int
prune_marks(struct store *store, MDB_txn *txn, const struct mark_key *but)
{
	MDB_val k = { sizeof(mark_kind), (void *)(uintptr_t)mark_kind }, v;
	MDB_val oldest = { 0 };
	int64_t oldest_s = INT64_MAX;
	struct mark mark;
	MDB_cursor *cursor;
	int rc, n = 0;

	rc = mdb_cursor_open(txn, store->tables[LEDGER_META], &cursor);
	if (rc != 0)
		return store_errno(rc);
	for (rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE); rc == 0;
	     rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) {
		if (k.mv_size != sizeof(struct mark_key) ||
		    memcmp(k.mv_data, mark_kind, sizeof(mark_kind)) != 0)
			break;
		memcpy(&mark, v.mv_data, sizeof(mark));
		n++;
		if (mark.used_s < oldest_s &&
		    memcmp(k.mv_data, but, sizeof(*but)) != 0) {
			oldest_s = mark.used_s;
			oldest = k;
		}
	}
	mdb_cursor_close(cursor);
	if (n <= FOLD_FILES_KEPT || oldest.mv_data == NULL)
		return rc == MDB_NOTFOUND ? 0 : store_errno(rc);
	return store_errno(
	    mdb_del(txn, store->tables[LEDGER_META], &oldest, NULL));
}

static int
put_mark(struct store *store, MDB_txn *txn, struct mark_key *key,
    struct mark *mark, bool first)
{
	MDB_val k = { sizeof(*key), key }, v = { sizeof(*mark), mark };
	int rc;

	mark->used_s = time(NULL);
	rc = store_errno(mdb_put(txn, store->tables[LEDGER_META], &k, &v, 0));
	return rc == 0 && first ? prune_marks(store, txn, key) : rc;
}

/* Adds the lines that are complete; *used: their bytes. */
static int
add_lines(struct store *store, MDB_txn *txn, struct fold *f, const char *p,
    size_t len, size_t *used)
{
	struct usage_line line;
	const char *end;
	int rc;

	for (*used = 0; *used < len; *used = (size_t)(end + 1 - p)) {
		end = memchr(p + *used, '\n', len - *used);
		if (end == NULL)
			break;
		if (!usage_line_read(
			&line, p + *used, (size_t)(end - p) - *used)) {
			f->broken++;
			continue;
		}
		rc = totals_add(store, txn, &line);
		if (rc < 0)
			return rc;
		f->records++;
	}
	/* No line of ours is that long. */
	if (*used == 0 && len == FOLD_STEP)
		*used = len;
	return 0;
}

/* 0 with *used bytes folded and the mark put; nothing is put for none. */
static int
fold_within(struct store *store, MDB_txn *txn, struct fold *f,
    struct mark_key *key, char *room, size_t *used)
{
	struct mark mark;
	ssize_t n;
	bool first;
	int rc = get_mark(store, txn, key, &mark);

	if (rc < 0)
		return rc;
	first = mark.offset == 0;
	if (mark.offset > f->size || (first && f->only_known))
		mark.offset = f->size;
	n = read_at(f->fd, room, FOLD_STEP, mark.offset);
	if (n < 0)
		return (int)n;
	rc = add_lines(store, txn, f, room, (size_t)n, used);
	mark.offset += (int64_t)*used;
	f->offset = mark.offset;
	if (rc < 0 || *used == 0)
		return rc;
	return put_mark(store, txn, key, &mark, first);
}

int
fold_step(struct store *store, struct fold *f, bool *more)
{
	AUTO_FREE char *room = NULL;
	int64_t before = f->offset;
	struct mark_key key;
	size_t used = 0;
	MDB_txn *txn;
	bool known;
	int rc = identify(f, &key, &known);

	*more = false;
	if (rc < 0 || !known)
		return rc;
	room = xmalloc(FOLD_STEP);
	rc = store_write(store, &txn);
	if (rc < 0)
		return rc;
	rc = fold_within(store, txn, f, &key, room, &used);
	if (rc == 0 && used > 0)
		rc = store_commit(txn);
	else
		mdb_txn_abort(txn);
	if (rc < 0)
		f->offset = before;
	*more = rc == 0 && used > 0 && f->offset < f->size;
	return rc;
}

/* SPDX-License-Identifier: MIT */
#include "master/refresh/record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/alloc.h"

static int
end(MDB_txn *txn, int rc)
{
	if (rc == 0)
		return store_commit(txn);
	mdb_txn_abort(txn);
	return rc;
}

static MDB_val
key_of(const char *id)
{
	/* LMDB takes what it only reads as if it wrote to it. */
	return (MDB_val){ strlen(id), (void *)(uintptr_t)id };
}

int
refresh_record_put(
    struct store *ledger, const char *id, const struct refresh_record *record)
{
	struct refresh_record copy = *record;
	MDB_val key = key_of(id);
	MDB_val value = { sizeof(copy), &copy };
	MDB_txn *txn;
	int rc = store_write(ledger, &txn);

	if (rc < 0)
		return rc;
	rc = mdb_put(txn, ledger->tables[LEDGER_REFRESH], &key, &value, 0);
	return end(txn, store_errno(rc));
}

int
refresh_record_delete(struct store *ledger, const char *id)
{
	MDB_val key = key_of(id);
	MDB_txn *txn;
	int rc = store_write(ledger, &txn);

	if (rc < 0)
		return rc;
	rc = store_errno(
	    mdb_del(txn, ledger->tables[LEDGER_REFRESH], &key, NULL));
	return end(txn, rc == -ENOENT ? 0 : rc);
}

/* One that is of another size, or not terminated, is none of ours. */
static void
visit(
    const MDB_val *key, const MDB_val *value, refresh_record_fn *fn, void *ctx)
{
	struct refresh_record record;
	AUTO_FREE char *id = xstrndup(key->mv_data, key->mv_size);

	if (value->mv_size != sizeof(record))
		return;
	memcpy(&record, value->mv_data, sizeof(record));
	record.reason[sizeof(record.reason) - 1] = '\0';
	fn(ctx, id, &record);
}

int
refresh_record_each(struct store *ledger, refresh_record_fn *fn, void *ctx)
{
	MDB_cursor *cursor;
	MDB_val key, value;
	MDB_txn *txn;
	int rc = store_read(ledger, &txn);

	if (rc < 0)
		return rc;
	rc = mdb_cursor_open(txn, ledger->tables[LEDGER_REFRESH], &cursor);
	if (rc == 0) {
		while (
		    (rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0)
			visit(&key, &value, fn, ctx);
		mdb_cursor_close(cursor);
	}
	store_read_end(ledger);
	rc = store_errno(rc);
	return rc == -ENOENT ? 0 : rc;
}

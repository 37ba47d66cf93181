/* SPDX-License-Identifier: MIT */
/*
 * LMDB environments as fairlead uses them: MDB_NOTLS, never MDB_WRITEMAP (a
 * full disk would be SIGBUS), opened once per process and never across a
 * fork. A read transaction is reset before its caller returns to the event
 * loop; a write transaction lives inside one call.
 *
 * An environment without sync is worthless after another boot unless it was
 * closed clean: store_open_master() says so, and the caller throws it away.
 * Which boot wrote it and whether it was closed clean stands in a file of its
 * own beside the environment ("boot"), so that nothing that may be corrupt is
 * ever mapped to find out.
 */
#ifndef FL_COMMON_STORE_H
#define FL_COMMON_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lmdb.h>

#include "common/attr.h"

enum store_kind { STORE_STATE, STORE_BINDINGS, STORE_LEDGER, STORE_MAX };

struct store {
	enum store_kind kind;
	MDB_env *env;
	MDB_txn *reader; /* reset between uses; NULL until the first */
	MDB_dbi tables[8];
	int dir_fd;       /* of its directory; -1 in a worker */
	char boot_id[40]; /* of the master that opened it */
	uint32_t schema;  /* that was found; STORE_SCHEMA when it is open */
	bool read_only;
	bool reading; /* between store_read() and store_read_end() */
};

/* Of all environments together; which one has it, its meta record says. */
enum { STORE_SCHEMA = 1 };

/* Tables of each environment; the number in a name is its layout. */
enum state_table { STATE_META, STATE_CREDENTIAL, STATE_ROUTE, STATE_HEALTH };
enum bindings_table {
	BINDINGS_META,
	BINDINGS_BINDING,
	BINDINGS_ALIAS,
	BINDINGS_EXPIRY,
	BINDINGS_GROUP,
	BINDINGS_PIN,
	BINDINGS_PIN_EXPIRY
};
enum ledger_table { LEDGER_META, LEDGER_REFRESH, LEDGER_USAGE };

enum {
	STORE_STALE = 1, /* of another boot and not closed clean, or damaged */
	STORE_OTHER = 2  /* of another schema, which store->schema tells */
};

/*
 * The master's way in: makes directory and tables where they are absent; the
 * state directory itself must be there. 0; STORE_STALE with nothing open:
 * call store_discard() and open again; STORE_OTHER with nothing open or
 * changed: it belongs to an older or newer program; or negative errno. Not for
 * an environment that this process has open already: closing either one would
 * drop the locks of both.
 */
int store_open_master(struct store *store, enum store_kind kind,
    const char *state_dir, const char *boot_id) MUST_CHECK;

/*
 * A worker's way in, after the master's; `state` is read-only there. 0 or
 * negative errno.
 */
int store_open_worker(struct store *store, enum store_kind kind,
    const char *state_dir) MUST_CHECK;

/*
 * For whoever only looks, also while no daemon runs: 0, STORE_STALE,
 * STORE_OTHER, or negative errno. Takes a slot among the readers, for which
 * the lock file must be writable.
 */
int store_open_reader(struct store *store, enum store_kind kind,
    const char *state_dir, const char *boot_id) MUST_CHECK;

/* Removes the files of an environment that is not open. */
int store_discard(enum store_kind kind, const char *state_dir);

/*
 * Closes. clean is for the master, when no other process writes any more: the
 * environment is synced and marked as good for the next boot.
 */
void store_close(struct store *store, bool clean);

/*
 * Begins to read, renewing the transaction kept for it; handles another
 * process's map growth and dead readers. store_read_end() resets it. Not
 * nested.
 */
int store_read(struct store *store, MDB_txn **txn) MUST_CHECK;
void store_read_end(struct store *store);

/*
 * Begins to write. Waits for another writer without limit: writers of
 * `bindings` hold the board's lock first. The store must not be reading.
 */
int store_write(struct store *store, MDB_txn **txn) MUST_CHECK;

/* 0, or negative errno after an abort; -ENOSPC for a full map or disk. */
int store_commit(MDB_txn *txn) MUST_CHECK;

/*
 * LMDB's return codes as negative errno: -ENOENT for MDB_NOTFOUND, -ENOSPC for
 * a full map, -EBADMSG for what is damaged, -ENOTRECOVERABLE for an
 * environment that must be closed and opened again.
 */
int store_errno(int mdb_rc);

/*
 * For whoever deletes in order to make room: makes a map that is full a little
 * larger, since deleting takes new pages before it gives old ones back. Other
 * processes follow by themselves. False if the map is not what is full.
 */
bool store_make_room(struct store *store);

/* Frees the slots of dead readers: at open, at each death, each second. */
void store_check_readers(struct store *store);

/* Bytes of the map in use. */
uint64_t store_used_bytes(struct store *store);

/*
 * Makes environments that are opened from now on this small, 0: as usual. For
 * tests of full maps only.
 */
void store_set_map_size_for_test(enum store_kind kind, size_t bytes);

const char *store_name(enum store_kind kind);

#endif

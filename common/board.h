/* SPDX-License-Identifier: MIT */
/*
 * The board: a sparse file in runtime-dir that master and workers map, made
 * of atomic words. It is where health is: the worker that sees a failure
 * raises a word before it picks again, and no other worker's next pick takes
 * that credential. It survives the death of every process; another boot or
 * another layout makes it void, and the master builds it anew from the
 * `health` table.
 *
 * Who writes: workers raise words, move cursors and write their own slot; the
 * master alone lowers words, gives out cells, cursors and slots, and changes
 * incarnations.
 */
#ifndef FL_COMMON_BOARD_H
#define FL_COMMON_BOARD_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/attr.h"
#include "common/chronicle.h"
#include "common/traffic.h"

enum {
	BOARD_LAYOUT = 5,
	BOARD_CREDENTIALS = 16384,
	BOARD_CELLS = 1 << 20, /* (credential, model) pairs */
	BOARD_CURSORS = 1 << 16,
	BOARD_SLOTS = 512,     /* processes: workers of all generations */
	BOARD_ATTEMPTS = 2048, /* in flight, per process */
	BOARD_MARKS = 1 << 13,
	BOARD_INDEX_FIRST = 1 << 12, /* buckets of the index, at first */
	BOARD_INDEX_BUCKETS = 1 << 20,
	BOARD_INDEX_WAYS = 4, /* one line of the cache */
	BOARD_CODES = 600,
	BOARD_NONE = UINT32_MAX & 0x7fffffff
};

/* Why a credential is benched; names for people in board_reason_name(). */
enum cool_reason {
	COOL_NONE,
	COOL_QUOTA,        /* 429 */
	COOL_UNAUTHORIZED, /* 401 */
	COOL_PAYMENT,      /* 402 */
	COOL_FORBIDDEN,    /* 403 */
	COOL_NOT_FOUND,    /* 404 */
	COOL_UNSUPPORTED,  /* the model is not served after all */
	COOL_TRANSIENT,    /* 408, 5xx, timeouts */
	COOL_CHALLENGE,    /* a challenge page stood in the way */
	COOL_INVALID_GRANT,
	COOL_NETWORK, /* a path that is the credential's own */
	COOL_MAX
};

/*
 * A word: {incarnation:16, until:46, kind:2}. Within one incarnation a larger
 * number is a later deadline, so raising is a maximum.
 */
enum board_kind {
	BOARD_READY,
	BOARD_COOLING, /* quota: comes back by itself, 429 to clients */
	BOARD_BLOCKED  /* any other failure */
};

struct board_word {
	uint16_t incarnation;
	enum board_kind kind;
	int64_t until_ms; /* of clock_now_ms() */
};

/*
 * One (credential, model) pair, or a credential as a whole. `note` is
 * {level:8, reason:8, status:16, unused:32}: what the ladder needs before the
 * master has read the RESULT.
 */
struct board_cell {
	_Atomic uint64_t word;
	_Atomic uint64_t note;
};

struct board_note {
	uint8_t level;
	uint8_t reason; /* enum cool_reason */
	uint16_t status;
};

struct board_credential {
	struct board_cell cell; /* the credential as a whole */
	_Atomic uint64_t succeeded;
	_Atomic uint64_t failed;
	_Atomic uint64_t last_status; /* last failure {status:16, ms:48} */
	_Atomic uint64_t sessions;    /* as last counted by the master */
	_Atomic int64_t refresh_ms;   /* next, Unix time; 0: none. For people */
	uint64_t reserved;
};

/*
 * An attempt in flight, for counts and for the reaper, which writes the usage
 * record if the process dies. While one is RECORDING its record is being
 * written, and only the file knows whether it was.
 */
enum board_attempt_state { ATTEMPT_FREE, ATTEMPT_RUNNING, ATTEMPT_RECORDING };

/* What its usage record says of it; longer strings are cut. */
struct board_attempt {
	_Atomic uint32_t state;
	uint32_t credential; /* its slot */
	int64_t start_ms;    /* of clock_now_ms() */
	int64_t record_s;    /* of the wall clock, when RECORDING began */
	char request_id[24];
	uint8_t number;  /* 1 is the first attempt of its request */
	uint8_t dialect; /* enum dialect */
	uint8_t stream;
	uint8_t has_client;
	uint8_t client[6]; /* of the digest of its key */
	char session[24];  /* shortened */
	char provider[46];
	char model[128];    /* canonical */
	char upstream[128]; /* as named upstream */
	char id[256];       /* of the credential */
};

enum board_worker_state {
	BOARD_SLOT_FREE,
	BOARD_SLOT_STARTING,
	BOARD_SLOT_READY,
	BOARD_SLOT_SERVING,
	BOARD_SLOT_DRAINING
};

/* How often a worker that is not stuck writes heartbeat_ms. */
enum { BOARD_BEAT_MS = 200 };

/* Why a session was moved away from a credential. */
enum board_moved {
	BOARD_MOVED_OTHER, /* it does not serve the model any more, ... */
	BOARD_MOVED_FAILED,
	BOARD_MOVED_COOLING,
	BOARD_MOVED_BLOCKED,
	BOARD_MOVED_DISABLED,
	BOARD_MOVED_GONE,
	BOARD_MOVED_MAX
};

struct board_counters {
	_Atomic uint64_t requests;
	_Atomic uint64_t attempts;
	_Atomic uint64_t affinity_hit, affinity_new, affinity_moved,
	    affinity_none;
	_Atomic uint64_t affinity_moved_by[BOARD_MOVED_MAX];
	_Atomic uint64_t cooldowns;
	_Atomic uint64_t refused;    /* answered without an attempt */
	_Atomic uint64_t usage_lost; /* records that could not be written */
	_Atomic uint64_t unused[2];
	struct traffic traffic;
};

struct board_slot {
	_Atomic uint32_t state; /* enum board_worker_state */
	_Atomic int32_t pid;
	_Atomic uint64_t generation;
	_Atomic int64_t heartbeat_ms;
	_Atomic uint64_t connections; /* gauges of the process */
	_Atomic uint64_t streams;
	_Atomic uint64_t bodies; /* bytes of request bodies reserved */
	/* The usage file it writes to, at least; 0: none yet. */
	_Atomic uint64_t usage_epoch;
	struct board_counters counters;
	struct board_attempt attempts[BOARD_ATTEMPTS];
};

/* What the master tells of itself; it outlives masters. */
/* How refreshes of tokens ended. */
enum board_refresh {
	BOARD_REFRESH_OK,
	BOARD_REFRESH_FAILED,  /* is tried again */
	BOARD_REFRESH_REFUSED, /* for good */
	BOARD_REFRESH_MAX
};

struct board_master {
	_Atomic int32_t pid;
	_Atomic int64_t started_ms; /* of clock_now_ms() */
	_Atomic uint64_t reloads_ok, reloads_failed;
	_Atomic int64_t reloaded_ms; /* the last that took effect; 0: none */
	_Atomic uint64_t worker_deaths;
	_Atomic uint64_t refreshes[BOARD_REFRESH_MAX];
};

/*
 * A binding as picks need it: {hash of the key:48, slot:14, version:2} and
 * {epoch, low half:32, expiry in seconds:32}. 0: none.
 */
struct board_index_entry {
	_Atomic uint64_t tag;
	_Atomic uint64_t value;
};

struct board_index_bucket {
	struct board_index_entry entries[BOARD_INDEX_WAYS];
};

struct board {
	char magic[8];
	uint32_t layout;
	uint32_t size_check; /* sizeof(struct board), folded */
	char boot_id[40];
	_Atomic uint64_t incarnation; /* a master that starts changes it */
	_Atomic int64_t clock_base_ms;
	_Atomic uint64_t generation;  /* that serves */
	_Atomic uint64_t usage_epoch; /* of the last usage file */
	_Atomic uint64_t bodies;      /* sum over slots, daemon-wide */
	_Atomic uint32_t slots_used;  /* slots beyond were never claimed */
	_Atomic uint32_t folds;       /* odd while a slot is being folded */
	struct board_counters dead;   /* counters of processes that ended */

	struct board_master master;
	struct chronicle chronicle;

	/* Taken by every writer of `bindings` before LMDB's own lock. */
	pthread_mutex_t bind_lock;          /* robust, process-shared */
	_Atomic int32_t bind_holder;        /* pid, 0: free */
	_Atomic int64_t bind_since_ms;      /* of clock_mono_us() / 1000 */
	struct traffic_histogram bind_wait; /* of those who got it */

	_Atomic uint64_t bind_session; /* that the holder binds; 0: none */

	/*
	 * Sessions that were served while they could not be bound: one word
	 * {hash:18, slot + 1:14, until:32 s} at the place of their hash, the
	 * latest of them.
	 */
	_Atomic uint64_t marks[BOARD_MARKS];

	/* Of the index, below: its buckets in use, and what its tags mix in. */
	_Atomic uint32_t index_buckets;
	_Atomic uint32_t index_salt;

	_Atomic uint64_t cursors[BOARD_CURSORS];
	struct board_credential credentials[BOARD_CREDENTIALS];
	struct board_cell cells[BOARD_CELLS];
	struct board_slot slots[BOARD_SLOTS];

	/* What `bindings` says, for picks; written under bind_lock only. */
	_Alignas(64) struct board_index_bucket index[BOARD_INDEX_BUCKETS];
};

enum {
	BOARD_KEPT = 1, /* the old board was good and is mapped */
	BOARD_MADE = 2  /* a new one was made: fill it from `health` */
};

/*
 * The master's way in: maps dir/board, or makes it when it is absent, of
 * another boot, layout or size. BOARD_KEPT, BOARD_MADE or negative errno;
 * -EBUSY when this process has one open already. The incarnation is left as
 * it is found, 0 on a new board.
 *
 * What lies before the cells is allocated in the file when it is made; cells
 * and slots are holes. To touch a hole when the file system is full is
 * SIGBUS, so the master claims them before it gives them out.
 */
int board_open_master(
    const char *dir, const char *boot_id, struct board **out) MUST_CHECK;

/* The worker's way in; -ESTALE if the layout is another. */
int board_open_worker(const char *dir, struct board **out) MUST_CHECK;

/*
 * The master's: has the file system set aside a slot, or all cells below
 * count. Cheap when that is already so. 0, -EINVAL beyond the board's size,
 * or negative errno, -ENOSPC above all: then it is not to be given out.
 */
int board_slot_claim(struct board *board, unsigned int slot) MUST_CHECK;
int board_cells_claim(struct board *board, uint32_t count) MUST_CHECK;

/* Likewise of the index, whose buckets are in use from then on. */
int board_index_claim(struct board *board, uint32_t buckets) MUST_CHECK;

void board_close(struct board *board);

struct board_word board_word_unpack(uint64_t raw);
uint64_t board_word_pack(struct board_word word);
struct board_note board_note_unpack(uint64_t raw);
uint64_t board_note_pack(struct board_note note);

/*
 * Whether a cell bars a pick at now. A word of another incarnation bars
 * nothing: it belongs to a predecessor. Deadlines that are over bar nothing;
 * nobody needs to clear them.
 */
struct board_word
board_cell_read(struct board_cell *cell, uint16_t incarnation);
bool board_cell_barred(
    struct board_cell *cell, uint16_t incarnation, int64_t now_ms);

/*
 * Raises a cell to the later of what stands there and `word`; leaves a word of
 * another incarnation alone. Returns whether the deadline now is ours.
 */
bool board_cell_raise(struct board_cell *cell, struct board_word word);

/*
 * One step up the quota ladder for a failure at now: raises the word to
 * COOLING until the deadline of its level, no less than least_ms and no more
 * than most_ms, and the level by one. While the deadline of an earlier step
 * lies ahead nothing is changed: one step per open window, however many
 * failures come together. A deadline for any other reason is a window too,
 * unless the ladder reaches beyond it.
 *
 * Returns the deadline that stands, now_ms if the cell is of another
 * incarnation. note: on return the level of the cell; status and reason go
 * into the cell with it and are the caller's.
 */
int64_t board_cell_climb(struct board_cell *cell, uint16_t incarnation,
    int64_t now_ms, int64_t least_ms, int64_t most_ms, struct board_note *note);

void board_cell_set_note(struct board_cell *cell, struct board_note note);

/* The master's: a clean cell of an incarnation. */
void board_cell_reset(struct board_cell *cell, uint16_t incarnation);

const char *board_reason_name(uint8_t reason);

/* "failed", "cooling", ...: labels of metrics. */
const char *board_moved_name(enum board_moved why);

/*
 * A cursor is one word moved by CAS from what was read to chosen + 1, so that
 * a pick that lost the race picks again with the new value.
 */
uint64_t board_cursor_read(struct board *board, uint32_t cursor);
bool board_cursor_move(
    struct board *board, uint32_t cursor, uint64_t seen, uint64_t next);

/*
 * Reserves bytes of request bodies daemon-wide, accounted to a slot so that
 * the reaper can give back what a dead worker held. Whether it was granted.
 */
bool board_bodies_take(struct board *board, struct board_slot *slot,
    uint64_t bytes, uint64_t limit);
void
board_bodies_give(struct board *board, struct board_slot *slot, uint64_t bytes);

enum { BOARD_LOCK_BUSY = 1 };

/*
 * The lock before every write of `bindings`: waits at most wait_ms (0: only
 * tries). 0, BOARD_LOCK_BUSY, or negative errno. A holder that died is
 * recovered from here: LMDB recovers its own lock. A process that has waited
 * in vain does not wait again for BOARD_LOCK_REST_MS: until then it only
 * tries, so that a stopped holder costs its neighbours next to nothing.
 */
enum { BOARD_LOCK_REST_MS = 100 };
int board_bind_lock(struct board *board, int wait_ms) MUST_CHECK;
void board_bind_unlock(struct board *board);

/*
 * A session is served in different ways while it can and while it cannot be
 * bound; this is how both agree. Who holds the lock says which session it
 * binds, before it looks for a mark; who cannot have it makes the mark, and
 * then waits, at most wait_ms, while the holder binds that very session. So
 * one sees the other.
 */
void board_bind_session(struct board *board, uint64_t session);
void board_bind_await(struct board *board, uint64_t session, int wait_ms);
void
board_session_mark(struct board *board, uint64_t session, int64_t until_ms);

/*
 * Who served it: the slot stays that of the first who said so. slot is below
 * BOARD_CREDENTIALS - 1, or it is not kept.
 */
void board_session_served(struct board *board, uint64_t session, uint32_t slot);

/* Whether there is a mark; *slot: who served it, BOARD_NONE: not known. */
bool board_session_marked(
    struct board *board, uint64_t session, int64_t now_ms, uint32_t *slot);

/*
 * For how long the lock has been held by the same holder, whose pid goes to
 * *holder; 0 when it is free. The master kills a holder of over 2 s.
 */
int64_t board_bind_held_ms(struct board *board, int32_t *holder);

/*
 * An entry for an attempt of this process, cleared and FREE: the caller fills
 * it in. -1 when the table is full, and then a death forgets the attempt.
 */
int board_attempt_take(struct board_slot *slot);

/*
 * The life of an entry; an index of -1 does nothing. From begin on the reaper
 * finds it; from record, with the time that the record bears, until end it
 * looks for the record first.
 */
void board_attempt_begin(struct board_slot *slot, int index);
void board_attempt_record(struct board_slot *slot, int index, int64_t time_s);
void board_attempt_end(struct board_slot *slot, int index);

/*
 * The master's: folds a dead process's slot into `dead` and frees it, bytes
 * of bodies included. Its attempts are to be read before.
 */
void board_slot_reap(struct board *board, struct board_slot *slot);

/*
 * The counters of all processes, dead or alive. Never falls from one call to
 * the next, also while a slot is being folded.
 */
void board_counters_sum(struct board *board, struct board_counters *sum);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * The board's file and mapping, and the few steps by which its words change.
 * No policy: which failure raises which word is the caller's matter.
 */
#include "common/board.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/str.h"

#define BOARD_MAGIC "flboard"

enum {
	WORD_KIND_BITS = 2,
	WORD_INCARNATION_SHIFT = 48,
	MARK_SLOT_SHIFT = 32,
	MARK_TAG_SHIFT = 46,
	CELLS_PER_CLAIM = 4096,
	SUM_TRIES = 1000
};

#define MARK_SLOT_MASK (UINT64_C(0x3fff) << MARK_SLOT_SHIFT)
#define WORD_UNTIL_MAX ((INT64_C(1) << 46) - 1)

/* Seconds of the quota ladder by level; the last one is the plateau. */
static const int ladder_s[] = {
	1,
	2,
	4,
	8,
	16,
	32,
	64,
	128,
	256,
	512,
	1024,
	1800,
};

static const char *const reason_names[COOL_MAX] = {
	[COOL_NONE] = "none",
	[COOL_QUOTA] = "quota",
	[COOL_UNAUTHORIZED] = "unauthorized",
	[COOL_PAYMENT] = "payment_required",
	[COOL_FORBIDDEN] = "forbidden",
	[COOL_NOT_FOUND] = "not_found",
	[COOL_UNSUPPORTED] = "model_not_supported",
	[COOL_TRANSIENT] = "transient",
	[COOL_CHALLENGE] = "challenge",
	[COOL_INVALID_GRANT] = "invalid_grant",
	[COOL_NETWORK] = "network",
};

static const char *const moved_names[BOARD_MOVED_MAX] = {
	[BOARD_MOVED_OTHER] = "other",
	[BOARD_MOVED_FAILED] = "failed",
	[BOARD_MOVED_COOLING] = "cooling",
	[BOARD_MOVED_BLOCKED] = "blocked",
	[BOARD_MOVED_DISABLED] = "disabled",
	[BOARD_MOVED_GONE] = "gone",
};

_Static_assert(sizeof(struct board_counters) % sizeof(uint64_t) == 0,
    "counters are summed as an array of words");
_Static_assert(sizeof(struct board_attempt) == 640, "ten cache lines");

/* The board this process claims parts of, as the master. */
static struct {
	struct board *board;
	int fd;
	uint32_t cells;
} claims = { .fd = -1 };

/* Until when this process does not wait for the lock, by clock_mono_us(). */
static int64_t lock_rest_until_us;

/* The attempts of this process that are free, as a stack. */
static struct {
	struct board_slot *slot;
	uint16_t free[BOARD_ATTEMPTS];
	unsigned int nfree;
} attempts;

/*
 * Has the file system set aside a range of the file. One that cannot do so
 * has no reservation to give, and then a full disk stays a risk.
 */
static int
reserve(int fd, size_t offset, size_t len)
{
	int rc;

	do {
		rc = fallocate(fd, 0, (off_t)offset, (off_t)len);
	} while (rc < 0 && errno == EINTR);
	if (rc < 0 && errno != EOPNOTSUPP)
		return -errno;
	return 0;
}

static int
map(int fd, struct board **out)
{
	void *p;

	p = mmap(NULL, sizeof(struct board), PROT_READ | PROT_WRITE, MAP_SHARED,
	    fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	(void)madvise(p, sizeof(struct board), MADV_DONTDUMP);
	*out = p;
	return 0;
}

static bool
layout_fits(const struct board *board)
{
	return memcmp(board->magic, BOARD_MAGIC, sizeof(board->magic)) == 0 &&
	       board->layout == BOARD_LAYOUT &&
	       board->size_check == (uint32_t)sizeof(struct board);
}

/* -ESTALE for a file that is no board of this layout. */
static int
map_existing(const char *path, int *fd, struct board **out)
{
	struct stat st;
	int rc;

	*fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (*fd < 0)
		return -errno;
	rc = fstat(*fd, &st) < 0 ? -errno : 0;
	if (rc == 0 && st.st_size != (off_t)sizeof(struct board))
		rc = -ESTALE;
	if (rc == 0)
		rc = map(*fd, out);
	if (rc == 0 && !layout_fits(*out)) {
		(void)munmap(*out, sizeof(struct board));
		rc = -ESTALE;
	}
	if (rc < 0) {
		(void)close(*fd);
		*fd = -1;
	}
	return rc;
}

static int
init_bind_lock(pthread_mutex_t *lock)
{
	pthread_mutexattr_t attr;
	int error;

	error = pthread_mutexattr_init(&attr);
	if (error != 0)
		return -error;
	(void)pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	(void)pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	error = pthread_mutex_init(lock, &attr);
	(void)pthread_mutexattr_destroy(&attr);
	return -error;
}

static int
init_header(struct board *board, const char *boot_id)
{
	board->layout = BOARD_LAYOUT;
	board->size_check = (uint32_t)sizeof(struct board);
	(void)str_copy(board->boot_id, sizeof(board->boot_id), boot_id);
	memcpy(board->magic, BOARD_MAGIC, sizeof(board->magic));
	return init_bind_lock(&board->bind_lock);
}

/*
 * Makes a board under another name and renames it into place: whoever still
 * has the old file mapped keeps it whole.
 */
static int
make(const char *path, const char *boot_id, int *fd, struct board **out)
{
	char tmp[PATH_MAX + 8];
	int rc;

	(void)snprintf(tmp, sizeof(tmp), "%s.new", path);
	(void)unlink(tmp);
	*fd =
	    open(tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (*fd < 0)
		return -errno;
	rc = ftruncate(*fd, (off_t)sizeof(struct board)) < 0 ? -errno : 0;
	if (rc == 0)
		rc = reserve(*fd, 0, offsetof(struct board, cells));
	if (rc == 0)
		rc = map(*fd, out);
	if (rc == 0) {
		rc = init_header(*out, boot_id);
		if (rc == 0 && rename(tmp, path) < 0)
			rc = -errno;
		if (rc < 0)
			(void)munmap(*out, sizeof(struct board));
	}
	if (rc < 0) {
		(void)unlink(tmp);
		(void)close(*fd);
		*fd = -1;
	}
	return rc;
}

static int
board_path(const char *dir, char *path, size_t size)
{
	int n = snprintf(path, size, "%s/board", dir);

	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

/* A master that was killed while it folded leaves the number odd. */
static void
repair(struct board *board)
{
	if ((atomic_load(&board->folds) & 1) != 0)
		(void)atomic_fetch_add(&board->folds, 1);
}

int
board_open_master(const char *dir, const char *boot_id, struct board **out)
{
	char path[PATH_MAX];
	int fd = -1, rc, result = BOARD_KEPT;

	if (claims.board != NULL)
		return -EBUSY;
	rc = board_path(dir, path, sizeof(path));
	if (rc < 0)
		return rc;
	rc = map_existing(path, &fd, out);
	if (rc == 0 && strcmp((*out)->boot_id, boot_id) != 0) {
		(void)munmap(*out, sizeof(struct board));
		(void)close(fd);
		rc = -ESTALE;
	}
	if (rc == -ENOENT || rc == -ESTALE || rc == -ELOOP) {
		result = BOARD_MADE;
		rc = make(path, boot_id, &fd, out);
	}
	if (rc < 0)
		return rc;
	repair(*out);
	claims.board = *out;
	claims.fd = fd;
	claims.cells = 0;
	/* The store beside it may be another one than before. */
	(void)atomic_fetch_add(&(*out)->index_salt, 1);
	if (atomic_load(&(*out)->index_buckets) == 0)
		(void)!board_index_claim(*out, BOARD_INDEX_FIRST);
	return result;
}

int
board_open_worker(const char *dir, struct board **out)
{
	char path[PATH_MAX];
	int fd, rc;

	rc = board_path(dir, path, sizeof(path));
	if (rc == 0)
		rc = map_existing(path, &fd, out);
	if (rc == 0)
		(void)close(fd);
	return rc;
}

void
board_close(struct board *board)
{
	if (board == NULL)
		return;
	if (board == claims.board) {
		(void)close(claims.fd);
		claims.fd = -1;
		claims.board = NULL;
	}
	attempts.slot = NULL;
	(void)munmap(board, sizeof(struct board));
}

int
board_slot_claim(struct board *board, unsigned int slot)
{
	int rc;

	assert(board == claims.board);
	if (slot >= BOARD_SLOTS)
		return -EINVAL;
	rc = reserve(claims.fd,
	    offsetof(struct board, slots) + slot * sizeof(struct board_slot),
	    sizeof(struct board_slot));
	if (rc == 0 && atomic_load(&board->slots_used) <= slot)
		atomic_store(&board->slots_used, slot + 1);
	return rc;
}

int
board_cells_claim(struct board *board, uint32_t count)
{
	uint32_t end;
	int rc;

	assert(board == claims.board);
	if (count > BOARD_CELLS)
		return -EINVAL;
	if (count <= claims.cells)
		return 0;
	end = (count + CELLS_PER_CLAIM - 1) / CELLS_PER_CLAIM * CELLS_PER_CLAIM;
	rc = reserve(claims.fd,
	    offsetof(struct board, cells) +
		claims.cells * sizeof(struct board_cell),
	    (end - claims.cells) * sizeof(struct board_cell));
	if (rc == 0)
		claims.cells = end;
	return rc;
}

int
board_index_claim(struct board *board, uint32_t buckets)
{
	int rc;

	assert(board == claims.board);
	if (buckets > BOARD_INDEX_BUCKETS)
		return -EINVAL;
	rc = reserve(claims.fd, offsetof(struct board, index),
	    buckets * sizeof(struct board_index_bucket));
	if (rc == 0)
		atomic_store(&board->index_buckets, buckets);
	return rc;
}

struct board_word
board_word_unpack(uint64_t raw)
{
	return (struct board_word){
		.incarnation = (uint16_t)(raw >> WORD_INCARNATION_SHIFT),
		.kind = (enum board_kind)(raw & ((1u << WORD_KIND_BITS) - 1)),
		.until_ms =
		    (int64_t)(raw >> WORD_KIND_BITS & (uint64_t)WORD_UNTIL_MAX),
	};
}

uint64_t
board_word_pack(struct board_word word)
{
	int64_t until_ms = word.until_ms;

	if (until_ms < 0)
		until_ms = 0;
	if (until_ms > WORD_UNTIL_MAX)
		until_ms = WORD_UNTIL_MAX;
	return (uint64_t)word.incarnation << WORD_INCARNATION_SHIFT |
	       (uint64_t)until_ms << WORD_KIND_BITS | (uint64_t)word.kind;
}

struct board_note
board_note_unpack(uint64_t raw)
{
	return (struct board_note){
		.level = (uint8_t)(raw >> 56),
		.reason = (uint8_t)(raw >> 48),
		.status = (uint16_t)(raw >> 32),
	};
}

uint64_t
board_note_pack(struct board_note note)
{
	return (uint64_t)note.level << 56 | (uint64_t)note.reason << 48 |
	       (uint64_t)note.status << 32;
}

struct board_word
board_cell_read(struct board_cell *cell, uint16_t incarnation)
{
	uint64_t raw = atomic_load_explicit(&cell->word, memory_order_acquire);
	struct board_word word = board_word_unpack(raw);

	if (word.incarnation != incarnation)
		word = (struct board_word){ .incarnation = incarnation };
	return word;
}

bool
board_cell_barred(struct board_cell *cell, uint16_t incarnation, int64_t now_ms)
{
	struct board_word word = board_cell_read(cell, incarnation);

	return word.kind != BOARD_READY && word.until_ms > now_ms;
}

bool
board_cell_raise(struct board_cell *cell, struct board_word word)
{
	uint64_t raised = board_word_pack(word);
	uint64_t seen = atomic_load(&cell->word);

	do {
		if (board_word_unpack(seen).incarnation != word.incarnation)
			return false;
		if (seen >= raised)
			return seen == raised;
	} while (!atomic_compare_exchange_weak(&cell->word, &seen, raised));
	return true;
}

int64_t
board_cell_climb(struct board_cell *cell, uint16_t incarnation, int64_t now_ms,
    int64_t least_ms, int64_t most_ms, struct board_note *note)
{
	const uint8_t top = ARRAY_LEN(ladder_s) - 1;
	uint64_t seen = atomic_load(&cell->word);
	struct board_word word, next;
	uint8_t level;
	bool open;

	do {
		word = board_word_unpack(seen);
		level = board_note_unpack(atomic_load(&cell->note)).level;
		if (level > top)
			level = top;
		note->level = level;
		if (word.incarnation != incarnation)
			return now_ms;
		next = (struct board_word){
			.incarnation = incarnation,
			.kind = BOARD_COOLING,
			.until_ms = now_ms + ladder_s[level] * INT64_C(1000),
		};
		open = word.kind == BOARD_COOLING && word.until_ms > now_ms;
		if (open || next.until_ms < now_ms + least_ms)
			next.until_ms = now_ms + least_ms;
		if (next.until_ms > now_ms + most_ms)
			next.until_ms = now_ms + most_ms;
		if (word.until_ms > now_ms && word.until_ms >= next.until_ms)
			return word.until_ms;
	} while (!atomic_compare_exchange_weak(
	    &cell->word, &seen, board_word_pack(next)));

	if (!open)
		note->level = level < top ? level + 1 : top;
	board_cell_set_note(cell, *note);
	return next.until_ms;
}

void
board_cell_set_note(struct board_cell *cell, struct board_note note)
{
	atomic_store(&cell->note, board_note_pack(note));
}

void
board_cell_reset(struct board_cell *cell, uint16_t incarnation)
{
	atomic_store(&cell->note, 0);
	atomic_store(&cell->word,
	    board_word_pack((struct board_word){ .incarnation = incarnation }));
}

const char *
board_reason_name(uint8_t reason)
{
	return reason < COOL_MAX ? reason_names[reason] : "unknown";
}

const char *
board_moved_name(enum board_moved why)
{
	return moved_names[why];
}

uint64_t
board_cursor_read(struct board *board, uint32_t cursor)
{
	assert(cursor < BOARD_CURSORS);
	return atomic_load_explicit(
	    &board->cursors[cursor], memory_order_acquire);
}

bool
board_cursor_move(
    struct board *board, uint32_t cursor, uint64_t seen, uint64_t next)
{
	assert(cursor < BOARD_CURSORS);
	return atomic_compare_exchange_strong(
	    &board->cursors[cursor], &seen, next);
}

/* Subtracts, but not below zero. */
static void
subtract(_Atomic uint64_t *total, uint64_t amount)
{
	uint64_t seen = atomic_load(total), left;

	do {
		left = seen > amount ? seen - amount : 0;
	} while (!atomic_compare_exchange_weak(total, &seen, left));
}

/*
 * In both directions a process that dies between the two steps leaves the
 * total too low, which cures itself when it reaches zero, never too high,
 * which would last.
 */
bool
board_bodies_take(struct board *board, struct board_slot *slot, uint64_t bytes,
    uint64_t limit)
{
	uint64_t seen = atomic_load(&board->bodies);

	(void)atomic_fetch_add(&slot->bodies, bytes);
	do {
		if (bytes > limit || seen > limit - bytes) {
			subtract(&slot->bodies, bytes);
			return false;
		}
	} while (
	    !atomic_compare_exchange_weak(&board->bodies, &seen, seen + bytes));
	return true;
}

void
board_bodies_give(struct board *board, struct board_slot *slot, uint64_t bytes)
{
	subtract(&board->bodies, bytes);
	subtract(&slot->bodies, bytes);
}

static struct timespec
monotonic_after_ms(int ms)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	ts.tv_sec += ms / 1000;
	ts.tv_nsec += ms % 1000 * 1000000L;
	if (ts.tv_nsec >= 1000000000L) {
		ts.tv_sec++;
		ts.tv_nsec -= 1000000000L;
	}
	return ts;
}

/* pthread's error number; EBUSY and ETIMEDOUT mean that another holds it. */
static int
acquire(pthread_mutex_t *lock, int wait_ms)
{
	struct timespec deadline;
	int error;

	error = pthread_mutex_trylock(lock);
	if (error != EBUSY || wait_ms <= 0 ||
	    clock_mono_us() < lock_rest_until_us)
		return error;
	deadline = monotonic_after_ms(wait_ms);
	error = pthread_mutex_clocklock(lock, CLOCK_MONOTONIC, &deadline);
	if (error == ETIMEDOUT)
		lock_rest_until_us =
		    clock_mono_us() + BOARD_LOCK_REST_MS * INT64_C(1000);
	return error;
}

int
board_bind_lock(struct board *board, int wait_ms)
{
	int64_t begun_us = clock_mono_us();
	int error = acquire(&board->bind_lock, wait_ms);

	if (error == EBUSY || error == ETIMEDOUT)
		return BOARD_LOCK_BUSY;
	if (error == EOWNERDEAD)
		error = pthread_mutex_consistent(&board->bind_lock);
	if (error != 0)
		return -error;
	traffic_observe(&board->bind_wait, clock_mono_us() - begun_us);
	atomic_store(&board->bind_since_ms, clock_mono_us() / 1000);
	atomic_store(&board->bind_holder, getpid());
	atomic_store(&board->bind_session, 0);
	return 0;
}

void
board_bind_unlock(struct board *board)
{
	atomic_store(&board->bind_session, 0);
	atomic_store(&board->bind_holder, 0);
	(void)pthread_mutex_unlock(&board->bind_lock);
}

void
board_bind_session(struct board *board, uint64_t session)
{
	atomic_store(&board->bind_session, session);
}

void
board_bind_await(struct board *board, uint64_t session, int wait_ms)
{
	const struct timespec step = { .tv_nsec = 50 * 1000 };
	int64_t end_us = clock_mono_us() + wait_ms * INT64_C(1000);

	while (atomic_load(&board->bind_session) == session &&
	       clock_mono_us() < end_us)
		(void)nanosleep(&step, NULL);
}

static _Atomic uint64_t *
mark_of(struct board *board, uint64_t session)
{
	return &board->marks[session % BOARD_MARKS];
}

static uint64_t
mark_tag(uint64_t session)
{
	return session >> MARK_TAG_SHIFT << MARK_TAG_SHIFT;
}

void
board_session_mark(struct board *board, uint64_t session, int64_t until_ms)
{
	_Atomic uint64_t *mark = mark_of(board, session);
	uint64_t seen = atomic_load(mark);
	uint64_t slot = 0;

	if (mark_tag(seen) == mark_tag(session))
		slot = seen & MARK_SLOT_MASK;
	atomic_store(
	    mark, mark_tag(session) | slot | (uint32_t)(until_ms / 1000));
}

void
board_session_served(struct board *board, uint64_t session, uint32_t slot)
{
	_Atomic uint64_t *mark = mark_of(board, session);
	uint64_t seen = atomic_load(mark);

	if (slot + 1 >= BOARD_CREDENTIALS ||
	    mark_tag(seen) != mark_tag(session) || (seen & MARK_SLOT_MASK) != 0)
		return;
	(void)atomic_compare_exchange_strong(
	    mark, &seen, seen | (uint64_t)(slot + 1) << MARK_SLOT_SHIFT);
}

bool
board_session_marked(
    struct board *board, uint64_t session, int64_t now_ms, uint32_t *slot)
{
	uint64_t mark = atomic_load(mark_of(board, session));
	uint32_t kept = (uint32_t)((mark & MARK_SLOT_MASK) >> MARK_SLOT_SHIFT);

	*slot = kept != 0 ? kept - 1 : BOARD_NONE;
	return mark_tag(mark) == mark_tag(session) &&
	       (int64_t)(uint32_t)mark > now_ms / 1000;
}

int64_t
board_bind_held_ms(struct board *board, int32_t *holder)
{
	int64_t since_ms = atomic_load(&board->bind_since_ms);

	*holder = atomic_load(&board->bind_holder);
	if (*holder == 0 || since_ms != atomic_load(&board->bind_since_ms))
		return 0;
	return clock_mono_us() / 1000 - since_ms;
}

/* Fills the stack of free attempts, the lowest on top. */
static void
adopt_slot(struct board_slot *slot)
{
	attempts.slot = slot;
	attempts.nfree = 0;
	for (unsigned int i = BOARD_ATTEMPTS; i-- > 0;) {
		if (atomic_load(&slot->attempts[i].state) == ATTEMPT_FREE)
			attempts.free[attempts.nfree++] = (uint16_t)i;
	}
}

int
board_attempt_take(struct board_slot *slot)
{
	struct board_attempt *a;
	uint16_t index;

	if (attempts.slot != slot)
		adopt_slot(slot);
	if (attempts.nfree == 0)
		return -1;
	index = attempts.free[--attempts.nfree];
	a = &slot->attempts[index];
	memset((char *)a + sizeof(a->state), 0, sizeof(*a) - sizeof(a->state));
	return index;
}

static void
set_attempt_state(
    struct board_slot *slot, int index, enum board_attempt_state state)
{
	atomic_store_explicit(
	    &slot->attempts[index].state, state, memory_order_release);
}

void
board_attempt_begin(struct board_slot *slot, int index)
{
	if (index < 0)
		return;
	slot->attempts[index].start_ms = clock_now_ms();
	set_attempt_state(slot, index, ATTEMPT_RUNNING);
}

void
board_attempt_record(struct board_slot *slot, int index, int64_t time_s)
{
	if (index < 0)
		return;
	slot->attempts[index].record_s = time_s;
	set_attempt_state(slot, index, ATTEMPT_RECORDING);
}

void
board_attempt_end(struct board_slot *slot, int index)
{
	if (index < 0)
		return;
	assert(slot == attempts.slot && index < BOARD_ATTEMPTS);
	assert(attempts.nfree < BOARD_ATTEMPTS);
	set_attempt_state(slot, index, ATTEMPT_FREE);
	attempts.free[attempts.nfree++] = (uint16_t)index;
}

static size_t
counter_words(struct board_counters *counters, _Atomic uint64_t **words)
{
	*words = &counters->requests;
	return sizeof(*counters) / sizeof(**words);
}

static void
fold_counters(struct board_counters *into, struct board_counters *from)
{
	_Atomic uint64_t *dst, *src;
	size_t n = counter_words(into, &dst);

	(void)counter_words(from, &src);
	for (size_t i = 0; i < n; i++)
		(void)atomic_fetch_add(&dst[i], atomic_exchange(&src[i], 0));
}

static void
add_counters(struct board_counters *sum, struct board_counters *from)
{
	_Atomic uint64_t *dst, *src;
	size_t n = counter_words(sum, &dst);

	(void)counter_words(from, &src);
	for (size_t i = 0; i < n; i++)
		(void)atomic_fetch_add(&dst[i], atomic_load(&src[i]));
}

void
board_slot_reap(struct board *board, struct board_slot *slot)
{
	(void)atomic_fetch_add(&board->folds, 1);
	fold_counters(&board->dead, &slot->counters);
	(void)atomic_fetch_add(&board->folds, 1);

	subtract(&board->bodies, atomic_exchange(&slot->bodies, 0));
	for (size_t i = 0; i < BOARD_ATTEMPTS; i++)
		atomic_store(&slot->attempts[i].state, ATTEMPT_FREE);
	if (attempts.slot == slot)
		attempts.slot = NULL;
	atomic_store(&slot->connections, 0);
	atomic_store(&slot->streams, 0);
	atomic_store(&slot->usage_epoch, 0);
	atomic_store(&slot->pid, 0);
	atomic_store(&slot->state, BOARD_SLOT_FREE);
}

void
board_counters_sum(struct board *board, struct board_counters *sum)
{
	uint32_t before, used;

	for (int tries = 0; tries < SUM_TRIES; tries++) {
		before = atomic_load(&board->folds);
		used = atomic_load(&board->slots_used);
		memset(sum, 0, sizeof(*sum));
		add_counters(sum, &board->dead);
		for (uint32_t i = 0; i < used && i < BOARD_SLOTS; i++)
			add_counters(sum, &board->slots[i].counters);
		if ((before & 1) == 0 && before == atomic_load(&board->folds))
			return;
	}
}

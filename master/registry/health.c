/* SPDX-License-Identifier: MIT */
/* The master's side of the words on the board; see health.h. */
#include "master/registry/health.h"

#include <errno.h>
#include <string.h>

#include "common/clock.h"

int
health_each_cell(
    struct board *board, const struct entry *e, health_cell_fn *fn, void *ctx)
{
	const struct served *served = e->served;
	size_t i;
	int rc;

	if (e->slot == BOARD_NONE)
		return 0;
	rc = fn(ctx, "", &board->credentials[e->slot].cell);
	for (i = 0; rc == 0 && i < served->n; i++) {
		if (served->v[i].cell == BOARD_NONE ||
		    (i > 0 && served->v[i - 1].cell == served->v[i].cell))
			continue;
		rc =
		    fn(ctx, served->v[i].key, &board->cells[served->v[i].cell]);
	}
	return rc;
}

static bool
cooling_is_off(const struct entry *e)
{
	return (e->flags & STATE_DISABLE_COOLING) != 0;
}

enum health_change
health_compare(const struct entry *was, const struct entry *now)
{
	if (cooling_is_off(now) && !cooling_is_off(was))
		return HEALTH_ALL;
	if (entry_serves_otherwise(was, now))
		return HEALTH_NEW_TARGET;
	if (!digest_equal(&was->secret, &now->secret))
		return HEALTH_NEW_TOKEN;
	return HEALTH_KEEP;
}

static bool
is_about_token(uint8_t reason)
{
	return reason == COOL_UNAUTHORIZED || reason == COOL_INVALID_GRANT;
}

/* Whether the change ends what the cell says. */
static bool
ends(enum health_change change, struct board_word word, struct board_note note)
{
	switch (change) {
	case HEALTH_ALL:
		return true;
	case HEALTH_NEW_TARGET:
		return word.kind != BOARD_COOLING ||
		       word.until_ms <= clock_now_ms();
	case HEALTH_NEW_TOKEN:
		return is_about_token(note.reason);
	case HEALTH_KEEP:
		break;
	}
	return false;
}

static bool
cell_ends(struct board_cell *cell, enum health_change change)
{
	return ends(change, board_word_unpack(atomic_load(&cell->word)),
	    board_note_unpack(atomic_load(&cell->note)));
}

struct forgetting {
	struct store *state;
	MDB_txn *txn;
	const struct entry *entry;
	enum health_change change;
};

static int
delete_record(struct forgetting *f, const char *model)
{
	int rc = state_delete_health(f->state, f->txn, f->entry->id, model);

	return rc == -ENOENT ? 0 : rc;
}

static int
forget_cell(void *ctx, const char *model, struct board_cell *cell)
{
	struct forgetting *f = ctx;

	return cell_ends(cell, f->change) ? delete_record(f, model) : 0;
}

int
health_forget(struct store *state, struct board *board, MDB_txn *txn,
    const struct entry *e, enum health_change change)
{
	struct forgetting f = { state, txn, e, change };

	if (change == HEALTH_KEEP)
		return 0;
	return health_each_cell(board, e, forget_cell, &f);
}

/*
 * Lowers a word that is still the one that was judged; one that a worker has
 * raised since stays, and so does its note.
 */
static void
lower_cell(struct board_cell *cell, uint64_t seen)
{
	struct board_word clean = {
		.incarnation = board_word_unpack(seen).incarnation,
	};
	uint64_t note = atomic_load(&cell->note);

	if (atomic_compare_exchange_strong(
		&cell->word, &seen, board_word_pack(clean)))
		(void)atomic_compare_exchange_strong(&cell->note, &note, 0);
}

struct lowering {
	enum health_change change;
};

static int
lower_if_over(void *ctx, const char *model UNUSED, struct board_cell *cell)
{
	const struct lowering *l = ctx;
	uint64_t seen = atomic_load(&cell->word);

	if (ends(l->change, board_word_unpack(seen),
		board_note_unpack(atomic_load(&cell->note))))
		lower_cell(cell, seen);
	return 0;
}

void
health_lower(
    struct board *board, const struct entry *e, enum health_change change)
{
	struct lowering l = { change };

	if (change != HEALTH_KEEP)
		(void)health_each_cell(board, e, lower_if_over, &l);
}

int
health_prune(struct store *state, MDB_txn *txn, const struct entry *was,
    const struct entry *now)
{
	struct forgetting f = { .state = state, .txn = txn, .entry = was };
	const char *key;
	size_t i;
	int rc = 0;

	if (now == NULL)
		rc = delete_record(&f, "");
	for (i = 0; rc == 0 && i < was->served->n; i++) {
		key = was->served->v[i].key;
		if (now == NULL || served_find_key(now->served, key) == NULL)
			rc = delete_record(&f, key);
	}
	return rc;
}

struct restoring {
	struct board *board;
	const struct name_map *entries;
};

/* The cell of a record, NULL if nothing is there any more. */
static struct board_cell *
cell_of(struct board *board, const struct entry *e, const char *model)
{
	const struct served_model *m;

	if (*model == '\0')
		return &board->credentials[e->slot].cell;
	m = served_find_key(e->served, model);
	return m != NULL && m->cell != BOARD_NONE ? &board->cells[m->cell]
						  : NULL;
}

static bool
is_foreign(struct board_cell *cell, const struct entry *e)
{
	uint64_t raw = atomic_load(&cell->word);

	return board_word_unpack(raw).incarnation != e->incarnation;
}

static int
restore_record(
    void *ctx, const char *id, const char *model, const struct state_health *h)
{
	const struct restoring *r = ctx;
	const struct entry *e = name_map_find(r->entries, id);
	struct board_cell *cell;

	if (e == NULL || h->incarnation != e->incarnation)
		return 0;
	cell = cell_of(r->board, e, model);
	if (cell == NULL || !is_foreign(cell, e))
		return 0;
	board_cell_reset(cell, e->incarnation);
	(void)board_cell_raise(
	    cell, (struct board_word){ .incarnation = h->incarnation,
		      .kind = (enum board_kind)h->kind,
		      .until_ms = h->until_ms });
	board_cell_set_note(cell,
	    (struct board_note){
		.level = h->level, .reason = h->reason, .status = h->status });
	return 0;
}

static int
clean_if_foreign(void *ctx, const char *model UNUSED, struct board_cell *cell)
{
	const struct entry *e = ctx;

	if (is_foreign(cell, e))
		board_cell_reset(cell, e->incarnation);
	return 0;
}

int
health_restore(struct store *state, MDB_txn *txn, struct board *board,
    const struct name_map *entries)
{
	struct restoring r = { board, entries };
	size_t i;
	int rc;

	rc = state_each_health(state, txn, restore_record, &r);
	for (i = 0; i < entries->n; i++)
		(void)health_each_cell(
		    board, entries->v[i], clean_if_foreign, entries->v[i]);
	return rc;
}

/* The model whose state the cell is, "" for the whole; NULL: none of e's. */
static const char *
model_of(const struct entry *e, const struct ipc_result *r)
{
	size_t i;

	if (r->wide)
		return "";
	for (i = 0; i < e->served->n; i++) {
		if (e->served->v[i].cell == r->cell && r->cell != BOARD_NONE)
			return e->served->v[i].key;
	}
	return NULL;
}

/* One small transaction; health == NULL deletes. */
static int
write_record(struct store *state, const char *id, const char *model,
    const struct state_health *health)
{
	MDB_txn *txn;
	int rc;

	rc = store_write(state, &txn);
	if (rc < 0)
		return rc;
	if (health != NULL)
		rc = state_put_health(state, txn, id, model, health);
	else
		rc = state_delete_health(state, txn, id, model);
	if (rc < 0) {
		mdb_txn_abort(txn);
		return rc == -ENOENT ? 0 : rc;
	}
	return store_commit(txn);
}

/* What stands on the board, as it will be restored. */
static int
record_failure(struct store *state, const struct entry *e, const char *model,
    struct board_cell *cell)
{
	struct board_word word = board_cell_read(cell, e->incarnation);
	struct board_note note = board_note_unpack(atomic_load(&cell->note));
	struct state_health health = {
		.until_ms = word.until_ms,
		.incarnation = e->incarnation,
		.status = note.status,
		.kind = (uint8_t)word.kind,
		.reason = note.reason,
		.level = note.level,
	};

	if (word.kind == BOARD_READY)
		return 0;
	return write_record(state, e->id, model, &health);
}

static bool
is_clean(struct board_cell *cell, const struct entry *e)
{
	return board_cell_read(cell, e->incarnation).kind == BOARD_READY &&
	       atomic_load(&cell->note) == 0;
}

static int
clear_cell(struct store *state, const struct entry *e, const char *model,
    struct board_cell *cell, int64_t seen_ms)
{
	uint64_t seen = atomic_load(&cell->word);
	struct board_word word = board_word_unpack(seen);
	int rc;

	if (is_clean(cell, e) || word.incarnation != e->incarnation ||
	    (seen_ms != 0 && word.until_ms > seen_ms))
		return 0;
	rc = write_record(state, e->id, model, NULL);
	lower_cell(cell, seen);
	return rc;
}

/*
 * A success shows that no failure of the whole credential is left, but says
 * nothing of its quota: the request may have begun before that ran out.
 */
static int
record_success(struct store *state, struct board *board, const struct entry *e,
    const char *model, struct board_cell *cell, int64_t seen_ms)
{
	struct board_cell *whole = &board->credentials[e->slot].cell;
	struct board_word word = board_cell_read(whole, e->incarnation);
	int rc;

	if (word.kind == BOARD_COOLING && word.until_ms > clock_now_ms())
		return 0;
	rc = clear_cell(state, e, model, cell, seen_ms);
	if (rc == 0 && cell != whole)
		rc = clear_cell(state, e, "", whole, seen_ms);
	return rc;
}

int
health_result(struct store *state, struct board *board, const struct entry *e,
    const struct ipc_result *r)
{
	struct board_cell *cell;
	const char *model;

	if (e == NULL || e->incarnation != r->incarnation)
		return 0;
	model = model_of(e, r);
	cell = model != NULL ? cell_of(board, e, model) : NULL;
	if (cell == NULL)
		return 0;
	if (r->success)
		return record_success(
		    state, board, e, model, cell, r->until_ms);
	return record_failure(state, e, model, cell);
}

static int
delete_cell_record(void *ctx, const char *model, struct board_cell *cell UNUSED)
{
	return delete_record(ctx, model);
}

static int
reset_cell(void *ctx, const char *model UNUSED, struct board_cell *cell)
{
	const uint16_t *incarnation = ctx;

	board_cell_reset(cell, *incarnation);
	return 0;
}

int
health_reset(struct store *state, struct board *board, const struct entry *e)
{
	struct forgetting f = { .state = state, .entry = e };
	uint16_t incarnation = e->incarnation;
	int rc;

	rc = store_write(state, &f.txn);
	if (rc < 0)
		return rc;
	rc = health_each_cell(board, e, delete_cell_record, &f);
	if (rc < 0) {
		mdb_txn_abort(f.txn);
		return rc;
	}
	rc = store_commit(f.txn);
	if (rc == 0)
		(void)health_each_cell(board, e, reset_cell, &incarnation);
	return rc;
}

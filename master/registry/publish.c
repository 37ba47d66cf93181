/* SPDX-License-Identifier: MIT */
/* Places on the board and transactions of `state`; see publish.h. */
#include "master/registry/publish.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/alloc.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/secret.h"
#include "common/state.h"
#include "common/str.h"
#include "master/credential/pool.h"
#include "master/registry/health.h"

enum {
	SLOT_STEP = 256,
	CELL_STEP = 4096,
	/* From here on routes are built anew instead of one by one. */
	MANY_CHANGES = 64
};

static const char no_slot[] = "the board has no place left";

/* An origin through a proxy, and how many usable entries share it. */
struct path {
	char *name; /* first: the key of maps */
	size_t users;
};

struct publisher {
	struct store *state;
	struct board *board;
	struct name_map entries;
	struct name_map paths;
	struct routes routes;
	struct pool slots;
	struct pool cells;
	struct entry **by_slot;
	uint64_t last_epoch;
	uint16_t incarnation; /* the last one given out */
	bool cells_ran_out;
};

/* ---- taking up what an earlier master left */

static void
mark_cells(struct publisher *p, struct entry *e)
{
	struct served *served = e->served;
	struct served_model *m, *before;
	size_t i;

	for (i = 0; i < served->n; i++) {
		m = &served->v[i];
		before = i > 0 ? &served->v[i - 1] : NULL;
		if (before != NULL && strcmp(before->key, m->key) == 0)
			m->cell = before->cell;
		else if (!pool_mark(&p->cells, m->cell))
			m->cell = BOARD_NONE;
	}
}

/* The cursors of pools, each of them one that nobody else has. */
static void
mark_pool_cursors(struct publisher *p, struct entry *e)
{
	struct served_model *m;
	size_t i;

	for (i = 0; i < e->served->n; i++) {
		m = &e->served->v[i];
		if (m->place != 0 || !routes_mark_cursor(&p->routes, m->cursor))
			m->cursor = BOARD_NONE;
	}
}

static int
recover_credential(void *ctx, const struct state_credential *record)
{
	struct publisher *p = ctx;
	struct entry *e;

	if (record->slot >= BOARD_CREDENTIALS || record->incarnation == 0 ||
	    !pool_mark(&p->slots, record->slot))
		return 0;
	e = entry_from_record(record);
	mark_cells(p, e);
	mark_pool_cursors(p, e);
	p->by_slot[e->slot] = e;
	if (e->epoch > p->last_epoch)
		p->last_epoch = e->epoch;
	(void)name_map_put(&p->entries, e);
	return 0;
}

static int
recover_route(void *ctx, const struct state_route *record)
{
	struct publisher *p = ctx;

	routes_recover(&p->routes, record);
	return 0;
}

/*
 * Epochs go on from the time where no record says how far they were: an older
 * environment of bindings may still hold any that was given out before.
 */
static int
recover_epoch(struct publisher *p, MDB_txn *txn)
{
	struct state_meta meta;
	int rc = state_get_meta(p->state, txn, &meta);

	if (rc == -ENOENT) {
		p->last_epoch = (uint64_t)clock_now_ms();
		return 0;
	}
	if (rc == 0)
		p->last_epoch = meta.last_epoch;
	return rc;
}

static int
recover(struct publisher *p)
{
	MDB_txn *txn;
	int rc;

	rc = store_read(p->state, &txn);
	if (rc < 0)
		return rc;
	rc = recover_epoch(p, txn);
	if (rc == 0)
		rc =
		    state_each_credential(p->state, txn, recover_credential, p);
	if (rc == 0)
		rc = state_each_route(p->state, txn, recover_route, p);
	if (rc == 0)
		rc = board_cells_claim(p->board, p->cells.limit);
	if (rc == 0)
		rc = health_restore(p->state, txn, p->board, &p->entries);
	store_read_end(p->state);
	return rc;
}

int
publisher_new(struct store *state, struct board *board, struct publisher **out)
{
	struct publisher *p = xcalloc(1, sizeof(*p));
	int rc;

	p->state = state;
	p->board = board;
	routes_init(&p->routes, board);
	pool_init(&p->slots, BOARD_CREDENTIALS, SLOT_STEP);
	pool_init(&p->cells, BOARD_CELLS, CELL_STEP);
	p->by_slot = xcalloc(BOARD_CREDENTIALS, sizeof(struct entry *));
	random_bytes(&p->incarnation, sizeof(p->incarnation));
	rc = recover(p);
	if (rc < 0) {
		publisher_free(p);
		return rc;
	}
	*out = p;
	return 0;
}

void
publisher_free(struct publisher *p)
{
	struct path *path;
	size_t i;

	if (p == NULL)
		return;
	for (i = 0; i < p->entries.n; i++)
		entry_free(p->entries.v[i]);
	for (i = 0; i < p->paths.n; i++) {
		path = p->paths.v[i];
		secret_free(path->name);
		free(path);
	}
	name_map_fini(&p->entries);
	name_map_fini(&p->paths);
	routes_fini(&p->routes);
	pool_fini(&p->slots);
	pool_fini(&p->cells);
	free(p->by_slot);
	free(p);
}

/* ---- places */

/* Never 0, which a new board is full of, nor what the slot had before. */
static uint16_t
next_incarnation(struct publisher *p, uint32_t slot)
{
	uint64_t raw = atomic_load(&p->board->credentials[slot].cell.word);

	do {
		p->incarnation++;
	} while (p->incarnation == 0 ||
		 p->incarnation == board_word_unpack(raw).incarnation);
	return p->incarnation;
}

static bool
take_slot(struct publisher *p, struct entry *e)
{
	struct board_credential *place;

	e->slot = pool_take(&p->slots);
	if (e->slot == BOARD_NONE) {
		e->fault = no_slot;
		return false;
	}
	place = &p->board->credentials[e->slot];
	atomic_store(&place->succeeded, 0);
	atomic_store(&place->failed, 0);
	atomic_store(&place->last_status, 0);
	return true;
}

/* One that is free and can be touched. */
static uint32_t
take_any_cell(struct publisher *p)
{
	uint32_t cell = pool_take(&p->cells);

	if (cell != BOARD_NONE && board_cells_claim(p->board, cell + 1) < 0) {
		pool_give(&p->cells, cell);
		cell = BOARD_NONE;
	}
	return cell;
}

/* Whether a result that is under way could still mean the cell. */
static bool
was_of(const struct publisher *p, const struct entry *e, uint32_t cell)
{
	uint64_t raw = atomic_load(&p->board->cells[cell].word);

	return board_word_unpack(raw).incarnation == e->incarnation;
}

/*
 * A cell that the same incarnation had before, for a model that went, is left
 * to others: what is said late of that model is not of this one. Given back it
 * is not what comes next.
 */
static uint32_t
take_cell(struct publisher *p, const struct entry *e)
{
	uint32_t cell = take_any_cell(p);
	int tries;

	for (tries = 0;
	     tries < CELL_STEP && cell != BOARD_NONE && was_of(p, e, cell);
	     tries++) {
		pool_give(&p->cells, cell);
		cell = take_any_cell(p);
	}
	if (cell == BOARD_NONE && !p->cells_ran_out) {
		log_error("credential %s: the board has no room for all of its "
			  "models",
		    e->id);
		p->cells_ran_out = true;
	}
	return cell;
}

/* The cell of the same model in what is replaced. */
static uint32_t
inherited_cell(const struct entry *old, const char *key)
{
	const struct served_model *m =
	    old != NULL ? served_find_key(old->served, key) : NULL;

	return m != NULL ? m->cell : BOARD_NONE;
}

/* Cells of what can serve; one that starts clean has them reset. */
static void
place_cells(
    struct publisher *p, struct entry *e, const struct entry *old, bool clean)
{
	struct served *served = e->served;
	struct served_model *m;
	size_t i;

	for (i = 0; i < served->n; i++) {
		m = &served->v[i];
		if (i > 0 && strcmp(served->v[i - 1].key, m->key) == 0) {
			m->cell = served->v[i - 1].cell;
			continue;
		}
		m->cell = inherited_cell(old, m->key);
		if (m->cell != BOARD_NONE && !clean)
			continue;
		if (m->cell == BOARD_NONE)
			m->cell = take_cell(p, e);
		if (m->cell != BOARD_NONE)
			board_cell_reset(
			    &p->board->cells[m->cell], e->incarnation);
	}
}

static uint32_t
inherited_cursor(const struct entry *old, const char *name)
{
	size_t i;

	for (i = 0; old != NULL && i < old->served->n; i++) {
		const struct served_model *m = &old->served->v[i];

		if (m->place == 0 && strcmp(m->name, name) == 0)
			return m->cursor;
	}
	return BOARD_NONE;
}

/* The first of a pool holds its cursor. */
static void
place_pools(struct publisher *p, struct entry *e, const struct entry *old)
{
	struct served *served = e->served;
	struct served_model *m;
	size_t i;

	for (i = 0; i < served->n; i++) {
		m = &served->v[i];
		if (m->place != 0 || m->npool < 2)
			continue;
		m->cursor = inherited_cursor(old, m->name);
		if (m->cursor == BOARD_NONE)
			m->cursor = routes_take_cursor(&p->routes, m->name);
	}
}

static void
inherit(struct entry *e, const struct entry *old)
{
	e->slot = old->slot;
	e->epoch = old->epoch;
	e->incarnation = old->incarnation;
	e->token_generation = old->token_generation;
	if (!digest_equal(&e->secret, &old->secret))
		e->token_generation++;
}

/*
 * Nothing of this is visible before the commit: a cell that is reset here is
 * new, or belongs to one that was disabled.
 */
static void
place(struct publisher *p, struct publish_change *c)
{
	struct entry *e = c->now;
	const struct entry *old = c->fresh ? NULL : c->old;
	bool clean = true;

	if (old != NULL && old->slot != BOARD_NONE) {
		inherit(e, old);
		clean = entry_is_disabled(old) && !entry_is_disabled(e);
	} else if (take_slot(p, e)) {
		e->epoch = ++p->last_epoch;
		e->token_generation = 1;
	} else {
		return;
	}
	if (!clean)
		entry_inherit_note(e, old);
	if (clean) {
		e->incarnation = next_incarnation(p, e->slot);
		board_cell_reset(
		    &p->board->credentials[e->slot].cell, e->incarnation);
	}
	if (entry_is_usable(e)) {
		place_cells(p, e, old, clean);
		place_pools(p, e, old);
	}
	c->placed = true;
}

/* Gives back what `e` holds and `other`, which may be NULL, does not. */
static void
give_places(
    struct publisher *p, const struct entry *e, const struct entry *other)
{
	const struct served *served = e->served;
	size_t i;

	for (i = 0; i < served->n; i++) {
		if (i > 0 &&
		    strcmp(served->v[i - 1].key, served->v[i].key) == 0)
			continue;
		if (other == NULL || inherited_cell(other, served->v[i].key) !=
					 served->v[i].cell)
			pool_give(&p->cells, served->v[i].cell);
	}
	for (i = 0; i < served->n; i++) {
		const struct served_model *m = &served->v[i];

		if (m->place == 0 &&
		    (other == NULL ||
			inherited_cursor(other, m->name) != m->cursor))
			routes_give_cursor(&p->routes, m->cursor);
	}
	if (other == NULL || other->slot != e->slot)
		pool_give(&p->slots, e->slot);
}

/* ---- what is in memory: entries, routes, paths */

static void
join_path(struct publisher *p, struct entry *e)
{
	struct path *path;

	if (!entry_is_usable(e))
		return;
	path = name_map_find(&p->paths, e->path_name);
	if (path == NULL) {
		path = xcalloc(1, sizeof(*path));
		path->name = xstrdup(e->path_name);
		(void)name_map_put(&p->paths, path);
	}
	path->users++;
	e->path = path;
}

static void
leave_path(struct publisher *p, struct entry *e)
{
	struct path *path = e->path;

	e->path = NULL;
	if (path == NULL || --path->users > 0)
		return;
	(void)name_map_remove(&p->paths, path->name);
	secret_free(path->name);
	free(path);
}

static void
join(struct publisher *p, struct entry *e)
{
	routes_join(&p->routes, e);
	join_path(p, e);
	e->joined = true;
}

/* One that was only read back has never joined. */
static void
leave(struct publisher *p, struct entry *e)
{
	if (!e->joined)
		return;
	routes_leave(&p->routes, e);
	leave_path(p, e);
	e->joined = false;
}

/* Routes and paths from the entries, whatever they were before. */
static void
rebuild(struct publisher *p)
{
	struct entry *e;
	size_t i;

	for (i = 0; i < p->entries.n; i++)
		leave_path(p, p->entries.v[i]);
	routes_rebuild(&p->routes, &p->entries);
	for (i = 0; i < p->entries.n; i++) {
		e = p->entries.v[i];
		join_path(p, e);
		e->joined = true;
	}
}

/*
 * The published entry keeps its address: after the exchange it is the new
 * one, and c->old holds what it was. Done twice, nothing has happened.
 */
static void
exchange(struct publish_change *c)
{
	struct entry *published = c->old;

	entry_swap(published, c->now);
	c->old = c->now;
	c->now = published;
}

/* An exchange that no route can see. */
static void
exchange_unseen(struct publish_change *c)
{
	struct path *path = c->old->path;

	exchange(c);
	c->old->path = NULL;
	c->old->joined = false;
	c->now->path = path;
	c->now->joined = true;
}

/* Puts one change into effect in memory; of many, routes are built later. */
static void
enact(struct publisher *p, struct publish_change *c, bool many)
{
	if (c->old != NULL && c->old->slot != BOARD_NONE)
		p->by_slot[c->old->slot] = NULL;
	if (c->old != NULL && c->now != NULL && !many && c->old->joined &&
	    entry_same_in_routes(c->old, c->now)) {
		exchange_unseen(c);
	} else {
		if (c->old != NULL && !many)
			leave(p, c->old);
		else if (c->old != NULL)
			leave_path(p, c->old);
		if (c->now == NULL)
			(void)name_map_remove(&p->entries, c->id);
		else if (c->old == NULL)
			(void)name_map_put(&p->entries, c->now);
		else
			exchange(c);
		if (c->now != NULL && !many)
			join(p, c->now);
	}
	if (c->now == NULL)
		return;
	c->now->dirty = true;
	if (c->now->slot != BOARD_NONE)
		p->by_slot[c->now->slot] = c->now;
}

static void
enact_all(struct publisher *p, struct publish_change *changes, size_t n)
{
	bool many = n >= MANY_CHANGES;
	size_t i;

	for (i = 0; i < n; i++)
		enact(p, &changes[i], many);
	if (many)
		rebuild(p);
}

/* Takes one change back; routes are built anew afterwards. */
static void
undo(struct publisher *p, struct publish_change *c)
{
	if (c->now != NULL) {
		leave_path(p, c->now);
		c->now->joined = false;
		if (c->now->slot != BOARD_NONE)
			p->by_slot[c->now->slot] = NULL;
	}
	if (c->old == NULL) {
		(void)name_map_remove(&p->entries, c->id);
		return;
	}
	if (c->now == NULL)
		(void)name_map_put(&p->entries, c->old);
	else
		exchange(c);
	if (c->old->slot != BOARD_NONE)
		p->by_slot[c->old->slot] = c->old;
	c->old->dirty = true;
}

static void
undo_all(struct publisher *p, struct publish_change *changes, size_t n)
{
	size_t i;

	for (i = n; i-- > 0;)
		undo(p, &changes[i]);
	rebuild(p);
	for (i = 0; i < n; i++) {
		if (changes[i].placed)
			give_places(p, changes[i].now, changes[i].old);
	}
}

/* ---- the transaction */

static enum health_change
change_of(const struct publish_change *c)
{
	if (c->now == NULL || c->old == NULL || c->fresh ||
	    entry_is_disabled(c->old) || entry_is_disabled(c->now))
		return HEALTH_KEEP;
	return health_compare(c->old, c->now);
}

/* What is over for good: models and credentials that went, clean starts. */
static int
write_health(struct publisher *p, MDB_txn *txn, const struct publish_change *c)
{
	bool inherits = c->now != NULL && !c->fresh &&
			c->now->incarnation == c->old->incarnation &&
			entry_is_usable(c->now);
	int rc;

	rc = health_prune(p->state, txn, c->old, inherits ? c->now : NULL);
	if (rc == 0 && c->now != NULL)
		rc = health_forget(
		    p->state, p->board, txn, c->now, change_of(c));
	return rc;
}

static int
write_change(struct publisher *p, MDB_txn *txn, const struct publish_change *c)
{
	int rc = 0;

	if (c->old == NULL)
		return 0;
	if (c->now == NULL)
		rc = state_delete_credential(p->state, txn, c->id);
	if (rc == -ENOENT)
		rc = 0;
	return rc == 0 ? write_health(p, txn, c) : rc;
}

static int
write_credential(struct publisher *p, MDB_txn *txn, struct entry *e)
{
	struct entry_record record;
	int rc;

	e->own_path = e->path != NULL && e->path->users == 1;
	entry_record_make(e, &record);
	rc = state_put_credential(p->state, txn, &record.in);
	entry_record_fini(&record);
	return rc;
}

/* Those that changed, and those whose path a change made theirs or not. */
static int
write_credentials(struct publisher *p, MDB_txn *txn)
{
	struct entry *e;
	bool own_path;
	size_t i;
	int rc = 0;

	for (i = 0; rc == 0 && i < p->entries.n; i++) {
		e = p->entries.v[i];
		own_path = e->path != NULL && e->path->users == 1;
		e->dirty = e->dirty || own_path != e->own_path;
		if (e->dirty && e->cred != NULL && e->slot != BOARD_NONE)
			rc = write_credential(p, txn, e);
	}
	return rc;
}

static int
write_meta(struct publisher *p, MDB_txn *txn, const uint64_t *generation)
{
	struct state_meta meta;
	int rc = state_get_meta(p->state, txn, &meta);

	if (rc == -ENOENT)
		memset(&meta, 0, sizeof(meta));
	else if (rc < 0)
		return rc;
	if (generation != NULL)
		meta.generation = *generation;
	meta.last_epoch = p->last_epoch;
	meta.clock_base_ms = clock_base();
	meta.last_ms = clock_now_ms();
	(void)str_copy(meta.boot_id, sizeof(meta.boot_id), p->board->boot_id);
	return state_put_meta(p->state, txn, &meta);
}

static int
write_all(struct publisher *p, MDB_txn *txn,
    const struct publish_change *changes, size_t n, const uint64_t *generation)
{
	size_t i;
	int rc = 0;

	for (i = 0; rc == 0 && i < n; i++)
		rc = write_change(p, txn, &changes[i]);
	if (rc == 0)
		rc = write_credentials(p, txn);
	if (rc == 0)
		rc = routes_write(&p->routes, p->state, txn);
	if (rc == 0)
		rc = write_meta(p, txn, generation);
	return rc;
}

static int
commit(struct publisher *p, const struct publish_change *changes, size_t n,
    const uint64_t *generation)
{
	MDB_txn *txn;
	int rc;

	rc = store_write(p->state, &txn);
	if (rc < 0)
		return rc;
	rc = write_all(p, txn, changes, n, generation);
	if (rc < 0) {
		mdb_txn_abort(txn);
		return rc;
	}
	return store_commit(txn);
}

/* After the commit: words, places and memory of what is no more. */
static void
settle(struct publisher *p, struct publish_change *changes, size_t n)
{
	struct publish_change *c;
	struct entry *e;
	size_t i;

	for (i = 0; i < n; i++) {
		c = &changes[i];
		if (c->old == NULL)
			continue;
		if (c->now != NULL)
			health_lower(p->board, c->now, change_of(c));
		give_places(p, c->old, c->now);
		entry_free(c->old);
		c->old = NULL;
	}
	for (i = 0; i < p->entries.n; i++) {
		e = p->entries.v[i];
		e->dirty = false;
	}
	routes_settle(&p->routes);
}

int
publisher_apply(struct publisher *p, struct publish_change *changes, size_t n,
    const uint64_t *generation)
{
	size_t i;
	int rc;

	for (i = 0; i < n; i++) {
		changes[i].old = name_map_find(&p->entries, changes[i].id);
		changes[i].placed = false;
		if (changes[i].now != NULL)
			place(p, &changes[i]);
	}
	enact_all(p, changes, n);
	rc = commit(p, changes, n, generation);
	if (rc == 0)
		settle(p, changes, n);
	else
		undo_all(p, changes, n);
	return rc;
}

int
publisher_unbind(struct publisher *p, struct entry *e)
{
	uint64_t before = e->epoch;
	int rc;

	e->epoch = ++p->last_epoch;
	e->dirty = true;
	rc = commit(p, NULL, 0, NULL);
	if (rc < 0)
		e->epoch = before;
	else
		e->dirty = false;
	return rc;
}

int
publisher_result(struct publisher *p, const struct ipc_result *result)
{
	if (result->credential >= BOARD_CREDENTIALS)
		return 0;
	return health_result(
	    p->state, p->board, p->by_slot[result->credential], result);
}

int
publisher_reset(struct publisher *p, struct entry *e)
{
	return health_reset(p->state, p->board, e);
}

const struct name_map *
publisher_entries(const struct publisher *p)
{
	return &p->entries;
}

const struct name_map *
publisher_routes(const struct publisher *p)
{
	return &p->routes.map;
}

struct entry *
publisher_at(const struct publisher *p, uint32_t slot)
{
	return slot < BOARD_CREDENTIALS ? p->by_slot[slot] : NULL;
}

struct board *
publisher_board(const struct publisher *p)
{
	return p->board;
}

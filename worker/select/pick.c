/* SPDX-License-Identifier: MIT */
/*
 * A pick reads `state` in one transaction, so that route and credentials are
 * of one moment. `bindings` is read apart and first only to find the common
 * case, the live binding; whatever changes a binding goes through
 * bindings_bind(), which reads again under the lock and asks back here.
 */
#include "worker/select/pick.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/alloc.h"
#include "common/attr.h"
#include "common/binding_index.h"
#include "common/str.h"
#include "worker/select/strategy.h"
#include "worker/select/survey.h"

static const char *const decision_names[] = {
	[PICK_DECISION_NONE] = "none",
	[PICK_DECISION_HIT] = "hit",
	[PICK_DECISION_NEW] = "new",
	[PICK_DECISION_ADOPTED] = "adopted",
	[PICK_DECISION_MOVED] = "moved",
};

static const char *const why_names[PICK_WHY_MAX] = {
	[PICK_WHY_EXCLUDED] = "excluded",
	[PICK_WHY_ROUNDS] = "rounds",
	[PICK_WHY_DIALECT] = "dialect",
	[PICK_WHY_WEIGHT] = "weight",
	[PICK_WHY_COOLING] = "cooling",
	[PICK_WHY_BLOCKED] = "blocked",
	[PICK_WHY_DISABLED] = "disabled",
	[PICK_WHY_PROXY] = "proxy",
	[PICK_WHY_MODEL] = "model",
	[PICK_WHY_UNBOUND] = "unbound",
	[PICK_WHY_GONE] = "gone",
};

static const enum pick_decision decision_of[] = {
	[BIND_ADOPTED] = PICK_DECISION_ADOPTED,
	[BIND_NEW] = PICK_DECISION_NEW,
	[BIND_MOVED] = PICK_DECISION_MOVED,
};

/* Why a credential cannot serve; PICK_WHY_MAX: it can. */
struct verdict {
	enum pick_why why;
	int64_t until_ms;
};

static const struct verdict fit = { .why = PICK_WHY_MAX };

void
picker_init(struct picker *picker, struct store *state, struct store *bindings,
    struct board *board, const struct config *config)
{
	*picker = (struct picker){
		.state = state,
		.bindings = bindings,
		.board = board,
		.strategy = strategy_get(config->routing.strategy),
		.affinity = config->routing.session_affinity,
		.ttl_ms = config->routing.session_affinity_ttl_ms,
		.records =
		    xcalloc(BOARD_CREDENTIALS, sizeof(struct pick_record)),
	};
}

void
picker_fini(struct picker *picker)
{
	free(picker->records);
	picker->records = NULL;
	ready_views_fini(&picker->ready);
}

const char *
pick_decision_name(enum pick_decision decision)
{
	return decision_names[decision];
}

const char *
pick_why_name(enum pick_why why)
{
	return why_names[why];
}

/* Remembers a credential that was passed over, once. */
static void
pass_over(struct pick *p, uint32_t slot, const char *id, struct verdict v)
{
	struct pick_passed *passed;

	for (size_t i = 0; i < p->npassed; i++) {
		if (p->passed[i].slot == slot)
			return;
	}
	if (p->npassed == PICK_PASSED_MAX)
		return;
	passed = &p->passed[p->npassed++];
	passed->slot = slot;
	passed->why = v.why;
	passed->until_ms = v.until_ms;
	(void)str_copy(passed->credential, sizeof(passed->credential), id);
}

static bool
excluded(const struct pick_ask *ask, uint32_t slot)
{
	for (size_t i = 0; i < ask->nexcluded; i++) {
		if (ask->excluded[i] == slot)
			return true;
	}
	return false;
}

static struct verdict
bar_of(struct board_cell *cell, uint16_t incarnation, int64_t now_ms)
{
	struct board_word word = board_cell_read(cell, incarnation);

	if (word.kind == BOARD_READY || word.until_ms <= now_ms)
		return fit;
	return (struct verdict){
		.why = word.kind == BOARD_COOLING ? PICK_WHY_COOLING
						  : PICK_WHY_BLOCKED,
		.until_ms = word.until_ms,
	};
}

static bool
tried(const struct pick *p, uint32_t cell)
{
	for (size_t i = 0; i < p->ask->ntried; i++) {
		if (p->ask->tried[i] == cell)
			return true;
	}
	return false;
}

/* Of several upstream models one is enough: the bar that ends first. */
static struct verdict
judge_cells(const struct pick *p, const uint32_t *cells, uint32_t n,
    uint16_t incarnation)
{
	struct verdict best = fit, v;

	for (uint32_t i = 0; i < n && cells[i] < BOARD_CELLS; i++) {
		v = bar_of(&p->picker->board->cells[cells[i]], incarnation,
		    p->ask->now_ms);
		if (v.why == PICK_WHY_MAX)
			return fit;
		if (i == 0 || v.until_ms < best.until_ms)
			best = v;
	}
	return best;
}

/* The bar that lasts longer, of the credential or of its model. */
static struct verdict
judge_health(const struct pick *p, uint32_t slot, const uint32_t *cells,
    uint32_t n, uint16_t incarnation)
{
	struct board *board = p->picker->board;
	int64_t now_ms = p->ask->now_ms;
	struct verdict model = judge_cells(p, cells, n, incarnation);
	struct verdict whole = fit;

	if (slot < BOARD_CREDENTIALS)
		whole =
		    bar_of(&board->credentials[slot].cell, incarnation, now_ms);
	if (whole.until_ms != model.until_ms)
		return whole.until_ms > model.until_ms ? whole : model;
	return whole.why == PICK_WHY_COOLING ? whole : model;
}

/* Weight 0 is out of the running, but only where weights count. */
static bool
weighs_nothing(const struct pick *p, int32_t weight)
{
	return p->picker->strategy->by_weight && weight <= 0;
}

/* What the record itself says. */
static enum pick_why
judge_record(const struct pick *p, const struct state_credential *c)
{
	if ((c->flags & STATE_DISABLED) != 0)
		return PICK_WHY_DISABLED;
	if ((c->flags & STATE_PROXY_INVALID) != 0)
		return PICK_WHY_PROXY;
	if ((c->dialects & p->ask->dialects) == 0)
		return PICK_WHY_DIALECT;
	if (weighs_nothing(p, c->weight))
		return PICK_WHY_WEIGHT;
	if (!survey_in_round(
		c->request_retry, p->ask->request_retry, p->ask->round))
		return PICK_WHY_ROUNDS;
	return p->model != NULL ? PICK_WHY_MAX : PICK_WHY_MODEL;
}

/* What route and board say of a member, whatever the request has tried. */
static struct verdict
judge_readiness(const struct pick *p, const struct state_member *m)
{
	const uint32_t *cells;
	uint32_t n;

	if ((m->dialects & p->ask->dialects) == 0)
		return (struct verdict){ .why = PICK_WHY_DIALECT };
	if (weighs_nothing(p, m->weight))
		return (struct verdict){ .why = PICK_WHY_WEIGHT };
	cells = state_member_cells(p->route, m, &n);
	return judge_health(p, m->credential, cells, n, m->incarnation);
}

/* Whether no upstream model of a pool is left that this request may use. */
static bool
pool_is_spent(const struct pick *p, const struct state_member *m)
{
	const uint32_t *cells;
	uint32_t n;

	if (m->pool == 0 || p->ask->ntried == 0)
		return false;
	cells = state_member_cells(p->route, m, &n);
	for (uint32_t i = 0; i < n; i++) {
		if (!tried(p, cells[i]) &&
		    judge_cells(p, &cells[i], 1, m->incarnation).why ==
			PICK_WHY_MAX)
			return false;
	}
	return true;
}

static struct verdict
judge_member(const struct pick *p, const struct state_member *m)
{
	struct verdict v = judge_readiness(p, m);

	if (v.why != PICK_WHY_DIALECT && v.why != PICK_WHY_WEIGHT &&
	    (excluded(p->ask, m->credential) || pool_is_spent(p, m)))
		return (struct verdict){ .why = PICK_WHY_EXCLUDED };
	return v;
}

/*
 * The record at a slot, if this process has seen it in the same snapshot: what
 * lies there does not move while nothing was committed since.
 */
static const struct state_credential *
seen_record(const struct pick *p, uint32_t slot)
{
	const struct pick_record *seen;

	if (slot >= BOARD_CREDENTIALS)
		return NULL;
	seen = &p->picker->records[slot];
	return seen->txn_id == p->txn_id ? seen->record : NULL;
}

static int
find_record(struct pick *p, const char *id)
{
	const struct state_credential *c;
	int rc;

	rc = state_get_credential(p->picker->state, p->txn, id, &c);
	if (rc == 0 && c->slot < BOARD_CREDENTIALS)
		p->picker->records[c->slot] =
		    (struct pick_record){ p->txn_id, c };
	p->credential = c;
	return rc;
}

/*
 * Of a pool, the first from `start` on that is ready and was not tried; none
 * is: the one that is back first.
 */
static const struct state_model *
choose_upstream(
    const struct pick *p, const struct state_model *pool, size_t start)
{
	const struct state_model *m;
	size_t n = state_pool_size(p->credential, pool);
	const struct state_model *first = &pool[start % n];
	int64_t first_ms = INT64_MAX;
	struct verdict v;

	for (size_t i = 0; i < n; i++) {
		m = &pool[(start + i) % n];
		if (tried(p, m->cell))
			continue;
		v = judge_cells(p, &m->cell, 1, p->credential->incarnation);
		if (v.why == PICK_WHY_MAX)
			return m;
		if (v.until_ms < first_ms) {
			first = m;
			first_ms = v.until_ms;
		}
	}
	return first;
}

static bool
is_pool(const struct state_model *m)
{
	return m != NULL && m->cursor < BOARD_CURSORS;
}

/* The pool goes on from here with the next request. */
static void
claim_upstream(struct pick *p)
{
	struct board *board = p->picker->board;
	const struct state_model *pool =
	    state_credential_model(p->credential, p->model_hash);
	uint64_t seen, next;

	if (!is_pool(pool))
		return;
	do {
		seen = board_cursor_read(board, pool->cursor);
		p->model = choose_upstream(p, pool, (size_t)seen);
		next = (uint64_t)(p->model - pool) + 1;
	} while (!board_cursor_move(board, pool->cursor, seen, next));
}

/* Whether p->credential may be taken; p->model if so. */
static struct verdict
judge_credential(struct pick *p)
{
	p->model = state_credential_model(p->credential, p->model_hash);
	if (is_pool(p->model))
		p->model = choose_upstream(p, p->model,
		    (size_t)board_cursor_read(
			p->picker->board, p->model->cursor));
	return (struct verdict){ .why = judge_record(p, p->credential) };
}

/*
 * Takes the credential of a member, or says in the verdict why its record does
 * not let it. Within one snapshot slots and ids are the same. 0 or negative
 * errno.
 */
static int
take_member(struct pick *p, const struct state_route *route,
    const struct state_member *m, struct verdict *v)
{
	int rc = 0;

	p->credential = seen_record(p, m->credential);
	if (p->credential == NULL)
		rc = find_record(p, state_string(route, m->id));
	if (rc == 0)
		*v = judge_credential(p);
	else if (rc == -ENOENT)
		*v = (struct verdict){ .why = PICK_WHY_GONE };
	return rc == -ENOENT ? 0 : rc;
}

/* Choosing by the route. */
struct choice {
	struct pick *pick;
	const struct state_route *route;
	const struct state_tier *tier;
	struct ready_view *view; /* of the tier; NULL: not looked at yet */
	int error;
};

/* Looks at every member, and notes what it sees. */
static void
look_around(const struct choice *choice, struct ready_view *view)
{
	const struct pick *p = choice->pick;
	const struct state_tier *tier = choice->tier;
	const struct state_member *members =
	    state_tier_members(choice->route, tier);

	ready_view_begin(
	    view, members, tier->nmembers, p->txn_id, p->ask->now_ms);
	for (uint32_t i = 0; i < tier->nmembers; i++) {
		struct verdict v = judge_readiness(p, &members[i]);

		if (v.why == PICK_WHY_MAX)
			ready_view_set(view, i);
		else
			ready_view_until(view, v.until_ms);
	}
	ready_view_end(view);
}

/* The view of the tier for this dialect, NULL where none can be kept. */
static struct ready_view *
tier_view(struct choice *choice)
{
	const struct pick *p = choice->pick;
	const struct state_tier *tier = choice->tier;
	uint32_t cursor = tier->cursors + (uint32_t)p->ask->dialect;

	if (choice->view != NULL || cursor >= BOARD_CURSORS)
		return choice->view;
	choice->view = ready_views_at(&p->picker->ready, cursor);
	if (p->fresh || !ready_view_holds(choice->view,
			    state_tier_members(choice->route, tier), p->txn_id,
			    p->ask->now_ms))
		look_around(choice, choice->view);
	else
		choice->pick->kept = true;
	return choice->view;
}

/*
 * How many are told of: of a tier so large that a view of it is kept only a
 * few, or a pick would pay for more than it does in a small one.
 */
static size_t
told_at_most(const struct choice *choice)
{
	return choice->tier->nmembers > READY_SMALL ? PICK_PASSED_LARGE
						    : PICK_PASSED_MAX;
}

/*
 * Benched members are asked one by one as long as it is of interest why they
 * do not pass; then all of them are stepped over.
 */
static uint32_t
on_next(void *ctx, uint32_t from, uint32_t end)
{
	struct choice *choice = ctx;
	const struct ready_view *view;

	if (choice->pick->npassed < told_at_most(choice) || from >= end)
		return from;
	view = tier_view(choice);
	return view != NULL ? ready_view_next(view, from, end) : from;
}

/* Of n members from first on, the one with that id; first + n: none. */
static uint32_t
find_id(const struct choice *choice, uint32_t first, uint32_t n, const char *id)
{
	const struct state_member *members =
	    state_tier_members(choice->route, choice->tier);
	uint32_t low = first, high = first + n, middle;
	int order;

	while (low < high) {
		middle = low + (high - low) / 2;
		order =
		    strcmp(state_string(choice->route, members[middle].id), id);
		if (order == 0)
			return middle;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return first + n;
}

/* The same by slot, for one whose record was not seen in this snapshot. */
static uint32_t
find_slot(
    const struct choice *choice, uint32_t first, uint32_t n, uint32_t slot)
{
	const struct state_member *members =
	    state_tier_members(choice->route, choice->tier);
	uint32_t i = first;

	while (i < first + n && members[i].credential != slot)
		i++;
	return i;
}

/* A member of the n from first on that the request has excluded. */
static bool
excludes_one(
    const struct choice *choice, uint32_t first, uint32_t n, uint32_t slot)
{
	const struct state_credential *c = seen_record(choice->pick, slot);
	uint32_t at = c != NULL
			  ? find_id(choice, first, n, state_string(c, c->id))
			  : find_slot(choice, first, n, slot);

	return at < first + n && ready_view_has(choice->view, at);
}

/* n members from first on are of one provider, and in the order of ids. */
static uint32_t
on_count(void *ctx, uint32_t first, uint32_t n)
{
	struct choice *choice = ctx;
	const struct pick_ask *ask = choice->pick->ask;
	const struct ready_view *view = tier_view(choice);
	uint32_t count;

	if (view == NULL)
		return n;
	count = ready_view_count(view, first, n);
	for (size_t i = 0; count > 0 && i < ask->nexcluded; i++)
		count -= excludes_one(choice, first, n, ask->excluded[i]);
	return count;
}

static bool
on_passes(void *ctx, const struct state_member *m)
{
	struct choice *choice = ctx;
	struct pick *p = choice->pick;
	const char *id = state_string(choice->route, m->id);
	struct verdict v = judge_member(p, m);
	int rc;

	if (v.why == PICK_WHY_MAX && p->thorough) {
		rc = take_member(p, choice->route, m, &v);
		if (rc < 0) {
			choice->error = rc;
			return false;
		}
	}
	if (v.why == PICK_WHY_MAX)
		return true;
	pass_over(p, m->credential, id, v);
	return false;
}

typedef const struct state_member *
choose_fn(const struct pick *p, const struct strategy_ask *ask);

static const struct state_member *
choose_by_strategy(const struct pick *p, const struct strategy_ask *ask)
{
	const struct strategy *strategy = p->picker->strategy;

	return strategy->pick(strategy, ask);
}

static const struct state_member *
choose_by_rendezvous(
    const struct pick *p UNUSED, const struct strategy_ask *ask)
{
	return strategy_rendezvous(ask);
}

/* The member of a tier that is hinted at and passes. */
static const struct state_member *
hinted_member(const struct pick *p, const struct strategy_ask *ask)
{
	const struct state_member *members =
	    state_tier_members(ask->route, ask->tier);

	for (size_t h = 0; h < p->nhints; h++) {
		for (uint32_t i = 0; i < ask->tier->nmembers; i++) {
			if (members[i].credential == p->hints[h] &&
			    ask->passes(ask->ctx, &members[i]))
				return &members[i];
		}
	}
	return NULL;
}

/* The member of the best tier that has one; NULL: none passes. */
static const struct state_member *
choose_in_tiers(
    struct choice *choice, choose_fn *choose, struct strategy_ask *ask)
{
	const struct state_tier *tiers = state_route_tiers(choice->route);
	const struct state_member *member = NULL;

	for (uint32_t i = 0; i < choice->route->ntiers && member == NULL; i++) {
		choice->tier = ask->tier = &tiers[i];
		choice->view = NULL;
		if (choice->pick->nhints > 0)
			member = hinted_member(choice->pick, ask);
		if (member == NULL)
			member = choose(choice->pick, ask);
	}
	return member;
}

/* Before it is said that nobody passes, views that were kept are renewed. */
static const struct state_member *
choose_member(struct choice *choice, choose_fn *choose)
{
	struct pick *p = choice->pick;
	const struct binding_key *session = p->ask->session;
	const struct state_member *member;
	struct strategy_ask ask = {
		.board = p->picker->board,
		.route = choice->route,
		.dialect = p->ask->dialect,
		.has_session = session != NULL,
		.passes = on_passes,
		.next = on_next,
		.count = on_count,
		.ctx = choice,
	};

	if (session != NULL)
		ask.session = binding_session_word(session);
	p->fresh = false;
	p->kept = false;
	member = choose_in_tiers(choice, choose, &ask);
	if (member == NULL && p->kept) {
		p->fresh = true;
		member = choose_in_tiers(choice, choose, &ask);
	}
	return member;
}

/* What stands in the way when nobody passes, over all who might serve. */
struct tally {
	size_t candidates;
	size_t cooling;
	size_t excluded;
	int64_t until_ms; /* the earliest; 0: none known */
};

static void
tally_member(
    const struct pick *p, const struct state_member *m, struct tally *t)
{
	struct verdict v = judge_member(p, m);

	if (v.why == PICK_WHY_DIALECT || v.why == PICK_WHY_WEIGHT)
		return;
	if (v.why == PICK_WHY_EXCLUDED) {
		t->excluded++;
		return;
	}
	t->candidates++;
	if (v.why == PICK_WHY_COOLING)
		t->cooling++;
	if (v.until_ms != 0 && (t->until_ms == 0 || v.until_ms < t->until_ms))
		t->until_ms = v.until_ms;
}

static enum pick_outcome
explain_refusal(struct pick *p, const struct state_route *route)
{
	const struct state_tier *tiers = state_route_tiers(route);
	struct tally t = { 0 };

	for (uint32_t i = 0; i < route->ntiers; i++) {
		const struct state_member *members =
		    state_tier_members(route, &tiers[i]);

		for (uint32_t k = 0; k < tiers[i].nmembers; k++)
			tally_member(p, &members[k], &t);
	}
	p->until_ms = t.until_ms;
	if (t.candidates == 0 && t.excluded > 0)
		return PICK_EXHAUSTED;
	if (t.candidates > 0 && t.cooling == t.candidates)
		return PICK_COOLING;
	return PICK_BLOCKED;
}

/* Chooses and takes. 0 or negative errno; *v tells of the member's record. */
static int
choose_and_take(struct choice *choice, choose_fn *choose,
    const struct state_member **member, struct verdict *v)
{
	int rc = 0;

	*v = fit;
	*member = choose_member(choice, choose);
	if (*member != NULL)
		rc = take_member(choice->pick, choice->route, *member, v);
	return choice->error < 0 ? choice->error : rc;
}

/*
 * Chooses among the members of the route. They are judged by what route and
 * board say; should the record of the one chosen forbid it, which is rare,
 * all are judged by their records too.
 */
static int
pick_from_route(
    struct pick *p, const struct state_route *route, choose_fn *choose)
{
	struct choice choice = { .pick = p, .route = route };
	const struct state_member *member;
	struct verdict v;
	int rc;

	/* Only the records know who takes part in a further round. */
	p->thorough = p->ask->round > 0;
	rc = choose_and_take(&choice, choose, &member, &v);
	if (rc == 0 && v.why != PICK_WHY_MAX) {
		assert(!p->thorough);
		pass_over(
		    p, member->credential, state_string(route, member->id), v);
		p->thorough = true;
		rc = choose_and_take(&choice, choose, &member, &v);
	}
	if (rc < 0)
		return rc;
	return member != NULL ? PICK_OK : (int)explain_refusal(p, route);
}

static int
pick_unbound(struct pick *p, choose_fn *choose)
{
	const struct state_route *route;
	int rc;

	rc = state_get_route(
	    p->picker->state, p->txn, p->ask->model, p->ask->model_len, &route);
	if (rc == -ENOENT)
		return PICK_UNKNOWN_MODEL;
	if (rc < 0)
		return rc;
	p->route = route;
	if (route->dialects != 0 && (route->dialects & p->ask->dialects) == 0)
		return PICK_DIALECT;
	return pick_from_route(p, route, choose);
}

static bool
has_failed(const struct pick *p, const struct binding *b)
{
	return p->ask->expected != NULL &&
	       strcmp(p->ask->expected, b->credential) == 0;
}

/* The record of a binding's credential; its slot is a hint. */
static int
find_bound(struct pick *p, const struct binding *b)
{
	const struct state_credential *c = seen_record(p, b->slot);

	if (c == NULL || strcmp(state_string(c, c->id), b->credential) != 0)
		return find_record(p, b->credential);
	p->credential = c;
	return 0;
}

/* Takes the credential of a binding, or says why not. 0 or negative errno. */
static int
take_bound(struct pick *p, const struct binding *b, struct verdict *v)
{
	const struct state_credential *c;
	int rc;

	*v = (struct verdict){ .why = PICK_WHY_GONE };
	rc = find_bound(p, b);
	if (rc < 0)
		return rc == -ENOENT ? 0 : rc;
	*v = judge_credential(p);
	if (v->why != PICK_WHY_MAX)
		return 0;
	c = p->credential;
	if (c->epoch != b->epoch)
		v->why = PICK_WHY_UNBOUND;
	else if (excluded(p->ask, c->slot) || has_failed(p, b))
		v->why = PICK_WHY_EXCLUDED;
	else if (tried(p, p->model->cell))
		v->why = PICK_WHY_EXCLUDED;
	else
		*v = judge_health(
		    p, c->slot, &p->model->cell, 1, c->incarnation);
	return 0;
}

/* Something was committed since the snapshot of this pick. */
static bool
is_behind(const struct pick *p)
{
	MDB_envinfo info;

	return mdb_env_info(p->picker->state->env, &info) == 0 &&
	       info.me_last_txnid != p->txn_id;
}

/* Begins to read once more. Nothing of the former snapshot is valid. */
static int
read_anew(struct pick *p)
{
	int rc;

	p->credential = NULL;
	p->model = NULL;
	store_read_end(p->picker->state);
	rc = store_read(p->picker->state, &p->txn);
	if (rc == 0)
		p->txn_id = mdb_txn_id(p->txn);
	return rc;
}

/*
 * Takes the credential of a binding just read. The binding may be younger than
 * the snapshot, and its credential too: it is not given up before that has
 * been looked at again.
 */
static int
take_found(struct pick *p, const struct binding *b, struct verdict *v)
{
	int rc = take_bound(p, b, v);

	if (rc < 0 || v->why == PICK_WHY_MAX || v->until_ms != 0 ||
	    v->why == PICK_WHY_EXCLUDED || !is_behind(p))
		return rc;
	rc = read_anew(p);
	return rc < 0 ? rc : take_bound(p, b, v);
}

/* For a choice by hash, which agrees with others that see the same members. */
static int
look_at_newest(struct pick *p)
{
	return is_behind(p) ? read_anew(p) : 0;
}

static bool
on_usable(void *ctx, const struct binding *found)
{
	struct verdict v;

	return take_found(ctx, found, &v) == 0 && v.why == PICK_WHY_MAX;
}

/* The binding of the session to p->credential. */
static void
fill_binding(const struct pick *p, struct binding *chosen)
{
	const struct pick_ask *ask = p->ask;
	const struct state_credential *c = p->credential;

	chosen->epoch = c->epoch;
	chosen->slot = (uint16_t)c->slot;
	(void)str_copy(chosen->credential, sizeof(chosen->credential),
	    state_string(c, c->id));
	(void)str_copy(chosen->model, sizeof(chosen->model),
	    state_string(c, p->model->name));
	if (ask->source != NULL)
		(void)str_copy(
		    chosen->source, sizeof(chosen->source), ask->source);
	if (ask->session_short != NULL)
		(void)str_copy(chosen->session, sizeof(chosen->session),
		    ask->session_short);
}

/* A session that was served unbound stays with whom it was served by. */
static bool
heed_mark(struct pick *p)
{
	const struct pick_ask *ask = p->ask;
	uint32_t slot;

	if (!board_session_marked(p->picker->board,
		binding_session_word(ask->session), ask->now_ms, &slot))
		return false;
	if (slot != BOARD_NONE) {
		p->hints[0] = slot;
		p->nhints = 1;
	}
	return true;
}

/* Ends bindings_bind() with -ECANCELED when there is nobody to be bound to. */
static int
on_choose(void *ctx, struct binding *chosen)
{
	struct pick *p = ctx;
	bool marked = heed_mark(p);

	p->refusal = marked ? look_at_newest(p) : 0;
	if (p->refusal < 0)
		return -ECANCELED;
	p->refusal =
	    pick_unbound(p, marked ? choose_by_rendezvous : choose_by_strategy);
	if (p->refusal != PICK_OK)
		return -ECANCELED;
	fill_binding(p, chosen);
	return 0;
}

/*
 * Reads the binding and lets go of its environment at once. *joined: the alias,
 * if there is one, leads there too.
 */
static int
read_binding(const struct pick *p, struct binding *b, bool *joined)
{
	struct store *bindings = p->picker->bindings;
	MDB_txn *txn;
	int rc;

	rc = store_read(bindings, &txn);
	if (rc < 0)
		return rc;
	rc = bindings_get(bindings, txn, p->ask->session, p->ask->now_ms, b);
	*joined =
	    rc != 0 || p->ask->alias == NULL ||
	    bindings_joined(bindings, txn, p->ask->session, p->ask->alias) == 0;
	store_read_end(bindings);
	return rc;
}

static int
bind(struct pick *p, const char *expected, enum bind_outcome *outcome)
{
	struct picker *picker = p->picker;
	const struct bind_ops ops = { on_usable, on_choose, p };
	struct binding winner;

	p->refusal = PICK_OK;
	return bindings_bind(picker->bindings, picker->board, p->ask->session,
	    p->ask->alias, expected, picker->ttl_ms, p->ask->now_ms,
	    PICK_LOCK_WAIT_MS, &ops, &winner, outcome);
}

/* Reads what the session, or else its alias, is bound to. */
static int
read_either(const struct pick *p, struct binding *b)
{
	struct store *bindings = p->picker->bindings;
	const struct pick_ask *ask = p->ask;
	MDB_txn *txn;
	int rc;

	rc = store_read(bindings, &txn);
	if (rc < 0)
		return rc;
	rc = bindings_get(bindings, txn, ask->session, ask->now_ms, b);
	if (rc == BINDINGS_MISS && ask->alias != NULL)
		rc = bindings_get(bindings, txn, ask->alias, ask->now_ms, b);
	store_read_end(bindings);
	return rc;
}

/*
 * Serves a session that cannot be bound now: by what another request has
 * bound it to meanwhile, else by its hash. Whoever binds it sees the mark, or
 * is seen at it and waited for.
 */
static int
pick_marked(struct pick *p)
{
	struct board *board = p->picker->board;
	uint64_t session = binding_session_word(p->ask->session);
	struct binding b;
	int rc;

	board_session_mark(board, session, p->ask->now_ms + p->picker->ttl_ms);
	board_bind_await(board, session, PICK_LOCK_WAIT_MS);
	if (read_either(p, &b) == 0 && on_usable(p, &b)) {
		p->decision = PICK_DECISION_ADOPTED;
		return PICK_OK;
	}
	(void)heed_mark(p);
	rc = look_at_newest(p);
	if (rc == 0)
		rc = pick_unbound(p, choose_by_rendezvous);
	if (rc == PICK_OK)
		board_session_served(board, session, p->credential->slot);
	return rc;
}

/*
 * Binds the session anew, away from the credential `expected`. When it cannot
 * be bound now, serves it all the same.
 */
static int
pick_and_bind(struct pick *p, const char *expected)
{
	enum bind_outcome outcome;
	int rc = bind(p, expected, &outcome);

	if (p->refusal != PICK_OK)
		return p->refusal;
	if (rc != 0)
		return pick_marked(p);
	p->decision = decision_of[outcome];
	return PICK_OK;
}

/* Gathers hints from the bindings of a session, those used last first. */
struct gathering {
	struct pick *pick;
	int64_t expires_ms[PICK_HINTS_MAX];
	size_t from; /* hints before it rank higher in any case */
};

static void
add_hint(struct gathering *g, uint32_t slot, int64_t expires_ms)
{
	struct pick *p = g->pick;
	size_t at = p->nhints;

	while (at > g->from && g->expires_ms[at - 1] < expires_ms)
		at--;
	if (at == PICK_HINTS_MAX)
		return;
	if (p->nhints < PICK_HINTS_MAX)
		p->nhints++;
	for (size_t i = p->nhints - 1; i > at; i--) {
		p->hints[i] = p->hints[i - 1];
		g->expires_ms[i] = g->expires_ms[i - 1];
	}
	p->hints[at] = slot;
	g->expires_ms[at] = expires_ms;
}

/* A binding that is void is no hint. */
static int
on_sibling(
    void *ctx, const struct binding_key *key UNUSED, const struct binding *b)
{
	struct gathering *g = ctx;
	struct pick *p = g->pick;

	if (find_bound(p, b) == 0 && p->credential->epoch == b->epoch)
		add_hint(g, p->credential->slot, b->expires_ms);
	p->credential = NULL;
	return 0;
}

/* Who serves the session with other models, then who serves its parent. */
static void
gather_hints(struct pick *p)
{
	struct store *bindings = p->picker->bindings;
	const struct pick_ask *ask = p->ask;
	struct gathering g = { .pick = p };
	struct binding b;
	MDB_txn *txn;

	if (store_read(bindings, &txn) < 0)
		return;
	(void)bindings_of_session(
	    bindings, txn, ask->session, ask->now_ms, on_sibling, &g);
	g.from = p->nhints;
	if (ask->parent != NULL &&
	    bindings_get(bindings, txn, ask->parent, ask->now_ms, &b) == 0)
		(void)on_sibling(&g, ask->parent, &b);
	g.from = p->nhints;
	if (ask->parent != NULL)
		(void)bindings_of_session(
		    bindings, txn, ask->parent, ask->now_ms, on_sibling, &g);
	store_read_end(bindings);
}

/* Later turns shall find it in the index, unless they do. */
static void
index_hit(const struct pick *p, const struct binding *b)
{
	const struct picker *picker = p->picker;
	uint32_t slot = p->credential->slot;
	struct binding_brief brief;

	if (binding_index_get(picker->board, p->ask->session, &brief) &&
	    brief.slot == slot && brief.epoch == (uint32_t)b->epoch &&
	    brief.expires_ms >= b->expires_ms - 1000)
		return;
	(void)bindings_index(picker->bindings, picker->board, p->ask->session,
	    p->ask->now_ms, (uint16_t)slot);
}

static int
hit(struct pick *p, const struct binding *b)
{
	struct picker *picker = p->picker;

	p->decision = PICK_DECISION_HIT;
	/* A touch in vain does no harm: the next turn finds it due again. */
	if (bindings_touch_due(b, picker->ttl_ms, p->ask->now_ms))
		(void)bindings_touch(picker->bindings, picker->board,
		    p->ask->session, b->credential, picker->ttl_ms,
		    p->ask->now_ms, PICK_LOCK_WAIT_MS);
	if (p->ask->alias == NULL)
		index_hit(p, b);
	return PICK_OK;
}

/*
 * The request names its bound session by an alias that does not lead there
 * yet. What comes in between, or no lock, leaves it with what is bound.
 */
static int
hit_and_join(struct pick *p, const struct binding *b)
{
	enum bind_outcome outcome = BIND_ADOPTED;
	struct verdict v;
	int rc;

	if (bind(p, NULL, &outcome) != 0) {
		rc = take_found(p, b, &v);
		if (rc < 0)
			return rc;
		return v.why == PICK_WHY_MAX ? hit(p, b) : pick_marked(p);
	}
	p->decision =
	    outcome == BIND_ADOPTED ? PICK_DECISION_HIT : decision_of[outcome];
	return PICK_OK;
}

/*
 * The common case without a look at `bindings`: the index has it, nothing is
 * to be extended or joined, and its credential was seen in this snapshot and
 * can serve. The slot and the epoch are as good as the id.
 */
static bool
hit_in_index(struct pick *p)
{
	const struct picker *picker = p->picker;
	const struct pick_ask *ask = p->ask;
	const struct state_credential *c;
	struct binding_brief brief;
	int64_t left_ms;

	if (ask->alias != NULL || ask->expected != NULL ||
	    !binding_index_get(picker->board, ask->session, &brief))
		return false;
	left_ms = brief.expires_ms - ask->now_ms;
	if (left_ms < picker->ttl_ms ||
	    left_ms > picker->ttl_ms + picker->ttl_ms / 8)
		return false;
	c = seen_record(p, brief.slot);
	if (c == NULL || (uint32_t)c->epoch != brief.epoch ||
	    excluded(ask, c->slot))
		return false;
	p->credential = c;
	if (judge_credential(p).why != PICK_WHY_MAX ||
	    tried(p, p->model->cell) ||
	    judge_health(p, c->slot, &p->model->cell, 1, c->incarnation).why !=
		PICK_WHY_MAX)
		return false;
	p->decision = PICK_DECISION_HIT;
	return true;
}

static int
pick_with_session(struct pick *p)
{
	struct binding b;
	struct verdict v;
	bool joined;
	int rc;

	if (hit_in_index(p))
		return PICK_OK;

	rc = read_binding(p, &b, &joined);
	if (rc != 0) {
		gather_hints(p);
		return pick_and_bind(p, p->ask->expected);
	}
	rc = take_found(p, &b, &v);
	if (rc < 0)
		return rc;
	if (v.why == PICK_WHY_MAX && !joined)
		return hit_and_join(p, &b);
	if (v.why == PICK_WHY_MAX)
		return hit(p, &b);
	if (v.until_ms != 0 && v.until_ms <= p->ask->now_ms + p->ask->wait_ms) {
		p->until_ms = v.until_ms;
		return PICK_WAIT;
	}
	pass_over(p, p->credential != NULL ? p->credential->slot : BOARD_NONE,
	    b.credential, v);
	(void)str_copy(p->left, sizeof(p->left), b.credential);
	p->left_why = v.why;
	return pick_and_bind(p, b.credential);
}

/* ---- pinned */

/* Takes the credential of the pin, or says why not. 0 or negative errno. */
static int
take_pinned(struct pick *p, struct verdict *v)
{
	const struct state_credential *c;
	int rc = find_record(p, p->ask->pin);

	*v = (struct verdict){ .why = PICK_WHY_GONE };
	if (rc < 0)
		return rc == -ENOENT ? 0 : rc;
	*v = judge_credential(p);
	if (v->why != PICK_WHY_MAX)
		return 0;
	c = p->credential;
	if (excluded(p->ask, c->slot))
		v->why = PICK_WHY_EXCLUDED;
	else if (tried(p, p->model->cell))
		v->why = PICK_WHY_EXCLUDED;
	else
		*v = judge_health(
		    p, c->slot, &p->model->cell, 1, c->incarnation);
	return 0;
}

/* One that is void gives way. */
static bool
on_binding_beside_pin(void *ctx, const struct binding *found)
{
	const struct pick *p = ctx;

	return strcmp(found->credential, p->ask->pin) != 0 ||
	       found->epoch == p->credential->epoch;
}

static int
on_choose_pinned(void *ctx, struct binding *chosen)
{
	fill_binding(ctx, chosen);
	return 0;
}

/*
 * A session that is bound stays where it is, be it elsewhere; one that is not
 * is bound to where its state is.
 */
static void
bind_to_pin(struct pick *p)
{
	struct picker *picker = p->picker;
	const struct bind_ops ops = { on_binding_beside_pin, on_choose_pinned,
		p };
	struct binding b;
	enum bind_outcome outcome;
	bool joined;
	int rc = read_binding(p, &b, &joined);

	if (rc < 0 || (rc == 0 && strcmp(b.credential, p->ask->pin) != 0))
		return;
	if (rc == 0 && joined && b.epoch == p->credential->epoch) {
		(void)hit(p, &b);
		return;
	}
	rc = bindings_bind(picker->bindings, picker->board, p->ask->session,
	    p->ask->alias, NULL, picker->ttl_ms, p->ask->now_ms,
	    PICK_LOCK_WAIT_MS, &ops, &b, &outcome);
	if (rc == 0 && strcmp(b.credential, p->ask->pin) == 0)
		p->decision = decision_of[outcome];
}

/* PICK_OK, PICK_WAIT, PICK_PINNED or negative errno. */
static int
pick_pinned(struct pick *p)
{
	struct verdict v;
	int rc = take_pinned(p, &v);

	if (rc < 0)
		return rc;
	if (v.why == PICK_WHY_MAX) {
		p->pinned = true;
		if (p->picker->affinity && p->ask->session != NULL)
			bind_to_pin(p);
		return PICK_OK;
	}
	p->until_ms = v.until_ms;
	if (v.why == PICK_WHY_COOLING &&
	    v.until_ms <= p->ask->now_ms + p->ask->wait_ms)
		return PICK_WAIT;
	p->pin_why = v.why;
	pass_over(p, p->credential != NULL ? p->credential->slot : BOARD_NONE,
	    p->ask->pin, v);
	return PICK_PINNED;
}

static int
pick_any(struct pick *p)
{
	if (p->picker->affinity && p->ask->session != NULL)
		return pick_with_session(p);
	return pick_unbound(p, choose_by_strategy);
}

/* Another upstream model of the same credential; PICK_EXHAUSTED: none. */
static int
pick_stay(struct pick *p)
{
	struct verdict v;
	int rc = find_record(p, p->ask->stay);

	if (rc < 0)
		return rc == -ENOENT ? PICK_EXHAUSTED : rc;
	v = judge_credential(p);
	if (v.why == PICK_WHY_MAX && tried(p, p->model->cell))
		v.why = PICK_WHY_EXCLUDED;
	if (v.why == PICK_WHY_MAX)
		v = judge_health(p, p->credential->slot, &p->model->cell, 1,
		    p->credential->incarnation);
	return v.why == PICK_WHY_MAX ? PICK_OK : PICK_EXHAUSTED;
}

static int
pick_somebody(struct pick *p)
{
	const struct pick_ask *ask = p->ask;
	int rc = ask->stay != NULL ? pick_stay(p) : PICK_EXHAUSTED;

	if (rc != PICK_EXHAUSTED || ask->stay_only)
		return rc;
	rc = ask->pin != NULL ? pick_pinned(p) : PICK_PINNED;
	if (rc == PICK_PINNED && (ask->pin == NULL || !ask->hard_pin))
		rc = pick_any(p);
	return rc;
}

int
pick_begin(struct pick *p, struct picker *picker, const struct pick_ask *ask)
{
	int rc;

	p->credential = NULL;
	p->model = NULL;
	p->decision = PICK_DECISION_NONE;
	p->until_ms = 0;
	p->left[0] = '\0';
	p->left_why = PICK_WHY_EXCLUDED;
	p->pinned = false;
	p->pin_why = PICK_WHY_MAX;
	p->npassed = 0;
	p->nhints = 0;
	p->picker = picker;
	p->ask = ask;
	p->model_hash = state_model_hash(ask->model, ask->model_len);

	rc = store_read(picker->state, &p->txn);
	if (rc < 0)
		return rc;
	p->txn_id = mdb_txn_id(p->txn);
	rc = pick_somebody(p);
	if (rc == PICK_OK)
		claim_upstream(p);
	if (rc != PICK_OK) {
		p->credential = NULL;
		p->model = NULL;
	}
	return rc;
}

void
pick_end(struct pick *p)
{
	store_read_end(p->picker->state);
	p->credential = NULL;
	p->model = NULL;
}

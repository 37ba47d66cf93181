/* SPDX-License-Identifier: MIT */
/* Routes from model names to credentials; see routes.h. */
#include "master/registry/routes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/alloc.h"
#include "common/log.h"

enum { CURSOR_STEP = 64 };

/* Shared by tiers beyond the last cursor, so that all can be served. */
enum { SPARE_CURSORS = 0 };

/* Who is said to own a model of which the catalogue does not tell. */
static const char *const owners[PROVIDER_MAX] = {
	[PROVIDER_CLAUDE] = "anthropic",
	[PROVIDER_CODEX] = "openai",
	[PROVIDER_GEMINI] = "google",
	[PROVIDER_VERTEX] = "google",
	[PROVIDER_KIMI] = "moonshot",
	[PROVIDER_XAI] = "xai",
};

void
routes_init(struct routes *routes, struct board *board)
{
	*routes = (struct routes){ .board = board };
	pool_init(&routes->cursors, BOARD_CURSORS / DIALECT_MAX, CURSOR_STEP);
	(void)pool_mark(&routes->cursors, SPARE_CURSORS);
}

static void
route_free(struct route *r)
{
	for (size_t i = 0; i < r->ncursors; i++)
		free(r->cursors[i].provider);
	free(r->cursors);
	free(r->members);
	free(r->name);
	free(r);
}

void
routes_fini(struct routes *routes)
{
	size_t i;

	for (i = 0; i < routes->map.n; i++)
		route_free(routes->map.v[i]);
	name_map_fini(&routes->map);
	pool_fini(&routes->cursors);
}

static struct route *
find_or_make(struct routes *routes, const char *name)
{
	struct route *r = name_map_find(&routes->map, name);

	if (r != NULL)
		return r;
	r = xcalloc(1, sizeof(*r));
	r->name = xstrdup(name);
	(void)name_map_put(&routes->map, r);
	return r;
}

static void
add_cursors(
    struct route *r, int32_t priority, const char *provider, uint32_t first)
{
	r->cursors =
	    xreallocarray(r->cursors, r->ncursors + 1, sizeof(*r->cursors));
	r->cursors[r->ncursors++] = (struct route_cursors){
		.priority = priority,
		.provider = provider != NULL ? xstrdup(provider) : NULL,
		.first = first,
	};
}

static void
recover_cursors(struct routes *routes, struct route *r, int32_t priority,
    const char *provider, uint32_t cursors)
{
	uint32_t group = cursors / DIALECT_MAX;

	if (pool_mark(&routes->cursors, group))
		add_cursors(r, priority, provider, group * DIALECT_MAX);
}

void
routes_recover(struct routes *routes, const struct state_route *record)
{
	const struct state_tier *tiers = state_route_tiers(record);
	struct route *r =
	    find_or_make(routes, state_string(record, record->name));

	for (uint32_t i = 0; i < record->ntiers; i++) {
		const struct state_tier *t = &tiers[i];
		const struct state_group *groups = state_tier_groups(record, t);

		for (uint32_t k = 0; k < t->ngroups; k++)
			recover_cursors(routes, r, t->priority,
			    state_string(record, groups[k].provider),
			    groups[k].cursors);
		if (t->ngroups > 1)
			recover_cursors(
			    routes, r, t->priority, NULL, t->cursors);
	}
	r->dirty = true;
}

/* Where the entry stands or would stand among the members. */
static size_t
member_position(const struct route *r, const char *id)
{
	size_t low = 0;
	size_t high = r->nmembers;
	size_t mid;

	if (high > 0 && strcmp(r->members[high - 1].entry->id, id) < 0)
		return high;
	while (low < high) {
		mid = low + (high - low) / 2;
		if (strcmp(r->members[mid].entry->id, id) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static void
add_member(struct route *r, struct entry *e, const struct served_model *m)
{
	size_t at = member_position(r, e->id);

	xgrow(&r->members, &r->cap, r->nmembers, sizeof(*r->members));
	memmove(r->members + at + 1, r->members + at,
	    (r->nmembers - at) * sizeof(*r->members));
	r->members[at] = (struct route_member){ e, m->cell, m->npool };
	r->nmembers++;
}

static void
remove_member(struct route *r, const struct entry *e)
{
	size_t at = member_position(r, e->id);

	if (at == r->nmembers || r->members[at].entry != e)
		return;
	r->nmembers--;
	memmove(r->members + at, r->members + at + 1,
	    (r->nmembers - at) * sizeof(*r->members));
}

void
routes_join(struct routes *routes, struct entry *e)
{
	bool usable = entry_is_usable(e);
	const struct served_model *m;
	struct route *r;
	size_t i;

	for (i = 0; i < e->served->n; i++) {
		m = &e->served->v[i];
		r = find_or_make(routes, m->name);
		r->known++;
		r->dirty = true;
		if (usable && m->cell != BOARD_NONE && m->place == 0)
			add_member(r, e, m);
	}
}

void
routes_leave(struct routes *routes, struct entry *e)
{
	struct route *r;
	size_t i;

	for (i = 0; i < e->served->n; i++) {
		r = name_map_find(&routes->map, e->served->v[i].name);
		if (r == NULL)
			continue;
		r->known--;
		r->dirty = true;
		remove_member(r, e);
	}
}

void
routes_rebuild(struct routes *routes, const struct name_map *entries)
{
	struct route *r;
	size_t i;

	for (i = 0; i < routes->map.n; i++) {
		r = routes->map.v[i];
		r->nmembers = 0;
		r->known = 0;
		r->dirty = true;
	}
	for (i = 0; i < entries->n; i++)
		routes_join(routes, entries->v[i]);
}

static uint32_t
take_cursors(struct routes *routes, const char *name)
{
	uint32_t group = pool_take(&routes->cursors);
	uint32_t first;
	int i;

	if (group == BOARD_NONE) {
		log_warn(
		    "model %s shares its cursor: the board has no more", name);
		return SPARE_CURSORS;
	}
	first = group * DIALECT_MAX;
	for (i = 0; i < DIALECT_MAX; i++)
		atomic_store(&routes->board->cursors[first + (uint32_t)i], 0);
	return first;
}

uint32_t
routes_take_cursor(struct routes *routes, const char *name)
{
	uint32_t first = take_cursors(routes, name);

	return first != SPARE_CURSORS ? first : BOARD_NONE;
}

bool
routes_mark_cursor(struct routes *routes, uint32_t cursor)
{
	return cursor < BOARD_CURSORS &&
	       pool_mark(&routes->cursors, cursor / DIALECT_MAX);
}

void
routes_give_cursor(struct routes *routes, uint32_t cursor)
{
	if (cursor != BOARD_NONE)
		pool_give(&routes->cursors, cursor / DIALECT_MAX);
}

static bool
same_provider(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

/* The cursors of a provider in a tier, or of the tier; new ones get some. */
static uint32_t
find_cursors(struct routes *routes, struct route *r, int32_t priority,
    const char *provider)
{
	uint32_t first;

	for (size_t i = 0; i < r->ncursors; i++) {
		if (r->cursors[i].priority == priority &&
		    same_provider(r->cursors[i].provider, provider))
			return r->cursors[i].first;
	}
	first = take_cursors(routes, r->name);
	add_cursors(r, priority, provider, first);
	return first;
}

/* A provider among the members of a route, of all tiers. */
struct rank {
	const char *provider;
	size_t nmembers;
};

static const char *
provider_of(const struct route_member *m)
{
	return m->entry->cred->provider_name;
}

static int
by_name(const void *a, const void *b)
{
	return strcmp(((const struct rank *)a)->provider,
	    ((const struct rank *)b)->provider);
}

/* The provider with the most members comes first. */
static int
by_size(const void *a, const void *b)
{
	const struct rank *x = a;
	const struct rank *y = b;

	if (x->nmembers != y->nmembers)
		return x->nmembers > y->nmembers ? -1 : 1;
	return by_name(a, b);
}

/* The providers of a route in the order in which they take turns. */
static size_t
list_ranks(const struct route *r, struct rank *ranks)
{
	size_t n = 0;

	for (size_t i = 0; i < r->nmembers; i++)
		ranks[i] = (struct rank){ provider_of(&r->members[i]), 1 };
	qsort(ranks, r->nmembers, sizeof(*ranks), by_name);
	for (size_t i = 0; i < r->nmembers; i++) {
		if (n > 0 && by_name(&ranks[n - 1], &ranks[i]) == 0)
			ranks[n - 1].nmembers++;
		else
			ranks[n++] = ranks[i];
	}
	qsort(ranks, n, sizeof(*ranks), by_size);
	return n;
}

static uint32_t
rank_of(const struct rank *ranks, size_t n, const char *provider)
{
	uint32_t i = 0;

	while (i < n && strcmp(ranks[i].provider, provider) != 0)
		i++;
	return i;
}

static const struct served_model *
served_by_name(const struct served *served, const char *name)
{
	size_t i;

	for (i = 0; i < served->n; i++) {
		if (strcmp(served->v[i].name, name) == 0 &&
		    served->v[i].place == 0)
			return &served->v[i];
	}
	return NULL;
}

/* The cells of a pool; NULL for a member without one. The caller frees it. */
static uint32_t *
pool_cells(const struct route *r, const struct route_member *m)
{
	const struct served_model *first;
	uint32_t *cells;

	if (m->npool < 2)
		return NULL;
	first = served_by_name(m->entry->served, r->name);
	cells = xcalloc(m->npool, sizeof(*cells));
	served_pool_cells(m->entry->served, first, cells);
	return cells;
}

static void
fill_member(struct state_member_input *in, const struct route_member *m,
    const struct rank *ranks, size_t nranks)
{
	const struct entry *e = m->entry;

	*in = (struct state_member_input){
		.id = e->id,
		.provider = provider_of(m),
		.rank = rank_of(ranks, nranks, provider_of(m)),
		.priority = e->cred->priority,
		.fixed = {
			.credential = e->slot,
			.cell = m->cell,
			.incarnation = e->incarnation,
			.dialects = e->cred->dialects,
			.provider = (uint8_t)e->cred->provider->id,
			.weight = e->cred->weight,
		},
	};
}

/* Where members of one provider and tier stand. */
struct stand {
	int32_t priority;
	uint32_t rank;
};

static int
by_stand(const void *a, const void *b)
{
	const struct stand *x = a;
	const struct stand *y = b;

	if (x->priority != y->priority)
		return x->priority > y->priority ? -1 : 1;
	return (x->rank > y->rank) - (x->rank < y->rank);
}

static size_t
list_stands(
    const struct state_member_input *members, size_t n, struct stand *stands)
{
	size_t count = 0;

	for (size_t i = 0; i < n; i++)
		stands[i] =
		    (struct stand){ members[i].priority, members[i].rank };
	qsort(stands, n, sizeof(*stands), by_stand);
	for (size_t i = 0; i < n; i++) {
		if (count == 0 || by_stand(&stands[count - 1], &stands[i]) != 0)
			stands[count++] = stands[i];
	}
	return count;
}

/* In the order in which a record takes them. */
static size_t
list_cursors(struct routes *routes, struct route *r,
    const struct state_member_input *members, const struct rank *ranks,
    uint32_t *cursors)
{
	AUTO_FREE struct stand *stands = xcalloc(r->nmembers, sizeof(*stands));
	size_t nstands = list_stands(members, r->nmembers, stands);
	size_t n = 0;

	for (size_t i = 0; i < nstands; i++) {
		int32_t priority = stands[i].priority;
		bool first = i == 0 || stands[i - 1].priority != priority;
		bool last =
		    i + 1 == nstands || stands[i + 1].priority != priority;

		if (first && !last)
			cursors[n++] = find_cursors(routes, r, priority, NULL);
		cursors[n++] = find_cursors(
		    routes, r, priority, ranks[stands[i].rank].provider);
	}
	return n;
}

/* What model lists tell, from the first member. */
static void
fill_facts(const struct route *r, struct state_route_input *in)
{
	const struct credential *c = r->members[0].entry->cred;
	const struct served_model *m =
	    served_by_name(r->members[0].entry->served, r->name);
	const struct catalog_model *info = m != NULL ? m->info : NULL;

	in->fixed.listed = 1;
	in->owned_by = owners[c->provider->id];
	if (in->owned_by == NULL)
		in->owned_by = c->provider_name;
	if (info == NULL)
		return;
	if (*info->owned_by != '\0')
		in->owned_by = info->owned_by;
	in->display_name = info->display_name;
	in->fixed.created_s = info->created_s;
	in->fixed.max_input_tokens = info->max_input_tokens;
	in->fixed.max_output_tokens = info->max_output_tokens;
}

static int
put_route(
    struct routes *routes, struct route *r, struct store *state, MDB_txn *txn)
{
	AUTO_FREE struct state_member_input *members =
	    xcalloc(r->nmembers, sizeof(*members));
	AUTO_FREE struct rank *ranks = xcalloc(r->nmembers, sizeof(*ranks));
	AUTO_FREE uint32_t *cursors =
	    xcalloc(2 * r->nmembers, sizeof(*cursors));
	size_t nranks = list_ranks(r, ranks);
	struct state_route_input in = {
		.name = r->name,
		.owned_by = "",
		.display_name = "",
		.members = members,
		.nmembers = r->nmembers,
		.cursors = cursors,
	};
	int rc;

	for (size_t i = 0; i < r->nmembers; i++) {
		fill_member(&members[i], &r->members[i], ranks, nranks);
		members[i].pool = pool_cells(r, &r->members[i]);
		members[i].npool = r->members[i].npool;
	}
	in.ncursors = list_cursors(routes, r, members, ranks, cursors);
	if (r->nmembers > 0)
		fill_facts(r, &in);
	rc = state_put_route(state, txn, &in);
	for (size_t i = 0; i < r->nmembers; i++)
		free((void *)(uintptr_t)members[i].pool);
	return rc;
}

int
routes_write(struct routes *routes, struct store *state, MDB_txn *txn)
{
	struct route *r;
	size_t i;
	int rc = 0;

	for (i = 0; rc == 0 && i < routes->map.n; i++) {
		r = routes->map.v[i];
		if (!r->dirty)
			continue;
		if (r->known > 0) {
			rc = put_route(routes, r, state, txn);
			continue;
		}
		rc = state_delete_route(state, txn, r->name);
		if (rc == -ENOENT)
			rc = 0;
	}
	return rc;
}

/* Whether members of several providers are of that priority. */
static bool
is_mixed(const struct route *r, int32_t priority)
{
	const char *first = NULL;

	for (size_t i = 0; i < r->nmembers; i++) {
		const struct route_member *m = &r->members[i];

		if (m->entry->cred->priority != priority)
			continue;
		if (first != NULL && strcmp(first, provider_of(m)) != 0)
			return true;
		first = provider_of(m);
	}
	return false;
}

static bool
has_provider(const struct route *r, int32_t priority, const char *provider)
{
	for (size_t i = 0; i < r->nmembers; i++) {
		const struct route_member *m = &r->members[i];

		if (m->entry->cred->priority == priority &&
		    strcmp(provider_of(m), provider) == 0)
			return true;
	}
	return false;
}

static void
drop_unused_cursors(struct routes *routes, struct route *r)
{
	size_t n = 0;

	for (size_t i = 0; i < r->ncursors; i++) {
		struct route_cursors *c = &r->cursors[i];
		bool used = c->provider == NULL
				? is_mixed(r, c->priority)
				: has_provider(r, c->priority, c->provider);

		if (used) {
			r->cursors[n++] = *c;
			continue;
		}
		if (c->first != SPARE_CURSORS)
			pool_give(&routes->cursors, c->first / DIALECT_MAX);
		free(c->provider);
	}
	r->ncursors = n;
}

void
routes_settle(struct routes *routes)
{
	struct route *r;
	size_t i;
	size_t n = 0;

	for (i = 0; i < routes->map.n; i++) {
		r = routes->map.v[i];
		if (r->dirty)
			drop_unused_cursors(routes, r);
		r->dirty = false;
		if (r->known > 0)
			routes->map.v[n++] = r;
		else
			route_free(r);
	}
	routes->map.n = n;
}

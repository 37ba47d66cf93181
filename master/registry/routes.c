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
	free(r->members);
	free(r->tiers);
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

void
routes_recover(struct routes *routes, const struct state_route *record)
{
	const struct state_tier *tiers = state_route_tiers(record);
	struct route *r =
	    find_or_make(routes, state_string(record, record->name));
	uint32_t i, group;

	r->tiers = xcalloc(record->ntiers, sizeof(*r->tiers));
	for (i = 0; i < record->ntiers; i++) {
		group = tiers[i].cursors / DIALECT_MAX;
		if (pool_mark(&routes->cursors, group))
			r->tiers[r->ntiers++] =
			    (struct route_tier){ tiers[i].priority,
				    group * DIALECT_MAX };
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
add_member(struct route *r, struct entry *e, uint32_t cell)
{
	size_t at = member_position(r, e->id);

	xgrow(&r->members, &r->cap, r->nmembers, sizeof(*r->members));
	memmove(r->members + at + 1, r->members + at,
	    (r->nmembers - at) * sizeof(*r->members));
	r->members[at] = (struct route_member){ e, cell };
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
	struct route *r;
	size_t i;

	for (i = 0; i < e->served->n; i++) {
		r = find_or_make(routes, e->served->v[i].name);
		r->known++;
		r->dirty = true;
		if (usable && e->served->v[i].cell != BOARD_NONE)
			add_member(r, e, e->served->v[i].cell);
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

/* The cursors of a tier; a priority that is new to the route gets some. */
static uint32_t
tier_cursors(struct routes *routes, struct route *r, int32_t priority)
{
	uint32_t cursors;
	size_t i;

	for (i = 0; i < r->ntiers; i++) {
		if (r->tiers[i].priority == priority)
			return r->tiers[i].cursors;
	}
	cursors = take_cursors(routes, r->name);
	r->tiers = xreallocarray(r->tiers, r->ntiers + 1, sizeof(*r->tiers));
	r->tiers[r->ntiers++] = (struct route_tier){ priority, cursors };
	return cursors;
}

static int
descending(const void *a, const void *b)
{
	int32_t x = *(const int32_t *)a;
	int32_t y = *(const int32_t *)b;

	return (x < y) - (x > y);
}

/* The priorities of the members, best first, each once. */
static size_t
list_priorities(const struct route *r, int32_t *priorities)
{
	size_t i;
	size_t n = 0;

	for (i = 0; i < r->nmembers; i++)
		priorities[i] = r->members[i].entry->cred->priority;
	qsort(priorities, r->nmembers, sizeof(*priorities), descending);
	for (i = 0; i < r->nmembers; i++) {
		if (n == 0 || priorities[n - 1] != priorities[i])
			priorities[n++] = priorities[i];
	}
	return n;
}

static void
fill_member(struct state_member_input *in, const struct route_member *m)
{
	const struct entry *e = m->entry;

	*in = (struct state_member_input){
		.id = e->id,
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

static const struct served_model *
served_by_name(const struct served *served, const char *name)
{
	size_t i;

	for (i = 0; i < served->n; i++) {
		if (strcmp(served->v[i].name, name) == 0)
			return &served->v[i];
	}
	return NULL;
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
	AUTO_FREE int32_t *priorities =
	    xcalloc(r->nmembers, sizeof(*priorities));
	AUTO_FREE uint32_t *cursors = xcalloc(r->nmembers, sizeof(*cursors));
	struct state_route_input in = {
		.name = r->name,
		.owned_by = "",
		.display_name = "",
		.members = members,
		.nmembers = r->nmembers,
		.cursors = cursors,
		.ncursors = list_priorities(r, priorities),
	};
	size_t i;

	for (i = 0; i < r->nmembers; i++)
		fill_member(&members[i], &r->members[i]);
	for (i = 0; i < in.ncursors; i++)
		cursors[i] = tier_cursors(routes, r, priorities[i]);
	if (r->nmembers > 0)
		fill_facts(r, &in);
	return state_put_route(state, txn, &in);
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

static bool
has_priority(const struct route *r, int32_t priority)
{
	size_t i;

	for (i = 0; i < r->nmembers; i++) {
		if (r->members[i].entry->cred->priority == priority)
			return true;
	}
	return false;
}

static void
drop_unused_tiers(struct routes *routes, struct route *r)
{
	size_t i;
	size_t n = 0;

	for (i = 0; i < r->ntiers; i++) {
		if (has_priority(r, r->tiers[i].priority))
			r->tiers[n++] = r->tiers[i];
		else if (r->tiers[i].cursors != SPARE_CURSORS)
			pool_give(&routes->cursors,
			    r->tiers[i].cursors / DIALECT_MAX);
	}
	r->ntiers = n;
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
			drop_unused_tiers(routes, r);
		r->dirty = false;
		if (r->known > 0)
			routes->map.v[n++] = r;
		else
			route_free(r);
	}
	routes->map.n = n;
}

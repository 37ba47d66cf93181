/* SPDX-License-Identifier: MIT */
#include "master/workers.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/secret.h"
#include "master/lending.h"
#include "master/process.h"
#include "master/upgrade/handover.h"

enum {
	SNAPSHOT_MAX = 64 << 20,
	LOOK_COUNTS_MS = 2 * SLOT_LOOK_MS, /* at most, however long it took */
	DRAIN_GRACE_MS = 2000, /* beyond what a worker itself allows */
	STOP_DRAIN_MS = 4000   /* of WORKERS_STOP_MS; the rest is TERM's */
};

struct generation {
	TAILQ_ENTRY(generation) entry;
	struct workers *owner;
	uint64_t number;
	struct slot_setup setup; /* shared by the slots */
	struct buf snapshot;
	int64_t drain_timeout_ms;
	struct slot **slots;
	int *lent; /* per slot: who polls its listeners too */
	unsigned nslots;
	bool inherited; /* from another program: nothing to respawn with */
};

TAILQ_HEAD(generations, generation);

struct workers {
	struct event_base *base;
	struct board *board;
	int program;
	const struct workers_ops *ops;
	void *ctx;

	struct generations generations; /* oldest first */
	struct generation *current;     /* the one that serves, or NULL */
	struct generation *candidate;   /* or NULL */
	bool ending;                    /* nothing is respawned any more */
	struct event *collector; /* frees generations from the event loop */
	struct event *look;      /* at heartbeats */
	int64_t looked_us;
	bool ours[BOARD_SLOTS]; /* board slots that our generations hold */
	uint64_t deaths;
};

static void
slot_is_ready(void *ctx, struct slot *slot)
{
	struct generation *g = ctx;
	struct workers *w = g->owner;
	unsigned i;

	if (g == w->current) {
		slot_serve(slot);
		return;
	}
	if (g != w->candidate)
		return;
	for (i = 0; i < g->nslots; i++) {
		if (slot_state(g->slots[i]) != SLOT_READY)
			return;
	}
	w->ops->ready(w->ctx);
}

static void
slot_says(void *ctx, struct slot *slot, const struct ipc_message *m)
{
	struct generation *g = ctx;
	struct workers *w = g->owner;

	switch (m->header.type) {
	case IPC_RESULT:
		w->ops->result(w->ctx, &m->u.result);
		break;
	case IPC_NEED_REFRESH:
		w->ops->need_refresh(w->ctx, &m->u.refresh);
		break;
	default:
		log_debug("worker %u: %s", slot_board_index(slot),
		    ipc_name(m->header.type));
		break;
	}
}

/* The last look at what a process had on the board. */
static void
lose(struct workers *w, unsigned board_slot)
{
	if (w->ops->lost != NULL)
		w->ops->lost(w->ctx, &w->board->slots[board_slot]);
}

static void
slot_is_lost(void *ctx, struct slot *slot)
{
	lose(((struct generation *)ctx)->owner, slot_board_index(slot));
}

static const struct slot_ops slot_ops = { slot_is_ready, slot_says,
	slot_is_lost };

static void
generation_free(struct generation *g)
{
	unsigned i;

	for (i = 0; i < g->nslots; i++) {
		g->owner->ours[slot_board_index(g->slots[i])] = false;
		slot_free(g->slots[i]);
	}
	free(g->slots);
	free(g->lent);
	if (g->snapshot.data != NULL)
		secret_wipe(g->snapshot.data, g->snapshot.cap);
	buf_fini(&g->snapshot);
	free(g);
}

static bool
generation_is_over(const struct generation *g)
{
	unsigned i;

	for (i = 0; i < g->nslots; i++) {
		if (slot_state(g->slots[i]) != SLOT_GONE)
			return false;
	}
	return true;
}

/*
 * From the event loop, because whoever found the last process gone still
 * holds the generation.
 */
static void
collect(struct workers *w)
{
	struct generation *g, *next;

	for (g = TAILQ_FIRST(&w->generations); g != NULL; g = next) {
		next = TAILQ_NEXT(g, entry);
		if (g == w->candidate || !generation_is_over(g))
			continue;
		if (g == w->current)
			w->current = NULL;
		TAILQ_REMOVE(&w->generations, g, entry);
		generation_free(g);
	}
	if (w->ending && TAILQ_EMPTY(&w->generations))
		w->ops->empty(w->ctx);
}

static void
on_collect(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	collect(arg);
}

static void
collect_soon(struct workers *w)
{
	event_active(w->collector, EV_TIMEOUT, 0);
}

static void
lend_to(struct generation *g, unsigned i, int to)
{
	int was = g->lent[i];

	if (was == to)
		return;
	if (was != LENDING_NOBODY)
		slot_take_back(g->slots[was], g->slots[i]);
	if (to != LENDING_NOBODY)
		slot_lend(g->slots[to], g->slots[i]);
	g->lent[i] = to;
}

static void
review_lending(struct generation *g)
{
	bool *away = xcalloc(g->nslots, sizeof(away[0]));
	int *to = xcalloc(g->nslots, sizeof(to[0]));
	unsigned i;

	for (i = 0; i < g->nslots; i++)
		away[i] = slot_is_away(g->slots[i]);
	lending_plan(away, g->nslots, to);
	for (i = 0; i < g->nslots; i++)
		lend_to(g, i, to[i]);
	free(away);
	free(to);
}

/* The next process on that slot knows of no loan. */
static void
forget_loans_to(struct generation *g, const struct slot *slot)
{
	unsigned i;

	for (i = 0; i < g->nslots; i++) {
		if (g->lent[i] != LENDING_NOBODY &&
		    g->slots[g->lent[i]] == slot)
			g->lent[i] = LENDING_NOBODY;
	}
}

static void
look(struct workers *w)
{
	int64_t now_us = clock_mono_us();
	int64_t passed_ms = (now_us - w->looked_us) / 1000;
	struct generation *g;
	unsigned i;

	if (passed_ms > LOOK_COUNTS_MS)
		passed_ms = LOOK_COUNTS_MS;
	w->looked_us = now_us;
	TAILQ_FOREACH (g, &w->generations, entry) {
		for (i = 0; i < g->nslots; i++)
			slot_look(g->slots[i], passed_ms);
	}
	if (w->current != NULL && !w->ending)
		review_lending(w->current);
}

static void
on_look(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	look(arg);
}

struct workers *
workers_new(struct event_base *base, struct board *board, int program,
    const struct workers_ops *ops, void *ctx)
{
	const struct timeval often = { 0, SLOT_LOOK_MS * 1000 };
	struct workers *w = xcalloc(1, sizeof(*w));

	w->base = base;
	w->board = board;
	w->program = program;
	w->ops = ops;
	w->ctx = ctx;
	TAILQ_INIT(&w->generations);
	w->collector = event_new(base, -1, 0, on_collect, w);
	w->look = event_new(base, -1, EV_PERSIST, on_look, w);
	w->looked_us = clock_mono_us();
	if (w->collector == NULL || w->look == NULL ||
	    event_add(w->look, &often) < 0)
		fatalx("out of memory");
	return w;
}

void
workers_free(struct workers *w)
{
	struct generation *g;
	unsigned i;

	if (w == NULL)
		return;
	while ((g = TAILQ_FIRST(&w->generations)) != NULL) {
		for (i = 0; i < g->nslots; i++) {
			if (slot_pid(g->slots[i]) != 0)
				(void)kill(slot_pid(g->slots[i]), SIGKILL);
		}
		TAILQ_REMOVE(&w->generations, g, entry);
		generation_free(g);
	}
	event_free(w->collector);
	event_free(w->look);
	(void)close(w->program);
	free(w);
}

static bool
board_slot_is_free(const struct workers *w, unsigned i)
{
	return i >= atomic_load(&w->board->slots_used) ||
	       atomic_load(&w->board->slots[i].state) == BOARD_SLOT_FREE;
}

/* A board slot that nobody holds, now ours; negative errno if none is left. */
static int
claim_board_slot(struct workers *w)
{
	unsigned i;
	int rc;

	for (i = 0; i < BOARD_SLOTS; i++) {
		if (w->ours[i] || !board_slot_is_free(w, i))
			continue;
		rc = board_slot_claim(w->board, i);
		if (rc < 0)
			return rc;
		w->ours[i] = true;
		return (int)i;
	}
	return -EAGAIN;
}

static int
add_slot(struct generation *g, struct buf *why)
{
	int rc = claim_board_slot(g->owner);

	if (rc == -EAGAIN) {
		buf_printf(why,
		    "all %d process slots of the board are taken "
		    "by workers that have not ended",
		    BOARD_SLOTS);
		return rc;
	}
	if (rc >= 0) {
		g->lent[g->nslots] = LENDING_NOBODY;
		g->slots[g->nslots] =
		    slot_new(&g->setup, g->nslots, (unsigned)rc);
		rc = slot_spawn(g->slots[g->nslots++]);
	}
	if (rc < 0)
		buf_printf(why, "cannot start a worker: %s", strerror(-rc));
	return rc;
}

static struct generation *
generation_new(struct workers *w, uint64_t number, const struct config *config,
    const struct listen_set *listeners, const struct logfile *logs)
{
	struct generation *g = xcalloc(1, sizeof(*g));

	g->owner = w;
	g->number = number;
	buf_init(&g->snapshot, SNAPSHOT_MAX);
	config_dump(config, CONFIG_DUMP_WORKER, &g->snapshot);
	g->drain_timeout_ms = config->limits.drain_timeout_ms;
	g->slots = xcalloc((size_t)config->workers, sizeof(g->slots[0]));
	g->lent = xcalloc((size_t)config->workers, sizeof(g->lent[0]));
	g->setup = (struct slot_setup){
		.base = w->base,
		.board = w->board,
		.generation = number,
		.program = w->program,
		.snapshot = g->snapshot.data,
		.snapshot_len = g->snapshot.len,
		.nworkers = (unsigned)config->workers,
		.listeners = listeners,
		.logs = logs,
		.ops = &slot_ops,
		.ctx = g,
	};
	return g;
}

static void
generation_end(struct generation *g)
{
	unsigned i;

	for (i = 0; i < g->nslots; i++)
		slot_end(g->slots[i]);
	collect_soon(g->owner);
}

static void
generation_drain(struct generation *g, int64_t within_ms)
{
	unsigned i;

	for (i = 0; i < g->nslots; i++)
		slot_drain(g->slots[i], within_ms);
	collect_soon(g->owner);
}

int
workers_prepare(struct workers *w, uint64_t generation,
    const struct config *config, const struct listen_set *listeners,
    const struct logfile *logs, struct buf *why)
{
	struct generation *g;
	int rc = 0;

	assert(w->candidate == NULL && !w->ending);
	g = generation_new(w, generation, config, listeners, logs);
	TAILQ_INSERT_TAIL(&w->generations, g, entry);
	if (g->snapshot.failed) {
		buf_puts(why, "the configuration is too large for a worker");
		rc = -E2BIG;
	}
	while (rc == 0 && g->nslots < g->setup.nworkers)
		rc = add_slot(g, why);
	if (rc < 0)
		generation_end(g);
	else
		w->candidate = g;
	return rc;
}

/* The oldest of too many is ended, streams and all. */
static void
limit_generations(struct workers *w)
{
	struct generation *g;
	unsigned n = 0;

	TAILQ_FOREACH_REVERSE(g, &w->generations, generations, entry)
	{
		if (++n <= WORKERS_GENERATIONS_MAX || generation_is_over(g))
			continue;
		log_notice("generation %" PRIu64 ": ended, because %d live",
		    g->number, WORKERS_GENERATIONS_MAX);
		generation_end(g);
	}
}

void
workers_commit(struct workers *w)
{
	struct generation *old = w->current, *g = w->candidate;
	unsigned i;

	assert(g != NULL);
	w->current = g;
	w->candidate = NULL;
	for (i = 0; i < g->nslots; i++)
		slot_serve(g->slots[i]);
	if (old != NULL)
		generation_drain(old, old->drain_timeout_ms + DRAIN_GRACE_MS);
	limit_generations(w);
}

void
workers_abandon(struct workers *w)
{
	struct generation *g = w->candidate;

	if (g == NULL)
		return;
	w->candidate = NULL;
	generation_end(g);
}

static void
end_all(struct workers *w, int64_t within_ms)
{
	struct generation *g;
	int64_t own_ms;

	w->ending = true;
	workers_abandon(w);
	TAILQ_FOREACH (g, &w->generations, entry) {
		own_ms = g->drain_timeout_ms + DRAIN_GRACE_MS;
		generation_drain(g, own_ms < within_ms ? own_ms : within_ms);
	}
	collect_soon(w);
}

void
workers_drain(struct workers *w)
{
	end_all(w, INT64_MAX);
}

void
workers_stop(struct workers *w)
{
	struct generation *g;
	unsigned i;

	end_all(w, STOP_DRAIN_MS);
	TAILQ_FOREACH (g, &w->generations, entry) {
		for (i = 0; i < g->nslots; i++)
			slot_close_idle(g->slots[i]);
	}
}

static struct slot *
find_slot(const struct workers *w, pid_t pid, struct generation **owner)
{
	struct generation *g;
	unsigned i;

	TAILQ_FOREACH (g, &w->generations, entry) {
		for (i = 0; i < g->nslots; i++) {
			if (slot_pid(g->slots[i]) == pid) {
				*owner = g;
				return g->slots[i];
			}
		}
	}
	return NULL;
}

static void
fail_candidate(struct workers *w, const struct slot *slot, int status)
{
	char how[96], why[192];

	slot_describe_death(status, how, sizeof(how));
	(void)snprintf(why, sizeof(why),
	    "worker %u ended with %s before it served; its own lines in the "
	    "log say why",
	    slot_board_index(slot), how);
	w->ops->failed(w->ctx, why);
}

static bool
is_respawned(const struct generation *g)
{
	return g == g->owner->current && !g->owner->ending && !g->inherited;
}

static void
bury(struct workers *w, pid_t pid, int status)
{
	struct generation *g;
	struct slot *slot = find_slot(w, pid, &g);

	if (slot == NULL) {
		if (w->ops->other_child != NULL)
			w->ops->other_child(w->ctx, pid, status);
		return;
	}
	forget_loans_to(g, slot);
	if (slot_reap(slot, status, is_respawned(g))) {
		w->deaths++;
		if (g == w->candidate)
			fail_candidate(w, slot, status);
	}
	w->ops->died(w->ctx);
	collect_soon(w);
}

void
workers_reap(struct workers *w)
{
	pid_t pid;
	int status;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		bury(w, pid, status);
}

bool
workers_reap_strangers(struct workers *w)
{
	unsigned i, used = atomic_load(&w->board->slots_used);
	bool alive = false;

	for (i = 0; i < used; i++) {
		if (w->ours[i] || board_slot_is_free(w, i))
			continue;
		if (process_lives(atomic_load(&w->board->slots[i].pid))) {
			alive = true;
			continue;
		}
		lose(w, i);
		board_slot_reap(w->board, &w->board->slots[i]);
	}
	return alive;
}

bool
workers_have_leftovers(struct workers *w)
{
	const struct generation *g;

	TAILQ_FOREACH (g, &w->generations, entry) {
		if (g != w->current && g != w->candidate)
			return true;
	}
	return workers_reap_strangers(w);
}

static bool
generation_accepts(const struct generation *g)
{
	unsigned i;

	for (i = 0; i < g->nslots; i++) {
		if (slot_accepts(g->slots[i]))
			return true;
	}
	return false;
}

bool
workers_have_handed_over(const struct workers *w)
{
	const struct generation *g;

	TAILQ_FOREACH (g, &w->generations, entry) {
		if (g != w->current && generation_accepts(g))
			return false;
	}
	return true;
}

bool
workers_know_pid(const struct workers *w, pid_t pid)
{
	unsigned i, used = atomic_load(&w->board->slots_used);

	for (i = 0; i < used; i++) {
		if (atomic_load(&w->board->slots[i].pid) == pid)
			return true;
	}
	return false;
}

void
workers_wake(struct workers *w)
{
	unsigned i;

	for (i = 0; w->current != NULL && i < w->current->nslots; i++)
		slot_wake(w->current->slots[i]);
}

void
workers_send_logs(struct workers *w, const struct logfile *logs)
{
	struct generation *g;
	unsigned i;

	TAILQ_FOREACH (g, &w->generations, entry) {
		for (i = 0; i < g->nslots; i++)
			slot_send_logs(g->slots[i], logs);
	}
}

uint64_t
workers_deaths(const struct workers *w)
{
	return w->deaths;
}

void
workers_each(const struct workers *w, workers_fn *fn, void *ctx)
{
	const struct generation *g;
	unsigned i;

	TAILQ_FOREACH (g, &w->generations, entry) {
		for (i = 0; i < g->nslots; i++)
			fn(ctx, g->slots[i], g->number);
	}
}

int
workers_program(const struct workers *w)
{
	return w->program;
}

static cJSON *
describe(const struct generation *g)
{
	cJSON *row = cJSON_CreateObject(), *slots;
	unsigned i;

	handover_put_number(row, "number", (int64_t)g->number);
	handover_put_number(row, "drain_timeout_ms", g->drain_timeout_ms);
	handover_put_number(row, "nworkers", g->setup.nworkers);
	(void)cJSON_AddBoolToObject(row, "serves", g == g->owner->current);
	slots = cJSON_AddArrayToObject(row, "slots");
	for (i = 0; i < g->nslots; i++)
		(void)cJSON_AddItemToArray(slots, slot_hand_over(g->slots[i]));
	return row;
}

void
workers_hand_over(const struct workers *w, cJSON *into)
{
	cJSON *rows = cJSON_AddArrayToObject(into, "generations");
	const struct generation *g;

	handover_put_number(into, "deaths", (int64_t)w->deaths);
	TAILQ_FOREACH (g, &w->generations, entry) {
		if (g != w->candidate)
			(void)cJSON_AddItemToArray(rows, describe(g));
	}
}

static void
inherit_slots(struct generation *g, const cJSON *rows)
{
	size_t n = (size_t)cJSON_GetArraySize(rows);
	const cJSON *row;

	g->slots = xcalloc(n, sizeof(g->slots[0]));
	g->lent = xcalloc(n, sizeof(g->lent[0]));
	cJSON_ArrayForEach (row, rows) {
		g->lent[g->nslots] = LENDING_NOBODY;
		g->slots[g->nslots] = slot_inherit(&g->setup, row);
		g->owner->ours[slot_board_index(g->slots[g->nslots])] = true;
		g->nslots++;
	}
}

static void
inherit(struct workers *w, const cJSON *row, const struct listen_set *listeners,
    const struct logfile *logs)
{
	struct generation *g = xcalloc(1, sizeof(*g));

	g->owner = w;
	g->inherited = true;
	g->number = (uint64_t)handover_number(row, "number");
	g->drain_timeout_ms = handover_number(row, "drain_timeout_ms");
	buf_init(&g->snapshot, SNAPSHOT_MAX);
	g->setup = (struct slot_setup){
		.base = w->base,
		.board = w->board,
		.generation = g->number,
		.program = -1,
		.nworkers = (unsigned)handover_number(row, "nworkers"),
		.listeners = listeners,
		.logs = logs,
		.ops = &slot_ops,
		.ctx = g,
	};
	inherit_slots(g, cJSON_GetObjectItem(row, "slots"));
	TAILQ_INSERT_TAIL(&w->generations, g, entry);
	if (cJSON_IsTrue(cJSON_GetObjectItem(row, "serves")))
		w->current = g;
}

void
workers_inherit(struct workers *w, const cJSON *from,
    const struct listen_set *listeners, const struct logfile *logs)
{
	const cJSON *row;

	w->deaths = (uint64_t)handover_number(from, "deaths");
	cJSON_ArrayForEach (row, cJSON_GetObjectItem(from, "generations"))
		inherit(w, row, listeners, logs);
}

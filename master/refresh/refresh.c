/* SPDX-License-Identifier: MIT */
/* Which credential is refreshed when; see refresh.h. */
#include "master/refresh/refresh.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/alloc.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/state.h"
#include "common/str.h"
#include "common/traffic.h"
#include "master/refresh/due.h"
#include "master/refresh/refresh_core.h"

enum {
	/* Tokens expire by the wall clock, which may be set. */
	LOOK_AGAIN_MS = 60 * 1000,
	/* A new token that is due at once, or is the old one, was no use. */
	USELESS_MS = 30 * 1000,
	/* Another file with the same refresh token is being refreshed. */
	TWIN_MS = 250
};

/*
 * After the first, second ... failure. The first is nobody's business: who
 * waits goes on waiting.
 */
static const int64_t backoff_ms[] = { 1000, 5000, 30000, 120000, 300000 };

static const char gone[] = "it was removed or disabled";

static int64_t
wall_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* ---- the heap: the item that is due first is heap[0] */

static void
heap_set(struct refresher *r, size_t at, struct item *item)
{
	r->heap[at] = item;
	item->at = at;
}

static void
heap_up(struct refresher *r, size_t at, struct item *item)
{
	while (at > 0 && r->heap[(at - 1) / 2]->due_ms > item->due_ms) {
		heap_set(r, at, r->heap[(at - 1) / 2]);
		at = (at - 1) / 2;
	}
	heap_set(r, at, item);
}

static void
heap_down(struct refresher *r, size_t at, struct item *item)
{
	size_t child;

	while ((child = 2 * at + 1) < r->nheap) {
		if (child + 1 < r->nheap &&
		    r->heap[child + 1]->due_ms < r->heap[child]->due_ms)
			child++;
		if (r->heap[child]->due_ms >= item->due_ms)
			break;
		heap_set(r, at, r->heap[child]);
		at = child;
	}
	heap_set(r, at, item);
}

static void
heap_remove(struct item *item)
{
	struct refresher *r = item->r;
	size_t at = item->at;
	struct item *last;

	if (at == SIZE_MAX)
		return;
	item->at = SIZE_MAX;
	last = r->heap[--r->nheap];
	if (last == item)
		return;
	if (at > 0 && r->heap[(at - 1) / 2]->due_ms > last->due_ms)
		heap_up(r, at, last);
	else
		heap_down(r, at, last);
}

static void
heap_put(struct item *item, int64_t due_ms)
{
	struct refresher *r = item->r;

	heap_remove(item);
	item->due_ms = due_ms;
	if (due_ms == REFRESH_NEVER)
		return;
	xgrow(&r->heap, &r->heap_cap, r->nheap, sizeof(*r->heap));
	heap_up(r, r->nheap++, item);
}

/* ---- items */

static struct item *
item_get(struct refresher *r, const char *id)
{
	struct item *item = name_map_find(&r->items, id);

	if (item != NULL)
		return item;
	item = xcalloc(1, sizeof(*item));
	item->id = xstrdup(id);
	item->r = r;
	item->at = SIZE_MAX;
	TAILQ_INIT(&item->waiters);
	(void)name_map_put(&r->items, item);
	return item;
}

static void
tell_waiters(struct item *item, const char *error)
{
	struct refresh_waiter *w;

	while ((w = TAILQ_FIRST(&item->waiters)) != NULL) {
		TAILQ_REMOVE(&item->waiters, w, link);
		w->done(w, error);
	}
}

static void
item_free(struct item *item)
{
	tell_waiters(item, gone);
	heap_remove(item);
	free(item->id);
	free(item);
}

void
item_set_record(struct item *item, const struct refresh_record *record)
{
	item->record = *record;
}

/* ---- forgetting */

/* A record that goes from the ledger. */
struct forget {
	struct ledger_job job; /* first */
	char *id;
	int rc;
};

static void
run_forget(struct ledger_job *job, struct store *store)
{
	struct forget *f = (struct forget *)job;

	f->rc = refresh_record_delete(store, f->id);
}

static void
after_forget(struct ledger_job *job)
{
	struct forget *f = (struct forget *)job;

	if (f->rc < 0)
		log_warn_e(f->rc,
		    "credential %s: its record stays in the "
		    "ledger",
		    f->id);
	free(f->id);
	free(f);
}

static void
forget_refusal(struct item *item)
{
	struct forget *f;

	if (item->record.kind != REFRESH_LOGIN)
		return;
	item->record.kind = REFRESH_NOTHING;
	f = xcalloc(1, sizeof(*f));
	f->id = xstrdup(item->id);
	f->job.run = run_forget;
	f->job.done = after_forget;
	ledger_submit(item->r->parts.ledger, &f->job);
}

/* An answer that was lost is not forgotten: the token may be used up. */
static void
forget_failures(struct item *item)
{
	item->failures = 0;
	item->barred_ms = 0;
	item->refreshed_ms = 0;
	item->error[0] = '\0';
}

/* The credential of an item, if it may be refreshed. */
static struct entry *
entry_of(const struct item *item)
{
	return name_map_find(
	    registry_entries(item->r->parts.registry), item->id);
}

static bool
may_be_refreshed(const struct entry *e)
{
	return e != NULL && e->cred != NULL && e->cred->refreshable &&
	       !entry_is_disabled(e) && e->slot != BOARD_NONE &&
	       (e->fault == NULL || e->fault == credential_no_token ||
		   e->note.dead);
}

/* What the ledger says of another file, or another token, is over. */
static enum refresh_kind
standing(const struct item *item, const struct credential *c)
{
	const struct refresh_record *record = &item->record;

	if (record->kind == REFRESH_LOGIN)
		return digest_equal(&record->identity, &c->identity)
			   ? REFRESH_LOGIN
			   : REFRESH_NOTHING;
	if (record->kind != REFRESH_NOTHING &&
	    digest_equal(&record->refresh_token, &c->refresh_token))
		return (enum refresh_kind)record->kind;
	return REFRESH_NOTHING;
}

static int64_t
lead_of(const struct refresher *r, const struct provider *provider)
{
	int64_t lead_ms = (*r->parts.config)->oauth[provider->id].lead_ms;

	return lead_ms >= 0 ? lead_ms : provider->oauth.lead_ms;
}

/* The same whenever it is asked for the same token. */
static unsigned
jitter_of(const struct credential *c)
{
	uint64_t hash = state_model_hash(c->id, strlen(c->id));

	hash ^= (uint64_t)c->expires_ms * UINT64_C(0x9e3779b97f4a7c15);
	return (unsigned)((hash >> 32) % (REFRESH_JITTER_MAX + 1));
}

/* When to do something about a token, by the wall clock. */
static int64_t
due_of(const struct item *item, const struct entry *e, int64_t now_ms)
{
	const struct credential *c = e->cred;
	const struct refresh_times times = {
		.now_ms = now_ms,
		.expires_ms = c->expires_ms,
		.last_ms = c->last_refresh_ms,
		.interval_ms = c->refresh_interval_ms,
		.lead_ms = lead_of(item->r, c->provider),
		.jitter = jitter_of(c),
	};

	if (item->by_hand)
		return now_ms;
	switch (standing(item, c)) {
	case REFRESH_LOGIN:
		/* Then it is taken out of service. */
		return e->note.dead || c->expires_ms == 0 ? REFRESH_NEVER
							  : c->expires_ms;
	case REFRESH_INTENT:
	case REFRESH_LOST:
		if (!item->wanted)
			return c->expires_ms > now_ms ? c->expires_ms : now_ms;
		break;
	case REFRESH_NOTHING:
		break;
	}
	/* A token that is not there will not last. */
	if (item->wanted || *c->secret == '\0')
		return now_ms;
	return refresh_due(&times);
}

/* What people and workers are told; nothing is written if they know. */
static void
publish_note(struct item *item, const struct entry *e, int64_t barred_ms,
    bool needs_login, bool dead)
{
	struct refresh_note note = {
		.barred_ms = barred_ms,
		.needs_login = needs_login,
		.dead = dead,
	};
	int rc;

	(void)str_copy(note.error, sizeof(note.error), item->error);
	if (e->note.barred_ms == barred_ms &&
	    e->note.needs_login == needs_login && e->note.dead == dead)
		return;
	rc = registry_note_refresh(item->r->parts.registry, item->id, &note);
	if (rc < 0)
		log_warn_e(rc,
		    "credential %s: cannot publish what became of "
		    "its refresh",
		    item->id);
}

static bool
has_expired(const struct credential *c, int64_t now_ms)
{
	return c->expires_ms != 0 && c->expires_ms <= now_ms;
}

/*
 * A file that is another than before starts with a clean slate, and so does a
 * credential that was disabled or removed in between.
 */
static void
item_follow(struct item *item, const struct entry *e)
{
	bool restarted =
	    item->incarnation != 0 && item->incarnation != e->incarnation;

	item->incarnation = e->incarnation;
	if (restarted)
		forget_refusal(item);
	if (restarted || !digest_equal(&item->identity, &e->cred->identity))
		forget_failures(item);
	item->identity = e->cred->identity;
}

static void
item_look(struct item *item, struct entry *e)
{
	int64_t now_ms = clock_now_ms();
	int64_t now_wall_ms = wall_ms();
	int64_t due_ms;
	bool login;

	item->seen = item->r->looks;
	item_follow(item, e);
	login = standing(item, e->cred) == REFRESH_LOGIN && !item->by_hand;
	if (login)
		(void)str_copy(
		    item->error, sizeof(item->error), item->record.reason);
	if (login)
		publish_note(item, e, INT64_MAX, true,
		    e->note.dead || *e->cred->secret == '\0' ||
			has_expired(e->cred, now_wall_ms));
	else if (e->note.needs_login)
		publish_note(item, e, 0, false, false);
	if (item->task != NULL)
		return;
	due_ms = due_of(item, e, now_wall_ms);
	if (due_ms != REFRESH_NEVER)
		due_ms = due_ms - now_wall_ms + now_ms;
	if (due_ms < item->barred_ms && !item->by_hand)
		due_ms = item->barred_ms;
	heap_put(item, due_ms);
	e->next_refresh_ms = due_ms == REFRESH_NEVER || login
				 ? 0
				 : due_ms - now_ms + now_wall_ms;
	atomic_store(&item->r->parts.board->credentials[e->slot].refresh_ms,
	    e->next_refresh_ms);
}

static void
drop_unseen(struct refresher *r)
{
	for (size_t i = r->items.n; i-- > 0;) {
		struct item *item = r->items.v[i];

		if (item->seen == r->looks)
			continue;
		if (entry_of(item) == NULL)
			forget_refusal(item);
		if (item->task == NULL &&
		    item->record.kind == REFRESH_NOTHING) {
			(void)name_map_remove(&r->items, item->id);
			item_free(item);
			continue;
		}
		heap_remove(item);
		tell_waiters(item, gone);
		forget_failures(item);
		item->wanted = item->by_hand = false;
	}
}

/* ---- doing what is due */

/* A refresh token is good once, in however many files it stands. */
static bool
token_is_in_use(struct refresher *r, const struct credential *c)
{
	const struct item *item;

	TAILQ_FOREACH (item, &r->running, running) {
		if (!c->signs && digest_equal(&item->token, &c->refresh_token))
			return true;
	}
	return false;
}

size_t
item_twins(const struct item *item, char *ids[TWINS_MAX])
{
	const struct name_map *entries =
	    registry_entries(item->r->parts.registry);
	size_t n = 0;

	for (size_t i = 0; i < entries->n && n < TWINS_MAX; i++) {
		const struct entry *e = entries->v[i];

		if (e->cred != NULL && e->cred->refreshable &&
		    !e->cred->signs && strcmp(e->id, item->id) != 0 &&
		    digest_equal(&e->cred->refresh_token, &item->token))
			ids[n++] = xstrdup(e->id);
	}
	return n;
}

void
item_served(struct refresher *r, const char *id)
{
	struct item *item = name_map_find(&r->items, id);

	if (item == NULL || item->task != NULL)
		return;
	item->wanted = item->by_hand = false;
	tell_waiters(item, NULL);
}

static void
item_start(struct item *item)
{
	struct refresher *r = item->r;
	struct entry *e = entry_of(item);

	if (!may_be_refreshed(e))
		return;
	if (standing(item, e->cred) == REFRESH_LOGIN && !item->by_hand) {
		publish_note(item, e, INT64_MAX, true, true);
		return;
	}
	if (token_is_in_use(r, e->cred)) {
		heap_put(item, clock_now_ms() + TWIN_MS);
		return;
	}
	item->wanted = item->by_hand = false;
	item->generation = e->token_generation;
	item->token = e->cred->refresh_token;
	TAILQ_INSERT_TAIL(&r->running, item, running);
	r->busy++;
	task_start(item, e);
}

static void
arm(struct refresher *r)
{
	int64_t wait_ms = LOOK_AGAIN_MS;
	struct timeval tv;

	(void)event_del(&r->timer);
	if (!r->loaded || r->ending)
		return;
	if (r->nheap > 0 && r->heap[0]->due_ms - clock_now_ms() < wait_ms)
		wait_ms = r->heap[0]->due_ms - clock_now_ms();
	/* Whoever ends makes room, and comes here again. */
	if (r->busy >= (unsigned)(*r->parts.config)->auth_auto_refresh_workers)
		wait_ms = LOOK_AGAIN_MS;
	if (wait_ms < 0)
		wait_ms = 0;
	tv.tv_sec = wait_ms / 1000;
	tv.tv_usec = wait_ms % 1000 * 1000;
	(void)event_add(&r->timer, &tv);
}

static void
run_due(struct refresher *r)
{
	int64_t now_ms = clock_now_ms();
	unsigned max;

	if (!r->loaded || r->ending || *r->parts.config == NULL)
		return;
	max = (unsigned)(*r->parts.config)->auth_auto_refresh_workers;
	while (r->nheap > 0 && r->heap[0]->due_ms <= now_ms && r->busy < max) {
		struct item *item = r->heap[0];

		heap_remove(item);
		item_start(item);
	}
	arm(r);
}

static void
look(struct refresher *r)
{
	const struct name_map *entries = registry_entries(r->parts.registry);

	if (!r->loaded || r->ending || *r->parts.config == NULL)
		return;
	r->looks++;
	for (size_t i = 0; i < entries->n; i++) {
		struct entry *e = entries->v[i];

		if (may_be_refreshed(e))
			item_look(item_get(r, e->id), e);
	}
	drop_unseen(r);
	run_due(r);
}

static void
on_soon(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	look(arg);
}

/* Nothing was due for a while, or something is: both mean a look. */
static void
on_timer(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	struct refresher *r = arg;

	if (r->nheap > 0 && r->heap[0]->due_ms <= clock_now_ms())
		run_due(r);
	else
		look(r);
}

void
refresh_look_soon(struct refresher *r)
{
	event_active(&r->soon, EV_TIMEOUT, 0);
}

/* ---- what became of it */

static void
count(struct refresher *r, enum board_refresh end)
{
	traffic_add(&r->parts.board->master.refreshes[end], 1);
}

static int64_t
next_backoff(struct item *item)
{
	size_t last = ARRAY_LEN(backoff_ms) - 1;
	size_t step = item->failures < last ? item->failures : last;

	item->failures++;
	return backoff_ms[step];
}

static void
item_failed(struct item *item, const char *error, int64_t wait_ms)
{
	struct entry *e = entry_of(item);
	bool quiet =
	    item->failures == 0 && wait_ms == 0 && TAILQ_EMPTY(&item->waiters);

	count(item->r, BOARD_REFRESH_FAILED);
	(void)str_copy(item->error, sizeof(item->error), error);
	if (wait_ms == 0)
		wait_ms = next_backoff(item);
	else
		item->failures++;
	item->barred_ms = clock_now_ms() + wait_ms;
	log_warn("credential %s: not refreshed: %s; again in %" PRId64 " s",
	    item->id, error, wait_ms / 1000);
	if (may_be_refreshed(e) && !quiet)
		publish_note(item, e, item->barred_ms, false, false);
	tell_waiters(item, error);
}

/* Nobody knows which token is good now. */
static void
item_lost(struct item *item, const char *error)
{
	struct entry *e = entry_of(item);
	int64_t expires_ms = 0;

	count(item->r, BOARD_REFRESH_FAILED);
	(void)str_copy(item->error, sizeof(item->error), error);
	item->barred_ms = clock_now_ms() + next_backoff(item);
	if (may_be_refreshed(e)) {
		expires_ms = e->cred->expires_ms;
		publish_note(item, e, item->barred_ms, false, false);
	}
	log_warn("credential %s: not refreshed: %s; again %s", item->id, error,
	    expires_ms > wall_ms() ? "when its token has expired"
				   : "in a while");
	tell_waiters(item, error);
}

static void
item_refused(struct item *item, const char *error)
{
	count(item->r, BOARD_REFRESH_REFUSED);
	(void)str_copy(item->error, sizeof(item->error), error);
	log_warn("credential %s: needs a new login: %s", item->id, error);
	tell_waiters(item, error);
}

static void
bar(struct item *item, const struct entry *e, int64_t until_ms)
{
	item->barred_ms = until_ms;
	publish_note(item, e, until_ms, false, false);
}

static void
item_refreshed(struct item *item)
{
	struct entry *e = entry_of(item);
	char until[32] = "at a time not known";

	count(item->r, BOARD_REFRESH_OK);
	forget_failures(item);
	item->refreshed_ms = clock_now_ms();
	tell_waiters(item, NULL);
	if (!may_be_refreshed(e))
		return;
	item->identity = e->cred->identity;
	if (e->cred->expires_ms > 0)
		str_from_time(e->cred->expires_ms / 1000, until, sizeof(until));
	log_notice(
	    "credential %s: refreshed, its token expires %s", item->id, until);
	if (e->token_generation == item->generation ||
	    due_of(item, e, wall_ms()) <= wall_ms())
		bar(item, e, item->refreshed_ms + USELESS_MS);
}

static void
end_if_done(struct refresher *r)
{
	if (r->ending && r->busy == 0 && r->on_end != NULL)
		event_active(&r->ended, EV_TIMEOUT, 0);
}

void
item_ended(
    struct item *item, enum item_end end, const char *error, int64_t wait_ms)
{
	struct refresher *r = item->r;

	item->task = NULL;
	TAILQ_REMOVE(&r->running, item, running);
	r->busy--;
	switch (end) {
	case ITEM_REFRESHED:
		item_refreshed(item);
		break;
	case ITEM_OVERTAKEN:
		log_info(
		    "credential %s: its file was changed meanwhile", item->id);
		item->barred_ms = clock_now_ms() + backoff_ms[0];
		tell_waiters(item, "its file was changed meanwhile");
		break;
	case ITEM_REFUSED:
		item_refused(item, error);
		break;
	case ITEM_FAILED:
		item_failed(item, error, wait_ms);
		break;
	case ITEM_LOST:
		item_lost(item, error);
		break;
	}
	end_if_done(r);
	refresh_look_soon(r);
}

/* ---- asked for */

void
refresh_wanted(struct refresher *r, const struct ipc_refresh *asked)
{
	struct entry *e = registry_at(r->parts.registry, asked->credential);
	struct item *item;

	if (!r->loaded || *r->parts.config == NULL || !may_be_refreshed(e) ||
	    e->incarnation != asked->incarnation ||
	    e->token_generation != asked->token_generation)
		return;
	item = item_get(r, e->id);
	if (item->task != NULL)
		return;
	if (standing(item, e->cred) == REFRESH_LOGIN) {
		publish_note(item, e, INT64_MAX, true, true);
		return;
	}
	/* A token that is refused as soon as it is new is no use either. */
	if (item->refreshed_ms != 0 &&
	    clock_now_ms() < item->refreshed_ms + USELESS_MS) {
		bar(item, e, item->refreshed_ms + USELESS_MS);
		return;
	}
	item->wanted = true;
	item_look(item, e);
	run_due(r);
}

int
refresh_by_hand(
    struct refresher *r, const char *id, struct refresh_waiter *waiter)
{
	struct entry *e =
	    name_map_find(registry_entries(r->parts.registry), id);
	struct item *item;

	if (e == NULL || e->cred == NULL)
		return REFRESH_UNKNOWN;
	if (!may_be_refreshed(e) || !r->loaded || r->ending)
		return REFRESH_USELESS;
	item = item_get(r, id);
	waiter->id = item->id;
	TAILQ_INSERT_TAIL(&item->waiters, waiter, link);
	if (item->task == NULL) {
		item->by_hand = true;
		item_look(item, e);
		run_due(r);
	}
	return 0;
}

void
refresh_forget(struct refresher *r, struct refresh_waiter *waiter)
{
	struct item *item;
	struct refresh_waiter *w;

	for (size_t i = 0; i < r->items.n; i++) {
		item = r->items.v[i];
		TAILQ_FOREACH (w, &item->waiters, link) {
			if (w != waiter)
				continue;
			TAILQ_REMOVE(&item->waiters, w, link);
			return;
		}
	}
}

/* ---- the ledger */

struct load {
	struct ledger_job job; /* first */
	struct refresher *r;
	struct name_map items; /* struct loaded */
	int rc;
};

struct loaded {
	char *id; /* first: the key of maps */
	struct refresh_record record;
};

static void
on_record(void *ctx, const char *id, const struct refresh_record *record)
{
	struct load *load = ctx;
	struct loaded *l = xcalloc(1, sizeof(*l));

	l->id = xstrdup(id);
	l->record = *record;
	(void)name_map_put(&load->items, l);
}

static void
run_load(struct ledger_job *job, struct store *store)
{
	struct load *load = (struct load *)job;

	load->rc = refresh_record_each(store, on_record, load);
}

static void
after_load(struct ledger_job *job)
{
	struct load *load = (struct load *)job;
	struct refresher *r = load->r;

	if (load->rc < 0)
		log_error_e(load->rc, "cannot read the ledger of refreshes");
	for (size_t i = 0; i < load->items.n; i++) {
		struct loaded *l = load->items.v[i];

		item_set_record(item_get(r, l->id), &l->record);
		free(l->id);
		free(l);
	}
	name_map_fini(&load->items);
	free(load);
	r->loaded = true;
	look(r);
}

void
refresh_reset(struct refresher *r, const char *id)
{
	struct item *item = name_map_find(&r->items, id);
	struct entry *e = item != NULL ? entry_of(item) : NULL;

	if (!may_be_refreshed(e) || item->task != NULL)
		return;
	forget_refusal(item);
	forget_failures(item);
	publish_note(item, e, 0, false, false);
	refresh_look_soon(r);
}

/* ---- life */

static void
on_ended(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	struct refresher *r = arg;
	void (*done)(void *ctx) = r->on_end;

	r->on_end = NULL;
	if (done != NULL)
		done(r->end_ctx);
}

struct refresher *
refresh_new(const struct refresh_parts *parts)
{
	struct refresher *r = xcalloc(1, sizeof(*r));
	struct load *load = xcalloc(1, sizeof(*load));

	r->parts = *parts;
	TAILQ_INIT(&r->running);
	(void)evtimer_assign(&r->timer, parts->base, on_timer, r);
	(void)evtimer_assign(&r->ended, parts->base, on_ended, r);
	(void)event_assign(&r->soon, parts->base, -1, 0, on_soon, r);
	load->r = r;
	load->job.run = run_load;
	load->job.done = after_load;
	ledger_submit(parts->ledger, &load->job);
	return r;
}

bool
refresh_end(struct refresher *r, void (*done)(void *ctx), void *ctx)
{
	const struct timeval limit = { .tv_sec = REFRESH_END_MS / 1000 };

	r->ending = true;
	(void)event_del(&r->timer);
	if (r->busy == 0)
		return true;
	r->on_end = done;
	r->end_ctx = ctx;
	(void)event_add(&r->ended, &limit);
	return false;
}

void
refresh_resume(struct refresher *r)
{
	r->ending = false;
	r->on_end = NULL;
	refresh_look_soon(r);
}

void
refresh_free(struct refresher *r)
{
	if (r == NULL)
		return;
	(void)event_del(&r->timer);
	(void)event_del(&r->soon);
	(void)event_del(&r->ended);
	for (size_t i = 0; i < r->items.n; i++) {
		struct item *item = r->items.v[i];

		if (item->task != NULL)
			task_abandon(item->task);
		item->task = NULL;
		item_free(item);
	}
	name_map_fini(&r->items);
	free(r->heap);
	free(r);
}

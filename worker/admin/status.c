/* SPDX-License-Identifier: MIT */
#include "worker/admin/status.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "build.h"
#include "common/alloc.h"
#include "common/attr.h"
#include "common/bindings.h"
#include "common/chronicle.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/state.h"
#include "common/str.h"

struct view {
	struct worker *w;
	struct board *board;
	struct board_counters sum;
	struct buf *b;
	int64_t now_ms;
	int64_t unix_s;      /* of now_ms, by the wall clock */
	bool first;          /* of the list being written */
	uint32_t *in_flight; /* by slot of the credential */
	uint64_t routes;
};

/* ---- the format */

/* The comma before the next of a list, and the key of a member. */
static void
next(struct view *v)
{
	if (!v->first)
		buf_putc(v->b, ',');
	v->first = false;
}

static void
key(struct view *v, const char *name)
{
	next(v);
	buf_printf(v->b, "\"%s\":", name);
}

static void
put_text(struct view *v, const char *name, const char *text)
{
	key(v, name);
	if (text != NULL)
		buf_json_string(v->b, text, strlen(text));
	else
		buf_puts(v->b, "null");
}

static void
put_number(struct view *v, const char *name, int64_t number)
{
	key(v, name);
	buf_printf(v->b, "%" PRId64, number);
}

/* 0: null. */
static void
put_unix_time(struct view *v, const char *name, int64_t unix_ms)
{
	char text[32];

	str_from_time(unix_ms / 1000, text, sizeof(text));
	put_text(v, name, unix_ms != 0 ? text : NULL);
}

/* A time of the board's clock; 0: null. */
static void
put_time(struct view *v, const char *name, int64_t ms)
{
	put_unix_time(v, name, ms != 0 ? v->unix_s * 1000 + ms - v->now_ms : 0);
}

static void
begin(struct view *v, const char *name, char bracket)
{
	if (name != NULL)
		key(v, name);
	else
		next(v);
	buf_putc(v->b, bracket);
	v->first = true;
}

static void
end(struct view *v, char bracket)
{
	buf_putc(v->b, bracket);
	v->first = false;
}

/* ---- workers */

static const char *
worker_state(uint32_t state)
{
	static const char *const names[] = {
		[BOARD_SLOT_FREE] = "gone",
		[BOARD_SLOT_STARTING] = "starting",
		[BOARD_SLOT_READY] = "ready",
		[BOARD_SLOT_SERVING] = "active",
		[BOARD_SLOT_DRAINING] = "draining",
	};

	return state < ARRAY_LEN(names) ? names[state] : "unknown";
}

static void
put_worker(struct view *v, uint32_t index)
{
	struct board_slot *s = &v->board->slots[index];
	uint32_t state = atomic_load(&s->state);

	if (state == BOARD_SLOT_FREE)
		return;
	begin(v, NULL, '{');
	put_number(v, "slot", index);
	put_number(v, "pid", atomic_load(&s->pid));
	put_number(v, "generation", (int64_t)atomic_load(&s->generation));
	put_text(v, "state", worker_state(state));
	put_number(v, "requests", (int64_t)atomic_load(&s->counters.requests));
	put_number(v, "streams", (int64_t)atomic_load(&s->streams));
	put_number(v, "connections", (int64_t)atomic_load(&s->connections));
	end(v, '}');
}

static void
put_workers(struct view *v)
{
	uint32_t used = atomic_load(&v->board->slots_used);

	begin(v, "workers", '[');
	for (uint32_t i = 0; i < used && i < BOARD_SLOTS; i++)
		put_worker(v, i);
	end(v, ']');
}

/* ---- credentials */

static void
count_in_flight(struct view *v)
{
	uint32_t used = atomic_load(&v->board->slots_used);

	for (uint32_t i = 0; i < used && i < BOARD_SLOTS; i++) {
		struct board_slot *slot = &v->board->slots[i];

		if (atomic_load(&slot->state) == BOARD_SLOT_FREE)
			continue;
		for (size_t k = 0; k < BOARD_ATTEMPTS; k++) {
			struct board_attempt *a = &slot->attempts[k];

			if (atomic_load(&a->state) != ATTEMPT_FREE &&
			    a->credential < BOARD_CREDENTIALS)
				v->in_flight[a->credential]++;
		}
	}
}

/* Whether it can serve, and if not, why and until when. */
struct availability {
	const char *state;
	const char *reason;
	int64_t until_ms;
	uint32_t cooling; /* models that are benched */
};

static bool
bar(struct availability *a, struct board_cell *cell, uint16_t incarnation,
    int64_t now_ms)
{
	struct board_word word = board_cell_read(cell, incarnation);
	struct board_note note;

	if (word.kind == BOARD_READY || word.until_ms <= now_ms)
		return false;
	if (a->until_ms == 0 || word.until_ms < a->until_ms) {
		note = board_note_unpack(atomic_load(&cell->note));
		a->until_ms = word.until_ms;
		a->state = word.kind == BOARD_COOLING ? "cooling" : "blocked";
		a->reason = note.reason != COOL_NONE
				? board_reason_name(note.reason)
				: NULL;
	}
	return true;
}

static bool
needs_login(const struct state_credential *c)
{
	return c->refresh_barred_ms == INT64_MAX;
}

static struct availability
availability_of(struct view *v, const struct state_credential *c)
{
	const struct state_model *models = state_credential_models(c);
	struct availability a = { "ready", NULL, 0, 0 };

	if ((c->flags & STATE_DISABLED) != 0)
		return (struct availability){ "disabled", NULL, 0, 0 };
	if (needs_login(c))
		return (struct availability){ "needs-login",
			"its refresh token was refused", 0, 0 };
	if ((c->flags & STATE_PROXY_INVALID) != 0)
		return (struct availability){ "blocked",
			"its proxy cannot be used", 0, 0 };
	if (bar(&a, &v->board->credentials[c->slot].cell, c->incarnation,
		v->now_ms))
		return a;
	for (uint32_t i = 0; i < c->nmodels; i++)
		a.cooling += bar(&a, &v->board->cells[models[i].cell],
		    c->incarnation, v->now_ms);
	if (c->nmodels == 0)
		return (struct availability){ "blocked", "it serves no model",
			0, 0 };
	if (a.cooling < c->nmodels)
		a.state = "ready";
	return a;
}

static void
put_last_error(struct view *v, struct board_credential *place)
{
	uint64_t raw = atomic_load(&place->last_status);
	int64_t ms = (int64_t)(raw & ((UINT64_C(1) << 48) - 1));

	put_number(v, "last_status", (int64_t)(raw >> 48));
	put_time(v, "last_error_at", raw != 0 ? ms : 0);
}

static void
put_next_refresh(struct view *v, const struct state_credential *c,
    struct board_credential *place)
{
	bool is_due = (c->flags & STATE_REFRESHABLE) != 0 &&
		      (c->flags & STATE_DISABLED) == 0;

	put_unix_time(
	    v, "next_refresh", is_due ? atomic_load(&place->refresh_ms) : 0);
}

static int
put_credential(void *ctx, const struct state_credential *c)
{
	struct view *v = ctx;
	struct board_credential *place = &v->board->credentials[c->slot];
	struct availability a = availability_of(v, c);

	begin(v, NULL, '{');
	put_text(v, "id", state_string(c, c->id));
	put_text(v, "provider", state_string(c, c->provider_name));
	put_text(v, "label", state_string(c, c->label));
	put_text(v, "source", state_string(c, c->source));
	put_text(v, "state", a.state);
	put_time(v, "until", a.until_ms);
	put_number(v, "until_s",
	    a.until_ms != 0 ? (a.until_ms - v->now_ms + 999) / 1000 : 0);
	put_text(v, "reason", a.reason);
	put_number(v, "priority", c->priority);
	put_number(v, "weight", c->weight);
	put_number(v, "models", c->nmodels);
	put_number(v, "models_cooling", a.cooling);
	put_number(v, "in_flight", v->in_flight[c->slot]);
	put_number(v, "succeeded", (int64_t)atomic_load(&place->succeeded));
	put_number(v, "failed", (int64_t)atomic_load(&place->failed));
	put_number(v, "sessions", (int64_t)atomic_load(&place->sessions));
	put_last_error(v, place);
	put_unix_time(v, "expires", c->expires_ms);
	put_next_refresh(v, c, place);
	end(v, '}');
	return v->b->failed;
}

static int
count_route(void *ctx, const struct state_route *r)
{
	struct view *v = ctx;

	v->routes += r->ntiers > 0;
	return 0;
}

static void
put_state(struct view *v)
{
	struct store *s = &v->w->store_state;
	MDB_txn *txn;
	int rc = store_read(s, &txn);

	begin(v, "credentials", '[');
	v->in_flight = xcalloc(BOARD_CREDENTIALS, sizeof(*v->in_flight));
	count_in_flight(v);
	if (rc == 0)
		rc = state_each_credential(s, txn, put_credential, v);
	if (rc == 0)
		rc = state_each_route(s, txn, count_route, v);
	if (rc < 0)
		log_warn_e(rc, "cannot read the credentials");
	store_read_end(s);
	free(v->in_flight);
	end(v, ']');
	put_number(v, "models", (int64_t)v->routes);
}

static void
put_sessions(struct view *v)
{
	struct store *s = &v->w->store_bindings;
	MDB_txn *txn;
	int64_t n = 0;

	if (store_read(s, &txn) == 0) {
		n = bindings_count(s, txn);
		store_read_end(s);
	}
	put_number(v, "sessions", n);
}

/* ---- what happened */

static void
put_sample(struct view *v, const struct chronicle_sample *sample)
{
	begin(v, NULL, '{');
	put_number(v, "age_ms", v->now_ms - sample->ms);
	put_number(v, "requests", (int64_t)sample->requests);
	put_number(v, "errors", (int64_t)sample->errors);
	put_number(v, "tokens_prompt", (int64_t)sample->tokens_prompt);
	put_number(v, "tokens_cached", (int64_t)sample->tokens_cached);
	begin(v, "first_byte", '[');
	for (size_t i = 0; i < TRAFFIC_BUCKETS; i++) {
		next(v);
		buf_printf(v->b, "%" PRIu64, sample->first_byte[i]);
	}
	end(v, ']');
	end(v, '}');
}

/* Oldest first, and what is the case now at the end. */
static void
put_samples(struct view *v)
{
	struct chronicle_sample sample;

	begin(v, "first_byte_bounds_ms", '[');
	for (unsigned int i = 0; traffic_bound_us(i) >= 0; i++) {
		next(v);
		buf_printf(v->b, "%g", (double)traffic_bound_us(i) / 1000);
	}
	end(v, ']');
	begin(v, "samples", '[');
	for (size_t back = CHRONICLE_SAMPLES; back-- > 0;) {
		if (chronicle_get_sample(&v->board->chronicle, back, &sample))
			put_sample(v, &sample);
	}
	chronicle_sample_of(&v->sum.traffic, v->now_ms, &sample);
	put_sample(v, &sample);
	end(v, ']');
}

static void
put_event(struct view *v, const struct chronicle_event *e)
{
	begin(v, NULL, '{');
	put_time(v, "time", e->ms);
	put_text(v, "what", e->kind == CHRONICLE_MOVED ? "moved" : "failed");
	put_text(v, "credential", e->credential);
	put_text(v, "from", e->from[0] != '\0' ? e->from : NULL);
	put_text(v, "model", e->model);
	put_number(v, "status", e->status);
	put_text(v, "why", e->why);
	put_text(v, "request_id", e->request_id);
	end(v, '}');
}

/* The latest first. */
static void
put_events(struct view *v)
{
	struct chronicle_event event;

	begin(v, "events", '[');
	for (size_t back = 0; back < CHRONICLE_EVENTS; back++) {
		if (chronicle_get_event(&v->board->chronicle, back, &event))
			put_event(v, &event);
	}
	end(v, ']');
}

static void
put_affinity(struct view *v)
{
	begin(v, "affinity", '{');
	put_number(v, "hit", (int64_t)atomic_load(&v->sum.affinity_hit));
	put_number(v, "new", (int64_t)atomic_load(&v->sum.affinity_new));
	put_number(v, "moved", (int64_t)atomic_load(&v->sum.affinity_moved));
	put_number(v, "none", (int64_t)atomic_load(&v->sum.affinity_none));
	end(v, '}');
}

static void
put_reloads(struct view *v)
{
	struct board_master *m = &v->board->master;

	begin(v, "reloads", '{');
	put_number(v, "ok", (int64_t)atomic_load(&m->reloads_ok));
	put_number(v, "failed", (int64_t)atomic_load(&m->reloads_failed));
	put_time(v, "last", atomic_load(&m->reloaded_ms));
	end(v, '}');
}

void
status_write(struct worker *w, struct buf *b)
{
	struct view v = { .w = w,
		.board = w->board,
		.b = b,
		.now_ms = clock_now_ms(),
		.unix_s = time(NULL),
		.first = true };
	struct board_master *m = &w->board->master;

	board_counters_sum(w->board, &v.sum);
	buf_putc(b, '{');
	put_number(&v, "schema", 1);
	put_text(&v, "version", FAIRLEAD_VERSION);
	put_number(&v, "pid", atomic_load(&m->pid));
	put_number(
	    &v, "generation", (int64_t)atomic_load(&w->board->generation));
	put_number(
	    &v, "uptime_s", (v.now_ms - atomic_load(&m->started_ms)) / 1000);
	put_workers(&v);
	put_state(&v);
	put_sessions(&v);
	put_number(&v, "requests_total", (int64_t)v.sum.requests);
	put_number(
	    &v, "worker_deaths", (int64_t)atomic_load(&m->worker_deaths));
	put_reloads(&v);
	put_affinity(&v);
	put_samples(&v);
	put_events(&v);
	buf_puts(b, "}\n");
}

/* SPDX-License-Identifier: MIT */
/* What is published, for people and programs; see report.h. */
#include "master/control/report.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/alloc.h"
#include "common/clock.h"
#include "common/str.h"
#include "master/registry/health.h"

enum { TIME_SIZE = 32 };

/* The answer to "can it serve, and if not, why and until when". */
struct availability {
	const char *state;
	const char *reason; /* NULL: none */
	int64_t until_ms;   /* of clock_now_ms(); 0: none */
};

/* Of the wall clock, which people read, from the clock of the board. */
static void
time_of(int64_t ms, char out[TIME_SIZE])
{
	int64_t ahead_ms = ms - clock_now_ms();

	str_from_time((int64_t)time(NULL) + ahead_ms / 1000, out, TIME_SIZE);
}

static void
add_time(cJSON *object, const char *key, bool known, int64_t unix_s)
{
	char text[TIME_SIZE];

	if (!known) {
		(void)cJSON_AddNullToObject(object, key);
		return;
	}
	str_from_time(unix_s, text, sizeof(text));
	(void)cJSON_AddStringToObject(object, key, text);
}

static void
add_text(cJSON *object, const char *key, const char *text)
{
	if (text == NULL)
		(void)cJSON_AddNullToObject(object, key);
	else
		(void)cJSON_AddStringToObject(object, key, text);
}

/* ---- availability */

struct survey {
	const struct entry *entry;
	int64_t now_ms;
	size_t cells;
	size_t barred;
	bool whole;                /* the credential as a whole is barred */
	cJSON *benched;            /* a row for each model that is */
	struct availability first; /* that comes back */
};

static struct availability
of_cell(struct board_word word, struct board_note note)
{
	bool cooling = word.kind == BOARD_COOLING;

	return (struct availability){
		.state = cooling ? "cooling" : "blocked",
		.reason = note.reason != COOL_NONE
			      ? board_reason_name(note.reason)
			      : NULL,
		.until_ms = word.until_ms,
	};
}

static void
add_when(cJSON *object, const struct availability *a)
{
	char until[TIME_SIZE];

	if (a->until_ms != 0)
		time_of(a->until_ms, until);
	add_text(object, "state", a->state);
	add_text(object, "until", a->until_ms != 0 ? until : NULL);
	add_text(object, "reason", a->reason);
}

static void
add_benched(cJSON *benched, const char *model, const struct availability *a)
{
	cJSON *row = cJSON_CreateObject();

	add_text(row, "model", model);
	add_when(row, a);
	(void)cJSON_AddItemToArray(benched, row);
}

static int
survey_cell(void *ctx, const char *model, struct board_cell *cell)
{
	struct survey *s = ctx;
	struct board_word word = board_cell_read(cell, s->entry->incarnation);
	bool barred = word.kind != BOARD_READY && word.until_ms > s->now_ms;
	struct availability a =
	    of_cell(word, board_note_unpack(atomic_load(&cell->note)));

	if (*model == '\0') {
		s->whole = barred;
		s->first = a;
		return barred;
	}
	s->cells++;
	s->barred += barred;
	if (barred)
		add_benched(s->benched, model, &a);
	if (barred && (s->barred == 1 || a.until_ms < s->first.until_ms))
		s->first = a;
	return 0;
}

/*
 * One that is barred for all of its models is barred until the first ends.
 * benched: gets a row for each of its models that is barred by itself.
 */
static struct availability
availability_of(struct board *board, const struct entry *e, cJSON *benched)
{
	struct survey s = {
		.entry = e, .now_ms = clock_now_ms(), .benched = benched
	};

	if (entry_is_disabled(e))
		return (struct availability){ "disabled",
			e->held ? "disabled by hand" : NULL, 0 };
	if (e->note.needs_login)
		return (struct availability){ "needs-login", e->note.error, 0 };
	if (e->fault != NULL)
		return (struct availability){ "blocked", e->fault, 0 };
	if (e->served->n == 0)
		return (
		    struct availability){ "blocked", "it serves no model", 0 };
	(void)health_each_cell(board, e, survey_cell, &s);
	if (s.whole || (s.cells > 0 && s.barred == s.cells))
		return s.first;
	return (struct availability){ "ready", NULL, 0 };
}

/* ---- credentials */

/* Attempts in flight by slot; the caller frees it. */
static uint32_t *
count_in_flight(struct board *board)
{
	uint32_t *counts = xcalloc(BOARD_CREDENTIALS, sizeof(*counts));
	uint32_t used = atomic_load(&board->slots_used);
	uint32_t credential;
	size_t i, k;

	for (i = 0; i < used && i < BOARD_SLOTS; i++) {
		struct board_slot *slot = &board->slots[i];

		if (atomic_load(&slot->state) == BOARD_SLOT_FREE)
			continue;
		for (k = 0; k < BOARD_ATTEMPTS; k++) {
			credential = slot->attempts[k].credential;
			if (atomic_load(&slot->attempts[k].state) ==
				ATTEMPT_RUNNING &&
			    credential < BOARD_CREDENTIALS)
				counts[credential]++;
		}
	}
	return counts;
}

static cJSON *
names_of(const struct entry *e)
{
	cJSON *names = cJSON_CreateArray();
	size_t i;

	for (i = 0; i < e->served->n; i++)
		(void)cJSON_AddItemToArray(
		    names, cJSON_CreateString(e->served->v[i].name));
	return names;
}

/* "429 at TIME", from {status:16, ms:48}. */
static void
add_last_error(
    cJSON *object, const struct entry *e, struct board_credential *place)
{
	uint64_t raw = atomic_load(&place->last_status);
	int64_t ms = (int64_t)(raw & ((UINT64_C(1) << 48) - 1));
	unsigned status = (unsigned)(raw >> 48);
	AUTO_FREE char *text = NULL;
	char when[TIME_SIZE];

	if (e->note.error[0] != '\0') {
		text = xasprintf("refresh: %s", e->note.error);
	} else if (raw != 0) {
		time_of(ms, when);
		text = status != 0 ? xasprintf("%u at %s", status, when)
				   : xasprintf("no answer at %s", when);
	}
	add_text(object, "last_error", text);
}

static void
add_counters(
    cJSON *object, const struct entry *e, struct board_credential *place)
{
	(void)cJSON_AddNumberToObject(
	    object, "succeeded", (double)atomic_load(&place->succeeded));
	(void)cJSON_AddNumberToObject(
	    object, "failed", (double)atomic_load(&place->failed));
	add_last_error(object, e, place);
}

/* One that got no place has never served. */
static void
add_work(cJSON *object, struct board *board, const struct entry *e,
    const uint32_t *in_flight, int64_t sessions)
{
	static struct board_credential nothing;
	bool placed = e->slot != BOARD_NONE;

	(void)cJSON_AddNumberToObject(
	    object, "in_flight", placed ? in_flight[e->slot] : 0);
	if (sessions >= 0)
		(void)cJSON_AddNumberToObject(
		    object, "sessions", (double)sessions);
	else
		(void)cJSON_AddNullToObject(object, "sessions");
	add_counters(
	    object, e, placed ? &board->credentials[e->slot] : &nothing);
}

static void
add_availability(cJSON *object, struct board *board, const struct entry *e)
{
	cJSON *benched = cJSON_CreateArray();
	struct availability a = availability_of(board, e, benched);

	add_when(object, &a);
	(void)cJSON_AddNumberToObject(
	    object, "models_out", cJSON_GetArraySize(benched));
	(void)cJSON_AddItemToObject(object, "benched", benched);
}

static cJSON *
credential_object(struct board *board, const struct entry *e,
    const uint32_t *in_flight, registry_sessions_fn *sessions, void *ctx)
{
	const struct credential *c = e->cred;
	cJSON *o = cJSON_CreateObject();

	add_text(o, "id", e->id);
	add_text(o, "provider", c->provider_name);
	add_text(o, "label", c->label);
	add_text(
	    o, "source", c->source == CREDENTIAL_FROM_FILE ? "file" : "config");
	add_availability(o, board, e);
	(void)cJSON_AddNumberToObject(o, "priority", c->priority);
	(void)cJSON_AddNumberToObject(o, "weight", c->weight);
	add_text(o, "prefix", c->prefix);
	(void)cJSON_AddItemToObject(o, "models", names_of(e));
	add_work(o, board, e, in_flight,
	    sessions != NULL ? sessions(ctx, e->id) : -1);
	add_time(o, "expires", c->expires_ms != 0, c->expires_ms / 1000);
	add_time(o, "next_refresh", e->next_refresh_ms != 0,
	    e->next_refresh_ms / 1000);
	return o;
}

cJSON *
report_credentials(
    const struct publisher *p, registry_sessions_fn *sessions, void *ctx)
{
	const struct name_map *entries = publisher_entries(p);
	struct board *board = publisher_board(p);
	AUTO_FREE uint32_t *in_flight = count_in_flight(board);
	cJSON *list = cJSON_CreateArray();
	const struct entry *e;
	size_t i;

	for (i = 0; i < entries->n; i++) {
		e = entries->v[i];
		if (e->cred != NULL)
			(void)cJSON_AddItemToArray(
			    list, credential_object(
				      board, e, in_flight, sessions, ctx));
	}
	return list;
}

cJSON *
report_credential(const struct publisher *p, const char *id,
    registry_sessions_fn *sessions, void *ctx)
{
	const struct entry *e = name_map_find(publisher_entries(p), id);
	struct board *board = publisher_board(p);
	AUTO_FREE uint32_t *in_flight = NULL;

	if (e == NULL || e->cred == NULL)
		return NULL;
	in_flight = count_in_flight(board);
	return credential_object(board, e, in_flight, sessions, ctx);
}

/* ---- models */

static bool
holds(const cJSON *list, const char *text)
{
	const cJSON *item;

	cJSON_ArrayForEach (item, list) {
		if (strcmp(item->valuestring, text) == 0)
			return true;
	}
	return false;
}

/* Whether one of the upstream models of that name is ready. */
static bool
model_is_ready(struct board *board, const struct entry *e, const char *name,
    int64_t now_ms)
{
	size_t i;

	for (i = 0; i < e->served->n; i++) {
		const struct served_model *m = &e->served->v[i];

		if (m->cell != BOARD_NONE && strcmp(m->name, name) == 0 &&
		    !board_cell_barred(
			&board->cells[m->cell], e->incarnation, now_ms))
			return true;
	}
	return false;
}

static bool
member_is_ready(struct board *board, const struct route *r,
    const struct route_member *m, int64_t now_ms)
{
	const struct entry *e = m->entry;

	if (board_cell_barred(
		&board->credentials[e->slot].cell, e->incarnation, now_ms))
		return false;
	return m->npool > 1 ? model_is_ready(board, e, r->name, now_ms)
			    : !board_cell_barred(&board->cells[m->cell],
				  e->incarnation, now_ms);
}

static cJSON *
model_object(struct board *board, const struct route *r)
{
	int64_t now_ms = clock_now_ms();
	cJSON *o = cJSON_CreateObject();
	cJSON *providers;
	size_t ready = 0;
	size_t i;

	add_text(o, "id", r->name);
	providers = cJSON_AddArrayToObject(o, "providers");
	for (i = 0; i < r->nmembers; i++) {
		const char *name = r->members[i].entry->cred->provider_name;

		if (!holds(providers, name))
			(void)cJSON_AddItemToArray(
			    providers, cJSON_CreateString(name));
		ready += member_is_ready(board, r, &r->members[i], now_ms);
	}
	(void)cJSON_AddNumberToObject(o, "candidates", (double)r->nmembers);
	(void)cJSON_AddNumberToObject(o, "ready", (double)ready);
	return o;
}

cJSON *
report_models(const struct publisher *p)
{
	const struct name_map *routes = publisher_routes(p);
	cJSON *list = cJSON_CreateArray();
	size_t i;

	for (i = 0; i < routes->n; i++)
		(void)cJSON_AddItemToArray(
		    list, model_object(publisher_board(p), routes->v[i]));
	return list;
}

/* ---- what a reload would change */

struct name {
	char *name;
};

static void
collect_names(struct name_map *names, const struct name_map *entries)
{
	const struct entry *e;
	struct name *name;
	size_t i, k;

	for (i = 0; i < entries->n; i++) {
		e = entries->v[i];
		for (k = 0; k < e->served->n; k++) {
			if (name_map_find(names, e->served->v[k].name) != NULL)
				continue;
			name = xcalloc(1, sizeof(*name));
			name->name = xstrdup(e->served->v[k].name);
			(void)name_map_put(names, name);
		}
	}
}

static void
names_fini(struct name_map *names)
{
	struct name *name;
	size_t i;

	for (i = 0; i < names->n; i++) {
		name = names->v[i];
		free(name->name);
		free(name);
	}
	name_map_fini(names);
}

/* The names of `in` that are not in `out`. */
static void
add_missing(cJSON *object, const char *key, const struct name_map *in,
    const struct name_map *out)
{
	cJSON *list = cJSON_AddArrayToObject(object, key);
	size_t i;

	for (i = 0; i < in->n; i++) {
		if (name_map_find(out, name_map_name(in->v[i])) == NULL)
			(void)cJSON_AddItemToArray(
			    list, cJSON_CreateString(name_map_name(in->v[i])));
	}
}

static void
add_changed(
    cJSON *object, const struct name_map *was, const struct name_map *now)
{
	cJSON *list = cJSON_AddArrayToObject(object, "changed");
	const struct entry *a, *b;
	size_t i;

	for (i = 0; i < was->n; i++) {
		a = was->v[i];
		b = name_map_find(now, a->id);
		if (b != NULL && !entry_same_settings(a, b))
			(void)cJSON_AddItemToArray(
			    list, cJSON_CreateString(a->id));
	}
}

cJSON *
report_diff(const struct publisher *p, const struct name_map *now)
{
	const struct name_map *was = publisher_entries(p);
	struct name_map models_was = { 0 };
	struct name_map models_now = { 0 };
	cJSON *diff = cJSON_CreateObject();
	cJSON *credentials = cJSON_AddObjectToObject(diff, "credentials");
	cJSON *models = cJSON_AddObjectToObject(diff, "models");

	add_missing(credentials, "added", now, was);
	add_missing(credentials, "removed", was, now);
	add_changed(credentials, was, now);
	collect_names(&models_was, was);
	collect_names(&models_now, now);
	add_missing(models, "added", &models_now, &models_was);
	add_missing(models, "removed", &models_was, &models_now);
	names_fini(&models_was);
	names_fini(&models_now);
	return diff;
}

/* ---- lines for the log */

struct totals {
	size_t all, disabled, faulty, idle;
	size_t by_provider[PROVIDER_MAX];
	const struct entry *an_idle; /* that serves no model */
};

static struct totals
count(const struct publisher *p)
{
	const struct name_map *entries = publisher_entries(p);
	struct totals t = { 0 };
	const struct entry *e;
	size_t i;

	for (i = 0; i < entries->n; i++) {
		e = entries->v[i];
		if (e->cred == NULL)
			continue;
		t.all++;
		t.by_provider[e->cred->provider->id]++;
		if (entry_is_disabled(e)) {
			t.disabled++;
		} else if (e->fault != NULL) {
			t.faulty++;
		} else if (e->served->n == 0) {
			t.idle++;
			t.an_idle = e;
		}
	}
	return t;
}

static const char *
plural(size_t n)
{
	return n == 1 ? "" : "s";
}

void
report_summary(const struct publisher *p, struct buf *out)
{
	size_t models = publisher_routes(p)->n;
	struct totals t = count(p);
	const char *before = " (";
	size_t i;

	buf_printf(out, "%zu credential%s", t.all, plural(t.all));
	for (i = 0; i < PROVIDER_MAX; i++) {
		if (t.by_provider[i] == 0)
			continue;
		buf_printf(out, "%s%s %zu", before,
		    provider_get((enum provider_id)i)->name, t.by_provider[i]);
		before = ", ";
	}
	if (t.disabled > 0)
		buf_printf(out, "; %zu disabled", t.disabled);
	if (t.faulty > 0)
		buf_printf(out, "; %zu unusable", t.faulty);
	buf_printf(out, "%s, %zu model%s", t.all > 0 ? ")" : "", models,
	    plural(models));
}

void
report_warnings(const struct publisher *p, struct buf *out)
{
	struct totals t = count(p);

	if (t.all == 0)
		buf_puts(out, "there is no credential: every request will be "
			      "answered 503\n");
	else if (t.disabled + t.faulty + t.idle == t.all)
		buf_printf(out,
		    "none of the %zu credential%s can serve: every request "
		    "will be answered 503\n",
		    t.all, plural(t.all));
	if (t.idle > 0)
		buf_printf(out,
		    "%zu credential%s serve%s no model, %s for one: nothing "
		    "is listed for it\n",
		    t.idle, plural(t.idle), t.idle == 1 ? "s" : "",
		    t.an_idle->id);
}

/* SPDX-License-Identifier: MIT */
#include "master/ctl/stopped.h"

#include <string.h>
#include <time.h>

#include "build.h"
#include "common/bindings.h"
#include "common/board.h"
#include "common/clock.h"
#include "common/state.h"
#include "common/store.h"
#include "common/str.h"

enum { TIME_SIZE = 32, LISTED_MAX = 10000 };

/* A reader of both databases. */
struct reader {
	struct store state, bindings;
	MDB_txn *state_txn, *bindings_txn;
	struct state_meta meta;
	int64_t now_ms;
	cJSON *rows;          /* of the table that is walked */
	cJSON *by_credential; /* sessions that are bound to each */
	cJSON *sessions;
	int64_t total;
};

static void
add_number(cJSON *object, const char *name, double value)
{
	(void)cJSON_AddNumberToObject(object, name, value);
}

static void
add_text(cJSON *object, const char *name, const char *text)
{
	if (text != NULL && *text != '\0')
		(void)cJSON_AddStringToObject(object, name, text);
	else
		(void)cJSON_AddNullToObject(object, name);
}

static void
add_nulls(cJSON *object, const char *const *names, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		(void)cJSON_AddNullToObject(object, names[i]);
}

/* ---- credentials */

struct availability {
	const char *state, *reason;
	int64_t until_ms;
};

/* Whether a bar of that model, or of all of them, still lasts. */
static bool
is_barred(struct reader *r, const char *id, const char *model,
    struct availability *out)
{
	struct state_health h;

	if (state_get_health(&r->state, r->state_txn, id, model, &h) != 0 ||
	    h.kind == BOARD_READY || h.until_ms <= r->now_ms)
		return false;
	*out = (struct availability){
		.state = h.kind == BOARD_COOLING ? "cooling" : "blocked",
		.reason =
		    h.reason != COOL_NONE ? board_reason_name(h.reason) : NULL,
		.until_ms = h.until_ms,
	};
	return true;
}

/* One that is barred for all of its models is barred until the first ends. */
static struct availability
availability_of(struct reader *r, const struct state_credential *c)
{
	const struct state_model *models = state_credential_models(c);
	const char *id = state_string(c, c->id);
	struct availability ready = { "ready", NULL, 0 }, first, a;
	uint32_t i, barred = 0;

	if ((c->flags & STATE_DISABLED) != 0)
		return (struct availability){ "disabled", NULL, 0 };
	if (c->nmodels == 0)
		return (
		    struct availability){ "blocked", "it serves no model", 0 };
	if (is_barred(r, id, "", &first))
		return first;
	for (i = 0; i < c->nmodels; i++) {
		if (!is_barred(r, id, state_string(c, models[i].upstream), &a))
			return ready;
		if (barred++ == 0 || a.until_ms < first.until_ms)
			first = a;
	}
	return first;
}

static void
add_availability(struct reader *r, cJSON *row, const struct state_credential *c)
{
	struct availability a = availability_of(r, c);
	char until[TIME_SIZE] = "";

	if (a.until_ms != 0)
		str_from_time(
		    (int64_t)time(NULL) + (a.until_ms - r->now_ms) / 1000,
		    until, sizeof(until));
	add_text(row, "state", a.state);
	add_text(row, "until", until);
	add_text(row, "reason", a.reason);
}

static int
add_credential(void *ctx, const struct state_credential *c)
{
	static const char *const unknown[] = { "in_flight", "succeeded",
		"failed", "last_error", "expires", "next_refresh" };
	const struct state_model *models = state_credential_models(c);
	const char *id = state_string(c, c->id);
	struct reader *r = ctx;
	const cJSON *bound =
	    cJSON_GetObjectItemCaseSensitive(r->by_credential, id);
	cJSON *row = cJSON_CreateObject(), *names;
	uint32_t i;

	add_text(row, "id", id);
	add_text(row, "provider", state_string(c, c->provider_name));
	add_text(row, "label", state_string(c, c->label));
	add_text(row, "source", state_string(c, c->source));
	add_availability(r, row, c);
	add_number(row, "priority", c->priority);
	add_number(row, "weight", c->weight);
	add_text(row, "prefix", state_string(c, c->prefix));
	names = cJSON_AddArrayToObject(row, "models");
	for (i = 0; i < c->nmodels; i++)
		(void)cJSON_AddItemToArray(
		    names, cJSON_CreateString(state_string(c, models[i].name)));
	add_number(row, "sessions", bound != NULL ? bound->valuedouble : 0);
	add_nulls(row, unknown, ARRAY_LEN(unknown));
	(void)cJSON_AddItemToArray(r->rows, row);
	return 0;
}

static void
add_credentials(struct reader *r, cJSON *answer)
{
	r->rows = cJSON_AddArrayToObject(answer, "credentials");
	(void)state_each_credential(&r->state, r->state_txn, add_credential, r);
}

/* ---- models */

struct candidates {
	cJSON *providers;
	unsigned n, ready;
};

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

static bool
is_ready_for(struct reader *r, const struct state_credential *c,
    const struct state_route *route)
{
	const char *name = state_string(route, route->name);
	const struct state_model *m =
	    state_credential_model(c, state_model_hash(name, strlen(name)));
	const char *id = state_string(c, c->id);
	struct availability a;

	return m != NULL && !is_barred(r, id, "", &a) &&
	       !is_barred(r, id, state_string(c, m->upstream), &a);
}

static void
add_member(struct reader *r, const struct state_route *route,
    const struct state_member *m, struct candidates *to)
{
	const struct state_credential *c;
	const char *provider;

	if (state_get_credential(
		&r->state, r->state_txn, state_string(route, m->id), &c) != 0)
		return;
	provider = state_string(c, c->provider_name);
	if (!holds(to->providers, provider))
		(void)cJSON_AddItemToArray(
		    to->providers, cJSON_CreateString(provider));
	to->n++;
	to->ready += is_ready_for(r, c, route);
}

static int
add_model(void *ctx, const struct state_route *route)
{
	const struct state_tier *tiers = state_route_tiers(route);
	cJSON *row = cJSON_CreateObject();
	struct reader *r = ctx;
	struct candidates c = { 0 };
	uint32_t i, k;

	add_text(row, "id", state_string(route, route->name));
	c.providers = cJSON_AddArrayToObject(row, "providers");
	for (i = 0; i < route->ntiers; i++) {
		for (k = 0; k < tiers[i].nmembers; k++)
			add_member(r, route,
			    &state_tier_members(route, &tiers[i])[k], &c);
	}
	add_number(row, "candidates", c.n);
	add_number(row, "ready", c.ready);
	(void)cJSON_AddItemToArray(r->rows, row);
	return 0;
}

static void
add_models(struct reader *r, cJSON *answer)
{
	r->rows = cJSON_AddArrayToObject(answer, "models");
	(void)state_each_route(&r->state, r->state_txn, add_model, r);
}

/* ---- sessions */

static cJSON *
describe_session(const struct reader *r, const struct binding_key *key,
    const struct binding *b)
{
	char text[2 * BINDING_SESSION_LEN + 1];
	cJSON *row = cJSON_CreateObject();

	str_hex(key->bytes, BINDING_SESSION_LEN, text);
	add_text(row, "key", text);
	add_text(row, "session", b->session);
	add_text(row, "source", b->source);
	add_text(row, "model", b->model);
	add_text(row, "credential", b->credential);
	add_number(row, "age_s", (double)(r->now_ms - b->created_ms) / 1000);
	add_number(
	    row, "expires_s", (double)(b->expires_ms - r->now_ms) / 1000);
	return row;
}

static int
take_session(void *ctx, const struct binding_key *key, const struct binding *b)
{
	const struct state_credential *c;
	struct reader *r = ctx;
	cJSON *bound;

	if (state_get_credential(&r->state, r->state_txn, b->credential, &c) !=
		0 ||
	    c->epoch != b->epoch)
		return 0;
	bound =
	    cJSON_GetObjectItemCaseSensitive(r->by_credential, b->credential);
	if (bound != NULL)
		(void)cJSON_SetNumberValue(bound, bound->valuedouble + 1);
	else
		add_number(r->by_credential, b->credential, 1);
	if (r->total++ < LISTED_MAX)
		(void)cJSON_AddItemToArray(
		    r->sessions, describe_session(r, key, b));
	return 0;
}

/* Hands over what was counted before the rest was asked for. */
static void
add_sessions(struct reader *r, cJSON *answer)
{
	add_number(answer, "total", (double)r->total);
	(void)cJSON_AddItemToObject(answer, "by_credential", r->by_credential);
	(void)cJSON_AddItemToObject(answer, "sessions", r->sessions);
	r->by_credential = r->sessions = NULL;
	(void)cJSON_AddNullToObject(answer, "next");
}

static void
add_status(struct reader *r, cJSON *answer)
{
	static const char *const unknown[] = { "pid", "uptime_s",
		"requests_total", "reloads" };
	cJSON *models = cJSON_CreateObject();

	(void)cJSON_AddStringToObject(answer, "version", FAIRLEAD_VERSION);
	(void)cJSON_AddStringToObject(answer, "state", "stopped");
	add_number(answer, "generation", (double)r->meta.generation);
	(void)cJSON_AddArrayToObject(answer, "workers");
	add_credentials(r, answer);
	add_models(r, models);
	add_number(answer, "models", cJSON_GetArraySize(r->rows));
	cJSON_Delete(models);
	add_number(answer, "sessions", (double)r->total);
	add_nulls(answer, unknown, ARRAY_LEN(unknown));
}

/* ---- all of it */

static const struct {
	const char *verb;
	void (*add)(struct reader *r, cJSON *answer);
} verbs[] = {
	{ "credentials", add_credentials },
	{ "models", add_models },
	{ "sessions", add_sessions },
	{ "status", add_status },
};

static const size_t no_verb = ARRAY_LEN(verbs);

static size_t
find(const char *verb)
{
	size_t i;

	for (i = 0; i < ARRAY_LEN(verbs); i++) {
		if (strcmp(verbs[i].verb, verb) == 0)
			break;
	}
	return i;
}

bool
stopped_knows(const char *verb)
{
	return find(verb) != no_verb;
}

static bool
open_one(struct store *store, enum store_kind kind, const char *dir,
    const char *boot_id, struct buf *why)
{
	int rc = store_open_reader(store, kind, dir, boot_id);

	if (rc == STORE_STALE)
		buf_printf(why, "%s/%s is of another boot or damaged", dir,
		    store_name(kind));
	else if (rc == STORE_OTHER)
		buf_printf(why, "%s/%s was written by another version", dir,
		    store_name(kind));
	else if (rc < 0)
		buf_printf(why, "cannot read %s/%s: %s", dir, store_name(kind),
		    strerror(-rc));
	return rc == 0;
}

/* The time of the boot that wrote it, or one that goes on from there. */
static void
set_clock(struct reader *r, const char *boot_id)
{
	const int64_t day_ms = INT64_C(86400000);

	if (strcmp(r->meta.boot_id, boot_id) == 0)
		clock_set_base(r->meta.clock_base_ms);
	else
		clock_set_base(clock_choose_base(r->meta.last_ms, day_ms));
	r->now_ms = clock_now_ms();
}

static bool
begin(struct reader *r, const char *boot_id)
{
	if (store_read(&r->state, &r->state_txn) < 0)
		return false;
	if (state_get_meta(&r->state, r->state_txn, &r->meta) < 0 ||
	    store_read(&r->bindings, &r->bindings_txn) < 0)
		return false;
	set_clock(r, boot_id);
	r->by_credential = cJSON_CreateObject();
	r->sessions = cJSON_CreateArray();
	(void)bindings_each(
	    &r->bindings, r->bindings_txn, r->now_ms, take_session, r);
	return true;
}

cJSON *
stopped_answer(const char *state_dir, const char *verb, struct buf *why)
{
	struct reader r = { 0 };
	char boot_id[37];
	cJSON *answer = NULL;

	if (clock_boot_id(boot_id) < 0)
		return NULL;
	if (open_one(&r.state, STORE_STATE, state_dir, boot_id, why) &&
	    open_one(&r.bindings, STORE_BINDINGS, state_dir, boot_id, why)) {
		if (begin(&r, boot_id)) {
			answer = cJSON_CreateObject();
			verbs[find(verb)].add(&r, answer);
			add_number(answer, "schema", 1);
		} else {
			buf_printf(why, "%s holds nothing yet", state_dir);
		}
	}
	cJSON_Delete(r.by_credential);
	cJSON_Delete(r.sessions);
	store_close(&r.bindings, false);
	store_close(&r.state, false);
	return answer;
}

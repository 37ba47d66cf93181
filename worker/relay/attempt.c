/* SPDX-License-Identifier: MIT */
#include "worker/relay/attempt.h"

#include <stdlib.h>
#include <string.h>

#include "common/alloc.h"
#include "common/clock.h"
#include "common/ipc.h"
#include "common/log.h"
#include "common/secret.h"
#include "worker/control.h"
#include "worker/relay/error_rules.h"
#include "worker/relay/outgoing.h"

enum { MODEL_JSON_MAX = 16 * 1024 };

/*
 * A deadline that an upstream gave is kept on the board, which outlives all
 * processes. One that is sooner than a machine starts again is not recorded
 * beside, so that many short ones do not keep the master busy.
 */
enum { WORTH_KEEPING_MS = 2000 };

static struct board_cell *
cell_of(const struct attempt *a)
{
	return a->cell < BOARD_CELLS ? &a->worker->board->cells[a->cell] : NULL;
}

static struct board_credential *
place_of(const struct attempt *a)
{
	return a->slot < BOARD_CREDENTIALS
		   ? &a->worker->board->credentials[a->slot]
		   : NULL;
}

/* ---- starting */

static void
take_credential(struct attempt *a, const struct state_credential *c,
    const struct state_model *m)
{
	(void)str_copy(
	    a->credential, sizeof(a->credential), state_string(c, c->id));
	(void)str_copy(a->provider, sizeof(a->provider),
	    state_string(c, c->provider_name));
	a->model = xstrdup(state_string(c, m->upstream));
	a->secret = xstrdup(state_string(c, c->secret));
	a->slot = c->slot;
	a->cell = m->cell;
	a->incarnation = c->incarnation;
	a->oauth = (c->flags & STATE_OAUTH) != 0;
	a->has_rules = c->nerrors > 0;
	a->provider_id = (enum provider_id)c->provider;
	a->renewable = (c->flags & STATE_REFRESHABLE) != 0;
	if (a->renewable)
		renewal_token_of(&a->token, c);
	a->cooling = (struct cooling){
		.disabled = (c->flags & STATE_DISABLE_COOLING) != 0,
		.own_path = (c->flags & STATE_OWN_PATH) != 0,
		.transient_ms = c->transient_cooldown_ms,
		.max_ms = a->worker->config->cooldown_max_ms,
	};
	if (cell_of(a) != NULL)
		a->word = atomic_load(&cell_of(a)->word);
	if (place_of(a) != NULL)
		a->whole = atomic_load(&place_of(a)->cell.word);
}

/* Codex OAuth has only streams, and stores nothing. */
static bool
is_codex_oauth(const struct state_credential *c, enum operation operation)
{
	return c->provider == PROVIDER_CODEX && (c->flags & STATE_OAUTH) != 0 &&
	       operation == OPERATION_RESPONSES;
}

/* 0 or -ENOMEM; with a->body NULL the exchange's body goes out as it is. */
static int
edit_body(struct attempt *a, const struct attempt_ask *ask)
{
	const struct exchange *x = ask->x;
	struct buf name = BUF_INIT(MODEL_JSON_MAX);
	struct rewrite edits;
	int rc;

	rewrite_init(&edits, ask->places);
	if (x->route.model_len == 0 &&
	    !span_equal(ask->asked, span_of(a->model))) {
		buf_json_string(&name, a->model, strlen(a->model));
		rewrite_model(&edits, name.data, name.len);
	}
	if (is_codex_oauth(ask->credential, x->route.row->operation))
		rewrite_for_codex(&edits);
	if (ask->unseal)
		(void)rewrite_unseal(&edits, x->body, x->body_len);
	a->body_len = x->body_len;
	rc =
	    rewrite_apply(&edits, x->body, x->body_len, &a->body, &a->body_len);
	rewrite_fini(&edits);
	buf_fini(&name);
	return rc;
}

static int
start_call(struct attempt *a, const struct attempt_ask *ask,
    const struct upstream_events *events, void *ctx)
{
	const struct exchange *x = ask->x;
	const struct state_credential *c = ask->credential;
	struct outgoing o;
	int rc = outgoing_make(&o, x, c, a->model);

	if (rc == 0) {
		struct upstream_request req = {
			.method = "POST",
			.url = o.url.data,
			.proxy = state_string(c, c->proxy),
			.headers = o.headers,
			.nheaders = o.n,
			.body = a->body != NULL ? a->body : x->body,
			.body_len = a->body_len,
			.connect_timeout_ms = a->worker->config->limits
						  .upstream_connect_timeout_ms,
		};

		rc = upstream_start(
		    a->worker->upstream, &req, events, ctx, &a->call);
	}
	outgoing_fini(&o);
	return rc;
}

/* Where the reaper finds it, should this process die. */
static void
note_on_board(struct attempt *a, const struct attempt_ask *ask)
{
	const struct exchange *x = ask->x;
	struct board_attempt *b;

	a->index = board_attempt_take(a->worker->slot);
	b = a->index >= 0 ? &a->worker->slot->attempts[a->index]
			  : xcalloc(1, sizeof(*b));
	b->credential = a->slot;
	b->number = a->number > UINT8_MAX ? UINT8_MAX : (uint8_t)a->number;
	b->dialect = (uint8_t)x->route.dialect;
	b->stream = ask->stream;
	b->has_client = x->has_scope;
	memcpy(b->client, x->scope.bytes, sizeof(b->client));
	(void)str_copy(b->request_id, sizeof(b->request_id), x->request_id);
	(void)str_copy(b->session, sizeof(b->session), ask->session);
	(void)str_copy(b->provider, sizeof(b->provider), a->provider);
	(void)str_copy(b->model, sizeof(b->model), ask->canonical);
	(void)str_copy(b->upstream, sizeof(b->upstream), a->model);
	(void)str_copy(b->id, sizeof(b->id), a->credential);
	a->noted = b;
	board_attempt_begin(a->worker->slot, a->index);
}

static void
take_off_board(struct attempt *a)
{
	board_attempt_end(a->worker->slot, a->index);
	if (a->index < 0)
		free(a->noted);
	a->noted = NULL;
	a->index = -1;
}

static void
free_parts(struct attempt *a)
{
	attempt_release_body(a);
	free(a->model);
	a->model = NULL;
	secret_free(a->secret);
	a->secret = NULL;
}

int
attempt_start(struct attempt *a, const struct attempt_ask *ask,
    const struct upstream_events *events, void *ctx)
{
	int rc;

	*a = (struct attempt){
		.worker = ask->x->worker,
		.number = ask->number,
		.start_us = clock_mono_us(),
		.index = -1,
	};
	a->wait_us = a->start_us;
	take_credential(a, ask->credential, ask->model);
	a->collects = !ask->stream && is_codex_oauth(ask->credential,
					  ask->x->route.row->operation);
	rc = edit_body(a, ask);
	if (rc == 0) {
		/* Before, because a record too many is better than none. */
		note_on_board(a, ask);
		rc = start_call(a, ask, events, ctx);
	}
	if (rc != 0) {
		take_off_board(a);
		free_parts(a);
		return rc;
	}
	(void)atomic_fetch_add(&a->worker->slot->counters.attempts, 1);
	return 0;
}

/* ---- ending */

void
attempt_stop(struct attempt *a)
{
	if (a->call != NULL && !a->ended)
		upstream_cancel(a->call);
	a->call = NULL;
	take_off_board(a);
}

void
attempt_end(struct attempt *a)
{
	attempt_stop(a);
	free_parts(a);
}

bool
attempt_sent(const struct attempt *a)
{
	return a->status != 0 && upstream_sent_bytes(a->call) >= a->body_len;
}

void
attempt_release_body(struct attempt *a)
{
	free(a->body);
	a->body = NULL;
}

/* ---- booking */

/* Those of the credential's own section; false also if it is gone. */
static bool
find_own_rule(struct attempt *a, struct failure *f)
{
	struct store *store = &a->worker->store_state;
	const struct state_credential *c;
	bool found = false;
	MDB_txn *txn;

	if (store_read(store, &txn) != 0)
		return false;
	if (state_get_credential(store, txn, a->credential, &c) == 0)
		found = error_rules_find_own(c, f->status, f->text, &f->rule);
	store_read_end(store);
	return found;
}

void
attempt_find_rule(struct attempt *a, struct failure *f)
{
	const struct config *config = a->worker->config;
	const struct error_rules *general =
	    a->oauth ? &config->oauth_errors[a->provider_id] : &config->errors;

	f->ruled = (a->has_rules && find_own_rule(a, f)) ||
		   error_rules_find(general, f->status, f->text, &f->rule);
}

static void
count_failure(struct attempt *a, int status)
{
	struct board_credential *place = place_of(a);

	if (place == NULL)
		return;
	(void)atomic_fetch_add(&place->failed, 1);
	atomic_store(&place->last_status,
	    (uint64_t)(uint16_t)status << 48 |
		((uint64_t)clock_now_ms() & ((UINT64_C(1) << 48) - 1)));
}

static struct board_cell *
cell_for(const struct attempt *a, const struct outcome *o)
{
	struct board_credential *place = place_of(a);

	if (!o->account)
		return cell_of(a);
	return place != NULL ? &place->cell : NULL;
}

/*
 * Raises the word for an outcome. The deadline, or 0 when the word says no
 * more than before or belongs to a successor.
 */
static int64_t
raise_word(struct attempt *a, const struct outcome *o, struct board_note *note)
{
	struct board_cell *cell = cell_for(a, o);
	int64_t now_ms = clock_now_ms();
	uint64_t before;
	int64_t until_ms;

	if (cell == NULL || (!o->ladder && o->cooldown_ms <= 0))
		return 0;
	before = atomic_load(&cell->word);
	if (o->ladder) {
		until_ms = board_cell_climb(cell, a->incarnation, now_ms,
		    o->cooldown_ms, a->cooling.max_ms, note);
		return atomic_load(&cell->word) != before ? until_ms : 0;
	}
	until_ms = now_ms + o->cooldown_ms;
	if (!board_cell_raise(
		cell, (struct board_word){ .incarnation = a->incarnation,
			  .kind = o->kind,
			  .until_ms = until_ms }))
		return 0;
	note->level = board_note_unpack(atomic_load(&cell->note)).level;
	board_cell_set_note(cell, *note);
	return until_ms;
}

static void
tell_master(struct attempt *a, bool success, bool account,
    const struct board_note *note, int64_t until_ms)
{
	struct ipc_result result = {
		.cell = a->cell,
		.credential = a->slot,
		.incarnation = a->incarnation,
		.status = note->status,
		.success = success,
		.reason = note->reason,
		.level = note->level,
		.wide = account,
		.until_ms = until_ms,
	};

	control_send_result(a->worker, &result);
}

struct outcome
attempt_judge(const struct attempt *a, const struct failure *f)
{
	return outcome_of(f, &a->cooling);
}

void
attempt_charge_as(
    struct attempt *a, int status, const struct outcome *o, int64_t *until_ms)
{
	struct board_note note = {
		.reason = (uint8_t)o->reason,
		.status = (uint16_t)status,
	};

	count_failure(a, status);
	*until_ms = raise_word(a, o, &note);
	if (*until_ms == 0)
		return;
	traffic_add(&a->worker->slot->counters.cooldowns, 1);
	traffic_add(
	    &a->worker->slot->counters.traffic.cooldowns[note.reason], 1);
	if (o->ladder || o->cooldown_ms >= WORTH_KEEPING_MS)
		tell_master(a, false, o->account, &note, *until_ms);
	log_notice("credential \"%s\" is out for %s for %.3f s: %s",
	    a->credential, o->account ? "every model" : a->model,
	    (double)(*until_ms - clock_now_ms()) / 1000,
	    board_reason_name(note.reason));
}

struct outcome
attempt_charge(struct attempt *a, const struct failure *f, int64_t *until_ms)
{
	struct outcome o = attempt_judge(a, f);

	attempt_charge_as(a, f->status, &o, until_ms);
	return o;
}

/* A deadline that is over needs nobody to say so, a level does. */
static bool
has_more_to_lose(struct board_cell *cell, int64_t now_ms)
{
	struct board_word word = board_word_unpack(atomic_load(&cell->word));

	return board_note_unpack(atomic_load(&cell->note)).level > 0 ||
	       (word.kind != BOARD_READY && word.until_ms > now_ms);
}

/*
 * The later of the deadlines that stood when it began, which were over then: a
 * later one is a failure of somebody else, of which this says nothing. Never
 * 0, which would be none in particular.
 */
static int64_t
seen_until_ms(const struct attempt *a)
{
	int64_t model_ms = board_word_unpack(a->word).until_ms;
	int64_t whole_ms = board_word_unpack(a->whole).until_ms;
	int64_t until_ms = model_ms > whole_ms ? model_ms : whole_ms;

	return until_ms > 0 ? until_ms : 1;
}

void
attempt_credit(struct attempt *a)
{
	struct board_credential *place = place_of(a);
	struct board_cell *cell = cell_of(a);
	int64_t now_ms = clock_now_ms();
	struct board_note note;

	if (place != NULL)
		(void)atomic_fetch_add(&place->succeeded, 1);
	if (cell == NULL || place == NULL ||
	    (!has_more_to_lose(cell, now_ms) &&
		!has_more_to_lose(&place->cell, now_ms)))
		return;
	/* A word raised since we started is news that we do not refute. */
	if (atomic_load(&cell->word) != a->word ||
	    atomic_load(&place->cell.word) != a->whole)
		return;
	note = (struct board_note){ .status = (uint16_t)a->status };
	tell_master(a, true, false, &note, seen_until_ms(a));
}

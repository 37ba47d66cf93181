/* SPDX-License-Identifier: MIT */
/*
 * What is kept of each request for who asks why it went where it went: a
 * record in the ring, a line in the log, and what is counted on the board.
 */
#include "common/chronicle.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/pins.h"
#include "common/why.h"
#include "worker/dialect/dialect.h"
#include "worker/relay/relay.h"
#include "worker/relay/relay_core.h"

static const enum board_moved moved_of[PICK_WHY_MAX] = {
	[PICK_WHY_EXCLUDED] = BOARD_MOVED_FAILED,
	[PICK_WHY_COOLING] = BOARD_MOVED_COOLING,
	[PICK_WHY_BLOCKED] = BOARD_MOVED_BLOCKED,
	[PICK_WHY_DISABLED] = BOARD_MOVED_DISABLED,
	[PICK_WHY_GONE] = BOARD_MOVED_GONE,
};

void
relay_why_open(struct worker *w)
{
	int rc = why_open(w->config->runtime_dir, w->slot_index, &w->why);

	if (rc < 0) {
		log_warn_e(rc,
		    "requests cannot be asked about: no ring in "
		    "\"%s\"",
		    w->config->runtime_dir);
		return;
	}
	for (int i = 0; i < DIALECT_MAX; i++)
		why_word(w->why, WHY_DIALECT, (unsigned)i,
		    dialect_name((enum dialect)i));
	for (int i = 0; i <= PICK_DECISION_MOVED; i++)
		why_word(w->why, WHY_DECISION, (unsigned)i,
		    pick_decision_name((enum pick_decision)i));
	for (int i = 0; i <= PIN_TURN_STATE; i++)
		why_word(w->why, WHY_PIN, (unsigned)i,
		    pin_kind_name((enum pin_kind)i));
	for (int i = 0; i < ATTEMPT_END_MAX; i++)
		why_word(w->why, WHY_OUTCOME, (unsigned)i,
		    outcome_end_name((enum attempt_end)i));
	for (int i = 0; i < PICK_WHY_MAX; i++)
		why_word(w->why, WHY_PASSED_OVER, (unsigned)i,
		    pick_why_name((enum pick_why)i));
}

void
relay_why_begin(struct relay *r)
{
	const struct why_request request = {
		.request_id = r->x->request_id,
		.model = r->model,
		.source = r->source,
		.session = r->session_short,
		.dialect = r->x->route.dialect,
	};

	r->why_number = why_begin(r->worker->why, &request);
	r->why_index = -1;
}

/* ---- a pick */

static void
count(struct relay *r, const struct pick *p)
{
	struct board_counters *counters = &r->worker->slot->counters;
	_Atomic uint64_t *const by_decision[] = {
		[PICK_DECISION_NONE] = &counters->affinity_none,
		[PICK_DECISION_HIT] = &counters->affinity_hit,
		[PICK_DECISION_NEW] = &counters->affinity_new,
		[PICK_DECISION_ADOPTED] = &counters->affinity_hit,
		[PICK_DECISION_MOVED] = &counters->affinity_moved,
	};

	(void)atomic_fetch_add(by_decision[p->decision], 1);
	if (p->decision == PICK_DECISION_MOVED)
		(void)atomic_fetch_add(
		    &counters->affinity_moved_by[moved_of[p->left_why]], 1);
}

/* One that was excluded was tried by this request, and failed it. */
static const char *
move_reason(const struct pick *p)
{
	return p->left_why == PICK_WHY_EXCLUDED ? "failed"
						: pick_why_name(p->left_why);
}

static void
log_pick(const struct relay *r, const struct pick *p, const char *credential)
{
	const char *session = r->source != NULL ? r->session_short : "";

	log_set_request(r->x->request_id);
	if (p->decision == PICK_DECISION_MOVED)
		log_info("session \"%s\", model \"%s\": moved from credential "
			 "\"%s\" to \"%s\": %s",
		    session, r->model, p->left, credential, move_reason(p));
	else
		log_debug(
		    "session \"%s\" (%s), model \"%s\": credential \"%s\" "
		    "of tier %d, decision %s%s%s",
		    session, r->source != NULL ? r->source : "none", r->model,
		    credential, p->credential->priority,
		    pick_decision_name(p->decision),
		    p->pinned ? ", pinned by " : "",
		    p->pinned ? pin_kind_name(r->pin_kind) : "");
	log_set_request(NULL);
}

static void
chronicle_move(struct relay *r, const struct pick *p, const char *credential)
{
	struct chronicle_event e = { .ms = clock_now_ms(),
		.kind = CHRONICLE_MOVED };

	(void)str_copy(e.credential, sizeof(e.credential), credential);
	(void)str_copy(e.from, sizeof(e.from), p->left);
	(void)str_copy(e.model, sizeof(e.model), r->model);
	(void)str_copy(e.why, sizeof(e.why), move_reason(p));
	(void)str_copy(e.request_id, sizeof(e.request_id), r->x->request_id);
	chronicle_add_event(&r->worker->board->chronicle, &e);
}

void
relay_why_failed(struct relay *r, const struct failure *f)
{
	struct chronicle_event e = { .ms = clock_now_ms(),
		.kind = CHRONICLE_FAILED,
		.status = f->status };

	(void)str_copy(
	    e.credential, sizeof(e.credential), r->attempt.credential);
	(void)str_copy(e.model, sizeof(e.model), r->model);
	(void)str_copy(e.why, sizeof(e.why), outcome_end_name(f->end));
	(void)str_copy(e.request_id, sizeof(e.request_id), r->x->request_id);
	chronicle_add_event(&r->worker->board->chronicle, &e);
}

void
relay_why_picked(struct relay *r, const struct pick *p, bool found)
{
	struct why *w = r->worker->why;

	for (size_t i = 0; i < p->npassed; i++)
		why_passed_over(w, r->why_number, p->passed[i].credential,
		    p->passed[i].why);
	if (!found)
		return;
	/* A failover is told and counted only where it moves the session. */
	if (r->attempts > 0 && p->decision != PICK_DECISION_MOVED)
		return;
	count(r, p);
	if (p->decision == PICK_DECISION_MOVED)
		chronicle_move(
		    r, p, state_string(p->credential, p->credential->id));
	if (p->decision == PICK_DECISION_MOVED || log_enabled(LOG_LEVEL_DEBUG))
		log_pick(r, p, state_string(p->credential, p->credential->id));
	r->decision = p->decision;
	why_decided(w, r->why_number, p->decision,
	    p->pinned ? r->pin_kind : PIN_NONE, p->credential->priority);
}

/* ---- an attempt */

void
relay_why_attempt(struct relay *r)
{
	r->why_index = why_attempt_begin(
	    r->worker->why, r->why_number, r->attempt.credential);
}

void
relay_why_ended(struct relay *r, enum attempt_end end, int status, int64_t us)
{
	why_attempt_end(
	    r->worker->why, r->why_number, r->why_index, status, end, us);
	r->why_index = -1;
}

void
relay_why_stale(struct relay *r)
{
	why_attempt_drop(r->worker->why, r->why_number, r->why_index);
	r->why_index = -1;
}

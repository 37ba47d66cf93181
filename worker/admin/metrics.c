/* SPDX-License-Identifier: MIT */
#include "worker/admin/metrics.h"

#include <inttypes.h>
#include <string.h>

#include "build.h"
#include "common/attr.h"
#include "common/bindings.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/provider.h"
#include "common/state.h"
#include "common/traffic.h"
#include "worker/dialect/dialect.h"
#include "worker/relay/outcome.h"

/* What the figures are taken from: summed once, so that they agree. */
struct view {
	struct worker *w;
	struct board *board;
	struct board_counters sum;
	struct buf *b;
	const char *name; /* of the metric being written */
};

/* ---- the format */

/* A label's value: backslash, quote and line feed are escaped. */
static void
put_label(struct buf *b, const char *name, const char *value)
{
	buf_printf(b, "%s=\"", name);
	for (; *value != '\0'; value++) {
		if (*value == '\n') {
			buf_puts(b, "\\n");
			continue;
		}
		if (*value == '\\' || *value == '"')
			buf_putc(b, '\\');
		buf_putc(b, *value);
	}
	buf_putc(b, '"');
}

static void
put_value(struct view *v, uint64_t value)
{
	buf_printf(v->b, "%s %" PRIu64 "\n", v->name, value);
}

static void
put_labelled(
    struct view *v, const char *label, const char *value, uint64_t count)
{
	buf_printf(v->b, "%s{", v->name);
	put_label(v->b, label, value);
	buf_printf(v->b, "} %" PRIu64 "\n", count);
}

static void
put_histogram(struct view *v, struct traffic_histogram *h)
{
	uint64_t total = 0;
	int64_t bound_us;

	for (unsigned int i = 0; i < TRAFFIC_BUCKETS; i++) {
		total += atomic_load(&h->buckets[i]);
		bound_us = traffic_bound_us(i);
		if (bound_us >= 0)
			buf_printf(v->b, "%s_bucket{le=\"%g\"} %" PRIu64 "\n",
			    v->name, (double)bound_us / 1e6, total);
		else
			buf_printf(v->b, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n",
			    v->name, total);
	}
	buf_printf(v->b, "%s_sum %.6f\n%s_count %" PRIu64 "\n", v->name,
	    (double)atomic_load(&h->sum_us) / 1e6, v->name, total);
}

/* ---- what is counted */

static const char *
provider_label(unsigned int id)
{
	return id < PROVIDER_MAX ? provider_get((enum provider_id)id)->name
				 : "none";
}

static void
put_request_count(struct view *v, unsigned int dialect, unsigned int provider,
    unsigned int status, uint64_t count)
{
	char code[16] = "other";

	if (count == 0)
		return;
	if (traffic_status(status) != 0)
		(void)snprintf(
		    code, sizeof(code), "%d", traffic_status(status));
	buf_printf(v->b, "%s{", v->name);
	put_label(v->b, "dialect", dialect_name((enum dialect)dialect));
	buf_putc(v->b, ',');
	put_label(v->b, "provider", provider_label(provider));
	buf_putc(v->b, ',');
	put_label(v->b, "code", code);
	buf_printf(v->b, "} %" PRIu64 "\n", count);
}

static void
requests(struct view *v)
{
	for (unsigned int d = 0; d < DIALECT_MAX; d++)
		for (unsigned int p = 0; p <= PROVIDER_MAX; p++)
			for (unsigned int s = 0; s < TRAFFIC_STATUSES; s++)
				put_request_count(v, d, p, s,
				    atomic_load(
					&v->sum.traffic.requests[d][p][s]));
}

static void
attempts(struct view *v)
{
	uint64_t count;

	for (unsigned int p = 0; p < PROVIDER_MAX; p++) {
		for (unsigned int e = 0; e < ATTEMPT_END_MAX; e++) {
			count = atomic_load(&v->sum.traffic.attempts[p][e]);
			if (count == 0)
				continue;
			buf_printf(v->b, "%s{", v->name);
			put_label(v->b, "provider", provider_label(p));
			buf_putc(v->b, ',');
			put_label(v->b, "outcome",
			    outcome_end_name((enum attempt_end)e));
			buf_printf(v->b, "} %" PRIu64 "\n", count);
		}
	}
}

/* The total is not among them: it is made of the others. */
static void
tokens(struct view *v)
{
	uint64_t count;

	for (unsigned int p = 0; p < PROVIDER_MAX; p++) {
		for (unsigned int k = 0; k < TOKENS_TOTAL; k++) {
			count = atomic_load(&v->sum.traffic.tokens[p][k]);
			if (count == 0)
				continue;
			buf_printf(v->b, "%s{", v->name);
			put_label(v->b, "provider", provider_label(p));
			buf_putc(v->b, ',');
			put_label(v->b, "kind", token_kind_names[k]);
			buf_printf(v->b, "} %" PRIu64 "\n", count);
		}
	}
}

static void
usage_lost(struct view *v)
{
	put_value(v, atomic_load(&v->sum.usage_lost));
}

static void
duration(struct view *v)
{
	put_histogram(v, &v->sum.traffic.duration);
}

static void
first_byte(struct view *v)
{
	put_histogram(v, &v->sum.traffic.first_byte);
}

static void
added(struct view *v)
{
	put_histogram(v, &v->sum.traffic.added);
}

static void
affinity(struct view *v)
{
	put_labelled(v, "result", "hit", atomic_load(&v->sum.affinity_hit));
	put_labelled(v, "result", "new", atomic_load(&v->sum.affinity_new));
	put_labelled(v, "result", "moved", atomic_load(&v->sum.affinity_moved));
	put_labelled(v, "result", "none", atomic_load(&v->sum.affinity_none));
}

static void
moves(struct view *v)
{
	for (unsigned int i = 0; i < BOARD_MOVED_MAX; i++)
		put_labelled(v, "reason", board_moved_name(i),
		    atomic_load(&v->sum.affinity_moved_by[i]));
}

static void
cooldowns(struct view *v)
{
	for (unsigned int i = COOL_NONE + 1; i < COOL_MAX; i++)
		put_labelled(v, "reason", board_reason_name((uint8_t)i),
		    atomic_load(&v->sum.traffic.cooldowns[i]));
}

/* ---- what is the case now */

static uint64_t
sum_of_slots(struct view *v, size_t offset)
{
	uint32_t used = atomic_load(&v->board->slots_used);
	uint64_t total = 0;

	for (uint32_t i = 0; i < used && i < BOARD_SLOTS; i++) {
		char *slot = (char *)&v->board->slots[i];

		total += atomic_load((_Atomic uint64_t *)(slot + offset));
	}
	return total;
}

static void
streams(struct view *v)
{
	put_value(v, sum_of_slots(v, offsetof(struct board_slot, streams)));
}

static void
connections(struct view *v)
{
	put_value(v, sum_of_slots(v, offsetof(struct board_slot, connections)));
}

static void
bodies(struct view *v)
{
	put_value(v, atomic_load(&v->board->bodies));
}

static void
workers(struct view *v)
{
	uint32_t used = atomic_load(&v->board->slots_used);
	uint64_t serving = 0, draining = 0;
	uint32_t state;

	for (uint32_t i = 0; i < used && i < BOARD_SLOTS; i++) {
		state = atomic_load(&v->board->slots[i].state);
		serving += state == BOARD_SLOT_SERVING;
		draining += state == BOARD_SLOT_DRAINING;
	}
	put_labelled(v, "state", "serving", serving);
	put_labelled(v, "state", "draining", draining);
}

static void
worker_deaths(struct view *v)
{
	put_value(v, atomic_load(&v->board->master.worker_deaths));
}

static void
reloads(struct view *v)
{
	put_labelled(
	    v, "outcome", "ok", atomic_load(&v->board->master.reloads_ok));
	put_labelled(v, "outcome", "failed",
	    atomic_load(&v->board->master.reloads_failed));
}

static void
refreshes(struct view *v)
{
	static const char *const ends[BOARD_REFRESH_MAX] = {
		[BOARD_REFRESH_OK] = "ok",
		[BOARD_REFRESH_FAILED] = "failed",
		[BOARD_REFRESH_REFUSED] = "refused",
	};

	for (unsigned int i = 0; i < BOARD_REFRESH_MAX; i++)
		put_labelled(v, "outcome", ends[i],
		    atomic_load(&v->board->master.refreshes[i]));
}

static void
bind_wait(struct view *v)
{
	put_histogram(v, &v->board->bind_wait);
}

/* ---- what the stores say */

static void
sessions(struct view *v)
{
	struct store *s = &v->w->store_bindings;
	MDB_txn *txn;

	if (store_read(s, &txn) < 0)
		return;
	put_value(v, (uint64_t)bindings_count(s, txn));
	store_read_end(s);
}

static bool
serves_a_model(struct view *v, const struct state_credential *c, int64_t now_ms)
{
	const struct state_model *models = state_credential_models(c);

	for (uint32_t i = 0; i < c->nmodels; i++) {
		if (!board_cell_barred(&v->board->cells[models[i].cell],
			c->incarnation, now_ms))
			return true;
	}
	return false;
}

static int
credential(void *ctx, const struct state_credential *c)
{
	struct view *v = ctx;
	int64_t now_ms = clock_now_ms();
	bool ready = (c->flags & (STATE_DISABLED | STATE_PROXY_INVALID)) == 0 &&
		     !board_cell_barred(&v->board->credentials[c->slot].cell,
			 c->incarnation, now_ms) &&
		     serves_a_model(v, c, now_ms);

	buf_printf(v->b, "%s{", v->name);
	put_label(v->b, "credential", state_string(c, c->id));
	buf_putc(v->b, ',');
	put_label(v->b, "provider", state_string(c, c->provider_name));
	buf_printf(v->b, "} %d\n", ready);
	return v->b->failed;
}

static void
credentials(struct view *v)
{
	struct store *s = &v->w->store_state;
	MDB_txn *txn;
	int rc = store_read(s, &txn);

	if (rc == 0) {
		rc = state_each_credential(s, txn, credential, v);
		store_read_end(s);
	}
	if (rc < 0)
		log_warn_e(rc, "cannot read the credentials");
}

static void
store_used(struct view *v)
{
	put_labelled(
	    v, "environment", "state", store_used_bytes(&v->w->store_state));
	put_labelled(v, "environment", "bindings",
	    store_used_bytes(&v->w->store_bindings));
}

static void
build_info(struct view *v)
{
	put_labelled(v, "version", FAIRLEAD_VERSION, 1);
}

/* ---- the table */

struct metric {
	const char *name;
	const char *type;
	const char *help;
	void (*write)(struct view *v);
};

static const struct metric metrics[] = {
	{ "fairlead_requests_total", "counter",
	    "Requests by what the client was told.", requests },
	{ "fairlead_attempts_total", "counter",
	    "Upstream attempts by how they ended.", attempts },
	{ "fairlead_tokens_total", "counter",
	    "Tokens as providers counted them.", tokens },
	{ "fairlead_usage_records_lost_total", "counter",
	    "Usage records that could not be written.", usage_lost },
	{ "fairlead_request_duration_seconds", "histogram",
	    "From the first byte of a request to the end of its answer.",
	    duration },
	{ "fairlead_time_to_first_byte_seconds", "histogram",
	    "From the first byte of a request to the first of its answer.",
	    first_byte },
	{ "fairlead_added_latency_seconds", "histogram",
	    "From a complete request to the attempt that answered it.", added },
	{ "fairlead_streams", "gauge", "Streaming answers under way.",
	    streams },
	{ "fairlead_connections", "gauge", "Connections of clients.",
	    connections },
	{ "fairlead_request_bodies_bytes", "gauge",
	    "Memory reserved for request bodies.", bodies },
	{ "fairlead_session_affinity_total", "counter",
	    "Requests by how their credential was found.", affinity },
	{ "fairlead_session_moves_total", "counter",
	    "Sessions that were bound to another credential, by the reason.",
	    moves },
	{ "fairlead_sessions", "gauge", "Bindings stored.", sessions },
	{ "fairlead_credential_ready", "gauge",
	    "Whether a credential can serve a model.", credentials },
	{ "fairlead_cooldowns_total", "counter",
	    "Credentials benched, by the reason.", cooldowns },
	{ "fairlead_workers", "gauge", "Worker processes.", workers },
	{ "fairlead_worker_deaths_total", "counter",
	    "Workers that died without being told to.", worker_deaths },
	{ "fairlead_reloads_total", "counter", "Reloads by their outcome.",
	    reloads },
	{ "fairlead_refreshes_total", "counter",
	    "Refreshes of tokens by their outcome.", refreshes },
	{ "fairlead_store_used_bytes", "gauge", "Bytes of a database in use.",
	    store_used },
	{ "fairlead_store_write_wait_seconds", "histogram",
	    "Waiting for another writer of the bindings.", bind_wait },
	{ "fairlead_build_info", "gauge", "The version that runs.",
	    build_info },
};

void
metrics_write(struct worker *w, struct buf *b)
{
	struct view v = { .w = w, .board = w->board, .b = b };

	board_counters_sum(w->board, &v.sum);
	for (size_t i = 0; i < ARRAY_LEN(metrics); i++) {
		const struct metric *m = &metrics[i];

		buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n", m->name, m->help,
		    m->name, m->type);
		v.name = m->name;
		m->write(&v);
	}
}

/* SPDX-License-Identifier: MIT */
#include "master/control/control_verbs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "build.h"
#include "common/alloc.h"
#include "common/bindings.h"
#include "common/clock.h"
#include "common/log.h"
#include "master/control/sessions.h"
#include "master/control/why_report.h"
#include "master/master.h"
#include "master/refresh/refresh.h"
#include "master/registry/registry.h"
#include "master/slot.h"
#include "master/upgrade/upgrade.h"
#include "master/usage/totals.h"
#include "master/usage/usage.h"
#include "master/workers.h"

enum { WHY_MAX = 64 * 1024 };

static void
add_number(cJSON *object, const char *name, int64_t value)
{
	(void)cJSON_AddNumberToObject(object, name, (double)value);
}

/* A worker as status shows it. */
static void
add_worker(void *ctx, const struct slot *slot, uint64_t generation)
{
	const struct {
		cJSON *rows;
		struct board *board;
	} *to = ctx;
	const struct board_slot *b = &to->board->slots[slot_board_index(slot)];
	cJSON *row;

	if (slot_state(slot) == SLOT_GONE)
		return;
	row = cJSON_CreateObject();
	add_number(row, "slot", slot_board_index(slot));
	if (slot_pid(slot) != 0)
		add_number(row, "pid", slot_pid(slot));
	else
		(void)cJSON_AddNullToObject(row, "pid");
	add_number(row, "generation", (int64_t)generation);
	(void)cJSON_AddStringToObject(
	    row, "state", slot_state_names[slot_state(slot)]);
	add_number(row, "silent_ms", slot_silent_ms(slot));
	add_number(row, "requests", (int64_t)b->counters.requests);
	add_number(row, "streams", (int64_t)b->streams);
	add_number(row, "connections", (int64_t)b->connections);
	(void)cJSON_AddItemToArray(to->rows, row);
}

static void
add_workers(cJSON *answer, struct master *m)
{
	struct {
		cJSON *rows;
		struct board *board;
	} to = { cJSON_AddArrayToObject(answer, "workers"), m->board };

	workers_each(m->workers, add_worker, &to);
}

static void
add_reloads(cJSON *answer, const struct master *m)
{
	cJSON *reloads = cJSON_AddObjectToObject(answer, "reloads");

	add_number(reloads, "ok", (int64_t)reload_count(m->reload, true));
	add_number(reloads, "failed", (int64_t)reload_count(m->reload, false));
}

/* How requests of sessions found their credential, and why some moved. */
static void
add_affinity(cJSON *answer, const struct board_counters *sum)
{
	cJSON *affinity = cJSON_AddObjectToObject(answer, "affinity");
	cJSON *by;

	add_number(affinity, "hit", (int64_t)sum->affinity_hit);
	add_number(affinity, "new", (int64_t)sum->affinity_new);
	add_number(affinity, "moved", (int64_t)sum->affinity_moved);
	add_number(affinity, "none", (int64_t)sum->affinity_none);
	by = cJSON_AddObjectToObject(affinity, "moved_by");
	for (int i = 0; i < BOARD_MOVED_MAX; i++)
		add_number(by, board_moved_name((enum board_moved)i),
		    (int64_t)sum->affinity_moved_by[i]);
}

/* What a sample of the counters holds, for who takes differences. */
static void
add_traffic(cJSON *answer, struct board_counters *sum)
{
	cJSON *traffic = cJSON_AddObjectToObject(answer, "traffic");
	struct chronicle_sample s;
	cJSON *bounds, *counts;
	uint64_t tokens = 0;

	chronicle_sample_of(&sum->traffic, clock_now_ms(), &s);
	for (int p = 0; p < PROVIDER_MAX; p++)
		tokens += sum->traffic.tokens[p][TOKENS_OUTPUT];
	add_number(traffic, "requests", (int64_t)s.requests);
	add_number(traffic, "errors", (int64_t)s.errors);
	add_number(traffic, "tokens", (int64_t)(s.tokens_prompt + tokens));
	add_number(traffic, "tokens_prompt", (int64_t)s.tokens_prompt);
	add_number(traffic, "tokens_cached", (int64_t)s.tokens_cached);
	bounds = cJSON_AddArrayToObject(traffic, "first_byte_bounds_ms");
	counts = cJSON_AddArrayToObject(traffic, "first_byte");
	for (unsigned int i = 0; i < TRAFFIC_BUCKETS; i++) {
		if (traffic_bound_us(i) >= 0)
			(void)cJSON_AddItemToArray(
			    bounds, cJSON_CreateNumber(
					(double)traffic_bound_us(i) / 1000));
		(void)cJSON_AddItemToArray(
		    counts, cJSON_CreateNumber((double)s.first_byte[i]));
	}
}

static cJSON *
credentials_of(struct master *m, const struct sessions *sessions)
{
	if (!sessions_are_counted(sessions))
		return registry_credentials_json(m->registry, NULL, NULL);
	/* The callback takes it as const again. */
	return registry_credentials_json(
	    m->registry, sessions_of_credential, (void *)(uintptr_t)sessions);
}

static void
run_status(struct control_client *client, struct master *m,
    const struct control_request *request UNUSED)
{
	struct board_counters sum;
	struct sessions sessions;
	cJSON *answer = cJSON_CreateObject();

	board_counters_sum(m->board, &sum);
	sessions_count(&sessions, m, SESSIONS_COUNT_QUICK);
	(void)cJSON_AddStringToObject(answer, "version", FAIRLEAD_VERSION);
	add_number(answer, "pid", getpid());
	(void)cJSON_AddStringToObject(
	    answer, "state", master_state_name(m->state));
	add_number(answer, "generation", (int64_t)m->generation);
	add_number(answer, "uptime_s", (clock_now_ms() - m->started_ms) / 1000);
	add_workers(answer, m);
	(void)cJSON_AddItemToObject(
	    answer, "credentials", credentials_of(m, &sessions));
	add_number(
	    answer, "models", (int64_t)registry_count_models(m->registry));
	add_number(answer, "sessions", sessions_total(&sessions));
	add_number(answer, "requests_total", (int64_t)sum.requests);
	add_traffic(answer, &sum);
	add_affinity(answer, &sum);
	add_number(
	    answer, "worker_deaths", (int64_t)workers_deaths(m->workers));
	add_reloads(answer, m);
	sessions_fini(&sessions);
	control_answer(client, answer);
}

static void
run_credentials(struct control_client *client, struct master *m,
    const struct control_request *request UNUSED)
{
	struct sessions sessions;
	cJSON *answer = cJSON_CreateObject();

	sessions_count(&sessions, m, SESSIONS_COUNT_QUICK);
	(void)cJSON_AddItemToObject(
	    answer, "credentials", credentials_of(m, &sessions));
	sessions_fini(&sessions);
	control_answer(client, answer);
}

static void
show_credential(struct control_client *client, struct master *m, const char *id)
{
	struct sessions sessions;
	cJSON *answer, *row;

	sessions_count(&sessions, m, SESSIONS_COUNT_QUICK);
	row = registry_credential_json(m->registry, id,
	    sessions_are_counted(&sessions) ? sessions_of_credential : NULL,
	    &sessions);
	sessions_fini(&sessions);
	if (row == NULL) {
		control_refuse(client, "there is no credential \"%s\"", id);
		return;
	}
	answer = cJSON_CreateObject();
	(void)cJSON_AddItemToObject(answer, "credential", row);
	control_answer(client, answer);
}

static const struct {
	const char *name;
	int (*run)(struct registry *registry, const char *id);
} credential_actions[] = {
	{ "enable", registry_enable },
	{ "disable", registry_disable },
	{ "reset", registry_reset },
	{ "unbind", registry_unbind },
};

/* The outcome of something that was done to a credential by hand. */
static void
report_action(
    struct control_client *client, int rc, const char *id, const char *action)
{
	if (rc == 0) {
		log_notice("credential %s: %s by hand", id, action);
		control_accept(client);
	} else if (rc == REGISTRY_UNKNOWN) {
		control_refuse(client, "there is no credential \"%s\"", id);
	} else if (rc == -EPERM) {
		control_refuse(client,
		    "credential \"%s\" is disabled by its section of the "
		    "configuration",
		    id);
	} else {
		control_refuse(client, "cannot %s credential \"%s\": %s",
		    action, id, strerror(-rc));
	}
}

static void
refresh_credential(struct control_client *client, const char *id)
{
	switch (control_wait_for_refresh(client, id)) {
	case REFRESH_UNKNOWN:
		control_refuse(client, "there is no credential \"%s\"", id);
		break;
	case REFRESH_USELESS:
		control_refuse(client,
		    "credential \"%s\" is disabled, or has nothing to be "
		    "refreshed with",
		    id);
		break;
	default:
		break;
	}
}

static void
act_on_credential(struct control_client *client, struct master *m,
    const char *id, const char *action)
{
	size_t i;

	if (strcmp(action, "refresh") == 0) {
		refresh_credential(client, id);
		return;
	}
	if (strcmp(action, "reset") == 0)
		refresh_reset(m->refresher, id);
	for (i = 0; i < ARRAY_LEN(credential_actions); i++) {
		if (strcmp(credential_actions[i].name, action) == 0) {
			report_action(client,
			    credential_actions[i].run(m->registry, id), id,
			    action);
			return;
		}
	}
	control_refuse(client,
	    "\"%s\" is not available in this version of fairlead", action);
}

static void
run_credential(struct control_client *client, struct master *m,
    const struct control_request *request)
{
	if (request->nargs == 1)
		show_credential(client, m, request->args[0]);
	else
		act_on_credential(
		    client, m, request->args[0], request->args[1]);
}

static void
run_models(struct control_client *client, struct master *m,
    const struct control_request *request UNUSED)
{
	cJSON *answer = cJSON_CreateObject();

	(void)cJSON_AddItemToObject(
	    answer, "models", registry_models_json(m->registry));
	control_answer(client, answer);
}

static void
run_sessions(struct control_client *client, struct master *m,
    const struct control_request *request)
{
	struct sessions_query query;
	cJSON *answer;

	if (!sessions_query_read(&query, request->args, request->nargs)) {
		control_refuse(client, "\"sessions\" takes other arguments");
		return;
	}
	answer = cJSON_CreateObject();
	sessions_list(m, &query, answer);
	control_answer(client, answer);
}

static void
run_session(struct control_client *client, struct master *m,
    const struct control_request *request)
{
	cJSON *answer = cJSON_CreateObject();
	cJSON *rows = cJSON_AddArrayToObject(answer, "sessions");

	if (sessions_find(m, request->args[0], rows) == 0) {
		cJSON_Delete(answer);
		control_refuse(
		    client, "there is no session \"%s\"", request->args[0]);
		return;
	}
	control_answer(client, answer);
}

static void
unbind_session(struct control_client *client, struct master *m, const char *id)
{
	int rc = sessions_unbind(m, id);

	if (rc == SESSIONS_UNKNOWN)
		control_refuse(client, "there is no session \"%s\"", id);
	else if (rc == SESSIONS_AMBIGUOUS)
		control_refuse(client,
		    "\"%s\" is more than one session; give more of its key",
		    id);
	else if (rc == SESSIONS_BUSY)
		control_refuse(client, "the bindings are busy, try again");
	else if (rc < 0)
		control_refuse(client, "cannot unbind session \"%s\": %s", id,
		    strerror(-rc));
	else
		control_accept(client);
}

static void
run_unbind(struct control_client *client, struct master *m,
    const struct control_request *request)
{
	if (strcmp(request->args[0], "session") == 0)
		unbind_session(client, m, request->args[1]);
	else if (strcmp(request->args[0], "credential") == 0)
		act_on_credential(client, m, request->args[1], "unbind");
	else
		control_refuse(
		    client, "unbind what: \"session\" or \"credential\"?");
}

static void
dry_run(struct control_client *client, struct master *m)
{
	struct buf why = BUF_INIT(WHY_MAX);
	cJSON *answer = reload_dry_run(m->reload, &why);

	if (answer == NULL)
		control_refuse(client, "%s", buf_string(&why));
	else
		control_answer(client, answer);
	buf_fini(&why);
}

static void
run_reload(struct control_client *client, struct master *m,
    const struct control_request *request)
{
	if (request->nargs == 0)
		control_wait_for_reload(client);
	else if (strcmp(request->args[0], "--dry-run") == 0)
		dry_run(client, m);
	else
		control_refuse(
		    client, "\"reload\" takes \"--dry-run\" or nothing");
}

static void
run_reopen(struct control_client *client, struct master *m,
    const struct control_request *request UNUSED)
{
	struct buf why = BUF_INIT(WHY_MAX);

	if (master_reopen_logs(m, &why) < 0)
		control_refuse(client, "%s", buf_string(&why));
	else
		control_accept(client);
	buf_fini(&why);
}

static void
run_drain(struct control_client *client, struct master *m,
    const struct control_request *request UNUSED)
{
	master_drain(m);
	control_accept(client);
}

static void
run_stop(struct control_client *client, struct master *m,
    const struct control_request *request UNUSED)
{
	control_wait_for_end(client);
	master_stop(m);
}

/* What a report of usage is asked for by. */
static const struct {
	const char *name;
	unsigned by;
} usage_parts[] = {
	{ "credential", TOTALS_CREDENTIAL },
	{ "model", TOTALS_MODEL },
	{ "day", TOTALS_DAY },
	{ "client", TOTALS_CLIENT },
};

static unsigned
usage_part(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(usage_parts); i++)
		if (strcmp(usage_parts[i].name, name) == 0)
			return usage_parts[i].by;
	return 0;
}

struct usage_question {
	struct control_client *client; /* NULL: it has left */
};

static void
answer_usage(void *ctx, cJSON *rows, int rc)
{
	struct usage_question *q = ctx;
	cJSON *answer;

	if (q->client == NULL) {
		cJSON_Delete(rows);
	} else if (rc < 0) {
		control_refuse(
		    q->client, "cannot read the totals: %s", strerror(-rc));
	} else {
		answer = cJSON_CreateObject();
		(void)cJSON_AddItemToObject(answer, "rows", rows);
		control_answer(q->client, answer);
	}
	free(q);
}

/* [--by PART] [--since DAY], in any order, each again at will. */
static void
run_usage(struct control_client *client, struct master *m,
    const struct control_request *request)
{
	struct usage_question *q;
	const char *since = "";
	unsigned by = 0;
	bool ok = request->nargs % 2 == 0;

	for (size_t i = 0; ok && i < request->nargs; i += 2) {
		const char *option = request->args[i];
		const char *value = request->args[i + 1];

		if (strcmp(option, "--by") == 0)
			by |= usage_part(value), ok = usage_part(value) != 0;
		else if (strcmp(option, "--since") == 0)
			ok = str_is_day(since = value);
		else
			ok = false;
	}
	if (!ok) {
		control_refuse(client,
		    "\"usage\" takes \"--by credential|model|day|client\" "
		    "and \"--since YYYY-MM-DD\"");
		return;
	}
	q = xcalloc(1, sizeof(*q));
	control_defer(client, &q->client);
	usage_report(
	    m->usage, by != 0 ? by : TOTALS_USUAL, since, answer_usage, q);
}

static void
run_upgrade(struct control_client *client, struct master *m,
    const struct control_request *request UNUSED)
{
	struct buf why = BUF_INIT(WHY_MAX);

	control_wait_for_upgrade(client);
	if (upgrade_begin(m->upgrade, &why) < 0)
		control_refuse(client, "%s", buf_string(&why));
	buf_fini(&why);
}

static void
run_why(struct control_client *client, struct master *m,
    const struct control_request *request)
{
	cJSON *answer =
	    why_report(m->board, m->config->runtime_dir, request->args[0]);

	if (answer != NULL)
		control_answer(client, answer);
	else
		control_refuse(client,
		    "request \"%s\" is not among the last of any worker",
		    request->args[0]);
}

const struct control_verb control_verbs[] = {
	{ "credential", 1, 2, run_credential },
	{ "credentials", 0, 0, run_credentials },
	{ "drain", 0, 0, run_drain },
	{ "models", 0, 0, run_models },
	{ "reload", 0, 1, run_reload },
	{ "reopen", 0, 0, run_reopen },
	{ "session", 1, 1, run_session },
	{ "sessions", 0, CONTROL_ARGS_MAX, run_sessions },
	{ "status", 0, 0, run_status },
	{ "stop", 0, 0, run_stop },
	{ "unbind", 2, 2, run_unbind },
	{ "upgrade", 0, 0, run_upgrade },
	{ "usage", 0, CONTROL_ARGS_MAX, run_usage },
	{ "why", 1, 1, run_why },
};

const size_t control_verbs_len = ARRAY_LEN(control_verbs);

static const struct control_verb *
find_verb(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_LEN(control_verbs); i++) {
		if (strcmp(control_verbs[i].name, name) == 0)
			return &control_verbs[i];
	}
	return NULL;
}

void
control_run(struct control_client *client, struct master *m,
    const struct control_request *request)
{
	const struct control_verb *verb = find_verb(request->verb);

	if (verb == NULL)
		control_refuse(client, "unknown verb \"%s\"", request->verb);
	else if (request->nargs < verb->min_args ||
		 request->nargs > verb->max_args)
		control_refuse(
		    client, "\"%s\" takes other arguments", request->verb);
	else if (m->state == MASTER_STARTING)
		control_refuse(client, "the daemon is starting");
	else
		verb->run(client, m, request);
}

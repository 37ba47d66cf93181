/* SPDX-License-Identifier: MIT */
#include "master/reload.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "common/alloc.h"
#include "common/clock.h"
#include "common/log.h"
#include "master/control/sessions.h"
#include "master/credential/watch.h"
#include "master/listen.h"
#include "master/logfile.h"
#include "master/master.h"
#include "master/notify.h"
#include "master/registry/discover.h"
#include "master/registry/registry.h"
#include "master/upgrade/handover.h"
#include "master/usage/usage.h"
#include "master/workers.h"

enum {
	WHY_MAX = 256 * 1024,
	LOGGED_MAX = 200,
	HAND_OVER_LOOK_MS = 2 /* between looks at who still accepts */
};

TAILQ_HEAD(waiters, reload_waiter);

/* What is to be, until the commit. All of it is owned. */
struct next {
	struct config *config;
	struct registry_set *set;
	struct logfile *logs;
	struct listen_set *listeners;
	bool respawn;
	uint64_t generation;
	cJSON *changes; /* for who waits; NULL if nobody does */
};

struct reload {
	struct master *master;
	struct event *soon;
	struct event *hand_over; /* looks whether the old ones have stopped */
	int64_t committed_us;    /* 0: nothing waits for the hand-over */
	struct buf summary;
	bool busy;
	bool first;
	struct waiters waiting; /* for the one under way */
	struct waiters later;   /* for the one after it */
	bool again;
	struct next next;
	/* What was committed, until it is told. */
	bool respawned;
	cJSON *changes;
	int64_t started_us;
	uint64_t ok, failed;
};

static void begin(struct reload *r, struct config *config);
static void on_hand_over(evutil_socket_t fd, short what, void *arg);

static void
on_soon(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	struct reload *r = arg;

	if (!r->busy && r->again)
		begin(r, NULL);
}

struct reload *
reload_new(struct master *master)
{
	struct reload *r = xcalloc(1, sizeof(*r));

	r->master = master;
	TAILQ_INIT(&r->waiting);
	TAILQ_INIT(&r->later);
	r->soon = event_new(master->base, -1, 0, on_soon, r);
	r->hand_over = evtimer_new(master->base, on_hand_over, r);
	buf_init(&r->summary, WHY_MAX);
	if (r->soon == NULL || r->hand_over == NULL)
		fatalx("out of memory");
	return r;
}

static void
drop_next(struct reload *r)
{
	if (r->next.set != NULL)
		registry_discard(r->next.set);
	listen_close(r->next.listeners);
	logfile_close(r->next.logs);
	config_free(r->next.config);
	cJSON_Delete(r->next.changes);
	r->next = (struct next){ 0 };
}

void
reload_free(struct reload *r)
{
	if (r == NULL)
		return;
	drop_next(r);
	event_free(r->soon);
	event_free(r->hand_over);
	cJSON_Delete(r->changes);
	buf_fini(&r->summary);
	free(r);
}

static int
load(const char *path, struct config **out, struct buf *why)
{
	struct config_report report;
	int rc;

	config_report_init(&report);
	rc = config_load(path, out, &report);
	if (report.nwarnings > 0)
		logfile_lines(log_warn, buf_string(&report.warnings));
	if (rc < 0)
		buf_puts(why, buf_string(&report.errors));
	config_report_fini(&report);
	return rc;
}

/* Settings that a running daemon cannot change, named one by one. */
static void
name_if_fixed(
    void *ctx, const char *key, const char *old_value, const char *new_value)
{
	struct buf *why = ctx;

	if (config_effect_of(key) & CONFIG_EFFECT_RESTART)
		buf_printf(why,
		    "\"%s\" cannot change from %s to %s without a restart\n",
		    key, old_value, new_value);
}

/* What is long, like a list of credentials, is only named. */
static void
log_change(void *ctx UNUSED, const char *key, const char *old_value,
    const char *new_value)
{
	if (strlen(old_value) + strlen(new_value) > LOGGED_MAX)
		log_info("reload: \"%s\" changes", key);
	else
		log_info("reload: \"%s\" changes from %s to %s", key, old_value,
		    new_value);
}

/* Whether the change may be, and whether it concerns the workers. */
static int
compare(const struct config *old, const struct config *new, bool *respawn,
    struct buf *why)
{
	unsigned effects = CONFIG_EFFECT_WORKERS;

	if (old != NULL)
		effects = config_diff(old, new, name_if_fixed, why);
	*respawn = (effects & CONFIG_EFFECT_WORKERS) != 0;
	return (effects & CONFIG_EFFECT_RESTART) != 0 ? -EINVAL : 0;
}

/* Strings without their quotes, everything else as it is written. */
static void
add_value(cJSON *row, const char *name, const char *text)
{
	cJSON *value = cJSON_Parse(text);

	(void)cJSON_AddStringToObject(
	    row, name, cJSON_IsString(value) ? value->valuestring : text);
	cJSON_Delete(value);
}

static void
add_change(
    void *ctx, const char *key, const char *old_value, const char *new_value)
{
	cJSON *row = cJSON_CreateObject();

	(void)cJSON_AddStringToObject(row, "name", key);
	add_value(row, "old", old_value);
	add_value(row, "new", new_value);
	(void)cJSON_AddItemToArray(ctx, row);
}

/* Moves the members of one object into another. */
static void
merge(cJSON *into, cJSON *from)
{
	cJSON *item;

	while ((item = from->child) != NULL) {
		(void)cJSON_DetachItemViaPointer(from, item);
		(void)cJSON_AddItemToObject(into, item->string, item);
	}
	cJSON_Delete(from);
}

static cJSON *
describe(struct reload *r, const struct config *config,
    const struct registry_set *set)
{
	int64_t moved = sessions_moved_by(r->master, set);
	cJSON *out = cJSON_CreateObject();

	(void)cJSON_AddTrueToObject(out, "ok");
	(void)config_diff(r->master->config, config, add_change,
	    cJSON_AddArrayToObject(out, "settings"));
	merge(out, registry_diff_json(r->master->registry, set));
	if (moved >= 0)
		(void)cJSON_AddNumberToObject(
		    out, "sessions_moved", (double)moved);
	else
		(void)cJSON_AddNullToObject(out, "sessions_moved");
	return out;
}

static void
follow(struct master *m, const struct config *config)
{
	int rc = watch_follow(m->watch, config);

	if (rc < 0)
		log_warn_e(rc, "cannot watch credential files, so all of them "
			       "are looked at once a minute");
}

/* The watch first, so that no change falls between it and the scan. */
static int
stage(struct reload *r, struct buf *why)
{
	struct master *m = r->master;

	follow(m, r->next.config);
	return registry_stage(
	    m->registry, r->next.config, &m->proxy_env, &r->next.set, why);
}

static int
bind_and_spawn(struct reload *r, struct buf *why)
{
	struct master *m = r->master;
	struct next *n = &r->next;
	int rc;

	rc = logfile_open(n->config, m->options->foreground, &n->logs, why);
	if (rc == 0)
		rc = listen_open(n->config, m->listeners,
		    workers_have_leftovers(m->workers), &n->listeners, why);
	if (rc == 0)
		rc = workers_prepare(m->workers, n->generation, n->config,
		    n->listeners, n->logs, why);
	return rc;
}

static int
publish(struct reload *r, struct buf *why)
{
	struct next *n = &r->next;
	int rc = 0;

	if (n->respawn)
		rc = listen_activate(n->listeners, why);
	if (rc < 0)
		return rc;
	rc = registry_commit(r->master->registry, n->set, n->generation);
	if (rc < 0)
		buf_printf(
		    why, "cannot publish credentials: %s", strerror(-rc));
	else
		n->set = NULL;
	return rc;
}

/* What cannot fail: the new takes the place of the old. */
static void
take_over(struct reload *r)
{
	struct master *m = r->master;
	struct next old = { .config = m->config };

	m->config = r->next.config;
	m->generation = r->next.generation;
	atomic_store(&m->board->generation, m->generation);
	if (r->next.respawn) {
		old.logs = m->logs;
		old.listeners = m->listeners;
		m->logs = r->next.logs;
		m->listeners = r->next.listeners;
		logfile_apply(m->logs);
		usage_follow(m->usage, m->logs);
		workers_commit(m->workers);
	}
	master_set_level(m->options, m->config);
	r->next = old;
	drop_next(r);
}

static void
tell_waiters(struct reload *r, const struct reload_outcome *outcome)
{
	struct reload_waiter *w;

	while ((w = TAILQ_FIRST(&r->waiting)) != NULL) {
		TAILQ_REMOVE(&r->waiting, w, entry);
		w->done(w, outcome);
	}
}

/* The reload is over; one that was asked for meanwhile comes next. */
static void
finish(struct reload *r, const struct reload_outcome *outcome)
{
	r->busy = false;
	r->first = false;
	watch_release(r->master->watch);
	if (r->master->state == MASTER_SERVING)
		notify(NOTIFY_READY);
	tell_waiters(r, outcome);
	if (r->again)
		event_active(r->soon, EV_TIMEOUT, 0);
}

/* What has happened, for the log and for who waits. */
static void
summarise(struct reload *r)
{
	struct master *m = r->master;
	struct buf warnings = BUF_INIT(WHY_MAX);

	registry_warnings(m->registry, &warnings);
	logfile_lines(log_warn, buf_string(&warnings));
	buf_fini(&warnings);
	buf_clear(&r->summary);
	buf_printf(&r->summary, "generation %" PRIu64 ", %d worker%s, ",
	    m->generation, m->config->workers,
	    m->config->workers == 1 ? "" : "s");
	registry_summary(m->registry, &r->summary);
	log_notice("%s after %" PRId64 " ms: %s",
	    r->first ? "serving" : "reloaded",
	    (clock_mono_us() - r->started_us) / 1000, buf_string(&r->summary));
}

/* Of this master, and of the daemon over its masters. */
static void
count(uint64_t *own, _Atomic uint64_t *all)
{
	(*own)++;
	traffic_add(all, 1);
}

static void
succeed(struct reload *r)
{
	struct master *m = r->master;
	const struct reload_outcome outcome = { .ok = true,
		.text = buf_string(&r->summary),
		.respawned = r->respawned,
		.changes = r->changes };
	bool first = r->first;

	r->committed_us = 0;
	if (!first) {
		count(&r->ok, &m->board->master.reloads_ok);
		atomic_store(&m->board->master.reloaded_ms, clock_now_ms());
		notify(NOTIFY_READY);
	}
	finish(r, &outcome);
	cJSON_Delete(r->changes);
	r->changes = NULL;
	if (first)
		master_started(m);
}

/*
 * A worker of before hears that it is to drain a moment after the commit, and
 * may still answer by the old settings until then.
 */
static void
await_hand_over(struct reload *r)
{
	const struct timeval soon = { 0, HAND_OVER_LOOK_MS * 1000 };
	int64_t waited_ms = (clock_mono_us() - r->committed_us) / 1000;

	if (waited_ms >= RELOAD_HAND_OVER_MS ||
	    workers_have_handed_over(r->master->workers))
		succeed(r);
	else
		(void)evtimer_add(r->hand_over, &soon);
}

static void
on_hand_over(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	await_hand_over(arg);
}

/* One line for the log, whatever the number of reasons. */
static void
log_failure(const struct reload *r, const char *text)
{
	size_t len = strcspn(text, "\n");
	size_t more = 0;
	const char *p;

	for (p = text + len; *p != '\0'; p++)
		more += p[0] == '\n' && p[1] != '\0';
	if (more > 0)
		log_error("reload failed, generation %" PRIu64
			  " serves on: %.*s (and %zu more)",
		    r->master->generation, (int)len, text, more);
	else
		log_error("reload failed, generation %" PRIu64
			  " serves on: %.*s",
		    r->master->generation, (int)len, text);
}

static void
fail(struct reload *r, const char *text)
{
	struct master *m = r->master;
	const struct reload_outcome outcome = { .text = text };

	workers_abandon(m->workers);
	drop_next(r);
	if (r->first) {
		master_start_failed(m, text);
		return;
	}
	count(&r->failed, &m->board->master.reloads_failed);
	log_failure(r, text);
	follow(m, m->config);
	finish(r, &outcome);
}

static void
commit(struct reload *r)
{
	struct buf why = BUF_INIT(WHY_MAX);

	if (publish(r, &why) < 0) {
		fail(r, buf_string(&why));
	} else {
		r->respawned = r->next.respawn;
		r->changes = r->next.changes;
		r->next.changes = NULL;
		take_over(r);
		summarise(r);
		discover_follow(r->master->discover);
		r->committed_us = clock_mono_us();
		if (r->first)
			succeed(r);
		else
			await_hand_over(r);
	}
	buf_fini(&why);
}

/* Up to the point where the candidate's READYs are awaited. */
static int
prepare(struct reload *r, struct buf *why)
{
	struct master *m = r->master;
	struct next *n = &r->next;
	int rc = 0;

	if (n->config == NULL)
		rc = load(m->options->config_path, &n->config, why);
	if (rc == 0)
		rc = compare(m->config, n->config, &n->respawn, why);
	if (rc == 0)
		rc = stage(r, why);
	if (rc < 0)
		return rc;
	if (m->config != NULL)
		(void)config_diff(m->config, n->config, log_change, NULL);
	if (!TAILQ_EMPTY(&r->waiting))
		n->changes = describe(r, n->config, n->set);
	n->generation = m->generation + (n->respawn ? 1 : 0);
	return n->respawn ? bind_and_spawn(r, why) : 0;
}

static void
begin(struct reload *r, struct config *config)
{
	struct buf why = BUF_INIT(WHY_MAX);

	/* Before the first start it is held as it was made. */
	if (!r->first) {
		watch_hold(r->master->watch);
		notify(NOTIFY_RELOADING);
	}
	r->busy = true;
	r->again = false;
	TAILQ_CONCAT(&r->waiting, &r->later, entry);
	r->started_us = clock_mono_us();
	r->next.config = config;
	if (prepare(r, &why) < 0)
		fail(r, buf_string(&why));
	else if (!r->next.respawn)
		commit(r);
	buf_fini(&why);
}

void
reload_first(struct reload *r, struct config *config)
{
	r->first = true;
	begin(r, config);
}

static void
refuse(struct reload_waiter *waiter, const char *text)
{
	const struct reload_outcome outcome = { .text = text };

	if (waiter != NULL)
		waiter->done(waiter, &outcome);
}

void
reload_request(struct reload *r, struct reload_waiter *waiter)
{
	if (r->master->state > MASTER_SERVING) {
		refuse(waiter, "the daemon is ending");
		return;
	}
	if (waiter != NULL)
		TAILQ_INSERT_TAIL(&r->later, waiter, entry);
	r->again = true;
	if (!r->busy)
		event_active(r->soon, EV_TIMEOUT, 0);
	else
		log_notice("a reload is under way: one more follows it");
}

static bool
remove_from(struct waiters *list, struct reload_waiter *waiter)
{
	struct reload_waiter *w;

	TAILQ_FOREACH (w, list, entry) {
		if (w == waiter) {
			TAILQ_REMOVE(list, w, entry);
			return true;
		}
	}
	return false;
}

void
reload_forget(struct reload *r, struct reload_waiter *waiter)
{
	if (!remove_from(&r->waiting, waiter))
		(void)remove_from(&r->later, waiter);
}

void
reload_ready(struct reload *r)
{
	commit(r);
}

void
reload_failed(struct reload *r, const char *why)
{
	fail(r, why);
}

void
reload_abort(struct reload *r)
{
	r->again = false;
	TAILQ_CONCAT(&r->waiting, &r->later, entry);
	(void)evtimer_del(r->hand_over);
	if (r->committed_us != 0)
		succeed(r);
	else if (r->busy)
		fail(r, "the daemon is ending");
}

cJSON *
reload_dry_run(struct reload *r, struct buf *why)
{
	struct master *m = r->master;
	struct config *config = NULL;
	struct registry_set *set = NULL;
	cJSON *out = NULL;
	bool respawn;

	if (r->busy || m->state != MASTER_SERVING) {
		buf_puts(why, "a reload is under way, or the daemon is ending");
		return NULL;
	}
	if (load(m->options->config_path, &config, why) == 0 &&
	    compare(m->config, config, &respawn, why) == 0 &&
	    registry_stage(m->registry, config, &m->proxy_env, &set, why) == 0)
		out = describe(r, config, set);
	if (set != NULL)
		registry_discard(set);
	config_free(config);
	return out;
}

uint64_t
reload_count(const struct reload *r, bool ok)
{
	return ok ? r->ok : r->failed;
}

bool
reload_is_busy(const struct reload *r)
{
	return r->busy || r->again;
}

void
reload_hand_over(const struct reload *r, cJSON *into)
{
	handover_put_number(into, "reloads_ok", (int64_t)r->ok);
	handover_put_number(into, "reloads_failed", (int64_t)r->failed);
}

void
reload_inherit(struct reload *r, const cJSON *from)
{
	r->ok = (uint64_t)handover_number(from, "reloads_ok");
	r->failed = (uint64_t)handover_number(from, "reloads_failed");
}

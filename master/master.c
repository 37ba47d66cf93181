/* SPDX-License-Identifier: MIT */
#include "master/master.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/log.h"
#include "master/daemonize.h"
#include "master/notify.h"
#include "master/refresh/refresh.h"
#include "master/registry/registry.h"
#include "master/reload.h"
#include "master/start.h"
#include "master/upgrade/upgrade.h"
#include "master/usage/usage.h"
#include "master/workers.h"

static const char *const state_names[] = {
	[MASTER_STARTING] = "starting",
	[MASTER_SERVING] = "serving",
	[MASTER_DRAINING] = "draining",
	[MASTER_STOPPING] = "stopping",
};

const char *
master_state_name(enum master_state state)
{
	return state_names[state];
}

void
master_set_level(const struct options *options, const struct config *config)
{
	int level = (int)config->log.level + options->verbose;

	log_set_level(
	    level < LOG_LEVEL_DEBUG ? (enum log_level)level : LOG_LEVEL_DEBUG);
}

/* ---- what signals and verbs ask for */

void
master_reload(struct master *m)
{
	reload_request(m->reload, NULL);
}

int
master_reopen_logs(struct master *m, struct buf *why)
{
	int rc = logfile_reopen(m->logs, why);

	if (rc < 0) {
		log_error("logs not reopened: %s", buf_string(why));
		return rc;
	}
	logfile_apply(m->logs);
	usage_follow(m->usage, m->logs);
	workers_send_logs(m->workers, m->logs);
	log_notice("logs reopened");
	return 0;
}

void
master_reopen(struct master *m)
{
	struct buf why = BUF_INIT(4096);

	(void)master_reopen_logs(m, &why);
	buf_fini(&why);
}

/* It is told when nothing is left that a second try could run into. */
static void
keep_failure(struct master *m, const char *why)
{
	free(m->failure);
	m->failure = xstrdup(why);
}

/* Nothing new is accepted from here on; true if that is news. */
static bool
begin_end(struct master *m, enum master_state state)
{
	if (m->state >= state)
		return false;
	if (m->state == MASTER_STARTING)
		keep_failure(m, "told to end before it served");
	m->state = state;
	upgrade_abort(m->upgrade);
	reload_abort(m->reload);
	notify(NOTIFY_STOPPING);
	listen_close(m->listeners);
	m->listeners = NULL;
	log_notice("%s", state_names[state]);
	return true;
}

void
master_drain(struct master *m)
{
	if (begin_end(m, MASTER_DRAINING))
		workers_drain(m->workers);
}

void
master_stop(struct master *m)
{
	if (begin_end(m, MASTER_STOPPING))
		workers_stop(m->workers);
}

void
master_upgrade(struct master *m)
{
	struct buf why = BUF_INIT(4096);

	if (upgrade_begin(m->upgrade, &why) < 0)
		log_error("no upgrade: %s", buf_string(&why));
	buf_fini(&why);
}

void
master_reap(struct master *m)
{
	workers_reap(m->workers);
}

void
master_started(struct master *m)
{
	m->state = MASTER_SERVING;
	/* Orphans of an earlier master see by this that they may go. */
	(void)atomic_fetch_add(&m->board->incarnation, 1);
	atomic_store(&m->board->master.pid, (int32_t)getpid());
	atomic_store(&m->board->master.started_ms, m->started_ms);
	daemonize_ready(&m->ready);
	notify(NOTIFY_READY);
	upgrade_served(m);
}

static bool
logs_to_a_file(const struct master *m)
{
	return m->logs != NULL &&
	       logfile_fd(m->logs, IPC_LOG_ERROR) != STDERR_FILENO;
}

void
master_start_failed(struct master *m, const char *why)
{
	if (m->state == MASTER_STARTING) {
		upgrade_go_back(m, why);
		log_error("cannot start: %s", why);
		if (m->options->foreground && logs_to_a_file(m))
			(void)fprintf(stderr, "fairlead: %s\n", why);
		keep_failure(m, why);
		m->exit_status = 1;
	}
	m->state = MASTER_STOPPING;
	if (m->workers != NULL)
		workers_stop(m->workers);
}

/* ---- what the workers tell */

static void
on_ready(void *ctx)
{
	reload_ready(((struct master *)ctx)->reload);
}

static void
on_failed(void *ctx, const char *why)
{
	reload_failed(((struct master *)ctx)->reload, why);
}

static void
on_died(void *ctx)
{
	struct master *m = ctx;

	store_check_readers(&m->store_state);
	store_check_readers(&m->store_bindings);
}

static void
leave(void *ctx)
{
	(void)event_base_loopbreak(((struct master *)ctx)->base);
}

/* An answer that is on its way would be lost. */
static void
on_empty(void *ctx)
{
	struct master *m = ctx;

	if (refresh_end(m->refresher, leave, m))
		leave(m);
}

static void
on_result(void *ctx, const struct ipc_result *result)
{
	registry_result(((struct master *)ctx)->registry, result);
}

static void
on_need_refresh(void *ctx, const struct ipc_refresh *refresh)
{
	refresh_wanted(((struct master *)ctx)->refresher, refresh);
}

static void
on_other_child(void *ctx, pid_t pid, int status)
{
	upgrade_child_ended(((struct master *)ctx)->upgrade, pid, status);
}

static void
on_lost(void *ctx, struct board_slot *slot)
{
	usage_bury(((struct master *)ctx)->usage, slot);
}

const struct workers_ops master_workers_ops = {
	on_ready,
	on_failed,
	on_died,
	on_empty,
	on_result,
	on_need_refresh,
	on_other_child,
	on_lost,
};

void
master_published(void *ctx)
{
	struct master *m = ctx;

	workers_wake(m->workers);
	refresh_look_soon(m->refresher);
}

int
master_run(const struct options *options, struct config *config,
    const char *warnings, cJSON *handover)
{
	struct master m = { .options = options,
		.warnings = warnings,
		.handover = handover,
		.state_lock = -1,
		.runtime_lock = -1,
		.ready = -1 };
	struct buf why = BUF_INIT(64 * 1024);

	(void)signal(SIGPIPE, SIG_IGN);
	if (config == NULL) {
		master_start_failed(&m, warnings);
		cJSON_Delete(handover);
		return m.exit_status;
	}
	master_set_level(options, config);
	if (start_set_up(&m, config, &why) < 0) {
		master_start_failed(&m, buf_string(&why));
		config_free(config);
	} else {
		reload_first(m.reload, config);
		(void)event_base_dispatch(m.base);
		log_notice("ended");
	}
	start_tear_down(&m);
	buf_fini(&why);
	return m.exit_status;
}

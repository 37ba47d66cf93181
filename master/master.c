/* SPDX-License-Identifier: MIT */
#include "master/master.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "build.h"
#include "common/alloc.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/secret.h"
#include "common/state.h"
#include "common/str.h"
#include "master/control.h"
#include "master/daemonize.h"
#include "master/janitor.h"
#include "master/pidfile.h"
#include "master/privdrop.h"
#include "master/registry.h"
#include "master/reload.h"
#include "master/signals.h"
#include "master/spawn.h"
#include "master/statelock.h"
#include "master/watch.h"
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

	log_set_level(level < LOG_LEVEL_DEBUG ? (enum log_level)level :
						LOG_LEVEL_DEBUG);
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
	workers_send_logs(m->workers, m->logs);
	log_notice("logs reopened");
	return 0;
}

void
master_reopen(struct master *m)
{
	struct buf why = BUF_INIT(4096);

	/* It logs the reason. */
	if (master_reopen_logs(m, &why) < 0)
		buf_clear(&why);
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
	reload_abort(m->reload);
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
master_upgrade(struct master *m UNUSED)
{
	log_warn("an upgrade in place is not available in this version");
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
	daemonize_ready(&m->ready);
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
on_empty(void *ctx)
{
	(void)event_base_loopbreak(((struct master *)ctx)->base);
}

static void
on_result(void *ctx, const struct ipc_result *result)
{
	registry_result(((struct master *)ctx)->registry, result);
}

/*
 * Where a refresh begins. Until there is a scheduler for it, a token that was
 * refused stays what it is and the worker's wait for a new one runs out.
 */
static void
on_need_refresh(void *ctx UNUSED, const struct ipc_refresh *refresh)
{
	log_debug("credential %" PRIu32 " asks for a refresh",
	    refresh->credential);
}

static const struct workers_ops workers_ops = {
	on_ready,
	on_failed,
	on_died,
	on_empty,
	on_result,
	on_need_refresh,
};

static void
on_published(void *ctx)
{
	workers_wake(((struct master *)ctx)->workers);
}

/* ---- the start, step by step; each says what is wrong in why */

static int
take_lock(const char *dir, const char *name, int *fd, struct buf *why)
{
	pid_t holder;
	int rc = statelock_take(dir, name, fd, &holder);

	if (rc < 0)
		buf_printf(why, "cannot lock %s/%s: %s", dir, name,
		    strerror(-rc));
	if (rc == STATELOCK_HELD) {
		buf_printf(why,
		    "already running as pid %ld, which holds the lock %s/%s",
		    (long)holder, dir, name);
		return -EBUSY;
	}
	return rc;
}

/*
 * The board and the control socket are in runtime-dir, so that is locked as
 * well; by another name, because it may be the same directory.
 */
static int
take_locks(struct master *m, const struct config *config, struct buf *why)
{
	int rc = take_lock(config->state_dir, "lock", &m->state_lock, why);

	if (rc == 0)
		rc = take_lock(config->runtime_dir, "runtime.lock",
		    &m->runtime_lock, why);
	return rc;
}

/* What is done as whoever started us, and the end of being that. */
static int
become_ourselves(struct master *m, const struct config *config,
    struct buf *why)
{
	struct privileges p;
	int rc = privileges_look_up(&p, config, why);

	if (rc < 0)
		return rc;
	privileges_harden();
	rc = privileges_make_dirs(&p, config, why);
	if (rc == 0)
		rc = privileges_drop(
		    &p, privileges_needs_bind(config), why);
	if (rc == 0)
		rc = take_locks(m, config, why);
	if (rc == 0)
		rc = logfile_open(
		    config, m->options->foreground, &m->logs, why);
	if (rc == 0 && p.warning != NULL)
		log_warn("%s", p.warning);
	privileges_fini(&p);
	return rc;
}

static int
go_into_background(struct master *m, struct buf *why)
{
	int rc = 0;

	if (!m->options->foreground)
		rc = daemonize(&m->ready);
	if (rc < 0) {
		buf_printf(why, "cannot go into the background: %s",
		    strerror(-rc));
		return rc;
	}
	logfile_apply(m->logs);
	statelock_sign(m->state_lock);
	statelock_sign(m->runtime_lock);
	return 0;
}

static int
open_store(struct master *m, struct store *store, enum store_kind kind,
    const struct config *config, struct buf *why)
{
	const char *dir = config->state_dir;
	int rc = store_open_master(store, kind, dir, m->boot_id);

	/* What the ledger holds comes back from nowhere. */
	if (rc == STORE_STALE && kind != STORE_LEDGER) {
		log_warn("%s/%s is of another boot or damaged, thrown away",
		    dir, store_name(kind));
		rc = store_discard(kind, dir);
		if (rc == 0)
			rc = store_open_master(store, kind, dir, m->boot_id);
	}
	if (rc != 0)
		buf_printf(why, "cannot open %s/%s: %s", dir,
		    store_name(kind), rc > 0 ? "damaged" : strerror(-rc));
	return rc > 0 ? -EIO : rc;
}

static int
read_meta(struct master *m, struct state_meta *meta)
{
	MDB_txn *txn;
	int rc = store_read(&m->store_state, &txn);

	*meta = (struct state_meta){ 0 };
	if (rc < 0)
		return rc;
	rc = state_get_meta(&m->store_state, txn, meta);
	store_read_end(&m->store_state);
	return rc == -ENOENT ? 0 : rc;
}

/* Nothing that is stored outlives this, whatever the wall clock did. */
static int64_t
longest_ttl_ms(const struct config *config)
{
	int64_t ttl_ms = config->routing.session_affinity_ttl_ms / 16 * 17;

	return ttl_ms > config->cooldown_max_ms ? ttl_ms :
						  config->cooldown_max_ms;
}

/* One base per boot: the board has it, or `state`, or it is chosen now. */
static int64_t
find_clock_base(const struct master *m, const struct config *config,
    const struct state_meta *meta, bool board_kept)
{
#if FAIRLEAD_TEST_HOOKS
	const char *test = getenv("FAIRLEAD_TEST_BASE");
	int64_t base_ms;

	if (test != NULL &&
	    str_to_int(test, INT64_MIN, INT64_MAX, &base_ms) == 0)
		return base_ms;
#endif
	if (board_kept)
		return atomic_load(&m->board->clock_base_ms);
	if (strcmp(meta->boot_id, m->boot_id) == 0)
		return meta->clock_base_ms;
	return clock_choose_base(meta->last_ms, longest_ttl_ms(config));
}

static int
open_board(struct master *m, const struct config *config,
    const struct state_meta *meta, struct buf *why)
{
	const char *dir = config->runtime_dir;
	int rc = board_open_master(dir, m->boot_id, &m->board);
	uint64_t incarnation;

	if (rc < 0) {
		buf_printf(
		    why, "cannot map %s/board: %s", dir, strerror(-rc));
		return rc;
	}
	clock_set_base(find_clock_base(m, config, meta, rc == BOARD_KEPT));
	atomic_store(&m->board->clock_base_ms, clock_base());
	/* Workers of an earlier master see by this that it is gone. */
	incarnation = atomic_load(&m->board->incarnation);
	atomic_store(&m->board->incarnation, incarnation + 1);
	return 0;
}

/* The meta record says of which boot and clock the state is. */
static int
write_meta(struct master *m, struct state_meta *meta)
{
	struct store *s = &m->store_state;
	MDB_txn *txn;
	int rc = store_write(s, &txn);

	if (rc < 0)
		return rc;
	(void)str_copy(meta->boot_id, sizeof(meta->boot_id), m->boot_id);
	meta->clock_base_ms = clock_base();
	meta->last_ms = clock_now_ms();
	rc = state_put_meta(s, txn, meta);
	if (rc == 0)
		return store_commit(txn);
	mdb_txn_abort(txn);
	return rc;
}

static int
open_state(struct master *m, const struct config *config, struct buf *why)
{
	struct state_meta meta;
	int rc = clock_boot_id(m->boot_id);

	if (rc < 0) {
		buf_printf(why, "cannot read the boot id: %s", strerror(-rc));
		return rc;
	}
	rc = open_store(m, &m->store_state, STORE_STATE, config, why);
	if (rc == 0)
		rc = open_store(
		    m, &m->store_bindings, STORE_BINDINGS, config, why);
	if (rc == 0)
		rc = open_store(
		    m, &m->store_ledger, STORE_LEDGER, config, why);
	if (rc < 0)
		return rc;
	rc = read_meta(m, &meta);
	if (rc == 0)
		rc = open_board(m, config, &meta, why);
	if (rc == 0)
		rc = write_meta(m, &meta);
	m->generation = meta.generation;
	m->started_ms = clock_now_ms();
	if (rc < 0 && why->len == 0)
		buf_printf(why, "cannot read or write %s/%s: %s",
		    config->state_dir, store_name(STORE_STATE),
		    strerror(-rc));
	return rc;
}

static int
make_workers(struct master *m, struct buf *why)
{
	char *path = NULL;
	int program;
	int rc = spawn_open_program(&program, &path);

	if (rc < 0)
		buf_printf(why, "cannot open %s: %s", path, strerror(-rc));
	else
		m->workers = workers_new(
		    m->base, m->board, program, &workers_ops, m);
	free(path);
	return rc;
}

static int
make_registry(struct master *m, struct buf *why)
{
	int rc = registry_new(&m->store_state, m->board, &m->registry);

	if (rc == 0)
		rc = watch_new(m->base, m->registry, &m->watch);
	if (rc < 0) {
		buf_printf(why, "cannot set up the registry: %s",
		    strerror(-rc));
		return rc;
	}
	registry_set_listener(m->registry, on_published, m);
	return 0;
}

static int
open_control(struct master *m, const struct config *config, struct buf *why)
{
	int rc = control_open(m, config->runtime_dir, &m->control);

	if (rc < 0)
		buf_printf(why, "cannot make %s/control.sock: %s",
		    config->runtime_dir, strerror(-rc));
	return rc;
}

static int
write_pidfile(struct master *m, const struct config *config, struct buf *why)
{
	int rc;

	m->pid_path = m->options->pid_path != NULL ?
	    xstrdup(m->options->pid_path) :
	    xasprintf("%s/fairlead.pid", config->runtime_dir);
	rc = pidfile_write(m->pid_path);
	if (rc < 0)
		buf_printf(why, "cannot write %s: %s", m->pid_path,
		    strerror(-rc));
	return rc;
}

/* Everything but the workers. */
static int
set_up(struct master *m, const struct config *config, struct buf *why)
{
	int rc = become_ourselves(m, config, why);

	if (rc == 0)
		rc = go_into_background(m, why);
	if (rc == 0)
		rc = open_state(m, config, why);
	if (rc < 0)
		return rc;
	proxy_env_read(&m->proxy_env);
	m->base = event_base_new();
	if (m->base == NULL)
		fatalx("cannot make an event loop");
	rc = make_workers(m, why);
	if (rc == 0)
		rc = make_registry(m, why);
	if (rc == 0)
		rc = open_control(m, config, why);
	if (rc == 0)
		rc = write_pidfile(m, config, why);
	if (rc < 0)
		return rc;
	m->reload = reload_new(m);
	m->janitor = janitor_new(m);
	m->signals = signals_new(m->base, m);
	return 0;
}

static void
close_stores(struct master *m)
{
	if (m->store_state.env != NULL) {
		janitor_keep_time(m);
		store_close(&m->store_state, true);
	}
	if (m->store_bindings.env != NULL)
		store_close(&m->store_bindings, true);
	if (m->store_ledger.env != NULL)
		store_close(&m->store_ledger, true);
	board_close(m->board);
}

/*
 * In the order that nothing is used after it is gone. Whoever waits for the
 * end hears of it when the next daemon could start.
 */
static void
tear_down(struct master *m)
{
	struct control_farewell farewell;

	control_close(m->control, &farewell);
	signals_free(m->signals);
	janitor_free(m->janitor);
	reload_free(m->reload);
	watch_free(m->watch);
	registry_free(m->registry);
	workers_free(m->workers);
	listen_close(m->listeners);
	close_stores(m);
	if (m->base != NULL)
		event_base_free(m->base);
	proxy_env_fini(&m->proxy_env);
	logfile_close(m->logs);
	config_free(m->config);
	if (m->pid_path != NULL)
		pidfile_remove(m->pid_path);
	free(m->pid_path);
	if (m->runtime_lock >= 0)
		(void)close(m->runtime_lock);
	if (m->state_lock >= 0)
		(void)close(m->state_lock);
	control_say_ended(&farewell);
	if (m->failure != NULL)
		daemonize_failed(&m->ready, m->failure);
	free(m->failure);
}

int
master_run(const struct options *options, struct config *config)
{
	struct master m = { .options = options,
		.state_lock = -1,
		.runtime_lock = -1,
		.ready = -1 };
	struct buf why = BUF_INIT(64 * 1024);

	(void)signal(SIGPIPE, SIG_IGN);
	master_set_level(options, config);
	if (set_up(&m, config, &why) < 0) {
		master_start_failed(&m, buf_string(&why));
		config_free(config);
	} else {
		reload_first(m.reload, config);
		(void)event_base_dispatch(m.base);
		log_notice("ended");
	}
	tear_down(&m);
	buf_fini(&why);
	return m.exit_status;
}

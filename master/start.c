/* SPDX-License-Identifier: MIT */
#include "master/start.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "build.h"
#include "common/alloc.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/state.h"
#include "common/str.h"
#include "master/control/control.h"
#include "master/credential/watch.h"
#include "master/daemonize.h"
#include "master/fetch.h"
#include "master/janitor.h"
#include "master/ledger.h"
#include "master/logfile.h"
#include "master/master.h"
#include "master/observer.h"
#include "master/pidfile.h"
#include "master/privdrop.h"
#include "master/refresh/refresh.h"
#include "master/registry/discover.h"
#include "master/registry/registry.h"
#include "master/reload.h"
#include "master/signals.h"
#include "master/spawn.h"
#include "master/statelock.h"
#include "master/upgrade/handover.h"
#include "master/upgrade/upgrade.h"
#include "master/usage/usage.h"
#include "master/workers.h"

static int
take_lock(const char *dir, const char *name, int *fd, struct buf *why)
{
	pid_t holder;
	int rc = statelock_take(dir, name, fd, &holder);

	if (rc < 0)
		buf_printf(
		    why, "cannot lock %s/%s: %s", dir, name, strerror(-rc));
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
		rc = take_lock(
		    config->runtime_dir, "runtime.lock", &m->runtime_lock, why);
	return rc;
}

/* What is done as whoever started us, and the end of being that. */
static int
become_ourselves(struct master *m, const struct config *config, struct buf *why)
{
	struct privileges p;
	int rc = privileges_look_up(&p, config, why);

	if (rc < 0)
		return rc;
	privileges_harden();
	rc = privileges_make_dirs(&p, config, why);
	if (rc == 0)
		rc = privileges_drop(&p, privileges_needs_bind(config), why);
	if (rc == 0)
		rc = take_locks(m, config, why);
	if (rc == 0)
		rc =
		    logfile_open(config, m->options->foreground, &m->logs, why);
	if (rc == 0 && p.warning != NULL)
		log_warn("%s", p.warning);
	privileges_fini(&p);
	return rc;
}

/* Nothing that the program before was and is not handed over may change. */
static int
check_directory(const char *what, const char *now, const struct master *m,
    const char *member, struct buf *why)
{
	const char *was = handover_string(m->handover, member);

	if (strcmp(was, now) == 0)
		return 0;
	buf_printf(why, "\"%s\" cannot change from %s to %s without a restart",
	    what, was, now);
	return -EINVAL;
}

/* The same after an exec: the locks are held, the user is the right one. */
static int
stay_ourselves(struct master *m, const struct config *config, struct buf *why)
{
	int rc;

	privileges_harden();
	privileges_end_keeping();
	/* Executed by descriptor, it would be called by its number. */
	(void)prctl(PR_SET_NAME, "fairlead", 0, 0, 0);
	m->state_lock = handover_take_fd(m->handover, "state_lock");
	m->runtime_lock = handover_take_fd(m->handover, "runtime_lock");
	rc = check_directory(
	    "state-dir", config->state_dir, m, "state_dir", why);
	if (rc == 0)
		rc = check_directory(
		    "runtime-dir", config->runtime_dir, m, "runtime_dir", why);
	if (rc == 0)
		rc =
		    logfile_open(config, m->options->foreground, &m->logs, why);
	if (rc < 0)
		return rc;
	logfile_apply(m->logs);
	logfile_lines(log_warn, m->warnings);
	return 0;
}

static int
go_into_background(struct master *m, struct buf *why)
{
	int rc = 0;

	if (!m->options->foreground)
		rc = daemonize(&m->ready);
	if (rc < 0) {
		buf_printf(
		    why, "cannot go into the background: %s", strerror(-rc));
		return rc;
	}
	logfile_apply(m->logs);
	logfile_lines(log_warn, m->warnings);
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
	if (rc == STORE_OTHER)
		buf_printf(why,
		    "%s/%s has schema %" PRIu32 " and this program knows %d: "
		    "use the program that wrote it, or move it out of the way",
		    dir, store_name(kind), store->schema, STORE_SCHEMA);
	else if (rc != 0)
		buf_printf(why, "cannot open %s/%s: %s", dir, store_name(kind),
		    rc > 0 ? "damaged" : strerror(-rc));
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

	return ttl_ms > config->cooldown_max_ms ? ttl_ms
						: config->cooldown_max_ms;
}

/* One base per boot: the board has it, or `state`, or it is chosen now. */
static int64_t
find_clock_base(const struct master *m, const struct config *config,
    const struct state_meta *meta, bool board_kept)
{
	int64_t base_ms;
#if FAIRLEAD_TEST_HOOKS
	const char *test = getenv("FAIRLEAD_TEST_BASE");

	if (test != NULL &&
	    str_to_int(test, INT64_MIN, INT64_MAX, &base_ms) == 0)
		return base_ms;
#endif
	base_ms = atomic_load(&m->board->clock_base_ms);
	if (board_kept && base_ms != 0)
		return base_ms;
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

	if (rc < 0) {
		buf_printf(why, "cannot map %s/board: %s", dir, strerror(-rc));
		return rc;
	}
	clock_set_base(find_clock_base(m, config, meta, rc == BOARD_KEPT));
	atomic_store(&m->board->clock_base_ms, clock_base());
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
		rc = open_store(m, &m->store_ledger, STORE_LEDGER, config, why);
	if (rc < 0)
		return rc;
	rc = read_meta(m, &meta);
	if (rc == 0)
		rc = open_board(m, config, &meta, why);
	if (rc == 0)
		rc = write_meta(m, &meta);
	m->generation = meta.generation;
	m->started_ms = m->handover != NULL
			    ? handover_number(m->handover, "started_ms")
			    : clock_now_ms();
	if (rc < 0 && why->len == 0)
		buf_printf(why, "cannot read or write %s/%s: %s",
		    config->state_dir, store_name(STORE_STATE), strerror(-rc));
	return rc;
}

/* A program that was gone back to goes on with the workers it had. */
static int
open_program(struct master *m, struct buf *why)
{
	AUTO_FREE char *path = NULL;
	int program = handover_take_fd(m->handover, "workers");
	int rc;

	if (program >= 0)
		return program;
	rc = spawn_open_program(&program, &path);
	if (rc < 0)
		buf_printf(why, "cannot open %s: %s", path, strerror(-rc));
	return rc < 0 ? rc : program;
}

static int
make_workers(struct master *m, struct buf *why)
{
	int program = open_program(m, why);

	if (program < 0)
		return program;
	m->workers =
	    workers_new(m->base, m->board, program, &master_workers_ops, m);
	if (m->handover == NULL)
		return 0;
	m->listeners =
	    listen_inherit(cJSON_GetObjectItem(m->handover, "listeners"));
	if (m->listeners == NULL) {
		buf_puts(why, "the listening sockets were not handed over");
		return -EPROTO;
	}
	workers_inherit(m->workers, m->handover, m->listeners, m->logs);
	return 0;
}

static int
make_registry(struct master *m, struct buf *why)
{
	int rc = registry_new(&m->store_state, m->board, &m->registry);

	if (rc == 0)
		rc = watch_new(m->base, m->registry, &m->watch);
	if (rc < 0) {
		buf_printf(
		    why, "cannot set up the registry: %s", strerror(-rc));
		return rc;
	}
	registry_set_listener(m->registry, master_published, m);
	m->fetcher = fetch_new(m->base);
	m->discover = discover_new(m->base, m->registry, m->fetcher);
	return 0;
}

static int
start_ledger(struct master *m, struct buf *why)
{
	int rc = ledger_start(m->base, &m->store_ledger, &m->ledger);

	if (rc < 0)
		buf_printf(why, "cannot start the thread of %s: %s",
		    store_name(STORE_LEDGER), strerror(-rc));
	return rc;
}

/* Once there is a registry to tell it what to refresh. */
static void
make_refresher(struct master *m)
{
	const struct refresh_parts parts = {
		.base = m->base,
		.fetcher = m->fetcher,
		.ledger = m->ledger,
		.registry = m->registry,
		.board = m->board,
		.env = &m->proxy_env,
		.config = &m->config,
	};

	m->refresher = refresh_new(&parts);
}

static int
open_control(struct master *m, const struct config *config, struct buf *why)
{
	int rc = control_inherit(m, config->runtime_dir,
	    cJSON_GetObjectItem(m->handover, "control"), &m->control);

	if (rc < 0)
		buf_printf(why, "cannot make %s/control.sock: %s",
		    config->runtime_dir, strerror(-rc));
	return rc;
}

/* For who finds the socket without a daemon, and wants to know more. */
static void
leave_link(const struct config *config)
{
	AUTO_FREE char *path = xasprintf("%s/state-dir", config->runtime_dir);

	(void)unlink(path);
	if (symlink(config->state_dir, path) < 0)
		log_debug("cannot make the link %s", path);
}

static int
write_pidfile(struct master *m, const struct config *config, struct buf *why)
{
	int rc;

	m->pid_path = m->options->pid_path != NULL
			  ? xstrdup(m->options->pid_path)
			  : xasprintf("%s/fairlead.pid", config->runtime_dir);
	rc = pidfile_write(m->pid_path);
	if (rc < 0)
		buf_printf(
		    why, "cannot write %s: %s", m->pid_path, strerror(-rc));
	return rc;
}

int
start_set_up(struct master *m, const struct config *config, struct buf *why)
{
	int rc;

	if (m->handover != NULL)
		rc = stay_ourselves(m, config, why);
	else
		rc = become_ourselves(m, config, why);
	if (rc == 0 && m->handover == NULL)
		rc = go_into_background(m, why);
	if (rc == 0)
		rc = open_state(m, config, why);
	if (rc < 0)
		return rc;
	proxy_env_read(&m->proxy_env);
	m->base = event_base_new();
	if (m->base == NULL)
		fatalx("cannot make an event loop");
	rc = start_ledger(m, why);
	if (rc == 0)
		rc = make_workers(m, why);
	if (rc == 0)
		rc = make_registry(m, why);
	if (rc == 0)
		make_refresher(m);
	if (rc == 0)
		m->usage = usage_new(m, config->state_dir);
	if (rc == 0)
		rc = open_control(m, config, why);
	if (rc == 0)
		rc = write_pidfile(m, config, why);
	if (rc < 0)
		return rc;
	leave_link(config);
	m->reload = reload_new(m);
	reload_inherit(m->reload, m->handover);
	m->janitor = janitor_new(m);
	m->observer = observer_new(m);
	m->signals = signals_new(m->base, m);
	m->upgrade = upgrade_new(m);
	signals_unblock();
	/* Workers may have ended between two programs. */
	workers_reap(m->workers);
	return 0;
}

void
start_hand_over(const struct master *m, cJSON *into)
{
	const struct config *c = m->config;

	/* Before it serves there is no configuration that does. */
	(void)cJSON_AddStringToObject(into, "state_dir",
	    c != NULL ? c->state_dir
		      : handover_string(m->handover, "state_dir"));
	(void)cJSON_AddStringToObject(into, "runtime_dir",
	    c != NULL ? c->runtime_dir
		      : handover_string(m->handover, "runtime_dir"));
	handover_put_number(into, "started_ms", m->started_ms);
	handover_put_fd(into, "state_lock", m->state_lock);
	handover_put_fd(into, "runtime_lock", m->runtime_lock);
}

/* clean: no worker writes any more. */
static void
close_stores(struct master *m, bool clean)
{
	if (m->store_state.env != NULL) {
		janitor_keep_time(m);
		store_close(&m->store_state, clean);
	}
	if (m->store_bindings.env != NULL)
		store_close(&m->store_bindings, clean);
	if (m->store_ledger.env != NULL)
		store_close(&m->store_ledger, clean);
}

void
start_quiesce(struct master *m)
{
	if (m->refresher != NULL)
		(void)refresh_end(m->refresher, NULL, NULL);
	usage_finish(m->usage);
	ledger_stop(m->ledger);
	close_stores(m, false);
}

void
start_tear_down(struct master *m)
{
	struct control_farewell farewell;

	control_close(m->control, &farewell);
	if (m->registry != NULL)
		registry_set_listener(m->registry, NULL, NULL);
	signals_free(m->signals);
	upgrade_free(m->upgrade);
	observer_free(m->observer);
	janitor_free(m->janitor);
	reload_free(m->reload);
	watch_free(m->watch);
	discover_free(m->discover);
	workers_free(m->workers);
	listen_close(m->listeners);
	if (m->refresher != NULL)
		(void)refresh_end(m->refresher, NULL, NULL);
	usage_finish(m->usage);
	ledger_stop(m->ledger);
	usage_free(m->usage);
	refresh_free(m->refresher);
	fetch_free(m->fetcher);
	registry_free(m->registry);
	close_stores(m, true);
	board_close(m->board);
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
	cJSON_Delete(m->handover);
}

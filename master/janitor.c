/* SPDX-License-Identifier: MIT */
#include "master/janitor.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>

#include <event2/event.h>

#include "common/alloc.h"
#include "common/bindings.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/pins.h"
#include "common/state.h"
#include "master/master.h"
#include "master/process.h"
#include "master/workers.h"

enum {
	LOCK_HELD_MAX_MS = 2000,
	SWEEP_AGAIN_MS = 10 /* between steps while there is more to do */
};

struct janitor {
	struct master *master;
	struct event *tick;  /* each second */
	struct event *sweep; /* more often, while a sweep is not done */
	bool sweep_failed;   /* said once, until it works again */
	bool time_failed;
};

static void
check_readers(struct master *m)
{
	store_check_readers(&m->store_state);
	store_check_readers(&m->store_bindings);
}

/*
 * A worker that was stopped or hangs while it holds the lock keeps all others
 * from binding. Its pid may be another's by now: it has to be a worker, and
 * to have run when the lock was taken.
 */
static void
free_lock(struct master *m)
{
	int32_t holder = 0;
	int64_t held_ms = board_bind_held_ms(m->board, &holder);
	int64_t started_ms;

	if (held_ms <= LOCK_HELD_MAX_MS ||
	    !workers_know_pid(m->workers, holder))
		return;
	if (process_started_ms(holder, &started_ms) < 0 ||
	    started_ms > clock_boot_ms() - held_ms)
		return;
	log_error("worker with pid %" PRId32 " has held the lock of the "
		  "bindings for %" PRId64 " ms, killed",
	    holder, held_ms);
	(void)kill(holder, SIGKILL);
}

static void
report_once(bool *failed, int rc, const char *what)
{
	if (rc < 0 && !*failed)
		log_error_e(rc, "cannot %s", what);
	*failed = rc < 0;
}

static int
write_time(struct master *m)
{
	struct store *s = &m->store_state;
	struct state_meta meta;
	MDB_txn *txn;
	int rc = store_write(s, &txn);

	if (rc < 0)
		return rc;
	rc = state_get_meta(s, txn, &meta);
	if (rc == 0) {
		meta.last_ms = clock_now_ms();
		rc = state_put_meta(s, txn, &meta);
	}
	if (rc == 0)
		return store_commit(txn);
	mdb_txn_abort(txn);
	/* Before the first commit there is none. */
	return rc == -ENOENT ? 0 : rc;
}

void
janitor_keep_time(struct master *m)
{
	int rc = write_time(m);

	if (rc < 0)
		log_error_e(rc, "cannot write down the time");
}

static void
sweep(struct janitor *j)
{
	const struct timeval soon = { 0, SWEEP_AGAIN_MS * 1000 };
	struct master *m = j->master;
	bool again;
	int rc;

	if (m->config == NULL)
		return;
	rc = bindings_sweep(&m->store_bindings, m->board, clock_now_ms(),
	    m->config->routing.max_sessions);
	if (rc == -EAGAIN)
		return;
	again = rc >= BINDINGS_SWEEP_STEP;
	if (rc >= 0)
		rc = pins_sweep(&m->store_bindings, m->board, clock_now_ms(),
		    m->config->routing.max_sessions);
	if (rc == -EAGAIN)
		rc = 0;
	report_once(&j->sweep_failed, rc, "sweep the bindings");
	if (again || rc >= PINS_SWEEP_STEP)
		(void)event_add(j->sweep, &soon);
}

static void
on_sweep(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	sweep(arg);
}

void
janitor_tick(struct janitor *j)
{
	struct master *m = j->master;

	check_readers(m);
	(void)workers_reap_strangers(m->workers);
	free_lock(m);
	report_once(&j->time_failed, write_time(m), "write down the time");
	if (!evtimer_pending(j->sweep, NULL))
		sweep(j);
}

static void
on_tick(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	janitor_tick(arg);
}

struct janitor *
janitor_new(struct master *master)
{
	const struct timeval second = { 1, 0 };
	struct janitor *j = xcalloc(1, sizeof(*j));

	j->master = master;
	j->tick = event_new(master->base, -1, EV_PERSIST, on_tick, j);
	j->sweep = evtimer_new(master->base, on_sweep, j);
	if (j->tick == NULL || j->sweep == NULL ||
	    event_add(j->tick, &second) < 0)
		fatalx("out of memory");
	return j;
}

void
janitor_free(struct janitor *j)
{
	if (j == NULL)
		return;
	event_free(j->tick);
	event_free(j->sweep);
	free(j);
}

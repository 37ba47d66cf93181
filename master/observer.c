/* SPDX-License-Identifier: MIT */
#include "master/observer.h"

#include <stdlib.h>

#include <event2/event.h>

#include "common/alloc.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/state.h"
#include "master/control/sessions.h"
#include "master/master.h"

struct observer {
	struct master *master;
	struct event *tick;
};

static void
take_sample(struct master *m)
{
	struct chronicle_sample sample;
	struct board_counters sum;

	board_counters_sum(m->board, &sum);
	chronicle_sample_of(&sum.traffic, clock_now_ms(), &sample);
	chronicle_add_sample(&m->board->chronicle, &sample);
}

struct telling {
	struct board *board;
	struct sessions sessions;
};

static int
tell_sessions(void *ctx, const struct state_credential *c)
{
	struct telling *t = ctx;
	int64_t n =
	    sessions_of_credential(&t->sessions, state_string(c, c->id));

	if (c->slot < BOARD_CREDENTIALS)
		atomic_store(
		    &t->board->credentials[c->slot].sessions, (uint64_t)n);
	return 0;
}

static void
count_sessions(struct master *m)
{
	struct telling t = { .board = m->board };
	MDB_txn *txn;

	sessions_count(&t.sessions, m, SESSIONS_COUNT_QUICK);
	if (sessions_are_counted(&t.sessions) &&
	    store_read(&m->store_state, &txn) == 0) {
		(void)state_each_credential(
		    &m->store_state, txn, tell_sessions, &t);
		store_read_end(&m->store_state);
	}
	sessions_fini(&t.sessions);
}

static void
on_tick(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	struct observer *o = arg;

	take_sample(o->master);
	count_sessions(o->master);
}

struct observer *
observer_new(struct master *master)
{
	const struct timeval step = { CHRONICLE_STEP_MS / 1000, 0 };
	struct observer *o = xcalloc(1, sizeof(*o));

	o->master = master;
	o->tick = event_new(master->base, -1, EV_PERSIST, on_tick, o);
	if (o->tick == NULL || event_add(o->tick, &step) < 0)
		fatalx("out of memory");
	take_sample(master);
	return o;
}

void
observer_free(struct observer *o)
{
	if (o == NULL)
		return;
	event_free(o->tick);
	free(o);
}

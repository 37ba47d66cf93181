/* SPDX-License-Identifier: MIT */
/*
 * A worker from exec to exit: take what the master handed over, open the
 * rest, say READY, serve until drained. worker_run() is the order of it.
 */
#include "worker/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <event2/event.h>

#include "common/clock.h"
#include "common/handoff.h"
#include "common/log.h"
#include "common/outbound.h"
#include "common/str.h"
#include "common/why.h"
#include "worker/client/conn.h"
#include "worker/control.h"
#include "worker/listeners.h"
#include "worker/relay/relay.h"
#include "worker/upstream/upstream.h"

enum { NULL_MAJOR = 1, NULL_MINOR = 3 };

struct lifecycle {
	struct worker *worker;
	struct event *tick;
	struct event *quit, *term, *intr;
	struct event *drain_timer;
};

static struct lifecycle life;

/* ---- signals and ticks */

static void
on_quit(evutil_socket_t sig UNUSED, short what UNUSED, void *arg)
{
	worker_drain(arg);
}

static void
on_term(evutil_socket_t sig UNUSED, short what UNUSED, void *arg)
{
	worker_stop(arg);
}

static void
on_tick(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	struct worker *w = arg;

	atomic_store(&w->slot->heartbeat_ms, clock_now_ms());
	upstream_trim(w->upstream);
}

static void
on_drain_timeout(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	struct worker *w = arg;

	log_notice(
	    "drain-timeout: closing %zu connections", conns_count(w->conns));
	worker_stop(w);
}

static void
ignore(int sig)
{
	struct sigaction sa = { .sa_handler = SIG_IGN };

	(void)sigaction(sig, &sa, NULL);
}

static void
set_up_signals(struct worker *w)
{
	static const int ignored[] = { SIGHUP, SIGUSR1, SIGUSR2, SIGPIPE };
	size_t i;

	for (i = 0; i < ARRAY_LEN(ignored); i++)
		ignore(ignored[i]);
	life.quit = evsignal_new(w->base, SIGQUIT, on_quit, w);
	life.term = evsignal_new(w->base, SIGTERM, on_term, w);
	life.intr = evsignal_new(w->base, SIGINT, on_term, w);
	(void)event_add(life.quit, NULL);
	(void)event_add(life.term, NULL);
	(void)event_add(life.intr, NULL);
}

static void
set_up_ticks(struct worker *w)
{
	const struct timeval tv = { 0, BOARD_BEAT_MS * 1000 };

	life.tick = event_new(w->base, -1, EV_PERSIST, on_tick, w);
	life.drain_timer = evtimer_new(w->base, on_drain_timeout, w);
	(void)event_add(life.tick, &tv);
}

/* ---- what was handed over */

static unsigned
argument(char **argv, enum handoff_arg i)
{
	int64_t value;

	if (str_to_int(argv[i], 0, UINT32_MAX, &value) < 0)
		fatalx("bad argument %d: workers are started by fairlead", i);
	return (unsigned)value;
}

/* /dev/null as the log means that the daemon logs to syslog. */
static void
set_up_log(struct worker *w)
{
	struct stat st;
	char role[32];

	(void)snprintf(role, sizeof(role), "worker %u", w->slot_index);
	log_init(role);
	if (fstat(HANDOFF_LOG, &st) == 0 && S_ISCHR(st.st_mode) &&
	    st.st_rdev == makedev(NULL_MAJOR, NULL_MINOR))
		log_to_syslog();
}

static void
take_config(struct worker *w)
{
	struct config_report report;

	config_report_init(&report);
	if (config_load_fd(HANDOFF_CONFIG, &w->config, &report) < 0)
		fatalx("bad configuration snapshot: %s",
		    buf_string(&report.errors));
	config_report_fini(&report);
	(void)close(HANDOFF_CONFIG);
	log_set_level(w->config->log.level);
}

/* Nobody else may read this process, dead or alive. */
static void
protect(void)
{
	const struct rlimit none = { 0, 0 };

	(void)setrlimit(RLIMIT_CORE, &none);
	(void)prctl(PR_SET_DUMPABLE, 0);
}

/*
 * Bodies come and go in sizes that glibc would map and unmap one by one, with
 * a page fault for each page: keep them in the heap, and give the top of it
 * back only when there is much of it.
 */
static void
tune_malloc(void)
{
	(void)mallopt(M_MMAP_THRESHOLD, 32 << 20);
	(void)mallopt(M_TRIM_THRESHOLD, 64 << 20);
}

static void
raise_descriptors(void)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) < 0)
		return;
	rl.rlim_cur = rl.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &rl);
}

static void
open_board(struct worker *w)
{
	int rc = board_open_worker(w->config->runtime_dir, &w->board);

	if (rc < 0)
		fatal_e(rc, "cannot map the board in \"%s\"",
		    w->config->runtime_dir);
	if (w->slot_index >= BOARD_SLOTS)
		fatalx("slot %u is not on the board", w->slot_index);
	clock_set_base(atomic_load(&w->board->clock_base_ms));
	w->slot = &w->board->slots[w->slot_index];
	atomic_store(&w->slot->pid, getpid());
	atomic_store(&w->slot->generation, w->generation);
	atomic_store(&w->slot->heartbeat_ms, clock_now_ms());
}

static void
open_store(struct worker *w, struct store *store, enum store_kind kind)
{
	int rc = store_open_worker(store, kind, w->config->state_dir);

	if (rc < 0)
		fatal_e(rc, "cannot open \"%s\" in \"%s\"", store_name(kind),
		    w->config->state_dir);
}

static struct event_base *
new_base(void)
{
	struct event_config *cfg = event_config_new();
	struct event_base *base = NULL;

	if (cfg != NULL &&
	    event_config_require_features(
		cfg, EV_FEATURE_ET | EV_FEATURE_EARLY_CLOSE) == 0 &&
	    event_config_set_flag(cfg, EVENT_BASE_FLAG_NOLOCK) == 0)
		base = event_base_new_with_config(cfg);
	event_config_free(cfg);
	if (base == NULL)
		fatalx("cannot make an event loop on epoll");
	return base;
}

static void
open_modules(struct worker *w, unsigned listeners)
{
	w->base = new_base();
	if (outbound_init() < 0)
		fatalx("cannot set up libcurl");
	w->upstream = upstream_new(w);
	w->relays = relays_new(w);
	if (w->upstream == NULL || w->relays == NULL)
		fatalx("cannot set up the upstream side");
	w->conns = conns_new(w);
	w->listeners = listeners_new(w, listeners);
	w->control = control_new(w);
	set_up_signals(w);
	set_up_ticks(w);
}

static void
close_lifecycle(void)
{
	struct event *const events[] = { life.tick, life.quit, life.term,
		life.intr, life.drain_timer };
	size_t i;

	for (i = 0; i < ARRAY_LEN(events); i++)
		event_free(events[i]);
}

static void
close_all(struct worker *w)
{
	listeners_free(w->listeners);
	conns_free(w->conns);
	relays_free(w->relays);
	upstream_free(w->upstream);
	control_free(w->control);
	close_lifecycle();
	event_base_free(w->base);
	store_close(&w->store_bindings, false);
	store_close(&w->store_state, false);
	why_close(w->why);
	board_close(w->board);
	config_free(w->config);
}

/* ---- the public face */

void
worker_conn_gone(struct worker *w)
{
	if (w->state == WORKER_DRAINING && conns_count(w->conns) == 0)
		(void)event_base_loopexit(w->base, NULL);
}

void
worker_drain(struct worker *w)
{
	int64_t ms = w->config->limits.drain_timeout_ms;
	const struct timeval tv = { ms / 1000, (ms % 1000) * 1000 };

	if (w->state == WORKER_DRAINING)
		return;
	listeners_stop(w->listeners);
	w->state = WORKER_DRAINING;
	atomic_store(&w->slot->state, BOARD_SLOT_DRAINING);
	(void)evtimer_add(life.drain_timer, &tv);
	worker_conn_gone(w);
}

void
worker_stop(struct worker *w)
{
	(void)event_base_loopbreak(w->base);
}

int
worker_run(int argc, char **argv)
{
	struct worker w = { .access_fd = -1, .usage_fd = -1 };

	if (argc != HANDOFF_ARG_COUNT)
		fatalx("workers are started by fairlead(8)");
	w.slot_index = argument(argv, HANDOFF_ARG_SLOT);
	w.generation = argument(argv, HANDOFF_ARG_GENERATION);
	protect();
	tune_malloc();
	raise_descriptors();
	set_up_log(&w);
	take_config(&w);
	open_board(&w);
	relay_why_open(&w);
	open_store(&w, &w.store_state, STORE_STATE);
	open_store(&w, &w.store_bindings, STORE_BINDINGS);
	open_modules(&w, argument(argv, HANDOFF_ARG_LISTENERS));

	atomic_store(&w.slot->state, BOARD_SLOT_READY);
	control_send_ready(&w);
	(void)event_base_dispatch(w.base);
	control_send_drained(&w);
	close_all(&w);
	return 0;
}

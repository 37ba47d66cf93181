/* SPDX-License-Identifier: MIT */
#include "master/slot.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/clock.h"
#include "common/log.h"
#include "master/spawn.h"
#include "master/upgrade/handover.h"

enum {
	READY_TIMEOUT_MS = 20000,
	TERM_TIMEOUT_MS = 1000,
	EOF_TIMEOUT_MS = 2000, /* from the end of its socket to its death */
	MESSAGES_PER_TURN = 64
};

/* A message that the socket had no room for. */
struct pending {
	enum ipc_type type;
	char payload[IPC_PAYLOAD_MAX];
	size_t len;
	int fd; /* a duplicate, or -1 */
};

struct slot {
	const struct slot_setup *setup;
	unsigned worker;
	unsigned board_index;
	enum slot_state state;
	pid_t pid;
	int control;
	struct event *readable, *writable, *timer;
	struct pending *queue; /* in order; not empty while writable waits */
	size_t nqueue, queue_cap;
	int64_t started_us;
	int64_t ready_us; /* 0: not yet */
	int64_t backoff_ms;
	int64_t beat_seen; /* heartbeat_ms when we last looked */
	int64_t silent_ms; /* since that changed */
	int64_t gone_ms;   /* since it was ACTIVE */
	bool leaving;      /* it was told to go: its death is no news */
};

const char *const slot_state_names[SLOT_STATES] = {
	[SLOT_WAITING] = "waiting",
	[SLOT_STARTING] = "starting",
	[SLOT_READY] = "ready",
	[SLOT_ACTIVE] = "active",
	[SLOT_DRAINING] = "draining",
	[SLOT_ENDING] = "ending",
	[SLOT_KILLED] = "killed",
	[SLOT_GONE] = "gone",
};

static const enum board_worker_state board_states[SLOT_STATES] = {
	[SLOT_WAITING] = BOARD_SLOT_STARTING,
	[SLOT_STARTING] = BOARD_SLOT_STARTING,
	[SLOT_READY] = BOARD_SLOT_READY,
	[SLOT_ACTIVE] = BOARD_SLOT_SERVING,
	[SLOT_DRAINING] = BOARD_SLOT_DRAINING,
	[SLOT_ENDING] = BOARD_SLOT_DRAINING,
	[SLOT_KILLED] = BOARD_SLOT_DRAINING,
	[SLOT_GONE] = BOARD_SLOT_FREE,
};

#define WORKER_FMT     "worker %u (pid %ld, generation %" PRIu64 ")"
#define WORKER_ARGS(s) (s)->board_index, (long)(s)->pid, (s)->setup->generation

static struct board_slot *
on_board(const struct slot *s)
{
	return &s->setup->board->slots[s->board_index];
}

static void
set_timer(struct slot *s, int64_t ms)
{
	const struct timeval tv = { ms / 1000, ms % 1000 * 1000 };

	(void)evtimer_add(s->timer, &tv);
}

/* Every change of state passes here; after_ms < 0: it lasts until an event. */
static void
enter(struct slot *s, enum slot_state state, int64_t after_ms)
{
	s->state = state;
	/* That it drains a worker says itself, when it accepts no more. */
	if (state != SLOT_DRAINING)
		atomic_store(&on_board(s)->state, board_states[state]);
	if (after_ms >= 0)
		set_timer(s, after_ms);
	else
		(void)evtimer_del(s->timer);
}

enum slot_state
slot_state(const struct slot *s)
{
	return s->state;
}

unsigned
slot_board_index(const struct slot *s)
{
	return s->board_index;
}

pid_t
slot_pid(const struct slot *s)
{
	return s->pid;
}

static void
send_signal(struct slot *s, int number)
{
	/* Not yet reaped, so the pid is still this process's. */
	assert(s->pid > 0);
	(void)kill(s->pid, number);
}

static void
kill_now(struct slot *s)
{
	enter(s, SLOT_KILLED, -1);
	send_signal(s, SIGKILL);
}

void
slot_end(struct slot *s)
{
	s->leaving = true;
	if (s->state == SLOT_WAITING) {
		enter(s, SLOT_GONE, -1);
		return;
	}
	if (s->state >= SLOT_ENDING)
		return;
	enter(s, SLOT_ENDING, TERM_TIMEOUT_MS);
	send_signal(s, SIGTERM);
}

static void
spawn_when_due(struct slot *s)
{
	int rc = slot_spawn(s);

	if (rc == 0)
		return;
	log_error_e(rc, "cannot start worker %u", s->board_index);
	s->backoff_ms = slot_backoff_ms(s->backoff_ms, true);
	set_timer(s, s->backoff_ms);
}

static void
time_is_up(struct slot *s)
{
	switch (s->state) {
	case SLOT_WAITING:
		spawn_when_due(s);
		break;
	case SLOT_STARTING:
		log_error(WORKER_FMT ": not ready after %d ms, killed",
		    WORKER_ARGS(s), READY_TIMEOUT_MS);
		kill_now(s);
		break;
	case SLOT_DRAINING:
		log_notice(
		    WORKER_FMT ": not drained in time, ended", WORKER_ARGS(s));
		slot_end(s);
		break;
	case SLOT_READY:
	case SLOT_ACTIVE: /* its socket is closed and it lives on */
	case SLOT_ENDING:
		log_error(WORKER_FMT ": does not end, killed", WORKER_ARGS(s));
		kill_now(s);
		break;
	case SLOT_KILLED:
	case SLOT_GONE:
	case SLOT_STATES:
		break;
	}
}

static void
on_timer(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	time_is_up(arg);
}

struct slot *
slot_new(const struct slot_setup *setup, unsigned worker, unsigned board_slot)
{
	struct slot *s = xcalloc(1, sizeof(*s));

	s->setup = setup;
	s->worker = worker;
	s->board_index = board_slot;
	s->control = -1;
	s->timer = evtimer_new(setup->base, on_timer, s);
	if (s->timer == NULL)
		fatalx("out of memory");
	atomic_store(&on_board(s)->generation, setup->generation);
	enter(s, SLOT_WAITING, -1);
	return s;
}

static void
drop_queue(struct slot *s)
{
	size_t i;

	for (i = 0; i < s->nqueue; i++) {
		if (s->queue[i].fd >= 0)
			(void)close(s->queue[i].fd);
	}
	s->nqueue = 0;
}

static void
hang_up(struct slot *s)
{
	if (s->control < 0)
		return;
	event_free(s->readable);
	event_free(s->writable);
	s->readable = s->writable = NULL;
	(void)close(s->control);
	s->control = -1;
	drop_queue(s);
}

void
slot_free(struct slot *s)
{
	if (s == NULL)
		return;
	hang_up(s);
	event_free(s->timer);
	atomic_store(&on_board(s)->state, BOARD_SLOT_FREE);
	free(s->queue);
	free(s);
}

static void
enqueue(
    struct slot *s, enum ipc_type type, const void *payload, size_t len, int fd)
{
	struct pending *p;

	assert(len <= sizeof(p->payload));
	xgrow(&s->queue, &s->queue_cap, s->nqueue, sizeof(s->queue[0]));
	p = &s->queue[s->nqueue++];
	p->type = type;
	p->len = len;
	if (len > 0)
		memcpy(p->payload, payload, len);
	p->fd = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;
	(void)event_add(s->writable, NULL);
}

static void
send_message(
    struct slot *s, enum ipc_type type, const void *payload, size_t len, int fd)
{
	int rc = -EAGAIN;

	if (s->control < 0)
		return;
	if (s->nqueue == 0)
		rc = ipc_send(s->control, type, payload, len, fd);
	if (rc == -EAGAIN)
		enqueue(s, type, payload, len, fd);
	else if (rc < 0)
		log_debug(WORKER_FMT ": %s not sent: %s", WORKER_ARGS(s),
		    ipc_name((uint16_t)type), strerror(-rc));
}

static void
send_queued(struct slot *s)
{
	struct pending *p;
	size_t sent;
	int rc;

	for (sent = 0; sent < s->nqueue; sent++) {
		p = &s->queue[sent];
		rc = ipc_send(s->control, p->type, p->payload, p->len, p->fd);
		if (rc == -EAGAIN)
			break;
		if (p->fd >= 0)
			(void)close(p->fd);
	}
	s->nqueue -= sent;
	memmove(s->queue, s->queue + sent, s->nqueue * sizeof(s->queue[0]));
	if (s->nqueue > 0)
		(void)event_add(s->writable, NULL);
}

static void
on_writable(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	send_queued(arg);
}

static void
say_ready(struct slot *s)
{
	if (s->state != SLOT_STARTING)
		return;
	s->ready_us = clock_mono_us();
	enter(s, SLOT_READY, -1);
	log_info(WORKER_FMT ": ready after %" PRId64 " ms", WORKER_ARGS(s),
	    (s->ready_us - s->started_us) / 1000);
	s->setup->ops->ready(s->setup->ctx, s);
}

static void
handle(struct slot *s, struct ipc_message *m)
{
	if (m->fd >= 0)
		(void)close(m->fd);
	if (m->header.type == IPC_READY)
		say_ready(s);
	else
		s->setup->ops->message(s->setup->ctx, s, m);
}

/* At the end of its socket its death follows, or is helped along. */
static void
lose(struct slot *s)
{
	hang_up(s);
	if (s->state < SLOT_ENDING)
		set_timer(s, EOF_TIMEOUT_MS);
}

/* Takes what is there, within bounds. How many messages it was. */
static int
receive(struct slot *s)
{
	struct ipc_message m;
	int n, rc;

	for (n = 0; n < MESSAGES_PER_TURN && s->control >= 0; n++) {
		rc = ipc_receive(s->control, &m);
		if (rc == -EAGAIN)
			break;
		if (rc == 0)
			handle(s, &m);
		else if (rc == -EPROTO)
			log_warn(WORKER_FMT ": sent what is no message",
			    WORKER_ARGS(s));
		else
			lose(s);
	}
	return n;
}

static void
on_readable(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	(void)receive(arg);
}

static void
listen_to(struct slot *s, int control)
{
	struct event_base *base = s->setup->base;

	s->control = control;
	s->readable =
	    event_new(base, control, EV_READ | EV_PERSIST, on_readable, s);
	s->writable = event_new(base, control, EV_WRITE, on_writable, s);
	if (s->readable == NULL || s->writable == NULL)
		fatalx("out of memory");
	(void)event_add(s->readable, NULL);
}

int
slot_spawn(struct slot *s)
{
	const struct slot_setup *setup = s->setup;
	struct spawn spawn = { .program = setup->program,
		.slot = s->board_index,
		.generation = setup->generation,
		.stderr_fd = logfile_stderr(setup->logs),
		.snapshot = setup->snapshot,
		.snapshot_len = setup->snapshot_len };
	int control, rc;

	assert(s->state == SLOT_WAITING && s->pid == 0);
	spawn.listeners = listen_fds(setup->listeners, &spawn.nlisteners);
	s->started_us = clock_mono_us();
	s->ready_us = 0;
	atomic_store(&on_board(s)->generation, setup->generation);
	rc = spawn_worker(&spawn, &s->pid, &control);
	if (rc < 0) {
		s->pid = 0;
		return rc;
	}
	atomic_store(&on_board(s)->pid, s->pid);
	listen_to(s, control);
	enter(s, SLOT_STARTING, READY_TIMEOUT_MS);
	return 0;
}

typedef bool listener_test_fn(const struct listen_set *set, size_t index,
    unsigned worker, unsigned nworkers);

/* Tells it to poll, or to leave, the listeners that are that worker's. */
static void
tell_listeners(struct slot *s, enum ipc_type type, listener_test_fn *is_of,
    unsigned worker)
{
	const struct listen_set *set = s->setup->listeners;
	struct ipc_listener l;
	size_t i, n;

	(void)listen_fds(set, &n);
	for (i = 0; i < n; i++) {
		if (!is_of(set, i, worker, s->setup->nworkers))
			continue;
		l = (struct ipc_listener){ (uint32_t)i,
			(uint32_t)listen_role(set, i) };
		send_message(s, type, &l, sizeof(l), -1);
	}
}

void
slot_lend(struct slot *to, const struct slot *from)
{
	tell_listeners(to, IPC_ADOPT, listen_is_alone, from->worker);
	log_notice("worker %u: its listeners are lent to worker %u",
	    from->board_index, to->board_index);
}

void
slot_take_back(struct slot *to, const struct slot *from)
{
	tell_listeners(to, IPC_RELEASE, listen_is_alone, from->worker);
	log_info("worker %u: has its listeners back from worker %u",
	    from->board_index, to->board_index);
}

void
slot_send_logs(struct slot *s, const struct logfile *logs)
{
	uint64_t none = 0, epoch = logfile_usage_epoch(logs);
	struct ipc_log l = { .epoch = epoch };

	if (s->control < 0)
		return;
	/* From now on it may write there, whenever it reads the message. */
	(void)atomic_compare_exchange_strong(
	    &on_board(s)->usage_epoch, &none, epoch);
	for (l.kind = IPC_LOG_ERROR; l.kind <= IPC_LOG_USAGE; l.kind++)
		send_message(s, IPC_LOG_FD, &l, sizeof(l),
		    logfile_fd(logs, (enum ipc_log_kind)l.kind));
}

void
slot_serve(struct slot *s)
{
	assert(s->state == SLOT_READY);
	slot_send_logs(s, s->setup->logs);
	tell_listeners(s, IPC_ADOPT, listen_polled_by, s->worker);
	send_message(s, IPC_START, NULL, 0, -1);
	enter(s, SLOT_ACTIVE, -1);
}

/* It has a loop that should turn, and nothing else that watches it. */
static bool
should_beat(const struct slot *s)
{
	return s->state == SLOT_READY || s->state == SLOT_ACTIVE ||
	       s->state == SLOT_DRAINING;
}

void
slot_look(struct slot *s, int64_t passed_ms)
{
	int64_t beat = atomic_load(&on_board(s)->heartbeat_ms);

	s->silent_ms = beat != s->beat_seen ? 0 : s->silent_ms + passed_ms;
	s->gone_ms = s->state == SLOT_ACTIVE ? 0 : s->gone_ms + passed_ms;
	s->beat_seen = beat;
	if (s->silent_ms < SLOT_HUNG_MS || !should_beat(s))
		return;
	log_error(WORKER_FMT ": hangs, no heartbeat for %" PRId64 " ms, killed",
	    WORKER_ARGS(s), s->silent_ms);
	kill_now(s);
}

int64_t
slot_silent_ms(const struct slot *s)
{
	return s->silent_ms;
}

bool
slot_accepts(const struct slot *s)
{
	return s->state == SLOT_DRAINING &&
	       atomic_load(&on_board(s)->state) == BOARD_SLOT_SERVING;
}

bool
slot_is_away(const struct slot *s)
{
	return s->state == SLOT_ACTIVE ? s->silent_ms >= SLOT_SILENT_MS
				       : s->gone_ms >= SLOT_GONE_MS;
}

/* How long the timer still runs; -1: it does not. */
static int64_t
time_left_ms(const struct slot *s)
{
	struct timeval now, left;
	int64_t ms;

	if (!evtimer_pending(s->timer, &left))
		return -1;
	(void)gettimeofday(&now, NULL);
	evutil_timersub(&left, &now, &left);
	ms = (int64_t)left.tv_sec * 1000 + left.tv_usec / 1000;
	return ms > 0 ? ms : 0;
}

/* Whether the timer that runs ends later than that. */
static bool
would_wait_longer(const struct slot *s, int64_t ms)
{
	int64_t left_ms = time_left_ms(s);

	return left_ms < 0 || left_ms > ms;
}

void
slot_drain(struct slot *s, int64_t within_ms)
{
	s->leaving = true;
	switch (s->state) {
	case SLOT_READY:
	case SLOT_ACTIVE:
		send_message(s, IPC_DRAIN, NULL, 0, -1);
		enter(s, SLOT_DRAINING, within_ms);
		break;
	case SLOT_DRAINING:
		if (would_wait_longer(s, within_ms))
			set_timer(s, within_ms);
		break;
	default:
		slot_end(s);
		break;
	}
}

void
slot_close_idle(struct slot *s)
{
	if (s->state == SLOT_DRAINING)
		send_message(s, IPC_CLOSE_IDLE, NULL, 0, -1);
}

void
slot_wake(struct slot *s)
{
	/* Not queued: it reads `state` at its next request anyway. */
	if (s->state == SLOT_ACTIVE && s->nqueue == 0 && s->control >= 0)
		(void)ipc_send(s->control, IPC_WAKE, NULL, 0, -1);
}

void
slot_describe_death(int status, char *out, size_t size)
{
	if (WIFSIGNALED(status))
		(void)snprintf(out, size, "signal %d (%s)%s", WTERMSIG(status),
		    strsignal(WTERMSIG(status)),
		    WCOREDUMP(status) ? ", core dumped" : "");
	else if (WEXITSTATUS(status) == SPAWN_EXEC_FAILED)
		(void)snprintf(out, size, "exit status %d (not executed)",
		    SPAWN_EXEC_FAILED);
	else
		(void)snprintf(
		    out, size, "exit status %d", WEXITSTATUS(status));
}

int64_t
slot_backoff_ms(int64_t last_ms, bool early)
{
	if (!early || last_ms == 0)
		return SLOT_BACKOFF_FIRST_MS;
	return last_ms < SLOT_BACKOFF_MAX_MS / 2 ? last_ms * 2
						 : SLOT_BACKOFF_MAX_MS;
}

/* One line, whether it left as told or not. */
static void
log_obituary(const struct slot *s, int status, bool respawn)
{
	char how[96], next[48] = "";
	double age_s = (double)(clock_mono_us() - s->started_us) / 1e6;

	slot_describe_death(status, how, sizeof(how));
	if (respawn)
		(void)snprintf(next, sizeof(next),
		    "; the next one in %" PRId64 " ms", s->backoff_ms);
	if (s->leaving)
		log_info(WORKER_FMT ": has left with %s after %.1f s",
		    WORKER_ARGS(s), how, age_s);
	else
		log_error(WORKER_FMT ": died%s with %s after %.1f s%s",
		    WORKER_ARGS(s),
		    s->ready_us == 0 ? " before it was ready" : "", how, age_s,
		    next);
}

/* What it said before it died still counts, but for READY. */
static void
read_last_words(struct slot *s)
{
	enum slot_state state = s->state;

	s->state = SLOT_KILLED;
	while (s->control >= 0 && receive(s) == MESSAGES_PER_TURN)
		continue;
	s->state = state;
}

bool
slot_reap(struct slot *s, int status, bool respawn)
{
	bool early = s->ready_us == 0 || clock_mono_us() - s->ready_us <
					     SLOT_EARLY_MS * INT64_C(1000);

	respawn = respawn && !s->leaving;
	if (respawn)
		s->backoff_ms = slot_backoff_ms(s->backoff_ms, early);
	read_last_words(s);
	log_obituary(s, status, respawn);
	if (!s->leaving)
		traffic_add(&s->setup->board->master.worker_deaths, 1);
	hang_up(s);
	s->pid = 0;
	s->silent_ms = s->gone_ms = 0;
	s->setup->ops->lost(s->setup->ctx, s);
	board_slot_reap(s->setup->board, on_board(s));
	enter(s, respawn ? SLOT_WAITING : SLOT_GONE,
	    respawn ? s->backoff_ms : -1);
	return !s->leaving;
}

cJSON *
slot_hand_over(const struct slot *s)
{
	cJSON *row = cJSON_CreateObject();

	handover_put_number(row, "worker", s->worker);
	handover_put_number(row, "slot", s->board_index);
	handover_put_number(row, "pid", s->pid);
	handover_put_number(row, "state", s->pid > 0 ? s->state : SLOT_GONE);
	handover_put_number(row, "left_ms", time_left_ms(s));
	handover_put_number(row, "started_us", s->started_us);
	handover_put_number(row, "ready_us", s->ready_us);
	handover_put_fd(row, "control", s->control);
	(void)cJSON_AddBoolToObject(row, "leaving", s->leaving);
	return row;
}

struct slot *
slot_inherit(const struct slot_setup *setup, const cJSON *row)
{
	struct slot *s =
	    slot_new(setup, (unsigned)handover_number(row, "worker"),
		(unsigned)handover_number(row, "slot"));
	int control = handover_take_fd(row, "control");

	s->pid = (pid_t)handover_number(row, "pid");
	s->started_us = handover_number(row, "started_us");
	s->ready_us = handover_number(row, "ready_us");
	s->leaving = cJSON_IsTrue(cJSON_GetObjectItem(row, "leaving"));
	if (control >= 0)
		listen_to(s, control);
	enter(s, (enum slot_state)handover_number(row, "state"),
	    handover_number(row, "left_ms"));
	if (s->state != SLOT_DRAINING)
		return s;
	/* It may have been left in the queue; to hear it twice is nothing. */
	send_message(s, IPC_DRAIN, NULL, 0, -1);
	atomic_store(&on_board(s)->state, BOARD_SLOT_DRAINING);
	return s;
}

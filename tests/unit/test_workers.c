/* SPDX-License-Identifier: MIT */
/*
 * The workers of these tests are this very program: started with the
 * arguments of a worker it plays one, in the way that the environment says.
 */
#include "master/workers.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/alloc.h"
#include "common/handoff.h"
#include "common/log.h"
#include "tests/unit/scratch.h"

#define ROLE "FAIRLEAD_TEST_ROLE"
#define BOOT "11111111-2222-3333-4444-555555555555"

enum { NWORKERS = 2, LOOP_S = 20 };

/* ---- the part of the worker */

/* Whether every descriptor is one of the contract. */
static bool
descriptors_are_as_agreed(int listeners)
{
	DIR *dir = opendir("/proc/self/fd");
	const struct dirent *entry;
	bool ok = dir != NULL;
	int fd;

	while (ok && (entry = readdir(dir)) != NULL) {
		fd = atoi(entry->d_name);
		ok = fd < HANDOFF_LISTEN + listeners || fd == dirfd(dir);
	}
	if (dir != NULL)
		(void)closedir(dir);
	return ok;
}

static bool
snapshot_is_sealed(void)
{
	return fcntl(HANDOFF_CONFIG, F_GET_SEALS) ==
		   (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) &&
	       lseek(HANDOFF_CONFIG, 0, SEEK_CUR) == 0;
}

static bool
takes_signals_as_it_should(void)
{
	struct sigaction hup, term;
	sigset_t blocked;

	return sigaction(SIGHUP, NULL, &hup) == 0 &&
	       hup.sa_handler == SIG_IGN &&
	       sigaction(SIGTERM, NULL, &term) == 0 &&
	       term.sa_handler == SIG_DFL &&
	       sigprocmask(SIG_BLOCK, NULL, &blocked) == 0 &&
	       sigismember(&blocked, SIGTERM) == 0;
}

/* Obeys until it is told to drain; its exit status. */
static int
serve(void)
{
	struct pollfd p = { HANDOFF_CONTROL, POLLIN, 0 };
	struct ipc_message m;
	unsigned adopted = 0, logs = 0;
	int rc;

	for (;;) {
		rc = ipc_receive(HANDOFF_CONTROL, &m);
		if (rc == -EAGAIN)
			(void)poll(&p, 1, -1);
		else if (rc != 0)
			return 0;
		else if (m.header.type == IPC_ADOPT)
			adopted++;
		else if (m.header.type == IPC_LOG_FD)
			logs++;
		else if (m.header.type == IPC_START &&
			 (adopted != 1 || logs != 3))
			return 6;
		else if (m.header.type == IPC_DRAIN)
			return 0;
	}
}

static int
play_worker(char **argv)
{
	const char *role = getenv(ROLE);
	const struct ipc_result result = { .credential = 7 };

	if (!descriptors_are_as_agreed(atoi(argv[HANDOFF_ARG_LISTENERS])))
		return 3;
	if (!snapshot_is_sealed())
		return 4;
	if (!takes_signals_as_it_should())
		return 5;
	if (strcmp(role, "fails") == 0)
		return 1;
	(void)ipc_send(HANDOFF_CONTROL, IPC_READY, NULL, 0, -1);
	if (strcmp(role, "reports and dies") == 0) {
		(void)ipc_send(
		    HANDOFF_CONTROL, IPC_RESULT, &result, sizeof(result), -1);
		return 1;
	}
	if (strcmp(role, "ignores DRAIN") == 0)
		for (;;)
			(void)pause();
	return serve();
}

/* ---- the part of the master */

struct stage {
	struct scratch scratch;
	struct event_base *base;
	struct event *child, *late;
	struct board *board;
	struct config *config;
	struct listen_set *listeners;
	struct logfile *logs;
	struct workers *workers;
	unsigned ready, failed, died, results;
	bool empty, timed_out;
	bool (*until)(struct stage *st);
};

/* The loop ends with the event that makes the condition true. */
static void
look(struct stage *st)
{
	if (st->until != NULL && st->until(st))
		(void)event_base_loopbreak(st->base);
}

static void
on_ready(void *ctx)
{
	struct stage *st = ctx;

	st->ready++;
	look(st);
}

static void
on_failed(void *ctx, const char *why)
{
	struct stage *st = ctx;

	assert_true(strlen(why) > 0);
	st->failed++;
	workers_abandon(st->workers);
	look(st);
}

static void
on_died(void *ctx)
{
	struct stage *st = ctx;

	st->died++;
	look(st);
}

static void
on_empty(void *ctx)
{
	struct stage *st = ctx;

	st->empty = true;
	look(st);
}

static void
on_result(void *ctx, const struct ipc_result *result)
{
	struct stage *st = ctx;

	assert_int_equal(result->credential, 7);
	st->results++;
}

static void
on_need_refresh(void *ctx UNUSED, const struct ipc_refresh *r UNUSED)
{
}

static const struct workers_ops ops = { on_ready, on_failed, on_died, on_empty,
	on_result, on_need_refresh, NULL, NULL };

static void
on_child(evutil_socket_t number UNUSED, short what UNUSED, void *arg)
{
	struct stage *st = arg;

	workers_reap(st->workers);
}

static void
on_late(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	struct stage *st = arg;

	st->timed_out = true;
	(void)event_base_loopbreak(st->base);
}

static void
run_until(struct stage *st, bool (*until)(struct stage *st))
{
	const struct timeval limit = { LOOP_S, 0 };

	st->until = until;
	if (until(st))
		return;
	(void)evtimer_add(st->late, &limit);
	(void)event_base_dispatch(st->base);
	(void)evtimer_del(st->late);
	st->until = NULL;
	assert_false(st->timed_out);
}

static struct config *
make_config(const struct scratch *s)
{
	AUTO_FREE char *path = xasprintf("%s/conf", s->dir);
	struct config_report report;
	struct config *config = NULL;
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	(void)fprintf(file,
	    "listen = [\"unix:%s/api.sock\"]; admin-listen = \"\";"
	    "allow-anonymous = true; workers = %d;"
	    "limits = { drain-timeout = \"1s\"; };"
	    "state-dir = \"%s\"; runtime-dir = \"%s\";",
	    s->dir, NWORKERS, s->dir, s->dir);
	(void)fclose(file);
	config_report_init(&report);
	if (config_load(path, &config, &report) < 0)
		fail_msg("%s", buf_string(&report.errors));
	config_report_fini(&report);
	return config;
}

static void
stage_make(struct stage *st)
{
	struct buf why = BUF_INIT(4096);
	int program = open("/proc/self/exe", O_PATH | O_CLOEXEC);

	memset(st, 0, sizeof(*st));
	scratch_make(&st->scratch);
	st->config = make_config(&st->scratch);
	st->base = event_base_new();
	st->child = evsignal_new(st->base, SIGCHLD, on_child, st);
	st->late = evtimer_new(st->base, on_late, st);
	(void)event_add(st->child, NULL);
	assert_int_equal(
	    board_open_master(st->scratch.dir, BOOT, &st->board), BOARD_MADE);
	assert_int_equal(
	    listen_open(st->config, NULL, false, &st->listeners, &why), 0);
	assert_int_equal(logfile_open(st->config, true, &st->logs, &why), 0);
	st->workers = workers_new(st->base, st->board, program, &ops, st);
	buf_fini(&why);
}

static bool
is_empty(struct stage *st)
{
	return st->empty;
}

static void
stage_end(struct stage *st)
{
	workers_stop(st->workers);
	run_until(st, is_empty);
	workers_free(st->workers);
	logfile_close(st->logs);
	listen_close(st->listeners);
	board_close(st->board);
	event_free(st->child);
	event_free(st->late);
	event_base_free(st->base);
	config_free(st->config);
	scratch_remove(&st->scratch);
}

static void
prepare(struct stage *st, uint64_t generation, const char *role)
{
	struct buf why = BUF_INIT(4096);

	assert_int_equal(setenv(ROLE, role, 1), 0);
	assert_int_equal(workers_prepare(st->workers, generation, st->config,
			     st->listeners, st->logs, &why),
	    0);
	buf_fini(&why);
}

struct tally {
	unsigned states[SLOT_STATES];
	uint64_t generation; /* of those that are ACTIVE */
	pid_t pid;           /* of one that is ACTIVE */
};

static void
tally_slot(void *ctx, const struct slot *slot, uint64_t generation)
{
	struct tally *t = ctx;

	t->states[slot_state(slot)]++;
	if (slot_state(slot) == SLOT_ACTIVE) {
		t->generation = generation;
		t->pid = slot_pid(slot);
	}
}

static struct tally
tally(struct stage *st)
{
	struct tally t = { 0 };

	workers_each(st->workers, tally_slot, &t);
	return t;
}

static bool
one_is_ready(struct stage *st)
{
	return st->ready > 0;
}

static void
serve_generation(struct stage *st, uint64_t generation, const char *role)
{
	st->ready = 0;
	prepare(st, generation, role);
	run_until(st, one_is_ready);
	workers_commit(st->workers);
}

static void
a_generation_starts_serves_and_drains(void **state UNUSED)
{
	struct stage st;
	struct tally t;

	stage_make(&st);
	serve_generation(&st, 1, "serves");
	t = tally(&st);
	assert_int_equal(t.states[SLOT_ACTIVE], NWORKERS);
	assert_int_equal(
	    atomic_load(&st.board->slots[0].state), BOARD_SLOT_SERVING);
	assert_int_equal(atomic_load(&st.board->slots[1].generation), 1);
	workers_drain(st.workers);
	run_until(&st, is_empty);
	assert_int_equal(
	    atomic_load(&st.board->slots[0].state), BOARD_SLOT_FREE);
	assert_int_equal(workers_deaths(st.workers), 0);
	stage_end(&st);
}

static bool
one_has_failed(struct stage *st)
{
	return st->failed > 0;
}

static bool
all_have_died(struct stage *st)
{
	return st->died >= NWORKERS;
}

static void
a_candidate_that_fails_leaves_the_others_serving(void **state UNUSED)
{
	struct stage st;
	struct tally t;

	stage_make(&st);
	serve_generation(&st, 1, "serves");
	prepare(&st, 2, "fails");
	run_until(&st, one_has_failed);
	run_until(&st, all_have_died);
	assert_int_equal(st.failed, 1);
	t = tally(&st);
	assert_int_equal(t.states[SLOT_ACTIVE], NWORKERS);
	assert_int_equal(t.generation, 1);
	stage_end(&st);
}

static void
a_new_generation_takes_the_place_of_the_old(void **state UNUSED)
{
	struct stage st;

	stage_make(&st);
	serve_generation(&st, 1, "serves");
	serve_generation(&st, 2, "serves");
	assert_true(workers_have_leftovers(st.workers));
	run_until(&st, all_have_died);
	assert_int_equal(tally(&st).generation, 2);
	assert_int_equal(workers_deaths(st.workers), 0);
	stage_end(&st);
}

static bool
one_was_replaced(struct stage *st)
{
	return st->died > 0 && tally(st).states[SLOT_ACTIVE] == NWORKERS;
}

static void
on_poll(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	look(arg);
}

static void
a_worker_that_is_killed_is_replaced(void **state UNUSED)
{
	const struct timeval often = { 0, 5000 };
	struct stage st;
	struct event *poller;

	stage_make(&st);
	poller = event_new(st.base, -1, EV_PERSIST, on_poll, &st);
	(void)event_add(poller, &often);
	serve_generation(&st, 1, "serves");
	assert_int_equal(kill(tally(&st).pid, SIGKILL), 0);
	run_until(&st, one_was_replaced);
	assert_int_equal(workers_deaths(st.workers), 1);
	event_free(poller);
	stage_end(&st);
}

static void
last_words_of_a_dead_worker_are_heard(void **state UNUSED)
{
	struct stage st;

	stage_make(&st);
	prepare(&st, 1, "reports and dies");
	run_until(&st, all_have_died);
	/* The second may have been told to go before it could speak. */
	assert_true(st.results >= 1);
	stage_end(&st);
}

/* drain-timeout is 1 s here: then TERM, which it does not ignore. */
static void
a_worker_that_does_not_drain_is_ended(void **state UNUSED)
{
	struct stage st;

	stage_make(&st);
	serve_generation(&st, 1, "ignores DRAIN");
	workers_drain(st.workers);
	run_until(&st, is_empty);
	assert_int_equal(st.died, NWORKERS);
	stage_end(&st);
}

static void
slots_of_dead_strangers_are_freed(void **state UNUSED)
{
	struct stage st;
	struct board_slot *slot;
	pid_t pid;

	stage_make(&st);
	pid = fork();
	if (pid == 0)
		_exit(0);
	assert_int_equal(child_wait(pid), 0);
	assert_int_equal(board_slot_claim(st.board, 3), 0);
	slot = &st.board->slots[3];
	atomic_store(&slot->state, BOARD_SLOT_SERVING);
	atomic_store(&slot->pid, getpid());
	assert_true(workers_reap_strangers(st.workers));
	assert_true(workers_know_pid(st.workers, getpid()));
	atomic_store(&slot->pid, pid);
	assert_false(workers_reap_strangers(st.workers));
	assert_int_equal(atomic_load(&slot->state), BOARD_SLOT_FREE);
	stage_end(&st);
}

static void
backoff_doubles_only_for_early_deaths(void **state UNUSED)
{
	const int64_t wanted[] = { 100, 200, 400, 800, 1600, 3200, 6400, 12800,
		25600, 30000, 30000 };
	int64_t ms = 0;
	size_t i;

	for (i = 0; i < ARRAY_LEN(wanted); i++) {
		ms = slot_backoff_ms(ms, true);
		assert_int_equal(ms, wanted[i]);
	}
	assert_int_equal(slot_backoff_ms(ms, false), SLOT_BACKOFF_FIRST_MS);
	assert_int_equal(slot_backoff_ms(0, false), SLOT_BACKOFF_FIRST_MS);
}

static void
states_have_names(void **state UNUSED)
{
	size_t i;

	for (i = 0; i < SLOT_STATES; i++)
		assert_true(strlen(slot_state_names[i]) > 0);
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_generation_starts_serves_and_drains),
		cmocka_unit_test(
		    a_candidate_that_fails_leaves_the_others_serving),
		cmocka_unit_test(a_new_generation_takes_the_place_of_the_old),
		cmocka_unit_test(a_worker_that_is_killed_is_replaced),
		cmocka_unit_test(last_words_of_a_dead_worker_are_heard),
		cmocka_unit_test(a_worker_that_does_not_drain_is_ended),
		cmocka_unit_test(slots_of_dead_strangers_are_freed),
		cmocka_unit_test(backoff_doubles_only_for_early_deaths),
		cmocka_unit_test(states_have_names),
	};

	if (argc == HANDOFF_ARG_COUNT)
		return play_worker(argv);
	log_to_fd(open("/dev/null", O_WRONLY | O_CLOEXEC));
	return cmocka_run_group_tests(tests, NULL, NULL);
}

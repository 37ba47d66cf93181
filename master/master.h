/* SPDX-License-Identifier: MIT */
/*
 * The master process: everything it owns, in the order it is set up, and what
 * signals and the control socket ask of it. It parses no byte of a client or
 * of an answer.
 */
#ifndef FL_MASTER_MASTER_H
#define FL_MASTER_MASTER_H

#include <stdbool.h>
#include <stdint.h>

#include <cjson/cJSON.h>
#include <event2/event.h>

#include "common/board.h"
#include "common/config.h"
#include "common/proxy.h"
#include "common/store.h"
#include "master/listen.h"
#include "master/logfile.h"
#include "master/options.h"

struct control;
struct discover;
struct fetcher;
struct janitor;
struct observer;
struct ledger;
struct refresher;
struct registry;
struct reload;
struct signals;
struct upgrade;
struct usage;
struct watch;
struct workers;
struct workers_ops;

enum master_state {
	MASTER_STARTING, /* the first generation is not ready */
	MASTER_SERVING,
	MASTER_DRAINING, /* told to QUIT: ends with the last worker */
	MASTER_STOPPING  /* told to TERM: ends in WORKERS_STOP_MS at most */
};

struct master {
	const struct options *options;
	const char *warnings; /* of the configuration at start, for the log */
	cJSON *handover;      /* of the program before, until this one serves;
			       * NULL for a start like any other */
	enum master_state state;
	int exit_status;
	int64_t started_ms; /* clock_now_ms() */

	struct config *config; /* that serves; NULL before the first */
	struct logfile *logs;  /* likewise; the start has them at once */
	struct listen_set *listeners;
	uint64_t generation; /* that serves, or did last time */

	int state_lock, runtime_lock;
	int ready;     /* pipe to the process that waits, or -1 */
	char *failure; /* of the start, for that process */
	char *pid_path;
	char boot_id[37];
	struct proxy_env proxy_env;

	struct event_base *base;
	struct store store_state;
	struct store store_bindings;
	struct store store_ledger; /* of the thread, see ledger.h */
	struct ledger *ledger;
	struct usage *usage;
	struct board *board;
	struct fetcher *fetcher;
	struct registry *registry;
	struct discover *discover;
	struct refresher *refresher;
	struct watch *watch;
	struct workers *workers;
	struct reload *reload;
	struct janitor *janitor;
	struct observer *observer;
	struct control *control;
	struct signals *signals;
	struct upgrade *upgrade;
};

/*
 * Starts with a configuration, which it frees, and runs until told to end.
 * warnings: what was said of the configuration, for the log. handover: what
 * the program before has left, which it frees, or NULL; with it config may be
 * NULL, when it cannot be used and warnings says why. The exit status;
 * whatever was wrong has been said.
 */
int master_run(const struct options *options, struct config *config,
    const char *warnings, cJSON *handover);

/* What the signals do; fairleadctl has a verb for each. */
void master_reload(struct master *m);
void master_reopen(struct master *m);
void master_drain(struct master *m);
void master_stop(struct master *m);
void master_upgrade(struct master *m);
void master_reap(struct master *m);

/* What the workers and the registry tell; ctx is the master. */
extern const struct workers_ops master_workers_ops;
void master_published(void *ctx);

/* Reopens the log files. 0, or -errno with the reason in why. */
int master_reopen_logs(struct master *m, struct buf *why);

/* The first generation serves, or never will, and why. */
void master_started(struct master *m);
void master_start_failed(struct master *m, const char *why);

/* The level of the configuration, and one more for every -v. */
void
master_set_level(const struct options *options, const struct config *config);

const char *master_state_name(enum master_state state);

#endif

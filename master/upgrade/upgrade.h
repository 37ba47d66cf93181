/* SPDX-License-Identifier: MIT */
/*
 * The upgrade in place: the master's program is replaced by execve(2), in the
 * same process, with the same children, listening sockets, locks, board and
 * control socket. What the new program then does is a start that ends in an
 * ordinary commit: its own workers take over and the old ones drain.
 *
 * Before, the new program is asked in a child whether it fits and whether it
 * likes the configuration. After, as long as its workers do not serve, any
 * failure executes the old program again, which starts workers of its own and
 * tells what was wrong.
 */
#ifndef FL_MASTER_UPGRADE_UPGRADE_H
#define FL_MASTER_UPGRADE_UPGRADE_H

#include <sys/types.h>

#include <cjson/cJSON.h>

#include "common/attr.h"
#include "common/buf.h"

struct master;
struct upgrade;

/* For the master, once everything else of it is set up. */
struct upgrade *upgrade_new(struct master *master);
void upgrade_free(struct upgrade *upgrade);

/*
 * Begins one. 0: control_upgraded() tells the outcome, here or in the next
 * program; or -EBUSY with the reason, and nothing has happened.
 */
int upgrade_begin(struct upgrade *upgrade, struct buf *why) MUST_CHECK;

/* Gives up what is not past the exec: the daemon is ending. */
void upgrade_abort(struct upgrade *upgrade);

/* A child that is no worker has ended. */
void upgrade_child_ended(struct upgrade *upgrade, pid_t pid, int wait_status);

/* After an exec: the first generation serves. */
void upgrade_served(struct master *master);

/*
 * After an exec: it will never serve. Executes the program before, if there
 * is one; returns if there is none or that fails.
 */
void upgrade_go_back(struct master *master, const char *why);

#endif

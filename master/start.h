/* SPDX-License-Identifier: MIT */
/*
 * From nothing to a master that lacks only its workers, step by step, and
 * back. The first lock is taken before anything is touched that could be
 * another daemon's.
 */
#ifndef FL_MASTER_START_H
#define FL_MASTER_START_H

#include <cjson/cJSON.h>

#include "common/attr.h"
#include "common/buf.h"
#include "common/config.h"

struct master;

/*
 * Sets up everything but the workers; goes into the background on the way.
 * 0, or -errno with the reason in why. Either way start_tear_down() follows.
 */
int start_set_up(
    struct master *m, const struct config *config, struct buf *why) MUST_CHECK;

/*
 * For an upgrade in place: describes locks, directories and start; and ends
 * what must not be cut off by an exec, the thread of the ledger and the
 * databases. Nothing but the exec can follow.
 */
void start_hand_over(const struct master *m, cJSON *into);
void start_quiesce(struct master *m);

/*
 * In the order that nothing is used after it is gone. Whoever waits for the
 * end, or for the outcome of a start that failed, hears of it last: then the
 * next daemon can start.
 */
void start_tear_down(struct master *m);

#endif

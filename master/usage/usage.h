/* SPDX-License-Identifier: MIT */
/*
 * The usage file as the master sees it: what is folded into the totals, when
 * the spool is rotated, and the records of workers that died.
 *
 * A file is the one in use until another takes its place, and is followed
 * until no process writes to it any more and all of it is folded. Who still
 * writes where is told by epochs: each file that comes into use has a larger
 * one, LOG_FD carries it, and a worker notes it on its slot of the board when
 * it has let go of the file before (fairlead-internals(7), "Usage records").
 */
#ifndef FL_MASTER_USAGE_USAGE_H
#define FL_MASTER_USAGE_USAGE_H

#include <stdbool.h>

#include <cjson/cJSON.h>

#include "common/attr.h"
#include "common/board.h"
#include "master/logfile.h"

struct master;
struct usage;

enum {
	USAGE_SPOOL_MAX = 4 << 20 /* bytes, and then it is rotated */
};

/*
 * Takes up the spools in state-dir that an earlier master left, and the usage
 * file that is open. Of the master it uses base, board, ledger, logs and
 * workers.
 */
struct usage *usage_new(struct master *master, const char *state_dir);

/* Folds what there is, for the last time; before ledger_stop(). */
void usage_finish(struct usage *usage);

/* After ledger_stop(). */
void usage_free(struct usage *usage);

/* The usage file of these logs is the one in use from now on. */
void usage_follow(struct usage *usage, struct logfile *logs);

/*
 * The process of that slot is dead: writes a record for each of its attempts
 * in flight, unless the record is there already.
 */
void usage_bury(struct usage *usage, struct board_slot *slot);

/* The rows of a report, or NULL with rc, negative errno. */
typedef void usage_report_fn(void *ctx, cJSON *rows, int rc);

/*
 * Reports the totals of all records that are written by now; fn owns the
 * rows. by and since as for totals_report().
 */
void usage_report(struct usage *usage, unsigned by, const char *since,
    usage_report_fn *fn, void *ctx);

#endif

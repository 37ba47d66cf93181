/* SPDX-License-Identifier: MIT */
/*
 * The answer to /status.json: the figures of fairleadctl's status, from the
 * board and the stores, with what the page draws beside them: samples of the
 * last quarter of an hour, the last failures and the last moves. The schema is
 * in fairleadctl(8).
 */
#ifndef FL_WORKER_ADMIN_STATUS_H
#define FL_WORKER_ADMIN_STATUS_H

#include "common/buf.h"
#include "worker/worker.h"

void status_write(struct worker *w, struct buf *b);

#endif

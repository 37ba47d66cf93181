/* SPDX-License-Identifier: MIT */
/*
 * The answer to /metrics: Prometheus' text format 0.0.4, from the board and
 * the stores. Every worker tells the figures of the whole daemon. What each
 * means is in fairlead-metrics(7).
 */
#ifndef FL_WORKER_ADMIN_METRICS_H
#define FL_WORKER_ADMIN_METRICS_H

#include "common/buf.h"
#include "worker/worker.h"

/* Appends to b, which fails when it is full. */
void metrics_write(struct worker *w, struct buf *b);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Runs a program to hear what it says: its output is collected, its time is
 * bounded, and its end is told from the event loop.
 */
#ifndef FL_MASTER_UPGRADE_PROBE_H
#define FL_MASTER_UPGRADE_PROBE_H

#include <sys/types.h>

#include <event2/event.h>

#include "common/attr.h"

struct probe;

enum { PROBE_TIMEOUT_MS = 15000, PROBE_OUTPUT_MAX = 64 * 1024 };

/*
 * status: what it ended with, 0 for well, -1 if it was killed or could not be
 * executed. text: its output and errors. The callback may free the probe.
 */
typedef void probe_fn(void *ctx, int status, const char *text);

/*
 * Runs argv[0]. 0 and *out, and fn is called once, unless it is freed before;
 * or negative errno.
 */
int probe_start(struct event_base *base, char *const *argv, probe_fn *fn,
    void *ctx, struct probe **out) MUST_CHECK;

/* Whoever collects children says so of each; others than its own it ignores. */
void probe_child_ended(struct probe *probe, pid_t pid, int wait_status);

/* Kills it if it still runs. NULL is allowed. */
void probe_free(struct probe *probe);

#endif

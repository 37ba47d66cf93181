/* SPDX-License-Identifier: MIT */
/*
 * Keeps the last quarter of an hour on the board, for the status page: a
 * sample of the counters every CHRONICLE_STEP_MS, and with it how many
 * sessions each credential holds, where that is quickly counted.
 */
#ifndef FL_MASTER_OBSERVER_H
#define FL_MASTER_OBSERVER_H

struct master;
struct observer;

/* Takes its first sample at once. */
struct observer *observer_new(struct master *master);
void observer_free(struct observer *observer);

#endif

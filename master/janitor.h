/* SPDX-License-Identifier: MIT */
/*
 * What has to be done from time to time: readers of dead processes, expired
 * bindings, a lock that its holder sits on, the time that `state` remembers.
 * Every step is short; none waits for anybody.
 */
#ifndef FL_MASTER_JANITOR_H
#define FL_MASTER_JANITOR_H

struct master;
struct janitor;

/* Works once a second from now on. */
struct janitor *janitor_new(struct master *master);
void janitor_free(struct janitor *janitor);

/* One round of it, now. */
void janitor_tick(struct janitor *janitor);

/* Writes down what time it is: also at the very end. */
void janitor_keep_time(struct master *master);

#endif

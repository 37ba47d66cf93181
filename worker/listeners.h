/* SPDX-License-Identifier: MIT */
/*
 * The listening sockets of all workers, which every worker holds and the
 * master owns; this one polls those that it was told to.
 */
#ifndef FL_WORKER_LISTENERS_H
#define FL_WORKER_LISTENERS_H

#include <stdint.h>

#include "worker/worker.h"

/* n sockets from HANDOFF_LISTEN on. */
struct listeners *listeners_new(struct worker *w, unsigned n);
void listeners_free(struct listeners *ls);

/*
 * Marks a socket as ours to poll, or not; takes effect at once if accepting.
 * The role is an enum ipc_listener_role.
 */
void listeners_adopt(struct listeners *ls, uint32_t index, uint32_t role);
void listeners_release(struct listeners *ls, uint32_t index);

/* Takes every socket for its own, for the stop of a worker without a master. */
void listeners_adopt_all(struct listeners *ls);

/* Accepts from now on. */
void listeners_start(struct listeners *ls);

/*
 * Empties the accept queues of what it polls, then closes every socket, its
 * own or not. For good, and idempotent.
 */
void listeners_stop(struct listeners *ls);

#endif

/* SPDX-License-Identifier: MIT */
/* The worker's end of the socket to the master. */
#ifndef FL_WORKER_CONTROL_H
#define FL_WORKER_CONTROL_H

#include "common/ipc.h"
#include "worker/worker.h"

struct control;

struct control *control_new(struct worker *w);
void control_free(struct control *c);

void control_send_ready(struct worker *w);
void control_send_drained(struct worker *w);

/*
 * Tells the master of an outcome. It may be lost when the socket is full:
 * what the next pick needs stands on the board already.
 */
void control_send_result(struct worker *w, const struct ipc_result *result);

/* Asks the master for a new token. It may be lost likewise. */
void
control_send_need_refresh(struct worker *w, const struct ipc_refresh *refresh);

#endif

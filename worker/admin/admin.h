/* SPDX-License-Identifier: MIT */
/*
 * What is served on admin-listen: the pages of one table, to who may see them.
 */
#ifndef FL_WORKER_ADMIN_ADMIN_H
#define FL_WORKER_ADMIN_ADMIN_H

#include "worker/client/exchange.h"

/*
 * Answers a request whose head is there; ends the exchange. Without admin-key
 * the listener is this machine's own, and the Host must be an address or
 * "localhost": a name that leads here may be a web page's attempt to read us
 * through its visitor. With admin-key: as a Bearer, or as the password of
 * Basic, which is what a browser asks for.
 */
void admin_serve(struct exchange *x);

#endif

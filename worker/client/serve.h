/* SPDX-License-Identifier: MIT */
/*
 * What is done with a request at two moments: when its head is there (is it
 * let in?) and when all of it is there (who answers?). One table by kind of
 * route; the relay is one row of it.
 */
#ifndef FL_WORKER_CLIENT_SERVE_H
#define FL_WORKER_CLIENT_SERVE_H

#include "worker/client/exchange.h"

enum serve_result {
	SERVE_BODY,    /* let in: read the body, then call serve_request() */
	SERVE_ANSWERED /* refused, and answered; the body is not wanted */
};

/* Routes and authenticates. Nothing of the body is read before it. */
enum serve_result serve_head(struct exchange *x);

/* Answers a request whose body is complete (or has none). */
void serve_request(struct exchange *x);

#endif

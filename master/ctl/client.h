/* SPDX-License-Identifier: MIT */
/* The other end of the control socket: one request, one answer. */
#ifndef FL_MASTER_CTL_CLIENT_H
#define FL_MASTER_CTL_CLIENT_H

#include <stddef.h>

#include <cjson/cJSON.h>

#include "common/attr.h"
#include "common/buf.h"

enum {
	CLIENT_NOT_RUNNING = 1, /* nobody listens there */
	CLIENT_NO_ANSWER = 2    /* it did, and said nothing that is one */
};

/*
 * Asks and waits for the answer, timeout_s at most. 0 with the answer as it
 * came in text and parsed in *answer, which the caller deletes;
 * CLIENT_NOT_RUNNING; CLIENT_NO_ANSWER; or negative errno.
 */
int client_ask(const char *path, const char *verb, char *const *args,
    size_t nargs, int timeout_s, struct buf *text, cJSON **answer) MUST_CHECK;

#endif

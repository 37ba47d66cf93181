/* SPDX-License-Identifier: MIT */
/*
 * Where every request ends once, whoever answered it: its counters, and its
 * line in the access log.
 */
#ifndef FL_WORKER_CLIENT_ACCOUNT_H
#define FL_WORKER_CLIENT_ACCOUNT_H

#include "worker/client/access_log.h"

/* Before the exchange ends. Probes and our own pages are not accounted. */
void account_request(struct exchange *x, const struct access_line *line);

#endif

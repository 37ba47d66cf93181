/* SPDX-License-Identifier: MIT */
/*
 * Request ids: unique over workers and restarts without asking anybody. A
 * random part per process, then a counter.
 */
#ifndef FL_WORKER_CLIENT_REQUEST_ID_H
#define FL_WORKER_CLIENT_REQUEST_ID_H

#include "worker/client/exchange.h"

void request_id_make(char id[REQUEST_ID_LEN + 1]);

#endif

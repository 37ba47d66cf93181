/* SPDX-License-Identifier: MIT */
/*
 * The lists of models, in the shape of the client's dialect, from the
 * published routes. Each call ends the exchange and writes its access line.
 */
#ifndef FL_WORKER_CLIENT_MODELS_LIST_H
#define FL_WORKER_CLIENT_MODELS_LIST_H

#include "worker/client/exchange.h"

/* All of them. */
void models_list(struct exchange *x);

/* The one that the path names; 404 for a model nobody serves. */
void models_list_one(struct exchange *x);

#endif

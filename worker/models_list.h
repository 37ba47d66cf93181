/* SPDX-License-Identifier: MIT */
/*
 * The lists of models, in the shapes of OpenAI, Claude and Gemini, from the
 * published routes. Each call ends the exchange and writes its access line.
 */
#ifndef FL_WORKER_MODELS_LIST_H
#define FL_WORKER_MODELS_LIST_H

#include "worker/exchange.h"

/* GET /v1/models: Claude's shape for Claude's clients, else OpenAI's. */
void models_list_openai(struct exchange *x);

/* GET /v1beta/models */
void models_list_gemini(struct exchange *x);

/* GET /v1beta/models/{id}; 404 for a model nobody serves. */
void models_list_gemini_one(struct exchange *x);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Answers for a daemon that does not run: what its databases say of its
 * credentials, models and sessions. What only a running daemon knows, like
 * workers and counts of requests, is null.
 */
#ifndef FL_MASTER_CTL_STOPPED_H
#define FL_MASTER_CTL_STOPPED_H

#include <stdbool.h>

#include <cjson/cJSON.h>

#include "common/buf.h"

/* Whether there is an answer to that verb without a daemon. */
bool stopped_knows(const char *verb);

/* The caller's; NULL with the reason in why. */
cJSON *stopped_answer(const char *state_dir, const char *verb, struct buf *why);

#endif

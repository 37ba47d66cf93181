/* SPDX-License-Identifier: MIT */
/*
 * Usage records of a worker: one line per attempt, in one write(2), whose end
 * the board knows of, so that a worker that dies meanwhile leaves one record
 * and not two. No secret comes here: a client is told by a part of its key's
 * digest, a session by the short form of its id.
 */
#ifndef FL_WORKER_RELAY_USAGE_H
#define FL_WORKER_RELAY_USAGE_H

#include "common/usage_line.h"
#include "worker/relay/attempt.h"

/*
 * Writes the record of an attempt that has ended, and counts its tokens;
 * attempt_end() comes next. A record that cannot be written is counted, and
 * the first in a row is logged.
 */
void usage_write(struct attempt *a, const struct usage_end *end);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Delays as providers write them: "12", "12.5", "36.5s", "373.8ms", "1h2m3s",
 * alone or within a sentence for people.
 */
#ifndef FL_WORKER_DIALECT_DELAY_H
#define FL_WORKER_DIALECT_DELAY_H

#include <stdint.h>

#include "common/str.h"

enum { DELAY_NONE = -1 };

/* Nobody waits for longer, and sums of two do not overflow. */
#define DELAY_MAX_MS (INT64_MAX / 4)

/*
 * Milliseconds, rounded up; a number without a unit is seconds. DELAY_NONE
 * for anything else.
 */
int64_t delay_read(struct span text);

/*
 * The delay that a sentence asks for: "quota resets after 1h2m3s", "try again
 * in 20s", "retry in 7.5s". It must bear a unit. DELAY_NONE if it asks for
 * none.
 */
int64_t delay_in_text(struct span text);

#endif

/* SPDX-License-Identifier: MIT */
/* Points in time as the tools that write credential files spell them. */
#ifndef FL_MASTER_CREDENTIAL_TIME_TEXT_H
#define FL_MASTER_CREDENTIAL_TIME_TEXT_H

#include <stdint.h>

#include "common/attr.h"

/*
 * RFC 3339 (any offset, any fraction), "YYYY-MM-DD HH:MM[:SS]" in UTC, or a
 * whole number of seconds since the epoch, of milliseconds when it is above
 * 1e12. Unix milliseconds in *ms; 0 for a number that is not positive. 0 or
 * -EINVAL.
 */
int time_from_text(const char *text, int64_t *ms) MUST_CHECK;

/* The same for a number. */
int64_t time_from_number(double number);

#endif

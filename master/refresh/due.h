/* SPDX-License-Identifier: MIT */
/* When a token is refreshed before it expires. Pure. */
#ifndef FL_MASTER_REFRESH_DUE_H
#define FL_MASTER_REFRESH_DUE_H

#include <stdint.h>

enum { REFRESH_JITTER_MAX = 1000 };

#define REFRESH_NEVER INT64_MAX

/* All times are Unix milliseconds, 0: not known. */
struct refresh_times {
	int64_t now_ms;
	int64_t expires_ms;
	int64_t last_ms;     /* when it was refreshed last */
	int64_t interval_ms; /* how often its file asks for; 0: not said */
	int64_t lead_ms;     /* before it expires; 0: only once it has */
	unsigned jitter;     /* of REFRESH_JITTER_MAX: a tenth of the lead */
};

/*
 * The time of the next refresh, never before now. No lead is longer than half
 * of the lifetime that was observed, or a token that lives as long as its
 * lead would always be due. Without any time to go by it is due now.
 */
int64_t refresh_due(const struct refresh_times *t);

#endif

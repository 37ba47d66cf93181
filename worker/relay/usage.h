/* SPDX-License-Identifier: MIT */
/*
 * Usage records: one JSON line per upstream attempt, in one write(2), with
 * the members of fairlead-internals(7), "Usage records". No secret comes
 * here: a client is told by a part of its key's digest, a session by the
 * short form of its id.
 */
#ifndef FL_WORKER_RELAY_USAGE_H
#define FL_WORKER_RELAY_USAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/tokens.h"
#include "worker/client/exchange.h"
#include "worker/relay/outcome.h"

struct usage_record {
	unsigned attempt; /* 1 is the first of its request */
	const char *provider;
	const char *model;          /* as asked for, canonical */
	const char *upstream_model; /* as named upstream */
	const char *credential;
	const char *session; /* shortened, or "" */
	bool stream;
	int status; /* of HTTP; 0: none came */
	enum attempt_end end;
	const char *error; /* in words, or "" */
	int64_t latency_us;
	int64_t ttft_us; /* -1: no byte of the body came */
	bool has_tokens;
	struct tokens tokens;
};

/* Does nothing where no usage log is open. */
void usage_write(const struct exchange *x, const struct usage_record *r);

#endif

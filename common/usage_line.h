/* SPDX-License-Identifier: MIT */
/*
 * One usage record as a line of JSON, the same whoever writes it: the worker
 * whose attempt it was, or the master for a worker that died
 * (fairlead-internals(7), "Usage records").
 */
#ifndef FL_COMMON_USAGE_LINE_H
#define FL_COMMON_USAGE_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/board.h"
#include "common/buf.h"
#include "common/tokens.h"

enum {
	USAGE_LINE_MAX = 16 * 1024,
	USAGE_ERROR_MAX = 256, /* bytes of an error's text */
	USAGE_CLIENT_BYTES = 6 /* of the digest of a client's key */
};

/* How an attempt ended. */
struct usage_end {
	int64_t time_s; /* of the wall clock */
	int status;     /* of HTTP; 0: none came */
	bool failed;
	const char *outcome;
	const char *error; /* in words, or "" */
	int64_t latency_us;
	int64_t ttft_us;             /* -1: no byte of the body came */
	const struct tokens *tokens; /* NULL: none were told */
};

/* Appends the line, its end included. */
void usage_line_put(
    struct buf *b, const struct board_attempt *a, const struct usage_end *end);

/*
 * Appends what a line has of its attempt and no other line has: how a record
 * is found again.
 */
void usage_line_put_id(struct buf *b, const struct board_attempt *a);

/* Every line begins with this, and nothing else in one looks like it. */
#define USAGE_LINE_HEAD "{\"time\":\""

#endif

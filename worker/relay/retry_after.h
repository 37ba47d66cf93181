/* SPDX-License-Identifier: MIT */
/*
 * How long an answer asks us to stay away, wherever it says so: Retry-After
 * (RFC 9110 10.2.3) in seconds or as a date, retry-after-ms, the limits and
 * windows that providers tell of in headers, and what was found in its body.
 * A date becomes a duration against the answer's own Date, so that neither
 * clock needs to be right.
 */
#ifndef FL_WORKER_RELAY_RETRY_AFTER_H
#define FL_WORKER_RELAY_RETRY_AFTER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/attr.h"
#include "common/str.h"

enum { RETRY_AFTER_NONE = -1 };

/* What is known of a failed answer. */
struct retry_source {
	/* The value of a header, empty if absent. */
	struct span (*header)(void *ctx, const char *name);
	void *ctx;
	int64_t delay_ms;    /* as the body asks; -1: does not */
	int64_t resets_at_s; /* likewise, of Unix */
	int64_t now_s;       /* wall clock, for an answer without Date */
	int64_t max_ms;
};

struct retry_hint {
	int64_t ms;   /* or RETRY_AFTER_NONE */
	bool window;  /* of a subscription: many wait for the same moment */
	bool account; /* the limit is of the whole credential */
};

/*
 * The one hint of an answer, at most max_ms: the later one of Retry-After and
 * the windows that are closed (anthropic-ratelimit-unified-*); else the
 * limits that are used up (x-ratelimit-reset-*, the latest of them); else the
 * body's.
 */
struct retry_hint retry_hint_read(const struct retry_source *s);

struct retry_after_fields {
	struct span retry_after; /* values of headers; empty if absent */
	struct span retry_after_ms;
	struct span date;
};

/*
 * Milliseconds from now, or RETRY_AFTER_NONE. The finer header wins. At most
 * max_ms. now_s is the wall clock, used where the answer bears no Date.
 */
int64_t retry_after_read(
    const struct retry_after_fields *f, int64_t now_s, int64_t max_ms);

/* The same from a time of Unix, which a body may give; RETRY_AFTER_NONE if it
 * is not ahead. */
int64_t retry_after_until(int64_t at_s, int64_t now_s, int64_t max_ms);

enum { HTTP_DATE_BAD = 1 };

/*
 * A date in one of the three forms of RFC 9110 5.6.7, as seconds of Unix. 0
 * or HTTP_DATE_BAD.
 */
int http_date_read(struct span text, int64_t *at_s) MUST_CHECK;

#endif

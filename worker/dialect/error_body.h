/* SPDX-License-Identifier: MIT */
/*
 * What the body of an upstream's error says of itself: code, type, message
 * and when its limit ends, wherever providers put them. It judges nothing.
 */
#ifndef FL_WORKER_DIALECT_ERROR_BODY_H
#define FL_WORKER_DIALECT_ERROR_BODY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ERROR_BODY_WORD = 64, ERROR_BODY_MESSAGE = 512 };

/*
 * The delay is that of resets_in_seconds, of Google's RetryInfo or quota
 * details, or what the message asks for where nothing else does.
 *
 * Strings are terminated, cut if long, "" if absent; a member that stands in
 * several places is taken from `error`, the top, `response.error` and
 * `body.error`, in this order.
 */
struct error_body {
	bool json; /* the whole text is valid JSON */
	char code[ERROR_BODY_WORD];
	char type[ERROR_BODY_WORD];
	char message[ERROR_BODY_MESSAGE];
	int64_t delay_ms;    /* to stay away; -1: not said */
	int64_t resets_at_s; /* of Unix; -1: not said */
};

void error_body_read(struct error_body *e, const char *text, size_t len);

#endif

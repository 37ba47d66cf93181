/* SPDX-License-Identifier: MIT */
/*
 * Answers that fairlead gives itself: one row per local error, with status,
 * code and default message, spoken in the dialect of the request
 * (fairlead-internals(7), "Errors"). Nothing else chooses the status of a
 * local error. Each call ends the exchange and writes its access line.
 */
#ifndef FL_WORKER_CLIENT_RESPOND_H
#define FL_WORKER_CLIENT_RESPOND_H

#include <stddef.h>
#include <stdint.h>

#include "common/attr.h"
#include "worker/client/exchange.h"

enum respond_error {
	RESPOND_MISSING_KEY,        /* 401 missing_api_key */
	RESPOND_INVALID_KEY,        /* 401 invalid_api_key */
	RESPOND_BAD_REQUEST,        /* 400 invalid_request: head or framing */
	RESPOND_INVALID_JSON,       /* 400 invalid_json */
	RESPOND_MODEL_REQUIRED,     /* 400 model_required */
	RESPOND_DIALECT_NOT_SERVED, /* 400 dialect_not_served */
	RESPOND_BAD_ENCODING,    /* 400 invalid_encoding: gzip, zstd broken */
	RESPOND_NOT_FOUND,       /* 404 not_found */
	RESPOND_MODEL_NOT_FOUND, /* 404 model_not_found */
	RESPOND_METHOD_NOT_ALLOWED, /* 405, with Allow from the route */
	RESPOND_REQUEST_TIMEOUT,    /* 408 request_timeout */
	RESPOND_PINNED_UNAVAILABLE, /* 409 pinned_credential_unavailable */
	RESPOND_BODY_TOO_LARGE,     /* 413 body_too_large */
	RESPOND_ENCODING_UNKNOWN,   /* 415 unsupported_encoding */
	RESPOND_UPGRADE,            /* 426 upgrade_required */
	RESPOND_MODEL_COOLDOWN,     /* 429 model_cooldown */
	RESPOND_HEAD_TOO_LARGE,     /* 431 header_too_large */
	RESPOND_INTERNAL,           /* 500 internal_error */
	RESPOND_CODING_UNKNOWN,     /* 501 unsupported_transfer_coding */
	RESPOND_UPSTREAM_FAILED,    /* 502 upstream_failed */
	RESPOND_AUTH_UNAVAILABLE,   /* 503 auth_unavailable */
	RESPOND_OVERLOADED,         /* 503 overloaded, Retry-After 1 */
	RESPOND_DRAINING,           /* 503 draining, Retry-After 1 */
	RESPOND_UPSTREAM_TIMEOUT,   /* 504 upstream_timeout */
	RESPOND_HTTP_VERSION,       /* 505 unsupported_http_version */
	RESPOND_MAX
};

enum { RESPOND_NO_RETRY = -1 };

/* Ends the exchange with a local error. fmt NULL: the row's own message. */
void respond_error(struct exchange *x, enum respond_error error,
    const char *fmt, ...) PRINTF(3, 4);

/*
 * The same with a Retry-After of that many milliseconds, told in whole
 * seconds, rounded up, at least 1; RESPOND_NO_RETRY: what the row says.
 */
void respond_error_after(struct exchange *x, enum respond_error error,
    int64_t retry_after_ms, const char *fmt, ...) PRINTF(4, 5);

/* The same with what is known for the access line; copied and completed. */
struct access_line;
void respond_error_line(struct exchange *x, enum respond_error error,
    int64_t retry_after_ms, const struct access_line *line,
    const char *message);

int respond_status(enum respond_error error);
const char *respond_code(enum respond_error error);
const char *respond_message(enum respond_error error);

/* Milliseconds as a Retry-After tells them: rounded up, at least 1. */
int64_t respond_retry_seconds(int64_t ms);

#endif

/* SPDX-License-Identifier: MIT */
#include "worker/client/respond.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/buf.h"
#include "worker/client/account.h"
#include "worker/dialect/dialect.h"

enum { BODY_MAX = 16 * 1024, HEADERS_MAX = 4 };

struct row {
	int status;
	const char *code;
	const char *message;
	const char *param;     /* the member at fault */
	int64_t retry_after_s; /* 0: none */
};

static const struct row rows[RESPOND_MAX] = {
	[RESPOND_MISSING_KEY] = { 401, "missing_api_key", "Missing API key",
	    NULL, 0 },
	[RESPOND_INVALID_KEY] = { 401, "invalid_api_key", "Invalid API key",
	    NULL, 0 },
	[RESPOND_BAD_REQUEST] = { 400, "invalid_request",
	    "The request is not valid HTTP", NULL, 0 },
	[RESPOND_INVALID_JSON] = { 400, "invalid_json",
	    "The request body is not a valid JSON object", NULL, 0 },
	[RESPOND_MODEL_REQUIRED] = { 400, "model_required",
	    "The request names no model", "model", 0 },
	[RESPOND_DIALECT_NOT_SERVED] = { 400, "dialect_not_served",
	    "No credential for this model speaks this protocol", "model", 0 },
	[RESPOND_BAD_ENCODING] = { 400, "invalid_encoding",
	    "The request body cannot be decoded", NULL, 0 },
	[RESPOND_NOT_FOUND] = { 404, "not_found", "There is nothing here", NULL,
	    0 },
	[RESPOND_MODEL_NOT_FOUND] = { 404, "model_not_found",
	    "There is no such model", "model", 0 },
	[RESPOND_METHOD_NOT_ALLOWED] = { 405, "method_not_allowed",
	    "The method is not allowed here", NULL, 0 },
	[RESPOND_REQUEST_TIMEOUT] = { 408, "request_timeout",
	    "The request did not come in time", NULL, 0 },
	[RESPOND_PINNED_UNAVAILABLE] = { 409, "pinned_credential_unavailable",
	    "The account that holds this conversation is not usable", NULL, 0 },
	[RESPOND_BODY_TOO_LARGE] = { 413, "body_too_large",
	    "The request body is too large", NULL, 0 },
	[RESPOND_ENCODING_UNKNOWN] = { 415, "unsupported_encoding",
	    "The request body has an unknown content encoding", NULL, 0 },
	[RESPOND_UPGRADE] = { 426, "upgrade_required",
	    "WebSocket is not spoken here, use HTTP", NULL, 0 },
	[RESPOND_MODEL_COOLDOWN] = { 429, "model_cooldown",
	    "All credentials for this model are cooling down", NULL, 0 },
	[RESPOND_HEAD_TOO_LARGE] = { 431, "header_too_large",
	    "The request header is too large", NULL, 0 },
	[RESPOND_INTERNAL] = { 500, "internal_error",
	    "Something went wrong here", NULL, 0 },
	[RESPOND_CODING_UNKNOWN] = { 501, "unsupported_transfer_coding",
	    "The transfer coding is unknown", NULL, 0 },
	[RESPOND_UPSTREAM_FAILED] = { 502, "upstream_failed",
	    "The provider could not be reached", NULL, 0 },
	[RESPOND_AUTH_UNAVAILABLE] = { 503, "auth_unavailable",
	    "No credential is usable for this model", NULL, 0 },
	[RESPOND_OVERLOADED] = { 503, "overloaded", "Too much at once", NULL,
	    1 },
	[RESPOND_DRAINING] = { 503, "draining", "The server is stopping", NULL,
	    1 },
	[RESPOND_UPSTREAM_TIMEOUT] = { 504, "upstream_timeout",
	    "The provider did not answer in time", NULL, 0 },
	[RESPOND_HTTP_VERSION] = { 505, "unsupported_http_version",
	    "HTTP/1.1 is spoken here", NULL, 0 },
};

int
respond_status(enum respond_error error)
{
	return rows[error].status;
}

const char *
respond_code(enum respond_error error)
{
	return rows[error].code;
}

const char *
respond_message(enum respond_error error)
{
	return rows[error].message;
}

int64_t
respond_retry_seconds(int64_t ms)
{
	return ms <= 1000 ? 1 : (ms - 1) / 1000 + 1;
}

static size_t
put(struct header *headers, size_t n, struct span name, struct span value)
{
	headers[n] = (struct header){ name, value };
	return n + 1;
}

void
respond_error_line(struct exchange *x, enum respond_error error,
    int64_t retry_after_ms, const struct access_line *known,
    const char *message)
{
	const struct row *row = &rows[error];
	struct header headers[HEADERS_MAX];
	struct buf body = BUF_INIT(BODY_MAX);
	struct access_line line = *known;
	int64_t seconds = row->retry_after_s;
	char seconds_text[24];
	size_t n;

	dialect_error_body(&body, x->route.dialect,
	    &(struct dialect_error){ .status = row->status,
		.code = row->code,
		.param = row->param,
		.message = message,
		.request_id = x->request_id });
	n = put(headers, 0, SPAN("content-type"), SPAN("application/json"));
	if (retry_after_ms >= 0)
		seconds = respond_retry_seconds(retry_after_ms);
	if (seconds > 0) {
		(void)snprintf(
		    seconds_text, sizeof(seconds_text), "%" PRId64, seconds);
		n = put(headers, n, SPAN("retry-after"), span_of(seconds_text));
	}
	if (error == RESPOND_METHOD_NOT_ALLOWED)
		n = put(headers, n, SPAN("allow"), span_of(x->route.allow));
	if (error == RESPOND_UPGRADE)
		n = put(headers, n, SPAN("upgrade"), SPAN("HTTP/1.1"));
	line.status = row->status;
	line.code = row->code;
	line.bytes = body.len;
	account_request(x, &line);
	/* The answer may end the life of x. */
	exchange_answer(x, row->status, headers, n, body.data, body.len);
	buf_fini(&body);
}

static void
respond_format(struct exchange *x, enum respond_error error,
    int64_t retry_after_ms, const char *fmt, va_list ap)
{
	const struct access_line line = { .ttft_us = -1 };
	char message[DIALECT_MESSAGE_MAX];

	if (fmt == NULL)
		(void)str_copy(message, sizeof(message), rows[error].message);
	else
		(void)vsnprintf(message, sizeof(message), fmt, ap);
	respond_error_line(x, error, retry_after_ms, &line, message);
}

void
respond_error(
    struct exchange *x, enum respond_error error, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	respond_format(x, error, RESPOND_NO_RETRY, fmt, ap);
	va_end(ap);
}

void
respond_error_after(struct exchange *x, enum respond_error error,
    int64_t retry_after_ms, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	respond_format(x, error, retry_after_ms, fmt, ap);
	va_end(ap);
}

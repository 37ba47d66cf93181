/* SPDX-License-Identifier: MIT */
#include "worker/dialect/dialect.h"

#include <inttypes.h>
#include <string.h>
#include <strings.h>

/* How each dialect tells an error of a status of HTTP. */
struct status_row {
	int status;
	const char *phrase;
	const char *openai_type;
	const char *openai_code;
	const char *claude_type;
	const char *gemini_status;
};

static const struct status_row status_rows[] = {
	{ 400, "Bad Request", "invalid_request_error", NULL,
	    "invalid_request_error", "INVALID_ARGUMENT" },
	{ 401, "Unauthorized", "authentication_error", "invalid_api_key",
	    "authentication_error", "UNAUTHENTICATED" },
	{ 402, "Payment Required", "invalid_request_error",
	    "insufficient_quota", "billing_error", "FAILED_PRECONDITION" },
	{ 403, "Forbidden", "permission_error", "insufficient_quota",
	    "permission_error", "PERMISSION_DENIED" },
	{ 404, "Not Found", "invalid_request_error", "model_not_found",
	    "not_found_error", "NOT_FOUND" },
	{ 405, "Method Not Allowed", "invalid_request_error",
	    "method_not_allowed", "invalid_request_error", "INVALID_ARGUMENT" },
	{ 408, "Request Timeout", "invalid_request_error", "request_timeout",
	    "timeout_error", "DEADLINE_EXCEEDED" },
	{ 409, "Conflict", "invalid_request_error", NULL,
	    "invalid_request_error", "ABORTED" },
	{ 413, "Content Too Large", "invalid_request_error", "body_too_large",
	    "request_too_large", "INVALID_ARGUMENT" },
	{ 415, "Unsupported Media Type", "invalid_request_error",
	    "unsupported_media_type", "invalid_request_error",
	    "INVALID_ARGUMENT" },
	{ 422, "Unprocessable Content", "invalid_request_error", NULL,
	    "invalid_request_error", "INVALID_ARGUMENT" },
	{ 426, "Upgrade Required", "invalid_request_error", "upgrade_required",
	    "invalid_request_error", "FAILED_PRECONDITION" },
	{ 429, "Too Many Requests", "rate_limit_error", "rate_limit_exceeded",
	    "rate_limit_error", "RESOURCE_EXHAUSTED" },
	{ 431, "Request Header Fields Too Large", "invalid_request_error", NULL,
	    "invalid_request_error", "INVALID_ARGUMENT" },
	{ 499, "Client Closed Request", "invalid_request_error", NULL,
	    "invalid_request_error", "CANCELLED" },
	{ 500, "Internal Server Error", "server_error", "internal_server_error",
	    "api_error", "INTERNAL" },
	{ 501, "Not Implemented", "server_error", "internal_server_error",
	    "api_error", "UNIMPLEMENTED" },
	{ 502, "Bad Gateway", "server_error", "internal_server_error",
	    "api_error", "INTERNAL" },
	{ 503, "Service Unavailable", "server_error", "internal_server_error",
	    "api_error", "UNAVAILABLE" },
	{ 504, "Gateway Timeout", "server_error", "internal_server_error",
	    "timeout_error", "DEADLINE_EXCEEDED" },
	{ 505, "HTTP Version Not Supported", "server_error",
	    "internal_server_error", "api_error", "UNIMPLEMENTED" },
	{ 529, "Overloaded", "server_error", "internal_server_error",
	    "overloaded_error", "UNAVAILABLE" },
};

/* For a status without a row of its own. */
static const struct status_row other_client_error = { 0, "Error",
	"invalid_request_error", NULL, "invalid_request_error",
	"INVALID_ARGUMENT" };
static const struct status_row other_server_error = { 0, "Error",
	"server_error", "internal_server_error", "api_error", "INTERNAL" };

/* The values that an error shows: given, or else those of its status. */
struct told {
	int status;
	const char *code;
	const char *openai_type;
	const char *claude_type;
	const char *gemini_status;
	const char *param;
	const char *request_id;
	const char *message;
};

typedef void write_body_fn(struct buf *b, const struct told *t);
typedef void write_event_fn(
    struct buf *b, const struct told *t, uint64_t sequence, bool codex);

static write_body_fn openai_body, claude_body, gemini_body;
static write_event_fn openai_event, responses_event, claude_event, gemini_event;

static const struct {
	struct span keepalive;
	write_body_fn *body;
	write_event_fn *event;
} dialects[DIALECT_MAX] = {
	[DIALECT_OPENAI] = { SPAN(": keep-alive\n\n"), openai_body,
	    openai_event },
	[DIALECT_RESPONSES] = { SPAN(": keep-alive\n\n"), openai_body,
	    responses_event },
	[DIALECT_CLAUDE] = { SPAN(
				 "event: ping\ndata: {\"type\": \"ping\"}\n\n"),
	    claude_body, claude_event },
	/* Comments cut the stream off in the SDK of Gemini CLI 0.61. */
	[DIALECT_GEMINI] = { SPAN("\r\n"), gemini_body, gemini_event },
};

/* Codes on which Codex gives up for good (codex 0.169.0). */
static const char *const codex_fatal[] = {
	"server_is_overloaded",
	"slow_down",
};

/* What precedes a secret in a message. */
static const struct span secret_marks[] = {
	SPAN("sk-"),
	SPAN("sess-"),
	SPAN("AIza"),
	SPAN("ya29."),
	SPAN("eyJ"),
	SPAN("Bearer "),
	SPAN("Basic "),
};

/* A run of this many bytes behind a mark is a secret. */
enum { SECRET_MIN = 8 };

/* What codes, types and status names of errors stand for. */
static const struct {
	const char *name;
	int status;
} error_names[] = {
	/* Anthropic */
	{ "invalid_request_error", 400 },
	{ "authentication_error", 401 },
	{ "billing_error", 402 },
	{ "permission_error", 403 },
	{ "not_found_error", 404 },
	{ "request_too_large", 413 },
	{ "rate_limit_error", 429 },
	{ "api_error", 500 },
	{ "timeout_error", 504 },
	{ "overloaded_error", 529 },
	/* OpenAI, Codex, and those who imitate them */
	{ "context_length_exceeded", 400 },
	{ "invalid_prompt", 400 },
	{ "invalid_value", 400 },
	{ "unsupported_value", 400 },
	{ "string_above_max_length", 400 },
	{ "message_too_big", 400 },
	{ "previous_response_not_found", 400 },
	{ "cyber_policy", 400 },
	{ "content_filter", 400 },
	{ "bad_request_error", 400 },
	{ "BadRequestError", 400 },
	{ "invalid_request", 400 },
	{ "invalid_api_key", 401 },
	{ "unauthorized", 401 },
	{ "billing_hard_limit_reached", 402 },
	{ "usage_not_included", 403 },
	{ "model_not_found", 404 },
	{ "NotFoundError", 404 },
	{ "request_timeout", 408 },
	{ "rate_limit_exceeded", 429 },
	{ "usage_limit_reached", 429 },
	{ "insufficient_quota", 429 },
	{ "quota_exceeded", 429 },
	{ "model_cooldown", 429 },
	{ "too_many_requests", 429 },
	{ "requests", 429 },
	{ "tokens", 429 },
	{ "internal_error", 500 },
	{ "internal_server_error", 500 },
	{ "InternalServerError", 500 },
	{ "server_error", 503 },
	{ "server_is_overloaded", 503 },
	{ "slow_down", 503 },
	{ "overloaded", 503 },
	{ "service_unavailable", 503 },
	{ "timeout", 504 },
	/* Google */
	{ "INVALID_ARGUMENT", 400 },
	{ "FAILED_PRECONDITION", 400 },
	{ "OUT_OF_RANGE", 400 },
	{ "UNAUTHENTICATED", 401 },
	{ "PERMISSION_DENIED", 403 },
	{ "NOT_FOUND", 404 },
	{ "ALREADY_EXISTS", 409 },
	{ "ABORTED", 409 },
	{ "RESOURCE_EXHAUSTED", 429 },
	{ "CANCELLED", 499 },
	{ "INTERNAL", 500 },
	{ "UNKNOWN", 500 },
	{ "DATA_LOSS", 500 },
	{ "UNIMPLEMENTED", 501 },
	{ "UNAVAILABLE", 503 },
	{ "DEADLINE_EXCEEDED", 504 },
};

/* Some errors say what they are only to people. */
static const struct {
	const char *phrase;
	int status;
} error_phrases[] = {
	{ "at capacity", 429 },
	{ "rate limit", 429 },
	{ "overloaded", 503 },
};

enum { STATUS_UNKNOWN = 502 };

const char *
dialect_stream_type(void)
{
	return "text/event-stream";
}

struct span
dialect_keepalive(enum dialect d)
{
	return dialects[d].keepalive;
}

static const struct status_row *
status_row(int status)
{
	size_t i;

	for (i = 0; i < ARRAY_LEN(status_rows); i++) {
		if (status_rows[i].status == status)
			return &status_rows[i];
	}
	return status >= 500 ? &other_server_error : &other_client_error;
}

const char *
dialect_status_phrase(int status)
{
	/* Few statuses below 400 are passed on, and no client reads it. */
	return status < 400 ? "OK" : status_row(status)->phrase;
}

static const char *
given_or(const char *given, const char *otherwise)
{
	return given != NULL && given[0] != '\0' ? given : otherwise;
}

static struct told
told_of(const struct dialect_error *e)
{
	const struct status_row *row = status_row(e->status);

	return (struct told){
		.status = e->status,
		.code = given_or(e->code, row->openai_code),
		.openai_type = given_or(e->type, row->openai_type),
		.claude_type = given_or(e->type, row->claude_type),
		.gemini_status = row->gemini_status,
		.param = given_or(e->param, NULL),
		.request_id = given_or(e->request_id, NULL),
		.message = given_or(e->message, row->phrase),
	};
}

static bool
in_word(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
	       (c >= 'a' && c <= 'z');
}

static bool
in_secret(char c)
{
	return in_word(c) || strchr("-_.=+/*", c) != NULL;
}

/* The length of a secret that begins at s with its mark; 0 if none does. */
static size_t
secret_at(struct span s, size_t *mark)
{
	size_t i;
	size_t n;

	for (i = 0; i < ARRAY_LEN(secret_marks); i++) {
		*mark = secret_marks[i].len;
		if (!span_starts(s, secret_marks[i]))
			continue;
		for (n = *mark; n < s.len && in_secret(s.p[n]); n++)
			continue;
		if (n - *mark >= SECRET_MIN)
			return n;
	}
	return 0;
}

size_t
dialect_clean_message(const char *message, char clean[DIALECT_MESSAGE_MAX])
{
	struct span rest = { message, strnlen(message, DIALECT_MESSAGE_MAX) };
	bool cut = rest.len == DIALECT_MESSAGE_MAX && message[rest.len] != '\0';
	bool inside = false; /* of a word, where no mark begins */
	size_t out = 0;
	size_t mark;
	size_t n;

	while (cut && ((unsigned char)rest.p[rest.len] & 0xc0) == 0x80)
		rest.len--;
	while (rest.len > 0) {
		n = inside ? 0 : secret_at(rest, &mark);
		inside = in_word(*rest.p);
		if (n == 0) {
			clean[out++] = *rest.p;
			n = 1;
		} else {
			memcpy(clean + out, rest.p, mark);
			memcpy(clean + out + mark, "***", 3);
			out += mark + 3;
		}
		rest.p += n;
		rest.len -= n;
	}
	return out;
}

static void
put_message(struct buf *b, const char *message)
{
	char clean[DIALECT_MESSAGE_MAX];

	buf_json_string(b, clean, dialect_clean_message(message, clean));
}

static void
put_string(struct buf *b, const char *s)
{
	if (s == NULL)
		buf_puts(b, "null");
	else
		buf_json_string(b, s, strlen(s));
}

/* Appends {"message":...,"type":...,"param":...,"code":...}. */
static void
openai_error(struct buf *b, const struct told *t)
{
	buf_puts(b, "{\"message\":");
	put_message(b, t->message);
	buf_puts(b, ",\"type\":");
	put_string(b, t->openai_type);
	buf_puts(b, ",\"param\":");
	put_string(b, t->param);
	buf_puts(b, ",\"code\":");
	put_string(b, t->code);
	buf_puts(b, "}");
}

static void
openai_body(struct buf *b, const struct told *t)
{
	buf_puts(b, "{\"error\":");
	openai_error(b, t);
	buf_puts(b, "}");
}

static void
claude_body(struct buf *b, const struct told *t)
{
	buf_puts(b, "{\"type\":\"error\",\"error\":{\"type\":");
	put_string(b, t->claude_type);
	buf_puts(b, ",\"message\":");
	put_message(b, t->message);
	buf_puts(b, "},\"request_id\":");
	put_string(b, t->request_id);
	buf_puts(b, "}");
}

static void
gemini_body(struct buf *b, const struct told *t)
{
	buf_printf(b, "{\"error\":{\"code\":%d,\"message\":", t->status);
	put_message(b, t->message);
	buf_puts(b, ",\"status\":");
	put_string(b, t->gemini_status);
	buf_puts(b, "}}");
}

static void
openai_event(struct buf *b, const struct told *t, uint64_t sequence, bool codex)
{
	(void)sequence;
	(void)codex;
	buf_puts(b, "data: ");
	openai_body(b, t);
	buf_puts(b, "\n\n");
}

static void
claude_event(struct buf *b, const struct told *t, uint64_t sequence, bool codex)
{
	(void)sequence;
	(void)codex;
	buf_puts(b, "event: error\ndata: ");
	claude_body(b, t);
	buf_puts(b, "\n\n");
}

static void
gemini_event(struct buf *b, const struct told *t, uint64_t sequence, bool codex)
{
	(void)sequence;
	(void)codex;
	buf_puts(b, "data: ");
	gemini_body(b, t);
	buf_puts(b, "\r\n\r\n");
}

const char *
dialect_code_for_codex(const char *code)
{
	size_t i;

	for (i = 0; code != NULL && i < ARRAY_LEN(codex_fatal); i++) {
		if (strcasecmp(code, codex_fatal[i]) == 0)
			return "server_error";
	}
	return code;
}

static void
codex_event(struct buf *b, const struct told *t, uint64_t sequence)
{
	buf_printf(b,
	    "event: response.failed\ndata: {\"type\":\"response.failed\","
	    "\"sequence_number\":%" PRIu64 ",\"response\":{"
	    "\"object\":\"response\",\"status\":\"failed\",\"error\":{"
	    "\"type\":",
	    sequence);
	put_string(b, t->openai_type);
	buf_puts(b, ",\"code\":");
	put_string(b, dialect_code_for_codex(t->code));
	buf_puts(b, ",\"message\":");
	put_message(b, t->message);
	buf_puts(b, "}}}\n\n");
}

static void
responses_event(
    struct buf *b, const struct told *t, uint64_t sequence, bool codex)
{
	if (codex) {
		codex_event(b, t, sequence);
		return;
	}
	buf_puts(b, "event: error\ndata: {\"type\":\"error\",\"code\":");
	put_string(b, t->code);
	buf_puts(b, ",\"message\":");
	put_message(b, t->message);
	buf_puts(b, ",\"param\":");
	put_string(b, t->param);
	buf_printf(b, ",\"sequence_number\":%" PRIu64 "}\n\n", sequence);
}

void
dialect_error_body(struct buf *b, enum dialect d, const struct dialect_error *e)
{
	struct told t = told_of(e);

	dialects[d].body(b, &t);
}

void
dialect_error_event(struct buf *b, enum dialect d,
    const struct dialect_error *e, uint64_t sequence, bool codex)
{
	struct told t = told_of(e);

	dialects[d].event(b, &t, sequence, codex);
}

static int
status_of_name(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_LEN(error_names); i++) {
		if (strcasecmp(error_names[i].name, name) == 0)
			return error_names[i].status;
	}
	return 0;
}

/* A status given as a number: 400 to 599, else 0. */
static int
status_of_number(const char *text)
{
	int status = 0;
	size_t i;

	if (strlen(text) != 3)
		return 0;
	for (i = 0; i < 3; i++) {
		if (text[i] < '0' || text[i] > '9')
			return 0;
		status = status * 10 + (text[i] - '0');
	}
	return status >= 400 && status <= 599 ? status : 0;
}

static int
status_of_text(const char *text)
{
	int status;

	if (text[0] == '\0')
		return 0;
	status = status_of_number(text);
	return status != 0 ? status : status_of_name(text);
}

int
dialect_error_status(const char *code, const char *type,
    const char *status_name, const char *message)
{
	const char *given[] = { code, type, status_name };
	int status = 0;
	size_t i;

	for (i = 0; i < ARRAY_LEN(given) && status == 0; i++)
		status = status_of_text(given[i]);
	for (i = 0; i < ARRAY_LEN(error_phrases) && status == 0; i++) {
		if (strcasestr(message, error_phrases[i].phrase) != NULL)
			status = error_phrases[i].status;
	}
	return status != 0 ? status : STATUS_UNKNOWN;
}

static bool
starts_nocase(struct span s, struct span prefix)
{
	return s.len >= prefix.len &&
	       strncasecmp(s.p, prefix.p, prefix.len) == 0;
}

bool
dialect_client_is_codex(struct span user_agent, struct span originator)
{
	return starts_nocase(originator, SPAN("codex")) ||
	       starts_nocase(user_agent, SPAN("codex"));
}

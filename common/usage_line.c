/* SPDX-License-Identifier: MIT */
#include "common/usage_line.h"

#include <string.h>

#include "common/provider.h"
#include "common/str.h"

/* Room that is made at once for all of a line but for what needs escapes. */
enum { LINE_ROOM = 2048 };

/* Grows nothing: room has been made. */
static void
put(struct buf *b, const char *p, size_t len)
{
	if (b->failed || b->cap - b->len < len) {
		b->failed = true;
		return;
	}
	memcpy(b->data + b->len, p, len);
	b->len += len;
}

static void
put_span(struct buf *b, struct span s)
{
	put(b, s.p, s.len);
}

#define PUT(b, literal) put((b), (literal), sizeof(literal) - 1)

static void
put_number(struct buf *b, int64_t n)
{
	char digits[24];
	size_t at = sizeof(digits);
	uint64_t left = n < 0 ? -(uint64_t)n : (uint64_t)n;

	do
		digits[--at] = (char)('0' + left % 10);
	while ((left /= 10) > 0);
	if (n < 0)
		digits[--at] = '-';
	put(b, digits + at, sizeof(digits) - at);
}

/* The bytes that stand in a JSON string as they are, and are not 0. */
static size_t
plain_bytes(const char *s, size_t max)
{
	size_t n = 0;

	while (n < max && s[n] >= ' ' && s[n] < 0x7f && s[n] != '"' &&
	       s[n] != '\\')
		n++;
	return n;
}

/* name: with its comma, quotes and colon. */
static void
put_string(struct buf *b, struct span name, const char *value, size_t max)
{
	size_t len = plain_bytes(value, max);

	put_span(b, name);
	if (value[0] == '\0') {
		PUT(b, "null");
	} else if (len == max || value[len] == '\0') {
		PUT(b, "\"");
		put(b, value, len);
		PUT(b, "\"");
	} else {
		buf_json_string(b, value, strnlen(value, max));
		if (buf_reserve(b, LINE_ROOM) < 0)
			b->failed = true;
	}
}

static void
put_bool(struct buf *b, struct span name, bool value)
{
	put_span(b, name);
	put_span(b, value ? SPAN("true") : SPAN("false"));
}

/* Milliseconds with three digits behind the point. */
static void
put_ms(struct buf *b, struct span name, int64_t us)
{
	const char fraction[] = { '.', (char)('0' + us / 100 % 10),
		(char)('0' + us / 10 % 10), (char)('0' + us % 10) };

	put_span(b, name);
	if (us < 0) {
		PUT(b, "null");
		return;
	}
	put_number(b, us / 1000);
	put(b, fraction, sizeof(fraction));
}

static void
put_tokens(struct buf *b, const struct tokens *tokens)
{
	PUT(b, ",\"tokens\":");
	if (tokens == NULL) {
		PUT(b, "null");
		return;
	}
	for (int i = 0; i < TOKENS_MAX; i++) {
		put_span(b, i == 0 ? SPAN("{\"") : SPAN(",\""));
		put_span(b, span_of(token_kind_names[i]));
		PUT(b, "\":");
		if (tokens->n[i] < 0)
			PUT(b, "null");
		else
			put_number(b, tokens->n[i]);
	}
	PUT(b, "}");
}

/* One second after the other has the same text for many lines. */
static void
put_time(struct buf *b, int64_t time_s)
{
	static __thread int64_t second = INT64_MIN;
	static __thread char text[32];

	if (time_s != second) {
		str_from_time(time_s, text, sizeof(text));
		second = time_s;
	}
	PUT(b, USAGE_LINE_HEAD);
	put_span(b, span_of(text));
	PUT(b, "\"");
}

static void
put_id(struct buf *b, const struct board_attempt *a)
{
	put_string(
	    b, SPAN(",\"request_id\":"), a->request_id, sizeof(a->request_id));
	PUT(b, ",\"attempt\":");
	put_number(b, a->number);
}

static void
put_attempt(struct buf *b, const struct board_attempt *a)
{
	char client[2 * sizeof(a->client) + 1] = "";

	if (a->has_client)
		str_hex(a->client, sizeof(a->client), client);
	put_id(b, a);
	put_string(b, SPAN(",\"dialect\":"),
	    dialect_name((enum dialect)a->dialect), 16);
	put_string(b, SPAN(",\"provider\":"), a->provider, sizeof(a->provider));
	put_string(b, SPAN(",\"model\":"), a->model, sizeof(a->model));
	put_string(
	    b, SPAN(",\"upstream_model\":"), a->upstream, sizeof(a->upstream));
	put_string(b, SPAN(",\"credential\":"), a->id, sizeof(a->id));
	put_string(b, SPAN(",\"client\":"), client, sizeof(client));
	put_string(b, SPAN(",\"session\":"), a->session, sizeof(a->session));
	put_bool(b, SPAN(",\"stream\":"), a->stream != 0);
}

static bool
make_room(struct buf *b)
{
	if (!b->failed && buf_reserve(b, LINE_ROOM) < 0)
		b->failed = true;
	return !b->failed;
}

void
usage_line_put_id(struct buf *b, const struct board_attempt *a)
{
	if (make_room(b))
		put_id(b, a);
}

void
usage_line_put(
    struct buf *b, const struct board_attempt *a, const struct usage_end *end)
{
	if (!make_room(b))
		return;
	put_time(b, end->time_s);
	put_attempt(b, a);
	PUT(b, ",\"status\":");
	if (end->status != 0)
		put_number(b, end->status);
	else
		PUT(b, "null");
	put_bool(b, SPAN(",\"failed\":"), end->failed);
	put_string(b, SPAN(",\"outcome\":"), end->outcome, 16);
	put_string(b, SPAN(",\"error\":"), end->error, USAGE_ERROR_MAX);
	put_ms(b, SPAN(",\"latency_ms\":"), end->latency_us);
	put_ms(b, SPAN(",\"ttft_ms\":"), end->ttft_us);
	put_tokens(b, end->tokens);
	PUT(b, "}\n");
}

/* SPDX-License-Identifier: MIT */
#include "common/usage_line.h"

#include <string.h>

#include "common/provider.h"
#include "common/str.h"

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
	buf_append(b, digits + at, sizeof(digits) - at);
}

static void
put_name(struct buf *b, const char *name)
{
	buf_append(b, ",\"", 2);
	buf_puts(b, name);
	buf_append(b, "\":", 2);
}

static void
put_string(struct buf *b, const char *name, const char *value, size_t max)
{
	put_name(b, name);
	if (value[0] == '\0')
		buf_puts(b, "null");
	else
		buf_json_string(b, value, strnlen(value, max));
}

static void
put_bool(struct buf *b, const char *name, bool value)
{
	put_name(b, name);
	buf_puts(b, value ? "true" : "false");
}

/* Milliseconds with three digits behind the point. */
static void
put_ms(struct buf *b, const char *name, int64_t us)
{
	const char fraction[] = { '.', (char)('0' + us / 100 % 10),
		(char)('0' + us / 10 % 10), (char)('0' + us % 10) };

	put_name(b, name);
	if (us < 0) {
		buf_puts(b, "null");
		return;
	}
	put_number(b, us / 1000);
	buf_append(b, fraction, sizeof(fraction));
}

static void
put_tokens(struct buf *b, const struct tokens *tokens)
{
	put_name(b, "tokens");
	if (tokens == NULL) {
		buf_puts(b, "null");
		return;
	}
	for (int i = 0; i < TOKENS_MAX; i++) {
		buf_puts(b, i == 0 ? "{\"" : ",\"");
		buf_puts(b, token_kind_names[i]);
		buf_append(b, "\":", 2);
		if (tokens->n[i] < 0)
			buf_puts(b, "null");
		else
			put_number(b, tokens->n[i]);
	}
	buf_putc(b, '}');
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
	buf_puts(b, USAGE_LINE_HEAD);
	buf_puts(b, text);
	buf_putc(b, '"');
}

void
usage_line_put_id(struct buf *b, const struct board_attempt *a)
{
	put_string(b, "request_id", a->request_id, sizeof(a->request_id));
	put_name(b, "attempt");
	put_number(b, a->number);
}

static void
put_attempt(struct buf *b, const struct board_attempt *a)
{
	char client[2 * sizeof(a->client) + 1] = "";

	if (a->has_client)
		str_hex(a->client, sizeof(a->client), client);
	usage_line_put_id(b, a);
	put_string(b, "dialect", dialect_name((enum dialect)a->dialect), 16);
	put_string(b, "provider", a->provider, sizeof(a->provider));
	put_string(b, "model", a->model, sizeof(a->model));
	put_string(b, "upstream_model", a->upstream, sizeof(a->upstream));
	put_string(b, "credential", a->id, sizeof(a->id));
	put_string(b, "client", client, sizeof(client));
	put_string(b, "session", a->session, sizeof(a->session));
	put_bool(b, "stream", a->stream != 0);
}

void
usage_line_put(
    struct buf *b, const struct board_attempt *a, const struct usage_end *end)
{
	put_time(b, end->time_s);
	put_attempt(b, a);
	put_name(b, "status");
	if (end->status != 0)
		put_number(b, end->status);
	else
		buf_puts(b, "null");
	put_bool(b, "failed", end->failed);
	put_string(b, "outcome", end->outcome, 16);
	put_string(b, "error", end->error, USAGE_ERROR_MAX);
	put_ms(b, "latency_ms", end->latency_us);
	put_ms(b, "ttft_ms", end->ttft_us);
	put_tokens(b, end->tokens);
	buf_puts(b, "}\n");
}

/* SPDX-License-Identifier: MIT */
#include "worker/relay/usage.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/attr.h"
#include "common/buf.h"
#include "common/str.h"
#include "worker/dialect/dialect.h"
#include "worker/json/json.h"

enum { LINE_BYTES = 16 * 1024, CLIENT_BYTES = 6 };

/* Objects in which providers count. */
static const char *const containers[] = {
	"usage",
	"usageMetadata",
};

/* Objects inside of them that count further. */
static const char *const details[] = {
	"prompt_tokens_details",
	"input_tokens_details",
	"completion_tokens_details",
	"output_tokens_details",
};

static const struct {
	const char *name;
	enum usage_kind kind;
} counts[] = {
	{ "prompt_tokens", TOKENS_INPUT },
	{ "input_tokens", TOKENS_INPUT },
	{ "promptTokenCount", TOKENS_INPUT },
	{ "toolUsePromptTokenCount", TOKENS_INPUT },
	{ "completion_tokens", TOKENS_OUTPUT },
	{ "output_tokens", TOKENS_OUTPUT },
	{ "candidatesTokenCount", TOKENS_OUTPUT },
	{ "cached_tokens", TOKENS_CACHED },
	{ "cache_read_input_tokens", TOKENS_CACHED },
	{ "cachedContentTokenCount", TOKENS_CACHED },
	{ "cache_creation_input_tokens", TOKENS_CACHE_WRITE },
	{ "reasoning_tokens", TOKENS_REASONING },
	{ "thinking_tokens", TOKENS_REASONING },
	{ "thoughtsTokenCount", TOKENS_REASONING },
	{ "total_tokens", TOKENS_TOTAL },
	{ "totalTokenCount", TOKENS_TOTAL },
};

static bool
is_named(const char *text, const struct json_value *name,
    const char *const *names, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (json_equals(text, name, names[i], strlen(names[i])))
			return true;
	return false;
}

static int64_t
or_zero(int64_t n)
{
	return n < 0 ? 0 : n;
}

static void
count(struct usage_tokens *t, const char *text, const struct json_value *name,
    const struct json_value *value)
{
	char number[24];
	size_t len = json_text(text, value, number, sizeof(number) - 1);
	int64_t n;

	if (value->type != JSON_NUMBER || len >= sizeof(number))
		return;
	number[len] = '\0';
	if (str_to_int(number, 0, INT32_MAX, &n) != 0)
		return;
	for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
		int64_t *sum = &t->n[counts[i].kind];

		if (json_equals(
			text, name, counts[i].name, strlen(counts[i].name)))
			*sum = or_zero(*sum) + n;
	}
}

static void
count_members(
    struct usage_tokens *t, struct json_reader *r, const char *text, int depth)
{
	struct json_value name, value;

	if (json_peek(r) != JSON_OBJECT) {
		(void)json_read(r, NULL);
		return;
	}
	if (!json_enter(r))
		return;
	while (json_member(r, &name)) {
		if (depth > 0 &&
		    is_named(text, &name, details, ARRAY_LEN(details)))
			count_members(t, r, text, depth - 1);
		else if (json_read(r, &value))
			count(t, text, &name, &value);
	}
}

/* Claude counts what it read from and wrote to the cache beside the input. */
static void
complete_total(int64_t n[TOKENS_MAX])
{
	if (n[TOKENS_TOTAL] >= 0)
		return;
	n[TOKENS_TOTAL] = or_zero(n[TOKENS_INPUT]) + or_zero(n[TOKENS_OUTPUT]);
	if (n[TOKENS_CACHE_WRITE] >= 0)
		n[TOKENS_TOTAL] +=
		    or_zero(n[TOKENS_CACHED]) + n[TOKENS_CACHE_WRITE];
}

bool
usage_tokens_read(struct usage_tokens *tokens, const char *text, size_t len)
{
	struct json_reader r;
	struct json_value name;
	bool found = false;

	for (int i = 0; i < TOKENS_MAX; i++)
		tokens->n[i] = -1;
	json_reader_init(&r, text, len);
	if (json_peek(&r) != JSON_OBJECT || !json_enter(&r))
		return false;
	while (json_member(&r, &name)) {
		if (!is_named(text, &name, containers, ARRAY_LEN(containers))) {
			(void)json_read(&r, NULL);
			continue;
		}
		found = json_peek(&r) == JSON_OBJECT;
		count_members(tokens, &r, text, 1);
	}
	if (json_finish(&r) != JSON_OK || !found)
		return false;
	complete_total(tokens->n);
	return true;
}

static void
put_string(struct buf *b, const char *name, const char *value)
{
	buf_printf(b, ",\"%s\":", name);
	if (value == NULL || value[0] == '\0')
		buf_puts(b, "null");
	else
		buf_json_string(b, value, strlen(value));
}

static void
put_ms(struct buf *b, const char *name, int64_t us)
{
	if (us < 0)
		buf_printf(b, ",\"%s\":null", name);
	else
		buf_printf(b, ",\"%s\":%" PRId64 ".%03d", name, us / 1000,
		    (int)(us % 1000));
}

static void
put_tokens(struct buf *b, const struct usage_record *r)
{
	static const char *const names[TOKENS_MAX] = {
		[TOKENS_INPUT] = "input",
		[TOKENS_OUTPUT] = "output",
		[TOKENS_CACHED] = "cached",
		[TOKENS_CACHE_WRITE] = "cache_write",
		[TOKENS_REASONING] = "reasoning",
		[TOKENS_TOTAL] = "total",
	};

	buf_puts(b, ",\"tokens\":");
	if (!r->has_tokens) {
		buf_puts(b, "null");
		return;
	}
	for (int i = 0; i < TOKENS_MAX; i++) {
		buf_printf(b, "%c\"%s\":", i == 0 ? '{' : ',', names[i]);
		if (r->tokens.n[i] < 0)
			buf_puts(b, "null");
		else
			buf_printf(b, "%" PRId64, r->tokens.n[i]);
	}
	buf_putc(b, '}');
}

static void
put_record(
    struct buf *b, const struct exchange *x, const struct usage_record *r)
{
	char time_text[32], client[2 * CLIENT_BYTES + 1] = "";

	str_from_time(time(NULL), time_text, sizeof(time_text));
	if (x->has_scope)
		str_hex(x->scope.bytes, CLIENT_BYTES, client);
	buf_printf(b, "{\"time\":\"%s\",\"request_id\":\"%s\",\"attempt\":%u",
	    time_text, x->request_id, r->attempt);
	put_string(b, "dialect", dialect_name(x->route.dialect));
	put_string(b, "provider", r->provider);
	put_string(b, "model", r->model);
	put_string(b, "upstream_model", r->upstream_model);
	put_string(b, "credential", r->credential);
	put_string(b, "client", client);
	put_string(b, "session", r->session);
	buf_printf(
	    b, ",\"stream\":%s,\"status\":", r->stream ? "true" : "false");
	if (r->status != 0)
		buf_printf(b, "%d", r->status);
	else
		buf_puts(b, "null");
	buf_printf(b, ",\"failed\":%s",
	    r->end == ATTEMPT_OK || r->end == ATTEMPT_CLIENT_GONE ? "false"
								  : "true");
	put_string(b, "outcome", outcome_end_name(r->end));
	put_string(b, "error", r->error);
	put_ms(b, "latency_ms", r->latency_us);
	put_ms(b, "ttft_ms", r->ttft_us);
	put_tokens(b, r);
	buf_puts(b, "}\n");
}

void
usage_write(const struct exchange *x, const struct usage_record *r)
{
	struct buf b = BUF_INIT(LINE_BYTES);

	if (x->worker->usage_fd < 0)
		return;
	put_record(&b, x, r);
	if (!b.failed)
		(void)!write(x->worker->usage_fd, b.data, b.len);
	buf_fini(&b);
}

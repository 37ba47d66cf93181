/* SPDX-License-Identifier: MIT */
#include "worker/relay/usage.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/str.h"
#include "worker/dialect/dialect.h"

enum { LINE_BYTES = 16 * 1024, CLIENT_BYTES = 6 };

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
	buf_puts(b, ",\"tokens\":");
	if (!r->has_tokens) {
		buf_puts(b, "null");
		return;
	}
	for (int i = 0; i < TOKENS_MAX; i++) {
		buf_printf(
		    b, "%c\"%s\":", i == 0 ? '{' : ',', token_kind_names[i]);
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

/* SPDX-License-Identifier: MIT */
#include "worker/client/access_log.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/clock.h"
#include "worker/dialect/dialect.h"

enum { LINE_MAX_BYTES = 4096, WORD_MAX = 256 };

/* A word of the line: visible ASCII without the escape and the quote. */
static void
put_word(struct buf *b, struct span s)
{
	size_t len = s.len < WORD_MAX ? s.len : WORD_MAX;

	if (len == 0)
		buf_putc(b, '-');
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if (c > ' ' && c < 0x7f && c != '%' && c != '"')
			buf_putc(b, (char)c);
		else
			buf_printf(b, "%%%02X", c);
	}
}

static void
put_pair(struct buf *b, const char *name, const char *value)
{
	if (value == NULL || value[0] == '\0')
		return;
	buf_printf(b, " %s=", name);
	put_word(b, span_of(value));
}

/* "2026-01-02T03:04:05.678Z" of the wall clock. */
static void
put_time(struct buf *b)
{
	char text[32];
	struct timespec ts;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	str_from_time(ts.tv_sec, text, sizeof(text));
	text[strlen(text) - 1] = '\0';
	buf_printf(b, "%s.%03ldZ", text, ts.tv_nsec / 1000000);
}

void
access_log_write(const struct exchange *x, const struct access_line *a)
{
	struct buf b = BUF_INIT(LINE_MAX_BYTES);
	int64_t us = clock_mono_us() - x->start_us;

	if (x->worker->access_fd < 0)
		return;
	put_time(&b);
	buf_printf(&b, " %s ", x->request_id);
	put_word(&b, http_head_span(&x->head, x->head.verb));
	buf_putc(&b, ' ');
	put_word(&b, http_head_span(&x->head, x->head.path));
	buf_printf(&b, " %d %s", a->status, dialect_name(x->route.dialect));
	put_pair(&b, "code", a->code);
	put_pair(&b, "model", a->model);
	put_pair(&b, "credential", a->credential);
	put_pair(&b, "session", a->session);
	put_pair(&b, "decision", a->decision);
	buf_printf(&b, " attempts=%u bytes=%" PRIu64 " ms=%" PRId64 ".%03d",
	    a->attempts, a->bytes, us / 1000, (int)(us % 1000));
	if (a->ttft_us >= 0)
		buf_printf(&b, " ttft_ms=%" PRId64 ".%03d", a->ttft_us / 1000,
		    (int)(a->ttft_us % 1000));
	buf_putc(&b, '\n');
	if (!b.failed)
		(void)!write(x->worker->access_fd, b.data, b.len);
	buf_fini(&b);
}

/* SPDX-License-Identifier: MIT */
#include "common/buf.h"

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/utf8.h"

enum { BUF_FIRST = 256 };

void
buf_init(struct buf *b, size_t max_bytes)
{
	*b = (struct buf)BUF_INIT(max_bytes);
}

void
buf_fini(struct buf *b)
{
	free(b->data);
	buf_init(b, b->max);
}

void
buf_clear(struct buf *b)
{
	b->len = 0;
	b->failed = false;
}

int
buf_reserve(struct buf *b, size_t n)
{
	size_t cap = b->cap != 0 ? b->cap : BUF_FIRST;
	char *data;

	if (n <= b->cap - b->len)
		return 0;
	if (b->len > b->max || n > b->max - b->len)
		return -E2BIG;
	while (cap - b->len < n)
		cap *= 2;
	if (cap > b->max)
		cap = b->max;
	data = realloc(b->data, cap);
	if (data == NULL)
		return -ENOMEM;
	b->data = data;
	b->cap = cap;
	return 0;
}

void
buf_append(struct buf *b, const void *p, size_t n)
{
	if (n == 0 || b->failed)
		return;
	if (buf_reserve(b, n) < 0) {
		b->failed = true;
		return;
	}
	memcpy(b->data + b->len, p, n);
	b->len += n;
}

void
buf_puts(struct buf *b, const char *s)
{
	buf_append(b, s, strlen(s));
}

void
buf_putc(struct buf *b, char c)
{
	buf_append(b, &c, 1);
}

void
buf_printf(struct buf *b, const char *fmt, ...)
{
	char small[512];
	char *large;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(small, sizeof(small), fmt, ap);
	va_end(ap);
	if (n >= 0 && (size_t)n < sizeof(small)) {
		buf_append(b, small, (size_t)n);
		return;
	}
	va_start(ap, fmt);
	n = vasprintf(&large, fmt, ap);
	va_end(ap);
	if (n < 0) {
		b->failed = true;
		return;
	}
	buf_append(b, large, (size_t)n);
	free(large);
}

static void
put_escaped(struct buf *b, unsigned char c)
{
	static const char shorts[] = "\"\"\\\\\bb\ff\nn\rr\tt";
	size_t i;

	for (i = 0; i + 1 < sizeof(shorts); i += 2) {
		if ((unsigned char)shorts[i] == c) {
			buf_putc(b, '\\');
			buf_putc(b, shorts[i + 1]);
			return;
		}
	}
	buf_printf(b, "\\u%04x", c);
}

static bool
json_plain(unsigned char c)
{
	return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

void
buf_json_string(struct buf *b, const char *s, size_t n)
{
	const unsigned char *p = (const unsigned char *)s;
	size_t i = 0;
	size_t run;

	buf_putc(b, '"');
	while (i < n) {
		for (run = i; run < n && json_plain(p[run]); run++)
			continue;
		buf_append(b, p + i, run - i);
		i = run;
		if (i == n)
			break;
		if (p[i] < 0x80) {
			put_escaped(b, p[i++]);
			continue;
		}
		run = utf8_sequence(p + i, n - i);
		if (run == 0) {
			buf_puts(b, "\xef\xbf\xbd");
			i++;
		} else {
			buf_append(b, p + i, run);
			i += run;
		}
	}
	buf_putc(b, '"');
}

void
buf_consume(struct buf *b, size_t n)
{
	assert(n <= b->len);
	memmove(b->data, b->data + n, b->len - n);
	b->len -= n;
}

const char *
buf_string(struct buf *b)
{
	if (b->failed || buf_reserve(b, 1) < 0)
		return "";
	b->data[b->len] = '\0';
	return b->data;
}

/* SPDX-License-Identifier: MIT */
/*
 * Answers on their way out: heads, and the framing of bodies. The rest of a
 * connection is conn.c.
 */
#include "worker/exchange.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/buf.h"
#include "worker/conn.h"
#include "worker/dialect.h"

enum { HEAD_MAX = 256 * 1024 };

/* The Date of answers, made once per second. */
static struct span
http_date(void)
{
	static char text[40];
	static time_t made;
	static size_t len;
	time_t now = time(NULL);
	struct tm tm;

	if (now != made && gmtime_r(&now, &tm) != NULL) {
		len = strftime(
		    text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &tm);
		made = now;
	}
	return (struct span){ text, len };
}

static void
put_header(struct buf *head, struct span name, struct span value)
{
	buf_append(head, name.p, name.len);
	buf_append(head, ": ", 2);
	buf_append(head, value.p, value.len);
	buf_append(head, "\r\n", 2);
}

/*
 * Whether the connection outlives this answer. Not where the request was not
 * read to its end. A draining worker lets every client hear it from an answer
 * instead of closing under its next request.
 */
static void
decide_closing(struct exchange *x, struct conn *c)
{
	if (!x->head.keep_alive || c->state != CONN_WORKING || c->over_limit ||
	    x->worker->state != WORKER_SERVING)
		c->closing = true;
}

static void
put_framing(struct buf *head, struct exchange *x, struct conn *c,
    int64_t content_length)
{
	if (content_length >= 0) {
		buf_printf(head, "content-length: %lld\r\n",
		    (long long)content_length);
	} else if (x->head.minor >= 1) {
		c->chunked = true;
		buf_puts(head, "transfer-encoding: chunked\r\n");
	} else {
		c->unframed = true;
		c->closing = true;
	}
	if (c->closing)
		buf_puts(head, "connection: close\r\n");
	else if (x->head.minor == 0)
		buf_puts(head, "connection: keep-alive\r\n");
}

static void
make_head(struct buf *head, struct exchange *x, int status,
    const struct header *headers, size_t nheaders, int64_t content_length)
{
	struct conn *c = conn_of(x);
	size_t i;

	decide_closing(x, c);
	c->chunked = false;
	c->left = content_length;
	c->head_only = x->head.method == HTTP_HEAD;
	buf_printf(
	    head, "HTTP/1.1 %d %s\r\n", status, dialect_status_phrase(status));
	put_header(head, SPAN("date"), http_date());
	put_header(head, SPAN("x-fairlead-request-id"),
	    (struct span){ x->request_id, REQUEST_ID_LEN });
	for (i = 0; i < nheaders; i++)
		put_header(head, headers[i].name, headers[i].value);
	put_framing(head, x, c, content_length);
	buf_append(head, "\r\n", 2);
	x->opened = true;
}

void
exchange_answer(struct exchange *x, int status, const struct header *headers,
    size_t nheaders, const void *body, size_t len)
{
	struct conn *c = conn_of(x);
	struct buf head = BUF_INIT(HEAD_MAX);
	struct iovec iov[2];

	make_head(&head, x, status, headers, nheaders, (int64_t)len);
	iov[0] = (struct iovec){ head.data, head.len };
	iov[1].iov_len = c->head_only ? 0 : len;
	memcpy(&iov[1].iov_base, &body, sizeof(body));
	if (head.failed)
		conn_fail(c);
	else
		conn_send(c, iov, iov[1].iov_len > 0 ? 2 : 1);
	buf_fini(&head);
	conn_answered(c);
}

void
exchange_open(struct exchange *x, int status, const struct header *headers,
    size_t nheaders, int64_t content_length)
{
	struct buf head = BUF_INIT(HEAD_MAX);
	struct iovec iov;

	make_head(&head, x, status, headers, nheaders, content_length);
	iov = (struct iovec){ head.data, head.len };
	if (head.failed)
		conn_fail(conn_of(x));
	else
		conn_send(conn_of(x), &iov, 1);
	buf_fini(&head);
}

static size_t
total(const struct iovec *iov, int n)
{
	size_t len = 0;
	int i;

	for (i = 0; i < n; i++)
		len += iov[i].iov_len;
	return len;
}

static void
send_chunk(struct conn *c, const struct iovec *iov, int n, size_t len)
{
	static char crlf[] = "\r\n";
	struct iovec framed[EXCHANGE_IOV + 2];
	char size[24];

	assert(n <= EXCHANGE_IOV);
	framed[0].iov_base = size;
	framed[0].iov_len =
	    (size_t)snprintf(size, sizeof(size), "%zx\r\n", len);
	memcpy(framed + 1, iov, (size_t)n * sizeof(*iov));
	framed[n + 1] = (struct iovec){ crlf, 2 };
	conn_send(c, framed, n + 2);
}

static void
send_body(struct conn *c, const struct iovec *iov, int n)
{
	size_t len = total(iov, n);

	if (len == 0 || c->head_only)
		return;
	if (c->chunked) {
		send_chunk(c, iov, n, len);
	} else if (c->left < 0) {
		conn_send(c, iov, n);
	} else if (len <= (size_t)c->left) {
		c->left -= (int64_t)len;
		conn_send(c, iov, n);
	} else {
		/* It would be taken for the next answer. */
		conn_fail(c);
	}
}

size_t
exchange_write(struct exchange *x, const struct iovec *iov, int n)
{
	struct conn *c = conn_of(x);
	size_t waiting;

	send_body(c, iov, n);
	waiting = conn_queued(c);
	if (waiting >= EXCHANGE_HIGH)
		c->want_writable = true;
	return waiting;
}

void
exchange_finish(struct exchange *x)
{
	static char last[] = "0\r\n\r\n";
	struct conn *c = conn_of(x);
	struct iovec iov = { last, sizeof(last) - 1 };

	if (c->left > 0 && !c->head_only) {
		conn_break(c);
		return;
	}
	if (c->chunked && !c->head_only)
		conn_send(c, &iov, 1);
	conn_answered(c);
}

void
exchange_break(struct exchange *x)
{
	conn_break(conn_of(x));
}

void
exchange_release_body(struct exchange *x)
{
	body_release(&conn_of(x)->body);
	x->body = NULL;
	x->body_len = 0;
}

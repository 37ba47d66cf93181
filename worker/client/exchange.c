/* SPDX-License-Identifier: MIT */
/*
 * Answers on their way out: heads, and the framing of bodies. The rest of a
 * connection is conn.c.
 */
#include "worker/client/exchange.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/buf.h"
#include "worker/client/conn.h"
#include "worker/dialect/dialect.h"

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

static size_t
total(const struct iovec *iov, int n)
{
	size_t len = 0;
	int i;

	for (i = 0; i < n; i++)
		len += iov[i].iov_len;
	return len;
}

/* What frames a piece of a body, for the time of one write. */
struct frame {
	struct iovec iov[EXCHANGE_IOV + 3]; /* head, size, pieces, CRLF */
	int n;
	char size[24];
};

static void
frame_add(struct frame *f, const void *p, size_t len)
{
	struct iovec *iov = &f->iov[f->n++];

	iov->iov_len = len;
	memcpy(&iov->iov_base, &p, sizeof(p));
}

static void
frame_pieces(struct frame *f, const struct iovec *iov, int n)
{
	assert(n <= EXCHANGE_IOV);
	memcpy(f->iov + f->n, iov, (size_t)n * sizeof(*iov));
	f->n += n;
}

/* Body bytes in the framing of the answer. False: more than was announced. */
static bool
frame_body(struct frame *f, struct conn *c, const struct iovec *iov, int n)
{
	size_t len = total(iov, n);

	if (len == 0 || c->head_only)
		return true;
	if (c->chunked) {
		frame_add(f, f->size,
		    (size_t)snprintf(f->size, sizeof(f->size), "%zx\r\n", len));
		frame_pieces(f, iov, n);
		frame_add(f, "\r\n", 2);
		return true;
	}
	if (c->left >= 0 && len > (size_t)c->left)
		return false;
	if (c->left >= 0)
		c->left -= (int64_t)len;
	frame_pieces(f, iov, n);
	return true;
}

static size_t
send_frame(struct conn *c, const struct frame *f)
{
	size_t waiting;

	if (f->n > 0)
		conn_send(c, f->iov, f->n);
	waiting = conn_queued(c);
	if (waiting >= EXCHANGE_HIGH)
		c->want_writable = true;
	return waiting;
}

size_t
exchange_open(struct exchange *x, int status, const struct header *headers,
    size_t nheaders, int64_t content_length, const struct iovec *iov, int n)
{
	struct conn *c = conn_of(x);
	struct buf head = BUF_INIT(HEAD_MAX);
	struct frame f = { .n = 0 };
	size_t waiting = 0;

	make_head(&head, x, status, headers, nheaders, content_length);
	frame_add(&f, head.data, head.len);
	if (!head.failed && frame_body(&f, c, iov, n))
		waiting = send_frame(c, &f);
	else
		conn_fail(c);
	buf_fini(&head);
	return waiting;
}

size_t
exchange_write(struct exchange *x, const struct iovec *iov, int n)
{
	struct conn *c = conn_of(x);
	struct frame f = { .n = 0 };

	/* More than was announced would be taken for the next answer. */
	if (!frame_body(&f, c, iov, n)) {
		conn_fail(c);
		return 0;
	}
	return send_frame(c, &f);
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
	conn_release_body(conn_of(x));
	x->body = NULL;
	x->body_len = 0;
}

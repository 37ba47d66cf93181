/* SPDX-License-Identifier: MIT */
#include "worker/client/sendq.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

void
sendq_init(struct sendq *q, int fd, size_t max_bytes)
{
	*q = (struct sendq){ .fd = fd };
	buf_init(&q->buf, max_bytes);
}

void
sendq_fini(struct sendq *q)
{
	buf_fini(&q->buf);
	q->off = 0;
}

/* Bytes that went out now, 0 when the socket takes none; negative errno. */
static ssize_t
send_now(struct sendq *q, const struct iovec *iov, int n)
{
	struct msghdr msg = { .msg_iovlen = (size_t)n };
	size_t total = 0;
	ssize_t sent;

	memcpy(&msg.msg_iov, &iov, sizeof(iov));
	do
		sent = sendmsg(q->fd, &msg, MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	if (sent < 0 && errno == EAGAIN) {
		q->writable = false;
		return 0;
	}
	if (sent < 0)
		return -errno;
	for (int i = 0; i < n; i++)
		total += iov[i].iov_len;
	/* A short write has filled the socket, which tells when it has room. */
	q->writable = (size_t)sent == total;
	q->sent += (uint64_t)sent;
	return sent;
}

static void
queue_rest(struct sendq *q, const struct iovec *iov, int n, size_t skip)
{
	int i;

	if (q->off > 0) {
		buf_consume(&q->buf, q->off);
		q->off = 0;
	}
	for (i = 0; i < n; i++) {
		if (skip >= iov[i].iov_len) {
			skip -= iov[i].iov_len;
			continue;
		}
		buf_append(&q->buf, (const char *)iov[i].iov_base + skip,
		    iov[i].iov_len - skip);
		skip = 0;
	}
}

int
sendq_write(struct sendq *q, const struct iovec *iov, int n)
{
	ssize_t sent = 0;

	if (sendq_waiting(q) == 0 && q->writable)
		sent = send_now(q, iov, n);
	if (sent < 0)
		return (int)sent;
	queue_rest(q, iov, n, (size_t)sent);
	return q->buf.failed ? -ENOBUFS : 0;
}

int
sendq_flush(struct sendq *q)
{
	struct iovec iov;
	ssize_t sent;

	while (q->writable && sendq_waiting(q) > 0) {
		iov.iov_base = q->buf.data + q->off;
		iov.iov_len = sendq_waiting(q);
		sent = send_now(q, &iov, 1);
		if (sent < 0)
			return (int)sent;
		q->off += (size_t)sent;
	}
	if (sendq_waiting(q) == 0)
		sendq_fini(q);
	return 0;
}

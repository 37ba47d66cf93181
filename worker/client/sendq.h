/* SPDX-License-Identifier: MIT */
/*
 * Writing to a non-blocking socket: straight out as long as it takes
 * everything, and through a queue of copies, in order, when it does not. The
 * queue's memory is given back whenever it is empty.
 */
#ifndef FL_WORKER_CLIENT_SENDQ_H
#define FL_WORKER_CLIENT_SENDQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "common/attr.h"
#include "common/buf.h"

struct sendq {
	int fd;        /* borrowed */
	bool writable; /* the last write did not fill the socket; the owner
			* sets it again when the socket says so */
	uint64_t sent; /* bytes that went out since it was made */
	struct buf buf;
	size_t off; /* sent of buf */
};

/* Copies at most max_bytes. */
void sendq_init(struct sendq *q, int fd, size_t max_bytes);
void sendq_fini(struct sendq *q);

/* Bytes that wait for the socket. */
static inline size_t
sendq_waiting(const struct sendq *q)
{
	return q->buf.len - q->off;
}

/*
 * Writes iov behind what waits. 0; -ENOBUFS when more would wait than may; or
 * the negative errno of a broken socket. After an error a part is lost, and
 * nothing may follow it.
 */
int sendq_write(struct sendq *q, const struct iovec *iov, int n) MUST_CHECK;

/* Writes what waits, as far as the socket takes it. 0 or negative errno. */
int sendq_flush(struct sendq *q) MUST_CHECK;

#endif

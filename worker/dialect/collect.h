/* SPDX-License-Identifier: MIT */
/*
 * Makes one JSON answer of a Responses stream: the `response` object of its
 * terminal event, for a caller who did not ask for a stream of an upstream
 * that has nothing else. Some upstreams leave `output` empty there; it is
 * filled with the items as they were told done. Errors inside the stream are
 * dialect_stream.h's matter.
 */
#ifndef FL_WORKER_DIALECT_COLLECT_H
#define FL_WORKER_DIALECT_COLLECT_H

#include <stdbool.h>
#include <stddef.h>

#include "common/attr.h"
#include "common/buf.h"
#include "common/str.h"
#include "worker/http/sse.h"

enum { COLLECT_MAX = 32 * 1024 * 1024 }; /* of one answer */

enum collect_result {
	COLLECT_MORE,
	COLLECT_DONE,     /* the answer is whole; no more is read */
	COLLECT_TOO_LARGE /* beyond COLLECT_MAX, or out of memory */
};

struct collect {
	struct sse sse;
	struct buf data;  /* of the current frame */
	struct buf items; /* of the output, with commas between them */
	struct buf answer;
	bool done;
};

void collect_init(struct collect *c);
void collect_fini(struct collect *c);

enum collect_result
collect_feed(struct collect *c, const char *p, size_t len) MUST_CHECK;

/* The answer after COLLECT_DONE; valid until collect_fini(). */
struct span collect_answer(const struct collect *c);

#endif

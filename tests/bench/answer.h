/* SPDX-License-Identifier: MIT */
/*
 * Finds the end of an HTTP/1.1 answer while it arrives. Just enough for a load
 * generator that must notice a wrong answer and cost next to nothing: bodies
 * are counted, not kept.
 */
#ifndef FL_TESTS_BENCH_ANSWER_H
#define FL_TESTS_BENCH_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ANSWER_HEAD_MAX 8192

enum answer_state {
	ANSWER_HEAD,
	ANSWER_BODY,       /* left bytes, or up to the close */
	ANSWER_CHUNK_SIZE, /* the line that bears it */
	ANSWER_CHUNK_DATA, /* left bytes, their line end included */
	ANSWER_TRAILER,
	ANSWER_DONE,
};

struct answer {
	enum answer_state state;
	int status;
	bool closes; /* the connection serves no further request */
	uint64_t left;
	uint64_t body_bytes;
	size_t head_len;
	size_t line_len;
	char line[32];
	char head[ANSWER_HEAD_MAX]; /* NUL-terminated once it is whole */
};

/* Ready for the next answer. */
void answer_init(struct answer *a);

/*
 * Takes what has arrived. 0, or -EPROTO when it is no HTTP/1.1 answer or goes
 * on behind its end.
 */
int answer_feed(struct answer *a, const char *data, size_t len);

/* The peer has closed: true when that is the end of a whole answer. */
bool answer_ends_by_close(const struct answer *a);

#endif

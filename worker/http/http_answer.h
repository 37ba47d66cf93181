/* SPDX-License-Identifier: MIT */
/*
 * Reads the answers of an HTTP/1.1 server (RFC 9112): where a head ends, what
 * it says, how its body is framed, and the body itself, decoded in place. It
 * allocates nothing. What could be read in two ways is refused.
 */
#ifndef FL_WORKER_HTTP_HTTP_ANSWER_H
#define FL_WORKER_HTTP_HTTP_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/attr.h"
#include "worker/http/http_chunk.h"

enum http_answer_framing {
	HTTP_ANSWER_EMPTY,
	HTTP_ANSWER_LENGTH,
	HTTP_ANSWER_CHUNKED,
	HTTP_ANSWER_CLOSE /* the end of the connection is the end of it */
};

enum http_answer_result {
	HTTP_ANSWER_DONE,
	HTTP_ANSWER_MORE,
	HTTP_ANSWER_BAD /* error says why */
};

struct http_answer {
	int status;
	enum http_answer_framing framing;
	bool keep_alive;   /* the connection can be used again after it */
	size_t fields;     /* where the first field line begins */
	const char *error; /* a static phrase */
	uint64_t left;     /* of a body with a length */
	struct http_chunk chunk;
};

/*
 * Looks for the end of the head at the front of buf. DONE: *size is its
 * bytes, with the empty line. MORE: called again with more behind the same
 * bytes; *scanned, 0 at first, keeps what need not be read twice. BAD: this
 * is no answer of HTTP/1, whatever follows.
 */
enum http_answer_result http_answer_find(struct http_answer *a, const char *buf,
    size_t len, size_t *scanned, size_t *size) MUST_CHECK;

/*
 * Reads a whole head. Folded lines are unfolded in place (RFC 9112 5.2), so
 * that from `fields` on every line is one field, but for the empty line at the
 * end. no_body: the request was one whose answer has none (RFC 9110 9.3.2).
 * An answer below 200 is interim: it has no body, and another head follows.
 *
 * Refused with BAD: a status line or field line that is none, control
 * characters, lengths that differ (RFC 9112 6.3), transfer codings other than
 * chunked, and a switch to another protocol, which is never asked for. A
 * Content-Length beside Transfer-Encoding is ignored, and the connection not
 * used again (6.3).
 */
enum http_answer_result http_answer_read(
    struct http_answer *a, char *head, size_t size, bool no_body) MUST_CHECK;

/*
 * Takes len bytes of the body. *used is how many belong to the message, *made
 * how many of them, now at the front of buf, are its content. After DONE and
 * BAD it is not called again; with MORE all are used. A body that ends with
 * the connection is never DONE.
 */
enum http_answer_result http_answer_body(struct http_answer *a, char *buf,
    size_t len, size_t *used, size_t *made) MUST_CHECK;

#endif

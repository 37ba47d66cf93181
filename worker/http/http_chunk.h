/* SPDX-License-Identifier: MIT */
/*
 * A strict incremental decoder of the chunked transfer coding (RFC 9112 7.1).
 * It decodes in place and keeps no byte of its own. Chunk extensions are
 * refused in requests and skipped in answers; trailers are checked, bounded
 * and dropped.
 */
#ifndef FL_WORKER_HTTP_HTTP_CHUNK_H
#define FL_WORKER_HTTP_HTTP_CHUNK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/attr.h"

/* Bytes of all trailers, and of the extensions of one chunk. */
enum { HTTP_CHUNK_TRAILER_MAX = 4096 };

enum http_chunk_result {
	HTTP_CHUNK_DONE, /* the last chunk and its trailers are read */
	HTTP_CHUNK_MORE,
	HTTP_CHUNK_BAD,      /* 400, close */
	HTTP_CHUNK_TOO_LARGE /* 413, close: more than max_bytes in all */
};

struct http_chunk {
	uint64_t max_bytes;
	uint64_t total; /* announced so far, the chunk being read included */
	uint64_t left;  /* of the chunk being read */
	uint32_t extra_bytes; /* of the extension or the trailers being read */
	bool extensions;      /* skipped, with white space behind a size */
	uint8_t digits;       /* of the size being read */
	uint8_t state;
};

/* A request's; max_bytes bounds the decoded body. */
void http_chunk_init(struct http_chunk *c, uint64_t max_bytes);

/* An answer's, of any size: chunk extensions are skipped (RFC 9112 7.1.1). */
void http_chunk_init_answer(struct http_chunk *c);

/*
 * Decodes len bytes at buf. *used is how many were read, *made how many
 * decoded bytes now stand at the front of buf (made <= used). On
 * HTTP_CHUNK_MORE all are used; on HTTP_CHUNK_DONE what follows buf + used is
 * the next request. A body that will exceed max_bytes is refused as soon as
 * the size of a chunk says so. After HTTP_CHUNK_DONE, BAD or TOO_LARGE the
 * decoder is not called again.
 */
enum http_chunk_result http_chunk_decode(struct http_chunk *c, char *buf,
    size_t len, size_t *used, size_t *made) MUST_CHECK;

#endif

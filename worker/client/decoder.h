/* SPDX-License-Identifier: MIT */
/*
 * Content codings of request bodies, piece by piece: gzip and zstd. The
 * window of a zstd frame is bounded, so that a header cannot ask for
 * gigabytes.
 */
#ifndef FL_WORKER_CLIENT_DECODER_H
#define FL_WORKER_CLIENT_DECODER_H

#include <stdbool.h>
#include <stddef.h>

#include "common/attr.h"
#include "common/str.h"

struct decoder;

enum decoder_result {
	DECODER_MORE, /* wants input, or room for output */
	DECODER_END,  /* the coding is complete, if no other member follows */
	DECODER_BAD
};

enum { DECODER_UNKNOWN = 1 };

/*
 * A decoder for the value of Content-Encoding. 0 with *out (NULL for
 * identity); DECODER_UNKNOWN; -ENOMEM.
 */
int decoder_new(struct span coding, struct decoder **out) MUST_CHECK;
void decoder_free(struct decoder *d);

/*
 * Decodes from in to out; *used and *made say how much. What follows the end
 * is not used: it is another member of the same coding (RFC 1952 2.2, RFC
 * 8878 3), and the next call begins with it.
 */
enum decoder_result
decoder_run(struct decoder *d, const char *in, size_t in_len, size_t *used,
    char *out, size_t room, size_t *made) MUST_CHECK;

#endif

/* SPDX-License-Identifier: MIT */
/*
 * An incremental scanner of server-sent events: where frames end, the name
 * of the event, and the bytes of its data as slices of the caller's buffer.
 * It buffers nothing but the name, allocates nothing, reads no byte twice,
 * and does not interpret the data. Lines end in LF, CR or CRLF.
 */
#ifndef FL_WORKER_HTTP_SSE_H
#define FL_WORKER_HTTP_SSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/attr.h"
#include "common/str.h"

enum {
	SSE_NAME_MAX = 64, /* longer names of events are cut */
	SSE_FIELD_MAX = 8
};

enum sse_result {
	SSE_MORE, /* all bytes are read */
	SSE_DATA, /* a slice of the data of the current frame */
	SSE_FRAME /* the frame is complete; the next byte is outside of it */
};

struct sse {
	uint8_t state;
	uint8_t field;    /* what the current line is */
	uint8_t last_end; /* how the last complete line ended */
	uint8_t name_len;
	uint8_t field_len;
	bool in_frame; /* bytes of an unfinished frame have been read */
	bool has_data; /* a data line has begun in this frame */
	char name[SSE_NAME_MAX];
	char field_name[SSE_FIELD_MAX];
};

void sse_init(struct sse *s);

/*
 * Reads bytes up to the next result; *used is how many. On SSE_DATA, *data
 * is a slice of the value of a data line; the slices of a frame make up its
 * data, a LF standing for the break between two data lines. Slices are not
 * empty. On SSE_FRAME, sse_name() and s->has_data tell about the frame until
 * the next call. Frames of comments and of unknown fields are told as well;
 * blank lines between frames are not. Where frames end does not depend on how
 * the bytes came in pieces. *used may be 0: call until SSE_MORE.
 */
enum sse_result sse_next(struct sse *s, const char *buf, size_t len,
    size_t *used, struct span *data) MUST_CHECK;

/* The value of the last event line of the frame so far; empty if none. */
struct span sse_name(const struct sse *s);

/*
 * Whether bytes of our own may be inserted here: no frame has begun, and no
 * LF is owed to a CR in a stream of CRLF.
 */
bool sse_at_boundary(const struct sse *s);

#endif

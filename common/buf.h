/* SPDX-License-Identifier: MIT */
/*
 * A growable byte buffer with a hard maximum. Appending beyond the maximum
 * or out of memory marks it failed; appending to a failed buffer does
 * nothing, so that a writer checks once, at the end.
 */
#ifndef FL_COMMON_BUF_H
#define FL_COMMON_BUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/attr.h"

struct buf {
	char *data;  /* not terminated; see buf_string() */
	size_t len;  /* bytes in use */
	size_t cap;  /* bytes allocated */
	size_t max;  /* never allocated beyond */
	bool failed; /* something was not appended */
};

#define BUF_INIT(max_bytes)                                                    \
	{                                                                      \
		.max = (max_bytes)                                             \
	}

void buf_init(struct buf *b, size_t max_bytes);

/* Gives the memory back; the buffer is empty and usable again. */
void buf_fini(struct buf *b);

/* Forgets the content and the failure, keeps the memory. */
void buf_clear(struct buf *b);

/*
 * Makes room for n more bytes. 0; -E2BIG beyond the maximum; -ENOMEM. The
 * room starts at data + len.
 */
int buf_reserve(struct buf *b, size_t n) MUST_CHECK;

void buf_append(struct buf *b, const void *p, size_t n);
void buf_puts(struct buf *b, const char *s);
void buf_putc(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) PRINTF(2, 3);

/* Appends s as a JSON string with its quotes; invalid UTF-8 becomes U+FFFD. */
void buf_json_string(struct buf *b, const char *s, size_t n);

/* Removes n bytes from the front. */
void buf_consume(struct buf *b, size_t n);

/* The content with a terminating zero, owned by the buffer; "" on failure. */
const char *buf_string(struct buf *b);

#endif

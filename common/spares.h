/* SPDX-License-Identifier: MIT */
/*
 * Blocks of one size that come and go with every request. A few are kept for
 * the next, because malloc(3) of glibc takes its slow path beyond 1 KB. With
 * the address sanitizer none are kept, so that it sees what is used too late.
 */
#ifndef FL_COMMON_SPARES_H
#define FL_COMMON_SPARES_H

#include <stddef.h>

#include "common/attr.h"

enum { SPARES_MAX = 32 };

struct spares {
	size_t size; /* of a block */
	unsigned n;
	void *block[SPARES_MAX];
};

void spares_init(struct spares *s, size_t size);

/* Frees what is kept; empty and usable again. */
void spares_fini(struct spares *s);

/* A block for free(3) or spares_put(), its content undefined; NULL: none. */
void *spares_get(struct spares *s) MUST_CHECK;

/* Takes a block of this size back; NULL is fine. */
void spares_put(struct spares *s, void *block);

#endif

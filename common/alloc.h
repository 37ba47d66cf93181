/* SPDX-License-Identifier: MIT */
/*
 * Allocation for what is small and ours: it succeeds or the process ends.
 * Whatever a peer sizes is bounded first and allocated with malloc(3), whose
 * failure the caller handles.
 */
#ifndef FL_COMMON_ALLOC_H
#define FL_COMMON_ALLOC_H

#include <stdarg.h>
#include <stddef.h>

#include "common/attr.h"

void *xmalloc(size_t size);
void *xcalloc(size_t count, size_t size);

/* Resizes an array; count * size is checked for overflow. */
void *xreallocarray(void *p, size_t count, size_t size);

char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t max_len);
char *xasprintf(const char *fmt, ...) PRINTF(1, 2);

/*
 * Makes room for one more element in a growing array: *array holds *cap
 * elements of size bytes of which count are used.
 */
void xgrow(void *array, size_t *cap, size_t count, size_t size);

#endif

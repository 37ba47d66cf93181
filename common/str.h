/* SPDX-License-Identifier: MIT */
/* Strings as people write them in configuration files, and small helpers. */
#ifndef FL_COMMON_STR_H
#define FL_COMMON_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/attr.h"

/* A borrowed run of bytes. */
struct span {
	const char *p;
	size_t len;
};

#define SPAN(literal) ((struct span){ (literal), sizeof(literal) - 1 })

struct span span_of(const char *s);
bool span_equal(struct span a, struct span b);
bool span_equal_nocase(struct span a, struct span b);
bool span_starts(struct span s, struct span prefix);

/* Without the spaces and tabs at either end. */
struct span span_trim(struct span s);

/*
 * Copies into a buffer of size bytes, cut if it must be, always terminated.
 * Returns whether all of it fitted.
 */
bool str_copy(char *dst, size_t size, const char *src);

/* A whole decimal number within [min, max]. 0 or -EINVAL, -ERANGE. */
int
str_to_int(const char *s, int64_t min, int64_t max, int64_t *value) MUST_CHECK;

/*
 * "90s", "1h30m", "500ms", "1d"; a bare number means seconds. In
 * milliseconds. 0, -EINVAL or -ERANGE.
 */
int str_to_duration_ms(const char *s, int64_t *ms) MUST_CHECK;

/* The shortest text that reads back as the same duration: "1h30m", "0s". */
void str_from_duration_ms(int64_t ms, char *out, size_t size);

/* "64M", "1G", "64K", "512"; powers of 1024. 0, -EINVAL or -ERANGE. */
int str_to_size(const char *s, int64_t *bytes) MUST_CHECK;
void str_from_size(int64_t bytes, char *out, size_t size);

/* Lower-case hexadecimal; out holds 2 * len + 1 bytes. */
void str_hex(const void *bytes, size_t len, char *out);

/* The reverse: how many bytes it is, or -EINVAL for more than max or no hex. */
ssize_t str_unhex(const char *text, void *out, size_t max) MUST_CHECK;

/* Seconds since the epoch as RFC 3339 in UTC: "2026-01-02T03:04:05Z". */
void str_from_time(int64_t seconds, char *out, size_t size);

/* Whether it is a day as in "2026-01-02", month and day within their limits. */
bool str_is_day(const char *text);

#endif

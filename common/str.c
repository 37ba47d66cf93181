/* SPDX-License-Identifier: MIT */
#include "common/str.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

struct unit {
	const char *name;
	int64_t factor;
};

/* Largest first; "ms" must be tried before "m". */
static const struct unit durations[] = {
	{ "ms", 1 },
	{ "d", 86400000 },
	{ "h", 3600000 },
	{ "m", 60000 },
	{ "s", 1000 },
};

static const struct unit sizes[] = {
	{ "G", 1 << 30 },
	{ "M", 1 << 20 },
	{ "K", 1 << 10 },
};

struct span
span_of(const char *s)
{
	return (struct span){ s, strlen(s) };
}

bool
span_equal(struct span a, struct span b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, a.len) == 0);
}

bool
span_equal_nocase(struct span a, struct span b)
{
	return a.len == b.len &&
	       (a.len == 0 || strncasecmp(a.p, b.p, a.len) == 0);
}

bool
span_starts(struct span s, struct span prefix)
{
	return s.len >= prefix.len &&
	       (prefix.len == 0 || memcmp(s.p, prefix.p, prefix.len) == 0);
}

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t';
}

struct span
span_trim(struct span s)
{
	while (s.len > 0 && is_blank(s.p[0])) {
		s.p++;
		s.len--;
	}
	while (s.len > 0 && is_blank(s.p[s.len - 1]))
		s.len--;
	return s;
}

bool
str_copy(char *dst, size_t size, const char *src)
{
	size_t len = strlen(src);
	size_t n = len < size ? len : size - 1;

	memcpy(dst, src, n);
	dst[n] = '\0';
	return n == len;
}

/* Digits at *s, advancing it. 0, -EINVAL without a digit, -ERANGE. */
static int
read_digits(const char **s, int64_t *value)
{
	const char *p = *s;
	int64_t v = 0;

	if (!isdigit((unsigned char)*p))
		return -EINVAL;
	for (; isdigit((unsigned char)*p); p++) {
		if (__builtin_mul_overflow(v, 10, &v) ||
		    __builtin_add_overflow(v, *p - '0', &v))
			return -ERANGE;
	}
	*s = p;
	*value = v;
	return 0;
}

int
str_to_int(const char *s, int64_t min, int64_t max, int64_t *value)
{
	bool negative = *s == '-';
	int64_t v;
	int rc;

	if (negative)
		s++;
	rc = read_digits(&s, &v);
	if (rc < 0)
		return rc;
	if (*s != '\0')
		return -EINVAL;
	if (negative)
		v = -v;
	if (v < min || v > max)
		return -ERANGE;
	*value = v;
	return 0;
}

static const struct unit *
take_unit(const struct unit *units, size_t n, const char **s)
{
	size_t i, len;

	for (i = 0; i < n; i++) {
		len = strlen(units[i].name);
		if (strncmp(*s, units[i].name, len) == 0) {
			*s += len;
			return &units[i];
		}
	}
	return NULL;
}

int
str_to_duration_ms(const char *s, int64_t *ms)
{
	const struct unit *unit;
	int64_t total = 0;
	int64_t v;
	int rc;

	do {
		rc = read_digits(&s, &v);
		if (rc < 0)
			return rc;
		if (*s == '\0' && total == 0) {
			unit = &durations[ARRAY_LEN(durations) - 1];
		} else {
			unit = take_unit(durations, ARRAY_LEN(durations), &s);
			if (unit == NULL)
				return -EINVAL;
		}
		if (__builtin_mul_overflow(v, unit->factor, &v) ||
		    __builtin_add_overflow(total, v, &total))
			return -ERANGE;
	} while (*s != '\0');
	*ms = total;
	return 0;
}

void
str_from_duration_ms(int64_t ms, char *out, size_t size)
{
	static const struct unit order[] = {
		{ "h", 3600000 },
		{ "m", 60000 },
		{ "s", 1000 },
		{ "ms", 1 },
	};
	size_t i, n = 0;
	int64_t v;

	(void)str_copy(out, size, "0s");
	for (i = 0; i < ARRAY_LEN(order) && n < size; i++) {
		v = ms / order[i].factor;
		ms %= order[i].factor;
		if (v == 0)
			continue;
		n += (size_t)snprintf(
		    out + n, size - n, "%" PRId64 "%s", v, order[i].name);
	}
}

int
str_to_size(const char *s, int64_t *bytes)
{
	const struct unit *unit;
	int64_t v;
	int rc;

	rc = read_digits(&s, &v);
	if (rc < 0)
		return rc;
	if (*s != '\0') {
		unit = take_unit(sizes, ARRAY_LEN(sizes), &s);
		if (unit == NULL || *s != '\0')
			return -EINVAL;
		if (__builtin_mul_overflow(v, unit->factor, &v))
			return -ERANGE;
	}
	*bytes = v;
	return 0;
}

void
str_from_size(int64_t bytes, char *out, size_t size)
{
	size_t i;

	for (i = 0; i < ARRAY_LEN(sizes); i++) {
		if (bytes != 0 && bytes % sizes[i].factor == 0) {
			(void)snprintf(out, size, "%" PRId64 "%s",
			    bytes / sizes[i].factor, sizes[i].name);
			return;
		}
	}
	(void)snprintf(out, size, "%" PRId64, bytes);
}

void
str_hex(const void *bytes, size_t len, char *out)
{
	static const char digits[] = "0123456789abcdef";
	const unsigned char *p = bytes;
	size_t i;

	for (i = 0; i < len; i++) {
		out[2 * i] = digits[p[i] >> 4];
		out[2 * i + 1] = digits[p[i] & 15];
	}
	out[2 * len] = '\0';
}

static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

ssize_t
str_unhex(const char *text, void *out, size_t max)
{
	size_t len = strlen(text), i;
	unsigned char *p = out;
	int high, low;

	if (len % 2 != 0 || len / 2 > max)
		return -EINVAL;
	for (i = 0; i < len / 2; i++) {
		high = hex_value(text[2 * i]);
		low = hex_value(text[2 * i + 1]);
		if (high < 0 || low < 0)
			return -EINVAL;
		p[i] = (unsigned char)(high << 4 | low);
	}
	return (ssize_t)(len / 2);
}

void
str_from_time(int64_t seconds, char *out, size_t size)
{
	time_t t = (time_t)seconds;
	struct tm tm;

	if (gmtime_r(&t, &tm) == NULL ||
	    strftime(out, size, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		out[0] = '\0';
}

bool
str_is_day(const char *text)
{
	struct tm tm = { 0 };
	const char *end;

	if (strspn(text, "0123456789-") != strlen("2026-01-02"))
		return false;
	end = strptime(text, "%Y-%m-%d", &tm);
	return end == text + strlen("2026-01-02") && *end == '\0';
}

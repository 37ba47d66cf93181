/* SPDX-License-Identifier: MIT */
#include "worker/relay/retry_after.h"

#include <stdbool.h>
#include <string.h>
#include <time.h>

enum { DATE_MAX = 40 };

/* The wanted form first; a recipient must accept the other two. */
static const char *const date_forms[] = {
	"%a, %d %b %Y %H:%M:%S GMT",
	"%A, %d-%b-%y %H:%M:%S GMT",
	"%a %b %e %H:%M:%S %Y",
};

int
http_date_read(struct span text, int64_t *at_s)
{
	char copy[DATE_MAX];

	if (text.len == 0 || text.len >= sizeof(copy) ||
	    memchr(text.p, '\0', text.len) != NULL)
		return HTTP_DATE_BAD;
	memcpy(copy, text.p, text.len);
	copy[text.len] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(date_forms); i++) {
		struct tm tm = { 0 };
		const char *end = strptime(copy, date_forms[i], &tm);

		if (end == NULL || *end != '\0')
			continue;
		*at_s = timegm(&tm);
		return 0;
	}
	return HTTP_DATE_BAD;
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/*
 * A decimal number, with a fraction or without, times unit, rounded up;
 * RETRY_AFTER_NONE for anything else. Beyond max it is max.
 */
static int64_t
read_number(struct span text, int64_t unit, int64_t max)
{
	int64_t value = 0, part = unit;
	bool rest = false;
	size_t i = 0;

	if (text.len == 0 || !is_digit(text.p[0]))
		return RETRY_AFTER_NONE;
	for (; i < text.len && is_digit(text.p[i]); i++)
		if (value <= max)
			value = value * 10 + (text.p[i] - '0') * unit;
	if (i < text.len && text.p[i] == '.')
		i++;
	for (; i < text.len && is_digit(text.p[i]); i++) {
		part /= 10;
		value += (text.p[i] - '0') * part;
		rest |= part == 0 && text.p[i] != '0';
	}
	if (i < text.len)
		return RETRY_AFTER_NONE;
	value += rest;
	return value < max ? value : max;
}

int64_t
retry_after_until(int64_t at_s, int64_t now_s, int64_t max_ms)
{
	if (at_s <= now_s)
		return RETRY_AFTER_NONE;
	if (at_s - now_s > max_ms / 1000)
		return max_ms;
	return (at_s - now_s) * 1000;
}

static int64_t
read_seconds_or_date(
    const struct retry_after_fields *f, int64_t now_s, int64_t max_ms)
{
	int64_t ms = read_number(f->retry_after, 1000, max_ms);
	int64_t at_s, base_s;

	if (ms != RETRY_AFTER_NONE ||
	    http_date_read(f->retry_after, &at_s) != 0)
		return ms;
	if (http_date_read(f->date, &base_s) != 0)
		base_s = now_s;
	return retry_after_until(at_s, base_s, max_ms);
}

int64_t
retry_after_read(
    const struct retry_after_fields *f, int64_t now_s, int64_t max_ms)
{
	int64_t ms = read_number(f->retry_after_ms, 1, max_ms);

	return ms != RETRY_AFTER_NONE ? ms
				      : read_seconds_or_date(f, now_s, max_ms);
}

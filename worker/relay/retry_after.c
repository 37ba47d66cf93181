/* SPDX-License-Identifier: MIT */
#include "worker/relay/retry_after.h"

#include <stdbool.h>
#include <string.h>
#include <time.h>

#include "worker/dialect/delay.h"

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

/* ---- limits that providers tell of in headers */

/* Windows of Anthropic's subscriptions; a time of Unix each. */
static const struct window {
	const char *status, *reset;
	bool account; /* closed, it closes the account for every model */
} windows[] = {
	{ "anthropic-ratelimit-unified-5h-status",
	    "anthropic-ratelimit-unified-5h-reset", true },
	{ "anthropic-ratelimit-unified-7d-status",
	    "anthropic-ratelimit-unified-7d-reset", true },
	{ "anthropic-ratelimit-unified-7d_oi-status",
	    "anthropic-ratelimit-unified-7d_oi-reset", false },
};

/* The sum of them, which does not say of which. */
static const struct window all_windows = { "anthropic-ratelimit-unified-status",
	"anthropic-ratelimit-unified-reset", true };

/* How much is left of a limit, and when it is whole again. */
static const struct {
	const char *remaining, *reset;
} limits[] = {
	{ "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests" },
	{ "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens" },
	{ "x-ratelimit-remaining-requests-day",
	    "x-ratelimit-reset-requests-day" },
	{ "x-ratelimit-remaining-tokens-minute",
	    "x-ratelimit-reset-tokens-minute" },
	{ "x-ratelimit-remaining", "x-ratelimit-reset" },
};

/* Numbers from here on are times of Unix, in seconds or milliseconds. */
static const int64_t epoch_s = 1000000000;
static const int64_t epoch_ms = epoch_s * 1000;

static int64_t
later(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static int64_t
base_of(const struct retry_source *s)
{
	int64_t base_s;

	return http_date_read(s->header(s->ctx, "date"), &base_s) == 0
		   ? base_s
		   : s->now_s;
}

/* A delay, or a time of Unix. */
static int64_t
read_reset(const struct retry_source *s, struct span text, int64_t base_s)
{
	int64_t ms = delay_read(text);

	if (ms >= epoch_ms * 1000)
		return retry_after_until(ms / 1000000, base_s, s->max_ms);
	if (ms >= epoch_ms)
		return retry_after_until(ms / 1000, base_s, s->max_ms);
	return ms < s->max_ms ? ms : s->max_ms;
}

static bool
is_closed(const struct retry_source *s, const struct window *w)
{
	return span_equal_nocase(
	    s->header(s->ctx, w->status), SPAN("rejected"));
}

static void
take_window(const struct retry_source *s, const struct window *w,
    int64_t base_s, struct retry_hint *hint)
{
	int64_t ms = read_reset(s, s->header(s->ctx, w->reset), base_s);

	hint->ms = later(hint->ms, ms);
	hint->window |= ms > 0;
	hint->account |= w->account;
}

/*
 * The sum is closed with any of its parts; of the account it tells only where
 * no part that is a model's own explains it.
 */
static void
take_windows(
    const struct retry_source *s, int64_t base_s, struct retry_hint *hint)
{
	struct window sum = all_windows;

	for (size_t i = 0; i < ARRAY_LEN(windows); i++) {
		if (!is_closed(s, &windows[i]))
			continue;
		take_window(s, &windows[i], base_s, hint);
		sum.account = false;
	}
	if (is_closed(s, &sum))
		take_window(s, &sum, base_s, hint);
}

static int64_t
used_up(const struct retry_source *s, int64_t base_s)
{
	int64_t ms = RETRY_AFTER_NONE;

	for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
		struct span left = s->header(s->ctx, limits[i].remaining);

		if (left.len == 0 || delay_read(left) <= 0)
			ms = later(ms,
			    read_reset(
				s, s->header(s->ctx, limits[i].reset), base_s));
	}
	return ms;
}

static int64_t
of_body(const struct retry_source *s, int64_t base_s)
{
	if (s->delay_ms >= 0)
		return s->delay_ms < s->max_ms ? s->delay_ms : s->max_ms;
	if (s->resets_at_s >= 0)
		return retry_after_until(s->resets_at_s, base_s, s->max_ms);
	return RETRY_AFTER_NONE;
}

struct retry_hint
retry_hint_read(const struct retry_source *s)
{
	int64_t base_s = base_of(s);
	struct retry_after_fields fields = {
		.retry_after = s->header(s->ctx, "retry-after"),
		.retry_after_ms = s->header(s->ctx, "retry-after-ms"),
		.date = s->header(s->ctx, "date"),
	};
	struct retry_hint hint = {
		.ms = retry_after_read(&fields, s->now_s, s->max_ms),
	};

	take_windows(s, base_s, &hint);
	if (hint.ms == RETRY_AFTER_NONE)
		hint.ms = used_up(s, base_s);
	if (hint.ms == RETRY_AFTER_NONE)
		hint.ms = of_body(s, base_s);
	return hint;
}
